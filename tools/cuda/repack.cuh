/* repack.cuh - weights as files have them to weights as the kernels want them, on the GPU, when a model is
   loaded

   awq_repack_codes: codes to blocks of Bits4 or Bits8 (common.cuh), a block of threads each.
   awq_repack_params: zero points and scales to sz [groups][n_pad].
   awq_repack_dense: f16, bf16 or fp32 rows to f16 or bf16 rows padded along k.

   LAYOUTS, b = bits (gemm: 4), m = 32 / b codes in a word from its lowest bits:
     canonical    codes u8 [n][k]             zeros u8 [n][g]                       scales [n][g]
     gemm         codes [k][n/8], out of 0 2 4 6 1 3 5 7; zeros [g][n/8] likewise   scales [g][n]
     gptq         codes [k/m][n], along k     zeros [g][n/m], along n, less 1       scales [g][n]
     gptq v2      likewise                    not less 1                            scales [g][n]
     compressed   codes [n][k/m], along k     zeros [n/m][g], along n               scales [n][g]
   k/m and n/m rounded up. zeros NULL: 2^(b-1). Here g counts the file's groups, of `file_group` inputs; the
   kernels' are `group`, which divides them, so a file with groups of 96 becomes one with groups of 32. Padding
   has code 0 and scale 0. */
enum { REPACK_CANONICAL, REPACK_GEMM, REPACK_GPTQ, REPACK_GPTQ_V2, REPACK_COMPRESSED };
enum { REPACK_F32, REPACK_F16, REPACK_BF16 };

// awq__cuda_repack of plan.h
struct Repack {
    void *to;          // blocks, sz, or rows of k_tiles * 64 halves
    const void *codes; // or dense weights [n][k]
    const void *zeros;
    const void *scales;
    u32 *lossy; // set to 1 if a scale is no f16 number, or a dense weight is too large for its type
    int n, k, n_pad, k_tiles, bits, layout, type, file_group, group, bf16; // type: of scales or dense weights
};

DEVICE u32 packed_value(const void *words, size_t word, int index, int bits)
{
    return load_constant((const u32 *)words + word) >> index * bits & ((1u << bits) - 1);
}
DEVICE int gemm_nibble(int out) { return (out & 1) * 4 + (out & 7) / 2; }

DEVICE u32 repack_code(const Repack &p, int out, int in)
{
    const int shift = p.bits == 4 ? 3 : 2, m = 1 << shift; // codes in a word
    if (out >= p.n || in >= p.k) return 0;
    switch (p.layout) {
    case REPACK_CANONICAL: return load_constant((const u8 *)p.codes + (size_t)out * p.k + in);
    case REPACK_GEMM: return packed_value(p.codes, (size_t)in * (p.n / 8) + out / 8, gemm_nibble(out), 4);
    case REPACK_COMPRESSED:
        return packed_value(p.codes, (size_t)out * ((p.k + m - 1) >> shift) + (in >> shift), in & (m - 1),
                            p.bits);
    default: return packed_value(p.codes, (size_t)(in >> shift) * p.n + out, in & (m - 1), p.bits);
    }
}
DEVICE u32 repack_zero(const Repack &p, int out, int g, int groups)
{
    const int shift = p.bits == 4 ? 3 : 2, m = 1 << shift;
    if (!p.zeros) return 1u << (p.bits - 1);
    switch (p.layout) {
    case REPACK_CANONICAL: return load_constant((const u8 *)p.zeros + (size_t)out * groups + g);
    case REPACK_GEMM: return packed_value(p.zeros, (size_t)g * (p.n / 8) + out / 8, gemm_nibble(out), 4);
    case REPACK_COMPRESSED:
        return packed_value(p.zeros, (size_t)(out >> shift) * groups + g, out & (m - 1), p.bits);
    default:
        const u32 z =
            packed_value(p.zeros, (size_t)g * ((p.n + m - 1) >> shift) + (out >> shift), out & (m - 1), p.bits);
        return p.layout == REPACK_GPTQ ? (z + 1) & ((1u << p.bits) - 1) : z;
    }
}
DEVICE float load_typed(const void *from, size_t i, int type)
{
    if (type == REPACK_F32) return load_constant((const float *)from + i);
    const u32 h = load_constant((const u16 *)from + i);
    return type == REPACK_F16 ? f16x2_to_f32(h).x : bf16x2_to_f32(h).x;
}

