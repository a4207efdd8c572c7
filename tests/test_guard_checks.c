/* guard without answers: what is said before a model is loaded, calibration against production, a layer made bad, an
   embedder of the program, the diagnosis; each gate passing on what is well and failing on what was made bad in its way. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "gates.h"
#include "tiny.h"

#define DEMO "tools/demo/model"
#define DIR "test_guard_checks.tmp"
#define MADE DIR "/made"
static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                    "model.safetensors", "awq_report.json"};
enum { N_NAMES = 6 };

static void put(const char *name, const char *text, size_t n)
{
    char path[256];
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    snprintf(path, sizeof path, MADE "/%s", name);
    CHECK_MSG(awq__file_save(&ctx, path, text, n) == AWQ_OK, "%s", ctx.err.text);
}

static char *get(const char *folder, const char *name, size_t *n) /* free it */
{
    char path[256], *data = NULL, *copy;
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (awq__file_load(&ctx, path, 1 << 26, &data, n)) return NULL;
    copy = (char *)malloc(*n + 1);
    memcpy(copy, data, *n + 1);
    awq__free(&ctx, data);
    return copy;
}

/* MADE becomes `folder` again, as it was quantized */
static void fresh(const char *folder)
{
    int i;
    for (i = 0; i < N_NAMES; i++) {
        size_t n = 0;
        char *data = get(folder, names[i], &n);
        if (data) put(names[i], data, n);
        free(data);
    }
}

/* in a file of MADE, every `from` becomes `to` */
static void edit(const char *name, const char *from, const char *to)
{
    awq_ctx ctx;
    awq__text t = {NULL, 0, 0, 0};
    size_t n = 0;
    char *data = get(MADE, name, &n), *p = data, *next;
    memset(&ctx, 0, sizeof ctx);
    CHECK_MSG(data && strstr(data, from), "%s: %s", name, from);
    if (!data) return;
    for (; (next = strstr(p, from)) != NULL; p = next + strlen(from)) {
        awq__text_add(&ctx, &t, p, (size_t)(next - p));
        awq__text_str(&ctx, &t, to);
    }
    awq__text_str(&ctx, &t, p);
    put(name, t.data, t.len);
    awq__text_free(&ctx, &t);
    free(data);
}

static void remove_all(void)
{
    char path[256];
    int i, k;
    for (k = 0; k < 2; k++) {
        for (i = 0; i < N_NAMES; i++) {
            snprintf(path, sizeof path, "%s/%s", k ? MADE : DIR "/rtn", names[i]);
            remove(path);
        }
        remove(k ? MADE : DIR "/rtn");
    }
    remove(DIR);
}

/* DIR/rtn: the demo model in 4 bits */
static void make_quantized(void)
{
    awq_quantize_desc d;
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    remove_all();
    CHECK(awq__os_make_folder(NULL, DIR) == 0 && awq__os_make_folder(NULL, MADE) == 0);
    d.source = DEMO;
    d.target = DIR "/rtn";
    d.method = AWQ_METHOD_RTN;
    d.group_size = 64;
    CHECK_MSG(awq_quantize_model(&ctx, &d, NULL) == AWQ_OK, "%s", ctx.err.text);
}

/* the only gates that do not pass are `id`, with `severity`, whose text has `words`; "": all pass */
static void check_only(const awq_guard_report *r, const char *id, awq_severity severity, const char *words)
{
    int i;
    if (!r) return;
    for (i = 0; i < r->n_gates; i++) {
        const awq_gate *g = &r->gate[i];
        if (strcmp(g->id, id)) CHECK_MSG(g->severity == AWQ_PASS, "%s is %s with %g, %s", g->id, awq_severity_name(g->severity), g->value, g->text);
        CHECK(g->source && *g->source && *g->what);
    }
    if (!*id) return;
    CHECK_MSG(gate_of(r, id) != NULL, "%s", id);
    if (gate_of(r, id)) {
        const awq_gate *g = gate_of(r, id);
        CHECK_MSG(g->severity == severity && strstr(g->text, words), "%s is %s with %g, %s", id, awq_severity_name(g->severity), g->value, g->text);
    }
}

static awq_guard_report *look(awq_ctx *ctx, awq_preflight_desc *d)
{
    awq_guard_report *r = NULL;
    CHECK_MSG(awq_preflight(ctx, d, &r) == AWQ_OK, "%s", ctx->err.text);
    return r;
}

static void put_scale(size_t layer, float v, int n) /* the first n of that layer's o_proj */
{
    char name[96];
    awq_ctx ctx;
    awq_tensors *ts = NULL;
    const awq_tensor *t;
    size_t bytes = 0, i;
    char *data = get(MADE, "model.safetensors", &bytes);
    memset(&ctx, 0, sizeof ctx);
    snprintf(name, sizeof name, "model.layers.%d.self_attn.o_proj.scales", (int)layer);
    CHECK(data && awq_tensors_open(&ctx, MADE, &ts) == AWQ_OK);
    t = ts ? awq_tensors_find(ts, name) : NULL;
    CHECK(t && t->dtype == AWQ_F16);
    for (i = 0; t && i < (n < 0 ? t->bytes / 2 : (size_t)n); i++) {
        uint16_t h;
        memcpy(&h, data + t->offset + 2 * i, 2);
        h = n < 0 ? awq__float_f16(awq__f16_float(h) * v) : awq__float_f16(v);
        memcpy(data + t->offset + 2 * i, &h, 2);
    }
    awq_tensors_close(&ctx, ts);
    put("model.safetensors", data, bytes);
    free(data);
}

