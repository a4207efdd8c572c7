/* prims.cuh - what the kernels of awq_cuda.h need from the hardware, and the only file that knows PTX

   Each primitive has a PTX body for NVRTC and, under AWQ_EMULATOR, a C++ body for tests/cuda/emulator.h. A
   kernel touches half precision, shared memory, asynchronous copies, tensor cores and barriers only through
   these, so its text runs on both. No header is included: NVRTC has none without the toolkit. f16x2 and bf16x2
   are u32, low half first. Shared memory is a u32 address. Instruction names are in the comments; PTX ISA 7.7
   (sm_75 .. 8.9), 8.0 (sm_90a). */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef AWQ_EMULATOR
#ifndef AWQ_ARCH
#define AWQ_ARCH 900
#endif
#define DEVICE static inline
#define DEVICE_MEMBER inline
#define AWQ_HAS_WGMMA (AWQ_ARCH == 900)
// KERNEL(name, threads, parameters) { body }: registers itself, for a launch by name
#define KERNEL(name, threads, ...)                                \
    extern "C" void name(__VA_ARGS__);                            \
    static emu::Register name##_registered(#name, threads, name); \
    extern "C" void name(__VA_ARGS__)
#define KERNEL_2(name, threads, ...) KERNEL(name, threads, __VA_ARGS__)
#else
#define AWQ_ARCH __CUDA_ARCH__
#define DEVICE __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define AWQ_HAS_WGMMA 1
#else
#define AWQ_HAS_WGMMA 0
#endif
#define KERNEL(name, threads, ...) extern "C" __global__ void __launch_bounds__(threads, 1) name(__VA_ARGS__)
// registers for at least two blocks on an SM
#define KERNEL_2(name, threads, ...) extern "C" __global__ void __launch_bounds__(threads, 2) name(__VA_ARGS__)
#endif
#define AWQ_HAS_BF16 (AWQ_ARCH >= 800) // arithmetic and mma on bf16; cp.async came at the same time

