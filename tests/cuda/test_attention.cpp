/* test_attention.cpp - the kernels of tools/cuda/attention.cuh against softmax in double, in the emulator

       g++ -O2 -std=c++17 -mf16c -o test_attention tests/cuda/test_attention.cpp && ./test_attention [part
   of a test's name]

   The bound is that of attention.cuh's first comment, per query. Pages lie in any order; what was never
   written in them is NaN, and so are pages before the window. */
#include "emulator.h"
#include "../../tools/cuda/prims.cuh"
#include "../../tools/cuda/common.cuh"
#include "../../tools/cuda/block.cuh"
#include "../../tools/cuda/attention.cuh"
#include "../../tools/cuda/steps.h"
#include "check.h"

static void test_arguments()
{
    static_assert(sizeof(Attend) == sizeof(awq__cuda_attend), "structs");
#define SAME(m) static_assert(offsetof(Attend, m) == offsetof(awq__cuda_attend, m), #m)
    SAME(sink);
    SAME(head_bytes);
    SAME(v_row);
    SAME(split_pages);
    SAME(cap);
}

struct Heads {
    int heads, kv_heads, k_dim, v_dim;
};
// sequences with keys and values of every position, in pages; queries of stretches of them
struct Scene {
    Heads h;
    int window, v_row, pages, rows;
    size_t head_bytes, page_bytes, cache_at;
    std::vector<awq__cuda_stretch> stretch;
    std::vector<int> of; // sequence of a row
    Buffer<u16> cache, q;
    Buffer<u64> page;
    Buffer<int> pos, slot;
    Buffer<float> sink;

    // at[i] = {position of the first row, rows} of sequence i
    Scene(Heads heads, int window_, const std::vector<std::pair<int, int>> &at, double range = 1)
        : h(heads), window(window_), v_row((h.v_dim + 31) / 32 * 32), pages(1), rows(0),
          head_bytes(64u * (h.k_dim + v_row)), page_bytes(2 * h.kv_heads * head_bytes),
          cache_at(h.kv_heads * head_bytes), cache(count(at) * page_bytes / 2, 0x7e00),
          q(total(at) * h.heads * h.k_dim), page(at.size() * pages), pos(total(at)), slot(total(at)),
          sink(h.heads)
    {
        size_t used = 0, n = cache.n * 2 / page_bytes;
        for (size_t i = 0; i < at.size(); i++) {
            const int end = at[i].first + at[i].second;
            const int begin = (int)awq__cuda_attend_first(at[i].first, window) / 32;
            stretch.push_back({rows, at[i].second, at[i].first});
            for (int r = 0; r < at[i].second; r++) {
                pos[rows] = at[i].first + r, slot[rows] = (int)(at.size() - 1 - i);
                of.push_back((int)i);
                rows++;
            }
            for (int b = begin; b <= (end - 1) / 32; b++)
                page[slot[rows - 1] * pages + b] = cache.address() + (used++ * 5 + 3) % n * page_bytes;
            for (int j = begin * 32; j < end; j++)
                for (int k = 0; k < h.kv_heads; k++) {
                    for (int d = 0; d < h.k_dim; d++)
                        *key((int)i, k, j, d) = emu::f32_to_f16((float)uniform(-range, range));
                    for (int d = 0; d < v_row; d++)
                        *value((int)i, k, j, d) = d < h.v_dim ? emu::f32_to_f16((float)uniform(-2, 2)) : 0;
                }
        }
        for (size_t i = 0; i < q.n; i++) q[i] = emu::f32_to_f16((float)uniform(-range, range));
        for (int i = 0; i < h.heads; i++) sink[i] = (float)uniform(-3, 3);
    }
    size_t count(const std::vector<std::pair<int, int>> &at)
    {
        size_t n = 0;
        for (auto &a : at) {
            pages = std::max(pages, (a.first + a.second - 1) / 32 + 1);
            n += (a.first + a.second - 1) / 32 - awq__cuda_attend_first(a.first, window) / 32 + 1;
        }
        while (n % 5 == 0) n++; // every page once
        return n;
    }
    static size_t total(const std::vector<std::pair<int, int>> &at)
    {
        size_t n = 0;
        for (auto &a : at) n += a.second;
        return n;
    }
    u16 *head(int i, int k, int j) // row of the first row of the sequence tells its slot
    {
        return (u16 *)(page[slot[stretch[i].row] * pages + j / 32] + cache_at + k * head_bytes);
    }
    u16 *key(int i, int k, int j, int d) { return head(i, k, j) + d * 32 + j % 32; }
    u16 *value(int i, int k, int j, int d) { return head(i, k, j) + h.k_dim * 32 + j % 32 * v_row + d; }
};