#define REPORT(hash, ratio, loss, spread, back)                                                                          \
    "{\"tokenizer_hash\": \"" hash "\", \"layers\": [{\"layer\": 0, \"fell_back\": false, \"groups\": [{\"linears\": "  \
    "\"qkv\", \"ratio\": 0.1, \"loss\": 1, \"rtn_loss\": 9, \"s_max_over_min\": 30}]},\n{\"layer\": 1, \"fell_back\": " back \
    ", \"groups\": [{\"linears\": \"down\", \"ratio\": " ratio ", \"loss\": " loss ", \"rtn_loss\": 9, \"s_max_over_min\": "  \
    spread "}]}]}"

static void test_preflight(void)
{
    static const struct {
        const char *file, *from, *to, *gate;
        awq_severity severity;
        const char *words;
        int alone; /* without the original to compare with */
    } cases[] = {
        {"config.json", "\"intermediate_size\": ", "\"intermediate_size\": 1", "G12.tensors", AWQ_FAIL, "mlp.", 0},
        {"config.json", "\"bits\": 4", "\"bits\": 8", "G12.tensors", AWQ_FAIL, "", 0},
        {"tokenizer.json", "\"version\"", "\"verzion\"", "G12.tokenizer", AWQ_FAIL, "not that of the original", 0},
        {"tokenizer.json", "\"version\"", "\"verzion\"", "G12.tokenizer", AWQ_FAIL, "at the time it was quantized", 1},
        {"tokenizer.json", "\"padding\": null", "\"padding\": nul", "G12.tokenizer", AWQ_FAIL, "tokenizer.json", 0},
        {"tokenizer_config.json", "<|end|>' }}", "<|END|>' }}", "G12.template", AWQ_FAIL, "another text", 0},
        {"tokenizer_config.json", "{% for", "{% fr", "G12.template", AWQ_FAIL, "", 1},
        {"tokenizer_config.json", "chat_template", "chat_tenplate", "G12.template", AWQ_FAIL, "has none", 0},
    };
    awq_guard_report *r;
    awq_preflight_desc d;
    awq_ctx ctx;
    size_t i;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    make_quantized();
    fresh(DIR "/rtn");
    d.folder = MADE;
    d.baseline = DEMO;
    d.memory = (uint64_t)1 << 30;
    r = look(&ctx, &d);
    check_only(r, "", AWQ_PASS, "");
    if (r) {
        CHECK(r->verdict == AWQ_PASS && r->needed.peak > 100000 && r->available == d.memory && !r->n_diagnoses);
        CHECK(gate_of(r, "G12.template") && gate_of(r, "G12.tokenizer") && gate_of(r, "G12.vocabulary") && gate_of(r, "G12.memory")
              && gate_of(r, "G11.finite") && gate_of(r, "G11.range"));
    }
    awq_guard_free(&ctx, r);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fresh(DIR "/rtn");
        edit(cases[i].file, cases[i].from, cases[i].to);
        d.baseline = cases[i].alone ? NULL : DEMO;
        r = look(&ctx, &d);
        check_only(r, cases[i].gate, cases[i].severity, cases[i].words);
        if (r) CHECK_MSG(r->n_diagnoses == 1 && strstr(r->diagnosis[0].gates, cases[i].gate), "%d", (int)i);
        awq_guard_free(&ctx, r);
    }
    d.baseline = DEMO;
    fresh(DIR "/rtn");
    d.memory = 1000000;
    r = look(&ctx, &d);
    check_only(r, "G12.memory", AWQ_FAIL, "more than there is");
    if (r) CHECK(r->n_diagnoses == 1 && strstr(r->diagnosis[0].symptom, "out of memory"));
    awq_guard_free(&ctx, r);
    d.memory = 0;
    put_scale(3, NAN, 1);
    r = look(&ctx, &d);
    check_only(r, "G11.finite", AWQ_FAIL, "model.layers.3.self_attn.o_proj.scales");
    awq_guard_free(&ctx, r);
    put_scale(3, 1e-6f, 64); /* two of a thousand */
    r = look(&ctx, &d);
    check_only(r, "G11.range", AWQ_WARN, "fp16");
    awq_guard_free(&ctx, r);
    fresh(DIR "/rtn");
    put("awq_report.json", REPORT("0", "0.3", "4", "17", "false"), strlen(REPORT("0", "0.3", "4", "17", "false")));
    edit("awq_report.json", "\"0\"", "\"\""); /* of before there were hashes: nothing is known */
    r = look(&ctx, &d);
    check_only(r, "", AWQ_PASS, "");
    if (r) CHECK(r->n_groups == 2 && r->group[1].layer == 1 && !strcmp(r->group[1].linears, "down") && r->group[1].spread > 16.9);
    awq_guard_free(&ctx, r);
    put("awq_report.json", REPORT("", "0.3", "5", "17", "true"), strlen(REPORT("", "0.3", "5", "17", "true")));
    r = look(&ctx, &d);
    if (r) {
        CHECK(gate_of(r, "G11.scales")->severity == AWQ_WARN && gate_says(r, "G11.scales", "layer 1, down"));
        CHECK(gate_of(r, "G11.fell_back")->severity == AWQ_WARN && r->verdict == AWQ_WARN);
    }
    awq_guard_free(&ctx, r);
    put("awq_report.json", "{", 1);
    r = NULL;
    CHECK(awq_preflight(&ctx, &d, &r) == AWQ_E_FORMAT && strstr(ctx.err.text, "awq_report.json"));
    d.folder = DIR "/nowhere";
    CHECK(awq_preflight(&ctx, &d, &r) == AWQ_E_IO && strstr(ctx.err.text, "nowhere"));
    d.folder = NULL;
    CHECK(awq_preflight(&ctx, &d, &r) == AWQ_E_ARG && !r && ctx.memory_used == 0);
    remove_all();
}

