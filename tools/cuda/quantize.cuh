/* quantize.cuh - what quantizing a model multiplies and searches: fp32 matrices as two of bf16 for the mma
   kernels of dense.cuh, candidates of the scale search, losses, clips, gated activations in fp32

   A product in fp32, nearly: x = hi + lo with both in bf16 keeps 16 bits of x, and
       sum a b = sum hi_a hi_b + sum hi_a lo_b + sum lo_a hi_b
   leaves out lo_a lo_b and what lo has lost: 3 2^-18 of |a b| each, half of the time of either sign. Tensor cores
   that cut sums off make sums of one sign, such as those of squares, smaller by up to 2^-15 besides, all alike.

   Candidates and clips are rounded as awq__fake_group does, bit for bit. */

// ---- fp32 to two of bf16
struct Split { // awq__cuda_split of steps.h says what each member is, likewise below
    const float *x, *weight;
    u16 *hi, *lo;
    int rows, cols, x_stride, y_stride;
};
DEVICE void split_store(const Split &p, size_t at, float a, float b) // at: even
{
    const u32 h = f32_to_bf16x2(a, b);
    const float2 f = bf16x2_to_f32(h);
    store_global((u32 *)(p.hi + at), h);
    store_global((u32 *)(p.lo + at), f32_to_bf16x2(a - f.x, b - f.y));
}
// blockIdx.x: 512 columns, a pair for each thread; blockIdx.y: row
KERNEL(awq_split, 256, const Split p)
{
    const int i = (blockIdx.x * 256 + threadIdx.x) * 2;
    const float *x = p.x + (size_t)blockIdx.y * p.x_stride + i;
    pdl_launch();
    pdl_wait();
    if (i >= padded(p.cols)) return;
    split_store(p, (size_t)blockIdx.y * p.y_stride + i, i < p.cols ? load_fresh(x) : 0,
                i + 1 < p.cols ? load_fresh(x + 1) : 0);
}
// Transposed, through shared memory: blockIdx.x: 64 rows, blockIdx.y: 32 columns, [64][33] fp32.
KERNEL(awq_split_transposed, 256, const Split p)
{
    DYN_SMEM(smem);
    const u32 tile = smem_address(smem);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = blockIdx.x * 64, col = blockIdx.y * 32;
    pdl_launch();
    pdl_wait();
#pragma unroll
    for (int r = warp; r < 64; r += 8) {
        float v = 0;
        if (row + r < p.rows && col + lane < p.cols) {
            v = load_fresh(p.x + (size_t)(row + r) * p.x_stride + col + lane);
            if (p.weight) v = __fmul_rn(v, load_fresh(p.weight + row + r));
        }
        sts_f32(tile + (r * 33 + lane) * 4, v);
    }
    __syncthreads();
#pragma unroll
    for (int c = warp; c < 32; c += 8)
        if (col + c < p.cols)
            split_store(p, (size_t)(col + c) * p.y_stride + row + 2 * lane,
                        lds_f32(tile + (2 * lane * 33 + c) * 4), lds_f32(tile + ((2 * lane + 1) * 33 + c) * 4));
}

// ---- rounding, awq__grid_f32 and awq__fake_group
DEVICE float warp_min(float v)
{
#pragma unroll
    for (int m = 16; m; m >>= 1) {
        const float other = __shfl_xor_sync(~0u, v, m);
        v = other < v ? other : v;
    }
    return v;
}
DEVICE float warp_max(float v) { return -warp_min(-v); }
DEVICE float round_even(float x)
{
    const float m = x < 0 ? -8388608.0f : 8388608.0f;
    return fabsf(x) < 8388608.0f ? __fadd_rn(__fadd_rn(x, m), -m) : x;
}
struct Steps {
    float scale, zero, top;
};
DEVICE Steps steps_of(float mn, float mx, int bits, int symmetric)
{
    Steps s;
    s.top = (float)((1 << bits) - 1);
    if (symmetric) {
        const float half = (float)(1 << (bits - 1)), lo = fabsf(mn), hi = fabsf(mx), most = lo > hi ? lo : hi;
        s.scale = (most > 1e-5f ? most : 1e-5f) / (half - 1);
        s.zero = half;
        return s;
    }
    const float span = __fadd_rn(mx, -mn);
    s.scale = (span > 1e-5f ? span : 1e-5f) / s.top;
    const float z = -round_even(mn / s.scale);
    s.zero = z < 0 ? 0 : z > s.top ? s.top : z + 0.0f;
    return s;
}
DEVICE float stepped(const Steps &s, float w)
{
    float q = __fadd_rn(round_even(w / s.scale), s.zero);
    q = q < 0 ? 0 : q > s.top ? s.top : q;
    return __fmul_rn(__fadd_rn(q, -s.zero), s.scale);
}

