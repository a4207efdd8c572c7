/* Linears in integer arithmetic: the scalar specification against double precision, every instruction set against
   it bit for bit, all shapes of chunks, batches and threads, what is not a number, failing allocations. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

/* kind 1: with outliers, 2: nearly all of them small, 3: all as large as they can be */
static void fill(float *x, int64_t n, uint64_t seed, int kind)
{
    int64_t i;
    for (i = 0; i < n; i++) {
        float size = 1;
        if (kind == 1 && awq__random_unit(&seed) < 0.01f) size = 300;
        if (kind == 2 && awq__random_unit(&seed) < 0.9f) size = 1e-6f;
        x[i] = (awq__random_unit(&seed) * 2 - 1) * size;
        if (kind == 3) x[i] = i / 128 % 2 ? 1.0f : -1.0f;
    }
}

static awq_qweight random_qweight(awq_ctx *ctx, int64_t n, int64_t k, int bits, int64_t g, int symmetric)
{
    awq_qweight w;
    float *x = (float *)malloc((size_t)(n * k) * sizeof *x);
    fill(x, n * k, (uint64_t)(n + k + bits), 0);
    CHECK(awq_qweight_alloc(ctx, n, k, bits, g, symmetric, &w) == AWQ_OK && awq_quantize(ctx, x, &w) == AWQ_OK);
    free(x);
    return w;
}

/* y of one instruction set; the others' must be the same bits */
static void check_shape(int64_t n, int64_t k, int64_t g, int bits, int64_t m, int kind)
{
    awq_ctx ctx;
    awq_qweight w;
    awq_linear l;
    float *x = (float *)malloc((size_t)(m * k) * sizeof *x), *dense = (float *)malloc((size_t)(n * k) * sizeof *x);
    float *y = (float *)malloc((size_t)(m * n + 1) * sizeof *y), *other = (float *)malloc((size_t)(m * n + 1) * sizeof *y);
    float *bias = (float *)malloc((size_t)n * sizeof *bias);
    int64_t t, i, j, far = 0;
    int isa;
    memset(&ctx, 0, sizeof ctx);
    fill(x, m * k, (uint64_t)(m + k), kind);
    fill(bias, n, 7, 0);
    w = random_qweight(&ctx, n, k, bits, g, bits == 5);
    if (bits == 6 || k == 96) { /* scales that are no fp16 numbers */
        w.scale_dtype = AWQ_F32;
        for (i = 0; i < n * (k / g); i++) w.scales[i] *= 1.0001f;
    }
    if (kind == 3) memset(w.codes, (1 << bits) - 1, (size_t)(n * k)); /* sums as large as they can be */
    CHECK(awq_dequantize(&ctx, &w, dense) == AWQ_OK);
    CHECK(awq_linear_prepare(&ctx, &w, AWQ_MODE_DETERMINISTIC, 0, bias, &l) == AWQ_OK);
    CHECK_MSG(l.chunk && g % l.chunk == 0 && l.chunk % 8 == 0, "chunk %d", (int)l.chunk);
    ctx.isa = AWQ_ISA_SCALAR;
    CHECK(awq_linear_run(&ctx, &l, x, m, y) == AWQ_OK);
    for (t = 0; t < m; t++)
        for (i = 0; i < n; i++) { /* the bound of the section's head: half a step of x a weight */
            double sum = bias[i], error = 1e-6 * fabs(sum);
            int64_t c;
            for (c = 0; c < k; c += l.chunk) {
                double most = 0, size = 0;
                for (j = c; j < c + l.chunk; j++) {
                    sum += (double)dense[i * k + j] * x[t * k + j];
                    most = AWQ__MAX(most, fabs((double)x[t * k + j]));
                    size += fabs((double)dense[i * k + j]);
                    error += 1e-6 * fabs((double)dense[i * k + j] * x[t * k + j]);
                }
                error += size * most / 4078 * 1.0001;
            }
            far += fabs(sum - y[t * n + i]) > error;
        }
    CHECK_MSG(!far, "%d x %d, group %d, %d bits, m %d: %d are too far", (int)n, (int)k, (int)g, bits, (int)m, (int)far);
    for (isa = AWQ_ISA_SCALAR; isa <= (int)awq_best_isa(); isa++) {
        ctx.isa = (awq_isa)isa;
        if (awq__isa(&ctx) != ctx.isa) continue; /* of another kind of processor */
        memset(other, 0xff, (size_t)(m * n + 1) * sizeof *other);
        CHECK(awq_linear_run(&ctx, &l, x, m, other) == AWQ_OK);
        CHECK_MSG(!memcmp(y, other, (size_t)(m * n) * sizeof *y), "%s: %d x %d, group %d, %d bits, m %d differ",
                  awq_isa_name((awq_isa)isa), (int)n, (int)k, (int)g, bits, (int)m);
        CHECK(awq__float_bits(other[m * n]) == 0xffffffffu);
    }
    awq_linear_free(&ctx, &l);
    awq_qweight_free(&ctx, &w);
    CHECK(ctx.memory_used == 0);
    free(x), free(y), free(other), free(dense), free(bias);
}

