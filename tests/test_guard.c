/* guard: suites; each gate passing on a model that is the baseline and failing on one made bad in its way; the worse the
   rounding, the worse the verdict; reports as JSON and HTML; what is refused; each allocation failing once. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "gates.h"

#define DEMO "tools/demo/model"
#define FILE_NAME "test_guard.tmp"
enum { N_IDS = 1200, WINDOW = 300, ITEMS = 24 };

static void put_file(const char *text)
{
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq__file_save(&ctx, FILE_NAME, text, strlen(text)) == AWQ_OK);
}

static void test_suite(void)
{
    static const struct {
        const char *text, *sentence;
    } bad[] = {{"", "no questions"},
               {"\n \r\n\t\n", "no questions"},
               {"{\"question\": \"a\"}\n{\"question\": 3}\n", "line 2: \"question\" is missing or empty"},
               {"{\"question\": \"\"}\n", "line 1: \"question\" is missing or empty"},
               {"{\"question\": \"a\"}\n\n[1]\n", "line 3: not a JSON object"},
               {"{\"question\": \"a\"}\n{\"question\": \"b\"\n", "line 2: "},
               {"{\"question\": \"a\"} x\n", "line 1: "}};
    awq_suite s;
    awq_ctx ctx;
    size_t i;
    memset(&ctx, 0, sizeof ctx);
    memset(&s, 0, sizeof s);
    put_file("{\"question\": \"Who?\", \"answer\": \"Bram\", \"paraphrases\": [\"Who is it?\", 3, \"\"], \"contexts\": [\"x\", \"y\"],\n"
             " \"section\": \"s\"}");
    CHECK(awq_suite_load(&ctx, FILE_NAME, &s) == AWQ_E_FORMAT); /* an object is a line */
    put_file("\n{\"id\": \"k\", \"question\": \"Who?\", \"answer\": \"Bram\", \"paraphrases\": [\"Who is it?\", 3, \"\"], "
             "\"contexts\": [\"x\", \"y\"], \"section\": \"s\"}\r\n   \n{\"question\": \"\\u00e9\", \"anchor\": \"a\", \"distractor\": "
             "\"d\", \"contexts\": \"no list\"}");
    CHECK_MSG(awq_suite_load(&ctx, FILE_NAME, &s) == AWQ_OK, "%s", ctx.err.text);
    CHECK(s.n == 2 && s.items[0].line == 2 && s.items[1].line == 4 && !strcmp(s.items[0].id, "k"));
    CHECK(!strcmp(s.items[0].question, "Who?") && !strcmp(s.items[0].answer, "Bram") && !s.items[0].anchor
          && !strcmp(s.items[0].section, "s"));
    CHECK(s.items[0].n_paraphrases == 1 && !strcmp(s.items[0].paraphrases[0], "Who is it?") && s.items[0].n_contexts == 2
          && !strcmp(s.items[0].contexts[1], "y"));
    CHECK(!s.items[1].id && !strcmp(s.items[1].question, "\xc3\xa9") && !strcmp(s.items[1].anchor, "a")
          && !strcmp(s.items[1].distractor, "d") && !s.items[1].n_contexts);
    awq_suite_free(&ctx, &s);
    CHECK(ctx.memory_used == 0 && !s.items);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put_file(bad[i].text);
        CHECK_MSG(awq_suite_load(&ctx, FILE_NAME, &s) == AWQ_E_FORMAT && strstr(ctx.err.text, bad[i].sentence)
                      && strstr(ctx.err.text, FILE_NAME), "%d: %s", (int)i, ctx.err.text);
        CHECK(ctx.memory_used == 0 && !s.items);
    }
    remove(FILE_NAME);
    CHECK(awq_suite_load(&ctx, FILE_NAME, &s) == AWQ_E_IO);
}