// ---- a candidate: the weights, scaled by their columns, rounded, scaled back; a warp takes a group
struct Rounding {
    const float *w, *scales;
    float *to;
    int in, group, bits, symmetric, difference;
};
// blockIdx.x: 8 groups, blockIdx.y: row
KERNEL(awq_candidate, 256, const Rounding p)
{
    const int lane = threadIdx.x & 31, first = (blockIdx.x * 8 + (threadIdx.x >> 5)) * p.group;
    const float *w = p.w + (size_t)blockIdx.y * p.in + first, *scales = p.scales + first;
    float *to = p.to + (size_t)blockIdx.y * p.in + first;
    float mn = 3e38f, mx = -3e38f;
    pdl_launch();
    pdl_wait();
    if (first >= p.in) return;
#pragma unroll 4
    for (int i = lane; i < p.group; i += 32) {
        float v = load_fresh(w + i);
        if (p.scales) v = __fmul_rn(v, load_fresh(scales + i));
        mn = v < mn ? v : mn;
        mx = v > mx ? v : mx;
    }
    const Steps s = steps_of(warp_min(mn), warp_max(mx), p.bits, p.symmetric);
#pragma unroll 4
    for (int i = lane; i < p.group; i += 32) {
        const float x = load_fresh(w + i), scale = p.scales ? load_fresh(scales + i) : 1.0f;
        const float v = stepped(s, __fmul_rn(x, scale)) / scale;
        store_global(to + i, p.difference ? __fadd_rn(v, -x) : v);
    }
}

// ---- out [row] = sum of a b over the row, or of (a - b)^2, in a tree: blockIdx.x: row
struct Dots {
    const float *a, *b;
    float *out;
    int n, difference;
};
KERNEL(awq_row_dots, 256, const Dots p)
{
    DYN_SMEM(smem);
    const size_t row = (size_t)blockIdx.x * p.n;
    float sum = 0;
    pdl_launch();
    pdl_wait();
#pragma unroll 4
    for (int i = threadIdx.x; i < p.n; i += 256) {
        float a = load_fresh(p.a + row + i), b = load_fresh(p.b + row + i);
        if (p.difference) a = b = a - b;
        sum = fused(a, b, sum);
    }
    sum = block_sum(sum, smem_address(smem));
    if (threadIdx.x == 0) store_global(p.out + blockIdx.x, sum);
}

// ---- clips: the limit of a group whose rounding costs least, sum d_i (M d)_i with d = rounded(clamped w) - w
struct Clips {
    const float *w, *moments;
    float *clip;
    int out, in, group, bits, symmetric;
};
DEVICE float clamped(float v, float limit) { return v < -limit ? -limit : v > limit ? limit : v; }
// A warp takes a group of a row: blockIdx.x: group, blockIdx.y: 8 rows, so that they read the same moments;
// [8][group] fp32 of shared memory.
KERNEL(awq_clips, 256, const Clips p)
{
    DYN_SMEM(smem);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = blockIdx.y * 8 + warp, n = p.group;
    const u32 d = smem_address(smem) + warp * n * 4;
    const float *w = p.w + (size_t)row * p.in + (size_t)blockIdx.x * n;
    const float *m = p.moments + (size_t)blockIdx.x * n * n;
    float top = 0, best = 1e9f, found;
    pdl_launch();
    pdl_wait();
    if (row >= p.out) return;
    for (int i = lane; i < n; i += 32) {
        const float v = fabsf(load_fresh(w + i));
        top = v > top ? v : top;
    }
    found = top = warp_max(top);
#pragma unroll 1
    for (int k = 0; k < 10; k++) {
        const float limit = __fmul_rn(top, (float)(1.0 - k / 20.0));
        float mn = 3e38f, mx = -3e38f, err = 0;
        for (int i = lane; i < n; i += 32) {
            const float v = clamped(load_fresh(w + i), limit);
            mn = v < mn ? v : mn;
            mx = v > mx ? v : mx;
        }
        const Steps s = steps_of(warp_min(mn), warp_max(mx), p.bits, p.symmetric);
        __syncwarp(); // the last candidate's d has been read
        for (int i = lane; i < n; i += 32) {
            const float v = load_fresh(w + i);
            sts_f32(d + i * 4, __fadd_rn(stepped(s, clamped(v, limit)), -v));
        }
        __syncwarp();
        for (int i = lane; i < n; i += 32) {
            float y = 0;
#pragma unroll 8
            for (int j = 0; j < n; j++) y = fused(load_constant(m + (size_t)j * n + i), lds_f32(d + j * 4), y);
            err = fused(y, lds_f32(d + i * 4), err);
        }
        err = warp_sum(err);
        if (err < best) best = err, found = limit;
    }
    if (lane == 0) store_global(p.clip + (size_t)row * (p.in / n) + blockIdx.x, found);
}

