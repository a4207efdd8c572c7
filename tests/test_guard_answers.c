/* guard, the gates that generate text: suites with schemas and long answers, bad lines left out; passages; each
   gate passing on a model that is the baseline and failing on one made bad in its way, or on answers that are;
   callbacks; the same report for any number of threads; each allocation failing once. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "gates.h"

#define DEMO "tools/demo/model"
#define FILE_NAME "test_guard_answers.tmp"

static void put_file(const char *text)
{
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq__file_save(&ctx, FILE_NAME, text, strlen(text)) == AWQ_OK);
}

static void expect(const awq_guard_report *r, const char *id, awq_severity severity)
{
    const awq_gate *g = gate_of(r, id);
    CHECK_MSG(g && g->severity == severity, "%s: %s, value %g, baseline %g, warn %g, fail %g", id,
              g ? awq_severity_name(g->severity) : "missing", g ? g->value : 0, g ? g->baseline : 0,
              g ? g->warn : 0, g ? g->fail : 0);
    if (g) CHECK_MSG((g->text[0] != 0) == (severity != AWQ_PASS), "%s: \"%s\"", id, g->text);
}

static void test_suites(void)
{
    awq_suite s;
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    memset(&s, 0, sizeof s);
    put_file("{\"question\": \"a\", \"schema\": {\"type\": \"object\", \"properties\": {\"x\": {\"type\": "
             "\"integer\"}}}}\n"
             "{\"question\": \"b\", \"long\": true}\n{\"question\": \"c\", \"long\": false}\n");
    CHECK_MSG(awq_suite_load(&ctx, FILE_NAME, &s) == AWQ_OK, "%s", ctx.err.text);
    CHECK(s.n == 3 && s.n_bad == 0 && !s.bad && s.items[0].schema && strstr(s.items[0].schema, "\"integer\"")
          && !s.items[1].schema && s.items[1].long_answer && !s.items[2].long_answer);
    awq_suite_free(&ctx, &s);
    put_file("{\"question\": \"a\"}\n{\"question\": \"b\", \"schema\": {\"type\": \"nothing\"}}\nno "
             "JSON\n{\"answer\": \"x\"}\n\n{\"question\": \"e\"}");
    CHECK_MSG(awq_suite_load(&ctx, FILE_NAME, &s) == AWQ_E_FORMAT && strstr(ctx.err.text, "line 2: ")
                  && strstr(ctx.err.text, "#/type"),
              "%s", ctx.err.text);
    CHECK(!s.items && ctx.memory_used == 0);
    s.keep_going = 1;
    CHECK_MSG(awq_suite_load(&ctx, FILE_NAME, &s) == AWQ_OK, "%s", ctx.err.text);
    CHECK(s.n == 2 && s.n_bad == 3 && s.items[0].line == 1 && s.items[1].line == 6
          && !strcmp(s.items[1].question, "e"));
    CHECK(s.bad && strstr(s.bad, "line 2: ") && strstr(s.bad, FILE_NAME));
    awq_suite_free(&ctx, &s);
    put_file("[]\n{\"question\": 7}\n");
    s.keep_going = 1;
    CHECK(awq_suite_load(&ctx, FILE_NAME, &s) == AWQ_E_FORMAT
          && strstr(ctx.err.text, "line 1: not a JSON object"));
    CHECK(ctx.memory_used == 0);
    remove(FILE_NAME);
    memset(&s, 0, sizeof s);
    CHECK_MSG(awq_suite_load(&ctx, "tools/suites/english.jsonl", &s) == AWQ_OK, "%s", ctx.err.text);
    {
        int64_t i, plain = 0, json = 0, lengthy = 0;
        for (i = 0; i < s.n; i++) {
            const awq_suite_item *t = &s.items[i];
            CHECK_MSG(t->id && t->section, "line %d", (int)t->line);
            json += t->schema != NULL;
            lengthy += t->long_answer;
            if (t->schema || t->long_answer) continue;
            plain++; /* what is right stands in the anchor, not in its neighbour */
            CHECK_MSG(t->n_paraphrases >= 2 && t->n_contexts && t->answer && t->anchor && t->distractor
                          && awq__guard_contains(t->anchor, t->answer)
                          && !awq__guard_contains(t->distractor, t->answer),
                      "line %d", (int)t->line);
        }
        CHECK(plain == 28 && json == 6 && lengthy == 6);
    }
    awq_suite_free(&ctx, &s);
    CHECK(ctx.memory_used == 0);
}

static void test_passages(void)
{
    static char text[4000];
    awq_passages p;
    awq_ctx ctx;
    long k;
    size_t i, n;
    int reached = 1;
    memset(&ctx, 0, sizeof ctx);
    memset(&p, 0, sizeof p);
    put_file("\n\nHeading\n\nThe first paragraph has a heading and\r\ntwo lines.\r\n \r\nThe second paragraph "
             "is long enough alone.\n\n\nEnd");
    CHECK_MSG(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_OK, "%s", ctx.err.text);
    CHECK(p.n == 3 && !strncmp(p.text[0], "Heading\n\nThe first", 18) && strstr(p.text[0], "lines.")
          && !strncmp(p.text[1], "The second", 10) && !strcmp(p.text[2], "End"));
    awq_passages_free(&ctx, &p);
    CHECK(!p.text && ctx.memory_used == 0);
    for (i = 0; i + 20 < sizeof text; i += 20) memcpy(text + i, "A sentence as such. ", 20);
    put_file(text);
    CHECK(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_OK && p.n == 4);
    for (i = 0; i < 3; i++) CHECK(p.n == 4 && strlen(p.text[i]) == 1199 && p.text[i][1198] == '.');
    awq_passages_free(&ctx, &p);
    /* a byte-order mark; headings of both kinds, and lines that are none; code right behind a line; Windows's line ends */
    put_file("\xef\xbb\xbf# One\r\n\r\nThe first paragraph is long enough alone.\r\n```\r\n# code\r\n\r\nmore\r\n```\r\n"
             "Two of them\r\n\r\n- a point of a list\r\n\r\n- another one, for which it is long enough\r\n"
             "## \xd0\x93\xd0\xbb\xd0\xb0\xd0\xb2\xd0\xb0\r\nThe last paragraph is right under its heading.\r\n");
    CHECK_MSG(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_OK && p.n == 4, "%lld: %s", (long long)p.n, ctx.err.text);
    if (p.n == 4) {
        CHECK(!strcmp(p.text[0], "# One\n\nThe first paragraph is long enough alone.") && !strcmp(p.section[0], "One"));
        CHECK(!strcmp(p.text[1], "```\n# code\n\nmore\n```") && !strcmp(p.section[1], "One"));
        CHECK(!strncmp(p.text[2], "Two of them\n\n- a point", 22) && !strcmp(p.section[2], "Two of them"));
        CHECK(!strcmp(p.section[3], "\xd0\x93\xd0\xbb\xd0\xb0\xd0\xb2\xd0\xb0") && strstr(p.text[3], "right under"));
    }
    awq_passages_free(&ctx, &p);
    for (i = 0; i + 40 < sizeof text; i += 40) memcpy(text + i, "7,a row of numbers,without a stop,12,34\n", 40);
    text[i] = 0;
    put_file(text); /* whole lines */
    CHECK(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_OK && p.n == 4);
    for (i = 0; i < 3; i++) CHECK(p.n == 4 && strlen(p.text[i]) == 1199 && p.text[i][1198] == '4');
    awq_passages_free(&ctx, &p);
    for (i = 0; i + 3 < sizeof text; i += 3) memcpy(text + i, "\xe2\x82\xac", 3);
    text[i] = 0;
    put_file(text); /* whole characters, none lost */
    CHECK(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_OK && p.n == 4);
    for (i = 0, k = 0; (int64_t)i < p.n; i++) {
        CHECK(awq__utf8_valid(p.text[i], strlen(p.text[i])) == strlen(p.text[i]));
        k += (long)strlen(p.text[i]);
    }
    CHECK(k == (long)strlen(text));
    awq_passages_free(&ctx, &p);
    memset(text, ' ', sizeof text - 1); /* code, white space behind it longer than a passage, more text */
    memcpy(text, "```\ncode\n```", 12);
    strcpy(text + 3000, "\n\nThe next one.");
    put_file(text);
    CHECK(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_OK && p.n == 2 && !strcmp(p.text[0], "```\ncode\n```")
          && !strcmp(p.text[1], "The next one."));
    awq_passages_free(&ctx, &p);
    for (i = n = 0; i < 100; i++) n += (size_t)sprintf(text + n, "## Option %d\n\nSets it to %d.\n\n", (int)i, (int)i);
    put_file(text); /* short sections stay apart */
    CHECK_MSG(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_OK && p.n == 100 && !strcmp(p.text[99], "## Option 99\n\nSets it to 99.")
                  && !strcmp(p.section[99], "Option 99"), "%lld", (long long)p.n);
    awq_passages_free(&ctx, &p);
    for (i = n = 0; i < 150; i++) n += (size_t)sprintf(text + n, "# A heading, number %d\n", (int)i);
    put_file(text); /* headings alone */
    CHECK_MSG(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_OK && p.n > 2, "%lld", (long long)p.n);
    for (i = 0; (int64_t)i < p.n; i++) CHECK(strlen(p.text[i]) <= 1200);
    awq_passages_free(&ctx, &p);
    put_file("\xff\xfeo\1k\1");
    CHECK(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_E_FORMAT && strstr(ctx.err.text, "UTF-16"));
    put_file(" \n\n\t\n");
    CHECK(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_E_FORMAT && strstr(ctx.err.text, "no text"));
    put_file("abc\xff");
    CHECK(awq_passages_load(&ctx, FILE_NAME, &p) == AWQ_E_FORMAT && strstr(ctx.err.text, "byte 3"));
    put_file("One.\n\nTwo.");
    for (k = 0; reached; k++) {
        fail_alloc f = {-1, 0, 0};
        awq_status st;
        f.fail_at = k;
        ctx.allocator = fail_allocator(&f);
        memset(&p, 0, sizeof p);
        st = awq_passages_load(&ctx, FILE_NAME, &p);
        reached = f.calls > k;
        CHECK(st == (reached ? AWQ_E_MEMORY : AWQ_OK));
        awq_passages_free(&ctx, &p);
        CHECK(f.live == 0);
    }
    remove(FILE_NAME);
}

