/* steps.h - the arguments of the kernels of rows.cuh, moe.cuh and attention.cuh, and how they are launched

   C99, no CUDA header. awq_cuda.h has a copy of this text; the tests of the kernels use it as it is. Each
   struct is the argument, by value, of its kernels, whose struct has the same members. Addresses are the
   GPU's; 0: there is none. `T`: f16 or bf16, as the kernel's name ends. Rows of linears' inputs are padded
   with zeros to a multiple of 64 columns; strides are in elements. */
#ifndef AWQ_CUDA_STEPS_H
#define AWQ_CUDA_STEPS_H
#include "plan.h"
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* threads of a block that takes a row of n: 4 numbers each */
static uint32_t awq__cuda_row_threads(int64_t n)
{
    int64_t t = (n + 127) / 128 * 32;
    return (uint32_t)(t < 32 ? 32 : t > 1024 ? 1024 : t);
}

/* awq_embed_f32, _f16, _bf16: a table as stored; awq_embed_8: a head in blocks of 8 bits, the
   weights of awq__cuda_linear. grid (rows), awq__cuda_row_threads(h). x = scale * value */
typedef struct awq__cuda_embed {
    uint64_t ids;   /* [rows] int32, all in the table */
    uint64_t table; /* [vocab][h], or w of the head */
    uint64_t sz;    /* blocks: of the head */
    uint64_t x;     /* [rows][h] fp32 */
    int32_t h;
    int32_t n_pad, k_tiles, group; /* blocks: of the head */
    float scale;
} awq__cuda_embed;

/* awq_norm_T: x += residual_scale norm(out), then xn = norm(x), in this order; what has no address is left
   out. grid (rows), awq__cuda_row_threads(h), awq__cuda_norm_shared(h). Also alone for the norms of latent
   attention (x: what kv_a gave, kind RMS, eps of its own) and for the final norm of some rows. */
typedef struct awq__cuda_norm {
    uint64_t x;                 /* [][x_stride] fp32; written only with out */
    uint64_t out;               /* [][out_stride] fp32 or T; 0: x stays */
    uint64_t out_norm, in_norm; /* [h] fp32, kind LAYER_BIAS: [2 h], bias behind; 0: as it is */
    uint64_t xn;                /* [rows][xn_stride] T; 0: not wanted. f16: beyond 65504 it is 65504 */
    uint64_t xn_lo;             /* [rows][xn_stride] T: what rounding took from xn; 0: not wanted */
    uint64_t xn32;              /* [rows][h] fp32; 0: not wanted */
    uint64_t bad;               /* [] int32: becomes `mark` when x has NaN or Inf and it is 0; or 0 */
    uint64_t rows; /* [rows] int32: block r takes this row of x, out and bad and gives row r of xn; or 0 */
    int32_t h, x_stride, out_stride, xn_stride;
    int32_t kind;    /* AWQ__CUDA_NORM_* */
    int32_t out_f32; /* out is fp32, not T */
    int32_t mark;    /* 1 + layer */
    float residual_scale, eps;
} awq__cuda_norm;
enum { AWQ__CUDA_NORM_RMS, AWQ__CUDA_NORM_LAYER, AWQ__CUDA_NORM_LAYER_BIAS };
static uint32_t awq__cuda_norm_shared(int64_t h) { return (uint32_t)(640 + (h + 3) / 4 * 16); }

/* awq_place_T. grid (rows, (heads + kv_heads + warps - 1) / warps), 32 warps threads, warps 1 to 8,
   awq__cuda_place_shared(warps, k_dim). k_dim, v_dim and nope: multiples of 8. */
typedef struct awq__cuda_place {
    uint64_t q, k, v;        /* [rows][stride] fp32 or T; latent attention: k is kv_b, v kv_b + nope elements */
    uint64_t shared;         /* latent attention: [rows][shared_stride] fp32, kv_a from kv_lora_rank on; or 0 */
    uint64_t q_norm, k_norm; /* fp32, or 0 */
    uint64_t cos_, sin_;     /* [rows][2][rope_dim / 2] fp32; 0: no rope */
    uint64_t pos;            /* [rows] int32; negative: the row's sequence has left, nothing is written */
    uint64_t slot;           /* [rows] int32: the row's sequence in `page` */
    uint64_t page;           /* [][page_stride] u64: addresses of pages, a sequence's in order */
    uint64_t q_out;          /* [rows][heads][k_dim] f16 */
    uint64_t cache_at;       /* bytes of the layer in a page */
    uint64_t head_bytes;     /* awq__cache.head */
    int32_t q_stride, k_stride, v_stride, shared_stride, page_stride;
    int32_t heads, kv_heads, k_dim, v_dim, v_row, nope;
    int32_t rope_dim, rope_first, rope_pairs;
    int32_t rope_table; /* 0: full attention, 1: sliding */
    int32_t qk_norm;    /* awq_qk_norm */
    int32_t f32;        /* q, k and v are fp32, not T */
    float clip, eps;    /* clip 0: not */
} awq__cuda_place;
static uint32_t awq__cuda_place_shared(int warps, int k_dim) { return (uint32_t)(256 + warps * k_dim * 4); }

