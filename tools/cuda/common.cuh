/* common.cuh - what the kernels of linear layers share: the 4-bit tile, its arithmetic, sums split over blocks,
   stores

   y [rows][n] = x [rows][k] w [n][k]^T, w = (q - z) s with a scale s and zero point z for each group of inputs.

   THE TILE. Weights are blocks of 64 outputs x 64 inputs, 2 KB, [n_pad / 64][k_pad / 64], so a block's next
   along k follows it in memory. Within: 4 warps (16 outputs each) x 32 lanes x 4 words; word kk of lane (g =
   lane / 4, t = lane % 4) is that lane's share of the 16 x 16 tile kk as mma.m16n8k16 and wgmma.m64k16 want A:

       bits    0-3      4-7      8-11     12-15    16-19    20-23    24-27     28-31
       output  g        g+8      g        g+8      g        g+8      g         g+8
       input   2t       2t       2t+8     2t+8     2t+1     2t+1     2t+9      2t+9        (+ 16 kk)

   so nibbles j and j + 4 are neighbours along k and become the halves of one register. One layout serves every
   kernel: lanes read 16 bytes each, a warp 512 in a row, and nothing is shuffled afterwards.

   PARAMETERS sz [groups][n_pad] u32: low half s as f16, high half 1024 + z as f16, that is 0x6400 + z. By group
   first: the 16 outputs of a warp are 64 bytes in a row, for bulk copies 256 bytes a block; [n_pad][groups]
   would touch 16 sectors of 32 bytes for 4 bytes of each. The scale is f16 for bf16 activations too: bf16 would
   lose 3 of its bits. Padding of n and k has scale 0.

   q - z is exact in f16 and bf16 (integers below 256). The scale is never folded into that step: rounding
   (1024 + z) s would cost half a scale. */

// dtype of activations
struct F16 {
    static const bool bf16 = false;
};
struct BF16 {
    static const bool bf16 = true;
};

// awq_cuda_linear of plan.h, which says what each member is
struct Linear {
    void *y;
    const u16 *x;
    const uint4 *w;
    const u32 *sz;
    const float *bias;
    float *partial;
    u32 *counters;
    u64 *best;
    int rows, n, n_pad, k_tiles, x_stride, y_stride, group, splits, flags;
    u32 group_reciprocal;
};
enum { LINEAR_Y_F32 = 1, LINEAR_ADD = 2 };

// index of the group of tile t, groups of at least 64: t / (group / 64), exact for k up to 65536
DEVICE int group_of(const Linear &p, int tile) { return (int)(((u32)tile * p.group_reciprocal) >> 20); }

// ---- q - z
// what is subtracted, for output g in .x and g + 8 in .y
DEVICE uint2 zero_points(F16, u32 sz_g, u32 sz_g8)
{
    // 1024 + z is 0x6400 + z; -(64 + z) is 0xd400 + 16 z: 16 times the pair of the former, plus what is missing
    return make_uint2(__byte_perm(sz_g, 0, 0x3232), __byte_perm(sz_g8, 0, 0x3232) * 16 + 0x93fa9400u);
}
// eight weights to h[4], A of mma: h[0], h[2] output g, h[1], h[3] output g + 8
DEVICE void dequantize(F16, u32 q, uint2 z, u32 *h)
{
    const u32 low = 0x000f000fu, high = 0x00f000f0u, one = 0x64006400u, sixteenth = 0x2c002c00u;
    u32 r = q >> 8;
    h[0] = f16x2_sub(lop3<0xEA>(q, low, one), z.x);             // (1024 + q) - (1024 + z)
    h[1] = f16x2_fma(lop3<0xEA>(q, high, one), sixteenth, z.y); // (1024 + 16 q) / 16 - (64 + z)
    h[2] = f16x2_sub(lop3<0xEA>(r, low, one), z.x);
    h[3] = f16x2_fma(lop3<0xEA>(r, high, one), sixteenth, z.y);
}
DEVICE u32 scale_pair(F16, u32 sz) { return __byte_perm(sz, 0, 0x1010); }
DEVICE u32 multiply(F16, u32 a, u32 b) { return f16x2_mul(a, b); }
DEVICE void mma(F16, float *d, const u32 *a, const u32 *b) { mma_f16(d, a, b); }
DEVICE float2 to_f32(F16, u32 h) { return f16x2_to_f32(h); }
DEVICE u32 from_f32(F16, float lo, float hi) { return f32_to_f16x2(lo, hi); }
DEVICE float scale_f32(u32 sz) { return f16x2_to_f32(sz).x; }

