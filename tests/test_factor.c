/* What method best computes with: products, factors, solving and rounding with error feedback. Each against its definition
   in plain loops, and every instruction set and number of threads against the scalar one bit for bit. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

static float *random_floats(int64_t n, uint64_t seed)
{
    float *x = (float *)malloc((size_t)n * sizeof *x + 1);
    int64_t i;
    for (i = 0; i < n; i++) x[i] = awq__random_unit(&seed) * 2 - 1;
    return x;
}

static float *copy_of(const float *x, int64_t n)
{
    float *y = (float *)malloc((size_t)n * sizeof *y + 1);
    memcpy(y, x, (size_t)n * sizeof *y);
    return y;
}

/* moments of random rows, which lean on each other */
static float *random_moments(int64_t n, uint64_t seed)
{
    float *m = (float *)calloc((size_t)(n * n), sizeof *m), *x = (float *)malloc((size_t)n * sizeof *x);
    int64_t r, i, j, rows = AWQ__MIN(3 * n, 500);
    for (r = 0; r < rows; r++) {
        for (i = 0; i < n; i++) x[i] = awq__random_unit(&seed) * 2 - 1 + (i ? 0.7f * x[i - 1] : 0);
        for (i = 0; i < n; i++)
            for (j = 0; j < n; j++) m[i * n + j] += x[i] * x[j] / (float)rows;
    }
    free(x);
    return m;
}

/* one of the ways to compute: 0 scalar alone, then each instruction set, alone and with three threads; 0 at the end */
typedef struct way {
    awq_ctx ctx;
    awq_pool *pool;
    int next;
} way;

static int next_way(way *w)
{
    int isa;
    if (w->pool) awq_pool_free(&w->ctx, w->pool);
    w->pool = NULL;
    do {
        isa = AWQ_ISA_SCALAR + w->next / 2;
        if (isa > (int)awq_best_isa()) return 0;
        memset(&w->ctx, 0, sizeof w->ctx);
        w->ctx.isa = (awq_isa)isa;
        w->next++;
    } while (awq__isa(&w->ctx) != (awq_isa)isa); /* of another kind of processor */
    if (w->next % 2) return 1;
    CHECK(!awq_pool_create(&w->ctx, 3, &w->pool));
    w->ctx.jobs = awq_pool_jobs(w->pool);
    return 1;
}

/* y [m, n] += sign x w, in blocks of inputs */
static void plain_product(float sign, const float *w, int64_t w_in, int64_t w_out, int64_t out, int64_t in,
                          const float *x, int64_t x_stride, int64_t m, float *y, int64_t y_stride)
{
    int64_t t, o, k, from;
    for (t = 0; t < m; t++)
        for (o = 0; o < out; o++)
            for (from = 0; from < in; from += AWQ__PRODUCT_IN) {
                float sum = 0;
                for (k = from; k < AWQ__MIN(from + AWQ__PRODUCT_IN, in); k++)
                    sum = fmaf(x[t * x_stride + k], sign * w[k * w_in + o * w_out], sum);
                y[t * y_stride + o] += sum;
            }
}

static void test_product(void)
{
    static const int shapes[][3] = {/* out, in, rows */
                                    {1, 1, 1},    {5, 3, 2},     {31, 17, 7},  {32, 128, 6},   {33, 129, 48},
                                    {64, 64, 49}, {65, 127, 13}, {70, 300, 5}, {200, 257, 103}, {128, 1000, 12},
                                    {40, 0, 9},   {7, 20, 0}};
    size_t i;
    int turned, k;
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (turned = 0; turned < 2; turned++) {
            int64_t out = shapes[i][0], in = shapes[i][1], m = shapes[i][2], xs = in + 3, ys = out + 5, r;
            int64_t nx = m ? (m - 1) * xs + in : 0, ny = m ? (m - 1) * ys + out : 0; /* nothing behind the last row */
            float *w = random_floats(out * in, i), *x = random_floats(nx, i + 50), *y0 = random_floats(ny, i + 90);
            float *packed = (float *)malloc((size_t)(AWQ__PRODUCT_PACK * in) * sizeof *packed);
            float *want = copy_of(y0, ny), sign = i % 2 ? -1.0f : 1.0f;
            int64_t w_in = turned ? out : 1, w_out = turned ? 1 : in;
            way v;
            memset(&v, 0, sizeof v);
            plain_product(sign, w, w_in, w_out, out, in, x, xs, m, want, ys);
            while (next_way(&v)) {
                float *y = copy_of(y0, ny);
                awq__product_add(&v.ctx, sign, w, w_in, w_out, out, in, x, xs, m, y, ys, packed);
                for (k = 0, r = 0; r < ny; r++) k += memcmp(y + r, want + r, 4) != 0; /* what is between rows too */
                CHECK_MSG(k == 0, "%s, %d threads: %d x %d, %d rows: %d differ", awq_isa_name(v.ctx.isa),
                          v.pool ? 3 : 1, (int)out, (int)in, (int)m, k);
                free(y);
            }
            free(w), free(x), free(y0), free(packed), free(want);
        }
}