static void test_helpers(void)
{
    int32_t ids[64];
    int i;
    awq_gate g;
    CHECK(awq__guard_contains("He is a  Carpenter.", "a carpenter") && awq__guard_contains("a\ncarpenter", "A CARPENTER"));
    CHECK(!awq__guard_contains("a carpente", "carpenter") && !awq__guard_contains("", "x") && !awq__guard_contains("ab", "a b"));
    for (i = 0; i < 64; i++) ids[i] = i;
    CHECK(!awq__guard_loops(ids, 64, 48) && !awq__guard_loops(ids, 0, 48) && !awq__guard_loops(ids, 1, 48));
    for (i = 0; i < 64; i++) ids[i] = i < 30 ? i : i % 7;
    CHECK(awq__guard_loops(ids, 64, 48) && !awq__guard_loops(ids, 50, 48)); /* 34 and 20 of the repeated tokens */
    for (i = 0; i < 64; i++) ids[i] = i % 32;
    CHECK(!awq__guard_loops(ids, 64, 48)); /* two repeats are none */
    memset(&g, 0, sizeof g);
    g.warn = 1;
    g.fail = 2;
    CHECK(awq__guard_judge(&g, 1) == AWQ_PASS && awq__guard_judge(&g, 1.1) == AWQ_WARN && awq__guard_judge(&g, 2.1) == AWQ_FAIL
          && awq__guard_judge(&g, NAN) == AWQ_FAIL);
    g.below = 1;
    g.fail = 0.5;
    CHECK(awq__guard_judge(&g, 1) == AWQ_PASS && awq__guard_judge(&g, 0.9) == AWQ_WARN && awq__guard_judge(&g, 0.4) == AWQ_FAIL);
    g.fail = NAN;
    CHECK(awq__guard_judge(&g, 0.4) == AWQ_WARN);
}

typedef struct setup {
    awq_ctx ctx;
    awq_model *base;
    awq_suite suite;
    int32_t ids[N_IDS];
    awq_guard_desc d;
} setup;

static awq_model *load_model(awq_ctx *ctx, int rtn)
{
    awq_model_desc md;
    awq_model *m = NULL;
    memset(&md, 0, sizeof md);
    md.mode = AWQ_MODE_DETERMINISTIC;
    md.rtn_bits = rtn;
    md.rtn_group_size = 128;
    CHECK_MSG(awq_model_load(ctx, DEMO, &md, &m) == AWQ_OK, "%s", ctx->err.text);
    return m;
}

static int begin(setup *s)
{
    char *text = NULL;
    size_t bytes = 0, count = 0;
    memset(s, 0, sizeof *s);
    s->base = load_model(&s->ctx, 0);
    CHECK_MSG(awq_suite_load(&s->ctx, "tools/demo/suite.jsonl", &s->suite) == AWQ_OK, "%s", s->ctx.err.text);
    CHECK(awq__file_load(&s->ctx, "tools/demo/heldout.txt", 1 << 24, &text, &bytes) == AWQ_OK);
    if (!s->base || !text || s->suite.n < ITEMS) return 0;
    CHECK(awq_encode(&s->ctx, awq_model_tokenizer(s->base), text, 12000, 0, s->ids, N_IDS, &count) == AWQ_OK);
    awq__free(&s->ctx, text);
    CHECK(count >= N_IDS);
    s->suite.n = ITEMS;
    s->d.baseline = s->base;
    s->d.suite = &s->suite;
    s->d.ids = s->ids;
    s->d.n_ids = N_IDS;
    s->d.window = WINDOW;
    s->d.answer_tokens = 16;
    return 1;
}

static void end(setup *s)
{
    awq_suite_free(&s->ctx, &s->suite);
    awq_model_free(&s->ctx, s->base);
    CHECK(s->ctx.memory_used == 0);
}

/* the model is its own baseline: all that counts passes; then rounded to 8, 4, 3 and 2 bits: never better, and KL,
   perplexity and shift grow */
