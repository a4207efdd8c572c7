/* block.cuh - what the kernels of rows.cuh, moe.cuh and attention.cuh share: sums over a block, rows of
   numbers in fp32 or halves, arithmetic with the CPU's roundings */

// ---- arithmetic as awq.h has it: each operation rounds once, nothing is contracted to an fma
DEVICE float exact_mul_add(float a, float b, float c) { return __fadd_rn(__fmul_rn(a, b), c); }

// awq__expf, bit for bit: the same experts are chosen, the same logits are equal
DEVICE float exact_exp(float x)
{
    if (x > 88.72283f) return __uint_as_float(0x7f800000);
    if (!(x >= -87.33654f)) return x != x ? x : 0.0f;
    float k = __fmul_rn(x, 1.44269504f);
    const int e = (int)__fadd_rn(k, k < 0 ? -0.5f : 0.5f);
    k = (float)e;
    float r = __fadd_rn(x, -__fmul_rn(k, 0.693359375f));
    r = __fadd_rn(r, -__fmul_rn(k, -2.12194440e-4f));
    float p = 1.9875691500e-4f;
    p = exact_mul_add(p, r, 1.3981999507e-3f);
    p = exact_mul_add(p, r, 8.3334519073e-3f);
    p = exact_mul_add(p, r, 4.1665795894e-2f);
    p = exact_mul_add(p, r, 1.6666665459e-1f);
    p = exact_mul_add(p, r, 5.0000001201e-1f);
    p = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(p, r), r), r), 1.0f);
    if (e > 127) return __fmul_rn(__fmul_rn(p, 1.7014118346046923e38f), 2.0f);
    return __fmul_rn(p, __uint_as_float((u32)(e + 127) << 23));
}

DEVICE bool is_finite(float x) { return (__float_as_uint(x) & 0x7f800000) != 0x7f800000; }

// Beyond f16 the largest f16, as in the CPU's cache; NaN stays NaN.
DEVICE float f16_range(float x) { return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x; }
DEVICE u32 halves_of(F16, float lo, float hi) { return f32_to_f16x2(f16_range(lo), f16_range(hi)); }
DEVICE u32 halves_of(BF16, float lo, float hi) { return f32_to_bf16x2(lo, hi); }

// ---- sums: a tree within each warp, then the warps in a tree; the order depends on the block's size only
DEVICE float warp_sum(float v)
{
#pragma unroll
    for (int m = 16; m; m >>= 1) v += __shfl_xor_sync(~0u, v, m);
    return v;
}
enum { BLOCK_SUM = 128 }; // bytes of shared memory of a sum
// Every thread gets the sum. One barrier: a second sum needs memory of its own.
DEVICE float block_sum(float v, u32 memory)
{
    const int lane = threadIdx.x & 31, warps = (int)(blockDim.x >> 5);
    v = warp_sum(v);
    if (lane == 0) sts_f32(memory + (threadIdx.x >> 5) * 4, v);
    __syncthreads();
    return warp_sum(lane < warps ? lds_f32(memory + lane * 4) : 0.0f);
}

// ---- rows: four numbers at a time, at once where they are aligned
DEVICE bool aligned(const void *p, int bytes) { return !((u64)p & (u64)(bytes - 1)); }

// v[i .. i + 3] of a row of n, 0 beyond it. f32: the row is fp32, else halves.
template <class T> DEVICE float4 row_load(T dtype, const void *row, bool f32, int i, int n)
{
    float v[4] = {0, 0, 0, 0};
    if (f32) {
        const float *p = (const float *)row + i;
        if (i + 4 <= n && aligned(p, 16)) return load_fresh((const float4 *)p);
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (i + k < n) v[k] = load_fresh(p + k);
    } else {
        const u16 *p = (const u16 *)row + i;
        if (i + 4 <= n && aligned(p, 8)) {
            const uint2 h = load_fresh((const uint2 *)p);
            const float2 lo = to_f32(dtype, h.x), hi = to_f32(dtype, h.y);
            return make_float4(lo.x, lo.y, hi.x, hi.y);
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (i + k < n) v[k] = to_f32(dtype, load_fresh(p + k)).x;
    }
    return make_float4(v[0], v[1], v[2], v[3]);
}
DEVICE float4 weights_load(const float *row, int i, int n) // constants
{
    const float *p = row + i;
    float v[4] = {0, 0, 0, 0};
    if (i + 4 <= n && aligned(p, 16)) return load_constant((const float4 *)p);
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (i + k < n) v[k] = load_constant(p + k);
    return make_float4(v[0], v[1], v[2], v[3]);
}
DEVICE void row_store(float *row, int i, int n, float4 v)
{
    float *p = row + i;
    if (i + 4 <= n && aligned(p, 16)) {
        store_global((float4 *)p, v);
        return;
    }
    if (i < n) store_global(p, v.x);
    if (i + 1 < n) store_global(p + 1, v.y);
    if (i + 2 < n) store_global(p + 2, v.z);
    if (i + 3 < n) store_global(p + 3, v.w);
}
template <class T> DEVICE void row_store(T dtype, u16 *row, int i, int n, float4 v)
{
    u16 *p = row + i;
    const uint2 h = make_uint2(halves_of(dtype, v.x, v.y), halves_of(dtype, v.z, v.w));
    if (i + 4 <= n && aligned(p, 8)) {
        store_global((uint2 *)p, h);
        return;
    }
    if (i < n) store_global(p, (u16)h.x);
    if (i + 1 < n) store_global(p + 1, (u16)(h.x >> 16));
    if (i + 2 < n) store_global(p + 2, (u16)h.y);
    if (i + 3 < n) store_global(p + 3, (u16)(h.y >> 16));
}
DEVICE float4 lds_f32x4(u32 a)
{
    const uint4 v = lds128(a);
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
}
DEVICE void sts_f32x4(u32 a, float4 v)
{
    sts128(a,
           make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)));
}
DEVICE int padded(int n) { return (n + 63) & ~63; } // columns of what linears read

// ---- the best of many logits, which are finite: as u64, above the logit as an integer of the same order,
// below ~index, so that equals go to the lower index
DEVICE u64 logit_key(float x, int index)
{
    const u32 bits = __float_as_uint(x + 0.0f); // -0 is 0
    return (u64)(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | (u32)~index;
}
DEVICE u64 warp_max64(u64 v)
{
#pragma unroll
    for (int m = 16; m; m >>= 1) {
        const u64 other = __shfl_xor_sync(~0u, v, m);
        v = other > v ? other : v;
    }
    return v;
}
