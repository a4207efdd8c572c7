/* test_quantize.cpp - the kernels of tools/cuda/quantize.cuh against what awq.h computes, in the emulator

       g++ -O2 -std=c++17 -mf16c -o test_quantize tests/cuda/test_quantize.cpp && ./test_quantize [part of a name]

   Cases go through the modes of the emulator in turn. Candidates to the bit; sums with bounds from double. */
#include "emulator.h"
#include "../../tools/cuda/prims.cuh"
#include "../../tools/cuda/common.cuh"
#include "../../tools/cuda/block.cuh"
#include "../../tools/cuda/quantize.cuh"
#include "../../tools/cuda/steps.h"
#include "check.h"

static void test_arguments()
{
    static_assert(sizeof(Split) == sizeof(awq__cuda_split) && sizeof(Rounding) == sizeof(awq__cuda_rounding)
                      && sizeof(Dots) == sizeof(awq__cuda_dots) && sizeof(Clips) == sizeof(awq__cuda_clips)
                      && sizeof(Gated) == sizeof(awq__cuda_gated),
                  "structs");
#define SAME(a, b, m) static_assert(offsetof(a, m) == offsetof(b, m), #m)
    SAME(Split, awq__cuda_split, lo);
    SAME(Split, awq__cuda_split, y_stride);
    SAME(Rounding, awq__cuda_rounding, in);
    SAME(Rounding, awq__cuda_rounding, difference);
    SAME(Dots, awq__cuda_dots, difference);
    static_assert(sizeof(Turn) == sizeof(awq__cuda_turn) && sizeof(Attention) == sizeof(awq__cuda_attention),
                  "structs");
    SAME(Turn, awq__cuda_turn, heads);
    SAME(Turn, awq__cuda_turn, eps);
    SAME(Attention, awq__cuda_attention, n);
    SAME(Attention, awq__cuda_attention, scale);
    SAME(Clips, awq__cuda_clips, out);
    SAME(Clips, awq__cuda_clips, symmetric);
    SAME(Gated, awq__cuda_gated, n);
    SAME(Gated, awq__cuda_gated, limit);
}

// ---- split: hi is x rounded, lo the rest rounded, so that both give x but for 2^-17 of it; padding is zero
static void check_split(int rows, int cols, bool transposed, bool weighted)
{
    const int x_stride = cols + 3, n = transposed ? cols : rows, k = transposed ? rows : cols;
    const int y_stride = padded(k) + 64;
    Buffer<float> x((size_t)rows * x_stride, NAN), weight(rows);
    Buffer<u16> hi((size_t)n * y_stride, 0x7777), lo((size_t)n * y_stride, 0x7777);
    for (int r = 0; r < rows; r++) {
        weight[r] = (float)uniform(0, 2);
        for (int c = 0; c < cols; c++) x[(size_t)r * x_stride + c] = (float)(uniform(-1, 1) * (r % 5 ? 1 : 3e8));
    }
    awq__cuda_split a = {};
    a.x = x.address(), a.weight = weighted ? weight.address() : 0, a.hi = hi.address(), a.lo = lo.address();
    a.rows = rows, a.cols = cols, a.x_stride = x_stride, a.y_stride = y_stride;
    next_mode();
    if (!(transposed ? launch("awq_split_transposed", dim3(padded(rows) / 64, (cols + 31) / 32), 256, 8448, a)
                     : launch("awq_split", dim3((padded(cols) + 511) / 512, rows), 256, 0, a)))
        return;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < y_stride; j++) {
            const size_t at = (size_t)i * y_stride + j;
            float want = 0;
            u16 h, l;
            if (j < k) want = transposed ? x[(size_t)j * x_stride + i] : x[(size_t)i * x_stride + j];
            if (j < k && weighted) want = want * weight[j];
            h = emu::f32_to_bf16(want);
            l = emu::f32_to_bf16(want - emu::bf16_to_f32(h));
            if (j >= padded(k)) h = l = 0x7777;
            if (hi[at] != h || lo[at] != l)
                return fail("%d x %d%s: [%d][%d] is %04x %04x, not %04x %04x", rows, cols,
                            transposed ? " transposed" : "", i, j, hi[at], lo[at], h, l);
            if (j < k
                && std::fabs(emu::bf16_to_f32(h) + (double)emu::bf16_to_f32(l) - want) > 0x1p-17 * std::fabs(want))
                return fail("%g is not %g + %g", want, emu::bf16_to_f32(h), emu::bf16_to_f32(l));
        }
}
static void test_split()
{
    for (int rows : {1, 3, 64, 70})
        for (int cols : {1, 2, 33, 64, 130, 515})
            for (int k = 0; k < 3; k++) check_split(rows, cols, k > 0, k > 1);
    for (int m = 0; m < 2 * MODES; m++) check_split(130, 70, m >= MODES, m >= MODES);
}