// ---- half precision
#ifdef AWQ_EMULATOR
namespace emu
{
template <class Operation> static inline u32 f16x2(u32 a, u32 b, u32 c, Operation op)
{
    u32 lo = f64_to_f16(op((double)f16_to_f32((u16)a), f16_to_f32((u16)b), f16_to_f32((u16)c)));
    u32 hi = f64_to_f16(op((double)f16_to_f32(a >> 16), f16_to_f32(b >> 16), f16_to_f32(c >> 16)));
    return lo | hi << 16;
}
template <class Operation> static inline u32 bf16x2(u32 a, u32 b, u32 c, Operation op)
{
    u32 lo = f64_to_bf16(op((double)bf16_to_f32((u16)a), bf16_to_f32((u16)b), bf16_to_f32((u16)c)));
    u32 hi = f64_to_bf16(op((double)bf16_to_f32(a >> 16), bf16_to_f32(b >> 16), bf16_to_f32(c >> 16)));
    return lo | hi << 16;
}
} // namespace emu
DEVICE u32 f16x2_add(u32 a, u32 b)
{
    return emu::f16x2(a, b, 0, [](double x, double y, double) { return x + y; });
}
DEVICE u32 f16x2_sub(u32 a, u32 b)
{
    return emu::f16x2(a, b, 0, [](double x, double y, double) { return x - y; });
}
DEVICE u32 f16x2_mul(u32 a, u32 b)
{
    return emu::f16x2(a, b, 0, [](double x, double y, double) { return x * y; });
}
DEVICE u32 f16x2_fma(u32 a, u32 b, u32 c)
{
    return emu::f16x2(a, b, c, [](double x, double y, double z) { return x * y + z; });
}
DEVICE u32 bf16x2_mul(u32 a, u32 b)
{
    return emu::bf16x2(a, b, 0, [](double x, double y, double) { return x * y; });
}
DEVICE u32 bf16x2_fma(u32 a, u32 b, u32 c)
{
    return emu::bf16x2(a, b, c, [](double x, double y, double z) { return x * y + z; });
}
DEVICE float2 f16x2_to_f32(u32 h) { return make_float2(emu::f16_to_f32((u16)h), emu::f16_to_f32(h >> 16)); }
DEVICE u32 f32_to_f16x2(float lo, float hi) { return emu::f32_to_f16(lo) | (u32)emu::f32_to_f16(hi) << 16; }
DEVICE u32 f32_to_bf16x2(float lo, float hi) { return emu::f32_to_bf16(lo) | (u32)emu::f32_to_bf16(hi) << 16; }
#else
DEVICE u32 f16x2_add(u32 a, u32 b)
{
    u32 d;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
DEVICE u32 f16x2_sub(u32 a, u32 b)
{
    u32 d;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
DEVICE u32 f16x2_mul(u32 a, u32 b)
{
    u32 d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
DEVICE u32 f16x2_fma(u32 a, u32 b, u32 c)
{
    u32 d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
DEVICE float2 f16x2_to_f32(u32 h)
{
    float2 r;
    asm("{.reg .b16 lo, hi; mov.b32 {lo, hi}, %2; cvt.f32.f16 %0, lo; cvt.f32.f16 %1, hi;}"
        : "=f"(r.x), "=f"(r.y)
        : "r"(h));
    return r;
}
#if AWQ_HAS_BF16
DEVICE u32 f32_to_f16x2(float lo, float hi)
{
    u32 d;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
    return d;
}
DEVICE u32 f32_to_bf16x2(float lo, float hi)
{
    u32 d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
    return d;
}
DEVICE u32 bf16x2_fma(u32 a, u32 b, u32 c)
{
    u32 d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
DEVICE u32 bf16x2_mul(u32 a, u32 b) { return bf16x2_fma(a, b, 0x80008000u); } // -0: keeps the sign of a zero
#else
DEVICE u32 f32_to_f16x2(float lo, float hi)
{
    u32 d;
    asm("{.reg .b16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}"
        : "=r"(d)
        : "f"(lo), "f"(hi));
    return d;
}
DEVICE u32 f32_to_bf16(float f) // no instruction below sm_80; NaN stays NaN only by its upper bits
{
    u32 bits = __float_as_uint(f);
    return f == f ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fff;
}
DEVICE u32 f32_to_bf16x2(float lo, float hi) { return f32_to_bf16(lo) | f32_to_bf16(hi) << 16; }
#endif
#endif
DEVICE float2 bf16x2_to_f32(u32 h)
{
    return make_float2(__uint_as_float(h << 16), __uint_as_float(h & 0xffff0000u));
}

// any function of three bits: TABLE bit 4a+2b+c. 0xEA is (a & b) | c: one instruction takes nibbles out and
// gives them the exponent of a half
template <int TABLE> DEVICE u32 lop3(u32 a, u32 b, u32 c)
{
    u32 d = 0;
#ifdef AWQ_EMULATOR
    for (int i = 0; i < 8; i++)
        if (TABLE >> i & 1) d |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
#else
    asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(d) : "r"(a), "r"(b), "r"(c), "n"(TABLE));
#endif
    return d;
}

// the same value, but the compiler keeps it in a register rather than compute it again where it is used
#ifdef AWQ_EMULATOR
template <class T> DEVICE T keep(T v) { return v; }
#else
DEVICE u32 keep(u32 v)
{
    asm volatile("mov.u32 %0, %0;" : "+r"(v));
    return v;
}
template <class T> DEVICE T *keep(T *v)
{
    asm volatile("mov.u64 %0, %0;" : "+l"(v));
    return v;
}
#endif

// ---- arithmetic
#ifdef AWQ_EMULATOR
DEVICE float fast_exp2(float x) { return std::exp2(x); }
DEVICE float fast_rsqrt(float x) { return 1.0f / std::sqrt(x); }
DEVICE float fast_reciprocal(float x) { return 1.0f / x; }
DEVICE float fused(float a, float b, float c) { return std::fma(a, b, c); }
#else
DEVICE float fast_exp2(float x) // 2 ulp
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
DEVICE float fast_rsqrt(float x) // relative error 2^-22.9
{
    float r;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
DEVICE float fast_reciprocal(float x) // 1 ulp
{
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
DEVICE float fused(float a, float b, float c) { return fmaf(a, b, c); }
#endif
DEVICE float fast_exp(float x) { return fast_exp2(x * 1.44269504f); } // error grows with |x|: 2^-23 |x|

// ---- global memory
// Two kinds of reads. Weights are constant: nc, past L1, and first to leave L2, where activations and KV cache
// are to stay. What the kernel before wrote is read by plain ld: under programmatic dependent launch that
// kernel may have been running when this one began, and nc may answer from before.
#ifdef AWQ_EMULATOR
DEVICE u64 evict_first_policy() { return 0; }
DEVICE uint4 load_weights(const uint4 *p, u64)
{
    emu::check_global(p, 16, 16);
    return *p;
}
template <class T> DEVICE T load_constant(const T *p)
{
    emu::check_global(p, sizeof(T), sizeof(T));
    return *p;
}
template <class T> DEVICE T load_fresh(const T *p)
{
    emu::check_global(p, sizeof(T), sizeof(T));
    return *p;
}
template <class T> DEVICE void store_global(T *p, T v)
{
    emu::check_store(p, sizeof(T), sizeof(T));
    *p = v;
    if (emu::wrong) ((u8 *)p)[sizeof(T) - 1] ^= 0x40;
}
#else
DEVICE u64 evict_first_policy()
{
    u64 policy = 0;
#if AWQ_ARCH >= 800
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#endif
    return policy;
}
DEVICE uint4 load_weights(const uint4 *p, u64 policy)
{
    uint4 v;
#if AWQ_ARCH >= 800
    asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p), "l"(policy));
#else
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
#endif
    return v;
}
template <class T> DEVICE T load_constant(const T *p) { return __ldg(p); }
DEVICE u16 load_fresh(const u16 *p)
{
    u16 v;
    asm volatile("ld.global.u16 %0, [%1];" : "=h"(v) : "l"(p) : "memory");
    return v;
}
DEVICE u32 load_fresh(const u32 *p)
{
    u32 v;
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
DEVICE int load_fresh(const int *p)
{
    int v;
    asm volatile("ld.global.s32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
DEVICE u64 load_fresh(const u64 *p)
{
    u64 v;
    asm volatile("ld.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
}
DEVICE float load_fresh(const float *p)
{
    float v;
    asm volatile("ld.global.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
    return v;
}
DEVICE uint2 load_fresh(const uint2 *p)
{
    uint2 v;
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
    return v;
}
DEVICE int4 load_fresh(const int4 *p)
{
    int4 v;
    asm volatile("ld.global.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}
DEVICE uint4 load_fresh(const uint4 *p)
{
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}
DEVICE float4 load_fresh(const float4 *p)
{
    float4 v;
    asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}
template <class T> DEVICE void store_global(T *p, T v) { *p = v; }
#endif

// ---- shared memory
#ifdef AWQ_EMULATOR
#define DYN_SMEM(name) u8 *name = (u8 *)emu::shared
DEVICE u32 smem_address(const void *p) { return (u32)((const char *)p - emu::shared); }
DEVICE u32 lds32(u32 a) { return *(u32 *)emu::shared_at(a, 4, emu::READ); }
DEVICE float lds_f32(u32 a) { return *(float *)emu::shared_at(a, 4, emu::READ); }
DEVICE uint2 lds64(u32 a) { return *(uint2 *)emu::shared_at(a, 8, emu::READ); }
DEVICE uint4 lds128(u32 a) { return *(uint4 *)emu::shared_at(a, 16, emu::READ); }
DEVICE void sts32(u32 a, u32 v) { *(u32 *)emu::shared_at(a, 4, emu::WRITE) = v; }
DEVICE void sts_f32(u32 a, float v) { *(float *)emu::shared_at(a, 4, emu::WRITE) = v; }
DEVICE void sts64(u32 a, uint2 v) { *(uint2 *)emu::shared_at(a, 8, emu::WRITE) = v; }
DEVICE void sts128(u32 a, uint4 v) { *(uint4 *)emu::shared_at(a, 16, emu::WRITE) = v; }
#else
#define DYN_SMEM(name) extern __shared__ __align__(1024) u8 name[]
DEVICE u32 smem_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }
DEVICE u32 lds32(u32 a)
{
    u32 v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(a) : "memory");
    return v;
}
DEVICE float lds_f32(u32 a) { return __uint_as_float(lds32(a)); }
DEVICE uint2 lds64(u32 a)
{
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(a) : "memory");
    return v;
}
DEVICE uint4 lds128(u32 a)
{
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(a)
                 : "memory");
    return v;
}
DEVICE void sts32(u32 a, u32 v) { asm volatile("st.shared.u32 [%0], %1;" ::"r"(a), "r"(v) : "memory"); }
DEVICE void sts_f32(u32 a, float v) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(a), "f"(v) : "memory"); }
DEVICE void sts64(u32 a, uint2 v)
{
    asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(a), "r"(v.x), "r"(v.y) : "memory");
}
DEVICE void sts128(u32 a, uint4 v)
{
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(a), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}
#endif

// Four 8x8 matrices of halves: lane i gives the address of row i % 8 of matrix i / 8, 16 bytes; r[m] gets, of
// matrix m, row lane / 4, columns 2 (lane % 4) and the next.
DEVICE void ldmatrix4(u32 *r, u32 address)
{
#ifdef AWQ_EMULATOR
    struct Operand {
        u32 *r, address;
    } o = {r, address};
    emu::warp_meet(&o, [](void **p) {
        for (int m = 0; m < 4; m++)
            for (int l = 0; l < 32; l++) {
                u32 row = ((Operand *)p[m * 8 + l / 4])->address;
                memcpy(&((Operand *)p[l])->r[m], (char *)emu::shared_at(row, 16, emu::READ, -2) + l % 4 * 4, 4);
            }
    });
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
#endif
}

// The same with each matrix transposed: r[m] gets column lane / 4, rows 2 (lane % 4) and the next. So a matrix
// stored with k in rows becomes B of an mma.
DEVICE void ldmatrix4_transposed(u32 *r, u32 address)
{
#ifdef AWQ_EMULATOR
    struct Operand {
        u32 *r, address;
    } o = {r, address};
    emu::warp_meet(&o, [](void **p) {
        for (int m = 0; m < 4; m++)
            for (int l = 0; l < 32; l++) {
                u32 row = m * 8 + l % 4 * 2;
                u16 h[2];
                for (int i = 0; i < 2; i++) {
                    u32 from = ((Operand *)p[row + i])->address;
                    memcpy(h + i, (char *)emu::shared_at(from, 16, emu::READ, -2) + l / 4 * 2, 2);
                }
                ((Operand *)p[l])->r[m] = h[0] | (u32)h[1] << 16;
            }
    });
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
#endif
}

// ---- mma
// d [16][8] fp32 += a [16][16] b [16][8]. Lane (g = lane / 4, t = lane % 4) holds
//   a[0] row g,     k 2t, 2t+1      a[1] row g + 8, same k      a[2], a[3] likewise with k + 8
//   b[0] k 2t, 2t+1 of column g     b[1] k + 8
//   d[0], d[1] row g, columns 2t, 2t+1      d[2], d[3] row g + 8
#ifdef AWQ_EMULATOR
namespace emu
{
template <bool BF16> static inline float half_to_f32(u32 h)
{
    return BF16 ? bf16_to_f32((u16)h) : f16_to_f32((u16)h);
}
template <bool BF16> static inline void mma(float *d, const u32 *a, const u32 *b)
{
    struct Operand {
        float *d;
        const u32 *a, *b;
    } o = {d, a, b};
    warp_meet(&o, [](void **p) {
        float A[16][16], B[8][16];
        for (int l = 0; l < 32; l++) {
            const Operand *q = (const Operand *)p[l];
            int g = l / 4, t = l % 4;
            for (int h = 0; h < 2; h++) {
                for (int i = 0; i < 4; i++)
                    A[g + 8 * (i & 1)][2 * t + h + 8 * (i / 2)] = half_to_f32<BF16>(q->a[i] >> 16 * h);
                for (int i = 0; i < 2; i++) B[g][2 * t + h + 8 * i] = half_to_f32<BF16>(q->b[i] >> 16 * h);
            }
        }
        for (int l = 0; l < 32; l++) {
            Operand *q = (Operand *)p[l];
            for (int j = 0; j < 4; j++) {
                const float *x = A[l / 4 + 8 * (j / 2)], *y = B[2 * (l % 4) + j % 2];
                float s = q->d[j];
                for (int k = 0; k < 16; k++) s += x[k] * y[k];
                q->d[j] = s;
            }
        }
    });
}
} // namespace emu
DEVICE void mma_f16(float *d, const u32 *a, const u32 *b) { emu::mma<false>(d, a, b); }
DEVICE void mma_bf16(float *d, const u32 *a, const u32 *b) { emu::mma<true>(d, a, b); }
#elif AWQ_HAS_BF16
DEVICE void mma_f16(float *d, const u32 *a, const u32 *b)
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_bf16(float *d, const u32 *a, const u32 *b)
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
DEVICE void mma_f16(float *d, const u32 *a, const u32 *b) // sm_75: k 8 at a time
{
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2]), "r"(a[3]), "r"(b[1]));
}
#endif

// ---- cp.async
// 16 bytes from global to shared memory, past the registers. Copies up to copy_commit() form a group;
// copy_wait<N>() waits until at most the N newest groups are under way, for this thread's copies only. Below
// sm_80 a copy is a load and a store, done when issued.
#ifdef AWQ_EMULATOR
DEVICE void copy16(u32 to, const void *from)
{
    emu::check_global(from, 16, 16);
    if (AWQ_ARCH < 800) {
        memcpy(emu::shared_at(to, 16, emu::WRITE), from, 16);
        return;
    }
    emu::Copy c = {emu::shared_at(to, 16, emu::COPY), from, 16};
    if (emu::eager) emu::carry_out(c), c.bytes = 0; // it has landed, which nobody may know before the wait
    emu::current->copies.back().push_back(c);
}
// weights: first to leave L2
DEVICE void copy16_weights(u32 to, const void *from, u64) { copy16(to, from); }
DEVICE void copy_commit() { emu::current->copies.emplace_back(); }
template <int N> DEVICE void copy_wait()
{
    auto &groups = emu::current->copies;
    for (; (int)groups.size() - 1 > N; groups.pop_front())
        for (const emu::Copy &c : groups.front()) {
            if (c.bytes) emu::carry_out(c);
            emu::trace_landed(c.to, 16);
        }
}
#elif AWQ_ARCH >= 800
DEVICE void copy16(u32 to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
DEVICE void copy16_weights(u32 to, const void *from, u64 policy)
{
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "l"(policy)
                 : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
#else
DEVICE void copy16(u32 to, const void *from) { sts128(to, load_fresh((const uint4 *)from)); }
DEVICE void copy16_weights(u32 to, const void *from, u64 policy)
{
    sts128(to, load_weights((const uint4 *)from, policy));
}
DEVICE void copy_commit() {}
template <int N> DEVICE void copy_wait() {}
#endif

// ---- mbarriers and bulk copies (sm_90+)
// A barrier of `count` arrivals in 8 bytes of shared memory; its phase flips when all arrived and all announced
// bytes are here. mbarrier_wait(b, parity) returns once the phase of that parity is over: 0 first, then 1, 0
// ...
#ifdef AWQ_EMULATOR
DEVICE void mbarrier_init(u32 b, u32 count)
{
    emu::Barrier *m = (emu::Barrier *)emu::shared_at(b, 8);
    emu::race_checks = false;
    m->pending = m->count = (u16)count;
    m->bytes = 0;
    m->phase = 0;
}
DEVICE void mbarrier_init_fence() {}
DEVICE void mbarrier_arrive(u32 b)
{
    emu::Barrier *m = (emu::Barrier *)emu::shared_at(b, 8);
    if (!m->pending) emu::fault("mbarrier: more arrivals than its count");
    emu::stop_if_faulted();
    m->pending--;
    emu::barrier_settle(m);
    emu::progress++;
    emu::yield(); // whoever waited may go on before this thread does
}
DEVICE void mbarrier_arrive_expect(u32 b, u32 bytes)
{
    ((emu::Barrier *)emu::shared_at(b, 8))->bytes += (int)bytes;
    mbarrier_arrive(b);
}
DEVICE void mbarrier_wait(u32 b, u32 parity)
{
    while (((emu::Barrier *)emu::shared_at(b, 8))->phase == parity) emu::yield();
}
DEVICE void bulk_load(u32 to, const void *from, u32 bytes, u32 barrier, u64)
{
    emu::check_global(from, bytes, 16);
    if (bytes % 16) emu::fault("bulk copy of %u bytes", bytes);
    emu::shared_at(to + bytes - 16, 16);
    emu::BulkCopy c = {{emu::shared_at(to, 16), from, bytes}, barrier};
    if (emu::eager_bulk) emu::land(c);
    else emu::bulk_copies.push_back(c);
}
DEVICE void fence_async_proxy() {}
#elif AWQ_ARCH >= 900
DEVICE void mbarrier_init(u32 b, u32 count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(b), "r"(count) : "memory");
}
// after the inits, before __syncthreads: asynchronous copies see the barriers
DEVICE void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void mbarrier_arrive(u32 b)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(b) : "memory");
}
DEVICE void mbarrier_arrive_expect(u32 b, u32 bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(b), "r"(bytes) : "memory");
}
DEVICE void mbarrier_wait(u32 b, u32 parity)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(b),
                 "r"(parity)
                 : "memory");
}
// bytes: a multiple of 16; both addresses likewise. Counts as `bytes` at the barrier when it has landed.
DEVICE void bulk_load(u32 to, const void *from, u32 bytes, u32 barrier, u64 policy)
{
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
        "[%3], %4;" ::"r"(to),
        "l"(from), "r"(bytes), "r"(barrier), "l"(policy)
        : "memory");
}
// what this thread wrote to shared memory by st or cp.async may be read by wgmma
DEVICE void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#endif