DEVICE float2 to_f32(BF16, u32 h) { return bf16x2_to_f32(h); }
DEVICE u32 from_f32(BF16, float lo, float hi) { return f32_to_bf16x2(lo, hi); }
// eight 8-bit weights, lo: inputs 2t, 2t + 1, hi: + 8
DEVICE void dequantize8(F16, u32 lo, u32 hi, uint2 z, u32 *h)
{
    const u32 exponent = 0x64646464u; // a byte above: 1024 + q
    h[0] = f16x2_sub(__byte_perm(lo, exponent, 0x4140), z.x);
    h[1] = f16x2_sub(__byte_perm(lo, exponent, 0x4342), z.y);
    h[2] = f16x2_sub(__byte_perm(hi, exponent, 0x4140), z.x);
    h[3] = f16x2_sub(__byte_perm(hi, exponent, 0x4342), z.y);
}
#if AWQ_HAS_BF16
DEVICE uint2 zero_points(BF16, u32 sz_g, u32 sz_g8)
{
    // -(128 + z) is 0xc300 + z, where the parameters have 0x6400 + z
    return make_uint2(__byte_perm(sz_g, 0, 0x3232) + 0x5f005f00u, __byte_perm(sz_g8, 0, 0x3232) + 0x5f005f00u);
}
DEVICE void dequantize(BF16, u32 q, uint2 z, u32 *h)
{
    const u32 low = 0x000f000fu, base = 0x43004300u, one = 0x3f803f80u; // 128 + q
    h[0] = bf16x2_fma(lop3<0xEA>(q, low, base), one, z.x);
    h[1] = bf16x2_fma(lop3<0xEA>(q >> 4, low, base), one, z.y);
    h[2] = bf16x2_fma(lop3<0xEA>(q >> 8, low, base), one, z.x);
    h[3] = bf16x2_fma(lop3<0xEA>(q >> 12, low, base), one, z.y);
}
// 128 + q is no bf16 for 8 bits, q - z is: by way of fp32, 2^23 + q
DEVICE float byte_less(u32 q, int byte, u32 z)
{
    return __uint_as_float(__byte_perm(q, 0x4b000000u, 0x7440 | byte)) - __uint_as_float(z);
}
DEVICE void dequantize8(BF16, u32 lo, u32 hi, uint2 z, u32 *h)
{
    h[0] = f32_to_bf16x2(byte_less(lo, 0, z.x), byte_less(lo, 1, z.x));
    h[1] = f32_to_bf16x2(byte_less(lo, 2, z.y), byte_less(lo, 3, z.y));
    h[2] = f32_to_bf16x2(byte_less(hi, 0, z.x), byte_less(hi, 1, z.x));
    h[3] = f32_to_bf16x2(byte_less(hi, 2, z.y), byte_less(hi, 3, z.y));
}
DEVICE u32 scale_pair(BF16, u32 sz)
{
    float s = scale_f32(sz);
    return f32_to_bf16x2(s, s);
}
DEVICE u32 multiply(BF16, u32 a, u32 b) { return bf16x2_mul(a, b); }
DEVICE void mma(BF16, float *d, const u32 *a, const u32 *b) { mma_bf16(d, a, b); }
#endif

// ---- activations in shared memory
// A tile of x is rows of 64 halves, 128 bytes; chunk c (16 bytes) of row r lies at chunk c ^ (r % 8). Then the
// 8 rows that ldmatrix reads at once are in different banks, and it is the order that wgmma calls 128-byte
// swizzle.
DEVICE u32 x_chunk(u32 tile, int row, int chunk) { return tile + row * 128 + ((chunk ^ (row & 7)) << 4); }

/* ---- how weights are stored
   BYTES of a block of 64 outputs x 64 inputs, read in chunks of 16: source() is the first tile's chunk in uint4
   from p.w, NEXT the distance of the next tile's, place() where it goes in shared memory. The 16 outputs of a
   warp are a quarter of it; Words holds what a lane needs of them, read at lane_at() of the quarter, and
   fragment() makes A of the mma at inputs 16 kk .. of it. */
