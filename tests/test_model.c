/* model: logits, hidden states and greedy tokens of the reference checkpoints; the same bits for every chunk
   size, instruction set and number of threads; sessions at their limits. With AWQ_TEST_DATA the reference's
   numbers. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

static const char *const fixtures[] = {"llama_gqa",
                                       "llama_tied",
                                       "llama_headdim",
                                       "llama_bias_fp32",
                                       "llama_rope_linear",
                                       "llama_rope_llama3",
                                       "mistral",
                                       "qwen2",
                                       "qwen2_swa",
                                       "qwen3",
                                       "llama_awq_gemm",
                                       "llama_awq_gemv",
                                       "llama_awq_gemv_fast",
                                       "qwen2_awq_gemm",
                                       "qwen3_awq_gemm",
                                       "llama_ct_pack_asym_fp16",
                                       "llama_ct_pack_sym_bf16"};
enum { N_FIXTURES = sizeof fixtures / sizeof fixtures[0], MAX_PROMPT = 256, GREEDY = 24 };

static double worst_logit, worst_hidden; /* over all fixtures */

typedef struct fixture {
    const char *name;
    awq_model *model;
    awq_tensors *want;
    int64_t vocab, hidden;
    int layers;
    int32_t n_short, n_long, n_greedy, short_ids[MAX_PROMPT], long_ids[MAX_PROMPT], greedy[MAX_PROMPT];
} fixture;

static int32_t read_ids(const awq__json *j, const char *key, int32_t *ids)
{
    uint32_t node;
    int32_t n = 0;
    int64_t id;
    for (node = awq__json_first(j, awq__json_get(j, 1, key)); node && n < MAX_PROMPT;
         node = awq__json_next(j, node))
        ids[n++] = awq__json_int_of(j, node, &id) ? (int32_t)id : -1;
    return n;
}

static int fixture_open(awq_ctx *ctx, fixture *f, const char *name)
{
    char path[1024];
    awq__json j;
    const awq_config *c;
    memset(f, 0, sizeof *f);
    memset(&j, 0, sizeof j);
    f->name = name;
    snprintf(path, sizeof path, "%s/fixtures/models/%s", TEST_DATA(), name);
    if (awq_model_load(ctx, path, NULL, &f->model)) return 0;
    c = awq_model_config(f->model);
    f->vocab = c->vocab_size;
    f->hidden = c->hidden_size;
    f->layers = c->num_hidden_layers;
    snprintf(path, sizeof path, "%s/fixtures/models/%s/expected.safetensors", TEST_DATA(), name);
    if (awq_tensors_open(ctx, path, &f->want)) return 0;
    snprintf(path, sizeof path, "%s/fixtures/models/%s/expected.json", TEST_DATA(), name);
    if (awq__json_load(ctx, path, 1 << 24, &j)) return 0;
    f->n_short = read_ids(&j, "prompt_short", f->short_ids);
    f->n_long = read_ids(&j, "prompt_long", f->long_ids);
    f->n_greedy = read_ids(&j, "greedy_short_24", f->greedy);
    awq__json_free(ctx, &j);
    return f->n_short > 1 && f->n_long > 64 && f->n_greedy == GREEDY;
}

static void fixture_close(awq_ctx *ctx, fixture *f)
{
    awq_tensors_close(ctx, f->want);
    awq_model_free(ctx, f->model);
    CHECK_MSG(ctx->memory_used == 0, "%s: %llu bytes left", f->name, (unsigned long long)ctx->memory_used);
}

/* the largest |got - want|; huge when the tensor is absent or of another size */
static double difference(awq_ctx *ctx, const fixture *f, const char *tensor, const float *got, int64_t n)
{
    const awq_tensor *t = awq_tensors_find(f->want, tensor);
    float *want;
    double worst = 0;
    int64_t i;
    if (!t || t->bytes != (uint64_t)n * 4) return 1e30;
    want = (float *)malloc((size_t)n * sizeof *want);
    if (awq_tensors_read_float(ctx, f->want, t, 0, n, want)) worst = 1e30;
    for (i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= worst)) worst = d;
    }
    free(want);
    return worst;
}

