/* dense.cuh - linear layers of f16 and bf16 weights in rows, as checkpoints have them: heads, and models that
   are not quantized. The weights are [n][64 k_tiles], padded with zeros along k; sz is not used.

   1 to 8 rows. As linear_gemv: a block is 16 outputs, 8 warps share k, in pieces of 32. An mma sums over its
   inputs in any order as long as A and B agree, so a lane (g, t) takes 16 bytes of output g and of g + 8,
   inputs 8t .. 8t + 7 of the piece: the first four are its inputs 2t, 2t + 1, 2t + 8, 2t + 9 of one mma, the
   others of the next, and x is read the same way, 16 bytes a lane. Nothing is rearranged, nothing goes through
   shared memory, and x (8 KB a row at k = 4096) stays in L1. A lane has 4 x 2 loads of 16 bytes under way, 32
   KB a block, 64 KB on an SM with two. */
template <class T> DEVICE void dense_gemv(T dtype, const Linear &p)
{
    DYN_SMEM(smem);
    const int DEPTH = 4, WARPS = 8;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int first = 2 * split_begin(p, blockIdx.y) + warp, last = 2 * split_begin(p, blockIdx.y + 1);
    const u64 policy = evict_first_policy();
    const int row_chunks = p.k_tiles * 8, out = blockIdx.x * 16 + g; // outputs past the last one: it again
    const uint4 *w = p.w + (size_t)min(out, p.n - 1) * row_chunks + t;
    const uint4 *w8 = p.w + (size_t)min(out + 8, p.n - 1) * row_chunks + t;
    const uint4 *x = (const uint4 *)(p.x + (size_t)(g < p.rows ? g : 0) * p.x_stride) + t;
    uint4 a[DEPTH], a8[DEPTH];
    float sum[4] = {0, 0, 0, 0};
    auto load = [&](int i, int piece) {
        a[i] = load_weights(w + piece * 4, policy);
        a8[i] = load_weights(w8 + piece * 4, policy);
    };
#pragma unroll
    for (int i = 0; i < DEPTH; i++)
        if (first + i * WARPS < last) load(i, first + i * WARPS);
    pdl_launch();
    pdl_wait();
    for (int base = first; base < last; base += DEPTH * WARPS) {
        uint4 b[DEPTH];
#pragma unroll
        for (int i = 0; i < DEPTH; i++)
            if (base + i * WARPS < last) b[i] = load_fresh(x + (base + i * WARPS) * 4);
#pragma unroll
        for (int i = 0; i < DEPTH; i++) {
            const int piece = base + i * WARPS, next = piece + DEPTH * WARPS;
            if (piece >= last) break;
            const u32 lo[4] = {a[i].x, a8[i].x, a[i].y, a8[i].y}, hi[4] = {a[i].z, a8[i].z, a[i].w, a8[i].w};
            const u32 b_lo[2] = {b[i].x, b[i].y}, b_hi[2] = {b[i].z, b[i].w};
            mma(dtype, sum, lo, b_lo);
            mma(dtype, sum, hi, b_hi);
            if (next < last) load(i, next);
        }
    }
    const u32 sums = smem_address(smem) + 16;
    sums_put<16>(sums + warp * Sums<8, 16>::BYTES, 0, 0, sum);
    __syncthreads();
    sums_store<8, 16, WARPS>(dtype, p, sums, 0, blockIdx.x * 16, blockIdx.x, blockIdx.y, threadIdx.x,
                             32 * WARPS, sums - 16);
}

#ifndef AWQ_NO_F16
KERNEL_2(awq_dense_gemv_f16, 256, Linear p) { dense_gemv(F16(), p); }
KERNEL_2(awq_dense_mma16_f16, 256, Linear p) { linear_mma<Dense, 1, 1, 2, 1, 2, false>(F16(), p); }
KERNEL(awq_dense_mma64_f16, 256, Linear p) { linear_mma<Dense, 1, 1, 8, 1, 2, false>(F16(), p); }
KERNEL(awq_dense_mma128_f16, 256, Linear p) { linear_mma<Dense, 2, 2, 8, 2, 1, false>(F16(), p); }
#endif
#if AWQ_HAS_BF16 && !defined(AWQ_NO_BF16)
KERNEL_2(awq_dense_gemv_bf16, 256, Linear p) { dense_gemv(BF16(), p); }
KERNEL_2(awq_dense_mma16_bf16, 256, Linear p) { linear_mma<Dense, 1, 1, 2, 1, 2, false>(BF16(), p); }
KERNEL(awq_dense_mma64_bf16, 256, Linear p) { linear_mma<Dense, 1, 1, 8, 1, 2, false>(BF16(), p); }
KERNEL(awq_dense_mma128_bf16, 256, Linear p) { linear_mma<Dense, 2, 2, 8, 2, 1, false>(BF16(), p); }
#endif