struct Bits4 { // the tile above
    static const int BYTES = 2048, NEXT = 128;
    static const bool SCALED = true;
    static DEVICE_MEMBER u32 source(const Linear &p, int block, int tile, int chunk)
    {
        return (block * p.k_tiles + tile) * 128 + chunk;
    }
    static DEVICE_MEMBER u32 place(int chunk) { return chunk * 16; }
    static DEVICE_MEMBER u32 lane_at(int lane) { return lane * 16; }
    struct Words {
        u32 q[4];
        DEVICE_MEMBER void set(const uint4 *v) { q[0] = v->x, q[1] = v->y, q[2] = v->z, q[3] = v->w; }
        DEVICE_MEMBER void load(u32 at)
        {
            const uint4 v = lds128(at);
            set(&v);
        }
        template <class T> DEVICE_MEMBER void fragment(T dtype, int kk, uint2 z, u32 *a) const
        {
            dequantize(dtype, q[kk], z, a);
        }
    };
};
// 4 KB: 4 warps x 2 halves of 32 inputs x 32 lanes x 16 bytes. Half j has, for kk = 2j and 2j + 1, two words:
// bytes (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1), then the same at inputs + 8.
struct Bits8 {
    static const int BYTES = 4096, NEXT = 256;
    static const bool SCALED = true;
    static DEVICE_MEMBER u32 source(const Linear &p, int block, int tile, int chunk)
    {
        return (block * p.k_tiles + tile) * 256 + chunk;
    }
    static DEVICE_MEMBER u32 place(int chunk) { return chunk * 16; }
    static DEVICE_MEMBER u32 lane_at(int lane) { return lane * 16; }
    struct Words {
        u32 q[8];
        DEVICE_MEMBER void set(const uint4 *v)
        {
            q[0] = v[0].x, q[1] = v[0].y, q[2] = v[0].z, q[3] = v[0].w;
            q[4] = v[1].x, q[5] = v[1].y, q[6] = v[1].z, q[7] = v[1].w;
        }
        DEVICE_MEMBER void load(u32 at)
        {
            const uint4 v[2] = {lds128(at), lds128(at + 512)};
            set(v);
        }
        template <class T> DEVICE_MEMBER void fragment(T dtype, int kk, uint2 z, u32 *a) const
        {
            dequantize8(dtype, q[2 * kk], q[2 * kk + 1], z, a);
        }
    };
};
// [n][64 k_tiles] halves in rows, padded with zeros along k; in shared memory as tiles of x
struct Dense {
    static const int BYTES = 8192, NEXT = 8;
    static const bool SCALED = false;
    static DEVICE_MEMBER u32 source(const Linear &p, int block, int tile, int chunk)
    {
        return (u32)min(block * 64 + chunk / 8, p.n - 1) * (p.k_tiles * 8) + tile * 8 + chunk % 8;
    }
    static DEVICE_MEMBER u32 place(int chunk) { return x_chunk(0, chunk / 8, chunk % 8); }
    static DEVICE_MEMBER u32 lane_at(int lane) { return x_chunk(0, lane & 15, lane >> 4); }
    struct Words {
        u32 at;
        DEVICE_MEMBER void load(u32 a) { at = a; }
        template <class T> DEVICE_MEMBER void fragment(T, int kk, uint2, u32 *a) const
        {
            ldmatrix4(a, at ^ kk << 5); // chunk + 2 kk
        }
    };
};
template <class T> DEVICE uint2 zero_points(Bits4, T dtype, u32 sz_g, u32 sz_g8)
{
    return zero_points(dtype, sz_g, sz_g8);
}
template <class T> DEVICE uint2 zero_points(Dense, T, u32, u32) { return make_uint2(0, 0); }
DEVICE uint2 zero_points(Bits8, F16, u32 sz_g, u32 sz_g8)
{
    return make_uint2(__byte_perm(sz_g, 0, 0x3232), __byte_perm(sz_g8, 0, 0x3232)); // 1024 + z
}
DEVICE uint2 zero_points(Bits8, BF16, u32 sz_g, u32 sz_g8)
{
    return make_uint2(0x4b000000u | (sz_g >> 16 & 255), 0x4b000000u | (sz_g8 >> 16 & 255)); // 2^23 + z as fp32
}

// ---- results
// outputs out (even) and the next of one row; returns what they are
template <class T> DEVICE float2 store_pair(T dtype, const Linear &p, int row, int out, float2 v)
{
    const int both = out + 1 < p.n;
    const size_t at = (size_t)row * p.y_stride + out;
    if (out >= p.n) return v;
    if (p.bias) {
        v.x += load_constant(p.bias + out);
        if (both) v.y += load_constant(p.bias + out + 1);
    }
    if (p.flags & LINEAR_Y_F32) {
        float *y = (float *)p.y + at;
        if (p.flags & LINEAR_ADD) {
            v.x += load_fresh((const float *)y);
            if (both) v.y += load_fresh((const float *)y + 1);
        }
        if (both && !((u64)y & 7)) store_global((float2 *)y, v);
        else {
            store_global(y, v.x);
            if (both) store_global(y + 1, v.y);
        }
    } else {
        u16 *y = (u16 *)p.y + at;
        if (p.flags & LINEAR_ADD) {
            v.x += to_f32(dtype, load_fresh((const u16 *)y)).x;
            if (both) v.y += to_f32(dtype, load_fresh((const u16 *)y + 1)).x;
        }
        const u32 h = from_f32(dtype, v.x, v.y);
        if (both && !((u64)y & 3)) store_global((u32 *)y, h);
        else {
            store_global(y, (u16)h);
            if (both) store_global(y + 1, (u16)(h >> 16));
        }
    }
    return v;
}

// The largest output of a row, of equal ones the first: keys grow with the value, then with the index falling.
// NaN is 0, less than any number. p.best [rows] starts at 0.
DEVICE u64 best_key(float v, int out)
{
    const u32 bits = __float_as_uint(v), ordered = bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
    return v == v ? (u64)ordered << 32 | (0xffffffffu - (u32)out) : 0;
}
// lanes of a row are LANES neighbours; one atomic for each of their groups
template <int LANES> DEVICE void best_of_lanes(const Linear &p, int row, u64 key)
{
#pragma unroll
    for (int m = 1; m < LANES; m *= 2) {
        const u64 other = __shfl_xor_sync(~0u, key, m);
        if (other > key) key = other;
    }
    if ((threadIdx.x & (LANES - 1)) == 0 && key) atomic_max64(p.best + row, key);
}