// One lane of a whole warp, as the compiler sees: bulk copies of others would be a loop over lanes.
#ifdef AWQ_EMULATOR
DEVICE bool one_lane() { return (threadIdx.x & 31) == 0; }
#elif AWQ_ARCH >= 900
DEVICE bool one_lane()
{
    u32 is;
    asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p;}" : "=r"(is));
    return is != 0;
}
#endif

// ---- wgmma (sm_90a only)
// d [64][N] fp32 += a [64][16] b [16][N] by the 128 threads of a warpgroup; a in registers, each warp 16 rows
// in the order of mma; d[4 j + i] is mma's d[i] for columns 8 j ..; b is a tile [N][64] of halves in shared
// memory.
//
// The tile: row n is 128 bytes, chunk c (16 bytes, 8 of k) of row n lies at chunk c ^ (n % 8): "128-byte
// swizzle". Start on a multiple of 1024 bytes. Steps of 16 along k add 32 bytes, that is 2, to the descriptor.
// ADD false: d = a b.
#if AWQ_HAS_WGMMA
// the descriptor: bits 0-13 address / 16; 16-29 leading offset, unused with swizzle; 32-45 bytes / 16 from 8
// rows to the next 8 (1024); 62-63 swizzle: 1 is 128 bytes. Its low word; the high one is the same for all.
enum { WGMMA_TILE_HIGH = 64 | 1 << 30 };
DEVICE u32 wgmma_tile(u32 address) { return (address & 0x3ffff) >> 4 | 1 << 16; }
#ifdef AWQ_EMULATOR
namespace emu
{
// all 128 threads have posted the same operation
static inline void wgmma_run(Wgmma **op)
{
    static float A[64][16], B[256][16];
    const uint64_t t = op[0]->descriptor;
    const u32 start = (u32)(t & 0x3fff) << 4, stride = (u32)(t >> 32 & 0x3fff) << 4;
    const int n = op[0]->n;
    const bool bf16 = op[0]->bf16;
    if (t >> 62 != 1 || stride != 1024 || start % 1024 > 96)
        return fault("wgmma: a descriptor nobody here makes");
    auto value = [&](u32 h) { return bf16 ? half_to_f32<true>(h) : half_to_f32<false>(h); };
    for (int c = 0; c < n; c++)
        for (int k = 0; k < 16; k++) {
            u32 at = start + c / 8 * stride + c % 8 * 128 + k * 2;
            u16 h;
            at ^= at >> 3 & 0x70;
            if (at + 2 > shared_size) return fault("wgmma: tile outside shared memory");
            memcpy(&h, shared + at, 2);
            B[c][k] = value(h);
        }
    for (int l = 0; l < 128; l++) {
        if (op[l]->descriptor != t || op[l]->n != n) return fault("wgmma: threads differ in the descriptor");
        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 2; h++)
                A[l / 32 * 16 + l % 32 / 4 + 8 * (i & 1)][2 * (l % 4) + h + 8 * (i / 2)] =
                    value(op[l]->a[i] >> 16 * h);
    }
    for (int l = 0; l < 128; l++)
        for (int j = 0; j < n / 2; j++) {
            const float *x = A[l / 32 * 16 + l % 32 / 4 + 8 * (j % 4 / 2)],
                        *y = B[j / 4 * 8 + 2 * (l % 4) + j % 2];
            float s = op[l]->add ? op[l]->d[j] : 0;
            for (int k = 0; k < 16; k++) s += x[k] * y[k];
            op[l]->d[j] = s;
        }
}
// carry out what was issued, but for the newest `keep` groups
static inline void wgmma_settle(int keep)
{
    struct Operand {
        std::deque<Wgmma> *queue;
        int keep;
    } o = {&current->wgmmas, keep};
    warpgroup_meet(&o, [](void **p) {
        Operand *first = (Operand *)p[0];
        int groups = 0;
        for (const Wgmma &w : *first->queue) groups += w.commit;
        for (int l = 1; l < 128; l++)
            if (((Operand *)p[l])->queue->size() != first->queue->size())
                return fault("wgmma: threads differ in operations");
        while (groups > first->keep) {
            Wgmma *op[128];
            for (int l = 0; l < 128; l++) op[l] = &((Operand *)p[l])->queue->front();
            if (op[0]->commit) groups--;
            else wgmma_run(op);
            for (int l = 0; l < 128; l++) ((Operand *)p[l])->queue->pop_front();
        }
    });
}
} // namespace emu
DEVICE void wgmma_fence() {}
DEVICE void wgmma_commit()
{
    emu::current->wgmmas.push_back(emu::Wgmma{nullptr, nullptr, 0, 0, false, false, true});
    if (emu::eager_bulk) emu::wgmma_settle(0);
}
template <int N> DEVICE void wgmma_wait() { emu::wgmma_settle(N); }
template <int N> DEVICE void wgmma_settled(float *) {}
template <int N, bool BF16, bool ADD> DEVICE void wgmma(float *d, const u32 *a, u32 tile)
{
    emu::current->wgmmas.push_back(emu::Wgmma{d, a, (u64)WGMMA_TILE_HIGH << 32 | tile, N, BF16, ADD, false});
}
template <int N> DEVICE void registers_give() {}
template <int N> DEVICE void registers_take() {}
#else
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> DEVICE void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// after the wait for them, before n sums are read while others are under way: the compiler reads no earlier
template <int N> DEVICE void wgmma_settled(float *d)
{
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}
// setmaxnreg: a warpgroup gives registers back, or takes what others gave
template <int N> DEVICE void registers_give() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> DEVICE void registers_take() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }

