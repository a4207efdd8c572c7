/* model: logits, hidden states and greedy tokens of the reference checkpoints; the same bits for every chunk
   size, instruction set and number of threads; sessions at their limits. With AWQ_TEST_DATA the reference's
   numbers. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

static const char *const fixtures[] = {
    "cohere", "deepseek_v2", "deepseek_v3", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3", "glm4",
    "glm4_moe", "gpt_oss", "granite", "granitemoe", "hunyuan_dense", "llama_awq_gemm",
    "llama_awq_gemv", "llama_awq_gemv_fast", "llama_bias_fp32", "llama_ct_pack_asym_fp16",
    "llama_ct_pack_sym_bf16", "llama_gqa", "llama_headdim", "llama_rope_dynamic", "llama_rope_linear",
    "llama_rope_llama3", "llama_rope_yarn", "llama_tied", "mistral", "mixtral", "mixtral_awq_gemm",
    "olmo2", "olmo3", "olmoe", "phi3", "phi3_longrope", "qwen2", "qwen2_awq_gemm", "qwen2_moe",
    "qwen2_swa", "qwen3", "qwen3_awq_gemm", "qwen3_moe", "seed_oss", "smollm3", "stablelm",
    "starcoder2"};
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

/* desc NULL: exact mode */
static int fixture_open(awq_ctx *ctx, fixture *f, const char *name, const awq_model_desc *desc)
{
    char path[1024];
    awq__json j;
    const awq_config *c;
    awq_model_desc exact;
    memset(&exact, 0, sizeof exact);
    exact.mode = AWQ_MODE_EXACT;
    memset(f, 0, sizeof *f);
    memset(&j, 0, sizeof j);
    f->name = name;
    snprintf(path, sizeof path, "%s/fixtures/models/%s", TEST_DATA(), name);
    if (awq_model_load(ctx, path, desc ? desc : &exact, &f->model)) return 0;
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

static const int32_t *read_long(const char *name) /* ids that every fixture's vocabulary has */
{
    static int32_t ids[60];
    int i;
    for (i = 0; i < 60; i++) ids[i] = (i * 37 + (int)name[0]) % 300;
    return ids;
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
    int k, bad;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    worst_logit = worst_hidden = 0;
    for (k = 0; k < N_FIXTURES; k++) {
        awq_ctx ctx;
        fixture f;
        memset(&ctx, 0, sizeof ctx);
        bad = T.bad;
        if (!fixture_open(&ctx, &f, fixtures[k], NULL)) CHECK_MSG(0, "%s: %s", fixtures[k], ctx.err.text);
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
        if (T.bad == bad) printf("family %s runs\n", fixtures[k]); /* tests/peers/table.py reads these */
        fixture_close(&ctx, &f);
    }
    printf("    largest difference: logits %.3g, hidden states %.3g\n", worst_logit, worst_hidden);
}

/* chunks, instruction sets and threads give the same bits: exact, and rounded to 4 bits in integer arithmetic */
static void test_same_bits(void)
{
    static const int chunks[] = {1, 7, 64}, threads[] = {1, 2, 7};
    int k, i, n_isa = (int)awq_best_isa();
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    printf("    this machine has %s\n", awq_isa_name(awq_best_isa()));
    for (k = 0; k < 2 * N_FIXTURES; k += TEST_STRIDE) {
        awq_ctx ctx;
        fixture f;
        awq_model_desc d;
        memset(&ctx, 0, sizeof ctx);
        memset(&d, 0, sizeof d);
        d.mode = k & 1 ? AWQ_MODE_DETERMINISTIC : AWQ_MODE_EXACT;
        d.rtn_bits = k & 1 ? 4 : 0;
        d.rtn_group_size = k & 2 ? 16 : -1;
        d.head_bits = k & 1 ? 8 : 0;
        if (!fixture_open(&ctx, &f, fixtures[k / 2], &d)) CHECK_MSG(0, "%s: %s", fixtures[k / 2], ctx.err.text);
        else {
            float *want = feed_all(&ctx, &f, f.long_ids, f.n_long, 0);
            size_t bytes = (size_t)(f.n_long * f.vocab) * sizeof(float);
            for (i = 0; i < 6 + n_isa; i++) {
                awq_pool *pool = NULL;
                float *got;
                if (i >= 6) ctx.isa = (awq_isa)(i - 5);
                else if (i >= 3) {
                    CHECK(awq_pool_create(&ctx, threads[i - 3], &pool) == AWQ_OK);
                    ctx.jobs = awq_pool_jobs(pool);
                }
                got = feed_all(&ctx, &f, f.long_ids, f.n_long, i < 3 ? chunks[i] : 0);
                CHECK_MSG(!memcmp(got, want, bytes), "%s, %s: case %d gives other bits", f.name, awq_mode_name(d.mode), i);
                free(got);
                memset(&ctx.jobs, 0, sizeof ctx.jobs);
                awq_pool_free(&ctx, pool);
            }
            free(want);
        }
        fixture_close(&ctx, &f);
    }
}

/* the file system of the machine, with config.v4.json in the place of config.json */
static int open_v4(void *user, const char *path, int for_write, void **file)
{
    char v4[1024];
    size_t n = strlen(path);
    if (n < 11 || strcmp(path + n - 11, "config.json") || (n > 18 && !strcmp(path + n - 22, "generation_config.json")))
        return awq__os_open(user, path, for_write, file);
    snprintf(v4, sizeof v4, "%.*sconfig.v4.json", (int)(n - 11), path);
    return awq__os_open(user, v4, for_write, file);
}

/* config.v4.json gives the same model; so does reading without maps; memory is what was told */
static void test_dialects(void)
{
    double worst = 0;
    int k, v;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    for (k = 0; k < N_FIXTURES; k++) {
        uint64_t hash = 0;
        for (v = 0; v < 4; v++) { /* as it is; v4; not mapped; rounded while loading */
            char path[1024];
            awq_model_desc md;
            awq_memory told;
            awq_runner_desc rd;
            awq_session_desc sd;
            awq_model *m = NULL;
            awq_runner *r = NULL;
            awq_session *s = NULL;
            awq_ctx ctx;
            double loading, all;
            memset(&ctx, 0, sizeof ctx);
            memset(&md, 0, sizeof md);
            memset(&rd, 0, sizeof rd);
            memset(&sd, 0, sizeof sd);
            ctx.files = *awq__fs(&ctx);
            if (v == 1) ctx.files.open = open_v4;
            if (v >= 2) ctx.files.map = NULL;
            if (v == 3) md.rtn_bits = 4, md.rtn_group_size = k % 2 ? -1 : 16, md.head_bits = k % 3 ? 8 : 0;
            rd.max_rows = 24;
            sd.max_tokens = 100;
            snprintf(path, sizeof path, "%s/fixtures/models/%s", TEST_DATA(), fixtures[k]);
            CHECK_MSG(awq_memory_needed(&ctx, path, &md, &rd, &sd, 1, &told) == AWQ_OK, "%s: %s", fixtures[k],
                      ctx.err.text);
            ctx.memory_peak = 0;
            CHECK_MSG(awq_model_load(&ctx, path, &md, &m) == AWQ_OK, "%s: %s", fixtures[k], ctx.err.text);
            if (!m) continue;
            loading = (double)ctx.memory_peak;
            if (v == 0) hash = awq_model_hash(m);
            if (v < 3) CHECK_MSG(awq_model_hash(m) == hash, "%s, %d: another hash", fixtures[k], v);
            else CHECK_MSG((awq_model_hash(m) == hash)
                               == (!md.head_bits && (strstr(fixtures[k], "awq") || strstr(fixtures[k], "_ct_"))),
                           "%s: rounded, but the same hash", fixtures[k]);
            CHECK(awq_runner_create(&ctx, m, &rd, &r) == AWQ_OK && awq_session_create(&ctx, r, &sd, &s) == AWQ_OK);
            all = (double)ctx.memory_used;
            CHECK_MSG(loading <= (double)told.loading && (double)told.loading <= 1.5 * loading + 1e6,
                      "%s, %d: %.0f bytes told for loading, %.0f taken", fixtures[k], v, (double)told.loading, loading);
            CHECK_MSG(all <= (double)(told.model + told.runner + told.session)
                          && (double)(told.model + told.runner + told.session) <= 1.5 * all + 1e6,
                      "%s, %d: %.0f bytes told, %.0f taken", fixtures[k], v,
                      (double)(told.model + told.runner + told.session), all);
            worst = AWQ__MAX(worst, (double)(told.model + told.runner + told.session) - all);
            if (s) CHECK(awq_session_feed(&ctx, s, read_long(fixtures[k]), 60, NULL, NULL) == AWQ_OK);
            awq_session_free(&ctx, s);
            awq_runner_free(&ctx, r);
            awq_model_free(&ctx, m);
            CHECK(ctx.memory_used == 0);
        }
    }
    printf("    memory: at most %.0f bytes more told than taken\n", worst);
}

/* Answers of several sessions on one runner, in slices of a microsecond, among them one that leaves in the
   middle: each says what it says alone, and what transformers says. */
static void test_together(void)
{
    enum { N = 4 };
    int k, i;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    for (k = 0; k < N_FIXTURES; k++) {
        awq_ctx ctx;
        fixture f;
        memset(&ctx, 0, sizeof ctx);
        if (!fixture_open(&ctx, &f, fixtures[k], NULL)) CHECK_MSG(0, "%s: %s", fixtures[k], ctx.err.text);
        else {
            awq_runner_desc rd;
            awq_session_desc sd;
            awq_runner *r = NULL;
            awq_session *s[N];
            awq_generate_desc d[N];
            int32_t out[N][GREEDY];
            memset(&rd, 0, sizeof rd);
            memset(&sd, 0, sizeof sd);
            rd.max_rows = 40;
            sd.max_tokens = 128;
            CHECK(awq_runner_create(&ctx, f.model, &rd, &r) == AWQ_OK);
            for (i = 0; i < N; i++) {
                memset(&d[i], 0, sizeof d[i]);
                d[i].ids = i % 2 ? f.long_ids : f.short_ids;
                d[i].n_ids = i % 2 ? 30 + i : f.n_short;
                d[i].max_tokens = GREEDY;
                d[i].ignore_eos = 1;
                d[i].out_ids = out[i];
                CHECK(awq_session_create(&ctx, r, &sd, &s[i]) == AWQ_OK);
                CHECK_MSG(awq_ask(&ctx, s[i], &d[i]) == AWQ_OK, "%s", ctx.err.text);
            }
            for (i = 0; awq_session_busy(s[0]) || awq_session_busy(s[2]) || awq_session_busy(s[3]); i++) {
                if (i == 40) awq_session_stop(&ctx, s[1]);
                if (awq_step(&ctx, r, NULL, 0, i < 100 ? 1 : 200, NULL)) break;
            }
            CHECK_MSG(!memcmp(out[0], f.greedy, sizeof out[0]) && !memcmp(out[2], f.greedy, sizeof out[2]),
                      "%s: not the reference's tokens", f.name);
            for (i = 0; i < N; i++) awq_session_free(&ctx, s[i]);
            awq_runner_free(&ctx, r);
            memcpy(out[1], out[3], sizeof out[1]);
            d[3].out_ids = out[3];
            CHECK(awq_generate(&ctx, f.model, &d[3], NULL) == AWQ_OK);
            CHECK_MSG(!memcmp(out[1], out[3], sizeof out[1]), "%s: alone it says something else", f.name);
        }
        fixture_close(&ctx, &f);
    }
}

/* Rope that depends on the text's length: a text read in parts is computed anew when it grows long, a prefix of
   short texts is not taken for a long one, saved and forked sessions keep theirs. */
static void test_lengths(void)
{
    static const char *const names[] = {"llama_rope_dynamic", "phi3_longrope"};
    int k;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    for (k = 0; k < 2; k++) {
        awq_ctx ctx;
        fixture f;
        memset(&ctx, 0, sizeof ctx);
        if (!fixture_open(&ctx, &f, names[k], NULL)) CHECK_MSG(0, "%s: %s", names[k], ctx.err.text);
        else {
            size_t row = (size_t)f.vocab, bytes = row * sizeof(float);
            float *whole = feed_all(&ctx, &f, f.long_ids, f.n_long, 7), *last = (float *)malloc(bytes);
            float *head = feed_all(&ctx, &f, f.long_ids, 40, 7);
            awq_session *s = NULL, *copy = NULL;
            awq_runner *r;
            char *saved;
            CHECK(open_session(&ctx, f.model, f.n_long + 8, &s) == AWQ_OK);
            r = s->runner;
            CHECK(awq_session_feed(&ctx, s, f.long_ids, 40, NULL, last) == AWQ_OK);
            CHECK(!memcmp(last, head + 39 * row, bytes) && s->kv.length == 0);
            CHECK(awq_session_feed(&ctx, s, f.long_ids + 40, f.n_long - 40, NULL, last) == AWQ_OK);
            CHECK_MSG(!memcmp(last, whole + (size_t)(f.n_long - 1) * row, bytes), "%s: in two parts", f.name);
            CHECK(s->kv.length == (k ? 65 : f.n_long));
            saved = (char *)malloc(awq_session_bytes(s));
            CHECK(awq_session_save(&ctx, s, saved, awq_session_bytes(s)) == AWQ_OK);
            CHECK(awq_session_fork(&ctx, s, NULL, &copy) == AWQ_OK && copy->kv.length == s->kv.length);
            CHECK(awq_session_rewind(&ctx, s, 32) == AWQ_OK);
            CHECK(awq_session_feed(&ctx, s, f.long_ids + 32, 8, NULL, last) == AWQ_OK);
            CHECK_MSG(!memcmp(last, head + 39 * row, bytes), "%s: short again", f.name);
            CHECK(awq_session_restore(&ctx, s, saved, awq_session_bytes(copy), NULL) == AWQ_OK);
            CHECK(s->kv.length == copy->kv.length && s->kv.len == copy->kv.len);
            awq_session_free(&ctx, copy);
            awq_session_free(&ctx, s);
            awq_runner_free(&ctx, r);
            free(saved);
            free(whole);
            free(head);
            free(last);
        }
        fixture_close(&ctx, &f);
    }
}

/* every allocation of loading and running layers with experts, latent attention, turned and fused weights */
static void test_failures_of_families(void)
{
    static const char *const names[] = {"deepseek_v3", "gpt_oss", "mixtral_awq_gemm", "phi3", "stablelm"};
    int k;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    for (k = 0; k < 10; k++) {
        char path[1024];
        long at = -1, reached;
        snprintf(path, sizeof path, "%s/fixtures/models/%s", TEST_DATA(), names[k / 2]);
        do {
            fail_alloc f = {at++, 0, 0};
            awq_ctx ctx;
            awq_model_desc d;
            awq_model *m = NULL;
            awq_session *s = NULL;
            awq_status st;
            memset(&ctx, 0, sizeof ctx);
            memset(&d, 0, sizeof d);
            ctx.files = *awq__fs(&ctx);
            if (k & 1) ctx.files.map = NULL, d.rtn_bits = 4;
            ctx.allocator = fail_allocator(&f);
            st = awq_model_load(&ctx, path, &d, &m);
            if (!st) st = open_session(&ctx, m, 40, &s);
            if (!st) st = awq_session_feed(&ctx, s, read_long("a"), 40, NULL, NULL);
            close_session(&ctx, s);
            awq_model_free(&ctx, m);
            reached = f.fail_at < 0 || f.calls > f.fail_at;
            CHECK_MSG(st == (f.fail_at >= 0 && reached ? AWQ_E_MEMORY : AWQ_OK), "%s %ld: %s", path, f.fail_at,
                      ctx.err.text);
            CHECK(f.live == 0 && ctx.memory_used == 0);
        } while (reached);
        CHECK(at > 20);
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
    CHECK_MSG(load_deterministic(&ctx, "m", &m) == AWQ_OK, "%s", ctx.err.text);
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

/* a config that contradicts its tensors is loaded only when told which to believe */
static void test_disagreement(void)
{
    tiny t;
    awq_ctx ctx;
    awq_model_desc d;
    awq_model *m = NULL;
    tiny_llama(&t);
    ctx = tiny_ctx(&t);
    CHECK(tiny_quantize(&t, &ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL) == AWQ_OK);
    tiny_set(&t, "quantization_config", "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 64, "
             "\"version\": \"gemm\", \"zero_point\": true}");
    ctx = tiny_ctx(&t);
    memset(&d, 0, sizeof d);
    CHECK(awq_model_load(&ctx, "m", &d, &m) == AWQ_E_FORMAT && !m);
    CHECK_MSG(strstr(ctx.err.text, "group_size 64") && strstr(ctx.err.text, "group_size 32")
                  && strstr(ctx.err.text, "believe_tensors"), "%s", ctx.err.text);
    d.believe_tensors = 1;
    CHECK_MSG(awq_model_load(&ctx, "m", &d, &m) == AWQ_OK && m, "%s", ctx.err.text);
    awq_model_free(&ctx, m);
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
/* every field says something to the hash, but those that do not change what is computed */
static void test_config_hash(void)
{
    static const struct {
        size_t at, bytes;
    } left_out[] = {
#define FIELD(f) {offsetof(awq_config, f), sizeof((awq_config *)0)->f}
        FIELD(family), FIELD(prefix), FIELD(max_position_embeddings), FIELD(tie_word_embeddings), FIELD(experts_split),
        FIELD(dtype), FIELD(bos_token_id), FIELD(eos_token_id), FIELD(n_eos)
#undef FIELD
    };
    awq_config c;
    unsigned char *p = (unsigned char *)&c;
    size_t i, k, deaf = 0;
    uint64_t hash;
    memset(&c, 0, sizeof c);
    hash = awq__hash_config(&c);
    for (i = 0; i < sizeof c; i++) {
        int out = 0;
        for (k = 0; k < sizeof left_out / sizeof left_out[0]; k++)
            out |= i >= left_out[k].at && i < left_out[k].at + left_out[k].bytes;
        p[i] = 1;
        CHECK_MSG(!out || awq__hash_config(&c) == hash, "byte %d", (int)i);
        deaf += !out && awq__hash_config(&c) == hash;
        p[i] = 0;
    }
    CHECK_MSG(sizeof(void *) == 8 ? deaf == 52 : deaf <= 52, "%d bytes", (int)deaf); /* nothing but padding */
}

static void test_tiny_bits(void)
{
    static const awq_isa isas[] = {AWQ_ISA_AUTO, AWQ_ISA_SCALAR, AWQ_ISA_AVX2,
                                   AWQ_ISA_AVX512, AWQ_ISA_NEON, AWQ_ISA_NEON_DOT};
    static const uint64_t hashes[] = {/* of the logits, on every processor */
                                      0x67d1990a79affd55ull, 0xcbde4ffea890c5d6ull, 0xcbde4ffea890c5d6ull,
                                      0xacf611aeb3fae371ull, 0x046955a4082865c1ull, 0x046955a4082865c1ull};
    int k, i;
    for (k = 0; k < 6; k++) { /* dense, rounded while loading, stored rounded; exact and deterministic */
        tiny t;
        awq_ctx ctx;
        awq_model_desc d;
        float want[96], got[96];
        static float rounded[96];
        uint64_t hash;
        tiny_llama(&t);
        ctx = tiny_ctx(&t);
        memset(&d, 0, sizeof d);
        d.mode = k < 3 ? AWQ_MODE_EXACT : AWQ_MODE_DETERMINISTIC;
        if (k % 3 == 1) d.rtn_bits = 4, d.rtn_group_size = 32;
        if (k % 3 == 2) {
            CHECK(tiny_quantize(&t, &ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL) == AWQ_OK);
            tiny_set(&t, "quantization_config", "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 32, "
                     "\"version\": \"gemm\", \"zero_point\": true}");
            ctx = tiny_ctx(&t);
        }
        CHECK_MSG(tiny_run(&ctx, &d, 0, want) == AWQ_OK, "%d: %s", k, ctx.err.text);
        hash = awq__hash_numbers(awq__fnv, AWQ__FNV, want, 96, sizeof(float));
        CHECK_MSG(hash == hashes[k], "%d: 0x%016llxull", k, (unsigned long long)hash);
        if (k % 3 == 1) memcpy(rounded, want, sizeof want);
        if (k % 3 == 2) CHECK(!memcmp(rounded, want, sizeof want));
        for (i = 0; i < 12; i++) {
            awq_pool *pool = NULL;
            CHECK(awq_pool_create(&ctx, 1 + i / 2 % 3 * 3, &pool) == AWQ_OK);
            ctx.jobs = awq_pool_jobs(pool);
            ctx.isa = isas[i % 6];
            CHECK(tiny_run(&ctx, &d, i, got) == AWQ_OK);
            CHECK_MSG(!memcmp(got, want, sizeof want), "%d, %d", k, i);
            memset(&ctx.jobs, 0, sizeof ctx.jobs);
            awq_pool_free(&ctx, pool);
        }
        CHECK(ctx.memory_used == 0);
        tiny_free(&t);
    }
}

/* the rows of two or three tensors as one */
static void fuse(tiny *t, const char *name, const char *const *parts, int n)
{
    tiny_tensor *all;
    int64_t rows = 0, in = 0;
    size_t at = 0;
    int i;
    for (i = 0; i < n; i++) rows += tiny_find(t, parts[i])->shape[0], in = tiny_find(t, parts[i])->shape[1];
    all = tiny_add(t, name, AWQ_F16, 2, rows, in);
    for (i = 0; i < n; i++) {
        tiny_tensor *x = tiny_find(t, parts[i]);
        memcpy(all->data + at, x->data, x->bytes);
        at += x->bytes;
    }
    for (i = 0; i < n; i++) tiny_remove(t, parts[i]);
}

/* what is stored as rows of one tensor computes as if it were not: phi3 as llama, dense, rounded, packed */
static void test_fused(void)
{
    static const char *const qkv[] = {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
                                      "model.layers.0.self_attn.v_proj.weight"},
                             *const gate_up[] = {"model.layers.0.mlp.gate_proj.weight",
                                                 "model.layers.0.mlp.up_proj.weight"};
    static const struct {
        const char *name;
        int64_t out, in;
    } packed[] = {{"model.layers.0.self_attn.qkv_proj", 128, 64}, {"model.layers.0.self_attn.o_proj", 64, 64},
                  {"model.layers.0.mlp.gate_up_proj", 256, 64}, {"model.layers.0.mlp.down_proj", 64, 128}};
    float want[2][96], got[96];
    awq_model_desc d;
    awq_ctx ctx;
    tiny t;
    int k, i;
    memset(&d, 0, sizeof d);
    for (k = 0; k < 2; k++) {
        tiny_llama(&t);
        ctx = tiny_ctx(&t);
        d.rtn_bits = k ? 4 : 0, d.rtn_group_size = 32;
        CHECK(tiny_run(&ctx, &d, 0, want[k]) == AWQ_OK);
        tiny_set(&t, "model_type", "\"phi3\"");
        fuse(&t, "model.layers.0.self_attn.qkv_proj.weight", qkv, 3);
        fuse(&t, "model.layers.0.mlp.gate_up_proj.weight", gate_up, 2);
        ctx = tiny_ctx(&t);
        CHECK_MSG(tiny_run(&ctx, &d, 0, got) == AWQ_OK, "%s", ctx.err.text);
        CHECK(!memcmp(got, want[k], sizeof got));
        ctx.files.map = NULL;
        CHECK(tiny_run(&ctx, &d, 0, got) == AWQ_OK && !memcmp(got, want[k], sizeof got));
        if (k) break;
        tiny_free(&t);
    }
    for (i = 0; i < 4; i++) {
        char name[160];
        float *dense = (float *)malloc((size_t)(packed[i].out * packed[i].in) * sizeof *dense);
        awq_qweight w;
        awq_packed p;
        snprintf(name, sizeof name, "%s.weight", packed[i].name);
        awq__to_float(AWQ_F16, tiny_find(&t, name)->data, packed[i].out * packed[i].in, dense);
        tiny_remove(&t, name);
        CHECK(awq_qweight_alloc(&ctx, packed[i].out, packed[i].in, 4, 32, 0, &w) == AWQ_OK);
        CHECK(awq_quantize(&ctx, dense, &w) == AWQ_OK && awq_layout_describe(&ctx, AWQ_LAYOUT_GEMM, &w, &p) == AWQ_OK);
        for (k = 0; k < p.n_tensors; k++) {
            snprintf(name, sizeof name, "%s.%s", packed[i].name, p.tensor[k].suffix);
            p.tensor[k].data = tiny_add(&t, name, p.tensor[k].dtype, 2, p.tensor[k].shape[0], p.tensor[k].shape[1])->data;
        }
        CHECK(awq_pack(&ctx, &w, &p) == AWQ_OK);
        awq_qweight_free(&ctx, &w);
        free(dense);
    }
    CHECK(ctx.memory_used == 0);
    tiny_set(&t, "quantization_config", "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 32, "
             "\"version\": \"gemm\", \"zero_point\": true}");
    memset(&d, 0, sizeof d);
    ctx = tiny_ctx(&t);
    CHECK_MSG(tiny_run(&ctx, &d, 0, got) == AWQ_OK, "%s", ctx.err.text);
    CHECK(!memcmp(got, want[1], sizeof got));
    tiny_free(&t);
}

static int stop_at_once(void *user, const awq_progress *p)
{
    (void)user;
    return p->done == 1 && p->total == 1 && !strcmp(p->stage, "load");
}

/* starcoder2 whose activations AutoAWQ divides: with powers of two, and c_proj times them, the same bits */
static void test_activation_scales(void)
{
    static const char *const biases[] = {"model.norm.bias", "model.layers.0.input_layernorm.bias",
                                         "model.layers.0.post_attention_layernorm.bias"};
    float logits[2][96];
    tiny t;
    int i, k, n;
    tiny_llama(&t);
    tiny_set(&t, "model_type", "\"starcoder2\"");
    tiny_set(&t, "use_bias", "false");
    tiny_set(&t, "hidden_act", "\"gelu_pytorch_tanh\"");
    for (i = 0; i < 3; i++) tiny_add(&t, biases[i], AWQ_F16, 1, 64, 0);
    strcpy(tiny_find(&t, "model.layers.0.mlp.up_proj.weight")->name, "model.layers.0.mlp.c_fc.weight");
    strcpy(tiny_find(&t, "model.layers.0.mlp.down_proj.weight")->name, "model.layers.0.mlp.c_proj.weight");
    for (i = 0; i < 2; i++) {
        awq_ctx ctx = tiny_ctx(&t);
        CHECK_MSG(tiny_run(&ctx, NULL, 0, logits[i]) == AWQ_OK, "%s", ctx.err.text);
        if (i) break;
        for (k = 0; k < 128; k++) {
            float by = (float)(1 << k % 4);
            uint16_t *w = (uint16_t *)tiny_find(&t, "model.layers.0.mlp.c_proj.weight")->data;
            for (n = 0; n < 64; n++) w[n * 128 + k] = awq__float_f16(awq__f16_float(w[n * 128 + k]) * by);
            if (!k) tiny_add(&t, "model.layers.0.mlp.act.scales", AWQ_F16, 1, 128, 0);
            ((uint16_t *)tiny_find(&t, "model.layers.0.mlp.act.scales")->data)[k] = awq__float_f16(by);
        }
    }
    CHECK(!memcmp(logits[0], logits[1], sizeof logits[0]) && logits[0][1] != logits[0][2]);
    tiny_free(&t);
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
    RUN(test_disagreement);
    RUN(test_config_hash);
    RUN(test_tiny_bits);
    RUN(test_fused);
    RUN(test_activation_scales);
    RUN(test_refused);
    RUN(test_failures);
    RUN(test_reference);
    RUN(test_same_bits);
    RUN(test_dialects);
    RUN(test_together);
    RUN(test_lengths);
    RUN(test_failures_of_families);
    return TEST_END();
}
