/* moe.cuh - experts: which a row takes and what they weigh, slots by expert, gathering and combining

   A row has `top` slots, one for each of its experts. Slots of an expert lie together, in the order of the
   rows and of a row's choices; start [experts + 1] says where, so the linears of expert e are those of rows
   start[e] to start[e + 1] of what awq_gather wrote. All of it is bit for bit awq__route_row,
   awq__route_slots and awq__combine_row, given the same scores: equal scores go to the lower expert, sums are
   in the CPU's order. */

// ---- awq_route: a warp takes a row; its shared memory: score [experts], choice [experts], best of groups
struct Route { // awq__cuda_route of steps.h
    const float *scores;
    const float *bias;
    const int *pos;
    int *pick;
    float *weight;
    int rows, experts, stride, top, groups, top_groups, score, norm_topk;
    float routed_scale;
};
enum { SCORE_SOFTMAX, SCORE_SOFTMAX_TOP, SCORE_SIGMOID };
#define MINUS_INFINITY __uint_as_float(0xff800000u)

// awq__highest: the lowest index of the largest of x [n] in shared memory; 0 when the first is NaN or none is
// larger than -inf
DEVICE int highest(u32 x, int n)
{
    const int lane = threadIdx.x & 31;
    float best = MINUS_INFINITY;
    int at = 0;
    for (int i = lane; i < n; i += 32) {
        const float v = lds_f32(x + i * 4);
        if (v > best) best = v, at = i;
    }
#pragma unroll
    for (int m = 16; m; m >>= 1) {
        const float v = __shfl_xor_sync(~0u, best, m);
        const int i = __shfl_xor_sync(~0u, at, m);
        if (v > best || (v == best && i < at)) best = v, at = i;
    }
    const float first = lds_f32(x);
    return first != first ? 0 : at;
}
// awq__softmax of x [n] in shared memory: the sum in order, by every lane for itself
DEVICE void softmax_in_order(u32 x, int n)
{
    const int lane = threadIdx.x & 31;
    float top = lds_f32(x), sum = 0;
    for (int i = lane; i < n; i += 32) {
        const float v = lds_f32(x + i * 4);
        top = v > top ? v : top;
    }
#pragma unroll
    for (int m = 16; m; m >>= 1) {
        const float v = __shfl_xor_sync(~0u, top, m);
        top = v > top ? v : top;
    }
    __syncwarp();
    for (int i = lane; i < n; i += 32) sts_f32(x + i * 4, exact_exp(lds_f32(x + i * 4) - top));
    __syncwarp();
#pragma unroll 8
    for (int i = 0; i < n; i++) sum = __fadd_rn(sum, lds_f32(x + i * 4));
    __syncwarp();
    for (int i = lane; i < n; i += 32) sts_f32(x + i * 4, lds_f32(x + i * 4) / sum);
    __syncwarp();
}
// awq__route_groups: only experts of the best groups stay in the choice
DEVICE void route_groups(const Route &p, u32 choice, u32 best)
{
    const int lane = threadIdx.x & 31, size = p.experts / p.groups;
    u32 stays = best + p.groups * 4;            // one word each
    for (int g = lane; g < p.groups; g += 32) { // by the best expert, or the two best ones together
        float first = MINUS_INFINITY, second = MINUS_INFINITY;
        for (int i = g * size; i < (g + 1) * size; i++) {
            const float v = lds_f32(choice + i * 4);
            if (v > first) second = first, first = v;
            else if (v > second) second = v;
        }
        sts_f32(best + g * 4, p.score == SCORE_SIGMOID ? __fadd_rn(first, second) : first);
        sts32(stays + g * 4, 0);
    }
    __syncwarp();
    for (int i = 0; i < p.top_groups; i++) {
        const int g = highest(best, p.groups);
        __syncwarp();
        if (lane == 0) sts_f32(best + g * 4, MINUS_INFINITY), sts32(stays + g * 4, 1);
        __syncwarp();
    }
    for (int i = lane; i < p.experts; i += 32)
        if (!lds32(stays + i / size * 4)) sts_f32(choice + i * 4, MINUS_INFINITY);
    __syncwarp();
}
DEVICE void route(const Route &p)
{
    DYN_SMEM(smem);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n = p.experts;
    const int row = blockIdx.x * (blockDim.x >> 5) + warp;
    const u32 score = smem_address(smem) + warp * (2 * n + 2 * p.groups + p.top) * 4, choice = score + n * 4;
    const u32 best = choice + n * 4, weight = best + 2 * p.groups * 4;
    pdl_launch();
    pdl_wait();
    if (row >= p.rows) return;
    int *pick = p.pick + (size_t)row * p.top;
    if (load_fresh(p.pos + row) < 0) {
        for (int i = lane; i < p.top; i += 32) store_global(pick + i, -1);
        return;
    }
    const float *from = p.scores + (size_t)row * p.stride;
    for (int i = lane; i < n; i += 32) sts_f32(score + i * 4, load_fresh(from + i));
    __syncwarp();
    if (p.score == SCORE_SOFTMAX) softmax_in_order(score, n);
    for (int i = lane; i < n; i += 32) {
        float v = lds_f32(score + i * 4);
        if (p.score == SCORE_SIGMOID) {
            v = 1.0f / __fadd_rn(1.0f, exact_exp(-v));
            sts_f32(score + i * 4, v);
        }
        sts_f32(choice + i * 4, __fadd_rn(v, p.bias ? load_constant(p.bias + i) : 0.0f));
    }
    __syncwarp();
    if (p.groups > 1) route_groups(p, choice, best);
    for (int i = 0; i < p.top; i++) {
        const int e = highest(choice, n);
        __syncwarp();
        if (lane == 0) {
            store_global(pick + i, e);
            sts_f32(weight + i * 4, lds_f32(score + e * 4));
            sts_f32(choice + e * 4, MINUS_INFINITY);
        }
        __syncwarp();
    }
    if (p.score == SCORE_SOFTMAX_TOP) softmax_in_order(weight, p.top);
    float sum = 1;
    if (p.norm_topk && p.score != SCORE_SOFTMAX_TOP) {
        sum = 0;
        for (int i = 0; i < p.top; i++) sum = __fadd_rn(sum, lds_f32(weight + i * 4));
        sum = sum > 0 ? sum : 1;
    }
    for (int i = lane; i < p.top; i += 32)
        store_global(p.weight + (size_t)row * p.top + i,
                     __fmul_rn(lds_f32(weight + i * 4) / sum, p.routed_scale));
}
KERNEL(awq_route, 128, const Route p) { route(p); }