static void test_shapes(void)
{
    static const int shapes[][3] = {/* out, in, group */
                                    {32, 128, 128}, {1, 16, 16}, {33, 64, 32}, {48, 192, 64}, {70, 576, 576}, {31, 352, 176},
                                    {64, 1024, 256}, {96, 96, 24}, {17, 4544, 64}, {5, 160, 80}, {40, 1408, 128}};
    static const int rows[] = {1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130};
    size_t i, j;
    int bits;
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (bits = 2; bits <= 8; bits++) {
            j = (i * 7 + (size_t)bits) % (sizeof rows / sizeof rows[0]);
            check_shape(shapes[i][0], shapes[i][1], shapes[i][2], bits, rows[j], (int)(i % 3));
        }
    for (j = 0; j < sizeof rows / sizeof rows[0]; j++) {
        check_shape(70, 384, 128, 4, rows[j], 1);
        check_shape(64, 256, 64, 4, rows[j], 0);
        check_shape(33, 96, 32, 4, rows[j], 2);
        check_shape(64, 256, 128, 8, rows[j], 1);
        check_shape(32, 256, 128, j % 2 ? 4 : 8, rows[j], 3);
    }
}

/* fast mode, where many rows of x may go through bf16: near the double, the same bits for any number of threads */
static void check_fast(int64_t n, int64_t k, int64_t g, int bits, awq_dtype dtype, int64_t m)
{
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_qweight w;
    awq_linear l;
    float *x = (float *)malloc((size_t)(m * k) * sizeof *x), *dense = (float *)malloc((size_t)(n * k) * sizeof *x);
    float *y = (float *)malloc((size_t)(m * n + 1) * sizeof *y), *other = (float *)malloc((size_t)(m * n + 1) * sizeof *y);
    float *bias = (float *)malloc((size_t)n * sizeof *bias);
    void *stored = calloc((size_t)(n * k), 4);
    int64_t t, i, j, far = 0;
    double bound = bits ? 1.0 / 127 : 1.0 / 50000; /* bf16 has 8 bits: 2^-8 of x, and of a weight */
    memset(&ctx, 0, sizeof ctx);
    memset(&w, 0, sizeof w);
    fill(x, m * k, (uint64_t)(m + k), 1);
    fill(bias, n, 7, 0);
    fill(dense, n * k, 11, 0);
    if (bits) {
        w = random_qweight(&ctx, n, k, bits, g, 0);
        CHECK(awq_dequantize(&ctx, &w, dense) == AWQ_OK);
        CHECK(awq_linear_prepare(&ctx, &w, AWQ_MODE_FAST, 0, bias, &l) == AWQ_OK);
    } else {
        CHECK(awq_from_float(&ctx, dtype, dense, n * k, stored) == AWQ_OK);
        awq__to_float(dtype, stored, n * k, dense);
        CHECK(awq_linear_dense(&ctx, dtype, stored, n, k, bias, &l) == AWQ_OK);
        l.mode = AWQ_MODE_FAST;
    }
    memset(y, 0xff, (size_t)(m * n + 1) * sizeof *y);
    CHECK(awq_linear_run(&ctx, &l, x, m, y) == AWQ_OK && awq__float_bits(y[m * n]) == 0xffffffffu);
    for (t = 0; t < m; t += m > 128 ? 3 : 1)
        for (i = 0; i < n; i++) {
            double sum = bias[i], size = fabs(sum), most = 0, weights = 0;
            for (j = 0; j < k; j++) {
                sum += (double)dense[i * k + j] * x[t * k + j];
                size += fabs((double)dense[i * k + j] * x[t * k + j]);
                most = AWQ__MAX(most, fabs((double)x[t * k + j]));
                weights += fabs((double)dense[i * k + j]);
            }
            size = size * bound + (bits ? most * weights / 4078 : 0);
            far += fabs(sum - y[t * n + i]) > size || y[t * n + i] != y[t * n + i];
        }
    CHECK_MSG(!far, "%d x %d, group %d, %d bits, %s, m %d: %d are too far", (int)n, (int)k, (int)g, bits,
              awq_dtype_name(dtype), (int)m, (int)far);
    CHECK(awq_pool_create(&ctx, 3, &pool) == AWQ_OK);
    ctx.jobs = awq_pool_jobs(pool);
    CHECK(awq_linear_run(&ctx, &l, x, m, other) == AWQ_OK && !memcmp(y, other, (size_t)(m * n) * sizeof *y));
    memset(&ctx.jobs, 0, sizeof ctx.jobs);
    awq_pool_free(&ctx, pool);
    x[(m - 1) * k + k / 2] = NAN;
    CHECK(awq_linear_run(&ctx, &l, x, m, other) == AWQ_OK);
    for (i = 0, far = 0; i < m * n; i++) far += (i >= (m - 1) * n) != (other[i] != other[i]);
    CHECK_MSG(!far, "NaN: %d", (int)far);
    awq_linear_free(&ctx, &l);
    awq_qweight_free(&ctx, &w);
    CHECK(ctx.memory_used == 0);
    free(x), free(y), free(other), free(dense), free(bias), free(stored);
}

