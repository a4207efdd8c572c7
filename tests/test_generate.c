/* generate: sampling one token; stop strings, lengths, end of text and streaming with the demo model, run from
   the repository's root folder. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

#define DEMO "tools/demo/model"

/* --- awq_sample */
static const float five[5] = {1, 3, 3, -2, 2};

static int32_t sample(const awq_sampling *s, const float *logits, int64_t n, uint64_t *state)
{
    awq_ctx ctx;
    float copy[8];
    int32_t id = -1;
    memset(&ctx, 0, sizeof ctx);
    memcpy(copy, logits, (size_t)n * sizeof *copy);
    CHECK_MSG(awq_sample(&ctx, s, copy, n, NULL, 0, state, &id) == AWQ_OK, "%s", ctx.err.text);
    CHECK(ctx.memory_used == 0 && id >= 0 && id < n);
    return id;
}

/* counts[5] of 20000 draws */
static void draw(const awq_sampling *s, const float *logits, int *counts)
{
    uint64_t state = s->seed;
    int i;
    memset(counts, 0, 5 * sizeof *counts);
    for (i = 0; i < 20000; i++) counts[sample(s, logits, 5, &state)]++;
}

static void test_greedy(void)
{
    awq_sampling s;
    uint64_t state = 5;
    float same[5] = {4, 4, 4, 4, 4};
    memset(&s, 0, sizeof s);
    CHECK(sample(&s, five, 5, &state) == 1 && state == 5); /* of equals the lower id; nothing random used */
    CHECK(sample(&s, same, 5, &state) == 0 && sample(&s, five + 3, 2, &state) == 1);
    s.temperature = 2;
    s.top_k = 1;
    CHECK(sample(&s, five, 5, &state) == 1);
    s.top_k = 0;
    s.top_p = 1e-6f;
    CHECK(sample(&s, five, 5, &state) == 1);
    s.top_p = 0;
    s.temperature = 1e-4f;
    CHECK(sample(&s, five + 2, 3, &state) == 0);
}

static void test_draws(void)
{
    awq_sampling s;
    int n[5], i;
    double p[5], sum = 0;
    memset(&s, 0, sizeof s);
    s.temperature = 1;
    s.seed = 9;
    draw(&s, five, n);
    for (i = 0; i < 5; i++) sum += p[i] = exp((double)five[i]);
    for (i = 0; i < 5; i++) CHECK_MSG(fabs(n[i] / 20000.0 - p[i] / sum) < 0.012, "%d: %d", i, n[i]);
    s.temperature = 2;
    draw(&s, five, n);
    for (sum = 0, i = 0; i < 5; i++) sum += p[i] = exp((double)five[i] / 2);
    for (i = 0; i < 5; i++) CHECK_MSG(fabs(n[i] / 20000.0 - p[i] / sum) < 0.012, "%d: %d", i, n[i]);
    s.temperature = 1;
    s.top_k = 2;
    draw(&s, five, n);
    CHECK(n[1] > 9500 && n[2] > 9500 && n[1] + n[2] == 20000);
    s.top_k = 99;
    draw(&s, five, n);
    CHECK(n[0] > 0 && n[3] > 0 && n[4] > 0);
    s.top_k = 0; /* shares 0.399 0.399 0.147 0.054 0.003 */
    s.top_p = 0.75f;
    draw(&s, five, n);
    CHECK(n[1] + n[2] == 20000 && n[2] > 9500);
    s.top_p = 0.85f;
    draw(&s, five, n);
    CHECK(n[4] > 0 && n[0] == 0 && n[3] == 0);
    s.top_p = 1;
    draw(&s, five, n);
    CHECK(n[3] > 0);
    s.top_p = 0;
    s.min_p = 0.2f; /* e^-1 passes, e^-2 does not */
    draw(&s, five, n);
    CHECK(n[4] > 0 && n[0] == 0 && n[3] == 0);
    s.min_p = 1;
    draw(&s, five, n);
    CHECK(n[1] + n[2] == 20000);
    s.top_k = 3; /* all three together: the narrowest wins */
    s.top_p = 0.3f;
    draw(&s, five, n);
    CHECK(n[1] == 20000);
}

