/* warpgroup.cuh - 4-bit linear layers on wgmma (sm_90a), the weights in registers: what the kernels of
   wgmma.cuh, wgmma_few.cuh and experts_wgmma.cuh share

   Two warpgroups consume, each BLOCKS blocks of 64 outputs; a block of threads is OUTS = 128 BLOCKS outputs x N
   rows of x (blockIdx.x: which rows, blockIdx.z: which outputs), k over blockIdx.y, in steps of one tile of 64
   inputs through a ring of STAGES. Of experts blockIdx.x is a tile of rows of one of them, see experts.cuh.

   The other threads produce. Weights and parameters come by bulk copy, one thread asks. x is [rows][k] as any
   kernel writes it, so no tensor map: COPYING threads, in warps of their own for few rows, copy 16 bytes each
   with cp.async to where the 128-byte swizzle wants them, 8 N chunks a tile. wgmma reads through the async proxy, so each thread waits for its
   copies, fences, and only then arrives: LAG tiles after asking.

   A is q dequantized to the dtype of x in registers, B the tile of x. Two sets of A take turns, over the blocks
   of a tile or, with one block, over tiles; with `unit` for a block of a tile:

       issue unit u | wait for u - 1, whose registers are free then | dequantize u + 1 while u runs

   EXACT (N up to 32), where tensor cores are not what is short: a unit is summed by itself,

       issue unit u | dequantize u + 1 while u runs | wait for u | add its sums, times the scale, in fp32

   so weights are exact, N / 2 fma a unit where scaling weights would be 16 multiplications. Two groups in a
   tile would ask for twice the sums: of groups of 32, and where not EXACT, weights are scaled in registers and
   so rounded.

   What bounds it, in tests/bench/RESULTS.md (tests/cuda/sass.sh counts): dequantizing is 36 instructions a unit
   and warp of some 70 in all for few rows, so that issue takes in weights faster than memory gives them. x goes
   to every block of threads: with 256 outputs in each and 16 rows that is 2 KB with 8 KB of weights. */
#if AWQ_HAS_WGMMA
template <int N_> struct Warpgroups {
    static const int N = N_, BLOCKS = N <= 64 ? 2 : 1, OUTS = 128 * BLOCKS;
    static const int PRODUCERS = N <= 64 ? 64 : 128, COPYING = N <= 64 ? 32 : 128; // threads; of them for x
    static const bool EXACT = N <= 32;
    static const int STAGES = N == 8 ? 10 : N == 16 ? 9 : N == 32 ? 14 : N == 64 ? 11 : N == 128 ? 8 : 5;
    static const int LAG = STAGES / 2; // at most STAGES - 2: a consumer wants tile t + 1 before it frees tile t
    // a stage, a multiple of 1024 bytes for the swizzle: x, weights, parameters [2 groups][OUTS]
    static const u32 X = N * 128, W = OUTS * 32, SZ = OUTS * 8, STAGE = X + W + SZ;
    // two barriers of a stage, "full" and STAGES later "empty", then a flag for each warpgroup
    static const u32 RING = STAGES * STAGE, FLAGS = RING + STAGES * 16, BYTES = RING + 1024;
};

