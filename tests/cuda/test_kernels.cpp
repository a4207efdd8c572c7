/* test_kernels.cpp - every kernel of tools/cuda against a scalar reference in double, in the emulator

       g++ -O2 -std=c++17 -mf16c -o test_kernels tests/cuda/test_kernels.cpp && ./test_kernels [part of a name]

   -DAWQ_ARCH=750 compiles what a GPU of that generation gets. Each case runs in one of the 24 modes of the
   emulator (6 orders of threads, cp.async late or early, bulk copies and wgmma likewise), the next case in the
   next, and a small shape of each kernel in all of them.

   BOUNDS. y is a sum of products w x with w = (q - z) s. fp32 sums: each addition rounds by at most 2^-24 of
   the sum so far, at most A = sum |w x|, and a term goes through at most C additions: error <= C 2^-24 A, C =
   64 (a group's sum in the tensor core) + k / 64 (sums of groups) + 16 (warps, splits). Kernels that round
   weights to the dtype of x first (rounds_weights below) add at most 2^-11 A for f16, 2^-7 A for bf16 (2^-8 for
   the scale, 2^-8 for the product) and sum all k in the tensor core: C = k + 16. A result stored as f16 or bf16
   adds 2^-11 or 2^-8 of itself. */
#include "emulator.h"
#include "../../tools/cuda/prims.cuh"
#include "../../tools/cuda/common.cuh"
#include "../../tools/cuda/warpgroup.cuh"
#include "../../tools/cuda/linear.cuh"
#include "../../tools/cuda/linear8.cuh"
#include "../../tools/cuda/dense.cuh"
#include "../../tools/cuda/experts.cuh"
#include "../../tools/cuda/repack.cuh"
#include "../../tools/cuda/wgmma.cuh"
#include "../../tools/cuda/wgmma_few.cuh"
#include "../../tools/cuda/experts_wgmma.cuh"
#include "../../tools/cuda/plan.h"
#include "check.h"

// ---- 4-bit linear layers
struct Weights {
    int bits, n, k, group, n_pad, k_tiles, groups; // bits 16: dense
    bool bf16;                                     // of dense weights
    std::vector<u8> q, z;                          // [n][k], [n][groups]
    std::vector<u16> s;                            // [n][groups] f16
    Buffer<u32> tile, sz;
    Buffer<u16> dense;

    static int pad(int v) { return (v + 63) / 64 * 64; }
    Weights(int bits_, int n_, int k_, int group_, bool bf16_ = false, int file_bits = 8)
        : bits(bits_), n(n_), k(k_), group(group_), n_pad(pad(n_)), k_tiles(pad(k_) / 64),
          groups((pad(k_) + group_ - 1) / group_), bf16(bf16_), q((size_t)n * k), z((size_t)n * groups),
          s(z.size()), tile(bits == 16 ? 1 : (size_t)n_pad * k_tiles * 2 * bits),
          sz((size_t)groups * n_pad, 0x64000000u), dense(bits == 16 ? (size_t)n * k_tiles * 64 : 1)
    {
        for (auto &v : q) v = random32() & ((1 << std::min(bits, file_bits)) - 1);
        for (auto &v : z) v = random32() & ((1 << std::min(bits, file_bits)) - 1);
        for (auto &v : s) v = emu::f32_to_f16((float)uniform(0.004, 0.03));
        for (int o = 0; o < n; o++)
            for (int i = 0; i < groups; i++)
                sz[(size_t)i * n_pad + o] =
                    s[(size_t)o * groups + i] | (0x6400u + z[(size_t)o * groups + i]) << 16;
        for (int o = 0; o < n; o++)
            for (int i = 0; i < k; i++)
                if (bits == 16) dense[(size_t)o * k_tiles * 64 + i] = to_half(bf16, (float)uniform(-0.1, 0.1));
                else put(o, i, q[(size_t)o * k + i]);
    }
    // the tiles by their definitions in common.cuh
    void put(int out, int in, u32 code)
    {
        int r = out % 16, c = in % 16, lane = r % 8 * 4 + c % 8 / 2, kk = in % 64 / 16;
        size_t warp = ((size_t)(out / 64) * k_tiles + in / 64) * 4 + out % 64 / 16;
        if (bits == 4) tile[(warp * 32 + lane) * 4 + kk] |= code << (r / 8 + c / 8 * 2 + c % 2 * 4) * 4;
        else
            tile[((warp * 2 + kk / 2) * 32 + lane) * 4 + kk % 2 * 2 + c / 8] |= code << (r / 8 * 2 + c % 2) * 8;
    }
    double w(int out, int in) const
    {
        size_t i = (size_t)out * groups + in / group;
        if (bits == 16) return from_half(bf16, dense.p[(size_t)out * k_tiles * 64 + in]);
        return (q[(size_t)out * k + in] - z[i]) * (double)emu::f16_to_f32(s[i]);
    }
};

struct Case {
    int rows, n, k, group;
    bool bf16;
    int flags;
    bool bias;
    const char *kernel; // NULL: what the plan says
    int splits;         // 0: what the plan says
};

static bool rounds_weights(const char *kernel, int group)
{
    return strstr(kernel, "mma64") || strstr(kernel, "mma128") || strstr(kernel, "mma256")
           || (strstr(kernel, "wgmma") && group == 32);
}

static awq__cuda_device device = {AWQ_ARCH / 10, AWQ_HAS_WGMMA, 20, 0};

// launch with the kernel, tile and splits of the case; y as it comes out
static bool launch_linear(const Case &c, awq__cuda_linear a, const awq__cuda_launch &plan, const char *what)
{
    dim3 grid(plan.grid[0], plan.grid[1], plan.grid[2]);
    const bool ok = try_launch(plan.kernel, grid, plan.threads, plan.smem, a);
    if (!ok)
        fail("%s rows %d n %d k %d group %d %s splits %d (%s): %s", plan.kernel, c.rows, c.n, c.k, c.group,
             mode_name(), a.splits, what, emu::error());
    return ok;
}

