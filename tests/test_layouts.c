/* Packed layouts: against the reference packers' bytes (golden files, and their loops written out again here),
   round trips on random matrices, every refusal, failing allocations. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "golden.h"

static awq_qweight random_qweight(awq_ctx *ctx, int64_t n, int64_t k, int bits, int64_t g, int symmetric,
                                  awq_dtype dtype)
{
    awq_qweight w;
    uint64_t seed = (uint64_t)(n * 1000 + k + bits);
    int64_t i, ng;
    memset(&w, 0, sizeof w);
    CHECK(awq_qweight_alloc(ctx, n, k, bits, g, symmetric, &w) == AWQ_OK);
    ng = n * (k / w.group_size);
    for (i = 0; i < n * k; i++) w.codes[i] = (uint8_t)(awq__random(&seed) >> (64 - bits));
    for (i = 0; i < ng; i++) {
        w.zeros[i] = (uint8_t)(symmetric ? 1u << (bits - 1) : (unsigned)(awq__random(&seed) >> (64 - bits)));
        w.scales[i] = awq__random_unit(&seed) + 1e-3f;
        if (dtype == AWQ_F16) w.scales[i] = awq__h(w.scales[i]);
        if (dtype == AWQ_BF16) w.scales[i] = awq__bf16_float(awq__float_bf16(w.scales[i]));
    }
    w.scale_dtype = dtype;
    return w;
}

static int same_qweight(const awq_qweight *a, const awq_qweight *b)
{
    int64_t i, n = a->out_features, k = a->in_features, ng = n * (k / a->group_size);
    for (i = 0; i < ng; i++)
        if (a->scales[i] != b->scales[i]) return 0;
    return !memcmp(a->codes, b->codes, (size_t)(n * k)) && !memcmp(a->zeros, b->zeros, (size_t)ng)
           && a->symmetric == b->symmetric && a->scale_dtype == b->scale_dtype;
}

static void packed_memory(awq_packed *p, int fill) /* every tensor its own block, so that overruns show */
{
    int i;
    for (i = 0; i < p->n_tensors; i++) {
        p->tensor[i].data = malloc(p->tensor[i].bytes);
        memset(p->tensor[i].data, fill, p->tensor[i].bytes);
    }
}

static void packed_free(awq_packed *p)
{
    int i;
    for (i = 0; i < p->n_tensors; i++) free(p->tensor[i].data);
}

/* pack, unpack, compare; NUL text: must work */
static void round_trip(awq_ctx *ctx, awq_layout layout, const awq_qweight *w)
{
    awq_packed p;
    awq_qweight back;
    if (awq_layout_describe(ctx, layout, w, &p)) {
        CHECK_MSG(0, "%s", ctx->err.text);
        return;
    }
    packed_memory(&p, 0x5a);
    CHECK(awq_qweight_alloc(ctx, w->out_features, w->in_features, w->bits, w->group_size, w->symmetric, &back)
          == AWQ_OK);
    CHECK_MSG(awq_pack(ctx, w, &p) == AWQ_OK && awq_unpack(ctx, &p, &back) == AWQ_OK, "%s", ctx->err.text);
    CHECK_MSG(same_qweight(w, &back), "%s %d x %d", awq_layout_name(layout), (int)w->out_features,
              (int)w->in_features);
    awq_qweight_free(ctx, &back);
    packed_free(&p);
}

