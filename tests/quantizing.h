/* quantizing.h - awq_quantize_model in tests: folders, small checkpoints in them, runs, and what a device makes
   of a run against the CPU. Include after awq.h with its implementation and test.h, with DIR defined: the folder
   of all that is written. */
#ifndef QUANTIZING_H
#define QUANTIZING_H
#include "kinds.h"
#include <sys/stat.h>

#define DEMO "tools/demo/model"

/* --- folders */
static const char *fresh(const char *name) /* the path of a folder that is not there, nor its .partial */
{
    static char path[80][64]; /* one for each name, for good */
    char cmd[2 * sizeof path[0] + 24];
    int i;
    for (i = 0; path[i][0] && strcmp(path[i] + sizeof DIR, name); i++) {}
    snprintf(path[i], sizeof path[i], DIR "/%s", name);
    snprintf(cmd, sizeof cmd, "rm -rf %.63s %.63s.partial", path[i], path[i]);
    CHECK(system(cmd) == 0);
    return path[i];
}

static int exists(const char *folder, const char *name)
{
    char path[300];
    struct stat st;
    snprintf(path, sizeof path, "%s%s", folder, name);
    return stat(path, &st) == 0;
}

static const char *const written[] = {"/config.json", "/generation_config.json", "/model.safetensors",
                                      "/model.safetensors.index.json", "/model-00001-of-00002.safetensors",
                                      "/model-00002-of-00002.safetensors"};

static int same(const char *a, const char *b) /* all files but the report, which has times */
{
    awq_ctx ctx;
    int equal = 1, files = 0;
    size_t i;
    memset(&ctx, 0, sizeof ctx);
    for (i = 0; equal && i < sizeof written / sizeof written[0]; i++) {
        char path[300], *x = NULL, *y = NULL;
        size_t n = 0, m = 0;
        equal = exists(a, written[i]) == exists(b, written[i]);
        if (!equal || !exists(a, written[i])) continue;
        snprintf(path, sizeof path, "%s%s", a, written[i]);
        equal = awq__file_load(&ctx, path, (size_t)1 << 28, &x, &n) == AWQ_OK;
        snprintf(path, sizeof path, "%s%s", b, written[i]);
        equal = equal && awq__file_load(&ctx, path, (size_t)1 << 28, &y, &m) == AWQ_OK;
        equal = equal && n == m && !memcmp(x, y, n);
        awq__free(&ctx, x);
        awq__free(&ctx, y);
        files++;
    }
    return equal && files >= 3;
}

/* --- checkpoints and calibration */
/* two layers of tiny_llama; rich: biases, and as many kv heads as heads, so that v -> o is scaled too */
static void small(tiny *t, int rich)
{
    int i, k, n;
    tiny_llama(t);
    tiny_set(t, "num_hidden_layers", "2");
    tiny_set(t, "max_position_embeddings", "64");
    tiny_file(t, "m/generation_config.json", "{\"eos_token_id\": 2}");
    if (rich) {
        tiny_set(t, "num_key_value_heads", "2");
        tiny_set(t, "attention_bias", "true");
        tiny_set(t, "mlp_bias", "true");
        for (k = 1; k < 3; k++) {
            char name[128];
            snprintf(name, sizeof name, "model.layers.0.%s.weight", tiny_linears[k].name);
            tiny_resize(tiny_find(t, name), AWQ_F16, 2, 64, 64);
            randomize(tiny_find(t, name), (uint64_t)k);
        }
        for (k = 0; k < 7; k++) {
            int n_out = k == 1 || k == 2 ? 64 : tiny_linears[k].out;
            char name[128];
            snprintf(name, sizeof name, "model.layers.0.%s.bias", tiny_linears[k].name);
            randomize(tiny_add(t, name, AWQ_F16, 1, n_out, 0), (uint64_t)k + 9);
        }
    }
    for (i = 0, n = t->n; i < n; i++) {
        tiny_tensor *x = &t->t[i];
        char name[128];
        if (strncmp(x->name, "model.layers.0", 14)) continue;
        snprintf(name, sizeof name, "model.layers.1%s", x->name + 14);
        randomize(tiny_add(t, name, x->dtype, x->ndim, x->shape[0], x->shape[1]), (uint64_t)i + 100);
    }
}

