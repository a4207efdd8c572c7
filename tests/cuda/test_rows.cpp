/* test_rows.cpp - the kernels of tools/cuda/rows.cuh and sample.cuh against the CPU's steps, in the emulator

       g++ -O2 -std=c++17 -mf16c -o test_rows tests/cuda/test_rows.cpp && ./test_rows [part of a test's name]

   Cases go through the modes of the emulator in turn. Sums over a row are compared with double: relative
   error (log2(n) + n / 4096 + 8) 2^-24 of the sum of absolute values; embeddings, residual sums, rope, the
   cache and finished logits to the bit, halves with their rounding. */
#include "emulator.h"
#include "../../tools/cuda/prims.cuh"
#include "../../tools/cuda/common.cuh"
#include "../../tools/cuda/block.cuh"
#include "../../tools/cuda/rows.cuh"
#include "../../tools/cuda/sample.cuh"
#include "../../tools/cuda/steps.h"
#include "check.h"

static const char *type_name(bool bf16) { return bf16 ? "bf16" : "f16"; }
static double half_step(bool bf16) { return bf16 ? 0x1p-8 : 0x1p-11; } // relative rounding
static double sum_error(int n) { return (std::log2((double)n) + n / 4096.0 + 8) * 0x1p-24; }

static void test_arguments()
{
    static_assert(sizeof(Embed) == sizeof(awq__cuda_embed) && sizeof(Norm) == sizeof(awq__cuda_norm),
                  "structs");
    static_assert(sizeof(Place) == sizeof(awq__cuda_place) && sizeof(Act) == sizeof(awq__cuda_act), "structs");
    static_assert(sizeof(Logits) == sizeof(awq__cuda_logits) && sizeof(Top) == sizeof(awq__cuda_top),
                  "structs");
#define SAME(a, b, m) static_assert(offsetof(a, m) == offsetof(b, m), #m)
    SAME(Embed, awq__cuda_embed, h);
    SAME(Embed, awq__cuda_embed, scale);
    SAME(Norm, awq__cuda_norm, rows);
    SAME(Norm, awq__cuda_norm, mark);
    SAME(Norm, awq__cuda_norm, eps);
    SAME(Place, awq__cuda_place, q_out);
    SAME(Place, awq__cuda_place, rope_table);
    SAME(Place, awq__cuda_place, eps);
    SAME(Act, awq__cuda_act, y);
    SAME(Act, awq__cuda_act, f32);
    SAME(Act, awq__cuda_act, limit);
    SAME(Logits, awq__cuda_logits, best);
    SAME(Logits, awq__cuda_logits, cap);
}

// ---- embeddings
static void check_embed(int h, int table)
{
    const char *kernels[] = {"awq_embed_f32", "awq_embed_f16", "awq_embed_bf16", "awq_embed_8"};
    const int vocab = 150, rows = 5, n_pad = 192;
    const int group = h % 32 ? padded(h) : h < 100 ? 32 : 64, bits = 8;
    const int k_tiles = padded(h) / 64, groups = (padded(h) + group - 1) / group;
    Buffer<int> ids(rows);
    Buffer<float> f((size_t)vocab * h), x((size_t)rows * h, NAN);
    Buffer<u16> half((size_t)vocab * h);
    Buffer<u32> tile((size_t)n_pad * k_tiles * 2 * bits), sz((size_t)groups * n_pad);
    std::vector<u8> code((size_t)vocab * h);
    for (int r = 0; r < rows; r++) ids[r] = (int)(random32() % vocab);
    for (u32 *p = sz.p; p < sz.p + sz.n; p++)
        *p = emu::f32_to_f16((float)uniform(0.01, 0.1)) | (0x6400 + random32() % (1u << bits)) << 16;
    for (size_t i = 0; i < f.n; i++) {
        f[i] = (float)uniform(-1, 1);
        half[i] = to_half(table == 2, f[i]);
        code[i] = random32() % (1u << bits);
    }
    for (int out = 0; out < vocab; out++)
        for (int in = 0; in < h; in++) { // the blocks by their definition in common.cuh
            const int r = out % 16, c = in % 16, lane = r % 8 * 4 + c % 8 / 2, kk = in % 64 / 16;
            const size_t warp = ((size_t)(out / 64) * k_tiles + in / 64) * 4 + out % 64 / 16;
            const u32 q = code[(size_t)out * h + in];
            tile[((warp * 2 + kk / 2) * 32 + lane) * 4 + kk % 2 * 2 + c / 8] |= q << (r / 8 * 2 + c % 2) * 8;
        }
    awq__cuda_embed a = {};
    a.ids = ids.address(), a.x = x.address(), a.h = h, a.scale = 1.7f;
    a.table = table == 0 ? f.address() : table > 2 ? tile.address() : half.address();
    a.sz = sz.address(), a.n_pad = n_pad, a.k_tiles = k_tiles, a.group = group;
    next_mode();
    if (!launch(kernels[table], rows, awq__cuda_row_threads(h), 0, a)) return;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < h; i++) {
            const size_t at = (size_t)ids[r] * h + i;
            const u32 s = sz[(size_t)(i / group) * n_pad + ids[r]];
            float v = table == 0 ? f[at]
                      : table <= 2
                          ? from_half(table == 2, half[at])
                          : (float)(code[at] - (int)(s >> 16) + 0x6400) * emu::f16_to_f32((u16)s);
            v = v * a.scale;
            if (x[(size_t)r * h + i] != v)
                return fail("%s h %d row %d column %d: %g, not %g", kernels[table], h, r, i,
                            x[(size_t)r * h + i], v);
        }
}
static void test_embed()
{
    for (int table = 0; table < 4; table++) {
        for (int h : {4, 64, 101, 896, 4100}) check_embed(h, table);
        for (int m = 0; m < MODES; m++) check_embed(70, table);
    }
}