static void test_round_trips(void)
{
    static const struct {
        awq_layout layout;
        int n, k, bits, g;
    } c[] = {{AWQ_LAYOUT_GEMM, 8, 1, 4, 1},
             {AWQ_LAYOUT_GEMM, 1016, 66, 4, 33},
             {AWQ_LAYOUT_GEMM, 264, 200, 4, 8},
             {AWQ_LAYOUT_GEMV, 3, 32, 4, 32},
             {AWQ_LAYOUT_GEMV, 5, 192, 4, 64},
             {AWQ_LAYOUT_GEMV, 1, 3456, 4, 384},
             {AWQ_LAYOUT_GEMV, 130, 1152, 4, 32},
             {AWQ_LAYOUT_GEMV_FAST, 4, 64, 4, 64},
             {AWQ_LAYOUT_GEMV_FAST, 36, 1152, 4, 128},
             {AWQ_LAYOUT_GEMV_FAST, 300, 192, 4, 32},
             {AWQ_LAYOUT_MARLIN, 64, 16, 4, 16},
             {AWQ_LAYOUT_MARLIN, 192, 1200, 4, 48},
             {AWQ_LAYOUT_MARLIN, 64, 48, 4, 16},
             {AWQ_LAYOUT_EXLLAMA, 8, 8, 4, 4},
             {AWQ_LAYOUT_EXLLAMA, 72, 1040, 4, 16},
             {AWQ_LAYOUT_GPTQ, 8, 8, 4, 1},
             {AWQ_LAYOUT_GPTQ, 1000, 72, 4, 36},
             {AWQ_LAYOUT_GPTQ_V2, 40, 40, 4, 5},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 1, 1, 4, 1},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 77, 33, 4, 11},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 13, 27, 8, 9},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 130, 66, 8, 33},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 19, 45, 2, 15},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 66, 200, 3, 8},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 77, 96, 3, 96},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 35, 1056, 5, 32},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 33, 34, 6, 17},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 1, 1, 7, 1},
             {AWQ_LAYOUT_COMPRESSED_TENSORS, 65, 129, 7, 43},
             {AWQ_LAYOUT_GPTQ, 16, 48, 2, 24},
             {AWQ_LAYOUT_GPTQ, 64, 96, 3, 32},
             {AWQ_LAYOUT_GPTQ, 2052, 36, 8, 12},
             {AWQ_LAYOUT_GPTQ_V2, 32, 2080, 3, 16},
             {AWQ_LAYOUT_GPTQ_V2, 4, 4, 8, 1},
             {AWQ_LAYOUT_INT8, 1, 1, 8, 1},
             {AWQ_LAYOUT_INT8, 77, 33, 8, 11}};
    awq_ctx ctx;
    awq_pool *pool = NULL;
    size_t i;
    int sym, threads;
    for (threads = 0; threads < 2; threads++) {
        memset(&ctx, 0, sizeof ctx);
        if (threads) {
            CHECK(awq_pool_create(&ctx, 3, &pool) == AWQ_OK);
            ctx.jobs = awq_pool_jobs(pool);
        }
        for (i = 0; i < sizeof c / sizeof c[0]; i++)
            for (sym = c[i].layout == AWQ_LAYOUT_MARLIN; sym < 2; sym++) {
                int d = c[i].layout == AWQ_LAYOUT_GEMV_FAST ? AWQ_F16 : AWQ_F32; /* to AWQ_BF16 */
                for (; d <= (c[i].layout == AWQ_LAYOUT_GEMV_FAST ? AWQ_F16 : AWQ_BF16); d++) {
                    awq_qweight w = random_qweight(&ctx, c[i].n, c[i].k, c[i].bits, c[i].g, sym, (awq_dtype)d);
                    round_trip(&ctx, c[i].layout, &w);
                    awq_qweight_free(&ctx, &w);
                }
            }
        memset(&ctx.jobs, 0, sizeof ctx.jobs);
        if (threads) awq_pool_free(&ctx, pool);
        CHECK(ctx.memory_used == 0);
    }
}

/* --- the reference packers, step by step: reshape, permute, pack */
static void reference_gemv_fast(const awq_qweight *w, uint16_t *out)
{
    int64_t n = w->out_features, k = w->in_features, r, b, i;
    uint8_t *a = (uint8_t *)malloc((size_t)(n * k)), *t = (uint8_t *)malloc((size_t)(n * k));
    for (r = 0; r < n * k / 32; r++) /* [.., 4, 4, 2] -> transpose the two fours */
        for (i = 0; i < 32; i++) a[r * 32 + i / 2 % 4 * 8 + i / 8 * 2 + i % 2] = w->codes[r * 32 + i];
    for (r = 0; r < n * k / 8; r++) /* [.., 4, 2] -> [.., 2, 4] */
        for (i = 0; i < 8; i++) t[r * 8 + i % 2 * 4 + i / 2] = a[r * 8 + i];
    for (r = 0; r < n; r++) /* [N/4, 4, K/64, 64] -> [N/4, K/64, 4, 64] */
        for (b = 0; b < k / 64; b++)
            for (i = 0; i < 64; i++) a[((r / 4 * (k / 64) + b) * 4 + r % 4) * 64 + i] = t[r * k + b * 64 + i];
    for (i = 0; i < n * k / 4; i++)
        out[i] = (uint16_t)(a[4 * i] | a[4 * i + 1] << 4 | a[4 * i + 2] << 8 | a[4 * i + 3] << 12);
    free(a);
    free(t);
}

