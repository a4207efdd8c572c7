/* test_moe.cpp - the kernels of tools/cuda/moe.cuh against the CPU's steps, to the bit, in the emulator

       g++ -O2 -std=c++17 -mf16c -o test_moe tests/cuda/test_moe.cpp && ./test_moe [part of a test's name] */
#include "emulator.h"
#include "../../tools/cuda/prims.cuh"
#include "../../tools/cuda/common.cuh"
#include "../../tools/cuda/block.cuh"
#include "../../tools/cuda/moe.cuh"
#include "../../tools/cuda/steps.h"
#include "check.h"

static void test_arguments()
{
    static_assert(sizeof(Route) == sizeof(awq__cuda_route) && sizeof(Slots) == sizeof(awq__cuda_slots),
                  "structs");
    static_assert(sizeof(Gather) == sizeof(awq__cuda_gather) && sizeof(Combine) == sizeof(awq__cuda_combine),
                  "structs");
    static_assert(offsetof(Route, norm_topk) == offsetof(awq__cuda_route, norm_topk), "norm_topk");
    static_assert(offsetof(Combine, f32) == offsetof(awq__cuda_combine, f32), "f32");
}

// ---- the CPU: awq__highest, awq__route_groups, awq__softmax, awq__route_row
static int cpu_highest(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}
static void cpu_groups(int experts, int groups, int top, bool sigmoid, float *choice)
{
    int size = experts / groups;
    std::vector<float> best(groups);
    std::vector<int> stays(groups);
    for (int g = 0; g < groups; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (int i = g * size; i < (g + 1) * size; i++) {
            if (choice[i] > first) second = first, first = choice[i];
            else if (choice[i] > second) second = choice[i];
        }
        best[g] = sigmoid ? first + second : first;
    }
    for (int i = 0; i < top; i++) {
        int g = cpu_highest(best.data(), groups);
        best[g] = -INFINITY;
        stays[g] = 1;
    }
    for (int i = 0; i < experts; i++)
        if (!stays[i / size]) choice[i] = -INFINITY;
}
static void cpu_softmax(float *x, int n)
{
    float top = x[0], sum = 0;
    for (int i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
    for (int i = 0; i < n; i++) sum = sum + (x[i] = cpu_exp(x[i] - top));
    for (int i = 0; i < n; i++) x[i] = x[i] / sum;
}
static void cpu_route(const awq__cuda_route &c, float *score, const float *bias, int *pick, float *weight)
{
    const int E = c.experts, T = c.top;
    std::vector<float> choice(E);
    float sum = 0;
    if (c.score == SCORE_SOFTMAX) cpu_softmax(score, E);
    for (int i = 0; i < E; i++) {
        if (c.score == SCORE_SIGMOID) score[i] = 1.0f / (1.0f + cpu_exp(-score[i]));
        choice[i] = score[i] + (bias ? bias[i] : 0.0f);
    }
    if (c.groups > 1) cpu_groups(E, c.groups, c.top_groups, c.score == SCORE_SIGMOID, choice.data());
    for (int i = 0; i < T; i++) {
        pick[i] = cpu_highest(choice.data(), E);
        choice[pick[i]] = -INFINITY;
        weight[i] = score[pick[i]];
    }
    if (c.score == SCORE_SOFTMAX_TOP) cpu_softmax(weight, T);
    for (int i = 0; i < T; i++) sum = sum + weight[i];
    if (!c.norm_topk || c.score == SCORE_SOFTMAX_TOP) sum = 1;
    for (int i = 0; i < T; i++) weight[i] = weight[i] / (sum > 0 ? sum : 1) * c.routed_scale;
}

// kind: 0 numbers, 1 many ties, 2 some NaN, 3 all NaN, 4 far apart
static void check_route(int experts, int top, int groups, int top_groups, int score, bool norm, bool has_bias,
                        int kind)
{
    const int rows = 7, warps = 1 + kind % 4, stride = experts + 5;
    Buffer<float> scores((size_t)rows * stride, NAN), bias(experts), weight(rows * top, -7.0f);
    Buffer<int> pos(rows), pick(rows * top, -7);
    for (int r = 0; r < rows; r++) {
        pos[r] = r == 4 ? -1 : r;
        for (int i = 0; i < experts; i++) {
            float v = (float)uniform(-4, 4);
            if (kind == 1) v = (float)(int)(random32() % 4);
            if (kind == 2) v = random32() % 8 && (i || r % 2) ? v : NAN;
            if (kind == 3) v = NAN;
            if (kind == 4) v = v * 60;
            scores[(size_t)r * stride + i] = v;
        }
    }
    for (int i = 0; i < experts; i++) bias[i] = kind == 1 ? (float)(i % 2) : (float)uniform(-1, 1);
    awq__cuda_route a = {};
    a.scores = scores.address(), a.bias = has_bias ? bias.address() : 0, a.pos = pos.address();
    a.pick = pick.address(), a.weight = weight.address(), a.rows = rows, a.experts = experts, a.stride = stride;
    a.top = top, a.groups = groups, a.top_groups = top_groups, a.score = score, a.norm_topk = norm;
    a.routed_scale = 2.5f;
    next_mode();
    if (!launch("awq_route", (rows + warps - 1) / warps, 32 * warps,
                warps * awq__cuda_route_shared(experts, groups, top), a))
        return;
    for (int r = 0; r < rows; r++) {
        std::vector<float> s(scores.p + (size_t)r * stride, scores.p + (size_t)r * stride + experts), w(top);
        std::vector<int> p(top, -1);
        if (pos[r] >= 0) cpu_route(a, s.data(), has_bias ? bias.p : NULL, p.data(), w.data());
        for (int i = 0; i < top; i++) {
            if (pick[r * top + i] != p[i])
                return fail("experts %d top %d groups %d score %d kind %d, row %d: expert %d, not %d", experts,
                            top, groups, score, kind, r, pick[r * top + i], p[i]);
            if (pos[r] >= 0 && !near(weight[r * top + i], w[i], 0, 0))
                return fail("experts %d top %d groups %d score %d kind %d, row %d: weight %.9g, not %.9g",
                            experts, top, groups, score, kind, r, weight[r * top + i], w[i]);
        }
    }
}
static void test_route()
{
    int k = 0;
    for (int kind = 0; kind < 5; kind++)
        for (int score = 0; score < 3; score++) {
            const int shape[][4] = {{8, 2, 1, 1}, {60, 4, 1, 1}, {128, 8, 8, 3}, {16, 16, 4, 2},
                                    {1, 1, 1, 1}, {37, 5, 1, 1}, {256, 8, 8, 4}};
            for (auto &s : shape) check_route(s[0], s[1], s[2], s[3], score, k % 2, k % 3 == 0, kind), k++;
        }
    for (int m = 0; m < MODES; m++) check_route(64, 6, 8, 3, m % 3, true, m > 3, m % 2);
}

// ---- slots
static void check_slots(int rows, int experts, int top, int gone)
{
    const int n = rows * top;
    Buffer<int> pick(n), start(experts + 1, -7), slot(n, -7), from(n, -7);
    for (int i = 0; i < n; i++) pick[i] = (i / top) % 5 == gone ? -1 : (int)(random32() % (u32)experts);
    awq__cuda_slots a = {};
    a.pick = pick.address(), a.start = start.address(), a.slot = slot.address(), a.from = from.address();
    a.n = n, a.experts = experts, a.top = top;
    next_mode();
    if (!launch("awq_slots", experts / 8 + 1, 256, 0, a)) return;
    std::vector<int> s(experts + 1), to(n, -1), f(n, -7);
    int taken = 0;
    for (int i = 0; i < n; i++)
        if (pick[i] >= 0) s[pick[i]]++;
    for (int e = 0; e <= experts; e++) taken += s[e], s[e] = taken;
    for (int i = n - 1; i >= 0; i--)
        if (pick[i] >= 0) to[i] = --s[pick[i]], f[to[i]] = i / top;
    for (int e = 0; e <= experts; e++)
        if (start[e] != s[e])
            return fail("%d rows, %d experts: start %d is %d, not %d", rows, experts, e, start[e], s[e]);
    for (int i = 0; i < n; i++)
        if (slot[i] != to[i] || from[i] != f[i])
            return fail("%d rows, %d experts: pick %d: slot %d, not %d; from %d, not %d", rows, experts, i,
                        slot[i], to[i], from[i], f[i]);
}
static void test_slots()
{
    for (int rows : {1, 3, 16, 33, 200})
        for (int experts : {1, 7, 8, 64})
            for (int gone : {-1, 0, 2}) check_slots(rows, experts, 1 + rows % 6, gone);
    for (int m = 0; m < MODES; m++) check_slots(50, 16, 3, m % 3);
}

// ---- gather, combine
static void check_combine(int h, int top, bool bf16, bool f32, bool shared, bool gated)
{
    const int rows = 5, n = rows * top, stride = h + (h % 4 ? 1 : 4), columns = padded(h);
    Values oe(n, stride, f32, bf16), sh(rows, stride, f32, bf16);
    Buffer<int> slot(n), from(n), count(1);
    Buffer<float> weight(n), gate(rows * 3), out((size_t)rows * stride, 77);
    Buffer<u16> xn((size_t)rows * (columns + 8)), xe((size_t)n * (columns + 16), 0x1111);
    for (int i = 0; i < n; i++) {
        slot[i] = i / top == 3 ? -1 : n - 1 - i, from[i] = (int)(random32() % rows);
        weight[i] = (float)uniform(0, 1);
    }
    for (size_t i = 0; i < gate.n; i++) gate[i] = (float)uniform(-6, 6);
    for (size_t i = 0; i < xn.n; i++) xn[i] = (u16)random32();
    count[0] = n - 2;

    awq__cuda_gather g = {};
    g.xn = xn.address(), g.xe = xe.address(), g.from = from.address(), g.count = count.address();
    g.columns = columns, g.xn_stride = columns + 8, g.xe_stride = columns + 16;
    next_mode(); // for both kernels
    if (!launch("awq_gather", n, 256, 0, g)) return;
    for (int s = 0; s < n; s++)
        for (int i = 0; i < g.xe_stride; i++) {
            u16 want = s < n - 2 && i < columns ? xn[(size_t)from[s] * g.xn_stride + i] : 0x1111;
            if (xe[(size_t)s * g.xe_stride + i] != want) return fail("gather: slot %d column %d", s, i);
        }

    awq__cuda_combine a = {};
    a.oe = oe.address(), a.shared = shared ? sh.address() : 0, a.slot = slot.address(),
    a.weight = weight.address();
    a.shared_gate = gated ? gate.address() : 0, a.gate_stride = 3, a.out = out.address(), a.h = h, a.top = top;
    a.oe_stride = a.shared_stride = a.out_stride = stride, a.f32 = f32;
    if (!launch(bf16 ? "awq_combine_bf16" : "awq_combine_f16", dim3(rows, (h + 1023) / 1024), 256, 0, a))
        return;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < stride; i++) {
            float want = i < h ? 0 : 77;
            for (int k = 0; k < top && i < h; k++)
                if (slot[r * top + k] >= 0) want = want + oe.at(slot[r * top + k], i) * weight[r * top + k];
            if (shared && i < h)
                want = want + sh.at(r, i) * (gated ? 1.0f / (1.0f + cpu_exp(-gate[r * 3])) : 1.0f);
            if (out[(size_t)r * stride + i] != want)
                return fail("h %d row %d column %d: %.9g, not %.9g", h, r, i, out[(size_t)r * stride + i],
                            want);
        }
}
static void test_combine()
{
    int k = 0;
    for (int h : {4, 64, 99, 1030, 2048})
        for (int top : {1, 2, 8}) {
            check_combine(h, top, k & 1, k % 3 != 0, k % 4 != 0, k % 4 > 1);
            k++;
        }
    for (int m = 0; m < 2 * MODES; m++) check_combine(200, 4, m >= MODES, m & 2, true, m & 4);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) only = argv[1];
    run("arguments", test_arguments);
    run("route", test_route);
    run("slots", test_slots);
    run("combine", test_combine);
    return report();
}
