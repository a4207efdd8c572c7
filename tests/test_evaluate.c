/* evaluate: how windows are cut, and perplexity, KL and agreement against what the logits of a session give.
   Uses the demo model, run from the repository's root folder. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

#define DEMO "tools/demo/model"
enum { N_IDS = 400 };

static void test_windows(void)
{
    int64_t n, w, s, start, count;
    CHECK(awq_evaluate_windows(0, 512, 0) == 0 && awq_evaluate_windows(1, 512, 0) == 0);
    CHECK(awq_evaluate_windows(-5, 512, 0) == 0 && awq_evaluate_windows(2, 512, 0) == 1);
    CHECK(awq_evaluate_windows(512, 0, 0) == 1 && awq_evaluate_windows(513, 0, 0) == 2);
    CHECK(awq_evaluate_windows(1024, 512, 512) == 2 && awq_evaluate_windows(1025, 512, 9999) == 3);
    CHECK(awq_evaluate_windows(1024, 512, 256) == 3 && awq_evaluate_windows(1025, 512, 256) == 4);
    for (n = 2; n < 40; n++)
        for (w = 2; w < 12; w++)
            for (s = 1; s <= w; s++) { /* as many as it takes until one reaches the end */
                for (start = 0, count = 1; start + w < n; start += s) count++;
                CHECK_MSG(awq_evaluate_windows(n, w, s) == count, "%d %d %d", (int)n, (int)w, (int)s);
            }
}

/* the same from session logits, in double; kl and agree against the baseline when there is one */
typedef struct direct {
    double nll, kl, agree, agree_top, error, entropy, window_nll[N_IDS];
    double token_kl[4 * N_IDS], curve[N_IDS]; /* of each prediction; mean entropy of each position */
    int64_t tokens, windows, seen[N_IDS];
} direct;

static double log_sum(const float *x, int64_t n)
{
    double top = x[0], sum = 0;
    int64_t i;
    for (i = 1; i < n; i++) top = AWQ__MAX(top, (double)x[i]);
    for (i = 0; i < n; i++) sum += exp((double)x[i] - top);
    return log(sum) + top;
}

static void top5(const float *x, int64_t n, int64_t best[5])
{
    int64_t i;
    int k, j, taken;
    for (k = 0; k < 5; k++)
        for (best[k] = -1, i = 0; i < n; i++) {
            for (taken = 0, j = 0; j < k; j++) taken |= best[j] == i;
            if (!taken && (best[k] < 0 || x[i] > x[best[k]])) best[k] = i;
        }
}

static void evaluate_directly(awq_ctx *ctx, const awq_model *m, const awq_model *base, const int32_t *ids,
                              int64_t n, int64_t window, int64_t stride, direct *r)
{
    int64_t V = awq_model_config(m)->vocab_size, start, scored_to = 0, i, j;
    float *a = (float *)malloc((size_t)(window * V) * sizeof *a),
          *b = (float *)malloc((size_t)(window * V) * sizeof *b);
    memset(r, 0, sizeof *r);
    for (start = 0;; start += stride) {
        int64_t len = AWQ__MIN(window, n - start), scored = 0;
        double nll = 0;
        int k;
        for (k = 0; k < (base ? 2 : 1); k++) {
            awq_session *s = NULL;
            awq_feed_desc d;
            memset(&d, 0, sizeof d);
            d.all_logits = k ? b : a;
            CHECK(open_session(ctx, k ? base : m, window, &s) == AWQ_OK);
            CHECK(awq_session_feed(ctx, s, ids + start, len, &d, NULL) == AWQ_OK);
            close_session(ctx, s);
        }
        for (i = 0; i + 1 < len; i++) {
            const float *x = a + i * V, *y = b + i * V;
            int64_t best[2][5];
            double lx;
            if (start + i + 1 < scored_to) continue; /* token start + i + 1 had its turn in an earlier window */
            lx = log_sum(x, V);
            nll += lx - (double)x[ids[start + i + 1]];
            for (j = 0; j < V; j++) {
                double h = exp((double)x[j] - lx) * (lx - (double)x[j]);
                r->entropy += h;
                r->curve[i] += h;
            }
            r->seen[i]++;
            if (base) {
                double ly = log_sum(y, V), kl = 0;
                for (j = 0; j < V; j++) {
                    kl += exp((double)y[j] - ly) * ((double)y[j] - ly - (double)x[j] + lx);
                    r->error = AWQ__MAX(r->error, fabs((double)y[j] - (double)x[j]));
                }
                r->kl += kl;
                r->token_kl[r->tokens + scored] = kl;
                r->agree += awq__argmax(x, V) == awq__argmax(y, V);
                top5(x, V, best[0]);
                top5(y, V, best[1]);
                for (j = 0; j < 25; j++) r->agree_top += best[0][j / 5] == best[1][j % 5];
            }
            scored++;
        }
        if (scored) {
            r->window_nll[r->windows++] = nll / (double)scored;
            r->tokens += scored;
            r->nll += nll;
        }
        scored_to = start + len;
        if (start + window >= n) break;
    }
    r->nll /= (double)r->tokens;
    r->kl /= (double)r->tokens;
    r->agree /= (double)r->tokens;
    r->agree_top /= 5 * (double)r->tokens;
    r->entropy /= (double)r->tokens;
    for (i = 0; i < window - 1 && i < N_IDS; i++) r->curve[i] /= (double)r->seen[i];
    free(a);
    free(b);
}