static void reference_marlin(const awq_qweight *w, uint32_t *out, uint16_t *scales)
{
    static const int interleave[8] = {0, 2, 4, 6, 1, 3, 5, 7}, pairs[8] = {0, 1, 8, 9, 16, 17, 24, 25};
    int64_t n = w->out_features, k = w->in_features, groups = k / w->group_size, kt, c, g;
    int perm[1024], scale_perm[64], count = 0, period, i, j, m, block;
    int plain[1024];
    for (i = 0; i < 32; i++) {
        int perm1[8], at = 0;
        for (block = 0; block < 2; block++) {
            int rows[4];
            rows[0] = 2 * (i % 4), rows[1] = rows[0] + 1, rows[2] = 2 * (i % 4 + 4), rows[3] = rows[2] + 1;
            for (j = 0; j < 4; j++) perm1[at++] = 16 * rows[j] + i / 4 + 8 * block;
        }
        for (j = 0; j < 4; j++)
            for (m = 0; m < 8; m++) plain[count++] = perm1[m] + 256 * j;
    }
    for (i = 0; i < 1024; i++) perm[i] = plain[i / 8 * 8 + interleave[i % 8]];
    for (kt = 0; kt < k / 16; kt++)
        for (c = 0; c < 2 * n; c++) {
            out[kt * 2 * n + c] = 0;
            for (i = 0; i < 8; i++) { /* element e of [N/16, 16 rows, 16 columns] of this tile row */
                int64_t e = c * 8 / 1024 * 1024 + perm[(c * 8 + i) % 1024];
                int64_t row = kt * 16 + e % 256 / 16, col = e / 256 * 16 + e % 16;
                out[kt * 2 * n + c] |= (uint32_t)w->codes[col * k + row] << (4 * i);
            }
        }
    period = groups > 1 ? 64 : 32;
    for (i = 0; i < period; i++) scale_perm[i] = groups > 1 ? i / 8 + 8 * (i % 8) : 2 * (i / 8) + pairs[i % 8];
    for (g = 0; g < groups; g++)
        for (c = 0; c < n; c++)
            scales[g * n + c] =
                awq__float_f16(w->scales[(c / period * period + scale_perm[c % period]) * groups + g]);
}

static void test_reference_order(void)
{
    static const int shapes[][3] = {{64, 64, 64}, {128, 192, 64}, {192, 256, 32}, {64, 320, 320}};
    awq_ctx ctx;
    int i;
    memset(&ctx, 0, sizeof ctx);
    for (i = 0; i < 4; i++) {
        awq_qweight w = random_qweight(&ctx, shapes[i][0], shapes[i][1], 4, shapes[i][2], 1, AWQ_F16);
        awq_packed p;
        size_t bytes = (size_t)(w.out_features * w.in_features / 2);
        uint32_t *words = (uint32_t *)malloc(bytes);
        uint16_t *scales = (uint16_t *)malloc(bytes);
        CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_GEMV_FAST, &w, &p) == AWQ_OK && p.tensor[0].bytes == bytes);
        packed_memory(&p, 1);
        CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
        reference_gemv_fast(&w, (uint16_t *)words);
        CHECK(!memcmp(words, p.tensor[0].data, bytes));
        packed_free(&p);
        CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_MARLIN, &w, &p) == AWQ_OK && p.tensor[0].bytes == bytes);
        packed_memory(&p, 1);
        CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
        reference_marlin(&w, words, scales);
        CHECK(!memcmp(words, p.tensor[0].data, bytes) && !memcmp(scales, p.tensor[1].data, p.tensor[1].bytes));
        packed_free(&p);
        free(words);
        free(scales);
        awq_qweight_free(&ctx, &w);
    }
}

/* value `at` of a stream of words `step` apart, its bits one by one */
static int stream_value(const uint32_t *words, int64_t step, int64_t at, int bits)
{
    int b, v = 0;
    for (b = 0; b < bits; b++)
        v |= (int)(words[(at * bits + b) / 32 * step] >> (at * bits + b) % 32 & 1) << b;
    return v;
}

