/* awq_quantize_model and awq_convert on the system's files: every method and layout gives a checkpoint that
   runs, bad weights and requests are refused by name, and whatever stops a run - a full disk, SIGKILL at any
   file operation, a failing allocation or file operation - leaves nothing under the target's name and a run
   that can be resumed to the same bytes. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#ifndef DIR
#  define DIR "build/test_quantize_model"
#endif
#include "quantizing.h"

#ifndef _WIN32
#  include <signal.h>
#  include <sys/types.h>
#  include <sys/wait.h>
#endif

/* --- what comes out */
static void logits(const char *folder, float *out)
{
    static const int32_t ids[8] = {1, 40, 7, 90, 33, 12, 12, 60};
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_session *s = NULL;
    memset(&ctx, 0, sizeof ctx);
    CHECK_MSG(load_exact(&ctx, folder, &m) == AWQ_OK && open_session(&ctx, m, 8, &s) == AWQ_OK
              && awq_session_feed(&ctx, s, ids, 8, NULL, out) == AWQ_OK, "%s", ctx.err.text);
    close_session(&ctx, s);
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
}

static void check_output(const char *source, const char *folder, const run *q, awq_layout layout, int bits)
{
    static const char *const methods[] = {"best", "awq", "rtn"};
    awq_ctx ctx;
    awq_checkpoint *ck = NULL;
    awq__json j;
    char path[200];
    float a[96], b[96];
    double aa = 0, bb = 0, ab = 0;
    int l, k, kept = 0;
    memset(&ctx, 0, sizeof ctx);
    CHECK(!exists(folder, ".partial") && !exists(folder, "/progress.jsonl"));
    CHECK(q->r.layers == 2 && q->r.group_size == q->d.group_size && q->r.seconds > 0);
    if (q->d.method != AWQ_METHOD_RTN)
        CHECK_MSG(q->r.calibration_tokens == BLOCKS * LENGTH && q->r.ppl_source > 1 && q->r.ppl_result > 1
                  && q->r.ppl_result < 2 * q->r.ppl_source, "%g %g", q->r.ppl_source, q->r.ppl_result);
    CHECK_MSG(awq_checkpoint_open(&ctx, folder, &ck) == AWQ_OK, "%s", ctx.err.text);
    if (!ck) return;
    CHECK(awq_checkpoint_quant(ck)->layout == layout && awq_checkpoint_quant(ck)->bits == bits);
    CHECK(awq_checkpoint_config(ck)->dtype == AWQ_F16);
    for (l = 0; l < 2; l++)
        for (k = 0; k < AWQ_N_LINEARS; k++) {
            awq_linear_info info;
            int i, keep = 0;
            CHECK(awq_checkpoint_linear(&ctx, ck, l, (awq_linear_id)k, &info) == AWQ_OK);
            for (i = 0; i < q->d.n_keep; i++) keep |= strstr(info.name, q->d.keep[i]) != NULL;
            CHECK_MSG(info.quantized == !keep && (!keep || info.weight->dtype == AWQ_F16), "%s", info.name);
            kept += keep;
        }
    CHECK((q->d.n_keep > 0) == (kept > 0));
    awq_checkpoint_close(&ctx, ck);
    snprintf(path, sizeof path, "%s/awq_report.json", folder);
    CHECK_MSG(awq__json_load(&ctx, path, 1 << 20, &j) == AWQ_OK, "%s", ctx.err.text);
    CHECK(awq__json_eq(&j, awq__json_get(&j, 1, "method"), methods[q->d.method]));
    CHECK(awq__json_count(&j, awq__json_get(&j, 1, "layers")) == 2);
    awq__json_free(&ctx, &j);
    logits(source, a);
    logits(folder, b);
    for (k = 0; k < 96; k++) aa += a[k] * a[k], bb += b[k] * b[k], ab += a[k] * b[k];
    ab /= sqrt(aa * bb);
    CHECK_MSG(ab > (bits == 8 ? 0.999 : 0.93), "cosine to the source's logits %.4f", ab);
    CHECK(ctx.memory_used == 0);
}

static void test_outputs(void)
{
    static const char *const keep[] = {"k_proj", "layers.1.mlp.down", "layers.0.mlp.up"};
    static const struct {
        const char *name;
        int rich;
        awq_method method;
        int bits, symmetric;
        awq_layout layout;
        int64_t group;
        int no_clip, n_keep, two_files;
    } cases[] = {
        {"best", 1, AWQ_METHOD_BEST, 0, 0, AWQ_LAYOUT_NONE, 32, 0, 0, 0},
        {"awq", 1, AWQ_METHOD_AWQ, 0, 0, AWQ_LAYOUT_NONE, 32, 0, 0, 0},
        {"rtn", 1, AWQ_METHOD_RTN, 0, 0, AWQ_LAYOUT_NONE, 32, 0, 0, 0},
        {"best_gqa", 0, AWQ_METHOD_BEST, 4, 0, AWQ_LAYOUT_GEMM, 32, 0, 0, 1},
        {"awq_gqa", 0, AWQ_METHOD_AWQ, 4, 0, AWQ_LAYOUT_GEMM, 32, 0, 0, 1},
        {"best_keep", 1, AWQ_METHOD_BEST, 0, 0, AWQ_LAYOUT_NONE, 32, 0, 3, 0},
        {"awq_keep", 1, AWQ_METHOD_AWQ, 0, 0, AWQ_LAYOUT_COMPRESSED_TENSORS, 32, 0, 3, 0},
        {"rtn_keep", 0, AWQ_METHOD_RTN, 0, 0, AWQ_LAYOUT_GPTQ, 32, 0, 3, 0},
        {"best_no_clip", 1, AWQ_METHOD_BEST, 0, 0, AWQ_LAYOUT_NONE, 32, 1, 0, 0},
        {"awq_no_clip", 1, AWQ_METHOD_AWQ, 0, 0, AWQ_LAYOUT_NONE, 32, 1, 0, 0},
        {"best_symmetric", 0, AWQ_METHOD_BEST, 0, 1, AWQ_LAYOUT_COMPRESSED_TENSORS, 32, 0, 0, 0},
        {"awq_symmetric", 1, AWQ_METHOD_AWQ, 0, 1, AWQ_LAYOUT_GEMM, 16, 0, 0, 0},
        {"best_row", 0, AWQ_METHOD_BEST, 0, 0, AWQ_LAYOUT_COMPRESSED_TENSORS, -1, 0, 0, 0},
        {"awq_row", 1, AWQ_METHOD_AWQ, 0, 0, AWQ_LAYOUT_GEMM, -1, 0, 0, 0},
        {"rtn_8", 0, AWQ_METHOD_RTN, 8, 0, AWQ_LAYOUT_COMPRESSED_TENSORS, 32, 0, 0, 0},
        {"best_8", 1, AWQ_METHOD_BEST, 8, 1, AWQ_LAYOUT_COMPRESSED_TENSORS, 64, 0, 0, 0},
        {"best_gptq", 1, AWQ_METHOD_BEST, 0, 0, AWQ_LAYOUT_GPTQ, 32, 0, 0, 0},
        {"awq_gptq_v2", 0, AWQ_METHOD_AWQ, 0, 0, AWQ_LAYOUT_GPTQ_V2, 32, 0, 0, 0},
        {"best_gemv", 1, AWQ_METHOD_BEST, 0, 0, AWQ_LAYOUT_GEMV, 32, 0, 0, 0},
        {"awq_gemv_fast", 1, AWQ_METHOD_AWQ, 0, 0, AWQ_LAYOUT_GEMV_FAST, 32, 0, 0, 0},
        {"best_marlin", 1, AWQ_METHOD_BEST, 0, 1, AWQ_LAYOUT_MARLIN, 64, 0, 0, 0}};
    const char *source[2];
    size_t i;
    source[0] = save_small(0);
    source[1] = save_small(1);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run q = prepare(source[cases[i].rich], fresh(cases[i].name), cases[i].method);
        int before = T.bad;
        q.d.bits = cases[i].bits;
        q.d.symmetric = cases[i].symmetric;
        q.d.layout = cases[i].layout;
        q.d.group_size = cases[i].group;
        q.d.no_clip = cases[i].no_clip;
        q.d.keep = keep;
        q.d.n_keep = cases[i].n_keep;
        q.d.shard_bytes = cases[i].two_files ? 40000 : 0;
        if (cases[i].method == AWQ_METHOD_RTN) q.d.calibration = NULL;
        GO(q);
        CHECK(exists(q.d.target, written[2]) == !cases[i].two_files);
        CHECK(exists(q.d.target, written[5]) == cases[i].two_files);
        check_output(q.d.source, q.d.target, &q, cases[i].layout ? cases[i].layout : AWQ_LAYOUT_GEMM,
                     cases[i].bits ? cases[i].bits : 4);
        if (T.bad > before) printf("    in %s\n", cases[i].name);
    }
    CHECK(!same(DIR "/awq", DIR "/awq_no_clip") && !same(DIR "/best", DIR "/best_no_clip"));
    CHECK(!same(DIR "/best", DIR "/rtn") && !same(DIR "/best", DIR "/awq"));
}

