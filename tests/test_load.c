/* Loading: gemm to tiles at once gives what the long way gives; layout native says what it was made from, bit for bit,
   in every mode, mapped or read; damaged files are refused; processes share mapped pages. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#  define _GNU_SOURCE
#endif
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"
#ifdef __linux__
#  include <sys/wait.h>
#endif

#define DIR "build/test_load"

static int no_sync(void *user, void *file) { return (void)user, (void)file, 0; } /* it takes most of the time */

static void remove_checkpoint(const char *folder)
{
    static const char *const names[] = {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"};
    char file[1024];
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(file, sizeof file, "%s/%s", folder, names[i]);
        awq__os_remove(NULL, file);
    }
    awq__os_remove(NULL, folder);
}

/* source to DIR/native */
static awq_status to_native(awq_ctx *ctx, const char *source, int head_bits)
{
    awq_convert_desc d;
    memset(&d, 0, sizeof d);
    d.source = source;
    d.target = DIR "/native";
    d.layout = AWQ_LAYOUT_NATIVE;
    d.head_bits = head_bits;
    remove_checkpoint(d.target);
    return awq_convert(ctx, &d);
}

/* logits [vocab] of the last of n tokens; place 0: no more, else what is checked of the model */
typedef struct loaded {
    float logits[4096];
    int64_t vocab;
    uint64_t hash;
    int mapped, owned; /* linears in place, and not */
} loaded;

static awq_status run(awq_ctx *ctx, const char *folder, awq_mode mode, int head_bits, loaded *out)
{
    static const int32_t ids[12] = {1, 5, 85, 0, 17, 33, 42, 42, 7, 80, 3, 61};
    awq_model_desc d;
    awq_model *m = NULL;
    awq_session *s = NULL;
    awq_status st;
    size_t used = ctx->memory_used;
    memset(out, 0, sizeof *out);
    memset(&d, 0, sizeof d);
    d.mode = mode;
    d.head_bits = head_bits;
    d.no_tokenizer = 1;
    st = awq_model_load(ctx, folder, &d, &m);
    if (!st) {
        int l, k;
        out->vocab = m->config.vocab_size;
        out->hash = awq_model_hash(m);
        CHECK(out->vocab <= 4096);
        for (l = 0; l < m->config.num_hidden_layers; l++)
            for (k = 0; k < AWQ_N_LINEARS; k++) {
                const awq_linear *x = &m->layers[l].linear[k];
                int inside = m->memory && (const uint8_t *)x->weight >= m->memory && (const uint8_t *)x->weight < m->slab.at;
                if (x->chunk) *(inside || x->owned[0] ? &out->owned : &out->mapped) += 1;
            }
        st = open_session(ctx, m, 20, &s);
    }
    if (!st) st = awq_session_feed(ctx, s, ids, 12, NULL, out->logits);
    close_session(ctx, s);
    awq_model_free(ctx, m);
    CHECK(ctx->memory_used == used);
    return st;
}

static int same_loaded(const loaded *a, const loaded *b)
{
    return a->vocab == b->vocab && a->hash == b->hash && !memcmp(a->logits, b->logits, sizeof a->logits);
}

/* --- gemm to tiles */
static void random_matrix(awq_qweight *w, uint64_t *seed)
{
    int64_t i, groups = w->in_features / w->group_size;
    for (i = 0; i < w->out_features * w->in_features; i++) w->codes[i] = (uint8_t)(awq__random(seed) & 15);
    for (i = 0; i < w->out_features * groups; i++) {
        w->zeros[i] = (uint8_t)(awq__random(seed) & 15);
        w->scales[i] = awq__f16_float(awq__float_f16(awq__random_unit(seed) - 0.5f));
    }
}