static void test_fast(void)
{
    static const int shapes[][3] = {{32, 128, 128}, {33, 64, 32}, {70, 576, 64}, {100, 1024, 256}, {31, 416, 32}, {64, 352, 176}};
    static const int large[][3] = {{600, 640, 128}, {300, 1152, 64}}; /* more than a job takes of each */
    static const awq_dtype dtypes[] = {AWQ_F32, AWQ_F16, AWQ_BF16};
    static const int rows[] = {16, 17, 31, 32, 33, 64, 65, 100, 128, 129, 200, 300};
    int i, k, r = 0;
    for (i = 0; i < 6; i++)
        for (k = 0; k < 8; k++, r++) {
            int m = rows[r % 12], odd = k % 3 - 1;
            if (k < 4) check_fast(shapes[i][0], shapes[i][1], shapes[i][2], k == 3 ? 8 : 4, AWQ_F16, m + 48);
            else check_fast(shapes[i][0] + i, shapes[i][1] + odd, 0, 0, dtypes[k % 3], m);
        }
    for (i = 0; i < 2; i++) {
        check_fast(large[i][0], large[i][1], large[i][2], i ? 8 : 4, AWQ_F16, 531);
        if (TEST_STRIDE == 1) check_fast(large[i][0], large[i][1] + i, 0, 0, i ? AWQ_F32 : AWQ_BF16, 531);
    }
}