static int64_t heldout(awq_ctx *ctx, const awq_model *m, int32_t *ids)
{
    char *text = NULL;
    size_t bytes = 0, count = 0;
    CHECK_MSG(awq__file_load(ctx, "tools/demo/heldout.txt", 1 << 24, &text, &bytes) == AWQ_OK, "%s",
              ctx->err.text);
    if (text) CHECK(awq_encode(ctx, awq_model_tokenizer(m), text, 4000, 0, ids, N_IDS, &count) == AWQ_OK);
    CHECK(count >= N_IDS);
    awq__free(ctx, text);
    return N_IDS;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_demo(void)
{
    static const int64_t cuts[][3] = {/* tokens, window, stride */
                                      {N_IDS, 128, 0}, {N_IDS, 128, 64}, {200, 128, 31},   {N_IDS, 300, 100},
                                      {N_IDS, 0, 0},   {257, 128, 0},    {2, 64, 0},       {130, 128, 1},
                                      {50, 2, 1},      {50, 2, 0}};
    awq_ctx ctx;
    awq_model *m = NULL, *rounded = NULL;
    awq_model_desc md;
    int32_t ids[N_IDS];
    size_t k;
    memset(&ctx, 0, sizeof ctx);
    memset(&md, 0, sizeof md);
    md.rtn_bits = 4;
    md.mode = AWQ_MODE_DETERMINISTIC;
    md.rtn_group_size = 64;
    CHECK_MSG(load_deterministic(&ctx, DEMO, &m) == AWQ_OK, "%s", ctx.err.text);
    CHECK_MSG(awq_model_load(&ctx, DEMO, &md, &rounded) == AWQ_OK, "%s", ctx.err.text);
    if (!m || !rounded) return;
    heldout(&ctx, m, ids);
    for (k = 0; k < sizeof cuts / sizeof cuts[0]; k += TEST_STRIDE) {
        int64_t n = cuts[k][0], window = cuts[k][1] ? cuts[k][1] : 512,
                stride = cuts[k][2] ? cuts[k][2] : window, i;
        int64_t room = awq_evaluate_windows(n, cuts[k][1], cuts[k][2]);
        awq_evaluate_desc d;
        awq_evaluation r;
        static double nll[N_IDS], base[N_IDS], kl[N_IDS], curve[2][512];
        static float token_kl[N_IDS];
        static direct want, plain;
        double mean = 0, var = 0;
        memset(&d, 0, sizeof d);
        d.ids = ids, d.n_ids = n, d.window = cuts[k][1], d.stride = cuts[k][2];
        d.baseline = m, d.window_nll = nll, d.baseline_nll = base, d.window_kl = kl, d.token_kl = token_kl;
        d.position_entropy = curve[0], d.baseline_position_entropy = curve[1];
        CHECK_MSG(awq_evaluate(&ctx, rounded, &d, &r) == AWQ_OK, "%s", ctx.err.text);
        if (k == 7) ctx.isa = AWQ_ISA_SCALAR; /* the reference sums may come from anywhere */
        evaluate_directly(&ctx, rounded, m, ids, n, window, stride, &want);
        evaluate_directly(&ctx, m, NULL, ids, n, window, stride, &plain);
        ctx.isa = AWQ_ISA_AUTO;
        CHECK_MSG(r.tokens == want.tokens && r.windows == want.windows && r.windows <= room,
                  "%d: %d tokens, %d windows", (int)k, (int)r.tokens, (int)r.windows);
        if (stride < window) CHECK(r.tokens == n - 1); /* overlapping: every token but the first, once */
        CHECK_MSG(fabs(r.nll - want.nll) < 1e-5 && fabs(r.baseline_nll - plain.nll) < 1e-5, "%d: %g %g", (int)k,
                  r.nll, want.nll);
        CHECK(fabs(r.ppl - exp(r.nll)) < 1e-9 * r.ppl
              && fabs(r.baseline_ppl - exp(r.baseline_nll)) < 1e-9 * r.ppl);
        CHECK_MSG(fabs(r.kl_mean - want.kl) < 1e-5, "%d: KL %g %g", (int)k, r.kl_mean, want.kl);
        CHECK_MSG(fabs(r.top1_agreement - want.agree) < 1e-12, "%d", (int)k);
        CHECK_MSG(fabs(r.top5_agreement - want.agree_top) < 1e-12, "%d: %g %g", (int)k, r.top5_agreement, want.agree_top);
        CHECK_MSG(fabs(r.max_logit_error - want.error) < 1e-4 && r.not_finite == 0, "%d: %g %g", (int)k,
                  r.max_logit_error, want.error);
        CHECK_MSG(fabs(r.entropy - want.entropy) < 1e-5 && fabs(r.baseline_entropy - plain.entropy) < 1e-5, "%d: %g %g",
                  (int)k, r.entropy, want.entropy);
        for (i = 0; i < r.tokens; i++) CHECK_MSG(fabs(token_kl[i] - want.token_kl[i]) < 1e-4, "%d, %d", (int)k, (int)i);
        qsort(want.token_kl, (size_t)r.tokens, sizeof(double), by_size);
        CHECK(fabs(r.kl_median - want.token_kl[(r.tokens - 1) / 2]) < 1e-4
              && fabs(r.kl_p99 - want.token_kl[(r.tokens - 1) * 99 / 100]) < 1e-4
              && fabs(r.kl_max - want.token_kl[r.tokens - 1]) < 1e-4);
        for (i = 0; i < window - 1; i++)
            if (i < N_IDS && want.seen[i])
                CHECK_MSG(fabs(curve[0][i] - want.curve[i]) < 1e-4 && fabs(curve[1][i] - plain.curve[i]) < 1e-4,
                          "%d, %d: %g %g", (int)k, (int)i, curve[0][i], want.curve[i]);
            else CHECK(curve[0][i] != curve[0][i] && curve[1][i] != curve[1][i]);
        for (i = 0; i < r.windows; i++) {
            CHECK_MSG(fabs(nll[i] - want.window_nll[i]) < 1e-5 && fabs(base[i] - plain.window_nll[i]) < 1e-5,
                      "%d, %d", (int)k, (int)i);
            CHECK(kl[i] > -1e-6);
            mean += (nll[i] - base[i]) / (double)r.windows;
        }
        for (i = 0; i < r.windows; i++) var += (nll[i] - base[i] - mean) * (nll[i] - base[i] - mean);
        if (r.windows > 1) var /= (double)(r.windows - 1);
        CHECK(fabs(r.nll_diff - mean) < 1e-9 && fabs(r.nll_diff_se - sqrt(var / (double)r.windows)) < 1e-7);
        if (k == 0) {
            printf("    perplexity %.4f, rounded to 4 bits %.4f, KL %.5f, agreement %.3f\n", r.baseline_ppl,
                   r.ppl, r.kl_mean, r.top1_agreement);
            CHECK(r.kl_mean > 0 && r.ppl > 1 && r.top1_agreement > 0.5 && r.top1_agreement < 1);
        }
    }
    awq_model_free(&ctx, m);
    awq_model_free(&ctx, rounded);
    CHECK(ctx.memory_used == 0);
}

static void
test_itself(void) /* as its own baseline; threads, instruction sets and the baseline change no bit */
{
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_evaluate_desc d;
    awq_evaluation r, alone, again;
    int32_t ids[N_IDS];
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    CHECK_MSG(load_deterministic(&ctx, DEMO, &m) == AWQ_OK, "%s", ctx.err.text);
    if (!m) return;
    d.ids = ids;
    d.n_ids = heldout(&ctx, m, ids);
    d.window = 100;
    d.stride = 70;
    CHECK(awq_evaluate(&ctx, m, &d, &alone) == AWQ_OK);
    CHECK(alone.kl_mean == 0 && alone.top1_agreement == 0 && alone.baseline_nll == 0
          && alone.baseline_ppl == 0);
    d.baseline = m;
    CHECK(awq_evaluate(&ctx, m, &d, &r) == AWQ_OK);
    CHECK(fabs(r.kl_mean) < 1e-7 && r.top1_agreement == 1 && r.nll_diff == 0 && r.nll_diff_se == 0);
    CHECK(r.nll == r.baseline_nll && r.nll == alone.nll && r.tokens == alone.tokens
          && r.windows == alone.windows);
    for (i = 0; i < 4; i += TEST_STRIDE) {
        awq_pool *pool = NULL;
        CHECK(awq_pool_create(&ctx, 1 + 2 * i, &pool) == AWQ_OK);
        ctx.jobs = awq_pool_jobs(pool);
        ctx.isa = (awq_isa)i;
        CHECK(awq_evaluate(&ctx, m, &d, &again) == AWQ_OK && again.nll == r.nll && again.kl_mean == r.kl_mean);
        memset(&ctx.jobs, 0, sizeof ctx.jobs);
        awq_pool_free(&ctx, pool);
    }
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
}

/* x after the embeddings and after each layer, of 30 tokens */
typedef struct tapped {
    float x[9][30 * 128];
} tapped;

static void keep_x(void *user, awq_tap_point point, int layer, const float *data, int64_t n, int64_t width)
{
    if (point == AWQ_TAP_FINAL) return;
    memcpy(((tapped *)user)->x[point == AWQ_TAP_EMBED ? 0 : 1 + layer], data, (size_t)(n * width) * sizeof *data);
}

/* A layer made worse is the one that has the error: the others are the baseline's, on the baseline's x. */
static void test_layers(void)
{
    static tapped of[2];
    int worse, i, l, k;
    int32_t ids[N_IDS];
    awq_ctx ctx;
    awq_model *m[2] = {NULL, NULL}; /* worse, baseline */
    memset(&ctx, 0, sizeof ctx);
    for (k = 0; k < 2; k++) CHECK_MSG(load_deterministic(&ctx, DEMO, &m[k]) == AWQ_OK, "%s", ctx.err.text);
    if (!m[0] || !m[1]) return;
    heldout(&ctx, m[0], ids);
    for (worse = 0; worse < 8; worse += 7) {
        uint16_t *w = (uint16_t *)(uintptr_t)m[0]->layers[worse].linear[AWQ_DOWN_PROJ].weight;
        double error[8], want = 0, change = 0;
        awq_evaluate_desc d;
        awq_evaluation r;
        for (i = 0; i < 1000; i++) w[5 * i] ^= 0x8000; /* signs of some weights */
        memset(&d, 0, sizeof d);
        d.ids = ids;
        d.n_ids = 30;
        d.window = 30;
        d.baseline = m[1];
        d.layer_error = error;
        CHECK_MSG(awq_evaluate(&ctx, m[0], &d, &r) == AWQ_OK, "%s", ctx.err.text);
        for (k = 0; k < 2; k++) {
            awq_session *s = NULL;
            awq_feed_desc f;
            memset(&f, 0, sizeof f);
            f.tap = keep_x;
            f.user = &of[k];
            CHECK(open_session(&ctx, m[k], 30, &s) == AWQ_OK);
            CHECK(awq_session_feed(&ctx, s, ids, 30, &f, NULL) == AWQ_OK);
            close_session(&ctx, s);
        }
        for (i = 0; i < 30 * 128; i++) {
            double e = (double)of[0].x[1 + worse][i] - of[1].x[1 + worse][i],
                   c = (double)of[1].x[1 + worse][i] - of[1].x[worse][i];
            want += e * e;
            change += c * c;
        }
        want = sqrt(want / change);
        for (l = 0; l < 8; l++)
            CHECK_MSG(l == worse ? want > 1e-3 && fabs(error[l] - want) < 1e-6 * want : error[l] <= 0, "%d, %d: %g, %g",
                      worse, l, error[l], want);
        d.baseline = NULL;
        CHECK(awq_evaluate(&ctx, m[0], &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "needs a baseline"));
        for (i = 0; i < 1000; i++) w[5 * i] ^= 0x8000;
    }
    for (k = 0; k < 2; k++) awq_model_free(&ctx, m[k]);
    CHECK(ctx.memory_used == 0);
}

/* Predictions that are no numbers are counted and left out; a model that has nothing else is refused. */
static void test_not_finite(void)
{
    int32_t ids[30];
    int i, k;
    for (i = 0; i < 30; i++) ids[i] = i * 3;
    for (k = 0; k < 2; k++) {
        awq_evaluate_desc d;
        awq_evaluation r;
        awq_model *m = NULL;
        awq_ctx ctx;
        tiny t;
        tiny_tensor *head;
        uint64_t seed = 1;
        memset(&d, 0, sizeof d);
        tiny_llama(&t);
        head = tiny_find(&t, "lm_head.weight");
        tiny_resize(head, AWQ_F32, 2, 96, 64);
        for (i = 0; i < (k ? 96 * 64 : 12); i++)
            ((float *)head->data)[k ? i : 7 * 64 + i] = awq__random_unit(&seed) < 0.5f ? -3e38f : 3e38f;
        ctx = tiny_ctx(&t);
        CHECK_MSG(load_deterministic(&ctx, "m", &m) == AWQ_OK, "%s", ctx.err.text);
        d.ids = ids;
        d.n_ids = 30;
        if (m && k) {
            CHECK_MSG(awq_evaluate(&ctx, m, &d, &r) == AWQ_E_NUMERIC && strstr(ctx.err.text, "all 29 predictions"), "%s",
                      ctx.err.text);
            CHECK(awq__evaluate(&ctx, m, &d, 1, &r) == AWQ_OK && !r.tokens && r.not_finite == 29 && r.ppl != r.ppl);
        } else if (m) {
            CHECK_MSG(awq_evaluate(&ctx, m, &d, &r) == AWQ_OK, "%s", ctx.err.text);
            CHECK_MSG(r.not_finite > 0 && r.tokens > 0 && r.not_finite + r.tokens == 29 && r.nll - r.nll == 0, "%d, %d",
                      (int)r.not_finite, (int)r.tokens);
        }
        awq_model_free(&ctx, m);
        CHECK(ctx.memory_used == 0);
        tiny_free(&t);
    }
}

/* States that are no numbers end their window: refused, or (keep) the window's predictions are counted, and whose
   they are. */
static void test_lost_windows(void)
{
    int32_t ids[30];
    awq_evaluate_desc d;
    awq_evaluation r;
    awq_model *m[2] = {NULL, NULL};
    float kl[30];
    double entropy[9];
    awq_ctx ctx[2];
    tiny t[2]; /* weights are where the file is */
    int i, k;
    memset(&d, 0, sizeof d);
    for (i = 0; i < 30; i++) ids[i] = i * 3; /* 36 is in the second of three windows */
    for (k = 0; k < 2; k++) {
        tiny_llama(&t[k]);
        ctx[k] = tiny_ctx(&t[k]);
        CHECK_MSG(load_deterministic(&ctx[k], "m", &m[k]) == AWQ_OK, "%s", ctx[k].err.text);
    }
    if (!m[0] || !m[1]) return;
    CHECK(m[0]->embed && m[0]->embed != m[0]->head.weight);
    memset((char *)(uintptr_t)m[0]->embed + (size_t)36 * (size_t)m[0]->config.hidden_size * awq_dtype_size(m[0]->embed_dtype),
           0xff, awq_dtype_size(m[0]->embed_dtype)); /* NaN in all of them */
    d.ids = ids;
    d.n_ids = 30;
    d.window = 10;
    d.token_kl = kl;
    d.position_entropy = entropy;
    for (k = 0; k < 2; k++) {
        d.baseline = m[!k];
        CHECK(awq_evaluate(&ctx[0], m[k], &d, &r) == AWQ_E_NUMERIC && strstr(ctx[0].err.text, "layer 0"));
        CHECK_MSG(awq__evaluate(&ctx[0], m[k], &d, 1, &r) == AWQ_OK, "%s", ctx[0].err.text);
        CHECK_MSG(r.tokens == 18 && r.not_finite == 9 && r.baseline_not_finite == (k ? 9 : 0) && r.windows == 2,
                  "%d: %d, %d, %d, %d", k, (int)r.tokens, (int)r.not_finite, (int)r.baseline_not_finite, (int)r.windows);
        CHECK(r.kl_mean < 1e-9 && r.ppl > 1 && r.top1_agreement > 0.999 && entropy[8] > 0);
    }
    for (k = 0; k < 2; k++) {
        awq_model_free(&ctx[k], m[k]);
        CHECK(ctx[k].memory_used == 0);
        tiny_free(&t[k]);
    }
}

static int cancel(void *user, const awq_progress *p)
{
    (void)user;
    return !strcmp(p->stage, "evaluate") && p->done == 2 && p->total == 3;
}

static void test_errors(void)
{
    int32_t ids[30];
    tiny t, other;
    awq_ctx ctx, octx;
    awq_model *m = NULL, *o = NULL;
    awq_evaluate_desc d;
    awq_evaluation r, untouched;
    double error[1];
    int i, reached = 1;
    long k;
    memset(&d, 0, sizeof d);
    memset(&untouched, 7, sizeof untouched);
    r = untouched;
    for (i = 0; i < 30; i++) ids[i] = i * 3;
    tiny_llama(&t);
    tiny_llama(&other);
    tiny_set(&other, "vocab_size", "95");
    tiny_resize(tiny_find(&other, "model.embed_tokens.weight"), AWQ_F16, 2, 95, 64);
    tiny_resize(tiny_find(&other, "lm_head.weight"), AWQ_F16, 2, 95, 64);
    ctx = tiny_ctx(&t);
    octx = tiny_ctx(&other);
    CHECK(load_deterministic(&ctx, "m", &m) == AWQ_OK);
    CHECK_MSG(load_deterministic(&octx, "m", &o) == AWQ_OK, "%s", octx.err.text);
    d.ids = ids;
    d.window = 10;
    for (i = 0; i < 2; i++) {
        d.n_ids = i;
        CHECK(awq_evaluate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "at least 2"));
    }
    d.n_ids = 30;
    d.window = 1;
    CHECK(awq_evaluate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "window 1"));
    d.window = 10;
    d.baseline = o;
    CHECK(awq_evaluate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "has 96 tokens, the baseline 95"));
    d.baseline = NULL;
    ids[25] = 96;
    CHECK(awq_evaluate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "token id 96"));
    ids[25] = 3;
    ids[29] = -1; /* only ever a successor */
    CHECK(awq_evaluate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "token id -1"));
    ids[29] = 3;
    ctx.progress = cancel;
    CHECK(awq_evaluate(&ctx, m, &d, &r) == AWQ_E_CANCELLED);
    ctx.progress = NULL;
    CHECK(!memcmp(&r, &untouched, sizeof r));
    awq_model_free(&ctx, m);
    awq_model_free(&octx, o);
    CHECK(ctx.memory_used == 0 && octx.memory_used == 0);
    for (k = -1; reached; k++) { /* the k-th allocation fails */
        fail_alloc f = {-1, 0, 0};
        awq_status st;
        size_t base;
        ctx = tiny_ctx(&t);
        ctx.allocator = fail_allocator(&f);
        m = NULL;
        CHECK(load_deterministic(&ctx, "m", &m) == AWQ_OK);
        base = f.live;
        d.baseline = m;
        f.calls = 0;
        f.fail_at = k;
        d.layer_error = error;
        st = awq_evaluate(&ctx, m, &d, &r);
        reached = k < 0 || f.calls > k;
        CHECK_MSG(st == (k >= 0 && reached ? AWQ_E_MEMORY : AWQ_OK), "%ld: %s", k, ctx.err.text);
        CHECK(f.live == base && ctx.memory_used == base);
        awq_model_free(&ctx, m);
        CHECK(f.live == 0);
    }
    CHECK(k > 5);
    tiny_free(&t);
    tiny_free(&other);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_windows);
    RUN(test_demo);
    RUN(test_itself);
    RUN(test_layers);
    RUN(test_not_finite);
    RUN(test_lost_windows);
    RUN(test_errors);
    return TEST_END();
}