static void test_regroup(void)
{
    static const struct {
        int64_t out, in, group;
    } shapes[] = {{8, 16, 16}, {16, 128, 128}, {24, 64, 32}, {136, 384, 128}, {128, 256, 64}, {264, 240, 48},
                  {1096, 160, 80}, {40, 72, 24}, {2056, 128, 128}};
    static const awq_isa isas[] = {AWQ_ISA_SCALAR, AWQ_ISA_AVX2, AWQ_ISA_AVX512};
    static const awq_dtype types[] = {AWQ_F16, AWQ_BF16, AWQ_F32};
    uint64_t seed = 3;
    size_t i;
    int k, v, tried = 0;
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (v = 0; v < 9; v++) {
            awq_ctx ctx;
            awq_qweight w, rows;
            awq_packed p;
            awq_linear want;
            awq__regroup a;
            int64_t first = v < 3 || shapes[i].out < 24 ? 0 : 8 * (v % 3), c;
            if (isas[v % 3] > awq_best_isa()) continue;
            memset(&ctx, 0, sizeof ctx);
            ctx.isa = isas[v % 3];
            CHECK(awq_qweight_alloc(&ctx, shapes[i].out, shapes[i].in, 4, shapes[i].group, 0, &w) == AWQ_OK);
            random_matrix(&w, &seed);
            w.scale_dtype = types[v / 3];
            for (c = 0; v / 3 == 1 && c < w.out_features * (w.in_features / w.group_size); c++)
                w.scales[c] = awq__bf16_float(awq__float_bf16(w.scales[c]));
            CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_GEMM, &w, &p) == AWQ_OK);
            for (k = 0; k < p.n_tensors; k++) p.tensor[k].data = awq__alloc(&ctx, p.tensor[k].bytes, 1);
            CHECK_MSG(awq_pack(&ctx, &w, &p) == AWQ_OK, "%s", ctx.err.text);
            rows = w;
            rows.out_features -= first;
            rows.codes += first * w.in_features;
            rows.zeros += first * (w.in_features / w.group_size);
            rows.scales += first * (w.in_features / w.group_size);
            CHECK(awq_linear_prepare(&ctx, &rows, AWQ_MODE_DETERMINISTIC, 0, NULL, &want) == AWQ_OK && want.chunk);
            memset(&a, 0, sizeof a);
            a.t = awq__linear_tiling(&want);
            a.fn = awq__regroup_choose(&ctx);
            a.rows = w.out_features;
            a.first_row = first;
            a.parts = (a.t.blocks + AWQ__REGROUP_BLOCKS - 1) / AWQ__REGROUP_BLOCKS;
            a.zeros = (const uint32_t *)p.tensor[1].data;
            a.scales = p.tensor[2].data;
            a.scale_dtype = p.scale_dtype;
            a.codes = AWQ__NEW_RAW(&ctx, uint8_t, awq__linear_codes(&want));
            a.params = AWQ__NEW_RAW(&ctx, uint8_t, awq__linear_params(&want));
            memset(a.codes, 0xa5, awq__linear_codes(&want));
            memset(a.params, 0xa5, awq__linear_params(&want));
            for (c = 0; c < a.t.chunks; c += a.chunks) { /* in pieces of two chunks */
                a.words = (const uint8_t *)p.tensor[0].data + c * a.t.chunk * (w.out_features / 2);
                a.first_chunk = c;
                a.chunks = AWQ__MIN((int64_t)2, a.t.chunks - c);
                awq__run(&ctx, a.chunks * a.parts, awq__regroup_codes, &a);
            }
            awq__run(&ctx, a.t.blocks, awq__regroup_params, &a);
            CHECK_MSG(!memcmp(a.codes, want.weight, awq__linear_codes(&want)), "codes of shape %d, %d", (int)i, v);
            CHECK_MSG(!memcmp(a.params, want.params, awq__linear_params(&want)), "params of shape %d, %d", (int)i, v);
            CHECK(!a.bad);
            if (w.scale_dtype == AWQ_F32) ((uint32_t *)p.tensor[2].data)[w.out_features - 1] = 0x7fc00000;
            else ((uint16_t *)p.tensor[2].data)[w.out_features - 1] = 0x7fc0;
            awq__run(&ctx, a.t.blocks, awq__regroup_params, &a);
            CHECK(a.bad);
            tried++;
            awq__free(&ctx, a.codes);
            awq__free(&ctx, a.params);
            for (k = 0; k < p.n_tensors; k++) awq__free(&ctx, p.tensor[k].data);
            awq_linear_free(&ctx, &want);
            awq_qweight_free(&ctx, &w);
            CHECK(ctx.memory_used == 0);
        }
    printf("    %d matrices\n", tried);
}

/* --- native */
static void save_tiny(tiny *t, const char *folder)
{
    awq_ctx plain;
    char path[128];
    int i;
    memset(&plain, 0, sizeof plain);
    remove_checkpoint(folder);
    tiny_ctx(t);
    CHECK(awq__os_make_folder(NULL, folder) == 0);
    for (i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, t->files[i].path + 2);
        CHECK(awq__file_save(&plain, path, (const char *)t->files[i].data, t->files[i].bytes) == AWQ_OK);
    }
}