static awq_model *load_model(awq_ctx *ctx, const char *folder, int rtn)
{
    awq_model_desc md;
    awq_model *m = NULL;
    memset(&md, 0, sizeof md);
    md.mode = AWQ_MODE_DETERMINISTIC;
    md.rtn_bits = rtn;
    CHECK_MSG(awq_model_load(ctx, folder, &md, &m) == AWQ_OK, "%s", ctx->err.text);
    return m;
}

/* as texts, the first `most` of them */
static void texts(awq_ctx *ctx, const awq_model *m, const char *path, int64_t most, awq_calibration *c)
{
    awq_calibration_source src;
    awq_calibration_desc d;
    memset(&src, 0, sizeof src);
    memset(&d, 0, sizeof d);
    memset(c, 0, sizeof *c);
    src.path = path;
    d.sources = &src;
    d.n_sources = 1;
    d.whole = 1;
    CHECK_MSG(awq_calibration_load(ctx, awq_model_tokenizer(m), &d, c) == AWQ_OK, "%s", ctx->err.text);
    c->n_blocks = AWQ__MIN(c->n_blocks, most);
}

static awq_guard_report *compare(awq_ctx *ctx, const awq_model *m, const awq_calibration *calib, const awq_calibration *production)
{
    awq_guard_report *r = NULL;
    awq_guard_desc d;
    memset(&d, 0, sizeof d);
    d.model = d.baseline = m;
    d.calibration = calib;
    d.production = production;
    CHECK_MSG(awq_guard(ctx, &d, &r) == AWQ_OK, "%s", ctx->err.text);
    return r;
}

static double value_of(const awq_guard_report *r, const char *id)
{
    const awq_gate *g = gate_of(r, id);
    CHECK_MSG(g != NULL, "%s", id);
    return g ? g->value : NAN;
}

static void show(const char *what, const awq_guard_report *r)
{
    int i;
    printf("    %-10s", what);
    for (i = 0; r && i < r->n_gates; i++) printf(" %s %.3g%s", r->gate[i].id + 4, r->gate[i].value, r->gate[i].severity ? "!" : "");
    puts("");
}

/* calibration made of `from` as `how` says; awq_calibration_free it */
enum { SHUFFLED, ONE_TEXT, PIECES, NO_SPECIAL };

static awq_calibration spoilt(awq_ctx *ctx, const awq_model *m, const awq_calibration *from, int how)
{
    awq_calibration c;
    const int64_t n = from->start[from->n_blocks], blocks = how == PIECES ? n / 6 : from->n_blocks;
    uint64_t state = 1;
    int64_t i;
    memset(&c, 0, sizeof c);
    c.n_blocks = blocks;
    c.ids = AWQ__NEW(ctx, int32_t, n);
    c.start = AWQ__NEW(ctx, int64_t, blocks + 1);
    memcpy(c.ids, from->ids, (size_t)n * sizeof *c.ids);
    for (i = 0; i <= blocks; i++) c.start[i] = how == PIECES ? 6 * i : from->start[i];
    for (i = n - 1; how == SHUFFLED && i > 0; i--) { /* the same tokens in another order */
        int64_t j = (int64_t)(awq__random(&state) % (uint64_t)(i + 1));
        int32_t t = c.ids[i];
        c.ids[i] = c.ids[j];
        c.ids[j] = t;
    }
    for (i = 0; how == ONE_TEXT && i < n; i++) c.ids[i] = from->ids[i % 7];
    if (how == ONE_TEXT)
        for (i = 0; i <= blocks; i++) c.start[i] = 7 * i;
    for (i = 0; how == NO_SPECIAL && i < n; i++)
        if (awq_tokenizer_is_special(awq_model_tokenizer(m), c.ids[i])) c.ids[i] = 300;
    return c;
}

/* of the same kind as production everything passes; shuffled, one text again and again, pieces, without the
   template's tokens it does not, each by its gate */
