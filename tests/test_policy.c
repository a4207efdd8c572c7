/* policy: sessions that roll back within an answer, entropies of what tokens are drawn from; answers from passages: each
   move when it must be made and not when it must not, citations, refusals, each allocation failing once. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

#define DEMO "tools/demo/model"
enum { N = 4, MAX = 24 };

typedef struct setup {
    awq_ctx ctx;
    awq_model *m;
    awq_suite suite;
    awq_snippet snippet[N];
    awq_answer_desc d;
    double far;      /* dS of answers, by `judge` */
    int asked;       /* texts that it saw */
    const char *odd; /* it refuses texts that contain this; NULL: none */
} setup;

/* An embedder: a question is at 0; a snippet at 0.1, at 0.9 with the word "lighthouse"; other texts at `far`, and a bit
   nearer the longer they are. */
static int judge(void *user, const char *text, float *v, int64_t n)
{
    setup *s = (setup *)user;
    double d = s->far - 1e-3 * (double)strlen(text);
    int64_t i;
    for (i = 0; i < s->d.n_snippets; i++)
        if (!strcmp(text, s->d.snippets[i].text)) d = strstr(text, "lighthouse") ? 0.9 : 0.1;
    if (!strcmp(text, s->d.question)) d = 0;
    s->asked++;
    v[0] = (float)(1 - d);
    v[1] = (float)sqrt(1 - (1 - d) * (1 - d));
    for (i = 2; i < n; i++) v[i] = 0;
    return s->odd && strstr(text, s->odd);
}

static void begin(setup *s)
{
    awq_model_desc md;
    memset(s, 0, sizeof *s);
    memset(&md, 0, sizeof md);
    md.mode = AWQ_MODE_DETERMINISTIC;
    CHECK_MSG(awq_model_load(&s->ctx, DEMO, &md, &s->m) == AWQ_OK, "%s", s->ctx.err.text);
    CHECK(awq_suite_load(&s->ctx, "tools/demo/suite.jsonl", &s->suite) == AWQ_OK);
    s->snippet[0].text = s->suite.items[0].distractor;
    s->snippet[1].text = s->suite.items[0].anchor;
    s->snippet[1].id = "bram";
    s->snippet[1].section = "People";
    s->snippet[1].offset = 1000;
    s->snippet[2].text = s->suite.items[5].anchor;
    s->snippet[3].text = "From the cape a crooked lighthouse looks over the sea.";
    s->d.question = s->suite.items[0].question; /* what is Bram's trade? */
    s->d.snippets = s->snippet;
    s->d.n_snippets = N;
    s->d.max_tokens = MAX;
    s->d.cite_last = 1;
    s->d.embed = judge;
    s->d.embed_user = s;
    s->d.embed_size = 3;
    s->far = 0.3;
}

static void end(setup *s)
{
    awq_suite_free(&s->ctx, &s->suite);
    awq_model_free(&s->ctx, s->m);
    CHECK(s->ctx.memory_used == 0);
}

static awq_answer_report *ask(setup *s)
{
    awq_answer_report *r = NULL;
    s->asked = 0;
    CHECK_MSG(awq_answer(&s->ctx, s->m, &s->d, &r) == AWQ_OK, "%s", s->ctx.err.text);
    return r;
}

static int on_text(void *user, const char *text, size_t n)
{
    strncat((char *)user, text, n);
    return 0;
}

