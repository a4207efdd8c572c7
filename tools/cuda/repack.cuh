/* repack.cuh - weights as files have them to weights as the kernels want them, on the GPU, when a model is
   loaded

   awq_repack_codes: codes to blocks of Bits4 or Bits8 (common.cuh), a block of threads each.
   awq_repack_params: zero points and scales to sz [groups][n_pad].
   awq_repack_dense: f16, bf16 or fp32 rows to f16 or bf16 rows padded along k.
   awq_repack_sum: a checksum of what they made, which is the same whatever it was made of.

   LAYOUTS, b = file_bits, of 2 to 8 where nothing is said. A row of values is a stream of words, value i at bit
   b i from the lowest of the first word on; n, k, g: values along outputs, inputs, groups.
     canonical    codes u8 [n][k]             zeros u8 [n][g]                       scales [n][g]
     gemm, b 4    codes [k][n/8], out of 0 2 4 6 1 3 5 7; zeros [g][n/8] likewise   scales [g][n]
     gemv, b 4    codes [n] streams of k      zeros [n] streams of g, pitch / 8     scales [n][pitch]
     gemv_fast    codes u16 [n/4][k]: fast_at; zeros f16 [g][n], -scale * zero      scales [g][n]
     marlin, b 4  codes [k/16][2 n]: marlin_at; no zeros                            scales [g][n]: marlin_scale
     gptq         codes, n streams of k, [][n]; zeros [g] streams of n, less 1      scales [g][n]
     gptq words   likewise                    1 taken from each as one number       scales [g][n]
     gptq v2      likewise                    not less 1                            scales [g][n]
     compressed   codes [n] streams of k      zeros, g streams of n, [][g]          scales [n][g]
     int8         codes i8 [n][k], less 128   zeros i8 [n][g], less 128             scales [n][g]
     native       codes [n/16][k/chunk] of 16 words for each 4 inputs, b to 4: i and i + chunk/2 in a byte;
                  zeros [n/16][g] of 16 u8, behind them the 16 scales, f16 or fp32
   zeros NULL: 2^(b-1). Here g counts the file's groups, of `file_group` inputs; the kernels' are `group`, which
   divides them, so a file with groups of 96 becomes one with groups of 32. Padding has code 0 and scale 0.
   Several matrices become one, one below the other: each is put behind the rows of those before it, in their
   order, since a word of a block may have codes of two. */
enum {
    REPACK_CANONICAL,
    REPACK_GEMM,
    REPACK_GPTQ,
    REPACK_GPTQ_V2,
    REPACK_COMPRESSED,
    REPACK_GPTQ_WORDS,
    REPACK_NATIVE,
    REPACK_GEMV,
    REPACK_GEMV_FAST,
    REPACK_MARLIN,
    REPACK_INT8
};
enum { REPACK_F32, REPACK_F16, REPACK_BF16 };

// awq__cuda_repack of plan.h
struct Repack {
    void *to;          // blocks, sz, or rows of k_tiles * 64 halves
    const void *codes; // or dense weights [n][k]
    const void *zeros;
    const void *scales;
    u32 *lossy; // set to `mark` if a scale is no f16 number, or a dense weight is too large for its type;
                // lossy[1] if a zero point is none, a scale NaN, Inf or too large
    int n, k, n_pad, k_tiles, bits, layout, type, file_group, group, bf16; // type: of scales or dense weights
    int file_n, first; // the file's matrix has file_n outputs; n of them from `first` on are taken
    int skip;          // outputs of the first block that are there already
    int write;         // outputs that are written: n, or those of the padding too
    int chunk;         // native
    u32 mark;
    int file_bits, pitch;
};

// Value `index` of a stream of `bits`, whose words begin at `first` and are `step` apart
DEVICE u32 stream_value(const void *words, size_t first, size_t step, int index, int bits)
{
    const u32 bit = (u32)index * bits, shift = bit & 31;
    const u32 *w = (const u32 *)words + first + (bit >> 5) * step;
    u32 v = load_constant(w) >> shift;
    if (shift + bits > 32) v |= load_constant(w + step) << (32 - shift);
    return v & ((1u << bits) - 1);
}
DEVICE int words_of(int n, int bits) { return (int)(((u64)n * bits + 31) / 32); }
DEVICE int gemm_nibble(int out) { return (out & 1) * 4 + (out & 7) / 2; }

// Where a block of 16 outputs has an input's byte, for its first output
DEVICE size_t native_at(const Repack &p, int out, int in)
{
    const int i = in % p.chunk, half = p.bits == 4 ? p.chunk / 2 : p.chunk;
    return ((size_t)(out >> 4) * (p.k / p.chunk) + in / p.chunk) * half * 16 + i % half / 4 * 64 + (i & 3);
}
DEVICE const u8 *native_params(const Repack &p, int out, int g, int groups)
{
    return (const u8 *)p.zeros + ((size_t)(out >> 4) * groups + g) * (p.type == REPACK_F32 ? 80 : 48);
}

