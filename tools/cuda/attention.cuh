/* attention.cuh - attention over pages of keys and values

   A page holds 32 tokens as awq__cache says, f16: of each kv head keys [k_dim][32], then values [32][v_row].
   Queries are f16 [rows][heads][k_dim]. Both products are mma.m16n8k16 with fp32 sums; the rows of A are
   queries: of one row the heads that share a kv head, and of several rows of one sequence too, so that keys
   and values are read once for 16 (attend_split) or 128 (attend_many) of them. Query i of a TILE {row, rows,
   first} is head (first + i) % group of row + (first + i) / group; its rows are consecutive positions of one
   sequence.

   Keys lie with tokens side by side, so ldmatrix transposes them into B as it does values:
       scores [16 queries][32 keys] = Q [16][k_dim] K [k_dim][32]
       out [16][v_dim] += P [16][32] V [32][v_dim]
   and the scores' registers are, as halves, A of the second product.

   The softmax is online, in base 2, a page (two) at a time: M is the largest score so far times scale
   log2(e), weights are 2^(score scale log2(e) - M). Keys that a query does not see weigh exactly 0 and leave
   M, sums and out as they were, bit for bit; so a query's result does not depend on the other queries of its
   tile.

   Error, against the same f16 q, k, v: out is off by at most max|v| (2^-11 + 2 e) and its own rounding, where
   2^-11 is of the weights' rounding to f16 (below 2^-14 of the largest: 2^-25 absolute, each) and e = 2^-22
   (1 + |s|) + (k_dim + 2) 2^-24 scale sum|q k| bounds the error of a score s, with cap 2^-21 cap more. That is
   with sums rounded to nearest. Tensor cores are said to cut sums off instead (at 25 bits on Hopper, 24 before):
   over n keys that adds up to n 2^-27 max|v| there, twice that before, always towards 0. */
struct Attend { // awq__cuda_attend of steps.h
    const u16 *q;
    u16 *out;
    const int4 *tile;
    const int *pos, *slot;
    const u64 *page;
    const float *sink;
    float *partial;
    u32 *counters;
    u64 cache_at, head_bytes;
    int heads, group, k_dim, v_dim, v_row, out_stride, page_stride, window, split_pages, bf16;
    float scale, cap;
};
const int PAGE_TOKENS = 32;
const float LOG2_E = 1.44269504f, NO_SCORE = -1e30f; // below any score there can be: 65504^2 512

// ---- where queries are
struct Query {       // one of the 16 of a warp
    int row, head;   // of the pass; of all heads
    int first, last; // keys it sees
};
struct Sight { // what a tile sees
    int4 tile;
    int pos, queries; // position of its first row; queries there are, from tile.z on
    const u64 *page;
    u64 at; // bytes of the layer and kv head in a page
};
DEVICE bool sight(const Attend &p, Sight &s)
{
    s.tile = load_fresh(p.tile + blockIdx.x);
    s.pos = load_fresh(p.pos + s.tile.x);
    s.queries = s.tile.y * p.group - s.tile.z;
    s.page = p.page + (size_t)load_fresh(p.slot + s.tile.x) * p.page_stride;
    s.at = p.cache_at + blockIdx.y * p.head_bytes;
    return s.pos >= 0; // else the sequence has left
}
DEVICE Query query(const Attend &p, const Sight &s, int i) // beyond the last one: the last one
{
    const int at = s.tile.z + min(i, s.queries - 1), row = at / p.group;
    Query q;
    q.row = s.tile.x + row;
    q.head = blockIdx.y * p.group + at - row * p.group;
    q.last = s.pos + row;
    q.first = p.window > 0 ? max(0, q.last - p.window + 1) : 0;
    return q;
}

