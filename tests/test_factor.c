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
    if (w->next % 2 == 0 && !awq_pool_create(&w->ctx, 3, &w->pool)) w->ctx.jobs = awq_pool_jobs(w->pool);
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
                                    {64, 64, 49}, {65, 127, 13}, {70, 300, 5}, {200, 257, 103}, {128, 1000, 12}};
    size_t i;
    int turned, k;
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (turned = 0; turned < 2; turned++) {
            int64_t out = shapes[i][0], in = shapes[i][1], m = shapes[i][2], xs = in + 3, ys = out + 5, r;
            float *w = random_floats(out * in + 7, i), *x = random_floats(m * xs, i + 50);
            float *y0 = random_floats(m * ys, i + 90);
            float *packed = (float *)malloc((size_t)(AWQ__PRODUCT_PACK * in) * sizeof *packed);
            float *want = copy_of(y0, m * ys), sign = i % 2 ? -1.0f : 1.0f;
            int64_t w_in = turned ? out : 1, w_out = turned ? 1 : in;
            way v;
            memset(&v, 0, sizeof v);
            plain_product(sign, w, w_in, w_out, out, in, x, xs, m, want, ys);
            while (next_way(&v)) {
                float *y = copy_of(y0, m * ys);
                awq__product_add(&v.ctx, sign, w, w_in, w_out, out, in, x, xs, m, y, ys, packed);
                for (k = 0, r = 0; r < m * ys; r++) k += memcmp(y + r, want + r, 4) != 0; /* what is between rows too */
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

/* a row's group as the comment above awq__feedback_body says, for one range; returns the loss */
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
                                m[i * wb + j] = 0; /* not kept */
                                continue;
                            }
                            for (r = 0; !first && r < n; r++)
                                sum += (double)weight[r] * a[r * wa + i] * b[r * wb + j];
                            if (!first) far = AWQ__MAX(far, fabs(sum - m[i * wb + j]));
                            else far = AWQ__MAX(far, fabs(m[i * wb + j] - (double)first[i * wb + j]));
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

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_product);
    RUN(test_factors);
    RUN(test_feedback);
    RUN(test_moments);
    return TEST_END();
}