// ---- awq__round_even, awq__grid_f32, awq__fake_group
static float cpu_round(float x)
{
    volatile float m = x < 0 ? -8388608.0f : 8388608.0f, y = x + m;
    return std::fabs(x) < 8388608.0f ? y - m : x;
}
static void cpu_fake(const float *w, float *out, int n, int bits, int symmetric)
{
    float mn = w[0], mx = w[0], s, z, top = (float)((1 << bits) - 1), half = (float)(1 << (bits - 1));
    for (int i = 1; i < n; i++) mn = w[i] < mn ? w[i] : mn, mx = w[i] > mx ? w[i] : mx;
    if (symmetric) {
        s = std::max(std::fabs(mn), std::fabs(mx));
        s = std::max(s, 1e-5f) / (half - 1);
        z = half;
    } else {
        s = mx - mn;
        s = std::max(s, 1e-5f) / top;
        z = -cpu_round(mn / s);
        z = z < 0 ? 0 : z > top ? top : z + 0.0f;
    }
    for (int i = 0; i < n; i++) {
        float q = cpu_round(w[i] / s) + z;
        q = q < 0 ? 0 : q > top ? top : q;
        out[i] = (q - z) * s;
    }
}
// weights of a group: 0 both signs, 1 positive only, 2 negative only, 3 zero, 4 tiny, 5 multiples of a half step
static float some_weight(int kind)
{
    const float v = (float)uniform(-1, 1);
    return kind == 1   ? 1 + v / 4
           : kind == 2 ? -1 + v / 4
           : kind == 3 ? 0
           : kind == 4 ? v * 1e-6f
           : kind == 5 ? (float)((int)(random32() % 31) - 15) / 30
                       : v;
}
static void check_candidate(int out, int in, int group, int bits, int symmetric, bool scaled, int difference)
{
    Buffer<float> w((size_t)out * in), scales(in), to((size_t)out * in, NAN);
    std::vector<float> v(group), q(group);
    for (int i = 0; i < in; i++) scales[i] = (float)std::exp(uniform(-3, 3));
    for (int o = 0; o < out; o++)
        for (int i = 0; i < in; i++) w[(size_t)o * in + i] = some_weight((o + i / group) % 7);
    awq__cuda_rounding a = {};
    a.w = w.address(), a.scales = scaled ? scales.address() : 0, a.to = to.address(), a.in = in;
    a.group = group, a.bits = bits, a.symmetric = symmetric, a.difference = difference;
    next_mode();
    if (!launch("awq_candidate", dim3((in / group + 7) / 8, out), 256, 0, a)) return;
    for (int o = 0; o < out; o++)
        for (int g = 0; g < in; g += group) {
            const float *from = w.p + (size_t)o * in + g;
            for (int i = 0; i < group; i++) v[i] = scaled ? from[i] * scales[g + i] : from[i];
            cpu_fake(v.data(), q.data(), group, bits, symmetric);
            for (int i = 0; i < group; i++) {
                float want = scaled ? q[i] / scales[g + i] : q[i], got = to[(size_t)o * in + g + i];
                if (difference) want = want - from[i];
                if (memcmp(&got, &want, 4) && (got != 0 || want != 0))
                    return fail("%d x %d group %d bits %d: row %d column %d: %.9g, not %.9g", out, in, group, bits,
                                o, g + i, got, want);
            }
        }
}
static void test_candidate()
{
    int k = 0;
    for (int group : {16, 32, 33, 128, 500})
        for (int bits : {2, 3, 4, 8}) {
            check_candidate(5, group * (1 + k % 11), group, bits, k & 1, k % 3 > 0, k >> 1 & 1);
            k++;
        }
    for (int m = 0; m < MODES; m++) check_candidate(3, 128, 32, 4, 0, true, 1);
}

