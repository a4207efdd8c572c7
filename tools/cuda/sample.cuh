/* sample.cuh - the most probable tokens of each row, for sampling by the host

   The k highest logits in awq__by_logit's order, with their ids: what awq__draw looks at when top_k is not 0
   and at most k. The host draws from them, in the order of ids, with the bits it would have from all logits,
   and k numbers cross the bus instead of the vocabulary. Not here: top_k 0, whose total of all probabilities
   is a sum in double with the host's log and exp, and penalties, which come before. */
struct Top { // awq__cuda_top of steps.h
    const float *logits;
    u64 *partial;
    u32 *counters;
    int *id, *bad;
    float *value;
    int n, stride, k;
};
enum { TOP_THREADS = 1024, TOP_SHARED = 2 * 32 * 8 };

DEVICE u64 block_max64(u64 v, u32 memory) // every thread gets it; one barrier: the next needs other memory
{
    const int lane = threadIdx.x & 31;
    v = warp_max64(v);
    if (lane == 0) sts64(memory + (threadIdx.x >> 5) * 8, make_uint2((u32)v, (u32)(v >> 32)));
    __syncthreads();
    const uint2 w = lane < TOP_THREADS / 32 ? lds64(memory + lane * 8) : make_uint2(0, 0);
    return warp_max64((u64)w.y << 32 | w.x);
}
// the k highest of n keys, no two of them equal but for 0, which is none: out(i, key) by one thread
template <class Key, class Out> DEVICE void select(int n, int k, u32 memory, Key key, Out out)
{
    auto best_below = [&](u64 limit) { // of this thread's keys
        u64 best = 0;
#pragma unroll 4
        for (int i = threadIdx.x; i < n; i += TOP_THREADS) {
            const u64 v = key(i);
            if (v < limit && v > best) best = v;
        }
        return best;
    };
    u64 mine = best_below(~0ull);
#pragma unroll 1
    for (int i = 0; i < k; i++) {
        const u64 best = block_max64(mine, memory + (i & 1) * 256);
        if (best && mine == best) mine = best_below(best);
        if (threadIdx.x == 0) out(i, best);
    }
}
// blockIdx.x: part of the row, blockIdx.y: row. Each block leaves its k best keys, then 1 if a logit is NaN
// or Inf; the block that comes last selects among those of all.
DEVICE void top(const Top &p)
{
    DYN_SMEM(smem);
    const u32 memory = smem_address(smem);
    const int parts = (int)gridDim.x, row = blockIdx.y, part = (p.n + parts - 1) / parts;
    const int begin = min(p.n, (int)blockIdx.x * part), n = min(p.n - begin, part);
    pdl_launch();
    pdl_wait();
    const float *x = p.logits + (size_t)row * p.stride + begin;
    u64 *all = p.partial + (size_t)row * parts * (p.k + 1), *mine = all + blockIdx.x * (p.k + 1);
    select(
        n, p.k, memory,
        [&](int i) {
            const float v = load_fresh(x + i);
            return v != v ? 0 : logit_key(v, begin + i);
        },
        [&](int i, u64 key) { store_global(mine + i, key); });
    u64 bad = 0;
    for (int i = threadIdx.x; i < n; i += TOP_THREADS)
        if (!is_finite(load_fresh(x + i))) bad = 1;
    __syncthreads(); // the last maximum has been read
    bad = block_max64(bad, memory);
    if (threadIdx.x == 0) {
        store_global(mine + p.k, bad);
        fence_gpu();
        sts32(memory + 256, atomic_count(p.counters + row));
    }
    __syncthreads();
    if (lds32(memory + 256) != (u32)parts - 1) return;
    fence_gpu();
    __syncthreads();
    if (threadIdx.x == 0) {
        store_global(p.counters + row, 0u);
        for (int i = 0; i < parts; i++) bad |= load_fresh(all + i * (p.k + 1) + p.k);
        store_global(p.bad + row, (int)bad);
    }
    select(
        parts * p.k, p.k, memory, [&](int i) { return load_fresh(all + i / p.k * (p.k + 1) + i % p.k); },
        [&](int i, u64 key) {
            const u32 bits = (u32)(key >> 32);
            store_global(p.id + (size_t)row * p.k + i, key ? (int)~(u32)key : -1);
            store_global(p.value + (size_t)row * p.k + i,
                         __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits));
        });
}
KERNEL(awq_top, 1024, const Top p) { top(p); }