static void test_dense_bits(void) /* compressed-tensors along rows and, for zeros, columns; gptq the other way round */
{
    awq_ctx ctx;
    int bits;
    memset(&ctx, 0, sizeof ctx);
    for (bits = 2; bits <= 8; bits++) {
        awq_qweight w = random_qweight(&ctx, 64, 96, bits, 32, 0, AWQ_F16);
        const uint32_t *q, *z;
        awq_packed p;
        int64_t n, k, g;
        int layout, bad = 0;
        CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_COMPRESSED_TENSORS, &w, &p) == AWQ_OK);
        CHECK(p.tensor[0].shape[1] == 3 * bits && p.tensor[3].shape[0] == 2 * bits);
        packed_memory(&p, 0x5a);
        CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
        q = (const uint32_t *)p.tensor[0].data, z = (const uint32_t *)p.tensor[3].data;
        for (n = 0; n < 64; n++) {
            for (k = 0; k < 96; k++) bad += stream_value(q + n * 3 * bits, 1, k, bits) != w.codes[n * 96 + k];
            for (g = 0; g < 3; g++) bad += stream_value(z + g, 3, n, bits) != w.zeros[n * 3 + g];
        }
        packed_free(&p);
        for (layout = AWQ_LAYOUT_GPTQ; layout <= AWQ_LAYOUT_GPTQ_V2 && (bits < 5 || bits == 8); layout++) {
            int minus = layout == AWQ_LAYOUT_GPTQ, top = (1 << bits) - 1;
            CHECK(awq_layout_describe(&ctx, (awq_layout)layout, &w, &p) == AWQ_OK);
            packed_memory(&p, 0x5a);
            CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
            q = (const uint32_t *)p.tensor[0].data, z = (const uint32_t *)p.tensor[1].data;
            for (n = 0; n < 64; n++) {
                for (k = 0; k < 96; k++) bad += stream_value(q + n, 64, k, bits) != w.codes[n * 96 + k];
                for (g = 0; g < 3; g++)
                    bad += stream_value(z + g * 2 * bits, 1, n, bits) != ((w.zeros[n * 3 + g] - minus) & top);
            }
            packed_free(&p);
        }
        if (bits == 8) {
            CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_INT8, &w, &p) == AWQ_OK);
            packed_memory(&p, 0x5a);
            CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK && p.n_tensors == 3);
            for (k = 0; k < 64 * 96; k++) bad += ((int8_t *)p.tensor[0].data)[k] != w.codes[k] - 128;
            for (k = 0; k < 64 * 3; k++) bad += ((int8_t *)p.tensor[2].data)[k] != w.zeros[k] - 128;
            packed_free(&p);
        }
        CHECK_MSG(!bad, "%d bits: %d values differ", bits, bad);
        awq_qweight_free(&ctx, &w);
    }
    CHECK(ctx.memory_used == 0);
}

static void test_small_words(void) /* by hand: 8 outputs x 8 inputs, code = (out + 2 in) % 16 */
{
    awq_ctx ctx;
    awq_qweight w;
    awq_packed p;
    int o, i;
    memset(&ctx, 0, sizeof ctx);
    w = random_qweight(&ctx, 8, 8, 4, 8, 0, AWQ_F16);
    for (o = 0; o < 8; o++)
        for (i = 0; i < 8; i++) w.codes[o * 8 + i] = (uint8_t)((o + 2 * i) % 16);
    for (o = 0; o < 8; o++) w.zeros[o] = (uint8_t)(o ? o : 0);
#define WORD(t, i) (((uint32_t *)p.tensor[t].data)[i])
#define TRY_LAYOUT(layout)                                           \
    CHECK(awq_layout_describe(&ctx, layout, &w, &p) == AWQ_OK);      \
    packed_memory(&p, 1);                                            \
    CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK)
    TRY_LAYOUT(AWQ_LAYOUT_GEMM);
    CHECK(WORD(0, 0) == 0x75316420 && WORD(0, 1) == 0x97538642 && WORD(1, 0) == 0x75316420);
    packed_free(&p);
    TRY_LAYOUT(AWQ_LAYOUT_GPTQ);
    CHECK(WORD(0, 0) == 0xeca86420 && WORD(0, 1) == 0xfdb97531 && WORD(1, 0) == 0x6543210f);
    CHECK(p.n_tensors == 4 && WORD(3, 7) == 0);
    packed_free(&p);
    TRY_LAYOUT(AWQ_LAYOUT_GPTQ_V2);
    CHECK(WORD(1, 0) == 0x76543210);
    packed_free(&p);
    TRY_LAYOUT(AWQ_LAYOUT_EXLLAMA);
    CHECK(WORD(1, 0) == 0x76543210 - 0x11111111);
    packed_free(&p);
    TRY_LAYOUT(AWQ_LAYOUT_COMPRESSED_TENSORS);
    CHECK(WORD(0, 0) == 0xeca86420 && WORD(3, 0) == 0x76543210);
    CHECK(((int64_t *)p.tensor[2].data)[0] == 8 && ((int64_t *)p.tensor[2].data)[1] == 8);
    packed_free(&p);
    awq_qweight_free(&ctx, &w);
}