struct How {
    bool sink, bf16, same_bits;
    float cap;
    int split_pages; // 0: what the plan says
    uint32_t shared; // 0: plenty
    int sms;
};

// out of all rows as bits, and compared with double
static std::vector<u16> attend(Scene &s, const How &how, bool compare = true)
{
    const int group = s.h.heads / s.h.kv_heads, stride = padded(s.h.heads * s.h.v_dim) + 8;
    awq__cuda_device device = {AWQ_ARCH / 10, 0, how.sms ? how.sms : 8};
    awq__cuda_attend_plan plan;
    Buffer<int> tile(4 * awq__cuda_attend_tiles(s.rows, group));
    Buffer<u16> out((size_t)s.rows * stride, 0x1111);
    std::vector<u16> result;
    const uint32_t shared = how.shared ? how.shared : AWQ_ARCH < 800 ? 65536 : 166912;
    if (!awq__cuda_attend_plan_for(&device, shared, s.h.heads, s.h.kv_heads, s.h.k_dim, s.h.v_dim, s.window,
                                   s.stretch.data(), (int)s.stretch.size(), how.same_bits,
                                   (int32_t(*)[4])tile.p, &plan)) {
        fail("no plan");
        return result;
    }
    if (how.split_pages && !how.same_bits && plan.tiles[0]) {
        plan.split_pages = how.split_pages;
        plan.grid[0][2] = s.pages / how.split_pages + 1;
        plan.partial = (size_t)plan.tiles[0] * s.h.kv_heads * plan.grid[0][2] * 16 * (s.h.v_dim + 2) * 4;
        plan.counters = (size_t)plan.tiles[0] * s.h.kv_heads;
    }
    Buffer<float> partial(plan.partial / 4 + 1, NAN);
    Buffer<u32> counters(plan.counters + 1);
    awq__cuda_attend a = {};
    a.q = s.q.address(), a.out = out.address(), a.tile = tile.address(), a.pos = s.pos.address();
    a.slot = s.slot.address(), a.page = s.page.address(), a.sink = how.sink ? s.sink.address() : 0;
    a.partial = partial.address(), a.counters = counters.address();
    a.cache_at = s.cache_at, a.head_bytes = s.head_bytes, a.heads = s.h.heads, a.group = group;
    a.k_dim = s.h.k_dim, a.v_dim = s.h.v_dim, a.v_row = s.v_row, a.out_stride = stride, a.page_stride = s.pages;
    a.window = s.window, a.split_pages = plan.split_pages, a.bf16 = how.bf16, a.cap = how.cap;
    a.scale = (float)(1 / std::sqrt((double)s.h.k_dim));
    next_mode(); // for both kernels
    for (int k = 0; k < 2; k++)
        for (int at = 0; at < plan.tiles[k]; at += k ? plan.tiles[k] : plan.at_once) {
            const int n = k ? plan.tiles[k] : std::min(plan.at_once, plan.tiles[k] - at);
            a.tile = tile.address() + 16 * (at + (k ? plan.tiles[0] : 0));
            if (!launch(plan.kernel[k], dim3(n, plan.grid[k][1], plan.grid[k][2]), plan.threads[k],
                        plan.smem[k], a))
                return result;
        }
    for (size_t i = 0; i < plan.counters; i++)
        if (counters[i]) fail("a counter is left at %u", counters[i]);
    result.assign(out.p, out.p + out.n);
    for (int r = 0; compare && r < s.rows; r++)
        for (int h = 0; h < s.h.heads && s.pos[s.stretch[s.of[r]].row] >= 0; h++) {
            const int from = (int)awq__cuda_attend_first(s.pos[r], s.window), to = s.pos[r], kv = h / group;
            std::vector<double> p(to - from + 1), o(s.h.v_dim);
            double top = -1e300, sum = 0, e = 0, v_top = 0;
            for (int j = from; j <= to; j++) {
                double dot = 0, all = 0;
                for (int d = 0; d < s.h.k_dim; d++) {
                    double x = emu::f16_to_f32(s.q[((size_t)r * s.h.heads + h) * s.h.k_dim + d])
                               * (double)emu::f16_to_f32(*s.key(s.of[r], kv, j, d));
                    dot += x, all += std::fabs(x);
                }
                double y = dot * a.scale;
                if (how.cap > 0) y = how.cap * std::tanh(y / how.cap);
                e = std::max(e, 0x1p-22 * (1 + std::fabs(y)) + (s.h.k_dim + 2) * 0x1p-24 * a.scale * all
                                    + 0x1p-21 * how.cap);
                p[j - from] = y;
                top = std::max(top, y);
            }
            for (double &y : p) sum += y = std::exp(y - top);
            if (how.sink) sum += std::exp((double)s.sink[h] - top);
            for (int j = from; j <= to; j++)
                for (int d = 0; d < s.h.v_dim; d++) {
                    double v = emu::f16_to_f32(*s.value(s.of[r], kv, j, d));
                    o[d] += p[j - from] / sum * v;
                    v_top = std::max(v_top, std::fabs(v));
                }
            const double bound = v_top * (0x1p-11 + 2 * e + (to - from + 1) * 0x1p-25 / sum);
            for (int d = 0; d < s.h.v_dim; d++) {
                const float got = from_half(how.bf16, out[(size_t)r * stride + h * s.h.v_dim + d]);
                if (!near(got, o[d], how.bf16 ? 0x1p-8 : 0x1p-11, bound)) {
                    fail("%s %s, row %d (position %d, window %d) head %d dimension %d: %g, not %g +- %g",
                         plan.kernel[0], plan.kernel[1], r, to, s.window, h, d, got, o[d], bound);
                    return result;
                }
            }
        }
    for (int r = 0; r < s.rows; r++)
        for (int i = s.h.heads * s.h.v_dim; i < stride; i++)
            if (out[(size_t)r * stride + i] != 0x1111) fail("written behind the heads of row %d", r);
    return result;
}