static void test_row_dots()
{
    for (int n : {1, 31, 256, 700, 4100}) {
        const int rows = 4;
        Buffer<float> a((size_t)rows * n), b((size_t)rows * n), out(rows, NAN);
        for (size_t i = 0; i < a.n; i++) a[i] = (float)uniform(-1, 1), b[i] = (float)uniform(-1, 1);
        awq__cuda_dots p = {};
        p.a = a.address(), p.b = b.address(), p.out = out.address(), p.n = n;
        for (int m = 0; m < MODES; m++) {
            next_mode();
            p.difference = m & 1;
            if (!launch("awq_row_dots", rows, 256, 128, p)) return;
            for (int r = 0; r < rows; r++) {
                double sum = 0, size = 0;
                for (int i = r * n; i < (r + 1) * n; i++) {
                    const double d = (double)a[i] - b[i], x = p.difference ? d * d : (double)a[i] * b[i];
                    sum += x, size += std::fabs(x);
                }
                if (!(std::fabs(out[r] - sum) <= (n / 256 + 14) * 0x1p-24 * size))
                    return fail("n %d row %d: %g, not %g", n, r, out[r], sum);
            }
        }
    }
}

// ---- clips: costs in double; a limit must cost no more than any other, but for rounding
static void check_clips(int out, int in, int n, int bits, int symmetric)
{
    const int groups = in / n;
    Buffer<float> w((size_t)out * in), m((size_t)in * n), clip((size_t)out * groups, NAN);
    std::vector<float> x(n), d(n), q(n);
    for (int o = 0; o < out; o++)
        for (int i = 0; i < in; i++) {
            w[(size_t)o * in + i] = some_weight((o + i / n) % 7);
            if (i % n == 3) w[(size_t)o * in + i] *= 3; // worth clipping
        }
    for (int g = 0; g < groups; g++)
        for (int t = 0; t < 2 * n; t++) {
            for (int i = 0; i < n; i++) x[i] = (float)uniform(-1, 1) * (i == 3 ? 0.1f : 1);
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) m[((size_t)g * n + i) * n + j] += x[i] * x[j];
        }
    awq__cuda_clips a = {};
    a.w = w.address(), a.moments = m.address(), a.clip = clip.address(), a.out = out, a.in = in, a.group = n;
    a.bits = bits, a.symmetric = symmetric;
    next_mode();
    if (!launch("awq_clips", dim3(groups, (out + 7) / 8), 256, 32 * n, a)) return;
    int clipped = 0;
    for (int o = 0; o < out; o++)
        for (int g = 0; g < groups; g++) {
            const float *from = w.p + (size_t)o * in + (size_t)g * n, got = clip[(size_t)o * groups + g];
            float top = 0;
            double cost[10], best = 1e9, mine = -1;
            for (int i = 0; i < n; i++) top = std::max(top, std::fabs(from[i]));
            for (int k = 0; k < 10; k++) {
                const float limit = top * (float)(1.0 - k / 20.0);
                for (int i = 0; i < n; i++) d[i] = from[i] < -limit ? -limit : from[i] > limit ? limit : from[i];
                cpu_fake(d.data(), q.data(), n, bits, symmetric);
                cost[k] = 0;
                for (int i = 0; i < n; i++)
                    for (int j = 0; j < n; j++)
                        cost[k] += (double)(q[i] - from[i]) * m[((size_t)g * n + i) * n + j] * (q[j] - from[j]);
                best = std::min(best, cost[k]);
                if (limit == got && mine < 0) mine = cost[k];
            }
            clipped += got < top;
            if (mine < 0) return fail("%d x %d: row %d group %d: %g is none of the limits", out, in, o, g, got);
            if (mine > best * (1 + 1e-4) + 1e-30)
                return fail("%d x %d: row %d group %d: limit %g costs %g, the best %g", out, in, o, g, got, mine, best);
        }
    if (n > 16 && bits < 8 && !clipped) fail("%d x %d: nothing was clipped", out, in);
}
static void test_clips()
{
    check_clips(5, 96, 16, 4, 0);
    check_clips(9, 128, 32, 4, 1);
    check_clips(8, 66, 33, 3, 0);
    check_clips(3, 256, 128, 4, 0);
    for (int m = 0; m < MODES; m++) check_clips(10, 64, 32, 4, 0);
}

