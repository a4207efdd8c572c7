/* Linears in exact mode: the scalar specification against double precision, every instruction set against it
   bit for bit, statuses, failing allocations. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

static float *random_floats(int64_t n, uint64_t seed)
{
    float *x = (float *)malloc((size_t)n * sizeof *x + 1);
    int64_t i;
    for (i = 0; i < n; i++)
        x[i] = (awq__random_unit(&seed) * 2 - 1) * (awq__random_unit(&seed) < 0.02f ? 20.0f : 1.0f);
    return x;
}

static awq_qweight random_qweight(awq_ctx *ctx, int64_t n, int64_t k, int bits, int64_t g)
{
    awq_qweight w;
    float *x = random_floats(n * k, (uint64_t)(n * k * 10 + bits));
    CHECK(awq_qweight_alloc(ctx, n, k, bits, g, 0, &w) == AWQ_OK && awq_quantize(ctx, x, &w) == AWQ_OK);
    free(x);
    return w;
}

static void test_fma(void) /* against the C library's, over bit patterns of every kind */
{
    static const uint32_t special[] = {0, 0x80000000u, 1, 0x80000001u, 0x007fffffu, 0x00800000u, 0x3f800000u, 0xbf800001u,
                                       0x7f7fffffu, 0xff7fffffu, 0x7f800000u, 0xff800000u, 0x7fc00000u};
    enum { N = sizeof special / sizeof special[0] };
    uint64_t seed = 3;
    int i, bad = 0;
    for (i = 0; i < N * N * N + 2000000; i++) {
        uint32_t u[3] = {special[i % N], special[i / N % N], special[i / N / N % N]}, a, b;
        float x[3], want, got;
        int k;
        for (k = 0; k < 3 && i >= N * N * N; k++) {
            u[k] = (uint32_t)(awq__random(&seed) >> 32);
            if (i & 1) u[k] = (u[k] & 0x81ffffffu) + 0x3e000000u; /* of like size: the sums cancel */
            if (i & 2) u[k] &= 0xfffff000u;                       /* ties */
        }
        memcpy(x, u, sizeof x);
        if (i >= N * N * N && i % 5 == 0) x[2] = -x[0] * x[1];
        want = fmaf(x[0], x[1], x[2]);
        got = awq__fma(x[0], x[1], x[2]);
        memcpy(&a, &want, 4);
        memcpy(&b, &got, 4);
        if (a != b && !(want != want && got != got)) bad++;
    }
    CHECK_MSG(bad == 0, "%d differ", bad);
}