/* awq_act_T: y = act(gate) * up / scales. grid (rows, awq__cuda_act_blocks(n)), 256 threads */
typedef struct awq__cuda_act {
    uint64_t gate, up; /* [rows][stride] fp32 or T; up 0: there is none */
    uint64_t scales;   /* [n] fp32, or 0 */
    uint64_t count;    /* int32: rows there are (start + num_experts of the slots), or 0: all of the grid */
    uint64_t y;        /* [rows][y_stride] T */
    int32_t n, gate_stride, up_stride, y_stride;
    int32_t kind; /* awq_act */
    int32_t f32;  /* gate and up are fp32, not T */
    float alpha, limit;
} awq__cuda_act;
static uint32_t awq__cuda_act_blocks(int64_t n) { return (uint32_t)((n + 2047) / 2048); }

/* awq_logits: scale and cap in place, best of each row. grid (parts, rows), 1024 threads, 256 bytes */
typedef struct awq__cuda_logits {
    uint64_t logits;   /* [rows][stride] fp32 */
    uint64_t partial;  /* [rows][parts] u64 if parts > 1 */
    uint64_t counters; /* [rows] u32, zero before the first launch; each launch leaves zeros */
    uint64_t best;     /* [rows] int32: lowest index of the largest, -2: one is NaN or Inf; or 0 */
    int32_t n, stride;
    float scale, cap; /* cap 0: not capped */
} awq__cuda_logits;
static uint32_t awq__cuda_logits_parts(int64_t n) { return (uint32_t)((n + 16383) / 16384); }
/* ---- attention
   Rows of one sequence at consecutive positions, as few stretches as they can be */
typedef struct awq__cuda_stretch {
    int32_t row, rows; /* of the pass */
    int64_t pos;       /* of the first */
} awq__cuda_stretch;

/* awq_attend_split_N: grid (tiles, kv heads, splits); awq_attend_many_N: grid (tiles, kv heads) */
typedef struct awq__cuda_attend {
    uint64_t q;        /* [rows][heads][k_dim] f16 */
    uint64_t out;      /* [rows][out_stride] f16 or bf16; padding is not written: zero it once */
    uint64_t tile;     /* [tiles][4] int32 of the plan: first row of a stretch, its rows, first query, 0 */
    uint64_t pos;      /* [rows] int32; negative at the first row of a stretch: nothing of it is computed */
    uint64_t slot;     /* [rows] int32: the row's sequence in `page` */
    uint64_t page;     /* [][page_stride] u64: addresses of pages; those before the window are not looked at */
    uint64_t sink;     /* [heads] fp32, or 0 */
    uint64_t partial;  /* split: workspace of the plan */
    uint64_t counters; /* split: likewise, words, zero before the first launch; each launch leaves zeros */
    uint64_t cache_at; /* bytes of the layer in a page */
    uint64_t head_bytes;  /* awq__cache.head */
    int32_t heads, group; /* of q; that share a kv head */
    int32_t k_dim, v_dim, v_row, out_stride, page_stride;
    int32_t window;      /* keys that a query sees; 0: all up to its own */
    int32_t split_pages; /* of the plan */
    int32_t bf16;        /* out is bf16 */
    float scale, cap;    /* scale > 0; cap 0: not capped */
} awq__cuda_attend;

typedef struct awq__cuda_attend_plan {
    int32_t tiles[2];   /* of few and of many queries, in this order in `tile` */
    char kernel[2][32]; /* for them */
    uint32_t grid[2]
                 [3]; /* for all of them; the first: at most at_once a launch, from `tile` + 16 bytes each on */
    uint32_t threads[2], smem[2];
    int32_t at_once;
    int32_t split_pages;
    int32_t dim;              /* define AWQ_ATTEND as this for the compiler */
    size_t partial, counters; /* bytes; words: of a launch of at_once tiles */
} awq__cuda_attend_plan;

#define AWQ__CUDA_ATTEND_PARTIAL ((size_t)64 << 20) /* bytes of workspace where it matters */

