/* rows.cuh - the steps of a decoder block that take a row at a time: embeddings, norms and the residual
   stream, placing q, k and v, gated activations, logits

   What each computes is awq.h's, in fp32: awq__embed_id, awq__add_out and awq__norm_in, awq__place_row,
   awq__task_act, awq__logits_finish and awq__argmax. The residual stream x is fp32; inputs of linears are
   written in halves, T, padded with zeros to a multiple of 64 columns; outputs of linears are read as fp32 or
   T. Sums over a row are trees, not the CPU's 16 lanes: relative error below (log2(n) + n / 4096 + 4) 2^-24,
   and 2^-22.9 for its root. Everything else is rounded as the CPU rounds it, but for activations (fast_exp,
   of values that become halves).

   Most wait for memory only: one block a row, every load of a row under way at once, 16 bytes a thread; what
   a later pass needs stays in shared memory. */

/* ---- embeddings: x [rows][h] = scale * table row ids[r]

   Of a table as stored, or of a head in blocks of 4 or 8 bits, see common.cuh: a row of those is 4-byte
   words, 16 bytes apart, in the order of its inputs. */
struct Embed { // awq__cuda_embed of steps.h says what each member is, likewise below
    const int *ids;
    const void *table;
    const u32 *sz;
    float *x;
    int h, n_pad, k_tiles, group;
    float scale;
};
enum { TABLE_F32, TABLE_F16, TABLE_BF16, TABLE_8 };
// inputs in to in + 3 of output `out`, in a multiple of 4; zero point and scale are those of all of them
DEVICE void block_row(const Embed &p, int out, int in, float *v)
{
    const int r = out & 15, c = in & 15, kk = in >> 4 & 3, lane = (r & 7) * 4 + (c & 7) / 2;
    const size_t warp = ((size_t)(out >> 6) * p.k_tiles + (in >> 6)) * 4 + (out >> 4 & 3);
    const u32 *word =
        (const u32 *)p.table + ((warp * 2 + (kk >> 1)) * 32 + lane) * 4 + (kk & 1) * 2 + (c >> 3);
    const u32 sz = load_constant(p.sz + (size_t)(in / p.group) * p.n_pad + out);
    const int z = (int)(sz >> 16) - 0x6400;
    const float s = scale_f32(sz);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const u32 q = load_constant(word + (k >> 1) * 4) >> ((r >> 3) * 16 + (k & 1) * 8) & 255;
        v[k] = __fmul_rn((float)((int)q - z), s);
    }
}
template <int TABLE> DEVICE void embed(const Embed &p)
{
    pdl_launch();
    pdl_wait();
    const int id = load_fresh(p.ids + blockIdx.x), n = p.h;
    const size_t row = (size_t)id * n;
    float *x = p.x + (size_t)blockIdx.x * n;
#pragma unroll 1
    for (int i = threadIdx.x * 4; i < n; i += blockDim.x * 4) {
        float v[4];
        if (TABLE == TABLE_8) block_row(p, id, i, v);
        else {
            const float4 f = TABLE == TABLE_F32   ? weights_load((const float *)p.table + row, i, n)
                             : TABLE == TABLE_F16 ? row_load(F16(), (const u16 *)p.table + row, false, i, n)
                                                  : row_load(BF16(), (const u16 *)p.table + row, false, i, n);
            v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
        }
        row_store(x, i, n,
                  make_float4(__fmul_rn(v[0], p.scale), __fmul_rn(v[1], p.scale), __fmul_rn(v[2], p.scale),
                              __fmul_rn(v[3], p.scale)));
    }
}
KERNEL(awq_embed_f32, 1024, const Embed p) { embed<TABLE_F32>(p); }
KERNEL(awq_embed_f16, 1024, const Embed p) { embed<TABLE_F16>(p); }
KERNEL(awq_embed_bf16, 1024, const Embed p) { embed<TABLE_BF16>(p); }
KERNEL(awq_embed_8, 1024, const Embed p) { embed<TABLE_8>(p); }

/* ---- x += residual_scale * norm(out), bad rows marked, xn = norm(x): each part optional

   The row waits in shared memory between its passes, a thread's numbers for that thread only: [sums][h fp32].
   */