static void test_bits(void)
{
    static const int bits[] = {0, 8, 4, 3, 2};
    double kl = -1, ppl = 0, shift = -1;
    awq_severity verdict = AWQ_PASS;
    setup s;
    int i, k;
    if (!begin(&s)) return;
    for (i = 0; i < 5; i += TEST_STRIDE) {
        awq_model *m = load_model(&s.ctx, bits[i]);
        awq_guard_report *r = NULL;
        s.d.model = m;
        CHECK_MSG(m && awq_guard(&s.ctx, &s.d, &r) == AWQ_OK, "%s", s.ctx.err.text);
        if (r) {
            printf("    %d bits: %s, KL %.4f, shift %.4f, right %.3f\n", bits[i], awq_severity_name(r->verdict), r->text.kl_mean,
                   gate_of(r, "G2.shift")->value, gate_of(r, "G4.right")->value);
            CHECK(r->verdict >= verdict && r->verdict != AWQ_VOID);
            CHECK_MSG(r->text.kl_mean > kl && r->text.ppl > ppl * 0.999 && gate_of(r, "G2.shift")->value > shift - 1e-9, "%d", i);
            verdict = r->verdict;
            kl = AWQ__MAX(r->text.kl_mean, 0.0);
            ppl = r->text.ppl;
            shift = gate_of(r, "G2.shift")->value;
            if (i < 2) CHECK(verdict == AWQ_PASS);
            if (i == 2) CHECK(verdict >= AWQ_WARN);
            if (i > 2) {
                static const char *const must[] = {"G3.ppl", "G3.kl", "G3.top1", "G7.level", "G7.onset", "G2.mean", "G2.worst",
                                                   "G2.shift", "G4.convergent", "G4.right", "G4.flips", "G8.kept", "G8.loss"};
                CHECK(verdict == AWQ_FAIL);
                for (k = 0; k < (bits[i] > 2 ? 12 : 13); k++)
                    CHECK_MSG(severity_of(r, must[k]) == AWQ_FAIL && gate_of(r, must[k])->text[0], "%d bits: %s", bits[i], must[k]);
            }
            for (k = 0; i == 0 && k < r->n_gates; k++) {
                const awq_gate *g = &r->gate[k];
                CHECK_MSG(g->severity == AWQ_PASS || (g->severity == AWQ_VOID && g->value <= g->baseline && g->value >= g->baseline),
                          "%s", g->id);
            }
        }
        awq_guard_free(&s.ctx, r);
        awq_model_free(&s.ctx, m);
    }
    end(&s);
}

/* a layer made bad is named; a model no better than rounding; one without numbers; a question about another passage */
static void test_made_bad(void)
{
    awq_guard_report *r = NULL;
    awq_model *m, *rtn;
    uint16_t *w;
    setup s;
    int i;
    if (!begin(&s)) return;
    s.d.answer_tokens = -1;
    m = load_model(&s.ctx, 0);
    w = (uint16_t *)(uintptr_t)m->layers[5].linear[AWQ_DOWN_PROJ].weight;
    for (i = 0; i < 3000; i++) w[7 * i] ^= 0x8000;
    s.d.model = m;
    s.d.rtn = rtn = load_model(&s.ctx, 8);
    CHECK_MSG(awq_guard(&s.ctx, &s.d, &r) == AWQ_OK, "%s", s.ctx.err.text);
    if (r) {
        CHECK(severity_of(r, "G11.layer") == AWQ_FAIL && gate_says(r, "G11.layer", "layer 5 "));
        CHECK(!gate_of(r, "G3.rtn")); /* 8 bits lose nothing that could be won */
        CHECK(!gate_of(r, "G4.right") && r->item[0].runs == 0);
    }
    awq_guard_free(&s.ctx, r);
    awq_model_free(&s.ctx, rtn);
    s.d.rtn = NULL;
    r = NULL;
    CHECK(awq_guard(&s.ctx, &s.d, &r) == AWQ_OK);
    if (r) CHECK(severity_of(r, "G11.layer") == AWQ_FAIL && gate_says(r, "G11.layer", "layer 5 "));
    awq_guard_free(&s.ctx, r);
    awq_model_free(&s.ctx, m);

    s.d.model = m = load_model(&s.ctx, 3); /* worse than what 4 bits plainly give; and as good as itself */
    for (i = 0; i < 2; i += TEST_STRIDE) {
        s.d.rtn = rtn = load_model(&s.ctx, 4 - i);
        r = NULL;
        CHECK(awq_guard(&s.ctx, &s.d, &r) == AWQ_OK);
        if (r) CHECK_MSG(severity_of(r, "G3.rtn") == (i ? AWQ_WARN : AWQ_FAIL), "%d", i);
        awq_guard_free(&s.ctx, r);
        awq_model_free(&s.ctx, rtn);
    }
    s.d.rtn = NULL;
    awq_model_free(&s.ctx, m);
    end(&s);
}