static void test_calibration(void)
{
    static const struct {
        int how;
        const char *gate;
        awq_severity severity;
        double from, to;
    } cases[] = {{SHUFFLED, "G10.activation", AWQ_FAIL, 0.8, 0.9},  {ONE_TEXT, "G10.twice", AWQ_FAIL, 0.95, 1},
                 {ONE_TEXT, "G10.words", AWQ_FAIL, 0.4, 0.7},        {ONE_TEXT, "G10.coverage", AWQ_FAIL, 0, 0.3},
                 {ONE_TEXT, "G10.tokens", AWQ_FAIL, 0, 16384},       {PIECES, "G10.length", AWQ_FAIL, 0.9, 1},
                 {PIECES, "G10.reach", AWQ_FAIL, 0.5, 1},            {NO_SPECIAL, "G10.template", AWQ_FAIL, 0.9, 1.1}};
    awq_calibration c, p, x, few_c, few_p;
    awq_guard_report *r;
    awq_ctx ctx;
    awq_model *m;
    size_t i;
    memset(&ctx, 0, sizeof ctx);
    m = load_model(&ctx, DEMO, 0);
    if (!m) return;
    texts(&ctx, m, "tools/demo/calib.txt", 160, &c);
    texts(&ctx, m, "tools/demo/heldout.txt", 160, &p);
    few_c = c, few_p = p; /* where activations are not what is asked */
    few_c.n_blocks = few_p.n_blocks = 35;
    r = compare(&ctx, m, &c, &p);
    show("same kind", r);
    check_only(r, "G10.tokens", AWQ_FAIL, "few tokens"); /* a part of the text */
    if (r) CHECK(r->calibration.texts == 160 && r->production.heard > 1000 && r->n_activation == 8 && r->activation[3] > 0.9);
    awq_guard_free(&ctx, r);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!i || cases[i].how != cases[i - 1].how) {
            x = spoilt(&ctx, m, cases[i].how == SHUFFLED ? &c : &few_c, cases[i].how);
            r = compare(&ctx, m, &x, cases[i].how == SHUFFLED ? &p : cases[i].how == NO_SPECIAL ? &few_c : &few_p);
            show(cases[i].gate, r);
        }
        CHECK_MSG(severity_of(r, cases[i].gate) == cases[i].severity && gate_of(r, cases[i].gate)->text[0], "%d: %s", (int)i, cases[i].gate);
        CHECK_MSG(value_of(r, cases[i].gate) >= cases[i].from && value_of(r, cases[i].gate) <= cases[i].to, "%d: %s", (int)i, cases[i].gate);
        if (i + 1 == sizeof cases / sizeof cases[0] || cases[i].how != cases[i + 1].how) {
            awq_guard_free(&ctx, r);
            awq_calibration_free(&ctx, &x);
        }
    }
    awq_calibration_free(&ctx, &c);
    awq_calibration_free(&ctx, &p);
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
}

/* experts that calibration never chooses */
static void test_experts(void)
{
    static const struct {
        const char *name;
        int64_t out, in;
    } more[] = {{"block_sparse_moe.gate.weight", 4, 64}, {"block_sparse_moe.experts.%d.w1.weight", 128, 64},
                {"block_sparse_moe.experts.%d.w3.weight", 128, 64}, {"block_sparse_moe.experts.%d.w2.weight", 64, 128}};
    static const int64_t start[5] = {0, 16, 32, 48, 64};
    int32_t ids[64];
    awq_calibration c;
    awq_guard_report *r;
    awq_model *m;
    awq_ctx ctx;
    tiny t;
    char name[96];
    int i, e, last;
    tiny_llama(&t);
    tiny_set(&t, "model_type", "\"mixtral\"");
    tiny_set(&t, "num_local_experts", "4");
    tiny_set(&t, "num_experts_per_tok", "2");
    for (i = 0; i < 4; i++)
        for (e = 0; e < (i ? 4 : 1); e++) {
            char part[80];
            tiny_tensor *x;
            size_t k;
            snprintf(part, sizeof part, more[i].name, e);
            snprintf(name, sizeof name, "model.layers.0.%s", part);
            x = tiny_add(&t, name, AWQ_F32, 2, more[i].out, more[i].in);
            for (k = 0; k < x->bytes / 4; k++) ((float *)(void *)x->data)[k] = (float)((int)(k * 37 + 11 * (size_t)e) % 41 - 20) / 100;
        }
    for (last = 0; last < 2; last++) { /* the second time the router is of one mind */
        tiny_tensor *x = tiny_find(&t, "model.layers.0.block_sparse_moe.gate.weight");
        for (i = 0; last && i < 64; i++)
            for (e = 0; e < 4; e++) ((float *)(void *)x->data)[e * 64 + i] = 0;
        ctx = tiny_ctx(&t);
        m = load_model(&ctx, "m", 0);
        if (!m) break;
        for (i = 0; i < 64; i++) ids[i] = (i * 29 + 5) % 96;
        memset(&c, 0, sizeof c);
        c.n_blocks = 4;
        c.start = (int64_t *)(uintptr_t)start;
        c.ids = ids;
        r = compare(&ctx, m, &c, &c);
        if (r) CHECK_MSG(value_of(r, "G10.experts") >= 0.5 * last && value_of(r, "G10.experts") <= 0.5 * last, "%g", value_of(r, "G10.experts"));
        if (r) CHECK(severity_of(r, "G10.experts") == (last ? AWQ_FAIL : AWQ_PASS));
        awq_guard_free(&ctx, r);
        awq_model_free(&ctx, m);
        CHECK(ctx.memory_used == 0);
    }
    tiny_free(&t);
}

