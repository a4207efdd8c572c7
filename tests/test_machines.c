/* The demo model says the same, bit for bit, on every machine: its logits in the two modes that promise it and the
   session that is saved then, hashed, are the numbers written down here, with each instruction set that this processor
   has; so are the files that quantizing and converting a tiny model write. Also run for other processors, of either byte order, by
   tests/matrix/run.sh and tests/arm/run.sh. Needs no threads. Run from the repository's root folder. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

static const struct {
    const char *what;
    awq_mode mode;
    int rtn_bits, kv_bits, head_bits;
    uint64_t hash, saved;
} cases[] = {
    {"deterministic, 4 bits", AWQ_MODE_DETERMINISTIC, 4, 0, 0, 0x70d911d41c4d4e6full, 0xd37ae2837260bb6full},
    {"deterministic, 4 bits, 8-bit cache and head", AWQ_MODE_DETERMINISTIC, 4, 8, 8, 0x73249c97f95f0f3aull,
     0x4c34d9b21d4349c9ull},
    {"deterministic, 3 bits", AWQ_MODE_DETERMINISTIC, 3, 0, 0, 0x2e9933ee5617f262ull, 0x4e48182226f36422ull},
    {"exact, 4 bits", AWQ_MODE_EXACT, 4, 0, 0, 0x5e21e1073bc0e788ull, 0x79f13414aa13c16cull},
    {"exact, as stored", AWQ_MODE_EXACT, 0, 0, 0, 0xd92b21932c7167eeull, 0xd932b90c2ad93efeull},
};

enum { TOKENS = 48, PROMPT = 37 }; /* a prompt of several rows, then one at a time */

/* FNV-1a of the bytes of n floats, lowest first */
static uint64_t hash_floats(uint64_t h, const float *x, int64_t n)
{
    int64_t i;
    int k;
    for (i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], 4);
        for (k = 0; k < 4; k++) h = (h ^ (u >> 8 * k & 255)) * 0x100000001b3ull;
    }
    return h;
}

static int says(awq_isa isa, size_t which, uint64_t *hash, uint64_t *saved)
{
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_model_desc d;
    awq_feed_desc fd;
    awq_session *s = NULL;
    int32_t ids[TOKENS];
    float *logits;
    char *state = NULL;
    size_t bytes = 0;
    int64_t V;
    int i, ok = 0;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    memset(&fd, 0, sizeof fd);
    ctx.isa = isa;
    d.mode = cases[which].mode;
    d.rtn_bits = cases[which].rtn_bits;
    d.kv_bits = cases[which].kv_bits;
    d.head_bits = cases[which].head_bits;
    if (awq_model_load(&ctx, "tools/demo/model", &d, &m)) {
        printf("    %s\n", ctx.err.text);
        return 0;
    }
    V = awq_model_config(m)->vocab_size;
    logits = (float *)malloc((size_t)(TOKENS * V) * sizeof(float));
    for (i = 0; i < TOKENS; i++) ids[i] = (int32_t)((i * 37 + i * i * 11 + 5) % V);
    if (logits && !open_session(&ctx, m, TOKENS, &s)) {
        fd.all_logits = logits;
        ok = !awq_session_feed(&ctx, s, ids, PROMPT, &fd, NULL);
        for (i = PROMPT; ok && i < TOKENS; i++) ok = !awq_session_feed(&ctx, s, ids + i, 1, NULL, logits + i * V);
    }
    if (ok) {
        state = (char *)malloc(bytes = awq_session_bytes(s));
        ok = state && !awq_session_save(&ctx, s, state, bytes);
    }
    if (!ok) printf("    %s\n", ctx.err.text);
    *saved = awq__fnv(AWQ__FNV, state, ok ? bytes : 0);
    free(state);
    *hash = hash_floats(0xcbf29ce484222325ull, logits, ok ? TOKENS * V : 0);
    if (s) close_session(&ctx, s);
    free(logits);
    awq_model_free(&ctx, m);
    return ok;
}

static void test_same_bits(void)
{
    size_t which;
    int isa;
    for (isa = AWQ_ISA_SCALAR; isa <= AWQ_ISA_NEON_I8MM; isa++) {
        awq_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        ctx.isa = (awq_isa)isa;
        if (awq__isa(&ctx) != (awq_isa)isa) continue; /* not here */
        for (which = 0; which < sizeof cases / sizeof cases[0]; which++) {
            uint64_t hash = 0, saved = 0;
            CHECK(says((awq_isa)isa, which, &hash, &saved));
            CHECK_MSG(hash == cases[which].hash, "%s, %s: hash 0x%08lx%08lx", awq_isa_name((awq_isa)isa),
                      cases[which].what, (unsigned long)(hash >> 32), (unsigned long)(hash & 0xffffffffu));
            CHECK_MSG(saved == cases[which].saved, "%s, %s: saved session 0x%08lx%08lx", awq_isa_name((awq_isa)isa),
                      cases[which].what, (unsigned long)(saved >> 32), (unsigned long)(saved & 0xffffffffu));
        }
        printf("    %s\n", awq_isa_name((awq_isa)isa));
    }
}

