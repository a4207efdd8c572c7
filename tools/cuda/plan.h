/* plan.h - which kernel of tools/cuda computes a linear layer, on what grid; the arguments of the kernels

   C99, no CUDA header. awq_cuda.h has a copy of this text; the tests of the kernels use it as it is. */
#ifndef AWQ_CUDA_PLAN_H
#define AWQ_CUDA_PLAN_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifndef AWQ__UNUSED
#define AWQ__UNUSED
#endif

/* The argument, by value, of every kernel of linear.cuh, linear8.cuh, dense.cuh, wgmma.cuh; `Linear` of
   common.cuh has the same members. Addresses are the GPU's. Padding: k to 64 in x (with zeros) and w, n to 64
   in w and sz (scale 0). */
typedef struct awq__cuda_linear {
    uint64_t y; /* [rows][y_stride], fp32 or the dtype of x; only n columns are written */
    uint64_t x; /* [rows][x_stride] f16 or bf16, 16-byte aligned, x_stride a multiple of 8, under 2^32 in all */
    uint64_t w; /* 4 bits: [n_pad / 64][k_tiles] blocks of 2 KB, 8 bits: of 4 KB, see common.cuh;
                         dense: [n][64 k_tiles] in the dtype of x */
    uint64_t sz;      /* [groups][n_pad] u32: f16 scale, f16(1024 + zero) above it */
    uint64_t bias;    /* [n] fp32, or 0 */
    uint64_t partial; /* workspace of awq__cuda_launch.partial bytes if splits > 1 */
    uint64_t
        counters;  /* awq__cuda_launch.counters words, zero before the first launch; each launch leaves zeros */
    uint64_t best; /* [rows] u64, or 0: see awq__cuda_best_index; zero before the launch */
    int32_t rows, n, n_pad, k_tiles, x_stride, y_stride;
    int32_t group;             /* inputs of a group: 32 or a multiple of 64; whole row: 64 k_tiles */
    int32_t splits;            /* awq__cuda_launch.grid[1] */
    int32_t flags;             /* AWQ__CUDA_Y_F32 | AWQ__CUDA_ADD */
    uint32_t group_reciprocal; /* awq__cuda_group_reciprocal(group) */
} awq__cuda_linear;

enum {
    AWQ__CUDA_Y_F32 = 1, /* y is fp32 */
    AWQ__CUDA_ADD = 2    /* y += */
};

/* The argument, by value, of the kernels of experts.cuh, `Experts` there: rows of x and y are slots. */
typedef struct awq__cuda_experts {
    awq__cuda_linear linear; /* w, sz, bias, rows: of no meaning; splits 1 */
    uint64_t table;          /* [experts][4] u64: w, sz, bias, 0; the experts' linears are of one kind */
    uint64_t start;          /* [experts + 1] int32 of the slots */
    int32_t experts;
} awq__cuda_experts;

/* The argument, by value, of the kernels of repack.cuh, `Repack` there.
     awq_repack_codes    grid (k_tiles, (skip + write) / 64 rounded up), 128 threads
     awq_repack_params   grid (write / 256 rounded up, 64 k_tiles / group rounded up), 256 threads
     awq_repack_dense    grid (k_tiles / 8 rounded up, n), 256 threads */
typedef struct awq__cuda_repack {
    uint64_t to, codes, zeros, scales;
    uint64_t lossy; /* u32 [2], 0 before: scales or dense weights; zero points */
    int32_t n, k, n_pad, k_tiles, bits;
    int32_t layout;        /* AWQ__CUDA_REPACK_.. */
    int32_t type;          /* of scales, of dense weights: 0 fp32, 1 f16, 2 bf16 */
    int32_t file_group;    /* divides k, a multiple of group (whole rows: k) */
    int32_t group;         /* awq__cuda_linear.group */
    int32_t bf16;          /* dense: to bf16, not f16 */
    int32_t file_n, first; /* outputs of the stored matrix; n of them from `first` on are taken */
    int32_t skip;          /* outputs of the first block that are there already */
    int32_t write;         /* n, or to n_pad */
    int32_t chunk;         /* native: awq__tiling.chunk */
    uint32_t mark;         /* what lossy becomes */
    int32_t file_bits;     /* 2 to 8 */
    int32_t pitch;         /* gemv: scales of an output */
} awq__cuda_repack;

enum {
    AWQ__CUDA_REPACK_CANONICAL,
    AWQ__CUDA_REPACK_GEMM,
    AWQ__CUDA_REPACK_GPTQ,
    AWQ__CUDA_REPACK_GPTQ_V2,
    AWQ__CUDA_REPACK_COMPRESSED,
    AWQ__CUDA_REPACK_GPTQ_WORDS,
    AWQ__CUDA_REPACK_NATIVE,
    AWQ__CUDA_REPACK_GEMV,
    AWQ__CUDA_REPACK_GEMV_FAST,
    AWQ__CUDA_REPACK_MARLIN,
    AWQ__CUDA_REPACK_INT8
};