/* logits of every token of a fresh session, to be freed */
static float *feed_all(awq_ctx *ctx, const fixture *f, const int32_t *ids, int64_t n, int64_t chunk)
{
    float *logits = (float *)malloc((size_t)(n * f->vocab) * sizeof *logits);
    awq_session *s = NULL;
    awq_feed_desc d;
    memset(&d, 0, sizeof d);
    memset(logits, 0xff, (size_t)(n * f->vocab) * sizeof *logits);
    d.chunk = chunk;
    d.all_logits = logits;
    CHECK_MSG(open_session(ctx, f->model, n, &s) == AWQ_OK, "%s: %s", f->name, ctx->err.text);
    if (s) CHECK_MSG(awq_session_feed(ctx, s, ids, n, &d, NULL) == AWQ_OK, "%s: %s", f->name, ctx->err.text);
    close_session(ctx, s);
    return logits;
}

typedef struct taps {
    awq_ctx *ctx;
    const fixture *f;
    double worst;
    int calls;
} taps;

static void on_tap(void *user, awq_tap_point point, int layer, const float *data, int64_t n, int64_t width)
{
    taps *t = (taps *)user;
    char name[32];
    int i = point == AWQ_TAP_EMBED ? 0 : point == AWQ_TAP_LAYER ? layer + 1 : t->f->layers;
    double d;
    t->calls++;
    CHECK(n == t->f->n_short && width == t->f->hidden);
    if (point == AWQ_TAP_LAYER && i == t->f->layers) return; /* the reference has it after the norm only */
    snprintf(name, sizeof name, "hidden_short.%d", i);
    d = difference(t->ctx, t->f, name, data, n * width);
    CHECK_MSG(d <= 2e-4, "%s: %s differs by %g", t->f->name, name, d);
    if (d > t->worst) t->worst = d;
}

static void test_reference(void)
{
    int k;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    worst_logit = worst_hidden = 0;
    for (k = 0; k < N_FIXTURES; k++) {
        awq_ctx ctx;
        fixture f;
        memset(&ctx, 0, sizeof ctx);
        if (!fixture_open(&ctx, &f, fixtures[k])) CHECK_MSG(0, "%s: %s", fixtures[k], ctx.err.text);
        else {
            float *a = feed_all(&ctx, &f, f.short_ids, f.n_short, 0),
                  *b = feed_all(&ctx, &f, f.long_ids, f.n_long, 0);
            double da = difference(&ctx, &f, "logits_short", a, f.n_short * f.vocab);
            double db = difference(&ctx, &f, "logits_long", b, f.n_long * f.vocab);
            float *last = (float *)malloc((size_t)f.vocab * sizeof *last);
            awq_session *s = NULL;
            awq_feed_desc d;
            taps t;
            int i;
            CHECK_MSG(da <= 2e-4 && db <= 2e-4, "%s: logits differ by %g, %g", f.name, da, db);
            worst_logit = AWQ__MAX(worst_logit, AWQ__MAX(da, db));
            memset(&d, 0, sizeof d);
            t.ctx = &ctx, t.f = &f, t.worst = 0, t.calls = 0;
            d.tap = on_tap;
            d.user = &t;
            CHECK(open_session(&ctx, f.model, f.n_short + GREEDY, &s) == AWQ_OK);
            CHECK(awq_session_feed(&ctx, s, f.short_ids, f.n_short, &d, last) == AWQ_OK);
            CHECK(t.calls == f.layers + 2);
            CHECK_MSG(!memcmp(last, a + (f.n_short - 1) * f.vocab, (size_t)f.vocab * sizeof *last),
                      "%s: logits and all_logits", f.name);
            worst_hidden = AWQ__MAX(worst_hidden, t.worst);
            for (i = 0; i < GREEDY; i++) {
                int32_t id = awq__argmax(last, f.vocab);
                CHECK_MSG(id == f.greedy[i], "%s: greedy token %d is %d, not %d", f.name, i, id, f.greedy[i]);
                if (awq_session_feed(&ctx, s, &f.greedy[i], 1, NULL, last)) break;
            }
            CHECK(i == GREEDY && awq_session_position(s) == f.n_short + GREEDY);
            close_session(&ctx, s);
            free(last);
            free(a);
            free(b);
        }
        fixture_close(&ctx, &f);
    }
    printf("    largest difference: logits %.3g, hidden states %.3g\n", worst_logit, worst_hidden);
}

