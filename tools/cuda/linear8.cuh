/* linear8.cuh - 8-bit linear layers with groups, for heads that 4 bits would hurt: as linear.cuh, twice the
   bytes

   Weights are Bits8 of common.cuh; parameters as for 4 bits, zero points up to 255. */
#ifndef AWQ_NO_F16
KERNEL_2(awq_linear8_gemv_f16, 256, Linear p) { linear_gemv<Bits8, false>(F16(), p); }
KERNEL_2(awq_linear8_gemv32_f16, 256, Linear p) { linear_gemv<Bits8, true>(F16(), p); }
KERNEL_2(awq_linear8_mma16_f16, 512, Linear p) { linear_mma<Bits8, 1, 1, 2, 1, 4, true>(F16(), p); }
KERNEL_2(awq_linear8_mma64_f16, 256, Linear p) { linear_mma<Bits8, 1, 1, 8, 1, 2, false>(F16(), p); }
KERNEL(awq_linear8_mma128_f16, 256, Linear p) { linear_mma<Bits8, 2, 2, 8, 2, 1, false>(F16(), p); }
#endif
#if AWQ_HAS_BF16 && !defined(AWQ_NO_BF16)
KERNEL_2(awq_linear8_gemv_bf16, 256, Linear p) { linear_gemv<Bits8, false>(BF16(), p); }
KERNEL_2(awq_linear8_gemv32_bf16, 256, Linear p) { linear_gemv<Bits8, true>(BF16(), p); }
KERNEL_2(awq_linear8_mma16_bf16, 512, Linear p) { linear_mma<Bits8, 1, 1, 2, 1, 4, true>(BF16(), p); }
KERNEL_2(awq_linear8_mma64_bf16, 256, Linear p) { linear_mma<Bits8, 1, 1, 8, 1, 2, false>(BF16(), p); }
KERNEL(awq_linear8_mma128_bf16, 256, Linear p) { linear_mma<Bits8, 2, 2, 8, 2, 1, false>(BF16(), p); }
#endif