template <class WG>
DEVICE void wgmma_produce(const Linear &p, u32 base, int first, int tiles, int row_tile, int wide)
{
    const int ROWS = WG::COPYING / 8; // of x at once
    const int thread = (threadIdx.x - 256) % WG::COPYING, fine = p.group == 32;
    const int row0 = row_tile * WG::N + thread / 8, chunk = thread % 8;
    const int block0 = wide * 2 * WG::BLOCKS, blocks = min(p.n_pad / 64 - block0, 2 * WG::BLOCKS);
    const int warp = __shfl_sync(~0u, (int)threadIdx.x >> 5, 0);
    const bool asks = warp == 8, copies = WG::PRODUCERS == WG::COPYING || warp > 8;
    const u64 policy = evict_first_policy();
    const u32 x_to = x_chunk(0, thread / 8, chunk);
    const uint4 *w = p.w + ((size_t)block0 * p.k_tiles + first) * 128; // of the tile to ask for
    const u32 *sz0 = p.sz + block0 * 64;
    int tile = first;
    auto load_w = [&](u32 stage, u32 full) {
        const u32 *sz = sz0 + (size_t)(fine ? 2 * tile : group_of(p, tile)) * p.n_pad;
        // outputs past the last block keep what was in shared memory; what they sum is not stored
        mbarrier_arrive_expect(full, blocks * (2048 + 256 * (1 + fine)));
#pragma unroll
        for (int b = 0; b < 2 * WG::BLOCKS; b++)
            if (b < blocks)
                bulk_load(stage + WG::X + b * 2048, w + (u64)(u32)(b * p.k_tiles) * 128, 2048, full, policy);
        bulk_load(stage + WG::X + WG::W, sz, blocks * 256, full, policy);
        if (fine) bulk_load(stage + WG::X + WG::W + WG::OUTS * 4, sz + p.n_pad, blocks * 256, full, policy);
    };
    if (asks)
#pragma unroll 1
        for (int t = 0; t < min(tiles, WG::STAGES); t++, w += 128, tile++)
            if (one_lane()) load_w(base + t * WG::STAGE, base + WG::RING + t * 8);
    pdl_launch();
    if (copies) pdl_wait();
    const u16 *x = p.x + first * 64 + chunk * 8;
    u32 stage = base, full = base + WG::RING, late = full; // late: of the tile LAG tiles before
    u32 phase = 1;
#pragma unroll 1
    for (int t = 0; t < tiles; t++, x += 64) {
        if (t >= WG::STAGES) {
            mbarrier_wait(full + WG::STAGES * 8, phase);
            if (asks) {
                if (one_lane()) load_w(stage, full);
                w += 128, tile++;
            }
        }
        if (copies) {
#pragma unroll(WG::N / ROWS > 8 && WG::N > 64 ? 4 : 16)
            for (int j = 0; j < WG::N / ROWS; j++) // the swizzle of row r and of r + 4 differ by chunk bit 2
                copy16(stage + (x_to ^ (j * ROWS & 4) << 4) + j * ROWS * 128,
                       x + (size_t)min(row0 + j * ROWS, p.rows - 1) * p.x_stride);
            copy_commit();
            if (t >= WG::LAG) {
                copy_wait<WG::LAG>();
                fence_async_proxy();
                mbarrier_arrive(late);
                late = late + 8 < base + WG::RING + WG::STAGES * 8 ? late + 8 : base + WG::RING;
            }
        }
        stage += WG::STAGE, full += 8;
        if (stage == base + WG::RING) stage = base, full = base + WG::RING, phase ^= 1;
    }
    if (!copies) return;
    copy_wait<0>();
    fence_async_proxy();
#pragma unroll 1
    for (int t = max(tiles - WG::LAG, 0); t < tiles; t++) mbarrier_arrive(base + WG::RING + t % WG::STAGES * 8);
}

template <class WG, class T>
DEVICE void wgmma_consume(T dtype, const Linear &p, u32 base, int tiles, int row_tile, int split, int wide)
{
    const int N = WG::N, BLOCKS = WG::BLOCKS;
    const int thread = threadIdx.x & 127, lane = thread & 31, warp = thread >> 5, wg = threadIdx.x / 128;
    const bool fine = p.group == 32;
    const u32 w_at = keep(WG::X + wg * BLOCKS * 2048 + thread * 16);
    const u32 sz_at = keep(WG::X + WG::W + (wg * BLOCKS * 64 + warp * 16 + (lane >> 2)) * 4);
    float sum[BLOCKS][N / 2], part[WG::EXACT ? N / 2 : 1], scale[2][2];
    u32 a[2][4][4];
#pragma unroll
    for (int i = 0; i < BLOCKS * N / 2; i++) (&sum[0][0])[i] = 0;

    // to set `to`: block m of the tile in `stage`
    auto load_a = [&](int to, u32 stage, int m) {
        const uint4 q = lds128(stage + w_at + m * 2048);
        const u32 words[4] = {q.x, q.y, q.z, q.w}, at = stage + sz_at + m * 256;
        u32 sz = lds32(at), sz8 = lds32(at + 32); // of outputs g and g + 8
        uint2 z = zero_points(dtype, sz, sz8);
        auto multiply_half = [&](int half) {
            const u32 s = scale_pair(dtype, sz), s8 = scale_pair(dtype, sz8);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                u32 &h = a[to][2 * half + j / 4][j % 4];
                h = multiply(dtype, h, j & 1 ? s8 : s);
            }
        };
#pragma unroll
        for (int kk = 0; kk < 4; kk++) dequantize(dtype, words[kk], z, a[to][kk]);
        scale[to][0] = scale_f32(sz), scale[to][1] = scale_f32(sz8);
        if (fine || !WG::EXACT) {
            scale[to][0] = scale[to][1] = 1;
            multiply_half(0);
            if (fine) { // the second half is of another group
                sz = lds32(at + WG::OUTS * 4), sz8 = lds32(at + WG::OUTS * 4 + 32);
                z = zero_points(dtype, sz, sz8);
                dequantize(dtype, words[2], z, a[to][2]);
                dequantize(dtype, words[3], z, a[to][3]);
            }
            multiply_half(1);
        }
    };

    // of tile t, which is in `stage` and whose barrier is `full`; `empty`: of the tile before
    u32 stage = base, full = base + WG::RING, empty = 0, phase = 0;
    auto free_tile = [&]() {
        if (lane == 0) mbarrier_arrive(empty);
    };
    // block m of tile t from set `set`; the other set gets the next block
    auto step = [&](int t, int set, int m) {
        const int next = (m + 1) % BLOCKS;
        float *d = WG::EXACT ? part : sum[m];
        const u32 tile = wgmma_tile(stage);
        wgmma_fence();
        wgmma<N, T::bf16, !WG::EXACT>(d, a[set][0], tile);
#pragma unroll
        for (int kk = 1; kk < 4; kk++) wgmma<N, T::bf16, true>(d, a[set][kk], tile + 2 * kk);
        wgmma_commit();
        if (!WG::EXACT) { // the tensor cores have work while this warp waits for what was asked before
            wgmma_wait<1>();
            if (m == 0 && t > 0) free_tile();
        }
        if (next == 0) {
            empty = full + WG::STAGES * 8;
            stage += WG::STAGE, full += 8;
            if (stage == base + WG::RING) stage = base, full = base + WG::RING, phase ^= 1;
        }
        if (next > 0 || t + 1 < tiles) {
            if (next == 0) mbarrier_wait(full, phase);
            load_a(set ^ 1, stage, next);
        }
        if (WG::EXACT) {
            wgmma_wait<0>();
            wgmma_settled<WG::EXACT ? N / 2 : 1>(part);
#pragma unroll
            for (int i = 0; i < (WG::EXACT ? N / 2 : 0); i++)
                sum[m][i] = fused(scale[set][i >> 1 & 1], part[WG::EXACT ? i : 0], sum[m][i]);
            if (next == 0) free_tile();
        }
    };
    pdl_wait(); // y and partial
    mbarrier_wait(full, 0);
    load_a(0, stage, 0);