static void test_same_bits(void)
{
    static const int chunks[] = {1, 7, 64}, threads[] = {1, 2, 7};
    static const awq_isa isas[] = {AWQ_ISA_SCALAR, AWQ_ISA_AVX2, AWQ_ISA_AVX512};
    int k, i;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    printf("    this machine has %s\n", awq_isa_name(awq_best_isa()));
    for (k = 0; k < N_FIXTURES; k++) {
        awq_ctx ctx;
        fixture f;
        memset(&ctx, 0, sizeof ctx);
        if (!fixture_open(&ctx, &f, fixtures[k])) CHECK_MSG(0, "%s: %s", fixtures[k], ctx.err.text);
        else {
            float *want = feed_all(&ctx, &f, f.long_ids, f.n_long, 0);
            size_t bytes = (size_t)(f.n_long * f.vocab) * sizeof(float);
            for (i = 0; i < 9; i++) {
                awq_pool *pool = NULL;
                float *got;
                ctx.isa = i >= 3 && i < 6 ? isas[i - 3] : AWQ_ISA_AUTO;
                if (i >= 6) {
                    CHECK(awq_pool_create(&ctx, threads[i - 6], &pool) == AWQ_OK);
                    ctx.jobs = awq_pool_jobs(pool);
                }
                got = feed_all(&ctx, &f, f.long_ids, f.n_long, i < 3 ? chunks[i] : 0);
                CHECK_MSG(!memcmp(got, want, bytes), "%s: case %d gives other bits", f.name, i);
                free(got);
                memset(&ctx.jobs, 0, sizeof ctx.jobs);
                awq_pool_free(&ctx, pool);
            }
            free(want);
        }
        fixture_close(&ctx, &f);
    }
}

/* --- without data */
static const int32_t tiny_ids[20] = {1, 5, 95, 0, 17, 33, 42, 42, 7, 80, 3, 61, 12, 90, 26, 54, 9, 71, 38, 2};

static void test_session(void)
{
    tiny t;
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_session *s = NULL;
    awq_feed_desc d;
    float all[20 * 96], got[96], again[96];
    int32_t bad[3] = {1, 96, 2};
    int i;
    tiny_llama(&t);
    ctx = tiny_ctx(&t);
    memset(&d, 0, sizeof d);
    CHECK_MSG(awq_model_load(&ctx, "m", NULL, &m) == AWQ_OK, "%s", ctx.err.text);
    CHECK(!awq_model_tokenizer(m) && awq_model_config(m)->vocab_size == 96);
    CHECK(awq_model_bytes(m) > awq_model_linear_bytes(m) && awq_model_linear_bytes(m) > 96 * 64 * 2);
    CHECK(open_session(&ctx, m, -1, &s) == AWQ_E_ARG && !s);
    CHECK(open_session(&ctx, m, 20, &s) == AWQ_OK && awq_session_position(s) == 0);
    d.all_logits = all;
    CHECK(awq_session_feed(&ctx, s, tiny_ids, 20, &d, got) == AWQ_OK && awq_session_position(s) == 20);
    CHECK(!memcmp(got, all + 19 * 96, sizeof got));
    CHECK(awq_session_feed(&ctx, s, tiny_ids, 1, NULL, again) == AWQ_E_LIMIT && awq_session_position(s) == 20);
    CHECK_MSG(strstr(ctx.err.text, "room for 20 tokens; 20 are there and 1 more came") != NULL, "%s",
              ctx.err.text);
    CHECK(awq_session_rewind(&ctx, s, 21) == AWQ_E_ARG && awq_session_rewind(&ctx, s, -1) == AWQ_E_ARG);
    CHECK(strstr(ctx.err.text, "position -1, the session holds 20 tokens") && awq_session_position(s) == 20);
    for (i = 19; i >= 0; i -= 6) { /* from any position on the same bits as at once */
        CHECK(awq_session_rewind(&ctx, s, i) == AWQ_OK && awq_session_position(s) == i);
        memset(again, 0, sizeof again);
        CHECK(awq_session_feed(&ctx, s, tiny_ids + i, 20 - i, NULL, again) == AWQ_OK);
        CHECK_MSG(!memcmp(again, got, sizeof got), "from %d", i);
    }
    CHECK(awq_session_rewind(&ctx, s, 0) == AWQ_OK);
    CHECK(awq_session_feed(&ctx, s, tiny_ids, 0, NULL, got) == AWQ_E_ARG);
    CHECK(awq_session_feed(&ctx, s, tiny_ids, -1, NULL, got) == AWQ_E_ARG);
    CHECK(awq_session_feed(&ctx, s, tiny_ids, 21, NULL, got) == AWQ_E_LIMIT);
    d.chunk = 1; /* the bad id comes in the second chunk: what the first one put in is gone again */
    d.all_logits = NULL;
    CHECK(awq_session_feed(&ctx, s, bad, 3, &d, got) == AWQ_E_ARG && awq_session_position(s) == 0);
    CHECK_MSG(strstr(ctx.err.text, "token id 96 is outside the model's vocabulary of 96") != NULL, "%s",
              ctx.err.text);
    bad[1] = -1;
    CHECK(awq_session_feed(&ctx, s, bad, 3, NULL, got) == AWQ_E_ARG && awq_session_position(s) == 0);
    close_session(&ctx, s);
    s = NULL;
    CHECK(open_session(&ctx, m, 0, &s) == AWQ_OK); /* max_position_embeddings = 128 */
    for (i = 0; i < 6; i++) CHECK(awq_session_feed(&ctx, s, tiny_ids, 20, NULL, NULL) == AWQ_OK);
    CHECK(awq_session_feed(&ctx, s, tiny_ids, 9, NULL, NULL) == AWQ_E_LIMIT);
    CHECK(awq_session_feed(&ctx, s, tiny_ids, 8, NULL, NULL) == AWQ_OK && awq_session_position(s) == 128);
    close_session(&ctx, s);
    close_session(&ctx, NULL);
    awq_model_free(&ctx, m);
    awq_model_free(&ctx, NULL);
    CHECK(ctx.memory_used == 0);
    tiny_free(&t);
}