// ---- residual and norms
// norm in double; returns the largest |value| / sqrt(mean square), for bounds
static void norm_double(int kind, const std::vector<double> &x, const float *w, int n, double eps,
                        std::vector<double> &out)
{
    double mean = 0, squares = 0;
    if (kind != NORM_RMS)
        for (int i = 0; i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean) / n;
    for (int i = 0; i < n; i++)
        out[i] = (x[i] - mean) / std::sqrt(squares + eps) * w[i] + (kind == NORM_LAYER_BIAS ? w[n + i] : 0);
}
struct NormCase {
    int h, kind;
    bool bf16, out, out_f32, out_norm, in_norm, xn, xn32, pick;
};
static void check_norm(const NormCase &c, int poison = -1, int mark = 0) // mark: that the poisoned row has
{
    const int rows = 3, total = 6, h = c.h, x_stride = h + (h % 4 ? 3 : 8), xn_stride = padded(h) + 64;
    const double eps = 1e-5;
    Buffer<float> x((size_t)total * x_stride, 77.0f), w_out(2 * h), w_in(2 * h), xn32((size_t)rows * h, NAN);
    Buffer<u16> xn((size_t)rows * xn_stride, to_half(c.bf16, 55)), xn_lo(xn.n, to_half(c.bf16, 55));
    Buffer<int> pick(rows), flags(total);
    Values out(total, h + (h % 4 ? 1 : 4), c.out_f32, c.bf16, -2, 2);
    std::vector<float> old(x.n);
    for (int r = 0; r < total; r++)
        for (int i = 0; i < h; i++) x[(size_t)r * x_stride + i] = (float)uniform(-3, 3.5);
    for (int i = 0; i < 2 * h; i++) w_out[i] = (float)uniform(0.5, 2), w_in[i] = (float)uniform(0.5, 2);
    for (int r = 0; r < rows; r++) pick[r] = 5 - 2 * r;
    flags[3] = 9;
    flags[c.pick ? 5 : 0] = mark;
    if (poison >= 0) out.set((size_t)(c.pick ? 5 : 0) * out.stride + poison, poison % 2 ? INFINITY : NAN);
    memcpy(old.data(), x.p, x.n * 4);

    awq__cuda_norm a = {};
    a.x = x.address(), a.h = h, a.x_stride = x_stride, a.kind = c.kind, a.eps = (float)eps;
    a.residual_scale = 0.7f, a.mark = 4, a.bad = h % 3 ? flags.address() : 0, a.out_f32 = c.out_f32;
    a.out_stride = out.stride, a.xn_stride = xn_stride;
    if (c.out) a.out = out.address();
    if (c.out_norm) a.out_norm = w_out.address();
    if (c.in_norm) a.in_norm = w_in.address();
    if (c.xn) a.xn = xn.address();
    if (c.xn32) a.xn32 = xn32.address(), a.xn_lo = xn_lo.address();
    if (c.pick) a.rows = pick.address();
    next_mode();
    std::string kernel = std::string("awq_norm_") + type_name(c.bf16);
    if (!launch(kernel, rows, awq__cuda_row_threads(h), awq__cuda_norm_shared(h), a)) return;
    std::vector<double> v(h), y(h), bound(h);
    for (int b = 0; b < rows; b++) {
        const int r = c.pick ? pick[b] : b;
        float *got = x.p + (size_t)r * x_stride;
        const bool poisoned = poison >= 0 && b == 0;
        for (int i = 0; i < h; i++) y[i] = out.at(r, i);
        if (c.out_norm) norm_double(c.kind, y, w_out.p, h, eps, y);
        for (int i = 0; i < h; i++) {
            const float before = old[(size_t)r * x_stride + i];
            double want = before + (c.out ? y[i] * (double)a.residual_scale : 0);
            bool ok = true;
            if (c.out && !c.out_norm) ok = got[i] == before + (float)y[i] * a.residual_scale || poisoned;
            else if (!poisoned)
                ok = near(got[i], want, 0x1p-23,
                          c.out ? (std::fabs(y[i]) + 4) * (sum_error(h) + 8 * 0x1p-24) : 0);
            if (!ok)
                return fail("%s h %d kind %d x, row %d column %d: %.9g, not %.9g", kernel.c_str(), h, c.kind, r,
                            i, got[i], want);
            v[i] = got[i]; // the second norm is of what there is
        }
        if (flags[r] != (r == 3 ? 9 : poisoned ? (mark ? mark : 4) : 0))
            return fail("h %d row %d: flag %d", h, r, flags[r]);
        if (poisoned) continue;
        y = v;
        if (c.in_norm) norm_double(c.kind, v, w_in.p, h, eps, y);
        for (int i = 0; i < xn_stride && c.xn; i++) {
            double want = i < h           ? y[i]
                          : i < padded(h) ? 0
                                          : 55,
                   g = from_half(c.bf16, xn[(size_t)b * xn_stride + i]);
            if (!near(g, want, half_step(c.bf16) * 1.01, i < h ? 6 * sum_error(h) : 0))
                return fail("%s h %d kind %d xn, row %d column %d: %.9g, not %.9g", kernel.c_str(), h, c.kind,
                            b, i, g, want);
        }
        for (int i = 0; i < xn_stride && c.xn && c.xn32; i++) { // both halves of xn32, to the last bit of the second
            const size_t at = (size_t)b * xn_stride + i;
            const float hi = from_half(c.bf16, xn[at]), lo = from_half(c.bf16, xn_lo[at]);
            const float want = i < h ? xn32[(size_t)b * h + i] - hi : i < padded(h) ? 0 : 55;
            if (!near(lo, want, half_step(c.bf16) * 1.01, c.bf16 ? 0 : 0x1p-25))
                return fail("%s h %d kind %d xn_lo, row %d column %d: %.9g, not %.9g", kernel.c_str(), h, c.kind,
                            b, i, lo, want);
        }
        for (int i = 0; i < h && c.xn32; i++)
            if (!near(xn32[(size_t)b * h + i], y[i], sum_error(h), 6 * sum_error(h)))
                return fail("%s h %d kind %d xn32, row %d column %d", kernel.c_str(), h, c.kind, b, i);
    }
    for (int r = 0; r < total; r++) // nothing else is written
        for (int i = 0; i < x_stride; i++) {
            bool mine = i < h && c.out && (c.pick ? r == 1 || r == 3 || r == 5 : r < rows);
            if (!mine && x[(size_t)r * x_stride + i] != old[(size_t)r * x_stride + i])
                return fail("h %d: x of row %d column %d was written", h, r, i);
        }
}
static void test_norm()
{
    int k = 0;
    for (int h : {4, 60, 64, 127, 576, 1030, 4096, 5003})
        for (int kind = 0; kind < 3; kind++)
            for (int what = 0; what < 4; what++, k++) {
                bool out = what != 0, out_norm = what == 2, in_norm = what != 3;
                check_norm(
                    {h, kind, k % 2 == 1, out, k % 3 != 0, out_norm, in_norm, true, k % 4 == 1, k % 5 == 2});
            }
    for (int m = 0; m < 2 * MODES; m++)
        check_norm({200, m % 3, m >= MODES, true, true, m % 2 == 1, true, true, true, false});
    check_norm({512, 0, false, true, true, false, false, false, false, false}); // parallel: x only
}
static void test_norm_flags()
{
    for (int at : {0, 1, 63, 198, 199})
        for (int pick = 0; pick < 2; pick++)
            for (int norm = 0; norm < 2; norm++)
                check_norm({200, at % 3, pick == 0, true, true, norm == 1, true, true, false, pick == 1}, at,
                           pick && norm ? 2 : 0);
}
// halves hold the largest f16 where x is larger, and NaN stays
static void test_norm_range()
{
    Buffer<float> x(8);
    Buffer<u16> xn(64);
    const float in[8] = {70000, -70000, 65519, 65504, 1e30f, NAN, INFINITY, -1};
    const float want[8] = {65504, -65504, 65504, 65504, 65504, NAN, 65504, -1};
    awq__cuda_norm a = {};
    std::copy(in, in + 8, x.p);
    a.x = x.address(), a.xn = xn.address(), a.h = a.x_stride = 8, a.xn_stride = 64;
    next_mode();
    if (!launch("awq_norm_f16", 1, 32, awq__cuda_norm_shared(8), a)) return;
    for (int i = 0; i < 8; i++)
        if (!near(emu::f16_to_f32(xn[i]), want[i], 0, 0)) fail("%g became %g", in[i], emu::f16_to_f32(xn[i]));
}