/* the largest logits alone give the same token and leave the same state, or say that they cannot tell */
static void test_top(void)
{
    enum { N = 300 };
    static awq__candidate c[N];
    static const float temperatures[] = {0.7f, 1, 5, 0.01f};
    uint64_t seed = 5;
    int i, j, k, unsure = 0;
    for (i = 0; i < 4000; i++) {
        awq_sampling s;
        awq_ctx ctx;
        float x[N], top[2 * AWQ__TOP], rest[N];
        uint64_t a = (uint64_t)i, b = a;
        int32_t want, got;
        memset(&ctx, 0, sizeof ctx);
        memset(&s, 0, sizeof s);
        s.temperature = temperatures[i % 4];
        s.top_k = 2 + (int)(awq__random(&seed) % (AWQ__TOP - 2));
        s.top_p = i % 3 ? 0 : 0.9f;
        s.min_p = i % 5 ? 0 : 0.05f;
        for (j = 0; j < N; j++) {
            x[j] = awq__random_unit(&seed) * 20;
            if (i % 7 == 0) x[j] = floorf(x[j] * 4) / 4; /* equals */
            rest[j] = x[j];
        }
        for (k = 0; k <= s.top_k; k++) {
            int32_t id = awq__argmax(rest, N);
            top[k] = rest[id];
            memcpy(top + s.top_k + 1 + k, &id, sizeof id);
            rest[id] = -INFINITY;
        }
        got = awq__draw_top(&s, top, c, &a);
        unsure += got < 0;
        if (got < 0) CHECK(a == b);
        want = awq__draw(&ctx, &s, x, N, c, &b);
        CHECK_MSG(got < 0 || (got == want && a == b), "case %d: %d, not %d", i, (int)got, (int)want);
    }
    CHECK_MSG(unsure > 100 && unsure < 2000, "%d", unsure);
}

static void test_seed(void)
{
    awq_sampling s;
    uint64_t a = 1, b = 1, c = 2;
    int i, other = 0;
    memset(&s, 0, sizeof s);
    s.temperature = 1;
    for (i = 0; i < 200; i++) {
        int32_t id = sample(&s, five, 5, &a);
        CHECK(sample(&s, five, 5, &b) == id);
        other += sample(&s, five, 5, &c) != id;
    }
    CHECK(other > 20);
}

static void test_penalty(void)
{
    static const int32_t history[6] = {4, 1, 1, 3, 99, -5};
    awq_ctx ctx;
    awq_sampling s;
    float x[5];
    uint64_t state = 0;
    int32_t id = -1;
    memset(&ctx, 0, sizeof ctx);
    memset(&s, 0, sizeof s);
    s.repetition_penalty = 2;
    memcpy(x, five, sizeof x);
    CHECK(awq_sample(&ctx, &s, x, 5, history, 6, &state, &id) == AWQ_OK && id == 2);
    CHECK(x[0] == 1 && x[1] == 1.5f && x[2] == 3 && x[3] == -4
          && x[4] == 1); /* once each, whatever the count */
    memcpy(x, five, sizeof x);
    s.repetition_window = 3; /* 3, 99, -5 */
    CHECK(awq_sample(&ctx, &s, x, 5, history, 6, &state, &id) == AWQ_OK && id == 1 && x[3] == -4 && x[4] == 2);
    memcpy(x, five, sizeof x);
    s.repetition_penalty = 1;
    CHECK(awq_sample(&ctx, &s, x, 5, history, 6, &state, &id) == AWQ_OK && !memcmp(x, five, sizeof x));
    CHECK(ctx.memory_used == 0);
}