/* gate and up in one step, packed for down, as the model has them: near the double */
static void check_pair(awq_act act, int64_t n, int64_t k, int bits, int with_bias, int64_t m)
{
    awq_ctx ctx;
    awq_qweight w[2];
    awq_linear l[2];
    awq_config c;
    awq__layer layer;
    awq__work work;
    awq_pool *pool = NULL;
    float *x = (float *)malloc((size_t)(m * k) * sizeof *x), *dense = (float *)malloc((size_t)(n * k) * sizeof *x);
    float *sums[2], *errors[2], *bias = (float *)malloc((size_t)n * sizeof *bias);
    uint16_t *packed = NULL, *again;
    int64_t t, i, j, far = 0, tiles = (m + 15) / 16 * 16;
    int s;
    memset(&ctx, 0, sizeof ctx);
    memset(&c, 0, sizeof c);
    memset(&layer, 0, sizeof layer);
    c.act = act;
    c.act_alpha = 1.702;
    c.act_limit = 3;
    fill(x, m * k, (uint64_t)(m + k), 1);
    fill(bias, n, 7, 0);
    for (s = 0; s < 2; s++) {
        w[s] = random_qweight(&ctx, n, k, bits, 32, 0);
        for (i = 0; i < n * (k / 32); i++) w[s].scales[i] = awq__h(0.02f * (float)(1 + i % 3) / (float)(bits == 8 ? 16 : 1));
        for (i = 0; s && i < n * k; i++) w[s].codes[i] ^= 1; /* not the same */
        CHECK(awq_dequantize(&ctx, &w[s], dense) == AWQ_OK);
        CHECK(awq_linear_prepare(&ctx, &w[s], AWQ_MODE_FAST, 0, with_bias ? bias : NULL, &l[s]) == AWQ_OK);
        sums[s] = (float *)malloc((size_t)(m * n) * sizeof(float));
        errors[s] = (float *)malloc((size_t)(m * n) * sizeof(float));
        for (t = 0; t < m; t++)
            for (i = 0; i < n; i++) {
                double sum = with_bias ? bias[i] : 0, size = 0;
                for (j = 0; j < k; j++) {
                    sum += (double)dense[i * k + j] * x[t * k + j];
                    size += fabs((double)dense[i * k + j] * x[t * k + j]);
                }
                sums[s][t * n + i] = (float)sum;
                errors[s][t * n + i] = (float)(size / 127);
            }
    }
    layer.linear[AWQ_GATE_PROJ] = l[0];
    layer.linear[AWQ_UP_PROJ] = l[1];
    layer.linear[AWQ_DOWN_PROJ] = l[0]; /* in tiles */
    c.hidden_size = (int)k;
    c.intermediate_size = (int)n;
    c.num_hidden_layers = c.num_attention_heads = c.num_key_value_heads = 1;
    c.head_dim = c.v_head_dim = 64;
    c.rope_dim = 64;
    c.rope[0].theta = c.rope[1].theta = 10000;
    for (s = 0; s < 2; s++) { /* on one thread and on three */
        CHECK(awq__work_alloc(&ctx, &c, m, &work) == AWQ_OK);
        work.fast = 1;
        if (!awq__paired(&ctx, &work, &layer, m)) {
            awq__work_free(&ctx, &work);
            break;
        }
        memcpy(work.xn, x, (size_t)(m * k) * sizeof *x);
        if (s) {
            CHECK(awq_pool_create(&ctx, 3, &pool) == AWQ_OK);
            ctx.jobs = awq_pool_jobs(pool);
        }
        CHECK(awq__steps(&ctx, &c, &layer, 0, &work, m, AWQ__PACK_MLP, AWQ__PACK_DOWN, NULL, NULL) == AWQ_OK);
        again = (uint16_t *)work.gate;
        if (!s) {
            packed = (uint16_t *)malloc((size_t)(tiles * n) * sizeof *packed);
            memcpy(packed, again, (size_t)(tiles * n) * sizeof *packed);
        }
        for (t = 0; t < m; t++)
            for (i = 0; i < n; i++) {
                int64_t steps = (n + 31) / 32, at = i / 32, first = at / 8 * 8;
                int64_t tile = first * (tiles / 16) + t / 16 * AWQ__MIN(steps - first, (int64_t)8) + at - first;
                far += packed[tile * 512 + t % 16 * 32 + i % 32] != again[tile * 512 + t % 16 * 32 + i % 32];
                if (!s) {
                    double g = sums[0][t * n + i], u = sums[1][t * n + i], want, z = g, slack;
                    double dg = errors[0][t * n + i], du = errors[1][t * n + i];
                    float got = awq__bits_float((uint32_t)packed[tile * 512 + t % 16 * 32 + i % 32] << 16);
                    if (act == AWQ_ACT_GELU_TANH) z = 1.5957691216057308 * (g + 0.044715 * g * g * g);
                    if (act == AWQ_ACT_SWIGLU) {
                        g = AWQ__MIN(g, c.act_limit);
                        u = 1 + AWQ__MAX(AWQ__MIN(u, c.act_limit), -c.act_limit);
                        z = g * c.act_alpha;
                    }
                    want = g / (1 + exp(-z)) * u;
                    slack = 1.13 * dg * (fabs(u) + du) + fabs(want / (u != 0 ? u : 1)) * du + fabs(want) / 250; /* act' < 1.13 */
                    far += !(fabs(got - want) <= slack);
                }
            }
        awq__work_free(&ctx, &work);
    }
    for (s = 1; s < 2000; s += s / 2 + 1) { /* what a job adds up fits its slot, whatever is said of threads */
        awq__task task;
        ctx.jobs.threads = s;
        CHECK(awq__work_alloc(&ctx, &c, m, &work) == AWQ_OK);
        work.fast = 1;
        if (awq__paired(&ctx, &work, &layer, m)) {
            awq__task_set(&ctx, &c, &layer, 0, &work, m, AWQ__GATE_UP, &task);
            CHECK_MSG(work.mm->rows >= 32 && (size_t)(2 * work.mm->rows * work.mm->tokens) <= work.sums.floats
                      && work.sums.floats * (size_t)work.sums.n <= work.sums.all,
                      "%d threads: %d rows, %d tokens, slots of %d", s, (int)work.mm->rows, (int)work.mm->tokens,
                      (int)work.sums.floats);
        }
        awq__work_free(&ctx, &work);
    }
    CHECK_MSG(!far, "act %d, %d x %d, %d bits, m %d: %d are too far", act, (int)n, (int)k, bits, (int)m, (int)far);
    memset(&ctx.jobs, 0, sizeof ctx.jobs);
    awq_pool_free(&ctx, pool);
    for (s = 0; s < 2; s++) {
        awq_linear_free(&ctx, &l[s]);
        awq_qweight_free(&ctx, &w[s]);
        free(sums[s]), free(errors[s]);
    }
    CHECK(ctx.memory_used == 0);
    free(x), free(dense), free(bias), free(packed);
}