static void test_helpers(void)
{
    static const struct {
        double d[3];
        int n, trend;
    } steps[] = {{{0.5, 0.55, 0}, 2, AWQ_TREND_CHAOTIC},       {{0.5, 0.45, 0}, 2, AWQ_TREND_CONVERGENT},
                 {{0.5, 0.51, 0}, 2, AWQ_TREND_RECURSIVE},     {{0.50, 0.46, 0.49}, 3, AWQ_TREND_DIVERGENT},
                 {{0.50, 0.53, 0.56}, 3, AWQ_TREND_STEADY},    {{0.30, 0.80, 0.77}, 3, AWQ_TREND_STEADY},
                 {{0.50, 0.54, 0.54}, 3, AWQ_TREND_RECURSIVE}, {{0.50, 0.52, 0.5025}, 3, AWQ_TREND_RECURSIVE}};
    static const float e[4][2] = {{1, 0}, {0, 3}, {-1, 0.1f}, {2, 2}}, q[2] = {5, 4.9f};
    int32_t ids[300];
    int64_t best[3];
    float cosine[3];
    awq_span span[2] = {{4, 9}, {10, 15}};
    size_t i;
    for (i = 0; i < sizeof steps / sizeof steps[0]; i++)
        CHECK_MSG((int)awq__guard_trend_of(steps[i].d, steps[i].n - 1, 0) == steps[i].trend
                      && awq__guard_trend_of(steps[i].d, steps[i].n - 1, 1) == AWQ_TREND_CHAOTIC,
                  "%d: %d", (int)i, (int)awq__guard_trend_of(steps[i].d, steps[i].n - 1, 0));
    for (i = 0; i < 300; i++) ids[i] = (int32_t)(i < 253 ? i : i % 5);
    CHECK(!awq__guard_loops(ids, 300, 256)); /* 47 repeated tokens */
    for (i = 0; i < 300; i++) ids[i] = (int32_t)(i < 252 ? i + 9 : i % 5);
    CHECK(awq__guard_loops(ids, 300, 256) && awq__guard_loops(ids + 252, 48, 48)
          && !awq__guard_loops(ids + 252, 20, 48));
    CHECK(awq__guard_distinct(ids + 252, 48) < 0.11 && awq__guard_distinct(ids, 200) > 0.999);
    CHECK(awq__guard_distinct(ids, 1) != awq__guard_distinct(ids, 1));
    CHECK(fabs(awq__guard_recall("The MIDWIFE, Vesna; lives", "Vesna the midwife") - 2.0 / 3) < 1e-9);
    CHECK(awq__guard_recall("a  b\tc", "A-b") > 0.999 && awq__guard_recall("", "x") < 0.001
          && awq__guard_recall("x", "...") != awq__guard_recall("x", "..."));
    CHECK(fabs(awq__guard_covered("one two three four", span, 1) - 0.25)
          < 1e-9); /* "two t": of these words one is whole */
    CHECK(fabs(awq__guard_covered("one two, three four", span, 2) - 0.25) < 1e-9
          && awq__guard_covered("a", span, 0) < 0.1);
    CHECK(awq_nearest(&e[0][0], 4, 2, q, 3, best, cosine) == 3 && best[0] == 3 && best[1] == 0 && best[2] == 1
          && cosine[0] > cosine[1] && cosine[1] > cosine[2]);
    CHECK(awq_nearest(&e[0][0], 2, 2, q, 3, best, cosine) == 2
          && awq_nearest(&e[0][0], 4, 2, q, 0, best, cosine) == 0);
}

/* --- answers written here, judged as if models had given them */
enum { RUNS = 48 };

typedef struct made {
    awq_ctx ctx;
    awq_guard_report report;
    awq_guard_desc d;
    awq_suite suite;
    awq_suite_item item[RUNS];
    awq_guard_item result[RUNS];
    awq__guard g;
    awq__asking a;
    awq__asked run[RUNS];
    char text[2][RUNS][64];
} made;

static void make(made *m, int what, int n, int64_t most)
{
    int i, k;
    memset(m, 0, sizeof *m);
    m->g.d = &m->d;
    m->g.r = &m->report;
    m->d.suite = &m->suite;
    m->suite.items = m->item;
    m->report.item = m->result;
    m->a.g = &m->g;
    m->a.run = m->run;
    m->a.n = m->a.planned = n;
    for (i = 0; i < n; i++) {
        m->run[i].what = what;
        m->run[i].item = i;
        m->run[i].most = most;
        for (k = 0; k < 2; k++) {
            m->run[i].reply[k].text.data = m->text[k][i];
            m->run[i].reply[k].whole = 1;
        }
    }
}