// Sums go through shared memory, [PARTS][ROWS][OUTS] fp32 with rows of OUTS + 4: lane (g, t) of an mma writes
// output g of rows 2t and 2t + 1, and 2t (OUTS + 4) + g are 32 different banks. Then stores run along outputs,
// and parts (warps that shared k) are added in order.
template <int ROWS, int OUTS> struct Sums {
    static const int PITCH = OUTS + 4, BYTES = ROWS * PITCH * 4;
};
template <int OUTS> DEVICE void sums_put(u32 sums, int row, int out, const float *d)
{
    const int lane = threadIdx.x & 31;
    const u32 at = sums + ((row + 2 * (lane & 3)) * (OUTS + 4) + out + (lane >> 2)) * 4;
    sts_f32(at, d[0]), sts_f32(at + (OUTS + 4) * 4, d[1]);
    sts_f32(at + 32, d[2]), sts_f32(at + (OUTS + 4) * 4 + 32, d[3]);
}

// of all threads of a block (id 0), or of those that use the same id of 1 .. 15
DEVICE void barrier(int id, int threads)
{
    if (id) named_barrier(id, threads);
    else __syncthreads();
}

// Adds the parts, then the sums of all blocks of this tile if k was split over p.splits blocks, and stores.
// Each block leaves its sums in partial [tile][split][ROWS * OUTS]; the one that comes last, by counters [tile]
// (zero, and left zero), adds them in the order of splits: same bits from run to run whoever that is. Called by
// all `threads` after a barrier; they meet at barrier id. flag: 4 bytes of shared memory.
template <int ROWS, int OUTS, int PARTS, class T>
DEVICE void sums_store(T dtype, const Linear &p, u32 sums, int row0, int out0, int tile, int split, int thread,
                       int threads, u32 flag, int id = 0)
{
    typedef Sums<ROWS, OUTS> S;
    const int pairs = min(ROWS, p.rows - row0) * (OUTS / 2);
    float *all = p.partial + (size_t)tile * p.splits * ROWS * OUTS;
    auto own = [&](int i) { // pair i: outputs i % (OUTS / 2) * 2 and the next of row i / (OUTS / 2)
        const u32 at = sums + (i / (OUTS / 2) * S::PITCH + i % (OUTS / 2) * 2) * 4;
        float2 v = make_float2(0, 0);
#pragma unroll
        for (int k = 0; k < PARTS; k++) {
            const uint2 part = lds64(at + k * S::BYTES);
            v.x += __uint_as_float(part.x), v.y += __uint_as_float(part.y);
        }
        return v;
    };
    if (p.splits > 1) {
#pragma unroll 1
        for (int i = thread; i < pairs; i += threads)
            store_global((float2 *)(all + (size_t)split * ROWS * OUTS) + i, own(i));
        fence_gpu();
        barrier(id, threads);
        if (thread == 0) sts32(flag, atomic_count(p.counters + tile));
        barrier(id, threads);
        if (lds32(flag) != (u32)p.splits - 1) return;
        fence_gpu();
        if (thread == 0) store_global(p.counters + tile, 0u);
    }
#pragma unroll 1
    for (int i = thread; i < (pairs + 31) / 32 * 32; i += threads) { // whole warps: best_of_lanes
        const int row = row0 + i / (OUTS / 2), out = out0 + i % (OUTS / 2) * 2;
        u64 key = 0;
        if (i < pairs) {
            float2 v = make_float2(0, 0);
            if (p.splits == 1) v = own(i);
            else
#pragma unroll 4
                for (int s = 0; s < p.splits; s++) {
                    const uint2 part = load_fresh((const uint2 *)(all + (size_t)s * ROWS * OUTS) + i);
                    v.x += __uint_as_float(part.x), v.y += __uint_as_float(part.y);
                }
            v = store_pair(dtype, p, row, out, v);
            if (out < p.n) key = best_key(v.x, out);
            if (out + 1 < p.n && best_key(v.y, out + 1) > key) key = best_key(v.y, out + 1);
        }
        if (p.best) best_of_lanes<(OUTS < 64 ? OUTS / 2 : 32)>(p, row, key);
    }
}

// the part of the k tiles that is this block's, of p.splits
DEVICE int split_begin(const Linear &p, int split) { return (int)((u32)(p.k_tiles * split) / (u32)p.splits); }

/* ---- 1 to 4 rows: weights straight to registers

   A block is 16 outputs, 8 warps share k: warp i takes tiles i, i + 8 ... One block per 16 outputs gives enough
   blocks without splitting k over blocks (4096 outputs: 256 for 132 SMs, two on each), and as a weight is used
   by one lane only, shared memory would be a detour for it.

   Bytes in flight. By Little's law an H200 (4.3 TB/s, some 650 ns) needs 2.8 MB under way, 21 KB on each SM. A
   lane has 8 loads of 16 bytes under way before it uses the first: 8 x 32 x 8 x 16 = 32 KB a block, 64 KB on an
   SM with two (92 registers a thread on sm_90). At k = 4096 that is the whole slice of the block: it is asked
   for at once, before pdl_wait(), so while the kernel before is still running.

   Instructions. SASS of sm_90 (NVRTC 13.0) has 77 for a tile, 19 for 8 weights of a lane: 9 to dequantize, 1
   mma, 1.5 for parameters, 1 for the scale, the rest loads, addresses, waits, the loop. 4 a clock on each of
   132 SMs at 1.755 GHz take in 6.2 TB/s by that count. On CUDA cores each row would cost 4 more for 8 weights,
   and conversions; one mma does all rows and sums in fp32. The scale is applied to the sum of a group, 4 fma in
   fp32 per 64 inputs, so weights are exact. Columns without a row cost nothing: ldmatrix reads row 0 for them
   and nobody looks at the result.

   x comes tile by tile through cp.async, a 16-byte copy for each of rows x 8 lanes, a ring as deep as that of
   the weights, private to the warp: no barrier of the block until the sums are added. */
