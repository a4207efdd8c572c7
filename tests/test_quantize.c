/* Rounding to the grid: against the reference's own matrices, properties, statuses, failing allocations. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "golden.h"

static float noise(uint64_t *state) { return awq__random_unit(state) * 2 - 1; }

static float *random_halves(int64_t n, float size, uint64_t seed)
{
    float *w = (float *)malloc((size_t)n * sizeof *w);
    int64_t i;
    for (i = 0; i < n; i++) w[i] = awq__h(noise(&seed) * noise(&seed) * size);
    return w;
}

static void test_round_even(void)
{
    static const float in[] = {0.5f,        1.5f,  2.5f,       -0.5f,      -1.5f, -2.5f,
                               0.49999997f, -3.7f, 8388607.5f, 8388609.0f, 1e30f};
    static const float out[] = {0, 2, 2, 0, -2, -2, 0, -4, 8388608, 8388609, 1e30f};
    size_t i;
    for (i = 0; i < sizeof in / sizeof in[0]; i++) CHECK(awq__round_even(in[i]) == out[i]);
    CHECK(awq__round_even(INFINITY) == INFINITY && awq__round_even(-INFINITY) == -INFINITY);
    CHECK(isnan(awq__round_even(NAN)));
}

static void test_grid(void)
{
    float s, z;
    awq__grid_f32(-1, 2, 4, 0, &s, &z);
    CHECK(s == 3.0f / 15 && z == 5);
    awq__grid_f32(-1, 2, 4, 1, &s, &z);
    CHECK(s == 2.0f / 7 && z == 8);
    awq__grid_f32(1, 2, 4, 0, &s, &z); /* all positive: zero clamped at 0 */
    CHECK(z == 0 && !signbit(z));
    awq__grid_f32(-2, -1, 4, 0, &s, &z);
    CHECK(z == 15);
    awq__grid_f32(0, 0, 4, 0, &s, &z);
    CHECK(s == 1e-5f / 15 && z == 0 && !signbit(z));
    awq__grid_f16(0, 0, 4, 0, &s, &z); /* 168 / 15 = 11.2 steps of 2^-24 */
    CHECK(s == 11.0f / 16777216.0f && z == 0);
    awq__grid_f16(0, 0, 8, 1, &s, &z);
    CHECK(s == 1.0f / 16777216.0f && z == 128);
    awq__grid_f16(awq__h(-0.3f), awq__h(0.7f), 4, 0, &s, &z);
    CHECK(s == awq__h(awq__h(awq__h(0.7f) - awq__h(-0.3f)) / 15));
}

/* the definition, with a rounding to fp16 after every step */
static int code_by_steps(float w, float s, float z, float top)
{
    float q = awq__h(awq__round_even(awq__h(w / s)) + z);
    return (int)(q < 0 ? 0 : q > top ? top : q);
}

static void test_code_steps(void) /* the shortcut in awq__code_f16 against the definition */
{
    uint64_t seed = 5;
    int i, bad = 0;
    for (i = 0; i < 2000000; i++) {
        uint64_t r = awq__random(&seed);
        float w = awq__f16_float((uint16_t)r), s = awq__f16_float((uint16_t)(r >> 16 & 0x7fff));
        float top = (float)((1 << (2 + (r >> 40) % 7)) - 1), z = (float)((r >> 48) % 256);
        if (!awq__finite(w) || !awq__finite(s) || s == 0) continue;
        if (z > top) z = top;
        bad += (int)awq__code_f16(w, s, z, top) != code_by_steps(w, s, z, top);
        s = awq__h(w / ((float)((r >> 32) % 600) / 2 + 0.25f)); /* quotients near the ties */
        s = fabsf(s);
        if (s > 0 && awq__finite(s)) bad += (int)awq__code_f16(w, s, z, top) != code_by_steps(w, s, z, top);
    }
    CHECK(bad == 0);
}

static void check_shape(awq_ctx *ctx, int64_t n, int64_t k, int bits, int64_t g, int symmetric, float size)
{
    float *w = random_halves(n * k, size, (uint64_t)(n * k + bits)),
          *back = (float *)malloc((size_t)(n * k) * 4);
    awq_qweight q;
    int64_t i, bad = 0, far = 0;
    int top = (1 << bits) - 1;
    memset(w, 0, (size_t)(g > 0 ? g : k) * sizeof *w); /* first group zero */
    CHECK(awq_qweight_alloc(ctx, n, k, bits, g, symmetric, &q) == AWQ_OK);
    CHECK(awq_quantize(ctx, w, &q) == AWQ_OK && awq_dequantize(ctx, &q, back) == AWQ_OK);
    for (i = 0; i < n * k; i++) {
        float s = q.scales[i / q.group_size];
        int z = q.zeros[i / q.group_size];
        bad += q.codes[i] > top || z > top || !(s > 0) || (symmetric && z != 1 << (bits - 1));
        bad += q.codes[i] != code_by_steps(w[i], s, (float)z, (float)top);
        bad += back[i] != (float)(q.codes[i] - z) * s;
        /* at most half a step off, one step at the clamped ends and for the rounding of min / s */
        far += fabsf(back[i] - w[i]) > s * 1.01f;
    }
    CHECK(bad == 0);
    if (n * k > 100 && !symmetric) CHECK_MSG(far * 50 < n * k, "%d of %d", (int)far, (int)(n * k));
    awq_qweight_free(ctx, &q);
    free(w);
    free(back);
}

