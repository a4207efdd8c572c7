/* guard without answers: what is said before a model is loaded, calibration against production, a layer made bad, an
   embedder of the program, the diagnosis; each gate passing on what is well and failing on what was made bad in its way. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
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

static const awq_gate *gate_of(const awq_guard_report *r, const char *id)
{
    int i;
    for (i = 0; r && i < r->n_gates; i++)
        if (!strcmp(r->gate[i].id, id)) return &r->gate[i];
    return NULL;
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
        {"tokenizer.json", "\"version\": \"1.0\"", "\"version\": \"1.1\"", "G12.tokenizer", AWQ_FAIL, "not that of the original", 0},
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
    check_only(r, "G11.finite", AWQ_FAIL, "model.layers.3.self_attn.o_proj.scales: element 0 is nan");
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
        CHECK(gate_of(r, "G11.scales")->severity == AWQ_WARN && strstr(gate_of(r, "G11.scales")->text, "layer 1, down"));
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

static awq_severity severity_of(const awq_guard_report *r, const char *id)
{
    const awq_gate *g = gate_of(r, id);
    CHECK_MSG(g != NULL, "%s", id);
    return g ? g->severity : AWQ_VOID;
}

static void show(const char *what, const awq_guard_report *r)
{
    int i;
    printf("    %-10s", what);
    for (i = 0; r && i < r->n_gates; i++) printf(" %s %.3g%s", r->gate[i].id + 4, r->gate[i].value, r->gate[i].severity ? "!" : "");
    puts("");
}

/* calibration of the same kind as production; shuffled; of one text; of pieces; of another kind */
static void test_calibration(void)
{
    awq_calibration c, p, x;
    awq_guard_report *r;
    awq_ctx ctx;
    awq_model *m;
    uint64_t state = 1;
    int64_t i, n;
    memset(&ctx, 0, sizeof ctx);
    m = load_model(&ctx, DEMO, 0);
    if (!m) return;
    texts(&ctx, m, "tools/demo/calib.txt", 2000, &c);
    texts(&ctx, m, "tools/demo/heldout.txt", 2000, &p);
    r = compare(&ctx, m, &c, &p);
    show("same kind", r);
    if (r) {
        CHECK(severity_of(r, "G10.length") == AWQ_PASS && severity_of(r, "G10.words") == AWQ_PASS && severity_of(r, "G10.coverage") == AWQ_PASS
              && severity_of(r, "G10.activation") == AWQ_PASS && severity_of(r, "G10.reach") == AWQ_PASS && severity_of(r, "G10.twice") == AWQ_PASS
              && severity_of(r, "G10.tokens") == AWQ_WARN);
    }
    awq_guard_free(&ctx, r);
    r = compare(&ctx, m, &c, &c);
    show("itself", r);
    if (r) CHECK(value_of(r, "G10.activation") > 0.999999 && value_of(r, "G10.words") < 1e-9 && value_of(r, "G10.coverage") >= 1);
    awq_guard_free(&ctx, r);
    /* the same tokens in another order */
    x = c;
    n = c.start[c.n_blocks];
    x.ids = (int32_t *)malloc((size_t)n * sizeof *x.ids);
    memcpy(x.ids, c.ids, (size_t)n * sizeof *x.ids);
    for (i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)(awq__random(&state) % (uint64_t)(i + 1));
        int32_t t = x.ids[i];
        x.ids[i] = x.ids[j];
        x.ids[j] = t;
    }
    r = compare(&ctx, m, &x, &p);
    show("shuffled", r);
    awq_guard_free(&ctx, r);
    /* random tokens */
    for (i = 0; i < n; i++) x.ids[i] = (int32_t)(awq__random(&state) % (uint64_t)m->config.vocab_size);
    r = compare(&ctx, m, &x, &p);
    show("random", r);
    awq_guard_free(&ctx, r);
    free(x.ids);
    awq_calibration_free(&ctx, &c);
    awq_calibration_free(&ctx, &p);
    awq_model_free(&ctx, m);
    CHECK(ctx.memory_used == 0);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_preflight);
    RUN(test_calibration);
    return TEST_END();
}