/* --- files */
#define DIR "build/test_machines"

static uint64_t file_hash(awq_ctx *ctx, uint64_t h, const char *folder, const char *name)
{
    char path[200], *data = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK_MSG(!awq__file_load(ctx, path, (size_t)1 << 28, &data, &n), "%s", ctx->err.text);
    h = awq__fnv(h, data, n);
    awq__free(ctx, data);
    return h;
}

static void remove_folder(const char *folder)
{
    static const char *const names[] = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json", "awq_report.json", "progress.jsonl",
                                        "model.safetensors.part", ""};
    char path[200];
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        awq__os_remove(NULL, path);
    }
}

static void check_files(awq_ctx *ctx, const char *what, const char *folder, uint64_t hash)
{
    uint64_t h = file_hash(ctx, file_hash(ctx, AWQ__FNV, folder, "config.json"), folder, "model.safetensors");
    CHECK_MSG(h == hash, "%s: files 0x%08lx%08lx", what, (unsigned long)(h >> 32), (unsigned long)(h & 0xffffffffu));
}

static void same_files(awq_isa isa)
{
    static const struct {
        const char *what;
        awq_layout layout;
        int head_bits;
        awq_dtype dense;
        uint64_t hash;
    } to[] = {{"native", AWQ_LAYOUT_NATIVE, 8, AWQ_DTYPE_NONE, 0xad9881b524fe38bcull},
              {"compressed-tensors", AWQ_LAYOUT_COMPRESSED_TENSORS, 0, AWQ_DTYPE_NONE, 0x33d97ab88883fcb4ull},
              {"gptq", AWQ_LAYOUT_GPTQ_V2, 0, AWQ_DTYPE_NONE, 0x04a82b509e99784full},
              {"gemv_fast", AWQ_LAYOUT_GEMV_FAST, 0, AWQ_DTYPE_NONE, 0xad5433493a0e925bull},
              {"bf16", AWQ_LAYOUT_NONE, 0, AWQ_BF16, 0x70ca0fd2d5c48d77ull}};
    enum { BLOCKS = 8, LENGTH = 32 };
    int32_t ids[BLOCKS * LENGTH];
    int64_t start[BLOCKS + 1];
    awq_calibration cal;
    awq_quantize_desc d;
    awq_ctx ctx;
    tiny t;
    size_t i;
    tiny_llama(&t);
    ctx = tiny_ctx(&t);
    memset(&ctx, 0, sizeof ctx);
    ctx.isa = isa;
    memset(&cal, 0, sizeof cal);
    memset(&d, 0, sizeof d);
    for (i = 0; i < BLOCKS * LENGTH; i++) ids[i] = (int32_t)((i * 37 + i * i * 11 + 5) % 96);
    for (i = 0; i <= BLOCKS; i++) start[i] = (int64_t)i * LENGTH;
    awq__os_make_folder(NULL, "build");
    awq__os_make_folder(NULL, DIR);
    remove_folder(DIR "/gemm");
    remove_folder(DIR "/gemm.partial");
    remove_folder(DIR "/to");
    remove_folder(DIR "/to.partial");
    awq__os_make_folder(NULL, DIR "/source");
    CHECK(!awq__file_save(&ctx, DIR "/source/config.json", t.files[0].data, t.files[0].bytes));
    CHECK(!awq__file_save(&ctx, DIR "/source/model.safetensors", t.files[1].data, t.files[1].bytes));
    tiny_free(&t);
    cal.n_blocks = BLOCKS;
    cal.start = start;
    cal.ids = ids;
    d.source = DIR "/source";
    d.target = DIR "/gemm";
    d.calibration = &cal;
    d.mode = AWQ_MODE_EXACT;
    d.group_size = 32;
    CHECK_MSG(!awq_quantize_model(&ctx, &d, NULL), "%s", ctx.err.text);
    check_files(&ctx, "quantized", d.target, 0x63874e5f1b555b44ull);
    for (i = 0; i < sizeof to / sizeof to[0]; i++) {
        awq_convert_desc c;
        memset(&c, 0, sizeof c);
        c.source = d.target;
        c.target = DIR "/to";
        c.layout = to[i].layout;
        c.head_bits = to[i].head_bits;
        c.dequantize = to[i].dense;
        CHECK_MSG(!awq_convert(&ctx, &c), "%s: %s", to[i].what, ctx.err.text);
        check_files(&ctx, to[i].what, c.target, to[i].hash);
        remove_folder(c.target);
    }
    remove_folder(d.target);
    CHECK(ctx.memory_used == 0);
}

static void test_same_files(void)
{
    int isa;
    for (isa = AWQ_ISA_SCALAR; isa <= AWQ_ISA_NEON_I8MM; isa++) {
        awq_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        ctx.isa = (awq_isa)isa;
        if (awq__isa(&ctx) == (awq_isa)isa) same_files((awq_isa)isa);
    }
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_same_bits);
    RUN(test_same_files);
    return TEST_END();
}
