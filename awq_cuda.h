/* awq_cuda.h - awq.h on NVIDIA GPUs: nothing to link, no CUDA toolkit to build with

   When the program runs it finds the CUDA driver and NVRTC, NVIDIA's run-time compiler, compiles the kernels
   below for the card that is there and keeps the result on disk. A program built with this file starts on
   machines without a GPU too and is told there, in a sentence, what is missing.

   USE: in the source file that has the implementation of awq.h, behind it
       #define AWQ_IMPLEMENTATION
       #include "awq.h"
       #define AWQ_CUDA_IMPLEMENTATION
       #include "awq_cuda.h"
   plain #include "awq_cuda.h" elsewhere, and
       cc -O2 game.c -lm -lpthread -ldl

   Where it runs: the driver of CUDA 11.4 or newer, cards of compute capability 7.5 (Turing) or newer, and NVRTC
   11.7 or newer: from the CUDA toolkit, or alone by
       pip install nvidia-cuda-nvrtc-cu12                        for drivers of CUDA 12 (-cu11: of CUDA 11)
       pip install nvidia-cuda-nvrtc                             for those of CUDA 13

   EXAMPLE
       awq_ctx ctx = {0};
       awq_cuda *gpu = NULL;
       awq_cuda_info info;
       uint64_t x = 0;
       float host[256] = {1, 2, 3};
       if (awq_cuda_create(&ctx, NULL, &gpu)) {                  NULL: device 0, defaults
           puts(ctx.err.text);                                   the program goes on without a GPU
           return 0;
       }
       awq_cuda_get_info(&ctx, gpu, &info);
       printf("%s, %.1f GB free, %s\n", info.name, info.memory_free / 1e9, info.arch);
       if (awq_cuda_alloc(&ctx, gpu, sizeof host, &x)
           || awq_cuda_upload(&ctx, gpu, x, host, sizeof host)
           || awq_cuda_download(&ctx, gpu, host, x, sizeof host)) puts(ctx.err.text);
       awq_cuda_release(&ctx, gpu, x);
       awq_cuda_free(&ctx, gpu);

   RULES, besides those of awq.h
     - An awq_cuda belongs to one caller at a time. Several, of one device or of many, live side by side.
     - Calls leave the thread's current CUDA context as it was. Work is queued on one stream; what returns data
       to the host waits for it.
     - Refusals: AWQ_E_UNSUPPORTED no usable driver, NVRTC or card here; AWQ_E_ARG no such device; AWQ_E_MEMORY
       of the host or the device; AWQ_E_DEVICE a call of the driver failed. After a kernel has gone wrong the
       device is lost to its context: each call then says so, and objects can be freed.
     - From the environment: AWQ_CUDA_DRIVER and AWQ_NVRTC (files to use instead of the usual ones),
       AWQ_CACHE_DIR (folder of compiled kernels, which may be deleted at any time).

   CONTENTS (search for the anchor; declarations first, the implementation in the same order)
       >>kernels
       >>driver
       >>nvrtc
       >>cache
       >>memory
       >>launch
       >>linear
       >>model
       >>selftest
       >>lab
       >>device

   WHAT IT DOES NOT DO
     link against CUDA, run on AMD or Intel GPUs, use cards before Turing; divide one layer among devices.

   LICENCE: MIT or public domain (Unlicense), at your choice; text at the end. */
#ifndef AWQ_CUDA_H
#define AWQ_CUDA_H

#ifndef AWQ_H
#  include "awq.h"
#endif

/* -------------------------------------------------------------------------------------------------------------
   device: driver, compiler, context, stream and memory of one GPU */

typedef struct awq_cuda awq_cuda;

typedef struct awq_cuda_desc {
    int index;           /* of the device, as the driver counts; of no meaning with a context or stream */
    void *context; /* CUcontext of the program, which outlives this; NULL: the stream's, or the primary one */
    void *stream;        /* CUstream to work on, likewise; NULL: one of its own */
    size_t memory_limit; /* bytes of device memory to hold at most; 0: what is free, less a reserve */
    /* device memory from the program, at least 256-byte aligned (0: there is none); NULL: from the driver. The
       context is current in both calls. */
    uint64_t (*alloc)(void *user, size_t bytes);
    void (*free)(void *user, uint64_t ptr, size_t bytes);
    void *user;
    const char *driver;  /* the driver's file; NULL: AWQ_CUDA_DRIVER, or the usual names */
    const char *nvrtc;   /* files of NVRTC to try, with ':' between them (Windows: ';'); NULL: AWQ_NVRTC, or all
                            usual names and folders */
    const char *cache_folder; /* of compiled kernels; NULL: AWQ_CACHE_DIR, or awq-cuda in XDG_CACHE_HOME,
                                 ~/.cache (Windows: LOCALAPPDATA) */
    int no_cache;
    awq_file_system cache_files; /* zero: the operating system's, whatever ctx.files is */
    int no_selftest; /* kernels are not tried on small inputs before the first that needs them is loaded */
    int mma_rows;    /* compute capability 9.0: linears of 4 bits of up to so many rows, 32 at most, by
                        mma.sync, not by wgmma, which is to be faster; 0: none */
} awq_cuda_desc;

typedef struct awq_cuda_info {
    char name[128];
    int index, compute_major, compute_minor, multiprocessors;
    int driver_version; /* the CUDA it is for: 12040 is 12.4 */
    int nvrtc_major, nvrtc_minor;
    int compiled, cache_hits; /* families of kernels compiled, and found compiled on disk */
    double compile_seconds;
    size_t memory_total, memory_free;              /* bytes of the device */
    size_t memory_limit, memory_used, memory_peak; /* of this awq_cuda */
    char arch[24];                                 /* what is compiled for: "sm_90a"; "compute_80": the driver
                                                      translates */
    char driver_path[512], nvrtc_path[512];
    char cache_folder[512]; /* "": there is none */
    /* of awq_cuda_create: cuInit, the context, all of it */
    double init_seconds, context_seconds, create_seconds;
} awq_cuda_info;

/* Opens a device and runs a small kernel on it. desc NULL: all defaults. Nothing is loaded to the device unless
   driver, device, compute capability, NVRTC and free memory will do. */
AWQ_API awq_status awq_cuda_create(awq_ctx *ctx, const awq_cuda_desc *desc, awq_cuda **cuda);
AWQ_API void awq_cuda_free(awq_ctx *ctx, awq_cuda *cuda); /* and all its memory; NULL is fine */
AWQ_API awq_status awq_cuda_get_info(awq_ctx *ctx, awq_cuda *cuda, awq_cuda_info *info);

/* What awq_cuda_create finds here, for people: every file tried with the loader's answer, device, memory, and
   what to install where something is missing; how long starting took, and each family of kernels that a 4-bit
   llama in F16 needs: compiled, seconds in all where there is no cache yet, or from the cache. Works without a
   GPU or driver. */
typedef struct awq_cuda_report {
    awq_status status;  /* of awq_cuda_create with this desc, then of these kernels */
    awq_cuda_info info; /* as far as it came; zero behind */
    char error[1024];   /* its sentence; "" */
    char *text;         /* lines; awq_text_free it */
} awq_cuda_report;
AWQ_API awq_status awq_cuda_doctor(awq_ctx *ctx, const awq_cuda_desc *desc, awq_cuda_report *report);
/* What n doctors found, as gates behind those of awq_preflight: G12.driver, .compute (capability), .compiler,
   .gpu_memory, .kernel; the first that fails is the last one asked. */
AWQ_API void awq_cuda_preflight(const awq_cuda_report *doctors, int n, awq_guard_report *report);

/* Device memory: a CUdeviceptr, 256-byte aligned, contents undefined. Kernels of the program may use it too. */
AWQ_API awq_status awq_cuda_alloc(awq_ctx *ctx, awq_cuda *cuda, size_t bytes, uint64_t *ptr);
AWQ_API void awq_cuda_release(awq_ctx *ctx, awq_cuda *cuda, uint64_t ptr); /* waits for the stream; 0 is fine */
/* In the order of the stream. src may be changed when upload returns; dst is complete when download does. */
AWQ_API awq_status awq_cuda_upload(awq_ctx *ctx, awq_cuda *cuda, uint64_t dst, const void *src, size_t bytes);
AWQ_API awq_status awq_cuda_download(awq_ctx *ctx, awq_cuda *cuda, void *dst, uint64_t src, size_t bytes);
AWQ_API awq_status awq_cuda_fill(awq_ctx *ctx, awq_cuda *cuda, uint64_t dst, int byte, size_t bytes);
AWQ_API awq_status awq_cuda_sync(awq_ctx *ctx, awq_cuda *cuda); /* all work is done; failures show here */

/* -------------------------------------------------------------------------------------------------------------
   linear: y = x W^T + bias on the device, W in 4 or 8 bits or dense

   Activations are F16 or BF16 (compute capability 8.0), rows of x_stride numbers: in_features of them, zeros
   up to the next multiple of 64, anything behind. Sums are fp32 in an order that depends on shapes and the card
   alone. */

typedef struct awq_cuda_linear {
    int64_t out_features, in_features, group_size;
    int bits;         /* of the codes on the device: 4, 8; 16: dense */
    awq_dtype dtype;  /* of x, and of dense weights: F16 or BF16 */
    uint64_t weights; /* device memory: see THE TILE in tools/cuda/common.cuh */
    uint64_t params;  /* [groups][out_features padded to 64] scales and zeros */
    uint64_t bias;    /* [out_features] fp32; 0: none */
    size_t bytes;     /* of the three */
} awq_cuda_linear;

enum {
    AWQ_CUDA_ADD = 1,      /* y += */
    AWQ_CUDA_SAME_BITS = 2, /* a row is the same alone and among others, which costs time at many rows */
    AWQ_CUDA_FRESH = 4      /* a kernel queued since the last copy or wait writes the weights, which are else
                               read before the kernels ahead have ended (compute capability 9.0 on) */
};

/* From the canonical form: 2..4 bits take 4 on the device, 5..8 take 8. bias [out_features] or NULL. Groups:
   whole rows, or a multiple of 32. Scales are rounded to fp16 there; a warning tells when that changes some,
   AWQ_E_NUMERIC that one is too large or not finite.
   Waits for the copies; meanwhile codes, zeros and scales are on the device too. The first linear of a kind
   compiles its kernels and tries them, in 256 KB of the device's memory that are free again then: AWQ_E_DEVICE
   names one that computes wrongly. */
AWQ_API awq_status awq_cuda_linear_prepare(awq_ctx *ctx, awq_cuda *cuda, const awq_qweight *w,
                                           const float *bias, awq_dtype dtype, awq_cuda_linear *l);
/* weight [out_features, in_features] of type `from` (F32, F16, BF16), rounded to dtype. AWQ_E_NUMERIC when a
   number is too large for it. */
AWQ_API awq_status awq_cuda_linear_dense(awq_ctx *ctx, awq_cuda *cuda, awq_dtype from, const void *weight,
                                         int64_t out_features, int64_t in_features, const float *bias,
                                         awq_dtype dtype, awq_cuda_linear *l);
AWQ_API void awq_cuda_linear_free(awq_ctx *ctx, awq_cuda *cuda, awq_cuda_linear *l);
/* Queues y [rows][y_stride] = x W^T + bias. y_dtype: F32 or l->dtype. flags: AWQ_CUDA_ADD, ... x, y: device
   memory, x 16-byte aligned, x_stride a multiple of 8. The first run of a shape may compile a family of kernels
   and allocate working memory; later ones do not, and may be recorded in a graph. */
AWQ_API awq_status awq_cuda_linear_run(awq_ctx *ctx, awq_cuda *cuda, const awq_cuda_linear *l, uint64_t x,
                                       int64_t x_stride, int64_t rows, awq_dtype y_dtype, uint64_t y,
                                       int64_t y_stride, int flags);
/* Every kernel here, on small inputs, against the processor: AWQ_E_DEVICE names the first that differs.
   Compiles all of them; seconds the first time. Loading a model, preparing a linear and quantizing do this for
   those that they need, linears less thoroughly, once for an awq_cuda: some 30 launches for a model. */
AWQ_API awq_status awq_cuda_selftest(awq_ctx *ctx, awq_cuda *cuda);

/* -------------------------------------------------------------------------------------------------------------
   model: decoder layers on the device, the whole of a model or its first layers

       awq_device *list[1] = {awq_cuda_device(gpu)};
       desc.devices = list;
       desc.n_devices = 1;
       awq_model_load(&ctx, folder, &desc, &model);              and everything of awq.h goes on as it is

   awq_memory_needed tells what a device will take before anything is loaded.
   It is a part of the awq_cuda, which must outlive the models on it; the awq_cuda is theirs alone while calls
   of theirs run. Activations are BF16 where the checkpoint is and the device can, otherwise F16; the residual
   stream and all sums are fp32. In deterministic mode a sequence has the same bits alone and among others, on
   one card: another splits sums otherwise. The first steps record passes, on a stream of their own; those that
   follow ask the driver for no memory. When another thread waits for the whole device meanwhile
   (cudaDeviceSynchronize) a recording is spoiled: that pass is run as it is, and recorded later; after three
   such none is.
   Weights come from the files in pieces, through 8 MB of pinned memory, and are unpacked, converted and padded
   on the device, from every layout; linears that are rounded take 30 MB of the host's memory besides. */
AWQ_API awq_device *awq_cuda_device(awq_cuda *cuda);

#endif /* AWQ_CUDA_H */

#if defined(AWQ_CUDA_IMPLEMENTATION) && !defined(AWQ_CUDA_IMPLEMENTATION_DONE)
#define AWQ_CUDA_IMPLEMENTATION_DONE
#ifdef AWQ_LINKED
#  pragma GCC system_header
#endif
#ifndef AWQ_IMPLEMENTATION_DONE
#error "awq_cuda.h: AWQ_CUDA_IMPLEMENTATION needs AWQ_IMPLEMENTATION and awq.h above it in the same source file"
#endif
#if defined(AWQ_NO_MODEL) || defined(AWQ_NO_STDIO)
#error "awq_cuda.h runs models and opens the driver's library: compile it without AWQ_NO_MODEL and AWQ_NO_STDIO"
#endif

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>kernels
   The CUDA text, from tools/cuda: read it there. prims, common, block and warpgroup.cuh stand before each
   family; a family is compiled when its first kernel is asked for.
   Tests: tests/cuda runs the same text on a CPU */

/* clang-format off */
/* --- tools/embed_cuda.c wrote this block: change tools/cuda and run it again --- */
static const char *const awq__cuda_text_attention[] = {
"/* attention.cuh - attention over pages of keys and values\n",
"\n",
"   A page holds 32 tokens as awq__cache says, f16: of each kv head keys [k_dim][32], then values [32][v_row"
"].\n",
"   Queries are f16 [rows][heads][k_dim]. Both products are mma.m16n8k16 with fp32 sums; the rows of A are\n",
"   queries: of one row the heads that share a kv head, and of several rows of one sequence too, so that key"
"s\n",
"   and values are read once for 16 (attend_split) or 128 (attend_many) of them. Query i of a TILE {row, row"
"s,\n",
"   first} is head (first + i) % group of row + (first + i) / group; its rows are consecutive positions of o"
"ne\n",
"   sequence.\n",
"\n",
"   Keys lie with tokens side by side, so ldmatrix transposes them into B as it does values:\n",
"       scores [16 queries][32 keys] = Q [16][k_dim] K [k_dim][32]\n",
"       out [16][v_dim] += P [16][32] V [32][v_dim]\n",
"   and the scores' registers are, as halves, A of the second product.\n",
"\n",
"   The softmax is online, in base 2, a page (two) at a time: M is the largest score so far times scale\n",
"   log2(e), weights are 2^(score scale log2(e) - M). Keys that a query does not see weigh exactly 0 and lea"
"ve\n",
"   M, sums and out as they were, bit for bit; so a query's result does not depend on the other queries of i"
"ts\n",
"   tile.\n",
"\n",
"   Error, against the same f16 q, k, v: out is off by at most max|v| (2^-11 + 2 e) and its own rounding, wh"
"ere\n",
"   2^-11 is of the weights' rounding to f16 (below 2^-14 of the largest: 2^-25 absolute, each) and e = 2^-2"
"2\n",
"   (1 + |s|) + (k_dim + 2) 2^-24 scale sum|q k| bounds the error of a score s, with cap 2^-21 cap more. Tha"
"t is\n",
"   with sums rounded to nearest. Tensor cores are said to cut sums off instead (at 25 bits on Hopper, 24 be"
"fore):\n",
"   over n keys that adds up to n 2^-27 max|v| there, twice that before, always towards 0. */\n",
"struct Attend { // awq__cuda_attend of steps.h\n",
"    const u16 *q;\n",
"    u16 *out;\n",
"    const int4 *tile;\n",
"    const int *pos, *slot;\n",
"    const u64 *page;\n",
"    const float *sink;\n",
"    float *partial;\n",
"    u32 *counters;\n",
"    u64 cache_at, head_bytes;\n",
"    int heads, group, k_dim, v_dim, v_row, out_stride, page_stride, window, split_pages, bf16;\n",
"    float scale, cap;\n",
"};\n",
"const int PAGE_TOKENS = 32;\n",
"const float LOG2_E = 1.44269504f, NO_SCORE = -1e30f; // below any score there can be: 65504^2 512\n",
"\n",
"// ---- where queries are\n",
"struct Query {       // one of the 16 of a warp\n",
"    int row, head;   // of the pass; of all heads\n",
"    int first, last; // keys it sees\n",
"};\n",
"struct Sight { // what a tile sees\n",
"    int4 tile;\n",
"    int pos, queries; // position of its first row; queries there are, from tile.z on\n",
"    const u64 *page;\n",
"    u64 at; // bytes of the layer and kv head in a page\n",
"};\n",
"DEVICE bool sight(const Attend &p, Sight &s)\n",
"{\n",
"    s.tile = load_fresh(p.tile + blockIdx.x);\n",
"    s.pos = load_fresh(p.pos + s.tile.x);\n",
"    s.queries = s.tile.y * p.group - s.tile.z;\n",
"    s.page = p.page + (size_t)load_fresh(p.slot + s.tile.x) * p.page_stride;\n",
"    s.at = p.cache_at + blockIdx.y * p.head_bytes;\n",
"    return s.pos >= 0; // else the sequence has left\n",
"}\n",
"DEVICE Query query(const Attend &p, const Sight &s, int i) // beyond the last one: the last one\n",
"{\n",
"    const int at = s.tile.z + min(i, s.queries - 1), row = at / p.group;\n",
"    Query q;\n",
"    q.row = s.tile.x + row;\n",
"    q.head = blockIdx.y * p.group + at - row * p.group;\n",
"    q.last = s.pos + row;\n",
"    q.first = p.window > 0 ? max(0, q.last - p.window + 1) : 0;\n",
"    return q;\n",
"}\n",
"\n",
"// ---- a warp's 16 queries: lane (g, t) has parts of queries g and g + 8, see mma\n",
"// Where registers are short q waits in shared memory, [16][K]; chunk c (8 dimensions) of row i lies at c ^"
" i\n",
"// % 8.\n",
"template <int K> struct Queries {\n",
"    static const bool SHARED = K > 192;\n",
"    static const int BYTES = SHARED ? 32 * K : 0;\n",
"};\n",
"template <int K, int V> struct Warp {\n",
"    u32 q[Queries<K>::SHARED ? 1 : K / 16][4], q_at;\n",
"    float o[V / 8][4];\n",
"    float m[2], sum[2]; // M; the lane's part of the sum of weights\n",
"    int last[2];        // keys that they see\n",
"};\n",
"// shared: Queries<K>::BYTES of this warp's\n",
"template <int K, int V>\n",
"DEVICE void warp_begin(const Attend &p, const Sight &s, int first, u32 shared, Warp<K, V> &w)\n",
"{\n",
"    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;\n",
"    const u16 *from[2];\n",
"#pragma unroll\n",
"    for (int i = 0; i < 2; i++) {\n",
"        const Query q = query(p, s, first + g + 8 * i);\n",
"        from[i] = p.q + ((size_t)q.row * p.heads + q.head) * p.k_dim + 2 * t;\n",
"        w.last[i] = q.last;\n",
"        w.m[i] = NO_SCORE, w.sum[i] = 0;\n",
"    }\n",
"#pragma unroll\n",
"    for (int kk = 0; kk < K / 16; kk++)\n",
"#pragma unroll\n",
"        for (int i = 0; i < 4; i++) {\n",
"            const int at = 16 * kk + 8 * (i >> 1);\n",
"            const u32 v = at < p.k_dim ? load_fresh((const u32 *)(from[i & 1] + at)) : 0;\n",
"            if (Queries<K>::SHARED)\n",
"                sts32(shared + (g + 8 * (i & 1)) * (2 * K) + (((at >> 3) ^ g) << 4) + t * 4, v);\n",
"            else w.q[kk % (sizeof w.q / sizeof *w.q)][i] = v;\n",
"        }\n",
"    // of ldmatrix: this lane's row, and its chunk of each 16 dimensions\n",
"    w.q_at = shared + (lane & 15) * (2 * K) + (((lane >> 4) ^ (lane & 7)) << 4);\n",
"    __syncwarp();\n",
"#pragma unroll\n",
"    for (int n = 0; n < V / 8; n++)\n",
"#pragma unroll\n",
"        for (int i = 0; i < 4; i++) w.o[n][i] = 0;\n",
"}\n",
"\n",
"// ---- pages in shared memory\n",
"// Keys: row d is 64 bytes; chunk c (8 keys) of it lies at chunk c ^ d / 2 % 4. Values: row j is 2 V bytes;\n",
"// chunk c (8 dimensions) lies at c ^ j % 8. So the 8 rows that ldmatrix reads at once are in different ban"
"ks.\n",
"template <int K, int V> struct Page {\n",
"    static const int KEYS = K * 64, BYTES = KEYS + V * 64;\n",
"};\n",
"// N copies of 16 bytes: chunk(i, to, from) says which, or that there is none. Below sm_80 a copy waits for\n",
"// its load: up to MOST loads first.\n",
"template <int N, int MOST, class Chunk> DEVICE void copy_chunks(Chunk chunk)\n",
"{\n",
"#if AWQ_ARCH >= 800\n",
"#pragma unroll 8 // all at once take too many registers for their addresses\n",
"    for (int i = 0; i < N; i++) {\n",
"        u32 to;\n",
"        const char *from;\n",
"        if (chunk(i, to, from)) copy16(to, from);\n",
"    }\n",
"#else\n",
"    const int SOME = N < MOST ? N : MOST;\n",
"#pragma unroll 1\n",
"    for (int i = 0; i < N; i += SOME) {\n",
"        u32 to[SOME];\n",
"        uint4 v[SOME];\n",
"        bool there[SOME];\n",
"#pragma unroll\n",
"        for (int k = 0; k < SOME; k++) {\n",
"            const char *from;\n",
"            there[k] = chunk(i + k, to[k], from);\n",
"            if (there[k]) v[k] = load_fresh((const uint4 *)from);\n",
"        }\n",
"#pragma unroll\n",
"        for (int k = 0; k < SOME; k++)\n",
"            if (there[k]) sts128(to[k], v[k]);\n",
"    }\n",
"#endif\n",
"}\n",
"template <int K, int THREADS> DEVICE void load_keys(const Attend &p, u32 to, const char *page, int thread)\n",
"{\n",
"    copy_chunks<K * 4 / THREADS, (K > 192 ? 2 : 4)>([&](int i, u32 &at, const char *&from) {\n",
"        const int c = thread + i * THREADS, d = c >> 2;\n",
"        at = to + d * 64 + (((c & 3) ^ (d >> 1 & 3)) << 4);\n",
"        from = page + c * 16;\n",
"        return d < p.k_dim;\n",
"    });\n",
"}\n",
"// of `tokens`; what is behind them may be anything, NaN too, and becomes 0\n",
"template <int V, int THREADS>\n",
"DEVICE void load_values(const Attend &p, u32 to, const char *page, int tokens, int thread)\n",
"{\n",
"    const int ROW = V / 8, c = thread % ROW, j0 = thread / ROW;\n",
"    page += p.k_dim * 64 + c * 16;\n",
"    copy_chunks<PAGE_TOKENS * ROW / THREADS, (V > 128 ? 2 : 4)>([&](int i, u32 &at, const char *&from) {\n",
"        const int j = j0 + i * (THREADS / ROW);\n",
"        at = to + j * (2 * V) + ((c ^ (j & 7)) << 4);\n",
"        from = page + j * p.v_row * 2;\n",
"        if (j >= tokens) sts128(at, make_uint4(0, 0, 0, 0));\n",
"        return j < tokens && c * 8 < p.v_row;\n",
"    });\n",
"}\n",
"// rows of keys beyond k_dim, which no page fills, by `threads`\n",
"template <int K> DEVICE void clear_keys(const Attend &p, u32 keys, int thread, int threads)\n",
"{\n",
"    for (int c = p.k_dim * 4 + thread; c < K * 4; c += threads) sts128(keys + c * 16, make_uint4(0, 0, 0, 0"
"));\n",
"}\n",
"\n",
"// ---- scores, weights, sums of a page\n",
"// s[n]: 8 keys each\n",
"template <int K, int V> DEVICE void page_scores(const Warp<K, V> &w, u32 keys, float (*s)[4])\n",
"{\n",
"    const int lane = threadIdx.x & 31, row = lane & 7, half = lane >> 3 & 1, chunk = lane >> 4;\n",
"    const u32 at = keys + (half * 8 + row) * 64 + ((chunk ^ (row >> 1)) << 4);\n",
"#pragma unroll\n",
"    for (int n = 0; n < 4; n++)\n",
"#pragma unroll\n",
"        for (int i = 0; i < 4; i++) s[n][i] = 0;\n",
"#pragma unroll\n",
"    for (int kk = 0; kk < K / 16; kk++) {\n",
"        u32 a[4];\n",
"        if (Queries<K>::SHARED) ldmatrix4(a, w.q_at ^ (kk << 5));\n",
"        else\n",
"#pragma unroll\n",
"            for (int i = 0; i < 4; i++) a[i] = w.q[kk % (sizeof w.q / sizeof *w.q)][i];\n",
"#pragma unroll\n",
"        for (int pair = 0; pair < 2; pair++) { // 16 keys\n",
"            u32 b[4];\n",
"            ldmatrix4_transposed(b, (at ^ (pair << 5)) + kk * 1024);\n",
"            mma_f16(s[2 * pair], a, b);\n",
"            mma_f16(s[2 * pair + 1], a, b + 2);\n",
"        }\n",
"    }\n",
"}\n",
"// Scores of 8 N keys from `key` on become weights; the sums so far are scaled to the new M.\n",
"template <int N, int K, int V>\n",
"DEVICE void soften(const Attend &p, Warp<K, V> &w, int key, float scale, float cap, float (*s)[4])\n",
"{\n",
"    const int t = threadIdx.x & 3;\n",
"    if (cap > 0) { // cap tanh(score / cap); `scale` is log2(e) then\n",
"        const float z = 2 * LOG2_E * p.scale / cap;\n",
"#pragma unroll\n",
"        for (int n = 0; n < N; n++)\n",
"#pragma unroll\n",
"            for (int i = 0; i < 4; i++)\n",
"                s[n][i] = cap - 2 * cap * fast_reciprocal(fast_exp2(fminf(s[n][i] * z, 126.0f)) + 1.0f);\n",
"    }\n",
"    const int window = p.window > 0 ? p.window : 0x7fffffff, a = w.last[0] - key, b = w.last[1] - key;\n",
"    if (a < 8 * N - 1 || b < 8 * N - 1 || a >= window || b >= window) { // not all are seen\n",
"#pragma unroll\n",
"        for (int n = 0; n < N; n++)\n",
"#pragma unroll\n",
"            for (int i = 0; i < 4; i++) {\n",
"                const int behind = (i < 2 ? a : b) - 8 * n - 2 * t - (i & 1);\n",
"                if (behind < 0 || behind >= window) s[n][i] = __uint_as_float(0xff800000);\n",
"            }\n",
"    }\n",
"#pragma unroll\n",
"    for (int r = 0; r < 2; r++) {\n",
"        float top = fmaxf(s[0][2 * r], s[0][2 * r + 1]), sum = 0;\n",
"#pragma unroll\n",
"        for (int n = 1; n < N; n++) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));\n",
"        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));\n",
"        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));\n",
"        const float m = fmaxf(w.m[r], top * scale), keep = fast_exp2(w.m[r] - m);\n",
"#pragma unroll\n",
"        for (int n = 0; n < N; n++)\n",
"#pragma unroll\n",
"            for (int i = 2 * r; i < 2 * r + 2; i++) {\n",
"                s[n][i] = fast_exp2(fused(s[n][i], scale, -m));\n",
"                sum += s[n][i];\n",
"            }\n",
"        w.m[r] = m;\n",
"        w.sum[r] = fused(w.sum[r], keep, sum);\n",
"#pragma unroll\n",
"        for (int n = 0; n < V / 8; n++) w.o[n][2 * r] *= keep, w.o[n][2 * r + 1] *= keep;\n",
"    }\n",
"}\n",
"template <int K, int V> DEVICE void page_values(Warp<K, V> &w, u32 values, const float (*s)[4])\n",
"{\n",
"    const int lane = threadIdx.x & 31, row = lane & 7, half = lane >> 3 & 1, chunk = lane >> 4;\n",
"    const u32 at = values + (half * 8 + row) * (2 * V);\n",
"#pragma unroll\n",
"    for (int kk = 0; kk < 2; kk++) { // 16 keys\n",
"        u32 a[4];\n",
"#pragma unroll\n",
"        for (int i = 0; i < 4; i++)\n",
"            a[i] = f32_to_f16x2(s[2 * kk + (i >> 1)][2 * (i & 1)], s[2 * kk + (i >> 1)][2 * (i & 1) + 1]);\n",
"#pragma unroll\n",
"        for (int n = 0; n < V / 16; n++) {\n",
"            u32 b[4];\n",
"            ldmatrix4_transposed(b, at + kk * 32 * V + (((2 * n + chunk) ^ row) << 4));\n",
"            mma_f16(w.o[2 * n], a, b);\n",
"            mma_f16(w.o[2 * n + 1], a, b + 2);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"// ---- results\n",
"// all weights of a query and its sink, which stands for no key\n",
"DEVICE float total_weight(const Attend &p, float sum, float m, int head)\n",
"{\n",
"    if (!p.sink) return sum;\n",
"    const float d = load_constant(p.sink + head) * LOG2_E - m;\n",
"    return d > 115 ? 3.0e38f : sum + fast_exp2(d); // as the CPU: nothing is left of the scores\n",
"}\n",
"DEVICE void store_out(const Attend &p, const Query &q, int d, float x, float y) // dimensions d and d + 1\n",
"{\n",
"    u16 *to = p.out + (size_t)q.row * p.out_stride + (q.head * p.v_dim + d);\n",
"    store_global((u32 *)to, p.bf16 ? halves_of(BF16(), x, y) : halves_of(F16(), x, y));\n",
"}\n",
"DEVICE float score_scale(const Attend &p) { return p.cap > 0 ? LOG2_E : p.scale * LOG2_E; }\n",
"\n",
"/* ---- few queries: 16 of a tile, keys over blocks\n",
"\n",
"   blockIdx: tile, kv head, split. A split is pages [split_pages i, split_pages (i + 1)), counted by positi"
"on\n",
"   from the first that the tile sees: where it is cut does not depend on how long the sequence or any other\n",
"   is, nor on what the grid is, if split_pages does not. A page belongs to warp page % warps, which has roo"
"m\n",
"   for one page of its own: while it works on the keys, the values and then the next keys are on their way,"
" 8\n",
"   to 16 KB a warp for dimensions of 128; no barrier until all pages are done. Then warps are added in orde"
"r,\n",
"   through shared memory, and splits in order by the block that comes last: partial [tile][kv head][split]["
"16\n",
"   (v_dim + 2)], counters [tile][kv head], zero and left zero. */\n",
"template <int V> struct Part { // of shared memory: [16][V + 8] sums, 16 M, 16 sums of weights\n",
"    static const int PITCH = V + 8, M = 16 * PITCH, SUM = M + 16;\n",
"};\n",
"template <int K, int V> DEVICE void attend_split(const Attend &p)\n",
"{\n",
"    typedef Page<K, V> P;\n",
"    typedef Part<V> S;\n",
"    DYN_SMEM(smem);\n",
"    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, warps = (int)(blockDim.x >> 5);\n",
"    const int WARP = P::BYTES + Queries<K>::BYTES; // bytes\n",
"    const u32 all = smem_address(smem), keys = all + warp * WARP, values = keys + P::KEYS;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    Sight s;\n",
"    if (!sight(p, s)) return;\n",
"    const int queries = min(s.queries, 16);\n",
"    const int page0 = query(p, s, 0).first / PAGE_TOKENS, last_key = query(p, s, queries - 1).last;\n",
"    const int split0 = page0 / p.split_pages, splits = last_key / PAGE_TOKENS / p.split_pages - split0 + 1;\n",
"    const int split = blockIdx.z;\n",
"    if (split >= splits) return;\n",
"    const int begin = max(page0, (split0 + split) * p.split_pages);\n",
"    const int end = min(last_key / PAGE_TOKENS + 1, (split0 + split + 1) * p.split_pages);\n",
"    const float scale = score_scale(p);\n",
"    Warp<K, V> w;\n",
"    warp_begin(p, s, 0, keys + P::BYTES, w);\n",
"    clear_keys<K>(p, keys, lane, 32);\n",
"    __syncwarp(); // a warp without pages writes its part there at once\n",
"\n",
"    int at = begin + (warp - begin % warps + warps) % warps; // the warp's first page\n",
"    u64 here = at < end ? load_fresh(s.page + at) : 0;\n",
"    auto tokens = [&](int page) { return min(PAGE_TOKENS, last_key + 1 - page * PAGE_TOKENS); };\n",
"    if (at < end) load_keys<K, 32>(p, keys, (const char *)(here + s.at), lane);\n",
"    copy_commit();\n",
"    if (at < end) load_values<V, 32>(p, values, (const char *)(here + s.at), tokens(at), lane);\n",
"    copy_commit();\n",
"    for (; at < end; at += warps) {\n",
"        float x[4][4];\n",
"        const int next = at + warps;\n",
"        if (next < end) here = load_fresh(s.page + next);\n",
"        copy_wait<1>();\n",
"        __syncwarp();\n",
"        page_scores(w, keys, x);\n",
"        __syncwarp(); // keys have been read\n",
"        if (next < end) load_keys<K, 32>(p, keys, (const char *)(here + s.at), lane);\n",
"        copy_commit();\n",
"        soften<4>(p, w, at * PAGE_TOKENS, scale, p.cap, x);\n",
"        copy_wait<1>();\n",
"        __syncwarp();\n",
"        page_values(w, values, x);\n",
"        __syncwarp();\n",
"        if (next < end) load_values<V, 32>(p, values, (const char *)(here + s.at), tokens(next), lane);\n",
"        copy_commit();\n",
"    }\n",
"\n",
"    // the warp's part, where its page was\n",
"    const int g = lane >> 2, t = lane & 3;\n",
"#pragma unroll\n",
"    for (int r = 0; r < 2; r++) {\n",
"        const u32 row = keys + ((g + 8 * r) * S::PITCH + 2 * t) * 4;\n",
"        float sum = w.sum[r];\n",
"        sum += __shfl_xor_sync(~0u, sum, 1);\n",
"        sum += __shfl_xor_sync(~0u, sum, 2);\n",
"#pragma unroll\n",
"        for (int n = 0; n < V / 8; n++)\n",
"            sts64(row + n * 32, make_uint2(__float_as_uint(w.o[n][2 * r]), __float_as_uint(w.o[n][2 * r + 1"
"])));\n",
"        if (t == 0) {\n",
"            sts_f32(keys + (S::M + g + 8 * r) * 4, w.m[r]);\n",
"            sts_f32(keys + (S::SUM + g + 8 * r) * 4, sum);\n",
"        }\n",
"    }\n",
"    __syncthreads();\n",
"    const int pairs = p.v_dim / 2, block = (int)(blockIdx.x * gridDim.y + blockIdx.y);\n",
"    const size_t size = 16 * (size_t)(p.v_dim + 2); // of a split\n",
"    float *partial = p.partial + (size_t)block * gridDim.z * size;\n",
"    for (int i = thread; i < queries * pairs; i += blockDim.x) {\n",
"        const int j = i / pairs, d = i % pairs * 2;\n",
"        float m = NO_SCORE, sum = 0, x = 0, y = 0;\n",
"        for (int k = 0; k < warps; k++) m = fmaxf(m, lds_f32(all + k * WARP + (S::M + j) * 4));\n",
"        for (int k = 0; k < warps; k++) {\n",
"            const u32 part = all + k * WARP;\n",
"            const float f = fast_exp2(lds_f32(part + (S::M + j) * 4) - m);\n",
"            const uint2 v = lds64(part + (j * S::PITCH + d) * 4);\n",
"            sum = fused(f, lds_f32(part + (S::SUM + j) * 4), sum);\n",
"            x = fused(f, __uint_as_float(v.x), x), y = fused(f, __uint_as_float(v.y), y);\n",
"        }\n",
"        if (splits == 1) {\n",
"            const Query q = query(p, s, j);\n",
"            const float inverse = 1.0f / total_weight(p, sum, m, q.head);\n",
"            store_out(p, q, d, x * inverse, y * inverse);\n",
"        } else {\n",
"            float *to = partial + split * size;\n",
"            store_global((float2 *)(to + j * p.v_dim + d), make_float2(x, y));\n",
"            if (d == 0) store_global(to + 16 * p.v_dim + j, m), store_global(to + 16 * p.v_dim + 16 + j, su"
"m);\n",
"        }\n",
"    }\n",
"    if (splits == 1) return;\n",
"    fence_gpu();\n",
"    __syncthreads(); // all have stored, and read what the flag lies over\n",
"    if (thread == 0) sts32(all, atomic_count(p.counters + block));\n",
"    __syncthreads();\n",
"    if (lds32(all) != (u32)splits - 1) return;\n",
"    fence_gpu();\n",
"    if (thread == 0) store_global(p.counters + block, 0u);\n",
"    for (int i = thread; i < queries * pairs; i += blockDim.x) {\n",
"        const int j = i / pairs, d = i % pairs * 2;\n",
"        const float *from = partial + 16 * p.v_dim + j;\n",
"        float m = NO_SCORE, sum = 0, x = 0, y = 0;\n",
"        for (int k = 0; k < splits; k++) m = fmaxf(m, load_fresh(from + k * size));\n",
"        for (int k = 0; k < splits; k++) {\n",
"            const float f = fast_exp2(load_fresh(from + k * size) - m);\n",
"            const uint2 v = load_fresh((const uint2 *)(partial + k * size + j * p.v_dim + d));\n",
"            sum = fused(f, load_fresh(from + k * size + 16), sum);\n",
"            x = fused(f, __uint_as_float(v.x), x), y = fused(f, __uint_as_float(v.y), y);\n",
"        }\n",
"        const Query q = query(p, s, j);\n",
"        const float inverse = 1.0f / total_weight(p, sum, m, q.head);\n",
"        store_out(p, q, d, x * inverse, y * inverse);\n",
"    }\n",
"}\n",
"/* ---- many queries: 128 of a tile (64 for the largest heads), all their keys\n",
"\n",
"   blockIdx: tile, kv head. 8 warps (4 for the largest heads) take 16 queries each and share the pages, PAG"
"ES\n",
"   at a time (cut at multiples of PAGES, whatever the tile), in two buffers: one is filled while the other "
"is\n",
"   used, with one barrier a step. Warps whose queries see nothing of a step, above the diagonal or before t"
"he\n",
"   window, leave it out. */\n",
"template <int K, int V, int PAGES, int MANY_THREADS> DEVICE void attend_many(const Attend &p)\n",
"{\n",
"    typedef Page<K, V> P;\n",
"    DYN_SMEM(smem);\n",
"    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, STEP = PAGES * PAGE_TOKENS;\n",
"    const u32 all = smem_address(smem);\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    Sight s;\n",
"    if (!sight(p, s)) return;\n",
"    const int queries = min(s.queries, MANY_THREADS / 2);\n",
"    const int page0 = query(p, s, 0).first / PAGE_TOKENS, last_key = query(p, s, queries - 1).last;\n",
"    const int begin = page0 / PAGES, end = last_key / STEP + 1;\n",
"    const float scale = score_scale(p);\n",
"    // what the warp's queries see: of the first one from, of the last one to\n",
"    const int from = query(p, s, 16 * warp).first, to = query(p, s, 16 * warp + 15).last;\n",
"    const bool idle = 16 * warp >= queries;\n",
"    Warp<K, V> w;\n",
"    warp_begin(p, s, 16 * warp, all + 2 * PAGES * P::BYTES + warp * Queries<K>::BYTES, w);\n",
"    for (int i = 0; i < 2 * PAGES; i++) clear_keys<K>(p, all + i * P::BYTES, thread, MANY_THREADS);\n",
"\n",
"    auto load = [&](int step) {\n",
"#pragma unroll\n",
"        for (int i = 0; i < PAGES; i++) {\n",
"            const int page = step * PAGES + i, there = page < page0 ? 0 : last_key + 1 - page * PAGE_TOKENS"
";\n",
"            const u32 keys = all + ((step & 1) * PAGES + i) * P::BYTES;\n",
"            const char *at = there > 0 ? (const char *)(load_fresh(s.page + page) + s.at) : 0;\n",
"            if (there > 0) load_keys<K, MANY_THREADS>(p, keys, at, thread);\n",
"            load_values<V, MANY_THREADS>(p, keys + P::KEYS, at, there, thread);\n",
"        }\n",
"        copy_commit();\n",
"    };\n",
"    load(begin);\n",
"#pragma unroll 1\n",
"    for (int step = begin; step < end; step++) {\n",
"        const int key = step * STEP;\n",
"        copy_wait<0>();\n",
"        __syncthreads(); // this step is here, and the one before has been used\n",
"        if (step + 1 < end) load(step + 1);\n",
"        if (idle || key > to || key + STEP <= from) continue;\n",
"        const u32 pages = all + (step & 1) * PAGES * P::BYTES;\n",
"        float x[4 * PAGES][4];\n",
"#pragma unroll\n",
"        for (int i = 0; i < PAGES; i++) page_scores(w, pages + i * P::BYTES, x + 4 * i);\n",
"        soften<4 * PAGES>(p, w, key, scale, p.cap, x);\n",
"#pragma unroll\n",
"        for (int i = 0; i < PAGES; i++) page_values(w, pages + i * P::BYTES + P::KEYS, x + 4 * i);\n",
"    }\n",
"    if (idle) return;\n",
"    const int t = lane & 3;\n",
"#pragma unroll\n",
"    for (int r = 0; r < 2; r++) {\n",
"        const int i = 16 * warp + (lane >> 2) + 8 * r;\n",
"        const Query q = query(p, s, i);\n",
"        float sum = w.sum[r];\n",
"        sum += __shfl_xor_sync(~0u, sum, 1);\n",
"        sum += __shfl_xor_sync(~0u, sum, 2);\n",
"        const float inverse = 1.0f / total_weight(p, sum, w.m[r], q.head);\n",
"#pragma unroll\n",
"        for (int n = 0; n < V / 8; n++)\n",
"            if (i < queries && n * 8 < p.v_dim)\n",
"                store_out(p, q, 8 * n + 2 * t, w.o[n][2 * r] * inverse, w.o[n][2 * r + 1] * inverse);\n",
"    }\n",
"}\n",
"\n",
"// the size of keys up to which a kernel is good; with AWQ_ATTEND defined as one of them only that size is\n",
"// compiled\n",
"#ifndef AWQ_ATTEND\n",
"#define AWQ_ATTEND 0\n",
"#endif\n",
"#if AWQ_ATTEND == 0 || AWQ_ATTEND == 64\n",
"KERNEL(awq_attend_split_64, 128, const Attend p) { attend_split<64, 64>(p); }\n",
"KERNEL(awq_attend_many_64, 256, const Attend p) { attend_many<64, 64, 2, 256>(p); }\n",
"#endif\n",
"#if AWQ_ATTEND == 0 || AWQ_ATTEND == 128\n",
"KERNEL(awq_attend_split_128, 128, const Attend p) { attend_split<128, 128>(p); }\n",
"KERNEL(awq_attend_many_128, 256, const Attend p) { attend_many<128, 128, 2, 256>(p); }\n",
"#endif\n",
"#if AWQ_ATTEND == 0 || AWQ_ATTEND == 192\n",
"KERNEL(awq_attend_split_192, 128, const Attend p) { attend_split<192, 128>(p); }\n",
"KERNEL(awq_attend_many_192, 256, const Attend p) { attend_many<192, 128, 1, 256>(p); }\n",
"#endif\n",
"#if AWQ_ATTEND == 0 || AWQ_ATTEND == 256\n",
"KERNEL(awq_attend_split_256, 128, const Attend p) { attend_split<256, 256>(p); }\n",
"#if AWQ_ARCH >= 800 // 96 KB of shared memory\n",
"KERNEL(awq_attend_many_256, 128, const Attend p) { attend_many<256, 256, 1, 128>(p); }\n",
"#endif\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_block[] = {
"/* block.cuh - what the kernels of rows.cuh, moe.cuh and attention.cuh share: sums over a block, rows of\n",
"   numbers in fp32 or halves, arithmetic with the CPU's roundings */\n",
"\n",
"// ---- arithmetic as awq.h has it: each operation rounds once, nothing is contracted to an fma\n",
"DEVICE float exact_mul_add(float a, float b, float c) { return __fadd_rn(__fmul_rn(a, b), c); }\n",
"\n",
"// awq__expf, bit for bit: the same experts are chosen, the same logits are equal\n",
"DEVICE float exact_exp(float x)\n",
"{\n",
"    if (x > 88.72283f) return __uint_as_float(0x7f800000);\n",
"    if (!(x >= -87.33654f)) return x != x ? x : 0.0f;\n",
"    float k = __fmul_rn(x, 1.44269504f);\n",
"    const int e = (int)__fadd_rn(k, k < 0 ? -0.5f : 0.5f);\n",
"    k = (float)e;\n",
"    float r = __fadd_rn(x, -__fmul_rn(k, 0.693359375f));\n",
"    r = __fadd_rn(r, -__fmul_rn(k, -2.12194440e-4f));\n",
"    float p = 1.9875691500e-4f;\n",
"    p = exact_mul_add(p, r, 1.3981999507e-3f);\n",
"    p = exact_mul_add(p, r, 8.3334519073e-3f);\n",
"    p = exact_mul_add(p, r, 4.1665795894e-2f);\n",
"    p = exact_mul_add(p, r, 1.6666665459e-1f);\n",
"    p = exact_mul_add(p, r, 5.0000001201e-1f);\n",
"    p = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(p, r), r), r), 1.0f);\n",
"    if (e > 127) return __fmul_rn(__fmul_rn(p, 1.7014118346046923e38f), 2.0f);\n",
"    return __fmul_rn(p, __uint_as_float((u32)(e + 127) << 23));\n",
"}\n",
"\n",
"DEVICE bool is_finite(float x) { return (__float_as_uint(x) & 0x7f800000) != 0x7f800000; }\n",
"\n",
"// Beyond f16 the largest f16, as in the CPU's cache; NaN stays NaN.\n",
"DEVICE float f16_range(float x) { return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x; }\n",
"DEVICE u32 halves_of(F16, float lo, float hi) { return f32_to_f16x2(f16_range(lo), f16_range(hi)); }\n",
"DEVICE u32 halves_of(BF16, float lo, float hi) { return f32_to_bf16x2(lo, hi); }\n",
"\n",
"// ---- sums: a tree within each warp, then the warps in a tree; the order depends on the block's size only\n",
"DEVICE float warp_sum(float v)\n",
"{\n",
"#pragma unroll\n",
"    for (int m = 16; m; m >>= 1) v += __shfl_xor_sync(~0u, v, m);\n",
"    return v;\n",
"}\n",
"enum { BLOCK_SUM = 128 }; // bytes of shared memory of a sum\n",
"// Every thread gets the sum. One barrier: a second sum needs memory of its own.\n",
"DEVICE float block_sum(float v, u32 memory)\n",
"{\n",
"    const int lane = threadIdx.x & 31, warps = (int)(blockDim.x >> 5);\n",
"    v = warp_sum(v);\n",
"    if (lane == 0) sts_f32(memory + (threadIdx.x >> 5) * 4, v);\n",
"    __syncthreads();\n",
"    return warp_sum(lane < warps ? lds_f32(memory + lane * 4) : 0.0f);\n",
"}\n",
"\n",
"// ---- rows: four numbers at a time, at once where they are aligned\n",
"DEVICE bool aligned(const void *p, int bytes) { return !((u64)p & (u64)(bytes - 1)); }\n",
"\n",
"// v[i .. i + 3] of a row of n, 0 beyond it. f32: the row is fp32, else halves.\n",
"template <class T> DEVICE float4 row_load(T dtype, const void *row, bool f32, int i, int n)\n",
"{\n",
"    float v[4] = {0, 0, 0, 0};\n",
"    if (f32) {\n",
"        const float *p = (const float *)row + i;\n",
"        if (i + 4 <= n && aligned(p, 16)) return load_fresh((const float4 *)p);\n",
"#pragma unroll\n",
"        for (int k = 0; k < 4; k++)\n",
"            if (i + k < n) v[k] = load_fresh(p + k);\n",
"    } else {\n",
"        const u16 *p = (const u16 *)row + i;\n",
"        if (i + 4 <= n && aligned(p, 8)) {\n",
"            const uint2 h = load_fresh((const uint2 *)p);\n",
"            const float2 lo = to_f32(dtype, h.x), hi = to_f32(dtype, h.y);\n",
"            return make_float4(lo.x, lo.y, hi.x, hi.y);\n",
"        }\n",
"#pragma unroll\n",
"        for (int k = 0; k < 4; k++)\n",
"            if (i + k < n) v[k] = to_f32(dtype, load_fresh(p + k)).x;\n",
"    }\n",
"    return make_float4(v[0], v[1], v[2], v[3]);\n",
"}\n",
"DEVICE float4 weights_load(const float *row, int i, int n) // constants\n",
"{\n",
"    const float *p = row + i;\n",
"    float v[4] = {0, 0, 0, 0};\n",
"    if (i + 4 <= n && aligned(p, 16)) return load_constant((const float4 *)p);\n",
"#pragma unroll\n",
"    for (int k = 0; k < 4; k++)\n",
"        if (i + k < n) v[k] = load_constant(p + k);\n",
"    return make_float4(v[0], v[1], v[2], v[3]);\n",
"}\n",
"DEVICE void row_store(float *row, int i, int n, float4 v)\n",
"{\n",
"    float *p = row + i;\n",
"    if (i + 4 <= n && aligned(p, 16)) {\n",
"        store_global((float4 *)p, v);\n",
"        return;\n",
"    }\n",
"    if (i < n) store_global(p, v.x);\n",
"    if (i + 1 < n) store_global(p + 1, v.y);\n",
"    if (i + 2 < n) store_global(p + 2, v.z);\n",
"    if (i + 3 < n) store_global(p + 3, v.w);\n",
"}\n",
"template <class T> DEVICE void row_store(T dtype, u16 *row, int i, int n, float4 v)\n",
"{\n",
"    u16 *p = row + i;\n",
"    const uint2 h = make_uint2(halves_of(dtype, v.x, v.y), halves_of(dtype, v.z, v.w));\n",
"    if (i + 4 <= n && aligned(p, 8)) {\n",
"        store_global((uint2 *)p, h);\n",
"        return;\n",
"    }\n",
"    if (i < n) store_global(p, (u16)h.x);\n",
"    if (i + 1 < n) store_global(p + 1, (u16)(h.x >> 16));\n",
"    if (i + 2 < n) store_global(p + 2, (u16)h.y);\n",
"    if (i + 3 < n) store_global(p + 3, (u16)(h.y >> 16));\n",
"}\n",
"DEVICE float4 lds_f32x4(u32 a)\n",
"{\n",
"    const uint4 v = lds128(a);\n",
"    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v."
"w));\n",
"}\n",
"DEVICE void sts_f32x4(u32 a, float4 v)\n",
"{\n",
"    sts128(a,\n",
"           make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w"
")));\n",
"}\n",
"DEVICE int padded(int n) { return (n + 63) & ~63; } // columns of what linears read\n",
"\n",
"// ---- the best of many logits, which are finite: as u64, above the logit as an integer of the same order,\n",
"// below ~index, so that equals go to the lower index\n",
"DEVICE u64 logit_key(float x, int index)\n",
"{\n",
"    const u32 bits = __float_as_uint(x + 0.0f); // -0 is 0\n",
"    return (u64)(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | (u32)~index;\n",
"}\n",
"DEVICE u64 warp_max64(u64 v)\n",
"{\n",
"#pragma unroll\n",
"    for (int m = 16; m; m >>= 1) {\n",
"        const u64 other = __shfl_xor_sync(~0u, v, m);\n",
"        v = other > v ? other : v;\n",
"    }\n",
"    return v;\n",
"}\n",
NULL};
static const char *const awq__cuda_text_common[] = {
"/* common.cuh - what the kernels of linear layers share: the 4-bit tile, its arithmetic, sums split over bl"
"ocks,\n",
"   stores\n",
"\n",
"   y [rows][n] = x [rows][k] w [n][k]^T, w = (q - z) s with a scale s and zero point z for each group of in"
"puts.\n",
"\n",
"   THE TILE. Weights are blocks of 64 outputs x 64 inputs, 2 KB, [n_pad / 64][k_pad / 64], so a block's nex"
"t\n",
"   along k follows it in memory. Within: 4 warps (16 outputs each) x 32 lanes x 4 words; word kk of lane (g"
" =\n",
"   lane / 4, t = lane % 4) is that lane's share of the 16 x 16 tile kk as mma.m16n8k16 and wgmma.m64k16 wan"
"t A:\n",
"\n",
"       bits    0-3      4-7      8-11     12-15    16-19    20-23    24-27     28-31\n",
"       output  g        g+8      g        g+8      g        g+8      g         g+8\n",
"       input   2t       2t       2t+8     2t+8     2t+1     2t+1     2t+9      2t+9        (+ 16 kk)\n",
"\n",
"   so nibbles j and j + 4 are neighbours along k and become the halves of one register. One layout serves e"
"very\n",
"   kernel: lanes read 16 bytes each, a warp 512 in a row, and nothing is shuffled afterwards.\n",
"\n",
"   PARAMETERS sz [groups][n_pad] u32: low half s as f16, high half 1024 + z as f16, that is 0x6400 + z. By "
"group\n",
"   first: the 16 outputs of a warp are 64 bytes in a row, for bulk copies 256 bytes a block; [n_pad][groups"
"]\n",
"   would touch 16 sectors of 32 bytes for 4 bytes of each. The scale is f16 for bf16 activations too: bf16 "
"would\n",
"   lose 3 of its bits. Padding of n and k has scale 0.\n",
"\n",
"   q - z is exact in f16 and bf16 (integers below 256). The scale is never folded into that step: rounding\n",
"   (1024 + z) s would cost half a scale. */\n",
"\n",
"// dtype of activations\n",
"struct F16 {\n",
"    static const bool bf16 = false;\n",
"};\n",
"struct BF16 {\n",
"    static const bool bf16 = true;\n",
"};\n",
"\n",
"// awq_cuda_linear of plan.h, which says what each member is\n",
"struct Linear {\n",
"    void *y;\n",
"    const u16 *x;\n",
"    const uint4 *w;\n",
"    const u32 *sz;\n",
"    const float *bias;\n",
"    float *partial;\n",
"    u32 *counters;\n",
"    u64 *best;\n",
"    int rows, n, n_pad, k_tiles, x_stride, y_stride, group, splits, flags;\n",
"    u32 group_reciprocal;\n",
"};\n",
"enum { LINEAR_Y_F32 = 1, LINEAR_ADD = 2 };\n",
"\n",
"// index of the group of tile t, groups of at least 64: t / (group / 64), exact for k up to 65536\n",
"DEVICE int group_of(const Linear &p, int tile) { return (int)(((u32)tile * p.group_reciprocal) >> 20); }\n",
"\n",
"// ---- q - z\n",
"// what is subtracted, for output g in .x and g + 8 in .y\n",
"DEVICE uint2 zero_points(F16, u32 sz_g, u32 sz_g8)\n",
"{\n",
"    // 1024 + z is 0x6400 + z; -(64 + z) is 0xd400 + 16 z: 16 times the pair of the former, plus what is mi"
"ssing\n",
"    return make_uint2(__byte_perm(sz_g, 0, 0x3232), __byte_perm(sz_g8, 0, 0x3232) * 16 + 0x93fa9400u);\n",
"}\n",
"// eight weights to h[4], A of mma: h[0], h[2] output g, h[1], h[3] output g + 8\n",
"DEVICE void dequantize(F16, u32 q, uint2 z, u32 *h)\n",
"{\n",
"    const u32 low = 0x000f000fu, high = 0x00f000f0u, one = 0x64006400u, sixteenth = 0x2c002c00u;\n",
"    u32 r = q >> 8;\n",
"    h[0] = f16x2_sub(lop3<0xEA>(q, low, one), z.x);             // (1024 + q) - (1024 + z)\n",
"    h[1] = f16x2_fma(lop3<0xEA>(q, high, one), sixteenth, z.y); // (1024 + 16 q) / 16 - (64 + z)\n",
"    h[2] = f16x2_sub(lop3<0xEA>(r, low, one), z.x);\n",
"    h[3] = f16x2_fma(lop3<0xEA>(r, high, one), sixteenth, z.y);\n",
"}\n",
"DEVICE u32 scale_pair(F16, u32 sz) { return __byte_perm(sz, 0, 0x1010); }\n",
"DEVICE u32 multiply(F16, u32 a, u32 b) { return f16x2_mul(a, b); }\n",
"DEVICE void mma(F16, float *d, const u32 *a, const u32 *b) { mma_f16(d, a, b); }\n",
"DEVICE float2 to_f32(F16, u32 h) { return f16x2_to_f32(h); }\n",
"DEVICE u32 from_f32(F16, float lo, float hi) { return f32_to_f16x2(lo, hi); }\n",
"DEVICE float scale_f32(u32 sz) { return f16x2_to_f32(sz).x; }\n",
"\n",
"DEVICE float2 to_f32(BF16, u32 h) { return bf16x2_to_f32(h); }\n",
"DEVICE u32 from_f32(BF16, float lo, float hi) { return f32_to_bf16x2(lo, hi); }\n",
"// eight 8-bit weights, lo: inputs 2t, 2t + 1, hi: + 8\n",
"DEVICE void dequantize8(F16, u32 lo, u32 hi, uint2 z, u32 *h)\n",
"{\n",
"    const u32 exponent = 0x64646464u; // a byte above: 1024 + q\n",
"    h[0] = f16x2_sub(__byte_perm(lo, exponent, 0x4140), z.x);\n",
"    h[1] = f16x2_sub(__byte_perm(lo, exponent, 0x4342), z.y);\n",
"    h[2] = f16x2_sub(__byte_perm(hi, exponent, 0x4140), z.x);\n",
"    h[3] = f16x2_sub(__byte_perm(hi, exponent, 0x4342), z.y);\n",
"}\n",
"#if AWQ_HAS_BF16\n",
"DEVICE uint2 zero_points(BF16, u32 sz_g, u32 sz_g8)\n",
"{\n",
"    // -(128 + z) is 0xc300 + z, where the parameters have 0x6400 + z\n",
"    return make_uint2(__byte_perm(sz_g, 0, 0x3232) + 0x5f005f00u, __byte_perm(sz_g8, 0, 0x3232) + 0x5f005f0"
"0u);\n",
"}\n",
"DEVICE void dequantize(BF16, u32 q, uint2 z, u32 *h)\n",
"{\n",
"    const u32 low = 0x000f000fu, base = 0x43004300u, one = 0x3f803f80u; // 128 + q\n",
"    h[0] = bf16x2_fma(lop3<0xEA>(q, low, base), one, z.x);\n",
"    h[1] = bf16x2_fma(lop3<0xEA>(q >> 4, low, base), one, z.y);\n",
"    h[2] = bf16x2_fma(lop3<0xEA>(q >> 8, low, base), one, z.x);\n",
"    h[3] = bf16x2_fma(lop3<0xEA>(q >> 12, low, base), one, z.y);\n",
"}\n",
"// 128 + q is no bf16 for 8 bits, q - z is: by way of fp32, 2^23 + q\n",
"DEVICE float byte_less(u32 q, int byte, u32 z)\n",
"{\n",
"    return __uint_as_float(__byte_perm(q, 0x4b000000u, 0x7440 | byte)) - __uint_as_float(z);\n",
"}\n",
"DEVICE void dequantize8(BF16, u32 lo, u32 hi, uint2 z, u32 *h)\n",
"{\n",
"    h[0] = f32_to_bf16x2(byte_less(lo, 0, z.x), byte_less(lo, 1, z.x));\n",
"    h[1] = f32_to_bf16x2(byte_less(lo, 2, z.y), byte_less(lo, 3, z.y));\n",
"    h[2] = f32_to_bf16x2(byte_less(hi, 0, z.x), byte_less(hi, 1, z.x));\n",
"    h[3] = f32_to_bf16x2(byte_less(hi, 2, z.y), byte_less(hi, 3, z.y));\n",
"}\n",
"DEVICE u32 scale_pair(BF16, u32 sz)\n",
"{\n",
"    float s = scale_f32(sz);\n",
"    return f32_to_bf16x2(s, s);\n",
"}\n",
"DEVICE u32 multiply(BF16, u32 a, u32 b) { return bf16x2_mul(a, b); }\n",
"DEVICE void mma(BF16, float *d, const u32 *a, const u32 *b) { mma_bf16(d, a, b); }\n",
"#endif\n",
"\n",
"// ---- activations in shared memory\n",
"// A tile of x is rows of 64 halves, 128 bytes; chunk c (16 bytes) of row r lies at chunk c ^ (r % 8). Then"
" the\n",
"// 8 rows that ldmatrix reads at once are in different banks, and it is the order that wgmma calls 128-byte\n",
"// swizzle.\n",
"DEVICE u32 x_chunk(u32 tile, int row, int chunk) { return tile + row * 128 + ((chunk ^ (row & 7)) << 4); }\n",
"\n",
"/* ---- how weights are stored\n",
"   BYTES of a block of 64 outputs x 64 inputs, read in chunks of 16: source() is the first tile's chunk in "
"uint4\n",
"   from p.w, NEXT the distance of the next tile's, place() where it goes in shared memory. The 16 outputs o"
"f a\n",
"   warp are a quarter of it; Words holds what a lane needs of them, read at lane_at() of the quarter, and\n",
"   fragment() makes A of the mma at inputs 16 kk .. of it. */\n",
"struct Bits4 { // the tile above\n",
"    static const int BYTES = 2048, NEXT = 128;\n",
"    static const bool SCALED = true;\n",
"    static DEVICE_MEMBER u32 source(const Linear &p, int block, int tile, int chunk)\n",
"    {\n",
"        return (block * p.k_tiles + tile) * 128 + chunk;\n",
"    }\n",
"    static DEVICE_MEMBER u32 place(int chunk) { return chunk * 16; }\n",
"    static DEVICE_MEMBER u32 lane_at(int lane) { return lane * 16; }\n",
"    struct Words {\n",
"        u32 q[4];\n",
"        DEVICE_MEMBER void set(const uint4 *v) { q[0] = v->x, q[1] = v->y, q[2] = v->z, q[3] = v->w; }\n",
"        DEVICE_MEMBER void load(u32 at)\n",
"        {\n",
"            const uint4 v = lds128(at);\n",
"            set(&v);\n",
"        }\n",
"        template <class T> DEVICE_MEMBER void fragment(T dtype, int kk, uint2 z, u32 *a) const\n",
"        {\n",
"            dequantize(dtype, q[kk], z, a);\n",
"        }\n",
"    };\n",
"};\n",
"// 4 KB: 4 warps x 2 halves of 32 inputs x 32 lanes x 16 bytes. Half j has, for kk = 2j and 2j + 1, two wor"
"ds:\n",
"// bytes (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1), then the same at inputs + 8.\n",
"struct Bits8 {\n",
"    static const int BYTES = 4096, NEXT = 256;\n",
"    static const bool SCALED = true;\n",
"    static DEVICE_MEMBER u32 source(const Linear &p, int block, int tile, int chunk)\n",
"    {\n",
"        return (block * p.k_tiles + tile) * 256 + chunk;\n",
"    }\n",
"    static DEVICE_MEMBER u32 place(int chunk) { return chunk * 16; }\n",
"    static DEVICE_MEMBER u32 lane_at(int lane) { return lane * 16; }\n",
"    struct Words {\n",
"        u32 q[8];\n",
"        DEVICE_MEMBER void set(const uint4 *v)\n",
"        {\n",
"            q[0] = v[0].x, q[1] = v[0].y, q[2] = v[0].z, q[3] = v[0].w;\n",
"            q[4] = v[1].x, q[5] = v[1].y, q[6] = v[1].z, q[7] = v[1].w;\n",
"        }\n",
"        DEVICE_MEMBER void load(u32 at)\n",
"        {\n",
"            const uint4 v[2] = {lds128(at), lds128(at + 512)};\n",
"            set(v);\n",
"        }\n",
"        template <class T> DEVICE_MEMBER void fragment(T dtype, int kk, uint2 z, u32 *a) const\n",
"        {\n",
"            dequantize8(dtype, q[2 * kk], q[2 * kk + 1], z, a);\n",
"        }\n",
"    };\n",
"};\n",
"// [n][64 k_tiles] halves in rows, padded with zeros along k; in shared memory as tiles of x\n",
"struct Dense {\n",
"    static const int BYTES = 8192, NEXT = 8;\n",
"    static const bool SCALED = false;\n",
"    static DEVICE_MEMBER u32 source(const Linear &p, int block, int tile, int chunk)\n",
"    {\n",
"        return (u32)min(block * 64 + chunk / 8, p.n - 1) * (p.k_tiles * 8) + tile * 8 + chunk % 8;\n",
"    }\n",
"    static DEVICE_MEMBER u32 place(int chunk) { return x_chunk(0, chunk / 8, chunk % 8); }\n",
"    static DEVICE_MEMBER u32 lane_at(int lane) { return x_chunk(0, lane & 15, lane >> 4); }\n",
"    struct Words {\n",
"        u32 at;\n",
"        DEVICE_MEMBER void load(u32 a) { at = a; }\n",
"        template <class T> DEVICE_MEMBER void fragment(T, int kk, uint2, u32 *a) const\n",
"        {\n",
"            ldmatrix4(a, at ^ kk << 5); // chunk + 2 kk\n",
"        }\n",
"    };\n",
"};\n",
"template <class T> DEVICE uint2 zero_points(Bits4, T dtype, u32 sz_g, u32 sz_g8)\n",
"{\n",
"    return zero_points(dtype, sz_g, sz_g8);\n",
"}\n",
"template <class T> DEVICE uint2 zero_points(Dense, T, u32, u32) { return make_uint2(0, 0); }\n",
"DEVICE uint2 zero_points(Bits8, F16, u32 sz_g, u32 sz_g8)\n",
"{\n",
"    return make_uint2(__byte_perm(sz_g, 0, 0x3232), __byte_perm(sz_g8, 0, 0x3232)); // 1024 + z\n",
"}\n",
"DEVICE uint2 zero_points(Bits8, BF16, u32 sz_g, u32 sz_g8)\n",
"{\n",
"    return make_uint2(0x4b000000u | (sz_g >> 16 & 255), 0x4b000000u | (sz_g8 >> 16 & 255)); // 2^23 + z as "
"fp32\n",
"}\n",
"\n",
"// ---- results\n",
"// outputs out (even) and the next of one row; returns what they are\n",
"template <class T> DEVICE float2 store_pair(T dtype, const Linear &p, int row, int out, float2 v)\n",
"{\n",
"    const int both = out + 1 < p.n;\n",
"    const size_t at = (size_t)row * p.y_stride + out;\n",
"    if (out >= p.n) return v;\n",
"    if (p.bias) {\n",
"        v.x += load_constant(p.bias + out);\n",
"        if (both) v.y += load_constant(p.bias + out + 1);\n",
"    }\n",
"    if (p.flags & LINEAR_Y_F32) {\n",
"        float *y = (float *)p.y + at;\n",
"        if (p.flags & LINEAR_ADD) {\n",
"            v.x += load_fresh((const float *)y);\n",
"            if (both) v.y += load_fresh((const float *)y + 1);\n",
"        }\n",
"        if (both && !((u64)y & 7)) store_global((float2 *)y, v);\n",
"        else {\n",
"            store_global(y, v.x);\n",
"            if (both) store_global(y + 1, v.y);\n",
"        }\n",
"    } else {\n",
"        u16 *y = (u16 *)p.y + at;\n",
"        if (p.flags & LINEAR_ADD) {\n",
"            v.x += to_f32(dtype, load_fresh((const u16 *)y)).x;\n",
"            if (both) v.y += to_f32(dtype, load_fresh((const u16 *)y + 1)).x;\n",
"        }\n",
"        const u32 h = from_f32(dtype, v.x, v.y);\n",
"        if (both && !((u64)y & 3)) store_global((u32 *)y, h);\n",
"        else {\n",
"            store_global(y, (u16)h);\n",
"            if (both) store_global(y + 1, (u16)(h >> 16));\n",
"        }\n",
"    }\n",
"    return v;\n",
"}\n",
"\n",
"// The largest output of a row, of equal ones the first: keys grow with the value, then with the index fall"
"ing.\n",
"// NaN is 0, less than any number. p.best [rows] starts at 0.\n",
"DEVICE u64 best_key(float v, int out)\n",
"{\n",
"    const u32 bits = __float_as_uint(v), ordered = bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);\n",
"    return v == v ? (u64)ordered << 32 | (0xffffffffu - (u32)out) : 0;\n",
"}\n",
"// lanes of a row are LANES neighbours; one atomic for each of their groups\n",
"template <int LANES> DEVICE void best_of_lanes(const Linear &p, int row, u64 key)\n",
"{\n",
"#pragma unroll\n",
"    for (int m = 1; m < LANES; m *= 2) {\n",
"        const u64 other = __shfl_xor_sync(~0u, key, m);\n",
"        if (other > key) key = other;\n",
"    }\n",
"    if ((threadIdx.x & (LANES - 1)) == 0 && key) atomic_max64(p.best + row, key);\n",
"}\n",
"\n",
"// Sums go through shared memory, [PARTS][ROWS][OUTS] fp32 with rows of OUTS + 4: lane (g, t) of an mma wri"
"tes\n",
"// output g of rows 2t and 2t + 1, and 2t (OUTS + 4) + g are 32 different banks. Then stores run along outp"
"uts,\n",
"// and parts (warps that shared k) are added in order.\n",
"template <int ROWS, int OUTS> struct Sums {\n",
"    static const int PITCH = OUTS + 4, BYTES = ROWS * PITCH * 4;\n",
"};\n",
"template <int OUTS> DEVICE void sums_put(u32 sums, int row, int out, const float *d)\n",
"{\n",
"    const int lane = threadIdx.x & 31;\n",
"    const u32 at = sums + ((row + 2 * (lane & 3)) * (OUTS + 4) + out + (lane >> 2)) * 4;\n",
"    sts_f32(at, d[0]), sts_f32(at + (OUTS + 4) * 4, d[1]);\n",
"    sts_f32(at + 32, d[2]), sts_f32(at + (OUTS + 4) * 4 + 32, d[3]);\n",
"}\n",
"\n",
"// of all threads of a block (id 0), or of those that use the same id of 1 .. 15\n",
"DEVICE void barrier(int id, int threads)\n",
"{\n",
"    if (id) named_barrier(id, threads);\n",
"    else __syncthreads();\n",
"}\n",
"\n",
"// Adds the parts, then the sums of all blocks of this tile if k was split over p.splits blocks, and stores"
".\n",
"// Each block leaves its sums in partial [tile][split][ROWS * OUTS]; the one that comes last, by counters ["
"tile]\n",
"// (zero, and left zero), adds them in the order of splits: same bits from run to run whoever that is. Call"
"ed by\n",
"// all `threads` after a barrier; they meet at barrier id. flag: 4 bytes of shared memory.\n",
"template <int ROWS, int OUTS, int PARTS, class T>\n",
"DEVICE void sums_store(T dtype, const Linear &p, u32 sums, int row0, int out0, int tile, int split, int thr"
"ead,\n",
"                       int threads, u32 flag, int id = 0)\n",
"{\n",
"    typedef Sums<ROWS, OUTS> S;\n",
"    const int pairs = min(ROWS, p.rows - row0) * (OUTS / 2);\n",
"    float *all = p.partial + (size_t)tile * p.splits * ROWS * OUTS;\n",
"    auto own = [&](int i) { // pair i: outputs i % (OUTS / 2) * 2 and the next of row i / (OUTS / 2)\n",
"        const u32 at = sums + (i / (OUTS / 2) * S::PITCH + i % (OUTS / 2) * 2) * 4;\n",
"        float2 v = make_float2(0, 0);\n",
"#pragma unroll\n",
"        for (int k = 0; k < PARTS; k++) {\n",
"            const uint2 part = lds64(at + k * S::BYTES);\n",
"            v.x += __uint_as_float(part.x), v.y += __uint_as_float(part.y);\n",
"        }\n",
"        return v;\n",
"    };\n",
"    if (p.splits > 1) {\n",
"#pragma unroll 1\n",
"        for (int i = thread; i < pairs; i += threads)\n",
"            store_global((float2 *)(all + (size_t)split * ROWS * OUTS) + i, own(i));\n",
"        fence_gpu();\n",
"        barrier(id, threads);\n",
"        if (thread == 0) sts32(flag, atomic_count(p.counters + tile));\n",
"        barrier(id, threads);\n",
"        if (lds32(flag) != (u32)p.splits - 1) return;\n",
"        fence_gpu();\n",
"        if (thread == 0) store_global(p.counters + tile, 0u);\n",
"    }\n",
"#pragma unroll 1\n",
"    for (int i = thread; i < (pairs + 31) / 32 * 32; i += threads) { // whole warps: best_of_lanes\n",
"        const int row = row0 + i / (OUTS / 2), out = out0 + i % (OUTS / 2) * 2;\n",
"        u64 key = 0;\n",
"        if (i < pairs) {\n",
"            float2 v = make_float2(0, 0);\n",
"            if (p.splits == 1) v = own(i);\n",
"            else\n",
"#pragma unroll 4\n",
"                for (int s = 0; s < p.splits; s++) {\n",
"                    const uint2 part = load_fresh((const uint2 *)(all + (size_t)s * ROWS * OUTS) + i);\n",
"                    v.x += __uint_as_float(part.x), v.y += __uint_as_float(part.y);\n",
"                }\n",
"            v = store_pair(dtype, p, row, out, v);\n",
"            if (out < p.n) key = best_key(v.x, out);\n",
"            if (out + 1 < p.n && best_key(v.y, out + 1) > key) key = best_key(v.y, out + 1);\n",
"        }\n",
"        if (p.best) best_of_lanes<(OUTS < 64 ? OUTS / 2 : 32)>(p, row, key);\n",
"    }\n",
"}\n",
"\n",
"// the part of the k tiles that is this block's, of p.splits\n",
"DEVICE int split_begin(const Linear &p, int split) { return (int)((u32)(p.k_tiles * split) / (u32)p.splits)"
"; }\n",
"\n",
"/* ---- 1 to 4 rows: weights straight to registers\n",
"\n",
"   A block is 16 outputs, 8 warps share k: warp i takes tiles i, i + 8 ... One block per 16 outputs gives e"
"nough\n",
"   blocks without splitting k over blocks (4096 outputs: 256 for 132 SMs, two on each), and as a weight is "
"used\n",
"   by one lane only, shared memory would be a detour for it.\n",
"\n",
"   Bytes in flight. By Little's law an H200 (4.3 TB/s, some 650 ns) needs 2.8 MB under way, 21 KB on each S"
"M. A\n",
"   lane has 8 loads of 16 bytes under way before it uses the first: 8 x 32 x 8 x 16 = 32 KB a block, 64 KB "
"on an\n",
"   SM with two (92 registers a thread on sm_90). At k = 4096 that is the whole slice of the block: it is as"
"ked\n",
"   for at once, before pdl_wait(), so while the kernel before is still running.\n",
"\n",
"   Instructions. SASS of sm_90 (NVRTC 13.0) has 77 for a tile, 19 for 8 weights of a lane: 9 to dequantize,"
" 1\n",
"   mma, 1.5 for parameters, 1 for the scale, the rest loads, addresses, waits, the loop. 4 a clock on each "
"of\n",
"   132 SMs at 1.755 GHz take in 6.2 TB/s by that count. On CUDA cores each row would cost 4 more for 8 weig"
"hts,\n",
"   and conversions; one mma does all rows and sums in fp32. The scale is applied to the sum of a group, 4 f"
"ma in\n",
"   fp32 per 64 inputs, so weights are exact. Columns without a row cost nothing: ldmatrix reads row 0 for t"
"hem\n",
"   and nobody looks at the result.\n",
"\n",
"   x comes tile by tile through cp.async, a 16-byte copy for each of rows x 8 lanes, a ring as deep as that"
" of\n",
"   the weights, private to the warp: no barrier of the block until the sums are added. */\n",
"enum { GEMV_WARPS = 8, GEMV_ROWS = 4 };\n",
"\n",
"// FORMAT: Bits4 or Bits8; FINE: groups of 32, two in a tile; block: of 16 outputs\n",
"template <class FORMAT, bool FINE, class T>\n",
"DEVICE void linear_gemv(T dtype, const Linear &p, int block = blockIdx.x, int split = blockIdx.y)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const int LOADS = FORMAT::BYTES / 2048;        // of 16 bytes for a tile\n",
"    const int GEMV_DEPTH = (FINE ? 6 : 8) / LOADS; // what 128 registers hold\n",
"    const int SLOT = GEMV_ROWS * 128, TURN = GEMV_DEPTH * GEMV_WARPS;\n",
"    // the warp's number as the compiler sees that it is the same for all lanes: branches without divergenc"
"e\n",
"    const int lane = threadIdx.x & 31, warp = __shfl_sync(~0u, (int)threadIdx.x >> 5, 0), rows = p.rows;\n",
"    const int first = split_begin(p, split) + warp, last = split_begin(p, split + 1);\n",
"    const u64 policy = evict_first_policy();\n",
"    const int x_row = (lane & 7) < rows ? lane & 7 : 0; // that ldmatrix asks of this lane\n",
"    const bool x_lane = lane < rows * 8;\n",
"    const u32 x_ring = smem_address(smem) + warp * GEMV_DEPTH * SLOT;\n",
"    const u32 x_to = keep(x_chunk(x_ring, lane >> 3, lane & 7)),\n",
"              x_from = keep(x_chunk(x_ring, x_row, lane >> 3));\n",
"    const u32 sz_row = p.n_pad * 4;\n",
"    const u8 *sz = keep((const u8 *)(p.sz + (block * 16 + (lane >> 2))));\n",
"    const uint4 *w = p.w + ((size_t)(block / 4) * p.k_tiles * 4 + block % 4) * 32 * LOADS + lane\n",
"                     + first * FORMAT::NEXT;\n",
"    const u16 *x = p.x + (size_t)(lane >> 3) * p.x_stride + (lane & 7) * 8 + first * 64;\n",
"    uint4 q[GEMV_DEPTH][LOADS];\n",
"    uint2 s[GEMV_DEPTH][FINE ? 2 : 1]; // parameters of outputs g and g + 8\n",
"    float sum[4] = {0, 0, 0, 0};\n",
"\n",
"    auto load_tile = [&](int i, int tile) {\n",
"        const u32 *at = (const u32 *)(sz + (u64)(u32)(FINE ? 2 * tile : group_of(p, tile)) * sz_row);\n",
"#pragma unroll\n",
"        for (int j = 0; j < LOADS; j++)\n",
"            q[i][j] = load_weights(w + i * GEMV_WARPS * FORMAT::NEXT + j * 32, policy);\n",
"        s[i][0] = make_uint2(load_constant(at), load_constant(at + 8));\n",
"        if (FINE) s[i][FINE] = make_uint2(load_constant(at + p.n_pad), load_constant(at + p.n_pad + 8));\n",
"    };\n",
"    auto load_x = [&](int i) {\n",
"        if (x_lane) copy16(x_to + i * SLOT, x + i * GEMV_WARPS * 64);\n",
"    };\n",
"\n",
"#pragma unroll\n",
"    for (int i = 0; i < GEMV_DEPTH; i++)\n",
"        if (first + i * GEMV_WARPS < last) load_tile(i, first + i * GEMV_WARPS);\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"#pragma unroll\n",
"    for (int i = 0; i < GEMV_DEPTH; i++) {\n",
"        if (first + i * GEMV_WARPS < last) load_x(i);\n",
"        copy_commit();\n",
"    }\n",
"    for (int base = first; base < last; base += TURN) {\n",
"        w = keep(w + TURN * FORMAT::NEXT), x = keep(x + TURN * 64); // of the tiles to load\n",
"#pragma unroll\n",
"        for (int i = 0; i < GEMV_DEPTH; i++) {\n",
"            const int tile = base + i * GEMV_WARPS;\n",
"            if (tile >= last) break;\n",
"            typename FORMAT::Words words;\n",
"            words.set(q[i]);\n",
"            u32 b[8];\n",
"            copy_wait<GEMV_DEPTH - 1>();\n",
"            __syncwarp();\n",
"            ldmatrix4(b, x_from + i * SLOT);\n",
"            ldmatrix4(b + 4, (x_from ^ 64) + i * SLOT); // chunks 4 to 7\n",
"#pragma unroll\n",
"            for (int half = 0; half < (FINE ? 2 : 1); half++) {\n",
"                const uint2 z = zero_points(FORMAT(), dtype, s[i][half].x, s[i][half].y);\n",
"                const float scale = scale_f32(s[i][half].x), scale8 = scale_f32(s[i][half].y);\n",
"                float part[4] = {0, 0, 0, 0};\n",
"#pragma unroll\n",
"                for (int kk = 2 * half; kk < (FINE ? 2 * half + 2 : 4); kk++) {\n",
"                    u32 a[4];\n",
"                    words.fragment(dtype, kk, z, a);\n",
"                    mma(dtype, part, a, b + 2 * kk);\n",
"                }\n",
"                sum[0] = fused(scale, part[0], sum[0]), sum[1] = fused(scale, part[1], sum[1]);\n",
"                sum[2] = fused(scale8, part[2], sum[2]), sum[3] = fused(scale8, part[3], sum[3]);\n",
"            }\n",
"            __syncwarp(); // x of this tile has been read\n",
"            if (tile + TURN < last) load_tile(i, tile + TURN), load_x(i);\n",
"            copy_commit();\n",
"        }\n",
"    }\n",
"\n",
"    // what the warps have, [8 warps][8 rows of x][16 outputs]\n",
"    const u32 sums = smem_address(smem) + 16;\n",
"    __syncthreads();\n",
"    sums_put<16>(sums + warp * Sums<8, 16>::BYTES, 0, 0, sum);\n",
"    __syncthreads();\n",
"    sums_store<8, 16, GEMV_WARPS>(dtype, p, sums, 0, block * 16, block, split, threadIdx.x,\n",
"                                  32 * GEMV_WARPS, sums - 16);\n",
"}\n",
"\n",
"/* ---- some rows, many rows: weights and x through shared memory\n",
"\n",
"   A block is NB x 64 outputs by ROWS = 8 NT WT rows of x (x_block: which rows; w_block: which\n",
"   outputs, so that blocks with the same weights run at the same time), k over splits. Its warps are\n",
"   arranged [WK along k][WT along rows][the rest along outputs]; a warp has MT x NT mma tiles. A step takes"
" WK\n",
"   tiles of k, one for each group of warps, through STAGES buffers filled by cp.async STAGES - 1 steps ahea"
"d.\n",
"\n",
"   EXACT: the scale is applied in fp32 to the sum of a group (of 64 inputs at most), so weights are exact: "
"as\n",
"   long as NT <= 4 that costs no more than scaling the weights, and half the rounding is gone. Otherwise we"
"ights\n",
"   are rounded to the dtype of x, as any library that dequantizes first does.\n",
"\n",
"   FORMAT is how weights are stored: Bits4, Bits8 or Dense, see there. */\n",
"#if AWQ_ARCH < 800\n",
"enum { STAGES = 2 }; // 64 KB of shared memory, and copies that are done when issued\n",
"#elif AWQ_ARCH == 860 || AWQ_ARCH == 880 || AWQ_ARCH == 890 || AWQ_ARCH >= 1200\n",
"enum { STAGES = 3 }; // 99 KB\n",
"#else\n",
"enum { STAGES = 4 };\n",
"#endif\n",
"\n",
"template <class FORMAT, int NB, int NT, int WT, int WK> struct Stage {\n",
"    static const int ROWS = 8 * NT * WT;\n",
"    // bytes of one k tile; sz: room for two groups\n",
"    static const int W = NB * FORMAT::BYTES, SZ = FORMAT::SCALED ? NB * 512 : 0, X = ROWS * 128;\n",
"    static const int TILE = W + SZ + X; // w and x begin at a multiple of 512\n",
"    static const int BYTES = WK * TILE;\n",
"};\n",
"\n",
"template <class FORMAT, int NB, int MT, int NT, int WT, int WK, bool EXACT, class T>\n",
"DEVICE void linear_mma(T dtype, const Linear &p, int x_block = blockIdx.x, int split = blockIdx.y,\n",
"                       int w_block = blockIdx.z)\n",
"{\n",
"    typedef Stage<FORMAT, NB, NT, WT, WK> S;\n",
"    const int WO = NB * 4 / MT, THREADS = 32 * WO * WT * WK; // warps along outputs\n",
"    DYN_SMEM(smem);\n",
"    const u32 base = smem_address(smem);\n",
"    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, g = lane >> 2;\n",
"    const int wo = warp % WO, wt = warp / WO % WT, wk = warp / (WO * WT);\n",
"    const int row0 = x_block * S::ROWS;\n",
"    const int first = split_begin(p, split), last = split_begin(p, split + 1);\n",
"    const int blocks = p.n_pad / 64;\n",
"    const int fine = FORMAT::SCALED && p.group == 32; // two groups a tile\n",
"    const u64 policy = evict_first_policy();\n",
"    float sum[MT][NT][4];\n",
"#pragma unroll\n",
"    for (int i = 0; i < MT * NT * 4; i++) (&sum[0][0][0])[i] = 0;\n",
"\n",
"    // What this thread copies in each step, 16 bytes each: W_CHUNKS of weights, X_CHUNKS of x, one of\n",
"    // parameters (some threads). Chunk j of a thread is chunk thread + j THREADS of the step, which is tha"
"t of\n",
"    // j = 0 plus what does not depend on the thread. Blocks past the last one and rows past the last one a"
"re\n",
"    // read again instead; what they sum is not stored.\n",
"    const int TILE_CHUNKS = NB * FORMAT::BYTES / 16, W_CHUNKS = WK * TILE_CHUNKS / THREADS;\n",
"    const int ROW_CHUNKS = 8 * S::ROWS, X_CHUNKS = (WK * ROW_CHUNKS + THREADS - 1) / THREADS, NONE = 1 << 3"
"0;\n",
"    static_assert(WK * TILE_CHUNKS % THREADS == 0 && WK * NB * 32 <= THREADS, \"chunks for whole threads\")"
";\n",
"    static_assert(THREADS % ROW_CHUNKS == 0 || ROW_CHUNKS % THREADS == 0, \"j adds the same to all threads"
"\");\n",
"    auto w_place = [&](int i) { // of chunk i of a step\n",
"        return i / TILE_CHUNKS * S::TILE + i % TILE_CHUNKS / (TILE_CHUNKS / NB) * FORMAT::BYTES\n",
"               + FORMAT::place(i % (TILE_CHUNKS / NB));\n",
"    };\n",
"    auto x_place = [&](int i) { return x_chunk(i / ROW_CHUNKS * S::TILE, i / 8 % S::ROWS, i % 8); };\n",
"    const uint4 *w[W_CHUNKS]; // of the next step\n",
"    const u16 *x[X_CHUNKS];\n",
"#pragma unroll\n",
"    for (int j = 0; j < W_CHUNKS; j++) {\n",
"        const int i = thread + j * THREADS, b = i % TILE_CHUNKS / (TILE_CHUNKS / NB);\n",
"        w[j] = p.w\n",
"               + FORMAT::source(p, min(w_block * NB + b, blocks - 1), first + i / TILE_CHUNKS,\n",
"                                i % (TILE_CHUNKS / NB));\n",
"    }\n",
"#pragma unroll\n",
"    for (int j = 0; j < X_CHUNKS; j++) {\n",
"        const int i = thread + j * THREADS, row = min(row0 + i / 8 % S::ROWS, p.rows - 1);\n",
"        x[j] = p.x + (size_t)row * p.x_stride + (first + i / ROW_CHUNKS) * 64 + i % 8 * 8;\n",
"    }\n",
"    const int sz_half = thread / (NB * 16) % 2, sz_b = thread / 16 % NB;\n",
"    const int sz_k = FORMAT::SCALED && thread < WK * NB * 32 && sz_half <= fine ? thread / (NB * 32) : NONE"
";\n",
"    const int w_k = thread / TILE_CHUNKS, x_k = thread < WK * ROW_CHUNKS ? thread / ROW_CHUNKS : NONE;\n",
"    const u32 w_to = keep(base + w_place(thread)), x_to = keep(base + S::W + S::SZ + x_place(thread));\n",
"    const u32 sz_to =\n",
"        keep(base + S::W + thread / (NB * 32) * S::TILE + (sz_half * NB + sz_b) * 256 + thread % 16 * 16);\n",
"    const u8 *sz =\n",
"        keep((const u8 *)(p.sz + min(w_block * NB + sz_b, blocks - 1) * 64 + thread % 16 * 4));\n",
"    const u32 sz_row = p.n_pad * 4;\n",
"    // group of a tile: times this >> 20, plus the half\n",
"    const u32 sz_factor = fine ? 2u << 20 : p.group_reciprocal, sz_tile = sz_k + first,\n",
"              sz_more = fine ? sz_half : 0;\n",
"    // left: tiles from the step on that is loaded\n",
"    auto load_w = [&](u32 stage, int left) {\n",
"#pragma unroll\n",
"        for (int j = 0; j < W_CHUNKS; j++) {\n",
"            if (w_k + j * THREADS / TILE_CHUNKS < left)\n",
"                copy16_weights(w_to + stage + w_place(j * THREADS), w[j], policy);\n",
"            w[j] = keep(w[j] + WK * FORMAT::NEXT);\n",
"        }\n",
"        if (sz_k < left) {\n",
"            const u32 group = ((sz_tile + (last - first - left)) * sz_factor >> 20) + sz_more;\n",
"            copy16(sz_to + stage, sz + (u64)group * sz_row);\n",
"        }\n",
"    };\n",
"    auto load_x = [&](u32 stage, int left) {\n",
"#pragma unroll\n",
"        for (int j = 0; j < X_CHUNKS; j++) {\n",
"            if (x_k + j * THREADS / ROW_CHUNKS < left) copy16(x_to + stage + x_place(j * THREADS), x[j]);\n",
"            x[j] = keep(x[j] + WK * 64);\n",
"        }\n",
"    };\n",
"\n",
"    // what this lane reads of a stage\n",
"    const u32 tile0 = base + wk * S::TILE, QUARTER = FORMAT::BYTES / 4;\n",
"    const u32 w_from = keep(tile0 + wo * MT * QUARTER + FORMAT::lane_at(lane));\n",
"    const u32 sz_from = keep(tile0 + S::W + (wo * MT * 16 + g) * 4);\n",
"    const u32 x_from =\n",
"        keep(x_chunk(tile0 + S::W + S::SZ + wt * NT * 1024, NT == 1 ? lane & 7 : (lane >> 4) * 8 + (lane & "
"7),\n",
"                     NT == 1 ? lane >> 3 : lane >> 3 & 1));\n",
"    u32 reading = 0, writing = (STAGES - 1) * S::BYTES; // stages, bytes from the first\n",
"\n",
"#pragma unroll 1\n",
"    for (int i = 0; i < STAGES - 1; i++) load_w(i * S::BYTES, last - first - i * WK);\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"#pragma unroll 1\n",
"    for (int i = 0; i < STAGES - 1; i++) {\n",
"        load_x(i * S::BYTES, last - first - i * WK);\n",
"        copy_commit(); // the first group has all the weights of these stages, waited for with the first st"
"age\n",
"    }\n",
"#pragma unroll 1\n",
"    for (int left = last - first; left > 0; left -= WK) { // tiles from this step on\n",
"        copy_wait<STAGES - 2>();\n",
"        __syncthreads(); // this stage is here for all; the one before has been read by all\n",
"        load_w(writing, left - (STAGES - 1) * WK), load_x(writing, left - (STAGES - 1) * WK);\n",
"        copy_commit();\n",
"        if (wk < left) {\n",
"            typename FORMAT::Words words[MT];\n",
"            u32 scale[MT][2];\n",
"            uint2 z[MT];\n",
"            float part[EXACT ? MT : 1][EXACT ? NT : 1][4];\n",
"            auto load_params = [&](int half) {\n",
"#pragma unroll\n",
"                for (int m = 0; m < (FORMAT::SCALED ? MT : 0); m++) {\n",
"                    const u32 at = sz_from + reading + half * NB * 256 + m * 64;\n",
"                    const u32 s = lds32(at), s8 = lds32(at + 32);\n",
"                    z[m] = zero_points(FORMAT(), dtype, s, s8);\n",
"                    scale[m][0] = EXACT ? __float_as_uint(scale_f32(s)) : scale_pair(dtype, s);\n",
"                    scale[m][1] = EXACT ? __float_as_uint(scale_f32(s8)) : scale_pair(dtype, s8);\n",
"                }\n",
"            };\n",
"            auto add_part = [&]() {\n",
"#pragma unroll\n",
"                for (int n = 0; n < (EXACT ? MT * NT : 0); n++)\n",
"#pragma unroll\n",
"                    for (int j = 0; j < 4; j++) {\n",
"                        float &to = (&sum[0][0][0])[n * 4 + j], &from = (&part[0][0][0])[n * 4 + j];\n",
"                        to = fused(__uint_as_float(scale[n / NT][j >> 1]), from, to);\n",
"                        from = 0;\n",
"                    }\n",
"            };\n",
"            load_params(0);\n",
"#pragma unroll\n",
"            for (int m = 0; m < MT; m++) words[m].load(w_from + reading + m * QUARTER);\n",
"#pragma unroll\n",
"            for (int i = 0; i < (EXACT ? MT * NT * 4 : 0); i++) (&part[0][0][0])[i] = 0;\n",
"            u32 b[NT == 1 ? 2 : NT][2]; // [n of 8 rows] of this kk; NT 1: [kk, kk + 1]\n",
"#pragma unroll\n",
"            for (int kk = 0; kk < 4; kk++) {\n",
"                u32 a[MT][4];\n",
"                if (kk == 2 && fine) {\n",
"                    add_part();\n",
"                    load_params(1);\n",
"                }\n",
"#pragma unroll\n",
"                for (int n = 0; n < (NT == 1 ? 1 - kk % 2 : NT); n += 2)\n",
"                    ldmatrix4(b[n], ((x_from + reading) ^ kk << 5) + n * 1024); // chunk + 2 kk\n",
"#pragma unroll\n",
"                for (int m = 0; m < MT; m++) {\n",
"                    words[m].fragment(dtype, kk, z[m], a[m]);\n",
"                    if (FORMAT::SCALED && !EXACT)\n",
"#pragma unroll\n",
"                        for (int j = 0; j < 4; j++) a[m][j] = multiply(dtype, a[m][j], scale[m][j & 1]);\n",
"#pragma unroll\n",
"                    for (int n = 0; n < NT; n++)\n",
"                        mma(dtype, EXACT ? part[EXACT ? m : 0][EXACT ? n : 0] : sum[m][n], a[m],\n",
"                            b[NT == 1 ? kk % 2 : n]);\n",
"                }\n",
"            }\n",
"            add_part();\n",
"        }\n",
"        reading = reading + S::BYTES < STAGES * S::BYTES ? reading + S::BYTES : 0;\n",
"        writing = writing + S::BYTES < STAGES * S::BYTES ? writing + S::BYTES : 0;\n",
"    }\n",
"\n",
"    // WT passes, so that two stages are room enough\n",
"    const int OUTS = NB * 64, ROWS = NT * 8;\n",
"    const u32 sums = base + 16;\n",
"#pragma unroll 1\n",
"    for (int pass = 0; pass < WT; pass++) {\n",
"        copy_wait<0>();\n",
"        __syncthreads();\n",
"        if (wt == pass)\n",
"#pragma unroll\n",
"            for (int m = 0; m < MT; m++)\n",
"#pragma unroll\n",
"                for (int n = 0; n < NT; n++)\n",
"                    sums_put<OUTS>(sums + wk * Sums<ROWS, OUTS>::BYTES, n * 8, (wo * MT + m) * 16, sum[m][n"
"]);\n",
"        __syncthreads();\n",
"        sums_store<ROWS, OUTS, WK>(dtype, p, sums, row0 + pass * ROWS, w_block * OUTS,\n",
"                                   (w_block * gridDim.x + x_block) * WT + pass, split, thread, THREADS, bas"
"e);\n",
"    }\n",
"}\n",
"\n",
"/* ---- experts: the linear of one of them (experts.cuh, experts_wgmma.cuh) */\n",
"struct Experts { // awq__cuda_experts of plan.h\n",
"    Linear linear;\n",
"    const u64 *table;\n",
"    const int *start;\n",
"    int experts;\n",
"};\n",
"\n",
"// l: the linear of the expert that has tile `tile` of ROWS rows; returns which of its tiles it is, -1: non"
"e\n",
"template <int ROWS> DEVICE int expert_of(const Experts &p, int tile, Linear &l)\n",
"{\n",
"    const int lane = threadIdx.x & 31;\n",
"    int before = 0; // tiles of experts before\n",
"#pragma unroll 1\n",
"    for (int base = 0; base < p.experts; base += 128) {\n",
"        int first[4], rows[4];\n",
"#pragma unroll\n",
"        for (int k = 0; k < 4; k++) {\n",
"            const int e = base + 32 * k + lane;\n",
"            first[k] = load_fresh(p.start + min(e, p.experts));\n",
"            rows[k] = load_fresh(p.start + min(e + 1, p.experts)) - first[k];\n",
"        }\n",
"#pragma unroll\n",
"        for (int k = 0; k < 4; k++) {\n",
"            const int tiles = (rows[k] + ROWS - 1) / ROWS;\n",
"            int to = tiles; // with those of the lanes before\n",
"#pragma unroll\n",
"            for (int m = 1; m < 32; m *= 2) {\n",
"                const int v = __shfl_up_sync(~0u, to, m);\n",
"                if (lane >= m) to += v;\n",
"            }\n",
"            const u32 beyond = __ballot_sync(~0u, before + to > tile);\n",
"            if (beyond) {\n",
"                const int at = __ffs((int)beyond) - 1;\n",
"                const int row = __shfl_sync(~0u, first[k], at);\n",
"                const u64 *entry = p.table + (size_t)(base + 32 * k + at) * 4;\n",
"                l = p.linear;\n",
"                l.w = (const uint4 *)load_constant(entry);\n",
"                l.sz = (const u32 *)load_constant(entry + 1);\n",
"                l.bias = (const float *)load_constant(entry + 2);\n",
"                l.rows = __shfl_sync(~0u, rows[k], at);\n",
"                l.x += (size_t)row * l.x_stride;\n",
"                l.y = (char *)l.y + (size_t)row * l.y_stride * (l.flags & LINEAR_Y_F32 ? 4 : 2);\n",
"                return tile - __shfl_sync(~0u, before + to - tiles, at);\n",
"            }\n",
"            before += __shfl_sync(~0u, to, 31);\n",
"        }\n",
"    }\n",
"    return -1;\n",
"}\n",
NULL};
static const char *const awq__cuda_text_dense[] = {
"/* dense.cuh - linear layers of f16 and bf16 weights in rows, as checkpoints have them: heads, and models t"
"hat\n",
"   are not quantized. The weights are [n][64 k_tiles], padded with zeros along k; sz is not used.\n",
"\n",
"   1 to 8 rows. As linear_gemv: a block is 16 outputs, 8 warps share k, in pieces of 32. An mma sums over i"
"ts\n",
"   inputs in any order as long as A and B agree, so a lane (g, t) takes 16 bytes of output g and of g + 8,\n",
"   inputs 8t .. 8t + 7 of the piece: the first four are its inputs 2t, 2t + 1, 2t + 8, 2t + 9 of one mma, t"
"he\n",
"   others of the next, and x is read the same way, 16 bytes a lane. Nothing is rearranged, nothing goes thr"
"ough\n",
"   shared memory, and x (8 KB a row at k = 4096) stays in L1. A lane has 4 x 2 loads of 16 bytes under way,"
" 32\n",
"   KB a block, 64 KB on an SM with two. */\n",
"template <class T> DEVICE void dense_gemv(T dtype, const Linear &p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const int DEPTH = 4, WARPS = 8;\n",
"    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;\n",
"    const int first = 2 * split_begin(p, blockIdx.y) + warp, last = 2 * split_begin(p, blockIdx.y + 1);\n",
"    const u64 policy = evict_first_policy();\n",
"    const int row_chunks = p.k_tiles * 8, out = blockIdx.x * 16 + g; // outputs past the last one: it again\n",
"    const uint4 *w = p.w + (size_t)min(out, p.n - 1) * row_chunks + t;\n",
"    const uint4 *w8 = p.w + (size_t)min(out + 8, p.n - 1) * row_chunks + t;\n",
"    const uint4 *x = (const uint4 *)(p.x + (size_t)(g < p.rows ? g : 0) * p.x_stride) + t;\n",
"    uint4 a[DEPTH], a8[DEPTH];\n",
"    float sum[4] = {0, 0, 0, 0};\n",
"    auto load = [&](int i, int piece) {\n",
"        a[i] = load_weights(w + piece * 4, policy);\n",
"        a8[i] = load_weights(w8 + piece * 4, policy);\n",
"    };\n",
"#pragma unroll\n",
"    for (int i = 0; i < DEPTH; i++)\n",
"        if (first + i * WARPS < last) load(i, first + i * WARPS);\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    for (int base = first; base < last; base += DEPTH * WARPS) {\n",
"        uint4 b[DEPTH];\n",
"#pragma unroll\n",
"        for (int i = 0; i < DEPTH; i++)\n",
"            if (base + i * WARPS < last) b[i] = load_fresh(x + (base + i * WARPS) * 4);\n",
"#pragma unroll\n",
"        for (int i = 0; i < DEPTH; i++) {\n",
"            const int piece = base + i * WARPS, next = piece + DEPTH * WARPS;\n",
"            if (piece >= last) break;\n",
"            const u32 lo[4] = {a[i].x, a8[i].x, a[i].y, a8[i].y}, hi[4] = {a[i].z, a8[i].z, a[i].w, a8[i].w"
"};\n",
"            const u32 b_lo[2] = {b[i].x, b[i].y}, b_hi[2] = {b[i].z, b[i].w};\n",
"            mma(dtype, sum, lo, b_lo);\n",
"            mma(dtype, sum, hi, b_hi);\n",
"            if (next < last) load(i, next);\n",
"        }\n",
"    }\n",
"    const u32 sums = smem_address(smem) + 16;\n",
"    sums_put<16>(sums + warp * Sums<8, 16>::BYTES, 0, 0, sum);\n",
"    __syncthreads();\n",
"    sums_store<8, 16, WARPS>(dtype, p, sums, 0, blockIdx.x * 16, blockIdx.x, blockIdx.y, threadIdx.x,\n",
"                             32 * WARPS, sums - 16);\n",
"}\n",
"\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL_2(awq_dense_gemv_f16, 256, Linear p) { dense_gemv(F16(), p); }\n",
"KERNEL_2(awq_dense_mma16_f16, 256, Linear p) { linear_mma<Dense, 1, 1, 2, 1, 2, false>(F16(), p); }\n",
"KERNEL(awq_dense_mma64_f16, 256, Linear p) { linear_mma<Dense, 1, 1, 8, 1, 2, false>(F16(), p); }\n",
"KERNEL(awq_dense_mma128_f16, 256, Linear p) { linear_mma<Dense, 2, 2, 8, 2, 1, false>(F16(), p); }\n",
"#endif\n",
"#if AWQ_HAS_BF16 && !defined(AWQ_NO_BF16)\n",
"KERNEL_2(awq_dense_gemv_bf16, 256, Linear p) { dense_gemv(BF16(), p); }\n",
"KERNEL_2(awq_dense_mma16_bf16, 256, Linear p) { linear_mma<Dense, 1, 1, 2, 1, 2, false>(BF16(), p); }\n",
"KERNEL(awq_dense_mma64_bf16, 256, Linear p) { linear_mma<Dense, 1, 1, 8, 1, 2, false>(BF16(), p); }\n",
"KERNEL(awq_dense_mma128_bf16, 256, Linear p) { linear_mma<Dense, 2, 2, 8, 2, 1, false>(BF16(), p); }\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_experts[] = {
"/* experts.cuh - a linear of all experts of a layer in one launch\n",
"\n",
"   Rows of x and y are slots (moe.cuh): those of an expert lie together, start [experts + 1] says where, on"
" the\n",
"   device only. So the grid has room for the most tiles of rows that there can be; a block finds the expert"
" of\n",
"   its tile by a sum over tiles of the experts before it, in one round of loads for 128 of them, and leaves"
" when\n",
"   there are no more tiles. Then it is a block of the linear of that expert, whose weights a table names.\n",
"   Sums are never split over blocks. awq__cuda_experts_plan (plan.h) chooses kernel and grid.\n",
"\n",
"   gemv: for passes of at most 4 rows, so that an expert has no more. mma16: weights exact, one order of su"
"ms\n",
"   whatever the number of rows. mma64: for many rows; of 4 bits on sm_90a that of experts_wgmma.cuh is inst"
"ead.\n",
"   expert_of is in common.cuh. */\n",
"// grid (blocks of 16 outputs, tiles)\n",
"template <class FORMAT, bool FINE, class T> DEVICE void experts_gemv(T dtype, const Experts &p)\n",
"{\n",
"    Linear l;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (expert_of<GEMV_ROWS>(p, blockIdx.y, l) < 0) return;\n",
"    linear_gemv<FORMAT, FINE>(dtype, l, blockIdx.x, 0);\n",
"}\n",
"// grid (tiles, 1, blocks of outputs)\n",
"template <class FORMAT, int NT, bool EXACT, class T> DEVICE void experts_mma(T dtype, const Experts &p)\n",
"{\n",
"    Linear l;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    const int tile = expert_of<8 * NT>(p, blockIdx.x, l);\n",
"    if (tile < 0) return;\n",
"    linear_mma<FORMAT, 1, 1, NT, 1, 2, EXACT>(dtype, l, tile, 0, blockIdx.z);\n",
"}\n",
"\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL_2(awq_experts4_gemv_f16, 256, Experts p) { experts_gemv<Bits4, false>(F16(), p); }\n",
"KERNEL_2(awq_experts4_gemv32_f16, 256, Experts p) { experts_gemv<Bits4, true>(F16(), p); }\n",
"KERNEL_2(awq_experts4_mma16_f16, 256, Experts p) { experts_mma<Bits4, 2, true>(F16(), p); }\n",
"#if !AWQ_HAS_WGMMA || defined(AWQ_EMULATOR)\n",
"KERNEL_2(awq_experts4_mma64_f16, 256, Experts p) { experts_mma<Bits4, 8, false>(F16(), p); }\n",
"#endif\n",
"KERNEL_2(awq_experts8_gemv_f16, 256, Experts p) { experts_gemv<Bits8, false>(F16(), p); }\n",
"KERNEL_2(awq_experts8_gemv32_f16, 256, Experts p) { experts_gemv<Bits8, true>(F16(), p); }\n",
"KERNEL_2(awq_experts8_mma16_f16, 256, Experts p) { experts_mma<Bits8, 2, true>(F16(), p); }\n",
"KERNEL_2(awq_experts8_mma64_f16, 256, Experts p) { experts_mma<Bits8, 8, false>(F16(), p); }\n",
"KERNEL_2(awq_experts16_mma16_f16, 256, Experts p) { experts_mma<Dense, 2, false>(F16(), p); }\n",
"KERNEL(awq_experts16_mma64_f16, 256, Experts p) { experts_mma<Dense, 8, false>(F16(), p); }\n",
"#endif\n",
"#if AWQ_HAS_BF16 && !defined(AWQ_NO_BF16)\n",
"KERNEL_2(awq_experts4_gemv_bf16, 256, Experts p) { experts_gemv<Bits4, false>(BF16(), p); }\n",
"KERNEL_2(awq_experts4_gemv32_bf16, 256, Experts p) { experts_gemv<Bits4, true>(BF16(), p); }\n",
"KERNEL_2(awq_experts4_mma16_bf16, 256, Experts p) { experts_mma<Bits4, 2, true>(BF16(), p); }\n",
"#if !AWQ_HAS_WGMMA || defined(AWQ_EMULATOR)\n",
"KERNEL_2(awq_experts4_mma64_bf16, 256, Experts p) { experts_mma<Bits4, 8, false>(BF16(), p); }\n",
"#endif\n",
"KERNEL_2(awq_experts8_gemv_bf16, 256, Experts p) { experts_gemv<Bits8, false>(BF16(), p); }\n",
"KERNEL_2(awq_experts8_gemv32_bf16, 256, Experts p) { experts_gemv<Bits8, true>(BF16(), p); }\n",
"KERNEL_2(awq_experts8_mma16_bf16, 256, Experts p) { experts_mma<Bits8, 2, true>(BF16(), p); }\n",
"KERNEL_2(awq_experts8_mma64_bf16, 256, Experts p) { experts_mma<Bits8, 8, false>(BF16(), p); }\n",
"KERNEL_2(awq_experts16_mma16_bf16, 256, Experts p) { experts_mma<Dense, 2, false>(BF16(), p); }\n",
"KERNEL(awq_experts16_mma64_bf16, 256, Experts p) { experts_mma<Dense, 8, false>(BF16(), p); }\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_experts_wgmma[] = {
"/* experts_wgmma.cuh - a linear of all experts for many rows on sm_90a: experts.cuh by warpgroup.cuh. A fam"
"ily\n",
"   of its own, so that a model pays for its compilation when it meets as many rows. */\n",
"#if AWQ_HAS_WGMMA\n",
"// grid (tiles, 1, pairs of blocks of outputs)\n",
"template <int N, class T> DEVICE void experts_wgmma(T dtype, const Experts &p)\n",
"{\n",
"    Linear l;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    const int tile = expert_of<N>(p, blockIdx.x, l);\n",
"    if (tile >= 0) linear_wgmma<N>(dtype, l, tile, 0, blockIdx.z);\n",
"}\n",
"\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL(awq_experts4_wgmma128_f16, 384, Experts p) { experts_wgmma<128>(F16(), p); }\n",
"#endif\n",
"#ifndef AWQ_NO_BF16\n",
"KERNEL(awq_experts4_wgmma128_bf16, 384, Experts p) { experts_wgmma<128>(BF16(), p); }\n",
"#endif\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_linear[] = {
"/* linear.cuh - 4-bit linear layers on mma.sync: few rows, some rows, many rows\n",
"\n",
"   All of them compute y^T = w x^T: weights are A of the mma, so its 8 columns are rows of x and a batch of"
" 8\n",
"   wastes nothing. linear_gemv and linear_mma are in common.cuh; awq__cuda_linear_plan (plan.h) chooses ker"
"nel\n",
"   and grid.\n",
"\n",
"   Up to 32 rows (mma8, 16, 32; on sm_90a wgmma_few.cuh is chosen instead): memory bound. Each step of a bl"
"ock\n",
"   moves 8 KB of weights, three steps are under way: 24 KB, 48 KB on an SM with two blocks (mma8, mma16: at"
" most 64 registers for 512 threads). The loop has\n",
"   109, 124 and 145 instructions for a warp's 512 bytes (SASS of sm_90, NVRTC 13.0), so that issue, 4 a clo"
"ck on\n",
"   each of 132 SMs at 1.755 GHz, ends at 4.4, 3.8 and 3.3 TB/s of weights.\n",
"\n",
"   Many rows (mma64, mma128), where there is no wgmma for them; mma128: 128 outputs x 128 rows by 256 threa"
"ds; a\n",
"   warp has 64 mma to 285 instructions in all. */\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL_2(awq_linear_gemv_f16, 256, Linear p) { linear_gemv<Bits4, false>(F16(), p); }\n",
"KERNEL_2(awq_linear_gemv32_f16, 256, Linear p) { linear_gemv<Bits4, true>(F16(), p); }\n",
"KERNEL_2(awq_linear_mma8_f16, 512, Linear p) { linear_mma<Bits4, 1, 1, 1, 1, 4, true>(F16(), p); }\n",
"KERNEL_2(awq_linear_mma16_f16, 512, Linear p) { linear_mma<Bits4, 1, 1, 2, 1, 4, true>(F16(), p); }\n",
"KERNEL(awq_linear_mma32_f16, 512, Linear p) { linear_mma<Bits4, 1, 1, 4, 1, 4, true>(F16(), p); }\n",
"#if !AWQ_HAS_WGMMA || defined(AWQ_EMULATOR)\n",
"KERNEL_2(awq_linear_mma64_f16, 256, Linear p) { linear_mma<Bits4, 1, 1, 8, 1, 2, false>(F16(), p); }\n",
"KERNEL(awq_linear_mma128_f16, 256, Linear p) { linear_mma<Bits4, 2, 2, 8, 2, 1, false>(F16(), p); }\n",
"#endif\n",
"#endif\n",
"#if AWQ_HAS_BF16 && !defined(AWQ_NO_BF16)\n",
"KERNEL_2(awq_linear_gemv_bf16, 256, Linear p) { linear_gemv<Bits4, false>(BF16(), p); }\n",
"KERNEL_2(awq_linear_gemv32_bf16, 256, Linear p) { linear_gemv<Bits4, true>(BF16(), p); }\n",
"KERNEL_2(awq_linear_mma8_bf16, 512, Linear p) { linear_mma<Bits4, 1, 1, 1, 1, 4, true>(BF16(), p); }\n",
"KERNEL_2(awq_linear_mma16_bf16, 512, Linear p) { linear_mma<Bits4, 1, 1, 2, 1, 4, true>(BF16(), p); }\n",
"KERNEL(awq_linear_mma32_bf16, 512, Linear p) { linear_mma<Bits4, 1, 1, 4, 1, 4, true>(BF16(), p); }\n",
"#if !AWQ_HAS_WGMMA || defined(AWQ_EMULATOR)\n",
"KERNEL_2(awq_linear_mma64_bf16, 256, Linear p) { linear_mma<Bits4, 1, 1, 8, 1, 2, false>(BF16(), p); }\n",
"KERNEL(awq_linear_mma128_bf16, 256, Linear p) { linear_mma<Bits4, 2, 2, 8, 2, 1, false>(BF16(), p); }\n",
"#endif\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_linear8[] = {
"/* linear8.cuh - 8-bit linear layers with groups, for heads that 4 bits would hurt: as linear.cuh, twice th"
"e\n",
"   bytes\n",
"\n",
"   Weights are Bits8 of common.cuh; parameters as for 4 bits, zero points up to 255. */\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL_2(awq_linear8_gemv_f16, 256, Linear p) { linear_gemv<Bits8, false>(F16(), p); }\n",
"KERNEL_2(awq_linear8_gemv32_f16, 256, Linear p) { linear_gemv<Bits8, true>(F16(), p); }\n",
"KERNEL_2(awq_linear8_mma16_f16, 512, Linear p) { linear_mma<Bits8, 1, 1, 2, 1, 4, true>(F16(), p); }\n",
"KERNEL_2(awq_linear8_mma64_f16, 256, Linear p) { linear_mma<Bits8, 1, 1, 8, 1, 2, false>(F16(), p); }\n",
"KERNEL(awq_linear8_mma128_f16, 256, Linear p) { linear_mma<Bits8, 2, 2, 8, 2, 1, false>(F16(), p); }\n",
"#endif\n",
"#if AWQ_HAS_BF16 && !defined(AWQ_NO_BF16)\n",
"KERNEL_2(awq_linear8_gemv_bf16, 256, Linear p) { linear_gemv<Bits8, false>(BF16(), p); }\n",
"KERNEL_2(awq_linear8_gemv32_bf16, 256, Linear p) { linear_gemv<Bits8, true>(BF16(), p); }\n",
"KERNEL_2(awq_linear8_mma16_bf16, 512, Linear p) { linear_mma<Bits8, 1, 1, 2, 1, 4, true>(BF16(), p); }\n",
"KERNEL_2(awq_linear8_mma64_bf16, 256, Linear p) { linear_mma<Bits8, 1, 1, 8, 1, 2, false>(BF16(), p); }\n",
"KERNEL(awq_linear8_mma128_bf16, 256, Linear p) { linear_mma<Bits8, 2, 2, 8, 2, 1, false>(BF16(), p); }\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_moe[] = {
"/* moe.cuh - experts: which a row takes and what they weigh, slots by expert, gathering and combining\n",
"\n",
"   A row has `top` slots, one for each of its experts. Slots of an expert lie together, in the order of the\n",
"   rows and of a row's choices; start [experts + 1] says where, so the linears of expert e are those of row"
"s\n",
"   start[e] to start[e + 1] of what awq_gather wrote. All of it is bit for bit awq__route_row,\n",
"   awq__route_slots and awq__combine_row, given the same scores: equal scores go to the lower expert, sums "
"are\n",
"   in the CPU's order. */\n",
"\n",
"// ---- awq_route: a warp takes a row; its shared memory: score [experts], choice [experts], best of groups\n",
"struct Route { // awq__cuda_route of steps.h\n",
"    const float *scores;\n",
"    const float *bias;\n",
"    const int *pos;\n",
"    int *pick;\n",
"    float *weight;\n",
"    int rows, experts, stride, top, groups, top_groups, score, norm_topk;\n",
"    float routed_scale;\n",
"};\n",
"enum { SCORE_SOFTMAX, SCORE_SOFTMAX_TOP, SCORE_SIGMOID };\n",
"#define MINUS_INFINITY __uint_as_float(0xff800000u)\n",
"\n",
"// awq__highest: the lowest index of the largest of x [n] in shared memory; 0 when the first is NaN or none"
" is\n",
"// larger than -inf\n",
"DEVICE int highest(u32 x, int n)\n",
"{\n",
"    const int lane = threadIdx.x & 31;\n",
"    float best = MINUS_INFINITY;\n",
"    int at = 0;\n",
"    for (int i = lane; i < n; i += 32) {\n",
"        const float v = lds_f32(x + i * 4);\n",
"        if (v > best) best = v, at = i;\n",
"    }\n",
"#pragma unroll\n",
"    for (int m = 16; m; m >>= 1) {\n",
"        const float v = __shfl_xor_sync(~0u, best, m);\n",
"        const int i = __shfl_xor_sync(~0u, at, m);\n",
"        if (v > best || (v == best && i < at)) best = v, at = i;\n",
"    }\n",
"    const float first = lds_f32(x);\n",
"    return first != first ? 0 : at;\n",
"}\n",
"// awq__softmax of x [n] in shared memory: the sum in order, by every lane for itself\n",
"DEVICE void softmax_in_order(u32 x, int n)\n",
"{\n",
"    const int lane = threadIdx.x & 31;\n",
"    float top = lds_f32(x), sum = 0;\n",
"    for (int i = lane; i < n; i += 32) {\n",
"        const float v = lds_f32(x + i * 4);\n",
"        top = v > top ? v : top;\n",
"    }\n",
"#pragma unroll\n",
"    for (int m = 16; m; m >>= 1) {\n",
"        const float v = __shfl_xor_sync(~0u, top, m);\n",
"        top = v > top ? v : top;\n",
"    }\n",
"    __syncwarp();\n",
"    for (int i = lane; i < n; i += 32) sts_f32(x + i * 4, exact_exp(lds_f32(x + i * 4) - top));\n",
"    __syncwarp();\n",
"#pragma unroll 8\n",
"    for (int i = 0; i < n; i++) sum = __fadd_rn(sum, lds_f32(x + i * 4));\n",
"    __syncwarp();\n",
"    for (int i = lane; i < n; i += 32) sts_f32(x + i * 4, lds_f32(x + i * 4) / sum);\n",
"    __syncwarp();\n",
"}\n",
"// awq__route_groups: only experts of the best groups stay in the choice\n",
"DEVICE void route_groups(const Route &p, u32 choice, u32 best)\n",
"{\n",
"    const int lane = threadIdx.x & 31, size = p.experts / p.groups;\n",
"    u32 stays = best + p.groups * 4;            // one word each\n",
"    for (int g = lane; g < p.groups; g += 32) { // by the best expert, or the two best ones together\n",
"        float first = MINUS_INFINITY, second = MINUS_INFINITY;\n",
"        for (int i = g * size; i < (g + 1) * size; i++) {\n",
"            const float v = lds_f32(choice + i * 4);\n",
"            if (v > first) second = first, first = v;\n",
"            else if (v > second) second = v;\n",
"        }\n",
"        sts_f32(best + g * 4, p.score == SCORE_SIGMOID ? __fadd_rn(first, second) : first);\n",
"        sts32(stays + g * 4, 0);\n",
"    }\n",
"    __syncwarp();\n",
"    for (int i = 0; i < p.top_groups; i++) {\n",
"        const int g = highest(best, p.groups);\n",
"        __syncwarp();\n",
"        if (lane == 0) sts_f32(best + g * 4, MINUS_INFINITY), sts32(stays + g * 4, 1);\n",
"        __syncwarp();\n",
"    }\n",
"    for (int i = lane; i < p.experts; i += 32)\n",
"        if (!lds32(stays + i / size * 4)) sts_f32(choice + i * 4, MINUS_INFINITY);\n",
"    __syncwarp();\n",
"}\n",
"DEVICE void route(const Route &p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n = p.experts;\n",
"    const int row = blockIdx.x * (blockDim.x >> 5) + warp;\n",
"    const u32 score = smem_address(smem) + warp * (2 * n + 2 * p.groups + p.top) * 4, choice = score + n * "
"4;\n",
"    const u32 best = choice + n * 4, weight = best + 2 * p.groups * 4;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (row >= p.rows) return;\n",
"    int *pick = p.pick + (size_t)row * p.top;\n",
"    if (load_fresh(p.pos + row) < 0) {\n",
"        for (int i = lane; i < p.top; i += 32) store_global(pick + i, -1);\n",
"        return;\n",
"    }\n",
"    const float *from = p.scores + (size_t)row * p.stride;\n",
"    for (int i = lane; i < n; i += 32) sts_f32(score + i * 4, load_fresh(from + i));\n",
"    __syncwarp();\n",
"    if (p.score == SCORE_SOFTMAX) softmax_in_order(score, n);\n",
"    for (int i = lane; i < n; i += 32) {\n",
"        float v = lds_f32(score + i * 4);\n",
"        if (p.score == SCORE_SIGMOID) {\n",
"            v = 1.0f / __fadd_rn(1.0f, exact_exp(-v));\n",
"            sts_f32(score + i * 4, v);\n",
"        }\n",
"        sts_f32(choice + i * 4, __fadd_rn(v, p.bias ? load_constant(p.bias + i) : 0.0f));\n",
"    }\n",
"    __syncwarp();\n",
"    if (p.groups > 1) route_groups(p, choice, best);\n",
"    for (int i = 0; i < p.top; i++) {\n",
"        const int e = highest(choice, n);\n",
"        __syncwarp();\n",
"        if (lane == 0) {\n",
"            store_global(pick + i, e);\n",
"            sts_f32(weight + i * 4, lds_f32(score + e * 4));\n",
"            sts_f32(choice + e * 4, MINUS_INFINITY);\n",
"        }\n",
"        __syncwarp();\n",
"    }\n",
"    if (p.score == SCORE_SOFTMAX_TOP) softmax_in_order(weight, p.top);\n",
"    float sum = 1;\n",
"    if (p.norm_topk && p.score != SCORE_SOFTMAX_TOP) {\n",
"        sum = 0;\n",
"        for (int i = 0; i < p.top; i++) sum = __fadd_rn(sum, lds_f32(weight + i * 4));\n",
"        sum = sum > 0 ? sum : 1;\n",
"    }\n",
"    for (int i = lane; i < p.top; i += 32)\n",
"        store_global(p.weight + (size_t)row * p.top + i,\n",
"                     __fmul_rn(lds_f32(weight + i * 4) / sum, p.routed_scale));\n",
"}\n",
"KERNEL(awq_route, 128, const Route p) { route(p); }\n",
"\n",
"/* ---- awq_slots: a counting sort of the picks [n = rows * top], stable, by a warp for each expert and one\n",
"   more\n",
"\n",
"   Warp e counts the picks below e: start[e]. Then it walks over the picks again, and a pick of e gets the\n",
"   slot start[e] + those of e before it. Nothing depends on which warp runs first. Picks of -1 have no slot"
".\n",
"   */\n",
"struct Slots {\n",
"    const int *pick;\n",
"    int *start, *slot, *from;\n",
"    int n, experts, top;\n",
"};\n",
"KERNEL(awq_slots, 256, const Slots p)\n",
"{\n",
"    const int lane = threadIdx.x & 31, e = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), n = p.n;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (e > p.experts) return;\n",
"    int below = 0, slot;\n",
"#pragma unroll 1\n",
"    for (int base = 0; base < n; base += 128) {\n",
"        int pick[4];\n",
"#pragma unroll\n",
"        for (int k = 0; k < 4; k++)\n",
"            pick[k] = base + 32 * k + lane < n ? load_fresh(p.pick + base + 32 * k + lane) : p.experts;\n",
"#pragma unroll\n",
"        for (int k = 0; k < 4; k++) below += __popc(__ballot_sync(~0u, pick[k] >= 0 && pick[k] < e));\n",
"    }\n",
"    slot = below;\n",
"    if (lane == 0) store_global(p.start + e, slot);\n",
"#pragma unroll 1\n",
"    for (int base = 0; base < n; base += 128) {\n",
"        int pick[4];\n",
"#pragma unroll\n",
"        for (int k = 0; k < 4; k++)\n",
"            pick[k] = base + 32 * k + lane < n ? load_fresh(p.pick + base + 32 * k + lane) : p.experts;\n",
"#pragma unroll\n",
"        for (int k = 0; k < 4; k++) {\n",
"            const u32 same = __ballot_sync(~0u, pick[k] == e);\n",
"            const int i = base + 32 * k + lane;\n",
"            if (e == p.experts) {\n",
"                if (i < n && pick[k] < 0) store_global(p.slot + i, -1);\n",
"            } else if (pick[k] == e) {\n",
"                const int to = slot + __popc(same & ((1u << lane) - 1));\n",
"                store_global(p.slot + i, to);\n",
"                store_global(p.from + to, i / p.top);\n",
"            }\n",
"            slot += __popc(same);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"// ---- awq_gather: xe row s = xn row from[s], `columns` halves, a multiple of 8; rows beyond *count are le"
"ft\n",
"// out\n",
"struct Gather {\n",
"    const u16 *xn;\n",
"    u16 *xe;\n",
"    const int *from, *count;\n",
"    int columns, xn_stride, xe_stride;\n",
"};\n",
"KERNEL(awq_gather, 256, const Gather p)\n",
"{\n",
"    const int s = blockIdx.x;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (s >= load_fresh(p.count)) return;\n",
"    const u16 *from = p.xn + (size_t)load_fresh(p.from + s) * p.xn_stride;\n",
"    u16 *to = p.xe + (size_t)s * p.xe_stride;\n",
"    for (int i = threadIdx.x * 8; i < p.columns; i += blockDim.x * 8)\n",
"        store_global((uint4 *)(to + i), load_fresh((const uint4 *)(from + i)));\n",
"}\n",
"\n",
"// ---- awq_combine: out [rows][h] = sum of weight * what the row's experts say, in the order of its choice"
",\n",
"// and the shared expert, by sigmoid(shared_gate) if there is one\n",
"struct Combine {\n",
"    const void *oe, *shared;\n",
"    const int *slot;\n",
"    const float *weight, *shared_gate;\n",
"    float *out;\n",
"    int h, top, oe_stride, shared_stride, gate_stride, out_stride, f32;\n",
"};\n",
"DEVICE float4 add_scaled(float4 sum, float4 v, float w)\n",
"{\n",
"    return make_float4(exact_mul_add(v.x, w, sum.x), exact_mul_add(v.y, w, sum.y), exact_mul_add(v.z, w, su"
"m.z),\n",
"                       exact_mul_add(v.w, w, sum.w));\n",
"}\n",
"template <class T> DEVICE void combine(T dtype, const Combine &p)\n",
"{\n",
"    const int row = blockIdx.x, i = (blockIdx.y * blockDim.x + threadIdx.x) * 4;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (i >= p.h) return;\n",
"    float4 sum = make_float4(0, 0, 0, 0);\n",
"#pragma unroll 1\n",
"    for (int k = 0; k < p.top; k++) {\n",
"        const int s = load_fresh(p.slot + (size_t)row * p.top + k);\n",
"        if (s < 0) continue;\n",
"        const char *from = (const char *)p.oe + (size_t)s * p.oe_stride * (p.f32 ? 4 : 2);\n",
"        sum = add_scaled(sum, row_load(dtype, from, p.f32, i, p.h),\n",
"                         load_fresh(p.weight + (size_t)row * p.top + k));\n",
"    }\n",
"    if (p.shared) {\n",
"        const char *from = (const char *)p.shared + (size_t)row * p.shared_stride * (p.f32 ? 4 : 2);\n",
"        float w = 1;\n",
"        if (p.shared_gate)\n",
"            w = 1.0f / __fadd_rn(1.0f, exact_exp(-load_fresh(p.shared_gate + (size_t)row * p.gate_stride)))"
";\n",
"        sum = add_scaled(sum, row_load(dtype, from, p.f32, i, p.h), w);\n",
"    }\n",
"    row_store(p.out + (size_t)row * p.out_stride, i, p.h, sum);\n",
"}\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL(awq_combine_f16, 256, const Combine p) { combine(F16(), p); }\n",
"#endif\n",
"#ifndef AWQ_NO_BF16\n",
"KERNEL(awq_combine_bf16, 256, const Combine p) { combine(BF16(), p); }\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_prims[] = {
"/* prims.cuh - what the kernels of awq_cuda.h need from the hardware, and the only file that knows PTX\n",
"\n",
"   Each primitive has a PTX body for NVRTC and, under AWQ_EMULATOR, a C++ body for tests/cuda/emulator.h. A\n",
"   kernel touches half precision, shared memory, asynchronous copies, tensor cores and barriers only throug"
"h\n",
"   these, so its text runs on both. No header is included: NVRTC has none without the toolkit. f16x2 and bf"
"16x2\n",
"   are u32, low half first. Shared memory is a u32 address. Instruction names are in the comments; PTX ISA "
"7.7\n",
"   (sm_75 .. 8.9), 8.0 (sm_90a). */\n",
"\n",
"typedef unsigned char u8;\n",
"typedef unsigned short u16;\n",
"typedef unsigned int u32;\n",
"typedef unsigned long long u64;\n",
"\n",
"#ifdef AWQ_EMULATOR\n",
"#ifndef AWQ_ARCH\n",
"#define AWQ_ARCH 900\n",
"#endif\n",
"#define DEVICE static inline\n",
"#define DEVICE_MEMBER inline\n",
"#define AWQ_HAS_WGMMA (AWQ_ARCH == 900)\n",
"// KERNEL(name, threads, parameters) { body }: registers itself, for a launch by name\n",
"#define KERNEL(name, threads, ...)                                \\\n",
"    extern \"C\" void name(__VA_ARGS__);                            \\\n",
"    static emu::Register name##_registered(#name, threads, name); \\\n",
"    extern \"C\" void name(__VA_ARGS__)\n",
"#define KERNEL_2(name, threads, ...) KERNEL(name, threads, __VA_ARGS__)\n",
"#else\n",
"#define AWQ_ARCH __CUDA_ARCH__\n",
"#define DEVICE __device__ __forceinline__\n",
"#define DEVICE_MEMBER __device__ __forceinline__\n",
"#ifdef __CUDA_ARCH_FEAT_SM90_ALL\n",
"#define AWQ_HAS_WGMMA 1\n",
"#else\n",
"#define AWQ_HAS_WGMMA 0\n",
"#endif\n",
"#define KERNEL(name, threads, ...) extern \"C\" __global__ void __launch_bounds__(threads, 1) name(__VA_ARG"
"S__)\n",
"// registers for at least two blocks on an SM\n",
"#define KERNEL_2(name, threads, ...) extern \"C\" __global__ void __launch_bounds__(threads, 2) name(__VA_A"
"RGS__)\n",
"#endif\n",
"#define AWQ_HAS_BF16 (AWQ_ARCH >= 800) // arithmetic and mma on bf16; cp.async came at the same time\n",
"\n",
"// ---- half precision\n",
"#ifdef AWQ_EMULATOR\n",
"namespace emu\n",
"{\n",
"template <class Operation> static inline u32 f16x2(u32 a, u32 b, u32 c, Operation op)\n",
"{\n",
"    u32 lo = f64_to_f16(op((double)f16_to_f32((u16)a), f16_to_f32((u16)b), f16_to_f32((u16)c)));\n",
"    u32 hi = f64_to_f16(op((double)f16_to_f32(a >> 16), f16_to_f32(b >> 16), f16_to_f32(c >> 16)));\n",
"    return lo | hi << 16;\n",
"}\n",
"template <class Operation> static inline u32 bf16x2(u32 a, u32 b, u32 c, Operation op)\n",
"{\n",
"    u32 lo = f64_to_bf16(op((double)bf16_to_f32((u16)a), bf16_to_f32((u16)b), bf16_to_f32((u16)c)));\n",
"    u32 hi = f64_to_bf16(op((double)bf16_to_f32(a >> 16), bf16_to_f32(b >> 16), bf16_to_f32(c >> 16)));\n",
"    return lo | hi << 16;\n",
"}\n",
"} // namespace emu\n",
"DEVICE u32 f16x2_add(u32 a, u32 b)\n",
"{\n",
"    return emu::f16x2(a, b, 0, [](double x, double y, double) { return x + y; });\n",
"}\n",
"DEVICE u32 f16x2_sub(u32 a, u32 b)\n",
"{\n",
"    return emu::f16x2(a, b, 0, [](double x, double y, double) { return x - y; });\n",
"}\n",
"DEVICE u32 f16x2_mul(u32 a, u32 b)\n",
"{\n",
"    return emu::f16x2(a, b, 0, [](double x, double y, double) { return x * y; });\n",
"}\n",
"DEVICE u32 f16x2_fma(u32 a, u32 b, u32 c)\n",
"{\n",
"    return emu::f16x2(a, b, c, [](double x, double y, double z) { return x * y + z; });\n",
"}\n",
"DEVICE u32 bf16x2_mul(u32 a, u32 b)\n",
"{\n",
"    return emu::bf16x2(a, b, 0, [](double x, double y, double) { return x * y; });\n",
"}\n",
"DEVICE u32 bf16x2_fma(u32 a, u32 b, u32 c)\n",
"{\n",
"    return emu::bf16x2(a, b, c, [](double x, double y, double z) { return x * y + z; });\n",
"}\n",
"DEVICE float2 f16x2_to_f32(u32 h) { return make_float2(emu::f16_to_f32((u16)h), emu::f16_to_f32(h >> 16)); "
"}\n",
"DEVICE u32 f32_to_f16x2(float lo, float hi) { return emu::f32_to_f16(lo) | (u32)emu::f32_to_f16(hi) << 16; "
"}\n",
"DEVICE u32 f32_to_bf16x2(float lo, float hi) { return emu::f32_to_bf16(lo) | (u32)emu::f32_to_bf16(hi) << 1"
"6; }\n",
"#else\n",
"DEVICE u32 f16x2_add(u32 a, u32 b)\n",
"{\n",
"    u32 d;\n",
"    asm(\"add.rn.f16x2 %0, %1, %2;\" : \"=r\"(d) : \"r\"(a), \"r\"(b));\n",
"    return d;\n",
"}\n",
"DEVICE u32 f16x2_sub(u32 a, u32 b)\n",
"{\n",
"    u32 d;\n",
"    asm(\"sub.rn.f16x2 %0, %1, %2;\" : \"=r\"(d) : \"r\"(a), \"r\"(b));\n",
"    return d;\n",
"}\n",
"DEVICE u32 f16x2_mul(u32 a, u32 b)\n",
"{\n",
"    u32 d;\n",
"    asm(\"mul.rn.f16x2 %0, %1, %2;\" : \"=r\"(d) : \"r\"(a), \"r\"(b));\n",
"    return d;\n",
"}\n",
"DEVICE u32 f16x2_fma(u32 a, u32 b, u32 c)\n",
"{\n",
"    u32 d;\n",
"    asm(\"fma.rn.f16x2 %0, %1, %2, %3;\" : \"=r\"(d) : \"r\"(a), \"r\"(b), \"r\"(c));\n",
"    return d;\n",
"}\n",
"DEVICE float2 f16x2_to_f32(u32 h)\n",
"{\n",
"    float2 r;\n",
"    asm(\"{.reg .b16 lo, hi; mov.b32 {lo, hi}, %2; cvt.f32.f16 %0, lo; cvt.f32.f16 %1, hi;}\"\n",
"        : \"=f\"(r.x), \"=f\"(r.y)\n",
"        : \"r\"(h));\n",
"    return r;\n",
"}\n",
"#if AWQ_HAS_BF16\n",
"DEVICE u32 f32_to_f16x2(float lo, float hi)\n",
"{\n",
"    u32 d;\n",
"    asm(\"cvt.rn.f16x2.f32 %0, %1, %2;\" : \"=r\"(d) : \"f\"(hi), \"f\"(lo));\n",
"    return d;\n",
"}\n",
"DEVICE u32 f32_to_bf16x2(float lo, float hi)\n",
"{\n",
"    u32 d;\n",
"    asm(\"cvt.rn.bf16x2.f32 %0, %1, %2;\" : \"=r\"(d) : \"f\"(hi), \"f\"(lo));\n",
"    return d;\n",
"}\n",
"DEVICE u32 bf16x2_fma(u32 a, u32 b, u32 c)\n",
"{\n",
"    u32 d;\n",
"    asm(\"fma.rn.bf16x2 %0, %1, %2, %3;\" : \"=r\"(d) : \"r\"(a), \"r\"(b), \"r\"(c));\n",
"    return d;\n",
"}\n",
"DEVICE u32 bf16x2_mul(u32 a, u32 b) { return bf16x2_fma(a, b, 0x80008000u); } // -0: keeps the sign of a ze"
"ro\n",
"#else\n",
"DEVICE u32 f32_to_f16x2(float lo, float hi)\n",
"{\n",
"    u32 d;\n",
"    asm(\"{.reg .b16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}\"\n",
"        : \"=r\"(d)\n",
"        : \"f\"(lo), \"f\"(hi));\n",
"    return d;\n",
"}\n",
"DEVICE u32 f32_to_bf16(float f) // no instruction below sm_80; NaN stays NaN only by its upper bits\n",
"{\n",
"    u32 bits = __float_as_uint(f);\n",
"    return f == f ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fff;\n",
"}\n",
"DEVICE u32 f32_to_bf16x2(float lo, float hi) { return f32_to_bf16(lo) | f32_to_bf16(hi) << 16; }\n",
"#endif\n",
"#endif\n",
"DEVICE float2 bf16x2_to_f32(u32 h)\n",
"{\n",
"    return make_float2(__uint_as_float(h << 16), __uint_as_float(h & 0xffff0000u));\n",
"}\n",
"\n",
"// any function of three bits: TABLE bit 4a+2b+c. 0xEA is (a & b) | c: one instruction takes nibbles out an"
"d\n",
"// gives them the exponent of a half\n",
"template <int TABLE> DEVICE u32 lop3(u32 a, u32 b, u32 c)\n",
"{\n",
"    u32 d = 0;\n",
"#ifdef AWQ_EMULATOR\n",
"    for (int i = 0; i < 8; i++)\n",
"        if (TABLE >> i & 1) d |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);\n",
"#else\n",
"    asm(\"lop3.b32 %0, %1, %2, %3, %4;\" : \"=r\"(d) : \"r\"(a), \"r\"(b), \"r\"(c), \"n\"(TABLE));\n",
"#endif\n",
"    return d;\n",
"}\n",
"\n",
"// the same value, but the compiler keeps it in a register rather than compute it again where it is used\n",
"#ifdef AWQ_EMULATOR\n",
"template <class T> DEVICE T keep(T v) { return v; }\n",
"#else\n",
"DEVICE u32 keep(u32 v)\n",
"{\n",
"    asm volatile(\"mov.u32 %0, %0;\" : \"+r\"(v));\n",
"    return v;\n",
"}\n",
"template <class T> DEVICE T *keep(T *v)\n",
"{\n",
"    asm volatile(\"mov.u64 %0, %0;\" : \"+l\"(v));\n",
"    return v;\n",
"}\n",
"#endif\n",
"\n",
"// ---- arithmetic\n",
"#ifdef AWQ_EMULATOR\n",
"DEVICE float fast_exp2(float x) { return std::exp2(x); }\n",
"DEVICE float fast_rsqrt(float x) { return 1.0f / std::sqrt(x); }\n",
"DEVICE float fast_reciprocal(float x) { return 1.0f / x; }\n",
"DEVICE float fused(float a, float b, float c) { return std::fma(a, b, c); }\n",
"#else\n",
"DEVICE float fast_exp2(float x) // 2 ulp\n",
"{\n",
"    float r;\n",
"    asm(\"ex2.approx.ftz.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x));\n",
"    return r;\n",
"}\n",
"DEVICE float fast_rsqrt(float x) // relative error 2^-22.9\n",
"{\n",
"    float r;\n",
"    asm(\"rsqrt.approx.ftz.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x));\n",
"    return r;\n",
"}\n",
"DEVICE float fast_reciprocal(float x) // 1 ulp\n",
"{\n",
"    float r;\n",
"    asm(\"rcp.approx.ftz.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x));\n",
"    return r;\n",
"}\n",
"DEVICE float fused(float a, float b, float c) { return fmaf(a, b, c); }\n",
"#endif\n",
"DEVICE float fast_exp(float x) { return fast_exp2(x * 1.44269504f); } // error grows with |x|: 2^-23 |x|\n",
"\n",
"// ---- global memory\n",
"// Two kinds of reads. Weights are constant: nc, past L1, and first to leave L2, where activations and KV c"
"ache\n",
"// are to stay. What the kernel before wrote is read by plain ld: under programmatic dependent launch that\n",
"// kernel may have been running when this one began, and nc may answer from before.\n",
"#ifdef AWQ_EMULATOR\n",
"DEVICE u64 evict_first_policy() { return 0; }\n",
"DEVICE uint4 load_weights(const uint4 *p, u64)\n",
"{\n",
"    emu::check_global(p, 16, 16);\n",
"    return *p;\n",
"}\n",
"template <class T> DEVICE T load_constant(const T *p)\n",
"{\n",
"    emu::check_global(p, sizeof(T), sizeof(T));\n",
"    return *p;\n",
"}\n",
"template <class T> DEVICE T load_fresh(const T *p)\n",
"{\n",
"    emu::check_global(p, sizeof(T), sizeof(T));\n",
"    return *p;\n",
"}\n",
"template <class T> DEVICE void store_global(T *p, T v)\n",
"{\n",
"    emu::check_store(p, sizeof(T), sizeof(T));\n",
"    *p = v;\n",
"    if (emu::wrong) ((u8 *)p)[sizeof(T) - 1] ^= 0x40;\n",
"}\n",
"#else\n",
"DEVICE u64 evict_first_policy()\n",
"{\n",
"    u64 policy = 0;\n",
"#if AWQ_ARCH >= 800\n",
"    asm(\"createpolicy.fractional.L2::evict_first.b64 %0, 1.0;\" : \"=l\"(policy));\n",
"#endif\n",
"    return policy;\n",
"}\n",
"DEVICE uint4 load_weights(const uint4 *p, u64 policy)\n",
"{\n",
"    uint4 v;\n",
"#if AWQ_ARCH >= 800\n",
"    asm volatile(\"ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;\"\n",
"                 : \"=r\"(v.x), \"=r\"(v.y), \"=r\"(v.z), \"=r\"(v.w)\n",
"                 : \"l\"(p), \"l\"(policy));\n",
"#else\n",
"    asm volatile(\"ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\"\n",
"                 : \"=r\"(v.x), \"=r\"(v.y), \"=r\"(v.z), \"=r\"(v.w)\n",
"                 : \"l\"(p));\n",
"#endif\n",
"    return v;\n",
"}\n",
"template <class T> DEVICE T load_constant(const T *p) { return __ldg(p); }\n",
"DEVICE u16 load_fresh(const u16 *p)\n",
"{\n",
"    u16 v;\n",
"    asm volatile(\"ld.global.u16 %0, [%1];\" : \"=h\"(v) : \"l\"(p) : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE u32 load_fresh(const u32 *p)\n",
"{\n",
"    u32 v;\n",
"    asm volatile(\"ld.global.u32 %0, [%1];\" : \"=r\"(v) : \"l\"(p) : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE int load_fresh(const int *p)\n",
"{\n",
"    int v;\n",
"    asm volatile(\"ld.global.s32 %0, [%1];\" : \"=r\"(v) : \"l\"(p) : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE u64 load_fresh(const u64 *p)\n",
"{\n",
"    u64 v;\n",
"    asm volatile(\"ld.global.u64 %0, [%1];\" : \"=l\"(v) : \"l\"(p) : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE float load_fresh(const float *p)\n",
"{\n",
"    float v;\n",
"    asm volatile(\"ld.global.f32 %0, [%1];\" : \"=f\"(v) : \"l\"(p) : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE uint2 load_fresh(const uint2 *p)\n",
"{\n",
"    uint2 v;\n",
"    asm volatile(\"ld.global.v2.u32 {%0, %1}, [%2];\" : \"=r\"(v.x), \"=r\"(v.y) : \"l\"(p) : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE int4 load_fresh(const int4 *p)\n",
"{\n",
"    int4 v;\n",
"    asm volatile(\"ld.global.v4.s32 {%0, %1, %2, %3}, [%4];\"\n",
"                 : \"=r\"(v.x), \"=r\"(v.y), \"=r\"(v.z), \"=r\"(v.w)\n",
"                 : \"l\"(p)\n",
"                 : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE uint4 load_fresh(const uint4 *p)\n",
"{\n",
"    uint4 v;\n",
"    asm volatile(\"ld.global.v4.u32 {%0, %1, %2, %3}, [%4];\"\n",
"                 : \"=r\"(v.x), \"=r\"(v.y), \"=r\"(v.z), \"=r\"(v.w)\n",
"                 : \"l\"(p)\n",
"                 : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE float4 load_fresh(const float4 *p)\n",
"{\n",
"    float4 v;\n",
"    asm volatile(\"ld.global.v4.f32 {%0, %1, %2, %3}, [%4];\"\n",
"                 : \"=f\"(v.x), \"=f\"(v.y), \"=f\"(v.z), \"=f\"(v.w)\n",
"                 : \"l\"(p)\n",
"                 : \"memory\");\n",
"    return v;\n",
"}\n",
"template <class T> DEVICE void store_global(T *p, T v) { *p = v; }\n",
"#endif\n",
"\n",
"// ---- shared memory\n",
"#ifdef AWQ_EMULATOR\n",
"#define DYN_SMEM(name) u8 *name = (u8 *)emu::shared\n",
"DEVICE u32 smem_address(const void *p) { return (u32)((const char *)p - emu::shared); }\n",
"DEVICE u32 lds32(u32 a) { return *(u32 *)emu::shared_at(a, 4, emu::READ); }\n",
"DEVICE float lds_f32(u32 a) { return *(float *)emu::shared_at(a, 4, emu::READ); }\n",
"DEVICE uint2 lds64(u32 a) { return *(uint2 *)emu::shared_at(a, 8, emu::READ); }\n",
"DEVICE uint4 lds128(u32 a) { return *(uint4 *)emu::shared_at(a, 16, emu::READ); }\n",
"DEVICE void sts32(u32 a, u32 v) { *(u32 *)emu::shared_at(a, 4, emu::WRITE) = v; }\n",
"DEVICE void sts_f32(u32 a, float v) { *(float *)emu::shared_at(a, 4, emu::WRITE) = v; }\n",
"DEVICE void sts64(u32 a, uint2 v) { *(uint2 *)emu::shared_at(a, 8, emu::WRITE) = v; }\n",
"DEVICE void sts128(u32 a, uint4 v) { *(uint4 *)emu::shared_at(a, 16, emu::WRITE) = v; }\n",
"#else\n",
"#define DYN_SMEM(name) extern __shared__ __align__(1024) u8 name[]\n",
"DEVICE u32 smem_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }\n",
"DEVICE u32 lds32(u32 a)\n",
"{\n",
"    u32 v;\n",
"    asm volatile(\"ld.shared.u32 %0, [%1];\" : \"=r\"(v) : \"r\"(a) : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE float lds_f32(u32 a) { return __uint_as_float(lds32(a)); }\n",
"DEVICE uint2 lds64(u32 a)\n",
"{\n",
"    uint2 v;\n",
"    asm volatile(\"ld.shared.v2.u32 {%0, %1}, [%2];\" : \"=r\"(v.x), \"=r\"(v.y) : \"r\"(a) : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE uint4 lds128(u32 a)\n",
"{\n",
"    uint4 v;\n",
"    asm volatile(\"ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\"\n",
"                 : \"=r\"(v.x), \"=r\"(v.y), \"=r\"(v.z), \"=r\"(v.w)\n",
"                 : \"r\"(a)\n",
"                 : \"memory\");\n",
"    return v;\n",
"}\n",
"DEVICE void sts32(u32 a, u32 v) { asm volatile(\"st.shared.u32 [%0], %1;\" ::\"r\"(a), \"r\"(v) : \"memory"
"\"); }\n",
"DEVICE void sts_f32(u32 a, float v) { asm volatile(\"st.shared.f32 [%0], %1;\" ::\"r\"(a), \"f\"(v) : \"mem"
"ory\"); }\n",
"DEVICE void sts64(u32 a, uint2 v)\n",
"{\n",
"    asm volatile(\"st.shared.v2.u32 [%0], {%1, %2};\" ::\"r\"(a), \"r\"(v.x), \"r\"(v.y) : \"memory\");\n",
"}\n",
"DEVICE void sts128(u32 a, uint4 v)\n",
"{\n",
"    asm volatile(\"st.shared.v4.u32 [%0], {%1, %2, %3, %4};\" ::\"r\"(a), \"r\"(v.x), \"r\"(v.y), \"r\"(v.z"
"), \"r\"(v.w)\n",
"                 : \"memory\");\n",
"}\n",
"#endif\n",
"\n",
"// Four 8x8 matrices of halves: lane i gives the address of row i % 8 of matrix i / 8, 16 bytes; r[m] gets,"
" of\n",
"// matrix m, row lane / 4, columns 2 (lane % 4) and the next.\n",
"DEVICE void ldmatrix4(u32 *r, u32 address)\n",
"{\n",
"#ifdef AWQ_EMULATOR\n",
"    struct Operand {\n",
"        u32 *r, address;\n",
"    } o = {r, address};\n",
"    emu::warp_meet(&o, [](void **p) {\n",
"        for (int m = 0; m < 4; m++)\n",
"            for (int l = 0; l < 32; l++) {\n",
"                u32 row = ((Operand *)p[m * 8 + l / 4])->address;\n",
"                memcpy(&((Operand *)p[l])->r[m], (char *)emu::shared_at(row, 16, emu::READ, -2) + l % 4 * 4"
", 4);\n",
"            }\n",
"    });\n",
"#else\n",
"    asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\"\n",
"                 : \"=r\"(r[0]), \"=r\"(r[1]), \"=r\"(r[2]), \"=r\"(r[3])\n",
"                 : \"r\"(address)\n",
"                 : \"memory\");\n",
"#endif\n",
"}\n",
"\n",
"// The same with each matrix transposed: r[m] gets column lane / 4, rows 2 (lane % 4) and the next. So a ma"
"trix\n",
"// stored with k in rows becomes B of an mma.\n",
"DEVICE void ldmatrix4_transposed(u32 *r, u32 address)\n",
"{\n",
"#ifdef AWQ_EMULATOR\n",
"    struct Operand {\n",
"        u32 *r, address;\n",
"    } o = {r, address};\n",
"    emu::warp_meet(&o, [](void **p) {\n",
"        for (int m = 0; m < 4; m++)\n",
"            for (int l = 0; l < 32; l++) {\n",
"                u32 row = m * 8 + l % 4 * 2;\n",
"                u16 h[2];\n",
"                for (int i = 0; i < 2; i++) {\n",
"                    u32 from = ((Operand *)p[row + i])->address;\n",
"                    memcpy(h + i, (char *)emu::shared_at(from, 16, emu::READ, -2) + l / 4 * 2, 2);\n",
"                }\n",
"                ((Operand *)p[l])->r[m] = h[0] | (u32)h[1] << 16;\n",
"            }\n",
"    });\n",
"#else\n",
"    asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\"\n",
"                 : \"=r\"(r[0]), \"=r\"(r[1]), \"=r\"(r[2]), \"=r\"(r[3])\n",
"                 : \"r\"(address)\n",
"                 : \"memory\");\n",
"#endif\n",
"}\n",
"\n",
"// ---- mma\n",
"// d [16][8] fp32 += a [16][16] b [16][8]. Lane (g = lane / 4, t = lane % 4) holds\n",
"//   a[0] row g,     k 2t, 2t+1      a[1] row g + 8, same k      a[2], a[3] likewise with k + 8\n",
"//   b[0] k 2t, 2t+1 of column g     b[1] k + 8\n",
"//   d[0], d[1] row g, columns 2t, 2t+1      d[2], d[3] row g + 8\n",
"#ifdef AWQ_EMULATOR\n",
"namespace emu\n",
"{\n",
"template <bool BF16> static inline float half_to_f32(u32 h)\n",
"{\n",
"    return BF16 ? bf16_to_f32((u16)h) : f16_to_f32((u16)h);\n",
"}\n",
"template <bool BF16> static inline void mma(float *d, const u32 *a, const u32 *b)\n",
"{\n",
"    struct Operand {\n",
"        float *d;\n",
"        const u32 *a, *b;\n",
"    } o = {d, a, b};\n",
"    warp_meet(&o, [](void **p) {\n",
"        float A[16][16], B[8][16];\n",
"        for (int l = 0; l < 32; l++) {\n",
"            const Operand *q = (const Operand *)p[l];\n",
"            int g = l / 4, t = l % 4;\n",
"            for (int h = 0; h < 2; h++) {\n",
"                for (int i = 0; i < 4; i++)\n",
"                    A[g + 8 * (i & 1)][2 * t + h + 8 * (i / 2)] = half_to_f32<BF16>(q->a[i] >> 16 * h);\n",
"                for (int i = 0; i < 2; i++) B[g][2 * t + h + 8 * i] = half_to_f32<BF16>(q->b[i] >> 16 * h);\n",
"            }\n",
"        }\n",
"        for (int l = 0; l < 32; l++) {\n",
"            Operand *q = (Operand *)p[l];\n",
"            for (int j = 0; j < 4; j++) {\n",
"                const float *x = A[l / 4 + 8 * (j / 2)], *y = B[2 * (l % 4) + j % 2];\n",
"                float s = q->d[j];\n",
"                for (int k = 0; k < 16; k++) s += x[k] * y[k];\n",
"                q->d[j] = s;\n",
"            }\n",
"        }\n",
"    });\n",
"}\n",
"} // namespace emu\n",
"DEVICE void mma_f16(float *d, const u32 *a, const u32 *b) { emu::mma<false>(d, a, b); }\n",
"DEVICE void mma_bf16(float *d, const u32 *a, const u32 *b) { emu::mma<true>(d, a, b); }\n",
"#elif AWQ_HAS_BF16\n",
"DEVICE void mma_f16(float *d, const u32 *a, const u32 *b)\n",
"{\n",
"    asm volatile(\n",
"        \"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
"\"\n",
"        \"{%0, %1, %2, %3};\"\n",
"        : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3])\n",
"        : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));\n",
"}\n",
"DEVICE void mma_bf16(float *d, const u32 *a, const u32 *b)\n",
"{\n",
"    asm volatile(\n",
"        \"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9},"
" \"\n",
"        \"{%0, %1, %2, %3};\"\n",
"        : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3])\n",
"        : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));\n",
"}\n",
"#else\n",
"DEVICE void mma_f16(float *d, const u32 *a, const u32 *b) // sm_75: k 8 at a time\n",
"{\n",
"    asm volatile(\n",
"        \"mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %"
"3};\"\n",
"        : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3])\n",
"        : \"r\"(a[0]), \"r\"(a[1]), \"r\"(b[0]));\n",
"    asm volatile(\n",
"        \"mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %"
"3};\"\n",
"        : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3])\n",
"        : \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[1]));\n",
"}\n",
"#endif\n",
"\n",
"// ---- cp.async\n",
"// 16 bytes from global to shared memory, past the registers. Copies up to copy_commit() form a group;\n",
"// copy_wait<N>() waits until at most the N newest groups are under way, for this thread's copies only. Bel"
"ow\n",
"// sm_80 a copy is a load and a store, done when issued.\n",
"#ifdef AWQ_EMULATOR\n",
"DEVICE void copy16(u32 to, const void *from)\n",
"{\n",
"    emu::check_global(from, 16, 16);\n",
"    if (AWQ_ARCH < 800) {\n",
"        memcpy(emu::shared_at(to, 16, emu::WRITE), from, 16);\n",
"        return;\n",
"    }\n",
"    emu::Copy c = {emu::shared_at(to, 16, emu::COPY), from, 16};\n",
"    if (emu::eager) emu::carry_out(c), c.bytes = 0; // it has landed, which nobody may know before the wait\n",
"    emu::current->copies.back().push_back(c);\n",
"}\n",
"// weights: first to leave L2\n",
"DEVICE void copy16_weights(u32 to, const void *from, u64) { copy16(to, from); }\n",
"DEVICE void copy_commit() { emu::current->copies.emplace_back(); }\n",
"template <int N> DEVICE void copy_wait()\n",
"{\n",
"    auto &groups = emu::current->copies;\n",
"    for (; (int)groups.size() - 1 > N; groups.pop_front())\n",
"        for (const emu::Copy &c : groups.front()) {\n",
"            if (c.bytes) emu::carry_out(c);\n",
"            emu::trace_landed(c.to, 16);\n",
"        }\n",
"}\n",
"#elif AWQ_ARCH >= 800\n",
"DEVICE void copy16(u32 to, const void *from)\n",
"{\n",
"    asm volatile(\"cp.async.cg.shared.global [%0], [%1], 16;\" ::\"r\"(to), \"l\"(from) : \"memory\");\n",
"}\n",
"DEVICE void copy16_weights(u32 to, const void *from, u64 policy)\n",
"{\n",
"    asm volatile(\"cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;\" ::\"r\"(to), \"l\"(from),\n",
"                 \"l\"(policy)\n",
"                 : \"memory\");\n",
"}\n",
"DEVICE void copy_commit() { asm volatile(\"cp.async.commit_group;\" ::: \"memory\"); }\n",
"template <int N> DEVICE void copy_wait() { asm volatile(\"cp.async.wait_group %0;\" ::\"n\"(N) : \"memory\""
"); }\n",
"#else\n",
"DEVICE void copy16(u32 to, const void *from) { sts128(to, load_fresh((const uint4 *)from)); }\n",
"DEVICE void copy16_weights(u32 to, const void *from, u64 policy)\n",
"{\n",
"    sts128(to, load_weights((const uint4 *)from, policy));\n",
"}\n",
"DEVICE void copy_commit() {}\n",
"template <int N> DEVICE void copy_wait() {}\n",
"#endif\n",
"\n",
"// ---- mbarriers and bulk copies (sm_90+)\n",
"// A barrier of `count` arrivals in 8 bytes of shared memory; its phase flips when all arrived and all anno"
"unced\n",
"// bytes are here. mbarrier_wait(b, parity) returns once the phase of that parity is over: 0 first, then 1,"
" 0\n",
"// ...\n",
"#ifdef AWQ_EMULATOR\n",
"DEVICE void mbarrier_init(u32 b, u32 count)\n",
"{\n",
"    emu::Barrier *m = (emu::Barrier *)emu::shared_at(b, 8);\n",
"    emu::race_checks = false;\n",
"    m->pending = m->count = (u16)count;\n",
"    m->bytes = 0;\n",
"    m->phase = 0;\n",
"}\n",
"DEVICE void mbarrier_init_fence() {}\n",
"DEVICE void mbarrier_arrive(u32 b)\n",
"{\n",
"    emu::Barrier *m = (emu::Barrier *)emu::shared_at(b, 8);\n",
"    if (!m->pending) emu::fault(\"mbarrier: more arrivals than its count\");\n",
"    emu::stop_if_faulted();\n",
"    m->pending--;\n",
"    emu::barrier_settle(m);\n",
"    emu::progress++;\n",
"    emu::yield(); // whoever waited may go on before this thread does\n",
"}\n",
"DEVICE void mbarrier_arrive_expect(u32 b, u32 bytes)\n",
"{\n",
"    ((emu::Barrier *)emu::shared_at(b, 8))->bytes += (int)bytes;\n",
"    mbarrier_arrive(b);\n",
"}\n",
"DEVICE void mbarrier_wait(u32 b, u32 parity)\n",
"{\n",
"    while (((emu::Barrier *)emu::shared_at(b, 8))->phase == parity) emu::yield();\n",
"}\n",
"DEVICE void bulk_load(u32 to, const void *from, u32 bytes, u32 barrier, u64)\n",
"{\n",
"    emu::check_global(from, bytes, 16);\n",
"    if (bytes % 16) emu::fault(\"bulk copy of %u bytes\", bytes);\n",
"    emu::shared_at(to + bytes - 16, 16);\n",
"    emu::BulkCopy c = {{emu::shared_at(to, 16), from, bytes}, barrier};\n",
"    if (emu::eager_bulk) emu::land(c);\n",
"    else emu::bulk_copies.push_back(c);\n",
"}\n",
"DEVICE void fence_async_proxy() {}\n",
"#elif AWQ_ARCH >= 900\n",
"DEVICE void mbarrier_init(u32 b, u32 count)\n",
"{\n",
"    asm volatile(\"mbarrier.init.shared::cta.b64 [%0], %1;\" ::\"r\"(b), \"r\"(count) : \"memory\");\n",
"}\n",
"// after the inits, before __syncthreads: asynchronous copies see the barriers\n",
"DEVICE void mbarrier_init_fence() { asm volatile(\"fence.mbarrier_init.release.cluster;\" ::: \"memory\"); "
"}\n",
"DEVICE void mbarrier_arrive(u32 b)\n",
"{\n",
"    asm volatile(\"mbarrier.arrive.shared::cta.b64 _, [%0];\" ::\"r\"(b) : \"memory\");\n",
"}\n",
"DEVICE void mbarrier_arrive_expect(u32 b, u32 bytes)\n",
"{\n",
"    asm volatile(\"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\" ::\"r\"(b), \"r\"(bytes) : \"me"
"mory\");\n",
"}\n",
"DEVICE void mbarrier_wait(u32 b, u32 parity)\n",
"{\n",
"    asm volatile(\"{\\n\"\n",
"                 \".reg .pred done;\\n\"\n",
"                 \"again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\\n\"\n",
"                 \"@!done bra again;\\n\"\n",
"                 \"}\" ::\"r\"(b),\n",
"                 \"r\"(parity)\n",
"                 : \"memory\");\n",
"}\n",
"// bytes: a multiple of 16; both addresses likewise. Counts as `bytes` at the barrier when it has landed.\n",
"DEVICE void bulk_load(u32 to, const void *from, u32 bytes, u32 barrier, u64 policy)\n",
"{\n",
"    asm volatile(\n",
"        \"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
"\"\n",
"        \"[%3], %4;\" ::\"r\"(to),\n",
"        \"l\"(from), \"r\"(bytes), \"r\"(barrier), \"l\"(policy)\n",
"        : \"memory\");\n",
"}\n",
"// what this thread wrote to shared memory by st or cp.async may be read by wgmma\n",
"DEVICE void fence_async_proxy() { asm volatile(\"fence.proxy.async.shared::cta;\" ::: \"memory\"); }\n",
"#endif\n",
"\n",
"// One lane of a whole warp, as the compiler sees: bulk copies of others would be a loop over lanes.\n",
"#ifdef AWQ_EMULATOR\n",
"DEVICE bool one_lane() { return (threadIdx.x & 31) == 0; }\n",
"#elif AWQ_ARCH >= 900\n",
"DEVICE bool one_lane()\n",
"{\n",
"    u32 is;\n",
"    asm volatile(\"{.reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p;}\" : \"=r\"(is));\n",
"    return is != 0;\n",
"}\n",
"#endif\n",
"\n",
"// ---- wgmma (sm_90a only)\n",
"// d [64][N] fp32 += a [64][16] b [16][N] by the 128 threads of a warpgroup; a in registers, each warp 16 r"
"ows\n",
"// in the order of mma; d[4 j + i] is mma's d[i] for columns 8 j ..; b is a tile [N][64] of halves in share"
"d\n",
"// memory.\n",
"//\n",
"// The tile: row n is 128 bytes, chunk c (16 bytes, 8 of k) of row n lies at chunk c ^ (n % 8): \"128-byte\n",
"// swizzle\". Start on a multiple of 1024 bytes. Steps of 16 along k add 32 bytes, that is 2, to the descri"
"ptor.\n",
"// ADD false: d = a b.\n",
"#if AWQ_HAS_WGMMA\n",
"// the descriptor: bits 0-13 address / 16; 16-29 leading offset, unused with swizzle; 32-45 bytes / 16 from"
" 8\n",
"// rows to the next 8 (1024); 62-63 swizzle: 1 is 128 bytes. Its low word; the high one is the same for all"
".\n",
"enum { WGMMA_TILE_HIGH = 64 | 1 << 30 };\n",
"DEVICE u32 wgmma_tile(u32 address) { return (address & 0x3ffff) >> 4 | 1 << 16; }\n",
"#ifdef AWQ_EMULATOR\n",
"namespace emu\n",
"{\n",
"// all 128 threads have posted the same operation\n",
"static inline void wgmma_run(Wgmma **op)\n",
"{\n",
"    static float A[64][16], B[256][16];\n",
"    const uint64_t t = op[0]->descriptor;\n",
"    const u32 start = (u32)(t & 0x3fff) << 4, stride = (u32)(t >> 32 & 0x3fff) << 4;\n",
"    const int n = op[0]->n;\n",
"    const bool bf16 = op[0]->bf16;\n",
"    if (t >> 62 != 1 || stride != 1024 || start % 1024 > 96)\n",
"        return fault(\"wgmma: a descriptor nobody here makes\");\n",
"    auto value = [&](u32 h) { return bf16 ? half_to_f32<true>(h) : half_to_f32<false>(h); };\n",
"    for (int c = 0; c < n; c++)\n",
"        for (int k = 0; k < 16; k++) {\n",
"            u32 at = start + c / 8 * stride + c % 8 * 128 + k * 2;\n",
"            u16 h;\n",
"            at ^= at >> 3 & 0x70;\n",
"            if (at + 2 > shared_size) return fault(\"wgmma: tile outside shared memory\");\n",
"            memcpy(&h, shared + at, 2);\n",
"            B[c][k] = value(h);\n",
"        }\n",
"    for (int l = 0; l < 128; l++) {\n",
"        if (op[l]->descriptor != t || op[l]->n != n) return fault(\"wgmma: threads differ in the descriptor"
"\");\n",
"        for (int i = 0; i < 4; i++)\n",
"            for (int h = 0; h < 2; h++)\n",
"                A[l / 32 * 16 + l % 32 / 4 + 8 * (i & 1)][2 * (l % 4) + h + 8 * (i / 2)] =\n",
"                    value(op[l]->a[i] >> 16 * h);\n",
"    }\n",
"    for (int l = 0; l < 128; l++)\n",
"        for (int j = 0; j < n / 2; j++) {\n",
"            const float *x = A[l / 32 * 16 + l % 32 / 4 + 8 * (j % 4 / 2)],\n",
"                        *y = B[j / 4 * 8 + 2 * (l % 4) + j % 2];\n",
"            float s = op[l]->add ? op[l]->d[j] : 0;\n",
"            for (int k = 0; k < 16; k++) s += x[k] * y[k];\n",
"            op[l]->d[j] = s;\n",
"        }\n",
"}\n",
"// carry out what was issued, but for the newest `keep` groups\n",
"static inline void wgmma_settle(int keep)\n",
"{\n",
"    struct Operand {\n",
"        std::deque<Wgmma> *queue;\n",
"        int keep;\n",
"    } o = {&current->wgmmas, keep};\n",
"    warpgroup_meet(&o, [](void **p) {\n",
"        Operand *first = (Operand *)p[0];\n",
"        int groups = 0;\n",
"        for (const Wgmma &w : *first->queue) groups += w.commit;\n",
"        for (int l = 1; l < 128; l++)\n",
"            if (((Operand *)p[l])->queue->size() != first->queue->size())\n",
"                return fault(\"wgmma: threads differ in operations\");\n",
"        while (groups > first->keep) {\n",
"            Wgmma *op[128];\n",
"            for (int l = 0; l < 128; l++) op[l] = &((Operand *)p[l])->queue->front();\n",
"            if (op[0]->commit) groups--;\n",
"            else wgmma_run(op);\n",
"            for (int l = 0; l < 128; l++) ((Operand *)p[l])->queue->pop_front();\n",
"        }\n",
"    });\n",
"}\n",
"} // namespace emu\n",
"DEVICE void wgmma_fence() {}\n",
"DEVICE void wgmma_commit()\n",
"{\n",
"    emu::current->wgmmas.push_back(emu::Wgmma{nullptr, nullptr, 0, 0, false, false, true});\n",
"    if (emu::eager_bulk) emu::wgmma_settle(0);\n",
"}\n",
"template <int N> DEVICE void wgmma_wait() { emu::wgmma_settle(N); }\n",
"template <int N> DEVICE void wgmma_settled(float *) {}\n",
"template <int N, bool BF16, bool ADD> DEVICE void wgmma(float *d, const u32 *a, u32 tile)\n",
"{\n",
"    emu::current->wgmmas.push_back(emu::Wgmma{d, a, (u64)WGMMA_TILE_HIGH << 32 | tile, N, BF16, ADD, false}"
");\n",
"}\n",
"template <int N> DEVICE void registers_give() {}\n",
"template <int N> DEVICE void registers_take() {}\n",
"#else\n",
"DEVICE void wgmma_fence() { asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\"); }\n",
"DEVICE void wgmma_commit() { asm volatile(\"wgmma.commit_group.sync.aligned;\" ::: \"memory\"); }\n",
"template <int N> DEVICE void wgmma_wait()\n",
"{\n",
"    asm volatile(\"wgmma.wait_group.sync.aligned %0;\" ::\"n\"(N) : \"memory\");\n",
"}\n",
"// after the wait for them, before n sums are read while others are under way: the compiler reads no earlie"
"r\n",
"template <int N> DEVICE void wgmma_settled(float *d)\n",
"{\n",
"#pragma unroll\n",
"    for (int i = 0; i < N; i++) asm volatile(\"\" : \"+f\"(d[i])::\"memory\");\n",
"}\n",
"// setmaxnreg: a warpgroup gives registers back, or takes what others gave\n",
"template <int N> DEVICE void registers_give() { asm volatile(\"setmaxnreg.dec.sync.aligned.u32 %0;\" ::\"n"
"\"(N)); }\n",
"template <int N> DEVICE void registers_take() { asm volatile(\"setmaxnreg.inc.sync.aligned.u32 %0;\" ::\"n"
"\"(N)); }\n",
"\n",
"#define AWQ_REGISTERS_4 \"%0, %1, %2, %3\"\n",
"#define AWQ_REGISTERS_8 AWQ_REGISTERS_4 \", %4, %5, %6, %7\"\n",
"#define AWQ_REGISTERS_16 AWQ_REGISTERS_8 \", %8, %9, %10, %11, %12, %13, %14, %15\"\n",
"#define AWQ_REGISTERS_32                                                                               \\\n",
"    AWQ_REGISTERS_16 \", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31\"\n",
"#define AWQ_REGISTERS_64                                                                                   "
"\\\n",
"    \"%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
"\" \\\n",
"    \"%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
"\" \\\n",
"    \"%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
"\" \\\n",
"    \"%62, %63\"\n",
"#define AWQ_REGISTERS_128                                                                                  "
"  \\\n",
"    \"%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
"\"   \\\n",
"    \"%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
"\"   \\\n",
"    \"%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
"\"   \\\n",
"    \"%62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, "
"\"   \\\n",
"    \"%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101,"
" \" \\\n",
"    \"%102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118,"
" \" \\\n",
"    \"%119, %120, %121, %122, %123, %124, %125, %126, %127\"\n",
"#define AWQ_D4(i) \"+f\"(d[i]), \"+f\"(d[i + 1]), \"+f\"(d[i + 2]), \"+f\"(d[i + 3])\n",
"#define AWQ_D8(i) AWQ_D4(i), AWQ_D4(i + 4)\n",
"#define AWQ_D16(i) AWQ_D8(i), AWQ_D8(i + 8)\n",
"#define AWQ_D32(i) AWQ_D16(i), AWQ_D16(i + 16)\n",
"#define AWQ_D64(i) AWQ_D32(i), AWQ_D32(i + 32)\n",
"#define AWQ_D128(i) AWQ_D64(i), AWQ_D64(i + 64)\n",
"// operands after the tile: accumulate, +a, +b, b not transposed (k runs along the rows of the tile)\n",
"#define AWQ_WGMMA(n, type, registers, a0, a1, a2, a3, t, high, add)                                       "
"\\\n",
"    asm volatile(\"{.reg .b64 tile; mov.b64 tile, {%\" #t \", %\" #high \"};\"                            "
"\\\n",
"                 \"wgmma.mma_async.sync.aligned.m64n\" #n \"k16.f32.\" type \".\" type                    "
"\\\n",
"                 \" {\" AWQ_REGISTERS_##registers \"}, {%\" #a0 \", %\" #a1 \", %\" #a2 \", %\" #a3 \"}, ti"
"le\" \\\n",
"                                                \", %\" #add \", 1, 1, 0;}\"                            \\\n",
"                 : AWQ_D##registers(0)                                                              \\\n",
"                 : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(tile), \"n\"((int)WGMMA_TILE_H"
"IGH),        \\\n",
"                   \"n\"((int)ADD))\n",
"#define AWQ_WGMMA_TYPES(n, registers, ...)                              \\\n",
"    if (N == n && BF16) AWQ_WGMMA(n, \"bf16\", registers, __VA_ARGS__); \\\n",
"    if (N == n && !BF16) AWQ_WGMMA(n, \"f16\", registers, __VA_ARGS__)\n",
"template <int N, bool BF16, bool ADD> DEVICE void wgmma(float *d, const u32 *a, u32 tile)\n",
"{\n",
"    static_assert(N == 8 || N == 16 || N == 32 || N == 64 || N == 128 || N == 256, \"shapes of wgmma in use"
"\");\n",
"    AWQ_WGMMA_TYPES(8, 4, 4, 5, 6, 7, 8, 9, 10);\n",
"    AWQ_WGMMA_TYPES(16, 8, 8, 9, 10, 11, 12, 13, 14);\n",
"    AWQ_WGMMA_TYPES(32, 16, 16, 17, 18, 19, 20, 21, 22);\n",
"    AWQ_WGMMA_TYPES(64, 32, 32, 33, 34, 35, 36, 37, 38);\n",
"    AWQ_WGMMA_TYPES(128, 64, 64, 65, 66, 67, 68, 69, 70);\n",
"    AWQ_WGMMA_TYPES(256, 128, 128, 129, 130, 131, 132, 133, 134);\n",
"}\n",
"#endif\n",
"#endif\n",
"\n",
"// ---- between blocks, between kernels\n",
"// Sums split over blocks: each block writes its part, then counts itself; whoever counts last adds all par"
"ts in\n",
"// order, so the order, and the bits, do not depend on who that was. atomic_count orders this thread's acce"
"sses\n",
"// on both sides.\n",
"#ifdef AWQ_EMULATOR\n",
"DEVICE u32 atomic_count(u32 *p)\n",
"{\n",
"    emu::check_store(p, 4, 4);\n",
"    return (*p)++;\n",
"}\n",
"DEVICE void atomic_max64(u64 *p, u64 v)\n",
"{\n",
"    emu::check_store(p, 8, 8);\n",
"    if (v > *p) *p = v;\n",
"}\n",
"DEVICE void atomic_add64(u64 *p, u64 v)\n",
"{\n",
"    emu::check_store(p, 8, 8);\n",
"    *p += v;\n",
"}\n",
"DEVICE void fence_gpu() {}\n",
"DEVICE void pdl_wait() { emu::current->waited = true; }\n",
"DEVICE void pdl_launch() {}\n",
"DEVICE void named_barrier(int id, int threads)\n",
"{\n",
"    emu::Meeting &m = emu::named[id];\n",
"    emu::meet(m, m.arrived, threads, nullptr, [](void **) {});\n",
"}\n",
"#else\n",
"DEVICE u32 atomic_count(u32 *p)\n",
"{\n",
"    u32 old;\n",
"    asm volatile(\"atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;\" : \"=r\"(old) : \"l\"(p) : \"memory\");\n",
"    return old;\n",
"}\n",
"DEVICE void atomic_max64(u64 *p, u64 v)\n",
"{\n",
"    asm volatile(\"red.relaxed.gpu.global.max.u64 [%0], %1;\" ::\"l\"(p), \"l\"(v) : \"memory\");\n",
"}\n",
"DEVICE void atomic_add64(u64 *p, u64 v)\n",
"{\n",
"    asm volatile(\"red.relaxed.gpu.global.add.u64 [%0], %1;\" ::\"l\"(p), \"l\"(v) : \"memory\");\n",
"}\n",
"DEVICE void fence_gpu() { asm volatile(\"fence.acq_rel.gpu;\" ::: \"memory\"); }\n",
"// Programmatic dependent launch. pdl_launch: the next kernel may be given what room is left on the SMs.\n",
"// pdl_wait: until the kernels before have ended and what they wrote is here; before it only constants may "
"be\n",
"// read. Without the launch attribute, and below sm_90, both do nothing.\n",
"DEVICE void pdl_wait()\n",
"{\n",
"#if AWQ_ARCH >= 900\n",
"    asm volatile(\"griddepcontrol.wait;\" ::: \"memory\");\n",
"#endif\n",
"}\n",
"DEVICE void pdl_launch()\n",
"{\n",
"#if AWQ_ARCH >= 900\n",
"    asm volatile(\"griddepcontrol.launch_dependents;\" ::: \"memory\");\n",
"#endif\n",
"}\n",
"// barrier id of 1 .. 15 for some warps of the block; 0 is __syncthreads\n",
"DEVICE void named_barrier(int id, int threads)\n",
"{\n",
"    asm volatile(\"bar.sync %0, %1;\" ::\"r\"(id), \"r\"(threads) : \"memory\");\n",
"}\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_quantize[] = {
"/* quantize.cuh - what quantizing a model multiplies and searches: fp32 matrices as two of bf16 for the mma\n",
"   kernels of dense.cuh, candidates of the scale search, losses, clips, gated activations in fp32\n",
"\n",
"   A product in fp32, nearly: x = hi + lo with both in bf16 keeps 16 bits of x, and\n",
"       sum a b = sum hi_a hi_b + sum hi_a lo_b + sum lo_a hi_b\n",
"   leaves out lo_a lo_b and what lo has lost: 3 2^-18 of |a b| each, half of the time of either sign. Tenso"
"r cores\n",
"   that cut sums off make sums of one sign, such as those of squares, smaller by up to 2^-15 besides, all a"
"like.\n",
"\n",
"   Candidates and clips are rounded as awq__fake_group does, bit for bit. */\n",
"\n",
"// ---- fp32 to two of bf16\n",
"struct Split { // awq__cuda_split of steps.h says what each member is, likewise below\n",
"    const float *x, *weight;\n",
"    u16 *hi, *lo;\n",
"    int rows, cols, x_stride, y_stride;\n",
"};\n",
"DEVICE void split_store(const Split &p, size_t at, float a, float b) // at: even\n",
"{\n",
"    const u32 h = f32_to_bf16x2(a, b);\n",
"    const float2 f = bf16x2_to_f32(h);\n",
"    store_global((u32 *)(p.hi + at), h);\n",
"    store_global((u32 *)(p.lo + at), f32_to_bf16x2(a - f.x, b - f.y));\n",
"}\n",
"// blockIdx.x: 512 columns, a pair for each thread; blockIdx.y: row\n",
"KERNEL(awq_split, 256, const Split p)\n",
"{\n",
"    const int i = (blockIdx.x * 256 + threadIdx.x) * 2;\n",
"    const float *x = p.x + (size_t)blockIdx.y * p.x_stride + i;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (i >= padded(p.cols)) return;\n",
"    split_store(p, (size_t)blockIdx.y * p.y_stride + i, i < p.cols ? load_fresh(x) : 0,\n",
"                i + 1 < p.cols ? load_fresh(x + 1) : 0);\n",
"}\n",
"// Transposed, through shared memory: blockIdx.x: 64 rows, blockIdx.y: 32 columns, [64][33] fp32.\n",
"KERNEL(awq_split_transposed, 256, const Split p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const u32 tile = smem_address(smem);\n",
"    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = blockIdx.x * 64, col = blockIdx.y * 3"
"2;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"#pragma unroll\n",
"    for (int r = warp; r < 64; r += 8) {\n",
"        float v = 0;\n",
"        if (row + r < p.rows && col + lane < p.cols) {\n",
"            v = load_fresh(p.x + (size_t)(row + r) * p.x_stride + col + lane);\n",
"            if (p.weight) v = __fmul_rn(v, load_fresh(p.weight + row + r));\n",
"        }\n",
"        sts_f32(tile + (r * 33 + lane) * 4, v);\n",
"    }\n",
"    __syncthreads();\n",
"#pragma unroll\n",
"    for (int c = warp; c < 32; c += 8)\n",
"        if (col + c < p.cols)\n",
"            split_store(p, (size_t)(col + c) * p.y_stride + row + 2 * lane,\n",
"                        lds_f32(tile + (2 * lane * 33 + c) * 4), lds_f32(tile + ((2 * lane + 1) * 33 + c) *"
" 4));\n",
"}\n",
"\n",
"// ---- rounding, awq__grid_f32 and awq__fake_group\n",
"DEVICE float warp_min(float v)\n",
"{\n",
"#pragma unroll\n",
"    for (int m = 16; m; m >>= 1) {\n",
"        const float other = __shfl_xor_sync(~0u, v, m);\n",
"        v = other < v ? other : v;\n",
"    }\n",
"    return v;\n",
"}\n",
"DEVICE float warp_max(float v) { return -warp_min(-v); }\n",
"DEVICE float round_even(float x)\n",
"{\n",
"    const float m = x < 0 ? -8388608.0f : 8388608.0f;\n",
"    return fabsf(x) < 8388608.0f ? __fadd_rn(__fadd_rn(x, m), -m) : x;\n",
"}\n",
"struct Steps {\n",
"    float scale, zero, top;\n",
"};\n",
"DEVICE Steps steps_of(float mn, float mx, int bits, int symmetric)\n",
"{\n",
"    Steps s;\n",
"    s.top = (float)((1 << bits) - 1);\n",
"    if (symmetric) {\n",
"        const float half = (float)(1 << (bits - 1)), lo = fabsf(mn), hi = fabsf(mx), most = lo > hi ? lo : "
"hi;\n",
"        s.scale = (most > 1e-5f ? most : 1e-5f) / (half - 1);\n",
"        s.zero = half;\n",
"        return s;\n",
"    }\n",
"    const float span = __fadd_rn(mx, -mn);\n",
"    s.scale = (span > 1e-5f ? span : 1e-5f) / s.top;\n",
"    const float z = -round_even(mn / s.scale);\n",
"    s.zero = z < 0 ? 0 : z > s.top ? s.top : z + 0.0f;\n",
"    return s;\n",
"}\n",
"DEVICE float stepped(const Steps &s, float w)\n",
"{\n",
"    float q = __fadd_rn(round_even(w / s.scale), s.zero);\n",
"    q = q < 0 ? 0 : q > s.top ? s.top : q;\n",
"    return __fmul_rn(__fadd_rn(q, -s.zero), s.scale);\n",
"}\n",
"\n",
"// ---- a candidate: the weights, scaled by their columns, rounded, scaled back; a warp takes a group\n",
"struct Rounding {\n",
"    const float *w, *scales;\n",
"    float *to;\n",
"    int in, group, bits, symmetric, difference;\n",
"};\n",
"// blockIdx.x: 8 groups, blockIdx.y: row\n",
"KERNEL(awq_candidate, 256, const Rounding p)\n",
"{\n",
"    const int lane = threadIdx.x & 31, first = (blockIdx.x * 8 + (threadIdx.x >> 5)) * p.group;\n",
"    const float *w = p.w + (size_t)blockIdx.y * p.in + first, *scales = p.scales + first;\n",
"    float *to = p.to + (size_t)blockIdx.y * p.in + first;\n",
"    float mn = 3e38f, mx = -3e38f;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (first >= p.in) return;\n",
"#pragma unroll 4\n",
"    for (int i = lane; i < p.group; i += 32) {\n",
"        float v = load_fresh(w + i);\n",
"        if (p.scales) v = __fmul_rn(v, load_fresh(scales + i));\n",
"        mn = v < mn ? v : mn;\n",
"        mx = v > mx ? v : mx;\n",
"    }\n",
"    const Steps s = steps_of(warp_min(mn), warp_max(mx), p.bits, p.symmetric);\n",
"#pragma unroll 4\n",
"    for (int i = lane; i < p.group; i += 32) {\n",
"        const float x = load_fresh(w + i), scale = p.scales ? load_fresh(scales + i) : 1.0f;\n",
"        const float v = stepped(s, __fmul_rn(x, scale)) / scale;\n",
"        store_global(to + i, p.difference ? __fadd_rn(v, -x) : v);\n",
"    }\n",
"}\n",
"\n",
"// ---- out [row] = sum of a b over the row, or of (a - b)^2, in a tree: blockIdx.x: row\n",
"struct Dots {\n",
"    const float *a, *b;\n",
"    float *out;\n",
"    int n, difference;\n",
"};\n",
"KERNEL(awq_row_dots, 256, const Dots p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const size_t row = (size_t)blockIdx.x * p.n;\n",
"    float sum = 0;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"#pragma unroll 4\n",
"    for (int i = threadIdx.x; i < p.n; i += 256) {\n",
"        float a = load_fresh(p.a + row + i), b = load_fresh(p.b + row + i);\n",
"        if (p.difference) a = b = a - b;\n",
"        sum = fused(a, b, sum);\n",
"    }\n",
"    sum = block_sum(sum, smem_address(smem));\n",
"    if (threadIdx.x == 0) store_global(p.out + blockIdx.x, sum);\n",
"}\n",
"\n",
"// ---- clips: the limit of a group whose rounding costs least, sum d_i (M d)_i with d = rounded(clamped w)"
" - w\n",
"struct Clips {\n",
"    const float *w, *moments;\n",
"    float *clip;\n",
"    int out, in, group, bits, symmetric;\n",
"};\n",
"DEVICE float clamped(float v, float limit) { return v < -limit ? -limit : v > limit ? limit : v; }\n",
"// A warp takes a group of a row: blockIdx.x: group, blockIdx.y: 8 rows, so that they read the same moments"
";\n",
"// [8][group] fp32 of shared memory.\n",
"KERNEL(awq_clips, 256, const Clips p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = blockIdx.y * 8 + warp, n = p.group;\n",
"    const u32 d = smem_address(smem) + warp * n * 4;\n",
"    const float *w = p.w + (size_t)row * p.in + (size_t)blockIdx.x * n;\n",
"    const float *m = p.moments + (size_t)blockIdx.x * n * n;\n",
"    float top = 0, best = 1e9f, found;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (row >= p.out) return;\n",
"    for (int i = lane; i < n; i += 32) {\n",
"        const float v = fabsf(load_fresh(w + i));\n",
"        top = v > top ? v : top;\n",
"    }\n",
"    found = top = warp_max(top);\n",
"#pragma unroll 1\n",
"    for (int k = 0; k < 10; k++) {\n",
"        const float limit = __fmul_rn(top, (float)(1.0 - k / 20.0));\n",
"        float mn = 3e38f, mx = -3e38f, err = 0;\n",
"        for (int i = lane; i < n; i += 32) {\n",
"            const float v = clamped(load_fresh(w + i), limit);\n",
"            mn = v < mn ? v : mn;\n",
"            mx = v > mx ? v : mx;\n",
"        }\n",
"        const Steps s = steps_of(warp_min(mn), warp_max(mx), p.bits, p.symmetric);\n",
"        __syncwarp(); // the last candidate's d has been read\n",
"        for (int i = lane; i < n; i += 32) {\n",
"            const float v = load_fresh(w + i);\n",
"            sts_f32(d + i * 4, __fadd_rn(stepped(s, clamped(v, limit)), -v));\n",
"        }\n",
"        __syncwarp();\n",
"        for (int i = lane; i < n; i += 32) {\n",
"            float y = 0;\n",
"#pragma unroll 8\n",
"            for (int j = 0; j < n; j++) y = fused(load_constant(m + (size_t)j * n + i), lds_f32(d + j * 4),"
" y);\n",
"            err = fused(y, lds_f32(d + i * 4), err);\n",
"        }\n",
"        err = warp_sum(err);\n",
"        if (err < best) best = err, found = limit;\n",
"    }\n",
"    if (lane == 0) store_global(p.clip + (size_t)row * (p.in / n) + blockIdx.x, found);\n",
"}\n",
"\n",
"// ---- y = act(gate) * up, fp32, all of a stretch of memory\n",
"struct Gated {\n",
"    const float *gate, *up;\n",
"    float *y;\n",
"    u64 n;\n",
"    int kind;\n",
"    float alpha, limit;\n",
"};\n",
"enum { GATED_SILU, GATED_GELU_TANH, GATED_SWIGLU };\n",
"DEVICE float gated(const Gated &p, float g, float u)\n",
"{\n",
"    float z = g;\n",
"    if (p.kind == GATED_SWIGLU) {\n",
"        g = g > p.limit ? p.limit : g;\n",
"        u = u > p.limit ? p.limit : u < -p.limit ? -p.limit : u;\n",
"        z = __fmul_rn(p.alpha, g);\n",
"        u = __fadd_rn(u, 1.0f);\n",
"    } else if (p.kind == GATED_GELU_TANH) z = 1.5957691216057308f * (g + 0.044715f * g * g * g);\n",
"    g = g / __fadd_rn(1.0f, exact_exp(-z));\n",
"    return p.up ? __fmul_rn(g, u) : g;\n",
"}\n",
"KERNEL(awq_gated, 256, const Gated p)\n",
"{\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"#pragma unroll 4\n",
"    for (int k = 0; k < 4; k++) {\n",
"        const u64 i = (u64)blockIdx.x * 1024 + k * 256 + threadIdx.x;\n",
"        if (i < p.n) store_global(p.y + i, gated(p, load_fresh(p.gate + i), p.up ? load_fresh(p.up + i) : 0"
"));\n",
"    }\n",
"}\n",
"\n",
"// ---- attention of one sequence from its beginning, all in fp32: norm and rope of a head's row in place, "
"a\n",
"// warp each; then 32 queries of a head and 32 keys at a time, a lane has a key, then every 32nd output\n",
"struct Turn {\n",
"    float *x;\n",
"    const float *norm, *cos_, *sin_;\n",
"    int heads, dim, rope_dim, rope_first, rope_pairs, rope_table;\n",
"    float eps;\n",
"};\n",
"// blockIdx.x: row, blockIdx.y: 8 heads; [8][dim] fp32 of shared memory\n",
"KERNEL(awq_turn, 256, const Turn p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, h = blockIdx.y * 8 + warp, d = p.dim;\n",
"    const u32 head = smem_address(smem) + warp * d * 4;\n",
"    float *x = p.x + ((size_t)blockIdx.x * p.heads + h) * d, sum = 0;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (h >= p.heads) return;\n",
"    for (int i = lane; i < d; i += 32) {\n",
"        const float v = load_fresh(x + i);\n",
"        sum = fused(v, v, sum);\n",
"        sts_f32(head + i * 4, v);\n",
"    }\n",
"    sum = 1.0f / sqrtf(warp_sum(sum) / (float)d + p.eps);\n",
"    __syncwarp();\n",
"    if (p.norm) {\n",
"        for (int i = lane; i < d; i += 32)\n",
"            sts_f32(head + i * 4, __fmul_rn(__fmul_rn(lds_f32(head + i * 4), sum), load_fresh(p.norm + i)))"
";\n",
"        __syncwarp();\n",
"    }\n",
"    if (p.cos_) {\n",
"        const int half = p.rope_dim / 2;\n",
"        const size_t at = ((size_t)blockIdx.x * 2 + p.rope_table) * half;\n",
"        for (int i = lane; i < half; i += 32) {\n",
"            const u32 a = head + (p.rope_first + (p.rope_pairs ? 2 * i : i)) * 4,\n",
"                      b = a + (p.rope_pairs ? 4 : half * 4);\n",
"            const float u = lds_f32(a), v = lds_f32(b), c = load_fresh(p.cos_ + at + i),\n",
"                        s = load_fresh(p.sin_ + at + i);\n",
"            sts_f32(a, __fadd_rn(__fmul_rn(u, c), -__fmul_rn(v, s)));\n",
"            sts_f32(b, __fadd_rn(__fmul_rn(v, c), __fmul_rn(u, s)));\n",
"        }\n",
"        __syncwarp();\n",
"    }\n",
"    for (int i = lane; i < d; i += 32) store_global(x + i, lds_f32(head + i * 4));\n",
"}\n",
"\n",
"struct Attention {\n",
"    const float *q, *k, *v;\n",
"    float *out;\n",
"    int n, heads, group, k_dim, v_dim, window;\n",
"    float scale;\n",
"};\n",
"// blockIdx.x: 32 queries, blockIdx.y: head; of shared memory q [32][k_dim], k [32][k_dim + 1], v [32][v_di"
"m]\n",
"KERNEL(awq_sequence, 256, const Attention p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, K = p.k_dim, V = p.v_dim, head = blockIdx.y"
";\n",
"    const int first = blockIdx.x * 32, mine = first + warp * 4;\n",
"    const int kv = head / p.group, kv_heads = p.heads / p.group;\n",
"    const u32 q = smem_address(smem), k = q + 128 * K, v = k + 128 * (K + 1);\n",
"    float out[4][8], most[4], sum[4];\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    for (int r = warp; r < 32; r += 8)\n",
"        for (int i = lane; i < K; i += 32)\n",
"            sts_f32(q + (r * K + i) * 4,\n",
"                    first + r < p.n ? load_fresh(p.q + ((size_t)(first + r) * p.heads + head) * K + i) : 0)"
";\n",
"#pragma unroll\n",
"    for (int j = 0; j < 4; j++) {\n",
"        most[j] = -3e38f, sum[j] = 0;\n",
"#pragma unroll\n",
"        for (int i = 0; i < 8; i++) out[j][i] = 0;\n",
"    }\n",
"    const int begin = p.window > 0 && first >= p.window ? (first - p.window + 1) / 32 * 32 : 0;\n",
"#pragma unroll 1\n",
"    for (int key = begin; key < first + 32 && key < p.n; key += 32) {\n",
"        __syncthreads(); // the last tile has been read\n",
"        for (int r = warp; r < 32; r += 8) {\n",
"            const size_t row = (size_t)(key + r) * kv_heads + kv;\n",
"            for (int i = lane; i < K; i += 32)\n",
"                sts_f32(k + (r * (K + 1) + i) * 4, key + r < p.n ? load_fresh(p.k + row * K + i) : 0);\n",
"            for (int i = lane; i < V; i += 32)\n",
"                sts_f32(v + (r * V + i) * 4, key + r < p.n ? load_fresh(p.v + row * V + i) : 0);\n",
"        }\n",
"        __syncthreads();\n",
"        if (mine >= p.n) continue;\n",
"        float s[4] = {0, 0, 0, 0};\n",
"#pragma unroll 4\n",
"        for (int i = 0; i < K; i++) {\n",
"            const float x = lds_f32(k + (lane * (K + 1) + i) * 4);\n",
"#pragma unroll\n",
"            for (int j = 0; j < 4; j++) s[j] = fused(x, lds_f32(q + ((warp * 4 + j) * K + i) * 4), s[j]);\n",
"        }\n",
"#pragma unroll\n",
"        for (int j = 0; j < 4; j++) {\n",
"            const int behind = mine + j - key - lane; // of the query\n",
"            const bool seen = behind >= 0 && (p.window <= 0 || behind < p.window);\n",
"            s[j] = seen ? s[j] * p.scale : -3e38f;\n",
"            const float top = warp_max(s[j]), now = top > most[j] ? top : most[j];\n",
"            const float keep = exact_exp(most[j] - now);\n",
"            s[j] = seen ? exact_exp(s[j] - now) : 0;\n",
"            most[j] = now;\n",
"            sum[j] = fused(sum[j], keep, s[j]);\n",
"#pragma unroll\n",
"            for (int i = 0; i < 8; i++) out[j][i] *= keep;\n",
"        }\n",
"#pragma unroll 4\n",
"        for (int r = 0; r < 32; r++) {\n",
"            float weight[4];\n",
"#pragma unroll\n",
"            for (int j = 0; j < 4; j++) weight[j] = __shfl_sync(~0u, s[j], r);\n",
"#pragma unroll\n",
"            for (int i = 0; i < 8; i++)\n",
"                if (lane + 32 * i < V) {\n",
"                    const float x = lds_f32(v + (r * V + lane + 32 * i) * 4);\n",
"#pragma unroll\n",
"                    for (int j = 0; j < 4; j++) out[j][i] = fused(weight[j], x, out[j][i]);\n",
"                }\n",
"        }\n",
"    }\n",
"#pragma unroll\n",
"    for (int j = 0; j < 4; j++) {\n",
"        const float all = warp_sum(sum[j]);\n",
"        float *to = p.out + ((size_t)(mine + j) * p.heads + head) * V;\n",
"        if (mine + j >= p.n) break;\n",
"#pragma unroll\n",
"        for (int i = 0; i < 8; i++)\n",
"            if (lane + 32 * i < V) store_global(to + lane + 32 * i, out[j][i] / all);\n",
"    }\n",
"}\n",
NULL};
static const char *const awq__cuda_text_repack[] = {
"/* repack.cuh - weights as files have them to weights as the kernels want them, on the GPU, when a model is\n",
"   loaded\n",
"\n",
"   awq_repack_codes: codes to blocks of Bits4 or Bits8 (common.cuh), a block of threads each.\n",
"   awq_repack_params: zero points and scales to sz [groups][n_pad].\n",
"   awq_repack_dense: f16, bf16 or fp32 rows to f16 or bf16 rows padded along k.\n",
"   awq_repack_sum: a checksum of what they made, which is the same whatever it was made of.\n",
"\n",
"   LAYOUTS, b = file_bits, of 2 to 8 where nothing is said. A row of values is a stream of words, value i a"
"t bit\n",
"   b i from the lowest of the first word on; n, k, g: values along outputs, inputs, groups.\n",
"     canonical    codes u8 [n][k]             zeros u8 [n][g]                       scales [n][g]\n",
"     gemm, b 4    codes [k][n/8], out of 0 2 4 6 1 3 5 7; zeros [g][n/8] likewise   scales [g][n]\n",
"     gemv, b 4    codes [n] streams of k      zeros [n] streams of g, pitch / 8     scales [n][pitch]\n",
"     gemv_fast    codes u16 [n/4][k]: fast_at; zeros f16 [g][n], -scale * zero      scales [g][n]\n",
"     marlin, b 4  codes [k/16][2 n]: marlin_at; no zeros                            scales [g][n]: marlin_s"
"cale\n",
"     gptq         codes, n streams of k, [][n]; zeros [g] streams of n, less 1      scales [g][n]\n",
"     gptq words   likewise                    1 taken from each as one number       scales [g][n]\n",
"     gptq v2      likewise                    not less 1                            scales [g][n]\n",
"     compressed   codes [n] streams of k      zeros, g streams of n, [][g]          scales [n][g]\n",
"     int8         codes i8 [n][k], less 128   zeros i8 [n][g], less 128             scales [n][g]\n",
"     native       codes [n/16][k/chunk] of 16 words for each 4 inputs, b to 4: i and i + chunk/2 in a byte;\n",
"                  zeros [n/16][g] of 16 u8, behind them the 16 scales, f16 or fp32\n",
"   zeros NULL: 2^(b-1). Here g counts the file's groups, of `file_group` inputs; the kernels' are `group`, "
"which\n",
"   divides them, so a file with groups of 96 becomes one with groups of 32. Padding has code 0 and scale 0.\n",
"   Several matrices become one, one below the other: each is put behind the rows of those before it, in the"
"ir\n",
"   order, since a word of a block may have codes of two. */\n",
"enum {\n",
"    REPACK_CANONICAL,\n",
"    REPACK_GEMM,\n",
"    REPACK_GPTQ,\n",
"    REPACK_GPTQ_V2,\n",
"    REPACK_COMPRESSED,\n",
"    REPACK_GPTQ_WORDS,\n",
"    REPACK_NATIVE,\n",
"    REPACK_GEMV,\n",
"    REPACK_GEMV_FAST,\n",
"    REPACK_MARLIN,\n",
"    REPACK_INT8\n",
"};\n",
"enum { REPACK_F32, REPACK_F16, REPACK_BF16 };\n",
"\n",
"// awq__cuda_repack of plan.h\n",
"struct Repack {\n",
"    void *to;          // blocks, sz, or rows of k_tiles * 64 halves\n",
"    const void *codes; // or dense weights [n][k]\n",
"    const void *zeros;\n",
"    const void *scales;\n",
"    u32 *lossy; // set to `mark` if a scale is no f16 number, or a dense weight is too large for its type;\n",
"                // lossy[1] if a zero point is none, a scale NaN, Inf or too large\n",
"    int n, k, n_pad, k_tiles, bits, layout, type, file_group, group, bf16; // type: of scales or dense weig"
"hts\n",
"    int file_n, first; // the file's matrix has file_n outputs; n of them from `first` on are taken\n",
"    int skip;          // outputs of the first block that are there already\n",
"    int write;         // outputs that are written: n, or those of the padding too\n",
"    int chunk;         // native\n",
"    u32 mark;\n",
"    int file_bits, pitch;\n",
"};\n",
"\n",
"// Value `index` of a stream of `bits`, whose words begin at `first` and are `step` apart\n",
"DEVICE u32 stream_value(const void *words, size_t first, size_t step, int index, int bits)\n",
"{\n",
"    const u32 bit = (u32)index * bits, shift = bit & 31;\n",
"    const u32 *w = (const u32 *)words + first + (bit >> 5) * step;\n",
"    u32 v = load_constant(w) >> shift;\n",
"    if (shift + bits > 32) v |= load_constant(w + step) << (32 - shift);\n",
"    return v & ((1u << bits) - 1);\n",
"}\n",
"DEVICE int words_of(int n, int bits) { return (int)(((u64)n * bits + 31) / 32); }\n",
"DEVICE int gemm_nibble(int out) { return (out & 1) * 4 + (out & 7) / 2; }\n",
"\n",
"// Where a block of 16 outputs has an input's byte, for its first output\n",
"DEVICE size_t native_at(const Repack &p, int out, int in)\n",
"{\n",
"    const int i = in % p.chunk, half = p.bits == 4 ? p.chunk / 2 : p.chunk;\n",
"    return ((size_t)(out >> 4) * (p.k / p.chunk) + in / p.chunk) * half * 16 + i % half / 4 * 64 + (i & 3);\n",
"}\n",
"DEVICE const u8 *native_params(const Repack &p, int out, int g, int groups)\n",
"{\n",
"    return (const u8 *)p.zeros + ((size_t)(out >> 4) * groups + g) * (p.type == REPACK_F32 ? 80 : 48);\n",
"}\n",
"\n",
"// gemv_fast: 4 rows side by side over 64 inputs; a word has inputs i, i + 8, i + 16, i + 24\n",
"DEVICE u32 fast_at(const Repack &p, int out, int in)\n",
"{\n",
"    const int word = in / 64 * 64 + (out & 3) * 16 + (in & 32) / 4 + (in & 7);\n",
"    return load_constant((const u16 *)p.codes + (size_t)(out >> 2) * p.k + word) >> (in & 24) / 2 & 15;\n",
"}\n",
"// marlin: tiles of 16 inputs and 64 outputs; a word has two inputs, these + 8, and the same 8 outputs on\n",
"DEVICE u32 marlin_at(const Repack &p, int out, int in)\n",
"{\n",
"    const int word = out / 64 * 128 + (out & 7) * 16 + (in & 6) * 2 + (out & 48) / 16;\n",
"    const int nibble = (in & 1) * 4 + (out & 8) / 4 + (in & 8) / 8;\n",
"    return load_constant((const u32 *)p.codes + (size_t)(in >> 4) * 2 * p.file_n + word) >> nibble * 4 & 15"
";\n",
"}\n",
"DEVICE int marlin_scale(const Repack &p, int out)\n",
"{\n",
"    const int v = out & 31;\n",
"    if (p.file_group == p.k) return out - v + (v & 6) * 4 + v / 8 * 2 + (v & 1);\n",
"    return out - (out & 63) + (out & 7) * 8 + (out & 63) / 8;\n",
"}\n",
"\n",
"DEVICE u32 repack_code(const Repack &p, int out, int in)\n",
"{\n",
"    const int b = p.file_bits;\n",
"    if (out < 0 || out >= p.n || in >= p.k) return 0;\n",
"    out += p.first;\n",
"    switch (p.layout) {\n",
"    case REPACK_CANONICAL: return load_constant((const u8 *)p.codes + (size_t)out * p.k + in);\n",
"    case REPACK_INT8: return load_constant((const u8 *)p.codes + (size_t)out * p.k + in) ^ 128;\n",
"    case REPACK_GEMM:\n",
"        return stream_value(p.codes, (size_t)in * (p.file_n / 8) + out / 8, 0, gemm_nibble(out), 4);\n",
"    case REPACK_GEMV:\n",
"    case REPACK_COMPRESSED: return stream_value(p.codes, (size_t)out * words_of(p.k, b), 1, in, b);\n",
"    case REPACK_GEMV_FAST: return fast_at(p, out, in);\n",
"    case REPACK_MARLIN: return marlin_at(p, out, in);\n",
"    case REPACK_NATIVE: {\n",
"        const u32 q = load_constant((const u8 *)p.codes + native_at(p, out, in) + (out & 15) * 4);\n",
"        return p.bits == 8 ? q : in % p.chunk < p.chunk / 2 ? q & 15 : q >> 4;\n",
"    }\n",
"    default: return stream_value(p.codes, out, p.file_n, in, b); // gptq\n",
"    }\n",
"}\n",
"DEVICE float load_typed(const void *from, size_t i, int type)\n",
"{\n",
"    if (type == REPACK_F32) return load_constant((const float *)from + i);\n",
"    const u32 h = load_constant((const u16 *)from + i);\n",
"    return type == REPACK_F16 ? f16x2_to_f32(h).x : bf16x2_to_f32(h).x;\n",
"}\n",
"\n",
"DEVICE float repack_scale(const Repack &p, int out, int g, int groups)\n",
"{\n",
"    switch (p.layout) {\n",
"    case REPACK_NATIVE: return load_typed(native_params(p, out, g, groups) + 16, out & 15, p.type);\n",
"    case REPACK_CANONICAL:\n",
"    case REPACK_INT8:\n",
"    case REPACK_COMPRESSED: return load_typed(p.scales, (size_t)out * groups + g, p.type);\n",
"    case REPACK_GEMV: return load_typed(p.scales, (size_t)out * p.pitch + g, p.type);\n",
"    case REPACK_MARLIN: return load_typed(p.scales, (size_t)g * p.file_n + marlin_scale(p, out), p.type);\n",
"    default: return load_typed(p.scales, (size_t)g * p.file_n + out, p.type);\n",
"    }\n",
"}\n",
"\n",
"// The zero point whose -scale * zero has been stored; 16: there is none\n",
"DEVICE u32 fast_zero(const Repack &p, int out, int g, float scale)\n",
"{\n",
"    const u32 stored = load_constant((const u16 *)p.zeros + (size_t)g * p.file_n + out);\n",
"    const float z = 0.5f - f16x2_to_f32(stored).x / scale;\n",
"    if (!(stored & 0x7fff)) return 0;\n",
"    if (!(z >= 1 && z < 16)) return 16;\n",
"    return (f32_to_f16x2(-(scale * (float)(int)z), 0) & 0xffff) == stored ? (u32)z : 16;\n",
"}\n",
"DEVICE u32 repack_zero(const Repack &p, int out, int g, int groups, float scale)\n",
"{\n",
"    const int b = p.file_bits;\n",
"    const size_t row = (size_t)g * words_of(p.file_n, b);\n",
"    u32 z;\n",
"    if (!p.zeros) return 1u << (b - 1);\n",
"    switch (p.layout) {\n",
"    case REPACK_CANONICAL: return load_constant((const u8 *)p.zeros + (size_t)out * groups + g);\n",
"    case REPACK_INT8: return load_constant((const u8 *)p.zeros + (size_t)out * groups + g) ^ 128;\n",
"    case REPACK_GEMM: return stream_value(p.zeros, row + out / 8, 0, gemm_nibble(out), 4);\n",
"    case REPACK_GEMV: return stream_value(p.zeros, (size_t)out * (p.pitch / 8), 1, g, 4);\n",
"    case REPACK_GEMV_FAST: return fast_zero(p, out, g, scale);\n",
"    case REPACK_COMPRESSED: return stream_value(p.zeros, g, groups, out, b);\n",
"    case REPACK_NATIVE: return load_constant(native_params(p, out, g, groups) + (out & 15));\n",
"    case REPACK_GPTQ_WORDS:\n",
"        z = load_constant((const u32 *)p.zeros + row + (u32)(out * b) / 32) + ~0u / ((1u << b) - 1);\n",
"        return z >> (out * b & 31) & ((1u << b) - 1);\n",
"    default:\n",
"        z = stream_value(p.zeros, row, 1, out, b);\n",
"        return p.layout == REPACK_GPTQ ? (z + 1) & ((1u << b) - 1) : z;\n",
"    }\n",
"}\n",
"\n",
"// blockIdx.x: tile of k, blockIdx.y: block of outputs; 128 threads, a lane of a warp of the block each\n",
"KERNEL(awq_repack_codes, 128, Repack p)\n",
"{\n",
"    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;\n",
"    const int out = blockIdx.y * 64 + warp * 16 + (lane >> 2) - p.skip, in = blockIdx.x * 64 + 2 * (lane & "
"3);\n",
"    const size_t block = (size_t)blockIdx.y * p.k_tiles + blockIdx.x;\n",
"    const bool more = p.skip && blockIdx.y == 0; // to what others put there, with zeros where this is put\n",
"    u32 *to = (u32 *)p.to + (block * 4 + warp) * 32 * p.bits; // a warp's share: 32 lanes, 4 or 8 words eac"
"h\n",
"#pragma unroll 1\n",
"    for (int kk = 0; kk < 4; kk++) {\n",
"        u32 q[2] = {0, 0};\n",
"#pragma unroll\n",
"        for (int j = 0; j < 8; j++) { // output g or g + 8, input + 8, + 1\n",
"            const int high = j & 1, later = j >> 1 & 1, next = j >> 2;\n",
"            const u32 code = repack_code(p, out + 8 * high, in + 16 * kk + 8 * later + next);\n",
"            if (p.bits == 4) q[0] |= code << 4 * (high + 2 * later + 4 * next);\n",
"            else q[later] |= code << 8 * (2 * high + next);\n",
"        }\n",
"        if (p.bits == 4) {\n",
"            if (more) q[0] |= load_fresh(to + lane * 4 + kk);\n",
"            store_global(to + lane * 4 + kk, q[0]);\n",
"        } else {\n",
"            uint2 *pair = (uint2 *)(to + (kk / 2 * 32 + lane) * 4 + kk % 2 * 2);\n",
"            const uint2 had = more ? load_fresh(pair) : make_uint2(0, 0);\n",
"            store_global(pair, make_uint2(q[0] | had.x, q[1] | had.y));\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"// blockIdx.x: 256 outputs, blockIdx.y: group\n",
"KERNEL(awq_repack_params, 256, Repack p)\n",
"{\n",
"    const int out = blockIdx.x * 256 + threadIdx.x, groups = p.k / p.file_group;\n",
"    const int g = min((int)blockIdx.y * p.group / p.file_group, groups - 1);\n",
"    u32 sz = 0x64000000u;\n",
"    if (out >= p.write) return;\n",
"    if (out < p.n && (int)blockIdx.y * p.group < p.k) {\n",
"        const float s = repack_scale(p, out + p.first, g, groups);\n",
"        const u32 h = f32_to_f16x2(s, 0);\n",
"        if (f16x2_to_f32(h).x != s) store_global(p.lossy, p.mark);\n",
"        const u32 z = repack_zero(p, out + p.first, g, groups, s);\n",
"        if (z >> p.file_bits || (h & 0x7c00) == 0x7c00) store_global(p.lossy + 1, p.mark);\n",
"        sz = (0x6400u + z) << 16 | h;\n",
"    }\n",
"    store_global((u32 *)p.to + (size_t)blockIdx.y * p.n_pad + out, sz);\n",
"}\n",
"\n",
"// blockIdx.x: 512 inputs, a pair for each thread; blockIdx.y: output\n",
"KERNEL(awq_repack_dense, 256, Repack p)\n",
"{\n",
"    const int in = blockIdx.x * 512 + threadIdx.x * 2;\n",
"    const size_t from = (size_t)blockIdx.y * p.k + in;\n",
"    const float a = in < p.k ? load_typed(p.codes, from, p.type) : 0;\n",
"    const float b = in + 1 < p.k ? load_typed(p.codes, from + 1, p.type) : 0;\n",
"    if (in >= p.k_tiles * 64) return;\n",
"    const u32 h = p.bf16 ? f32_to_bf16x2(a, b) : f32_to_f16x2(a, b);\n",
"    const float2 v = p.bf16 ? bf16x2_to_f32(h) : f16x2_to_f32(h);\n",
"    if (v.x - v.x != a - a || v.y - v.y != b - b) // one is finite, the other not; NaN differs from itself\n",
"        if (a - a == 0 && b - b == 0) store_global(p.lossy, p.mark);\n",
"    store_global((u32 *)p.to + (size_t)blockIdx.y * p.k_tiles * 32 + in / 2, h);\n",
"}\n",
"\n",
"// awq__cuda_sum of plan.h\n",
"struct RepackSum {\n",
"    const uint4 *data;\n",
"    u64 *sum; // grows by the sum of all words, each mixed with its place\n",
"    u64 n, seed;\n",
"};\n",
"\n",
"DEVICE u64 sum_mix(u64 word, u64 place)\n",
"{\n",
"    u64 h = (word ^ place * 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;\n",
"    h = (h ^ h >> 32) * 0x94d049bb133111ebull;\n",
"    return h ^ h >> 29;\n",
"}\n",
"// each block 4096 pieces of 16 bytes; addition, so that the order is of no matter\n",
"KERNEL(awq_repack_sum, 256, RepackSum p)\n",
"{\n",
"    const u64 first = (u64)blockIdx.x * 4096 + threadIdx.x;\n",
"    u64 sum = 0;\n",
"    for (u64 i = first; i < first + 4096 && i < p.n; i += 256) {\n",
"        const uint4 v = load_fresh(p.data + i);\n",
"        sum +=\n",
"            sum_mix(v.x | (u64)v.y << 32, p.seed + 2 * i) + sum_mix(v.z | (u64)v.w << 32, p.seed + 2 * i + "
"1);\n",
"    }\n",
"#pragma unroll\n",
"    for (int m = 16; m; m >>= 1) sum += __shfl_xor_sync(~0u, sum, m);\n",
"    if ((threadIdx.x & 31) == 0) atomic_add64(p.sum, sum);\n",
"}\n",
NULL};
static const char *const awq__cuda_text_rows[] = {
"/* rows.cuh - the steps of a decoder block that take a row at a time: embeddings, norms and the residual\n",
"   stream, placing q, k and v, gated activations, logits\n",
"\n",
"   What each computes is awq.h's, in fp32: awq__embed_id, awq__add_out and awq__norm_in, awq__place_row,\n",
"   awq__task_act, awq__logits_finish and awq__argmax. The residual stream x is fp32; inputs of linears are\n",
"   written in halves, T, padded with zeros to a multiple of 64 columns; outputs of linears are read as fp32"
" or\n",
"   T. Sums over a row are trees, not the CPU's 16 lanes: relative error below (log2(n) + n / 4096 + 4) 2^-2"
"4,\n",
"   and 2^-22.9 for its root. Everything else is rounded as the CPU rounds it, but for activations (fast_exp"
",\n",
"   of values that become halves).\n",
"\n",
"   Most wait for memory only: one block a row, every load of a row under way at once, 16 bytes a thread; wh"
"at\n",
"   a later pass needs stays in shared memory. */\n",
"\n",
"/* ---- embeddings: x [rows][h] = scale * table row ids[r]\n",
"\n",
"   Of a table as stored, or of a head in blocks of 4 or 8 bits, see common.cuh: a row of those is 4-byte\n",
"   words, 16 bytes apart, in the order of its inputs. */\n",
"struct Embed { // awq__cuda_embed of steps.h says what each member is, likewise below\n",
"    const int *ids;\n",
"    const void *table;\n",
"    const u32 *sz;\n",
"    float *x;\n",
"    int h, n_pad, k_tiles, group;\n",
"    float scale;\n",
"};\n",
"enum { TABLE_F32, TABLE_F16, TABLE_BF16, TABLE_8 };\n",
"// inputs in to in + 3 of output `out`, in a multiple of 4; zero point and scale are those of all of them\n",
"DEVICE void block_row(const Embed &p, int out, int in, float *v)\n",
"{\n",
"    const int r = out & 15, c = in & 15, kk = in >> 4 & 3, lane = (r & 7) * 4 + (c & 7) / 2;\n",
"    const size_t warp = ((size_t)(out >> 6) * p.k_tiles + (in >> 6)) * 4 + (out >> 4 & 3);\n",
"    const u32 *word =\n",
"        (const u32 *)p.table + ((warp * 2 + (kk >> 1)) * 32 + lane) * 4 + (kk & 1) * 2 + (c >> 3);\n",
"    const u32 sz = load_constant(p.sz + (size_t)(in / p.group) * p.n_pad + out);\n",
"    const int z = (int)(sz >> 16) - 0x6400;\n",
"    const float s = scale_f32(sz);\n",
"#pragma unroll\n",
"    for (int k = 0; k < 4; k++) {\n",
"        const u32 q = load_constant(word + (k >> 1) * 4) >> ((r >> 3) * 16 + (k & 1) * 8) & 255;\n",
"        v[k] = __fmul_rn((float)((int)q - z), s);\n",
"    }\n",
"}\n",
"template <int TABLE> DEVICE void embed(const Embed &p)\n",
"{\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    const int id = load_fresh(p.ids + blockIdx.x), n = p.h;\n",
"    const size_t row = (size_t)id * n;\n",
"    float *x = p.x + (size_t)blockIdx.x * n;\n",
"#pragma unroll 1\n",
"    for (int i = threadIdx.x * 4; i < n; i += blockDim.x * 4) {\n",
"        float v[4];\n",
"        if (TABLE == TABLE_8) block_row(p, id, i, v);\n",
"        else {\n",
"            const float4 f = TABLE == TABLE_F32   ? weights_load((const float *)p.table + row, i, n)\n",
"                             : TABLE == TABLE_F16 ? row_load(F16(), (const u16 *)p.table + row, false, i, n"
")\n",
"                                                  : row_load(BF16(), (const u16 *)p.table + row, false, i, "
"n);\n",
"            v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;\n",
"        }\n",
"        row_store(x, i, n,\n",
"                  make_float4(__fmul_rn(v[0], p.scale), __fmul_rn(v[1], p.scale), __fmul_rn(v[2], p.scale),\n",
"                              __fmul_rn(v[3], p.scale)));\n",
"    }\n",
"}\n",
"KERNEL(awq_embed_f32, 1024, const Embed p) { embed<TABLE_F32>(p); }\n",
"KERNEL(awq_embed_f16, 1024, const Embed p) { embed<TABLE_F16>(p); }\n",
"KERNEL(awq_embed_bf16, 1024, const Embed p) { embed<TABLE_BF16>(p); }\n",
"KERNEL(awq_embed_8, 1024, const Embed p) { embed<TABLE_8>(p); }\n",
"\n",
"/* ---- x += residual_scale * norm(out), bad rows marked, xn = norm(x): each part optional\n",
"\n",
"   The row waits in shared memory between its passes, a thread's numbers for that thread only: [sums][h fp3"
"2].\n",
"   */\n",
"struct Norm {\n",
"    float *x;\n",
"    const void *out;\n",
"    const float *out_norm, *in_norm;\n",
"    u16 *xn, *xn_lo;\n",
"    float *xn32;\n",
"    int *bad;\n",
"    const int *rows;\n",
"    int h, x_stride, out_stride, xn_stride, kind, out_f32, mark;\n",
"    float residual_scale, eps;\n",
"};\n",
"enum { NORM_RMS, NORM_LAYER, NORM_LAYER_BIAS };\n",
"const int NORM_SUMS = 5 * BLOCK_SUM; // bytes before the row: sums of out (two), of x (two), of bad\n",
"\n",
"// The mean to subtract and the factor of a row of n that lies in shared memory; sum: of this thread's valu"
"es,\n",
"// for NORM_RMS of their squares. Two barriers at most.\n",
"DEVICE float2 norm_of(int kind, float sum, u32 row, int n, float eps, u32 sums)\n",
"{\n",
"    const float scale = fast_reciprocal((float)n);\n",
"    float mean = 0, squares = block_sum(sum, sums);\n",
"    if (kind != NORM_RMS) {\n",
"        mean = squares * scale;\n",
"        sum = 0;\n",
"#pragma unroll 1\n",
"        for (int i = threadIdx.x * 4; i < n; i += blockDim.x * 4) {\n",
"            const float4 v = lds_f32x4(row + i * 4);\n",
"            const float d[4] = {v.x - mean, v.y - mean, v.z - mean, v.w - mean};\n",
"#pragma unroll\n",
"            for (int k = 0; k < 4; k++)\n",
"                if (i + k < n) sum += d[k] * d[k];\n",
"        }\n",
"        squares = block_sum(sum, sums + BLOCK_SUM);\n",
"    }\n",
"    return make_float2(mean, fast_rsqrt(squares * scale + eps));\n",
"}\n",
"DEVICE float norm_sum(int kind, float4 v) // 0 beyond the row\n",
"{\n",
"    if (kind == NORM_RMS) return (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);\n",
"    return (v.x + v.y) + (v.z + v.w);\n",
"}\n",
"// (v - mean) * factor * weight + bias\n",
"DEVICE float4 norm_apply(int kind, float4 v, float2 m, const float *weight, int i, int n)\n",
"{\n",
"    const float4 w = weights_load(weight, i, n);\n",
"    float4 r =\n",
"        make_float4(__fmul_rn(__fmul_rn(v.x - m.x, m.y), w.x), __fmul_rn(__fmul_rn(v.y - m.x, m.y), w.y),\n",
"                    __fmul_rn(__fmul_rn(v.z - m.x, m.y), w.z), __fmul_rn(__fmul_rn(v.w - m.x, m.y), w.w));\n",
"    if (kind == NORM_LAYER_BIAS) {\n",
"        const float4 b = weights_load(weight + n, i, n);\n",
"        r.x = __fadd_rn(r.x, b.x), r.y = __fadd_rn(r.y, b.y);\n",
"        r.z = __fadd_rn(r.z, b.z), r.w = __fadd_rn(r.w, b.w);\n",
"    }\n",
"    return r;\n",
"}\n",
"// what is left of v when it is halves\n",
"template <class T> DEVICE float4 rounded_off(T dtype, float4 v)\n",
"{\n",
"    const float2 a = to_f32(dtype, halves_of(dtype, v.x, v.y)), b = to_f32(dtype, halves_of(dtype, v.z, v.w"
"));\n",
"    return make_float4(v.x - a.x, v.y - a.y, v.z - b.x, v.w - b.y);\n",
"}\n",
"template <class T> DEVICE void norm(T dtype, const Norm &p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const u32 sums = smem_address(smem), values = sums + NORM_SUMS;\n",
"    const int n = p.h, step = blockDim.x * 4, first = threadIdx.x * 4;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    const int row = p.rows ? load_fresh(p.rows + blockIdx.x) : (int)blockIdx.x;\n",
"    float *x = p.x + (size_t)row * p.x_stride;\n",
"    const char *out = (const char *)p.out + (size_t)row * p.out_stride * (p.out_f32 ? 4 : 2);\n",
"    const float *out_norm = p.out ? p.out_norm : 0;\n",
"    float sum = 0;\n",
"    if (out_norm) {\n",
"#pragma unroll 1\n",
"        for (int i = first; i < n; i += step) {\n",
"            const float4 v = row_load(dtype, out, p.out_f32, i, n);\n",
"            sts_f32x4(values + i * 4, v);\n",
"            sum += norm_sum(p.kind, v);\n",
"        }\n",
"        const float2 m = norm_of(p.kind, sum, values, n, p.eps, sums);\n",
"#pragma unroll 1\n",
"        for (int i = first; i < n; i += step)\n",
"            sts_f32x4(values + i * 4, norm_apply(p.kind, lds_f32x4(values + i * 4), m, out_norm, i, n));\n",
"        sum = 0;\n",
"    }\n",
"    float bad = 0;\n",
"#pragma unroll 1\n",
"    for (int i = first; i < n; i += step) {\n",
"        float4 v = row_load(dtype, x, true, i, n);\n",
"        if (p.out) {\n",
"            const float4 o = out_norm ? lds_f32x4(values + i * 4) : row_load(dtype, out, p.out_f32, i, n);\n",
"            v = make_float4(\n",
"                exact_mul_add(o.x, p.residual_scale, v.x), exact_mul_add(o.y, p.residual_scale, v.y),\n",
"                exact_mul_add(o.z, p.residual_scale, v.z), exact_mul_add(o.w, p.residual_scale, v.w));\n",
"            row_store(x, i, n, v);\n",
"        }\n",
"        sts_f32x4(values + i * 4, v);\n",
"        sum += norm_sum(p.kind, v);\n",
"        if (!is_finite(v.x) || !is_finite(v.y) || !is_finite(v.z) || !is_finite(v.w)) bad = 1;\n",
"    }\n",
"    if (p.bad && block_sum(bad, sums + 4 * BLOCK_SUM) > 0 && threadIdx.x == 0 && !load_fresh(p.bad + row))\n",
"        store_global(p.bad + row, p.mark);\n",
"    if (!p.xn && !p.xn32) return;\n",
"    float2 m = make_float2(0, 1);\n",
"    if (p.in_norm) m = norm_of(p.kind, sum, values, n, p.eps, sums + 2 * BLOCK_SUM);\n",
"#pragma unroll 1\n",
"    for (int i = first; i < padded(n); i += step) {\n",
"        float4 v = make_float4(0, 0, 0, 0);\n",
"        if (i < n) {\n",
"            v = lds_f32x4(values + i * 4);\n",
"            if (p.in_norm) v = norm_apply(p.kind, v, m, p.in_norm, i, n);\n",
"            if (p.xn32) row_store(p.xn32 + (size_t)blockIdx.x * n, i, n, v);\n",
"        }\n",
"        if (p.xn) row_store(dtype, p.xn + (size_t)blockIdx.x * p.xn_stride, i, padded(n), v);\n",
"        if (p.xn_lo)\n",
"            row_store(dtype, p.xn_lo + (size_t)blockIdx.x * p.xn_stride, i, padded(n), rounded_off(dtype, v"
"));\n",
"    }\n",
"}\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL(awq_norm_f16, 1024, const Norm p) { norm(F16(), p); }\n",
"#endif\n",
"#ifndef AWQ_NO_BF16\n",
"KERNEL(awq_norm_bf16, 1024, const Norm p) { norm(BF16(), p); }\n",
"#endif\n",
"\n",
"/* ---- q, k and v of a row: clip, norms, rope; q to halves for attention, k and v into the sequence's page\n",
"\n",
"   A warp takes a head of q, or a kv head's k and v: `heads` of q first, then kv heads; head_dim numbers wa"
"it\n",
"   in its part of shared memory, [BLOCK_SUM of q, of k][warps][d fp32]. k lies in a page by dimension,\n",
"   [k_dim][32 tokens]: what a row writes is 2 bytes in every 64. Latent attention's k and v are taken from\n",
"   where they are: k [nope] and v from kv_b, the rotated rest of k, the same for all heads, from kv_a. */\n",
"struct Place {\n",
"    const void *q, *k, *v;\n",
"    const float *shared;\n",
"    const float *q_norm, *k_norm, *cos_, *sin_;\n",
"    const int *pos, *slot;\n",
"    const u64 *page;\n",
"    u16 *q_out;\n",
"    u64 cache_at, head_bytes;\n",
"    int q_stride, k_stride, v_stride, shared_stride, page_stride;\n",
"    int heads, kv_heads, k_dim, v_dim, v_row, nope;\n",
"    int rope_dim, rope_first, rope_pairs, rope_table, qk_norm, f32;\n",
"    float clip, eps;\n",
"};\n",
"enum { QK_NONE, QK_HEAD, QK_AFTER, QK_OWN, QK_ALL };\n",
"const int PAGE = 32; // tokens\n",
"\n",
"DEVICE float clipped(float v, float limit)\n",
"{\n",
"    return limit > 0 ? (v > limit ? limit : v < -limit ? -limit : v) : v;\n",
"}\n",
"\n",
"// The row's factor of QK_ALL, heads * d numbers\n",
"template <class T> DEVICE float place_all(T dtype, const Place &p, const void *row, int n, u32 sums)\n",
"{\n",
"    float sum = 0;\n",
"#pragma unroll 1\n",
"    for (int i = threadIdx.x * 4; i < n; i += blockDim.x * 4)\n",
"        sum += norm_sum(NORM_RMS, row_load(dtype, row, p.f32, i, n));\n",
"    return fast_rsqrt(block_sum(sum, sums) * fast_reciprocal((float)n) + p.eps);\n",
"}\n",
"// norm of one head in shared memory, by a warp\n",
"DEVICE void place_norm(u32 head, int d, const float *weight, bool layer, float eps)\n",
"{\n",
"    const int lane = threadIdx.x & 31;\n",
"    const float scale = fast_reciprocal((float)d);\n",
"    float mean = 0, sum = 0;\n",
"    if (layer) {\n",
"#pragma unroll 1\n",
"        for (int i = lane; i < d; i += 32) sum += lds_f32(head + i * 4);\n",
"        mean = warp_sum(sum) * scale;\n",
"        sum = 0;\n",
"    }\n",
"#pragma unroll 1\n",
"    for (int i = lane; i < d; i += 32) {\n",
"        const float v = lds_f32(head + i * 4) - mean;\n",
"        sum += v * v;\n",
"    }\n",
"    const float s = fast_rsqrt(warp_sum(sum) * scale + eps);\n",
"#pragma unroll 1\n",
"    for (int i = lane; i < d; i += 32)\n",
"        sts_f32(head + i * 4, __fmul_rn(__fmul_rn(lds_f32(head + i * 4) - mean, s), load_constant(weight + "
"i)));\n",
"    __syncwarp();\n",
"}\n",
"template <class T> DEVICE void place(T dtype, const Place &p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const u32 sums = smem_address(smem);\n",
"    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = blockIdx.x, d = p.k_dim;\n",
"    const int task = blockIdx.y * (blockDim.x >> 5) + warp, size = p.f32 ? 4 : 2;\n",
"    const bool is_k = task >= p.heads;\n",
"    const int h = is_k ? task - p.heads : task; // its head\n",
"    const u32 head = sums + 2 * BLOCK_SUM + warp * d * 4;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    const int pos = load_fresh(p.pos + row);\n",
"    if (pos < 0) return; // of a sequence that has left\n",
"    const char *q = (const char *)p.q + (size_t)row * p.q_stride * size;\n",
"    const char *k = (const char *)p.k + (size_t)row * p.k_stride * size;\n",
"    const char *v = (const char *)p.v + (size_t)row * p.v_stride * size;\n",
"    float all[2] = {1, 1};\n",
"    if (p.qk_norm == QK_ALL) {\n",
"        if (p.q_norm) all[0] = place_all(dtype, p, q, p.heads * d, sums);\n",
"        if (p.k_norm) all[1] = place_all(dtype, p, k, p.kv_heads * d, sums + BLOCK_SUM);\n",
"    }\n",
"    if (task >= p.heads + p.kv_heads) return;\n",
"    const float *weight = is_k ? p.k_norm : p.q_norm;\n",
"\n",
"#pragma unroll 1\n",
"    for (int i = lane * 4; i < d; i += 128) {\n",
"        float4 x;\n",
"        if (is_k && p.shared) { // latent: nope is a multiple of 4\n",
"            const char *from = k + (size_t)h * (p.nope + p.v_dim) * size;\n",
"            x = i < p.nope\n",
"                    ? row_load(dtype, from, p.f32, i, p.nope)\n",
"                    : row_load(dtype, p.shared + (size_t)row * p.shared_stride, true, i - p.nope, d - p.nop"
"e);\n",
"        } else x = row_load(dtype, (is_k ? k : q) + (size_t)h * d * size, p.f32, i, d);\n",
"        if (weight && p.qk_norm == QK_ALL) {\n",
"            const float4 w = weights_load(weight + h * d, i, d);\n",
"            const float s = all[is_k];\n",
"            x = make_float4(__fmul_rn(__fmul_rn(x.x, s), w.x), __fmul_rn(__fmul_rn(x.y, s), w.y),\n",
"                            __fmul_rn(__fmul_rn(x.z, s), w.z), __fmul_rn(__fmul_rn(x.w, s), w.w));\n",
"        }\n",
"        x = make_float4(clipped(x.x, p.clip), clipped(x.y, p.clip), clipped(x.z, p.clip), clipped(x.w, p.cl"
"ip));\n",
"        sts_f32x4(head + i * 4, x);\n",
"    }\n",
"    __syncwarp();\n",
"    if (weight && p.qk_norm == QK_HEAD) place_norm(head, d, weight, false, p.eps);\n",
"    if (weight && p.qk_norm == QK_OWN) place_norm(head, d, weight + h * d, true, p.eps);\n",
"    if (p.cos_) {\n",
"        const int half = p.rope_dim / 2;\n",
"        const size_t at = ((size_t)row * 2 + p.rope_table) * half;\n",
"#pragma unroll 1\n",
"        for (int i = lane; i < half; i += 32) {\n",
"            const u32 a = head + (p.rope_first + (p.rope_pairs ? 2 * i : i)) * 4,\n",
"                      b = a + (p.rope_pairs ? 4 : half * 4);\n",
"            const float x = lds_f32(a), y = lds_f32(b);\n",
"            const float cos_ = load_fresh(p.cos_ + at + i), sin_ = load_fresh(p.sin_ + at + i);\n",
"            sts_f32(a, __fadd_rn(__fmul_rn(x, cos_), -__fmul_rn(y, sin_)));\n",
"            sts_f32(b, __fadd_rn(__fmul_rn(y, cos_), __fmul_rn(x, sin_)));\n",
"        }\n",
"        __syncwarp();\n",
"    }\n",
"    if (weight && p.qk_norm == QK_AFTER) place_norm(head, d, weight, false, p.eps);\n",
"\n",
"    if (!is_k) {\n",
"        u16 *to = p.q_out + ((size_t)row * p.heads + h) * d;\n",
"#pragma unroll 1\n",
"        for (int i = lane * 4; i < d; i += 128) row_store(F16(), to, i, d, lds_f32x4(head + i * 4));\n",
"        return;\n",
"    }\n",
"    const u64 page = load_fresh(p.page + (size_t)load_fresh(p.slot + row) * p.page_stride + pos / PAGE);\n",
"    u16 *to = (u16 *)(page + p.cache_at + h * p.head_bytes);\n",
"#pragma unroll 1\n",
"    for (int i = lane; i < d; i += 32)\n",
"        store_global(to + i * PAGE + pos % PAGE, (u16)halves_of(F16(), lds_f32(head + i * 4), 0));\n",
"    to += d * PAGE + pos % PAGE * p.v_row;\n",
"    v += (size_t)h * (p.shared ? p.nope + p.v_dim : p.v_dim) * size;\n",
"#pragma unroll 1\n",
"    for (int i = lane * 4; i < p.v_row; i += 128) {\n",
"        float4 x = make_float4(0, 0, 0, 0);\n",
"        if (i < p.v_dim) x = row_load(dtype, v, p.f32, i, p.v_dim);\n",
"        row_store(F16(), to, i, p.v_row,\n",
"                  make_float4(clipped(x.x, p.clip), clipped(x.y, p.clip), clipped(x.z, p.clip),\n",
"                              clipped(x.w, p.clip)));\n",
"    }\n",
"}\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL(awq_place_f16, 256, const Place p) { place(F16(), p); }\n",
"#endif\n",
"#ifndef AWQ_NO_BF16\n",
"KERNEL(awq_place_bf16, 256, const Place p) { place(BF16(), p); }\n",
"#endif\n",
"\n",
"/* ---- gated activation: y [rows][n padded] = act(gate) * up / scales\n",
"\n",
"   A thread takes 8 columns. Rows beyond *count, those of no slot, are left out. */\n",
"struct Act {\n",
"    const void *gate, *up;\n",
"    const float *scales;\n",
"    const int *count;\n",
"    u16 *y;\n",
"    int n, gate_stride, up_stride, y_stride, kind, f32;\n",
"    float alpha, limit;\n",
"};\n",
"enum { ACT_SILU, ACT_GELU_TANH, ACT_SWIGLU };\n",
"\n",
"// x / (1 + exp(-z)); fast_exp is inf or 0 far out, where the quotient is 0 or x\n",
"DEVICE float over_1_exp(float x, float z) { return x * fast_reciprocal(1.0f + fast_exp(-z)); }\n",
"DEVICE float activated(const Act &p, float g, float u)\n",
"{\n",
"    if (p.kind == ACT_SWIGLU) {\n",
"        g = g > p.limit ? p.limit : g;\n",
"        u = u > p.limit ? p.limit : u < -p.limit ? -p.limit : u;\n",
"        return over_1_exp(g, p.alpha * g) * (u + 1.0f);\n",
"    }\n",
"    if (p.kind == ACT_GELU_TANH) g = over_1_exp(g, 1.5957691216057308f * (g + 0.044715f * g * g * g));\n",
"    else g = over_1_exp(g, g);\n",
"    return p.up ? g * u : g;\n",
"}\n",
"template <class T> DEVICE void act(T dtype, const Act &p)\n",
"{\n",
"    const int row = blockIdx.x, n = p.n, i0 = (blockIdx.y * blockDim.x + threadIdx.x) * 8;\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    if (i0 >= padded(n) || (p.count && row >= load_fresh(p.count))) return;\n",
"    const char *gate = (const char *)p.gate + (size_t)row * p.gate_stride * (p.f32 ? 4 : 2);\n",
"    const char *up = (const char *)p.up + (size_t)row * p.up_stride * (p.f32 ? 4 : 2);\n",
"    float4 g[2], u[2];\n",
"#pragma unroll\n",
"    for (int k = 0; k < 2; k++) {\n",
"        g[k] = u[k] = make_float4(0, 0, 0, 0);\n",
"        if (i0 + 4 * k < n) {\n",
"            g[k] = row_load(dtype, gate, p.f32, i0 + 4 * k, n);\n",
"            if (p.up) u[k] = row_load(dtype, up, p.f32, i0 + 4 * k, n);\n",
"        }\n",
"    }\n",
"#pragma unroll\n",
"    for (int k = 0; k < 2; k++) {\n",
"        const int i = i0 + 4 * k;\n",
"        float v[4] = {activated(p, g[k].x, u[k].x), activated(p, g[k].y, u[k].y), activated(p, g[k].z, u[k]"
".z),\n",
"                      activated(p, g[k].w, u[k].w)};\n",
"#pragma unroll\n",
"        for (int j = 0; j < 4; j++) {\n",
"            if (p.scales && i + j < n) v[j] = v[j] / load_constant(p.scales + i + j);\n",
"            if (i + j >= n) v[j] = 0;\n",
"        }\n",
"        row_store(dtype, p.y + (size_t)row * p.y_stride, i, padded(n), make_float4(v[0], v[1], v[2], v[3]))"
";\n",
"    }\n",
"}\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL(awq_act_f16, 256, const Act p) { act(F16(), p); }\n",
"#endif\n",
"#ifndef AWQ_NO_BF16\n",
"KERNEL(awq_act_bf16, 256, const Act p) { act(BF16(), p); }\n",
"#endif\n",
"\n",
"/* ---- logits as they are meant, and the best of each row\n",
"\n",
"   Finishing is bit for bit the CPU's, so ties are too: the lowest index of equals. NaN and Inf win over al"
"l,\n",
"   with a key that no number has, and the best of such a row is -2. blockIdx.x is a part of the row, blockI"
"dx.y the row. Each block leaves its\n",
"   best; the last one by counters [rows] (zero, left zero) compares them. */\n",
"struct Logits {\n",
"    float *logits;\n",
"    u64 *partial;\n",
"    u32 *counters;\n",
"    int *best;\n",
"    int n, stride;\n",
"    float scale, cap;\n",
"};\n",
"DEVICE float logit_of(const Logits &p, float x)\n",
"{\n",
"    if (!(p.cap > 0)) return p.scale != 1 ? __fmul_rn(x, p.scale) : x;\n",
"    const float z = __fmul_rn(2.0f, __fmul_rn(x, p.scale) / p.cap);\n",
"    return __fmul_rn(p.cap, __fadd_rn(1.0f, -(2.0f / __fadd_rn(exact_exp(z), 1.0f)))); // cap tanh\n",
"}\n",
"DEVICE void logits(const Logits &p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const u32 memory = smem_address(smem);\n",
"    const int lane = threadIdx.x & 31, warps = (int)(blockDim.x >> 5), parts = (int)gridDim.x;\n",
"    const int n = p.n, row = blockIdx.y;\n",
"    const int part = ((n + parts - 1) / parts + 3) & ~3, end = min(n, (int)(blockIdx.x + 1) * part);\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    float *x = p.logits + (size_t)row * p.stride;\n",
"    const bool changes = p.cap > 0 || p.scale != 1;\n",
"    u64 best = 0;\n",
"#pragma unroll 1\n",
"    for (int i = blockIdx.x * part + threadIdx.x * 4; i < end; i += blockDim.x * 4) {\n",
"        float4 f = row_load(F16(), x, true, i, n);\n",
"        if (changes) {\n",
"            f = make_float4(logit_of(p, f.x), logit_of(p, f.y), logit_of(p, f.z), logit_of(p, f.w));\n",
"            row_store(x, i, n, f);\n",
"        }\n",
"        const float v[4] = {f.x, f.y, f.z, f.w};\n",
"#pragma unroll\n",
"        for (int k = 0; k < 4; k++)\n",
"            if (i + k < n) {\n",
"                const u64 key = is_finite(v[k]) ? logit_key(v[k], i + k) : ~0ull;\n",
"                best = key > best ? key : best;\n",
"            }\n",
"    }\n",
"    if (!p.best) return;\n",
"    best = warp_max64(best);\n",
"    if (lane == 0) sts64(memory + (threadIdx.x >> 5) * 8, make_uint2((u32)best, (u32)(best >> 32)));\n",
"    __syncthreads();\n",
"    if (threadIdx.x >= 32) return;\n",
"    const uint2 w = lane < warps ? lds64(memory + lane * 8) : make_uint2(0, 0);\n",
"    best = warp_max64((u64)w.y << 32 | w.x);\n",
"    if (parts > 1) {\n",
"        u32 count = 0;\n",
"        if (lane == 0) {\n",
"            store_global(p.partial + (size_t)row * parts + blockIdx.x, best);\n",
"            fence_gpu();\n",
"            count = atomic_count(p.counters + row);\n",
"        }\n",
"        if (__shfl_sync(~0u, count, 0) != (u32)parts - 1) return;\n",
"        __syncwarp(); // lane 0 has seen the others' sums: so have the other lanes\n",
"        fence_gpu();\n",
"        best = 0;\n",
"#pragma unroll 1\n",
"        for (int i = lane; i < parts; i += 32) {\n",
"            const u64 key = load_fresh(p.partial + (size_t)row * parts + i);\n",
"            best = key > best ? key : best;\n",
"        }\n",
"        best = warp_max64(best);\n",
"        if (lane == 0) store_global(p.counters + row, 0u);\n",
"    }\n",
"    if (lane == 0) store_global(p.best + row, best == ~0ull ? -2 : (int)~(u32)best);\n",
"}\n",
"KERNEL(awq_logits, 1024, const Logits p) { logits(p); }\n",
NULL};
static const char *const awq__cuda_text_sample[] = {
"/* sample.cuh - the most probable tokens of each row, for sampling by the host\n",
"\n",
"   The k highest logits in awq__by_logit's order, with their ids: what awq__draw looks at when top_k is not"
" 0\n",
"   and at most k. The host draws from them, in the order of ids, with the bits it would have from all logit"
"s,\n",
"   and k numbers cross the bus instead of the vocabulary. Not here: top_k 0, whose total of all probabiliti"
"es\n",
"   is a sum in double with the host's log and exp, and penalties, which come before. */\n",
"struct Top { // awq__cuda_top of steps.h\n",
"    const float *logits;\n",
"    u64 *partial;\n",
"    u32 *counters;\n",
"    int *id, *bad;\n",
"    float *value;\n",
"    int n, stride, k;\n",
"};\n",
"enum { TOP_THREADS = 1024, TOP_SHARED = 2 * 32 * 8 };\n",
"\n",
"DEVICE u64 block_max64(u64 v, u32 memory) // every thread gets it; one barrier: the next needs other memory\n",
"{\n",
"    const int lane = threadIdx.x & 31;\n",
"    v = warp_max64(v);\n",
"    if (lane == 0) sts64(memory + (threadIdx.x >> 5) * 8, make_uint2((u32)v, (u32)(v >> 32)));\n",
"    __syncthreads();\n",
"    const uint2 w = lane < TOP_THREADS / 32 ? lds64(memory + lane * 8) : make_uint2(0, 0);\n",
"    return warp_max64((u64)w.y << 32 | w.x);\n",
"}\n",
"// the k highest of n keys, no two of them equal but for 0, which is none: out(i, key) by one thread\n",
"template <class Key, class Out> DEVICE void select(int n, int k, u32 memory, Key key, Out out)\n",
"{\n",
"    auto best_below = [&](u64 limit) { // of this thread's keys\n",
"        u64 best = 0;\n",
"#pragma unroll 4\n",
"        for (int i = threadIdx.x; i < n; i += TOP_THREADS) {\n",
"            const u64 v = key(i);\n",
"            if (v < limit && v > best) best = v;\n",
"        }\n",
"        return best;\n",
"    };\n",
"    u64 mine = best_below(~0ull);\n",
"#pragma unroll 1\n",
"    for (int i = 0; i < k; i++) {\n",
"        const u64 best = block_max64(mine, memory + (i & 1) * 256);\n",
"        if (best && mine == best) mine = best_below(best);\n",
"        if (threadIdx.x == 0) out(i, best);\n",
"    }\n",
"}\n",
"// blockIdx.x: part of the row, blockIdx.y: row. Each block leaves its k best keys, then 1 if a logit is Na"
"N\n",
"// or Inf; the block that comes last selects among those of all.\n",
"DEVICE void top(const Top &p)\n",
"{\n",
"    DYN_SMEM(smem);\n",
"    const u32 memory = smem_address(smem);\n",
"    const int parts = (int)gridDim.x, row = blockIdx.y, part = (p.n + parts - 1) / parts;\n",
"    const int begin = min(p.n, (int)blockIdx.x * part), n = min(p.n - begin, part);\n",
"    pdl_launch();\n",
"    pdl_wait();\n",
"    const float *x = p.logits + (size_t)row * p.stride + begin;\n",
"    u64 *all = p.partial + (size_t)row * parts * (p.k + 1), *mine = all + blockIdx.x * (p.k + 1);\n",
"    select(\n",
"        n, p.k, memory,\n",
"        [&](int i) {\n",
"            const float v = load_fresh(x + i);\n",
"            return v != v ? 0 : logit_key(v, begin + i);\n",
"        },\n",
"        [&](int i, u64 key) { store_global(mine + i, key); });\n",
"    u64 bad = 0;\n",
"    for (int i = threadIdx.x; i < n; i += TOP_THREADS)\n",
"        if (!is_finite(load_fresh(x + i))) bad = 1;\n",
"    __syncthreads(); // the last maximum has been read\n",
"    bad = block_max64(bad, memory);\n",
"    if (threadIdx.x == 0) {\n",
"        store_global(mine + p.k, bad);\n",
"        fence_gpu();\n",
"        sts32(memory + 256, atomic_count(p.counters + row));\n",
"    }\n",
"    __syncthreads();\n",
"    if (lds32(memory + 256) != (u32)parts - 1) return;\n",
"    fence_gpu();\n",
"    __syncthreads();\n",
"    if (threadIdx.x == 0) {\n",
"        store_global(p.counters + row, 0u);\n",
"        for (int i = 0; i < parts; i++) bad |= load_fresh(all + i * (p.k + 1) + p.k);\n",
"        store_global(p.bad + row, (int)bad);\n",
"    }\n",
"    select(\n",
"        parts * p.k, p.k, memory, [&](int i) { return load_fresh(all + i / p.k * (p.k + 1) + i % p.k); },\n",
"        [&](int i, u64 key) {\n",
"            const u32 bits = (u32)(key >> 32);\n",
"            store_global(p.id + (size_t)row * p.k + i, key ? (int)~(u32)key : -1);\n",
"            store_global(p.value + (size_t)row * p.k + i,\n",
"                         __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits));\n",
"        });\n",
"}\n",
"KERNEL(awq_top, 1024, const Top p) { top(p); }\n",
NULL};
static const char *const awq__cuda_text_selftest[] = {
"// What awq_cuda_create runs first on a device: out[i] = mix(i, seed). That the driver takes the code made "
"for it,\n",
"// passes arguments and returns what was computed is known before anything depends on it. The host has the "
"same mix.\n",
"DEVICE u32 selftest_mix(u32 i, u32 seed)\n",
"{\n",
"    u32 h = (i ^ seed) * 0x9e3779b1u;\n",
"    h ^= h >> 15;\n",
"    h *= 0x85ebca77u;\n",
"    return h ^ h >> 13;\n",
"}\n",
"\n",
"KERNEL(awq_selftest, 256, u32 *out, u32 n, u32 seed)\n",
"{\n",
"    u32 i = blockIdx.x * blockDim.x + threadIdx.x;\n",
"    pdl_wait();\n",
"    if (i < n) store_global(out + i, selftest_mix(i, seed));\n",
"}\n",
NULL};
static const char *const awq__cuda_text_warpgroup[] = {
"/* warpgroup.cuh - 4-bit linear layers on wgmma (sm_90a), the weights in registers: what the kernels of\n",
"   wgmma.cuh, wgmma_few.cuh and experts_wgmma.cuh share\n",
"\n",
"   Two warpgroups consume, each BLOCKS blocks of 64 outputs; a block of threads is OUTS = 128 BLOCKS output"
"s x N\n",
"   rows of x (blockIdx.x: which rows, blockIdx.z: which outputs), k over blockIdx.y, in steps of one tile o"
"f 64\n",
"   inputs through a ring of STAGES. Of experts blockIdx.x is a tile of rows of one of them, see experts.cuh"
".\n",
"\n",
"   The other threads produce. Weights and parameters come by bulk copy, one thread asks. x is [rows][k] as "
"any\n",
"   kernel writes it, so no tensor map: COPYING threads, in warps of their own for few rows, copy 16 bytes e"
"ach\n",
"   with cp.async to where the 128-byte swizzle wants them, 8 N chunks a tile. wgmma reads through the async"
" proxy, so each thread waits for its\n",
"   copies, fences, and only then arrives: LAG tiles after asking.\n",
"\n",
"   A is q dequantized to the dtype of x in registers, B the tile of x. Two sets of A take turns, over the b"
"locks\n",
"   of a tile or, with one block, over tiles; with `unit` for a block of a tile:\n",
"\n",
"       issue unit u | wait for u - 1, whose registers are free then | dequantize u + 1 while u runs\n",
"\n",
"   EXACT (N up to 32), where tensor cores are not what is short: a unit is summed by itself,\n",
"\n",
"       issue unit u | dequantize u + 1 while u runs | wait for u | add its sums, times the scale, in fp32\n",
"\n",
"   so weights are exact, N / 2 fma a unit where scaling weights would be 16 multiplications. Two groups in "
"a\n",
"   tile would ask for twice the sums: of groups of 32, and where not EXACT, weights are scaled in registers"
" and\n",
"   so rounded.\n",
"\n",
"   What bounds it, in tests/bench/RESULTS.md (tests/cuda/sass.sh counts): dequantizing is 36 instructions a"
" unit\n",
"   and warp of some 70 in all for few rows, so that issue takes in weights faster than memory gives them. x"
" goes\n",
"   to every block of threads: with 256 outputs in each and 16 rows that is 2 KB with 8 KB of weights. */\n",
"#if AWQ_HAS_WGMMA\n",
"template <int N_> struct Warpgroups {\n",
"    static const int N = N_, BLOCKS = N <= 64 ? 2 : 1, OUTS = 128 * BLOCKS;\n",
"    static const int PRODUCERS = N <= 64 ? 64 : 128, COPYING = N <= 64 ? 32 : 128; // threads; of them for "
"x\n",
"    static const bool EXACT = N <= 32;\n",
"    static const int STAGES = N == 8 ? 10 : N == 16 ? 9 : N == 32 ? 14 : N == 64 ? 11 : N == 128 ? 8 : 5;\n",
"    static const int LAG = STAGES / 2; // at most STAGES - 2: a consumer wants tile t + 1 before it frees t"
"ile t\n",
"    // a stage, a multiple of 1024 bytes for the swizzle: x, weights, parameters [2 groups][OUTS]\n",
"    static const u32 X = N * 128, W = OUTS * 32, SZ = OUTS * 8, STAGE = X + W + SZ;\n",
"    // two barriers of a stage, \"full\" and STAGES later \"empty\", then a flag for each warpgroup\n",
"    static const u32 RING = STAGES * STAGE, FLAGS = RING + STAGES * 16, BYTES = RING + 1024;\n",
"};\n",
"\n",
"template <class WG>\n",
"DEVICE void wgmma_produce(const Linear &p, u32 base, int first, int tiles, int row_tile, int wide)\n",
"{\n",
"    const int ROWS = WG::COPYING / 8; // of x at once\n",
"    const int thread = (threadIdx.x - 256) % WG::COPYING, fine = p.group == 32;\n",
"    const int row0 = row_tile * WG::N + thread / 8, chunk = thread % 8;\n",
"    const int block0 = wide * 2 * WG::BLOCKS, blocks = min(p.n_pad / 64 - block0, 2 * WG::BLOCKS);\n",
"    const int warp = __shfl_sync(~0u, (int)threadIdx.x >> 5, 0);\n",
"    const bool asks = warp == 8, copies = WG::PRODUCERS == WG::COPYING || warp > 8;\n",
"    const u64 policy = evict_first_policy();\n",
"    const u32 x_to = x_chunk(0, thread / 8, chunk);\n",
"    const uint4 *w = p.w + ((size_t)block0 * p.k_tiles + first) * 128; // of the tile to ask for\n",
"    const u32 *sz0 = p.sz + block0 * 64;\n",
"    int tile = first;\n",
"    auto load_w = [&](u32 stage, u32 full) {\n",
"        const u32 *sz = sz0 + (size_t)(fine ? 2 * tile : group_of(p, tile)) * p.n_pad;\n",
"        // outputs past the last block keep what was in shared memory; what they sum is not stored\n",
"        mbarrier_arrive_expect(full, blocks * (2048 + 256 * (1 + fine)));\n",
"#pragma unroll\n",
"        for (int b = 0; b < 2 * WG::BLOCKS; b++)\n",
"            if (b < blocks)\n",
"                bulk_load(stage + WG::X + b * 2048, w + (u64)(u32)(b * p.k_tiles) * 128, 2048, full, policy"
");\n",
"        bulk_load(stage + WG::X + WG::W, sz, blocks * 256, full, policy);\n",
"        if (fine) bulk_load(stage + WG::X + WG::W + WG::OUTS * 4, sz + p.n_pad, blocks * 256, full, policy)"
";\n",
"    };\n",
"    if (asks)\n",
"#pragma unroll 1\n",
"        for (int t = 0; t < min(tiles, WG::STAGES); t++, w += 128, tile++)\n",
"            if (one_lane()) load_w(base + t * WG::STAGE, base + WG::RING + t * 8);\n",
"    pdl_launch();\n",
"    if (copies) pdl_wait();\n",
"    const u16 *x = p.x + first * 64 + chunk * 8;\n",
"    u32 stage = base, full = base + WG::RING, late = full; // late: of the tile LAG tiles before\n",
"    u32 phase = 1;\n",
"#pragma unroll 1\n",
"    for (int t = 0; t < tiles; t++, x += 64) {\n",
"        if (t >= WG::STAGES) {\n",
"            mbarrier_wait(full + WG::STAGES * 8, phase);\n",
"            if (asks) {\n",
"                if (one_lane()) load_w(stage, full);\n",
"                w += 128, tile++;\n",
"            }\n",
"        }\n",
"        if (copies) {\n",
"#pragma unroll(WG::N / ROWS > 8 && WG::N > 64 ? 4 : 16)\n",
"            for (int j = 0; j < WG::N / ROWS; j++) // the swizzle of row r and of r + 4 differ by chunk bit"
" 2\n",
"                copy16(stage + (x_to ^ (j * ROWS & 4) << 4) + j * ROWS * 128,\n",
"                       x + (size_t)min(row0 + j * ROWS, p.rows - 1) * p.x_stride);\n",
"            copy_commit();\n",
"            if (t >= WG::LAG) {\n",
"                copy_wait<WG::LAG>();\n",
"                fence_async_proxy();\n",
"                mbarrier_arrive(late);\n",
"                late = late + 8 < base + WG::RING + WG::STAGES * 8 ? late + 8 : base + WG::RING;\n",
"            }\n",
"        }\n",
"        stage += WG::STAGE, full += 8;\n",
"        if (stage == base + WG::RING) stage = base, full = base + WG::RING, phase ^= 1;\n",
"    }\n",
"    if (!copies) return;\n",
"    copy_wait<0>();\n",
"    fence_async_proxy();\n",
"#pragma unroll 1\n",
"    for (int t = max(tiles - WG::LAG, 0); t < tiles; t++) mbarrier_arrive(base + WG::RING + t % WG::STAGES "
"* 8);\n",
"}\n",
"\n",
"template <class WG, class T>\n",
"DEVICE void wgmma_consume(T dtype, const Linear &p, u32 base, int tiles, int row_tile, int split, int wide)\n",
"{\n",
"    const int N = WG::N, BLOCKS = WG::BLOCKS;\n",
"    const int thread = threadIdx.x & 127, lane = thread & 31, warp = thread >> 5, wg = threadIdx.x / 128;\n",
"    const bool fine = p.group == 32;\n",
"    const u32 w_at = keep(WG::X + wg * BLOCKS * 2048 + thread * 16);\n",
"    const u32 sz_at = keep(WG::X + WG::W + (wg * BLOCKS * 64 + warp * 16 + (lane >> 2)) * 4);\n",
"    float sum[BLOCKS][N / 2], part[WG::EXACT ? N / 2 : 1], scale[2][2];\n",
"    u32 a[2][4][4];\n",
"#pragma unroll\n",
"    for (int i = 0; i < BLOCKS * N / 2; i++) (&sum[0][0])[i] = 0;\n",
"\n",
"    // to set `to`: block m of the tile in `stage`\n",
"    auto load_a = [&](int to, u32 stage, int m) {\n",
"        const uint4 q = lds128(stage + w_at + m * 2048);\n",
"        const u32 words[4] = {q.x, q.y, q.z, q.w}, at = stage + sz_at + m * 256;\n",
"        u32 sz = lds32(at), sz8 = lds32(at + 32); // of outputs g and g + 8\n",
"        uint2 z = zero_points(dtype, sz, sz8);\n",
"        auto multiply_half = [&](int half) {\n",
"            const u32 s = scale_pair(dtype, sz), s8 = scale_pair(dtype, sz8);\n",
"#pragma unroll\n",
"            for (int j = 0; j < 8; j++) {\n",
"                u32 &h = a[to][2 * half + j / 4][j % 4];\n",
"                h = multiply(dtype, h, j & 1 ? s8 : s);\n",
"            }\n",
"        };\n",
"#pragma unroll\n",
"        for (int kk = 0; kk < 4; kk++) dequantize(dtype, words[kk], z, a[to][kk]);\n",
"        scale[to][0] = scale_f32(sz), scale[to][1] = scale_f32(sz8);\n",
"        if (fine || !WG::EXACT) {\n",
"            scale[to][0] = scale[to][1] = 1;\n",
"            multiply_half(0);\n",
"            if (fine) { // the second half is of another group\n",
"                sz = lds32(at + WG::OUTS * 4), sz8 = lds32(at + WG::OUTS * 4 + 32);\n",
"                z = zero_points(dtype, sz, sz8);\n",
"                dequantize(dtype, words[2], z, a[to][2]);\n",
"                dequantize(dtype, words[3], z, a[to][3]);\n",
"            }\n",
"            multiply_half(1);\n",
"        }\n",
"    };\n",
"\n",
"    // of tile t, which is in `stage` and whose barrier is `full`; `empty`: of the tile before\n",
"    u32 stage = base, full = base + WG::RING, empty = 0, phase = 0;\n",
"    auto free_tile = [&]() {\n",
"        if (lane == 0) mbarrier_arrive(empty);\n",
"    };\n",
"    // block m of tile t from set `set`; the other set gets the next block\n",
"    auto step = [&](int t, int set, int m) {\n",
"        const int next = (m + 1) % BLOCKS;\n",
"        float *d = WG::EXACT ? part : sum[m];\n",
"        const u32 tile = wgmma_tile(stage);\n",
"        wgmma_fence();\n",
"        wgmma<N, T::bf16, !WG::EXACT>(d, a[set][0], tile);\n",
"#pragma unroll\n",
"        for (int kk = 1; kk < 4; kk++) wgmma<N, T::bf16, true>(d, a[set][kk], tile + 2 * kk);\n",
"        wgmma_commit();\n",
"        if (!WG::EXACT) { // the tensor cores have work while this warp waits for what was asked before\n",
"            wgmma_wait<1>();\n",
"            if (m == 0 && t > 0) free_tile();\n",
"        }\n",
"        if (next == 0) {\n",
"            empty = full + WG::STAGES * 8;\n",
"            stage += WG::STAGE, full += 8;\n",
"            if (stage == base + WG::RING) stage = base, full = base + WG::RING, phase ^= 1;\n",
"        }\n",
"        if (next > 0 || t + 1 < tiles) {\n",
"            if (next == 0) mbarrier_wait(full, phase);\n",
"            load_a(set ^ 1, stage, next);\n",
"        }\n",
"        if (WG::EXACT) {\n",
"            wgmma_wait<0>();\n",
"            wgmma_settled<WG::EXACT ? N / 2 : 1>(part);\n",
"#pragma unroll\n",
"            for (int i = 0; i < (WG::EXACT ? N / 2 : 0); i++)\n",
"                sum[m][i] = fused(scale[set][i >> 1 & 1], part[WG::EXACT ? i : 0], sum[m][i]);\n",
"            if (next == 0) free_tile();\n",
"        }\n",
"    };\n",
"    pdl_wait(); // y and partial\n",
"    mbarrier_wait(full, 0);\n",
"    load_a(0, stage, 0);\n",
"#pragma unroll 1\n",
"    for (int t = 0; t < tiles; t += 2 / BLOCKS) {\n",
"        step(t, 0, 0);\n",
"        if (BLOCKS == 2) step(t, 1, 1);\n",
"        else if (t + 1 < tiles) step(t + 1, 1, 0);\n",
"    }\n",
"    if (!WG::EXACT) wgmma_wait<0>();\n",
"\n",
"    // the ring is free when both warpgroups are here; each has room for its sums in it\n",
"    typedef Sums<N, 64> S;\n",
"    const u32 sums = base + wg * BLOCKS * S::BYTES;\n",
"    named_barrier(1, 256);\n",
"#pragma unroll\n",
"    for (int i = 0; i < BLOCKS * N / 8; i++)\n",
"        sums_put<64>(sums + i / (N / 8) * S::BYTES, i % (N / 8) * 8, warp * 16, &sum[0][0] + i * 4);\n",
"    named_barrier(2 + wg, 128);\n",
"#pragma unroll 1\n",
"    for (int m = 0; m < BLOCKS; m++) {\n",
"        const int block = (wide * 2 + wg) * BLOCKS + m;\n",
"        if (block * 64 >= p.n_pad) break;\n",
"        sums_store<N, 64, 1>(dtype, p, sums + m * S::BYTES, row_tile * N, block * 64,\n",
"                             row_tile * (p.n_pad / 64) + block, split, thread, 128, base + WG::FLAGS + wg *"
" 4,\n",
"                             2 + wg);\n",
"    }\n",
"}\n",
"\n",
"// row_tile: of N rows; wide: of OUTS outputs\n",
"template <int N, class T>\n",
"DEVICE void linear_wgmma(T dtype, const Linear &p, int row_tile = blockIdx.x, int split = blockIdx.y,\n",
"                         int wide = blockIdx.z)\n",
"{\n",
"    typedef Warpgroups<N> WG;\n",
"    static_assert(2 * WG::BLOCKS * Sums<N, 64>::BYTES <= (int)WG::RING && WG::FLAGS + 8 <= WG::BYTES\n",
"                      && WG::STAGE % 1024 == 0 && WG::LAG <= WG::STAGES - 2,\n",
"                  \"fits\");\n",
"    DYN_SMEM(smem);\n",
"    const u32 base = smem_address(smem), full = base + WG::RING, empty = full + WG::STAGES * 8;\n",
"    const int first = split_begin(p, split), tiles = split_begin(p, split + 1) - first;\n",
"    if (threadIdx.x == 0) {\n",
"        for (int s = 0; s < WG::STAGES; s++) {\n",
"            // the threads that copy x, and the announcement of the bulk copies\n",
"            mbarrier_init(full + s * 8, WG::COPYING + 1);\n",
"            mbarrier_init(empty + s * 8, 8); // the warps that consume\n",
"        }\n",
"        mbarrier_init_fence();\n",
"    }\n",
"    __syncthreads();\n",
"    // Of the 384 x 168 registers that a block of N = 256 is launched with, the producer keeps 128 x 40. Sm"
"aller\n",
"    // N need less, are launched with less, and must not ask: setmaxnreg waits for registers the block does"
" not\n",
"    // have.\n",
"    const int warp = __shfl_sync(~0u, (int)threadIdx.x >> 5, 0); // the same for all lanes, as the compiler"
" sees\n",
"    if (warp >= 8) {\n",
"        if (N == 256) registers_give<40>();\n",
"        wgmma_produce<WG>(p, base, first, tiles, row_tile, wide);\n",
"    } else {\n",
"        if (N == 256) registers_take<232>();\n",
"        wgmma_consume<WG>(dtype, p, base, tiles, row_tile, split, wide);\n",
"    }\n",
"}\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_wgmma[] = {
"/* wgmma.cuh - 4-bit linear layers for more than 64 rows on sm_90a (warpgroup.cuh)\n",
"\n",
"   A block is 128 outputs x 128 or 256 rows. wgmma of a tile and warpgroup, m64nNk16 four times, keeps the\n",
"   tensor cores for 2 N clocks, 4 N for both; meanwhile a scheduler issues for two warps, 205 instructions:"
" at\n",
"   N = 256 a fifth of its slots, and 16 copies of each producing thread. */\n",
"#if AWQ_HAS_WGMMA\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL(awq_linear_wgmma128_f16, 384, Linear p) { linear_wgmma<128>(F16(), p); }\n",
"KERNEL(awq_linear_wgmma256_f16, 384, Linear p) { linear_wgmma<256>(F16(), p); }\n",
"#endif\n",
"#ifndef AWQ_NO_BF16\n",
"KERNEL(awq_linear_wgmma128_bf16, 384, Linear p) { linear_wgmma<128>(BF16(), p); }\n",
"KERNEL(awq_linear_wgmma256_bf16, 384, Linear p) { linear_wgmma<256>(BF16(), p); }\n",
"#endif\n",
"#endif\n",
NULL};
static const char *const awq__cuda_text_wgmma_few[] = {
"/* wgmma_few.cuh - 4-bit linear layers for 5 to 64 rows on sm_90a (warpgroup.cuh)\n",
"\n",
"   A block is 256 outputs x 8, 16, 32 or 64 rows. Memory is to be the bound: an H200 (4.3 TB/s, some 650 ns"
")\n",
"   wants 21 KB under way on each SM; rings hold 72 KB of weights or more, of two blocks on an SM for up to "
"16\n",
"   rows. By SASS of sm_90a (NVRTC 13.0) a warp issues 75, 79, 87 and 88 instructions for its 512 bytes of a"
" unit,\n",
"   and with the warps that copy the SMs take in 5.8, 5.5, 5.0 and 4.9 TB/s; mma8, mma16 and mma32 (linear.c"
"uh)\n",
"   4.4, 3.8 and 3.3. At 64 rows tensor cores are the bound, at 3.7. */\n",
"#if AWQ_HAS_WGMMA\n",
"#ifndef AWQ_NO_F16\n",
"KERNEL_2(awq_linear_wgmma8_f16, 320, Linear p) { linear_wgmma<8>(F16(), p); }\n",
"KERNEL_2(awq_linear_wgmma16_f16, 320, Linear p) { linear_wgmma<16>(F16(), p); }\n",
"KERNEL(awq_linear_wgmma32_f16, 320, Linear p) { linear_wgmma<32>(F16(), p); }\n",
"KERNEL(awq_linear_wgmma64_f16, 320, Linear p) { linear_wgmma<64>(F16(), p); }\n",
"#endif\n",
"#ifndef AWQ_NO_BF16\n",
"KERNEL_2(awq_linear_wgmma8_bf16, 320, Linear p) { linear_wgmma<8>(BF16(), p); }\n",
"KERNEL_2(awq_linear_wgmma16_bf16, 320, Linear p) { linear_wgmma<16>(BF16(), p); }\n",
"KERNEL(awq_linear_wgmma32_bf16, 320, Linear p) { linear_wgmma<32>(BF16(), p); }\n",
"KERNEL(awq_linear_wgmma64_bf16, 320, Linear p) { linear_wgmma<64>(BF16(), p); }\n",
"#endif\n",
"#endif\n",
NULL};
static const char *const *const awq__cuda_prelude[] = {
    awq__cuda_text_prims, awq__cuda_text_common, awq__cuda_text_block, awq__cuda_text_warpgroup, NULL};
enum {
    AWQ__CUDA_ATTENTION,
    AWQ__CUDA_DENSE,
    AWQ__CUDA_EXPERTS,
    AWQ__CUDA_EXPERTS_WGMMA,
    AWQ__CUDA_LINEAR,
    AWQ__CUDA_LINEAR8,
    AWQ__CUDA_MOE,
    AWQ__CUDA_QUANTIZE,
    AWQ__CUDA_REPACK,
    AWQ__CUDA_ROWS,
    AWQ__CUDA_SAMPLE,
    AWQ__CUDA_SELFTEST,
    AWQ__CUDA_WGMMA,
    AWQ__CUDA_WGMMA_FEW,
    AWQ__CUDA_FAMILIES
};
static const struct {
    const char *name;
    const char *const *text;
} awq__cuda_family[] = {
    {"attention", awq__cuda_text_attention},
    {"dense", awq__cuda_text_dense},
    {"experts", awq__cuda_text_experts},
    {"experts_wgmma", awq__cuda_text_experts_wgmma},
    {"linear", awq__cuda_text_linear},
    {"linear8", awq__cuda_text_linear8},
    {"moe", awq__cuda_text_moe},
    {"quantize", awq__cuda_text_quantize},
    {"repack", awq__cuda_text_repack},
    {"rows", awq__cuda_text_rows},
    {"sample", awq__cuda_text_sample},
    {"selftest", awq__cuda_text_selftest},
    {"wgmma", awq__cuda_text_wgmma},
    {"wgmma_few", awq__cuda_text_wgmma_few},
};
/* --- end of the block --- */
/* clang-format on */

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>driver
   The driver's library, opened at run time; its functions by own prototypes, `_v2` where the driver has that;
   failures in words. The library is never closed: the driver's threads outlive contexts.
   Invariants: nothing here needs a device. A code that spoils the context is remembered in c->lost.
   Tests: tests/test_cuda.c; tests/cuda/abi.cpp compares prototypes and numbers with NVIDIA's headers */

#ifdef _WIN32
#  define AWQ__CUDA_CALL __stdcall
#  define AWQ__CUDA_PATHS ';'
#else
#  include <dlfcn.h>
#  include <glob.h>
#  define AWQ__CUDA_CALL
#  define AWQ__CUDA_PATHS ':'
#endif

#define AWQ__CUDA_MIN_DRIVER 11040 /* CUDA 11.4: cuGraphInstantiateWithFlags */
#define AWQ__CUDA_MIN_COMPUTE 75

/* The driver's attributes, options and flags that are used, by their numbers in cuda.h. */
enum {
    AWQ__CU_OUT_OF_MEMORY = 2,
    AWQ__CU_STUB = 34,
    AWQ__CU_NO_DEVICE = 100,
    AWQ__CU_UNSUPPORTED_PTX = 222,
    AWQ__CU_DRIVER_MISMATCH = 803,
    AWQ__CU_MULTIPROCESSORS = 16,
    AWQ__CU_MAJOR = 75,
    AWQ__CU_MINOR = 76, /* of the device */
    AWQ__CU_SHARED_OPTIN = 97,
    AWQ__CU_DYNAMIC_SHARED = 8, /* of a function */
    AWQ__CU_JIT_ERRORS = 5,
    AWQ__CU_JIT_ERROR_BYTES = 6,
    AWQ__CU_STREAM_NON_BLOCKING = 1,
    AWQ__CU_EVENT_NO_TIMING = 2,
    AWQ__CU_CAPTURE_THREAD = 1,
    AWQ__CU_CAPTURE_RELAXED = 2,
    AWQ__CU_PROGRAMMATIC = 6 /* launch attribute: may start before its predecessor ends */
};

typedef struct awq__cu_attribute { /* CUlaunchAttribute */
    int id, pad;
    union {
        int flag;
        uint64_t room[8];
    } value;
} awq__cu_attribute;

typedef struct awq__cu_config { /* CUlaunchConfig */
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared;
    void *stream;
    awq__cu_attribute *attributes;
    unsigned n_attributes;
} awq__cu_config;

/* X(field, symbol, whether it must be there, parameters). Handles are void *, device pointers uint64_t. */
#define AWQ__CUDA_DRIVER(X)                                                                                 \
    X(GetErrorName, "cuGetErrorName", 1, (int code, const char **text))                                     \
    X(GetErrorString, "cuGetErrorString", 1, (int code, const char **text))                                 \
    X(Init, "cuInit", 1, (unsigned flags))                                                                  \
    X(DriverGetVersion, "cuDriverGetVersion", 1, (int *version))                                            \
    X(DeviceGetCount, "cuDeviceGetCount", 1, (int *count))                                                  \
    X(DeviceGet, "cuDeviceGet", 1, (int *device, int index))                                                \
    X(DeviceGetName, "cuDeviceGetName", 1, (char *name, int bytes, int device))                             \
    X(DeviceGetAttribute, "cuDeviceGetAttribute", 1, (int *value, int attribute, int device))               \
    X(DeviceTotalMem, "cuDeviceTotalMem_v2", 1, (size_t *bytes, int device))                                \
    X(DevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", 1, (void **context, int device))                  \
    X(DevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", 1, (int device))                             \
    X(CtxPushCurrent, "cuCtxPushCurrent_v2", 1, (void *context))                                            \
    X(CtxPopCurrent, "cuCtxPopCurrent_v2", 1, (void **context))                                             \
    X(CtxGetDevice, "cuCtxGetDevice", 1, (int *device))                                                     \
    X(MemGetInfo, "cuMemGetInfo_v2", 1, (size_t *available, size_t *total))                                 \
    X(MemAlloc, "cuMemAlloc_v2", 1, (uint64_t *ptr, size_t bytes))                                          \
    X(MemFree, "cuMemFree_v2", 1, (uint64_t ptr))                                                           \
    X(MemAllocHost, "cuMemAllocHost_v2", 1, (void **ptr, size_t bytes))                                     \
    X(MemFreeHost, "cuMemFreeHost", 1, (void *ptr))                                                         \
    X(MemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", 1, (uint64_t to, const void *from, size_t n, void *stream))  \
    X(MemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", 1, (void *to, uint64_t from, size_t n, void *stream))        \
    X(MemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2", 1, (uint64_t to, uint64_t from, size_t n, void *stream))     \
    X(MemsetD8Async, "cuMemsetD8Async", 1, (uint64_t to, unsigned char value, size_t n, void *stream))      \
    X(StreamCreate, "cuStreamCreate", 1, (void **stream, unsigned flags))                                   \
    X(StreamDestroy, "cuStreamDestroy_v2", 1, (void *stream))                                               \
    X(StreamSynchronize, "cuStreamSynchronize", 1, (void *stream))                                          \
    X(StreamGetCtx, "cuStreamGetCtx", 1, (void *stream, void **context))                                    \
    X(StreamBeginCapture, "cuStreamBeginCapture_v2", 1, (void *stream, int mode))                           \
    X(StreamEndCapture, "cuStreamEndCapture", 1, (void *stream, void **graph))                              \
    X(ThreadCaptureMode, "cuThreadExchangeStreamCaptureMode", 0, (int *mode))                               \
    X(EventCreate, "cuEventCreate", 1, (void **event, unsigned flags))                                      \
    X(EventDestroy, "cuEventDestroy_v2", 1, (void *event))                                                  \
    X(EventRecord, "cuEventRecord", 1, (void *event, void *stream))                                         \
    X(EventSynchronize, "cuEventSynchronize", 1, (void *event))                                             \
    X(EventElapsedTime, "cuEventElapsedTime", 1, (float *ms, void *from, void *to))                         \
    X(ModuleLoadDataEx, "cuModuleLoadDataEx", 1,                                                            \
      (void **module, const void *image, unsigned n, int *options, void **values))                          \
    X(ModuleUnload, "cuModuleUnload", 1, (void *module))                                                    \
    X(ModuleGetFunction, "cuModuleGetFunction", 1, (void **function, void *module, const char *name))       \
    X(FuncSetAttribute, "cuFuncSetAttribute", 1, (void *function, int attribute, int value))                \
    X(LaunchKernel, "cuLaunchKernel", 1,                                                                    \
      (void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,        \
       unsigned shared, void *stream, void **params, void **extra))                                         \
    X(LaunchKernelEx, "cuLaunchKernelEx", 0,                                                                \
      (const awq__cu_config *config, void *function, void **params, void **extra))                          \
    X(GraphInstantiate, "cuGraphInstantiateWithFlags", 1,                                                   \
      (void **exec, void *graph, unsigned long long flags))                                                 \
    X(GraphLaunch, "cuGraphLaunch", 1, (void *exec, void *stream))                                          \
    X(GraphExecDestroy, "cuGraphExecDestroy", 1, (void *exec))                                              \
    X(GraphDestroy, "cuGraphDestroy", 1, (void *graph))

#define AWQ__CUDA_NVRTC(X)                                                                                  \
    X(Version, "nvrtcVersion", 1, (int *major, int *minor))                                                 \
    X(GetNumSupportedArchs, "nvrtcGetNumSupportedArchs", 1, (int *count))                                   \
    X(GetSupportedArchs, "nvrtcGetSupportedArchs", 1, (int *archs))                                         \
    X(CreateProgram, "nvrtcCreateProgram", 1,                                                               \
      (void **program, const char *text, const char *name, int n, const char *const *headers,               \
       const char *const *names))                                                                           \
    X(DestroyProgram, "nvrtcDestroyProgram", 1, (void **program))                                           \
    X(CompileProgram, "nvrtcCompileProgram", 1, (void *program, int n, const char *const *options))         \
    X(GetProgramLogSize, "nvrtcGetProgramLogSize", 1, (void *program, size_t *bytes))                       \
    X(GetProgramLog, "nvrtcGetProgramLog", 1, (void *program, char *log))                                   \
    X(GetCUBINSize, "nvrtcGetCUBINSize", 1, (void *program, size_t *bytes))                                 \
    X(GetCUBIN, "nvrtcGetCUBIN", 1, (void *program, char *cubin))                                           \
    X(GetPTXSize, "nvrtcGetPTXSize", 1, (void *program, size_t *bytes))                                     \
    X(GetPTX, "nvrtcGetPTX", 1, (void *program, char *ptx))

#define AWQ__CUDA_FIELD(field, symbol, needed, params) int(AWQ__CUDA_CALL *field) params;
typedef struct awq__cuda_driver {
    AWQ__CUDA_DRIVER(AWQ__CUDA_FIELD)
} awq__cuda_driver;
typedef struct awq__cuda_nvrtc {
    AWQ__CUDA_NVRTC(AWQ__CUDA_FIELD)
} awq__cuda_nvrtc;
#undef AWQ__CUDA_FIELD

typedef struct awq__cuda_symbol {
    const char *name;
    size_t offset; /* of its field */
    int needed;
} awq__cuda_symbol;

#define AWQ__CUDA_FIELD(field, symbol, needed, params) {symbol, offsetof(awq__cuda_driver, field), needed},
static const awq__cuda_symbol awq__cuda_driver_symbols[] = {AWQ__CUDA_DRIVER(AWQ__CUDA_FIELD){NULL, 0, 0}};
#undef AWQ__CUDA_FIELD
#define AWQ__CUDA_FIELD(field, symbol, needed, params) {symbol, offsetof(awq__cuda_nvrtc, field), needed},
static const awq__cuda_symbol awq__cuda_nvrtc_symbols[] = {AWQ__CUDA_NVRTC(AWQ__CUDA_FIELD){NULL, 0, 0}};
#undef AWQ__CUDA_FIELD

/* A file that may be NVRTC. `worth`: 0 no use; 1 code for the card, but by a compiler newer than the driver,
   which may not take it; 2 code for the card; 3 code for exactly this card; -1 not looked at. */
typedef struct awq__cuda_candidate {
    const char *path;
    int worth;
} awq__cuda_candidate;

typedef struct awq__cuda_block { /* device memory from the driver or the program */
    uint64_t ptr;
    size_t bytes;
    const void *owner; /* of a block of pages: its share */
    struct awq__cuda_block *next, **link; /* link: what points to it */
    struct awq__cuda_block *older;        /* of an arena */
} awq__cuda_block;

typedef struct awq__cuda_function {
    const char *name;
    void *handle;
    size_t shared; /* bytes of dynamic shared memory that it may have */
} awq__cuda_function;

/* Families are compiled in parts, since a model needs one of each: for activations in F16 or in BF16, attention
   for heads up to a size. A kernel whose name ends so is in that part alone, any other in each. */
enum { AWQ__CUDA_FAMILY_PARTS = 4 };
static const struct {
    const char *end, *define;
} awq__cuda_family_parts[2][AWQ__CUDA_FAMILY_PARTS] = {
    {{"_f16", "AWQ_NO_BF16"}, {"_bf16", "AWQ_NO_F16"}, {NULL, NULL}, {NULL, NULL}},
    {{"_64", "AWQ_ATTEND 64"},
     {"_128", "AWQ_ATTEND 128"},
     {"_192", "AWQ_ATTEND 192"},
     {"_256", "AWQ_ATTEND 256"}}};

struct awq_cuda {
    awq_device as_device; /* first: the address of both is one */
    awq__mutex lock;    /* held in each call of the device: models of several threads may be on it */
    awq_error late;     /* of a copy that nobody was told about */
    awq_ctx own;        /* with the creator's allocator: of what outlives the call that needed it first */
    awq__arena names;   /* of the functions */
    awq__cuda_driver cu;
    awq__cuda_nvrtc rtc;
    awq_cuda_desc desc;
    awq_cuda_info info;
    awq__text trail;   /* what was tried, for awq_cuda_doctor */
    awq__arena arena;  /* of the paths */
    awq__cuda_candidate candidate[64];
    int n_candidates, used; /* used: which of them is open */
    void *nvrtc, *builtins; /* libraries */
    int device, compute;    /* compute: 10 major + minor */
    int target;             /* likewise of the code that is made for it: info.arch, which may be older */
    uint32_t tested;        /* AWQ__CUDA_TEST_.. that passed */
    int lost;               /* the driver's code after which nothing works any more */
    int entered, mode;      /* the context is current; the thread's mode of recording before it was */
    int own_context, own_stream;
    int programmatic;       /* launches may overlap */
    int shared_limit;       /* bytes of shared memory that a block can ask for */
    void *context, *stream;
    void *recorder, *stream_apart; /* a stream to record on; `stream`, while that is the recorder */
    void *module[AWQ__CUDA_FAMILIES][AWQ__CUDA_FAMILY_PARTS];
    double took[AWQ__CUDA_FAMILIES][AWQ__CUDA_FAMILY_PARTS]; /* seconds to compile them, or to find and load */
    char cached[AWQ__CUDA_FAMILIES][AWQ__CUDA_FAMILY_PARTS]; /* they were found compiled */
    const char *last_kernel; /* launched last: for messages */
    awq__cuda_block *blocks;
    void *stage[2], *stage_free[2]; /* pinned memory for uploads, the event behind its last use */
    int stage_next;
    awq__cuda_function *functions; /* that were asked for */
    size_t n_functions, cap_functions;
    awq__cuda_block *partial, *counters; /* working memory of linears, in `blocks` too */
    struct awq__cuda_share *shares;      /* of the models that are on it */
};

/* NAME of the environment in value; 0: not set, empty or too long */
static int awq__cuda_env(const char *name, char *value, size_t cap)
{
#ifdef _WIN32
    wchar_t wide_name[64], wide[512];
    DWORD n;
    if (!MultiByteToWideChar(CP_UTF8, 0, name, -1, wide_name, 64)) return 0;
    n = GetEnvironmentVariableW(wide_name, wide, 512);
    return n > 0 && n < 512 && WideCharToMultiByte(CP_UTF8, 0, wide, -1, value, (int)cap, NULL, NULL) > 0;
#else
    const char *s = getenv(name);
    if (!s || !*s || strlen(s) >= cap) return 0;
    strcpy(value, s);
    return 1;
#endif
}

/* A library; NULL: the loader says why, "path: ..." */
static void *awq__cuda_open(const char *path, char *why, size_t cap)
{
#ifdef _WIN32
    wchar_t wide[1024];
    HMODULE lib;
    /* with a folder: what lies beside it is found too (nvrtc-builtins); the driver only where the system is */
    DWORD flags = strchr(path, '/') || strchr(path, '\\') ? LOAD_WITH_ALTERED_SEARCH_PATH
                  : !strcmp(path, "nvcuda.dll")           ? LOAD_LIBRARY_SEARCH_SYSTEM32
                                                          : 0;
    wchar_t *p;
    if (awq__win_path(path, wide, 1024)) lib = NULL, SetLastError(ERROR_INVALID_NAME);
    else {
        for (p = wide; *p; p++) /* the altered search path wants its own separators */
            if (*p == '/') *p = '\\';
        lib = LoadLibraryExW(wide, NULL, flags);
    }
    if (!lib) snprintf(why, cap, "%s: LoadLibrary error %lu", path, (unsigned long)GetLastError());
    return (void *)lib;
#else
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const char *said = lib ? NULL : dlerror();
    if (said && !strncmp(said, path, strlen(path))) snprintf(why, cap, "%s", said);
    else if (!lib) snprintf(why, cap, "%s: %s", path, said ? said : "the loader does not say why");
    return lib;
#endif
}

static void awq__cuda_close(void *lib)
{
#ifdef _WIN32
    if (lib) FreeLibrary((HMODULE)lib);
#else
    if (lib) dlclose(lib);
#endif
}

/* Fills the function table from the library; the name of a needed function that it lacks, or NULL. */
static const char *awq__cuda_bind(void *lib, const awq__cuda_symbol *s, void *table)
{
    for (; s->name; s++) {
#ifdef _WIN32
        FARPROC p = GetProcAddress((HMODULE)lib, s->name);
#else
        void *p = dlsym(lib, s->name);
#endif
        if (!p && s->needed) return s->name;
        memcpy((char *)table + s->offset, &p, sizeof p);
    }
    return NULL;
}

/* "CUDA_ERROR_OUT_OF_MEMORY (2), out of memory" */
static void awq__cuda_words(const awq_cuda *c, int code, char *text, size_t cap)
{
    const char *name = NULL, *words = NULL;
    if (c->cu.GetErrorName(code, &name)) name = NULL; /* the toolkit's stand-in for the driver has none */
    if (c->cu.GetErrorString(code, &words)) words = NULL;
    snprintf(text, cap, "%s (%d)%s%s", name ? name : "error", code, words ? ", " : "", words ? words : "");
}

/* Codes after which the context can only be destroyed. */
static int awq__cuda_is_lost(int code)
{
    return code == 214 || code == 220 || code == 226 || code == 700 || code == 702 || code == 709
           || code == 710 || (code >= 714 && code <= 719) || code == 721 || code == 999;
}

/* The status of a driver call; for others than 0 the sentence too: "... cuMemAlloc: CUDA_ERROR_..." */
static awq_status awq__cuda_check(awq_ctx *ctx, awq_cuda *c, int code, const char *call)
{
    char words[400];
    if (!code) return AWQ_OK;
    awq__cuda_words(c, code, words, sizeof words);
    if (awq__cuda_is_lost(code) && !c->lost) c->lost = code;
    if (c->lost)
        return awq__fail(ctx, AWQ_E_DEVICE,
                         "CUDA device %d (%s) is lost to its context: %s: %s; the last kernel launched was %s; "
                         "free what is on it and start the program again",
                         c->info.index, c->info.name, call, words, c->last_kernel ? c->last_kernel : "none");
    return awq__fail(ctx, code == AWQ__CU_OUT_OF_MEMORY ? AWQ_E_MEMORY : AWQ_E_DEVICE,
                     "CUDA device %d (%s): %s: %s", c->info.index, c->info.name, call, words);
}

/* AWQ__TRY(AWQ__CU(ctx, c, MemFree, (ptr))): calls the driver, unless the device is lost */
#define AWQ__CU(ctx, c, call, args) \
    awq__cuda_check((ctx), (c), (c)->lost ? (c)->lost : (c)->cu.call args, "cu" #call)

/* What another thread of the program records is spoiled by this one's allocations and waits unless this one's
   mode is relaxed; c->mode is what it was. */
static void awq__cuda_capture_mode(awq_cuda *c, int mode)
{
    c->mode = mode;
    if (mode < 0 || !c->cu.ThreadCaptureMode || c->cu.ThreadCaptureMode(&c->mode)) c->mode = -1; /* as it is */
}

/* The context is current between the two, which nest; what the caller had is back behind them. */
static awq_status awq__cuda_enter(awq_ctx *ctx, awq_cuda *c)
{
    awq_status st = c->entered ? AWQ_OK : AWQ__CU(ctx, c, CtxPushCurrent, (c->context));
    if (st) return st;
    if (!c->entered++) awq__cuda_capture_mode(c, AWQ__CU_CAPTURE_RELAXED);
    return AWQ_OK;
}

static void awq__cuda_leave(awq_cuda *c)
{
    void *context;
    if (--c->entered) return;
    awq__cuda_capture_mode(c, c->mode);
    c->cu.CtxPopCurrent(&context);
}

static awq_status awq__cuda_find_driver(awq_ctx *ctx, awq_cuda *c)
{
    static const char *const usual[] = {
#ifdef _WIN32
        "nvcuda.dll",
#else
        "libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1",
#endif
        NULL};
    char given[512], why[512], first[512] = "";
    const char *one[2] = {NULL, NULL}, *const *names = usual, *missing;
    void *lib = NULL;
    double began;
    int code, version = 0;
    if (c->desc.driver) one[0] = c->desc.driver;
    else if (awq__cuda_env("AWQ_CUDA_DRIVER", given, sizeof given)) one[0] = given;
    if (one[0]) names = one;
    for (; *names && !lib; names++) {
        lib = awq__cuda_open(*names, why, sizeof why);
        if (lib) snprintf(c->info.driver_path, sizeof c->info.driver_path, "%s", *names);
        else {
            awq__textf(ctx, &c->trail, "  tried %s\n", why);
            if (names == usual) snprintf(first, sizeof first, "%s", why);
        }
    }
    if (!lib && one[0])
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "no CUDA driver: %s, which %s names", why,
                         c->desc.driver ? "awq_cuda_desc.driver" : "AWQ_CUDA_DRIVER");
    if (!lib)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "no CUDA driver: %s; install NVIDIA's driver, or name its library in AWQ_CUDA_DRIVER",
                         first);
    missing = awq__cuda_bind(lib, awq__cuda_driver_symbols, &c->cu);
    if (missing)
        return awq__fail(
            ctx, AWQ_E_UNSUPPORTED, "the CUDA driver %s has no %s: a driver of CUDA %d.%d or newer is needed",
            c->info.driver_path, missing, AWQ__CUDA_MIN_DRIVER / 1000, AWQ__CUDA_MIN_DRIVER % 1000 / 10);
    code = c->cu.DriverGetVersion(&version);
    if (!code && version < AWQ__CUDA_MIN_DRIVER)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "the CUDA driver %s is for CUDA %d.%d, %d.%d or newer is needed: update it",
                         c->info.driver_path, version / 1000, version % 1000 / 10, AWQ__CUDA_MIN_DRIVER / 1000,
                         AWQ__CUDA_MIN_DRIVER % 1000 / 10);
    c->info.driver_version = version;
    began = awq__now();
    if (!code) code = c->cu.Init(0);
    c->info.init_seconds = awq__now() - began;
    if (code) {
        awq__cuda_words(c, code, why, sizeof why);
        return awq__fail(
            ctx, AWQ_E_UNSUPPORTED, "the CUDA driver %s does not start: cuInit: %s%s", c->info.driver_path, why,
            code == AWQ__CU_NO_DEVICE         ? "; no NVIDIA GPU is here, or CUDA_VISIBLE_DEVICES hides it"
            : code == AWQ__CU_STUB            ? "; this file is the toolkit's, for linking only"
            : code == AWQ__CU_DRIVER_MISMATCH ? "; the driver was updated and the machine not restarted"
                                              : "");
    }
    return AWQ_OK;
}

/* c->device: that of the program's context or stream, or the one with desc.index; checked */
static awq_status awq__cuda_find_device(awq_ctx *ctx, awq_cuda *c)
{
    int n = 0, major = 0, minor = 0;
    awq_status st;
    c->info.index = c->desc.index;
    c->context = c->desc.context;
    c->stream = c->desc.stream;
    if (c->stream && !c->context) AWQ__TRY(AWQ__CU(ctx, c, StreamGetCtx, (c->stream, &c->context)));
    AWQ__TRY(AWQ__CU(ctx, c, DeviceGetCount, (&n)));
    if (c->context) {
        AWQ__TRY(awq__cuda_enter(ctx, c));
        st = AWQ__CU(ctx, c, CtxGetDevice, (&c->device));
        awq__cuda_leave(c);
        AWQ__TRY(st);
        c->info.index = c->device; /* CUdevice is the number it was asked for by */
    } else {
        if (n <= 0)
            return awq__fail(ctx, AWQ_E_UNSUPPORTED, "the CUDA driver %s finds no device", c->info.driver_path);
        if (c->desc.index < 0 || c->desc.index >= n)
            return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_create: index is %d, devices 0 to %d are here",
                             c->desc.index, n - 1);
        AWQ__TRY(AWQ__CU(ctx, c, DeviceGet, (&c->device, c->desc.index)));
    }
    AWQ__TRY(AWQ__CU(ctx, c, DeviceGetName, (c->info.name, (int)sizeof c->info.name - 1, c->device)));
    AWQ__TRY(AWQ__CU(ctx, c, DeviceGetAttribute, (&major, AWQ__CU_MAJOR, c->device)));
    AWQ__TRY(AWQ__CU(ctx, c, DeviceGetAttribute, (&minor, AWQ__CU_MINOR, c->device)));
    AWQ__TRY(
        AWQ__CU(ctx, c, DeviceGetAttribute, (&c->info.multiprocessors, AWQ__CU_MULTIPROCESSORS, c->device)));
    AWQ__TRY(AWQ__CU(ctx, c, DeviceGetAttribute, (&c->shared_limit, AWQ__CU_SHARED_OPTIN, c->device)));
    AWQ__TRY(AWQ__CU(ctx, c, DeviceTotalMem, (&c->info.memory_total, c->device)));
    c->info.compute_major = major;
    c->info.compute_minor = minor;
    c->compute = major * 10 + minor;
    /* in recordings too from CUDA 12.3 on */
    c->programmatic = c->cu.LaunchKernelEx && c->info.driver_version >= 12030;
    if (c->compute < AWQ__CUDA_MIN_COMPUTE)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "CUDA device %d (%s) has compute capability %d.%d, %d.%d (Turing) or newer is needed",
                         c->info.index, c->info.name, major, minor, AWQ__CUDA_MIN_COMPUTE / 10,
                         AWQ__CUDA_MIN_COMPUTE % 10);
    return AWQ_OK;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>nvrtc
   NVIDIA's run-time compiler: where it may be, which one is best for driver and card, what it is asked for.
   A toolkit's NVRTC, a Python wheel's, a conda environment's: whichever makes code for exactly this card and is
   not newer than the driver; then one whose code the card can run, then one newer than the driver.
   Code for the card, best first: sm_90a (all of its instructions), sm_89, sm_86 on an 8.9 (the same major),
   compute_80 as PTX that the driver translates.
   Invariants: libraries looked at and not used are closed; the one that compiled stays open until the process
   ends, since its threads' storage outlives the calls.
   Tests: tests/test_cuda.c */

#define AWQ__CUDA_STD "--std=c++17"
enum { AWQ__NVRTC_BUILTINS = 7 }; /* libnvrtc-builtins is not beside it */

static int awq__cuda_stages(int arch);

/* The best code that NVRTC `major` with these archs makes for the card: "sm_90a". Returns 0 none, 1 other code
   that runs on it and whose rings fit its shared memory, 2 code for exactly it. */
static int awq__cuda_arch(int compute, int major, const int *archs, int n, char *arch, size_t cap)
{
    int i, same = 0, older = 0, exact = 0;
    for (i = 0; i < n; i++) {
        /* modules with a CPU beside the GPU: their code runs nowhere else, and they run nobody else's */
        int apart = archs[i] == 72 || archs[i] == 87 || archs[i] == 101 || archs[i] == 110;
        exact |= archs[i] == compute;
        if (archs[i] > compute || awq__cuda_stages(archs[i]) > awq__cuda_stages(compute)) continue;
        if (archs[i] / 10 == compute / 10 && !apart) same = AWQ__MAX(same, archs[i]);
        if (!apart) older = AWQ__MAX(older, archs[i]);
    }
    if (compute == 72 || compute == 87 || compute == 101 || compute == 110) same = 0;
    if (exact) snprintf(arch, cap, "sm_%d%s", compute, compute >= 90 && major >= 12 ? "a" : "");
    else if (same) snprintf(arch, cap, "sm_%d", same);
    else if (older) snprintf(arch, cap, "compute_%d", older);
    else return 0;
    return exact ? 2 : 1;
}

static awq_status awq__cuda_add_candidate(awq_ctx *ctx, awq_cuda *c, const char *path, size_t len)
{
    int i;
    char *copy;
    for (i = 0; i < c->n_candidates; i++)
        if (strlen(c->candidate[i].path) == len && !memcmp(c->candidate[i].path, path, len)) return AWQ_OK;
    if (!len || c->n_candidates == (int)(sizeof c->candidate / sizeof c->candidate[0])) return AWQ_OK;
    copy = awq__arena_text(ctx, &c->arena, path, len);
    if (!copy) return AWQ_E_MEMORY;
    c->candidate[c->n_candidates].path = copy;
    c->candidate[c->n_candidates++].worth = -1;
    return AWQ_OK;
}

/* every file of the pattern; the last in the alphabet, the newest of a folder, first */
static awq_status awq__cuda_add_files(awq_ctx *ctx, awq_cuda *c, const char *pattern)
{
    awq_status st = AWQ_OK;
#ifdef _WIN32
    WIN32_FIND_DATAW found;
    wchar_t wide[1024];
    HANDLE h;
    const char *name = strrchr(pattern, '/');
    if (awq__win_path(pattern, wide, 1024)) return AWQ_OK;
    h = FindFirstFileW(wide, &found);
    if (h == INVALID_HANDLE_VALUE) return AWQ_OK;
    do {
        char path[1024], file[300];
        if (!WideCharToMultiByte(CP_UTF8, 0, found.cFileName, -1, file, (int)sizeof file, NULL, NULL)) continue;
        snprintf(path, sizeof path, "%.*s%s", (int)(name ? name + 1 - pattern : 0), pattern, file);
        st = awq__cuda_add_candidate(ctx, c, path, strlen(path));
    } while (!st && FindNextFileW(h, &found));
    FindClose(h);
#else
    glob_t g;
    size_t i;
    if (glob(pattern, 0, NULL, &g)) return AWQ_OK;
    for (i = g.gl_pathc; i-- > 0 && !st;)
        st = awq__cuda_add_candidate(ctx, c, g.gl_pathv[i], strlen(g.gl_pathv[i]));
    globfree(&g);
#endif
    return st;
}

/* Fills c->candidate in the order they are to be tried. */
static awq_status awq__cuda_list_nvrtc(awq_ctx *ctx, awq_cuda *c)
{
#ifdef _WIN32
    static const char *const names[] = {"nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "nvrtc64_112_0.dll"};
    static const char *const places[][2] = {
        {"CUDA_PATH", "bin/x64/nvrtc64_*_0.dll"}, {"CUDA_PATH", "bin/nvrtc64_*_0.dll"},
        {"VIRTUAL_ENV", "Lib/site-packages/nvidia/cu13/bin/x86_64/nvrtc64_*_0.dll"},
        {"VIRTUAL_ENV", "Lib/site-packages/nvidia/cuda_nvrtc/bin/nvrtc64_*_0.dll"},
        {"CONDA_PREFIX", "Library/bin/nvrtc64_*_0.dll"},
        {"CONDA_PREFIX", "Lib/site-packages/nvidia/cu13/bin/x86_64/nvrtc64_*_0.dll"},
        {"CONDA_PREFIX", "Lib/site-packages/nvidia/cuda_nvrtc/bin/nvrtc64_*_0.dll"}};
#else
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"};
    static const char *const places[][2] = { /* variable, "": the root; below it */
        {"CUDA_PATH", "lib64/libnvrtc.so.1[1-9]*"},
        {"CUDA_HOME", "lib64/libnvrtc.so.1[1-9]*"},
        {"", "usr/local/cuda/lib64/libnvrtc.so.1[1-9]*"},
        {"", "usr/local/cuda-*/lib64/libnvrtc.so.1[1-9]*"},
        {"", "opt/cuda/lib64/libnvrtc.so.1[1-9]*"},
        {"VIRTUAL_ENV", "lib/python3*/site-packages/nvidia/cu1*/lib/libnvrtc.so.1[1-9]*"}, /* of CUDA 13 */
        {"VIRTUAL_ENV", "lib/python3*/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.1[1-9]*"},
        {"CONDA_PREFIX", "lib/libnvrtc.so.1[1-9]*"},
        {"CONDA_PREFIX", "lib/python3*/site-packages/nvidia/cu*/lib/libnvrtc.so.1[1-9]*"},
        {"HOME", ".local/lib/python3*/site-packages/nvidia/cu*/lib/libnvrtc.so.1[1-9]*"},
        {"", "usr/local/lib/python3*/*-packages/nvidia/cu*/lib/libnvrtc.so.1[1-9]*"}};
#endif
    awq__text pattern = {NULL, 0, 0, 0};
    awq_status st = AWQ_OK;
    char given[1024];
    size_t i;
    const char *list = c->desc.nvrtc;
    if (!list && awq__cuda_env("AWQ_NVRTC", given, sizeof given)) list = given;
    while (list && *list) {
        const char *end = strchr(list, AWQ__CUDA_PATHS);
        size_t n = end ? (size_t)(end - list) : strlen(list);
        AWQ__TRY(awq__cuda_add_candidate(ctx, c, list, n));
        list += n + (end != NULL);
        if (!*list) return AWQ_OK;
    }
    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        AWQ__TRY(awq__cuda_add_candidate(ctx, c, names[i], strlen(names[i])));
    for (i = 0; i < sizeof places / sizeof places[0] && !st; i++) {
        given[0] = 0;
        if (*places[i][0] && !awq__cuda_env(places[i][0], given, sizeof given)) continue;
        pattern.len = 0;
        awq__text_str(ctx, &pattern, given);
        awq__text_str(ctx, &pattern, "/");
        awq__text_str(ctx, &pattern, places[i][1]);
        st = pattern.failed ? AWQ_E_MEMORY : awq__cuda_add_files(ctx, c, pattern.data);
    }
    awq__text_free(ctx, &pattern);
    return st;
}

/* Opens candidate i and judges it; *lib stays open, and c->info and c->rtc are its, when it is of any use. */
static awq_status awq__cuda_try_nvrtc(awq_ctx *ctx, awq_cuda *c, int i, void **lib)
{
    awq__cuda_candidate *t = &c->candidate[i];
    char why[512];
    const char *missing;
    int major = 0, minor = 0, n = 0, code, *archs;
    *lib = awq__cuda_open(t->path, why, sizeof why);
    t->worth = 0;
    if (!*lib) {
        awq__textf(ctx, &c->trail, "  tried %s\n", why);
        return AWQ_OK;
    }
    missing = awq__cuda_bind(*lib, awq__cuda_nvrtc_symbols, &c->rtc);
    if (missing) awq__textf(ctx, &c->trail, "  tried %s: it has no %s\n", t->path, missing);
    else if ((code = c->rtc.Version(&major, &minor)) != 0 || (code = c->rtc.GetNumSupportedArchs(&n)) != 0
             || n <= 0)
        awq__textf(ctx, &c->trail, "  tried %s: it does not tell its version and architectures (error %d)\n",
                   t->path, code);
    else {
        archs = AWQ__NEW(ctx, int, n);
        if (!archs) {
            awq__cuda_close(*lib);
            return AWQ_E_MEMORY;
        }
        if (!c->rtc.GetSupportedArchs(archs))
            t->worth = awq__cuda_arch(c->compute, major, archs, n, c->info.arch, sizeof c->info.arch);
        awq__free(ctx, archs);
        if (!t->worth)
            awq__textf(ctx, &c->trail, "  tried %s: NVRTC %d.%d makes no code for compute capability %d.%d\n",
                       t->path, major, minor, c->info.compute_major, c->info.compute_minor);
        else if (major > c->info.driver_version / 1000) t->worth = 1;
        else t->worth++;
    }
    if (!t->worth) {
        awq__cuda_close(*lib);
        *lib = NULL;
        return AWQ_OK;
    }
    if (t->worth < 3)
        awq__textf(ctx, &c->trail, "  tried %s: NVRTC %d.%d, %s: only if there is no better one\n", t->path,
                   major, minor, t->worth == 1 ? "newer than the driver" : c->info.arch);
    c->info.nvrtc_major = major;
    c->info.nvrtc_minor = minor;
    snprintf(c->info.nvrtc_path, sizeof c->info.nvrtc_path, "%s", t->path);
    return AWQ_OK;
}

/* NVRTC opens its other half by name alone when it first compiles: those of CUDA 13 that pip brings do not look
   beside themselves, Windows' never. Opened before, it is found. */
static void awq__cuda_open_builtins(awq_cuda *c)
{
    const char *path = c->info.nvrtc_path, *name = strrchr(path, '/');
    char beside[1200], why[512];
#ifdef _WIN32
    static const char format[] = "%.*snvrtc-builtins64_%d%d.dll";
    const char *other = strrchr(path, '\\');
    if (!name || (other && other > name)) name = other;
#else
    static const char format[] = "%.*slibnvrtc-builtins.so.%d.%d";
#endif
    if (!name) return; /* the system found it, and finds what belongs to it */
    snprintf(beside, sizeof beside, format, (int)(name + 1 - path), path, c->info.nvrtc_major,
             c->info.nvrtc_minor);
    c->builtins = awq__cuda_open(beside, why, sizeof why); /* if it is not there, compiling will tell */
}

static void awq__cuda_close_nvrtc(awq_cuda *c)
{
    awq__cuda_close(c->nvrtc);
    awq__cuda_close(c->builtins);
    c->nvrtc = c->builtins = NULL;
}

/* The best candidate left is opened: c->rtc, c->info.arch. */
static awq_status awq__cuda_find_nvrtc(awq_ctx *ctx, awq_cuda *c)
{
    int i, best = -1;
    void *lib = NULL;
    c->nvrtc = NULL;
    c->info.nvrtc_major = c->info.nvrtc_minor = 0;
    c->info.nvrtc_path[0] = c->info.arch[0] = 0;
    for (i = 0; i < c->n_candidates; i++) {
        if (c->candidate[i].worth < 0) AWQ__TRY(awq__cuda_try_nvrtc(ctx, c, i, &lib));
        if (c->candidate[i].worth > (best < 0 ? 0 : c->candidate[best].worth)) best = i;
        if (lib && c->candidate[i].worth == 3) break;
        awq__cuda_close(lib);
        lib = NULL;
    }
    if (best < 0) {
        c->info.nvrtc_path[0] = c->info.arch[0] = 0;
        return awq__fail(
            ctx, AWQ_E_UNSUPPORTED,
            "no NVRTC, NVIDIA's run-time compiler, that makes code for %s (compute capability %d.%d) is "
            "here; %d files were tried, awq_cuda_doctor lists them. Install it: pip install "
            "nvidia-cuda-nvrtc%s, "
            "or the CUDA toolkit, or name the library in AWQ_NVRTC",
            c->info.name, c->info.compute_major, c->info.compute_minor, c->n_candidates,
            c->info.driver_version >= 13000   ? ""
            : c->info.driver_version >= 12000 ? "-cu12"
                                              : "-cu11");
    }
    if (!lib) AWQ__TRY(awq__cuda_try_nvrtc(ctx, c, best, &lib));
    if (!lib) return awq__cuda_find_nvrtc(ctx, c); /* it is not what it was a moment ago: worth 0 now */
    c->nvrtc = lib;
    c->used = best;
    c->target = atoi(strchr(c->info.arch, '_') + 1);
    awq__cuda_open_builtins(c);
    if (c->candidate[best].worth == 1)
        awq__log(ctx, AWQ_LOG_WARN,
                 "NVRTC %d.%d (%s) is newer than the driver (CUDA %d.%d), which may refuse its code",
                 c->info.nvrtc_major, c->info.nvrtc_minor, c->info.nvrtc_path, c->info.driver_version / 1000,
                 c->info.driver_version % 1000 / 10);
    return AWQ_OK;
}

static void awq__cuda_add_text(awq_ctx *ctx, awq__text *t, const char *const *line)
{
    for (; *line; line++) awq__text_str(ctx, t, *line);
}

/* A part of a family on its way to be code. */
typedef struct awq__cuda_unit {
    int family, part;
    char *text; /* awq__free it */
    size_t bytes;
    uint64_t key;  /* in the cache */
    void *program; /* NVRTC's, and what NVRTC said */
    int created, code;
    double seconds;
} awq__cuda_unit;

static void awq__cuda_took(awq_cuda *c, const awq__cuda_unit *u, double seconds, int cached)
{
    c->took[u->family][u->part] = seconds;
    c->cached[u->family][u->part] = (char)cached;
}

/* -1: it is in each */
static int awq__cuda_part_of(int family, const char *kernel)
{
    const int attends = family == AWQ__CUDA_ATTENTION;
    size_t n = strlen(kernel), k;
    int i;
    if (!strncmp(kernel, "awq_embed_", 10)) return -1; /* its end tells the table's type */
    for (i = 0; i < AWQ__CUDA_FAMILY_PARTS && awq__cuda_family_parts[attends][i].end; i++) {
        k = strlen(awq__cuda_family_parts[attends][i].end);
        if (n > k && !strcmp(kernel + n - k, awq__cuda_family_parts[attends][i].end)) return i;
    }
    return -1;
}

/* u->text: the family behind what all share, with line numbers of its own */
static awq_status awq__cuda_join(awq_ctx *ctx, awq__cuda_unit *u)
{
    const char *const *const *shared;
    awq__text t = {NULL, 0, 0, 0};
    awq__textf(ctx, &t, "#define %s\n",
               awq__cuda_family_parts[u->family == AWQ__CUDA_ATTENTION][u->part].define);
    for (shared = awq__cuda_prelude; *shared; shared++) awq__cuda_add_text(ctx, &t, *shared);
    awq__textf(ctx, &t, "#line 1 \"%s.cuh\"\n", awq__cuda_family[u->family].name);
    awq__cuda_add_text(ctx, &t, awq__cuda_family[u->family].text);
    if (t.failed) awq__text_free(ctx, &t);
    u->text = t.data;
    u->bytes = t.len;
    return u->text ? AWQ_OK : AWQ_E_MEMORY;
}

/* The first line of a compiler's log that tells an error, else its first line. */
static void awq__cuda_first_error(const char *log, char *line, size_t cap)
{
    const char *p = strstr(log, "error"), *end;
    if (!p) p = log;
    while (p > log && p[-1] != '\n') p--;
    while (*p == '\n') p++;
    end = strchr(p, '\n');
    snprintf(line, cap, "%.*s", (int)(end ? end - p : (ptrdiff_t)strlen(p)), p);
}

typedef struct awq__cuda_compiling {
    awq_cuda *c;
    awq__cuda_unit *const *unit;
} awq__cuda_compiling;

/* Compiles a unit for c->info.arch. NVRTC alone, on any thread: several are compiled at once. */
static void awq__cuda_compile_job(void *arg, int64_t index)
{
    const awq__cuda_compiling *a = (const awq__cuda_compiling *)arg;
    awq__cuda_unit *u = a->unit[index];
    char option[64], name[64];
    const char *options[2];
    double began = awq__now();
    snprintf(option, sizeof option, "--gpu-architecture=%s", a->c->info.arch);
    snprintf(name, sizeof name, "%s.cuh", awq__cuda_family[u->family].name);
    options[0] = option;
    options[1] = AWQ__CUDA_STD;
    u->code = a->c->rtc.CreateProgram(&u->program, u->text, name, 0, NULL, NULL);
    u->created = !u->code;
    if (u->created) u->code = a->c->rtc.CompileProgram(u->program, 2, options);
    u->seconds = awq__now() - began;
}

/* The code of a compiled unit in fresh memory; its program is gone then, in any case. *builtins: this NVRTC is
   not whole; try another. */
static awq_status awq__cuda_compiled(awq_ctx *ctx, awq_cuda *c, awq__cuda_unit *u, char **image, size_t *bytes,
                                     int *builtins)
{
    char name[64], line[400], *log = NULL, *data = NULL;
    int ptx = !strncmp(c->info.arch, "compute_", 8), code = u->code;
    void *program = u->program;
    size_t n = 0;
    awq_status st = AWQ_OK;
    snprintf(name, sizeof name, "%s.cuh", awq__cuda_family[u->family].name);
    if (!u->created)
        return awq__fail(ctx, AWQ_E_DEVICE, "NVRTC %s: nvrtcCreateProgram: error %d", c->info.nvrtc_path, code);
    if (code == AWQ__NVRTC_BUILTINS) {
        *builtins = 1;
        st = awq__fail(ctx, AWQ_E_UNSUPPORTED,
                       "NVRTC %s: its other half, libnvrtc-builtins of version %d.%d, is not beside it",
                       c->info.nvrtc_path, c->info.nvrtc_major, c->info.nvrtc_minor);
    } else if (code) {
        line[0] = 0;
        if (!c->rtc.GetProgramLogSize(program, &n) && n > 0 && (log = AWQ__NEW(ctx, char, n + 1)) != NULL) {
            if (!c->rtc.GetProgramLog(program, log)) awq__cuda_first_error(log, line, sizeof line);
            awq__log(ctx, AWQ_LOG_DEBUG, "%s", log);
            awq__free(ctx, log);
        }
        st = awq__fail(ctx, AWQ_E_DEVICE, "NVRTC %d.%d (%s) does not compile %s for %s: error %d: %s",
                       c->info.nvrtc_major, c->info.nvrtc_minor, c->info.nvrtc_path, name, c->info.arch, code,
                       line);
    } else {
        code = ptx ? c->rtc.GetPTXSize(program, &n) : c->rtc.GetCUBINSize(program, &n);
        if (!code && n > 0) {
            data = AWQ__NEW_RAW(ctx, char, n);
            if (data) code = ptx ? c->rtc.GetPTX(program, data) : c->rtc.GetCUBIN(program, data);
            else st = AWQ_E_MEMORY;
        }
        if (!st && (code || !n))
            st = awq__fail(ctx, AWQ_E_DEVICE, "NVRTC %s: no code of %s: error %d", c->info.nvrtc_path, name,
                           code);
    }
    c->rtc.DestroyProgram(&u->program);
    u->created = 0;
    if (st) {
        awq__free(ctx, data);
        return st;
    }
    c->info.compiled++;
    awq__log(ctx, AWQ_LOG_DEBUG, "compiled %s (%s) for %s in %.0f ms, %.0f KB", name,
             awq__cuda_family_parts[u->family == AWQ__CUDA_ATTENTION][u->part].define, c->info.arch,
             u->seconds * 1e3, (double)n / 1e3);
    *image = data;
    *bytes = n;
    return AWQ_OK;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>cache
   Compiled kernels on disk, a file for each family, card and NVRTC: <family>-<arch>-<key>.bin, where the key is
   a hash of everything that the code depends on. 64 bytes (magic, key, length, checksum, zeros), then the code.
   Invariants: a file is complete or absent under its name (written under another, then renamed); one that is
   not as described is deleted and made again; whatever goes wrong here costs a compilation, not the call.
   Tests: tests/test_cuda.c */

#define AWQ__CUDA_CACHE_HEADER 64
#define AWQ__CUDA_CACHE_MAX ((size_t)64 << 20)
#define AWQ__CUDA_CACHE_MAGIC "awq.h kernels 1" /* 16 bytes with its NUL; the number changes with the format */

static uint64_t awq__cuda_key(const awq_cuda *c, const char *text, size_t bytes)
{
    char head[128];
    snprintf(head, sizeof head, "%s|%s|%s|%d.%d", AWQ__CUDA_CACHE_MAGIC, AWQ__CUDA_STD, c->info.arch,
             c->info.nvrtc_major, c->info.nvrtc_minor);
    return awq__fnv(awq__fnv(AWQ__FNV, head, strlen(head) + 1), text, bytes);
}

#ifndef _WIN32
/* nobody else reads or, above all, writes what the device will run */
static int awq__cuda_make_folder(void *user, const char *path)
{
    (void)user;
    return !mkdir(path, 0700) || errno == EEXIST ? 0 : errno;
}
#endif

/* Between begin and end the helpers over files use the cache's files and leave ctx->err alone. */
typedef struct awq__cuda_saved {
    awq_file_system files;
    awq_error err;
} awq__cuda_saved;

static void awq__cuda_cache_begin(awq_ctx *ctx, const awq_cuda *c, awq__cuda_saved *saved)
{
    saved->files = ctx->files;
    saved->err = ctx->err;
    memset(&ctx->files, 0, sizeof ctx->files);
    if (c->desc.cache_files.open) ctx->files = c->desc.cache_files;
}

static void awq__cuda_cache_end(awq_ctx *ctx, const awq__cuda_saved *saved)
{
    ctx->files = saved->files;
    ctx->err = saved->err;
}

/* folder and those above it that are missing; 0 or an errno value */
static int awq__cuda_make_folders(awq_ctx *ctx, const awq_cuda *c)
{
    int (*make)(void *user, const char *path) = awq__fs(ctx)->make_folder;
    char path[sizeof c->info.cache_folder];
    size_t i;
#ifndef _WIN32
    if (!c->desc.cache_files.open) make = awq__cuda_make_folder;
#endif
    snprintf(path, sizeof path, "%s", c->info.cache_folder);
    for (i = 1; path[i]; i++)
        if (path[i] == '/') {
            path[i] = 0;
            make(awq__fs(ctx)->user, path);
            path[i] = '/';
        }
    return make(awq__fs(ctx)->user, path);
}

/* c->info.cache_folder; "" when there is to be none */
static void awq__cuda_find_cache(awq_ctx *ctx, awq_cuda *c)
{
#ifdef _WIN32
    static const char *const places[][2] = {{"LOCALAPPDATA", "/awq-cuda"}};
#else
    static const char *const places[][2] = {{"XDG_CACHE_HOME", "/awq-cuda"}, {"HOME", "/.cache/awq-cuda"}};
#endif
    char *to = c->info.cache_folder, *p, base[400];
    size_t i, cap = sizeof c->info.cache_folder;
    to[0] = 0;
    if (c->desc.no_cache) return;
    if (c->desc.cache_folder) {
        if (strlen(c->desc.cache_folder) < cap) strcpy(to, c->desc.cache_folder);
    } else if (!awq__cuda_env("AWQ_CACHE_DIR", to, cap)) {
        for (i = 0; i < sizeof places / sizeof places[0] && !to[0]; i++)
            if (awq__cuda_env(places[i][0], base, sizeof base)) snprintf(to, cap, "%s%s", base, places[i][1]);
    }
    for (p = to; *p; p++)
        if (*p == '\\' && AWQ__CUDA_PATHS == ';') *p = '/';
    if (!to[0])
        awq__log(ctx, AWQ_LOG_WARN,
                 "CUDA kernels are compiled anew each time: no folder to keep them in; set AWQ_CACHE_DIR");
}

static char *awq__cuda_cache_path(awq_ctx *ctx, const awq_cuda *c, int family, uint64_t key)
{
    char name[128];
    snprintf(name, sizeof name, "%s-%s-%016llx.bin", awq__cuda_family[family].name, c->info.arch,
             (unsigned long long)key);
    return awq__path_join(ctx, c->info.cache_folder, name);
}

/* The code of this key in *file (awq__free it), from byte AWQ__CUDA_CACHE_HEADER on; NULL: it is not there. */
static void awq__cuda_cache_load(awq_ctx *ctx, const awq_cuda *c, int family, uint64_t key, char **file,
                                 size_t *bytes)
{
    awq__cuda_saved saved;
    uint64_t head[3]; /* key, length, checksum */
    char *path, *data = NULL;
    const char *wrong = NULL;
    size_t n = 0;
    awq_status st;
    *file = NULL;
    if (!c->info.cache_folder[0]) return;
    awq__cuda_cache_begin(ctx, c, &saved);
    path = awq__cuda_cache_path(ctx, c, family, key);
    if (path && awq__file_exists(ctx, path)) {
        st = awq__file_load(ctx, path, AWQ__CUDA_CACHE_MAX, &data, &n);
        if (st == AWQ_OK) {
            if (n >= AWQ__CUDA_CACHE_HEADER) memcpy(head, data + 16, sizeof head);
            if (n < AWQ__CUDA_CACHE_HEADER || memcmp(data, AWQ__CUDA_CACHE_MAGIC, 16))
                wrong = "is not of this program";
            else if (head[0] != key) wrong = "is of other code";
            else if (head[1] != n - AWQ__CUDA_CACHE_HEADER) wrong = "is not whole";
            else if (head[2] != awq__fnv(AWQ__FNV, data + AWQ__CUDA_CACHE_HEADER, (size_t)head[1]))
                wrong = "is damaged";
        } else if (st != AWQ_E_MEMORY) wrong = ctx->err.text;
        if (wrong) {
            awq__log(ctx, AWQ_LOG_INFO, "%s %s: compiled anew", path, wrong);
            awq__fs(ctx)->remove(awq__fs(ctx)->user, path);
            awq__free(ctx, data);
            data = NULL;
        }
    }
    awq__free(ctx, path);
    awq__cuda_cache_end(ctx, &saved);
    *file = data;
    *bytes = n;
}

static unsigned long awq__cuda_process(void)
{
#ifdef _WIN32
    return (unsigned long)GetCurrentProcessId();
#else
    return (unsigned long)getpid();
#endif
}

/* Failures are logged once; there is no cache then. */
static void awq__cuda_cache_store(awq_ctx *ctx, awq_cuda *c, int family, uint64_t key, const char *image,
                                  size_t bytes)
{
    const awq_file_system *fs;
    awq__cuda_saved saved;
    awq__text part = {NULL, 0, 0, 0};
    char head[AWQ__CUDA_CACHE_HEADER], *path;
    uint64_t numbers[3];
    void *file = NULL;
    int e, e2;
    if (!c->info.cache_folder[0] || bytes > AWQ__CUDA_CACHE_MAX - AWQ__CUDA_CACHE_HEADER) return;
    memset(head, 0, sizeof head);
    memcpy(head, AWQ__CUDA_CACHE_MAGIC, 16);
    numbers[0] = key;
    numbers[1] = bytes;
    numbers[2] = awq__fnv(AWQ__FNV, image, bytes);
    memcpy(head + 16, numbers, sizeof numbers);
    awq__cuda_cache_begin(ctx, c, &saved);
    fs = awq__fs(ctx);
    path = awq__cuda_cache_path(ctx, c, family, key);
    /* a name that no other process and no other awq_cuda of this one writes to */
    if (path)
        awq__textf(ctx, &part, "%.900s.%lx-%llx", path, awq__cuda_process(), (unsigned long long)(uintptr_t)c);
    if (part.data && !part.failed) {
        e = awq__cuda_make_folders(ctx, c);
        if (!e) e = fs->open(fs->user, part.data, 1, &file);
        if (!e) {
            e = fs->write(fs->user, file, 0, head, sizeof head);
            if (!e) e = fs->write(fs->user, file, sizeof head, image, bytes);
            if (!e) e = fs->truncate(fs->user, file, sizeof head + bytes);
            e2 = fs->close(fs->user, file);
            if (!e) e = e2;
            if (!e) e = fs->rename(fs->user, part.data, path);
            if (e) fs->remove(fs->user, part.data);
        }
        if (e && !awq__file_exists(ctx, path)) { /* it does when another process was faster and has it open */
            awq__log(ctx, AWQ_LOG_WARN,
                     "CUDA kernels are compiled anew each time: %s cannot be written: %s; set AWQ_CACHE_DIR",
                     c->info.cache_folder, strerror(e));
            c->info.cache_folder[0] = 0;
        }
    }
    awq__text_free(ctx, &part);
    awq__free(ctx, path);
    awq__cuda_cache_end(ctx, &saved);
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>memory
   Device memory in blocks, counted against the limit; arenas of many small pieces with one owner over them;
   copies through two pinned buffers, so that one is filled while the other travels.
   Invariants: every block is in c->blocks until it is freed, also when its owner forgets it; pieces are
   256-byte aligned; a pinned buffer is written to only when the event behind its last copy has happened.
   Tests: tests/test_cuda.c */

#define AWQ__CUDA_ALIGN 256
#define AWQ__CUDA_STAGE ((size_t)4 << 20) /* bytes of a pinned buffer */
#define AWQ__CUDA_SLAB ((size_t)32 << 20) /* bytes that an arena asks for at once, if it may */

static awq_status awq__cuda_block_new(awq_ctx *ctx, awq_cuda *c, size_t bytes, awq__cuda_block **block)
{
    awq_cuda_info *in = &c->info;
    awq__cuda_block *b;
    uint64_t ptr = 0;
    awq_status st;
    if (bytes > SIZE_MAX / 2)
        return awq__fail(ctx, AWQ_E_ARG, "device memory: %llu bytes", (unsigned long long)bytes);
    bytes = AWQ__MAX((bytes + AWQ__CUDA_ALIGN - 1) / AWQ__CUDA_ALIGN, 1) * AWQ__CUDA_ALIGN;
    if (bytes > in->memory_limit || in->memory_used > in->memory_limit - bytes)
        return awq__fail(ctx, AWQ_E_MEMORY,
                         "CUDA device %d (%s): %llu bytes in use, %llu more asked for, the limit is %llu",
                         in->index, in->name, (unsigned long long)in->memory_used, (unsigned long long)bytes,
                         (unsigned long long)in->memory_limit);
    b = AWQ__NEW(&c->own, awq__cuda_block, 1);
    if (!b) {
        ctx->err = c->own.err;
        return AWQ_E_MEMORY;
    }
    st = awq__cuda_enter(ctx, c);
    if (!st) {
        if (!c->desc.alloc) st = AWQ__CU(ctx, c, MemAlloc, (&ptr, bytes));
        else if ((ptr = c->desc.alloc(c->desc.user, bytes)) == 0)
            st = awq__fail(ctx, AWQ_E_MEMORY, "CUDA device %d (%s): the program has no block of %llu bytes",
                           in->index, in->name, (unsigned long long)bytes);
        awq__cuda_leave(c);
    }
    if (st) {
        awq__free(&c->own, b);
        return st;
    }
    b->ptr = ptr;
    b->bytes = bytes;
    b->next = c->blocks;
    b->link = &c->blocks;
    if (b->next) b->next->link = &b->next;
    c->blocks = b;
    in->memory_used += bytes;
    in->memory_peak = AWQ__MAX(in->memory_peak, in->memory_used);
    *block = b;
    return AWQ_OK;
}

/* The stream is past every use of it. */
static void awq__cuda_block_free(awq_cuda *c, awq__cuda_block *b)
{
    *b->link = b->next;
    if (b->next) b->next->link = b->link;
    if (c->desc.alloc) c->desc.free(c->desc.user, b->ptr, b->bytes);
    else c->cu.MemFree(b->ptr); /* a lost device's memory goes with its context */
    c->info.memory_used -= b->bytes;
    awq__free(&c->own, b);
}

/* Pieces of device memory that are freed together: zero it; awq__cuda_arena_free. */
typedef struct awq__cuda_arena {
    awq__cuda_block *slab; /* the newest */
    int n_slabs;
    size_t used; /* of the newest */
} awq__cuda_arena;

/* Room for `bytes` at once, of pieces rounded up to 256: one slab of exactly this size. */
static awq_status awq__cuda_arena_reserve(awq_ctx *ctx, awq_cuda *c, awq__cuda_arena *a, size_t bytes)
{
    awq__cuda_block *b = NULL;
    AWQ__TRY(awq__cuda_block_new(ctx, c, bytes, &b));
    b->older = a->slab;
    a->slab = b;
    a->n_slabs++;
    a->used = 0;
    return AWQ_OK;
}

static awq_status awq__cuda_arena_alloc(awq_ctx *ctx, awq_cuda *c, awq__cuda_arena *a, size_t bytes,
                                        uint64_t *ptr)
{
    awq__cuda_block *b = a->slab;
    if (bytes > SIZE_MAX / 2)
        return awq__fail(ctx, AWQ_E_ARG, "device memory: %llu bytes", (unsigned long long)bytes);
    bytes = AWQ__MAX((bytes + AWQ__CUDA_ALIGN - 1) / AWQ__CUDA_ALIGN, 1) * AWQ__CUDA_ALIGN;
    if (!b || bytes > b->bytes - a->used) {
        size_t room = c->info.memory_limit - c->info.memory_used;
        AWQ__TRY(awq__cuda_arena_reserve(ctx, c, a, AWQ__MAX(bytes, AWQ__MIN(AWQ__CUDA_SLAB, room / 4))));
        b = a->slab;
    }
    *ptr = b->ptr + a->used;
    a->used += bytes;
    return AWQ_OK;
}

static void awq__cuda_arena_free(awq_ctx *ctx, awq_cuda *c, awq__cuda_arena *a)
{
    int entered = a->n_slabs && !awq__cuda_enter(ctx, c);
    if (entered && !c->lost) c->cu.StreamSynchronize(c->stream);
    while (a->slab) {
        awq__cuda_block *older = a->slab->older;
        awq__cuda_block_free(c, a->slab);
        a->slab = older;
        a->n_slabs--;
    }
    if (entered) awq__cuda_leave(c);
    a->used = 0;
}

/* --- copies. The context is current. */

/* The pinned buffer to fill next, AWQ__CUDA_STAGE bytes, no longer read by the device. */
static awq_status awq__cuda_stage(awq_ctx *ctx, awq_cuda *c, void **room)
{
    int i = c->stage_next;
    if (!c->stage[i]) AWQ__TRY(AWQ__CU(ctx, c, MemAllocHost, (&c->stage[i], AWQ__CUDA_STAGE)));
    if (!c->stage_free[i]) AWQ__TRY(AWQ__CU(ctx, c, EventCreate, (&c->stage_free[i], AWQ__CU_EVENT_NO_TIMING)));
    else AWQ__TRY(AWQ__CU(ctx, c, EventSynchronize, (c->stage_free[i])));
    *room = c->stage[i];
    return AWQ_OK;
}

/* Queues its first `bytes` for the device; the other buffer is next. */
static awq_status awq__cuda_stage_send(awq_ctx *ctx, awq_cuda *c, uint64_t dst, size_t bytes)
{
    int i = c->stage_next;
    AWQ__TRY(AWQ__CU(ctx, c, MemcpyHtoDAsync, (dst, c->stage[i], bytes, c->stream)));
    AWQ__TRY(AWQ__CU(ctx, c, EventRecord, (c->stage_free[i], c->stream)));
    c->stage_next = !i;
    return AWQ_OK;
}

static awq_status awq__cuda_upload(awq_ctx *ctx, awq_cuda *c, uint64_t dst, const void *src, size_t bytes)
{
    const char *from = (const char *)src;
    void *room;
    while (bytes) {
        size_t n = AWQ__MIN(bytes, AWQ__CUDA_STAGE);
        AWQ__TRY(awq__cuda_stage(ctx, c, &room));
        memcpy(room, from, n);
        AWQ__TRY(awq__cuda_stage_send(ctx, c, dst, n));
        from += n;
        dst += n;
        bytes -= n;
    }
    return AWQ_OK;
}

static awq_status awq__cuda_download(awq_ctx *ctx, awq_cuda *c, void *dst, uint64_t src, size_t bytes)
{
    char *to = (char *)dst;
    void *room;
    while (bytes) {
        size_t n = AWQ__MIN(bytes, AWQ__CUDA_STAGE);
        AWQ__TRY(awq__cuda_stage(ctx, c, &room));
        AWQ__TRY(AWQ__CU(ctx, c, MemcpyDtoHAsync, (room, src, n, c->stream)));
        AWQ__TRY(AWQ__CU(ctx, c, StreamSynchronize, (c->stream)));
        memcpy(to, room, n);
        to += n;
        src += n;
        bytes -= n;
    }
    return AWQ_OK;
}

/* --- the public calls */
AWQ_API awq_status awq_cuda_alloc(awq_ctx *ctx, awq_cuda *c, size_t bytes, uint64_t *ptr)
{
    awq__cuda_block *b = NULL;
    if (!c || !ptr) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_alloc: cuda or ptr is NULL");
    AWQ__TRY(awq__cuda_block_new(ctx, c, bytes, &b));
    *ptr = b->ptr;
    return AWQ_OK;
}

AWQ_API void awq_cuda_release(awq_ctx *ctx, awq_cuda *c, uint64_t ptr)
{
    awq__cuda_block *b;
    int entered;
    if (!c || !ptr) return;
    for (b = c->blocks; b && b->ptr != ptr; b = b->next) {}
    if (!b) return;
    entered = !awq__cuda_enter(ctx, c);
    if (entered && !c->lost) c->cu.StreamSynchronize(c->stream);
    awq__cuda_block_free(c, b);
    if (entered) awq__cuda_leave(c);
}

AWQ_API awq_status awq_cuda_upload(awq_ctx *ctx, awq_cuda *c, uint64_t dst, const void *src, size_t bytes)
{
    awq_status st;
    if (!c || (!src && bytes)) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_upload: cuda or src is NULL");
    AWQ__TRY(awq__cuda_enter(ctx, c));
    st = awq__cuda_upload(ctx, c, dst, src, bytes);
    awq__cuda_leave(c);
    return st;
}

AWQ_API awq_status awq_cuda_download(awq_ctx *ctx, awq_cuda *c, void *dst, uint64_t src, size_t bytes)
{
    awq_status st;
    if (!c || (!dst && bytes)) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_download: cuda or dst is NULL");
    AWQ__TRY(awq__cuda_enter(ctx, c));
    st = awq__cuda_download(ctx, c, dst, src, bytes);
    awq__cuda_leave(c);
    return st;
}

AWQ_API awq_status awq_cuda_fill(awq_ctx *ctx, awq_cuda *c, uint64_t dst, int byte, size_t bytes)
{
    awq_status st = AWQ_OK;
    if (!c) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_fill: cuda is NULL");
    AWQ__TRY(awq__cuda_enter(ctx, c));
    if (bytes) st = AWQ__CU(ctx, c, MemsetD8Async, (dst, (unsigned char)byte, bytes, c->stream));
    awq__cuda_leave(c);
    return st;
}

AWQ_API awq_status awq_cuda_sync(awq_ctx *ctx, awq_cuda *c)
{
    awq_status st;
    if (!c) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_sync: cuda is NULL");
    AWQ__TRY(awq__cuda_enter(ctx, c));
    st = AWQ__CU(ctx, c, StreamSynchronize, (c->stream));
    awq__cuda_leave(c);
    return st;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>launch
   Kernels by name, their launches, times, and sequences of launches recorded once and repeated (CUDA graphs).
   The context is current in all of it.
   Invariants: a family is compiled or read from disk when its first kernel is asked for; a graph holds pointers
   and sizes as they were when it was recorded.
   Tests: tests/test_cuda.c */

/* Gives the code to the driver. *refused: the driver's code when it does not take it. */
static awq_status awq__cuda_load_module(awq_ctx *ctx, awq_cuda *c, const awq__cuda_unit *u, const char *image,
                                        int *refused)
{
    void **module = &c->module[u->family][u->part];
    char log[512] = "", words[400], line[300];
    int option[2] = {AWQ__CU_JIT_ERRORS, AWQ__CU_JIT_ERROR_BYTES};
    void *value[2];
    value[0] = log;
    value[1] = (void *)(uintptr_t)sizeof log;
    *refused = c->cu.ModuleLoadDataEx(module, image, 2, option, value);
    if (!*refused) return AWQ_OK;
    *module = NULL;
    if (*refused == AWQ__CU_OUT_OF_MEMORY || awq__cuda_is_lost(*refused))
        return awq__cuda_check(ctx, c, *refused, "cuModuleLoadDataEx");
    awq__cuda_words(c, *refused, words, sizeof words);
    log[sizeof log - 1] = 0;
    awq__cuda_first_error(log, line, sizeof line);
    return awq__fail(ctx, AWQ_E_DEVICE,
                     "the driver (CUDA %d.%d) does not take %s for %s made by NVRTC %d.%d (%s): %s%s%s",
                     c->info.driver_version / 1000, c->info.driver_version % 1000 / 10,
                     awq__cuda_family[u->family].name, c->info.arch, c->info.nvrtc_major, c->info.nvrtc_minor,
                     c->info.nvrtc_path, words, line[0] ? "; " : "", line);
}

/* Modules of n units, whose family and part are given: from the cache, or compiled, several at once where
   ctx->jobs has threads. */
static awq_status awq__cuda_modules(awq_ctx *ctx, awq_cuda *c, awq__cuda_unit *unit, int n)
{
    awq__cuda_unit *todo[AWQ__CUDA_FAMILIES];
    awq__cuda_compiling a;
    size_t bytes = 0;
    int refused = 0, builtins, left, i;
    char *image = NULL;
    double began;
    awq_status st = AWQ_OK;
    if (c->lost) return awq__cuda_check(ctx, c, c->lost, "cuModuleLoadDataEx");
    do { /* until an NVRTC turns out to be whole */
        builtins = left = 0;
        for (i = 0; i < n && !st; i++) {
            awq__cuda_unit *u = &unit[i];
            if (c->module[u->family][u->part]) continue;
            if (!u->text) st = awq__cuda_join(ctx, u);
            if (st) break;
            u->key = awq__cuda_key(c, u->text, u->bytes);
            began = awq__now();
            awq__cuda_cache_load(ctx, c, u->family, u->key, &image, &bytes);
            if (image) {
                st = awq__cuda_load_module(ctx, c, u, image + AWQ__CUDA_CACHE_HEADER, &refused);
                awq__free(ctx, image);
                if (!st) c->info.cache_hits++;
                awq__cuda_took(c, u, awq__now() - began, 1);
                if (!st || st == AWQ_E_MEMORY || c->lost) continue;
                awq__log(ctx, AWQ_LOG_INFO, "%s; compiled anew", ctx->err.text); /* and its file replaced */
                st = AWQ_OK;
            }
            todo[left++] = u;
        }
        if (st || !left) break;
        a.c = c;
        a.unit = todo;
        began = awq__now();
        awq__run(ctx, left, awq__cuda_compile_job, &a);
        c->info.compile_seconds += awq__now() - began;
        for (i = 0; i < left; i++) {
            awq__cuda_unit *u = todo[i];
            if (!st) st = awq__cuda_compiled(ctx, c, u, &image, &bytes, &builtins);
            else if (u->created) c->rtc.DestroyProgram(&u->program);
            u->created = 0;
            if (st) continue;
            st = awq__cuda_load_module(ctx, c, u, image, &refused);
            awq__cuda_took(c, u, u->seconds, 0);
            if (!st) awq__cuda_cache_store(ctx, c, u->family, u->key, image, bytes);
            awq__free(ctx, image);
            image = NULL;
        }
        if (builtins) { /* its arch and version are in the keys: from the start */
            awq__textf(ctx, &c->trail, "  tried %s\n", ctx->err.text);
            c->candidate[c->used].worth = 0;
            awq__cuda_close_nvrtc(c);
            st = awq__cuda_find_nvrtc(ctx, c);
        }
    } while (builtins && !st);
    for (i = 0; i < n; i++) {
        awq__free(ctx, unit[i].text);
        unit[i].text = NULL;
    }
    return st;
}

/* What has the kernel: of the parts that are there already, if it is in each. */
static awq_status awq__cuda_module(awq_ctx *ctx, awq_cuda *c, int family, const char *kernel, void **module)
{
    awq__cuda_unit u;
    int i;
    memset(&u, 0, sizeof u);
    u.family = family;
    u.part = awq__cuda_part_of(family, kernel);
    for (i = 0; u.part < 0 && i < AWQ__CUDA_FAMILY_PARTS; i++)
        if (c->module[family][i]) u.part = i;
    if (u.part < 0) u.part = 0;
    if (!c->module[family][u.part]) AWQ__TRY(awq__cuda_modules(ctx, c, &u, 1));
    *module = c->module[family][u.part];
    return AWQ_OK;
}

typedef struct awq__cuda_kernel {
    void *function;
    const char *name;
    size_t shared; /* bytes of dynamic shared memory of each block */
} awq__cuda_kernel;

/* `shared` bytes of dynamic shared memory for each block. Names are compared: each is asked for often. */
static awq_status awq__cuda_find(awq_ctx *ctx, awq_cuda *c, int family, const char *name, size_t shared,
                                 awq__cuda_kernel *k)
{
    awq__cuda_function *f = c->functions, *end = f + c->n_functions;
    if (shared > (size_t)c->shared_limit)
        return awq__fail(ctx, AWQ_E_LIMIT,
                         "%s wants %llu bytes of shared memory, a block of CUDA device %d (%s) has %d", name,
                         (unsigned long long)shared, c->info.index, c->info.name, c->shared_limit);
    while (f < end && strcmp(f->name, name)) f++;
    if (f == end) {
        void *handle = NULL, *module = NULL;
        AWQ__TRY(awq__cuda_module(ctx, c, family, name, &module));
        AWQ__TRY(AWQ__CU(ctx, c, ModuleGetFunction, (&handle, module, name)));
        f = NULL;
        if (awq__grow(&c->own, (void **)&c->functions, &c->cap_functions, c->n_functions + 1, sizeof *f)) {
            f = c->functions + c->n_functions;
            f->name = awq__arena_text(&c->own, &c->names, name, strlen(name));
        }
        if (!f || !f->name) {
            ctx->err = c->own.err;
            return AWQ_E_MEMORY;
        }
        f->handle = handle;
        f->shared = 48 << 10; /* without asking */
        c->n_functions++;
    }
    if (shared > f->shared) {
        AWQ__TRY(AWQ__CU(ctx, c, FuncSetAttribute, (f->handle, AWQ__CU_DYNAMIC_SHARED, (int)shared)));
        f->shared = shared;
    }
    k->function = f->handle;
    k->name = f->name;
    k->shared = shared;
    return AWQ_OK;
}

/* Queues the kernel. grid: blocks, 3 dimensions; params: addresses of its arguments. overlap: it may start
   before the one ahead of it has ended, since it waits for it itself (griddepcontrol.wait). */
static awq_status awq__cuda_queue(awq_ctx *ctx, awq_cuda *c, const awq__cuda_kernel *k, const unsigned grid[3],
                                   unsigned threads, int overlap, void **params)
{
    awq__cu_config config;
    awq__cu_attribute attribute;
    c->last_kernel = k->name;
    if (!overlap || !c->programmatic || c->target < 90) /* older code does not wait */
        return AWQ__CU(ctx, c, LaunchKernel, (k->function, grid[0], grid[1], grid[2], threads, 1, 1,
                                              (unsigned)k->shared, c->stream, params, NULL));
    memset(&config, 0, sizeof config);
    memset(&attribute, 0, sizeof attribute);
    attribute.id = AWQ__CU_PROGRAMMATIC;
    attribute.value.flag = 1;
    config.grid_x = grid[0];
    config.grid_y = grid[1];
    config.grid_z = grid[2];
    config.block_x = threads;
    config.block_y = config.block_z = 1;
    config.shared = (unsigned)k->shared;
    config.stream = c->stream;
    config.attributes = &attribute;
    config.n_attributes = 1;
    return AWQ__CU(ctx, c, LaunchKernelEx, (&config, k->function, params, NULL));
}

/* --- time on the device between two places of the stream */
typedef struct awq__cuda_timer {
    void *from, *to;
} awq__cuda_timer;

AWQ__UNUSED static awq_status awq__cuda_timer_start(awq_ctx *ctx, awq_cuda *c, awq__cuda_timer *t)
{
    if (!t->from) AWQ__TRY(AWQ__CU(ctx, c, EventCreate, (&t->from, 0)));
    if (!t->to) AWQ__TRY(AWQ__CU(ctx, c, EventCreate, (&t->to, 0)));
    return AWQ__CU(ctx, c, EventRecord, (t->from, c->stream));
}

AWQ__UNUSED static awq_status awq__cuda_timer_stop(awq_ctx *ctx, awq_cuda *c, awq__cuda_timer *t,
                                       double *seconds) /* waits */
{
    float ms = 0;
    AWQ__TRY(AWQ__CU(ctx, c, EventRecord, (t->to, c->stream)));
    AWQ__TRY(AWQ__CU(ctx, c, EventSynchronize, (t->to)));
    AWQ__TRY(AWQ__CU(ctx, c, EventElapsedTime, (&ms, t->from, t->to)));
    *seconds = ms * 1e-3;
    return AWQ_OK;
}

AWQ__UNUSED static void awq__cuda_timer_free(awq_cuda *c, awq__cuda_timer *t)
{
    if (t->from) c->cu.EventDestroy(t->from);
    if (t->to) c->cu.EventDestroy(t->to);
    t->from = t->to = NULL;
}

/* --- a recorded sequence. Between begin and end launches and fills are recorded, not run; copies to and from
   the host are not allowed there. On a stream of its own: the host's may be one that cannot be recorded, or
   that others wait for. */
static awq_status awq__cuda_record_begin(awq_ctx *ctx, awq_cuda *c)
{
    awq_status st = AWQ_OK;
    if (!c->recorder) st = AWQ__CU(ctx, c, StreamCreate, (&c->recorder, AWQ__CU_STREAM_NON_BLOCKING));
    if (!st) st = AWQ__CU(ctx, c, StreamBeginCapture, (c->recorder, AWQ__CU_CAPTURE_THREAD));
    if (!st) c->stream_apart = c->stream, c->stream = c->recorder;
    return st;
}

/* Ends the recording in any case; st: the status of what was recorded. *graph is ready if all went well. */
static awq_status awq__cuda_record_end(awq_ctx *ctx, awq_cuda *c, awq_status st, void **graph)
{
    void *recorded = NULL, *ready = NULL;
    int code = c->cu.StreamEndCapture(c->recorder, &recorded);
    c->stream = c->stream_apart;
    if (!st) st = awq__cuda_check(ctx, c, code, "cuStreamEndCapture");
    if (!st) st = AWQ__CU(ctx, c, GraphInstantiate, (&ready, recorded, 0));
    if (recorded) c->cu.GraphDestroy(recorded);
    if (!st) *graph = ready;
    return st;
}

static awq_status awq__cuda_graph_run(awq_ctx *ctx, awq_cuda *c, void *graph)
{
    return AWQ__CU(ctx, c, GraphLaunch, (graph, c->stream));
}

static void awq__cuda_graph_free(awq_cuda *c, void *graph)
{
    if (graph) c->cu.GraphExecDestroy(graph);
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>linear
   Linear layers: weights repacked on the device, the kernel and grid for a number of rows, working memory for
   sums that several blocks share, and the test of it all that a new machine begins with.
   Invariants: counters that blocks share are zero before and after each launch; one stream, so that one piece
   of working memory serves all.
   Tests: tests/test_cuda.c; the kernels themselves in tests/cuda/test_kernels.cpp */

/* clang-format off */
/* --- tools/embed_cuda.c copied this from tools/cuda/plan.h: change it there and run it again --- */

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
/* --- end of the copy --- */
/* clang-format on */

#define AWQ__CUDA_PAD(n) (((n) + 63) / 64 * 64)
#define AWQ__CUDA_GRID_Y 32768 /* blocks along y of a launch; the driver takes 65535 */

/* At least this much for c->partial and c->counters (words, zero). Waits for the stream when it grows. */
static awq_status awq__cuda_workspace(awq_ctx *ctx, awq_cuda *c, size_t partial, size_t counters)
{
    awq__cuda_block **which[2] = {&c->partial, &c->counters};
    size_t want[2], i;
    want[0] = partial;
    want[1] = counters * 4;
    for (i = 0; i < 2; i++) {
        awq__cuda_block *b = NULL;
        if (want[i] <= (*which[i] ? (*which[i])->bytes : 0)) continue;
        AWQ__TRY(AWQ__CU(ctx, c, StreamSynchronize, (c->stream)));
        if (*which[i]) awq__cuda_block_free(c, *which[i]);
        *which[i] = NULL;
        AWQ__TRY(awq__cuda_block_new(ctx, c, want[i] + want[i] / 4, &b));
        *which[i] = b;
        if (i) AWQ__TRY(AWQ__CU(ctx, c, MemsetD8Async, (b->ptr, 0, b->bytes, c->stream)));
    }
    return AWQ_OK;
}

/* Which family has the kernel of a plan. */
static int awq__cuda_family_of(const char *kernel)
{
    const char *wgmma = strstr(kernel, "_wgmma");
    const int experts = !strncmp(kernel, "awq_experts", 11);
    return wgmma && experts                        ? AWQ__CUDA_EXPERTS_WGMMA
           : wgmma && atoi(wgmma + 6) <= 64       ? AWQ__CUDA_WGMMA_FEW
           : wgmma                                ? AWQ__CUDA_WGMMA
           : !strncmp(kernel, "awq_linear8_", 12) ? AWQ__CUDA_LINEAR8
           : !strncmp(kernel, "awq_dense_", 10)   ? AWQ__CUDA_DENSE
           : experts                              ? AWQ__CUDA_EXPERTS
                                                  : AWQ__CUDA_LINEAR;
}

static awq_status awq__cuda_check_linear(awq_ctx *ctx, const awq_cuda *c, const char *call, int64_t n,
                                         int64_t k, awq_dtype dtype)
{
    if (n < 1 || k < 1 || n > INT32_MAX - 64)
        return awq__fail(ctx, AWQ_E_ARG, "%s: a matrix of %lld x %lld", call, (long long)n, (long long)k);
    if (k > 65536)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: %lld inputs, at most 65536 on CUDA", call, (long long)k);
    if (dtype != AWQ_F16 && dtype != AWQ_BF16)
        return awq__fail(ctx, AWQ_E_ARG, "%s: activations of type %s, expected F16 or BF16", call,
                         awq_dtype_name(dtype));
    if (dtype == AWQ_BF16 && c->target < 80)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "%s: BF16 needs compute capability 8.0, CUDA device %d (%s) has %d.%d, its code is "
                         "for %s: take F16", call, c->info.index, c->info.name, c->info.compute_major,
                         c->info.compute_minor, c->info.arch);
    return AWQ_OK;
}

/* A new block with a copy of `bytes` of data; data NULL: zeros. */
static awq_status awq__cuda_block_of(awq_ctx *ctx, awq_cuda *c, const void *data, size_t bytes,
                                     awq__cuda_block **b)
{
    AWQ__TRY(awq__cuda_block_new(ctx, c, bytes, b));
    if (!data) return AWQ__CU(ctx, c, MemsetD8Async, ((*b)->ptr, 0, (*b)->bytes, c->stream));
    return awq__cuda_upload(ctx, c, (*b)->ptr, data, bytes);
}

/* Launches a kernel of repack.cuh. */
static awq_status awq__cuda_repack_run(awq_ctx *ctx, awq_cuda *c, const char *name, int64_t grid_x,
                                       int64_t grid_y, unsigned threads, void *arg)
{
    unsigned grid[3];
    awq__cuda_kernel k;
    void *params[1];
    grid[0] = (unsigned)grid_x;
    grid[1] = (unsigned)grid_y;
    grid[2] = 1;
    params[0] = arg;
    AWQ__TRY(awq__cuda_find(ctx, c, AWQ__CUDA_REPACK, name, 0, &k));
    return awq__cuda_queue(ctx, c, &k, grid, threads, 0, params);
}

/* *l of `bits` 2 to 8 in groups of g, or 16: dense; without memory */
static awq_status awq__cuda_linear_shape(awq_ctx *ctx, const awq_cuda *c, const char *call, int64_t n,
                                         int64_t k, int bits, int64_t g, awq_dtype dtype, awq_cuda_linear *l)
{
    AWQ__TRY(awq__cuda_check_linear(ctx, c, call, n, k, dtype));
    if (bits < 2 || (bits > 8 && bits != 16) || g < 1 || k % g)
        return awq__fail(ctx, AWQ_E_ARG, "%s: %d bits, groups of %lld of %lld inputs", call, bits, (long long)g,
                         (long long)k);
    if (g != k && g % 32)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "%s: groups of %lld inputs, expected a multiple of 32 or whole rows of %lld", call,
                         (long long)g, (long long)k);
    memset(l, 0, sizeof *l);
    l->out_features = n;
    l->in_features = k;
    l->group_size = g;
    l->bits = bits <= 4 ? 4 : bits <= 8 ? 8 : 16;
    l->dtype = dtype;
    return AWQ_OK;
}

/* bytes of its weights and its params */
static void awq__cuda_linear_sizes(const awq_cuda_linear *l, uint64_t size[2])
{
    uint64_t k = (uint64_t)AWQ__CUDA_PAD(l->in_features), n = (uint64_t)AWQ__CUDA_PAD(l->out_features);
    uint64_t g = (uint64_t)l->group_size;
    g = l->group_size == l->in_features ? k : g % 64 ? 32 : g;
    size[0] = l->bits == 16 ? (uint64_t)l->out_features * k * 2 : n * k * (uint64_t)l->bits / 8;
    size[1] = l->bits == 16 ? 0 : (k + g - 1) / g * n * 4;
}

/* Its memory, of the arena, or NULL: in blocks that are its own. */
static awq_status awq__cuda_linear_room(awq_ctx *ctx, awq_cuda *c, awq__cuda_arena *arena, int biased,
                                        awq_cuda_linear *l)
{
    uint64_t size[3], *to[3];
    awq__cuda_block *b;
    int i;
    awq__cuda_linear_sizes(l, size);
    size[2] = biased ? (uint64_t)l->out_features * 4 : 0;
    to[0] = &l->weights;
    to[1] = &l->params;
    to[2] = &l->bias;
    for (i = 0; i < 3; i++) {
        if (!size[i]) continue;
        if (arena) AWQ__TRY(awq__cuda_arena_alloc(ctx, c, arena, (size_t)size[i], to[i]));
        else {
            AWQ__TRY(awq__cuda_block_new(ctx, c, (size_t)size[i], &b));
            *to[i] = b->ptr;
        }
        l->bytes += (size_t)((size[i] + AWQ__CUDA_ALIGN - 1) / AWQ__CUDA_ALIGN * AWQ__CUDA_ALIGN);
    }
    return AWQ_OK;
}

/* What repacks n outputs of it, from the canonical form where nothing else is said, of groups as the file has
   them; without addresses. */
static awq__cuda_repack awq__cuda_repack_of(const awq_cuda_linear *l, int64_t n)
{
    awq__cuda_repack p;
    int64_t g = l->group_size;
    memset(&p, 0, sizeof p);
    p.n = p.file_n = (int32_t)n;
    p.k = (int32_t)l->in_features;
    p.n_pad = (int32_t)AWQ__CUDA_PAD(l->out_features);
    p.k_tiles = (int32_t)(AWQ__CUDA_PAD(l->in_features) / 64);
    p.bits = p.file_bits = l->bits;
    p.file_group = (int32_t)g;
    p.group = (int32_t)(g == l->in_features ? AWQ__CUDA_PAD(g) : g % 64 ? 32 : g);
    p.bf16 = l->dtype == AWQ_BF16;
    p.mark = 1;
    return p;
}

/* Queues them to be put at rows from `row` on, behind those that were put before. */
static awq_status awq__cuda_linear_put(awq_ctx *ctx, awq_cuda *c, const awq_cuda_linear *l, int64_t row,
                                       awq__cuda_repack p)
{
    int64_t k_tiles = p.k_tiles, n = p.n, part, es = p.type ? 2 : 4;
    if (l->bits == 16) {
        for (part = 0; part < n; part += AWQ__CUDA_GRID_Y) {
            awq__cuda_repack some = p;
            some.to = l->weights + (uint64_t)((row + part) * k_tiles) * 128;
            some.codes = p.codes + (uint64_t)(part * p.k * es);
            AWQ__TRY(awq__cuda_repack_run(ctx, c, "awq_repack_dense", (k_tiles + 7) / 8,
                                          AWQ__MIN(n - part, AWQ__CUDA_GRID_Y), 256, &some));
        }
        return AWQ_OK;
    }
    p.skip = (int32_t)(row % 64);
    p.write = row + n == l->out_features ? (int32_t)(p.n_pad - row) : p.n;
    p.to = l->weights + (uint64_t)(row / 64 * k_tiles * 512 * l->bits);
    AWQ__TRY(awq__cuda_repack_run(ctx, c, "awq_repack_codes", k_tiles, (p.skip + p.write + 63) / 64, 128, &p));
    p.to = l->params + (uint64_t)row * 4;
    return awq__cuda_repack_run(ctx, c, "awq_repack_params", (p.write + 255) / 256,
                                (k_tiles * 64 + p.group - 1) / p.group, 256, &p);
}

/* What awq_cuda_linear_prepare and _dense share. from: codes, zeros, scales; or dense weights alone. */
static awq_status awq__cuda_linear_make(awq_ctx *ctx, awq_cuda *c, const void *const from[3],
                                        const size_t bytes[3], const float *bias, awq__cuda_repack *p,
                                        awq_cuda_linear *l, uint32_t lossy[2])
{
    awq__cuda_block *in[3] = {NULL, NULL, NULL}, *flag = NULL;
    awq_status st = AWQ_OK;
    awq_error err;
    int i;
    for (i = 0; i < 3 && !st; i++)
        if (from[i]) st = awq__cuda_block_of(ctx, c, from[i], bytes[i], &in[i]);
    if (!st) st = awq__cuda_block_of(ctx, c, NULL, 8, &flag);
    if (!st) st = awq__cuda_linear_room(ctx, c, NULL, bias != NULL, l);
    if (!st && bias) st = awq__cuda_upload(ctx, c, l->bias, bias, (size_t)l->out_features * 4);
    if (!st) {
        p->codes = in[0]->ptr;
        p->zeros = in[1] ? in[1]->ptr : 0;
        p->scales = in[2] ? in[2]->ptr : 0;
        p->lossy = flag->ptr;
        st = awq__cuda_linear_put(ctx, c, l, 0, *p);
    }
    if (!st) st = awq__cuda_download(ctx, c, lossy, flag->ptr, 8); /* also waits, so that blocks may go */
    else if (!c->lost) c->cu.StreamSynchronize(c->stream);
    for (i = 0; i < 3; i++)
        if (in[i]) awq__cuda_block_free(c, in[i]);
    if (flag) awq__cuda_block_free(c, flag);
    if (st) {
        err = ctx->err;
        awq_cuda_linear_free(ctx, c, l);
        ctx->err = err;
    }
    return st;
}

static awq_status awq__cuda_selftest(awq_ctx *ctx, awq_cuda *c, uint32_t which);

static int awq__cuda_linear_kind(int bits, int64_t group, int64_t in) /* as awq__cuda_test_kind has it */
{
    return bits == 16 ? 4 : (bits == 8 ? 2 : 0) + (group == in || group % 64 == 0);
}

/* The first of a kind is tried before it is made. */
static awq_status awq__cuda_linear_tried(awq_ctx *ctx, awq_cuda *c, const awq_cuda_linear *l, int test)
{
    const int kind = awq__cuda_linear_kind(l->bits, l->group_size, l->in_features);
    const uint32_t which = 1u << (2 * kind + (l->dtype == AWQ_BF16));
    if (!test || c->desc.no_selftest || c->tested & which) return AWQ_OK;
    return awq__cuda_selftest(ctx, c, which);
}

static awq_status awq__cuda_linear_packed(awq_ctx *ctx, awq_cuda *c, const awq_qweight *w, const float *bias,
                                          awq_dtype dtype, int test, awq_cuda_linear *linear)
{
    awq__cuda_repack p;
    awq_cuda_linear l;
    const void *from[3];
    size_t bytes[3];
    uint32_t lossy[2] = {0, 0};
    awq_status st;
    if (!c || !w || !linear) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_linear_prepare: cuda, w or l is NULL");
    AWQ__TRY(awq__cuda_linear_shape(ctx, c, "awq_cuda_linear_prepare", w->out_features, w->in_features,
                                    w->bits > 8 ? 0 : w->bits, w->group_size, dtype, &l));
    AWQ__TRY(awq__cuda_linear_tried(ctx, c, &l, test));
    p = awq__cuda_repack_of(&l, l.out_features);
    from[0] = w->codes;
    from[1] = w->zeros;
    from[2] = w->scales;
    bytes[0] = (size_t)l.out_features * (size_t)l.in_features;
    bytes[1] = (size_t)l.out_features * (size_t)(l.in_features / l.group_size);
    bytes[2] = bytes[1] * 4;
    AWQ__TRY(awq__cuda_enter(ctx, c));
    st = awq__cuda_linear_make(ctx, c, from, bytes, bias, &p, &l, lossy);
    awq__cuda_leave(c);
    AWQ__TRY(st);
    if (lossy[1] == p.mark) {
        awq_cuda_linear_free(ctx, c, &l);
        return awq__fail(ctx, AWQ_E_NUMERIC,
                         "awq_cuda_linear_prepare: a scale is not finite in fp16, or a zero point is above %d",
                         (1 << p.bits) - 1);
    }
    if (lossy[0]) awq__log(ctx, AWQ_LOG_WARN, "CUDA: scales of a linear are no fp16 numbers; they are rounded");
    *linear = l;
    return AWQ_OK;
}

AWQ_API awq_status awq_cuda_linear_prepare(awq_ctx *ctx, awq_cuda *c, const awq_qweight *w, const float *bias,
                                           awq_dtype dtype, awq_cuda_linear *linear)
{
    return awq__cuda_linear_packed(ctx, c, w, bias, dtype, 1, linear);
}

static awq_status awq__cuda_linear_whole(awq_ctx *ctx, awq_cuda *c, awq_dtype type, const void *weight,
                                         int64_t out_features, int64_t in_features, const float *bias,
                                         awq_dtype dtype, int test, awq_cuda_linear *linear)
{
    awq__cuda_repack p;
    awq_cuda_linear l;
    const void *from[3] = {NULL, NULL, NULL};
    size_t bytes[3] = {0, 0, 0};
    uint32_t lossy[2] = {0, 0};
    awq_status st;
    if (!c || !weight || !linear)
        return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_linear_dense: cuda, weight or l is NULL");
    AWQ__TRY(awq__cuda_linear_shape(ctx, c, "awq_cuda_linear_dense", out_features, in_features, 16,
                                    AWQ__MAX(in_features, 1), dtype, &l));
    if (type != AWQ_F32 && type != AWQ_F16 && type != AWQ_BF16)
        return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_linear_dense: weights of type %s, expected F32, F16 or BF16",
                         awq_dtype_name(type));
    AWQ__TRY(awq__cuda_linear_tried(ctx, c, &l, test));
    p = awq__cuda_repack_of(&l, out_features);
    p.type = type == AWQ_F32 ? 0 : type == AWQ_F16 ? 1 : 2;
    from[0] = weight;
    bytes[0] = (size_t)out_features * (size_t)in_features * awq_dtype_size(type);
    AWQ__TRY(awq__cuda_enter(ctx, c));
    st = awq__cuda_linear_make(ctx, c, from, bytes, bias, &p, &l, lossy);
    awq__cuda_leave(c);
    AWQ__TRY(st);
    if (lossy[0]) {
        awq_cuda_linear_free(ctx, c, &l);
        return awq__fail(ctx, AWQ_E_NUMERIC, "awq_cuda_linear_dense: a weight is too large for %s",
                         awq_dtype_name(dtype));
    }
    *linear = l;
    return AWQ_OK;
}

AWQ_API awq_status awq_cuda_linear_dense(awq_ctx *ctx, awq_cuda *c, awq_dtype type, const void *weight,
                                         int64_t out_features, int64_t in_features, const float *bias,
                                         awq_dtype dtype, awq_cuda_linear *linear)
{
    return awq__cuda_linear_whole(ctx, c, type, weight, out_features, in_features, bias, dtype, 1, linear);
}

AWQ_API void awq_cuda_linear_free(awq_ctx *ctx, awq_cuda *c, awq_cuda_linear *l)
{
    if (!c || !l) return;
    awq_cuda_release(ctx, c, l->weights);
    awq_cuda_release(ctx, c, l->params);
    awq_cuda_release(ctx, c, l->bias);
    memset(l, 0, sizeof *l);
}

/* What plans are made for, as if the device had so many multiprocessors. */
static awq__cuda_device awq__cuda_plan_device(const awq_cuda *c, int multiprocessors)
{
    awq__cuda_device d;
    d.arch = c->target;
    d.wgmma = !strcmp(c->info.arch, "sm_90a");
    d.sms = multiprocessors;
    d.mma_rows = c->desc.mma_rows;
    return d;
}

/* The shape and weights of a linear as its kernels want them. */
static awq__cuda_linear awq__cuda_linear_argument(const awq_cuda_linear *l)
{
    awq__cuda_linear p;
    memset(&p, 0, sizeof p);
    p.w = l->weights;
    p.sz = l->params;
    p.bias = l->bias;
    p.n = (int32_t)l->out_features;
    p.n_pad = (int32_t)AWQ__CUDA_PAD(l->out_features);
    p.k_tiles = (int32_t)(AWQ__CUDA_PAD(l->in_features) / 64);
    p.group = (int32_t)(l->group_size == l->in_features ? 64 * p.k_tiles
                        : l->group_size % 64            ? 32
                                                        : l->group_size);
    p.group_reciprocal = awq__cuda_group_reciprocal(p.group);
    return p;
}

/* The context is current. As if the device had so many multiprocessors; *plan: what was queued. */
static awq_status awq__cuda_linear_queue(awq_ctx *ctx, awq_cuda *c, const awq_cuda_linear *l, uint64_t x,
                                         int64_t x_stride, int64_t rows, awq_dtype y_dtype, uint64_t y,
                                         int64_t y_stride, int flags, int multiprocessors,
                                         awq__cuda_launch *plan)
{
    awq__cuda_device d = awq__cuda_plan_device(c, multiprocessors);
    awq__cuda_linear p = awq__cuda_linear_argument(l);
    awq__cuda_kernel k;
    void *params[1];
    if (!awq__cuda_linear_plan(&d, l->bits, (int)rows, p.n, (int)l->in_features, p.group, l->dtype == AWQ_BF16,
                               flags & AWQ_CUDA_SAME_BITS, plan))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "no CUDA kernel for %lld rows of %lld x %lld", (long long)rows,
                         (long long)l->out_features, (long long)l->in_features);
    AWQ__TRY(awq__cuda_find(ctx, c, awq__cuda_family_of(plan->kernel), plan->kernel, plan->smem, &k));
    AWQ__TRY(awq__cuda_workspace(ctx, c, plan->partial, plan->counters));
    p.y = y;
    p.x = x;
    p.partial = c->partial ? c->partial->ptr : 0;
    p.counters = c->counters ? c->counters->ptr : 0;
    p.rows = (int32_t)rows;
    p.x_stride = (int32_t)x_stride;
    p.y_stride = (int32_t)y_stride;
    p.splits = (int32_t)plan->grid[1];
    p.flags = (y_dtype == AWQ_F32 ? AWQ__CUDA_Y_F32 : 0) | (flags & AWQ_CUDA_ADD ? AWQ__CUDA_ADD : 0);
    params[0] = &p;
    return awq__cuda_queue(ctx, c, &k, plan->grid, plan->threads, !(flags & AWQ_CUDA_FRESH), params);
}

AWQ_API awq_status awq_cuda_linear_run(awq_ctx *ctx, awq_cuda *c, const awq_cuda_linear *l, uint64_t x,
                                       int64_t x_stride, int64_t rows, awq_dtype y_dtype, uint64_t y,
                                       int64_t y_stride, int flags)
{
    awq__cuda_launch plan;
    awq_status st;
    if (!c || !l || !l->weights) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_linear_run: cuda or l is NULL");
    if (rows == 0) return AWQ_OK;
    if (rows < 0 || rows > INT32_MAX || !x || x % 16 || x_stride < AWQ__CUDA_PAD(l->in_features) || x_stride % 8
        || x_stride > INT32_MAX / 2 || rows * x_stride > UINT32_MAX)
        return awq__fail(
            ctx, AWQ_E_ARG,
            "awq_cuda_linear_run: %lld rows of x, %lld apart; expected at least %lld apart, a multiple of 8, "
            "under 2^32 numbers in all, and 16-byte alignment",
            (long long)rows, (long long)x_stride, (long long)AWQ__CUDA_PAD(l->in_features));
    if (!y || y % (y_dtype == AWQ_F32 ? 4 : 2) || y_stride < l->out_features || y_stride > INT32_MAX)
        return awq__fail(ctx, AWQ_E_ARG,
                         "awq_cuda_linear_run: rows of y are %lld apart, expected at least %lld, and y aligned "
                         "to its numbers",
                         (long long)y_stride, (long long)l->out_features);
    if (y_dtype != AWQ_F32 && y_dtype != l->dtype)
        return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_linear_run: y of type %s, expected F32 or %s",
                         awq_dtype_name(y_dtype), awq_dtype_name(l->dtype));
    AWQ__TRY(awq__cuda_enter(ctx, c));
    st = awq__cuda_linear_queue(ctx, c, l, x, x_stride, rows, y_dtype, y, y_stride, flags,
                                c->info.multiprocessors, &plan);
    awq__cuda_leave(c);
    return st;
}

/* --- the self-test of linears: random matrices at such numbers of rows, and as if on so many multiprocessors,
   that every kernel has its turn, and unless quick alone on its tile, sharing it, and with the same bits */

#define AWQ__CUDA_TEST_ROWS 200

typedef struct awq__cuda_test {
    int64_t n, k, stride;
    float *w, *x, *y, *bias; /* [n, k], [rows, k], [rows, n], [n] */
    uint16_t *half;          /* [rows, stride]: x */
    awq_qweight q;
    uint64_t x_at, y_at, seed;
    uint32_t which;   /* bits 2 kind + (BF16) */
    uint32_t experts; /* likewise: in the kernels of experts */
    int quick;
    int many; /* of experts' kernels that of many rows by wgmma alone, else all others */
} awq__cuda_test;

/* y, of which rows 0 to m are computed, those before `biased` with the bias, and the others stay NaN */
static awq_status awq__cuda_test_compare(awq_ctx *ctx, awq_cuda *c, awq__cuda_test *t, awq_dtype dtype,
                                         const char *kernel, int64_t m, int64_t biased)
{
    /* of the sum of magnitudes: weights rounded to x's type twice, sums in fp32 */
    const double bound = dtype == AWQ_BF16 ? 1.0 / 64 : 1.0 / 1024;
    int64_t r, o, j;
    AWQ__TRY(awq__cuda_download(ctx, c, t->y, t->y_at, (size_t)(AWQ__CUDA_TEST_ROWS * t->n) * sizeof *t->y));
    for (r = 0; r < AWQ__CUDA_TEST_ROWS; r++) {
        if (r >= 16 && r % 7 && r != m - 1 && r != m && r != AWQ__CUDA_TEST_ROWS - 1) continue; /* enough */
        for (o = 0; o < t->n; o++) {
            double sum = r < biased ? t->bias[o] : 0, size = fabs(sum);
            float got = t->y[r * t->n + o];
            for (j = 0; j < t->k && r < m; j++) {
                double product = (double)t->x[r * t->k + j] * t->w[o * t->k + j];
                sum += product;
                size += fabs(product);
            }
            if (r < m ? fabs(got - sum) <= bound * size : got != got) continue;
            return awq__fail(ctx, AWQ_E_DEVICE,
                             "CUDA device %d (%s): %s computes wrongly: of %lld rows, output %lld of row "
                             "%lld is %g, not %g",
                             c->info.index, c->info.name, kernel, (long long)m, (long long)o, (long long)r,
                             (double)got, sum);
        }
    }
    return AWQ_OK;
}

static awq_status awq__cuda_test_clear(awq_ctx *ctx, awq_cuda *c, const awq__cuda_test *t) /* y: NaN */
{
    const size_t bytes = (size_t)(AWQ__CUDA_TEST_ROWS * t->n) * sizeof *t->y;
    return AWQ__CU(ctx, c, MemsetD8Async, (t->y_at, 0xff, bytes, c->stream));
}

/* As two experts, the second without bias, of which each row but the last takes both: every kernel there is for
   such weights. */
static awq_status awq__cuda_test_experts(awq_ctx *ctx, awq_cuda *c, awq__cuda_test *t, const awq_cuda_linear *l)
{
    static const int rows[] = {3, 6, 40};
    const awq__cuda_device d = awq__cuda_plan_device(c, c->info.multiprocessors);
    struct {
        uint64_t table[2][4];
        int32_t start[3];
    } host;
    awq__cuda_block *b = NULL;
    awq__cuda_kernel k;
    awq_status st = awq__cuda_block_new(ctx, c, sizeof host, &b);
    int i;
    memset(&host, 0, sizeof host);
    for (i = 0; i < 2; i++) {
        host.table[i][0] = l->weights;
        host.table[i][1] = l->params;
        host.table[i][2] = i ? 0 : l->bias;
    }
    for (i = l->bits == 16; i < 3 && !st; i++) {
        awq__cuda_launch plan;
        awq__cuda_experts p;
        void *params[1];
        memset(&p, 0, sizeof p);
        p.linear = awq__cuda_linear_argument(l);
        p.linear.x = t->x_at;
        p.linear.y = t->y_at;
        p.linear.x_stride = (int32_t)t->stride;
        p.linear.y_stride = (int32_t)t->n;
        p.linear.splits = 1;
        p.linear.flags = AWQ__CUDA_Y_F32;
        p.table = b->ptr;
        p.start = b->ptr + sizeof host.table;
        p.experts = 2;
        params[0] = &p;
        host.start[1] = rows[i] - 1;
        host.start[2] = 2 * (rows[i] - 1);
        if (!awq__cuda_experts_plan(&d, l->bits, rows[i], 2, 2, p.linear.n, (int)t->k, p.linear.group,
                                    l->dtype == AWQ_BF16, 0, &plan)
            || (awq__cuda_family_of(plan.kernel) == AWQ__CUDA_EXPERTS_WGMMA) != t->many)
            continue;
        st = awq__cuda_test_clear(ctx, c, t);
        if (!st) st = awq__cuda_upload(ctx, c, b->ptr, &host, sizeof host);
        if (!st) st = awq__cuda_find(ctx, c, awq__cuda_family_of(plan.kernel), plan.kernel, plan.smem, &k);
        if (!st) st = awq__cuda_queue(ctx, c, &k, plan.grid, plan.threads, 1, params);
        if (!st) st = awq__cuda_test_compare(ctx, c, t, l->dtype, plan.kernel, host.start[2], host.start[1]);
    }
    if (!c->lost) c->cu.StreamSynchronize(c->stream);
    if (b) awq__cuda_block_free(c, b);
    return st;
}

/* One linear at numbers of rows from 1 on; t->w and t->bias are what it computes with. */
static awq_status awq__cuda_test_linear(awq_ctx *ctx, awq_cuda *c, awq__cuda_test *t, const awq_cuda_linear *l)
{
    static const int64_t rows[] = {1, 5, 12, 20, 40, 70, AWQ__CUDA_TEST_ROWS};
    size_t i;
    for (i = 0; i < 3 * sizeof rows / sizeof rows[0]; i++) {
        awq__cuda_launch plan;
        int64_t m = rows[i / 3];
        int few = i % 3 == 1, flags = i % 3 == 2 ? AWQ_CUDA_SAME_BITS : 0;
        if (t->quick && few != (m > 32)) continue; /* few: all widths of wgmma, whatever the card */
        if (t->quick && flags && m != 20) continue; /* mma32, which wgmma else hides */
        AWQ__TRY(awq__cuda_test_clear(ctx, c, t));
        AWQ__TRY(awq__cuda_linear_queue(ctx, c, l, t->x_at, t->stride, m, AWQ_F32, t->y_at, t->n, flags,
                                        few ? 1 : c->info.multiprocessors, &plan));
        AWQ__TRY(awq__cuda_test_compare(ctx, c, t, l->dtype, plan.kernel, m, m));
    }
    return AWQ_OK;
}

/* kind: 0 and 1: 4 bits in groups of 32 and whole rows, 2 and 3: 8 bits, 4: dense */
static awq_status awq__cuda_test_kind(awq_ctx *ctx, awq_cuda *c, awq__cuda_test *t, int kind, awq_dtype dtype)
{
    const int64_t count = t->n * t->k;
    awq_qweight *q = &t->q;
    awq_cuda_linear l;
    awq_status st;
    int64_t i;
    memset(&l, 0, sizeof l);
    if (kind == 4) {
        for (i = 0; i < count; i++) t->w[i] = (float)(int64_t)(awq__random(&t->seed) % 255) / 128 - 1;
        st = awq__cuda_linear_whole(ctx, c, AWQ_F32, t->w, t->n, t->k, t->bias, dtype, 0, &l);
    } else {
        q->bits = kind < 2 ? 4 : 8;
        q->group_size = kind % 2 ? t->k : 32;
        for (i = 0; i < count; i++) q->codes[i] = (uint8_t)(awq__random(&t->seed) & ((1u << q->bits) - 1));
        for (i = 0; i < count / q->group_size; i++) {
            q->zeros[i] = (uint8_t)(awq__random(&t->seed) & ((1u << q->bits) - 1));
            q->scales[i] = awq__h((float)(awq__random(&t->seed) % 1000 + 500) * 1e-5f);
        }
        st = awq_dequantize(ctx, q, t->w);
        if (!st) st = awq__cuda_linear_packed(ctx, c, q, t->bias, dtype, 0, &l);
    }
    i = 2 * kind + (dtype == AWQ_BF16);
    if (!st && t->which >> i & 1) st = awq__cuda_test_linear(ctx, c, t, &l);
    if (!st && t->experts >> i & 1) st = awq__cuda_test_experts(ctx, c, t, &l);
    awq_cuda_linear_free(ctx, c, &l);
    return st;
}

static awq_status awq__cuda_test_run(awq_ctx *ctx, awq_cuda *c, awq__cuda_test *t)
{
    const int64_t rows = AWQ__CUDA_TEST_ROWS, k = t->k;
    awq__cuda_block *x = NULL, *y = NULL;
    awq_status st = awq__cuda_block_new(ctx, c, (size_t)(rows * t->stride) * 2, &x);
    int kind, bf16;
    int64_t i;
    if (!st) st = awq__cuda_block_new(ctx, c, (size_t)(rows * t->n) * 4, &y);
    for (bf16 = 0; bf16 < (c->target >= 80 ? 2 : 1) && !st; bf16++) {
        if (!((t->which | t->experts) >> bf16 & 0x155)) continue; /* none in this type */
        for (i = 0; i < rows * k; i++) {
            float v = (float)(int64_t)(awq__random(&t->seed) % 255) / 128 - 1; /* exact in both types */
            t->x[i] = v;
            t->half[i / k * t->stride + i % k] = bf16 ? awq__float_bf16(v) : awq__float_f16(v);
        }
        for (i = 0; i < t->n; i++) t->bias[i] = (float)i / 16 - 5;
        t->x_at = x->ptr;
        t->y_at = y->ptr;
        st = awq__cuda_upload(ctx, c, x->ptr, t->half, (size_t)(rows * t->stride) * 2);
        for (kind = 0; kind < 5 && !st; kind++)
            if ((t->which | t->experts) >> (2 * kind + bf16) & 1)
                st = awq__cuda_test_kind(ctx, c, t, kind, bf16 ? AWQ_BF16 : AWQ_F16);
    }
    if (!c->lost) c->cu.StreamSynchronize(c->stream);
    if (x) awq__cuda_block_free(c, x);
    if (y) awq__cuda_block_free(c, y);
    return st;
}

/* With n outputs and k inputs, a multiple of 32. */
static awq_status awq__cuda_test_linears(awq_ctx *ctx, awq_cuda *c, int64_t n, int64_t k, uint32_t which,
                                         uint32_t experts, int quick, int many)
{
    awq__cuda_test t;
    awq_status st = AWQ_E_MEMORY;
    memset(&t, 0, sizeof t);
    t.which = which;
    t.experts = experts;
    t.quick = quick;
    t.many = many;
    t.n = n;
    t.k = k;
    t.stride = AWQ__CUDA_PAD(k);
    t.w = AWQ__NEW(ctx, float, n * k);
    t.x = AWQ__NEW(ctx, float, AWQ__CUDA_TEST_ROWS * k);
    t.y = AWQ__NEW(ctx, float, AWQ__CUDA_TEST_ROWS * n);
    t.bias = AWQ__NEW(ctx, float, n);
    t.half = AWQ__NEW(ctx, uint16_t, AWQ__CUDA_TEST_ROWS * t.stride);
    if (t.w && t.x && t.y && t.bias && t.half)
        st = awq_qweight_alloc(ctx, n, k, 8, 32, 0, &t.q); /* room for all */
    if (!st) st = awq__cuda_enter(ctx, c);
    if (!st) {
        st = awq__cuda_test_run(ctx, c, &t);
        awq__cuda_leave(c);
    }
    awq_qweight_free(ctx, &t.q);
    awq__free(ctx, t.w);
    awq__free(ctx, t.x);
    awq__free(ctx, t.y);
    awq__free(ctx, t.bias);
    awq__free(ctx, t.half);
    return st;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>model
   Whole decoder layers behind struct awq_device of awq.h, each step a kernel of rows.cuh, attention.cuh,
   moe.cuh or a linear: x (rows, H) fp32 -> norm -> q, k, v -> place -> attend -> o, add, norm -> gate, up ->
   act -> down, add, norm of the next layer. What linears read is T (F16 or BF16), what they write fp32.
   Memory: a share has its weights, vectors and pages, a work one block of buffers and one of what changes with
   each pass (ids, positions, rope, tiles, lists of pages), which goes there in one copy. Pages lie in blocks of
   some MB and come back to a list, blocks when the model is freed. A work is made with room for all its passes,
   so that steps ask the driver for nothing.
   Launches: a layer is 9 (qkv, place, attend, o, norm, gate and up, act, down, norm), one with experts 15 (qkv,
   place, attend, o, norm, router twice, route, slots, gather, gate and up, act, down, combine, norm) and 3 or 4
   for a shared expert, where linears launched one by one, after a wait, would be 3 for each expert that is
   taken; a token has embeddings, a norm and 3 or 4 of the head besides. One by one that is 2 to 3 us each, by
   what is usual of the driver (not measured here): 293 for 32 layers, 0.7 ms of host time, in which an H200
   reads 3 GB of weights. So a pass that comes again, with the same rows and plans of attention, is recorded:
   then a token is one copy to the device, one launch, and one copy back of what is said of its rows, their best
   tokens, and where top_k is below AWQ__TOP the most probable ones, which is all that is waited for. Only where
   more is wanted (top_k 0, penalties, grammars) all logits come too.
   Invariants: one stream, so nothing that is queued is overtaken; c->lock is held in each call, the context
   current; numbers behind in_features in rows that linears read are zero; what kernels of a pass are given by
   value is the same when n, n_head and the plans are.
   Tests: tests/test_cuda_model.c */

/* clang-format off */
/* --- tools/embed_cuda.c copied this from tools/cuda/steps.h: change it there and run it again --- */

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
/* --- end of the copy --- */
/* clang-format on */

#define AWQ__CUDA_MODEL_PART \
    ((size_t)16 << 20)              /* bytes of a table that are read at once, of a block of pages */
#define AWQ__CUDA_MODEL_HOST ((size_t)2 << 20) /* kernels' text while they are compiled, the self-test */
#define AWQ__CUDA_MODEL_ROWS 512    /* that `fit` leaves room for, */
#define AWQ__CUDA_MODEL_TOKENS 4096 /* and tokens of keys and values where desc does not say */

typedef struct awq__cuda_layer {
    awq_cuda_linear
        linear[AWQ_EXPERT_GATE]; /* q of q, k, v that are joined has the rows of all; likewise gate */
    awq_cuda_linear *expert;     /* [3][num_experts] gate, up, down; those of one row are of one kind */
    uint64_t table[3];           /* their weights, as awq__cuda_experts wants them; 0: joined, or none */
    uint64_t vec[AWQ_N_VECTORS]; /* fp32; 0: it has none */
} awq__cuda_layer;

typedef struct awq__cuda_share {
    awq_cuda *c;
    const awq_model *m;
    int first, n;           /* layers */
    int flags;              /* of the linears */
    awq_dtype dtype;        /* T */
    awq__cuda_layer *layer; /* [n] */
    awq__cuda_arena memory; /* vectors and the table of embeddings */
    uint64_t later, taken;  /* bytes of buffers and pages: told when it was placed; that there are */
    struct awq__cuda_share *next;
    uint64_t final_norm, embed;
    awq_dtype embed_dtype; /* of the table; NONE: it is the head */
    awq_cuda_linear head;
    size_t page_bytes;
    uint64_t *page; /* [cap_pages] those that nobody has */
    size_t n_pages, all_pages, cap_pages;
} awq__cuda_share;

/* A pass of all the layers of a share, recorded when one like it comes again: kernels, grids and addresses are
   what follows. */
typedef struct awq__cuda_graph {
    void *ready;
    uint64_t used; /* awq__cuda_work.passes then; 0: never */
    int64_t n, n_head, top;
    uint64_t pass, partial, counters;
    awq__cuda_attend_plan plan[2];
} awq__cuda_graph;

typedef struct awq__cuda_work {
    awq__cuda_share *s;
    awq__cuda_arena memory;
    uint64_t taken;                        /* of the share's */
    int64_t rows, n;                       /* there is room for; of the pass */
    uint64_t x, xn, out;                   /* [rows][H] fp32, T padded, fp32 */
    uint64_t xn_lo;                        /* [rows][H padded] T: xn + xn_lo is what routers read */
    uint64_t qkv, q, att;                  /* fp32 [Q + K + V]; f16 [Q]; T [A padded] */
    uint64_t gate_up, act;                 /* fp32 [2 I]; T [I padded] */
    uint64_t q_a, kv_a, q_an, kv_an, kv_b; /* latent attention: fp32, fp32; T, T; fp32 */
    uint64_t scores, weight, pick, slot, from, start, shared, shared_gate; /* experts, as awq__work has them */
    uint64_t xe, ge, ae, oe;         /* [slots] T [H padded]; fp32 [2 E]; T [E padded]; fp32 [H] */
    uint64_t logits;                 /* fp32 [AWQ__HEAD_ROWS][vocab] */
    int32_t *pos;                    /* [rows] as on the device; -1: the row has left */
    awq__cuda_stretch *stretch;      /* [rows] */
    awq__cuda_block *pass;           /* what changes with each pass, and where in it: */
    uint64_t ids_at, pos_at, slot_at, said_at, head_at, cos_at, sin_at, tile_at[2], page_at;
    uint8_t *room;                 /* the pass, before it is sent: as much as there is */
    awq__cuda_attend_plan plan[2]; /* of layers with full attention, of sliding ones */
    /* rows whose logits are wanted, if that is known when the pass begins; what has come of them: */
    int32_t head[AWQ__HEAD_ROWS], n_head, top;
    int headed, said;         /* they are queued; `answer` is here */
    int32_t *answer;          /* in `room`, as at said_at: [rows] what awq__row.bad wants, then of the head's
                                 rows: best tokens [AWQ__HEAD_ROWS], flags [..], ids of the largest logits
                                 [..][top], and these */
    awq__cuda_graph graph[8]; /* recorded passes, and such as have been once */
    uint64_t passes;
    int failed, plain;        /* recordings that failed, after three of which none is tried */
} awq__cuda_work;

/* --- the lock, the context, and what an earlier call left */
static awq_status awq__cuda_model_enter(awq_ctx *ctx, awq_cuda *c)
{
    awq_status st;
    awq__lock(&c->lock);
    if (c->late.status) {
        ctx->err = c->late;
        st = ctx->err.status;
        memset(&c->late, 0, sizeof c->late);
    } else st = awq__cuda_enter(ctx, c);
    if (st) awq__unlock(&c->lock);
    return st;
}

static awq_status awq__cuda_model_leave(awq_cuda *c, awq_status st)
{
    awq__cuda_leave(c);
    awq__unlock(&c->lock);
    return st;
}

static int awq__cuda_model_last(const awq__cuda_share *s) /* it has the head */
{
    return s->first + s->n == s->m->config.num_hidden_layers;
}

static awq_status awq__cuda_selftest(awq_ctx *ctx, awq_cuda *c, uint32_t which);
enum { /* bits of what is tested: linears 2 kind + (BF16), see awq__cuda_test_kind; for F16, for BF16 */
       AWQ__CUDA_TEST_ROWS_AT = 10,
       AWQ__CUDA_TEST_MOE_AT = 12,
       AWQ__CUDA_TEST_ATTEND_AT = 14,  /* parts of the family */
       AWQ__CUDA_TEST_EMBED_AT = 18,   /* F32, F16, BF16, 8 bits */
       AWQ__CUDA_TEST_EXPERTS_AT = 22, /* 2 (0: 4 bits, 1: 8, 2: dense) + (BF16) */
       AWQ__CUDA_TEST_HEAD_AT = 28,
       AWQ__CUDA_TEST_MANY_AT = 29, /* experts_wgmma for F16, for BF16, when first wanted */
       AWQ__CUDA_TEST_QUANTIZE_AT = 31
};
#define AWQ__CUDA_TEST_ALL 0xffffffffu

/* --- what there is room for */

/* Linears of one layer that read one input: k and v join q, up joins gate. */
static const uint8_t awq__cuda_joined[AWQ_N_LINEAR_IDS] = {1, 1, 1, 0, 2, 2, 0, 0, 0, 0,
                                                           0, 0, 0, 3, 3, 0, 4, 4, 0};

/* How a packed linear lies in the file. */
static void awq__cuda_model_stored(const awq_linear_info *info, awq__cuda_repack *p)
{
    static const uint8_t layouts[AWQ_LAYOUT_COUNT] = {
        0, AWQ__CUDA_REPACK_GEMM, AWQ__CUDA_REPACK_GEMV, AWQ__CUDA_REPACK_GEMV_FAST, AWQ__CUDA_REPACK_MARLIN, 0,
        AWQ__CUDA_REPACK_GPTQ, AWQ__CUDA_REPACK_GPTQ_V2, AWQ__CUDA_REPACK_COMPRESSED, AWQ__CUDA_REPACK_INT8,
        AWQ__CUDA_REPACK_NATIVE};
    const awq_packed *f = &info->packed;
    p->layout = layouts[f->layout];
    if (f->layout == AWQ_LAYOUT_GPTQ && f->word_zeros && f->bits != 3) p->layout = AWQ__CUDA_REPACK_GPTQ_WORDS;
    p->first = (int32_t)info->first_row;
    p->file_n = (int32_t)f->out_features;
    p->file_group = (int32_t)f->group_size;
    p->file_bits = f->bits;
    p->type = f->scale_dtype == AWQ_F32 ? 0 : f->scale_dtype == AWQ_F16 ? 1 : 2;
    if (f->layout == AWQ_LAYOUT_NATIVE) {
        p->type = f->scale_dtype == AWQ_F16;
        p->chunk = (int32_t)awq__tile_chunk(f->group_size);
    } else if (f->layout == AWQ_LAYOUT_GEMV) p->pitch = (int32_t)awq__packed_find(f, "scales")->shape[1];
}

/* Its codes, its zero points or NULL, its scales; of native the last two are one. */
static void awq__cuda_model_pieces(const awq_packed *f, const awq_packed_tensor *piece[3])
{
    piece[0] = &f->tensor[0];
    piece[1] = awq__packed_find(f, "qzeros");
    piece[2] = awq__packed_find(f, "scales");
    if (!piece[1]) piece[1] = awq__packed_find(f, "weight_zero_point");
    if (!piece[2]) piece[2] = awq__packed_find(f, "weight_scale");
    if (f->layout == AWQ_LAYOUT_NATIVE) piece[1] = &f->tensor[1];
}

/* How a linear will be kept: bits 4, 8, or 16 for dense; *group inputs to a scale. */
static int awq__cuda_model_bits(const awq_linear_info *info, awq_linear_id id, const awq_model_desc *desc,
                                int64_t *group)
{
    int bits = info->packed.bits;
    *group = info->packed.group_size;
    if (!info->quantized) {
        if (!desc->rtn_bits || awq__is_router(id)) return 16;
        *group = desc->rtn_group_size ? desc->rtn_group_size : awq__default_group(info->in_features);
        bits = desc->rtn_bits;
    }
    if (*group <= 0) *group = info->in_features;
    return bits <= 4 ? 4 : 8;
}

static uint64_t awq__cuda_model_size(int64_t n, int64_t k, int bits, int64_t group, int biased)
{
    uint64_t size[2];
    awq_cuda_linear l;
    memset(&l, 0, sizeof l);
    l.out_features = n;
    l.in_features = k;
    l.bits = bits;
    l.group_size = bits == 16 ? k : group;
    awq__cuda_linear_sizes(&l, size);
    return size[0] + size[1] + (biased ? (uint64_t)n * 4 : 0) + 3 * AWQ__CUDA_ALIGN;
}

/* bytes of the device's memory that packed weights take while they are repacked */
static uint64_t awq__cuda_model_beside(const awq_packed *f)
{
    const awq_packed_tensor *piece[3];
    uint64_t bytes = 0;
    int i;
    awq__cuda_model_pieces(f, piece);
    for (i = 0; i < 3; i++)
        if (piece[i]) bytes += piece[i]->bytes + AWQ__CUDA_ALIGN;
    return bytes;
}

/* bytes of a layer in the arena; *most and *host grow to what its largest linear takes while it is made: beside
   itself on the device, and of the host's memory */
static awq_status awq__cuda_model_layer_size(awq_ctx *ctx, const awq_checkpoint *ck, const awq_model_desc *desc,
                                             int layer, uint64_t *bytes, uint64_t *most, uint64_t *host)
{
    const awq_config *c = awq_checkpoint_config(ck);
    uint64_t beside, here;
    int64_t group, n, in;
    int k, e, bits;
    *bytes = 0;
    for (k = 0; k < AWQ_N_LINEAR_IDS; k++)
        for (e = 0; e < awq_linear_count(c, layer, (awq_linear_id)k); e++) {
            awq_linear_info info;
            AWQ__TRY(awq_checkpoint_expert(ctx, ck, layer, (awq_linear_id)k, e, &info));
            bits = awq__cuda_model_bits(&info, (awq_linear_id)k, desc, &group);
            n = info.out_features;
            in = info.in_features;
            *bytes += awq__cuda_model_size(n, in, bits, group, info.bias != NULL);
            beside = AWQ__CUDA_MODEL_PART;
            here = (uint64_t)n * 12 + 16 * AWQ__ALIGN; /* biases of three */
            if (info.quantized) beside = awq__cuda_model_beside(&info.packed);
            else {
                if (info.col_step != 1) here += 4 * (uint64_t)(n * info.row_step); /* a column */
                if (bits < 16) here += 6 * AWQ__MIN((uint64_t)(n * in), (uint64_t)AWQ__CUDA_MODEL_PART / 4);
            }
            *most = AWQ__MAX(*most, beside);
            *host = AWQ__MAX(*host, here);
        }
    for (k = 0; k < AWQ_N_VECTORS; k++) *bytes += (uint64_t)awq__vector_size(c, layer, k) * 8 + AWQ__CUDA_ALIGN;
    if (c->layer_has_experts[layer]) *bytes += (uint64_t)c->num_experts * 3 * 32 + 3 * AWQ__CUDA_ALIGN;
    return AWQ_OK;
}

/* bytes of the embeddings, where the share begins with layer 0, and of norm and head, where it ends with the
   last */
static uint64_t awq__cuda_model_tables_size(const awq_config *c, const awq_model_desc *desc, int embed,
                                            int head)
{
    int bits = desc->head_bits ? 8 : 16;
    int64_t g = awq__default_group(c->hidden_size);
    uint64_t bytes = 2 * AWQ__CUDA_ALIGN + (uint64_t)c->hidden_size * 8;
    int tied = c->tie_word_embeddings, same = tied && (bits == 8 || c->hidden_size % 64 == 0);
    if (head || (embed && same))
        bytes += awq__cuda_model_size(c->vocab_size, c->hidden_size, bits, g ? g : c->hidden_size, 0);
    if (embed && !same) bytes += (uint64_t)(c->vocab_size * c->hidden_size) * (c->dtype == AWQ_F32 ? 4 : 2);
    return bytes;
}

/* buffers of a pass over `rows` rows; NULL memory: only their size */
static size_t awq__cuda_work_place(const awq_config *c, int64_t rows, awq__cuda_work *w, uint64_t memory)
{
    size_t at = 0, r = (size_t)rows, S = r * (size_t)c->experts_per_token, latent = c->kv_lora_rank ? r : 0;
    int64_t H = c->hidden_size, heads = c->num_attention_heads, I = c->intermediate_size, Q, V;
    size_t E = (size_t)c->num_experts, xr = AWQ__MAX(r, (size_t)AWQ__HEAD_ROWS);
    Q = heads * c->head_dim;
    V = heads * c->v_head_dim;
    I = AWQ__MAX(I, c->shared_size);
#define AWQ__PLACE_AT(field, count, size) \
    (w->field = (count) != 0 ? memory + at : 0, at += ((size_t)(count) * (size) + 255) / 256 * 256)
    AWQ__PLACE_AT(x, r * (size_t)H, 4);
    AWQ__PLACE_AT(xn, xr * (size_t)AWQ__CUDA_PAD(H), 2);
    AWQ__PLACE_AT(out, r * (size_t)H, 4);
    AWQ__PLACE_AT(qkv, r * (size_t)(Q + awq__k_width(c) + awq__v_width(c)), 4);
    AWQ__PLACE_AT(q, r * (size_t)Q, 2);
    AWQ__PLACE_AT(att, r * (size_t)AWQ__CUDA_PAD(V), 2);
    AWQ__PLACE_AT(gate_up, r * (size_t)(2 * I), 4);
    AWQ__PLACE_AT(act, r * (size_t)AWQ__CUDA_PAD(I), 2);
    AWQ__PLACE_AT(q_a, r * (size_t)c->q_lora_rank, 4);
    AWQ__PLACE_AT(q_an, r * (size_t)AWQ__CUDA_PAD(c->q_lora_rank), 2);
    AWQ__PLACE_AT(kv_a, latent * (size_t)(c->kv_lora_rank + c->rope_dim), 4);
    AWQ__PLACE_AT(kv_an, latent * (size_t)AWQ__CUDA_PAD(c->kv_lora_rank), 2);
    AWQ__PLACE_AT(kv_b, latent * (size_t)(heads * (c->rope_first + c->v_head_dim)), 4);
    AWQ__PLACE_AT(xn_lo, E ? r * (size_t)AWQ__CUDA_PAD(H) : 0, 2);
    AWQ__PLACE_AT(scores, r * E, 4);
    AWQ__PLACE_AT(weight, S, 4);
    AWQ__PLACE_AT(pick, S, 4);
    AWQ__PLACE_AT(slot, S, 4);
    AWQ__PLACE_AT(from, S, 4);
    AWQ__PLACE_AT(start, E ? E + 1 : 0, 4);
    AWQ__PLACE_AT(shared, c->shared_size ? r * (size_t)H : 0, 4);
    AWQ__PLACE_AT(shared_gate, c->shared_size ? r : 0, 4);
    AWQ__PLACE_AT(xe, S * (size_t)AWQ__CUDA_PAD(H), 2);
    AWQ__PLACE_AT(ge, S * (size_t)(2 * c->expert_size), 4);
    AWQ__PLACE_AT(ae, S * (size_t)AWQ__CUDA_PAD(c->expert_size), 2);
    AWQ__PLACE_AT(oe, S * (size_t)H, 4);
    AWQ__PLACE_AT(logits, (size_t)(AWQ__HEAD_ROWS * c->vocab_size), 4);
#undef AWQ__PLACE_AT
    return at;
}

/* The parts of a pass over n rows, with `pages` addresses of pages: where they begin. Returns their size. */
enum {
    AWQ__CUDA_IDS,
    AWQ__CUDA_POS,
    AWQ__CUDA_SLOT,
    AWQ__CUDA_SAID,
    AWQ__CUDA_HEAD,
    AWQ__CUDA_COS,
    AWQ__CUDA_SIN,
    AWQ__CUDA_TILE,
    AWQ__CUDA_TILE_SLIDING,
    AWQ__CUDA_PAGE,
    AWQ__CUDA_PARTS
};
#define AWQ__CUDA_SAYS (AWQ__HEAD_ROWS * (2 + 2 * AWQ__TOP)) /* words of a head */
static size_t awq__cuda_model_parts(const awq_config *c, int64_t n, size_t pages, size_t at[AWQ__CUDA_PARTS])
{
    const size_t rows = (size_t)n, half = (size_t)c->rope_dim / 2;
    size_t size[AWQ__CUDA_PARTS], all = 0;
    int i;
    size[AWQ__CUDA_IDS] = size[AWQ__CUDA_POS] = size[AWQ__CUDA_SLOT] = rows * 4;
    size[AWQ__CUDA_SAID] = (rows + AWQ__CUDA_SAYS) * 4;
    size[AWQ__CUDA_HEAD] = AWQ__HEAD_ROWS * 4;
    size[AWQ__CUDA_COS] = size[AWQ__CUDA_SIN] = rows * 2 * half * 4;
    size[AWQ__CUDA_TILE] = size[AWQ__CUDA_TILE_SLIDING] =
        awq__cuda_attend_tiles(n, c->num_attention_heads / c->num_key_value_heads) * 16;
    size[AWQ__CUDA_PAGE] = pages * 8;
    for (i = 0; i < AWQ__CUDA_PARTS; i++) {
        at[i] = all;
        all += (size[i] + 255) / 256 * 256;
    }
    return all;
}

/* What no kernel does. */
static awq_status awq__cuda_model_check(awq_ctx *ctx, const awq_device *d, const awq_checkpoint *ck)
{
    const awq_config *c = awq_checkpoint_config(ck);
    const char *folder = awq_checkpoint_folder(ck);
    if (c->head_dim % 8 || c->v_head_dim % 8 || c->head_dim > 256 || c->v_head_dim > 256
        || (c->kv_lora_rank && c->rope_first % 8))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "%s: heads of %d and %d numbers; %s computes multiples of 8 up to 256", folder,
                         c->head_dim, c->v_head_dim, d->name);
    if (AWQ__MAX(AWQ__MAX(c->hidden_size, c->intermediate_size),
                 (int64_t)c->num_attention_heads * c->v_head_dim)
        > 65536)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "%s: linears of more than 65536 inputs; %s computes at most these", folder, d->name);
    return AWQ_OK;
}

/* what a work wants beside its buffers: working memory of linears and attention, see the plans, and a pass */
static uint64_t awq__cuda_model_workspace(const awq_cuda *c, const awq_config *config,
                                          const awq_model_desc *desc)
{
    const size_t of_text = (size_t)(config->max_position_embeddings + AWQ__PAGE - 1) / AWQ__PAGE;
    uint64_t linear = (uint64_t)c->info.multiprocessors * 131072;
    size_t partial, counters, at[AWQ__CUDA_PARTS],
        pages = AWQ__MIN(AWQ__CUDA_MODEL_ROWS * of_text, c->info.memory_limit / awq__page_bytes(config, 16, 1));
    awq__cuda_attend_most(c->info.multiprocessors, config->num_attention_heads, config->num_key_value_heads,
                          config->v_head_dim, AWQ__CUDA_MODEL_ROWS, (int64_t)of_text,
                          desc->mode == AWQ_MODE_DETERMINISTIC, &partial, &counters);
    linear = AWQ__MAX(linear, (uint64_t)partial + 4 * counters);
    return linear + linear / 4 + awq__cuda_model_parts(config, AWQ__CUDA_MODEL_ROWS, pages, at);
}

/* bytes that models on it, all but `s`, have been told of and do not hold yet: buffers of passes, pages */
static uint64_t awq__cuda_model_kept(const awq_cuda *c, const awq__cuda_share *s)
{
    const awq__cuda_share *other;
    uint64_t kept = 0;
    for (other = c->shares; other; other = other->next)
        if (other != s && other->later > other->taken) kept += other->later - other->taken;
    return kept;
}

/* s takes so many bytes more of what it was told of, or of what nobody was */
static awq_status awq__cuda_model_take(awq_ctx *ctx, awq__cuda_share *s, uint64_t bytes)
{
    const awq_cuda_info *in = &s->c->info;
    const uint64_t kept = awq__cuda_model_kept(s->c, s);
    if (s->taken + bytes > s->later && kept && in->memory_limit - in->memory_used < bytes + kept)
        return awq__fail(
            ctx, AWQ_E_MEMORY,
            "CUDA device %d (%s): %llu bytes are in use, %llu are kept for other models on it, %llu "
            "more asked for beyond the %llu this one was placed with (device_tokens), the limit is "
            "%llu",
            in->index, in->name, (unsigned long long)in->memory_used, (unsigned long long)kept,
            (unsigned long long)bytes, (unsigned long long)s->later, (unsigned long long)in->memory_limit);
    s->taken += bytes;
    return AWQ_OK;
}

typedef struct awq__cuda_needs {
    uint64_t room;           /* bytes of the device that nobody has or was told of */
    uint64_t weights;        /* with all that stays */
    uint64_t loading, later; /* beside them: while they come, once they are there */
    uint64_t host;           /* bytes of the host while they come */
} awq__cuda_needs;

/* The lock is held. */
static awq_status awq__cuda_needs_begin(awq_ctx *ctx, awq_cuda *c, const awq_config *config,
                                        const awq_model_desc *desc, int first, awq__cuda_needs *n)
{
    awq__cuda_work none;
    awq_cuda_info info;
    uint64_t kept = awq__cuda_model_kept(c, NULL);
    AWQ__TRY(awq_cuda_get_info(ctx, c, &info));
    n->room = info.memory_limit > info.memory_used ? info.memory_limit - info.memory_used : 0;
    if (!c->desc.alloc) n->room = AWQ__MIN(n->room, (uint64_t)info.memory_free);
    n->room = n->room > kept ? n->room - kept : 0;
    n->later = awq__cuda_work_place(config, AWQ__CUDA_MODEL_ROWS, &none, 0)
               + awq__cuda_model_workspace(c, config, desc);
    n->later += AWQ__MIN(AWQ__CUDA_MODEL_PART, n->room / 4); /* the last block of pages */
    n->weights = (uint64_t)1 << 20;                          /* what the kernels find, the self-test */
    if (!first) n->weights += awq__cuda_model_tables_size(config, desc, 1, 0);
    n->loading = 0;
    n->host = AWQ__CUDA_MODEL_HOST;
    return AWQ_OK;
}

/* and layer i, the next of those from `first` on */
static awq_status awq__cuda_needs_layer(awq_ctx *ctx, const awq_checkpoint *ck, const awq_model_desc *desc,
                                        int first, int i, awq__cuda_needs *n)
{
    const awq_config *config = awq_checkpoint_config(ck);
    const uint64_t table = (uint64_t)config->vocab_size * (uint64_t)config->hidden_size;
    const int last = i == config->num_hidden_layers - 1;
    uint64_t bytes;
    AWQ__TRY(awq__cuda_model_layer_size(ctx, ck, desc, i, &bytes, &n->loading, &n->host));
    n->weights += bytes;
    n->later += awq__page_bytes(config, 16, 1)
                * (uint64_t)awq__pages(desc->device_tokens ? desc->device_tokens : AWQ__CUDA_MODEL_TOKENS);
    if (last)
        n->weights += awq__cuda_model_tables_size(config, desc, !first, 1)
                      - (first ? 0 : awq__cuda_model_tables_size(config, desc, 1, 0));
    if (desc->head_bits && (last || (!first && config->tie_word_embeddings))) {
        n->loading = AWQ__MAX(n->loading, table + table / 4); /* zero points and scales take less */
        n->host = AWQ__MAX(n->host, 6 * AWQ__MIN(table, (uint64_t)AWQ__CUDA_MODEL_PART / 4) + 16 * AWQ__ALIGN);
    }
    return AWQ_OK;
}

static uint64_t awq__cuda_needs_all(const awq__cuda_needs *n)
{
    return n->weights + AWQ__MAX(n->loading, n->later);
}

static awq_status awq__cuda_model_fit(awq_ctx *ctx, awq_device *d, const awq_checkpoint *ck,
                                      const awq_model_desc *desc, awq_device_memory *m)
{
    awq_cuda *c = (awq_cuda *)d;
    awq__cuda_needs n;
    awq_status st;
    int i, first = m->first_layer, most = 0;
    AWQ__TRY(awq__cuda_model_check(ctx, d, ck));
    AWQ__TRY(awq__cuda_model_enter(ctx, c));
    st = awq__cuda_model_leave(c, awq__cuda_needs_begin(ctx, c, awq_checkpoint_config(ck), desc, first, &n));
    AWQ__TRY(st);
    for (i = first; i < first + m->layers; i++) {
        AWQ__TRY(awq__cuda_needs_layer(ctx, ck, desc, first, i, &n));
        if (awq__cuda_needs_all(&n) <= n.room) most = i + 1 - first;
    }
    m->needed = m->layers ? awq__cuda_needs_all(&n) : 0;
    m->layers = most;
    m->available = n.room;
    m->host = n.host;
    return AWQ_OK;
}

/* The share has its place on the device: other models see what it will take. Between fit and this, which holds
   the lock, another may have come. */
static awq_status awq__cuda_model_settle(awq_ctx *ctx, awq__cuda_share *s, const awq_model_desc *desc)
{
    const awq_checkpoint *ck = s->m->checkpoint;
    awq__cuda_needs n;
    int i;
    AWQ__TRY(awq__cuda_needs_begin(ctx, s->c, &s->m->config, desc, s->first, &n));
    for (i = s->first; i < s->first + s->n; i++)
        AWQ__TRY(awq__cuda_needs_layer(ctx, ck, desc, s->first, i, &n));
    if (awq__cuda_needs_all(&n) > n.room)
        return awq__fail(
            ctx, AWQ_E_MEMORY,
            "%s: layers %d to %d need %.2f GB on %s, which has %.2f GB that no other model was told of",
            awq_checkpoint_folder(ck), s->first, s->first + s->n - 1, (double)awq__cuda_needs_all(&n) / 1e9,
            s->c->as_device.name, (double)n.room / 1e9);
    s->later = n.later;
    s->next = s->c->shares;
    s->c->shares = s;
    return AWQ_OK;
}

/* --- weights: from the file into pinned memory and to the device in pieces, one read while the last one
   travels. The host has two pieces, 8 MB, and where it has to round or to unpack a linear that, or a part. */
typedef struct awq__cuda_loader {
    awq_cuda *c;
    awq__cuda_share *s;
    const awq_model *m;
    const awq_model_desc *desc;
    awq_dtype dtype;
    awq__cuda_block *beside; /* what a kernel is to repack; grows to the largest */
    awq__cuda_block *found;  /* [] awq__cuda_found, of what the kernels find */
    uint64_t words;          /* that are in its sum */
    uint32_t mark;           /* 1 + layer; of the head: number of layers + 1 */
    uint64_t hash;
} awq__cuda_loader;

typedef struct awq__cuda_found {
    uint64_t sum;
    /* marks of some layer: scales that are no fp16 numbers; scales and zero points that are none; weights too
       large */
    uint32_t scales, wrong, dense;
} awq__cuda_found;

/* bytes of a tensor from byte `from` on to the device; finite: each number has to be */
static awq_status awq__cuda_model_stream(awq_ctx *ctx, awq__cuda_loader *o, const awq_tensor *t, uint64_t from,
                                         uint64_t bytes, int finite, uint64_t to)
{
    const uint64_t es = awq_dtype_size(t->dtype);
    void *room;
    size_t n;
    for (; bytes; from += n, to += n, bytes -= n) {
        n = (size_t)AWQ__MIN(bytes, (uint64_t)AWQ__CUDA_STAGE);
        AWQ__TRY(awq__cuda_stage(ctx, o->c, &room));
        AWQ__TRY(awq_tensors_read(ctx, o->m->checkpoint->tensors, t, from, room, n));
        if (finite) AWQ__TRY(awq__check_raw(ctx, t, room, (int64_t)(from / es), (int64_t)(n / es)));
        AWQ__TRY(awq__cuda_stage_send(ctx, o->c, to, n));
    }
    return AWQ_OK;
}

/* Memory beside the weights for pieces of so many bytes; what is queued has done with what was there. */
static awq_status awq__cuda_model_beside_need(awq_ctx *ctx, awq__cuda_loader *o, const uint64_t bytes[3],
                                              uint64_t at[3])
{
    uint64_t all = 0, place[3];
    int i;
    for (i = 0; i < 3; i++) {
        place[i] = all;
        all += (bytes[i] + AWQ__CUDA_ALIGN - 1) / AWQ__CUDA_ALIGN * AWQ__CUDA_ALIGN;
    }
    if (!o->beside || o->beside->bytes < all) {
        AWQ__TRY(AWQ__CU(ctx, o->c, StreamSynchronize, (o->c->stream)));
        if (o->beside) awq__cuda_block_free(o->c, o->beside);
        o->beside = NULL;
        AWQ__TRY(awq__cuda_block_new(ctx, o->c, (size_t)all, &o->beside));
    }
    for (i = 0; i < 3; i++) at[i] = o->beside->ptr + place[i];
    return AWQ_OK;
}

/* Adds device memory to the checksum. */
static awq_status awq__cuda_model_sum(awq_ctx *ctx, awq__cuda_loader *o, uint64_t data, uint64_t bytes)
{
    awq__cuda_sum p;
    p.data = data;
    p.sum = o->found->ptr + offsetof(awq__cuda_found, sum);
    p.n = bytes / 16;
    p.seed = o->words;
    o->words += 2 * p.n;
    if (!p.n) return AWQ_OK;
    return awq__cuda_repack_run(ctx, o->c, "awq_repack_sum", (int64_t)((p.n + 4095) / 4096), 1, 256, &p);
}

static awq_status awq__cuda_model_canonical(awq_ctx *ctx, awq__cuda_loader *o, const awq_qweight *q,
                                            int64_t row, const awq_cuda_linear *l)
{
    awq__cuda_repack p = awq__cuda_repack_of(l, q->out_features);
    const void *from[3];
    uint64_t bytes[3], at[3];
    int i;
    from[0] = q->codes;
    from[1] = q->zeros;
    from[2] = q->scales;
    bytes[0] = (uint64_t)(q->out_features * q->in_features);
    bytes[1] = (uint64_t)(q->out_features * (q->in_features / q->group_size));
    bytes[2] = bytes[1] * 4;
    AWQ__TRY(awq__cuda_model_beside_need(ctx, o, bytes, at));
    for (i = 0; i < 3; i++) AWQ__TRY(awq__cuda_upload(ctx, o->c, at[i], from[i], (size_t)bytes[i]));
    p.codes = at[0];
    p.zeros = at[1];
    p.scales = at[2];
    p.lossy = o->found->ptr + offsetof(awq__cuda_found, scales);
    p.mark = o->mark;
    return awq__cuda_linear_put(ctx, o->c, l, row, p);
}

/* Dense weights rounded to `bits`; half: to fp16 first. */
static awq_status awq__cuda_model_round(awq_ctx *ctx, awq__cuda_loader *o, const awq_linear_info *info,
                                        int bits, int half, int64_t row, const awq_cuda_linear *l)
{
    int64_t in = l->in_features, n = info->out_features, at, i;
    int64_t rows = AWQ__MIN(AWQ__MAX((int64_t)AWQ__CUDA_MODEL_PART / 4 / in, 1), n);
    float *x = AWQ__NEW_RAW(ctx, float, rows *in);
    awq_linear_info part = *info;
    awq_qweight q;
    awq_status st = x ? AWQ_OK : AWQ_E_MEMORY;
    memset(&q, 0, sizeof q);
    if (!st) st = awq_qweight_alloc(ctx, rows, in, bits, l->group_size, half && o->desc->rtn_symmetric, &q);
    for (at = 0; !st && at < n; at += rows) {
        q.out_features = part.out_features = AWQ__MIN(rows, n - at);
        part.first = info->first + at * info->row_step;
        st = awq__read_dense(ctx, o->m->checkpoint, &part, x);
        for (i = 0; half && !st && i < q.out_features * in; i++) x[i] = awq__h(x[i]);
        if (!st) st = awq_quantize(ctx, x, &q);
        if (!st) st = awq__cuda_model_canonical(ctx, o, &q, row + at, l);
    }
    awq_qweight_free(ctx, &q);
    awq__free(ctx, x);
    return st;
}

/* A packed linear to rows of l from `row` on. */
static awq_status awq__cuda_model_packed(awq_ctx *ctx, awq__cuda_loader *o, const awq_linear_info *info,
                                         int64_t row, const awq_cuda_linear *l)
{
    const awq_packed *f = &info->packed;
    awq__cuda_repack p = awq__cuda_repack_of(l, info->out_features);
    const awq_packed_tensor *piece[3];
    uint64_t bytes[3] = {0, 0, 0}, at[3];
    int i;
    awq__cuda_model_stored(info, &p);
    awq__cuda_model_pieces(f, piece);
    for (i = 0; i < 3; i++)
        if (piece[i]) bytes[i] = piece[i]->bytes;
    AWQ__TRY(awq__cuda_model_beside_need(ctx, o, bytes, at));
    for (i = 0; i < 3; i++)
        if (piece[i])
            AWQ__TRY(awq__cuda_model_stream(ctx, o, info->part[piece[i] - f->tensor],
                                            bytes[i] * (uint64_t)info->slice, bytes[i], 0, at[i]));
    p.codes = at[0];
    p.zeros = piece[1] ? at[1] : 0;
    p.scales = at[2];
    p.lossy = o->found->ptr + offsetof(awq__cuda_found, scales);
    p.mark = o->mark;
    return awq__cuda_linear_put(ctx, o->c, l, row, p);
}

/* Dense weights to rows of l from `row` on: straight to their place where nothing has to change. */
static awq_status awq__cuda_model_dense(awq_ctx *ctx, awq__cuda_loader *o, const awq_linear_info *info,
                                        int64_t row, const awq_cuda_linear *l)
{
    const awq_tensor *t = info->weight;
    const int64_t in = l->in_features, n = info->out_features, pitch = AWQ__CUDA_PAD(in);
    const int whole = info->col_step == 1 && t->dtype != AWQ_F64;
    const awq_dtype type = whole ? t->dtype : AWQ_F32; /* that arrives at the device */
    uint64_t es = awq_dtype_size(type), bytes[3] = {0, 0, 0}, at[3];
    awq__cuda_repack p = awq__cuda_repack_of(l, n);
    int64_t rows = AWQ__MIN((int64_t)(AWQ__CUDA_STAGE / es) / in, n), i;
    awq_linear_info part = *info;
    void *room;
    if (whole && type == l->dtype && in == pitch)
        return awq__cuda_model_stream(ctx, o, t, (uint64_t)info->first * es, (uint64_t)(n * in) * es, 1,
                                      l->weights + (uint64_t)(row * pitch) * 2);
    bytes[0] = (uint64_t)(rows * in) * es;
    AWQ__TRY(awq__cuda_model_beside_need(ctx, o, bytes, at));
    p.codes = at[0];
    p.lossy = o->found->ptr + offsetof(awq__cuda_found, dense);
    p.mark = o->mark;
    p.type = type == AWQ_F32 ? 0 : type == AWQ_F16 ? 1 : 2;
    for (i = 0; i < n; i += rows) {
        part.out_features = AWQ__MIN(rows, n - i);
        part.first = info->first + i * info->row_step;
        p.n = (int32_t)part.out_features;
        if (whole)
            AWQ__TRY(awq__cuda_model_stream(ctx, o, t, (uint64_t)part.first * es, (uint64_t)(p.n * in) * es, 1,
                                            at[0]));
        else {
            AWQ__TRY(awq__cuda_stage(ctx, o->c, &room));
            AWQ__TRY(awq__read_dense(ctx, o->m->checkpoint, &part, (float *)room));
            AWQ__TRY(awq__cuda_stage_send(ctx, o->c, at[0], (size_t)(p.n * in) * es));
        }
        AWQ__TRY(awq__cuda_linear_put(ctx, o->c, l, row + i, p));
    }
    return AWQ_OK;
}

/* linears with one input, of one kind, as one; bits 16: dense */
static awq_status awq__cuda_model_linear(awq_ctx *ctx, awq__cuda_loader *o, const awq_linear_info *info,
                                         int n_infos, int bits, int64_t group, awq_cuda_linear *out)
{
    int64_t rows = 0, row = 0, in = info->in_features;
    awq_checkpoint *ck = o->m->checkpoint;
    awq_status st = AWQ_OK;
    awq_cuda_linear l;
    uint64_t size[2];
    float *bias;
    int i, biased = 0;
    for (i = 0; i < n_infos; i++) {
        rows += info[i].out_features;
        biased |= info[i].bias != NULL;
    }
    AWQ__TRY(
        awq__cuda_linear_shape(ctx, o->c, info->name, rows, in, bits, bits == 16 ? in : group, o->dtype, &l));
    AWQ__TRY(awq__cuda_linear_room(ctx, o->c, &o->s->memory, biased, &l));
    for (i = 0; i < n_infos; row += info[i++].out_features)
        if (bits == 16) AWQ__TRY(awq__cuda_model_dense(ctx, o, &info[i], row, &l));
        else if (info[i].quantized) AWQ__TRY(awq__cuda_model_packed(ctx, o, &info[i], row, &l));
        else AWQ__TRY(awq__cuda_model_round(ctx, o, &info[i], o->desc->rtn_bits, 1, row, &l));
    awq__cuda_linear_sizes(&l, size);
    AWQ__TRY(awq__cuda_model_sum(ctx, o, l.weights, size[0]));
    AWQ__TRY(awq__cuda_model_sum(ctx, o, l.params, size[1]));
    if (biased) {
        bias = AWQ__NEW(ctx, float, rows);
        if (!bias) return AWQ_E_MEMORY;
        for (i = 0, row = 0; !st && i < n_infos; row += info[i++].out_features)
            if (info[i].bias)
                st = awq__read_some(ctx, ck, info[i].bias, info[i].bias_first, info[i].bias_step,
                                    info[i].out_features, bias + row);
        if (!st) st = awq__cuda_upload(ctx, o->c, l.bias, bias, (size_t)rows * 4);
        if (!st) o->hash = awq__checksum(o->hash, bias, (size_t)rows * 4);
        awq__free(ctx, bias);
    }
    *out = l;
    return st;
}

/* The linear `id` and those that join it, where they are of one kind; one that has been joined stays empty. */
static awq_status awq__cuda_model_join(awq_ctx *ctx, awq__cuda_loader *o, int layer, int id, int expert,
                                       awq_cuda_linear *out, int *joined)
{
    awq_linear_info info[3];
    int64_t group, other;
    int k, n = 1, bits, set = awq__cuda_joined[id];
    AWQ__TRY(awq_checkpoint_expert(ctx, o->m->checkpoint, layer, (awq_linear_id)id, expert, &info[0]));
    bits = awq__cuda_model_bits(&info[0], (awq_linear_id)id, o->desc, &group);
    for (k = id + 1; set && k < AWQ_N_LINEAR_IDS && awq__cuda_joined[k] == set; k++) {
        if (!awq_linear_count(&o->m->config, layer, (awq_linear_id)k)) break;
        AWQ__TRY(awq_checkpoint_expert(ctx, o->m->checkpoint, layer, (awq_linear_id)k, expert, &info[n]));
        if (awq__cuda_model_bits(&info[n], (awq_linear_id)k, o->desc, &other) != bits
            || (bits < 16 && other != group) || info[n].in_features != info[0].in_features)
            break;
        n++;
    }
    k = id + n;
    if (set && k < AWQ_N_LINEAR_IDS && awq__cuda_joined[k] == set) n = 1; /* all or none of them */
    *joined = n - 1;
    return awq__cuda_model_linear(ctx, o, info, n, bits, group, out);
}

static awq_status awq__cuda_model_vector(awq_ctx *ctx, awq__cuda_share *s, const float *v, int64_t n,
                                         uint64_t *out)
{
    AWQ__TRY(awq__cuda_arena_alloc(ctx, s->c, &s->memory, (size_t)n * sizeof *v, out));
    return awq__cuda_upload(ctx, s->c, *out, v, (size_t)n * sizeof *v);
}

/* Where the experts of a layer are, for kernels that take all of them at once. */
static awq_status awq__cuda_model_expert_tables(awq_ctx *ctx, awq__cuda_share *s, awq__cuda_layer *l, int i)
{
    const int E = s->m->config.num_experts;
    uint64_t *table = AWQ__NEW(ctx, uint64_t, 4 * E);
    awq_status st = table ? AWQ_OK : AWQ_E_MEMORY;
    int k, e;
    for (k = 0; !st && k < 3; k++) {
        const awq_cuda_linear *x = l->expert + k * E;
        if (!x->weights) continue;
        for (e = 0; !st && e < E; e++) {
            table[4 * e] = x[e].weights;
            table[4 * e + 1] = x[e].params;
            table[4 * e + 2] = x[e].bias;
            if (x[e].bits != x->bits || x[e].group_size != x->group_size
                || x[e].out_features != x->out_features || x[e].in_features != x->in_features)
                st = awq__fail(ctx, AWQ_E_UNSUPPORTED,
                               "%s: experts of layer %d are quantized in several ways, not supported on CUDA",
                               awq_checkpoint_folder(s->m->checkpoint), i);
        }
        if (!st) st = awq__cuda_arena_alloc(ctx, s->c, &s->memory, (size_t)E * 32, &l->table[k]);
        if (!st) st = awq__cuda_upload(ctx, s->c, l->table[k], table, (size_t)E * 32);
    }
    awq__free(ctx, table);
    return st;
}

static awq_status awq__cuda_model_layer(awq_ctx *ctx, awq__cuda_share *s, awq__cuda_loader *o, int i,
                                        uint64_t *bytes, uint64_t *a_token)
{
    const awq_config *c = &s->m->config;
    awq__cuda_layer *l = &s->layer[i - s->first];
    int k, e, joined, others, count;
    for (k = 0; k < AWQ_N_VECTORS; k++) {
        int64_t n = awq__vector_size(c, i, k) << awq__has_norm_bias(c, k);
        if (n) AWQ__TRY(awq__cuda_model_vector(ctx, s, s->m->layers[i].vec[k], n, &l->vec[k]));
        *bytes += (uint64_t)n * 4;
    }
    if (c->layer_has_experts[i] && !(l->expert = AWQ__NEW(ctx, awq_cuda_linear, 3 * c->num_experts)))
        return AWQ_E_MEMORY;
    for (k = 0; k < AWQ_N_LINEAR_IDS; k += 1 + joined) {
        joined = 0;
        count = awq_linear_count(c, i, (awq_linear_id)k);
        for (e = 0; e < count; e++) {
            awq_cuda_linear *to =
                k < AWQ_EXPERT_GATE ? &l->linear[k] : &l->expert[(k - AWQ_EXPERT_GATE) * c->num_experts + e];
            AWQ__TRY(awq__cuda_model_join(ctx, o, i, k, e, to, &others));
            if (e && others != joined)
                return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                                 "%s: experts of layer %d are quantized in several ways, not supported on CUDA",
                                 awq_checkpoint_folder(s->m->checkpoint), i);
            joined = others;
            *bytes += to->bytes;
            if (k < AWQ_EXPERT_GATE || e < c->experts_per_token) *a_token += to->bytes;
        }
    }
    return l->expert ? awq__cuda_model_expert_tables(ctx, s, l, i) : AWQ_OK;
}

/* A table [vocab, H] as it is stored, on the device. */
static awq_status awq__cuda_model_table(awq_ctx *ctx, awq__cuda_share *s, awq__cuda_loader *o,
                                        const awq_tensor *t)
{
    AWQ__TRY(awq__cuda_arena_alloc(ctx, s->c, &s->memory, (size_t)t->bytes, &s->embed));
    AWQ__TRY(awq__cuda_model_stream(ctx, o, t, 0, t->bytes, 1, s->embed));
    s->embed_dtype = t->dtype;
    return awq__cuda_model_sum(ctx, o, s->embed, t->bytes);
}

/* The head [vocab, H], dense or in 8 bits. */
static awq_status awq__cuda_model_head(awq_ctx *ctx, awq__cuda_share *s, awq__cuda_loader *o,
                                       const awq_tensor *t)
{
    const awq_config *c = &s->m->config;
    int64_t V = c->vocab_size, H = c->hidden_size, g = awq__default_group(H);
    awq_linear_info info;
    awq_cuda_linear *l = &s->head;
    uint64_t size[2];
    int ready, bits = o->desc->head_bits;
    memset(&info, 0, sizeof info);
    AWQ__TRY(awq__ck_head(ctx, s->m->checkpoint, &info, &ready));
    ready = ready && bits;
    if (!ready) {
        snprintf(info.name, sizeof info.name, "%.180s", t->name);
        info.weight = t;
        info.out_features = V;
        info.in_features = info.row_step = H;
        info.col_step = 1;
    }
    g = !bits ? H : ready ? info.packed.group_size : g ? g : H;
    AWQ__TRY(awq__cuda_linear_shape(ctx, s->c, info.name, V, H, bits ? bits : 16, g, o->dtype, l));
    AWQ__TRY(awq__cuda_linear_room(ctx, s->c, &s->memory, 0, l));
    if (ready) AWQ__TRY(awq__cuda_model_packed(ctx, o, &info, 0, l));
    else if (bits) AWQ__TRY(awq__cuda_model_round(ctx, o, &info, bits, 0, 0, l));
    else AWQ__TRY(awq__cuda_model_dense(ctx, o, &info, 0, l));
    awq__cuda_linear_sizes(l, size);
    AWQ__TRY(awq__cuda_model_sum(ctx, o, l->weights, size[0]));
    return awq__cuda_model_sum(ctx, o, l->params, size[1]);
}

static awq_status awq__cuda_model_tables(awq_ctx *ctx, awq__cuda_share *s, awq__cuda_loader *o, uint64_t *bytes,
                                         uint64_t *a_token)
{
    const awq_config *c = &s->m->config;
    const awq_tensors *ts = awq_checkpoint_tensors(s->m->checkpoint);
    const awq_tensor *embed, *head;
    char name[256];
    int tied = c->tie_word_embeddings, last = awq__cuda_model_last(s);
    /* the head's weights do for the embeddings too */
    int same = tied && (o->desc->head_bits || c->hidden_size % 64 == 0);
    embed = awq_tensors_find(ts, awq__ck_name(name, c, c->family->embed, 0, 0, ""));
    head = tied ? embed : awq_tensors_find(ts, awq__ck_name(name, c, c->family->head, 0, 0, ""));
    if ((!s->first && !embed) || (last && !head && !o->desc->head_bits))
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: the tensor of the embeddings or of the head is missing",
                         awq_checkpoint_folder(s->m->checkpoint));
    if (last || (!s->first && same)) {
        AWQ__TRY(awq__cuda_model_head(ctx, s, o, head));
        *bytes += s->head.bytes;
        if (last) *a_token += s->head.bytes;
    }
    if (last)
        AWQ__TRY(awq__cuda_model_vector(
            ctx, s, s->m->final_norm, c->hidden_size << awq__has_norm_bias(c, AWQ_INPUT_NORM), &s->final_norm));
    s->embed_dtype = AWQ_DTYPE_NONE;
    if (s->first || same) return AWQ_OK;
    if (embed->dtype == AWQ_F64)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: embeddings of type F64 are not supported on CUDA",
                         awq_checkpoint_folder(s->m->checkpoint));
    *bytes += embed->bytes;
    return awq__cuda_model_table(ctx, s, o, embed);
}

/* the blocks of pages; the context is current */
static void awq__cuda_model_pages_free(awq__cuda_share *s)
{
    awq__cuda_block *b, *next;
    if (!s->c->lost) s->c->cu.StreamSynchronize(s->c->stream);
    for (b = s->c->blocks; b; b = next) {
        next = b->next;
        if (b->owner == s) awq__cuda_block_free(s->c, b);
    }
}

static void awq__cuda_model_unload(awq_ctx *ctx, void *share)
{
    awq__cuda_share *s = (awq__cuda_share *)share, **link;
    awq_cuda *c = s->c;
    awq_error err = ctx->err;
    int i, entered;
    awq__lock(&c->lock);
    for (link = &c->shares; *link && *link != s; link = &(*link)->next) {}
    if (*link) *link = s->next;
    entered = !awq__cuda_enter(ctx, c);
    for (i = 0; s->layer && i < s->n; i++) {
        awq__cuda_layer *l = &s->layer[i];
        awq__free(ctx, l->expert);
    }
    awq__cuda_arena_free(ctx, c, &s->memory);
    awq__cuda_model_pages_free(s);
    awq__free(&c->own, s->page);
    if (entered) awq__cuda_leave(c);
    awq__unlock(&c->lock);
    awq__free(ctx, s->layer);
    awq__free(ctx, s);
    ctx->err = err;
}

/* Compiles what a pass will ask for, before it does, and tries what has not been tried. */
static awq_status awq__cuda_model_kernels(awq_ctx *ctx, const awq__cuda_share *s, const awq__cuda_loader *o)
{
    const awq_config *c = &s->m->config;
    const int size = AWQ__MAX(c->head_dim, c->v_head_dim), part = s->dtype == AWQ_BF16;
    int has[AWQ__CUDA_FAMILIES], n = 0, i, k;
    awq__cuda_unit unit[AWQ__CUDA_FAMILIES];
    uint32_t which = 1u << (AWQ__CUDA_TEST_ROWS_AT + part);
    int64_t group;
    memset(has, 0, sizeof has);
    memset(unit, 0, sizeof unit);
    has[AWQ__CUDA_REPACK] = has[AWQ__CUDA_ROWS] = has[AWQ__CUDA_ATTENTION] = 1;
    for (i = s->first; i < s->first + s->n; i++) {
        has[AWQ__CUDA_MOE] |= c->layer_has_experts[i] != 0;
        has[AWQ__CUDA_EXPERTS] = has[AWQ__CUDA_MOE];
        for (k = 0; k < AWQ_N_LINEAR_IDS; k++) {
            awq_linear_info info;
            int bits;
            if (!awq_linear_count(c, i, (awq_linear_id)k)) continue;
            AWQ__TRY(awq_checkpoint_expert(ctx, s->m->checkpoint, i, (awq_linear_id)k, 0, &info));
            bits = awq__cuda_model_bits(&info, (awq_linear_id)k, o->desc, &group);
            if (k >= AWQ_EXPERT_GATE) {
                which |= 1u << (AWQ__CUDA_TEST_EXPERTS_AT + 2 * (bits == 16 ? 2 : bits == 8) + part);
                continue;
            }
            has[bits == 16 ? AWQ__CUDA_DENSE : bits == 8 ? AWQ__CUDA_LINEAR8 : AWQ__CUDA_LINEAR] = 1;
            which |= 1u << (2 * awq__cuda_linear_kind(bits, group, info.in_features) + part);
        }
    }
    if (awq__cuda_model_last(s)) {
        has[o->desc->head_bits ? AWQ__CUDA_LINEAR8 : AWQ__CUDA_DENSE] = has[AWQ__CUDA_SAMPLE] = 1;
        which |= 1u << (2 * (o->desc->head_bits ? 3 : 4) + part) | 1u << AWQ__CUDA_TEST_HEAD_AT;
    }
    if (has[AWQ__CUDA_MOE]) which |= 1u << (AWQ__CUDA_TEST_MOE_AT + part);
    if (!s->first)
        which |= 1u << (AWQ__CUDA_TEST_EMBED_AT
                        + (o->desc->head_bits && c->tie_word_embeddings ? 3
                           : c->dtype == AWQ_F32                        ? 0
                           : c->dtype == AWQ_F16                        ? 1
                                                                        : 2));
    has[AWQ__CUDA_WGMMA] = has[AWQ__CUDA_LINEAR] && !s->flags && !strcmp(s->c->info.arch, "sm_90a");
    has[AWQ__CUDA_WGMMA_FEW] = has[AWQ__CUDA_WGMMA];
    for (i = 0; i < AWQ__CUDA_FAMILIES; i++) {
        if (!has[i]) continue;
        unit[n].family = i;
        unit[n++].part = i == AWQ__CUDA_REPACK                        ? 0
                         : i != AWQ__CUDA_ATTENTION                   ? part
                         : size <= 64                                 ? 0
                         : size <= 128                                ? 1
                         : c->head_dim <= 192 && c->v_head_dim <= 128 ? 2
                                                                      : 3;
    }
    for (i = 0; i < n; i++)
        if (unit[i].family == AWQ__CUDA_ATTENTION) which |= 1u << (AWQ__CUDA_TEST_ATTEND_AT + unit[i].part);
    AWQ__TRY(awq__cuda_modules(ctx, s->c, unit, n));
    return s->c->desc.no_selftest ? AWQ_OK : awq__cuda_selftest(ctx, s->c, which & ~s->c->tested);
}

/* Zero points that their layout has not, scales that are not finite, marked as those of a layer: what the host
   says of them. Scales that are too large for fp16 are all right with it. */
static awq_status awq__cuda_model_wrong(awq_ctx *ctx, awq_checkpoint *ck, int mark)
{
    const awq_config *c = awq_checkpoint_config(ck);
    awq_linear_info info;
    awq_qweight q;
    int k, e, ready;
    for (k = 0; mark <= c->num_hidden_layers && k < AWQ_N_LINEAR_IDS; k++)
        for (e = 0; e < awq_linear_count(c, mark - 1, (awq_linear_id)k); e++) {
            AWQ__TRY(awq_checkpoint_expert(ctx, ck, mark - 1, (awq_linear_id)k, e, &info));
            if (!info.quantized) continue;
            AWQ__TRY(awq_checkpoint_read_qweight(ctx, ck, &info, &q));
            awq_qweight_free(ctx, &q);
        }
    memset(&info, 0, sizeof info);
    AWQ__TRY(awq__ck_head(ctx, ck, &info, &ready));
    if (mark > c->num_hidden_layers && ready) {
        AWQ__TRY(awq_checkpoint_read_qweight(ctx, ck, &info, &q));
        awq_qweight_free(ctx, &q);
    }
    return mark > c->num_hidden_layers
               ? awq__fail(ctx, AWQ_E_NUMERIC, "%s: a scale of the head is too large for fp16, which CUDA has",
                           awq_checkpoint_folder(ck))
               : awq__fail(ctx, AWQ_E_NUMERIC, "%s: a scale of layer %d is too large for fp16, which CUDA has",
                           awq_checkpoint_folder(ck), mark - 1);
}

/* All of the share, a slab for each layer; in the end what the kernels have found. */
static awq_status awq__cuda_model_weights(awq_ctx *ctx, awq__cuda_share *s, awq__cuda_loader *o,
                                          uint64_t *bytes, uint64_t *a_token, double began)
{
    const awq_config *c = &s->m->config;
    const char *folder = awq_checkpoint_folder(s->m->checkpoint);
    awq__cuda_found found;
    uint64_t size, most = 0, host = 0;
    int i, first = s->first;
    AWQ__TRY(awq__cuda_model_kernels(ctx, s, o));
    AWQ__TRY(awq__cuda_block_of(ctx, s->c, NULL, sizeof found, &o->found));
    o->mark = (uint32_t)c->num_hidden_layers + 1;
    size = awq__cuda_model_tables_size(c, o->desc, !first, awq__cuda_model_last(s));
    AWQ__TRY(awq__cuda_arena_reserve(ctx, s->c, &s->memory, (size_t)size));
    AWQ__TRY(awq__cuda_model_tables(ctx, s, o, bytes, a_token));
    for (i = first; i < first + s->n; i++) {
        o->mark = (uint32_t)i + 1;
        AWQ__TRY(awq__cuda_model_layer_size(ctx, s->m->checkpoint, o->desc, i, &size, &most, &host));
        AWQ__TRY(awq__cuda_arena_reserve(ctx, s->c, &s->memory, (size_t)size));
        AWQ__TRY(awq__cuda_model_layer(ctx, s, o, i, bytes, a_token));
        AWQ__TRY(awq__progress(ctx, "load", i + 1 - first, s->n, began));
    }
    AWQ__TRY(awq__cuda_download(ctx, s->c, &found, o->found->ptr, sizeof found));
    if ((int)found.dense > c->num_hidden_layers)
        return awq__fail(ctx, AWQ_E_NUMERIC, "%s: a weight of the head is too large for %s", folder,
                         awq_dtype_name(s->dtype));
    if (found.dense)
        return awq__fail(ctx, AWQ_E_NUMERIC, "%s: a weight of layer %d is too large for %s", folder,
                         (int)found.dense - 1, awq_dtype_name(s->dtype));
    if (found.wrong) return awq__cuda_model_wrong(ctx, s->m->checkpoint, (int)found.wrong);
    if (found.scales)
        awq__log(ctx, AWQ_LOG_WARN, "%s: scales are no fp16 numbers; they are rounded on CUDA", folder);
    o->hash = awq__checksum(o->hash, &found.sum, sizeof found.sum);
    return AWQ_OK;
}

static awq_status awq__cuda_model_load(awq_ctx *ctx, awq_device *d, const awq_model *m,
                                       const awq_model_desc *desc, int first, int n, void **share,
                                       uint64_t *bytes, uint64_t *a_token, uint64_t *hash)
{
    awq_cuda *c = (awq_cuda *)d;
    awq__cuda_share *s = AWQ__NEW(ctx, awq__cuda_share, 1);
    double began = awq__now();
    awq__cuda_loader o;
    awq_status st;
    if (!s) return AWQ_E_MEMORY;
    memset(&o, 0, sizeof o);
    s->c = o.c = c;
    s->m = o.m = m;
    o.s = s;
    o.desc = desc;
    s->first = first;
    s->n = n;
    s->flags = desc->mode == AWQ_MODE_DETERMINISTIC ? AWQ_CUDA_SAME_BITS : 0;
    s->dtype = o.dtype = m->config.dtype == AWQ_BF16 && c->target >= 80 ? AWQ_BF16 : AWQ_F16;
    s->page_bytes = awq__cache_bytes(&m->cache, n);
    s->layer = AWQ__NEW(ctx, awq__cuda_layer, n);
    st = s->layer ? awq__cuda_model_enter(ctx, c) : AWQ_E_MEMORY;
    if (!st) {
        st = awq__cuda_model_settle(ctx, s, desc);
        if (!st) st = awq__cuda_model_weights(ctx, s, &o, bytes, a_token, began);
        if (st && !c->lost) c->cu.StreamSynchronize(c->stream);
        if (o.beside) awq__cuda_block_free(c, o.beside);
        if (o.found) awq__cuda_block_free(c, o.found);
        awq__cuda_model_leave(c, st);
    }
    if (st) {
        awq__cuda_model_unload(ctx, s);
        return st;
    }
    o.hash = awq__checksum(o.hash, &s->dtype, sizeof s->dtype);
    *hash = awq__checksum(o.hash, &s->flags, sizeof s->flags);
    *share = s;
    return AWQ_OK;
}

/* --- pages */
static awq_status awq__cuda_model_more_pages(awq_ctx *ctx, awq__cuda_share *s)
{
    size_t count = AWQ__MAX(AWQ__CUDA_MODEL_PART / s->page_bytes, (size_t)1), k;
    size_t bytes = (s->page_bytes + AWQ__CUDA_ALIGN - 1) / AWQ__CUDA_ALIGN * AWQ__CUDA_ALIGN;
    size_t room = s->c->info.memory_limit - s->c->info.memory_used;
    uint64_t kept = awq__cuda_model_kept(s->c, s);
    awq__cuda_block *b = NULL;
    awq_status st;
    room = room > kept ? room - (size_t)kept : 0;
    while (count > 1 && count * bytes > room / 4) count /= 2;
    /* by another caller, maybe, than who frees it */
    if (!awq__grow(&s->c->own, (void **)&s->page, &s->cap_pages, s->all_pages + count, sizeof *s->page)) {
        ctx->err = s->c->own.err;
        return AWQ_E_MEMORY;
    }
    AWQ__TRY(awq__cuda_model_take(ctx, s, count * bytes));
    st = awq__cuda_block_new(ctx, s->c, count * bytes, &b);
    if (st) {
        s->taken -= count * bytes;
        return st;
    }
    b->owner = s;
    for (k = count; k-- > 0;) s->page[s->n_pages++] = b->ptr + k * bytes;
    s->all_pages += count;
    return AWQ_OK;
}

static awq_status awq__cuda_model_page(awq_ctx *ctx, void *share, uint64_t *page)
{
    awq__cuda_share *s = (awq__cuda_share *)share;
    awq_status st;
    AWQ__TRY(awq__cuda_model_enter(ctx, s->c));
    st = s->n_pages ? AWQ_OK : awq__cuda_model_more_pages(ctx, s);
    if (!st) *page = s->page[--s->n_pages];
    return awq__cuda_model_leave(s->c, st);
}

static void awq__cuda_model_page_free(awq_ctx *ctx, void *share, uint64_t page)
{
    awq__cuda_share *s = (awq__cuda_share *)share;
    (void)ctx;
    awq__lock(&s->c->lock);
    s->page[s->n_pages++] = page; /* the list has room for all */
    awq__unlock(&s->c->lock);
}

static void awq__cuda_model_page_copy(void *share, uint64_t to, uint64_t from)
{
    awq__cuda_share *s = (awq__cuda_share *)share;
    awq_cuda *c = s->c;
    awq_ctx none;
    awq_status st;
    memset(&none, 0, sizeof none);
    awq__lock(&c->lock);
    st = awq__cuda_enter(&none, c);
    if (!st) {
        st = AWQ__CU(&none, c, MemcpyDtoDAsync, (to, from, s->page_bytes, c->stream));
        awq__cuda_leave(c);
    }
    if (st && !c->late.status) c->late = none.err;
    awq__unlock(&c->lock);
}

static awq_status awq__cuda_model_page_read(awq_ctx *ctx, void *share, uint64_t page, void *to)
{
    awq__cuda_share *s = (awq__cuda_share *)share;
    AWQ__TRY(awq__cuda_model_enter(ctx, s->c));
    return awq__cuda_model_leave(s->c, awq__cuda_download(ctx, s->c, to, page, s->page_bytes));
}

static awq_status awq__cuda_model_page_write(awq_ctx *ctx, void *share, uint64_t page, const void *from)
{
    awq__cuda_share *s = (awq__cuda_share *)share;
    AWQ__TRY(awq__cuda_model_enter(ctx, s->c));
    return awq__cuda_model_leave(s->c, awq__cuda_upload(ctx, s->c, page, from, s->page_bytes));
}

/* --- buffers */
/* The stream is past all recorded passes, which go. */
static void awq__cuda_model_forget(awq__cuda_work *w)
{
    int i;
    for (i = 0; i < (int)(sizeof w->graph / sizeof w->graph[0]); i++)
        awq__cuda_graph_free(w->s->c, w->graph[i].ready);
    memset(w->graph, 0, sizeof w->graph);
}

/* Room for a pass of so many bytes, here and on the device. */
static awq_status awq__cuda_model_pass_room(awq_ctx *ctx, awq__cuda_work *w, size_t bytes)
{
    awq_cuda *c = w->s->c;
    awq__cuda_block *b = NULL;
    uint8_t *room;
    if (w->pass && bytes <= w->pass->bytes) return AWQ_OK;
    room = AWQ__NEW_RAW(&c->own, uint8_t, bytes);
    if (!room) {
        ctx->err = c->own.err;
        return AWQ_E_MEMORY;
    }
    awq__free(&c->own, w->room);
    w->room = room;
    if (w->pass) awq_cuda_release(ctx, c, w->pass->ptr); /* waits */
    w->pass = NULL;
    awq__cuda_model_forget(w);
    AWQ__TRY(awq__cuda_model_take(ctx, w->s, bytes)); /* also of those that it had: few */
    w->taken += bytes;
    AWQ__TRY(awq__cuda_block_new(ctx, c, bytes, &b));
    w->pass = b;
    return AWQ_OK;
}

/* More working memory than what a linear of passes of up to `rows` rows wants: *partial and *counters grow. */
static void awq__cuda_model_linear_room(const awq__cuda_share *s, const awq_cuda_linear *l, int64_t rows,
                                        size_t *partial, size_t *counters)
{
    awq__cuda_device d = awq__cuda_plan_device(s->c, s->c->info.multiprocessors);
    awq__cuda_linear p = awq__cuda_linear_argument(l);
    awq__cuda_launch plan;
    int64_t r;
    for (r = 1; l->weights && r <= rows; r = r < 64 || r == rows ? r + 1 : AWQ__MIN(r + 32, rows)) {
        /* plans change with the multiples of 32 */
        if (!awq__cuda_linear_plan(&d, l->bits, (int)r, p.n, (int)l->in_features, p.group, l->dtype == AWQ_BF16,
                                   s->flags & AWQ_CUDA_SAME_BITS, &plan))
            continue;
        *partial = AWQ__MAX(*partial, plan.partial);
        *counters = AWQ__MAX(*counters, plan.counters);
    }
}

/* All that passes of the work will need of the driver is asked for here. */
static awq_status awq__cuda_model_work_room(awq_ctx *ctx, awq__cuda_work *w)
{
    const awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    const size_t of_text = (size_t)awq__pages(c->max_position_embeddings);
    size_t at[AWQ__CUDA_PARTS], partial, counters, pages = (size_t)w->rows * of_text, i, k;
    awq__cuda_attend_most(s->c->info.multiprocessors, c->num_attention_heads, c->num_key_value_heads,
                          c->v_head_dim, w->rows, (int64_t)of_text, s->flags & AWQ_CUDA_SAME_BITS, &partial,
                          &counters);
    for (i = 0; i < (size_t)s->n; i++)
        for (k = 0; k < AWQ_EXPERT_GATE; k++) {
            const awq_cuda_linear *l = &s->layer[i].linear[k], *before = i ? &s->layer[i - 1].linear[k] : NULL;
            if (before && l->out_features == before->out_features && l->in_features == before->in_features
                && l->bits == before->bits && l->group_size == before->group_size) continue;
            awq__cuda_model_linear_room(s, l, w->rows, &partial, &counters);
        }
    awq__cuda_model_linear_room(s, &s->head, AWQ__HEAD_ROWS, &partial, &counters);
    i = awq__cuda_logits_parts(c->vocab_size) * AWQ__HEAD_ROWS * (AWQ__TOP + 1) * sizeof(uint64_t);
    partial = AWQ__MAX(partial, i);
    counters = AWQ__MAX(counters, (size_t)AWQ__HEAD_ROWS);
    AWQ__TRY(awq__cuda_workspace(ctx, s->c, partial, counters));
    /* sessions hold as many pages as their texts may want: lists have no more than the device has room for */
    pages = AWQ__MIN(pages, s->c->info.memory_limit / s->page_bytes);
    return awq__cuda_model_pass_room(ctx, w, awq__cuda_model_parts(c, w->rows, pages, at));
}

static void awq__cuda_model_work_free(awq_ctx *ctx, void *work)
{
    awq__cuda_work *w = (awq__cuda_work *)work;
    awq_cuda *c = w->s->c;
    awq_error err = ctx->err;
    int entered;
    awq__lock(&c->lock);
    entered = !awq__cuda_enter(ctx, c);
    awq__cuda_arena_free(ctx, c, &w->memory); /* waits, if there is any: so for graphs too */
    awq__cuda_model_forget(w);
    if (w->pass) awq_cuda_release(ctx, c, w->pass->ptr);
    awq__free(&c->own, w->room);
    w->s->taken -= w->taken;
    if (entered) awq__cuda_leave(c);
    awq__unlock(&c->lock);
    awq__free(ctx, w->pos);
    awq__free(ctx, w->stretch);
    awq__free(ctx, w);
    ctx->err = err;
}

static awq_status awq__cuda_model_work(awq_ctx *ctx, void *share, int64_t rows, void **work)
{
    awq__cuda_share *s = (awq__cuda_share *)share;
    const awq_config *c = &s->m->config;
    awq__cuda_work *w = AWQ__NEW(ctx, awq__cuda_work, 1);
    awq_status st = AWQ_E_MEMORY;
    size_t bytes;
    uint64_t at;
    if (!w) return st;
    w->s = s;
    w->rows = rows;
    w->pos = AWQ__NEW(ctx, int32_t, rows);
    w->stretch = w->pos ? AWQ__NEW(ctx, awq__cuda_stretch, rows) : NULL;
    if (w->stretch) st = awq__cuda_model_enter(ctx, s->c);
    if (!st) {
        bytes = awq__cuda_work_place(c, rows, w, 0);
        st = awq__cuda_model_take(ctx, s, bytes);
        if (!st) w->taken = bytes;
        if (!st) st = awq__cuda_arena_reserve(ctx, s->c, &w->memory, bytes);
        if (!st) st = awq__cuda_arena_alloc(ctx, s->c, &w->memory, bytes, &at);
        if (!st) {
            awq__cuda_work_place(c, rows, w, at);
            st = AWQ__CU(ctx, s->c, MemsetD8Async, (at, 0, bytes, s->c->stream));
        }
        if (!st) st = awq__cuda_model_work_room(ctx, w);
        awq__cuda_model_leave(s->c, st);
    }
    if (st) awq__cuda_model_work_free(ctx, w);
    else *work = w;
    return st;
}

/* --- a pass */

/* Queues a kernel: NAME, or NAME_f16 and NAME_bf16 where typed. */
static awq_status awq__cuda_model_queue(awq_ctx *ctx, const awq__cuda_share *s, int family, const char *name,
                                        int typed, int64_t x, int64_t y, int64_t z, unsigned threads,
                                        size_t shared, void *arg)
{
    awq__cuda_kernel k;
    unsigned grid[3];
    char full[48];
    void *params[1];
    snprintf(full, sizeof full, "%s%s", name, !typed ? "" : s->dtype == AWQ_BF16 ? "_bf16" : "_f16");
    grid[0] = (unsigned)x;
    grid[1] = (unsigned)y;
    grid[2] = (unsigned)z;
    params[0] = arg;
    AWQ__TRY(awq__cuda_find(ctx, s->c, family, full, shared, &k));
    return awq__cuda_queue(ctx, s->c, &k, grid, threads, 1, params);
}

/* y [rows][y_stride] fp32 from column `column` on = x W^T; a linear that there is not does nothing */
static awq_status awq__cuda_model_mm(awq_ctx *ctx, const awq__cuda_share *s, const awq_cuda_linear *l,
                                     uint64_t x, int64_t rows, uint64_t y, int64_t y_stride, int64_t column)
{
    if (!l->weights || !rows) return AWQ_OK;
    return awq_cuda_linear_run(ctx, s->c, l, x, AWQ__CUDA_PAD(l->in_features), rows, AWQ_F32,
                               y + (uint64_t)column * 4, y_stride, s->flags);
}

static awq__cuda_norm awq__cuda_model_norm(const awq__cuda_work *w)
{
    const awq_config *c = &w->s->m->config;
    awq__cuda_norm p;
    memset(&p, 0, sizeof p);
    p.x = w->x;
    p.h = p.x_stride = p.out_stride = (int32_t)c->hidden_size;
    p.xn_stride = (int32_t)AWQ__CUDA_PAD(c->hidden_size);
    p.kind = c->family->norm < AWQ_NORM_LAYER    ? AWQ__CUDA_NORM_RMS
             : c->family->norm == AWQ_NORM_LAYER ? AWQ__CUDA_NORM_LAYER
                                                 : AWQ__CUDA_NORM_LAYER_BIAS;
    p.out_f32 = 1;
    p.residual_scale = (float)c->residual_scale;
    p.eps = (float)c->rms_norm_eps;
    return p;
}

static awq_status awq__cuda_model_norm_run(awq_ctx *ctx, const awq__cuda_share *s, int64_t rows,
                                           awq__cuda_norm *p)
{
    return awq__cuda_model_queue(ctx, s, AWQ__CUDA_ROWS, "awq_norm", 1, rows, 1, 1, awq__cuda_row_threads(p->h),
                                 awq__cuda_norm_shared(p->h), p);
}

/* xn = norm(x), padded, of a vector of latent attention */
static awq_status awq__cuda_model_latent_norm(awq_ctx *ctx, const awq__cuda_work *w, uint64_t x,
                                              int64_t x_stride, int64_t n, uint64_t weight, uint64_t xn)
{
    awq__cuda_norm p = awq__cuda_model_norm(w);
    p.x = x;
    p.h = (int32_t)n;
    p.x_stride = (int32_t)x_stride;
    p.xn_stride = (int32_t)AWQ__CUDA_PAD(n);
    p.kind = AWQ__CUDA_NORM_RMS;
    p.eps = AWQ__LATENT_EPS;
    p.in_norm = weight;
    p.xn = xn;
    return awq__cuda_model_norm_run(ctx, w->s, w->n, &p);
}

static awq_status awq__cuda_model_embed(awq_ctx *ctx, awq__cuda_work *w)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    const awq_cuda_linear *l = &s->head;
    awq_dtype type = s->embed_dtype;
    const char *name;
    awq__cuda_embed p;
    memset(&p, 0, sizeof p);
    p.ids = w->ids_at;
    p.x = w->x;
    p.h = (int32_t)c->hidden_size;
    p.scale = (float)c->embedding_scale;
    p.table = s->embed;
    if (type == AWQ_DTYPE_NONE) {
        p.table = l->weights;
        p.sz = l->params;
        p.n_pad = (int32_t)AWQ__CUDA_PAD(l->out_features);
        p.k_tiles = (int32_t)(AWQ__CUDA_PAD(l->in_features) / 64);
        p.group = (int32_t)(l->group_size == l->in_features ? 64 * p.k_tiles
                            : l->group_size % 64            ? 32
                                                            : l->group_size);
        if (l->bits == 16) type = l->dtype;
    }
    name = type == AWQ_F32    ? "awq_embed_f32"
           : type == AWQ_F16  ? "awq_embed_f16"
           : type == AWQ_BF16 ? "awq_embed_bf16"
                              : "awq_embed_8";
    return awq__cuda_model_queue(ctx, s, AWQ__CUDA_ROWS, name, 0, w->n, 1, 1, awq__cuda_row_threads(p.h), 0,
                                 &p);
}

/* stretches of the pass; returns how many, and how many pages they have together */
static int awq__cuda_model_stretches(awq__cuda_work *w, const awq__work *from, size_t *pages)
{
    int64_t r;
    int n = 0;
    *pages = 0;
    for (r = 0; r < w->n; r++) {
        const awq__row *row = &from->row[r];
        awq__cuda_stretch *last = &w->stretch[n - (n > 0)];
        w->pos[r] = row->kv ? (int32_t)row->pos : -1;
        if (n && row->kv && row->kv == row[-1].kv && row->pos == row[-1].pos + 1) last->rows++;
        else {
            last = &w->stretch[n++];
            last->row = (int32_t)r;
            last->rows = 1;
            last->pos = row->kv ? row->pos : 0;
        }
    }
    for (r = 0; r < n; r++) *pages += (size_t)((w->stretch[r].pos + w->stretch[r].rows - 1) / AWQ__PAGE) + 1;
    return n;
}

/* Fills w->room with what the pass has of its own and sends it. ids may be NULL. */
static awq_status awq__cuda_model_send(awq_ctx *ctx, awq__cuda_work *w, const awq__work *from, int i_share,
                                       const int32_t *ids)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    const awq__cuda_device d = awq__cuda_plan_device(s->c, s->c->info.multiprocessors);
    const size_t n = (size_t)w->n, rope = n * (size_t)c->rope_dim * sizeof(float);
    size_t at[AWQ__CUDA_PARTS], all, pages, used = 0;
    int32_t *slot;
    uint64_t *page;
    int i, k, stretches = awq__cuda_model_stretches(w, from, &pages);
    all = awq__cuda_model_parts(c, w->n, pages, at);
    AWQ__TRY(awq__cuda_model_pass_room(ctx, w, all));
    slot = (int32_t *)(void *)(w->room + at[AWQ__CUDA_SLOT]);
    page = (uint64_t *)(void *)(w->room + at[AWQ__CUDA_PAGE]);
    if (ids) memcpy(w->room + at[AWQ__CUDA_IDS], ids, n * sizeof *ids);
    memcpy(w->room + at[AWQ__CUDA_POS], w->pos, n * sizeof *w->pos);
    memset(w->room + at[AWQ__CUDA_SAID], 0, (n + AWQ__CUDA_SAYS) * 4);
    memcpy(w->room + at[AWQ__CUDA_HEAD], w->head, sizeof w->head);
    if (rope) memcpy(w->room + at[AWQ__CUDA_COS], from->cos_, rope);
    if (rope) memcpy(w->room + at[AWQ__CUDA_SIN], from->sin_, rope);
    for (k = 0; k < 2; k++)
        if (!awq__cuda_attend_plan_for(
                &d, (uint32_t)s->c->shared_limit, c->num_attention_heads, c->num_key_value_heads, c->head_dim,
                c->v_head_dim, k ? c->sliding_window : 0, w->stretch, stretches, s->flags & AWQ_CUDA_SAME_BITS,
                (int32_t(*)[4])(void *)(w->room + at[AWQ__CUDA_TILE + k]), &w->plan[k]))
            return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: no kernel attends to %lld rows of %llu pages",
                             s->c->as_device.name, (long long)w->n, (unsigned long long)pages);
    for (i = 0; i < stretches; i++) { /* a sequence's slot is where its pages begin in the list of all */
        const awq__cuda_stretch *some = &w->stretch[i];
        const awq__kv *kv = from->row[some->row].kv;
        size_t count = (size_t)((some->pos + some->rows - 1) / AWQ__PAGE) + 1;
        for (k = 0; k < some->rows; k++) slot[some->row + k] = (int32_t)used;
        if (kv) memcpy(page + used, kv->remote[i_share], count * sizeof *page);
        used += count;
    }
    w->ids_at = w->pass->ptr + at[AWQ__CUDA_IDS];
    w->pos_at = w->pass->ptr + at[AWQ__CUDA_POS];
    w->slot_at = w->pass->ptr + at[AWQ__CUDA_SLOT];
    w->said_at = w->pass->ptr + at[AWQ__CUDA_SAID];
    w->answer = (int32_t *)(void *)(w->room + at[AWQ__CUDA_SAID]);
    w->head_at = w->pass->ptr + at[AWQ__CUDA_HEAD];
    w->cos_at = w->pass->ptr + at[AWQ__CUDA_COS];
    w->sin_at = w->pass->ptr + at[AWQ__CUDA_SIN];
    w->tile_at[0] = w->pass->ptr + at[AWQ__CUDA_TILE];
    w->tile_at[1] = w->pass->ptr + at[AWQ__CUDA_TILE_SLIDING];
    w->page_at = w->pass->ptr + at[AWQ__CUDA_PAGE];
    return awq__cuda_upload(ctx, s->c, w->pass->ptr, w->room, all);
}

static awq_status awq__cuda_model_begin(awq_ctx *ctx, void *work, const awq__work *from, int i_share, int64_t n,
                                        const int32_t *ids, const float *x)
{
    awq__cuda_work *w = (awq__cuda_work *)work;
    awq_cuda *c = w->s->c;
    awq_status st;
    AWQ__TRY(awq__cuda_model_enter(ctx, c));
    w->n = n;
    w->n_head = w->top = w->headed = w->said = 0;
    if (awq__cuda_model_last(w->s) && from->n_head > 0 && from->n_head <= AWQ__HEAD_ROWS) {
        w->n_head = (int32_t)from->n_head;
        w->top = from->top;
        memcpy(w->head, from->head, (size_t)w->n_head * sizeof *w->head);
    }
    st = awq__cuda_model_send(ctx, w, from, i_share, ids);
    if (!st && x) st = awq__cuda_upload(ctx, c, w->x, x, (size_t)(n * w->s->m->config.hidden_size) * sizeof *x);
    return awq__cuda_model_leave(c, st);
}

/* q, k, v of the latent: xn -> q (in qkv), kv_a, kv_b */
static awq_status awq__cuda_model_latent(awq_ctx *ctx, awq__cuda_work *w, const awq__cuda_layer *l)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    int64_t Q = (int64_t)c->num_attention_heads * c->head_dim, kv = c->kv_lora_rank + c->rope_dim, n = w->n;
    AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[AWQ_Q_PROJ], w->xn, n, w->qkv, Q, 0));
    AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[AWQ_KV_A_PROJ], w->xn, n, w->kv_a, kv, 0));
    AWQ__TRY(
        awq__cuda_model_latent_norm(ctx, w, w->kv_a, kv, c->kv_lora_rank, l->vec[AWQ_KV_A_NORM], w->kv_an));
    AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[AWQ_KV_B_PROJ], w->kv_an, n, w->kv_b,
                                l->linear[AWQ_KV_B_PROJ].out_features, 0));
    if (!c->q_lora_rank) return AWQ_OK;
    AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[AWQ_Q_A_PROJ], w->xn, n, w->q_a, c->q_lora_rank, 0));
    AWQ__TRY(awq__cuda_model_latent_norm(ctx, w, w->q_a, c->q_lora_rank, c->q_lora_rank, l->vec[AWQ_Q_A_NORM],
                                         w->q_an));
    return awq__cuda_model_mm(ctx, s, &l->linear[AWQ_Q_B_PROJ], w->q_an, n, w->qkv, Q, 0);
}

static awq_status awq__cuda_model_attend(awq_ctx *ctx, awq__cuda_work *w, const awq__cuda_layer *l, int layer)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    const awq__cache *cache = &s->m->cache;
    const int sliding = c->layer_is_sliding[layer];
    const awq__cuda_attend_plan *plan = &w->plan[sliding];
    awq__cuda_attend p;
    int k, at, some;
    memset(&p, 0, sizeof p);
    AWQ__TRY(awq__cuda_workspace(ctx, s->c, plan->partial, plan->counters));
    p.q = w->q;
    p.out = w->att;
    p.pos = w->pos_at;
    p.slot = w->slot_at;
    p.page = w->page_at;
    p.sink = l->vec[AWQ_SINKS];
    p.partial = s->c->partial ? s->c->partial->ptr : 0;
    p.counters = s->c->counters ? s->c->counters->ptr : 0;
    p.cache_at = (uint64_t)(layer - s->first) * (uint64_t)cache->heads * cache->head;
    p.head_bytes = cache->head;
    p.heads = c->num_attention_heads;
    p.group = c->num_attention_heads / c->num_key_value_heads;
    p.k_dim = c->head_dim;
    p.v_dim = c->v_head_dim;
    p.v_row = (int32_t)cache->v_row;
    p.out_stride = (int32_t)AWQ__CUDA_PAD((int64_t)c->num_attention_heads * c->v_head_dim);
    p.page_stride = 1;
    p.window = sliding ? (int32_t)AWQ__MIN(c->sliding_window, (int64_t)INT32_MAX) : 0;
    p.split_pages = plan->split_pages;
    p.bf16 = s->dtype == AWQ_BF16;
    p.scale = (float)c->attention_scale;
    p.cap = (float)c->attention_cap;
    for (k = 0; k < 2; k++)
        for (at = 0; at < plan->tiles[k]; at += some) {
            some = k ? plan->tiles[k] : AWQ__MIN(plan->at_once, plan->tiles[k] - at);
            p.tile = w->tile_at[sliding] + 16 * (uint64_t)(at + (k ? plan->tiles[0] : 0));
            AWQ__TRY(awq__cuda_model_queue(ctx, s, AWQ__CUDA_ATTENTION, plan->kernel[k], 0, some,
                                           plan->grid[k][1], plan->grid[k][2], plan->threads[k], plan->smem[k],
                                           &p));
        }
    return AWQ_OK;
}

/* xn -> out */
static awq_status awq__cuda_model_attention(awq_ctx *ctx, awq__cuda_work *w, const awq__cuda_layer *l,
                                            int layer)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    const awq__cache *cache = &s->m->cache;
    const int warps = 8, latent = c->kv_lora_rank > 0;
    int64_t Q = (int64_t)c->num_attention_heads * c->head_dim, K = awq__k_width(c),
            all = Q + K + awq__v_width(c);
    awq__cuda_place p;
    memset(&p, 0, sizeof p);
    if (latent) AWQ__TRY(awq__cuda_model_latent(ctx, w, l));
    else {
        AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[AWQ_Q_PROJ], w->xn, w->n, w->qkv, all, 0));
        AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[AWQ_K_PROJ], w->xn, w->n, w->qkv, all, Q));
        AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[AWQ_V_PROJ], w->xn, w->n, w->qkv, all, Q + K));
    }
    p.q = w->qkv;
    p.q_stride = p.k_stride = p.v_stride = (int32_t)all;
    p.k = w->qkv + (uint64_t)Q * 4;
    p.v = p.k + (uint64_t)K * 4;
    if (latent) {
        p.nope = c->rope_first;
        p.q_stride = (int32_t)Q;
        p.k_stride = p.v_stride = (int32_t)l->linear[AWQ_KV_B_PROJ].out_features;
        p.k = w->kv_b;
        p.v = w->kv_b + (uint64_t)p.nope * 4;
        p.shared = w->kv_a + (uint64_t)c->kv_lora_rank * 4;
        p.shared_stride = (int32_t)(c->kv_lora_rank + c->rope_dim);
    }
    p.q_norm = l->vec[AWQ_Q_NORM];
    p.k_norm = l->vec[AWQ_K_NORM];
    if (c->layer_has_rope[layer] && c->rope_dim) p.cos_ = w->cos_at, p.sin_ = w->sin_at;
    p.pos = w->pos_at;
    p.slot = w->slot_at;
    p.page = w->page_at;
    p.q_out = w->q;
    p.cache_at = (uint64_t)(layer - s->first) * (uint64_t)cache->heads * cache->head;
    p.head_bytes = cache->head;
    p.page_stride = 1;
    p.heads = c->num_attention_heads;
    p.kv_heads = c->num_key_value_heads;
    p.k_dim = c->head_dim;
    p.v_dim = c->v_head_dim;
    p.v_row = (int32_t)cache->v_row;
    p.rope_dim = c->rope_dim;
    p.rope_first = c->rope_first;
    p.rope_pairs = c->rope_pairs;
    p.rope_table = c->layer_is_sliding[layer];
    p.qk_norm = (int32_t)c->qk_norm;
    p.f32 = 1;
    p.clip = (float)c->clip_qkv;
    p.eps = (float)c->rms_norm_eps;
    AWQ__TRY(awq__cuda_model_queue(ctx, s, AWQ__CUDA_ROWS, "awq_place", 1, w->n,
                                   (p.heads + p.kv_heads + warps - 1) / warps, 1, 32 * (unsigned)warps,
                                   awq__cuda_place_shared(warps, p.k_dim), &p));
    AWQ__TRY(awq__cuda_model_attend(ctx, w, l, layer));
    return awq__cuda_model_mm(ctx, s, &l->linear[AWQ_O_PROJ], w->att, w->n, w->out, c->hidden_size, 0);
}

/* y [rows][n padded] = act(gate) * up of gate_up [rows][2 n]; rows *count (0: all) */
static awq_status awq__cuda_model_act(awq_ctx *ctx, awq__cuda_work *w, const awq__cuda_layer *l,
                                      uint64_t gate_up, int64_t n, int has_up, int64_t rows, uint64_t count,
                                      uint64_t y)
{
    const awq_config *c = &w->s->m->config;
    awq__cuda_act p;
    memset(&p, 0, sizeof p);
    p.gate = gate_up;
    p.up = has_up ? gate_up + (uint64_t)n * 4 : 0;
    p.scales = l->vec[AWQ_ACT_SCALES];
    p.count = count;
    p.y = y;
    p.n = (int32_t)n;
    p.gate_stride = p.up_stride = (int32_t)(2 * n);
    p.y_stride = (int32_t)AWQ__CUDA_PAD(n);
    p.kind = (int32_t)c->act;
    p.f32 = 1;
    p.alpha = (float)c->act_alpha;
    p.limit = (float)c->act_limit;
    return awq__cuda_model_queue(ctx, w->s, AWQ__CUDA_ROWS, "awq_act", 1, rows, awq__cuda_act_blocks(n), 1, 256,
                                 0, &p);
}

/* gate and up, act, down: xn -> y; the linear `gate` of a layer, up behind it, `down` */
static awq_status awq__cuda_model_mlp(awq_ctx *ctx, awq__cuda_work *w, const awq__cuda_layer *l, int gate,
                                      int down, int64_t n, uint64_t y)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[gate], w->xn, w->n, w->gate_up, 2 * n, 0));
    AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[gate + 1], w->xn, w->n, w->gate_up, 2 * n, n));
    AWQ__TRY(
        awq__cuda_model_act(ctx, w, l, w->gate_up, n, c->family->linear[AWQ_UP_PROJ] != NULL, w->n, 0, w->act));
    return awq__cuda_model_mm(ctx, s, &l->linear[down], w->act, w->n, y, c->hidden_size, 0);
}

/* Gate (0), up (1) or down (2) of all experts: y [slots][y_stride] fp32 from column `column` on; one that there
   is not does nothing */
static awq_status awq__cuda_model_experts_mm(awq_ctx *ctx, awq__cuda_work *w, const awq__cuda_layer *l,
                                             int which, uint64_t x, uint64_t y, int64_t y_stride,
                                             int64_t column)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    const awq_cuda_linear *first = l->expert + which * c->num_experts;
    awq__cuda_device d = awq__cuda_plan_device(s->c, s->c->info.multiprocessors);
    awq__cuda_experts p;
    awq__cuda_launch plan;
    const uint32_t many = 1u << (AWQ__CUDA_TEST_MANY_AT + (s->dtype == AWQ_BF16));
    if (!l->table[which]) return AWQ_OK;
    memset(&p, 0, sizeof p);
    p.linear = awq__cuda_linear_argument(first);
    p.linear.x = x;
    p.linear.y = y + (uint64_t)column * 4;
    p.linear.x_stride = (int32_t)AWQ__CUDA_PAD(first->in_features);
    p.linear.y_stride = (int32_t)y_stride;
    p.linear.splits = 1;
    p.linear.flags = AWQ__CUDA_Y_F32;
    p.table = l->table[which];
    p.start = w->start;
    p.experts = c->num_experts;
    if (!awq__cuda_experts_plan(&d, first->bits, (int)w->n, c->num_experts, c->experts_per_token, p.linear.n,
                                (int)first->in_features, p.linear.group, s->dtype == AWQ_BF16,
                                s->flags & AWQ_CUDA_SAME_BITS, &plan))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "no CUDA kernel for %d experts of %lld x %lld", c->num_experts,
                         (long long)first->out_features, (long long)first->in_features);
    /* not for every model: compiled and tried by the first pass that wants it, which is not a recorded one */
    if (awq__cuda_family_of(plan.kernel) == AWQ__CUDA_EXPERTS_WGMMA && !(s->c->tested & many)
        && !s->c->desc.no_selftest)
        AWQ__TRY(awq__cuda_selftest(ctx, s->c, many));
    return awq__cuda_model_queue(ctx, s, awq__cuda_family_of(plan.kernel), plan.kernel, 0, plan.grid[0],
                                 plan.grid[1], plan.grid[2], plan.threads, plan.smem, &p);
}

/* Which experts take which rows, and what they make of them: xn -> oe. How many rows each has is known on the
   device alone. */
static awq_status awq__cuda_model_experts(awq_ctx *ctx, awq__cuda_work *w, const awq__cuda_layer *l)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    const int E = c->num_experts, T = c->experts_per_token;
    const int64_t H = c->hidden_size, S = w->n * T, n = c->expert_size, x_row = AWQ__CUDA_PAD(H);
    const uint64_t count = w->start + (uint64_t)E * 4;
    awq_cuda_linear router = l->linear[AWQ_ROUTER];
    awq__cuda_route route;
    awq__cuda_slots slots;
    awq__cuda_gather gather;
    memset(&route, 0, sizeof route);
    memset(&slots, 0, sizeof slots);
    memset(&gather, 0, sizeof gather);
    /* Scores that lie close decide which experts are taken: 8 bits of xn in bf16, 11 in f16, are too few, and
       those of the rest are added. */
    AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[AWQ_ROUTER], w->xn, w->n, w->scores, E, 0));
    router.bias = 0;
    AWQ__TRY(awq_cuda_linear_run(ctx, s->c, &router, w->xn_lo, x_row, w->n, AWQ_F32, w->scores, E,
                                 s->flags | AWQ_CUDA_ADD));
    route.scores = w->scores;
    route.bias = l->vec[AWQ_SCORE_BIAS];
    route.pos = w->pos_at;
    route.pick = slots.pick = w->pick;
    route.weight = w->weight;
    route.rows = (int32_t)w->n;
    route.experts = route.stride = slots.experts = E;
    route.top = slots.top = T;
    route.groups = AWQ__MAX(c->expert_groups, 1);
    route.top_groups = c->expert_top_groups;
    route.score = (int32_t)c->family->score;
    route.norm_topk = c->norm_topk_prob;
    route.routed_scale = (float)c->routed_scale;
    AWQ__TRY(awq__cuda_model_queue(ctx, s, AWQ__CUDA_MOE, "awq_route", 0, w->n, 1, 1, 32,
                                   awq__cuda_route_shared(E, route.groups, T), &route));
    slots.start = w->start;
    slots.slot = w->slot;
    slots.from = w->from;
    slots.n = (int32_t)S;
    AWQ__TRY(awq__cuda_model_queue(ctx, s, AWQ__CUDA_MOE, "awq_slots", 0, E / 8 + 1, 1, 1, 256, 0, &slots));
    gather.xn = w->xn;
    gather.xe = w->xe;
    gather.from = w->from;
    gather.count = count;
    gather.columns = gather.xn_stride = gather.xe_stride = (int32_t)x_row;
    AWQ__TRY(awq__cuda_model_queue(ctx, s, AWQ__CUDA_MOE, "awq_gather", 0, S, 1, 1, 256, 0, &gather));
    AWQ__TRY(awq__cuda_model_experts_mm(ctx, w, l, 0, w->xe, w->ge, 2 * n, 0));
    AWQ__TRY(awq__cuda_model_experts_mm(ctx, w, l, 1, w->xe, w->ge, 2 * n, n));
    AWQ__TRY(awq__cuda_model_act(ctx, w, l, w->ge, n, c->family->linear[AWQ_EXPERT_UP] != NULL, S, count,
                                 w->ae));
    return awq__cuda_model_experts_mm(ctx, w, l, 2, w->ae, w->oe, H, 0);
}

static awq_status awq__cuda_model_combine(awq_ctx *ctx, awq__cuda_work *w, const awq__cuda_layer *l)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    awq__cuda_combine p;
    memset(&p, 0, sizeof p);
    if (c->shared_size) {
        AWQ__TRY(awq__cuda_model_mlp(ctx, w, l, AWQ_SHARED_GATE, AWQ_SHARED_DOWN, c->shared_size, w->shared));
        AWQ__TRY(awq__cuda_model_mm(ctx, s, &l->linear[AWQ_SHARED_ROUTER], w->xn, w->n, w->shared_gate, 1, 0));
        p.shared = w->shared;
        p.shared_gate = l->linear[AWQ_SHARED_ROUTER].weights ? w->shared_gate : 0;
    }
    p.oe = w->oe;
    p.slot = w->slot;
    p.weight = w->weight;
    p.out = w->out;
    p.h = p.oe_stride = p.shared_stride = p.out_stride = (int32_t)c->hidden_size;
    p.gate_stride = 1;
    p.top = c->experts_per_token;
    p.f32 = 1;
    return awq__cuda_model_queue(ctx, s, AWQ__CUDA_MOE, "awq_combine", 1, w->n, (c->hidden_size + 1023) / 1024,
                                 1, 256, 0, &p);
}

/* One layer, whose first norm has been; `next`: the norm of the layer behind it follows too. */
static awq_status awq__cuda_model_block(awq_ctx *ctx, awq__cuda_work *w, int layer, int next)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    const awq__cuda_layer *l = &s->layer[layer - s->first];
    awq__cuda_norm p = awq__cuda_model_norm(w);
    AWQ__TRY(awq__cuda_model_attention(ctx, w, l, layer));
    p.out = w->out;
    p.out_norm = l->vec[AWQ_ATTN_OUT_NORM];
    p.in_norm = c->parallel ? 0 : l->vec[AWQ_POST_NORM];
    p.xn = c->parallel ? 0 : w->xn;
    p.xn_lo = p.xn ? w->xn_lo : 0;
    AWQ__TRY(awq__cuda_model_norm_run(ctx, s, w->n, &p));
    if (c->layer_has_experts[layer]) {
        AWQ__TRY(awq__cuda_model_experts(ctx, w, l));
        AWQ__TRY(awq__cuda_model_combine(ctx, w, l));
    } else AWQ__TRY(awq__cuda_model_mlp(ctx, w, l, AWQ_GATE_PROJ, AWQ_DOWN_PROJ, c->intermediate_size, w->out));
    p.out_norm = l->vec[AWQ_MLP_OUT_NORM];
    p.in_norm = next ? l[1].vec[AWQ_INPUT_NORM] : 0;
    p.xn = next ? w->xn : 0;
    p.xn_lo = p.xn ? w->xn_lo : 0;
    p.bad = w->said_at;
    p.mark = 1 + layer;
    return awq__cuda_model_norm_run(ctx, s, w->n, &p);
}

/* logits of the first n rows at head_at, and the best of each, w->top of them if that is not 0 */
static awq_status awq__cuda_model_head_run(awq_ctx *ctx, awq__cuda_work *w, int64_t n)
{
    awq__cuda_share *s = w->s;
    const awq_config *c = &s->m->config;
    const uint32_t parts = awq__cuda_logits_parts(c->vocab_size);
    awq__cuda_norm p = awq__cuda_model_norm(w);
    awq__cuda_logits g;
    awq__cuda_top t;
    p.rows = w->head_at;
    p.in_norm = s->final_norm;
    p.xn = w->xn;
    AWQ__TRY(awq__cuda_model_norm_run(ctx, s, n, &p));
    AWQ__TRY(awq__cuda_model_mm(ctx, s, &s->head, w->xn, n, w->logits, c->vocab_size, 0));
    memset(&g, 0, sizeof g);
    g.logits = w->logits;
    g.partial = s->c->partial->ptr; /* there is room, and zeros, since the work was made */
    g.counters = s->c->counters->ptr;
    g.best = w->said_at + (uint64_t)w->n * 4;
    g.n = g.stride = (int32_t)c->vocab_size;
    g.scale = (float)c->logit_scale;
    g.cap = (float)c->logit_cap;
    AWQ__TRY(awq__cuda_model_queue(ctx, s, AWQ__CUDA_ROWS, "awq_logits", 0, parts, n, 1, 1024, 256, &g));
    if (!w->top) return AWQ_OK;
    memset(&t, 0, sizeof t);
    t.logits = g.logits;
    t.partial = g.partial;
    t.counters = g.counters;
    t.bad = g.best + 4 * AWQ__HEAD_ROWS;
    t.id = t.bad + 4 * AWQ__HEAD_ROWS;
    t.value = t.id + 4 * AWQ__HEAD_ROWS * (uint64_t)w->top;
    t.n = g.n;
    t.stride = g.stride;
    t.k = w->top;
    return awq__cuda_model_queue(ctx, s, AWQ__CUDA_SAMPLE, "awq_top", 0, parts, n, 1, 1024, 512, &t);
}

/* Layers first to first + n, behind embeddings if they are a model's first; with `head` the head too */
static awq_status awq__cuda_model_some(awq_ctx *ctx, awq__cuda_work *w, int first, int n, int head)
{
    awq__cuda_share *s = w->s;
    awq__cuda_norm p = awq__cuda_model_norm(w);
    int i;
    if (!first) AWQ__TRY(awq__cuda_model_embed(ctx, w));
    p.in_norm = n ? s->layer[first - s->first].vec[AWQ_INPUT_NORM] : 0;
    p.xn = w->xn;
    p.xn_lo = w->xn_lo;
    if (n) AWQ__TRY(awq__cuda_model_norm_run(ctx, s, w->n, &p));
    for (i = first; i < first + n; i++) AWQ__TRY(awq__cuda_model_block(ctx, w, i, i + 1 < first + n));
    return head ? awq__cuda_model_head_run(ctx, w, w->n_head) : AWQ_OK;
}

/* The recorded pass like this one, or a place for it: NULL the first time that it comes. */
static awq__cuda_graph *awq__cuda_model_graph(awq__cuda_work *w)
{
    awq_cuda *c = w->s->c;
    awq__cuda_graph *g, *oldest = w->graph, *end = w->graph + sizeof w->graph / sizeof w->graph[0];
    w->passes++;
    for (g = w->graph; g < end; g++) {
        if (g->used < oldest->used) oldest = g;
        if (!g->used || g->n != w->n || g->n_head != w->n_head || g->top != w->top || g->pass != w->pass->ptr
            || g->partial != c->partial->ptr || g->counters != c->counters->ptr
            || memcmp(g->plan, w->plan, sizeof g->plan)) continue;
        g->used = w->passes;
        return g;
    }
    if (oldest->ready) {
        if (!c->lost) c->cu.StreamSynchronize(c->stream);
        awq__cuda_graph_free(c, oldest->ready);
    }
    oldest->ready = NULL;
    oldest->used = w->passes;
    oldest->n = w->n;
    oldest->n_head = w->n_head;
    oldest->top = w->top;
    oldest->pass = w->pass->ptr;
    oldest->partial = c->partial->ptr;
    oldest->counters = c->counters->ptr;
    memcpy(oldest->plan, w->plan, sizeof oldest->plan);
    return NULL;
}

/* All layers of the share. A pass that comes again is recorded, so that every kernel has been asked for by
   then, and from then on it is one launch. */
static awq_status awq__cuda_model_whole(awq_ctx *ctx, awq__cuda_work *w)
{
    awq__cuda_share *s = w->s;
    awq__cuda_graph *g = w->plain ? NULL : awq__cuda_model_graph(w);
    awq_error err = ctx->err;
    if (g && !g->ready) {
        awq_status st = awq__cuda_record_begin(ctx, s->c);
        if (!st)
            st = awq__cuda_record_end(ctx, s->c, awq__cuda_model_some(ctx, w, s->first, s->n, w->n_head > 0),
                                      &g->ready);
        if (s->c->lost) return st;
        if (st) { /* whatever it was, plain launches say so too, or do it */
            awq__log(ctx, AWQ_LOG_INFO, "a pass is not recorded: %s", ctx->err.text);
            ctx->err = err;
            if (++w->failed == 2) s->c->programmatic = 0; /* drivers differ in what may be in a recording */
            w->plain = w->failed == 3;
        }
    }
    if (g && g->ready) return awq__cuda_graph_run(ctx, s->c, g->ready);
    return awq__cuda_model_some(ctx, w, s->first, s->n, w->n_head > 0);
}

static awq_status awq__cuda_model_layers(awq_ctx *ctx, void *work, const awq__work *from, int first, int n)
{
    awq__cuda_work *w = (awq__cuda_work *)work;
    awq__cuda_share *s = w->s;
    awq_status st = AWQ_OK;
    int64_t r;
    int left = 0;
    AWQ__TRY(awq__cuda_model_enter(ctx, s->c));
    for (r = 0; r < w->n; r++)
        if (!from->row[r].kv && w->pos[r] >= 0) {
            w->pos[r] = -1;
            left = 1;
        }
    if (left) st = awq__cuda_upload(ctx, s->c, w->pos_at, w->pos, (size_t)w->n * 4);
    w->said = 0;
    if (!st && n == s->n) {
        st = awq__cuda_model_whole(ctx, w);
        w->headed = w->n_head > 0;
    } else if (!st) st = awq__cuda_model_some(ctx, w, first, n, 0);
    return awq__cuda_model_leave(s->c, st);
}

/* What was said of rows and by the head comes here; waits. */
static awq_status awq__cuda_model_listen(awq_ctx *ctx, awq__cuda_work *w)
{
    if (w->said) return AWQ_OK;
    AWQ__TRY(awq__cuda_download(ctx, w->s->c, w->answer, w->said_at,
                                (size_t)(w->n + AWQ__HEAD_ROWS * (2 + 2 * w->top)) * 4));
    w->said = 1;
    return AWQ_OK;
}

static awq_status awq__cuda_model_result(awq_ctx *ctx, void *work, int norm, int64_t first, int64_t n, float *x,
                                         int *bad)
{
    awq__cuda_work *w = (awq__cuda_work *)work;
    awq_cuda *c = w->s->c;
    const int64_t H = w->s->m->config.hidden_size;
    uint64_t from = w->x + (uint64_t)(first * H) * 4;
    awq__cuda_norm p = awq__cuda_model_norm(w);
    awq_status st = AWQ_OK;
    AWQ__TRY(awq__cuda_model_enter(ctx, c));
    if (x && n && norm) {
        p.x = from;
        p.in_norm = w->s->final_norm;
        p.xn32 = from = w->out;
        st = awq__cuda_model_norm_run(ctx, w->s, n, &p);
    }
    if (!st && x) st = awq__cuda_download(ctx, c, x, from, (size_t)(n * H) * sizeof *x);
    if (!st && bad) st = awq__cuda_model_listen(ctx, w);
    if (!st && bad) memcpy(bad, w->answer, (size_t)w->n * sizeof *bad);
    if (!st && !x && !bad) st = AWQ__CU(ctx, c, StreamSynchronize, (c->stream));
    return awq__cuda_model_leave(c, st);
}

static awq_status awq__cuda_model_logits(awq_ctx *ctx, void *work, const int32_t *rows, int64_t n,
                                         float *logits, int32_t *best)
{
    awq__cuda_work *w = (awq__cuda_work *)work;
    awq__cuda_share *s = w->s;
    const size_t vocab = (size_t)s->m->config.vocab_size;
    const int32_t *says = w->answer + w->n + 2 * AWQ__HEAD_ROWS;
    awq_status st = AWQ_OK;
    int64_t r, some;
    int32_t top = 0;
    for (r = 0; best && r < n; r++) top = AWQ__MAX(top, best[r]);
    AWQ__TRY(awq__cuda_model_enter(ctx, s->c));
    if (!w->headed || n != w->n_head || top > w->top || memcmp(rows, w->head, (size_t)n * sizeof *rows)) {
        w->headed = w->said = 0;
        w->top = top;
        st = awq__cuda_upload(ctx, s->c, w->head_at, rows, (size_t)n * sizeof *rows);
        if (!st) st = awq__cuda_model_head_run(ctx, w, n);
    }
    if (!st && best) st = awq__cuda_model_listen(ctx, w);
    for (r = 0; !st && r < n; r += some) { /* rows side by side come at once */
        some = 1;
        if (best && best[r] != AWQ__WANT_LOGITS) {
            float *to = logits + (size_t)r * vocab;
            const size_t k = (size_t)best[r];
            memcpy(to, says + (AWQ__HEAD_ROWS + r) * w->top, k * sizeof *to);
            memcpy(to + k, says + r * w->top, k * sizeof *to);
            best[r] = w->answer[w->n + r];
            continue;
        }
        while (r + some < n && (!best || best[r + some] == AWQ__WANT_LOGITS)) some++;
        st = awq__cuda_download(ctx, s->c, logits + (size_t)r * vocab, w->logits + (uint64_t)r * vocab * 4,
                                (size_t)some * vocab * sizeof *logits);
    }
    return awq__cuda_model_leave(s->c, st);
}

static void awq__cuda_model_device(awq_cuda *c)
{
    awq_device *d = &c->as_device;
    snprintf(d->name, sizeof d->name, "cuda:%d (%.70s)", c->info.index, c->info.name);
    d->fit = awq__cuda_model_fit;
    d->load = awq__cuda_model_load;
    d->unload = awq__cuda_model_unload;
    d->work = awq__cuda_model_work;
    d->work_free = awq__cuda_model_work_free;
    d->page = awq__cuda_model_page;
    d->page_free = awq__cuda_model_page_free;
    d->page_copy = awq__cuda_model_page_copy;
    d->page_read = awq__cuda_model_page_read;
    d->page_write = awq__cuda_model_page_write;
    d->begin = awq__cuda_model_begin;
    d->layers = awq__cuda_model_layers;
    d->result = awq__cuda_model_result;
    d->head = awq__cuda_model_logits;
}

AWQ_API awq_device *awq_cuda_device(awq_cuda *c) { return c ? &c->as_device : NULL; }

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>selftest
   Each kernel of a model on inputs of a few rows, against the same in double here: a card that computes wrongly
   is refused before it answers. All inputs go to the device at once, all results come back at once.
   Invariants: results are 0xff before; the first kernel that is wrong, in the order of a pass, is named.
   Tests: tests/test_cuda_load.c makes each kernel wrong in turn */

#define AWQ__CUDA_PROBE ((size_t)256 << 10) /* bytes of inputs and results: heads of 256 take 202 KB */

typedef struct awq__cuda_probe {
    awq_cuda *c;
    char *in, *out; /* what goes to the device, and what is there when all is done */
    size_t used;
    uint64_t at, seed; /* at: of `in` on the device */
    int bf16;
    awq_status st;
} awq__cuda_probe;

static void *awq__cuda_probe_room(awq__cuda_probe *p, size_t bytes) /* of results, 0xff */
{
    void *to = p->in + p->used;
    p->used += (bytes + 255) / 256 * 256;
    memset(to, 0xff, bytes);
    return to;
}

static float *awq__cuda_probe_floats(awq__cuda_probe *p, int n) /* in (-1, 1) */
{
    float *to = (float *)awq__cuda_probe_room(p, (size_t)n * 4);
    int i;
    for (i = 0; i < n; i++) to[i] = 2 * awq__random_unit(&p->seed) - 1;
    return to;
}

static uint16_t *awq__cuda_probe_halves(awq__cuda_probe *p, int n, int bf16)
{
    uint16_t *to = (uint16_t *)awq__cuda_probe_room(p, (size_t)n * 2);
    int i;
    for (i = 0; i < n; i++) {
        float v = 2 * awq__random_unit(&p->seed) - 1;
        to[i] = bf16 ? awq__float_bf16(v) : awq__float_f16(v);
    }
    return to;
}

static uint64_t awq__cuda_probe_at(const awq__cuda_probe *p, const void *in)
{
    return p->at + (uint64_t)((const char *)in - p->in);
}

static const void *awq__cuda_probe_out(const awq__cuda_probe *p, const void *in)
{
    return p->out + ((const char *)in - p->in);
}

static double awq__cuda_probe_half(const awq__cuda_probe *p, const uint16_t *in, int i, int bf16)
{
    uint16_t h = ((const uint16_t *)awq__cuda_probe_out(p, in))[i];
    return bf16 ? awq__bf16_float(h) : awq__f16_float(h);
}

static void awq__cuda_probe_run(awq_ctx *ctx, awq__cuda_probe *p, int family, const char *name, int typed,
                                unsigned x, unsigned y, unsigned z, unsigned threads, size_t shared, void *arg)
{
    awq__cuda_kernel k;
    char full[48];
    unsigned grid[3];
    void *params[1];
    memset(&k, 0, sizeof k);
    grid[0] = x;
    grid[1] = y;
    grid[2] = z;
    params[0] = arg;
    snprintf(full, sizeof full, "%s%s", name, !typed ? "" : p->bf16 ? "_bf16" : "_f16");
    if (!p->st) p->st = awq__cuda_find(ctx, p->c, family, full, shared, &k);
    if (!p->st) p->st = awq__cuda_queue(ctx, p->c, &k, grid, threads, 1, params);
}

/* Number i of a kernel's results; off by 2^-10 of `size`, 2^-7 where it is rounded to bf16. */
static void awq__cuda_probe_check(awq_ctx *ctx, awq__cuda_probe *p, const char *name, int typed, int i,
                                  double got, double want, double size)
{
    if (p->st || fabs(got - want) <= size * (typed && p->bf16 ? 1.0 / 128 : 1.0 / 1024)) return;
    p->st = awq__fail(ctx, AWQ_E_DEVICE, "CUDA device %d (%s): %s%s computes wrongly: number %d is %g, not %g",
                      p->c->info.index, p->c->info.name, name,
                      !typed    ? ""
                      : p->bf16 ? "_bf16"
                                : "_f16",
                      i, got, want);
}

enum { AWQ__PROBE_ROWS = 2, AWQ__PROBE_N = 72 };

/* inputs and results of awq_norm, awq_place, awq_act */
typedef struct awq__cuda_probe_rows {
    float *x, *out, *w, *w_in, *q, *k, *v, *cos_, *sin_, *gate;
    uint16_t *xn, *xn_lo, *q_out, *page, *y;
    int32_t *pos, *slot;
    uint64_t *table;
} awq__cuda_probe_rows;

static void awq__cuda_probe_rows_run(awq_ctx *ctx, awq__cuda_probe *p, awq__cuda_probe_rows *r)
{
    const int n = AWQ__PROBE_N, rows = AWQ__PROBE_ROWS;
    awq__cuda_norm norm;
    awq__cuda_place place;
    awq__cuda_act act;
    int i;
    memset(&norm, 0, sizeof norm);
    memset(&place, 0, sizeof place);
    memset(&act, 0, sizeof act);
    r->x = awq__cuda_probe_floats(p, rows * n);
    r->out = awq__cuda_probe_floats(p, rows * n);
    r->w = awq__cuda_probe_floats(p, n);
    r->w_in = awq__cuda_probe_floats(p, n);
    r->xn = (uint16_t *)awq__cuda_probe_room(p, (size_t)rows * 128 * 2);
    r->xn_lo = (uint16_t *)awq__cuda_probe_room(p, (size_t)rows * 128 * 2);
    norm.x = awq__cuda_probe_at(p, r->x);
    norm.out = awq__cuda_probe_at(p, r->out);
    norm.out_norm = awq__cuda_probe_at(p, r->w);
    norm.in_norm = awq__cuda_probe_at(p, r->w_in);
    norm.xn = awq__cuda_probe_at(p, r->xn);
    norm.xn_lo = awq__cuda_probe_at(p, r->xn_lo);
    norm.h = norm.x_stride = norm.out_stride = n;
    norm.xn_stride = 128;
    norm.out_f32 = 1;
    norm.residual_scale = 0.5f;
    norm.eps = 1e-5f;
    /* heads of 16, two of q and one of k and v; positions 3 and 33: of two pages */
    r->q = awq__cuda_probe_floats(p, rows * 32);
    r->k = awq__cuda_probe_floats(p, rows * 16);
    r->v = awq__cuda_probe_floats(p, rows * 16);
    r->cos_ = awq__cuda_probe_floats(p, rows * 2 * 8);
    r->sin_ = awq__cuda_probe_floats(p, rows * 2 * 8);
    r->q_out = (uint16_t *)awq__cuda_probe_room(p, (size_t)rows * 32 * 2);
    r->page = (uint16_t *)awq__cuda_probe_room(p, 2 * 2048);
    r->pos = (int32_t *)awq__cuda_probe_room(p, 8);
    r->slot = (int32_t *)awq__cuda_probe_room(p, 8);
    r->table = (uint64_t *)awq__cuda_probe_room(p, 16);
    for (i = 0; i < 2; i++) {
        r->pos[i] = 3 + 30 * i;
        r->slot[i] = 0;
        r->table[i] = awq__cuda_probe_at(p, r->page) + (uint64_t)i * 2048;
    }
    place.q = awq__cuda_probe_at(p, r->q);
    place.k = awq__cuda_probe_at(p, r->k);
    place.v = awq__cuda_probe_at(p, r->v);
    place.cos_ = awq__cuda_probe_at(p, r->cos_);
    place.sin_ = awq__cuda_probe_at(p, r->sin_);
    place.pos = awq__cuda_probe_at(p, r->pos);
    place.slot = awq__cuda_probe_at(p, r->slot);
    place.page = awq__cuda_probe_at(p, r->table);
    place.q_out = awq__cuda_probe_at(p, r->q_out);
    place.head_bytes = 2048;
    place.q_stride = 32;
    place.k_stride = place.v_stride = place.k_dim = place.v_dim = place.v_row = place.rope_dim = 16;
    place.page_stride = place.heads = 2;
    place.kv_heads = place.f32 = 1;
    r->gate = awq__cuda_probe_floats(p, rows * 2 * n); /* up behind it */
    r->y = (uint16_t *)awq__cuda_probe_room(p, (size_t)rows * 128 * 2);
    act.gate = awq__cuda_probe_at(p, r->gate);
    act.up = act.gate + (uint64_t)n * 4;
    act.y = awq__cuda_probe_at(p, r->y);
    act.n = n;
    act.gate_stride = act.up_stride = 2 * n;
    act.y_stride = 128;
    act.kind = AWQ_ACT_SILU;
    act.f32 = 1;
    p->st = awq__cuda_upload(ctx, p->c, p->at, p->in, p->used); /* pages' addresses are known now */
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_ROWS, "awq_norm", 1, AWQ__PROBE_ROWS, 1, 1, awq__cuda_row_threads(n),
                        awq__cuda_norm_shared(n), &norm);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_ROWS, "awq_place", 1, AWQ__PROBE_ROWS, 1, 1, 128,
                        awq__cuda_place_shared(4, 16), &place);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_ROWS, "awq_act", 1, AWQ__PROBE_ROWS, awq__cuda_act_blocks(n), 1, 256,
                        0, &act);
}

static double awq__cuda_probe_rms(const double *x, int n) /* 1 / its root of the mean square */
{
    double sum = 0;
    int i;
    for (i = 0; i < n; i++) sum += x[i] * x[i];
    return 1 / sqrt(sum / n + 1e-5);
}

static void awq__cuda_probe_rows_check(awq_ctx *ctx, awq__cuda_probe *p, const awq__cuda_probe_rows *a)
{
    const int n = AWQ__PROBE_N;
    double x[AWQ__PROBE_N], scale;
    int r, i, h;
    for (r = 0; r < AWQ__PROBE_ROWS; r++) {
        for (i = 0; i < n; i++) x[i] = a->out[r * n + i];
        scale = awq__cuda_probe_rms(x, n);
        for (i = 0; i < n; i++) {
            x[i] = a->x[r * n + i] + 0.5 * x[i] * scale * a->w[i];
            awq__cuda_probe_check(ctx, p, "awq_norm", 1, i,
                                  ((const float *)awq__cuda_probe_out(p, a->x))[r * n + i], x[i], 1);
        }
        scale = awq__cuda_probe_rms(x, n);
        for (i = 0; i < 128; i++) { /* together to 2^-5 of what is allowed for xn alone */
            const double want = i < n ? x[i] * scale * a->w_in[i] : 0;
            const double xn = awq__cuda_probe_half(p, a->xn, r * 128 + i, p->bf16);
            awq__cuda_probe_check(ctx, p, "awq_norm", 1, i, xn, want, 4);
            awq__cuda_probe_check(ctx, p, "awq_norm", 1, i,
                                  xn + awq__cuda_probe_half(p, a->xn_lo, r * 128 + i, p->bf16), want, 0.125);
        }
    }
    for (r = 0; r < AWQ__PROBE_ROWS; r++)
        for (h = 0; h < 3; h++) /* two of q, then k; as fp16 whatever the type */
            for (i = 0; i < 16; i++) {
                const float *from = h < 2 ? a->q + r * 32 + h * 16 : a->k + r * 16;
                const uint16_t *to = h < 2 ? a->q_out : a->page;
                int at = h < 2 ? r * 32 + h * 16 + i : r * 1024 + i * 32 + a->pos[r] % 32, j = i % 8;
                double cos_ = a->cos_[r * 16 + j], sin_ = a->sin_[r * 16 + j];
                awq__cuda_probe_check(
                    ctx, p, "awq_place", 1, i, awq__cuda_probe_half(p, to, at, 0),
                    i < 8 ? from[i] * cos_ - from[i + 8] * sin_ : from[i] * cos_ + from[i - 8] * sin_, 2);
                if (h == 2)
                    awq__cuda_probe_check(
                        ctx, p, "awq_place", 1, i,
                        awq__cuda_probe_half(p, a->page, r * 1024 + 512 + a->pos[r] % 32 * 16 + i, 0),
                        a->v[r * 16 + i], 1);
            }
    for (r = 0; r < AWQ__PROBE_ROWS; r++)
        for (i = 0; i < 128; i++) {
            double g = a->gate[r * 2 * n + AWQ__MIN(i, n - 1)];
            awq__cuda_probe_check(ctx, p, "awq_act", 1, i, awq__cuda_probe_half(p, a->y, r * 128 + i, p->bf16),
                                  i < n ? g / (1 + exp(-g)) * a->gate[r * 2 * n + n + i] : 0, 1);
        }
}

/* A table's rows 1 and 0. which: F32, F16, BF16, 8 bits */
static void awq__cuda_probe_embed(awq_ctx *ctx, awq__cuda_probe *p, int which)
{
    static const char *const names[] = {"awq_embed_f32", "awq_embed_f16", "awq_embed_bf16", "awq_embed_8"};
    awq__cuda_embed a;
    float *x, *f = NULL;
    uint16_t *half = NULL;
    uint32_t *tile = NULL, *sz = NULL;
    int32_t *ids;
    uint8_t code[128];
    int i, n = 64;
    memset(&a, 0, sizeof a);
    p->used = 0;
    ids = (int32_t *)awq__cuda_probe_room(p, 8);
    ids[0] = 1;
    ids[1] = 0;
    x = (float *)awq__cuda_probe_room(p, 128 * 4);
    if (which == 0) f = awq__cuda_probe_floats(p, 128);
    else if (which < 3) half = awq__cuda_probe_halves(p, 128, which == 2);
    else {
        tile = (uint32_t *)awq__cuda_probe_room(p, 4096);
        sz = (uint32_t *)awq__cuda_probe_room(p, 64 * 4);
        memset(tile, 0, 4096);
        for (i = 0; i < 128; i++) { /* THE TILE of 8 bits, outputs 0 and 1 */
            int out = i / 64, in = i % 64, c = in % 16, kk = in / 16;
            code[i] = (uint8_t)awq__random(&p->seed);
            tile[(kk / 2 * 32 + out * 4 + c % 8 / 2) * 4 + kk % 2 * 2 + c / 8] |= (uint32_t)code[i]
                                                                                  << c % 2 * 8;
        }
        for (i = 0; i < 64; i++) sz[i] = (0x6400u + 100) << 16 | awq__float_f16(0.0078125f);
    }
    a.ids = awq__cuda_probe_at(p, ids);
    a.x = awq__cuda_probe_at(p, x);
    a.table = awq__cuda_probe_at(p, which == 0 ? (void *)f : which < 3 ? (void *)half : (void *)tile);
    if (sz) a.sz = awq__cuda_probe_at(p, sz);
    a.h = a.n_pad = a.group = n;
    a.k_tiles = 1;
    a.scale = 0.5f;
    p->st = awq__cuda_upload(ctx, p->c, p->at, p->in, p->used);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_ROWS, names[which], 0, 2, 1, 1, awq__cuda_row_threads(n), 0, &a);
    if (!p->st) p->st = awq__cuda_download(ctx, p->c, p->out, p->at, p->used);
    for (i = 0; i < 128; i++) {
        int from = (i + 64) % 128;
        double want = f            ? f[from]
                      : !half      ? (code[from] - 100) * 0.0078125
                      : which == 2 ? awq__bf16_float(half[from])
                                   : awq__f16_float(half[from]);
        awq__cuda_probe_check(ctx, p, names[which], 0, i, ((const float *)awq__cuda_probe_out(p, x))[i],
                              0.5 * want, 1e-3);
    }
}

/* One row at 40 and 33 rows at 0 ..: two heads of q with one of k and v. */
static void awq__cuda_probe_attend(awq_ctx *ctx, awq__cuda_probe *p, int k_dim, int v_dim)
{
    enum { ROWS = 34, HEADS = 2 };
    const int page = 32 * (k_dim + v_dim), out_stride = HEADS * v_dim;
    awq__cuda_stretch stretch[2];
    awq__cuda_attend_plan plan;
    awq__cuda_attend a;
    awq__cuda_device d;
    uint16_t *q, *keys, *out;
    int32_t *pos, *slot, (*tile)[4];
    uint64_t *table;
    double weight[41], sum, best, want;
    int i, k, r, h, j;
    memset(&a, 0, sizeof a);
    p->used = 0;
    q = awq__cuda_probe_halves(p, ROWS * HEADS * k_dim, 0);
    keys = awq__cuda_probe_halves(p, 4 * page, 0);
    out = (uint16_t *)awq__cuda_probe_room(p, (size_t)(ROWS * out_stride) * 2);
    pos = (int32_t *)awq__cuda_probe_room(p, ROWS * 4);
    slot = (int32_t *)awq__cuda_probe_room(p, ROWS * 4);
    table = (uint64_t *)awq__cuda_probe_room(p, 4 * 8);
    tile = (int32_t(*)[4])awq__cuda_probe_room(p, 16 * awq__cuda_attend_tiles(ROWS, HEADS));
    for (i = 0; i < ROWS; i++) {
        pos[i] = i ? i - 1 : 40;
        slot[i] = i > 0;
    }
    for (i = 0; i < 4; i++) table[i] = awq__cuda_probe_at(p, keys) + (uint64_t)(i * page) * 2;
    stretch[0].row = 0;
    stretch[0].rows = 1;
    stretch[0].pos = 40;
    stretch[1].row = 1;
    stretch[1].rows = ROWS - 1;
    stretch[1].pos = 0;
    d.arch = p->c->target;
    d.wgmma = 0;
    d.sms = p->c->info.multiprocessors;
    if (!awq__cuda_attend_plan_for(&d, (uint32_t)p->c->shared_limit, HEADS, 1, k_dim, v_dim, 0, stretch, 2, 0,
                                   tile, &plan))
        return;
    a.q = awq__cuda_probe_at(p, q);
    a.out = awq__cuda_probe_at(p, out);
    a.pos = awq__cuda_probe_at(p, pos);
    a.slot = awq__cuda_probe_at(p, slot);
    a.page = awq__cuda_probe_at(p, table);
    a.head_bytes = (uint64_t)page * 2;
    a.heads = a.group = HEADS;
    a.k_dim = k_dim;
    a.v_dim = a.v_row = v_dim;
    a.out_stride = out_stride;
    a.page_stride = 2;
    a.split_pages = plan.split_pages;
    a.scale = 0.125f;
    p->st = awq__cuda_workspace(ctx, p->c, plan.partial, plan.counters);
    if (!p->st) p->st = awq__cuda_upload(ctx, p->c, p->at, p->in, p->used);
    a.partial = p->c->partial ? p->c->partial->ptr : 0;
    a.counters = p->c->counters ? p->c->counters->ptr : 0;
    for (k = 0; k < 2; k++) {
        a.tile = awq__cuda_probe_at(p, tile) + (k ? 16 * (uint64_t)plan.tiles[0] : 0);
        if (plan.tiles[k])
            awq__cuda_probe_run(ctx, p, AWQ__CUDA_ATTENTION, plan.kernel[k], 0, (unsigned)plan.tiles[k],
                                plan.grid[k][1], plan.grid[k][2], plan.threads[k], plan.smem[k], &a);
    }
    if (!p->st) p->st = awq__cuda_download(ctx, p->c, p->out, p->at, p->used);
    for (r = 0; r < ROWS; r += 11)
        for (h = 0; h < HEADS && !p->st; h++) {
            const uint16_t *of = keys + (r ? 2 * page : 0);
            for (best = -1e30, j = 0; j <= pos[r]; j++) {
                for (weight[j] = 0, i = 0; i < k_dim; i++)
                    weight[j] += 0.125 * awq__f16_float(q[(r * HEADS + h) * k_dim + i])
                                 * awq__f16_float(of[j / 32 * page + i * 32 + j % 32]);
                best = AWQ__MAX(best, weight[j]);
            }
            for (sum = 0, j = 0; j <= pos[r]; j++) sum += weight[j] = exp(weight[j] - best);
            for (i = 0; i < v_dim; i++) {
                for (want = 0, j = 0; j <= pos[r]; j++)
                    want +=
                        weight[j] / sum * awq__f16_float(of[j / 32 * page + 32 * k_dim + j % 32 * v_dim + i]);
                awq__cuda_probe_check(ctx, p, plan.kernel[r && plan.tiles[1] ? 1 : 0], 0, i,
                                      awq__cuda_probe_half(p, out, r * out_stride + h * v_dim + i, 0), want, 4);
            }
        }
}

/* Three rows, two of four experts each. Each kernel has what those before it should give. */
static void awq__cuda_probe_moe(awq_ctx *ctx, awq__cuda_probe *p)
{
    enum { ROWS = 3, E = 4, TOP = 2, N = 72, X = 128, PICKS = ROWS * TOP };
    awq__cuda_route route;
    awq__cuda_slots slots;
    awq__cuda_gather gather;
    awq__cuda_combine combine;
    float *scores, *weight, *weights, *oe, *out;
    uint16_t *xn, *xe;
    int32_t *pos, *pick, *start, *slot, *from; /* results; and what they should be: */
    int32_t *best, *place, *row, *count;
    int i, k, e, n = 0;
    memset(&route, 0, sizeof route);
    memset(&slots, 0, sizeof slots);
    memset(&gather, 0, sizeof gather);
    memset(&combine, 0, sizeof combine);
    p->used = 0;
    scores = awq__cuda_probe_floats(p, ROWS * E);
    weight = (float *)awq__cuda_probe_room(p, PICKS * 4);
    weights = (float *)awq__cuda_probe_room(p, PICKS * 4);
    oe = awq__cuda_probe_floats(p, PICKS * N);
    out = (float *)awq__cuda_probe_room(p, ROWS * N * 4);
    xn = awq__cuda_probe_halves(p, ROWS * X, p->bf16);
    xe = (uint16_t *)awq__cuda_probe_room(p, PICKS * X * 2);
    pos = (int32_t *)awq__cuda_probe_room(p, ROWS * 4);
    pick = (int32_t *)awq__cuda_probe_room(p, PICKS * 4);
    start = (int32_t *)awq__cuda_probe_room(p, (E + 1) * 4);
    slot = (int32_t *)awq__cuda_probe_room(p, PICKS * 4);
    from = (int32_t *)awq__cuda_probe_room(p, PICKS * 4);
    best = (int32_t *)awq__cuda_probe_room(p, PICKS * 4);
    place = (int32_t *)awq__cuda_probe_room(p, PICKS * 4);
    row = (int32_t *)awq__cuda_probe_room(p, PICKS * 4);
    count = (int32_t *)awq__cuda_probe_room(p, 4);
    *count = PICKS;
    for (i = 0; i < ROWS; i++) {
        const float *s = scores + i * E;
        int first = 0, second;
        pos[i] = i;
        for (e = 1; e < E; e++)
            if (s[e] > s[first]) first = e;
        second = first == 0;
        for (e = 0; e < E; e++)
            if (e != first && s[e] > s[second]) second = e;
        best[2 * i] = first;
        best[2 * i + 1] = second;
        weights[2 * i] = (float)(1 / (1 + exp((double)s[second] - s[first])));
        weights[2 * i + 1] = 1 - weights[2 * i];
    }
    for (e = 0; e < E; e++)
        for (i = 0; i < PICKS; i++)
            if (best[i] == e) {
                row[n] = i / TOP;
                place[i] = n++;
            }
    route.scores = awq__cuda_probe_at(p, scores);
    route.pos = awq__cuda_probe_at(p, pos);
    route.pick = awq__cuda_probe_at(p, pick);
    route.weight = awq__cuda_probe_at(p, weight);
    route.rows = ROWS;
    route.experts = route.stride = slots.experts = E;
    route.top = slots.top = combine.top = TOP;
    route.groups = route.top_groups = route.norm_topk = 1;
    route.score = AWQ_SCORE_SOFTMAX;
    route.routed_scale = 1;
    slots.pick = awq__cuda_probe_at(p, best);
    slots.start = awq__cuda_probe_at(p, start);
    slots.slot = awq__cuda_probe_at(p, slot);
    slots.from = awq__cuda_probe_at(p, from);
    slots.n = PICKS;
    gather.xn = awq__cuda_probe_at(p, xn);
    gather.xe = awq__cuda_probe_at(p, xe);
    gather.from = awq__cuda_probe_at(p, row);
    gather.count = awq__cuda_probe_at(p, count);
    gather.columns = gather.xn_stride = gather.xe_stride = X;
    combine.oe = awq__cuda_probe_at(p, oe);
    combine.slot = awq__cuda_probe_at(p, place);
    combine.weight = awq__cuda_probe_at(p, weights);
    combine.out = awq__cuda_probe_at(p, out);
    combine.h = combine.oe_stride = combine.out_stride = N;
    combine.f32 = 1;
    p->st = awq__cuda_upload(ctx, p->c, p->at, p->in, p->used);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_MOE, "awq_route", 0, ROWS, 1, 1, 32,
                        awq__cuda_route_shared(E, 1, TOP), &route);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_MOE, "awq_slots", 0, E / 8 + 1, 1, 1, 256, 0, &slots);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_MOE, "awq_gather", 0, PICKS, 1, 1, 256, 0, &gather);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_MOE, "awq_combine", 1, ROWS, 1, 1, 256, 0, &combine);
    if (!p->st) p->st = awq__cuda_download(ctx, p->c, p->out, p->at, p->used);
    for (i = 0; i < PICKS; i++) {
        awq__cuda_probe_check(ctx, p, "awq_route", 0, i, ((const int32_t *)awq__cuda_probe_out(p, pick))[i],
                              best[i], 0);
        awq__cuda_probe_check(ctx, p, "awq_route", 0, i, ((const float *)awq__cuda_probe_out(p, weight))[i],
                              weights[i], 1);
    }
    for (i = 0; i < PICKS; i++) {
        awq__cuda_probe_check(ctx, p, "awq_slots", 0, i, ((const int32_t *)awq__cuda_probe_out(p, slot))[i],
                              place[i], 0);
        awq__cuda_probe_check(ctx, p, "awq_slots", 0, i, ((const int32_t *)awq__cuda_probe_out(p, from))[i],
                              row[i], 0);
    }
    awq__cuda_probe_check(ctx, p, "awq_slots", 0, E, ((const int32_t *)awq__cuda_probe_out(p, start))[E], n, 0);
    for (i = 0; i < PICKS * X; i++)
        awq__cuda_probe_check(ctx, p, "awq_gather", 0, i, ((const uint16_t *)awq__cuda_probe_out(p, xe))[i],
                              xn[row[i / X] * X + i % X], 0);
    for (i = 0; i < ROWS; i++)
        for (k = 0; k < N; k++)
            awq__cuda_probe_check(ctx, p, "awq_combine", 1, k,
                                  ((const float *)awq__cuda_probe_out(p, out))[i * N + k],
                                  (double)weights[2 * i] * oe[place[2 * i] * N + k]
                                      + (double)weights[2 * i + 1] * oe[place[2 * i + 1] * N + k],
                                  2);
}

/* Two rows of logits in two parts: scaled and capped in place, the best, the most probable three. */
static void awq__cuda_probe_head(awq_ctx *ctx, awq__cuda_probe *p)
{
    enum { ROWS = 2, N = 16400, K = 3 };
    const uint32_t parts = awq__cuda_logits_parts(N);
    awq__cuda_logits g;
    awq__cuda_top t;
    const float *out;
    float *x, *value;
    void *partial, *counters;
    int32_t *best, *bad, *id;
    int r, i, k;
    memset(&g, 0, sizeof g);
    memset(&t, 0, sizeof t);
    p->used = 0;
    x = awq__cuda_probe_floats(p, ROWS * N);
    best = (int32_t *)awq__cuda_probe_room(p, ROWS * 4);
    bad = (int32_t *)awq__cuda_probe_room(p, ROWS * 4);
    id = (int32_t *)awq__cuda_probe_room(p, ROWS * K * 4);
    value = (float *)awq__cuda_probe_room(p, ROWS * K * 4);
    partial = awq__cuda_probe_room(p, ROWS * parts * (K + 1) * sizeof(uint64_t));
    counters = awq__cuda_probe_room(p, ROWS * 4);
    memset(counters, 0, ROWS * 4);
    g.logits = t.logits = awq__cuda_probe_at(p, x);
    g.partial = t.partial = awq__cuda_probe_at(p, partial);
    g.counters = t.counters = awq__cuda_probe_at(p, counters);
    g.best = awq__cuda_probe_at(p, best);
    g.n = g.stride = t.n = t.stride = N;
    g.scale = 3;
    g.cap = 2;
    t.id = awq__cuda_probe_at(p, id);
    t.bad = awq__cuda_probe_at(p, bad);
    t.value = awq__cuda_probe_at(p, value);
    t.k = K;
    p->st = awq__cuda_upload(ctx, p->c, p->at, p->in, p->used);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_ROWS, "awq_logits", 0, parts, ROWS, 1, 1024, 256, &g);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_SAMPLE, "awq_top", 0, parts, ROWS, 1, 1024, 512, &t);
    if (!p->st) p->st = awq__cuda_download(ctx, p->c, p->out, p->at, p->used);
    out = (const float *)awq__cuda_probe_out(p, x);
    for (r = 0; r < ROWS; r++) {
        int32_t last = -1;
        for (i = 0; i < N; i++)
            awq__cuda_probe_check(ctx, p, "awq_logits", 0, i, out[r * N + i], 2 * tanh(1.5 * x[r * N + i]), 1);
        for (k = 0; k < K; k++) { /* the highest below the last one, of equals the lower id */
            int32_t at = -1;
            for (i = 0; i < N; i++)
                if ((at < 0 || out[r * N + i] > out[r * N + at])
                    && (last < 0 || out[r * N + i] < out[r * N + last]
                        || (out[r * N + i] == out[r * N + last] && i > last)))
                    at = i;
            last = at;
            if (!k)
                awq__cuda_probe_check(ctx, p, "awq_logits", 0, r,
                                      ((const int32_t *)awq__cuda_probe_out(p, best))[r], at, 0);
            awq__cuda_probe_check(ctx, p, "awq_top", 0, k,
                                  ((const int32_t *)awq__cuda_probe_out(p, id))[r * K + k], at, 0);
            awq__cuda_probe_check(ctx, p, "awq_top", 0, k,
                                  ((const float *)awq__cuda_probe_out(p, value))[r * K + k], out[r * N + at],
                                  0);
        }
        awq__cuda_probe_check(ctx, p, "awq_top", 0, r, ((const int32_t *)awq__cuda_probe_out(p, bad))[r], 0, 0);
    }
}

/* --- what a quantizer computes */
static void awq__cuda_probe_split(awq_ctx *ctx, awq__cuda_probe *p)
{
    enum { ROWS = 70, COLS = 72, PAD = 128 };
    awq__cuda_split a[2];
    uint16_t *hi[2], *lo[2];
    float *x, *weight;
    int t, r, i;
    p->used = 0;
    x = awq__cuda_probe_floats(p, ROWS * COLS);
    weight = awq__cuda_probe_floats(p, ROWS);
    memset(a, 0, sizeof a);
    for (t = 0; t < 2; t++) {
        hi[t] = (uint16_t *)awq__cuda_probe_room(p, (size_t)COLS * PAD * 2);
        lo[t] = (uint16_t *)awq__cuda_probe_room(p, (size_t)COLS * PAD * 2);
        a[t].x = awq__cuda_probe_at(p, x);
        a[t].weight = t ? awq__cuda_probe_at(p, weight) : 0;
        a[t].hi = awq__cuda_probe_at(p, hi[t]);
        a[t].lo = awq__cuda_probe_at(p, lo[t]);
        a[t].rows = ROWS;
        a[t].cols = a[t].x_stride = COLS;
        a[t].y_stride = PAD;
    }
    p->st = awq__cuda_upload(ctx, p->c, p->at, p->in, p->used);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_QUANTIZE, "awq_split", 0, 1, ROWS, 1, 256, 0, &a[0]);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_QUANTIZE, "awq_split_transposed", 0, PAD / 64, (COLS + 31) / 32, 1,
                        256, 8448, &a[1]);
    if (!p->st) p->st = awq__cuda_download(ctx, p->c, p->out, p->at, p->used);
    for (t = 0; t < 2; t++)
        for (r = 0; r < (t ? COLS : ROWS); r++)
            for (i = 0; i < PAD; i++) { /* 2^-17 of the number is lost */
                double sum = awq__cuda_probe_half(p, hi[t], r * PAD + i, 1)
                             + awq__cuda_probe_half(p, lo[t], r * PAD + i, 1);
                double want = t ? i < ROWS ? x[i * COLS + r] * weight[i] : 0 : i < COLS ? x[r * COLS + i] : 0;
                awq__cuda_probe_check(ctx, p, t ? "awq_split_transposed" : "awq_split", 0, i, sum, want,
                                      1.0 / 64);
            }
}

static void awq__cuda_probe_search(awq_ctx *ctx, awq__cuda_probe *p)
{
    enum { ROWS = 9, WIDTH = 192, G = 64, N = 1100, SPAN = 3 * WIDTH };
    awq__cuda_rounding candidate[2];
    awq__cuda_dots dots[2];
    awq__cuda_clips clips;
    awq__cuda_gated gated;
    awq_search_desc d;
    awq__clip_job job;
    float *w, *scales, *to[2], *dot[2], *moments, *clip, *gate, *up, *y, one[WIDTH], clipped[ROWS * WIDTH / G];
    int i, j, r, g;
    p->used = 0;
    w = awq__cuda_probe_floats(p, ROWS * WIDTH);
    scales = awq__cuda_probe_floats(p, WIDTH);
    moments = awq__cuda_probe_floats(p, WIDTH * G);
    gate = awq__cuda_probe_floats(p, N);
    up = awq__cuda_probe_floats(p, N);
    for (i = 0; i < 2; i++) {
        to[i] = (float *)awq__cuda_probe_room(p, (size_t)ROWS * WIDTH * 4);
        dot[i] = (float *)awq__cuda_probe_room(p, ROWS * 4);
    }
    clip = (float *)awq__cuda_probe_room(p, (size_t)ROWS * WIDTH / G * 4);
    y = (float *)awq__cuda_probe_room(p, N * 4);
    for (i = 0; i < WIDTH; i++) scales[i] += 2;
    for (g = 0; g < WIDTH / G; g++)
        for (i = 0; i < G; i++)
            for (j = 0; j <= i; j++) {
                float *m = moments + g * G * G;
                m[i * G + j] = m[j * G + i] = i == j ? 1 : 0.1f * m[i * G + j];
            }
    memset(candidate, 0, sizeof candidate);
    memset(dots, 0, sizeof dots);
    memset(&clips, 0, sizeof clips);
    memset(&gated, 0, sizeof gated);
    memset(&d, 0, sizeof d);
    clips.w = awq__cuda_probe_at(p, w);
    clips.in = WIDTH;
    clips.group = G;
    clips.bits = 4;
    for (i = 0; i < 2; i++) { /* with scales; symmetric, what is added: and a row and the next one */
        candidate[i].w = dots[i].a = clips.w;
        candidate[i].scales = i ? 0 : awq__cuda_probe_at(p, scales);
        candidate[i].to = awq__cuda_probe_at(p, to[i]);
        candidate[i].in = WIDTH;
        candidate[i].group = G;
        candidate[i].bits = 4;
        candidate[i].symmetric = candidate[i].difference = dots[i].difference = i;
        dots[i].b = dots[i].a + SPAN * 4;
        dots[i].out = awq__cuda_probe_at(p, dot[i]);
        dots[i].n = SPAN;
    }
    clips.moments = awq__cuda_probe_at(p, moments);
    clips.clip = awq__cuda_probe_at(p, clip);
    clips.out = ROWS;
    gated.gate = awq__cuda_probe_at(p, gate);
    gated.up = awq__cuda_probe_at(p, up);
    gated.y = awq__cuda_probe_at(p, y);
    gated.n = N;
    gated.kind = AWQ_ACT_SILU;
    p->st = awq__cuda_upload(ctx, p->c, p->at, p->in, p->used);
    for (i = 0; i < 2; i++) {
        awq__cuda_probe_run(ctx, p, AWQ__CUDA_QUANTIZE, "awq_candidate", 0, 1, ROWS, 1, 256, 0, &candidate[i]);
        awq__cuda_probe_run(ctx, p, AWQ__CUDA_QUANTIZE, "awq_row_dots", 0, 2, 1, 1, 256, 128, &dots[i]);
    }
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_QUANTIZE, "awq_clips", 0, WIDTH / G, (ROWS + 7) / 8, 1, 256, 32 * G,
                        &clips);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_QUANTIZE, "awq_gated", 0, (N + 1023) / 1024, 1, 1, 256, 0, &gated);
    if (!p->st) p->st = awq__cuda_download(ctx, p->c, p->out, p->at, p->used);
    d.bits = 4;
    d.group_size = G;
    memset(&job, 0, sizeof job);
    job.ops = awq__ops_for(ctx);
    job.w = w;
    job.moments = moments;
    job.clip = clipped;
    job.in = WIDTH;
    job.d = &d;
    for (r = 0; r < ROWS; r++) {
        for (j = 0; j < 2; j++) {
            for (i = 0; i < WIDTH; i++) one[i] = j ? w[r * WIDTH + i] : w[r * WIDTH + i] * scales[i];
            for (i = 0; i < WIDTH; i += G) awq__fake_group(one + i, one + i, G, 4, j);
            for (i = 0; i < WIDTH; i++)
                awq__cuda_probe_check(ctx, p, "awq_candidate", 0, i,
                                      ((const float *)awq__cuda_probe_out(p, to[j]))[r * WIDTH + i],
                                      j ? one[i] - w[r * WIDTH + i] : one[i] / scales[i], 1.0 / 1024);
        }
        awq__clip_row(&job, r);
        for (g = 0; g < WIDTH / G; g++)
            awq__cuda_probe_check(ctx, p, "awq_clips", 0, r * (WIDTH / G) + g,
                                  ((const float *)awq__cuda_probe_out(p, clip))[r * (WIDTH / G) + g],
                                  clipped[r * (WIDTH / G) + g], 1.0 / 1024);
    }
    for (r = 0; r < 2; r++) {
        double sum[2] = {0, 0}, all = 0;
        for (i = 0; i < SPAN; i++) {
            const double a = w[r * SPAN + i], b = w[(r + 1) * SPAN + i];
            sum[0] += a * b;
            sum[1] += (a - b) * (a - b);
            all += fabs(a * b);
        }
        for (i = 0; i < 2; i++)
            awq__cuda_probe_check(ctx, p, "awq_row_dots", 0, r,
                                  ((const float *)awq__cuda_probe_out(p, dot[i]))[r], sum[i],
                                  (i ? sum[1] : all) / 64);
    }
    for (i = 0; i < N; i++)
        awq__cuda_probe_check(ctx, p, "awq_gated", 0, i, ((const float *)awq__cuda_probe_out(p, y))[i],
                              gate[i] / (1 + exp(-(double)gate[i])) * up[i], 1.0 / 64);
}

/* Norm and rope of 9 heads of two rows; attention of 70 rows, two heads that share one of k and v, 20 keys. */
static void awq__cuda_probe_sequence(awq_ctx *ctx, awq__cuda_probe *p)
{
    enum { HEADS = 9, D = 16, V = 40, N = 70, WINDOW = 20 };
    awq__cuda_turn turn;
    awq__cuda_attention attend;
    float *x, *norm, *cos_, *sin_, *q, *k, *v, *out;
    int r, h, i, j;
    p->used = 0;
    x = awq__cuda_probe_floats(p, 2 * HEADS * D);
    norm = awq__cuda_probe_floats(p, D);
    cos_ = awq__cuda_probe_floats(p, 2 * D);
    sin_ = awq__cuda_probe_floats(p, 2 * D);
    q = awq__cuda_probe_floats(p, N * 2 * D);
    k = awq__cuda_probe_floats(p, N * D);
    v = awq__cuda_probe_floats(p, N * V);
    out = (float *)awq__cuda_probe_room(p, (size_t)N * 2 * V * 4);
    memset(&turn, 0, sizeof turn);
    memset(&attend, 0, sizeof attend);
    turn.x = awq__cuda_probe_at(p, x);
    turn.norm = awq__cuda_probe_at(p, norm);
    turn.cos_ = awq__cuda_probe_at(p, cos_);
    turn.sin_ = awq__cuda_probe_at(p, sin_);
    turn.heads = HEADS;
    turn.dim = turn.rope_dim = D;
    turn.eps = 1e-5f;
    attend.q = awq__cuda_probe_at(p, q);
    attend.k = awq__cuda_probe_at(p, k);
    attend.v = awq__cuda_probe_at(p, v);
    attend.out = awq__cuda_probe_at(p, out);
    attend.n = N;
    attend.heads = attend.group = 2;
    attend.k_dim = D;
    attend.v_dim = V;
    attend.window = WINDOW;
    attend.scale = 0.5f;
    p->st = awq__cuda_upload(ctx, p->c, p->at, p->in, p->used);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_QUANTIZE, "awq_turn", 0, 2, (HEADS + 7) / 8, 1, 256, 32 * D, &turn);
    awq__cuda_probe_run(ctx, p, AWQ__CUDA_QUANTIZE, "awq_sequence", 0, (N + 31) / 32, 2, 1, 256,
                        128 * (2 * D + 1 + V), &attend);
    if (!p->st) p->st = awq__cuda_download(ctx, p->c, p->out, p->at, p->used);
    for (r = 0; r < 2; r++)
        for (h = 0; h < HEADS; h++) {
            const int at = (r * HEADS + h) * D;
            double a[D], scale;
            for (i = 0; i < D; i++) a[i] = x[at + i];
            scale = awq__cuda_probe_rms(a, D);
            for (i = 0; i < D; i++) a[i] *= scale * norm[i];
            for (i = 0; i < D; i++) { /* the table of full attention, of which each row has two */
                const double c = cos_[r * D + i % (D / 2)], s = sin_[r * D + i % (D / 2)];
                awq__cuda_probe_check(ctx, p, "awq_turn", 0, i,
                                      ((const float *)awq__cuda_probe_out(p, x))[at + i],
                                      i < D / 2 ? a[i] * c - a[i + D / 2] * s : a[i] * c + a[i - D / 2] * s,
                                      1.0 / 64);
            }
        }
    for (r = 0; r < N; r++)
        for (h = 0; h < 2; h++) {
            double sum = 0, got[V];
            memset(got, 0, sizeof got);
            for (j = AWQ__MAX(0, r - WINDOW + 1); j <= r; j++) {
                double dot = 0;
                for (i = 0; i < D; i++) dot += (double)q[(r * 2 + h) * D + i] * k[j * D + i];
                dot = exp(0.5 * dot);
                sum += dot;
                for (i = 0; i < V; i++) got[i] += dot * v[j * V + i];
            }
            for (i = 0; i < V; i++)
                awq__cuda_probe_check(ctx, p, "awq_sequence", 0, r,
                                      ((const float *)awq__cuda_probe_out(p, out))[(r * 2 + h) * V + i],
                                      got[i] / sum, 1.0 / 64);
        }
}

/* The context is current. Bits of `which` are AWQ__CUDA_TEST_.. */
static awq_status awq__cuda_probes(awq_ctx *ctx, awq_cuda *c, uint32_t which, awq__cuda_probe *p)
{
    static const int dims[AWQ__CUDA_FAMILY_PARTS][2] = {{64, 64}, {128, 128}, {192, 128}, {256, 256}};
    awq__cuda_probe_rows rows;
    int i;
    for (i = 0; i < 4 && !p->st; i++)
        if (which >> (AWQ__CUDA_TEST_EMBED_AT + i) & 1) awq__cuda_probe_embed(ctx, p, i);
    for (p->bf16 = 0; p->bf16 < 2 && !p->st; p->bf16++) {
        p->used = 0;
        if (which >> (AWQ__CUDA_TEST_ROWS_AT + p->bf16) & 1) {
            awq__cuda_probe_rows_run(ctx, p, &rows);
            if (!p->st) p->st = awq__cuda_download(ctx, c, p->out, p->at, p->used);
            awq__cuda_probe_rows_check(ctx, p, &rows);
        }
        if (!p->st && (which >> (AWQ__CUDA_TEST_MOE_AT + p->bf16) & 1)) awq__cuda_probe_moe(ctx, p);
    }
    for (i = 0; i < AWQ__CUDA_FAMILY_PARTS && !p->st; i++)
        if (which >> (AWQ__CUDA_TEST_ATTEND_AT + i) & 1) awq__cuda_probe_attend(ctx, p, dims[i][0], dims[i][1]);
    if (!p->st && which >> AWQ__CUDA_TEST_HEAD_AT & 1) awq__cuda_probe_head(ctx, p);
    if (!p->st && which >> AWQ__CUDA_TEST_QUANTIZE_AT & 1) {
        p->bf16 = 0;
        awq__cuda_probe_split(ctx, p);
        if (!p->st) awq__cuda_probe_search(ctx, p);
        if (!p->st) awq__cuda_probe_sequence(ctx, p);
    }
    return p->st;
}

/* Of `which`, the kinds of linears, as awq__cuda_test_kind has them, that experts are tried in. */
static uint32_t awq__cuda_test_experts_of(uint32_t which)
{
    uint32_t e = which >> AWQ__CUDA_TEST_EXPERTS_AT & 63;
    return (e & 3) | (e & 3) << 2 | (e & 12) << 2 | (e & 12) << 4 | (e & 48) << 4;
}

static awq_status awq__cuda_selftest(awq_ctx *ctx, awq_cuda *c, uint32_t which)
{
    const uint32_t linears = which & ((1u << AWQ__CUDA_TEST_ROWS_AT) - 1),
                   experts = awq__cuda_test_experts_of(which), many = which >> AWQ__CUDA_TEST_MANY_AT & 3;
    awq__cuda_block *b = NULL;
    awq__cuda_probe p;
    awq_status st = AWQ_OK;
    if (linears | experts) AWQ__TRY(awq__cuda_test_linears(ctx, c, 72, 160, linears, experts, 1, 0));
    if (many) AWQ__TRY(awq__cuda_test_linears(ctx, c, 72, 160, 0, many | many << 2, 1, 1));
    if (which & ~(63u << AWQ__CUDA_TEST_EXPERTS_AT | 3u << AWQ__CUDA_TEST_MANY_AT | linears)) {
        memset(&p, 0, sizeof p);
        p.c = c;
        p.seed = 5;
        p.in = AWQ__NEW(ctx, char, AWQ__CUDA_PROBE);
        p.out = p.in ? AWQ__NEW(ctx, char, AWQ__CUDA_PROBE) : NULL;
        st = p.out ? awq__cuda_enter(ctx, c) : AWQ_E_MEMORY;
        if (!st) {
            st = awq__cuda_block_new(ctx, c, AWQ__CUDA_PROBE, &b);
            if (!st) {
                p.at = b->ptr;
                st = awq__cuda_probes(ctx, c, which, &p);
                if (!c->lost) c->cu.StreamSynchronize(c->stream);
                awq__cuda_block_free(c, b);
            }
            awq__cuda_leave(c);
        }
        awq__free(ctx, p.in);
        awq__free(ctx, p.out);
    }
    if (!st) c->tested |= which;
    return st;
}

AWQ_API awq_status awq_cuda_selftest(awq_ctx *ctx, awq_cuda *c)
{
    uint32_t which = AWQ__CUDA_TEST_ALL;
    if (!c) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_selftest: cuda is NULL");
    if (c->target < 80)
        which &= ~(0x2aau | 2u << AWQ__CUDA_TEST_ROWS_AT | 2u << AWQ__CUDA_TEST_MOE_AT
                   | 42u << AWQ__CUDA_TEST_EXPERTS_AT | 2u << AWQ__CUDA_TEST_MANY_AT
                   | 1u << AWQ__CUDA_TEST_QUANTIZE_AT);
    /* three tiles and a bit, 32 and a half: k is shared by blocks */
    AWQ__TRY(awq__cuda_test_linears(ctx, c, 200, 2080, which & 0x3ff, 0, 0, 0));
    c->tested |= which & 0x3ff;
    return awq__cuda_selftest(ctx, c, which & ~0x3ffu);
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>lab
   What a quantizer has computed here (lab of struct awq_device): each factor in two parts of bf16, so that a
   product is three of dense.cuh; the rest in kernels of quantize.cuh. Linears stay, of the first half in fp32
   too; all else travels.
   Where the time goes, a layer of 7B (4096, 11008) and 65536 tokens, in 10^12 operations: method awq 584 in the
   candidates of attention and MLP, 27 for the layer's own pass, 24 for losses by moments, 11 for these; method
   best 71 for passes, 42 for moments and their like, and 6, which are the CPU's, for factors and rounding. Here
   it is three times that, of moments six times.
   Memory: one block, sized when the lab opens; nothing is allocated later but what split sums of products need.
   Invariants: order of sums by shapes alone; c->lock is held in each call, the context current.
   Tests: tests/test_cuda_quantize.c; the kernels in tests/cuda/test_quantize.cpp */

#define AWQ__CUDA_LAB_SPARE ((uint64_t)64 << 20) /* for split sums */

typedef struct awq__cuda_lab {
    awq_cuda *c;
    awq__lab_desc d;
    awq__cuda_arena memory;
    uint64_t weight[AWQ__LAB_LINEARS];                           /* fp32, or 0 */
    uint64_t parts[AWQ__LAB_LINEARS], bias[AWQ__LAB_LINEARS];    /* hi [out][in padded], lo behind it */
    int biased[AWQ__LAB_LINEARS];
    uint64_t sum[AWQ__LAB_SUMS];
    int64_t wa[AWQ__LAB_SUMS], wb[AWQ__LAB_SUMS];
    uint64_t a, b;    /* factors: hi and lo of a row side by side, hi and lo one behind the other */
    uint64_t x[2];    /* [rows][wide] fp32 that has come */
    uint64_t w, y;    /* [largest], and y [3 rows][wide], fp32 */
    uint64_t kept, judged; /* [tokens][hidden] fp32 */
    uint64_t norms;   /* [2][256] fp32, of q and k */
    uint64_t hidden;  /* [rows][wide] fp32 */
    uint64_t scales;  /* [most_in] fp32 */
    uint64_t vector;  /* [wide], [rows] fp32 */
} awq__cuda_lab;

static uint64_t awq__cuda_lab_place(awq__cuda_lab *l, uint64_t base)
{
    const awq__lab_desc *d = &l->d;
    uint64_t at = base, rows = (uint64_t)d->rows, wide = (uint64_t)d->wide, in = (uint64_t)d->most_in;
    uint64_t square = in * AWQ__CUDA_PAD(in), piece = AWQ__CUDA_PAD(rows) * wide;
    uint64_t x = AWQ__MAX(piece, rows * AWQ__CUDA_PAD(wide));
    int i;
#define AWQ__PLACE_AT(p, numbers, bytes)                                                 \
    do {                                                                                     \
        (p) = at;                                                                            \
        at += ((uint64_t)(numbers) * (bytes) + AWQ__CUDA_ALIGN - 1) / AWQ__CUDA_ALIGN * AWQ__CUDA_ALIGN; \
    } while (0)
    for (i = 0; i < AWQ__LAB_LINEARS; i++) {
        uint64_t n = (uint64_t)(d->out[i] * d->in[i]);
        l->weight[i] = l->parts[i] = l->bias[i] = 0;
        if (!n) continue;
        if (i < AWQ__LAB_LINEARS / 2) AWQ__PLACE_AT(l->weight[i], n, 4);
        AWQ__PLACE_AT(l->parts[i], d->out[i] * AWQ__CUDA_PAD(d->in[i]), 4);
        AWQ__PLACE_AT(l->bias[i], d->out[i], 4);
    }
    for (i = 0; i < AWQ__LAB_SUMS; i++) AWQ__PLACE_AT(l->sum[i], d->sum[i], 4);
    AWQ__PLACE_AT(l->a, AWQ__MAX((uint64_t)d->largest, x), 4);
    AWQ__PLACE_AT(l->b, AWQ__MAX(square, piece), 4);
    AWQ__PLACE_AT(l->x[0], rows * wide, 4);
    AWQ__PLACE_AT(l->x[1], rows * wide, 4);
    AWQ__PLACE_AT(l->w, d->largest, 4);
    AWQ__PLACE_AT(l->y, AWQ__MAX((uint64_t)d->largest, 3 * rows * wide), 4);
    AWQ__PLACE_AT(l->kept, d->tokens * d->hidden, 4);
    AWQ__PLACE_AT(l->judged, d->tokens * d->hidden, 4);
    AWQ__PLACE_AT(l->norms, 512, 4);
    AWQ__PLACE_AT(l->hidden, AWQ__MAX((uint64_t)d->largest, rows * wide), 4);
    AWQ__PLACE_AT(l->scales, in, 4);
    AWQ__PLACE_AT(l->vector, AWQ__MAX(rows, wide), 4);
#undef AWQ__PLACE_AT
    return at - base;
}

static void awq__cuda_lab_free(awq_ctx *ctx, void *lab)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    awq_cuda *c = l->c;
    awq_error err = ctx->err;
    int entered;
    awq__lock(&c->lock);
    entered = !awq__cuda_enter(ctx, c);
    awq__cuda_arena_free(ctx, c, &l->memory);
    if (entered) awq__cuda_leave(c);
    awq__unlock(&c->lock);
    awq__free(ctx, l);
    ctx->err = err;
}

static awq_status awq__cuda_lab_open(awq_ctx *ctx, awq_device *device, const awq__lab_desc *d, void **lab)
{
    awq_cuda *c = (awq_cuda *)device;
    awq__cuda_lab *l;
    awq_cuda_info info;
    uint64_t bytes, room, at = 0;
    awq_status st;
    if (c->target < 80)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "%s: quantizing wants compute capability 8.0 (BF16), this is %d.%d, its code for %s",
                         device->name, c->info.compute_major, c->info.compute_minor, c->info.arch);
    if (d->wide > 65535)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "%s: linears of %lld inputs or outputs, at most 65535 can be quantized here",
                         device->name, (long long)d->wide);
    l = AWQ__NEW(ctx, awq__cuda_lab, 1);
    if (!l) return AWQ_E_MEMORY;
    l->c = c;
    l->d = *d;
    bytes = awq__cuda_lab_place(l, 0);
    st = awq__cuda_model_enter(ctx, c);
    if (st) {
        awq__free(ctx, l);
        return st;
    }
    st = awq_cuda_get_info(ctx, c, &info);
    room = info.memory_limit > info.memory_used ? info.memory_limit - info.memory_used : 0;
    if (!c->desc.alloc) room = AWQ__MIN(room, (uint64_t)info.memory_free);
    if (!st && bytes + AWQ__CUDA_LAB_SPARE > room)
        st = awq__fail(ctx, AWQ_E_MEMORY, "%s: quantizing needs %.0f MB of its memory and there are %.0f MB",
                       device->name, (double)(bytes + AWQ__CUDA_LAB_SPARE) / 1e6, (double)room / 1e6);
    if (!st) st = awq__cuda_arena_reserve(ctx, c, &l->memory, bytes);
    if (!st) st = awq__cuda_arena_alloc(ctx, c, &l->memory, bytes, &at);
    if (!st && !c->desc.no_selftest) /* with its products */
        st = awq__cuda_selftest(ctx, c, (1u << AWQ__CUDA_TEST_QUANTIZE_AT | 1u << 9) & ~c->tested);
    awq__cuda_model_leave(c, st);
    if (st) {
        awq__cuda_lab_free(ctx, l);
        return st;
    }
    awq__cuda_lab_place(l, at);
    *lab = l;
    return AWQ_OK;
}

/* --- copies, the context current as in all below: the caller's threads fill and empty the pinned buffers */
#define AWQ__CUDA_LAB_PIECE ((size_t)256 << 10)

typedef struct awq__cuda_copy {
    char *to;
    const char *from;
    size_t bytes;
} awq__cuda_copy;

static void awq__cuda_copy_job(void *arg, int64_t i)
{
    const awq__cuda_copy *c = (const awq__cuda_copy *)arg;
    size_t at = (size_t)i * AWQ__CUDA_LAB_PIECE;
    memcpy(c->to + at, c->from + at, AWQ__MIN(AWQ__CUDA_LAB_PIECE, c->bytes - at));
}

static void awq__cuda_lab_copy(awq_ctx *ctx, void *to, const void *from, size_t bytes)
{
    awq__cuda_copy c;
    c.to = (char *)to;
    c.from = (const char *)from;
    c.bytes = bytes;
    awq__run(ctx, (int64_t)((bytes + AWQ__CUDA_LAB_PIECE - 1) / AWQ__CUDA_LAB_PIECE), awq__cuda_copy_job, &c);
}

static awq_status awq__cuda_lab_up(awq_ctx *ctx, awq_cuda *c, uint64_t dst, const void *src, size_t bytes)
{
    size_t at, n;
    void *room;
    for (at = 0; at < bytes; at += n) {
        n = AWQ__MIN(bytes - at, AWQ__CUDA_STAGE);
        AWQ__TRY(awq__cuda_stage(ctx, c, &room));
        awq__cuda_lab_copy(ctx, room, (const char *)src + at, n);
        AWQ__TRY(awq__cuda_stage_send(ctx, c, dst + at, n));
    }
    return AWQ_OK;
}

static awq_status awq__cuda_lab_down(awq_ctx *ctx, awq_cuda *c, void *dst, uint64_t src, size_t bytes)
{
    size_t queued = 0, at = 0, n;
    int first = c->stage_next; /* the buffer of what was queued first */
    void *room;
    while (at < bytes) { /* one buffer is filled while the other is emptied */
        while (queued < bytes && queued < at + 2 * AWQ__CUDA_STAGE) {
            n = AWQ__MIN(bytes - queued, AWQ__CUDA_STAGE);
            AWQ__TRY(awq__cuda_stage(ctx, c, &room));
            AWQ__TRY(AWQ__CU(ctx, c, MemcpyDtoHAsync, (room, src + queued, n, c->stream)));
            AWQ__TRY(AWQ__CU(ctx, c, EventRecord, (c->stage_free[c->stage_next], c->stream)));
            c->stage_next = !c->stage_next;
            queued += n;
        }
        n = AWQ__MIN(bytes - at, AWQ__CUDA_STAGE);
        AWQ__TRY(AWQ__CU(ctx, c, EventSynchronize, (c->stage_free[first])));
        awq__cuda_lab_copy(ctx, (char *)dst + at, c->stage[first], n);
        first = !first;
        at += n;
    }
    return AWQ_OK;
}

static awq_status awq__cuda_lab_queue(awq_ctx *ctx, awq_cuda *c, const char *name, int64_t x, int64_t y,
                                      size_t shared, void *arg)
{
    awq__cuda_kernel k;
    unsigned grid[3];
    void *params[1];
    grid[0] = (unsigned)x;
    grid[1] = (unsigned)y;
    grid[2] = 1;
    params[0] = arg;
    AWQ__TRY(awq__cuda_find(ctx, c, AWQ__CUDA_QUANTIZE, name, shared, &k));
    return awq__cuda_queue(ctx, c, &k, grid, 256, 1, params);
}

/* x [rows][cols] fp32 to hi and lo, rows y_stride apart */
static awq_status awq__cuda_lab_split(awq_ctx *ctx, awq_cuda *c, uint64_t x, int64_t rows, int64_t cols,
                                      uint64_t hi, uint64_t lo, int64_t y_stride)
{
    awq__cuda_split p;
    memset(&p, 0, sizeof p);
    p.x = x;
    p.hi = hi;
    p.lo = lo;
    p.rows = (int32_t)rows;
    p.cols = p.x_stride = (int32_t)cols;
    p.y_stride = (int32_t)y_stride;
    return awq__cuda_lab_queue(ctx, c, "awq_split", (AWQ__CUDA_PAD(cols) + 511) / 512, rows, 0, &p);
}

/* factor a: rows of x; factor b, at `parts`: likewise, rows first, first + 1, ... of n */
static awq_status awq__cuda_lab_left(awq_ctx *ctx, awq__cuda_lab *l, uint64_t x, int64_t rows, int64_t k)
{
    int64_t pad = AWQ__CUDA_PAD(k);
    return awq__cuda_lab_split(ctx, l->c, x, rows, k, l->a, l->a + (uint64_t)pad * 2, 2 * pad);
}
static awq_status awq__cuda_lab_right(awq_ctx *ctx, awq__cuda_lab *l, uint64_t x, int64_t first, int64_t rows,
                                      int64_t n, int64_t k, uint64_t parts)
{
    int64_t pad = AWQ__CUDA_PAD(k);
    uint64_t hi = parts + (uint64_t)(first * pad) * 2;
    return awq__cuda_lab_split(ctx, l->c, x, rows, k, hi, hi + (uint64_t)(n * pad) * 2, pad);
}

/* the same of columns of x [rows][cols], each row times its weight */
static awq_status awq__cuda_lab_columns(awq_ctx *ctx, awq__cuda_lab *l, uint64_t x, uint64_t weight,
                                        int64_t rows, int64_t cols, int left)
{
    awq__cuda_split p;
    int64_t pad = AWQ__CUDA_PAD(rows);
    memset(&p, 0, sizeof p);
    p.x = x;
    p.weight = weight;
    p.hi = left ? l->a : l->b;
    p.lo = p.hi + (uint64_t)(left ? pad : cols * pad) * 2;
    p.rows = (int32_t)rows;
    p.cols = p.x_stride = (int32_t)cols;
    p.y_stride = (int32_t)(left ? 2 * pad : pad);
    return awq__cuda_lab_queue(ctx, l->c, "awq_split_transposed", pad / 64, (cols + 31) / 32, 8448, &p);
}

/* y [rows][n] (+)= factor a [rows][k] times factor b [n][k], transposed, at `parts` */
static awq_status awq__cuda_lab_product(awq_ctx *ctx, awq__cuda_lab *l, int64_t rows, int64_t n, int64_t k,
                                        uint64_t parts, uint64_t bias, uint64_t y, int add)
{
    awq_cuda_linear w;
    int64_t pad = AWQ__CUDA_PAD(k);
    int i;
    memset(&w, 0, sizeof w);
    w.out_features = n;
    w.in_features = w.group_size = k;
    w.bits = 16;
    w.dtype = AWQ_BF16;
    for (i = 0; i < 3; i++) { /* hi hi, hi lo, lo hi */
        w.weights = parts + (uint64_t)(i == 1 ? n * pad : 0) * 2;
        w.bias = i ? 0 : bias;
        AWQ__TRY(awq_cuda_linear_run(ctx, l->c, &w, l->a + (uint64_t)(i == 2 ? pad : 0) * 2, 2 * pad, rows,
                                     AWQ_F32, y, n, (i || add ? AWQ_CUDA_ADD : 0) | (i ? 0 : AWQ_CUDA_FRESH)));
    } /* the first waits for the parts, the others for it */
    return AWQ_OK;
}

static awq_status awq__cuda_lab_linear(awq_ctx *ctx, void *lab, int i, const float *weight, const float *bias)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    int64_t out = l->d.out[i], in = l->d.in[i];
    uint64_t at = l->weight[i] ? l->weight[i] : l->w;
    awq_status st;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    st = awq__cuda_lab_up(ctx, l->c, at, weight, (size_t)(out * in) * 4);
    if (!st) st = awq__cuda_lab_right(ctx, l, at, 0, out, out, in, l->parts[i]);
    if (!st && bias) st = awq__cuda_lab_up(ctx, l->c, l->bias[i], bias, (size_t)out * 4);
    l->biased[i] = bias != NULL;
    return awq__cuda_model_leave(l->c, st);
}

/* to [out, in] = the weights at w rounded as d and scales say, or what that adds to them */
static awq_status awq__cuda_lab_round(awq_ctx *ctx, awq__cuda_lab *l, uint64_t w, int64_t out, int64_t in,
                                      const awq_search_desc *d, const float *scales, int difference,
                                      uint64_t to)
{
    awq__cuda_rounding p;
    memset(&p, 0, sizeof p);
    if (scales) AWQ__TRY(awq__cuda_lab_up(ctx, l->c, l->scales, scales, (size_t)in * 4));
    p.w = w;
    p.scales = scales ? l->scales : 0;
    p.to = to;
    p.in = (int32_t)in;
    p.group = (int32_t)d->group_size;
    p.bits = d->bits;
    p.symmetric = d->symmetric;
    p.difference = difference;
    return awq__cuda_lab_queue(ctx, l->c, "awq_candidate", (in / d->group_size + 7) / 8, out, 0, &p);
}

static awq_status awq__cuda_lab_candidate(awq_ctx *ctx, void *lab, int i, int to, const awq_search_desc *d,
                                          const float *scales)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    int64_t out = l->d.out[i], in = l->d.in[i];
    awq_status st;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    st = awq__cuda_lab_round(ctx, l, l->weight[i], out, in, d, scales, 0, l->w);
    if (!st) st = awq__cuda_lab_right(ctx, l, l->w, 0, out, out, in, l->parts[to]);
    if (!st && l->biased[i])
        st = AWQ__CU(ctx, l->c, MemcpyDtoDAsync, (l->bias[to], l->bias[i], (size_t)out * 4, l->c->stream));
    l->biased[to] = l->biased[i];
    return awq__cuda_model_leave(l->c, st);
}

/* y = linear i of what is factor a */
static awq_status awq__cuda_lab_apply(awq_ctx *ctx, awq__cuda_lab *l, int i, int64_t n, uint64_t y)
{
    return awq__cuda_lab_product(ctx, l, n, l->d.out[i], l->d.in[i], l->parts[i],
                                 l->biased[i] ? l->bias[i] : 0, y, 0);
}

static awq_status awq__cuda_lab_keep(awq_ctx *ctx, void *lab, int64_t first, int64_t n, const float *x)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    int64_t H = l->d.hidden;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    return awq__cuda_model_leave(l->c, awq__cuda_lab_up(ctx, l->c, l->kept + (uint64_t)(first * H) * 4, x,
                                                        (size_t)(n * H) * 4));
}

static awq_status awq__cuda_lab_take(awq_ctx *ctx, void *lab, const float *x, int64_t first, int64_t n,
                                     int64_t width)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    awq_status st = AWQ_OK;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    if (x) st = awq__cuda_lab_up(ctx, l->c, l->x[0], x, (size_t)(n * width) * 4);
    if (!st)
        st = awq__cuda_lab_left(ctx, l, x ? l->x[0] : l->kept + (uint64_t)(first * width) * 4, n, width);
    return awq__cuda_model_leave(l->c, st);
}

static awq_status awq__cuda_lab_run(awq_ctx *ctx, void *lab, const int *i, int n_i, int64_t n, float *const *y)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    awq_status st = AWQ_OK;
    int k;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    for (k = 0; !st && k < n_i; k++) {
        st = awq__cuda_lab_apply(ctx, l, i[k], n, l->y);
        if (!st) st = awq__cuda_lab_down(ctx, l->c, y[k], l->y, (size_t)(n * l->d.out[i[k]]) * 4);
    }
    return awq__cuda_model_leave(l->c, st);
}

/* l->hidden [n][width] goes to y, if that is wanted, and is taken */
static awq_status awq__cuda_lab_hand_on(awq_ctx *ctx, awq__cuda_lab *l, int64_t n, int64_t width, float *y)
{
    if (y) AWQ__TRY(awq__cuda_lab_down(ctx, l->c, y, l->hidden, (size_t)(n * width) * 4));
    return awq__cuda_lab_left(ctx, l, l->hidden, n, width);
}

static awq_status awq__cuda_lab_hidden(awq_ctx *ctx, void *lab, const awq_config *c, int gate, int up,
                                       int64_t n, float *y)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    int64_t all = n * l->d.out[gate];
    awq__cuda_gated p;
    awq_status st;
    memset(&p, 0, sizeof p);
    p.gate = l->y;
    p.up = up < 0 ? 0 : l->y + (uint64_t)all * 4;
    p.y = l->hidden;
    p.n = (uint64_t)all;
    p.kind = (int32_t)c->act;
    p.alpha = (float)c->act_alpha;
    p.limit = (float)c->act_limit;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    st = awq__cuda_lab_apply(ctx, l, gate, n, p.gate);
    if (!st && up >= 0) st = awq__cuda_lab_apply(ctx, l, up, n, p.up);
    if (!st) st = awq__cuda_lab_queue(ctx, l->c, "awq_gated", (all + 1023) / 1024, 1, 0, &p);
    if (!st) st = awq__cuda_lab_hand_on(ctx, l, n, l->d.out[gate], y);
    return awq__cuda_model_leave(l->c, st);
}

/* norm (NULL: none) and rope (at x[0] and x[1]) of heads at x, in place */
static awq_status awq__cuda_lab_turn(awq_ctx *ctx, awq__cuda_lab *l, const awq_config *c,
                                     const awq__layer *layer, uint64_t x, int64_t n, int heads,
                                     const float *norm, uint64_t room)
{
    awq__cuda_turn p;
    memset(&p, 0, sizeof p);
    if (norm) AWQ__TRY(awq__cuda_lab_up(ctx, l->c, room, norm, (size_t)c->head_dim * 4));
    p.x = x;
    p.norm = norm ? room : 0;
    if (layer->rope && c->rope_dim) p.cos_ = l->x[0], p.sin_ = l->x[1];
    p.heads = heads;
    p.dim = c->head_dim;
    p.rope_dim = c->rope_dim;
    p.rope_first = c->rope_first;
    p.rope_pairs = c->rope_pairs;
    p.rope_table = layer->sliding;
    p.eps = (float)c->rms_norm_eps;
    return awq__cuda_lab_queue(ctx, l->c, "awq_turn", n, (heads + 7) / 8, (size_t)c->head_dim * 32, &p);
}

static awq_status awq__cuda_lab_attend_of(awq_ctx *ctx, awq__cuda_lab *l, const awq_config *c,
                                          const awq__layer *layer, const float *cos_, const float *sin_,
                                          int64_t n, float *y)
{
    const int *at = layer->remote->at;
    size_t rope = (size_t)(n * (c->rope_dim / 2 * 2)) * 4;
    awq__cuda_attention p;
    memset(&p, 0, sizeof p);
    p.q = l->y;
    p.k = p.q + (uint64_t)(n * l->d.out[at[AWQ_Q_PROJ]]) * 4;
    p.v = p.k + (uint64_t)(n * l->d.out[at[AWQ_K_PROJ]]) * 4;
    p.out = l->hidden;
    p.n = (int32_t)n;
    p.heads = c->num_attention_heads;
    p.group = c->num_attention_heads / c->num_key_value_heads;
    p.k_dim = c->head_dim;
    p.v_dim = c->v_head_dim;
    p.window = layer->sliding ? (int32_t)AWQ__MIN(c->sliding_window, (int64_t)INT32_MAX) : 0;
    p.scale = (float)c->attention_scale;
    AWQ__TRY(awq__cuda_lab_apply(ctx, l, at[AWQ_Q_PROJ], n, p.q));
    AWQ__TRY(awq__cuda_lab_apply(ctx, l, at[AWQ_K_PROJ], n, p.k));
    AWQ__TRY(awq__cuda_lab_apply(ctx, l, at[AWQ_V_PROJ], n, p.v));
    if (layer->rope && rope) {
        AWQ__TRY(awq__cuda_lab_up(ctx, l->c, l->x[0], cos_, rope));
        AWQ__TRY(awq__cuda_lab_up(ctx, l->c, l->x[1], sin_, rope));
    }
    AWQ__TRY(awq__cuda_lab_turn(ctx, l, c, layer, p.q, n, p.heads, layer->vec[AWQ_Q_NORM], l->norms));
    AWQ__TRY(awq__cuda_lab_turn(ctx, l, c, layer, p.k, n, c->num_key_value_heads, layer->vec[AWQ_K_NORM],
                                l->norms + 1024));
    AWQ__TRY(awq__cuda_lab_queue(ctx, l->c, "awq_sequence", (n + 31) / 32, p.heads,
                                 (size_t)(2 * p.k_dim + 1 + p.v_dim) * 128, &p));
    return awq__cuda_lab_hand_on(ctx, l, n, (int64_t)p.heads * p.v_dim, y);
}

static awq_status awq__cuda_lab_attend(awq_ctx *ctx, void *lab, const awq_config *c, const awq__layer *layer,
                                       const float *cos_, const float *sin_, int64_t n, float *y)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    return awq__cuda_model_leave(l->c, awq__cuda_lab_attend_of(ctx, l, c, layer, cos_, sin_, n, y));
}

static awq_status awq__cuda_lab_judge(awq_ctx *ctx, void *lab, int i, int64_t first, int64_t n, double *sum)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    uint64_t judged = l->judged + (uint64_t)(first * l->d.hidden) * 4;
    float *row = sum ? AWQ__NEW_RAW(ctx, float, n) : NULL;
    awq__cuda_dots p;
    awq_status st = sum && !row ? AWQ_E_MEMORY : awq__cuda_model_enter(ctx, l->c);
    int64_t r;
    if (!st) {
        memset(&p, 0, sizeof p);
        p.a = l->y;
        p.b = judged;
        p.out = l->vector;
        p.n = (int32_t)l->d.hidden;
        p.difference = 1;
        st = awq__cuda_lab_apply(ctx, l, i, n, sum ? l->y : judged);
        if (!st && sum) st = awq__cuda_lab_queue(ctx, l->c, "awq_row_dots", n, 1, 128, &p);
        if (!st && sum) st = awq__cuda_lab_down(ctx, l->c, row, p.out, (size_t)n * 4);
        awq__cuda_model_leave(l->c, st);
    }
    for (r = 0; !st && sum && r < n; r++) *sum += row[r];
    awq__free(ctx, row);
    return st;
}

/* --- sums */
static awq_status awq__cuda_lab_zero(awq_ctx *ctx, void *lab, int i, int64_t wa, int64_t wb)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    awq_status st;
    l->wa[i] = wa;
    l->wb[i] = wb;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    st = AWQ__CU(ctx, l->c, MemsetD8Async, (l->sum[i], 0, (size_t)(wa * wb) * 4, l->c->stream));
    return awq__cuda_model_leave(l->c, st);
}

static awq_status awq__cuda_lab_add(awq_ctx *ctx, void *lab, int i, const float *a, const float *b,
                                    const float *weight, int64_t n)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    int64_t wa = l->wa[i], wb = l->wb[i];
    uint64_t from = b == a ? l->x[0] : l->x[1];
    awq_status st;
    if (!n) return AWQ_OK;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    st = awq__cuda_lab_up(ctx, l->c, l->x[0], a, (size_t)(n * wa) * 4);
    if (!st && b != a) st = awq__cuda_lab_up(ctx, l->c, from, b, (size_t)(n * wb) * 4);
    if (!st && weight) st = awq__cuda_lab_up(ctx, l->c, l->vector, weight, (size_t)n * 4);
    if (!st) st = awq__cuda_lab_columns(ctx, l, l->x[0], 0, n, wa, 1);
    if (!st) st = awq__cuda_lab_columns(ctx, l, from, weight ? l->vector : 0, n, wb, 0);
    if (!st) st = awq__cuda_lab_product(ctx, l, wa, wb, n, l->b, 0, l->sum[i], 1);
    return awq__cuda_model_leave(l->c, st);
}

static awq_status awq__cuda_lab_read(awq_ctx *ctx, void *lab, int i, float *sum)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    return awq__cuda_model_leave(
        l->c, awq__cuda_lab_down(ctx, l->c, sum, l->sum[i], (size_t)(l->wa[i] * l->wb[i]) * 4));
}

/* --- searches */
static awq_status awq__cuda_lab_losses_of(awq_ctx *ctx, awq__cuda_lab *l, int64_t out, int64_t in,
                                          const float *moments, const awq_search_desc *d, const float *scales,
                                          int n, float *row, double *losses)
{
    int64_t piece = AWQ__MIN(l->d.largest / in, AWQ__CUDA_GRID_Y), at, o;
    awq__cuda_dots p;
    int r;
    memset(&p, 0, sizeof p);
    for (at = 0; moments && at < in; at += piece) { /* symmetric: rows are columns */
        int64_t rows = AWQ__MIN(piece, in - at);
        AWQ__TRY(awq__cuda_lab_up(ctx, l->c, l->y, moments + at * in, (size_t)(rows * in) * 4));
        AWQ__TRY(awq__cuda_lab_right(ctx, l, l->y, at, rows, in, in, l->b));
    }
    p.a = l->hidden;
    p.b = l->y;
    p.out = l->vector;
    p.n = (int32_t)in;
    for (r = 0; r <= n; r++) {
        AWQ__TRY(awq__cuda_lab_round(ctx, l, l->w, out, in, d, r < n ? scales + r * in : NULL, 1, p.a));
        AWQ__TRY(awq__cuda_lab_left(ctx, l, p.a, out, in));
        AWQ__TRY(awq__cuda_lab_product(ctx, l, out, in, in, l->b, 0, p.b, 0));
        AWQ__TRY(awq__cuda_lab_queue(ctx, l->c, "awq_row_dots", out, 1, 128, &p));
        AWQ__TRY(awq__cuda_lab_down(ctx, l->c, row, p.out, (size_t)out * 4));
        for (o = 0; o < out; o++) losses[r] += row[o];
    }
    return AWQ_OK;
}

static awq_status awq__cuda_lab_losses(awq_ctx *ctx, void *lab, const float *w, int64_t out, int64_t in,
                                       const float *moments, const awq_search_desc *d, const float *scales,
                                       int n, double *losses)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    float *row = AWQ__NEW_RAW(ctx, float, out);
    awq_status st = row ? awq__cuda_model_enter(ctx, l->c) : AWQ_E_MEMORY;
    if (!st) {
        st = awq__cuda_lab_up(ctx, l->c, l->w, w, (size_t)(out * in) * 4);
        if (!st) st = awq__cuda_lab_losses_of(ctx, l, out, in, moments, d, scales, n, row, losses);
        awq__cuda_model_leave(l->c, st);
    }
    awq__free(ctx, row);
    return st;
}

static awq_status awq__cuda_lab_clips(awq_ctx *ctx, void *lab, const float *w, int64_t out, int64_t in,
                                      const float *moments, const awq_search_desc *d, float *clip)
{
    awq__cuda_lab *l = (awq__cuda_lab *)lab;
    int64_t g = d->group_size;
    awq__cuda_clips p;
    awq_status st;
    memset(&p, 0, sizeof p);
    p.w = l->w;
    p.moments = l->b;
    p.clip = l->hidden;
    p.out = (int32_t)out;
    p.in = (int32_t)in;
    p.group = (int32_t)g;
    p.bits = d->bits;
    p.symmetric = d->symmetric;
    AWQ__TRY(awq__cuda_model_enter(ctx, l->c));
    st = awq__cuda_lab_up(ctx, l->c, l->w, w, (size_t)(out * in) * 4);
    if (!st) st = awq__cuda_lab_up(ctx, l->c, l->b, moments, (size_t)(in * g) * 4);
    if (!st) st = awq__cuda_lab_queue(ctx, l->c, "awq_clips", in / g, (out + 7) / 8, (size_t)g * 32, &p);
    if (!st) st = awq__cuda_lab_down(ctx, l->c, clip, l->hidden, (size_t)(out * (in / g)) * 4);
    return awq__cuda_model_leave(l->c, st);
}

static void awq__cuda_lab_device(awq_device *d)
{
    d->lab = awq__cuda_lab_open;
    d->lab_free = awq__cuda_lab_free;
    d->lab_linear = awq__cuda_lab_linear;
    d->lab_candidate = awq__cuda_lab_candidate;
    d->lab_keep = awq__cuda_lab_keep;
    d->lab_take = awq__cuda_lab_take;
    d->lab_run = awq__cuda_lab_run;
    d->lab_hidden = awq__cuda_lab_hidden;
    d->lab_attend = awq__cuda_lab_attend;
    d->lab_judge = awq__cuda_lab_judge;
    d->lab_zero = awq__cuda_lab_zero;
    d->lab_add = awq__cuda_lab_add;
    d->lab_read = awq__cuda_lab_read;
    d->lab_losses = awq__cuda_lab_losses;
    d->lab_clips = awq__cuda_lab_clips;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>device
   One device from driver to self-test, and the same told in words.
   Invariants: checks come in the order of their cost, all before anything is loaded to the device; whatever was
   reached is freed on failure.
   Tests: tests/test_cuda.c */

#define AWQ__CUDA_SELFTEST_N 1000

/* The host's side of awq_mix in tools/cuda/selftest.cuh. */
static uint32_t awq__cuda_mix(uint32_t i, uint32_t seed)
{
    uint32_t h = (i ^ seed) * 0x9e3779b1u;
    h ^= h >> 15;
    h *= 0x85ebca77u;
    return h ^ h >> 13;
}

static awq_status awq__cuda_first_kernel(awq_ctx *ctx, awq_cuda *c)
{
    static const unsigned grid[3] = {(AWQ__CUDA_SELFTEST_N + 255) / 256, 1, 1};
    awq__cuda_block *b = NULL;
    awq__cuda_kernel k;
    uint32_t out[AWQ__CUDA_SELFTEST_N], n = AWQ__CUDA_SELFTEST_N, seed = 0x51f15e;
    uint64_t ptr;
    void *params[3];
    awq_status st;
    AWQ__TRY(awq__cuda_find(ctx, c, AWQ__CUDA_SELFTEST, "awq_selftest", 0, &k));
    AWQ__TRY(awq__cuda_block_new(ctx, c, sizeof out, &b));
    ptr = b->ptr;
    params[0] = &ptr;
    params[1] = &n;
    params[2] = &seed;
    st = AWQ__CU(ctx, c, MemsetD8Async, (ptr, 0, sizeof out, c->stream));
    if (!st) st = awq__cuda_queue(ctx, c, &k, grid, 256, 0, params);
    if (!st) st = awq__cuda_download(ctx, c, out, ptr, sizeof out);
    awq__cuda_block_free(c, b);
    for (n = 0; n < AWQ__CUDA_SELFTEST_N && !st; n++)
        if (out[n] != awq__cuda_mix(n, seed))
            st = awq__fail(ctx, AWQ_E_DEVICE,
                           "CUDA device %d (%s) computes wrongly: value %u of the self-test is %08x, not %08x",
                           c->info.index, c->info.name, (unsigned)n, (unsigned)out[n],
                           (unsigned)awq__cuda_mix(n, seed));
    return st;
}

/* Device memory to hold at most: desc.memory_limit, or what is free less a reserve for others. */
static awq_status awq__cuda_find_limit(awq_ctx *ctx, awq_cuda *c)
{
    awq_cuda_info *in = &c->info;
    size_t reserve = ((size_t)256 << 20) + in->memory_total / 64;
    AWQ__TRY(AWQ__CU(ctx, c, MemGetInfo, (&in->memory_free, &in->memory_total)));
    if (c->desc.alloc && !c->desc.memory_limit) in->memory_limit = SIZE_MAX; /* the program keeps count */
    else if (c->desc.memory_limit > in->memory_free && !c->desc.alloc)
        return awq__fail(ctx, AWQ_E_MEMORY,
                         "CUDA device %d (%s): memory_limit is %llu bytes, %llu of %llu are free", in->index,
                         in->name, (unsigned long long)c->desc.memory_limit,
                         (unsigned long long)in->memory_free, (unsigned long long)in->memory_total);
    else if (c->desc.memory_limit) in->memory_limit = c->desc.memory_limit;
    else if (in->memory_free > reserve) in->memory_limit = in->memory_free - reserve;
    else
        return awq__fail(ctx, AWQ_E_MEMORY,
                         "CUDA device %d (%s): %llu of %llu bytes are free, less than the %llu kept in reserve",
                         in->index, in->name, (unsigned long long)in->memory_free,
                         (unsigned long long)in->memory_total, (unsigned long long)reserve);
    return AWQ_OK;
}

static awq_status awq__cuda_start(awq_ctx *ctx, awq_cuda *c)
{
    awq_status st;
    AWQ__TRY(awq__cuda_find_driver(ctx, c));
    AWQ__TRY(awq__cuda_find_device(ctx, c));
    awq__cuda_find_cache(ctx, c);
    AWQ__TRY(awq__cuda_list_nvrtc(ctx, c));
    AWQ__TRY(awq__cuda_find_nvrtc(ctx, c));
    if (!c->context) {
        double began = awq__now();
        AWQ__TRY(AWQ__CU(ctx, c, DevicePrimaryCtxRetain, (&c->context, c->device)));
        c->info.context_seconds = awq__now() - began;
        c->own_context = 1;
    }
    AWQ__TRY(awq__cuda_enter(ctx, c));
    st = awq__cuda_find_limit(ctx, c);
    if (!st && !c->stream) {
        st = AWQ__CU(ctx, c, StreamCreate, (&c->stream, AWQ__CU_STREAM_NON_BLOCKING));
        c->own_stream = !st;
    }
    if (!st) st = awq__cuda_first_kernel(ctx, c);
    awq__cuda_model_device(c);
    awq__cuda_lab_device(&c->as_device);
    awq__cuda_leave(c);
    return st;
}

/* An awq_cuda as far as it came, whose status *st is; NULL: out of memory. */
static awq_cuda *awq__cuda_create(awq_ctx *ctx, const awq_cuda_desc *desc, awq_status *st)
{
    awq_cuda *c = AWQ__NEW(ctx, awq_cuda, 1);
    double began = awq__now();
    *st = AWQ_E_MEMORY;
    if (!c) return NULL;
    awq__mutex_init(&c->lock);
    c->own.allocator = ctx->allocator;
    if (desc) c->desc = *desc;
    if (!c->desc.alloc != !c->desc.free)
        *st = awq__fail(ctx, AWQ_E_ARG, "awq_cuda_create: alloc and free go together, one is NULL");
    else *st = awq__cuda_start(ctx, c);
    if (!*st && c->trail.failed) *st = awq__fail(ctx, AWQ_E_MEMORY, "out of memory while looking for CUDA");
    c->info.create_seconds = awq__now() - began;
    return c;
}

AWQ_API awq_status awq_cuda_create(awq_ctx *ctx, const awq_cuda_desc *desc, awq_cuda **cuda)
{
    awq_status st;
    awq_cuda *c;
    if (!cuda) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_create: cuda is NULL");
    if (AWQ__BIG_ENDIAN)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "awq_cuda_create: no driver is for big-endian machines");
    c = awq__cuda_create(ctx, desc, &st);
    if (st) awq_cuda_free(ctx, c);
    else *cuda = c;
    return st;
}

AWQ_API void awq_cuda_free(awq_ctx *ctx, awq_cuda *c)
{
    awq_error err; /* of a call that failed before: freeing tells nothing */
    int i, entered;
    if (!c) return;
    err = ctx->err;
    /* a lost context is entered too: handles go, whatever the driver says */
    entered = c->context && !c->cu.CtxPushCurrent(c->context);
    if (entered && !c->entered++) awq__cuda_capture_mode(c, AWQ__CU_CAPTURE_RELAXED);
    if (c->stream && !c->lost) c->cu.StreamSynchronize(c->stream);
    while (c->blocks) awq__cuda_block_free(c, c->blocks);
    for (i = 0; i < 2; i++) {
        if (c->stage_free[i]) c->cu.EventDestroy(c->stage_free[i]);
        if (c->stage[i]) c->cu.MemFreeHost(c->stage[i]);
    }
    for (i = 0; i < (int)AWQ__CUDA_FAMILIES * (int)AWQ__CUDA_FAMILY_PARTS; i++)
        if (c->module[i / AWQ__CUDA_FAMILY_PARTS][i % AWQ__CUDA_FAMILY_PARTS])
            c->cu.ModuleUnload(c->module[i / AWQ__CUDA_FAMILY_PARTS][i % AWQ__CUDA_FAMILY_PARTS]);
    if (c->recorder) c->cu.StreamDestroy(c->recorder);
    if (c->own_stream) c->cu.StreamDestroy(c->stream);
    if (entered) awq__cuda_leave(c);
    if (c->own_context) c->cu.DevicePrimaryCtxRelease(c->device);
    awq__text_free(ctx, &c->trail);
    awq__arena_free(ctx, &c->arena);
    awq__arena_free(&c->own, &c->names);
    awq__free(&c->own, c->functions);
    awq__mutex_free(&c->lock);
    awq__free(ctx, c);
    ctx->err = err;
}

AWQ_API awq_status awq_cuda_get_info(awq_ctx *ctx, awq_cuda *c, awq_cuda_info *info)
{
    size_t available, total;
    awq_status st;
    if (!c || !info) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_get_info: cuda or info is NULL");
    AWQ__TRY(awq__cuda_enter(ctx, c));
    st = AWQ__CU(ctx, c, MemGetInfo, (&available, &total));
    awq__cuda_leave(c);
    AWQ__TRY(st);
    c->info.memory_free = available;
    *info = c->info;
    return AWQ_OK;
}

/* The kernels of a 4-bit llama in F16, with heads of 128, compiled and tried. */
static awq_status awq__cuda_llama(awq_ctx *ctx, awq_cuda *c)
{
    static const int family[] = {AWQ__CUDA_ATTENTION, AWQ__CUDA_DENSE,  AWQ__CUDA_LINEAR, AWQ__CUDA_REPACK,
                                 AWQ__CUDA_ROWS,      AWQ__CUDA_SAMPLE, AWQ__CUDA_WGMMA,  AWQ__CUDA_WGMMA_FEW};
    enum { N = sizeof family / sizeof family[0] };
    /* 4 bits in groups of 32 and of 64, a dense head */
    const uint32_t which = 1u << 0 | 1u << 2 | 1u << 8 | 1u << AWQ__CUDA_TEST_ROWS_AT
                           | 2u << AWQ__CUDA_TEST_ATTEND_AT | 2u << AWQ__CUDA_TEST_EMBED_AT
                           | 1u << AWQ__CUDA_TEST_HEAD_AT;
    awq__cuda_unit unit[N];
    awq_status st;
    int i;
    memset(unit, 0, sizeof unit);
    for (i = 0; i < N; i++) {
        unit[i].family = family[i];
        unit[i].part = family[i] == AWQ__CUDA_ATTENTION;
    }
    AWQ__TRY(awq__cuda_enter(ctx, c));
    st = awq__cuda_modules(ctx, c, unit, strcmp(c->info.arch, "sm_90a") ? N - 2 : N);
    if (!st && !c->desc.no_selftest) st = awq__cuda_selftest(ctx, c, which);
    awq__cuda_leave(c);
    return st;
}

static void awq__cuda_report(awq_ctx *ctx, const awq_cuda *c, awq_status st, awq__text *t)
{
    const awq_cuda_info *in = &c->info;
    int i;
    if (in->driver_version)
        awq__textf(ctx, t, "driver       CUDA %d.%d, %s\n", in->driver_version / 1000,
                   in->driver_version % 1000 / 10, in->driver_path);
    else awq__textf(ctx, t, "driver       %s\n", in->driver_path[0] ? in->driver_path : "none");
    if (in->compute_major)
        awq__textf(ctx, t, "device       %d: %s, compute capability %d.%d, %d multiprocessors\n", in->index,
                   in->name, in->compute_major, in->compute_minor, in->multiprocessors);
    if (in->memory_limit)
        awq__textf(ctx, t, "memory       %.1f GB, %.1f GB free, %.1f GB may be used\n",
                   (double)in->memory_total / 1e9, (double)in->memory_free / 1e9,
                   (double)AWQ__MIN(in->memory_limit, in->memory_free) / 1e9);
    else if (in->memory_total) awq__textf(ctx, t, "memory       %.1f GB\n", (double)in->memory_total / 1e9);
    if (in->nvrtc_major)
        awq__textf(ctx, t, "NVRTC        %d.%d, %s, for %s\n", in->nvrtc_major, in->nvrtc_minor, in->nvrtc_path,
                   in->arch);
    if (in->compute_major)
        awq__textf(ctx, t, "cache        %s\n",
                   in->cache_folder[0] ? in->cache_folder : "none: kernels are compiled anew each time");
    if (in->compiled || in->cache_hits)
        awq__textf(ctx, t,
                   "start        %.0f ms: cuInit %.0f, the context %.0f, the rest with the first kernel %.0f\n"
                   "kernels      of a 4-bit llama in F16: %d compiled in %.0f ms, %d from the cache\n",
                   in->create_seconds * 1e3, in->init_seconds * 1e3, in->context_seconds * 1e3,
                   (in->create_seconds - in->init_seconds - in->context_seconds) * 1e3, in->compiled,
                   in->compile_seconds * 1e3, in->cache_hits);
    for (i = 0; i < (int)AWQ__CUDA_FAMILIES * (int)AWQ__CUDA_FAMILY_PARTS; i++) {
        const int f = i / AWQ__CUDA_FAMILY_PARTS, part = i % AWQ__CUDA_FAMILY_PARTS;
        if (c->module[f][part])
            awq__textf(ctx, t, "  %-10s %s in %.0f ms\n", awq__cuda_family[f].name,
                       c->cached[f][part] ? "loaded from the cache" : "compiled", c->took[f][part] * 1e3);
    }
    if (c->trail.data) awq__text_str(ctx, t, c->trail.data);
    awq__textf(ctx, t, "verdict      ");
    if (st) awq__textf(ctx, t, "no: %s\n", ctx->err.text);
    else
        awq__textf(ctx, t, "ready: %s\n",
                   c->desc.no_selftest ? "the first kernel computed what it should, the others were not tried"
                                       : "these kernels computed what they should");
}

AWQ_API awq_status awq_cuda_doctor(awq_ctx *ctx, const awq_cuda_desc *desc, awq_cuda_report *report)
{
    awq__text t = {NULL, 0, 0, 0};
    awq_cuda_report r;
    awq_status st;
    awq_cuda *c;
    if (!report) return awq__fail(ctx, AWQ_E_ARG, "awq_cuda_doctor: report is NULL");
    c = awq__cuda_create(ctx, desc, &st);
    if (!c) return st;
    if (!st) st = awq__cuda_llama(ctx, c);
    memset(&r, 0, sizeof r);
    r.status = st;
    r.info = c->info;
    if (st) memcpy(r.error, ctx->err.text, sizeof r.error);
    awq__cuda_report(ctx, c, st, &t);
    awq_cuda_free(ctx, c);
    if (t.failed) {
        awq__text_free(ctx, &t);
        return AWQ_E_MEMORY;
    }
    r.text = t.data;
    *report = r;
    return AWQ_OK;
}

AWQ_API void awq_cuda_preflight(const awq_cuda_report *doctors, int n, awq_guard_report *report)
{
    static const char *const id[5] = {"G12.driver", "G12.compute", "G12.compiler", "G12.gpu_memory",
                                      "G12.kernel"};
    static const char *const what[5] = {"devices without a CUDA driver",
                                        "devices of a compute capability below 7.5, or that are not there",
                                        "devices without NVRTC to compile kernels",
                                        "devices without free memory", "devices whose self-test failed"};
    awq__guard g;
    int i, k, lack = 0;
    memset(&g, 0, sizeof g);
    g.r = report;
    for (k = 0; k < 5 && !lack; k++) {
        const char *why = "";
        awq_gate *x;
        for (i = n - 1; i >= 0; i--) {
            const awq_cuda_info *in = &doctors[i].info;
            const int has[5] = {in->driver_version > 0, 10 * in->compute_major + in->compute_minor >= 75,
                                in->nvrtc_major > 0, in->memory_limit > 0, doctors[i].status == AWQ_OK};
            if (!has[k]) why = doctors[i].error;
            lack += !has[k];
        }
        x = awq__guard_gate(&g, id[k], what[k], lack, NAN, 0, 0, 0, 0, "");
        if (lack) snprintf(x->text, sizeof x->text, "%.255s", why);
    }
    report->verdict = awq__guard_verdict(report);
}

#endif /* AWQ_CUDA_IMPLEMENTATION */

/* -------------------------------------------------------------------------------------------------------------
   LICENCE: choose either of the two

   A - MIT
   Copyright (c) 2026 the awq.h authors
   Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
   documentation files (the "Software"), to deal in the Software without restriction, including without
   limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the
   Software, and to permit persons to whom the Software is furnished to do so, subject to the following
   conditions: The above copyright notice and this permission notice shall be included in all copies or
   substantial portions of the Software.
   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED
   TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL
   THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
   CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
   DEALINGS IN THE SOFTWARE.

   B - Public domain (Unlicense, www.unlicense.org)
   This is free and unencumbered software released into the public domain. Anyone is free to copy, modify,
   publish, use, compile, sell, or distribute this software, either in source code form or as a compiled binary,
   for any purpose, commercial or non-commercial, and by any means. In jurisdictions that recognize copyright
   laws, the author or authors of this software dedicate any and all copyright interest in the software to the
   public domain. We make this dedication for the benefit of the public at large and to the detriment of our
   heirs and successors. We intend this dedication to be an overt act of relinquishment in perpetuity of all
   present and future rights to this software under copyright law.
   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED
   TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL
   THE AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
   OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
   SOFTWARE. */
