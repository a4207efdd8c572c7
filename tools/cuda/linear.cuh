/* linear.cuh - 4-bit linear layers on mma.sync: few rows, some rows, many rows

   All of them compute y^T = w x^T: weights are A of the mma, so its 8 columns are rows of x and a batch of 8
   wastes nothing. linear_gemv and linear_mma are in common.cuh; awq__cuda_linear_plan (plan.h) chooses kernel
   and grid.

   Up to 32 rows (mma8, 16, 32; on sm_90a wgmma_few.cuh is chosen instead): memory bound. Each step of a block
   moves 8 KB of weights, three steps are under way: 24 KB, 48 KB on an SM with two blocks (mma8, mma16: at most 64 registers for 512 threads). The loop has
   109, 124 and 145 instructions for a warp's 512 bytes (SASS of sm_90, NVRTC 13.0), so that issue, 4 a clock on
   each of 132 SMs at 1.755 GHz, ends at 4.4, 3.8 and 3.3 TB/s of weights.

   Many rows (mma64, mma128), where there is no wgmma for them; mma128: 128 outputs x 128 rows by 256 threads; a
   warp has 64 mma to 285 instructions in all. */
#ifndef AWQ_NO_F16
KERNEL_2(awq_linear_gemv_f16, 256, Linear p) { linear_gemv<Bits4, false>(F16(), p); }
KERNEL_2(awq_linear_gemv32_f16, 256, Linear p) { linear_gemv<Bits4, true>(F16(), p); }
KERNEL_2(awq_linear_mma8_f16, 512, Linear p) { linear_mma<Bits4, 1, 1, 1, 1, 4, true>(F16(), p); }
KERNEL_2(awq_linear_mma16_f16, 512, Linear p) { linear_mma<Bits4, 1, 1, 2, 1, 4, true>(F16(), p); }
KERNEL(awq_linear_mma32_f16, 512, Linear p) { linear_mma<Bits4, 1, 1, 4, 1, 4, true>(F16(), p); }
#if !AWQ_HAS_WGMMA || defined(AWQ_EMULATOR)
KERNEL_2(awq_linear_mma64_f16, 256, Linear p) { linear_mma<Bits4, 1, 1, 8, 1, 2, false>(F16(), p); }
KERNEL(awq_linear_mma128_f16, 256, Linear p) { linear_mma<Bits4, 2, 2, 8, 2, 1, false>(F16(), p); }
#endif
#endif
#if AWQ_HAS_BF16 && !defined(AWQ_NO_BF16)
KERNEL_2(awq_linear_gemv_bf16, 256, Linear p) { linear_gemv<Bits4, false>(BF16(), p); }
KERNEL_2(awq_linear_gemv32_bf16, 256, Linear p) { linear_gemv<Bits4, true>(BF16(), p); }
KERNEL_2(awq_linear_mma8_bf16, 512, Linear p) { linear_mma<Bits4, 1, 1, 1, 1, 4, true>(BF16(), p); }
KERNEL_2(awq_linear_mma16_bf16, 512, Linear p) { linear_mma<Bits4, 1, 1, 2, 1, 4, true>(BF16(), p); }
KERNEL(awq_linear_mma32_bf16, 512, Linear p) { linear_mma<Bits4, 1, 1, 4, 1, 4, true>(BF16(), p); }
#if !AWQ_HAS_WGMMA || defined(AWQ_EMULATOR)
KERNEL_2(awq_linear_mma64_bf16, 256, Linear p) { linear_mma<Bits4, 1, 1, 8, 1, 2, false>(BF16(), p); }
KERNEL(awq_linear_mma128_bf16, 256, Linear p) { linear_mma<Bits4, 2, 2, 8, 2, 1, false>(BF16(), p); }
#endif
#endif