// ---- y = act(gate) * up, fp32, all of a stretch of memory
struct Gated {
    const float *gate, *up;
    float *y;
    u64 n;
    int kind;
    float alpha, limit;
};
enum { GATED_SILU, GATED_GELU_TANH, GATED_SWIGLU };
DEVICE float gated(const Gated &p, float g, float u)
{
    float z = g;
    if (p.kind == GATED_SWIGLU) {
        g = g > p.limit ? p.limit : g;
        u = u > p.limit ? p.limit : u < -p.limit ? -p.limit : u;
        z = __fmul_rn(p.alpha, g);
        u = __fadd_rn(u, 1.0f);
    } else if (p.kind == GATED_GELU_TANH) z = 1.5957691216057308f * (g + 0.044715f * g * g * g);
    g = g / __fadd_rn(1.0f, exact_exp(-z));
    return p.up ? __fmul_rn(g, u) : g;
}
KERNEL(awq_gated, 256, const Gated p)
{
    pdl_launch();
    pdl_wait();
#pragma unroll 4
    for (int k = 0; k < 4; k++) {
        const u64 i = (u64)blockIdx.x * 1024 + k * 256 + threadIdx.x;
        if (i < p.n) store_global(p.y + i, gated(p, load_fresh(p.gate + i), p.up ? load_fresh(p.up + i) : 0));
    }
}

// ---- attention of one sequence from its beginning, all in fp32: norm and rope of a head's row in place, a
// warp each; then 32 queries of a head and 32 keys at a time, a lane has a key, then every 32nd output
struct Turn {
    float *x;
    const float *norm, *cos_, *sin_;
    int heads, dim, rope_dim, rope_first, rope_pairs, rope_table;
    float eps;
};
// blockIdx.x: row, blockIdx.y: 8 heads; [8][dim] fp32 of shared memory
KERNEL(awq_turn, 256, const Turn p)
{
    DYN_SMEM(smem);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, h = blockIdx.y * 8 + warp, d = p.dim;
    const u32 head = smem_address(smem) + warp * d * 4;
    float *x = p.x + ((size_t)blockIdx.x * p.heads + h) * d, sum = 0;
    pdl_launch();
    pdl_wait();
    if (h >= p.heads) return;
    for (int i = lane; i < d; i += 32) {
        const float v = load_fresh(x + i);
        sum = fused(v, v, sum);
        sts_f32(head + i * 4, v);
    }
    sum = 1.0f / sqrtf(warp_sum(sum) / (float)d + p.eps);
    __syncwarp();
    if (p.norm) {
        for (int i = lane; i < d; i += 32)
            sts_f32(head + i * 4, __fmul_rn(__fmul_rn(lds_f32(head + i * 4), sum), load_fresh(p.norm + i)));
        __syncwarp();
    }
    if (p.cos_) {
        const int half = p.rope_dim / 2;
        const size_t at = ((size_t)blockIdx.x * 2 + p.rope_table) * half;
        for (int i = lane; i < half; i += 32) {
            const u32 a = head + (p.rope_first + (p.rope_pairs ? 2 * i : i)) * 4,
                      b = a + (p.rope_pairs ? 4 : half * 4);
            const float u = lds_f32(a), v = lds_f32(b), c = load_fresh(p.cos_ + at + i),
                        s = load_fresh(p.sin_ + at + i);
            sts_f32(a, __fadd_rn(__fmul_rn(u, c), -__fmul_rn(v, s)));
            sts_f32(b, __fadd_rn(__fmul_rn(v, c), __fmul_rn(u, s)));
        }
        __syncwarp();
    }
    for (int i = lane; i < d; i += 32) store_global(x + i, lds_f32(head + i * 4));
}