/* DIR/source and DIR/native say the same: mapped, read, in memory at an odd address */
static void compare(const char *source, const char *what)
{
    static loaded want, got;
    char *data[2];
    size_t bytes[2];
    int mode, v;
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    for (v = 0; v < 2; v++)
        CHECK(awq__file_load(&ctx, v ? DIR "/native/model.safetensors" : DIR "/native/config.json", (size_t)1 << 28, &data[v],
                             &bytes[v]) == AWQ_OK);
    for (mode = 0; mode < 3; mode++)
        for (v = 0; v < 8; v++) {
            awq_memory_file files[2];
            awq_memory_list list;
            char *odd = NULL;
            int bits = v & 1 ? 8 : 0;
            memset(&ctx, 0, sizeof ctx);
            if (v < 2) CHECK_MSG(run(&ctx, source, (awq_mode)mode, bits, &want) == AWQ_OK, "%s: %s", what, ctx.err.text);
            else CHECK(run(&ctx, source, (awq_mode)mode, bits, &want) == AWQ_OK);
            if (v / 2 == 1) ctx.files = *awq__fs(&ctx); /* a file system without map */
            if (v / 2 > 1) {
                files[0].path = DIR "/native/config.json", files[1].path = DIR "/native/model.safetensors";
                odd = (char *)malloc(bytes[1] + 128);
                files[1].data = odd + (64 - (uintptr_t)odd % 64) + (v / 2 == 3 ? 8 : 0);
                memcpy((char *)(uintptr_t)files[1].data, data[1], bytes[1]);
                files[0].data = data[0], files[0].bytes = bytes[0], files[1].bytes = bytes[1];
                list.files = files, list.count = 2;
                ctx.files = awq_memory_files(&list);
            }
            CHECK_MSG(run(&ctx, DIR "/native", (awq_mode)mode, bits, &got) == AWQ_OK, "%s: %s", what, ctx.err.text);
            CHECK_MSG(same_loaded(&want, &got), "%s, %s, %d: other logits or another hash", what,
                      awq_mode_name((awq_mode)mode), v);
            CHECK_MSG(mode == AWQ_MODE_EXACT ? !got.mapped && !got.owned : v / 2 == 0 || v / 2 == 2 ? got.mapped > 0 : !got.mapped,
                      "%s, %s, %d: %d mapped, %d not", what, awq_mode_name((awq_mode)mode), v, got.mapped, got.owned);
            free(odd);
        }
    memset(&ctx, 0, sizeof ctx);
    for (v = 0; v < 2; v++) awq__free(&ctx, data[v]);
}

static void test_native_tiny(void)
{
    static const struct {
        awq_layout layout;
        int bits, group, symmetric;
        awq_dtype scales;
        const char *config;
    } kinds[] = {
        {AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 32}"},
        {AWQ_LAYOUT_GEMV_FAST, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 32, \"version\": \"gemv_fast\"}"},
        {AWQ_LAYOUT_COMPRESSED_TENSORS, 4, 64, 1, AWQ_BF16, "{\"quant_method\": \"compressed-tensors\", \"format\": "
         "\"pack-quantized\", \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 4, \"group_size\": 64}}}}"},
        {AWQ_LAYOUT_COMPRESSED_TENSORS, 3, 32, 1, AWQ_F16, "{\"quant_method\": \"compressed-tensors\", \"format\": "
         "\"pack-quantized\", \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 3, \"group_size\": 32}}}}"},
        {AWQ_LAYOUT_COMPRESSED_TENSORS, 8, -1, 0, AWQ_F32, "{\"quant_method\": \"compressed-tensors\", \"format\": "
         "\"pack-quantized\", \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 8, \"strategy\": \"channel\", "
         "\"symmetric\": false}}}}"}};
    size_t i;
    int tied;
    for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (tied = 0; tied < 2; tied++) {
            awq_ctx ctx;
            tiny t;
            memset(&ctx, 0, sizeof ctx);
            ctx.files = *awq__fs(&ctx);
            ctx.files.sync = no_sync;
            tiny_llama(&t);
            tiny_set(&t, "quantization_config", kinds[i].config);
            if (tied) tiny_set(&t, "tie_word_embeddings", "true"), tiny_remove(&t, "lm_head.weight");
            CHECK(tiny_quantize(&t, &ctx, kinds[i].layout, kinds[i].bits, kinds[i].group, kinds[i].symmetric, kinds[i].scales,
                                NULL) == AWQ_OK);
            save_tiny(&t, DIR "/source");
            CHECK_MSG(to_native(&ctx, DIR "/source", i % 2 ? 8 : 0) == AWQ_OK, "%s", ctx.err.text);
            compare(DIR "/source", kinds[i].config);
            tiny_free(&t);
            CHECK(ctx.memory_used == 0);
        }
}