static void test_pair(void)
{
    check_pair(AWQ_ACT_SILU, 64, 64, 4, 0, 64);
    check_pair(AWQ_ACT_SILU, 352, 96, 4, 1, 131);
    check_pair(AWQ_ACT_GELU_TANH, 160, 128, 8, 1, 77);
    check_pair(AWQ_ACT_SWIGLU, 288, 64, 4, 1, 90);
    check_pair(AWQ_ACT_SILU, 320, 640, 8, 0, 600);
}

/* a row's result depends neither on its batch nor on the threads */
static void test_batches_and_threads(void)
{
    enum { N = 300, K = 640, M = 150 };
    awq_ctx ctx;
    awq_qweight w;
    awq_linear l;
    awq_pool *pool = NULL;
    float *x = (float *)malloc(M * K * sizeof *x), *all = (float *)malloc(M * N * sizeof *x);
    float *some = (float *)malloc(M * N * sizeof *x);
    int64_t at, n, sizes[] = {1, 3, 8, 16, 40, 82};
    int i;
    memset(&ctx, 0, sizeof ctx);
    fill(x, M * K, 3, 1);
    w = random_qweight(&ctx, N, K, 4, 128, 0);
    CHECK(awq_linear_prepare(&ctx, &w, AWQ_MODE_DETERMINISTIC, 0, NULL, &l) == AWQ_OK);
    CHECK(awq_linear_run(&ctx, &l, x, M, all) == AWQ_OK);
    for (i = 0, at = 0; i < 6; i++, at += n) {
        n = sizes[i];
        CHECK(awq_linear_run(&ctx, &l, x + at * K, n, some + at * N) == AWQ_OK);
    }
    CHECK(at == M && !memcmp(all, some, M * N * sizeof *x));
    for (i = 2; i < 8; i += 5) {
        CHECK(awq_pool_create(&ctx, i, &pool) == AWQ_OK);
        ctx.jobs = awq_pool_jobs(pool);
        memset(some, 0, M * N * sizeof *x);
        CHECK(awq_linear_run(&ctx, &l, x, M, some) == AWQ_OK && !memcmp(all, some, M * N * sizeof *x));
        memset(&ctx.jobs, 0, sizeof ctx.jobs);
        awq_pool_free(&ctx, pool);
    }
    awq_linear_free(&ctx, &l);
    awq_qweight_free(&ctx, &w);
    free(x), free(all), free(some);
}