/* --- method best against plain rounding */
typedef struct layers {
    int n, measured, better, fell_back;
} layers;

static void on_layer(void *user, const awq_layer_report *r)
{
    layers *s = (layers *)user;
    CHECK(r->layer == s->n);
    s->n++;
    s->measured += r->error >= 0 && r->rtn_error > 0;
    s->better += r->error < r->rtn_error && !r->fell_back;
    s->fell_back += r->fell_back;
    CHECK_MSG(r->fell_back == !(r->error <= r->rtn_error), "layer %d: %g, RTN %g", r->layer, r->error,
              r->rtn_error);
}

static void test_best_on_text(void)
{
    run q = prepare(DEMO, fresh("demo"), AWQ_METHOD_BEST);
    awq_calibration c;
    awq_pool *pool = NULL;
    layers s = {0, 0, 0, 0};
    demo_text(&q.ctx, 8, &c);
    CHECK(awq_pool_create(&q.ctx, 0, &pool) == AWQ_OK);
    q.ctx.jobs = awq_pool_jobs(pool);
    q.d.calibration = &c;
    q.d.group_size = 0;
    q.d.on_layer = on_layer;
    q.d.user = &s;
    CHECK_MSG(awq_quantize_model(&q.ctx, &q.d, &q.r) == AWQ_OK, "%s", q.ctx.err.text);
    printf("    %d of %d layers better than RTN, perplexity %.3f to %.3f\n", s.better, s.n, q.r.ppl_source,
           q.r.ppl_result);
    CHECK(s.n == 8 && s.measured == 8 && s.better >= 6 && q.r.fell_back == s.fell_back);
    CHECK(q.r.group_size == 128);
    CHECK(q.r.ppl_result > 1 && q.r.ppl_result < 1.2 * q.r.ppl_source);
    awq_calibration_free(&q.ctx, &c);
    awq_pool_free(&q.ctx, pool);
    CHECK(q.ctx.memory_used == 0);
}

/* The held-out block speaks of other things than the text: its tokens use the odd channels, all others the even
   ones. What the search learns is wrong there, and plain rounding is what is written. */
static void test_best_falls_back(void)
{
    int32_t ids[BLOCKS * LENGTH];
    awq_calibration c = text;
    layers s = {0, 0, 0, 0};
    tiny t;
    tiny_tensor *e;
    run best, rtn;
    const char *source;
    int i;
    small(&t, 0);
    e = tiny_find(&t, "model.embed_tokens.weight");
    for (i = 0; i < 96 * 64; i++)
        if ((i & 1) != (i / 64 >= 48)) ((uint16_t *)e->data)[i] = awq__float_f16((float)(i % 7 - 3) * 1e-3f);
    source = save(&t, "two_kinds");
    for (i = 0; i < BLOCKS * LENGTH; i++) ids[i] = text_ids[i] % 45 + (i / LENGTH == 4 ? 48 : 3);
    c.ids = ids;
    best = prepare(source, fresh("fallen"), AWQ_METHOD_BEST);
    rtn = prepare(source, fresh("fallen_rtn"), AWQ_METHOD_RTN);
    best.d.calibration = &c;
    best.d.on_layer = on_layer;
    best.d.user = &s;
    GO(best);
    GO(rtn);
    CHECK_MSG(s.n == 2 && s.measured == 2 && s.fell_back == 2 && best.r.fell_back == 2, "%d", s.fell_back);
    CHECK(same(best.d.target, rtn.d.target));
    tiny_free(&t);
}

static void test_threads(void)
{
    static const awq_method methods[2] = {AWQ_METHOD_BEST, AWQ_METHOD_AWQ};
    const char *source = save_small(1);
    int k, threads;
    for (k = 0; k < 2; k++) {
        run one = prepare(source, fresh("one"), methods[k]);
        GO(one);
        for (threads = 1; threads <= 3; threads += 2) {
            run q = prepare(source, fresh("many"), methods[k]);
            awq_pool *pool = NULL;
            CHECK(awq_pool_create(&q.ctx, threads, &pool) == AWQ_OK);
            q.ctx.jobs = awq_pool_jobs(pool);
            CHECK_MSG(awq_quantize_model(&q.ctx, &q.d, NULL) == AWQ_OK, "%s", q.ctx.err.text);
            awq_pool_free(&q.ctx, pool);
            CHECK(same(one.d.target, q.d.target) && q.ctx.memory_used == 0);
        }
    }
}

/* --- bad numbers */
static void test_numbers(void)
{
    enum { NAN16 = 0x7e01, INF16 = 0x7c00, BIG = -1, GREAT = -2, SIX = -3 }; /* fp32: 1e38, 1e30, 1e6 */
    static const struct {
        const char *tensor;
        int value;
        awq_method method;
        const char *word;
    } cases[] = {
        {"model.layers.0.self_attn.q_proj.weight", NAN16, AWQ_METHOD_BEST, "NaN"},
        {"model.layers.0.mlp.up_proj.weight", INF16, AWQ_METHOD_AWQ, "infinite"},
        {"model.layers.1.mlp.down_proj.weight", NAN16, AWQ_METHOD_RTN, "NaN"},
        {"model.layers.1.self_attn.v_proj.weight", INF16, AWQ_METHOD_BEST, "infinite"},
        {"model.layers.0.self_attn.k_proj.bias", NAN16, AWQ_METHOD_BEST, "NaN"},
        {"model.layers.1.input_layernorm.weight", NAN16, AWQ_METHOD_AWQ, "NaN"},
        {"model.embed_tokens.weight", NAN16, AWQ_METHOD_BEST, "NaN"},
        {"model.norm.weight", INF16, AWQ_METHOD_RTN, "infinite"},
        {"lm_head.weight", NAN16, AWQ_METHOD_AWQ, "NaN"},
        {"model.layers.0.input_layernorm.weight", BIG, AWQ_METHOD_BEST, "layer 0"},
        {"model.layers.0.input_layernorm.weight", BIG, AWQ_METHOD_AWQ, "layer 0"},
        {"model.layers.1.post_attention_layernorm.weight", BIG, AWQ_METHOD_BEST, "layer 1"},
        {"model.layers.1.post_attention_layernorm.weight", BIG, AWQ_METHOD_AWQ, "layer 1"},
        {"model.layers.0.post_attention_layernorm.weight", GREAT, AWQ_METHOD_BEST, "layer 0"},
        {"model.layers.0.self_attn.v_proj.bias", BIG, AWQ_METHOD_BEST, "layer 0"},
        {"model.layers.0.input_layernorm.weight", SIX, AWQ_METHOD_RTN, "65504"}};
    tiny t;
    size_t i;
    small(&t, 1);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tiny_tensor *x = tiny_find(&t, cases[i].tensor), old = *x;
        size_t n = old.bytes / 2, k;
        run q;
        x->data = NULL;
        tiny_resize(x, cases[i].value < 0 ? AWQ_F32 : AWQ_F16, old.ndim, old.shape[0], old.shape[1]);
        if (cases[i].value < 0) {
            float big = cases[i].value == BIG ? 1e38f : cases[i].value == GREAT ? 1e30f : 1e6f;
            for (k = 0; k < n; k++) ((float *)x->data)[k] = big;
        } else {
            memcpy(x->data, old.data, old.bytes);
            ((uint16_t *)x->data)[old.ndim > 1 ? 64 * 40 + 3 : 3] = (uint16_t)cases[i].value; /* of token 40 */
        }
        q = prepare(save(&t, "bad"), fresh("from_bad"), cases[i].method);
        REFUSED(q, AWQ_E_NUMERIC, cases[i].word);
        if (cases[i].value >= 0 || cases[i].value == SIX) /* a weight, not what came of it */
            CHECK_MSG(strstr(q.ctx.err.text, cases[i].tensor), "%s: %s", cases[i].tensor, q.ctx.err.text);
        CHECK(!exists(q.d.target, ""));
        if (strstr(cases[i].tensor, "layers.0")) CHECK_MSG(!exists(q.d.target, ".partial"), "%d", (int)i);
        free(x->data);
        *x = old;
    }
    tiny_free(&t);
}

/* A row of zeros in up_proj has the smallest group scale there is. Its bias makes it the loudest channel of
   down_proj's input, with small weights there, so that its channel scale is large: the quotient leaves FP16.
   The channel must then go unscaled instead of stopping the run. */
static void test_tiny_scales(void)
{
    tiny t;
    run q;
    int i;
    small(&t, 1);
    for (i = 0; i < 64; i++) {
        uint16_t *down = (uint16_t *)tiny_find(&t, "model.layers.0.mlp.down_proj.weight")->data + 128 * i + 5;
        ((uint16_t *)tiny_find(&t, "model.layers.0.mlp.up_proj.weight")->data)[64 * 5 + i] = 0;
        *down = awq__float_f16(awq__f16_float(*down) * 4e-4f);
    }
    ((uint16_t *)tiny_find(&t, "model.layers.0.mlp.up_proj.bias")->data)[5] = awq__float_f16(400);
    q = prepare(save(&t, "zeros"), fresh("from_zeros"), AWQ_METHOD_BEST);
    GO(q);
    check_output(q.d.source, q.d.target, &q, AWQ_LAYOUT_GEMM, 4);
    tiny_free(&t);
}

