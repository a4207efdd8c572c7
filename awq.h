/* awq.h - 4-bit activation-aware quantization (AWQ) of llama-family models and a runtime for them, in one file

   Reads a Hugging Face checkpoint, calibrates on text, searches channel scales and clips (arXiv 2306.00978),
   writes the layouts that vLLM, transformers, AutoAWQ, GPTQ and compressed-tensors load, runs the result on the
   CPU and measures what the 4 bits cost. Needs libc, threads and libm. C99, C++11.

   USE: in ONE source file
       #define AWQ_IMPLEMENTATION
       #include "awq.h"
   before other headers, plain #include "awq.h" elsewhere, and
       cc -O2 game.c -lm -lpthread

   Define AWQ_STATIC as well to make every function private to that file.

   EXAMPLE
       awq_ctx ctx = {0};                                        zero means default everywhere
       awq_pool *pool = NULL;
       awq_pool_create(&ctx, 0, &pool);                          0: one thread per core
       ctx.jobs = awq_pool_jobs(pool);
       awq_model *model = NULL;
       if (awq_model_load(&ctx, "my-model", NULL, &model)) { puts(ctx.err.text); return 1; }
       awq_generate_desc desc = {0};
       desc.prompt = "Once upon a time";
       desc.on_text = print_text;                                called with whole UTF-8 characters
       awq_generate(&ctx, model, &desc, NULL);
       awq_model_free(&ctx, model);
       awq_pool_free(&ctx, pool);

   RULES
     - Every fallible call returns an awq_status; AWQ_OK is 0. ctx.err.text then holds one sentence that names
       the file, tensor or setting, what was expected and what was found. Outputs are untouched on failure.
     - One awq_ctx per thread that calls in. No globals, nothing printed, never abort() or exit().
     - Loaded models and tokenizers are read-only and may be shared; a session belongs to one caller.
     - Sizes in elements are int64_t, in bytes size_t. fp16 and bf16 are uint16_t bit patterns.
     - Results do not depend on the number of threads.

   CONTENTS (search for the anchor; declarations first, the implementation in the same order)
       >>context
       >>numbers
       >>json
       >>quantize
       >>layouts
       >>ops
       >>matmul
       >>search
       >>tensors
       >>checkpoint
       >>unicode
       >>tokenizer
       >>tokenizer_file
       >>template
       >>schema
       >>grammar
       >>model
       >>sample
       >>session
       >>evaluate
       >>export
       >>calibrate
       >>quantize_model

   WHAT IT DOES NOT DO
     train, run vision or audio towers, read GGUF or pickle (.bin, .pt) files, spread one model over machines.

   LICENCE: MIT or public domain (Unlicense), at your choice; text at the end. */
#ifndef AWQ_H
#define AWQ_H

#define AWQ_VERSION_MAJOR 0
#define AWQ_VERSION_MINOR 1
#define AWQ_VERSION_PATCH 0
#define AWQ_VERSION "0.1.0"

#if defined(AWQ_IMPLEMENTATION) && !defined(_WIN32)
#  if defined(__APPLE__)
#    ifndef _DARWIN_C_SOURCE
#      define _DARWIN_C_SOURCE
#    endif
#  elif !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#    define _POSIX_C_SOURCE 200809L
#  endif
#  ifndef _FILE_OFFSET_BITS
#    define _FILE_OFFSET_BITS 64
#  endif
#endif

#include <stddef.h>
#include <stdint.h>

#ifdef AWQ_STATIC
#  define AWQ_API static
#elif defined(__cplusplus)
#  define AWQ_API extern "C"
#else
#  define AWQ_API extern
#endif

/* -------------------------------------------------------------------------------------------------------------
   context: status and error text, allocator, jobs, files, log, progress */

typedef enum awq_status {
    AWQ_OK = 0,
    AWQ_E_ARG,         /* an argument or setting is outside its range */
    AWQ_E_MEMORY,      /* the allocator returned NULL or ctx.memory_limit would be passed */
    AWQ_E_IO,          /* a file could not be opened, read, written, renamed */
    AWQ_E_FORMAT,      /* a file is damaged or contradicts itself */
    AWQ_E_UNSUPPORTED, /* well-formed, but not something this library does */
    AWQ_E_NUMERIC,     /* NaN or Inf in weights or activations */
    AWQ_E_LIMIT,       /* a limit of this build or model: context length, AWQ_MAX_* */
    AWQ_E_CANCELLED    /* the progress hook asked to stop */
} awq_status;

/* alloc: `bytes` > 0 bytes aligned to `align` (a power of two, at most 64), or NULL. free: gets the same size.
   Called only on the thread that called the library, never from a job. */
typedef struct awq_allocator {
    void *(*alloc)(void *user, size_t bytes, size_t align);
    void (*free)(void *user, void *ptr, size_t bytes);
    void *user;
} awq_allocator;

/* run: call job(arg, i) once for every i in [0, count), in any order, on any threads, and return when all are
   done. NULL runs them one after another on the caller's thread. The work is cut by shape, never by thread
   count. */
typedef struct awq_jobs {
    void (*run)(void *user, int64_t count, void (*job)(void *arg, int64_t index), void *arg);
    void *user;
} awq_jobs;

/* Positional files. Paths are UTF-8, '/' separates. Every call returns 0 or an errno value (ENOENT, ENOSPC,
   ...). open for write creates or keeps the file (so that a resumed run can go on in it). read and write move
   exactly `bytes` bytes or fail. map may be NULL; if set it returns memory valid until close, or NULL.
   A zero awq_file_system means the operating system's files. */
typedef struct awq_file_system {
    int (*open)(void *user, const char *path, int for_write, void **file);
    int (*size)(void *user, void *file, uint64_t *bytes);
    int (*read)(void *user, void *file, uint64_t offset, void *data, size_t bytes);
    int (*write)(void *user, void *file, uint64_t offset, const void *data, size_t bytes);
    int (*truncate)(void *user, void *file, uint64_t bytes);
    int (*sync)(void *user, void *file);
    int (*close)(void *user, void *file);
    int (*rename)(void *user, const char *from, const char *to); /* files and folders; replaces a file */
    int (*remove)(void *user, const char *path);                 /* a file or an empty folder */
    int (*make_folder)(void *user, const char *path);            /* 0 too when it exists */
    const void *(*map)(void *user, void *file);
    void *user;
} awq_file_system;

/* Read-only files that live in memory: awq_memory_files(list, n) as ctx.files. The list and data stay yours and
   must outlive every object loaded from them; models use mapped weights in place. */
typedef struct awq_memory_file {
    const char *path;
    const void *data;
    size_t bytes;
} awq_memory_file;

typedef struct awq_memory_list {
    const awq_memory_file *files;
    size_t count;
} awq_memory_list;

typedef struct awq_progress {
    const char *stage; /* "calibrate", "quantize", "evaluate", ... */
    int64_t done, total;
    double seconds; /* since the stage began */
} awq_progress;

typedef enum awq_log_level { AWQ_LOG_DEBUG = 0, AWQ_LOG_INFO, AWQ_LOG_WARN } awq_log_level;

typedef enum awq_isa { AWQ_ISA_AUTO = 0, AWQ_ISA_SCALAR, AWQ_ISA_AVX2, AWQ_ISA_AVX512 } awq_isa;

typedef struct awq_error {
    awq_status status;
    char text[1024];
} awq_error;

/* The caller's context: zero it, set what you need, pass it first. Not shared between threads. */
typedef struct awq_ctx {
    awq_allocator allocator; /* zero: malloc */
    awq_jobs jobs;           /* zero: the caller's thread; see awq_pool_create */
    awq_file_system files;   /* zero: the operating system's files */
    void (*log)(void *user, awq_log_level level, const char *text); /* NULL: silent */
    int (*progress)(void *user, const awq_progress *p);             /* NULL: none; nonzero cancels */
    void *user;                                                     /* for log and progress */
    size_t memory_limit;             /* bytes this context may hold; 0: no limit */
    awq_isa isa;                     /* force an instruction set (tests) */
    awq_error err;                   /* the last failure */
    size_t memory_used, memory_peak; /* kept by the library */
    awq_isa isa_found;               /* likewise: asking the processor takes a while */
} awq_ctx;

AWQ_API const char *awq_version(void);
AWQ_API const char *awq_status_name(awq_status status); /* "AWQ_E_IO" */

/* A small pool of threads: n_threads counts the caller's; 0 means one per core. Free it after everything using
   it. */
typedef struct awq_pool awq_pool;
AWQ_API awq_status awq_pool_create(awq_ctx *ctx, int n_threads, awq_pool **pool);
AWQ_API void awq_pool_free(awq_ctx *ctx, awq_pool *pool);
AWQ_API awq_jobs awq_pool_jobs(awq_pool *pool);
AWQ_API int awq_pool_threads(const awq_pool *pool);
AWQ_API int awq_cpu_cores(void);

AWQ_API awq_file_system awq_memory_files(awq_memory_list *list);

AWQ_API awq_isa awq_best_isa(void); /* what this machine has, of those this library uses */
AWQ_API const char *awq_isa_name(awq_isa isa);

/* Element types of tensors in files. */
typedef enum awq_dtype {
    AWQ_DTYPE_NONE = 0,
    AWQ_F64, AWQ_F32, AWQ_F16, AWQ_BF16,
    AWQ_I64, AWQ_I32, AWQ_I16, AWQ_I8,
    AWQ_U64, AWQ_U32, AWQ_U16, AWQ_U8, AWQ_BOOL,
    AWQ_F8_E4M3, AWQ_F8_E5M2
} awq_dtype;
AWQ_API size_t awq_dtype_size(awq_dtype dtype);      /* bytes per element */
AWQ_API const char *awq_dtype_name(awq_dtype dtype); /* as safetensors spells it: "BF16" */

/* n values of F32, F16, BF16 or F64 to fp32 and back (round to nearest even, overflow to Inf). */
AWQ_API awq_status awq_to_float(awq_ctx *ctx, awq_dtype dtype, const void *src, int64_t n, float *dst);
AWQ_API awq_status awq_from_float(awq_ctx *ctx, awq_dtype dtype, const float *src, int64_t n, void *dst);

/* -------------------------------------------------------------------------------------------------------------
   quantize: a matrix to group-wise integers and back */

/* The canonical form of a quantized matrix W [out_features, in_features]: W[o][i] ~ (codes - zeros) * scales.
   Every layout converts to it and back without loss. The arrays belong to the caller. */
typedef struct awq_qweight {
    int64_t out_features, in_features;
    int64_t group_size;    /* in_features per group; divides in_features, which itself means "whole row" */
    int bits;              /* 2..8 */
    int symmetric;         /* zeros are all 2^(bits-1) */
    awq_dtype scale_dtype; /* F16, BF16 or F32: every scale is exactly such a number */
    uint8_t *codes;        /* [out_features, in_features], 0 .. 2^bits - 1 */
    uint8_t *zeros;        /* [out_features, n_groups] */
    float *scales;         /* [out_features, n_groups] */
} awq_qweight;

/* Arrays for a matrix, from ctx's allocator; awq_qweight_free releases them. group_size <= 0: whole row. */
AWQ_API awq_status awq_qweight_alloc(awq_ctx *ctx, int64_t out_features, int64_t in_features, int bits,
                                     int64_t group_size, int symmetric, awq_qweight *w);
AWQ_API void awq_qweight_free(awq_ctx *ctx, awq_qweight *w);

/* Round to nearest on AutoAWQ's grid, in fp16 arithmetic (bit for bit what it computes on fp16 weights):
     asymmetric  s = max(max - min, 1e-5) / (2^b - 1),  z = clamp(-round(min / s)),  q = clamp(round(w / s) + z)
     symmetric   s = max(|w|, 1e-5) / (2^(b-1) - 1),    z = 2^(b-1)
   weights [out_features, in_features] fp32 holding fp16 values; w: allocated, its shape says how.
   Errors: AWQ_E_NUMERIC on NaN or Inf (also after rounding to fp16). */
AWQ_API awq_status awq_quantize(awq_ctx *ctx, const float *weights, awq_qweight *w);

/* out [out_features, in_features] fp32 = (codes - zeros) * scales, exact */
AWQ_API awq_status awq_dequantize(awq_ctx *ctx, const awq_qweight *w, float *out);

/* -------------------------------------------------------------------------------------------------------------
   layouts: the packed forms that engines load, all through awq_qweight, without loss. K = in_features,
   N = out_features, G = K / group_size groups; 4 bits, eight codes to an int32 unless said */

typedef enum awq_layout {
    AWQ_LAYOUT_NONE = 0,
    /* AutoAWQ: qweight I32 [K, N/8], qzeros I32 [G, N/8], scales F16 [G, N], order 0 2 4 6 1 3 5 7 */
    AWQ_LAYOUT_GEMM,
    AWQ_LAYOUT_GEMV, /* AutoAWQ: qweight I32 [N, K/8], qzeros I32 [N, zw], scales F16 [N, 8 zw] */
    /* AutoAWQ, and llm-awq v2: qweight I16 [N/4, K], qzeros F16 [8 zw, N] = -scale * zero */
    AWQ_LAYOUT_GEMV_FAST,
    AWQ_LAYOUT_MARLIN,  /* AutoAWQ: symmetric, qweight I32 [K/16, 2N], scales F16 [G, N] permuted */
    AWQ_LAYOUT_EXLLAMA, /* in memory: qweight I32 [K/8, N], qzeros I32 [G, N/8] = packed zeros - 0x11111111 */
    AWQ_LAYOUT_GPTQ,    /* as exllama, each zero stored as (zero - 1) & 15, g_idx I32 [K] */
    AWQ_LAYOUT_GPTQ_V2, /* as GPTQ, zeros stored as they are */
    AWQ_LAYOUT_COMPRESSED_TENSORS, /* pack-quantized: weight_packed I32 [N, K/8], weight_scale [N, G],
                                      weight_shape I64 [2], asymmetric also weight_zero_point I32 [N/8, G]; 4, 8
                                      bits */
    AWQ_LAYOUT_COUNT
} awq_layout;

/* One tensor of a packed matrix; `suffix` follows the linear's name: "qweight" in "model...q_proj.qweight". */
typedef struct awq_packed_tensor {
    const char *suffix;
    awq_dtype dtype;
    int ndim;
    int64_t shape[2];
    size_t bytes;
    void *data; /* caller's memory */
} awq_packed_tensor;

typedef struct awq_packed {
    awq_layout layout;
    int64_t out_features, in_features, group_size;
    int bits, symmetric;
    awq_dtype scale_dtype;
    int n_tensors;
    awq_packed_tensor tensor[4];
} awq_packed;

AWQ_API const char *awq_layout_name(awq_layout layout);      /* "gemm", "gemv_fast", "compressed-tensors" */
/* also "llm-awq", "marlin", "pack-quantized"; NONE: unknown */
AWQ_API awq_layout awq_layout_from_name(const char *name);

/* Fill everything of `p` but the data pointers for a matrix of this shape (those fields of w that say so; its
   arrays are not read). AWQ_E_UNSUPPORTED when the layout cannot hold it, with a sentence that says which rule
   it breaks. */
AWQ_API awq_status awq_layout_describe(awq_ctx *ctx, awq_layout layout, const awq_qweight *w, awq_packed *p);
/* w -> p's data, and back into w's arrays (allocated, same shape). Unpacking checks what it can. */
AWQ_API awq_status awq_pack(awq_ctx *ctx, const awq_qweight *w, awq_packed *p);
AWQ_API awq_status awq_unpack(awq_ctx *ctx, const awq_packed *p, awq_qweight *w);

/* -------------------------------------------------------------------------------------------------------------
   matmul: y[m, out_features] = x[m, in_features] W^T (+ bias), fp32 activations times weights of any kind */

/* One linear, ready to run: read-only, may be shared. Fields are for the library. */
typedef struct awq_linear {
    int64_t out_features, in_features, group_size, groups; /* groups of a row */
    int bits;             /* 2..8; 0: dense */
    awq_dtype dtype;      /* of dense weights: F32, F16 or BF16; quantized: NONE */
    int zeros_rounded;    /* 0: w = (code - offset) * scale; 1: w = code * scale + offset */
    int64_t row_bytes;    /* of one row of codes */
    const void *weight;   /* dense [out, in], the caller's; or codes [out, row_bytes] */
    const float *scales;  /* [out, n_groups] */
    const float *offsets; /* [out, n_groups] */
    const float *bias;    /* [out], or NULL */
    void *owned[4];
} awq_linear;

/* w and bias (or NULL) are copied. zeros_rounded: the zero term is fp16(-scale * zero), as gemv_fast has it. */
AWQ_API awq_status awq_linear_prepare(awq_ctx *ctx, const awq_qweight *w, int zeros_rounded, const float *bias,
                                      awq_linear *l);
/* Dense weights [out_features, in_features], F32, F16 or BF16. Weight and bias stay the caller's. */
AWQ_API awq_status awq_linear_dense(awq_ctx *ctx, awq_dtype dtype, const void *weight, int64_t out_features,
                                    int64_t in_features, const float *bias, awq_linear *l);
AWQ_API void awq_linear_free(awq_ctx *ctx, awq_linear *l);
AWQ_API size_t awq_linear_bytes(const awq_linear *l); /* allocated by awq_linear_prepare */
/* y must not overlap x. The same bits for every instruction set and number of threads, and for a token alone or
   with others. */
AWQ_API awq_status awq_linear_run(awq_ctx *ctx, const awq_linear *l, const float *x, int64_t m, float *y);

/* -------------------------------------------------------------------------------------------------------------
   search: AWQ's channel scales and clips (arXiv 2306.00978, section 3.2), and rounding with error feedback

   The activations of a linear enter as second moments: moments [in, in] = mean over tokens of x x^T. The mean
   squared error that a change D [out, in] of the weights causes in the outputs is then trace(D moments D^T),
   whatever the number of tokens was. */

typedef struct awq_search_desc {
    int bits;           /* 2..8 */
    int64_t group_size; /* divides in_features */
    int symmetric;
    int no_duo; /* leave the weights' magnitude out of the scales, as llm-awq does */
} awq_search_desc;

#define AWQ_SCALE_GRID 20 /* ratios 0, 1/20, ..., 19/20 */
#define AWQ_CLIP_GRID 10  /* thresholds 1.00, 0.95, ..., 0.55 of the group's largest magnitude */

/* w_mean [in]: mean over the rows of all matrices of |w| / (largest |w| of its group + 1e-6). outs[i] rows
   each. */
AWQ_API awq_status awq_weight_mean(awq_ctx *ctx, const float *const *weights, const int64_t *outs,
                                   int n_weights, int64_t in_features, int64_t group_size, float *w_mean);
/* scales [in] = clamp(x_mean^ratio / (w_mean^(1-ratio) + 1e-4), 1e-4) / sqrt(max * min). Dead channels (x_mean
   or w_mean 0) get 1 and stay out of max and min. */
AWQ_API awq_status awq_scale_candidate(awq_ctx *ctx, const float *x_mean, const float *w_mean,
                                       int64_t in_features, double ratio, int no_duo, float *scales);
/* out [out, in] = Q(clip(weights * scales)) / scales in fp32, rounded to nearest. scales, clip_max may be NULL.
   */
AWQ_API awq_status awq_fake_quantize(awq_ctx *ctx, const float *weights, int64_t out_features,
                                     int64_t in_features, const awq_search_desc *desc, const float *scales,
                                     const float *clip_max, float *out);
/* The grid's best scales for matrices that share an input, judged by the error of their outputs; the identity
   is tried too. losses [AWQ_SCALE_GRID + 1], the last one the identity's; *best is the index. */
AWQ_API awq_status awq_search_scales(awq_ctx *ctx, const float *const *weights, const int64_t *outs,
                                     int n_weights, int64_t in_features, const float *x_mean,
                                     const float *moments, const awq_search_desc *desc, float *scales,
                                     double *losses, int *best);
/* clip_max [out, n_groups]: the reference's clip search, thresholds per row and group that make the error of
   the group's partial product smallest. group_moments [n_groups, group, group] = mean of x_g x_g^T. */
AWQ_API awq_status awq_search_clips(awq_ctx *ctx, const float *weights, int64_t out_features,
                                    int64_t in_features, const float *group_moments,
                                    const awq_search_desc *desc, float *clip_max);

/* -------------------------------------------------------------------------------------------------------------
   tensors: safetensors files, shards and index; reading by position, writing as a stream */

#define AWQ_MAX_DIMS 8

typedef struct awq_tensor {
    const char *name;
    awq_dtype dtype;
    int ndim;
    int64_t shape[AWQ_MAX_DIMS];
    uint64_t bytes;
    int file;        /* shard number */
    uint64_t offset; /* of its first byte in that file */
} awq_tensor;

typedef struct awq_tensors awq_tensors;

/* path: a folder with model.safetensors or model.safetensors.index.json, or one .safetensors file. */
AWQ_API awq_status awq_tensors_open(awq_ctx *ctx, const char *path, awq_tensors **tensors);
AWQ_API void awq_tensors_close(awq_ctx *ctx, awq_tensors *tensors);
AWQ_API int64_t awq_tensors_count(const awq_tensors *tensors);
AWQ_API const awq_tensor *awq_tensors_at(const awq_tensors *tensors, int64_t index); /* sorted by name */
AWQ_API const awq_tensor *awq_tensors_find(const awq_tensors *tensors, const char *name); /* NULL: absent */
AWQ_API const char *awq_tensors_file(const awq_tensors *tensors, int file); /* path, for messages */
/* `bytes` bytes from byte `offset` of the tensor on */
AWQ_API awq_status awq_tensors_read(awq_ctx *ctx, awq_tensors *tensors, const awq_tensor *tensor,
                                    uint64_t offset, void *data, size_t bytes);
/* `count` elements from element `first` on, as fp32 (real dtypes only). AWQ_E_NUMERIC names the tensor and the
   element when one is NaN or Inf. */
AWQ_API awq_status awq_tensors_read_float(awq_ctx *ctx, awq_tensors *tensors, const awq_tensor *tensor,
                                          int64_t first, int64_t count, float *data);
/* the tensor where the file system maps it, NULL when it does not or when it is not aligned for its type */
AWQ_API const void *awq_tensors_map(const awq_tensors *tensors, const awq_tensor *tensor);

/* Writing. Names, dtypes and shapes of everything are given first (file, offset, bytes are computed), then the
   data in any order and in pieces. Files appear in `folder` under "<name>.part" and get their names in
   awq_writer_finish: model.safetensors, or model-00001-of-0000n.safetensors plus the index when more than
   shard_bytes (0: 5 GB). */
typedef struct awq_writer awq_writer;
AWQ_API awq_status awq_writer_open(awq_ctx *ctx, const char *folder, const awq_tensor *list, int64_t count,
                                   uint64_t shard_bytes, int resume, awq_writer **writer);
AWQ_API int64_t awq_writer_find(const awq_writer *writer, const char *name); /* index for write, -1: absent */
AWQ_API awq_status awq_writer_write(awq_ctx *ctx, awq_writer *writer, int64_t index, uint64_t offset,
                                    const void *data, size_t bytes);
/* back what was written, for a resumed run */
AWQ_API awq_status awq_writer_read(awq_ctx *ctx, awq_writer *writer, int64_t index, uint64_t offset, void *data,
                                   size_t bytes);
/* everything written so far is on the disk */
AWQ_API awq_status awq_writer_sync(awq_ctx *ctx, awq_writer *writer);
/* AWQ_E_ARG if bytes are missing; frees it on success */
AWQ_API awq_status awq_writer_finish(awq_ctx *ctx, awq_writer *writer);
/* frees it; removes the parts unless kept */
AWQ_API void awq_writer_abort(awq_ctx *ctx, awq_writer *writer, int keep_parts);

/* -------------------------------------------------------------------------------------------------------------
   checkpoint: a Hugging Face folder: config.json (transformers 4 and 5 spelling), the family's row, tensors,
   quantization_config in its variants */

#define AWQ_MAX_LAYERS 1024
#define AWQ_MAX_EOS 16

typedef enum awq_rope_kind { AWQ_ROPE_DEFAULT = 0, AWQ_ROPE_LINEAR, AWQ_ROPE_LLAMA3 } awq_rope_kind;

/* One linear of a decoder block. */
typedef enum awq_linear_id {
    AWQ_Q_PROJ = 0, AWQ_K_PROJ, AWQ_V_PROJ, AWQ_O_PROJ, AWQ_GATE_PROJ, AWQ_UP_PROJ, AWQ_DOWN_PROJ, AWQ_N_LINEARS
} awq_linear_id;

/* What differs between families, as data. `{}` in a template stands for the layer number. */
typedef struct awq_family {
    const char *model_type;    /* "llama" */
    int qkv_bias;              /* 1 always, 0 never, -1 as config attention_bias says */
    int o_bias;                /* likewise */
    int mlp_bias;              /* 1, 0, -1 as config mlp_bias says */
    int qk_norm;               /* RMSNorm of each head of q and k before rope */
    int tied_by_default;       /* tie_word_embeddings when config does not say */
    const char *embed, *final_norm, *head;               /* "model.embed_tokens.weight", ... */
    const char *input_norm, *post_norm, *q_norm, *k_norm; /* "model.layers.{}.input_layernorm.weight" */
    const char *linear[AWQ_N_LINEARS];                    /* "model.layers.{}.self_attn.q_proj", no ".weight" */
} awq_family;

typedef struct awq_config {
    const awq_family *family;
    char model_type[48];
    int64_t hidden_size, intermediate_size, vocab_size, max_position_embeddings;
    int num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim;
    double rms_norm_eps, rope_theta;
    awq_rope_kind rope_kind;
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    int64_t rope_original_max_position;
    int64_t sliding_window; /* keys j > i - window; 0: none */
    uint8_t layer_is_sliding[AWQ_MAX_LAYERS];
    int tie_word_embeddings, attention_bias, mlp_bias;
    awq_dtype dtype; /* torch_dtype / dtype; F32 when absent */
    int32_t bos_token_id;            /* -1: none */
    int32_t eos_token_id[AWQ_MAX_EOS]; /* config.json and generation_config.json together */
    int n_eos;
} awq_config;

typedef struct awq_quant_config {
    int present;               /* 0: no quantization_config anywhere */
    awq_layout layout;
    int bits, symmetric;
    int64_t group_size;        /* as stated; -1: whole row */
} awq_quant_config;

typedef struct awq_checkpoint awq_checkpoint;

/* Reads and checks everything but the weights' values: config.json, generation_config.json, tensor list,
   presence, shape and type of every tensor the family needs. AWQ_E_FORMAT, _UNSUPPORTED with file and key or
   tensor. */
AWQ_API awq_status awq_checkpoint_open(awq_ctx *ctx, const char *folder, awq_checkpoint **ck);
AWQ_API void awq_checkpoint_close(awq_ctx *ctx, awq_checkpoint *ck);
AWQ_API const awq_config *awq_checkpoint_config(const awq_checkpoint *ck);
AWQ_API const awq_quant_config *awq_checkpoint_quant(const awq_checkpoint *ck);
AWQ_API awq_tensors *awq_checkpoint_tensors(const awq_checkpoint *ck);
AWQ_API const char *awq_checkpoint_folder(const awq_checkpoint *ck);
/* config.json exactly as read (NUL-terminated), for writing changed copies */
AWQ_API const char *awq_checkpoint_config_text(const awq_checkpoint *ck);

/* A linear as stored: dense (weight set) or packed (shape, bits, group_size, layout, tensors set). */
typedef struct awq_linear_info {
    char name[192];               /* without suffix */
    int64_t out_features, in_features;
    int quantized;
    const awq_tensor *weight;     /* dense [out, in] */
    const awq_tensor *bias;       /* [out], or NULL */
    awq_packed packed;            /* data pointers NULL */
    const awq_tensor *part[4];    /* the stored tensor of each packed.tensor[i] */
} awq_linear_info;
AWQ_API awq_status awq_checkpoint_linear(awq_ctx *ctx, const awq_checkpoint *ck, int layer, awq_linear_id id,
                                         awq_linear_info *info);
/* the packed linear in canonical form; w is allocated here, awq_qweight_free it. AWQ_E_NUMERIC on NaN scales.
   */
AWQ_API awq_status awq_checkpoint_read_qweight(awq_ctx *ctx, awq_checkpoint *ck, const awq_linear_info *info,
                                               awq_qweight *w);

/* -------------------------------------------------------------------------------------------------------------
   tokenizer: byte-level BPE and SentencePiece-style BPE as tokenizer.json describes them */

typedef struct awq_tokenizer awq_tokenizer;

/* path: a folder with tokenizer.json (and tokenizer_config.json, chat_template.jinja or .json if there), or the
   tokenizer.json itself. AWQ_E_UNSUPPORTED names the normalizer, pre-tokenizer, regex or model that is not
   known. */
AWQ_API awq_status awq_tokenizer_load(awq_ctx *ctx, const char *path, awq_tokenizer **tokenizer);
AWQ_API void awq_tokenizer_free(awq_ctx *ctx, awq_tokenizer *tokenizer);

/* highest id + 1, added tokens included */
AWQ_API int32_t awq_tokenizer_vocab_size(const awq_tokenizer *tokenizer);
/* id of an exact token, -1 */
AWQ_API int32_t awq_tokenizer_find(const awq_tokenizer *tokenizer, const char *token);
AWQ_API int32_t awq_tokenizer_bos(const awq_tokenizer *tokenizer); /* from tokenizer_config.json, -1: none */
AWQ_API int32_t awq_tokenizer_eos(const awq_tokenizer *tokenizer);
AWQ_API int awq_tokenizer_is_special(const awq_tokenizer *tokenizer, int32_t id);
AWQ_API const char *awq_tokenizer_chat_template(const awq_tokenizer *tokenizer); /* Jinja text or NULL */
/* FNV-1a 64 of tokenizer.json */
AWQ_API uint64_t awq_tokenizer_hash(const awq_tokenizer *tokenizer);

/* UTF-8 text to ids. special: also what the post-processor adds (BOS, ...). Writes at most cap ids, *count is
   the number there are (call again with more room when it is larger). AWQ_E_ARG when text is not UTF-8 (the
   byte is named). */
AWQ_API awq_status awq_encode(awq_ctx *ctx, const awq_tokenizer *tokenizer, const char *text, size_t bytes,
                              int special, int32_t *ids, size_t cap, size_t *count);
/* ids to UTF-8 text as `decode` of the reference does it; skip_special leaves special tokens out. Writes at
   most cap bytes including a NUL; *bytes is the length there is, without the NUL. AWQ_E_ARG on an unknown id.
   */
AWQ_API awq_status awq_decode(awq_ctx *ctx, const awq_tokenizer *tokenizer, const int32_t *ids, size_t count,
                              int skip_special, char *text, size_t cap, size_t *bytes);

/* Text as tokens arrive: whole characters only. Zero it first, set skip_special; awq_decoder_free at the end.
   */
typedef struct awq_decoder {
    int skip_special;
    int32_t *ids; /* the rest is the library's */
    size_t n_ids, cap_ids, prefix, read;
    char *text, *chunk;
    size_t cap_text, cap_chunk;
    void *work;
} awq_decoder;
/* *text [*bytes] is what this id completes (maybe nothing), valid until the next call */
AWQ_API awq_status awq_decoder_push(awq_ctx *ctx, const awq_tokenizer *tokenizer, awq_decoder *decoder,
                                    int32_t id, const char **text, size_t *bytes);
AWQ_API void awq_decoder_free(awq_ctx *ctx, awq_decoder *decoder);

/* -------------------------------------------------------------------------------------------------------------
   template: chat templates (the Jinja subset that models ship) */

typedef struct awq_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* UTF-8 */
} awq_message;

typedef struct awq_template_desc {
    const char *bos_token, *eos_token; /* NULL: "" */
    int add_generation_prompt;
    const char *date_string;           /* for templates that print the date; NULL: their default, or today's */
    int enable_thinking;               /* 0: undefined, 1: true, -1: false */
} awq_template_desc;

/* The rendered conversation in memory of ctx's allocator (awq_text_free it). AWQ_E_ARG carries the template's
   own raise_exception text; AWQ_E_UNSUPPORTED names a construct outside the subset. */
AWQ_API awq_status awq_template_render(awq_ctx *ctx, const char *chat_template, const awq_message *messages,
                                       size_t count, const awq_template_desc *desc, char **text, size_t *bytes);
AWQ_API void awq_text_free(awq_ctx *ctx, char *text);

/* -------------------------------------------------------------------------------------------------------------
   grammar: what an answer may look like: a GBNF grammar, a JSON schema, or a list of choices

   GBNF: name ::= "text" [a-z] [^"] . ( ) | ? * + {2} {2,} {2,5} name, comments from # on; \n \r \t \\ \" \[ \]
   \x2D \u00E9 \U0001F600 are characters. A rule goes on over line breaks in parentheses and around |. Left
   recursion is refused: a rule must read a character before it calls itself.

   JSON schema: an answer is one JSON text that validates, written in the schema's own way:
     - properties in the schema's order, required ones always, the others may be left out;
     - nothing but the properties listed, unless additionalProperties is true or a schema (an object that names
       none may have any); all prefixItems, unless minItems says that fewer do, and more only with items;
     - white space only behind { [ , : and before } ]: a space or, but for :, a line break with indentation;
     - integers of at most 18 digits, or what their bounds allow; other numbers of at most 17 and 16 behind the
       point and an exponent of two;
     - where type is missing, the types that the other keywords speak of, or else any value.
   Keywords: type properties required additionalProperties items prefixItems minItems maxItems enum const
   minLength maxLength pattern format (date time date-time uuid ipv4) minimum maximum exclusiveMinimum
   exclusiveMaximum anyOf, oneOf (the same as anyOf: more than one may match), allOf (of objects, or of one
   schema), $ref (within the schema: #, #/$defs/x, ...), true, false; title description default examples
   deprecated readOnly writeOnly $schema $id $comment are passed over. Every other one is refused by its name,
   as are these where they stand beside what they do not go with (enum beside pattern).
   pattern: a regular expression of characters, . [a-z] [^a-z] \d \w \s \D \W \S \n \t \x2D \u00E9 \. ( ) (?: )
   | ? * + {2,5}, with ^ and $ at the ends of the whole or of its alternatives. */

typedef struct awq_grammar awq_grammar; /* belongs to one caller, like a session; serves many of his sessions */

typedef struct awq_grammar_desc { /* exactly one of gbnf, schema, choices */
    const char *gbnf;   /* rules as llama.cpp's GBNF spells them; the answer is the rule "root" */
    const char *schema; /* a JSON schema, as text */
    const char *const *choices; /* one of these strings, exactly */
    size_t n_choices;
    size_t memory; /* bytes for the automaton's states, at least 64 KB; 0: 4 MB */
} awq_grammar_desc;

/* AWQ_E_FORMAT: not GBNF or a schema, with line and column or the schema's path; AWQ_E_UNSUPPORTED: left
   recursion, a keyword; AWQ_E_ARG: also when no text at all would do; AWQ_E_LIMIT. */
AWQ_API awq_status awq_grammar_create(awq_ctx *ctx, const awq_grammar_desc *desc, awq_grammar **grammar);
AWQ_API void awq_grammar_free(awq_ctx *ctx, awq_grammar *grammar);
/* its rules as GBNF, also what a schema or choices became */
AWQ_API const char *awq_grammar_text(const awq_grammar *grammar);

typedef enum awq_match {
    AWQ_MATCH_NO = 0,  /* no sentence begins like this */
    AWQ_MATCH_PARTIAL, /* the beginning of one */
    AWQ_MATCH_WHOLE    /* a sentence; more may follow or not */
} awq_match;
AWQ_API awq_status awq_grammar_match(awq_ctx *ctx, awq_grammar *grammar, const char *text, size_t bytes,
                                     awq_match *match);

/* -------------------------------------------------------------------------------------------------------------
   model: a checkpoint ready to run */

typedef struct awq_model awq_model;

typedef struct awq_model_desc {
    int rtn_bits;           /* 2..8: round the decoder's dense linears to nearest while loading; 0: as stored */
    int64_t rtn_group_size; /* 0: 128, or the largest of 128, 64, 32 that divides; -1: whole row */
    int rtn_symmetric;
    int no_tokenizer; /* do not look for tokenizer.json */
} awq_model_desc;

/* folder: a Hugging Face checkpoint, dense (F32, F16, BF16) or quantized in any layout of awq_layout, or both
   mixed. */
AWQ_API awq_status awq_model_load(awq_ctx *ctx, const char *folder, const awq_model_desc *desc,
                                  awq_model **model);
/* AWQ_E_ARG, and the model stays, while runners use it. NULL is fine. */
AWQ_API awq_status awq_model_free(awq_ctx *ctx, awq_model *model);
AWQ_API const awq_config *awq_model_config(const awq_model *model);
AWQ_API const awq_tokenizer *awq_model_tokenizer(const awq_model *model); /* NULL: the folder has none */
AWQ_API uint64_t awq_model_bytes(const awq_model *model);                 /* weights in memory */
AWQ_API uint64_t awq_model_linear_bytes(const awq_model *model);          /* of these, read for every token */
/* of the weights as they are computed with, whatever layout they came in: saved sessions carry it */
AWQ_API uint64_t awq_model_hash(const awq_model *model);

/* -------------------------------------------------------------------------------------------------------------
   sample: one token from logits */

/* Applied in this order: grammar, repetition penalty, temperature, top_k, top_p, min_p. Zero everywhere is
   greedy decoding. */
typedef struct awq_sampling {
    float temperature;        /* 0: always the most probable token */
    int top_k;                /* keep the k most probable; 0: all */
    float top_p;              /* keep the smallest set with this probability; 0 or 1: all */
    float min_p;              /* drop tokens below min_p times the best one's probability; 0: none */
    float repetition_penalty; /* divide (or multiply, when negative) the logits of tokens seen; 0 or 1: off */
    int64_t repetition_window; /* tokens looked back at; 0: all */
    uint64_t seed;
} awq_sampling;

/* One token from logits [vocab_size] (changed in place). history: tokens so far, for the penalty. state: the
   random state; set it to sampling->seed before the first call. */
AWQ_API awq_status awq_sample(awq_ctx *ctx, const awq_sampling *sampling, float *logits, int64_t vocab_size,
                              const int32_t *history, int64_t n_history, uint64_t *state, int32_t *id);

/* -------------------------------------------------------------------------------------------------------------
   session: conversations on one model, advanced together in slices of time

       awq_runner_create(&ctx, model, NULL, &runner);
       awq_session_create(&ctx, runner, NULL, &npc[i]);                      as many as wanted
       awq_ask(&ctx, npc[i], &desc);                                         queues a prompt, returns at once
       every frame: awq_step(&ctx, runner, NULL, 0, 2000, &step);            2 ms of work on all of them

   What a session says does not depend on the others, on how the time is sliced, or on what was computed before
   and is found in a cache: every bit is what it would be alone. */

typedef struct awq_runner awq_runner;
typedef struct awq_session awq_session;

/* What the sessions of one caller share: buffers, a pass over the model that may be half done, and the pages of
   all KV caches. Equal beginnings of sessions (a system prompt) are computed and kept once. Pages that no
   session holds keep what they have until they are needed, the least recently used first. */
typedef struct awq_runner_desc {
    int64_t max_rows;     /* tokens of one pass; 0: 64 */
    int64_t prompt_rows;  /* tokens of prompts in a pass that also moves answers on; 0: 16 */
    int64_t cache_tokens; /* pages beyond those of the sessions, for beginnings nobody holds; 0: none */
} awq_runner_desc;

AWQ_API awq_status awq_runner_create(awq_ctx *ctx, const awq_model *model, const awq_runner_desc *desc,
                                     awq_runner **runner);
/* AWQ_E_ARG, and the runner stays, while it has sessions. NULL is fine. */
AWQ_API awq_status awq_runner_free(awq_ctx *ctx, awq_runner *runner);

typedef enum awq_overflow {
    AWQ_OVERFLOW_STOP = 0, /* the answer ends with AWQ_STOP_CONTEXT; a prompt that does not fit is refused */
    AWQ_OVERFLOW_SLIDE     /* the older half of what follows the first `keep` tokens is forgotten, and the rest
                              is computed anew, as if it had been the prompt */
} awq_overflow;

typedef struct awq_session_desc {
    int64_t max_tokens;    /* context; 0: the model's max_position_embeddings, at most 4096 */
    awq_overflow overflow; /* when max_tokens are there */
    int64_t keep;          /* tokens at the start that a slide leaves: a system prompt */
    /* Or a function that makes room: ids [n] is everything so far (n may be more than max_tokens). Change it in
       place and return how many tokens remain, less than max_tokens; a negative number stops as OVERFLOW_STOP.
     */
    int64_t (*on_full)(void *user, int32_t *ids, int64_t n, int64_t max_tokens);
    void *user;
} awq_session_desc;

/* All memory a session needs is taken here: steps allocate nothing. */
AWQ_API awq_status awq_session_create(awq_ctx *ctx, awq_runner *runner, const awq_session_desc *desc,
                                      awq_session **session);
/* at any time, but from a callback of the library */
AWQ_API awq_status awq_session_free(awq_ctx *ctx, awq_session *session);

AWQ_API int64_t awq_session_position(const awq_session *session);   /* tokens so far, answer included */
AWQ_API const int32_t *awq_session_ids(const awq_session *session); /* [position], valid until the next call */
/* Forget everything from `position` on (0: all). An answer under way ends. */
AWQ_API awq_status awq_session_rewind(awq_ctx *ctx, awq_session *session, int64_t position);

typedef enum awq_stop_reason {
    AWQ_STOP_LENGTH = 0, /* max_tokens */
    AWQ_STOP_EOS,
    AWQ_STOP_STRING,
    AWQ_STOP_CALLER,     /* on_text said so, or awq_session_stop, _rewind */
    AWQ_STOP_CONTEXT,    /* the context is full */
    AWQ_STOP_GRAMMAR,    /* the answer is a whole sentence of the grammar and nothing can follow */
    AWQ_STOP_FAILED      /* see awq_session_answer */
} awq_stop_reason;

typedef struct awq_generate_desc {
    const char *prompt;          /* UTF-8; or ids; or messages rendered by the model's chat template */
    const int32_t *ids;
    int64_t n_ids;
    const awq_message *messages; /* the whole conversation: what the session holds of it already is kept */
    size_t n_messages;
    int64_t max_tokens;          /* of the answer; 0: 128 */
    awq_sampling sampling;
    const char *const *stop;     /* strings that end the answer; they are not handed out */
    size_t n_stop;
    int ignore_eos;
    awq_grammar *grammar;        /* what the answer may be, NULL: anything; yours, must outlive the answer */
    /* text as it is complete, whole UTF-8 characters; nonzero ends the answer. It must not call the library
       with this session's runner. */
    int (*on_text)(void *user, const char *text, size_t bytes);
    void *user;
    int32_t *out_ids;            /* the generated ids, at most max_tokens; must outlive the answer; or NULL */
    float *pooled;               /* [hidden_size]: no answer, but the mean over the prompt's tokens of the final
                                    norm's output; NULL: an answer */
} awq_generate_desc;

typedef struct awq_generate_result {
    int64_t prompt_tokens, tokens; /* prompt_tokens: those this question added */
    int64_t cached_tokens;         /* of the prompt's, found computed */
    double prefill_seconds, decode_seconds; /* in awq_step while this session had work */
    awq_stop_reason reason;
    int complete; /* 0: cut off (length, context, failure), or not a whole sentence of the grammar */
} awq_generate_result;

/* Append a prompt and start an answer, to be computed by awq_step. Texts of the desc are copied. Without
   prompt, ids and messages the answer goes on from where the session is. AWQ_E_ARG while an answer is under
   way; AWQ_E_LIMIT when the prompt does not fit. */
AWQ_API awq_status awq_ask(awq_ctx *ctx, awq_session *session, const awq_generate_desc *desc);
/* End an answer now. Text held back is handed out. */
AWQ_API awq_status awq_session_stop(awq_ctx *ctx, awq_session *session);
AWQ_API int awq_session_busy(const awq_session *session); /* an answer is under way */
/* How the last answer went, or goes. The status is not AWQ_OK when it failed; ctx->err.text says why. */
AWQ_API awq_status awq_session_answer(awq_ctx *ctx, const awq_session *session, awq_generate_result *result);

#define AWQ_NO_BUDGET (-1)

typedef struct awq_step_info {
    int64_t busy;                  /* sessions with an answer under way, after this step */
    int64_t finished;              /* answers that ended in this step, failed ones among them */
    int64_t tokens, prompt_tokens; /* answered and read in this step, all sessions together */
    int64_t done, total;           /* cuts of the pass under way; 0, 0: none is */
    double seconds;                /* this step took */
} awq_step_info;

/* Work for about budget_us microseconds (AWQ_NO_BUDGET: to the end of one pass) on those of the runner's
   sessions that are listed (NULL: all). A pass that is half done goes on in the next step, whatever list
   that has. Everything in a pass can be cut: linears, attention, head. ctx->progress is called at every cut
   ("step"); when it asks to stop, the step ends with AWQ_E_CANCELLED and can be taken up again. */
AWQ_API awq_status awq_step(awq_ctx *ctx, awq_runner *runner, awq_session *const *sessions, size_t n,
                            int64_t budget_us, awq_step_info *info);

/* --- state. What awq_session_save writes: tokens, KV cache, random state, how far the answer is; tied to the
   model (awq_model_hash), with a checksum, in the byte order of the machine. */
AWQ_API size_t awq_session_bytes(const awq_session *session); /* that save will write */
AWQ_API awq_status awq_session_save(awq_ctx *ctx, const awq_session *session, void *data, size_t cap);
AWQ_API awq_status awq_session_save_file(awq_ctx *ctx, const awq_session *session, const char *path);
/* Into any session of a runner on the same model; what it held is forgotten. go_on, the desc of the question
   that was under way, goes on with the answer: text that was handed out is not handed out again; NULL, or when
   go_on is refused: it ended there. Damaged or foreign: AWQ_E_FORMAT; larger than the session's context: AWQ_E_LIMIT. */
AWQ_API awq_status awq_session_restore(awq_ctx *ctx, awq_session *session, const void *data, size_t bytes,
                                       const awq_generate_desc *go_on);
AWQ_API awq_status awq_session_restore_file(awq_ctx *ctx, awq_session *session, const char *path,
                                            const awq_generate_desc *go_on);
/* A second session with the same past; whole pages are shared. go_on: as above. */
AWQ_API awq_status awq_session_fork(awq_ctx *ctx, const awq_session *session, const awq_generate_desc *go_on,
                                    awq_session **copy);

/* --- at once, for tools and tests */
/* What awq_session_feed can hand out on the way. Row-major fp32. */
typedef enum awq_tap_point {
    AWQ_TAP_EMBED = 0, /* [n, hidden_size]: input of layer 0 */
    AWQ_TAP_LAYER,     /* [n, hidden_size]: output of `layer` */
    AWQ_TAP_FINAL      /* [n, hidden_size]: after the final norm */
} awq_tap_point;
typedef void (*awq_tap)(void *user, awq_tap_point point, int layer, const float *data, int64_t n,
                        int64_t width);

/* Append n tokens in chunks of at most `chunk` (0: the runner's max_rows). logits, if not NULL: [vocab_size] of
   the last token. With all_logits [n, vocab_size] of every token. The result does not depend on how a text is
   cut into calls and chunks. A pass that is half done starts anew at the next step. */
typedef struct awq_feed_desc {
    int64_t chunk;
    float *all_logits;
    awq_tap tap;
    void *user;
} awq_feed_desc;
AWQ_API awq_status awq_session_feed(awq_ctx *ctx, awq_session *session, const int32_t *ids, int64_t n,
                                    const awq_feed_desc *desc, float *logits);

/* A session of its own, the prompt, the answer. Without a tokenizer: ids in, out_ids out, no text. result may
   be NULL. */
AWQ_API awq_status awq_generate(awq_ctx *ctx, const awq_model *model, const awq_generate_desc *desc,
                                awq_generate_result *result);
/* Mean over a text's tokens of the final norm's output, for n texts at once: out [n, hidden_size] */
AWQ_API awq_status awq_embed(awq_ctx *ctx, const awq_model *model, const char *const *texts, size_t n,
                             float *out);

/* What awq_model_load of `folder`, a runner and n_sessions sessions will hold together, told from config.json,
   tokenizer.json and the tensors' headers alone; descs may be NULL as there. */
typedef struct awq_memory {
    uint64_t model;   /* of these awq_model_load needs the most, `loading`, while it is at work */
    uint64_t loading;
    uint64_t runner, session; /* one of each */
    uint64_t peak;    /* the largest of loading and model + runner + n_sessions sessions */
} awq_memory;
AWQ_API awq_status awq_memory_needed(awq_ctx *ctx, const char *folder, const awq_model_desc *model,
                                     const awq_runner_desc *runner, const awq_session_desc *session,
                                     int64_t n_sessions, awq_memory *memory);

/* -------------------------------------------------------------------------------------------------------------
   evaluate: perplexity of a text, and the distance to a baseline on the same tokens */

typedef struct awq_evaluate_desc {
    const int32_t *ids;
    int64_t n_ids;
    int64_t window;            /* tokens seen at once, each window from scratch; 0: 512 */
    /* advance between windows; 0: window. Smaller: the overlap is context, not scored */
    int64_t stride;
    const awq_model *baseline; /* NULL: none */
    /* [ceil] mean NLL of each window, nats; may be NULL. Room: awq_evaluate_windows */
    double *window_nll;
    double *baseline_nll;      /* the same of the baseline */
    double *window_kl;         /* the same of the KL divergence */
} awq_evaluate_desc;

typedef struct awq_evaluation {
    int64_t tokens, windows;      /* predictions scored */
    double nll, ppl;              /* mean nats per token, exp of it */
    double baseline_nll, baseline_ppl;
    double kl_mean;               /* KL(baseline || model), nats per token */
    double top1_agreement;        /* share of tokens with the same most probable successor */
    double nll_diff, nll_diff_se; /* model - baseline over windows as paired blocks: mean and standard error */
    double seconds;
} awq_evaluation;

/* number of windows that n_ids tokens give */
AWQ_API int64_t awq_evaluate_windows(int64_t n_ids, int64_t window, int64_t stride);
AWQ_API awq_status awq_evaluate(awq_ctx *ctx, const awq_model *model, const awq_evaluate_desc *desc,
                                awq_evaluation *result);

/* -------------------------------------------------------------------------------------------------------------
   calibrate: from texts and a checkpoint to a quantized checkpoint */

/* One file of calibration text.
     .txt    plain text
     .jsonl  one object per line: "text", or "messages" [{"role", "content"}] rendered by the chat template
     .json   token ids: {"blocks": [[..]]} used as they are; {"sample_ids": [[..]]} or [[..]] joined and cut, at
     their length if it is one;
             {"ids": [..], "window": n} cut into windows */
typedef struct awq_calibration_source {
    const char *path;
    double weight; /* share of the samples among several sources; 0: 1 */
} awq_calibration_source;

typedef struct awq_calibration_desc {
    const awq_calibration_source *sources;
    int n_sources;
    int64_t samples; /* blocks to take, spread evenly over each source; 0: 128. "blocks" are all taken */
    int64_t seq_len; /* tokens of a block; 0: 512 */
    int mask_answers; /* only assistant messages count in the statistics */
} awq_calibration_desc;

/* Blocks of tokens, each its own sequence. Zero it or fill it yourself; awq_calibration_free for loaded ones.
   */
typedef struct awq_calibration {
    int64_t n_blocks;
    int64_t *start;   /* [n_blocks + 1]: block b is ids[start[b]] .. ids[start[b + 1]] */
    int32_t *ids;
    uint8_t *counted; /* [n ids] 1 where the token counts; NULL: all */
} awq_calibration;

/* Long texts are cut, never dropped. Errors name file and line: empty, not UTF-8, fewer than 64 tokens. */
AWQ_API awq_status awq_calibration_load(awq_ctx *ctx, const awq_tokenizer *tokenizer,
                                        const awq_calibration_desc *desc, awq_calibration *calibration);
AWQ_API void awq_calibration_free(awq_ctx *ctx, awq_calibration *calibration);

typedef enum awq_method {
    /* scales, clips and rounding with error feedback; never worse than RTN on held-out blocks */
    AWQ_METHOD_BEST = 0,
    AWQ_METHOD_AWQ,      /* AutoAWQ's search on the same tokens */
    AWQ_METHOD_RTN       /* round to nearest; no calibration needed */
} awq_method;

/* What was found in one block, for the report and for tests; arrays are valid during the call. */
typedef struct awq_layer_report {
    int layer;
    const float *scales[4]; /* norm -> q,k,v [H]; v -> o [Q]; norm -> gate,up [H]; up -> down [I]; NULL: none */
    double ratio[4];        /* grid ratio; -1: identity */
    double loss[4], rtn_loss[4];
    /* the whole grid, the identity last; NaN: not tried, or known to be worse */
    double losses[4][AWQ_SCALE_GRID + 1];
    const float *clip_max[AWQ_N_LINEARS]; /* [out, n_groups]; NULL: none */
    /* block output on held-out blocks: mean squared error / mean square; -1: not measured */
    double error, rtn_error;
    int fell_back;           /* RTN was better there, and is what was written */
    double seconds;
} awq_layer_report;

typedef struct awq_quantize_desc {
    /* folders; target must not exist, or be this run's unfinished one with resume */
    const char *source, *target;
    const awq_calibration *calibration;
    awq_method method;
    int bits;            /* 0: 4 */
    /* 0: the largest of 128, 64, 32 that divides every linear's in_features; -1: whole row */
    int64_t group_size;
    int symmetric;
    awq_layout layout;   /* 0: gemm */
    int no_clip;
    const char *const *keep; /* linears whose name contains one of these stay FP16 */
    int n_keep;
    int resume;
    uint64_t shard_bytes; /* 0: 5 GB */
    int max_layers;       /* > 0: stop after that many (tests of large shapes); the result is then not kept */
    void (*on_layer)(void *user, const awq_layer_report *report);
    void *user;
} awq_quantize_desc;

typedef struct awq_quantize_result {
    double seconds;
    size_t peak_bytes;      /* of this context during the call */
    size_t estimated_bytes; /* stated before the start */
    int64_t group_size;
    int layers, fell_back;
    double ppl_source, ppl_result; /* on the held-out calibration blocks; 0: not measured */
    int64_t calibration_tokens;
} awq_quantize_result;

/* Block by block: one block's weights and its activations in memory. `target` appears complete or not at all;
   an unfinished run stays in `target`.partial and goes on with resume. Writes awq_report.json beside the
   weights. */
AWQ_API awq_status awq_quantize_model(awq_ctx *ctx, const awq_quantize_desc *desc, awq_quantize_result *result);
/* bytes that awq_quantize_model will hold at its peak */
AWQ_API awq_status awq_quantize_memory(awq_ctx *ctx, const awq_quantize_desc *desc, size_t *bytes);

/* Rewrite a quantized checkpoint in another layout (exact), or dense: dequantize F16 or BF16. */
typedef struct awq_convert_desc {
    const char *source, *target;
    awq_layout layout;    /* NONE with dequantize */
    awq_dtype dequantize; /* AWQ_F16, AWQ_BF16, AWQ_F32; NONE: keep quantized */
    uint64_t shard_bytes;
} awq_convert_desc;
AWQ_API awq_status awq_convert(awq_ctx *ctx, const awq_convert_desc *desc);

#endif /* AWQ_H */

#if defined(AWQ_IMPLEMENTATION) && !defined(AWQ_IMPLEMENTATION_DONE)
#define AWQ_IMPLEMENTATION_DONE

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>context
   Status, error text, allocation with accounting, jobs, a small thread pool, files.
   Invariants: jobs neither allocate nor fail; every allocation is made and freed on the calling thread; each
   block remembers its size (64 bytes in front), so that free needs no size and the hook still gets one.
   Tests: tests/test_core.c */

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#  endif
#  ifndef NOMINMAX
#    define NOMINMAX
#  endif
#  include <windows.h>
#else
#  include <fcntl.h>
#  include <pthread.h>
#  include <sys/stat.h>
#  include <time.h>
#  include <unistd.h>
#endif

#if (defined(__x86_64__) || defined(_M_X64)) && !defined(AWQ_NO_SIMD)
#  define AWQ__X86 1
#  include <immintrin.h>
#  ifdef _MSC_VER
#    include <intrin.h>
#    define AWQ__TARGET(t)
#  else
#    include <cpuid.h>
#    define AWQ__TARGET(t) __attribute__((target(t)))
#  endif
#else
#  define AWQ__X86 0
#endif

#if defined(__FAST_MATH__)
#  error "awq.h: -ffast-math changes results and breaks NaN checks; compile this file without it"
#endif

#if defined(__GNUC__) || defined(__clang__)
#  define AWQ__PRINTF(f, a) __attribute__((format(printf, f, a)))
#  define AWQ__UNUSED __attribute__((unused))
#  define AWQ__INLINE static inline __attribute__((always_inline))
#else
#  define AWQ__PRINTF(f, a)
#  define AWQ__UNUSED
#  define AWQ__INLINE static __forceinline
#endif
#ifdef __cplusplus
#  define AWQ__RESTRICT
#else
#  define AWQ__RESTRICT restrict
#endif

/* Contraction of a*b+c to FMA is off in this file: fp32 results are those of the operations as written. */
#if defined(__clang__)
#  pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#  pragma GCC push_options
#  pragma GCC optimize("fp-contract=off")
#elif defined(_MSC_VER)
#  pragma fp_contract(off)
#endif

/* Used as: #define AWQ__CHECK(expr) - leaves the function with the status when it is not AWQ_OK. */
#define AWQ__TRY(expr)                      \
    do {                                    \
        awq_status awq__st = (expr);        \
        if (awq__st != AWQ_OK) return awq__st; \
    } while (0)

#define AWQ__MIN(a, b) ((a) < (b) ? (a) : (b))
#define AWQ__MAX(a, b) ((a) > (b) ? (a) : (b))

AWQ_API const char *awq_version(void) { return AWQ_VERSION; }

AWQ_API const char *awq_status_name(awq_status status)
{
    switch (status) {
    case AWQ_OK: return "AWQ_OK";
    case AWQ_E_ARG: return "AWQ_E_ARG";
    case AWQ_E_MEMORY: return "AWQ_E_MEMORY";
    case AWQ_E_IO: return "AWQ_E_IO";
    case AWQ_E_FORMAT: return "AWQ_E_FORMAT";
    case AWQ_E_UNSUPPORTED: return "AWQ_E_UNSUPPORTED";
    case AWQ_E_NUMERIC: return "AWQ_E_NUMERIC";
    case AWQ_E_LIMIT: return "AWQ_E_LIMIT";
    case AWQ_E_CANCELLED: return "AWQ_E_CANCELLED";
    }
    return "AWQ_E_?";
}

/* Record a failure and return its status: return awq__fail(ctx, AWQ_E_FORMAT, "%s: ...", path); */
static awq_status awq__fail(awq_ctx *ctx, awq_status status, const char *fmt, ...) AWQ__PRINTF(3, 4);
static awq_status awq__fail(awq_ctx *ctx, awq_status status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    ctx->err.status = status;
    vsnprintf(ctx->err.text, sizeof ctx->err.text, fmt, ap);
    va_end(ap);
    return status;
}

static void awq__log(awq_ctx *ctx, awq_log_level level, const char *fmt, ...) AWQ__PRINTF(3, 4);
static void awq__log(awq_ctx *ctx, awq_log_level level, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (!ctx->log) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ctx->log(ctx->user, level, text);
}

/* seconds from an arbitrary start, monotonic */
static double awq__now(void)
{
#ifdef _WIN32
    LARGE_INTEGER t, f;
    QueryPerformanceCounter(&t);
    QueryPerformanceFrequency(&f);
    return (double)t.QuadPart / (double)f.QuadPart;
#else
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
#endif
}

static awq_status awq__progress(awq_ctx *ctx, const char *stage, int64_t done, int64_t total, double began)
{
    awq_progress p;
    if (!ctx->progress) return AWQ_OK;
    p.stage = stage;
    p.done = done;
    p.total = total;
    p.seconds = awq__now() - began;
    if (ctx->progress(ctx->user, &p))
        return awq__fail(ctx, AWQ_E_CANCELLED, "%s: cancelled at %lld of %lld", stage, (long long)done,
                         (long long)total);
    return AWQ_OK;
}

/* --- memory: 64-byte aligned blocks, zeroed; NULL with ctx->err set on failure. awq__free(ctx, NULL) is fine.
   */
#define AWQ__ALIGN 64

static int awq__mul(size_t a, size_t b, size_t *out) /* 1 when a * b fits */
{
    if (a && b > SIZE_MAX / a) return 0;
    *out = a * b;
    return 1;
}

static void *awq__std_alloc(void *user, size_t bytes, size_t align)
{
    (void)user;
#ifdef _WIN32
    return _aligned_malloc(bytes, align);
#else
    {
        void *p = NULL;
        return posix_memalign(&p, align, bytes) ? NULL : p;
    }
#endif
}

static void awq__std_free(void *user, void *ptr, size_t bytes)
{
    (void)user;
    (void)bytes;
#ifdef _WIN32
    _aligned_free(ptr);
#else
    free(ptr);
#endif
}

static void *awq__alloc_raw(awq_ctx *ctx, size_t count, size_t size) /* contents undefined */
{
    size_t bytes, total;
    unsigned char *p;
    if (!awq__mul(count, size, &bytes) || bytes > SIZE_MAX / 2 - AWQ__ALIGN) {
        awq__fail(ctx, AWQ_E_MEMORY, "out of memory: %llu x %llu bytes asked for", (unsigned long long)count,
                  (unsigned long long)size);
        return NULL;
    }
    total = bytes + AWQ__ALIGN;
    if (ctx->memory_limit && (total > ctx->memory_limit || ctx->memory_used > ctx->memory_limit - total)) {
        awq__fail(ctx, AWQ_E_MEMORY,
                  "memory limit: %llu bytes in use, %llu more asked for, memory_limit is %llu",
                  (unsigned long long)ctx->memory_used, (unsigned long long)total,
                  (unsigned long long)ctx->memory_limit);
        return NULL;
    }
    p = (unsigned char *)(ctx->allocator.alloc ? ctx->allocator.alloc(ctx->allocator.user, total, AWQ__ALIGN)
                                               : awq__std_alloc(NULL, total, AWQ__ALIGN));
    if (!p) {
        awq__fail(ctx, AWQ_E_MEMORY, "out of memory: the allocator has no block of %llu bytes",
                  (unsigned long long)total);
        return NULL;
    }
    memcpy(p, &total, sizeof total);
    ctx->memory_used += total;
    if (ctx->memory_used > ctx->memory_peak) ctx->memory_peak = ctx->memory_used;
    return p + AWQ__ALIGN;
}

static void *awq__alloc(awq_ctx *ctx, size_t count, size_t size)
{
    void *p = awq__alloc_raw(ctx, count, size);
    if (p) memset(p, 0, count * size);
    return p;
}

static void awq__free(awq_ctx *ctx, void *ptr)
{
    size_t total;
    unsigned char *p = (unsigned char *)ptr;
    if (!p) return;
    p -= AWQ__ALIGN;
    memcpy(&total, p, sizeof total);
    ctx->memory_used -= AWQ__MIN(total, ctx->memory_used);
    if (ctx->allocator.alloc) ctx->allocator.free(ctx->allocator.user, p, total);
    else awq__std_free(NULL, p, total);
}

/* Make *array hold at least `need` elements (doubling); contents kept. 0 on failure, *array still valid. */
static int awq__grow(awq_ctx *ctx, void **array, size_t *cap, size_t need, size_t size)
{
    size_t n = *cap ? *cap : 16;
    void *p;
    if (need <= *cap) return 1;
    while (n < need) n = n > SIZE_MAX / 2 ? need : n * 2;
    p = awq__alloc_raw(ctx, n, size);
    if (!p) return 0;
    if (*cap) memcpy(p, *array, *cap * size);
    awq__free(ctx, *array);
    *array = p;
    *cap = n;
    return 1;
}

/* Typed allocation: float *x = AWQ__NEW(ctx, float, n); zeroed. */
#define AWQ__NEW(ctx, type, n) ((type *)awq__alloc((ctx), (size_t)(n), sizeof(type)))
#define AWQ__NEW_RAW(ctx, type, n) ((type *)awq__alloc_raw((ctx), (size_t)(n), sizeof(type)))

/* --- arena: many small pieces with one owner; freed together */
typedef struct awq__arena {
    unsigned char *block; /* newest; the first pointer in a block links to the one before */
    size_t used, cap;
} awq__arena;

/* zeroed, 16-byte aligned */
static void *awq__arena_alloc(awq_ctx *ctx, awq__arena *a, size_t count, size_t size)
{
    size_t bytes;
    void *p;
    if (!awq__mul(count, size, &bytes) || bytes > SIZE_MAX / 4) {
        awq__fail(ctx, AWQ_E_MEMORY, "out of memory: %llu x %llu bytes asked for", (unsigned long long)count,
                  (unsigned long long)size);
        return NULL;
    }
    bytes = (bytes + 15) & ~(size_t)15;
    if (!a->block || bytes > a->cap - a->used) {
        size_t cap = AWQ__MAX(bytes + 16, (size_t)65536 - AWQ__ALIGN);
        unsigned char *b = (unsigned char *)awq__alloc(ctx, cap, 1);
        if (!b) return NULL;
        memcpy(b, &a->block, sizeof a->block);
        a->block = b;
        a->cap = cap;
        a->used = 16;
    }
    p = a->block + a->used;
    a->used += bytes;
    return p;
}

/* copy, NUL-terminated */
static char *awq__arena_text(awq_ctx *ctx, awq__arena *a, const char *text, size_t len)
{
    char *p = (char *)awq__arena_alloc(ctx, a, len + 1, 1);
    if (p && len) memcpy(p, text, len);
    return p;
}

static void awq__arena_free(awq_ctx *ctx, awq__arena *a)
{
    while (a->block) {
        unsigned char *prev;
        memcpy(&prev, a->block, sizeof prev);
        awq__free(ctx, a->block);
        a->block = prev;
    }
    a->used = a->cap = 0;
}

/* --- text under construction; NUL-terminated whenever data is not NULL. A failed append sets `failed` and
   ctx->err once; check it at the end. */
typedef struct awq__text {
    char *data;
    size_t len, cap;
    int failed;
} awq__text;

static void awq__text_add(awq_ctx *ctx, awq__text *t, const char *s, size_t n)
{
    if (t->failed) return;
    if (n > SIZE_MAX / 4 - t->len || !awq__grow(ctx, (void **)&t->data, &t->cap, t->len + n + 1, 1)) {
        t->failed = 1;
        return;
    }
    if (n) memcpy(t->data + t->len, s, n);
    t->len += n;
    t->data[t->len] = 0;
}

static void awq__text_str(awq_ctx *ctx, awq__text *t, const char *s) { awq__text_add(ctx, t, s, strlen(s)); }

static void awq__textf(awq_ctx *ctx, awq__text *t, const char *fmt, ...) AWQ__PRINTF(3, 4);
static void awq__textf(awq_ctx *ctx, awq__text *t, const char *fmt, ...) /* at most 1023 bytes a call */
{
    char tmp[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(tmp, sizeof tmp, fmt, ap);
    va_end(ap);
    awq__text_str(ctx, t, tmp);
}

static void awq__text_free(awq_ctx *ctx, awq__text *t)
{
    awq__free(ctx, t->data);
    memset(t, 0, sizeof *t);
}

/* --- jobs */
static void awq__run(awq_ctx *ctx, int64_t count, void (*job)(void *arg, int64_t index), void *arg)
{
    int64_t i;
    if (ctx->jobs.run && count > 1) {
        ctx->jobs.run(ctx->jobs.user, count, job, arg);
        return;
    }
    for (i = 0; i < count; i++) job(arg, i);
}

#if defined(_MSC_VER) && !defined(__clang__)
#  define AWQ__ATOMIC_ADD(p, v) _InterlockedExchangeAdd64((volatile long long *)(p), (v))
#else
#  define AWQ__ATOMIC_ADD(p, v) __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
#endif

#ifdef _WIN32
typedef CRITICAL_SECTION awq__mutex;
typedef CONDITION_VARIABLE awq__cond;
typedef HANDLE awq__thread;
static void awq__mutex_init(awq__mutex *m) { InitializeCriticalSection(m); }
static void awq__mutex_free(awq__mutex *m) { DeleteCriticalSection(m); }
static void awq__lock(awq__mutex *m) { EnterCriticalSection(m); }
static void awq__unlock(awq__mutex *m) { LeaveCriticalSection(m); }
static void awq__cond_init(awq__cond *c) { InitializeConditionVariable(c); }
static void awq__cond_free(awq__cond *c) { (void)c; }
static void awq__wait(awq__cond *c, awq__mutex *m) { SleepConditionVariableCS(c, m, INFINITE); }
static void awq__wake_all(awq__cond *c) { WakeAllConditionVariable(c); }
#else
typedef pthread_mutex_t awq__mutex;
typedef pthread_cond_t awq__cond;
typedef pthread_t awq__thread;
static void awq__mutex_init(awq__mutex *m) { pthread_mutex_init(m, NULL); }
static void awq__mutex_free(awq__mutex *m) { pthread_mutex_destroy(m); }
static void awq__lock(awq__mutex *m) { pthread_mutex_lock(m); }
static void awq__unlock(awq__mutex *m) { pthread_mutex_unlock(m); }
static void awq__cond_init(awq__cond *c) { pthread_cond_init(c, NULL); }
static void awq__cond_free(awq__cond *c) { pthread_cond_destroy(c); }
static void awq__wait(awq__cond *c, awq__mutex *m) { pthread_cond_wait(c, m); }
static void awq__wake_all(awq__cond *c) { pthread_cond_broadcast(c); }
#endif

struct awq_pool {
    awq__mutex lock;
    awq__cond start, finish;
    int n_threads, started, quit;
    uint64_t round;  /* one per run; threads wait for it to change */
    int busy;        /* helpers still inside this round */
    void (*job)(void *arg, int64_t index);
    void *arg;
    int64_t count, next;
    awq__thread threads[1]; /* n_threads - 1 of them */
};

AWQ_API int awq_cpu_cores(void)
{
#ifdef _WIN32
    SYSTEM_INFO si;
    GetSystemInfo(&si);
    return (int)si.dwNumberOfProcessors;
#else
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 1024 ? 1024 : (int)n;
#endif
}

static void awq__pool_work(awq_pool *p)
{
    for (;;) {
        int64_t i = AWQ__ATOMIC_ADD(&p->next, 1);
        if (i >= p->count) break;
        p->job(p->arg, i);
    }
}

#ifdef _WIN32
static DWORD WINAPI awq__pool_main(void *arg)
#else
static void *awq__pool_main(void *arg)
#endif
{
    awq_pool *p = (awq_pool *)arg;
    uint64_t seen = 0;
    awq__lock(&p->lock);
    for (;;) {
        while (p->round == seen && !p->quit) awq__wait(&p->start, &p->lock);
        if (p->quit) break;
        seen = p->round;
        awq__unlock(&p->lock);
        awq__pool_work(p);
        awq__lock(&p->lock);
        if (--p->busy == 0) awq__wake_all(&p->finish);
    }
    awq__unlock(&p->lock);
    return 0;
}

static void awq__pool_run(void *user, int64_t count, void (*job)(void *arg, int64_t index), void *arg)
{
    awq_pool *p = (awq_pool *)user;
    awq__lock(&p->lock);
    p->job = job;
    p->arg = arg;
    p->count = count;
    p->next = 0;
    p->busy = p->started;
    p->round++;
    awq__wake_all(&p->start);
    awq__unlock(&p->lock);
    awq__pool_work(p);
    awq__lock(&p->lock);
    while (p->busy) awq__wait(&p->finish, &p->lock);
    awq__unlock(&p->lock);
}

AWQ_API void awq_pool_free(awq_ctx *ctx, awq_pool *p)
{
    int i;
    if (!p) return;
    awq__lock(&p->lock);
    p->quit = 1;
    awq__wake_all(&p->start);
    awq__unlock(&p->lock);
    for (i = 0; i < p->started; i++) {
#ifdef _WIN32
        WaitForSingleObject(p->threads[i], INFINITE);
        CloseHandle(p->threads[i]);
#else
        pthread_join(p->threads[i], NULL);
#endif
    }
    awq__cond_free(&p->start);
    awq__cond_free(&p->finish);
    awq__mutex_free(&p->lock);
    awq__free(ctx, p);
}

AWQ_API awq_status awq_pool_create(awq_ctx *ctx, int n_threads, awq_pool **pool)
{
    awq_pool *p;
    if (n_threads < 0 || n_threads > 1024)
        return awq__fail(ctx, AWQ_E_ARG, "awq_pool_create: n_threads is %d, expected 0 to 1024", n_threads);
    if (n_threads == 0) n_threads = awq_cpu_cores();
    p = (awq_pool *)awq__alloc(ctx, 1, sizeof *p + sizeof(awq__thread) * (size_t)n_threads);
    if (!p) return AWQ_E_MEMORY;
    p->n_threads = n_threads;
    awq__mutex_init(&p->lock);
    awq__cond_init(&p->start);
    awq__cond_init(&p->finish);
    while (p->started < n_threads - 1) {
#ifdef _WIN32
        p->threads[p->started] = CreateThread(NULL, 0, awq__pool_main, p, 0, NULL);
        if (!p->threads[p->started]) break;
#else
        if (pthread_create(&p->threads[p->started], NULL, awq__pool_main, p)) break;
#endif
        p->started++;
    }
    if (p->started < n_threads - 1) {
        int got = p->started + 1;
        awq_pool_free(ctx, p);
        return awq__fail(ctx, AWQ_E_LIMIT, "awq_pool_create: only %d of %d threads could be started", got,
                         n_threads);
    }
    *pool = p;
    return AWQ_OK;
}

AWQ_API awq_jobs awq_pool_jobs(awq_pool *pool)
{
    awq_jobs j;
    j.run = pool ? awq__pool_run : NULL;
    j.user = pool;
    return j;
}

AWQ_API int awq_pool_threads(const awq_pool *pool) { return pool ? pool->n_threads : 1; }

/* --- files of the operating system */
#ifdef _WIN32
static int awq__win_error(void)
{
    switch (GetLastError()) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND: return ENOENT;
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION: return EACCES;
    case ERROR_DISK_FULL:
    case ERROR_HANDLE_DISK_FULL: return ENOSPC;
    case ERROR_ALREADY_EXISTS:
    case ERROR_FILE_EXISTS: return EEXIST;
    case ERROR_DIR_NOT_EMPTY: return ENOTEMPTY;
    default: return EIO;
    }
}

static int awq__win_path(const char *path, wchar_t *wide, int cap) /* UTF-8 to UTF-16 */
{
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, cap) ? 0 : EINVAL;
}

static int awq__os_open(void *user, const char *path, int for_write, void **file)
{
    wchar_t w[1024];
    HANDLE h;
    (void)user;
    if (awq__win_path(path, w, 1024)) return EINVAL;
    h = CreateFileW(w, for_write ? GENERIC_READ | GENERIC_WRITE : GENERIC_READ, FILE_SHARE_READ, NULL,
                    for_write ? OPEN_ALWAYS : OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (h == INVALID_HANDLE_VALUE) return awq__win_error();
    *file = h;
    return 0;
}

static int awq__os_size(void *user, void *file, uint64_t *bytes)
{
    LARGE_INTEGER n;
    (void)user;
    if (!GetFileSizeEx((HANDLE)file, &n)) return awq__win_error();
    *bytes = (uint64_t)n.QuadPart;
    return 0;
}

static int awq__win_move(void *file, uint64_t offset, char *data, size_t bytes, int writing)
{
    while (bytes) {
        OVERLAPPED o;
        DWORD part = bytes > (1u << 30) ? (1u << 30) : (DWORD)bytes, got = 0;
        BOOL ok;
        memset(&o, 0, sizeof o);
        o.Offset = (DWORD)offset;
        o.OffsetHigh = (DWORD)(offset >> 32);
        ok = writing ? WriteFile((HANDLE)file, data, part, &got, &o)
                     : ReadFile((HANDLE)file, data, part, &got, &o);
        if (!ok || !got) return ok ? EIO : awq__win_error();
        data += got;
        offset += got;
        bytes -= got;
    }
    return 0;
}

static int awq__os_read(void *user, void *file, uint64_t offset, void *data, size_t bytes)
{
    (void)user;
    return awq__win_move(file, offset, (char *)data, bytes, 0);
}

static int awq__os_write(void *user, void *file, uint64_t offset, const void *data, size_t bytes)
{
    (void)user;
    return awq__win_move(file, offset, (char *)(uintptr_t)data, bytes, 1);
}

static int awq__os_truncate(void *user, void *file, uint64_t bytes)
{
    LARGE_INTEGER n;
    (void)user;
    n.QuadPart = (LONGLONG)bytes;
    if (!SetFilePointerEx((HANDLE)file, n, NULL, FILE_BEGIN) || !SetEndOfFile((HANDLE)file))
        return awq__win_error();
    return 0;
}

static int awq__os_sync(void *user, void *file)
{
    (void)user;
    return FlushFileBuffers((HANDLE)file) ? 0 : awq__win_error();
}

static int awq__os_close(void *user, void *file)
{
    (void)user;
    return CloseHandle((HANDLE)file) ? 0 : awq__win_error();
}

static int awq__os_rename(void *user, const char *from, const char *to)
{
    wchar_t a[1024], b[1024];
    (void)user;
    if (awq__win_path(from, a, 1024) || awq__win_path(to, b, 1024)) return EINVAL;
    return MoveFileExW(a, b, MOVEFILE_REPLACE_EXISTING) ? 0 : awq__win_error();
}

static int awq__os_remove(void *user, const char *path)
{
    wchar_t w[1024];
    (void)user;
    if (awq__win_path(path, w, 1024)) return EINVAL;
    return DeleteFileW(w) || RemoveDirectoryW(w) ? 0 : awq__win_error();
}

static int awq__os_make_folder(void *user, const char *path)
{
    wchar_t w[1024];
    int e;
    (void)user;
    if (awq__win_path(path, w, 1024)) return EINVAL;
    if (CreateDirectoryW(w, NULL)) return 0;
    e = awq__win_error();
    return e == EEXIST ? 0 : e;
}
#else
static int awq__os_fd(void *file) { return (int)(intptr_t)file - 1; }

static int awq__os_open(void *user, const char *path, int for_write, void **file)
{
    struct stat st;
    int fd;
    (void)user;
    /* O_NONBLOCK: opening a named pipe must not hang; anything but a plain file is refused */
    fd = open(path, (for_write ? O_RDWR | O_CREAT : O_RDONLY) | O_NONBLOCK
#  ifdef O_CLOEXEC
                        | O_CLOEXEC
#  endif
              , 0666);
    if (fd < 0) return errno;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        int e = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
        close(fd);
        return e;
    }
    *file = (void *)(intptr_t)(fd + 1);
    return 0;
}

static int awq__os_size(void *user, void *file, uint64_t *bytes)
{
    struct stat st;
    (void)user;
    if (fstat(awq__os_fd(file), &st)) return errno;
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static int awq__os_read(void *user, void *file, uint64_t offset, void *data, size_t bytes)
{
    char *d = (char *)data;
    (void)user;
    while (bytes) {
        ssize_t n = pread(awq__os_fd(file), d, AWQ__MIN(bytes, (size_t)1 << 30), (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : EIO;
        d += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int awq__os_write(void *user, void *file, uint64_t offset, const void *data, size_t bytes)
{
    const char *d = (const char *)data;
    (void)user;
    while (bytes) {
        ssize_t n = pwrite(awq__os_fd(file), d, AWQ__MIN(bytes, (size_t)1 << 30), (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : ENOSPC;
        d += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int awq__os_truncate(void *user, void *file, uint64_t bytes)
{
    (void)user;
    return ftruncate(awq__os_fd(file), (off_t)bytes) ? errno : 0;
}

static int awq__os_sync(void *user, void *file)
{
    (void)user;
    return fsync(awq__os_fd(file)) ? errno : 0;
}

static int awq__os_close(void *user, void *file)
{
    (void)user;
    return close(awq__os_fd(file)) ? errno : 0;
}

static int awq__os_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to) ? errno : 0;
}

static int awq__os_remove(void *user, const char *path)
{
    (void)user;
    return remove(path) ? errno : 0;
}

static int awq__os_make_folder(void *user, const char *path)
{
    (void)user;
    if (!mkdir(path, 0777)) return 0;
    return errno == EEXIST ? 0 : errno;
}
#endif

static const awq_file_system *awq__fs(awq_ctx *ctx)
{
    static const awq_file_system os = {awq__os_open, awq__os_size,   awq__os_read,   awq__os_write,
                                       awq__os_truncate, awq__os_sync, awq__os_close, awq__os_rename,
                                       awq__os_remove, awq__os_make_folder, NULL, NULL};
    return ctx->files.open ? &ctx->files : &os;
}

/* --- files in memory */
static int awq__mem_open(void *user, const char *path, int for_write, void **file)
{
    awq_memory_list *l = (awq_memory_list *)user;
    size_t i;
    if (for_write) return EROFS;
    for (i = 0; i < l->count; i++)
        if (!strcmp(l->files[i].path, path)) {
            *file = (void *)(uintptr_t)(i + 1);
            return 0;
        }
    return ENOENT;
}

static const awq_memory_file *awq__mem_file(void *user, void *file)
{
    return &((awq_memory_list *)user)->files[(uintptr_t)file - 1];
}

static int awq__mem_size(void *user, void *file, uint64_t *bytes)
{
    *bytes = awq__mem_file(user, file)->bytes;
    return 0;
}

static int awq__mem_read(void *user, void *file, uint64_t offset, void *data, size_t bytes)
{
    const awq_memory_file *f = awq__mem_file(user, file);
    if (offset > f->bytes || bytes > f->bytes - offset) return EIO;
    memcpy(data, (const char *)f->data + offset, bytes);
    return 0;
}

static int awq__mem_write(void *user, void *file, uint64_t offset, const void *data, size_t bytes)
{
    (void)user, (void)file, (void)offset, (void)data, (void)bytes;
    return EROFS;
}

static int awq__mem_truncate(void *user, void *file, uint64_t bytes)
{
    (void)user, (void)file, (void)bytes;
    return EROFS;
}

static int awq__mem_nothing(void *user, void *file)
{
    (void)user, (void)file;
    return 0;
}

static int awq__mem_rename(void *user, const char *from, const char *to)
{
    (void)user, (void)from, (void)to;
    return EROFS;
}

static int awq__mem_path(void *user, const char *path)
{
    (void)user, (void)path;
    return EROFS;
}

static const void *awq__mem_map(void *user, void *file) { return awq__mem_file(user, file)->data; }

AWQ_API awq_file_system awq_memory_files(awq_memory_list *list)
{
    awq_file_system fs;
    fs.open = awq__mem_open;
    fs.size = awq__mem_size;
    fs.read = awq__mem_read;
    fs.write = awq__mem_write;
    fs.truncate = awq__mem_truncate;
    fs.sync = awq__mem_nothing;
    fs.close = awq__mem_nothing;
    fs.rename = awq__mem_rename;
    fs.remove = awq__mem_path;
    fs.make_folder = awq__mem_path;
    fs.map = awq__mem_map;
    fs.user = list;
    return fs;
}

/* --- helpers over the file system */
typedef struct awq__file {
    void *handle; /* as the file system's open gave it */
    int is_open;
    uint64_t bytes;
} awq__file;

static awq_status awq__io_fail(awq_ctx *ctx, const char *path, const char *what, int code)
{
    return awq__fail(ctx, AWQ_E_IO, "%s: cannot %s: %s", path, what, strerror(code));
}

static awq_status awq__file_open(awq_ctx *ctx, const char *path, int for_write, awq__file *f)
{
    const awq_file_system *fs = awq__fs(ctx);
    int e = fs->open(fs->user, path, for_write, &f->handle);
    if (e) return awq__io_fail(ctx, path, for_write ? "open for writing" : "open", e);
    e = fs->size(fs->user, f->handle, &f->bytes);
    if (e) {
        fs->close(fs->user, f->handle);
        return awq__io_fail(ctx, path, "read the size", e);
    }
    f->is_open = 1;
    return AWQ_OK;
}

static int awq__file_close(awq_ctx *ctx, awq__file *f) /* 0 or an errno value; closing twice is fine */
{
    const awq_file_system *fs = awq__fs(ctx);
    if (!f->is_open) return 0;
    f->is_open = 0;
    return fs->close(fs->user, f->handle);
}

static awq_status awq__file_read(awq_ctx *ctx, awq__file *f, const char *path, uint64_t offset, void *data,
                                 size_t n)
{
    const awq_file_system *fs = awq__fs(ctx);
    int e;
    if (offset > f->bytes || n > f->bytes - offset)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: ends at byte %llu, %llu bytes at %llu were expected", path,
                         (unsigned long long)f->bytes, (unsigned long long)n, (unsigned long long)offset);
    e = n ? fs->read(fs->user, f->handle, offset, data, n) : 0;
    return e ? awq__io_fail(ctx, path, "read", e) : AWQ_OK;
}

/* Whole file into fresh memory (awq__free it), with a NUL behind. Files over max_bytes are refused. */
static awq_status awq__file_load(awq_ctx *ctx, const char *path, size_t max_bytes, char **data, size_t *bytes)
{
    awq__file f = {NULL, 0, 0};
    awq_status st;
    char *p;
    AWQ__TRY(awq__file_open(ctx, path, 0, &f));
    if (f.bytes > max_bytes) {
        awq__file_close(ctx, &f);
        return awq__fail(ctx, AWQ_E_LIMIT, "%s: %llu bytes, at most %llu are accepted here", path,
                         (unsigned long long)f.bytes, (unsigned long long)max_bytes);
    }
    p = (char *)awq__alloc_raw(ctx, (size_t)f.bytes + 1, 1);
    st = p ? awq__file_read(ctx, &f, path, 0, p, (size_t)f.bytes) : AWQ_E_MEMORY;
    awq__file_close(ctx, &f);
    if (st) {
        awq__free(ctx, p);
        return st;
    }
    p[f.bytes] = 0;
    *data = p;
    *bytes = (size_t)f.bytes;
    return AWQ_OK;
}

static int awq__file_exists(awq_ctx *ctx, const char *path) /* also when it is there and cannot be opened */
{
    const awq_file_system *fs = awq__fs(ctx);
    void *h;
    int e = fs->open(fs->user, path, 0, &h);
    if (!e) fs->close(fs->user, h);
    return e != ENOENT && e != ENOTDIR;
}

/* Whole file written under a temporary name, synced, renamed: complete or absent. */
static awq_status awq__file_save(awq_ctx *ctx, const char *path, const void *data, size_t bytes)
{
    const awq_file_system *fs = awq__fs(ctx);
    awq__text tmp = {NULL, 0, 0, 0};
    awq__file f = {NULL, 0, 0};
    awq_status st;
    int e;
    awq__text_str(ctx, &tmp, path);
    awq__text_str(ctx, &tmp, ".tmp");
    if (tmp.failed) {
        awq__text_free(ctx, &tmp);
        return AWQ_E_MEMORY;
    }
    st = awq__file_open(ctx, tmp.data, 1, &f);
    if (st) fs->remove(fs->user, tmp.data);
    else {
        int e2;
        e = fs->write(fs->user, f.handle, 0, data, bytes);
        if (!e) e = fs->truncate(fs->user, f.handle, bytes);
        if (!e) e = fs->sync(fs->user, f.handle);
        e2 = awq__file_close(ctx, &f);
        if (!e) e = e2;
        if (!e) e = fs->rename(fs->user, tmp.data, path);
        if (e) {
            fs->remove(fs->user, tmp.data);
            st = awq__io_fail(ctx, path, "write", e);
        }
    }
    awq__text_free(ctx, &tmp);
    return st;
}

/* folder + "/" + name in fresh memory, or NULL */
static char *awq__path_join(awq_ctx *ctx, const char *folder, const char *name)
{
    awq__text t = {NULL, 0, 0, 0};
    awq__text_str(ctx, &t, folder);
    if (t.len && t.data[t.len - 1] != '/') awq__text_str(ctx, &t, "/");
    awq__text_str(ctx, &t, name);
    if (t.failed) awq__text_free(ctx, &t);
    return t.data;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>numbers
   fp16 and bf16, element types, checked sizes, a random generator, instruction sets, exact elementary
   functions. Invariants: conversions round to nearest even and keep NaN; awq__expf and friends are the same
   bits on every machine (no libm in the forward pass but sqrtf, which IEEE 754 fixes).
   Tests: tests/test_core.c */

static float awq__bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t awq__float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float awq__f16_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7fff;
    if (mag >= 0x7c00) return awq__bits_float(sign | 0x7f800000 | (mag & 0x3ff) << 13);
    if (mag < 0x400) { /* zero and subnormal: mag * 2^-24 */
        float f = (float)mag * 5.9604644775390625e-8f;
        return sign ? -f : f;
    }
    return awq__bits_float(sign | ((mag << 13) + 0x38000000));
}

static uint16_t awq__float_f16(float f)
{
    uint32_t u = awq__float_bits(f), sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;
    if (mag > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (mag >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and above round to Inf */
    /* below 2^-14: subnormal; adding 0.5 aligns and rounds */
    if (mag < 0x38800000) {
        float a = awq__bits_float(mag) + 0.5f;
        return (uint16_t)(sign | (awq__float_bits(a) - 0x3f000000));
    }
    mag += 0xfff + (mag >> 13 & 1);
    return (uint16_t)(sign | ((mag - 0x38000000) >> 13));
}

static float awq__bf16_float(uint16_t h) { return awq__bits_float((uint32_t)h << 16); }

static uint16_t awq__float_bf16(float f)
{
    uint32_t u = awq__float_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* the nearest fp16 value, as a float: one step of fp16 arithmetic is awq__h(a op b) */
static float awq__h(float f) { return awq__f16_float(awq__float_f16(f)); }

static int awq__finite(float f) { return (awq__float_bits(f) & 0x7f800000) != 0x7f800000; }

static const struct {
    const char *name;
    size_t size;
} awq__dtypes[] = {{"none", 0}, {"F64", 8},  {"F32", 4},     {"F16", 2},    {"BF16", 2}, {"I64", 8},
                   {"I32", 4},  {"I16", 2},  {"I8", 1},      {"U64", 8},    {"U32", 4},  {"U16", 2},
                   {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

AWQ_API size_t awq_dtype_size(awq_dtype dtype)
{
    return (size_t)dtype < sizeof awq__dtypes / sizeof awq__dtypes[0] ? awq__dtypes[dtype].size : 0;
}

AWQ_API const char *awq_dtype_name(awq_dtype dtype)
{
    return (size_t)dtype < sizeof awq__dtypes / sizeof awq__dtypes[0] ? awq__dtypes[dtype].name : "?";
}

static void awq__to_float(awq_dtype dtype, const void *src, int64_t n, float *dst) /* F64 F32 F16 BF16 only */
{
    const uint16_t *h = (const uint16_t *)src;
    int64_t i;
    if (dtype == AWQ_F32) memcpy(dst, src, (size_t)n * 4);
    else if (dtype == AWQ_F16) for (i = 0; i < n; i++) dst[i] = awq__f16_float(h[i]);
    else if (dtype == AWQ_BF16) for (i = 0; i < n; i++) dst[i] = awq__bf16_float(h[i]);
    else for (i = 0; i < n; i++) dst[i] = (float)((const double *)src)[i];
}

static int awq__is_real(awq_dtype d) { return d == AWQ_F32 || d == AWQ_F16 || d == AWQ_BF16 || d == AWQ_F64; }

AWQ_API awq_status awq_to_float(awq_ctx *ctx, awq_dtype dtype, const void *src, int64_t n, float *dst)
{
    if (!awq__is_real(dtype) || n < 0)
        return awq__fail(ctx, AWQ_E_ARG, "awq_to_float: %lld values of type %s, expected F32, F16, BF16 or F64",
                         (long long)n, awq_dtype_name(dtype));
    awq__to_float(dtype, src, n, dst);
    return AWQ_OK;
}

AWQ_API awq_status awq_from_float(awq_ctx *ctx, awq_dtype dtype, const float *src, int64_t n, void *dst)
{
    uint16_t *h = (uint16_t *)dst;
    int64_t i;
    if (!awq__is_real(dtype) || n < 0)
        return awq__fail(ctx, AWQ_E_ARG,
                         "awq_from_float: %lld values of type %s, expected F32, F16, BF16 or F64", (long long)n,
                         awq_dtype_name(dtype));
    if (dtype == AWQ_F32) memcpy(dst, src, (size_t)n * 4);
    else if (dtype == AWQ_F16) for (i = 0; i < n; i++) h[i] = awq__float_f16(src[i]);
    else if (dtype == AWQ_BF16) for (i = 0; i < n; i++) h[i] = awq__float_bf16(src[i]);
    else for (i = 0; i < n; i++) ((double *)dst)[i] = src[i];
    return AWQ_OK;
}

/* --- random numbers: splitmix64; the same sequence everywhere */
static uint64_t awq__random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static float awq__random_unit(uint64_t *state)
{
    return (float)(awq__random(state) >> 40) * (1.0f / 16777216.0f);
}

/* --- elementary functions in fp32, same bits everywhere.
   exp(x) = 2^k * e^r, r in +-ln2/2, polynomial of degree 6 (relative error below 2e-7). */
static float awq__expf(float x)
{
    float k, r, p;
    int e;
    if (x > 88.72283f) return awq__bits_float(0x7f800000);
    if (!(x >= -87.33654f)) return x != x ? x : 0.0f; /* below the normal range: 0 */
    k = x * 1.44269504f;
    k = (float)(int)(k + (k < 0 ? -0.5f : 0.5f));
    r = x - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    e = (int)k;
    if (e > 127) return p * 1.7014118346046923e38f * 2.0f; /* 2^128 does not fit an exponent */
    return p * awq__bits_float((uint32_t)(e + 127) << 23);
}

/* sin and cos of a nonnegative angle in double by reduction modulo pi/2 and Taylor series; error below 1e-12
   for angles up to 1e7, so that the fp32 results are those of any good libm */
static void awq__sincos(double x, float *s, float *c)
{
    double q = floor(x * 0.63661977236758134308 + 0.5), r, z, ss, cc;
    int64_t n = (int64_t)q;
    r = x - q * 1.57079632673412561417;
    r = r - q * 6.07710050630396597660e-11;
    r = r - q * 2.02226624879595063154e-21;
    z = r * r;
    ss = r * (1 + z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 + z * (-1.0 / 39916800
         + z * (1.0 / 6227020800.0)))))));
    cc = 1 + z * (-0.5 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800
         + z * (1.0 / 479001600.0 + z * (-1.0 / 87178291200.0)))))));
    switch (n & 3) {
    case 0: *s = (float)ss; *c = (float)cc; break;
    case 1: *s = (float)cc; *c = (float)-ss; break;
    case 2: *s = (float)-ss; *c = (float)-cc; break;
    default: *s = (float)-cc; *c = (float)ss; break;
    }
}

/* --- instruction sets: CPUID says what the processor has, XGETBV what the system saves */
AWQ_API awq_isa awq_best_isa(void)
{
#if AWQ__X86
    unsigned a, b, c, d, xcr;
#  ifdef _MSC_VER
    int r[4];
    __cpuid(r, 1);
    c = (unsigned)r[2];
    if (!(c >> 27 & 1)) return AWQ_ISA_SCALAR;
    xcr = (unsigned)_xgetbv(0);
    __cpuidex(r, 7, 0);
    b = (unsigned)r[1];
    (void)a, (void)d;
#  else
    unsigned hi;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return AWQ_ISA_SCALAR;
    __asm__ volatile("xgetbv" : "=a"(xcr), "=d"(hi) : "c"(0));
    {
        unsigned c1 = c, c7;
        if (!__get_cpuid_count(7, 0, &a, &b, &c7, &d)) return AWQ_ISA_SCALAR;
        c = c1;
    }
#  endif
    /* FMA F16C AVX2 */
    if ((xcr & 6) != 6 || !(c >> 12 & 1) || !(c >> 29 & 1) || !(b >> 5 & 1)) return AWQ_ISA_SCALAR;
    if ((xcr & 0xe6) == 0xe6 && (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1))
        return AWQ_ISA_AVX512; /* F DQ BW VL */
    return AWQ_ISA_AVX2;
#else
    return AWQ_ISA_SCALAR;
#endif
}

AWQ_API const char *awq_isa_name(awq_isa isa)
{
    static const char *const names[] = {"auto", "scalar", "avx2", "avx512"};
    return (unsigned)isa < 4 ? names[isa] : "?";
}

static awq_isa awq__isa(awq_ctx *ctx)
{
    if (ctx->isa_found == AWQ_ISA_AUTO) ctx->isa_found = awq_best_isa();
    return ctx->isa != AWQ_ISA_AUTO && ctx->isa < ctx->isa_found ? ctx->isa : ctx->isa_found;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>json
   A bounded JSON parser (RFC 8259) into one array of nodes, and helpers to write JSON.
   Invariants: not recursive, nesting at most AWQ__JSON_DEPTH; strings are unescaped, valid UTF-8,
   NUL-terminated; integers that fit are exact int64; every failure names the byte. A document owns two blocks,
   freed together. Tests: tests/test_json.c, tests/fuzz_json.c */

#define AWQ__JSON_DEPTH 64

typedef enum awq__json_type {
    AWQ__J_NULL, AWQ__J_FALSE, AWQ__J_TRUE, AWQ__J_INT, AWQ__J_REAL, AWQ__J_STR, AWQ__J_ARR, AWQ__J_OBJ
} awq__json_type;

typedef struct awq__json_node {
    uint32_t type;          /* awq__json_type */
    uint32_t next;          /* node of the next sibling, 0: none */
    uint32_t key, key_len;  /* member name: offset into text */
    union {
        int64_t i;
        double d;
        struct {
            uint32_t at, len; /* offset into text */
        } s;
        struct {
            uint32_t first, count; /* node of the first child (0: none), number of children */
        } c;
    } v;
} awq__json_node;

typedef struct awq__json {
    awq__json_node *nodes; /* nodes[0] is unused, nodes[1] the root */
    uint32_t n_nodes;
    char *text; /* unescaped strings */
    const char *name; /* what messages call it: the path */
} awq__json;

static void awq__json_free(awq_ctx *ctx, awq__json *j)
{
    awq__free(ctx, j->nodes);
    awq__free(ctx, j->text);
    memset(j, 0, sizeof *j);
}

/* length of the valid UTF-8 sequence at s (1..4), 0 if there is none */
static int awq__utf8_len(const unsigned char *s, size_t n)
{
    unsigned c = n ? s[0] : 0xff;
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4) return 0;
    if (n < 2 || (s[1] & 0xc0) != 0x80) return 0;
    if (c < 0xe0) return 2;
    if (n < 3 || (s[2] & 0xc0) != 0x80 || (c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f)) return 0;
    if (c < 0xf0) return 3;
    if (n < 4 || (s[3] & 0xc0) != 0x80 || (c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] > 0x8f)) return 0;
    return 4;
}

/* code point of the sequence at s, which awq__utf8_len found valid */
static uint32_t awq__utf8_get(const unsigned char *s, int len)
{
    if (len == 1) return s[0];
    if (len == 2) return (uint32_t)(s[0] & 0x1f) << 6 | (s[1] & 0x3f);
    if (len == 3) return (uint32_t)(s[0] & 0x0f) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (s[2] & 0x3f);
    return (uint32_t)(s[0] & 7) << 18 | (uint32_t)(s[1] & 0x3f) << 12 | (uint32_t)(s[2] & 0x3f) << 6
           | (s[3] & 0x3f);
}

static int awq__utf8_put(uint32_t cp, char *out) /* bytes written, 1..4 */
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

typedef struct awq__json_parser {
    awq_ctx *ctx;
    const unsigned char *s;
    size_t n, at;
    awq__json *j;
    size_t cap, text_len;
} awq__json_parser;

static awq_status awq__json_error(awq__json_parser *p, const char *what)
{
    return awq__fail(p->ctx, AWQ_E_FORMAT, "%s: not valid JSON at byte %llu: %s", p->j->name,
                     (unsigned long long)p->at, what);
}

static void awq__json_space(awq__json_parser *p)
{
    while (p->at < p->n) {
        unsigned c = p->s[p->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') break;
        p->at++;
    }
}

static int awq__json_hex4(awq__json_parser *p, uint32_t *out)
{
    int i;
    *out = 0;
    for (i = 0; i < 4; i++) {
        unsigned c = p->at < p->n ? p->s[p->at] : 0, d;
        if (c >= '0' && c <= '9') d = c - '0';
        else if ((c | 32) >= 'a' && (c | 32) <= 'f') d = (c | 32) - 'a' + 10;
        else return 0;
        *out = *out << 4 | d;
        p->at++;
    }
    return 1;
}

/* the opening quote is at p->at; unescaped text never gets longer than its source, so text has room */
static awq_status awq__json_string(awq__json_parser *p, uint32_t *at, uint32_t *len)
{
    char *out = p->j->text + p->text_len, *start = out;
    p->at++;
    for (;;) {
        unsigned c;
        if (p->at >= p->n) return awq__json_error(p, "the text ends inside a string");
        c = p->s[p->at];
        if (c == '"') break;
        if (c < 0x20) return awq__json_error(p, "a control character inside a string");
        if (c == '\\') {
            uint32_t u, lo;
            p->at++;
            c = p->at < p->n ? p->s[p->at] : 0;
            p->at++;
            switch (c) {
            case '"': case '\\': case '/': *out++ = (char)c; break;
            case 'b': *out++ = '\b'; break;
            case 'f': *out++ = '\f'; break;
            case 'n': *out++ = '\n'; break;
            case 'r': *out++ = '\r'; break;
            case 't': *out++ = '\t'; break;
            case 'u':
                if (!awq__json_hex4(p, &u)) return awq__json_error(p, "\\u wants four hexadecimal digits");
                if (u >= 0xd800 && u < 0xdc00) {
                    if (p->at + 1 >= p->n || p->s[p->at] != '\\' || p->s[p->at + 1] != 'u')
                        return awq__json_error(p, "half of a surrogate pair");
                    p->at += 2;
                    if (!awq__json_hex4(p, &lo) || lo < 0xdc00 || lo > 0xdfff)
                        return awq__json_error(p, "half of a surrogate pair");
                    u = 0x10000 + ((u - 0xd800) << 10) + (lo - 0xdc00);
                } else if (u >= 0xdc00 && u < 0xe000) {
                    return awq__json_error(p, "half of a surrogate pair");
                }
                out += awq__utf8_put(u, out);
                break;
            default: p->at--; return awq__json_error(p, "an unknown escape");
            }
        } else {
            int k = awq__utf8_len(p->s + p->at, p->n - p->at);
            if (!k) return awq__json_error(p, "a byte that is not UTF-8");
            memcpy(out, p->s + p->at, (size_t)k);
            out += k;
            p->at += (size_t)k;
        }
    }
    p->at++;
    *at = (uint32_t)p->text_len;
    *len = (uint32_t)(out - start);
    *out++ = 0;
    p->text_len = (size_t)(out - p->j->text);
    return AWQ_OK;
}

/* The value of a number of the grammar. strtod gets it as an integer with an exponent, "-12345e-3", which no
   locale reads differently; digits beyond 40 only move the exponent. */
static double awq__json_real(const char *s, size_t n)
{
    char tmp[80];
    size_t len = 0, digits = 0, i;
    long long scale = 0, e = 0;
    int fraction = 0;
    for (i = 0; i < n && (s[i] | 32) != 'e'; i++) {
        if (s[i] == '-') tmp[len++] = '-';
        else if (s[i] == '.') fraction = 1;
        else if (digits < 40) {
            tmp[len++] = s[i];
            if (s[i] != '0' || digits) digits++;
            else len--; /* leading zeros */
            scale -= fraction;
        } else scale += !fraction;
    }
    if (i < n) {
        int neg = s[i + 1] == '-';
        for (i += 1 + (size_t)(s[i + 1] == '-' || s[i + 1] == '+'); i < n; i++)
            if (e < 100000000) e = e * 10 + (s[i] - '0');
        if (neg) e = -e;
    }
    snprintf(tmp + len, sizeof tmp - len, "%se%lld", digits ? "" : "0", scale + e);
    return strtod(tmp, NULL);
}

static awq_status awq__json_number(awq__json_parser *p, awq__json_node *node)
{
    size_t from = p->at, digits;
    int neg = 0, real = 0, overflow = 0;
    uint64_t u = 0;
    if (p->s[p->at] == '-') {
        neg = 1;
        p->at++;
    }
    digits = p->at;
    while (p->at < p->n && p->s[p->at] >= '0' && p->s[p->at] <= '9') {
        unsigned d = p->s[p->at++] - '0';
        if (u > (UINT64_MAX - d) / 10) overflow = 1;
        u = u * 10 + d;
    }
    if (p->at == digits || (p->s[digits] == '0' && p->at > digits + 1))
        return awq__json_error(p, "a malformed number");
    if (p->at < p->n && p->s[p->at] == '.') {
        real = 1;
        digits = ++p->at;
        while (p->at < p->n && p->s[p->at] >= '0' && p->s[p->at] <= '9') p->at++;
        if (p->at == digits) return awq__json_error(p, "a malformed number");
    }
    if (p->at < p->n && (p->s[p->at] | 32) == 'e') {
        real = 1;
        p->at++;
        if (p->at < p->n && (p->s[p->at] == '+' || p->s[p->at] == '-')) p->at++;
        digits = p->at;
        while (p->at < p->n && p->s[p->at] >= '0' && p->s[p->at] <= '9') p->at++;
        if (p->at == digits) return awq__json_error(p, "a malformed number");
    }
    if (!real && !overflow && u <= (uint64_t)INT64_MAX + (uint64_t)neg) {
        node->type = AWQ__J_INT;
        node->v.i = neg ? (int64_t)(0 - u) : (int64_t)u;
    } else {
        node->type = AWQ__J_REAL;
        node->v.d = awq__json_real((const char *)p->s + from, p->at - from);
    }
    return AWQ_OK;
}

/* Parse n bytes. `name` (not copied) is what messages call the text. */
static awq_status awq__json_parse(awq_ctx *ctx, const char *name, const char *text, size_t n, awq__json *out)
{
    awq__json j = {NULL, 1, NULL, name};
    awq__json_parser p;
    uint32_t stack[AWQ__JSON_DEPTH], last[AWQ__JSON_DEPTH]; /* open containers, their newest child */
    int depth = 0;
    awq_status st = AWQ_OK;
    memset(&p, 0, sizeof p);
    p.ctx = ctx;
    p.s = (const unsigned char *)text;
    p.n = n;
    p.j = &j;
    if (n >= 0x7fffffff)
        return awq__fail(ctx, AWQ_E_LIMIT, "%s: %llu bytes of JSON, at most 2 GiB are read", name,
                         (unsigned long long)n);
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) p.at = 3; /* byte order mark */
    j.text = (char *)awq__alloc_raw(ctx, n + 1, 1);
    if (!j.text || !awq__grow(ctx, (void **)&j.nodes, &p.cap, 16, sizeof *j.nodes)) st = AWQ_E_MEMORY;
    while (!st) {
        awq__json_node node;
        uint32_t id = j.n_nodes;
        unsigned c;
        memset(&node, 0, sizeof node);
        awq__json_space(&p);
        c = p.at < p.n ? p.s[p.at] : 0;
        if (depth && j.nodes[stack[depth - 1]].type == AWQ__J_OBJ && c != '}') {
            if (c != '"') {
                st = awq__json_error(&p, "a member name in quotes was expected");
                break;
            }
            if ((st = awq__json_string(&p, &node.key, &node.key_len)) != AWQ_OK) break;
            awq__json_space(&p);
            if (p.at >= p.n || p.s[p.at] != ':') {
                st = awq__json_error(&p, "':' was expected");
                break;
            }
            p.at++;
            awq__json_space(&p);
            c = p.at < p.n ? p.s[p.at] : 0;
            if (c == '}') {
                st = awq__json_error(&p, "a value was expected");
                break;
            }
        }
        /* only legal for an empty container here: commas are read below */
        if (depth && (c == '}' || c == ']')) {
            awq__json_node *top = &j.nodes[stack[depth - 1]];
            if (top->v.c.count || (c == '}') != (top->type == AWQ__J_OBJ)) {
                st = awq__json_error(&p, "a value was expected");
                break;
            }
            p.at++;
            depth--;
        } else {
            if (!awq__grow(ctx, (void **)&j.nodes, &p.cap, (size_t)id + 1, sizeof *j.nodes)) {
                st = AWQ_E_MEMORY;
                break;
            }
            j.n_nodes++;
            if (depth) {
                awq__json_node *top = &j.nodes[stack[depth - 1]];
                if (!top->v.c.count++) top->v.c.first = id;
                else j.nodes[last[depth - 1]].next = id;
                last[depth - 1] = id;
            }
            if (c == '{' || c == '[') {
                if (depth == AWQ__JSON_DEPTH) {
                    st = awq__json_error(&p, "nested too deeply");
                    break;
                }
                node.type = c == '{' ? AWQ__J_OBJ : AWQ__J_ARR;
                j.nodes[id] = node;
                stack[depth++] = id;
                p.at++;
                continue;
            }
            if (c == '"') {
                node.type = AWQ__J_STR;
                st = awq__json_string(&p, &node.v.s.at, &node.v.s.len);
            } else if (c == '-' || (c >= '0' && c <= '9')) {
                st = awq__json_number(&p, &node);
            } else if (p.n - p.at >= 4 && !memcmp(p.s + p.at, "true", 4)) {
                node.type = AWQ__J_TRUE;
                p.at += 4;
            } else if (p.n - p.at >= 5 && !memcmp(p.s + p.at, "false", 5)) {
                node.type = AWQ__J_FALSE;
                p.at += 5;
            } else if (p.n - p.at >= 4 && !memcmp(p.s + p.at, "null", 4)) {
                node.type = AWQ__J_NULL;
                p.at += 4;
            } else {
                st = awq__json_error(&p, p.at < p.n ? "a value was expected"
                                                    : "the text ends where a value was "
                                                      "expected");
            }
            j.nodes[id] = node;
        }
        while (!st && depth) { /* after a value: ',' or the end of containers */
            awq__json_node *top = &j.nodes[stack[depth - 1]];
            awq__json_space(&p);
            c = p.at < p.n ? p.s[p.at] : 0;
            if (c == ',') {
                p.at++;
                awq__json_space(&p);
                c = p.at < p.n ? p.s[p.at] : 0;
                if (c == '}' || c == ']') st = awq__json_error(&p, "a value was expected after ','");
                break;
            }
            if (c != (top->type == AWQ__J_OBJ ? '}' : ']')) {
                st = awq__json_error(&p, p.at < p.n ? "',' or the end of the container was expected"
                                                    : "the text ends inside a container");
                break;
            }
            p.at++;
            depth--;
        }
        if (!st && !depth) break;
    }
    if (!st) {
        awq__json_space(&p);
        if (p.at < p.n) st = awq__json_error(&p, "something follows the value");
    }
    if (st) {
        awq__json_free(ctx, &j);
        return st;
    }
    *out = j;
    return AWQ_OK;
}

/* --- access; node 0 means absent everywhere, so that look-ups chain */
static awq__json_type awq__json_is(const awq__json *j, uint32_t node)
{
    return node ? (awq__json_type)j->nodes[node].type : AWQ__J_NULL;
}

static uint32_t awq__json_get(const awq__json *j, uint32_t object, const char *key) /* member, 0: absent */
{
    size_t n = strlen(key);
    uint32_t i;
    if (awq__json_is(j, object) != AWQ__J_OBJ) return 0;
    for (i = j->nodes[object].v.c.first; i; i = j->nodes[i].next)
        if (j->nodes[i].key_len == n && !memcmp(j->text + j->nodes[i].key, key, n)) return i;
    return 0;
}

/* for (i = awq__json_first(j, node); i; i = awq__json_next(j, i)) */
static uint32_t awq__json_first(const awq__json *j, uint32_t node)
{
    return node && j->nodes[node].type >= AWQ__J_ARR ? j->nodes[node].v.c.first : 0;
}

static uint32_t awq__json_next(const awq__json *j, uint32_t node) { return node ? j->nodes[node].next : 0; }

static uint32_t awq__json_count(const awq__json *j, uint32_t node)
{
    return node && j->nodes[node].type >= AWQ__J_ARR ? j->nodes[node].v.c.count : 0;
}

static const char *awq__json_key(const awq__json *j, uint32_t node) { return j->text + j->nodes[node].key; }

/* text of a string, NULL if it is none */
static const char *awq__json_str(const awq__json *j, uint32_t node, size_t *len)
{
    if (awq__json_is(j, node) != AWQ__J_STR) return NULL;
    if (len) *len = j->nodes[node].v.s.len;
    return j->text + j->nodes[node].v.s.at;
}

static int awq__json_eq(const awq__json *j, uint32_t node, const char *text)
{
    size_t n = 0;
    const char *s = awq__json_str(j, node, &n);
    return s && n == strlen(text) && !memcmp(s, text, n);
}

static int awq__json_number_of(const awq__json *j, uint32_t node, double *out) /* 1 if it is a number */
{
    awq__json_type t = awq__json_is(j, node);
    if (t == AWQ__J_INT) *out = (double)j->nodes[node].v.i;
    else if (t == AWQ__J_REAL) *out = j->nodes[node].v.d;
    else return 0;
    return 1;
}

static int awq__json_int_of(const awq__json *j, uint32_t node, int64_t *out) /* 1 if it is an integer */
{
    if (awq__json_is(j, node) != AWQ__J_INT) return 0;
    *out = j->nodes[node].v.i;
    return 1;
}

/* -1 when absent or no boolean */
static int awq__json_bool(const awq__json *j, uint32_t node)
{
    awq__json_type t = awq__json_is(j, node);
    return t == AWQ__J_TRUE ? 1 : t == AWQ__J_FALSE ? 0 : -1;
}

static awq_status awq__json_load(awq_ctx *ctx, const char *path, size_t max_bytes, awq__json *out)
{
    char *data = NULL;
    size_t n = 0;
    awq_status st;
    AWQ__TRY(awq__file_load(ctx, path, max_bytes, &data, &n));
    st = awq__json_parse(ctx, path, data, n, out);
    awq__free(ctx, data);
    return st;
}

/* --- writing: "text" with quotes and escapes */
static void awq__json_quote(awq_ctx *ctx, awq__text *t, const char *s, size_t n)
{
    size_t i, from = 0;
    awq__text_str(ctx, t, "\"");
    for (i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        awq__text_add(ctx, t, s + from, i - from);
        from = i + 1;
        if (c == '"') awq__text_str(ctx, t, "\\\"");
        else if (c == '\\') awq__text_str(ctx, t, "\\\\");
        else if (c == '\n') awq__text_str(ctx, t, "\\n");
        else if (c == '\t') awq__text_str(ctx, t, "\\t");
        else if (c == '\r') awq__text_str(ctx, t, "\\r");
        else awq__textf(ctx, t, "\\u%04x", c);
    }
    awq__text_add(ctx, t, s + from, n - from);
    awq__text_str(ctx, t, "\"");
}

/* a node and everything below it, as compact JSON; numbers keep their value */
static void awq__json_write(awq_ctx *ctx, awq__text *t, const awq__json *j, uint32_t node)
{
    uint32_t path[AWQ__JSON_DEPTH + 1];
    int depth = 0;
    for (;;) {
        const awq__json_node *n = &j->nodes[node];
        int open = 0;
        switch (n->type) {
        case AWQ__J_NULL: awq__text_str(ctx, t, "null"); break;
        case AWQ__J_FALSE: awq__text_str(ctx, t, "false"); break;
        case AWQ__J_TRUE: awq__text_str(ctx, t, "true"); break;
        case AWQ__J_INT: awq__textf(ctx, t, "%lld", (long long)n->v.i); break;
        case AWQ__J_REAL: {
            double back;
            char tmp[40], *c;
            int digits = 6; /* the shortest form that reads back the same */
            do {
                snprintf(tmp, sizeof tmp, "%.*g", digits, n->v.d);
                back = strtod(tmp, NULL);
            } while (back != n->v.d && ++digits <= 17);
            for (c = tmp; *c; c++) /* some locales write 0,5 */
                if (!strchr("+-.0123456789einfa", *c)) *c = '.';
            awq__text_str(ctx, t, tmp);
            if (!strpbrk(tmp, ".eEn")) awq__text_str(ctx, t, ".0");
            break;
        }
        case AWQ__J_STR: awq__json_quote(ctx, t, j->text + n->v.s.at, n->v.s.len); break;
        default:
            awq__text_str(ctx, t, n->type == AWQ__J_OBJ ? "{" : "[");
            if (n->v.c.first) open = 1;
            else awq__text_str(ctx, t, n->type == AWQ__J_OBJ ? "}" : "]");
        }
        if (open) {
            path[depth++] = node;
            node = n->v.c.first;
        } else {
            while (depth && !j->nodes[node].next) {
                node = path[--depth];
                awq__text_str(ctx, t, j->nodes[node].type == AWQ__J_OBJ ? "}" : "]");
            }
            if (!depth) return;
            node = j->nodes[node].next;
            awq__text_str(ctx, t, ", ");
        }
        if (j->nodes[path[depth - 1]].type == AWQ__J_OBJ) {
            awq__json_quote(ctx, t, awq__json_key(j, node), j->nodes[node].key_len);
            awq__text_str(ctx, t, ": ");
        }
    }
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>quantize
   A matrix to group-wise integers and back, round to nearest on AutoAWQ's grid (pseudo_quantize_tensor of its
   awq/quantize/quantizer.py). torch computes each fp16 operation in fp32 and rounds the result to fp16; that is
   awq__h(a op b) here. The grid does not extend to zero: an all-positive group has its zero point clamped at 0
   and what lies above the top code is cut, as in the reference.
   Invariants: the same bits as the reference on the CPU; scales are never 0.
   Tests: tests/test_quantize.c */

/* half to even, any |x|; NaN stays. Adding 2^23 leaves no fraction bits. */
AWQ__INLINE float awq__round_even(float x)
{
    float m = x < 0 ? -8388608.0f : 8388608.0f;
    return fabsf(x) < 8388608.0f ? (x + m) - m : x;
}

/* Scale and zero point of a group whose values span mn..mx (finite), in fp32 as torch computes it on fp32
   weights. Symmetric uses max(|mn|, |mx|) and the constant zero 2^(bits-1). The zero is an integer in
   0 .. 2^bits - 1; a code is clamp(round(w / scale) + zero, 0, 2^bits - 1). */
static void awq__grid_f32(float mn, float mx, int bits, int symmetric, float *scale, float *zero)
{
    float top = (float)((1 << bits) - 1), half = (float)(1 << (bits - 1)), s, z;
    if (symmetric) {
        s = AWQ__MAX(fabsf(mn), fabsf(mx));
        *scale = AWQ__MAX(s, 1e-5f) / (half - 1);
        *zero = half;
        return;
    }
    s = mx - mn;
    s = AWQ__MAX(s, 1e-5f) / top;
    z = -awq__round_even(mn / s);
    *scale = s;
    *zero = z < 0 ? 0 : z > top ? top : z + 0.0f; /* + 0: never -0 */
}

/* The same in fp16 arithmetic; mn and mx hold fp16 values. The scale is Inf when mx - mn is above 65504. */
static void awq__grid_f16(float mn, float mx, int bits, int symmetric, float *scale, float *zero)
{
    const float tiny = 168.0f / 16777216.0f; /* 1e-5 in fp16: 168 * 2^-24 */
    float top = (float)((1 << bits) - 1), half = (float)(1 << (bits - 1)), s, z;
    if (symmetric) {
        s = AWQ__MAX(fabsf(mn), fabsf(mx));
        *scale = awq__h(AWQ__MAX(s, tiny) / (half - 1));
        *zero = half;
        return;
    }
    s = awq__h(mx - mn);
    s = awq__h(AWQ__MAX(s, tiny) / top);
    z = -awq__round_even(awq__h(mn / s));
    *scale = s;
    *zero = z < 0 ? 0 : z > top ? top : z + 0.0f;
}

/* Code of a weight (an fp16 value) as fp16 arithmetic gives it. Rounding the quotient to fp16's 11 significant
   bits is enough: below fp16's normal range the integer is 0 and above it the clamp decides, either way. */
static float awq__code_f16(float w, float scale, float zero, float top)
{
    uint32_t u = awq__float_bits(w / scale);
    float q = awq__round_even(awq__bits_float((u + 0xfff + (u >> 13 & 1)) & 0xffffe000u)) + zero;
    return q < 0 ? 0 : q > top ? top : q;
}

/* What every call that takes an awq_qweight checks first; `who` names the call. */
static awq_status awq__qweight_check(awq_ctx *ctx, const char *who, const awq_qweight *w, int arrays)
{
    if (w->out_features < 1 || w->in_features < 1 || w->out_features > INT64_MAX / 8 / w->in_features)
        return awq__fail(ctx, AWQ_E_ARG, "%s: a matrix of %lld x %lld elements", who,
                         (long long)w->out_features, (long long)w->in_features);
    if (w->bits < 2 || w->bits > 8)
        return awq__fail(ctx, AWQ_E_ARG, "%s: bits is %d, expected 2 to 8", who, w->bits);
    if (w->group_size < 1 || w->in_features % w->group_size)
        return awq__fail(ctx, AWQ_E_ARG, "%s: group_size %lld does not divide in_features %lld", who,
                         (long long)w->group_size, (long long)w->in_features);
    if (w->scale_dtype != AWQ_F16 && w->scale_dtype != AWQ_BF16 && w->scale_dtype != AWQ_F32)
        return awq__fail(ctx, AWQ_E_ARG, "%s: scale_dtype is %s, expected F16, BF16 or F32", who,
                         awq_dtype_name(w->scale_dtype));
    if (arrays && (!w->codes || !w->zeros || !w->scales))
        return awq__fail(ctx, AWQ_E_ARG, "%s: codes, zeros or scales is NULL", who);
    return AWQ_OK;
}

AWQ_API awq_status awq_qweight_alloc(awq_ctx *ctx, int64_t out_features, int64_t in_features, int bits,
                                     int64_t group_size, int symmetric, awq_qweight *w)
{
    awq_qweight q;
    size_t n;
    memset(&q, 0, sizeof q);
    q.out_features = out_features;
    q.in_features = in_features;
    q.group_size = group_size <= 0 ? in_features : group_size;
    q.bits = bits;
    q.symmetric = symmetric != 0;
    q.scale_dtype = AWQ_F16;
    AWQ__TRY(awq__qweight_check(ctx, "awq_qweight_alloc", &q, 0));
    if ((uint64_t)out_features * (uint64_t)in_features > SIZE_MAX / 8)
        return awq__fail(ctx, AWQ_E_MEMORY, "out of memory: %lld x %lld codes asked for",
                         (long long)out_features, (long long)in_features);
    n = (size_t)out_features * (size_t)(in_features / q.group_size);
    q.codes = (uint8_t *)awq__alloc(ctx, (size_t)out_features, (size_t)in_features);
    if (q.codes) q.zeros = AWQ__NEW(ctx, uint8_t, n);
    if (q.zeros) q.scales = AWQ__NEW(ctx, float, n);
    if (!q.scales) {
        awq_qweight_free(ctx, &q);
        return AWQ_E_MEMORY;
    }
    *w = q;
    return AWQ_OK;
}

AWQ_API void awq_qweight_free(awq_ctx *ctx, awq_qweight *w)
{
    awq__free(ctx, w->codes);
    awq__free(ctx, w->zeros);
    awq__free(ctx, w->scales);
    memset(w, 0, sizeof *w);
}

static int64_t awq__rows_per_job(int64_t in_features) { return AWQ__MAX(1, 65536 / in_features); }

typedef struct awq__quantize_arg {
    const float *weights;
    const awq_qweight *w;
    int64_t rows; /* per job */
    int64_t *bad; /* [jobs] first element that fp16 cannot hold, or first of a group too wide; -1: none */
    float *out;   /* dequantize */
} awq__quantize_arg;

/* fp16 has no number for it: NaN, Inf, or rounded to Inf (65520 and above) */
static int awq__not_f16(float f) { return (awq__float_bits(f) & 0x7fffffff) >= 0x477ff000; }

static void awq__span(const float *x, int64_t n, float *mn, float *mx)
{
    float lo = x[0], hi = x[0];
    int64_t i;
    for (i = 1; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *mn = lo;
    *mx = hi;
}

static void awq__quantize_check_job(void *arg, int64_t job)
{
    awq__quantize_arg *a = (awq__quantize_arg *)arg;
    int64_t k = a->w->in_features, g = a->w->group_size;
    int64_t i = job * a->rows * k, end = AWQ__MIN(i + a->rows * k, a->w->out_features * k), j;
    float mn, mx;
    a->bad[job] = -1;
    for (; i < end; i += g) {
        for (j = i; j < i + g; j++)
            if (awq__not_f16(a->weights[j])) {
                a->bad[job] = j;
                return;
            }
        awq__span(a->weights + i, g, &mn, &mx);
        if (!a->w->symmetric && awq__not_f16(awq__h(mx) - awq__h(mn))) {
            a->bad[job] = i;
            return;
        }
    }
}

static void awq__quantize_job(void *arg, int64_t job)
{
    awq__quantize_arg *a = (awq__quantize_arg *)arg;
    const awq_qweight *w = a->w;
    int64_t k = w->in_features, g = w->group_size;
    int64_t i = job * a->rows * k, end = AWQ__MIN(i + a->rows * k, w->out_features * k), j;
    float mn, mx, s, z, top = (float)((1 << w->bits) - 1);
    for (; i < end; i += g) {
        awq__span(a->weights + i, g, &mn, &mx);
        awq__grid_f16(awq__h(mn), awq__h(mx), w->bits, w->symmetric, &s, &z);
        w->scales[i / g] = s;
        w->zeros[i / g] = (uint8_t)z;
        for (j = i; j < i + g; j++) w->codes[j] = (uint8_t)awq__code_f16(awq__h(a->weights[j]), s, z, top);
    }
}

AWQ_API awq_status awq_quantize(awq_ctx *ctx, const float *weights, awq_qweight *w)
{
    awq__quantize_arg a;
    int64_t jobs, i, k;
    AWQ__TRY(awq__qweight_check(ctx, "awq_quantize", w, 1));
    k = w->in_features;
    a.weights = weights;
    a.w = w;
    a.out = NULL;
    a.rows = awq__rows_per_job(k);
    jobs = (w->out_features + a.rows - 1) / a.rows;
    a.bad = AWQ__NEW(ctx, int64_t, jobs);
    if (!a.bad) return AWQ_E_MEMORY;
    awq__run(ctx, jobs, awq__quantize_check_job, &a);
    for (i = 0; i < jobs && a.bad[i] < 0; i++) {}
    if (i < jobs) {
        int64_t at = a.bad[i];
        awq__free(ctx, a.bad);
        if (awq__not_f16(weights[at]))
            return awq__fail(ctx, AWQ_E_NUMERIC, "awq_quantize: weight [%lld][%lld] is %g, fp16 cannot hold it",
                             (long long)(at / k), (long long)(at % k), (double)weights[at]);
        return awq__fail(ctx, AWQ_E_NUMERIC,
                         "awq_quantize: row %lld, group %lld: maximum minus minimum is above 65504",
                         (long long)(at / k), (long long)(at % k / w->group_size));
    }
    awq__free(ctx, a.bad);
    w->scale_dtype = AWQ_F16;
    awq__run(ctx, jobs, awq__quantize_job, &a);
    return AWQ_OK;
}

static void awq__dequantize_job(void *arg, int64_t job)
{
    awq__quantize_arg *a = (awq__quantize_arg *)arg;
    const awq_qweight *w = a->w;
    int64_t k = w->in_features, g = w->group_size;
    int64_t i = job * a->rows * k, end = AWQ__MIN(i + a->rows * k, w->out_features * k), j;
    for (; i < end; i += g) {
        float s = w->scales[i / g];
        int z = w->zeros[i / g];
        for (j = i; j < i + g; j++) a->out[j] = (float)(w->codes[j] - z) * s;
    }
}

AWQ_API awq_status awq_dequantize(awq_ctx *ctx, const awq_qweight *w, float *out)
{
    awq__quantize_arg a;
    AWQ__TRY(awq__qweight_check(ctx, "awq_dequantize", w, 1));
    a.weights = NULL;
    a.w = w;
    a.bad = NULL;
    a.out = out;
    a.rows = awq__rows_per_job(w->in_features);
    awq__run(ctx, (w->out_features + a.rows - 1) / a.rows, awq__dequantize_job, &a);
    return AWQ_OK;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>layouts
   The packed forms that engines load, each to and from awq_qweight without loss.
   A packed tensor is a table of words; word (row, col) holds n codes whose places in the canonical array are
   base + offset[i], i = 0 from the lowest bits. awq__words describes codes and zero points of every layout that
   way; one pair of loops packs and unpacks all of them. K = in_features, N = out_features, G = groups of a row.

     bits        31..28 27..24 23..20 19..16 15..12 11..8  7..4   3..0      word (row, col)
     gemm          7      5      3      1      6      4     2      0        (k, c) out 8c + x          [K, N/8]
     gemv          7      6      5      4      3      2     1      0        (n, c) in  8c + x          [N, K/8]
     gptq          7      6      5      4      3      2     1      0        (r, n) in  8r + x          [K/8, N]
     compressed    7      6      5      4      3      2     1      0        (n, c) in  8c + x          [N, K/8]
     gemv_fast                                24     16     8      0        below, in  base + x        [N/4, K]
     marlin       9 r8   1 r8   9      1      8 r8   0 r8  8      0         below, in base + x; r8: out base + 8

   gemv_fast interleaves 4 rows over 64 columns: 16-bit word k' of row band n4, with t = 4 * (k' % 16), holds
   codes of row 4 n4 + k' % 64 / 16, columns 64 (k' / 64) + 32 (t / 32) + 2 (t % 32 / 8) + t % 8 / 4 + {0, 8,
   16, 24}.
   marlin orders 16 x 64 tiles for tensor cores: word 128 b + 4 i + j of tile row r (i < 32, j < 4) starts at
   in 16 r + 2 (i % 4), out 64 b + 16 j + i / 4. Its scales are permuted within 64 (32 if the group is the row).
   Zero points: gemm, gptq, exllama [G, N/8], word (g, c) for out 8c + x. gemm orders x as above, the others
   linearly; gptq stores zero - 1 modulo 16; exllama the whole word minus 0x11111111 modulo 2^32, so that a zero
   of 0 borrows from its neighbours. compressed [N/8, G], gemv [N, zw] padded, gemv_fast fp16 -scale * zero.
   Tests: tests/test_layouts.c */

typedef struct awq__words {
    uint8_t *values;       /* canonical codes or zeros */
    void *words;           /* uint32_t, gemv_fast uint16_t */
    awq_layout layout;
    int64_t rows, cols;    /* of words */
    int64_t row_step, col_step, offset[8];
    int64_t in_features;
    int n, bits;           /* values per word, bits per value */
    int along_rows;        /* the packed axis runs over rows, else over cols (only to find the end) */
    int64_t limit;         /* length of the packed axis; places from there on are padding */
    uint32_t value_add, word_add; /* gptq, exllama */
} awq__words;

enum { AWQ__WORD_ROWS = 64, AWQ__WORD_COLS = 16 }; /* a tile: 16 words are one cache line of the packed side */

static int64_t awq__word_base(const awq__words *m, int64_t row, int64_t col)
{
    int64_t k = m->in_features, i, t;
    if (m->layout == AWQ_LAYOUT_MARLIN) {
        i = col % 128 / 4;
        return (64 * (col / 128) + 16 * (col % 4) + i / 4) * k + 16 * row + 2 * (i % 4);
    }
    if (m->layout == AWQ_LAYOUT_GEMV_FAST) {
        t = 4 * (col % 16);
        return (4 * row + col % 64 / 16) * k + 64 * (col / 64) + 32 * (t / 32) + 2 * (t % 32 / 8) + t % 8 / 4;
    }
    return row * m->row_step + col * m->col_step;
}

static int awq__word_count(const awq__words *m, int64_t row, int64_t col) /* values that are not padding */
{
    int64_t left = m->limit - (m->along_rows ? row : col) * m->n;
    return m->limit < 0 || left >= m->n ? m->n : left < 0 ? 0 : (int)left;
}

static void awq__pack_job(void *arg, int64_t job)
{
    const awq__words *m = (const awq__words *)arg;
    int64_t r0 = job * AWQ__WORD_ROWS, r1 = AWQ__MIN(r0 + AWQ__WORD_ROWS, m->rows), r, c, c0, c1;
    uint32_t mask = (1u << m->bits) - 1;
    for (c0 = 0; c0 < m->cols; c0 = c1)
        for (c1 = AWQ__MIN(c0 + AWQ__WORD_COLS, m->cols), r = r0; r < r1; r++)
            for (c = c0; c < c1; c++) {
                const uint8_t *v = m->values + awq__word_base(m, r, c);
                int i, n = awq__word_count(m, r, c);
                uint32_t w = 0;
                for (i = 0; i < n; i++) w |= ((v[m->offset[i]] + m->value_add) & mask) << (m->bits * i);
                w += m->word_add;
                if (m->layout == AWQ_LAYOUT_GEMV_FAST) ((uint16_t *)m->words)[r * m->cols + c] = (uint16_t)w;
                else ((uint32_t *)m->words)[r * m->cols + c] = w;
            }
}

static void awq__unpack_job(void *arg, int64_t job)
{
    const awq__words *m = (const awq__words *)arg;
    int64_t r0 = job * AWQ__WORD_ROWS, r1 = AWQ__MIN(r0 + AWQ__WORD_ROWS, m->rows), r, c, c0, c1;
    uint32_t mask = (1u << m->bits) - 1;
    for (c0 = 0; c0 < m->cols; c0 = c1)
        for (c1 = AWQ__MIN(c0 + AWQ__WORD_COLS, m->cols), r = r0; r < r1; r++)
            for (c = c0; c < c1; c++) {
                uint8_t *v = m->values + awq__word_base(m, r, c);
                int i, n = awq__word_count(m, r, c);
                uint32_t w = m->layout == AWQ_LAYOUT_GEMV_FAST ? ((const uint16_t *)m->words)[r * m->cols + c]
                                                               : ((const uint32_t *)m->words)[r * m->cols + c];
                w -= m->word_add;
                for (i = 0; i < n; i++)
                    v[m->offset[i]] = (uint8_t)(((w >> (m->bits * i)) - m->value_add) & mask);
            }
}

static void awq__words_init(awq__words *m, const awq_packed *p, int64_t k)
{
    int i;
    memset(m, 0, sizeof *m);
    m->layout = p->layout;
    m->bits = p->bits;
    m->n = 32 / p->bits;
    m->in_features = k;
    m->limit = -1;
    for (i = 0; i < m->n; i++) m->offset[i] = i; /* n = 4 or 8 */
}

/* The words of the codes in p->tensor[0]. */
static awq__words awq__code_words(const awq_packed *p, uint8_t *codes)
{
    static const uint8_t in_tile[4] = {0, 8, 1, 9}; /* marlin */
    int64_t k = p->in_features;
    awq__words m;
    int i;
    awq__words_init(&m, p, k);
    m.values = codes;
    m.words = p->tensor[0].data;
    m.rows = p->tensor[0].shape[0];
    m.cols = p->tensor[0].shape[1];
    switch (p->layout) {
    case AWQ_LAYOUT_GEMM:
        m.row_step = 1;
        m.col_step = 8 * k;
        for (i = 0; i < 8; i++) m.offset[i] = (i < 4 ? 2 * i : 2 * i - 7) * k;
        break;
    case AWQ_LAYOUT_GEMV_FAST:
        m.n = 4;
        for (i = 0; i < 4; i++) m.offset[i] = 8 * i;
        break;
    case AWQ_LAYOUT_MARLIN:
        for (i = 0; i < 8; i++) m.offset[i] = in_tile[i / 4 * 2 + i % 2] + (i % 4 / 2) * 8 * k;
        break;
    case AWQ_LAYOUT_EXLLAMA:
    case AWQ_LAYOUT_GPTQ:
    case AWQ_LAYOUT_GPTQ_V2:
        m.row_step = 8;
        m.col_step = k;
        break;
    default: /* gemv, compressed-tensors */
        m.row_step = k;
        m.col_step = m.n;
        m.limit = k;
    }
    return m;
}

/* The words of the zero points in tensor t; their canonical array is [N, G]. */
static awq__words awq__zero_words(const awq_packed *p, const awq_packed_tensor *t, uint8_t *zeros)
{
    int64_t g = p->in_features / p->group_size;
    awq__words m;
    int i;
    awq__words_init(&m, p, g);
    m.values = zeros;
    m.words = t->data;
    m.rows = t->shape[0];
    m.cols = t->shape[1];
    switch (p->layout) {
    case AWQ_LAYOUT_GEMV:
        m.row_step = g;
        m.col_step = 8;
        m.limit = g;
        break;
    case AWQ_LAYOUT_COMPRESSED_TENSORS:
        m.row_step = m.n * g;
        m.col_step = 1;
        m.along_rows = 1;
        m.limit = p->out_features;
        for (i = 0; i < m.n; i++) m.offset[i] = i * g;
        break;
    default: /* gemm, exllama, gptq */
        m.row_step = 1;
        m.col_step = 8 * g;
        for (i = 0; i < 8; i++)
            m.offset[i] = (p->layout != AWQ_LAYOUT_GEMM ? i : i < 4 ? 2 * i : 2 * i - 7) * g;
        if (p->layout == AWQ_LAYOUT_GPTQ) m.value_add = 15;              /* - 1 modulo 16 */
        if (p->layout == AWQ_LAYOUT_EXLLAMA) m.word_add = 0xeeeeeeefu; /* - 0x11111111 modulo 2^32 */
    }
    return m;
}

/* Place of the scale (and gemv_fast zero) of row n, group g in its tensor. */
static int64_t awq__scale_index(const awq_packed *p, const awq_packed_tensor *t, int64_t n, int64_t g)
{
    int64_t v = n % 32;
    switch (p->layout) {
    case AWQ_LAYOUT_GEMV:
    case AWQ_LAYOUT_COMPRESSED_TENSORS:
        return n * t->shape[1] + g;
    case AWQ_LAYOUT_MARLIN:
        if (p->group_size == p->in_features) n = n - v + v % 8 / 2 * 8 + v / 8 * 2 + v % 2;
        else n = n - n % 64 + n % 8 * 8 + n % 64 / 8;
        return g * t->shape[1] + n;
    default:
        return g * t->shape[1] + n;
    }
}

static const awq_packed_tensor *awq__packed_find(const awq_packed *p, const char *suffix)
{
    int i;
    for (i = 0; i < p->n_tensors; i++)
        if (!strcmp(p->tensor[i].suffix, suffix)) return &p->tensor[i];
    return NULL;
}

static const char *const awq__layout_names[AWQ_LAYOUT_COUNT] = {
    "none", "gemm", "gemv", "gemv_fast", "marlin", "exllama", "gptq", "gptq_v2", "compressed-tensors"};

AWQ_API const char *awq_layout_name(awq_layout layout)
{
    return (unsigned)layout < AWQ_LAYOUT_COUNT ? awq__layout_names[layout] : "?";
}

static int awq__same_word(const char *a, const char *b) /* ASCII letters of any case */
{
    for (; *a && *b; a++, b++)
        if ((*a >= 'A' && *a <= 'Z' ? *a + 32 : *a) != (*b >= 'A' && *b <= 'Z' ? *b + 32 : *b)) return 0;
    return *a == *b;
}

AWQ_API awq_layout awq_layout_from_name(const char *name)
{
    int i;
    for (i = 1; i < AWQ_LAYOUT_COUNT; i++)
        if (awq__same_word(name, awq__layout_names[i])) return (awq_layout)i;
    if (awq__same_word(name, "llm-awq")) return AWQ_LAYOUT_GEMV_FAST;
    if (awq__same_word(name, "pack-quantized")) return AWQ_LAYOUT_COMPRESSED_TENSORS;
    return AWQ_LAYOUT_NONE;
}

/* d1 is 0 for one dimension */
static void awq__packed_add(awq_packed *p, const char *suffix, awq_dtype dtype, int64_t d0, int64_t d1)
{
    awq_packed_tensor *t = &p->tensor[p->n_tensors++];
    t->suffix = suffix;
    t->dtype = dtype;
    t->ndim = d1 ? 2 : 1;
    t->shape[0] = d0;
    t->shape[1] = d1;
    t->bytes = (size_t)d0 * (size_t)(d1 ? d1 : 1) * awq_dtype_size(dtype);
    t->data = NULL;
}

static awq_status awq__need_multiple(awq_ctx *ctx, awq_layout layout, const char *what, int64_t value, int of)
{
    if (value % of == 0) return AWQ_OK;
    return awq__fail(ctx, AWQ_E_UNSUPPORTED, "layout %s: %s is %lld, it must be a multiple of %d",
                     awq_layout_name(layout), what, (long long)value, of);
}

AWQ_API awq_status awq_layout_describe(awq_ctx *ctx, awq_layout layout, const awq_qweight *w, awq_packed *p)
{
    int64_t n = w->out_features, k = w->in_features, g, zw;
    const char *name = awq_layout_name(layout);
    awq_packed q;
    int mult_n = 1, mult_k = 1, per = 8;
    if (layout <= AWQ_LAYOUT_NONE || layout >= AWQ_LAYOUT_COUNT)
        return awq__fail(ctx, AWQ_E_ARG, "awq_layout_describe: no layout has number %d", (int)layout);
    AWQ__TRY(awq__qweight_check(ctx, "awq_layout_describe", w, 0));
    if ((uint64_t)n * (uint64_t)k > SIZE_MAX / 16)
        return awq__fail(ctx, AWQ_E_LIMIT, "layout %s: %lld x %lld does not fit this machine's memory", name,
                         (long long)n, (long long)k);
    if (w->bits != 4 && !(w->bits == 8 && layout == AWQ_LAYOUT_COMPRESSED_TENSORS))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "layout %s: bits is %d, it holds %s", name, w->bits,
                         layout == AWQ_LAYOUT_COMPRESSED_TENSORS ? "4 or 8" : "4");
    if (layout == AWQ_LAYOUT_MARLIN && !w->symmetric)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "layout marlin: holds symmetric weights only");
    g = k / w->group_size;
    zw = 0;
    if (layout == AWQ_LAYOUT_GEMV || layout == AWQ_LAYOUT_GEMV_FAST) {
        int m = w->group_size >= 128 ? 1 : w->group_size == 64 ? 2 : w->group_size == 32 ? 4 : 0;
        if (!m)
            return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                             "layout %s: group_size is %lld, it must be 32, 64, or 128 and more", name,
                             (long long)w->group_size);
        zw = ((g + 7) / 8 + m - 1) / m * m;
    }
    switch (layout) {
    case AWQ_LAYOUT_GEMM: mult_n = 8; break;
    case AWQ_LAYOUT_GEMV: mult_k = 8; break;
    case AWQ_LAYOUT_GEMV_FAST: mult_n = 4, mult_k = 64; break;
    case AWQ_LAYOUT_MARLIN: mult_n = 64, mult_k = 16; break;
    case AWQ_LAYOUT_COMPRESSED_TENSORS: per = 32 / w->bits; break;
    default: mult_n = 8, mult_k = 8;
    }
    AWQ__TRY(awq__need_multiple(ctx, layout, "out_features", n, mult_n));
    AWQ__TRY(awq__need_multiple(ctx, layout, "in_features", k, mult_k));

    memset(&q, 0, sizeof q);
    q.layout = layout;
    q.out_features = n;
    q.in_features = k;
    q.group_size = w->group_size;
    q.bits = w->bits;
    q.symmetric = w->symmetric != 0;
    q.scale_dtype = AWQ_F16;
    switch (layout) {
    case AWQ_LAYOUT_GEMV:
        awq__packed_add(&q, "qweight", AWQ_I32, n, k / 8);
        awq__packed_add(&q, "qzeros", AWQ_I32, n, zw);
        awq__packed_add(&q, "scales", AWQ_F16, n, 8 * zw);
        break;
    case AWQ_LAYOUT_GEMV_FAST:
        awq__packed_add(&q, "qweight", AWQ_I16, n / 4, k);
        awq__packed_add(&q, "qzeros", AWQ_F16, 8 * zw, n);
        awq__packed_add(&q, "scales", AWQ_F16, 8 * zw, n);
        break;
    case AWQ_LAYOUT_MARLIN:
        awq__packed_add(&q, "qweight", AWQ_I32, k / 16, 2 * n);
        awq__packed_add(&q, "scales", AWQ_F16, g, n);
        break;
    case AWQ_LAYOUT_COMPRESSED_TENSORS:
        q.scale_dtype = w->scale_dtype;
        awq__packed_add(&q, "weight_packed", AWQ_I32, n, (k + per - 1) / per);
        awq__packed_add(&q, "weight_scale", w->scale_dtype, n, g);
        awq__packed_add(&q, "weight_shape", AWQ_I64, 2, 0);
        if (!q.symmetric) awq__packed_add(&q, "weight_zero_point", AWQ_I32, (n + per - 1) / per, g);
        break;
    default:
        if (layout == AWQ_LAYOUT_GEMM) awq__packed_add(&q, "qweight", AWQ_I32, k, n / 8);
        else awq__packed_add(&q, "qweight", AWQ_I32, k / 8, n);
        awq__packed_add(&q, "qzeros", AWQ_I32, g, n / 8);
        awq__packed_add(&q, "scales", AWQ_F16, g, n);
        if (layout == AWQ_LAYOUT_GPTQ || layout == AWQ_LAYOUT_GPTQ_V2)
            awq__packed_add(&q, "g_idx", AWQ_I32, k, 0);
    }
    *p = q;
    return AWQ_OK;
}

/* Everything awq_pack and awq_unpack share. */
typedef struct awq__convert {
    const awq_packed *p;
    const awq_qweight *w;
    const awq_packed_tensor *scales, *zeros, *g_idx, *shape; /* NULL where the layout has none */
    int64_t *bad; /* [blocks] first offending (row * G + group) or element; -1: none */
    int pack;
} awq__convert;

enum { AWQ__CONVERT_ROWS = 64 }; /* rows per job; a multiple of 8, so that jobs never share a word */

/* gemv_fast: the fp16 bits of -scale * zero; a zero of 0 gives -0, as torch does */
static uint16_t awq__scaled_zero(float scale, int zero) { return awq__float_f16(-(scale * (float)zero)); }

/* 1 when value f survives a trip through dtype */
static int awq__holds(awq_dtype dtype, float f)
{
    if (!awq__finite(f)) return 0;
    if (dtype == AWQ_F16) return awq__f16_float(awq__float_f16(f)) == f;
    return dtype != AWQ_BF16 || awq__bf16_float(awq__float_bf16(f)) == f;
}

static float awq__scale_read(const awq__convert *a, int64_t n, int64_t g)
{
    int64_t at = awq__scale_index(a->p, a->scales, n, g);
    float f;
    awq__to_float(a->scales->dtype,
                  (const char *)a->scales->data + (size_t)at * awq_dtype_size(a->scales->dtype), 1, &f);
    return f;
}

/* zero point of a gemv_fast matrix: the integer whose -scale * zero rounds to the stored value; -1: none */
static int awq__scaled_zero_read(const awq__convert *a, int64_t n, int64_t g, float scale)
{
    uint16_t h = ((const uint16_t *)a->zeros->data)[awq__scale_index(a->p, a->zeros, n, g)];
    float q = awq__f16_float(h), z;
    if (q == 0) return 0;
    z = awq__round_even(-q / scale);
    return z > 0 && z <= 15 && awq__scaled_zero(scale, (int)z) == h ? (int)z : -1;
}

static void awq__convert_check_job(void *arg, int64_t job)
{
    awq__convert *a = (awq__convert *)arg;
    const awq_qweight *w = a->w;
    int64_t groups = w->in_features / w->group_size, n, g, k;
    int64_t n0 = job * AWQ__CONVERT_ROWS, n1 = AWQ__MIN(n0 + AWQ__CONVERT_ROWS, w->out_features);
    int top = (1 << w->bits) - 1, half = 1 << (w->bits - 1), bad, c;
    int fast = a->p->layout == AWQ_LAYOUT_GEMV_FAST;
    float s;
    a->bad[job] = -1;
    for (n = n0; n < n1; n++)
        for (g = 0; g < groups; g++) {
            int64_t i = n * groups + g;
            if (a->pack) {
                const uint8_t *codes = w->codes + n * w->in_features + g * w->group_size;
                for (c = 0, k = 0; k < w->group_size; k++) c |= codes[k]; /* an OR above top: some code is */
                s = w->scales[i];
                bad = c > top || w->zeros[i] > top || (w->symmetric && w->zeros[i] != half)
                      || !awq__holds(a->p->scale_dtype, s)
                      || (fast && (awq__scaled_zero(s, w->zeros[i]) & 0x7fff) >= 0x7c00);
            } else {
                s = awq__scale_read(a, n, g);
                bad = !awq__finite(s) || (fast && awq__scaled_zero_read(a, n, g, s) < 0);
            }
            if (bad) {
                a->bad[job] = i;
                return;
            }
        }
}

/* the sentence for what awq__convert_check_job found at (row * G + group) i */
static awq_status awq__convert_refuse(awq_ctx *ctx, const awq__convert *a, int64_t i)
{
    const awq_qweight *w = a->w;
    const char *name = awq_layout_name(a->p->layout);
    int64_t groups = w->in_features / w->group_size;
    long long n = (long long)(i / groups), g = (long long)(i % groups);
    int top = (1 << w->bits) - 1, half = 1 << (w->bits - 1);
    float s = a->pack ? w->scales[i] : awq__scale_read(a, n, g);
    if (!awq__finite(s))
        return awq__fail(ctx, AWQ_E_NUMERIC, "layout %s: the scale of row %lld, group %lld is NaN or Inf", name,
                         n, g);
    if (!a->pack)
        return awq__fail(ctx, AWQ_E_FORMAT,
                         "layout %s: qzeros of row %lld, group %lld is not -scale times 0 to 15", name, n, g);
    if (w->zeros[i] > top || (w->symmetric && w->zeros[i] != half))
        return awq__fail(ctx, AWQ_E_ARG,
                         "awq_pack: the zero point of row %lld, group %lld is %d, expected %s%d", n, g,
                         w->zeros[i], w->symmetric ? "" : "0 to ", w->symmetric ? half : top);
    if (!awq__holds(a->p->scale_dtype, s))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "layout %s: the scale %.9g of row %lld, group %lld is not exact in %s", name,
                         (double)s, n, g, awq_dtype_name(a->p->scale_dtype));
    if (a->p->layout == AWQ_LAYOUT_GEMV_FAST && (awq__scaled_zero(s, w->zeros[i]) & 0x7fff) >= 0x7c00)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "layout %s: scale times zero of row %lld, group %lld is above 65504", name, n, g);
    return awq__fail(ctx, AWQ_E_ARG, "awq_pack: row %lld, group %lld has a code above %d", n, g, top);
}

static void awq__convert_scales_job(void *arg, int64_t job)
{
    awq__convert *a = (awq__convert *)arg;
    const awq_qweight *w = a->w;
    int64_t groups = w->in_features / w->group_size, n, g;
    int64_t n0 = job * AWQ__CONVERT_ROWS, n1 = AWQ__MIN(n0 + AWQ__CONVERT_ROWS, w->out_features);
    for (n = n0; n < n1; n++)
        for (g = 0; g < groups; g++) {
            int64_t i = n * groups + g, at = awq__scale_index(a->p, a->scales, n, g);
            if (!a->pack) {
                w->scales[i] = awq__scale_read(a, n, g);
                if (a->p->layout == AWQ_LAYOUT_GEMV_FAST)
                    w->zeros[i] = (uint8_t)awq__scaled_zero_read(a, n, g, w->scales[i]);
                continue;
            }
            if (a->p->layout == AWQ_LAYOUT_GEMV_FAST)
                ((uint16_t *)a->zeros->data)[at] = awq__scaled_zero(w->scales[i], w->zeros[i]);
            if (a->scales->dtype == AWQ_F32) ((float *)a->scales->data)[at] = w->scales[i];
            else ((uint16_t *)a->scales->data)[at] = a->scales->dtype == AWQ_F16 ? awq__float_f16(w->scales[i])
                                                                                : awq__float_bf16(w->scales[i]);
        }
}

/* p against what its layout must look like for w's shape; finds its tensors; runs the checks on values. */
static awq_status awq__convert_check(awq_ctx *ctx, awq__convert *a, const awq_packed *p, const awq_qweight *w,
                                     int pack)
{
    const char *who = pack ? "awq_pack" : "awq_unpack";
    int64_t jobs, i;
    awq_qweight shape = *w;
    awq_packed want;
    awq_status st = AWQ_OK;
    int t;
    AWQ__TRY(awq__qweight_check(ctx, who, w, 1));
    if (p->out_features != w->out_features || p->in_features != w->in_features || p->group_size != w->group_size
        || p->bits != w->bits)
        return awq__fail(ctx, AWQ_E_ARG,
                         "%s: the packed matrix is %lld x %lld, group %lld, %d bits; the qweight is "
                         "%lld x %lld, group %lld, %d bits",
                         who, (long long)p->out_features, (long long)p->in_features, (long long)p->group_size,
                         p->bits, (long long)w->out_features, (long long)w->in_features,
                         (long long)w->group_size, w->bits);
    if (pack && !w->symmetric != !p->symmetric)
        return awq__fail(ctx, AWQ_E_ARG, "%s: one of packed and qweight is symmetric, the other is not", who);
    shape.symmetric = p->symmetric;
    shape.scale_dtype = p->scale_dtype;
    AWQ__TRY(awq_layout_describe(ctx, p->layout, &shape, &want));
    for (t = 0; t < want.n_tensors; t++) {
        const awq_packed_tensor *x = &p->tensor[t], *y = &want.tensor[t];
        int optional = !pack && (!strcmp(y->suffix, "g_idx") || !strcmp(y->suffix, "weight_shape"));
        if (p->n_tensors != want.n_tensors || x->dtype != y->dtype || x->ndim != y->ndim || x->bytes != y->bytes
            || x->shape[0] != y->shape[0] || (x->ndim > 1 && x->shape[1] != y->shape[1])
            || (!x->data && !optional))
            return awq__fail(ctx, pack ? AWQ_E_ARG : AWQ_E_FORMAT,
                             "%s: tensor %s of layout %s must be %s [%lld%s%.0lld]", who, y->suffix,
                             awq_layout_name(p->layout), awq_dtype_name(y->dtype), (long long)y->shape[0],
                             y->ndim > 1 ? ", " : "", (long long)y->shape[1]);
    }
    a->p = p;
    a->w = w;
    a->pack = pack;
    a->scales = awq__packed_find(&want, "scales");
    a->zeros = awq__packed_find(&want, "qzeros");
    a->g_idx = awq__packed_find(&want, "g_idx");
    a->shape = awq__packed_find(&want, "weight_shape");
    if (!a->scales) a->scales = awq__packed_find(&want, "weight_scale");
    if (!a->zeros) a->zeros = awq__packed_find(&want, "weight_zero_point");
    /* same places in p, which has the data */
    a->scales = &p->tensor[a->scales - want.tensor];
    if (a->zeros) a->zeros = &p->tensor[a->zeros - want.tensor];
    if (a->g_idx) a->g_idx = &p->tensor[a->g_idx - want.tensor];
    if (a->shape) a->shape = &p->tensor[a->shape - want.tensor];
    jobs = (w->out_features + AWQ__CONVERT_ROWS - 1) / AWQ__CONVERT_ROWS;
    a->bad = AWQ__NEW(ctx, int64_t, jobs);
    if (!a->bad) return AWQ_E_MEMORY;
    awq__run(ctx, jobs, awq__convert_check_job, a);
    for (i = 0; i < jobs && !st; i++)
        if (a->bad[i] >= 0) st = awq__convert_refuse(ctx, a, a->bad[i]);
    awq__free(ctx, a->bad);
    return st;
}

static void awq__convert_run(awq_ctx *ctx, awq__convert *a, void (*job)(void *arg, int64_t index))
{
    awq__words m = awq__code_words(a->p, a->w->codes);
    awq__run(ctx, (m.rows + AWQ__WORD_ROWS - 1) / AWQ__WORD_ROWS, job, &m);
    if (a->zeros && a->zeros->dtype == AWQ_I32) {
        m = awq__zero_words(a->p, a->zeros, a->w->zeros);
        awq__run(ctx, (m.rows + AWQ__WORD_ROWS - 1) / AWQ__WORD_ROWS, job, &m);
    }
    awq__run(ctx, (a->w->out_features + AWQ__CONVERT_ROWS - 1) / AWQ__CONVERT_ROWS, awq__convert_scales_job, a);
}

AWQ_API awq_status awq_pack(awq_ctx *ctx, const awq_qweight *w, awq_packed *p)
{
    awq__convert a;
    int64_t i;
    AWQ__TRY(awq__convert_check(ctx, &a, p, w, 1));
    if (a.zeros) memset(a.zeros->data, 0, a.zeros->bytes); /* padding */
    memset(a.scales->data, 0, a.scales->bytes);
    awq__convert_run(ctx, &a, awq__pack_job);
    if (a.g_idx)
        for (i = 0; i < p->in_features; i++) ((int32_t *)a.g_idx->data)[i] = (int32_t)(i / p->group_size);
    if (a.shape) {
        ((int64_t *)a.shape->data)[0] = p->out_features;
        ((int64_t *)a.shape->data)[1] = p->in_features;
    }
    return AWQ_OK;
}

AWQ_API awq_status awq_unpack(awq_ctx *ctx, const awq_packed *p, awq_qweight *w)
{
    awq__convert a;
    int64_t i, n;
    AWQ__TRY(awq__convert_check(ctx, &a, p, w, 0));
    if (a.g_idx && a.g_idx->data)
        for (i = 0; i < p->in_features; i++)
            if (((const int32_t *)a.g_idx->data)[i] != i / p->group_size)
                return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                                 "layout %s: g_idx[%lld] is %ld, expected %lld: columns in "
                                 "activation order (desc_act) are not supported",
                                 awq_layout_name(p->layout), (long long)i,
                                 (long)((const int32_t *)a.g_idx->data)[i], (long long)(i / p->group_size));
    if (a.shape && a.shape->data) {
        const int64_t *d = (const int64_t *)a.shape->data;
        if (d[0] != p->out_features || d[1] != p->in_features)
            return awq__fail(ctx, AWQ_E_FORMAT,
                             "layout %s: weight_shape is [%lld, %lld], expected [%lld, %lld]",
                             awq_layout_name(p->layout), (long long)d[0], (long long)d[1],
                             (long long)p->out_features, (long long)p->in_features);
    }
    n = w->out_features * (w->in_features / w->group_size);
    if (!a.zeros) memset(w->zeros, 1 << (w->bits - 1), (size_t)n);
    awq__convert_run(ctx, &a, awq__unpack_job);
    w->scale_dtype = p->scale_dtype;
    /* what is stored decides: a file marked symmetric may hold other zero points */
    w->symmetric = p->symmetric;
    for (i = 0; i < n; i++)
        if (w->zeros[i] != 1 << (w->bits - 1)) w->symmetric = 0;
    return AWQ_OK;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>ops
   The operations of the forward pass beside the linears: norm, rope, attention, gated activation, log-softmax.
   Each body is plain C written over 16 lanes and compiled once per instruction set (a target attribute on a
   wrapper that inlines it): no reassociation, no contraction, so every instruction set gives the same bits.
   Lane l of a sum takes elements l, l + 16, ...; lanes are added as a tree.
   Tests: tests/test_core.c (each instruction set against scalar, and against double precision) */

AWQ__INLINE float awq__lanes_sum(const float *l) /* 16 lanes */
{
    float a[8], b[4];
    int i;
    for (i = 0; i < 8; i++) a[i] = l[i] + l[i + 8];
    for (i = 0; i < 4; i++) b[i] = a[i] + a[i + 4];
    return (b[0] + b[2]) + (b[1] + b[3]);
}

AWQ__INLINE float awq__dot_body(const float *a, const float *b, int64_t n)
{
    float l[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    int64_t i = 0;
    int j;
    for (; i + 16 <= n; i += 16)
        for (j = 0; j < 16; j++) l[j] = l[j] + a[i + j] * b[i + j];
    for (j = 0; i < n; i++, j++) l[j] = l[j] + a[i] * b[i];
    return awq__lanes_sum(l);
}

/* exp as loops over it vectorize: no branches, and no minimum either, which gcc 12 takes for one. The same bits
   as awq__expf inside [-87, 88]; 0 below, exp(88) above. */
AWQ__INLINE float awq__exp_body(float x)
{
    float inside = (float)(x >= -87.0f) * (float)(x <= 88.0f), above = (float)(x > 88.0f);
    float k, r, p, y = x * inside;
    int32_t e;
    uint32_t u;
    k = y * 1.44269504f;
    e = (int32_t)(k + (k < 0 ? -0.5f : 0.5f));
    k = (float)e;
    r = y - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    u = (uint32_t)(e + 127) << 23;
    memcpy(&r, &u, 4);
    return p * r * inside + above * 1.6516362549940018e38f;
}

/* out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i] */
AWQ__INLINE void awq__norm_body(const float *x, const float *weight, float *out, int64_t n, float eps)
{
    float s = 1.0f / sqrtf(awq__dot_body(x, x, n) / (float)n + eps);
    int64_t i;
    for (i = 0; i < n; i++) out[i] = x[i] * s * weight[i];
}

/* gate[i] = silu(gate[i]) * up[i] */
AWQ__INLINE void awq__gate_body(float *gate, const float *up, int64_t n)
{
    int64_t i;
    for (i = 0; i < n; i++) gate[i] = gate[i] / (1.0f + awq__exp_body(-gate[i])) * up[i];
}

AWQ__INLINE void awq__add_body(float *x, const float *y, int64_t n)
{
    int64_t i;
    for (i = 0; i < n; i++) x[i] = x[i] + y[i];
}

/* Keys and values of a sequence lie in pages of AWQ__PAGE tokens. */
#define AWQ__MAX_HEAD 512
#define AWQ__PAGE 32

/* One query of one head against keys [first, last]: online softmax, a page at a time, so that chunking cannot
   change a bit. Keys of page b: rows `stride` floats apart from page[b] + at on, its values AWQ__PAGE rows
   later; out [dim]; dim <= AWQ__MAX_HEAD. */
AWQ__INLINE void awq__attend_body(const float *q, float *const *page, size_t at, int64_t stride, int64_t first,
                                  int64_t last, int64_t dim, float scale, float *out)
{
    float p[AWQ__PAGE], best = -3.0e38f, sum = 0;
    int64_t b, i, j;
    for (i = 0; i < dim; i++) out[i] = 0;
    for (b = first / AWQ__PAGE; b <= last / AWQ__PAGE; b++) {
        int64_t from = AWQ__MAX(first - b * AWQ__PAGE, (int64_t)0);
        int64_t n = AWQ__MIN(last - b * AWQ__PAGE, (int64_t)AWQ__PAGE - 1) - from + 1;
        const float *k = page[b] + at + from * stride, *v = k + AWQ__PAGE * stride;
        float top = best, keep;
        for (j = 0; j < n; j++) {
            p[j] = awq__dot_body(q, k + j * stride, dim) * scale;
            top = p[j] > top ? p[j] : top;
        }
        keep = awq__exp_body(best - top < -1000.0f ? -1000.0f : best - top);
        for (j = 0; j < n; j++) p[j] = awq__exp_body(p[j] - top);
        sum = sum * keep;
        for (j = 0; j < n; j++) sum = sum + p[j];
        /* the sums stay in registers over the block's keys, four chains of them */
        for (i = 0; i + 64 <= dim; i += 64) {
            const float *row = v + i;
            float l0[16], l1[16], l2[16], l3[16];
            int c;
            for (c = 0; c < 16; c++) l0[c] = out[i + c] * keep;
            for (c = 0; c < 16; c++) l1[c] = out[i + 16 + c] * keep;
            for (c = 0; c < 16; c++) l2[c] = out[i + 32 + c] * keep;
            for (c = 0; c < 16; c++) l3[c] = out[i + 48 + c] * keep;
            for (j = 0; j < n; j++, row += stride) {
                for (c = 0; c < 16; c++) l0[c] = l0[c] + p[j] * row[c];
                for (c = 0; c < 16; c++) l1[c] = l1[c] + p[j] * row[16 + c];
                for (c = 0; c < 16; c++) l2[c] = l2[c] + p[j] * row[32 + c];
                for (c = 0; c < 16; c++) l3[c] = l3[c] + p[j] * row[48 + c];
            }
            for (c = 0; c < 16; c++) out[i + c] = l0[c];
            for (c = 0; c < 16; c++) out[i + 16 + c] = l1[c];
            for (c = 0; c < 16; c++) out[i + 32 + c] = l2[c];
            for (c = 0; c < 16; c++) out[i + 48 + c] = l3[c];
        }
        for (; i + 16 <= dim; i += 16) {
            const float *row = v + i;
            float l[16];
            int c;
            for (c = 0; c < 16; c++) l[c] = out[i + c] * keep;
            for (j = 0; j < n; j++, row += stride)
                for (c = 0; c < 16; c++) l[c] = l[c] + p[j] * row[c];
            for (c = 0; c < 16; c++) out[i + c] = l[c];
        }
        for (; i < dim; i++) {
            out[i] = out[i] * keep;
            for (j = 0; j < n; j++) out[i] = out[i] + p[j] * v[j * stride + i];
        }
        best = top;
    }
    for (i = 0; i < dim; i++) out[i] = out[i] / sum;
}

/* rotate the two halves of a head: out = (a cos - b sin, b cos + a sin), table [dim / 2] each */
AWQ__INLINE void awq__rope_body(float *x, const float *cos_, const float *sin_, int64_t dim)
{
    int64_t i, h = dim / 2;
    for (i = 0; i < h; i++) {
        float a = x[i], b = x[i + h];
        x[i] = a * cos_[i] - b * sin_[i];
        x[i + h] = b * cos_[i] + a * sin_[i];
    }
}

/* log(sum(exp(x))) of a row and, in *best, its maximum */
AWQ__INLINE double awq__logsum_body(const float *x, int64_t n, float *best)
{
    float m = x[0], l[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    double sum = 0;
    int64_t i, b;
    int j;
    for (i = 1; i < n; i++) m = x[i] > m ? x[i] : m;
    for (b = 0; b < n; b += 4096) { /* short fp32 sums, added in double */
        int64_t end = AWQ__MIN(b + 4096, n);
        for (j = 0; j < 16; j++) l[j] = 0;
        for (i = b; i + 16 <= end; i += 16)
            for (j = 0; j < 16; j++) l[j] = l[j] + awq__exp_body(x[i + j] - m);
        for (j = 0; i < end; i++, j++) l[j] = l[j] + awq__exp_body(x[i] - m);
        sum += awq__lanes_sum(l);
    }
    *best = m;
    return log(sum) + m;
}

/* sum over i of exp(p[i] - lp) * ((p[i] - lp) - (q[i] - lq)): KL(p || q) of two rows of logits, in nats */
AWQ__INLINE double awq__kl_body(const float *p, double lp, const float *q, double lq, int64_t n)
{
    float l[16], d = (float)(lp - lq), m = (float)lp;
    double sum = 0;
    int64_t i, b;
    int j;
    for (b = 0; b < n; b += 1024) {
        int64_t end = AWQ__MIN(b + 1024, n);
        for (j = 0; j < 16; j++) l[j] = 0;
        for (i = b; i + 16 <= end; i += 16)
            for (j = 0; j < 16; j++) l[j] = l[j] + awq__exp_body(p[i + j] - m) * (p[i + j] - q[i + j] - d);
        for (j = 0; i < end; i++, j++) l[j] = l[j] + awq__exp_body(p[i] - m) * (p[i] - q[i] - d);
        sum += awq__lanes_sum(l);
    }
    return sum;
}

typedef struct awq__ops {
    float (*dot)(const float *a, const float *b, int64_t n);
    void (*norm)(const float *x, const float *weight, float *out, int64_t n, float eps);
    void (*gate)(float *gate, const float *up, int64_t n);
    void (*add)(float *x, const float *y, int64_t n);
    void (*attend)(const float *q, float *const *page, size_t at, int64_t stride, int64_t first, int64_t last,
                   int64_t dim, float scale, float *out);
    void (*rope)(float *x, const float *cos_, const float *sin_, int64_t dim);
    double (*logsum)(const float *x, int64_t n, float *best);
    double (*kl)(const float *p, double lp, const float *q, double lq, int64_t n);
} awq__ops;

#define AWQ__OPS(isa, target)                                                                               \
    target static float awq__dot_##isa(const float *a, const float *b, int64_t n)                           \
    {                                                                                                       \
        return awq__dot_body(a, b, n);                                                                      \
    }                                                                                                       \
    target static void awq__norm_##isa(const float *x, const float *w, float *out, int64_t n, float eps)    \
    {                                                                                                       \
        awq__norm_body(x, w, out, n, eps);                                                                  \
    }                                                                                                       \
    target static void awq__gate_##isa(float *g, const float *u, int64_t n) { awq__gate_body(g, u, n); }    \
    target static void awq__add_##isa(float *x, const float *y, int64_t n) { awq__add_body(x, y, n); }      \
    target static void awq__attend_##isa(const float *q, float *const *page, size_t at, int64_t stride,     \
                                         int64_t first, int64_t last, int64_t dim, float scale, float *out) \
    {                                                                                                       \
        if (dim == 64) awq__attend_body(q, page, at, stride, first, last, 64, scale, out);                  \
        else if (dim == 128) awq__attend_body(q, page, at, stride, first, last, 128, scale, out);           \
        else awq__attend_body(q, page, at, stride, first, last, dim, scale, out);                           \
    }                                                                                                       \
    target static void awq__rope_##isa(float *x, const float *c, const float *s, int64_t dim)               \
    {                                                                                                       \
        awq__rope_body(x, c, s, dim);                                                                       \
    }                                                                                                       \
    target static double awq__logsum_##isa(const float *x, int64_t n, float *best)                          \
    {                                                                                                       \
        return awq__logsum_body(x, n, best);                                                                \
    }                                                                                                       \
    target static double awq__kl_##isa(const float *p, double lp, const float *q, double lq, int64_t n)     \
    {                                                                                                       \
        return awq__kl_body(p, lp, q, lq, n);                                                               \
    }                                                                                                       \
    static const awq__ops awq__ops_##isa = {awq__dot_##isa,    awq__norm_##isa,   awq__gate_##isa,          \
                                            awq__add_##isa,    awq__attend_##isa, awq__rope_##isa,          \
                                            awq__logsum_##isa, awq__kl_##isa};

/* gcc vectorizes such loops at -O2 only when asked to */
#if defined(__GNUC__) && !defined(__clang__)
#define AWQ__VECTORIZE \
    __attribute__((    \
        optimize("tree-vectorize", "fp-contract=off", "vect-cost-model=unlimited", "no-trapping-math")))
#else
#  define AWQ__VECTORIZE
#endif

AWQ__OPS(scalar, AWQ__VECTORIZE)
#if AWQ__X86
AWQ__OPS(avx2, AWQ__VECTORIZE AWQ__TARGET("avx2,fma,f16c"))
AWQ__OPS(avx512, AWQ__VECTORIZE AWQ__TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))
#endif

static const awq__ops *awq__ops_for(awq_ctx *ctx)
{
#if AWQ__X86
    awq_isa isa = awq__isa(ctx);
    if (isa == AWQ_ISA_AVX512) return &awq__ops_avx512;
    if (isa == AWQ_ISA_AVX2) return &awq__ops_avx2;
#else
    (void)ctx;
#endif
    return &awq__ops_scalar;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>matmul
   y = x W^T in exact mode: fp32 activations times weights converted to fp32. The order of summation is fixed:
   lane j of 16 adds the products of elements j, j + 16, ... in turn, each by a fused multiply-add (one
   rounding), then the lanes are added as a tree (16 to 8 to 4 to 2 to 1, halves upon each other).
   awq__mm_*_scalar are the specification; the vector versions give the same bits, so results depend neither on
   the machine, nor on threads, nor on how tokens are batched.
   A job is a block of rows times a block of tokens. Strips of 4 rows are converted 512 columns at a time into a
   small buffer and multiplied with tiles of 4 tokens, the lanes of all tokens waiting beside it. With fewer
   than 4 tokens 4-bit codes are converted in registers instead.

   4-bit codes of a row, 32 columns in 16 bytes:
       byte     0        1            15
       low      col 0    col 1   ...  col 15
       high     col 16   col 17  ...  col 31
   so that 16 bytes widened to 32 bits give columns 0-15 in their low nibbles and 16-31 after a shift. Other
   widths take a byte per code; rows are padded to 16 bytes.
   Tests: tests/test_matmul.c; speed: tests/bench/bench_matmul.c */

#define AWQ__MM_COLS 512
#define AWQ__MM_TOKENS 32
#define AWQ__MM_ROWS 4

typedef struct awq__mm_kernels {
    /* out[i] = weight [row][k + i] as fp32, i < n; k is a multiple of 512 */
    void (*row)(const awq_linear *l, int64_t row, int64_t k, int64_t n, float *out);
    /* lanes [tokens][4 rows][16] += w[r][16 s + j] * x[t * stride + 16 s + j], s < steps; 4 tokens or 1 */
    void (*tile4)(const float *const *w, const float *x, int64_t stride, int64_t steps, float *lanes);
    void (*tile1)(const float *const *w, const float *x, int64_t stride, int64_t steps, float *lanes);
    void (*sum)(const float *lanes, int64_t count, float *out); /* out[i] = sum of 16 lanes */
    /* NULL, or: 4 whole rows of 4-bit codes in groups of a multiple of 32, times one token */
    void (*token)(const awq_linear *l, int64_t row, const float *x, float *lanes);
} awq__mm_kernels;

static void awq__mm_row_scalar(const awq_linear *l, int64_t row, int64_t k, int64_t n, float *out)
{
    const uint8_t *p = (const uint8_t *)l->weight + row * l->row_bytes;
    int64_t g = l->group_size, i = 0, at = k / g, stop = (at + 1) * g - k;
    if (l->dtype != AWQ_DTYPE_NONE) {
        awq__to_float(l->dtype, p + (size_t)k * awq_dtype_size(l->dtype), n, out);
        return;
    }
    for (at += row * l->groups; i < n; at++, stop += g) {
        float s = l->scales[at], o = l->offsets[at];
        for (; i < AWQ__MIN(stop, n); i++) {
            int64_t j = k + i;
            float c = (float)(l->bits != 4 ? p[j] : p[j / 32 * 16 + j % 16] >> (j & 16 ? 4 : 0) & 15);
            out[i] = l->zeros_rounded ? c * s + o : (c - o) * s;
        }
    }
}

/* a * b + c rounded once, on machines without the instruction too: the product of two floats is exact in
   double; the sum, with its error known (TwoSum), is rounded to odd, and then the rounding to float is right
   (Boldo, Melquiond: "Emulation of FMA and correctly rounded sums", 2008). */
static float awq__fma(float a, float b, float c)
{
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__)
    return fmaf(a, b, c);
#else
    double p = (double)a * b, s = p + c, t = s - p, e = (p - (s - t)) + (c - t);
    uint64_t u;
    if (e < 0 || e > 0) { /* neither exact nor infinite */
        memcpy(&u, &s, 8);
        if (!(u & 1)) u += (e > 0) == (s > 0) ? 1 : (uint64_t)-1;
        memcpy(&s, &u, 8);
    }
    return (float)s;
#endif
}

static void awq__mm_tile_scalar(const float *const *w, const float *x, int64_t stride, int64_t steps,
                                float *lanes, int tokens)
{
    int64_t i;
    int t, r, j;
    for (t = 0; t < tokens; t++)
        for (r = 0; r < 4; r++, lanes += 16) {
            const float *a = w[r], *b = x + t * stride;
            float l[16];
            for (j = 0; j < 16; j++) l[j] = lanes[j];
            for (i = 0; i < steps; i++, a += 16, b += 16)
                for (j = 0; j < 16; j++) l[j] = awq__fma(a[j], b[j], l[j]);
            for (j = 0; j < 16; j++) lanes[j] = l[j];
        }
}

static void awq__mm_tile4_scalar(const float *const *w, const float *x, int64_t stride, int64_t steps,
                                 float *lanes)
{
    awq__mm_tile_scalar(w, x, stride, steps, lanes, 4);
}

static void awq__mm_tile1_scalar(const float *const *w, const float *x, int64_t stride, int64_t steps,
                                 float *lanes)
{
    awq__mm_tile_scalar(w, x, stride, steps, lanes, 1);
}

static void awq__mm_sum_scalar(const float *lanes, int64_t count, float *out)
{
    int64_t i;
    for (i = 0; i < count; i++) out[i] = awq__lanes_sum(lanes + 16 * i);
}

#if AWQ__X86
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wmaybe-uninitialized" /* false alarms inside gcc 12's own AVX-512 headers */
#  pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define AWQ__AVX2 AWQ__TARGET("avx2,fma,f16c")
#define AWQ__AVX512 AWQ__TARGET("avx2,f16c,avx512f,avx512bw,avx512vl")

AWQ__AVX2 static void awq__mm_sum_avx2(const float *lanes, int64_t count, float *out)
{
    int64_t i;
    for (i = 0; i < count; i++, lanes += 16) {
        __m256 a = _mm256_add_ps(_mm256_loadu_ps(lanes), _mm256_loadu_ps(lanes + 8));
        __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        b = _mm_add_ps(b, _mm_movehl_ps(b, b));
        out[i] = _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
    }
}

/* 8 codes in 32-bit lanes to weights */
AWQ__AVX2 AWQ__INLINE __m256 awq__mm_value_avx2(__m256i code, __m256 s, __m256 o, int rounded)
{
    __m256 c = _mm256_cvtepi32_ps(code);
    return rounded ? _mm256_add_ps(_mm256_mul_ps(c, s), o) : _mm256_mul_ps(_mm256_sub_ps(c, o), s);
}

AWQ__AVX2 AWQ__INLINE __m256i awq__mm_bytes_avx2(const uint8_t *p) /* 8 bytes to 32-bit lanes */
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

AWQ__AVX2 static void awq__mm_row_avx2(const awq_linear *l, int64_t row, int64_t k, int64_t n, float *out)
{
    const uint8_t *p = (const uint8_t *)l->weight + row * l->row_bytes;
    int64_t g = l->group_size, i = 0, at = k / g, end = (at + 1) * g - k;
    if (l->dtype == AWQ_F16) {
        for (p += 2 * k; i + 8 <= n; i += 8)
            _mm256_storeu_ps(out + i,
                             _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 2 * i))));
    } else if (l->dtype == AWQ_BF16) {
        for (p += 2 * k; i + 8 <= n; i += 8) {
            __m256i h = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + 2 * i)));
            _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(h, 16)));
        }
    } else if (l->dtype == AWQ_DTYPE_NONE && g % 16 == 0) {
        const float *s = l->scales + row * l->groups + at, *o = l->offsets + row * l->groups + at;
        for (; i < n; end += g, s++, o++) {
            __m256 sv = _mm256_set1_ps(*s), ov = _mm256_set1_ps(*o);
            int64_t stop = AWQ__MIN(end, n), j;
            int half, r = l->zeros_rounded;
            for (; i < stop; i += 16)
                for (half = 0; half < 16; half += 8) {
                    __m256i c;
                    j = k + i;
                    if (l->bits != 4) c = awq__mm_bytes_avx2(p + j + half);
                    else {
                        c = awq__mm_bytes_avx2(p + j / 32 * 16 + half);
                        c = j % 32 ? _mm256_srli_epi32(c, 4) : _mm256_and_si256(c, _mm256_set1_epi32(15));
                    }
                    _mm256_storeu_ps(out + i + half, awq__mm_value_avx2(c, sv, ov, r));
                }
        }
    }
    if (i < n) awq__mm_row_scalar(l, row, k + i, n - i, out + i);
}

/* Two rows at a time, lanes 0-7 and 8-15. */
AWQ__AVX2 static void awq__mm_token_avx2(const awq_linear *l, int64_t row, const float *x, float *lanes)
{
    int64_t groups = l->groups, next = l->row_bytes, g, i;
    int pair, half, rounded = l->zeros_rounded;
    for (pair = 0; pair < 4; pair += 2, lanes += 32) {
        const uint8_t *p = (const uint8_t *)l->weight + (row + pair) * next;
        const float *s = l->scales + (row + pair) * groups, *o = l->offsets + (row + pair) * groups, *v = x;
        __m256 a[2], b[2];
        a[0] = a[1] = b[0] = b[1] = _mm256_setzero_ps();
        for (g = 0; g < groups; g++, s++, o++) {
            __m256 sa = _mm256_set1_ps(s[0]), sb = _mm256_set1_ps(s[groups]);
            __m256 oa = _mm256_set1_ps(o[0]), ob = _mm256_set1_ps(o[groups]), d;
            for (i = 0; i < l->group_size; i += 32, p += 16, v += 32)
                for (half = 0; half < 2; half++) {
                    __m256i ca = awq__mm_bytes_avx2(p + 8 * half), cb = awq__mm_bytes_avx2(p + next + 8 * half);
                    const __m256i low = _mm256_set1_epi32(15);
#define AWQ__MAC(r, code)                                                                             \
    r[half] = _mm256_fmadd_ps(d, awq__mm_value_avx2(code, s##r, o##r, rounded), r[half])
                    d = _mm256_loadu_ps(v + 8 * half);
                    AWQ__MAC(a, _mm256_and_si256(ca, low));
                    AWQ__MAC(b, _mm256_and_si256(cb, low));
                    d = _mm256_loadu_ps(v + 16 + 8 * half);
                    AWQ__MAC(a, _mm256_srli_epi32(ca, 4));
                    AWQ__MAC(b, _mm256_srli_epi32(cb, 4));
#undef AWQ__MAC
                }
        }
        for (half = 0; half < 2; half++) {
            _mm256_storeu_ps(lanes + 8 * half, a[half]);
            _mm256_storeu_ps(lanes + 16 + 8 * half, b[half]);
        }
    }
}

/* 4 rows, 1 token, 16 lanes in two halves */
AWQ__AVX2 static void awq__mm_tile1_avx2(const float *const *w, const float *x, int64_t stride, int64_t steps,
                                         float *lanes)
{
    const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
    __m256 a0 = _mm256_loadu_ps(lanes), b0 = _mm256_loadu_ps(lanes + 8);
    __m256 a1 = _mm256_loadu_ps(lanes + 16), b1 = _mm256_loadu_ps(lanes + 24);
    __m256 a2 = _mm256_loadu_ps(lanes + 32), b2 = _mm256_loadu_ps(lanes + 40);
    __m256 a3 = _mm256_loadu_ps(lanes + 48), b3 = _mm256_loadu_ps(lanes + 56), xa, xb;
    int64_t i;
    (void)stride;
    for (i = 0; i < 16 * steps; i += 16) {
        xa = _mm256_loadu_ps(x + i);
        xb = _mm256_loadu_ps(x + i + 8);
#define AWQ__MAC(r)                                                                      \
    a##r = _mm256_fmadd_ps(xa, _mm256_loadu_ps(w##r + i), a##r);            \
    b##r = _mm256_fmadd_ps(xb, _mm256_loadu_ps(w##r + i + 8), b##r)
        AWQ__MAC(0);
        AWQ__MAC(1);
        AWQ__MAC(2);
        AWQ__MAC(3);
#undef AWQ__MAC
    }
    _mm256_storeu_ps(lanes, a0);
    _mm256_storeu_ps(lanes + 8, b0);
    _mm256_storeu_ps(lanes + 16, a1);
    _mm256_storeu_ps(lanes + 24, b1);
    _mm256_storeu_ps(lanes + 32, a2);
    _mm256_storeu_ps(lanes + 40, b2);
    _mm256_storeu_ps(lanes + 48, a3);
    _mm256_storeu_ps(lanes + 56, b3);
}

/* 4 rows, 4 tokens: two tokens and one half of the lanes at a time, 8 sums of the 16 registers */
AWQ__AVX2 static void awq__mm_tile4_avx2(const float *const *w, const float *x, int64_t stride, int64_t steps,
                                         float *lanes)
{
    int q;
    for (q = 0; q < 4; q++) {
        const float *w0 = w[0] + q % 2 * 8, *w1 = w[1] + q % 2 * 8, *w2 = w[2] + q % 2 * 8,
                    *w3 = w[3] + q % 2 * 8;
        const float *xa = x + q / 2 * 2 * stride + q % 2 * 8, *xb = xa + stride;
        float *l = lanes + q / 2 * 128 + q % 2 * 8;
        __m256 a0 = _mm256_loadu_ps(l), a1 = _mm256_loadu_ps(l + 16), a2 = _mm256_loadu_ps(l + 32);
        __m256 a3 = _mm256_loadu_ps(l + 48), b0 = _mm256_loadu_ps(l + 64), b1 = _mm256_loadu_ps(l + 80);
        __m256 b2 = _mm256_loadu_ps(l + 96), b3 = _mm256_loadu_ps(l + 112), c, d, v;
        int64_t i;
        for (i = 0; i < 16 * steps; i += 16) {
            c = _mm256_loadu_ps(xa + i);
            d = _mm256_loadu_ps(xb + i);
#define AWQ__MAC(r)                                  \
    v = _mm256_loadu_ps(w##r + i);                   \
    a##r = _mm256_fmadd_ps(c, v, a##r); \
    b##r = _mm256_fmadd_ps(d, v, b##r)
            AWQ__MAC(0);
            AWQ__MAC(1);
            AWQ__MAC(2);
            AWQ__MAC(3);
#undef AWQ__MAC
        }
        _mm256_storeu_ps(l, a0);
        _mm256_storeu_ps(l + 16, a1);
        _mm256_storeu_ps(l + 32, a2);
        _mm256_storeu_ps(l + 48, a3);
        _mm256_storeu_ps(l + 64, b0);
        _mm256_storeu_ps(l + 80, b1);
        _mm256_storeu_ps(l + 96, b2);
        _mm256_storeu_ps(l + 112, b3);
    }
}

AWQ__AVX512 AWQ__INLINE __m512i awq__mm_bytes_avx512(const uint8_t *p) /* 16 bytes to 32-bit lanes */
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

AWQ__AVX512 AWQ__INLINE __m512 awq__mm_codes_avx512(const uint8_t *p) /* 16 bytes to fp32 */
{
    return _mm512_cvtepi32_ps(awq__mm_bytes_avx512(p));
}

AWQ__AVX512 AWQ__INLINE __m512 awq__mm_value_avx512(__m512 code, __m512 s, __m512 o, int rounded)
{
    return rounded ? _mm512_add_ps(_mm512_mul_ps(code, s), o) : _mm512_mul_ps(_mm512_sub_ps(code, o), s);
}

AWQ__AVX512 static void awq__mm_row_avx512(const awq_linear *l, int64_t row, int64_t k, int64_t n, float *out)
{
    const __m512 iota = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const uint8_t *p = (const uint8_t *)l->weight + row * l->row_bytes;
    int64_t g = l->group_size, i = 0, at = k / g, end = (at + 1) * g - k;
    if (l->dtype == AWQ_F16) {
        for (p += 2 * k; i + 16 <= n; i += 16)
            _mm512_storeu_ps(out + i,
                             _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p + 2 * i))));
    } else if (l->dtype == AWQ_BF16) {
        for (p += 2 * k; i + 16 <= n; i += 16) {
            __m512i h = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p + 2 * i)));
            _mm512_storeu_ps(out + i, _mm512_castsi512_ps(_mm512_slli_epi32(h, 16)));
        }
    } else if (l->dtype == AWQ_DTYPE_NONE && g % 16 == 0) {
        const float *s = l->scales + row * l->groups + at, *o = l->offsets + row * l->groups + at;
        for (p += l->bits == 4 ? k / 2 : k; i < n; end += g, s++, o++) {
            __m512 sv = _mm512_set1_ps(*s), ov = _mm512_set1_ps(*o), table;
            int64_t stop = AWQ__MIN(end, n);
            int r = l->zeros_rounded;
            if (l->bits != 4) {
                for (; i < stop; i += 16)
                    _mm512_storeu_ps(out + i, awq__mm_value_avx512(awq__mm_codes_avx512(p + i), sv, ov, r));
                continue;
            }
            table = awq__mm_value_avx512(iota, sv, ov, r); /* permutexvar reads the low 4 bits of each lane */
            if (g % 32 == 0) {
                for (; i < stop; i += 32) {
                    __m512i c = awq__mm_bytes_avx512(p + i / 2);
                    _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(c, table));
                    _mm512_storeu_ps(out + i + 16, _mm512_permutexvar_ps(_mm512_srli_epi32(c, 4), table));
                }
                continue;
            }
            for (; i < stop; i += 16) {
                __m512i c = awq__mm_bytes_avx512(p + i / 32 * 16);
                if (i % 32) c = _mm512_srli_epi32(c, 4);
                _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(c, table));
            }
        }
    }
    if (i < n) awq__mm_row_scalar(l, row, k + i, n - i, out + i);
}

/* A group's 16 possible weights are looked up by permutation. */
AWQ__AVX512 static void awq__mm_token_avx512(const awq_linear *l, int64_t row, const float *x, float *lanes)
{
    const __m512 iota = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int64_t groups = l->groups, next = l->row_bytes, g, i;
    const uint8_t *p = (const uint8_t *)l->weight + row * next;
    const float *s = l->scales + row * groups, *o = l->offsets + row * groups;
    __m512 a0 = _mm512_setzero_ps(), a1 = a0, a2 = a0, a3 = a0;
    for (g = 0; g < groups; g++, s++, o++) {
#define AWQ__TABLE(r) \
    awq__mm_value_avx512(iota, _mm512_set1_ps(s[r * groups]), _mm512_set1_ps(o[r * groups]), l->zeros_rounded)
        __m512 t0 = AWQ__TABLE(0), t1 = AWQ__TABLE(1), t2 = AWQ__TABLE(2), t3 = AWQ__TABLE(3);
#undef AWQ__TABLE
        for (i = 0; i < l->group_size; i += 32, p += 16, x += 32) {
            __m512 xa = _mm512_loadu_ps(x), xb = _mm512_loadu_ps(x + 16);
            __m512i c0 = awq__mm_bytes_avx512(p), c1 = awq__mm_bytes_avx512(p + next);
            __m512i c2 = awq__mm_bytes_avx512(p + 2 * next), c3 = awq__mm_bytes_avx512(p + 3 * next);
#define AWQ__MAC(r)                                                              \
    a##r = _mm512_fmadd_ps(xa, _mm512_permutexvar_ps(c##r, t##r), a##r); \
    c##r = _mm512_srli_epi32(c##r, 4);                                           \
    a##r = _mm512_fmadd_ps(xb, _mm512_permutexvar_ps(c##r, t##r), a##r)
            AWQ__MAC(0);
            AWQ__MAC(1);
            AWQ__MAC(2);
            AWQ__MAC(3);
#undef AWQ__MAC
        }
    }
    _mm512_storeu_ps(lanes, a0);
    _mm512_storeu_ps(lanes + 16, a1);
    _mm512_storeu_ps(lanes + 32, a2);
    _mm512_storeu_ps(lanes + 48, a3);
}

AWQ__AVX512 static void awq__mm_tile1_avx512(const float *const *w, const float *x, int64_t stride,
                                             int64_t steps, float *lanes)
{
    const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
    __m512 a0 = _mm512_loadu_ps(lanes), a1 = _mm512_loadu_ps(lanes + 16), a2 = _mm512_loadu_ps(lanes + 32);
    __m512 a3 = _mm512_loadu_ps(lanes + 48), v;
    int64_t i;
    (void)stride;
    for (i = 0; i < 16 * steps; i += 16) {
        v = _mm512_loadu_ps(x + i);
        a0 = _mm512_fmadd_ps(v, _mm512_loadu_ps(w0 + i), a0);
        a1 = _mm512_fmadd_ps(v, _mm512_loadu_ps(w1 + i), a1);
        a2 = _mm512_fmadd_ps(v, _mm512_loadu_ps(w2 + i), a2);
        a3 = _mm512_fmadd_ps(v, _mm512_loadu_ps(w3 + i), a3);
    }
    _mm512_storeu_ps(lanes, a0);
    _mm512_storeu_ps(lanes + 16, a1);
    _mm512_storeu_ps(lanes + 32, a2);
    _mm512_storeu_ps(lanes + 48, a3);
}

AWQ__AVX512 static void awq__mm_tile4_avx512(const float *const *w, const float *x, int64_t stride,
                                             int64_t steps, float *lanes)
{
    const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
    const float *xa = x, *xb = x + stride, *xc = x + 2 * stride, *xd = x + 3 * stride;
    __m512 r0, r1, r2, r3, v;
    int64_t i;
#define AWQ__LANES(t, at)                                                                        \
    __m512 t##0 = _mm512_loadu_ps(lanes + at), t##1 = _mm512_loadu_ps(lanes + at + 16),          \
           t##2 = _mm512_loadu_ps(lanes + at + 32), t##3 = _mm512_loadu_ps(lanes + at + 48)
#define AWQ__MAC(t)                                 \
    v = _mm512_loadu_ps(x##t + i);                  \
    t##0 = _mm512_fmadd_ps(v, r0, t##0); \
    t##1 = _mm512_fmadd_ps(v, r1, t##1); \
    t##2 = _mm512_fmadd_ps(v, r2, t##2); \
    t##3 = _mm512_fmadd_ps(v, r3, t##3)
#define AWQ__STORE(t, at)                    \
    _mm512_storeu_ps(lanes + at, t##0);      \
    _mm512_storeu_ps(lanes + at + 16, t##1); \
    _mm512_storeu_ps(lanes + at + 32, t##2); \
    _mm512_storeu_ps(lanes + at + 48, t##3)
    AWQ__LANES(a, 0);
    AWQ__LANES(b, 64);
    AWQ__LANES(c, 128);
    AWQ__LANES(d, 192);
    for (i = 0; i < 16 * steps; i += 16) {
        r0 = _mm512_loadu_ps(w0 + i);
        r1 = _mm512_loadu_ps(w1 + i);
        r2 = _mm512_loadu_ps(w2 + i);
        r3 = _mm512_loadu_ps(w3 + i);
        AWQ__MAC(a);
        AWQ__MAC(b);
        AWQ__MAC(c);
        AWQ__MAC(d);
    }
    AWQ__STORE(a, 0);
    AWQ__STORE(b, 64);
    AWQ__STORE(c, 128);
    AWQ__STORE(d, 192);
#undef AWQ__LANES
#undef AWQ__MAC
#undef AWQ__STORE
}

#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic pop
#endif
#endif /* AWQ__X86 */

static const awq__mm_kernels *awq__mm_choose(awq_ctx *ctx, const awq_linear *l)
{
    static const awq__mm_kernels scalar = {awq__mm_row_scalar, awq__mm_tile4_scalar, awq__mm_tile1_scalar,
                                           awq__mm_sum_scalar, NULL};
#if AWQ__X86
    static const awq__mm_kernels avx2 = {awq__mm_row_avx2, awq__mm_tile4_avx2, awq__mm_tile1_avx2,
                                         awq__mm_sum_avx2, awq__mm_token_avx2};
    static const awq__mm_kernels avx512 = {awq__mm_row_avx512, awq__mm_tile4_avx512, awq__mm_tile1_avx512,
                                           awq__mm_sum_avx2, awq__mm_token_avx512};
    awq_isa isa = awq__isa(ctx);
    if (isa == AWQ_ISA_AVX512) return &avx512;
    if (isa == AWQ_ISA_AVX2) return &avx2;
#endif
    (void)ctx, (void)l;
    return &scalar;
}

typedef struct awq__mm_arg {
    const awq_linear *l;
    const awq__mm_kernels *fn;
    const float *x;
    float *y;
    int64_t m, rows, row_blocks, jobs; /* rows: per job */
    int64_t x_stride, y_stride;  /* floats from one token to the next */
    int subtract;                /* y -= x W^T */
} awq__mm_arg;

/* 4 rows from `row` on times tokens [t0, t0 + m), m <= AWQ__MM_TOKENS */
static void awq__mm_strip(const awq__mm_arg *a, int64_t row, int64_t t0, int64_t m)
{
    float memory[AWQ__MM_ROWS * (AWQ__MM_COLS + AWQ__MM_TOKENS * 16) + 16];
    float *buffer = (float *)(((uintptr_t)memory + 63) & ~(uintptr_t)63); /* no vector across two cache lines */
    float *lanes = buffer + AWQ__MM_ROWS * AWQ__MM_COLS;                  /* [tokens][4 rows][16] */
    float sums[AWQ__MM_TOKENS * AWQ__MM_ROWS], xtail[4 * 16];
    const awq_linear *l = a->l;
    const float *w[AWQ__MM_ROWS], *x;
    int64_t in = l->in_features, k, t, rows = AWQ__MIN(AWQ__MM_ROWS, l->out_features - row);
    int r;
    memset(lanes, 0, (size_t)(m * AWQ__MM_ROWS * 16) * sizeof *lanes);
    if (m < 4 && rows == 4 && a->fn->token && l->bits == 4 && l->group_size % 32 == 0) {
        for (t = 0; t < m; t++) a->fn->token(l, row, a->x + (t0 + t) * a->x_stride, lanes + t * 64);
        in = 0; /* done */
    }
    for (k = 0; k < in; k += AWQ__MM_COLS) {
        int64_t n = AWQ__MIN(AWQ__MM_COLS, in - k), steps = n / 16, tail = n % 16;
        for (r = 0; r < rows; r++) {
            w[r] = buffer + r * AWQ__MM_COLS;
            if (l->dtype == AWQ_F32 && !tail) {
                w[r] = (const float *)l->weight + (row + r) * (l->row_bytes / 4) + k;
                continue;
            }
            a->fn->row(l, row + r, k, n, buffer + r * AWQ__MM_COLS);
            if (tail) memset(buffer + r * AWQ__MM_COLS + n, 0, (size_t)(16 - tail) * sizeof(float));
        }
        for (; r < AWQ__MM_ROWS; r++) w[r] = w[0]; /* computed and dropped */
        x = a->x + t0 * a->x_stride + k;
        for (t = 0; t + 4 <= m; t += 4)
            a->fn->tile4(w, x + t * a->x_stride, a->x_stride, steps, lanes + t * AWQ__MM_ROWS * 16);
        for (; t < m; t++)
            a->fn->tile1(w, x + t * a->x_stride, a->x_stride, steps, lanes + t * AWQ__MM_ROWS * 16);
        if (!tail) continue;
        for (r = 0; r < AWQ__MM_ROWS; r++) w[r] += 16 * steps;
        memset(xtail, 0, sizeof xtail);
        for (t = 0; t < m; t++) { /* adding 0 * 0 to the lanes beyond the end changes no bit of them */
            memcpy(xtail, x + t * a->x_stride + 16 * steps, (size_t)tail * sizeof *x);
            a->fn->tile1(w, xtail, 16, 1, lanes + t * AWQ__MM_ROWS * 16);
        }
    }
    a->fn->sum(lanes, m * AWQ__MM_ROWS, sums);
    for (t = 0; t < m; t++) {
        float *y = a->y + (t0 + t) * a->y_stride + row, *sum = sums + t * AWQ__MM_ROWS;
        for (r = 0; r < rows; r++)
            y[r] = a->subtract ? y[r] - sum[r] : sum[r] + (l->bias ? l->bias[row + r] : 0.0f);
    }
}

static void awq__mm_job(void *arg, int64_t job)
{
    const awq__mm_arg *a = (const awq__mm_arg *)arg;
    int64_t row = job % a->row_blocks * a->rows, end = AWQ__MIN(row + a->rows, a->l->out_features);
    int64_t t = job / a->row_blocks * AWQ__MM_TOKENS;
    for (; row < end; row += AWQ__MM_ROWS) awq__mm_strip(a, row, t, AWQ__MIN(AWQ__MM_TOKENS, a->m - t));
}

static awq__mm_arg awq__mm_plan(awq_ctx *ctx, const awq_linear *l, const float *x, int64_t m, float *y)
{
    awq__mm_arg a;
    a.l = l;
    a.fn = awq__mm_choose(ctx, l);
    a.x = x;
    a.y = y;
    a.m = m;
    a.x_stride = l->in_features;
    a.y_stride = l->out_features;
    a.subtract = 0;
    a.rows = AWQ__MAX(16, AWQ__MIN(64, 65536 / l->in_features / 4 * 4)); /* about 64K weights a job */
    a.row_blocks = (l->out_features + a.rows - 1) / a.rows;
    a.jobs = a.row_blocks * ((m + AWQ__MM_TOKENS - 1) / AWQ__MM_TOKENS);
    return a;
}

AWQ_API awq_status awq_linear_run(awq_ctx *ctx, const awq_linear *l, const float *x, int64_t m, float *y)
{
    awq__mm_arg a;
    if (m < 0) return awq__fail(ctx, AWQ_E_ARG, "awq_linear_run: %lld tokens", (long long)m);
    a = awq__mm_plan(ctx, l, x, m, y);
    awq__run(ctx, a.jobs, awq__mm_job, &a);
    return AWQ_OK;
}

/* y [m, out] -= x [m, in] w [out, in]^T, parts of larger matrices whose rows are *_stride floats apart */
static void awq__subtract_product(awq_ctx *ctx, const float *w, int64_t w_stride, int64_t out, int64_t in,
                                  const float *x, int64_t x_stride, int64_t m, float *y, int64_t y_stride)
{
    awq__mm_arg a;
    awq_linear l;
    memset(&l, 0, sizeof l);
    l.out_features = out;
    l.in_features = l.group_size = in;
    l.groups = 1;
    l.dtype = AWQ_F32;
    l.row_bytes = w_stride * 4;
    l.weight = w;
    a = awq__mm_plan(ctx, &l, x, m, y);
    a.x_stride = x_stride;
    a.y_stride = y_stride;
    a.subtract = 1;
    awq__run(ctx, a.jobs, awq__mm_job, &a);
}

AWQ_API awq_status awq_linear_dense(awq_ctx *ctx, awq_dtype dtype, const void *weight, int64_t out_features,
                                    int64_t in_features, const float *bias, awq_linear *l)
{
    if (dtype != AWQ_F32 && dtype != AWQ_F16 && dtype != AWQ_BF16)
        return awq__fail(ctx, AWQ_E_ARG, "awq_linear_dense: weights are %s, expected F32, F16 or BF16",
                         awq_dtype_name(dtype));
    if (!weight || out_features < 1 || in_features < 1 || out_features > INT64_MAX / 8 / in_features)
        return awq__fail(ctx, AWQ_E_ARG, "awq_linear_dense: a matrix of %lld x %lld elements%s",
                         (long long)out_features, (long long)in_features, weight ? "" : " at NULL");
    memset(l, 0, sizeof *l);
    l->out_features = out_features;
    l->in_features = in_features;
    l->group_size = in_features;
    l->groups = 1;
    l->dtype = dtype;
    l->row_bytes = in_features * (int64_t)awq_dtype_size(dtype);
    l->weight = weight;
    l->bias = bias;
    return AWQ_OK;
}

typedef struct awq__prepare_arg {
    const awq_qweight *w;
    uint8_t *codes;
    float *scales, *offsets;
    int64_t row_bytes;
    int zeros_rounded;
} awq__prepare_arg;

static void awq__prepare_job(void *arg, int64_t row)
{
    const awq__prepare_arg *a = (const awq__prepare_arg *)arg;
    int64_t in = a->w->in_features, groups = in / a->w->group_size, i;
    const uint8_t *c = a->w->codes + row * in;
    uint8_t *p = a->codes + row * a->row_bytes;
    if (a->w->bits != 4) memcpy(p, c, (size_t)in);
    else for (i = 0; i < in; i++) p[i / 32 * 16 + i % 16] |= (uint8_t)((c[i] & 15) << (i % 32 / 16 * 4));
    for (i = row * groups; i < (row + 1) * groups; i++) {
        float s = a->w->scales[i], z = (float)a->w->zeros[i];
        a->scales[i] = s;
        a->offsets[i] = a->zeros_rounded ? awq__h(-(s * z)) : z;
    }
}

AWQ_API awq_status awq_linear_prepare(awq_ctx *ctx, const awq_qweight *w, int zeros_rounded, const float *bias,
                                      awq_linear *l)
{
    awq__prepare_arg a;
    awq_linear q;
    size_t groups;
    AWQ__TRY(awq__qweight_check(ctx, "awq_linear_prepare", w, 1));
    memset(&q, 0, sizeof q);
    q.out_features = w->out_features;
    q.in_features = w->in_features;
    q.group_size = w->group_size;
    q.groups = w->in_features / w->group_size;
    q.bits = w->bits;
    q.zeros_rounded = zeros_rounded != 0;
    q.row_bytes = w->bits == 4 ? (w->in_features + 31) / 32 * 16 : (w->in_features + 15) / 16 * 16;
    groups = (size_t)w->out_features * (size_t)q.groups;
    a.w = w;
    a.row_bytes = q.row_bytes;
    a.zeros_rounded = q.zeros_rounded;
    q.owned[0] = a.codes = (uint8_t *)awq__alloc(ctx, (size_t)w->out_features, (size_t)q.row_bytes);
    if (a.codes) q.owned[1] = AWQ__NEW_RAW(ctx, float, groups);
    if (q.owned[1]) q.owned[2] = AWQ__NEW_RAW(ctx, float, groups);
    if (q.owned[2] && bias) q.owned[3] = AWQ__NEW_RAW(ctx, float, w->out_features);
    if (!q.owned[2] || (bias && !q.owned[3])) {
        awq_linear_free(ctx, &q);
        return AWQ_E_MEMORY;
    }
    q.weight = a.codes;
    q.scales = a.scales = (float *)q.owned[1];
    q.offsets = a.offsets = (float *)q.owned[2];
    q.bias = (const float *)q.owned[3];
    if (bias) memcpy(q.owned[3], bias, (size_t)w->out_features * sizeof *bias);
    awq__run(ctx, w->out_features, awq__prepare_job, &a);
    *l = q;
    return AWQ_OK;
}

AWQ_API void awq_linear_free(awq_ctx *ctx, awq_linear *l)
{
    int i;
    for (i = 0; i < 4; i++) awq__free(ctx, l->owned[i]);
    memset(l, 0, sizeof *l);
}

AWQ_API size_t awq_linear_bytes(const awq_linear *l)
{
    size_t groups;
    if (l->dtype != AWQ_DTYPE_NONE) return 0;
    groups = (size_t)l->out_features * (size_t)l->groups;
    return (size_t)l->out_features * (size_t)l->row_bytes + 2 * groups * sizeof(float)
           + (l->bias ? (size_t)l->out_features * sizeof(float) : 0);
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>search
   Scales: the reference's 20-point grid and the identity. Clips: per row and group against second moments,
   which is the reference's objective written as a quadratic form. All in fp32, as the reference on fp32
   weights. Tests: tests/test_golden.c (the reference's own losses, scales and thresholds) */

static awq_status awq__search_check(awq_ctx *ctx, const char *who, int64_t in, const awq_search_desc *d)
{
    if (d->bits < 2 || d->bits > 8)
        return awq__fail(ctx, AWQ_E_ARG, "%s: bits is %d, expected 2 to 8", who, d->bits);
    if (in < 1 || d->group_size < 1 || in % d->group_size)
        return awq__fail(ctx, AWQ_E_ARG, "%s: group_size %lld does not divide in_features %lld", who,
                         (long long)d->group_size, (long long)in);
    return AWQ_OK;
}

AWQ_API awq_status awq_weight_mean(awq_ctx *ctx, const float *const *weights, const int64_t *outs,
                                   int n_weights, int64_t in_features, int64_t group_size, float *w_mean)
{
    double *sum;
    int64_t rows = 0, o, i, g;
    int k;
    if (group_size < 1 || in_features % group_size)
        return awq__fail(ctx, AWQ_E_ARG, "awq_weight_mean: group_size %lld does not divide in_features %lld",
                         (long long)group_size, (long long)in_features);
    sum = AWQ__NEW(ctx, double, in_features);
    if (!sum) return AWQ_E_MEMORY;
    for (k = 0; k < n_weights; k++) {
        rows += outs[k];
        for (o = 0; o < outs[k]; o++)
            for (g = 0; g < in_features; g += group_size) {
                const float *w = weights[k] + o * in_features + g;
                float top = 0;
                for (i = 0; i < group_size; i++) top = fabsf(w[i]) > top ? fabsf(w[i]) : top;
                top += 1e-6f;
                for (i = 0; i < group_size; i++) sum[g + i] += fabsf(w[i]) / top;
            }
    }
    for (i = 0; i < in_features; i++) w_mean[i] = (float)(sum[i] / (double)rows);
    awq__free(ctx, sum);
    return AWQ_OK;
}

AWQ_API awq_status awq_scale_candidate(awq_ctx *ctx, const float *x_mean, const float *w_mean,
                                       int64_t in_features, double ratio, int no_duo, float *scales)
{
    float lo = 3e38f, hi = 0, norm;
    int64_t i;
    for (i = 0; i < in_features; i++) {
        float s;
        if (!(x_mean[i] > 0) || !(w_mean[i] > 0)) {
            if (!(x_mean[i] >= 0) || !(w_mean[i] >= 0))
                return awq__fail(ctx, AWQ_E_NUMERIC,
                                 "awq_scale_candidate: the mean magnitude of channel %lld is NaN "
                                 "or negative",
                                 (long long)i);
            scales[i] = 0; /* dead: decided below */
            continue;
        }
        s = (float)pow(x_mean[i], ratio);
        if (!no_duo) s = s / ((float)pow(w_mean[i], 1 - ratio) + 1e-4f);
        s = s < 1e-4f ? 1e-4f : s;
        scales[i] = s;
        lo = s < lo ? s : lo;
        hi = s > hi ? s : hi;
    }
    norm = sqrtf(hi * lo);
    for (i = 0; i < in_features; i++) {
        scales[i] = scales[i] / norm;
        if (!(scales[i] > 0) || !awq__finite(scales[i])) scales[i] = 1;
    }
    return AWQ_OK;
}

/* --- rounding a row's groups */
typedef struct awq__fake_job {
    const float *w, *scales, *clip;
    float *out;
    int64_t in;
    const awq_search_desc *d;
} awq__fake_job;

AWQ__INLINE void awq__fake_group(const float *w, float *out, int64_t n, int bits, int symmetric)
{
    float mn = w[0], mx = w[0], s, z, top = (float)((1 << bits) - 1);
    int64_t i;
    for (i = 1; i < n; i++) {
        mn = w[i] < mn ? w[i] : mn;
        mx = w[i] > mx ? w[i] : mx;
    }
    awq__grid_f32(mn, mx, bits, symmetric, &s, &z);
    for (i = 0; i < n; i++) {
        float q = awq__round_even(w[i] / s) + z;
        q = q < 0 ? 0 : q > top ? top : q;
        out[i] = (q - z) * s;
    }
}

static void awq__fake_row(void *arg, int64_t o)
{
    awq__fake_job *j = (awq__fake_job *)arg;
    int64_t g, i, n = j->d->group_size, ng = j->in / n;
    for (g = 0; g < ng; g++) {
        const float *w = j->w + o * j->in + g * n, *s = j->scales ? j->scales + g * n : NULL;
        float *out = j->out + o * j->in + g * n;
        for (i = 0; i < n; i++) out[i] = s ? w[i] * s[i] : w[i];
        if (j->clip) {
            float m = j->clip[o * ng + g];
            for (i = 0; i < n; i++) out[i] = out[i] < -m ? -m : out[i] > m ? m : out[i];
        }
        awq__fake_group(out, out, n, j->d->bits, j->d->symmetric);
        if (s)
            for (i = 0; i < n; i++) out[i] = out[i] / s[i];
    }
}

AWQ_API awq_status awq_fake_quantize(awq_ctx *ctx, const float *weights, int64_t out_features,
                                     int64_t in_features, const awq_search_desc *desc, const float *scales,
                                     const float *clip_max, float *out)
{
    awq__fake_job j;
    AWQ__TRY(awq__search_check(ctx, "awq_fake_quantize", in_features, desc));
    j.w = weights;
    j.scales = scales;
    j.clip = clip_max;
    j.out = out;
    j.in = in_features;
    j.d = desc;
    awq__run(ctx, out_features, awq__fake_row, &j);
    return AWQ_OK;
}

/* --- second moments, accumulated over pieces of AWQ__MOMENT_ROWS tokens; block: scratch [AWQ__MOMENT_BLOCK,
   width] */
#define AWQ__MOMENT_ROWS 512
#define AWQ__MOMENT_BLOCK 128

/* m [wa, wb] += a^T b over n rows of a [n, wa] and b [n, wb], each row of b times weight[r] (NULL: 1). at, bt:
   scratch [width, AWQ__MOMENT_ROWS], block as above. a == b: only j >= i is kept. */
static awq_status awq__cross_add(awq_ctx *ctx, const float *a, int64_t wa, const float *b, int64_t wb,
                                 const float *weight, int64_t n, float *at, float *bt, float *block, float *m)
{
    int64_t from, i, j, r;
    for (from = 0; from < n; from += AWQ__MOMENT_ROWS) {
        int64_t rows = AWQ__MIN((int64_t)AWQ__MOMENT_ROWS, n - from);
        for (i = 0; i < wa; i++)
            for (r = 0; r < rows; r++) at[i * rows + r] = a[(from + r) * wa + i];
        for (i = 0; i < wb; i++)
            for (r = 0; r < rows; r++)
                bt[i * rows + r] = b[(from + r) * wb + i] * (weight ? weight[from + r] : 1.0f);
        for (i = 0; i < wa; i += AWQ__MOMENT_BLOCK) {
            int64_t k = AWQ__MIN((int64_t)AWQ__MOMENT_BLOCK, wa - i), skip = a == b ? i : 0, w = wb - skip;
            awq_linear l;
            AWQ__TRY(awq_linear_dense(ctx, AWQ_F32, bt + skip * rows, w, rows, NULL, &l));
            AWQ__TRY(awq_linear_run(ctx, &l, at + i * rows, k, block));
            for (r = 0; r < k; r++)
                for (j = a == b ? r : 0; j < w; j++) m[(i + r) * wb + skip + j] += block[r * w + j];
        }
    }
    return AWQ_OK;
}

static void awq__moments_finish(float *m, int64_t width, double count) /* mean, both triangles */
{
    float f = (float)(1.0 / count);
    int64_t i, j;
    for (i = 0; i < width; i++)
        for (j = i; j < width; j++) m[j * width + i] = m[i * width + j] = m[i * width + j] * f;
}

/* trace(D M D^T) for D [out, in]; y: scratch [out, in] */
static awq_status awq__moment_loss(awq_ctx *ctx, const float *d, int64_t out, int64_t in, const float *moments,
                                   float *y, double *loss)
{
    awq_linear l;
    int64_t o;
    double sum = 0;
    const awq__ops *ops = awq__ops_for(ctx);
    AWQ__TRY(awq_linear_dense(ctx, AWQ_F32, moments, in, in, NULL, &l)); /* moments are symmetric */
    AWQ__TRY(awq_linear_run(ctx, &l, d, out, y));
    for (o = 0; o < out; o++) sum += ops->dot(d + o * in, y + o * in, in);
    *loss = sum;
    return AWQ_OK;
}

AWQ_API awq_status awq_search_scales(awq_ctx *ctx, const float *const *weights, const int64_t *outs,
                                     int n_weights, int64_t in_features, const float *x_mean,
                                     const float *moments, const awq_search_desc *desc, float *scales,
                                     double *losses, int *best)
{
    int64_t most = 0, i, n;
    float *w_mean, *s, *d, *y;
    awq_status st;
    int k, r, found = AWQ_SCALE_GRID;
    AWQ__TRY(awq__search_check(ctx, "awq_search_scales", in_features, desc));
    for (k = 0; k < n_weights; k++) most = AWQ__MAX(most, outs[k]);
    w_mean = AWQ__NEW_RAW(ctx, float, in_features);
    s = AWQ__NEW_RAW(ctx, float, in_features);
    d = AWQ__NEW_RAW(ctx, float, most * in_features);
    y = AWQ__NEW_RAW(ctx, float, most * in_features);
    st = w_mean && s && d && y ? AWQ_OK : AWQ_E_MEMORY;
    if (!st) st = awq_weight_mean(ctx, weights, outs, n_weights, in_features, desc->group_size, w_mean);
    for (r = AWQ_SCALE_GRID; !st && r >= 0; r--) { /* the identity first: it wins ties */
        losses[r] = 0;
        if (r < AWQ_SCALE_GRID)
            st = awq_scale_candidate(ctx, x_mean, w_mean, in_features, (double)r / AWQ_SCALE_GRID, desc->no_duo,
                                     s);
        for (k = 0; !st && k < n_weights; k++) {
            double loss = 0;
            st = awq_fake_quantize(ctx, weights[k], outs[k], in_features, desc, r < AWQ_SCALE_GRID ? s : NULL,
                                   NULL, d);
            n = outs[k] * in_features;
            for (i = 0; i < n; i++) d[i] = d[i] - weights[k][i];
            if (!st) st = awq__moment_loss(ctx, d, outs[k], in_features, moments, y, &loss);
            losses[r] += loss;
        }
        if (!st && losses[r] < losses[found]) found = r;
    }
    if (!st) {
        for (i = 0; i < in_features; i++) scales[i] = 1;
        if (found < AWQ_SCALE_GRID)
            st = awq_scale_candidate(ctx, x_mean, w_mean, in_features, (double)found / AWQ_SCALE_GRID,
                                     desc->no_duo, scales);
        *best = found;
    }
    awq__free(ctx, w_mean);
    awq__free(ctx, s);
    awq__free(ctx, d);
    awq__free(ctx, y);
    return st;
}

/* --- clips */
typedef struct awq__clip_job {
    const awq__ops *ops;
    const float *w, *moments;
    float *clip;
    int64_t in;
    const awq_search_desc *d;
} awq__clip_job;

/* of the pieces a group is judged in; larger groups are judged piece by piece */
#define AWQ__MAX_CLIP_GROUP 1024

static void awq__clip_row(void *arg, int64_t o)
{
    awq__clip_job *j = (awq__clip_job *)arg;
    int64_t n = j->d->group_size, ng = j->in / n, g, i;
    float d[AWQ__MAX_CLIP_GROUP];
    for (g = 0; g < ng; g++) {
        const float *w = j->w + o * j->in + g * n, *m = j->moments + g * n * n;
        float top = 0, best = 1e9f, found;
        int k;
        for (i = 0; i < n; i++) top = fabsf(w[i]) > top ? fabsf(w[i]) : top;
        found = top;
        for (k = 0; k < AWQ_CLIP_GRID; k++) {
            float limit = top * (float)(1.0 - k / 20.0), err = 0;
            for (i = 0; i < n; i++) d[i] = w[i] < -limit ? -limit : w[i] > limit ? limit : w[i];
            awq__fake_group(d, d, n, j->d->bits, j->d->symmetric);
            for (i = 0; i < n; i++) d[i] = d[i] - w[i];
            for (i = 0; i < n; i++) err = err + d[i] * j->ops->dot(m + i * n, d, n);
            if (err < best) {
                best = err;
                found = limit;
            }
        }
        j->clip[o * ng + g] = found;
    }
}

AWQ_API awq_status awq_search_clips(awq_ctx *ctx, const float *weights, int64_t out_features,
                                    int64_t in_features, const float *group_moments,
                                    const awq_search_desc *desc, float *clip_max)
{
    awq__clip_job j;
    AWQ__TRY(awq__search_check(ctx, "awq_search_clips", in_features, desc));
    if (desc->group_size > AWQ__MAX_CLIP_GROUP)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "awq_search_clips: group_size %lld, at most %d can be clipped",
                         (long long)desc->group_size, AWQ__MAX_CLIP_GROUP);
    j.ops = awq__ops_for(ctx);
    j.w = weights;
    j.moments = group_moments;
    j.clip = clip_max;
    j.in = in_features;
    j.d = desc;
    awq__run(ctx, out_features, awq__clip_row, &j);
    return AWQ_OK;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>tensors
   safetensors: u64 header length (little endian), JSON header, data. One file, or shards named by an index.
   Reading is as strict as the reference reader: the tensors of a file tile its data exactly, every name occurs
   once, every shape agrees with its bytes; shards are plain file names beside their index. Tensor data is read
   where it is asked for, never as a whole. Writing fixes every header first, so that data may come in any order
   and a killed run can go on in the same files.
   Tests: tests/test_tensors.c, tests/fuzz_tensors.c */

#define AWQ__ST_MAX_HEADER 100000000u /* bytes; also of an index */
#define AWQ__ST_MAX_FILES 1000
#define AWQ__ST_SINGLE "model.safetensors"
#define AWQ__ST_INDEX "model.safetensors.index.json"

typedef struct awq__st_file {
    awq__file f;
    char *path;               /* own block */
    const char *name;         /* as the index spells it */
    const unsigned char *map; /* the whole file, or NULL */
} awq__st_file;

struct awq_tensors {
    awq__arena arena;    /* names and awq_tensor records */
    awq__st_file *files; /* [AWQ__ST_MAX_FILES] */
    int n_files;
    char *index_path; /* own block, NULL without an index */
    const void **order; /* awq_tensor pointers, sorted by name */
    size_t count, cap;
};

/* Heap sort of pointers: needs no memory and is n log n on any input (qsort promises neither). */
static void awq__sort(const void **v, size_t n, int (*compare)(const void *, const void *))
{
    size_t i = n / 2, end = n;
    while (end > 1) {
        const void *x;
        size_t at, child;
        if (i) { /* build the heap */
            x = v[--i];
        } else { /* the largest goes behind it */
            x = v[--end];
            v[end] = v[0];
        }
        for (at = i; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && compare(v[child], v[child + 1]) < 0) child++;
            if (compare(x, v[child]) >= 0) break;
            v[at] = v[child];
        }
        v[at] = x;
    }
}

static int awq__st_by_name(const void *a, const void *b)
{
    return strcmp(((const awq_tensor *)a)->name, ((const awq_tensor *)b)->name);
}

static int awq__st_by_offset(const void *a, const void *b)
{
    const awq_tensor *x = (const awq_tensor *)a, *y = (const awq_tensor *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static awq_status awq__st_range(awq_ctx *ctx, const char *who, const awq_tensor *t, uint64_t offset,
                                uint64_t bytes)
{
    if (offset <= t->bytes && bytes <= t->bytes - offset) return AWQ_OK;
    return awq__fail(ctx, AWQ_E_ARG, "%s: %llu bytes from byte %llu on of \"%.300s\", which has %llu", who,
                     (unsigned long long)bytes, (unsigned long long)offset, t->name,
                     (unsigned long long)t->bytes);
}

/* position of name in a list sorted by name, or -1 */
static int64_t awq__st_search(const void *const *order, size_t count, const char *name)
{
    size_t lo = 0, hi = count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(((const awq_tensor *)order[mid])->name, name);
        if (!c) return (int64_t)mid;
        if (c < 0) lo = mid + 1;
        else hi = mid;
    }
    return -1;
}

/* bytes of a tensor from its dtype and shape; 0 when they do not fit an int64 */
static int awq__st_bytes(const awq_tensor *t, uint64_t *bytes)
{
    uint64_t n = awq_dtype_size(t->dtype);
    int i;
    for (i = 0; i < t->ndim; i++) {
        if (n && (uint64_t)t->shape[i] > (uint64_t)INT64_MAX / n) return 0;
        n *= (uint64_t)t->shape[i];
    }
    *bytes = n;
    return 1;
}

/* "[4096, 512]" for messages */
static const char *awq__st_shape(const int64_t *shape, int ndim, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, "[");
    int i;
    for (i = 0; i < ndim && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, i ? ", %lld" : "%lld", (long long)shape[i]);
    if (n < cap) snprintf(out + n, cap - n, "]");
    return out;
}

static awq_status awq__st_bad(awq_ctx *ctx, const char *path, const char *tensor, const char *what)
{
    return awq__fail(ctx, AWQ_E_FORMAT, "%s: tensor \"%.300s\": %s", path, tensor, what);
}

/* One member of the header, {"dtype": "F16", "shape": [..], "data_offsets": [begin, end]}; t->offset stays
   relative to the data, which has `size` bytes. */
static awq_status awq__st_entry(awq_ctx *ctx, const char *path, const awq__json *j, uint32_t node,
                                uint64_t size, awq_tensor *t)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    uint32_t at[3] = {0, 0, 0}, i, m;
    const char *dtype;
    int64_t range[2];
    uint64_t bytes;
    char shape[200];
    int k;
    if (awq__json_is(j, node) != AWQ__J_OBJ) return awq__st_bad(ctx, path, t->name, "its entry is no object");
    for (m = awq__json_first(j, node); m; m = awq__json_next(j, m))
        for (k = 0; k < 3; k++) {
            if (strcmp(awq__json_key(j, m), keys[k])) continue;
            if (at[k]) return awq__st_bad(ctx, path, t->name, "dtype, shape or data_offsets is given twice");
            at[k] = m;
        }
    dtype = awq__json_str(j, at[0], NULL);
    if (!dtype) return awq__st_bad(ctx, path, t->name, "dtype is missing or no string");
    for (k = AWQ_F64; k <= AWQ_F8_E5M2 && strcmp(dtype, awq_dtype_name((awq_dtype)k)); k++) {}
    if (k > AWQ_F8_E5M2)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: tensor \"%.300s\": dtype \"%.40s\" is not known", path,
                         t->name, dtype);
    t->dtype = (awq_dtype)k;
    if (awq__json_is(j, at[1]) != AWQ__J_ARR)
        return awq__st_bad(ctx, path, t->name, "shape is missing or no array");
    if (awq__json_count(j, at[1]) > AWQ_MAX_DIMS)
        return awq__fail(ctx, AWQ_E_LIMIT, "%s: tensor \"%.300s\": %lu dimensions, at most %d are read", path,
                         t->name, (unsigned long)awq__json_count(j, at[1]), AWQ_MAX_DIMS);
    for (i = awq__json_first(j, at[1]); i; i = awq__json_next(j, i), t->ndim++)
        if (!awq__json_int_of(j, i, &t->shape[t->ndim]) || t->shape[t->ndim] < 0)
            return awq__st_bad(ctx, path, t->name, "a dimension is not a whole number from 0 to 2^63 - 1");
    if (!awq__st_bytes(t, &bytes)) return awq__st_bad(ctx, path, t->name, "its shape is too large to be true");
    i = awq__json_first(j, at[2]);
    if (awq__json_is(j, at[2]) != AWQ__J_ARR || awq__json_count(j, at[2]) != 2
        || !awq__json_int_of(j, i, &range[0]) || !awq__json_int_of(j, awq__json_next(j, i), &range[1])
        || range[0] < 0 || range[1] < range[0])
        return awq__st_bad(ctx, path, t->name, "data_offsets is not [begin, end] with 0 <= begin <= end");
    t->offset = (uint64_t)range[0];
    t->bytes = (uint64_t)range[1] - t->offset;
    if (t->bytes != bytes)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: tensor \"%.300s\": %s %s takes %llu bytes, data_offsets spans "
                         "%llu", path, t->name, dtype, awq__st_shape(t->shape, t->ndim, shape, sizeof shape),
                         (unsigned long long)bytes, (unsigned long long)t->bytes);
    if ((uint64_t)range[1] > size)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: tensor \"%.300s\" ends at data byte %lld, the file has only "
                         "%llu", path, t->name, (long long)range[1], (unsigned long long)size);
    return AWQ_OK;
}

/* The parsed header of file number `file` into t: every entry by itself, then all of them together. */
static awq_status awq__st_entries(awq_ctx *ctx, awq_tensors *t, int file, const awq__json *j, uint64_t data_at)
{
    const char *path = t->files[file].path;
    uint64_t at = 0, size = t->files[file].f.bytes - data_at;
    size_t from = t->count, i;
    uint32_t m, s;
    if (awq__json_is(j, 1) != AWQ__J_OBJ)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: its header is not an object", path);
    for (m = awq__json_first(j, 1); m; m = awq__json_next(j, m)) {
        const char *key = awq__json_key(j, m);
        size_t len = j->nodes[m].key_len;
        awq_tensor *e;
        if (!strcmp(key, "__metadata__")) {
            for (s = awq__json_first(j, m); s && awq__json_is(j, s) == AWQ__J_STR; s = awq__json_next(j, s)) {}
            if (s || awq__json_is(j, m) != AWQ__J_OBJ)
                return awq__fail(ctx, AWQ_E_FORMAT, "%s: __metadata__ is not an object of strings", path);
            continue;
        }
        if (strlen(key) != len) return awq__st_bad(ctx, path, key, "a zero byte is part of its name");
        e = (awq_tensor *)awq__arena_alloc(ctx, &t->arena, 1, sizeof *e);
        if (!e || !(e->name = awq__arena_text(ctx, &t->arena, key, len))
            || !awq__grow(ctx, (void **)&t->order, &t->cap, t->count + 1, sizeof *t->order))
            return AWQ_E_MEMORY;
        e->file = file;
        AWQ__TRY(awq__st_entry(ctx, path, j, m, size, e));
        t->order[t->count++] = e;
    }
    awq__sort(t->order + from, t->count - from, awq__st_by_offset);
    for (i = from; i < t->count; i++) {
        awq_tensor *e = (awq_tensor *)(uintptr_t)t->order[i];
        if (e->offset != at)
            return awq__fail(ctx, AWQ_E_FORMAT, "%s: tensor \"%.300s\" begins at data byte %llu, %s at %llu",
                             path, e->name, (unsigned long long)e->offset,
                             e->offset < at ? "inside the one before, which ends" : "but the one before ends",
                             (unsigned long long)at);
        at += e->bytes;
        e->offset += data_at;
    }
    if (at != size)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: %llu bytes follow the last tensor, which ends at data byte "
                         "%llu", path, (unsigned long long)(size - at), (unsigned long long)at);
    return AWQ_OK;
}

static awq_status awq__st_open_file(awq_ctx *ctx, awq_tensors *t, int file)
{
    const awq_file_system *fs = awq__fs(ctx);
    awq__st_file *s = &t->files[file];
    unsigned char head[8];
    uint64_t n = 0;
    awq__json j;
    awq_status st;
    char *text;
    int i;
    AWQ__TRY(awq__file_open(ctx, s->path, 0, &s->f));
    if (s->f.bytes < 8)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: %llu bytes, a safetensors file begins with an 8-byte header "
                         "length", s->path, (unsigned long long)s->f.bytes);
    AWQ__TRY(awq__file_read(ctx, &s->f, s->path, 0, head, 8));
    if (!memcmp(head, "version ", 8))
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: is a Git LFS pointer; fetch the file itself (git lfs pull)",
                         s->path);
    for (i = 7; i >= 0; i--) n = n << 8 | head[i];
    if (n > s->f.bytes - 8)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: header length is %llu, but only %llu bytes follow it", s->path,
                         (unsigned long long)n, (unsigned long long)(s->f.bytes - 8));
    if (n > AWQ__ST_MAX_HEADER)
        return awq__fail(ctx, AWQ_E_LIMIT, "%s: header length is %llu, at most %u is read", s->path,
                         (unsigned long long)n, AWQ__ST_MAX_HEADER);
    text = (char *)awq__alloc_raw(ctx, (size_t)n, 1);
    if (!text) return AWQ_E_MEMORY;
    st = awq__file_read(ctx, &s->f, s->path, 8, text, (size_t)n);
    if (!st) st = awq__json_parse(ctx, s->path, text, (size_t)n, &j);
    awq__free(ctx, text);
    AWQ__TRY(st);
    st = awq__st_entries(ctx, t, file, &j, 8 + n);
    awq__json_free(ctx, &j);
    if (!st && fs->map) s->map = (const unsigned char *)fs->map(fs->user, s->f.handle);
    return st;
}

/* Add folder/name to t->files, which stays sorted by name; nothing when it is there already. */
static awq_status awq__st_add_file(awq_ctx *ctx, awq_tensors *t, const char *folder, const char *name)
{
    int lo = 0, hi = t->n_files;
    awq__st_file *s;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, c = strcmp(t->files[mid].name, name);
        if (!c) return AWQ_OK;
        if (c < 0) lo = mid + 1;
        else hi = mid;
    }
    if (t->n_files == AWQ__ST_MAX_FILES)
        return awq__fail(ctx, AWQ_E_LIMIT, "%s: names more than %d files", t->index_path, AWQ__ST_MAX_FILES);
    s = &t->files[lo];
    memmove(s + 1, s, (size_t)(t->n_files++ - lo) * sizeof *s);
    memset(s, 0, sizeof *s);
    s->name = awq__arena_text(ctx, &t->arena, name, strlen(name));
    s->path = awq__path_join(ctx, folder, name);
    return s->name && s->path ? AWQ_OK : AWQ_E_MEMORY;
}

/* The shards that an index names; every name must be that of a file beside the index. */
static awq_status awq__st_read_index(awq_ctx *ctx, awq_tensors *t, const char *folder, awq__json *j)
{
    uint32_t map, m;
    t->index_path = awq__path_join(ctx, folder, AWQ__ST_INDEX);
    if (!t->index_path) return AWQ_E_MEMORY;
    AWQ__TRY(awq__json_load(ctx, t->index_path, AWQ__ST_MAX_HEADER, j));
    map = awq__json_get(j, 1, "weight_map");
    if (!awq__json_count(j, map) || awq__json_is(j, map) != AWQ__J_OBJ)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: weight_map is missing, empty or no object", j->name);
    for (m = awq__json_first(j, map); m; m = awq__json_next(j, m)) {
        size_t len = 0;
        const char *name = awq__json_str(j, m, &len);
        if (!name || !len || strlen(name) != len || strpbrk(name, "/\\:") || strstr(name, ".."))
            return awq__fail(ctx, AWQ_E_FORMAT, "%s: weight_map of \"%.300s\" is \"%.200s\", expected a plain "
                             "file name", j->name, awq__json_key(j, m), name ? name : "(no string)");
        AWQ__TRY(awq__st_add_file(ctx, t, folder, name));
    }
    return AWQ_OK;
}

/* 1 when folder/name is there, 0 when not, -1 with ctx->err set on failure */
static int awq__probe(awq_ctx *ctx, const char *folder, const char *name)
{
    const awq_file_system *fs = awq__fs(ctx);
    char *path = awq__path_join(ctx, folder, name);
    void *h;
    int e;
    if (!path) return -1;
    e = fs->open(fs->user, path, 0, &h);
    if (!e) fs->close(fs->user, h);
    if (e && e != ENOENT) awq__io_fail(ctx, path, "open", e);
    awq__free(ctx, path);
    return !e ? 1 : e == ENOENT ? 0 : -1;
}

/* Fill t->files, and j when there is an index. */
static awq_status awq__st_find_files(awq_ctx *ctx, awq_tensors *t, const char *path, awq__json *j)
{
    static const char *const other[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                        "consolidated.00.pth", "model.pt", "model.gguf"};
    size_t len = strlen(path), i;
    int there;
    if (len > 12 && !strcmp(path + len - 12, ".safetensors") && awq__file_exists(ctx, path))
        return awq__st_add_file(ctx, t, "", path);
    there = awq__probe(ctx, path, AWQ__ST_SINGLE);
    if (there > 0) return awq__st_add_file(ctx, t, path, AWQ__ST_SINGLE);
    if (!there) there = awq__probe(ctx, path, AWQ__ST_INDEX);
    if (there > 0) return awq__st_read_index(ctx, t, path, j);
    for (i = 0; !there && i < sizeof other / sizeof other[0]; i++) {
        there = awq__probe(ctx, path, other[i]);
        if (there > 0)
            return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: has %s but no " AWQ__ST_SINGLE "; save the model "
                             "again with save_pretrained(..., safe_serialization=True)", path, other[i]);
    }
    return there ? ctx->err.status
                 : awq__fail(ctx, AWQ_E_IO, "%s: neither " AWQ__ST_SINGLE " nor " AWQ__ST_INDEX " is there",
                             path);
}

/* What only shows with every file open: names that occur twice, tensors elsewhere than the index says. */
static awq_status awq__st_check(awq_ctx *ctx, awq_tensors *t, const awq__json *j)
{
    uint32_t m = t->index_path ? awq__json_first(j, awq__json_get(j, 1, "weight_map")) : 0;
    size_t i;
    awq__sort(t->order, t->count, awq__st_by_name);
    for (i = 1; i < t->count; i++) {
        const awq_tensor *a = (const awq_tensor *)t->order[i - 1], *b = (const awq_tensor *)t->order[i];
        if (strcmp(a->name, b->name)) continue;
        if (a->file == b->file) return awq__st_bad(ctx, t->files[a->file].path, a->name, "is there twice");
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: tensor \"%.300s\" is also in %.300s", t->files[a->file].path,
                         a->name, t->files[b->file].path);
    }
    for (; m; m = awq__json_next(j, m)) {
        const awq_tensor *e = awq_tensors_find(t, awq__json_key(j, m));
        if (!e || !awq__json_eq(j, m, t->files[e->file].name))
            return awq__fail(ctx, AWQ_E_FORMAT, "%s: says that \"%.300s\" is in %.200s, but it is %s%.200s",
                             j->name, awq__json_key(j, m), awq__json_str(j, m, NULL), e ? "in " : "nowhere",
                             e ? t->files[e->file].name : "");
    }
    return AWQ_OK;
}

AWQ_API awq_status awq_tensors_open(awq_ctx *ctx, const char *path, awq_tensors **tensors)
{
    awq_tensors *t = AWQ__NEW(ctx, awq_tensors, 1);
    awq_status st;
    awq__json j;
    int i;
    if (!t) return AWQ_E_MEMORY;
    memset(&j, 0, sizeof j);
    t->files = AWQ__NEW(ctx, awq__st_file, AWQ__ST_MAX_FILES);
    st = t->files ? awq__st_find_files(ctx, t, path, &j) : AWQ_E_MEMORY;
    for (i = 0; i < t->n_files && !st; i++) st = awq__st_open_file(ctx, t, i);
    if (!st) st = awq__st_check(ctx, t, &j);
    awq__json_free(ctx, &j);
    if (st) awq_tensors_close(ctx, t);
    else *tensors = t;
    return st;
}

AWQ_API void awq_tensors_close(awq_ctx *ctx, awq_tensors *tensors)
{
    int i;
    if (!tensors) return;
    for (i = 0; i < tensors->n_files; i++) {
        awq__file_close(ctx, &tensors->files[i].f);
        awq__free(ctx, tensors->files[i].path);
    }
    awq__free(ctx, tensors->files);
    awq__free(ctx, tensors->order);
    awq__free(ctx, tensors->index_path);
    awq__arena_free(ctx, &tensors->arena);
    awq__free(ctx, tensors);
}

AWQ_API int64_t awq_tensors_count(const awq_tensors *tensors) { return (int64_t)tensors->count; }

AWQ_API const awq_tensor *awq_tensors_at(const awq_tensors *tensors, int64_t index)
{
    return index < 0 || (uint64_t)index >= tensors->count ? NULL : (const awq_tensor *)tensors->order[index];
}

AWQ_API const awq_tensor *awq_tensors_find(const awq_tensors *tensors, const char *name)
{
    return awq_tensors_at(tensors, awq__st_search(tensors->order, tensors->count, name));
}

AWQ_API const char *awq_tensors_file(const awq_tensors *tensors, int file)
{
    return file < 0 || file >= tensors->n_files ? "?" : tensors->files[file].path;
}

AWQ_API awq_status awq_tensors_read(awq_ctx *ctx, awq_tensors *tensors, const awq_tensor *tensor,
                                    uint64_t offset, void *data, size_t bytes)
{
    awq__st_file *s = &tensors->files[tensor->file];
    AWQ__TRY(awq__st_range(ctx, "awq_tensors_read", tensor, offset, bytes));
    return awq__file_read(ctx, &s->f, s->path, tensor->offset + offset, data, bytes);
}

AWQ_API awq_status awq_tensors_read_float(awq_ctx *ctx, awq_tensors *tensors, const awq_tensor *tensor,
                                          int64_t first, int64_t count, float *data)
{
    uint64_t piece[2048]; /* 16 KB, aligned for every type */
    const char *path = tensors->files[tensor->file].path;
    int64_t size = (int64_t)awq_dtype_size(tensor->dtype), total = (int64_t)tensor->bytes / size, n, i;
    int direct = tensor->dtype == AWQ_F32;
    if (!awq__is_real(tensor->dtype))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: tensor \"%.300s\" is %s, expected F32, F16, BF16 or "
                         "F64", path, tensor->name, awq_dtype_name(tensor->dtype));
    if (first < 0 || count < 0 || first > total || count > total - first)
        return awq__fail(ctx, AWQ_E_ARG, "awq_tensors_read_float: %lld elements from %lld on of \"%.300s\", "
                         "which has %lld", (long long)count, (long long)first, tensor->name,
                         (long long)total);
    for (; count; first += n, data += n, count -= n) {
        n = AWQ__MIN(count, direct ? (int64_t)1 << 24 : (int64_t)sizeof piece / size);
        AWQ__TRY(awq_tensors_read(ctx, tensors, tensor, (uint64_t)(first * size), direct ? (void *)data : piece,
                                  (size_t)(n * size)));
        if (!direct) awq__to_float(tensor->dtype, piece, n, data);
        for (i = 0; i < n; i++)
            if (!awq__finite(data[i]))
                return awq__fail(ctx, AWQ_E_NUMERIC, "%s: tensor \"%.300s\": element %lld is %s", path,
                                 tensor->name, (long long)(first + i),
                                 data[i] != data[i] ? "NaN" : "infinite in fp32");
    }
    return AWQ_OK;
}

AWQ_API const void *awq_tensors_map(const awq_tensors *tensors, const awq_tensor *tensor)
{
    const unsigned char *base = tensors->files[tensor->file].map;
    if (!base || (uintptr_t)(base + tensor->offset) % awq_dtype_size(tensor->dtype)) return NULL;
    return base + tensor->offset;
}

/* --- writing */
typedef struct awq__st_shard {
    awq__file f;
    char *path, *part;       /* folder/model.safetensors, and that with ".part"; own blocks */
    uint64_t data_at, bytes; /* where the data begins, how much it is */
    int ours, dirty, renamed; /* ours: the part was made or taken over by this writer */
} awq__st_shard;

struct awq_writer {
    awq__arena arena; /* everything but the paths of shards */
    char *folder;
    awq_tensor *list;
    const void **order; /* list, sorted by name */
    uint64_t *written;  /* bytes of each tensor so far */
    size_t count;
    awq__st_shard *shards;
    int n_shards, resumed;
};

static awq_status awq__wr_fail(awq_ctx *ctx, const char *path, int code)
{
    if (code == ENOSPC) return awq__fail(ctx, AWQ_E_IO, "%s: cannot write: the disk is full", path);
    return awq__io_fail(ctx, path, "write", code);
}

/* Check the caller's list, copy it, give every tensor its shard and its place in that shard's data. */
static awq_status awq__wr_plan(awq_ctx *ctx, awq_writer *w, const awq_tensor *list, uint64_t shard_bytes)
{
    uint64_t used = 0;
    size_t i;
    int k;
    for (i = 0; i < w->count; i++) {
        awq_tensor *t = &w->list[i];
        const char *name = list[i].name ? list[i].name : "", *bad = NULL;
        size_t len = strlen(name), at;
        int step = 1;
        *t = list[i];
        for (at = 0; at < len && step; at += (size_t)step)
            step = awq__utf8_len((const unsigned char *)name + at, len - at);
        for (k = 0; k < t->ndim && k < AWQ_MAX_DIMS && t->shape[k] >= 0; k++) {}
        if (!len || !step || !strcmp(name, "__metadata__")) bad = "its name is empty, reserved or not UTF-8";
        else if (k != t->ndim || !awq_dtype_size(t->dtype)) bad = "its dtype or shape is not valid";
        else if (!awq__st_bytes(t, &t->bytes) || t->bytes > (uint64_t)INT64_MAX / 2 - used) bad = "too large";
        if (bad)
            return awq__fail(ctx, AWQ_E_ARG, "awq_writer_open: tensor %llu \"%.300s\": %s",
                             (unsigned long long)i, name, bad);
        if (!(t->name = awq__arena_text(ctx, &w->arena, name, len))) return AWQ_E_MEMORY;
        if (!w->n_shards || (used && t->bytes > shard_bytes - AWQ__MIN(used, shard_bytes))) {
            w->n_shards++;
            used = 0;
        }
        t->file = w->n_shards - 1;
        t->offset = used;
        used += t->bytes;
        w->order[i] = t;
    }
    if (w->n_shards > AWQ__ST_MAX_FILES)
        return awq__fail(ctx, AWQ_E_LIMIT, "awq_writer_open: %d files, at most %d; use larger shards",
                         w->n_shards, AWQ__ST_MAX_FILES);
    awq__sort(w->order, w->count, awq__st_by_name);
    for (i = 1; i < w->count; i++)
        if (!awq__st_by_name(w->order[i - 1], w->order[i]))
            return awq__fail(ctx, AWQ_E_ARG, "awq_writer_open: tensor \"%.300s\" is listed twice",
                             ((const awq_tensor *)w->order[i])->name);
    return AWQ_OK;
}

/* Paths of shard number `shard` and its header: length field and JSON, padded with spaces to a multiple of 8.
   The shard's tensors begin at list[*next], which moves on to those of the next one. */
static awq_status awq__wr_header(awq_ctx *ctx, awq_writer *w, int shard, size_t *next, awq__text *h)
{
    awq__st_shard *s = &w->shards[shard];
    char name[64], part[80];
    int k;
    if (w->n_shards == 1) snprintf(name, sizeof name, "%s", AWQ__ST_SINGLE);
    else snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard + 1, w->n_shards);
    snprintf(part, sizeof part, "%s.part", name);
    s->path = awq__path_join(ctx, w->folder, name);
    s->part = awq__path_join(ctx, w->folder, part);
    h->len = 0;
    awq__text_add(ctx, h, "\0\0\0\0\0\0\0\0", 8);
    awq__text_str(ctx, h, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (; *next < w->count && w->list[*next].file == shard; ++*next) {
        const awq_tensor *t = &w->list[*next];
        awq__text_str(ctx, h, ",");
        awq__json_quote(ctx, h, t->name, strlen(t->name));
        awq__textf(ctx, h, ":{\"dtype\":\"%s\",\"shape\":[", awq_dtype_name(t->dtype));
        for (k = 0; k < t->ndim; k++) awq__textf(ctx, h, k ? ",%lld" : "%lld", (long long)t->shape[k]);
        s->bytes = t->offset + t->bytes;
        awq__textf(ctx, h, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)t->offset,
                   (unsigned long long)s->bytes);
    }
    awq__text_str(ctx, h, "}");
    while (!h->failed && h->len % 8) awq__text_str(ctx, h, " ");
    if (h->failed || !s->path || !s->part) return AWQ_E_MEMORY;
    s->data_at = h->len;
    if (h->len - 8 > AWQ__ST_MAX_HEADER)
        return awq__fail(ctx, AWQ_E_LIMIT, "%s: its header would take %llu bytes, readers stop at %u", s->path,
                         (unsigned long long)h->len - 8, AWQ__ST_MAX_HEADER);
    for (k = 0; k < 8; k++) h->data[k] = (char)((uint64_t)(h->len - 8) >> 8 * k);
    return AWQ_OK;
}

static awq_status awq__wr_create(awq_ctx *ctx, awq__st_shard *s, const awq__text *h)
{
    const awq_file_system *fs = awq__fs(ctx);
    int e;
    AWQ__TRY(awq__file_open(ctx, s->part, 1, &s->f));
    s->ours = s->dirty = 1;
    e = fs->truncate(fs->user, s->f.handle, 0); /* nothing of an older run may show through */
    if (!e) e = fs->write(fs->user, s->f.handle, 0, h->data, h->len);
    if (!e) e = fs->truncate(fs->user, s->f.handle, s->data_at + s->bytes);
    return e ? awq__wr_fail(ctx, s->part, e) : AWQ_OK;
}

/* Go on in the part of a run that was stopped: it must have the planned size and header. A run stopped while
   parts got their names has some under these. */
static awq_status awq__wr_reopen(awq_ctx *ctx, awq__st_shard *s, const awq__text *h)
{
    const awq_file_system *fs = awq__fs(ctx);
    awq_status st;
    char *old;
    int named = !awq__file_exists(ctx, s->part), e = named ? fs->rename(fs->user, s->path, s->part) : 0;
    if (e == ENOENT) return awq__fail(ctx, AWQ_E_FORMAT, "%s: cannot resume, it is not there", s->part);
    if (e) return awq__wr_fail(ctx, s->part, e);
    AWQ__TRY(awq__file_open(ctx, s->part, 1, &s->f));
    old = (char *)awq__alloc_raw(ctx, h->len, 1);
    st = old ? AWQ_OK : AWQ_E_MEMORY;
    if (!st && s->f.bytes != s->data_at + s->bytes)
        st = awq__fail(ctx, AWQ_E_FORMAT, "%s: cannot resume: %llu bytes, %llu were planned", s->part,
                       (unsigned long long)s->f.bytes, (unsigned long long)(s->data_at + s->bytes));
    if (!st) st = awq__file_read(ctx, &s->f, s->part, 0, old, h->len);
    if (!st && memcmp(old, h->data, h->len))
        st = awq__fail(ctx, AWQ_E_FORMAT, "%s: cannot resume: begun otherwise", s->part);
    awq__free(ctx, old);
    if (st && named) { /* it was not ours */
        awq__file_close(ctx, &s->f);
        fs->rename(fs->user, s->part, s->path);
    }
    return st;
}

AWQ_API awq_status awq_writer_open(awq_ctx *ctx, const char *folder, const awq_tensor *list, int64_t count,
                                   uint64_t shard_bytes, int resume, awq_writer **writer)
{
    const awq_file_system *fs = awq__fs(ctx);
    awq__text h = {NULL, 0, 0, 0};
    size_t next = 0;
    awq_writer *w;
    awq_status st;
    int i, e;
    if (count < 1) return awq__fail(ctx, AWQ_E_ARG, "awq_writer_open: %lld tensors", (long long)count);
    w = AWQ__NEW(ctx, awq_writer, 1);
    if (!w) return AWQ_E_MEMORY;
    w->count = (size_t)count;
    w->resumed = resume != 0;
    w->folder = awq__arena_text(ctx, &w->arena, folder, strlen(folder));
    w->list = (awq_tensor *)awq__arena_alloc(ctx, &w->arena, w->count, sizeof *w->list);
    w->order = (const void **)awq__arena_alloc(ctx, &w->arena, w->count, sizeof *w->order);
    w->written = (uint64_t *)awq__arena_alloc(ctx, &w->arena, w->count, sizeof *w->written);
    st = w->folder && w->list && w->order && w->written ? AWQ_OK : AWQ_E_MEMORY;
    if (!st) st = awq__wr_plan(ctx, w, list, shard_bytes ? shard_bytes : (uint64_t)5000000000);
    if (!st) {
        w->shards = (awq__st_shard *)awq__arena_alloc(ctx, &w->arena, (size_t)w->n_shards, sizeof *w->shards);
        e = w->shards ? fs->make_folder(fs->user, folder) : 0;
        st = !w->shards ? AWQ_E_MEMORY : e ? awq__io_fail(ctx, folder, "make the folder", e) : AWQ_OK;
    }
    for (i = 0; i < w->n_shards && !st; i++) {
        st = awq__wr_header(ctx, w, i, &next, &h);
        if (!st) st = resume ? awq__wr_reopen(ctx, &w->shards[i], &h) : awq__wr_create(ctx, &w->shards[i], &h);
    }
    awq__text_free(ctx, &h);
    /* only when all of them fit the plan */
    for (i = 0; i < w->n_shards && !st && resume; i++) w->shards[i].ours = 1;
    if (st) awq_writer_abort(ctx, w, 0);
    else *writer = w;
    return st;
}

AWQ_API int64_t awq_writer_find(const awq_writer *writer, const char *name)
{
    int64_t at = awq__st_search(writer->order, writer->count, name);
    return at < 0 ? -1 : (int64_t)((const awq_tensor *)writer->order[at] - writer->list);
}

AWQ_API awq_status awq_writer_write(awq_ctx *ctx, awq_writer *writer, int64_t index, uint64_t offset,
                                    const void *data, size_t bytes)
{
    const awq_file_system *fs = awq__fs(ctx);
    awq__st_shard *s;
    const awq_tensor *t;
    int e;
    if (index < 0 || (uint64_t)index >= writer->count)
        return awq__fail(ctx, AWQ_E_ARG, "awq_writer_write: there is no tensor %lld", (long long)index);
    t = &writer->list[index];
    AWQ__TRY(awq__st_range(ctx, "awq_writer_write", t, offset, bytes));
    s = &writer->shards[t->file];
    s->dirty = 1;
    e = bytes ? fs->write(fs->user, s->f.handle, s->data_at + t->offset + offset, data, bytes) : 0;
    if (e) return awq__wr_fail(ctx, s->part, e);
    writer->written[index] += bytes;
    return AWQ_OK;
}

AWQ_API awq_status awq_writer_read(awq_ctx *ctx, awq_writer *writer, int64_t index, uint64_t offset, void *data,
                                   size_t bytes)
{
    const awq_file_system *fs = awq__fs(ctx);
    awq__st_shard *s;
    const awq_tensor *t;
    int e;
    if (index < 0 || (uint64_t)index >= writer->count)
        return awq__fail(ctx, AWQ_E_ARG, "awq_writer_read: there is no tensor %lld", (long long)index);
    t = &writer->list[index];
    AWQ__TRY(awq__st_range(ctx, "awq_writer_read", t, offset, bytes));
    s = &writer->shards[t->file];
    e = bytes ? fs->read(fs->user, s->f.handle, s->data_at + t->offset + offset, data, bytes) : 0;
    return e ? awq__io_fail(ctx, s->part, "read", e) : AWQ_OK;
}

AWQ_API awq_status awq_writer_sync(awq_ctx *ctx, awq_writer *writer)
{
    const awq_file_system *fs = awq__fs(ctx);
    int i;
    for (i = 0; i < writer->n_shards; i++) {
        awq__st_shard *s = &writer->shards[i];
        int e = s->dirty && s->f.is_open ? fs->sync(fs->user, s->f.handle) : 0;
        if (e) return awq__wr_fail(ctx, s->part, e);
        s->dirty = 0;
    }
    return AWQ_OK;
}

static awq_status awq__wr_index(awq_ctx *ctx, awq_writer *w, const char *path)
{
    awq__text t = {NULL, 0, 0, 0};
    uint64_t total = 0;
    awq_status st = AWQ_E_MEMORY;
    size_t i;
    for (i = 0; i < w->count; i++) total += w->list[i].bytes;
    awq__textf(ctx, &t, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
               (unsigned long long)total);
    for (i = 0; i < w->count; i++) {
        const awq_tensor *e = (const awq_tensor *)w->order[i];
        awq__text_str(ctx, &t, i ? ",\n    " : "\n    ");
        awq__json_quote(ctx, &t, e->name, strlen(e->name));
        awq__textf(ctx, &t, ": \"model-%05d-of-%05d.safetensors\"", e->file + 1, w->n_shards);
    }
    awq__text_str(ctx, &t, "\n  }\n}\n");
    if (!t.failed) st = awq__file_save(ctx, path, t.data, t.len);
    awq__text_free(ctx, &t);
    return st;
}

/* On failure the writer stays, for awq_writer_abort. */
AWQ_API awq_status awq_writer_finish(awq_ctx *ctx, awq_writer *writer)
{
    const awq_file_system *fs = awq__fs(ctx);
    char *index, *single;
    awq_status st;
    size_t k;
    int i, e;
    for (k = 0; k < writer->count && !writer->resumed; k++)
        if (writer->written[k] < writer->list[k].bytes)
            return awq__fail(ctx, AWQ_E_ARG, "awq_writer_finish: %llu of the %llu bytes of \"%.300s\" were "
                             "written", (unsigned long long)writer->written[k],
                             (unsigned long long)writer->list[k].bytes, writer->list[k].name);
    AWQ__TRY(awq_writer_sync(ctx, writer));
    for (i = 0; i < writer->n_shards; i++) {
        e = awq__file_close(ctx, &writer->shards[i].f);
        if (e) return awq__wr_fail(ctx, writer->shards[i].part, e);
    }
    index = awq__path_join(ctx, writer->folder, AWQ__ST_INDEX);
    single = awq__path_join(ctx, writer->folder, AWQ__ST_SINGLE);
    st = index && single ? AWQ_OK : AWQ_E_MEMORY;
    for (i = 0; i < writer->n_shards && !st; i++) {
        e = fs->rename(fs->user, writer->shards[i].part, writer->shards[i].path);
        if (e) st = awq__wr_fail(ctx, writer->shards[i].path, e);
        else writer->shards[i].renamed = 1;
    }
    if (!st && writer->n_shards > 1) st = awq__wr_index(ctx, writer, index);
    if (!st) {
        /* an older checkpoint of the other kind would be found instead of this one */
        fs->remove(fs->user, writer->n_shards > 1 ? single : index);
        for (i = 0; i < writer->n_shards; i++) writer->shards[i].ours = 0;
        awq_writer_abort(ctx, writer, 1);
    }
    awq__free(ctx, index);
    awq__free(ctx, single);
    return st;
}

AWQ_API void awq_writer_abort(awq_ctx *ctx, awq_writer *writer, int keep_parts)
{
    const awq_file_system *fs = awq__fs(ctx);
    int i;
    if (!writer) return;
    for (i = 0; i < writer->n_shards && writer->shards; i++) {
        awq__st_shard *s = &writer->shards[i];
        awq__file_close(ctx, &s->f);
        if (s->ours && s->renamed && keep_parts) fs->rename(fs->user, s->path, s->part);
        else if (s->ours && !keep_parts) fs->remove(fs->user, s->renamed ? s->path : s->part);
        awq__free(ctx, s->path);
        awq__free(ctx, s->part);
    }
    awq__arena_free(ctx, &writer->arena);
    awq__free(ctx, writer);
}
/* -------------------------------------------------------------------------------------------------------------
   MARK: >>checkpoint
   A Hugging Face folder: config.json in the spelling of transformers 4 and 5, generation_config.json, the
   family's row, quantization_config in its variants, and every tensor the family needs, checked for presence,
   type and shape.
   Invariants: nothing is allocated in proportion to a number that config.json states; a linear is packed
   exactly when its packed tensor is there, whatever the config says; refusals name the file and key or tensor.
   Tests: tests/test_checkpoint.c, tests/fuzz_config.c */

/* --- families: one row each */
typedef enum awq__window_rule {
    AWQ__WINDOW_NONE,
    AWQ__WINDOW_ALL,   /* sliding_window holds for every layer; null: none, key absent: 4096 */
    AWQ__WINDOW_LISTED /* only with use_sliding_window; layer_types or max_window_layers say where */
} awq__window_rule;

typedef struct awq__family_row {
    awq_family family;
    awq__window_rule window;
} awq__family_row;

#define AWQ__NAMES                                                                                            \
    "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",                                       \
    "model.layers.{}.input_layernorm.weight", "model.layers.{}.post_attention_layernorm.weight",              \
    "model.layers.{}.self_attn.q_norm.weight", "model.layers.{}.self_attn.k_norm.weight",                     \
    {"model.layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.k_proj",                                  \
     "model.layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.o_proj", "model.layers.{}.mlp.gate_proj", \
     "model.layers.{}.mlp.up_proj", "model.layers.{}.mlp.down_proj"}

static const awq__family_row awq__families[] = {
    /* model_type, biases of q k v, o, mlp; q and k norm; tied */
    {{"llama", -1, -1, -1, 0, 0, AWQ__NAMES}, AWQ__WINDOW_NONE},
    {{"mistral", 0, 0, 0, 0, 0, AWQ__NAMES}, AWQ__WINDOW_ALL},
    {{"qwen2", 1, 0, 0, 0, 0, AWQ__NAMES}, AWQ__WINDOW_LISTED},
    {{"qwen3", -1, -1, 0, 1, 0, AWQ__NAMES}, AWQ__WINDOW_LISTED},
};
#define AWQ__N_FAMILIES ((int)(sizeof awq__families / sizeof awq__families[0]))

struct awq_checkpoint {
    char *folder, *config_path, *config_text; /* own blocks */
    awq_config config;
    awq_quant_config quant;
    awq_tensors *tensors;
};

/* --- values of a config by key; null counts as absent. `j->name` is the file. */
static uint32_t awq__cfg_get(const awq__json *j, uint32_t object, const char *key)
{
    uint32_t node = awq__json_get(j, object, key);
    return awq__json_is(j, node) == AWQ__J_NULL ? 0 : node;
}

/* fallback -1: required */
static awq_status awq__cfg_int(awq_ctx *ctx, const awq__json *j, uint32_t object, const char *key, int64_t lo,
                               int64_t hi, int64_t fallback, int64_t *out)
{
    uint32_t node = awq__cfg_get(j, object, key);
    int64_t v = fallback;
    if (!node && fallback == -1) return awq__fail(ctx, AWQ_E_FORMAT, "%s: %s is missing", j->name, key);
    if (node && !awq__json_int_of(j, node, &v))
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: %s is not a whole number", j->name, key);
    if (node && (v < lo || v > hi))
        return awq__fail(ctx, v < lo ? AWQ_E_FORMAT : AWQ_E_LIMIT, "%s: %s is %lld, expected %lld to %lld",
                         j->name, key, (long long)v, (long long)lo, (long long)hi);
    *out = v;
    return AWQ_OK;
}

/* a finite number above 0; fallback 0: required */
static awq_status awq__cfg_real(awq_ctx *ctx, const awq__json *j, uint32_t object, const char *key,
                                double fallback, double *out)
{
    uint32_t node = awq__cfg_get(j, object, key);
    double v = fallback;
    if (!node && fallback == 0) return awq__fail(ctx, AWQ_E_FORMAT, "%s: %s is missing", j->name, key);
    if (node && !awq__json_number_of(j, node, &v))
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: %s is not a number", j->name, key);
    if (!(v > 0 && v < 1e300))
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: %s is %g, expected a finite number above 0", j->name, key, v);
    *out = v;
    return AWQ_OK;
}

static awq_status awq__cfg_bool(awq_ctx *ctx, const awq__json *j, uint32_t object, const char *key,
                                int fallback, int *out)
{
    uint32_t node = awq__cfg_get(j, object, key);
    int v = node ? awq__json_bool(j, node) : fallback;
    if (v < 0) return awq__fail(ctx, AWQ_E_FORMAT, "%s: %s is neither true nor false", j->name, key);
    *out = v;
    return AWQ_OK;
}

/* *out NULL when absent */
static awq_status awq__cfg_str(awq_ctx *ctx, const awq__json *j, uint32_t object, const char *key,
                               const char **out)
{
    uint32_t node = awq__cfg_get(j, object, key);
    const char *s = awq__json_str(j, node, NULL);
    if (node && !s) return awq__fail(ctx, AWQ_E_FORMAT, "%s: %s is not a string", j->name, key);
    *out = s;
    return AWQ_OK;
}

/* *out 0 when absent */
static awq_status awq__cfg_object(awq_ctx *ctx, const awq__json *j, uint32_t object, const char *key,
                                  uint32_t *out)
{
    uint32_t node = awq__cfg_get(j, object, key);
    if (node && awq__json_is(j, node) != AWQ__J_OBJ)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: %s is not an object", j->name, key);
    *out = node;
    return AWQ_OK;
}

/* --- config.json */
static awq_status awq__cfg_sizes(awq_ctx *ctx, const awq__json *j, awq_config *c)
{
    int64_t layers, heads, kv, dim;
    AWQ__TRY(awq__cfg_int(ctx, j, 1, "hidden_size", 1, 1 << 20, -1, &c->hidden_size));
    AWQ__TRY(awq__cfg_int(ctx, j, 1, "intermediate_size", 1, 1 << 24, -1, &c->intermediate_size));
    AWQ__TRY(awq__cfg_int(ctx, j, 1, "vocab_size", 1, 1 << 26, -1, &c->vocab_size));
    AWQ__TRY(awq__cfg_int(ctx, j, 1, "max_position_embeddings", 1, INT32_MAX, 2048,
                          &c->max_position_embeddings));
    AWQ__TRY(awq__cfg_int(ctx, j, 1, "num_hidden_layers", 1, AWQ_MAX_LAYERS, -1, &layers));
    AWQ__TRY(awq__cfg_int(ctx, j, 1, "num_attention_heads", 1, 1 << 16, -1, &heads));
    AWQ__TRY(awq__cfg_int(ctx, j, 1, "num_key_value_heads", 1, 1 << 16, heads, &kv));
    AWQ__TRY(awq__cfg_int(ctx, j, 1, "head_dim", 1, 1 << 14, c->hidden_size / heads, &dim));
    if (!awq__cfg_get(j, 1, "head_dim") && c->hidden_size % heads)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: num_attention_heads %lld does not divide hidden_size %lld and "
                         "there is no head_dim", j->name, (long long)heads, (long long)c->hidden_size);
    if (dim % 2) /* also 0: more heads than hidden_size */
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: head_dim is %lld, expected an even number for rope", j->name,
                         (long long)dim);
    if (heads % kv)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: num_key_value_heads %lld does not divide num_attention_heads "
                         "%lld", j->name, (long long)kv, (long long)heads);
    c->num_hidden_layers = (int)layers;
    c->num_attention_heads = (int)heads;
    c->num_key_value_heads = (int)kv;
    c->head_dim = (int)dim;
    return AWQ_OK;
}

/* transformers 5: rope_parameters {rope_type, rope_theta}; 4: rope_theta, rope_scaling {rope_type or type} */
static awq_status awq__cfg_rope(awq_ctx *ctx, const awq__json *j, awq_config *c)
{
    uint32_t rope, i;
    const char *type;
    double partial;
    AWQ__TRY(awq__cfg_real(ctx, j, 1, "rope_theta", 10000, &c->rope_theta));
    AWQ__TRY(awq__cfg_real(ctx, j, 1, "partial_rotary_factor", 1, &partial));
    AWQ__TRY(awq__cfg_object(ctx, j, 1, "rope_parameters", &rope));
    if (!rope) AWQ__TRY(awq__cfg_object(ctx, j, 1, "rope_scaling", &rope));
    for (i = awq__json_first(j, rope); i; i = awq__json_next(j, i))
        if (awq__json_is(j, i) == AWQ__J_OBJ)
            return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: rope_parameters per layer type (%.40s) are not "
                             "supported", j->name, awq__json_key(j, i));
    AWQ__TRY(awq__cfg_str(ctx, j, rope, "rope_type", &type));
    if (!type) AWQ__TRY(awq__cfg_str(ctx, j, rope, "type", &type));
    AWQ__TRY(awq__cfg_real(ctx, j, rope, "rope_theta", c->rope_theta, &c->rope_theta));
    AWQ__TRY(awq__cfg_real(ctx, j, rope, "partial_rotary_factor", partial, &partial));
    if (partial != 1)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: partial_rotary_factor is %g, only 1 is supported",
                         j->name, partial);
    c->rope_factor = 1;
    if (!type || !strcmp(type, "default")) return AWQ_OK;
    if (!strcmp(type, "linear")) {
        c->rope_kind = AWQ_ROPE_LINEAR;
        return awq__cfg_real(ctx, j, rope, "factor", 0, &c->rope_factor);
    }
    if (strcmp(type, "llama3"))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: rope_type is \"%.40s\"; known are default, linear, "
                         "llama3", j->name, type);
    c->rope_kind = AWQ_ROPE_LLAMA3;
    AWQ__TRY(awq__cfg_real(ctx, j, rope, "factor", 0, &c->rope_factor));
    AWQ__TRY(awq__cfg_real(ctx, j, rope, "low_freq_factor", 0, &c->rope_low_freq_factor));
    AWQ__TRY(awq__cfg_real(ctx, j, rope, "high_freq_factor", 0, &c->rope_high_freq_factor));
    AWQ__TRY(awq__cfg_int(ctx, j, rope, "original_max_position_embeddings", 1, INT32_MAX, -1,
                          &c->rope_original_max_position));
    if (c->rope_low_freq_factor >= c->rope_high_freq_factor)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: low_freq_factor %g is not below high_freq_factor %g", j->name,
                         c->rope_low_freq_factor, c->rope_high_freq_factor);
    return AWQ_OK;
}

static awq_status awq__cfg_window(awq_ctx *ctx, const awq__json *j, awq__window_rule rule, awq_config *c)
{
    uint32_t types = awq__cfg_get(j, 1, "layer_types"), t;
    int64_t from = 0, window = 0;
    int use = 1, i;
    if (rule == AWQ__WINDOW_NONE) return AWQ_OK;
    if (rule == AWQ__WINDOW_ALL || awq__cfg_get(j, 1, "sliding_window"))
        AWQ__TRY(awq__cfg_int(ctx, j, 1, "sliding_window", 1, INT32_MAX,
                              awq__json_get(j, 1, "sliding_window") ? 0 : 4096, &window));
    if (rule == AWQ__WINDOW_LISTED) {
        AWQ__TRY(awq__cfg_bool(ctx, j, 1, "use_sliding_window", 0, &use));
        AWQ__TRY(awq__cfg_int(ctx, j, 1, "max_window_layers", 0, INT32_MAX, 28, &from));
        if (types && (awq__json_is(j, types) != AWQ__J_ARR
                      || awq__json_count(j, types) != (uint32_t)c->num_hidden_layers))
            return awq__fail(ctx, AWQ_E_FORMAT, "%s: layer_types is not an array of num_hidden_layers = %d "
                             "strings", j->name, c->num_hidden_layers);
    }
    for (i = 0, t = rule == AWQ__WINDOW_LISTED ? awq__json_first(j, types) : 0; i < c->num_hidden_layers; i++) {
        c->layer_is_sliding[i] = use && window && i >= from;
        if (!t) continue;
        if (!awq__json_eq(j, t, "sliding_attention") && !awq__json_eq(j, t, "full_attention"))
            return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: layer_types[%d] is neither full_attention nor "
                             "sliding_attention", j->name, i);
        c->layer_is_sliding[i] = use && window && awq__json_eq(j, t, "sliding_attention");
        t = awq__json_next(j, t);
    }
    for (i = 0; i < c->num_hidden_layers; i++)
        if (c->layer_is_sliding[i]) c->sliding_window = window;
    return AWQ_OK;
}

static awq_status awq__cfg_dtype(awq_ctx *ctx, const awq__json *j, awq_config *c)
{
    static const struct {
        const char *name;
        awq_dtype dtype;
    } known[] = {{"bfloat16", AWQ_BF16}, {"float16", AWQ_F16}, {"float32", AWQ_F32}, {"float64", AWQ_F64}};
    const char *s;
    size_t i;
    AWQ__TRY(awq__cfg_str(ctx, j, 1, "dtype", &s));
    if (!s) AWQ__TRY(awq__cfg_str(ctx, j, 1, "torch_dtype", &s));
    c->dtype = AWQ_F32;
    if (!s) return AWQ_OK;
    for (i = 0; i < 4; i++)
        if (!strcmp(s, known[i].name)) {
            c->dtype = known[i].dtype;
            return AWQ_OK;
        }
    return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: dtype is \"%.40s\"; known are bfloat16, float16, float32, "
                     "float64", j->name, s);
}

/* eos_token_id, a number or a list of them; the ids not yet known are added */
static awq_status awq__cfg_eos(awq_ctx *ctx, const awq__json *j, awq_config *c)
{
    uint32_t node = awq__cfg_get(j, 1, "eos_token_id"), i;
    int is_list = awq__json_is(j, node) == AWQ__J_ARR, k;
    for (i = is_list ? awq__json_first(j, node) : node; i; i = is_list ? awq__json_next(j, i) : 0) {
        int64_t id;
        if (!awq__json_int_of(j, i, &id) || id > INT32_MAX)
            return awq__fail(ctx, AWQ_E_FORMAT, "%s: eos_token_id is neither a token id nor a list of them",
                             j->name);
        for (k = 0; k < c->n_eos && c->eos_token_id[k] != id; k++) {}
        if (id < 0 || k < c->n_eos) continue; /* -1 is an old way of writing none */
        if (c->n_eos == AWQ_MAX_EOS)
            return awq__fail(ctx, AWQ_E_LIMIT, "%s: more than %d ids in eos_token_id", j->name, AWQ_MAX_EOS);
        c->eos_token_id[c->n_eos++] = (int32_t)id;
    }
    return AWQ_OK;
}

static awq_status awq__cfg_read(awq_ctx *ctx, const awq__json *j, awq_config *c)
{
    const awq__family_row *row = NULL;
    const char *type, *act;
    char known[256];
    size_t n = 0;
    int64_t bos;
    int i;
    if (awq__json_is(j, 1) != AWQ__J_OBJ) return awq__fail(ctx, AWQ_E_FORMAT, "%s: is not an object", j->name);
    AWQ__TRY(awq__cfg_str(ctx, j, 1, "model_type", &type));
    if (!type) return awq__fail(ctx, AWQ_E_FORMAT, "%s: model_type is missing", j->name);
    for (i = 0; i < AWQ__N_FAMILIES; i++) {
        if (!strcmp(type, awq__families[i].family.model_type)) row = &awq__families[i];
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "",
                              awq__families[i].family.model_type);
    }
    if (!row)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: model_type is \"%.60s\"; known are %s", j->name, type,
                         known);
    c->family = &row->family;
    snprintf(c->model_type, sizeof c->model_type, "%s", type);
    AWQ__TRY(awq__cfg_sizes(ctx, j, c));
    AWQ__TRY(awq__cfg_real(ctx, j, 1, "rms_norm_eps", 1e-6, &c->rms_norm_eps));
    AWQ__TRY(awq__cfg_rope(ctx, j, c));
    AWQ__TRY(awq__cfg_window(ctx, j, row->window, c));
    AWQ__TRY(awq__cfg_str(ctx, j, 1, "hidden_act", &act));
    if (act && strcmp(act, "silu") && strcmp(act, "swish"))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: hidden_act is \"%.40s\"; known is silu", j->name, act);
    AWQ__TRY(awq__cfg_bool(ctx, j, 1, "tie_word_embeddings", row->family.tied_by_default,
                           &c->tie_word_embeddings));
    AWQ__TRY(awq__cfg_bool(ctx, j, 1, "attention_bias", 0, &c->attention_bias));
    AWQ__TRY(awq__cfg_bool(ctx, j, 1, "mlp_bias", 0, &c->mlp_bias));
    AWQ__TRY(awq__cfg_dtype(ctx, j, c));
    AWQ__TRY(awq__cfg_int(ctx, j, 1, "bos_token_id", -1, INT32_MAX, -2, &bos));
    c->bos_token_id = bos < 0 ? -1 : (int32_t)bos;
    return awq__cfg_eos(ctx, j, c);
}

/* --- quantization_config */
static awq_status awq__quant_unknown(awq_ctx *ctx, const awq__json *j, const char *key, const char *found,
                                     const char *known)
{
    return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: quantization %s is \"%.60s\"; known are %s", j->name, key,
                     found, known);
}

/* AutoAWQ's and AutoGPTQ's keys, with their synonyms of different ages */
static awq_status awq__quant_flat(awq_ctx *ctx, const awq__json *j, uint32_t q, int gptq, awq_quant_config *out)
{
    const char *version, *backend;
    char lower[32];
    int64_t bits;
    size_t i;
    int flag;
    AWQ__TRY(awq__cfg_int(ctx, j, q, awq__cfg_get(j, q, "bits") ? "bits" : "w_bit", 1, 16, 4, &bits));
    AWQ__TRY(awq__cfg_int(ctx, j, q, awq__cfg_get(j, q, "group_size") ? "group_size" : "q_group_size", -1,
                          1 << 24, 128, &out->group_size));
    if (!out->group_size)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: quantization group_size is 0, expected -1 (whole row) or a "
                         "size", j->name);
    if (bits != 4)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: quantization bits is %lld, only 4 is supported for %s",
                         j->name, (long long)bits, gptq ? "gptq" : "awq");
    out->bits = 4;
    AWQ__TRY(awq__cfg_bool(ctx, j, q, "zero_point", !gptq, &flag));
    AWQ__TRY(awq__cfg_bool(ctx, j, q, "sym", !flag, &out->symmetric));
    AWQ__TRY(awq__cfg_bool(ctx, j, q, "desc_act", 0, &flag));
    if (flag)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: desc_act is true: columns in activation order are not "
                         "supported", j->name);
    if (awq__json_count(j, awq__cfg_get(j, q, "dynamic")))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: quantization settings per module (dynamic) are not "
                         "supported", j->name);
    AWQ__TRY(awq__cfg_str(ctx, j, q, gptq ? "checkpoint_format" : "version", &version));
    if (!version) AWQ__TRY(awq__cfg_str(ctx, j, q, "format", &version));
    if (!version) AWQ__TRY(awq__cfg_str(ctx, j, q, "checkpoint_format", &version));
    AWQ__TRY(awq__cfg_str(ctx, j, q, "backend", &backend));
    if (!version) version = gptq ? "gptq" : "gemm";
    for (i = 0; version[i] && i < sizeof lower - 1; i++)
        lower[i] = (char)(version[i] >= 'A' && version[i] <= 'Z' ? version[i] + 32 : version[i]);
    lower[i] = 0;
    if (!gptq && backend && !strcmp(backend, "llm-awq")) out->layout = AWQ_LAYOUT_GEMV_FAST;
    else out->layout = awq_layout_from_name(lower);
    if (gptq ? out->layout != AWQ_LAYOUT_GPTQ && out->layout != AWQ_LAYOUT_GPTQ_V2
             : out->layout < AWQ_LAYOUT_GEMM || out->layout > AWQ_LAYOUT_MARLIN)
        return awq__quant_unknown(ctx, j, gptq ? "checkpoint_format" : "version", version,
                                  gptq ? "gptq, gptq_v2" : "gemm, gemv, gemv_fast, llm-awq, marlin");
    return AWQ_OK;
}

static awq_status awq__quant_compressed(awq_ctx *ctx, const awq__json *j, uint32_t q, awq_quant_config *out)
{
    static const char *const refused[] = {"transform_config", "sparsity_config"};
    uint32_t groups = 0, group, weights = 0;
    const char *format, *s;
    int64_t bits;
    size_t i;
    for (i = 0; i < 2; i++)
        if (awq__json_count(j, awq__cfg_get(j, q, refused[i])))
            return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: quantization %s is not supported", j->name,
                             refused[i]);
    AWQ__TRY(awq__cfg_object(ctx, j, q, "config_groups", &groups));
    if (awq__json_count(j, groups) != 1)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: quantization config_groups has %lu groups, only one is "
                         "supported", j->name, (unsigned long)awq__json_count(j, groups));
    group = awq__json_first(j, groups);
    AWQ__TRY(awq__cfg_str(ctx, j, group, "format", &format));
    if (!format) AWQ__TRY(awq__cfg_str(ctx, j, q, "format", &format));
    if (!format || strcmp(format, "pack-quantized"))
        return awq__quant_unknown(ctx, j, "format", format ? format : "", "pack-quantized");
    if (awq__cfg_get(j, group, "input_activations"))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: quantized activations (input_activations) are not "
                         "supported", j->name);
    AWQ__TRY(awq__cfg_object(ctx, j, group, "weights", &weights));
    AWQ__TRY(awq__cfg_int(ctx, j, weights, "num_bits", 1, 16, -1, &bits));
    if (bits != 4 && bits != 8)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: quantization num_bits is %lld, only 4 and 8 are "
                         "supported", j->name, (long long)bits);
    AWQ__TRY(awq__cfg_str(ctx, j, weights, "type", &s));
    if (s && strcmp(s, "int")) return awq__quant_unknown(ctx, j, "type", s, "int");
    AWQ__TRY(awq__cfg_bool(ctx, j, weights, "symmetric", 1, &out->symmetric));
    AWQ__TRY(awq__cfg_int(ctx, j, weights, "group_size", -1, 1 << 24, -2, &out->group_size));
    AWQ__TRY(awq__cfg_str(ctx, j, weights, "strategy", &s));
    if (!s) s = out->group_size > 0 ? "group" : "channel";
    if (!strcmp(s, "channel")) out->group_size = -1;
    else if (strcmp(s, "group")) return awq__quant_unknown(ctx, j, "strategy", s, "group, channel");
    if (out->group_size != -1 && out->group_size < 1)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: quantization group_size is missing or 0", j->name);
    out->bits = (int)bits;
    out->layout = AWQ_LAYOUT_COMPRESSED_TENSORS;
    return AWQ_OK;
}

static awq_status awq__quant_read(awq_ctx *ctx, const awq__json *j, uint32_t q, awq_quant_config *out)
{
    const char *method;
    awq_status st;
    if (awq__json_is(j, q) != AWQ__J_OBJ)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: the quantization config is not an object", j->name);
    AWQ__TRY(awq__cfg_str(ctx, j, q, "quant_method", &method));
    /* side files of old checkpoints do not say; only GPTQ has desc_act */
    if (!method) method = awq__json_get(j, q, "desc_act") ? "gptq" : "awq";
    if (!strcmp(method, "awq")) st = awq__quant_flat(ctx, j, q, 0, out);
    else if (!strcmp(method, "gptq")) st = awq__quant_flat(ctx, j, q, 1, out);
    else if (!strcmp(method, "compressed-tensors")) st = awq__quant_compressed(ctx, j, q, out);
    else st = awq__quant_unknown(ctx, j, "quant_method", method, "awq, gptq, compressed-tensors");
    if (!st) out->present = 1;
    return st;
}

/* --- tensors */
/* template with its `{}` replaced, then suffix */
static const char *awq__ck_name(char out[256], const char *pattern, int layer, const char *suffix)
{
    const char *gap = strstr(pattern, "{}");
    if (gap) snprintf(out, 256, "%.*s%d%s%s", (int)(gap - pattern), pattern, layer, gap + 2, suffix);
    else snprintf(out, 256, "%s%s", pattern, suffix);
    return out;
}

/* The tensor called name; it must have this shape and type (AWQ_DTYPE_NONE: any of the real ones). */
static awq_status awq__ck_need(awq_ctx *ctx, const awq_checkpoint *ck, const char *name, awq_dtype dtype,
                               int ndim, const int64_t *shape, const awq_tensor **out)
{
    const awq_tensor *t = awq_tensors_find(ck->tensors, name);
    char found[200], wanted[200];
    int k, same;
    if (!t) return awq__fail(ctx, AWQ_E_FORMAT, "%s: tensor \"%s\" is missing", ck->folder, name);
    same = t->ndim == ndim;
    for (k = 0; k < ndim && same; k++) same = t->shape[k] == shape[k];
    if (!same || (dtype ? t->dtype != dtype : !awq__is_real(t->dtype)))
        return awq__fail(ctx, same && !dtype ? AWQ_E_UNSUPPORTED : AWQ_E_FORMAT,
                         "%s: tensor \"%s\" is %s %s, expected %s %s", awq_tensors_file(ck->tensors, t->file),
                         name, awq_dtype_name(t->dtype), awq__st_shape(t->shape, t->ndim, found, sizeof found),
                         !dtype && same ? "F32, F16, BF16 or F64" : awq_dtype_name(dtype ? dtype : t->dtype),
                         awq__st_shape(shape, ndim, wanted, sizeof wanted));
    *out = t;
    return AWQ_OK;
}

/* [out_features, in_features] of a linear, and whether it has a bias */
static int awq__ck_linear_shape(const awq_config *c, awq_linear_id id, int64_t *out, int64_t *in)
{
    const awq_family *f = c->family;
    int64_t q = (int64_t)c->num_attention_heads * c->head_dim;
    *out = *in = c->hidden_size;
    if (id == AWQ_Q_PROJ) *out = q;
    else if (id == AWQ_K_PROJ || id == AWQ_V_PROJ) *out = (int64_t)c->num_key_value_heads * c->head_dim;
    else if (id == AWQ_O_PROJ) *in = q;
    else if (id == AWQ_DOWN_PROJ) *in = c->intermediate_size;
    else *out = c->intermediate_size;
    if (id > AWQ_O_PROJ) return f->mlp_bias < 0 ? c->mlp_bias : f->mlp_bias;
    if (id == AWQ_O_PROJ) return f->o_bias < 0 ? c->attention_bias : f->o_bias;
    return f->qkv_bias < 0 ? c->attention_bias : f->qkv_bias;
}

/* the last error, with folder and linear in front */
static awq_status awq__ck_prefix(awq_ctx *ctx, const awq_checkpoint *ck, const char *linear)
{
    awq_error e = ctx->err;
    return awq__fail(ctx, e.status, "%s: %s: %.700s", ck->folder, linear, e.text);
}

/* l->packed and l->part as this layout and group size (-1: whole row) want them, checked against the tensors */
static awq_status awq__ck_parts(awq_ctx *ctx, const awq_checkpoint *ck, awq_layout layout, int64_t group,
                                awq_linear_info *l)
{
    const awq_tensor *scales;
    awq_qweight w;
    char name[256];
    int i;
    memset(&w, 0, sizeof w);
    w.out_features = l->out_features;
    w.in_features = l->in_features;
    w.group_size = group < 0 ? l->in_features : group;
    w.bits = ck->quant.bits;
    w.symmetric = ck->quant.symmetric;
    snprintf(name, sizeof name, "%s.%s", l->name,
             layout == AWQ_LAYOUT_COMPRESSED_TENSORS ? "weight_scale" : "scales");
    scales = awq_tensors_find(ck->tensors, name);
    w.scale_dtype = scales && (scales->dtype == AWQ_BF16 || scales->dtype == AWQ_F32) ? scales->dtype : AWQ_F16;
    if (awq_layout_describe(ctx, layout, &w, &l->packed)) return awq__ck_prefix(ctx, ck, l->name);
    for (i = 0; i < l->packed.n_tensors; i++) {
        const awq_packed_tensor *p = &l->packed.tensor[i];
        snprintf(name, sizeof name, "%s.%s", l->name, p->suffix);
        if (layout == AWQ_LAYOUT_GEMV_FAST && !strcmp(p->suffix, "qzeros")
            && !awq_tensors_find(ck->tensors, name))
            snprintf(name, sizeof name, "%s.scaled_zeros", l->name); /* llm-awq's word for it */
        AWQ__TRY(awq__ck_need(ctx, ck, name, p->dtype, p->ndim, p->shape, &l->part[i]));
    }
    if (layout != AWQ_LAYOUT_COMPRESSED_TENSORS) return AWQ_OK;
    snprintf(name, sizeof name, "%s.weight_g_idx", l->name);
    if (awq_tensors_find(ck->tensors, name))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: %s: columns in activation order are not supported",
                         ck->folder, name);
    return AWQ_OK;
}

/* The tensors decide over the version that the config states: it was not always right, and shapes tell. */
static void awq__ck_settle_layout(awq_ctx *ctx, awq_checkpoint *ck)
{
    awq_linear_info l;
    char name[256];
    int layer, id, k;
    if (ck->quant.layout < AWQ_LAYOUT_GEMM || ck->quant.layout > AWQ_LAYOUT_MARLIN) return;
    for (layer = 0; layer < ck->config.num_hidden_layers; layer++)
        for (id = 0; id < AWQ_N_LINEARS; id++) {
            const char *pattern = ck->config.family->linear[id];
            memset(&l, 0, sizeof l);
            if (!awq_tensors_find(ck->tensors, awq__ck_name(name, pattern, layer, ".qweight"))) continue;
            snprintf(l.name, sizeof l.name, "%.180s", awq__ck_name(name, pattern, layer, ""));
            awq__ck_linear_shape(&ck->config, (awq_linear_id)id, &l.out_features, &l.in_features);
            if (!awq__ck_parts(ctx, ck, ck->quant.layout, ck->quant.group_size, &l)) return;
            for (k = AWQ_LAYOUT_GEMM; k <= AWQ_LAYOUT_MARLIN; k++) {
                if (awq__ck_parts(ctx, ck, (awq_layout)k, ck->quant.group_size, &l)) continue;
                awq__log(ctx, AWQ_LOG_WARN, "%s: the quantization config says %s, the tensors are %s",
                         ck->folder, awq_layout_name(ck->quant.layout), awq_layout_name((awq_layout)k));
                ck->quant.layout = (awq_layout)k;
                return;
            }
            return; /* awq_checkpoint_linear says what is wrong */
        }
}

AWQ_API awq_status awq_checkpoint_linear(awq_ctx *ctx, const awq_checkpoint *ck, int layer, awq_linear_id id,
                                         awq_linear_info *info)
{
    static const int64_t groups[] = {16, 32, 64, 128, 256, 512, 1024, -1};
    awq_linear_info l;
    char name[256];
    int64_t shape[2];
    const char *pattern;
    int bias;
    if (layer < 0 || layer >= ck->config.num_hidden_layers || (int)id < 0 || id >= AWQ_N_LINEARS)
        return awq__fail(ctx, AWQ_E_ARG, "awq_checkpoint_linear: there is no linear %d of layer %d", (int)id,
                         layer);
    memset(&l, 0, sizeof l);
    pattern = ck->config.family->linear[id];
    snprintf(l.name, sizeof l.name, "%.180s", awq__ck_name(name, pattern, layer, ""));
    bias = awq__ck_linear_shape(&ck->config, id, &l.out_features, &l.in_features);
    shape[0] = l.out_features;
    shape[1] = l.in_features;
    l.quantized = awq_tensors_find(ck->tensors, awq__ck_name(name, pattern, layer, ".qweight"))
                  || awq_tensors_find(ck->tensors, awq__ck_name(name, pattern, layer, ".weight_packed"));
    if (l.quantized && !ck->quant.present)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: %s is quantized, but there is no quantization_config",
                         ck->config_path, l.name);
    if (l.quantized) {
        awq_status st = awq__ck_parts(ctx, ck, ck->quant.layout, ck->quant.group_size, &l);
        awq_error e = ctx->err;
        size_t k;
        for (k = 0; st && k < sizeof groups / sizeof groups[0]; k++)
            if (!awq__ck_parts(ctx, ck, ck->quant.layout, groups[k], &l))
                return awq__fail(ctx, AWQ_E_FORMAT, "%s: group_size is %lld, but the shapes of %s are those of "
                                 "group_size %lld", ck->config_path, (long long)ck->quant.group_size,
                                 l.name, (long long)groups[k]);
        ctx->err = e;
        AWQ__TRY(st);
    } else {
        AWQ__TRY(awq__ck_need(ctx, ck, awq__ck_name(name, pattern, layer, ".weight"), AWQ_DTYPE_NONE, 2,
                              shape, &l.weight));
    }
    if (bias)
        AWQ__TRY(awq__ck_need(ctx, ck, awq__ck_name(name, pattern, layer, ".bias"), AWQ_DTYPE_NONE, 1, shape,
                              &l.bias));
    *info = l;
    return AWQ_OK;
}

/* a norm's weight [n] */
static awq_status awq__ck_norm(awq_ctx *ctx, const awq_checkpoint *ck, const char *pattern, int layer,
                               int64_t n)
{
    const awq_tensor *t;
    char name[256];
    return awq__ck_need(ctx, ck, awq__ck_name(name, pattern, layer, ""), AWQ_DTYPE_NONE, 1, &n, &t);
}

static awq_status awq__ck_check(awq_ctx *ctx, const awq_checkpoint *ck)
{
    const awq_config *c = &ck->config;
    const awq_family *f = c->family;
    int64_t table[2];
    const awq_tensor *t;
    awq_linear_info info;
    int i, id;
    table[0] = c->vocab_size;
    table[1] = c->hidden_size;
    AWQ__TRY(awq__ck_need(ctx, ck, f->embed, AWQ_DTYPE_NONE, 2, table, &t));
    AWQ__TRY(awq__ck_norm(ctx, ck, f->final_norm, 0, c->hidden_size));
    if (!c->tie_word_embeddings) AWQ__TRY(awq__ck_need(ctx, ck, f->head, AWQ_DTYPE_NONE, 2, table, &t));
    for (i = 0; i < c->num_hidden_layers; i++) {
        AWQ__TRY(awq__ck_norm(ctx, ck, f->input_norm, i, c->hidden_size));
        AWQ__TRY(awq__ck_norm(ctx, ck, f->post_norm, i, c->hidden_size));
        if (f->qk_norm) AWQ__TRY(awq__ck_norm(ctx, ck, f->q_norm, i, c->head_dim));
        if (f->qk_norm) AWQ__TRY(awq__ck_norm(ctx, ck, f->k_norm, i, c->head_dim));
        for (id = 0; id < AWQ_N_LINEARS; id++)
            AWQ__TRY(awq_checkpoint_linear(ctx, ck, i, (awq_linear_id)id, &info));
    }
    return AWQ_OK;
}

/* --- opening */
#define AWQ__CONFIG_MAX ((size_t)16 << 20) /* bytes of a config file */

static awq_status awq__ck_config(awq_ctx *ctx, awq_checkpoint *ck)
{
    awq__json j;
    awq_status st;
    size_t bytes;
    uint32_t q;
    AWQ__TRY(awq__file_load(ctx, ck->config_path, AWQ__CONFIG_MAX, &ck->config_text, &bytes));
    AWQ__TRY(awq__json_parse(ctx, ck->config_path, ck->config_text, bytes, &j));
    st = awq__cfg_read(ctx, &j, &ck->config);
    q = awq__cfg_get(&j, 1, "quantization_config");
    if (!st && q) st = awq__quant_read(ctx, &j, q, &ck->quant);
    awq__json_free(ctx, &j);
    return st;
}

/* generation_config.json, and the quantization config of old checkpoints, where they are there */
static awq_status awq__ck_side_files(awq_ctx *ctx, awq_checkpoint *ck)
{
    static const char *const names[] = {"generation_config.json", "quant_config.json", "quantize_config.json"};
    awq_status st = AWQ_OK;
    int i;
    for (i = 0; i < 3 && !st && !(i && ck->quant.present); i++) {
        int there = awq__probe(ctx, ck->folder, names[i]);
        char *path = there > 0 ? awq__path_join(ctx, ck->folder, names[i]) : NULL;
        awq__json j;
        if (!there) continue;
        st = path ? awq__json_load(ctx, path, AWQ__CONFIG_MAX, &j) : ctx->err.status;
        if (!st) {
            st = i ? awq__quant_read(ctx, &j, 1, &ck->quant) : awq__cfg_eos(ctx, &j, &ck->config);
            awq__json_free(ctx, &j);
        }
        awq__free(ctx, path);
    }
    return st;
}

AWQ_API awq_status awq_checkpoint_open(awq_ctx *ctx, const char *folder, awq_checkpoint **ck)
{
    awq_checkpoint *c = AWQ__NEW(ctx, awq_checkpoint, 1);
    awq_status st;
    if (!c) return AWQ_E_MEMORY;
    c->folder = awq__path_join(ctx, "", folder);
    c->config_path = c->folder ? awq__path_join(ctx, folder, "config.json") : NULL;
    st = c->config_path ? awq__ck_config(ctx, c) : AWQ_E_MEMORY;
    if (!st) st = awq__ck_side_files(ctx, c);
    if (!st) st = awq_tensors_open(ctx, folder, &c->tensors);
    if (!st) {
        awq__ck_settle_layout(ctx, c);
        st = awq__ck_check(ctx, c);
    }
    if (st) awq_checkpoint_close(ctx, c);
    else *ck = c;
    return st;
}

AWQ_API void awq_checkpoint_close(awq_ctx *ctx, awq_checkpoint *ck)
{
    if (!ck) return;
    awq_tensors_close(ctx, ck->tensors);
    awq__free(ctx, ck->folder);
    awq__free(ctx, ck->config_path);
    awq__free(ctx, ck->config_text);
    awq__free(ctx, ck);
}

AWQ_API const awq_config *awq_checkpoint_config(const awq_checkpoint *ck) { return &ck->config; }
AWQ_API const awq_quant_config *awq_checkpoint_quant(const awq_checkpoint *ck) { return &ck->quant; }
AWQ_API awq_tensors *awq_checkpoint_tensors(const awq_checkpoint *ck) { return ck->tensors; }
AWQ_API const char *awq_checkpoint_folder(const awq_checkpoint *ck) { return ck->folder; }
AWQ_API const char *awq_checkpoint_config_text(const awq_checkpoint *ck) { return ck->config_text; }

AWQ_API awq_status awq_checkpoint_read_qweight(awq_ctx *ctx, awq_checkpoint *ck, const awq_linear_info *info,
                                               awq_qweight *w)
{
    awq_packed p = info->packed;
    void *own[4] = {NULL, NULL, NULL, NULL};
    awq_qweight q;
    awq_status st = AWQ_OK;
    int i;
    if (!info->quantized)
        return awq__fail(ctx, AWQ_E_ARG, "awq_checkpoint_read_qweight: %s is not quantized", info->name);
    memset(&q, 0, sizeof q);
    for (i = 0; i < p.n_tensors && !st; i++) {
        const awq_tensor *t = info->part[i];
        p.tensor[i].data = (void *)(uintptr_t)awq_tensors_map(ck->tensors, t); /* only read from */
        if (p.tensor[i].data) continue;
        p.tensor[i].data = own[i] = awq__alloc_raw(ctx, p.tensor[i].bytes, 1);
        st = own[i] ? awq_tensors_read(ctx, ck->tensors, t, 0, own[i], p.tensor[i].bytes) : AWQ_E_MEMORY;
    }
    if (!st) st = awq_qweight_alloc(ctx, p.out_features, p.in_features, p.bits, p.group_size, p.symmetric, &q);
    if (!st) {
        st = awq_unpack(ctx, &p, &q);
        if (st) st = awq__ck_prefix(ctx, ck, info->name);
    }
    for (i = 0; i < 4; i++) awq__free(ctx, own[i]);
    if (st) awq_qweight_free(ctx, &q);
    else *w = q;
    return st;
}
/* -------------------------------------------------------------------------------------------------------------
   MARK: >>unicode
   Categories of code points, as the regexes of tokenizers ask for them, normalization forms C and D (UAX #15)
   by Unicode 9 as the reference has them, and the regular part of case mapping.
   Invariants: text is valid UTF-8 before and after; linear in the text (combining marks have a counting sort).
   The tables between the markers come from tools/unicode.c; `unicode --check awq.h ...` compares them.
   Tests: tests/test_unicode.c */

/* BEGIN GENERATED unicode (tools/unicode.c, Unicode 16.0.0) */
/* runs of one category: first code point * 16 + category; 15: Lu, Ll, Lu, ... in turns */
static const uint32_t awq__uni_runs[] = {
    0,539,588,603,700,715,775,939,972,1019,1041,1467,1516,1530,1548,1554,1979,1996,2011,2028,2032,2587,2604,
    2683,2700,2725,2747,2764,2768,2796,2857,2892,2898,2923,2956,2969,2981,3003,3017,3067,3073,3452,3457,3570,
    3964,3970,4111,4994,5023,5266,5295,6047,6130,6161,6194,6209,6226,6241,6274,6289,6338,6369,6434,6449,6482,
    6497,6546,6593,6626,6641,6674,6703,6783,6834,6849,6866,6881,6914,6929,6978,6993,7010,7025,7058,7093,7105,
    7122,7173,7233,7251,7266,7281,7299,7314,7329,7347,7362,7391,7634,7663,7938,7953,7971,7986,8001,8018,8033,
    8082,8111,9026,9121,9154,9169,9202,9233,9250,9265,9330,9359,9474,10565,10578,11012,11308,11364,11564,11780,
    11868,11972,11996,12004,12028,12294,14095,14148,14172,14177,14194,14208,14244,14258,14315,14321,14336,14412,
    14433,14459,14465,14512,14529,14544,14561,14594,14609,14880,14897,15042,15601,15618,15649,15698,15759,16130,
    16193,16210,16236,16241,16258,16273,16306,16337,17154,17935,18476,18486,18607,19487,19698,19727,21248,21265,
    21872,21908,21931,22018,22683,22704,22748,22784,22806,23531,23542,23563,23574,23611,23622,23659,23670,23680,
    23813,24240,24309,24379,24400,24684,24731,24764,24779,24812,24838,25019,25024,25051,25093,25604,25621,25782,
    26119,26283,26341,26374,26389,27979,27989,28006,28112,28140,28150,28244,28278,28316,28326,28389,28423,28581,
    28636,28661,28683,28896,28933,28950,28965,29446,29872,29909,31334,31509,31520,31751,31909,32438,32580,32620,
    32635,32676,32688,32726,32748,32773,33126,33188,33206,33348,33366,33412,33430,33504,33547,33776,33797,34198,
    34240,34283,34288,34309,34480,34565,34956,34965,35056,35190,35333,35988,36006,36384,36406,36933,37798,37845,
    37862,38149,38166,38277,38438,38475,38503,38667,38676,38693,38934,38976,38997,39120,39157,39184,39221,39568,
    39589,39696,39717,39728,39781,39840,39878,39893,39910,40016,40054,40080,40118,40165,40176,40310,40320,40389,
    40416,40437,40486,40512,40551,40709,40748,40777,40876,40901,40923,40934,40944,40982,41024,41045,41136,41205,
    41232,41269,41616,41637,41744,41765,41792,41813,41840,41861,41888,41926,41936,41958,42032,42102,42128,42166,
    42208,42262,42272,42389,42448,42469,42480,42599,42758,42789,42838,42859,42864,43030,43072,43093,43232,43253,
    43296,43317,43664,43685,43792,43813,43840,43861,43936,43974,43989,44006,44128,44150,44192,44214,44256,44293,
    44304,44549,44582,44608,44647,44811,44828,44832,44949,44966,45056,45078,45120,45141,45264,45301,45328,45365,
    45712,45733,45840,45861,45888,45909,45984,46022,46037,46054,46160,46198,46224,46262,46304,46422,46464,46533,
    46560,46581,46630,46656,46695,46860,46869,46889,46976,47142,47157,47168,47189,47280,47333,47376,47397,47456,
    47509,47536,47557,47568,47589,47616,47669,47696,47749,47792,47845,48032,48102,48176,48230,48272,48294,48352,
    48389,48400,48502,48512,48743,48905,48956,49072,49158,49237,49360,49381,49424,49445,49808,49829,50080,50118,
    50133,50150,50256,50278,50320,50342,50400,50518,50544,50565,50608,50645,50656,50693,50726,50752,50791,50944,
    51067,51081,51196,51205,51222,51275,51285,51408,51429,51472,51493,51856,51877,52032,52053,52128,52166,52181,
    52198,52304,52326,52368,52390,52448,52566,52592,52693,52720,52741,52774,52800,52839,52992,53013,53046,53056,
    53254,53317,53456,53477,53520,53541,54198,54229,54246,54352,54374,54416,54438,54501,54524,54528,54597,54646,
    54665,54773,54822,54848,54887,55049,55196,55205,55296,55318,55360,55381,55664,55717,56096,56117,56256,56277,
    56288,56325,56432,56486,56496,56566,56656,56678,56688,56710,56832,56935,57088,57126,57163,57168,57365,58134,
    58149,58182,58288,58364,58373,58468,58486,58619,58631,58795,58816,59413,59440,59461,59472,59493,59568,59589,
    59968,59989,60000,60021,60182,60197,60230,60373,60384,60421,60496,60516,60528,60550,60656,60679,60832,60869,
    60928,61445,61468,61515,61756,61771,61788,61830,61868,61959,62121,62284,62294,62316,62326,62348,62358,62379,
    62438,62469,62592,62613,63184,63254,63579,63590,63621,63702,63872,63894,64464,64492,64614,64636,64720,64748,
    64779,64860,64923,64944,65541,66230,66549,66567,66731,66821,66918,66981,67046,67093,67110,67157,67190,67301,
    67350,67413,67622,67813,67830,67847,68006,68076,68097,68704,68721,68736,68817,68832,68866,69563,69572,69586,
    69637,74896,74917,74976,75013,75120,75141,75152,75173,75232,75269,75920,75941,76000,76037,76560,76581,76640,
    76677,76784,76805,76816,76837,76896,76933,77168,77189,78096,78117,78176,78213,79280,79318,79371,79513,79824,
    79877,80140,80288,80385,81760,81794,81888,81931,81941,91868,91883,91893,92160,92181,92603,92624,92677,93883,
    93928,93973,94096,94213,94502,94560,94709,95014,95067,95088,95237,95526,95552,95749,95952,95973,96016,96038,
    96064,96261,97094,97611,97652,97675,97724,97733,97750,97760,97799,97952,98057,98208,98315,98486,98528,98550,
    98567,98720,98821,99380,99397,100240,100357,100438,100469,101014,101029,101040,101125,102240,102405,102896,
    102918,103104,103174,103360,103436,103440,103499,103527,103685,104160,104197,104272,104453,105152,105221,
    105632,105735,105897,105904,105964,106501,106870,106944,106987,107013,107862,108016,108038,108496,108534,
    108551,108704,108807,108960,109067,109172,109195,109280,109318,109808,110598,110677,111430,111701,111824,
    111851,111879,112043,112156,112310,112460,112603,112646,112693,113174,113381,113415,113573,114278,114496,
    114635,114693,115270,115584,115643,115719,115872,115925,115975,116133,116612,116715,116738,116881,116898,
    116912,116993,117680,117713,117771,117888,118022,118075,118086,118421,118486,118501,118598,118613,118646,
    118693,118704,118786,119492,120498,120708,120722,121268,121862,122895,125282,125423,126978,127105,127234,
    127328,127361,127456,127490,127617,127746,127873,128002,128096,128129,128224,128258,128384,128401,128416,
    128433,128448,128465,128480,128497,128514,128641,128770,128992,129026,129155,129282,129411,129538,129667,
    129794,129872,129890,129921,129987,130012,130018,130044,130082,130128,130146,130177,130243,130268,130306,
    130368,130402,130433,130496,130524,130562,130689,130780,130816,130850,130896,130914,130945,131011,131036,
    131056,131339,131712,131851,132090,132123,132172,132187,132396,132411,132426,132443,132592,132873,132884,
    132896,132937,133036,133083,133108,133129,133292,133339,133360,133380,133584,133644,134160,134406,134928,
    135180,135201,135228,135281,135308,135330,135345,135394,135425,135474,135500,135505,135532,135569,135660,
    135745,135772,135777,135804,135809,135836,135841,135916,135922,135937,136002,136021,136082,136108,136130,
    136161,136204,136273,136290,136364,136418,136444,136457,136712,137265,137282,137304,137369,137388,137408,
    137484,143499,143564,144027,144060,148128,148492,148656,149001,149964,151209,151564,161419,161641,162124,
    162907,162940,163435,163596,170043,170396,171403,171468,171979,172012,177984,178028,178528,178556,180225,
    180994,181761,181778,181793,181842,181887,181985,182034,182049,182066,182097,182114,182212,182241,182290,
    182319,183874,183900,183999,184054,184097,184114,184128,184219,184281,184299,184322,184928,184946,184960,
    185042,185056,185093,185984,186100,186123,186128,186358,186373,186736,186885,186992,187013,187120,187141,
    187248,187269,187376,187397,187504,187525,187632,187653,187760,187781,187888,187910,188427,189172,189195,
    189708,189739,189920,190476,190880,190908,192320,192524,195936,196364,196608,196635,196684,196692,196709,
    196728,196747,196908,196939,197132,197144,197286,197387,197396,197484,197512,197556,197573,197595,197612,
    197632,197653,199024,199062,199100,199124,199157,199179,199189,200635,200644,200693,200704,200789,201472,
    201493,202992,203020,203049,203116,203269,203788,204384,204540,204549,204812,205296,205321,205484,205961,
    206092,206105,206348,206857,207020,207641,207884,212997,318476,319493,655700,655717,674000,674060,674928,
    675077,675716,675819,675845,680132,680155,680197,680455,680613,680640,680975,681701,681718,681787,681798,
    681963,681972,681999,682436,682470,682501,683624,683782,683819,683904,684044,684404,684556,684591,684802,
    684847,685828,685842,685983,686063,686212,686236,686271,686325,686351,686402,686447,686769,686834,686849,
    686930,686959,687185,687234,687249,687266,687281,687314,687328,687361,687378,687392,687410,687424,687442,
    687471,687568,687908,687953,687970,687989,688004,688034,688053,688166,688181,688230,688245,688310,688325,
    688694,688780,688838,688848,688905,689004,689056,689157,689995,690048,690182,690213,691014,691296,691435,
    691463,691616,691718,692005,692107,692149,692171,692181,692214,692231,692389,692838,692971,692997,693366,
    693568,693755,693765,694224,694278,694341,695094,695323,695520,695540,695559,695712,695787,695813,695894,
    695908,695925,696071,696229,696304,696325,696982,697200,697349,697398,697413,697542,697568,697607,697760,
    697803,697861,698116,698133,698236,698277,698294,698341,699142,699157,699174,699221,699254,699285,699366,
    699397,699414,699429,699440,699829,699860,699883,699909,700086,700171,700197,700212,700246,700272,700437,
    700528,700565,700656,700693,700784,700933,701040,701061,701168,701186,701884,701892,701954,702100,702124,
    702144,702210,703493,704054,704187,704198,704224,704263,704416,704517,883264,883461,883824,883893,884672,
    1019909,1025760,1025797,1027488,1028098,1028208,1028402,1028480,1028565,1028582,1028597,1028764,1028773,
    1028976,1028997,1029072,1029093,1029104,1029125,1029152,1029173,1029200,1029221,1030956,1031216,1031477,
    1037291,1037324,1037573,1038592,1038629,1039488,1039612,1039616,1040133,1040332,1040390,1040651,1040800,
    1040902,1041163,1041210,1041243,1041626,1041675,1041712,1041739,1041964,1041979,1041996,1042032,1042059,
    1042076,1042091,1042112,1042181,1042256,1042277,1044432,1044507,1044556,1044571,1044668,1044683,1044743,
    1044907,1044940,1044987,1045009,1045435,1045484,1045498,1045516,1045522,1045947,1045964,1045979,1045996,
    1046011,1046117,1046276,1046293,1047012,1047045,1047536,1047589,1047680,1047717,1047808,1047845,1047936,
    1047973,1048016,1048076,1048176,1048204,1048304,1048524,1048544,1048581,1048768,1048789,1049200,1049221,
    1049520,1049541,1049568,1049589,1049824,1049861,1050080,1050629,1052592,1052683,1052720,1052793,1053504,
    1053564,1053704,1054553,1054620,1054889,1054924,1054960,1054988,1055184,1055244,1055248,1056012,1056726,
    1056736,1058821,1059280,1059333,1060112,1060358,1060377,1060800,1060869,1061385,1061440,1061589,1061912,
    1061925,1062056,1062064,1062149,1062758,1062832,1062917,1063392,1063419,1063429,1064000,1064069,1064203,
    1064216,1064288,1064961,1065602,1066245,1067488,1067527,1067680,1067777,1068352,1068418,1068992,1069061,
    1069696,1069829,1070656,1070843,1070849,1071024,1071041,1071280,1071297,1071408,1071425,1071456,1071474,
    1071648,1071666,1071904,1071922,1072032,1072050,1072080,1072133,1072960,1073157,1078128,1078277,1078624,
    1078789,1078912,1079300,1079392,1079412,1080080,1080100,1080240,1081349,1081440,1081477,1081488,1081509,
    1082208,1082229,1082256,1082309,1082320,1082357,1082720,1082747,1082761,1082885,1083260,1083289,1083397,
    1083888,1084025,1084160,1084933,1085232,1085253,1085280,1085369,1085445,1085801,1085888,1085947,1085957,
    1086368,1086459,1086464,1087493,1088384,1088457,1088485,1088521,1088768,1088809,1089541,1089558,1089600,
    1089622,1089648,1089734,1089797,1089856,1089877,1089920,1089941,1090400,1090438,1090480,1090550,1090569,
    1090704,1090827,1090960,1091077,1091545,1091579,1091589,1092057,1092096,1092613,1092748,1092757,1093206,
    1093232,1093305,1093387,1093488,1093637,1094496,1094555,1094661,1095008,1095049,1095173,1095472,1095561,
    1095685,1095968,1096091,1096144,1096345,1096448,1097733,1098896,1099777,1100592,1100802,1101616,1101737,
    1101829,1102406,1102464,1102599,1102752,1102855,1103013,1103076,1103093,1103105,1103456,1103510,1103595,
    1103604,1103618,1103968,1104108,1104128,1107465,1107952,1107973,1108640,1108662,1108699,1108704,1108741,
    1108768,1109029,1109072,1109958,1110021,1110489,1110645,1110656,1110789,1111142,1111321,1111387,1111456,
    1111813,1112102,1112171,1112224,1112837,1113177,1113280,1113605,1113968,1114118,1114165,1115014,1115259,
    1115360,1115433,1115751,1115910,1115925,1115958,1115989,1116000,1116150,1116213,1116934,1117115,1117136,
    1117163,1117222,1117232,1117445,1117840,1117959,1118112,1118214,1118261,1118838,1119056,1119079,1119243,
    1119301,1119318,1119349,1119360,1119493,1120054,1120075,1120101,1120112,1120262,1120309,1121078,1121301,
    1121371,1121430,1121499,1121510,1121543,1121701,1121723,1121733,1121755,1121792,1121817,1122128,1122309,
    1122592,1122613,1123014,1123211,1123302,1123317,1123350,1123360,1124357,1124464,1124485,1124496,1124517,
    1124576,1124597,1124832,1124853,1125019,1125024,1125125,1125878,1126064,1126151,1126304,1126406,1126464,
    1126485,1126608,1126645,1126672,1126709,1127056,1127077,1127184,1127205,1127232,1127253,1127328,1127350,
    1127381,1127398,1127504,1127542,1127568,1127606,1127648,1127685,1127696,1127798,1127808,1127893,1127974,
    1128000,1128038,1128144,1128198,1128272,1128453,1128608,1128629,1128640,1128677,1128688,1128709,1129312,
    1129333,1129350,1129488,1129510,1129520,1129558,1129568,1129590,1129648,1129670,1129749,1129766,1129781,
    1129803,1129824,1129851,1129872,1130006,1130032,1130501,1131350,1131637,1131707,1131783,1131947,1131968,
    1131995,1132006,1132021,1132064,1132549,1133318,1133637,1133675,1133685,1133696,1133831,1133984,1136645,
    1137398,1137504,1137542,1137691,1138053,1138118,1138144,1138693,1139462,1139739,1139781,1139792,1139975,
    1140128,1140235,1140432,1140741,1141430,1141637,1141659,1141664,1141767,1141920,1142023,1142336,1142789,
    1143216,1143254,1143488,1143559,1143721,1143755,1143804,1143813,1143920,1146885,1147590,1147835,1147840,
    1149441,1149954,1150471,1150633,1150768,1150965,1151088,1151125,1151136,1151173,1151296,1151317,1151344,
    1151365,1151750,1151840,1151862,1151888,1151926,1151989,1152006,1152021,1152038,1152075,1152112,1152263,
    1152416,1153541,1153664,1153701,1154326,1154432,1154470,1154581,1154603,1154613,1154630,1154640,1155077,
    1155094,1155253,1155894,1156005,1156022,1156091,1156214,1156224,1156357,1156374,1156549,1157286,1157547,
    1157589,1157611,1157680,1157893,1159056,1159179,1159328,1162245,1162779,1162784,1163015,1163168,1163269,
    1163408,1163429,1164022,1164144,1164166,1164293,1164315,1164384,1164551,1164713,1165008,1165067,1165093,
    1165568,1165606,1165952,1165974,1166192,1167365,1167472,1167493,1167520,1167541,1168150,1168240,1168294,
    1168304,1168326,1168352,1168374,1168485,1168502,1168512,1168647,1168800,1168901,1168992,1169013,1169040,
    1169061,1169574,1169648,1169670,1169696,1169718,1169797,1169808,1169927,1170080,1175045,1175350,1175419,
    1175440,1175558,1175589,1175606,1175621,1175824,1175845,1176390,1176496,1176550,1176635,1176839,1176998,
    1177008,1178373,1178384,1178633,1178972,1179424,1179643,1179653,1194400,1196040,1197808,1197835,1197904,
    1198085,1201216,1243397,1244955,1244976,1245189,1262336,1262598,1262613,1262710,1262944,1263109,1327024,
    1327109,1336432,1445893,1446374,1446663,1446816,1474565,1483664,1483781,1484272,1484295,1484448,1484523,
    1484549,1485808,1485831,1485984,1486085,1486560,1486598,1486683,1486688,1486853,1487622,1487739,1487820,
    1487876,1487947,1487964,1487968,1488135,1488288,1488313,1488416,1488437,1488768,1488853,1489152,1496068,
    1496117,1496756,1496795,1496839,1496992,1500161,1500674,1501193,1501563,1501616,1503237,1504432,1504502,
    1504517,1504534,1505408,1505526,1505588,1505792,1506820,1506859,1506868,1506886,1506896,1507078,1507104,
    1507333,1605504,1605637,1625440,1626101,1626256,1769220,1769280,1769300,1769408,1769428,1769456,1769477,
    1774128,1774373,1774384,1774853,1774896,1774933,1774944,1775173,1775232,1775365,1781696,1818629,1820336,
    1820421,1820624,1820677,1820816,1820933,1821088,1821132,1821142,1821179,1821184,1884172,1888007,1888160,
    1888268,1895232,1896454,1897184,1897222,1897584,1897740,1899584,1900556,1904480,1904652,1905264,1905308,
    1906262,1906348,1906390,1906480,1906614,1906748,1906774,1906892,1907366,1907436,1908400,1908748,1909798,
    1909852,1909856,1911817,1912128,1912329,1912640,1912844,1914224,1914377,1914768,1916929,1917346,1917761,
    1918178,1918288,1918306,1918593,1919010,1919425,1919440,1919457,1919488,1919521,1919536,1919569,1919600,
    1919633,1919696,1919713,1919842,1919904,1919922,1919936,1919954,1920064,1920082,1920257,1920674,1921089,
    1921120,1921137,1921200,1921233,1921360,1921377,1921488,1921506,1921921,1921952,1921969,1922032,1922049,
    1922128,1922145,1922160,1922209,1922320,1922338,1922753,1923170,1923585,1924002,1924417,1924834,1925249,
    1925666,1926081,1926498,1926913,1927330,1927776,1927809,1928220,1928226,1928636,1928642,1928737,1929148,
    1929154,1929564,1929570,1929665,1930076,1930082,1930492,1930498,1930593,1931004,1931010,1931420,1931426,
    1931521,1931932,1931938,1932348,1932354,1932449,1932466,1932480,1932519,1933324,1941510,1942396,1942454,
    1943260,1943382,1943404,1943622,1943644,1943675,1943744,1943990,1944064,1944086,1944320,1961986,1962149,
    1962162,1962480,1962578,1962672,1966086,1966192,1966214,1966480,1966518,1966624,1966646,1966672,1966694,
    1966768,1966852,1967840,1968374,1968384,1970181,1970896,1970950,1971060,1971168,1971207,1971360,1971429,
    1971452,1971456,1976581,1977062,1977072,1977349,1978054,1978119,1978272,1978364,1978368,1985797,1986228,
    1986246,1986311,1986464,1989893,1990374,1990405,1990423,1990576,1990651,1990656,1998341,1998448,1998469,
    1998528,1998549,1998576,1998597,1998832,1998853,2002000,2002041,2002182,2002288,2002945,2003490,2004038,
    2004148,2004160,2004231,2004384,2004459,2004480,2017049,2017996,2018009,2018060,2018073,2018128,2019353,
    2020076,2020089,2020320,2023429,2023488,2023509,2023936,2023957,2023984,2024005,2024016,2024053,2024064,
    2024085,2024240,2024261,2024320,2024341,2024352,2024373,2024384,2024485,2024496,2024565,2024576,2024597,
    2024608,2024629,2024640,2024661,2024704,2024725,2024752,2024773,2024784,2024821,2024832,2024853,2024864,
    2024885,2024896,2024917,2024928,2024949,2024960,2024981,2025008,2025029,2025040,2025077,2025136,2025157,
    2025264,2025285,2025344,2025365,2025424,2025445,2025456,2025477,2025632,2025653,2025920,2026005,2026048,
    2026069,2026144,2026165,2026432,2027276,2027296,2031628,2032320,2032396,2033984,2034188,2034416,2034460,
    2034688,2034716,2034944,2034972,2035552,2035721,2035932,2038496,2039404,2039856,2040076,2040768,2040844,
    2040976,2041100,2041120,2041356,2041440,2043916,2059648,2059724,2059984,2060044,2060240,2060300,2062192,
    2062268,2063776,2063884,2064064,2064140,2064144,2064396,2064576,2064652,2065536,2065676,2065824,2065932,
    2066560,2066700,2067168,2067212,2067392,2067468,2067488,2068492,2073920,2074124,2074336,2074380,2074576,
    2074636,2074784,2074876,2075760,2075884,2076112,2076156,2076320,2076428,2076560,2076684,2079024,2079052,
    2080519,2080672,2097157,2780672,2781189,2847648,2847749,2851296,2851333,2943520,2943749,3063312,3063557,
    3073504,3112965,3121632,3145733,3224752,3224837,3291904,14684166,14688000,
};
/* runs of one combining class: first code point * 256 + class */
static const uint32_t awq__uni_combining[] = {
    0,196838,202216,202460,203496,203736,203996,205258,205788,206794,207324,209921,211420,212454,214512,214758,
    215004,215782,216540,216832,217318,218076,219110,219368,219612,220134,220393,220650,221161,221418,221929,
    222182,225280,295910,296960,365020,365286,366300,366566,367326,367580,367846,369372,370918,371420,371686,
    372190,372452,372710,372746,373003,373260,373517,373774,374031,374288,374545,374802,375059,375572,375829,
    376086,376320,376599,376832,377112,377369,377600,378086,378332,378368,378642,378880,397542,399390,399647,
    399904,400128,412443,412700,412957,413214,413471,413728,413985,414242,414694,415196,415718,416988,417254,
    417756,417792,421923,422144,448230,449792,450534,451548,451814,451840,452582,452864,453340,453606,454108,
    454144,463140,463360,471270,471516,471782,472284,472550,473052,473830,474076,474598,474844,475110,475868,
    476134,476380,476646,476892,477158,477404,477670,477952,519142,520924,521190,521216,530150,530944,531430,
    533504,533990,534528,535014,536064,547292,547840,578790,582144,582620,582886,583388,583654,584156,584422,
    585180,585755,586012,586269,586726,587484,587750,588252,588774,589824,605191,605440,609545,609792,610790,
    611036,611302,611584,637959,638208,642313,642560,670727,670976,675081,675328,703495,703744,707849,708096,
    736263,736512,740617,740864,773385,773632,806153,806400,808276,808539,808704,834567,834816,838921,839168,
    871689,871936,903689,903936,931943,932361,932608,936043,936960,964726,965120,968826,969728,989404,989696,
    996828,996864,997340,997376,997848,997888,1012097,1012354,1012480,1012868,1012992,1014402,1015296,1015938,
    1016064,1016550,1016841,1017088,1017574,1017856,1033948,1033984,1062663,1062912,1063177,1063680,1084892,
    1084928,1269222,1269760,1512457,1512704,1520649,1520896,1561097,1561344,1564134,1564160,1616356,1616384,
    1653214,1653478,1653724,1653760,1710054,1710300,1710336,1728521,1728768,1734118,1735936,1736668,1736704,
    1749222,1750492,1752038,1752540,1752576,1782791,1783040,1786889,1787136,1797094,1797340,1797606,1799168,
    1813001,1813504,1828359,1828608,1831433,1831936,1849095,1849344,1888486,1889024,1889281,1889756,1891046,
    1891548,1892582,1892608,1892865,1894656,1895900,1895936,1897702,1897728,1898726,1899008,1949926,1950428,
    1950694,1952476,1952742,1953258,1953494,1953756,1953994,1954278,1963520,1965030,1965289,1965532,1965798,
    1966044,1966080,2150630,2150913,2151654,2152449,2153446,2153728,2154982,2155008,2155777,2156518,2156764,
    2157030,2157057,2157788,2158822,2158848,2944998,2945536,2981641,2981888,3006694,3014656,3156698,3156964,
    3157224,3157470,3157728,3158016,3184904,3185408,10907622,10907648,10908902,10911232,10919654,10919936,
    10940646,10940928,11011593,11011840,11060233,11060480,11067622,11072000,11086812,11087360,11096841,11097088,
    11121415,11121664,11124745,11124992,11186406,11186432,11186918,11187420,11187456,11188198,11188480,11189990,
    11190272,11190758,11190784,11204105,11204352,11267337,11267584,16457242,16457472,16654566,16656348,16658150,
    16658432,16907740,16907776,16965852,16965888,17004262,17005312,17436124,17436160,17436646,17436672,17447142,
    17447169,17447644,17447680,17448713,17448960,17491430,17491676,17491712,17843721,17843968,17858313,17858560,
    17873161,17873415,17873664,17891558,17892096,17904393,17904896,17920775,17921024,17940489,17940736,17943047,
    17943296,17970441,17970695,17970944,18016519,18016777,18017024,18037767,18038016,18042121,18042368,18048742,
    18050304,18051302,18052352,18104841,18105088,18105863,18106112,18137609,18137863,18138112,18202377,18202631,
    18202880,18235145,18235392,18265609,18265863,18266112,18295561,18295808,18628361,18628608,23785473,23786752,
    23802086,23803648,29138433,29138688,30500312,30500609,30501376,30502370,30502616,30503680,30505948,30507776,
    30508518,30509788,30510080,30517990,30518784,30556902,30557440,31457510,31459072,31459558,31463680,31464422,
    31465984,31466470,31466752,31467238,31468288,32035036,32036608,32064742,32066055,32066304,
};
/* canonical decompositions: code point, first, second (0: a single one) */
static const uint32_t awq__uni_decomp[] = {
    192,65,768,193,65,769,194,65,770,195,65,771,196,65,776,197,65,778,199,67,807,200,69,768,201,69,769,202,69,
    770,203,69,776,204,73,768,205,73,769,206,73,770,207,73,776,209,78,771,210,79,768,211,79,769,212,79,770,213,
    79,771,214,79,776,217,85,768,218,85,769,219,85,770,220,85,776,221,89,769,224,97,768,225,97,769,226,97,770,
    227,97,771,228,97,776,229,97,778,231,99,807,232,101,768,233,101,769,234,101,770,235,101,776,236,105,768,237,
    105,769,238,105,770,239,105,776,241,110,771,242,111,768,243,111,769,244,111,770,245,111,771,246,111,776,249,
    117,768,250,117,769,251,117,770,252,117,776,253,121,769,255,121,776,256,65,772,257,97,772,258,65,774,259,97,
    774,260,65,808,261,97,808,262,67,769,263,99,769,264,67,770,265,99,770,266,67,775,267,99,775,268,67,780,269,
    99,780,270,68,780,271,100,780,274,69,772,275,101,772,276,69,774,277,101,774,278,69,775,279,101,775,280,69,
    808,281,101,808,282,69,780,283,101,780,284,71,770,285,103,770,286,71,774,287,103,774,288,71,775,289,103,775,
    290,71,807,291,103,807,292,72,770,293,104,770,296,73,771,297,105,771,298,73,772,299,105,772,300,73,774,301,
    105,774,302,73,808,303,105,808,304,73,775,308,74,770,309,106,770,310,75,807,311,107,807,313,76,769,314,108,
    769,315,76,807,316,108,807,317,76,780,318,108,780,323,78,769,324,110,769,325,78,807,326,110,807,327,78,780,
    328,110,780,332,79,772,333,111,772,334,79,774,335,111,774,336,79,779,337,111,779,340,82,769,341,114,769,342,
    82,807,343,114,807,344,82,780,345,114,780,346,83,769,347,115,769,348,83,770,349,115,770,350,83,807,351,115,
    807,352,83,780,353,115,780,354,84,807,355,116,807,356,84,780,357,116,780,360,85,771,361,117,771,362,85,772,
    363,117,772,364,85,774,365,117,774,366,85,778,367,117,778,368,85,779,369,117,779,370,85,808,371,117,808,372,
    87,770,373,119,770,374,89,770,375,121,770,376,89,776,377,90,769,378,122,769,379,90,775,380,122,775,381,90,
    780,382,122,780,416,79,795,417,111,795,431,85,795,432,117,795,461,65,780,462,97,780,463,73,780,464,105,780,
    465,79,780,466,111,780,467,85,780,468,117,780,469,220,772,470,252,772,471,220,769,472,252,769,473,220,780,
    474,252,780,475,220,768,476,252,768,478,196,772,479,228,772,480,550,772,481,551,772,482,198,772,483,230,772,
    486,71,780,487,103,780,488,75,780,489,107,780,490,79,808,491,111,808,492,490,772,493,491,772,494,439,780,
    495,658,780,496,106,780,500,71,769,501,103,769,504,78,768,505,110,768,506,197,769,507,229,769,508,198,769,
    509,230,769,510,216,769,511,248,769,512,65,783,513,97,783,514,65,785,515,97,785,516,69,783,517,101,783,518,
    69,785,519,101,785,520,73,783,521,105,783,522,73,785,523,105,785,524,79,783,525,111,783,526,79,785,527,111,
    785,528,82,783,529,114,783,530,82,785,531,114,785,532,85,783,533,117,783,534,85,785,535,117,785,536,83,806,
    537,115,806,538,84,806,539,116,806,542,72,780,543,104,780,550,65,775,551,97,775,552,69,807,553,101,807,554,
    214,772,555,246,772,556,213,772,557,245,772,558,79,775,559,111,775,560,558,772,561,559,772,562,89,772,563,
    121,772,832,768,0,833,769,0,835,787,0,836,776,769,884,697,0,894,59,0,901,168,769,902,913,769,903,183,0,904,
    917,769,905,919,769,906,921,769,908,927,769,910,933,769,911,937,769,912,970,769,938,921,776,939,933,776,940,
    945,769,941,949,769,942,951,769,943,953,769,944,971,769,970,953,776,971,965,776,972,959,769,973,965,769,974,
    969,769,979,978,769,980,978,776,1024,1045,768,1025,1045,776,1027,1043,769,1031,1030,776,1036,1050,769,1037,
    1048,768,1038,1059,774,1049,1048,774,1081,1080,774,1104,1077,768,1105,1077,776,1107,1075,769,1111,1110,776,
    1116,1082,769,1117,1080,768,1118,1091,774,1142,1140,783,1143,1141,783,1217,1046,774,1218,1078,774,1232,1040,
    774,1233,1072,774,1234,1040,776,1235,1072,776,1238,1045,774,1239,1077,774,1242,1240,776,1243,1241,776,1244,
    1046,776,1245,1078,776,1246,1047,776,1247,1079,776,1250,1048,772,1251,1080,772,1252,1048,776,1253,1080,776,
    1254,1054,776,1255,1086,776,1258,1256,776,1259,1257,776,1260,1069,776,1261,1101,776,1262,1059,772,1263,1091,
    772,1264,1059,776,1265,1091,776,1266,1059,779,1267,1091,779,1268,1063,776,1269,1095,776,1272,1067,776,1273,
    1099,776,1570,1575,1619,1571,1575,1620,1572,1608,1620,1573,1575,1621,1574,1610,1620,1728,1749,1620,1730,
    1729,1620,1747,1746,1620,2345,2344,2364,2353,2352,2364,2356,2355,2364,2392,2325,2364,2393,2326,2364,2394,
    2327,2364,2395,2332,2364,2396,2337,2364,2397,2338,2364,2398,2347,2364,2399,2351,2364,2507,2503,2494,2508,
    2503,2519,2524,2465,2492,2525,2466,2492,2527,2479,2492,2611,2610,2620,2614,2616,2620,2649,2582,2620,2650,
    2583,2620,2651,2588,2620,2654,2603,2620,2888,2887,2902,2891,2887,2878,2892,2887,2903,2908,2849,2876,2909,
    2850,2876,2964,2962,3031,3018,3014,3006,3019,3015,3006,3020,3014,3031,3144,3142,3158,3264,3263,3285,3271,
    3270,3285,3272,3270,3286,3274,3270,3266,3275,3274,3285,3402,3398,3390,3403,3399,3390,3404,3398,3415,3546,
    3545,3530,3548,3545,3535,3549,3548,3530,3550,3545,3551,3907,3906,4023,3917,3916,4023,3922,3921,4023,3927,
    3926,4023,3932,3931,4023,3945,3904,4021,3955,3953,3954,3957,3953,3956,3958,4018,3968,3960,4019,3968,3969,
    3953,3968,3987,3986,4023,3997,3996,4023,4002,4001,4023,4007,4006,4023,4012,4011,4023,4025,3984,4021,4134,
    4133,4142,6918,6917,6965,6920,6919,6965,6922,6921,6965,6924,6923,6965,6926,6925,6965,6930,6929,6965,6971,
    6970,6965,6973,6972,6965,6976,6974,6965,6977,6975,6965,6979,6978,6965,7680,65,805,7681,97,805,7682,66,775,
    7683,98,775,7684,66,803,7685,98,803,7686,66,817,7687,98,817,7688,199,769,7689,231,769,7690,68,775,7691,100,
    775,7692,68,803,7693,100,803,7694,68,817,7695,100,817,7696,68,807,7697,100,807,7698,68,813,7699,100,813,
    7700,274,768,7701,275,768,7702,274,769,7703,275,769,7704,69,813,7705,101,813,7706,69,816,7707,101,816,7708,
    552,774,7709,553,774,7710,70,775,7711,102,775,7712,71,772,7713,103,772,7714,72,775,7715,104,775,7716,72,803,
    7717,104,803,7718,72,776,7719,104,776,7720,72,807,7721,104,807,7722,72,814,7723,104,814,7724,73,816,7725,
    105,816,7726,207,769,7727,239,769,7728,75,769,7729,107,769,7730,75,803,7731,107,803,7732,75,817,7733,107,
    817,7734,76,803,7735,108,803,7736,7734,772,7737,7735,772,7738,76,817,7739,108,817,7740,76,813,7741,108,813,
    7742,77,769,7743,109,769,7744,77,775,7745,109,775,7746,77,803,7747,109,803,7748,78,775,7749,110,775,7750,78,
    803,7751,110,803,7752,78,817,7753,110,817,7754,78,813,7755,110,813,7756,213,769,7757,245,769,7758,213,776,
    7759,245,776,7760,332,768,7761,333,768,7762,332,769,7763,333,769,7764,80,769,7765,112,769,7766,80,775,7767,
    112,775,7768,82,775,7769,114,775,7770,82,803,7771,114,803,7772,7770,772,7773,7771,772,7774,82,817,7775,114,
    817,7776,83,775,7777,115,775,7778,83,803,7779,115,803,7780,346,775,7781,347,775,7782,352,775,7783,353,775,
    7784,7778,775,7785,7779,775,7786,84,775,7787,116,775,7788,84,803,7789,116,803,7790,84,817,7791,116,817,7792,
    84,813,7793,116,813,7794,85,804,7795,117,804,7796,85,816,7797,117,816,7798,85,813,7799,117,813,7800,360,769,
    7801,361,769,7802,362,776,7803,363,776,7804,86,771,7805,118,771,7806,86,803,7807,118,803,7808,87,768,7809,
    119,768,7810,87,769,7811,119,769,7812,87,776,7813,119,776,7814,87,775,7815,119,775,7816,87,803,7817,119,803,
    7818,88,775,7819,120,775,7820,88,776,7821,120,776,7822,89,775,7823,121,775,7824,90,770,7825,122,770,7826,90,
    803,7827,122,803,7828,90,817,7829,122,817,7830,104,817,7831,116,776,7832,119,778,7833,121,778,7835,383,775,
    7840,65,803,7841,97,803,7842,65,777,7843,97,777,7844,194,769,7845,226,769,7846,194,768,7847,226,768,7848,
    194,777,7849,226,777,7850,194,771,7851,226,771,7852,7840,770,7853,7841,770,7854,258,769,7855,259,769,7856,
    258,768,7857,259,768,7858,258,777,7859,259,777,7860,258,771,7861,259,771,7862,7840,774,7863,7841,774,7864,
    69,803,7865,101,803,7866,69,777,7867,101,777,7868,69,771,7869,101,771,7870,202,769,7871,234,769,7872,202,
    768,7873,234,768,7874,202,777,7875,234,777,7876,202,771,7877,234,771,7878,7864,770,7879,7865,770,7880,73,
    777,7881,105,777,7882,73,803,7883,105,803,7884,79,803,7885,111,803,7886,79,777,7887,111,777,7888,212,769,
    7889,244,769,7890,212,768,7891,244,768,7892,212,777,7893,244,777,7894,212,771,7895,244,771,7896,7884,770,
    7897,7885,770,7898,416,769,7899,417,769,7900,416,768,7901,417,768,7902,416,777,7903,417,777,7904,416,771,
    7905,417,771,7906,416,803,7907,417,803,7908,85,803,7909,117,803,7910,85,777,7911,117,777,7912,431,769,7913,
    432,769,7914,431,768,7915,432,768,7916,431,777,7917,432,777,7918,431,771,7919,432,771,7920,431,803,7921,432,
    803,7922,89,768,7923,121,768,7924,89,803,7925,121,803,7926,89,777,7927,121,777,7928,89,771,7929,121,771,
    7936,945,787,7937,945,788,7938,7936,768,7939,7937,768,7940,7936,769,7941,7937,769,7942,7936,834,7943,7937,
    834,7944,913,787,7945,913,788,7946,7944,768,7947,7945,768,7948,7944,769,7949,7945,769,7950,7944,834,7951,
    7945,834,7952,949,787,7953,949,788,7954,7952,768,7955,7953,768,7956,7952,769,7957,7953,769,7960,917,787,
    7961,917,788,7962,7960,768,7963,7961,768,7964,7960,769,7965,7961,769,7968,951,787,7969,951,788,7970,7968,
    768,7971,7969,768,7972,7968,769,7973,7969,769,7974,7968,834,7975,7969,834,7976,919,787,7977,919,788,7978,
    7976,768,7979,7977,768,7980,7976,769,7981,7977,769,7982,7976,834,7983,7977,834,7984,953,787,7985,953,788,
    7986,7984,768,7987,7985,768,7988,7984,769,7989,7985,769,7990,7984,834,7991,7985,834,7992,921,787,7993,921,
    788,7994,7992,768,7995,7993,768,7996,7992,769,7997,7993,769,7998,7992,834,7999,7993,834,8000,959,787,8001,
    959,788,8002,8000,768,8003,8001,768,8004,8000,769,8005,8001,769,8008,927,787,8009,927,788,8010,8008,768,
    8011,8009,768,8012,8008,769,8013,8009,769,8016,965,787,8017,965,788,8018,8016,768,8019,8017,768,8020,8016,
    769,8021,8017,769,8022,8016,834,8023,8017,834,8025,933,788,8027,8025,768,8029,8025,769,8031,8025,834,8032,
    969,787,8033,969,788,8034,8032,768,8035,8033,768,8036,8032,769,8037,8033,769,8038,8032,834,8039,8033,834,
    8040,937,787,8041,937,788,8042,8040,768,8043,8041,768,8044,8040,769,8045,8041,769,8046,8040,834,8047,8041,
    834,8048,945,768,8049,940,0,8050,949,768,8051,941,0,8052,951,768,8053,942,0,8054,953,768,8055,943,0,8056,
    959,768,8057,972,0,8058,965,768,8059,973,0,8060,969,768,8061,974,0,8064,7936,837,8065,7937,837,8066,7938,
    837,8067,7939,837,8068,7940,837,8069,7941,837,8070,7942,837,8071,7943,837,8072,7944,837,8073,7945,837,8074,
    7946,837,8075,7947,837,8076,7948,837,8077,7949,837,8078,7950,837,8079,7951,837,8080,7968,837,8081,7969,837,
    8082,7970,837,8083,7971,837,8084,7972,837,8085,7973,837,8086,7974,837,8087,7975,837,8088,7976,837,8089,7977,
    837,8090,7978,837,8091,7979,837,8092,7980,837,8093,7981,837,8094,7982,837,8095,7983,837,8096,8032,837,8097,
    8033,837,8098,8034,837,8099,8035,837,8100,8036,837,8101,8037,837,8102,8038,837,8103,8039,837,8104,8040,837,
    8105,8041,837,8106,8042,837,8107,8043,837,8108,8044,837,8109,8045,837,8110,8046,837,8111,8047,837,8112,945,
    774,8113,945,772,8114,8048,837,8115,945,837,8116,940,837,8118,945,834,8119,8118,837,8120,913,774,8121,913,
    772,8122,913,768,8123,902,0,8124,913,837,8126,953,0,8129,168,834,8130,8052,837,8131,951,837,8132,942,837,
    8134,951,834,8135,8134,837,8136,917,768,8137,904,0,8138,919,768,8139,905,0,8140,919,837,8141,8127,768,8142,
    8127,769,8143,8127,834,8144,953,774,8145,953,772,8146,970,768,8147,912,0,8150,953,834,8151,970,834,8152,921,
    774,8153,921,772,8154,921,768,8155,906,0,8157,8190,768,8158,8190,769,8159,8190,834,8160,965,774,8161,965,
    772,8162,971,768,8163,944,0,8164,961,787,8165,961,788,8166,965,834,8167,971,834,8168,933,774,8169,933,772,
    8170,933,768,8171,910,0,8172,929,788,8173,168,768,8174,901,0,8175,96,0,8178,8060,837,8179,969,837,8180,974,
    837,8182,969,834,8183,8182,837,8184,927,768,8185,908,0,8186,937,768,8187,911,0,8188,937,837,8189,180,0,8192,
    8194,0,8193,8195,0,8486,937,0,8490,75,0,8491,197,0,8602,8592,824,8603,8594,824,8622,8596,824,8653,8656,824,
    8654,8660,824,8655,8658,824,8708,8707,824,8713,8712,824,8716,8715,824,8740,8739,824,8742,8741,824,8769,8764,
    824,8772,8771,824,8775,8773,824,8777,8776,824,8800,61,824,8802,8801,824,8813,8781,824,8814,60,824,8815,62,
    824,8816,8804,824,8817,8805,824,8820,8818,824,8821,8819,824,8824,8822,824,8825,8823,824,8832,8826,824,8833,
    8827,824,8836,8834,824,8837,8835,824,8840,8838,824,8841,8839,824,8876,8866,824,8877,8872,824,8878,8873,824,
    8879,8875,824,8928,8828,824,8929,8829,824,8930,8849,824,8931,8850,824,8938,8882,824,8939,8883,824,8940,8884,
    824,8941,8885,824,9001,12296,0,9002,12297,0,10972,10973,824,12364,12363,12441,12366,12365,12441,12368,12367,
    12441,12370,12369,12441,12372,12371,12441,12374,12373,12441,12376,12375,12441,12378,12377,12441,12380,12379,
    12441,12382,12381,12441,12384,12383,12441,12386,12385,12441,12389,12388,12441,12391,12390,12441,12393,12392,
    12441,12400,12399,12441,12401,12399,12442,12403,12402,12441,12404,12402,12442,12406,12405,12441,12407,12405,
    12442,12409,12408,12441,12410,12408,12442,12412,12411,12441,12413,12411,12442,12436,12358,12441,12446,12445,
    12441,12460,12459,12441,12462,12461,12441,12464,12463,12441,12466,12465,12441,12468,12467,12441,12470,12469,
    12441,12472,12471,12441,12474,12473,12441,12476,12475,12441,12478,12477,12441,12480,12479,12441,12482,12481,
    12441,12485,12484,12441,12487,12486,12441,12489,12488,12441,12496,12495,12441,12497,12495,12442,12499,12498,
    12441,12500,12498,12442,12502,12501,12441,12503,12501,12442,12505,12504,12441,12506,12504,12442,12508,12507,
    12441,12509,12507,12442,12532,12454,12441,12535,12527,12441,12536,12528,12441,12537,12529,12441,12538,12530,
    12441,12542,12541,12441,63744,35912,0,63745,26356,0,63746,36554,0,63747,36040,0,63748,28369,0,63749,20018,0,
    63750,21477,0,63751,40860,0,63752,40860,0,63753,22865,0,63754,37329,0,63755,21895,0,63756,22856,0,63757,
    25078,0,63758,30313,0,63759,32645,0,63760,34367,0,63761,34746,0,63762,35064,0,63763,37007,0,63764,27138,0,
    63765,27931,0,63766,28889,0,63767,29662,0,63768,33853,0,63769,37226,0,63770,39409,0,63771,20098,0,63772,
    21365,0,63773,27396,0,63774,29211,0,63775,34349,0,63776,40478,0,63777,23888,0,63778,28651,0,63779,34253,0,
    63780,35172,0,63781,25289,0,63782,33240,0,63783,34847,0,63784,24266,0,63785,26391,0,63786,28010,0,63787,
    29436,0,63788,37070,0,63789,20358,0,63790,20919,0,63791,21214,0,63792,25796,0,63793,27347,0,63794,29200,0,
    63795,30439,0,63796,32769,0,63797,34310,0,63798,34396,0,63799,36335,0,63800,38706,0,63801,39791,0,63802,
    40442,0,63803,30860,0,63804,31103,0,63805,32160,0,63806,33737,0,63807,37636,0,63808,40575,0,63809,35542,0,
    63810,22751,0,63811,24324,0,63812,31840,0,63813,32894,0,63814,29282,0,63815,30922,0,63816,36034,0,63817,
    38647,0,63818,22744,0,63819,23650,0,63820,27155,0,63821,28122,0,63822,28431,0,63823,32047,0,63824,32311,0,
    63825,38475,0,63826,21202,0,63827,32907,0,63828,20956,0,63829,20940,0,63830,31260,0,63831,32190,0,63832,
    33777,0,63833,38517,0,63834,35712,0,63835,25295,0,63836,27138,0,63837,35582,0,63838,20025,0,63839,23527,0,
    63840,24594,0,63841,29575,0,63842,30064,0,63843,21271,0,63844,30971,0,63845,20415,0,63846,24489,0,63847,
    19981,0,63848,27852,0,63849,25976,0,63850,32034,0,63851,21443,0,63852,22622,0,63853,30465,0,63854,33865,0,
    63855,35498,0,63856,27578,0,63857,36784,0,63858,27784,0,63859,25342,0,63860,33509,0,63861,25504,0,63862,
    30053,0,63863,20142,0,63864,20841,0,63865,20937,0,63866,26753,0,63867,31975,0,63868,33391,0,63869,35538,0,
    63870,37327,0,63871,21237,0,63872,21570,0,63873,22899,0,63874,24300,0,63875,26053,0,63876,28670,0,63877,
    31018,0,63878,38317,0,63879,39530,0,63880,40599,0,63881,40654,0,63882,21147,0,63883,26310,0,63884,27511,0,
    63885,36706,0,63886,24180,0,63887,24976,0,63888,25088,0,63889,25754,0,63890,28451,0,63891,29001,0,63892,
    29833,0,63893,31178,0,63894,32244,0,63895,32879,0,63896,36646,0,63897,34030,0,63898,36899,0,63899,37706,0,
    63900,21015,0,63901,21155,0,63902,21693,0,63903,28872,0,63904,35010,0,63905,35498,0,63906,24265,0,63907,
    24565,0,63908,25467,0,63909,27566,0,63910,31806,0,63911,29557,0,63912,20196,0,63913,22265,0,63914,23527,0,
    63915,23994,0,63916,24604,0,63917,29618,0,63918,29801,0,63919,32666,0,63920,32838,0,63921,37428,0,63922,
    38646,0,63923,38728,0,63924,38936,0,63925,20363,0,63926,31150,0,63927,37300,0,63928,38584,0,63929,24801,0,
    63930,20102,0,63931,20698,0,63932,23534,0,63933,23615,0,63934,26009,0,63935,27138,0,63936,29134,0,63937,
    30274,0,63938,34044,0,63939,36988,0,63940,40845,0,63941,26248,0,63942,38446,0,63943,21129,0,63944,26491,0,
    63945,26611,0,63946,27969,0,63947,28316,0,63948,29705,0,63949,30041,0,63950,30827,0,63951,32016,0,63952,
    39006,0,63953,20845,0,63954,25134,0,63955,38520,0,63956,20523,0,63957,23833,0,63958,28138,0,63959,36650,0,
    63960,24459,0,63961,24900,0,63962,26647,0,63963,29575,0,63964,38534,0,63965,21033,0,63966,21519,0,63967,
    23653,0,63968,26131,0,63969,26446,0,63970,26792,0,63971,27877,0,63972,29702,0,63973,30178,0,63974,32633,0,
    63975,35023,0,63976,35041,0,63977,37324,0,63978,38626,0,63979,21311,0,63980,28346,0,63981,21533,0,63982,
    29136,0,63983,29848,0,63984,34298,0,63985,38563,0,63986,40023,0,63987,40607,0,63988,26519,0,63989,28107,0,
    63990,33256,0,63991,31435,0,63992,31520,0,63993,31890,0,63994,29376,0,63995,28825,0,63996,35672,0,63997,
    20160,0,63998,33590,0,63999,21050,0,64000,20999,0,64001,24230,0,64002,25299,0,64003,31958,0,64004,23429,0,
    64005,27934,0,64006,26292,0,64007,36667,0,64008,34892,0,64009,38477,0,64010,35211,0,64011,24275,0,64012,
    20800,0,64013,21952,0,64016,22618,0,64018,26228,0,64021,20958,0,64022,29482,0,64023,30410,0,64024,31036,0,
    64025,31070,0,64026,31077,0,64027,31119,0,64028,38742,0,64029,31934,0,64030,32701,0,64032,34322,0,64034,
    35576,0,64037,36920,0,64038,37117,0,64042,39151,0,64043,39164,0,64044,39208,0,64045,40372,0,64046,37086,0,
    64047,38583,0,64048,20398,0,64049,20711,0,64050,20813,0,64051,21193,0,64052,21220,0,64053,21329,0,64054,
    21917,0,64055,22022,0,64056,22120,0,64057,22592,0,64058,22696,0,64059,23652,0,64060,23662,0,64061,24724,0,
    64062,24936,0,64063,24974,0,64064,25074,0,64065,25935,0,64066,26082,0,64067,26257,0,64068,26757,0,64069,
    28023,0,64070,28186,0,64071,28450,0,64072,29038,0,64073,29227,0,64074,29730,0,64075,30865,0,64076,31038,0,
    64077,31049,0,64078,31048,0,64079,31056,0,64080,31062,0,64081,31069,0,64082,31117,0,64083,31118,0,64084,
    31296,0,64085,31361,0,64086,31680,0,64087,32244,0,64088,32265,0,64089,32321,0,64090,32626,0,64091,32773,0,
    64092,33261,0,64093,33401,0,64094,33401,0,64095,33879,0,64096,35088,0,64097,35222,0,64098,35585,0,64099,
    35641,0,64100,36051,0,64101,36104,0,64102,36790,0,64103,36920,0,64104,38627,0,64105,38911,0,64106,38971,0,
    64107,24693,0,64108,148206,0,64109,33304,0,64112,20006,0,64113,20917,0,64114,20840,0,64115,20352,0,64116,
    20805,0,64117,20864,0,64118,21191,0,64119,21242,0,64120,21917,0,64121,21845,0,64122,21913,0,64123,21986,0,
    64124,22618,0,64125,22707,0,64126,22852,0,64127,22868,0,64128,23138,0,64129,23336,0,64130,24274,0,64131,
    24281,0,64132,24425,0,64133,24493,0,64134,24792,0,64135,24910,0,64136,24840,0,64137,24974,0,64138,24928,0,
    64139,25074,0,64140,25140,0,64141,25540,0,64142,25628,0,64143,25682,0,64144,25942,0,64145,26228,0,64146,
    26391,0,64147,26395,0,64148,26454,0,64149,27513,0,64150,27578,0,64151,27969,0,64152,28379,0,64153,28363,0,
    64154,28450,0,64155,28702,0,64156,29038,0,64157,30631,0,64158,29237,0,64159,29359,0,64160,29482,0,64161,
    29809,0,64162,29958,0,64163,30011,0,64164,30237,0,64165,30239,0,64166,30410,0,64167,30427,0,64168,30452,0,
    64169,30538,0,64170,30528,0,64171,30924,0,64172,31409,0,64173,31680,0,64174,31867,0,64175,32091,0,64176,
    32244,0,64177,32574,0,64178,32773,0,64179,33618,0,64180,33775,0,64181,34681,0,64182,35137,0,64183,35206,0,
    64184,35222,0,64185,35519,0,64186,35576,0,64187,35531,0,64188,35585,0,64189,35582,0,64190,35565,0,64191,
    35641,0,64192,35722,0,64193,36104,0,64194,36664,0,64195,36978,0,64196,37273,0,64197,37494,0,64198,38524,0,
    64199,38627,0,64200,38742,0,64201,38875,0,64202,38911,0,64203,38923,0,64204,38971,0,64205,39698,0,64206,
    40860,0,64207,141386,0,64208,141380,0,64209,144341,0,64210,15261,0,64211,16408,0,64212,16441,0,64213,152137,
    0,64214,154832,0,64215,163539,0,64216,40771,0,64217,40846,0,64285,1497,1460,64287,1522,1463,64298,1513,1473,
    64299,1513,1474,64300,64329,1473,64301,64329,1474,64302,1488,1463,64303,1488,1464,64304,1488,1468,64305,
    1489,1468,64306,1490,1468,64307,1491,1468,64308,1492,1468,64309,1493,1468,64310,1494,1468,64312,1496,1468,
    64313,1497,1468,64314,1498,1468,64315,1499,1468,64316,1500,1468,64318,1502,1468,64320,1504,1468,64321,1505,
    1468,64323,1507,1468,64324,1508,1468,64326,1510,1468,64327,1511,1468,64328,1512,1468,64329,1513,1468,64330,
    1514,1468,64331,1493,1465,64332,1489,1471,64333,1499,1471,64334,1508,1471,69786,69785,69818,69788,69787,
    69818,69803,69797,69818,69934,69937,69927,69935,69938,69927,70475,70471,70462,70476,70471,70487,70843,70841,
    70842,70844,70841,70832,70846,70841,70845,71098,71096,71087,71099,71097,71087,119134,119127,119141,119135,
    119128,119141,119136,119135,119150,119137,119135,119151,119138,119135,119152,119139,119135,119153,119140,
    119135,119154,119227,119225,119141,119228,119226,119141,119229,119227,119150,119230,119228,119150,119231,
    119227,119151,119232,119228,119151,194560,20029,0,194561,20024,0,194562,20033,0,194563,131362,0,194564,
    20320,0,194565,20398,0,194566,20411,0,194567,20482,0,194568,20602,0,194569,20633,0,194570,20711,0,194571,
    20687,0,194572,13470,0,194573,132666,0,194574,20813,0,194575,20820,0,194576,20836,0,194577,20855,0,194578,
    132380,0,194579,13497,0,194580,20839,0,194581,20877,0,194582,132427,0,194583,20887,0,194584,20900,0,194585,
    20172,0,194586,20908,0,194587,20917,0,194588,168415,0,194589,20981,0,194590,20995,0,194591,13535,0,194592,
    21051,0,194593,21062,0,194594,21106,0,194595,21111,0,194596,13589,0,194597,21191,0,194598,21193,0,194599,
    21220,0,194600,21242,0,194601,21253,0,194602,21254,0,194603,21271,0,194604,21321,0,194605,21329,0,194606,
    21338,0,194607,21363,0,194608,21373,0,194609,21375,0,194610,21375,0,194611,21375,0,194612,133676,0,194613,
    28784,0,194614,21450,0,194615,21471,0,194616,133987,0,194617,21483,0,194618,21489,0,194619,21510,0,194620,
    21662,0,194621,21560,0,194622,21576,0,194623,21608,0,194624,21666,0,194625,21750,0,194626,21776,0,194627,
    21843,0,194628,21859,0,194629,21892,0,194630,21892,0,194631,21913,0,194632,21931,0,194633,21939,0,194634,
    21954,0,194635,22294,0,194636,22022,0,194637,22295,0,194638,22097,0,194639,22132,0,194640,20999,0,194641,
    22766,0,194642,22478,0,194643,22516,0,194644,22541,0,194645,22411,0,194646,22578,0,194647,22577,0,194648,
    22700,0,194649,136420,0,194650,22770,0,194651,22775,0,194652,22790,0,194653,22810,0,194654,22818,0,194655,
    22882,0,194656,136872,0,194657,136938,0,194658,23020,0,194659,23067,0,194660,23079,0,194661,23000,0,194662,
    23142,0,194663,14062,0,194664,14076,0,194665,23304,0,194666,23358,0,194667,23358,0,194668,137672,0,194669,
    23491,0,194670,23512,0,194671,23527,0,194672,23539,0,194673,138008,0,194674,23551,0,194675,23558,0,194676,
    24403,0,194677,23586,0,194678,14209,0,194679,23648,0,194680,23662,0,194681,23744,0,194682,23693,0,194683,
    138724,0,194684,23875,0,194685,138726,0,194686,23918,0,194687,23915,0,194688,23932,0,194689,24033,0,194690,
    24034,0,194691,14383,0,194692,24061,0,194693,24104,0,194694,24125,0,194695,24169,0,194696,14434,0,194697,
    139651,0,194698,14460,0,194699,24240,0,194700,24243,0,194701,24246,0,194702,24266,0,194703,172946,0,194704,
    24318,0,194705,140081,0,194706,140081,0,194707,33281,0,194708,24354,0,194709,24354,0,194710,14535,0,194711,
    144056,0,194712,156122,0,194713,24418,0,194714,24427,0,194715,14563,0,194716,24474,0,194717,24525,0,194718,
    24535,0,194719,24569,0,194720,24705,0,194721,14650,0,194722,14620,0,194723,24724,0,194724,141012,0,194725,
    24775,0,194726,24904,0,194727,24908,0,194728,24910,0,194729,24908,0,194730,24954,0,194731,24974,0,194732,
    25010,0,194733,24996,0,194734,25007,0,194735,25054,0,194736,25074,0,194737,25078,0,194738,25104,0,194739,
    25115,0,194740,25181,0,194741,25265,0,194742,25300,0,194743,25424,0,194744,142092,0,194745,25405,0,194746,
    25340,0,194747,25448,0,194748,25475,0,194749,25572,0,194750,142321,0,194751,25634,0,194752,25541,0,194753,
    25513,0,194754,14894,0,194755,25705,0,194756,25726,0,194757,25757,0,194758,25719,0,194759,14956,0,194760,
    25935,0,194761,25964,0,194762,143370,0,194763,26083,0,194764,26360,0,194765,26185,0,194766,15129,0,194767,
    26257,0,194768,15112,0,194769,15076,0,194770,20882,0,194771,20885,0,194772,26368,0,194773,26268,0,194774,
    32941,0,194775,17369,0,194776,26391,0,194777,26395,0,194778,26401,0,194779,26462,0,194780,26451,0,194781,
    144323,0,194782,15177,0,194783,26618,0,194784,26501,0,194785,26706,0,194786,26757,0,194787,144493,0,194788,
    26766,0,194789,26655,0,194790,26900,0,194791,15261,0,194792,26946,0,194793,27043,0,194794,27114,0,194795,
    27304,0,194796,145059,0,194797,27355,0,194798,15384,0,194799,27425,0,194800,145575,0,194801,27476,0,194802,
    15438,0,194803,27506,0,194804,27551,0,194805,27578,0,194806,27579,0,194807,146061,0,194808,138507,0,194809,
    146170,0,194810,27726,0,194811,146620,0,194812,27839,0,194813,27853,0,194814,27751,0,194815,27926,0,194816,
    27966,0,194817,28023,0,194818,27969,0,194819,28009,0,194820,28024,0,194821,28037,0,194822,146718,0,194823,
    27956,0,194824,28207,0,194825,28270,0,194826,15667,0,194827,28363,0,194828,28359,0,194829,147153,0,194830,
    28153,0,194831,28526,0,194832,147294,0,194833,147342,0,194834,28614,0,194835,28729,0,194836,28702,0,194837,
    28699,0,194838,15766,0,194839,28746,0,194840,28797,0,194841,28791,0,194842,28845,0,194843,132389,0,194844,
    28997,0,194845,148067,0,194846,29084,0,194847,148395,0,194848,29224,0,194849,29237,0,194850,29264,0,194851,
    149000,0,194852,29312,0,194853,29333,0,194854,149301,0,194855,149524,0,194856,29562,0,194857,29579,0,194858,
    16044,0,194859,29605,0,194860,16056,0,194861,16056,0,194862,29767,0,194863,29788,0,194864,29809,0,194865,
    29829,0,194866,29898,0,194867,16155,0,194868,29988,0,194869,150582,0,194870,30014,0,194871,150674,0,194872,
    30064,0,194873,139679,0,194874,30224,0,194875,151457,0,194876,151480,0,194877,151620,0,194878,16380,0,
    194879,16392,0,194880,30452,0,194881,151795,0,194882,151794,0,194883,151833,0,194884,151859,0,194885,30494,
    0,194886,30495,0,194887,30495,0,194888,30538,0,194889,16441,0,194890,30603,0,194891,16454,0,194892,16534,0,
    194893,152605,0,194894,30798,0,194895,30860,0,194896,30924,0,194897,16611,0,194898,153126,0,194899,31062,0,
    194900,153242,0,194901,153285,0,194902,31119,0,194903,31211,0,194904,16687,0,194905,31296,0,194906,31306,0,
    194907,31311,0,194908,153980,0,194909,154279,0,194910,154279,0,194911,31470,0,194912,16898,0,194913,154539,
    0,194914,31686,0,194915,31689,0,194916,16935,0,194917,154752,0,194918,31954,0,194919,17056,0,194920,31976,0,
    194921,31971,0,194922,32000,0,194923,155526,0,194924,32099,0,194925,17153,0,194926,32199,0,194927,32258,0,
    194928,32325,0,194929,17204,0,194930,156200,0,194931,156231,0,194932,17241,0,194933,156377,0,194934,32634,0,
    194935,156478,0,194936,32661,0,194937,32762,0,194938,32773,0,194939,156890,0,194940,156963,0,194941,32864,0,
    194942,157096,0,194943,32880,0,194944,144223,0,194945,17365,0,194946,32946,0,194947,33027,0,194948,17419,0,
    194949,33086,0,194950,23221,0,194951,157607,0,194952,157621,0,194953,144275,0,194954,144284,0,194955,33281,
    0,194956,33284,0,194957,36766,0,194958,17515,0,194959,33425,0,194960,33419,0,194961,33437,0,194962,21171,0,
    194963,33457,0,194964,33459,0,194965,33469,0,194966,33510,0,194967,158524,0,194968,33509,0,194969,33565,0,
    194970,33635,0,194971,33709,0,194972,33571,0,194973,33725,0,194974,33767,0,194975,33879,0,194976,33619,0,
    194977,33738,0,194978,33740,0,194979,33756,0,194980,158774,0,194981,159083,0,194982,158933,0,194983,17707,0,
    194984,34033,0,194985,34035,0,194986,34070,0,194987,160714,0,194988,34148,0,194989,159532,0,194990,17757,0,
    194991,17761,0,194992,159665,0,194993,159954,0,194994,17771,0,194995,34384,0,194996,34396,0,194997,34407,0,
    194998,34409,0,194999,34473,0,195000,34440,0,195001,34574,0,195002,34530,0,195003,34681,0,195004,34600,0,
    195005,34667,0,195006,34694,0,195007,17879,0,195008,34785,0,195009,34817,0,195010,17913,0,195011,34912,0,
    195012,34915,0,195013,161383,0,195014,35031,0,195015,35038,0,195016,17973,0,195017,35066,0,195018,13499,0,
    195019,161966,0,195020,162150,0,195021,18110,0,195022,18119,0,195023,35488,0,195024,35565,0,195025,35722,0,
    195026,35925,0,195027,162984,0,195028,36011,0,195029,36033,0,195030,36123,0,195031,36215,0,195032,163631,0,
    195033,133124,0,195034,36299,0,195035,36284,0,195036,36336,0,195037,133342,0,195038,36564,0,195039,36664,0,
    195040,165330,0,195041,165357,0,195042,37012,0,195043,37105,0,195044,37137,0,195045,165678,0,195046,37147,0,
    195047,37432,0,195048,37591,0,195049,37592,0,195050,37500,0,195051,37881,0,195052,37909,0,195053,166906,0,
    195054,38283,0,195055,18837,0,195056,38327,0,195057,167287,0,195058,18918,0,195059,38595,0,195060,23986,0,
    195061,38691,0,195062,168261,0,195063,168474,0,195064,19054,0,195065,19062,0,195066,38880,0,195067,168970,0,
    195068,19122,0,195069,169110,0,195070,38923,0,195071,38923,0,195072,38953,0,195073,169398,0,195074,39138,0,
    195075,19251,0,195076,39209,0,195077,39335,0,195078,39362,0,195079,39422,0,195080,19406,0,195081,170800,0,
    195082,39698,0,195083,40000,0,195084,40189,0,195085,19662,0,195086,19693,0,195087,40295,0,195088,172238,0,
    195089,19704,0,195090,172293,0,195091,172558,0,195092,172689,0,195093,40635,0,195094,19798,0,195095,40697,0,
    195096,40702,0,195097,40709,0,195098,40719,0,195099,40726,0,195100,40763,0,195101,173568,0,
};
/* rows of awq__uni_decomp that compose, by (first, second) */
static const uint16_t awq__uni_compose[] = {
    912,909,913,0,1,2,3,53,55,238,4,572,5,165,208,210,570,415,57,417,419,421,59,61,63,65,6,425,67,427,431,433,
    429,7,8,9,598,69,71,73,10,596,77,212,214,594,240,75,439,441,445,198,79,447,81,83,187,85,87,449,453,236,451,
    455,457,11,12,13,89,91,93,97,14,610,167,216,218,612,95,459,98,463,189,465,100,467,102,106,469,104,475,473,
    477,479,481,200,108,15,483,112,485,110,489,487,16,17,18,19,114,116,246,20,616,118,169,220,222,161,614,191,
    499,501,120,503,124,224,226,505,122,509,126,128,511,132,513,232,130,521,136,523,234,134,527,525,21,22,23,
    138,140,142,24,640,144,146,171,228,230,163,638,529,148,533,531,539,541,543,545,150,549,547,551,553,555,652,
    25,152,658,250,557,154,656,654,155,559,157,159,561,563,26,27,28,29,54,56,239,30,573,31,166,209,211,571,416,
    58,418,420,422,60,62,64,66,32,426,68,428,432,434,430,33,34,35,599,70,72,74,36,597,78,213,215,595,241,76,440,
    442,446,199,80,448,82,84,188,86,88,450,454,237,452,456,458,565,37,38,39,90,92,94,40,611,168,217,219,613,96,
    460,99,197,464,190,466,101,468,103,107,470,105,476,474,478,480,482,201,109,41,484,113,486,111,490,488,42,43,
    44,45,115,117,247,46,617,119,170,221,223,162,615,192,500,502,121,504,125,225,227,506,123,510,127,129,512,
    133,514,233,131,522,566,137,524,235,135,528,526,47,48,49,139,141,143,50,641,145,147,172,229,231,164,639,530,
    149,534,532,540,542,544,546,151,550,548,567,552,554,556,653,51,153,659,251,558,52,657,568,655,156,560,158,
    160,562,564,875,258,835,576,574,580,578,181,202,204,185,423,602,600,606,604,461,620,618,624,622,491,244,493,
    242,206,179,175,173,177,577,575,581,579,182,203,205,186,424,603,601,607,605,462,621,619,625,623,492,245,494,
    243,207,180,176,174,178,586,584,590,588,587,585,591,589,435,437,436,438,495,497,496,498,515,516,517,518,535,
    536,537,538,569,630,628,634,632,636,631,629,635,633,637,644,642,648,646,650,645,643,649,647,651,195,193,194,
    183,184,443,444,248,249,196,831,259,830,829,668,669,833,841,261,682,683,843,262,696,697,845,857,263,856,855,
    268,712,713,883,264,726,727,874,872,265,871,870,269,740,885,266,752,753,887,826,838,760,270,823,822,660,661,
    827,825,762,271,676,677,764,272,688,689,839,837,766,273,850,849,275,704,705,853,768,277,720,721,866,867,770,
    278,863,862,276,732,733,868,772,279,744,745,881,879,851,267,854,864,274,869,880,280,281,285,302,304,284,282,
    306,283,300,310,312,287,314,289,316,286,318,324,288,326,328,330,332,322,303,305,293,291,307,292,301,311,313,
    296,315,290,317,295,319,325,297,327,329,331,333,323,294,298,299,308,309,320,321,334,335,337,336,338,340,341,
    339,342,343,344,353,354,365,364,366,369,370,372,371,373,374,377,375,376,378,379,381,380,382,383,385,384,403,
    404,405,406,407,408,409,410,411,412,413,414,471,472,507,508,519,520,582,592,583,593,608,609,626,627,662,664,
    666,774,663,665,667,775,776,777,778,779,780,781,670,672,674,782,671,673,675,783,784,785,786,787,788,789,678,
    680,679,681,684,686,685,687,690,692,694,790,691,693,695,791,792,793,794,795,796,797,698,700,702,798,699,701,
    703,799,800,801,802,803,804,805,706,708,710,707,709,711,714,716,718,715,717,719,722,724,723,725,728,730,729,
    731,734,736,738,735,737,739,741,742,743,746,748,750,806,747,749,751,807,808,809,810,811,812,813,754,756,758,
    814,755,757,759,815,816,817,818,819,820,821,824,836,878,828,846,847,848,840,882,859,860,861,894,895,896,897,
    899,898,900,901,902,903,904,905,906,907,908,911,910,914,915,916,917,918,919,920,921,930,931,922,923,924,925,
    932,933,926,927,928,929,934,935,936,937,966,941,942,943,944,945,946,947,948,949,950,951,952,953,954,955,956,
    957,958,959,960,961,962,963,964,965,967,993,968,969,970,971,972,973,974,975,976,977,978,979,980,981,982,983,
    984,985,986,987,988,989,990,991,992,994,995,996,997,998,1493,1494,1495,1496,1497,1498,1499,1501,1500,1502,
    1503,1504,
};
/* END GENERATED unicode */

/* categories; those from AWQ__UC_SPACE on are not general categories: \s without CR and LF, and these two */
enum {
    AWQ__UC_OTHER, AWQ__UC_LU, AWQ__UC_LL, AWQ__UC_LT, AWQ__UC_LM, AWQ__UC_LO, AWQ__UC_M, AWQ__UC_ND,
    AWQ__UC_NL, AWQ__UC_NO, AWQ__UC_PC, AWQ__UC_P, AWQ__UC_S, AWQ__UC_SPACE, AWQ__UC_CRLF, AWQ__UC_ALTERNATE
};
/* sets of categories, one bit each */
#define AWQ__UC_BIT(c) (1u << (c))
#define AWQ__UC_IN_L 0x3eu
#define AWQ__UC_IN_CASED 0xeu /* Lu Ll Lt */
#define AWQ__UC_IN_M AWQ__UC_BIT(AWQ__UC_M)
#define AWQ__UC_IN_N 0x380u
#define AWQ__UC_IN_P (AWQ__UC_BIT(AWQ__UC_PC) | AWQ__UC_BIT(AWQ__UC_P))
#define AWQ__UC_IN_S AWQ__UC_BIT(AWQ__UC_S)
#define AWQ__UC_IN_CRLF AWQ__UC_BIT(AWQ__UC_CRLF)
#define AWQ__UC_IN_SPACE (AWQ__UC_BIT(AWQ__UC_SPACE) | AWQ__UC_IN_CRLF)

/* index of the last of n entries whose key (the bits above `shift`) is at most cp */
static uint32_t awq__uni_search(const uint32_t *table, uint32_t n, int shift, uint32_t cp)
{
    uint32_t lo = 0, hi = n;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (table[mid] >> shift <= cp) lo = mid;
        else hi = mid;
    }
    return lo;
}

static int awq__uni_category(uint32_t cp)
{
    uint32_t run;
    if (cp < 0x80) { /* most text */
        if (cp - 'a' < 26) return AWQ__UC_LL;
        if (cp == ' ') return AWQ__UC_SPACE;
        if (cp - 'A' < 26) return AWQ__UC_LU;
        if (cp == '\n' || cp == '\r') return AWQ__UC_CRLF;
    }
    if ((cp >= 9 && cp <= 12) || cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a)
        || cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000)
        return AWQ__UC_SPACE;
    run = awq__uni_runs[awq__uni_search(awq__uni_runs, sizeof awq__uni_runs / 4, 4, cp)];
    if ((run & 15) == AWQ__UC_ALTERNATE) return (cp - (run >> 4)) & 1 ? AWQ__UC_LL : AWQ__UC_LU;
    return (int)(run & 15);
}

static int awq__uni_in(uint32_t cp, unsigned set) { return (int)(set >> awq__uni_category(cp) & 1); }

/* cp in the other case, cp itself when it has none, 0 when its mapping is none of the regular ones below */
static uint32_t awq__uni_case(uint32_t cp, int upper)
{
    static const struct {
        uint32_t first, last, add; /* the capitals, whose small letters are `add` further; 1: they take turns */
    } rows[] = {{'A', 'Z', 32}, {0xc0, 0xd6, 32}, {0xd8, 0xde, 32}, {0x391, 0x3ab, 32}, {0x400, 0x40f, 80},
                {0x410, 0x42f, 32}, {0x531, 0x556, 48}, {0xff21, 0xff3a, 32}, {0x100, 0x12f, 1},
                {0x132, 0x137, 1}, {0x139, 0x148, 1}, {0x14a, 0x177, 1}, {0x179, 0x17e, 1}, {0x1cd, 0x1dc, 1},
                {0x1de, 0x1ef, 1}, {0x1f8, 0x21f, 1}, {0x222, 0x233, 1}, {0x460, 0x481, 1}, {0x48a, 0x4bf, 1},
                {0x4c1, 0x4ce, 1}, {0x4d0, 0x52f, 1}, {0x1e00, 0x1e95, 1}, {0x1ea0, 0x1eff, 1}};
    int category = awq__uni_category(cp);
    size_t i;
    if (cp == 0x345 || cp == 0x3a3 || cp == 0x3c2 || (cp >= 0x2160 && cp <= 0x217f)
        || (cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f189))
        return 0; /* cased although no letters, or other at the end of words */
    if (category != AWQ__UC_LU && category != AWQ__UC_LL && category != AWQ__UC_LT) return cp;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t first = rows[i].first, last = rows[i].last, add = rows[i].add;
        if (add == 1) {
            if (cp >= first && cp <= last) return (cp - first) & 1 ? cp - !!upper : cp + !upper;
        } else {
            if (cp >= first && cp <= last) return upper ? cp : cp + add;
            if (cp >= first + add && cp <= last + add) return upper ? cp - add : cp;
        }
    }
    return 0;
}

static uint32_t awq__uni_class(uint32_t cp) /* canonical combining class */
{
    return awq__uni_combining[awq__uni_search(awq__uni_combining, sizeof awq__uni_combining / 4, 8, cp)] & 255;
}

/* Hangul syllables are composed by rule: leading, vowel, trailing jamo */
enum {
    AWQ__HANGUL_S = 0xac00, AWQ__HANGUL_L = 0x1100, AWQ__HANGUL_V = 0x1161, AWQ__HANGUL_T = 0x11a7,
    AWQ__HANGUL_NL = 19, AWQ__HANGUL_NV = 21, AWQ__HANGUL_NT = 28
};

/* full canonical decomposition of cp into out[4]; the number of code points */
static int awq__uni_decompose(uint32_t cp, uint32_t out[4])
{
    uint32_t back[4], lo, hi, n = sizeof awq__uni_decomp / 12, s = cp - AWQ__HANGUL_S;
    int n_back = 0, n_out = 0;
    if (s < AWQ__HANGUL_NL * AWQ__HANGUL_NV * AWQ__HANGUL_NT) {
        out[0] = AWQ__HANGUL_L + s / (AWQ__HANGUL_NV * AWQ__HANGUL_NT);
        out[1] = AWQ__HANGUL_V + s / AWQ__HANGUL_NT % AWQ__HANGUL_NV;
        out[2] = AWQ__HANGUL_T + s % AWQ__HANGUL_NT;
        return out[2] == AWQ__HANGUL_T ? 2 : 3;
    }
    for (;;) { /* the first part may decompose again, the second never does */
        for (lo = 0, hi = n; lo < hi;) {
            uint32_t mid = lo + (hi - lo) / 2;
            if (awq__uni_decomp[mid * 3] < cp) lo = mid + 1;
            else hi = mid;
        }
        if (lo == n || awq__uni_decomp[lo * 3] != cp) break;
        if (awq__uni_decomp[lo * 3 + 2] && n_back < 3) back[n_back++] = awq__uni_decomp[lo * 3 + 2];
        cp = awq__uni_decomp[lo * 3 + 1];
    }
    out[n_out++] = cp;
    while (n_back) out[n_out++] = back[--n_back];
    return n_out;
}

static uint32_t awq__uni_composed(uint32_t a, uint32_t b) /* the composite of a and b, 0: none */
{
    uint32_t lo = 0, hi = sizeof awq__uni_compose / 2;
    if (a - AWQ__HANGUL_L < AWQ__HANGUL_NL && b - AWQ__HANGUL_V < AWQ__HANGUL_NV)
        return AWQ__HANGUL_S + ((a - AWQ__HANGUL_L) * AWQ__HANGUL_NV + b - AWQ__HANGUL_V) * AWQ__HANGUL_NT;
    if (a - AWQ__HANGUL_S < AWQ__HANGUL_NL * AWQ__HANGUL_NV * AWQ__HANGUL_NT
        && (a - AWQ__HANGUL_S) % AWQ__HANGUL_NT == 0 && b - AWQ__HANGUL_T - 1 < AWQ__HANGUL_NT - 1)
        return a + b - AWQ__HANGUL_T;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const uint32_t *row = awq__uni_decomp + 3 * awq__uni_compose[mid];
        if (row[1] == a && row[2] == b) return row[0];
        if (row[1] < a || (row[1] == a && row[2] < b)) lo = mid + 1;
        else hi = mid;
    }
    return 0;
}

/* put a run of combining marks (code point, class in the top byte) into the order of their classes, stably */
static void awq__uni_sort(uint32_t *marks, size_t n, uint32_t *tmp)
{
    size_t count[257], i, j;
    if (n <= 16) {
        for (i = 1; i < n; i++) {
            uint32_t v = marks[i];
            for (j = i; j && marks[j - 1] >> 24 > v >> 24; j--) marks[j] = marks[j - 1];
            marks[j] = v;
        }
        return;
    }
    memset(count, 0, sizeof count);
    for (i = 0; i < n; i++) count[(marks[i] >> 24) + 1]++;
    for (i = 1; i < 257; i++) count[i] += count[i - 1];
    for (i = 0; i < n; i++) tmp[count[marks[i] >> 24]++] = marks[i];
    memcpy(marks, tmp, n * sizeof *marks);
}

/* append form C, or without `compose` form D, of valid UTF-8 to out */
static awq_status awq__uni_normalize(awq_ctx *ctx, const char *text, size_t n, int compose, awq__text *out)
{
    const unsigned char *s = (const unsigned char *)text;
    uint32_t *cps, *tmp, parts[4];
    size_t i, k, n_cps = 0, n_out = 0, starter = SIZE_MAX;
    int len, last = -1; /* class of the newest mark kept behind the starter, -1: none */
    for (i = 0; i < n && s[i] < (compose ? 0xcc : 0xc3); i++) /* below U+0300, U+00C0 nothing changes */
        ;
    if (i == n) {
        awq__text_add(ctx, out, text, n);
        return out->failed ? AWQ_E_MEMORY : AWQ_OK;
    }
    for (i = 0; i < n; i += (size_t)len) { /* count first: two blocks of the right size */
        len = awq__utf8_len(s + i, n - i);
        n_cps += (size_t)awq__uni_decompose(awq__utf8_get(s + i, len), parts);
    }
    cps = AWQ__NEW_RAW(ctx, uint32_t, n_cps);
    tmp = cps ? AWQ__NEW_RAW(ctx, uint32_t, n_cps) : NULL;
    if (!tmp) {
        awq__free(ctx, cps);
        return AWQ_E_MEMORY;
    }
    for (n_cps = 0, i = 0; i < n; i += (size_t)len) {
        int m, j;
        len = awq__utf8_len(s + i, n - i);
        m = awq__uni_decompose(awq__utf8_get(s + i, len), parts);
        for (j = 0; j < m; j++) cps[n_cps++] = parts[j] | awq__uni_class(parts[j]) << 24;
    }
    for (i = 0; i < n_cps; i = k + 1) {
        for (k = i; k < n_cps && cps[k] >> 24; k++)
            ;
        awq__uni_sort(cps + i, k - i, tmp);
    }
    for (i = 0; i < n_cps; i++) {
        uint32_t c = cps[i], klass = c >> 24, whole;
        if (compose && starter != SIZE_MAX && last < (int)klass
            && (whole = awq__uni_composed(cps[starter], c & 0xffffff)) != 0) {
            cps[starter] = whole;
            continue;
        }
        if (klass) last = (int)klass;
        else {
            starter = n_out;
            last = -1;
        }
        cps[n_out++] = c & 0xffffff;
    }
    for (i = 0; i < n_out; i++) {
        char utf8[4];
        awq__text_add(ctx, out, utf8, (size_t)awq__utf8_put(cps[i], utf8));
    }
    awq__free(ctx, tmp);
    awq__free(ctx, cps);
    return out->failed ? AWQ_E_MEMORY : AWQ_OK;
}

static awq_status awq__uni_nfc(awq_ctx *ctx, const char *text, size_t n, awq__text *out)
{
    return awq__uni_normalize(ctx, text, n, 1, out);
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>tokenizer
   tokenizer.json of Hugging Face's tokenizers library, for BPE models: encoding, decoding, streamed decoding.
   Text goes through steps (normalizer, pre-tokenizer) that rewrite it or cut it into pieces; then byte pair
   merging turns each piece into ids. Decoding runs the decoder's steps over the tokens' texts.
   Regexes are those of a form that covers the known ones in all their spellings and needs no backtracking to
   speak of; others are refused.
   Invariants: n log n in the length of the text, whatever the text; a loaded tokenizer is read-only.
   Tests: tests/test_tokenizer.c, tests/fuzz_tokenizer.c */

#define AWQ__TOK_MAX_IDS (1 << 21)          /* ids a file may use */
#define AWQ__TOK_MAX_STEPS 16               /* steps in the normalizer, pre-tokenizer or decoder */
#define AWQ__TOK_MAX_PATTERN 256            /* bytes in an added token or a string that is looked for */
#define AWQ__TOK_MAX_FILE ((size_t)1 << 28) /* bytes of tokenizer.json, and of a text to encode */
#define AWQ__TOK_MAX_HELD 256               /* ids a streaming decoder holds back before it gives up waiting */

/* --- regexes: an alternative is read as lead? many* body{min,max} tail? end, and matched as Oniguruma does */
enum { AWQ__RE_LITERAL = 1, AWQ__RE_CONTRACTION, AWQ__RE_CLASSES };       /* what an alternative is */
enum { AWQ__RE_LOWER = 1, AWQ__RE_ASCII_CASE, AWQ__RE_ANY_CASE };         /* contractions */
enum { AWQ__RE_NO_END, AWQ__RE_NOT_BEFORE_TEXT, AWQ__RE_AT_LINE_END };    /* (?!\S) and $, behind \s+ only */
#define AWQ__RE_MAX_ALTERNATIVES 16
#define AWQ__RE_MAX_RANGES 512 /* in one class */
#define AWQ__RE_MANY (1 << 30)

typedef struct awq__re_class { /* a set of characters */
    uint32_t ascii[4], mask; /* bits of the ASCII characters; of the categories of the others */
    const uint32_t *edges;   /* sorted, from 0: a character behind an odd number of edges is in a range */
    uint32_t n_edges;
    int negated;
} awq__re_class;

typedef struct awq__re_atom { /* a class and how often */
    awq__re_class is;
    int min, max, keep; /* keep: possessive, nothing is given back */
    const char *text;   /* of the class in the regex */
    size_t len;
} awq__re_atom;

typedef struct awq__re_alternative {
    int kind, contraction, end; /* contraction: the kind itself, or what may follow */
    const char *text;           /* LITERAL */
    size_t len;
    awq__re_atom lead, many, body, tail; /* max 0: none */
} awq__re_alternative;

typedef struct awq__tok_regex {
    awq__re_alternative at[AWQ__RE_MAX_ALTERNATIVES];
    int n;
} awq__tok_regex;

static int awq__class_find(const awq__re_class *k, uint32_t cp)
{
    int in = (int)(k->mask >> awq__uni_category(cp) & 1);
    if (!in && k->n_edges) in = (int)(awq__uni_search(k->edges, k->n_edges, 0, cp) & 1);
    return in != k->negated;
}

static int awq__class_has(const awq__re_class *k, uint32_t cp)
{
    return cp < 128 ? (int)(k->ascii[cp >> 5] >> (cp & 31) & 1) : awq__class_find(k, cp);
}

static const awq__re_class awq__class_space = {{0x3e00, 1, 0, 0}, AWQ__UC_IN_SPACE, NULL, 0, 0};

/* is the character at `at` in the class? *next: behind it */
static int awq__scan_char(const char *s, size_t at, size_t end, const awq__re_class *k, size_t *next)
{
    const unsigned char *p = (const unsigned char *)s + at;
    int len;
    if (at >= end) return 0;
    len = awq__utf8_len(p, end - at);
    if (!awq__class_has(k, awq__utf8_get(p, len))) return 0;
    *next = at + (size_t)len;
    return 1;
}

static size_t awq__scan_run(const char *s, size_t at, size_t end, const awq__re_class *k, int max)
{
    while (max-- > 0 && awq__scan_char(s, at, end, k, &at))
        ;
    return at;
}

static size_t awq__char_before(const char *s, size_t at) /* start of the character that ends at `at` > 0 */
{
    do at--;
    while (at && ((unsigned char)s[at] & 0xc0) == 0x80);
    return at;
}

/* 's 't 're 've 'm 'll 'd; in any case includes U+017F, which folds to s */
static size_t awq__scan_contraction(const char *s, size_t at, size_t end, int how)
{
    char a, b;
    if (end - at < 2 || s[at] != '\'') return at;
    a = s[at + 1];
    b = end - at > 2 ? s[at + 2] : 0;
    if (how != AWQ__RE_LOWER) {
        if (how == AWQ__RE_ANY_CASE && a == '\xc5' && b == '\xbf') return at + 3;
        if (a >= 'A' && a <= 'Z') a = (char)(a + 32);
        if (b >= 'A' && b <= 'Z') b = (char)(b + 32);
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if ((b == 'e' && (a == 'r' || a == 'v')) || (b == 'l' && a == 'l')) return at + 3;
    return at;
}

/* where the body's match from..to ends when something must follow it; `from`: it fails */
static size_t awq__scan_end(const awq__re_alternative *a, const char *s, size_t from, size_t to, size_t end)
{
    size_t last;
    if (!a->end || to == end) return to;
    if (a->body.keep) return from;
    last = awq__char_before(s, to);
    if (a->end == AWQ__RE_AT_LINE_END)
        while (last > from && s[last] != '\n') last--;
    return last;
}

/* Where a match of `a` beginning at `at` ends; `at` when there is none, and then *hop may become a later place
   before which none begins. Linear: only \s+ and `many` give characters back. */
static size_t awq__scan_one(const awq__re_alternative *a, const char *s, size_t at, size_t end, size_t *hop)
{
    int lead;
    if (a->kind == AWQ__RE_LITERAL)
        return end - at >= a->len && !memcmp(s + at, a->text, a->len) ? at + a->len : at;
    if (a->kind == AWQ__RE_CONTRACTION) return awq__scan_contraction(s, at, end, a->contraction);
    for (lead = a->lead.max; lead >= a->lead.min; lead--) {
        size_t p = at, from, next, last = SIZE_MAX;
        int n = 0;
        if (lead && !awq__scan_char(s, at, end, &a->lead.is, &p)) continue;
        if (a->many.max) { /* give back to the last that the body takes too */
            for (; awq__scan_char(s, p, end, &a->many.is, &next); p = next)
                if (awq__scan_char(s, p, next, &a->body.is, &next)) last = p;
            *hop = AWQ__MAX(*hop, p);
        }
        from = p;
        while (n < a->body.max && awq__scan_char(s, p, end, &a->body.is, &p)) n++;
        if (!n && last != SIZE_MAX && !a->many.keep) {
            from = last;
            awq__scan_char(s, last, end, &a->body.is, &p);
            n = 1;
        }
        if (n >= a->body.min) {
            next = awq__scan_end(a, s, from, p, end);
            if (next > from) {
                if (a->tail.max) next = awq__scan_run(s, next, end, &a->tail.is, a->tail.max);
                return a->contraction ? awq__scan_contraction(s, next, end, a->contraction) : next;
            }
            if (a->end == AWQ__RE_AT_LINE_END) *hop = AWQ__MAX(*hop, p);
        }
        if (a->lead.keep && lead) break;
    }
    return at;
}

/* where a match beginning at `at` ends; `at` when there is none, and none begins before *next */
static size_t awq__scan(const awq__tok_regex *r, const char *s, size_t at, size_t end, size_t *next)
{
    size_t step = at + (size_t)awq__utf8_len((const unsigned char *)s + at, end - at), hop, to;
    int i;
    *next = end;
    for (i = 0; i < r->n; i++) {
        hop = step;
        to = awq__scan_one(&r->at[i], s, at, end, &hop);
        if (to > at) return to;
        *next = AWQ__MIN(*next, hop);
    }
    return at;
}

/* --- reading a regex */
typedef struct awq__re {
    const char *at, *end; /* the rest of the pattern; at NULL: it is not one that is understood */
    awq_ctx *ctx;
    awq__arena *arena;
    awq_status st;
    uint32_t ranges[2 * AWQ__RE_MAX_RANGES], n; /* of the class being read: first, last */
} awq__re;

static int awq__re_take(awq__re *p, const char *word)
{
    size_t n = strlen(word);
    if (!p->at || (size_t)(p->end - p->at) < n || memcmp(p->at, word, n)) return 0;
    p->at += n;
    return 1;
}

/* a character, or a category into *mask (then UINT32_MAX); clears p->at when it is neither */
static uint32_t awq__re_char(awq__re *p, uint32_t *mask)
{
    static const struct {
        const char *name;
        uint32_t mask;
    } names[] = {{"s", AWQ__UC_IN_SPACE}, {"d", AWQ__UC_BIT(AWQ__UC_ND)}, {"p{L}", AWQ__UC_IN_L},
                 {"p{Lu}", AWQ__UC_BIT(AWQ__UC_LU)}, {"p{Ll}", AWQ__UC_BIT(AWQ__UC_LL)},
                 {"p{Lt}", AWQ__UC_BIT(AWQ__UC_LT)}, {"p{Lm}", AWQ__UC_BIT(AWQ__UC_LM)},
                 {"p{Lo}", AWQ__UC_BIT(AWQ__UC_LO)}, {"p{M}", AWQ__UC_IN_M}, {"p{N}", AWQ__UC_IN_N},
                 {"p{Nd}", AWQ__UC_BIT(AWQ__UC_ND)}, {"p{P}", AWQ__UC_IN_P}, {"p{S}", AWQ__UC_IN_S}};
    static const char from[] = "rnt", to[] = "\r\n\t";
    const char *hit;
    size_t i;
    uint32_t cp;
    int len;
    if (awq__re_take(p, "\\")) {
        for (i = 0; i < sizeof names / sizeof names[0]; i++)
            if (awq__re_take(p, names[i].name)) {
                *mask |= names[i].mask;
                return UINT32_MAX;
            }
        if (p->at < p->end && (hit = strchr(from, *p->at)) != NULL && *hit) {
            p->at++;
            return (uint32_t)to[hit - from];
        }
        if (p->at == p->end || (unsigned char)*p->at >= 128 || (*p->at | 32) - 'a' + 0u < 26
            || (*p->at >= '0' && *p->at <= '9')) {
            p->at = NULL;
            return 0;
        }
    }
    if (!p->at || p->at == p->end) {
        p->at = NULL;
        return 0;
    }
    len = awq__utf8_len((const unsigned char *)p->at, (size_t)(p->end - p->at));
    cp = awq__utf8_get((const unsigned char *)p->at, len);
    p->at += len;
    return cp;
}

static void awq__re_range(awq__re *p, uint32_t first, uint32_t last) /* keeps them sorted */
{
    uint32_t i = p->n;
    if (!p->at || p->n == AWQ__RE_MAX_RANGES || last < first) {
        p->at = NULL;
        return;
    }
    for (; i && p->ranges[2 * i - 2] > first; i--) {
        p->ranges[2 * i] = p->ranges[2 * i - 2];
        p->ranges[2 * i + 1] = p->ranges[2 * i - 1];
    }
    p->ranges[2 * i] = first;
    p->ranges[2 * i + 1] = last;
    p->n++;
}

/* the inside of [ ], or one character or category; [ ] inside [ ] only adds to it */
static void awq__re_class_read(awq__re *p, awq__re_class *k)
{
    uint32_t cp, last, i, *edges, top = 0;
    int depth = 1;
    memset(k, 0, sizeof *k);
    p->n = 0;
    if (awq__re_take(p, "[")) {
        k->negated = awq__re_take(p, "^");
        while (p->at && depth) {
            if (awq__re_take(p, "\\r\\n") || awq__re_take(p, "\r\n")) k->mask |= AWQ__UC_IN_CRLF;
            else if (awq__re_take(p, "[^") || awq__re_take(p, "[:") || awq__re_take(p, "&&")) p->at = NULL;
            else if (awq__re_take(p, "[")) depth++;
            else if (awq__re_take(p, "]")) depth--;
            else if ((cp = awq__re_char(p, &k->mask)) != UINT32_MAX && p->at) {
                last = cp;
                if (p->end - p->at > 1 && *p->at == '-' && p->at[1] != ']') {
                    p->at++;
                    last = awq__re_char(p, &top);
                    if (top) p->at = NULL;
                }
                awq__re_range(p, cp, last);
            }
        }
    } else if (p->at < p->end && strchr("(){}?*+.^$|", *p->at)) {
        p->at = NULL;
    } else if ((cp = awq__re_char(p, &k->mask)) != UINT32_MAX) {
        awq__re_range(p, cp, cp);
    }
    if (!k->mask && !p->n) p->at = NULL;
    if (!p->at) return;
    edges = (uint32_t *)awq__arena_alloc(p->ctx, p->arena, 2 * (size_t)p->n + 1, sizeof *edges);
    if (!edges) {
        p->st = AWQ_E_MEMORY;
        p->at = NULL;
        return;
    }
    for (i = 0, top = 1; i < p->n; i++) { /* edges[0] is 0; ranges that touch are joined */
        uint32_t first = p->ranges[2 * i], behind = p->ranges[2 * i + 1] + 1;
        if (top > 1 && first <= edges[top - 1]) edges[top - 1] = AWQ__MAX(edges[top - 1], behind);
        else edges[top] = first, edges[top + 1] = behind, top += 2;
    }
    k->edges = edges;
    k->n_edges = p->n ? top : 0;
    for (i = 0; i < 128; i++) k->ascii[i >> 5] |= (uint32_t)awq__class_find(k, i) << (i & 31);
}

static int awq__re_number(awq__re *p) /* at most 3 digits, -1: none */
{
    int v = -1, n = 0;
    for (; p->at && p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
        if (n++ < 3) v = (v < 0 ? 0 : v) * 10 + (*p->at - '0');
        else p->at = NULL;
    return v;
}

static void awq__re_atom_read(awq__re *p, awq__re_atom *a)
{
    a->text = p->at;
    awq__re_class_read(p, &a->is);
    if (!p->at) return;
    a->len = (size_t)(p->at - a->text);
    a->min = a->max = 1;
    a->keep = 0;
    if (awq__re_take(p, "{")) {
        a->min = a->max = awq__re_number(p);
        if (awq__re_take(p, ",")) a->max = awq__re_number(p);
        if (a->max < 0) a->max = AWQ__RE_MANY;
        if (!awq__re_take(p, "}") || a->min < 0 || a->max < a->min || !a->max) p->at = NULL;
        if (awq__re_take(p, "+")) { /* not possessive here: the whole again and again */
            if (a->min > 1) p->at = NULL;
            a->max = AWQ__RE_MANY;
        }
    } else {
        if (awq__re_take(p, "?")) a->min = 0;
        else if (awq__re_take(p, "*")) a->min = 0, a->max = AWQ__RE_MANY;
        else if (awq__re_take(p, "+")) a->max = AWQ__RE_MANY;
        if (a->min == 0 || a->max > 1) a->keep = awq__re_take(p, "+");
    }
    if (p->at && p->at < p->end && (*p->at == '?' || *p->at == '*' || *p->at == '+')) p->at = NULL;
}

static int awq__re_contraction(awq__re *p)
{
    static const struct {
        const char *text;
        int how;
    } known[] = {{"(?i:'s|'t|'re|'ve|'m|'ll|'d)", AWQ__RE_ANY_CASE},
                 {"'(?i:[sdmt]|ll|ve|re)", AWQ__RE_ANY_CASE},
                 {"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", AWQ__RE_ASCII_CASE},
                 {"(?:'s|'t|'re|'ve|'m|'ll|'d)", AWQ__RE_LOWER}, {"'(?:[sdmt]|ll|ve|re)", AWQ__RE_LOWER}};
    size_t i;
    for (i = 0; i < sizeof known / sizeof known[0]; i++)
        if (awq__re_take(p, known[i].text)) return known[i].how;
    return 0;
}

static void awq__re_alternative_read(awq__re *p, awq__re_alternative *a)
{
    awq__re_atom atoms[4];
    const char *from = p->at;
    int n = 0, i = 0;
    size_t len = 0;
    while (from + len < p->end && !strchr("\\[](){}?*+.^$|", from[len])) len++;
    if (len && (from + len == p->end || from[len] == '|')) {
        a->kind = AWQ__RE_LITERAL;
        a->text = awq__arena_text(p->ctx, p->arena, from, len);
        a->len = len;
        p->at += len;
        if (!a->text) p->st = AWQ_E_MEMORY, p->at = NULL;
        return;
    }
    memset(atoms, 0, sizeof atoms);
    a->kind = AWQ__RE_CLASSES;
    while (p->at && p->at < p->end && *p->at != '|') {
        awq__re_atom *to = &atoms[n < 4 ? n : 3];
        if (a->contraction || a->end) { /* nothing may follow */
            p->at = NULL;
        } else if (awq__re_take(p, "(?!\\S)")) {
            a->end = AWQ__RE_NOT_BEFORE_TEXT;
        } else if (awq__re_take(p, "$")) {
            a->end = AWQ__RE_AT_LINE_END;
        } else if ((a->contraction = awq__re_contraction(p)) != 0) {
            if (!n) a->kind = AWQ__RE_CONTRACTION;
            else if (!awq__re_take(p, "?")) p->at = NULL;
        } else if (n == 4) {
            p->at = NULL;
        } else {
            awq__re_atom_read(p, to);
            if (p->at && n && to->min == to->max && to[-1].min == to[-1].max && to->len == to[-1].len
                && !memcmp(to->text, to[-1].text, to->len)) /* [0-9][0-9] is [0-9]{2} */
                to[-1].min = to[-1].max += to->max;
            else n++;
        }
    }
    if (!p->at || a->kind == AWQ__RE_CONTRACTION) return;
    if (n > 1 && atoms[0].max == 1) a->lead = atoms[i++];
    if (n - i > 1 && !atoms[i].min && atoms[i].max == AWQ__RE_MANY) a->many = atoms[i++];
    if (i < n) a->body = atoms[i++];
    if (i < n && !atoms[i].min) a->tail = atoms[i++];
    if (i < n || !a->body.min || a->body.min > 64 || (a->many.max && a->body.min > 1)
        || (a->end && (n > 1 || a->body.is.mask != AWQ__UC_IN_SPACE || a->body.is.n_edges || a->body.is.negated
                       || a->body.min > 1 || a->body.max != AWQ__RE_MANY)))
        p->at = NULL;
}

/* the regex for matching, in the arena; AWQ_E_UNSUPPORTED when it is not of the form above */
static awq_status awq__tok_regex_read(awq_ctx *ctx, awq__arena *arena, const char *path, const char *s,
                                      size_t n, const awq__tok_regex **regex)
{
    awq__tok_regex *r = (awq__tok_regex *)awq__arena_alloc(ctx, arena, 1, sizeof *r);
    awq__re p;
    if (!r) return AWQ_E_MEMORY;
    memset(&p, 0, sizeof p);
    p.ctx = ctx;
    p.arena = arena;
    p.at = s;
    p.end = s + n;
    do awq__re_alternative_read(&p, &r->at[r->n++]);
    while (p.at && p.at < p.end && r->n < AWQ__RE_MAX_ALTERNATIVES && awq__re_take(&p, "|"));
    if (p.st) return p.st;
    if (!p.at || p.at < p.end)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "%s: the regex %.700s is none of those known", path, s);
    *regex = r;
    return AWQ_OK;
}

/* --- the loaded tokenizer */
enum { /* kinds of steps; the last four belong to decoders */
    AWQ__STEP_PREPEND, AWQ__STEP_REPLACE, AWQ__STEP_NFC, AWQ__STEP_NFD, AWQ__STEP_TRIM, AWQ__STEP_SPLIT,
    AWQ__STEP_BYTES,
    AWQ__STEP_UNBYTES, AWQ__STEP_FALLBACK, AWQ__STEP_FUSE, AWQ__STEP_STRIP
};
enum { AWQ__PREPEND_ALWAYS, AWQ__PREPEND_UNLESS, AWQ__PREPEND_FIRST }; /* unless there; and only at byte 0 */
enum { AWQ__CUT_ISOLATED, AWQ__CUT_REMOVED, AWQ__CUT_CONTIGUOUS, AWQ__CUT_PREVIOUS, AWQ__CUT_NEXT };

typedef struct awq__tok_step {
    int kind;
    int prepend;                  /* PREPEND: when */
    int cut, invert;              /* SPLIT: how to cut */
    const awq__tok_regex *regex;  /* SPLIT, REPLACE: what is looked for; NULL: text */
    const char *text, *with;      /* what is looked for, stripped or put in front; what replaces it */
    size_t len, with_len;
    int drop_first;               /* REPLACE: by nothing in the first piece */
    int64_t start, stop;          /* STRIP: at most so many at either end */
} awq__tok_step;

typedef struct awq__tok_steps {
    awq__tok_step at[AWQ__TOK_MAX_STEPS];
    int n;
} awq__tok_steps;

enum { /* flags of a token */
    AWQ__TOK_PRESENT = 1, AWQ__TOK_VOCAB = 2, AWQ__TOK_ADDED = 4, AWQ__TOK_SPECIAL = 8, AWQ__TOK_LSTRIP = 16,
    AWQ__TOK_RSTRIP = 32, AWQ__TOK_WORD = 64, AWQ__TOK_NORMALIZED = 128, AWQ__TOK_SKIP = 256
};

typedef struct awq__tok_token {
    const char *text, *shown; /* as the file spells it; as decoding sees it */
    uint32_t len, shown_len, flags;
} awq__tok_token;

typedef struct awq__tok_merge { /* slot of an open-addressing table; id -1: empty */
    int32_t left, right, id;
    uint32_t rank;
} awq__tok_merge;

typedef struct awq__tok_added { /* sorted by text, so that one look-up finds the longest that fits */
    const char *text;
    uint32_t len;
    int32_t id;
} awq__tok_added;

typedef struct awq__tok_set {
    awq__tok_added *items;
    uint32_t count, first[257]; /* first[b]: the first item that begins with byte b or a larger one */
} awq__tok_set;

struct awq_tokenizer {
    awq__arena arena; /* owns everything below */
    uint64_t hash;
    int32_t n_ids, bos, eos, unk;
    int has_unk, fuse_unk, ignore_merges, has_decoder;
    uint32_t longest;        /* bytes of the longest token as decoding sees it */
    awq__tok_token *tokens; /* [n_ids] */
    uint32_t *slots, slot_mask; /* id + 1 of the token with this hash, 0: empty */
    awq__tok_merge *merges;
    uint32_t merge_mask;
    int32_t byte_ids[256];      /* of <0x00>..<0xFF>, -1: none */
    int32_t chars[0x180];       /* ids of the characters below U+0180, -1: none */
    awq__tok_steps normalizer, pre, decoder;
    awq__tok_set raw, normalized; /* added tokens, looked for before and after the normalizer */
    int32_t before[AWQ__TOK_MAX_STEPS], after[AWQ__TOK_MAX_STEPS]; /* what the post-processor adds */
    uint32_t n_before, n_after;
    int has_template;
    const char *chat_template;
};

static uint32_t awq__tok_hash(uint64_t h, const char *s, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3ull;
    return (uint32_t)(h ^ h >> 32);
}

/* The slot of the text a then b: that of the token, or the empty one where it belongs. The file's hash is the
   seed, so that a file whose tokens collide is hard to make. */
static uint32_t awq__tok_slot(const awq_tokenizer *t, const char *a, size_t an, const char *b, size_t bn)
{
    uint64_t h = t->hash;
    uint32_t i;
    size_t k;
    for (k = 0; k < an; k++) h = (h ^ (unsigned char)a[k]) * 0x100000001b3ull;
    for (i = awq__tok_hash(h, b, bn) & t->slot_mask; t->slots[i]; i = (i + 1) & t->slot_mask) {
        const awq__tok_token *k2 = &t->tokens[t->slots[i] - 1];
        if (k2->len == an + bn && !memcmp(k2->text, a, an) && !memcmp(k2->text + an, b, bn)) break;
    }
    return i;
}

static int32_t awq__tok_id(const awq_tokenizer *t, const char *s, size_t n) /* any token, -1: none */
{
    return (int32_t)t->slots[awq__tok_slot(t, s, n, "", 0)] - 1;
}

static int32_t awq__tok_vocab(const awq_tokenizer *t, const char *s, size_t n) /* of the model's own only */
{
    int32_t id = awq__tok_id(t, s, n);
    return id >= 0 && (t->tokens[id].flags & AWQ__TOK_VOCAB) ? id : -1;
}

static awq__tok_merge *awq__tok_pair(const awq_tokenizer *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ t->hash;
    uint32_t i;
    h *= 0x9e3779b97f4a7c15ull;
    h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull;
    for (i = (uint32_t)(h >> 32) & t->merge_mask; t->merges[i].id >= 0; i = (i + 1) & t->merge_mask)
        if (t->merges[i].left == left && t->merges[i].right == right) break;
    return &t->merges[i];
}

/* --- work of one call: text in pieces, rewritten from one buffer to the other */
typedef struct awq__tok_text {
    awq__text text;
    size_t *ends, n, cap; /* ends of the consecutive pieces */
} awq__tok_text;

typedef struct awq__tok_symbol {
    int32_t id, prev, next; /* id -1: merged into another */
} awq__tok_symbol;

typedef struct awq__tok_work {
    awq_ctx *ctx;
    const awq_tokenizer *t;
    awq__tok_text now, next;
    awq__text raw;              /* the normalized segment, while its parts go through `now` */
    size_t limit;               /* bytes that a step may make of the text */
    int at_start;               /* the segment begins at byte 0 of the whole text */
    int decoding;
    awq__tok_symbol *symbols;
    uint64_t *heap;
    size_t cap_symbols, n_heap, cap_heap;
    int32_t *ids;
    size_t n_ids, cap_ids;
} awq__tok_work;

static void awq__tok_work_free(awq__tok_work *w)
{
    awq__text_free(w->ctx, &w->now.text);
    awq__text_free(w->ctx, &w->next.text);
    awq__text_free(w->ctx, &w->raw);
    awq__free(w->ctx, w->now.ends);
    awq__free(w->ctx, w->next.ends);
    awq__free(w->ctx, w->symbols);
    awq__free(w->ctx, w->heap);
    awq__free(w->ctx, w->ids);
}

static void awq__tok_work_init(awq__tok_work *w, awq_ctx *ctx, const awq_tokenizer *t, size_t limit)
{
    memset(w, 0, sizeof *w);
    w->limit = limit;
    w->ctx = ctx;
    w->t = t;
}

static void awq__tok_add(awq__tok_work *w, const char *s, size_t n)
{
    awq__text *out = &w->next.text;
    if (out->failed) return;
    if (n > w->limit || out->len > w->limit - n) {
        out->failed = 1;
        awq__fail(w->ctx, AWQ_E_LIMIT, "the tokenizer's steps make more than %llu bytes of this text",
                  (unsigned long long)w->limit);
        return;
    }
    awq__text_add(w->ctx, out, s, n);
}

static void awq__tok_end(awq__tok_work *w) /* the piece under construction ends here */
{
    awq__tok_text *b = &w->next;
    if (b->text.failed) return;
    if (!awq__grow(w->ctx, (void **)&b->ends, &b->cap, b->n + 1, sizeof *b->ends)) b->text.failed = 1;
    else b->ends[b->n++] = b->text.len;
}

static void awq__tok_clear(awq__tok_text *b) { b->text.len = b->n = 0; }

static void awq__tok_swap(awq__tok_work *w)
{
    awq__tok_text tmp = w->now;
    w->now = w->next;
    w->next = tmp;
}

/* where the next thing that a SPLIT or REPLACE looks for begins, and ends (*to, 0: there is none) */
static size_t awq__tok_find(const awq__tok_step *step, const char *s, size_t at, size_t end, size_t *to)
{
    size_t next;
    for (*to = 0; at < end; at = next) {
        if (step->regex) {
            *to = awq__scan(step->regex, s, at, end, &next);
            if (*to > at) return at;
        } else {
            const char *hit = (const char *)memchr(s + at, step->text[0], end - at);
            if (!hit || (at = (size_t)(hit - s)) + step->len > end) break;
            if (!memcmp(hit, step->text, step->len)) {
                *to = at + step->len;
                return at;
            }
            next = at + 1;
        }
    }
    *to = 0;
    return end;
}

/* one stretch of a piece, found or between two that are */
static void awq__tok_cut(awq__tok_work *w, const awq__tok_step *step, const char *s, size_t n, int found,
                         int *before)
{
    int join;
    if (step->invert) found = !found;
    if (step->cut == AWQ__CUT_REMOVED && found) {
        w->at_start &= w->next.text.len > 0;
        return;
    }
    join = *before >= 0 && ((step->cut == AWQ__CUT_CONTIGUOUS && found == *before)
                            || (step->cut == AWQ__CUT_PREVIOUS && found && !*before)
                            || (step->cut == AWQ__CUT_NEXT && !found && *before));
    *before = found;
    awq__tok_add(w, s, n);
    if (join && !w->next.text.failed) w->next.ends[w->next.n - 1] = w->next.text.len;
    else awq__tok_end(w);
}

static void awq__tok_split(awq__tok_work *w, const awq__tok_step *step, const char *s, size_t n)
{
    size_t at, gap = 0, end;
    int before = -1; /* whether the last stretch was found; -1: there is none */
    for (; gap < n && !w->next.text.failed; gap = end) {
        at = awq__tok_find(step, s, gap, n, &end);
        if (at > gap) awq__tok_cut(w, step, s + gap, at - gap, 0, &before);
        if (!end) break;
        awq__tok_cut(w, step, s + at, end - at, 1, &before);
    }
}

static void awq__tok_replace(awq__tok_work *w, const awq__tok_step *step, const char *s, size_t n, int drop)
{
    size_t at, from = 0, end;
    for (; from < n && !w->next.text.failed; from = end) {
        at = awq__tok_find(step, s, from, n, &end);
        awq__tok_add(w, s + from, at - from);
        if (!end) break;
        if (!drop) awq__tok_add(w, step->with, step->with_len);
    }
}

/* GPT-2's stand-ins: bytes that are printable in Latin-1 are themselves, the others U+0100 and up in order */
static uint32_t awq__tok_byte_char(unsigned b)
{
    if ((b >= 33 && b <= 126) || (b >= 161 && b != 173)) return b;
    return b <= 32 ? 256 + b : b <= 160 ? 256 + b - 94 : 323;
}

static int awq__tok_char_byte(uint32_t cp) /* -1: no stand-in */
{
    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 255 && cp != 173)) return (int)cp;
    if (cp < 256 || cp > 323) return -1;
    return cp <= 288 ? (int)cp - 256 : cp <= 322 ? (int)cp - 256 + 94 : 173;
}

/* bytes of one token, stand-ins resolved; a token with any other character stands for its own UTF-8 */
static void awq__tok_unbytes(awq__tok_work *w, const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t i, from = w->next.text.len;
    for (i = 0; i < n; i += (size_t)awq__utf8_len(u + i, n - i)) {
        int b = awq__tok_char_byte(awq__utf8_get(u + i, awq__utf8_len(u + i, n - i)));
        char c = (char)b;
        if (b < 0) {
            w->next.text.len = AWQ__MIN(from, w->next.text.len);
            awq__tok_add(w, s, n);
            return;
        }
        awq__tok_add(w, &c, 1);
    }
}

/* bytes that one U+FFFD stands for where s is not valid: the longest valid beginning, or one */
static size_t awq__tok_bad(const unsigned char *s, size_t n)
{
    size_t k, need = s[0] < 0xc2 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 1;
    for (k = 1; k < need && k < n; k++) {
        unsigned lo = 0x80, hi = 0xbf;
        if (k == 1 && s[0] == 0xe0) lo = 0xa0;
        if (k == 1 && s[0] == 0xed) hi = 0x9f;
        if (k == 1 && s[0] == 0xf0) lo = 0x90;
        if (k == 1 && s[0] == 0xf4) hi = 0x8f;
        if (s[k] < lo || s[k] > hi) break;
    }
    return k;
}

static void awq__tok_lossy(awq__tok_work *w, const char *s, size_t n) /* bytes to UTF-8 */
{
    const unsigned char *u = (const unsigned char *)s;
    size_t i = 0, from = 0;
    while (i < n) {
        size_t len = (size_t)awq__utf8_len(u + i, n - i);
        if (len) {
            i += len;
            continue;
        }
        awq__tok_add(w, s + from, i - from);
        awq__tok_add(w, "\xef\xbf\xbd", 3);
        from = i += awq__tok_bad(u + i, n - i);
    }
    awq__tok_add(w, s + from, n - from);
}

static int awq__tok_hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static int awq__tok_byte_token(const char *s, size_t n) /* the byte that "<0x0A>" stands for, else -1 */
{
    int hi, lo;
    if (n != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return -1;
    hi = awq__tok_hex(s[3]);
    lo = awq__tok_hex(s[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

/* Runs of byte tokens become their text, or one U+FFFD per byte where the run as a whole is not UTF-8. */
static void awq__tok_fallback(awq__tok_work *w)
{
    const awq__tok_text *a = &w->now;
    size_t i, k, from = 0, run = 0; /* the newest `run` bytes of next.text are byte tokens */
    for (i = 0; i <= a->n; i++) {
        int b = i < a->n ? awq__tok_byte_token(a->text.data + from, a->ends[i] - from) : -1;
        char c = (char)b;
        if (b >= 0) {
            awq__tok_add(w, &c, 1);
            run++;
        } else if (run && !w->next.text.failed) {
            const unsigned char *u = (const unsigned char *)w->next.text.data + w->next.text.len - run;
            int len = 1;
            for (k = 0; k < run && (len = awq__utf8_len(u + k, run - k)) > 0; k += (size_t)len)
                ;
            if (!len) {
                w->next.text.len -= run;
                for (k = 0; k < run; k++) awq__tok_add(w, "\xef\xbf\xbd", 3);
            }
            awq__tok_end(w);
            run = 0;
        }
        if (i == a->n) break;
        if (b < 0) {
            awq__tok_add(w, a->text.data + from, a->ends[i] - from);
            awq__tok_end(w);
        }
        from = a->ends[i];
    }
}

static void awq__tok_strip(awq__tok_work *w, const awq__tok_step *step, const char *s, size_t n)
{
    int64_t i;
    for (i = 0; i < step->start && n >= step->len && !memcmp(s, step->text, step->len); i++) {
        s += step->len;
        n -= step->len;
    }
    for (i = 0; i < step->stop && n >= step->len && !memcmp(s + n - step->len, step->text, step->len); i++)
        n -= step->len;
    awq__tok_add(w, s, n);
}

/* one step over all pieces: w->now to w->now */
static awq_status awq__tok_step_run(awq__tok_work *w, const awq__tok_step *step)
{
    const awq__tok_text *a = &w->now;
    size_t i, k, from = 0;
    awq__tok_clear(&w->next);
    if (step->kind == AWQ__STEP_FALLBACK) awq__tok_fallback(w);
    else if (step->kind == AWQ__STEP_FUSE) {
        awq__tok_add(w, a->text.data, a->text.len);
        awq__tok_end(w);
    } else if (step->kind == AWQ__STEP_UNBYTES) {
        for (i = 0; i < a->n; from = a->ends[i++]) awq__tok_unbytes(w, a->text.data + from, a->ends[i] - from);
        if (w->next.text.failed) return w->ctx->err.status;
        awq__tok_swap(w);
        awq__tok_clear(&w->next);
        awq__tok_lossy(w, a->text.data, a->text.len);
        awq__tok_end(w);
    } else for (i = 0; i < a->n && !w->next.text.failed; from = a->ends[i++]) {
        const char *s = a->text.data + from;
        size_t n = a->ends[i] - from, began = w->next.text.len;
        switch (step->kind) {
        case AWQ__STEP_PREPEND:
            if (step->prepend == AWQ__PREPEND_ALWAYS
                || ((n < step->len || memcmp(s, step->text, step->len))
                    && (step->prepend == AWQ__PREPEND_UNLESS || (i == 0 && w->at_start))))
                awq__tok_add(w, step->text, step->len);
            awq__tok_add(w, s, n);
            break;
        case AWQ__STEP_REPLACE: awq__tok_replace(w, step, s, n, step->drop_first && i == 0); break;
        case AWQ__STEP_NFC: AWQ__TRY(awq__uni_nfc(w->ctx, s, n, &w->next.text)); break;
        case AWQ__STEP_NFD: AWQ__TRY(awq__uni_normalize(w->ctx, s, n, 0, &w->next.text)); break;
        case AWQ__STEP_TRIM:
            if (step->start) {
                k = awq__scan_run(s, 0, n, &awq__class_space, AWQ__RE_MANY);
                s += k;
                n -= k;
            }
            while (step->stop && n && awq__scan_char(s, awq__char_before(s, n), n, &awq__class_space, &k))
                n = awq__char_before(s, n);
            awq__tok_add(w, s, n);
            break;
        case AWQ__STEP_SPLIT: awq__tok_split(w, step, s, n); continue;
        case AWQ__STEP_BYTES:
            for (k = 0; k < n; k++) {
                char utf8[4];
                awq__tok_add(w, utf8, (size_t)awq__utf8_put(awq__tok_byte_char((unsigned char)s[k]), utf8));
            }
            break;
        default: awq__tok_strip(w, step, s, n);
        }
        if (w->decoding || w->next.text.len > began) awq__tok_end(w); /* only tokens stay when they are empty */
    }
    if (w->next.text.failed) return w->ctx->err.status;
    awq__tok_swap(w);
    return AWQ_OK;
}

static awq_status awq__tok_steps_run(awq__tok_work *w, const awq__tok_steps *steps)
{
    int i;
    for (i = 0; i < steps->n; i++) AWQ__TRY(awq__tok_step_run(w, &steps->at[i]));
    return AWQ_OK;
}

static awq_status awq__tok_set_text(awq__tok_work *w, const char *s, size_t n) /* one piece into w->now */
{
    awq__tok_clear(&w->next);
    awq__tok_add(w, s, n);
    if (n) awq__tok_end(w);
    awq__tok_swap(w);
    return w->now.text.failed ? w->ctx->err.status : AWQ_OK;
}

/* --- byte pair merging */
static awq_status awq__tok_push(awq__tok_work *w, int32_t id)
{
    if (!awq__grow(w->ctx, (void **)&w->ids, &w->cap_ids, w->n_ids + 1, sizeof *w->ids)) return AWQ_E_MEMORY;
    w->ids[w->n_ids++] = id;
    return AWQ_OK;
}

/* The heap holds rank * 2^32 + position of pairs that may merge, the first to merge on top; every node has four
   children. Entries go stale when a neighbour merges and are dropped when they come up. */
static void awq__tok_offer(awq__tok_work *w, int32_t at, int32_t right)
{
    const awq__tok_merge *m = awq__tok_pair(w->t, w->symbols[at].id, w->symbols[right].id);
    uint64_t key = (uint64_t)m->rank << 32 | (uint32_t)at;
    size_t i = w->n_heap;
    if (m->id < 0) return;
    for (w->n_heap++; i && key < w->heap[(i - 1) / 4]; i = (i - 1) / 4) w->heap[i] = w->heap[(i - 1) / 4];
    w->heap[i] = key;
}

static uint64_t awq__tok_take(awq__tok_work *w)
{
    uint64_t top = w->heap[0], key = w->heap[--w->n_heap];
    size_t i = 0, k, end, best;
    while ((k = 4 * i + 1) < w->n_heap) {
        end = AWQ__MIN(k + 4, w->n_heap);
        for (best = k++; k < end; k++)
            if (w->heap[k] < w->heap[best]) best = k;
        if (key <= w->heap[best]) break;
        w->heap[i] = w->heap[best];
        i = best;
    }
    w->heap[i] = key;
    return top;
}

/* one piece to ids */
static awq_status awq__tok_merge_piece(awq__tok_work *w, const char *s, size_t n)
{
    const awq_tokenizer *t = w->t;
    awq__tok_symbol *y;
    size_t at, k;
    int32_t i, id, count = 0, unk = -1;
    if (t->ignore_merges && (id = awq__tok_vocab(t, s, n)) >= 0) return awq__tok_push(w, id);
    if (!awq__grow(w->ctx, (void **)&w->symbols, &w->cap_symbols, n + 1, sizeof *w->symbols)
        || !awq__grow(w->ctx, (void **)&w->heap, &w->cap_heap, 3 * n, sizeof *w->heap))
        return AWQ_E_MEMORY;
    y = w->symbols;
    for (at = 0; at < n;) { /* one symbol a character; unknown ones as byte tokens or the unknown token */
        const unsigned char *u = (const unsigned char *)s + at;
        size_t len = (size_t)awq__utf8_len(u, n - at);
        uint32_t cp = awq__utf8_get(u, (int)len);
        id = cp < 0x180 ? t->chars[cp] : awq__tok_vocab(t, s + at, len);
        if (id < 0) {
            for (k = 0; k < len && t->byte_ids[u[k]] >= 0; k++)
                ;
            if (k == len) {
                for (k = 0; k < len; k++) y[count++].id = t->byte_ids[u[k]];
            } else if (t->has_unk) {
                if (t->unk < 0)
                    return awq__fail(w->ctx, AWQ_E_FORMAT, "awq_encode: U+%04X is not in the vocabulary, and "
                                     "neither is the unknown token", (unsigned)cp);
                if (unk >= 0 && !t->fuse_unk) y[count++].id = unk;
                unk = t->unk;
            }
        } else {
            if (unk >= 0) y[count++].id = unk;
            unk = -1;
            y[count++].id = id;
        }
        at += len;
    }
    if (unk >= 0) y[count++].id = unk;
    for (i = 0; i < count; i++) {
        y[i].prev = i - 1;
        y[i].next = i + 1 < count ? i + 1 : -1;
    }
    w->n_heap = 0;
    for (i = 0; i + 1 < count; i++) awq__tok_offer(w, i, i + 1);
    while (w->n_heap) {
        uint64_t key = awq__tok_take(w);
        int32_t left = (int32_t)(key & 0x7fffffff), right = y[left].next;
        const awq__tok_merge *m;
        if (y[left].id < 0 || right < 0) continue;
        m = awq__tok_pair(t, y[left].id, y[right].id);
        if (m->id < 0 || m->rank != key >> 32) continue;
        y[left].id = m->id;
        y[left].next = y[right].next;
        y[right].id = -1;
        if (y[right].next >= 0) y[y[right].next].prev = left;
        if (y[left].prev >= 0) awq__tok_offer(w, y[left].prev, left);
        if (y[left].next >= 0) awq__tok_offer(w, left, y[left].next);
    }
    for (i = 0; i >= 0 && i < count; i = y[i].next) AWQ__TRY(awq__tok_push(w, y[i].id));
    return AWQ_OK;
}

/* --- added tokens */
static int awq__tok_added_order(const void *a, const void *b)
{
    const awq__tok_added *x = (const awq__tok_added *)a, *y = (const awq__tok_added *)b;
    int c = memcmp(x->text, y->text, AWQ__MIN(x->len, y->len));
    if (c) return c;
    return x->len != y->len ? (x->len < y->len ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}

/* id of the longest added token that s begins with, -1: none */
static int32_t awq__tok_longest(const awq__tok_set *set, const char *s, size_t n, size_t *len)
{
    uint32_t lo = set->first[(unsigned char)s[0]], hi = set->first[(unsigned char)s[0] + 1], d;
    int32_t id = -1;
    for (d = 1; lo < hi; d++) { /* items lo..hi begin with the first d bytes of s */
        uint32_t a, b;
        if (set->items[lo].len == d) {
            id = set->items[lo].id;
            *len = d;
            while (lo < hi && set->items[lo].len == d) lo++;
        }
        if (d >= n) break;
        for (a = lo, b = hi; a < b;) {
            uint32_t mid = a + (b - a) / 2;
            if ((unsigned char)set->items[mid].text[d] < (unsigned char)s[d]) a = mid + 1;
            else b = mid;
        }
        lo = a;
        for (b = hi; a < b;) {
            uint32_t mid = a + (b - a) / 2;
            if ((unsigned char)set->items[mid].text[d] <= (unsigned char)s[d]) a = mid + 1;
            else b = mid;
        }
        hi = a;
    }
    return id;
}

static int awq__tok_word_char(const char *s, size_t n) /* \w at the start of s */
{
    uint32_t cp = awq__utf8_get((const unsigned char *)s, awq__utf8_len((const unsigned char *)s, n));
    if (awq__uni_in(cp, AWQ__UC_IN_L | AWQ__UC_IN_M | AWQ__UC_BIT(AWQ__UC_ND) | AWQ__UC_BIT(AWQ__UC_NL)
                            | AWQ__UC_BIT(AWQ__UC_PC)))
        return 1;
    return cp == 0x200c || cp == 0x200d || (cp >= 0x24b6 && cp <= 0x24e9) /* joiners, letters in So */
           || (cp >= 0x1f130 && cp <= 0x1f149) || (cp >= 0x1f150 && cp <= 0x1f169)
           || (cp >= 0x1f170 && cp <= 0x1f189);
}

/* Cut s at its added tokens: `text` gets what lies between. */
static awq_status awq__tok_extract(awq__tok_work *w, const awq__tok_set *set, const char *s, size_t n,
                                   int at_start,
                                   awq_status (*text)(awq__tok_work *w, const char *s, size_t n, int at_start))
{
    size_t at, from = 0, len = 0, next;
    if (!set->count) return text(w, s, n, at_start);
    for (at = 0; at < n;) {
        int32_t id = awq__tok_longest(set, s + at, n - at, &len);
        size_t start = at, stop = at + len;
        uint32_t flags;
        if (id < 0) {
            at++;
            continue;
        }
        at = stop;
        flags = w->t->tokens[id].flags;
        if ((flags & AWQ__TOK_WORD)
            && ((start && awq__tok_word_char(s + awq__char_before(s, start), 4))
                || (stop < n && awq__tok_word_char(s + stop, n - stop))))
            continue;
        while ((flags & AWQ__TOK_LSTRIP) && start > from) {
            size_t p = awq__char_before(s, start);
            if (!awq__scan_char(s, p, start, &awq__class_space, &next)) break;
            start = p;
        }
        if (flags & AWQ__TOK_LSTRIP) start = AWQ__MAX(start, from); /* the last one may have taken the space */
        if (flags & AWQ__TOK_RSTRIP) stop = awq__scan_run(s, stop, n, &awq__class_space, AWQ__RE_MANY);
        if (start >= stop) continue;
        if (start > from) AWQ__TRY(text(w, s + from, start - from, at_start && from == 0));
        AWQ__TRY(awq__tok_push(w, id));
        from = stop;
    }
    if (from < n) AWQ__TRY(text(w, s + from, n - from, at_start && from == 0));
    return AWQ_OK;
}

static awq_status awq__tok_encode_part(awq__tok_work *w, const char *s, size_t n, int at_start)
{
    size_t i, from = 0;
    AWQ__TRY(awq__tok_set_text(w, s, n));
    w->at_start = at_start;
    AWQ__TRY(awq__tok_steps_run(w, &w->t->pre));
    for (i = 0; i < w->now.n; from = w->now.ends[i++])
        AWQ__TRY(awq__tok_merge_piece(w, w->now.text.data + from, w->now.ends[i] - from));
    return AWQ_OK;
}

static awq_status awq__tok_encode_segment(awq__tok_work *w, const char *s, size_t n, int at_start)
{
    awq__text swap;
    if (!w->t->normalizer.n && !w->t->normalized.count) return awq__tok_encode_part(w, s, n, at_start);
    AWQ__TRY(awq__tok_set_text(w, s, n));
    AWQ__TRY(awq__tok_steps_run(w, &w->t->normalizer));
    swap = w->raw;
    w->raw = w->now.text;
    w->now.text = swap;
    return awq__tok_extract(w, &w->t->normalized, w->raw.data, w->raw.len, at_start, awq__tok_encode_part);
}

AWQ_API awq_status awq_encode(awq_ctx *ctx, const awq_tokenizer *tokenizer, const char *text, size_t bytes,
                              int special, int32_t *ids, size_t cap, size_t *count)
{
    awq__tok_work w;
    awq_status st = AWQ_OK;
    size_t i = 0;
    uint32_t k;
    if (bytes > AWQ__TOK_MAX_FILE)
        return awq__fail(ctx, AWQ_E_LIMIT, "awq_encode: the text has %llu bytes, at most %llu are taken",
                         (unsigned long long)bytes, (unsigned long long)AWQ__TOK_MAX_FILE);
    while (i < bytes) {
        int len = awq__utf8_len((const unsigned char *)text + i, bytes - i);
        if (!len)
            return awq__fail(ctx, AWQ_E_ARG, "awq_encode: the text is not UTF-8 at byte %llu (0x%02x)",
                             (unsigned long long)i, (unsigned)(unsigned char)text[i]);
        i += (size_t)len;
    }
    awq__tok_work_init(&w, ctx, tokenizer, 64 * bytes + 65536);
    for (k = 0; special && !st && k < tokenizer->n_before; k++) st = awq__tok_push(&w, tokenizer->before[k]);
    if (!st && bytes) st = awq__tok_extract(&w, &tokenizer->raw, text, bytes, 1, awq__tok_encode_segment);
    for (k = 0; special && !st && k < tokenizer->n_after; k++) st = awq__tok_push(&w, tokenizer->after[k]);
    if (!st) {
        if (w.n_ids && cap) memcpy(ids, w.ids, AWQ__MIN(w.n_ids, cap) * sizeof *ids);
        *count = w.n_ids;
    }
    awq__tok_work_free(&w);
    return st;
}

/* --- decoding: the text of n ids into w->now.text */
static awq_status awq__tok_decode(awq__tok_work *w, const int32_t *ids, size_t n, int skip_special)
{
    const awq_tokenizer *t = w->t;
    size_t i;
    awq__tok_clear(&w->next);
    w->decoding = 1;
    w->limit = SIZE_MAX / 4;
    for (i = 0; i < n; i++) {
        const awq__tok_token *k;
        if (ids[i] < 0 || ids[i] >= t->n_ids || !(t->tokens[ids[i]].flags & AWQ__TOK_PRESENT))
            return awq__fail(w->ctx, AWQ_E_ARG, "decode: token id %ld is not in the vocabulary of %ld ids",
                             (long)ids[i], (long)t->n_ids);
        k = &t->tokens[ids[i]];
        if (skip_special && (k->flags & AWQ__TOK_SKIP)) continue;
        if (!t->has_decoder && w->next.n) awq__tok_add(w, " ", 1);
        awq__tok_add(w, k->shown, k->shown_len);
        awq__tok_end(w);
    }
    awq__tok_swap(w);
    if (w->now.text.failed) return w->ctx->err.status;
    w->limit = 64 * w->now.text.len + 65536;
    return awq__tok_steps_run(w, &t->decoder);
}

AWQ_API awq_status awq_decode(awq_ctx *ctx, const awq_tokenizer *tokenizer, const int32_t *ids, size_t count,
                              int skip_special, char *text, size_t cap, size_t *bytes)
{
    awq__tok_work w;
    awq_status st;
    awq__tok_work_init(&w, ctx, tokenizer, SIZE_MAX / 4);
    st = awq__tok_decode(&w, ids, count, skip_special);
    if (!st) {
        size_t n = cap ? AWQ__MIN(w.now.text.len, cap - 1) : 0;
        if (n) memcpy(text, w.now.text.data, n);
        if (cap) text[n] = 0;
        *bytes = w.now.text.len;
    }
    awq__tok_work_free(&w);
    return st;
}

static int awq__tok_unfinished(const awq__text *text) /* ends in U+FFFD: a character may not be complete yet */
{
    return text->len >= 3 && !memcmp(text->data + text->len - 3, "\xef\xbf\xbd", 3);
}

/* the decoder's buffers, kept from push to push */
static awq__tok_work *awq__decoder_work(awq_ctx *ctx, const awq_tokenizer *t, awq_decoder *d)
{
    awq__tok_work *w = (awq__tok_work *)d->work;
    if (!w) {
        w = AWQ__NEW(ctx, awq__tok_work, 1);
        if (!w) return NULL;
        d->work = w;
    }
    w->ctx = ctx;
    w->t = t;
    w->now.text.failed = w->next.text.failed = 0; /* an allocation that failed once may succeed now */
    return w;
}

/* bytes of the longest piece of text that a push usually hands out: a few of the longest tokens, and as many
   ids without text of their own (parts of a character, special ones) as are ever held */
static size_t awq__decoder_longest(const awq_tokenizer *t)
{
    return 8 * (size_t)t->longest + 8 * (AWQ__TOK_MAX_HELD + 2);
}

/* room for what a push usually needs, so that it allocates nothing */
static awq_status awq__decoder_reserve(awq_ctx *ctx, const awq_tokenizer *t, awq_decoder *d)
{
    size_t k = AWQ__TOK_MAX_HELD + 2, n = awq__decoder_longest(t);
    awq__tok_work *w = awq__decoder_work(ctx, t, d);
    if (!w || !awq__grow(ctx, (void **)&d->ids, &d->cap_ids, k, sizeof *d->ids)
        || !awq__grow(ctx, (void **)&d->text, &d->cap_text, n, 1)
        || !awq__grow(ctx, (void **)&d->chunk, &d->cap_chunk, n, 1)
        || !awq__grow(ctx, (void **)&w->now.text.data, &w->now.text.cap, n, 1)
        || !awq__grow(ctx, (void **)&w->next.text.data, &w->next.text.cap, n, 1)
        || !awq__grow(ctx, (void **)&w->now.ends, &w->now.cap, k, sizeof *w->now.ends)
        || !awq__grow(ctx, (void **)&w->next.ends, &w->next.cap, k, sizeof *w->next.ends))
        return AWQ_E_MEMORY;
    return AWQ_OK;
}

/* The window d->ids decodes to what was shown already, d->text[0, prefix) from its first `read` ids, and then
   what is new. New text is handed out once it does not end in U+FFFD; the window then loses `read` ids. */
AWQ_API awq_status awq_decoder_push(awq_ctx *ctx, const awq_tokenizer *tokenizer, awq_decoder *d, int32_t id,
                                    const char **text, size_t *bytes)
{
    awq__tok_work *w = awq__decoder_work(ctx, tokenizer, d);
    awq_status st = AWQ_OK;
    size_t chunk = 0, from;
    if (!w || !awq__grow(ctx, (void **)&d->ids, &d->cap_ids, d->n_ids + 1, sizeof *d->ids)) return AWQ_E_MEMORY;
    if (!d->prefix && d->n_ids) {
        st = awq__tok_decode(w, d->ids, d->n_ids, d->skip_special);
        if (!st && !awq__tok_unfinished(&w->now.text)) {
            if (!awq__grow(ctx, (void **)&d->text, &d->cap_text, w->now.text.len + 1, 1)) st = AWQ_E_MEMORY;
            else {
                if (w->now.text.len) memcpy(d->text, w->now.text.data, w->now.text.len);
                d->prefix = w->now.text.len;
                d->read = d->n_ids;
            }
        }
    }
    d->ids[d->n_ids++] = id;
    if (!st) st = awq__tok_decode(w, d->ids, d->n_ids, d->skip_special);
    if (!st && ((w->now.text.len > d->prefix && !awq__tok_unfinished(&w->now.text))
                || d->n_ids > AWQ__TOK_MAX_HELD)) {
        from = AWQ__MIN(d->prefix, w->now.text.len);
        if (from && memcmp(w->now.text.data, d->text, from)) { /* what was shown reads differently now: go on */
            st = awq__tok_decode(w, d->ids + d->read, d->n_ids - d->read, d->skip_special);
            from = 0;
        }
        chunk = st ? 0 : w->now.text.len - from;
        if (!st && !awq__grow(ctx, (void **)&d->chunk, &d->cap_chunk, chunk + 1, 1)) st = AWQ_E_MEMORY;
        if (!st) {
            if (chunk) memcpy(d->chunk, w->now.text.data + from, chunk);
            d->chunk[chunk] = 0;
            st = awq__tok_decode(w, d->ids + d->read, d->n_ids - d->read, d->skip_special);
        }
        if (!st && !awq__grow(ctx, (void **)&d->text, &d->cap_text, w->now.text.len + 1, 1)) st = AWQ_E_MEMORY;
        if (!st) { /* the new prefix */
            d->prefix = w->now.text.len;
            if (d->prefix) memcpy(d->text, w->now.text.data, d->prefix);
            d->n_ids -= d->read;
            memmove(d->ids, d->ids + d->read, d->n_ids * sizeof *d->ids);
            d->read = d->n_ids;
        }
    }
    if (st) d->n_ids--;
    else {
        *text = chunk ? d->chunk : "";
        *bytes = chunk;
    }
    return st;
}

AWQ_API void awq_decoder_free(awq_ctx *ctx, awq_decoder *decoder)
{
    if (decoder->work) {
        ((awq__tok_work *)decoder->work)->ctx = ctx;
        awq__tok_work_free((awq__tok_work *)decoder->work);
    }
    awq__free(ctx, decoder->work);
    awq__free(ctx, decoder->ids);
    awq__free(ctx, decoder->text);
    awq__free(ctx, decoder->chunk);
    memset(decoder, 0, sizeof *decoder);
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>tokenizer_file
   Reads tokenizer.json, tokenizer_config.json, chat_template.jinja or .json into an awq_tokenizer.
   Invariants: whatever the file says that would change ids or text is done or refused by name; ids, tokens and
   merges that contradict each other are refused; linear in the file.
   Tests: tests/test_tokenizer.c, tests/fuzz_tokenizer.c */

enum { AWQ__IN_NORMALIZER, AWQ__IN_PRE, AWQ__IN_DECODER, AWQ__IN_POST };

typedef struct awq__tok_load {
    awq_ctx *ctx;
    awq_tokenizer *t;
    const char *path;
    awq__json json;
    int in;               /* component being read */
    awq__tok_steps *steps; /* where its steps go */
} awq__tok_load;

static awq_status awq__tok_unsupported(awq__tok_load *b, const char *what, uint32_t node, const char *member)
{
    const char *s = awq__json_str(&b->json, awq__json_get(&b->json, node, member), NULL);
    return awq__fail(b->ctx, s ? AWQ_E_UNSUPPORTED : AWQ_E_FORMAT, "%s: %s with %s '%.300s' is not supported",
                     b->path, what, member, s ? s : "(none)");
}

/* a boolean member */
static int awq__tok_is(const awq__tok_load *b, uint32_t node, const char *key, int otherwise)
{
    int v = awq__json_bool(&b->json, awq__json_get(&b->json, node, key));
    return v < 0 ? otherwise : v;
}

/* the string member `key` copied into the arena */
static awq_status awq__tok_string(awq__tok_load *b, uint32_t node, const char *key, const char **text,
                                  size_t *len)
{
    const char *s = awq__json_str(&b->json, awq__json_get(&b->json, node, key), len);
    if (!s) return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: '%s' of a component is not a string", b->path, key);
    if (*len > AWQ__TOK_MAX_PATTERN)
        return awq__fail(b->ctx, AWQ_E_LIMIT, "%s: '%s' of a component has %llu bytes, at most %d are taken",
                         b->path, key, (unsigned long long)*len, AWQ__TOK_MAX_PATTERN);
    *text = awq__arena_text(b->ctx, &b->t->arena, s, *len);
    return *text ? AWQ_OK : AWQ_E_MEMORY;
}

static awq_status awq__tok_step_new(awq__tok_load *b, int kind, const char *text, size_t len,
                                    awq__tok_step **step)
{
    *step = b->steps->at;
    if (b->steps->n == AWQ__TOK_MAX_STEPS)
        return awq__fail(b->ctx, AWQ_E_LIMIT, "%s: more than %d steps in a component", b->path,
                         AWQ__TOK_MAX_STEPS);
    *step += b->steps->n++;
    (*step)->kind = kind;
    (*step)->text = text;
    (*step)->len = len;
    return AWQ_OK;
}

static awq_status awq__tok_regex_into(awq__tok_load *b, awq__tok_step *step, const char *s, size_t n)
{
    return awq__tok_regex_read(b->ctx, &b->t->arena, b->path, s, n, &step->regex);
}

/* what to look for: {"String": any} or {"Regex": one that is understood} */
static awq_status awq__tok_pattern(awq__tok_load *b, uint32_t node, awq__tok_step *step)
{
    uint32_t pattern = awq__json_get(&b->json, node, "pattern");
    size_t n = 0;
    const char *s = awq__json_str(&b->json, awq__json_get(&b->json, pattern, "Regex"), &n);
    if (s) return awq__tok_regex_into(b, step, s, n);
    AWQ__TRY(awq__tok_string(b, pattern, "String", &step->text, &step->len));
    return step->len ? AWQ_OK : awq__fail(b->ctx, AWQ_E_FORMAT, "%s: an empty pattern", b->path);
}

static awq_status awq__tok_behavior(awq__tok_load *b, uint32_t node, awq__tok_step *step)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious",
                                        "MergedWithNext"};
    uint32_t behavior = awq__json_get(&b->json, node, "behavior");
    for (step->cut = 0; step->cut < 5; step->cut++)
        if (awq__json_eq(&b->json, behavior, names[step->cut])) return AWQ_OK;
    return awq__tok_unsupported(b, "a pre-tokenizer", node, "behavior");
}

/* Metaspace: spaces become the mark, one may be put in front, words begin with it; or all of that undone */
static awq_status awq__tok_metaspace(awq__tok_load *b, uint32_t node)
{
    const awq__json *j = &b->json;
    awq__tok_step *step;
    const char *mark = NULL;
    size_t len = 0;
    int scheme = AWQ__PREPEND_UNLESS, never = !awq__tok_is(b, node, "add_prefix_space", 1);
    uint32_t named = awq__json_get(j, node, "prepend_scheme");
    if (awq__json_eq(j, named, "first")) scheme = AWQ__PREPEND_FIRST;
    else if (awq__json_eq(j, named, "never")) never = 1;
    else if (named && !awq__json_eq(j, named, "always"))
        return awq__tok_unsupported(b, "Metaspace", node, "prepend_scheme");
    AWQ__TRY(awq__tok_string(b, node, "replacement", &mark, &len));
    if (!len) return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: Metaspace with an empty replacement", b->path);
    if (b->in == AWQ__IN_DECODER) {
        AWQ__TRY(awq__tok_step_new(b, AWQ__STEP_REPLACE, mark, len, &step));
        step->with = " ", step->with_len = 1;
        step->drop_first = !never;
        return AWQ_OK;
    }
    AWQ__TRY(awq__tok_step_new(b, AWQ__STEP_REPLACE, " ", 1, &step));
    step->with = mark, step->with_len = len;
    if (!never) {
        AWQ__TRY(awq__tok_step_new(b, AWQ__STEP_PREPEND, mark, len, &step));
        step->prepend = scheme;
    }
    if (!awq__tok_is(b, node, "split", 1)) return AWQ_OK;
    AWQ__TRY(awq__tok_step_new(b, AWQ__STEP_SPLIT, mark, len, &step));
    step->cut = AWQ__CUT_NEXT;
    return AWQ_OK;
}

/* what the post-processor adds in front of and behind one text */
static awq_status awq__tok_template(awq__tok_load *b, uint32_t node)
{
    const awq__json *j = &b->json;
    awq_tokenizer *t = b->t;
    uint32_t i, k, n_pieces = 0, n_texts = 0, defined = awq__json_get(j, node, "special_tokens");
    if (t->has_template)
        return awq__fail(b->ctx, AWQ_E_UNSUPPORTED, "%s: two templates in post_processor", b->path);
    t->has_template = 1;
    for (i = awq__json_first(j, awq__json_get(j, node, "single")); i; i = awq__json_next(j, i)) {
        const char *name = awq__json_str(j, awq__json_get(j, awq__json_get(j, i, "SpecialToken"), "id"), NULL);
        uint32_t known = name ? awq__json_get(j, defined, name) : 0;
        if (awq__json_eq(j, awq__json_get(j, awq__json_get(j, i, "Sequence"), "id"), "A")) n_texts++;
        else if (!known || n_pieces++ == AWQ__TOK_MAX_STEPS)
            return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: the template in post_processor has a piece '%.100s' "
                             "that is not defined, or too many pieces", b->path, name ? name : "");
        for (k = awq__json_first(j, awq__json_get(j, known, "ids")); k; k = awq__json_next(j, k)) {
            int32_t *list = n_texts ? t->after : t->before;
            uint32_t *n = n_texts ? &t->n_after : &t->n_before;
            int64_t id;
            if (!awq__json_int_of(j, k, &id) || id < 0 || id >= t->n_ids || !t->tokens[id].flags
                || *n == AWQ__TOK_MAX_STEPS)
                return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: '%.100s' in post_processor has an id that is not "
                                 "in the vocabulary, or too many ids", b->path, name);
            list[(*n)++] = (int32_t)id;
        }
    }
    if (n_texts == 1) return AWQ_OK;
    return awq__fail(b->ctx, AWQ_E_UNSUPPORTED, "%s: the template in post_processor holds the text %lu times, "
                     "expected once", b->path, (unsigned long)n_texts);
}

/* one normalizer, pre-tokenizer, decoder or post-processor */
static awq_status awq__tok_component(awq__tok_load *b, uint32_t node)
{
    static const char *const names[] = {"a normalizer", "a pre-tokenizer", "a decoder", "a post-processor"};
    static const char gpt2[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    static const struct {
        int in;
        const char *type;
        int kind; /* of its step; -1: it has none or several */
    } known[] = {
        {AWQ__IN_NORMALIZER, "NFC", AWQ__STEP_NFC}, {AWQ__IN_NORMALIZER, "NFD", AWQ__STEP_NFD},
        {AWQ__IN_NORMALIZER, "Prepend", AWQ__STEP_PREPEND}, {AWQ__IN_NORMALIZER, "Strip", AWQ__STEP_TRIM},
        {AWQ__IN_NORMALIZER, "Replace", AWQ__STEP_REPLACE}, {AWQ__IN_PRE, "ByteLevel", -1},
        {AWQ__IN_PRE, "WhitespaceSplit", AWQ__STEP_SPLIT}, {AWQ__IN_PRE, "CharDelimiterSplit", AWQ__STEP_SPLIT},
        {AWQ__IN_PRE, "Metaspace", -1}, {AWQ__IN_PRE, "Split", AWQ__STEP_SPLIT},
        {AWQ__IN_PRE, "Digits", AWQ__STEP_SPLIT}, {AWQ__IN_PRE, "Punctuation", AWQ__STEP_SPLIT},
        {AWQ__IN_DECODER, "ByteLevel", AWQ__STEP_UNBYTES}, {AWQ__IN_DECODER, "Metaspace", -1},
        {AWQ__IN_DECODER, "ByteFallback", AWQ__STEP_FALLBACK}, {AWQ__IN_DECODER, "Fuse", AWQ__STEP_FUSE},
        {AWQ__IN_DECODER, "Replace", AWQ__STEP_REPLACE}, {AWQ__IN_DECODER, "Strip", AWQ__STEP_STRIP},
        {AWQ__IN_POST, "ByteLevel", -1}, {AWQ__IN_POST, "TemplateProcessing", -1}};
    const awq__json *j = &b->json;
    uint32_t type = awq__json_get(j, node, "type");
    awq__tok_step *step = NULL;
    size_t i, n = sizeof known / sizeof known[0];
    for (i = 0; i < n && !(known[i].in == b->in && awq__json_eq(j, type, known[i].type)); i++)
        ;
    if (i == n) return awq__tok_unsupported(b, names[b->in], node, "type");
    if (known[i].kind >= 0) AWQ__TRY(awq__tok_step_new(b, known[i].kind, NULL, 0, &step));
    if (awq__json_eq(j, type, "Metaspace")) return awq__tok_metaspace(b, node);
    if (awq__json_eq(j, type, "TemplateProcessing")) return awq__tok_template(b, node);
    if (awq__json_eq(j, type, "ByteLevel") && b->in == AWQ__IN_PRE) {
        if (awq__tok_is(b, node, "add_prefix_space", 1)) {
            AWQ__TRY(awq__tok_step_new(b, AWQ__STEP_PREPEND, " ", 1, &step));
            step->prepend = AWQ__PREPEND_UNLESS;
        }
        if (awq__tok_is(b, node, "use_regex", 1)) {
            AWQ__TRY(awq__tok_step_new(b, AWQ__STEP_SPLIT, NULL, 0, &step));
            AWQ__TRY(awq__tok_regex_into(b, step, gpt2, sizeof gpt2 - 1));
        }
        return awq__tok_step_new(b, AWQ__STEP_BYTES, NULL, 0, &step);
    }
    if (awq__json_eq(j, type, "Prepend")) return awq__tok_string(b, node, "prepend", &step->text, &step->len);
    if (awq__json_eq(j, type, "Replace")) {
        AWQ__TRY(awq__tok_pattern(b, node, step));
        return awq__tok_string(b, node, "content", &step->with, &step->with_len);
    }
    if (awq__json_eq(j, type, "Split")) {
        step->invert = awq__tok_is(b, node, "invert", 0);
        AWQ__TRY(awq__tok_pattern(b, node, step));
        return awq__tok_behavior(b, node, step);
    }
    if (awq__json_eq(j, type, "Digits")) {
        step->cut = awq__tok_is(b, node, "individual_digits", 0) ? AWQ__CUT_ISOLATED : AWQ__CUT_CONTIGUOUS;
        return awq__tok_regex_into(b, step, "\\p{N}", 5);
    }
    if (awq__json_eq(j, type, "Punctuation")) {
        AWQ__TRY(awq__tok_regex_into(b, step, "[\\p{P}$+<=>^`|~]", 16)); /* in ASCII symbols count as well */
        if (awq__json_get(j, node, "behavior")) return awq__tok_behavior(b, node, step);
    }
    if (awq__json_eq(j, type, "WhitespaceSplit")) {
        step->cut = AWQ__CUT_REMOVED;
        return awq__tok_regex_into(b, step, "\\s", 2);
    }
    if (awq__json_eq(j, type, "CharDelimiterSplit")) {
        step->cut = AWQ__CUT_REMOVED;
        AWQ__TRY(awq__tok_string(b, node, "delimiter", &step->text, &step->len));
        return step->len ? AWQ_OK : awq__fail(b->ctx, AWQ_E_FORMAT, "%s: an empty delimiter", b->path);
    }
    if (b->in == AWQ__IN_NORMALIZER && awq__json_eq(j, type, "Strip")) {
        step->start = awq__tok_is(b, node, "strip_left", 1);
        step->stop = awq__tok_is(b, node, "strip_right", 1);
        return AWQ_OK;
    }
    if (awq__json_eq(j, type, "Strip")) {
        AWQ__TRY(awq__tok_string(b, node, "content", &step->text, &step->len));
        if (!step->len || !awq__json_int_of(j, awq__json_get(j, node, "start"), &step->start)
            || !awq__json_int_of(j, awq__json_get(j, node, "stop"), &step->stop))
            return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: Strip wants content, start and stop", b->path);
    }
    return AWQ_OK;
}

/* null, one component, or a Sequence of them under `list` (nested at most as deep as the JSON parser allows) */
static awq_status awq__tok_components(awq__tok_load *b, uint32_t node, const char *list)
{
    const awq__json *j = &b->json;
    uint32_t i;
    if (awq__json_is(j, node) == AWQ__J_NULL) return AWQ_OK;
    if (!awq__json_eq(j, awq__json_get(j, node, "type"), "Sequence")) return awq__tok_component(b, node);
    for (i = awq__json_first(j, awq__json_get(j, node, list)); i; i = awq__json_next(j, i))
        AWQ__TRY(awq__tok_components(b, i, list));
    return AWQ_OK;
}

/* --- the vocabulary */
static awq_status awq__tok_check_id(awq__tok_load *b, uint32_t node, const char *token, int32_t *id)
{
    int64_t v;
    if (!awq__json_int_of(&b->json, node, &v))
        return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: the id of '%.100s' is not an integer", b->path, token);
    if (v < 0 || v >= AWQ__TOK_MAX_IDS)
        return awq__fail(b->ctx, v < 0 ? AWQ_E_FORMAT : AWQ_E_LIMIT, "%s: the id of '%.100s' is %lld, expected "
                         "0 to %d", b->path, token, (long long)v, AWQ__TOK_MAX_IDS - 1);
    *id = (int32_t)v;
    return AWQ_OK;
}

static awq_status awq__tok_insert(awq__tok_load *b, const char *s, size_t n, int32_t id, uint32_t flags)
{
    awq_tokenizer *t = b->t;
    awq__tok_token *k = &t->tokens[id];
    uint32_t slot = awq__tok_slot(t, s, n, "", 0);
    if (t->slots[slot])
        return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: the token '%.100s' is there twice, with ids %ld and %ld",
                         b->path, s, (long)t->slots[slot] - 1, (long)id);
    if (k->flags)
        return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: the id %ld belongs to both '%.100s' and '%.100s'", b->path,
                         (long)id, k->text, s);
    k->text = k->shown = awq__arena_text(b->ctx, &t->arena, s, n);
    if (!k->text) return AWQ_E_MEMORY;
    k->len = k->shown_len = (uint32_t)n;
    k->flags = flags | AWQ__TOK_PRESENT;
    t->slots[slot] = (uint32_t)id + 1;
    return AWQ_OK;
}

static awq_status awq__tok_read_vocab(awq__tok_load *b, uint32_t vocab, uint32_t added)
{
    const awq__json *j = &b->json;
    awq_tokenizer *t = b->t;
    uint32_t i, slots = 16, count = awq__json_count(j, vocab) + awq__json_count(j, added);
    int32_t id;
    if (awq__json_is(j, vocab) != AWQ__J_OBJ || !awq__json_count(j, vocab))
        return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: model.vocab is not an object with tokens", b->path);
    for (i = awq__json_first(j, vocab); i; i = awq__json_next(j, i)) {
        AWQ__TRY(awq__tok_check_id(b, i, awq__json_key(j, i), &id));
        t->n_ids = AWQ__MAX(t->n_ids, id + 1);
    }
    for (i = awq__json_first(j, added); i; i = awq__json_next(j, i)) {
        const char *s = awq__json_str(j, awq__json_get(j, i, "content"), NULL);
        if (!s) return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: an added token without content", b->path);
        AWQ__TRY(awq__tok_check_id(b, awq__json_get(j, i, "id"), s, &id));
        t->n_ids = AWQ__MAX(t->n_ids, id + 1);
    }
    while (slots / 2 < count) slots *= 2;
    t->slot_mask = slots - 1;
    t->slots = (uint32_t *)awq__arena_alloc(b->ctx, &t->arena, slots, sizeof *t->slots);
    t->tokens = (awq__tok_token *)awq__arena_alloc(b->ctx, &t->arena, (size_t)t->n_ids, sizeof *t->tokens);
    if (!t->slots || !t->tokens) return AWQ_E_MEMORY;
    for (i = awq__json_first(j, vocab); i; i = awq__json_next(j, i))
        AWQ__TRY(awq__tok_insert(b, awq__json_key(j, i), j->nodes[i].key_len, (int32_t)j->nodes[i].v.i,
                                 AWQ__TOK_VOCAB));
    return AWQ_OK;
}

static awq_status awq__tok_read_merges(awq__tok_load *b, uint32_t merges)
{
    const awq__json *j = &b->json;
    awq_tokenizer *t = b->t;
    uint32_t i, rank = 0, slots = 16, count = awq__json_count(j, merges);
    if (awq__json_is(j, merges) != AWQ__J_ARR)
        return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: model.merges is not an array", b->path);
    while (slots / 3 < count / 2 + 1) slots *= 2;
    t->merge_mask = slots - 1;
    t->merges = (awq__tok_merge *)awq__arena_alloc(b->ctx, &t->arena, slots, sizeof *t->merges);
    if (!t->merges) return AWQ_E_MEMORY;
    for (i = 0; i < slots; i++) t->merges[i].id = -1;
    for (i = awq__json_first(j, merges); i; i = awq__json_next(j, i), rank++) {
        size_t n = 0, m = 0;
        const char *left = awq__json_str(j, i, &n), *right = NULL;
        int32_t l = -1, r = -1, id = -1;
        awq__tok_merge *slot;
        if (left) { /* "left right" */
            const char *gap = (const char *)memchr(left, ' ', n);
            if (n > 8 && !memcmp(left, "#version", 8)) continue;
            if (gap) {
                right = gap + 1;
                m = n - (size_t)(right - left);
                n = (size_t)(gap - left);
                if (memchr(right, ' ', m)) right = NULL;
            }
        } else if (awq__json_count(j, i) == 2) { /* ["left", "right"] */
            uint32_t first = awq__json_first(j, i);
            left = awq__json_str(j, first, &n);
            right = awq__json_str(j, awq__json_next(j, first), &m);
        }
        if (!left || !right)
            return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: merge %lu is not a pair of two tokens", b->path,
                             (unsigned long)rank);
        l = awq__tok_id(t, left, n);
        r = awq__tok_id(t, right, m);
        if (l >= 0 && r >= 0) id = (int32_t)t->slots[awq__tok_slot(t, left, n, right, m)] - 1;
        if (id < 0)
            return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: merge %lu, '%.100s' and '%.100s': %s is not in the "
                             "vocabulary", b->path, (unsigned long)rank, left, right,
                             l < 0 || r < 0 ? "one of them" : "the result");
        slot = awq__tok_pair(t, l, r);
        slot->left = l;
        slot->right = r;
        slot->id = id;
        slot->rank = rank;
    }
    return AWQ_OK;
}

static awq_status awq__tok_read_model(awq__tok_load *b, uint32_t model, uint32_t added)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const awq__json *j = &b->json;
    awq_tokenizer *t = b->t;
    uint32_t type = awq__json_get(j, model, "type");
    double dropout = 0;
    const char *s;
    size_t n;
    int i;
    if (type ? !awq__json_eq(j, type, "BPE") : !awq__json_get(j, model, "merges"))
        return awq__tok_unsupported(b, "a model", model, "type");
    if (awq__json_number_of(j, awq__json_get(j, model, "dropout"), &dropout) && dropout != 0)
        return awq__fail(b->ctx, AWQ_E_UNSUPPORTED, "%s: model.dropout is %g, expected 0", b->path, dropout);
    for (i = 0; i < 2; i++)
        if (awq__json_str(j, awq__json_get(j, model, affixes[i]), &n) && n)
            return awq__fail(b->ctx, AWQ_E_UNSUPPORTED, "%s: model.%s is not supported", b->path, affixes[i]);
    AWQ__TRY(awq__tok_read_vocab(b, awq__json_get(j, model, "vocab"), added));
    AWQ__TRY(awq__tok_read_merges(b, awq__json_get(j, model, "merges")));
    t->fuse_unk = awq__tok_is(b, model, "fuse_unk", 0);
    t->ignore_merges = awq__tok_is(b, model, "ignore_merges", 0);
    s = awq__json_str(j, awq__json_get(j, model, "unk_token"), &n);
    t->has_unk = s != NULL;
    t->unk = s ? awq__tok_id(t, s, n) : -1;
    for (i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        t->byte_ids[i] = awq__tok_is(b, model, "byte_fallback", 0) ? awq__tok_id(t, name, 6) : -1;
    }
    for (i = 0; i < 0x180; i++) {
        char utf8[4];
        t->chars[i] = awq__tok_id(t, utf8, (size_t)awq__utf8_put((uint32_t)i, utf8));
    }
    return AWQ_OK;
}

static awq_status awq__tok_read_added(awq__tok_load *b, uint32_t added)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } names[] = {{"special", AWQ__TOK_SPECIAL}, {"lstrip", AWQ__TOK_LSTRIP}, {"rstrip", AWQ__TOK_RSTRIP},
                 {"single_word", AWQ__TOK_WORD}, {"normalized", AWQ__TOK_NORMALIZED}};
    const awq__json *j = &b->json;
    awq_tokenizer *t = b->t;
    uint32_t i;
    size_t n = 0, k;
    for (i = awq__json_first(j, added); i; i = awq__json_next(j, i)) {
        const char *s = awq__json_str(j, awq__json_get(j, i, "content"), &n);
        int32_t id = (int32_t)j->nodes[awq__json_get(j, i, "id")].v.i, have = awq__tok_id(t, s, n);
        if (!n) continue;
        if (n > AWQ__TOK_MAX_PATTERN)
            return awq__fail(b->ctx, AWQ_E_LIMIT, "%s: the added token %ld has %llu bytes, expected at most %d",
                             b->path, (long)id, (unsigned long long)n, AWQ__TOK_MAX_PATTERN);
        if (have != id) AWQ__TRY(awq__tok_insert(b, s, n, id, 0));
        t->tokens[id].flags = (t->tokens[id].flags & (AWQ__TOK_PRESENT | AWQ__TOK_VOCAB)) | AWQ__TOK_ADDED;
        for (k = 0; k < sizeof names / sizeof names[0]; k++)
            if (awq__tok_is(b, i, names[k].name, 0)) t->tokens[id].flags |= names[k].flag;
    }
    return AWQ_OK;
}

/* Sets to look for added tokens with. One to be normalized is looked for and decoded in its normal form;
   without special tokens, decoding leaves out those whose normal form is the text of a special token. */
static awq_status awq__tok_build_sets(awq__tok_load *b)
{
    awq_tokenizer *t = b->t;
    awq__tok_work w;
    awq_status st = AWQ_OK;
    uint32_t n[2] = {0, 0}, k, c;
    int32_t id;
    awq__tok_work_init(&w, b->ctx, t, 64 * AWQ__TOK_MAX_PATTERN);
    for (id = 0; id < t->n_ids; id++)
        if (t->tokens[id].flags & AWQ__TOK_ADDED) n[(t->tokens[id].flags & AWQ__TOK_NORMALIZED) != 0]++;
    t->raw.items = (awq__tok_added *)awq__arena_alloc(b->ctx, &t->arena, n[0], sizeof(awq__tok_added));
    t->normalized.items = (awq__tok_added *)awq__arena_alloc(b->ctx, &t->arena, n[1], sizeof(awq__tok_added));
    if (!t->raw.items || !t->normalized.items) return AWQ_E_MEMORY;
    for (id = 0; id < t->n_ids && !st; id++) {
        awq__tok_token *tok = &t->tokens[id];
        awq__tok_set *set = tok->flags & AWQ__TOK_NORMALIZED ? &t->normalized : &t->raw;
        if (!(tok->flags & AWQ__TOK_ADDED)) continue;
        if ((tok->flags & AWQ__TOK_NORMALIZED) && t->normalizer.n) {
            st = awq__tok_set_text(&w, tok->text, tok->len);
            if (!st) st = awq__tok_steps_run(&w, &t->normalizer);
            if (!st && w.now.text.len
                && (w.now.text.len != tok->len || memcmp(w.now.text.data, tok->text, tok->len))) {
                tok->shown = awq__arena_text(b->ctx, &t->arena, w.now.text.data, w.now.text.len);
                tok->shown_len = (uint32_t)w.now.text.len;
                if (!tok->shown) st = AWQ_E_MEMORY;
            }
        }
        set->items[set->count].text = tok->shown;
        set->items[set->count].len = tok->shown_len;
        set->items[set->count++].id = id;
    }
    awq__tok_work_free(&w);
    if (st) return st;
    for (k = 0; k < 2; k++) {
        awq__tok_set *set = k ? &t->normalized : &t->raw;
        uint32_t i = 0;
        if (set->count) qsort(set->items, set->count, sizeof *set->items, awq__tok_added_order);
        for (c = 0; c < 257; c++) {
            while (i < set->count && (unsigned char)set->items[i].text[0] < c) i++;
            set->first[c] = i;
        }
    }
    for (id = 0; id < t->n_ids; id++) {
        awq__tok_token *tok = &t->tokens[id];
        int32_t same = tok->flags ? awq__tok_id(t, tok->shown, tok->shown_len) : -1;
        if (same >= 0 && (t->tokens[same].flags & AWQ__TOK_SPECIAL)) tok->flags |= AWQ__TOK_SKIP;
    }
    return AWQ_OK;
}

/* --- tokenizer_config.json and chat_template.*: what transformers keeps beside tokenizer.json */
static int32_t awq__tok_config_id(const awq_tokenizer *t, const awq__json *j, const char *key)
{
    uint32_t node = awq__json_get(j, 1, key), content = awq__json_get(j, node, "content");
    size_t n;
    const char *s = awq__json_str(j, content ? content : node, &n);
    return s ? awq__tok_id(t, s, n) : -1;
}

/* bos, eos and the chat template; of chat_template.json (template_only) the template, if there is none yet */
static awq_status awq__tok_read_config(awq__tok_load *b, const char *path, int template_only)
{
    awq_tokenizer *t = b->t;
    awq__json j;
    uint32_t node, i;
    size_t n;
    const char *s;
    awq_status st = AWQ_OK;
    if (!awq__file_exists(b->ctx, path) || (template_only && t->chat_template)) return AWQ_OK;
    AWQ__TRY(awq__json_load(b->ctx, path, AWQ__TOK_MAX_FILE, &j));
    if (!template_only) {
        t->bos = awq__tok_config_id(t, &j, "bos_token");
        t->eos = awq__tok_config_id(t, &j, "eos_token");
    }
    node = awq__json_get(&j, 1, "chat_template");
    for (i = awq__json_first(&j, node); i; i = awq__json_next(&j, i)) /* a list of named ones */
        if (awq__json_eq(&j, awq__json_get(&j, i, "name"), "default")) node = awq__json_get(&j, i, "template");
    s = awq__json_str(&j, node, &n);
    if (s) {
        t->chat_template = awq__arena_text(b->ctx, &t->arena, s, n);
        if (!t->chat_template) st = AWQ_E_MEMORY;
    }
    awq__json_free(b->ctx, &j);
    return st;
}

static awq_status awq__tok_read_template(awq__tok_load *b, const char *path)
{
    char *data;
    size_t n, i;
    int len = 1;
    awq_status st = AWQ_OK;
    if (!awq__file_exists(b->ctx, path)) return AWQ_OK;
    AWQ__TRY(awq__file_load(b->ctx, path, AWQ__TOK_MAX_FILE, &data, &n));
    for (i = 0; i < n && len; i += (size_t)len)
        len = data[i] ? awq__utf8_len((unsigned char *)data + i, n - i) : 0;
    if (!len)
        st = awq__fail(b->ctx, AWQ_E_FORMAT, "%s: not UTF-8 text at byte %llu", path, (unsigned long long)i);
    else {
        b->t->chat_template = awq__arena_text(b->ctx, &b->t->arena, data, n);
        if (!b->t->chat_template) st = AWQ_E_MEMORY;
    }
    awq__free(b->ctx, data);
    return st;
}

static awq_status awq__tok_read(awq__tok_load *b)
{
    static const char *const names[] = {"normalizer", "pre_tokenizer", "decoder", "post_processor"};
    static const char *const lists[] = {"normalizers", "pretokenizers", "decoders", "processors"};
    const awq__json *j = &b->json;
    awq_tokenizer *t = b->t;
    int32_t i;
    uint32_t version = awq__json_get(j, 1, "version"), added = awq__json_get(j, 1, "added_tokens");
    if (awq__json_is(j, 1) != AWQ__J_OBJ || awq__json_is(j, awq__json_get(j, 1, "model")) != AWQ__J_OBJ)
        return awq__fail(b->ctx, AWQ_E_FORMAT, "%s: not a tokenizer, there is no 'model' object", b->path);
    if (version && !awq__json_eq(j, version, "1.0"))
        return awq__tok_unsupported(b, "a tokenizer", 1, "version");
    AWQ__TRY(awq__tok_read_model(b, awq__json_get(j, 1, "model"), added));
    AWQ__TRY(awq__tok_read_added(b, added));
    for (b->in = 0; b->in < 4; b->in++) {
        uint32_t node = awq__json_get(j, 1, names[b->in]);
        b->steps = b->in == AWQ__IN_NORMALIZER ? &t->normalizer : b->in == AWQ__IN_PRE ? &t->pre : &t->decoder;
        if (b->in == AWQ__IN_DECODER) t->has_decoder = awq__json_is(j, node) != AWQ__J_NULL;
        AWQ__TRY(awq__tok_components(b, node, lists[b->in]));
    }
    for (i = 0; i < t->n_ids; i++) t->longest = AWQ__MAX(t->longest, t->tokens[i].shown_len);
    return awq__tok_build_sets(b);
}

AWQ_API awq_status awq_tokenizer_load(awq_ctx *ctx, const char *path, awq_tokenizer **tokenizer)
{
    static const char *const names[] = {"tokenizer_config.json", "chat_template.jinja", "chat_template.json"};
    awq__tok_load b;
    size_t n = strlen(path), bytes = 0, i;
    int is_file = n > 5 && !strcmp(path + n - 5, ".json");
    char *file = NULL, *data = NULL;
    awq_status st;
    memset(&b, 0, sizeof b);
    b.ctx = ctx;
    b.t = AWQ__NEW(ctx, awq_tokenizer, 1);
    if (!b.t) return AWQ_E_MEMORY;
    b.t->bos = b.t->eos = -1;
    if (!is_file) file = awq__path_join(ctx, path, "tokenizer.json");
    b.path = is_file ? path : file;
    st = b.path ? awq__file_load(ctx, b.path, AWQ__TOK_MAX_FILE, &data, &bytes) : AWQ_E_MEMORY;
    if (!st) {
        b.t->hash = 0xcbf29ce484222325ull;
        for (i = 0; i < bytes; i++) b.t->hash = (b.t->hash ^ (unsigned char)data[i]) * 0x100000001b3ull;
        st = awq__json_parse(ctx, b.path, data, bytes, &b.json);
        awq__free(ctx, data);
    }
    if (!st) st = awq__tok_read(&b);
    awq__json_free(ctx, &b.json);
    awq__free(ctx, file);
    for (i = 0; i < 3 && !st && !is_file; i++) {
        file = awq__path_join(ctx, path, names[i]);
        st = !file ? AWQ_E_MEMORY : i == 1 ? awq__tok_read_template(&b, file)
                                           : awq__tok_read_config(&b, file, i == 2);
        awq__free(ctx, file);
    }
    if (st) awq_tokenizer_free(ctx, b.t);
    else *tokenizer = b.t;
    return st;
}

AWQ_API void awq_tokenizer_free(awq_ctx *ctx, awq_tokenizer *tokenizer)
{
    if (!tokenizer) return;
    awq__arena_free(ctx, &tokenizer->arena);
    awq__free(ctx, tokenizer);
}

AWQ_API int32_t awq_tokenizer_vocab_size(const awq_tokenizer *tokenizer) { return tokenizer->n_ids; }

AWQ_API int32_t awq_tokenizer_find(const awq_tokenizer *tokenizer, const char *token)
{
    return awq__tok_id(tokenizer, token, strlen(token));
}

AWQ_API int32_t awq_tokenizer_bos(const awq_tokenizer *tokenizer) { return tokenizer->bos; }

AWQ_API int32_t awq_tokenizer_eos(const awq_tokenizer *tokenizer) { return tokenizer->eos; }

AWQ_API int awq_tokenizer_is_special(const awq_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->n_ids && (tokenizer->tokens[id].flags & AWQ__TOK_SPECIAL) != 0;
}

AWQ_API const char *awq_tokenizer_chat_template(const awq_tokenizer *tokenizer)
{
    return tokenizer->chat_template;
}

AWQ_API uint64_t awq_tokenizer_hash(const awq_tokenizer *tokenizer) { return tokenizer->hash; }

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>template
   Chat templates: the part of Jinja2 that models ship, with trim_blocks and lstrip_blocks on and the names that
   transformers' apply_chat_template gives. Three passes: tokens, a tree of nodes, evaluation. Filters, tests
   and methods that are not here are refused only where they are met: a branch for tools may contain them.
   Not here: include, import, extends and block; integers beyond 64 bits; letters whose capitals are irregular;
   filters that make HTML.
   Invariants: templates are untrusted; parser and evaluator count their depth, every node and every scanned
   byte costs work, work, memory and output are capped, and all values lie in one arena. Lists and dicts never
   change once made (the sandbox of transformers forbids it), so slices share storage.
   Tests: tests/test_template.c, tests/fuzz_template.c */

#define AWQ__TP_SOURCE ((size_t)4 << 20)   /* bytes of a template */
#define AWQ__TP_OUTPUT ((size_t)64 << 20)  /* bytes of the result, and of any string on the way */
#define AWQ__TP_MEMORY ((size_t)256 << 20) /* bytes of values */
#ifndef AWQ__TP_WORK
#  define AWQ__TP_WORK 512000000           /* 16 for a node evaluated, 1 for a byte scanned */
#endif
#define AWQ__TP_DEPTH 200                  /* nested expressions, statements, macro calls and values */
#define AWQ__TP_RANGE 100000               /* longest range(), as in Jinja's sandbox */

typedef enum awq__tp_type {
    AWQ__T_UNDEF, AWQ__T_NONE, AWQ__T_BOOL, AWQ__T_INT, AWQ__T_FLOAT, AWQ__T_STR, AWQ__T_LIST, AWQ__T_TUPLE,
    AWQ__T_DICT, AWQ__T_RANGE, AWQ__T_VIEW, AWQ__T_GEN, AWQ__T_SAFE, AWQ__T_NS, AWQ__T_LOOP, AWQ__T_FUNC
} awq__tp_type;

static const char *const awq__tp_types[] = {
    "undefined", "none", "bool", "int", "float", "str", "list", "tuple", "dict", "range", "view of a dict",
    "generator", "str marked safe", "namespace", "loop", "function"};
#define AWQ__T_BIT(type) (1u << AWQ__##type)
#define AWQ__T_INDEXED (AWQ__T_BIT(T_STR) | AWQ__T_BIT(T_LIST) | AWQ__T_BIT(T_TUPLE) | AWQ__T_BIT(T_RANGE))
#define AWQ__T_ITEMS (AWQ__T_BIT(T_LIST) | AWQ__T_BIT(T_TUPLE) | AWQ__T_BIT(T_RANGE) | AWQ__T_BIT(T_VIEW))

typedef struct awq__tv {
    uint32_t type; /* awq__tp_type */
    uint32_t n;    /* bytes of a str (or of an undefined name), items, pairs; which awq__tp_function */
    union {
        int64_t i; /* bool too */
        double d;
        const char *s;
        const struct awq__tv *items; /* a dict has 2n: key, value, key, value */
        struct awq__tp_gen *gen;
        struct awq__tp_scope *ns;
        struct awq__tp_loop *loop;
        const struct awq__tp_fn *fn;
    } v;
} awq__tv;

typedef struct awq__tp_var {
    const char *name;
    uint32_t len;
    awq__tv value;
} awq__tp_var;

typedef struct awq__tp_scope { /* of the template, of one turn of a loop, of a macro call; also a namespace() */
    struct awq__tp_scope *up;
    awq__tp_var *vars;
    uint32_t n, cap;
} awq__tp_scope;

typedef struct awq__tp_gen { /* what map, select, ... give: gone through once */
    const awq__tv *items;
    uint32_t n, at;
    int broken; /* a loop was left early: how much it took is not known */
} awq__tp_gen;

typedef struct awq__tp_loop {
    const awq__tv *items;
    uint32_t n, index, node, level;
    awq__tp_scope *outer;
    awq__tv seen; /* by loop.changed, as a tuple */
} awq__tp_loop;

typedef struct awq__tp_fn {
    awq__tv self; /* of a method */
    int op;
    uint32_t node; /* of a macro, with the scope it was made in */
    awq__tp_scope *scope;
} awq__tp_fn;

typedef enum awq__tp_function {
    AWQ__TF_RANGE, AWQ__TF_NAMESPACE, AWQ__TF_DICT, AWQ__TF_RAISE, AWQ__TF_NOW, AWQ__TF_MACRO, AWQ__TF_METHOD,
    AWQ__TF_CYCLE, AWQ__TF_CHANGED
} awq__tp_function;

typedef struct awq__tp_arg {
    const char *name; /* NULL: positional */
    uint32_t len;
    int used;
    awq__tv value;
} awq__tp_arg;

typedef struct awq__tp_args {
    awq__tp_arg *a;
    uint32_t n;
} awq__tp_args;

enum { /* tokens; an operator of one character is that character */
    AWQ__TK_END = 256, AWQ__TK_DATA, AWQ__TK_VAR, AWQ__TK_VAR_END, AWQ__TK_BLOCK, AWQ__TK_BLOCK_END,
    AWQ__TK_NAME, AWQ__TK_STR, AWQ__TK_INT, AWQ__TK_FLOAT, AWQ__TK_EQ, AWQ__TK_NE, AWQ__TK_GE, AWQ__TK_LE,
    AWQ__TK_FLOORDIV, AWQ__TK_POW, AWQ__TK_IN, AWQ__TK_NOT_IN
};

typedef struct awq__tp_token {
    int kind;
    uint32_t line, n;
    const char *s;
} awq__tp_token;

typedef enum awq__tp_kind {
    /* expressions; lists of nodes are chained by `next` */
    AWQ__N_CONST, AWQ__N_NAME,              /* value */
    AWQ__N_LIST, AWQ__N_TUPLE, AWQ__N_DICT, /* a: elements; key, value, key, value */
    AWQ__N_ATTR, AWQ__N_ITEM, AWQ__N_SLICE, /* a.value, a[b], a[b:c:d]; 0 where left out */
    AWQ__N_CALL, AWQ__N_FILTER, AWQ__N_TEST, AWQ__N_KEYWORD, /* a: what, b: arguments; value=a */
    AWQ__N_SPREAD,                                           /* *a or, with op, **a in a call */
    AWQ__N_NOT, AWQ__N_NEGATE, AWQ__N_AND, AWQ__N_OR, AWQ__N_BINARY,
    AWQ__N_COMPARE, AWQ__N_OPERAND, AWQ__N_IF_ELSE, /* a: left, b: operands; a: right; b if a else c */
    /* statements */
    AWQ__N_PRINT, AWQ__N_IF, AWQ__N_BRANCH,        /* a; a: branches; a: condition or 0, b: body */
    AWQ__N_FOR, /* a: target, b: what, c: condition, d: body, then else; op: recursive */
    AWQ__N_SET, AWQ__N_CAPTURE, /* a: target or 0, b: value or body; c: filters over d, the text */
    AWQ__N_MACRO, AWQ__N_CALL_BLOCK, /* a: parameters, b: body; op: bits of awq__tp_special; c: the call */
    AWQ__N_SCOPE,                    /* a: what `with` sets, b: body */
    AWQ__N_BREAK, AWQ__N_CONTINUE
} awq__tp_kind;

typedef struct awq__tp_node {
    int kind, op;
    uint32_t line, a, b, c, d, next;
    awq__tv value; /* constant; name as a str */
} awq__tp_node;

typedef struct awq__tp {
    awq_ctx *ctx;
    awq_status st;
    awq__arena arena;
    const char *src, *date;
    size_t n, at, counted; /* lexer: source, where it is, up to where lines are counted */
    awq__tp_token *toks;
    size_t n_toks, cap_toks, pos;
    awq__tp_node *nodes; /* nodes[0] is a constant none: "left out" */
    size_t n_nodes, cap_nodes, bytes;
    awq__text out, scratch;
    int64_t work;
    uint32_t line;
    int depth, loops, uses; /* uses: bits of awq__tp_special met in the body being parsed */
    awq__tp_scope *scope;
} awq__tp;

static const char *const awq__tp_special[] = {"caller", "varargs", "kwargs"}; /* names that a macro has */

static awq__tv awq__tp_value(awq__tp_type type, uint32_t n)
{
    awq__tv v;
    v.type = (uint32_t)type;
    v.n = n;
    v.v.i = 0;
    return v;
}

/* The first failure stays. Returns undefined, so that an evaluating function can return it. */
static awq__tv awq__tp_fail(awq__tp *t, awq_status status, const char *fmt, ...) AWQ__PRINTF(3, 4);
static awq__tv awq__tp_fail(awq__tp *t, awq_status status, const char *fmt, ...)
{
    if (!t->st) {
        char text[512];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        t->st = awq__fail(t->ctx, status, "chat template, line %u: %s", (unsigned)t->line, text);
    }
    return awq__tp_value(AWQ__T_UNDEF, 0);
}

static awq__tv awq__tp_overflow(awq__tp *t)
{
    return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "an integer beyond 64 bits");
}

/* %.*s of a name or text that may be long */
#define AWQ__TP_SHOW(n, s) (int)AWQ__MIN((n), 60u), (s)

static int awq__tp_step(awq__tp *t, size_t cost)
{
    if (!t->st && (t->work += (int64_t)cost) > AWQ__TP_WORK)
        awq__tp_fail(t, AWQ_E_LIMIT, "more than %d units of work", AWQ__TP_WORK);
    return !t->st;
}

static int awq__tp_enter(awq__tp *t) /* pair with t->depth--, on failure too */
{
    if (++t->depth > AWQ__TP_DEPTH) awq__tp_fail(t, AWQ_E_LIMIT, "nested more than %d deep", AWQ__TP_DEPTH);
    return !t->st;
}

static void *awq__tp_alloc(awq__tp *t, size_t count, size_t size) /* NULL on failure */
{
    void *p;
    if (t->st) return NULL;
    if (count * size > AWQ__TP_MEMORY - t->bytes) {
        awq__tp_fail(t, AWQ_E_LIMIT, "more than %u MB of values", (unsigned)(AWQ__TP_MEMORY >> 20));
        return NULL;
    }
    t->bytes += count * size;
    p = awq__arena_alloc(t->ctx, &t->arena, count, size);
    if (!p) t->st = AWQ_E_MEMORY;
    return p;
}

static void awq__tp_put(awq__tp *t, awq__text *out, const char *s, size_t n)
{
    if (!awq__tp_step(t, n / 16 + 1)) return;
    if (n > AWQ__TP_OUTPUT - out->len) {
        awq__tp_fail(t, AWQ_E_LIMIT, "more than %u MB of text", (unsigned)(AWQ__TP_OUTPUT >> 20));
        return;
    }
    awq__text_add(t->ctx, out, s, n);
    if (out->failed) t->st = AWQ_E_MEMORY;
}

static void awq__tp_puts(awq__tp *t, awq__text *out, const char *s) { awq__tp_put(t, out, s, strlen(s)); }

static awq__tv awq__tp_bool(int b)
{
    awq__tv v = awq__tp_value(AWQ__T_BOOL, 0);
    v.v.i = b != 0;
    return v;
}

static awq__tv awq__tp_float(double d)
{
    awq__tv v = awq__tp_value(AWQ__T_FLOAT, 0);
    v.v.d = d;
    return v;
}

static awq__tv awq__tp_int(int64_t i)
{
    awq__tv v = awq__tp_value(AWQ__T_INT, 0);
    v.v.i = i;
    return v;
}

static awq__tv awq__tp_str(const char *s, size_t n) /* s must live in the arena or as long as the call */
{
    awq__tv v = awq__tp_value(AWQ__T_STR, (uint32_t)n);
    v.v.s = s;
    return v;
}

static awq__tv awq__tp_undef(const char *name, size_t n)
{
    awq__tv v = awq__tp_str(name, n);
    v.type = AWQ__T_UNDEF;
    return v;
}

static awq__tv awq__tp_items(awq__tp_type type, const awq__tv *items, uint32_t n)
{
    awq__tv v = awq__tp_value(type, items ? n : 0);
    v.v.items = items;
    return v;
}

/* what was put after `from` becomes a value and is taken out of the text again */
static awq__tv awq__tp_cut(awq__tp *t, awq__text *text, size_t from)
{
    size_t n = text->len - from;
    char *p = (char *)awq__tp_alloc(t, n + 1, 1);
    if (!p) return awq__tp_value(AWQ__T_UNDEF, 0);
    if (n) memcpy(p, text->data + from, n);
    text->len = from;
    return awq__tp_str(p, n);
}

static void awq__tp_push(awq__tp *t, awq__tv **items, uint32_t *n, uint32_t *cap, awq__tv v)
{
    if (*n == *cap) {
        uint32_t more = *cap ? *cap * 2 : 8;
        awq__tv *p = (awq__tv *)awq__tp_alloc(t, more, sizeof *p);
        if (!p) return;
        if (*n) memcpy(p, *items, *n * sizeof *p);
        *items = p;
        *cap = more;
    }
    (*items)[(*n)++] = v;
}

static int awq__tp_is(const char *s, size_t n, const char *word)
{
    return strlen(word) == n && !memcmp(s, word, n);
}

/* word in a list of words that begins and ends with a space */
static int awq__tp_listed(const char *s, size_t n, const char *words)
{
    const char *w;
    for (w = words; *w; w += strcspn(w, " "))
        if (!strncmp(++w, s, n) && w[n] == ' ') return n > 0;
    return 0;
}

/* --- UTF-8; a byte that is not is a character of its own */
static size_t awq__tp_char(const char *s, size_t n)
{
    int k = awq__utf8_len((const unsigned char *)s, n);
    return k ? (size_t)k : 1;
}

static size_t awq__tp_chars(const char *s, size_t n) /* their number */
{
    size_t i, count = 0;
    for (i = 0; i < n; i += awq__tp_char(s + i, n - i)) count++;
    return count;
}

/* bytes of the whitespace at s (Python's str.isspace), 0: none */
static size_t awq__tp_space(const char *s, size_t n)
{
    unsigned c = n ? (unsigned char)*s : 'x';
    int k;
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
    k = awq__utf8_len((const unsigned char *)s, n);
    return k && awq__uni_in(awq__utf8_get((const unsigned char *)s, k), AWQ__UC_IN_SPACE) ? (size_t)k : 0;
}

/* bytes of the last character of s, n > 0 */
static size_t awq__tp_last_char(const char *s, size_t n)
{
    size_t k = 1;
    while (k < 4 && k < n && ((unsigned char)s[n - k] & 0xc0) == 0x80) k++;
    return awq__tp_char(s + n - k, k) == k ? k : 1;
}

/* n without the whitespace at the end of s */
static size_t awq__tp_trim_end(const char *s, size_t n)
{
    while (n) {
        size_t k = awq__tp_last_char(s, n);
        if (!awq__tp_space(s + n - k, k)) break;
        n -= k;
    }
    return n;
}

/* where needle begins in s, n: nowhere */
static size_t awq__tp_search(awq__tp *t, const char *s, size_t n, const char *needle, size_t m, size_t from)
{
    if (!m) return from;
    while (from + m <= n) {
        const char *p = (const char *)memchr(s + from, needle[0], n - m - from + 1);
        size_t k = 1;
        if (!p) break;
        while (k < m && p[k] == needle[k]) k++;
        if (!awq__tp_step(t, (size_t)(p - s) - from + k)) break;
        if (k == m) return (size_t)(p - s);
        from = (size_t)(p - s) + 1;
    }
    awq__tp_step(t, n - from);
    return n;
}

/* --- tokens */
static void awq__tp_add_token(awq__tp *t, int kind, const char *s, size_t n)
{
    awq__tp_token *k;
    size_t at = (size_t)(s - t->src);
    if (t->st) return;
    if (!awq__grow(t->ctx, (void **)&t->toks, &t->cap_toks, t->n_toks + 1, sizeof *t->toks)) {
        t->st = AWQ_E_MEMORY;
        return;
    }
    for (; t->counted < at; t->counted++) t->line += t->src[t->counted] == '\n';
    k = &t->toks[t->n_toks++];
    k->kind = kind;
    k->line = t->line;
    k->n = (uint32_t)n;
    k->s = s;
}

static void awq__tp_skip_space(awq__tp *t)
{
    size_t k;
    while ((k = awq__tp_space(t->src + t->at, t->n - t->at)) != 0) t->at += k;
}

static int awq__tp_digit(char c) { return c >= '0' && c <= '9'; }

static int awq__tp_word(char c) { return awq__tp_digit(c) || (c | 32) - 'a' + 0u < 26u || c == '_'; }

/* bytes of the number at p; behind a '.' it is an index, and no fraction */
static size_t awq__tp_lex_number(const char *p, char before, int *kind)
{
    size_t k = 1, e;
    while (awq__tp_digit(p[k])) k++;
    *kind = AWQ__TK_INT;
    if (before == '.') return k;
    if (p[k] == '.' && awq__tp_digit(p[k + 1])) {
        for (k += 2; awq__tp_digit(p[k]);) k++;
        *kind = AWQ__TK_FLOAT;
    }
    e = k + 1 + (p[k] && (p[k + 1] == '-' || p[k + 1] == '+'));
    if ((p[k] | 32) == 'e' && awq__tp_digit(p[e])) {
        for (k = e; awq__tp_digit(p[k]);) k++;
        *kind = AWQ__TK_FLOAT;
    }
    return k;
}

/* the inside of {{ }} (end '}') or {% %} (end '%'), its end and the whitespace that the end takes */
static void awq__tp_lex_tag(awq__tp *t, char end)
{
    static const char pairs[] = "==!=>=<=//**";
    char open[AWQ__TP_DEPTH];
    int n_open = 0;
    while (!t->st) {
        const char *p, *two;
        size_t k = 1, sign;
        int kind;
        awq__tp_skip_space(t);
        p = t->src + t->at;
        sign = *p == '-' || (*p == '+' && end == '%');
        kind = (unsigned char)*p;
        if (!*p) {
            awq__tp_add_token(t, AWQ__TK_END, p, 0);
            awq__tp_fail(t, AWQ_E_FORMAT, "the template ends inside a tag");
        } else if (!n_open && p[sign] == end && p[sign + 1] == '}') {
            awq__tp_add_token(t, end == '%' ? AWQ__TK_BLOCK_END : AWQ__TK_VAR_END, p, sign + 2);
            t->at += sign + 2;
            if (*p == '-') awq__tp_skip_space(t);
            else if (!sign && end == '%' && t->src[t->at] == '\n') t->at++;
            return;
        } else if (awq__tp_digit(*p)) {
            k = awq__tp_lex_number(p, t->at ? p[-1] : 0, &kind);
        } else if (awq__tp_word(*p)) {
            while (awq__tp_word(p[k])) k++;
            kind = AWQ__TK_NAME;
        } else if (*p == '\'' || *p == '"') {
            while (p[k] && p[k] != *p) k += p[k] == '\\' && p[k + 1] ? 2 : 1;
            awq__tp_add_token(t, AWQ__TK_STR, p + 1, k - 1);
            if (!p[k]) awq__tp_fail(t, AWQ_E_FORMAT, "a string without its end");
            t->at += k + 1;
            continue;
        } else if (strchr("([{", *p)) {
            open[n_open++] = *p == '(' ? ')' : *p == '[' ? ']' : '}';
            if (n_open == AWQ__TP_DEPTH)
                awq__tp_fail(t, AWQ_E_LIMIT, "nested more than %d deep", AWQ__TP_DEPTH);
        } else if (strchr(")]}", *p)) {
            if (!n_open || open[--n_open] != *p) {
                awq__tp_add_token(t, AWQ__TK_END, p, 0);
                awq__tp_fail(t, AWQ_E_FORMAT, "unexpected '%c'", *p);
            }
        } else if (strchr("+-*/%~<>=!.:|,;", *p)) {
            for (two = pairs; *two && (two[0] != p[0] || two[1] != p[1]);) two += 2;
            if (*two) kind = AWQ__TK_EQ + (int)(two - pairs) / 2, k = 2;
        } else {
            kind = 0;
        }
        if (!kind || kind == '!') {
            awq__tp_add_token(t, AWQ__TK_END, p, 0);
            awq__tp_fail(t, AWQ_E_FORMAT, "unexpected character '%.*s'",
                         (int)awq__tp_char(p, t->n - t->at), p);
        }
        awq__tp_add_token(t, kind, p, k);
        t->at += k;
    }
}

/* Text [from, to) before a tag of this kind (0: the end). A tag with '-' takes the whitespace before it. One of
   {% and {# takes the blanks before it when it is first on its line (lstrip_blocks), but not with '+'. */
static void awq__tp_lex_data(awq__tp *t, size_t from, size_t to, char kind, int line_start)
{
    const char *s = t->src;
    size_t end = to, l = to, k;
    char sign = kind ? s[to + 2] : 0;
    if (sign == '-') {
        end = from + awq__tp_trim_end(s + from, to - from);
    } else if (kind && kind != '{' && sign != '+') {
        while (l > from && s[l - 1] != '\n') l--;
        if (l > from || line_start) {
            for (k = l; k < to && awq__tp_space(s + k, to - k);) k += awq__tp_space(s + k, to - k);
            if (k == to) end = l;
        }
    }
    if (end > from) awq__tp_add_token(t, AWQ__TK_DATA, s + from, end - from);
}

/* behind the tag {% word %} that begins at `at`, 0: it is another */
static size_t awq__tp_raw_tag(awq__tp *t, size_t at, const char *word)
{
    const char *s = t->src;
    size_t n = strlen(word), k = at + 2;
    if (s[at + 1] != '%') return 0;
    k += s[k] == '-' || s[k] == '+';
    while (awq__tp_space(s + k, t->n - k)) k += awq__tp_space(s + k, t->n - k);
    if (strncmp(s + k, word, n)) return 0;
    for (k += n; awq__tp_space(s + k, t->n - k);) k += awq__tp_space(s + k, t->n - k);
    k += s[k] == '-' || (s[k] == '+' && *word == 'e');
    return s[k] == '%' && s[k + 1] == '}' ? k + 2 : 0;
}

/* The whole source; {% and {# also take the line end behind them (trim_blocks). */
static void awq__tp_lex(awq__tp *t)
{
    const char *s = t->src;
    int line_start = 1;
    while (t->at < t->n && !t->st) {
        size_t from = t->at, to = from, tag, raw;
        char sign, kind;
        while (to < t->n && !(s[to] == '{' && (s[to + 1] == '{' || s[to + 1] == '%' || s[to + 1] == '#'))) to++;
        kind = to < t->n ? s[to + 1] : 0;
        sign = kind ? s[to + 2] : 0;
        awq__tp_lex_data(t, from, to, kind, line_start);
        if (!kind) break;
        tag = to;
        t->at = to + 2 + (sign == '-' || sign == '+');
        if ((raw = awq__tp_raw_tag(t, tag, "raw")) != 0) {
            size_t e = t->at = raw, behind = 0;
            if (s[raw - 3] == '-') awq__tp_skip_space(t);
            for (from = e = t->at; !behind && (e = awq__tp_search(t, s, t->n, "{%", 2, e)) < t->n; e += 2)
                if ((behind = awq__tp_raw_tag(t, e, "endraw")) != 0) break;
            if (!behind) {
                awq__tp_add_token(t, AWQ__TK_END, s + tag, 0);
                awq__tp_fail(t, AWQ_E_FORMAT, "raw without endraw");
                break;
            }
            awq__tp_lex_data(t, from, e, '%', s[from - 1] == '\n');
            t->at = behind;
            if (s[behind - 3] == '-') awq__tp_skip_space(t);
            else if (s[behind - 3] != '+' && s[behind] == '\n') t->at++;
        } else if (kind == '#') {
            size_t e = awq__tp_search(t, s, t->n, "#}", 2, t->at);
            if (e == t->n) {
                awq__tp_add_token(t, AWQ__TK_END, s + tag, 0);
                awq__tp_fail(t, AWQ_E_FORMAT, "a comment without its end");
                break;
            }
            sign = e > t->at ? s[e - 1] : 0;
            t->at = e + 2;
            if (sign == '-') awq__tp_skip_space(t);
            else if (sign != '+' && s[t->at] == '\n') t->at++;
        } else {
            awq__tp_add_token(t, kind == '%' ? AWQ__TK_BLOCK : AWQ__TK_VAR, s + tag, 2);
            awq__tp_lex_tag(t, kind == '%' ? '%' : '}');
        }
        line_start = s[t->at - 1] == '\n';
    }
    t->at = t->n;
    awq__tp_add_token(t, AWQ__TK_END, s + t->n, 0);
}

/* --- parser: recursive descent with Jinja's grammar */
static const awq__tp_token *awq__tp_peek(const awq__tp *t) { return &t->toks[t->pos]; }

static uint32_t awq__tp_node_of(awq__tp *t, awq__tp_kind kind)
{
    awq__tp_node *n;
    if (t->st) return 0;
    if (!awq__grow(t->ctx, (void **)&t->nodes, &t->cap_nodes, t->n_nodes + 1, sizeof *t->nodes)) {
        t->st = AWQ_E_MEMORY;
        return 0;
    }
    n = &t->nodes[t->n_nodes];
    memset(n, 0, sizeof *n);
    n->kind = (int)kind;
    n->line = awq__tp_peek(t)->line;
    n->value = awq__tp_value(AWQ__T_NONE, 0);
    return (uint32_t)t->n_nodes++;
}

static uint32_t awq__tp_node2(awq__tp *t, awq__tp_kind kind, uint32_t a, uint32_t b)
{
    uint32_t id = awq__tp_node_of(t, kind);
    if (!id) return 0;
    t->nodes[id].a = a;
    t->nodes[id].b = b;
    return id;
}

static void awq__tp_link(awq__tp *t, uint32_t *first, uint32_t *last, uint32_t id)
{
    if (!id || t->st) return;
    if (*last) t->nodes[*last].next = id;
    else *first = id;
    *last = id;
}

static uint32_t awq__tp_unexpected(awq__tp *t, const char *wanted) /* 0 */
{
    const awq__tp_token *k = awq__tp_peek(t);
    if (t->st) return 0;
    t->line = k->line;
    if (k->kind == AWQ__TK_END)
        awq__tp_fail(t, AWQ_E_FORMAT, "the template ends where %s was expected", wanted);
    else
        awq__tp_fail(t, AWQ_E_FORMAT, "'%.*s' where %s was expected", AWQ__TP_SHOW(k->n, k->s), wanted);
    return 0;
}

static int awq__tp_at_name(const awq__tp *t, const char *name)
{
    const awq__tp_token *k = awq__tp_peek(t);
    return k->kind == AWQ__TK_NAME && awq__tp_is(k->s, k->n, name);
}

static int awq__tp_take(awq__tp *t, int kind)
{
    if (t->st || awq__tp_peek(t)->kind != kind) return 0;
    t->pos++;
    return 1;
}

static int awq__tp_take_name(awq__tp *t, const char *name)
{
    if (t->st || !awq__tp_at_name(t, name)) return 0;
    t->pos++;
    return 1;
}

static void awq__tp_expect(awq__tp *t, int kind, const char *what)
{
    if (!awq__tp_take(t, kind)) awq__tp_unexpected(t, what);
}

/* a name token into the value of a node */
static void awq__tp_name_into(awq__tp *t, uint32_t id)
{
    const awq__tp_token *k = awq__tp_peek(t);
    if (!awq__tp_take(t, AWQ__TK_NAME)) awq__tp_unexpected(t, "a name");
    else if (id) t->nodes[id].value = awq__tp_str(k->s, k->n);
}

/* the text of a string token, with Python's escapes, behind what is in scratch */
static void awq__tp_unescape(awq__tp *t, const char *s, size_t n)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    size_t i = 0;
    while (i < n && !t->st) {
        const char *esc = (const char *)memchr(s + i, '\\', n - i), *p;
        size_t run = esc ? (size_t)(esc - s) - i : n - i, k = 0, digits;
        uint32_t u = 0;
        char c, tmp[4];
        awq__tp_put(t, &t->scratch, s + i, run);
        i += run + 2;
        if (!esc) break;
        c = esc[1];
        digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
        if ((p = strchr(from, c)) != NULL) {
            awq__tp_put(t, &t->scratch, to + (p - from), 1);
        } else if (digits) {
            for (; k < digits && i < n; k++, i++) {
                unsigned d = (unsigned char)s[i], h = (d | 32) - 'a';
                if (!awq__tp_digit(s[i]) && h > 5) break;
                u = u << 4 | (awq__tp_digit(s[i]) ? d - '0' : h + 10);
            }
            if (k < digits || u > 0x10ffff || (u >= 0xd800 && u < 0xe000))
                awq__tp_fail(t, AWQ_E_FORMAT, "a malformed \\%c in a string", c);
            else awq__tp_put(t, &t->scratch, tmp, (size_t)awq__utf8_put(u, tmp));
        } else if (c == 'N' || (c >= '0' && c <= '7')) {
            awq__tp_fail(t, AWQ_E_UNSUPPORTED, "\\%c in a string", c);
        } else if (c != '\n') { /* an escaped line end vanishes; unknown escapes stay */
            awq__tp_put(t, &t->scratch, esc, 1);
            i--;
        }
    }
}

static uint32_t awq__tp_expr(awq__tp *t, int with_if);
static uint32_t awq__tp_unary(awq__tp *t, int with_filter);
static uint32_t awq__tp_body(awq__tp *t, const char *ends);

/* a, b, ...: a tuple when there is a comma. `stop`: the word that ends it, or NULL */
static uint32_t awq__tp_tuple(awq__tp *t, int with_if, const char *stop, int in_parentheses)
{
    uint32_t first = 0, last = 0;
    int is_tuple = 0;
    for (;;) {
        int kind = awq__tp_peek(t)->kind;
        if (kind == AWQ__TK_VAR_END || kind == AWQ__TK_BLOCK_END || kind == ')'
            || (stop && awq__tp_at_name(t, stop)))
            break;
        awq__tp_link(t, &first, &last, awq__tp_expr(t, with_if));
        if (!awq__tp_take(t, ',')) break;
        is_tuple = 1;
    }
    if (!is_tuple && first) return first;
    if (!is_tuple && !in_parentheses) return awq__tp_unexpected(t, "an expression");
    return awq__tp_node2(t, AWQ__N_TUPLE, first, 0);
}

/* the arguments of a call, behind '(' */
static uint32_t awq__tp_call_args(awq__tp *t)
{
    uint32_t first = 0, last = 0;
    int keywords = 0;
    while (!t->st && awq__tp_peek(t)->kind != ')') {
        const awq__tp_token *k = awq__tp_peek(t);
        if (k->kind == '*' || k->kind == AWQ__TK_POW) {
            uint32_t id;
            t->pos++;
            id = awq__tp_node2(t, AWQ__N_SPREAD, awq__tp_expr(t, 1), 0);
            if (id) t->nodes[id].op = k->kind == AWQ__TK_POW;
            awq__tp_link(t, &first, &last, id);
        } else if (k->kind == AWQ__TK_NAME && k[1].kind == '=') {
            uint32_t id = awq__tp_node_of(t, AWQ__N_KEYWORD), a;
            awq__tp_name_into(t, id);
            t->pos++;
            a = awq__tp_expr(t, 1);
            if (id) t->nodes[id].a = a;
            awq__tp_link(t, &first, &last, id);
            keywords = 1;
        } else if (keywords) {
            awq__tp_unexpected(t, "a keyword argument");
        } else {
            awq__tp_link(t, &first, &last, awq__tp_expr(t, 1));
        }
        if (!awq__tp_take(t, ',')) break;
    }
    awq__tp_expect(t, ')', "')'");
    return first;
}

static uint32_t awq__tp_number(awq__tp *t)
{
    const awq__tp_token *k = awq__tp_peek(t);
    uint32_t id = awq__tp_node_of(t, AWQ__N_CONST), i;
    int64_t v = 0;
    if (!id) return 0;
    t->line = k->line;
    t->pos++;
    if (k->kind == AWQ__TK_FLOAT) {
        t->nodes[id].value = awq__tp_float(awq__json_real(k->s, k->n));
        return id;
    }
    for (i = 0; i < k->n && v <= (INT64_MAX - 9) / 10; i++) v = v * 10 + (k->s[i] - '0');
    if (i < k->n) awq__tp_fail(t, AWQ_E_UNSUPPORTED, "an integer beyond 64 bits");
    t->nodes[id].value = awq__tp_int(v);
    return id;
}

static uint32_t awq__tp_primary(awq__tp *t)
{
    const awq__tp_token *k = awq__tp_peek(t);
    uint32_t id, first = 0, last = 0;
    size_t from = t->scratch.len;
    switch (k->kind) {
    case AWQ__TK_NAME:
        if (awq__tp_listed(k->s, k->n, " true True false False ")) {
            if ((id = awq__tp_node_of(t, AWQ__N_CONST)) != 0)
                t->nodes[id].value = awq__tp_bool((k->s[0] | 32) == 't');
            t->pos++;
        } else if (awq__tp_listed(k->s, k->n, " none None ")) {
            id = awq__tp_node_of(t, AWQ__N_CONST);
            t->pos++;
        } else {
            int i;
            for (i = 0; i < 3; i++)
                if (awq__tp_is(k->s, k->n, awq__tp_special[i])) t->uses |= 1 << i;
            id = awq__tp_node_of(t, AWQ__N_NAME);
            awq__tp_name_into(t, id);
        }
        return id;
    case AWQ__TK_STR: /* neighbours are joined */
        id = awq__tp_node_of(t, AWQ__N_CONST);
        for (; !t->st && (k = awq__tp_peek(t))->kind == AWQ__TK_STR; t->pos++) {
            t->line = k->line;
            awq__tp_unescape(t, k->s, k->n);
        }
        if (id) t->nodes[id].value = awq__tp_cut(t, &t->scratch, from);
        return id;
    case AWQ__TK_INT:
    case AWQ__TK_FLOAT: return awq__tp_number(t);
    case '(':
        t->pos++;
        id = awq__tp_tuple(t, 1, NULL, 1);
        awq__tp_expect(t, ')', "')'");
        return id;
    case '[':
        id = awq__tp_node_of(t, AWQ__N_LIST);
        t->pos++;
        while (!t->st && awq__tp_peek(t)->kind != ']') {
            awq__tp_link(t, &first, &last, awq__tp_expr(t, 1));
            if (!awq__tp_take(t, ',')) break;
        }
        awq__tp_expect(t, ']', "']'");
        break;
    case '{':
        id = awq__tp_node_of(t, AWQ__N_DICT);
        t->pos++;
        while (!t->st && awq__tp_peek(t)->kind != '}') {
            awq__tp_link(t, &first, &last, awq__tp_expr(t, 1));
            awq__tp_expect(t, ':', "':'");
            awq__tp_link(t, &first, &last, awq__tp_expr(t, 1));
            if (!awq__tp_take(t, ',')) break;
        }
        awq__tp_expect(t, '}', "'}'");
        break;
    default: return awq__tp_unexpected(t, "an expression");
    }
    if (id) t->nodes[id].a = first;
    return id;
}

/* [i] or [from:to:step], behind '[' */
static uint32_t awq__tp_subscript(awq__tp *t, uint32_t left)
{
    uint32_t part[3] = {0, 0, 0}, id;
    int n = 0;
    do {
        int kind = awq__tp_peek(t)->kind;
        if (kind != ':' && kind != ']') part[n] = awq__tp_expr(t, 1);
    } while (++n < 3 && awq__tp_take(t, ':'));
    if (n == 1 && !part[0]) return awq__tp_unexpected(t, "an index");
    if (awq__tp_peek(t)->kind == ',') awq__tp_fail(t, AWQ_E_UNSUPPORTED, "a tuple as an index");
    awq__tp_expect(t, ']', "']'");
    id = awq__tp_node2(t, n == 1 ? AWQ__N_ITEM : AWQ__N_SLICE, left, part[0]);
    t->nodes[id].c = part[1];
    t->nodes[id].d = part[2];
    return id;
}

static uint32_t awq__tp_postfix(awq__tp *t, uint32_t left)
{
    while (!t->st) {
        if (awq__tp_take(t, '.')) {
            if (awq__tp_peek(t)->kind == AWQ__TK_INT) {
                left = awq__tp_node2(t, AWQ__N_ITEM, left, awq__tp_number(t));
            } else {
                left = awq__tp_node2(t, AWQ__N_ATTR, left, 0);
                awq__tp_name_into(t, left);
            }
        } else if (awq__tp_take(t, '[')) {
            left = awq__tp_subscript(t, left);
        } else if (awq__tp_take(t, '(')) {
            left = awq__tp_node2(t, AWQ__N_CALL, left, awq__tp_call_args(t));
        } else {
            break;
        }
    }
    return left;
}

/* |name(...) and behind `is`: name, name(...), name value */
static uint32_t awq__tp_named(awq__tp *t, awq__tp_kind kind, uint32_t left)
{
    uint32_t id = awq__tp_node2(t, kind, left, 0), args = 0;
    awq__tp_name_into(t, id);
    if (awq__tp_peek(t)->kind == '.') awq__tp_unexpected(t, "a filter or test of Jinja");
    if (awq__tp_take(t, '(')) {
        args = awq__tp_call_args(t);
    } else if (kind == AWQ__N_TEST) {
        const awq__tp_token *k = awq__tp_peek(t);
        if (k->kind == AWQ__TK_STR || k->kind == AWQ__TK_INT || k->kind == AWQ__TK_FLOAT || k->kind == '['
            || k->kind == '{'
            || (k->kind == AWQ__TK_NAME && !awq__tp_listed(k->s, k->n, " else or and "))) {
            if (awq__tp_at_name(t, "is")) return awq__tp_unexpected(t, "something else than a second 'is'");
            args = awq__tp_postfix(t, awq__tp_primary(t));
        }
    }
    if (!t->st) t->nodes[id].b = args;
    return id;
}

static uint32_t awq__tp_filters(awq__tp *t, uint32_t left)
{
    while (!t->st) {
        if (awq__tp_take(t, '|')) {
            left = awq__tp_named(t, AWQ__N_FILTER, left);
        } else if (awq__tp_take_name(t, "is")) {
            int negated = awq__tp_take_name(t, "not");
            left = awq__tp_named(t, AWQ__N_TEST, left);
            if (negated) left = awq__tp_node2(t, AWQ__N_NOT, left, 0);
        } else {
            break;
        }
    }
    return left;
}

static uint32_t awq__tp_unary(awq__tp *t, int with_filter)
{
    int kind = awq__tp_peek(t)->kind;
    uint32_t id = 0;
    if (awq__tp_enter(t)) {
        if (kind == '-' || kind == '+') {
            t->pos++;
            id = awq__tp_unary(t, 0);
            if (kind == '-') id = awq__tp_node2(t, AWQ__N_NEGATE, id, 0);
        } else {
            id = awq__tp_primary(t);
        }
        id = awq__tp_postfix(t, id);
        if (with_filter) id = awq__tp_filters(t, id);
    }
    t->depth--;
    return id;
}

/* the operator at this level of precedence, 0: none */
static int awq__tp_operator(awq__tp *t, int level)
{
    const awq__tp_token *k = awq__tp_peek(t);
    int kind = k->kind;
    if (level == 0) return awq__tp_at_name(t, "or");
    if (level == 1) return awq__tp_at_name(t, "and");
    if (level == 4) return kind == '+' || kind == '-' ? kind : 0;
    if (level == 5) return kind == '~' ? kind : 0;
    if (level == 6) return kind == '*' || kind == '/' || kind == '%' || kind == AWQ__TK_FLOORDIV ? kind : 0;
    if (kind == '<' || kind == '>' || (kind >= AWQ__TK_EQ && kind <= AWQ__TK_LE)) return kind;
    if (awq__tp_at_name(t, "in")) return AWQ__TK_IN;
    if (awq__tp_at_name(t, "not") && k[1].kind == AWQ__TK_NAME && awq__tp_is(k[1].s, k[1].n, "in"))
        return AWQ__TK_NOT_IN;
    return 0;
}

/* level 0 or, 1 and, 2 not, 3 comparisons, 4 + -, 5 ~, 6 * / // %, 7 unary and ** */
static uint32_t awq__tp_binary(awq__tp *t, int level)
{
    uint32_t left, id, first = 0, last = 0;
    int op;
    if (level == 7) {
        left = awq__tp_unary(t, 1);
        while (awq__tp_take(t, AWQ__TK_POW)) {
            left = awq__tp_node2(t, AWQ__N_BINARY, left, awq__tp_unary(t, 1));
            if (left) t->nodes[left].op = AWQ__TK_POW;
        }
        return left;
    }
    if (level == 2 && awq__tp_take_name(t, "not")) {
        left = awq__tp_enter(t) ? awq__tp_binary(t, 2) : 0;
        t->depth--;
        return awq__tp_node2(t, AWQ__N_NOT, left, 0);
    }
    left = awq__tp_binary(t, level + 1);
    if (level == 2) return left;
    while (!t->st && (op = awq__tp_operator(t, level)) != 0) {
        t->pos += op == AWQ__TK_NOT_IN ? 2 : 1;
        id = awq__tp_binary(t, level + 1);
        if (level == 3) {
            id = awq__tp_node2(t, AWQ__N_OPERAND, id, 0);
        } else {
            awq__tp_kind kind = level == 0 ? AWQ__N_OR : level == 1 ? AWQ__N_AND : AWQ__N_BINARY;
            id = left = awq__tp_node2(t, kind, left, id);
        }
        if (id) t->nodes[id].op = op;
        if (level == 3) awq__tp_link(t, &first, &last, id);
    }
    return first ? awq__tp_node2(t, AWQ__N_COMPARE, left, first) : left;
}

static uint32_t awq__tp_expr(awq__tp *t, int with_if)
{
    uint32_t left = 0, id;
    if (awq__tp_enter(t)) {
        left = awq__tp_binary(t, 0);
        while (with_if && awq__tp_take_name(t, "if")) {
            uint32_t test = awq__tp_binary(t, 0), other = 0;
            if (awq__tp_take_name(t, "else")) other = awq__tp_expr(t, 1);
            id = awq__tp_node2(t, AWQ__N_IF_ELSE, test, left);
            if (id) t->nodes[id].c = other;
            left = id;
        }
    }
    t->depth--;
    return left;
}

/* what is assigned to: names, tuples of them, and name.attribute where `attribute` */
static uint32_t awq__tp_target(awq__tp *t, int attribute, const char *stop)
{
    uint32_t first = 0, last = 0, id;
    int is_tuple = 0;
    if (awq__tp_enter(t)) {
        do {
            const awq__tp_token *k = awq__tp_peek(t);
            is_tuple = first != 0;
            if (k->kind == AWQ__TK_BLOCK_END || k->kind == ')'
                || (stop && awq__tp_at_name(t, stop)))
                break;
            if (awq__tp_take(t, '(')) {
                id = awq__tp_target(t, 0, NULL);
                awq__tp_expect(t, ')', "')'");
            } else {
                id = awq__tp_node_of(t, AWQ__N_NAME);
                awq__tp_name_into(t, id);
                if (attribute && awq__tp_take(t, '.')) {
                    id = awq__tp_node2(t, AWQ__N_ATTR, id, 0);
                    awq__tp_name_into(t, id);
                } else if (!t->st && awq__tp_listed(k->s, k->n, " true True false False none None loop ")) {
                    t->line = k->line;
                    awq__tp_fail(t, AWQ_E_FORMAT, "'%.*s' cannot be assigned to", (int)k->n, k->s);
                }
            }
            awq__tp_link(t, &first, &last, id);
        } while (awq__tp_take(t, ','));
    }
    t->depth--;
    if (!first) return awq__tp_unexpected(t, "a name to assign to");
    return is_tuple ? awq__tp_node2(t, AWQ__N_TUPLE, first, 0) : first;
}

/* {% ... %} up to its end, then a body up to one of the words in ends, whose token is then the current one */
static uint32_t awq__tp_block(awq__tp *t, const char *ends)
{
    awq__tp_take(t, ':');
    awq__tp_expect(t, AWQ__TK_BLOCK_END, "'%}'");
    return awq__tp_body(t, ends);
}

static uint32_t awq__tp_branch(awq__tp *t, uint32_t test, const char *ends)
{
    uint32_t id = awq__tp_node2(t, AWQ__N_BRANCH, test, 0), body = awq__tp_block(t, ends);
    if (id) t->nodes[id].b = body;
    return id;
}

static uint32_t awq__tp_if(awq__tp *t)
{
    uint32_t id = awq__tp_node_of(t, AWQ__N_IF), first = 0, last = 0;
    do
        awq__tp_link(t, &first, &last, awq__tp_branch(t, awq__tp_tuple(t, 0, NULL, 0), " elif else endif "));
    while (awq__tp_take_name(t, "elif"));
    if (awq__tp_take_name(t, "else")) awq__tp_link(t, &first, &last, awq__tp_branch(t, 0, " endif "));
    awq__tp_take_name(t, "endif");
    if (id) t->nodes[id].a = first;
    return id;
}

static uint32_t awq__tp_for(awq__tp *t)
{
    uint32_t id = awq__tp_node_of(t, AWQ__N_FOR), target, what, test = 0, body;
    target = awq__tp_target(t, 0, "in");
    if (!awq__tp_take_name(t, "in")) return awq__tp_unexpected(t, "'in'");
    what = awq__tp_tuple(t, 0, "recursive", 0);
    if (awq__tp_take_name(t, "if")) test = awq__tp_expr(t, 1);
    if (awq__tp_take_name(t, "recursive") && id) t->nodes[id].op = 1;
    t->loops++;
    body = awq__tp_branch(t, 0, " endfor else ");
    t->loops--;
    if (awq__tp_take_name(t, "else")) {
        uint32_t other = awq__tp_branch(t, 0, " endfor ");
        if (body) t->nodes[body].next = other;
    }
    awq__tp_take_name(t, "endfor");
    if (!id) return 0;
    t->nodes[id].a = target;
    t->nodes[id].b = what;
    t->nodes[id].c = test;
    t->nodes[id].d = body;
    return id;
}

/* the body of a CAPTURE; with `filters` over what it prints, whose first name is the current token */
static uint32_t awq__tp_capture(awq__tp *t, uint32_t target, int filters, const char *end)
{
    uint32_t id = awq__tp_node2(t, AWQ__N_CAPTURE, target, 0), text = 0, chain = 0, body;
    if (filters) {
        chain = text = awq__tp_node_of(t, AWQ__N_CONST);
        do chain = awq__tp_named(t, AWQ__N_FILTER, chain);
        while (awq__tp_take(t, '|'));
    }
    body = awq__tp_block(t, end);
    if (!id) return 0;
    t->nodes[id].b = body;
    t->nodes[id].c = chain;
    t->nodes[id].d = text;
    return id;
}

static uint32_t awq__tp_set_statement(awq__tp *t)
{
    uint32_t target = awq__tp_target(t, 1, NULL), id;
    if (awq__tp_take(t, '=')) return awq__tp_node2(t, AWQ__N_SET, target, awq__tp_tuple(t, 1, NULL, 0));
    t->line = awq__tp_peek(t)->line;
    id = awq__tp_capture(t, target, awq__tp_take(t, '|'), " endset ");
    awq__tp_take_name(t, "endset");
    return id;
}

/* (a, b=1) and the body of a macro or call block */
static uint32_t awq__tp_signature(awq__tp *t, uint32_t id, int parameters, const char *end)
{
    uint32_t first = 0, last = 0, body;
    int loops = t->loops, uses = t->uses;
    while (parameters && !t->st && awq__tp_peek(t)->kind != ')') {
        uint32_t p = awq__tp_node_of(t, AWQ__N_KEYWORD), other;
        awq__tp_name_into(t, p);
        if (awq__tp_take(t, '=')) {
            other = awq__tp_expr(t, 1);
            if (p) t->nodes[p].a = other;
        }
        awq__tp_link(t, &first, &last, p);
        if (!awq__tp_take(t, ',')) break;
    }
    if (parameters) awq__tp_expect(t, ')', "')'");
    if (end[4] == 'c') { /* endcall: the call comes before the body */
        uint32_t call = awq__tp_expr(t, 1);
        if (!t->st && t->nodes[call].kind != AWQ__N_CALL) awq__tp_unexpected(t, "a call");
        if (id) t->nodes[id].c = call;
    }
    t->loops = t->uses = 0;
    body = awq__tp_block(t, end);
    awq__tp_take(t, AWQ__TK_NAME);
    if (id) {
        t->nodes[id].op = t->uses;
        t->nodes[id].a = first;
        t->nodes[id].b = body;
    }
    t->loops = loops;
    t->uses |= uses;
    return id;
}

static uint32_t awq__tp_macro(awq__tp *t)
{
    uint32_t id = awq__tp_node_of(t, AWQ__N_MACRO);
    awq__tp_name_into(t, id);
    awq__tp_expect(t, '(', "'('");
    return awq__tp_signature(t, id, 1, " endmacro ");
}

static uint32_t awq__tp_with(awq__tp *t)
{
    uint32_t id = awq__tp_node_of(t, AWQ__N_SCOPE), first = 0, last = 0, body;
    while (!t->st && awq__tp_peek(t)->kind != AWQ__TK_BLOCK_END) {
        uint32_t target = awq__tp_target(t, 0, NULL);
        awq__tp_expect(t, '=', "'='");
        awq__tp_link(t, &first, &last, awq__tp_node2(t, AWQ__N_SET, target, awq__tp_expr(t, 1)));
        if (!awq__tp_take(t, ',')) break;
    }
    body = awq__tp_block(t, " endwith ");
    awq__tp_take_name(t, "endwith");
    if (!id) return 0;
    t->nodes[id].a = first;
    t->nodes[id].b = body;
    return id;
}

static uint32_t awq__tp_statement(awq__tp *t)
{
    const awq__tp_token *k = awq__tp_peek(t);
    uint32_t id;
    if (awq__tp_take_name(t, "if")) return awq__tp_if(t);
    if (awq__tp_take_name(t, "for")) return awq__tp_for(t);
    if (awq__tp_take_name(t, "set")) return awq__tp_set_statement(t);
    if (awq__tp_take_name(t, "macro")) return awq__tp_macro(t);
    if (awq__tp_take_name(t, "with")) return awq__tp_with(t);
    if (awq__tp_take_name(t, "call")) {
        id = awq__tp_node_of(t, AWQ__N_CALL_BLOCK);
        return awq__tp_signature(t, id, awq__tp_take(t, '('), " endcall ");
    }
    if (awq__tp_take_name(t, "filter")) {
        id = awq__tp_capture(t, 0, 1, " endfilter ");
        awq__tp_take_name(t, "endfilter");
        return id;
    }
    if (awq__tp_take_name(t, "generation")) { /* marks what the model said; it only makes a scope */
        int loops = t->loops;
        uint32_t body;
        id = awq__tp_node_of(t, AWQ__N_SCOPE);
        t->loops = 0;
        body = awq__tp_block(t, " endgeneration ");
        t->loops = loops;
        awq__tp_take_name(t, "endgeneration");
        if (id) t->nodes[id].b = body;
        return id;
    }
    t->line = k->line;
    if (awq__tp_at_name(t, "break") || awq__tp_at_name(t, "continue")) {
        t->pos++;
        if (!t->loops) awq__tp_fail(t, AWQ_E_FORMAT, "'%.*s' outside a loop", (int)k->n, k->s);
        return awq__tp_node_of(t, k->s[0] == 'b' ? AWQ__N_BREAK : AWQ__N_CONTINUE);
    }
    if (k->kind == AWQ__TK_NAME
        && awq__tp_listed(k->s, k->n, " autoescape block do extends from import include print "))
        awq__tp_fail(t, AWQ_E_UNSUPPORTED, "the tag '%.*s'", (int)k->n, k->s);
    return awq__tp_unexpected(t, "a tag of Jinja");
}

/* ends NULL: the whole template */
static uint32_t awq__tp_body(awq__tp *t, const char *ends)
{
    uint32_t first = 0, last = 0, id;
    if (awq__tp_enter(t)) {
        while (!t->st) {
            const awq__tp_token *k = awq__tp_peek(t);
            if (k->kind == AWQ__TK_END) {
                if (ends) awq__tp_fail(t, AWQ_E_FORMAT, "the template ends where one of%swas expected", ends);
                break;
            }
            if (k->kind == AWQ__TK_DATA) {
                id = awq__tp_node2(t, AWQ__N_PRINT, awq__tp_node_of(t, AWQ__N_CONST), 0);
                if (id) t->nodes[t->nodes[id].a].value = awq__tp_str(k->s, k->n);
                t->pos++;
            } else if (awq__tp_take(t, AWQ__TK_VAR)) {
                id = awq__tp_node2(t, AWQ__N_PRINT, awq__tp_tuple(t, 1, NULL, 0), 0);
                awq__tp_expect(t, AWQ__TK_VAR_END, "'}}'");
            } else {
                t->pos++;
                k = awq__tp_peek(t);
                if (ends && k->kind == AWQ__TK_NAME && awq__tp_listed(k->s, k->n, ends)) break;
                id = awq__tp_statement(t);
                awq__tp_expect(t, AWQ__TK_BLOCK_END, "'%}'");
            }
            awq__tp_link(t, &first, &last, id);
        }
    }
    t->depth--;
    return first;
}

/* --- values: truth, equality, text */
static int awq__tp_true(awq__tv v)
{
    switch (v.type) {
    case AWQ__T_UNDEF:
    case AWQ__T_NONE: return 0;
    case AWQ__T_BOOL:
    case AWQ__T_INT: return v.v.i != 0;
    case AWQ__T_FLOAT: return v.v.d != 0;
    case AWQ__T_STR:
    case AWQ__T_LIST:
    case AWQ__T_TUPLE:
    case AWQ__T_DICT:
    case AWQ__T_RANGE:
    case AWQ__T_VIEW:
    case AWQ__T_SAFE: return v.n != 0;
    default: return 1;
    }
}

static int awq__tp_whole(awq__tv v) { return v.type == AWQ__T_BOOL || v.type == AWQ__T_INT; }

static int awq__tp_is_number(awq__tv v) { return awq__tp_whole(v) || v.type == AWQ__T_FLOAT; }

/* is it of one of these types (AWQ__T_BIT)? */
static int awq__tp_any(awq__tv v, unsigned types) { return (int)(types >> v.type & 1); }

static double awq__tp_double(awq__tp *t, awq__tv v) /* of a number */
{
    if (v.type == AWQ__T_FLOAT) return v.v.d;
    if (v.v.i > (int64_t)1 << 53 || v.v.i < -((int64_t)1 << 53))
        awq__tp_fail(t, AWQ_E_UNSUPPORTED, "an integer beyond 53 bits beside a float");
    return (double)v.v.i;
}

static const awq__tv *awq__tp_lookup(awq__tp *t, awq__tv dict, awq__tv key);

static int awq__tp_equal(awq__tp *t, awq__tv a, awq__tv b)
{
    uint32_t i;
    int same = 1;
    if (awq__tp_whole(a) && awq__tp_whole(b)) return a.v.i == b.v.i;
    if (awq__tp_is_number(a) && awq__tp_is_number(b)) return awq__tp_double(t, a) == awq__tp_double(t, b);
    if (a.type == AWQ__T_SAFE || b.type == AWQ__T_SAFE)
        awq__tp_fail(t, AWQ_E_UNSUPPORTED, "a str marked safe compared");
    if (a.type != b.type || !awq__tp_step(t, 16)) return 0;
    switch (a.type) {
    case AWQ__T_UNDEF:
    case AWQ__T_NONE: return 1;
    case AWQ__T_STR: return a.n == b.n && awq__tp_step(t, a.n / 8) && (!a.n || !memcmp(a.v.s, b.v.s, a.n));
    case AWQ__T_VIEW: awq__tp_fail(t, AWQ_E_UNSUPPORTED, "views of dicts compared"); return 0;
    case AWQ__T_LIST:
    case AWQ__T_TUPLE:
    case AWQ__T_RANGE:
    case AWQ__T_DICT: break;
    default: return a.n == b.n && a.v.ns == b.v.ns;
    }
    if (a.n != b.n) return 0;
    if (awq__tp_enter(t)) {
        for (i = 0; i < a.n && same && !t->st; i++) {
            if (a.type == AWQ__T_DICT) {
                const awq__tv *other = awq__tp_lookup(t, b, a.v.items[2 * i]);
                same = other && awq__tp_equal(t, a.v.items[2 * i + 1], *other);
            } else {
                same = awq__tp_equal(t, a.v.items[i], b.v.items[i]);
            }
        }
    }
    t->depth--;
    return same;
}

/* "'x' is undefined" or "a list cannot be ..." */
static awq__tv awq__tp_wrong(awq__tp *t, awq__tv v, const char *cannot)
{
    if (v.type == AWQ__T_UNDEF && v.v.s)
        return awq__tp_fail(t, AWQ_E_FORMAT, "'%.*s' is undefined and cannot be %s", AWQ__TP_SHOW(v.n, v.v.s),
                            cannot);
    return awq__tp_fail(t, v.type == AWQ__T_SAFE ? AWQ_E_UNSUPPORTED : AWQ_E_FORMAT,
                        "a value of type %s cannot be %s", awq__tp_types[v.type], cannot);
}

/* fails for lists, dicts and tuples of them, which cannot be keys */
static int awq__tp_hashable(awq__tp *t, awq__tv v)
{
    uint32_t i;
    if (awq__tp_enter(t)) {
        if (awq__tp_any(v, AWQ__T_BIT(T_LIST) | AWQ__T_BIT(T_DICT))) awq__tp_wrong(t, v, "a key");
        for (i = 0; v.type == AWQ__T_TUPLE && i < v.n && awq__tp_step(t, 1); i++)
            awq__tp_hashable(t, v.v.items[i]);
    }
    t->depth--;
    return !t->st;
}

static const awq__tv *awq__tp_lookup(awq__tp *t, awq__tv dict, awq__tv key) /* NULL: not there */
{
    uint32_t i;
    for (i = 0; i < dict.n && awq__tp_step(t, 4); i++)
        if (awq__tp_equal(t, dict.v.items[2 * i], key)) return &dict.v.items[2 * i + 1];
    return NULL;
}

static int awq__tp_printable(const char *s, size_t n, uint32_t *cp) /* str.isprintable of a character */
{
    *cp = awq__utf8_len((const unsigned char *)s, n) ? awq__utf8_get((const unsigned char *)s, (int)n)
                                                     : (uint32_t)(unsigned char)*s;
    return awq__uni_in(*cp, AWQ__UC_IN_L | AWQ__UC_IN_M | AWQ__UC_IN_N | AWQ__UC_IN_P | AWQ__UC_IN_S);
}

/* a str as Python's repr writes it */
static void awq__tp_put_quoted(awq__tp *t, awq__text *out, const char *s, size_t n)
{
    char quote = n && memchr(s, '\'', n) && !memchr(s, '"', n) ? '"' : '\'', tmp[16];
    size_t i, k;
    uint32_t cp = 0;
    awq__tp_put(t, out, &quote, 1);
    for (i = 0; i < n && !t->st; i += k) {
        unsigned char c = (unsigned char)s[i];
        k = awq__tp_char(s + i, n - i);
        if (c == '\n' || c == '\r' || c == '\t') {
            awq__tp_puts(t, out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        } else if (c != ' ' && !awq__tp_printable(s + i, k, &cp)) {
            snprintf(tmp, sizeof tmp, cp < 256 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x",
                     (unsigned)cp);
            awq__tp_puts(t, out, tmp);
        } else {
            if (c == '\\' || s[i] == quote) awq__tp_puts(t, out, "\\");
            awq__tp_put(t, out, s + i, k);
        }
    }
    awq__tp_put(t, out, &quote, 1);
}

/* a str as Python's json.dumps writes it */
static void awq__tp_put_json(awq__tp *t, awq__text *out, const char *s, size_t n, int ascii)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    size_t i, k, run = 0;
    char tmp[16];
    awq__tp_puts(t, out, "\"");
    for (i = 0; i < n && !t->st; i += k) {
        const char *esc = s[i] ? strchr(from, s[i]) : NULL;
        uint32_t cp = (unsigned char)s[i];
        k = awq__tp_char(s + i, n - i);
        if (cp >= 0x20 && !esc && (cp < 0x7f || !ascii)) continue;
        awq__tp_put(t, out, s + run, i - run);
        run = i + k;
        if (esc) snprintf(tmp, sizeof tmp, "\\%c", to[esc - from]);
        else if (cp < 0x20) snprintf(tmp, sizeof tmp, "\\u%04x", (unsigned)cp);
        else {
            if (k > 1) cp = awq__utf8_get((const unsigned char *)s + i, (int)k);
            if (cp < 0x10000) snprintf(tmp, sizeof tmp, "\\u%04x", (unsigned)cp);
            else
                snprintf(tmp, sizeof tmp, "\\u%04x\\u%04x", 0xd7c0u + (unsigned)(cp >> 10),
                         0xdc00u + (unsigned)(cp & 0x3ff));
        }
        awq__tp_puts(t, out, tmp);
    }
    awq__tp_put(t, out, s + run, n - run);
    awq__tp_puts(t, out, "\"");
}

/* a float as Python's repr writes it: the fewest digits that read back the same */
static void awq__tp_put_float(awq__tp *t, awq__text *out, double d, int json)
{
    char tmp[40], text[64], digit[20], *e;
    int n = 0, digits = 0, exponent, i;
    if (d != d || d - d != 0) {
        if (d == d && d < 0) awq__tp_puts(t, out, "-");
        awq__tp_puts(t, out, d != d ? (json ? "NaN" : "nan") : json ? "Infinity" : "inf");
        return;
    }
    do snprintf(tmp, sizeof tmp, "%.*e", n, d);
    while (strtod(tmp, NULL) != d && ++n < 17);
    e = strchr(tmp, 'e');
    exponent = atoi(e + 1);
    for (i = 0; tmp + i < e; i++)
        if (awq__tp_digit(tmp[i])) digit[digits++] = tmp[i];
    n = 0;
    if (*tmp == '-') text[n++] = '-';
    if (exponent < -4 || exponent >= 16) {
        text[n++] = digit[0];
        if (digits > 1) text[n++] = '.';
        for (i = 1; i < digits; i++) text[n++] = digit[i];
        n += snprintf(text + n, sizeof text - (size_t)n, "e%c%02d", exponent < 0 ? '-' : '+',
                      exponent < 0 ? -exponent : exponent);
    } else {
        for (i = exponent < 0 ? exponent : 0; i < digits || i <= exponent + 1; i++) {
            if (i == exponent + 1) text[n++] = '.';
            text[n++] = i >= 0 && i < digits ? digit[i] : '0';
        }
    }
    awq__tp_put(t, out, text, (size_t)n);
}

typedef struct awq__tp_format {
    int json, indent; /* indent -1: on one line */
    int ascii;
    awq__tv item, key; /* separators, strs */
} awq__tp_format;

static void awq__tp_put_line(awq__tp *t, awq__text *out, const awq__tp_format *f, int level)
{
    int i;
    if (f->indent < 0) return;
    awq__tp_puts(t, out, "\n");
    for (i = 0; i < f->indent * level && !t->st; i++) awq__tp_puts(t, out, " ");
}

/* Python's repr or JSON of a value */
static void awq__tp_write(awq__tp *t, awq__text *out, awq__tv v, const awq__tp_format *f, int level)
{
    char tmp[32];
    uint32_t i;
    int quoted;
    if (!awq__tp_step(t, 16)) return;
    switch (v.type) {
    case AWQ__T_FLOAT: awq__tp_put_float(t, out, v.v.d, f->json); return;
    case AWQ__T_NONE: awq__tp_puts(t, out, f->json ? "null" : "None"); return;
    case AWQ__T_BOOL:
        if (f->json) awq__tp_puts(t, out, v.v.i ? "true" : "false");
        else awq__tp_puts(t, out, v.v.i ? "True" : "False");
        return;
    case AWQ__T_INT:
        snprintf(tmp, sizeof tmp, "%lld", (long long)v.v.i);
        awq__tp_puts(t, out, tmp);
        return;
    case AWQ__T_STR:
        if (f->json) awq__tp_put_json(t, out, v.v.s, v.n, f->ascii);
        else awq__tp_put_quoted(t, out, v.v.s, v.n);
        return;
    case AWQ__T_LIST:
    case AWQ__T_TUPLE:
    case AWQ__T_DICT: break;
    default:
        if (f->json || v.type != AWQ__T_UNDEF)
            awq__tp_fail(t, f->json ? AWQ_E_FORMAT : AWQ_E_UNSUPPORTED, "%s is not something to print",
                         awq__tp_types[v.type]);
        else awq__tp_puts(t, out, "Undefined");
        return;
    }
    if (awq__tp_enter(t)) {
        int round = v.type == AWQ__T_TUPLE && !f->json;
        awq__tp_puts(t, out, v.type == AWQ__T_DICT ? "{" : round ? "(" : "[");
        for (i = 0; i < v.n && !t->st; i++) {
            if (i && f->item.v.s) awq__tp_put(t, out, f->item.v.s, f->item.n);
            else if (i) awq__tp_puts(t, out, f->indent < 0 ? ", " : ",");
            awq__tp_put_line(t, out, f, level + 1);
            if (v.type == AWQ__T_DICT) {
                awq__tv key = v.v.items[2 * i];
                quoted = f->json && key.type != AWQ__T_STR;
                if (quoted) awq__tp_puts(t, out, "\"");
                if (quoted && key.type > AWQ__T_STR)
                    awq__tp_fail(t, AWQ_E_FORMAT, "a %s as a key in JSON", awq__tp_types[key.type]);
                awq__tp_write(t, out, key, f, level + 1);
                if (quoted) awq__tp_puts(t, out, "\"");
                if (f->key.v.s) awq__tp_put(t, out, f->key.v.s, f->key.n);
                else awq__tp_puts(t, out, ": ");
                awq__tp_write(t, out, v.v.items[2 * i + 1], f, level + 1);
            } else {
                awq__tp_write(t, out, v.v.items[i], f, level + 1);
            }
        }
        if (v.n) awq__tp_put_line(t, out, f, level);
        awq__tp_puts(t, out, v.type == AWQ__T_DICT ? "}" : round ? (v.n == 1 ? ",)" : ")") : "]");
    }
    t->depth--;
}

static void awq__tp_print(awq__tp *t, awq__text *out, awq__tv v) /* str(v) */
{
    awq__tp_format python;
    memset(&python, 0, sizeof python);
    python.indent = -1;
    if (v.type == AWQ__T_STR || v.type == AWQ__T_SAFE) awq__tp_put(t, out, v.v.s, v.n);
    else if (v.type != AWQ__T_UNDEF) awq__tp_write(t, out, v, &python, 0);
}

static awq__tv awq__tp_to_str(awq__tp *t, awq__tv v)
{
    size_t from = t->scratch.len;
    if (v.type == AWQ__T_STR) return v;
    if (v.type == AWQ__T_SAFE)
        return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "work on a str marked safe, which may escape other texts");
    awq__tp_print(t, &t->scratch, v);
    return awq__tp_cut(t, &t->scratch, from);
}

static awq__tv awq__tp_generator(awq__tp *t, const awq__tv *items, uint32_t n)
{
    awq__tv v = awq__tp_value(AWQ__T_GEN, 0);
    awq__tp_gen *g = (awq__tp_gen *)awq__tp_alloc(t, 1, sizeof *g);
    if (!g) return awq__tp_value(AWQ__T_UNDEF, 0);
    memset(g, 0, sizeof *g);
    g->items = items;
    g->n = items ? n : 0;
    v.v.gen = g;
    return v;
}

/* what a loop goes over, as a list; a generator is empty then */
static awq__tv awq__tp_iterate(awq__tp *t, awq__tv v)
{
    awq__tv *p;
    uint32_t i, n;
    size_t at = 0;
    if (awq__tp_any(v, AWQ__T_ITEMS)) return awq__tp_items(AWQ__T_LIST, v.v.items, v.n);
    if (v.type == AWQ__T_GEN) {
        awq__tp_gen *g = v.v.gen;
        i = g->at;
        g->at = g->n;
        if (g->broken)
            return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "a generator used again after a loop over it was left");
        return awq__tp_items(AWQ__T_LIST, g->items ? g->items + i : NULL, g->n - i);
    }
    if (v.type == AWQ__T_UNDEF) return awq__tp_items(AWQ__T_LIST, NULL, 0);
    if (v.type != AWQ__T_STR && v.type != AWQ__T_DICT) return awq__tp_wrong(t, v, "iterated over");
    if (!awq__tp_step(t, v.n)) return v;
    n = v.type == AWQ__T_STR ? (uint32_t)awq__tp_chars(v.v.s, v.n) : v.n;
    p = (awq__tv *)awq__tp_alloc(t, n, sizeof *p);
    for (i = 0; p && i < n; i++) {
        if (v.type == AWQ__T_STR) {
            size_t k = awq__tp_char(v.v.s + at, v.n - at);
            p[i] = awq__tp_str(v.v.s + at, k);
            at += k;
        } else {
            p[i] = v.v.items[2 * i];
        }
    }
    return awq__tp_items(AWQ__T_LIST, p, n);
}

/* --- names, attributes, items */
static awq__tp_var *awq__tp_var_in(awq__tp *t, awq__tp_scope *s, const char *name, uint32_t len)
{
    uint32_t i;
    for (i = s->n; i-- > 0 && awq__tp_step(t, 4);)
        if (s->vars[i].len == len && !memcmp(s->vars[i].name, name, len)) return &s->vars[i];
    return NULL;
}

static void awq__tp_define(awq__tp *t, awq__tp_scope *s, const char *name, uint32_t len, awq__tv value)
{
    awq__tp_var *v = awq__tp_var_in(t, s, name, len);
    if (t->st) return;
    if (!v) {
        if (s->n == s->cap) {
            uint32_t cap = s->cap ? s->cap * 2 : 4;
            v = (awq__tp_var *)awq__tp_alloc(t, cap, sizeof *v);
            if (!v) return;
            if (s->n) memcpy(v, s->vars, s->n * sizeof *v);
            s->vars = v;
            s->cap = cap;
        }
        v = &s->vars[s->n++];
        v->name = name;
        v->len = len;
    }
    v->value = value;
}

static awq__tv awq__tp_name(awq__tp *t, const char *name, uint32_t len)
{
    awq__tp_scope *s;
    for (s = t->scope; s; s = s->up) {
        awq__tp_var *v = awq__tp_var_in(t, s, name, len);
        if (v) return v->value;
        awq__tp_step(t, 4);
    }
    if (awq__tp_listed(name, len, " cycler joiner lipsum self "))
        return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "the name '%.*s'", (int)len, name);
    return awq__tp_undef(name, len);
}

static awq__tp_scope *awq__tp_push_scope(awq__tp *t, awq__tp_scope *up) /* NULL on failure */
{
    awq__tp_scope *s = (awq__tp_scope *)awq__tp_alloc(t, 1, sizeof *s);
    if (s) s->up = up;
    return s;
}

enum { /* filters and methods */
    AWQ__OP_TRIM = 1, AWQ__OP_TRIM_LEFT, AWQ__OP_TRIM_RIGHT, AWQ__OP_LENGTH, AWQ__OP_UPPER, AWQ__OP_LOWER,
    AWQ__OP_CAPITALIZE, AWQ__OP_TITLE, AWQ__OP_JINJA_TITLE, AWQ__OP_JSON, AWQ__OP_JOIN, AWQ__OP_JOIN_BY,
    AWQ__OP_FIRST, AWQ__OP_LAST, AWQ__OP_DEFAULT, AWQ__OP_REPLACE, AWQ__OP_STRING, AWQ__OP_LIST, AWQ__OP_MAP,
    AWQ__OP_SELECT, AWQ__OP_REJECT, AWQ__OP_SELECT_ATTR, AWQ__OP_REJECT_ATTR, AWQ__OP_REVERSE, AWQ__OP_INT,
    AWQ__OP_ITEMS, AWQ__OP_KEYS, AWQ__OP_VALUES, AWQ__OP_GET, AWQ__OP_INDENT,
    AWQ__OP_SPLIT, AWQ__OP_RSPLIT, AWQ__OP_STARTS, AWQ__OP_ENDS, AWQ__OP_FIND, AWQ__OP_RFIND, AWQ__OP_INDEX,
    AWQ__OP_COUNT, AWQ__OP_LINES, AWQ__OP_PARTITION, AWQ__OP_RPARTITION, AWQ__OP_CUT_PREFIX, AWQ__OP_CUT_SUFFIX,
    AWQ__OP_ALNUM, AWQ__OP_ALPHA, AWQ__OP_DIGIT, AWQ__OP_IS_SPACE, AWQ__OP_IS_LOWER, AWQ__OP_IS_UPPER,
    AWQ__OP_CENTER, AWQ__OP_LJUST, AWQ__OP_RJUST, AWQ__OP_ZFILL, AWQ__OP_FORMAT, AWQ__OP_PERCENT, AWQ__OP_COPY,
    AWQ__OP_ABS, AWQ__OP_ROUND, AWQ__OP_FLOAT, AWQ__OP_SUM, AWQ__OP_MIN, AWQ__OP_MAX, AWQ__OP_SORT,
    AWQ__OP_DICTSORT, AWQ__OP_UNIQUE, AWQ__OP_BATCH, AWQ__OP_SAFE, AWQ__OP_ITEMS_OF
};

static const struct {
    char of; /* f: filter; s: method of a str, d: of a dict, l: of a list or tuple */
    unsigned char op;
    const char *name;
} awq__tp_ops[] = {
    {'f', AWQ__OP_TRIM, "trim"}, {'f', AWQ__OP_LENGTH, "length"}, {'f', AWQ__OP_LENGTH, "count"},
    {'f', AWQ__OP_UPPER, "upper"}, {'f', AWQ__OP_LOWER, "lower"}, {'f', AWQ__OP_CAPITALIZE, "capitalize"},
    {'f', AWQ__OP_JINJA_TITLE, "title"}, {'f', AWQ__OP_JSON, "tojson"}, {'f', AWQ__OP_JOIN, "join"},
    {'f', AWQ__OP_FIRST, "first"}, {'f', AWQ__OP_LAST, "last"}, {'f', AWQ__OP_DEFAULT, "default"},
    {'f', AWQ__OP_DEFAULT, "d"}, {'f', AWQ__OP_REPLACE, "replace"}, {'f', AWQ__OP_STRING, "string"},
    {'f', AWQ__OP_SAFE, "safe"}, {'f', AWQ__OP_LIST, "list"}, {'f', AWQ__OP_MAP, "map"},
    {'f', AWQ__OP_SELECT, "select"}, {'f', AWQ__OP_REJECT, "reject"}, {'f', AWQ__OP_SELECT_ATTR, "selectattr"},
    {'f', AWQ__OP_REJECT_ATTR, "rejectattr"}, {'f', AWQ__OP_REVERSE, "reverse"}, {'f', AWQ__OP_INT, "int"},
    {'f', AWQ__OP_ITEMS_OF, "items"}, {'f', AWQ__OP_INDENT, "indent"}, {'f', AWQ__OP_ABS, "abs"},
    {'f', AWQ__OP_ROUND, "round"}, {'f', AWQ__OP_FLOAT, "float"}, {'f', AWQ__OP_SUM, "sum"},
    {'f', AWQ__OP_MIN, "min"}, {'f', AWQ__OP_MAX, "max"}, {'f', AWQ__OP_SORT, "sort"},
    {'f', AWQ__OP_DICTSORT, "dictsort"}, {'f', AWQ__OP_UNIQUE, "unique"}, {'f', AWQ__OP_BATCH, "batch"},
    {'f', AWQ__OP_CENTER, "center"}, {'f', AWQ__OP_PERCENT, "format"},
    {'s', AWQ__OP_TRIM, "strip"}, {'s', AWQ__OP_TRIM_LEFT, "lstrip"}, {'s', AWQ__OP_TRIM_RIGHT, "rstrip"},
    {'s', AWQ__OP_UPPER, "upper"}, {'s', AWQ__OP_LOWER, "lower"}, {'s', AWQ__OP_CAPITALIZE, "capitalize"},
    {'s', AWQ__OP_TITLE, "title"}, {'s', AWQ__OP_REPLACE, "replace"}, {'s', AWQ__OP_JOIN_BY, "join"},
    {'s', AWQ__OP_SPLIT, "split"}, {'s', AWQ__OP_STARTS, "startswith"}, {'s', AWQ__OP_ENDS, "endswith"},
    {'s', AWQ__OP_FIND, "find"}, {'s', AWQ__OP_RFIND, "rfind"}, {'s', AWQ__OP_INDEX, "index"},
    {'s', AWQ__OP_COUNT, "count"}, {'s', AWQ__OP_RSPLIT, "rsplit"}, {'s', AWQ__OP_LINES, "splitlines"},
    {'s', AWQ__OP_PARTITION, "partition"}, {'s', AWQ__OP_RPARTITION, "rpartition"},
    {'s', AWQ__OP_CUT_PREFIX, "removeprefix"}, {'s', AWQ__OP_CUT_SUFFIX, "removesuffix"},
    {'s', AWQ__OP_ALNUM, "isalnum"}, {'s', AWQ__OP_ALPHA, "isalpha"}, {'s', AWQ__OP_DIGIT, "isdigit"},
    {'s', AWQ__OP_DIGIT, "isnumeric"}, {'s', AWQ__OP_DIGIT, "isdecimal"}, {'s', AWQ__OP_IS_SPACE, "isspace"},
    {'s', AWQ__OP_IS_LOWER, "islower"}, {'s', AWQ__OP_IS_UPPER, "isupper"}, {'s', AWQ__OP_CENTER, "center"},
    {'s', AWQ__OP_LJUST, "ljust"}, {'s', AWQ__OP_RJUST, "rjust"}, {'s', AWQ__OP_ZFILL, "zfill"},
    {'s', AWQ__OP_FORMAT, "format"}, {'l', AWQ__OP_INDEX, "index"}, {'l', AWQ__OP_COUNT, "count"},
    {'d', AWQ__OP_COPY, "copy"}, {'l', AWQ__OP_COPY, "copy"},
    {'d', AWQ__OP_ITEMS, "items"}, {'d', AWQ__OP_KEYS, "keys"}, {'d', AWQ__OP_VALUES, "values"},
    {'d', AWQ__OP_GET, "get"}};

static int awq__tp_op(char of, const char *name, uint32_t len) /* 0: none */
{
    size_t i;
    for (i = 0; i < sizeof awq__tp_ops / sizeof awq__tp_ops[0]; i++)
        if (awq__tp_ops[i].of == of && awq__tp_is(name, len, awq__tp_ops[i].name)) return awq__tp_ops[i].op;
    return 0;
}

static awq__tv awq__tp_function_value(awq__tp *t, awq__tp_function which, awq__tv self, int op)
{
    awq__tv v = awq__tp_value(AWQ__T_FUNC, (uint32_t)which);
    awq__tp_fn *fn = (awq__tp_fn *)awq__tp_alloc(t, 1, sizeof *fn);
    if (!fn) return awq__tp_value(AWQ__T_UNDEF, 0);
    fn->self = self;
    fn->op = op;
    v.v.fn = fn;
    return v;
}

static awq__tv awq__tp_loop_attr(awq__tp *t, awq__tv v, const char *name, uint32_t len)
{
    const awq__tp_loop *l = v.v.loop;
    if (awq__tp_is(name, len, "index")) return awq__tp_int((int64_t)l->index + 1);
    if (awq__tp_is(name, len, "index0")) return awq__tp_int(l->index);
    if (awq__tp_is(name, len, "first")) return awq__tp_bool(l->index == 0);
    if (awq__tp_is(name, len, "last")) return awq__tp_bool(l->index + 1 == l->n);
    if (awq__tp_is(name, len, "length")) return awq__tp_int(l->n);
    if (awq__tp_is(name, len, "revindex")) return awq__tp_int(l->n - l->index);
    if (awq__tp_is(name, len, "revindex0")) return awq__tp_int(l->n - l->index - 1);
    if (awq__tp_is(name, len, "previtem")) return l->index ? l->items[l->index - 1] : awq__tp_undef(name, len);
    if (awq__tp_is(name, len, "nextitem"))
        return l->index + 1 < l->n ? l->items[l->index + 1] : awq__tp_undef(name, len);
    if (awq__tp_is(name, len, "depth")) return awq__tp_int((int64_t)l->level + 1);
    if (awq__tp_is(name, len, "depth0")) return awq__tp_int(l->level);
    if (awq__tp_is(name, len, "cycle")) return awq__tp_function_value(t, AWQ__TF_CYCLE, v, 0);
    if (awq__tp_is(name, len, "changed")) return awq__tp_function_value(t, AWQ__TF_CHANGED, v, 0);
    return awq__tp_undef(name, len);
}

/* Methods that Python has and this has not: a name that is no method at all is an undefined attribute. */
static const char awq__tp_other_str[] =
    " casefold encode expandtabs format_map isascii isidentifier isprintable istitle maketrans rindex swapcase"
    " translate ";
static const char awq__tp_other_list[] = " append clear extend insert pop remove reverse sort ";
static const char awq__tp_other_any[] =
    " as_integer_ratio bit_length bit_count conjugate denominator from_bytes hex fromhex imag is_integer"
    " numerator real to_bytes start stop step count index isdisjoint mapping close send throw gi_running name"
    " arguments catch_kwargs catch_varargs caller ";
static const char awq__tp_other_dict[] = " clear fromkeys pop popitem setdefault update ";

/* v.name: methods, then keys */
static awq__tv awq__tp_attr(awq__tp *t, awq__tv v, const char *name, uint32_t len)
{
    const char *others = "";
    int op = 0;
    switch (v.type) {
    case AWQ__T_SAFE: return awq__tp_wrong(t, v, "asked for an attribute");
    case AWQ__T_UNDEF: {
        char what[80];
        snprintf(what, sizeof what, "asked for '%.*s'", AWQ__TP_SHOW(len, name));
        return awq__tp_wrong(t, v, what);
    }
    case AWQ__T_NS: {
        awq__tp_var *found = awq__tp_var_in(t, v.v.ns, name, len);
        return found ? found->value : awq__tp_undef(name, len);
    }
    case AWQ__T_LOOP: return awq__tp_loop_attr(t, v, name, len);
    case AWQ__T_STR:
        op = awq__tp_op('s', name, len);
        others = awq__tp_other_str;
        break;
    case AWQ__T_LIST: others = awq__tp_other_list; /* fall through */
    case AWQ__T_TUPLE:
        op = awq__tp_op('l', name, len);
        if (v.type == AWQ__T_TUPLE && op == AWQ__OP_COPY) op = 0;
        break;
    case AWQ__T_INT:
    case AWQ__T_FLOAT:
    case AWQ__T_BOOL:
    case AWQ__T_RANGE:
    case AWQ__T_VIEW:
    case AWQ__T_GEN:
    case AWQ__T_FUNC:
        others = awq__tp_other_any;
        break;
    case AWQ__T_DICT:
        op = awq__tp_op('d', name, len);
        others = awq__tp_other_dict;
        break;
    default: break;
    }
    if (op) return awq__tp_function_value(t, AWQ__TF_METHOD, v, op);
    if (awq__tp_listed(name, len, others))
        return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "the method '%.*s' of a %s", (int)len, name,
                            awq__tp_types[v.type]);
    if (v.type == AWQ__T_DICT) {
        const awq__tv *found = awq__tp_lookup(t, v, awq__tp_str(name, len));
        if (found) return *found;
    }
    return awq__tp_undef(name, len);
}

static int64_t awq__tp_count(awq__tp *t, awq__tv v) /* len(v), -1: it has none */
{
    switch (v.type) {
    case AWQ__T_UNDEF: return 0;
    case AWQ__T_STR: return awq__tp_step(t, v.n) ? (int64_t)awq__tp_chars(v.v.s, v.n) : 0;
    case AWQ__T_LIST:
    case AWQ__T_TUPLE:
    case AWQ__T_RANGE:
    case AWQ__T_VIEW:
    case AWQ__T_DICT: return v.n;
    case AWQ__T_LOOP: return v.v.loop->n;
    default: return -1;
    }
}

/* characters [from, to) of a str */
static awq__tv awq__tp_substr(awq__tv v, int64_t from, int64_t to)
{
    size_t a = 0, b;
    int64_t i = 0;
    for (; i < from && a < v.n; i++) a += awq__tp_char(v.v.s + a, v.n - a);
    for (b = a; i < to && b < v.n; i++) b += awq__tp_char(v.v.s + b, v.n - b);
    return awq__tp_str(v.v.s + a, b - a);
}

/* v[key]: items, then attributes */
static awq__tv awq__tp_item(awq__tp *t, awq__tv v, awq__tv key)
{
    int64_t n, i;
    if (v.type == AWQ__T_UNDEF || v.type == AWQ__T_SAFE) return awq__tp_wrong(t, v, "indexed");
    if (v.type == AWQ__T_DICT) {
        const awq__tv *found = awq__tp_lookup(t, v, key);
        if (found) return *found;
    } else if (awq__tp_any(v, AWQ__T_INDEXED)) {
        if (awq__tp_whole(key)) {
            n = awq__tp_count(t, v);
            i = key.v.i < 0 ? key.v.i + n : key.v.i;
            if (i < 0 || i >= n) return awq__tp_undef("an item", 7);
            return v.type == AWQ__T_STR ? awq__tp_substr(v, i, i + 1) : v.v.items[i];
        }
    }
    if (key.type == AWQ__T_STR) return awq__tp_attr(t, v, key.v.s, key.n);
    return awq__tp_undef("an item", 7);
}

static awq__tv awq__tp_slice(awq__tp *t, awq__tv v, awq__tv from, awq__tv to, awq__tv by)
{
    int64_t n = awq__tp_count(t, v), step = by.type == AWQ__T_NONE ? 1 : by.v.i, a, b, i;
    awq__tp_type type = (awq__tp_type)v.type;
    uint32_t count = 0;
    awq__tv *p;
    if (!awq__tp_any(v, AWQ__T_INDEXED)) return awq__tp_wrong(t, v, "sliced");
    if ((from.type != AWQ__T_NONE && !awq__tp_whole(from)) || (to.type != AWQ__T_NONE && !awq__tp_whole(to))
        || (by.type != AWQ__T_NONE && !awq__tp_whole(by)) || step == 0)
        return awq__tp_fail(t, AWQ_E_FORMAT, "slices take integers, and a step other than 0");
    a = from.type == AWQ__T_NONE ? (step > 0 ? 0 : n - 1) : from.v.i < 0 ? from.v.i + n : from.v.i;
    b = to.type == AWQ__T_NONE ? (step > 0 ? n : -1) : to.v.i < 0 ? AWQ__MAX(to.v.i + n, -1) : to.v.i;
    step = AWQ__MAX(AWQ__MIN(step, n + 1), -n - 1);
    a = step > 0 ? AWQ__MAX(AWQ__MIN(a, n), 0) : AWQ__MAX(AWQ__MIN(a, n - 1), -1);
    b = step > 0 ? AWQ__MAX(AWQ__MIN(b, n), 0) : AWQ__MAX(AWQ__MIN(b, n - 1), -1);
    if (step == 1) {
        if (b < a) b = a;
        if (type == AWQ__T_STR) return awq__tp_substr(v, a, b);
        return awq__tp_items(type, v.n ? v.v.items + a : NULL, (uint32_t)(b - a));
    }
    if (type == AWQ__T_STR) v = awq__tp_iterate(t, v);
    p = (awq__tv *)awq__tp_alloc(t, (size_t)n + 1, sizeof *p);
    if (!p || !awq__tp_step(t, (size_t)n)) return v;
    for (i = a; step > 0 ? i < b : i > b; i += step) p[count++] = v.v.items[i];
    if (type == AWQ__T_STR) {
        size_t start = t->scratch.len;
        for (i = 0; i < count; i++) awq__tp_put(t, &t->scratch, p[i].v.s, p[i].n);
        return awq__tp_cut(t, &t->scratch, start);
    }
    return awq__tp_items(type, p, count);
}

/* --- filters, methods, tests */
/* NULL: not given */
static const awq__tv *awq__tp_arg_find(awq__tp_args args, uint32_t index, const char *name)
{
    uint32_t i;
    for (i = 0; i < args.n; i++) {
        awq__tp_arg *a = &args.a[i];
        if (a->name ? !awq__tp_is(a->name, a->len, name) : i != index) continue;
        a->used = 1;
        return &a->value;
    }
    return NULL;
}

static awq__tv awq__tp_arg_or(awq__tp_args args, uint32_t index, const char *name, awq__tv other)
{
    const awq__tv *v = awq__tp_arg_find(args, index, name);
    return v ? *v : other;
}

static awq__tv awq__tp_arg_str(awq__tp *t, awq__tp_args args, uint32_t index, const char *name)
{
    awq__tv v = awq__tp_arg_or(args, index, name, awq__tp_undef(name, (uint32_t)strlen(name)));
    return v.type == AWQ__T_STR ? v : awq__tp_wrong(t, v, "taken for a str");
}

/* the arguments from `skip` on, for a filter or test named by those before */
static awq__tp_args awq__tp_args_rest(awq__tp_args args, uint32_t skip)
{
    uint32_t i;
    for (i = 0; i < args.n; i++) args.a[i].used = 1;
    skip = AWQ__MIN(skip, args.n);
    args.a += skip;
    args.n -= skip;
    return args;
}

static awq__tv awq__tp_concat(awq__tp *t, awq__tv a, awq__tv b)
{
    char *p;
    if ((size_t)a.n + b.n > AWQ__TP_OUTPUT)
        return awq__tp_fail(t, AWQ_E_LIMIT, "more than %u MB of text", (unsigned)(AWQ__TP_OUTPUT >> 20));
    p = (char *)awq__tp_alloc(t, (size_t)a.n + b.n + 1, 1);
    if (!p || !awq__tp_step(t, ((size_t)a.n + b.n) / 16)) return a;
    if (a.n) memcpy(p, a.v.s, a.n);
    if (b.n) memcpy(p + a.n, b.v.s, b.n);
    return awq__tp_str(p, (size_t)a.n + b.n);
}

/* upper, lower, ... of a str; refused where a letter has no regular mapping */
static awq__tv awq__tp_case(awq__tp *t, awq__tv v, int op)
{
    size_t from = t->scratch.len, i, k;
    int after = 0; /* title: behind a letter that has a case; filter title: inside a word */
    if (!awq__tp_step(t, v.n)) return v;
    for (i = 0; i < v.n && !t->st; i += k) {
        uint32_t cp, to;
        int up = op == AWQ__OP_UPPER || (op == AWQ__OP_CAPITALIZE && !i)
                 || ((op == AWQ__OP_TITLE || op == AWQ__OP_JINJA_TITLE) && !after);
        char utf8[4];
        k = awq__tp_char(v.v.s + i, v.n - i);
        cp = (unsigned char)v.v.s[i] < 0x80 || k == 1 ? (unsigned char)v.v.s[i]
                                                     : awq__utf8_get((const unsigned char *)v.v.s + i, (int)k);
        to = k == 1 && cp >= 0x80 ? cp : awq__uni_case(cp, up);
        if (cp && (!to || (op == AWQ__OP_TITLE && (cp == 0xaa || cp == 0xba
                                                   || awq__uni_in(cp, AWQ__UC_BIT(AWQ__UC_LM))))))
            awq__tp_fail(t, AWQ_E_UNSUPPORTED, "the case of U+%04X", (unsigned)cp);
        if (op == AWQ__OP_TITLE) after = awq__uni_in(cp, AWQ__UC_IN_CASED);
        else after = !awq__tp_space(v.v.s + i, v.n - i) && !(cp && cp < 0x80 && strchr("-({[<", (int)cp));
        if (to == cp) awq__tp_put(t, &t->scratch, v.v.s + i, k);
        else awq__tp_put(t, &t->scratch, utf8, (size_t)awq__utf8_put(to, utf8));
    }
    return awq__tp_cut(t, &t->scratch, from);
}

static int awq__tp_among(awq__tp *t, const char *s, size_t k, awq__tv set) /* is this character in the set */
{
    size_t i, m;
    if (!awq__tp_step(t, 4 + 2 * (size_t)set.n)) return 0;
    for (i = 0; i < set.n; i += m) {
        m = awq__tp_char(set.v.s + i, set.n - i);
        if (m == k && !memcmp(set.v.s + i, s, k)) return 1;
    }
    return 0;
}

static awq__tv awq__tp_trim(awq__tp *t, awq__tv v, awq__tv set, int op)
{
    const char *s = v.v.s;
    size_t n = v.n, k;
    int spaces = set.type == AWQ__T_NONE;
    if (!spaces && set.type != AWQ__T_STR) return awq__tp_wrong(t, set, "taken for a str");
    if (!awq__tp_step(t, 16)) return v;
    while (op != AWQ__OP_TRIM_RIGHT && n) {
        k = awq__tp_char(s, n);
        if (spaces ? !awq__tp_space(s, n) : !awq__tp_among(t, s, k, set)) break;
        s += k;
        n -= k;
    }
    if (op != AWQ__OP_TRIM_LEFT && spaces) n = awq__tp_trim_end(s, n);
    while (op != AWQ__OP_TRIM_LEFT && !spaces && n) {
        k = awq__tp_last_char(s, n);
        if (!awq__tp_among(t, s + n - k, k, set)) break;
        n -= k;
    }
    awq__tp_step(t, v.n - n);
    return awq__tp_str(s, n);
}

static awq__tv awq__tp_replace(awq__tp *t, awq__tv v, awq__tv old, awq__tv by, awq__tv limit)
{
    size_t at = 0, from = t->scratch.len;
    int64_t left = awq__tp_whole(limit) && limit.v.i >= 0 ? limit.v.i : INT64_MAX;
    if (t->st) return v;
    while (left-- > 0 && !t->st) {
        size_t hit = awq__tp_search(t, v.v.s, v.n, old.v.s, old.n, at);
        if (hit >= v.n && old.n) break;
        awq__tp_put(t, &t->scratch, v.v.s + at, hit - at);
        awq__tp_put(t, &t->scratch, by.v.s, by.n);
        at = hit + old.n;
        if (!old.n) { /* between all characters, at both ends too */
            size_t k = at < v.n ? awq__tp_char(v.v.s + at, v.n - at) : 0;
            if (!k) break;
            awq__tp_put(t, &t->scratch, v.v.s + at, k);
            at += k;
        }
    }
    awq__tp_put(t, &t->scratch, v.v.s + at, v.n - at);
    return awq__tp_cut(t, &t->scratch, from);
}

static awq__tv awq__tp_split(awq__tp *t, awq__tv v, awq__tv sep, awq__tv limit)
{
    awq__tv *items = NULL;
    uint32_t n = 0, cap = 0;
    size_t at = 0, hit;
    int64_t left = awq__tp_whole(limit) && limit.v.i >= 0 ? limit.v.i : INT64_MAX;
    if (sep.type == AWQ__T_NONE) {
        while (awq__tp_step(t, 16)) {
            while (at < v.n && awq__tp_space(v.v.s + at, v.n - at)) at += awq__tp_space(v.v.s + at, v.n - at);
            if (at == v.n) break;
            hit = at;
            if (left-- <= 0) hit = v.n;
            else while (hit < v.n && !awq__tp_space(v.v.s + hit, v.n - hit)) hit++;
            awq__tp_push(t, &items, &n, &cap, awq__tp_str(v.v.s + at, hit - at));
            at = left < 0 ? v.n : hit;
        }
        awq__tp_step(t, v.n);
        return awq__tp_items(AWQ__T_LIST, items, n);
    }
    if (sep.type != AWQ__T_STR) return awq__tp_wrong(t, sep, "split at");
    if (!sep.n) return awq__tp_fail(t, AWQ_E_FORMAT, "split at an empty str");
    while (left-- > 0 && !t->st && (hit = awq__tp_search(t, v.v.s, v.n, sep.v.s, sep.n, at)) < v.n) {
        awq__tp_push(t, &items, &n, &cap, awq__tp_str(v.v.s + at, hit - at));
        at = hit + sep.n;
    }
    awq__tp_push(t, &items, &n, &cap, awq__tp_str(v.v.s + at, v.n - at));
    return awq__tp_items(AWQ__T_LIST, items, n);
}

/* the last place of needle, n: nowhere */
static size_t awq__tp_search_last(awq__tp *t, awq__tv v, awq__tv what)
{
    size_t at = 0, hit, found = v.n;
    while ((hit = awq__tp_search(t, v.v.s, v.n, what.v.s, what.n, at)) < v.n && !t->st) {
        found = hit;
        at = hit + 1;
    }
    return found;
}

/* rsplit at a separator: the pieces from the right, then turned round */
static awq__tv awq__tp_rsplit(awq__tp *t, awq__tv v, awq__tv sep, awq__tv limit)
{
    awq__tv *items = NULL, swap;
    uint32_t n = 0, cap = 0, i;
    size_t hit;
    int64_t left = awq__tp_whole(limit) && limit.v.i >= 0 ? limit.v.i : INT64_MAX;
    if (left == INT64_MAX && sep.type == AWQ__T_NONE) return awq__tp_split(t, v, sep, limit);
    if (sep.type != AWQ__T_STR) return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "rsplit at spaces with a limit");
    if (!sep.n) return awq__tp_fail(t, AWQ_E_FORMAT, "split at an empty str");
    while (left-- > 0 && !t->st) {
        for (hit = v.n + 1 - AWQ__MIN(sep.n, v.n + 1); hit-- > 0 && memcmp(v.v.s + hit, sep.v.s, sep.n);)
            ;
        if (!awq__tp_step(t, v.n - (hit == SIZE_MAX ? 0 : hit) + 16) || hit == SIZE_MAX) break;
        awq__tp_push(t, &items, &n, &cap, awq__tp_str(v.v.s + hit + sep.n, v.n - hit - sep.n));
        v.n = (uint32_t)hit;
    }
    awq__tp_push(t, &items, &n, &cap, v);
    for (i = 0; i < n / 2; i++) swap = items[i], items[i] = items[n - 1 - i], items[n - 1 - i] = swap;
    return awq__tp_items(AWQ__T_LIST, items, n);
}

static awq__tv awq__tp_splitlines(awq__tp *t, awq__tv v, int keep)
{
    awq__tv *items = NULL;
    uint32_t n = 0, cap = 0;
    size_t at = 0, from = 0, k;
    for (; at < v.n && awq__tp_step(t, 1); at += k) {
        const unsigned char *u = (const unsigned char *)v.v.s + at;
        k = awq__tp_char(v.v.s + at, v.n - at);
        if (!((*u >= 10 && *u <= 13) || (*u >= 28 && *u <= 30) || (k == 2 && u[0] == 0xc2 && u[1] == 0x85)
              || (k == 3 && u[0] == 0xe2 && u[1] == 0x80 && (u[2] & 0xfe) == 0xa8)))
            continue;
        if (*u == '\r' && at + 1 < v.n && u[1] == '\n') k = 2;
        awq__tp_push(t, &items, &n, &cap, awq__tp_str(v.v.s + from, at - from + (keep ? k : 0)));
        from = at + k;
    }
    if (from < v.n) awq__tp_push(t, &items, &n, &cap, awq__tp_str(v.v.s + from, v.n - from));
    return awq__tp_items(AWQ__T_LIST, items, n);
}

/* (before, sep, behind) */
static awq__tv awq__tp_partition(awq__tp *t, awq__tv v, awq__tv sep, int last)
{
    awq__tv *p = (awq__tv *)awq__tp_alloc(t, 3, sizeof *p), none = awq__tp_str("", 0);
    size_t hit;
    if (!p) return v;
    if (!sep.n) return awq__tp_fail(t, AWQ_E_FORMAT, "partition at an empty str");
    hit = last ? awq__tp_search_last(t, v, sep) : awq__tp_search(t, v.v.s, v.n, sep.v.s, sep.n, 0);
    p[0] = p[1] = p[2] = none;
    if (hit < v.n) {
        p[0] = awq__tp_str(v.v.s, hit);
        p[1] = sep;
        p[2] = awq__tp_str(v.v.s + hit + sep.n, v.n - hit - sep.n);
    } else p[last ? 2 : 0] = v;
    return awq__tp_items(AWQ__T_TUPLE, p, 3);
}

/* isalpha and its kin: all of ASCII, and refused beyond it unless the answer cannot differ */
static awq__tv awq__tp_is_all(awq__tp *t, awq__tv v, int op)
{
    uint32_t i;
    int cased = 0, yes = v.n > 0;
    if (!awq__tp_step(t, v.n)) return v;
    for (i = 0; i < v.n && yes && !t->st; i++) {
        char c = v.v.s[i];
        int lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z', digit = awq__tp_digit(c);
        if ((unsigned char)c >= 0x80)
            return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "the kind of a character that is not ASCII");
        switch (op) {
        case AWQ__OP_ALNUM: yes = lower || upper || digit; break;
        case AWQ__OP_ALPHA: yes = lower || upper; break;
        case AWQ__OP_DIGIT: yes = digit; break;
        case AWQ__OP_IS_SPACE: yes = awq__tp_space(&c, 1) != 0; break;
        case AWQ__OP_IS_LOWER: yes = !upper; break;
        default: yes = !lower;
        }
        cased |= lower || upper;
    }
    return awq__tp_bool(yes && (cased || (op != AWQ__OP_IS_LOWER && op != AWQ__OP_IS_UPPER)));
}

/* center, ljust, rjust, zfill */
static awq__tv awq__tp_justify(awq__tp *t, awq__tv v, awq__tv width, awq__tv fill, int op)
{
    int64_t n = awq__tp_count(t, v), i, left, all;
    size_t from = t->scratch.len, sign = 0;
    if (!awq__tp_whole(width)) return awq__tp_wrong(t, width, "a width");
    if (fill.type != AWQ__T_STR || awq__tp_count(t, fill) != 1)
        return awq__tp_wrong(t, fill, "a fill character");
    all = AWQ__MAX(width.v.i - n, 0);
    if (all > (int64_t)AWQ__TP_OUTPUT)
        return awq__tp_fail(t, AWQ_E_LIMIT, "a width of %lld", (long long)width.v.i);
    left = op == AWQ__OP_LJUST ? 0 : op == AWQ__OP_CENTER ? all / 2 + (all & width.v.i & 1) : all;
    if (op == AWQ__OP_ZFILL && v.n && (*v.v.s == '-' || *v.v.s == '+')) sign = 1;
    awq__tp_put(t, &t->scratch, v.v.s, sign);
    for (i = 0; i < left && !t->st; i++) awq__tp_put(t, &t->scratch, fill.v.s, fill.n);
    awq__tp_put(t, &t->scratch, v.v.s + sign, v.n - sign);
    for (i = left; i < all && !t->st; i++) awq__tp_put(t, &t->scratch, fill.v.s, fill.n);
    return awq__tp_cut(t, &t->scratch, from);
}

/* the index of the first or last of these, in characters, or -1 */
static awq__tv awq__tp_find(awq__tp *t, awq__tv v, awq__tv what, int last)
{
    size_t hit;
    if (t->st) return v;
    if (!what.n) return awq__tp_int(last ? awq__tp_count(t, v) : 0);
    hit = last ? awq__tp_search_last(t, v, what) : awq__tp_search(t, v.v.s, v.n, what.v.s, what.n, 0);
    return awq__tp_int(hit >= v.n ? -1 : awq__tp_count(t, awq__tp_str(v.v.s, hit)));
}

static int awq__tp_affix(awq__tp *t, awq__tv v, awq__tv what, int at_end)
{
    if (what.type == AWQ__T_TUPLE) {
        uint32_t i;
        for (i = 0; i < what.n && !t->st; i++)
            if (what.v.items[i].type == AWQ__T_STR && awq__tp_affix(t, v, what.v.items[i], at_end)) return 1;
        return 0;
    }
    if (what.type != AWQ__T_STR) awq__tp_wrong(t, what, "looked for at the ends of a str");
    if (what.type != AWQ__T_STR || what.n > v.n || !awq__tp_step(t, what.n / 8)) return 0;
    return !what.n || !memcmp(v.v.s + (at_end ? v.n - what.n : 0), what.v.s, what.n);
}

static awq__tv awq__tp_indent(awq__tp *t, awq__tv v, awq__tp_args args)
{
    awq__tv width = awq__tp_arg_or(args, 0, "width", awq__tp_int(4));
    int first = awq__tp_true(awq__tp_arg_or(args, 1, "first", awq__tp_bool(0)));
    int blank = awq__tp_true(awq__tp_arg_or(args, 2, "blank", awq__tp_bool(0)));
    size_t from = t->scratch.len, at = 0, end;
    while (at <= v.n && !t->st) {
        const char *nl = at < v.n ? (const char *)memchr(v.v.s + at, '\n', v.n - at) : NULL;
        int64_t i;
        end = nl ? (size_t)(nl - v.v.s) : v.n;
        if (at ? end > at || blank : first) {
            if (width.type == AWQ__T_STR) awq__tp_put(t, &t->scratch, width.v.s, width.n);
            for (i = 0; awq__tp_whole(width) && i < width.v.i && !t->st; i++) awq__tp_puts(t, &t->scratch, " ");
        }
        awq__tp_put(t, &t->scratch, v.v.s + at, end - at + (nl != NULL));
        at = end + 1;
    }
    return awq__tp_cut(t, &t->scratch, from);
}

/* the number that a str spells, as Python's int() and float() read it; returns 0 when there is none */
static int awq__tp_parse(awq__tp *t, awq__tv v, awq__tv *number)
{
    size_t i, from, digits, k;
    int64_t n = 0;
    int real = 0;
    const char *s;
    v = awq__tp_trim(t, v, awq__tp_value(AWQ__T_NONE, 0), AWQ__OP_TRIM);
    if (t->st || !v.n) return 0;
    s = v.v.s;
    from = *s == '-' || *s == '+';
    for (i = from, digits = 0; i < v.n && (awq__tp_digit(s[i]) || (s[i] == '.' && !real)); i++)
        if (awq__tp_digit(s[i])) digits++;
        else real = 1;
    k = i + 1 + (i + 1 < v.n && (s[i + 1] == '-' || s[i + 1] == '+'));
    if (digits && k < v.n && (s[i] | 32) == 'e')
        for (real = 1, i = k; i < v.n && awq__tp_digit(s[i]);) i++;
    if (i < v.n || !digits) {
        for (k = 0; k < v.n; k++)
            if ((unsigned char)s[k] >= 0x80 || s[k] == '_' || (k == from && (s[k] | 32) == 'i')
                || (k == from && (s[k] | 32) == 'n' && v.n - from == 3))
                awq__tp_fail(t, AWQ_E_UNSUPPORTED, "a number like '%.*s'", AWQ__TP_SHOW(v.n, s));
        return 0;
    }
    if (real) {
        *number = awq__tp_float(awq__json_real(s + (*s == '+'), v.n - (*s == '+')));
        return 1;
    }
    for (k = from; k < v.n && n <= (INT64_MAX - 9) / 10; k++) n = n * 10 + (s[k] - '0');
    if (k < v.n) awq__tp_overflow(t);
    *number = awq__tp_int(*s == '-' ? -n : n);
    return 1;
}

static awq__tv awq__tp_to_number(awq__tp *t, awq__tv v, awq__tv other, int real)
{
    if (v.type == AWQ__T_UNDEF) return awq__tp_wrong(t, v, "made a number");
    if (v.type == AWQ__T_STR ? !awq__tp_parse(t, v, &v) : !awq__tp_is_number(v)) return other;
    if (t->st || real) return t->st ? v : awq__tp_float(awq__tp_double(t, v));
    if (v.type != AWQ__T_FLOAT) return awq__tp_int(v.v.i);
    if (!(v.v.d > -9e18 && v.v.d < 9e18)) return awq__tp_overflow(t);
    return awq__tp_int((int64_t)v.v.d);
}

static awq__tv awq__tp_round(awq__tp *t, awq__tv v, awq__tv precision, awq__tv method)
{
    double scale = 1, d;
    char tmp[64];
    int64_t i;
    if (!awq__tp_is_number(v)) return awq__tp_wrong(t, v, "rounded");
    if (!awq__tp_whole(precision) || precision.v.i < 0 || precision.v.i > 15)
        return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "round with a precision that is no integer from 0 to 15");
    if (method.type == AWQ__T_STR && awq__tp_is(method.v.s, method.n, "common")) {
        if (awq__tp_whole(v)) return awq__tp_int(v.v.i);
        if (!(v.v.d > -1e15 && v.v.d < 1e15)) return v;
        snprintf(tmp, sizeof tmp, "%.*f", (int)precision.v.i, v.v.d);
        return awq__tp_float(strtod(tmp, NULL));
    }
    for (i = 0; i < precision.v.i; i++) scale *= 10;
    d = awq__tp_double(t, v) * scale;
    if (!(d > -1e15 && d < 1e15) || method.type != AWQ__T_STR
        || !awq__tp_listed(method.v.s, method.n, " ceil floor "))
        return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "round by this method, or of this number");
    return awq__tp_float(((method.v.s[0] == 'c' ? ceil(d) : floor(d)) + 0.0) / scale); /* no -0.0 */
}

/* text with %s, %d, %f, ... filled in from a list */
static awq__tv awq__tp_percent(awq__tp *t, awq__tv v, awq__tv list)
{
    size_t from = t->scratch.len, i = 0;
    uint32_t used = 0;
    while (i < v.n && !t->st) {
        const char *p = (const char *)memchr(v.v.s + i, '%', v.n - i);
        int width = 0, precision = -1, left = 0, zero = 0;
        char spec[16], tmp[400];
        awq__tv one;
        size_t start;
        awq__tp_put(t, &t->scratch, v.v.s + i, (p ? (size_t)(p - v.v.s) : v.n) - i);
        if (!p) break;
        i = (size_t)(p - v.v.s) + 1;
        for (; i < v.n && (v.v.s[i] == '-' || v.v.s[i] == '0'); i++)
            if (v.v.s[i] == '-') left = 1;
            else zero = 1;
        for (; i < v.n && awq__tp_digit(v.v.s[i]) && width < 100; i++) width = width * 10 + (v.v.s[i] - '0');
        if (i < v.n && v.v.s[i] == '.')
            for (precision = 0, i++; i < v.n && awq__tp_digit(v.v.s[i]) && precision < 10; i++)
                precision = precision * 10 + (v.v.s[i] - '0');
        if (i < v.n && v.v.s[i] == '%') {
            awq__tp_puts(t, &t->scratch, "%");
            i++;
            continue;
        }
        if (i == v.n || !strchr("sdif", v.v.s[i]) || (v.v.s[i] != 'f' && precision >= 0) || width >= 100
            || precision > 50)
            return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "'%%' in a text to fill in but for %%s, %%d, %%i, %%f");
        if (used == list.n) return awq__tp_fail(t, AWQ_E_FORMAT, "a text to fill in wants more values");
        one = list.v.items[used++];
        start = t->scratch.len;
        if (v.v.s[i] == 's') {
            awq__tp_print(t, &t->scratch, one);
            zero = 0;
        } else if (!awq__tp_is_number(one) || (one.type == AWQ__T_FLOAT && one.v.d - one.v.d != 0)) {
            return awq__tp_wrong(t, one, "filled in as a number");
        } else {
            if (v.v.s[i] != 'f') {
                one = awq__tp_to_number(t, one, one, 0);
                snprintf(tmp, sizeof tmp, "%lld", (long long)one.v.i);
            } else {
                snprintf(spec, sizeof spec, "%%.%df", precision < 0 ? 6 : precision);
                snprintf(tmp, sizeof tmp, spec, awq__tp_double(t, one));
                for (p = tmp; *p; p++)
                    if (!awq__tp_digit(*p) && *p != '-') tmp[p - tmp] = '.';
            }
            if (!t->st) awq__tp_puts(t, &t->scratch, tmp);
        }
        if (!t->st && width) {
            one = awq__tp_cut(t, &t->scratch, start);
            if (!t->st)
                one = awq__tp_justify(t, one, awq__tp_int(width), awq__tp_str(zero && !left ? "0" : " ", 1),
                                      left ? AWQ__OP_LJUST : zero ? AWQ__OP_ZFILL : AWQ__OP_RJUST);
            awq__tp_put(t, &t->scratch, one.v.s, one.n);
        }
        i++;
    }
    if (used < list.n && !t->st) awq__tp_fail(t, AWQ_E_FORMAT, "a text to fill in wants fewer values");
    return t->st ? v : awq__tp_cut(t, &t->scratch, from);
}

/* str.format with {}, {0} and {name} alone */
static awq__tv awq__tp_braces(awq__tp *t, awq__tv v, awq__tp_args args)
{
    size_t from = t->scratch.len, i = 0, k;
    uint32_t n = 0, j;
    for (j = 0; j < args.n; j++) args.a[j].used = 1;
    while (i < v.n && !t->st) {
        const char *s = v.v.s + i;
        if (*s != '{' && *s != '}') {
            for (k = 1; i + k < v.n && s[k] != '{' && s[k] != '}';) k++;
            awq__tp_put(t, &t->scratch, s, k);
            i += k;
            continue;
        }
        if (i + 1 < v.n && s[1] == *s) {
            awq__tp_put(t, &t->scratch, s, 1);
            i += 2;
            continue;
        }
        for (k = 1; i + k < v.n && awq__tp_word(s[k]);) k++;
        if (*s == '}' || i + k == v.n || s[k] != '}')
            return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "format but with {}, {0} and {name}");
        if (k == 1 || awq__tp_digit(s[1])) {
            uint32_t at = k == 1 ? n++ : 0;
            for (j = 1; j < k && at < 1000000; j++) at = at * 10 + (uint32_t)(s[j] - '0');
            j = at < args.n && !args.a[at].name ? at : args.n;
        } else for (j = 0; j < args.n; j++)
            if (args.a[j].name && args.a[j].len == k - 1 && !memcmp(args.a[j].name, s + 1, k - 1)) break;
        if (j == args.n) return awq__tp_fail(t, AWQ_E_FORMAT, "format wants a value that is not given");
        awq__tp_print(t, &t->scratch, args.a[j].value);
        i += k + 1;
    }
    return t->st ? v : awq__tp_cut(t, &t->scratch, from);
}

static awq__tv awq__tp_tojson(awq__tp *t, awq__tv v, awq__tp_args args)
{
    awq__tp_format f;
    awq__tv none = awq__tp_value(AWQ__T_NONE, 0), indent, separators;
    size_t from = t->scratch.len;
    memset(&f, 0, sizeof f);
    f.json = 1;
    f.indent = -1;
    f.ascii = awq__tp_true(awq__tp_arg_or(args, 0, "ensure_ascii", none));
    indent = awq__tp_arg_or(args, 1, "indent", none);
    separators = awq__tp_arg_or(args, 2, "separators", none);
    if (awq__tp_true(awq__tp_arg_or(args, 3, "sort_keys", none)))
        return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "tojson with sort_keys");
    if (separators.type != AWQ__T_NONE) {
        if (!awq__tp_any(separators, AWQ__T_BIT(T_LIST) | AWQ__T_BIT(T_TUPLE)) || separators.n != 2
            || separators.v.items[0].type != AWQ__T_STR || separators.v.items[1].type != AWQ__T_STR)
            return awq__tp_wrong(t, separators, "the separators of JSON");
        f.item = separators.v.items[0];
        f.key = separators.v.items[1];
    }
    if (indent.type == AWQ__T_INT && indent.v.i >= 0 && indent.v.i <= 64) f.indent = (int)indent.v.i;
    else if (indent.type != AWQ__T_NONE)
        return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "tojson with an indent that is no integer from 0 to 64");
    awq__tp_write(t, &t->scratch, v, &f, 0);
    return awq__tp_cut(t, &t->scratch, from);
}

/* v.a.b or v.0 for the attribute "a.b" or "0" */
static awq__tv awq__tp_path(awq__tp *t, awq__tv v, awq__tv path)
{
    size_t at = 0, end;
    if (awq__tp_whole(path)) return awq__tp_item(t, v, path);
    if (path.type != AWQ__T_STR) return awq__tp_wrong(t, path, "the name of an attribute");
    while (at <= path.n && !t->st) {
        const char *dot = at < path.n ? (const char *)memchr(path.v.s + at, '.', path.n - at) : NULL;
        int64_t index = 0;
        size_t i;
        end = dot ? (size_t)(dot - path.v.s) : path.n;
        for (i = at; i < end && i - at < 9 && awq__tp_digit(path.v.s[i]); i++)
            index = index * 10 + path.v.s[i] - '0';
        v = awq__tp_item(t, v, i == end && i > at ? awq__tp_int(index) : awq__tp_str(path.v.s + at, end - at));
        at = end + 1;
    }
    return v;
}

static awq__tv awq__tp_apply(awq__tp *t, int op, awq__tv v, awq__tp_args args);
static int awq__tp_test(awq__tp *t, const char *name, uint32_t len, awq__tv v, awq__tp_args args);

/* map, select, reject, selectattr, rejectattr */
static awq__tv awq__tp_each(awq__tp *t, int op, awq__tv v, awq__tp_args args)
{
    const awq__tv *attribute = NULL, *name, *other = NULL;
    awq__tv *items = NULL, list = awq__tp_items(AWQ__T_LIST, NULL, 0), one;
    int by_attr = op == AWQ__OP_SELECT_ATTR || op == AWQ__OP_REJECT_ATTR, filter = 0, keep;
    uint32_t i, n = 0, cap = 0;
    if (awq__tp_true(v)) list = awq__tp_iterate(t, v);
    if (by_attr && (attribute = awq__tp_arg_find(args, 0, "")) == NULL)
        return awq__tp_fail(t, AWQ_E_FORMAT, "selectattr without an attribute");
    if (op == AWQ__OP_MAP && (attribute = awq__tp_arg_find(args, UINT32_MAX, "attribute")) != NULL)
        other = awq__tp_arg_find(args, UINT32_MAX, "default");
    name = attribute && !by_attr ? NULL : awq__tp_arg_find(args, by_attr ? 1 : 0, "");
    if (name && name->type != AWQ__T_STR) return awq__tp_wrong(t, *name, "the name of a filter or test");
    if (name) args = awq__tp_args_rest(args, by_attr ? 2 : 1);
    if (op == AWQ__OP_MAP && !attribute) {
        if (!name) return awq__tp_fail(t, AWQ_E_FORMAT, "map without a filter");
        filter = awq__tp_op('f', name->v.s, name->n);
        if (!filter)
            return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "the filter '%.*s'", AWQ__TP_SHOW(name->n, name->v.s));
    }
    for (i = 0; i < list.n && awq__tp_step(t, 16); i++) {
        one = attribute ? awq__tp_path(t, list.v.items[i], *attribute) : list.v.items[i];
        if (op == AWQ__OP_MAP) {
            if (filter) one = awq__tp_apply(t, filter, one, args);
            if (other && one.type == AWQ__T_UNDEF) one = *other;
            awq__tp_push(t, &items, &n, &cap, one);
            continue;
        }
        keep = name ? awq__tp_test(t, name->v.s, name->n, one, args) : awq__tp_true(one);
        if (keep == (op == AWQ__OP_SELECT || op == AWQ__OP_SELECT_ATTR))
            awq__tp_push(t, &items, &n, &cap, list.v.items[i]);
    }
    return awq__tp_generator(t, items, n);
}

/* what sort and its kin compare */
static awq__tv awq__tp_key(awq__tp *t, awq__tv v, const awq__tv *attribute, int cases)
{
    if (attribute && attribute->type != AWQ__T_NONE) {
        if (attribute->type == AWQ__T_STR && attribute->n && memchr(attribute->v.s, ',', attribute->n))
            return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "several attributes to sort by");
        v = awq__tp_path(t, v, *attribute);
    }
    return cases || v.type != AWQ__T_STR ? v : awq__tp_case(t, v, AWQ__OP_LOWER);
}

static int awq__tp_ordered(awq__tp *t, int op, awq__tv a, awq__tv b);

/* sort, dictsort, min, max and unique, by the keys of the items */
static awq__tv awq__tp_sort(awq__tp *t, int op, awq__tv v, awq__tp_args args)
{
    const awq__tv no = awq__tp_bool(0), *attribute = NULL;
    int by_dict = op == AWQ__OP_DICTSORT, sorting = by_dict || op == AWQ__OP_SORT, cases, reverse = 0;
    awq__tv list = by_dict ? v : awq__tp_iterate(t, v), by = awq__tp_str("key", 3), *items, *keys;
    uint32_t i, k, width, n = list.n, kept = 0;
    if (by_dict && v.type != AWQ__T_DICT) return awq__tp_wrong(t, v, "sorted as a dict");
    cases = awq__tp_true(awq__tp_arg_or(args, op == AWQ__OP_SORT, "case_sensitive", no));
    if (sorting) reverse = awq__tp_true(awq__tp_arg_or(args, by_dict ? 2 : 0, "reverse", no));
    if (by_dict) by = awq__tp_arg_or(args, 1, "by", by);
    else attribute = awq__tp_arg_find(args, op == AWQ__OP_SORT ? 2 : 1, "attribute");
    if (by.type != AWQ__T_STR || !awq__tp_listed(by.v.s, by.n, " key value "))
        return awq__tp_fail(t, AWQ_E_FORMAT, "dictsort is by key or by value");
    items = (awq__tv *)awq__tp_alloc(t, 2 * (size_t)n, sizeof *items);
    keys = (awq__tv *)awq__tp_alloc(t, 2 * (size_t)n, sizeof *keys);
    for (i = 0; i < n && items && keys && awq__tp_step(t, 16); i++) {
        items[i] = by_dict ? awq__tp_items(AWQ__T_TUPLE, &v.v.items[2 * i], 2) : list.v.items[i];
        keys[i] = by_dict ? awq__tp_key(t, v.v.items[2 * i + (by.v.s[0] == 'v')], NULL, cases)
                          : awq__tp_key(t, items[i], attribute, cases);
        if (op == AWQ__OP_UNIQUE) {
            awq__tp_hashable(t, keys[i]);
            for (k = 0; k < kept && awq__tp_step(t, 4) && !awq__tp_equal(t, keys[k], keys[i]);) k++;
            if (k == kept) items[kept] = items[i], keys[kept++] = keys[i];
        } else if (i && !sorting && awq__tp_ordered(t, op == AWQ__OP_MIN ? '<' : '>', keys[i], keys[kept])) {
            kept = i;
        }
    }
    if (t->st) return v;
    if (op == AWQ__OP_UNIQUE) return awq__tp_generator(t, items, kept);
    if (!sorting) return n ? items[kept] : awq__tp_undef("an item", 7);
    for (width = 1; width < n; width *= 2) { /* merge runs, from one half of the two blocks to the other */
        uint32_t at, from = kept ? n : 0, to = n - from;
        for (at = 0; at < n; at += 2 * width) {
            uint32_t a = at, b = AWQ__MIN(at + width, n), mid = b, end = AWQ__MIN(b + width, n);
            for (i = at; i < end && awq__tp_step(t, 4); i++) {
                int right = a == mid;
                if (!right && b < end && !(attribute && awq__tp_equal(t, keys[from + b], keys[from + a])))
                    right = awq__tp_ordered(t, reverse ? '>' : '<', keys[from + b], keys[from + a]);
                k = right ? b++ : a++;
                items[to + i] = items[from + k];
                keys[to + i] = keys[from + k];
            }
        }
        kept = !kept;
    }
    return awq__tp_items(AWQ__T_LIST, items ? items + (kept ? n : 0) : NULL, n);
}

/* lists of n, the last one filled up where there is something to fill with */
static awq__tv awq__tp_batch(awq__tp *t, awq__tv v, awq__tv size, awq__tv fill)
{
    awq__tv list = awq__tp_iterate(t, v), *items = NULL, *last;
    uint32_t i, k, n = 0, cap = 0, each;
    if (!awq__tp_whole(size) || size.v.i < 1) return awq__tp_wrong(t, size, "the size of a batch");
    each = (uint32_t)AWQ__MIN(size.v.i, (int64_t)UINT32_MAX / 2);
    for (i = 0; i < list.n && awq__tp_step(t, 16); i += k) {
        k = AWQ__MIN(each, list.n - i);
        if (k == each || fill.type == AWQ__T_NONE) {
            awq__tp_push(t, &items, &n, &cap, awq__tp_items(AWQ__T_LIST, list.v.items + i, k));
            continue;
        }
        last = (awq__tv *)awq__tp_alloc(t, each, sizeof *last);
        if (!last || !awq__tp_step(t, each)) return v;
        memcpy(last, list.v.items + i, k * sizeof *last);
        for (; k < each; k++) last[k] = fill;
        awq__tp_push(t, &items, &n, &cap, awq__tp_items(AWQ__T_LIST, last, each));
    }
    return awq__tp_generator(t, items, n);
}

static awq__tv awq__tp_arithmetic(awq__tp *t, int op, awq__tv a, awq__tv b);

static awq__tv awq__tp_sum(awq__tp *t, awq__tv v, const awq__tv *attribute, awq__tv start)
{
    awq__tv list = awq__tp_iterate(t, v);
    uint32_t i;
    if (start.type == AWQ__T_STR) return awq__tp_wrong(t, start, "the start of a sum");
    for (i = 0; i < list.n && awq__tp_step(t, 16); i++)
        start = awq__tp_arithmetic(t, '+', start, awq__tp_key(t, list.v.items[i], attribute, 1));
    return start;
}

/* how often, or (index) where in a list */
static awq__tv awq__tp_list_count(awq__tp *t, awq__tv v, awq__tv what, int index)
{
    int64_t n = 0;
    uint32_t i;
    for (i = 0; i < v.n && awq__tp_step(t, 4); i++) {
        if (!awq__tp_equal(t, v.v.items[i], what)) continue;
        if (index) return awq__tp_int(i);
        n++;
    }
    return index ? awq__tp_fail(t, AWQ_E_FORMAT, "index of what is not in the list") : awq__tp_int(n);
}

static awq__tv awq__tp_str_count(awq__tp *t, awq__tv v, awq__tv what)
{
    int64_t n = 0;
    size_t at = 0;
    if (t->st) return v;
    if (!what.n) return awq__tp_int(awq__tp_count(t, v) + 1);
    for (; (at = awq__tp_search(t, v.v.s, v.n, what.v.s, what.n, at)) < v.n && !t->st; at += what.n) n++;
    return awq__tp_int(n);
}

static awq__tv awq__tp_join(awq__tp *t, awq__tv v, awq__tv sep, const awq__tv *attribute, int strict)
{
    awq__tv list = awq__tp_iterate(t, v);
    size_t from;
    uint32_t i;
    sep = awq__tp_to_str(t, sep);
    from = t->scratch.len;
    for (i = 0; i < list.n && !t->st; i++) {
        awq__tv one = attribute ? awq__tp_path(t, list.v.items[i], *attribute) : list.v.items[i];
        if (strict && one.type != AWQ__T_STR) return awq__tp_wrong(t, one, "joined by a str's method");
        if (i) awq__tp_put(t, &t->scratch, sep.v.s, sep.n);
        awq__tp_print(t, &t->scratch, one);
    }
    return awq__tp_cut(t, &t->scratch, from);
}

/* keys, values or pairs of a dict */
static awq__tv awq__tp_dict_list(awq__tp *t, awq__tv v, int op)
{
    awq__tv *p;
    uint32_t i;
    if (v.type == AWQ__T_UNDEF) return awq__tp_generator(t, NULL, 0);
    if (v.type != AWQ__T_DICT) return awq__tp_wrong(t, v, "asked for its items");
    p = (awq__tv *)awq__tp_alloc(t, v.n, sizeof *p);
    for (i = 0; p && i < v.n; i++) {
        const awq__tv *pair = &v.v.items[2 * i];
        if (op == AWQ__OP_ITEMS || op == AWQ__OP_ITEMS_OF) p[i] = awq__tp_items(AWQ__T_TUPLE, pair, 2);
        else p[i] = pair[op == AWQ__OP_VALUES];
    }
    return op == AWQ__OP_ITEMS_OF ? awq__tp_generator(t, p, v.n) : awq__tp_items(AWQ__T_VIEW, p, v.n);
}

/* the positional arguments from the k-th on, as a tuple */
static awq__tv awq__tp_pack(awq__tp *t, awq__tp_args args, uint32_t k)
{
    awq__tv *items = NULL;
    uint32_t i, n = 0, cap = 0;
    for (i = k; i < args.n; i++)
        if (!args.a[i].name) awq__tp_push(t, &items, &n, &cap, args.a[i].value), args.a[i].used = 1;
    return awq__tp_items(AWQ__T_TUPLE, items, n);
}

static awq__tv awq__tp_apply(awq__tp *t, int op, awq__tv v, awq__tp_args args)
{
    awq__tv none = awq__tp_value(AWQ__T_NONE, 0), a, b;
    const awq__tv *p;
    int64_t n;
    switch (op) {
    case AWQ__OP_TRIM:
    case AWQ__OP_TRIM_LEFT:
    case AWQ__OP_TRIM_RIGHT:
        v = awq__tp_to_str(t, v);
        return t->st ? v : awq__tp_trim(t, v, awq__tp_arg_or(args, 0, "chars", none), op);
    case AWQ__OP_UPPER:
    case AWQ__OP_LOWER:
    case AWQ__OP_CAPITALIZE:
    case AWQ__OP_TITLE:
    case AWQ__OP_JINJA_TITLE:
        v = awq__tp_to_str(t, v);
        return t->st ? v : awq__tp_case(t, v, op);
    case AWQ__OP_LENGTH:
        n = awq__tp_count(t, v);
        return n < 0 ? awq__tp_wrong(t, v, "measured") : awq__tp_int(n);
    case AWQ__OP_JSON: return awq__tp_tojson(t, v, args);
    case AWQ__OP_JOIN:
        p = awq__tp_arg_find(args, 1, "attribute");
        return awq__tp_join(t, v, awq__tp_arg_or(args, 0, "d", awq__tp_str("", 0)), p, 0);
    case AWQ__OP_JOIN_BY: return awq__tp_join(t, awq__tp_arg_or(args, 0, "", none), v, NULL, 1);
    case AWQ__OP_FIRST:
    case AWQ__OP_LAST:
        if (v.type == AWQ__T_GEN && op == AWQ__OP_LAST) return awq__tp_wrong(t, v, "gone through backwards");
        a = awq__tp_iterate(t, v);
        if (t->st || !a.n) return awq__tp_undef("an item", 7);
        if (v.type == AWQ__T_GEN) v.v.gen->at = v.v.gen->n - a.n + 1;
        return a.v.items[op == AWQ__OP_FIRST ? 0 : a.n - 1];
    case AWQ__OP_DEFAULT:
        a = awq__tp_arg_or(args, 0, "default_value", awq__tp_str("", 0));
        b = awq__tp_arg_or(args, 1, "boolean", awq__tp_bool(0));
        return v.type == AWQ__T_UNDEF || (awq__tp_true(b) && !awq__tp_true(v)) ? a : v;
    case AWQ__OP_REPLACE:
        v = awq__tp_to_str(t, v);
        a = awq__tp_arg_str(t, args, 0, "old");
        b = awq__tp_arg_str(t, args, 1, "new");
        return awq__tp_replace(t, v, a, b, awq__tp_arg_or(args, 2, "count", none));
    case AWQ__OP_STRING: return awq__tp_to_str(t, v);
    case AWQ__OP_LIST: return awq__tp_iterate(t, v);
    case AWQ__OP_MAP:
    case AWQ__OP_SELECT:
    case AWQ__OP_REJECT:
    case AWQ__OP_SELECT_ATTR:
    case AWQ__OP_REJECT_ATTR:
        if (awq__tp_enter(t)) v = awq__tp_each(t, op, v, args);
        t->depth--;
        return v;
    case AWQ__OP_REVERSE:
        if (v.type == AWQ__T_STR) return awq__tp_slice(t, v, none, none, awq__tp_int(-1));
        a = awq__tp_slice(t, awq__tp_iterate(t, v), none, none, awq__tp_int(-1));
        if (t->st || v.type == AWQ__T_UNDEF) return awq__tp_wrong(t, v, "reversed");
        return v.type == AWQ__T_GEN ? a : awq__tp_generator(t, a.v.items, a.n);
    case AWQ__OP_INT: return awq__tp_to_number(t, v, awq__tp_arg_or(args, 0, "default", awq__tp_int(0)), 0);
    case AWQ__OP_FLOAT: return awq__tp_to_number(t, v, awq__tp_arg_or(args, 0, "default", awq__tp_float(0)), 1);
    case AWQ__OP_ROUND:
        return awq__tp_round(t, v, awq__tp_arg_or(args, 0, "precision", awq__tp_int(0)),
                             awq__tp_arg_or(args, 1, "method", awq__tp_str("common", 6)));
    case AWQ__OP_ABS:
        if (!awq__tp_is_number(v)) return awq__tp_wrong(t, v, "made positive");
        if (v.type == AWQ__T_FLOAT) return awq__tp_float(fabs(v.v.d));
        return v.v.i < 0 ? awq__tp_arithmetic(t, '-', awq__tp_int(0), v) : awq__tp_int(v.v.i);
    case AWQ__OP_SUM:
        p = awq__tp_arg_find(args, 0, "attribute");
        return awq__tp_sum(t, v, p, awq__tp_arg_or(args, 1, "start", awq__tp_int(0)));
    case AWQ__OP_MIN:
    case AWQ__OP_MAX:
    case AWQ__OP_SORT:
    case AWQ__OP_DICTSORT:
    case AWQ__OP_UNIQUE: return awq__tp_sort(t, op, v, args);
    case AWQ__OP_BATCH:
        a = awq__tp_arg_or(args, 0, "linecount", none);
        return awq__tp_batch(t, v, a, awq__tp_arg_or(args, 1, "fill_with", none));
    case AWQ__OP_SAFE:
        if (v.type != AWQ__T_SAFE) v = awq__tp_to_str(t, v);
        v.type = AWQ__T_SAFE;
        return v;
    case AWQ__OP_COPY: return v;
    case AWQ__OP_PERCENT:
        for (n = 0; n < (int64_t)args.n; n++) {
            if (args.a[n].name) return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "format with names");
            (void)awq__tp_arg_find(args, (uint32_t)n, "");
        }
        a = awq__tp_pack(t, args, 0);
        v = awq__tp_to_str(t, v);
        return t->st ? v : awq__tp_percent(t, v, a);
    case AWQ__OP_FORMAT: return awq__tp_braces(t, v, args);
    case AWQ__OP_COUNT:
    case AWQ__OP_INDEX:
        if (v.type != AWQ__T_STR) {
            a = awq__tp_arg_or(args, 0, "", awq__tp_undef("value", 5));
            return awq__tp_list_count(t, v, a, op == AWQ__OP_INDEX);
        }
        a = awq__tp_arg_str(t, args, 0, "sub");
        if (op == AWQ__OP_COUNT) return awq__tp_str_count(t, v, a);
        a = awq__tp_find(t, v, a, 0);
        return a.v.i < 0 ? awq__tp_fail(t, AWQ_E_FORMAT, "index of what is not in the str") : a;
    case AWQ__OP_LINES:
        a = awq__tp_arg_or(args, 0, "keepends", none);
        return awq__tp_splitlines(t, v, awq__tp_true(a));
    case AWQ__OP_PARTITION:
    case AWQ__OP_RPARTITION:
        a = awq__tp_arg_str(t, args, 0, "sep");
        return t->st ? v : awq__tp_partition(t, v, a, op == AWQ__OP_RPARTITION);
    case AWQ__OP_CUT_PREFIX:
    case AWQ__OP_CUT_SUFFIX:
        a = awq__tp_arg_str(t, args, 0, "");
        if (t->st || !awq__tp_affix(t, v, a, op == AWQ__OP_CUT_SUFFIX)) return v;
        return awq__tp_str(v.v.s + (op == AWQ__OP_CUT_PREFIX ? a.n : 0), v.n - a.n);
    case AWQ__OP_ALNUM:
    case AWQ__OP_ALPHA:
    case AWQ__OP_DIGIT:
    case AWQ__OP_IS_SPACE:
    case AWQ__OP_IS_LOWER:
    case AWQ__OP_IS_UPPER: return awq__tp_is_all(t, v, op);
    case AWQ__OP_CENTER:
    case AWQ__OP_LJUST:
    case AWQ__OP_RJUST:
    case AWQ__OP_ZFILL:
        v = awq__tp_to_str(t, v);
        a = awq__tp_arg_or(args, 0, "width", op == AWQ__OP_CENTER ? awq__tp_int(80) : none);
        b = awq__tp_str("0", 1);
        if (op != AWQ__OP_ZFILL) b = awq__tp_arg_or(args, 1, "fillchar", awq__tp_str(" ", 1));
        return t->st ? v : awq__tp_justify(t, v, a, b, op);
    case AWQ__OP_RSPLIT:
        a = awq__tp_arg_or(args, 0, "sep", none);
        return awq__tp_rsplit(t, v, a, awq__tp_arg_or(args, 1, "maxsplit", none));
    case AWQ__OP_ITEMS_OF:
    case AWQ__OP_ITEMS:
    case AWQ__OP_KEYS:
    case AWQ__OP_VALUES: return awq__tp_dict_list(t, v, op);
    case AWQ__OP_GET:
        a = awq__tp_arg_or(args, 0, "", awq__tp_undef("the key of get", 14));
        if (a.type == AWQ__T_UNDEF && !args.n) return awq__tp_wrong(t, a, "looked for");
        p = awq__tp_hashable(t, a) ? awq__tp_lookup(t, v, a) : NULL;
        a = awq__tp_arg_or(args, 1, "", none);
        return p ? *p : a;
    case AWQ__OP_INDENT:
        return v.type == AWQ__T_STR ? awq__tp_indent(t, v, args) : awq__tp_wrong(t, v, "indented");
    case AWQ__OP_SPLIT:
        a = awq__tp_arg_or(args, 0, "sep", none);
        return awq__tp_split(t, v, a, awq__tp_arg_or(args, 1, "maxsplit", none));
    case AWQ__OP_STARTS:
    case AWQ__OP_ENDS:
        return awq__tp_bool(awq__tp_affix(t, v, awq__tp_arg_or(args, 0, "", none), op == AWQ__OP_ENDS));
    default: /* find and rfind */
        a = awq__tp_arg_str(t, args, 0, "sub");
        return awq__tp_find(t, v, a, op == AWQ__OP_RFIND);
    }
}

/* arguments that nothing has asked for are refused */
static void awq__tp_args_used(awq__tp *t, awq__tp_args args, const char *of, awq__tv name)
{
    uint32_t i;
    for (i = 0; i < args.n && !t->st; i++) {
        awq__tp_arg *a = &args.a[i];
        if (a->used) continue;
        if (a->name)
            awq__tp_fail(t, AWQ_E_UNSUPPORTED, "argument '%.*s' of %s '%.*s'", AWQ__TP_SHOW(a->len, a->name),
                         of, AWQ__TP_SHOW(name.n, name.v.s));
        else
            awq__tp_fail(t, AWQ_E_UNSUPPORTED, "argument %u of %s '%.*s'", (unsigned)i + 1, of,
                         AWQ__TP_SHOW(name.n, name.v.s));
    }
}

static int awq__tp_ordered(awq__tp *t, int op, awq__tv a, awq__tv b) /* a < b and its kin */
{
    int c;
    if (awq__tp_whole(a) && awq__tp_whole(b)) {
        c = a.v.i < b.v.i ? -1 : a.v.i > b.v.i;
    } else if (awq__tp_is_number(a) && awq__tp_is_number(b)) {
        double x = awq__tp_double(t, a), y = awq__tp_double(t, b);
        if (x != x || y != y) return 0;
        c = x < y ? -1 : x > y;
    } else if (awq__tp_any(a, AWQ__T_BIT(T_LIST) | AWQ__T_BIT(T_TUPLE)) && a.type == b.type) {
        uint32_t i = 0, n = AWQ__MIN(a.n, b.n);
        while (i < n && awq__tp_equal(t, a.v.items[i], b.v.items[i])) i++;
        if (i < n) {
            if (awq__tp_enter(t)) c = awq__tp_ordered(t, op, a.v.items[i], b.v.items[i]);
            else c = 0;
            t->depth--;
            return c;
        }
        c = a.n < b.n ? -1 : a.n > b.n;
    } else if (a.type == AWQ__T_STR && b.type == AWQ__T_STR) {
        uint32_t n = AWQ__MIN(a.n, b.n);
        c = n && awq__tp_step(t, n / 8) ? memcmp(a.v.s, b.v.s, n) : 0;
        if (!c) c = a.n < b.n ? -1 : a.n > b.n;
    } else {
        if (a.type == AWQ__T_UNDEF || a.type == AWQ__T_NONE) awq__tp_wrong(t, a, "compared");
        else awq__tp_wrong(t, b, "compared with this");
        return 0;
    }
    return op == '<' ? c < 0 : op == '>' ? c > 0 : op == AWQ__TK_LE ? c <= 0 : c >= 0;
}

static int awq__tp_contains(awq__tp *t, awq__tv what, awq__tv in)
{
    uint32_t i;
    awq__tv list;
    switch (in.type) {
    case AWQ__T_GEN:
        list = awq__tp_iterate(t, in);
        for (i = 0; i < list.n && awq__tp_step(t, 4); i++)
            if (awq__tp_equal(t, list.v.items[i], what)) {
                in.v.gen->at = in.v.gen->n - list.n + i + 1;
                return 1;
            }
        return 0;
    case AWQ__T_UNDEF: return 0;
    case AWQ__T_DICT: return awq__tp_hashable(t, what) && awq__tp_lookup(t, in, what) != NULL;
    case AWQ__T_STR:
        if (what.type != AWQ__T_STR) awq__tp_wrong(t, what, "looked for in a str");
        else return !what.n || awq__tp_search(t, in.v.s, in.n, what.v.s, what.n, 0) < in.n;
        return 0;
    case AWQ__T_VIEW:
        if (awq__tp_any(what, AWQ__T_BIT(T_LIST) | AWQ__T_BIT(T_DICT)))
            awq__tp_fail(t, AWQ_E_UNSUPPORTED, "a %s looked for in a view of a dict", awq__tp_types[what.type]);
        /* fall through */
    case AWQ__T_LIST:
    case AWQ__T_TUPLE:
    case AWQ__T_RANGE:
        for (i = 0; i < in.n && awq__tp_step(t, 4); i++)
            if (awq__tp_equal(t, in.v.items[i], what)) return 1;
        return 0;
    default: awq__tp_wrong(t, in, "searched"); return 0;
    }
}

static int awq__tp_compare(awq__tp *t, int op, awq__tv a, awq__tv b)
{
    switch (op) {
    case AWQ__TK_EQ: return awq__tp_equal(t, a, b);
    case AWQ__TK_NE: return !awq__tp_equal(t, a, b);
    case AWQ__TK_IN: return awq__tp_contains(t, a, b);
    case AWQ__TK_NOT_IN: return !awq__tp_contains(t, a, b);
    default: return awq__tp_ordered(t, op, a, b);
    }
}

static int awq__tp_test(awq__tp *t, const char *name, uint32_t len, awq__tv v, awq__tp_args args)
{
    static const struct {
        const char *names;
        int op;
    } compare[] = {{" eq equalto == ", AWQ__TK_EQ}, {" ne != ", AWQ__TK_NE}, {" in ", AWQ__TK_IN},
                   {" lt lessthan < ", '<'}, {" gt greaterthan > ", '>'}, {" le <= ", AWQ__TK_LE},
                   {" ge >= ", AWQ__TK_GE}};
    static const struct {
        const char *name;
        unsigned types; /* bits of awq__tp_type */
    } kinds[] = {
        {"undefined", AWQ__T_BIT(T_UNDEF)}, {"defined", ~AWQ__T_BIT(T_UNDEF)}, {"none", AWQ__T_BIT(T_NONE)},
        {"boolean", AWQ__T_BIT(T_BOOL)}, {"integer", AWQ__T_BIT(T_INT)}, {"float", AWQ__T_BIT(T_FLOAT)},
        {"number", AWQ__T_BIT(T_BOOL) | AWQ__T_BIT(T_INT) | AWQ__T_BIT(T_FLOAT)},
        {"string", AWQ__T_BIT(T_STR) | AWQ__T_BIT(T_SAFE)}, {"mapping", AWQ__T_BIT(T_DICT)},
        {"callable", AWQ__T_BIT(T_FUNC) | AWQ__T_BIT(T_UNDEF) | AWQ__T_BIT(T_LOOP)},
        {"sequence", AWQ__T_BIT(T_UNDEF) | AWQ__T_BIT(T_STR) | AWQ__T_BIT(T_SAFE) | AWQ__T_BIT(T_LIST)
                         | AWQ__T_BIT(T_TUPLE) | AWQ__T_BIT(T_DICT) | AWQ__T_BIT(T_RANGE)},
        {"iterable", AWQ__T_BIT(T_UNDEF) | AWQ__T_BIT(T_STR) | AWQ__T_BIT(T_SAFE) | AWQ__T_ITEMS
                         | AWQ__T_BIT(T_DICT) | AWQ__T_BIT(T_GEN) | AWQ__T_BIT(T_LOOP)}};
    size_t i;
    awq__tv other;
    for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (awq__tp_is(name, len, kinds[i].name)) return (int)(kinds[i].types >> v.type & 1);
    if (awq__tp_listed(name, len, " true false ")) return v.type == AWQ__T_BOOL && v.v.i == (name[0] == 't');
    if (awq__tp_listed(name, len, " lower upper ")) {
        v = awq__tp_to_str(t, v);
        return !t->st && awq__tp_is_all(t, v, name[0] == 'l' ? AWQ__OP_IS_LOWER : AWQ__OP_IS_UPPER).v.i;
    }
    other = awq__tp_arg_or(args, 0, "", awq__tp_undef("the argument of a test", 22));
    if (awq__tp_is(name, len, "sameas")) {
        if (awq__tp_any(other, AWQ__T_BIT(T_NONE) | AWQ__T_BIT(T_BOOL)))
            return v.type == other.type && v.v.i == other.v.i;
        awq__tp_fail(t, AWQ_E_UNSUPPORTED, "sameas but for none, true and false");
    }
    for (i = 0; i < sizeof compare / sizeof compare[0]; i++)
        if (awq__tp_listed(name, len, compare[i].names)) return awq__tp_compare(t, compare[i].op, v, other);
    if (awq__tp_listed(name, len, " odd even ")) other = awq__tp_int(2);
    if (awq__tp_listed(name, len, " odd even divisibleby ")) {
        if (v.type == AWQ__T_FLOAT || other.type == AWQ__T_FLOAT)
            awq__tp_fail(t, AWQ_E_UNSUPPORTED, "a float as odd, even or divisible");
        else if (!awq__tp_whole(v) || !awq__tp_whole(other) || !other.v.i) awq__tp_wrong(t, v, "divided");
        else return (other.v.i == -1 || v.v.i % other.v.i == 0) == (name[0] != 'o');
        return 0;
    }
    awq__tp_fail(t, AWQ_E_UNSUPPORTED, "the test '%.*s'", AWQ__TP_SHOW(len, name));
    return 0;
}

/* --- evaluation */
static awq__tv awq__tp_eval(awq__tp *t, uint32_t id);
static int awq__tp_run(awq__tp *t, uint32_t first);

enum { AWQ__TP_ON = 0, AWQ__TP_BREAK, AWQ__TP_CONTINUE }; /* how a body ends */

static awq__tp_args awq__tp_eval_args(awq__tp *t, uint32_t first)
{
    awq__tp_args args = {NULL, 0};
    uint32_t id, n = 0;
    for (id = first; id; id = t->nodes[id].next) n++;
    for (id = first; id && !t->st; id = t->nodes[id].next) {
        const awq__tp_node *node = &t->nodes[id];
        int keyword = node->kind == AWQ__N_KEYWORD, spread = node->kind == AWQ__N_SPREAD;
        awq__tv v = awq__tp_eval(t, keyword || spread ? node->a : id), key = node->value;
        uint32_t i, count = 1;
        if (spread) {
            if (!node->op) v = awq__tp_iterate(t, v);
            else if (v.type != AWQ__T_DICT) awq__tp_wrong(t, v, "given as named arguments");
            count = v.n;
        }
        if (t->st) break;
        if (spread || !args.a) { /* room for these and one for each node that is left */
            awq__tp_arg *more = (awq__tp_arg *)awq__tp_alloc(t, (size_t)args.n + count + n, sizeof *more);
            if (!more) break;
            if (args.n) memcpy(more, args.a, args.n * sizeof *more);
            args.a = more;
        }
        for (i = 0; i < count && awq__tp_step(t, 4); i++) {
            awq__tp_arg *a = &args.a[args.n++];
            memset(a, 0, sizeof *a);
            if (spread && node->op) key = v.v.items[2 * i];
            if (keyword || (spread && node->op)) {
                if (key.type != AWQ__T_STR) awq__tp_wrong(t, key, "the name of an argument");
                a->name = key.v.s;
                a->len = key.n;
            }
            a->value = !spread ? v : node->op ? v.v.items[2 * i + 1] : v.v.items[i];
        }
    }
    return args;
}

static awq__tv awq__tp_floats(awq__tp *t, int op, double a, double b)
{
    double r, q;
    if (t->st) return awq__tp_value(AWQ__T_UNDEF, 0);
    switch (op) {
    case '-': return awq__tp_float(a - b);
    case '+': return awq__tp_float(a + b);
    case '*': return awq__tp_float(a * b);
    case AWQ__TK_POW:
        r = pow(a, b);
        if ((a == 0 && b < 0) || (a - a == 0 && b - b == 0 && r - r != 0))
            return awq__tp_fail(t, AWQ_E_FORMAT, "a power without a value");
        return awq__tp_float(r);
    default:
        if (b == 0) return awq__tp_fail(t, AWQ_E_FORMAT, "division by zero");
        if (op == '/') return awq__tp_float(a / b);
        r = fmod(a, b); /* '//' and '%' round down, as in Python */
        q = (a - r) / b;
        if (r != 0 && (b < 0) != (r < 0)) r += b, q -= 1;
        if (op == '%') return awq__tp_float(r != 0 ? r : copysign(0.0, b));
        if (q == 0) return awq__tp_float(copysign(0.0, a / b));
        return awq__tp_float(q - floor(q) > 0.5 ? floor(q) + 1 : floor(q));
    }
}

static awq__tv awq__tp_integers(awq__tp *t, int op, int64_t a, int64_t b)
{
    int64_t r;
    awq__tv v;
    switch (op) {
    case '-':
        if (b < 0 ? a > INT64_MAX + b : a < INT64_MIN + b) return awq__tp_overflow(t);
        return awq__tp_int(a - b);
    case '+':
        if (b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b) return awq__tp_overflow(t);
        return awq__tp_int(a + b);
    case '/':
    case AWQ__TK_POW:
        if (op == '/' || b < 0)
            return awq__tp_floats(t, op, awq__tp_double(t, awq__tp_int(a)), awq__tp_double(t, awq__tp_int(b)));
        if (b > 64 && a >= -1 && a <= 1) b = 64 + (b & 1);
        for (v = awq__tp_int(1); b-- > 0 && !t->st;) v = awq__tp_integers(t, '*', v.v.i, a);
        return v;
    case '*':
        if ((a == -1 && b == INT64_MIN) || (b == -1 && a == INT64_MIN)) return awq__tp_overflow(t);
        r = (int64_t)((uint64_t)a * (uint64_t)b);
        if (a && a != -1 && r / a != b) return awq__tp_overflow(t);
        return awq__tp_int(r);
    default: /* '//' and '%' round down, as in Python */
        if (!b) return awq__tp_fail(t, AWQ_E_FORMAT, "division by zero");
        if (b == -1) return op == '%' ? awq__tp_int(0) : awq__tp_integers(t, '-', 0, a);
        r = a % b;
        if (op == '%') return awq__tp_int(r && (r < 0) != (b < 0) ? r + b : r);
        return awq__tp_int(a / b - (r && (r < 0) != (b < 0)));
    }
}

static awq__tv awq__tp_repeat(awq__tp *t, awq__tv v, int64_t times) /* a str, list or tuple */
{
    size_t size = v.type == AWQ__T_STR ? 1 : sizeof v, n, at;
    char *p;
    if (times <= 0 || !v.n) {
        v.n = 0;
        return v;
    }
    if (times > (int64_t)(AWQ__TP_OUTPUT / size / v.n))
        return awq__tp_fail(t, AWQ_E_LIMIT, "more than %u MB of text", (unsigned)(AWQ__TP_OUTPUT >> 20));
    n = v.n * (size_t)times;
    p = (char *)awq__tp_alloc(t, n + 1, size);
    if (!p || !awq__tp_step(t, (size_t)times + n / 16)) return v;
    for (at = 0; at < n; at += v.n) memcpy(p + at * size, v.v.s, v.n * size);
    if (size == 1) return awq__tp_str(p, n);
    return awq__tp_items((awq__tp_type)v.type, (awq__tv *)(void *)p, (uint32_t)n);
}

static awq__tv awq__tp_arithmetic(awq__tp *t, int op, awq__tv a, awq__tv b)
{
    const unsigned sequence = AWQ__T_BIT(T_STR) | AWQ__T_BIT(T_LIST) | AWQ__T_BIT(T_TUPLE);
    if (op == '~') {
        a = awq__tp_to_str(t, a);
        b = awq__tp_to_str(t, b);
        return t->st ? a : awq__tp_concat(t, a, b);
    }
    if (awq__tp_whole(a) && awq__tp_whole(b)) return awq__tp_integers(t, op, a.v.i, b.v.i);
    if (awq__tp_is_number(a) && awq__tp_is_number(b))
        return awq__tp_floats(t, op, awq__tp_double(t, a), awq__tp_double(t, b));
    if (a.type == AWQ__T_SAFE || b.type == AWQ__T_SAFE) return awq__tp_to_str(t, a.type == AWQ__T_SAFE ? a : b);
    if (op == '+' && a.type == b.type) {
        if (a.type == AWQ__T_STR) return awq__tp_concat(t, a, b);
        if (a.type == AWQ__T_LIST || a.type == AWQ__T_TUPLE) {
            awq__tv *p = (awq__tv *)awq__tp_alloc(t, (size_t)a.n + b.n, sizeof *p);
            if (!p || !awq__tp_step(t, (size_t)a.n + b.n)) return a;
            if (a.n) memcpy(p, a.v.items, a.n * sizeof *p);
            if (b.n) memcpy(p + a.n, b.v.items, b.n * sizeof *p);
            return awq__tp_items((awq__tp_type)a.type, p, a.n + b.n);
        }
    }
    if (op == '*' && awq__tp_any(a, sequence) && awq__tp_whole(b)) return awq__tp_repeat(t, a, b.v.i);
    if (op == '*' && awq__tp_any(b, sequence) && awq__tp_whole(a)) return awq__tp_repeat(t, b, a.v.i);
    if (op == '%' && a.type == AWQ__T_STR) {
        awq__tv *one = (awq__tv *)awq__tp_alloc(t, 1, sizeof *one);
        if (b.type == AWQ__T_DICT) return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "'%%' that fills in from a dict");
        if (!one) return a;
        *one = b;
        return awq__tp_percent(t, a, b.type == AWQ__T_TUPLE ? b : awq__tp_items(AWQ__T_TUPLE, one, 1));
    }
    if (a.type == AWQ__T_UNDEF) return awq__tp_wrong(t, a, "calculated with");
    if (b.type == AWQ__T_UNDEF) return awq__tp_wrong(t, b, "calculated with");
    return awq__tp_fail(t, AWQ_E_FORMAT, "'%s' between %s and %s",
                        op == '+' ? "+" : op == '-' ? "-" : op == '*' ? "*" : op == '%' ? "%"
                        : op == '/' ? "/" : op == AWQ__TK_POW ? "**" : "//",
                        awq__tp_types[a.type], awq__tp_types[b.type]);
}

static void awq__tp_dict_put(awq__tp *t, awq__tv *dict, uint32_t *cap, awq__tv key, awq__tv value)
{
    awq__tv *items = (awq__tv *)(uintptr_t)dict->v.items;
    awq__tv *found = (awq__tv *)(uintptr_t)awq__tp_lookup(t, *dict, key);
    uint32_t n = dict->n * 2;
    if (t->st) return;
    if (!awq__tp_hashable(t, key)) return;
    if (found) {
        *found = value;
    } else {
        awq__tp_push(t, &items, &n, cap, key);
        awq__tp_push(t, &items, &n, cap, value);
        dict->v.items = items;
        dict->n = n / 2;
    }
}

static awq__tv awq__tp_macro_call(awq__tp *t, awq__tv f, awq__tp_args args)
{
    const awq__tp_node *node = &t->nodes[f.v.fn->node];
    awq__tp_scope *inner = awq__tp_push_scope(t, f.v.fn->scope), *outer = t->scope;
    awq__tv result = awq__tp_undef("", 0);
    size_t from = t->out.len;
    uint32_t id, i = 0;
    if (!inner) return result;
    t->scope = inner;
    for (id = node->a; id && !t->st; id = t->nodes[id].next, i++) {
        awq__tv name = t->nodes[id].value, value = awq__tp_undef(name.v.s, name.n);
        uint32_t j;
        for (j = 0; j < args.n && awq__tp_step(t, 4); j++)
            if (args.a[j].name ? args.a[j].len == name.n && !memcmp(args.a[j].name, name.v.s, name.n) : j == i)
                break;
        if (j < args.n) args.a[j].used = 1, value = args.a[j].value;
        else if (t->nodes[id].a) value = awq__tp_eval(t, t->nodes[id].a);
        awq__tp_define(t, inner, name.v.s, name.n, value);
    }
    if (node->op & 1) {
        const awq__tv *caller = awq__tp_arg_find(args, UINT32_MAX, "caller");
        awq__tp_define(t, inner, "caller", 6, caller ? *caller : awq__tp_undef("caller", 6));
    }
    if (node->op & 2) awq__tp_define(t, inner, "varargs", 7, awq__tp_pack(t, args, i));
    if (node->op & 4) {
        awq__tv rest = awq__tp_items(AWQ__T_DICT, NULL, 0);
        uint32_t cap = 0, j;
        for (j = 0; j < args.n && !t->st; j++) {
            awq__tp_arg *more = &args.a[j];
            if (more->used || !more->name) continue;
            more->used = 1;
            awq__tp_dict_put(t, &rest, &cap, awq__tp_str(more->name, more->len), more->value);
        }
        awq__tp_define(t, inner, "kwargs", 6, rest);
    }
    awq__tp_args_used(t, args, "macro", node->kind == AWQ__N_MACRO ? node->value : awq__tp_str("caller", 6));
    awq__tp_run(t, node->b);
    t->scope = outer;
    return t->st ? result : awq__tp_cut(t, &t->out, from);
}

static awq__tv awq__tp_range(awq__tp *t, awq__tp_args args)
{
    int64_t v[3], n;
    uint32_t i;
    awq__tv *p;
    for (i = 0; i < args.n; i++) {
        if (i > 2 || args.a[i].name || !awq__tp_whole(args.a[i].value))
            return awq__tp_fail(t, AWQ_E_FORMAT, "range takes one to three integers");
        v[i] = args.a[i].value.v.i;
    }
    if (!args.n || (args.n == 3 && !v[2]))
        return awq__tp_fail(t, AWQ_E_FORMAT, "range without an end or a step");
    if (args.n == 1) v[1] = v[0], v[0] = 0;
    if (args.n < 3) v[2] = 1;
    for (i = 0; i < 3; i++)
        if (v[i] > INT64_MAX / 4 || v[i] < INT64_MIN / 4) return awq__tp_overflow(t);
    n = v[2] > 0 ? (v[1] - v[0] + v[2] - 1) / v[2] : (v[0] - v[1] - v[2] - 1) / -v[2];
    n = AWQ__MAX(n, 0);
    if (n > AWQ__TP_RANGE)
        return awq__tp_fail(t, AWQ_E_LIMIT, "a range of %lld, at most %d", (long long)n, AWQ__TP_RANGE);
    p = (awq__tv *)awq__tp_alloc(t, (size_t)n, sizeof *p);
    if (!awq__tp_step(t, (size_t)n)) return awq__tp_int(0);
    for (i = 0; p && i < n; i++) p[i] = awq__tp_int(v[0] + i * v[2]);
    return awq__tp_items(AWQ__T_RANGE, p, (uint32_t)n);
}

/* dict(...) and namespace(...): a dict, then keywords */
static awq__tv awq__tp_make_dict(awq__tp *t, awq__tp_args args)
{
    awq__tv dict = awq__tp_items(AWQ__T_DICT, NULL, 0);
    uint32_t i, j, cap = 0;
    for (i = 0; i < args.n && !t->st; i++) {
        awq__tv v = args.a[i].value;
        if (args.a[i].name) {
            awq__tp_dict_put(t, &dict, &cap, awq__tp_str(args.a[i].name, args.a[i].len), v);
        } else if (i || !awq__tp_any(v, AWQ__T_BIT(T_DICT) | AWQ__T_ITEMS | AWQ__T_BIT(T_GEN))) {
            awq__tp_wrong(t, v, "made a dict");
        } else if (v.type != AWQ__T_DICT) { /* pairs */
            v = awq__tp_iterate(t, v);
            for (j = 0; j < v.n && !t->st; j++) {
                awq__tv pair = awq__tp_iterate(t, v.v.items[j]);
                if (pair.n != 2) awq__tp_wrong(t, v.v.items[j], "a key and its value");
                else if (!t->st) awq__tp_dict_put(t, &dict, &cap, pair.v.items[0], pair.v.items[1]);
            }
        } else {
            for (j = 0; j < v.n && !t->st; j++)
                awq__tp_dict_put(t, &dict, &cap, v.v.items[2 * j], v.v.items[2 * j + 1]);
        }
    }
    return dict;
}

static awq__tv awq__tp_namespace(awq__tp *t, awq__tv dict)
{
    awq__tv v = awq__tp_value(AWQ__T_NS, 0);
    uint32_t i;
    v.v.ns = awq__tp_push_scope(t, NULL);
    if (!v.v.ns) return dict;
    for (i = 0; i < dict.n && !t->st; i++) {
        awq__tv key = dict.v.items[2 * i];
        if (key.type == AWQ__T_STR) awq__tp_define(t, v.v.ns, key.v.s, key.n, dict.v.items[2 * i + 1]);
        else awq__tp_wrong(t, key, "the name of an attribute");
    }
    return v;
}

static struct tm awq__local_time(void)
{
    time_t now = time(NULL);
    struct tm tm;
    memset(&tm, 0, sizeof tm);
#ifdef _WIN32
    (void)localtime_s(&tm, &now);
#else
    (void)localtime_r(&now, &tm);
#endif
    return tm;
}

/* now, as Python's strftime writes it in the C locale */
static awq__tv awq__tp_now(awq__tp *t, awq__tv format)
{
    static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                         "July",    "August",   "September", "October", "November", "December"};
    struct tm tm = awq__local_time();
    size_t from = t->scratch.len, i;
    if (format.type != AWQ__T_STR) return awq__tp_wrong(t, format, "the format of a date");
    for (i = 0; i < format.n && !t->st; i++) {
        const char *s = format.v.s + i;
        int plain, n = 2, v = 0, hour = tm.tm_hour % 12 ? tm.tm_hour % 12 : 12;
        char tmp[48], pad = '0';
        if (*s != '%') {
            awq__tp_put(t, &t->scratch, s, 1);
            continue;
        }
        plain = i + 1 < format.n && s[1] == '-'; /* %-d: without leading zeros */
        i += 1 + (size_t)plain;
        switch (i < format.n ? format.v.s[i] : 0) {
        case 'A': awq__tp_puts(t, &t->scratch, days[tm.tm_wday]); continue;
        case 'a': awq__tp_put(t, &t->scratch, days[tm.tm_wday], 3); continue;
        case 'B': awq__tp_puts(t, &t->scratch, months[tm.tm_mon]); continue;
        case 'b':
        case 'h': awq__tp_put(t, &t->scratch, months[tm.tm_mon], 3); continue;
        case 'p': awq__tp_puts(t, &t->scratch, tm.tm_hour < 12 ? "AM" : "PM"); continue;
        case '%': awq__tp_puts(t, &t->scratch, "%"); continue;
        case 'F':
            snprintf(tmp, sizeof tmp, "%d-%02d-%02d", (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday);
            awq__tp_puts(t, &t->scratch, tmp);
            continue;
        case 'T':
            snprintf(tmp, sizeof tmp, "%02d:%02d:%02d", tm.tm_hour, tm.tm_min, tm.tm_sec);
            awq__tp_puts(t, &t->scratch, tmp);
            continue;
        case 'Y': v = tm.tm_year + 1900, n = 4; break;
        case 'y': v = tm.tm_year % 100; break;
        case 'm': v = tm.tm_mon + 1; break;
        case 'd': v = tm.tm_mday; break;
        case 'e': v = tm.tm_mday, pad = ' '; break;
        case 'j': v = tm.tm_yday + 1, n = 3; break;
        case 'H': v = tm.tm_hour; break;
        case 'I': v = hour; break;
        case 'M': v = tm.tm_min; break;
        case 'S': v = tm.tm_sec; break;
        default:
            return awq__tp_fail(t, AWQ_E_UNSUPPORTED, "'%.2s' in the format of a date; give date_string",
                                i < format.n ? format.v.s + i - 1 : "%");
        }
        snprintf(tmp, sizeof tmp, plain ? "%d" : pad == ' ' ? "%*d" : "%0*d", plain ? v : n, v);
        awq__tp_puts(t, &t->scratch, tmp);
    }
    return awq__tp_cut(t, &t->scratch, from);
}

static int awq__tp_run_for(awq__tp *t, uint32_t id, awq__tv over, awq__tp_scope *outer, uint32_t level);

/* node: a call; caller: what its call block makes, or NULL */
static awq__tv awq__tp_call(awq__tp *t, const awq__tp_node *node, const awq__tv *caller)
{
    awq__tv f = awq__tp_eval(t, node->a), v, what = t->nodes[node->a].value;
    awq__tp_args args = awq__tp_eval_args(t, node->b);
    awq__tp_loop *loop;
    size_t from = t->out.len;
    t->line = node->line;
    if (t->st) return f;
    if (caller) {
        awq__tp_arg *more = (awq__tp_arg *)awq__tp_alloc(t, (size_t)args.n + 1, sizeof *more);
        if (!more) return f;
        if (args.n) memcpy(more, args.a, args.n * sizeof *more);
        memset(more + args.n, 0, sizeof *more);
        more[args.n].name = "caller";
        more[args.n].len = 6;
        more[args.n++].value = *caller;
        args.a = more;
    }
    if (f.type == AWQ__T_LOOP) { /* loop(items) of a recursive loop */
        loop = f.v.loop;
        if (!t->nodes[loop->node].op || args.n != 1 || args.a[0].name)
            return awq__tp_wrong(t, f, "called like this");
        awq__tp_run_for(t, loop->node, args.a[0].value, loop->outer, loop->level + 1);
        return t->st ? f : awq__tp_cut(t, &t->out, from);
    }
    if (f.type != AWQ__T_FUNC) return awq__tp_wrong(t, f, "called");
    switch (f.n) {
    case AWQ__TF_CYCLE:
        loop = f.v.fn->self.v.loop;
        v = awq__tp_pack(t, args, 0);
        awq__tp_args_used(t, args, "function", what);
        return t->st || !v.n ? awq__tp_wrong(t, f, "called like this") : v.v.items[loop->index % v.n];
    case AWQ__TF_CHANGED:
        loop = f.v.fn->self.v.loop;
        v = awq__tp_pack(t, args, 0);
        awq__tp_args_used(t, args, "function", what);
        if (t->st || (loop->seen.type == v.type && awq__tp_equal(t, loop->seen, v))) return awq__tp_bool(0);
        loop->seen = v;
        return awq__tp_bool(1);
    case AWQ__TF_RANGE: return awq__tp_range(t, args);
    case AWQ__TF_DICT: return awq__tp_make_dict(t, args);
    case AWQ__TF_NAMESPACE: return awq__tp_namespace(t, awq__tp_make_dict(t, args));
    case AWQ__TF_MACRO: return awq__tp_macro_call(t, f, args);
    case AWQ__TF_NOW:
        v = awq__tp_arg_or(args, 0, "format", awq__tp_undef("format", 6));
        awq__tp_args_used(t, args, "function", what);
        return t->st || !t->date ? awq__tp_now(t, v) : awq__tp_str(t->date, strlen(t->date));
    case AWQ__TF_RAISE:
        v = awq__tp_to_str(t, awq__tp_arg_or(args, 0, "message", awq__tp_str("", 0)));
        if (!t->st)
            t->st = awq__fail(t->ctx, AWQ_E_ARG, "chat template: %.*s", (int)AWQ__MIN(v.n, 1000u), v.v.s);
        return v;
    default:
        v = awq__tp_apply(t, f.v.fn->op, f.v.fn->self, args);
        awq__tp_args_used(t, args, "method", what);
        return v;
    }
}

static awq__tv awq__tp_make_list(awq__tp *t, const awq__tp_node *node)
{
    awq__tv *items = NULL, v = awq__tp_items(AWQ__T_DICT, NULL, 0), key;
    uint32_t id, n = 0, cap = 0;
    for (id = node->a; id && !t->st; id = t->nodes[id].next) {
        key = awq__tp_eval(t, id);
        if (node->kind == AWQ__N_DICT) {
            id = t->nodes[id].next;
            awq__tp_dict_put(t, &v, &cap, key, awq__tp_eval(t, id));
        } else {
            awq__tp_push(t, &items, &n, &cap, key);
        }
    }
    if (node->kind == AWQ__N_DICT) return v;
    return awq__tp_items(node->kind == AWQ__N_LIST ? AWQ__T_LIST : AWQ__T_TUPLE, items, n);
}

static awq__tv awq__tp_eval_compare(awq__tp *t, const awq__tp_node *node)
{
    awq__tv left = awq__tp_eval(t, node->a);
    uint32_t id;
    int yes = 1;
    for (id = node->b; id && yes && !t->st; id = t->nodes[id].next) {
        awq__tv right = awq__tp_eval(t, t->nodes[id].a);
        yes = !t->st && awq__tp_compare(t, t->nodes[id].op, left, right);
        left = right;
    }
    return awq__tp_bool(yes);
}

static awq__tv awq__tp_eval_slice(awq__tp *t, const awq__tp_node *node)
{
    awq__tv v = awq__tp_eval(t, node->a), b = awq__tp_eval(t, node->b), c = awq__tp_eval(t, node->c);
    awq__tv d = awq__tp_eval(t, node->d);
    return t->st ? v : awq__tp_slice(t, v, b, c, d);
}

static awq__tv awq__tp_eval_named(awq__tp *t, const awq__tp_node *node) /* a filter or a test */
{
    awq__tv v = awq__tp_eval(t, node->a);
    awq__tp_args args = awq__tp_eval_args(t, node->b);
    int filter = node->kind == AWQ__N_FILTER;
    int op = filter ? awq__tp_op('f', node->value.v.s, node->value.n) : 0;
    t->line = node->line;
    if (t->st) return v;
    if (!filter) v = awq__tp_bool(awq__tp_test(t, node->value.v.s, node->value.n, v, args));
    else if (op) v = awq__tp_apply(t, op, v, args);
    else awq__tp_fail(t, AWQ_E_UNSUPPORTED, "the filter '%.*s'", AWQ__TP_SHOW(node->value.n, node->value.v.s));
    awq__tp_args_used(t, args, filter ? "filter" : "test", node->value);
    return v;
}

static awq__tv awq__tp_eval(awq__tp *t, uint32_t id)
{
    const awq__tp_node *node = &t->nodes[id];
    awq__tv v = node->value, w;
    if (awq__tp_enter(t) && awq__tp_step(t, 16)) {
        t->line = node->line;
        switch (node->kind) {
        case AWQ__N_CONST: break;
        case AWQ__N_NAME: v = awq__tp_name(t, v.v.s, v.n); break;
        case AWQ__N_LIST:
        case AWQ__N_TUPLE:
        case AWQ__N_DICT: v = awq__tp_make_list(t, node); break;
        case AWQ__N_ATTR:
            v = awq__tp_eval(t, node->a);
            if (!t->st) v = awq__tp_attr(t, v, node->value.v.s, node->value.n);
            break;
        case AWQ__N_ITEM:
            v = awq__tp_eval(t, node->a);
            w = awq__tp_eval(t, node->b);
            if (!t->st) v = awq__tp_item(t, v, w);
            break;
        case AWQ__N_SLICE: v = awq__tp_eval_slice(t, node); break;
        case AWQ__N_CALL: v = awq__tp_call(t, node, NULL); break;
        case AWQ__N_FILTER:
        case AWQ__N_TEST: v = awq__tp_eval_named(t, node); break;
        case AWQ__N_NOT: v = awq__tp_bool(!awq__tp_true(awq__tp_eval(t, node->a))); break;
        case AWQ__N_NEGATE:
            v = awq__tp_eval(t, node->a);
            if (v.type == AWQ__T_FLOAT) v.v.d = -v.v.d;
            else if (!t->st) v = awq__tp_arithmetic(t, '-', awq__tp_int(0), v);
            break;
        case AWQ__N_AND:
            v = awq__tp_eval(t, node->a);
            if (awq__tp_true(v)) v = awq__tp_eval(t, node->b);
            break;
        case AWQ__N_OR:
            v = awq__tp_eval(t, node->a);
            if (!awq__tp_true(v)) v = awq__tp_eval(t, node->b);
            break;
        case AWQ__N_BINARY:
            v = awq__tp_eval(t, node->a);
            w = awq__tp_eval(t, node->b);
            t->line = node->line;
            if (!t->st) v = awq__tp_arithmetic(t, node->op, v, w);
            break;
        case AWQ__N_COMPARE: v = awq__tp_eval_compare(t, node); break;
        default: /* AWQ__N_IF_ELSE */
            if (awq__tp_true(awq__tp_eval(t, node->a))) v = awq__tp_eval(t, node->b);
            else v = node->c ? awq__tp_eval(t, node->c) : awq__tp_undef("an if without else", 18);
        }
    }
    t->depth--;
    return v;
}

static void awq__tp_assign(awq__tp *t, uint32_t target, awq__tv v)
{
    const awq__tp_node *node = &t->nodes[target];
    awq__tv list;
    uint32_t id, i = 0;
    if (t->st) return;
    t->line = node->line;
    if (node->kind == AWQ__N_NAME) {
        awq__tp_define(t, t->scope, node->value.v.s, node->value.n, v);
    } else if (node->kind == AWQ__N_ATTR) {
        awq__tv ns = awq__tp_eval(t, node->a);
        if (t->st) return;
        if (ns.type != AWQ__T_NS) awq__tp_wrong(t, ns, "given an attribute: only a namespace can");
        else awq__tp_define(t, ns.v.ns, node->value.v.s, node->value.n, v);
    } else if (awq__tp_enter(t)) {
        list = awq__tp_iterate(t, v);
        for (id = node->a; id && i < list.n && !t->st; id = t->nodes[id].next)
            awq__tp_assign(t, id, list.v.items[i++]);
        if (!t->st && (id || i != list.n))
            awq__tp_fail(t, AWQ_E_FORMAT, "%u values cannot be unpacked here", (unsigned)list.n);
        t->depth--;
    } else {
        t->depth--;
    }
}

static int awq__tp_run_for(awq__tp *t, uint32_t id, awq__tv over, awq__tp_scope *outer, uint32_t level)
{
    const awq__tp_node *node = &t->nodes[id];
    awq__tp_scope *back = t->scope, *inner = awq__tp_push_scope(t, outer);
    awq__tv list = awq__tp_iterate(t, over), v = awq__tp_value(AWQ__T_LOOP, 0);
    uint32_t i, n = 0, cap = 0, other = t->nodes[node->d].next;
    awq__tp_loop *loop = (awq__tp_loop *)awq__tp_alloc(t, 1, sizeof *loop);
    int flow = AWQ__TP_ON, finished = 0;
    if (!inner || !loop) return flow;
    memset(loop, 0, sizeof *loop);
    t->scope = inner;
    if (over.type == AWQ__T_GEN) over.v.gen->broken = 1;
    if (node->c) { /* the condition sees the outer loop */
        awq__tv *kept = NULL;
        for (i = 0; i < list.n && !t->st; i++) {
            awq__tp_assign(t, node->a, list.v.items[i]);
            if (awq__tp_true(awq__tp_eval(t, node->c))) awq__tp_push(t, &kept, &n, &cap, list.v.items[i]);
        }
        list = awq__tp_items(AWQ__T_LIST, kept, n);
    }
    loop->items = list.v.items;
    loop->n = list.n;
    loop->node = id;
    loop->outer = outer;
    loop->level = level;
    v.v.loop = loop;
    for (i = 0; i < list.n && !t->st && flow != AWQ__TP_BREAK; i++) {
        inner->n = 0; /* what a turn sets is gone with it */
        loop->index = i;
        awq__tp_define(t, inner, "loop", 4, v);
        awq__tp_assign(t, node->a, list.v.items[i]);
        flow = awq__tp_run(t, t->nodes[node->d].b);
        if (flow == AWQ__TP_ON) finished = 1;
    }
    if (over.type == AWQ__T_GEN && i == list.n && flow != AWQ__TP_BREAK) over.v.gen->broken = 0;
    inner->n = 0;
    if (!finished && other) flow = awq__tp_run(t, t->nodes[other].b); /* Jinja: unless a turn ran to its end */
    else flow = AWQ__TP_ON;
    t->scope = back;
    return flow;
}

static int awq__tp_run_capture(awq__tp *t, const awq__tp_node *node)
{
    awq__tp_scope *outer = t->scope, *inner = awq__tp_push_scope(t, outer);
    size_t from = t->out.len;
    awq__tv v;
    int flow;
    if (!inner) return AWQ__TP_ON;
    t->scope = inner;
    flow = awq__tp_run(t, node->b);
    t->scope = outer;
    if (t->st) return flow;
    v = awq__tp_cut(t, &t->out, from);
    if (flow != AWQ__TP_ON) return flow;
    if (node->c) {
        t->nodes[node->d].value = v;
        v = awq__tp_eval(t, node->c);
    }
    if (node->a) awq__tp_assign(t, node->a, v);
    else if (!t->st) awq__tp_print(t, &t->out, v);
    return flow;
}

static awq__tv awq__tp_macro_value(awq__tp *t, uint32_t id)
{
    awq__tv v = awq__tp_function_value(t, AWQ__TF_MACRO, awq__tp_value(AWQ__T_NONE, 0), 0);
    if (t->st) return v;
    ((awq__tp_fn *)(uintptr_t)v.v.fn)->node = id;
    ((awq__tp_fn *)(uintptr_t)v.v.fn)->scope = t->scope;
    return v;
}

static int awq__tp_run_one(awq__tp *t, uint32_t id)
{
    const awq__tp_node *node = &t->nodes[id];
    awq__tp_scope *outer = t->scope, *inner;
    awq__tv v;
    int flow;
    t->line = node->line;
    switch (node->kind) {
    case AWQ__N_PRINT:
        v = awq__tp_eval(t, node->a);
        if (!t->st) awq__tp_print(t, &t->out, v);
        return AWQ__TP_ON;
    case AWQ__N_IF:
        for (id = node->a; id && !t->st; id = t->nodes[id].next)
            if (!t->nodes[id].a || awq__tp_true(awq__tp_eval(t, t->nodes[id].a)))
                return t->st ? AWQ__TP_ON : awq__tp_run(t, t->nodes[id].b);
        return AWQ__TP_ON;
    case AWQ__N_FOR:
        v = awq__tp_eval(t, node->b);
        return t->st ? AWQ__TP_ON : awq__tp_run_for(t, id, v, outer, 0);
    case AWQ__N_SET: awq__tp_assign(t, node->a, awq__tp_eval(t, node->b)); return AWQ__TP_ON;
    case AWQ__N_CAPTURE: return awq__tp_run_capture(t, node);
    case AWQ__N_MACRO:
        awq__tp_define(t, t->scope, node->value.v.s, node->value.n, awq__tp_macro_value(t, id));
        return AWQ__TP_ON;
    case AWQ__N_CALL_BLOCK:
        v = awq__tp_macro_value(t, id);
        if (!t->st) v = awq__tp_call(t, &t->nodes[node->c], &v);
        if (!t->st) awq__tp_print(t, &t->out, v);
        return AWQ__TP_ON;
    case AWQ__N_SCOPE:
        inner = awq__tp_push_scope(t, outer);
        if (!inner) return AWQ__TP_ON;
        for (id = node->a; id && !t->st; id = t->nodes[id].next) { /* the values see the outer scope */
            v = awq__tp_eval(t, t->nodes[id].b);
            t->scope = inner;
            awq__tp_assign(t, t->nodes[id].a, v);
            t->scope = outer;
        }
        t->scope = inner;
        flow = awq__tp_run(t, node->b);
        t->scope = outer;
        return flow;
    case AWQ__N_BREAK: return AWQ__TP_BREAK;
    default: return AWQ__TP_CONTINUE;
    }
}

static int awq__tp_run(awq__tp *t, uint32_t first)
{
    uint32_t id;
    int flow = AWQ__TP_ON;
    if (awq__tp_enter(t))
        for (id = first; id && flow == AWQ__TP_ON && awq__tp_step(t, 16); id = t->nodes[id].next)
            flow = awq__tp_run_one(t, id);
    t->depth--;
    return flow;
}

/* the source with '\n' as its only line end, and without the last one */
static void awq__tp_read_source(awq__tp *t, const char *source)
{
    size_t n = strlen(source), i, k = 0;
    char *p;
    if (n > AWQ__TP_SOURCE) {
        t->st = awq__fail(t->ctx, AWQ_E_LIMIT, "chat template: %llu bytes, at most %llu are read",
                          (unsigned long long)n, (unsigned long long)AWQ__TP_SOURCE);
        return;
    }
    p = (char *)awq__tp_alloc(t, n + 1, 1);
    if (!p) return;
    for (i = 0; i < n; i++) {
        if (source[i] == '\r' && source[i + 1] == '\n') continue;
        p[k++] = source[i];
        if (source[i] == '\r') p[k - 1] = '\n';
    }
    if (k && p[k - 1] == '\n') k--;
    p[k] = 0;
    t->src = p;
    t->n = k;
    t->line = 1;
}

static void awq__tp_global(awq__tp *t, const char *name, awq__tv v)
{
    awq__tp_define(t, t->scope, name, (uint32_t)strlen(name), v);
}

static awq__tv awq__tp_text(awq__tp *t, const char *s) /* a str of the caller's */
{
    size_t n = s ? strlen(s) : 0;
    if (n > AWQ__TP_OUTPUT)
        return awq__tp_fail(t, AWQ_E_LIMIT, "a text of %llu bytes, at most %llu are rendered",
                            (unsigned long long)n, (unsigned long long)AWQ__TP_OUTPUT);
    return awq__tp_str(s ? s : "", n);
}

static void awq__tp_globals(awq__tp *t, const awq_message *messages, size_t count,
                            const awq_template_desc *desc)
{
    static const char *const functions[] = {"range", "namespace", "dict", "raise_exception", "strftime_now"};
    awq__tv none = awq__tp_value(AWQ__T_NONE, 0), *list, *pair;
    size_t i;
    t->scope = awq__tp_push_scope(t, NULL);
    if (!t->scope) return;
    if (count > AWQ__TP_MEMORY / (5 * sizeof *list)) {
        awq__tp_fail(t, AWQ_E_LIMIT, "%llu messages", (unsigned long long)count);
        return;
    }
    list = (awq__tv *)awq__tp_alloc(t, count, sizeof *list);
    pair = (awq__tv *)awq__tp_alloc(t, count, 4 * sizeof *list);
    if (!list || !pair) return;
    for (i = 0; i < count; i++, pair += 4) {
        pair[0] = awq__tp_str("role", 4);
        pair[1] = awq__tp_text(t, messages[i].role);
        pair[2] = awq__tp_str("content", 7);
        pair[3] = awq__tp_text(t, messages[i].content);
        list[i] = awq__tp_items(AWQ__T_DICT, pair, 2);
    }
    awq__tp_global(t, "messages", awq__tp_items(AWQ__T_LIST, list, (uint32_t)count));
    awq__tp_global(t, "add_generation_prompt", awq__tp_bool(desc->add_generation_prompt));
    awq__tp_global(t, "bos_token", awq__tp_text(t, desc->bos_token));
    awq__tp_global(t, "eos_token", awq__tp_text(t, desc->eos_token));
    awq__tp_global(t, "tools", none);
    awq__tp_global(t, "documents", none);
    if (desc->date_string) awq__tp_global(t, "date_string", awq__tp_text(t, desc->date_string));
    if (desc->enable_thinking) awq__tp_global(t, "enable_thinking", awq__tp_bool(desc->enable_thinking > 0));
    for (i = AWQ__TF_RANGE; i <= AWQ__TF_NOW; i++)
        awq__tp_global(t, functions[i], awq__tp_value(AWQ__T_FUNC, (uint32_t)i));
}

AWQ_API awq_status awq_template_render(awq_ctx *ctx, const char *chat_template, const awq_message *messages,
                                       size_t count, const awq_template_desc *desc, char **text, size_t *bytes)
{
    awq__tp t;
    size_t i;
    uint32_t first;
    if (!chat_template || (count && !messages) || !desc || !text)
        return awq__fail(ctx, AWQ_E_ARG, "awq_template_render: chat_template, messages, desc or text is NULL");
    for (i = 0; i < count; i++)
        if (!messages[i].role || !messages[i].content)
            return awq__fail(ctx, AWQ_E_ARG, "awq_template_render: role or content of message %llu is NULL",
                             (unsigned long long)i);
    memset(&t, 0, sizeof t);
    t.ctx = ctx;
    t.date = desc->date_string;
    awq__tp_read_source(&t, chat_template);
    if (!t.st) awq__tp_lex(&t);
    if (!t.st) {
        awq__tp_node_of(&t, AWQ__N_CONST); /* node 0 */
        first = awq__tp_body(&t, NULL);
        awq__tp_globals(&t, messages, count, desc);
        awq__tp_run(&t, first);
        awq__tp_put(&t, &t.out, "", 1); /* the NUL, and memory even for an empty text */
    }
    awq__free(ctx, t.toks);
    awq__free(ctx, t.nodes);
    awq__text_free(ctx, &t.scratch);
    awq__arena_free(ctx, &t.arena);
    if (t.st) {
        awq__text_free(ctx, &t.out);
        return t.st;
    }
    *text = t.out.data;
    if (bytes) *bytes = t.out.len - 1;
    return AWQ_OK;
}

AWQ_API void awq_text_free(awq_ctx *ctx, char *text) { awq__free(ctx, text); }

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>schema
   JSON schemas as GBNF rules, the text that >>grammar reads. Each schema in use becomes a rule named after its
   key and its node; a queue of those still to be written takes the place of recursion. What lists properties or
   items is a chain of rules, each the rest from one element on, so that the text is linear in the schema and
   the last call of each rule needs no stack. A schema that nothing satisfies is the rule "never".
   Invariants: nothing that would change which texts validate is passed over; every refusal has its path.
   Tests: tests/test_grammar.c, tests/fuzz_grammar.c, tests/peers/schema.py */

#define AWQ__GR_TEXT ((size_t)1 << 20) /* bytes of a GBNF text, and of all choices together */
#define AWQ__SC_TEXT ((size_t)256 << 10) /* bytes of a schema; every $ref looks through a list of names */
#define AWQ__GR_MADE ((size_t)8 << 20) /* bytes of GBNF that a schema may become */
#define AWQ__GR_REPEAT 10000           /* times in {m,n}: items, characters */
#define AWQ__GR_NEST 100               /* parentheses within each other, in GBNF and patterns */
#define AWQ__GR_SET 128                /* ranges in a class of a pattern */
#define AWQ__GR_ANY UINT32_MAX         /* no upper limit */

typedef struct awq__gr_range { /* code points, both included */
    uint32_t lo, hi;
} awq__gr_range;

static int awq__gr_range_order(const void *a, const void *b)
{
    uint32_t x = ((const awq__gr_range *)a)->lo, y = ((const awq__gr_range *)b)->lo;
    return x < y ? -1 : x > y;
}

/* Sorts and joins n ranges, or what they leave out; r has room for n + 1. Returns their number. */
static size_t awq__gr_set(awq__gr_range *r, size_t n, int negate)
{
    size_t i, k = 0;
    uint32_t next = 0;
    if (n) qsort(r, n, sizeof *r, awq__gr_range_order);
    for (i = 0; i < n; i++) {
        if (k && r[i].lo <= r[k - 1].hi + 1) r[k - 1].hi = AWQ__MAX(r[k - 1].hi, r[i].hi);
        else r[k++] = r[i];
    }
    if (!negate) return k;
    n = k;
    for (i = k = 0; i < n; i++) {
        awq__gr_range x = r[i];
        if (x.lo > next) r[k].lo = next, r[k++].hi = x.lo - 1;
        next = x.hi + 1;
    }
    if (next <= 0x10ffff) r[k].lo = next, r[k++].hi = 0x10ffff;
    return k;
}

/* s as a GBNF literal */
static void awq__gr_literal(awq_ctx *ctx, awq__text *t, const char *s, size_t n)
{
    size_t i, from = 0;
    awq__text_str(ctx, t, "\"");
    for (i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) continue;
        awq__text_add(ctx, t, s + from, i - from);
        from = i + 1;
        if (c == '"' || c == '\\') awq__textf(ctx, t, "\\%c", c);
        else if (c == '\n') awq__text_str(ctx, t, "\\n");
        else awq__textf(ctx, t, "\\x%02X", c);
    }
    awq__text_add(ctx, t, s + from, n - from);
    awq__text_str(ctx, t, "\"");
}

/* a character of a GBNF class */
static void awq__gr_class_char(awq_ctx *ctx, awq__text *t, uint32_t c)
{
    if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) awq__textf(ctx, t, "%c", (int)c);
    else awq__textf(ctx, t, c < 0x100 ? "\\x%02X" : c < 0x10000 ? "\\u%04X" : "\\U%08X", (unsigned)c);
}

enum { /* types of JSON values; a number may be an integer */
    AWQ__SC_NULL = 1, AWQ__SC_BOOL = 2, AWQ__SC_INT = 4, AWQ__SC_NUM = 8, AWQ__SC_STR = 16, AWQ__SC_ARR = 32,
    AWQ__SC_OBJ = 64
};

enum {
    AWQ__KW_TYPE, AWQ__KW_ENUM, AWQ__KW_CONST, AWQ__KW_REF, AWQ__KW_ANY, AWQ__KW_ONE, AWQ__KW_ALL,
    AWQ__KW_PROPERTIES, AWQ__KW_REQUIRED, AWQ__KW_ADDITIONAL, AWQ__KW_ITEMS, AWQ__KW_PREFIX, AWQ__KW_MIN_ITEMS,
    AWQ__KW_MAX_ITEMS, AWQ__KW_MIN_LENGTH, AWQ__KW_MAX_LENGTH, AWQ__KW_PATTERN, AWQ__KW_FORMAT,
    AWQ__KW_MINIMUM, AWQ__KW_MAXIMUM, AWQ__KW_ABOVE, AWQ__KW_BELOW, AWQ__KW_COUNT
};

static const struct {
    const char *name;
    unsigned about; /* types it speaks of */
} awq__sc_keywords[AWQ__KW_COUNT] = {
    {"type", 0}, {"enum", 0}, {"const", 0}, {"$ref", 0}, {"anyOf", 0}, {"oneOf", 0}, {"allOf", 0},
    {"properties", AWQ__SC_OBJ}, {"required", AWQ__SC_OBJ}, {"additionalProperties", AWQ__SC_OBJ},
    {"items", AWQ__SC_ARR}, {"prefixItems", AWQ__SC_ARR}, {"minItems", AWQ__SC_ARR}, {"maxItems", AWQ__SC_ARR},
    {"minLength", AWQ__SC_STR}, {"maxLength", AWQ__SC_STR}, {"pattern", AWQ__SC_STR}, {"format", AWQ__SC_STR},
    {"minimum", AWQ__SC_NUM}, {"maximum", AWQ__SC_NUM}, {"exclusiveMinimum", AWQ__SC_NUM},
    {"exclusiveMaximum", AWQ__SC_NUM}};

static const char *const awq__sc_ignored[] = {
    "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id",
    "$comment", "$defs", "definitions"};

/* rules that are written when used; what they use comes later in the table, but for value */
enum {
    AWQ__SR_VALUE, AWQ__SR_OBJECT, AWQ__SR_MEMBER, AWQ__SR_ARRAY, AWQ__SR_STRING, AWQ__SR_NUMBER,
    AWQ__SR_INTEGER, AWQ__SR_BOOLEAN, AWQ__SR_NULL, AWQ__SR_DATE_TIME, AWQ__SR_DATE, AWQ__SR_TIME,
    AWQ__SR_UUID, AWQ__SR_IPV4, AWQ__SR_CHAR, AWQ__SR_PLAIN, AWQ__SR_HEX, AWQ__SR_WS, AWQ__SR_NEVER,
    AWQ__SR_COUNT
};

#define AWQ__SC_BIT(r) (1u << AWQ__SR_##r)
#define AWQ__SC_LEAP "(\"0\" [48] | [2468] [048] | [13579] [26])"

static const struct {
    const char *name, *text;
    unsigned uses;
} awq__sc_rules[AWQ__SR_COUNT] = {
    {"value", "object | array | string | number | boolean | null",
     AWQ__SC_BIT(OBJECT) | AWQ__SC_BIT(ARRAY) | AWQ__SC_BIT(STRING) | AWQ__SC_BIT(NUMBER) | AWQ__SC_BIT(BOOLEAN)
         | AWQ__SC_BIT(NULL)},
    {"object", "\"{\" ws (member (\",\" ws member)* ws)? \"}\"", AWQ__SC_BIT(MEMBER) | AWQ__SC_BIT(WS)},
    {"member", "string \":\" \" \"? value", AWQ__SC_BIT(STRING) | AWQ__SC_BIT(VALUE)},
    {"array", "\"[\" ws (value (\",\" ws value)* ws)? \"]\"", AWQ__SC_BIT(VALUE) | AWQ__SC_BIT(WS)},
    {"string", "\"\\\"\" char* \"\\\"\"", AWQ__SC_BIT(CHAR)},
    {"number", "\"-\"? (\"0\" | [1-9] [0-9]{0,16}) (\".\" [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?", 0},
    {"integer", "\"-\"? (\"0\" | [1-9] [0-9]{0,17})", 0},
    {"boolean", "\"true\" | \"false\"", 0},
    {"null", "\"null\"", 0},
    {"date-time", "date \"T\" time", AWQ__SC_BIT(DATE) | AWQ__SC_BIT(TIME)},
    {"date",
     "year \"-\" ((\"0\" [13578] | \"1\" [02]) \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" [01])"
     " | (\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\")"
     " | \"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8]))"
     " | ([0-9] [0-9] " AWQ__SC_LEAP " | " AWQ__SC_LEAP " \"00\") \"-02-29\"\n"
     "year ::= [0-9]{3} [1-9] | [0-9] [0-9] [1-9] \"0\" | [0-9] [1-9] \"00\" | [1-9] \"000\"", 0},
    {"time",
     "([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9] \":\" [0-5] [0-9] (\".\" [0-9]{1,9})?"
     " (\"Z\" | [-+] ([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9])", 0},
    {"uuid", "hex{8} \"-\" hex{4} \"-\" hex{4} \"-\" hex{4} \"-\" hex{12}", AWQ__SC_BIT(HEX)},
    {"ipv4", "octet (\".\" octet){3}\noctet ::= [0-9] | [1-9] [0-9] | \"1\" [0-9] [0-9] | \"2\" [0-4] [0-9] |"
     " \"25\" [0-5]", 0},
    {"char",
     "plain | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" ([0-9a-cefA-CEF] hex{3} | [dD] [0-7] hex{2}"
     " | [dD] [89abAB] hex{2} \"\\\\u\" [dD] [c-fC-F] hex{2}))", AWQ__SC_BIT(PLAIN) | AWQ__SC_BIT(HEX)},
    {"plain", "[^\\x00-\\x1F\"\\\\]", 0},
    {"hex", "[0-9a-fA-F]", 0},
    {"ws", "(\" \" | \"\\n\" [ \\t]{0,32})?", 0},
    {"never", "\"!\" never", 0}};

typedef struct awq__sc {
    awq_ctx *ctx;
    awq_status st;
    awq__json j;
    awq__text out, word;
    uint8_t *queued;  /* [n_nodes] its rule is written or will be */
    uint32_t *queue, n_queue;
    unsigned used;    /* rules of the table */
    uint32_t node;    /* the schema being written */
} awq__sc;

/* where a node is: "#/properties/x" */
static void awq__sc_path(const awq__sc *c, uint32_t node, awq__text *t)
{
    const awq__json *j = &c->j;
    uint32_t path[AWQ__JSON_DEPTH + 1], at[AWQ__JSON_DEPTH + 1], now = 1;
    int depth = 0, i;
    for (at[0] = 0; now != node;) { /* the first way there in the file's order */
        uint32_t next = awq__json_first(j, now);
        if (next) path[depth++] = now, at[depth] = 0;
        else {
            while (depth && !awq__json_next(j, now)) now = path[--depth];
            if (!depth) break;
            next = awq__json_next(j, now);
            at[depth]++;
        }
        now = next;
    }
    path[depth] = now;
    awq__text_str(c->ctx, t, "#");
    for (i = 1; i <= depth; i++) {
        if (j->nodes[path[i - 1]].type == AWQ__J_ARR) awq__textf(c->ctx, t, "/%u", (unsigned)at[i]);
        else awq__textf(c->ctx, t, "/%.*s", (int)AWQ__MIN(j->nodes[path[i]].key_len, 60u),
                        awq__json_key(j, path[i]));
    }
}

/* The first failure stays. */
static void awq__sc_fail(awq__sc *c, awq_status status, uint32_t node, const char *fmt, ...) AWQ__PRINTF(4, 5);
static void awq__sc_fail(awq__sc *c, awq_status status, uint32_t node, const char *fmt, ...)
{
    char text[512];
    awq__text path = {NULL, 0, 0, 0};
    va_list ap;
    if (c->st) return;
    if (c->out.failed || c->word.failed) { /* which may be why */
        c->st = AWQ_E_MEMORY;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    awq__sc_path(c, node, &path);
    if (path.failed) c->st = AWQ_E_MEMORY;
    else c->st = awq__fail(c->ctx, status, "schema: %.400s: %s", path.data, text);
    awq__text_free(c->ctx, &path);
}

static void awq__sc_put(awq__sc *c, const char *s) { awq__text_str(c->ctx, &c->out, s); }

static void awq__sc_use(awq__sc *c, int rule) /* its name */
{
    c->used |= 1u << rule;
    awq__sc_put(c, awq__sc_rules[rule].name);
}

static void awq__sc_ws(awq__sc *c, const char *before, const char *behind) /* text around white space */
{
    awq__sc_put(c, before);
    awq__sc_use(c, AWQ__SR_WS);
    awq__sc_put(c, behind);
}

/* the name of a schema's rule, and of a helper `kind` with a number */
static void awq__sc_base(awq__sc *c, uint32_t node)
{
    const awq__json_node *n = &c->j.nodes[node];
    uint32_t i;
    if (node == 1) {
        awq__sc_put(c, "root");
        return;
    }
    for (i = 0; i < n->key_len && i < 32; i++) {
        char x = c->j.text[n->key + i];
        int word = (x >= '0' && x <= '9') || ((x | 32) >= 'a' && (x | 32) <= 'z');
        awq__textf(c->ctx, &c->out, "%c", word ? x : '_');
    }
    awq__textf(c->ctx, &c->out, "%s-%u", n->key_len ? "" : "x", (unsigned)node);
}

static void awq__sc_helper(awq__sc *c, char kind, size_t number)
{
    awq__sc_base(c, c->node);
    awq__textf(c->ctx, &c->out, "-%c%llu", kind, (unsigned long long)number);
}

/* call the rule of a schema; 0: of any value */
static void awq__sc_call(awq__sc *c, uint32_t node)
{
    if (!node) {
        awq__sc_use(c, AWQ__SR_VALUE);
        return;
    }
    if (!c->queued[node]) {
        c->queued[node] = 1;
        c->queue[c->n_queue++] = node;
    }
    awq__sc_base(c, node);
}

/* The keywords of a schema: kw[i] is the node of one, 0: absent. */
static void awq__sc_read(awq__sc *c, uint32_t node, uint32_t *kw)
{
    const awq__json *j = &c->j;
    uint32_t i;
    size_t k;
    memset(kw, 0, AWQ__KW_COUNT * sizeof *kw);
    for (i = awq__json_first(j, node); i && !c->st; i = awq__json_next(j, i)) {
        const char *key = awq__json_key(j, i);
        if (strlen(key) != j->nodes[i].key_len) key = ""; /* a NUL inside */
        for (k = 0; k < AWQ__KW_COUNT && strcmp(key, awq__sc_keywords[k].name); k++)
            ;
        if (k < AWQ__KW_COUNT) {
            if (kw[k]) awq__sc_fail(c, AWQ_E_FORMAT, node, "the keyword '%s' is there twice", key);
            kw[k] = i;
            continue;
        }
        if (!strcmp(key, "uniqueItems") && awq__json_bool(j, i) == 0) continue;
        for (k = 0; k < sizeof awq__sc_ignored / sizeof awq__sc_ignored[0]; k++)
            if (!strcmp(key, awq__sc_ignored[k])) break;
        if (k == sizeof awq__sc_ignored / sizeof awq__sc_ignored[0])
            awq__sc_fail(c, AWQ_E_UNSUPPORTED, node, "the keyword '%.100s' is not supported",
                         awq__json_key(j, i));
    }
}

/* Refuse what stands beside keyword `of` but is not among `with`. */
static void awq__sc_alone(awq__sc *c, const uint32_t *kw, int of, unsigned with)
{
    int k;
    for (k = 0; k < AWQ__KW_COUNT; k++)
        if (kw[k] && k != of && !(with >> k & 1))
            awq__sc_fail(c, AWQ_E_UNSUPPORTED, c->node, "'%s' beside '%s' is not supported",
                         awq__sc_keywords[k].name, awq__sc_keywords[of].name);
}

/* a count: minItems, maxLength, ...; `otherwise` when absent */
static uint32_t awq__sc_count(awq__sc *c, const uint32_t *kw, int k, uint32_t otherwise)
{
    int64_t v = 0;
    double d;
    if (!kw[k]) return otherwise;
    if (awq__json_number_of(&c->j, kw[k], &d) && d >= 0 && d == floor(d) && d < 9e18) v = (int64_t)d;
    else {
        awq__sc_fail(c, AWQ_E_FORMAT, kw[k], "expected an integer from 0 on");
        return 0;
    }
    if (v > AWQ__GR_REPEAT)
        awq__sc_fail(c, AWQ_E_LIMIT, kw[k], "%lld is more than the %d that can be counted", (long long)v,
                     AWQ__GR_REPEAT);
    return (uint32_t)v;
}

static void awq__sc_times(awq__sc *c, uint32_t lo, uint32_t hi)
{
    if (hi == AWQ__GR_ANY) awq__textf(c->ctx, &c->out, "{%u,}", (unsigned)lo);
    else awq__textf(c->ctx, &c->out, "{%u,%u}", (unsigned)lo, (unsigned)hi);
}

/* the type names in a string or a list of them, as bits */
static unsigned awq__sc_types(awq__sc *c, uint32_t node)
{
    static const char *const names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
    const awq__json *j = &c->j;
    uint32_t i = awq__json_is(j, node) == AWQ__J_ARR ? awq__json_first(j, node) : node;
    unsigned bits = 0, k;
    for (; i; i = i == node ? 0 : awq__json_next(j, i)) {
        for (k = 0; k < 7 && !awq__json_eq(j, i, names[k]); k++)
            ;
        if (k == 7) break;
        bits |= 1u << k;
    }
    if (i || !bits)
        awq__sc_fail(c, AWQ_E_FORMAT, node, "expected null, boolean, integer, number, string, array, object "
                     "or a list of these");
    return bits & AWQ__SC_NUM ? bits & ~(unsigned)AWQ__SC_INT : bits;
}

/* --- $ref */
static uint32_t awq__sc_target(awq__sc *c, uint32_t ref)
{
    const awq__json *j = &c->j;
    size_t n = 0, i = 1;
    const char *s = awq__json_str(j, ref, &n);
    uint32_t node = 1;
    if (!s || !n || s[0] != '#' || (n > 1 && s[1] != '/')) {
        awq__sc_fail(c, s ? AWQ_E_UNSUPPORTED : AWQ_E_FORMAT, ref, "'%.100s' is not a place in this schema (#, "
                     "#/$defs/x, ...)", s ? s : "");
        return 0;
    }
    while (i < n && node) { /* a step of the pointer: a key, or an index */
        uint32_t at = ++i < n && s[i] >= '0' && s[i] <= '9' ? 0 : AWQ__GR_ANY, k;
        int list = awq__json_is(j, node) == AWQ__J_ARR;
        c->word.len = 0;
        for (; i < n && s[i] != '/'; i++) {
            char x = s[i];
            if (x == '~' && i + 1 < n && (s[i + 1] == '0' || s[i + 1] == '1')) x = s[++i] == '0' ? '~' : '/';
            if (x < '0' || x > '9' || at >= 1u << 27) at = AWQ__GR_ANY;
            else at = at * 10 + (uint32_t)(x - '0');
            awq__text_add(c->ctx, &c->word, &x, 1);
        }
        for (k = awq__json_first(j, node); k; k = awq__json_next(j, k))
            if (list ? at-- == 0
                     : j->nodes[k].key_len == c->word.len
                           && (!c->word.len || !memcmp(awq__json_key(j, k), c->word.data, c->word.len)))
                break;
        node = k;
    }
    if (!node) awq__sc_fail(c, AWQ_E_FORMAT, ref, "there is no '%.100s'", s);
    return node;
}

/* --- strings: pattern, a regular expression, in terms of the characters of a JSON string */
typedef struct awq__sc_regex {
    awq__sc *c;
    const char *s;
    size_t n, at;
    uint32_t node;
    int depth;
} awq__sc_regex;

static void awq__scre_fail(awq__sc_regex *r, awq_status status, const char *what)
{
    awq__sc_fail(r->c, status, r->node, "%s at byte %llu", what, (unsigned long long)r->at);
}

/* a set as the characters that show themselves and the short escapes of the others */
static void awq__scre_set(awq__sc_regex *r, const awq__gr_range *set, size_t n)
{
    static const char escaped[] = "\b\t\n\f\r\"\\", letters[] = "btnfr\"\\";
    awq_ctx *ctx = r->c->ctx;
    awq__text *out = &r->c->out;
    size_t i;
    int k, open = 0;
    awq__sc_put(r->c, "(");
    for (k = 0; k < 7; k++)
        for (i = 0; i < n; i++)
            if (set[i].lo <= (unsigned char)escaped[k] && set[i].hi >= (unsigned char)escaped[k])
                awq__textf(ctx, out, k > 4 ? "\"\\\\\\%c\" | " : "\"\\\\%c\" | ", letters[k]);
    for (i = 0; i < n; i++) {
        uint32_t lo = AWQ__MAX(set[i].lo, 0x20u);
        while (lo <= set[i].hi) {
            uint32_t hi = lo <= '"' ? '"' : lo <= '\\' ? '\\' : 0x110000;
            uint32_t last = AWQ__MIN(set[i].hi, hi - 1);
            if (last >= lo) {
                awq__sc_put(r->c, open ? "" : "[");
                open = 1;
                awq__gr_class_char(ctx, out, lo);
                if (last > lo) {
                    awq__sc_put(r->c, "-");
                    awq__gr_class_char(ctx, out, last);
                }
            }
            lo = hi + 1;
        }
    }
    if (open) awq__sc_put(r->c, "])");
    else { /* the last " | " stays open */
        awq__sc_use(r->c, AWQ__SR_NEVER);
        awq__sc_put(r->c, ")");
    }
}

static void awq__scre_add(awq__sc_regex *r, awq__gr_range *set, size_t *n, uint32_t lo, uint32_t hi)
{
    if (*n == AWQ__GR_SET) awq__scre_fail(r, AWQ_E_LIMIT, "a class of more ranges than can be held");
    else set[*n].lo = lo, set[(*n)++].hi = hi;
}

/* Behind a backslash: a class is added to the set, 1; a character, 0. */
static int awq__scre_escape(awq__sc_regex *r, awq__gr_range *set, size_t *n, uint32_t *cp)
{
    static const awq__gr_range space[] = {{9, 13}, {32, 32}, {0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200a},
                                          {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                                          {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    static const awq__gr_range word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const char from[] = "nrtfv0", to[] = "\n\r\t\f\v";
    char x = r->at < r->n ? r->s[r->at] : 0;
    const char *known = x ? strchr(from, x) : NULL;
    size_t count = (x | 32) == 's' ? 10 : (x | 32) == 'w' ? 4 : (x | 32) == 'd', i;
    if (count) { /* \d is the first of \w */
        awq__gr_range tmp[16];
        memcpy(tmp, count == 10 ? space : word, count * sizeof *tmp);
        if (x < 'a') count = awq__gr_set(tmp, count, 1);
        for (i = 0; i < count; i++) awq__scre_add(r, set, n, tmp[i].lo, tmp[i].hi);
        r->at++;
        return 1;
    }
    *cp = 0;
    if (known) *cp = (unsigned char)to[known - from], r->at++;
    else if (x == 'x' || x == 'u') {
        int digits = x == 'x' ? 2 : 4, d = 0;
        for (r->at++; digits && r->at < r->n && (d = awq__tok_hex(r->s[r->at])) >= 0; digits--, r->at++)
            *cp = *cp << 4 | (uint32_t)d;
        if (digits) awq__scre_fail(r, AWQ_E_FORMAT, "a hexadecimal digit was expected");
        if (*cp >= 0xd800 && *cp < 0xe000)
            awq__scre_fail(r, AWQ_E_UNSUPPORTED, "a surrogate is not supported,");
    } else if (x > ' ' && x < 127 && !(x >= '0' && x <= '9') && !((x | 32) >= 'a' && (x | 32) <= 'z')) {
        *cp = (unsigned char)x;
        r->at++;
    } else awq__scre_fail(r, x ? AWQ_E_UNSUPPORTED : AWQ_E_FORMAT, "an escape that is not supported");
    return 0;
}

static uint32_t awq__scre_char(awq__sc_regex *r) /* a character as it stands; the JSON parser found it valid */
{
    const unsigned char *u = (const unsigned char *)r->s + r->at;
    int len = awq__utf8_len(u, r->n - r->at);
    r->at += (size_t)len;
    return awq__utf8_get(u, len);
}

static void awq__scre_class(awq__sc_regex *r) /* behind '[' */
{
    awq__gr_range set[AWQ__GR_SET + 1];
    size_t n = 0;
    int negate = r->at < r->n && r->s[r->at] == '^';
    for (r->at += (size_t)negate; !r->c->st;) {
        uint32_t lo = 0, hi;
        int named = 0;
        if (r->at >= r->n) {
            awq__scre_fail(r, AWQ_E_FORMAT, "the pattern ends inside a class,");
            return;
        }
        if (r->s[r->at] == ']') break;
        if (r->s[r->at] == '\\') {
            r->at++;
            named = awq__scre_escape(r, set, &n, &lo);
        } else lo = awq__scre_char(r);
        hi = lo;
        if (r->at + 1 < r->n && r->s[r->at] == '-' && r->s[r->at + 1] != ']') {
            r->at++;
            if (r->s[r->at] == '\\') {
                r->at++;
                named |= awq__scre_escape(r, set, &n, &hi);
            } else hi = awq__scre_char(r);
            if (named || hi < lo) awq__scre_fail(r, AWQ_E_FORMAT, "a range that is none");
        }
        if (!named) awq__scre_add(r, set, &n, lo, hi);
    }
    r->at++;
    if (!r->c->st) awq__scre_set(r, set, awq__gr_set(set, n, negate));
}

static void awq__scre_literal(awq__sc_regex *r, uint32_t cp)
{
    awq__text *word = &r->c->word;
    char utf8[4];
    word->len = 0;
    if (cp == '\b' || cp == '\f') awq__text_str(r->c->ctx, word, cp == '\b' ? "\"\\b\"" : "\"\\f\"");
    else awq__json_quote(r->c->ctx, word, utf8, (size_t)awq__utf8_put(cp, utf8));
    if (!word->failed) awq__gr_literal(r->c->ctx, &r->c->out, word->data + 1, word->len - 2);
}

static int awq__scre_number(awq__sc_regex *r, uint32_t *v) /* 1 if there is one */
{
    size_t at = r->at;
    for (*v = 0; r->at < r->n && r->s[r->at] >= '0' && r->s[r->at] <= '9'; r->at++)
        if (*v <= AWQ__GR_REPEAT) *v = *v * 10 + (uint32_t)(r->s[r->at] - '0');
    if (*v > AWQ__GR_REPEAT) awq__scre_fail(r, AWQ_E_LIMIT, "more than 10000 times");
    return r->at > at;
}

static void awq__scre_repeat(awq__sc_regex *r) /* what may stand behind an atom */
{
    char x = r->at < r->n ? r->s[r->at] : 0;
    uint32_t lo, hi;
    if (!x || !strchr("*+?{", x)) return;
    r->at++;
    if (x == '{') {
        int ok = awq__scre_number(r, &lo);
        hi = lo;
        if (r->at < r->n && r->s[r->at] == ',') {
            r->at++;
            if (!awq__scre_number(r, &hi)) hi = AWQ__GR_ANY;
        }
        if (!ok || r->at >= r->n || r->s[r->at] != '}' || lo > hi)
            awq__scre_fail(r, AWQ_E_FORMAT, "expected {2}, {2,} or {2,5}, found something else");
        r->at++;
        awq__sc_times(r->c, lo, hi);
    } else awq__textf(r->c->ctx, &r->c->out, "%c", x);
    if (r->at < r->n && r->s[r->at] == '?') r->at++; /* lazy: the same texts */
}

static void awq__scre_alternatives(awq__sc_regex *r)
{
    int top = r->depth == 0;
    awq__sc_put(r->c, "(");
    if (++r->depth > AWQ__GR_NEST)
        awq__scre_fail(r, AWQ_E_LIMIT, "more than 100 parentheses within each other");
    while (!r->c->st) {
        int anchored = 0;
        awq__sc_put(r->c, "\"\"");
        if (top && r->at < r->n && r->s[r->at] == '^') r->at++;
        else if (top) {
            awq__sc_put(r->c, " ");
            awq__sc_use(r->c, AWQ__SR_CHAR);
            awq__sc_put(r->c, "*");
        }
        while (!r->c->st && !anchored && r->at < r->n && r->s[r->at] != '|' && r->s[r->at] != ')') {
            awq__gr_range set[AWQ__GR_SET + 1];
            size_t n = 0;
            uint32_t cp;
            char x = r->s[r->at];
            awq__sc_put(r->c, " ");
            if (x == '$' && top && (r->at + 1 == r->n || r->s[r->at + 1] == '|')) {
                anchored = 1;
                r->at++;
                continue;
            }
            if (strchr("^$*+?{", x)) {
                awq__scre_fail(r, AWQ_E_UNSUPPORTED, "'^', '$' or a repetition is not supported here,");
                return;
            }
            if (x == '(') {
                r->at++;
                if (r->at < r->n && r->s[r->at] == '?') {
                    if (r->n - r->at < 2 || r->s[r->at + 1] != ':')
                        awq__scre_fail(r, AWQ_E_UNSUPPORTED, "a group of a kind that is not supported,");
                    r->at += 2;
                }
                awq__scre_alternatives(r);
                if (r->at >= r->n) awq__scre_fail(r, AWQ_E_FORMAT, "')' is missing");
                r->at++;
            } else if (x == '[') {
                r->at++;
                awq__scre_class(r);
            } else if (x == '.') {
                r->at++;
                awq__scre_add(r, set, &n, '\n', '\n');
                awq__scre_add(r, set, &n, '\r', '\r');
                awq__scre_add(r, set, &n, 0x2028, 0x2029);
                awq__scre_set(r, set, awq__gr_set(set, n, 1));
            } else if (x == '\\') {
                r->at++;
                if (awq__scre_escape(r, set, &n, &cp)) awq__scre_set(r, set, awq__gr_set(set, n, 0));
                else awq__scre_literal(r, cp);
            } else awq__scre_literal(r, awq__scre_char(r));
            awq__scre_repeat(r);
        }
        if (top && !anchored) {
            awq__sc_put(r->c, " ");
            awq__sc_use(r->c, AWQ__SR_CHAR);
            awq__sc_put(r->c, "*");
        }
        if (r->at >= r->n || r->s[r->at] != '|') break;
        awq__sc_put(r->c, " | ");
        r->at++;
    }
    if (top && r->at < r->n) awq__scre_fail(r, AWQ_E_FORMAT, "')' without '('");
    awq__sc_put(r->c, ")");
    r->depth--;
}

static void awq__sc_string(awq__sc *c, const uint32_t *kw)
{
    static const int formats[] = {AWQ__SR_DATE, AWQ__SR_TIME, AWQ__SR_DATE_TIME, AWQ__SR_UUID, AWQ__SR_IPV4};
    uint32_t lo = awq__sc_count(c, kw, AWQ__KW_MIN_LENGTH, 0);
    uint32_t hi = awq__sc_count(c, kw, AWQ__KW_MAX_LENGTH, AWQ__GR_ANY);
    unsigned others = 0; /* keywords of other types */
    int k;
    for (k = 0; k < AWQ__KW_COUNT; k++)
        if (awq__sc_keywords[k].about != AWQ__SC_STR) others |= 1u << k;
    if (kw[AWQ__KW_PATTERN]) {
        awq__sc_regex r;
        memset(&r, 0, sizeof r);
        r.c = c;
        r.node = kw[AWQ__KW_PATTERN];
        r.s = awq__json_str(&c->j, r.node, &r.n);
        awq__sc_alone(c, kw, AWQ__KW_PATTERN, others);
        if (!r.s) awq__sc_fail(c, AWQ_E_FORMAT, r.node, "expected a string");
        if (c->st) return;
        awq__sc_put(c, "\"\\\"\" ");
        awq__scre_alternatives(&r);
        awq__sc_put(c, " \"\\\"\"");
    } else if (kw[AWQ__KW_FORMAT]) {
        awq__sc_alone(c, kw, AWQ__KW_FORMAT, others);
        for (k = 0; k < 5; k++)
            if (awq__json_eq(&c->j, kw[AWQ__KW_FORMAT], awq__sc_rules[formats[k]].name)) break;
        if (k == 5) {
            const char *s = awq__json_str(&c->j, kw[AWQ__KW_FORMAT], NULL);
            awq__sc_fail(c, s ? AWQ_E_UNSUPPORTED : AWQ_E_FORMAT, c->node, "the format '%.100s' is not "
                         "supported (date, time, date-time, uuid, ipv4 are)", s ? s : "");
            return;
        }
        awq__sc_put(c, "\"\\\"\" ");
        awq__sc_use(c, formats[k]);
        awq__sc_put(c, " \"\\\"\"");
    } else if (!kw[AWQ__KW_MIN_LENGTH] && !kw[AWQ__KW_MAX_LENGTH]) awq__sc_use(c, AWQ__SR_STRING);
    else if (lo > hi) awq__sc_use(c, AWQ__SR_NEVER);
    else {
        awq__sc_put(c, "\"\\\"\" ");
        awq__sc_use(c, AWQ__SR_CHAR);
        awq__sc_times(c, lo, hi);
        awq__sc_put(c, " \"\\\"\"");
    }
}

/* --- numbers between bounds: decimals without an exponent, compared digit by digit */
typedef struct awq__sc_bound {
    int given, negative, strict, n, k; /* digits before and behind the point */
    char digit[40];
} awq__sc_bound;

typedef struct awq__sc_span { /* numbers of n digits before the point, not negative */
    awq__sc *c;
    awq__sc_bound lo, hi;
    int n, behind; /* digits allowed behind the point; 0: no point */
} awq__sc_span;

static int awq__sc_order(const awq__sc_bound *a, const awq__sc_bound *b) /* of magnitudes */
{
    int i;
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    for (i = 0; i < a->n + AWQ__MAX(a->k, b->k); i++) {
        int x = i < a->n + a->k ? a->digit[i] : '0', y = i < b->n + b->k ? b->digit[i] : '0';
        if (x != y) return x < y ? -1 : 1;
    }
    return 0;
}

/* whether something is not below lo and not above hi, magnitudes */
static int awq__sc_between(const awq__sc_bound *lo, const awq__sc_bound *hi)
{
    int order = hi->given ? awq__sc_order(lo, hi) : -1;
    return order < 0 || (order == 0 && !lo->strict && !hi->strict);
}

static void awq__sc_digits(awq__sc *c, int lo, int hi)
{
    if (lo == hi) awq__textf(c->ctx, &c->out, "\"%d\"", lo);
    else awq__textf(c->ctx, &c->out, "[%d-%d]", lo, hi);
}

static int awq__sc_rest(const awq__sc_bound *b, int at) /* a digit from `at` on is not 0 */
{
    for (; at < b->n + b->k; at++)
        if (b->digit[at] != '0') return 1;
    return 0;
}

/* digits (one element of GBNF) behind `at`, any number of them, with the point if it was not written yet */
static void awq__sc_behind(awq__sc_span *s, int at, const char *digits)
{
    if (!s->behind) return;
    if (at > s->n) awq__textf(s->c->ctx, &s->c->out, " %s{0,%d}", digits, s->behind - (at - s->n));
    else awq__textf(s->c->ctx, &s->c->out, " (\".\" %s{1,%d})?", digits, s->behind);
}

/* The digits from `at` on; lo, hi: all before were those of the bound, so it still matters. */
static void awq__sc_span_digits(awq__sc_span *s, int at, int lo, int hi)
{
    awq__sc *c = s->c;
    int a = lo && at < s->lo.n + s->lo.k ? s->lo.digit[at] - '0' : 0;
    int b = hi ? at < s->hi.n + s->hi.k ? s->hi.digit[at] - '0' : 0 : 9;
    int lo_rest = lo && awq__sc_rest(&s->lo, at), optional = 0;
    if (at == 0 && !lo && s->n > 1) a = 1;
    if (!lo && !hi) {
        if (at < s->n) {
            awq__sc_digits(c, a, 9);
            if (s->n - at > 1) awq__textf(c->ctx, &c->out, " [0-9]{%d}", s->n - at - 1);
            at = s->n;
        }
        awq__sc_behind(s, at, "[0-9]");
        return;
    }
    if (at >= s->n) {
        if (hi && !awq__sc_rest(&s->hi, at)) { /* nothing but zeros may follow */
            if (s->hi.strict || (lo && s->lo.strict)) awq__sc_use(c, AWQ__SR_NEVER);
            else {
                awq__sc_put(c, "\"\"");
                awq__sc_behind(s, at, "\"0\"");
            }
            return;
        }
        if (!hi && !lo_rest) { /* anything, but with a strict bound not zero */
            awq__sc_put(c, "\"\"");
            if (!s->lo.strict) awq__sc_behind(s, at, "[0-9]");
            else if (at - s->n >= s->behind) awq__sc_put(c, " "), awq__sc_use(c, AWQ__SR_NEVER);
            else {
                int more = s->behind - 1 - (at - s->n);
                awq__textf(c->ctx, &c->out, "%s \"0\"{0,%d} [1-9] [0-9]{0,%d}", at > s->n ? "" : " \".\"", more,
                           more);
            }
            return;
        }
        optional = !lo || (!lo_rest && !s->lo.strict);
        awq__sc_put(c, at == s->n ? "(\".\" " : "(");
    }
    awq__sc_put(c, "(");
    if (a == b) {
        awq__sc_digits(c, a, a);
        awq__sc_put(c, " ");
        awq__sc_span_digits(s, at + 1, lo, hi);
    } else {
        int bar = 0;
        if (lo) {
            awq__sc_digits(c, a, a);
            awq__sc_put(c, " ");
            awq__sc_span_digits(s, at + 1, 1, 0);
            bar = 1;
        }
        if (a + lo <= b - hi) {
            awq__sc_put(c, bar ? " | " : "");
            awq__sc_digits(c, a + lo, b - hi);
            if (s->n - at > 1) awq__textf(c->ctx, &c->out, " [0-9]{%d}", s->n - at - 1);
            awq__sc_behind(s, AWQ__MAX(at + 1, s->n), "[0-9]");
            bar = 1;
        }
        if (hi) {
            awq__sc_put(c, bar ? " | " : "");
            awq__sc_digits(c, b, b);
            awq__sc_put(c, " ");
            awq__sc_span_digits(s, at + 1, 0, 1);
        }
    }
    awq__sc_put(c, at < s->n ? ")" : optional ? "))?" : "))");
}

/* numbers from lo to hi, neither negative */
static void awq__sc_span_write(awq__sc *c, const awq__sc_bound *lo, const awq__sc_bound *hi, int real)
{
    int n, last = hi->given ? hi->n : AWQ__MAX(lo->n, real ? 15 : 18);
    for (n = lo->n; n <= last; n++) {
        awq__sc_span s;
        s.c = c;
        s.lo = *lo;
        s.hi = *hi;
        s.n = n;
        s.behind = real ? AWQ__MAX(15 - n, 0) : 0;
        awq__sc_put(c, n > lo->n ? " | " : "");
        awq__sc_span_digits(&s, 0, n == lo->n, hi->given && n == last);
    }
}

/* a bound from a number: for integers the nearest one inside, never strict */
static awq__sc_bound awq__sc_bound_of(awq__sc *c, uint32_t node, int strict, int upper, int real)
{
    awq__sc_bound b;
    int64_t i = 0;
    double value = 0;
    int k;
    memset(&b, 0, sizeof b);
    if (!node) return b;
    b.given = 1;
    b.strict = strict;
    if (!awq__json_number_of(&c->j, node, &value)) {
        awq__sc_fail(c, AWQ_E_FORMAT, node, "expected a number");
        return b;
    }
    if (!real) {
        double d = upper ? floor(value) : ceil(value);
        if (!awq__json_int_of(&c->j, node, &i) && fabs(d) < 9e18) i = (int64_t)d;
        else if (c->j.nodes[node].type != AWQ__J_INT) b.k = 1;
        if (strict && d == value && !b.k) {
            if (i == (upper ? INT64_MIN : INT64_MAX)) b.k = 1;
            else i += upper ? -1 : 1;
        }
        if (b.k) awq__sc_fail(c, AWQ_E_UNSUPPORTED, node, "a bound of an integer beyond 64 bits");
        b.k = b.strict = 0;
        b.negative = i < 0;
        b.n = snprintf(b.digit, sizeof b.digit, "%llu",
                       (unsigned long long)(i < 0 ? 0 - (uint64_t)i : (uint64_t)i));
        return b;
    }
    b.negative = value < 0;
    for (k = 0; k <= 15 && fabs(value) < 1e15; k++) { /* the shortest decimal that is this number */
        char tmp[64];
        int len = snprintf(tmp, sizeof tmp, "%.*f", k, fabs(value));
        if (strtod(tmp, NULL) != fabs(value)) continue;
        b.n = k ? len - k - 1 : len;
        b.k = k;
        if (b.n + k > 15) break;
        memcpy(b.digit, tmp, (size_t)b.n);
        if (k) memcpy(b.digit + b.n, tmp + b.n + 1, (size_t)k); /* behind the point of any locale */
        return b;
    }
    awq__sc_fail(c, AWQ_E_UNSUPPORTED, node, "a bound of more than 15 digits");
    return b;
}

/* type integer, or with `real` any number */
static void awq__sc_number(awq__sc *c, const uint32_t *kw, int real)
{
    awq__sc_bound b[2], zero;
    int i, parts = 0;
    if (!kw[AWQ__KW_MINIMUM] && !kw[AWQ__KW_MAXIMUM] && !kw[AWQ__KW_ABOVE] && !kw[AWQ__KW_BELOW]) {
        awq__sc_use(c, real ? AWQ__SR_NUMBER : AWQ__SR_INTEGER);
        return;
    }
    for (i = 0; i < 2; i++) { /* the tighter one of minimum and exclusiveMinimum; then of the maxima */
        awq__sc_bound x = awq__sc_bound_of(c, kw[i ? AWQ__KW_MAXIMUM : AWQ__KW_MINIMUM], 0, i, real);
        awq__sc_bound y = awq__sc_bound_of(c, kw[i ? AWQ__KW_BELOW : AWQ__KW_ABOVE], 1, i, real);
        int more = x.negative != y.negative ? (x.negative ? 1 : -1) /* whether y > x */
                                            : awq__sc_order(&y, &x) * (x.negative ? -1 : 1);
        b[i] = !x.given || (y.given && (i ? more <= 0 : more >= 0)) ? y : x;
    }
    if (c->st) return;
    memset(&zero, 0, sizeof zero);
    zero.given = zero.n = 1;
    zero.digit[0] = '0';
    if (!b[0].given || b[0].negative) { /* below zero: magnitudes, the other way round */
        awq__sc_bound lo = zero;
        if (b[1].given && (b[1].negative || !awq__sc_rest(&b[1], 0))) lo = b[1];
        if (!real && !lo.negative) lo.digit[0] = '1';
        if (awq__sc_between(&lo, &b[0])) {
            awq__sc_put(c, "\"-\" (");
            awq__sc_span_write(c, &lo, &b[0], real);
            awq__sc_put(c, ")");
            parts++;
        }
    }
    if (!b[1].given || !b[1].negative) {
        awq__sc_bound lo = b[0].given && !b[0].negative ? b[0] : zero;
        if (awq__sc_between(&lo, &b[1])) {
            awq__sc_put(c, parts++ ? " | (" : "(");
            awq__sc_span_write(c, &lo, &b[1], real);
            awq__sc_put(c, ")");
        }
    }
    if (!parts) awq__sc_use(c, AWQ__SR_NEVER);
}

/* --- objects */
typedef struct awq__sc_prop {
    const char *key;
    uint32_t len, schema, at; /* schema 0: the name is only required */
    int required, drop;
} awq__sc_prop;

static int awq__sc_prop_order(const void *a, const void *b)
{
    const awq__sc_prop *x = *(const awq__sc_prop *const *)a, *y = *(const awq__sc_prop *const *)b;
    int order = memcmp(x->key, y->key, AWQ__MIN(x->len, y->len));
    if (order) return order;
    return x->len != y->len ? (x->len < y->len ? -1 : 1) : x->at < y->at ? -1 : x->at > y->at;
}

typedef struct awq__sc_group { /* keys that begin alike: sorted[lo..hi), the first `depth` bytes */
    uint32_t lo, hi, depth;
} awq__sc_group;

/* Rules k0, k1, ...: the characters of a key that is none of those listed, without escapes. One rule for each
   beginning of a listed key: it goes on to the next, or leaves it with another character. */
static void awq__sc_other_keys(awq__sc *c, awq__sc_prop **sorted, uint32_t n)
{
    awq__sc_group *groups = NULL;
    size_t cap = 0, n_groups = 1, g;
    uint32_t i, k;
    for (i = k = 0; i < n; i++) { /* what needs an escape is different anyway */
        for (g = 0; g < sorted[i]->len; g++)
            if ((unsigned char)sorted[i]->key[g] < 0x20 || strchr("\"\\", sorted[i]->key[g])) break;
        if (g == sorted[i]->len) sorted[k++] = sorted[i];
    }
    if (!awq__grow(c->ctx, (void **)&groups, &cap, 1, sizeof *groups)) {
        c->st = AWQ_E_MEMORY;
        return;
    }
    groups[0].lo = groups[0].depth = 0;
    groups[0].hi = k;
    for (g = 0; g < n_groups && !c->st && !c->out.failed; g++) {
        awq__sc_group now = groups[g];
        size_t first = n_groups;
        awq__sc_helper(c, 'k', g);
        awq__sc_put(c, " ::= ");
        if (now.lo < now.hi && sorted[now.lo]->len == now.depth) now.lo++;
        else awq__sc_put(c, "\"\" | ");
        for (i = now.lo; i < now.hi; i = k) {
            const unsigned char *s = (const unsigned char *)sorted[i]->key + now.depth;
            uint32_t len = (uint32_t)awq__utf8_len(s, sorted[i]->len - now.depth);
            for (k = i + 1; k < now.hi && !memcmp(sorted[k]->key + now.depth, s, len); k++)
                ;
            if (!awq__grow(c->ctx, (void **)&groups, &cap, n_groups + 1, sizeof *groups)) {
                c->st = AWQ_E_MEMORY;
                break;
            }
            groups[n_groups].lo = i;
            groups[n_groups].hi = k;
            groups[n_groups].depth = now.depth + len;
            awq__gr_literal(c->ctx, &c->out, (const char *)s, len);
            awq__sc_put(c, " ");
            awq__sc_helper(c, 'k', n_groups++);
            awq__sc_put(c, " | ");
        }
        awq__sc_put(c, "[^\\x00-\\x1F\"\\\\");
        for (; first < n_groups; first++) {
            const unsigned char *s = (const unsigned char *)sorted[groups[first].lo]->key + now.depth;
            awq__gr_class_char(c->ctx, &c->out, awq__utf8_get(s, (int)(groups[first].depth - now.depth)));
        }
        awq__sc_put(c, "] ");
        awq__sc_use(c, AWQ__SR_PLAIN);
        awq__sc_put(c, "*\n");
    }
    awq__free(c->ctx, groups);
}

/* Rules p0, p1, ...: one or more of the properties from number i on, with commas; a0: a property not listed */
static void awq__sc_properties(awq__sc *c, const awq__sc_prop *p, uint32_t n, uint32_t more, int any)
{
    uint32_t i, last = 0; /* required ones come before */
    for (i = 0; i < n; i++)
        if (p[i].required) last = i + 1;
    awq__sc_helper(c, 'o', 0);
    awq__sc_ws(c, " ::= \"{\" ", n || any ? last ? " " : " (" : " ");
    if (n || any) {
        awq__sc_helper(c, 'p', 0);
        awq__sc_ws(c, " ", last ? " " : ")? ");
    }
    awq__sc_put(c, "\"}\"\n");
    for (i = 0; i < n; i++) {
        int next = i + 1 < n || any;
        awq__sc_helper(c, 'p', i);
        awq__sc_put(c, " ::= ");
        c->word.len = 0;
        awq__json_quote(c->ctx, &c->word, p[i].key, p[i].len);
        awq__text_str(c->ctx, &c->word, ":");
        if (c->word.failed) return;
        awq__gr_literal(c->ctx, &c->out, c->word.data, c->word.len);
        awq__sc_put(c, " \" \"? ");
        awq__sc_call(c, p[i].schema ? p[i].schema : more);
        if (next) {
            awq__sc_ws(c, i + 1 < last ? " \",\" " : " (\",\" ", " ");
            awq__sc_helper(c, 'p', i + 1);
            awq__sc_put(c, i + 1 < last ? "" : ")?");
        }
        if (!p[i].required && next) {
            awq__sc_put(c, " | ");
            awq__sc_helper(c, 'p', i + 1);
        }
        awq__sc_put(c, "\n");
    }
    if (!any) return;
    awq__sc_helper(c, 'p', n);
    awq__sc_put(c, " ::= ");
    awq__sc_helper(c, 'a', 0);
    awq__sc_ws(c, " (\",\" ", " ");
    awq__sc_helper(c, 'a', 0);
    awq__sc_put(c, ")*\n");
    awq__sc_helper(c, 'a', 0);
    awq__sc_put(c, " ::= \"\\\"\" ");
    awq__sc_helper(c, 'k', 0);
    awq__sc_put(c, " \"\\\":\" \" \"? ");
    awq__sc_call(c, more);
    awq__sc_put(c, "\n");
}

/* The rules of an object whose properties and required are those of n schemas together. */
static void awq__sc_object(awq__sc *c, const uint32_t *parts, uint32_t n, uint32_t additional)
{
    const awq__json *j = &c->j;
    awq__sc_prop *props, **sorted;
    uint32_t i, k, at, count = 0;
    int any = additional && awq__json_is(j, additional) != AWQ__J_FALSE;
    for (k = 0; k < n; k++)
        count += awq__json_count(j, awq__json_get(j, parts[k], "properties"))
                 + awq__json_count(j, awq__json_get(j, parts[k], "required"));
    props = AWQ__NEW(c->ctx, awq__sc_prop, count + 1);
    sorted = AWQ__NEW(c->ctx, awq__sc_prop *, count + 1);
    if (!props || !sorted) c->st = AWQ_E_MEMORY;
    for (at = 0, k = 0; k < 2 * n && !c->st; k++) { /* the properties of all, then what is required */
        uint32_t list = awq__json_get(j, parts[k % n], k < n ? "properties" : "required");
        if (list && awq__json_is(j, list) != (k < n ? AWQ__J_OBJ : AWQ__J_ARR))
            awq__sc_fail(c, AWQ_E_FORMAT, list, k < n ? "expected an object" : "expected a list of names");
        for (i = awq__json_first(j, list); i && !c->st; i = awq__json_next(j, i), at++) {
            size_t len = j->nodes[i].key_len;
            sorted[at] = &props[at];
            props[at].key = k < n ? awq__json_key(j, i) : awq__json_str(j, i, &len);
            props[at].len = (uint32_t)len;
            props[at].schema = k < n ? i : 0;
            props[at].at = at;
            props[at].required = k >= n;
            if (!props[at].key) awq__sc_fail(c, AWQ_E_FORMAT, list, "expected a list of names");
        }
    }
    if (!c->st && at) qsort(sorted, at, sizeof *sorted, awq__sc_prop_order);
    for (i = k = 0; i < at && !c->st; i++) { /* one of each name */
        awq__sc_prop *p = sorted[i], *before = k ? sorted[k - 1] : NULL;
        if (!before || before->len != p->len || memcmp(before->key, p->key, p->len)) {
            sorted[k++] = p;
            continue;
        }
        if (p->schema) awq__sc_fail(c, AWQ_E_UNSUPPORTED, p->schema, "the property is there twice");
        before->required |= p->required;
        p->drop = 1;
    }
    count = k;
    if (!c->st) {
        if (any) awq__sc_other_keys(c, sorted, count);
        for (i = k = 0; i < at; i++)
            if (!props[i].drop) props[k++] = props[i];
        if (!c->st) awq__sc_properties(c, props, count, additional, any);
    }
    awq__free(c->ctx, props);
    awq__free(c->ctx, sorted);
}

/* --- arrays: rules e0, e1, ...: the items from number i on, with commas */
static void awq__sc_array(awq__sc *c, const uint32_t *kw)
{
    const awq__json *j = &c->j;
    uint32_t prefix = kw[AWQ__KW_PREFIX], items = kw[AWQ__KW_ITEMS], n = awq__json_count(j, prefix);
    uint32_t hi = awq__sc_count(c, kw, AWQ__KW_MAX_ITEMS, AWQ__GR_ANY);
    uint32_t lo = awq__sc_count(c, kw, AWQ__KW_MIN_ITEMS, AWQ__MIN(n, hi));
    uint32_t i, node = awq__json_first(j, prefix);
    if (prefix && awq__json_is(j, prefix) != AWQ__J_ARR)
        awq__sc_fail(c, AWQ_E_FORMAT, prefix, "expected a list of schemas");
    if (awq__json_is(j, items) == AWQ__J_ARR)
        awq__sc_fail(c, AWQ_E_UNSUPPORTED, items, "a list is not supported (its name now is prefixItems)");
    if ((prefix && !items) || awq__json_is(j, items) == AWQ__J_FALSE) hi = AWQ__MIN(hi, n);
    awq__sc_helper(c, 'l', 0);
    awq__sc_put(c, " ::= ");
    if (lo > hi) {
        awq__sc_use(c, AWQ__SR_NEVER);
        awq__sc_put(c, "\n");
        return;
    }
    awq__sc_ws(c, "\"[\" ", hi ? lo ? " " : " (" : " ");
    if (hi) {
        awq__sc_helper(c, 'e', 0);
        awq__sc_ws(c, " ", lo ? " " : ")? ");
    }
    awq__sc_put(c, "\"]\"\n");
    for (i = 0; i < n && i < hi; i++, node = awq__json_next(j, node)) {
        awq__sc_helper(c, 'e', i);
        awq__sc_put(c, " ::= ");
        awq__sc_call(c, node);
        if (i + 1 < hi) {
            awq__sc_ws(c, i + 1 < lo ? " \",\" " : " (\",\" ", " ");
            awq__sc_helper(c, 'e', i + 1);
            awq__sc_put(c, i + 1 < lo ? "" : ")?");
        }
        awq__sc_put(c, "\n");
    }
    if (hi <= n) return;
    awq__sc_helper(c, 'e', n);
    awq__sc_put(c, " ::= ");
    awq__sc_call(c, items);
    awq__sc_ws(c, " (\",\" ", " ");
    awq__sc_call(c, items);
    awq__sc_put(c, ")");
    awq__sc_times(c, lo > n + 1 ? lo - n - 1 : 0, hi == AWQ__GR_ANY ? hi : hi - n - 1);
    awq__sc_put(c, "\n");
}

/* --- schemas */
static void awq__sc_values(awq__sc *c, const uint32_t *kw) /* enum, const */
{
    const awq__json *j = &c->j;
    uint32_t list = kw[AWQ__KW_ENUM], i, n = 0;
    unsigned types = kw[AWQ__KW_TYPE] ? awq__sc_types(c, kw[AWQ__KW_TYPE]) : 127;
    awq__sc_alone(c, kw, list ? AWQ__KW_ENUM : AWQ__KW_CONST, 1u << AWQ__KW_TYPE);
    if (list && awq__json_is(j, list) != AWQ__J_ARR)
        awq__sc_fail(c, AWQ_E_FORMAT, list, "expected a list of values");
    for (i = list ? awq__json_first(j, list) : kw[AWQ__KW_CONST]; i && !c->st;
         i = list ? awq__json_next(j, i) : 0) {
        static const unsigned of[] = {AWQ__SC_NULL, AWQ__SC_BOOL, AWQ__SC_BOOL, AWQ__SC_INT | AWQ__SC_NUM,
                                      AWQ__SC_NUM, AWQ__SC_STR, AWQ__SC_ARR, AWQ__SC_OBJ};
        if (!(of[j->nodes[i].type] & types)) continue;
        c->word.len = 0;
        awq__json_write(c->ctx, &c->word, j, i);
        if (c->word.failed) return;
        awq__sc_put(c, n++ ? " | " : "");
        awq__gr_literal(c->ctx, &c->out, c->word.data, c->word.len);
    }
    if (!n) awq__sc_use(c, AWQ__SR_NEVER);
    awq__sc_put(c, "\n");
}

static void awq__sc_alternatives(awq__sc *c, const uint32_t *kw) /* anyOf, oneOf */
{
    int k = kw[AWQ__KW_ANY] ? AWQ__KW_ANY : AWQ__KW_ONE;
    uint32_t i = awq__json_first(&c->j, kw[k]);
    awq__sc_alone(c, kw, k, 0);
    if (awq__json_is(&c->j, kw[k]) != AWQ__J_ARR || !i)
        awq__sc_fail(c, AWQ_E_FORMAT, kw[k], "expected a list of schemas");
    for (; i && !c->st; i = awq__json_next(&c->j, i)) {
        awq__sc_call(c, i);
        awq__sc_put(c, awq__json_next(&c->j, i) ? " | " : "\n");
    }
}

static void awq__sc_all(awq__sc *c, const uint32_t *kw) /* allOf: of one schema, or of objects */
{
    const awq__json *j = &c->j;
    uint32_t list = kw[AWQ__KW_ALL], i = awq__json_first(j, list), n = 1, parts[AWQ__GR_NEST + 1];
    uint32_t mine[AWQ__KW_COUNT];
    int k, others = 0;
    if (awq__json_is(j, list) != AWQ__J_ARR || !i) {
        awq__sc_fail(c, AWQ_E_FORMAT, list, "expected a list of schemas");
        return;
    }
    for (k = 0; k < AWQ__KW_COUNT; k++) others += kw[k] != 0;
    if (others == 1 && awq__json_count(j, list) == 1) {
        awq__sc_call(c, i);
        awq__sc_put(c, "\n");
        return;
    }
    awq__sc_alone(c, kw, AWQ__KW_ALL, 1u << AWQ__KW_TYPE | 1u << AWQ__KW_PROPERTIES | 1u << AWQ__KW_REQUIRED);
    parts[0] = c->node;
    for (; i && !c->st; i = awq__json_next(j, i)) {
        uint32_t part = i, hops = 0;
        memset(mine, 0, sizeof mine);
        while (!c->st && awq__json_is(j, part) == AWQ__J_OBJ) {
            awq__sc_read(c, part, mine);
            if (!mine[AWQ__KW_REF]) break;
            if (++hops > AWQ__GR_NEST) awq__sc_fail(c, AWQ_E_FORMAT, i, "$ref leads nowhere");
            for (k = 0; k < AWQ__KW_COUNT; k++)
                if (mine[k] && k != AWQ__KW_REF)
                    awq__sc_fail(c, AWQ_E_UNSUPPORTED, part, "'%s' beside '$ref' is not supported",
                                 awq__sc_keywords[k].name);
            part = awq__sc_target(c, mine[AWQ__KW_REF]);
        }
        for (k = 0; k < AWQ__KW_COUNT; k++)
            if (mine[k] && k != AWQ__KW_TYPE && k != AWQ__KW_PROPERTIES && k != AWQ__KW_REQUIRED)
                awq__sc_fail(c, AWQ_E_UNSUPPORTED, part, "'%s' inside 'allOf' is not supported",
                             awq__sc_keywords[k].name);
        if (mine[AWQ__KW_TYPE] ? awq__sc_types(c, mine[AWQ__KW_TYPE]) != AWQ__SC_OBJ : !mine[AWQ__KW_PROPERTIES]
                                                                                   && !mine[AWQ__KW_REQUIRED])
            awq__sc_fail(c, AWQ_E_UNSUPPORTED, i, "'allOf' of other things than objects is not supported");
        if (n > AWQ__GR_NEST) awq__sc_fail(c, AWQ_E_LIMIT, list, "more than 100 schemas");
        else parts[n++] = part;
    }
    if (kw[AWQ__KW_TYPE] && awq__sc_types(c, kw[AWQ__KW_TYPE]) != AWQ__SC_OBJ)
        awq__sc_fail(c, AWQ_E_UNSUPPORTED, c->node, "another type than object beside 'allOf' is not supported");
    if (c->st) return;
    awq__sc_helper(c, 'o', 0);
    awq__sc_put(c, "\n");
    awq__sc_object(c, parts, n, 0);
}

/* the rule of c->node, and those it is made of */
static void awq__sc_rule(awq__sc *c)
{
    static const int simple[] = {AWQ__SR_NULL, AWQ__SR_BOOLEAN};
    uint32_t node = c->node, kw[AWQ__KW_COUNT];
    awq__json_type type = awq__json_is(&c->j, node);
    unsigned types = 0, bit, n = 0;
    int k, object = 0, array = 0;
    if (type != AWQ__J_OBJ && type != AWQ__J_TRUE && type != AWQ__J_FALSE)
        awq__sc_fail(c, AWQ_E_FORMAT, node, "expected a schema: an object, true or false");
    memset(kw, 0, sizeof kw);
    if (type == AWQ__J_OBJ) awq__sc_read(c, node, kw);
    awq__sc_base(c, node);
    awq__sc_put(c, " ::= ");
    if (c->st) return;
    if (kw[AWQ__KW_REF]) {
        awq__sc_alone(c, kw, AWQ__KW_REF, 0);
        node = awq__sc_target(c, kw[AWQ__KW_REF]);
        if (!c->st) awq__sc_call(c, node);
        awq__sc_put(c, "\n");
        return;
    }
    if (kw[AWQ__KW_ENUM] || kw[AWQ__KW_CONST]) {
        awq__sc_values(c, kw);
        return;
    }
    if (kw[AWQ__KW_ANY] || kw[AWQ__KW_ONE]) {
        awq__sc_alternatives(c, kw);
        return;
    }
    if (kw[AWQ__KW_ALL]) {
        awq__sc_all(c, kw);
        return;
    }
    if (kw[AWQ__KW_TYPE]) types = awq__sc_types(c, kw[AWQ__KW_TYPE]);
    else
        for (k = 0; k < AWQ__KW_COUNT; k++)
            if (kw[k]) types |= awq__sc_keywords[k].about;
    for (bit = 1; bit <= AWQ__SC_OBJ; bit <<= 1) {
        if (!(types & bit)) continue;
        awq__sc_put(c, n++ ? " | " : "");
        if (bit <= AWQ__SC_BOOL) awq__sc_use(c, simple[bit - 1]);
        else if (bit <= AWQ__SC_NUM) awq__sc_number(c, kw, bit == AWQ__SC_NUM);
        else if (bit == AWQ__SC_STR) awq__sc_string(c, kw);
        else if (bit == AWQ__SC_ARR) {
            array = kw[AWQ__KW_ITEMS] || kw[AWQ__KW_PREFIX] || kw[AWQ__KW_MIN_ITEMS] || kw[AWQ__KW_MAX_ITEMS];
            if (array) awq__sc_helper(c, 'l', 0);
            else awq__sc_use(c, AWQ__SR_ARRAY);
        } else {
            object = kw[AWQ__KW_PROPERTIES] || kw[AWQ__KW_REQUIRED] || kw[AWQ__KW_ADDITIONAL];
            if (object) awq__sc_helper(c, 'o', 0);
            else awq__sc_use(c, AWQ__SR_OBJECT);
        }
    }
    if (!n) awq__sc_use(c, type == AWQ__J_FALSE ? AWQ__SR_NEVER : AWQ__SR_VALUE);
    awq__sc_put(c, "\n");
    if (array) awq__sc_array(c, kw);
    if (object) awq__sc_object(c, &node, 1, kw[AWQ__KW_ADDITIONAL]);
}

/* GBNF of a schema's text; out is the caller's to free, also on failure */
static awq_status awq__sc_make(awq_ctx *ctx, const char *text, size_t n, awq__text *out)
{
    awq__sc c;
    uint32_t at;
    int k;
    memset(&c, 0, sizeof c);
    c.ctx = ctx;
    AWQ__TRY(awq__json_parse(ctx, "schema", text, n, &c.j));
    c.queued = AWQ__NEW(ctx, uint8_t, c.j.n_nodes);
    c.queue = AWQ__NEW(ctx, uint32_t, c.j.n_nodes);
    if (!c.queued || !c.queue) c.st = AWQ_E_MEMORY;
    else c.queued[1] = c.queue[c.n_queue++] = 1;
    for (at = 0; at < c.n_queue && !c.st; at++) {
        c.node = c.queue[at];
        awq__sc_rule(&c);
        if (c.out.failed || c.word.failed) c.st = AWQ_E_MEMORY;
        if (c.out.len > AWQ__GR_MADE)
            awq__sc_fail(&c, AWQ_E_LIMIT, c.node, "the rules made so far have more than %u MB",
                         (unsigned)(AWQ__GR_MADE >> 20));
    }
    for (k = 0; k < 2 * AWQ__SR_COUNT; k++) /* twice, as object leads back to value */
        if (c.used >> k % AWQ__SR_COUNT & 1) c.used |= awq__sc_rules[k % AWQ__SR_COUNT].uses;
    for (k = 0; k < AWQ__SR_COUNT && !c.st; k++)
        if (c.used >> k & 1) {
            awq__sc_put(&c, awq__sc_rules[k].name);
            awq__sc_put(&c, " ::= ");
            awq__sc_put(&c, awq__sc_rules[k].text);
            awq__sc_put(&c, "\n");
        }
    if (!c.st && c.out.failed) c.st = AWQ_E_MEMORY;
    awq__json_free(ctx, &c.j);
    awq__free(ctx, c.queued);
    awq__free(ctx, c.queue);
    awq__text_free(ctx, &c.word);
    *out = c.out;
    return c.st;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>grammar
   What may follow a text, byte by byte, and which tokens keep to it. Three layers:
     1. GBNF text -> a tree -> a network of nodes over bytes for each rule (UTF-8 classes as byte ranges). All
        rules share the node END; x* is a loop; a call with END behind it needs no return.
     2. A configuration is a node and a stack of nodes to return to; stacks are shared lists. The set of all
        configurations that a text may lead to is a state, known by its number; what a byte makes of a state is
        worked out once and kept in a row of 256, so that a known step is one look-up.
     3. The tokens of a vocabulary as a tree of their bytes in preorder, walked along with the states.
   Invariants: the height of a node is how many returns its shortest way to END needs; a configuration whose
   height and stack together pass AWQ__GR_STACK does not come to be, so every state that is not dead can still
   be finished. Nothing is allocated after awq_grammar_create: when a table is full, the states that are neither
   held nor on the way of the current call are dropped.
   Tests: tests/test_grammar.c, tests/fuzz_grammar.c, tests/peers/schema.py */

#define AWQ__GR_RULES 65536
#define AWQ__GR_NODES (1 << 20)
#define AWQ__GR_STACK 512     /* calls within each other; where a byte would need more it is not allowed */
#ifndef AWQ__GR_WORK
#  define AWQ__GR_WORK 20000000 /* configurations looked at in one call */
#endif
#define AWQ__GR_TOKEN 1024    /* bytes of a token; longer ones never fit */
#define AWQ__GR_MASKS 256     /* masks kept, at most */
#define AWQ__GR_LEAST ((size_t)64 << 10) /* bytes of memory */
#define AWQ__GR_UNKNOWN 0xffffu /* in a row: not worked out yet */
#define AWQ__GR_SHOW(n, s) (int)AWQ__MIN((size_t)(n), (size_t)100), (s) /* %.*s of a name that may be long */

enum { AWQ__GT_TEXT = 1, AWQ__GT_CLASS, AWQ__GT_CALL, AWQ__GT_REPEAT, AWQ__GT_SEQUENCE, AWQ__GT_ALTERNATIVES };

typedef struct awq__gr_tree {
    uint32_t kind, at; /* byte of the GBNF text, for messages */
    uint32_t a;        /* TEXT, CLASS: first byte, range; CALL: rule; else first child */
    uint32_t next;     /* sibling; the children of a SEQUENCE are linked from the last to the first */
    uint32_t lo, hi;   /* REPEAT: times; TEXT, CLASS: hi bytes, ranges */
} awq__gr_tree;

enum { AWQ__GN_END, AWQ__GN_BYTES, AWQ__GN_SPLIT, AWQ__GN_CALL };

typedef struct awq__gr_node {
    uint32_t kind, a, b; /* BYTES: b arcs from arc a on; SPLIT: to a and b; CALL: node a, then b */
} awq__gr_node;

typedef struct awq__gr_arc {
    uint32_t to;
    uint8_t lo, hi;
} awq__gr_arc;

typedef struct awq__gr_rule {
    uint32_t at, len, tree, entry; /* its name in the text; entry: node */
} awq__gr_rule;

typedef struct awq__gr_text {
    const char *s;
    size_t n;
    uint32_t at;
} awq__gr_text;

typedef struct awq__gr_build {
    awq_ctx *ctx;
    awq_status st;
    const char *name, *s; /* what messages call the text */
    size_t n, at;
    int depth;
    int64_t steps;
    awq__text bytes;
    awq__gr_tree *tree;
    awq__gr_range *ranges;
    awq__gr_rule *rules;
    awq__gr_text *names;  /* rules' names, sorted; also strings of alternatives while they are compiled */
    awq__gr_node *nodes;
    awq__gr_arc *arcs, *open; /* open: arcs of nodes that are not finished */
    awq__arena arena;         /* what follows */
    uint32_t *height, *links, *first; /* nodes that lead to node i: links[first[i] .. first[i + 1]) */
    size_t n_tree, cap_tree, n_ranges, cap_ranges, n_rules, cap_rules, n_names, cap_names, n_nodes, cap_nodes;
    size_t n_arcs, cap_arcs, n_open, cap_open;
} awq__gr_build;

/* --- GBNF to a tree */
static uint32_t awq__gr_fail(awq__gr_build *b, awq_status status, size_t at, const char *fmt, ...)
    AWQ__PRINTF(4, 5);
static uint32_t awq__gr_fail(awq__gr_build *b, awq_status status, size_t at, const char *fmt, ...)
{
    char text[512];
    size_t i, line = 1, column = 1;
    va_list ap;
    if (b->st) return 0;
    for (i = 0; i < at && i < b->n; i++) {
        column++;
        if (b->s[i] == '\n') line++, column = 1;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    b->st = awq__fail(b->ctx, status, "%s, line %llu, column %llu: %s", b->name, (unsigned long long)line,
                      (unsigned long long)column, text);
    return 0;
}

/* room for one more, else b->st is set */
static int awq__gr_room(awq__gr_build *b, void **array, size_t *cap, size_t n, size_t size)
{
    if (!b->st && !awq__grow(b->ctx, array, cap, n + 1, size)) b->st = AWQ_E_MEMORY;
    return !b->st;
}

static uint32_t awq__gr_tree_new(awq__gr_build *b, uint32_t kind, size_t at, uint32_t a)
{
    awq__gr_tree *t;
    if (!b->n_tree) b->n_tree = 1; /* 0 is none */
    if (!awq__gr_room(b, (void **)&b->tree, &b->cap_tree, b->n_tree, sizeof *b->tree)) return 0;
    t = &b->tree[b->n_tree];
    memset(t, 0, sizeof *t);
    t->kind = kind;
    t->at = (uint32_t)at;
    t->a = a;
    return (uint32_t)b->n_tree++;
}

static int awq__gr_peek(const awq__gr_build *b) { return b->at < b->n ? (unsigned char)b->s[b->at] : -1; }

static void awq__gr_space(awq__gr_build *b, int lines) /* spaces and comments; with `lines` over line breaks */
{
    int c;
    while ((c = awq__gr_peek(b)) == ' ' || c == '\t' || c == '#' || (lines && (c == '\n' || c == '\r'))) {
        if (c == '#')
            while ((c = awq__gr_peek(b)) != '\n' && c != '\r' && c >= 0) b->at++;
        else b->at++;
    }
}

static size_t awq__gr_name(const awq__gr_build *b) /* bytes of a name here */
{
    size_t i;
    for (i = b->at; i < b->n; i++) {
        int c = (unsigned char)b->s[i];
        if (!((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '-' || c == '_')) break;
    }
    return i - b->at;
}

static uint32_t awq__gr_char(awq__gr_build *b) /* a character of a literal or class, escapes resolved */
{
    static const char from[] = "nrt\"\\[]", to[] = "\n\r\t\"\\[]";
    size_t at = b->at;
    uint32_t cp = 0;
    if (awq__gr_peek(b) == '\\') {
        int c = ++b->at < b->n ? (unsigned char)b->s[b->at] : 0, d;
        int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
        const char *known = c ? strchr(from, c) : NULL;
        b->at++;
        if (known) return (unsigned char)to[known - from];
        if (!digits) return awq__gr_fail(b, AWQ_E_FORMAT, at, "an unknown escape");
        for (; digits; digits--, b->at++) {
            d = b->at < b->n ? awq__tok_hex(b->s[b->at]) : -1;
            if (d < 0) return awq__gr_fail(b, AWQ_E_FORMAT, at, "a hexadecimal digit was expected");
            cp = cp << 4 | (uint32_t)d;
        }
        if (cp > 0x10ffff) return awq__gr_fail(b, AWQ_E_FORMAT, at, "a character beyond U+10FFFF");
    } else {
        const unsigned char *u = (const unsigned char *)b->s + b->at;
        int len = awq__utf8_len(u, b->n - b->at);
        if (!len) return awq__gr_fail(b, AWQ_E_FORMAT, at, "a byte that is not UTF-8 (0x%02x)", u[0]);
        cp = awq__utf8_get(u, len);
        b->at += (size_t)len;
    }
    return cp;
}

static uint32_t awq__gr_read_text(awq__gr_build *b)
{
    size_t at = b->at++, from = b->bytes.len;
    uint32_t t;
    while (!b->st && awq__gr_peek(b) != '"') {
        char utf8[4];
        size_t here = b->at;
        uint32_t cp;
        if (awq__gr_peek(b) < 0) return awq__gr_fail(b, AWQ_E_FORMAT, at, "'\"' without an end");
        cp = awq__gr_char(b);
        if (cp >= 0xd800 && cp < 0xe000) return awq__gr_fail(b, AWQ_E_FORMAT, here, "half of a surrogate pair");
        awq__text_add(b->ctx, &b->bytes, utf8, (size_t)awq__utf8_put(cp, utf8));
    }
    b->at++;
    if (b->bytes.failed) b->st = AWQ_E_MEMORY;
    t = awq__gr_tree_new(b, AWQ__GT_TEXT, at, (uint32_t)from);
    if (t) b->tree[t].hi = (uint32_t)(b->bytes.len - from);
    return t;
}

static uint32_t awq__gr_read_class(awq__gr_build *b) /* [...] or . */
{
    size_t at = b->at++, from = b->n_ranges, n;
    int any = b->s[at] == '.', negate = any;
    uint32_t t;
    if (!any && awq__gr_peek(b) == '^') negate = 1, b->at++;
    while (!any && !b->st && awq__gr_peek(b) != ']') {
        awq__gr_range r;
        if (awq__gr_peek(b) < 0) return awq__gr_fail(b, AWQ_E_FORMAT, at, "'[' without an end");
        r.lo = r.hi = awq__gr_char(b);
        if (awq__gr_peek(b) == '-' && b->at + 1 < b->n && b->s[b->at + 1] != ']') {
            b->at++;
            r.hi = awq__gr_char(b);
            if (r.hi < r.lo) return awq__gr_fail(b, AWQ_E_FORMAT, at, "a range that ends before it begins");
        }
        if (awq__gr_room(b, (void **)&b->ranges, &b->cap_ranges, b->n_ranges + 1, sizeof r))
            b->ranges[b->n_ranges++] = r;
    }
    if (!any) b->at++;
    if (!awq__gr_room(b, (void **)&b->ranges, &b->cap_ranges, b->n_ranges + 1, sizeof *b->ranges)) return 0;
    n = awq__gr_set(b->ranges + from, b->n_ranges - from, negate);
    b->n_ranges = from + n;
    t = awq__gr_tree_new(b, AWQ__GT_CLASS, at, (uint32_t)from);
    if (t) b->tree[t].hi = (uint32_t)n;
    return t;
}

static uint32_t awq__gr_number(awq__gr_build *b, uint32_t otherwise)
{
    uint32_t v = 0;
    size_t at = b->at;
    for (; awq__gr_peek(b) >= '0' && awq__gr_peek(b) <= '9'; b->at++) {
        v = v * 10 + (uint32_t)(awq__gr_peek(b) - '0');
        if (v > AWQ__GR_REPEAT)
            return awq__gr_fail(b, AWQ_E_LIMIT, at, "more than %d repetitions", AWQ__GR_REPEAT);
    }
    return b->at > at ? v : otherwise;
}

static uint32_t awq__gr_read_repeat(awq__gr_build *b, uint32_t what)
{
    size_t at = b->at;
    int c = b->s[b->at++];
    uint32_t lo = c == '+', hi = c == '?' ? 1 : AWQ__GR_ANY, t;
    if (c == '{') {
        awq__gr_space(b, 1);
        lo = hi = awq__gr_number(b, AWQ__GR_ANY);
        awq__gr_space(b, 1);
        if (awq__gr_peek(b) == ',') {
            b->at++;
            awq__gr_space(b, 1);
            hi = awq__gr_number(b, AWQ__GR_ANY);
            awq__gr_space(b, 1);
        }
        if (lo == AWQ__GR_ANY || lo > hi || awq__gr_peek(b) != '}')
            return awq__gr_fail(b, AWQ_E_FORMAT, at, "expected {2}, {2,} or {2,5}");
        b->at++;
    }
    t = awq__gr_tree_new(b, AWQ__GT_REPEAT, at, what);
    if (t) b->tree[t].lo = lo, b->tree[t].hi = hi;
    return t;
}

static uint32_t awq__gr_read_alternatives(awq__gr_build *b);

static uint32_t awq__gr_read_sequence(awq__gr_build *b)
{
    uint32_t t = awq__gr_tree_new(b, AWQ__GT_SEQUENCE, b->at, 0), item;
    int again = 0, repeat;
    while (!b->st) {
        int c = awq__gr_peek(b);
        size_t n = awq__gr_name(b), at = b->at;
        repeat = c == '*' || c == '+' || c == '?' || c == '{';
        if (c == '"') item = awq__gr_read_text(b);
        else if (c == '[' || c == '.') item = awq__gr_read_class(b);
        else if (n) {
            item = awq__gr_tree_new(b, AWQ__GT_CALL, at, (uint32_t)n); /* the rule comes later */
            b->at += n;
        } else if (c == '(') {
            if (++b->depth > AWQ__GR_NEST)
                return awq__gr_fail(b, AWQ_E_LIMIT, at, "more than %d parentheses within each other",
                                    AWQ__GR_NEST);
            b->at++;
            awq__gr_space(b, 1);
            item = awq__gr_read_alternatives(b);
            if (awq__gr_peek(b) != ')') return awq__gr_fail(b, AWQ_E_FORMAT, at, "'(' without an end");
            b->at++;
            b->depth--;
        } else if (repeat) {
            item = b->tree[t].a;
            if (!item || again)
                return awq__gr_fail(b, AWQ_E_FORMAT, at, again ? "'%c' behind a repetition needs parentheses"
                                                               : "nothing stands before '%c'", c);
            b->tree[t].a = b->tree[item].next;
            b->tree[item].next = 0;
            item = awq__gr_read_repeat(b, item);
        } else break;
        if (b->st) return 0;
        b->tree[item].next = b->tree[t].a;
        b->tree[t].a = item;
        again = repeat;
        awq__gr_space(b, b->depth > 0);
    }
    if (b->st) return 0;
    item = b->tree[t].a;
    return item && !b->tree[item].next ? item : t; /* a sequence of one is that one */
}

static uint32_t awq__gr_read_alternatives(awq__gr_build *b)
{
    uint32_t t = awq__gr_tree_new(b, AWQ__GT_ALTERNATIVES, b->at, 0), item;
    while (!b->st) {
        size_t end;
        item = awq__gr_read_sequence(b);
        if (b->st) return 0;
        b->tree[item].next = b->tree[t].a;
        b->tree[t].a = item;
        end = b->at;
        awq__gr_space(b, 1);
        if (awq__gr_peek(b) != '|') {
            b->at = b->depth ? b->at : end;
            break;
        }
        b->at++;
        awq__gr_space(b, 1);
    }
    if (b->st) return 0;
    item = b->tree[t].a;
    return b->tree[item].next ? t : item;
}

static int awq__gr_name_order(const void *a, const void *b)
{
    const awq__gr_text *x = (const awq__gr_text *)a, *y = (const awq__gr_text *)b;
    int order = x->n || y->n ? memcmp(x->s, y->s, AWQ__MIN(x->n, y->n)) : 0;
    if (order) return order;
    return x->n != y->n ? (x->n < y->n ? -1 : 1) : x->at < y->at ? -1 : x->at > y->at;
}

/* number of the rule of this name, or UINT32_MAX */
static uint32_t awq__gr_find(const awq__gr_build *b, const char *s, size_t n)
{
    size_t lo = 0, hi = b->n_names;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const awq__gr_text *x = &b->names[mid];
        int order = memcmp(x->s, s, AWQ__MIN(x->n, n));
        if (!order && x->n == n) return x->at;
        if (order < 0 || (!order && x->n < n)) lo = mid + 1;
        else hi = mid;
    }
    return UINT32_MAX;
}

static void awq__gr_read(awq__gr_build *b)
{
    size_t i;
    awq__gr_space(b, 1);
    while (!b->st && b->at < b->n) {
        awq__gr_rule r;
        memset(&r, 0, sizeof r);
        r.at = (uint32_t)b->at;
        r.len = (uint32_t)awq__gr_name(b);
        b->at += r.len;
        awq__gr_space(b, 0);
        if (!r.len || b->n - b->at < 3 || memcmp(b->s + b->at, "::=", 3))
            awq__gr_fail(b, AWQ_E_FORMAT, b->at, "expected %s", r.len ? "'::='" : "the name of a rule");
        b->at += 3;
        if (b->n_rules == AWQ__GR_RULES)
            awq__gr_fail(b, AWQ_E_LIMIT, r.at, "more than %d rules", AWQ__GR_RULES);
        if (b->st) return;
        awq__gr_space(b, 1);
        r.tree = awq__gr_read_alternatives(b);
        if (!b->st && b->at < b->n && b->s[b->at] != '\n' && b->s[b->at] != '\r')
            awq__gr_fail(b, AWQ_E_FORMAT, b->at, "'%c' is not expected here",
                         b->s[b->at] > ' ' && b->s[b->at] < 127 ? b->s[b->at] : '?');
        if (!awq__gr_room(b, (void **)&b->rules, &b->cap_rules, b->n_rules, sizeof r)) return;
        b->rules[b->n_rules++] = r;
        awq__gr_space(b, 1);
    }
    for (i = 0; i < b->n_rules; i++) {
        awq__gr_text x;
        x.s = b->s + b->rules[i].at;
        x.n = b->rules[i].len;
        x.at = (uint32_t)i;
        if (!awq__gr_room(b, (void **)&b->names, &b->cap_names, i, sizeof x)) return;
        b->names[b->n_names++] = x;
    }
    if (b->n_names) qsort(b->names, b->n_names, sizeof *b->names, awq__gr_name_order);
    for (i = 1; i < b->n_names; i++)
        if (b->names[i].n == b->names[i - 1].n && !memcmp(b->names[i].s, b->names[i - 1].s, b->names[i].n))
            awq__gr_fail(b, AWQ_E_FORMAT, b->rules[b->names[i].at].at, "the rule '%.*s' is there twice",
                         AWQ__GR_SHOW(b->names[i].n, b->names[i].s));
    for (i = 1; i < b->n_tree && !b->st; i++) {
        awq__gr_tree *t = &b->tree[i];
        uint32_t rule, n = t->a;
        if (t->kind != AWQ__GT_CALL) continue;
        rule = awq__gr_find(b, b->s + t->at, n);
        if (rule == UINT32_MAX)
            awq__gr_fail(b, AWQ_E_FORMAT, t->at, "there is no rule '%.*s'", AWQ__GR_SHOW(n, b->s + t->at));
        t->a = rule;
    }
    if (!b->st && awq__gr_find(b, "root", 4) == UINT32_MAX)
        awq__gr_fail(b, AWQ_E_FORMAT, b->n, "there is no rule 'root'");
}

/* --- a tree to nodes, from its end to its beginning: `next` is the node behind */
static uint32_t awq__gr_node_new(awq__gr_build *b, uint32_t kind, uint32_t a, uint32_t to)
{
    awq__gr_node *x;
    if (b->n_nodes == AWQ__GR_NODES)
        return awq__gr_fail(b, AWQ_E_LIMIT, b->at, "the rules so far take more than %d nodes", AWQ__GR_NODES);
    if (!awq__gr_room(b, (void **)&b->nodes, &b->cap_nodes, b->n_nodes, sizeof *b->nodes)) return 0;
    x = &b->nodes[b->n_nodes];
    x->kind = kind;
    x->a = a;
    x->b = to;
    return (uint32_t)b->n_nodes++;
}

static void awq__gr_arc_open(awq__gr_build *b, unsigned lo, unsigned hi, uint32_t to, size_t base)
{
    awq__gr_arc *x = b->n_open > base ? &b->open[b->n_open - 1] : NULL;
    if (x && x->to == to && x->hi + 1u == lo) {
        x->hi = (uint8_t)hi;
        return;
    }
    if (!awq__gr_room(b, (void **)&b->open, &b->cap_open, b->n_open, sizeof *x)) return;
    x = &b->open[b->n_open++];
    x->lo = (uint8_t)lo;
    x->hi = (uint8_t)hi;
    x->to = to;
}

static uint32_t awq__gr_bytes(awq__gr_build *b, size_t base) /* a node of the open arcs from `base` on */
{
    uint32_t node = awq__gr_node_new(b, AWQ__GN_BYTES, (uint32_t)b->n_arcs, (uint32_t)(b->n_open - base));
    size_t i;
    for (i = base; i < b->n_open; i++)
        if (awq__gr_room(b, (void **)&b->arcs, &b->cap_arcs, b->n_arcs, sizeof *b->arcs))
            b->arcs[b->n_arcs++] = b->open[i];
    b->n_open = base;
    return node;
}

static uint32_t awq__gr_byte(awq__gr_build *b, unsigned lo, unsigned hi, uint32_t to)
{
    size_t base = b->n_open;
    awq__gr_arc_open(b, lo, hi, to, base);
    return awq__gr_bytes(b, base);
}

static uint32_t awq__gr_string(awq__gr_build *b, const char *s, size_t n, uint32_t next)
{
    while (n && !b->st) {
        unsigned char c = (unsigned char)s[--n];
        next = awq__gr_byte(b, c, c, next);
    }
    return next;
}

/* Alternatives that are strings, sorted, alike in their first `depth` bytes, as a tree of bytes: otherwise a
   list of thousands would be a state of thousands of configurations. */
static uint32_t awq__gr_strings(awq__gr_build *b, size_t lo, size_t hi, size_t depth, uint32_t next)
{
    const awq__gr_text *x = b->names;
    size_t base = b->n_open, i, end, common = depth;
    uint32_t node;
    int ends = 0;
    for (; lo < hi && x[lo].n == depth; lo++) ends = 1;
    if (lo == hi || b->st) return next;
    if (hi - lo == 1) {
        node = awq__gr_string(b, x[lo].s + depth, x[lo].n - depth, next);
        return ends ? awq__gr_node_new(b, AWQ__GN_SPLIT, node, next) : node;
    }
    while (common < x[lo].n && x[lo].s[common] == x[hi - 1].s[common]) common++; /* the last is as long */
    if (common > depth) node = awq__gr_strings(b, lo, hi, common, next);
    else {
        for (i = lo; i < hi; i = end) {
            unsigned char c = (unsigned char)x[i].s[depth];
            for (end = i + 1; end < hi && (unsigned char)x[end].s[depth] == c; end++)
                ;
            node = awq__gr_strings(b, i, end, depth + 1, next);
            awq__gr_arc_open(b, c, c, node, base);
        }
        node = awq__gr_bytes(b, base);
    }
    node = awq__gr_string(b, x[lo].s + depth, common - depth, node);
    return ends ? awq__gr_node_new(b, AWQ__GN_SPLIT, node, next) : node;
}

typedef struct awq__gr_class {
    const awq__gr_range *r;
    size_t n;
    uint32_t least, next;
    uint32_t any[3]; /* nodes for 1 to 3 more bytes, whichever; 0: not made yet */
} awq__gr_class;

/* how much of lo..hi is in the class and is written in as many bytes as `least`: 0 none, 1 part, 2 all */
static int awq__gr_covers(const awq__gr_class *x, uint32_t lo, uint32_t hi)
{
    size_t a = 0, end = x->n;
    if (hi < x->least || (lo >= 0xd800 && hi < 0xe000)) return 0;
    while (a < end) {
        size_t mid = a + (end - a) / 2;
        if (x->r[mid].hi < lo) a = mid + 1;
        else end = mid;
    }
    if (a == x->n || x->r[a].lo > hi) return 0;
    if (lo < x->least || (lo < 0xe000 && hi >= 0xd800)) return 1; /* overlong forms and surrogates are out */
    return x->r[a].lo <= lo && x->r[a].hi >= hi ? 2 : 1;
}

/* an arc for one byte: the bits of the character so far are `prefix`, `more` bytes follow */
static void awq__gr_class_arc(awq__gr_build *b, awq__gr_class *x, unsigned byte, uint32_t prefix, int more,
                              size_t base)
{
    uint32_t lo = prefix << 6 * more, to = x->next;
    int covers = awq__gr_covers(x, lo, lo + (1u << 6 * more) - 1), i;
    b->steps++;
    if (!covers || b->st) return;
    if (covers == 2)
        for (i = 0; i < more; i++) {
            if (!x->any[i]) x->any[i] = awq__gr_byte(b, 0x80, 0xbf, to);
            to = x->any[i];
        }
    else {
        size_t inner = b->n_open;
        for (i = 0; i < 64; i++)
            awq__gr_class_arc(b, x, 0x80u + (unsigned)i, prefix << 6 | (uint32_t)i, more - 1, inner);
        to = awq__gr_bytes(b, inner);
    }
    awq__gr_arc_open(b, byte, byte, to, base);
}

static uint32_t awq__gr_compile_class(awq__gr_build *b, const awq__gr_tree *t, uint32_t next)
{
    awq__gr_class x;
    size_t base = b->n_open;
    unsigned c;
    memset(&x, 0, sizeof x);
    x.r = b->ranges + t->a;
    x.n = t->hi;
    x.next = next;
    for (c = 0; c < 0x80; c++) awq__gr_class_arc(b, &x, c, c, 0, base);
    for (x.least = 0x80, c = 0xc2; c < 0xe0; c++) awq__gr_class_arc(b, &x, c, c & 0x1f, 1, base);
    for (x.least = 0x800; c < 0xf0; c++) awq__gr_class_arc(b, &x, c, c & 0x0f, 2, base);
    for (x.least = 0x10000; c < 0xf5; c++) awq__gr_class_arc(b, &x, c, c & 7, 3, base);
    return awq__gr_bytes(b, base);
}

static uint32_t awq__gr_compile(awq__gr_build *b, uint32_t tree, uint32_t next)
{
    awq__gr_tree t = b->tree[tree];
    uint32_t i, k, node;
    b->at = t.at;
    if (++b->steps > 16 * AWQ__GR_NODES)
        awq__gr_fail(b, AWQ_E_LIMIT, t.at, "the repetitions and classes so far take more than %d steps",
                     16 * AWQ__GR_NODES);
    if (b->st) return 0;
    switch (t.kind) {
    case AWQ__GT_TEXT: return t.hi ? awq__gr_string(b, b->bytes.data + t.a, t.hi, next) : next;
    case AWQ__GT_CLASS: return awq__gr_compile_class(b, &t, next);
    case AWQ__GT_CALL: return awq__gr_node_new(b, AWQ__GN_CALL, t.a, next);
    case AWQ__GT_SEQUENCE:
        for (i = t.a; i; i = b->tree[i].next) next = awq__gr_compile(b, i, next);
        return next;
    case AWQ__GT_REPEAT:
        if (t.hi == AWQ__GR_ANY) {
            uint32_t loop = awq__gr_node_new(b, AWQ__GN_SPLIT, 0, next);
            node = awq__gr_compile(b, t.a, loop);
            if (b->st) return 0;
            b->nodes[loop].a = node;
            next = t.lo ? node : loop;
            k = t.lo ? t.lo - 1 : 0;
        } else {
            uint32_t out = next;
            for (i = t.lo; i < t.hi && !b->st; i++) {
                node = awq__gr_compile(b, t.a, next);
                next = awq__gr_node_new(b, AWQ__GN_SPLIT, node, out);
            }
            k = t.lo;
        }
        for (i = 0; i < k && !b->st; i++) next = awq__gr_compile(b, t.a, next);
        return next;
    default: {
        size_t base = b->n_names;
        node = UINT32_MAX;
        for (i = t.a; i && !b->st; i = b->tree[i].next) {
            if (b->tree[i].kind == AWQ__GT_TEXT) {
                awq__gr_text x;
                x.s = b->tree[i].hi ? b->bytes.data + b->tree[i].a : "";
                x.n = b->tree[i].hi;
                x.at = i;
                if (awq__gr_room(b, (void **)&b->names, &b->cap_names, b->n_names, sizeof x))
                    b->names[b->n_names++] = x;
                continue;
            }
            k = awq__gr_compile(b, i, next);
            node = node == UINT32_MAX ? k : awq__gr_node_new(b, AWQ__GN_SPLIT, k, node);
        }
        if (b->n_names > base && !b->st) {
            qsort(b->names + base, b->n_names - base, sizeof *b->names, awq__gr_name_order);
            k = awq__gr_strings(b, base, b->n_names, 0, next);
            node = node == UINT32_MAX ? k : awq__gr_node_new(b, AWQ__GN_SPLIT, k, node);
        }
        b->n_names = base;
        return node;
    }
    }
}

/* --- what the nodes are good for */
static uint32_t *awq__gr_array(awq__gr_build *b, size_t n) /* zeroed, until the end of the build */
{
    uint32_t *p = b->st ? NULL : (uint32_t *)awq__arena_alloc(b->ctx, &b->arena, n + 1, sizeof *p);
    if (!p && !b->st) b->st = AWQ_E_MEMORY;
    return p;
}

static void awq__gr_link(awq__gr_build *b) /* calls go to nodes now, and links back from every node */
{
    size_t i, k, total = 0;
    int pass;
    for (i = 0; i < b->n_nodes; i++)
        if (b->nodes[i].kind == AWQ__GN_CALL) b->nodes[i].a = b->rules[b->nodes[i].a].entry;
    b->first = awq__gr_array(b, b->n_nodes + 1);
    for (pass = 0; pass < 2 && !b->st; pass++) { /* count in first[to + 2], place at first[to + 1] */
        for (i = 0; i < b->n_nodes; i++) {
            const awq__gr_node *x = &b->nodes[i];
            size_t n = x->kind == AWQ__GN_BYTES ? x->b : x->kind == AWQ__GN_END ? 0 : 2;
            for (k = 0; k < n; k++) {
                uint32_t to = x->kind == AWQ__GN_BYTES ? b->arcs[x->a + k].to : k ? x->b : x->a;
                if (pass) b->links[b->first[to + 1]++] = (uint32_t)i;
                else b->first[to + 2]++, total++;
            }
        }
        if (pass) break;
        for (i = 2; i < b->n_nodes + 2; i++) b->first[i] += b->first[i - 1];
        b->links = awq__gr_array(b, total);
    }
}

/* The height of every node, UINT32_MAX where END is out of reach; with `silent` only over ways that read
   nothing. Nodes are settled from the lowest height on; one list is for this height, the other for the next. */
static void awq__gr_heights(awq__gr_build *b, int silent)
{
    uint32_t *h = awq__gr_array(b, b->n_nodes), *list[2], level, k;
    size_t n[2] = {1, 0}, i;
    int now = 0;
    list[0] = awq__gr_array(b, b->n_nodes);
    list[1] = awq__gr_array(b, b->n_nodes);
    if (b->st) return;
    for (i = 1; i < b->n_nodes; i++) h[i] = UINT32_MAX; /* node 0 is END: list[0][0], h[0] = 0 */
    for (level = 0; n[now]; level++, now = !now) {
        for (i = 0; i < n[now]; i++) {
            uint32_t node = list[now][i];
            for (k = b->first[node]; k < b->first[node + 1]; k++) {
                uint32_t from = b->links[k];
                const awq__gr_node *x = &b->nodes[from];
                int to = now;
                if (h[from] != UINT32_MAX || (silent && x->kind == AWQ__GN_BYTES)) continue;
                if (x->kind == AWQ__GN_CALL) {
                    if (h[x->a] == UINT32_MAX || h[x->b] == UINT32_MAX) continue;
                    if (x->b && h[x->a] == level) to = !now; /* the return is one more */
                }
                h[from] = level + (to != now);
                list[to][n[to]++] = from;
            }
        }
        n[now] = 0;
    }
    b->height = h;
}

/* Refuse rules that may call themselves before they read a byte. height: that of `silent`. */
static void awq__gr_left_recursion(awq__gr_build *b)
{
    uint32_t *seen = awq__gr_array(b, b->n_nodes), *stack = awq__gr_array(b, 2 * b->n_nodes);
    uint32_t *rule_of = awq__gr_array(b, b->n_nodes), *first = awq__gr_array(b, b->n_rules);
    uint32_t *at = awq__gr_array(b, b->n_rules), *path = awq__gr_array(b, b->n_rules);
    uint32_t *edges = awq__gr_array(b, b->n_nodes); /* a node calls one rule at most */
    uint8_t *state = (uint8_t *)awq__gr_array(b, b->n_rules); /* 1: on the path, 2: done */
    size_t r, n, n_edges = 0, depth;
    if (b->st) return;
    for (r = 0; r < b->n_rules; r++) rule_of[b->rules[r].entry] = (uint32_t)r;
    for (r = 0; r < b->n_rules; r++) { /* the rules that each one may call first */
        first[r] = (uint32_t)n_edges;
        for (n = 0, stack[n++] = b->rules[r].entry; n;) {
            uint32_t node = stack[--n];
            const awq__gr_node *x = &b->nodes[node];
            if (!node || seen[node]) continue; /* every node but END belongs to one rule */
            seen[node] = 1;
            if (x->kind == AWQ__GN_SPLIT) stack[n++] = x->a, stack[n++] = x->b;
            if (x->kind != AWQ__GN_CALL) continue;
            if (x->a) edges[n_edges++] = rule_of[x->a]; /* a rule whose entry is END calls nothing */
            if (b->height[x->a] != UINT32_MAX) stack[n++] = x->b;
        }
    }
    first[b->n_rules] = (uint32_t)n_edges;
    for (r = 0; r < b->n_rules; r++) {
        if (state[r]) continue;
        for (depth = 0, path[depth++] = (uint32_t)r, state[r] = 1, at[r] = first[r]; depth;) {
            uint32_t from = path[depth - 1], to;
            if (at[from] == first[from + 1]) {
                state[from] = 2;
                depth--;
                continue;
            }
            to = edges[at[from]++];
            if (state[to] == 1) {
                awq__gr_fail(b, AWQ_E_UNSUPPORTED, b->rules[to].at, "left recursion: the rule '%.*s' may call "
                             "itself before it reads anything",
                             AWQ__GR_SHOW(b->rules[to].len, b->s + b->rules[to].at));
                return;
            }
            if (!state[to]) state[to] = 1, at[to] = first[to], path[depth++] = to;
        }
    }
}

/* --- the automaton */
typedef struct awq__gr_frame { /* a stack: a node to return to, on another stack; 0 is the empty one */
    uint32_t ret, up, depth, link; /* link: next in its hash chain; while tables are emptied, its new number */
} awq__gr_frame;

typedef struct awq__gr_seen { /* slot of the set of configurations of the state being made */
    uint64_t item;
    uint32_t stamp;
} awq__gr_seen;

typedef struct awq__gr_state {
    uint32_t at, n;  /* its configurations in the pool; unused: at is the next unused state */
    uint32_t hash;
    int32_t hold, mask; /* mask: which of the masks kept is its; -1: none */
    int accepts;
} awq__gr_state;

struct awq_grammar {
    awq__arena arena; /* owns everything below */
    char *text;
    const awq__gr_node *nodes;
    const awq__gr_arc *arcs;
    const uint32_t *height;
    /* configurations: node << 32 | stack, where the node is one of BYTES, or END with the empty stack */
    uint64_t *pool, *list; /* pool: for each state its number, then its configurations; list: of a new state */
    awq__gr_seen *seen;
    awq__gr_frame *frames;
    uint32_t *chains;          /* [frame_mask + 1] first frame with this hash */
    awq__gr_state *states;     /* [max_states + 1], 0 unused */
    uint16_t *rows, *slots;    /* rows [max_states + 1, 256]; slots [slot_mask + 1]: states by their hash */
    uint32_t max_pool, max_list, max_frames, max_states, seen_mask, frame_mask, slot_mask;
    uint32_t n_pool, n_list, n_frames, n_states, unused, stamp;
    int64_t work;
    int32_t start;
    uint16_t path[AWQ__GR_TOKEN + 2]; /* states on the way to the token that is tried */
    /* masks kept, of one vocabulary */
    uint32_t *masks;
    size_t mask_words; /* room */
    uint64_t vocab;
    int64_t vocab_size, mask_count[AWQ__GR_MASKS];
    uint16_t mask_owner[AWQ__GR_MASKS];
    int32_t n_masks, next_mask;
};

enum { AWQ__GR_FULL = -1, AWQ__GR_MANY = -2 };

static uint32_t awq__gr_mix(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
    return (uint32_t)(x >> 32);
}

/* the stack `up` with one more return; 0: no room */
static uint32_t awq__gr_frame_of(awq_grammar *g, uint32_t ret, uint32_t up)
{
    uint32_t *chain = &g->chains[awq__gr_mix((uint64_t)ret << 32 | up) & g->frame_mask], f;
    for (f = *chain; f; f = g->frames[f].link)
        if (g->frames[f].ret == ret && g->frames[f].up == up) return f;
    if (g->n_frames == g->max_frames) return 0;
    f = ++g->n_frames;
    g->frames[f].ret = ret;
    g->frames[f].up = up;
    g->frames[f].depth = g->frames[up].depth + 1;
    g->frames[f].link = *chain;
    *chain = f;
    return f;
}

/* a configuration into the list unless it is there or cannot be finished; 0: no room */
static int awq__gr_push(awq_grammar *g, uint32_t node, uint32_t stack)
{
    uint64_t item = (uint64_t)node << 32 | stack;
    uint32_t i;
    if (g->height[node] > AWQ__GR_STACK - g->frames[stack].depth) return 1;
    for (i = awq__gr_mix(item) & g->seen_mask; g->seen[i].stamp == g->stamp; i = (i + 1) & g->seen_mask)
        if (g->seen[i].item == item) return 1;
    if (g->n_list == g->max_list) return 0;
    g->seen[i].item = item;
    g->seen[i].stamp = g->stamp;
    g->list[g->n_list++] = item;
    return 1;
}

static void awq__gr_begin(awq_grammar *g) /* an empty list */
{
    g->n_list = 0;
    if (++g->stamp == 0) {
        memset(g->seen, 0, ((size_t)g->seen_mask + 1) * sizeof *g->seen);
        g->stamp = 1;
    }
}

static void awq__gr_enter(awq_grammar *g, uint32_t state) /* into the hash table, with an empty row */
{
    awq__gr_state *s = &g->states[state];
    uint32_t i;
    for (i = s->hash & g->slot_mask; g->slots[i]; i = (i + 1) & g->slot_mask)
        ;
    g->slots[i] = (uint16_t)state;
    memset(g->rows + (size_t)state * 256, 0xff, 256 * sizeof *g->rows);
}

/* Follows everything that reads nothing, keeps the configurations that read or accept, and gives the state
   that they are: 0 for none, AWQ__GR_FULL or AWQ__GR_MANY when there is no room. */
static int32_t awq__gr_close(awq_grammar *g)
{
    uint32_t i, k, n = 0, hash = 0, slot;
    awq__gr_state *s;
    for (i = 0; i < g->n_list; i++) {
        uint32_t id = (uint32_t)(g->list[i] >> 32), stack = (uint32_t)g->list[i], to;
        const awq__gr_node *x = &g->nodes[id];
        int ok = 1;
        if (x->kind == AWQ__GN_SPLIT) ok = awq__gr_push(g, x->a, stack) && awq__gr_push(g, x->b, stack);
        else if (x->kind == AWQ__GN_END && stack)
            ok = awq__gr_push(g, g->frames[stack].ret, g->frames[stack].up);
        else if (x->kind == AWQ__GN_CALL && !x->b) ok = awq__gr_push(g, x->a, stack);
        else if (x->kind == AWQ__GN_CALL) {
            to = awq__gr_frame_of(g, x->b, stack);
            if (!to) return AWQ__GR_FULL;
            ok = awq__gr_push(g, x->a, to);
        } else {
            hash += awq__gr_mix(g->list[i]); /* the order does not matter */
            g->list[n++] = g->list[i];
        }
        if (!ok) return AWQ__GR_MANY;
    }
    g->work += g->n_list;
    g->n_list = n;
    if (!n) return 0;
    for (slot = hash & g->slot_mask; g->slots[slot]; slot = (slot + 1) & g->slot_mask) {
        s = &g->states[g->slots[slot]];
        if (s->hash != hash || s->n != n) continue;
        for (i = 0; i < n; i++) { /* as many, and each of them in the list */
            uint64_t item = g->pool[s->at + i];
            for (k = awq__gr_mix(item) & g->seen_mask; g->seen[k].stamp == g->stamp; k = (k + 1) & g->seen_mask)
                if (g->seen[k].item == item) break;
            if (g->seen[k].stamp != g->stamp) break;
        }
        if (i == n) return g->slots[slot];
    }
    if (!g->unused || g->max_pool - g->n_pool < n + 1) return AWQ__GR_FULL;
    k = g->unused;
    s = &g->states[k];
    g->unused = s->at;
    g->n_states++;
    g->pool[g->n_pool++] = k;
    s->at = g->n_pool;
    s->n = n;
    s->hash = hash;
    s->hold = 0;
    s->mask = -1;
    s->accepts = 0;
    for (i = 0; i < n; i++) {
        s->accepts |= g->list[i] == 0; /* END, empty stack */
        g->pool[g->n_pool++] = g->list[i];
    }
    awq__gr_enter(g, k);
    return (int32_t)k;
}

/* the state behind a byte, also entered in the row for all bytes around it that do the same */
static int32_t awq__gr_step(awq_grammar *g, uint32_t state, unsigned byte)
{
    const awq__gr_state *s = &g->states[state];
    unsigned lo = 0, hi = 255, c;
    uint32_t i, k;
    int32_t to;
    awq__gr_begin(g);
    for (i = 0; i < s->n; i++) {
        uint64_t item = g->pool[s->at + i];
        const awq__gr_node *x = &g->nodes[item >> 32];
        for (k = 0; x->kind == AWQ__GN_BYTES && k < x->b; k++) {
            const awq__gr_arc *arc = &g->arcs[x->a + k];
            if (arc->hi < byte) lo = AWQ__MAX(lo, arc->hi + 1u);
            else if (arc->lo > byte) {
                hi = AWQ__MIN(hi, arc->lo - 1u);
                break; /* arcs are in order */
            } else {
                lo = AWQ__MAX(lo, arc->lo);
                hi = AWQ__MIN(hi, arc->hi);
                if (!awq__gr_push(g, arc->to, (uint32_t)item)) return AWQ__GR_MANY;
            }
        }
    }
    g->work += s->n;
    to = awq__gr_close(g);
    for (c = lo; to >= 0 && c <= hi; c++) g->rows[(size_t)state * 256 + c] = (uint16_t)to;
    return to;
}

/* Drops all states but those held and the n in `keep`, and the stacks that only they had. 0: little was won. */
static int awq__gr_empty(awq_grammar *g, const uint16_t *keep, size_t n)
{
    uint32_t from, to, i, f, m = 0;
    size_t k;
    for (k = 0; k < n; k++) g->states[keep[k]].hold++;
    memset(g->slots, 0, ((size_t)g->slot_mask + 1) * sizeof *g->slots);
    memset(g->chains, 0, ((size_t)g->frame_mask + 1) * sizeof *g->chains);
    for (f = 1; f <= g->n_frames; f++) g->frames[f].link = 0;
    for (from = to = 0; from < g->n_pool; from += i + 1) { /* close up the pool, mark the stacks in use */
        uint32_t id = (uint32_t)g->pool[from];
        awq__gr_state *s = &g->states[id];
        i = s->n;
        if (s->hold <= 0) {
            if (s->mask >= 0) g->mask_owner[s->mask] = 0;
            s->at = g->unused;
            g->unused = id;
            g->n_states--;
            continue;
        }
        memmove(g->pool + to, g->pool + from, ((size_t)s->n + 1) * sizeof *g->pool);
        s->at = to + 1;
        to += s->n + 1;
        for (m = 0; m < s->n; m++)
            for (f = (uint32_t)g->pool[s->at + m]; f && !g->frames[f].link; f = g->frames[f].up)
                g->frames[f].link = 1;
    }
    g->n_pool = to;
    for (m = 0, f = 1; f <= g->n_frames; f++) /* new numbers; a stack's parent has a lower one */
        if (g->frames[f].link) {
            g->frames[f].link = ++m;
            g->frames[f].up = g->frames[g->frames[f].up].link;
        }
    for (from = 0; from < g->n_pool; from += i + 1) {
        uint32_t id = (uint32_t)g->pool[from];
        i = g->states[id].n;
        g->states[id].hash = 0;
        for (k = from + 1; k <= from + i; k++) {
            uint64_t item = g->pool[k];
            g->pool[k] = item >> 32 << 32 | g->frames[(uint32_t)item].link;
            g->states[id].hash += awq__gr_mix(g->pool[k]);
        }
        awq__gr_enter(g, id);
    }
    for (f = 1; f <= g->n_frames; f++)
        if ((to = g->frames[f].link) != 0) {
            awq__gr_frame x = g->frames[f];
            uint32_t *chain = &g->chains[awq__gr_mix((uint64_t)x.ret << 32 | x.up) & g->frame_mask];
            x.link = *chain;
            g->frames[to] = x;
            *chain = to;
        }
    g->n_frames = m;
    for (k = 0; k < n; k++) g->states[keep[k]].hold--;
    return g->n_states < g->max_states - g->max_states / 8 && g->n_frames < g->max_frames - g->max_frames / 8
           && g->n_pool < g->max_pool - g->max_pool / 8;
}

/* A step that is not known yet, from the last of the n states in `keep`, all of which stay. */
static awq_status awq__gr_go(awq_ctx *ctx, awq_grammar *g, const uint16_t *keep, size_t n, unsigned byte,
                             uint32_t *next)
{
    int32_t to = awq__gr_step(g, keep[n - 1], byte);
    if (to == AWQ__GR_FULL && awq__gr_empty(g, keep, n)) to = awq__gr_step(g, keep[n - 1], byte);
    if (to == AWQ__GR_FULL)
        return awq__fail(ctx, AWQ_E_LIMIT, "grammar: the %lu states in use and what they need do not fit into "
                         "its memory; give awq_grammar_desc more", (unsigned long)g->n_states);
    if (to == AWQ__GR_MANY)
        return awq__fail(ctx, AWQ_E_LIMIT, "grammar: a text can be read in more than %lu ways at once; give "
                         "awq_grammar_desc more memory", (unsigned long)g->max_list);
    if (g->work > AWQ__GR_WORK)
        return awq__fail(ctx, AWQ_E_LIMIT, "grammar: what may follow takes more than %d steps to find out",
                         AWQ__GR_WORK);
    *next = (uint32_t)to;
    return AWQ_OK;
}

/* States are numbers > 0; 0 is dead: nothing can follow. A number stays valid while it is held, or until the
   next call that may make states. */
static awq_status awq__gr_start(awq_ctx *ctx, awq_grammar *g, int32_t *state)
{
    (void)ctx;
    *state = g->start;
    return AWQ_OK;
}

static void awq__gr_hold(awq_grammar *g, int32_t state, int by)
{
    if (state) g->states[state].hold += by;
}

static int awq__gr_accepts(const awq_grammar *g, int32_t state) { return state && g->states[state].accepts; }

static int awq__gr_ends(const awq_grammar *g, int32_t state) /* accepts, and nothing can follow */
{
    return state && g->states[state].accepts && g->states[state].n == 1;
}

/* the state n bytes further on */
static awq_status awq__gr_walk(awq_ctx *ctx, awq_grammar *g, int32_t state, const char *s, size_t n,
                               int32_t *next)
{
    uint32_t now = (uint32_t)state;
    size_t i;
    g->work = -1000 * (int64_t)n; /* that much for each byte on top */
    for (i = 0; i < n && now; i++) {
        uint16_t from = (uint16_t)now;
        now = g->rows[(size_t)now * 256 + (unsigned char)s[i]];
        if (now == AWQ__GR_UNKNOWN) AWQ__TRY(awq__gr_go(ctx, g, &from, 1, (unsigned char)s[i], &now));
    }
    *next = (int32_t)now;
    return AWQ_OK;
}

static awq_status awq__gr_next(awq_ctx *ctx, awq_grammar *g, int32_t state, unsigned char byte, int32_t *next)
{
    return awq__gr_walk(ctx, g, state, (const char *)&byte, 1, next);
}

/* --- the vocabulary: tokens as bytes, sorted, as a tree in preorder; may be shared */
typedef struct awq__gr_branch { /* a byte behind those of its parent */
    uint32_t end;   /* the first node that is not below */
    uint32_t first; /* tokens of the nodes before */
    uint16_t depth; /* bytes before this one */
    uint8_t byte;
} awq__gr_branch;

typedef struct awq__gr_vocab {
    awq__arena arena; /* owns everything below */
    uint64_t hash;    /* of the tokenizer */
    int64_t size;
    int drops;        /* leading spaces that decoding takes from a text: 0, 1, 2: more or other ones too */
    char *bytes;
    uint32_t *at;     /* [size + 1] */
    int32_t *ids;     /* tokens that have bytes, in their order */
    awq__gr_branch *tree; /* [n_tree + 1] */
    uint32_t n_tree;
} awq__gr_vocab;

static void awq__gr_vocab_free(awq_ctx *ctx, awq__gr_vocab *v)
{
    if (!v) return;
    awq__arena_free(ctx, &v->arena);
    awq__free(ctx, v);
}

/* the raw bytes a token stands for inside a text, which may be part of a character; *bytes 0: none */
static const char *awq__gr_token(const awq__gr_vocab *v, int32_t id, size_t *bytes)
{
    *bytes = id < 0 || id >= v->size ? 0 : v->at[id + 1] - v->at[id];
    return *bytes ? v->bytes + v->at[id] : "";
}

static int awq__gr_drops_space(const awq__gr_vocab *v) { return v->drops != 0; }

/* Refuse decoders under which a token's bytes depend on the tokens around it. */
static awq_status awq__gr_vocab_check(awq_ctx *ctx, const awq_tokenizer *t, int *drops)
{
    int i, fused = 0, ok = t->has_decoder; /* else decoding puts spaces between tokens */
    for (*drops = i = 0; i < t->decoder.n && ok; i++) {
        const awq__tok_step *s = &t->decoder.at[i];
        int space = s->len == 1 && s->text[0] == ' ';
        switch (s->kind) {
        case AWQ__STEP_UNBYTES: ok = !fused; fused = 1; break;
        case AWQ__STEP_FUSE: fused = 1; break;
        case AWQ__STEP_STRIP:
            if (!fused) break;
            ok = space && !s->stop;
            if (s->start) *drops = AWQ__MAX(*drops, s->start > 1 ? 2 : 1);
            break;
        case AWQ__STEP_REPLACE:
            ok = !fused;
            if (s->drop_first) *drops = 2;
            break;
        default: ok = !fused && s->kind == AWQ__STEP_FALLBACK;
        }
    }
    if (ok) return AWQ_OK;
    return awq__fail(ctx, AWQ_E_UNSUPPORTED, "grammar: a tokenizer is not supported whose decoder makes the "
                     "text of a token depend on those around it");
}

/* the bytes of one token into w->now.text */
static awq_status awq__gr_vocab_token(awq__tok_work *w, const awq__tok_token *k)
{
    const awq_tokenizer *t = w->t;
    int i, b, fused = 0;
    AWQ__TRY(awq__tok_set_text(w, k->shown, k->shown_len));
    for (i = 0; i < t->decoder.n; i++) {
        const awq__tok_step *step = &t->decoder.at[i];
        const char *s = w->now.text.data;
        size_t n = w->now.text.len;
        char c;
        awq__tok_clear(&w->next);
        switch (step->kind) {
        case AWQ__STEP_UNBYTES: awq__tok_unbytes(w, s, n); fused = 1; break;
        case AWQ__STEP_FUSE: fused = 1; continue;
        case AWQ__STEP_STRIP:
            if (fused) continue;
            awq__tok_strip(w, step, s, n);
            break;
        case AWQ__STEP_REPLACE: awq__tok_replace(w, step, s, n, 0); break;
        default:
            b = awq__tok_byte_token(s, n);
            c = (char)b;
            awq__tok_add(w, b < 0 ? s : &c, b < 0 ? n : 1);
        }
        if (w->next.text.failed) return w->ctx->err.status;
        awq__tok_swap(w);
    }
    return AWQ_OK;
}

/* The tree of the n tokens in `sorted`; without `tree` only its size. */
static uint32_t awq__gr_vocab_tree(const awq__gr_text *sorted, size_t n, awq__gr_branch *tree)
{
    uint32_t open[AWQ__GR_TOKEN], count = 0;
    size_t i, d, common, depth = 0; /* open[0 .. depth): the way to the newest node */
    for (i = 0; i < n; i++) {
        const awq__gr_text *x = &sorted[i];
        for (common = 0; i && common < AWQ__MIN(x->n, sorted[i - 1].n); common++)
            if (x->s[common] != sorted[i - 1].s[common]) break;
        for (; depth > common; depth--)
            if (tree) tree[open[depth - 1]].end = count;
        for (d = common; d < x->n; d++, count++) {
            open[depth++] = count;
            if (!tree) continue;
            tree[count].first = (uint32_t)i;
            tree[count].depth = (uint16_t)d;
            tree[count].byte = (uint8_t)x->s[d];
        }
    }
    for (; tree && depth; depth--) tree[open[depth - 1]].end = count;
    if (tree) tree[count].first = (uint32_t)n;
    return count;
}

/* vocab_size: of the model; ids beyond the tokenizer's have no bytes */
static awq_status awq__gr_vocab_create(awq_ctx *ctx, const awq_tokenizer *t, int64_t vocab_size,
                                       awq__gr_vocab **vocab)
{
    awq__gr_vocab *v;
    awq__tok_work w;
    awq__text bytes = {NULL, 0, 0, 0};
    awq__gr_text *sorted = NULL;
    awq_status st;
    int64_t id, n = 0;
    int drops;
    AWQ__TRY(awq__gr_vocab_check(ctx, t, &drops));
    if (vocab_size < 1 || vocab_size > AWQ__TOK_MAX_IDS)
        return awq__fail(ctx, AWQ_E_ARG, "grammar: a vocabulary of %lld tokens, expected 1 to %d",
                         (long long)vocab_size, AWQ__TOK_MAX_IDS);
    v = AWQ__NEW(ctx, awq__gr_vocab, 1);
    if (!v) return AWQ_E_MEMORY;
    awq__tok_work_init(&w, ctx, t, SIZE_MAX / 4);
    v->hash = t->hash;
    v->size = vocab_size;
    v->drops = drops;
    v->at = (uint32_t *)awq__arena_alloc(ctx, &v->arena, (size_t)vocab_size + 1, sizeof *v->at);
    v->ids = (int32_t *)awq__arena_alloc(ctx, &v->arena, (size_t)vocab_size, sizeof *v->ids);
    st = v->at && v->ids ? AWQ_OK : AWQ_E_MEMORY;
    for (id = 0; id < vocab_size && !st; id++) {
        const awq__tok_token *k = id < t->n_ids ? &t->tokens[id] : NULL;
        if (k && (k->flags & AWQ__TOK_PRESENT) && !(k->flags & AWQ__TOK_SKIP)) {
            st = awq__gr_vocab_token(&w, k);
            if (!st && w.now.text.len <= AWQ__GR_TOKEN)
                awq__text_add(ctx, &bytes, w.now.text.data, w.now.text.len);
        }
        if (!st && bytes.failed) st = AWQ_E_MEMORY;
        if (!st && bytes.len > UINT32_MAX / 2)
            st = awq__fail(ctx, AWQ_E_LIMIT, "grammar: the tokens have more than 2 GiB");
        v->at[id + 1] = (uint32_t)bytes.len;
    }
    if (!st) {
        v->bytes = awq__arena_text(ctx, &v->arena, bytes.data, bytes.len);
        sorted = AWQ__NEW_RAW(ctx, awq__gr_text, vocab_size);
        if (!v->bytes || !sorted) st = AWQ_E_MEMORY;
    }
    for (id = 0; id < vocab_size && !st; id++) {
        sorted[n].s = v->bytes + v->at[id];
        sorted[n].n = v->at[id + 1] - v->at[id];
        sorted[n].at = (uint32_t)id;
        n += sorted[n].n > 0;
    }
    if (!st) {
        if (n) qsort(sorted, (size_t)n, sizeof *sorted, awq__gr_name_order);
        for (id = 0; id < n; id++) v->ids[id] = (int32_t)sorted[id].at;
        v->n_tree = awq__gr_vocab_tree(sorted, (size_t)n, NULL);
        v->tree = (awq__gr_branch *)awq__arena_alloc(ctx, &v->arena, (size_t)v->n_tree + 1, sizeof *v->tree);
        if (!v->tree) st = AWQ_E_MEMORY;
        else awq__gr_vocab_tree(sorted, (size_t)n, v->tree);
    }
    awq__free(ctx, sorted);
    awq__text_free(ctx, &bytes);
    awq__tok_work_free(&w);
    if (st) awq__gr_vocab_free(ctx, v);
    else *vocab = v;
    return st;
}

/* --- masks */

/* whether decoding would take more of this token at the start of a text than one leading space */
static int awq__gr_drops_more(const awq__gr_vocab *v, const char *s, size_t n)
{
    return v->drops > 1 && n && memchr(s + 1, ' ', n - 1) != NULL;
}

/* The state behind a token, 0 when it does not fit. at_start: nothing of the answer is there yet, and what
   awq__gr_drops_space says happens to this token: a leading space of it is no part of the text. */
static awq_status awq__gr_token_fits(awq_ctx *ctx, awq_grammar *g, int32_t state, int at_start,
                                     const awq__gr_vocab *v, int32_t id, int32_t *next)
{
    size_t n, skip;
    const char *s = awq__gr_token(v, id, &n);
    skip = n && at_start && v->drops && s[0] == ' ';
    if (!n || (at_start && awq__gr_drops_more(v, s, n))) {
        *next = 0;
        return AWQ_OK;
    }
    return awq__gr_walk(ctx, g, state, s + skip, n - skip, next);
}

/* sets the bits of the tokens from..to of the order of the tree */
static void awq__gr_mask_set(const awq__gr_vocab *v, uint32_t from, uint32_t to, uint32_t *mask, int64_t *count)
{
    *count += to - from;
    for (; from < to; from++) mask[v->ids[from] >> 5] |= 1u << (v->ids[from] & 31);
}

/* Sets the bits of the tokens of tree[k .. end) that fit: all but those below the nodes where a text ends up
   dead. g->path[d] is the state before byte d. */
static awq_status awq__gr_mask_tree(awq_ctx *ctx, awq_grammar *g, const awq__gr_vocab *v, uint32_t k,
                                    uint32_t end, uint32_t *mask, int64_t *count)
{
    uint32_t from = v->tree[k].first;
    while (k < end) {
        const awq__gr_branch *x = &v->tree[k];
        uint32_t next = g->rows[(size_t)g->path[x->depth] * 256 + x->byte];
        if (next == AWQ__GR_UNKNOWN) AWQ__TRY(awq__gr_go(ctx, g, g->path, x->depth + 1u, x->byte, &next));
        if (!next) {
            awq__gr_mask_set(v, from, x->first, mask, count);
            k = x->end;
            from = v->tree[k].first;
            continue;
        }
        g->path[x->depth + 1] = (uint16_t)next;
        k++;
    }
    awq__gr_mask_set(v, from, v->tree[end].first, mask, count);
    return AWQ_OK;
}

/* Bit i of mask [(vocab_size + 31) / 32] is set when token i fits; *count of them. */
static awq_status awq__gr_mask(awq_ctx *ctx, awq_grammar *g, int32_t state, int at_start,
                               const awq__gr_vocab *v, uint32_t *mask, int64_t *count)
{
    size_t words = (size_t)(v->size + 31) / 32;
    uint32_t k, end;
    int64_t n = 0, id;
    int32_t kept = -1;
    at_start = at_start && v->drops;
    if (g->vocab != v->hash || g->vocab_size != v->size) { /* those kept are of another vocabulary */
        for (k = 0; k < (uint32_t)g->n_masks; k++)
            if (g->mask_owner[k]) g->states[g->mask_owner[k]].mask = -1;
        memset(g->mask_owner, 0, sizeof g->mask_owner);
        g->vocab = v->hash;
        g->vocab_size = v->size;
        g->n_masks = (int32_t)AWQ__MIN(g->mask_words / words, (size_t)AWQ__GR_MASKS);
        g->next_mask = 0;
    }
    if (state && !at_start) kept = g->states[state].mask;
    if (kept >= 0) {
        memcpy(mask, g->masks + (size_t)kept * words, words * sizeof *mask);
        *count = g->mask_count[kept];
        return AWQ_OK;
    }
    memset(mask, 0, words * sizeof *mask);
    *count = 0;
    if (!state) return AWQ_OK;
    g->work = 0;
    g->path[0] = (uint16_t)state;
    for (k = 0; k < v->n_tree; k = end) {
        const awq__gr_branch *x = &v->tree[k];
        end = at_start ? x->end : v->n_tree;
        if (at_start && x->byte == ' ') { /* as if the token began behind it */
            g->path[1] = (uint16_t)state;
            k++;
            awq__gr_mask_set(v, x->first, v->tree[k].first, mask, &n);
        }
        AWQ__TRY(awq__gr_mask_tree(ctx, g, v, k, end, mask, &n));
    }
    for (id = 0; at_start && v->drops > 1 && id < v->size; id++) {
        size_t bytes;
        const char *s = awq__gr_token(v, (int32_t)id, &bytes);
        if (!(mask[id >> 5] >> (id & 31) & 1) || !awq__gr_drops_more(v, s, bytes)) continue;
        mask[id >> 5] &= ~(1u << (id & 31));
        n--;
    }
    *count = n;
    if (at_start || !g->n_masks) return AWQ_OK;
    kept = g->next_mask;
    g->next_mask = (kept + 1) % g->n_masks;
    if (g->mask_owner[kept]) g->states[g->mask_owner[kept]].mask = -1;
    g->mask_owner[kept] = (uint16_t)state;
    g->states[state].mask = kept;
    g->mask_count[kept] = n;
    memcpy(g->masks + (size_t)kept * words, mask, words * sizeof *mask);
    return AWQ_OK;
}

/* --- making one */
static awq_status awq__gr_choices(awq_ctx *ctx, const awq_grammar_desc *desc, awq__text *out)
{
    size_t i, k, total = 0;
    awq__text_str(ctx, out, "root ::= ");
    for (i = 0; i < desc->n_choices; i++) {
        const char *s = desc->choices[i];
        size_t n = s ? strlen(s) : 0;
        int len = s != NULL;
        for (k = 0; k < n && len; k += (size_t)len) len = awq__utf8_len((const unsigned char *)s + k, n - k);
        if (!len)
            return awq__fail(ctx, AWQ_E_ARG, "grammar: choice %llu is %s", (unsigned long long)i,
                             s ? "not UTF-8" : "NULL");
        total += n;
        if (total > AWQ__GR_TEXT)
            return awq__fail(ctx, AWQ_E_LIMIT, "grammar: the choices have more than %u MB together",
                             (unsigned)(AWQ__GR_TEXT >> 20));
        awq__text_str(ctx, out, i ? " | " : "");
        awq__gr_literal(ctx, out, s, n);
    }
    awq__text_str(ctx, out, "\n");
    return out->failed ? AWQ_E_MEMORY : AWQ_OK;
}

/* rules, in b->s, to nodes in the grammar */
static awq_status awq__gr_rules(awq__gr_build *b, awq_grammar *g)
{
    awq__gr_node *nodes;
    awq__gr_arc *arcs;
    uint32_t *height, root = 0;
    size_t i;
    awq__gr_read(b);
    awq__gr_node_new(b, AWQ__GN_END, 0, 0); /* node 0 */
    for (i = 0; i < b->n_rules && !b->st; i++) b->rules[i].entry = awq__gr_compile(b, b->rules[i].tree, 0);
    if (!b->st) awq__gr_link(b);
    if (!b->st) awq__gr_heights(b, 1);
    if (!b->st) awq__gr_left_recursion(b);
    if (!b->st) awq__gr_heights(b, 0);
    if (b->st) return b->st;
    i = awq__gr_find(b, "root", 4);
    root = b->rules[i].entry;
    if (b->height[root] == UINT32_MAX) {
        awq__gr_fail(b, AWQ_E_ARG, b->rules[i].at, "the rule 'root' accepts no text");
        return b->st;
    }
    if (b->height[root] > AWQ__GR_STACK) {
        awq__gr_fail(b, AWQ_E_LIMIT, b->rules[i].at, "even the least text of 'root' nests rules %lu deep, at "
                     "most %d are kept track of", (unsigned long)b->height[root], AWQ__GR_STACK);
        return b->st;
    }
    nodes = (awq__gr_node *)awq__arena_alloc(b->ctx, &g->arena, b->n_nodes, sizeof *nodes);
    arcs = (awq__gr_arc *)awq__arena_alloc(b->ctx, &g->arena, b->n_arcs + 1, sizeof *arcs);
    height = (uint32_t *)awq__arena_alloc(b->ctx, &g->arena, b->n_nodes, sizeof *height);
    if (!nodes || !arcs || !height) return AWQ_E_MEMORY;
    memcpy(nodes, b->nodes, b->n_nodes * sizeof *nodes);
    if (b->n_arcs) memcpy(arcs, b->arcs, b->n_arcs * sizeof *arcs);
    memcpy(height, b->height, b->n_nodes * sizeof *height);
    g->nodes = nodes;
    g->arcs = arcs;
    g->height = height;
    g->start = (int32_t)root; /* a node as yet */
    return AWQ_OK;
}

static uint32_t awq__gr_power(size_t n) /* the largest power of two that is not above n */
{
    uint32_t p = 1;
    while (p <= n / 2 && p < 1u << 30) p *= 2;
    return p;
}

/* the tables, in `memory` bytes, and the first state */
static awq_status awq__gr_tables(awq_ctx *ctx, awq_grammar *g, size_t memory)
{
    size_t part = AWQ__MIN(memory, (size_t)1 << 30) / 16; /* more would find no use */
    uint32_t i;
    int32_t start;
    g->max_list = awq__gr_power(AWQ__MIN(part / 40, (size_t)8192)); /* 8 + 2 * 16 bytes each */
    g->seen_mask = 2 * g->max_list - 1;
    g->max_states = (uint32_t)AWQ__MIN(7 * part / (512 + sizeof *g->states + 8), (size_t)65000);
    g->slot_mask = 4 * awq__gr_power(g->max_states) - 1;
    g->max_frames = (uint32_t)(2 * part / (sizeof *g->frames + 4));
    g->frame_mask = awq__gr_power(g->max_frames) - 1;
    g->max_pool = (uint32_t)(3 * part / sizeof *g->pool);
    g->mask_words = 3 * part / sizeof *g->masks;
    g->list = (uint64_t *)awq__arena_alloc(ctx, &g->arena, g->max_list, sizeof *g->list);
    g->seen = (awq__gr_seen *)awq__arena_alloc(ctx, &g->arena, (size_t)g->seen_mask + 1, sizeof *g->seen);
    g->states = (awq__gr_state *)awq__arena_alloc(ctx, &g->arena, (size_t)g->max_states + 1, sizeof *g->states);
    g->rows = (uint16_t *)awq__arena_alloc(ctx, &g->arena, (size_t)g->max_states + 1, 256 * sizeof *g->rows);
    g->slots = (uint16_t *)awq__arena_alloc(ctx, &g->arena, (size_t)g->slot_mask + 1, sizeof *g->slots);
    g->frames = (awq__gr_frame *)awq__arena_alloc(ctx, &g->arena, (size_t)g->max_frames + 1, sizeof *g->frames);
    g->chains = (uint32_t *)awq__arena_alloc(ctx, &g->arena, (size_t)g->frame_mask + 1, sizeof *g->chains);
    g->pool = (uint64_t *)awq__arena_alloc(ctx, &g->arena, g->max_pool, sizeof *g->pool);
    g->masks = (uint32_t *)awq__arena_alloc(ctx, &g->arena, g->mask_words, sizeof *g->masks);
    if (!g->list || !g->seen || !g->states || !g->rows || !g->slots || !g->frames || !g->chains || !g->pool
        || !g->masks)
        return AWQ_E_MEMORY;
    for (i = g->max_states; i; i--) {
        g->states[i].at = g->unused;
        g->unused = i;
    }
    awq__gr_begin(g);
    start = awq__gr_push(g, (uint32_t)g->start, 0) ? awq__gr_close(g) : AWQ__GR_MANY;
    if (start <= 0)
        return awq__fail(ctx, AWQ_E_LIMIT, "grammar: its first state alone does not fit into %llu bytes",
                         (unsigned long long)memory);
    g->start = start;
    g->states[start].hold = 1;
    return AWQ_OK;
}

AWQ_API awq_status awq_grammar_create(awq_ctx *ctx, const awq_grammar_desc *desc, awq_grammar **grammar)
{
    awq_grammar *g;
    awq__gr_build b;
    awq__text made = {NULL, 0, 0, 0};
    awq_status st = AWQ_OK;
    const char *given;
    size_t memory, most;
    if (!desc || !grammar) return awq__fail(ctx, AWQ_E_ARG, "awq_grammar_create: desc or grammar is NULL");
    given = desc->gbnf ? desc->gbnf : desc->schema;
    memory = desc->memory ? desc->memory : (size_t)4 << 20;
    if ((desc->gbnf != NULL) + (desc->schema != NULL) + (desc->choices != NULL && desc->n_choices > 0) != 1)
        return awq__fail(ctx, AWQ_E_ARG, "grammar: expected exactly one of gbnf, schema and choices");
    if (memory < AWQ__GR_LEAST)
        return awq__fail(ctx, AWQ_E_ARG, "grammar: memory is %llu bytes, expected at least %llu",
                         (unsigned long long)memory, (unsigned long long)AWQ__GR_LEAST);
    most = desc->gbnf ? AWQ__GR_TEXT : AWQ__SC_TEXT;
    if (given && strlen(given) > most)
        return awq__fail(ctx, AWQ_E_LIMIT, "grammar: the %s has %llu bytes, at most %llu are read",
                         desc->gbnf ? "GBNF" : "schema", (unsigned long long)strlen(given),
                         (unsigned long long)most);
    memset(&b, 0, sizeof b);
    b.ctx = ctx;
    b.name = desc->gbnf ? "GBNF" : desc->schema ? "GBNF of the schema" : "GBNF of the choices";
    g = AWQ__NEW(ctx, awq_grammar, 1);
    if (!g) return AWQ_E_MEMORY;
    if (desc->schema) st = awq__sc_make(ctx, given, strlen(given), &made);
    else if (!given) st = awq__gr_choices(ctx, desc, &made);
    if (!st) {
        b.s = given = desc->gbnf ? desc->gbnf : made.data;
        b.n = strlen(given);
        g->text = awq__arena_text(ctx, &g->arena, given, b.n);
        st = g->text ? awq__gr_rules(&b, g) : AWQ_E_MEMORY;
    }
    awq__text_free(ctx, &b.bytes);
    awq__free(ctx, b.tree);
    awq__free(ctx, b.ranges);
    awq__free(ctx, b.rules);
    awq__free(ctx, b.names);
    awq__free(ctx, b.nodes);
    awq__free(ctx, b.arcs);
    awq__free(ctx, b.open);
    awq__arena_free(ctx, &b.arena);
    awq__text_free(ctx, &made);
    if (!st) st = awq__gr_tables(ctx, g, memory);
    if (st) awq_grammar_free(ctx, g);
    else *grammar = g;
    return st;
}

AWQ_API void awq_grammar_free(awq_ctx *ctx, awq_grammar *grammar)
{
    if (!grammar) return;
    awq__arena_free(ctx, &grammar->arena);
    awq__free(ctx, grammar);
}

AWQ_API const char *awq_grammar_text(const awq_grammar *grammar) { return grammar->text; }

AWQ_API awq_status awq_grammar_match(awq_ctx *ctx, awq_grammar *grammar, const char *text, size_t bytes,
                                     awq_match *match)
{
    int32_t state = 0;
    if (!grammar || !match || (!text && bytes))
        return awq__fail(ctx, AWQ_E_ARG, "awq_grammar_match: grammar, text or match is NULL");
    AWQ__TRY(awq__gr_walk(ctx, grammar, grammar->start, text, bytes, &state));
    *match = !state ? AWQ_MATCH_NO : awq__gr_accepts(grammar, state) ? AWQ_MATCH_WHOLE : AWQ_MATCH_PARTIAL;
    return AWQ_OK;
}
/* -------------------------------------------------------------------------------------------------------------
   MARK: >>model
   Loading, and the forward pass, written once for all families over the operations above:
       x (n, H) -> norm -> q, k, v -> rope, cache -> attention -> o, add -> norm -> gate, up, down, add -> ...
   Shapes: n rows (tokens of any sequences), H hidden_size, Q heads * head_dim, V kv heads * head_dim, I
   intermediate_size. Invariants: a row's result depends on its own sequence only, bit for bit.
   Tests: tests/test_model.c against transformers' logits and hidden states */

typedef struct awq__layer {
    awq_linear linear[AWQ_N_LINEARS];
    float *input_norm, *post_norm; /* [H] */
    float *q_norm, *k_norm;        /* [head_dim] or NULL */
    int sliding;
} awq__layer;

struct awq_model {
    awq_config config;
    awq_checkpoint *checkpoint; /* kept open only while weights are mapped */
    awq_tokenizer *tokenizer;
    awq__arena arena;           /* norms, layer table */
    awq__layer *layers;
    float *final_norm;
    awq_dtype embed_dtype;
    const void *embed;          /* [vocab, H] */
    awq_linear head;            /* [vocab, H]; shares embed when tied */
    void **owned;               /* dense weights read into memory */
    size_t n_owned, cap_owned;
    uint64_t bytes, linear_bytes, hash;
    int64_t users;              /* runners, of any thread */
};

/* Keys and values of one sequence; a page is [layers][keys, values][AWQ__PAGE][V]. */
typedef struct awq__kv {
    float **page; /* [pages of max] */
    int64_t max, len;
    float *own;   /* all of them, when this sequence alone has them */
} awq__kv;

typedef struct awq__row {
    awq__kv *kv;  /* NULL: nobody wants it any more */
    int64_t pos;
    int bad;      /* 1 + the first layer whose output has NaN or Inf */
} awq__row;

/* Buffers of a pass over up to `rows` rows. */
typedef struct awq__work {
    int64_t rows;
    float *x, *xn, *out;     /* [rows, H] */
    float *q, *att;          /* [rows, Q] */
    float *k, *v;            /* [rows, V] */
    float *gate, *up;        /* [rows, I] */
    float *cos_, *sin_;      /* [rows, head_dim / 2] */
    float *freq;             /* [head_dim / 2] inverse frequencies of rope */
    awq__row *row;           /* [rows] */
} awq__work;

static size_t awq__page_floats(const awq_config *c, int layers) /* SIZE_MAX: too many */
{
    size_t n = (size_t)c->num_key_value_heads * (size_t)c->head_dim;
    return awq__mul(n, (size_t)layers * 2 * AWQ__PAGE, &n) ? n : SIZE_MAX;
}

static int64_t awq__pages(int64_t tokens) { return (tokens + AWQ__PAGE - 1) / AWQ__PAGE; }

static void awq__kv_free(awq_ctx *ctx, awq__kv *kv)
{
    awq__free(ctx, kv->page);
    awq__free(ctx, kv->own);
    memset(kv, 0, sizeof *kv);
}

static awq_status awq__kv_alloc(awq_ctx *ctx, const awq_config *c, int layers, int64_t max, awq__kv *kv)
{
    size_t floats = awq__page_floats(c, layers), all;
    int64_t n = awq__pages(max), i;
    memset(kv, 0, sizeof *kv);
    if (!awq__mul(floats, (size_t)n, &all))
        return awq__fail(ctx, AWQ_E_MEMORY, "a KV cache of %lld tokens does not fit the address space",
                         (long long)max);
    kv->own = AWQ__NEW_RAW(ctx, float, all);
    kv->page = kv->own ? AWQ__NEW_RAW(ctx, float *, n) : NULL;
    if (!kv->page) {
        awq__kv_free(ctx, kv);
        return AWQ_E_MEMORY;
    }
    for (i = 0; i < n; i++) kv->page[i] = kv->own + (size_t)i * floats;
    kv->max = max;
    return AWQ_OK;
}

static void awq__work_free(awq_ctx *ctx, awq__work *w)
{
    awq__free(ctx, w->x);
    awq__free(ctx, w->row);
    memset(w, 0, sizeof *w);
}

/* inverse frequency in fp32, computed as the reference does */
static float awq__rope_inv_freq(const awq_config *c, int i)
{
    double base = (double)(float)pow(c->rope_theta, 2.0 * i / c->head_dim);
    float f = 1.0f / (float)base;
    if (c->rope_kind == AWQ_ROPE_LINEAR) return f / (float)c->rope_factor;
    if (c->rope_kind == AWQ_ROPE_LLAMA3) {
        double old = (double)c->rope_original_max_position, wave = 2 * 3.14159265358979323846 / f;
        double lo = old / c->rope_low_freq_factor, hi = old / c->rope_high_freq_factor, t;
        if (wave > lo) return f / (float)c->rope_factor;
        if (wave < hi) return f;
        t = (old / wave - c->rope_low_freq_factor) / (c->rope_high_freq_factor - c->rope_low_freq_factor);
        return (float)((1 - t) * f / c->rope_factor + t * f);
    }
    return f;
}

static size_t awq__work_bytes(const awq_config *c, int64_t rows)
{
    size_t r = (size_t)rows, H = (size_t)c->hidden_size, I = (size_t)c->intermediate_size,
           d = (size_t)c->head_dim;
    size_t Q = d * (size_t)c->num_attention_heads, V = d * (size_t)c->num_key_value_heads;
    return (r * (3 * H + 2 * Q + 2 * V + 2 * I + d) + d / 2) * sizeof(float);
}

static awq_status awq__work_alloc(awq_ctx *ctx, const awq_config *c, int64_t rows, awq__work *w)
{
    size_t r = (size_t)rows, H = (size_t)c->hidden_size, I = (size_t)c->intermediate_size,
           d = (size_t)c->head_dim;
    size_t Q = d * (size_t)c->num_attention_heads, V = d * (size_t)c->num_key_value_heads;
    float *p;
    int i;
    memset(w, 0, sizeof *w);
    p = (float *)awq__alloc_raw(ctx, awq__work_bytes(c, rows), 1);
    if (!p) return AWQ_E_MEMORY;
    w->rows = rows;
    w->x = p, p += r * H;
    w->xn = p, p += r * H;
    w->out = p, p += r * H;
    w->q = p, p += r * Q;
    w->att = p, p += r * Q;
    w->k = p, p += r * V;
    w->v = p, p += r * V;
    w->gate = p, p += r * I;
    w->up = p, p += r * I;
    w->cos_ = p, p += r * (d / 2);
    w->sin_ = p, p += r * (d / 2);
    w->freq = p;
    for (i = 0; i < c->head_dim / 2; i++) w->freq[i] = awq__rope_inv_freq(c, i);
    w->row = AWQ__NEW(ctx, awq__row, rows);
    if (w->row) return AWQ_OK;
    awq__work_free(ctx, w);
    return AWQ_E_MEMORY;
}

/* angles pos * inv_freq, rounded to fp32 as the reference has them */
static void awq__rope_row(const awq_config *c, awq__work *w, int64_t r)
{
    int64_t i, h = c->head_dim / 2;
    for (i = 0; i < h; i++)
        awq__sincos((double)((float)w->row[r].pos * w->freq[i]), &w->sin_[r * h + i], &w->cos_[r * h + i]);
}

/* w's rows become positions first, first + 1, ... of one sequence */
static void awq__rows_of(const awq_config *c, awq__work *w, awq__kv *kv, int64_t first, int64_t n)
{
    int64_t r;
    for (r = 0; r < n; r++) {
        w->row[r].kv = kv;
        w->row[r].pos = first + r;
        w->row[r].bad = 0;
        awq__rope_row(c, w, r);
    }
}

typedef struct awq__norm_job {
    const awq__ops *ops;
    const float *x, *weight;
    float *out;
    int64_t width;
    float eps;
} awq__norm_job;

static void awq__norm_row(void *arg, int64_t r)
{
    awq__norm_job *j = (awq__norm_job *)arg;
    j->ops->norm(j->x + r * j->width, j->weight, j->out + r * j->width, j->width, j->eps);
}

static void awq__norm_rows(awq_ctx *ctx, const float *x, const float *weight, float *out, int64_t n,
                           int64_t width, double eps)
{
    awq__norm_job j;
    j.ops = awq__ops_for(ctx);
    j.x = x;
    j.weight = weight;
    j.out = out;
    j.width = width;
    j.eps = (float)eps;
    awq__run(ctx, n, awq__norm_row, &j);
}

static int awq__all_finite(const float *x, int64_t n)
{
    uint32_t worst = 0;
    int64_t i;
    for (i = 0; i < n; i++) {
        uint32_t e = awq__float_bits(x[i]) & 0x7f800000;
        worst = e > worst ? e : worst;
    }
    return worst != 0x7f800000;
}

/* --- the steps of a decoder block, over n rows */
typedef enum awq__step_id {
    AWQ__NORM = 0, /* x -> xn */
    AWQ__QKV,      /* xn -> q, k, v */
    AWQ__PLACE,    /* norm and rope of q and k; k, v -> cache */
    AWQ__ATTEND,   /* q, cache -> att */
    AWQ__O,        /* att -> out */
    AWQ__ADD_NORM, /* x += out -> xn */
    AWQ__GATE_UP,  /* xn -> gate, up */
    AWQ__ACT,      /* silu(gate) * up -> gate */
    AWQ__DOWN,     /* gate -> out */
    AWQ__ADD,      /* x += out */
    AWQ__N_STEPS
} awq__step_id;

/* A step cut into jobs: they may run in any order, all at once or some now and some later. */
typedef struct awq__task {
    void (*job)(void *task, int64_t index);
    int64_t count;
    awq__step_id step;
    const awq_config *c;
    const awq__layer *layer;
    const awq__ops *ops;
    awq__work *w;
    int i_layer;
    size_t kv_at;      /* of this layer in a page, in floats */
    awq__mm_arg mm[3]; /* linears that share an input */
} awq__task;

static void awq__task_linears(void *arg, int64_t i)
{
    awq__task *t = (awq__task *)arg;
    int k = 0;
    while (i >= t->mm[k].jobs) i -= t->mm[k++].jobs;
    awq__mm_job(&t->mm[k], i);
}

static void awq__task_linear(awq_ctx *ctx, awq__task *t, int k, awq_linear_id id, const float *x, int64_t n,
                             float *y)
{
    t->mm[k] = awq__mm_plan(ctx, &t->layer->linear[id], x, n, y);
    t->count = (k ? t->count : 0) + t->mm[k].jobs;
    t->job = awq__task_linears;
}

static void awq__place_row(const awq__task *t, int64_t r)
{
    const awq_config *c = t->c;
    const awq__layer *l = t->layer;
    awq__work *w = t->w;
    int64_t d = c->head_dim, V = d * c->num_key_value_heads, Q = d * c->num_attention_heads, h;
    int64_t pos = w->row[r].pos;
    float *q = w->q + r * Q, *k = w->k + r * V, eps = (float)c->rms_norm_eps, *to;
    const float *cs = w->cos_ + r * (d / 2), *sn = w->sin_ + r * (d / 2);
    if (!w->row[r].kv) return;
    to = w->row[r].kv->page[pos / AWQ__PAGE] + t->kv_at + pos % AWQ__PAGE * V;
    for (h = 0; h < c->num_attention_heads; h++) {
        if (l->q_norm) t->ops->norm(q + h * d, l->q_norm, q + h * d, d, eps);
        t->ops->rope(q + h * d, cs, sn, d);
    }
    for (h = 0; h < c->num_key_value_heads; h++) {
        if (l->k_norm) t->ops->norm(k + h * d, l->k_norm, k + h * d, d, eps);
        t->ops->rope(k + h * d, cs, sn, d);
    }
    memcpy(to, k, (size_t)V * sizeof(float));
    memcpy(to + AWQ__PAGE * V, w->v + r * V, (size_t)V * sizeof(float));
}

/* first key that row r sees */
static int64_t awq__first_key(const awq__task *t, int64_t r)
{
    int64_t pos = t->w->row[r].pos, window = t->c->sliding_window;
    return t->layer->sliding && pos >= window ? pos - window + 1 : 0;
}

static void awq__task_attend(void *arg, int64_t i) /* one row, one head */
{
    const awq__task *t = (const awq__task *)arg;
    const awq_config *c = t->c;
    int64_t d = c->head_dim, V = d * c->num_key_value_heads, Q = d * c->num_attention_heads;
    int64_t r = i / c->num_attention_heads, h = i % c->num_attention_heads;
    int64_t kv_head = h / (c->num_attention_heads / c->num_key_value_heads);
    const awq__row *row = &t->w->row[r];
    if (!row->kv) return;
    t->ops->attend(t->w->q + r * Q + h * d, row->kv->page, t->kv_at + (size_t)(kv_head * d), V,
                   awq__first_key(t, r), row->pos, d, 1.0f / sqrtf((float)d), t->w->att + r * Q + h * d);
}

static void awq__task_row(void *arg, int64_t r) /* the steps that take a row at a time */
{
    const awq__task *t = (const awq__task *)arg;
    const awq__layer *l = t->layer;
    awq__work *w = t->w;
    int64_t H = t->c->hidden_size, I = t->c->intermediate_size;
    float *x = w->x + r * H, *xn = w->xn + r * H, eps = (float)t->c->rms_norm_eps;
    switch ((int)t->step) {
    case AWQ__NORM: t->ops->norm(x, l->input_norm, xn, H, eps); break;
    case AWQ__PLACE: awq__place_row(t, r); break;
    case AWQ__ADD_NORM:
        t->ops->add(x, w->out + r * H, H);
        t->ops->norm(x, l->post_norm, xn, H, eps);
        break;
    case AWQ__ACT: t->ops->gate(w->gate + r * I, w->up + r * I, I); break;
    case AWQ__ADD:
        t->ops->add(x, w->out + r * H, H);
        if (!w->row[r].bad && !awq__all_finite(x, H)) w->row[r].bad = 1 + t->i_layer;
        break;
    default: break;
    }
}

/* cache_layer: the layer's place in a page */
static void awq__task_set(awq_ctx *ctx, const awq_config *c, const awq__layer *l, int cache_layer, awq__work *w,
                          int64_t n, awq__step_id step, awq__task *t)
{
    t->step = step;
    t->c = c;
    t->layer = l;
    t->ops = awq__ops_for(ctx);
    t->w = w;
    t->i_layer = cache_layer;
    t->kv_at = awq__page_floats(c, 1) * (size_t)cache_layer;
    switch ((int)step) {
    case AWQ__QKV:
        awq__task_linear(ctx, t, 0, AWQ_Q_PROJ, w->xn, n, w->q);
        awq__task_linear(ctx, t, 1, AWQ_K_PROJ, w->xn, n, w->k);
        awq__task_linear(ctx, t, 2, AWQ_V_PROJ, w->xn, n, w->v);
        break;
    case AWQ__ATTEND:
        t->job = awq__task_attend;
        t->count = n * c->num_attention_heads;
        break;
    case AWQ__O: awq__task_linear(ctx, t, 0, AWQ_O_PROJ, w->att, n, w->out); break;
    case AWQ__GATE_UP:
        awq__task_linear(ctx, t, 0, AWQ_GATE_PROJ, w->xn, n, w->gate);
        awq__task_linear(ctx, t, 1, AWQ_UP_PROJ, w->xn, n, w->up);
        break;
    case AWQ__DOWN: awq__task_linear(ctx, t, 0, AWQ_DOWN_PROJ, w->gate, n, w->out); break;
    default:
        t->job = awq__task_row;
        t->count = n;
        break;
    }
}

/* Points inside a block where calibration listens. */
typedef enum awq__tap_in { AWQ__IN_ATTN = 0, AWQ__IN_O, AWQ__IN_MLP, AWQ__IN_DOWN, AWQ__N_IN } awq__tap_in;
typedef awq_status (*awq__block_tap)(void *user, awq__tap_in point, const float *data, int64_t n,
                                     int64_t width);

static awq_status awq__tap_step(const awq_config *c, awq__work *w, int64_t n, awq__step_id step,
                                awq__block_tap tap, void *user)
{
    switch ((int)step) {
    case AWQ__QKV: return tap(user, AWQ__IN_ATTN, w->xn, n, c->hidden_size);
    case AWQ__O: return tap(user, AWQ__IN_O, w->att, n, (int64_t)c->head_dim * c->num_attention_heads);
    case AWQ__GATE_UP: return tap(user, AWQ__IN_MLP, w->xn, n, c->hidden_size);
    case AWQ__DOWN: return tap(user, AWQ__IN_DOWN, w->gate, n, c->intermediate_size);
    default: return AWQ_OK;
    }
}

/* Steps first .. last of a decoder block, in w. tap may be NULL. */
static awq_status awq__steps(awq_ctx *ctx, const awq_config *c, const awq__layer *l, int cache_layer,
                             awq__work *w, int64_t n, awq__step_id first, awq__step_id last, awq__block_tap tap,
                             void *user)
{
    awq__task t;
    int s;
    for (s = first; s <= (int)last; s++) {
        if (tap) AWQ__TRY(awq__tap_step(c, w, n, (awq__step_id)s, tap, user));
        awq__task_set(ctx, c, l, cache_layer, w, n, (awq__step_id)s, &t);
        awq__run(ctx, t.count, t.job, &t);
    }
    return AWQ_OK;
}

static awq_status awq__ids_check(awq_ctx *ctx, const awq_model *m, const int32_t *ids, int64_t n)
{
    int64_t i;
    for (i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= m->config.vocab_size)
            return awq__fail(ctx, AWQ_E_ARG, "token id %d is outside the model's vocabulary of %lld",
                             (int)ids[i], (long long)m->config.vocab_size);
    return AWQ_OK;
}

/* the embedding of one id -> x (H) */
static void awq__embed_id(const awq_model *m, int32_t id, float *x)
{
    size_t H = (size_t)m->config.hidden_size;
    awq__to_float(m->embed_dtype, (const char *)m->embed + (size_t)id * H * awq_dtype_size(m->embed_dtype),
                  (int64_t)H, x);
}

/* Embeddings of n ids -> x (n, H). */
static awq_status awq__embed(awq_ctx *ctx, const awq_model *m, const int32_t *ids, int64_t n, float *x)
{
    int64_t i;
    AWQ__TRY(awq__ids_check(ctx, m, ids, n));
    for (i = 0; i < n; i++) awq__embed_id(m, ids[i], x + i * m->config.hidden_size);
    return AWQ_OK;
}

/* All blocks over the n rows described by w->row; x filled by awq__embed. Result: w->xn after the final norm.
   */
static awq_status awq__forward(awq_ctx *ctx, const awq_model *m, awq__work *w, int64_t n, awq_tap tap,
                               void *user)
{
    const awq_config *c = &m->config;
    int64_t r;
    int i;
    if (tap) tap(user, AWQ_TAP_EMBED, 0, w->x, n, c->hidden_size);
    for (i = 0; i < c->num_hidden_layers; i++) {
        AWQ__TRY(awq__steps(ctx, c, &m->layers[i], i, w, n, AWQ__NORM, AWQ__ADD, NULL, NULL));
        for (r = 0; r < n; r++)
            if (w->row[r].bad)
                return awq__fail(ctx, AWQ_E_NUMERIC, "the output of layer %d has NaN or Inf", i);
        if (tap) tap(user, AWQ_TAP_LAYER, i, w->x, n, c->hidden_size);
    }
    awq__norm_rows(ctx, w->x, m->final_norm, w->xn, n, c->hidden_size, c->rms_norm_eps);
    if (tap) tap(user, AWQ_TAP_FINAL, i, w->xn, n, c->hidden_size);
    return AWQ_OK;
}

/* --- loading */
static awq_status awq__check_raw(awq_ctx *ctx, const awq_tensor *t, const void *data, int64_t first, int64_t n)
{
    const uint16_t *h = (const uint16_t *)data;
    const uint32_t *u = (const uint32_t *)data;
    uint32_t mask = t->dtype == AWQ_F16 ? 0x7c00 : t->dtype == AWQ_BF16 ? 0x7f80 : 0x7f800000;
    int64_t i;
    for (i = 0; i < n; i++)
        if (((t->dtype == AWQ_F32 ? u[i] : h[i]) & mask) == mask)
            return awq__fail(ctx, AWQ_E_NUMERIC, "tensor %s: element %lld is NaN or Inf", t->name,
                             (long long)(first + i));
    return AWQ_OK;
}

/* A real tensor in its stored type: mapped, or read into memory that the model owns. */
static awq_status awq__model_tensor(awq_ctx *ctx, awq_model *m, const awq_tensor *t, const void **out)
{
    awq_tensors *ts = awq_checkpoint_tensors(m->checkpoint);
    const void *mapped = awq_tensors_map(ts, t);
    size_t es = awq_dtype_size(t->dtype), at, part = (size_t)1 << 20;
    char *p;
    if (t->dtype != AWQ_F32 && t->dtype != AWQ_F16 && t->dtype != AWQ_BF16)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "tensor %s is %s; F32, F16 and BF16 weights can be run",
                         t->name, awq_dtype_name(t->dtype));
    if (t->bytes > SIZE_MAX / 2)
        return awq__fail(ctx, AWQ_E_MEMORY, "tensor %s does not fit the address space", t->name);
    m->bytes += t->bytes;
    if (mapped) {
        *out = mapped;
        return awq__check_raw(ctx, t, mapped, 0, (int64_t)(t->bytes / es));
    }
    if (!awq__grow(ctx, (void **)&m->owned, &m->cap_owned, m->n_owned + 1, sizeof *m->owned))
        return AWQ_E_MEMORY;
    p = (char *)awq__alloc_raw(ctx, (size_t)t->bytes + 1, 1);
    if (!p) return AWQ_E_MEMORY;
    m->owned[m->n_owned++] = p;
    for (at = 0; at < t->bytes; at += part) {
        size_t n = AWQ__MIN(part, (size_t)t->bytes - at);
        AWQ__TRY(awq_tensors_read(ctx, ts, t, at, p + at, n));
        AWQ__TRY(awq__check_raw(ctx, t, p + at, (int64_t)(at / es), (int64_t)(n / es)));
    }
    *out = p;
    return AWQ_OK;
}

/* A small vector as fp32 in the model's arena. */
static awq_status awq__read_vector(awq_ctx *ctx, awq_checkpoint *ck, awq__arena *arena, const char *name,
                                   int64_t n, float **out)
{
    awq_tensors *ts = awq_checkpoint_tensors(ck);
    const awq_tensor *t = awq_tensors_find(ts, name);
    float *p;
    if (!t) return awq__fail(ctx, AWQ_E_FORMAT, "%s: tensor %s is missing", awq_checkpoint_folder(ck), name);
    p = (float *)awq__arena_alloc(ctx, arena, (size_t)n, sizeof *p);
    if (!p) return AWQ_E_MEMORY;
    AWQ__TRY(awq_tensors_read_float(ctx, ts, t, 0, n, p));
    *out = p;
    return AWQ_OK;
}

static awq_status awq__layer_norms(awq_ctx *ctx, awq_checkpoint *ck, awq__arena *arena, int i, awq__layer *l)
{
    const awq_config *c = awq_checkpoint_config(ck);
    char name[256];
    l->sliding = c->layer_is_sliding[i];
    AWQ__TRY(awq__read_vector(ctx, ck, arena, awq__ck_name(name, c->family->input_norm, i, ""), c->hidden_size,
                              &l->input_norm));
    AWQ__TRY(awq__read_vector(ctx, ck, arena, awq__ck_name(name, c->family->post_norm, i, ""), c->hidden_size,
                              &l->post_norm));
    if (!c->family->qk_norm) return AWQ_OK;
    AWQ__TRY(awq__read_vector(ctx, ck, arena, awq__ck_name(name, c->family->q_norm, i, ""), c->head_dim,
                              &l->q_norm));
    return awq__read_vector(ctx, ck, arena, awq__ck_name(name, c->family->k_norm, i, ""), c->head_dim,
                            &l->k_norm);
}

AWQ_API awq_status awq_model_free(awq_ctx *ctx, awq_model *m)
{
    size_t i;
    int64_t users;
    int k, l;
    if (!m) return AWQ_OK;
    users = AWQ__ATOMIC_ADD(&m->users, 0);
    if (users)
        return awq__fail(ctx, AWQ_E_ARG, "awq_model_free: runners still use the model (%lld); free them first",
                         (long long)users);
    if (m->layers)
        for (l = 0; l < m->config.num_hidden_layers; l++)
            for (k = 0; k < AWQ_N_LINEARS; k++) awq_linear_free(ctx, &m->layers[l].linear[k]);
    awq_linear_free(ctx, &m->head);
    for (i = 0; i < m->n_owned; i++) awq__free(ctx, m->owned[i]);
    awq__free(ctx, m->owned);
    awq__arena_free(ctx, &m->arena);
    awq_tokenizer_free(ctx, m->tokenizer);
    awq_checkpoint_close(ctx, m->checkpoint);
    awq__free(ctx, m);
    return AWQ_OK;
}

/* group sizes of 128, 64, 32 that divide in_features, the largest; 0: none */
static int64_t awq__default_group(int64_t in_features)
{
    int64_t g;
    for (g = 128; g >= 32; g /= 2)
        if (in_features % g == 0) return g;
    return 0;
}

static awq_status awq__load_linear(awq_ctx *ctx, awq_model *m, int layer, awq_linear_id id,
                                   const awq_model_desc *desc, awq_linear *out)
{
    awq_linear_info info;
    awq_qweight w;
    awq_status st;
    float *bias = NULL, *dense = NULL;
    awq_tensors *ts = awq_checkpoint_tensors(m->checkpoint);
    const void *data;
    memset(&w, 0, sizeof w);
    AWQ__TRY(awq_checkpoint_linear(ctx, m->checkpoint, layer, id, &info));
    if (info.bias) {
        bias = (float *)awq__arena_alloc(ctx, &m->arena, (size_t)info.out_features, sizeof *bias);
        if (!bias) return AWQ_E_MEMORY;
        AWQ__TRY(awq_tensors_read_float(ctx, ts, info.bias, 0, info.out_features, bias));
    }
    if (!info.quantized && !desc->rtn_bits) {
        AWQ__TRY(awq__model_tensor(ctx, m, info.weight, &data));
        m->linear_bytes += info.weight->bytes;
        return awq_linear_dense(ctx, info.weight->dtype, data, info.out_features, info.in_features, bias, out);
    }
    if (info.quantized) {
        st = awq_checkpoint_read_qweight(ctx, m->checkpoint, &info, &w);
    } else {
        int64_t g = desc->rtn_group_size ? desc->rtn_group_size : awq__default_group(info.in_features), i;
        size_t n = (size_t)(info.out_features * info.in_features);
        st = awq_qweight_alloc(ctx, info.out_features, info.in_features, desc->rtn_bits, g, desc->rtn_symmetric,
                               &w);
        if (!st) dense = AWQ__NEW_RAW(ctx, float, n);
        if (!st && !dense) st = AWQ_E_MEMORY;
        if (!st) st = awq_tensors_read_float(ctx, ts, info.weight, 0, (int64_t)n, dense);
        for (i = 0; !st && i < (int64_t)n; i++) dense[i] = awq__h(dense[i]);
        if (!st) st = awq_quantize(ctx, dense, &w);
        awq__free(ctx, dense);
    }
    if (!st)
        st = awq_linear_prepare(ctx, &w, info.quantized && info.packed.layout == AWQ_LAYOUT_GEMV_FAST, bias,
                                out);
    awq_qweight_free(ctx, &w);
    if (!st) {
        m->bytes += awq_linear_bytes(out);
        m->linear_bytes += awq_linear_bytes(out);
    }
    return st;
}

/* Fast, for telling data apart and finding damage, not against malice. */
static uint64_t awq__checksum(uint64_t h, const void *data, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)data;
    uint64_t w;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    for (; bytes; bytes--) h = (h ^ *p++) * 0x100000001b3ull;
    return h;
}

/* some rows of a linear as it is computed with */
static uint64_t awq__linear_hash(uint64_t h, const awq_linear *l)
{
    int64_t row, step = AWQ__MAX(l->out_features / 16, (int64_t)1);
    for (row = 0; row < l->out_features; row += step) {
        h = awq__checksum(h, (const char *)l->weight + row * l->row_bytes, (size_t)l->row_bytes);
        if (!l->scales) continue;
        h = awq__checksum(h, l->scales + row * l->groups, (size_t)l->groups * sizeof(float));
        h = awq__checksum(h, l->offsets + row * l->groups, (size_t)l->groups * sizeof(float));
    }
    return h;
}

static uint64_t awq__hash_model(const awq_model *m)
{
    const awq_config *c = &m->config;
    uint64_t h = awq__checksum(1, &c->rope_theta, sizeof c->rope_theta);
    size_t H = (size_t)c->hidden_size * sizeof(float);
    int l, k;
    h = awq__checksum(h, &c->rope_factor, sizeof c->rope_factor);
    h = awq__checksum(h, &c->sliding_window, sizeof c->sliding_window);
    h = awq__linear_hash(awq__checksum(h, m->final_norm, H), &m->head);
    for (l = 0; l < c->num_hidden_layers; l++) {
        h = awq__checksum(awq__checksum(h, m->layers[l].input_norm, H), m->layers[l].post_norm, H);
        for (k = 0; k < AWQ_N_LINEARS; k++) h = awq__linear_hash(h, &m->layers[l].linear[k]);
    }
    return h;
}

static awq_status awq__model_fill(awq_ctx *ctx, awq_model *m, const char *folder, const awq_model_desc *desc)
{
    const awq_config *c;
    const awq_tensor *t;
    awq_tensors *ts;
    double began = awq__now();
    const void *data;
    int i, k;
    AWQ__TRY(awq_checkpoint_open(ctx, folder, &m->checkpoint));
    m->config = *awq_checkpoint_config(m->checkpoint);
    c = &m->config;
    if (c->head_dim > AWQ__MAX_HEAD)
        return awq__fail(ctx, AWQ_E_LIMIT, "%s: head_dim is %d, at most %d is supported", folder, c->head_dim,
                         AWQ__MAX_HEAD);
    ts = awq_checkpoint_tensors(m->checkpoint);
    if (!desc->no_tokenizer) {
        char *path = awq__path_join(ctx, folder, "tokenizer.json");
        int there = path && awq__file_exists(ctx, path);
        awq__free(ctx, path);
        if (!path) return AWQ_E_MEMORY;
        if (there) AWQ__TRY(awq_tokenizer_load(ctx, folder, &m->tokenizer));
    }
    t = awq_tensors_find(ts, c->family->embed);
    if (!t) return awq__fail(ctx, AWQ_E_FORMAT, "%s: tensor %s is missing", folder, c->family->embed);
    AWQ__TRY(awq__model_tensor(ctx, m, t, &m->embed));
    m->embed_dtype = t->dtype;
    if (c->tie_word_embeddings) {
        data = m->embed;
        m->linear_bytes += t->bytes;
    } else {
        t = awq_tensors_find(ts, c->family->head);
        if (!t) return awq__fail(ctx, AWQ_E_FORMAT, "%s: tensor %s is missing", folder, c->family->head);
        AWQ__TRY(awq__model_tensor(ctx, m, t, &data));
        m->linear_bytes += t->bytes;
    }
    AWQ__TRY(awq_linear_dense(ctx, t->dtype, data, c->vocab_size, c->hidden_size, NULL, &m->head));
    AWQ__TRY(
        awq__read_vector(ctx, m->checkpoint, &m->arena, c->family->final_norm, c->hidden_size, &m->final_norm));
    m->layers = (awq__layer *)awq__arena_alloc(ctx, &m->arena, (size_t)c->num_hidden_layers, sizeof *m->layers);
    if (!m->layers) return AWQ_E_MEMORY;
    for (i = 0; i < c->num_hidden_layers; i++) {
        AWQ__TRY(awq__layer_norms(ctx, m->checkpoint, &m->arena, i, &m->layers[i]));
        for (k = 0; k < AWQ_N_LINEARS; k++)
            AWQ__TRY(awq__load_linear(ctx, m, i, (awq_linear_id)k, desc, &m->layers[i].linear[k]));
        AWQ__TRY(awq__progress(ctx, "load", i + 1, c->num_hidden_layers, began));
    }
    return AWQ_OK;
}

AWQ_API awq_status awq_model_load(awq_ctx *ctx, const char *folder, const awq_model_desc *desc,
                                  awq_model **model)
{
    awq_model_desc none;
    awq_model *m;
    awq_status st;
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    if (desc->rtn_bits && (desc->rtn_bits < 2 || desc->rtn_bits > 8))
        return awq__fail(ctx, AWQ_E_ARG, "awq_model_load: rtn_bits is %d, expected 2 to 8", desc->rtn_bits);
    m = AWQ__NEW(ctx, awq_model, 1);
    if (!m) return AWQ_E_MEMORY;
    st = awq__model_fill(ctx, m, folder, desc);
    if (st) {
        awq_model_free(ctx, m);
        return st;
    }
    m->hash = awq__hash_model(m);
    if (!awq__fs(ctx)->map) {
        awq_checkpoint_close(ctx, m->checkpoint);
        m->checkpoint = NULL;
    }
    *model = m;
    return AWQ_OK;
}

AWQ_API const awq_config *awq_model_config(const awq_model *model) { return &model->config; }
AWQ_API const awq_tokenizer *awq_model_tokenizer(const awq_model *model) { return model->tokenizer; }
AWQ_API uint64_t awq_model_bytes(const awq_model *model) { return model->bytes; }
AWQ_API uint64_t awq_model_linear_bytes(const awq_model *model) { return model->linear_bytes; }
AWQ_API uint64_t awq_model_hash(const awq_model *model) { return model->hash; }

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>sample
   From logits to a token, and from tokens to text that callers see. Invariants: the same seed gives the same
   tokens on every machine in exact mode; ties go to the lower id; text is handed out in whole characters and
   never contains a stop string. Tests: tests/test_generate.c */

#define AWQ__REFUSED (-1e30f) /* logit of a token that may not come */

typedef struct awq__candidate {
    float logit, p;
    int32_t id;
} awq__candidate;

static int awq__by_logit(const void *a, const void *b) /* best first, ties by id */
{
    const awq__candidate *x = (const awq__candidate *)a, *y = (const awq__candidate *)b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t awq__argmax(const float *x, int64_t n)
{
    int64_t i, best = 0;
    for (i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

/* seen: [(vocab + 31) / 32], a bit per token that had its penalty */
static void awq__penalize(const awq_sampling *s, float *logits, int64_t vocab, const int32_t *history,
                          int64_t n, uint32_t *seen)
{
    int64_t i = s->repetition_window > 0 && n > s->repetition_window ? n - s->repetition_window : 0;
    memset(seen, 0, (size_t)(vocab + 31) / 32 * 4);
    for (; i < n; i++) {
        int32_t id = history[i];
        if (id < 0 || id >= vocab || seen[id / 32] >> id % 32 & 1) continue;
        seen[id / 32] |= (uint32_t)1 << id % 32;
        if (logits[id] > 0) logits[id] /= s->repetition_penalty;
        else if (logits[id] > AWQ__REFUSED) logits[id] *= s->repetition_penalty;
    }
}

/* At least `want` of the most probable tokens (all, if there are fewer), in order, into c: those whose distance
   from 0, the largest logit, falls into the first of 256 buckets that hold so many. */
static int64_t awq__gather(const float *x, int64_t n, int64_t want, awq__candidate *c)
{
    int64_t count[256], i, k = 0, sum = 0;
    int last = 0;
    memset(count, 0, sizeof count);
    for (i = 0; i < n; i++)
        if (x[i] > AWQ__REFUSED) count[x[i] > -31.875f ? (int)(x[i] * -8.0f) : 255]++;
    while (last < 255 && (sum += count[last]) < want) last++;
    for (i = 0; i < n; i++)
        if (x[i] > AWQ__REFUSED && (x[i] > -31.875f ? (int)(x[i] * -8.0f) : 255) <= last) {
            c[k].logit = x[i];
            c[k++].id = (int32_t)i;
        }
    qsort(c, (size_t)k, sizeof *c, awq__by_logit);
    return k;
}

static awq_status awq__sampling_check(awq_ctx *ctx, const awq_sampling *s)
{
    if (!(s->temperature >= 0) || s->top_k < 0 || !(s->top_p >= 0 && s->top_p <= 1)
        || !(s->min_p >= 0 && s->min_p <= 1) || !(s->repetition_penalty >= 0))
        return awq__fail(ctx, AWQ_E_ARG,
                         "sampling: temperature %g, top_k %d, top_p %g, min_p %g, repetition_penalty %g: "
                         "expected none negative, top_p and min_p at most 1",
                         (double)s->temperature, s->top_k, (double)s->top_p, (double)s->min_p,
                         (double)s->repetition_penalty);
    return AWQ_OK;
}

/* One token. Some logits may be AWQ__REFUSED, not all; they are changed. c: room for n. */
static int32_t awq__draw(awq_ctx *ctx, const awq_sampling *s, float *x, int64_t n, awq__candidate *c,
                         uint64_t *state)
{
    int32_t top = awq__argmax(x, n);
    int64_t want, i, have, keep;
    double total = 0, sum, u, target;
    float best = x[top];
    if (s->temperature == 0 || s->top_k == 1) return top;
    u = (double)awq__random_unit(state);
    for (i = 0; i < n; i++) {
        float d = (x[i] - best) / s->temperature;
        x[i] = x[i] <= AWQ__REFUSED ? AWQ__REFUSED : d > -1000.0f ? d : -1000.0f;
    }
    x[top] = 0; /* one is left whatever the logits and the penalty are */
    if (!s->top_k) total = exp(awq__ops_for(ctx)->logsum(x, n, &best));
    for (want = s->top_k ? s->top_k : 128;; want *= 4) {
        int64_t limit;
        have = awq__gather(x, n, want, c);
        limit = s->top_k ? AWQ__MIN((int64_t)s->top_k, have) : have;
        for (i = 0, sum = 0; i < limit; i++) sum += c[i].p = awq__expf(c[i].logit);
        if (s->top_k) total = sum;
        target = s->top_p > 0 && s->top_p < 1 ? s->top_p * total : s->min_p > 0 ? 2 * total : u * total;
        for (keep = 0, sum = 0; keep < limit && sum < target; keep++) sum += c[keep].p;
        if (s->top_k || sum >= target || want >= n) break;
        if (s->min_p > 0 && c[limit - 1].p < s->min_p * c[0].p) break;
    }
    if (s->top_k && !(s->top_p > 0 && s->top_p < 1)) keep = AWQ__MIN((int64_t)s->top_k, have);
    if (keep < 1) keep = 1;
    while (s->min_p > 0 && keep > 1 && c[keep - 1].p < s->min_p * c[0].p) keep--;
    if (s->top_k || s->min_p > 0 || (s->top_p > 0 && s->top_p < 1))
        for (i = 0, total = 0; i < keep; i++) total += c[i].p;
    u *= total;
    for (i = 0; i < keep - 1 && u >= c[i].p; i++) u -= c[i].p;
    return c[i].id;
}

AWQ_API awq_status awq_sample(awq_ctx *ctx, const awq_sampling *s, float *logits, int64_t vocab_size,
                              const int32_t *history, int64_t n_history, uint64_t *state, int32_t *id)
{
    awq__candidate *c;
    uint32_t *seen;
    if (vocab_size < 1)
        return awq__fail(ctx, AWQ_E_ARG, "awq_sample: vocab_size is %lld", (long long)vocab_size);
    AWQ__TRY(awq__sampling_check(ctx, s));
    if (!awq__all_finite(logits, vocab_size))
        return awq__fail(ctx, AWQ_E_NUMERIC, "the logits have NaN or Inf");
    c = AWQ__NEW_RAW(ctx, awq__candidate, vocab_size);
    seen = c ? AWQ__NEW_RAW(ctx, uint32_t, (vocab_size + 31) / 32) : NULL;
    if (seen) {
        if (s->repetition_penalty > 0 && s->repetition_penalty != 1)
            awq__penalize(s, logits, vocab_size, history, n_history, seen);
        *id = awq__draw(ctx, s, logits, vocab_size, c, state);
    }
    awq__free(ctx, c);
    awq__free(ctx, seen);
    return seen ? AWQ_OK : AWQ_E_MEMORY;
}

/* text -> ids in fresh memory */
static awq_status awq__encode_all(awq_ctx *ctx, const awq_tokenizer *t, const char *text, size_t bytes,
                                  int special, int32_t **ids, size_t *n)
{
    size_t cap = bytes + 16;
    int32_t *p = AWQ__NEW_RAW(ctx, int32_t, cap);
    awq_status st = p ? awq_encode(ctx, t, text, bytes, special, p, cap, n) : AWQ_E_MEMORY;
    if (!st && *n > cap) {
        awq__free(ctx, p);
        cap = *n;
        p = AWQ__NEW_RAW(ctx, int32_t, cap);
        st = p ? awq_encode(ctx, t, text, bytes, special, p, cap, n) : AWQ_E_MEMORY;
    }
    if (st) awq__free(ctx, p);
    else *ids = p;
    return st;
}

/* messages -> text through the chat template, which writes BOS itself; awq_text_free it */
static awq_status awq__render(awq_ctx *ctx, const awq_tokenizer *t, const awq_message *messages, size_t n,
                              int add_generation_prompt, char **text, size_t *bytes)
{
    awq_template_desc d;
    char bos[256] = "", eos[256] = "";
    size_t len;
    int32_t id;
    memset(&d, 0, sizeof d);
    d.add_generation_prompt = add_generation_prompt;
    if ((id = awq_tokenizer_bos(t)) >= 0) AWQ__TRY(awq_decode(ctx, t, &id, 1, 0, bos, sizeof bos, &len));
    if ((id = awq_tokenizer_eos(t)) >= 0) AWQ__TRY(awq_decode(ctx, t, &id, 1, 0, eos, sizeof eos, &len));
    d.bos_token = bos;
    d.eos_token = eos;
    return awq_template_render(ctx, awq_tokenizer_chat_template(t), messages, n, &d, text, bytes);
}

static awq_status awq__encode_messages(awq_ctx *ctx, const awq_tokenizer *t, const awq_message *messages,
                                       size_t n, int add_generation_prompt, int32_t **ids, size_t *n_ids)
{
    char *text = NULL;
    size_t bytes = 0;
    awq_status st;
    if (!awq_tokenizer_chat_template(t))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "the model has no chat template; give a plain prompt");
    AWQ__TRY(awq__render(ctx, t, messages, n, add_generation_prompt, &text, &bytes));
    st = awq__encode_all(ctx, t, text, bytes, 0, ids, n_ids);
    awq_text_free(ctx, text);
    return st;
}

/* Text handed out with stop strings held back: `pending` may begin one. */
typedef struct awq__speaker {
    const awq_generate_desc *d;
    awq__text pending;
    size_t longest;       /* of the stop strings */
    size_t spoken, mute;  /* bytes handed out; bytes that were, before a restore */
    int stopped;          /* awq_stop_reason, 0: going on */
} awq__speaker;

static void awq__speak(awq__speaker *s, size_t n) /* hand out the first n pending bytes */
{
    size_t skip = AWQ__MIN(s->mute, n);
    s->mute -= skip;
    s->spoken += n;
    if (n > skip && s->d->on_text && s->d->on_text(s->d->user, s->pending.data + skip, n - skip))
        s->stopped = AWQ_STOP_CALLER;
    if (!n) return;
    memmove(s->pending.data, s->pending.data + n, s->pending.len - n + 1);
    s->pending.len -= n;
}

static awq_status awq__speaker_add(awq_ctx *ctx, awq__speaker *s, const char *text, size_t bytes, int last)
{
    size_t i, k, hold = s->longest ? s->longest - 1 : 0;
    awq__text_add(ctx, &s->pending, text, bytes);
    if (s->pending.failed) return AWQ_E_MEMORY;
    for (i = 0; i < s->pending.len; i++)
        for (k = 0; k < s->d->n_stop; k++) {
            size_t n = strlen(s->d->stop[k]);
            if (!n || n > s->pending.len - i || memcmp(s->pending.data + i, s->d->stop[k], n)) continue;
            awq__speak(s, i);
            s->stopped = AWQ_STOP_STRING;
            return AWQ_OK;
        }
    if (last) hold = 0;
    if (s->pending.len > hold) {
        size_t n = s->pending.len - hold;
        while (n && (s->pending.data[n] & 0xc0) == 0x80) n--; /* keep characters whole */
        awq__speak(s, n);
    }
    return AWQ_OK;
}

static int awq__is_eos(const awq_model *m, int32_t id)
{
    int i;
    for (i = 0; i < m->config.n_eos; i++)
        if (m->config.eos_token_id[i] == id) return 1;
    return m->tokenizer && awq_tokenizer_eos(m->tokenizer) == id;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>session
   A runner advances sessions together: a pass takes the next tokens of several of them through the model, cut
   into small pieces of work so that a step can end on time; the pass then goes on in the next step.
   Invariants: ids[0, kv.len) of a session are in its cache, ids[kv.len, n_ids) wait; a pass changes neither
   before its last layer is done, so that a session can leave, be saved or forked in the middle of one, and what
   was half computed is computed again. A page that is shared or in the table of prefixes is never written.
   n_ids < kv.max while an answer is under way. Steps allocate nothing.
   Tests: tests/test_session.c */

#define AWQ__HEAD_ROWS 16 /* rows of logits at a time */
#define AWQ__BUCKETS 1024

/* kinds of work after the steps of a block */
enum { AWQ__EMBED = AWQ__N_STEPS, AWQ__FINAL, AWQ__HEAD, AWQ__SAMPLE, AWQ__N_KINDS };

/* AWQ__PAGE tokens of one or more sessions. Pages that no session holds are in the runner's list: empty ones at
   its head, then those that hold a beginning, the least recently used first. */
typedef struct awq__page {
    float *data;
    int64_t holders;
    uint64_t serial, parent;      /* its number in the table of prefixes, 0: not there; the page's before */
    int32_t ids[AWQ__PAGE];
    struct awq__page *same;       /* next in its bucket */
    struct awq__page *prev, *next;
} awq__page;

typedef struct awq__member {
    awq_session *s;  /* NULL: it left */
    int64_t row, n;  /* its rows in the pass */
    int waits;       /* for a token: its last row goes through the head */
} awq__member;

struct awq_runner {
    const awq_model *model;
    awq_runner_desc desc;
    size_t page_floats;
    awq__page idle;               /* head of the list of pages nobody holds */
    awq__page *bucket[AWQ__BUCKETS];
    uint64_t serials, passes, asked;
    int64_t read, answered;       /* tokens since the runner began */
    awq_session *sessions;
    int inside;                   /* a callback is running */
    awq__work work;
    int32_t *row_ids;             /* [max_rows] */
    float *logits;                /* [AWQ__HEAD_ROWS, vocab] */
    awq__candidate *candidates;   /* [vocab] */
    uint32_t *bits;               /* [(vocab + 31) / 32] */
    awq__gr_vocab *vocab;         /* for grammars, made when one comes */
    /* the pass under way: operation `op` of n_ops, of whose jobs `done` are done */
    awq__member *member;          /* [max_rows] */
    int64_t n_members, n_rows, n_waiting;
    int64_t op, n_ops;
    int kind;
    void (*job)(void *arg, int64_t index);
    void *arg;
    int64_t count, done;
    double job_work;              /* multiply-adds of a job, about */
    awq__task task;
    double cost[AWQ__N_KINDS][8]; /* seconds per unit of work, by number of rows */
};

struct awq_session {
    awq_runner *runner;
    awq_session *next;
    awq_session_desc desc;
    awq__kv kv;                   /* its pages point into `page` */
    awq__page **page;
    int64_t n_pages;              /* held */
    int32_t *ids, *spare;         /* [kv.max]; spare: for on_full */
    int64_t n_ids;
    int in_pass, listed, was_busy;
    uint64_t last_pass, asked;
    /* the answer */
    int busy, reading;            /* under way; its prompt is not computed yet */
    awq_generate_desc d;
    void *stop_memory;
    int32_t *answer;              /* [max_tokens] */
    int64_t max_tokens;
    double *pool;                 /* [H] sum of final rows */
    int64_t pool_rows, pool_from; /* so many, from this position on */
    uint64_t random;
    int32_t state;                /* of d.grammar, held; 0: none */
    awq__speaker speaker;
    awq_decoder decoder;
    awq_generate_result r;
    awq_status status;
    char why[256];                /* when status is not AWQ_OK */
};

/* --- pages */
static void awq__page_unlink(awq__page *p)
{
    p->prev->next = p->next;
    p->next->prev = p->prev;
}

static void awq__page_link(awq__page *p, awq__page *before)
{
    p->prev = before->prev;
    p->next = before;
    p->prev->next = before->prev = p;
}

static uint32_t awq__page_bucket(uint64_t parent, const int32_t *ids)
{
    uint64_t h = parent * 0x9e3779b97f4a7c15ull;
    int i;
    for (i = 0; i < AWQ__PAGE; i++) h = (h ^ (uint32_t)ids[i]) * 0x100000001b3ull;
    return (uint32_t)((h ^ h >> 32) % AWQ__BUCKETS);
}

static void awq__page_forget(awq_runner *r, awq__page *p) /* out of the table of prefixes */
{
    awq__page **at = &r->bucket[awq__page_bucket(p->parent, p->ids)];
    if (!p->serial) return;
    while (*at != p) at = &(*at)->same;
    *at = p->same;
    p->serial = 0;
}

static awq__page *awq__page_find(awq_runner *r, uint64_t parent, const int32_t *ids)
{
    awq__page *p = r->bucket[awq__page_bucket(parent, ids)];
    while (p && (p->parent != parent || memcmp(p->ids, ids, sizeof p->ids))) p = p->same;
    return p;
}

static void awq__page_hold(awq__page *p)
{
    if (!p->holders++) awq__page_unlink(p);
}

static void awq__page_release(awq_runner *r, awq__page *p)
{
    if (--p->holders) return;
    awq__page_link(p, p->serial ? &r->idle : r->idle.next);
}

/* an empty page; there is one, as every session brings as many as it may hold */
static awq__page *awq__page_take(awq_runner *r)
{
    awq__page *p = r->idle.next;
    awq__page_forget(r, p);
    awq__page_hold(p);
    return p;
}

static awq_status awq__pages_add(awq_ctx *ctx, awq_runner *r, int64_t n)
{
    size_t bytes;
    int64_t i;
    awq__page *p;
    if (!awq__mul(r->page_floats, sizeof(float), &bytes) || bytes > SIZE_MAX / 4)
        return awq__fail(ctx, AWQ_E_MEMORY, "a page of the KV cache does not fit the address space");
    for (i = 0; i < n; i++) {
        p = (awq__page *)awq__alloc_raw(ctx, 1, 64 + sizeof *p / 64 * 64 + 64 + bytes);
        if (!p) break;
        memset(p, 0, sizeof *p);
        p->data = (float *)((char *)p + 64 + sizeof *p / 64 * 64);
        awq__page_link(p, r->idle.next);
    }
    if (i == n) return AWQ_OK;
    while (i--) {
        p = r->idle.next;
        awq__page_unlink(p);
        awq__free(ctx, p);
    }
    return AWQ_E_MEMORY;
}

static void awq__pages_remove(awq_ctx *ctx, awq_runner *r, int64_t n)
{
    while (n-- > 0) {
        awq__page *p = awq__page_take(r);
        awq__free(ctx, p);
    }
}

static void awq__set_page(awq_session *s, int64_t b, awq__page *p)
{
    s->page[b] = p;
    s->kv.page[b] = p->data;
}

/* the cache ends at token len; later pages are let go, the last one first */
static void awq__session_cut(awq_session *s, int64_t len)
{
    s->kv.len = AWQ__MIN(s->kv.len, len);
    while (s->n_pages > awq__pages(s->kv.len)) awq__page_release(s->runner, s->page[--s->n_pages]);
}

/* pages for n more tokens, the session's alone from kv.len on */
static void awq__session_room(awq_session *s, int64_t n)
{
    awq_runner *r = s->runner;
    int64_t b = s->kv.len / AWQ__PAGE;
    if (s->kv.len % AWQ__PAGE && s->page[b]->holders > 1) {
        awq__page *p = awq__page_take(r), *old = s->page[b];
        memcpy(p->data, old->data, r->page_floats * sizeof(float));
        awq__set_page(s, b, p);
        awq__page_release(r, old);
    } else if (s->kv.len % AWQ__PAGE) {
        awq__page_forget(r, s->page[b]);
    }
    while (s->n_pages < awq__pages(s->kv.len + n)) {
        awq__set_page(s, s->n_pages, awq__page_take(r));
        s->n_pages++;
    }
}

/* number of the page before page b in the table of prefixes: 1 before the first, 0 when it is not there */
static uint64_t awq__page_parent(const awq_session *s, int64_t b) { return b ? s->page[b - 1]->serial : 1; }

/* n tokens were computed: whole pages enter the table, or make way for a page that holds the same */
static void awq__session_advance(awq_session *s, int64_t n)
{
    awq_runner *r = s->runner;
    int64_t b = s->kv.len / AWQ__PAGE;
    s->kv.len += n;
    for (; (b + 1) * AWQ__PAGE <= s->kv.len; b++) {
        uint64_t parent = awq__page_parent(s, b);
        const int32_t *ids = s->ids + b * AWQ__PAGE;
        awq__page *p = s->page[b], *same = parent ? awq__page_find(r, parent, ids) : NULL;
        if (!parent || p->serial) continue;
        if (same) {
            awq__page_hold(same);
            awq__set_page(s, b, same);
            awq__page_release(r, p);
            continue;
        }
        p->serial = 2 + r->serials++;
        p->parent = parent;
        memcpy(p->ids, ids, sizeof p->ids);
        p->same = r->bucket[awq__page_bucket(parent, ids)];
        r->bucket[awq__page_bucket(parent, ids)] = p;
    }
}

/* take over pages that hold what comes next; at least one token stays to be computed */
static void awq__session_fetch(awq_session *s)
{
    while (s->kv.len % AWQ__PAGE == 0 && s->n_ids - s->kv.len > AWQ__PAGE) {
        int64_t b = s->kv.len / AWQ__PAGE;
        uint64_t parent = awq__page_parent(s, b);
        awq__page *p = parent ? awq__page_find(s->runner, parent, s->ids + s->kv.len) : NULL;
        if (!p) return;
        awq__page_hold(p);
        awq__set_page(s, b, p);
        s->n_pages = b + 1;
        s->kv.len += AWQ__PAGE;
        if (s->reading) s->r.cached_tokens += AWQ__PAGE;
    }
}

/* --- runner */
static awq_status awq__not_inside(awq_ctx *ctx, const awq_runner *r, const char *what)
{
    if (!r->inside) return AWQ_OK;
    return awq__fail(ctx, AWQ_E_ARG, "%s: called from a callback of awq_step on the same runner", what);
}

AWQ_API awq_status awq_runner_free(awq_ctx *ctx, awq_runner *r)
{
    if (!r) return AWQ_OK;
    if (r->sessions)
        return awq__fail(ctx, AWQ_E_ARG, "awq_runner_free: the runner still has sessions; free them first");
    while (r->idle.next != &r->idle) awq__pages_remove(ctx, r, 1);
    awq__work_free(ctx, &r->work);
    awq__free(ctx, r->row_ids);
    awq__free(ctx, r->logits);
    awq__free(ctx, r->candidates);
    awq__free(ctx, r->bits);
    awq__gr_vocab_free(ctx, r->vocab);
    awq__free(ctx, r->member);
    AWQ__ATOMIC_ADD(&((awq_model *)(uintptr_t)r->model)->users, -1);
    awq__free(ctx, r);
    return AWQ_OK;
}

static awq_status awq__runner_desc(awq_ctx *ctx, const awq_runner_desc *desc, awq_runner_desc *d)
{
    memset(d, 0, sizeof *d);
    if (desc) *d = *desc;
    if (!d->max_rows) d->max_rows = 64;
    if (!d->prompt_rows) d->prompt_rows = AWQ__MIN(d->max_rows, (int64_t)16);
    if (d->max_rows < 1 || d->max_rows > 65536 || d->prompt_rows < 1 || d->cache_tokens < 0
        || d->cache_tokens > (int64_t)1 << 31)
        return awq__fail(ctx, AWQ_E_ARG,
                         "awq_runner_create: max_rows %lld, prompt_rows %lld, cache_tokens %lld: expected 1 to "
                         "65536 rows and no negative number of tokens",
                         (long long)d->max_rows, (long long)d->prompt_rows, (long long)d->cache_tokens);
    return AWQ_OK;
}

AWQ_API awq_status awq_runner_create(awq_ctx *ctx, const awq_model *model, const awq_runner_desc *desc,
                                     awq_runner **runner)
{
    const awq_config *c = &model->config;
    awq_runner_desc d;
    awq_runner *r;
    awq_status st;
    int ok;
    AWQ__TRY(awq__runner_desc(ctx, desc, &d));
    r = AWQ__NEW(ctx, awq_runner, 1);
    if (!r) return AWQ_E_MEMORY;
    r->model = model;
    AWQ__ATOMIC_ADD(&((awq_model *)(uintptr_t)model)->users, 1);
    r->desc = d;
    r->page_floats = awq__page_floats(c, c->num_hidden_layers);
    r->idle.prev = r->idle.next = &r->idle;
    st = awq__work_alloc(ctx, c, d.max_rows, &r->work);
    ok = !st && (r->row_ids = AWQ__NEW_RAW(ctx, int32_t, d.max_rows)) != NULL;
    ok = ok && (r->logits = AWQ__NEW_RAW(ctx, float, c->vocab_size * AWQ__HEAD_ROWS)) != NULL;
    ok = ok && (r->candidates = AWQ__NEW_RAW(ctx, awq__candidate, c->vocab_size)) != NULL;
    ok = ok && (r->bits = AWQ__NEW_RAW(ctx, uint32_t, (c->vocab_size + 31) / 32)) != NULL;
    ok = ok && (r->member = AWQ__NEW(ctx, awq__member, d.max_rows)) != NULL;
    if (!ok) st = AWQ_E_MEMORY;
    if (!st) st = awq__pages_add(ctx, r, awq__pages(d.cache_tokens));
    if (st) awq_runner_free(ctx, r);
    else *runner = r;
    return st;
}

/* the session's rows leave the pass; what they computed is lost */
static void awq__pass_leave(awq_session *s)
{
    awq_runner *r = s->runner;
    int64_t i, k;
    if (!s->in_pass) return;
    for (i = 0; i < r->n_members; i++) {
        awq__member *m = &r->member[i];
        if (m->s != s) continue;
        for (k = m->row; k < m->row + m->n; k++) r->work.row[k].kv = NULL;
        m->s = NULL;
    }
    s->in_pass = 0;
    awq__session_cut(s, s->kv.len); /* the room for its rows */
    for (i = 0; i < r->n_members; i++)
        if (r->member[i].s) return;
    r->n_ops = 0; /* nobody is left */
}

static void awq__pass_abort(awq_runner *r)
{
    int64_t i;
    for (i = 0; i < r->n_members; i++)
        if (r->member[i].s) awq__pass_leave(r->member[i].s);
}

/* --- sessions */
/* the automaton's state is another one, or 0; states in use are held */
static void awq__answer_state(awq_session *s, int32_t state)
{
    if (state) awq__gr_hold(s->d.grammar, state, 1);
    if (s->state) awq__gr_hold(s->d.grammar, s->state, -1);
    s->state = state;
}

static void awq__answer_free(awq_ctx *ctx, awq_session *s)
{
    awq__free(ctx, s->stop_memory);
    awq__free(ctx, s->answer);
    awq__free(ctx, s->pool);
    awq__text_free(ctx, &s->speaker.pending);
    awq_decoder_free(ctx, &s->decoder);
    awq__answer_state(s, 0);
    s->stop_memory = NULL;
    s->answer = NULL;
    s->pool = NULL;
    s->busy = s->reading = 0;
    memset(&s->d, 0, sizeof s->d);
    memset(&s->speaker, 0, sizeof s->speaker);
    memset(&s->r, 0, sizeof s->r);
}

AWQ_API awq_status awq_session_free(awq_ctx *ctx, awq_session *s)
{
    awq_session **at;
    awq_runner *r;
    if (!s) return AWQ_OK;
    r = s->runner;
    AWQ__TRY(awq__not_inside(ctx, r, "awq_session_free"));
    awq__pass_leave(s);
    for (at = &r->sessions; *at && *at != s; at = &(*at)->next) {}
    if (*at) *at = s->next;
    awq__session_cut(s, 0);
    awq__pages_remove(ctx, r, awq__pages(s->kv.max));
    awq__answer_free(ctx, s);
    awq__free(ctx, s->kv.page);
    awq__free(ctx, s->page);
    awq__free(ctx, s->ids);
    awq__free(ctx, s->spare);
    awq__free(ctx, s);
    return AWQ_OK;
}

static awq_status awq__session_desc(awq_ctx *ctx, const awq_config *c, const awq_session_desc *desc,
                                    awq_session_desc *d)
{
    memset(d, 0, sizeof *d);
    if (desc) *d = *desc;
    if (!d->max_tokens) d->max_tokens = AWQ__MIN(c->max_position_embeddings, (int64_t)4096);
    if (d->max_tokens < 1 || d->max_tokens > (int64_t)1 << 31)
        return awq__fail(ctx, AWQ_E_ARG, "awq_session_create: max_tokens is %lld", (long long)d->max_tokens);
    if ((int)d->overflow < 0 || d->overflow > AWQ_OVERFLOW_SLIDE || d->keep < 0
        || (d->keep && d->keep > d->max_tokens - 2))
        return awq__fail(ctx, AWQ_E_ARG,
                         "awq_session_create: overflow %d, keep %lld: expected one of awq_overflow, and 2 of "
                         "%lld tokens to spare",
                         (int)d->overflow, (long long)d->keep, (long long)d->max_tokens);
    return AWQ_OK;
}

AWQ_API awq_status awq_session_create(awq_ctx *ctx, awq_runner *runner, const awq_session_desc *desc,
                                      awq_session **session)
{
    awq_session_desc d;
    awq_session *s;
    awq_status st;
    int64_t pages;
    AWQ__TRY(awq__not_inside(ctx, runner, "awq_session_create"));
    AWQ__TRY(awq__session_desc(ctx, &runner->model->config, desc, &d));
    pages = awq__pages(d.max_tokens);
    s = AWQ__NEW(ctx, awq_session, 1);
    if (!s) return AWQ_E_MEMORY;
    s->runner = runner;
    s->desc = d;
    st = awq__pages_add(ctx, runner, pages);
    if (!st) s->kv.max = d.max_tokens;
    if (!st && !(s->page = AWQ__NEW(ctx, awq__page *, pages))) st = AWQ_E_MEMORY;
    if (!st && !(s->kv.page = AWQ__NEW(ctx, float *, pages))) st = AWQ_E_MEMORY;
    if (!st && !(s->ids = AWQ__NEW_RAW(ctx, int32_t, d.max_tokens))) st = AWQ_E_MEMORY;
    if (!st && d.on_full && !(s->spare = AWQ__NEW_RAW(ctx, int32_t, d.max_tokens))) st = AWQ_E_MEMORY;
    if (st) {
        awq_session_free(ctx, s);
        return st;
    }
    s->next = runner->sessions;
    runner->sessions = s;
    *session = s;
    return AWQ_OK;
}

AWQ_API int64_t awq_session_position(const awq_session *session) { return session->n_ids; }
AWQ_API const int32_t *awq_session_ids(const awq_session *session) { return session->ids; }
AWQ_API int awq_session_busy(const awq_session *session) { return session->busy; }

static int64_t awq__common(const int32_t *a, int64_t n, const int32_t *b, int64_t m)
{
    int64_t i = 0;
    while (i < n && i < m && a[i] == b[i]) i++;
    return i;
}

/* the session's tokens become ids [n]; what is computed of them stays */
static void awq__set_ids(awq_session *s, const int32_t *ids, int64_t n)
{
    awq__session_cut(s, awq__common(s->ids, s->n_ids, ids, n));
    memmove(s->ids, ids, (size_t)n * sizeof *ids);
    s->n_ids = n;
}

static void awq__answer_end(awq_session *s, awq_stop_reason reason)
{
    s->busy = s->reading = 0;
    s->r.reason = reason;
    s->r.complete = reason != AWQ_STOP_LENGTH && reason != AWQ_STOP_CONTEXT && reason != AWQ_STOP_FAILED;
    if (s->state) s->r.complete = reason != AWQ_STOP_FAILED && awq__gr_accepts(s->d.grammar, s->state);
    awq__answer_state(s, 0); /* the grammar may be freed now */
}

static void awq__answer_fail(awq_ctx *ctx, awq_session *s, awq_status st)
{
    s->status = st;
    snprintf(s->why, sizeof s->why, "%.255s", ctx->err.text);
    awq__answer_end(s, AWQ_STOP_FAILED);
}

AWQ_API awq_status awq_session_stop(awq_ctx *ctx, awq_session *s)
{
    awq_status st = AWQ_OK;
    AWQ__TRY(awq__not_inside(ctx, s->runner, "awq_session_stop"));
    if (!s->busy) return AWQ_OK;
    awq__pass_leave(s);
    if (s->runner->model->tokenizer) {
        s->runner->inside = 1;
        st = awq__speaker_add(ctx, &s->speaker, "", 0, 1);
        s->runner->inside = 0;
    }
    awq__answer_end(s, AWQ_STOP_CALLER);
    return st;
}

AWQ_API awq_status awq_session_rewind(awq_ctx *ctx, awq_session *s, int64_t position)
{
    if (position < 0 || position > s->n_ids)
        return awq__fail(ctx, AWQ_E_ARG, "awq_session_rewind: position %lld, the session holds %lld tokens",
                         (long long)position, (long long)s->n_ids);
    AWQ__TRY(awq_session_stop(ctx, s));
    s->n_ids = position;
    awq__session_cut(s, position);
    return AWQ_OK;
}

AWQ_API awq_status awq_session_answer(awq_ctx *ctx, const awq_session *s, awq_generate_result *result)
{
    if (result) *result = s->r;
    return s->status ? awq__fail(ctx, s->status, "%s", s->why) : AWQ_OK;
}

/* Make room in ids [n], of which the last `fresh` must stay: afterwards *n < max. Returns 0 when it cannot. */
static int awq__make_room(awq_session *s, int32_t *ids, int64_t *n, int64_t fresh)
{
    const awq_session_desc *d = &s->desc;
    int64_t max = s->kv.max, keep = d->keep;
    if (*n < max) return 1;
    if (d->on_full) {
        int64_t left;
        s->runner->inside = 1;
        left = d->on_full(d->user, ids, *n, max);
        s->runner->inside = 0;
        if (left < 1 || left >= max) return 0;
        *n = left;
        return 1;
    }
    if (d->overflow != AWQ_OVERFLOW_SLIDE || keep + fresh >= max) return 0;
    while (*n >= max) {
        int64_t drop = AWQ__MAX((int64_t)1, AWQ__MIN((*n - keep) / 2, *n - keep - fresh));
        memmove(ids + keep, ids + keep + drop, (size_t)(*n - keep - drop) * sizeof *ids);
        *n -= drop;
    }
    return 1;
}

/* --- one token of an answer */
static void awq__answer_push(awq_ctx *ctx, awq_session *s, int32_t id)
{
    const awq_model *m = s->runner->model;
    const char *text = "";
    size_t bytes = 0;
    awq_status st = AWQ_OK;
    s->answer[s->r.tokens] = id;
    if (s->d.out_ids) s->d.out_ids[s->r.tokens] = id;
    s->r.tokens++;
    s->runner->answered++;
    s->runner->inside = 1;
    if (m->tokenizer) {
        st = awq_decoder_push(ctx, m->tokenizer, &s->decoder, id, &text, &bytes);
        if (!st) st = awq__speaker_add(ctx, &s->speaker, text, bytes, 0);
    }
    if (!st && !s->speaker.stopped && s->r.tokens == s->max_tokens) {
        if (m->tokenizer) st = awq__speaker_add(ctx, &s->speaker, "", 0, 1);
        awq__answer_end(s, AWQ_STOP_LENGTH);
    }
    s->runner->inside = 0;
    if (s->speaker.stopped) awq__answer_end(s, (awq_stop_reason)s->speaker.stopped);
    if (st) awq__answer_fail(ctx, s, st);
}

/* the held-back end of the text, and the end */
static void awq__answer_finish(awq_ctx *ctx, awq_session *s, awq_stop_reason reason)
{
    awq_status st = AWQ_OK;
    s->runner->inside = 1;
    if (s->runner->model->tokenizer) st = awq__speaker_add(ctx, &s->speaker, "", 0, 1);
    s->runner->inside = 0;
    awq__answer_end(s, s->speaker.stopped == AWQ_STOP_STRING ? AWQ_STOP_STRING : reason);
    if (st) awq__answer_fail(ctx, s, st);
}

/* --- grammar */

static awq_status awq__answer_grammar(awq_ctx *ctx, awq_session *s)
{
    awq_runner *r = s->runner;
    int32_t state = 0;
    if (!r->model->tokenizer)
        return awq__fail(ctx, AWQ_E_ARG, "a grammar needs the model's tokenizer.json, and it has none");
    if (!r->vocab)
        AWQ__TRY(awq__gr_vocab_create(ctx, r->model->tokenizer, r->model->config.vocab_size, &r->vocab));
    AWQ__TRY(awq__gr_start(ctx, s->d.grammar, &state));
    awq__answer_state(s, state);
    return AWQ_OK;
}

/* the decoder drops a space at the start of a text, which the grammar does not see either */
static int awq__at_start(const awq_session *s) { return !s->r.tokens && awq__gr_drops_space(s->runner->vocab); }

#define AWQ__GUESSES 16 /* tokens tried one by one before a mask of all is made */

/* Tokens that cannot follow become AWQ__REFUSED: those that would have been chosen, when the most probable
   token is wanted and it is soon found, or all. *none: nothing can follow. */
static awq_status awq__answer_refuse(awq_ctx *ctx, awq_session *s, float *logits, int *none)
{
    awq_runner *r = s->runner;
    const awq_model *m = r->model;
    awq_grammar *g = s->d.grammar;
    int64_t vocab = m->config.vocab_size, i, left = 0, count;
    int ends = awq__gr_accepts(g, s->state) && !s->d.ignore_eos, guesses = AWQ__GUESSES;
    *none = 0;
    if (s->d.sampling.temperature > 0 && s->d.sampling.top_k != 1) guesses = 0;
    for (; guesses > 0; guesses--) {
        int32_t id = awq__argmax(logits, vocab), next = 0;
        if (ends && awq__is_eos(m, id)) return AWQ_OK;
        AWQ__TRY(awq__gr_token_fits(ctx, g, s->state, awq__at_start(s), r->vocab, id, &next));
        if (next) return AWQ_OK;
        logits[id] = AWQ__REFUSED;
    }
    AWQ__TRY(awq__gr_mask(ctx, g, s->state, awq__at_start(s), r->vocab, r->bits, &count));
    for (i = 0; i < vocab; i += 32) {
        uint32_t word = r->bits[i / 32], k;
        for (k = 0; word != 0xffffffff && k < 32 && i + k < vocab; k++)
            if (!(word >> k & 1) && !(ends && awq__is_eos(m, (int32_t)(i + k)))) logits[i + k] = AWQ__REFUSED;
    }
    for (i = 0; i < vocab && !left; i++) left = logits[i] > AWQ__REFUSED;
    *none = !left;
    return AWQ_OK;
}

/* a token joins the answer: automaton, then text */
static void awq__answer_take(awq_ctx *ctx, awq_session *s, int32_t id)
{
    int32_t next = 0;
    awq_status st = AWQ_OK;
    if (s->state) {
        st = awq__gr_token_fits(ctx, s->d.grammar, s->state, awq__at_start(s), s->runner->vocab, id, &next);
        if (!st && !next) st = awq__fail(ctx, AWQ_E_ARG, "the answer so far does not fit the grammar");
        if (st) {
            awq__answer_fail(ctx, s, st);
            return;
        }
        awq__answer_state(s, next);
    }
    awq__answer_push(ctx, s, id);
    if (s->busy && s->state && awq__gr_ends(s->d.grammar, s->state))
        awq__answer_finish(ctx, s, AWQ_STOP_GRAMMAR);
}

/* the next token of an answer from its logits [vocab] */
static void awq__answer_next(awq_ctx *ctx, awq_session *s, float *logits)
{
    awq_runner *r = s->runner;
    int64_t vocab = r->model->config.vocab_size, n;
    const awq_sampling *d = &s->d.sampling;
    int none = 0;
    int32_t id;
    if (!awq__all_finite(logits, vocab)) {
        awq__answer_fail(ctx, s, awq__fail(ctx, AWQ_E_NUMERIC, "the logits have NaN or Inf"));
        return;
    }
    s->reading = 0;
    if (d->repetition_penalty > 0 && d->repetition_penalty != 1)
        awq__penalize(d, logits, vocab, s->ids, s->n_ids, r->bits);
    if (s->state) {
        awq_status st = awq__answer_refuse(ctx, s, logits, &none);
        if (st) {
            awq__answer_fail(ctx, s, st);
            return;
        }
        if (none && awq__gr_accepts(s->d.grammar, s->state)) {
            awq__answer_finish(ctx, s, AWQ_STOP_GRAMMAR);
            return;
        }
        if (none) {
            awq__fail(ctx, AWQ_E_UNSUPPORTED, "no token of the vocabulary fits the grammar here");
            awq__answer_fail(ctx, s, AWQ_E_UNSUPPORTED);
            return;
        }
    }
    id = awq__draw(ctx, d, logits, vocab, r->candidates, &s->random);
    if (!s->d.ignore_eos && awq__is_eos(r->model, id)) {
        awq__answer_finish(ctx, s, AWQ_STOP_EOS);
        return;
    }
    s->ids[s->n_ids++] = id;
    awq__answer_take(ctx, s, id);
    if (!s->busy || s->n_ids < s->kv.max) return;
    n = s->n_ids;
    if (s->spare) {
        memcpy(s->spare, s->ids, (size_t)n * sizeof *s->ids);
        if (awq__make_room(s, s->spare, &n, 1)) {
            awq_status st = awq__ids_check(ctx, r->model, s->spare, n); /* it may have written anything */
            if (st) {
                awq__answer_fail(ctx, s, st);
                return;
            }
            awq__set_ids(s, s->spare, n);
        }
    } else if (awq__make_room(s, s->ids, &n, 1)) {
        awq__session_cut(s, s->desc.keep);
        s->n_ids = n;
    }
    if (s->n_ids == s->kv.max) awq__answer_finish(ctx, s, AWQ_STOP_CONTEXT);
}

/* --- the pass */
static int awq__same_page(const awq_session *a, const awq_session *b) /* a would compute the page b is at */
{
    int64_t at = a->kv.len, page = at / AWQ__PAGE;
    return at % AWQ__PAGE == 0 && a->n_ids - at > AWQ__PAGE && b->kv.len / AWQ__PAGE == page
           && b->n_ids >= at + AWQ__PAGE && !a->d.pooled && !b->d.pooled
           && (page == 0 || a->page[page - 1] == b->page[page - 1])
           && !memcmp(a->ids + at, b->ids + at, AWQ__PAGE * sizeof *a->ids);
}

static void awq__pass_join(awq_runner *r, awq_session *s, int64_t n)
{
    awq__member *m = &r->member[r->n_members++];
    int64_t i;
    m->s = s;
    m->row = r->n_rows;
    m->n = n;
    m->waits = s->kv.len + n == s->n_ids && !s->d.pooled;
    awq__session_room(s, n);
    for (i = 0; i < n; i++) {
        awq__row *row = &r->work.row[r->n_rows];
        row->kv = &s->kv;
        row->pos = s->kv.len + i;
        row->bad = 0;
        r->row_ids[r->n_rows++] = s->ids[row->pos];
    }
    s->in_pass = 1;
    s->last_pass = ++r->passes;
}

/* a prompt, or what a slide left to be computed anew */
static int awq__is_prompt(const awq_session *s) { return s->reading || s->n_ids - s->kv.len > 1; }

/* answers move on by a token, those that waited longest first, up to so many rows */
static void awq__join_answers(awq_runner *r, int64_t rows)
{
    awq_session *s, *best;
    while (r->n_rows < rows) {
        for (s = r->sessions, best = NULL; s; s = s->next)
            if (s->busy && s->listed && !s->in_pass && !awq__is_prompt(s)
                && (!best || s->last_pass < best->last_pass)) best = s;
        if (!best) return;
        awq__pass_join(r, best, 1);
    }
}

/* Who takes part: answers; in the room that is left prompts, first come, first served. 0: nothing to do. */
static int awq__pass_build(awq_runner *r)
{
    awq_session *s, *best;
    int64_t room, i;
    r->n_members = r->n_rows = 0;
    for (s = r->sessions; s; s = s->next) {
        s->in_pass = 0;
        if (s->busy && s->kv.len == s->n_ids) awq__session_cut(s, s->n_ids - 1); /* its logits are gone */
    }
    for (s = r->sessions; s && !(s->busy && s->listed && awq__is_prompt(s)); s = s->next) {}
    room = r->desc.max_rows; /* some of it is for prompts, so that many answers cannot keep them waiting for ever */
    if (s) room -= room > 1 ? AWQ__MIN(r->desc.prompt_rows, (room + 3) / 4) : (int64_t)(r->passes & 1);
    awq__join_answers(r, room);
    room = r->desc.max_rows - r->n_rows;
    if (r->n_members) room = AWQ__MIN(room, r->desc.prompt_rows);
    while (room > 0) {
        uint64_t after = 0;
        int64_t n;
        for (;;) { /* the next in order of their questions that need not wait for another's page */
            for (s = r->sessions, best = NULL; s; s = s->next)
                if (s->busy && s->listed && !s->in_pass && awq__is_prompt(s) && s->asked > after
                    && (!best || s->asked < best->asked)) best = s;
            if (!best) break;
            after = best->asked;
            if (!best->d.pooled) awq__session_fetch(best);
            for (i = 0; i < r->n_members; i++)
                if (awq__same_page(best, r->member[i].s)) break;
            if (i == r->n_members) break;
        }
        if (!best) break;
        n = AWQ__MIN(room, best->n_ids - best->kv.len);
        awq__pass_join(r, best, n);
        room -= n;
    }
    awq__join_answers(r, r->desc.max_rows);
    r->n_waiting = 0;
    for (i = 0; i < r->n_members; i++) r->n_waiting += r->member[i].waits;
    r->op = r->done = r->count = 0;
    r->n_ops = !r->n_members ? 0
                             : 2 + (int64_t)AWQ__N_STEPS * r->model->config.num_hidden_layers
                                   + 2 * ((r->n_waiting + AWQ__HEAD_ROWS - 1) / AWQ__HEAD_ROWS);
    return r->n_members > 0;
}

static void awq__embed_row(void *arg, int64_t i)
{
    awq_runner *r = (awq_runner *)arg;
    const awq_model *m = r->model;
    awq__embed_id(m, r->row_ids[i], r->work.x + i * m->config.hidden_size);
    awq__rope_row(&m->config, &r->work, i);
}

static void awq__final_row(void *arg, int64_t i)
{
    awq_runner *r = (awq_runner *)arg;
    int64_t H = r->model->config.hidden_size;
    r->task.ops->norm(r->work.x + i * H, r->model->final_norm, r->work.xn + i * H, H,
                      (float)r->model->config.rms_norm_eps);
}

/* All layers are done: the caches are longer, and rows that wait for a token are put together in work.out. */
static void awq__pass_commit(awq_ctx *ctx, awq_runner *r)
{
    int64_t H = r->model->config.hidden_size, i, k, h, waiting = 0, left = 0;
    for (i = 0; i < r->n_members; i++) {
        awq__member *m = &r->member[i];
        awq_session *s = m->s;
        int bad = 0;
        const float *last = r->work.xn + (m->row + m->n - 1) * H;
        if (m->waits) memcpy(r->work.out + waiting++ * H, last, (size_t)H * sizeof(float)); /* also who left */
        if (!s) continue;
        for (k = m->row; k < m->row + m->n; k++)
            if (r->work.row[k].bad && (!bad || r->work.row[k].bad < bad)) bad = r->work.row[k].bad;
        if (bad) {
            awq__fail(ctx, AWQ_E_NUMERIC, "the output of layer %d has NaN or Inf", bad - 1);
            awq__answer_fail(ctx, s, AWQ_E_NUMERIC);
            m->s = NULL;
            s->in_pass = 0;
            awq__session_cut(s, s->kv.len);
            continue;
        }
        left++;
        awq__session_advance(s, m->n);
        if (s->reading) r->read += m->n;
        if (!s->d.pooled) continue;
        for (k = m->row; k < m->row + m->n; k++) {
            if (r->work.row[k].pos < s->pool_from) continue;
            for (h = 0; h < H; h++) s->pool[h] += r->work.xn[k * H + h];
            s->pool_rows++;
        }
        if (s->kv.len < s->n_ids) continue;
        for (h = 0; h < H; h++) s->d.pooled[h] = (float)(s->pool[h] / (double)s->pool_rows);
        awq__answer_end(s, AWQ_STOP_EOS);
    }
    if (!left) r->n_ops = r->op + 1; /* all failed: this was the end */
}

static awq_session *awq__waiting(const awq_runner *r, int64_t k) /* who waits for logits row k; NULL: it left */
{
    int64_t i;
    for (i = 0; i < r->n_members; i++)
        if (r->member[i].waits && k-- == 0) return r->member[i].s;
    return NULL;
}

/* the first of the waiting rows that HEAD and SAMPLE operation r->op take */
static int64_t awq__head_first(const awq_runner *r)
{
    return (r->op - AWQ__N_STEPS * r->model->config.num_hidden_layers - 2) / 2 * AWQ__HEAD_ROWS;
}

/* the operation r->op, ready to run */
static void awq__pass_set(awq_ctx *ctx, awq_runner *r)
{
    const awq_config *c = &r->model->config;
    awq__work *w = &r->work;
    int64_t L = c->num_hidden_layers, op = r->op, H = c->hidden_size, k;
    double d = c->head_dim;
    r->done = 0;
    r->arg = r;
    r->count = r->n_rows;
    if (op == 0) {
        r->kind = AWQ__EMBED;
        r->job = awq__embed_row;
        r->job_work = 2.0 * (double)H + 60 * d;
    } else if (op <= L * AWQ__N_STEPS) {
        int layer = (int)((op - 1) / AWQ__N_STEPS);
        r->kind = (int)((op - 1) % AWQ__N_STEPS);
        awq__task_set(ctx, c, &r->model->layers[layer], layer, w, r->n_rows, (awq__step_id)r->kind, &r->task);
        r->job = r->task.job;
        r->arg = &r->task;
        r->count = r->task.count;
        r->job_work = r->kind == AWQ__ACT ? 16.0 * (double)c->intermediate_size : 8.0 * (double)H;
    } else if (op == L * AWQ__N_STEPS + 1) {
        r->kind = AWQ__FINAL;
        r->job = awq__final_row;
        r->task.ops = awq__ops_for(ctx);
        r->job_work = 4.0 * (double)H;
    } else {
        int64_t first = awq__head_first(r), n = AWQ__MIN(r->n_waiting - first, (int64_t)AWQ__HEAD_ROWS);
        r->kind = (op - L * AWQ__N_STEPS) % 2 ? AWQ__SAMPLE : AWQ__HEAD;
        r->count = n;
        r->job = NULL;
        r->job_work = 8.0 * (double)c->vocab_size;
        if (r->kind == AWQ__SAMPLE) return;
        r->task.mm[0] = awq__mm_plan(ctx, &r->model->head, w->out + first * H, n, r->logits);
        r->count = r->task.mm[0].jobs;
        r->job = awq__mm_job;
        r->arg = &r->task.mm[0];
    }
    switch (r->kind) { /* linears: multiply-adds over jobs; attention has its own count */
    case AWQ__QKV: case AWQ__O: case AWQ__GATE_UP: case AWQ__DOWN: case AWQ__HEAD:
        for (k = 0, r->job_work = 0, op = r->count; op > 0; op -= r->task.mm[k++].jobs)
            r->job_work += (double)r->task.mm[k].l->out_features * (double)r->task.mm[k].l->in_features;
        r->job_work *= (double)r->task.mm[0].m / (double)r->count;
        break;
    default: break;
    }
}

static double awq__job_work(const awq_runner *r, int64_t i)
{
    int64_t row, keys;
    if (r->kind != AWQ__ATTEND) return r->job_work;
    row = i / r->model->config.num_attention_heads;
    keys = r->work.row[row].pos - awq__first_key(&r->task, row);
    return 2.0 * r->model->config.head_dim * (double)(16 + keys);
}

typedef struct awq__part {
    void (*job)(void *arg, int64_t index);
    void *arg;
    int64_t first;
} awq__part;

static void awq__part_job(void *arg, int64_t i)
{
    const awq__part *p = (const awq__part *)arg;
    p->job(p->arg, p->first + i);
}

#define AWQ__CUT_JOBS 4      /* a smaller cut is made only when nothing else was done in a step */
#define AWQ__ALONE 20000.0   /* less work than this is not worth waking threads for */

/* One cut of at most `room` seconds (< 0: as much as there is). 0: not even the smallest fits. */
static int awq__pass_cut(awq_ctx *ctx, awq_runner *r, double room, int must)
{
    int64_t left = r->count - r->done, k, i, rows = AWQ__MIN(r->n_rows, (int64_t)AWQ__MM_TOKENS);
    double *cost, work = 0, most = 0, began, took;
    int bucket = 0;
    awq__part part;
    if (r->kind == AWQ__HEAD) rows = AWQ__MIN(r->n_waiting, (int64_t)AWQ__HEAD_ROWS);
    while (bucket < 7 && rows > ((int64_t)1 << bucket)) bucket++; /* 1, 2, 3-4, 5-8, ... */
    cost = &r->cost[r->kind][bucket];
    if (room >= 0) most = room / (*cost > 0 ? *cost : 4e-9);
    for (k = 0; k < left; k++) {
        double w = awq__job_work(r, r->done + k);
        if (room >= 0 && k && work + w > most) break;
        work += w;
        if (r->kind == AWQ__SAMPLE) { /* one at a time: callbacks run */
            k++;
            break;
        }
    }
    if (room >= 0 && !must && work > most) return 0;
    if (room >= 0 && !must && k < AWQ__CUT_JOBS && k < left && r->kind != AWQ__SAMPLE) return 0;
    began = awq__now();
    part.job = r->job;
    part.arg = r->arg;
    part.first = r->done;
    if (r->kind == AWQ__SAMPLE) {
        awq_session *s = awq__waiting(r, awq__head_first(r) + r->done);
        if (s) awq__answer_next(ctx, s, r->logits + r->done * r->model->config.vocab_size);
    } else if (work < AWQ__ALONE) {
        for (i = 0; i < k; i++) part.job(part.arg, r->done + i);
    } else if (r->done) {
        awq__run(ctx, k, awq__part_job, &part);
    } else {
        awq__run(ctx, k, part.job, part.arg);
    }
    took = (awq__now() - began) / work;
    if (*cost > 0) *cost += (took > *cost ? 0.3 : 0.05) * (AWQ__MIN(took, 4 * *cost) - *cost);
    else *cost = took;
    r->done += k;
    return 1;
}

/* The pass, to its end or to the deadline (0: none). *cuts counts. */
static awq_status awq__pass_run(awq_ctx *ctx, awq_runner *r, double began, double deadline, int64_t *cuts)
{
    awq_status st = AWQ_OK;
    while (!st && r->op < r->n_ops) {
        if (!r->count) awq__pass_set(ctx, r);
        if (!awq__pass_cut(ctx, r, deadline > 0 ? AWQ__MAX(deadline - awq__now(), 0.0) : -1, !*cuts))
            return AWQ_OK;
        ++*cuts;
        if (r->done == r->count) {
            if (r->kind == AWQ__FINAL) awq__pass_commit(ctx, r);
            r->count = 0;
            r->op++;
        }
        r->inside = 1;
        st = awq__progress(ctx, "step", r->op, r->n_ops, began);
        r->inside = 0;
        if (r->op == r->n_ops) r->op = r->n_members = r->n_ops = 0;
    }
    return st;
}

AWQ_API awq_status awq_step(awq_ctx *ctx, awq_runner *r, awq_session *const *sessions, size_t n,
                            int64_t budget_us, awq_step_info *info)
{
    awq_step_info f;
    awq_session *s;
    awq_status st = AWQ_OK;
    double began = awq__now(), deadline = budget_us > 0 ? began + 1e-6 * (double)budget_us : 0;
    int64_t cuts = 0;
    size_t i;
    if (budget_us <= 0 && budget_us != AWQ_NO_BUDGET)
        return awq__fail(ctx, AWQ_E_ARG, "awq_step: a budget of %lld microseconds; expected more than 0, or "
                         "AWQ_NO_BUDGET", (long long)budget_us);
    AWQ__TRY(awq__not_inside(ctx, r, "awq_step"));
    for (i = 0; sessions && i < n; i++)
        if (!sessions[i] || sessions[i]->runner != r)
            return awq__fail(ctx, AWQ_E_ARG, "awq_step: session %llu of the list is %s", (unsigned long long)i,
                             sessions[i] ? "another runner's" : "NULL");
    memset(&f, 0, sizeof f);
    for (s = r->sessions; s; s = s->next) {
        s->listed = sessions == NULL;
        f.busy += s->busy;
        s->was_busy = s->busy ? 1 + s->reading : 0;
    }
    for (i = 0; sessions && i < n; i++) sessions[i]->listed = 1;
    f.finished = f.busy;
    f.tokens = -r->answered;
    f.prompt_tokens = -r->read;
    do {
        if (!r->n_ops && !awq__pass_build(r)) break;
        st = awq__pass_run(ctx, r, began, deadline, &cuts);
    } while (!st && !r->n_ops && budget_us > 0 && awq__now() < deadline);
    f.seconds = awq__now() - began;
    f.busy = 0;
    for (s = r->sessions; s; s = s->next) {
        f.busy += s->busy;
        if (s->was_busy == 2) s->r.prefill_seconds += f.seconds;
        else if (s->was_busy) s->r.decode_seconds += f.seconds;
    }
    f.finished -= f.busy;
    f.tokens += r->answered;
    f.prompt_tokens += r->read;
    f.done = r->n_ops ? r->op : 0;
    f.total = r->n_ops;
    if (info) *info = f;
    return st;
}

/* --- questions */

/* The answer's settings and memory, before its first token. Texts are copied; all that its tokens will need is
   taken here. */
static awq_status awq__answer_begin(awq_ctx *ctx, awq_session *s, const awq_generate_desc *d)
{
    const awq_model *m = s->runner->model;
    size_t bytes = 0, k, H = (size_t)m->config.hidden_size;
    awq__text *pending;
    char *text;
    const char **stop;
    awq__answer_free(ctx, s);
    s->status = AWQ_OK;
    s->d = *d;
    s->d.prompt = NULL;
    s->d.ids = NULL;
    s->d.messages = NULL;
    s->d.stop = NULL;
    s->max_tokens = d->max_tokens > 0 ? d->max_tokens : 128;
    s->random = d->sampling.seed;
    s->speaker.d = &s->d;
    s->decoder.skip_special = 1;
    for (k = 0; k < d->n_stop; k++) {
        s->speaker.longest = AWQ__MAX(s->speaker.longest, strlen(d->stop[k]));
        bytes += strlen(d->stop[k]) + 1;
    }
    if (d->n_stop) {
        s->stop_memory = awq__alloc_raw(ctx, 1, d->n_stop * sizeof *stop + bytes);
        if (!s->stop_memory) return AWQ_E_MEMORY;
        stop = (const char **)s->stop_memory;
        text = (char *)(stop + d->n_stop);
        for (k = 0; k < d->n_stop; k++) {
            stop[k] = text;
            memcpy(text, d->stop[k], strlen(d->stop[k]) + 1);
            text += strlen(d->stop[k]) + 1;
        }
        s->d.stop = stop;
    }
    if (d->pooled && !(s->pool = AWQ__NEW(ctx, double, H))) return AWQ_E_MEMORY;
    s->pool_rows = 0;
    if (d->pooled) return AWQ_OK;
    s->answer = AWQ__NEW_RAW(ctx, int32_t, s->max_tokens);
    if (!s->answer) return AWQ_E_MEMORY;
    if (d->grammar) AWQ__TRY(awq__answer_grammar(ctx, s));
    if (!m->tokenizer) return AWQ_OK;
    pending = &s->speaker.pending;
    bytes = s->speaker.longest + awq__decoder_longest(m->tokenizer) + 1;
    if (!awq__grow(ctx, (void **)&pending->data, &pending->cap, bytes, 1)) return AWQ_E_MEMORY;
    pending->data[0] = 0;
    return awq__decoder_reserve(ctx, m->tokenizer, &s->decoder);
}

/* the question's tokens in fresh memory; *whole: they are the whole conversation */
static awq_status awq__question(awq_ctx *ctx, const awq_model *m, int first, const awq_generate_desc *d,
                                int32_t **ids, size_t *n, int *whole)
{
    *ids = NULL;
    *n = 0;
    *whole = 0;
    if (d->ids) {
        if (d->n_ids < 1)
            return awq__fail(ctx, AWQ_E_ARG, "n_ids is %lld, expected at least 1", (long long)d->n_ids);
        AWQ__TRY(awq__ids_check(ctx, m, d->ids, d->n_ids));
        *ids = AWQ__NEW_RAW(ctx, int32_t, d->n_ids);
        if (!*ids) return AWQ_E_MEMORY;
        memcpy(*ids, d->ids, (size_t)d->n_ids * sizeof **ids);
        *n = (size_t)d->n_ids;
        return AWQ_OK;
    }
    if (!d->prompt && !d->messages && !first) return AWQ_OK;
    if (!m->tokenizer)
        return awq__fail(ctx, AWQ_E_ARG, "the model has no tokenizer.json; give the prompt as ids");
    if (d->messages) {
        *whole = 1;
        AWQ__TRY(awq__encode_messages(ctx, m->tokenizer, d->messages, d->n_messages, 1, ids, n));
    } else {
        const char *text = d->prompt ? d->prompt : "";
        AWQ__TRY(awq__encode_all(ctx, m->tokenizer, text, strlen(text), first, ids, n));
    }
    return AWQ_OK;
}

static awq_status awq__ask_ids(awq_ctx *ctx, awq_session *s, const awq_generate_desc *d, const int32_t *ids,
                               int64_t n, int whole)
{
    int64_t old = whole ? 0 : s->n_ids, all = old + n, fresh = whole ? 1 : n;
    int32_t *to = NULL;
    awq_status st = AWQ_OK;
    AWQ__TRY(awq__ids_check(ctx, s->runner->model, ids, n)); /* a tokenizer may know more ids than the model */
    if (!all || (d->pooled && !n)) return awq__fail(ctx, AWQ_E_ARG, "the prompt has no tokens");
    to = AWQ__NEW_RAW(ctx, int32_t, all);
    if (!to) return AWQ_E_MEMORY;
    memcpy(to, s->ids, (size_t)old * sizeof *to);
    if (n) memcpy(to + old, ids, (size_t)n * sizeof *to);
    if ((!d->pooled || all > s->kv.max) && !awq__make_room(s, to, &all, fresh))
        st = awq__fail(ctx, AWQ_E_LIMIT,
                       "the context has room for %lld tokens; %lld are there, the prompt has %lld, and the "
                       "answer needs one at least",
                       (long long)s->kv.max, (long long)old, (long long)n);
    if (!st) st = awq__ids_check(ctx, s->runner->model, to, all); /* on_full may have written anything */
    if (!st) st = awq__answer_begin(ctx, s, d);
    if (st) awq__answer_free(ctx, s);
    else {
        s->r.prompt_tokens = whole ? all - awq__common(s->ids, s->n_ids, to, all) : n;
        awq__set_ids(s, to, all);
        s->pool_from = whole ? 0 : AWQ__MAX(all - n, (int64_t)0);
        if (d->pooled) awq__session_cut(s, s->pool_from); /* every row of the prompt is wanted */
        s->busy = s->reading = 1;
        s->asked = ++s->runner->asked;
    }
    awq__free(ctx, to);
    return st;
}

AWQ_API awq_status awq_ask(awq_ctx *ctx, awq_session *s, const awq_generate_desc *d)
{
    int32_t *ids = NULL;
    size_t n = 0;
    int whole = 0;
    awq_status st;
    AWQ__TRY(awq__not_inside(ctx, s->runner, "awq_ask"));
    if (s->busy)
        return awq__fail(ctx, AWQ_E_ARG,
                         "awq_ask: an answer is under way; let it end or call awq_session_stop");
    AWQ__TRY(awq__sampling_check(ctx, &d->sampling));
    AWQ__TRY(awq__question(ctx, s->runner->model, s->n_ids == 0, d, &ids, &n, &whole));
    st = awq__ask_ids(ctx, s, d, ids, (int64_t)n, whole);
    awq__free(ctx, ids);
    return st;
}

/* --- state. File: header; ids I32 [n_ids]; answer I32 [tokens]; the pages of the cache, [layers][keys,
   values][AWQ__PAGE, the last one fewer][V] F32 each; checksum U64 */
typedef struct awq__saved {
    char magic[8];
    uint32_t version, order;
    uint64_t model, random, spoken;
    int64_t page, page_floats, n_ids, len;
    int64_t busy, reading, max_tokens, tokens, prompt_tokens, pad;
} awq__saved;

#define AWQ__SAVED_VERSION 1
#define AWQ__SAVED_ORDER 0x01020304u

static size_t awq__saved_bytes(const awq_runner *r, int64_t n_ids, int64_t tokens, int64_t len)
{
    return sizeof(awq__saved) + 4 * (size_t)(n_ids + tokens)
           + (size_t)len * (r->page_floats / AWQ__PAGE) * sizeof(float) + 8;
}

/* the session's pages to `to` or from `from`; returns the number of bytes */
static size_t awq__pages_copy(const awq_session *s, char *to, const char *from)
{
    const awq_config *c = &s->runner->model->config;
    size_t plane = (size_t)c->num_key_value_heads * (size_t)c->head_dim * AWQ__PAGE, at, n, done = 0;
    int64_t b;
    for (b = 0; b < awq__pages(s->kv.len); b++) {
        n = plane / AWQ__PAGE * (size_t)AWQ__MIN(s->kv.len - b * AWQ__PAGE, (int64_t)AWQ__PAGE) * sizeof(float);
        for (at = 0; at < s->runner->page_floats; at += plane, done += n) {
            if (to) memcpy(to + done, s->page[b]->data + at, n);
            else memcpy(s->page[b]->data + at, from + done, n);
        }
    }
    return done;
}

AWQ_API size_t awq_session_bytes(const awq_session *s)
{
    return awq__saved_bytes(s->runner, s->n_ids, s->busy ? s->r.tokens : 0, s->kv.len);
}

AWQ_API awq_status awq_session_save(awq_ctx *ctx, const awq_session *s, void *data, size_t cap)
{
    const awq_runner *r = s->runner;
    size_t bytes = awq_session_bytes(s);
    char *p = (char *)data;
    awq__saved h;
    uint64_t sum;
    AWQ__TRY(awq__not_inside(ctx, r, "awq_session_save"));
    if (cap < bytes)
        return awq__fail(ctx, AWQ_E_ARG, "awq_session_save: %llu bytes are needed, there is room for %llu",
                         (unsigned long long)bytes, (unsigned long long)cap);
    memset(&h, 0, sizeof h);
    memcpy(h.magic, "AWQSESS", 8);
    h.version = AWQ__SAVED_VERSION;
    h.order = AWQ__SAVED_ORDER;
    h.model = awq_model_hash(r->model);
    h.random = s->random;
    h.spoken = s->speaker.spoken;
    h.page = AWQ__PAGE;
    h.page_floats = (int64_t)r->page_floats;
    h.n_ids = s->n_ids;
    h.len = s->kv.len;
    h.busy = s->busy && !s->d.pooled;
    h.reading = s->reading;
    h.max_tokens = s->max_tokens;
    h.tokens = h.busy ? s->r.tokens : 0;
    h.prompt_tokens = s->r.prompt_tokens;
    memcpy(p, &h, sizeof h), p += sizeof h;
    if (s->n_ids) memcpy(p, s->ids, 4 * (size_t)s->n_ids), p += 4 * (size_t)s->n_ids;
    if (h.tokens) memcpy(p, s->answer, 4 * (size_t)h.tokens), p += 4 * (size_t)h.tokens;
    p += awq__pages_copy(s, p, NULL);
    sum = awq__checksum(AWQ__SAVED_VERSION, data, bytes - 8);
    memcpy(p, &sum, 8);
    return AWQ_OK;
}

/* The answer that was under way goes on: its tokens pass the decoder again, and text that was handed out is not
   handed out a second time. */
static awq_status awq__answer_again(awq_ctx *ctx, awq_session *s, const awq_generate_desc *d,
                                    const int32_t *answer, const awq__saved *h)
{
    int64_t i;
    awq_generate_desc copy = *d;
    copy.max_tokens = h->max_tokens;
    AWQ__TRY(awq__sampling_check(ctx, &d->sampling));
    if (d->pooled) return awq__fail(ctx, AWQ_E_ARG, "an answer cannot go on with `pooled`");
    AWQ__TRY(awq__answer_begin(ctx, s, &copy));
    s->busy = 1;
    s->reading = h->reading;
    s->asked = ++s->runner->asked;
    s->random = h->random;
    s->r.prompt_tokens = h->prompt_tokens;
    s->speaker.mute = (size_t)h->spoken;
    for (i = 0; i < h->tokens && s->busy; i++) awq__answer_take(ctx, s, answer[i]);
    return s->status;
}

AWQ_API awq_status awq_session_restore(awq_ctx *ctx, awq_session *s, const void *data, size_t bytes,
                                       const awq_generate_desc *go_on)
{
    awq_runner *r = s->runner;
    const char *p = (const char *)data, *ids;
    int32_t *answer = NULL;
    awq_status st = AWQ_OK;
    awq__saved h;
    uint64_t sum;
    int64_t i;
    AWQ__TRY(awq__not_inside(ctx, r, "awq_session_restore"));
    if (bytes < sizeof h + 8 || memcmp(p, "AWQSESS", 8))
        return awq__fail(ctx, AWQ_E_FORMAT, "this is not a saved session: it does not begin with AWQSESS");
    memcpy(&h, p, sizeof h);
    if (h.order != AWQ__SAVED_ORDER)
        return awq__fail(ctx, AWQ_E_FORMAT, "the session was saved on a machine of another byte order");
    if (h.version != AWQ__SAVED_VERSION)
        return awq__fail(ctx, AWQ_E_FORMAT, "the session was saved in format version %u; this library reads %d",
                         (unsigned)h.version, AWQ__SAVED_VERSION);
    if (h.model != awq_model_hash(r->model))
        return awq__fail(ctx, AWQ_E_FORMAT, "the session was saved with another model (%016llx, here %016llx)",
                         (unsigned long long)h.model, (unsigned long long)awq_model_hash(r->model));
    memcpy(&sum, p + bytes - 8, 8);
    if (sum != awq__checksum(AWQ__SAVED_VERSION, data, bytes - 8) || h.page != AWQ__PAGE
        || h.page_floats != (int64_t)r->page_floats || h.n_ids < 0 || h.n_ids > (int64_t)1 << 31 || h.len < 0
        || h.len > h.n_ids || h.tokens < 0 || h.tokens > (int64_t)1 << 31 || h.max_tokens < 0
        || h.max_tokens > (int64_t)1 << 31 || (h.busy && (h.tokens >= h.max_tokens || !h.n_ids))
        || bytes != awq__saved_bytes(r, h.n_ids, h.tokens, h.len))
        return awq__fail(ctx, AWQ_E_FORMAT,
                         "the saved session is damaged: its checksum or sizes do not fit its %llu bytes",
                         (unsigned long long)bytes);
    if (h.n_ids > s->kv.max - (h.busy && go_on))
        return awq__fail(ctx, AWQ_E_LIMIT,
                         "the saved session has %lld tokens%s; this one has room for %lld", (long long)h.n_ids,
                         h.busy && go_on ? " and an answer that goes on" : "", (long long)s->kv.max);
    ids = p + sizeof h;
    for (i = 0; i < h.n_ids + h.tokens; i++) {
        int32_t id;
        memcpy(&id, ids + 4 * i, 4);
        if (id < 0 || id >= r->model->config.vocab_size)
            return awq__fail(ctx, AWQ_E_FORMAT, "the saved session is damaged: token id %d", (int)id);
    }
    if (h.tokens && !(answer = AWQ__NEW_RAW(ctx, int32_t, h.tokens))) return AWQ_E_MEMORY;
    if (h.tokens) memcpy(answer, ids + 4 * (size_t)h.n_ids, 4 * (size_t)h.tokens);
    awq__pass_leave(s);
    awq__answer_free(ctx, s);
    s->status = AWQ_OK;
    awq__session_cut(s, 0);
    s->n_ids = h.n_ids;
    if (h.n_ids) memcpy(s->ids, ids, 4 * (size_t)h.n_ids);
    p = ids + 4 * (size_t)(h.n_ids + h.tokens);
    awq__session_room(s, h.len);
    s->kv.len = h.len;
    awq__pages_copy(s, NULL, p);
    s->kv.len = 0;
    awq__session_advance(s, h.len);
    if (go_on && h.busy) st = awq__answer_again(ctx, s, go_on, answer, &h);
    awq__free(ctx, answer);
    if (st) s->busy = 0;
    return st;
}

AWQ_API awq_status awq_session_save_file(awq_ctx *ctx, const awq_session *s, const char *path)
{
    size_t bytes = awq_session_bytes(s);
    char *data = AWQ__NEW_RAW(ctx, char, bytes);
    awq_status st = data ? awq_session_save(ctx, s, data, bytes) : AWQ_E_MEMORY;
    if (!st) st = awq__file_save(ctx, path, data, bytes);
    awq__free(ctx, data);
    return st;
}

AWQ_API awq_status awq_session_restore_file(awq_ctx *ctx, awq_session *s, const char *path,
                                            const awq_generate_desc *go_on)
{
    char *data = NULL, why[sizeof ctx->err.text];
    size_t bytes = 0, most = awq__saved_bytes(s->runner, 0, 0, s->kv.max);
    awq_status st;
    /* of what this session could hold, with an answer of up to 4 million tokens */
    most += 4 * ((size_t)s->kv.max + ((size_t)1 << 22));
    AWQ__TRY(awq__not_inside(ctx, s->runner, "awq_session_restore_file"));
    AWQ__TRY(awq__file_load(ctx, path, most, &data, &bytes));
    st = awq_session_restore(ctx, s, data, bytes, go_on);
    awq__free(ctx, data);
    if (st == AWQ_E_FORMAT || st == AWQ_E_LIMIT) {
        memcpy(why, ctx->err.text, sizeof why);
        awq__fail(ctx, st, "%s: %.900s", path, why);
    }
    return st;
}

AWQ_API awq_status awq_session_fork(awq_ctx *ctx, const awq_session *from, const awq_generate_desc *go_on,
                                    awq_session **copy)
{
    awq_runner *r = from->runner;
    awq_session *s = NULL;
    awq__saved h;
    awq_status st;
    int64_t b, whole = from->kv.len / AWQ__PAGE, rest = from->kv.len % AWQ__PAGE;
    AWQ__TRY(awq_session_create(ctx, r, &from->desc, &s));
    memcpy(s->ids, from->ids, (size_t)from->n_ids * sizeof *s->ids);
    s->n_ids = from->n_ids;
    for (b = 0; b < whole; b++) {
        awq__page_hold(from->page[b]);
        awq__set_page(s, b, from->page[b]);
    }
    s->n_pages = whole;
    s->kv.len = whole * AWQ__PAGE;
    if (rest) {
        awq__session_room(s, rest);
        memcpy(s->page[whole]->data, from->page[whole]->data, r->page_floats * sizeof(float));
        s->kv.len += rest;
    }
    if (!go_on || !from->busy || from->d.pooled) {
        *copy = s;
        return AWQ_OK;
    }
    memset(&h, 0, sizeof h);
    h.random = from->random;
    h.spoken = from->speaker.spoken;
    h.reading = from->reading;
    h.max_tokens = from->max_tokens;
    h.tokens = from->r.tokens;
    h.prompt_tokens = from->r.prompt_tokens;
    st = awq__answer_again(ctx, s, go_on, from->answer, &h);
    if (!st) *copy = s;
    else {
        char why[sizeof ctx->err.text];
        memcpy(why, ctx->err.text, sizeof why);
        awq_session_free(ctx, s);
        awq__fail(ctx, st, "%s", why);
    }
    return st;
}

/* --- at once */
AWQ_API awq_status awq_session_feed(awq_ctx *ctx, awq_session *s, const int32_t *ids, int64_t n,
                                    const awq_feed_desc *desc, float *logits)
{
    awq_runner *r = s->runner;
    awq_feed_desc none;
    const awq_config *c = &r->model->config;
    awq__work *w = &r->work;
    int64_t chunk, i, old = s->n_ids;
    awq_status st = AWQ_OK;
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    AWQ__TRY(awq__not_inside(ctx, r, "awq_session_feed"));
    if (s->busy)
        return awq__fail(ctx, AWQ_E_ARG, "awq_session_feed: an answer is under way; awq_session_stop ends it");
    if (n < 1)
        return awq__fail(ctx, AWQ_E_ARG, "awq_session_feed: %lld tokens, expected at least one", (long long)n);
    if (n > s->kv.max - old)
        return awq__fail(ctx, AWQ_E_LIMIT,
                         "the session has room for %lld tokens; %lld are there and %lld more came",
                         (long long)s->kv.max, (long long)old, (long long)n);
    AWQ__TRY(awq__ids_check(ctx, r->model, ids, n));
    awq__pass_abort(r);
    memcpy(s->ids + old, ids, (size_t)n * sizeof *ids);
    s->n_ids = old + n;
    chunk = desc->chunk > 0 ? AWQ__MIN(desc->chunk, w->rows) : w->rows;
    while (!st && s->kv.len < s->n_ids) {
        int64_t at = s->kv.len, end = AWQ__MIN(at + chunk, s->n_ids), rows;
        if (at < old) end = AWQ__MIN(end, old); /* tokens of an earlier question that were not computed yet */
        rows = end - at;
        awq__session_room(s, rows);
        awq__rows_of(c, w, &s->kv, at, rows);
        st = awq__embed(ctx, r->model, s->ids + at, rows, w->x);
        r->inside = 1; /* desc->tap is a callback too */
        if (!st) st = awq__forward(ctx, r->model, w, rows, at < old ? NULL : desc->tap, desc->user);
        r->inside = 0;
        for (i = 0; !st && at >= old && desc->all_logits && i < rows; i += AWQ__HEAD_ROWS)
            st = awq_linear_run(ctx, &r->model->head, w->xn + i * c->hidden_size,
                                AWQ__MIN((int64_t)AWQ__HEAD_ROWS, rows - i),
                                desc->all_logits + (at - old + i) * c->vocab_size);
        if (!st && logits && end == s->n_ids)
            st = awq_linear_run(ctx, &r->model->head, w->xn + (rows - 1) * c->hidden_size, 1, logits);
        if (!st) awq__session_advance(s, rows);
    }
    if (st) { /* all or nothing */
        s->n_ids = old;
        awq__session_cut(s, old);
    }
    return st;
}

/* a runner with n sessions of `max` tokens, for the calls that do all at once */
static awq_status awq__together(awq_ctx *ctx, const awq_model *model, int64_t max, awq_session **s, size_t n,
                                awq_runner **r)
{
    awq_session_desc d;
    awq_status st = awq_runner_create(ctx, model, NULL, r);
    size_t i;
    memset(&d, 0, sizeof d);
    d.max_tokens = max;
    for (i = 0; !st && i < n; i++) st = awq_session_create(ctx, *r, &d, &s[i]);
    return st;
}

static void awq__apart(awq_ctx *ctx, awq_session **s, size_t n, awq_runner *r)
{
    size_t i;
    for (i = 0; i < n; i++) awq_session_free(ctx, s[i]);
    awq_runner_free(ctx, r);
}

AWQ_API awq_status awq_generate(awq_ctx *ctx, const awq_model *model, const awq_generate_desc *d,
                                awq_generate_result *result)
{
    awq_runner *r = NULL;
    awq_session *s = NULL;
    awq_generate_result got;
    int32_t *ids = NULL;
    size_t n = 0;
    int whole = 0;
    double began = awq__now();
    awq_status st;
    int64_t max_tokens = d->max_tokens > 0 ? AWQ__MIN(d->max_tokens, (int64_t)1 << 31) : 128;
    AWQ__TRY(awq__sampling_check(ctx, &d->sampling));
    AWQ__TRY(awq__question(ctx, model, 1, d, &ids, &n, &whole)); /* how long the context must be */
    st = awq__together(ctx, model, (int64_t)n + max_tokens, &s, 1, &r);
    if (!st) st = awq__ask_ids(ctx, s, d, ids, (int64_t)n, whole);
    awq__free(ctx, ids);
    while (!st && s->busy) {
        st = awq_step(ctx, r, NULL, 0, AWQ_NO_BUDGET, NULL);
        if (!st) st = awq__progress(ctx, "generate", s->r.tokens, max_tokens, began);
    }
    if (!st) st = awq_session_answer(ctx, s, &got);
    awq__apart(ctx, &s, 1, r);
    if (!st && result) *result = got;
    return st;
}

AWQ_API awq_status awq_embed(awq_ctx *ctx, const awq_model *model, const char *const *texts, size_t n,
                             float *out)
{
    enum { together = 8 };
    int32_t *ids[together];
    size_t count[together], at, i, k;
    int64_t H = model->config.hidden_size, most;
    double began = awq__now();
    awq_status st = AWQ_OK;
    if (!model->tokenizer) return awq__fail(ctx, AWQ_E_ARG, "awq_embed: the model has no tokenizer.json");
    for (at = 0; !st && at < n; at += k) {
        awq_session *s[together];
        awq_runner *r = NULL;
        awq_step_info info;
        k = AWQ__MIN((size_t)together, n - at);
        memset(ids, 0, sizeof ids);
        memset(s, 0, sizeof s);
        for (i = 0, most = 1; !st && i < k; i++) {
            const char *text = texts[at + i];
            st = awq__encode_all(ctx, model->tokenizer, text, strlen(text), 1, &ids[i], &count[i]);
            if (!st && !count[i])
                st = awq__fail(ctx, AWQ_E_ARG, "awq_embed: text %llu has no tokens",
                               (unsigned long long)(at + i));
            if (!st) most = AWQ__MAX(most, (int64_t)count[i]);
        }
        if (!st) st = awq__together(ctx, model, most, s, k, &r);
        for (i = 0; !st && i < k; i++) {
            awq_generate_desc d;
            memset(&d, 0, sizeof d);
            d.pooled = out + (int64_t)(at + i) * H;
            st = awq__ask_ids(ctx, s[i], &d, ids[i], (int64_t)count[i], 0);
        }
        for (info.busy = 1; !st && info.busy;) st = awq_step(ctx, r, NULL, 0, AWQ_NO_BUDGET, &info);
        for (i = 0; !st && i < k; i++) st = awq_session_answer(ctx, s[i], NULL);
        awq__apart(ctx, s, k, r);
        for (i = 0; i < k; i++) awq__free(ctx, ids[i]);
        if (!st) st = awq__progress(ctx, "embed", (int64_t)(at + k), (int64_t)n, began);
    }
    return st;
}

/* --- memory, told before anything is loaded */

/* of a question without stop strings and its answer of 128 tokens; t: NULL is none */
static uint64_t awq__answer_memory(const awq_tokenizer *t)
{
    /* see awq__decoder_reserve; buffers take up to twice their need */
    return 128 * 4 + 10 * AWQ__ALIGN
           + (t ? sizeof(awq__tok_work) + 10 * (uint64_t)awq__decoder_longest(t) + 40 * (AWQ__TOK_MAX_HELD + 2)
                : 0);
}

/* what awq__load_linear will keep and, while it is at work, needs beside that */
static awq_status awq__linear_memory(awq_ctx *ctx, const awq_checkpoint *ck, int layer, awq_linear_id id,
                                     const awq_model_desc *desc, int mapped, uint64_t *kept, uint64_t *at_work)
{
    awq_linear_info info;
    uint64_t out, in, groups, bits;
    int i;
    AWQ__TRY(awq_checkpoint_linear(ctx, ck, layer, id, &info));
    out = (uint64_t)info.out_features;
    in = (uint64_t)info.in_features;
    if (info.bias) *kept += 4 * out;
    *at_work = 0;
    if (!info.quantized && !desc->rtn_bits) {
        *kept += mapped ? 0 : info.weight->bytes + AWQ__ALIGN;
        return AWQ_OK;
    }
    if (info.quantized) {
        groups = in / (uint64_t)(info.packed.group_size > 0 ? info.packed.group_size : info.in_features);
        bits = (uint64_t)info.packed.bits;
        for (i = 0; i < info.packed.n_tensors; i++) *at_work += info.packed.tensor[i].bytes;
    } else {
        int64_t g = desc->rtn_group_size ? desc->rtn_group_size : awq__default_group(info.in_features);
        groups = g > 0 ? in / (uint64_t)g : 1;
        bits = (uint64_t)desc->rtn_bits;
        *at_work = 4 * out * in;
    }
    *at_work += out * in + 5 * out * groups + 16 * AWQ__ALIGN;
    *kept += out * (bits == 4 ? (in + 31) / 32 * 16 : (in + 15) / 16 * 16) + 8 * out * groups
             + (info.bias ? 4 * out : 0) + 4 * AWQ__ALIGN;
    return AWQ_OK;
}

static awq_status awq__model_memory(awq_ctx *ctx, awq_checkpoint *ck, const awq_model_desc *desc, awq_memory *m)
{
    const awq_config *c = awq_checkpoint_config(ck);
    awq_tensors *ts = awq_checkpoint_tensors(ck);
    const awq_tensor *embed = awq_tensors_find(ts, c->family->embed);
    const awq_tensor *head = awq_tensors_find(ts, c->family->head);
    int mapped = awq__fs(ctx)->map != NULL, l, k;
    uint64_t at_work = 0, w;
    if (!mapped && embed) m->model += embed->bytes + AWQ__ALIGN;
    if (!mapped && head && !c->tie_word_embeddings) m->model += head->bytes + AWQ__ALIGN;
    m->model += ((uint64_t)c->num_hidden_layers * 2 + 1) * (4 * (uint64_t)c->hidden_size + 16)
                + (uint64_t)c->num_hidden_layers * (sizeof(awq__layer) + 2 * (4 * (uint64_t)c->head_dim + 16));
    for (l = 0; l < c->num_hidden_layers; l++)
        for (k = 0; k < AWQ_N_LINEARS; k++) {
            AWQ__TRY(awq__linear_memory(ctx, ck, l, (awq_linear_id)k, desc, mapped, &m->model, &w));
            at_work = AWQ__MAX(at_work, w);
        }
    m->model += m->model / 64 + 262144; /* headers of blocks, the ends of arenas, the list of blocks */
    m->loading = m->model + at_work;
    return AWQ_OK;
}

AWQ_API awq_status awq_memory_needed(awq_ctx *ctx, const char *folder, const awq_model_desc *model,
                                     const awq_runner_desc *runner, const awq_session_desc *session,
                                     int64_t n_sessions, awq_memory *memory)
{
    awq_model_desc none;
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_checkpoint *ck = NULL;
    awq_tokenizer *t = NULL;
    awq_memory m;
    awq_status st;
    size_t used = ctx->memory_used, peak = ctx->memory_peak, open, kept, most;
    memset(&none, 0, sizeof none);
    memset(&m, 0, sizeof m);
    if (!model) model = &none;
    if (n_sessions < 0)
        return awq__fail(ctx, AWQ_E_ARG, "awq_memory_needed: %lld sessions", (long long)n_sessions);
    ctx->memory_peak = used;
    st = awq_checkpoint_open(ctx, folder, &ck);
    open = ctx->memory_used - used; /* kept while weights are mapped */
    if (!st && !model->no_tokenizer) {
        char *path = awq__path_join(ctx, folder, "tokenizer.json");
        if (!path) st = AWQ_E_MEMORY;
        else if (awq__file_exists(ctx, path)) st = awq_tokenizer_load(ctx, folder, &t);
        awq__free(ctx, path);
    }
    kept = ctx->memory_used - used;
    most = ctx->memory_peak - used;
    if (!st) st = awq__model_memory(ctx, ck, model, &m);
    if (!st) st = awq__runner_desc(ctx, runner, &rd);
    if (!st) st = awq__session_desc(ctx, awq_checkpoint_config(ck), session, &sd);
    if (!st) {
        const awq_config *c = awq_checkpoint_config(ck);
        uint64_t page = awq__page_floats(c, c->num_hidden_layers) * 4 + sizeof(awq__page) + 3 * AWQ__ALIGN;
        m.loading = AWQ__MAX(m.loading + kept, (uint64_t)most);
        m.model += kept - (awq__fs(ctx)->map ? 0 : open);
        m.runner = awq__work_bytes(c, rd.max_rows) + sizeof(awq_runner) + 8 * AWQ__ALIGN
                   + (uint64_t)rd.max_rows * (sizeof(awq__row) + sizeof(awq__member) + 4)
                   + (uint64_t)c->vocab_size * (4 * AWQ__HEAD_ROWS + sizeof(awq__candidate) + 1)
                   + (uint64_t)awq__pages(rd.cache_tokens) * page;
        m.session = sizeof(awq_session) + 5 * AWQ__ALIGN + (uint64_t)sd.max_tokens * (sd.on_full ? 8 : 4)
                    + (uint64_t)awq__pages(sd.max_tokens) * (page + 2 * sizeof(void *)) + awq__answer_memory(t);
        m.peak = AWQ__MAX(m.loading, m.model + m.runner + (uint64_t)n_sessions * m.session);
    }
    awq_tokenizer_free(ctx, t);
    awq_checkpoint_close(ctx, ck);
    ctx->memory_peak = peak;
    if (!st) *memory = m;
    return st;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>evaluate
   Teacher-forced over windows of the same tokens; logits live 16 rows at a time. Sums in double, in token
   order. Tests: tests/test_evaluate.c, tests/test_golden.c (perplexities of the reference) */

#define AWQ__EVAL_ROWS 256

typedef struct awq__eval_side {
    const awq_model *m;
    awq__kv kv;
    awq__work w;
    float *logits; /* [16, vocab] */
    double lse[AWQ__HEAD_ROWS];
    int32_t top[AWQ__HEAD_ROWS];
} awq__eval_side;

typedef struct awq__eval_job {
    const awq__ops *ops;
    awq__eval_side *side;
    const float *p, *q; /* baseline and model logits, for KL */
    double *lp, *lq, *kl;
    int64_t vocab;
} awq__eval_job;

static void awq__eval_row(void *arg, int64_t r)
{
    awq__eval_job *j = (awq__eval_job *)arg;
    float best;
    j->side->lse[r] = j->ops->logsum(j->side->logits + r * j->vocab, j->vocab, &best);
    j->side->top[r] = awq__argmax(j->side->logits + r * j->vocab, j->vocab);
}

static void awq__eval_kl(void *arg, int64_t r)
{
    awq__eval_job *j = (awq__eval_job *)arg;
    j->kl[r] = j->ops->kl(j->p + r * j->vocab, j->lp[r], j->q + r * j->vocab, j->lq[r], j->vocab);
}

/* hidden states of n tokens at the window's start + at, into w.xn */
static awq_status awq__eval_chunk(awq_ctx *ctx, awq__eval_side *side, const int32_t *ids, int64_t at, int64_t n)
{
    AWQ__TRY(awq__embed(ctx, side->m, ids + at, n, side->w.x));
    awq__rows_of(&side->m->config, &side->w, &side->kv, at, n);
    return awq__forward(ctx, side->m, &side->w, n, NULL, NULL);
}

static awq_status awq__eval_logits(awq_ctx *ctx, awq__eval_side *side, int64_t row, int64_t n)
{
    const awq_model *m = side->m;
    awq__eval_job j;
    AWQ__TRY(awq_linear_run(ctx, &m->head, side->w.xn + row * m->config.hidden_size, n, side->logits));
    memset(&j, 0, sizeof j);
    j.ops = awq__ops_for(ctx);
    j.side = side;
    j.vocab = m->config.vocab_size;
    awq__run(ctx, n, awq__eval_row, &j);
    return AWQ_OK;
}

AWQ_API int64_t awq_evaluate_windows(int64_t n_ids, int64_t window, int64_t stride)
{
    if (window <= 0) window = 512;
    if (stride <= 0 || stride > window) stride = window;
    if (n_ids < 2) return 0;
    if (n_ids <= window) return 1;
    return 1 + (n_ids - window + stride - 1) / stride;
}

static awq_status awq__evaluate_run(awq_ctx *ctx, const awq_evaluate_desc *d, awq__eval_side *side, int n_sides,
                                    int64_t window, int64_t stride, awq_evaluation *r)
{
    int64_t windows = awq_evaluate_windows(d->n_ids, window, stride), wi, at, i,
            vocab = side[0].m->config.vocab_size;
    double began = awq__now(), nll[2] = {0, 0}, kl = 0, sum_d = 0, sum_dd = 0;
    int64_t agree = 0, blocks = 0;
    int k;
    for (wi = 0; wi < windows; wi++) {
        int64_t start = wi * stride, len = AWQ__MIN(window, d->n_ids - start), scored = 0;
        /* first token of the window whose successor counts is from (or 0) */
        int64_t from = wi ? window - stride : 0;
        const int32_t *ids = d->ids + start;
        double w_nll[2] = {0, 0}, w_kl = 0;
        if (wi && from) from -= 1; /* the token before the new part predicts its first token */
        if (len < 2) continue;
        for (at = 0; at < len - 1; at += AWQ__EVAL_ROWS) {
            int64_t n = AWQ__MIN((int64_t)AWQ__EVAL_ROWS, len - 1 - at);
            for (k = 0; k < n_sides; k++) AWQ__TRY(awq__eval_chunk(ctx, &side[k], ids, at, n));
            for (i = 0; i < n; i += AWQ__HEAD_ROWS) {
                int64_t rows = AWQ__MIN((int64_t)AWQ__HEAD_ROWS, n - i), row;
                double kls[AWQ__HEAD_ROWS];
                if (at + i + rows <= from) continue;
                for (k = 0; k < n_sides; k++) AWQ__TRY(awq__eval_logits(ctx, &side[k], i, rows));
                if (n_sides == 2) {
                    awq__eval_job j;
                    memset(&j, 0, sizeof j);
                    j.ops = awq__ops_for(ctx);
                    j.p = side[1].logits;
                    j.q = side[0].logits;
                    j.lp = side[1].lse;
                    j.lq = side[0].lse;
                    j.kl = kls;
                    j.vocab = vocab;
                    awq__run(ctx, rows, awq__eval_kl, &j);
                }
                for (row = 0; row < rows; row++) {
                    int64_t pos = at + i + row;
                    int32_t next = ids[pos + 1];
                    if (pos < from) continue;
                    if (next < 0 || next >= vocab)
                        return awq__fail(ctx, AWQ_E_ARG,
                                         "token id %d is outside the model's vocabulary of %lld", next,
                                         (long long)vocab);
                    scored++;
                    for (k = 0; k < n_sides; k++)
                        w_nll[k] += side[k].lse[row] - side[k].logits[row * vocab + next];
                    if (n_sides == 2) {
                        w_kl += kls[row];
                        agree += side[0].top[row] == side[1].top[row];
                    }
                }
            }
        }
        if (!scored) continue;
        for (k = 0; k < n_sides; k++) nll[k] += w_nll[k];
        kl += w_kl;
        r->tokens += scored;
        if (d->window_nll) d->window_nll[blocks] = w_nll[0] / (double)scored;
        if (d->baseline_nll) d->baseline_nll[blocks] = w_nll[1] / (double)scored;
        if (d->window_kl) d->window_kl[blocks] = w_kl / (double)scored;
        blocks++;
        if (n_sides == 2) {
            double diff = (w_nll[0] - w_nll[1]) / (double)scored;
            sum_d += diff;
            sum_dd += diff * diff;
        }
        AWQ__TRY(awq__progress(ctx, "evaluate", wi + 1, windows, began));
    }
    r->windows = blocks;
    r->nll = nll[0] / (double)r->tokens;
    r->ppl = exp(r->nll);
    r->seconds = awq__now() - began;
    if (n_sides == 2) {
        double b = (double)blocks, mean = sum_d / b, var = b > 1 ? (sum_dd - b * mean * mean) / (b - 1) : 0;
        r->baseline_nll = nll[1] / (double)r->tokens;
        r->baseline_ppl = exp(r->baseline_nll);
        r->kl_mean = kl / (double)r->tokens;
        r->top1_agreement = (double)agree / (double)r->tokens;
        r->nll_diff = mean;
        r->nll_diff_se = sqrt(AWQ__MAX(var, 0.0) / b);
    }
    return AWQ_OK;
}

AWQ_API awq_status awq_evaluate(awq_ctx *ctx, const awq_model *model, const awq_evaluate_desc *d,
                                awq_evaluation *result)
{
    int64_t window = d->window > 0 ? d->window : 512,
            stride = d->stride > 0 && d->stride < window ? d->stride : window;
    const awq_model *models[2];
    awq__eval_side side[2];
    awq_evaluation r;
    awq_status st = AWQ_OK;
    int n = d->baseline ? 2 : 1, k;
    models[0] = model;
    models[1] = d->baseline;
    memset(side, 0, sizeof side);
    memset(&r, 0, sizeof r);
    if (d->n_ids < 2)
        return awq__fail(ctx, AWQ_E_ARG, "awq_evaluate: %lld tokens, at least 2 are needed",
                         (long long)d->n_ids);
    if (window < 2 || stride < 1)
        return awq__fail(ctx, AWQ_E_ARG,
                         "awq_evaluate: window %lld, stride %lld: expected window of at least 2",
                         (long long)window, (long long)stride);
    if (n == 2 && models[0]->config.vocab_size != models[1]->config.vocab_size)
        return awq__fail(ctx, AWQ_E_ARG, "awq_evaluate: the model has %lld tokens, the baseline %lld",
                         (long long)models[0]->config.vocab_size, (long long)models[1]->config.vocab_size);
    for (k = 0; !st && k < n; k++) {
        const awq_config *c = &models[k]->config;
        side[k].m = models[k];
        st = awq__kv_alloc(ctx, c, c->num_hidden_layers, window, &side[k].kv);
        if (!st) st = awq__work_alloc(ctx, c, AWQ__MIN(window, (int64_t)AWQ__EVAL_ROWS), &side[k].w);
        if (!st && !(side[k].logits = AWQ__NEW_RAW(ctx, float, c->vocab_size * AWQ__HEAD_ROWS)))
            st = AWQ_E_MEMORY;
    }
    if (!st) st = awq__evaluate_run(ctx, d, side, n, window, stride, &r);
    for (k = 0; k < n; k++) {
        awq__kv_free(ctx, &side[k].kv);
        awq__work_free(ctx, &side[k].w);
        awq__free(ctx, side[k].logits);
    }
    if (!st) *result = r;
    return st;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>export
   Writing a checkpoint: the plan of its tensors, config.json with quantization_config, the files that travel
   along. Everything is written to <target>.partial, which becomes <target> by one rename when it is complete.
   Tests: tests/test_quantize_model.c, tests/test_golden.c */

typedef struct awq__export_desc {
    const char *target;
    awq_layout layout;   /* NONE: linears are written dense */
    awq_dtype dense;     /* type of everything that is not packed; NONE: as stored */
    int bits, symmetric;
    int64_t group_size;
    const char *const *keep;
    int n_keep;
    int resume;
    uint64_t shard_bytes;
} awq__export_desc;

typedef struct awq__out_linear {
    int packed;
    awq_packed p;
    int64_t first; /* plan index of p.tensor[0], or of the dense weight */
} awq__out_linear;

typedef struct awq__export {
    awq__export_desc d;
    awq_checkpoint *ck;
    awq__arena arena;
    char *partial;
    int unfinished;           /* partial held an unfinished run when this one began */
    awq_tensor *plan;
    size_t n_plan, cap_plan;
    awq__out_linear *linear;  /* [layers][AWQ_N_LINEARS] */
    unsigned char *consumed;  /* [source tensors]: written by the caller, not copied */
    awq_writer *writer;
} awq__export;

static int awq__is_kept(const char *const *keep, int n_keep, const char *name)
{
    int i;
    for (i = 0; i < n_keep; i++)
        if (strstr(name, keep[i])) return 1;
    return 0;
}

static awq_status awq__plan_add(awq_ctx *ctx, awq__export *e, const char *name, awq_dtype dtype, int ndim,
                                const int64_t *shape)
{
    awq_tensor *t;
    int i;
    if (!awq__grow(ctx, (void **)&e->plan, &e->cap_plan, e->n_plan + 1, sizeof *e->plan)) return AWQ_E_MEMORY;
    t = &e->plan[e->n_plan];
    memset(t, 0, sizeof *t);
    t->name = awq__arena_text(ctx, &e->arena, name, strlen(name));
    if (!t->name) return AWQ_E_MEMORY;
    t->dtype = dtype;
    t->ndim = ndim;
    for (i = 0; i < ndim; i++) t->shape[i] = shape[i];
    e->n_plan++;
    return AWQ_OK;
}

static void awq__consume(awq__export *e, const awq_tensor *t)
{
    const awq_tensors *ts = awq_checkpoint_tensors(e->ck);
    int64_t lo = 0, hi = awq_tensors_count(ts);
    while (t && lo < hi) { /* they are sorted by name */
        int64_t mid = (lo + hi) / 2;
        int order = strcmp(awq_tensors_at(ts, mid)->name, t->name);
        if (!order) e->consumed[mid] = 1;
        if (order < 0) lo = mid + 1;
        else hi = mid;
    }
}

static awq_dtype awq__dense_dtype(const awq__export *e, awq_dtype stored)
{
    return e->d.dense != AWQ_DTYPE_NONE && awq__is_real(stored) ? e->d.dense : stored;
}

/* every name to keep must be part of some linear's name: a slip of the pen would quantize what was to be kept
   */
static awq_status awq__plan_kept(awq_ctx *ctx, const awq__export *e)
{
    const awq_config *c = awq_checkpoint_config(e->ck);
    int i, l, k, found;
    for (i = 0; i < e->d.n_keep; i++) {
        for (l = found = 0; l < c->num_hidden_layers && !found; l++)
            for (k = 0; k < AWQ_N_LINEARS && !found; k++) {
                awq_linear_info info;
                AWQ__TRY(awq_checkpoint_linear(ctx, e->ck, l, (awq_linear_id)k, &info));
                found = strstr(info.name, e->d.keep[i]) != NULL;
            }
        if (!found)
            return awq__fail(ctx, AWQ_E_ARG,
                             "keep \"%s\": no linear of the model has that in its name (they are called "
                             "like model.layers.0.mlp.down_proj)",
                             e->d.keep[i]);
    }
    return AWQ_OK;
}

static awq_status awq__plan_linear(awq_ctx *ctx, awq__export *e, int layer, awq_linear_id id)
{
    awq_linear_info info;
    awq__out_linear *o = &e->linear[layer * AWQ_N_LINEARS + id];
    char name[256];
    int i;
    AWQ__TRY(awq_checkpoint_linear(ctx, e->ck, layer, id, &info));
    awq__consume(e, info.weight);
    awq__consume(e, info.bias);
    for (i = 0; info.quantized && i < info.packed.n_tensors; i++) awq__consume(e, info.part[i]);
    o->first = (int64_t)e->n_plan;
    if (e->d.layout == AWQ_LAYOUT_NONE
        || (awq__is_kept(e->d.keep, e->d.n_keep, info.name) && !info.quantized)) {
        int64_t shape[2];
        shape[0] = info.out_features;
        shape[1] = info.in_features;
        snprintf(name, sizeof name, "%s.weight", info.name);
        AWQ__TRY(awq__plan_add(ctx, e, name, awq__dense_dtype(e, info.quantized ? AWQ_F16 : info.weight->dtype),
                               2, shape));
    } else if (!info.quantized && e->d.bits == 0) { /* converting: what is dense stays dense */
        snprintf(name, sizeof name, "%s.weight", info.name);
        AWQ__TRY(awq__plan_add(ctx, e, name, awq__dense_dtype(e, info.weight->dtype), 2, info.weight->shape));
    } else {
        awq_qweight w;
        memset(&w, 0, sizeof w);
        w.out_features = info.out_features;
        w.in_features = info.in_features;
        w.bits = info.quantized ? info.packed.bits : e->d.bits;
        w.symmetric = info.quantized ? info.packed.symmetric : e->d.symmetric;
        w.group_size = info.quantized ? info.packed.group_size : e->d.group_size > 0 ? e->d.group_size
                                                                                     : info.in_features;
        w.scale_dtype = info.quantized ? info.packed.scale_dtype : AWQ_F16;
        o->packed = 1;
        if (awq_layout_describe(ctx, e->d.layout, &w, &o->p)) {
            char why[sizeof ctx->err.text];
            memcpy(why, ctx->err.text, sizeof why);
            return awq__fail(ctx, ctx->err.status, "%s: %s", info.name, why);
        }
        for (i = 0; i < o->p.n_tensors; i++) {
            snprintf(name, sizeof name, "%s.%s", info.name, o->p.tensor[i].suffix);
            AWQ__TRY(
                awq__plan_add(ctx, e, name, o->p.tensor[i].dtype, o->p.tensor[i].ndim, o->p.tensor[i].shape));
        }
    }
    if (info.bias)
        AWQ__TRY(awq__plan_add(ctx, e, info.bias->name, awq__dense_dtype(e, info.bias->dtype), info.bias->ndim,
                               info.bias->shape));
    return AWQ_OK;
}

/* Files that travel with the weights. */
static const char *const awq__side_files[] = {"tokenizer.json",
                                              "tokenizer_config.json",
                                              "special_tokens_map.json",
                                              "added_tokens.json",
                                              "generation_config.json",
                                              "chat_template.jinja",
                                              "tokenizer.model",
                                              "vocab.json",
                                              "merges.txt",
                                              "LICENSE"};
#define AWQ__N_SIDE_FILES (sizeof awq__side_files / sizeof awq__side_files[0])

static void awq__remove_in(awq_ctx *ctx, const char *folder, const char *name)
{
    const awq_file_system *fs = awq__fs(ctx);
    char *path = awq__path_join(ctx, folder, name);
    if (path) fs->remove(fs->user, path);
    awq__free(ctx, path);
}

/* The partial folder loses what it has and goes away, unless kept for a resumed run. */
static void awq__export_close(awq_ctx *ctx, awq__export *e, int keep)
{
    awq_error err = ctx->err; /* cleaning up must not hide what went wrong */
    if (e->writer) awq_writer_abort(ctx, e->writer, keep);
    if (e->partial && !keep) {
        const awq_file_system *fs = awq__fs(ctx);
        size_t i;
        awq__remove_in(ctx, e->partial, "progress.jsonl");
        awq__remove_in(ctx, e->partial, "config.json");
        for (i = 0; i < AWQ__N_SIDE_FILES; i++) awq__remove_in(ctx, e->partial, awq__side_files[i]);
        fs->remove(fs->user, e->partial); /* fails, as it should, when something else is in it */
    }
    awq__free(ctx, e->partial);
    awq__free(ctx, e->plan);
    awq__arena_free(ctx, &e->arena);
    memset(e, 0, sizeof *e);
    ctx->err = err;
}

static awq_status awq__export_plan(awq_ctx *ctx, awq__export *e)
{
    awq_tensors *ts = awq_checkpoint_tensors(e->ck);
    const awq_config *c = awq_checkpoint_config(e->ck);
    int64_t n = awq_tensors_count(ts), i;
    int l, k;
    e->consumed = (unsigned char *)awq__arena_alloc(ctx, &e->arena, (size_t)n, 1);
    e->linear = (awq__out_linear *)awq__arena_alloc(
        ctx, &e->arena, (size_t)c->num_hidden_layers * AWQ_N_LINEARS, sizeof *e->linear);
    if (!e->consumed || !e->linear) return AWQ_E_MEMORY;
    AWQ__TRY(awq__plan_kept(ctx, e));
    for (l = 0; l < c->num_hidden_layers; l++)
        for (k = 0; k < AWQ_N_LINEARS; k++) AWQ__TRY(awq__plan_linear(ctx, e, l, (awq_linear_id)k));
    for (i = 0; i < n; i++) {
        const awq_tensor *t = awq_tensors_at(ts, i);
        if (e->consumed[i]) continue;
        /* old checkpoints; engines recompute it */
        if (strstr(t->name, "rotary_emb.inv_freq")) e->consumed[i] = 1;
        else AWQ__TRY(awq__plan_add(ctx, e, t->name, awq__dense_dtype(e, t->dtype), t->ndim, t->shape));
    }
    return AWQ_OK;
}

static awq_status awq__export_open(awq_ctx *ctx, awq_checkpoint *ck, const awq__export_desc *d, awq__export *e)
{
    const awq_file_system *fs = awq__fs(ctx);
    char *journal = NULL, *config = NULL;
    awq_status st = AWQ_OK;
    awq__text t = {NULL, 0, 0, 0};
    int code;
    void *h;
    memset(e, 0, sizeof *e);
    e->d = *d;
    e->ck = ck;
    if (!d->target || !*d->target) return awq__fail(ctx, AWQ_E_ARG, "no target folder was given");
    if (d->layout == AWQ_LAYOUT_EXLLAMA)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "exllama is a layout in memory; no engine reads it from a file, use gptq");
    awq__text_str(ctx, &t, d->target);
    while (t.len > 1 && t.data[t.len - 1] == '/') t.data[--t.len] = 0;
    awq__text_str(ctx, &t, ".partial");
    config = awq__path_join(ctx, d->target, "config.json");
    if (t.failed || !config) st = AWQ_E_MEMORY;
    e->partial = t.data;
    /* of a folder: EISDIR; an empty one may be replaced */
    code = st ? 0 : fs->open(fs->user, d->target, 0, &h);
    if (!st && !code) fs->close(fs->user, h);
    if (!st && (!code || awq__file_exists(ctx, config) || (code == EISDIR && fs->remove(fs->user, d->target))))
        st = awq__fail(ctx, AWQ_E_ARG, "%s exists already; choose another target or remove it", d->target);
    if (!st && !(journal = awq__path_join(ctx, e->partial, "progress.jsonl"))) st = AWQ_E_MEMORY;
    e->unfinished = !st && awq__file_exists(ctx, journal);
    if (!st && e->unfinished && !d->resume)
        st = awq__fail(ctx, AWQ_E_ARG, "%s holds an unfinished run; resume it or remove that folder",
                       e->partial);
    if (!st) st = awq__export_plan(ctx, e);
    if (!st && (code = fs->make_folder(fs->user, e->partial)) != 0)
        st = awq__io_fail(ctx, e->partial, "make the folder", code);
    if (!st)
        st = awq_writer_open(ctx, e->partial, e->plan, (int64_t)e->n_plan, d->shard_bytes,
                             d->resume && e->unfinished, &e->writer);
    awq__free(ctx, journal);
    awq__free(ctx, config);
    if (st) awq__export_close(ctx, e, e->unfinished);
    return st;
}

/* n floats as the tensor at plan index i, from element `first` on */
static awq_status awq__export_float(awq_ctx *ctx, awq__export *e, int64_t i, int64_t first, const float *data,
                                    int64_t n)
{
    const awq_tensor *t = &e->plan[i];
    uint64_t part[512]; /* aligned for every type */
    size_t es = awq_dtype_size(t->dtype);
    int64_t at, step = (int64_t)(sizeof part / 8), k;
    for (at = 0; at < n; at += step) {
        int64_t m = AWQ__MIN(step, n - at);
        AWQ__TRY(awq_from_float(ctx, t->dtype, data + at, m, part));
        if (t->dtype == AWQ_F16)
            for (k = 0; k < m; k++)
                if ((((uint16_t *)part)[k] & 0x7c00) == 0x7c00)
                    return awq__fail(ctx, AWQ_E_NUMERIC, "tensor %s: element %lld is %g, beyond FP16's 65504",
                                     t->name, (long long)(first + at + k), (double)data[at + k]);
        AWQ__TRY(awq_writer_write(ctx, e->writer, i, (uint64_t)(first + at) * es, part, (size_t)m * es));
    }
    return AWQ_OK;
}

static awq_status awq__export_named(awq_ctx *ctx, awq__export *e, const char *name, const float *data,
                                    int64_t n)
{
    int64_t i = awq_writer_find(e->writer, name);
    if (i < 0) return awq__fail(ctx, AWQ_E_ARG, "tensor %s is not part of the plan", name);
    return awq__export_float(ctx, e, i, 0, data, n);
}

static awq_status awq__export_linear(awq_ctx *ctx, awq__export *e, int layer, awq_linear_id id,
                                     const awq_qweight *w)
{
    awq__out_linear *o = &e->linear[layer * AWQ_N_LINEARS + id];
    awq_packed p = o->p;
    awq_status st = AWQ_OK;
    int i;
    for (i = 0; i < p.n_tensors; i++) p.tensor[i].data = NULL;
    for (i = 0; !st && i < p.n_tensors; i++)
        if (!(p.tensor[i].data = awq__alloc(ctx, p.tensor[i].bytes, 1))) st = AWQ_E_MEMORY;
    if (!st) st = awq_pack(ctx, w, &p);
    for (i = 0; !st && i < p.n_tensors; i++)
        st = awq_writer_write(ctx, e->writer, o->first + i, 0, p.tensor[i].data, p.tensor[i].bytes);
    for (i = 0; i < p.n_tensors; i++) awq__free(ctx, p.tensor[i].data);
    return st;
}

/* One stored tensor, converted to its planned type. */
static awq_status awq__export_copy(awq_ctx *ctx, awq__export *e, const awq_tensor *t)
{
    awq_tensors *ts = awq_checkpoint_tensors(e->ck);
    int64_t i = awq_writer_find(e->writer, t->name), n, at, step = (int64_t)1 << 18;
    uint64_t off;
    float *buf;
    awq_status st = AWQ_OK;
    if (i < 0) return awq__fail(ctx, AWQ_E_ARG, "tensor %s is not part of the plan", t->name);
    buf = (float *)awq__alloc_raw(ctx, (size_t)step, sizeof *buf);
    if (!buf) return AWQ_E_MEMORY;
    /* F16 is the same by way of fp32, and checked there */
    if (e->plan[i].dtype == t->dtype && t->dtype != AWQ_F16) {
        for (off = 0; !st && off < t->bytes; off += (uint64_t)step) {
            size_t m = (size_t)AWQ__MIN((uint64_t)step, t->bytes - off);
            st = awq_tensors_read(ctx, ts, t, off, buf, m);
            if (!st) st = awq_writer_write(ctx, e->writer, i, off, buf, m);
        }
    } else {
        n = (int64_t)(t->bytes / awq_dtype_size(t->dtype));
        for (at = 0; !st && at < n; at += step) {
            int64_t m = AWQ__MIN(step, n - at);
            st = awq_tensors_read_float(ctx, ts, t, at, m, buf);
            if (!st) st = awq__export_float(ctx, e, i, at, buf, m);
        }
    }
    awq__free(ctx, buf);
    return st;
}

/* every tensor that the caller does not write itself */
static awq_status awq__export_copy_rest(awq_ctx *ctx, awq__export *e)
{
    awq_tensors *ts = awq_checkpoint_tensors(e->ck);
    int64_t i, n = awq_tensors_count(ts);
    for (i = 0; i < n; i++)
        if (!e->consumed[i]) AWQ__TRY(awq__export_copy(ctx, e, awq_tensors_at(ts, i)));
    return AWQ_OK;
}

static void awq__names_json(awq_ctx *ctx, awq__text *t, const char *first, const char *const *names, int n)
{
    int i;
    awq__text_str(ctx, t, "[");
    if (first) awq__json_quote(ctx, t, first, strlen(first));
    for (i = 0; i < n; i++) {
        if (i || first) awq__text_str(ctx, t, ", ");
        awq__json_quote(ctx, t, names[i], strlen(names[i]));
    }
    awq__text_str(ctx, t, "]");
}

static void awq__quant_config_json(awq_ctx *ctx, awq__text *t, const awq__export_desc *d, int bits,
                                   int symmetric, int64_t group)
{
    const char *sym = symmetric ? "true" : "false", *asym = symmetric ? "false" : "true";
    if (d->layout == AWQ_LAYOUT_COMPRESSED_TENSORS) {
        awq__textf(ctx, t, "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", "
                           "\"quantization_status\": \"compressed\", \"global_compression_ratio\": null, "
                           "\"kv_cache_scheme\": null, \"ignore\": ");
        awq__names_json(ctx, t, "lm_head", d->keep, d->n_keep);
        awq__textf(
            ctx, t,
            ", \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"input_activations\": null, "
            "\"output_activations\": null, \"weights\": {\"num_bits\": %d, \"type\": \"int\", "
            "\"symmetric\": %s, ",
            bits, sym);
        if (group > 0) awq__textf(ctx, t, "\"strategy\": \"group\", \"group_size\": %lld, ", (long long)group);
        else awq__text_str(ctx, t, "\"strategy\": \"channel\", \"group_size\": null, ");
        awq__text_str(ctx, t, "\"dynamic\": false, \"actorder\": null, \"block_structure\": null, "
                              "\"observer\": \"minmax\", \"observer_kwargs\": {}}}}}");
        return;
    }
    if (d->layout == AWQ_LAYOUT_GPTQ || d->layout == AWQ_LAYOUT_GPTQ_V2) {
        awq__textf(ctx, t,
                   "{\"quant_method\": \"gptq\", \"bits\": %d, \"group_size\": %lld, \"desc_act\": false, "
                   "\"sym\": %s, \"lm_head\": false, \"checkpoint_format\": \"%s\"}",
                   bits, (long long)group, sym, d->layout == AWQ_LAYOUT_GPTQ ? "gptq" : "gptq_v2");
        return;
    }
    awq__textf(ctx, t, "{\"quant_method\": \"awq\", \"bits\": %d, \"group_size\": %lld, \"zero_point\": %s, "
                       "\"version\": \"%s\", \"modules_to_not_convert\": ", bits, (long long)group, asym,
               awq_layout_name(d->layout));
    if (d->n_keep) awq__names_json(ctx, t, NULL, d->keep, d->n_keep);
    else awq__text_str(ctx, t, "null");
    awq__text_str(ctx, t, "}");
}

/* config.json of the source with our quantization_config and type; a member a line */
static awq_status awq__export_config(awq_ctx *ctx, awq__export *e, int bits, int symmetric, int64_t group)
{
    const char *text = awq_checkpoint_config_text(e->ck), *type = NULL;
    static const char *const drop[] = {"quantization_config", "torch_dtype", "dtype"};
    awq__json j;
    awq__text t = {NULL, 0, 0, 0};
    awq_status st;
    char *path;
    uint32_t i;
    int k, v5;
    AWQ__TRY(awq__json_parse(ctx, "config.json", text, strlen(text), &j));
    v5 = awq__json_get(&j, 1, "dtype") != 0 && !awq__json_get(&j, 1, "torch_dtype");
    if (e->d.dense == AWQ_F16) type = "float16";
    else if (e->d.dense == AWQ_BF16) type = "bfloat16";
    else if (e->d.dense == AWQ_F32) type = "float32";
    awq__text_str(ctx, &t, "{\n");
    for (i = awq__json_first(&j, 1); i; i = awq__json_next(&j, i)) {
        for (k = 0; k < 3 && strcmp(awq__json_key(&j, i), drop[k]); k++) {}
        if (k == 0 || (k < 3 && type)) continue;
        awq__text_str(ctx, &t, "  ");
        awq__json_quote(ctx, &t, awq__json_key(&j, i), j.nodes[i].key_len);
        awq__text_str(ctx, &t, ": ");
        awq__json_write(ctx, &t, &j, i);
        awq__text_str(ctx, &t, ",\n");
    }
    if (e->d.layout != AWQ_LAYOUT_NONE) {
        awq__text_str(ctx, &t, "  \"quantization_config\": ");
        awq__quant_config_json(ctx, &t, &e->d, bits, symmetric, group);
        awq__text_str(ctx, &t, ",\n");
    }
    if (type) awq__textf(ctx, &t, "  \"%s\": \"%s\"\n}\n", v5 ? "dtype" : "torch_dtype", type);
    else if (t.data && t.len > 2) {
        t.len -= 2; /* the last comma */
        awq__text_str(ctx, &t, "\n}\n");
    }
    awq__json_free(ctx, &j);
    path = awq__path_join(ctx, e->partial, "config.json");
    st = t.failed || !path ? AWQ_E_MEMORY : awq__file_save(ctx, path, t.data, t.len);
    awq__free(ctx, path);
    awq__text_free(ctx, &t);
    return st;
}

static awq_status awq__export_side_files(awq_ctx *ctx, awq__export *e)
{
    size_t i;
    for (i = 0; i < AWQ__N_SIDE_FILES; i++) {
        char *from = awq__path_join(ctx, awq_checkpoint_folder(e->ck), awq__side_files[i]), *data = NULL;
        char *to = awq__path_join(ctx, e->partial, awq__side_files[i]);
        size_t n = 0;
        awq_status st = from && to ? AWQ_OK : AWQ_E_MEMORY;
        if (!st && awq__file_exists(ctx, from)) {
            st = awq__file_load(ctx, from, (size_t)256 << 20, &data, &n);
            if (!st) st = awq__file_save(ctx, to, data, n);
            awq__free(ctx, data);
        }
        awq__free(ctx, from);
        awq__free(ctx, to);
        if (st) return st;
    }
    return AWQ_OK;
}

/* everything is written: names, config, side files */
static awq_status awq__export_finish(awq_ctx *ctx, awq__export *e, int bits, int symmetric, int64_t group)
{
    AWQ__TRY(awq__export_config(ctx, e, bits, symmetric, group));
    AWQ__TRY(awq__export_side_files(ctx, e));
    AWQ__TRY(awq_writer_finish(ctx, e->writer));
    e->writer = NULL;
    return AWQ_OK;
}

/* the folder gets its name; the journal stays until then, so that a failure or a stop at any time can be
   resumed */
static awq_status awq__export_publish(awq_ctx *ctx, awq__export *e)
{
    const awq_file_system *fs = awq__fs(ctx);
    int code = fs->rename(fs->user, e->partial, e->d.target);
    if (code) return awq__io_fail(ctx, e->d.target, "rename the finished folder", code);
    awq__remove_in(ctx, e->d.target, "progress.jsonl");
    return AWQ_OK;
}

/* --- convert */
static awq_status awq__convert_linear(awq_ctx *ctx, awq__export *e, int layer, awq_linear_id id)
{
    awq__out_linear *o = &e->linear[layer * AWQ_N_LINEARS + id];
    awq_linear_info info;
    awq_qweight w;
    float *dense;
    awq_status st;
    AWQ__TRY(awq_checkpoint_linear(ctx, e->ck, layer, id, &info));
    if (info.bias) AWQ__TRY(awq__export_copy(ctx, e, info.bias));
    if (!info.quantized) return awq__export_copy(ctx, e, info.weight);
    AWQ__TRY(awq_checkpoint_read_qweight(ctx, e->ck, &info, &w));
    if (o->packed) {
        st = awq__export_linear(ctx, e, layer, id, &w);
    } else {
        dense = AWQ__NEW_RAW(ctx, float, w.out_features * w.in_features);
        st = dense ? awq_dequantize(ctx, &w, dense) : AWQ_E_MEMORY;
        if (!st) st = awq__export_float(ctx, e, o->first, 0, dense, w.out_features * w.in_features);
        awq__free(ctx, dense);
    }
    awq_qweight_free(ctx, &w);
    return st;
}

AWQ_API awq_status awq_convert(awq_ctx *ctx, const awq_convert_desc *d)
{
    awq_checkpoint *ck = NULL;
    awq__export e;
    awq__export_desc ed;
    const awq_config *c;
    const awq_quant_config *q;
    double began = awq__now();
    awq_status st;
    int l, k;
    if ((d->layout == AWQ_LAYOUT_NONE) == (d->dequantize == AWQ_DTYPE_NONE))
        return awq__fail(ctx, AWQ_E_ARG, "awq_convert: give either a layout or a type to dequantize to");
    AWQ__TRY(awq_checkpoint_open(ctx, d->source, &ck));
    c = awq_checkpoint_config(ck);
    q = awq_checkpoint_quant(ck);
    if (!q->present) {
        awq_checkpoint_close(ctx, ck);
        return awq__fail(ctx, AWQ_E_ARG, "%s is not quantized; quantize it first", d->source);
    }
    memset(&ed, 0, sizeof ed);
    ed.target = d->target;
    ed.layout = d->layout;
    ed.dense = d->dequantize;
    ed.shard_bytes = d->shard_bytes;
    st = awq__export_open(ctx, ck, &ed, &e);
    if (!st) {
        for (l = 0; !st && l < c->num_hidden_layers; l++) {
            for (k = 0; !st && k < AWQ_N_LINEARS; k++) st = awq__convert_linear(ctx, &e, l, (awq_linear_id)k);
            if (!st) st = awq__progress(ctx, "convert", l + 1, c->num_hidden_layers, began);
        }
        if (!st) st = awq__export_copy_rest(ctx, &e);
        if (!st) st = awq__export_finish(ctx, &e, q->bits, q->symmetric, q->group_size);
        if (!st) st = awq__export_publish(ctx, &e);
        awq__export_close(ctx, &e, !e.writer); /* a finished one that could not get its name stays */
    }
    awq_checkpoint_close(ctx, ck);
    return st;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>calibrate
   Texts to blocks of tokens. Each source gives one stream of tokens (documents one after another, each with the
   tokens that the tokenizer adds); blocks are cut from it at even distances, so that a few samples cover all of
   it. Tests: tests/test_calibrate.c */

#define AWQ__CALIB_FILE_MAX ((size_t)1 << 30)
#define AWQ__CALIB_MIN_TOKENS 64

typedef struct awq__ids {
    int32_t *ids;
    uint8_t *counted;
    size_t n, cap, cap_counted;
} awq__ids;

static void awq__ids_free(awq_ctx *ctx, awq__ids *s)
{
    awq__free(ctx, s->ids);
    awq__free(ctx, s->counted);
    memset(s, 0, sizeof *s);
}

static awq_status awq__ids_add(awq_ctx *ctx, awq__ids *s, const int32_t *ids, size_t n, int counted)
{
    if (!awq__grow(ctx, (void **)&s->ids, &s->cap, s->n + n, sizeof *s->ids)
        || !awq__grow(ctx, (void **)&s->counted, &s->cap_counted, s->n + n, 1))
        return AWQ_E_MEMORY;
    if (!n) return AWQ_OK;
    memcpy(s->ids + s->n, ids, n * sizeof *ids);
    memset(s->counted + s->n, counted, n);
    s->n += n;
    return AWQ_OK;
}

/* text -> tokens at the end of s; what is not text is refused with the place */
static awq_status awq__ids_text(awq_ctx *ctx, const awq_tokenizer *t, awq__ids *s, const char *text,
                                size_t bytes, int special, int counted)
{
    int32_t *ids = NULL;
    size_t n = 0;
    awq_status st;
    AWQ__TRY(awq__encode_all(ctx, t, text, bytes, special, &ids, &n));
    st = awq__ids_add(ctx, s, ids, n, counted);
    awq__free(ctx, ids);
    return st;
}

/* A conversation piece by piece: what the template adds for each message, so that answers can be told apart. */
static awq_status awq__ids_messages(awq_ctx *ctx, const awq_tokenizer *t, awq__ids *s, const awq_message *m,
                                    size_t n, int mask_answers)
{
    size_t done = 0, i;
    awq_status st = AWQ_OK;
    char *text = NULL;
    size_t bytes = 0;
    if (!awq_tokenizer_chat_template(t))
        return awq__fail(ctx, AWQ_E_UNSUPPORTED, "\"messages\" need a chat template and the model has none");
    if (!mask_answers) {
        AWQ__TRY(awq__render(ctx, t, m, n, 0, &text, &bytes));
        st = awq__ids_text(ctx, t, s, text, bytes, 0, 1);
        awq_text_free(ctx, text);
        return st;
    }
    for (i = 0; !st && i < n; i++) {
        int answer = !strcmp(m[i].role, "assistant"), part;
        for (part = answer ? 0 : 1; !st && part < 2; part++) { /* an answer: first its header, then its words */
            st = awq__render(ctx, t, m, part == 0 ? i : i + 1, part == 0, &text, &bytes);
            if (st) break;
            if (bytes > done) st = awq__ids_text(ctx, t, s, text + done, bytes - done, 0, answer && part == 1);
            done = AWQ__MAX(done, bytes);
            awq_text_free(ctx, text);
        }
    }
    return st;
}

static awq_status awq__calib_line(awq_ctx *ctx, const awq_tokenizer *t, const awq_calibration_desc *d,
                                  awq__ids *s, const awq__json *j)
{
    uint32_t text = awq__json_get(j, 1, "text"), list = awq__json_get(j, 1, "messages"), i;
    awq_message m[256];
    const char *p;
    size_t len = 0, n = 0;
    if ((p = awq__json_str(j, text, &len)) != NULL) return awq__ids_text(ctx, t, s, p, len, 1, 1);
    if (awq__json_is(j, list) != AWQ__J_ARR || !awq__json_count(j, list))
        return awq__fail(ctx, AWQ_E_FORMAT, "expected an object with \"text\" or \"messages\"");
    if (awq__json_count(j, list) > 256) return awq__fail(ctx, AWQ_E_LIMIT, "more than 256 messages");
    for (i = awq__json_first(j, list); i; i = awq__json_next(j, i), n++) {
        m[n].role = awq__json_str(j, awq__json_get(j, i, "role"), NULL);
        m[n].content = awq__json_str(j, awq__json_get(j, i, "content"), NULL);
        if (!m[n].role || !m[n].content)
            return awq__fail(ctx, AWQ_E_FORMAT, "message %d wants \"role\" and \"content\" strings", (int)n);
    }
    return awq__ids_messages(ctx, t, s, m, n, d->mask_answers);
}

static awq_status awq__calib_where(awq_ctx *ctx, const char *path, int64_t line)
{
    char why[sizeof ctx->err.text];
    memcpy(why, ctx->err.text, sizeof why);
    return line ? awq__fail(ctx, ctx->err.status, "%s: line %lld: %s", path, (long long)line, why)
                : awq__fail(ctx, ctx->err.status, "%s: %s", path, why);
}

static awq_status awq__calib_jsonl(awq_ctx *ctx, const awq_tokenizer *t, const awq_calibration_desc *d,
                                   const char *path, const char *data, size_t bytes, awq__ids *s)
{
    size_t at = 0;
    int64_t line = 0;
    while (at < bytes) {
        const char *end = (const char *)memchr(data + at, '\n', bytes - at);
        size_t n = end ? (size_t)(end - data) - at : bytes - at, i;
        awq__json j;
        awq_status st;
        line++;
        for (i = 0; i < n && strchr(" \t\r", data[at + i]); i++) {}
        if (i < n) {
            st = awq__json_parse(ctx, "the line", data + at, n, &j);
            if (st) return awq__calib_where(ctx, path, line);
            st = awq__calib_line(ctx, t, d, s, &j);
            awq__json_free(ctx, &j);
            if (st) return awq__calib_where(ctx, path, line);
        }
        at += n + 1;
    }
    return AWQ_OK;
}

static awq_status awq__json_ids(awq_ctx *ctx, const char *path, const awq__json *j, uint32_t list, awq__ids *s)
{
    uint32_t i;
    if (awq__json_is(j, list) != AWQ__J_ARR)
        return awq__fail(ctx, AWQ_E_FORMAT, "%s: expected a list of token ids at element %llu", path,
                         (unsigned long long)s->n);
    for (i = awq__json_first(j, list); i; i = awq__json_next(j, i)) {
        int64_t v = -1;
        int32_t id;
        if (!awq__json_int_of(j, i, &v) || v < 0 || v > INT32_MAX)
            return awq__fail(ctx, AWQ_E_FORMAT, "%s: a token id was expected at element %llu", path,
                             (unsigned long long)s->n);
        id = (int32_t)v;
        AWQ__TRY(awq__ids_add(ctx, s, &id, 1, 1));
    }
    return AWQ_OK;
}

/* Token ids. `blocks`: one block each into out; else joined into s, with the file's own window if it states
   one. */
static awq_status awq__calib_json(awq_ctx *ctx, const char *path, const char *data, size_t bytes, awq__ids *s,
                                  awq_calibration *out, awq__ids *all, int64_t *window)
{
    awq__json j;
    awq_status st;
    uint32_t list, i;
    AWQ__TRY(awq__json_parse(ctx, path, data, bytes, &j));
    st = AWQ_OK;
    if ((list = awq__json_get(&j, 1, "blocks")) != 0) {
        int64_t n = awq__json_count(&j, list), k;
        int64_t *start = AWQ__NEW_RAW(ctx, int64_t, out->n_blocks + n + 1);
        if (!start) st = AWQ_E_MEMORY;
        else if (awq__json_is(&j, list) != AWQ__J_ARR)
            st = awq__fail(ctx, AWQ_E_FORMAT, "%s: \"blocks\": expected a list of lists of token ids", path);
        for (k = 0; !st && k < out->n_blocks; k++) start[k] = out->start[k];
        for (i = awq__json_first(&j, list), k = out->n_blocks; !st && i; i = awq__json_next(&j, i), k++) {
            start[k] = (int64_t)all->n;
            st = awq__json_ids(ctx, path, &j, i, all);
            if (!st && (int64_t)all->n == start[k])
                st = awq__fail(ctx, AWQ_E_FORMAT, "%s: block %lld is empty", path,
                               (long long)(k - out->n_blocks));
        }
        if (!st) {
            start[k] = (int64_t)all->n;
            awq__free(ctx, out->start);
            out->start = start;
            out->n_blocks += n;
        } else awq__free(ctx, start);
    } else if ((list = awq__json_get(&j, 1, "ids")) != 0) {
        awq__json_int_of(&j, awq__json_get(&j, 1, "window"), window);
        st = awq__json_ids(ctx, path, &j, list, s);
    } else {
        list = awq__json_get(&j, 1, "sample_ids");
        if (!list) list = 1;
        if (awq__json_is(&j, list) != AWQ__J_ARR)
            st = awq__fail(ctx, AWQ_E_FORMAT,
                           "%s: expected token ids: \"blocks\", \"sample_ids\", \"ids\" or a list of "
                           "lists",
                           path);
        *window = awq__json_count(&j, awq__json_first(&j, list)); /* lists of one length are windows */
        for (i = awq__json_first(&j, list); !st && i; i = awq__json_next(&j, i)) {
            st = awq__json_ids(ctx, path, &j, i, s);
            if (awq__json_count(&j, i) != *window) *window = 0;
        }
    }
    awq__json_free(ctx, &j);
    return st;
}

static int awq__ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}

/* want blocks of seq tokens from s, evenly spread; a shorter stream gives one block */
static awq_status awq__calib_cut(awq_ctx *ctx, const awq__ids *s, int64_t want, int64_t seq,
                                 awq_calibration *out, awq__ids *all)
{
    int64_t n = (int64_t)s->n / seq, take, k;
    int64_t *start;
    if (n < 1) {
        n = 1;
        seq = (int64_t)s->n;
    }
    take = want > 0 && want < n ? want : n;
    start = AWQ__NEW_RAW(ctx, int64_t, out->n_blocks + take + 1);
    if (!start) return AWQ_E_MEMORY;
    for (k = 0; k < out->n_blocks; k++) start[k] = out->start[k];
    awq__free(ctx, out->start);
    out->start = start;
    for (k = 0; k < take; k++) {
        size_t at = (size_t)(k * n / take * seq);
        start[out->n_blocks + k] = (int64_t)all->n;
        AWQ__TRY(awq__ids_add(ctx, all, s->ids + at, (size_t)seq, 1));
        memcpy(all->counted + all->n - (size_t)seq, s->counted + at, (size_t)seq);
    }
    out->n_blocks += take;
    start[out->n_blocks] = (int64_t)all->n;
    return AWQ_OK;
}

static awq_status awq__calib_source(awq_ctx *ctx, const awq_tokenizer *t, const awq_calibration_desc *d,
                                    const awq_calibration_source *src, int64_t want, awq_calibration *out,
                                    awq__ids *all)
{
    char *data = NULL;
    size_t bytes = 0, i;
    awq__ids s;
    awq_status st;
    int64_t before = out->n_blocks, seq = d->seq_len > 0 ? d->seq_len : 512, window = 0;
    int json = awq__ends_with(src->path, ".json");
    memset(&s, 0, sizeof s);
    AWQ__TRY(awq__file_load(ctx, src->path, AWQ__CALIB_FILE_MAX, &data, &bytes));
    for (i = 0; i < bytes && strchr(" \t\r\n", data[i]); i++) {}
    if (memchr(data, 0, bytes))
        st = awq__fail(ctx, AWQ_E_FORMAT, "%s: is binary (a NUL byte at %llu), expected text", src->path,
                       (unsigned long long)((char *)memchr(data, 0, bytes) - data));
    else if (i == bytes) st = awq__fail(ctx, AWQ_E_FORMAT, "%s: is empty; calibration wants text", src->path);
    else if (json) st = awq__calib_json(ctx, src->path, data, bytes, &s, out, all, &window);
    else if (!t)
        st = awq__fail(ctx, AWQ_E_ARG, "%s: text needs a tokenizer, and the model has no tokenizer.json",
                       src->path);
    else if (awq__ends_with(src->path, ".jsonl")) st = awq__calib_jsonl(ctx, t, d, src->path, data, bytes, &s);
    else {
        st = awq__ids_text(ctx, t, &s, data, bytes, 1, 1);
        if (st) st = awq__calib_where(ctx, src->path, 0);
    }
    awq__free(ctx, data);
    if (!st && out->n_blocks == before) {
        if (s.n < AWQ__CALIB_MIN_TOKENS)
            st = awq__fail(ctx, AWQ_E_FORMAT, "%s: only %llu tokens, at least %d are needed", src->path,
                           (unsigned long long)s.n, AWQ__CALIB_MIN_TOKENS);
        else st = awq__calib_cut(ctx, &s, want, window > 0 ? window : seq, out, all);
    }
    awq__ids_free(ctx, &s);
    return st;
}

AWQ_API void awq_calibration_free(awq_ctx *ctx, awq_calibration *c)
{
    awq__free(ctx, c->start);
    awq__free(ctx, c->ids);
    awq__free(ctx, c->counted);
    memset(c, 0, sizeof *c);
}

AWQ_API awq_status awq_calibration_load(awq_ctx *ctx, const awq_tokenizer *tokenizer,
                                        const awq_calibration_desc *d, awq_calibration *calibration)
{
    awq_calibration c;
    awq__ids all;
    awq_status st = AWQ_OK;
    int64_t samples = d->samples > 0 ? d->samples : 128, given = 0;
    double sum = 0, upto = 0;
    int i;
    memset(&c, 0, sizeof c);
    memset(&all, 0, sizeof all);
    if (d->n_sources < 1) return awq__fail(ctx, AWQ_E_ARG, "calibration: no source was given");
    if (d->samples < 0 || (d->seq_len && d->seq_len < 16))
        return awq__fail(ctx, AWQ_E_ARG,
                         "calibration: samples %lld, seq_len %lld; expected samples of at least 1 and "
                         "seq_len of at least 16",
                         (long long)d->samples, (long long)d->seq_len);
    for (i = 0; i < d->n_sources; i++) {
        if (!(d->sources[i].weight >= 0 && d->sources[i].weight < 1e30))
            return awq__fail(ctx, AWQ_E_ARG, "calibration: the weight of %s is %g, expected a positive number",
                             d->sources[i].path, d->sources[i].weight);
        sum += d->sources[i].weight > 0 ? d->sources[i].weight : 1;
    }
    for (i = 0; !st && i < d->n_sources; i++) {
        int64_t want;
        upto += d->sources[i].weight > 0 ? d->sources[i].weight : 1;
        want = (int64_t)(upto / sum * (double)samples + 0.5) - given; /* so that the rounded shares add up */
        want = AWQ__MAX(want, (int64_t)1);
        given += want;
        st = awq__calib_source(ctx, tokenizer, d, &d->sources[i], want, &c, &all);
    }
    c.ids = all.ids;
    c.counted = all.counted;
    if (st) awq_calibration_free(ctx, &c);
    else *calibration = c;
    return st;
}

/* -------------------------------------------------------------------------------------------------------------
   MARK: >>quantize_model
   Whole-model quantization, one decoder block at a time.
   Method awq is the reference's: activations of the original model, candidates judged on the output of the
   attention and of the MLP. Method best runs the original and the quantized model side by side: each stage
   (q,k,v; o; gate,up; down) sees the inputs that the stages before it, quantized, give, and aims at what the
   original would have put out. Groups of linears that share an input and a scale:  0 norm -> q,k,v   1 v -> o  
   2 norm -> gate,up   3 up -> down Tests: tests/test_quantize_model.c, tests/test_golden.c */

static const awq__tap_in awq__group_input[4] = {AWQ__IN_ATTN, AWQ__IN_O, AWQ__IN_MLP, AWQ__IN_DOWN};
static const struct {
    int n;
    awq_linear_id id[3];
} awq__group[4] = {{3, {AWQ_Q_PROJ, AWQ_K_PROJ, AWQ_V_PROJ}},
                   {1, {AWQ_O_PROJ, AWQ_O_PROJ, AWQ_O_PROJ}},
                   {2, {AWQ_GATE_PROJ, AWQ_UP_PROJ, AWQ_UP_PROJ}},
                   {1, {AWQ_DOWN_PROJ, AWQ_DOWN_PROJ, AWQ_DOWN_PROJ}}};
static const int awq__linear_group[AWQ_N_LINEARS] = {0, 0, 0, 1, 2, 2, 3};

typedef struct awq__qm {
    const awq_quantize_desc *d;
    awq_checkpoint *ck;
    const awq_config *c;
    const awq_calibration *cal;
    awq_search_desc sd;
    awq__export e;
    int opened;                /* e is */
    int64_t tokens;            /* of the calibration */
    int64_t longest;           /* block */
    int hold_every;            /* every n-th block is held out; 0: none */
    int64_t width[AWQ__N_IN];
    int64_t out[AWQ_N_LINEARS], in[AWQ_N_LINEARS];
    int kept[AWQ_N_LINEARS];   /* stays FP16 in this layer */
    float *x, *y;              /* [tokens, H] input and output of the block, original model */
    float *xn, *ref;           /* [tokens, H] reference's method: module inputs and outputs */
    float *xq;                 /* [tokens, H] method best: the residual of the quantized model, beside x */
    float *held;               /* [tokens held out, H] outputs of the block rounded to nearest */
    float *cross, *drift;      /* [widest, widest], [H, widest]: <x xq^T>, <(h - hq) xq^T> of a stage */
    float *factor;             /* [widest, widest] */
    float *xf, *token_weight;  /* [longest, widest], [longest] */
    awq__layer lq;             /* the quantized layer as far as it is done */
    /* its kept weights and its biases; wt and bias but for method best */
    float *wq[AWQ_N_LINEARS], *bq[AWQ_N_LINEARS];
    awq__kv kv;                /* one layer */
    awq__work w;
    float *weights;            /* one block, fp32 */
    float *wt[AWQ_N_LINEARS], *bias[AWQ_N_LINEARS];
    awq__layer layer;
    awq__arena norms;          /* of the layer */
    float *moments[AWQ__N_IN]; /* [width, width] mean x x^T over counted tokens */
    float *sampled[AWQ__N_IN]; /* [groups, g, g] of every stride-th token: the reference's clip search */
    double *x_abs[AWQ__N_IN];  /* [width] sum |x| */
    double x_total[AWQ__N_IN];  /* sum of the token weights */
    int64_t seen[AWQ__N_IN], n_sampled[AWQ__N_IN], stride;
    const uint8_t *counted;    /* of the block running, NULL: all */
    float *xt, *bt, *block, *rows; /* scratch of the moments */
    float *scales[4];          /* [width of the group's input] */
    float *clip[AWQ_N_LINEARS];
    float *tmp;                /* [largest linear] */
    awq_qweight q[AWQ_N_LINEARS];
    awq_layer_report report;
    awq__text journal;
    int done;                  /* layers */
    int fell_back;
} awq__qm;

static int64_t awq__most(const int64_t *v, int n)
{
    int64_t m = 0;
    int i;
    for (i = 0; i < n; i++) m = AWQ__MAX(m, v[i]);
    return m;
}

/* --- rounding with error feedback (GPTQ, arXiv 2210.17323, as Babai's nearest plane). With moments = R R^T, R
   upper triangular, the output error of a row is sum_j (R_jj (t_j - q_j))^2 where t_j = w_j + sum_{i<j} (w_i -
   q_i) R_ij / R_jj: each weight is rounded after the errors before it are made up for. f [K, K]: R_ij / R_jj at
   f[j * K + i], i < j, and R_jj on the diagonal. */
typedef struct awq__chol_job {
    float *a, *w;    /* a [n, n]; w [rows, n] */
    int64_t n, at, m; /* the panel: columns at .. at + m */
} awq__chol_job;

#define AWQ__PANEL 64

/* row of the factor in the panel, given the block on the diagonal */
static void awq__chol_row(void *arg, int64_t index)
{
    awq__chol_job *c = (awq__chol_job *)arg;
    const float *l = c->a + c->at * c->n + c->at;
    float *row = c->a + (c->at + c->m + index) * c->n + c->at;
    int64_t j, k;
    for (j = 0; j < c->m; j++) {
        float x = row[j];
        for (k = 0; k < j; k++) x = x - row[k] * l[j * c->n + k];
        row[j] = x / l[j * c->n + j];
    }
}

/* lower factor of a + shift I into l, panel by panel; what is above the diagonal is left undefined */
static void awq__cholesky(awq_ctx *ctx, const float *a, int64_t n, float shift, float *l)
{
    awq__chol_job job;
    int64_t i, j, k;
    if (l != a) memcpy(l, a, (size_t)(n * n) * sizeof *l);
    for (i = 0; i < n; i++) l[i * n + i] += shift;
    job.a = l;
    job.w = NULL;
    job.n = n;
    for (job.at = 0; job.at < n; job.at += AWQ__PANEL) {
        float *d = l + job.at * n + job.at;
        job.m = AWQ__MIN((int64_t)AWQ__PANEL, n - job.at);
        if (job.at) {
            const float *rows = l + job.at * n;
            awq__subtract_product(ctx, rows, n, job.m, job.at, rows, n, n - job.at, d, n);
        }
        for (j = 0; j < job.m; j++)
            for (i = j; i < job.m; i++) {
                float x = d[i * n + j];
                for (k = 0; k < j; k++) x = x - d[i * n + k] * d[j * n + k];
                if (i == j) d[i * n + j] = sqrtf(x > shift ? x : shift); /* less than the shift is rounding */
                else d[i * n + j] = x / d[j * n + j];
            }
        awq__run(ctx, n - job.at - job.m, awq__chol_row, &job);
    }
}

static void awq__solve_forward(void *arg, int64_t row) /* x D^T = w in the panel, D the block on the diagonal */
{
    awq__chol_job *c = (awq__chol_job *)arg;
    const float *l = c->a + c->at * c->n + c->at;
    float *w = c->w + row * c->n + c->at;
    int64_t i, k;
    for (i = 0; i < c->m; i++) {
        float x = w[i];
        for (k = 0; k < i; k++) x = x - w[k] * l[i * c->n + k];
        w[i] = x / l[i * c->n + i];
    }
}

static void awq__solve_backward(void *arg, int64_t row) /* x D = w */
{
    awq__chol_job *c = (awq__chol_job *)arg;
    const float *l = c->a + c->at * c->n + c->at;
    float *w = c->w + row * c->n + c->at;
    int64_t i, k;
    for (i = c->m - 1; i >= 0; i--) {
        float x = w[i] / l[i * c->n + i];
        w[i] = x;
        for (k = 0; k < i; k++) w[k] = w[k] - x * l[i * c->n + k];
    }
}

/* w [rows, n] (L L^T)^-1 in place; scratch [n, AWQ__PANEL] */
static void awq__solve(awq_ctx *ctx, float *l, int64_t n, float *w, int64_t rows, float *scratch)
{
    awq__chol_job job;
    int64_t i, k;
    job.a = l;
    job.w = w;
    job.n = n;
    for (job.at = 0; job.at < n; job.at += AWQ__PANEL) {
        job.m = AWQ__MIN((int64_t)AWQ__PANEL, n - job.at);
        if (job.at) awq__subtract_product(ctx, l + job.at * n, n, job.m, job.at, w, n, rows, w + job.at, n);
        awq__run(ctx, rows, awq__solve_forward, &job);
    }
    for (job.at = (n - 1) / AWQ__PANEL * AWQ__PANEL; job.at >= 0; job.at -= AWQ__PANEL) {
        job.m = AWQ__MIN((int64_t)AWQ__PANEL, n - job.at);
        awq__run(ctx, rows, awq__solve_backward, &job);
        for (k = 0; k < job.m; k++)
            for (i = 0; i < job.at; i++) scratch[i * job.m + k] = l[(job.at + k) * n + i];
        if (job.at) awq__subtract_product(ctx, scratch, job.m, job.at, job.m, w + job.at, n, rows, w, n);
    }
}

static void awq__feedback_factor(awq_ctx *ctx, const float *moments, int64_t n, float damp, float *f)
{
    double mean = 0;
    int64_t i, j;
    for (i = 0; i < n; i++) mean += moments[i * n + i];
    mean = AWQ__MAX(mean / (double)n, 1e-20) * damp;
    for (i = 0; i < n; i++) /* order reversed: the lower factor of the reversed matrix is R reversed */
        for (j = 0; j < n; j++) f[i * n + j] = moments[(n - 1 - i) * n + n - 1 - j];
    awq__cholesky(ctx, f, n, (float)mean, f);
    for (i = 0; i < n; i++) /* mirror about the other diagonal: R_ij to f[j][i] */
        for (j = 0; j <= i; j++) {
            int64_t a = n - 1 - j, b = n - 1 - i;
            if (a * n + b > i * n + j) {
                float t = f[i * n + j];
                f[i * n + j] = f[a * n + b];
                f[a * n + b] = t;
            }
        }
    for (i = 0; i < n; i++)
        for (j = 0; j < i; j++) f[i * n + j] = f[i * n + j] / f[i * n + i];
}

typedef struct awq__feedback_job {
    float *w; /* [out, in], becomes q - w */
    float *base; /* [out, group]: targets of group g, for the errors of the groups before it */
    const float *f;
    awq_qweight *q;
    int64_t g;
    int trials;
    void (*row)(struct awq__feedback_job *j, int64_t o);
} awq__feedback_job;

#define AWQ__FEEDBACK_TRIALS 5 /* ranges 1.00, 0.93, ..., 0.72 of the group's */

/* Round one group given its targets without the group's own errors; e becomes w - q. Returns the weighted
   error. */
AWQ__INLINE float awq__feedback_group(const float *w, const float *base, const float *f, int64_t in, int64_t at,
                                      int64_t n, float s, float z, float top, float *e, uint8_t *codes,
                                      float limit)
{
    float loss = 0;
    int64_t j;
    for (j = 0; j < n; j++) {
        const float *fj = f + (at + j) * in + at;
        float t = base[j] + awq__dot_body(e, fj, j), q = awq__round_even(t / s) + z, r;
        q = q < 0 ? 0 : q > top ? top : q;
        codes[j] = (uint8_t)q;
        q = (q - z) * s;
        r = (t - q) * fj[j];
        loss = loss + r * r;
        e[j] = w[j] - q;
        if (loss > limit) break;
    }
    return loss;
}

AWQ__INLINE void awq__feedback_row_body(awq__feedback_job *job, int64_t o)
{
    awq_qweight *q = job->q;
    int64_t in = q->in_features, n = q->group_size, ng = in / n, g = job->g, at = g * n, j;
    float e[AWQ__MAX_CLIP_GROUP], *w = job->w + o * in + at, top = (float)((1 << q->bits) - 1);
    const float *base = job->base + o * n;
    float mn = base[0], mx = base[0], best = 3e38f;
    uint8_t codes[AWQ__MAX_CLIP_GROUP], *out = q->codes + o * in + at;
    int k;
    for (j = 1; j < n; j++) {
        mn = base[j] < mn ? base[j] : mn;
        mx = base[j] > mx ? base[j] : mx;
    }
    for (k = 0; k < job->trials; k++) {
        float shrink = (float)(1.0 - 0.07 * k), s, z, loss;
        awq__grid_f32(mn * shrink, mx * shrink, q->bits, q->symmetric, &s, &z);
        s = awq__h(s);
        loss = awq__feedback_group(w, base, job->f, in, at, n, s, z, top, e, codes, best);
        if (!(loss < best)) continue;
        best = loss;
        q->scales[o * ng + g] = s;
        q->zeros[o * ng + g] = (uint8_t)z;
        memcpy(out, codes, (size_t)n);
    }
    for (j = 0; j < n; j++) w[j] = ((float)out[j] - (float)q->zeros[o * ng + g]) * q->scales[o * ng + g] - w[j];
}

AWQ__VECTORIZE static void awq__feedback_row_scalar(awq__feedback_job *j, int64_t o)
{
    awq__feedback_row_body(j, o);
}
#if AWQ__X86
AWQ__VECTORIZE AWQ__TARGET("avx2,fma,f16c") static void awq__feedback_row_avx2(awq__feedback_job *j, int64_t o)
{
    awq__feedback_row_body(j, o);
}
#endif

static void awq__feedback_job_row(void *arg, int64_t o)
{
    awq__feedback_job *j = (awq__feedback_job *)arg;
    j->row(j, o);
}

/* q: allocated; w [out, in] is overwritten with q - w */
static awq_status awq__feedback_round(awq_ctx *ctx, float *w, const float *f, int no_clip, awq_qweight *q)
{
    awq__feedback_job j;
    int64_t in = q->in_features, n = q->group_size, out = q->out_features, at, o;
    j.w = w;
    j.f = f;
    j.q = q;
    j.trials = no_clip ? 1 : AWQ__FEEDBACK_TRIALS;
    j.row = awq__feedback_row_scalar;
#if AWQ__X86
    if (awq__isa(ctx) >= AWQ_ISA_AVX2) j.row = awq__feedback_row_avx2;
#endif
    if (n > AWQ__MAX_CLIP_GROUP)
        return awq__fail(ctx, AWQ_E_UNSUPPORTED,
                         "groups of %lld: rounding with error feedback takes up to %d; use "
                         "method awq or rtn",
                         (long long)n, AWQ__MAX_CLIP_GROUP);
    if (!(j.base = AWQ__NEW_RAW(ctx, float, out * n))) return AWQ_E_MEMORY;
    for (j.g = 0, at = 0; at < in; j.g++, at += n) {
        for (o = 0; o < out; o++) memcpy(j.base + o * n, w + o * in + at, (size_t)n * sizeof *w);
        if (at) awq__subtract_product(ctx, f + at * in, in, n, at, w, in, out, j.base, n);
        awq__run(ctx, out, awq__feedback_job_row, &j);
    }
    awq__free(ctx, j.base);
    return AWQ_OK;
}

/* --- set-up */
static void awq__qm_free(awq_ctx *ctx, awq__qm *m)
{
    int i;
    for (i = 0; i < AWQ_N_LINEARS; i++) {
        awq_qweight_free(ctx, &m->q[i]);
        awq__free(ctx, m->clip[i]);
    }
    for (i = 0; i < AWQ__N_IN; i++) {
        if (i == 0 || m->moments[i] != m->moments[0]) awq__free(ctx, m->moments[i]);
        awq__free(ctx, m->sampled[i]);
        awq__free(ctx, m->x_abs[i]);
        awq__free(ctx, m->scales[i]);
    }
    awq__free(ctx, m->x);
    awq__free(ctx, m->y);
    awq__free(ctx, m->xn);
    awq__free(ctx, m->ref);
    awq__free(ctx, m->weights);
    for (i = 0; i < AWQ_N_LINEARS; i++) awq_linear_free(ctx, &m->lq.linear[i]);
    awq__free(ctx, m->xq);
    awq__free(ctx, m->held);
    awq__free(ctx, m->cross);
    awq__free(ctx, m->drift);
    awq__free(ctx, m->factor);
    awq__free(ctx, m->xf);
    awq__free(ctx, m->token_weight);
    awq__free(ctx, m->bt);
    awq__free(ctx, m->xt);
    awq__free(ctx, m->block);
    awq__free(ctx, m->rows);
    awq__free(ctx, m->tmp);
    awq__kv_free(ctx, &m->kv);
    awq__work_free(ctx, &m->w);
    awq__arena_free(ctx, &m->norms);
    awq__text_free(ctx, &m->journal);
}

static awq_status awq__qm_check(awq_ctx *ctx, awq__qm *m)
{
    const awq_quantize_desc *d = m->d;
    const awq_config *c = m->c;
    awq_linear_info info;
    int64_t g = d->group_size, b;
    int k, bits = d->bits ? d->bits : 4;
    awq_layout layout = d->layout ? d->layout : AWQ_LAYOUT_GEMM;
    if (awq_checkpoint_quant(m->ck)->present)
        return awq__fail(ctx, AWQ_E_ARG, "%s is quantized already; quantize its original", d->source);
    if (bits < 2 || bits > 8) return awq__fail(ctx, AWQ_E_ARG, "bits is %d, expected 2 to 8", bits);
    if (layout == AWQ_LAYOUT_MARLIN && !d->symmetric)
        return awq__fail(ctx, AWQ_E_ARG, "the marlin layout holds symmetric weights only; ask for symmetric");
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        AWQ__TRY(awq_checkpoint_linear(ctx, m->ck, 0, (awq_linear_id)k, &info));
        m->out[k] = info.out_features;
        m->in[k] = info.in_features;
    }
    m->width[AWQ__IN_ATTN] = m->width[AWQ__IN_MLP] = c->hidden_size;
    m->width[AWQ__IN_O] = m->in[AWQ_O_PROJ];
    m->width[AWQ__IN_DOWN] = m->in[AWQ_DOWN_PROJ];
    if (g == 0) {
        for (g = 128; g >= 32; g /= 2) {
            for (k = 0; k < AWQ_N_LINEARS && m->in[k] % g == 0; k++) {}
            if (k == AWQ_N_LINEARS) break;
        }
        if (g < 32)
            return awq__fail(ctx, AWQ_E_ARG,
                             "%s: none of 128, 64, 32 divides every in_features; give a group size", d->source);
        if (g != 128)
            awq__log(ctx, AWQ_LOG_INFO,
                     "group size %lld: the largest of 128, 64, 32 that divides every "
                     "in_features",
                     (long long)g);
    }
    for (k = 0; k < AWQ_N_LINEARS; k++)
        if (g > 0 && (g < 16 || m->in[k] % g))
            return awq__fail(ctx, AWQ_E_ARG,
                             "group size %lld does not divide the %lld in_features of %s; leave it out to "
                             "let it be chosen",
                             (long long)g, (long long)m->in[k], strrchr(c->family->linear[k], '.') + 1);
    m->sd.bits = bits;
    m->sd.group_size = g; /* -1: each linear's whole row */
    m->sd.symmetric = d->symmetric;
    if (d->method == AWQ_METHOD_RTN) return AWQ_OK;
    m->cal = d->calibration;
    if (!m->cal || m->cal->n_blocks < 1)
        return awq__fail(ctx, AWQ_E_ARG, "this method needs calibration text; only rtn works without");
    for (b = 0; b < m->cal->n_blocks; b++) {
        int64_t n = m->cal->start[b + 1] - m->cal->start[b];
        if (n < 1 || n > c->max_position_embeddings)
            return awq__fail(ctx, AWQ_E_ARG,
                             "calibration block %lld has %lld tokens, the model takes 1 to %lld", (long long)b,
                             (long long)n, (long long)c->max_position_embeddings);
        m->longest = AWQ__MAX(m->longest, n);
    }
    m->tokens = m->cal->start[m->cal->n_blocks];
    for (b = 0; b < m->tokens; b++)
        if (m->cal->ids[b] < 0 || m->cal->ids[b] >= c->vocab_size)
            return awq__fail(ctx, AWQ_E_ARG, "calibration token %lld is id %d, the model has %lld",
                             (long long)b, (int)m->cal->ids[b], (long long)c->vocab_size);
    m->stride = AWQ__MAX(m->tokens / 512, (int64_t)1);
    if (d->method == AWQ_METHOD_BEST && m->cal->n_blocks >= 8) m->hold_every = 8;
    return AWQ_OK;
}

/* bytes held at the peak, by what awq__qm_alloc allocates and the export writes */
static size_t awq__qm_bytes(const awq__qm *m)
{
    const awq_config *c = m->c;
    double H = (double)c->hidden_size, w = 0, big = 0, t = (double)m->tokens, b = 0;
    int k, bigs = m->d->method == AWQ_METHOD_RTN ? 1 : m->d->method == AWQ_METHOD_AWQ ? 3 : 2;
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        w += (double)(m->out[k] * m->in[k]);
        big = AWQ__MAX(big, (double)(m->out[k] * m->in[k]));
    }
    b = 4 * w + 1.5 * w + 4 * big * bigs; /* weights, codes and packed, scratch */
    if (m->d->method != AWQ_METHOD_RTN) {
        for (k = 0; k < AWQ__N_IN && m->d->method == AWQ_METHOD_AWQ; k++) {
            double width = (double)m->width[k], group = m->sd.group_size > 0 ? (double)m->sd.group_size : width;
            b += 4 * width * (width + group);
        }
        b += 4 * t * H * (m->d->method == AWQ_METHOD_AWQ ? 4 : m->hold_every ? 3.25 : 3);
        if (m->d->method == AWQ_METHOD_BEST) {
            double most = (double)awq__most(m->width, AWQ__N_IN);
            b += 16 * most * most + 4 * H * most + 4 * (double)m->longest * most;
            if (m->d->n_keep) b += 4 * w; /* kept linears twice: as they were, and scaled */
        }
        b += (double)awq__work_bytes(c, m->longest) + 8 * H * (double)m->longest
             + 4 * (double)awq__page_floats(c, 1) * (double)awq__pages(m->longest);
        b += 4.0 * (AWQ__MOMENT_ROWS * 3 + AWQ__MOMENT_BLOCK) * (double)awq__most(m->width, AWQ__N_IN);
    }
    return (size_t)(b * 1.05) + ((size_t)16 << 20);
}

/* block b is kept for the check against plain rounding */
static int awq__qm_held(const awq__qm *m, int64_t b)
{
    return m->hold_every && b % m->hold_every == m->hold_every / 2;
}

static awq_status awq__qm_alloc(awq_ctx *ctx, awq__qm *m)
{
    const awq_config *c = m->c;
    int64_t most = awq__most(m->width, AWQ__N_IN), big = 0, g;
    size_t all = 0;
    int k, ok = 1;
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        all += (size_t)(m->out[k] * m->in[k]);
        big = AWQ__MAX(big, m->out[k] * m->in[k]);
    }
    m->weights = AWQ__NEW_RAW(ctx, float, all);
    m->tmp = m->weights ? AWQ__NEW_RAW(ctx, float, big) : NULL;
    if (!m->tmp) return AWQ_E_MEMORY;
    for (k = 0, all = 0; k < AWQ_N_LINEARS; k++) {
        m->wt[k] = m->weights + all;
        all += (size_t)(m->out[k] * m->in[k]);
    }
    if (m->d->method == AWQ_METHOD_RTN) return AWQ_OK;
    ok = ok && (m->x = AWQ__NEW_RAW(ctx, float, m->tokens * c->hidden_size)) != NULL;
    ok = ok && (m->y = AWQ__NEW_RAW(ctx, float, m->tokens * c->hidden_size)) != NULL;
    if (m->d->method == AWQ_METHOD_AWQ) {
        ok = ok && (m->xn = AWQ__NEW_RAW(ctx, float, m->tokens * c->hidden_size)) != NULL;
        ok = ok && (m->ref = AWQ__NEW_RAW(ctx, float, m->tokens * c->hidden_size)) != NULL;
    }
    for (k = 0; ok && k < AWQ__N_IN; k++) {
        if (m->d->method == AWQ_METHOD_BEST && k) m->moments[k] = m->moments[0]; /* one stage at a time */
        else
            m->moments[k] = AWQ__NEW_RAW(
                ctx, float, m->d->method == AWQ_METHOD_BEST ? most * most : m->width[k] * m->width[k]);
        ok = m->moments[k] != NULL;
        ok = ok && (m->x_abs[k] = AWQ__NEW_RAW(ctx, double, m->width[k])) != NULL;
        ok = ok && (m->scales[k] = AWQ__NEW_RAW(ctx, float, m->width[k])) != NULL;
        g = m->sd.group_size > 0 ? m->sd.group_size : m->width[k];
        if (m->d->method == AWQ_METHOD_AWQ && !m->d->no_clip)
            ok = ok && (m->sampled[k] = AWQ__NEW_RAW(ctx, float, m->width[k] * g)) != NULL;
    }
    if (m->d->method == AWQ_METHOD_BEST) {
        int64_t held = 0, b;
        for (b = 0; b < m->cal->n_blocks; b++)
            if (awq__qm_held(m, b)) held += m->cal->start[b + 1] - m->cal->start[b];
        ok = ok && (m->xq = AWQ__NEW_RAW(ctx, float, m->tokens * c->hidden_size)) != NULL;
        ok = ok && (m->held = AWQ__NEW_RAW(ctx, float, held * c->hidden_size)) != NULL;
        ok = ok && (m->cross = AWQ__NEW_RAW(ctx, float, most * most)) != NULL;
        ok = ok && (m->drift = AWQ__NEW_RAW(ctx, float, c->hidden_size * most)) != NULL;
        ok = ok && (m->factor = AWQ__NEW_RAW(ctx, float, most * most)) != NULL;
        ok = ok && (m->xf = AWQ__NEW_RAW(ctx, float, m->longest * most)) != NULL;
        ok = ok && (m->token_weight = AWQ__NEW_RAW(ctx, float, m->longest)) != NULL;
    }
    ok = ok && (m->xt = AWQ__NEW_RAW(ctx, float, AWQ__MOMENT_ROWS * most)) != NULL;
    ok = ok && (m->bt = AWQ__NEW_RAW(ctx, float, AWQ__MOMENT_ROWS * most)) != NULL;
    ok = ok && (m->rows = AWQ__NEW_RAW(ctx, float, AWQ__MOMENT_ROWS * most)) != NULL;
    ok = ok && (m->block = AWQ__NEW_RAW(ctx, float, AWQ__MOMENT_BLOCK * most)) != NULL;
    if (!ok) return AWQ_E_MEMORY;
    AWQ__TRY(awq__kv_alloc(ctx, c, 1, m->longest, &m->kv));
    return awq__work_alloc(ctx, c, m->longest, &m->w);
}

/* --- one block: load, listen */
static awq_status awq__qm_load(awq_ctx *ctx, awq__qm *m, int l)
{
    awq_linear_info info;
    awq_tensors *ts = awq_checkpoint_tensors(m->ck);
    int k;
    awq__arena_free(ctx, &m->norms);
    memset(&m->layer, 0, sizeof m->layer);
    AWQ__TRY(awq__layer_norms(ctx, m->ck, &m->norms, l, &m->layer));
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        AWQ__TRY(awq_checkpoint_linear(ctx, m->ck, l, (awq_linear_id)k, &info));
        AWQ__TRY(awq_tensors_read_float(ctx, ts, info.weight, 0, m->out[k] * m->in[k], m->wt[k]));
        m->kept[k] = !m->e.linear[l * AWQ_N_LINEARS + k].packed;
        m->bias[k] = NULL;
        if (info.bias)
            AWQ__TRY(awq__read_vector(ctx, m->ck, &m->norms, info.bias->name, m->out[k], &m->bias[k]));
        m->wq[k] = m->wt[k];
        m->bq[k] = m->bias[k];
        AWQ__TRY(
            awq_linear_dense(ctx, AWQ_F32, m->wt[k], m->out[k], m->in[k], m->bias[k], &m->layer.linear[k]));
    }
    return AWQ_OK;
}

static awq_status awq__qm_tap(void *user, awq__tap_in p, const float *data, int64_t n, int64_t width);

typedef struct awq__qm_listener {
    awq_ctx *ctx;
    awq__qm *m;
} awq__qm_listener;

static awq_status awq__qm_tap(void *user, awq__tap_in p, const float *data, int64_t n, int64_t width)
{
    awq_ctx *ctx = ((awq__qm_listener *)user)->ctx;
    awq__qm *m = ((awq__qm_listener *)user)->m;
    int64_t at, r, i, g = m->sd.group_size > 0 ? m->sd.group_size : width, a, b;
    for (at = 0; at < n; at += AWQ__MOMENT_ROWS) {
        int64_t end = AWQ__MIN(at + AWQ__MOMENT_ROWS, n), kept = 0;
        for (r = at; r < end; r++) {
            const float *x = data + r * width;
            if (m->counted && !m->counted[r]) continue;
            for (i = 0; i < width; i++) m->x_abs[p][i] += fabsf(x[i]);
            if (m->sampled[p] && m->seen[p] % m->stride == 0) {
                for (a = 0; a < width; a++)
                    for (b = a / g * g; b < (a / g + 1) * g; b++) m->sampled[p][a * g + b % g] += x[a] * x[b];
                m->n_sampled[p]++;
            }
            m->seen[p]++;
            memcpy(m->rows + kept++ * width, x, (size_t)width * sizeof *x);
        }
        AWQ__TRY(awq__cross_add(ctx, m->rows, width, m->rows, width, NULL, kept, m->xt, m->bt, m->block,
                                m->moments[p]));
    }
    return AWQ_OK;
}

/* rows of calibration block b: consecutive positions of one sequence */
static int64_t awq__qm_rows(awq__qm *m, int64_t b)
{
    int64_t n = m->cal->start[b + 1] - m->cal->start[b];
    awq__rows_of(m->c, &m->w, &m->kv, 0, n);
    return n;
}

/* the block over all sequences, x -> y, statistics from those not held out */
static awq_status awq__qm_listen(awq_ctx *ctx, awq__qm *m, int l)
{
    awq__qm_listener listener;
    int64_t b, H = m->c->hidden_size, i;
    int p;
    listener.ctx = ctx;
    listener.m = m;
    for (p = 0; p < AWQ__N_IN; p++) {
        size_t w = (size_t)m->width[p], g = m->sd.group_size > 0 ? (size_t)m->sd.group_size : w;
        memset(m->moments[p], 0, w * w * sizeof(float));
        memset(m->x_abs[p], 0, w * sizeof(double));
        if (m->sampled[p]) memset(m->sampled[p], 0, w * g * sizeof(float));
        m->seen[p] = m->n_sampled[p] = 0;
    }
    for (b = 0; b < m->cal->n_blocks; b++) {
        int64_t at = m->cal->start[b], n = awq__qm_rows(m, b);
        memcpy(m->w.x, m->x + at * H, (size_t)(n * H) * sizeof(float));
        m->counted = m->cal->counted ? m->cal->counted + at : NULL;
        AWQ__TRY(awq__steps(ctx, m->c, &m->layer, 0, &m->w, n, AWQ__NORM, AWQ__ADD, awq__qm_tap, &listener));
        if (!awq__all_finite(m->w.x, n * H))
            return awq__fail(ctx, AWQ_E_NUMERIC,
                             "the output of layer %d has NaN or Inf on the calibration text", l);
        memcpy(m->y + at * H, m->w.x, (size_t)(n * H) * sizeof(float));
    }
    for (p = 0; p < AWQ__N_IN; p++) {
        if (!m->seen[p])
            return awq__fail(ctx, AWQ_E_ARG, "no token of the calibration text counts (answers masked?)");
        m->x_total[p] = (double)m->seen[p];
        awq__moments_finish(m->moments[p], m->width[p], m->x_total[p]);
        if (m->sampled[p]) {
            size_t w = (size_t)m->width[p], g = m->sd.group_size > 0 ? (size_t)m->sd.group_size : w;
            for (i = 0; i < (int64_t)(w * g); i++) m->sampled[p][i] /= (float)m->n_sampled[p];
        }
    }
    return AWQ_OK;
}

/* --- scales */
static void awq__qm_x_mean(const awq__qm *m, int p, float *x_mean)
{
    int64_t i;
    for (i = 0; i < m->width[p]; i++) x_mean[i] = (float)(m->x_abs[p][i] / m->x_total[p]);
}

/* the search's settings for an input of this width: a group size of -1 becomes the width */
static awq_search_desc awq__qm_search(const awq__qm *m, int64_t width)
{
    awq_search_desc d = m->sd;
    if (d.group_size <= 0) d.group_size = width;
    return d;
}

/* mean squared difference of a module's output from ref over all calibration tokens, or NaN as soon as it is
   known to be above `limit`; make_ref: fill ref instead */
static awq_status awq__qm_module(awq_ctx *ctx, awq__qm *m, int mlp, const awq__layer *layer, int make_ref,
                                 double limit, double *loss)
{
    int64_t b, H = m->c->hidden_size, i;
    const awq__ops *ops = awq__ops_for(ctx);
    double sum = 0, scale = 1 / (double)(m->tokens * H);
    for (b = 0; b < m->cal->n_blocks && !(sum * scale > limit); b++) {
        int64_t at = m->cal->start[b], n = awq__qm_rows(m, b), r;
        memcpy(m->w.xn, m->xn + at * H, (size_t)(n * H) * sizeof(float));
        AWQ__TRY(awq__steps(ctx, m->c, layer, 0, &m->w, n, mlp ? AWQ__GATE_UP : AWQ__QKV,
                            mlp ? AWQ__DOWN : AWQ__O, NULL, NULL));
        if (make_ref) {
            memcpy(m->ref + at * H, m->w.out, (size_t)(n * H) * sizeof(float));
            continue;
        }
        for (r = 0; r < n; r++) {
            float *o = m->w.out + r * H;
            const float *ref = m->ref + (at + r) * H;
            for (i = 0; i < H; i++) o[i] = o[i] - ref[i];
            sum += ops->dot(o, o, H);
        }
    }
    *loss = sum * scale > limit ? NAN : sum * scale;
    return AWQ_OK;
}

/* inputs of the attention (0) or the MLP (1) for all tokens, into xn */
static awq_status awq__qm_module_inputs(awq_ctx *ctx, awq__qm *m, int mlp)
{
    int64_t b, H = m->c->hidden_size;
    for (b = 0; b < m->cal->n_blocks; b++) {
        int64_t at = m->cal->start[b], n = awq__qm_rows(m, b);
        memcpy(m->w.x, m->x + at * H, (size_t)(n * H) * sizeof(float));
        AWQ__TRY(awq__steps(ctx, m->c, &m->layer, 0, &m->w, n, AWQ__NORM, mlp ? AWQ__ADD_NORM : AWQ__NORM, NULL,
                            NULL));
        memcpy(m->xn + at * H, m->w.xn, (size_t)(n * H) * sizeof(float));
    }
    return AWQ_OK;
}

/* The reference's search for a group judged on its module's output, from the middle of the grid outwards: a sum
   of squares that has passed the best one so far cannot win any more. */
static awq_status awq__qm_search_module(awq_ctx *ctx, awq__qm *m, int g)
{
    enum { middle = 6 };
    int p = awq__group_input[g], n = awq__group[g].n, k, r, mlp = g == 2;
    int64_t width = m->width[p], outs[3];
    awq_search_desc sd = awq__qm_search(m, width);
    const float *ws[3];
    float *x_mean = AWQ__NEW_RAW(ctx, float, width), *w_mean = AWQ__NEW_RAW(ctx, float, width);
    float *cand[3] = {NULL, NULL, NULL}, *s = m->scales[g];
    awq__layer layer = m->layer;
    double *losses = m->report.losses[g], ignored;
    awq_status st = x_mean && w_mean ? AWQ_OK : AWQ_E_MEMORY;
    int best = -1, i;
    for (k = 0; k < n; k++) {
        awq_linear_id id = awq__group[g].id[k];
        ws[k] = m->wt[id];
        outs[k] = m->out[id];
        if (!st && !(cand[k] = AWQ__NEW_RAW(ctx, float, outs[k] * width))) st = AWQ_E_MEMORY;
        if (!st) st = awq_linear_dense(ctx, AWQ_F32, cand[k], outs[k], width, m->bias[id], &layer.linear[id]);
    }
    if (!st) st = awq_weight_mean(ctx, ws, outs, n, width, sd.group_size, w_mean);
    if (!st) awq__qm_x_mean(m, p, x_mean);
    if (!st) st = awq__qm_module_inputs(ctx, m, mlp);
    if (!st) st = awq__qm_module(ctx, m, mlp, &m->layer, 1, 0, &ignored);
    for (i = 0; !st && i <= AWQ_SCALE_GRID; i++) {
        r = i == AWQ_SCALE_GRID ? i : i < 2 * middle ? middle + (i % 2 ? -(i + 1) / 2 : i / 2) : i;
        if (r < AWQ_SCALE_GRID)
            st = awq_scale_candidate(ctx, x_mean, w_mean, width, (double)r / AWQ_SCALE_GRID, sd.no_duo, s);
        for (k = 0; !st && k < n; k++)
            st = awq_fake_quantize(ctx, ws[k], outs[k], width, &sd, r < AWQ_SCALE_GRID ? s : NULL, NULL,
                                   cand[k]);
        if (!st) /* round to nearest is measured whole, for the report */
            st = awq__qm_module(ctx, m, mlp, &layer, 0,
                                best < 0 || r == AWQ_SCALE_GRID ? INFINITY : losses[best], &losses[r]);
        if (!st && r < AWQ_SCALE_GRID
            && (best < 0 || losses[r] < losses[best] || (losses[r] <= losses[best] && r < best)))
            best = r;
    }
    if (!st) st = awq_scale_candidate(ctx, x_mean, w_mean, width, (double)best / AWQ_SCALE_GRID, sd.no_duo, s);
    if (!st) {
        m->report.ratio[g] = (double)best / AWQ_SCALE_GRID;
        m->report.loss[g] = losses[best];
        m->report.rtn_loss[g] = losses[AWQ_SCALE_GRID];
        m->report.scales[g] = s;
    }
    for (k = 0; k < n; k++) awq__free(ctx, cand[k]);
    awq__free(ctx, x_mean);
    awq__free(ctx, w_mean);
    return st;
}

/* a group that is one linear, judged on its output through the second moments */
static awq_status awq__qm_search_linear(awq_ctx *ctx, awq__qm *m, int g)
{
    int p = awq__group_input[g], n = awq__group[g].n, k, best = 0, r;
    int64_t width = m->width[p], outs[3], elements = 0;
    awq_search_desc sd = awq__qm_search(m, width);
    const float *ws[3];
    float *x_mean = AWQ__NEW_RAW(ctx, float, width), *w_mean = AWQ__NEW_RAW(ctx, float, width);
    double *losses = m->report.losses[g];
    awq_status st = x_mean && w_mean ? AWQ_OK : AWQ_E_MEMORY;
    for (k = 0; k < n; k++) {
        ws[k] = m->wt[awq__group[g].id[k]];
        outs[k] = m->out[awq__group[g].id[k]];
        elements += outs[k];
    }
    if (!st) awq__qm_x_mean(m, p, x_mean);
    if (!st)
        st =
            awq_search_scales(ctx, ws, outs, n, width, x_mean, m->moments[p], &sd, m->scales[g], losses, &best);
    for (r = 0; !st && r <= AWQ_SCALE_GRID; r++) losses[r] /= (double)elements;
    if (!st && best == AWQ_SCALE_GRID) { /* the reference has no identity */
        for (best = 0, r = 1; r < AWQ_SCALE_GRID; r++)
            if (losses[r] < losses[best]) best = r;
        st = awq_weight_mean(ctx, ws, outs, n, width, sd.group_size, w_mean);
        if (!st) st = awq_scale_candidate(ctx, x_mean, w_mean, width, (double)best / AWQ_SCALE_GRID, sd.no_duo,
                                          m->scales[g]);
    }
    if (!st) {
        m->report.ratio[g] = (double)best / AWQ_SCALE_GRID;
        m->report.loss[g] = losses[best];
        m->report.rtn_loss[g] = losses[AWQ_SCALE_GRID];
        m->report.scales[g] = m->scales[g];
    }
    awq__free(ctx, x_mean);
    awq__free(ctx, w_mean);
    return st;
}

/* rows of prev (and its bias) divided by s, columns of the group's linears multiplied; moments follow */
static void awq__qm_apply(awq__qm *m, int g)
{
    int p = awq__group_input[g], k;
    int64_t width = m->width[p], i, o, gs = m->sd.group_size > 0 ? m->sd.group_size : width;
    const float *s = m->scales[g];
    if (!m->report.scales[g]) return;
    if (g == 0 || g == 2) {
        float *norm = g == 0 ? m->layer.input_norm : m->layer.post_norm;
        for (i = 0; i < width; i++) norm[i] = norm[i] / s[i];
    } else {
        awq_linear_id id = g == 1 ? AWQ_V_PROJ : AWQ_UP_PROJ;
        for (o = 0; o < m->out[id]; o++) {
            for (i = 0; i < m->in[id]; i++) m->wt[id][o * m->in[id] + i] /= s[o];
            if (m->bias[id]) m->bias[id][o] /= s[o];
        }
    }
    for (k = 0; k < awq__group[g].n; k++) {
        float *w = m->wt[awq__group[g].id[k]];
        for (o = 0; o < m->out[awq__group[g].id[k]]; o++)
            for (i = 0; i < width; i++) w[o * width + i] *= s[i];
    }
    for (o = 0; o < width; o++)
        for (i = 0; i < width; i++) m->moments[p][o * width + i] /= s[o] * s[i];
    if (m->sampled[p])
        for (o = 0; o < width; o++)
            for (i = 0; i < gs; i++) m->sampled[p][o * gs + i] /= s[o] * s[o / gs * gs + i];
}

/* --- rounding */
static awq_status awq__qm_round_plain(awq_ctx *ctx, awq__qm *m, int k, const float *w, awq_qweight *q)
{
    int64_t n = m->out[k] * m->in[k], i;
    for (i = 0; i < n; i++) m->tmp[i] = awq__h(w[i]);
    return awq_quantize(ctx, m->tmp, q);
}

static awq_status awq__qm_qweight(awq_ctx *ctx, awq__qm *m, int k, awq_qweight *q)
{
    awq_qweight_free(ctx, q);
    return awq_qweight_alloc(ctx, m->out[k], m->in[k], m->sd.bits, m->sd.group_size, m->sd.symmetric, q);
}

static awq_status awq__qm_clip(awq_ctx *ctx, awq__qm *m, int k)
{
    int p = awq__group_input[awq__linear_group[k]];
    int64_t o, g, i, in = m->in[k], gs, ng;
    awq_search_desc sd = awq__qm_search(m, in);
    gs = sd.group_size;
    ng = in / gs;
    awq__free(ctx, m->clip[k]);
    m->clip[k] = AWQ__NEW_RAW(ctx, float, m->out[k] * ng);
    if (!m->clip[k]) return AWQ_E_MEMORY;
    AWQ__TRY(awq_search_clips(ctx, m->wt[k], m->out[k], in, m->sampled[p], &sd, m->clip[k]));
    for (o = 0; o < m->out[k]; o++)
        for (g = 0; g < ng; g++) {
            float c = m->clip[k][o * ng + g], *w = m->wt[k] + o * in + g * gs;
            for (i = 0; i < gs; i++) w[i] = w[i] < -c ? -c : w[i] > c ? c : w[i];
        }
    m->report.clip_max[k] = m->clip[k];
    return AWQ_OK;
}

/* --- method best. For a stage with inputs x (original model) and xq (quantized so far), token weights v:
       H = <v xq xq^T>, C = <v x xq^T>, and for o and down B = <v (h - hq) xq^T>, h the residual they add to
       W* = (W C + B/2 + l W) (H + l)^-1, l = 0.1 mean diag H          the weights that make up for earlier
       errors s: least sum over groups of (sum over rows of range^2) * (sum of R_jj^2 / s_j^2), H + damping = R
       R^T codes: error feedback on W* s with H / (s s^T)
   Found on SmolLM2-135M w4 g64 (mean KL on 8 windows of WikiText-2 test, RTN 0.305, AWQ 0.126): feedback with
   the original's H 0.242; sequential 0.199; with scales 0.098; with the target W* 0.077; with B and clips
   0.062. Not worth it: scales v -> o under GQA, refitting scales or codes afterwards, gradient-optimised s. */
#define AWQ__DAMP 0.03f
#define AWQ__RIDGE 0.1f

/* m->tmp [out, width] = the target for linear id of group g */
static awq_status awq__qm_target(awq_ctx *ctx, awq__qm *m, int g, awq_linear_id id, float *lower, float ridge)
{
    int64_t width = m->width[awq__group_input[g]], n = m->out[id] * width, i, j;
    awq_linear l;
    /* W C: rows of C^T are the outputs' weights, so C is transposed in place first (by the caller) */
    AWQ__TRY(awq_linear_dense(ctx, AWQ_F32, m->cross, width, width, NULL, &l));
    AWQ__TRY(awq_linear_run(ctx, &l, m->wt[id], m->out[id], m->tmp));
    for (i = 0; i < n; i++) m->tmp[i] += ridge * m->wt[id][i];
    if (g == 1 || g == 3)
        for (i = 0; i < m->out[id]; i++)
            for (j = 0; j < width; j++) m->tmp[i * width + j] += 0.5f * m->drift[i * width + j];
    awq__solve(ctx, lower, width, m->tmp, m->out[id], m->block);
    return AWQ_OK;
}

/* cost of scales s (NULL: ones) for the group's linears: d[j] = R_jj^2 */
static double awq__qm_proxy(const awq__qm *m, int g, const float *s, const double *d)
{
    int64_t width = m->width[awq__group_input[g]], gs = m->sd.group_size > 0 ? m->sd.group_size : width, b, o,
            i;
    double total = 0;
    int k;
    for (b = 0; b < width; b += gs) {
        double range = 0, noise = 0;
        for (k = 0; k < awq__group[g].n; k++) {
            awq_linear_id id = awq__group[g].id[k];
            for (o = 0; o < m->out[id]; o++) {
                const float *w = m->wt[id] + o * width + b;
                float mn = 3e38f, mx = -3e38f;
                for (i = 0; i < gs; i++) {
                    float x = s ? w[i] * s[b + i] : w[i];
                    mn = x < mn ? x : mn;
                    mx = x > mx ? x : mx;
                }
                range += (double)(mx - mn) * (mx - mn);
            }
        }
        for (i = 0; i < gs; i++) noise += s ? d[b + i] / ((double)s[b + i] * s[b + i]) : d[b + i];
        total += range * noise;
    }
    return total;
}

typedef struct awq__proxy_job {
    const awq__qm *m;
    int g;
    const float *s; /* [candidates][width]; candidate 0 is the identity */
    const double *d;
    double *cost;
} awq__proxy_job;

static void awq__qm_proxy_job(void *arg, int64_t i)
{
    awq__proxy_job *j = (awq__proxy_job *)arg;
    j->cost[i] = awq__qm_proxy(j->m, j->g, i ? j->s + i * j->m->width[awq__group_input[j->g]] : NULL, j->d);
}

/* m->scales[g] and the norm or rows before it; m->factor holds the factor of the unscaled moments */
static awq_status awq__qm_best_scales(awq_ctx *ctx, awq__qm *m, int g)
{
    enum { DUO = 10, PLAIN = 9, N = 1 + DUO + PLAIN };
    int p = awq__group_input[g], k, best = 0, n = awq__group[g].n;
    int64_t width = m->width[p], i, outs[3];
    const float *ws[3];
    float *x_mean = AWQ__NEW_RAW(ctx, float, width), *w_mean = AWQ__NEW_RAW(ctx, float, width);
    float *cand = AWQ__NEW_RAW(ctx, float, width * N), *s = m->scales[g];
    double *d = AWQ__NEW_RAW(ctx, double, width), cost[N];
    awq_status st = x_mean && w_mean && cand && d ? AWQ_OK : AWQ_E_MEMORY;
    awq_search_desc sd = awq__qm_search(m, width);
    awq__proxy_job job;
    for (k = 0; k < n; k++) {
        ws[k] = m->wt[awq__group[g].id[k]];
        outs[k] = m->out[awq__group[g].id[k]];
    }
    if (!st) st = awq_weight_mean(ctx, ws, outs, n, width, sd.group_size, w_mean);
    if (!st) awq__qm_x_mean(m, p, x_mean);
    for (k = 1; !st && k < N; k++)
        st = awq_scale_candidate(ctx, x_mean, w_mean, width, k <= DUO ? (k - 1) * 0.1 : (k - DUO) * 0.1,
                                 k > DUO, cand + k * width);
    if (!st) {
        for (i = 0; i < width; i++) d[i] = (double)m->factor[i * width + i] * m->factor[i * width + i];
        job.m = m;
        job.g = g;
        job.s = cand;
        job.d = d;
        job.cost = cost;
        awq__run(ctx, N, awq__qm_proxy_job, &job);
        for (k = 1; k < N; k++)
            if (cost[k] < cost[best]) best = k;
        for (i = 0; i < width; i++) s[i] = best ? cand[best * width + i] : 1.0f;
        if (g == 0 || g == 2) { /* the norm is stored in FP16: the scale is what that leaves of it */
            float *norm = g == 0 ? m->layer.input_norm : m->layer.post_norm;
            float *to = g == 0 ? m->lq.input_norm : m->lq.post_norm;
            for (i = 0; i < width; i++) {
                to[i] = awq__h(norm[i] / s[i]);
                s[i] = to[i] != 0 ? norm[i] / to[i] : 1.0f;
            }
        }
        m->report.ratio[g] = best == 0 ? -1 : best <= DUO ? (best - 1) * 0.1 : (best - DUO) * 0.1;
        m->report.loss[g] = cost[best];
        m->report.rtn_loss[g] = cost[0];
        m->report.scales[g] = s;
    }
    awq__free(ctx, x_mean);
    awq__free(ctx, w_mean);
    awq__free(ctx, cand);
    awq__free(ctx, d);
    return st;
}

static awq_status awq__qm_use(awq_ctx *ctx, awq__qm *m, awq_linear_id id) /* linear id of the quantized layer */
{
    awq_linear *l = &m->lq.linear[id];
    int64_t i;
    awq_linear_free(ctx, l);
    for (i = 0; m->bq[id] && i < m->out[id]; i++) m->bq[id][i] = awq__h(m->bq[id][i]);
    if (!m->kept[id]) return awq_linear_prepare(ctx, &m->q[id], 0, m->bq[id], l);
    for (i = 0; i < m->out[id] * m->in[id]; i++) m->wq[id][i] = awq__h(m->wq[id][i]);
    return awq_linear_dense(ctx, AWQ_F32, m->wq[id], m->out[id], m->in[id], m->bq[id], l);
}

/* what a stage's scales change before it: for down the rows of up, which are quantized already */
static awq_status awq__qm_scale_up(awq_ctx *ctx, awq__qm *m)
{
    awq_qweight *q = &m->q[AWQ_UP_PROJ];
    float *s = m->scales[3];
    int64_t o, g, ng, width = m->width[AWQ__IN_DOWN], in = m->in[AWQ_UP_PROJ], i;
    for (o = 0; o < width; o++) {
        if (m->kept[AWQ_UP_PROJ]) {
            for (i = 0; i < in; i++) m->wq[AWQ_UP_PROJ][o * in + i] /= s[o];
        } else {
            ng = in / q->group_size;
            for (g = 0; g < ng; g++) { /* beyond FP16: leave this channel alone */
                float f = awq__h(q->scales[o * ng + g] / s[o]);
                if (!(f > 0) || !awq__finite(f)) s[o] = 1;
            }
            for (g = 0; g < ng; g++) q->scales[o * ng + g] = awq__h(q->scales[o * ng + g] / s[o]);
        }
        if (m->bq[AWQ_UP_PROJ]) m->bq[AWQ_UP_PROJ][o] /= s[o];
    }
    return awq__qm_use(ctx, m, AWQ_UP_PROJ);
}

/* round the linears of group g; moments, cross, drift are complete */
static awq_status awq__qm_best_group(awq_ctx *ctx, awq__qm *m, int g)
{
    int p = awq__group_input[g], k;
    int64_t width = m->width[p], i, j;
    float *h = m->moments[p], *lower = NULL, ridge;
    double mean = 0;
    awq_status st;
    for (i = 0; i < width; i++) /* C^T, so that W C is a linear */
        for (j = 0; j < i; j++) {
            float t = m->cross[i * width + j];
            m->cross[i * width + j] = m->cross[j * width + i];
            m->cross[j * width + i] = t;
        }
    if (g != 1) {
        awq__feedback_factor(ctx, h, width, AWQ__DAMP, m->factor);
        AWQ__TRY(awq__qm_best_scales(ctx, m, g));
        if (g == 3) AWQ__TRY(awq__qm_scale_up(ctx, m));
    }
    for (i = 0; i < width; i++) mean += h[i * width + i];
    ridge = (float)(AWQ__RIDGE * AWQ__MAX(mean / (double)width, 1e-20));
    lower = AWQ__NEW_RAW(ctx, float, width * width);
    if (!lower) return AWQ_E_MEMORY;
    awq__cholesky(ctx, h, width, ridge, lower);
    st = AWQ_OK;
    if (g != 1) /* H / (s s^T) */
        for (i = 0; i < width; i++)
            for (j = 0; j < width; j++) h[i * width + j] /= m->scales[g][i] * m->scales[g][j];
    awq__feedback_factor(ctx, h, width, AWQ__DAMP, m->factor);
    for (k = 0; !st && k < awq__group[g].n; k++) {
        awq_linear_id id = awq__group[g].id[k];
        float *w = m->kept[id] ? m->wq[id] : m->tmp;
        if (!m->kept[id]) st = awq__qm_target(ctx, m, g, id, lower, ridge);
        if (g != 1)
            for (i = 0; i < m->out[id]; i++)
                for (j = 0; j < width; j++) w[i * width + j] *= m->scales[g][j];
        if (!st && !m->kept[id]) st = awq__qm_qweight(ctx, m, id, &m->q[id]);
        if (!st && !m->kept[id]) st = awq__feedback_round(ctx, m->tmp, m->factor, m->d->no_clip, &m->q[id]);
        if (!st) st = awq__qm_use(ctx, m, id);
    }
    awq__free(ctx, lower);
    return st;
}

/* One stage over all sequences: its inputs in both models, and for o and down the residuals. Inputs of the
   original are left in m->xf, of the quantized model in m->w.xn, att or gate. */
static awq_status awq__qm_stage_inputs(awq_ctx *ctx, awq__qm *m, int g, const awq__layer *l,
                                       const float *residual, int64_t n, const float **x)
{
    int64_t H = m->c->hidden_size;
    awq__norm_rows(ctx, residual, g < 2 ? l->input_norm : l->post_norm, m->w.xn, n, H, m->c->rms_norm_eps);
    *x = g == 1 ? m->w.att : g == 3 ? m->w.gate : m->w.xn;
    if (g == 1) return awq__steps(ctx, m->c, l, 0, &m->w, n, AWQ__QKV, AWQ__ATTEND, NULL, NULL);
    return g == 3 ? awq__steps(ctx, m->c, l, 0, &m->w, n, AWQ__GATE_UP, AWQ__ACT, NULL, NULL) : AWQ_OK;
}

static awq_status awq__qm_stage(awq_ctx *ctx, awq__qm *m, int g)
{
    int p = awq__group_input[g], adds = g == 1 || g == 3;
    int64_t H = m->c->hidden_size, width = m->width[p], b, r, i;
    double total = 0;
    const float *x;
    awq_linear_id id = awq__group[g].id[0];
    float f;
    memset(m->moments[p], 0, (size_t)(width * width) * sizeof(float));
    memset(m->cross, 0, (size_t)(width * width) * sizeof(float));
    memset(m->drift, 0, (size_t)(H * width) * sizeof(float));
    memset(m->x_abs[p], 0, (size_t)width * sizeof(double));
    for (b = 0; b < m->cal->n_blocks; b++) {
        int64_t at = m->cal->start[b], n = awq__qm_rows(m, b);
        float *h = m->x + at * H, *hq = m->xq + at * H;
        const uint8_t *counted = m->cal->counted ? m->cal->counted + at : NULL;
        AWQ__TRY(awq__qm_stage_inputs(ctx, m, g, &m->layer, h, n, &x));
        memcpy(m->xf, x, (size_t)(n * width) * sizeof(float));
        if (!awq__qm_held(m, b)) {
            AWQ__TRY(awq__qm_stage_inputs(ctx, m, g, &m->lq, hq, n, &x));
            for (r = 0; r < n; r++) {
                float v = 1;
                if (adds) v = 1.0f / (awq__ops_for(ctx)->dot(h + r * H, h + r * H, H) / (float)H + 1e-12f);
                if (counted && !counted[r]) v = 0;
                m->token_weight[r] = v;
                total += v;
                for (i = 0; i < width; i++) m->x_abs[p][i] += v * fabsf(x[r * width + i]);
            }
            AWQ__TRY(awq__cross_add(ctx, x, width, x, width, m->token_weight, n, m->xt, m->bt, m->block,
                                    m->moments[p]));
            AWQ__TRY(awq__cross_add(ctx, m->xf, width, x, width, m->token_weight, n, m->xt, m->bt, m->block,
                                    m->cross));
            if (adds) {
                for (i = 0; i < n * H; i++) m->w.x[i] = h[i] - hq[i];
                AWQ__TRY(awq__cross_add(ctx, m->w.x, H, x, width, m->token_weight, n, m->xt, m->bt, m->block,
                                        m->drift));
            }
        }
        if (adds) {
            AWQ__TRY(awq_linear_run(ctx, &m->layer.linear[id], m->xf, n, m->w.out));
            for (i = 0; i < n * H; i++) h[i] = h[i] + m->w.out[i];
        }
    }
    if (!(total > 0))
        return awq__fail(ctx, AWQ_E_ARG, "no token of the calibration text counts (answers masked?)");
    f = (float)(1 / total);
    awq__moments_finish(m->moments[p], width, total);
    for (i = 0; i < width * width; i++) m->cross[i] = m->cross[i] * f;
    for (i = 0; i < H * width; i++) m->drift[i] = m->drift[i] * f;
    if (!awq__all_finite(m->moments[p], width * width) || !awq__all_finite(m->cross, width * width)
        || !awq__all_finite(m->drift, H * width))
        return awq__fail(ctx, AWQ_E_NUMERIC,
                         "layer %d: the inputs of %s have NaN or Inf on the calibration text, or "
                         "squares beyond fp32",
                         m->report.layer, strrchr(m->c->family->linear[id], '.') + 1);
    m->x_total[p] = total;
    AWQ__TRY(awq__qm_best_group(ctx, m, g));
    for (b = 0; adds && b < m->cal->n_blocks; b++) { /* the quantized model's residual follows */
        int64_t at = m->cal->start[b], n = awq__qm_rows(m, b);
        float *hq = m->xq + at * H;
        AWQ__TRY(awq__qm_stage_inputs(ctx, m, g, &m->lq, hq, n, &x));
        AWQ__TRY(awq_linear_run(ctx, &m->lq.linear[id], x, n, m->w.out));
        for (i = 0; i < n * H; i++) hq[i] = hq[i] + m->w.out[i];
    }
    return AWQ_OK;
}

/* m->lq: the original rounded to nearest, with its own norms */
static awq_status awq__qm_plain(awq_ctx *ctx, awq__qm *m)
{
    int64_t i;
    int k;
    for (i = 0; i < m->c->hidden_size; i++) {
        m->lq.input_norm[i] = awq__h(m->layer.input_norm[i]);
        m->lq.post_norm[i] = awq__h(m->layer.post_norm[i]);
    }
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        if (!m->kept[k]) {
            AWQ__TRY(awq__qm_qweight(ctx, m, k, &m->q[k]));
            AWQ__TRY(awq__qm_round_plain(ctx, m, k, m->wt[k], &m->q[k]));
        }
        AWQ__TRY(awq__qm_use(ctx, m, (awq_linear_id)k));
    }
    return AWQ_OK;
}

/* m->lq over the residual `from` of some sequences, into `to` (held: packed one after another) */
static awq_status awq__qm_run_quantized(awq_ctx *ctx, awq__qm *m, int held, const float *from, float *to)
{
    int64_t b, H = m->c->hidden_size, at = 0;
    for (b = 0; b < m->cal->n_blocks; b++) {
        int64_t n = m->cal->start[b + 1] - m->cal->start[b];
        if (held && !awq__qm_held(m, b)) continue;
        awq__qm_rows(m, b);
        memcpy(m->w.x, from + m->cal->start[b] * H, (size_t)(n * H) * sizeof(float));
        AWQ__TRY(awq__steps(ctx, m->c, &m->lq, 0, &m->w, n, AWQ__NORM, AWQ__ADD, NULL, NULL));
        memcpy(to + at * H, m->w.x, (size_t)(n * H) * sizeof(float));
        at += n;
    }
    return AWQ_OK;
}

/* squared error of held-out outputs against the original's m->x, relative; packed: as awq__qm_run_quantized
   left them */
static double awq__qm_held_error(awq_ctx *ctx, awq__qm *m, const float *out, int packed)
{
    const awq__ops *ops = awq__ops_for(ctx);
    int64_t b, H = m->c->hidden_size, at = 0, r, i;
    double diff = 0, size = 0;
    for (b = 0; b < m->cal->n_blocks; b++) {
        int64_t from = m->cal->start[b], n = m->cal->start[b + 1] - from;
        if (!awq__qm_held(m, b)) continue;
        for (r = 0; r < n; r++) {
            const float *x = m->x + (from + r) * H, *o = out + ((packed ? at : from) + r) * H;
            for (i = 0; i < H; i++) m->w.x[i] = o[i] - x[i];
            diff += ops->dot(m->w.x, m->w.x, H);
            size += ops->dot(x, x, H);
        }
        at += n;
    }
    return size > 0 ? diff / size : 0;
}

static void awq__qm_no_norms(awq__qm *m) /* lq starts from the layer's own */
{
    float *in = m->lq.input_norm, *post = m->lq.post_norm;
    awq_linear keep[AWQ_N_LINEARS];
    memcpy(keep, m->lq.linear, sizeof keep);
    m->lq = m->layer;
    memcpy(m->lq.linear, keep, sizeof keep);
    m->lq.input_norm = in;
    m->lq.post_norm = post;
}

/* load layer l, and the quantized layer's own norms, biases and kept weights beside it */
static awq_status awq__qm_load_pair(awq_ctx *ctx, awq__qm *m, int l)
{
    size_t H = (size_t)m->c->hidden_size, n;
    int k;
    AWQ__TRY(awq__qm_load(ctx, m, l));
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        n = (size_t)m->out[k];
        if (m->bias[k]) {
            if (!(m->bq[k] = (float *)awq__arena_alloc(ctx, &m->norms, n, sizeof(float)))) return AWQ_E_MEMORY;
            memcpy(m->bq[k], m->bias[k], n * sizeof(float));
        }
        n *= (size_t)m->in[k];
        if (m->kept[k]) {
            if (!(m->wq[k] = (float *)awq__arena_alloc(ctx, &m->norms, n, sizeof(float)))) return AWQ_E_MEMORY;
            memcpy(m->wq[k], m->wt[k], n * sizeof(float));
        }
    }
    m->lq.input_norm = (float *)awq__arena_alloc(ctx, &m->norms, H, sizeof(float));
    m->lq.post_norm = (float *)awq__arena_alloc(ctx, &m->norms, H, sizeof(float));
    if (!m->lq.input_norm || !m->lq.post_norm) return AWQ_E_MEMORY;
    awq__qm_no_norms(m);
    memcpy(m->lq.input_norm, m->layer.input_norm, H * sizeof(float));
    memcpy(m->lq.post_norm, m->layer.post_norm, H * sizeof(float));
    return AWQ_OK;
}

static awq_status awq__qm_best_layer(awq_ctx *ctx, awq__qm *m, int l)
{
    size_t all = (size_t)(m->tokens * m->c->hidden_size) * sizeof(float);
    int g;
    AWQ__TRY(awq__qm_load_pair(ctx, m, l));
    memcpy(m->y, m->xq, all);
    if (m->hold_every) {
        AWQ__TRY(awq__qm_plain(ctx, m));
        AWQ__TRY(awq__qm_run_quantized(ctx, m, 1, m->xq, m->held));
    }
    for (g = 0; g < 4; g++) AWQ__TRY(awq__qm_stage(ctx, m, g));
    if (!awq__all_finite(m->x, m->tokens * m->c->hidden_size))
        return awq__fail(ctx, AWQ_E_NUMERIC, "the output of layer %d has NaN or Inf on the calibration text",
                         l);
    if (m->hold_every) {
        m->report.rtn_error = awq__qm_held_error(ctx, m, m->held, 1);
        m->report.error = awq__qm_held_error(ctx, m, m->xq, 0);
        if (!(m->report.error <= m->report.rtn_error)) {
            m->report.fell_back = 1;
            m->fell_back++;
            AWQ__TRY(awq__qm_load_pair(ctx, m, l));
            AWQ__TRY(awq__qm_plain(ctx, m));
            AWQ__TRY(awq__qm_run_quantized(ctx, m, 0, m->y, m->xq));
        }
    }
    if (!awq__all_finite(m->xq, m->tokens * m->c->hidden_size))
        return awq__fail(ctx, AWQ_E_NUMERIC,
                         "the output of layer %d, quantized, has NaN or Inf on the calibration text", l);
    memcpy(m->layer.input_norm, m->lq.input_norm, (size_t)m->c->hidden_size * sizeof(float));
    memcpy(m->layer.post_norm, m->lq.post_norm, (size_t)m->c->hidden_size * sizeof(float));
    return AWQ_OK;
}

static awq_status awq__qm_layer(awq_ctx *ctx, awq__qm *m, int l)
{
    int g, k;
    for (g = 0; g < 4; g++)
        for (k = 0; k <= AWQ_SCALE_GRID; k++) m->report.losses[g][k] = NAN;
    m->report.error = m->report.rtn_error = -1;
    if (m->d->method == AWQ_METHOD_BEST) return awq__qm_best_layer(ctx, m, l);
    AWQ__TRY(awq__qm_load(ctx, m, l));
    if (m->d->method == AWQ_METHOD_AWQ) {
        AWQ__TRY(awq__qm_listen(ctx, m, l));
        for (g = 0; g < 4; g++) {
            int all_kept = 1;
            for (k = 0; k < awq__group[g].n; k++) all_kept &= m->kept[awq__group[g].id[k]];
            if (all_kept || (g == 1 && m->out[AWQ_V_PROJ] != m->width[AWQ__IN_O])) continue;
            AWQ__TRY(g == 0 || g == 2 ? awq__qm_search_module(ctx, m, g) : awq__qm_search_linear(ctx, m, g));
        }
        for (g = 0; g < 4; g++) awq__qm_apply(m, g);
    }
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        if (m->kept[k]) continue;
        if (m->d->method == AWQ_METHOD_AWQ && !m->d->no_clip && k != AWQ_Q_PROJ && k != AWQ_K_PROJ)
            AWQ__TRY(awq__qm_clip(ctx, m, k));
        AWQ__TRY(awq__qm_qweight(ctx, m, k, &m->q[k]));
        AWQ__TRY(awq__qm_round_plain(ctx, m, k, m->wt[k], &m->q[k]));
    }
    return AWQ_OK;
}

static awq_status awq__qm_write(awq_ctx *ctx, awq__qm *m, int l)
{
    const awq_family *f = m->c->family;
    char name[256];
    int k;
    AWQ__TRY(awq__export_named(ctx, &m->e, awq__ck_name(name, f->input_norm, l, ""), m->layer.input_norm,
                               m->width[0]));
    AWQ__TRY(awq__export_named(ctx, &m->e, awq__ck_name(name, f->post_norm, l, ""), m->layer.post_norm,
                               m->width[0]));
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        if (m->kept[k])
            AWQ__TRY(awq__export_float(ctx, &m->e, m->e.linear[l * AWQ_N_LINEARS + k].first, 0, m->wq[k],
                                       m->out[k] * m->in[k]));
        else AWQ__TRY(awq__export_linear(ctx, &m->e, l, (awq_linear_id)k, &m->q[k]));
        if (m->bq[k]) {
            awq_linear_info info;
            AWQ__TRY(awq_checkpoint_linear(ctx, m->ck, l, (awq_linear_id)k, &info));
            AWQ__TRY(awq__export_named(ctx, &m->e, info.bias->name, m->bq[k], m->out[k]));
        }
    }
    return AWQ_OK;
}

/* --- journal: line 1 says which run this is, then one line per finished layer (its part of the report) */
static uint64_t awq__fnv(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = (const unsigned char *)data;
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}

static void awq__qm_head_line(awq_ctx *ctx, awq__qm *m, awq__text *t)
{
    const awq_quantize_desc *d = m->d;
    const char *config = awq_checkpoint_config_text(m->ck);
    uint64_t h = awq__fnv(0xcbf29ce484222325ull, config, strlen(config));
    int i;
    if (m->cal) h = awq__fnv(h, m->cal->ids, (size_t)m->tokens * sizeof *m->cal->ids);
    if (m->cal && m->cal->counted) h = awq__fnv(h, m->cal->counted, (size_t)m->tokens);
    for (i = 0; i < d->n_keep; i++) h = awq__fnv(h, d->keep[i], strlen(d->keep[i]) + 1);
    awq__textf(ctx, t, "{\"run\": \"%s %d %d %d %lld %d %d %llu %016llx\"}\n", AWQ_VERSION, (int)d->method,
               m->sd.bits, m->sd.symmetric, (long long)m->sd.group_size, (int)d->layout, d->no_clip,
               (unsigned long long)d->shard_bytes, (unsigned long long)h);
}

static awq_status awq__qm_journal_path(awq_ctx *ctx, awq__qm *m, char **path)
{
    *path = awq__path_join(ctx, m->e.partial, "progress.jsonl");
    return *path ? AWQ_OK : AWQ_E_MEMORY;
}

static awq_status awq__qm_journal_save(awq_ctx *ctx, awq__qm *m)
{
    char *path;
    awq_status st;
    if (m->journal.failed) return AWQ_E_MEMORY;
    AWQ__TRY(awq__qm_journal_path(ctx, m, &path));
    st = awq__file_save(ctx, path, m->journal.data, m->journal.len);
    awq__free(ctx, path);
    return st;
}

/* start a journal, or take up the one of an unfinished run */
static awq_status awq__qm_journal_open(awq_ctx *ctx, awq__qm *m)
{
    char *path = NULL, *data = NULL;
    size_t n = 0, i;
    awq_status st = AWQ_OK;
    awq__qm_head_line(ctx, m, &m->journal);
    AWQ__TRY(awq__qm_journal_path(ctx, m, &path));
    if (m->d->resume && awq__file_exists(ctx, path)) {
        st = awq__file_load(ctx, path, (size_t)64 << 20, &data, &n);
        if (!st && (n < m->journal.len || memcmp(data, m->journal.data, m->journal.len)))
            st = awq__fail(ctx, AWQ_E_ARG,
                           "%s was begun with other settings, text or model; remove it to start anew",
                           m->e.partial);
        if (!st) {
            const char *p = data;
            while ((p = strstr(p, "\"fell_back\": true")) != NULL) p++, m->fell_back++;
            for (i = m->journal.len; i < n; i++) m->done += data[i] == '\n';
            awq__text_add(ctx, &m->journal, data + m->journal.len, n - m->journal.len);
        }
        awq__free(ctx, data);
    }
    awq__free(ctx, path);
    return st ? st : awq__qm_journal_save(ctx, m);
}

static void awq__text_number(awq_ctx *ctx, awq__text *t, const char *key, double v, const char *tail)
{
    if (v == v) awq__textf(ctx, t, "\"%s\": %.7g%s", key, v, tail);
    else awq__textf(ctx, t, "\"%s\": null%s", key, tail);
}

static void awq__qm_layer_line(awq_ctx *ctx, awq__qm *m)
{
    static const char *const names[4] = {"qkv", "o", "gate_up", "down"};
    const awq_layer_report *r = &m->report;
    awq__text *t = &m->journal;
    int g, first = 1;
    awq__textf(ctx, t, "{\"layer\": %d, ", r->layer);
    awq__text_number(ctx, t, "error", r->error < 0 ? NAN : r->error, ", ");
    awq__text_number(ctx, t, "rtn_error", r->rtn_error < 0 ? NAN : r->rtn_error, ", ");
    awq__textf(ctx, t, "\"fell_back\": %s, \"seconds\": %.2f, \"groups\": [", r->fell_back ? "true" : "false",
               r->seconds);
    for (g = 0; g < 4; g++) {
        float lo = 3e38f, hi = 0;
        int64_t i;
        if (!r->scales[g]) continue;
        for (i = 0; i < m->width[awq__group_input[g]]; i++) {
            lo = AWQ__MIN(lo, r->scales[g][i]);
            hi = AWQ__MAX(hi, r->scales[g][i]);
        }
        awq__textf(ctx, t, "%s{\"linears\": \"%s\", \"ratio\": %.2f, ", first ? "" : ", ", names[g],
                   r->ratio[g]);
        awq__text_number(ctx, t, "loss", r->loss[g], ", ");
        awq__text_number(ctx, t, "rtn_loss", r->rtn_loss[g], ", ");
        awq__text_number(ctx, t, "s_max_over_min", lo > 0 ? hi / lo : NAN, "}");
        first = 0;
    }
    awq__text_str(ctx, t, "]}\n");
}

/* a vector as the unfinished run wrote it */
static awq_status awq__qm_reread(awq_ctx *ctx, awq__qm *m, const char *name, float *out, int64_t n)
{
    int64_t i = awq_writer_find(m->e.writer, name), k;
    uint16_t *h = AWQ__NEW_RAW(ctx, uint16_t, n);
    awq_status st = h ? awq_writer_read(ctx, m->e.writer, i, 0, h, (size_t)n * 2) : AWQ_E_MEMORY;
    for (k = 0; !st && k < n; k++) out[k] = awq__f16_float(h[k]);
    awq__free(ctx, h);
    return st;
}

/* linear id of a finished layer into m->q, or its dense weights into m->wq */
static awq_status awq__qm_reread_linear(awq_ctx *ctx, awq__qm *m, int l, int id)
{
    awq__out_linear *o = &m->e.linear[l * AWQ_N_LINEARS + id];
    awq_packed p = o->p;
    awq_status st = AWQ_OK;
    int i;
    if (!o->packed) return awq__qm_reread(ctx, m, m->e.plan[o->first].name, m->wq[id], m->out[id] * m->in[id]);
    for (i = 0; i < p.n_tensors; i++) p.tensor[i].data = NULL;
    for (i = 0; !st && i < p.n_tensors; i++) {
        p.tensor[i].data = awq__alloc(ctx, p.tensor[i].bytes, 1);
        st = p.tensor[i].data
                 ? awq_writer_read(ctx, m->e.writer, o->first + i, 0, p.tensor[i].data, p.tensor[i].bytes)
                 : AWQ_E_MEMORY;
    }
    if (!st) st = awq__qm_qweight(ctx, m, id, &m->q[id]);
    if (!st) st = awq_unpack(ctx, &p, &m->q[id]);
    for (i = 0; i < p.n_tensors; i++) awq__free(ctx, p.tensor[i].data);
    return st;
}

/* layers that are done already: only the activations are needed */
static awq_status awq__qm_skip(awq_ctx *ctx, awq__qm *m, int l)
{
    const awq_family *f = m->c->family;
    int64_t b, H = m->c->hidden_size;
    float *to = m->d->method == AWQ_METHOD_BEST ? m->x : m->y;
    char name[256];
    int k;
    if (m->d->method == AWQ_METHOD_RTN) return AWQ_OK;
    AWQ__TRY(awq__qm_load_pair(ctx, m, l));
    for (b = 0; b < m->cal->n_blocks; b++) {
        int64_t at = m->cal->start[b], n = awq__qm_rows(m, b);
        memcpy(m->w.x, m->x + at * H, (size_t)(n * H) * sizeof(float));
        AWQ__TRY(awq__steps(ctx, m->c, &m->layer, 0, &m->w, n, AWQ__NORM, AWQ__ADD, NULL, NULL));
        memcpy(to + at * H, m->w.x, (size_t)(n * H) * sizeof(float));
    }
    if (m->d->method != AWQ_METHOD_BEST) return AWQ_OK;
    AWQ__TRY(awq__qm_reread(ctx, m, awq__ck_name(name, f->input_norm, l, ""), m->lq.input_norm, H));
    AWQ__TRY(awq__qm_reread(ctx, m, awq__ck_name(name, f->post_norm, l, ""), m->lq.post_norm, H));
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        awq_linear_info info;
        AWQ__TRY(awq_checkpoint_linear(ctx, m->ck, l, (awq_linear_id)k, &info));
        if (info.bias) AWQ__TRY(awq__qm_reread(ctx, m, info.bias->name, m->bq[k], m->out[k]));
        AWQ__TRY(awq__qm_reread_linear(ctx, m, l, k));
        AWQ__TRY(awq__qm_use(ctx, m, (awq_linear_id)k));
    }
    return awq__qm_run_quantized(ctx, m, 0, m->xq, m->xq);
}

static awq_status awq__qm_embed(awq_ctx *ctx, awq__qm *m)
{
    awq_tensors *ts = awq_checkpoint_tensors(m->ck);
    const awq_tensor *t = awq_tensors_find(ts, m->c->family->embed);
    int64_t i, H = m->c->hidden_size;
    for (i = 0; i < m->tokens; i++)
        AWQ__TRY(awq_tensors_read_float(ctx, ts, t, m->cal->ids[i] * H, H, m->x + i * H));
    if (m->xq) memcpy(m->xq, m->x, (size_t)(m->tokens * H) * sizeof *m->x);
    return AWQ_OK;
}

static awq_status awq__qm_report(awq_ctx *ctx, awq__qm *m, const char *folder, const awq_quantize_result *r)
{
    static const char *const methods[] = {"best", "awq", "rtn"};
    awq__text t = {NULL, 0, 0, 0};
    char *path = awq__path_join(ctx, folder, "awq_report.json");
    const char *line;
    awq_status st;
    awq__textf(
        ctx, &t,
        "{\n\"version\": \"%s\", \"method\": \"%s\", \"bits\": %d, \"group_size\": %lld, \"symmetric\": %s,\n",
        AWQ_VERSION, methods[m->d->method], m->sd.bits, (long long)m->sd.group_size,
        m->sd.symmetric ? "true" : "false");
    awq__textf(ctx, &t,
               "\"calibration_tokens\": %lld, \"calibration_blocks\": %lld, \"seconds\": %.2f, "
               "\"peak_bytes\": %llu,\n",
               (long long)m->tokens, (long long)(m->cal ? m->cal->n_blocks : 0), r->seconds,
               (unsigned long long)r->peak_bytes);
    awq__text_number(ctx, &t, "ppl_source", r->ppl_source > 0 ? r->ppl_source : NAN, ", ");
    awq__text_number(ctx, &t, "ppl_result", r->ppl_result > 0 ? r->ppl_result : NAN, ",\n\"layers\": [\n");
    line = strchr(m->journal.data, '\n') + 1;
    if (m->journal.len > (size_t)(line - m->journal.data))
        for (;;) {
            const char *end = strchr(line, '\n');
            awq__text_add(ctx, &t, line, (size_t)(end - line));
            line = end + 1;
            awq__text_str(ctx, &t, *line ? ",\n" : "\n");
            if (!*line) break;
        }
    awq__text_str(ctx, &t, "]}\n");
    st = t.failed || !path ? AWQ_E_MEMORY : awq__file_save(ctx, path, t.data, t.len);
    awq__free(ctx, path);
    awq__text_free(ctx, &t);
    return st;
}

static awq_status awq__qm_run(awq_ctx *ctx, awq__qm *m, double began)
{
    int layers = m->c->num_hidden_layers, l,
        n = m->d->max_layers > 0 ? AWQ__MIN(m->d->max_layers, layers) : layers;
    AWQ__TRY(awq__qm_alloc(ctx, m));
    AWQ__TRY(awq__qm_journal_open(ctx, m));
    if (m->d->method != AWQ_METHOD_RTN) AWQ__TRY(awq__qm_embed(ctx, m));
    for (l = 0; l < n; l++) {
        double t0 = awq__now();
        float *swap;
        if (l < m->done) {
            AWQ__TRY(awq__qm_skip(ctx, m, l));
        } else {
            memset(&m->report, 0, sizeof m->report);
            m->report.layer = l;
            AWQ__TRY(awq__qm_layer(ctx, m, l));
            AWQ__TRY(awq__qm_write(ctx, m, l));
            m->report.seconds = awq__now() - t0;
            if (m->d->on_layer) m->d->on_layer(m->d->user, &m->report);
            AWQ__TRY(awq_writer_sync(ctx, m->e.writer));
            awq__qm_layer_line(ctx, m);
            AWQ__TRY(awq__qm_journal_save(ctx, m));
            m->done = l + 1;
        }
        if (m->d->method == AWQ_METHOD_AWQ) {
            swap = m->x;
            m->x = m->y;
            m->y = swap;
        }
        AWQ__TRY(awq__progress(ctx, "quantize", l + 1, layers, began));
    }
    if (n < layers) return AWQ_OK;
    AWQ__TRY(awq__export_copy_rest(ctx, &m->e));
    return awq__export_finish(ctx, &m->e, m->sd.bits, m->sd.symmetric, m->sd.group_size);
}

/* perplexity on the held-out blocks (or all, when none was), the same for source and result */
static awq_status awq__qm_ppl(awq_ctx *ctx, const awq__qm *m, const char *folder, double *ppl)
{
    awq_model_desc md;
    awq_model *model = NULL;
    awq_evaluate_desc ed;
    awq_evaluation ev;
    int (*progress)(void *user, const awq_progress *p) = ctx->progress;
    double nll = 0, began = awq__now();
    int64_t b, tokens = 0, blocks = 0, total = 0;
    awq_status st;
    memset(&md, 0, sizeof md);
    md.no_tokenizer = 1;
    AWQ__TRY(awq_model_load(ctx, folder, &md, &model));
    st = AWQ_OK;
    for (b = 0; b < m->cal->n_blocks; b++) total += !m->hold_every || awq__qm_held(m, b);
    total = AWQ__MIN(total, 8);
    for (b = 0; !st && b < m->cal->n_blocks && blocks < total; b++) {
        if (m->hold_every && !awq__qm_held(m, b)) continue;
        memset(&ed, 0, sizeof ed);
        ed.ids = m->cal->ids + m->cal->start[b];
        ed.n_ids = m->cal->start[b + 1] - m->cal->start[b];
        ed.window = ed.n_ids;
        blocks++;
        if (ed.n_ids < 2) continue;
        ctx->progress = NULL; /* the whole is told, not each block */
        st = awq_evaluate(ctx, model, &ed, &ev);
        ctx->progress = progress;
        nll += ev.nll * (double)ev.tokens;
        tokens += ev.tokens;
        if (!st) st = awq__progress(ctx, "evaluate", blocks, total, began);
    }
    awq_model_free(ctx, model);
    if (!st && tokens) *ppl = exp(nll / (double)tokens);
    return st;
}

static awq_status awq__qm_open(awq_ctx *ctx, const awq_quantize_desc *d, awq__qm *m)
{
    memset(m, 0, sizeof *m);
    m->d = d;
    AWQ__TRY(awq_checkpoint_open(ctx, d->source, &m->ck));
    m->c = awq_checkpoint_config(m->ck);
    return awq__qm_check(ctx, m);
}

AWQ_API awq_status awq_quantize_memory(awq_ctx *ctx, const awq_quantize_desc *d, size_t *bytes)
{
    awq__qm m;
    awq_status st = awq__qm_open(ctx, d, &m);
    if (!st) *bytes = awq__qm_bytes(&m);
    awq_checkpoint_close(ctx, m.ck);
    return st;
}

AWQ_API awq_status awq_quantize_model(awq_ctx *ctx, const awq_quantize_desc *d, awq_quantize_result *result)
{
    awq__qm m;
    awq__export_desc ed;
    awq_quantize_result r;
    double began = awq__now();
    size_t peak = ctx->memory_peak, base = ctx->memory_used;
    const awq_family *f;
    awq_status st = awq__qm_open(ctx, d, &m);
    int l, finished = 0;
    memset(&r, 0, sizeof r);
    ctx->memory_peak = ctx->memory_used;
    if (!st) {
        r.estimated_bytes = awq__qm_bytes(&m);
        awq__log(ctx, AWQ_LOG_INFO, "needs about %.0f MB of memory", (double)r.estimated_bytes / 1e6);
        if (ctx->memory_limit && base + r.estimated_bytes > ctx->memory_limit)
            st = awq__fail(ctx, AWQ_E_MEMORY,
                           "quantizing needs about %.0f MB and memory_limit leaves %.0f MB; fewer or "
                           "shorter calibration samples need less",
                           (double)r.estimated_bytes / 1e6,
                           (double)(ctx->memory_limit - AWQ__MIN(base, ctx->memory_limit)) / 1e6);
    }
    if (!st) {
        memset(&ed, 0, sizeof ed);
        ed.target = d->target;
        ed.layout = d->layout ? d->layout : AWQ_LAYOUT_GEMM;
        ed.dense = AWQ_F16;
        ed.bits = m.sd.bits;
        ed.symmetric = m.sd.symmetric;
        ed.group_size = m.sd.group_size;
        ed.keep = d->keep;
        ed.n_keep = d->n_keep;
        ed.resume = d->resume;
        ed.shard_bytes = d->shard_bytes;
        st = awq__export_open(ctx, m.ck, &ed, &m.e);
        m.opened = !st;
    }
    if (!st) {
        char name[256];
        awq_tensors *ts = awq_checkpoint_tensors(m.ck);
        f = m.c->family;
        /* the norms that take the scales are written per layer */
        for (l = 0; l < m.c->num_hidden_layers; l++) {
            awq__consume(&m.e, awq_tensors_find(ts, awq__ck_name(name, f->input_norm, l, "")));
            awq__consume(&m.e, awq_tensors_find(ts, awq__ck_name(name, f->post_norm, l, "")));
        }
        st = awq__qm_run(ctx, &m, began);
        finished = !st && (d->max_layers <= 0 || d->max_layers >= m.c->num_hidden_layers);
    }
    r.layers = m.done;
    r.fell_back = m.fell_back;
    r.group_size = m.sd.group_size;
    r.calibration_tokens = m.tokens;
    awq__free(ctx, m.x);
    awq__free(ctx, m.y);
    awq__free(ctx, m.xn);
    awq__free(ctx, m.ref);
    awq__free(ctx, m.xq);
    m.x = m.y = m.xn = m.ref = m.xq = NULL;
    r.peak_bytes = ctx->memory_peak - base;
    r.seconds = awq__now() - began;
    if (finished && m.cal) {
        st = awq__qm_ppl(ctx, &m, d->source, &r.ppl_source);
        if (!st) st = awq__qm_ppl(ctx, &m, m.e.partial, &r.ppl_result);
        if (st == AWQ_E_MEMORY) { /* whole models need more than one block at a time: not measured then */
            r.ppl_source = r.ppl_result = 0;
            st = AWQ_OK;
        }
    }
    if (finished && !st) st = awq__qm_report(ctx, &m, m.e.partial, &r);
    if (finished && !st) st = awq__export_publish(ctx, &m.e);
    /* an unfinished run stays for resume if a layer is done; a test of a few layers leaves nothing */
    if (m.opened) awq__export_close(ctx, &m.e, m.e.unfinished || finished || (st && m.done > 0));
    awq__qm_free(ctx, &m);
    awq_checkpoint_close(ctx, m.ck);
    ctx->memory_peak = AWQ__MAX(ctx->memory_peak, peak);
    if (!st && result) *result = r;
    return st;
}

#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC pop_options
#endif

#endif /* AWQ_IMPLEMENTATION */

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