#define AWQ_REGISTERS_4 "%0, %1, %2, %3"
#define AWQ_REGISTERS_8 AWQ_REGISTERS_4 ", %4, %5, %6, %7"
#define AWQ_REGISTERS_16 AWQ_REGISTERS_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define AWQ_REGISTERS_32                                                                               \
    AWQ_REGISTERS_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define AWQ_REGISTERS_64                                                                                   \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
    "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, " \
    "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, " \
    "%62, %63"
#define AWQ_REGISTERS_128                                                                                    \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "   \
    "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "   \
    "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "   \
    "%62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, "   \
    "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, " \
    "%102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, " \
    "%119, %120, %121, %122, %123, %124, %125, %126, %127"
#define AWQ_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define AWQ_D8(i) AWQ_D4(i), AWQ_D4(i + 4)
#define AWQ_D16(i) AWQ_D8(i), AWQ_D8(i + 8)
#define AWQ_D32(i) AWQ_D16(i), AWQ_D16(i + 16)
#define AWQ_D64(i) AWQ_D32(i), AWQ_D32(i + 32)
#define AWQ_D128(i) AWQ_D64(i), AWQ_D64(i + 64)
// operands after the tile: accumulate, +a, +b, b not transposed (k runs along the rows of the tile)
#define AWQ_WGMMA(n, type, registers, a0, a1, a2, a3, t, high, add)                                       \
    asm volatile("{.reg .b64 tile; mov.b64 tile, {%" #t ", %" #high "};"                            \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type                    \
                 " {" AWQ_REGISTERS_##registers "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, tile" \
                                                ", %" #add ", 1, 1, 0;}"                            \
                 : AWQ_D##registers(0)                                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(tile), "n"((int)WGMMA_TILE_HIGH),        \
                   "n"((int)ADD))