/* --- what stops a run: a file system that runs full, fails or kills the process at the k-th operation */
typedef struct disk {
    int64_t room;                /* bytes that may still be written */
    long calls, fail_at, kill_at; /* operations so far; -1: never */
} disk;

static int step(void *u)
{
    disk *d = (disk *)u;
#ifndef _WIN32
    if (d->calls == d->kill_at) raise(SIGKILL);
#endif
    return d->calls++ == d->fail_at ? EIO : 0;
}

#define STEP(call) (step(u) ? EIO : (call))
static int dk_open(void *u, const char *p, int w, void **f) { return STEP(awq__os_open(NULL, p, w, f)); }
static int dk_size(void *u, void *f, uint64_t *n) { return STEP(awq__os_size(NULL, f, n)); }
static int dk_read(void *u, void *f, uint64_t o, void *d, size_t n)
{
    return STEP(awq__os_read(NULL, f, o, d, n));
}
static int dk_write(void *u, void *f, uint64_t o, const void *data, size_t n)
{
    disk *d = (disk *)u;
    size_t fits = (uint64_t)d->room < n ? (size_t)d->room : n;
    if (step(u)) return EIO;
    d->room -= (int64_t)fits;
    if (awq__os_write(NULL, f, o, data, fits)) return EIO;
    return fits < n ? ENOSPC : 0;
}
static int dk_truncate(void *u, void *f, uint64_t n) { return STEP(awq__os_truncate(NULL, f, n)); }
static int dk_sync(void *u, void *f) { return (void)f, step(u); } /* the real one is slow, and for power cuts */
static int dk_close(void *u, void *f)
{
    int e = awq__os_close(NULL, f);
    return STEP(e);
}
static int dk_rename(void *u, const char *a, const char *b) { return STEP(awq__os_rename(NULL, a, b)); }
static int dk_remove(void *u, const char *p) { return STEP(awq__os_remove(NULL, p)); }
static int dk_make_folder(void *u, const char *p) { return STEP(awq__os_make_folder(NULL, p)); }

static void on_disk(awq_ctx *ctx, disk *d, int64_t room, long fail_at, long kill_at)
{
    d->room = room;
    d->calls = 0;
    d->fail_at = fail_at;
    d->kill_at = kill_at;
    ctx->files.open = dk_open, ctx->files.size = dk_size, ctx->files.read = dk_read;
    ctx->files.write = dk_write, ctx->files.truncate = dk_truncate, ctx->files.sync = dk_sync;
    ctx->files.close = dk_close, ctx->files.rename = dk_rename, ctx->files.remove = dk_remove;
    ctx->files.make_folder = dk_make_folder, ctx->files.map = NULL, ctx->files.user = d;
}

#define ROOMY ((int64_t)1 << 40)

/* What is stopped and resumed below, of a model with biases: best in two files, awq, best with some linears
   kept, a conversion; best with experts; awq with linears that are rows of one matrix. */
enum { N_JOBS = 6, CONVERT = 3, EXPERTS = 4, FUSED = 5 };
static const char *const jobs_keep[] = {"k_proj", "0.mlp.gate_proj", "1.mlp.up_proj", "down_proj"};

typedef struct job {
    int k;
    const char *source, *target, *whole;
} job;

static awq_status job_run(awq_ctx *ctx, const job *j, int resume)
{
    run q = prepare(j->source, j->target, j->k == 1 || j->k == FUSED ? AWQ_METHOD_AWQ : AWQ_METHOD_BEST);
    if (j->k == CONVERT) {
        awq_convert_desc cv = {NULL, NULL, AWQ_LAYOUT_COMPRESSED_TENSORS, AWQ_DTYPE_NONE, 0, 0};
        cv.source = j->source;
        cv.target = j->target;
        return awq_convert(ctx, &cv);
    }
    q.d.resume = resume;
    q.d.keep = jobs_keep;
    q.d.n_keep = j->k == 2 ? 4 : 0;
    q.d.no_clip = j->k == 2;
    q.d.shard_bytes = j->k == 0 ? 60000 : 0;
    return awq_quantize_model(ctx, &q.d, NULL);
}

/* run it undisturbed, for comparison; returns the file operations and bytes that it takes */
static disk job_begin(job *j, int k)
{
    char name[32];
    awq_ctx ctx;
    disk d;
    memset(&ctx, 0, sizeof ctx);
    on_disk(&ctx, &d, ROOMY, -1, -1);
    j->k = k;
    if (k >= EXPERTS) {
        tiny t;
        j->source = save_own(k == FUSED, &t);
        tiny_free(&t);
    } else {
        j->source = save_small(1);
    }
    if (k == CONVERT) {
        run q = prepare(j->source, fresh("to_convert"), AWQ_METHOD_RTN);
        GO(q);
        j->source = q.d.target;
    }
    snprintf(name, sizeof name, "whole_%d", k);
    j->whole = j->target = fresh(name);
    CHECK_MSG(job_run(&ctx, j, 0) == AWQ_OK, "%s", ctx.err.text);
    snprintf(name, sizeof name, "stopped_%d", k);
    j->target = fresh(name);
    return d;
}

/* after a stop: the next run gives the same bytes, unless it was complete already */
static void job_resume(const job *j, long at)
{
    awq_ctx ctx;
    disk d;
    memset(&ctx, 0, sizeof ctx);
    on_disk(&ctx, &d, ROOMY, -1, -1);
    if (!exists(j->target, ""))
        CHECK_MSG(job_run(&ctx, j, 1) == AWQ_OK, "job %d stopped at %ld: %s", j->k, at, ctx.err.text);
    CHECK_MSG(same(j->target, j->whole), "job %d stopped at %ld", j->k, at);
    CHECK_MSG(!exists(j->target, ".partial"), "job %d stopped at %ld", j->k, at);
    CHECK(ctx.memory_used == 0);
}

static void test_full_disk(void)
{
    int k, i;
    for (k = 0; k < N_JOBS; k++) {
        job j;
        disk need = job_begin(&j, k);
        int64_t bytes = ROOMY - need.room, resumed = 0;
        for (i = 0; i <= 16; i += TEST_STRIDE) {
            int64_t room = i < 16 ? bytes * i / 16 : bytes - 64; /* times in a report are not always as long */
            awq_ctx ctx;
            disk d;
            fresh(j.target + sizeof DIR);
            memset(&ctx, 0, sizeof ctx);
            on_disk(&ctx, &d, room, -1, -1);
            CHECK_MSG(job_run(&ctx, &j, 0) == AWQ_E_IO && strstr(ctx.err.text, j.target)
                          && (strstr(ctx.err.text, "No space left") || strstr(ctx.err.text, "disk is full")),
                      "%d: %s", i, ctx.err.text);
            CHECK_MSG(!exists(j.target, "") && ctx.memory_used == 0, "job %d with room for %d", k, (int)room);
            resumed += exists(j.target, ".partial/progress.jsonl");
            job_resume(&j, i);
        }
        CHECK(k == CONVERT ? !resumed : resumed > 3 / TEST_STRIDE);
    }
}

static void test_kill(void) /* SIGKILL before every file operation */
{
#ifdef _WIN32
    TEST_SKIP("no fork");
#else
    int k;
    for (k = 0; k < N_JOBS; k++) {
        job j;
        long total = job_begin(&j, k).calls, at, every = 1 + total * TEST_STRIDE / 30, resumed = 0;
        for (at = 0; at < total && T.bad < 10; at += at < total - 20 / TEST_STRIDE ? every : 1) {
            int status = 0;
            pid_t child;
            fresh(j.target + sizeof DIR);
            fflush(stdout);
            child = fork();
            if (child == 0) {
                awq_ctx ctx;
                disk d;
                memset(&ctx, 0, sizeof ctx);
                on_disk(&ctx, &d, ROOMY, -1, at);
                _exit(job_run(&ctx, &j, 0) == AWQ_OK ? 0 : 1);
            }
            CHECK(child > 0 && waitpid(child, &status, 0) == child);
            CHECK_MSG(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "job %d at %ld", k, at);
            if (exists(j.target, "")) CHECK_MSG(same(j.target, j.whole), "job %d killed at %ld", k, at);
            resumed += exists(j.target, ".partial/progress.jsonl");
            job_resume(&j, at);
        }
        printf("    job %d: %ld file operations, %ld runs resumed\n", k, total, resumed);
        CHECK(k == CONVERT ? !resumed : resumed > 20 / TEST_STRIDE);
    }
#endif
}