static const Heads shapes[] = {{4, 1, 64, 64},  {2, 2, 32, 32},   {6, 2, 80, 80}, {9, 1, 128, 128},
                               {20, 1, 64, 64}, {3, 3, 192, 128}, {2, 1, 96, 40}, {3, 1, 256, 256},
                               {2, 1, 72, 200}, {16, 1, 128, 128}};

// rows of different sequences, one each: keys of less than a page, whole pages, many
static void test_decode()
{
    int k = 0;
    for (const Heads &h : shapes)
        for (int split : {0, 1, 2, 5}) {
            Scene s(h, 0, {{0, 1}, {31, 1}, {32, 1}, {200 + 3 * k, 1}, {5, 1}});
            attend(s, {k % 3 == 1, k % 2 == 1, false, k % 4 == 2 ? 5.0f : 0, split, 0, 0});
            k++;
        }
}
static void test_window()
{
    int k = 0;
    for (const Heads &h : shapes)
        for (int window : {1, 7, 32, 100}) {
            Scene s(h, window, {{5, 1}, {31, 1}, {99 + k, 1}, {300, 2}});
            attend(s, {k % 2 == 1, false, false, k % 3 == 2 ? 4.0f : 0, k % 4, 0, 0});
            k++;
        }
}
// many rows of a sequence, with keys before them and without, with one row of others
static void test_prefill()
{
    int k = 0;
    for (const Heads &h : shapes) {
        const int group = h.heads / h.kv_heads, n = 64 / group + 60 / group + 3;
        for (int window : {0, 40}) {
            Scene s(h, window, {{0, n}, {70 + k, 1}, {37, 2 * n}});
            attend(s, {k % 3 == 1, k % 2 == 1, false, k % 4 == 3 ? 5.0f : 0, 0, 0, 0});
            k++;
        }
    }
}
static void test_modes()
{
    const Heads h = {8, 2, 128, 128};
    for (int window : {0, 50})
        for (int m = 0; m < MODES; m++) {
            Scene s(h, window, {{150, 40}, {333, 1}});
            attend(s, {m % 2 == 1, false, false, 0, m % 3 ? 3 : 40, 0, 0});
        }
    for (const Heads &few : {Heads{8, 2, 64, 64}, Heads{4, 1, 192, 128}, Heads{2, 1, 256, 256}})
        for (int m = 0; m < MODES; m++) { // less shared memory, so fewer warps of split
            Scene s(few, m & 1 ? 40 : 0, {{70, 64 * few.kv_heads / few.heads + 1}, {100, 1}, {40, 3}});
            attend(s, {false, m % 3 == 1, false, 0, 2, AWQ_ARCH < 800 ? 0u : 101376u, 0});
        }
}
// same_bits: a row alone, with others, in the middle of a stretch, with other SMs: the same bits. And the
// same from run to run in any mode.
static void test_same_bits()
{
    for (int window : {0, 45, 300})
        for (const Heads &h : {Heads{4, 2, 64, 64}, Heads{5, 1, 128, 128}}) {
            // more than one split, and some before the window, which at row 28 comes to another page
            const int n = 70, base = window ? 1552 : 560;
            Scene s(h, window, {{base, n}, {20, 1}});
            How how = {true, false, true, 0, 0, 0, 4};
            std::vector<u16> all = attend(s, how), again = attend(s, how, false);
            const size_t width = all.size() / s.rows;
            if (all != again) fail("not the same bits again");
            for (auto &part : std::vector<std::pair<int, int>>{{0, 1}, {3, 5}, {28, 4}, {40, 30}, {69, 1}}) {
                Scene t(h, window, {{base, n}, {20, 1}});
                t.cache.~Buffer<u16>(); // the same keys, values and queries
                new (&t.cache) Buffer<u16>(s.cache.n);
                std::copy(s.cache.p, s.cache.p + s.cache.n, t.cache.p);
                for (size_t i = 0; i < s.page.n; i++)
                    t.page[i] = s.page[i] ? s.page[i] - s.cache.address() + t.cache.address() : 0;
                std::copy(s.q.p, s.q.p + s.q.n, t.q.p), std::copy(s.sink.p, s.sink.p + s.sink.n, t.sink.p);
                t.stretch = {{part.first, part.second, base + part.first}};
                how.sms = 100;
                std::vector<u16> some = attend(t, how, false);
                if (memcmp(&some[part.first * width], &all[part.first * width], part.second * width * 2))
                    fail("rows %d to %d have other bits alone (window %d)", part.first,
                         part.first + part.second - 1, window);
            }
        }
}
// Scores far from 0, keys equal, a sink far above: the maximum is taken off.
static void test_range()
{
    Scene s({2, 1, 64, 64}, 0, {{130, 1}, {65, 40}}, 60);
    attend(s, {false, false, false, 0, 2, 0, 0});
    for (int i = 0; i < 2; i++) s.sink[i] = i ? 1e4f : 500;
    std::vector<u16> out = attend(s, {true, false, false, 50, 2, 0, 0}, false);
    for (int i = 0; i < 128; i++)
        if (emu::f16_to_f32(out[i]) != 0) return fail("a sink far above leaves %g", emu::f16_to_f32(out[i]));
}
// a sequence that has left: nothing is written, nothing read
static void test_left()
{
    Scene s({4, 2, 64, 64}, 0, {{70, 1}, {100, 30}, {10, 1}});
    for (int r = 1; r < 31; r++) s.pos[r] = -1;
    std::vector<u16> out = attend(s, {false, false, false, 0, 0, 0, 0});
    const size_t width = out.size() / s.rows;
    for (size_t i = width; i < 31 * width; i++)
        if (out[i] != 0x1111) return fail("a row that left was written");
}
static void test_plan()
{
    awq__cuda_device d = {90, 0, 132};
    awq__cuda_attend_plan p;
    int32_t tile[64][4];
    awq__cuda_stretch one = {0, 1, 4095};
    if (awq__cuda_attend_plan_for(&d, 232448, 8, 8, 264, 64, 0, &one, 1, 0, tile, &p)
        || awq__cuda_attend_plan_for(&d, 232448, 8, 8, 64, 60, 0, &one, 1, 0, tile, &p))
        fail("a plan for heads that no kernel takes");
    if (!awq__cuda_attend_plan_for(&d, 232448, 32, 8, 128, 128, 0, &one, 1, 0, tile, &p)
        || strcmp(p.kernel[0], "awq_attend_split_128") || p.tiles[0] != 1 || p.tiles[1] || p.grid[0][2] < 24
        || p.grid[0][2] > 33)
        fail("%s: %d tiles, %u splits of %d pages", p.kernel[0], p.tiles[0], p.grid[0][2], p.split_pages);
    // many rows far into a sequence, with the same bits: a part of the tiles at a time
    std::vector<int32_t> tiles(4 * awq__cuda_attend_tiles(2048, 4));
    awq__cuda_stretch long_one = {0, 2048, 30000};
    if (!awq__cuda_attend_plan_for(&d, 232448, 32, 8, 128, 128, 0, &long_one, 1, 1, (int32_t(*)[4])tiles.data(),
                                   &p)
        || p.tiles[0] != 512 || p.tiles[1] || p.at_once < 1 || p.at_once >= 512
        || p.partial > AWQ__CUDA_ATTEND_PARTIAL
        || p.partial < (size_t)p.at_once * 8 * p.grid[0][2] * 16 * 130 * 4)
        fail("%d of %d tiles at once, %zu bytes", p.at_once, p.tiles[0], p.partial);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) only = argv[1];
    run("arguments", test_arguments);
    run("plan", test_plan);
    run("decode", test_decode);
    run("window", test_window);
    run("prefill", test_prefill);
    run("modes", test_modes);
    run("same_bits", test_same_bits);
    run("range", test_range);
    run("left", test_left);
    return report();
}