/* tiles there can be of so many rows */
static size_t awq__cuda_attend_tiles(int64_t rows, int group)
{
    return (size_t)rows * (size_t)((group + 15) / 16);
}

static int64_t awq__cuda_attend_first(int64_t pos, int64_t window) /* key that it sees */
{
    return window > 0 && pos >= window ? pos - window + 1 : 0;
}

/* pages that a tile of few queries sees, [0] to [1] */
static void awq__cuda_attend_pages(const awq__cuda_stretch *s, int group, int64_t first, int64_t window,
                                   int64_t *page)
{
    int64_t last = first + 15, all = (int64_t)s->rows * group;
    if (last >= all) last = all - 1;
    page[0] = awq__cuda_attend_first(s->pos + first / group, window) / 32;
    page[1] = (s->pos + last / group) / 32;
}

/* Pages rounded up, to four numbers an octave, so that a text may grow for a while and have the same plan:
   a recorded pass serves as long as that. Blocks that find nothing to do leave at once. */
static int64_t awq__cuda_attend_rounded(int64_t pages)
{
    int64_t step = 4;
    while (pages > 8 * step) step *= 2;
    return (pages + step - 1) / step * step;
}

/* Which kernel attends which rows: tile [awq__cuda_attend_tiles][4] and *p. shared: bytes of shared memory a
   block may have (65536 on sm_75, 166912 on 80, 101376 on 86, 89 and 120, 232448 on 90 and 100). Stretches of
   at least 64 queries a kv head go to attend_many, unless same_bits: then a row's result has the same bits
   whatever rows, of its sequence or others, are attended with it, in one kernel that reads keys and values for
   16 queries at a time. Returns 0 for heads that no kernel takes: beyond 256 or not a multiple of 8. */
static int awq__cuda_attend_plan_for(const awq__cuda_device *d, uint32_t shared, int heads, int kv_heads,
                                     int k_dim, int v_dim, int64_t window, const awq__cuda_stretch *stretch,
                                     int n, int same_bits, int32_t (*tile)[4], awq__cuda_attend_plan *p)
{
    static const int sizes[4][4] = {/* k, v; pages of a step and threads of attend_many */
                                    {64, 64, 2, 256},
                                    {128, 128, 2, 256},
                                    {192, 128, 1, 256},
                                    {256, 256, 1, 128}};
    const int group = heads / kv_heads;
    const int *size = sizes[0];
    int warps = 4, queries, i, k;
    uint32_t page, q;
    int64_t most = 1, splits = 1, first, see[2];
    memset(p, 0, sizeof *p);
    if (k_dim < 8 || v_dim < 8 || k_dim % 8 || v_dim % 8 || k_dim > 256 || v_dim > 256) return 0;
    while (k_dim > size[0] || v_dim > size[1]) size += 4;
    page = 64 * (uint32_t)(size[0] + size[1]);
    q = size[0] > 192 ? 32 * (uint32_t)size[0] : 0; /* a warp's queries, where they are in shared memory */
    while (warps > 1 && (uint32_t)warps * (page + q) > shared) warps /= 2;
    p->dim = size[0];
    p->threads[0] = 32 * (uint32_t)warps;
    p->threads[1] = (uint32_t)size[3];
    p->smem[0] = (uint32_t)warps * (page + q);
    p->smem[1] = 2 * (uint32_t)size[2] * page + q * (uint32_t)size[3] / 32;
    for (k = 0; k < 2; k++) {
        queries = k ? size[3] / 2 : 16;
        for (i = 0; i < n; i++) {
            const awq__cuda_stretch *s = &stretch[i];
            int64_t all = (int64_t)s->rows * group;
            if ((all >= 64 && !same_bits && p->smem[1] <= shared) != k) continue;
            for (first = (all - 1) / queries * queries; first >= 0; first -= queries) { /* the longest first */
                int32_t *to = tile[p->tiles[0] + p->tiles[1]];
                to[0] = s->row;
                to[1] = s->rows;
                to[2] = (int32_t)first;
                to[3] = 0;
                p->tiles[k]++;
                awq__cuda_attend_pages(s, group, first, window, see);
                if (!k) most = see[1] - see[0] + 1 > most ? see[1] - see[0] + 1 : most;
            }
        }
        sprintf(p->kernel[k], "awq_attend_%s_%d", k ? "many" : "split", p->dim);
        p->grid[k][0] = (uint32_t)p->tiles[k];
        p->grid[k][1] = (uint32_t)kv_heads;
        p->grid[k][2] = 1;
    }
    p->at_once = p->tiles[0];
    if (!p->tiles[0]) return 1;
    most = awq__cuda_attend_rounded(most);
    splits = awq__cuda_on_sm(d->arch, p->smem[0]) * d->sms / ((int64_t)p->tiles[0] * kv_heads);
    splits = splits < 1 ? 1 : splits;
    p->split_pages = (int32_t)((most + splits - 1) / splits + warps - 1) / warps * warps;
    if (splits == 1) p->split_pages = 1 << 25; /* none has more */
    if (same_bits) p->split_pages = 16;
    splits = (most + p->split_pages - 1) / p->split_pages + (window > 0 && p->split_pages < 1 << 25);
    p->grid[0][2] = (uint32_t)splits;
    if (splits > 1) {
        size_t of_tile = (size_t)kv_heads * (size_t)splits * 16 * (size_t)(v_dim + 2) * sizeof(float);
        if (same_bits && of_tile * (size_t)p->at_once > AWQ__CUDA_ATTEND_PARTIAL)
            p->at_once = of_tile > AWQ__CUDA_ATTEND_PARTIAL ? 1 : (int32_t)(AWQ__CUDA_ATTEND_PARTIAL / of_tile);
        p->partial = of_tile * (size_t)p->at_once;
        p->counters = (size_t)kv_heads * (size_t)p->at_once;
    }
    return splits < 65536;
}