static const char *save(tiny *t, const char *name)
{
    const char *folder = fresh(name);
    awq_ctx os;
    size_t i;
    tiny_ctx(t);
    memset(&os, 0, sizeof os);
    CHECK(awq__os_make_folder(NULL, folder) == 0);
    for (i = 0; i < t->list.count; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s%s", folder, t->files[i].path + 1);
        CHECK_MSG(awq__file_save(&os, path, t->files[i].data, t->files[i].bytes) == AWQ_OK, "%s", os.err.text);
    }
    return folder;
}

static const char *save_small(int rich)
{
    const char *folder;
    tiny t;
    small(&t, rich);
    folder = save(&t, rich ? "rich" : "plain");
    tiny_free(&t);
    return folder;
}

static const char *save_own(int k, tiny *t)
{
    char name[32];
    make_own(t, k, 1);
    snprintf(name, sizeof name, "own_%s", own_names[k]);
    return save(t, name);
}

enum { BLOCKS = 9, LENGTH = 8 }; /* enough blocks for one to be held out */
static int32_t text_ids[BLOCKS * LENGTH];
static int64_t text_start[BLOCKS + 1];
static awq_calibration text; /* filled by make_text */

/* the text, and a folder for what is written */
static void make_text(uint64_t *seed)
{
    int i;
    for (i = 0; i < BLOCKS * LENGTH; i++) text_ids[i] = 3 + (int32_t)(awq__random_unit(seed) * 93);
    for (i = 0; i <= BLOCKS; i++) text_start[i] = i * LENGTH;
    text.n_blocks = BLOCKS;
    text.start = text_start;
    text.ids = text_ids;
    awq__os_make_folder(NULL, "build");
    awq__os_make_folder(NULL, DIR);
}

/* blocks of 64 tokens of the demo's text; awq_calibration_free */
static void demo_text(awq_ctx *ctx, int blocks, awq_calibration *c)
{
    awq_calibration_source src = {"tools/demo/calib.txt", 0};
    awq_calibration_desc d;
    awq_tokenizer *tok = NULL;
    memset(&d, 0, sizeof d);
    memset(c, 0, sizeof *c);
    d.sources = &src;
    d.n_sources = 1;
    d.samples = blocks;
    d.seq_len = 64;
    CHECK_MSG(awq_tokenizer_load(ctx, DEMO, &tok) == AWQ_OK, "%s", ctx->err.text);
    CHECK_MSG(awq_calibration_load(ctx, tok, &d, c) == AWQ_OK && c->n_blocks == blocks, "%s", ctx->err.text);
    awq_tokenizer_free(ctx, tok);
}

typedef struct run {
    awq_ctx ctx;
    awq_quantize_desc d;
    awq_quantize_result r;
} run;

static run prepare(const char *source, const char *target, awq_method method)
{
    run q;
    memset(&q, 0, sizeof q);
    q.d.source = source;
    q.d.target = target;
    q.d.calibration = &text;
    q.d.method = method;
    q.d.group_size = 32;
    return q;
}

static awq_status go(run *q)
{
    awq_status st = awq_quantize_model(&q->ctx, &q->d, &q->r);
    CHECK_MSG(q->ctx.memory_used == 0, "%d bytes are left", (int)q->ctx.memory_used);
    CHECK(!st || st == q->ctx.err.status);
    return st;
}

#define GO(q) CHECK_MSG(go(&(q)) == AWQ_OK, "%s: %s", (q).d.target, (q).ctx.err.text)
/* refused with this status and these words */
#define REFUSED(q, expect, word)                                                     \
    do {                                                                             \
        awq_status refused_ = go(&(q));                                              \
        CHECK_MSG(refused_ == (expect) && strstr((q).ctx.err.text, word), "%s: %s",  \
                  awq_status_name(refused_), (q).ctx.err.text);                      \
    } while (0)

/* --- a run on a device */
typedef struct found {
    int layers;
    double losses[8][AWQ_N_GROUPS][AWQ_SCALE_GRID + 1], ratio[8][AWQ_N_GROUPS], loss[8][AWQ_N_GROUPS];
    double rtn_loss[8][AWQ_N_GROUPS];
} found;

static void on_found(void *user, const awq_layer_report *r)
{
    found *f = (found *)user;
    int i = f->layers++;
    memcpy(f->losses[i], r->losses, sizeof r->losses);
    memcpy(f->ratio[i], r->ratio, sizeof r->ratio);
    memcpy(f->loss[i], r->loss, sizeof r->loss);
    memcpy(f->rtn_loss[i], r->rtn_loss, sizeof r->rtn_loss);
}