static void test_json(void)
{
    static made m;
    static const char *const answers[] = {
        "Sure: {\"n\": 3}.", "```json\n{ \"n\":\n 4 }\n```", "{\"n\": \"x\"}", "{\"n\": 3", "three",
        "[{\"n\": 3}]"};
    static const int parses[] = {1, 1, 1, 0, 0, 1}, matches[] = {1, 1, 0, 0, 0, 0};
    awq_grammar_desc gd;
    awq_grammar *grammar = NULL;
    int i, k, p, q, round;
    make(&m, AWQ__ASK_JSON, RUNS, 48);
    memset(&gd, 0, sizeof gd);
    gd.schema =
        "{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\"}}, \"required\": [\"n\"]}";
    CHECK(awq_grammar_create(&m.ctx, &gd, &grammar) == AWQ_OK);
    for (i = 0; i < 6; i++)
        CHECK_MSG(awq__guard_json_of(&m.ctx, grammar, answers[i], &p, &q) == AWQ_OK && p == parses[i]
                      && q == matches[i],
                  "%d: %d %d", i, p, q);
    awq_grammar_free(&m.ctx, grammar);
    /* the same; half of the model's are no JSON; no schema; forced ones cut off; no JSON of the baseline */
    for (round = 0; round < 5; round++) {
        make(&m, AWQ__ASK_JSON, RUNS, 48);
        for (i = 0; i < RUNS; i++) {
            m.item[i].schema = gd.schema;
            m.run[i].what = i % 2 ? AWQ__ASK_FORCED : AWQ__ASK_JSON;
            for (k = 0; k < 2; k++) snprintf(m.text[k][i], 64, "{\"n\": %d}", i);
            if (round == 1 && i % 4 == 0) snprintf(m.text[0][i], 64, "%d", i);
            if (round == 2 && i % 4 == 0) snprintf(m.text[0][i], 64, "{\"m\": %d}", i);
            if (round == 3 && i == 1) m.run[i].reply[0].whole = 0;
            if (round == 4 && i % 2 == 0) m.text[1][i][0] = 0;
        }
        CHECK(awq__guard_json_runs(&m.ctx, &m.a) == AWQ_OK);
        expect(&m.report, "G13.parses", round == 1 ? AWQ_FAIL : round == 4 ? AWQ_VOID : AWQ_PASS);
        expect(&m.report, "G13.matches",
               round == 1 || round == 2 ? AWQ_FAIL
               : round == 4             ? AWQ_VOID
                                        : AWQ_PASS);
        expect(&m.report, "G13.forced", round == 3 ? AWQ_FAIL : AWQ_PASS);
        CHECK(m.ctx.memory_used == 0);
    }
}

/* answers of 60 tokens: as varied as the baseline's; every third ends in a loop; all say the same pairs */
static void test_loops(void)
{
    static made m;
    static int32_t ids[2][RUNS][60];
    int i, k, j, round;
    for (round = 0; round < 3; round++) {
        make(&m, AWQ__ASK_LONG, RUNS, 256);
        for (i = 0; i < RUNS; i++)
            for (k = 0; k < 2; k++) {
                m.run[i].reply[k].ids = ids[k][i];
                m.run[i].reply[k].n = 60;
                for (j = 0; j < 60; j++)
                    ids[k][i][j] = k                                   ? j
                                   : round == 1 && i % 3 == 0 && j > 5 ? j % 2
                                   : round == 2                        ? j % 29 + (j > 40)
                                                                       : j + i;
            }
        awq__guard_free_runs(&m.a);
        expect(&m.report, "G7.loops", round == 1 ? AWQ_FAIL : AWQ_PASS);
        expect(&m.report, "G7.distinct", round == 2 ? AWQ_FAIL : round == 1 ? AWQ_WARN : AWQ_PASS);
    }
}

/* six runs each: states by right answers, splits, loops */
static void test_states(void)
{
    static made m;
    static const int right[] = {6, 5, 4, 3, 2, 0}, state[] = {AWQ_CONVERGENT, AWQ_CONVERGENT, AWQ_DIVERGENT,
                                                              AWQ_DIVERGENT,  AWQ_CHAOTIC,    AWQ_CHAOTIC},
                     split[] = {0, 0, 1, 1, 1, 0};
    static int32_t same[48];
    int i, x;
    make(&m, AWQ__ASK_ANSWER, RUNS, 48);
    for (i = 0; i < RUNS; i++) {
        m.run[i].item = i / 6;
        m.item[i / 6].answer = "yes";
        for (x = 0; x < 2; x++)
            snprintf(m.text[x][i], 64, x || i / 6 > 5 || i % 6 < right[i / 6] ? "Oh yes." : "no");
    }
    for (x = 42; x < 48; x++) m.run[x].reply[0].bad = x == 47; /* the last: NaN; the one before: a loop */
    m.run[36].reply[0].ids = same;
    m.run[36].reply[0].n = 30;
    CHECK(awq__guard_answers(&m.ctx, &m.a) == AWQ_OK);
    for (i = 0; i < 6; i++)
        CHECK_MSG(m.result[i].state[0] == state[i] && m.result[i].split[0] == split[i]
                      && m.result[i].state[1] == AWQ_CONVERGENT && m.result[i].right[0] == right[i],
                  "%d: %d %d", i, m.result[i].state[0], m.result[i].split[0]);
    CHECK(m.result[6].state[0] == AWQ_RECURSIVE && m.result[6].loops[0] == 1
          && m.result[7].state[0] == AWQ_CHAOTIC);
    CHECK(m.report.flips == 6);
    expect(&m.report, "G4.convergent", AWQ_FAIL);
    expect(&m.report, "G4.right", AWQ_FAIL);
    expect(&m.report, "G4.flips", AWQ_FAIL);
    expect(&m.report, "G4.chaotic", AWQ_FAIL);
    expect(&m.report, "G4.split", AWQ_FAIL);
    expect(&m.report, "G9.coverage", AWQ_WARN);
    CHECK(m.ctx.memory_used == 0);
}

/* --- models */
typedef struct setup {
    awq_ctx ctx;
    awq_model *base;
    awq_suite suite, part;
    awq_suite_item item[16];
    const char *context[16];
    awq_guard_desc d;
    awq_guard_report *r;
} setup;

static awq_model *load_model(awq_ctx *ctx, int rtn, awq_mode mode)
{
    awq_model_desc md;
    awq_model *m = NULL;
    memset(&md, 0, sizeof md);
    md.mode = mode;
    md.rtn_bits = rtn;
    md.rtn_group_size = 128;
    CHECK_MSG(awq_model_load(ctx, DEMO, &md, &m) == AWQ_OK, "%s", ctx->err.text);
    return m;
}

/* the demo's suite: its first `plain` questions, `stories` and JSON */
static int begin(setup *s, int plain, int stories, int json)
{
    int64_t i;
    int n = 0;
    memset(s, 0, sizeof *s);
    s->base = load_model(&s->ctx, 0, AWQ_MODE_DETERMINISTIC);
    CHECK_MSG(awq_suite_load(&s->ctx, "tools/demo/suite.jsonl", &s->suite) == AWQ_OK, "%s", s->ctx.err.text);
    if (!s->base || !s->suite.n) return 0;
    for (i = 0; i < s->suite.n; i++) {
        const awq_suite_item *t = &s->suite.items[i];
        int *left = t->schema ? &json : t->long_answer ? &stories : &plain;
        if (*left) s->item[n++] = *t, --*left;
    }
    s->part.items = s->item;
    s->part.n = n;
    s->d.model = s->d.baseline = s->base;
    s->d.suite = &s->part;
    s->d.answer_tokens = 16;
    s->d.long_tokens = 64;
    return 1;
}

static void end(setup *s)
{
    awq_suite_free(&s->ctx, &s->suite);
    awq_model_free(&s->ctx, s->base);
    CHECK(s->ctx.memory_used == 0);
}