static void test_values(void)
{
    enum { N = 40, K = 256 };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    awq_ctx ctx;
    awq_qweight w;
    awq_linear l;
    float x[3 * K], y[3 * N], zero[3 * N];
    int isa, i, k, wrong;
    memset(&ctx, 0, sizeof ctx);
    w = random_qweight(&ctx, N, K, 4, 64, 0);
    CHECK(awq_linear_prepare(&ctx, &w, AWQ_MODE_FAST, 0, NULL, &l) == AWQ_OK);
    for (isa = AWQ_ISA_SCALAR; isa <= (int)awq_best_isa(); isa++) {
        ctx.isa = (awq_isa)isa;
        if (awq__isa(&ctx) != ctx.isa) continue;
        memset(x, 0, sizeof x);
        memset(zero, 0, sizeof zero);
        CHECK(awq_linear_run(&ctx, &l, x, 3, y) == AWQ_OK && !memcmp(y, zero, sizeof y));
        for (i = 0; i < 3 * K; i++) x[i] = i % 2 ? 1e-40f : -1e-44f; /* denormal: too small to tell from 0 */
        CHECK(awq_linear_run(&ctx, &l, x, 3, y) == AWQ_OK && !memcmp(y, zero, sizeof y));
        for (k = 0; k < 3; k++) { /* what is not a number is noticed in its row, and there alone */
            for (i = 0; i < 3 * K; i++) x[i] = 0.5f;
            x[K + 77] = bad[k];
            CHECK(awq_linear_run(&ctx, &l, x, 3, y) == AWQ_OK);
            for (i = 0, wrong = 0; i < 3 * N; i++) wrong += (i >= N && i < 2 * N) != (y[i] != y[i]);
            CHECK_MSG(!wrong, "%s: %d", awq_isa_name((awq_isa)isa), wrong);
        }
        for (i = 0; i < 3 * K; i++) x[i] = i % 3 ? 3e38f : -3e38f; /* as large as floats are */
        CHECK(awq_linear_run(&ctx, &l, x, 3, y) == AWQ_OK);
        for (i = 0, wrong = 0; i < 3 * N; i++) wrong += y[i] != y[i];
        CHECK(!wrong);
    }
    awq_linear_free(&ctx, &l);
    awq_qweight_free(&ctx, &w);
}

static void test_odd_groups(void) /* that have no chunks are run exactly */
{
    awq_ctx ctx;
    awq_qweight w;
    awq_linear l, e;
    float x[3 * 66], y[3 * 20], z[3 * 20];
    memset(&ctx, 0, sizeof ctx);
    fill(x, 3 * 66, 1, 0);
    w = random_qweight(&ctx, 20, 66, 4, 33, 0);
    CHECK(awq_linear_prepare(&ctx, &w, AWQ_MODE_FAST, 0, NULL, &l) == AWQ_OK && !l.chunk);
    CHECK(awq_linear_prepare(&ctx, &w, AWQ_MODE_EXACT, 0, NULL, &e) == AWQ_OK);
    CHECK(awq_linear_run(&ctx, &l, x, 3, y) == AWQ_OK && awq_linear_run(&ctx, &e, x, 3, z) == AWQ_OK);
    CHECK(!memcmp(y, z, sizeof y));
    awq_linear_free(&ctx, &l);
    awq_linear_free(&ctx, &e);
    awq_qweight_free(&ctx, &w);
}

static void test_allocation_failures(void)
{
    awq_ctx plain;
    awq_qweight w;
    float x[5 * 128], y[5 * 40], bias[40];
    long k;
    int ok = 0;
    memset(&plain, 0, sizeof plain);
    fill(x, 5 * 128, 1, 0);
    fill(bias, 40, 1, 0);
    w = random_qweight(&plain, 40, 128, 4, 128, 0);
    for (k = 0; k < 8 && !ok; k++) {
        fail_alloc f = {0, 0, 0};
        awq_ctx ctx;
        awq_linear l;
        awq_status st;
        f.fail_at = k;
        memset(&ctx, 0, sizeof ctx);
        memset(&l, 0, sizeof l);
        ctx.allocator = fail_allocator(&f);
        st = awq_linear_prepare(&ctx, &w, AWQ_MODE_FAST, 0, bias, &l);
        if (!st) st = awq_linear_run(&ctx, &l, x, 5, y);
        CHECK(st == AWQ_OK || st == AWQ_E_MEMORY);
        ok = st == AWQ_OK;
        awq_linear_free(&ctx, &l);
        CHECK(f.live == 0 && ctx.memory_used == 0);
    }
    CHECK(ok && k == 5);
    awq_qweight_free(&plain, &w);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_shapes);
    RUN(test_fast);
    RUN(test_pair);
    RUN(test_batches_and_threads);
    RUN(test_values);
    RUN(test_odd_groups);
    RUN(test_allocation_failures);
    return TEST_END();
}