static void test_names(void)
{
    int i;
    for (i = 1; i < AWQ_LAYOUT_COUNT; i++)
        CHECK(awq_layout_from_name(awq_layout_name((awq_layout)i)) == (awq_layout)i);
    CHECK(awq_layout_from_name("GEMM") == AWQ_LAYOUT_GEMM
          && awq_layout_from_name("Gemv_Fast") == AWQ_LAYOUT_GEMV_FAST);
    CHECK(awq_layout_from_name("llm-awq") == AWQ_LAYOUT_GEMV_FAST);
    CHECK(awq_layout_from_name("pack-quantized") == AWQ_LAYOUT_COMPRESSED_TENSORS);
    CHECK(awq_layout_from_name("naive-quantized") == AWQ_LAYOUT_INT8);
    CHECK(awq_layout_from_name("gem") == AWQ_LAYOUT_NONE && awq_layout_from_name("gemmm") == AWQ_LAYOUT_NONE);
    CHECK(awq_layout_from_name("") == AWQ_LAYOUT_NONE && awq_layout_from_name("none") == AWQ_LAYOUT_NONE);
    CHECK(!strcmp(awq_layout_name((awq_layout)99), "?"));
}

static void refuse(awq_layout layout, int64_t n, int64_t k, int bits, int64_t g, int symmetric,
                   awq_status status, const char *says)
{
    awq_ctx ctx;
    awq_qweight w;
    awq_packed p, before;
    memset(&ctx, 0, sizeof ctx);
    memset(&w, 0, sizeof w);
    memset(&p, 0x33, sizeof p);
    before = p;
    w.out_features = n, w.in_features = k, w.bits = bits, w.group_size = g, w.symmetric = symmetric;
    w.scale_dtype = AWQ_F16;
    CHECK_MSG(awq_layout_describe(&ctx, layout, &w, &p) == status && strstr(ctx.err.text, says), "%s",
              ctx.err.text);
    CHECK(!memcmp(&p, &before, sizeof p));
}

static void test_describe_refuses(void)
{
    refuse(AWQ_LAYOUT_NONE, 8, 8, 4, 8, 0, AWQ_E_ARG, "number 0");
    refuse((awq_layout)77, 8, 8, 4, 8, 0, AWQ_E_ARG, "number 77");
    refuse(AWQ_LAYOUT_GEMM, 8, 8, 4, 3, 0, AWQ_E_ARG, "group_size 3");
    refuse(AWQ_LAYOUT_GEMM, 8, 8, 4, 0, 0, AWQ_E_ARG, "group_size 0");
    refuse(AWQ_LAYOUT_GEMM, 8, 8, 11, 8, 0, AWQ_E_ARG, "bits is 11");
    refuse(AWQ_LAYOUT_GEMM, -8, 8, 4, 8, 0, AWQ_E_ARG, "-8 x 8");
    if (sizeof(size_t) < 8) refuse(AWQ_LAYOUT_GEMM, 1 << 20, 1 << 20, 4, 32, 0, AWQ_E_LIMIT, "memory");
    refuse(AWQ_LAYOUT_GEMM, 12, 8, 4, 8, 0, AWQ_E_UNSUPPORTED,
           "out_features is 12, it must be a multiple of 8");
    refuse(AWQ_LAYOUT_GEMM, 8, 8, 3, 8, 0, AWQ_E_UNSUPPORTED, "bits is 3, it holds 4");
    refuse(AWQ_LAYOUT_GEMV, 8, 12, 4, 12, 0, AWQ_E_UNSUPPORTED, "group_size is 12");
    refuse(AWQ_LAYOUT_GEMV, 8, 129, 4, 129, 0, AWQ_E_UNSUPPORTED,
           "in_features is 129, it must be a multiple of 8");
    refuse(AWQ_LAYOUT_GEMV_FAST, 8, 96, 4, 32, 0, AWQ_E_UNSUPPORTED, "multiple of 64");
    refuse(AWQ_LAYOUT_GEMV_FAST, 6, 64, 4, 32, 0, AWQ_E_UNSUPPORTED, "multiple of 4");
    refuse(AWQ_LAYOUT_MARLIN, 64, 64, 4, 32, 0, AWQ_E_UNSUPPORTED, "symmetric");
    refuse(AWQ_LAYOUT_MARLIN, 96, 64, 4, 32, 1, AWQ_E_UNSUPPORTED, "multiple of 64");
    refuse(AWQ_LAYOUT_MARLIN, 64, 40, 4, 8, 1, AWQ_E_UNSUPPORTED, "multiple of 16");
    refuse(AWQ_LAYOUT_GPTQ, 8, 12, 4, 12, 0, AWQ_E_UNSUPPORTED, "in_features");
    refuse(AWQ_LAYOUT_GPTQ_V2, 12, 8, 4, 8, 0, AWQ_E_UNSUPPORTED, "out_features");
    refuse(AWQ_LAYOUT_EXLLAMA, 8, 8, 8, 8, 0, AWQ_E_UNSUPPORTED, "bits is 8, it holds 4");
    refuse(AWQ_LAYOUT_GPTQ, 32, 32, 5, 32, 0, AWQ_E_UNSUPPORTED, "bits is 5, it holds 2, 3, 4 or 8; layout "
           "compressed-tensors holds 2 to 8");
    refuse(AWQ_LAYOUT_GPTQ_V2, 32, 16, 3, 16, 0, AWQ_E_UNSUPPORTED, "in_features is 16, it must be a multiple of 32");
    refuse(AWQ_LAYOUT_INT8, 8, 8, 4, 8, 0, AWQ_E_UNSUPPORTED, "int-quantized: bits is 4, it holds 8");
}