/* awq_repack_sum: *sum grows by a checksum of n pieces of 16 bytes. grid (n / 4096 rounded up), 256 threads */
typedef struct awq__cuda_sum {
    uint64_t data, sum, n, seed;
} awq__cuda_sum;

typedef struct awq__cuda_device {
    int arch;  /* 75, 80, 86, 89, 90, 100 .. */
    int wgmma; /* compiled for sm_90a */
    int sms;
    int mma_rows; /* of a linear of 4 bits: up to so many (32 at most) by mma.sync also where wgmma is */
} awq__cuda_device;

typedef struct awq__cuda_launch {
    char kernel[40];
    uint32_t grid[3], threads, smem; /* bytes of dynamic shared memory */
    size_t partial, counters;        /* bytes of workspace; words */
} awq__cuda_launch;

/* so that t / (group / 64) == t * reciprocal >> 20 for every tile t < 1024 */
static uint32_t awq__cuda_group_reciprocal(int group)
{
    uint32_t tiles = group < 64 ? 1u : (uint32_t)group / 64;
    return ((1u << 20) + tiles - 1) / tiles;
}

/* k over as many blocks as make `want` of them, at least `least` tiles each */
static uint32_t awq__cuda_splits(int want, int blocks, int k_tiles, int least)
{
    int s = want / blocks, most = k_tiles / least;
    if (s > most) s = most;
    return s > 1 ? (uint32_t)s : 1;
}

/* KB of shared memory of an SM; a block may have that, from 8.0 on less 1 */
static int awq__cuda_sm_kb(int arch)
{
    return arch < 80 ? 64 : arch == 80 || arch == 87 ? 164 : arch < 90 || arch >= 120 ? 100 : 228;
}

/* Stages of rings in code for so old a card, as common.cuh has them */
static int awq__cuda_stages(int arch) { return arch < 80 ? 2 : awq__cuda_sm_kb(arch) == 100 ? 3 : 4; }

/* Blocks of so many bytes of shared memory on an SM, of which none wants more than two */
static int awq__cuda_on_sm(int arch, uint32_t smem)
{
    return 2 * (smem + (arch < 80 ? 0 : 1024)) <= (uint32_t)awq__cuda_sm_kb(arch) << 10 ? 2 : 1;
}

/* The output that a key of `best` names */
AWQ__UNUSED static uint32_t awq__cuda_best_index(uint64_t key) { return 0xffffffffu - (uint32_t)key; }

/* bits: 4, 8, or 16 for dense weights. Returns 0 if no kernel does it (bf16 before sm_80, k above 65536).
   `same_bits`: an output does not depend on how many rows are computed with it; one kernel, one order of sums
   for every number of rows, which costs speed at many. */
