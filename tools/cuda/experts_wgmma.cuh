/* experts_wgmma.cuh - a linear of all experts for many rows on sm_90a: experts.cuh by warpgroup.cuh. A family
   of its own, so that a model pays for its compilation when it meets as many rows. */
#if AWQ_HAS_WGMMA
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
KERNEL(awq_experts4_wgmma128_f16, 384, Experts p) { experts_wgmma<128>(F16(), p); }
#endif
#ifndef AWQ_NO_BF16
KERNEL(awq_experts4_wgmma128_bf16, 384, Experts p) { experts_wgmma<128>(BF16(), p); }
#endif
#endif