/* What plans for up to so many rows, of texts of so many pages, can want: bytes and words */
static void awq__cuda_attend_most(int sms, int heads, int kv_heads, int v_dim, int64_t rows, int64_t pages,
                                  int same_bits, size_t *partial, size_t *counters)
{
    const size_t of_split = 16 * (size_t)(v_dim + 2) * sizeof(float);
    const size_t of_tile = (size_t)kv_heads * of_split * (size_t)(awq__cuda_attend_rounded(pages) / 16 + 2);
    const size_t tiles = awq__cuda_attend_tiles(rows, heads / kv_heads), most = AWQ__CUDA_ATTEND_PARTIAL;
    *partial = 3 * (size_t)sms * of_split; /* 2 blocks on each SM, one more for each tile of a window */
    *counters = 2 * (size_t)sms;
    if (!same_bits) return;
    *partial = tiles * of_tile < most ? tiles * of_tile : of_tile > most ? of_tile : most;
    *counters = (size_t)kv_heads * tiles;
}

/* ---- experts awq_route: the experts of rows. 32 warps threads, warps 1 to 4 rows a block, grid ((rows +
   warps - 1) / warps), warps * awq__cuda_route_shared */
typedef struct awq__cuda_route {
    uint64_t scores; /* [rows][stride] fp32: what the router's linear gives */
    uint64_t bias;   /* [experts] fp32, or 0 */
    uint64_t pos;    /* [rows] int32; negative: the row's sequence has left, its picks become -1 */
    uint64_t pick;   /* [rows][top] int32 */
    uint64_t weight; /* [rows][top] fp32 */
    int32_t rows, experts, stride, top;
    int32_t groups, top_groups; /* experts a multiple of groups */
    int32_t score;              /* awq_score */
    int32_t norm_topk;
    float routed_scale;
} awq__cuda_route;
static uint32_t awq__cuda_route_shared(int experts, int groups, int top)
{
    return 4 * (2 * (uint32_t)experts + 2 * (uint32_t)groups + (uint32_t)top);
}

/* awq_slots: 256 threads, grid (experts / 8 + 1) */
typedef struct awq__cuda_slots {
    uint64_t pick;  /* [n] int32 */
    uint64_t start; /* [experts + 1] int32: first slot of an expert, in the end how many there are */
    uint64_t slot;  /* [n] int32: slot of a pick, -1: none */
    uint64_t from;  /* [n] int32: row of a slot */
    int32_t n;      /* rows * top */
    int32_t experts, top;
} awq__cuda_slots;

/* awq_gather: grid (n of the slots), 256 threads */
typedef struct awq__cuda_gather {
    uint64_t xn, xe;      /* [rows][xn_stride], [n][xe_stride] f16 or bf16, rows 16-byte aligned */
    uint64_t from, count; /* of the slots; count: start + experts */
    int32_t columns;      /* a multiple of 8 */
    int32_t xn_stride, xe_stride;
} awq__cuda_gather;

/* awq_combine_T: grid (rows, (h + 1023) / 1024), 256 threads */
typedef struct awq__cuda_combine {
    uint64_t oe;          /* [n][oe_stride] fp32 or T: what experts say of slots */
    uint64_t shared;      /* [rows][shared_stride] likewise: the shared expert; or 0 */
    uint64_t slot;        /* [rows][top] */
    uint64_t weight;      /* [rows][top] fp32 */
    uint64_t shared_gate; /* [rows][gate_stride] fp32, or 0: shared weighs 1 */
    uint64_t out;         /* [rows][out_stride] fp32 */
    int32_t h, top, oe_stride, shared_stride, gate_stride, out_stride;
    int32_t f32; /* oe and shared are fp32, not T */
} awq__cuda_combine;

