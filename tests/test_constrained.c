/* answers under a grammar: every way of sampling, cut-off answers, together and alone, saved and forked in the middle.
   Run from the repository's root folder. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

#define DEMO "tools/demo/model"

static const char schema[] =
    "{\"type\": \"object\", \"required\": [\"name\", \"kind\", \"age\"], \"properties\": {"
    "\"name\": {\"type\": \"string\", \"maxLength\": 24}, \"kind\": {\"enum\": [\"smith\", \"guard\", \"gu\"]},"
    "\"age\": {\"type\": \"integer\", \"minimum\": -3, \"maximum\": 120}, \"known\": {\"type\": \"array\","
    "\"items\": {\"type\": \"boolean\"}, \"maxItems\": 3}}}";
static const char gbnf[] = "root ::= (word \" \")* word \".\"\nword ::= [a-z]{1,6} | [\\u00e4-\\u00fc]{2}";
static const char *const choices[] = {"go", "gold", "Go away", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"};

typedef struct heard {
    char text[2048];
    size_t n;
} heard;

static int on_text(void *user, const char *text, size_t bytes)
{
    heard *h = (heard *)user;
    if (h->n + bytes < sizeof h->text) memcpy(h->text + h->n, text, bytes);
    h->n += bytes;
    h->text[h->n] = 0;
    return 0;
}

static awq_grammar *make(awq_ctx *ctx, int i)
{
    awq_grammar_desc d;
    awq_grammar *g = NULL;
    memset(&d, 0, sizeof d);
    if (i == 0) d.schema = schema;
    if (i == 1) d.gbnf = gbnf;
    if (i == 2) d.choices = choices, d.n_choices = 4;
    d.memory = i == 1 ? 65536 : 0; /* so small that it is emptied now and then */
    CHECK_MSG(awq_grammar_create(ctx, &d, &g) == AWQ_OK, "%s", ctx->err.text);
    return g;
}

static awq_generate_desc some_desc(int i, awq_grammar *g, heard *h)
{
    static const awq_sampling ways[] = {
        {0, 0, 0, 0, 0, 0, 0},    {1, 0, 0, 0, 0, 0, 0},      {0.7f, 2, 0, 0, 0, 0, 0}, {1.5f, 0, 0.9f, 0, 0, 0, 0},
        {1, 0, 0, 0.1f, 0, 0, 0}, {2, 40, 0.5f, 0.01f, 1.3f, 8, 0}, {1e4f, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 1.5f, 0, 0}};
    awq_generate_desc d;
    memset(&d, 0, sizeof d);
    memset(h, 0, sizeof *h);
    d.prompt = i % 2 ? "Bram is" : "Who lives here?";
    d.max_tokens = i % 5 == 4 ? 6 : 200;
    d.sampling = ways[i % 8];
    d.sampling.seed = (uint64_t)i;
    d.grammar = g;
    d.on_text = on_text;
    d.user = h;
    return d;
}

/* what an ended answer says of itself fits its text */
static void check(awq_ctx *ctx, awq_grammar *g, const heard *h, const awq_generate_result *r, int *whole)
{
    awq_match m = AWQ_MATCH_NO;
    CHECK(awq_grammar_match(ctx, g, h->text, h->n, &m) == AWQ_OK);
    CHECK_MSG(m == (r->complete ? AWQ_MATCH_WHOLE : AWQ_MATCH_PARTIAL), "%d %d: %s", (int)m, r->complete, h->text);
    if (r->reason == AWQ_STOP_GRAMMAR || r->reason == AWQ_STOP_EOS) CHECK(r->complete);
    else CHECK(r->reason == AWQ_STOP_LENGTH);
    *whole += r->complete;
}