static double apart(double a, double b) /* relative; NaN is near to anything: it was not measured whole */
{
    double most = fabs(a) > fabs(b) ? fabs(a) : fabs(b);
    return a != a || b != b || most == 0 ? 0 : fabs(a - b) / most;
}

/* largest relative difference of losses, and how often another ratio was chosen. Method best goes on from its own
   results, so that one code that is rounded the other way moves all that follows: of it only the first stage. */
static double compare(const found *a, const found *b, awq_method method, int *chosen)
{
    double worst = 0;
    int l, g, r;
    CHECK(a->layers == b->layers && a->layers > 0);
    for (l = 0; l < a->layers; l++)
        for (g = 0; g < AWQ_N_GROUPS; g++) {
            if (method == AWQ_METHOD_BEST && l + g) continue;
            *chosen += a->ratio[l][g] != b->ratio[l][g];
            worst = AWQ__MAX(worst, apart(a->loss[l][g], b->loss[l][g]));
            worst = AWQ__MAX(worst, apart(a->rtn_loss[l][g], b->rtn_loss[l][g]));
            for (r = 0; r <= AWQ_SCALE_GRID; r++)
                worst = AWQ__MAX(worst, apart(a->losses[l][g][r], b->losses[l][g][r]));
        }
    return worst;
}

/* share of the bytes of the weights' file that differ */
static double differing(const char *a, const char *b)
{
    awq_ctx ctx;
    char path[300], *x = NULL, *y = NULL;
    size_t n = 0, m = 0, i, other = 0;
    memset(&ctx, 0, sizeof ctx);
    snprintf(path, sizeof path, "%s/model.safetensors", a);
    CHECK(awq__file_load(&ctx, path, (size_t)1 << 28, &x, &n) == AWQ_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", b);
    CHECK(awq__file_load(&ctx, path, (size_t)1 << 28, &y, &m) == AWQ_OK);
    CHECK(n == m && n > 0);
    for (i = 0; i < n && n == m; i++) other += x[i] != y[i];
    awq__free(&ctx, x);
    awq__free(&ctx, y);
    return n ? (double)other / (double)n : 1;
}

/* q on the CPU and on the device (more than once: the same bytes): of method awq two bytes of a hundred may be
   others, of a loss two hundredths; perplexity within `bound` */
static void on_both(const char *name, run cpu, awq_device *device, int times, double bound)
{
    static found f[3];
    int best = cpu.d.method == AWQ_METHOD_BEST, k, chosen = 0;
    run q[2];
    double worst, share, ppl;
    memset(f, 0, sizeof f);
    q[0] = q[1] = cpu;
    cpu.d.on_layer = on_found;
    cpu.d.user = &f[2];
    cpu.d.mode = AWQ_MODE_EXACT;
    GO(cpu);
    for (k = 0; k < times; k++) {
        q[k].d.target = fresh(k ? "gpu_again" : "gpu");
        q[k].d.device = device;
        q[k].d.on_layer = on_found;
        q[k].d.user = &f[k];
        GO(q[k]);
    }
    if (times > 1) CHECK_MSG(same(q[0].d.target, q[1].d.target), "%s: another run, other bytes", name);
    worst = compare(&f[0], &f[2], cpu.d.method, &chosen);
    share = differing(q[0].d.target, cpu.d.target);
    ppl = apart(q[0].r.ppl_result, cpu.r.ppl_result);
    printf("    %-22s losses within %.1e, %d other ratios, %.2f %% other bytes, perplexity %.5g, CPU's %.5g\n", name,
           worst, chosen, 100 * share, q[0].r.ppl_result, cpu.r.ppl_result);
    CHECK_MSG(worst <= 0.02 && chosen <= f[0].layers, "%s: losses differ by %g, %d ratios", name, worst, chosen);
    CHECK_MSG(best || share <= 0.02, "%s: %.1f %% of the bytes differ", name, 100 * share);
    CHECK_MSG(ppl <= bound, "%s: perplexity %g, the CPU's %g", name, q[0].r.ppl_result, cpu.r.ppl_result);
    CHECK_MSG(apart(q[0].r.ppl_source, cpu.r.ppl_source) < 1e-5, "%s: the source's perplexity", name);
}
#endif