/* ---- sampling
   awq_top: the k highest logits of each row, equals by id. grid (parts, rows), 1024 threads, 512 bytes */
typedef struct awq__cuda_top {
    uint64_t logits;   /* [rows][stride] fp32 */
    uint64_t partial;  /* [rows][parts][k + 1] u64 */
    uint64_t counters; /* [rows] u32, zero before the first launch; each launch leaves zeros */
    uint64_t id;       /* [rows][k] int32; -1: there are no more */
    uint64_t bad;      /* [rows] int32: 1 if a logit is NaN or Inf, else 0 */
    uint64_t value;    /* [rows][k] fp32 */
    int32_t n, stride, k;
} awq__cuda_top;
/* ---- quantizing

   awq_split: hi + lo = x, both bf16, [rows][y_stride], columns up to a multiple of 64 zero. grid ((padded
   columns + 511) / 512, rows), 256 threads. awq_split_transposed: of weight x, [cols][y_stride], rows up to a
   multiple of 64 zero. grid (padded rows / 64, (cols + 31) / 32), 256 threads, 8448 bytes */
typedef struct awq__cuda_split {
    uint64_t x;      /* [rows][x_stride] fp32 */
    uint64_t weight; /* transposed: [rows] fp32, or 0 */
    uint64_t hi, lo;
    int32_t rows, cols, x_stride, y_stride; /* y_stride: even */
} awq__cuda_split;

/* awq_candidate: to = Q(w scales) / scales. grid ((in / group + 7) / 8, rows), 256 threads */
typedef struct awq__cuda_rounding {
    uint64_t w;      /* [rows][in] fp32 */
    uint64_t scales; /* [in] fp32, or 0 */
    uint64_t to;     /* [rows][in] fp32 */
    int32_t in, group, bits, symmetric;
    int32_t difference; /* to is what rounding has added */
} awq__cuda_rounding;

/* awq_row_dots: out [rows] = sum of a b, both [rows][n] fp32. grid (rows), 256 threads, 128 bytes */
typedef struct awq__cuda_dots {
    uint64_t a, b, out;
    int32_t n;
    int32_t difference; /* sum of (a - b)^2 instead */
} awq__cuda_dots;

/* awq_clips: as awq__clip_row. grid (in / group, (out + 7) / 8), 256 threads, 32 group bytes */
typedef struct awq__cuda_clips {
    uint64_t w;       /* [out][in] fp32 */
    uint64_t moments; /* [in / group][group][group] fp32, symmetric */
    uint64_t clip;    /* [out][in / group] fp32 */
    int32_t out, in, group, bits, symmetric;
} awq__cuda_clips;

/* awq_gated: y = act(gate) * up, n fp32 numbers each. grid ((n + 1023) / 1024), 256 threads */
typedef struct awq__cuda_gated {
    uint64_t gate, up; /* up 0: there is none */
    uint64_t y;
    uint64_t n;
    int32_t kind; /* awq_act */
    float alpha, limit;
} awq__cuda_gated;

/* awq_turn: norm and rope of heads in place. grid (rows, (heads + 7) / 8), 256 threads, 32 dim bytes */
typedef struct awq__cuda_turn {
    uint64_t x;          /* [rows][heads][dim] fp32 */
    uint64_t norm;       /* [dim] fp32, RMS; or 0 */
    uint64_t cos_, sin_; /* [rows][2][rope_dim / 2] fp32; 0: no rope */
    int32_t heads, dim, rope_dim, rope_first, rope_pairs;
    int32_t rope_table; /* 0: full attention, 1: sliding */
    float eps;
} awq__cuda_turn;

/* awq_sequence: attention of n rows, which are a sequence from its beginning; k_dim and v_dim to 256. grid
   ((n + 31) / 32, heads), 256 threads, 128 (2 k_dim + 1 + v_dim) bytes */
typedef struct awq__cuda_attention {
    uint64_t q, k, v;     /* [n][heads][k_dim], [n][heads / group][k_dim], [..][v_dim] fp32 */
    uint64_t out;         /* [n][heads][v_dim] fp32 */
    int32_t n, heads, group, k_dim, v_dim;
    int32_t window; /* keys that a query sees; 0: all up to its own */
    float scale;
} awq__cuda_attention;
#endif