/* every quantized model of the fixtures */
static void test_native_families(void)
{
    static const char *const names[] = {"llama_awq_gemm", "llama_awq_gemv", "llama_awq_gemv_fast", "llama_ct_pack_asym_fp16",
                                        "llama_ct_pack_sym_bf16", "mixtral_awq_gemm", "qwen2_awq_gemm", "qwen3_awq_gemm"};
    char path[1024];
    size_t i;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        awq_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        ctx.files = *awq__fs(&ctx);
        ctx.files.sync = no_sync;
        snprintf(path, sizeof path, "%s/fixtures/models/%s", TEST_DATA(), names[i]);
        CHECK_MSG(to_native(&ctx, path, i % 2 ? 8 : 0) == AWQ_OK, "%s", ctx.err.text);
        compare(path, names[i]);
        CHECK(ctx.memory_used == 0);
    }
}

/* a native tiny llama as bytes in memory, to be damaged */
static void native_bytes(awq_memory_file files[2])
{
    awq_ctx ctx;
    tiny t;
    int i;
    size_t bytes = 0;
    memset(&ctx, 0, sizeof ctx);
    tiny_llama(&t);
    tiny_set(&t, "quantization_config", "{\"quant_method\": \"awq\", \"group_size\": 32}");
    CHECK(tiny_quantize(&t, &ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL) == AWQ_OK);
    save_tiny(&t, DIR "/source");
    CHECK_MSG(to_native(&ctx, DIR "/source", 8) == AWQ_OK, "%s", ctx.err.text);
    tiny_free(&t);
    files[0].path = DIR "/native/config.json";
    files[1].path = DIR "/native/model.safetensors";
    for (i = 0; i < 2; i++) {
        char *data = NULL;
        CHECK(awq__file_load(&ctx, files[i].path, (size_t)1 << 28, &data, &bytes) == AWQ_OK);
        files[i].data = memcpy(malloc(bytes), data, bytes);
        files[i].bytes = bytes;
        awq__free(&ctx, data);
    }
    CHECK(ctx.memory_used == 0);
}