/* the k-th allocation (files: file operation) fails */
static void fail_each(int files)
{
    int k;
    for (k = 0; k < N_JOBS; k++) {
        job j;
        disk need = job_begin(&j, k);
        long at, step_by = 1, failed = 0, total = need.calls;
        if (!files) {
            fail_alloc f = {-1, 0, 0};
            awq_ctx ctx;
            memset(&ctx, 0, sizeof ctx);
            ctx.allocator = fail_allocator(&f);
            CHECK(job_run(&ctx, &j, 0) == AWQ_OK);
            total = f.calls;
        }
        step_by = 1 + total * TEST_STRIDE / 40;
        for (at = 0; at < total && T.bad < 10; at += at > total - 15 / TEST_STRIDE ? 1 : step_by) {
            fail_alloc f = {-1, 0, 0};
            awq_ctx ctx;
            disk d;
            awq_status st;
            fresh(j.target + sizeof DIR);
            memset(&ctx, 0, sizeof ctx);
            on_disk(&ctx, &d, ROOMY, files ? at : -1, -1);
            if (!files) f.fail_at = at;
            ctx.allocator = fail_allocator(&f);
            st = job_run(&ctx, &j, 0);
            CHECK_MSG(ctx.memory_used == 0 && f.live == 0, "job %d at %ld", k, at);
            CHECK_MSG((st == AWQ_OK) == exists(j.target, ""), "job %d at %ld: %s", k, at, ctx.err.text);
            /* AWQ_E_ARG: an unreadable config.json or journal counts as one that is there */
            CHECK_MSG(!st || st == (files ? AWQ_E_IO : AWQ_E_MEMORY) || (files && st == AWQ_E_ARG),
                      "job %d at %ld: %s: %s", k, at, awq_status_name(st), ctx.err.text);
            failed += st != AWQ_OK;
            if (failed % 3 == 0) job_resume(&j, at);
        }
        printf("    job %d: %ld %s, %ld runs failed\n", k, total, files ? "file operations" : "allocations",
               failed);
        CHECK(failed >= 15 / TEST_STRIDE);
    }
}

static void test_fail_alloc(void) { fail_each(0); }
static void test_fail_files(void) { fail_each(1); }

/* --- memory */
static void test_memory(void) /* what is stated is enough, and not much more */
{
    static const awq_method methods[3] = {AWQ_METHOD_BEST, AWQ_METHOD_AWQ, AWQ_METHOD_RTN};
    static const struct {
        const char *name;
        int out, in;
    } wide[7] = {{"self_attn.q_proj", 256, 256}, {"self_attn.k_proj", 256, 256}, {"self_attn.v_proj", 256, 256},
                 {"self_attn.o_proj", 256, 256}, {"mlp.gate_proj", 768, 256}, {"mlp.up_proj", 768, 256},
                 {"mlp.down_proj", 256, 768}};
    const char *source;
    awq_pool *pool = NULL;
    tiny t;
    int i, k, l, n;
    tiny_llama(&t);
    tiny_set(&t, "hidden_size", "256");
    tiny_set(&t, "intermediate_size", "768");
    tiny_set(&t, "num_attention_heads", "8");
    tiny_set(&t, "num_key_value_heads", "8");
    tiny_set(&t, "num_hidden_layers", "3");
    for (i = 0, n = t.n; i < n; i++) {
        tiny_tensor *x = &t.t[i];
        int64_t out = x->ndim > 1 ? x->shape[0] : 256, in = 256;
        for (k = 0; k < 7; k++)
            if (strstr(x->name, wide[k].name)) out = wide[k].out, in = wide[k].in;
        tiny_resize(x, AWQ_F16, x->ndim, out, x->ndim > 1 ? in : 0);
        randomize(x, (uint64_t)i);
        for (l = 1; l < 3 && strstr(x->name, "layers.0"); l++) {
            char name[128];
            snprintf(name, sizeof name, "%s", x->name);
            strstr(name, "layers.0")[7] = (char)('0' + l);
            randomize(tiny_add(&t, name, AWQ_F16, x->ndim, out, x->ndim > 1 ? in : 0), (uint64_t)(i + 100 * l));
        }
    }
    source = save(&t, "wide");
    tiny_free(&t);
    for (i = 0; i < 3; i++) {
        run q = prepare(source, fresh("narrow"), methods[i]);
        size_t stated = 0;
        q.d.group_size = 0;
        q.d.max_layers = 2; /* the second while the first one's result is there */
        CHECK(awq_pool_create(&q.ctx, 0, &pool) == AWQ_OK);
        q.ctx.jobs = awq_pool_jobs(pool);
        CHECK_MSG(awq_quantize_memory(&q.ctx, &q.d, &stated) == AWQ_OK, "%s", q.ctx.err.text);
        CHECK_MSG(awq_quantize_model(&q.ctx, &q.d, &q.r) == AWQ_OK, "%s", q.ctx.err.text);
        printf("    method %d: %.1f MB stated, %.1f MB measured\n", i, (double)stated / 1e6,
               (double)q.r.peak_bytes / 1e6);
        CHECK(q.r.layers == 2 && stated == q.r.estimated_bytes && stated >= q.r.peak_bytes);
        CHECK((double)stated - (16 << 20) <= 1.25 * (double)q.r.peak_bytes); /* 16 MB: the small things */
        CHECK(!exists(q.d.target, "") && !exists(q.d.target, ".partial")); /* not kept */
        awq_pool_free(&q.ctx, pool);
        q.ctx.jobs.run = NULL;
        q.ctx.memory_limit = stated - 1;
        REFUSED(q, AWQ_E_MEMORY, "memory_limit leaves");
        CHECK(!exists(q.d.target, ".partial"));
    }
}

/* the perplexities need whole models in memory: under a limit that has no room for these they are left out */
static void test_memory_limit(void)
{
    tiny t;
    run q;
    const char *source;
    small(&t, 0);
    tiny_set(&t, "vocab_size", "400000");
    tiny_resize(tiny_find(&t, "model.embed_tokens.weight"), AWQ_F16, 2, 400000, 64);
    tiny_resize(tiny_find(&t, "lm_head.weight"), AWQ_F16, 2, 400000, 64);
    randomize(tiny_find(&t, "model.embed_tokens.weight"), 5);
    randomize(tiny_find(&t, "lm_head.weight"), 6);
    source = save(&t, "tall");
    tiny_free(&t);
    q = prepare(source, fresh("limited"), AWQ_METHOD_BEST);
    CHECK(awq_quantize_memory(&q.ctx, &q.d, &q.ctx.memory_limit) == AWQ_OK && q.ctx.memory_limit < 40000000);
    GO(q);
    CHECK(q.r.ppl_source == 0 && q.r.ppl_result == 0 && q.r.layers == 2);
    CHECK(exists(q.d.target, "/awq_report.json") && !exists(q.d.target, ".partial"));
}

