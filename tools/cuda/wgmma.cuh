/* wgmma.cuh - 4-bit linear layers for many rows on sm_90a: wgmma with the weights in registers

   A block is 128 outputs x N rows of x (64, 128 or 256; blockIdx.x: which rows, blockIdx.z: which outputs), k
   over blockIdx.y, in steps of one tile of 64 inputs through a ring of STAGES. Of experts blockIdx.x is a tile
   of rows of one of them, see experts.cuh.

   Warpgroup 0 produces. Weights (2 x 2 KB) and parameters come by bulk copy, one thread asks. x is [rows][k] as
   any kernel writes it, so no tensor map: its 128 threads copy 16 bytes each with cp.async to where the
   128-byte swizzle wants them, 8 N chunks a tile: at N = 256 that is 16 copies a thread while 1024 clocks of
   wgmma pass. wgmma reads through the async proxy, so each thread waits for its copies, fences, and only then
   arrives: LAG tiles after asking.

   Warpgroups 1 and 2 consume, 64 outputs each. A is q dequantized and scaled to the dtype of x in registers
   (two sets), B the tile of x:

       issue tile t | wait for t - 1, whose registers are free then | dequantize t + 1 while t runs

   Two m64nNk16 of a tile's 64 inputs, four steps each, keep the tensor cores for 4 N clocks; meanwhile a
   scheduler issues for two warps. SASS of sm_90a (NVRTC 13.0) has 115 instructions a tile and warp, 4 of them
   HGMMA back to back, the dequantization of the next tile behind them: at N = 256 22 % of the issue slots. At N
   = 64 it is nine in ten, and 4 KB of weights in 256 clocks would be 3.7 TB/s on an H200: the limits of memory,
   issue and tensor cores are close together there, and fewer rows are better off with mma (linear.cuh). */
#if AWQ_HAS_WGMMA
template <int N> struct Ring {
    static const int STAGES = N == 256 ? 5 : N == 128 ? 8 : 14;
    static const int LAG = STAGES / 2; // at most STAGES - 2: a consumer wants tile t + 1 before it frees tile t
    // stages of x, each a multiple of 1024 bytes for the swizzle; of weights; of parameters [2 groups][128];
    // barriers
    static const u32 X = N * 128, W = 4096, SZ = 1024;
    static const u32 W_AT = STAGES * X, SZ_AT = W_AT + STAGES * W, BARRIERS = SZ_AT + STAGES * SZ;
};

template <int N>
DEVICE void wgmma_produce(const Linear &p, u32 base, int first, int tiles, int row_tile, int pair)
{
    typedef Ring<N> R;
    const int thread = threadIdx.x, blocks = p.n_pad / 64, fine = p.group == 32;
    const int row0 = row_tile * N + thread / 8, chunk = thread % 8;
    const u32 full = base + R::BARRIERS, empty = full + R::STAGES * 8;
    const u64 policy = evict_first_policy();
    const u32 x_to = x_chunk(base, thread / 8, chunk); // rows 16 further on have the same swizzle
    auto load_w = [&](int t) {
        const int s = t % R::STAGES, group = fine ? 2 * (first + t) : group_of(p, first + t);
        mbarrier_arrive_expect(full + s * 8, R::W + 512 * (1 + fine));
        for (int b = 0; b < 2;
             b++) { // a block past the last one is the last one again, what it sums is not stored
            const int block = min(pair * 2 + b, blocks - 1);
            const u32 *sz = p.sz + (size_t)group * p.n_pad + block * 64;
            const u32 sz_to = base + R::SZ_AT + s * R::SZ + b * 256;
            bulk_load(base + R::W_AT + s * R::W + b * 2048, p.w + ((size_t)block * p.k_tiles + first + t) * 128,
                      2048, full + s * 8, policy);
            bulk_load(sz_to, sz, 256, full + s * 8, policy);
            if (fine) bulk_load(sz_to + 512, sz + p.n_pad, 256, full + s * 8, policy);
        }
    };
    if (thread == 0)
        for (int t = 0; t < min(tiles, R::STAGES); t++) load_w(t);
    pdl_launch();
    pdl_wait();
    for (int t = 0; t < tiles; t++) {
        const int s = t % R::STAGES;
        if (t >= R::STAGES) {
            mbarrier_wait(empty + s * 8, (t / R::STAGES - 1) & 1);
            if (thread == 0) load_w(t);
        }
        const u16 *x = p.x + (first + t) * 64 + chunk * 8;
#pragma unroll 4
        for (int j = 0; j < N / 16; j++)
            copy16(x_to + s * R::X + j * 2048, x + (size_t)min(row0 + j * 16, p.rows - 1) * p.x_stride);
        copy_commit();
        if (t >= R::LAG) {
            copy_wait<R::LAG>();
            fence_async_proxy();
            mbarrier_arrive(full + (t - R::LAG) % R::STAGES * 8);
        }
    }
    copy_wait<0>();
    fence_async_proxy();
    for (int t = max(tiles - R::LAG, 0); t < tiles; t++) mbarrier_arrive(full + t % R::STAGES * 8);
}

