/* wgmma_few.cuh - 4-bit linear layers for 5 to 64 rows on sm_90a (warpgroup.cuh), which memory bounds
*/
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