// ---- a warp's 16 queries: lane (g, t) has parts of queries g and g + 8, see mma
// Where registers are short q waits in shared memory, [16][K]; chunk c (8 dimensions) of row i lies at c ^ i
// % 8.
template <int K> struct Queries {
    static const bool SHARED = K > 192;
    static const int BYTES = SHARED ? 32 * K : 0;
};
template <int K, int V> struct Warp {
    u32 q[Queries<K>::SHARED ? 1 : K / 16][4], q_at;
    float o[V / 8][4];
    float m[2], sum[2]; // M; the lane's part of the sum of weights
    int last[2];        // keys that they see
};
// shared: Queries<K>::BYTES of this warp's
template <int K, int V>
DEVICE void warp_begin(const Attend &p, const Sight &s, int first, u32 shared, Warp<K, V> &w)
{
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const u16 *from[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const Query q = query(p, s, first + g + 8 * i);
        from[i] = p.q + ((size_t)q.row * p.heads + q.head) * p.k_dim + 2 * t;
        w.last[i] = q.last;
        w.m[i] = NO_SCORE, w.sum[i] = 0;
    }
#pragma unroll
    for (int kk = 0; kk < K / 16; kk++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = 16 * kk + 8 * (i >> 1);
            const u32 v = at < p.k_dim ? load_fresh((const u32 *)(from[i & 1] + at)) : 0;
            if (Queries<K>::SHARED)
                sts32(shared + (g + 8 * (i & 1)) * (2 * K) + (((at >> 3) ^ g) << 4) + t * 4, v);
            else w.q[kk % (sizeof w.q / sizeof *w.q)][i] = v;
        }
    // of ldmatrix: this lane's row, and its chunk of each 16 dimensions
    w.q_at = shared + (lane & 15) * (2 * K) + (((lane >> 4) ^ (lane & 7)) << 4);
    __syncwarp();
#pragma unroll
    for (int n = 0; n < V / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) w.o[n][i] = 0;
}

// ---- pages in shared memory
// Keys: row d is 64 bytes; chunk c (8 keys) of it lies at chunk c ^ d / 2 % 4. Values: row j is 2 V bytes;
// chunk c (8 dimensions) lies at c ^ j % 8. So the 8 rows that ldmatrix reads at once are in different banks.
template <int K, int V> struct Page {
    static const int KEYS = K * 64, BYTES = KEYS + V * 64;
};
// N copies of 16 bytes: chunk(i, to, from) says which, or that there is none. Below sm_80 a copy waits for
// its load: up to MOST loads first.
template <int N, int MOST, class Chunk> DEVICE void copy_chunks(Chunk chunk)
{
#if AWQ_ARCH >= 800
#pragma unroll 8 // all at once take too many registers for their addresses
    for (int i = 0; i < N; i++) {
        u32 to;
        const char *from;
        if (chunk(i, to, from)) copy16(to, from);
    }
#else
    const int SOME = N < MOST ? N : MOST;
#pragma unroll 1
    for (int i = 0; i < N; i += SOME) {
        u32 to[SOME];
        uint4 v[SOME];
        bool there[SOME];
#pragma unroll
        for (int k = 0; k < SOME; k++) {
            const char *from;
            there[k] = chunk(i + k, to[k], from);
            if (there[k]) v[k] = load_fresh((const uint4 *)from);
        }
#pragma unroll
        for (int k = 0; k < SOME; k++)
            if (there[k]) sts128(to[k], v[k]);
    }
#endif
}
template <int K, int THREADS> DEVICE void load_keys(const Attend &p, u32 to, const char *page, int thread)
{
    copy_chunks<K * 4 / THREADS, (K > 192 ? 2 : 4)>([&](int i, u32 &at, const char *&from) {
        const int c = thread + i * THREADS, d = c >> 2;
        at = to + d * 64 + (((c & 3) ^ (d >> 1 & 3)) << 4);
        from = page + c * 16;
        return d < p.k_dim;
    });
}
// of `tokens`; what is behind them may be anything, NaN too, and becomes 0
template <int V, int THREADS>
DEVICE void load_values(const Attend &p, u32 to, const char *page, int tokens, int thread)
{
    const int ROW = V / 8, c = thread % ROW, j0 = thread / ROW;
    page += p.k_dim * 64 + c * 16;
    copy_chunks<PAGE_TOKENS * ROW / THREADS, (V > 128 ? 2 : 4)>([&](int i, u32 &at, const char *&from) {
        const int j = j0 + i * (THREADS / ROW);
        at = to + j * (2 * V) + ((c ^ (j & 7)) << 4);
        from = page + j * p.v_row * 2;
        if (j >= tokens) sts128(at, make_uint4(0, 0, 0, 0));
        return j < tokens && c * 8 < p.v_row;
    });
}
// rows of keys beyond k_dim, which no page fills, by `threads`
template <int K> DEVICE void clear_keys(const Attend &p, u32 keys, int thread, int threads)
{
    for (int c = p.k_dim * 4 + thread; c < K * 4; c += threads) sts128(keys + c * 16, make_uint4(0, 0, 0, 0));
}

