/* wgmma_few.cuh - 4-bit linear layers for 5 to 64 rows on sm_90a (warpgroup.cuh)

   A block is 256 outputs x 8, 16, 32 or 64 rows. Memory is to be the bound: an H200 (4.3 TB/s, some 650 ns)
   wants 21 KB under way on each SM; rings hold 72 KB of weights or more, of two blocks on an SM for up to 16
   rows. By SASS of sm_90a (NVRTC 13.0) a warp issues 75, 79, 87 and 88 instructions for its 512 bytes of a unit,
   and with the warps that copy the SMs take in 5.8, 5.5, 5.0 and 4.9 TB/s; mma8, mma16 and mma32 (linear.cuh)
   4.4, 3.8 and 3.3. At 64 rows tensor cores are the bound, at 3.7. */
#if AWQ_HAS_WGMMA
#ifndef AWQ_NO_F16
KERNEL_2(awq_linear_wgmma8_f16, 320, Linear p) { linear_wgmma<8>(F16(), p); }
KERNEL_2(awq_linear_wgmma16_f16, 320, Linear p) { linear_wgmma<16>(F16(), p); }
KERNEL(awq_linear_wgmma32_f16, 320, Linear p) { linear_wgmma<32>(F16(), p); }
KERNEL(awq_linear_wgmma64_f16, 320, Linear p) { linear_wgmma<64>(F16(), p); }
#endif
#ifndef AWQ_NO_BF16
KERNEL_2(awq_linear_wgmma8_bf16, 320, Linear p) { linear_wgmma<8>(BF16(), p); }
KERNEL_2(awq_linear_wgmma16_bf16, 320, Linear p) { linear_wgmma<16>(BF16(), p); }
KERNEL(awq_linear_wgmma32_bf16, 320, Linear p) { linear_wgmma<32>(BF16(), p); }
KERNEL(awq_linear_wgmma64_bf16, 320, Linear p) { linear_wgmma<64>(BF16(), p); }
#endif
#endif