/* the same bits as before by every way */
static void same_bits(const way *v, float **first, float *got, int64_t n, const char *what, int64_t size)
{
    if (!*first) {
        *first = got;
        return;
    }
    CHECK_MSG(!memcmp(*first, got, (size_t)n * sizeof *got), "%s of %d: %s with %d threads differs", what, (int)size,
              awq_isa_name(v->ctx.isa), v->pool ? 3 : 1);
    free(got);
}

static void test_factors(void)
{
    static const int sizes[] = {1, 2, 15, 63, 64, 65, 128, 150, 200};
    size_t at;
    for (at = 0; at < sizeof sizes / sizeof sizes[0]; at++) {
        int64_t n = sizes[at], rows = 37, i, j, k;
        float *m = random_moments(n, at + 3), *w = random_floats(rows * n, at);
        float *lower = NULL, *solved = NULL, *factor = NULL;
        float *packed = (float *)malloc((size_t)(AWQ__PRODUCT_PACK * n) * sizeof *packed), shift = 0.01f, damp = 0.03f;
        double far = 0, mean = 0;
        way v;
        memset(&v, 0, sizeof v);
        while (next_way(&v)) {
            float *l = (float *)malloc((size_t)(n * n) * sizeof *l), *f = (float *)malloc((size_t)(n * n) * sizeof *f);
            float *x = copy_of(w, rows * n);
            awq__cholesky(&v.ctx, m, n, shift, l, packed);
            for (i = 0; i < n; i++)
                for (j = i + 1; j < n; j++) l[i * n + j] = 0; /* left undefined */
            awq__solve(&v.ctx, l, n, x, rows, packed);
            awq__feedback_factor(&v.ctx, m, n, damp, f, packed);
            for (i = 0; i < n; i++)
                for (j = i + 1; j < n; j++) f[i * n + j] = 0;
            same_bits(&v, &lower, l, n * n, "factor", n);
            same_bits(&v, &solved, x, rows * n, "solution", n);
            same_bits(&v, &factor, f, n * n, "feedback", n);
        }
        for (i = 0; i < n; i++) /* L L^T = M + shift */
            for (j = 0; j <= i; j++) {
                double sum = 0;
                for (k = 0; k <= j; k++) sum += (double)lower[i * n + k] * lower[j * n + k];
                far = AWQ__MAX(far, fabs(sum - m[i * n + j] - (i == j ? shift : 0)));
            }
        CHECK_MSG(far < 2e-6, "factor of %d: %g", (int)n, far);
        for (far = 0, i = 0; i < rows; i++) /* X (M + shift) = W */
            for (j = 0; j < n; j++) {
                double sum = (double)solved[i * n + j] * shift;
                for (k = 0; k < n; k++) sum += (double)solved[i * n + k] * m[k * n + j];
                far = AWQ__MAX(far, fabs(sum - w[i * n + j]));
            }
        CHECK_MSG(far < 2e-4, "solution of %d: %g", (int)n, far);
        for (i = 0; i < n; i++) mean += m[i * n + i] / (double)n;
        for (far = 0, i = 0; i < n; i++) /* R R^T = M + damping, R upper: R_ij at [j][i] times R_jj */
            for (j = 0; j <= i; j++) {
                double sum = 0;
                for (k = i; k < n; k++) {
                    double d = factor[k * n + k], a = k == i ? 1 : factor[k * n + i], b = k == j ? 1 : factor[k * n + j];
                    sum += a * d * b * d;
                }
                far = AWQ__MAX(far, fabs(sum - m[i * n + j] - (i == j ? damp * mean : 0)));
            }
        CHECK_MSG(far < 2e-6, "feedback of %d: %g", (int)n, far);
        free(m), free(w), free(lower), free(solved), free(factor), free(packed);
    }
}