/* texts of files as blocks: between empty lines, of lines, of lists */
static void test_whole(void)
{
    static const struct {
        const char *path, *text;
        int64_t blocks;
    } cases[] = {{DIR "/a.txt", "\n \nBram is a carpenter.\nHe is old.\n\n\n  Zara sings.\n \t\r\nUlf", 3},
                 {DIR "/a.txt", "Ulf", 1},
                 {DIR "/a.txt", "Ulf\r\n\r\nBram\r\n", 2},
                 {DIR "/a.jsonl", "{\"text\": \"Bram\"}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"Who?\"}]}\n", 2},
                 {DIR "/a.json", "[[1, 2, 3], [4], [5, 6]]", 3},
                 {DIR "/a.json", "{\"ids\": [1, 2, 3], \"window\": 2}", 1},
                 {DIR "/a.json", "{\"blocks\": [[1, 2], [3]]}", 2}};
    awq_tokenizer *t = NULL;
    awq_ctx ctx;
    size_t i;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq_tokenizer_load(&ctx, DEMO, &t) == AWQ_OK && awq__os_make_folder(NULL, DIR) == 0);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        awq_calibration_source src[2];
        awq_calibration_desc d;
        awq_calibration c;
        int k;
        memset(src, 0, sizeof src);
        memset(&d, 0, sizeof d);
        memset(&c, 0, sizeof c);
        CHECK(awq__file_save(&ctx, cases[i].path, cases[i].text, strlen(cases[i].text)) == AWQ_OK);
        src[0].path = src[1].path = cases[i].path;
        d.sources = src;
        d.whole = 1;
        for (k = 1; k <= 2; k++) {
            d.n_sources = k;
            CHECK_MSG(awq_calibration_load(&ctx, t, &d, &c) == AWQ_OK, "%s", ctx.err.text);
            CHECK_MSG(c.n_blocks == k * cases[i].blocks && c.start[0] == 0 && c.start[c.n_blocks] > 0, "%d: %d", (int)i, (int)c.n_blocks);
            awq_calibration_free(&ctx, &c);
        }
        remove(cases[i].path);
    }
    remove(DIR);
    awq_tokenizer_free(&ctx, t);
    CHECK(ctx.memory_used == 0);
}

typedef struct embedder {
    int calls, fail_at, zero_at;
} embedder;

/* as many of each letter */
static int embed(void *user, const char *text, float *vector, int64_t n)
{
    embedder *e = (embedder *)user;
    int64_t i;
    CHECK(n == 26);
    for (i = 0; i < n; i++) vector[i] = 0;
    for (; *text && e->calls != e->zero_at; text++)
        if (*text >= 'a' && *text <= 'z') vector[*text - 'a'] += 1;
    return e->calls++ == e->fail_at ? 7 : 0;
}

static void test_embedder(void)
{
    awq_guard_report *r = NULL;
    embedder e = {0, -1, -1};
    awq_suite_item item[12];
    awq_guard_desc d;
    awq_suite suite = {0};
    awq_model *m;
    awq_ctx ctx;
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    m = load_model(&ctx, DEMO, 0);
    CHECK(awq_suite_load(&ctx, "tools/demo/suite.jsonl", &suite) == AWQ_OK && suite.n >= 12);
    if (!m) return;
    memcpy(item, suite.items, sizeof item);
    d.model = d.baseline = m;
    d.suite = &suite;
    d.answer_tokens = -1;
    d.embed = embed;
    d.embed_user = &e;
    CHECK(awq_guard(&ctx, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "embed_size"));
    d.embed_size = 26;
    suite.n = 12;
    suite.items = item;
    CHECK_MSG(awq_guard(&ctx, &d, &r) == AWQ_OK, "%s", ctx.err.text);
    if (r) { /* texts of one language have their letters in common: near, in an embedder's own units */
        CHECK(e.calls == 48 && severity_of(r, "G1.mean") == AWQ_PASS && r->item[0].question[0] > 0.05 && r->item[0].question[0] < 0.6);
        CHECK(value_of(r, "G2.mean") <= 0 && severity_of(r, "G8.kept") == AWQ_PASS && r->null_distance > 0);
    }
    awq_guard_free(&ctx, r);
    for (i = 0; i < 2; i++) {
        r = NULL;
        e.calls = 0;
        e.fail_at = i ? -1 : 5; /* 48 texts, 4 of each line: the second line's contexts */
        e.zero_at = i ? 7 : -1;
        CHECK(awq_guard(&ctx, &d, &r) == AWQ_E_ARG && !r);
        CHECK_MSG(strstr(ctx.err.text, i ? "a vector of length 0 for the suite's line 2, \"distractor\"" : "failed with 7 at the suite's line 2, \"contexts\""),
                  "%s", ctx.err.text);
    }
    awq_suite_free(&ctx, &suite);
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
}