static void check_linear(const Case &c, const Weights &w, bool same_bits = false,
                         std::vector<float> *result = nullptr)
{
    const int x_stride = w.k_tiles * 64 + 8, y_stride = c.n + (c.n % 3 == 0 || c.n % 4 == 3 ? 1 : 4);
    const int y_at = c.n & 1; // as the second of two matrices side by side
    const bool f32 = c.flags & AWQ__CUDA_Y_F32;
    const float canary = 12345;
    awq__cuda_launch plan;
    if (!awq__cuda_linear_plan(&device, w.bits, c.rows, c.n, c.k, c.group, c.bf16, same_bits, &plan))
        return fail("no plan for rows %d n %d k %d group %d", c.rows, c.n, c.k, c.group);
    if (c.splits > 1 && plan.grid[1] != (uint32_t)c.splits) { // more than the plan has asked for
        plan.counters = 4096;
        plan.partial = (size_t)8 << 20;
    }
    if (c.splits) plan.grid[1] = c.splits;
    Buffer<u16> x((size_t)c.rows * x_stride, to_half(c.bf16, 100)); // never read past k_tiles * 64
    Buffer<float> y32(f32 ? (size_t)c.rows * y_stride + y_at : 1, canary), bias(c.n),
        partial(plan.partial / 4 + 1, NAN);
    Buffer<u16> y16(f32 ? 1 : (size_t)c.rows * y_stride + y_at, to_half(c.bf16, canary));
    Buffer<u32> counters(plan.counters + 1);
    Buffer<u64> best(c.rows);
    std::vector<float> old((size_t)c.rows * c.n);
    auto y = [&](int r, int o) {
        size_t at = y_at + (size_t)r * y_stride + o;
        return f32 ? y32[at] : from_half(c.bf16, y16[at]);
    };
    for (int r = 0; r < c.rows; r++)
        for (int i = 0; i < w.k_tiles * 64; i++)
            x[(size_t)r * x_stride + i] = i < c.k ? to_half(c.bf16, (float)uniform(-1, 1)) : 0;
    for (int i = 0; i < c.n; i++) bias[i] = (float)uniform(-1, 1) - (c.rows % 2 ? 40 : 0); // or all below zero
    for (int r = 0; r < c.rows; r++)
        for (int o = 0; o < c.n; o++) {
            float v = (float)uniform(-1, 1);
            if (f32) y32[y_at + (size_t)r * y_stride + o] = v;
            else y16[y_at + (size_t)r * y_stride + o] = to_half(c.bf16, v);
            old[(size_t)r * c.n + o] = y(r, o);
        }
    awq__cuda_linear a;
    memset(&a, 0, sizeof a);
    a.y = f32 ? y32.address() + 4 * y_at : y16.address() + 2 * y_at;
    a.x = x.address(), a.w = (uint64_t)(uintptr_t)(w.bits == 16 ? (void *)w.dense.p : w.tile.p),
    a.sz = (uint64_t)(uintptr_t)w.sz.p;
    a.bias = c.bias ? bias.address() : 0;
    a.best = best.address();
    a.partial = partial.address(), a.counters = counters.address();
    a.rows = c.rows, a.n = c.n, a.n_pad = w.n_pad, a.k_tiles = w.k_tiles, a.x_stride = x_stride,
    a.y_stride = y_stride;
    a.group = c.group, a.splits = (int)plan.grid[1], a.flags = c.flags;
    a.group_reciprocal = awq__cuda_group_reciprocal(c.group);
    if (!launch_linear(c, a, plan, "launch")) return;

    const bool rounds = w.bits < 16 && rounds_weights(plan.kernel, c.group);
    const double chain = rounds || w.bits == 16 ? c.k + 16 : 64 + c.k / 64 + 16;
    const double weight = rounds ? (c.bf16 ? 0x1p-7 : 0x1p-11) : 0, stored = f32      ? 0
                                                                             : c.bf16 ? 0x1p-8
                                                                                      : 0x1p-11;
    for (int r = 0; r < c.rows; r++)
        for (int o = 0; o < c.n; o++) {
            double sum = 0, total = 0;
            for (int i = 0; i < c.k; i++) {
                double term = w.w(o, i) * from_half(c.bf16, x[(size_t)r * x_stride + i]);
                sum += term, total += std::fabs(term);
            }
            double more = (c.bias ? bias[o] : 0) + (c.flags & AWQ__CUDA_ADD ? old[(size_t)r * c.n + o] : 0);
            double bound =
                (chain * 0x1p-24 + weight) * total + 2 * 0x1p-24 * (std::fabs(sum) + std::fabs(more) + 3);
            bound += stored * (std::fabs(sum + more) + bound);
            if (!(std::fabs(y(r, o) - (sum + more)) <= bound))
                fail("%s rows %d n %d k %d group %d flags %d splits %d (%s): y[%d][%d] is %g, not %g +- %g",
                     plan.kernel, c.rows, c.n, c.k, c.group, c.flags, a.splits, mode_name(), r, o, y(r, o),
                     sum + more, bound);
        }
    for (int r = 0; r < c.rows; r++)
        for (int o = c.n; o < y_stride; o++)
            if (y(r, o) != from_half(c.bf16, to_half(c.bf16, canary)) && y(r, o) != canary)
                fail("%s rows %d n %d: y[%d][%d] past the outputs was written", plan.kernel, c.rows, c.n, r, o);
    for (int r = 0; f32 && r < c.rows; r++) {
        int first = 0;
        for (int o = 1; o < c.n; o++)
            if (y(r, o) > y(r, first)) first = o;
        if ((int)awq__cuda_best_index(best[r]) != first)
            fail("%s rows %d n %d: best of row %d is %u, not %d", plan.kernel, c.rows, c.n, r,
                 awq__cuda_best_index(best[r]), first);
    }
    for (size_t i = 0; i < counters.n; i++)
        if (counters[i]) fail("%s: counter %zu is left at %u", plan.kernel, i, counters[i]);
    if (result)
        for (int r = 0; r < c.rows; r++)
            for (int o = 0; o < c.n; o++) result->push_back(y(r, o));
}

