/* The reference quantizer's own results: for every group its loss at our ratio is within 1 % of its best, scales at the
   same ratio within 0.3 %, clip thresholds given its scales on the same step (94 %) or the next; perplexities; and a
   run that is cancelled and resumed writes the same bytes. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

#include <sys/stat.h>

static const char *tmp_folder(const char *name)
{
    static char path[4][512];
    static int turn;
    char cmd[600];
    char *p = path[turn++ % 4];
    snprintf(p, 512, "build/test_golden/%s", name);
    snprintf(cmd, sizeof cmd, "rm -rf %s %s.partial", p, p);
    mkdir("build", 0777);
    mkdir("build/test_golden", 0777);
    if (system(cmd)) printf("    cannot remove %s\n", p);
    return p;
}

typedef struct golden {
    awq_ctx *ctx;
    awq__json json;     /* the dump's .json */
    awq_tensors *dump;  /* its scales and clips */
    int groups, same, bad_loss, bad_scale;
    double worst_loss, worst_scale;
    int64_t clips, same_clips, near_clips;
    int smol; /* names of SmolLM2's dump */
} golden;

static const char *const stories_names[4] = {
    "input_layernorm->self_attn.q_proj|self_attn.k_proj|self_attn.v_proj", "self_attn.v_proj->self_attn.o_proj",
    "post_attention_layernorm->mlp.gate_proj|mlp.up_proj", "mlp.up_proj->mlp.down_proj"};
static const char *const smol_names[4] = {"input_layernorm", "self_attn.v_proj", "post_attention_layernorm",
                                          "mlp.up_proj"};

/* Thresholds of a layer whose scales are all at the reference's ratio: clip = max (1 - step / 20), step 0 to 9, so that
   neighbours are a factor of 0.917 to 0.95 apart and the next ones at most 0.9. */