/* what the baseline itself fails is void; with passages of its own it counts */
static void test_void(void)
{
    awq_suite_item item[ITEMS];
    const char *of_others[ITEMS];
    awq_guard_report *r = NULL;
    awq_suite own;
    setup s;
    int i;
    if (!begin(&s)) return;
    memcpy(item, s.suite.items, sizeof item);
    own = s.suite;
    own.items = item;
    s.d.suite = &own;
    s.d.model = s.base;
    s.d.ids = NULL;
    s.d.answer_tokens = -1;
    for (i = 0; i < ITEMS; i++) { /* retrieval gives the question itself: as near as can be */
        of_others[i] = item[i].question;
        item[i].contexts = &of_others[i];
        item[i].n_contexts = 1;
    }
    CHECK_MSG(awq_guard(&s.ctx, &s.d, &r) == AWQ_OK, "%s", s.ctx.err.text);
    if (r) {
        CHECK(severity_of(r, "G1.mean") == AWQ_PASS && severity_of(r, "G1.worst") == AWQ_PASS && r->verdict == AWQ_PASS);
        CHECK(severity_of(r, "G2.anchor") == AWQ_PASS && !gate_of(r, "G3.kl") && r->n_positions == 0);
    }
    awq_guard_free(&s.ctx, r);
    for (i = 0; i < ITEMS; i++) of_others[i] = item[(i + 5) % ITEMS].anchor; /* passages about something else */
    r = NULL;
    CHECK(awq_guard(&s.ctx, &s.d, &r) == AWQ_OK);
    if (r) CHECK(severity_of(r, "G1.mean") == AWQ_VOID && gate_says(r, "G1.mean", "baseline") && r->verdict == AWQ_PASS);
    awq_guard_free(&s.ctx, r);
    for (i = 0; i < ITEMS; i++) { /* nothing but questions: nothing to judge by */
        item[i].n_contexts = 0;
        item[i].anchor = item[i].distractor = item[i].answer = NULL;
    }
    r = NULL;
    CHECK(awq_guard(&s.ctx, &s.d, &r) == AWQ_OK);
    if (r) CHECK(r->verdict == AWQ_VOID && r->n_gates == 0);
    awq_guard_free(&s.ctx, r);
    end(&s);
}

static int balanced(const char *html) /* tags that are opened are closed, in order */
{
    const char *stack[64];
    size_t len[64];
    int depth = 0;
    const char *p = html;
    while ((p = strchr(p, '<')) != NULL) {
        const char *name = p + 1, *end = strchr(p, '>');
        size_t n;
        if (!end) return 0;
        if (*name == '/') {
            name++;
            n = (size_t)(end - name);
            if (!depth || len[depth - 1] != n || memcmp(stack[depth - 1], name, n)) return 0;
            depth--;
        } else if (*name != '!' && end[-1] != '/') {
            n = strcspn(name, " >\n");
            if (!(n == 2 && !memcmp(name, "br", 2)) && !(n == 4 && !memcmp(name, "meta", 4))) {
                if (depth == 64) return 0;
                stack[depth] = name;
                len[depth++] = n;
            }
        }
        p = end;
    }
    return depth == 0;
}

static void test_reports(void)
{
    awq_guard_report *r = NULL;
    awq_model *m;
    char *text = NULL;
    awq__json j;
    setup s;
    if (!begin(&s)) return;
    s.d.model = m = load_model(&s.ctx, 4);
    s.d.rtn = m;
    CHECK_MSG(m && awq_guard(&s.ctx, &s.d, &r) == AWQ_OK, "%s", s.ctx.err.text);
    if (!r) return;
    CHECK(awq_guard_json(&s.ctx, r, &text) == AWQ_OK);
    CHECK_MSG(awq__json_parse(&s.ctx, "report", text, strlen(text), &j) == AWQ_OK, "%s", s.ctx.err.text);
    CHECK(awq__json_eq(&j, awq__json_get(&j, 1, "verdict"), awq_severity_name(r->verdict)));
    CHECK((int)awq__json_count(&j, awq__json_get(&j, 1, "gates")) == r->n_gates);
    CHECK(awq__json_count(&j, awq__json_get(&j, 1, "items")) == ITEMS && awq__json_count(&j, awq__json_get(&j, 1, "entropy")) == WINDOW - 1
          && awq__json_count(&j, awq__json_get(&j, 1, "layer_error")) == 8);
    awq__json_free(&s.ctx, &j);
    awq_text_free(&s.ctx, text);
    text = NULL;
    CHECK(awq_guard_html(&s.ctx, r, "a <b> & \"c\"", &text) == AWQ_OK);
    CHECK(text && balanced(text) && strstr(text, "a &lt;b&gt; &amp; &quot;c&quot;") && !strstr(text, "http") && !strstr(text, "nan"));
    awq_text_free(&s.ctx, text);
    awq_guard_free(&s.ctx, r);
    awq_model_free(&s.ctx, m);
    end(&s);
}