static int awq__cuda_linear_plan(const awq__cuda_device *d, int bits, int rows, int n, int k, int group,
                                 int bf16, int same_bits, awq__cuda_launch *out)
{
    const int blocks = (n + 63) / 64, k_tiles = (k + 63) / 64;
    const int stages = awq__cuda_stages(d->arch);
    const char *type = bf16 ? "bf16" : "f16", *family = bits == 4 ? "linear" : bits == 8 ? "linear8" : "dense";
    if (rows < 1 || n < 1 || k < 1 || k_tiles > 1024 || (bf16 && d->arch < 80)) return 0;
    if ((bits != 4 && bits != 8 && bits != 16) || (bits < 16 && group != 32 && (group < 64 || group % 64)))
        return 0;
    memset(out, 0, sizeof *out);
    if (rows <= (bits == 16 ? 8 : 4) && !same_bits) {
        /* 16 outputs a block, two blocks on an SM; a warp of eight wants two tiles at least */
        const uint32_t ring = bits == 16 ? 0 : 32768, sums = 16 + 8 * 8 * 20 * 4;
        snprintf(out->kernel, sizeof out->kernel, "awq_%s_gemv%s_%s", family,
                 bits < 16 && group == 32 ? "32" : "", type);
        out->grid[0] = 4 * (uint32_t)blocks;
        out->grid[1] = awq__cuda_splits(2 * d->sms, 4 * blocks, k_tiles, 16);
        out->grid[2] = 1;
        out->threads = 256;
        out->smem = ring > sums ? ring : sums;
        out->counters = out->grid[0];
        out->partial = (size_t)out->grid[0] * out->grid[1] * 8 * 16 * 4;
    } else if (d->wgmma && bits == 4 && rows > (d->mma_rows < 32 ? d->mma_rows : 32) && !same_bits) {
        /* Warpgroups of warpgroup.cuh: rows of a block, stages, blocks on an SM */
        static const int shape[6][3] = {{8, 10, 2},  {16, 9, 2},  {32, 14, 1},
                                        {64, 11, 1}, {128, 8, 1}, {256, 5, 1}};
        int i = 0, tile, outs;
        while (i < 5 && rows > shape[i][0]) i++;
        /* fewer rows in a block while blocks are too few for the SMs */
        if (i == 5 && (blocks + 1) / 2 * ((rows + 255) / 256) < d->sms) i = 4;
        tile = shape[i][0];
        outs = tile <= 64 ? 256 : 128;
        snprintf(out->kernel, sizeof out->kernel, "awq_linear_wgmma%d_%s", tile, type);
        out->grid[0] = ((uint32_t)rows + (uint32_t)tile - 1) / (uint32_t)tile;
        out->grid[2] = ((uint32_t)n + (uint32_t)outs - 1) / (uint32_t)outs;
        out->grid[1] = awq__cuda_splits(shape[i][2] * d->sms, (int)(out->grid[2] * out->grid[0]), k_tiles, 8);
        out->threads = tile <= 64 ? 320 : 384;
        out->smem = 1024 + (uint32_t)(shape[i][1] * (outs * 40 + tile * 128));
        out->counters = (size_t)blocks * out->grid[0];
        out->partial = out->counters * out->grid[1] * 64 * (size_t)tile * 4;
    } else {
        /* rows of a block; blocks of 64 outputs and tiles of k in a step of it; blocks on an SM */
        const int most = bits == 4 ? 32 : 16; /* of kernels with exact weights: one order of sums */
        const int tile = rows <= 8 && bits == 4      ? 8
                         : rows <= 16                ? 16
                         : rows <= most || same_bits ? most
                         : rows <= 64                ? 64
                                                     : 128;
        const int nb = tile == 128 ? 2 : 1, wk = tile == 128 ? 1 : tile == 64 || bits == 16 ? 2 : 4;
        const uint32_t stage = (uint32_t)(wk * (nb * (bits == 16 ? 8192 : 512 * bits + 512) + tile * 128));
        const int on_sm = !same_bits && (tile <= 16 || (tile == 64 && bits < 16)) /* as registers allow */
                              ? awq__cuda_on_sm(d->arch, (uint32_t)stages * stage)
                              : 1;
        snprintf(out->kernel, sizeof out->kernel, "awq_%s_mma%d_%s", family, tile, type);
        out->grid[0] = ((uint32_t)rows + (uint32_t)tile - 1) / (uint32_t)tile;
        out->grid[2] = (uint32_t)((blocks + nb - 1) / nb);
        out->grid[1] = awq__cuda_splits(on_sm * d->sms, (int)out->grid[2] * (same_bits ? 1 : (int)out->grid[0]),
                                        k_tiles, tile == 128 ? 8 : 2 * wk);
        out->threads = tile >= 64 || bits == 16 ? 256 : 512;
        out->smem = (uint32_t)stages * stage;
        out->counters = (size_t)out->grid[0] * out->grid[2] * (tile == 128 ? 2 : 1);
        out->partial = (size_t)out->grid[0] * out->grid[1] * out->grid[2] * (size_t)tile * (size_t)nb * 64 * 4;
    }
    if (out->grid[2] > 65535) return 0;
    if (out->grid[1] == 1) out->partial = out->counters = 0;
    return 1;
}

/* Likewise a linear of all experts, of `rows` rows with `top` experts each, all of them different */
static int awq__cuda_experts_plan(const awq__cuda_device *d, int bits, int rows, int experts, int top, int n,
                                  int k, int group, int bf16, int same_bits, awq__cuda_launch *out)
{
    const int64_t slots = (int64_t)rows * top, used = slots < experts ? slots : experts;
    const int stages = awq__cuda_stages(d->arch);
    const int gemv = rows <= 4 && bits < 16 && !same_bits, few = same_bits || slots <= 32 * used;
    /* 128 rows by wgmma take no longer than 64 by mma */
    const int wgmma = d->wgmma && bits == 4 && !gemv && !few;
    const int tile = gemv ? 4 : few ? 16 : wgmma ? 128 : 64;
    const uint32_t blocks = ((uint32_t)n + 63) / 64, tiles = (uint32_t)((slots + (tile - 1) * used) / tile);
    if (!awq__cuda_linear_plan(d, bits, 1, n, k, group, bf16, same_bits, out)) return 0;
    if (gemv) snprintf(out->kernel, sizeof out->kernel, "awq_experts%d_gemv%s", bits, group == 32 ? "32" : "");
    else snprintf(out->kernel, sizeof out->kernel, "awq_experts%d_%smma%d", bits, wgmma ? "wg" : "", tile);
    strcat(out->kernel, bf16 ? "_bf16" : "_f16");
    out->grid[0] = gemv ? 4 * blocks : tiles;
    out->grid[1] = gemv ? tiles : 1;
    out->grid[2] = gemv ? 1 : wgmma ? (blocks + 1) / 2 : blocks;
    out->threads = wgmma ? 384 : 256;
    if (wgmma) out->smem = 1024 + 8 * (4096 + 1024 + 128 * 128);
    else if (!gemv)
        out->smem = 2 * (uint32_t)stages
                    * ((uint32_t)(bits == 16 ? 8192 : 512 * bits + 512) + (uint32_t)tile * 128);
    out->partial = out->counters = 0;
    return out->grid[2] <= 65535;
}
#endif