static void test_damaged(void)
{
    static const char *const infos[] = {"model.layers.0.self_attn.k_proj.weight_info", "lm_head.weight_info"};
    awq_memory_file files[2];
    awq_memory_list list;
    awq_tensors *ts = NULL;
    const awq_tensor *t;
    awq_ctx ctx;
    static loaded got;
    char *st;
    int64_t info[8], keep[8];
    int i, k;
    native_bytes(files);
    list.files = files, list.count = 2;
    memset(&ctx, 0, sizeof ctx);
    ctx.files = awq_memory_files(&list);
    st = (char *)(uintptr_t)files[1].data;
    CHECK_MSG(run(&ctx, DIR "/native", AWQ_MODE_FAST, 8, &got) == AWQ_OK, "%s", ctx.err.text);

    for (i = 0; i < (int)files[1].bytes - 20 && memcmp(st + i, "\"awq_native\":\"1\"", 16); i++) {}
    st[i + 14] = '2';
    CHECK(run(&ctx, DIR "/native", AWQ_MODE_FAST, 0, &got) == AWQ_E_UNSUPPORTED);
    CHECK_MSG(strstr(ctx.err.text, "awq_native in __metadata__ is \"2\", version 1 of layout native can be read") != NULL, "%s",
              ctx.err.text);
    st[i + 14] = '1', st[i + 1] = 'A'; /* not there */
    CHECK(run(&ctx, DIR "/native", AWQ_MODE_FAST, 0, &got) == AWQ_E_UNSUPPORTED && strstr(ctx.err.text, "is \"\""));
    st[i + 1] = 'a';

    CHECK(awq_tensors_open(&ctx, DIR "/native", &ts) == AWQ_OK);
    CHECK(!strcmp(awq_tensors_metadata(ts, 0, "format"), "pt") && !strcmp(awq_tensors_metadata(ts, 0, "awq_native"), "1"));
    CHECK(!awq_tensors_metadata(ts, 0, "other") && !awq_tensors_metadata(ts, 1, "format")
          && !awq_tensors_metadata(ts, -1, "format"));
    for (i = 0; i < awq_tensors_count(ts); i++) {
        t = awq_tensors_at(ts, i);
        CHECK_MSG(t->bytes % 64 || t->offset % 64 == 0, "%s begins at byte %llu", t->name, (unsigned long long)t->offset);
    }
    for (i = 0; i < 2; i++) {
        static const struct {
            int at, add;
            const char *says;
        } wrong[] = {{AWQ__INFO_VERSION, 1, "damaged"}, {AWQ__INFO_OUT, 16, "damaged"}, {AWQ__INFO_IN, -1, "damaged"},
                     {AWQ__INFO_GROUP, 32, "weight_params\" is U8"}, {AWQ__INFO_GROUP, -1, "damaged"},
                     {AWQ__INFO_GROUP, -32, "damaged"}, {AWQ__INFO_KIND, 1 << 20, "damaged"},
                     {AWQ__INFO_KIND, 1 << 16, "weight_params\" is U8"}, {AWQ__INFO_KIND, 16, "damaged"},
                     {AWQ__INFO_KIND, -8, "damaged"}, {AWQ__INFO_KIND, 1, NULL}};
        t = awq_tensors_find(ts, infos[i]);
        CHECK(t != NULL);
        if (!t) continue;
        memcpy(keep, st + t->offset, sizeof keep);
        for (k = 0; k < (int)(sizeof wrong / sizeof wrong[0]); k++) {
            memcpy(info, keep, sizeof info);
            awq__little(info, AWQ__N_INFO, 8);
            info[wrong[k].at] += wrong[k].add;
            awq__little(info, AWQ__N_INFO, 8);
            memcpy(st + t->offset, info, sizeof info);
            CHECK_MSG(run(&ctx, DIR "/native", AWQ_MODE_FAST, 8, &got) == AWQ_E_FORMAT
                      && (i || strstr(ctx.err.text, wrong[k].says ? wrong[k].says : "weight_tiles\" is U8")),
                      "%s, %d: %s", infos[i], k, ctx.err.text);
        }
        memcpy(st + t->offset, keep, sizeof keep);
    }
    /* one bit of the codes: found where they are unpacked */
    t = awq_tensors_find(ts, "model.layers.0.self_attn.k_proj.weight_tiles");
    if (t) {
        st[t->offset + 5] ^= 4;
        CHECK(run(&ctx, DIR "/native", AWQ_MODE_EXACT, 0, &got) == AWQ_E_FORMAT);
        CHECK_MSG(strstr(ctx.err.text, "k_proj: layout native: weight_info does not agree") != NULL, "%s", ctx.err.text);
        st[t->offset + 5] ^= 4;
    }
    t = awq_tensors_find(ts, "model.layers.0.self_attn.k_proj.weight_params");
    if (t) {
        st[t->offset + 17] ^= 0x7c; /* a scale that is Inf or NaN, or its zero point too large */
        CHECK(run(&ctx, DIR "/native", AWQ_MODE_EXACT, 0, &got) != AWQ_OK);
        st[t->offset + 17] ^= 0x7c;
    }
    awq_tensors_close(&ctx, ts);
    CHECK_MSG(run(&ctx, DIR "/native", AWQ_MODE_EXACT, 8, &got) == AWQ_OK, "%s", ctx.err.text);
    files[1].bytes--;
    CHECK(run(&ctx, DIR "/native", AWQ_MODE_FAST, 8, &got) == AWQ_E_FORMAT);
    free((void *)(uintptr_t)files[0].data);
    free(st);
    CHECK(ctx.memory_used == 0);
}

/* every allocation and every read of a load fails once */
static void test_failures(void)
{
    awq_memory_file files[2];
    int k;
    native_bytes(files);
    free((void *)(uintptr_t)files[0].data);
    free((void *)(uintptr_t)files[1].data);
    for (k = 0; k < 6; k++) {
        static loaded got;
        const char *folder = k % 2 ? DIR "/native" : DIR "/source";
        awq_mode mode = k / 2 ? AWQ_MODE_EXACT : AWQ_MODE_FAST;
        long at = 0;
        int reached = 1, closed = 0; /* what was read may be closed badly: config.json, a probe, the weights */
        for (; reached; at++) {
            fail_alloc f = {0, 0, 0};
            fail_files ff = {-1, 0};
            awq_ctx ctx;
            awq_status st;
            memset(&ctx, 0, sizeof ctx);
            if (k / 2 < 2) f.fail_at = at, ctx.allocator = fail_allocator(&f);
            else ff.fail_at = at, ctx.files = fail_file_system(&ff);
            st = run(&ctx, folder, mode, 8, &got);
            reached = k / 2 < 2 ? f.calls > at : ff.calls > at;
            if (k / 2 < 2) CHECK_MSG(st == (reached ? AWQ_E_MEMORY : AWQ_OK), "%d, %ld: %s", k, at, ctx.err.text);
            else CHECK_MSG(st == AWQ_E_IO || (!st && (!reached || ++closed <= 3)), "%d, %ld: %s", k, at, ctx.err.text);
            CHECK(f.live == 0 && ctx.memory_used == 0);
        }
        CHECK(at > 20);
    }
}