// ---- scores, weights, sums of a page
// s[n]: 8 keys each
template <int K, int V> DEVICE void page_scores(const Warp<K, V> &w, u32 keys, float (*s)[4])
{
    const int lane = threadIdx.x & 31, row = lane & 7, half = lane >> 3 & 1, chunk = lane >> 4;
    const u32 at = keys + (half * 8 + row) * 64 + ((chunk ^ (row >> 1)) << 4);
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) s[n][i] = 0;
#pragma unroll
    for (int kk = 0; kk < K / 16; kk++) {
        u32 a[4];
        if (Queries<K>::SHARED) ldmatrix4(a, w.q_at ^ (kk << 5));
        else
#pragma unroll
            for (int i = 0; i < 4; i++) a[i] = w.q[kk % (sizeof w.q / sizeof *w.q)][i];
#pragma unroll
        for (int pair = 0; pair < 2; pair++) { // 16 keys
            u32 b[4];
            ldmatrix4_transposed(b, (at ^ (pair << 5)) + kk * 1024);
            mma_f16(s[2 * pair], a, b);
            mma_f16(s[2 * pair + 1], a, b + 2);
        }
    }
}
// Scores of 8 N keys from `key` on become weights; the sums so far are scaled to the new M.
template <int N, int K, int V>
DEVICE void soften(const Attend &p, Warp<K, V> &w, int key, float scale, float cap, float (*s)[4])
{
    const int t = threadIdx.x & 3;
    if (cap > 0) { // cap tanh(score / cap); `scale` is log2(e) then
        const float z = 2 * LOG2_E * p.scale / cap;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                s[n][i] = cap - 2 * cap * fast_reciprocal(fast_exp2(fminf(s[n][i] * z, 126.0f)) + 1.0f);
    }
    const int window = p.window > 0 ? p.window : 0x7fffffff, a = w.last[0] - key, b = w.last[1] - key;
    if (a < 8 * N - 1 || b < 8 * N - 1 || a >= window || b >= window) { // not all are seen
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int behind = (i < 2 ? a : b) - 8 * n - 2 * t - (i & 1);
                if (behind < 0 || behind >= window) s[n][i] = __uint_as_float(0xff800000);
            }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = fmaxf(s[0][2 * r], s[0][2 * r + 1]), sum = 0;
#pragma unroll
        for (int n = 1; n < N; n++) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        const float m = fmaxf(w.m[r], top * scale), keep = fast_exp2(w.m[r] - m);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                s[n][i] = fast_exp2(fused(s[n][i], scale, -m));
                sum += s[n][i];
            }
        w.m[r] = m;
        w.sum[r] = fused(w.sum[r], keep, sum);