static void run(setup *s, awq_session *session, int64_t until)
{
    awq_generate_result g;
    memset(&g, 0, sizeof g);
    while (awq_session_busy(session) && g.tokens < until)
        CHECK(awq_step(&s->ctx, session->runner, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK
              && awq_session_answer(&s->ctx, session, &g) == AWQ_OK);
}

/* back within an answer: what stays is the same, greedy goes on as it would have, another seed does not; text comes once */
static void test_rollback(void)
{
    static char text[4][2000];
    int32_t first[MAX], ids[MAX], other[MAX];
    size_t kept;
    awq_generate_desc d, hot;
    awq_grammar_desc gd;
    awq_grammar *grammar = NULL;
    awq_session *session = NULL;
    awq_generate_result g;
    setup s;
    int64_t at;
    int k;
    begin(&s);
    CHECK(open_session(&s.ctx, s.m, 200, &session) == AWQ_OK);
    memset(&d, 0, sizeof d);
    memset(text, 0, sizeof text);
    CHECK(awq_session_rollback(&s.ctx, session, 0, &d) == AWQ_E_ARG); /* no answer */
    d.prompt = "There was once a painted old";
    d.max_tokens = MAX;
    d.ignore_eos = 1;
    d.out_ids = first;
    d.on_text = on_text;
    d.user = text[0];
    CHECK(awq_ask(&s.ctx, session, &d) == AWQ_OK);
    at = awq_session_position(session);
    run(&s, session, MAX);
    CHECK(awq_session_rollback(&s.ctx, session, at - 1, &d) == AWQ_E_ARG && strstr(s.ctx.err.text, "the answer is from"));
    CHECK(awq_session_rollback(&s.ctx, session, at + MAX + 1, &d) == AWQ_E_ARG);
    CHECK(awq_session_rollback(&s.ctx, session, at + MAX, &d) == AWQ_E_ARG && strstr(s.ctx.err.text, "no room"));
    d.out_ids = ids;
    for (k = 0; k < 3; k++) { /* from its end, from the middle of an answer under way, from its beginning */
        static const int64_t reach[] = {MAX, 13, 5}, back[] = {7, 7, 0};
        d.user = text[1];
        text[1][0] = 0;
        memset(ids, 0, sizeof ids);
        CHECK(awq_session_rewind(&s.ctx, session, 0) == AWQ_OK && awq_ask(&s.ctx, session, &d) == AWQ_OK);
        run(&s, session, reach[k]);
        strcpy(text[2], text[1]);
        CHECK_MSG(awq_session_rollback(&s.ctx, session, at + back[k], &d) == AWQ_OK, "%s", s.ctx.err.text);
        CHECK(awq_session_busy(session) && awq_session_position(session) == at + back[k]);
        run(&s, session, MAX);
        CHECK(!memcmp(ids, first, sizeof ids) && awq_session_answer(&s.ctx, session, &g) == AWQ_OK && g.tokens == MAX);
        CHECK(awq_decode(&s.ctx, awq_model_tokenizer(s.m), first, (size_t)back[k], 1, text[3], sizeof text[3], &kept) == AWQ_OK);
        CHECK_MSG(!strncmp(text[1], text[2], strlen(text[2])) && !strcmp(text[1] + strlen(text[2]), text[0] + kept),
                  "\"%s\" \"%s\" %d", text[0], text[1], (int)kept);
    }
    hot = d;
    hot.sampling.temperature = 1.5f;
    hot.sampling.seed = 5;
    CHECK(awq_session_rollback(&s.ctx, session, at + 8, &hot) == AWQ_OK);
    run(&s, session, MAX);
    CHECK(!memcmp(ids, first, 8 * sizeof *ids) && memcmp(ids, first, sizeof ids));
    memcpy(other, ids, sizeof ids);
    for (k = 0; k < 2; k++) { /* the seed decides */
        CHECK(awq_session_rollback(&s.ctx, session, at + 8, &hot) == AWQ_OK);
        run(&s, session, MAX);
        CHECK(!memcmp(ids, other, sizeof ids) == !k);
        hot.sampling.seed++;
    }
    /* with a grammar: five letters, then digits; back among the digits */
    memset(&gd, 0, sizeof gd);
    gd.gbnf = "root ::= [a-z]{5} [0-9]+";
    CHECK(awq_grammar_create(&s.ctx, &gd, &grammar) == AWQ_OK);
    text[3][0] = 0;
    hot.grammar = grammar;
    hot.user = text[3];
    hot.on_text = NULL;
    CHECK(awq_session_rewind(&s.ctx, session, 0) == AWQ_OK && awq_ask(&s.ctx, session, &hot) == AWQ_OK);
    run(&s, session, 12);
    CHECK(awq_session_rollback(&s.ctx, session, at + 9, &hot) == AWQ_OK);
    run(&s, session, MAX);
    CHECK(awq_session_answer(&s.ctx, session, &g) == AWQ_OK);
    {
        awq_match match;
        size_t bytes;
        CHECK(awq_decode(&s.ctx, awq_model_tokenizer(s.m), ids, (size_t)g.tokens, 1, text[3], sizeof text[3], &bytes) == AWQ_OK);
        CHECK_MSG(awq_grammar_match(&s.ctx, grammar, text[3], bytes, &match) == AWQ_OK && match == AWQ_MATCH_WHOLE, "%s", text[3]);
    }
    close_session(&s.ctx, session);
    awq_grammar_free(&s.ctx, grammar);
    end(&s);
}

/* entropies are those of all logits */
static void test_entropy(void)
{
    int32_t ids[MAX];
    float entropy[MAX], *logits;
    awq_generate_desc d;
    awq_session *session = NULL;
    awq_feed_desc f;
    setup s;
    int64_t V, at, i, k, all;
    begin(&s);
    CHECK(open_session(&s.ctx, s.m, 200, &session) == AWQ_OK);
    memset(&d, 0, sizeof d);
    memset(&f, 0, sizeof f);
    d.prompt = "There was once";
    d.max_tokens = MAX;
    d.ignore_eos = 1;
    d.out_ids = ids;
    d.out_entropy = entropy;
    d.sampling.temperature = 0.5f;
    d.sampling.repetition_penalty = 1.2f;
    CHECK(awq_ask(&s.ctx, session, &d) == AWQ_OK);
    at = awq_session_position(session);
    run(&s, session, MAX);
    V = awq_model_config(s.m)->vocab_size;
    all = awq_session_position(session);
    CHECK(all == at + MAX);
    logits = (float *)malloc((size_t)(all * V) * sizeof *logits);
    {
        int32_t copy[200];
        memcpy(copy, awq_session_ids(session), (size_t)all * sizeof *copy);
        f.all_logits = logits;
        CHECK(awq_session_rewind(&s.ctx, session, 0) == AWQ_OK
              && awq_session_feed(&s.ctx, session, copy, all, &f, NULL) == AWQ_OK);
    }
    for (i = 0; i < MAX; i++) {
        const float *x = logits + (at + i - 1) * V;
        double sum = 0, h = 0;
        for (k = 0; k < V; k++) sum += exp(x[k]);
        for (k = 0; k < V; k++) h -= exp(x[k]) / sum * (x[k] - log(sum));
        CHECK_MSG(fabs(h - entropy[i]) < 0.02 * h + 1e-3, "%d: %g %g", (int)i, h, (double)entropy[i]);
    }
    free(logits);
    close_session(&s.ctx, session);
    end(&s);
}

static void test_answer(void)
{
    awq_answer_report *r, *again;
    awq_snippet turned[N];
    const awq_citation *c;
    setup s;
    int i;
    begin(&s);
    r = ask(&s);
    if (!r) return;
    CHECK_MSG(strstr(r->text, "carpenter"), "%s", r->text);
    CHECK(r->n_candidates == 1 && r->chosen == 0 && !r->candidate[0].looped && !r->candidate[0].rollbacks && !r->candidate[0].calm);
    CHECK(r->rejected == 1 && !r->snippet[3].used && r->snippet[3].distance > 0.89 && r->snippet[1].used
          && r->snippet[1].distance < 0.11);
    CHECK_MSG(!strncmp(r->candidate[0].cited, r->text, strlen(r->text)) && strstr(r->candidate[0].cited, " [bram]"), "%s",
              r->candidate[0].cited);
    CHECK(r->n_citations == 1);
    c = &r->citation[0];
    CHECK(c->snippet == 1 && !strcmp(c->section, "People") && c->shared >= 2 && c->tokens > 2 && c->tokens < 12);
    CHECK_MSG(c->begin >= 1000 && c->end - c->begin == 20 && !strncmp(s.snippet[1].text + c->begin - 1000, "Bram is a carpenter.", 20),
              "%d %d", (int)c->begin, (int)c->end);
    again = ask(&s); /* the same every time */
    CHECK(!strcmp(r->candidate[0].cited, again->candidate[0].cited) && r->candidate[0].tokens == again->candidate[0].tokens);
    awq_answer_free(&s.ctx, again);
    awq_answer_free(&s.ctx, r);

    /* in the order of ids the order they come in is nothing */
    s.snippet[0].id = "z", s.snippet[2].id = "a", s.snippet[3].id = "m";
    s.d.order = AWQ_ORDER_ID;
    s.d.sampling.temperature = 1;
    s.d.sampling.seed = 3;
    r = ask(&s);
    for (i = 0; i < N; i++) turned[i] = s.snippet[(i + 3) % N];
    s.d.snippets = turned;
    again = ask(&s);
    CHECK(!strcmp(r->candidate[0].cited, again->candidate[0].cited) && r->citation[0].begin == again->citation[0].begin
          && r->citation[0].snippet == (again->citation[0].snippet + 3) % N);
    awq_answer_free(&s.ctx, again);
    awq_answer_free(&s.ctx, r);
    s.d.snippets = s.snippet;
    s.d.order = AWQ_ORDER_NEAREST;
    s.d.sampling.temperature = 0;
    r = ask(&s);
    CHECK(strstr(r->text, "carpenter"));
    awq_answer_free(&s.ctx, r);

    /* ids in front: the grammar wants them */
    s.d.order = AWQ_ORDER_GIVEN;
    s.d.cite_last = 0;
    r = ask(&s);
    CHECK_MSG(r->candidate[0].cited[0] == '[' && r->n_citations >= 1 && r->n_citations <= 3 && r->text > r->candidate[0].cited
              && !strchr(r->text, '['), "%s", r->candidate[0].cited);
    for (i = 0; i < (int)r->n_citations; i++) CHECK(r->citation[i].snippet != 3);
    awq_answer_free(&s.ctx, r);
    s.d.off = AWQ_MOVE_CITE;
    r = ask(&s);
    CHECK(r->n_citations == 0 && r->text == r->candidate[0].cited && strstr(r->text, "carpenter"));
    awq_answer_free(&s.ctx, r);
    end(&s);
}

static void test_reject(void)
{
    awq_answer_report *r;
    setup s;
    begin(&s);
    s.d.off = AWQ_MOVE_REJECT;
    r = ask(&s);
    CHECK(r->rejected == 0 && r->snippet[3].used && r->snippet[3].distance > 0.89);
    awq_answer_free(&s.ctx, r);
    s.d.off = 0;
    s.d.reject = 0.95;
    r = ask(&s);
    CHECK(r->rejected == 0);
    awq_answer_free(&s.ctx, r);
    s.d.reject = 0.05; /* none is near enough */
    r = ask(&s);
    CHECK(r->rejected == N && r->n_candidates == 0 && r->text[0] == 0 && r->n_citations == 0);
    awq_answer_free(&s.ctx, r);
    s.d.off = 31; /* nothing needs dS: the embedder is not needed */
    s.d.embed = NULL;
    r = ask(&s);
    CHECK(r->rejected == 0 && r->snippet[3].distance != r->snippet[3].distance && strstr(r->text, "carpenter") && s.asked == 0);
    awq_answer_free(&s.ctx, r);
    end(&s);
}

static void test_rerank(void)
{
    awq_answer_report *r, *again;
    setup s;
    int i;
    begin(&s);
    s.far = 0.8; /* every answer is */
    s.d.sampling.seed = 11;
    s.d.candidates = 5;
    r = ask(&s);
    CHECK(r->n_candidates == 5);
    for (i = 0; i < 5; i++) {
        const awq_candidate *c = &r->candidate[i];
        CHECK(c->distance > 0.7 && c->distance < 0.8 && c->agreement >= 0.99); /* all within 0.05 */
        CHECK(i == 0 || c->seed != r->candidate[0].seed);
    }
    CHECK(r->chosen == 0); /* the first of those alike */
    again = ask(&s);
    for (i = 0; i < 5; i++) CHECK(!strcmp(r->candidate[i].cited, again->candidate[i].cited));
    awq_answer_free(&s.ctx, again);
    awq_answer_free(&s.ctx, r);
    s.d.off = AWQ_MOVE_RERANK;
    r = ask(&s);
    CHECK(r->n_candidates == 1);
    awq_answer_free(&s.ctx, r);
    s.d.off = 0;
    s.d.retry = 0.85;
    r = ask(&s);
    CHECK(r->n_candidates == 1);
    awq_answer_free(&s.ctx, r);
    end(&s);
}

/* choosing, of candidates made by hand */
static void test_choose(void)
{
    static const char *const texts[] = {"a b", "c", "dddd", "e e e"};
    awq_candidate c[4];
    awq_answer_report r;
    awq__policy p;
    setup s;
    int i;
    begin(&s);
    memset(c, 0, sizeof c);
    memset(&r, 0, sizeof r);
    memset(&p, 0, sizeof p);
    for (i = 0; i < 4; i++) c[i].text = texts[i], c[i].distance = 0.5;
    r.candidate = c;
    r.n_candidates = 4;
    p.r = &r;
    p.d = &s.d;
    p.m = s.m;
    p.H = 3;
    p.null = 1;
    c[2].distance = 0.3; /* by far the nearest */
    CHECK(awq__policy_choose(&s.ctx, &p) == AWQ_OK && r.chosen == 2);
    c[2].looped = 1; /* but it loops */
    for (i = 0; i < 4; i++) c[i].agreement = 0;
    c[2].agreement = 0.9;
    c[3].agreement = 0.5; /* as near as others, and more agree */
    CHECK(awq__policy_choose(&s.ctx, &p) == AWQ_OK && r.chosen == 3);
    for (i = 0; i < 4; i++) c[i].looped = 1;
    CHECK(awq__policy_choose(&s.ctx, &p) == AWQ_OK && r.chosen == 2); /* all of them do */
    end(&s);
}

/* A model without layers says what follows its last token alone: greedy, it soon goes round. */
static void make_loop(awq_model *m)
{
    int l;
    for (l = 0; l < m->config.num_hidden_layers; l++) {
        awq_linear *o = &m->layers[l].linear[AWQ_O_PROJ], *d = &m->layers[l].linear[AWQ_DOWN_PROJ];
        memset((void *)(uintptr_t)o->weight, 0, (size_t)(o->out_features * o->row_bytes));
        memset((void *)(uintptr_t)d->weight, 0, (size_t)(d->out_features * d->row_bytes));
    }
}

static void test_loops(void)
{
    awq_answer_report *r;
    setup s;
    int64_t i;
    int32_t ids[64];
    for (i = 0; i < 64; i++) ids[i] = (int32_t)(i < 30 ? i : i % 7);
    CHECK(awq__policy_loop(ids, 64, 34) == 30 && awq__policy_loop(ids, 64, 35) == -1 && awq__policy_loop(ids, 50, 21) == -1);
    for (i = 0; i < 64; i++) ids[i] = (int32_t)i % 32;
    CHECK(awq__policy_loop(ids, 64, 48) == -1); /* two repeats are none */
    CHECK(awq__policy_loop(ids, 0, 48) == -1 && awq__policy_loop(ids, 1, 1) == -1);
    begin(&s);
    make_loop(s.m);
    s.d.step = 4;
    s.d.off = AWQ_MOVE_RERANK | AWQ_MOVE_CITE;
    r = ask(&s); /* it is tried twice, and in vain */
    CHECK_MSG(r->candidate[0].rollbacks == 2 && r->candidate[0].looped && r->candidate[0].seed != 0
              && r->candidate[0].reason == AWQ_STOP_CALLER, "%d %d %s", r->candidate[0].rollbacks, r->candidate[0].looped, r->text);
    awq_answer_free(&s.ctx, r);
    s.d.off |= AWQ_MOVE_ROLLBACK;
    r = ask(&s); /* ends where the loop is seen */
    CHECK(r->candidate[0].rollbacks == 0 && r->candidate[0].looped && r->candidate[0].tokens < MAX
          && r->candidate[0].reason == AWQ_STOP_CALLER);
    awq_answer_free(&s.ctx, r);
    s.d.off = AWQ_MOVE_ROLLBACK; /* others are drawn, near as it is */
    r = ask(&s);
    CHECK(r->n_candidates == 3);
    awq_answer_free(&s.ctx, r);
    end(&s);
}

/* of the last three steps, the nearest */
static void test_back(void)
{
    static const char words[] = " a a a a He counted every velvet seamstress carpenter lighthouse barrels in 9 8 7 6 5 4 3 2";
    int32_t ids[64];
    awq__voice v;
    awq__policy p;
    setup s;
    size_t n, bytes[5];
    float question[3] = {1, 0, 0};
    int64_t to, i, best;
    char text[400];
    begin(&s);
    memset(&v, 0, sizeof v);
    memset(&p, 0, sizeof p);
    p.d = &s.d;
    p.m = s.m;
    p.H = 3;
    p.null = 1;
    p.step = 4;
    p.question = question;
    v.ids = ids;
    CHECK(awq_encode(&s.ctx, awq_model_tokenizer(s.m), words, strlen(words), 0, ids, 64, &n) == AWQ_OK && n >= 20);
    for (i = 0; i < 5; i++)
        CHECK(awq_decode(&s.ctx, awq_model_tokenizer(s.m), ids + 4 * i, 4, 1, text, sizeof text, &bytes[i]) == AWQ_OK);
    for (best = 4, i = 3; i > 1; i--)
        if (bytes[i] > bytes[best]) best = i; /* the embedder has longer ones nearer */
    CHECK(awq__policy_back(&s.ctx, &p, &v, 20, &to) == AWQ_OK && to == 4 * (best + 1));
    CHECK(awq__policy_back(&s.ctx, &p, &v, 6, &to) == AWQ_OK && to == 4);
    CHECK(awq__policy_back(&s.ctx, &p, &v, 3, &to) == AWQ_OK && to == 0);
    end(&s);
}

static void test_rise(void)
{
    awq_guard_report guard;
    awq_answer_report *r;
    setup s;
    begin(&s);
    s.d.question = "Tell me all that you know of Bram.";
    s.d.off = AWQ_MOVE_RERANK | AWQ_MOVE_CITE;
    s.d.step = 2;
    s.d.max_tokens = 40;
    s.d.sampling.temperature = 1;
    s.d.rise = 1e-6; /* as good as any */
    r = ask(&s);
    CHECK_MSG(r->candidate[0].rollbacks > 0 && r->candidate[0].rollbacks <= 2 && r->candidate[0].calm, "%d %d %s",
              r->candidate[0].rollbacks, r->candidate[0].calm, r->text);
    awq_answer_free(&s.ctx, r);
    s.d.off |= AWQ_MOVE_CALM;
    r = ask(&s);
    CHECK(r->candidate[0].rollbacks > 0 && !r->candidate[0].calm);
    awq_answer_free(&s.ctx, r);
    s.d.off = AWQ_MOVE_RERANK | AWQ_MOVE_CITE | AWQ_MOVE_ROLLBACK;
    r = ask(&s);
    CHECK(!r->candidate[0].rollbacks && r->candidate[0].calm && r->candidate[0].entropy > 0);
    awq_answer_free(&s.ctx, r);
    s.d.sampling.temperature = 0; /* as calm as can be */
    r = ask(&s);
    CHECK(!r->candidate[0].calm);
    awq_answer_free(&s.ctx, r);
    s.d.sampling.temperature = 1;
    s.d.rise = 50; /* never */
    s.d.off = AWQ_MOVE_RERANK | AWQ_MOVE_CITE;
    r = ask(&s);
    CHECK(!r->candidate[0].rollbacks && !r->candidate[0].calm && !r->calm);
    awq_answer_free(&s.ctx, r);
    /* a guard that found entropies changed */
    memset(&guard, 0, sizeof guard);
    guard.n_gates = 1;
    guard.gate[0].id = "G7.onset";
    s.d.guard = &guard;
    r = ask(&s);
    CHECK(!r->calm && !r->candidate[0].calm);
    awq_answer_free(&s.ctx, r);
    guard.gate[0].severity = AWQ_FAIL;
    r = ask(&s);
    CHECK(r->calm && r->candidate[0].calm);
    awq_answer_free(&s.ctx, r);
    s.d.off |= AWQ_MOVE_CALM;
    r = ask(&s);
    CHECK(!r->calm && !r->candidate[0].calm);
    awq_answer_free(&s.ctx, r);
    end(&s);
}

static void refused(setup *s, awq_status st, const char *word)
{
    awq_answer_report *r = NULL;
    CHECK_MSG(awq_answer(&s->ctx, s->m, &s->d, &r) == st && !r && strstr(s->ctx.err.text, word), "%s: %s", word, s->ctx.err.text);
}

static void test_refusals(void)
{
    static char text[4000];
    awq_suite one = {0};
    awq_model_desc md;
    awq_model *mute = NULL, *m;
    awq_answer_report *r;
    double null = -1, by_hand = 0, d;
    setup s;
    float *e;
    const char *texts[4];
    int i, k, reached = 1;
    begin(&s);
    s.d.embed_size = 0;
    refused(&s, AWQ_E_ARG, "embed_size is 0");
    s.d.embed_size = 3;
    s.odd = "carpenter";
    refused(&s, AWQ_E_ARG, "embed refused");
    s.d.embed = NULL;
    refused(&s, AWQ_E_ARG, "null_distance is 0");
    s.d.null_distance = 1;
    s.d.candidates = 17;
    refused(&s, AWQ_E_ARG, "candidates is 17");
    s.d.candidates = 0;
    s.snippet[2].id = "bram";
    refused(&s, AWQ_E_ARG, "two snippets have the id \"bram\"");
    s.snippet[2].id = "a b";
    refused(&s, AWQ_E_ARG, "\"a b\" is no id");
    s.snippet[2].id = "[a]";
    refused(&s, AWQ_E_ARG, "is no id");
    s.snippet[2].id = "";
    refused(&s, AWQ_E_ARG, "is no id");
    s.snippet[2].id = NULL;
    s.snippet[2].text = NULL;
    refused(&s, AWQ_E_ARG, "snippet \"3\" has no text");
    for (i = 0; i < 600; i++) memcpy(text + 2 * i, " 7", 3);
    s.snippet[2].text = text;
    refused(&s, AWQ_E_LIMIT, "600 tokens, expected 1 to 512");
    s.d.off = 31;
    s.d.null_distance = 0;
    refused(&s, AWQ_E_LIMIT, "the model's context 512");
    s.d.n_snippets = 0;
    refused(&s, AWQ_E_ARG, "at least one snippet");
    s.d.n_snippets = 1;
    s.d.question = "";
    refused(&s, AWQ_E_ARG, "a question");
    memset(&md, 0, sizeof md);
    md.no_tokenizer = 1;
    CHECK(awq_model_load(&s.ctx, DEMO, &md, &mute) == AWQ_OK);
    m = s.m, s.m = mute;
    refused(&s, AWQ_E_ARG, "no tokenizer.json");
    CHECK(awq_null_distance(&s.ctx, mute, &s.suite, &null) == AWQ_E_ARG);
    s.m = m;
    awq_model_free(&s.ctx, mute);

    one = s.suite;
    one.n = 1;
    CHECK(awq_null_distance(&s.ctx, s.m, &one, &null) == AWQ_E_ARG && strstr(s.ctx.err.text, "1 questions"));
    one.n = 2;
    CHECK(awq_null_distance(&s.ctx, s.m, &one, &null) == AWQ_OK);
    texts[0] = one.items[0].question, texts[1] = one.items[1].anchor, texts[2] = one.items[1].question, texts[3] = one.items[0].anchor;
    e = (float *)malloc(4 * 128 * sizeof *e);
    CHECK(awq__policy_embed(&s.ctx, s.m, NULL, texts, 4, e) == AWQ_OK);
    for (k = 0; k < 4; k += 2) {
        for (i = 0, d = 0; i < 128; i++) d += (double)e[k * 128 + i] * e[(k + 1) * 128 + i];
        by_hand += (1 - d) / 2;
    }
    free(e);
    CHECK_MSG(fabs(null - by_hand) < 1e-6, "%g %g", null, by_hand);
    end(&s);

    for (k = 0; reached; k += 1 + k / 4) { /* the k-th allocation fails */
        fail_alloc f = {-1, 0, 0};
        awq_status st;
        size_t base;
        begin(&s);
        base = s.ctx.memory_used;
        s.d.max_tokens = 6;
        s.far = 0.9; /* with candidates */
        s.ctx.allocator = fail_allocator(&f);
        f.fail_at = k;
        r = NULL;
        st = awq_answer(&s.ctx, s.m, &s.d, &r);
        reached = f.calls > k;
        CHECK_MSG(st == (reached ? AWQ_E_MEMORY : AWQ_OK), "%d: %s", k, s.ctx.err.text);
        awq_answer_free(&s.ctx, r);
        CHECK(f.live == 0 && s.ctx.memory_used == base);
        memset(&s.ctx.allocator, 0, sizeof s.ctx.allocator);
        end(&s);
    }
    CHECK(k > 20);
}

static void test_draft(void)
{
    static const char text[] = "# Trades\n\nBram is a carpenter at Crowhill. He has a silver lathe that everybody envies.\n\n"
                               "Ottilie works as a seamstress in Copperfall. She has a silver thimble, a gift of her aunt.\n\n"
                               "The sea\n\nFrom the cape a crooked lighthouse looks over the sea, and \"gulls\" circle it.\n\n```\n# code(of, some, length); and more of it, to be long enough\n\n```\n\nshort\n";
    const char *path = "test_policy.tmp";
    awq_suite_draft_desc d;
    awq_suite q = {0};
    char *jsonl = NULL;
    int64_t n = 0;
    setup s;
    long k;
    int i, reached = 1;
    begin(&s);
    memset(&d, 0, sizeof d);
    for (i = 0; i < 2; i++) {
        int64_t j;
        d.model = i ? s.m : NULL;
        CHECK_MSG(awq_suite_draft(&s.ctx, text, strlen(text), &d, &jsonl, &n) == AWQ_OK && n == 3, "%s", s.ctx.err.text);
        CHECK(jsonl && awq__file_save(&s.ctx, path, jsonl, strlen(jsonl)) == AWQ_OK && strstr(jsonl, "\"draft\": true"));
        if (i) printf("%s", jsonl);
        awq_text_free(&s.ctx, jsonl);
        CHECK_MSG(awq_suite_load(&s.ctx, path, &q) == AWQ_OK && q.n == 3, "%s", s.ctx.err.text);
        for (j = 0; j < q.n; j++) {
            const awq_suite_item *t = &q.items[j];
            CHECK(t->anchor && t->distractor && strcmp(t->anchor, t->distractor) && t->section);
            CHECK(!strcmp(t->section, j < 2 ? "Trades" : "The sea"));
            if (!i) CHECK_MSG(t->answer && strstr(t->anchor, t->answer) && strstr(t->question, "___") && !strstr(t->question, t->answer),
                              "%s: %s", t->question, t->answer);
            if (!i && j < 2) CHECK(!strncmp(t->distractor, j ? "Bram" : "Ottilie", 4)); /* more words are shared */
        }
        awq_suite_free(&s.ctx, &q);
    }
    d.items = 1;
    CHECK(awq_suite_draft(&s.ctx, text, strlen(text), &d, &jsonl, &n) == AWQ_OK && n == 1);
    awq_text_free(&s.ctx, jsonl);
    CHECK(awq_suite_draft(&s.ctx, "one", 3, &d, &jsonl, &n) == AWQ_E_ARG && strstr(s.ctx.err.text, "0 passages"));
    CHECK(awq_suite_draft(&s.ctx, "\xff", 1, &d, &jsonl, &n) == AWQ_E_ARG && strstr(s.ctx.err.text, "UTF-8"));
    d.items = 0;
    d.model = NULL;
    { /* a byte-order mark, line ends and headings are no part of an anchor; a long paragraph is asked for more than once */
        static char more[4000];
        size_t at = (size_t)sprintf(more, "\xef\xbb\xbfTrades\r\n\r\n");
        for (i = 0; i < 40; i++) at += (size_t)sprintf(more + at, "Carpenter %d planes the oak of Crowhill.\r\n", 100 + i);
        CHECK_MSG(awq_suite_draft(&s.ctx, more, at, &d, &jsonl, &n) == AWQ_OK && n == 2, "%lld: %s", (long long)n, s.ctx.err.text);
        CHECK(!strstr(jsonl, "\xef\xbb\xbf") && !strstr(jsonl, "\\r") && strstr(jsonl, "\"section\": \"Trades\"")
              && strstr(jsonl, "\"anchor\": \"Carpenter 100") && strstr(jsonl, "Carpenter 139"));
        awq_text_free(&s.ctx, jsonl);
    }
    { /* a sentence goes through the ends of lines, but rows of a table are sentences of their own */
        static const char wrapped[] = "The lighthouse of the cape was built by the brothers\nMatei and Ilinca with stones from the quarry.\n\n"
                                      "12,forty two crooked lanterns from Copperfall,7\n13,sixty silver thimbles from Crowhill,9\n";
        CHECK_MSG(awq_suite_draft(&s.ctx, wrapped, strlen(wrapped), &d, &jsonl, &n) == AWQ_OK && n == 2, "%s", s.ctx.err.text);
        CHECK_MSG(strstr(jsonl, "\\\"The lighthouse of the cape was built by the brothers Matei and Ilinca with stones from the ___."), "%s", jsonl);
        CHECK_MSG(strstr(jsonl, "\\\"12,forty two crooked lanterns from ___,7\\\"?"), "%s", jsonl);
        awq_text_free(&s.ctx, jsonl);
    }
    for (k = 0; reached; k++) {
        fail_alloc f = {-1, 0, 0};
        awq_status st;
        f.fail_at = k;
        s.ctx.allocator = fail_allocator(&f);
        jsonl = NULL;
        st = awq_suite_draft(&s.ctx, text, strlen(text), &d, &jsonl, &n);
        reached = f.calls > k;
        CHECK(st == (reached ? AWQ_E_MEMORY : AWQ_OK) && !st == (jsonl != NULL));
        awq_text_free(&s.ctx, jsonl);
        CHECK(f.live == 0);
        memset(&s.ctx.allocator, 0, sizeof s.ctx.allocator);
    }
    CHECK(k > 3);
    remove(path);
    end(&s);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_rollback);
    RUN(test_entropy);
    RUN(test_answer);
    RUN(test_reject);
    RUN(test_rerank);
    RUN(test_choose);
    RUN(test_loops);
    RUN(test_back);
    RUN(test_rise);
    RUN(test_draft);
    RUN(test_refusals);
    return TEST_END();
}