static void test_every_way(void)
{
    awq_ctx ctx;
    awq_model *m = NULL;
    int kind, i, whole = 0, cut = 0;
    memset(&ctx, 0, sizeof ctx);
    CHECK_MSG(load_deterministic(&ctx, DEMO, &m) == AWQ_OK, "%s", ctx.err.text);
    for (kind = 0; kind < 3; kind++) {
        awq_grammar *g = make(&ctx, kind);
        for (i = 0; i < 24; i++) {
            heard h;
            awq_generate_desc d = some_desc(i, g, &h);
            awq_generate_result r;
            CHECK_MSG(awq_generate(&ctx, m, &d, &r) == AWQ_OK, "%s", ctx.err.text);
            check(&ctx, g, &h, &r, &whole);
            cut += !r.complete;
        }
        awq_grammar_free(&ctx, g);
    }
    printf("    %d whole answers, %d cut off\n", whole, cut);
    CHECK(whole > 40 && cut > 4);
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
}

/* 12 sessions, three grammars, steps of 20 us without an allocation: what each says alone */
static void test_together(void)
{
    enum { N = 12 };
    fail_alloc a = {-1, 0, 0};
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_runner *run = NULL;
    awq_session *s[N];
    awq_session_desc sd;
    awq_grammar *g[3];
    awq_step_info f;
    heard h[N], want;
    awq_generate_result r, q;
    long calls;
    int i, whole = 0;
    memset(&ctx, 0, sizeof ctx);
    memset(&sd, 0, sizeof sd);
    sd.max_tokens = 256;
    ctx.allocator = fail_allocator(&a);
    CHECK(load_deterministic(&ctx, DEMO, &m) == AWQ_OK && awq_runner_create(&ctx, m, NULL, &run) == AWQ_OK);
    for (i = 0; i < 3; i++) g[i] = make(&ctx, i);
    for (i = 0; i < N; i++) {
        awq_generate_desc d = some_desc(i, g[i % 3], &h[i]);
        CHECK(awq_session_create(&ctx, run, &sd, &s[i]) == AWQ_OK && awq_ask(&ctx, s[i], &d) == AWQ_OK);
    }
    calls = a.calls;
    do CHECK_MSG(awq_step(&ctx, run, NULL, 0, 20, &f) == AWQ_OK, "%s", ctx.err.text);
    while (f.busy && !T.bad);
    CHECK_MSG(a.calls == calls, "%ld allocations", a.calls - calls);
    for (i = 0; i < N; i++) {
        awq_generate_desc d = some_desc(i, g[i % 3], &want);
        CHECK(awq_session_answer(&ctx, s[i], &r) == AWQ_OK && awq_generate(&ctx, m, &d, &q) == AWQ_OK);
        CHECK_MSG(!strcmp(want.text, h[i].text), "%s, alone %s", h[i].text, want.text);
        CHECK(r.tokens == q.tokens && r.reason == q.reason && r.complete == q.complete);
        check(&ctx, g[i % 3], &h[i], &r, &whole);
    }
    for (i = 0; i < 3; i++) awq_grammar_free(&ctx, g[i]); /* the answers have ended */
    for (i = 0; i < N; i++) CHECK(awq_session_free(&ctx, s[i]) == AWQ_OK);
    CHECK(awq_runner_free(&ctx, run) == AWQ_OK && awq_model_free(&ctx, m) == AWQ_OK && a.live == 0);
}

static awq_status finish(awq_ctx *ctx, awq_runner *run, awq_session *s)
{
    awq_status st = AWQ_OK;
    while (!st && awq_session_busy(s)) st = awq_step(ctx, run, &s, 1, AWQ_NO_BUDGET, NULL);
    return st;
}