// ---- q, k and v
struct PlaceCase {
    int heads, kv_heads, k_dim, v_dim, nope; // nope: latent
    int rope_dim, rope_first, pairs, sliding, qk_norm;
    bool bf16, f32, clip, padded;
};
static void check_place(const PlaceCase &c, int warps)
{
    const int rows = 4, slots = 2, pages = 3, layers = 2, d = c.k_dim, v_row = (c.v_dim + 31) / 32 * 32;
    const size_t head_bytes = (size_t)d * 64 + (size_t)v_row * 64,
                 page_bytes = head_bytes * c.kv_heads * layers;
    const int half = c.rope_dim / 2, shared = c.k_dim - c.nope;
    const int per = c.nope ? c.nope + c.v_dim : d; // of a head in k
    const int q_stride = c.heads * d + (c.padded ? 3 : 4), k_stride = c.kv_heads * per + (c.padded ? 1 : 8);
    const int v_stride = c.nope ? k_stride : c.kv_heads * c.v_dim + (c.padded ? 1 : 12), s_stride = 32 + shared;
    const int n_norm = c.qk_norm >= QK_OWN ? d : d;
    Values q(rows, q_stride, c.f32, c.bf16, -3, 3), k(rows, k_stride, c.f32, c.bf16, -3, 3);
    Values v(rows, v_stride, c.f32, c.bf16, -3, 3), s(rows, s_stride, true, false, -3, 3);
    Buffer<float> q_norm(c.heads * n_norm), k_norm(c.kv_heads * n_norm);
    Buffer<float> cos_((size_t)rows * 2 * half + 1), sin_((size_t)rows * 2 * half + 1);
    Buffer<int> pos(rows), slot(rows);
    Buffer<u16> cache(page_bytes / 2 * pages * slots, 0x1234), q_out((size_t)rows * c.heads * d, 0x4321);
    Buffer<u64> page(slots * pages);
    const int at[4] = {0, 33, -1, 95}, of[4] = {1, 0, 0, 1};
    for (int r = 0; r < rows; r++) pos[r] = at[r], slot[r] = of[r];
    for (size_t i = 0; i < q_norm.n; i++) q_norm[i] = (float)uniform(0.5, 2);
    for (size_t i = 0; i < k_norm.n; i++) k_norm[i] = (float)uniform(0.5, 2);
    for (size_t i = 0; i < cos_.n; i++) {
        double angle = uniform(0, 6.3);
        cos_[i] = (float)std::cos(angle), sin_[i] = (float)std::sin(angle);
    }
    for (int i = 0; i < slots * pages; i++) page[i] = cache.address() + (u64)((i * 5 + 2) % 6) * page_bytes;
    if (c.f32) v.set(7, 1e6f), v.set(8, -1e6f); // beyond f16; row 0

    awq__cuda_place a = {};
    a.q = q.address(), a.k = k.address(), a.v = v.address();
    if (c.nope) a.v = a.k + c.nope * (c.f32 ? 4 : 2), a.shared = s.address() + 32 * 4, a.nope = c.nope;
    if (c.qk_norm) a.q_norm = q_norm.address(), a.k_norm = k_norm.address();
    if (c.rope_dim) a.cos_ = cos_.address(), a.sin_ = sin_.address();
    a.pos = pos.address(), a.slot = slot.address(), a.page = page.address(), a.q_out = q_out.address();
    a.cache_at = head_bytes * c.kv_heads, a.head_bytes = head_bytes; // the second layer
    a.q_stride = q_stride, a.k_stride = k_stride, a.v_stride = v_stride, a.shared_stride = s_stride;
    a.page_stride = pages, a.heads = c.heads, a.kv_heads = c.kv_heads, a.k_dim = d, a.v_dim = c.v_dim;
    a.v_row = v_row, a.rope_dim = c.rope_dim, a.rope_first = c.rope_first, a.rope_pairs = c.pairs;
    a.rope_table = c.sliding, a.qk_norm = c.qk_norm, a.f32 = c.f32, a.clip = c.clip ? 2.5f : 0, a.eps = 1e-6f;
    next_mode();
    std::string kernel = std::string("awq_place_") + type_name(c.bf16);
    dim3 grid(rows, (c.heads + c.kv_heads + warps - 1) / warps);
    if (!launch(kernel, grid, warps * 32, awq__cuda_place_shared(warps, d), a)) return;

    std::vector<u16> expect(cache.p, cache.p + cache.n); // what is not compared must not change
    std::fill(expect.begin(), expect.end(), (u16)0x1234);
    auto clip = [&](double x) {
        return a.clip > 0 ? std::min(std::max(x, -(double)a.clip), (double)a.clip) : x;
    };
    auto halves = [&](double x) { return std::min(std::max(x, -65504.0), 65504.0); };
    std::vector<double> x;
    auto rotate = [&](double *y, int r) {
        for (int i = 0; i < half && c.rope_dim; i++) {
            const size_t t = (size_t)(2 * r + c.sliding) * half + i;
            double *p = y + c.rope_first + (c.pairs ? 2 * i : i), *o = p + (c.pairs ? 1 : half), u = *p, w = *o;
            *p = u * cos_[t] - w * sin_[t], *o = w * cos_[t] + u * sin_[t];
        }
    };
    auto norm = [&](double *y, const float *w, int n, bool layer) {
        std::vector<double> t(y, y + n);
        norm_double(layer ? NORM_LAYER : NORM_RMS, t, w, n, a.eps, t);
        std::copy(t.begin(), t.end(), y);
    };
    auto head = [&](std::vector<double> &all, int r, int heads, const float *w) {
        if (c.qk_norm == QK_ALL) norm(all.data(), w, heads * d, false);
        for (double &y : all) y = clip(y);
        for (int h = 0; h < heads; h++) {
            if (c.qk_norm == QK_HEAD) norm(&all[h * d], w, d, false);
            if (c.qk_norm == QK_OWN) norm(&all[h * d], w + h * d, d, true);
            rotate(&all[h * d], r);
            if (c.qk_norm == QK_AFTER) norm(&all[h * d], w, d, false);
        }
    };
    const double step = 0x1p-11 * 1.01, small = 8 * sum_error(c.heads * d) + 0x1p-25;
    for (int r = 0; r < rows; r++) {
        std::vector<double> Q(c.heads * d), K(c.kv_heads * d), V(c.kv_heads * c.v_dim);
        for (size_t i = 0; i < Q.size(); i++) Q[i] = q.at(r, i);
        for (int h = 0; h < c.kv_heads; h++) {
            for (int i = 0; i < d; i++)
                K[h * d + i] = !c.nope      ? k.at(r, h * d + i)
                               : i < c.nope ? k.at(r, h * per + i)
                                            : s.at(r, 32 + i - c.nope);
            for (int i = 0; i < c.v_dim; i++)
                V[h * c.v_dim + i] = clip(c.nope ? k.at(r, h * per + c.nope + i) : v.at(r, h * c.v_dim + i));
        }
        head(Q, r, c.heads, q_norm.p);
        head(K, r, c.kv_heads, k_norm.p);
        for (size_t i = 0; i < Q.size(); i++) {
            u16 g = q_out[(size_t)r * Q.size() + i];
            if (pos[r] < 0 ? g != 0x4321 : !near(emu::f16_to_f32(g), halves(Q[i]), step, small))
                return fail("%s q, row %d number %d: %g, not %g (norm %d, rope %d %d)", kernel.c_str(), r,
                            (int)i, emu::f16_to_f32(g), Q[i], c.qk_norm, c.rope_first, c.rope_dim);
        }
        if (pos[r] < 0) continue;
        const u64 base = page[slot[r] * pages + pos[r] / 32] + a.cache_at - cache.address();
        for (int h = 0; h < c.kv_heads; h++)
            for (int i = 0; i < d + v_row; i++) {
                const size_t to = (base + h * head_bytes) / 2
                                  + (i < d ? i * 32 + pos[r] % 32 : d * 32 + pos[r] % 32 * v_row + i - d);
                const double want = i < d ? K[h * d + i] : i - d < c.v_dim ? V[h * c.v_dim + i - d] : 0;
                const float g = emu::f16_to_f32(cache[to]);
                if (!near(g, halves(want), step, i < d ? small : 0x1p-25))
                    return fail("%s %c, row %d head %d number %d: %g, not %g", kernel.c_str(),
                                i < d ? 'k' : 'v', r, h, i, g, want);
                expect[to] = cache[to];
            }
    }
    if (memcmp(expect.data(), cache.p, cache.n * 2))
        fail("%s: the cache was written elsewhere", kernel.c_str());
}
static void test_place()
{
    int k = 0;
    for (int qk = 0; qk < 5; qk++)
        for (int pairs = 0; pairs < 2; pairs++)
            for (int d : {16, 64, 72, 128, 256}) {
                const int rope = k % 4 == 3 ? 0 : k % 4 == 2 ? d / 4 * 2 / 2 * 2 : d;
                check_place({d < 128 ? 9 : 3, d < 128 ? 3 : 1, d, k % 3 ? d : 40, 0, rope,
                             rope < d && rope ? 4 : 0, pairs, k % 2, qk, k % 5 == 1, k % 3 != 1, k % 2 == 1,
                             k % 7 == 3},
                            1 + k % 8);
                k++;
            }
    for (int m = 0; m < 2 * MODES; m++) // latent
        check_place({5, 5, 96, 48, 64, 32, 64, m & 1, 0, QK_NONE, m >= MODES, m % 3 == 0, false, m == 5}, 4);
    for (int m = 0; m < 2 * MODES; m++)
        check_place({6, 2, 64, 64, 0, 64, 0, 0, m & 1, m % 5, m >= MODES, true, m == 3, false}, 3);
}