template <int N, class T>
DEVICE void wgmma_consume(T dtype, const Linear &p, u32 base, int tiles, int row_tile, int split, int pair)
{
    typedef Ring<N> R;
    const int thread = threadIdx.x & 127, lane = thread & 31, warp = thread >> 5, fine = p.group == 32;
    const int wg = threadIdx.x / 128 - 1;
    const u32 full = base + R::BARRIERS, empty = full + R::STAGES * 8;
    const u32 w_at = base + R::W_AT + wg * 2048 + thread * 16;
    const u32 sz_at = base + R::SZ_AT + wg * 256 + (warp * 16 + (lane >> 2)) * 4;
    float sum[N / 2];
    u32 a0[4][4], a1[4][4];
#pragma unroll
    for (int i = 0; i < N / 2; i++) sum[i] = 0;

    auto load_a = [&](int t, u32(*a)[4]) {
        const int s = t % R::STAGES;
        mbarrier_wait(full + s * 8, t / R::STAGES & 1);
        const uint4 q = lds128(w_at + s * R::W);
        const u32 words[4] = {q.x, q.y, q.z, q.w};
        u32 sz = lds32(sz_at + s * R::SZ), sz8 = lds32(sz_at + s * R::SZ + 32);
        uint2 z = zero_points(dtype, sz, sz8);
        u32 scale[2] = {scale_pair(dtype, sz), scale_pair(dtype, sz8)};
#pragma unroll
        for (int kk = 0; kk < 4; kk++) {
            if (kk == 2 && fine) {
                sz = lds32(sz_at + s * R::SZ + 512), sz8 = lds32(sz_at + s * R::SZ + 544);
                z = zero_points(dtype, sz, sz8);
                scale[0] = scale_pair(dtype, sz), scale[1] = scale_pair(dtype, sz8);
            }
            dequantize(dtype, words[kk], z, a[kk]);
#pragma unroll
            for (int j = 0; j < 4; j++) a[kk][j] = multiply(dtype, a[kk][j], scale[j & 1]);
        }
    };
    // tile t from `a`; `next` is what tile t - 1 was computed from
    auto step = [&](int t, u32(*a)[4], u32(*next)[4]) {
        const u64 tile = wgmma_tile(base + t % R::STAGES * R::X);
        wgmma_fence();
#pragma unroll
        for (int kk = 0; kk < 4; kk++) wgmma<N, T::bf16>(sum, a[kk], tile + 2 * kk);
        wgmma_commit();
        if (t > 0) {
            wgmma_wait<1>();
            if (thread == 0) mbarrier_arrive(empty + (t - 1) % R::STAGES * 8);
        }
        if (t + 1 < tiles) load_a(t + 1, next);
    };
    pdl_wait(); // y and partial
    load_a(0, a0);
#pragma unroll 1
    for (int t = 0; t < tiles; t += 2) {
        step(t, a0, a1);
        if (t + 1 < tiles) step(t + 1, a1, a0);
    }
    wgmma_wait<0>();

    // the ring is free when both warpgroups are here; each has room for its sums in it
    typedef Sums<N, 64> S;
    const u32 sums = base + wg * S::BYTES;
    named_barrier(1, 256);
#pragma unroll
    for (int n = 0; n < N / 8; n++) sums_put<64>(sums, n * 8, warp * 16, sum + n * 4);
    named_barrier(2 + wg, 128);
    sums_store<N, 64, 1>(dtype, p, sums, row_tile * N, (pair * 2 + wg) * 64,
                         (pair * (int)gridDim.x + row_tile) * 2 + wg, split, thread, 128,
                         base + R::BARRIERS + R::STAGES * 16 + wg * 4, 2 + wg);
}