/* saved and forked after every token: the rest is the same, and nothing is said twice */
static void test_state(void)
{
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_runner *run = NULL;
    awq_session *s[2], *fork;
    awq_grammar *g, *other;
    awq_generate_desc d;
    heard first, h, was;
    awq_generate_result r, q;
    size_t bytes;
    char *data;
    int i, tokens;
    memset(&ctx, 0, sizeof ctx);
    CHECK(load_deterministic(&ctx, DEMO, &m) == AWQ_OK && awq_runner_create(&ctx, m, NULL, &run) == AWQ_OK);
    g = make(&ctx, 0);
    other = make(&ctx, 2);
    for (i = 0; i < 2; i++) CHECK(awq_session_create(&ctx, run, NULL, &s[i]) == AWQ_OK);
    d = some_desc(3, g, &first);
    CHECK(awq_ask(&ctx, s[0], &d) == AWQ_OK && finish(&ctx, run, s[0]) == AWQ_OK);
    CHECK(awq_session_answer(&ctx, s[0], &r) == AWQ_OK && r.complete);
    tokens = (int)r.tokens;
    for (i = 1; i < tokens && !T.bad; i++) {
        CHECK(awq_session_rewind(&ctx, s[0], 0) == AWQ_OK);
        d = some_desc(3, g, &h);
        CHECK(awq_ask(&ctx, s[0], &d) == AWQ_OK);
        while (s[0]->r.tokens < i) CHECK(awq_step(&ctx, run, s, 1, AWQ_NO_BUDGET, NULL) == AWQ_OK);
        was = h;
        bytes = awq_session_bytes(s[0]);
        data = (char *)malloc(bytes);
        CHECK(awq_session_save(&ctx, s[0], data, bytes) == AWQ_OK);
        CHECK(awq_session_fork(&ctx, s[0], &d, &fork) == AWQ_OK && finish(&ctx, run, fork) == AWQ_OK);
        CHECK_MSG(!strcmp(h.text, first.text), "after %d: %s, at once %s", i, h.text, first.text);
        CHECK(awq_session_answer(&ctx, fork, &q) == AWQ_OK && q.complete && q.tokens == r.tokens);
        CHECK(awq_session_free(&ctx, fork) == AWQ_OK);
        h = was;
        CHECK(awq_session_restore(&ctx, s[1], data, bytes, &d) == AWQ_OK && finish(&ctx, run, s[1]) == AWQ_OK);
        CHECK_MSG(!strcmp(h.text, first.text), "after %d: %s, at once %s", i, h.text, first.text);
        d.grammar = other;
        CHECK(awq_session_restore(&ctx, s[1], data, bytes, &d) == AWQ_E_ARG && strstr(ctx.err.text, "the grammar"));
        CHECK(!awq_session_busy(s[1]));
        free(data);
    }
    CHECK(tokens > 8);
    for (i = 0; i < 2; i++) CHECK(awq_session_free(&ctx, s[i]) == AWQ_OK);
    awq_grammar_free(&ctx, g);
    awq_grammar_free(&ctx, other);
    CHECK(awq_runner_free(&ctx, run) == AWQ_OK && awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0);
}

static void test_failures(void)
{
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_model_desc md;
    awq_grammar *g;
    awq_generate_desc d;
    awq_generate_result r;
    int32_t id = 5;
    heard h;
    long k;
    memset(&ctx, 0, sizeof ctx);
    memset(&md, 0, sizeof md);
    md.no_tokenizer = 1;
    CHECK(awq_model_load(&ctx, DEMO, &md, &m) == AWQ_OK);
    g = make(&ctx, 2);
    d = some_desc(1, g, &h);
    d.prompt = NULL;
    d.ids = &id;
    d.n_ids = 1;
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "a grammar needs"));
    awq_model_free(&ctx, m);
    awq_grammar_free(&ctx, g);
    for (k = 0; k < 400; k++) { /* the k-th allocation fails */
        fail_alloc a = {k, 0, 0};
        awq_status st;
        ctx.allocator = fail_allocator(&a);
        m = NULL;
        g = NULL;
        st = load_deterministic(&ctx, DEMO, &m);
        if (!st) {
            awq_grammar_desc gd;
            memset(&gd, 0, sizeof gd);
            gd.choices = choices;
            gd.n_choices = 4;
            st = awq_grammar_create(&ctx, &gd, &g);
        }
        if (!st) {
            d = some_desc(1, g, &h);
            st = awq_generate(&ctx, m, &d, &r);
        }
        awq_grammar_free(&ctx, g);
        awq_model_free(&ctx, m);
        CHECK(a.live == 0 && ctx.memory_used == 0 && st == (a.calls > k ? AWQ_E_MEMORY : AWQ_OK));
        if (!st) break;
    }
    CHECK(k > 50 && k < 400);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_every_way);
    RUN(test_together);
    RUN(test_state);
    RUN(test_failures);
    return TEST_END();
}