static int guard(setup *s)
{
    s->r = NULL;
    CHECK_MSG(awq_guard(&s->ctx, &s->d, &s->r) == AWQ_OK, "%s", s->ctx.err.text);
    return s->r != NULL;
}

/* retrieval of the host: the question's passage, then others; k is made small, as the demo's context is */
static int few_contexts(void *user, int64_t item, int k, int order, const char **text)
{
    setup *s = (setup *)user;
    int i, n = k == 5 ? 1 : k == 10 ? 2 : 3;
    for (i = 0; i < n; i++) text[(i + order) % n] = s->suite.items[(item + i) % 8].anchor;
    return n;
}

/* cites all of the anchor where the answer is right */
static int cite_right(void *user, int64_t item, const char *answer, awq_span *span, int room)
{
    const awq_suite_item *t = &((setup *)user)->item[item];
    if (room < 1 || !awq__guard_contains(answer, t->answer)) return 0;
    span->begin = 0;
    span->end = (int64_t)strlen(t->anchor);
    return 1;
}

/* nothing but the embedding of a token decides what follows: itself */
static void make_it_loop(awq_model *m)
{
    int l;
    for (l = 0; l < m->config.num_hidden_layers; l++) {
        awq_linear *o = &m->layers[l].linear[AWQ_O_PROJ], *down = &m->layers[l].linear[AWQ_DOWN_PROJ];
        memset((void *)(uintptr_t)o->weight, 0, (size_t)(o->out_features * o->in_features) * 2);
        memset((void *)(uintptr_t)down->weight, 0, (size_t)(down->out_features * down->in_features) * 2);
    }
}

/* --- made up passages and steps: what the models above do not show */
enum { SWEPT = 4 };

static void make_sweep(made *m, awq__swept *swept, float e[2][3][2], float q[2][SWEPT * AWQ__GUARD_TEXTS][2])
{
    int i, k, x;
    make(m, AWQ__ASK_SWEEP, SWEPT * 9, 48);
    m->a.planned = 0;
    m->a.swept = swept;
    m->a.n_swept = SWEPT;
    m->a.n_passages = 3;
    m->g.H = 2;
    m->report.null_distance = 1;
    memset(swept, 0, SWEPT * sizeof *swept);
    for (k = 0; k < 2; k++) {
        m->g.e[k] = &q[k][0][0];
        m->a.e[k] = &e[k][0][0];
        for (x = 0; x < 3; x++) { /* cosines 0.9, 0.7, 0.5 to the question */
            e[k][x][0] = 0.9f - 0.2f * (float)x;
            e[k][x][1] = sqrtf(1 - e[k][x][0] * e[k][x][0]);
        }
        for (i = 0; i < SWEPT * AWQ__GUARD_TEXTS; i++) q[k][i][0] = 1, q[k][i][1] = 0;
    }
    for (i = 0; i < SWEPT; i++) {
        m->item[i].answer = "yes";
        swept[i].item = i;
        for (k = 0; k < 3; k++)
            for (x = 0; x <= k; x++) swept[i].at[k][swept[i].n[k]++] = x;
    }
    for (i = 0; i < SWEPT * 9; i++) {
        m->run[i].item = i / 9;
        for (k = 0; k < 2; k++) strcpy(m->text[k][i], "yes");
    }
}

static void test_sweeps(void)
{
    static made m;
    static awq__swept swept[SWEPT];
    static float e[2][3][2], q[2][SWEPT * AWQ__GUARD_TEXTS][2];
    int round, i, k;
    /* the same; answers of the model change with the order; its passages all look alike; those of both do, far off;
       the baseline does not know */
    for (round = 0; round < 5; round++) {
        make_sweep(&m, swept, e, q);
        for (i = 0; i < SWEPT * 9; i++) {
            if (round == 1 && i % 9 % 2) strcpy(m.text[0][i], "no");
            if (round == 4) strcpy(m.text[1][i], "no");
        }
        for (k = 0; k < 2 && round > 1; k++)
            for (i = 0; i < 3 && round < 4; i++) {
                float to = round == 2 ? 0.9f : 0.2f;
                if (round == 2 && k) continue;
                e[k][i][0] = to;
                e[k][i][1] = sqrtf(1 - to * to);
            }
        CHECK(awq__guard_sweeps(&m.ctx, &m.a) == AWQ_OK);
        if (round == 4) {
            CHECK(!gate_of(&m.report, "G6.right") && !gate_of(&m.report, "G6.flips")
                  && strstr(m.report.left_out, "the baseline mostly fails"));
            continue;
        }
        expect(&m.report, "G6.right", round == 1 ? AWQ_FAIL : AWQ_PASS);
        expect(&m.report, "G6.flips", round == 1 ? AWQ_FAIL : AWQ_PASS);
        expect(&m.report, "G6.slope", round == 2 ? AWQ_FAIL : round == 3 ? AWQ_VOID : AWQ_PASS);
    }
}

/* steps in the plane: nearer to what the item is about, or to something else by more than the gap */
static void test_conflicts(void)
{
    enum { ITEMS = 3, N = ITEMS * AWQ__GUARD_TEXTS };
    static const struct {
        double angle; /* degrees */
        int without, with; /* conflict without and with a distractor */
    } cases[] = {{0, 0, 0}, {40, 0, 0}, {46, 0, 0}, {60, 1, 1}, {90, 1, 1}, {-32, 0, 0}, {-34, 0, 1}, {-90, 0, 1}};
    static made m;
    float e[N][2];
    const char *texts[N];
    size_t i;
    int k;
    make(&m, AWQ__ASK_LONG, 0, 48);
    memset(e, 0, sizeof e);
    memset((void *)texts, 0, sizeof texts);
    m.g.texts = texts;
    m.g.H = 2;
    m.g.e[1] = &e[0][0];
    m.report.null_distance = 1;
    m.suite.n = ITEMS;
    m.item[0].long_answer = m.item[1].long_answer = 1;
    for (k = 0; k < ITEMS; k++) { /* about 0, 90 and 45 degrees; the last is no long question */
        texts[k * AWQ__GUARD_TEXTS + AWQ__GUARD_QUESTION] = "q";
        e[k * AWQ__GUARD_TEXTS + AWQ__GUARD_QUESTION][0] = k == 0 ? 1 : k == 1 ? 0 : 0.7071f;
        e[k * AWQ__GUARD_TEXTS + AWQ__GUARD_QUESTION][1] = k == 0 ? 0 : k == 1 ? 1 : 0.7071f;
    }
    e[AWQ__GUARD_DISTRACTOR][0] = 0.5f; /* -60 degrees */
    e[AWQ__GUARD_DISTRACTOR][1] = -0.8660f;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (k = 0; k < 2; k++) {
            float step[2];
            step[0] = (float)cos(cases[i].angle / 57.29578);
            step[1] = (float)sin(cases[i].angle / 57.29578);
            texts[AWQ__GUARD_DISTRACTOR] = k ? "d" : NULL;
            CHECK_MSG(awq__guard_conflict(&m.g, 0, step) == (k ? cases[i].with : cases[i].without), "%g, %d",
                      cases[i].angle, k);
        }
    texts[AWQ__GUARD_DISTRACTOR] = NULL;
    texts[AWQ__GUARD_ANCHOR] = "a"; /* with an anchor that is what it is about */
    e[AWQ__GUARD_ANCHOR][1] = 1;
    CHECK(!awq__guard_conflict(&m.g, 0, e[AWQ__GUARD_ANCHOR]) && !awq__guard_conflict(&m.g, 0, e[0]));
    CHECK(!awq__guard_conflict(&m.g, 1, e[AWQ__GUARD_ANCHOR])); /* as near to its own */
    texts[AWQ__GUARD_TEXTS] = NULL; /* the other one is left out */
    texts[AWQ__GUARD_ANCHOR] = NULL;
    CHECK(!awq__guard_conflict(&m.g, 0, e[AWQ__GUARD_ANCHOR]));
}