static void test_pack_refuses(void)
{
    awq_ctx ctx;
    awq_qweight w;
    awq_packed p, q;
    memset(&ctx, 0, sizeof ctx);
    w = random_qweight(&ctx, 8, 128, 4, 64, 0, AWQ_F16);
    CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_GEMV_FAST, &w, &p) == AWQ_OK);
    packed_memory(&p, 0x77);
#define REFUSED(w, status, says) \
    CHECK_MSG(awq_pack(&ctx, &w, &p) == (status) && strstr(ctx.err.text, says), "%s", ctx.err.text)
    w.codes[128 * 3 + 70] = 16;
    REFUSED(w, AWQ_E_ARG, "row 3, group 1 has a code above 15");
    w.codes[128 * 3 + 70] = 15;
    w.zeros[9] = 16;
    REFUSED(w, AWQ_E_ARG, "row 4, group 1 is 16, expected 0 to 15");
    w.zeros[9] = 15;
    w.scales[5] = 0.1f;
    REFUSED(w, AWQ_E_UNSUPPORTED, "row 2, group 1 is not exact in F16");
    w.scales[5] = awq__bits_float(0x30000000); /* a BF16 number, below fp16's range */
    REFUSED(w, AWQ_E_UNSUPPORTED, "not exact in F16");
    w.scales[5] = INFINITY;
    REFUSED(w, AWQ_E_NUMERIC, "row 2, group 1 is NaN or Inf");
    w.scales[5] = 60000;
    w.zeros[5] = 3;
    REFUSED(w, AWQ_E_UNSUPPORTED, "above 65504");
    w.scales[5] = 1;
    CHECK(((uint8_t *)p.tensor[0].data)[0] == 0x77 && ((uint8_t *)p.tensor[2].data)[0] == 0x77); /* untouched */
    q = p;
    p.tensor[1].dtype = AWQ_I16;
    REFUSED(w, AWQ_E_ARG, "tensor qzeros of layout gemv_fast must be F16 [16, 8]");
    p = q;
    p.tensor[0].data = NULL;
    REFUSED(w, AWQ_E_ARG, "qweight");
    p = q;
    p.group_size = 128;
    REFUSED(w, AWQ_E_ARG, "group 128");
    p = q;
    p.symmetric = 1;
    REFUSED(w, AWQ_E_ARG, "symmetric");
    p = q;
    CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
    packed_free(&p);
    awq_qweight_free(&ctx, &w);

    w = random_qweight(&ctx, 64, 32, 4, 32, 1, AWQ_F16);
    CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_MARLIN, &w, &p) == AWQ_OK);
    packed_memory(&p, 0);
    w.zeros[63] = 7;
    REFUSED(w, AWQ_E_ARG, "row 63, group 0 is 7, expected 8");
    packed_free(&p);
    awq_qweight_free(&ctx, &w);
}