static void check_gated(int kind, bool up)
{
    const int n = 3000;
    Buffer<float> g(n), u(n), y(n + 1, 7.0f);
    for (int i = 0; i < n; i++) g[i] = (float)uniform(-9, 9), u[i] = (float)uniform(-9, 9);
    g[5] = 200, g[6] = -200, g[7] = 0;
    awq__cuda_gated a = {};
    a.gate = g.address(), a.up = up ? u.address() : 0, a.y = y.address(), a.n = n, a.kind = kind;
    a.alpha = 1.702f, a.limit = 7;
    next_mode();
    if (!launch("awq_gated", (n + 1023) / 1024, 256, 0, a)) return;
    for (int i = 0; i < n; i++) {
        double x = g[i], w = u[i], want;
        if (kind == GATED_SWIGLU) {
            x = std::min(x, 7.0), w = std::max(std::min(w, 7.0), -7.0);
            want = x / (1 + std::exp(-(double)1.702f * x)) * (w + 1);
        } else {
            want = x / (1 + std::exp(kind ? -1.5957691216057307 * (x + 0.044715 * x * x * x) : -x));
            if (up) want *= w;
        }
        if (!near(y[i], want, 2e-5, 1e-30))
            return fail("kind %d, %d: of %g, %g: %.9g, not %.9g", kind, i, g[i], u[i], y[i], want);
    }
    if (y[n] != 7) return fail("kind %d: beyond the end", kind);
}
static void test_gated()
{
    for (int m = 0; m < MODES; m++) check_gated(m % 3, m % 3 == 2 || m % 2);
}

// ---- norm and rope: in double, but for the products of rope
static void check_turn(int heads, int d, int rope, int rope_first, bool pairs, bool norm, int table)
{
    const int rows = 3, half = rope / 2;
    Buffer<float> x((size_t)rows * heads * d), w(d), c(rows * 2 * half + 1), s(rows * 2 * half + 1);
    std::vector<float> old;
    for (size_t i = 0; i < x.n; i++) x[i] = (float)uniform(-3, 3);
    for (int i = 0; i < d; i++) w[i] = (float)uniform(0.5, 2);
    for (int i = 0; i < rows * 2 * half; i++) c[i] = (float)uniform(-1, 1), s[i] = (float)uniform(-1, 1);
    old.assign(x.p, x.p + x.n);
    awq__cuda_turn a = {};
    a.x = x.address(), a.norm = norm ? w.address() : 0, a.heads = heads, a.dim = d, a.eps = 1e-5f;
    if (rope) a.cos_ = c.address(), a.sin_ = s.address();
    a.rope_dim = rope, a.rope_first = rope_first, a.rope_pairs = pairs, a.rope_table = table;
    next_mode();
    if (!launch("awq_turn", dim3(rows, (heads + 7) / 8), 256, 32 * d, a)) return;
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < heads; h++) {
            const float *from = old.data() + ((size_t)r * heads + h) * d, *got = x.p + ((size_t)r * heads + h) * d;
            std::vector<double> v(from, from + d);
            double squares = 0;
            for (int i = 0; i < d; i++) squares += v[i] * v[i];
            for (int i = 0; norm && i < d; i++) v[i] *= w[i] / std::sqrt(squares / d + (double)1e-5f);
            for (int i = 0; i < half; i++) {
                const int at = rope_first + (pairs ? 2 * i : i), to = at + (pairs ? 1 : half);
                const double cs = c[(r * 2 + table) * half + i], sn = s[(r * 2 + table) * half + i];
                const double u = v[at], y = v[to];
                v[at] = u * cs - y * sn, v[to] = y * cs + u * sn;
            }
            for (int i = 0; i < d; i++)
                if (!near(got[i], v[i], 1e-6, 2e-6))
                    return fail("heads %d dim %d: row %d head %d: [%d] is %g, not %g", heads, d, r, h, i, got[i], v[i]);
        }
}
static void test_turn()
{
    check_turn(4, 64, 64, 0, false, false, 0);
    check_turn(9, 128, 128, 0, false, true, 1);
    check_turn(3, 40, 20, 8, true, true, 0);
    check_turn(8, 256, 0, 0, false, true, 0);
    for (int m = 0; m < MODES; m++) check_turn(2, 32, 32, 0, false, true, 0);
}