/* ---- awq_slots: a counting sort of the picks [n = rows * top], stable, by a warp for each expert and one
   more

   Warp e counts the picks below e: start[e]. Then it walks over the picks again, and a pick of e gets the
   slot start[e] + those of e before it. Nothing depends on which warp runs first. Picks of -1 have no slot.
   */
struct Slots {
    const int *pick;
    int *start, *slot, *from;
    int n, experts, top;
};
KERNEL(awq_slots, 256, const Slots p)
{
    const int lane = threadIdx.x & 31, e = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), n = p.n;
    pdl_launch();
    pdl_wait();
    if (e > p.experts) return;
    int below = 0, slot;
#pragma unroll 1
    for (int base = 0; base < n; base += 128) {
        int pick[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            pick[k] = base + 32 * k + lane < n ? load_fresh(p.pick + base + 32 * k + lane) : p.experts;
#pragma unroll
        for (int k = 0; k < 4; k++) below += __popc(__ballot_sync(~0u, pick[k] >= 0 && pick[k] < e));
    }
    slot = below;
    if (lane == 0) store_global(p.start + e, slot);
#pragma unroll 1
    for (int base = 0; base < n; base += 128) {
        int pick[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            pick[k] = base + 32 * k + lane < n ? load_fresh(p.pick + base + 32 * k + lane) : p.experts;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const u32 same = __ballot_sync(~0u, pick[k] == e);
            const int i = base + 32 * k + lane;
            if (e == p.experts) {
                if (i < n && pick[k] < 0) store_global(p.slot + i, -1);
            } else if (pick[k] == e) {
                const int to = slot + __popc(same & ((1u << lane) - 1));
                store_global(p.slot + i, to);
                store_global(p.from + to, i / p.top);
            }
            slot += __popc(same);
        }
    }
}

// ---- awq_gather: xe row s = xn row from[s], `columns` halves, a multiple of 8; rows beyond *count are left
// out
struct Gather {
    const u16 *xn;
    u16 *xe;
    const int *from, *count;
    int columns, xn_stride, xe_stride;
};
KERNEL(awq_gather, 256, const Gather p)
{
    const int s = blockIdx.x;
    pdl_launch();
    pdl_wait();
    if (s >= load_fresh(p.count)) return;
    const u16 *from = p.xn + (size_t)load_fresh(p.from + s) * p.xn_stride;
    u16 *to = p.xe + (size_t)s * p.xe_stride;
    for (int i = threadIdx.x * 8; i < p.columns; i += blockDim.x * 8)
        store_global((uint4 *)(to + i), load_fresh((const uint4 *)(from + i)));
}

// ---- awq_combine: out [rows][h] = sum of weight * what the row's experts say, in the order of its choice,
// and the shared expert, by sigmoid(shared_gate) if there is one
struct Combine {
    const void *oe, *shared;
    const int *slot;
    const float *weight, *shared_gate;
    float *out;
    int h, top, oe_stride, shared_stride, gate_stride, out_stride, f32;
};
DEVICE float4 add_scaled(float4 sum, float4 v, float w)
{
    return make_float4(exact_mul_add(v.x, w, sum.x), exact_mul_add(v.y, w, sum.y), exact_mul_add(v.z, w, sum.z),
                       exact_mul_add(v.w, w, sum.w));
}
template <class T> DEVICE void combine(T dtype, const Combine &p)
{
    const int row = blockIdx.x, i = (blockIdx.y * blockDim.x + threadIdx.x) * 4;
    pdl_launch();
    pdl_wait();
    if (i >= p.h) return;
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 1
    for (int k = 0; k < p.top; k++) {
        const int s = load_fresh(p.slot + (size_t)row * p.top + k);
        if (s < 0) continue;
        const char *from = (const char *)p.oe + (size_t)s * p.oe_stride * (p.f32 ? 4 : 2);
        sum = add_scaled(sum, row_load(dtype, from, p.f32, i, p.h),
                         load_fresh(p.weight + (size_t)row * p.top + k));
    }
    if (p.shared) {
        const char *from = (const char *)p.shared + (size_t)row * p.shared_stride * (p.f32 ? 4 : 2);
        float w = 1;
        if (p.shared_gate)
            w = 1.0f / __fadd_rn(1.0f, exact_exp(-load_fresh(p.shared_gate + (size_t)row * p.gate_stride)));
        sum = add_scaled(sum, row_load(dtype, from, p.f32, i, p.h), w);
    }
    row_store(p.out + (size_t)row * p.out_stride, i, p.h, sum);
}
#ifndef AWQ_NO_F16
KERNEL(awq_combine_f16, 256, const Combine p) { combine(F16(), p); }
#endif
#ifndef AWQ_NO_BF16
KERNEL(awq_combine_bf16, 256, const Combine p) { combine(BF16(), p); }
#endif