// row_tile: of N rows; pair: of blocks of 64 outputs
template <int N, class T>
DEVICE void linear_wgmma(T dtype, const Linear &p, int row_tile = blockIdx.x, int split = blockIdx.y,
                         int pair = blockIdx.z)
{
    typedef Ring<N> R;
    static_assert(2 * Sums<N, 64>::BYTES <= (int)R::BARRIERS && R::STAGES * 16 + 8 <= 1024, "fits");
    DYN_SMEM(smem);
    const u32 base = smem_address(smem), full = base + R::BARRIERS, empty = full + R::STAGES * 8;
    const int first = split_begin(p, split), tiles = split_begin(p, split + 1) - first;
    if (threadIdx.x == 0) {
        for (int s = 0; s < R::STAGES; s++) {
            mbarrier_init(full + s * 8,
                          129); // the threads that copy x, and the announcement of the bulk copies
            mbarrier_init(empty + s * 8, 2);
        }
        mbarrier_init_fence();
    }
    __syncthreads();
    // Of the 384 x 168 registers that a block of N = 256 is launched with, the producer keeps 128 x 40. Smaller
    // N need less, are launched with less, and must not ask: setmaxnreg waits for registers the block does not
    // have.
    if (threadIdx.x < 128) {
        if (N == 256) registers_give<40>();
        wgmma_produce<N>(p, base, first, tiles, row_tile, pair);
    } else {
        if (N == 256) registers_take<232>();
        wgmma_consume<N>(dtype, p, base, tiles, row_tile, split, pair);
    }
}
// grid (tiles, 1, pairs of blocks of outputs)
template <int N, class T> DEVICE void experts_wgmma(T dtype, const Experts &p)
{
    Linear l;
    pdl_launch();
    pdl_wait();
    const int tile = expert_of<N>(p, blockIdx.x, l);
    if (tile >= 0) linear_wgmma<N>(dtype, l, tile, 0, blockIdx.z);
}

#ifndef AWQ_NO_F16
KERNEL(awq_linear_wgmma64_f16, 384, Linear p) { linear_wgmma<64>(F16(), p); }
KERNEL(awq_linear_wgmma128_f16, 384, Linear p) { linear_wgmma<128>(F16(), p); }
KERNEL(awq_linear_wgmma256_f16, 384, Linear p) { linear_wgmma<256>(F16(), p); }
KERNEL(awq_experts4_wgmma128_f16, 384, Experts p) { experts_wgmma<128>(F16(), p); }
#endif
#ifndef AWQ_NO_BF16
KERNEL(awq_linear_wgmma64_bf16, 384, Linear p) { linear_wgmma<64>(BF16(), p); }
KERNEL(awq_linear_wgmma128_bf16, 384, Linear p) { linear_wgmma<128>(BF16(), p); }
KERNEL(awq_linear_wgmma256_bf16, 384, Linear p) { linear_wgmma<256>(BF16(), p); }
KERNEL(awq_experts4_wgmma128_bf16, 384, Experts p) { experts_wgmma<128>(BF16(), p); }
#endif
#endif