/* --- requests that cannot be met */
static void test_refusals(void)
{
    static const char *const keep[] = {"q_proj"};
    const char *source = save_small(1), *whole = fresh("refused_whole"), *target = fresh("refused");
    uint8_t none[BLOCKS * LENGTH];
    int64_t long_start[2] = {0, BLOCKS * LENGTH};
    awq_calibration fewer = text, longer = text, masked = text;
    const struct {
        const char *source, *target, *word;
        awq_status status;
        awq_method method;
        const awq_calibration *c;
        int bits;
        int64_t group;
        awq_layout layout;
    } cases[] = {
        {source, NULL, "no target", AWQ_E_ARG, AWQ_METHOD_BEST, &text, 4, 32, AWQ_LAYOUT_GEMM},
        {source, "", "no target", AWQ_E_ARG, AWQ_METHOD_BEST, &text, 4, 32, AWQ_LAYOUT_GEMM},
        {DIR "/gone", target, "cannot open", AWQ_E_IO, AWQ_METHOD_BEST, &text, 4, 32, AWQ_LAYOUT_GEMM},
        {source, target, "bits is 1", AWQ_E_ARG, AWQ_METHOD_BEST, &text, 1, 32, AWQ_LAYOUT_GEMM},
        {source, target, "bits is 9", AWQ_E_ARG, AWQ_METHOD_BEST, &text, 9, 32, AWQ_LAYOUT_GEMM},
        {source, target, "gemm", AWQ_E_UNSUPPORTED, AWQ_METHOD_BEST, &text, 3, 32, AWQ_LAYOUT_GEMM},
        {source, target, "group_size is -2", AWQ_E_ARG, AWQ_METHOD_RTN, &text, 4, -2, AWQ_LAYOUT_GEMM},
        {source, target, "group size 24", AWQ_E_ARG, AWQ_METHOD_BEST, &text, 4, 24, AWQ_LAYOUT_GEMM},
        {source, target, "group size 8", AWQ_E_ARG, AWQ_METHOD_BEST, &text, 4, 8, AWQ_LAYOUT_GEMM},
        {source, target, "64 in_features", AWQ_E_ARG, AWQ_METHOD_BEST, &text, 4, 256, AWQ_LAYOUT_GEMM},
        {source, target, "symmetric", AWQ_E_ARG, AWQ_METHOD_BEST, &text, 4, 32, AWQ_LAYOUT_MARLIN},
        {source, target, "exllama", AWQ_E_UNSUPPORTED, AWQ_METHOD_BEST, &text, 4, 32, AWQ_LAYOUT_EXLLAMA},
        {source, target, "needs calibration", AWQ_E_ARG, AWQ_METHOD_AWQ, NULL, 4, 32, AWQ_LAYOUT_GEMM},
        {source, target, "72 tokens", AWQ_E_ARG, AWQ_METHOD_BEST, &longer, 4, 32, AWQ_LAYOUT_GEMM},
        {source, target, "no token of", AWQ_E_ARG, AWQ_METHOD_BEST, &masked, 4, 32, AWQ_LAYOUT_GEMM},
        {source, target, "no token of", AWQ_E_ARG, AWQ_METHOD_AWQ, &masked, 4, 32, AWQ_LAYOUT_GEMM}};
    awq_ctx ctx;
    job j;
    disk need, d;
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(none, 0, sizeof none);
    fewer.n_blocks--;
    longer.n_blocks = 1;
    longer.start = long_start;
    masked.counted = none;
    for (i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) {
        run q = prepare(cases[i].source, cases[i].target, cases[i].method);
        q.d.calibration = cases[i].c;
        q.d.bits = cases[i].bits;
        q.d.group_size = cases[i].group;
        q.d.layout = cases[i].layout;
        REFUSED(q, cases[i].status, cases[i].word);
        CHECK_MSG(!exists(target, "") && !exists(target, ".partial"), "%s", cases[i].word);
    }
    { /* nothing is called so */
        static const char *const wrong[] = {"down_proj", "down_prj"};
        run q = prepare(source, target, AWQ_METHOD_RTN);
        q.d.keep = wrong;
        q.d.n_keep = 2;
        REFUSED(q, AWQ_E_ARG, "keep \"down_prj\"");
    }
    { /* the target is there already: a checkpoint, a folder with something in it, a file */
        run q = prepare(source, whole, AWQ_METHOD_RTN);
        GO(q);
        REFUSED(q, AWQ_E_ARG, "exists already");
        q.d.resume = 1;
        REFUSED(q, AWQ_E_ARG, "exists already");
        { /* the journal that a kill behind the last rename leaves goes, another's file of that name stays */
            static const char mine[] = "{\"loss\": 2}\n", left[] = "{\"run\": \"" AWQ_VERSION "\"}\n";
            char path[300];
            awq_ctx os;
            memset(&os, 0, sizeof os);
            snprintf(path, sizeof path, "%s/progress.jsonl", whole);
            CHECK(awq__file_save(&os, path, mine, sizeof mine - 1) == AWQ_OK);
            REFUSED(q, AWQ_E_ARG, "exists already");
            CHECK(awq__file_exists(&os, path) && awq__file_save(&os, path, left, sizeof left - 1) == AWQ_OK);
            REFUSED(q, AWQ_E_ARG, "exists already");
            CHECK(!awq__file_exists(&os, path));
        }
        q.d.source = whole;
        q.d.target = target;
        REFUSED(q, AWQ_E_ARG, "quantized already");
        q.d.source = source;
        q.d.target = DIR;
        REFUSED(q, AWQ_E_ARG, "exists already");
        q.d.target = DIR "/rich/config.json";
        REFUSED(q, AWQ_E_ARG, "exists already");
        CHECK(!exists(DIR, ".partial") && !exists(q.d.target, ".partial") && exists(q.d.target, ""));
        CHECK(awq__os_make_folder(NULL, target) == 0); /* an empty folder is fine */
        q.d.target = target;
        GO(q);
        CHECK(same(target, whole));
    }
    /* an unfinished run takes nothing but its own settings, and outlives every other request */
    need = job_begin(&j, 0);
    on_disk(&ctx, &d, (ROOMY - need.room) * 3 / 4, -1, -1);
    CHECK(job_run(&ctx, &j, 0) == AWQ_E_IO && exists(j.target, ".partial/progress.jsonl"));
    for (i = 0; i < 9; i++) {
        static const char *const says[] = {
            "holds an unfinished run", "begun with method \"best\", not \"awq\"",
            "begun with shard_bytes 60000, not 0", "begun with another model, calibration text",
            "begun with another model, calibration text, list of modules to keep", "begun with no_clip 0, not 1",
            "begun with symmetric 0, not 1", "begun with group_size 32, not 64", "out of memory"};
        run q = prepare(source, j.target, i == 1 ? AWQ_METHOD_AWQ : AWQ_METHOD_BEST);
        fail_alloc f = {200, 0, 0};
        q.d.resume = i != 0;
        q.d.shard_bytes = i == 2 ? 0 : 60000;
        if (i == 3) q.d.calibration = &fewer;
        if (i == 4) q.d.keep = keep, q.d.n_keep = 1;
        if (i == 5) q.d.no_clip = 1;
        if (i == 6) q.d.symmetric = 1;
        if (i == 7) q.d.group_size = 64;
        if (i == 8) q.ctx.allocator = fail_allocator(&f);
        REFUSED(q, i == 8 ? AWQ_E_MEMORY : AWQ_E_ARG, says[i]);
        CHECK_MSG(exists(j.target, ".partial/progress.jsonl") && !exists(j.target, ""), "%d", i);
    }
    job_resume(&j, 0);
}

static void test_convert(void)
{
    static const struct {
        awq_layout layout;
        awq_dtype dense;
        double most; /* difference of a logit */
    } cases[] = {{AWQ_LAYOUT_GEMV, AWQ_DTYPE_NONE, 1e-4}, {AWQ_LAYOUT_GPTQ, AWQ_DTYPE_NONE, 1e-4},
                 {AWQ_LAYOUT_NONE, AWQ_F16, 0.03},        {AWQ_LAYOUT_NONE, AWQ_BF16, 0.3},
                 {AWQ_LAYOUT_NONE, AWQ_F32, 1e-4}};
    static const char *const keep[] = {"v_proj"};
    run q = prepare(save_small(1), fresh("packed"), AWQ_METHOD_RTN);
    awq_convert_desc cv;
    awq_ctx ctx;
    float want[96], got[96];
    size_t i;
    int k;
    q.d.keep = keep;
    q.d.n_keep = 1;
    GO(q);
    logits(q.d.target, want);
    memset(&ctx, 0, sizeof ctx);
    memset(&cv, 0, sizeof cv);
    cv.source = q.d.target;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double worst = 0;
        cv.target = fresh("converted");
        cv.layout = cases[i].layout;
        cv.dequantize = cases[i].dense;
        CHECK_MSG(awq_convert(&ctx, &cv) == AWQ_OK, "%s", ctx.err.text);
        logits(cv.target, got);
        for (k = 0; k < 96; k++) worst = AWQ__MAX(worst, fabs(got[k] - want[k]));
        CHECK_MSG(worst < cases[i].most, "%d: %g", (int)i, worst);
        CHECK(awq_convert(&ctx, &cv) == AWQ_E_ARG && strstr(ctx.err.text, "exists already"));
    }
    cv.target = fresh("converted");
    cv.layout = AWQ_LAYOUT_GEMM; /* and a type as well */
    CHECK(awq_convert(&ctx, &cv) == AWQ_E_ARG && strstr(ctx.err.text, "either"));
    cv.dequantize = AWQ_DTYPE_NONE;
    cv.source = q.d.source;
    CHECK(awq_convert(&ctx, &cv) == AWQ_E_ARG && strstr(ctx.err.text, "not quantized"));
    cv.source = q.d.target;
    cv.layout = AWQ_LAYOUT_MARLIN;
    CHECK(awq_convert(&ctx, &cv) == AWQ_E_UNSUPPORTED && strstr(ctx.err.text, "self_attn.q_proj"));
    CHECK(!exists(cv.target, "") && !exists(cv.target, ".partial") && ctx.memory_used == 0);
}

/* --- families */
enum { F_VOCAB = 320, F_BLOCKS = 9, F_LENGTH = 20, F_TOKENS = 40 };
static int32_t f_ids[F_BLOCKS * F_LENGTH];
static int64_t f_start[F_BLOCKS + 1];
static awq_calibration f_text; /* filled by main */

/* logits of every position of a text [n, vocab]; what a family's last token does is only one of them */
static void text_logits(const char *folder, const int32_t *ids, int n, int vocab, float *out)
{
    awq_ctx ctx;
    awq_model *m = NULL;
    awq__work w;
    awq__kv kv;
    int64_t i;
    memset(&ctx, 0, sizeof ctx);
    memset(&w, 0, sizeof w);
    memset(&kv, 0, sizeof kv);
    memset(out, 0, (size_t)(n * vocab) * sizeof *out);
    CHECK_MSG(load_exact(&ctx, folder, &m) == AWQ_OK, "%s", ctx.err.text);
    if (!m) return;
    CHECK(m->config.vocab_size == vocab);
    CHECK(!awq__work_alloc(&ctx, &m->config, n, &w)
          && !awq__kv_alloc(&ctx, &m->config, 32, m->config.num_hidden_layers, n, &kv));
    kv.length = awq__rope_length(&m->config, 0, n, 1);
    awq__rows_of(&m->config, &w, &kv, 0, n);
    CHECK_MSG(!awq__forward(&ctx, m, &w, ids, n, NULL, NULL), "%s", ctx.err.text);
    for (i = 0; i < n; i += AWQ__HEAD_ROWS)
        CHECK(!awq__head_rows(&ctx, m, &w, i, AWQ__MIN(n - i, (int64_t)AWQ__HEAD_ROWS), out + i * vocab));
    awq__work_free(&ctx, &w);
    awq__kv_free(&ctx, &kv);
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
}

static double worst(const float *a, const float *b, int n)
{
    double most = 0;
    int i;
    for (i = 0; i < n; i++) most = AWQ__MAX(most, fabs((double)a[i] - b[i]));
    return most;
}