enum { GEMV_WARPS = 8, GEMV_ROWS = 4 };

// FORMAT: Bits4 or Bits8; FINE: groups of 32, two in a tile; block: of 16 outputs
template <class FORMAT, bool FINE, class T>
DEVICE void linear_gemv(T dtype, const Linear &p, int block = blockIdx.x, int split = blockIdx.y)
{
    DYN_SMEM(smem);
    const int LOADS = FORMAT::BYTES / 2048;        // of 16 bytes for a tile
    const int GEMV_DEPTH = (FINE ? 6 : 8) / LOADS; // what 128 registers hold
    const int SLOT = GEMV_ROWS * 128, TURN = GEMV_DEPTH * GEMV_WARPS;
    // the warp's number as the compiler sees that it is the same for all lanes: branches without divergence
    const int lane = threadIdx.x & 31, warp = __shfl_sync(~0u, (int)threadIdx.x >> 5, 0), rows = p.rows;
    const int first = split_begin(p, split) + warp, last = split_begin(p, split + 1);
    const u64 policy = evict_first_policy();
    const int x_row = (lane & 7) < rows ? lane & 7 : 0; // that ldmatrix asks of this lane
    const bool x_lane = lane < rows * 8;
    const u32 x_ring = smem_address(smem) + warp * GEMV_DEPTH * SLOT;
    const u32 x_to = keep(x_chunk(x_ring, lane >> 3, lane & 7)),
              x_from = keep(x_chunk(x_ring, x_row, lane >> 3));
    const u32 sz_row = p.n_pad * 4;
    const u8 *sz = keep((const u8 *)(p.sz + (block * 16 + (lane >> 2))));
    const uint4 *w = p.w + ((size_t)(block / 4) * p.k_tiles * 4 + block % 4) * 32 * LOADS + lane
                     + first * FORMAT::NEXT;
    const u16 *x = p.x + (size_t)(lane >> 3) * p.x_stride + (lane & 7) * 8 + first * 64;
    uint4 q[GEMV_DEPTH][LOADS];
    uint2 s[GEMV_DEPTH][FINE ? 2 : 1]; // parameters of outputs g and g + 8
    float sum[4] = {0, 0, 0, 0};

    auto load_tile = [&](int i, int tile) {
        const u32 *at = (const u32 *)(sz + (u64)(u32)(FINE ? 2 * tile : group_of(p, tile)) * sz_row);
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            q[i][j] = load_weights(w + i * GEMV_WARPS * FORMAT::NEXT + j * 32, policy);
        s[i][0] = make_uint2(load_constant(at), load_constant(at + 8));
        if (FINE) s[i][FINE] = make_uint2(load_constant(at + p.n_pad), load_constant(at + p.n_pad + 8));
    };
    auto load_x = [&](int i) {
        if (x_lane) copy16(x_to + i * SLOT, x + i * GEMV_WARPS * 64);
    };

#pragma unroll
    for (int i = 0; i < GEMV_DEPTH; i++)
        if (first + i * GEMV_WARPS < last) load_tile(i, first + i * GEMV_WARPS);
    pdl_launch();
    pdl_wait();
#pragma unroll
    for (int i = 0; i < GEMV_DEPTH; i++) {
        if (first + i * GEMV_WARPS < last) load_x(i);
        copy_commit();
    }
    for (int base = first; base < last; base += TURN) {
        w = keep(w + TURN * FORMAT::NEXT), x = keep(x + TURN * 64); // of the tiles to load
#pragma unroll
        for (int i = 0; i < GEMV_DEPTH; i++) {
            const int tile = base + i * GEMV_WARPS;
            if (tile >= last) break;
            typename FORMAT::Words words;
            words.set(q[i]);
            u32 b[8];
            copy_wait<GEMV_DEPTH - 1>();
            __syncwarp();
            ldmatrix4(b, x_from + i * SLOT);
            ldmatrix4(b + 4, (x_from ^ 64) + i * SLOT); // chunks 4 to 7
#pragma unroll
            for (int half = 0; half < (FINE ? 2 : 1); half++) {
                const uint2 z = zero_points(FORMAT(), dtype, s[i][half].x, s[i][half].y);
                const float scale = scale_f32(s[i][half].x), scale8 = scale_f32(s[i][half].y);
                float part[4] = {0, 0, 0, 0};
#pragma unroll
                for (int kk = 2 * half; kk < (FINE ? 2 * half + 2 : 4); kk++) {
                    u32 a[4];
                    words.fragment(dtype, kk, z, a);
                    mma(dtype, part, a, b + 2 * kk);
                }
                sum[0] = fused(scale, part[0], sum[0]), sum[1] = fused(scale, part[1], sum[1]);
                sum[2] = fused(scale8, part[2], sum[2]), sum[3] = fused(scale8, part[3], sum[3]);
            }
            __syncwarp(); // x of this tile has been read
            if (tile + TURN < last) load_tile(i, tile + TURN), load_x(i);
            copy_commit();
        }
    }

    // what the warps have, [8 warps][8 rows of x][16 outputs]
    const u32 sums = smem_address(smem) + 16;
    __syncthreads();
    sums_put<16>(sums + warp * Sums<8, 16>::BYTES, 0, 0, sum);
    __syncthreads();
    sums_store<8, 16, GEMV_WARPS>(dtype, p, sums, 0, block * 16, block, split, threadIdx.x,
                                  32 * GEMV_WARPS, sums - 16);
}