/* several threads: reading goes on beside repacking; the same bits */
static void test_threads(void)
{
    static loaded want, got;
    int mode, n;
    for (mode = 0; mode < 3; mode++)
        for (n = 1; n < 6; n += 2) {
            awq_ctx ctx;
            awq_pool *pool = NULL;
            memset(&ctx, 0, sizeof ctx);
            if (n == 1) CHECK_MSG(run(&ctx, DIR "/source", (awq_mode)mode, 8, &want) == AWQ_OK, "%s", ctx.err.text);
            CHECK(awq_pool_create(&ctx, n, &pool) == AWQ_OK);
            ctx.jobs = awq_pool_jobs(pool);
            CHECK(run(&ctx, DIR "/source", (awq_mode)mode, 8, &got) == AWQ_OK && same_loaded(&want, &got));
            CHECK(run(&ctx, DIR "/native", (awq_mode)mode, 8, &got) == AWQ_OK && same_loaded(&want, &got));
            memset(&ctx.jobs, 0, sizeof ctx.jobs);
            awq_pool_free(&ctx, pool);
            CHECK(ctx.memory_used == 0);
        }
}

/* a line of the mapping of our weights in /proc/self/smaps, in kB */
static long mapping(const char *key)
{
    long kb = -1, v;
    int inside = 0;
    char line[512];
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long from, to;
        if (sscanf(line, "%llx-%llx ", &from, &to) == 2) inside = strstr(line, "test_load/native/model.safetensors") != NULL;
        else if (inside && !strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), " %ld", &v) == 1)
            kb = (kb < 0 ? 0 : kb) + v;
    }
    if (f) fclose(f);
    return kb;
}

static void test_shared(void)
{
#ifdef __linux__
    int up[2], down[2], status = 1;
    char go = 0;
    pid_t child;
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_session *s = NULL;
    awq_model_desc d;
    int32_t id = 5;
    if (mapping("Rss:") >= 0) TEST_SKIP("it is mapped already");
    CHECK(pipe(up) == 0 && pipe(down) == 0);
    fflush(stdout);
    child = fork();
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    d.head_bits = 8;
    if (awq_model_load(&ctx, DIR "/native", &d, &m) == AWQ_OK && open_session(&ctx, m, 8, &s) == AWQ_OK
        && awq_session_feed(&ctx, s, &id, 1, NULL, NULL) == AWQ_OK)
        status = 0;
    if (!child) { /* keeps it until the other has looked */
        if (write(up[1], "x", 1) != 1 || read(down[0], &go, 1) != 1) status = 1;
        _exit(status);
    }
    CHECK_MSG(status == 0, "%s", ctx.err.text);
    CHECK(child > 0 && read(up[0], &go, 1) == 1);
    printf("    mapped: %ld kB, %ld shared, %ld dirty of one process\n", mapping("Rss:"), mapping("Shared_Clean:"),
           mapping("Private_Dirty:"));
    CHECK(mapping("Rss:") > 40 && mapping("Private_Dirty:") == 0 && mapping("Shared_Dirty:") >= 0);
    CHECK(mapping("Private_Clean:") == 0 && mapping("Shared_Clean:") + mapping("Shared_Dirty:") == mapping("Rss:"));
    CHECK(write(down[1], "x", 1) == 1);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close_session(&ctx, s);
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0 && mapping("Rss:") < 0);
    close(up[0]), close(up[1]), close(down[0]), close(down[1]);
#else
    TEST_SKIP("it looks at /proc/self/smaps");
#endif
}

int main(int argc, char **argv)
{
    awq__os_make_folder(NULL, "build");
    awq__os_make_folder(NULL, DIR);
    TEST_BEGIN(argc, argv);
    RUN(test_regroup);
    RUN(test_native_tiny);
    RUN(test_native_families);
    RUN(test_damaged);
    RUN(test_failures);
    RUN(test_threads);
    RUN(test_shared);
    return TEST_END();
}