// ---- activations
// what: 0 rows in a count, 1 halves, 2 without up, 3 scales
static void check_act(int kind, int n, int what, bool bf16)
{
    const bool counted = what == 0, f32 = what != 1, up = kind == ACT_SWIGLU || what != 2, scales = what == 3;
    const int rows = 3, stride = padded(n) + 8, in = 2 * n + (n % 4 ? 1 : 4);
    Values g(rows, in, f32, bf16, -9, 9); // gate, then up: one linear gave both
    Buffer<float> s(n);
    Buffer<int> count(1);
    Buffer<u16> y((size_t)rows * stride, to_half(bf16, 55));
    for (int i = 0; i < n; i++) s[i] = (float)uniform(0.5, 2);
    if (f32) g.set(0, 1000), g.set(1, -1000), g.set(2, 88.5f), g.set(3, -88.5f);
    count[0] = 2;
    awq__cuda_act a = {};
    a.gate = g.address(), a.up = up ? a.gate + n * (f32 ? 4 : 2) : 0;
    a.scales = scales ? s.address() : 0, a.count = counted ? count.address() : 0, a.y = y.address();
    a.n = n, a.gate_stride = a.up_stride = in, a.y_stride = stride, a.kind = kind, a.f32 = f32;
    a.alpha = 1.702f, a.limit = 7;
    next_mode();
    std::string kernel = std::string("awq_act_") + type_name(bf16);
    if (!launch(kernel, dim3(rows, awq__cuda_act_blocks(n)), 256, 0, a)) return;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < stride; i++) {
            double x = i < n ? g.at(r, i) : 0, u = up && i < n ? g.at(r, n + i) : 1, want = 55;
            if (kind == ACT_SWIGLU) {
                x = std::min(x, 7.0), u = std::min(std::max(u, -7.0), 7.0);
                want = x / (1 + std::exp(-(double)a.alpha * x)) * (u + 1);
            } else if (kind == ACT_GELU_TANH)
                want = x / (1 + std::exp(-1.5957691216057308 * (x + 0.044715 * x * x * x))) * u;
            else want = x / (1 + std::exp(-x)) * u;
            if (scales && i < n) want /= s[i];
            if (i >= n) want = 0;
            if (!bf16) want = std::min(std::max(want, -65504.0), 65504.0);
            if (i >= padded(n) || (counted && r >= 2)) want = 55;
            const double got = from_half(bf16, y[(size_t)r * stride + i]);
            if (!near(got, want, half_step(bf16) + 0x1p-16, 0x1p-24))
                return fail("%s kind %d n %d, row %d column %d: %g, not %g", kernel.c_str(), kind,
                            n, r, i, got, want);
        }
}
static void test_act()
{
    int k = 0;
    for (int kind = 0; kind < 3; kind++)
        for (int n : {4, 64, 99, 1408, 4100})
            for (int what = 0; what < 4; what++) check_act(kind, n, what, k++ & 1);
    for (int m = 0; m < 2 * MODES; m++) check_act(m % 3, 99, m / 3 % 4, m >= MODES);
}