/* ---- some rows, many rows: weights and x through shared memory

   A block is NB x 64 outputs by ROWS = 8 NT WT rows of x (x_block: which rows; w_block: which
   outputs, so that blocks with the same weights run at the same time), k over splits. Its warps are
   arranged [WK along k][WT along rows][the rest along outputs]; a warp has MT x NT mma tiles. A step takes WK
   tiles of k, one for each group of warps, through STAGES buffers filled by cp.async STAGES - 1 steps ahead.

   EXACT: the scale is applied in fp32 to the sum of a group (of 64 inputs at most), so weights are exact: as
   long as NT <= 4 that costs no more than scaling the weights, and half the rounding is gone. Otherwise weights
   are rounded to the dtype of x, as any library that dequantizes first does.

   FORMAT is how weights are stored: Bits4, Bits8 or Dense, see there. */
#if AWQ_ARCH < 800
enum { STAGES = 2 }; // 64 KB of shared memory, and copies that are done when issued
#elif AWQ_ARCH == 860 || AWQ_ARCH == 880 || AWQ_ARCH == 890 || AWQ_ARCH >= 1200
enum { STAGES = 3 }; // 99 KB
#else
enum { STAGES = 4 };
#endif

template <class FORMAT, int NB, int NT, int WT, int WK> struct Stage {
    static const int ROWS = 8 * NT * WT;
    // bytes of one k tile; sz: room for two groups
    static const int W = NB * FORMAT::BYTES, SZ = FORMAT::SCALED ? NB * 512 : 0, X = ROWS * 128;
    static const int TILE = W + SZ + X; // w and x begin at a multiple of 512
    static const int BYTES = WK * TILE;
};