#pragma unroll
        for (int n = 0; n < V / 8; n++) w.o[n][2 * r] *= keep, w.o[n][2 * r + 1] *= keep;
    }
}
template <int K, int V> DEVICE void page_values(Warp<K, V> &w, u32 values, const float (*s)[4])
{
    const int lane = threadIdx.x & 31, row = lane & 7, half = lane >> 3 & 1, chunk = lane >> 4;
    const u32 at = values + (half * 8 + row) * (2 * V);
#pragma unroll
    for (int kk = 0; kk < 2; kk++) { // 16 keys
        u32 a[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[i] = f32_to_f16x2(s[2 * kk + (i >> 1)][2 * (i & 1)], s[2 * kk + (i >> 1)][2 * (i & 1) + 1]);
#pragma unroll
        for (int n = 0; n < V / 16; n++) {
            u32 b[4];
            ldmatrix4_transposed(b, at + kk * 32 * V + (((2 * n + chunk) ^ row) << 4));
            mma_f16(w.o[2 * n], a, b);
            mma_f16(w.o[2 * n + 1], a, b + 2);
        }
    }
}

// ---- results
// all weights of a query and its sink, which stands for no key
DEVICE float total_weight(const Attend &p, float sum, float m, int head)
{
    if (!p.sink) return sum;
    const float d = load_constant(p.sink + head) * LOG2_E - m;
    return d > 115 ? 3.0e38f : sum + fast_exp2(d); // as the CPU: nothing is left of the scores
}
DEVICE void store_out(const Attend &p, const Query &q, int d, float x, float y) // dimensions d and d + 1
{
    u16 *to = p.out + (size_t)q.row * p.out_stride + (q.head * p.v_dim + d);
    store_global((u32 *)to, p.bf16 ? halves_of(BF16(), x, y) : halves_of(F16(), x, y));
}
DEVICE float score_scale(const Attend &p) { return p.cap > 0 ? LOG2_E : p.scale * LOG2_E; }

/* ---- few queries: 16 of a tile, keys over blocks

   blockIdx: tile, kv head, split. A split is pages [split_pages i, split_pages (i + 1)), counted by position
   from the first that the tile sees: where it is cut does not depend on how long the sequence or any other
   is, nor on what the grid is, if split_pages does not. A page belongs to warp page % warps, which has room
   for one page of its own: while it works on the keys, the values and then the next keys are on their way, 8
   to 16 KB a warp for dimensions of 128; no barrier until all pages are done. Then warps are added in order,
   through shared memory, and splits in order by the block that comes last: partial [tile][kv head][split][16
   (v_dim + 2)], counters [tile][kv head], zero and left zero. */
template <int V> struct Part { // of shared memory: [16][V + 8] sums, 16 M, 16 sums of weights
    static const int PITCH = V + 8, M = 16 * PITCH, SUM = M + 16;
};
template <int K, int V> DEVICE void attend_split(const Attend &p)
{
    typedef Page<K, V> P;
    typedef Part<V> S;
    DYN_SMEM(smem);
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, warps = (int)(blockDim.x >> 5);
    const int WARP = P::BYTES + Queries<K>::BYTES; // bytes
    const u32 all = smem_address(smem), keys = all + warp * WARP, values = keys + P::KEYS;
    pdl_launch();
    pdl_wait();
    Sight s;
    if (!sight(p, s)) return;
    const int queries = min(s.queries, 16);
    const int page0 = query(p, s, 0).first / PAGE_TOKENS, last_key = query(p, s, queries - 1).last;
    const int split0 = page0 / p.split_pages, splits = last_key / PAGE_TOKENS / p.split_pages - split0 + 1;
    const int split = blockIdx.z;
    if (split >= splits) return;
    const int begin = max(page0, (split0 + split) * p.split_pages);
    const int end = min(last_key / PAGE_TOKENS + 1, (split0 + split + 1) * p.split_pages);
    const float scale = score_scale(p);
    Warp<K, V> w;
    warp_begin(p, s, 0, keys + P::BYTES, w);
    clear_keys<K>(p, keys, lane, 32);
    __syncwarp(); // a warp without pages writes its part there at once

    int at = begin + (warp - begin % warps + warps) % warps; // the warp's first page
    u64 here = at < end ? load_fresh(s.page + at) : 0;
    auto tokens = [&](int page) { return min(PAGE_TOKENS, last_key + 1 - page * PAGE_TOKENS); };
    if (at < end) load_keys<K, 32>(p, keys, (const char *)(here + s.at), lane);
    copy_commit();
    if (at < end) load_values<V, 32>(p, values, (const char *)(here + s.at), tokens(at), lane);
    copy_commit();
    for (; at < end; at += warps) {
        float x[4][4];
        const int next = at + warps;
        if (next < end) here = load_fresh(s.page + next);
        copy_wait<1>();
        __syncwarp();
        page_scores(w, keys, x);
        __syncwarp(); // keys have been read
        if (next < end) load_keys<K, 32>(p, keys, (const char *)(here + s.at), lane);
        copy_commit();
        soften<4>(p, w, at * PAGE_TOKENS, scale, p.cap, x);
        copy_wait<1>();
        __syncwarp();
        page_values(w, values, x);
        __syncwarp();
        if (next < end) load_values<V, 32>(p, values, (const char *)(here + s.at), tokens(next), lane);
        copy_commit();
    }

    // the warp's part, where its page was
    const int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const u32 row = keys + ((g + 8 * r) * S::PITCH + 2 * t) * 4;
        float sum = w.sum[r];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
#pragma unroll
        for (int n = 0; n < V / 8; n++)
            sts64(row + n * 32, make_uint2(__float_as_uint(w.o[n][2 * r]), __float_as_uint(w.o[n][2 * r + 1])));
        if (t == 0) {
            sts_f32(keys + (S::M + g + 8 * r) * 4, w.m[r]);
            sts_f32(keys + (S::SUM + g + 8 * r) * 4, sum);
        }
    }
    __syncthreads();
    const int pairs = p.v_dim / 2, block = (int)(blockIdx.x * gridDim.y + blockIdx.y);
    const size_t size = 16 * (size_t)(p.v_dim + 2); // of a split
    float *partial = p.partial + (size_t)block * gridDim.z * size;
    for (int i = thread; i < queries * pairs; i += blockDim.x) {
        const int j = i / pairs, d = i % pairs * 2;
        float m = NO_SCORE, sum = 0, x = 0, y = 0;
        for (int k = 0; k < warps; k++) m = fmaxf(m, lds_f32(all + k * WARP + (S::M + j) * 4));
        for (int k = 0; k < warps; k++) {
            const u32 part = all + k * WARP;
            const float f = fast_exp2(lds_f32(part + (S::M + j) * 4) - m);
            const uint2 v = lds64(part + (j * S::PITCH + d) * 4);
            sum = fused(f, lds_f32(part + (S::SUM + j) * 4), sum);
            x = fused(f, __uint_as_float(v.x), x), y = fused(f, __uint_as_float(v.y), y);
        }
        if (splits == 1) {
            const Query q = query(p, s, j);
            const float inverse = 1.0f / total_weight(p, sum, m, q.head);
            store_out(p, q, d, x * inverse, y * inverse);
        } else {
            float *to = partial + split * size;
            store_global((float2 *)(to + j * p.v_dim + d), make_float2(x, y));
            if (d == 0) store_global(to + 16 * p.v_dim + j, m), store_global(to + 16 * p.v_dim + 16 + j, sum);
        }
    }
    if (splits == 1) return;
    fence_gpu();
    __syncthreads(); // all have stored, and read what the flag lies over
    if (thread == 0) sts32(all, atomic_count(p.counters + block));
    __syncthreads();
    if (lds32(all) != (u32)splits - 1) return;
    fence_gpu();
    if (thread == 0) store_global(p.counters + block, 0u);
    for (int i = thread; i < queries * pairs; i += blockDim.x) {
        const int j = i / pairs, d = i % pairs * 2;
        const float *from = partial + 16 * p.v_dim + j;
        float m = NO_SCORE, sum = 0, x = 0, y = 0;
        for (int k = 0; k < splits; k++) m = fmaxf(m, load_fresh(from + k * size));
        for (int k = 0; k < splits; k++) {
            const float f = fast_exp2(load_fresh(from + k * size) - m);
            const uint2 v = load_fresh((const uint2 *)(partial + k * size + j * p.v_dim + d));
            sum = fused(f, load_fresh(from + k * size + 16), sum);
            x = fused(f, __uint_as_float(v.x), x), y = fused(f, __uint_as_float(v.y), y);
        }
        const Query q = query(p, s, j);
        const float inverse = 1.0f / total_weight(p, sum, m, q.head);
        store_out(p, q, d, x * inverse, y * inverse);
    }
}
/* ---- many queries: 128 of a tile (64 for the largest heads), all their keys

   blockIdx: tile, kv head. 8 warps (4 for the largest heads) take 16 queries each and share the pages, PAGES
   at a time (cut at multiples of PAGES, whatever the tile), in two buffers: one is filled while the other is
   used, with one barrier a step. Warps whose queries see nothing of a step, above the diagonal or before the
   window, leave it out. */