struct Norm {
    float *x;
    const void *out;
    const float *out_norm, *in_norm;
    u16 *xn, *xn_lo;
    float *xn32;
    int *bad;
    const int *rows;
    int h, x_stride, out_stride, xn_stride, kind, out_f32, mark;
    float residual_scale, eps;
};
enum { NORM_RMS, NORM_LAYER, NORM_LAYER_BIAS };
const int NORM_SUMS = 5 * BLOCK_SUM; // bytes before the row: sums of out (two), of x (two), of bad

// The mean to subtract and the factor of a row of n that lies in shared memory; sum: of this thread's values,
// for NORM_RMS of their squares. Two barriers at most.
DEVICE float2 norm_of(int kind, float sum, u32 row, int n, float eps, u32 sums)
{
    const float scale = fast_reciprocal((float)n);
    float mean = 0, squares = block_sum(sum, sums);
    if (kind != NORM_RMS) {
        mean = squares * scale;
        sum = 0;
#pragma unroll 1
        for (int i = threadIdx.x * 4; i < n; i += blockDim.x * 4) {
            const float4 v = lds_f32x4(row + i * 4);
            const float d[4] = {v.x - mean, v.y - mean, v.z - mean, v.w - mean};
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (i + k < n) sum += d[k] * d[k];
        }
        squares = block_sum(sum, sums + BLOCK_SUM);
    }
    return make_float2(mean, fast_rsqrt(squares * scale + eps));
}
DEVICE float norm_sum(int kind, float4 v) // 0 beyond the row
{
    if (kind == NORM_RMS) return (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
    return (v.x + v.y) + (v.z + v.w);
}
// (v - mean) * factor * weight + bias
DEVICE float4 norm_apply(int kind, float4 v, float2 m, const float *weight, int i, int n)
{
    const float4 w = weights_load(weight, i, n);
    float4 r =
        make_float4(__fmul_rn(__fmul_rn(v.x - m.x, m.y), w.x), __fmul_rn(__fmul_rn(v.y - m.x, m.y), w.y),
                    __fmul_rn(__fmul_rn(v.z - m.x, m.y), w.z), __fmul_rn(__fmul_rn(v.w - m.x, m.y), w.w));
    if (kind == NORM_LAYER_BIAS) {
        const float4 b = weights_load(weight + n, i, n);
        r.x = __fadd_rn(r.x, b.x), r.y = __fadd_rn(r.y, b.y);
        r.z = __fadd_rn(r.z, b.z), r.w = __fadd_rn(r.w, b.w);
    }
    return r;
}
// what is left of v when it is halves
template <class T> DEVICE float4 rounded_off(T dtype, float4 v)
{
    const float2 a = to_f32(dtype, halves_of(dtype, v.x, v.y)), b = to_f32(dtype, halves_of(dtype, v.z, v.w));
    return make_float4(v.x - a.x, v.y - a.y, v.z - b.x, v.w - b.y);
}
template <class T> DEVICE void norm(T dtype, const Norm &p)
{
    DYN_SMEM(smem);
    const u32 sums = smem_address(smem), values = sums + NORM_SUMS;
    const int n = p.h, step = blockDim.x * 4, first = threadIdx.x * 4;
    pdl_launch();
    pdl_wait();
    const int row = p.rows ? load_fresh(p.rows + blockIdx.x) : (int)blockIdx.x;
    float *x = p.x + (size_t)row * p.x_stride;
    const char *out = (const char *)p.out + (size_t)row * p.out_stride * (p.out_f32 ? 4 : 2);
    const float *out_norm = p.out ? p.out_norm : 0;
    float sum = 0;
    if (out_norm) {
#pragma unroll 1
        for (int i = first; i < n; i += step) {
            const float4 v = row_load(dtype, out, p.out_f32, i, n);
            sts_f32x4(values + i * 4, v);
            sum += norm_sum(p.kind, v);
        }
        const float2 m = norm_of(p.kind, sum, values, n, p.eps, sums);
#pragma unroll 1
        for (int i = first; i < n; i += step)
            sts_f32x4(values + i * 4, norm_apply(p.kind, lds_f32x4(values + i * 4), m, out_norm, i, n));
        sum = 0;
    }
    float bad = 0;
#pragma unroll 1
    for (int i = first; i < n; i += step) {
        float4 v = row_load(dtype, x, true, i, n);
        if (p.out) {
            const float4 o = out_norm ? lds_f32x4(values + i * 4) : row_load(dtype, out, p.out_f32, i, n);
            v = make_float4(
                exact_mul_add(o.x, p.residual_scale, v.x), exact_mul_add(o.y, p.residual_scale, v.y),
                exact_mul_add(o.z, p.residual_scale, v.z), exact_mul_add(o.w, p.residual_scale, v.w));
            row_store(x, i, n, v);
        }
        sts_f32x4(values + i * 4, v);
        sum += norm_sum(p.kind, v);
        if (!is_finite(v.x) || !is_finite(v.y) || !is_finite(v.z) || !is_finite(v.w)) bad = 1;
    }
    if (p.bad && block_sum(bad, sums + 4 * BLOCK_SUM) > 0 && threadIdx.x == 0 && !load_fresh(p.bad + row))
        store_global(p.bad + row, p.mark);
    if (!p.xn && !p.xn32) return;
    float2 m = make_float2(0, 1);
    if (p.in_norm) m = norm_of(p.kind, sum, values, n, p.eps, sums + 2 * BLOCK_SUM);
#pragma unroll 1
    for (int i = first; i < padded(n); i += step) {
        float4 v = make_float4(0, 0, 0, 0);
        if (i < n) {
            v = lds_f32x4(values + i * 4);
            if (p.in_norm) v = norm_apply(p.kind, v, m, p.in_norm, i, n);
            if (p.xn32) row_store(p.xn32 + (size_t)blockIdx.x * n, i, n, v);
        }
        if (p.xn) row_store(dtype, p.xn + (size_t)blockIdx.x * p.xn_stride, i, padded(n), v);
        if (p.xn_lo)
            row_store(dtype, p.xn_lo + (size_t)blockIdx.x * p.xn_stride, i, padded(n), rounded_off(dtype, v));
    }
}
#ifndef AWQ_NO_F16
KERNEL(awq_norm_f16, 1024, const Norm p) { norm(F16(), p); }
#endif
#ifndef AWQ_NO_BF16
KERNEL(awq_norm_bf16, 1024, const Norm p) { norm(BF16(), p); }
#endif

/* ---- q, k and v of a row: clip, norms, rope; q to halves for attention, k and v into the sequence's page

   A warp takes a head of q, or a kv head's k and v: `heads` of q first, then kv heads; head_dim numbers wait
   in its part of shared memory, [BLOCK_SUM of q, of k][warps][d fp32]. k lies in a page by dimension,
   [k_dim][32 tokens]: what a row writes is 2 bytes in every 64. Latent attention's k and v are taken from
   where they are: k [nope] and v from kv_b, the rotated rest of k, the same for all heads, from kv_a. */
struct Place {
    const void *q, *k, *v;
    const float *shared;
    const float *q_norm, *k_norm, *cos_, *sin_;
    const int *pos, *slot;
    const u64 *page;
    u16 *q_out;
    u64 cache_at, head_bytes;
    int q_stride, k_stride, v_stride, shared_stride, page_stride;
    int heads, kv_heads, k_dim, v_dim, v_row, nope;
    int rope_dim, rope_first, rope_pairs, rope_table, qk_norm, f32;
    float clip, eps;
};
enum { QK_NONE, QK_HEAD, QK_AFTER, QK_OWN, QK_ALL };
const int PAGE = 32; // tokens

DEVICE float clipped(float v, float limit)
{
    return limit > 0 ? (v > limit ? limit : v < -limit ? -limit : v) : v;
}

// The row's factor of QK_ALL, heads * d numbers
template <class T> DEVICE float place_all(T dtype, const Place &p, const void *row, int n, u32 sums)
{
    float sum = 0;
#pragma unroll 1
    for (int i = threadIdx.x * 4; i < n; i += blockDim.x * 4)
        sum += norm_sum(NORM_RMS, row_load(dtype, row, p.f32, i, n));
    return fast_rsqrt(block_sum(sum, sums) * fast_reciprocal((float)n) + p.eps);
}
// norm of one head in shared memory, by a warp
DEVICE void place_norm(u32 head, int d, const float *weight, bool layer, float eps)
{
    const int lane = threadIdx.x & 31;
    const float scale = fast_reciprocal((float)d);
    float mean = 0, sum = 0;
    if (layer) {
#pragma unroll 1
        for (int i = lane; i < d; i += 32) sum += lds_f32(head + i * 4);
        mean = warp_sum(sum) * scale;
        sum = 0;
    }
#pragma unroll 1
    for (int i = lane; i < d; i += 32) {
        const float v = lds_f32(head + i * 4) - mean;
        sum += v * v;
    }
    const float s = fast_rsqrt(warp_sum(sum) * scale + eps);
#pragma unroll 1
    for (int i = lane; i < d; i += 32)
        sts_f32(head + i * 4, __fmul_rn(__fmul_rn(lds_f32(head + i * 4) - mean, s), load_constant(weight + i)));
    __syncwarp();
}
template <class T> DEVICE void place(T dtype, const Place &p)
{
    DYN_SMEM(smem);
    const u32 sums = smem_address(smem);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = blockIdx.x, d = p.k_dim;
    const int task = blockIdx.y * (blockDim.x >> 5) + warp, size = p.f32 ? 4 : 2;
    const bool is_k = task >= p.heads;
    const int h = is_k ? task - p.heads : task; // its head
    const u32 head = sums + 2 * BLOCK_SUM + warp * d * 4;
    pdl_launch();
    pdl_wait();
    const int pos = load_fresh(p.pos + row);
    if (pos < 0) return; // of a sequence that has left
    const char *q = (const char *)p.q + (size_t)row * p.q_stride * size;
    const char *k = (const char *)p.k + (size_t)row * p.k_stride * size;
    const char *v = (const char *)p.v + (size_t)row * p.v_stride * size;
    float all[2] = {1, 1};
    if (p.qk_norm == QK_ALL) {
        if (p.q_norm) all[0] = place_all(dtype, p, q, p.heads * d, sums);
        if (p.k_norm) all[1] = place_all(dtype, p, k, p.kv_heads * d, sums + BLOCK_SUM);
    }
    if (task >= p.heads + p.kv_heads) return;
    const float *weight = is_k ? p.k_norm : p.q_norm;

#pragma unroll 1
    for (int i = lane * 4; i < d; i += 128) {
        float4 x;
        if (is_k && p.shared) { // latent: nope is a multiple of 4
            const char *from = k + (size_t)h * (p.nope + p.v_dim) * size;
            x = i < p.nope
                    ? row_load(dtype, from, p.f32, i, p.nope)
                    : row_load(dtype, p.shared + (size_t)row * p.shared_stride, true, i - p.nope, d - p.nope);
        } else x = row_load(dtype, (is_k ? k : q) + (size_t)h * d * size, p.f32, i, d);
        if (weight && p.qk_norm == QK_ALL) {
            const float4 w = weights_load(weight + h * d, i, d);
            const float s = all[is_k];
            x = make_float4(__fmul_rn(__fmul_rn(x.x, s), w.x), __fmul_rn(__fmul_rn(x.y, s), w.y),
                            __fmul_rn(__fmul_rn(x.z, s), w.z), __fmul_rn(__fmul_rn(x.w, s), w.w));
        }
        x = make_float4(clipped(x.x, p.clip), clipped(x.y, p.clip), clipped(x.z, p.clip), clipped(x.w, p.clip));
        sts_f32x4(head + i * 4, x);
    }
    __syncwarp();
    if (weight && p.qk_norm == QK_HEAD) place_norm(head, d, weight, false, p.eps);
    if (weight && p.qk_norm == QK_OWN) place_norm(head, d, weight + h * d, true, p.eps);
    if (p.cos_) {
        const int half = p.rope_dim / 2;
        const size_t at = ((size_t)row * 2 + p.rope_table) * half;
#pragma unroll 1
        for (int i = lane; i < half; i += 32) {
            const u32 a = head + (p.rope_first + (p.rope_pairs ? 2 * i : i)) * 4,
                      b = a + (p.rope_pairs ? 4 : half * 4);
            const float x = lds_f32(a), y = lds_f32(b);
            const float cos_ = load_fresh(p.cos_ + at + i), sin_ = load_fresh(p.sin_ + at + i);
            sts_f32(a, __fadd_rn(__fmul_rn(x, cos_), -__fmul_rn(y, sin_)));
            sts_f32(b, __fadd_rn(__fmul_rn(y, cos_), __fmul_rn(x, sin_)));
        }
        __syncwarp();
    }
    if (weight && p.qk_norm == QK_AFTER) place_norm(head, d, weight, false, p.eps);

    if (!is_k) {
        u16 *to = p.q_out + ((size_t)row * p.heads + h) * d;
#pragma unroll 1
        for (int i = lane * 4; i < d; i += 128) row_store(F16(), to, i, d, lds_f32x4(head + i * 4));
        return;
    }
    const u64 page = load_fresh(p.page + (size_t)load_fresh(p.slot + row) * p.page_stride + pos / PAGE);
    u16 *to = (u16 *)(page + p.cache_at + h * p.head_bytes);
#pragma unroll 1
    for (int i = lane; i < d; i += 32)
        store_global(to + i * PAGE + pos % PAGE, (u16)halves_of(F16(), lds_f32(head + i * 4), 0));
    to += d * PAGE + pos % PAGE * p.v_row;
    v += (size_t)h * (p.shared ? p.nope + p.v_dim : p.v_dim) * size;
#pragma unroll 1
    for (int i = lane * 4; i < p.v_row; i += 128) {
        float4 x = make_float4(0, 0, 0, 0);
        if (i < p.v_dim) x = row_load(dtype, v, p.f32, i, p.v_dim);
        row_store(F16(), to, i, p.v_row,
                  make_float4(clipped(x.x, p.clip), clipped(x.y, p.clip), clipped(x.z, p.clip),
                              clipped(x.w, p.clip)));
    }
}
#ifndef AWQ_NO_F16
KERNEL(awq_place_f16, 256, const Place p) { place(F16(), p); }
#endif
#ifndef AWQ_NO_BF16
KERNEL(awq_place_bf16, 256, const Place p) { place(BF16(), p); }
#endif

/* ---- gated activation: y [rows][n padded] = act(gate) * up / scales

   A thread takes 8 columns. Rows beyond *count, those of no slot, are left out. */
struct Act {
    const void *gate, *up;
    const float *scales;
    const int *count;
    u16 *y;
    int n, gate_stride, up_stride, y_stride, kind, f32;
    float alpha, limit;
};
enum { ACT_SILU, ACT_GELU_TANH, ACT_SWIGLU };

// x / (1 + exp(-z)); fast_exp is inf or 0 far out, where the quotient is 0 or x
DEVICE float over_1_exp(float x, float z) { return x * fast_reciprocal(1.0f + fast_exp(-z)); }
DEVICE float activated(const Act &p, float g, float u)
{
    if (p.kind == ACT_SWIGLU) {
        g = g > p.limit ? p.limit : g;
        u = u > p.limit ? p.limit : u < -p.limit ? -p.limit : u;
        return over_1_exp(g, p.alpha * g) * (u + 1.0f);
    }
    if (p.kind == ACT_GELU_TANH) g = over_1_exp(g, 1.5957691216057308f * (g + 0.044715f * g * g * g));
    else g = over_1_exp(g, g);
    return p.up ? g * u : g;
}
template <class T> DEVICE void act(T dtype, const Act &p)
{
    const int row = blockIdx.x, n = p.n, i0 = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
    pdl_launch();
    pdl_wait();
    if (i0 >= padded(n) || (p.count && row >= load_fresh(p.count))) return;
    const char *gate = (const char *)p.gate + (size_t)row * p.gate_stride * (p.f32 ? 4 : 2);
    const char *up = (const char *)p.up + (size_t)row * p.up_stride * (p.f32 ? 4 : 2);
    float4 g[2], u[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        g[k] = u[k] = make_float4(0, 0, 0, 0);
        if (i0 + 4 * k < n) {
            g[k] = row_load(dtype, gate, p.f32, i0 + 4 * k, n);
            if (p.up) u[k] = row_load(dtype, up, p.f32, i0 + 4 * k, n);
        }
    }
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const int i = i0 + 4 * k;
        float v[4] = {activated(p, g[k].x, u[k].x), activated(p, g[k].y, u[k].y), activated(p, g[k].z, u[k].z),
                      activated(p, g[k].w, u[k].w)};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (p.scales && i + j < n) v[j] = v[j] / load_constant(p.scales + i + j);
            if (i + j >= n) v[j] = 0;
        }
        row_store(dtype, p.y + (size_t)row * p.y_stride, i, padded(n), make_float4(v[0], v[1], v[2], v[3]));
    }
}
#ifndef AWQ_NO_F16
KERNEL(awq_act_f16, 256, const Act p) { act(F16(), p); }
#endif
#ifndef AWQ_NO_BF16
KERNEL(awq_act_bf16, 256, const Act p) { act(BF16(), p); }
#endif