static void test_sample_errors(void)
{
    awq_ctx ctx;
    awq_sampling s, none;
    float x[5], nan = awq__bits_float(0x7fc00000);
    uint64_t state = 0;
    int32_t id = 77;
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(&none, 0, sizeof none);
    memcpy(x, five, sizeof x);
    for (i = 0; i < 10; i++) {
        s = none;
        if (i == 0) s.temperature = -1;
        if (i == 1) s.temperature = nan;
        if (i == 2) s.top_k = -1;
        if (i == 3) s.top_p = -0.1f;
        if (i == 4) s.top_p = 1.1f;
        if (i == 5) s.min_p = -0.1f;
        if (i == 6) s.min_p = 1.5f;
        if (i == 7) s.repetition_penalty = -1;
        if (i == 8) s.top_p = nan;
        if (i == 9) s.min_p = nan;
        CHECK_MSG(awq_sample(&ctx, &s, x, 5, NULL, 0, &state, &id) == AWQ_E_ARG
                      && strstr(ctx.err.text, "sampling:"),
                  "%d", i);
    }
    CHECK(awq_sample(&ctx, &none, x, 0, NULL, 0, &state, &id) == AWQ_E_ARG);
    x[3] = nan;
    CHECK(awq_sample(&ctx, &none, x, 5, NULL, 0, &state, &id) == AWQ_E_NUMERIC);
    x[3] = awq__bits_float(0x7f800000);
    CHECK(awq_sample(&ctx, &none, x, 5, NULL, 0, &state, &id) == AWQ_E_NUMERIC);
    memcpy(x, five, sizeof x);
    s = none;
    s.temperature = 1;
    ctx.memory_limit = 10;
    CHECK(awq_sample(&ctx, &s, x, 5, NULL, 0, &state, &id) == AWQ_E_MEMORY);
    CHECK(id == 77 && state == 0 && ctx.memory_used == 0);
}

/* --- awq_generate */
typedef struct heard {
    char text[8192];
    size_t n;
    int calls, stop_at; /* stop_at > 0: the call that ends the answer */
} heard;

static int on_text(void *user, const char *text, size_t bytes)
{
    heard *h = (heard *)user;
    size_t i;
    int len;
    CHECK(bytes > 0 && h->n + bytes < sizeof h->text);
    for (i = 0; i < bytes; i += (size_t)len) { /* whole characters only */
        len = awq__utf8_len((const unsigned char *)text + i, bytes - i);
        CHECK(len > 0);
        if (len <= 0) break;
    }
    memcpy(h->text + h->n, text, bytes);
    h->n += bytes;
    h->text[h->n] = 0;
    return ++h->calls == h->stop_at;
}

static awq_status say(awq_ctx *ctx, const awq_model *m, awq_generate_desc *d, heard *h, awq_generate_result *r)
{
    int stop_at = h->stop_at;
    memset(h, 0, sizeof *h);
    h->stop_at = stop_at;
    d->on_text = on_text;
    d->user = h;
    return awq_generate(ctx, m, d, r);
}

static awq_model *demo(awq_ctx *ctx)
{
    awq_model *m = NULL;
    memset(ctx, 0, sizeof *ctx);
    CHECK_MSG(load_deterministic(ctx, DEMO, &m) == AWQ_OK, "%s", ctx->err.text);
    return m;
}