template <int K, int V, int PAGES, int MANY_THREADS> DEVICE void attend_many(const Attend &p)
{
    typedef Page<K, V> P;
    DYN_SMEM(smem);
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, STEP = PAGES * PAGE_TOKENS;
    const u32 all = smem_address(smem);
    pdl_launch();
    pdl_wait();
    Sight s;
    if (!sight(p, s)) return;
    const int queries = min(s.queries, MANY_THREADS / 2);
    const int page0 = query(p, s, 0).first / PAGE_TOKENS, last_key = query(p, s, queries - 1).last;
    const int begin = page0 / PAGES, end = last_key / STEP + 1;
    const float scale = score_scale(p);
    // what the warp's queries see: of the first one from, of the last one to
    const int from = query(p, s, 16 * warp).first, to = query(p, s, 16 * warp + 15).last;
    const bool idle = 16 * warp >= queries;
    Warp<K, V> w;
    warp_begin(p, s, 16 * warp, all + 2 * PAGES * P::BYTES + warp * Queries<K>::BYTES, w);
    for (int i = 0; i < 2 * PAGES; i++) clear_keys<K>(p, all + i * P::BYTES, thread, MANY_THREADS);

    auto load = [&](int step) {
#pragma unroll
        for (int i = 0; i < PAGES; i++) {
            const int page = step * PAGES + i, there = page < page0 ? 0 : last_key + 1 - page * PAGE_TOKENS;
            const u32 keys = all + ((step & 1) * PAGES + i) * P::BYTES;
            const char *at = there > 0 ? (const char *)(load_fresh(s.page + page) + s.at) : 0;
            if (there > 0) load_keys<K, MANY_THREADS>(p, keys, at, thread);
            load_values<V, MANY_THREADS>(p, keys + P::KEYS, at, there, thread);
        }
        copy_commit();
    };
    load(begin);
#pragma unroll 1
    for (int step = begin; step < end; step++) {
        const int key = step * STEP;
        copy_wait<0>();
        __syncthreads(); // this step is here, and the one before has been used
        if (step + 1 < end) load(step + 1);
        if (idle || key > to || key + STEP <= from) continue;
        const u32 pages = all + (step & 1) * PAGES * P::BYTES;
        float x[4 * PAGES][4];
#pragma unroll
        for (int i = 0; i < PAGES; i++) page_scores(w, pages + i * P::BYTES, x + 4 * i);
        soften<4 * PAGES>(p, w, key, scale, p.cap, x);
#pragma unroll
        for (int i = 0; i < PAGES; i++) page_values(w, pages + i * P::BYTES + P::KEYS, x + 4 * i);
    }
    if (idle) return;
    const int t = lane & 3;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int i = 16 * warp + (lane >> 2) + 8 * r;
        const Query q = query(p, s, i);
        float sum = w.sum[r];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const float inverse = 1.0f / total_weight(p, sum, w.m[r], q.head);
#pragma unroll
        for (int n = 0; n < V / 8; n++)
            if (i < queries && n * 8 < p.v_dim)
                store_out(p, q, 8 * n + 2 * t, w.o[n][2 * r] * inverse, w.o[n][2 * r + 1] * inverse);
    }
}