template <class FORMAT, int NB, int MT, int NT, int WT, int WK, bool EXACT, class T>
DEVICE void linear_mma(T dtype, const Linear &p, int x_block = blockIdx.x, int split = blockIdx.y,
                       int w_block = blockIdx.z)
{
    typedef Stage<FORMAT, NB, NT, WT, WK> S;
    const int WO = NB * 4 / MT, THREADS = 32 * WO * WT * WK; // warps along outputs
    DYN_SMEM(smem);
    const u32 base = smem_address(smem);
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, g = lane >> 2;
    const int wo = warp % WO, wt = warp / WO % WT, wk = warp / (WO * WT);
    const int row0 = x_block * S::ROWS;
    const int first = split_begin(p, split), last = split_begin(p, split + 1);
    const int blocks = p.n_pad / 64;
    const int fine = FORMAT::SCALED && p.group == 32; // two groups a tile
    const u64 policy = evict_first_policy();
    float sum[MT][NT][4];
#pragma unroll
    for (int i = 0; i < MT * NT * 4; i++) (&sum[0][0][0])[i] = 0;

    // What this thread copies in each step, 16 bytes each: W_CHUNKS of weights, X_CHUNKS of x, one of
    // parameters (some threads). Chunk j of a thread is chunk thread + j THREADS of the step, which is that of
    // j = 0 plus what does not depend on the thread. Blocks past the last one and rows past the last one are
    // read again instead; what they sum is not stored.
    const int TILE_CHUNKS = NB * FORMAT::BYTES / 16, W_CHUNKS = WK * TILE_CHUNKS / THREADS;
    const int ROW_CHUNKS = 8 * S::ROWS, X_CHUNKS = (WK * ROW_CHUNKS + THREADS - 1) / THREADS, NONE = 1 << 30;
    static_assert(WK * TILE_CHUNKS % THREADS == 0 && WK * NB * 32 <= THREADS, "chunks for whole threads");
    static_assert(THREADS % ROW_CHUNKS == 0 || ROW_CHUNKS % THREADS == 0, "j adds the same to all threads");
    auto w_place = [&](int i) { // of chunk i of a step
        return i / TILE_CHUNKS * S::TILE + i % TILE_CHUNKS / (TILE_CHUNKS / NB) * FORMAT::BYTES
               + FORMAT::place(i % (TILE_CHUNKS / NB));
    };
    auto x_place = [&](int i) { return x_chunk(i / ROW_CHUNKS * S::TILE, i / 8 % S::ROWS, i % 8); };
    const uint4 *w[W_CHUNKS]; // of the next step
    const u16 *x[X_CHUNKS];
#pragma unroll
    for (int j = 0; j < W_CHUNKS; j++) {
        const int i = thread + j * THREADS, b = i % TILE_CHUNKS / (TILE_CHUNKS / NB);
        w[j] = p.w
               + FORMAT::source(p, min(w_block * NB + b, blocks - 1), first + i / TILE_CHUNKS,
                                i % (TILE_CHUNKS / NB));
    }
#pragma unroll
    for (int j = 0; j < X_CHUNKS; j++) {
        const int i = thread + j * THREADS, row = min(row0 + i / 8 % S::ROWS, p.rows - 1);
        x[j] = p.x + (size_t)row * p.x_stride + (first + i / ROW_CHUNKS) * 64 + i % 8 * 8;
    }
    const int sz_half = thread / (NB * 16) % 2, sz_b = thread / 16 % NB;
    const int sz_k = FORMAT::SCALED && thread < WK * NB * 32 && sz_half <= fine ? thread / (NB * 32) : NONE;
    const int w_k = thread / TILE_CHUNKS, x_k = thread < WK * ROW_CHUNKS ? thread / ROW_CHUNKS : NONE;
    const u32 w_to = keep(base + w_place(thread)), x_to = keep(base + S::W + S::SZ + x_place(thread));
    const u32 sz_to =
        keep(base + S::W + thread / (NB * 32) * S::TILE + (sz_half * NB + sz_b) * 256 + thread % 16 * 16);
    const u8 *sz =
        keep((const u8 *)(p.sz + min(w_block * NB + sz_b, blocks - 1) * 64 + thread % 16 * 4));
    const u32 sz_row = p.n_pad * 4;
    // group of a tile: times this >> 20, plus the half
    const u32 sz_factor = fine ? 2u << 20 : p.group_reciprocal, sz_tile = sz_k + first,
              sz_more = fine ? sz_half : 0;
    // left: tiles from the step on that is loaded
    auto load_w = [&](u32 stage, int left) {
#pragma unroll
        for (int j = 0; j < W_CHUNKS; j++) {
            if (w_k + j * THREADS / TILE_CHUNKS < left)
                copy16_weights(w_to + stage + w_place(j * THREADS), w[j], policy);
            w[j] = keep(w[j] + WK * FORMAT::NEXT);
        }
        if (sz_k < left) {
            const u32 group = ((sz_tile + (last - first - left)) * sz_factor >> 20) + sz_more;
            copy16(sz_to + stage, sz + (u64)group * sz_row);
        }
    };
    auto load_x = [&](u32 stage, int left) {
#pragma unroll
        for (int j = 0; j < X_CHUNKS; j++) {
            if (x_k + j * THREADS / ROW_CHUNKS < left) copy16(x_to + stage + x_place(j * THREADS), x[j]);
            x[j] = keep(x[j] + WK * 64);
        }
    };

    // what this lane reads of a stage
    const u32 tile0 = base + wk * S::TILE, QUARTER = FORMAT::BYTES / 4;
    const u32 w_from = keep(tile0 + wo * MT * QUARTER + FORMAT::lane_at(lane));
    const u32 sz_from = keep(tile0 + S::W + (wo * MT * 16 + g) * 4);
    const u32 x_from =
        keep(x_chunk(tile0 + S::W + S::SZ + wt * NT * 1024, NT == 1 ? lane & 7 : (lane >> 4) * 8 + (lane & 7),
                     NT == 1 ? lane >> 3 : lane >> 3 & 1));
    u32 reading = 0, writing = (STAGES - 1) * S::BYTES; // stages, bytes from the first

#pragma unroll 1
    for (int i = 0; i < STAGES - 1; i++) load_w(i * S::BYTES, last - first - i * WK);
    pdl_launch();
    pdl_wait();
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; i++) {
        load_x(i * S::BYTES, last - first - i * WK);
        copy_commit(); // the first group has all the weights of these stages, waited for with the first stage
    }