// ---- logits
static float cpu_exp_body(float x) // awq__exp_body
{
    return x > 88.0f ? 1.6516362549940018e38f : x < -87.0f ? 0.0f : cpu_exp(x);
}
static float cpu_tanh(float x) { return 1.0f - 2.0f / (cpu_exp_body(2.0f * x) + 1.0f); }
static void check_logits(int rows, int n, int parts, float scale, float cap, int kind, bool best)
{
    const int stride = n + (n % 4 ? 0 : 4);
    Buffer<float> x((size_t)rows * stride, 1e30f);
    Buffer<u64> partial((size_t)rows * parts, ~0ull);
    Buffer<u32> counters(rows);
    Buffer<int> top(rows, -7);
    const float low = cap > 0 ? -3e38f : -INFINITY; // the CPU's tanh of -inf is NaN
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < n; i++) {
            float v = (float)uniform(-50, 50);
            if (kind == 1) v = (float)(int)(random32() % 3) - 1; // ties
            if (kind == 2) v = random32() % 2 ? 0.0f : -0.0f;
            if (kind == 3) v = i % 3 == (r ? 1 : 0) ? NAN : v;
            if (kind == 4) v = i % 2 ? low : NAN;
            x[(size_t)r * stride + i] = v;
        }
    if (kind == 4)
        for (int r = 0; r < rows; r++) x[(size_t)r * stride] = low;
    std::vector<float> want(x.p, x.p + x.n);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < n; i++) {
            float &v = want[(size_t)r * stride + i];
            if (cap > 0) v = cap * cpu_tanh(v * scale / cap);
            else v = v * scale;
        }
    awq__cuda_logits a = {};
    a.logits = x.address(), a.partial = partial.address(), a.counters = counters.address();
    a.best = best ? top.address() : 0, a.n = n, a.stride = stride, a.scale = scale, a.cap = cap;
    next_mode();
    if (!launch("awq_logits", dim3(parts, rows), 1024, 256, a)) return;
    for (int r = 0; r < rows; r++) {
        const float *w = &want[(size_t)r * stride], *g = &x[(size_t)r * stride];
        int at = 0;
        for (int i = 1; i < n; i++)
            if (w[i] > w[at]) at = i;
        for (int i = 0; i < n; i++)
            if (!std::isfinite(w[i])) at = -2;
        for (int i = 0; i < stride; i++)
            if (!near(g[i], w[i], 0, 0)) return fail("logit %d of %d: %.9g, not %.9g", i, n, g[i], w[i]);
        if (best && (top[r] != at || counters[r]))
            return fail("n %d parts %d kind %d: best %d, not %d", n, parts, kind, top[r], at);
    }
}
static void test_logits()
{
    int k = 0;
    for (int n : {1, 2, 31, 100, 4097, 20000})
        for (int kind = 0; kind < 5; kind++)
            for (int capped = 0; capped < 2; capped++, k++)
                check_logits(1 + k % 3, n, n > 64 ? 1 + k % 4 : 1, k % 4 ? 1 : 0.25f, capped ? 3.0f : 0, kind,
                             k % 9 != 0);
    for (int m = 0; m < MODES; m++) check_logits(2, 9000, awq__cuda_logits_parts(9000) + 2, 1, 30, m % 2, true);
}
// ---- the highest logits
static void check_top(int rows, int n, int parts, int k, int kind)
{
    const int stride = n + 3;
    Buffer<float> x((size_t)rows * stride, 1e30f), value(rows * k, -7.0f);
    Buffer<u64> partial((size_t)rows * parts * (k + 1), ~0ull);
    Buffer<u32> counters(rows);
    Buffer<int> id(rows * k, -7), flag(rows, -7);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < n; i++) {
            float v = (float)uniform(-50, 50);
            if (kind == 1) v = (float)(int)(random32() % 3) - 1;
            if (kind == 2 && r == 1 && i == n / 2) v = i % 2 ? INFINITY : NAN;
            x[(size_t)r * stride + i] = v;
        }
    awq__cuda_top a = {};
    a.logits = x.address(), a.partial = partial.address(), a.counters = counters.address(), a.id = id.address();
    a.bad = flag.address(), a.value = value.address(), a.n = n, a.stride = stride, a.k = k;
    next_mode();
    if (!launch("awq_top", dim3(parts, rows), TOP_THREADS, TOP_SHARED, a)) return;
    for (int r = 0; r < rows; r++) {
        const float *row = &x[(size_t)r * stride];
        std::vector<int> order(n);
        for (int i = 0; i < n; i++) order[i] = i;
        const bool wrong = kind == 2 && r == 1;
        if (flag[r] != wrong || counters[r]) return fail("n %d parts %d row %d: flag %d", n, parts, r, flag[r]);
        if (wrong) continue;
        std::sort(order.begin(), order.end(),
                  [&](int i, int j) { return row[i] != row[j] ? row[i] > row[j] : i < j; });
        for (int i = 0; i < k; i++)
            if (id[r * k + i] != (i < n ? order[i] : -1) || (i < n && value[r * k + i] != row[order[i]]))
                return fail("n %d parts %d k %d row %d: number %d is %d, %g", n, parts, k, r, i, id[r * k + i],
                            value[r * k + i]);
    }
}
static void test_top()
{
    int c = 0;
    for (int n : {1, 20, 2500})
        for (int kind = 0; kind < 3; kind++)
            for (int k : {1, 9}) check_top(2, n, n > 20 ? 1 + c % 4 : 1, k, kind), c++;
    for (int m = 0; m < MODES; m++) check_top(1, 1300, 3, 4, m & 1);
}
// to the bit, where awq__expf and awq__exp_body are the same
static void test_exact_exp()
{
    for (float x = -87.0f; x <= 88.0f; x += 0.00731f)
        if (exact_exp(x) != cpu_exp_body(x))
            return fail("exp(%.9g): %.9g, not %.9g", x, exact_exp(x), cpu_exp_body(x));
    if (exact_exp(-88) != 0 || exact_exp(89) != INFINITY || exact_exp(NAN) == exact_exp(NAN))
        fail("ends of exp");
    if (!near(exact_exp(88.6f), std::exp((double)88.6f), 1e-6, 0)) fail("exp(88.6)");
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) only = argv[1];
    run("arguments", test_arguments);
    run("embed", test_embed);
    run("norm", test_norm);
    run("norm_flags", test_norm_flags);
    run("norm_range", test_norm_range);
    run("place", test_place);
    run("act", test_act);
    run("logits", test_logits);
    run("top", test_top);
    run("exact_exp", test_exact_exp);
    return report();
}