static void test_demo(void)
{
    static const char *const none[] = {NULL};
    awq_runner *runner = NULL;
    awq_session *s = NULL;
    awq_model *other = NULL;
    awq_memory needed;
    awq_ctx ctx;
    awq_model *m = demo(&ctx);
    awq_generate_desc d;
    awq_generate_result r;
    heard h, first;
    int32_t ids[200];
    char *text;
    size_t bytes;
    int i;
    if (!m) return;
    memset(&d, 0, sizeof d);
    memset(&first, 0, sizeof first);
    memset(&h, 0, sizeof h);
    d.prompt = "Once upon a time";
    d.max_tokens = 100;
    d.out_ids = ids;
    CHECK_MSG(say(&ctx, m, &d, &first, &r) == AWQ_OK, "%s", ctx.err.text);
    CHECK(r.reason == AWQ_STOP_EOS && r.tokens > 5 && r.tokens < 100 && r.prompt_tokens > 1 && first.n > 20);
    for (i = 0; i < r.tokens; i++) CHECK(ids[i] != 1);
    text = (char *)malloc(8192); /* what was handed out is the ids' text */
    CHECK(awq_decode(&ctx, awq_model_tokenizer(m), ids, (size_t)r.tokens, 1, text, 8192, &bytes) == AWQ_OK);
    CHECK(bytes == first.n && !strcmp(text, first.text));
    free(text);
    d.max_tokens = 5;
    CHECK(say(&ctx, m, &d, &h, &r) == AWQ_OK && r.tokens == 5 && r.reason == AWQ_STOP_LENGTH);
    CHECK(h.n && h.n < first.n && !strncmp(h.text, first.text, h.n));
    d.max_tokens = 0;
    d.ignore_eos = 1;
    CHECK(say(&ctx, m, &d, &h, &r) == AWQ_OK && r.tokens == 128 && r.reason == AWQ_STOP_LENGTH);
    CHECK(!strncmp(h.text, first.text, first.n));
    d.ignore_eos = 0;
    h.stop_at = 3;
    CHECK(say(&ctx, m, &d, &h, &r) == AWQ_OK && r.reason == AWQ_STOP_CALLER && h.calls == 3);
    CHECK(!strncmp(h.text, first.text, h.n));
    CHECK(awq_generate(&ctx, m, &d, NULL) == AWQ_OK); /* no result wanted */
    d.prompt = "";
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "no tokens"));
    d.prompt = "a\xff";
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_E_ARG);
    /* what must not be NULL is, by a slip */
    CHECK(awq_generate(&ctx, m, NULL, &r) == AWQ_E_ARG && strstr(ctx.err.text, "awq_generate: desc is NULL"));
    d.prompt = "a";
    d.n_stop = 1;
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "stop is NULL"));
    d.stop = none;
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "a stop text is NULL"));
    CHECK(awq_runner_create(&ctx, NULL, NULL, &runner) == AWQ_E_ARG && strstr(ctx.err.text, "model is NULL"));
    CHECK(awq_model_load(&ctx, NULL, NULL, &other) == AWQ_E_ARG && strstr(ctx.err.text, "is NULL"));
    CHECK(awq_memory_needed(&ctx, NULL, NULL, NULL, NULL, 1, &needed) == AWQ_E_ARG && strstr(ctx.err.text, "is NULL"));
    CHECK(awq_runner_create(&ctx, m, NULL, &runner) == AWQ_OK && awq_session_create(&ctx, runner, NULL, &s) == AWQ_OK);
    CHECK(awq_ask(&ctx, s, NULL) == AWQ_E_ARG && awq_session_rollback(&ctx, s, 0, NULL) == AWQ_E_ARG
          && strstr(ctx.err.text, "desc is NULL"));
    awq_session_free(&ctx, s);
    awq_runner_free(&ctx, runner);
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
}

static void test_stop_strings(void)
{
    awq_ctx ctx;
    awq_model *m = demo(&ctx);
    awq_generate_desc d;
    awq_generate_result r;
    heard all, h;
    size_t at, len;
    if (!m) return;
    memset(&d, 0, sizeof d);
    memset(&all, 0, sizeof all);
    memset(&h, 0, sizeof h);
    d.prompt = "Once upon a time";
    d.max_tokens = 40;
    CHECK(say(&ctx, m, &d, &all, &r) == AWQ_OK && all.n > 60);
    for (at = 0; at + 20 < all.n; at += 7)
        for (len = 1; len <= 17; len += 8) { /* from a letter to several tokens, anywhere in the text */
            char stop[32];
            const char *list[3];
            const char *found;
            memcpy(stop, all.text + at, len);
            stop[len] = 0;
            list[0] = "never said", list[1] = "", list[2] = stop;
            d.stop = list;
            d.n_stop = 3;
            found = strstr(all.text, stop);
            CHECK(say(&ctx, m, &d, &h, &r) == AWQ_OK && r.reason == AWQ_STOP_STRING);
            CHECK_MSG(h.n == (size_t)(found - all.text) && !strncmp(h.text, all.text, h.n),
                      "stop \"%s\": \"%s\"", stop, h.text);
        }
    {
        static const char *const never[] = {"a string that does not come"};
        d.stop = never; /* what was held back comes at the end */
        d.n_stop = 1;
        CHECK(say(&ctx, m, &d, &h, &r) == AWQ_OK && r.reason != AWQ_STOP_STRING && !strcmp(h.text, all.text));
    }
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
}