/* scales of a layer that are numbers, but not the right ones, pass what is looked at before loading; not the layer */
static void test_corrupt_scales(void)
{
    static int32_t ids[400];
    awq_guard_report *r, *before;
    awq_preflight_desc pd;
    awq_model *m, *base;
    awq_guard_desc d;
    awq_ctx ctx;
    size_t n = 0, count = 0;
    char *text = get("tools/demo", "heldout.txt", &n), *json = NULL, *html = NULL;
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    memset(&pd, 0, sizeof pd);
    make_quantized();
    pd.folder = MADE;
    pd.baseline = DEMO;
    base = load_model(&ctx, DEMO, 0);
    CHECK(text && awq_encode(&ctx, awq_model_tokenizer(base), text, 3000, 0, ids, 400, &count) == AWQ_OK && count >= 400);
    for (i = 0; i < 2; i++) {
        fresh(DIR "/rtn");
        if (i) put_scale(5, 8, -1);
        before = look(&ctx, &pd);
        check_only(before, "", AWQ_PASS, "");
        d.model = m = load_model(&ctx, MADE, 0);
        d.baseline = base;
        d.ids = ids;
        d.n_ids = 400;
        d.window = 200;
        d.preflight = before;
        r = NULL;
        CHECK_MSG(awq_guard(&ctx, &d, &r) == AWQ_OK, "%s", ctx.err.text);
        awq_guard_free(&ctx, before);
        if (r) {
            CHECK_MSG(severity_of(r, "G11.layer") == (i ? AWQ_FAIL : AWQ_PASS), "%g", value_of(r, "G11.layer"));
            CHECK(gate_of(r, "G12.tensors") && r->gate[0].id[0] == 'G' && r->needed.peak && r->bytes[0] && r->tokens_per_second[1] > 0);
            if (i) CHECK(gate_says(r, "G11.layer", "layer 5 ") && r->n_diagnoses && !strcmp(r->diagnosis[0].symptom, "perplexity is up")
                         && strstr(r->diagnosis[0].text, "layer 5 "));
            CHECK(awq_guard_json(&ctx, r, &json) == AWQ_OK && awq_guard_html(&ctx, r, NULL, &html) == AWQ_OK);
            CHECK(json && strstr(json, "\"memory_needed\": ") && strstr(json, "\"source\": \"definition\"") && !strstr(json, "nan"));
            CHECK(html && strstr(html, "Tokens per second") && strstr(html, "Memory at most") && (strstr(html, "What is wrong") != NULL) == (r->n_diagnoses > 0));
            if (!i && r->n_diagnoses) /* the machine did something else while it was timed */
                CHECK(r->n_diagnoses == 1 && strstr(r->diagnosis[0].symptom, "no throughput"));
            awq_text_free(&ctx, json);
            awq_text_free(&ctx, html);
            json = html = NULL;
        }
        awq_guard_free(&ctx, r);
        awq_model_free(&ctx, m);
    }
    awq_model_free(&ctx, base);
    free(text);
    remove_all();
    CHECK(ctx.memory_used == 0);
}

/* symptoms by gates' severities */
static void test_diagnosis(void)
{
    static const struct {
        const char *gates, *symptom, *words; /* gates: that fail, with ' ' between */
        double model, baseline; /* tokens per second */
    } cases[] = {
        {"G3.ppl", "perplexity is up", "rounded without calibration", 0, 0},
        {"G3.ppl G10.words", "perplexity is up", "sample of production", 0, 0},
        {"G3.kl G11.layer", "perplexity is up", "One layer", 0, 0},
        {"G3.top1 G3.rtn", "perplexity is up", "gained nothing over rounding", 0, 0},
        {"G4.right", "the right passages, but answers drift", "Retrieval is not to blame", 0, 0},
        {"G6.flips G2.mean", "the right passages, but answers drift", "Retrieval", 0, 0},
        {"G9.coverage", "the right passages, but answers drift", "Retrieval", 0, 0},
        {"G12.memory", "out of memory, or no throughput", "--kv-bits", 0, 0},
        {"", "out of memory, or no throughput", "10 tokens per second where the original makes 40", 10, 40},
        {"G7.onset", "long chains collapse early", "roll back", 0, 0},
        {"G5.trend", "long chains collapse early", "roll back", 0, 0},
        {"G7.level", "long chains collapse early", "all along", 0, 0},
        {"G13.parse", "JSON is unstable", "grammar", 0, 0},
        {"G10.coverage", "calibration is not like production", "sample of production", 0, 0},
        {"G12.tokenizer", "it is not the model that it says, or not whole", "from the original", 0, 0},
        {"G11.finite", "it is not the model that it says, or not whole", "no numbers", 0, 0},
        {"G4.right G1.mean", NULL, NULL, 0, 0}, /* retrieval may be */
        {"G10.tokens", NULL, NULL, 0, 0},
        {"", NULL, NULL, 40, 41}};
    awq_guard_report *r = (awq_guard_report *)malloc(sizeof *r);
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char ids[64], *id;
        awq__guard g;
        memset(r, 0, sizeof *r);
        memset(&g, 0, sizeof g);
        g.r = r;
        r->tokens_per_second[0] = cases[i].model;
        r->tokens_per_second[1] = cases[i].baseline;
        snprintf(ids, sizeof ids, "%s", cases[i].gates);
        for (id = strtok(ids, " "); id; id = strtok(NULL, " "))
            awq__guard_gate(&g, cases[i].gates + (id - ids), "", 2, NAN, 0, 1, 0, 0, "why");
        for (id = ids; *cases[i].gates && r->n_gates && id; id = NULL) { /* ids without what is behind them */
            static char names_[3][24];
            int k;
            for (k = 0; k < r->n_gates; k++) {
                snprintf(names_[k], sizeof names_[k], "%.*s", (int)strcspn(r->gate[k].id, " "), r->gate[k].id);
                r->gate[k].id = names_[k];
            }
        }
        awq__guard_diagnose(r);
        if (!cases[i].symptom) CHECK_MSG(r->n_diagnoses == 0, "%d: %s", (int)i, r->diagnosis[0].symptom);
        else {
            CHECK_MSG(r->n_diagnoses == 1 && !strcmp(r->diagnosis[0].symptom, cases[i].symptom) && strstr(r->diagnosis[0].text, cases[i].words),
                      "%d: %d, %s: %s", (int)i, r->n_diagnoses, r->diagnosis[0].symptom, r->diagnosis[0].text);
            CHECK((r->diagnosis[0].gates[0] != 0) == (cases[i].gates[0] != 0));
        }
    }
    { /* more gates than there is room for are not written behind the report's */
        awq__guard g;
        memset(r, 0, sizeof *r);
        memset(&g, 0, sizeof g);
        g.r = r;
        for (i = 0; i < AWQ_GUARD_GATES + 3; i++) awq__guard_gate(&g, "G3.kl", "", 2, NAN, 0, 1, 0, 0, "");
        CHECK(r->n_gates == AWQ_GUARD_GATES && r->text.tokens == 0);
    }
    free(r);
}