/* the specification, written out: 16 lanes in order, then the tree */
static float by_lanes(const float *w, const float *x, int64_t n, float bias)
{
    float l[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    int64_t i;
    int j;
    for (i = 0; i < n; i++) l[i % 16] = fmaf(w[i], x[i], l[i % 16]);
    for (j = 8; j; j /= 2)
        for (i = 0; i < j; i++) l[i] = l[i] + l[i + j];
    return l[0] + bias;
}

/* y of every instruction set equals the specification; weights [n, k] say what the linear holds */
static void check_linear(awq_ctx *ctx, const awq_linear *l, const float *weights, const float *bias, int64_t m)
{
    int64_t n = l->out_features, k = l->in_features, i, t;
    float *x = random_floats(m * k, (uint64_t)(m + k)), *y = (float *)malloc((size_t)(m * n + 1) * sizeof *y);
    int isa, bad = 0, far = 0;
    for (isa = AWQ_ISA_SCALAR; isa <= (int)awq_best_isa(); isa++) {
        ctx->isa = (awq_isa)isa;
        if (awq__isa(ctx) != ctx->isa) continue; /* of another kind of processor */
        memset(y, 0xff, (size_t)(m * n + 1) * sizeof *y);
        CHECK(awq_linear_run(ctx, l, x, m, y) == AWQ_OK);
        for (t = 0; t < m; t++)
            for (i = 0; i < n; i++) {
                float want = by_lanes(weights + i * k, x + t * k, k, bias ? bias[i] : 0.0f);
                bad += memcmp(&want, &y[t * n + i], 4) != 0;
            }
        CHECK_MSG(bad == 0, "%s: %d x %d, m %d, bits %d, g %d, type %s: %d differ", awq_isa_name((awq_isa)isa),
                  (int)n, (int)k, (int)m, l->bits, (int)l->group_size, awq_dtype_name(l->dtype), bad);
        CHECK(awq__float_bits(y[m * n]) == 0xffffffffu);
    }
    ctx->isa = AWQ_ISA_AUTO;
    for (t = 0; t < m; t++)
        for (i = 0; i < n; i++) {
            double sum = bias ? bias[i] : 0, size = fabs(sum);
            int64_t j;
            for (j = 0; j < k; j++) {
                sum += (double)weights[i * k + j] * x[t * k + j];
                size += fabs((double)weights[i * k + j] * x[t * k + j]);
            }
            far += fabs(sum - y[t * n + i]) > size * 1e-6;
        }
    CHECK(far == 0);
    free(x);
    free(y);
}

static void test_quantized(void)
{
    static const int shapes[][3] = {/* out, in, group */
                                    {5, 16, 16},     {4, 32, 32},  {7, 48, 16},    {9, 48, 48},
                                    {3, 528, 176},   {6, 576, 64}, {1, 1536, 128}, {17, 1040, 16},
                                    {2, 2048, 1024}, {5, 37, 37},  {4, 66, 33},    {3, 1000, 8},
                                    {2, 520, 5},     {1, 1, 1},    {2, 768, 768}};
    awq_ctx ctx;
    size_t i;
    int bits, m, biased;
    memset(&ctx, 0, sizeof ctx);
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (bits = 2; bits <= 8; bits++) {
            int64_t n = shapes[i][0], k = shapes[i][1];
            awq_qweight w = random_qweight(&ctx, n, k, bits, shapes[i][2]);
            float *dense = (float *)malloc((size_t)(n * k) * sizeof *dense), *bias = random_floats(n, 3);
            CHECK(awq_dequantize(&ctx, &w, dense) == AWQ_OK);
            for (m = 1; m <= (bits == 4 ? 17 : 5); m += bits == 4 ? 1 : 4) {
                awq_linear l;
                biased = m % 2;
                CHECK(awq_linear_prepare(&ctx, &w, AWQ_MODE_EXACT, 0, biased ? bias : NULL, &l) == AWQ_OK);
                check_linear(&ctx, &l, dense, biased ? bias : NULL, m);
                CHECK(awq_linear_bytes(&l) >= (size_t)(n * k * (bits == 4 ? 1 : 2) / 2));
                awq_linear_free(&ctx, &l);
            }
            awq_qweight_free(&ctx, &w);
            free(dense);
            free(bias);
        }
    CHECK(ctx.memory_used == 0);
}

static void test_scale_types(void) /* BF16 and F32 scales: still what awq_dequantize says, bit for bit */
{
    awq_ctx ctx;
    int d;
    memset(&ctx, 0, sizeof ctx);
    for (d = AWQ_F32; d <= AWQ_BF16; d++) {
        awq_qweight w = random_qweight(&ctx, 5, 96, 4, 32);
        float dense[5 * 96];
        awq_linear l;
        uint64_t seed = 8;
        int i;
        w.scale_dtype = (awq_dtype)d;
        for (i = 0; i < 15; i++) {
            w.scales[i] = awq__random_unit(&seed);
            if (d != AWQ_F32) w.scales[i] = awq__bf16_float(awq__float_bf16(w.scales[i]));
        }
        CHECK(awq_dequantize(&ctx, &w, dense) == AWQ_OK && awq_linear_prepare(&ctx, &w, AWQ_MODE_EXACT, 0, NULL, &l) == AWQ_OK);
        check_linear(&ctx, &l, dense, NULL, 6);
        awq_linear_free(&ctx, &l);
        awq_qweight_free(&ctx, &w);
    }
}

static void test_rounded_zeros(void) /* gemv_fast: w = code * scale + fp16(-scale * zero) */
{
    static const int groups[] = {16, 32, 96};
    awq_ctx ctx;
    int i, bits, differ = 0;
    memset(&ctx, 0, sizeof ctx);
    for (i = 0; i < 3; i++)
        for (bits = 4; bits <= 8; bits += 4) {
            awq_qweight w = random_qweight(&ctx, 9, 96, bits, groups[i]);
            float dense[9 * 96], plain[9 * 96];
            awq_linear l;
            int j;
            CHECK(awq_dequantize(&ctx, &w, plain) == AWQ_OK
                  && awq_linear_prepare(&ctx, &w, AWQ_MODE_EXACT, 1, NULL, &l) == AWQ_OK);
            for (j = 0; j < 9 * 96; j++) {
                float s = w.scales[j / groups[i]];
                dense[j] = (float)w.codes[j] * s + awq__h(-(s * (float)w.zeros[j / groups[i]]));
                differ += dense[j] != plain[j];
            }
            check_linear(&ctx, &l, dense, NULL, 7);
            awq_linear_free(&ctx, &l);
            awq_qweight_free(&ctx, &w);
        }
    CHECK(differ > 0);
}

static void test_dense(void)
{
    static const int shapes[][2] = {{4, 16},  {5, 1},    {3, 7},   {8, 33}, {2, 512},
                                    {6, 515}, {9, 1040}, {1, 600}, {70, 24}};
    awq_ctx ctx;
    size_t i;
    int d, m;
    memset(&ctx, 0, sizeof ctx);
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (d = AWQ_F32; d <= AWQ_BF16; d++) {
            int64_t n = shapes[i][0], k = shapes[i][1];
            float *w = random_floats(n * k, i), *bias = random_floats(n, 4);
            void *stored = malloc((size_t)(n * k) * 4);
            CHECK(awq_from_float(&ctx, (awq_dtype)d, w, n * k, stored) == AWQ_OK);
            CHECK(awq_to_float(&ctx, (awq_dtype)d, stored, n * k, w) == AWQ_OK);
            for (m = 0; m <= 17; m++) {
                awq_linear l;
                const float *b = m % 2 ? bias : NULL;
                CHECK(awq_linear_dense(&ctx, (awq_dtype)d, stored, n, k, b, &l) == AWQ_OK);
                check_linear(&ctx, &l, w, b, m);
                CHECK(awq_linear_bytes(&l) == 0);
                awq_linear_free(&ctx, &l);
            }
            free(w);
            free(bias);
            free(stored);
        }
    CHECK(ctx.memory_used == 0);
}

static void test_values(void) /* Inf and NaN in x reach their token only; no read of x beyond its end */
{
    awq_ctx ctx;
    awq_linear l;
    float w[2 * 20], x[3 * 20], y[6];
    int i, isa;
    memset(&ctx, 0, sizeof ctx);
    for (i = 0; i < 40; i++) w[i] = 1;
    CHECK(awq_linear_dense(&ctx, AWQ_F32, w, 2, 20, NULL, &l) == AWQ_OK);
    for (isa = AWQ_ISA_SCALAR; isa <= (int)awq_best_isa(); isa++) {
        ctx.isa = (awq_isa)isa;
        if (awq__isa(&ctx) != ctx.isa) continue;
        for (i = 0; i < 60; i++) x[i] = 1;
        x[20] = INFINITY;
        x[45] = NAN;
        CHECK(awq_linear_run(&ctx, &l, x, 3, y) == AWQ_OK);
        CHECK(y[0] == 20 && y[1] == 20 && y[2] == INFINITY && y[3] == INFINITY && isnan(y[4]) && isnan(y[5]));
    }
}

static void test_threads_and_batches(void) /* the same bits with threads, and a token alone or among others */
{
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_qweight w;
    awq_linear l;
    int64_t n = 203, k = 320, m = 75, t;
    float *x = random_floats(m * k, 1), *a = (float *)malloc((size_t)(m * n) * 4),
          *b = (float *)malloc((size_t)(m * n) * 4);
    memset(&ctx, 0, sizeof ctx);
    w = random_qweight(&ctx, n, k, 4, 64);
    CHECK(awq_linear_prepare(&ctx, &w, AWQ_MODE_EXACT, 0, NULL, &l) == AWQ_OK);
    CHECK(awq_linear_run(&ctx, &l, x, m, a) == AWQ_OK);
    CHECK(awq_pool_create(&ctx, 3, &pool) == AWQ_OK);
    ctx.jobs = awq_pool_jobs(pool);
    memset(b, 0, (size_t)(m * n) * 4);
    CHECK(awq_linear_run(&ctx, &l, x, m, b) == AWQ_OK && !memcmp(a, b, (size_t)(m * n) * 4));
    memset(b, 0, (size_t)(m * n) * 4);
    for (t = 0; t < m; t++) CHECK(awq_linear_run(&ctx, &l, x + t * k, 1, b + t * n) == AWQ_OK);
    CHECK(!memcmp(a, b, (size_t)(m * n) * 4));
    memset(&ctx.jobs, 0, sizeof ctx.jobs);
    awq_pool_free(&ctx, pool);
    awq_linear_free(&ctx, &l);
    awq_qweight_free(&ctx, &w);
    CHECK(ctx.memory_used == 0);
    free(x);
    free(a);
    free(b);
}

static void test_statuses(void)
{
    awq_ctx ctx;
    awq_qweight w;
    awq_linear l, before;
    float x[4] = {1, 2, 3, 4}, y[4];
    memset(&ctx, 0, sizeof ctx);
    memset(&l, 0x44, sizeof l);
    before = l;
    CHECK(awq_linear_dense(&ctx, AWQ_I8, x, 2, 2, NULL, &l) == AWQ_E_ARG && strstr(ctx.err.text, "I8"));
    CHECK(awq_linear_dense(&ctx, AWQ_F32, NULL, 2, 2, NULL, &l) == AWQ_E_ARG && strstr(ctx.err.text, "NULL"));
    CHECK(awq_linear_dense(&ctx, AWQ_F32, x, 0, 2, NULL, &l) == AWQ_E_ARG);
    CHECK(awq_linear_dense(&ctx, AWQ_F32, x, INT64_MAX / 2, 9, NULL, &l) == AWQ_E_ARG);
    memset(&w, 0, sizeof w);
    CHECK(awq_linear_prepare(&ctx, &w, AWQ_MODE_EXACT, 0, NULL, &l) == AWQ_E_ARG);
    CHECK(!memcmp(&l, &before, sizeof l)); /* untouched */
    CHECK(awq_linear_dense(&ctx, AWQ_F32, x, 2, 2, NULL, &l) == AWQ_OK);
    CHECK(awq_linear_run(&ctx, &l, x, -1, y) == AWQ_E_ARG);
    CHECK(awq_linear_run(&ctx, &l, x, 1, y) == AWQ_OK && y[0] == 5 && y[1] == 11);
}

static void test_allocation_failures(void)
{
    awq_ctx plain;
    awq_qweight w;
    float bias[4] = {1, 2, 3, 4};
    long k;
    int ok = 0;
    memset(&plain, 0, sizeof plain);
    w = random_qweight(&plain, 4, 64, 4, 32);
    for (k = 0; k < 8 && !ok; k++) {
        fail_alloc f = {0, 0, 0};
        awq_ctx ctx;
        awq_linear l;
        awq_status st;
        f.fail_at = k;
        memset(&ctx, 0, sizeof ctx);
        memset(&l, 0, sizeof l);
        ctx.allocator = fail_allocator(&f);
        st = awq_linear_prepare(&ctx, &w, AWQ_MODE_EXACT, 0, bias, &l);
        CHECK(st == AWQ_OK || st == AWQ_E_MEMORY);
        ok = st == AWQ_OK;
        awq_linear_free(&ctx, &l);
        CHECK(f.live == 0 && ctx.memory_used == 0);
    }
    CHECK(ok && k == 4);
    awq_qweight_free(&plain, &w);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_fma);
    RUN(test_quantized);
    RUN(test_scale_types);
    RUN(test_rounded_zeros);
    RUN(test_dense);
    RUN(test_values);
    RUN(test_threads_and_batches);
    RUN(test_statuses);
    RUN(test_allocation_failures);
    return TEST_END();
}