/* a row's group as awq__feedback_body rounds it for one range; returns the loss */
static float plain_group(const float *w, const float *base, const float *f, int64_t in, int64_t at, int64_t n, float s,
                         float z, float top, uint8_t *codes)
{
    float t[1024], loss = 0;
    int64_t i, j;
    memcpy(t, base, (size_t)n * sizeof *t);
    for (j = 0; j < n; j++) {
        float q = awq__round_even(t[j] / s) + z, r;
        q = q < 0 ? 0 : q > top ? top : q;
        codes[j] = (uint8_t)q;
        q = (q - z) * s;
        r = (t[j] - q) * f[(at + j) * in + at + j];
        loss = loss + r * r;
        for (i = j + 1; i < n; i++) t[i] = t[i] + (w[j] - q) * f[(at + i) * in + at + j];
    }
    return loss;
}

static void test_feedback(void)
{
    static const int cases[][6] = {/* out, in, group, bits, symmetric, no_clip */
                                   {1, 32, 8, 4, 0, 0},    {16, 64, 32, 4, 0, 0}, {37, 192, 64, 4, 1, 0},
                                   {18, 256, 128, 3, 0, 0}, {5, 512, 256, 4, 0, 0}, {3, 136, 136, 2, 0, 1},
                                   {33, 128, 64, 8, 0, 0}, {17, 60, 20, 4, 0, 1},  {2, 1024, 1024, 4, 0, 0}};
    size_t c;
    for (c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int64_t out = cases[c][0], in = cases[c][1], n = cases[c][2], at, o, i;
        int bits = cases[c][3], symmetric = cases[c][4], no_clip = cases[c][5], k, bad = 0;
        float *m = random_moments(in, c), *w0 = random_floats(out * in, c + 9), *w = copy_of(w0, out * in);
        float *f = (float *)malloc((size_t)(in * in) * sizeof *f), top = (float)((1 << bits) - 1);
        float *base = (float *)malloc((size_t)(out * n) * sizeof *base);
        float *packed = (float *)malloc((size_t)(AWQ__PRODUCT_PACK * in) * sizeof *packed);
        awq_ctx plain;
        awq_qweight want;
        double clip = 0, kept = 0;
        way v;
        memset(&plain, 0, sizeof plain);
        memset(&v, 0, sizeof v);
        awq__feedback_factor(&plain, m, in, 0.03f, f, packed);
        if (c == 1)
            for (i = 0; i < in; i++) w[7 * in + i] = w0[7 * in + i] = 0; /* a dead row */
        CHECK(!awq_qweight_alloc(&plain, out, in, bits, n, symmetric, &want));
        for (at = 0; at < in; at += n) {
            for (o = 0; o < out; o++) memcpy(base + o * n, w + o * in + at, (size_t)n * sizeof *w);
            plain_product(-1, f + at * in, 1, in, n, at, w, in, out, base, n); /* w: q - w so far */
            for (o = 0; o < out; o++) {
                float best = 3e38f, mn = base[o * n], mx = mn, *own = w + o * in + at;
                int chosen = 0;
                for (i = 0; i < n; i++) mn = AWQ__MIN(mn, base[o * n + i]), mx = AWQ__MAX(mx, base[o * n + i]);
                for (k = 0; k < (no_clip ? 1 : AWQ__FEEDBACK_TRIALS); k++) {
                    float shrink = (float)(1.0 - 0.07 * k), s, z, loss;
                    uint8_t codes[1024];
                    awq__grid_f32(mn * shrink, mx * shrink, bits, symmetric, &s, &z);
                    s = awq__h(s);
                    loss = plain_group(own, base + o * n, f, in, at, n, s, z, top, codes);
                    if (!(loss < best)) continue;
                    best = loss;
                    chosen = k;
                    want.scales[o * (in / n) + at / n] = s;
                    want.zeros[o * (in / n) + at / n] = (uint8_t)z;
                    memcpy(want.codes + o * in + at, codes, (size_t)n);
                }
                kept += (float)(1.0 - 0.07 * chosen) / (double)(out * (in / n));
                for (i = 0; i < n; i++)
                    own[i] = ((float)want.codes[o * in + at + i] - (float)want.zeros[o * (in / n) + at / n])
                                 * want.scales[o * (in / n) + at / n] - own[i];
            }
        }
        while (next_way(&v)) {
            float *e = copy_of(w0, out * in);
            awq_qweight q;
            CHECK(!awq_qweight_alloc(&v.ctx, out, in, bits, n, symmetric, &q));
            CHECK(!awq__feedback_round(&v.ctx, e, f, no_clip, &q, &clip, packed));
            bad = memcmp(q.codes, want.codes, (size_t)(out * in)) != 0;
            bad |= memcmp(q.zeros, want.zeros, (size_t)(out * (in / n))) != 0;
            bad |= memcmp(q.scales, want.scales, (size_t)(out * (in / n)) * sizeof *q.scales) != 0;
            bad |= memcmp(e, w, (size_t)(out * in) * sizeof *e) != 0;
            CHECK_MSG(!bad && fabs(clip - kept) < 1e-6, "%s, %d threads: %d x %d in groups of %d, clip %g, %g",
                      awq_isa_name(v.ctx.isa), v.pool ? 3 : 1, (int)out, (int)in, (int)n, clip, kept);
            awq_qweight_free(&v.ctx, &q);
            free(e);
        }
        for (i = 0; c < 2 && i < 3; i++) { /* no scale of fp16 is large enough; not a number; infinite */
            float *e = copy_of(w0, out * in);
            e[out * in - 1] = i == 0 ? 3e6f : i == 1 ? NAN : INFINITY;
            CHECK(awq__feedback_round(&plain, e, f, no_clip, &want, &clip, packed) == AWQ_E_NUMERIC);
            free(e);
        }
        awq_qweight_free(&plain, &want);
        free(m), free(w0), free(w), free(f), free(base), free(packed);
    }
}