/* another family, another vocabulary, production alone, ids that there are not; each allocation failing once */
static void test_refusals(void)
{
    static const int64_t start[3] = {0, 20, 40};
    int32_t ids[40];
    awq_guard_report *r = NULL;
    awq_preflight_desc pd;
    awq_calibration c;
    awq_guard_desc d;
    awq_model *m, *other;
    awq_ctx ctx, own;
    tiny t;
    long k;
    int i, reached = 1;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    memset(&c, 0, sizeof c);
    memset(&pd, 0, sizeof pd);
    for (i = 0; i < 40; i++) ids[i] = 100 + i;
    c.n_blocks = 2;
    c.start = (int64_t *)(uintptr_t)start;
    c.ids = ids;
    d.model = d.baseline = m = load_model(&ctx, DEMO, 0);
    if (!m) return;
    d.production = &c;
    d.ids = ids;
    d.n_ids = 40;
    CHECK(awq_guard(&ctx, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "calibration, which is missing"));
    d.calibration = &c;
    ids[3] = 99999;
    CHECK(awq_guard(&ctx, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, "token id 99999"));
    ids[3] = 3;
    for (i = 0; i < 2; i++) {
        tiny_llama(&t);
        if (i) tiny_set(&t, "model_type", "\"mistral\"");
        own = tiny_ctx(&t);
        other = load_model(&own, "m", 0);
        d.model = other;
        CHECK_MSG(awq_guard(&ctx, &d, &r) == AWQ_E_ARG && strstr(ctx.err.text, i ? "family mistral" : "96 tokens"), "%s", ctx.err.text);
        awq_model_free(&own, other);
        tiny_free(&t);
    }
    d.model = m;
    for (k = 0; reached; k += 1 + k / 4) {
        fail_alloc f = {-1, 0, 0};
        awq_status st;
        size_t base = ctx.memory_used;
        ctx.allocator = fail_allocator(&f);
        f.fail_at = k;
        r = NULL;
        st = awq_guard(&ctx, &d, &r);
        reached = f.calls > k;
        CHECK_MSG(st == (reached ? AWQ_E_MEMORY : AWQ_OK), "%ld: %s", k, ctx.err.text);
        awq_guard_free(&ctx, r);
        CHECK(f.live == 0 && ctx.memory_used == base);
        memset(&ctx.allocator, 0, sizeof ctx.allocator);
    }
    awq_model_free(&ctx, m);
    make_quantized();
    pd.folder = DIR "/rtn";
    pd.baseline = DEMO;
    for (k = 0, reached = 1; reached; k += 1 + k / 8) {
        fail_alloc f = {-1, 0, 0};
        awq_status st;
        ctx.allocator = fail_allocator(&f);
        f.fail_at = k;
        r = NULL;
        st = awq_preflight(&ctx, &pd, &r);
        reached = f.calls > k;
        CHECK_MSG(st == (reached ? AWQ_E_MEMORY : AWQ_OK), "%ld: %s", k, ctx.err.text);
        awq_guard_free(&ctx, r);
        CHECK(f.live == 0 && ctx.memory_used == 0);
        memset(&ctx.allocator, 0, sizeof ctx.allocator);
    }
    for (k = 0, reached = 1; reached; k++) { /* and each call of the file system */
        fail_files f = {0, 0};
        awq_status st;
        f.fail_at = k;
        ctx.files = fail_file_system(&f);
        r = NULL;
        st = awq_preflight(&ctx, &pd, &r);
        reached = f.calls > k;
        CHECK_MSG(st ? reached && ctx.err.status == st && ctx.err.text[0] : r != NULL, "%ld: %s", k, ctx.err.text);
        awq_guard_free(&ctx, r);
        CHECK(ctx.memory_used == 0);
        memset(&ctx.files, 0, sizeof ctx.files);
    }
    remove_all();
}