// ---- attention in double
static void check_sequence(int n, int heads, int group, int k_dim, int v_dim, int window)
{
    const int kv_heads = heads / group;
    Buffer<float> q((size_t)n * heads * k_dim), k((size_t)n * kv_heads * k_dim), v((size_t)n * kv_heads * v_dim);
    Buffer<float> out((size_t)n * heads * v_dim, NAN);
    std::vector<double> w(n);
    for (size_t i = 0; i < q.n; i++) q[i] = (float)uniform(-2, 2);
    for (size_t i = 0; i < k.n; i++) k[i] = (float)uniform(-2, 2);
    for (size_t i = 0; i < v.n; i++) v[i] = (float)uniform(-1, 1);
    awq__cuda_attention a = {};
    a.q = q.address(), a.k = k.address(), a.v = v.address(), a.out = out.address(), a.n = n, a.heads = heads;
    a.group = group, a.k_dim = k_dim, a.v_dim = v_dim, a.window = window, a.scale = 0.3f;
    next_mode();
    if (!launch("awq_sequence", dim3((n + 31) / 32, heads), 256, 128 * (2 * k_dim + 1 + v_dim), a)) return;
    for (int r = 0; r < n; r++)
        for (int h = 0; h < heads; h++) {
            double most = -1e300, sum = 0;
            const int first = window > 0 && r >= window ? r - window + 1 : 0;
            for (int j = first; j <= r; j++) {
                w[j] = 0;
                for (int i = 0; i < k_dim; i++)
                    w[j] += (double)q[((size_t)r * heads + h) * k_dim + i]
                            * k[((size_t)j * kv_heads + h / group) * k_dim + i];
                w[j] *= (double)0.3f;
                most = std::max(most, w[j]);
            }
            for (int j = first; j <= r; j++) sum += w[j] = std::exp(w[j] - most);
            for (int i = 0; i < v_dim; i++) {
                double want = 0;
                for (int j = first; j <= r; j++) want += w[j] * v[((size_t)j * kv_heads + h / group) * v_dim + i] / sum;
                const float got = out[((size_t)r * heads + h) * v_dim + i];
                if (!near(got, want, 0, 2e-5))
                    return fail("n %d heads %d dim %d window %d: row %d head %d: [%d] is %g, not %g", n, heads, k_dim,
                                window, r, h, i, got, want);
            }
        }
}
static void test_sequence()
{
    check_sequence(1, 2, 1, 32, 32, 0);
    check_sequence(70, 4, 2, 64, 64, 0);
    check_sequence(100, 2, 2, 40, 24, 7);
    check_sequence(130, 1, 1, 128, 256, 33);
    for (int m = 0; m < MODES; m++) check_sequence(40, 2, 1, 32, 32, m % 3 * 20);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) only = argv[1];
    run("arguments", test_arguments);
    run("split", test_split);
    run("candidate", test_candidate);
    run("row_dots", test_row_dots);
    run("clips", test_clips);
    run("gated", test_gated);
    run("turn", test_turn);
    run("sequence", test_sequence);
    return report();
}