static void test_moments(void) /* m += a^T b of weighted rows, exact and by whatever fast has */
{
    static const int shapes[][3] = {{5, 5, 3}, {64, 64, 600}, {130, 70, 513}, {100, 200, 1030}};
    size_t at;
    int same, fast;
    for (at = 0; at < sizeof shapes / sizeof shapes[0]; at++)
        for (same = 0; same < 2; same++)
            for (fast = 0; fast < 2; fast++) {
                int64_t wa = shapes[at][0], wb = same ? wa : shapes[at][1], n = shapes[at][2], i, j, r;
                int64_t most = AWQ__MAX(wa, wb);
                float *a = random_floats(n * wa, at), *b = same ? a : random_floats(n * wb, at + 5);
                float *t[2], *weight = random_floats(n, at + 8), *first = NULL;
                float *block = (float *)malloc((size_t)AWQ__MOMENT_FLOATS(most) * sizeof *block);
                double far = 0;
                way v;
                memset(&v, 0, sizeof v);
                t[0] = (float *)malloc((size_t)(AWQ__MOMENT_ROWS * most) * sizeof *t[0]);
                t[1] = (float *)malloc((size_t)(AWQ__MOMENT_ROWS * most) * sizeof *t[1]);
                while (next_way(&v)) {
                    float *m = (float *)calloc((size_t)(wa * wb), sizeof *m);
                    CHECK(!awq__cross_add(&v.ctx, fast ? AWQ_MODE_FAST : AWQ_MODE_EXACT, a, wa, b, wb, weight, n, t[0], t[1],
                                          block, m));
                    for (i = 0; i < wa; i++)
                        for (j = 0; j < wb; j++) {
                            double sum = 0;
                            if (same && j < i) {
                                m[i * wb + j] = NAN; /* not kept */
                                continue;
                            }
                            for (r = 0; !first && r < n; r++)
                                sum += (double)weight[r] * a[r * wa + i] * b[r * wb + j];
                            if (!first) far = AWQ__MAX(far, fabs(sum - m[i * wb + j]));
                            else far = AWQ__MAX(far, fabs(m[i * wb + j] - (double)first[i * wb + j]));
                        }
                    if (same) {
                        float *mean = copy_of(m, wa * wa), f = (float)(1.0 / 7.0);
                        int bad = 0;
                        awq__moments_finish(&v.ctx, mean, wa, 7);
                        for (i = 0; i < wa * wa; i++) {
                            r = i / wa < i % wa ? i : i % wa * wa + i / wa; /* in the upper triangle */
                            bad += mean[i] != m[r] * f;
                        }
                        free(mean);
                        CHECK_MSG(bad == 0, "%d of the mean moments of %d differ", bad, (int)wa);
                    }
                    CHECK_MSG(far < (fast && v.ctx.isa == AWQ_ISA_AMX ? 1e-2 : 1e-4), "%s, %d x %d, %d rows: %g",
                              awq_isa_name(v.ctx.isa), (int)wa, (int)wb, (int)n, far);
                    if (!fast) same_bits(&v, &first, m, wa * wb, "moments", wa);
                    else if (!first) first = m;
                    else free(m);
                }
                free(a), free(weight), free(t[0]), free(t[1]), free(block), free(first);
                if (!same) free(b);
            }
}