// Shapes that are multiples of nothing, every group size, both dtypes, bias, y += and both kinds of y. The plan
// picks the kernel; the table below makes sure that each was picked.
static void test_linear_shapes()
{
    const int rows[] = {1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 31, 33, 63, 64, 65, 130};
    const int ns[] = {1, 27, 64, 96, 128, 330}, ks[] = {64, 192, 576}, groups[] = {32, 64, 128, 192};
    int count = 0;
    for (int bf16 = 0; bf16 < (AWQ_HAS_BF16 ? 2 : 1); bf16++)
        for (int r : rows)
            for (int j = 0; j < 3; j++, count++) {
                int n = ns[(count / 3 + 2 * j) % 6], k = ks[(count + j) % 3], group = groups[(count * 3 + j) % 4];
                if (count % 7 == 0) group = (k + 63) / 64 * 64;
                Weights w(4, n, k, group);
                next_mode();
                check_linear({r, n, k, group, bf16 != 0, count % 4, count % 3 == 0, NULL, 0}, w);
            }
}
// The plan's kernel for each dtype, in every mode. Its pipeline goes round, of many rows in each of two splits.
static void check_modes(int bits, int group, int rows, int modes)
{
    const int n = 24, k = rows <= 4 ? 4800 : rows <= 32 ? 2200 : 1500;
    for (int bf16 = 0; bf16 < (AWQ_HAS_BF16 ? 2 : 1); bf16++) {
        Weights w(bits, n, k, group, bf16 != 0);
        for (int m = 0; m < modes; m++) {
            next_mode();
            check_linear({rows, n, k, group, bf16 != 0, AWQ__CUDA_Y_F32, false, NULL, rows <= 4 ? 1 : 2}, w);
        }
    }
}
// Pipelines go round: 75 tiles are more than the ring of eight warps holds, 24 more than the stages of a block,
// and neither is a multiple of what a step takes. Splits are uneven.
static void test_linear_modes()
{
    for (int group : {32, 64, 128}) {
        Weights deep(4, 24, 4800 - 40, group), wide(4, 80, 1500, group);
        for (int r : {1, 3, 8, 12, 20, 40, 70}) {
            if (device.wgmma && r <= 4) continue; // the same kernels
            const Weights &w = r <= 4 ? deep : wide;
            for (int splits : {1, 3})
                for (int m = 0; m < 2; m++) {
                    next_mode();
                    check_linear({r, w.n, w.k, group, AWQ_HAS_BF16 && m == 1, 1, false, NULL, splits}, w);
                }
        }
    }
    if (!device.wgmma)
        for (int group : {32, 128}) check_modes(4, group, 3, MODES);
    for (int r : {6, 13, 19, 35, 66}) check_modes(4, 128, r, device.wgmma ? BULK_MODES : MODES);
}
// blocks of many rows: the plan takes them when they are enough for the SMs
static void test_linear_many_rows()
{
    const int sms = device.sms;
    device.sms = 1;
    for (int group : {32, 128, 576}) {
        Weights w(4, 190, 576, group);
        for (int r : {65, 128, 130, 257})
            for (int m = 0; m < 2; m++) {
                next_mode();
                check_linear(
                    {r, 190, 576, group, AWQ_HAS_BF16 && m == 1, (r + m) % 4, m == 1, NULL, r == 130 ? 2 : 0},
                    w);
            }
    }
    if (device.wgmma) check_modes(4, 128, 130, BULK_MODES);
    device.sms = sms;
}
// same_bits: an output has the same bits whatever the number of rows
static void test_linear_same_bits()
{
    Weights w(4, 70, 700, 64);
    std::vector<float> all;
    uint32_t start = seed;
    next_mode();
    check_linear({67, 70, 700, 64, false, 1, false, NULL, 0}, w, true, &all);
    for (int r : {1, 5, 16, 32, 40}) {
        std::vector<float> some;
        seed = start; // the same x: rows are drawn first
        next_mode();
        check_linear({r, 70, 700, 64, false, 1, false, NULL, 0}, w, true, &some);
        if (some.empty() || memcmp(some.data(), all.data(), some.size() * 4)) fail("%d rows differ from 67", r);
    }
}
// weights of 8 bits, and dense ones
static void test_linear8()
{
    const int rows[] = {1, 3, 4, 5, 16, 17, 63, 64, 65, 129}, ns[] = {1, 50, 64, 130}, groups[] = {32, 64, 128};
    int count = 0;
    for (int bf16 = 0; bf16 < (AWQ_HAS_BF16 ? 2 : 1); bf16++)
        for (int r : rows)
            for (int j = 0; j < 3; j++, count++) {
                int n = ns[(count + j) % 4], k = count % 2 ? 576 : 1000, group = groups[(count / 2 + j) % 3];
                Weights w(8, n, k, group);
                next_mode();
                check_linear({r, n, k, group, bf16 != 0, count % 4, count % 3 == 0, NULL, count % 5 ? 0 : 2},
                             w);
            }
}
static void test_dense()
{
    const int rows[] = {1, 2, 7, 8, 9, 16, 17, 63, 64, 65, 129}, ns[] = {1, 50, 64, 130};
    int count = 0;
    for (int bf16 = 0; bf16 < (AWQ_HAS_BF16 ? 2 : 1); bf16++)
        for (int r : rows)
            for (int j = 0; j < 2; j++, count++) {
                int n = ns[(count / 2 + j) % 4], k = count % 2 ? 576 : 1000;
                Weights w(16, n, k, 64, bf16 != 0);
                next_mode();
                check_linear({r, n, k, 64, bf16 != 0, count % 4, count % 3 == 0, NULL, count % 5 ? 0 : 2}, w);
            }
}
// Experts: slots in the order of experts, some of which have none; each slot against the reference. same_bits:
// a slot alone has the same bits.
static void check_experts(int bits, int rows, int experts, int top, int n, int k, int group, bool bf16,
                          int flags, bool has_bias, bool same_bits)
{
    const int slots = rows * top, x_stride = (k + 63) / 64 * 64 + 8, y_stride = n + (n % 3 == 0 ? 1 : 4);
    const bool f32 = flags & AWQ__CUDA_Y_F32;
    const int spare = slots % 3; // places that nobody has, as when a sequence has left
    std::vector<std::unique_ptr<Weights>> w;
    std::vector<int> of;
    Buffer<float> bias((size_t)experts * n), y32((size_t)slots * y_stride, 77.0f);
    Buffer<u16> x((size_t)slots * x_stride, to_half(bf16, 100)),
        y16((size_t)slots * y_stride, to_half(bf16, 77));
    Buffer<u64> table((size_t)experts * 4);
    Buffer<int> start(experts + 1);
    awq__cuda_launch plan;
    if (!awq__cuda_experts_plan(&device, bits, rows, experts, top, n, k, group, bf16, same_bits, &plan))
        return fail("no plan for experts of %d bits", bits);
    for (int e = 0; e < experts; e++) {
        w.emplace_back(new Weights(bits, n, k, group, bf16));
        table[e * 4] = (uint64_t)(uintptr_t)(bits == 16 ? (void *)w[e]->dense.p : w[e]->tile.p);
        table[e * 4 + 1] = w[e]->sz.address();
        table[e * 4 + 2] = has_bias ? bias.address() + (uint64_t)e * n * 4 : 0;
    }
    for (size_t i = 0; i < bias.n; i++) bias[i] = (float)uniform(-1, 1);
    for (int r = 0; r < rows; r++) { // `top` different ones, low numbers more often
        std::set<int> mine;
        while ((int)mine.size() < top) mine.insert((int)(random32() % (1 + random32() % (u32)experts)));
        of.insert(of.end(), mine.begin(), mine.end());
    }
    std::sort(of.begin(), of.end());
    of.resize(slots - spare);
    for (int e = 0; e <= experts; e++)
        start[e] = (int)(std::lower_bound(of.begin(), of.end(), e) - of.begin());
    for (size_t s = 0; s < of.size(); s++)
        for (int i = 0; i < x_stride - 8; i++)
            x[s * x_stride + i] = i < k ? to_half(bf16, (float)uniform(-1, 1)) : 0;
    awq__cuda_experts a;
    memset(&a, 0, sizeof a);
    a.linear.x = x.address(), a.linear.y = f32 ? y32.address() : y16.address();
    a.linear.n = n, a.linear.n_pad = w[0]->n_pad, a.linear.k_tiles = w[0]->k_tiles;
    a.linear.x_stride = x_stride, a.linear.y_stride = y_stride, a.linear.group = group, a.linear.splits = 1;
    a.linear.flags = flags, a.linear.group_reciprocal = awq__cuda_group_reciprocal(group);
    a.table = table.address(), a.start = start.address(), a.experts = experts;
    auto run_plan = [&]() {
        next_mode();
        return launch(plan.kernel, dim3(plan.grid[0], plan.grid[1], plan.grid[2]), plan.threads, plan.smem, a);
    };
    if (!run_plan()) return;
    auto y = [&](size_t at) { return f32 ? y32[at] : from_half(bf16, y16[at]); };
    const bool rounds = bits < 16 && rounds_weights(plan.kernel, group);
    const double chain = rounds || bits == 16 ? k + 16 : 64 + k / 64 + 16;
    const double weight = rounds ? (bf16 ? 0x1p-7 : 0x1p-11) : 0, stored = f32 ? 0 : bf16 ? 0x1p-8 : 0x1p-11;
    for (int s = 0; s < slots; s++)
        for (int o = 0; o < y_stride; o++) {
            const size_t at = (size_t)s * y_stride + o;
            double sum = 0, total = 0, more;
            if (s >= (int)of.size() || o >= n) {
                if (y(at) != 77) return fail("%s: slot %d output %d was written", plan.kernel, s, o);
                continue;
            }
            for (int i = 0; i < k; i++) {
                double term = w[of[s]]->w(o, i) * from_half(bf16, x[(size_t)s * x_stride + i]);
                sum += term, total += std::fabs(term);
            }
            more = has_bias ? bias[(size_t)of[s] * n + o] : 0;
            double bound = (chain * 0x1p-24 + weight) * total + 2 * 0x1p-24 * (std::fabs(sum) + 3);
            bound += stored * (std::fabs(sum + more) + bound);
            if (!(std::fabs(y(at) - (sum + more)) <= bound))
                return fail("%s rows %d experts %d top %d n %d k %d group %d (%s): slot %d of expert %d, "
                            "output %d is %g, not %g +- %g",
                            plan.kernel, rows, experts, top, n, k, group, mode_name(), s, of[s], o, y(at),
                            sum + more, bound);
        }
    if (!same_bits || !f32 || of.empty()) return;
    const size_t s = of.size() / 2; // alone
    std::vector<float> among(y32.p + s * y_stride, y32.p + s * y_stride + n);
    for (int e = 0; e <= experts; e++) start[e] = e > of[s];
    memmove(x.p, x.p + s * x_stride, (size_t)x_stride * 2);
    awq__cuda_experts_plan(&device, bits, 1, experts, top, n, k, group, bf16, same_bits, &plan);
    if (!run_plan()) return;
    if (memcmp(among.data(), y32.p, (size_t)n * 4)) fail("%s: a slot alone has other bits", plan.kernel);
}
static void test_experts()
{
    int count = 0;
    for (int bits : {4, 8, 16})
        for (int bf16 = 0; bf16 < (AWQ_HAS_BF16 ? 2 : 1); bf16++)
            for (int rows : {1, 3, 4, 5, 40, 150})
                for (int group : {32, 64}) {
                    const int many = rows == 150, experts = many ? 3 : count % 3 ? 9 : 40;
                    if (bits == 16 && group == 32) continue;
                    check_experts(bits, rows, experts, 1 + count % 3, count % 2 ? 72 : 130,
                                  count % 4 ? 192 : 576, group, bf16 != 0, count % 3 ? AWQ__CUDA_Y_F32 : 0, count % 5 != 0,
                                  count % 4 == 1 && count % 3 && !many);
                    count++;
                }
    check_experts(4, 6, 300, 20, 20, 64, 64, false, AWQ__CUDA_Y_F32, true, false); // several rounds of loads
}
// rows of a matrix as a file has them, in its layout, by the table of >>layouts in awq.h
struct Stored {
    Buffer<u8> codes8, zeros8;
    Buffer<u32> codes, zeros;
    Buffer<float> s32;
    Buffer<u16> s16, scaled;
    awq__cuda_repack a;
    // rows from `row` on, n of them, which are those from `first` on of the file's matrix of file_n
    Stored(const Weights &w, int layout, int b, int type, bool symmetric, int file_group, int row, int n, int first,
           int file_n)
        : codes8((size_t)(file_n + 15) / 16 * 16 * w.k),
          zeros8((size_t)(file_n + 15) / 16 * (w.k / file_group) * 80),
          codes((size_t)(file_n + 3) / 4 * ((w.k + 3) / 4) * 4, random32()),
          zeros((size_t)(file_n + 3) / 4 * (w.k / file_group + 15), random32()),
          s32((size_t)file_n * (w.k / file_group + 15), 7), s16((size_t)file_n * (w.k / file_group + 15), 7),
          scaled((size_t)file_n * (w.k / file_group), 7)
    {
        const int fg = w.k / file_group, kw = (w.k * b + 31) / 32, nw = (file_n * b + 31) / 32, pitch = (fg + 15) / 8 * 8;
        const int order[8] = {0, 4, 1, 5, 2, 6, 3, 7}; // nibble of output x, by the table of the layout
        const bool native = layout == AWQ__CUDA_REPACK_NATIVE, gemv = layout == AWQ__CUDA_REPACK_GEMV,
                   fast = layout == AWQ__CUDA_REPACK_GEMV_FAST, marlin = layout == AWQ__CUDA_REPACK_MARLIN,
                   int8 = layout == AWQ__CUDA_REPACK_INT8, compressed = layout == AWQ__CUDA_REPACK_COMPRESSED,
                   gemm = layout == AWQ__CUDA_REPACK_GEMM, bytes = !layout || int8,
                   gptq = !(native || gemv || fast || marlin || compressed || gemm || bytes),
                   by_output = bytes || compressed;
        const u32 top = (1u << b) - 1;
        int chunk = 128;
        while (file_group % chunk) chunk -= 8;
        // value `index` of a stream whose words are `step` apart
        auto put = [&](Buffer<u32> &to, size_t word, size_t step, int index, u32 v) {
            for (int i = 0; i < b; i++) {
                u32 &t = to[word + (size_t)(index * b + i) / 32 * step], bit = 1u << (index * b + i) % 32;
                t = v >> i & 1 ? t | bit : t & ~bit;
            }
        };
        auto code = [&](int o, int i) -> u32 { return w.q[(size_t)(row + o - first) * w.k + i]; };
        memset(&a, 0, sizeof a);
        for (int o = first; o < first + n; o++) {
            const size_t of = (size_t)(row + o - first);
            for (int i = 0; i < w.k; i++) {
                const u32 q = code(o, i);
                const int c = i % chunk, half = w.bits == 4 ? chunk / 2 : chunk;
                if (native)
                    codes8[(((size_t)o / 16 * (w.k / chunk) + i / chunk) * half / 4 + c % half / 4) * 64
                           + o % 16 * 4 + c % 4] |= q << c / half * 4;
                if (bytes) codes8[(size_t)o * w.k + i] = (u8)(int8 ? q - 128 : q);
                if (gemm) put(codes, (size_t)i * nw + o / 8, 0, order[o % 8], q);
                if (compressed || gemv) put(codes, (size_t)o * kw, 1, i, q);
                if (gptq) put(codes, (size_t)o, (size_t)file_n, i, q);
            }
            for (int g = 0; g < fg; g++) {
                const size_t from = of * w.groups + g * file_group / w.group;
                const size_t params = ((size_t)o / 16 * fg + g) * (type ? 48 : 80);
                const float s = emu::f16_to_f32(w.s[from]);
                const int v = o % 32;
                size_t at = by_output ? (size_t)o * fg + g : gemv ? (size_t)o * pitch + g : (size_t)g * file_n + o;
                u32 z = w.z[from];
                if (marlin)
                    at += file_group == w.k ? v % 8 / 2 * 8 + v / 8 * 2 + v % 2 - v : o % 8 * 8 + o % 64 / 8 - o % 64;
                s16[at] = w.s[from];
                s32[at] = s;
                scaled[(size_t)g * file_n + o] = emu::f32_to_f16(-(s * (float)z));
                if (layout == AWQ__CUDA_REPACK_GPTQ) z = (z - 1) & top;
                if (gemm) put(zeros, (size_t)g * nw + o / 8, 0, order[o % 8], z);
                if (compressed) put(zeros, (size_t)g, (size_t)fg, o, z);
                if (gptq) put(zeros, (size_t)g * nw, 1, o, z);
                if (gemv) put(zeros, (size_t)o * (pitch / 8), 1, g, z);
                if (bytes) zeros8[(size_t)o * fg + g] = (u8)(int8 ? z - 128 : z);
                if (native) {
                    zeros8[params + o % 16] = (u8)z;
                    if (type) memcpy(zeros8.p + params + 16 + o % 16 * 2, &w.s[from], 2);
                    else memcpy(zeros8.p + params + 16 + o % 16 * 4, &s, 4);
                }
            }
        }
        for (int band = 0; fast && band < file_n / 4; band++) // words of 16 bits
            for (int at = 0; at < w.k; at++) {
                const int t = 4 * (at % 16), o = 4 * band + at % 64 / 16;
                const int i = 64 * (at / 64) + 32 * (t / 32) + 2 * (t % 32 / 8) + t % 8 / 4;
                u16 &to = ((u16 *)codes.p)[(size_t)band * w.k + at];
                if (o < first || o >= first + n) continue;
                to = (u16)(code(o, i) | code(o, i + 8) << 4 | code(o, i + 16) << 8 | code(o, i + 24) << 12);
            }
        for (int r = 0; marlin && r < w.k / 16; r++)
            for (int at = 0; at < 2 * file_n; at++) {
                const int i = at % 128 / 4, j = at % 4;
                const int tile[4] = {0, 8, 1, 9}, o = 64 * (at / 128) + 16 * j + i / 4;
                u32 &to = codes[(size_t)r * 2 * file_n + at];
                for (int x = 0; x < 8; x++) {
                    const int out = o + x % 4 / 2 * 8;
                    if (out < first || out >= first + n) continue;
                    to = (to & ~(15u << 4 * x)) | code(out, 16 * r + 2 * (i % 4) + tile[x / 4 * 2 + x % 2]) << 4 * x;
                }
            }
        if (layout == AWQ__CUDA_REPACK_GPTQ_WORDS)
            for (size_t i = 0; i < zeros.n; i++) zeros[i] -= b == 2 ? 0x55555555u : b == 4 ? 0x11111111u : 0x01010101u;
        a.codes = bytes || native ? codes8.address() : codes.address();
        a.zeros = marlin || (symmetric && !native) ? 0
                  : bytes || native                ? zeros8.address()
                  : fast                           ? scaled.address()
                                                   : zeros.address();
        a.scales = type ? s16.address() : s32.address();
        a.n = n, a.k = w.k, a.n_pad = w.n_pad, a.k_tiles = w.k_tiles, a.bits = w.bits, a.layout = layout,
        a.type = type, a.file_bits = b, a.pitch = pitch;
        a.file_group = file_group, a.group = w.group, a.file_n = file_n, a.first = first, a.chunk = chunk;
        a.mark = 3;
    }
    // at row `row` of tile and sz; last: the padding too
    bool run(uint64_t tile, uint64_t sz, int row, bool last)
    {
        a.skip = row % 64, a.write = last ? a.n_pad - row : a.n;
        a.to = tile + (uint64_t)(row / 64) * a.k_tiles * 512 * a.bits;
        const dim3 codes_grid(a.k_tiles, (a.skip + a.write + 63) / 64);
        const dim3 params_grid((a.write + 255) / 256, (a.k_tiles * 64 + a.group - 1) / a.group);
        if (!try_launch("awq_repack_codes", codes_grid, 128, 0, a)) return false;
        a.to = sz + (uint64_t)row * 4;
        return try_launch("awq_repack_params", params_grid, 256, 0, a);
    }
};