static void test_unpack_refuses(void)
{
    awq_ctx ctx;
    awq_qweight w, back;
    awq_packed p, q;
    uint16_t *zeros;
    memset(&ctx, 0, sizeof ctx);
    w = random_qweight(&ctx, 16, 128, 4, 64, 0, AWQ_F16);
    back = random_qweight(&ctx, 16, 128, 4, 64, 0, AWQ_F16);
    CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_GEMV_FAST, &w, &p) == AWQ_OK);
    packed_memory(&p, 0);
    w.zeros[2 * 5 + 1] = 9;
    CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
    zeros = (uint16_t *)p.tensor[1].data;
    zeros[16 + 5] ^= 1; /* one unit in the last place */
    memset(back.codes, 99, 5);
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_E_FORMAT && strstr(ctx.err.text, "row 5, group 1"));
    CHECK(back.codes[0] == 99); /* untouched */
    zeros[16 + 5] = awq__float_f16(-w.scales[11] * 16); /* 16 is no 4-bit zero */
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_E_FORMAT);
    zeros[16 + 5] = 0x7e00;
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_E_FORMAT);
    zeros[16 + 5] = 0; /* +0 and -0 both mean 0 */
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_OK && back.zeros[11] == 0 && back.codes[0] != 99);
    zeros[2 * 16 + 5] = 0x1234; /* padding may hold anything */
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_OK);
    ((uint16_t *)p.tensor[2].data)[3] = 0xfc00;
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_E_NUMERIC && strstr(ctx.err.text, "row 3, group 0"));
    q = p;
    p.tensor[0].shape[1] = 64;
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_E_FORMAT && strstr(ctx.err.text, "I16 [4, 128]"));
    p = q;
    p.n_tensors = 2;
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_E_FORMAT);
    p = q;
    packed_free(&p);

    CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_GPTQ, &w, &p) == AWQ_OK);
    packed_memory(&p, 0);
    CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
    ((int32_t *)p.tensor[3].data)[64] = 0;
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_E_UNSUPPORTED
          && strstr(ctx.err.text, "g_idx[64] is 0, expected 1"));
    q = p;
    p.tensor[3].data = NULL; /* g_idx need not be stored */
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_OK && same_qweight(&w, &back));
    packed_free(&q);

    CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_COMPRESSED_TENSORS, &w, &p) == AWQ_OK);
    packed_memory(&p, 0);
    CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
    ((int64_t *)p.tensor[2].data)[1] = 120;
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_E_FORMAT && strstr(ctx.err.text, "[16, 120]"));
    packed_free(&p);

    w.symmetric = 1; /* marked symmetric, other zeros stored: what is stored decides */
    CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_GEMM, &w, &p) == AWQ_OK);
    w.symmetric = p.symmetric = 0;
    packed_memory(&p, 0);
    CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
    p.symmetric = 1;
    CHECK(awq_unpack(&ctx, &p, &back) == AWQ_OK && same_qweight(&w, &back) && !back.symmetric);
    packed_free(&p);
    awq_qweight_free(&ctx, &w);
    awq_qweight_free(&ctx, &back);
    CHECK(ctx.memory_used == 0);
}

static void test_allocation_failures(void)
{
    long k;
    int ok = 0;
    for (k = 0; k < 12 && !ok; k++) {
        fail_alloc f = {0, 0, 0};
        awq_ctx ctx;
        awq_qweight w;
        awq_packed p;
        awq_status st;
        f.fail_at = k;
        memset(&ctx, 0, sizeof ctx);
        memset(&w, 0, sizeof w);
        ctx.allocator = fail_allocator(&f);
        st = awq_qweight_alloc(&ctx, 16, 64, 4, 64, 0, &w);
        if (!st) {
            memset(w.codes, 3, 16 * 64);
            CHECK(awq_layout_describe(&ctx, AWQ_LAYOUT_GEMV, &w, &p) == AWQ_OK);
            packed_memory(&p, 0);
            st = awq_pack(&ctx, &w, &p);
            if (!st) st = awq_unpack(&ctx, &p, &w);
            packed_free(&p);
        }
        CHECK(st == AWQ_OK || st == AWQ_E_MEMORY);
        ok = st == AWQ_OK;
        awq_qweight_free(&ctx, &w);
        CHECK(f.live == 0 && ctx.memory_used == 0);
    }
    CHECK(ok && k > 5);
}

