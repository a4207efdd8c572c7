/* experts.cuh - a linear of all experts of a layer in one launch

   Rows of x and y are slots (moe.cuh): those of an expert lie together, start [experts + 1] says where, on the
   device only. So the grid has room for the most tiles of rows that there can be; a block finds the expert of
   its tile by a sum over tiles of the experts before it, in one round of loads for 128 of them, and leaves when
   there are no more tiles. Then it is a block of the linear of that expert, whose weights a table names.
   Sums are never split over blocks. awq__cuda_experts_plan (plan.h) chooses kernel and grid.

   gemv: for passes of at most 4 rows, so that an expert has no more. mma16: weights exact, one order of sums
   whatever the number of rows. mma64: for many rows; of 4 bits on sm_90a that of experts_wgmma.cuh is instead.
   expert_of is in common.cuh. */
// grid (blocks of 16 outputs, tiles)
template <class FORMAT, bool FINE, class T> DEVICE void experts_gemv(T dtype, const Experts &p)
{
    Linear l;
    pdl_launch();
    pdl_wait();
    if (expert_of<GEMV_ROWS>(p, blockIdx.y, l) < 0) return;
    linear_gemv<FORMAT, FINE>(dtype, l, blockIdx.x, 0);
}
// grid (tiles, 1, blocks of outputs)
template <class FORMAT, int NT, bool EXACT, class T> DEVICE void experts_mma(T dtype, const Experts &p)
{
    Linear l;
    pdl_launch();
    pdl_wait();
    const int tile = expert_of<8 * NT>(p, blockIdx.x, l);
    if (tile < 0) return;
    linear_mma<FORMAT, 1, 1, NT, 1, 2, EXACT>(dtype, l, tile, 0, blockIdx.z);
}

#ifndef AWQ_NO_F16
KERNEL_2(awq_experts4_gemv_f16, 256, Experts p) { experts_gemv<Bits4, false>(F16(), p); }
KERNEL_2(awq_experts4_gemv32_f16, 256, Experts p) { experts_gemv<Bits4, true>(F16(), p); }
KERNEL_2(awq_experts4_mma16_f16, 256, Experts p) { experts_mma<Bits4, 2, true>(F16(), p); }
#if !AWQ_HAS_WGMMA || defined(AWQ_EMULATOR)
KERNEL_2(awq_experts4_mma64_f16, 256, Experts p) { experts_mma<Bits4, 8, false>(F16(), p); }
#endif
KERNEL_2(awq_experts8_gemv_f16, 256, Experts p) { experts_gemv<Bits8, false>(F16(), p); }
KERNEL_2(awq_experts8_gemv32_f16, 256, Experts p) { experts_gemv<Bits8, true>(F16(), p); }
KERNEL_2(awq_experts8_mma16_f16, 256, Experts p) { experts_mma<Bits8, 2, true>(F16(), p); }
KERNEL_2(awq_experts8_mma64_f16, 256, Experts p) { experts_mma<Bits8, 8, false>(F16(), p); }
KERNEL_2(awq_experts16_mma16_f16, 256, Experts p) { experts_mma<Dense, 2, false>(F16(), p); }
KERNEL(awq_experts16_mma64_f16, 256, Experts p) { experts_mma<Dense, 8, false>(F16(), p); }
#endif
#if AWQ_HAS_BF16 && !defined(AWQ_NO_BF16)
KERNEL_2(awq_experts4_gemv_bf16, 256, Experts p) { experts_gemv<Bits4, false>(BF16(), p); }
KERNEL_2(awq_experts4_gemv32_bf16, 256, Experts p) { experts_gemv<Bits4, true>(BF16(), p); }
KERNEL_2(awq_experts4_mma16_bf16, 256, Experts p) { experts_mma<Bits4, 2, true>(BF16(), p); }
#if !AWQ_HAS_WGMMA || defined(AWQ_EMULATOR)
KERNEL_2(awq_experts4_mma64_bf16, 256, Experts p) { experts_mma<Bits4, 8, false>(BF16(), p); }
#endif
KERNEL_2(awq_experts8_gemv_bf16, 256, Experts p) { experts_gemv<Bits8, false>(BF16(), p); }
KERNEL_2(awq_experts8_gemv32_bf16, 256, Experts p) { experts_gemv<Bits8, true>(BF16(), p); }
KERNEL_2(awq_experts8_mma16_bf16, 256, Experts p) { experts_mma<Bits8, 2, true>(BF16(), p); }
KERNEL_2(awq_experts8_mma64_bf16, 256, Experts p) { experts_mma<Bits8, 8, false>(BF16(), p); }
KERNEL_2(awq_experts16_mma16_bf16, 256, Experts p) { experts_mma<Dense, 2, false>(BF16(), p); }
KERNEL(awq_experts16_mma64_bf16, 256, Experts p) { experts_mma<Dense, 8, false>(BF16(), p); }
#endif