// blockIdx.x: tile of k, blockIdx.y: block of outputs; 128 threads, a lane of a warp of the block each
KERNEL(awq_repack_codes, 128, Repack p)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int out = blockIdx.y * 64 + warp * 16 + (lane >> 2), in = blockIdx.x * 64 + 2 * (lane & 3);
    const size_t block = (size_t)blockIdx.y * p.k_tiles + blockIdx.x;
    u32 *to = (u32 *)p.to + (block * 4 + warp) * 32 * p.bits; // a warp's share: 32 lanes, 4 or 8 words each
#pragma unroll 1
    for (int kk = 0; kk < 4; kk++) {
        u32 q[2] = {0, 0};
#pragma unroll
        for (int j = 0; j < 8; j++) { // output g or g + 8, input + 8, + 1
            const int high = j & 1, later = j >> 1 & 1, next = j >> 2;
            const u32 code = repack_code(p, out + 8 * high, in + 16 * kk + 8 * later + next);
            if (p.bits == 4) q[0] |= code << 4 * (high + 2 * later + 4 * next);
            else q[later] |= code << 8 * (2 * high + next);
        }
        if (p.bits == 4) store_global(to + lane * 4 + kk, q[0]);
        else store_global((uint2 *)(to + (kk / 2 * 32 + lane) * 4 + kk % 2 * 2), make_uint2(q[0], q[1]));
    }
}

// blockIdx.x: 256 outputs, blockIdx.y: group
KERNEL(awq_repack_params, 256, Repack p)
{
    const int out = blockIdx.x * 256 + threadIdx.x, groups = p.k / p.file_group;
    const int g = min((int)blockIdx.y * p.group / p.file_group, groups - 1);
    u32 sz = 0x64000000u;
    if (out >= p.n_pad) return;
    if (out < p.n && (int)blockIdx.y * p.group < p.k) {
        const int by_group = p.layout != REPACK_CANONICAL && p.layout != REPACK_COMPRESSED;
        const float s =
            load_typed(p.scales, by_group ? (size_t)g * p.n + out : (size_t)out * groups + g, p.type);
        const u32 h = f32_to_f16x2(s, 0);
        if (f16x2_to_f32(h).x != s) store_global(p.lossy, 1u);
        sz = (0x6400u + repack_zero(p, out, g, groups)) << 16 | h;
    }
    store_global((u32 *)p.to + (size_t)blockIdx.y * p.n_pad + out, sz);
}

// blockIdx.x: 512 inputs, a pair for each thread; blockIdx.y: output
KERNEL(awq_repack_dense, 256, Repack p)
{
    const int in = blockIdx.x * 512 + threadIdx.x * 2;
    const size_t from = (size_t)blockIdx.y * p.k + in;
    const float a = in < p.k ? load_typed(p.codes, from, p.type) : 0;
    const float b = in + 1 < p.k ? load_typed(p.codes, from + 1, p.type) : 0;
    if (in >= p.k_tiles * 64) return;
    const u32 h = p.bf16 ? f32_to_bf16x2(a, b) : f32_to_f16x2(a, b);
    const float2 v = p.bf16 ? bf16x2_to_f32(h) : f16x2_to_f32(h);
    if (v.x - v.x != a - a || v.y - v.y != b - b) // one is finite, the other not; NaN differs from itself
        if (a - a == 0 && b - b == 0) store_global(p.lossy, 1u);
    store_global((u32 *)p.to + (size_t)blockIdx.y * p.k_tiles * 32 + in / 2, h);
}