#define AWQ_WGMMA_TYPES(n, registers, ...)                              \
    if (N == n && BF16) AWQ_WGMMA(n, "bf16", registers, __VA_ARGS__); \
    if (N == n && !BF16) AWQ_WGMMA(n, "f16", registers, __VA_ARGS__)
template <int N, bool BF16, bool ADD> DEVICE void wgmma(float *d, const u32 *a, u32 tile)
{
    static_assert(N == 8 || N == 16 || N == 32 || N == 64 || N == 128 || N == 256, "shapes of wgmma in use");
    AWQ_WGMMA_TYPES(8, 4, 4, 5, 6, 7, 8, 9, 10);
    AWQ_WGMMA_TYPES(16, 8, 8, 9, 10, 11, 12, 13, 14);
    AWQ_WGMMA_TYPES(32, 16, 16, 17, 18, 19, 20, 21, 22);
    AWQ_WGMMA_TYPES(64, 32, 32, 33, 34, 35, 36, 37, 38);
    AWQ_WGMMA_TYPES(128, 64, 64, 65, 66, 67, 68, 69, 70);
    AWQ_WGMMA_TYPES(256, 128, 128, 129, 130, 131, 132, 133, 134);
}
#endif
#endif

// ---- between blocks, between kernels
// Sums split over blocks: each block writes its part, then counts itself; whoever counts last adds all parts in
// order, so the order, and the bits, do not depend on who that was. atomic_count orders this thread's accesses
// on both sides.
#ifdef AWQ_EMULATOR
DEVICE u32 atomic_count(u32 *p)
{
    emu::check_store(p, 4, 4);
    return (*p)++;
}
DEVICE void atomic_max64(u64 *p, u64 v)
{
    emu::check_store(p, 8, 8);
    if (v > *p) *p = v;
}
DEVICE void atomic_add64(u64 *p, u64 v)
{
    emu::check_store(p, 8, 8);
    *p += v;
}
DEVICE void fence_gpu() {}
DEVICE void pdl_wait() { emu::current->waited = true; }
DEVICE void pdl_launch() {}
DEVICE void named_barrier(int id, int threads)
{
    emu::Meeting &m = emu::named[id];
    emu::meet(m, m.arrived, threads, nullptr, [](void **) {});
}
#else
DEVICE u32 atomic_count(u32 *p)
{
    u32 old;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(old) : "l"(p) : "memory");
    return old;
}
DEVICE void atomic_max64(u64 *p, u64 v)
{
    asm volatile("red.relaxed.gpu.global.max.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
DEVICE void atomic_add64(u64 *p, u64 v)
{
    asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
DEVICE void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
// Programmatic dependent launch. pdl_launch: the next kernel may be given what room is left on the SMs.
// pdl_wait: until the kernels before have ended and what they wrote is here; before it only constants may be
// read. Without the launch attribute, and below sm_90, both do nothing.
DEVICE void pdl_wait()
{
#if AWQ_ARCH >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
DEVICE void pdl_launch()
{
#if AWQ_ARCH >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// barrier id of 1 .. 15 for some warps of the block; 0 is __syncthreads
DEVICE void named_barrier(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
#endif