static void compare_clips(golden *d, const awq_layer_report *r)
{
    static const char *const names[AWQ_N_LINEARS] = {NULL, NULL, "self_attn.v_proj", "self_attn.o_proj",
                                                     "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    int k;
    for (k = 0; k < AWQ_N_LINEARS; k++) {
        char tensor[128];
        const awq_tensor *t;
        float *want;
        int64_t i, n;
        if (!names[k] || !r->clip_max[k]) continue;
        snprintf(tensor, sizeof tensor, "layer%d.%s.clip_max", r->layer, names[k]);
        t = awq_tensors_find(d->dump, tensor);
        CHECK_MSG(t, "the dump has no %s", tensor);
        if (!t) continue;
        n = t->shape[0] * t->shape[1];
        want = (float *)malloc((size_t)n * sizeof *want);
        CHECK(awq_tensors_read_float(d->ctx, d->dump, t, 0, n, want) == AWQ_OK);
        for (i = 0; i < n; i++) {
            double q = want[i] > r->clip_max[k][i] ? r->clip_max[k][i] / want[i] : want[i] / r->clip_max[k][i];
            d->clips++;
            if (want[i] == r->clip_max[k][i] || q > 0.99) d->same_clips++;
            else if (q > 0.908) d->near_clips++;
        }
        free(want);
    }
}

static void on_layer(void *user, const awq_layer_report *r)
{
    golden *d = (golden *)user;
    int g, different = 0;
    for (g = 0; g < 4; g++) {
        char name[256], tensor[300];
        uint32_t i, h, e;
        double best = 0, ratio = 0, ours = -1, x;
        int k = 0, index;
        const awq_tensor *t;
        float *want;
        int64_t n, c;
        if (!r->scales[g]) continue;
        snprintf(name, sizeof name, "layer%d.%s", r->layer, (d->smol ? smol_names : stories_names)[g]);
        for (i = awq__json_first(&d->json, awq__json_get(&d->json, 1, "scale")); i; i = awq__json_next(&d->json, i))
            if (awq__json_eq(&d->json, awq__json_get(&d->json, i, "name"), name)) break;
        CHECK_MSG(i, "the dump has no %s", name);
        if (!i) continue;
        awq__json_number_of(&d->json, awq__json_get(&d->json, i, "best_loss"), &best);
        awq__json_number_of(&d->json, awq__json_get(&d->json, i, "best_ratio"), &ratio);
        index = (int)(r->ratio[g] * 20 + 0.5);
        h = awq__json_get(&d->json, i, "loss_history");
        for (e = awq__json_first(&d->json, h); e; e = awq__json_next(&d->json, e), k++)
            if (k == index && awq__json_number_of(&d->json, e, &x)) ours = x;
        d->groups++;
        if (!(ours >= 0 && ours <= best * 1.01)) {
            d->bad_loss++;
            printf("    %s: ratio %.2f, the reference's loss there %.6g, its best %.6g at %.2f\n", name, r->ratio[g], ours,
                   best, ratio);
        }
        d->worst_loss = AWQ__MAX(d->worst_loss, ours / best - 1);
        if (index != (int)(ratio * 20 + 0.5)) {
            different = 1;
            continue;
        }
        d->same++;
        snprintf(tensor, sizeof tensor, "%s.scales", name);
        t = awq_tensors_find(d->dump, tensor);
        CHECK_MSG(t, "the dump has no %s", tensor);
        if (!t) continue;
        n = t->shape[0];
        want = (float *)malloc((size_t)n * sizeof *want);
        CHECK(awq_tensors_read_float(d->ctx, d->dump, t, 0, n, want) == AWQ_OK);
        for (c = 0; c < n; c++) {
            double rel = fabs(r->scales[g][c] / want[c] - 1);
            d->worst_scale = AWQ__MAX(d->worst_scale, rel);
            if (rel > 0.003) d->bad_scale++;
        }
        free(want);
    }
    if (!different) compare_clips(d, r);
}

static int load_calibration(awq_ctx *ctx, const char *path, awq_calibration *c)
{
    awq_calibration_source src;
    awq_calibration_desc d;
    memset(&src, 0, sizeof src);
    memset(&d, 0, sizeof d);
    src.path = path;
    d.sources = &src;
    d.n_sources = 1;
    d.samples = 1000000;
    return awq_calibration_load(ctx, NULL, &d, c) == AWQ_OK;
}

static double ppl(awq_ctx *ctx, const char *folder, const char *ids_path, int64_t window)
{
    awq_model *m = NULL;
    awq_calibration c;
    awq_evaluate_desc d;
    awq_evaluation r;
    memset(&c, 0, sizeof c);
    memset(&d, 0, sizeof d);
    r.ppl = 0;
    if (load_exact(ctx, folder, &m) == AWQ_OK && load_calibration(ctx, ids_path, &c)) {
        d.ids = c.ids;
        d.n_ids = c.start[c.n_blocks];
        d.window = window;
        if (awq_evaluate(ctx, m, &d, &r)) r.ppl = 0;
    }
    if (r.ppl == 0) printf("    %s\n", ctx->err.text);
    awq_calibration_free(ctx, &c);
    awq_model_free(ctx, m);
    return r.ppl;
}

static void begin(awq_ctx *ctx, awq_pool **pool)
{
    memset(ctx, 0, sizeof *ctx);
    CHECK(awq_pool_create(ctx, 0, pool) == AWQ_OK);
    ctx->jobs = awq_pool_jobs(*pool);
}

/* The search of method awq on the tokens of a dump "<path>.json" and ".safetensors", compared group by group. exact: the
   dump was made in fp32, as this library computes; an fp16 dump's losses carry noise of their own, and are not judged. */
static void search(awq_ctx *ctx, const char *dump, int exact, awq_quantize_desc *d, golden *g)
{
    char path[600];
    g->ctx = ctx;
    snprintf(path, sizeof path, "%s.json", dump);
    CHECK(awq__json_load(ctx, path, (size_t)1 << 28, &g->json) == AWQ_OK);
    snprintf(path, sizeof path, "%s.safetensors", dump);
    CHECK_MSG(awq_tensors_open(ctx, path, &g->dump) == AWQ_OK, "%s", ctx->err.text);
    d->method = AWQ_METHOD_AWQ;
    d->on_layer = on_layer;
    d->user = g;
    CHECK_MSG(awq_quantize_model(ctx, d, NULL) == AWQ_OK, "%s", ctx->err.text);
    d->on_layer = NULL;
    printf("    %d groups, %d at the reference's ratio, worst loss %+.3f %%, worst scale %.3f %%; of %lld thresholds %.2f %% "
           "on the same step, %.2f %% one away\n", g->groups, g->same, 100 * g->worst_loss, 100 * g->worst_scale,
           (long long)g->clips, 100.0 * (double)g->same_clips / (double)(g->clips + !g->clips),
           100.0 * (double)g->near_clips / (double)(g->clips + !g->clips));
    CHECK(g->bad_scale == 0);
    if (exact) {
        CHECK(g->bad_loss == 0 && g->clips > 0);
        CHECK((double)g->same_clips >= 0.98 * (double)g->clips);
        /* Our scales equal the reference's to seven digits, not to the last bit, and that decides weights that lie between
           two codes: many do where the weights lie on a lattice (SmolLM2 here comes from 4 bits). The same search in fp64
           instead of fp32 moves 2.5 % of the thresholds. Given the very scales, test_clips finds all of them. */
        CHECK((double)(g->same_clips + g->near_clips) >= 0.995 * (double)g->clips);
    }
    awq_tensors_close(ctx, g->dump);
    awq__json_free(ctx, &g->json);
}

static void stories(const char *model, const char *dump, int exact, double want_awq, double want_best)
{
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_calibration cal;
    awq_quantize_desc d;
    golden g;
    char path[512], source[512], eval[512];
    const char *root = TEST_DATA(), *target = tmp_folder("awq"), *best = tmp_folder("best");
    double p;
    if (!root) TEST_SKIP("AWQ_TEST_DATA is not set");
    begin(&ctx, &pool);
    memset(&g, 0, sizeof g);
    memset(&d, 0, sizeof d);
    memset(&cal, 0, sizeof cal);
    snprintf(path, sizeof path, "%s/golden/dumps/n24/%s/calib_ids.json", root, dump);
    snprintf(eval, sizeof eval, "%s/golden/dumps/n24/%s/eval_ids.json", root, dump);
    snprintf(source, sizeof source, "%s/golden/models/%s", root, model);
    CHECK_MSG(load_calibration(&ctx, path, &cal), "%s", ctx.err.text);
    d.source = source;
    d.target = target;
    d.calibration = &cal;
    d.group_size = 32;
    d.mode = exact ? AWQ_MODE_EXACT : AWQ_MODE_FAST; /* test_smollm2 compares the fast one */
    snprintf(path, sizeof path, "%s/golden/dumps/n24/%s/w4", root, dump);
    search(&ctx, path, exact, &d, &g);
    CHECK(g.groups >= 15);
    p = ppl(&ctx, target, eval, 256);
    printf("    PPL awq %.4f (the reference's %.3f)\n", p, want_awq);
    CHECK(p > 1 && p <= want_awq * 1.005);
    d.target = best;
    d.method = AWQ_METHOD_BEST;
    CHECK_MSG(awq_quantize_model(&ctx, &d, NULL) == AWQ_OK, "%s", ctx.err.text);
    p = ppl(&ctx, best, eval, 256);
    printf("    PPL best %.4f\n", p);
    CHECK(p > 1 && p <= want_best);
    awq_calibration_free(&ctx, &cal);
    awq_pool_free(&ctx, pool);
    CHECK(ctx.memory_used == 0);
}

/* the first layers of the 30: a layer's search sees the original model only, so they are those of the whole run */
static void test_smollm2(void)
{
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_calibration cal;
    awq_quantize_desc d;
    golden g;
    char path[512];
    const char *root = TEST_DATA(), *model = getenv("AWQ_SMOLLM2");
    if (!root) TEST_SKIP("AWQ_TEST_DATA is not set");
    begin(&ctx, &pool);
    memset(&g, 0, sizeof g);
    memset(&d, 0, sizeof d);
    memset(&cal, 0, sizeof cal);
    g.smol = 1;
    snprintf(path, sizeof path, "%s/golden/smollm2/calib.json", root);
    CHECK_MSG(load_calibration(&ctx, path, &cal), "%s", ctx.err.text);
    CHECK(cal.n_blocks == 53 && cal.start[53] == 27136);
    d.source = model;
    d.target = tmp_folder("smollm2");
    d.calibration = &cal;
    d.group_size = 64;
    d.max_layers = getenv("AWQ_SMOLLM2_LAYERS") ? atoi(getenv("AWQ_SMOLLM2_LAYERS")) : 1;
    snprintf(path, sizeof path, "%s/golden/smollm2/w4g64-fp32", root);
    search(&ctx, path, 1, &d, &g);
    CHECK(g.groups == 3 * d.max_layers);
    awq_calibration_free(&ctx, &cal);
    awq_pool_free(&ctx, pool);
    CHECK(ctx.memory_used == 0);
}

/* the bound of best: rounding with feedback is chaotic, changes of a last bit upstream moved it between 4.80 and 4.86 */
static void test_stories_gqa(void) { stories("stories260K-gqa-hf", "stories260K-gqa-hf-g32-fp32", 1, 4.957, 4.9); }
static void test_stories_mha(void) { stories("stories260K-mha-hf", "stories260K-mha-hf-g32-fp16", 0, 4.929, 4.9); }

/* given the reference's scales and features, its thresholds */
static void test_clips(void)
{
    awq_ctx ctx;
    awq_tensors *dump = NULL, *model = NULL;
    const awq_tensor *tw, *ts, *tc;
    const char *root = TEST_DATA();
    char path[512];
    enum { K = 192, N = 64, G = 32, NG = K / G };
    static float w[N * K], s[K], want[N * NG], got[N * NG], x[1024 * K], m[NG * G * G];
    awq_search_desc d = {4, G, 0, 0, AWQ_MODE_EXACT};
    int64_t i, j, t, g, n, same = 0, near = 0;
    if (!root) TEST_SKIP("AWQ_TEST_DATA is not set");
    memset(&ctx, 0, sizeof ctx);
    snprintf(path, sizeof path, "%s/golden/dumps/n24/stories260K-gqa-hf-g32-fp32/w4.safetensors", root);
    CHECK(awq_tensors_open(&ctx, path, &dump) == AWQ_OK);
    snprintf(path, sizeof path, "%s/golden/models/stories260K-gqa-hf", root);
    CHECK(awq_tensors_open(&ctx, path, &model) == AWQ_OK);
    if (T.bad) return;
    tw = awq_tensors_find(model, "model.layers.0.mlp.down_proj.weight");
    ts = awq_tensors_find(dump, "layer0.mlp.up_proj->mlp.down_proj.scales");
    tc = awq_tensors_find(dump, "layer0.mlp.down_proj.clip_max");
    CHECK(tw && ts && tc);
    if (T.bad) return;
    CHECK(!awq_tensors_read_float(&ctx, model, tw, 0, N * K, w) && !awq_tensors_read_float(&ctx, dump, ts, 0, K, s)
          && !awq_tensors_read_float(&ctx, dump, tc, 0, N * NG, want));
    /* features of layer 0's down_proj over the calibration text, every stride-th token, through our own model */
    {
        awq_model *mod = NULL;
        awq_calibration cal;
        awq__work work;
        awq__kv kv;
        int64_t b, stride, seen = 0;
        memset(&cal, 0, sizeof cal);
        CHECK(load_exact(&ctx, path, &mod) == AWQ_OK);
        snprintf(path, sizeof path, "%s/golden/dumps/n24/stories260K-gqa-hf-g32-fp32/calib_ids.json", root);
        CHECK(load_calibration(&ctx, path, &cal));
        CHECK(!awq__work_alloc(&ctx, &mod->config, 512, &work) && !awq__kv_alloc(&ctx, &mod->config, 32, 1, 512, &kv));
        stride = cal.start[cal.n_blocks] / 512;
        for (b = 0, n = 0; b < cal.n_blocks && !T.bad; b++) {
            int64_t len = cal.start[b + 1] - cal.start[b];
            awq__embed(mod, cal.ids + cal.start[b], len, work.x);
            awq__rows_of(&mod->config, &work, &kv, 0, len);
            CHECK(!awq__steps(&ctx, &mod->config, &mod->layers[0], 0, &work, len, AWQ__NORM, AWQ__ADD, NULL, NULL));
            for (i = 0; i < len; i++)
                if (seen++ % stride == 0 && n < 1024) memcpy(x + n++ * K, work.gate + i * K, sizeof(float) * K);
        }
        awq__work_free(&ctx, &work);
        awq__kv_free(&ctx, &kv);
        awq_calibration_free(&ctx, &cal);
        awq_model_free(&ctx, mod);
    }
    memset(m, 0, sizeof m);
    for (t = 0; t < n; t++)
        for (g = 0; g < NG; g++)
            for (i = 0; i < G; i++)
                for (j = 0; j < G; j++)
                    m[(g * G + i) * G + j] += x[t * K + g * G + i] / s[g * G + i] * x[t * K + g * G + j] / s[g * G + j]
                                              / (float)n;
    for (i = 0; i < N * K; i++) w[i] *= s[i % K];
    CHECK(!awq_search_clips(&ctx, w, N, K, m, &d, got));
    for (i = 0; i < N * NG; i++) {
        float top = 0;
        int a, b;
        for (j = 0; j < G; j++) top = AWQ__MAX(top, fabsf(w[i / NG * K + i % NG * G + j]));
        if (top == 0) {
            same++;
            continue;
        }
        a = (int)((1 - want[i] / top) * 20 + 0.5);
        b = (int)((1 - got[i] / top) * 20 + 0.5);
        same += a == b;
        near += a - b == 1 || b - a == 1;
    }
    printf("    thresholds: %.1f %% on the same step, %.1f %% one away\n", 100.0 * (double)same / (N * NG),
           100.0 * (double)near / (N * NG));
    CHECK((double)same >= 0.94 * N * NG);
    CHECK(same + near == N * NG);
    awq_tensors_close(&ctx, dump);
    awq_tensors_close(&ctx, model);
    CHECK(ctx.memory_used == 0);
}

typedef struct stopper {
    int left;
} stopper;

static int stop_soon(void *user, const awq_progress *p)
{
    return !strcmp(p->stage, "quantize") && --((stopper *)user)->left < 0;
}

static int same_file(const char *a, const char *b)
{
    char cmd[1300];
    snprintf(cmd, sizeof cmd, "cmp %.600s %.600s", a, b);
    return system(cmd) == 0;
}

/* on the model that ships: cancel after a few layers, resume, compare with an undisturbed run; then convert around */
static void test_resume(void)
{
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_calibration cal;
    awq_calibration_source src;
    awq_calibration_desc cd;
    awq_tokenizer *t = NULL;
    awq_quantize_desc d;
    awq_convert_desc cv;
    stopper stop = {3};
    const char *a = tmp_folder("whole"), *b = tmp_folder("resumed"), *c = tmp_folder("ct"), *e = tmp_folder("gemm");
    char x[600], y[600];
    begin(&ctx, &pool);
    memset(&src, 0, sizeof src);
    memset(&cd, 0, sizeof cd);
    memset(&d, 0, sizeof d);
    memset(&cv, 0, sizeof cv);
    memset(&cal, 0, sizeof cal);
    CHECK_MSG(awq_tokenizer_load(&ctx, "tools/demo/model", &t) == AWQ_OK, "%s", ctx.err.text);
    src.path = "tools/demo/calib.txt";
    cd.sources = &src;
    cd.n_sources = 1;
    cd.samples = 16;
    cd.seq_len = 128;
    CHECK_MSG(awq_calibration_load(&ctx, t, &cd, &cal) == AWQ_OK, "%s", ctx.err.text);
    CHECK(cal.n_blocks == 16);
    d.source = "tools/demo/model";
    d.calibration = &cal;
    d.target = a;
    CHECK_MSG(awq_quantize_model(&ctx, &d, NULL) == AWQ_OK, "%s", ctx.err.text);
    d.target = b;
    ctx.progress = stop_soon;
    ctx.user = &stop;
    CHECK(awq_quantize_model(&ctx, &d, NULL) == AWQ_E_CANCELLED);
    ctx.progress = NULL;
    snprintf(x, sizeof x, "%s/model.safetensors", b);
    CHECK(!awq__file_exists(&ctx, x));
    CHECK(awq_quantize_model(&ctx, &d, NULL) == AWQ_E_ARG); /* unfinished, and resume was not asked for */
    d.resume = 1;
    CHECK_MSG(awq_quantize_model(&ctx, &d, NULL) == AWQ_OK, "%s", ctx.err.text);
    snprintf(y, sizeof y, "%s/model.safetensors", a);
    CHECK(same_file(y, x));
    CHECK(awq_quantize_model(&ctx, &d, NULL) == AWQ_E_ARG); /* exists already */
    cv.source = a;
    cv.target = c;
    cv.layout = AWQ_LAYOUT_COMPRESSED_TENSORS;
    CHECK_MSG(awq_convert(&ctx, &cv) == AWQ_OK, "%s", ctx.err.text);
    cv.source = c;
    cv.target = e;
    cv.layout = AWQ_LAYOUT_GEMM;
    CHECK_MSG(awq_convert(&ctx, &cv) == AWQ_OK, "%s", ctx.err.text);
    snprintf(x, sizeof x, "%s/model.safetensors", e);
    CHECK(same_file(y, x));
    awq_calibration_free(&ctx, &cal);
    awq_tokenizer_free(&ctx, t);
    awq_pool_free(&ctx, pool);
    CHECK(ctx.memory_used == 0);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_resume);
    RUN(test_clips);
    RUN(test_stories_gqa);
    RUN(test_stories_mha);
    if (getenv("AWQ_SMOLLM2") && *getenv("AWQ_SMOLLM2")) RUN(test_smollm2);
    else printf("skipped: test_smollm2: AWQ_SMOLLM2 names no model\n"), T.skipped++;
    return TEST_END();
}