// the size of keys up to which a kernel is good; with AWQ_ATTEND defined as one of them only that size is
// compiled
#ifndef AWQ_ATTEND
#define AWQ_ATTEND 0
#endif
#if AWQ_ATTEND == 0 || AWQ_ATTEND == 64
KERNEL(awq_attend_split_64, 128, const Attend p) { attend_split<64, 64>(p); }
KERNEL(awq_attend_many_64, 256, const Attend p) { attend_many<64, 64, 2, 256>(p); }
#endif
#if AWQ_ATTEND == 0 || AWQ_ATTEND == 128
KERNEL(awq_attend_split_128, 128, const Attend p) { attend_split<128, 128>(p); }
KERNEL(awq_attend_many_128, 256, const Attend p) { attend_many<128, 128, 2, 256>(p); }
#endif
#if AWQ_ATTEND == 0 || AWQ_ATTEND == 192
KERNEL(awq_attend_split_192, 128, const Attend p) { attend_split<192, 128>(p); }
KERNEL(awq_attend_many_192, 256, const Attend p) { attend_many<192, 128, 1, 256>(p); }
#endif
#if AWQ_ATTEND == 0 || AWQ_ATTEND == 256
KERNEL(awq_attend_split_256, 128, const Attend p) { attend_split<256, 256>(p); }
#if AWQ_ARCH >= 800 // 96 KB of shared memory
KERNEL(awq_attend_many_256, 128, const Attend p) { attend_many<256, 256, 1, 128>(p); }
#endif
#endif