/* the sums of squared ranges that scales are chosen by */
static void test_proxy(void)
{
    static const int groups[] = {4, 8, 16, 20, 40, 64};
    size_t at;
    for (at = 0; at < sizeof groups / sizeof groups[0]; at++) {
        int64_t group = groups[at], width = 3 * group, out = 5, o, b, i;
        float *w = random_floats(out * width, at), *s = random_floats(2 * width, at + 7);
        double want[6] = {0}, got[6];
        awq__proxy_job job;
        int k, isa;
        for (i = 0; i < width; i++) s[i] = 1;
        for (k = 0; k < 2; k++)
            for (b = 0; b < 3; b++)
                for (o = 0; o < out; o++) {
                    float mn = 3e38f, mx = -3e38f;
                    for (i = b * group; i < (b + 1) * group; i++) {
                        mn = AWQ__MIN(mn, w[o * width + i] * s[k * width + i]);
                        mx = AWQ__MAX(mx, w[o * width + i] * s[k * width + i]);
                    }
                    want[3 * k + b] += (double)(mx - mn) * (mx - mn);
                }
        job.w = w;
        job.out = out;
        job.width = width;
        job.group = group;
        job.s = s;
        job.range = got;
        for (isa = 0; isa < 2; isa++) {
            memset(got, 0, sizeof got);
            for (k = 0; k < 2; k++) {
                if (!isa) awq__qm_proxy_scalar(&job, k);
#if AWQ__X86
                else if (awq_best_isa() >= AWQ_ISA_AVX2) awq__qm_proxy_avx2(&job, k);
#endif
                else memcpy(got, want, sizeof got);
            }
            CHECK_MSG(!memcmp(got, want, sizeof got), "groups of %d, %d", (int)group, isa);
        }
        free(w), free(s);
    }
}

/* X (H + l) = W (C + l) + B / 2, each row for itself and once for all rows */
static void test_target(void)
{
    int64_t n = 70, out = 90, i, j, k;
    float *h = random_moments(n, 4), *c = random_floats(n * n, 5), *w = random_floats(out * n, 6);
    float *drift = random_floats(out * n, 7), *lower = (float *)malloc((size_t)(n * n) * sizeof *lower), ridge = 0.1f;
    int way;
    awq__qm m;
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    memset(&m, 0, sizeof m);
    m.in[0] = n;
    m.out[0] = out;
    m.wt[0] = w;
    m.drift = drift;
    m.tmp = (float *)malloc((size_t)(out * n) * sizeof *m.tmp);
    m.block = (float *)malloc((size_t)AWQ__MOMENT_FLOATS(n) * sizeof *m.block);
    awq__cholesky(&ctx, h, n, ridge, lower, m.block);
    for (way = 0; way < 3; way++) { /* plain, with B, solved */
        double far = 0;
        m.cross = copy_of(c, n * n);
        for (i = 0; way == 2 && i < n; i++) m.cross[i * n + i] += ridge;
        if (way == 2) awq__solve(&ctx, lower, n, m.cross, n, m.block);
        awq__qm_target(&ctx, &m, 0, way == 1, way == 2, lower, ridge);
        for (i = 0; i < out; i++)
            for (j = 0; j < n; j++) {
                double sum = (double)ridge * (m.tmp[i * n + j] - w[i * n + j]);
                for (k = 0; k < n; k++) sum += (double)m.tmp[i * n + k] * h[k * n + j] - (double)w[i * n + k] * c[k * n + j];
                if (way == 1) sum -= 0.5 * drift[i * n + j];
                far = AWQ__MAX(far, fabs(sum));
            }
        CHECK_MSG(far < 2e-4, "%d: %g", way, far);
        free(m.cross);
    }
    free(h), free(c), free(w), free(drift), free(lower), free(m.tmp), free(m.block);
}

static void test_loss(void)
{
    int64_t out = 37, in = 75, o, i, j;
    float *m = random_moments(in, 3), *d = random_floats(out * in, 2), *y = (float *)malloc((size_t)(out * in) * sizeof *y);
    float *packed = (float *)malloc((size_t)(AWQ__PRODUCT_PACK * in) * sizeof *packed);
    double want = 0, loss = 0;
    way v;
    memset(&v, 0, sizeof v);
    for (o = 0; o < out; o++)
        for (i = 0; i < in; i++)
            for (j = 0; j < in; j++) want += (double)d[o * in + i] * m[i * in + j] * d[o * in + j];
    while (next_way(&v)) {
        CHECK(!awq__moment_loss(&v.ctx, AWQ_MODE_EXACT, d, out, in, m, y, packed, &loss));
        CHECK_MSG(fabs(loss / want - 1) < 1e-5, "%g, %g", loss, want);
    }
    free(m), free(d), free(y), free(packed);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_product);
    RUN(test_factors);
    RUN(test_feedback);
    RUN(test_moments);
    RUN(test_proxy);
    RUN(test_target);
    RUN(test_loss);
    return TEST_END();
}