/* last logits of tiny_ids */
static awq_status tiny_run(awq_ctx *ctx, const awq_model_desc *desc, int64_t chunk, float *logits)
{
    awq_model *m = NULL;
    awq_session *s = NULL;
    awq_feed_desc d;
    awq_status st = awq_model_load(ctx, "m", desc, &m);
    memset(&d, 0, sizeof d);
    d.chunk = chunk;
    CHECK(!st == !!m);
    if (!st) st = open_session(ctx, m, 20, &s);
    if (!st) st = awq_session_feed(ctx, s, tiny_ids, 20, &d, logits);
    close_session(ctx, s);
    awq_model_free(ctx, m);
    return st;
}

/* rounding while loading is the same as loading what was rounded; chunks, instruction sets, threads: same bits
 */
static void test_tiny_bits(void)
{
    static const awq_isa isas[] = {AWQ_ISA_AUTO, AWQ_ISA_SCALAR, AWQ_ISA_AVX2, AWQ_ISA_AVX512};
    int k, i;
    for (k = 0; k < 3; k++) { /* dense, rounded while loading, stored rounded */
        tiny t;
        awq_ctx ctx;
        awq_model_desc d;
        float want[96], got[96];
        static float rounded[96];
        tiny_llama(&t);
        ctx = tiny_ctx(&t);
        memset(&d, 0, sizeof d);
        if (k == 1) d.rtn_bits = 4, d.rtn_group_size = 32;
        if (k == 2) {
            CHECK(tiny_quantize(&t, &ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL) == AWQ_OK);
            tiny_set(&t, "quantization_config", "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 32, "
                     "\"version\": \"gemm\", \"zero_point\": true}");
            ctx = tiny_ctx(&t);
        }
        CHECK_MSG(tiny_run(&ctx, &d, 0, want) == AWQ_OK, "%d: %s", k, ctx.err.text);
        if (k == 1) memcpy(rounded, want, sizeof want);
        if (k == 2) CHECK(!memcmp(rounded, want, sizeof want));
        for (i = 0; i < 12; i++) {
            awq_pool *pool = NULL;
            CHECK(awq_pool_create(&ctx, 1 + i % 3 * 3, &pool) == AWQ_OK);
            ctx.jobs = awq_pool_jobs(pool);
            ctx.isa = isas[i % 4];
            CHECK(tiny_run(&ctx, &d, i, got) == AWQ_OK);
            CHECK_MSG(!memcmp(got, want, sizeof want), "%d, %d", k, i);
            memset(&ctx.jobs, 0, sizeof ctx.jobs);
            awq_pool_free(&ctx, pool);
        }
        CHECK(ctx.memory_used == 0);
        tiny_free(&t);
    }
}