/* a model in 8, 4, 3, 2 bits: never better, KL, perplexity and, with a suite, the shift of texts grow */
static void fewer_bits(const char *folder, int64_t group, char *text, size_t bytes, size_t tokens, const awq_suite *suite)
{
    static const int bits[] = {8, 4, 3, 2};
    int32_t *ids = (int32_t *)malloc(tokens * sizeof *ids);
    double kl = 0, ppl = 0, shift = 0;
    awq_severity verdict = AWQ_PASS;
    awq_guard_desc d;
    awq_model *base = NULL;
    awq_pool *pool = NULL;
    awq_ctx ctx;
    size_t count = 0;
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    CHECK(awq_pool_create(&ctx, 0, &pool) == AWQ_OK);
    ctx.jobs = awq_pool_jobs(pool);
    CHECK_MSG(awq_model_load(&ctx, folder, NULL, &base) == AWQ_OK, "%s", ctx.err.text);
    CHECK(base && text && awq_encode(&ctx, awq_model_tokenizer(base), text, bytes, 0, ids, tokens, &count) == AWQ_OK
          && count >= tokens);
    d.baseline = base;
    d.suite = suite;
    d.ids = ids;
    d.n_ids = (int64_t)tokens;
    d.answer_tokens = -1;
    for (i = 0; base && i < 4; i++) {
        awq_guard_report *r = NULL;
        awq_model_desc md;
        awq_model *m = NULL;
        int k;
        memset(&md, 0, sizeof md);
        md.rtn_bits = bits[i];
        md.rtn_group_size = group;
        CHECK_MSG(awq_model_load(&ctx, folder, &md, &m) == AWQ_OK, "%s", ctx.err.text);
        d.model = m;
        CHECK_MSG(m && awq_guard(&ctx, &d, &r) == AWQ_OK, "%s", ctx.err.text);
        if (r) {
            double s = suite ? gate_of(r, "G2.shift")->value : i + 1;
            printf("    %d bits: %s, KL %.4f, ppl %.4g over %.4g", bits[i], awq_severity_name(r->verdict), r->text.kl_mean,
                   r->text.ppl, r->text.baseline_ppl);
            if (suite) printf(", shift %.4f", s);
            printf("\n");
            CHECK(r->verdict >= verdict && r->verdict != AWQ_VOID);
            CHECK(r->text.kl_mean > kl && r->text.ppl > ppl && s > shift);
            for (k = 0; !i && k < r->n_gates; k++)
                CHECK_MSG(r->gate[k].severity == AWQ_PASS || r->gate[k].severity == AWQ_VOID, "%s %g", r->gate[k].id, r->gate[k].value);
            CHECK(r->verdict >= (i == 0 ? AWQ_PASS : i == 1 ? AWQ_WARN : AWQ_FAIL));
            verdict = r->verdict;
            kl = r->text.kl_mean;
            ppl = r->text.ppl;
            shift = s;
        }
        awq_guard_free(&ctx, r);
        awq_model_free(&ctx, m);
    }
    awq_model_free(&ctx, base);
    awq_pool_free(&ctx, pool);
    free(ids);
    free(text);
}

static void test_smollm2(void)
{
    awq_suite_item item[3];
    awq_suite suite = {0};
    size_t n = 0;
    char *text = get(".", "README.md", &n);
    memset(item, 0, sizeof item);
    item[0].question = "What is the capital of France?";
    item[0].anchor = "Paris is the capital of France and lies on the river Seine.";
    item[1].question = "How do plants make sugar?";
    item[1].anchor = "In photosynthesis plants make sugar from water and carbon dioxide with the light of the sun.";
    item[2].question = "Who wrote Hamlet?";
    item[2].anchor = "Hamlet is a tragedy that William Shakespeare wrote around the year 1600.";
    suite.n = 3;
    suite.items = item;
    fewer_bits(getenv("AWQ_SMOLLM2"), 64, text, n, 256, &suite);
}

static void test_stories(void)
{
    static const char *const models[] = {"gqa", "mha", "zeropad"};
    const char *root = TEST_DATA();
    char path[1024];
    size_t n = 0;
    int i;
    if (!root) TEST_SKIP("no AWQ_TEST_DATA");
    for (i = 0; i < 3; i++) {
        char *text;
        snprintf(path, sizeof path, "%s/data", root);
        text = get(path, "ts_heldout_split.txt", &n);
        snprintf(path, sizeof path, "%s/golden/models/stories260K-%s-hf", root, models[i]);
        fewer_bits(path, 32, text, AWQ__MIN(n, (size_t)20000), 4000, NULL);
    }
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_preflight);
    RUN(test_whole);
    RUN(test_calibration);
    RUN(test_experts);
    RUN(test_embedder);
    RUN(test_corrupt_scales);
    RUN(test_diagnosis);
    RUN(test_refusals);
    RUN(test_stories);
    if (getenv("AWQ_SMOLLM2") && *getenv("AWQ_SMOLLM2")) RUN(test_smollm2);
    else printf("skipped: test_smollm2: AWQ_SMOLLM2 names no model\n"), T.skipped++;
    return TEST_END();
}