/* ---- logits as they are meant, and the best of each row

   Finishing is bit for bit the CPU's, so ties are too: the lowest index of equals. NaN and Inf win over all,
   with a key that no number has, and the best of such a row is -2. blockIdx.x is a part of the row, blockIdx.y the row. Each block leaves its
   best; the last one by counters [rows] (zero, left zero) compares them. */
struct Logits {
    float *logits;
    u64 *partial;
    u32 *counters;
    int *best;
    int n, stride;
    float scale, cap;
};
DEVICE float logit_of(const Logits &p, float x)
{
    if (!(p.cap > 0)) return p.scale != 1 ? __fmul_rn(x, p.scale) : x;
    const float z = __fmul_rn(2.0f, __fmul_rn(x, p.scale) / p.cap);
    return __fmul_rn(p.cap, __fadd_rn(1.0f, -(2.0f / __fadd_rn(exact_exp(z), 1.0f)))); // cap tanh
}
DEVICE void logits(const Logits &p)
{
    DYN_SMEM(smem);
    const u32 memory = smem_address(smem);
    const int lane = threadIdx.x & 31, warps = (int)(blockDim.x >> 5), parts = (int)gridDim.x;
    const int n = p.n, row = blockIdx.y;
    const int part = ((n + parts - 1) / parts + 3) & ~3, end = min(n, (int)(blockIdx.x + 1) * part);
    pdl_launch();
    pdl_wait();
    float *x = p.logits + (size_t)row * p.stride;
    const bool changes = p.cap > 0 || p.scale != 1;
    u64 best = 0;
#pragma unroll 1
    for (int i = blockIdx.x * part + threadIdx.x * 4; i < end; i += blockDim.x * 4) {
        float4 f = row_load(F16(), x, true, i, n);
        if (changes) {
            f = make_float4(logit_of(p, f.x), logit_of(p, f.y), logit_of(p, f.z), logit_of(p, f.w));
            row_store(x, i, n, f);
        }
        const float v[4] = {f.x, f.y, f.z, f.w};
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (i + k < n) {
                const u64 key = is_finite(v[k]) ? logit_key(v[k], i + k) : ~0ull;
                best = key > best ? key : best;
            }
    }
    if (!p.best) return;
    best = warp_max64(best);
    if (lane == 0) sts64(memory + (threadIdx.x >> 5) * 8, make_uint2((u32)best, (u32)(best >> 32)));
    __syncthreads();
    if (threadIdx.x >= 32) return;
    const uint2 w = lane < warps ? lds64(memory + lane * 8) : make_uint2(0, 0);
    best = warp_max64((u64)w.y << 32 | w.x);
    if (parts > 1) {
        u32 count = 0;
        if (lane == 0) {
            store_global(p.partial + (size_t)row * parts + blockIdx.x, best);
            fence_gpu();
            count = atomic_count(p.counters + row);
        }
        if (__shfl_sync(~0u, count, 0) != (u32)parts - 1) return;
        __syncwarp(); // lane 0 has seen the others' sums: so have the other lanes
        fence_gpu();
        best = 0;
#pragma unroll 1
        for (int i = lane; i < parts; i += 32) {
            const u64 key = load_fresh(p.partial + (size_t)row * parts + i);
            best = key > best ? key : best;
        }
        best = warp_max64(best);
        if (lane == 0) store_global(p.counters + row, 0u);
    }
    if (lane == 0) store_global(p.best + row, best == ~0ull ? -2 : (int)~(u32)best);
}
KERNEL(awq_logits, 1024, const Logits p) { logits(p); }