static void test_shapes(void)
{
    awq_ctx ctx;
    int bits, sym;
    memset(&ctx, 0, sizeof ctx);
    for (bits = 2; bits <= 8; bits++)
        for (sym = 0; sym < 2; sym++) {
            check_shape(&ctx, 5, 48, bits, 16, sym, 0.5f);
            check_shape(&ctx, 3, 37, bits, -1, sym, 100.0f);
            check_shape(&ctx, 1, 6, bits, 3, sym, 1e-4f);
            check_shape(&ctx, 700, 192, bits, 64, sym, 0.05f); /* more than one job */
        }
    CHECK(ctx.memory_used == 0);
}

static void test_edges(void)
{
    awq_ctx ctx;
    awq_qweight q;
    float w[16];
    int i;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq_qweight_alloc(&ctx, 4, 4, 4, 4, 0, &q) == AWQ_OK);
    for (i = 0; i < 4; i++)
        w[i] = 65504, w[4 + i] = -65504, w[8 + i] = 0.0f * -1, w[12 + i] = awq__h(6e-8f) * (float)i;
    CHECK(awq_quantize(&ctx, w, &q) == AWQ_OK);
    CHECK(q.codes[0] == 15 && q.zeros[0] == 0); /* 65504 / tiny is Inf: clamped */
    CHECK(q.codes[4] == 0 && q.zeros[1] == 15);
    CHECK(q.codes[8] == 0 && q.zeros[2] == 0 && q.scales[2] > 0);
    awq_qweight_free(&ctx, &q);
    CHECK(q.codes == NULL && ctx.memory_used == 0);
    awq_qweight_free(&ctx, &q); /* twice is fine */
}

static void test_threads(void)
{
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_qweight a, b;
    float *w = random_halves(1000 * 96, 0.1f, 9);
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq_qweight_alloc(&ctx, 1000, 96, 3, 32, 0, &a) == AWQ_OK);
    CHECK(awq_qweight_alloc(&ctx, 1000, 96, 3, 32, 0, &b) == AWQ_OK);
    CHECK(awq_quantize(&ctx, w, &a) == AWQ_OK);
    CHECK(awq_pool_create(&ctx, 3, &pool) == AWQ_OK);
    ctx.jobs = awq_pool_jobs(pool);
    CHECK(awq_quantize(&ctx, w, &b) == AWQ_OK);
    CHECK(!memcmp(a.codes, b.codes, 96000) && !memcmp(a.zeros, b.zeros, 3000)
          && !memcmp(a.scales, b.scales, 12000));
    memset(&ctx.jobs, 0, sizeof ctx.jobs);
    awq_pool_free(&ctx, pool);
    awq_qweight_free(&ctx, &a);
    awq_qweight_free(&ctx, &b);
    CHECK(ctx.memory_used == 0);
    free(w);
}

static void test_statuses(void)
{
    awq_ctx ctx;
    awq_qweight q, bad;
    float w[64];
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(&q, 0x55, sizeof q);
    bad = q;
    CHECK(awq_qweight_alloc(&ctx, 4, 16, 1, 8, 0, &q) == AWQ_E_ARG && strstr(ctx.err.text, "bits is 1"));
    CHECK(awq_qweight_alloc(&ctx, 4, 16, 9, 8, 0, &q) == AWQ_E_ARG);
    CHECK(awq_qweight_alloc(&ctx, 4, 16, 4, 5, 0, &q) == AWQ_E_ARG && strstr(ctx.err.text, "group_size 5"));
    CHECK(awq_qweight_alloc(&ctx, 4, 16, 4, 32, 0, &q) == AWQ_E_ARG);
    CHECK(awq_qweight_alloc(&ctx, 0, 16, 4, 8, 0, &q) == AWQ_E_ARG);
    CHECK(awq_qweight_alloc(&ctx, 4, -1, 4, 0, 0, &q) == AWQ_E_ARG);
    CHECK(awq_qweight_alloc(&ctx, INT64_MAX, INT64_MAX, 4, 0, 0, &q) == AWQ_E_ARG);
    ctx.memory_limit = 1000;
    CHECK(awq_qweight_alloc(&ctx, 100, 100, 4, 0, 0, &q) == AWQ_E_MEMORY);
    ctx.memory_limit = 0;
    CHECK(!memcmp(&q, &bad, sizeof q)); /* untouched */

    CHECK(awq_qweight_alloc(&ctx, 4, 16, 4, 8, 0, &q) == AWQ_OK);
    for (i = 0; i < 64; i++) w[i] = (float)i;
    memset(q.codes, 7, 64);
    w[37] = NAN;
    CHECK(awq_quantize(&ctx, w, &q) == AWQ_E_NUMERIC && strstr(ctx.err.text, "[2][5]"));
    w[37] = -INFINITY;
    CHECK(awq_quantize(&ctx, w, &q) == AWQ_E_NUMERIC);
    w[37] = 65520; /* rounds to Inf in fp16 */
    CHECK(awq_quantize(&ctx, w, &q) == AWQ_E_NUMERIC);
    w[37] = -65504;
    w[38] = 65504;
    CHECK(awq_quantize(&ctx, w, &q) == AWQ_E_NUMERIC && strstr(ctx.err.text, "row 2, group 0"));
    CHECK(q.codes[0] == 7 && q.codes[63] == 7); /* untouched */
    w[37] = w[38] = 0;
    CHECK(awq_quantize(&ctx, w, &q) == AWQ_OK);
    bad = q;
    bad.scales = NULL;
    CHECK(awq_quantize(&ctx, w, &bad) == AWQ_E_ARG && awq_dequantize(&ctx, &bad, w) == AWQ_E_ARG);
    bad = q;
    bad.scale_dtype = AWQ_I8;
    CHECK(awq_quantize(&ctx, w, &bad) == AWQ_E_ARG && strstr(ctx.err.text, "scale_dtype"));
    awq_qweight_free(&ctx, &q);
    CHECK(ctx.memory_used == 0);
}

