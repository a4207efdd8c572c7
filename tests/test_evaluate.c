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
    double nll, kl, agree, window_nll[N_IDS];
    int64_t tokens, windows;
} direct;

static double log_sum(const float *x, int64_t n)
{
    double top = x[0], sum = 0;
    int64_t i;
    for (i = 1; i < n; i++) top = AWQ__MAX(top, (double)x[i]);
    for (i = 0; i < n; i++) sum += exp((double)x[i] - top);
    return log(sum) + top;
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
            double lx;
            if (start + i + 1 < scored_to) continue; /* token start + i + 1 had its turn in an earlier window */
            lx = log_sum(x, V);
            nll += lx - (double)x[ids[start + i + 1]];
            scored++;
            if (base) {
                double ly = log_sum(y, V);
                for (j = 0; j < V; j++)
                    r->kl += exp((double)y[j] - ly) * ((double)y[j] - ly - (double)x[j] + lx);
                r->agree += awq__argmax(x, V) == awq__argmax(y, V);
            }
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

static void test_demo(void)
{
    static const int64_t cuts[][3] = {/* tokens, window, stride */
                                      {N_IDS, 128, 0}, {N_IDS, 128, 64}, {N_IDS, 128, 31}, {N_IDS, 300, 100},
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
    for (k = 0; k < sizeof cuts / sizeof cuts[0]; k++) {
        int64_t n = cuts[k][0], window = cuts[k][1] ? cuts[k][1] : 512,
                stride = cuts[k][2] ? cuts[k][2] : window, i;
        int64_t room = awq_evaluate_windows(n, cuts[k][1], cuts[k][2]);
        awq_evaluate_desc d;
        awq_evaluation r;
        static double nll[N_IDS], base[N_IDS], kl[N_IDS];
        static direct want, plain;
        double mean = 0, var = 0;
        memset(&d, 0, sizeof d);
        d.ids = ids, d.n_ids = n, d.window = cuts[k][1], d.stride = cuts[k][2];
        d.baseline = m, d.window_nll = nll, d.baseline_nll = base, d.window_kl = kl;
        CHECK_MSG(awq_evaluate(&ctx, rounded, &d, &r) == AWQ_OK, "%s", ctx.err.text);
        if (k == 2 || k == 7) ctx.isa = AWQ_ISA_SCALAR; /* the reference sums may come from anywhere */
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
    for (i = 0; i < 4; i++) {
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
    RUN(test_errors);
    return TEST_END();
}