/* texts as bags of words: each word's hash is a direction */
typedef struct bags {
    int calls, fail_at;
} bags;

static int bag_of_words(void *user, const char *text, float *vector, int64_t n)
{
    bags *b = (bags *)user;
    size_t at = 0, begin;
    uint32_t w;
    memset(vector, 0, (size_t)n * sizeof *vector);
    while ((w = awq__guard_word(text, &at, &begin)) != 0) vector[(w >> 8) % (uint32_t)n] += 1;
    return b->calls++ == b->fail_at ? 5 : 0;
}

/* Long answers: the baseline stays with one text; the model goes to and fro between two; or it stays with the
   other, which another question is about; the same as an embedder of the host sees it; it ends in NaN; it says
   nothing. */
static void test_trends(void)
{
    static const char *const texts[2] = {
        "Once there was a midwife in a village by the sea, and she went from house to house. ",
        "7 + 5 = 12. 9 - 4 = 5. Q: How many? A: 25 coins, 18 barrels, 43 days. "};
    enum { W = 512 };
    static made m;
    static float x[2 * AWQ__GUARD_TEXTS * W];
    setup s;
    bags b = {0, -1};
    int32_t ids[2][AWQ__GUARD_STEP], answer[2][8 * AWQ__GUARD_STEP];
    const char *list[2 * AWQ__GUARD_TEXTS];
    awq_status st;
    int i, k, n, round;
    if (!begin(&s, 1, 0, 0)) return;
    for (k = 0; k < 2; k++) {
        int32_t some[128];
        size_t count = 0;
        CHECK(awq_encode(&s.ctx, awq_model_tokenizer(s.base), texts[k], strlen(texts[k]), 0, some, 128, &count) == AWQ_OK && count);
        for (i = 0; i < AWQ__GUARD_STEP; i++) ids[k][i] = some[(size_t)i % count];
    }
    for (round = 0; round < 6; round++) {
        memset((void *)list, 0, sizeof list);
        make(&m, AWQ__ASK_LONG, 4, 8 * AWQ__GUARD_STEP);
        m.d = s.d;
        m.d.suite = &m.suite;
        m.d.embed = bag_of_words;
        m.d.embed_user = &b;
        m.d.embed_size = W;
        m.suite.n = 2;
        m.item[0].long_answer = m.item[1].long_answer = 1;
        m.g.H = s.base->config.hidden_size;
        m.g.texts = list;
        m.report.null_distance = 0.5;
        for (k = 0; k < 2; k++) list[k * AWQ__GUARD_TEXTS + AWQ__GUARD_QUESTION] = texts[k];
        if (round == 2 || round == 3) { /* a g.x, whatever the models' states are */
            m.g.x = x;
            m.report.null_distance = NAN;
            for (k = 0; k < 2; k++)
                CHECK(awq__guard_embedded(&s.ctx, &m.g, texts[k], x + k * AWQ__GUARD_TEXTS * W, 0, "x") == AWQ_OK);
        } else CHECK(awq__guard_vectors(&s.ctx, &m.g, 1, list, 2 * AWQ__GUARD_TEXTS, &m.g.e[1]) == AWQ_OK);
        for (k = 0; k < 2; k++)
            for (i = 0; i < 8; i++)
                memcpy(answer[k] + i * AWQ__GUARD_STEP, ids[!k && (i % 2 || round == 1 || round == 3)], sizeof ids[0]);
        for (i = 0; i < 4; i++) {
            m.run[i].item = 0;
            for (k = 0; k < 2; k++) {
                m.run[i].reply[k].ids = answer[k];
                m.run[i].reply[k].n = round > 3 && !k ? 0 : 8 * AWQ__GUARD_STEP;
            }
            m.run[i].reply[0].bad = round == 4;
        }
        st = awq__guard_trends(&s.ctx, &m.a);
        CHECK_MSG(st == AWQ_OK, "%s", s.ctx.err.text);
        n = (int)m.report.trend[0][AWQ_TREND_CHAOTIC];
        if (round == 5) CHECK(!gate_of(&m.report, "G5.goal") && strstr(m.report.left_out, "the model's long answers"));
        else {
            expect(&m.report, "G5.chaotic", AWQ_FAIL);
            expect(&m.report, "G5.goal", AWQ_FAIL);
        }
        /* every second of 7 is far; all are, from the first on; one for each answer; none */
        CHECK_MSG(n == (round == 4 ? 4 : round == 5 ? 0 : round % 2 ? 28 : 16), "%d: %d", round, n);
        CHECK(m.report.conflicts[0] == (round < 4 ? n : 0) && m.report.conflicts[1] == 0);
        CHECK(m.report.trend[1][AWQ_TREND_CHAOTIC] == 0 && m.report.trend[1][AWQ_TREND_RECURSIVE] == 28);
        CHECK((b.calls > 0) == (round >= 2));
        awq__free(&s.ctx, m.g.e[1]);
        awq__arena_free(&s.ctx, &m.a.memory);
    }
    end(&s);
}

/* answers that agree in their words, or do not, whatever the models' states: none is asked */
static void test_medoid(void)
{
    static const char *const answers[3][2] = {{"Orin is a baker.", "A baker is Orin!"},
                                              {"Orin is a baker.", "Nobody knows why."},
                                              {"Orin is a baker.", ""}};
    static made m;
    float x = 1;
    bags b = {0, -1};
    int round, i, k;
    for (round = 0; round < 4; round++) {
        make(&m, AWQ__ASK_ANSWER, 6, 48);
        m.d.embed = bag_of_words;
        m.d.embed_user = &b;
        m.d.embed_size = 512;
        m.g.x = &x;
        b.calls = 0;
        b.fail_at = round == 3 ? 2 : -1;
        for (i = 0; i < 6; i++) {
            m.run[i].item = 0;
            for (k = 0; k < 2; k++) strcpy(m.text[k][i], answers[round % 3][i % 2]);
        }
        if (round == 3) {
            CHECK(awq__guard_agree(&m.ctx, &m.a, 0, 0, 6) == AWQ_E_ARG
                  && strstr(m.ctx.err.text, "embed failed with 5 at a passage or an answer"));
            continue;
        }
        CHECK_MSG(awq__guard_agree(&m.ctx, &m.a, 0, 0, 6) == AWQ_OK, "%s", m.ctx.err.text);
        CHECK_MSG(m.result[0].right[0] == (round ? 3 : 6) && m.result[0].split[0] == (round == 1)
                      && m.result[0].state[0] == (round ? AWQ_DIVERGENT : AWQ_CONVERGENT) && b.calls == (round == 2 ? 3 : 6),
                  "%d: %d, %d, %d", round, m.result[0].right[0], m.result[0].split[0], b.calls);
    }
    CHECK(m.ctx.memory_used == 0);
}

/* the nearest passages are those of the embedder, where there is one */
static void test_retriever(void)
{
    static const char *const passages[3] = {"far", "near", "between"};
    static made m;
    float e[2][3][2] = {{{1, 0}, {0, 1}, {0.6f, 0.8f}}, {{0, 1}, {1, 0}, {0.8f, 0.6f}}}, q[AWQ__GUARD_TEXTS][2];
    const char *text[5];
    int n = 0, k;
    make(&m, AWQ__ASK_SWEEP, 0, 48);
    memset(q, 0, sizeof q);
    q[AWQ__GUARD_QUESTION][0] = 1;
    m.a.passage = (const char **)(uintptr_t)passages;
    m.a.n_passages = 3;
    m.a.e[1] = &e[0][0][0];
    m.a.e[AWQ__GUARD_SAID] = &e[1][0][0];
    m.d.embed_size = m.g.H = 2;
    m.g.e[1] = &q[0][0];
    for (k = 0; k < 2; k++) {
        m.g.x = k ? &q[0][0] : NULL;
        CHECK(awq__guard_contexts(&m.ctx, &m.a, 0, 5, 0, text, &n) == AWQ_OK && n == 3);
        CHECK_MSG(!strcmp(text[0], passages[k]) && !strcmp(text[1], "between"), "%d: %s", k, text[0]);
    }
}