/* root mean square of a - b by that of a */
static double distance(const float *a, const float *b, int n)
{
    double d = 0, size = 0;
    int i;
    for (i = 0; i < n; i++) d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), size += (double)a[i] * a[i];
    return sqrt(d / size);
}

/* a copy of a checkpoint with all weights in FP32 */
static const char *in_fp32(const char *source, const char *name)
{
    const char *to = fresh(name);
    awq_ctx ctx;
    awq_tensors *ts = NULL;
    awq_writer *w = NULL;
    static awq_tensor list[400];
    awq__json j;
    awq__text t = {NULL, 0, 0, 0};
    char path[300];
    uint32_t i;
    int64_t k, n;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq__os_make_folder(NULL, to) == 0);
    CHECK_MSG(awq_tensors_open(&ctx, source, &ts) == AWQ_OK, "%s", ctx.err.text);
    n = ts ? awq_tensors_count(ts) : 0;
    CHECK(n > 0 && n <= 400);
    for (k = 0; k < n; k++) list[k] = *awq_tensors_at(ts, k), list[k].dtype = AWQ_F32;
    CHECK_MSG(awq_writer_open(&ctx, to, list, n, 0, 0, &w) == AWQ_OK, "%s", ctx.err.text);
    for (k = 0; k < n && w; k++) {
        const awq_tensor *x = awq_tensors_at(ts, k);
        int64_t count = (int64_t)(x->bytes / awq_dtype_size(x->dtype));
        float *data = (float *)malloc((size_t)count * 4);
        CHECK(!awq_tensors_read_float(&ctx, ts, x, 0, count, data));
        CHECK(!awq_writer_write(&ctx, w, k, 0, data, (size_t)count * 4));
        free(data);
    }
    CHECK_MSG(w && awq_writer_finish(&ctx, w) == AWQ_OK, "%s", ctx.err.text);
    snprintf(path, sizeof path, "%s/config.json", source);
    CHECK_MSG(awq__json_load(&ctx, path, 1 << 20, &j) == AWQ_OK, "%s", ctx.err.text);
    awq__text_str(&ctx, &t, "{");
    for (i = awq__json_first(&j, 1); i; i = awq__json_next(&j, i)) {
        if (strstr(awq__json_key(&j, i), "dtype")) continue;
        awq__json_quote(&ctx, &t, awq__json_key(&j, i), strlen(awq__json_key(&j, i)));
        awq__text_str(&ctx, &t, ": ");
        awq__json_write(&ctx, &t, &j, i);
        awq__text_str(&ctx, &t, ", ");
    }
    awq__text_str(&ctx, &t, "\"dtype\": \"float32\"}");
    snprintf(path, sizeof path, "%s/config.json", to);
    CHECK(awq__file_save(&ctx, path, t.data, t.len) == AWQ_OK);
    awq__json_free(&ctx, &j);
    awq__text_free(&ctx, &t);
    awq_tensors_close(&ctx, ts);
    CHECK(ctx.memory_used == 0);
    return to;
}

/* each token's distance, the one that a quarter of them are below: when a router's best experts are nearly
   even, rounding turns the choice of some tokens, and what these say and others hear is another matter */
static double quarter_distance(const float *a, const float *b, int tokens, int vocab)
{
    double d[F_TOKENS];
    int i, k, below;
    for (i = 0; i < tokens; i++) d[i] = distance(a + i * vocab, b + i * vocab, vocab);
    for (i = 0; i < tokens; i++) {
        for (k = below = 0; k < tokens; k++) below += d[k] < d[i];
        if (below == tokens / 4) return d[i];
    }
    return d[0];
}

/* the system's files without their sync, which takes most of the time of a small run */
static int no_sync(void *user, void *file) { return (void)user, (void)file, 0; }

static void quick_files(awq_ctx *ctx)
{
    ctx->files = *awq__fs(ctx);
    ctx->files.sync = no_sync;
}

static int stop_at_second(void *user, const awq_progress *p)
{
    (void)user;
    return !strcmp(p->stage, "quantize") && p->done == 2;
}

typedef struct deepest {
    double folded, unpacked, eight; /* the worst of all checkpoints; eight: by what is expected */
} deepest;

/* Everything that must hold of a checkpoint of any family. vocab tokens of `c` are its calibration. */
static void check_family(const char *source, const char *name, const awq_calibration *c, int vocab, deepest *d)
{
    static float want[F_TOKENS * F_VOCAB], got[F_TOKENS * F_VOCAB], rtn[F_TOKENS * F_VOCAB];
    static const awq_method methods[3] = {AWQ_METHOD_RTN, AWQ_METHOD_AWQ, AWQ_METHOD_BEST};
    const char *fp32 = in_fp32(source, "fp32"), *whole = NULL;
    int n = F_TOKENS * vocab, k, before = T.bad;
    double error[3], quarter = 0, x;
    awq_calibration all_in = *c; /* none is held out: nothing falls back to plain rounding */
    run q;
    all_in.n_blocks = 7;
    text_logits(fp32, c->ids, F_TOKENS, vocab, want);
    for (k = 0; k < 2; k++) { /* scales alone: nothing is rounded, so that a wrong fold shows */
        q = prepare(fp32, fresh("folded"), k ? AWQ_METHOD_AWQ : AWQ_METHOD_BEST);
        q.d.calibration = c;
        q.d.group_size = 0;
        q.d.scaled = 1;
        q.d.no_clip = 1;
        quick_files(&q.ctx);
        GO(q);
        text_logits(q.d.target, c->ids, F_TOKENS, vocab, got);
        x = worst(want, got, n);
        d->folded = AWQ__MAX(d->folded, x);
        CHECK_MSG(x <= 1e-4, "%s: method %d moves a logit by %g", name, q.d.method, x);
        x = 0;
        {
            awq_ctx ctx;
            char path[200], *a = NULL, *b = NULL;
            size_t na = 0, nb = 0;
            memset(&ctx, 0, sizeof ctx);
            snprintf(path, sizeof path, "%s/model.safetensors", fp32);
            CHECK(!awq__file_load(&ctx, path, (size_t)1 << 28, &a, &na));
            snprintf(path, sizeof path, "%s/model.safetensors", q.d.target);
            CHECK(!awq__file_load(&ctx, path, (size_t)1 << 28, &b, &nb));
            CHECK_MSG(na != nb || memcmp(a, b, na), "%s: method %d scaled nothing", name, q.d.method);
            awq__free(&ctx, a);
            awq__free(&ctx, b);
        }
    }
    for (k = 0; k < 3; k++) { /* packed and unpacked again they are one model */
        awq_convert_desc cv;
        awq_ctx ctx;
        q = prepare(source, fresh("family"), methods[k]);
        q.d.calibration = c;
        q.d.group_size = 0;
        quick_files(&q.ctx);
        GO(q);
        text_logits(q.d.target, c->ids, F_TOKENS, vocab, rtn);
        error[k] = distance(want, rtn, n);
        if (k == 0) quarter = quarter_distance(want, rtn, F_TOKENS, vocab);
        memset(&cv, 0, sizeof cv);
        memset(&ctx, 0, sizeof ctx);
        cv.source = q.d.target;
        cv.target = fresh("unpacked");
        cv.dequantize = AWQ_F32;
        CHECK_MSG(awq_convert(&ctx, &cv) == AWQ_OK, "%s: %s", name, ctx.err.text);
        text_logits(cv.target, c->ids, F_TOKENS, vocab, got);
        x = worst(rtn, got, n);
        d->unpacked = AWQ__MAX(d->unpacked, x);
        CHECK_MSG(x <= 1e-4, "%s: method %d: unpacked, a logit differs by %g", name, methods[k], x);
    }
    CHECK_MSG(error[2] <= error[0] * 1.001, "%s: best is off by %g, RTN by %g", name, error[2], error[0]);
    /* 8 bits have 255 / 15 steps for one of 4 bits, so that errors are 17 times smaller than those of 4 bits
       rounded to nearest; measured are 0.4 to 0.7 of that, and 1.5 where choices have turned. A scale
       that is folded wrongly is off by more than what 4 bits cost. */
    q = prepare(source, fresh("eight"), AWQ_METHOD_BEST);
    q.d.calibration = &all_in;
    q.d.group_size = 0;
    q.d.bits = 8;
    q.d.layout = AWQ_LAYOUT_COMPRESSED_TENSORS;
    quick_files(&q.ctx);
    GO(q);
    text_logits(q.d.target, c->ids, F_TOKENS, vocab, got);
    x = quarter_distance(want, got, F_TOKENS, vocab) / (quarter / 17);
    d->eight = AWQ__MAX(d->eight, x);
    CHECK_MSG(x <= 2, "%s: 8 bits are off by %g of what is expected", name, x);
    /* stopped and resumed: the same bytes */
    q = prepare(source, whole = fresh("family"), AWQ_METHOD_BEST);
    q.d.calibration = &all_in;
    q.d.group_size = 0;
    quick_files(&q.ctx);
    GO(q);
    q.d.target = fresh("family_resumed");
    q.ctx.progress = stop_at_second;
    CHECK_MSG(go(&q) == AWQ_E_CANCELLED, "%s: %s", name, q.ctx.err.text);
    q.ctx.progress = NULL;
    q.d.resume = 1;
    GO(q);
    CHECK_MSG(same(q.d.target, whole), "%s: resumed", name);
    printf("    %-18s off by %.4f (RTN), %.4f (awq), %.4f (best); 8 bits by %.2f of a 17th%s\n", name,
           error[0], error[1], error[2], x, T.bad > before ? "  FAILED" : "");
    if (T.bad == before) printf("family %s quantizes\n", name); /* tests/peers/table.py reads these */
}

