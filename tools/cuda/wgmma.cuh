/* wgmma.cuh - 4-bit linear layers for more than 64 rows on sm_90a (warpgroup.cuh)

   A block is 128 outputs x 128 or 256 rows. wgmma of a tile and warpgroup, m64nNk16 four times, keeps the
   tensor cores for 2 N clocks, 4 N for both; meanwhile a scheduler issues for two warps, 205 instructions: at
   N = 256 a fifth of its slots, and 16 copies of each producing thread. */
#if AWQ_HAS_WGMMA
#ifndef AWQ_NO_F16
KERNEL(awq_linear_wgmma128_f16, 384, Linear p) { linear_wgmma<128>(F16(), p); }
KERNEL(awq_linear_wgmma256_f16, 384, Linear p) { linear_wgmma<256>(F16(), p); }
#endif
#ifndef AWQ_NO_BF16
KERNEL(awq_linear_wgmma128_bf16, 384, Linear p) { linear_wgmma<128>(BF16(), p); }
KERNEL(awq_linear_wgmma256_bf16, 384, Linear p) { linear_wgmma<256>(BF16(), p); }
#endif
#endif