/* an embedder changes what is asked about texts, and nothing of what compares the models */
static void test_embedder(void)
{
    static const char *const same[] = {"G2.mean", "G2.worst", "G2.shift", "G8.kept", "G8.loss", "G6.slope"};
    double value[6], own[3];
    setup s;
    bags b = {0, -1};
    awq_model *m;
    size_t i;
    int k, first = 0;
    if (!begin(&s, 4, 1, 0)) return;
    s.d.contexts = few_contexts;
    s.d.user = &s;
    s.d.sweep_items = 1;
    s.d.model = m = load_model(&s.ctx, 4, AWQ_MODE_DETERMINISTIC);
    s.item[1].answer = NULL;
    for (k = 0; k < 2; k++) {
        if (k) {
            s.d.embed = bag_of_words;
            s.d.embed_user = &b;
            s.d.embed_size = 256;
        }
        if (!guard(&s)) break;
        for (i = 0; i < 6; i++) {
            const awq_gate *g = gate_of(s.r, same[i]);
            CHECK_MSG(g && (!k || fabs(g->value - value[i]) < 1e-12), "%s", same[i]);
            if (g) value[i] = g->value;
        }
        CHECK(gate_of(s.r, "G1.mean") && gate_of(s.r, "G5.goal"));
        if (gate_of(s.r, "G1.mean") && gate_of(s.r, "G5.goal")) {
            if (k)
                CHECK(fabs(gate_of(s.r, "G1.mean")->baseline - own[0]) > 1e-3
                      && fabs(gate_of(s.r, "G5.goal")->baseline - own[1]) > 1e-3);
            own[0] = gate_of(s.r, "G1.mean")->baseline;
            own[1] = gate_of(s.r, "G5.goal")->baseline;
        }
        first = b.calls;
        awq_guard_free(&s.ctx, s.r);
    }
    /* 5 questions, 4 with two passages each, and as retrieved; of both models six answers and a step or two */
    CHECK_MSG(first >= 17 + 12 + 2, "%d", first);
    b.calls = 0;
    b.fail_at = first - 1; /* the last text is a step */
    CHECK(awq_guard(&s.ctx, &s.d, &s.r) == AWQ_E_ARG && strstr(s.ctx.err.text, "a passage or an answer"));
    awq_model_free(&s.ctx, m);
    end(&s);
}

/* A layer of the model gives NaN: no gate of it passes, and the layer is named; of the baseline: nothing can be
   judged. */
static void test_no_numbers(void)
{
    static int32_t ids[600];
    setup s;
    awq_model *m;
    char *text = NULL, *json = NULL;
    size_t bytes = 0, count = 0;
    int64_t start[2] = {0, 600};
    awq_calibration texts;
    int i, round;
    if (!begin(&s, 8, 2, 1)) return;
    CHECK(awq__file_load(&s.ctx, "tools/demo/heldout.txt", 1 << 24, &text, &bytes) == AWQ_OK);
    CHECK(text && awq_encode(&s.ctx, awq_model_tokenizer(s.base), text, 8000, 0, ids, 600, &count) == AWQ_OK && count >= 600);
    awq__free(&s.ctx, text);
    s.d.contexts = few_contexts;
    s.d.user = &s;
    s.d.sweep_items = 2;
    s.d.ids = ids;
    s.d.n_ids = 600;
    s.d.window = 300;
    s.d.long_tokens = 160;
    m = load_model(&s.ctx, 0, AWQ_MODE_DETERMINISTIC);
    ((uint16_t *)(uintptr_t)m->layers[5].linear[AWQ_DOWN_PROJ].weight)[77] = 0x7e00;
    s.d.model = m;
    for (round = 0; round < 2; round++) { /* with what is rounded to nearest, and without */
        static const char *const there[] = {
            "G3.finite", "G3.ppl", "G3.kl",     "G3.top1",     "G7.level", "G7.onset",  "G7.slope", "G7.loops",   "G7.distinct",
            "G11.layer", "G2.finite", "G2.shift", "G8.kept", "G4.right", "G4.flips", "G4.chaotic", "G4.split",
            "G5.goal",   "G6.right",  "G6.flips", "G6.slope", "G13.forced"};
        awq_model *rtn = round ? load_model(&s.ctx, 4, AWQ_MODE_DETERMINISTIC) : NULL;
        s.d.rtn = rtn;
        if (guard(&s)) {
            for (i = 0; i < s.r->n_gates; i++) {
                const awq_gate *g = &s.r->gate[i];
                CHECK_MSG(g->severity == AWQ_FAIL || (g->severity == AWQ_VOID && g->baseline == g->baseline),
                          "%s: %s, %g", g->id, awq_severity_name(g->severity), g->value);
            }
            for (i = 0; i < (int)(sizeof there / sizeof there[0]); i++) expect(s.r, there[i], AWQ_FAIL);
            if (round) expect(s.r, "G3.rtn", AWQ_FAIL);
            CHECK(s.r->verdict == AWQ_FAIL && s.r->text.not_finite == 598 && s.r->text.baseline_not_finite == 0);
            CHECK(gate_says(s.r, "G11.layer", "layer 5 gives NaN")
                  && gate_says(s.r, "G3.finite", "layer 5 gives NaN"));
            CHECK(s.r->n_diagnoses && strstr(s.r->diagnosis[0].text, "NaN or Inf") && strstr(s.r->diagnosis[0].gates, "G3.finite"));
            CHECK(awq_guard_json(&s.ctx, s.r, &json) == AWQ_OK && !strstr(json, "nan") && strstr(json, "\"kl_mean\": null"));
            awq_text_free(&s.ctx, json);
            CHECK(awq_guard_html(&s.ctx, s.r, NULL, &json) == AWQ_OK && !strstr(json, ">nan"));
            awq_text_free(&s.ctx, json);
        }
        awq_guard_free(&s.ctx, s.r);
        awq_model_free(&s.ctx, rtn);
    }
    s.d.rtn = NULL;
    s.d.model = s.base;
    s.d.baseline = m;
    memset(&texts, 0, sizeof texts);
    texts.ids = ids;
    texts.start = start;
    texts.n_blocks = 1;
    for (round = 0; round < 3; round++) { /* by its text, by the suite, by what it hears */
        if (round == 2) {
            s.d.suite = NULL;
            s.d.calibration = s.d.production = &texts;
        }
        s.r = NULL;
        CHECK_MSG(awq_guard(&s.ctx, &s.d, &s.r) == AWQ_E_NUMERIC && !s.r && strstr(s.ctx.err.text, "the baseline"), "%d: %s",
                  round, s.ctx.err.text);
        CHECK(strstr(s.ctx.err.text, round ? "layer 5" : "598 of 598"));
        s.d.ids = NULL;
    }
    awq_model_free(&s.ctx, m);
    end(&s);
}

