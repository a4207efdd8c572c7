/* The demo model says the same, bit for bit, on every machine: its logits in the two modes that promise it, hashed, are
   the numbers written down here, with each instruction set that this processor has. Also run for other processors by
   tests/matrix/run.sh and tests/arm/run.sh. Needs no threads. Run from the repository's root folder. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

static const struct {
    const char *what;
    awq_mode mode;
    int rtn_bits, kv_bits, head_bits;
    uint64_t hash;
} cases[] = {
    {"deterministic, 4 bits", AWQ_MODE_DETERMINISTIC, 4, 0, 0, 0x70d911d41c4d4e6full},
    {"deterministic, 4 bits, 8-bit cache and head", AWQ_MODE_DETERMINISTIC, 4, 8, 8, 0x73249c97f95f0f3aull},
    {"deterministic, 3 bits", AWQ_MODE_DETERMINISTIC, 3, 0, 0, 0x2e9933ee5617f262ull},
    {"exact, 4 bits", AWQ_MODE_EXACT, 4, 0, 0, 0x5e21e1073bc0e788ull},
    {"exact, as stored", AWQ_MODE_EXACT, 0, 0, 0, 0xd92b21932c7167eeull},
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

static int says(awq_isa isa, size_t which, uint64_t *hash)
{
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_model_desc d;
    awq_feed_desc fd;
    awq_session *s = NULL;
    int32_t ids[TOKENS];
    float *logits;
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
    if (!ok) printf("    %s\n", ctx.err.text);
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
            uint64_t hash = 0;
            CHECK(says((awq_isa)isa, which, &hash));
            CHECK_MSG(hash == cases[which].hash, "%s, %s: hash 0x%08lx%08lx", awq_isa_name((awq_isa)isa),
                      cases[which].what, (unsigned long)(hash >> 32), (unsigned long)(hash & 0xffffffffu));
        }
        printf("    %s\n", awq_isa_name((awq_isa)isa));
    }
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_same_bits);
    return TEST_END();
}