#pragma unroll 1
    for (int left = last - first; left > 0; left -= WK) { // tiles from this step on
        copy_wait<STAGES - 2>();
        __syncthreads(); // this stage is here for all; the one before has been read by all
        load_w(writing, left - (STAGES - 1) * WK), load_x(writing, left - (STAGES - 1) * WK);
        copy_commit();
        if (wk < left) {
            typename FORMAT::Words words[MT];
            u32 scale[MT][2];
            uint2 z[MT];
            float part[EXACT ? MT : 1][EXACT ? NT : 1][4];
            auto load_params = [&](int half) {
#pragma unroll
                for (int m = 0; m < (FORMAT::SCALED ? MT : 0); m++) {
                    const u32 at = sz_from + reading + half * NB * 256 + m * 64;
                    const u32 s = lds32(at), s8 = lds32(at + 32);
                    z[m] = zero_points(FORMAT(), dtype, s, s8);
                    scale[m][0] = EXACT ? __float_as_uint(scale_f32(s)) : scale_pair(dtype, s);
                    scale[m][1] = EXACT ? __float_as_uint(scale_f32(s8)) : scale_pair(dtype, s8);
                }
            };
            auto add_part = [&]() {
#pragma unroll
                for (int n = 0; n < (EXACT ? MT * NT : 0); n++)
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        float &to = (&sum[0][0][0])[n * 4 + j], &from = (&part[0][0][0])[n * 4 + j];
                        to = fused(__uint_as_float(scale[n / NT][j >> 1]), from, to);
                        from = 0;
                    }
            };
            load_params(0);
#pragma unroll
            for (int m = 0; m < MT; m++) words[m].load(w_from + reading + m * QUARTER);
#pragma unroll
            for (int i = 0; i < (EXACT ? MT * NT * 4 : 0); i++) (&part[0][0][0])[i] = 0;
            u32 b[NT == 1 ? 2 : NT][2]; // [n of 8 rows] of this kk; NT 1: [kk, kk + 1]
#pragma unroll
            for (int kk = 0; kk < 4; kk++) {
                u32 a[MT][4];
                if (kk == 2 && fine) {
                    add_part();
                    load_params(1);
                }
#pragma unroll
                for (int n = 0; n < (NT == 1 ? 1 - kk % 2 : NT); n += 2)
                    ldmatrix4(b[n], ((x_from + reading) ^ kk << 5) + n * 1024); // chunk + 2 kk
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    words[m].fragment(dtype, kk, z[m], a[m]);
                    if (FORMAT::SCALED && !EXACT)
#pragma unroll
                        for (int j = 0; j < 4; j++) a[m][j] = multiply(dtype, a[m][j], scale[m][j & 1]);
#pragma unroll
                    for (int n = 0; n < NT; n++)
                        mma(dtype, EXACT ? part[EXACT ? m : 0][EXACT ? n : 0] : sum[m][n], a[m],
                            b[NT == 1 ? kk % 2 : n]);
                }
            }
            add_part();
        }
        reading = reading + S::BYTES < STAGES * S::BYTES ? reading + S::BYTES : 0;
        writing = writing + S::BYTES < STAGES * S::BYTES ? writing + S::BYTES : 0;
    }

    // WT passes, so that two stages are room enough
    const int OUTS = NB * 64, ROWS = NT * 8;
    const u32 sums = base + 16;
#pragma unroll 1
    for (int pass = 0; pass < WT; pass++) {
        copy_wait<0>();
        __syncthreads();
        if (wt == pass)
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int n = 0; n < NT; n++)
                    sums_put<OUTS>(sums + wk * Sums<ROWS, OUTS>::BYTES, n * 8, (wo * MT + m) * 16, sum[m][n]);
        __syncthreads();
        sums_store<ROWS, OUTS, WK>(dtype, p, sums, row0 + pass * ROWS, w_block * OUTS,
                                   (w_block * gridDim.x + x_block) * WT + pass, split, thread, THREADS, base);
    }
}

/* ---- experts: the linear of one of them (experts.cuh, experts_wgmma.cuh) */
struct Experts { // awq__cuda_experts of plan.h
    Linear linear;
    const u64 *table;
    const int *start;
    int experts;
};

// l: the linear of the expert that has tile `tile` of ROWS rows; returns which of its tiles it is, -1: none
template <int ROWS> DEVICE int expert_of(const Experts &p, int tile, Linear &l)
{
    const int lane = threadIdx.x & 31;
    int before = 0; // tiles of experts before
#pragma unroll 1
    for (int base = 0; base < p.experts; base += 128) {
        int first[4], rows[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int e = base + 32 * k + lane;
            first[k] = load_fresh(p.start + min(e, p.experts));
            rows[k] = load_fresh(p.start + min(e + 1, p.experts)) - first[k];
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int tiles = (rows[k] + ROWS - 1) / ROWS;
            int to = tiles; // with those of the lanes before
#pragma unroll
            for (int m = 1; m < 32; m *= 2) {
                const int v = __shfl_up_sync(~0u, to, m);
                if (lane >= m) to += v;
            }
            const u32 beyond = __ballot_sync(~0u, before + to > tile);
            if (beyond) {
                const int at = __ffs((int)beyond) - 1;
                const int row = __shfl_sync(~0u, first[k], at);
                const u64 *entry = p.table + (size_t)(base + 32 * k + at) * 4;
                l = p.linear;
                l.w = (const uint4 *)load_constant(entry);
                l.sz = (const u32 *)load_constant(entry + 1);
                l.bias = (const float *)load_constant(entry + 2);
                l.rows = __shfl_sync(~0u, rows[k], at);
                l.x += (size_t)row * l.x_stride;
                l.y = (char *)l.y + (size_t)row * l.y_stride * (l.flags & LINEAR_Y_F32 ? 4 : 2);
                return tile - __shfl_sync(~0u, before + to - tiles, at);
            }
            before += __shfl_sync(~0u, to, 31);
        }
    }
    return -1;
}