static void test_seeds(void)
{
    awq_ctx ctx;
    awq_model *m = demo(&ctx);
    awq_generate_desc d;
    awq_generate_result r;
    heard *h = (heard *)calloc(2, sizeof *h);
    int seed, same = 0;
    char before[8192];
    if (!m) {
        free(h);
        return;
    }
    memset(&d, 0, sizeof d);
    d.prompt = "The shop";
    d.max_tokens = 40;
    d.ignore_eos = 1;
    before[0] = 0;
    for (seed = 0; seed < 12; seed++) {
        awq_pool *pool = NULL;
        d.sampling.seed = (uint64_t)seed;
        d.sampling.temperature =
            seed < 6 ? 1.0f : 50.0f; /* at 50 any token: parts of characters, special ones */
        CHECK(say(&ctx, m, &d, &h[0], &r) == AWQ_OK && r.tokens == 40);
        CHECK(awq_pool_create(&ctx, 1 + seed % 3, &pool) == AWQ_OK);
        ctx.jobs = awq_pool_jobs(pool);
        ctx.isa = (awq_isa)(seed % 4);
        CHECK(say(&ctx, m, &d, &h[1], &r) == AWQ_OK);
        CHECK_MSG(!strcmp(h[0].text, h[1].text), "seed %d", seed);
        same += !strcmp(before, h[0].text);
        strcpy(before, h[0].text);
        memset(&ctx.jobs, 0, sizeof ctx.jobs);
        ctx.isa = AWQ_ISA_AUTO;
        awq_pool_free(&ctx, pool);
    }
    CHECK(same == 0);
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
    free(h);
}

static void test_messages(void)
{
    static const char *const names[] = {DEMO "/config.json", DEMO "/model.safetensors", DEMO "/tokenizer.json",
                                        DEMO "/tokenizer_config.json"};
    awq_message message = {"user", "Who sells a deck of cards?", NULL};
    awq_memory_file files[4];
    awq_memory_list list;
    awq_ctx os, ctx;
    awq_model *m = NULL;
    awq_generate_desc d;
    awq_generate_result a, b;
    heard h, g;
    int i;
    memset(&os, 0, sizeof os);
    memset(&d, 0, sizeof d);
    memset(&h, 0, sizeof h);
    memset(&g, 0, sizeof g);
    for (i = 0; i < 4; i++) {
        char *data = NULL;
        size_t n = 0;
        CHECK(awq__file_load(&os, names[i], 1 << 24, &data, &n) == AWQ_OK);
        files[i].path = names[i], files[i].data = data, files[i].bytes = n;
    }
    list.files = files;
    for (list.count = 4; list.count >= 3; list.count--) { /* with and without tokenizer_config.json */
        memset(&ctx, 0, sizeof ctx);
        ctx.files = awq_memory_files(&list);
        d.messages = &message;
        d.n_messages = 1;
        CHECK_MSG(load_deterministic(&ctx, DEMO, &m) == AWQ_OK, "%s", ctx.err.text);
        if (list.count == 4) {
            CHECK_MSG(say(&ctx, m, &d, &h, &a) == AWQ_OK && a.reason == AWQ_STOP_EOS, "%s", ctx.err.text);
            d.messages = NULL;
            d.prompt = "<|begin|><|user|>Who sells a deck of cards?<|end|><|assistant|>";
            CHECK(say(&ctx, m, &d, &g, &b) == AWQ_OK && a.prompt_tokens == b.prompt_tokens && h.n > 3);
            CHECK(!strcmp(h.text, g.text));
        } else
            CHECK(awq_generate(&ctx, m, &d, &a) == AWQ_E_UNSUPPORTED && strstr(ctx.err.text, "chat template"));
        awq_model_free(&ctx, m);
        CHECK(ctx.memory_used == 0);
    }
    for (i = 0; i < 4; i++) awq__free(&os, (void *)(uintptr_t)files[i].data);
    CHECK(os.memory_used == 0);
}