static void test_models(void)
{
    static const char *const all[] = {"G4.convergent", "G4.right",    "G4.flips", "G4.chaotic",
                                      "G4.split",      "G9.coverage", "G7.loops", "G7.distinct",
                                      "G5.goal",       "G6.right",    "G6.flips", "G13.forced"};
    setup s;
    awq_model *m;
    char *text = NULL;
    awq__json j;
    size_t i;
    if (!begin(&s, 8, 2, 1)) return;
    s.d.contexts = few_contexts;
    s.d.cited = cite_right;
    s.d.user = &s;
    if (guard(&s)) { /* the baseline itself */
        for (i = 0; i < sizeof all / sizeof all[0]; i++) expect(s.r, all[i], AWQ_PASS);
        expect(s.r, "G13.parses", AWQ_VOID); /* the demo knows no JSON */
        CHECK(s.r->verdict == AWQ_PASS && s.r->flips == 0 && s.r->sweep_items == 8
              && s.r->n_answers == 2 * (8 * 6 + 2 * 2 + 2 * 2 + 8 * 9));
        CHECK(s.r->item[0].coverage[0] > 0.99 && gate_of(s.r, "G9.coverage")->value > 0.99);
        CHECK(strstr(s.r->left_out, "answers end at 16 tokens") && !strstr(s.r->left_out, "G5")
              && !strstr(s.r->left_out, "G13"));
        CHECK(awq_guard_json(&s.ctx, s.r, &text) == AWQ_OK);
        CHECK_MSG(awq__json_parse(&s.ctx, "report", text, strlen(text), &j) == AWQ_OK, "%s", s.ctx.err.text);
        CHECK(awq__json_count(&j, awq__json_get(&j, awq__json_get(&j, 1, "answers"), "states")) == 8);
        awq__json_free(&s.ctx, &j);
        awq_text_free(&s.ctx, text);
    }
    awq_guard_free(&s.ctx, s.r);
    s.d.cited = NULL;
    s.d.model = m = load_model(&s.ctx, 3, AWQ_MODE_DETERMINISTIC);
    if (guard(&s)) {
        static const char *const lost[] = {"G4.convergent", "G4.right",    "G4.flips",
                                           "G4.chaotic",    "G9.coverage", "G6.right"};
        for (i = 0; i < sizeof lost / sizeof lost[0]; i++) expect(s.r, lost[i], AWQ_FAIL);
        expect(s.r, "G13.forced", AWQ_PASS);
    }
    awq_guard_free(&s.ctx, s.r);
    awq_model_free(&s.ctx, m);
    s.d.model = m = load_model(&s.ctx, 0, AWQ_MODE_DETERMINISTIC);
    make_it_loop(m);
    if (guard(&s)) {
        expect(s.r, "G7.loops", AWQ_FAIL);
        expect(s.r, "G7.distinct", AWQ_FAIL);
        expect(s.r, "G5.goal", AWQ_FAIL);
        CHECK(s.r->item[0].state[0] == AWQ_RECURSIVE && s.r->item[0].state[1] == AWQ_CONVERGENT);
    }
    awq_guard_free(&s.ctx, s.r);
    awq_model_free(&s.ctx, m);
    end(&s);
}

/* where no answer is known, answers that agree are as good; what is cut off before it is whole is void */
/* entropy over the baseline's that grows along the text; the same at once; gone */
static void test_slopes(void)
{
    enum { N = 512 };
    static made m;
    static double q[N], p[N];
    int round, i;
    for (round = 0; round < 3; round++) {
        make(&m, AWQ__ASK_ANSWER, 0, 48);
        for (i = 0; i < N; i++) {
            p[i] = 3 + 0.01 * (i % 7);
            q[i] = p[i] + (round == 1 ? 0.002 * i : round == 2 ? NAN : 0.1);
        }
        m.report.entropy = q;
        m.report.baseline_entropy = p;
        m.report.n_positions = N;
        m.report.text.entropy = round == 2 ? NAN : 3.1;
        m.report.text.baseline_entropy = 3;
        awq__guard_entropy(&m.g);
        expect(&m.report, "G7.level", round == 2 ? AWQ_FAIL : AWQ_PASS);
        expect(&m.report, "G7.slope", round ? AWQ_FAIL : AWQ_PASS);
        expect(&m.report, "G7.onset", round == 2 ? AWQ_FAIL : round ? AWQ_WARN : AWQ_PASS);
    }
}

/* each layer of the model sees 4 tokens only: passages are out of its sight, and long texts no surer than short ones */
static void test_clipped(void)
{
    static int32_t ids[2048];
    setup s;
    awq_model *m;
    char *text = NULL;
    size_t bytes = 0, count = 0;
    int l;
    if (!begin(&s, 8, 0, 0)) return;
    CHECK(awq__file_load(&s.ctx, "tools/demo/heldout.txt", 1 << 24, &text, &bytes) == AWQ_OK);
    CHECK(text && awq_encode(&s.ctx, awq_model_tokenizer(s.base), text, 20000, 0, ids, 2048, &count) == AWQ_OK && count >= 2048);
    awq__free(&s.ctx, text);
    s.d.ids = ids;
    s.d.n_ids = 2048;
    s.d.window = 256;
    s.d.sweep_items = -1;
    s.d.model = m = load_model(&s.ctx, 0, AWQ_MODE_DETERMINISTIC);
    m->config.sliding_window = 4;
    for (l = 0; l < m->config.num_hidden_layers; l++) m->layers[l].sliding = m->config.layer_is_sliding[l] = 1;
    if (guard(&s)) {
        static const char *const gates[] = {"G7.level", "G4.right", "G4.flips", "G9.coverage"};
        size_t i;
        for (i = 0; i < sizeof gates / sizeof gates[0]; i++) expect(s.r, gates[i], AWQ_FAIL);
        expect(s.r, "G3.kl", AWQ_WARN);
    }
    awq_guard_free(&s.ctx, s.r);
    awq_model_free(&s.ctx, m);
    end(&s);
}

static void test_without_answers(void)
{
    setup s;
    int64_t i;
    if (!begin(&s, 6, 0, 1)) return;
    for (i = 0; i < s.part.n; i++) s.item[i].answer = NULL;
    s.d.answer_tokens = 3;
    if (guard(&s)) {
        CHECK(s.r->item[0].runs == 6 && s.r->item[0].right[1] == s.r->item[0].right[0]
              && s.r->item[0].right[1] >= 3);
        CHECK(!gate_of(s.r, "G4.right") && !gate_of(s.r, "G9.coverage") && gate_of(s.r, "G4.convergent"));
        expect(s.r, "G13.forced", AWQ_VOID);
        CHECK(strstr(s.r->left_out, "G5: no long answers") && strstr(s.r->left_out, "G6: no passages"));
    }
    awq_guard_free(&s.ctx, s.r);
    end(&s);
}

static int no_contexts(void *user, int64_t item, int k, int order, const char **text)
{
    (void)user, (void)item, (void)order, (void)text;
    return k == 5 ? 0 : -1;
}

static int too_many(void *user, int64_t item, const char *answer, awq_span *span, int room)
{
    (void)user, (void)item, (void)answer, (void)span;
    return room + 1;
}