struct Attention {
    const float *q, *k, *v;
    float *out;
    int n, heads, group, k_dim, v_dim, window;
    float scale;
};
// blockIdx.x: 32 queries, blockIdx.y: head; of shared memory q [32][k_dim], k [32][k_dim + 1], v [32][v_dim]
KERNEL(awq_sequence, 256, const Attention p)
{
    DYN_SMEM(smem);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, K = p.k_dim, V = p.v_dim, head = blockIdx.y;
    const int first = blockIdx.x * 32, mine = first + warp * 4;
    const int kv = head / p.group, kv_heads = p.heads / p.group;
    const u32 q = smem_address(smem), k = q + 128 * K, v = k + 128 * (K + 1);
    float out[4][8], most[4], sum[4];
    pdl_launch();
    pdl_wait();
    for (int r = warp; r < 32; r += 8)
        for (int i = lane; i < K; i += 32)
            sts_f32(q + (r * K + i) * 4,
                    first + r < p.n ? load_fresh(p.q + ((size_t)(first + r) * p.heads + head) * K + i) : 0);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        most[j] = -3e38f, sum[j] = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) out[j][i] = 0;
    }
    const int begin = p.window > 0 && first >= p.window ? (first - p.window + 1) / 32 * 32 : 0;
#pragma unroll 1
    for (int key = begin; key < first + 32 && key < p.n; key += 32) {
        __syncthreads(); // the last tile has been read
        for (int r = warp; r < 32; r += 8) {
            const size_t row = (size_t)(key + r) * kv_heads + kv;
            for (int i = lane; i < K; i += 32)
                sts_f32(k + (r * (K + 1) + i) * 4, key + r < p.n ? load_fresh(p.k + row * K + i) : 0);
            for (int i = lane; i < V; i += 32)
                sts_f32(v + (r * V + i) * 4, key + r < p.n ? load_fresh(p.v + row * V + i) : 0);
        }
        __syncthreads();
        if (mine >= p.n) continue;
        float s[4] = {0, 0, 0, 0};
#pragma unroll 4
        for (int i = 0; i < K; i++) {
            const float x = lds_f32(k + (lane * (K + 1) + i) * 4);
#pragma unroll
            for (int j = 0; j < 4; j++) s[j] = fused(x, lds_f32(q + ((warp * 4 + j) * K + i) * 4), s[j]);
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int behind = mine + j - key - lane; // of the query
            const bool seen = behind >= 0 && (p.window <= 0 || behind < p.window);
            s[j] = seen ? s[j] * p.scale : -3e38f;
            const float top = warp_max(s[j]), now = top > most[j] ? top : most[j];
            const float keep = exact_exp(most[j] - now);
            s[j] = seen ? exact_exp(s[j] - now) : 0;
            most[j] = now;
            sum[j] = fused(sum[j], keep, s[j]);
#pragma unroll
            for (int i = 0; i < 8; i++) out[j][i] *= keep;
        }
#pragma unroll 4
        for (int r = 0; r < 32; r++) {
            float weight[4];
#pragma unroll
            for (int j = 0; j < 4; j++) weight[j] = __shfl_sync(~0u, s[j], r);
#pragma unroll
            for (int i = 0; i < 8; i++)
                if (lane + 32 * i < V) {
                    const float x = lds_f32(v + (r * V + lane + 32 * i) * 4);
#pragma unroll
                    for (int j = 0; j < 4; j++) out[j][i] = fused(weight[j], x, out[j][i]);
                }
        }
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const float all = warp_sum(sum[j]);
        float *to = p.out + ((size_t)(mine + j) * p.heads + head) * V;
        if (mine + j >= p.n) break;
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (lane + 32 * i < V) store_global(to + lane + 32 * i, out[j][i] / all);
    }
}