static void test_families(void)
{
    static const char *const names[] = {
        "cohere", "deepseek_v2", "deepseek_v3", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3", "glm4",
        "glm4_moe", "gpt_oss", "granite", "granitemoe", "hunyuan_dense", "llama_gqa",
        "llama_headdim", "llama_rope_dynamic", "llama_rope_linear", "llama_rope_llama3", "llama_rope_yarn",
        "llama_tied", "mistral", "mixtral", "olmo2", "olmo3", "olmoe", "phi3", "phi3_longrope", "qwen2",
        "qwen2_moe", "qwen2_swa", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2"};
    const char *root = TEST_DATA();
    deepest d = {0, 0, 0};
    size_t i;
    if (!root) TEST_SKIP("AWQ_TEST_DATA is not set");
    for (i = 0; i < sizeof names / sizeof names[0]; i += TEST_STRIDE) {
        char path[500];
        snprintf(path, sizeof path, "%s/fixtures/models/%s", root, names[i]);
        check_family(path, names[i], &f_text, F_VOCAB, &d);
    }
    printf("    at most: %.2g by scales alone, %.2g unpacked, %.2f of a 17th by 8 bits\n", d.folded,
           d.unpacked, d.eight);
}

static void test_own_families(void)
{
    deepest d = {0, 0, 0};
    int k;
    for (k = 0; k < OWN_FAMILIES; k++) {
        tiny t;
        const char *source = save_own(k, &t);
        check_family(source, source + sizeof DIR, &text, 96, &d);
        tiny_free(&t);
    }
}

/* the value of quantization_config.<key> in a checkpoint's config.json, as JSON */
static const char *quant_setting(const char *folder, const char *key)
{
    static char out[1000];
    awq_ctx ctx;
    awq__json j;
    awq__text t = {NULL, 0, 0, 0};
    char path[300];
    memset(&ctx, 0, sizeof ctx);
    snprintf(path, sizeof path, "%s/config.json", folder);
    CHECK_MSG(awq__json_load(&ctx, path, 1 << 20, &j) == AWQ_OK, "%s", ctx.err.text);
    awq__json_write(&ctx, &t, &j, awq__json_get(&j, awq__json_get(&j, 1, "quantization_config"), key));
    snprintf(out, sizeof out, "%s", t.data ? t.data : "");
    awq__json_free(&ctx, &j);
    awq__text_free(&ctx, &t);
    CHECK(ctx.memory_used == 0);
    return out;
}

static const awq_tensor *tensor_of(awq_ctx *ctx, const char *folder, const char *name, awq_tensors **ts)
{
    CHECK_MSG(awq_tensors_open(ctx, folder, ts) == AWQ_OK, "%s", ctx->err.text);
    return *ts ? awq_tensors_find(*ts, name) : NULL;
}

/* tensor `name` is there (or, wanted 0, is not) */
static void check_tensor(const char *folder, const char *name, int wanted)
{
    awq_ctx ctx;
    awq_tensors *ts = NULL;
    memset(&ctx, 0, sizeof ctx);
    CHECK_MSG((tensor_of(&ctx, folder, name, &ts) != NULL) == wanted, "%s: %s", folder, name);
    awq_tensors_close(&ctx, ts);
}

/* names in the file and in the config, as engines expect them */
static void test_names(void)
{
    tiny t;
    run q = prepare(save_own(0, &t), fresh("names"), AWQ_METHOD_RTN);
    tiny_free(&t);
    GO(q);
    CHECK(!strcmp(quant_setting(q.d.target, "modules_to_not_convert"), "[\"gate\"]"));
    check_tensor(q.d.target, "model.layers.1.block_sparse_moe.experts.3.w2.qweight", 1);
    check_tensor(q.d.target, "model.layers.1.block_sparse_moe.gate.weight", 1);
    q.d.target = fresh("names");
    q.d.layout = AWQ_LAYOUT_COMPRESSED_TENSORS;
    GO(q);
    CHECK(!strcmp(quant_setting(q.d.target, "ignore"),
                  "[\"lm_head\", \"model.layers.0.block_sparse_moe.gate\", "
                  "\"model.layers.1.block_sparse_moe.gate\"]"));
    q.d.target = fresh("names");
    q.d.layout = AWQ_LAYOUT_GPTQ;
    GO(q);
    CHECK_MSG(!strcmp(quant_setting(q.d.target, "dynamic"), "{\"-:.*gate$\": {}}"), "%s",
              quant_setting(q.d.target, "dynamic"));
    check_tensor(q.d.target, "model.layers.0.block_sparse_moe.experts.0.w1.g_idx", 1);
    { /* keeping by name */
        static const char *const keep[] = {"experts.2.w1", "layers.0.block_sparse_moe.experts.1."};
        static const char *const wrong[] = {"experts.4.w1"};
        q.d.target = fresh("names");
        q.d.layout = AWQ_LAYOUT_GEMM;
        q.d.method = AWQ_METHOD_BEST;
        q.d.keep = keep;
        q.d.n_keep = 2;
        GO(q);
        CHECK_MSG(strstr(quant_setting(q.d.target, "modules_to_not_convert"), "experts.2.w1"), "%s",
                  quant_setting(q.d.target, "modules_to_not_convert"));
        check_tensor(q.d.target, "model.layers.1.block_sparse_moe.experts.2.w1.weight", 1);
        check_tensor(q.d.target, "model.layers.1.block_sparse_moe.experts.2.w3.qweight", 1);
        check_tensor(q.d.target, "model.layers.0.block_sparse_moe.experts.1.w2.weight", 1);
        q.d.keep = wrong;
        q.d.n_keep = 1;
        q.d.target = fresh("names");
        REFUSED(q, AWQ_E_ARG, "experts.4.w1");
    }
    q = prepare(save_own(1, &t), fresh("names"), AWQ_METHOD_BEST);
    tiny_free(&t);
    GO(q);
    check_tensor(q.d.target, "model.layers.1.self_attn.qkv_proj.qweight", 1);
    check_tensor(q.d.target, "model.layers.1.mlp.gate_up_proj.qweight", 1);
    CHECK(!strcmp(quant_setting(q.d.target, "modules_to_not_convert"), "null"));
}

/* groups that do not divide everything: those linears stay FP16, with what engines fuse them with, and it is
   said */
static void on_log(void *user, awq_log_level level, const char *line)
{
    if (level == AWQ_LOG_WARN) snprintf((char *)user, 300, "%s", line);
}

static void test_odd_shapes(void)
{
    static const awq_method methods[3] = {AWQ_METHOD_BEST, AWQ_METHOD_AWQ, AWQ_METHOD_RTN};
    const char *source = save_small(1);
    char said[300];
    float want[96], got[96];
    int k;
    logits(source, want);
    for (k = 0; k < 3; k++) {
        run q = prepare(source, fresh("odd"), methods[k]);
        q.ctx.log = on_log;
        q.ctx.user = said;
        said[0] = 0;
        q.d.group_size = 128; /* of the seven, down has 128 inputs */
        GO(q);
        CHECK_MSG(strstr(said, "q_proj") && strstr(said, "up_proj") && strstr(said, "FP16")
                      && !strstr(said, "down_proj"), "%s", said);
        check_tensor(q.d.target, "model.layers.1.mlp.down_proj.qweight", 1);
        check_tensor(q.d.target, "model.layers.1.mlp.up_proj.weight", 1);
        CHECK_MSG(strstr(quant_setting(q.d.target, "modules_to_not_convert"), "\"up_proj\""), "%s",
                  quant_setting(q.d.target, "modules_to_not_convert"));
        logits(q.d.target, got);
        CHECK_MSG(distance(want, got, 96) < 0.1, "%g", distance(want, got, 96));
    }
}

/* a text model inside one that also sees: its linears are quantized, the rest is copied as it is */
static void test_wrapped(void)
{
    static const char *const inner[] = {"hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers",
                                        "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
                                        "rms_norm_eps", "rope_theta", "hidden_act"};
    static const awq_layout layouts[2] = {AWQ_LAYOUT_GEMM, AWQ_LAYOUT_COMPRESSED_TENSORS};
    char nested[512];
    size_t n = 0, i;
    tiny t;
    run q;
    awq_ctx ctx;
    awq_tensors *ts = NULL;
    const awq_tensor *x;
    int k;
    small(&t, 0);
    n = (size_t)snprintf(nested, sizeof nested, "{\"model_type\": \"qwen3_vl_text\", \"head_dim\": 32, "
                                                "\"dtype\": \"bfloat16\"");
    for (i = 0; i < sizeof inner / sizeof inner[0]; i++)
        for (k = 0; k < t.n_keys; k++)
            if (!strcmp(t.keys[k], inner[i]))
                n += (size_t)snprintf(nested + n, sizeof nested - n, ", \"%s\": %s", inner[i], t.values[k]);
    snprintf(nested + n, sizeof nested - n, "}");
    for (i = 0; i < sizeof inner / sizeof inner[0]; i++) tiny_set(&t, inner[i], NULL);
    tiny_set(&t, "text_config", nested);
    tiny_set(&t, "model_type", "\"qwen3_vl\"");
    for (k = 0; k < t.n; k++) {
        char old[128];
        snprintf(old, sizeof old, "%s", t.t[k].name);
        if (!strncmp(old, "model.", 6))
            snprintf(t.t[k].name, sizeof t.t[k].name, "model.language_model.%.100s", old + 6);
    }
    for (k = 0; k < 2; k++) {
        char name[128];
        snprintf(name, sizeof name, "model.language_model.layers.%d.self_attn.q_norm.weight", k);
        randomize(tiny_add(&t, name, AWQ_F16, 1, 32, 0), 5);
        snprintf(name, sizeof name, "model.language_model.layers.%d.self_attn.k_norm.weight", k);
        randomize(tiny_add(&t, name, AWQ_F16, 1, 32, 0), 6);
    }
    tiny_add(&t, "model.visual.blocks.0.mlp.weight", AWQ_BF16, 2, 8, 24);
    q = prepare(save(&t, "wrapped"), NULL, AWQ_METHOD_BEST);
    tiny_free(&t);
    for (k = 0; k < 2; k++) {
        q.d.target = fresh("unwrapped");
        q.d.layout = layouts[k];
        GO(q);
        check_tensor(q.d.target, "model.language_model.layers.1.mlp.down_proj.weight", 0);
        memset(&ctx, 0, sizeof ctx);
        x = tensor_of(&ctx, q.d.target, "model.visual.blocks.0.mlp.weight", &ts);
        CHECK(x && x->dtype == AWQ_BF16);
        awq_tensors_close(&ctx, ts);
        CHECK_MSG(strstr(quant_setting(q.d.target, k ? "ignore" : "modules_to_not_convert"),
                         k ? "\"re:.*visual.*\"" : "[\"visual\"]"), "%s",
                  quant_setting(q.d.target, k ? "ignore" : "modules_to_not_convert"));
        {
            float a[96], b[96];
            logits(q.d.source, a);
            logits(q.d.target, b);
            CHECK_MSG(distance(a, b, 96) < 0.35, "%g", distance(a, b, 96));
        }
    }
}

/* experts that few tokens choose, or none */
typedef struct seen_experts {
    int few, unused;
} seen_experts;

static void on_experts(void *user, const awq_layer_report *r)
{
    ((seen_experts *)user)->few += r->experts_few;
    ((seen_experts *)user)->unused += r->experts_unused;
}

static void test_experts(void)
{
    static const awq_method methods[2] = {AWQ_METHOD_BEST, AWQ_METHOD_AWQ};
    tiny t;
    awq_calibration few = text;
    seen_experts seen;
    const char *source;
    awq_ctx ctx;
    int k;
    source = save_own(0, &t);
    tiny_free(&t);
    few.n_blocks = 8;
    for (k = 0; k < 2; k++) {
        run q = prepare(source, fresh("from_few"), methods[k]);
        awq__json j;
        int64_t n = 0;
        memset(&seen, 0, sizeof seen);
        q.d.on_layer = on_experts;
        q.d.user = &seen;
        q.d.calibration = &few;
        GO(q);
        /* 64 tokens, two experts each, for four experts with 128 inputs in each of two layers */
        CHECK_MSG(seen.few == 8 && q.r.experts_few == 8 && q.r.experts_unused == seen.unused, "%d %d", seen.few,
                  q.r.experts_few);
        memset(&ctx, 0, sizeof ctx);
        {
            char path[200];
            snprintf(path, sizeof path, "%s/awq_report.json", q.d.target);
            CHECK(awq__json_load(&ctx, path, 1 << 20, &j) == AWQ_OK);
            CHECK(awq__json_int_of(&j, awq__json_get(&j, 1, "experts_few"), &n) && n == 8);
            awq__json_free(&ctx, &j);
        }
    }
    for (k = 0; k < 2; k++) { /* one token: two of the four experts are chosen at most */
        int64_t start[2] = {0, 1};
        run q = prepare(source, fresh("from_one"), methods[k]);
        float got[96];
        few.n_blocks = 1;
        few.start = start;
        q.d.calibration = &few;
        GO(q);
        CHECK_MSG(q.r.experts_few == 8 && q.r.experts_unused == 4, "%d %d", q.r.experts_few,
                  q.r.experts_unused);
        logits(q.d.target, got);
        CHECK(awq__all_finite(got, 96));
    }
}

/* memory for experts is stated too */
static void test_memory_experts(void)
{
    static const awq_method methods[3] = {AWQ_METHOD_BEST, AWQ_METHOD_AWQ, AWQ_METHOD_RTN};
    awq_calibration few = text;
    const char *source;
    tiny t;
    int i;
    make_own(&t, OWN_MIXTRAL, 4);
    source = save(&t, "wide_experts");
    tiny_free(&t);
    few.n_blocks = 3;
    for (i = 0; i < 5; i += TEST_STRIDE) {
        run q = prepare(source, fresh("from_experts"), methods[i % 3]);
        size_t stated = 0;
        q.d.calibration = &few;
        q.d.group_size = 0;
        q.d.max_layers = 1;
        quick_files(&q.ctx);
        q.d.scaled = i >= 3;
        CHECK(awq_quantize_memory(&q.ctx, &q.d, &stated) == AWQ_OK);
        GO(q);
        printf("    method %d%s: %.1f MB stated, %.1f MB measured\n", i % 3, q.d.scaled ? ", scaled" : "",
               (double)stated / 1e6, (double)q.r.peak_bytes / 1e6);
        CHECK(stated == q.r.estimated_bytes && stated - (16 << 20) >= q.r.peak_bytes - (4 << 20));
        CHECK((double)stated - (16 << 20) <= 1.6 * (double)q.r.peak_bytes);
    }
}

/* scaled weights for another quantizer: the source's names, FP16, no quantization_config; clips make awq's
   differ */
static void test_scaled(void)
{
    const char *source = save_small(1);
    run q = prepare(source, fresh("scaled"), AWQ_METHOD_AWQ);
    awq_ctx ctx;
    awq_checkpoint *ck = NULL;
    float want[96], got[96];
    double clipped;
    logits(source, want);
    q.d.scaled = 1;
    GO(q);
    logits(q.d.target, got);
    clipped = distance(want, got, 96);
    memset(&ctx, 0, sizeof ctx);
    CHECK_MSG(awq_checkpoint_open(&ctx, q.d.target, &ck) == AWQ_OK, "%s", ctx.err.text);
    if (ck) CHECK(!awq_checkpoint_quant(ck)->present && awq_checkpoint_config(ck)->dtype == AWQ_F16);
    awq_checkpoint_close(&ctx, ck);
    q.d.target = fresh("scaled_no_clip");
    q.d.no_clip = 1;
    GO(q);
    logits(q.d.target, got);
    CHECK_MSG(distance(want, got, 96) < 2e-3 && clipped > 2 * distance(want, got, 96), "%g, clipped %g",
              distance(want, got, 96), clipped);
    q.d.target = fresh("scaled_best");
    q.d.method = AWQ_METHOD_BEST;
    GO(q);
    logits(q.d.target, got);
    CHECK_MSG(distance(want, got, 96) < 2e-3, "%g", distance(want, got, 96));
    q.d.target = fresh("scaled_rtn");
    q.d.method = AWQ_METHOD_RTN;
    REFUSED(q, AWQ_E_ARG, "scaled");
}

/* the texts */
static void make_texts(void)
{
    uint64_t seed = 3;
    int i;
    make_text(&seed);
    for (i = 0; i < F_BLOCKS * F_LENGTH; i++) f_ids[i] = 3 + (int32_t)(awq__random_unit(&seed) * (F_VOCAB - 3));
    for (i = 0; i <= F_BLOCKS; i++) f_start[i] = i * F_LENGTH;
    f_text.n_blocks = F_BLOCKS;
    f_text.start = f_start;
    f_text.ids = f_ids;
}

int main(int argc, char **argv)
{
    make_texts();
    TEST_BEGIN(argc, argv);
    RUN(test_outputs);
    RUN(test_best_on_text);
    RUN(test_best_falls_back);
    RUN(test_threads);
    RUN(test_numbers);
    RUN(test_tiny_scales);
    RUN(test_full_disk);
    RUN(test_kill);
    RUN(test_fail_alloc);
    RUN(test_fail_files);
    RUN(test_memory);
    RUN(test_memory_limit);
    RUN(test_refusals);
    RUN(test_convert);
    RUN(test_families);
    RUN(test_own_families);
    RUN(test_names);
    RUN(test_odd_shapes);
    RUN(test_wrapped);
    RUN(test_experts);
    RUN(test_memory_experts);
    RUN(test_scaled);
    return TEST_END();
}