/* the suite's own passages are retrieved; what is too long is left out, or refused by its line */
static void test_limits(void)
{
    static char lengthy[2048];
    setup s;
    int64_t i;
    if (!begin(&s, 8, 0, 0)) return;
    for (i = 0; i < 512; i++) memcpy(lengthy + 2 * i, " 7", 2);
    for (i = 0; i < 8; i++) {
        s.context[i] = s.item[i].anchor;
        s.item[i].contexts = &s.context[i];
        s.item[i].n_contexts = 1;
    }
    s.d.sweep_items = 2;
    s.d.answer_tokens = 8;
    if (guard(&s)) { /* 16 passages are too many for the demo's context of 512 tokens */
        CHECK(s.r->sweep_items == 2 && strstr(s.r->left_out, "G6: 2 of 8 questions")
              && strstr(s.r->left_out, "of 18 prompts"));
        CHECK(s.r->sweep_distance[1][0] > 0 && s.r->sweep_distance[1][2] > s.r->sweep_distance[1][0]);
    }
    awq_guard_free(&s.ctx, s.r);
    s.d.sweep_items = -1;
    s.item[2].distractor = lengthy; /* 512 tokens fit as a text */
    s.context[3] = lengthy;         /* but not before a question */
    s.item[2].line = 3;
    s.item[3].line = 44;
    s.r = NULL;
    CHECK(awq_guard(&s.ctx, &s.d, &s.r) == AWQ_E_LIMIT && strstr(s.ctx.err.text, "line 44: its prompt has 5")
          && !s.r);
    memcpy(lengthy + 1024, " 7", 2);
    CHECK(awq_guard(&s.ctx, &s.d, &s.r) == AWQ_E_LIMIT
          && strstr(s.ctx.err.text, "line 3, \"distractor\": 513 tokens") && !s.r);
    s.d.keep_going = 1;
    if (guard(&s)) {
        CHECK_MSG(strstr(s.r->left_out, "line 3: its distractor has 513 tokens")
                      && strstr(s.r->left_out, "line 44: "),
                  "%s", s.r->left_out);
        CHECK(s.r->item[2].left_out && s.r->item[3].left_out && !s.r->item[1].left_out && s.r->item[2].runs == 0
              && s.r->item[1].runs == 6);
        CHECK(s.r->item[2].shift != s.r->item[2].shift && s.r->verdict == AWQ_PASS);
    }
    awq_guard_free(&s.ctx, s.r);
    for (i = 0; i < 8; i++) s.context[i] = lengthy;
    CHECK(awq_guard(&s.ctx, &s.d, &s.r) == AWQ_E_LIMIT
          && strstr(s.ctx.err.text, "no question of the suite fits"));
    for (i = 0; i < 8; i++) s.context[i] = s.item[i].anchor;
    s.d.sweep_items = 0;
    s.d.contexts = no_contexts;
    CHECK(awq_guard(&s.ctx, &s.d, &s.r) == AWQ_E_ARG
          && strstr(s.ctx.err.text, "contexts gave -1 of 10 passages"));
    s.d.sweep_items = -1;
    s.d.cited = too_many;
    CHECK(awq_guard(&s.ctx, &s.d, &s.r) == AWQ_E_ARG && strstr(s.ctx.err.text, "cited gave 33 spans"));
    end(&s);
}

/* without the seconds */
static char *report_of(setup *s)
{
    char *text = NULL, *at;
    if (!guard(s)) return NULL;
    s->r->text_seconds = s->r->embed_seconds = s->r->answer_seconds = 0;
    s->r->tokens_per_second[0] = s->r->tokens_per_second[1] = 0;
    CHECK(awq_guard_json(&s->ctx, s->r, &text) == AWQ_OK);
    awq_guard_free(&s->ctx, s->r);
    for (at = text; at && *at; at++)
        if (*at == '\n') *at = ' ';
    return text;
}

static void test_threads(void)
{
    static const int threads[] = {1, 2, 5};
    awq_model *m;
    char *first = NULL;
    setup s;
    int i;
    if (!begin(&s, 6, 1, 1)) return;
    s.d.contexts = few_contexts;
    s.d.user = &s;
    s.d.sweep_items = 2;
    s.d.model = m = load_model(&s.ctx, 4, AWQ_MODE_FAST);
    for (i = 0; i < 3; i++) {
        awq_pool *pool = NULL;
        char *text;
        CHECK(awq_pool_create(&s.ctx, threads[i], &pool) == AWQ_OK);
        s.ctx.jobs = awq_pool_jobs(pool);
        text = report_of(&s);
        CHECK_MSG(text && (!first || !strcmp(text, first)), "%d threads", threads[i]);
        if (!first) first = text;
        else awq_text_free(&s.ctx, text);
        memset(&s.ctx.jobs, 0, sizeof s.ctx.jobs);
        awq_pool_free(&s.ctx, pool);
    }
    awq_text_free(&s.ctx, first);
    awq_model_free(&s.ctx, m);
    end(&s);
}

static void test_memory(void)
{
    setup s;
    long k;
    int reached = 1;
    if (!begin(&s, 2, 1, 1)) return;
    s.d.contexts = few_contexts;
    s.d.user = &s;
    s.d.sweep_items = 1;
    s.d.answer_tokens = 4;
    s.d.long_tokens = 34;
    s.item[1].answer = NULL;
    for (k = 0; reached; k += TEST_STRIDE + k * TEST_STRIDE / 6) { /* the k-th allocation fails */
        fail_alloc f = {-1, 0, 0};
        size_t base = s.ctx.memory_used;
        awq_status st;
        s.ctx.allocator = fail_allocator(&f);
        f.fail_at = k;
        s.r = NULL;
        st = awq_guard(&s.ctx, &s.d, &s.r);
        reached = f.calls > k;
        CHECK_MSG(st == (reached ? AWQ_E_MEMORY : AWQ_OK) && (reached || s.r), "%ld: %s", k, s.ctx.err.text);
        awq_guard_free(&s.ctx, s.r);
        CHECK_MSG(f.live == 0 && s.ctx.memory_used == base, "%ld", k);
        memset(&s.ctx.allocator, 0, sizeof s.ctx.allocator);
    }
    CHECK(k > 400);
    end(&s);
}

/* thresholds that hang on the baseline are shares, or there are none */
static void test_shares(void)
{
    awq_guard_report r;
    awq__guard g;
    awq_ctx ctx;
    char *text = NULL;
    int i, n, below, no = 0;
    memset(&ctx, 0, sizeof ctx);
    for (n = 1; n < 200; n *= 3)
        for (below = 0; below < 2; below++) {
            memset(&r, 0, sizeof r);
            memset(&g, 0, sizeof g);
            g.r = &r;
            for (i = 0; i <= 4; i++) awq__guard_share(&g, "G13.parses", "share", 0.5, i / 4.0, n, 0.1, 0.2, below, "remedy");
            for (i = 0; i <= 4; i++) {
                const awq_gate *x = &r.gate[i];
                CHECK_MSG((x->warn != x->warn || (x->warn > 0 && x->warn < 1)) && (x->fail != x->fail || (x->fail > 0 && x->fail < 1)),
                          "%d of %d: %g, %g", i, n, x->warn, x->fail);
                CHECK(x->severity == AWQ_VOID || x->warn == x->warn);
                no += x->warn != x->warn;
            }
            CHECK(awq_guard_json(&ctx, &r, &text) == AWQ_OK && !strstr(text, ": -"));
            CHECK(!strstr(text, "nan") && (n > 1 || strstr(text, "\"threshold\": null, \"warn\": null")));
            awq_text_free(&ctx, text);
            CHECK(awq_guard_html(&ctx, &r, "t", &text) == AWQ_OK && !strstr(text, ">-0") && !strstr(text, ">nan"));
            awq_text_free(&ctx, text);
        }
    CHECK(no > 4);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_suites);
    RUN(test_passages);
    RUN(test_helpers);
    RUN(test_shares);
    RUN(test_json);
    RUN(test_loops);
    RUN(test_states);
    RUN(test_sweeps);
    RUN(test_conflicts);
    RUN(test_trends);
    RUN(test_medoid);
    RUN(test_retriever);
    RUN(test_embedder);
    RUN(test_no_numbers);
    RUN(test_models);
    RUN(test_slopes);
    RUN(test_clipped);
    RUN(test_without_answers);
    RUN(test_limits);
    RUN(test_threads);
    RUN(test_memory);
    return TEST_END();
}