// gemv_fast: 4 rows side by side over 64 inputs; a word has inputs i, i + 8, i + 16, i + 24
DEVICE u32 fast_at(const Repack &p, int out, int in)
{
    const int word = in / 64 * 64 + (out & 3) * 16 + (in & 32) / 4 + (in & 7);
    return load_constant((const u16 *)p.codes + (size_t)(out >> 2) * p.k + word) >> (in & 24) / 2 & 15;
}
// marlin: tiles of 16 inputs and 64 outputs; a word has two inputs, these + 8, and the same 8 outputs on
DEVICE u32 marlin_at(const Repack &p, int out, int in)
{
    const int word = out / 64 * 128 + (out & 7) * 16 + (in & 6) * 2 + (out & 48) / 16;
    const int nibble = (in & 1) * 4 + (out & 8) / 4 + (in & 8) / 8;
    return load_constant((const u32 *)p.codes + (size_t)(in >> 4) * 2 * p.file_n + word) >> nibble * 4 & 15;
}
DEVICE int marlin_scale(const Repack &p, int out)
{
    const int v = out & 31;
    if (p.file_group == p.k) return out - v + (v & 6) * 4 + v / 8 * 2 + (v & 1);
    return out - (out & 63) + (out & 7) * 8 + (out & 63) / 8;
}

DEVICE u32 repack_code(const Repack &p, int out, int in)
{
    const int b = p.file_bits;
    if (out < 0 || out >= p.n || in >= p.k) return 0;
    out += p.first;
    switch (p.layout) {
    case REPACK_CANONICAL: return load_constant((const u8 *)p.codes + (size_t)out * p.k + in);
    case REPACK_INT8: return load_constant((const u8 *)p.codes + (size_t)out * p.k + in) ^ 128;
    case REPACK_GEMM:
        return stream_value(p.codes, (size_t)in * (p.file_n / 8) + out / 8, 0, gemm_nibble(out), 4);
    case REPACK_GEMV:
    case REPACK_COMPRESSED: return stream_value(p.codes, (size_t)out * words_of(p.k, b), 1, in, b);
    case REPACK_GEMV_FAST: return fast_at(p, out, in);
    case REPACK_MARLIN: return marlin_at(p, out, in);
    case REPACK_NATIVE: {
        const u32 q = load_constant((const u8 *)p.codes + native_at(p, out, in) + (out & 15) * 4);
        return p.bits == 8 ? q : in % p.chunk < p.chunk / 2 ? q & 15 : q >> 4;
    }
    default: return stream_value(p.codes, out, p.file_n, in, b); // gptq
    }
}
DEVICE float load_typed(const void *from, size_t i, int type)
{
    if (type == REPACK_F32) return load_constant((const float *)from + i);
    const u32 h = load_constant((const u16 *)from + i);
    return type == REPACK_F16 ? f16x2_to_f32(h).x : bf16x2_to_f32(h).x;
}

DEVICE float repack_scale(const Repack &p, int out, int g, int groups)
{
    switch (p.layout) {
    case REPACK_NATIVE: return load_typed(native_params(p, out, g, groups) + 16, out & 15, p.type);
    case REPACK_CANONICAL:
    case REPACK_INT8:
    case REPACK_COMPRESSED: return load_typed(p.scales, (size_t)out * groups + g, p.type);
    case REPACK_GEMV: return load_typed(p.scales, (size_t)out * p.pitch + g, p.type);
    case REPACK_MARLIN: return load_typed(p.scales, (size_t)g * p.file_n + marlin_scale(p, out), p.type);
    default: return load_typed(p.scales, (size_t)g * p.file_n + out, p.type);
    }
}