#pragma unroll 1
    for (int t = 0; t < tiles; t += 2 / BLOCKS) {
        step(t, 0, 0);
        if (BLOCKS == 2) step(t, 1, 1);
        else if (t + 1 < tiles) step(t + 1, 1, 0);
    }
    if (!WG::EXACT) wgmma_wait<0>();

    // the ring is free when both warpgroups are here; each has room for its sums in it
    typedef Sums<N, 64> S;
    const u32 sums = base + wg * BLOCKS * S::BYTES;
    named_barrier(1, 256);
#pragma unroll
    for (int i = 0; i < BLOCKS * N / 8; i++)
        sums_put<64>(sums + i / (N / 8) * S::BYTES, i % (N / 8) * 8, warp * 16, &sum[0][0] + i * 4);
    named_barrier(2 + wg, 128);
#pragma unroll 1
    for (int m = 0; m < BLOCKS; m++) {
        const int block = (wide * 2 + wg) * BLOCKS + m;
        if (block * 64 >= p.n_pad) break;
        sums_store<N, 64, 1>(dtype, p, sums + m * S::BYTES, row_tile * N, block * 64,
                             row_tile * (p.n_pad / 64) + block, split, thread, 128, base + WG::FLAGS + wg * 4,
                             2 + wg);
    }
}

// row_tile: of N rows; wide: of OUTS outputs
template <int N, class T>
DEVICE void linear_wgmma(T dtype, const Linear &p, int row_tile = blockIdx.x, int split = blockIdx.y,
                         int wide = blockIdx.z)
{
    typedef Warpgroups<N> WG;
    static_assert(2 * WG::BLOCKS * Sums<N, 64>::BYTES <= (int)WG::RING && WG::FLAGS + 8 <= WG::BYTES
                      && WG::STAGE % 1024 == 0 && WG::LAG <= WG::STAGES - 2,
                  "fits");
    DYN_SMEM(smem);
    const u32 base = smem_address(smem), full = base + WG::RING, empty = full + WG::STAGES * 8;
    const int first = split_begin(p, split), tiles = split_begin(p, split + 1) - first;
    if (threadIdx.x == 0) {
        for (int s = 0; s < WG::STAGES; s++) {
            // the threads that copy x, and the announcement of the bulk copies
            mbarrier_init(full + s * 8, WG::COPYING + 1);
            mbarrier_init(empty + s * 8, 8); // the warps that consume
        }
        mbarrier_init_fence();
    }
    __syncthreads();
    // Of the 384 x 168 registers that a block of N = 256 is launched with, the producer keeps 128 x 40. Smaller
    // N need less, are launched with less, and must not ask: setmaxnreg waits for registers the block does not
    // have.
    const int warp = __shfl_sync(~0u, (int)threadIdx.x >> 5, 0); // the same for all lanes, as the compiler sees
    if (warp >= 8) {
        if (N == 256) registers_give<40>();
        wgmma_produce<WG>(p, base, first, tiles, row_tile, wide);
    } else {
        if (N == 256) registers_take<232>();
        wgmma_consume<WG>(dtype, p, base, tiles, row_tile, split, wide);
    }
}
#endif