/* --- golden files: both directions, bit for bit */
static const struct {
    awq_layout layout;
    const char *tensor[4]; /* names in the file, in the order of awq_packed; "" : not in the file */
} golden_layouts[] = {
    {AWQ_LAYOUT_GEMM, {"gemm.qweight", "gemm.qzeros", "gemm.scales", ""}},
    {AWQ_LAYOUT_GEMV, {"gemv.qweight", "gemv.qzeros", "gemv.scales", ""}},
    {AWQ_LAYOUT_GEMV_FAST, {"gemv_fast.qweight", "gemv_fast.qzeros", "gemv_fast.scales", ""}},
    {AWQ_LAYOUT_MARLIN, {"marlin.qweight", "marlin.scales", "", ""}},
    {AWQ_LAYOUT_EXLLAMA, {"exllama.qweight", "exllama.qzeros", "gemm.scales", ""}},
    {AWQ_LAYOUT_GPTQ, {"gptq.qweight", "gptq.qzeros_v1_zminus1", "gptq.scales", "gptq.g_idx"}},
    {AWQ_LAYOUT_GPTQ_V2, {"gptq.qweight", "gptq.qzeros_v2", "gptq.scales", "gptq.g_idx"}},
    {AWQ_LAYOUT_COMPRESSED_TENSORS,
     {"ct.weight_packed", "ct.weight_scale", "ct.weight_shape", "ct.weight_zero_point"}}};

static int check_golden_layout(awq_ctx *ctx, const golden *f, int l, const awq_qweight *w, const char *name)
{
    awq_packed mine, file;
    awq_qweight back;
    size_t bytes;
    int t;
    if (awq_layout_describe(ctx, golden_layouts[l].layout, w, &mine)) return 0; /* the reference refused too */
    file = mine;
    packed_memory(&mine, 0x5a);
    for (t = 0; t < mine.n_tensors; t++) {
        file.tensor[t].data = golden_tensor(f, golden_layouts[l].tensor[t], &bytes);
        CHECK_MSG(file.tensor[t].data && bytes == mine.tensor[t].bytes, "%s %s", name,
                  golden_layouts[l].tensor[t]);
        if (!file.tensor[t].data) {
            packed_free(&mine);
            packed_free(&file);
            return 0;
        }
    }
    CHECK(awq_pack(ctx, w, &mine) == AWQ_OK);
    for (t = 0; t < mine.n_tensors; t++)
        CHECK_MSG(!memcmp(mine.tensor[t].data, file.tensor[t].data, mine.tensor[t].bytes), "%s %s", name,
                  golden_layouts[l].tensor[t]);
    CHECK(awq_qweight_alloc(ctx, w->out_features, w->in_features, 4, w->group_size, w->symmetric, &back)
          == AWQ_OK);
    CHECK_MSG(awq_unpack(ctx, &file, &back) == AWQ_OK && same_qweight(w, &back), "%s %s", name, ctx->err.text);
    awq_qweight_free(ctx, &back);
    packed_free(&mine);
    packed_free(&file);
    return 1;
}

static int check_golden(int first, int last) /* number of layouts compared */
{
    awq_ctx ctx;
    int i, l, compared = 0;
    memset(&ctx, 0, sizeof ctx);
    for (i = first; i < last; i++) {
        const golden_shape *s = &golden_shapes[i];
        golden f;
        size_t count;
        float *orig;
        int sym;
        if (!golden_open_shape(&f, i)) {
            CHECK_MSG(0, "cannot read %s", s->name);
            continue;
        }
        orig = golden_half(&f, "W_orig_fp16", &count);
        for (sym = 0; sym < 2; sym++) {
            awq_qweight w;
            CHECK(awq_qweight_alloc(&ctx, s->n, s->k, 4, s->g, sym, &w) == AWQ_OK);
            CHECK(awq_quantize(&ctx, orig, &w) == AWQ_OK);
            for (l = 0; l < (int)(sizeof golden_layouts / sizeof golden_layouts[0]); l++)
                if ((golden_layouts[l].layout == AWQ_LAYOUT_MARLIN) == sym)
                    compared += check_golden_layout(&ctx, &f, l, &w, s->name);
            awq_qweight_free(&ctx, &w);
        }
        free(orig);
        golden_close(&f);
    }
    CHECK(ctx.memory_used == 0);
    return compared;
}

static void test_golden_small(void) { CHECK(check_golden(0, GOLDEN_SHIPPED) == 3 * 5 + 3 + 2); }

static void test_golden_all(void)
{
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    CHECK(check_golden(GOLDEN_SHIPPED, GOLDEN_ALL) == 7 * 5 + 6 + 6 + 5);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_names);
    RUN(test_dense_bits);
    RUN(test_small_words);
    RUN(test_round_trips);
    RUN(test_reference_order);
    RUN(test_describe_refuses);
    RUN(test_pack_refuses);
    RUN(test_unpack_refuses);
    RUN(test_allocation_failures);
    RUN(test_golden_small);
    RUN(test_golden_all);
    return TEST_END();
}