static void test_allocation_failures(void)
{
    float w[64];
    long k;
    int i, ok = 0;
    for (i = 0; i < 64; i++) w[i] = (float)i;
    for (k = 0; k < 8 && !ok; k++) {
        fail_alloc f = {0, 0, 0};
        awq_ctx ctx;
        awq_qweight q;
        awq_status st;
        f.fail_at = k;
        memset(&ctx, 0, sizeof ctx);
        memset(&q, 0, sizeof q);
        ctx.allocator = fail_allocator(&f);
        st = awq_qweight_alloc(&ctx, 4, 16, 4, 8, 0, &q);
        if (!st) st = awq_quantize(&ctx, w, &q);
        CHECK(st == AWQ_OK || st == AWQ_E_MEMORY);
        ok = st == AWQ_OK;
        awq_qweight_free(&ctx, &q);
        CHECK(f.live == 0 && ctx.memory_used == 0);
    }
    CHECK(ok && k > 3);
}

static void check_golden(int first, int last)
{
    awq_ctx ctx;
    int i, sym;
    memset(&ctx, 0, sizeof ctx);
    for (i = first; i < last; i++) {
        int64_t n = golden_shapes[i].n, k = golden_shapes[i].k, g = golden_shapes[i].g, o, c, bad = 0;
        golden f;
        size_t count;
        float *w, *scales;
        if (!golden_open_shape(&f, i)) {
            CHECK_MSG(0, "cannot read %s", golden_shapes[i].name);
            continue;
        }
        w = golden_half(&f, "W_orig_fp16", &count);
        CHECK(w && count == (size_t)(n * k));
        for (sym = 0; sym < 2; sym++) {
            awq_qweight q;
            void *ints = golden_tensor(&f, sym ? "sym.ints_NK_i8" : "ints_KN_u8", &count);
            int32_t *zeros = (int32_t *)golden_tensor(&f, "zeros_NG", &count);
            scales = golden_half(&f, sym ? "sym.scales_NG" : "scales_NG", &count);
            if (scales && ints) {
                CHECK(awq_qweight_alloc(&ctx, n, k, 4, g, sym, &q) == AWQ_OK
                      && awq_quantize(&ctx, w, &q) == AWQ_OK);
                for (o = 0; o < n * (k / g); o++)
                    bad += q.scales[o] != scales[o] || q.zeros[o] != (sym ? 8 : zeros[o]);
                for (o = 0; o < n; o++)
                    for (c = 0; c < k; c++)
                        bad += q.codes[o * k + c]
                               != (sym ? ((int8_t *)ints)[o * k + c] + 8 : ((uint8_t *)ints)[c * n + o]);
                CHECK_MSG(bad == 0, "%s: %d differ", golden_shapes[i].name, (int)bad);
                awq_qweight_free(&ctx, &q);
            } else CHECK(sym);
            free(ints);
            free(zeros);
            free(scales);
        }
        free(w);
        golden_close(&f);
    }
    CHECK(ctx.memory_used == 0);
}

static void test_golden_small(void) { check_golden(0, GOLDEN_SHIPPED); }

static void test_golden_all(void)
{
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    check_golden(GOLDEN_SHIPPED, GOLDEN_ALL);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_round_even);
    RUN(test_grid);
    RUN(test_code_steps);
    RUN(test_shapes);
    RUN(test_edges);
    RUN(test_threads);
    RUN(test_statuses);
    RUN(test_allocation_failures);
    RUN(test_golden_small);
    RUN(test_golden_all);
    return TEST_END();
}