static void test_refusals(void)
{
    awq_guard_report *r = NULL;
    awq_model_desc md;
    awq_model *other = NULL;
    static char text[2048];
    awq_suite_item item;
    awq_suite own;
    setup s;
    size_t count;
    long k;
    int reached = 1, i;
    if (!begin(&s)) return;
    s.d.model = NULL;
    CHECK(awq_guard(&s.ctx, &s.d, &r) == AWQ_E_ARG && strstr(s.ctx.err.text, "baseline are needed"));
    s.d.model = s.base;
    s.d.suite = NULL;
    s.d.ids = NULL;
    CHECK(awq_guard(&s.ctx, &s.d, &r) == AWQ_E_ARG && strstr(s.ctx.err.text, "neither a suite nor a text"));
    memset(&md, 0, sizeof md);
    md.no_tokenizer = 1;
    CHECK(awq_model_load(&s.ctx, DEMO, &md, &other) == AWQ_OK);
    s.d.model = other;
    s.d.suite = &s.suite;
    CHECK(awq_guard(&s.ctx, &s.d, &r) == AWQ_E_ARG && strstr(s.ctx.err.text, "tokenizer.json of both"));
    awq_model_free(&s.ctx, other);
    s.d.model = s.base;
    s.d.ids = s.ids;
    s.ids[5] = 9999;
    CHECK(awq_guard(&s.ctx, &s.d, &r) == AWQ_E_ARG && strstr(s.ctx.err.text, "token id 9999"));
    s.ids[5] = 5;
    item = s.suite.items[0];
    item.distractor = text;
    item.line = 77;
    own = s.suite;
    own.items = &item;
    own.n = 1;
    s.d.suite = &own;
    s.d.ids = NULL;
    for (i = 0; i < 3; i++) { /* 513 tokens, which is too long; 512; none */
        memset(text, 0, sizeof text);
        for (k = 0; i < 2 && k < 513 - i; k++) memcpy(text + 2 * k, " 7", 2);
        CHECK(i == 2 || (awq_encode(&s.ctx, awq_model_tokenizer(s.base), text, strlen(text), 0, NULL, 0, &count) == AWQ_OK
                         && count == (size_t)(513 - i)));
        if (i == 1) {
            CHECK_MSG(awq_guard(&s.ctx, &s.d, &r) == AWQ_OK, "%s", s.ctx.err.text);
            awq_guard_free(&s.ctx, r);
            r = NULL;
        } else CHECK_MSG(awq_guard(&s.ctx, &s.d, &r) == AWQ_E_LIMIT && strstr(s.ctx.err.text, "line 77, \"distractor\": ")
                         && strstr(s.ctx.err.text, i ? "0 tokens" : "513 tokens, expected 1 to 512"), "%s", s.ctx.err.text);
    }
    CHECK(!r);
    end(&s);
    for (k = 0; reached; k += 1 + k / 4) { /* the k-th allocation fails */
        fail_alloc f = {-1, 0, 0};
        awq_status st;
        size_t base;
        if (!begin(&s)) return;
        base = s.ctx.memory_used;
        s.d.model = s.base;
        s.d.n_ids = 40;
        s.suite.n = 2;
        s.ctx.allocator = fail_allocator(&f);
        f.fail_at = k;
        r = NULL;
        st = awq_guard(&s.ctx, &s.d, &r);
        reached = f.calls > k;
        CHECK_MSG(st == (reached ? AWQ_E_MEMORY : AWQ_OK), "%ld: %s", k, s.ctx.err.text);
        awq_guard_free(&s.ctx, r);
        CHECK(f.live == 0 && s.ctx.memory_used == base);
        memset(&s.ctx.allocator, 0, sizeof s.ctx.allocator);
        end(&s);
    }
    CHECK(k > 20);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_suite);
    RUN(test_helpers);
    RUN(test_bits);
    RUN(test_made_bad);
    RUN(test_void);
    RUN(test_reports);
    RUN(test_refusals);
    return TEST_END();
}