// The zero point whose -scale * zero has been stored; 16: there is none
DEVICE u32 fast_zero(const Repack &p, int out, int g, float scale)
{
    const u32 stored = load_constant((const u16 *)p.zeros + (size_t)g * p.file_n + out);
    const float z = 0.5f - f16x2_to_f32(stored).x / scale;
    if (!(stored & 0x7fff)) return 0;
    if (!(z >= 1 && z < 16)) return 16;
    return (f32_to_f16x2(-(scale * (float)(int)z), 0) & 0xffff) == stored ? (u32)z : 16;
}
DEVICE u32 repack_zero(const Repack &p, int out, int g, int groups, float scale)
{
    const int b = p.file_bits;
    const size_t row = (size_t)g * words_of(p.file_n, b);
    u32 z;
    if (!p.zeros) return 1u << (b - 1);
    switch (p.layout) {
    case REPACK_CANONICAL: return load_constant((const u8 *)p.zeros + (size_t)out * groups + g);
    case REPACK_INT8: return load_constant((const u8 *)p.zeros + (size_t)out * groups + g) ^ 128;
    case REPACK_GEMM: return stream_value(p.zeros, row + out / 8, 0, gemm_nibble(out), 4);
    case REPACK_GEMV: return stream_value(p.zeros, (size_t)out * (p.pitch / 8), 1, g, 4);
    case REPACK_GEMV_FAST: return fast_zero(p, out, g, scale);
    case REPACK_COMPRESSED: return stream_value(p.zeros, g, groups, out, b);
    case REPACK_NATIVE: return load_constant(native_params(p, out, g, groups) + (out & 15));
    case REPACK_GPTQ_WORDS:
        z = load_constant((const u32 *)p.zeros + row + (u32)(out * b) / 32) + ~0u / ((1u << b) - 1);
        return z >> (out * b & 31) & ((1u << b) - 1);
    default:
        z = stream_value(p.zeros, row, 1, out, b);
        return p.layout == REPACK_GPTQ ? (z + 1) & ((1u << b) - 1) : z;
    }
}

// blockIdx.x: tile of k, blockIdx.y: block of outputs; 128 threads, a lane of a warp of the block each
KERNEL(awq_repack_codes, 128, Repack p)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int out = blockIdx.y * 64 + warp * 16 + (lane >> 2) - p.skip, in = blockIdx.x * 64 + 2 * (lane & 3);
    const size_t block = (size_t)blockIdx.y * p.k_tiles + blockIdx.x;
    const bool more = p.skip && blockIdx.y == 0; // to what others put there, with zeros where this is put
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
        if (p.bits == 4) {
            if (more) q[0] |= load_fresh(to + lane * 4 + kk);
            store_global(to + lane * 4 + kk, q[0]);
        } else {
            uint2 *pair = (uint2 *)(to + (kk / 2 * 32 + lane) * 4 + kk % 2 * 2);
            const uint2 had = more ? load_fresh(pair) : make_uint2(0, 0);
            store_global(pair, make_uint2(q[0] | had.x, q[1] | had.y));
        }
    }
}

// blockIdx.x: 256 outputs, blockIdx.y: group
KERNEL(awq_repack_params, 256, Repack p)
{
    const int out = blockIdx.x * 256 + threadIdx.x, groups = p.k / p.file_group;
    const int g = min((int)blockIdx.y * p.group / p.file_group, groups - 1);
    u32 sz = 0x64000000u;
    if (out >= p.write) return;
    if (out < p.n && (int)blockIdx.y * p.group < p.k) {
        const float s = repack_scale(p, out + p.first, g, groups);
        const u32 h = f32_to_f16x2(s, 0);
        if (f16x2_to_f32(h).x != s) store_global(p.lossy, p.mark);
        const u32 z = repack_zero(p, out + p.first, g, groups, s);
        if (z >> p.file_bits || (h & 0x7c00) == 0x7c00) store_global(p.lossy + 1, p.mark);
        sz = (0x6400u + z) << 16 | h;
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
        if (a - a == 0 && b - b == 0) store_global(p.lossy, p.mark);
    store_global((u32 *)p.to + (size_t)blockIdx.y * p.k_tiles * 32 + in / 2, h);
}

// awq__cuda_sum of plan.h
struct RepackSum {
    const uint4 *data;
    u64 *sum; // grows by the sum of all words, each mixed with its place
    u64 n, seed;
};

DEVICE u64 sum_mix(u64 word, u64 place)
{
    u64 h = (word ^ place * 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
    h = (h ^ h >> 32) * 0x94d049bb133111ebull;
    return h ^ h >> 29;
}
// each block 4096 pieces of 16 bytes; addition, so that the order is of no matter
KERNEL(awq_repack_sum, 256, RepackSum p)
{
    const u64 first = (u64)blockIdx.x * 4096 + threadIdx.x;
    u64 sum = 0;
    for (u64 i = first; i < first + 4096 && i < p.n; i += 256) {
        const uint4 v = load_fresh(p.data + i);
        sum +=
            sum_mix(v.x | (u64)v.y << 32, p.seed + 2 * i) + sum_mix(v.z | (u64)v.w << 32, p.seed + 2 * i + 1);
    }
#pragma unroll
    for (int m = 16; m; m >>= 1) sum += __shfl_xor_sync(~0u, sum, m);
    if ((threadIdx.x & 31) == 0) atomic_add64(p.sum, sum);
}