// every layout to blocks and sz, against Weights::put; whole, and as parts of other matrices one below the other
static void test_repack()
{
    struct {
        int bits, n, k, group, file_group, file_bits;
    } cases[] = {{4, 64, 64, 64, 64, 4},     {4, 72, 192, 64, 64, 4},  {4, 200, 96, 32, 96, 4}, {4, 8, 288, 32, 32, 4},
                 {4, 136, 320, 320, 320, 4}, {8, 72, 192, 64, 192, 8}, {8, 8, 288, 32, 96, 8},  {4, 24, 96, 128, 96, 4},
                 {4, 96, 192, 64, 64, 3},    {8, 32, 96, 32, 96, 6},   {8, 64, 160, 32, 32, 5}, {4, 32, 64, 64, 64, 2},
                 {8, 96, 128, 128, 128, 7}};
    for (auto &c : cases)
        for (int layout = 0; layout < 11; layout++)
            for (int symmetric = 0; symmetric < 2; symmetric++)
                for (int type = 0; type < 2; type++) {
                    const bool fours = layout == AWQ__CUDA_REPACK_GEMM || layout == AWQ__CUDA_REPACK_GEMV
                                       || layout == AWQ__CUDA_REPACK_GEMV_FAST || layout == AWQ__CUDA_REPACK_MARLIN;
                    const bool marlin = layout == AWQ__CUDA_REPACK_MARLIN, half = symmetric || marlin;
                    const bool fast = layout == AWQ__CUDA_REPACK_GEMV_FAST;
                    if (fours && c.file_bits != 4) continue;
                    if (layout == AWQ__CUDA_REPACK_INT8 && c.file_bits != 8) continue;
                    if (layout == AWQ__CUDA_REPACK_GPTQ_WORDS && 32 % c.file_bits) continue;
                    if (fast && (c.k % 64 || !type)) continue;
                    Weights w(c.bits, c.n, c.k, c.group, false, c.file_bits);
                    for (int o = 0; o < c.n; o++) // groups of the file are wider
                        for (int g = 0; g < w.groups; g++) {
                            size_t to = (size_t)o * w.groups + g,
                                   from = (size_t)o * w.groups
                                          + g * c.group / c.file_group * c.file_group / c.group;
                            w.sz[(size_t)g * w.n_pad + o] = 0x64000000u;
                            if (g * c.group >= c.k) continue;
                            w.z[to] = half ? 1 << (c.file_bits - 1) : w.z[from], w.s[to] = w.s[from];
                            w.sz[(size_t)g * w.n_pad + o] = w.s[to] | (0x6400u + w.z[to]) << 16;
                        }
                    Buffer<u32> tile(w.tile.n, 0xffffffffu), sz(w.sz.n, 0xffffffffu), lossy(2);
                    const bool parts = (symmetric ^ type) != 0;
                    const int fit = marlin ? 64 : parts ? 32 : 1; // outputs of the file
                    next_mode();
                    for (int row = 0, n; row < c.n; row += n) {
                        n = parts ? std::min(c.n - row, 1 + (int)(random32() % 90)) : c.n;
                        const int first = parts ? (int)(random32() % 20) : 0;
                        const int file_n = (first + n + (parts ? (int)(random32() % 20) : 0) + fit - 1) / fit * fit;
                        Stored part(w, layout, c.file_bits, type, symmetric != 0, c.file_group, row, n, first, file_n);
                        part.a.lossy = lossy.address();
                        if (!part.run(tile.address(), sz.address(), row, row + n == c.n))
                            return fail("layout %d: %s", layout, emu::error());
                    }
                    if (memcmp(tile.p, w.tile.p, tile.n * 4))
                        fail("layout %d bits %d n %d k %d: codes differ", layout, c.file_bits, c.n, c.k);
                    if (memcmp(sz.p, w.sz.p, sz.n * 4))
                        fail("layout %d bits %d n %d k %d: sz differ", layout, c.file_bits, c.n, c.k);
                    if (lossy[0] || lossy[1]) fail("layout %d: a scale or zero point was called wrong", layout);
                    Stored whole(w, layout, c.file_bits, type, symmetric != 0, c.file_group, 0, c.n, 0,
                                 marlin ? (c.n + 63) / 64 * 64 : c.n);
                    whole.a.lossy = lossy.address();
                    if (!type && layout != AWQ__CUDA_REPACK_NATIVE) {
                        whole.s32[0] = 0.01f; // no f16 number
                        if (!whole.run(tile.address(), sz.address(), 0, true) || lossy[0] != 3 || lossy[1])
                            fail("layout %d: a lossy scale passes", layout);
                        for (float wrong : {1e6f, INFINITY, NAN}) {
                            whole.s32[0] = wrong, lossy[1] = 0;
                            if (!whole.run(tile.address(), sz.address(), 0, true) || lossy[1] != 3)
                                fail("layout %d: a scale of %g passes", layout, wrong);
                        }
                    }
                    if (fast && !symmetric) { // what is no multiple of the scale, 16 times it, of the wrong sign
                        const float s = emu::f16_to_f32(whole.s16[0]), wrong[] = {-0.7f * s, -16 * s, s, 0.0f * s};
                        for (int i = 0; i < 4; i++) {
                            whole.scaled[0] = emu::f32_to_f16(wrong[i]), lossy[1] = 0;
                            if (!whole.run(tile.address(), sz.address(), 0, true) || lossy[1] != (i < 3 ? 3u : 0u))
                                fail("a zero point of %g steps", wrong[i] / s);
                        }
                    }
                }
}
// the sum of all: any change and any exchange shows, the order of blocks does not
static void test_repack_sum()
{
    const size_t n = 3 * 4096 + 17;
    Buffer<u64> data(2 * n), sum(2);
    awq__cuda_sum a = {data.address(), sum.address(), n, 99};
    u64 want = 0;
    for (size_t i = 0; i < 2 * n; i++) {
        data[i] = (u64)random32() << 32 | random32();
        u64 h = (data[i] ^ (99 + i) * 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
        h = (h ^ h >> 32) * 0x94d049bb133111ebull;
        want += h ^ h >> 29;
    }
    for (int m = 0; m < MODES; m++) {
        sum[0] = 0;
        next_mode();
        if (!launch("awq_repack_sum", dim3(4), 256, 0, a)) return;
        if (sum[0] != want) fail("sum of all, %s", mode_name());
    }
    a.n = 4096, a.sum += 8; // in two launches
    launch("awq_repack_sum", dim3(1), 256, 0, a);
    a.data += 16 * a.n, a.seed += 2 * a.n, a.n = n - a.n;
    launch("awq_repack_sum", dim3(3), 256, 0, a);
    if (sum[1] != want) fail("sum in two parts");
}
static void test_repack_dense()
{
    const int n = 5, k = 700, k_tiles = 11;
    for (int m = 0; m < MODES; m++) {
        const int type = m % 3, bf16 = m % 2;
        Buffer<float> f(n * k);
        Buffer<u16> h(n * k), to((size_t)n * k_tiles * 64, 0xffff);
        Buffer<u32> lossy(1);
        for (int i = 0; i < n * k; i++) {
            f[i] = (float)uniform(-2, 2);
            if (type) h[i] = to_half(type == 2, f[i]), f[i] = from_half(type == 2, h[i]);
        }
        awq__cuda_repack a;
        memset(&a, 0, sizeof a);
        a.to = to.address(), a.codes = type ? h.address() : f.address(), a.lossy = lossy.address();
        a.n = n, a.k = k, a.k_tiles = k_tiles, a.type = type, a.bf16 = bf16, a.mark = 1;
        next_mode();
        launch("awq_repack_dense", dim3((k_tiles + 7) / 8, n), 256, 0, a);
        for (int o = 0; o < n; o++)
            for (int i = 0; i < k_tiles * 64; i++)
                if (to[(size_t)o * k_tiles * 64 + i] != (i < k ? to_half(bf16, f[o * k + i]) : 0))
                    return fail("type %d [%d][%d]", type, o, i);
        if (lossy[0]) fail("type %d: called lossy", type);
        if (type == 0 && !bf16) {
            f[3] = 1e5f;
            launch("awq_repack_dense", dim3((k_tiles + 7) / 8, n), 256, 0, a);
            if (!lossy[0]) fail("an overflow passes");
        }
    }
}
// the kernels of 8 bits and dense ones, those of experts, in every mode; pipelines go round
static void test_modes()
{
    for (int r : {3, 10, 35, 66})
        for (int group : {32, 64})
            if (group == 64 || r <= 4) check_modes(8, group, r, MODES);
    for (int r : {3, 10, 35, 66}) check_modes(16, 64, r, MODES);
}
static void test_experts_modes()
{
    const struct {
        int rows, experts, top, k, group;
    } shapes[] = {{2, 4, 2, 4800, 32}, {2, 4, 2, 4800, 64}, {8, 4, 2, 704, 64}, {40, 1, 1, 704, 64}};
    for (int bits : {4, 8, 16})
        for (int bf16 = 0; bf16 < (AWQ_HAS_BF16 ? 2 : 1); bf16++)
            for (auto &s : shapes) {
                const bool bulk = device.wgmma && bits == 4 && s.rows == 40;
                if ((device.wgmma && !bulk) || (bits == 16 && s.rows == 2)) continue; // the same kernels
                for (int m = 0; m < (bulk ? BULK_MODES : MODES); m++)
                    check_experts(bits, s.rows, s.experts, s.top, 30, s.k, s.group, bf16 != 0, AWQ__CUDA_Y_F32,
                                  false, false);
            }
}
// the group of a tile by multiplication, for every k and group there can be
static void test_group_reciprocal()
{
    for (int tiles = 1; tiles <= 1024; tiles++) {
        u32 m = awq__cuda_group_reciprocal(tiles * 64);
        for (u32 t = 0; t < 1024; t++)
            if (t * m >> 20 != t / tiles) return fail("%u / %d", t, tiles);
    }
}
// on every GPU, for every shape: shared memory that it has, blocks for every output and row, room for all sums
static void test_plan()
{
    const struct {
        int arch, wgmma;
        uint32_t smem;
    } gpus[] = {{75, 0, 64},  {80, 0, 163}, {86, 0, 99},   {89, 0, 99},
                {90, 0, 227}, {90, 1, 227}, {100, 0, 227}, {120, 0, 99}};
    const int rows[] = {1, 2, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 1000, 65536};
    const int ns[] = {1, 64, 65, 576, 4096, 28672, 128256}, ks[] = {64, 576, 2880, 4096, 14336, 65536};
    for (auto &g : gpus)
        for (int bits : {4, 8, 16})
            for (int r : rows)
                for (int n : ns)
                    for (int k : ks)
                        for (int flags = 0; flags < 4; flags++) {
                            awq__cuda_device d = {g.arch, g.wgmma, 132, 0};
                            awq__cuda_launch l;
                            bool bf16 = flags & 1, gemv;
                            if (!awq__cuda_linear_plan(&d, bits, r, n, k, 64, bf16, flags >> 1, &l)) {
                                if (!bf16 || g.arch >= 80)
                                    fail("no plan: arch %d bits %d rows %d n %d k %d", g.arch, bits, r, n, k);
                                continue;
                            }
                            if (bf16 && g.arch < 80) fail("bf16 on %d", g.arch);
                            if (AWQ_HAS_WGMMA && !emu::kernels().count(l.kernel))
                                fail("no kernel %s", l.kernel);
                            gemv = strstr(l.kernel, "gemv") != NULL;
                            const char *digits = l.kernel + strcspn(l.kernel, "_") + 1;
                            digits = strchr(digits, '_') + 1; // gemv.., mma.., wgmma..
                            int tile = gemv ? 8 : atoi(digits + strcspn(digits, "0123456789"));
                            int outs = gemv ? 16 : strstr(l.kernel, "wgmma") && tile <= 64 ? 256 : tile >= 128 ? 128 : 64;
                            uint64_t row_blocks = gemv ? 1 : l.grid[0],
                                     out_blocks = gemv ? l.grid[0] : l.grid[2];
                            if (l.smem > g.smem * 1024)
                                fail("%s on %d: %u bytes of shared memory", l.kernel, g.arch, l.smem);
                            if (row_blocks * tile < (uint64_t)r || out_blocks * outs < (uint64_t)n)
                                fail("%s rows %d n %d: too few blocks", l.kernel, r, n);
                            if (l.grid[1] > (uint32_t)(k + 63) / 64)
                                fail("%s k %d: %u splits", l.kernel, k, l.grid[1]);
                            // what is split lives on the card at once; of an SM a block may not have the last KB
                            const uint32_t own = g.arch < 80 ? 0 : 1024, fit = (g.smem * 1024 + own) / (l.smem + own);
                            if (l.grid[1] > 1 && row_blocks * out_blocks * l.grid[1] > std::min(fit, 2u) * 132
                                && !(flags >> 1 && row_blocks > 1))
                                fail("%s on %d: %u splits, %u fit", l.kernel, g.arch, l.grid[1], fit);
                            uint64_t sums = strstr(l.kernel, "wgmma") ? (n + 63) / 64 * 64 : out_blocks * outs;
                            if (l.grid[1] > 1 && l.partial < row_blocks * tile * sums * l.grid[1] * 4)
                                fail("%s: workspace", l.kernel);
                            if (l.grid[1] > 1 && l.counters < row_blocks * sums / outs)
                                fail("%s: counters", l.kernel);
                            if (!awq__cuda_experts_plan(&d, bits, r, 128, 8, n, k, 64, bf16, flags >> 1, &l)) {
                                fail("no plan of experts: arch %d bits %d rows %d n %d k %d", g.arch, bits, r, n,
                                     k);
                                continue;
                            }
                            gemv = strstr(l.kernel, "gemv") != NULL;
                            tile = gemv ? 4 : strstr(l.kernel, "mma64") ? 64 : strstr(l.kernel, "wgmma128") ? 128 : 16;
                            outs = gemv ? 16 : tile == 128 ? 128 : 64;
                            row_blocks = gemv ? l.grid[1] : l.grid[0];
                            out_blocks = gemv ? l.grid[0] : l.grid[2];
                            if (l.smem > g.smem * 1024 || l.partial
                                || (AWQ_HAS_WGMMA && !emu::kernels().count(l.kernel)))
                                fail("%s on %d", l.kernel, g.arch);
                            /* one row of each expert, and the rest of the last */
                            const int64_t slots = (int64_t)r * 8, used = std::min<int64_t>(slots, 128);
                            int64_t most = 0;
                            for (int64_t e = 0, left = slots; e < used; e++) {
                                const int64_t mine = e + 1 < used ? std::min<int64_t>(1, left) : left;
                                most += (mine + tile - 1) / tile, left -= mine;
                            }
                            if ((int64_t)row_blocks < most || (gemv && r > tile)
                                || out_blocks * outs < (uint64_t)n)
                                fail("%s rows %d: %d tiles of %d", l.kernel, r, (int)row_blocks, (int)most);
                        }
}
static void test_arguments()
{
    static_assert(sizeof(Linear) == sizeof(awq__cuda_linear), "the host's struct is the kernels'");
    static_assert(sizeof(Repack) == sizeof(awq__cuda_repack), "likewise");
    static_assert(sizeof(Experts) == sizeof(awq__cuda_experts), "likewise");
    static_assert(offsetof(Experts, experts) == offsetof(awq__cuda_experts, experts), "likewise");
    static_assert(offsetof(Repack, bf16) == offsetof(awq__cuda_repack, bf16), "likewise");
    static_assert(offsetof(Repack, mark) == offsetof(awq__cuda_repack, mark), "likewise");
    static_assert(offsetof(Repack, pitch) == offsetof(awq__cuda_repack, pitch), "likewise");
    static_assert(sizeof(RepackSum) == sizeof(awq__cuda_sum), "likewise");
    static_assert(offsetof(Linear, rows) == offsetof(awq__cuda_linear, rows), "likewise");
    static_assert(offsetof(Linear, group_reciprocal) == offsetof(awq__cuda_linear, group_reciprocal),
                  "likewise");
    static_assert(offsetof(Linear, best) == offsetof(awq__cuda_linear, best), "likewise");
    static_assert(offsetof(Linear, y_stride) == offsetof(awq__cuda_linear, y_stride), "likewise");
}
// the emulator reports what it should: a test of the tests
KERNEL(awq_test_deadlock, 64, int *p)
{
    if (threadIdx.x < 63) __syncthreads();
    (void)p;
}
KERNEL(awq_test_outside, 32, int *p) { store_global(p + 4, (int)threadIdx.x); }
KERNEL(awq_test_diverged, 32, int *p)
{
    if (threadIdx.x & 1) __ballot_sync(~0u, 1);
    else __syncwarp();
    (void)p;
}
KERNEL(awq_test_race, 64, int *p)
{
    DYN_SMEM(smem);
    const u32 at = smem_address(smem);
    sts32(at + threadIdx.x * 4, threadIdx.x);
    __syncwarp();
    if (lds32(at + (threadIdx.x ^ 1) * 4) != (threadIdx.x ^ 1)) *p = 1; // of this warp: fine
    if (lds32(at + (threadIdx.x ^ 32) * 4) != (threadIdx.x ^ 32)) *p = 2;
}
KERNEL(awq_test_race_copy, 32, int *p)
{
    DYN_SMEM(smem);
    copy16(smem_address(smem) + threadIdx.x * 16, p);
    copy_commit();
    p[0] = (int)lds32(smem_address(smem) + threadIdx.x * 16);
}
static void test_emulator()
{
    Buffer<int> b(4);
    int *p = b.p;
    const char *names[] = {"awq_test_deadlock", "awq_test_race", "awq_test_outside", "awq_test_diverged",
                           "awq_test_race_copy"};
    const char *says[] = {"deadlock", "race", "outside", "collective", AWQ_ARCH < 800 ? "" : "race"};
    for (int m = 0; m < BULK_MODES; m++) {
        next_mode();
        for (int i = 0; i < 5; i++) {
            const bool fine = AWQ_ARCH < 800 && i == 4; // copies that are stores have landed
            if (try_launch(names[i], 1, i > 1 ? 32 : 64, 512, p) != fine || !strstr(emu::error(), says[i]))
                fail("%s is not reported, %s: %s", names[i], mode_name(), emu::error());
        }
    }
    for (u32 h = 0; h < 0x7c00; h++)
        if (emu::f64_to_f16(emu::f16_to_f32((u16)h)) != h || emu::f32_to_f16(emu::f16_to_f32((u16)h)) != h)
            return fail("f16 0x%04x does not come back", h);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) only = argv[1];
    run("arguments", test_arguments);
    run("group_reciprocal", test_group_reciprocal);
    run("plan", test_plan);
    run("emulator", test_emulator);
    for (device.wgmma = 0; device.wgmma <= AWQ_HAS_WGMMA; device.wgmma++) {
        run(device.wgmma ? "linear_shapes, wgmma" : "linear_shapes", test_linear_shapes);
        run(device.wgmma ? "linear_modes, wgmma" : "linear_modes", test_linear_modes);
        run(device.wgmma ? "linear_many_rows, wgmma" : "linear_many_rows", test_linear_many_rows);
        run(device.wgmma ? "experts, wgmma" : "experts", test_experts);
        run(device.wgmma ? "experts_modes, wgmma" : "experts_modes", test_experts_modes);
    }
    device.wgmma = AWQ_HAS_WGMMA;
    run("linear_same_bits", test_linear_same_bits);
    run("linear8", test_linear8);
    run("dense", test_dense);
    run("linear8 and dense, modes", test_modes);
    run("repack", test_repack);
    run("repack_dense", test_repack_dense);
    run("repack_sum", test_repack_sum);
    return report();
}