static int stop_at_once(void *user, const awq_progress *p)
{
    (void)user;
    return p->done == 1 && p->total == 1 && !strcmp(p->stage, "load");
}

static void test_refused(void)
{
    tiny t;
    tiny_tensor *x;
    awq_ctx ctx;
    awq_model_desc d;
    float got[96];
    size_t i;
    memset(&d, 0, sizeof d);
    tiny_llama(&t);
    ctx = tiny_ctx(&t);
    d.rtn_bits = 9;
    CHECK(tiny_run(&ctx, &d, 0, got) == AWQ_E_ARG && strstr(ctx.err.text, "rtn_bits is 9"));
    d.rtn_bits = 4;
    d.rtn_group_size = 48;
    CHECK(tiny_run(&ctx, &d, 0, got) == AWQ_E_ARG);
    memset(&d, 0, sizeof d);
    ctx.progress = stop_at_once;
    CHECK(tiny_run(&ctx, &d, 0, got) == AWQ_E_CANCELLED && ctx.memory_used == 0);
    ctx.progress = NULL;
    ctx.memory_limit = 100000;
    CHECK(tiny_run(&ctx, &d, 0, got) == AWQ_E_MEMORY && strstr(ctx.err.text, "memory_limit is 100000"));
    ctx.memory_limit = 0;
    t.list.count = 0;
    CHECK(tiny_run(&ctx, &d, 0, got) == AWQ_E_IO);
    for (i = 0; i < 3; i++) { /* NaN in the embedding, a linear, a norm */
        static const char *const names[] = {"model.embed_tokens.weight",
                                            "model.layers.0.self_attn.q_proj.weight", "model.norm.weight"};
        uint16_t *h = (uint16_t *)tiny_find(&t, names[i])->data, keep = h[5];
        h[5] = 0x7e00;
        ctx = tiny_ctx(&t);
        CHECK_MSG(tiny_run(&ctx, &d, 0, got) == AWQ_E_NUMERIC && strstr(ctx.err.text, names[i])
                  && strstr(ctx.err.text, "element 5"), "%s", ctx.err.text);
        h[5] = keep;
    }
    x = tiny_find(&t, "model.layers.0.self_attn.v_proj.weight"); /* finite weights whose products are not */
    tiny_resize(x, AWQ_F32, 2, 32, 64);
    for (i = 0; i < 32 * 64; i++) ((float *)x->data)[i] = 3e38f;
    ctx = tiny_ctx(&t);
    CHECK_MSG(tiny_run(&ctx, &d, 0, got) == AWQ_E_NUMERIC && strstr(ctx.err.text, "layer 0"), "%s",
              ctx.err.text);
    CHECK(ctx.memory_used == 0);
    tiny_free(&t);
}

static void test_failures(void)
{
    int quantized;
    for (quantized = 0; quantized < 2; quantized++) {
        tiny t;
        awq_model_desc d;
        float want[96], got[96];
        int reached = 1;
        long k;
        tiny_llama(&t);
        memset(&d, 0, sizeof d);
        d.rtn_bits = quantized ? 4 : 0;
        for (k = -1; reached; k++) {
            fail_alloc f = {0, 0, 0};
            awq_ctx ctx = tiny_ctx(&t);
            awq_status st;
            f.fail_at = k;
            ctx.allocator = fail_allocator(&f);
            if (k & 1) ctx.files.map = NULL; /* weights read, not mapped */
            st = tiny_run(&ctx, &d, 0, k < 0 ? want : got);
            reached = k < 0 || f.calls > k;
            CHECK_MSG(st == (k >= 0 && reached ? AWQ_E_MEMORY : AWQ_OK), "%ld: %s", k, ctx.err.text);
            CHECK(f.live == 0 && ctx.memory_used == 0);
        }
        CHECK(k > 10 && !memcmp(want, got, sizeof got));
        tiny_free(&t);
    }
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_session);
    RUN(test_tiny_bits);
    RUN(test_refused);
    RUN(test_failures);
    RUN(test_reference);
    RUN(test_same_bits);
    return TEST_END();
}