static int cancel(void *user, const awq_progress *p)
{
    (void)user;
    return !strcmp(p->stage, "generate") && p->done == 2;
}

static void test_ids(void) /* no tokenizer: ids in, ids out */
{
    static const int32_t prompt[3] = {1, 40, 7}, bad[2] = {1, 96};
    tiny t;
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_session *s = NULL;
    awq_generate_desc d;
    awq_generate_result r, untouched;
    float logits[96];
    int32_t ids[10];
    int i;
    tiny_llama(&t);
    ctx = tiny_ctx(&t);
    memset(&d, 0, sizeof d);
    memset(&untouched, 7, sizeof untouched);
    CHECK(load_deterministic(&ctx, "m", &m) == AWQ_OK);
    d.ids = prompt;
    d.n_ids = 3;
    d.max_tokens = 10;
    d.out_ids = ids;
    d.ignore_eos = 1;
    CHECK_MSG(awq_generate(&ctx, m, &d, &r) == AWQ_OK, "%s", ctx.err.text);
    CHECK(r.tokens == 10 && r.prompt_tokens == 3 && r.reason == AWQ_STOP_LENGTH);
    CHECK(open_session(&ctx, m, 13, &s) == AWQ_OK);
    CHECK(awq_session_feed(&ctx, s, prompt, 3, NULL, logits) == AWQ_OK);
    for (i = 0; i < 10; i++) {
        CHECK(ids[i] == awq__argmax(logits, 96));
        CHECK(awq_session_feed(&ctx, s, &ids[i], 1, NULL, logits) == AWQ_OK);
    }
    close_session(&ctx, s);
    r = untouched;
    ctx.progress = cancel;
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_E_CANCELLED);
    ctx.progress = NULL;
    d.ids = bad;
    d.n_ids = 2;
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "token id 96"));
    d.n_ids = 0;
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_E_ARG);
    d.ids = NULL;
    d.prompt = "text";
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "no tokenizer.json"));
    CHECK(!memcmp(&r, &untouched, sizeof r));
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
    tiny_free(&t);
}

static void test_failures(void)
{
    static const char *const stop[] = {"never said"};
    awq_message message = {"user", "Where is the mill?", NULL};
    fail_alloc f = {-1, 0, 0};
    awq_ctx ctx;
    awq_model *m = demo(&ctx);
    awq_generate_desc d;
    size_t base;
    long k;
    int what;
    awq_model_free(&ctx, m);
    m = NULL;
    ctx.allocator = fail_allocator(&f);
    CHECK(load_deterministic(&ctx, DEMO, &m) == AWQ_OK);
    if (!m) return;
    base = f.live;
    for (what = 0; what < 2; what++) {
        int reached = 1;
        memset(&d, 0, sizeof d);
        d.max_tokens = 3;
        d.stop = stop;
        d.n_stop = 1;
        d.sampling.temperature = 1;
        if (what) d.messages = &message, d.n_messages = 1;
        else d.prompt = "Once";
        for (k = 0; reached; k++) {
            awq_status st;
            f.calls = 0;
            f.fail_at = k;
            st = awq_generate(&ctx, m, &d, NULL);
            reached = f.calls > k;
            CHECK_MSG(st == (reached ? AWQ_E_MEMORY : AWQ_OK), "%ld: %s", k, ctx.err.text);
            CHECK(f.live == base && ctx.memory_used == base);
        }
        CHECK(k > 10);
    }
    awq_model_free(&ctx, m);
    CHECK(f.live == 0 && ctx.memory_used == 0);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_greedy);
    RUN(test_draws);
    RUN(test_top);
    RUN(test_seed);
    RUN(test_penalty);
    RUN(test_sample_errors);
    RUN(test_demo);
    RUN(test_stop_strings);
    RUN(test_seeds);
    RUN(test_messages);
    RUN(test_ids);
    RUN(test_failures);
    return TEST_END();
}
