/* Every public call that can fail does: each allocation, each file operation of it once (of long ones a sample). Then it
   says so in a status and a sentence, nothing is left in memory, nothing lies under a final name, and the same call works
   when it is repeated, with the same result. The table is complete: test_table reads the declarations of awq.h.
   Also what lies in a file's place without being one, names that are not plain, kill -9 at any time (AWQ_KILL_ROUNDS,
   default 10), and all calls again and again (AWQ_SOAK_SECONDS, default 2). Run from the repository's root. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

#ifndef _WIN32
#  include <signal.h>
#  include <sys/resource.h>
#  include <sys/stat.h>
#  include <sys/wait.h>
#  include <time.h>
#  include <unistd.h>
#endif

#define DIR "build/test_faults"
#define M DIR "/m" /* a dense model with a tokenizer */
#define Q DIR "/q" /* the same in 4 bits */
#define OUT DIR "/out"

enum { VOCAB = 96, N = 64, K = 64, GROUP = 32 };

static struct {
    awq_ctx ctx;
    fail_alloc memory;
    fail_files files;
    uint64_t sum; /* of what a call gave */
    int kept;     /* it failed, and gave the best it had before */
    awq_model *model;
    const awq_tokenizer *tokenizer;
    awq_runner *runner;
    awq_session *session, *other;
    awq_qweight w;
    float x[N * K], y[N * K], moments[K * K], mean[K];
    int32_t ids[80];
} G;

#define DO(call) \
    if (!st) st = (call)

static int exists(const char *path)
{
    awq_ctx os;
    memset(&os, 0, sizeof os);
    return awq__file_exists(&os, path);
}

static void sum(const void *data, size_t bytes) { G.sum = awq__checksum(G.sum, data, bytes); }

static void sum_file(const char *path)
{
    awq_ctx os;
    char *data = NULL;
    size_t bytes = 0;
    memset(&os, 0, sizeof os);
    CHECK_MSG(awq__file_load(&os, path, 1 << 24, &data, &bytes) == AWQ_OK, "%s", os.err.text);
    if (data) sum(data, bytes);
    awq__free(&os, data);
}

/* --- the calls. Each gives back what it took, whatever happens. */
static awq_status do_pool(awq_ctx *ctx)
{
    awq_pool *p = NULL;
    awq_status st = awq_pool_create(ctx, 3, &p);
    awq_pool_free(ctx, p);
    return st;
}

static awq_status do_numbers(awq_ctx *ctx)
{
    static uint16_t h[N * K];
    awq_status st = awq_from_float(ctx, AWQ_F16, G.x, N * K, h);
    DO(awq_to_float(ctx, AWQ_F16, h, N * K, G.y));
    sum(G.y, sizeof G.y);
    return st;
}

static awq_status do_quantize(awq_ctx *ctx)
{
    awq_qweight w;
    awq_status st;
    memset(&w, 0, sizeof w);
    st = awq_qweight_alloc(ctx, N, K, 4, GROUP, 0, &w);
    DO(awq_quantize(ctx, G.x, &w));
    DO(awq_dequantize(ctx, &w, G.y));
    awq_qweight_free(ctx, &w);
    sum(G.y, sizeof G.y);
    return st;
}

static awq_status do_layouts(awq_ctx *ctx)
{
    static char room[4][65536];
    awq_status st = AWQ_OK;
    int l, i;
    for (l = AWQ_LAYOUT_GEMM; !st && l < AWQ_LAYOUT_COUNT; l++) {
        awq_packed p;
        st = awq_layout_describe(ctx, (awq_layout)l, &G.w, &p);
        if (st == AWQ_E_UNSUPPORTED) { /* it cannot hold this matrix */
            st = AWQ_OK;
            continue;
        }
        for (i = 0; !st && i < p.n_tensors; i++) p.tensor[i].data = room[i];
        DO(awq_pack(ctx, &G.w, &p));
        DO(awq_unpack(ctx, &p, &G.w));
        sum(G.w.codes, N * K);
    }
    return st;
}

static awq_status do_linear(awq_ctx *ctx)
{
    awq_status st = AWQ_OK;
    int mode;
    for (mode = 0; !st && mode < 3; mode++) {
        awq_linear l, dense;
        memset(&l, 0, sizeof l);
        memset(&dense, 0, sizeof dense);
        st = awq_linear_prepare(ctx, &G.w, (awq_mode)mode, 0, G.mean, &l);
        DO(awq_linear_run(ctx, &l, G.x, 5, G.y));
        DO(awq_linear_dense(ctx, AWQ_F32, G.x, N, K, NULL, &dense));
        DO(awq_linear_run(ctx, &dense, G.x, 40, G.y));
        awq_linear_free(ctx, &l);
        awq_linear_free(ctx, &dense);
    }
    sum(G.y, sizeof G.y);
    return st;
}

static awq_status do_search(awq_ctx *ctx)
{
    const float *weights = G.x;
    int64_t out = N;
    awq_search_desc d;
    float w_mean[K], scales[K], clip[N * K / GROUP];
    double losses[AWQ_SCALE_GRID + 1];
    int best = 0;
    awq_status st;
    memset(&d, 0, sizeof d);
    d.bits = 4;
    d.group_size = GROUP;
    memset(losses, 0, sizeof losses);
    st = awq_weight_mean(ctx, &weights, &out, 1, K, GROUP, w_mean);
    DO(awq_scale_candidate(ctx, G.mean, w_mean, K, 0.5, 0, scales));
    DO(awq_fake_quantize(ctx, G.x, N, K, &d, scales, NULL, G.y));
    DO(awq_search_scales(ctx, &weights, &out, 1, K, G.mean, G.moments, &d, scales, losses, &best));
    DO(awq_search_clips(ctx, G.x, N, K, G.moments, &d, clip));
    sum(losses, sizeof losses);
    return st;
}

static awq_status do_tensors(awq_ctx *ctx)
{
    awq_tensors *t = NULL;
    const awq_tensor *x;
    float f[64];
    uint16_t h[64];
    awq_status st = awq_tensors_open(ctx, M, &t);
    x = st ? NULL : awq_tensors_find(t, "model.norm.weight");
    DO(awq_tensors_read(ctx, t, x, 0, h, sizeof h));
    DO(awq_tensors_read_float(ctx, t, x, 0, 64, f));
    if (!st) sum(f, sizeof f);
    awq_tensors_close(ctx, t);
    return st;
}

static awq_status do_writer(awq_ctx *ctx)
{
    awq_tensor list[2];
    awq_writer *w = NULL;
    awq_status st = AWQ_OK;
    float back[K];
    int i;
    memset(list, 0, sizeof list);
    for (i = 0; i < 2; i++) {
        list[i].name = i ? "b" : "a";
        list[i].dtype = AWQ_F32;
        list[i].ndim = 1;
        list[i].shape[0] = K;
    }
    CHECK(awq__os_make_folder(NULL, OUT) == 0);
    DO(awq_writer_open(ctx, OUT, list, 2, 4 * K, 0, &w)); /* two files and the index */
    for (i = 0; !st && i < 2; i++) st = awq_writer_write(ctx, w, i, 0, G.mean, sizeof G.mean);
    DO(awq_writer_read(ctx, w, 1, 0, back, sizeof back));
    if (!st) sum(back, sizeof back);
    DO(awq_writer_sync(ctx, w));
    DO(awq_writer_finish(ctx, w));
    if (st && w) awq_writer_abort(ctx, w, 0);
    return st;
}

static awq_status do_checkpoint(awq_ctx *ctx)
{
    awq_checkpoint *ck = NULL;
    awq_linear_info info;
    awq_qweight w;
    awq_status st = awq_checkpoint_open(ctx, Q, &ck);
    memset(&w, 0, sizeof w);
    DO(awq_checkpoint_expert(ctx, ck, 0, AWQ_Q_PROJ, 0, &info));
    DO(awq_checkpoint_linear(ctx, ck, 0, AWQ_DOWN_PROJ, &info));
    DO(awq_checkpoint_read_qweight(ctx, ck, &info, &w));
    if (!st) sum(w.codes, (size_t)(w.out_features * w.in_features));
    awq_qweight_free(ctx, &w);
    awq_checkpoint_close(ctx, ck);
    return st;
}

static awq_status do_tokenizer(awq_ctx *ctx)
{
    awq_tokenizer *t = NULL;
    awq_status st = awq_tokenizer_load(ctx, M, &t);
    if (!st) G.sum += awq_tokenizer_hash(t);
    awq_tokenizer_free(ctx, t);
    return st;
}

static awq_status do_encode(awq_ctx *ctx)
{
    static const char text[] = "the quick brown fox <s> 0123";
    int32_t ids[64];
    char back[128];
    const char *part;
    size_t n = 0, bytes = 0, i;
    awq_decoder d;
    awq_status st = awq_encode(ctx, G.tokenizer, text, sizeof text - 1, 1, ids, 64, &n);
    DO(awq_decode(ctx, G.tokenizer, ids, n, 0, back, sizeof back, &bytes));
    memset(&d, 0, sizeof d);
    for (i = 0; !st && i < n; i++) st = awq_decoder_push(ctx, G.tokenizer, &d, ids[i], &part, &bytes);
    awq_decoder_free(ctx, &d);
    if (!st) sum(ids, n * sizeof *ids);
    return st;
}

static awq_status do_template(awq_ctx *ctx)
{
    static const char source[] = "{% for m in messages %}<{{ m.role | upper }}>{{ m['content'][1:] ~ [1, {'a': 2}] | tojson }}{% endfor %}";
    awq_message m[2] = {{"user", "one", NULL}, {"assistant", "two", "{\"name\": \"f\"}"}};
    awq_template_desc d;
    char *text = NULL;
    size_t bytes = 0;
    awq_status st;
    memset(&d, 0, sizeof d);
    st = awq_template_render(ctx, source, m, 2, &d, &text, &bytes);
    if (!st) sum(text, bytes);
    awq_text_free(ctx, text);
    return st;
}

static awq_status do_grammar(awq_ctx *ctx)
{
    awq_grammar_desc d;
    awq_grammar *g = NULL;
    awq_match match = AWQ_MATCH_NO;
    awq_status st;
    memset(&d, 0, sizeof d);
    d.schema = "{\"type\": \"object\", \"required\": [\"a\"], \"properties\": {\"a\": {\"type\": \"integer\", \"maximum\": 20}}}";
    st = awq_grammar_create(ctx, &d, &g);
    DO(awq_grammar_match(ctx, g, "{\"a\": 12}", 9, &match));
    if (!st) CHECK(match == AWQ_MATCH_WHOLE);
    awq_grammar_free(ctx, g);
    return st;
}

static awq_status do_model(awq_ctx *ctx)
{
    awq_model *m = NULL;
    awq_model_desc d;
    awq_status st;
    memset(&d, 0, sizeof d);
    d.head_bits = 8;
    st = awq_model_load(ctx, Q, &d, &m);
    if (!st) G.sum += awq_model_hash(m);
    CHECK(awq_model_free(ctx, m) == AWQ_OK);
    return st;
}

static awq_status do_memory(awq_ctx *ctx)
{
    awq_memory need;
    awq_status st = awq_memory_needed(ctx, Q, NULL, NULL, NULL, 2, &need);
    if (!st) G.sum += need.peak;
    return st;
}

static awq_status do_sample(awq_ctx *ctx)
{
    awq_sampling s;
    uint64_t state = 1;
    int32_t id = 0;
    awq_status st;
    memset(&s, 0, sizeof s);
    s.temperature = 1;
    s.top_k = 20;
    s.top_p = 0.9f;
    s.repetition_penalty = 1.1f;
    memcpy(G.y, G.x, sizeof G.y);
    st = awq_sample(ctx, &s, G.y, VOCAB, G.ids, 5, &state, &id);
    G.sum += (uint64_t)id;
    return st;
}

static awq_status do_session(awq_ctx *ctx)
{
    awq_runner *r = NULL;
    awq_session *s = NULL;
    awq_session_desc d;
    awq_status st = awq_runner_create(ctx, G.model, NULL, &r);
    memset(&d, 0, sizeof d);
    d.max_tokens = 40;
    DO(awq_session_create(ctx, r, &d, &s));
    CHECK(awq_session_free(ctx, s) == AWQ_OK && awq_runner_free(ctx, r) == AWQ_OK);
    return st;
}

static int on_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    sum(text, bytes);
    return 0;
}

static awq_generate_desc question(void)
{
    static const char *const stop[] = {"qwqw"};
    awq_generate_desc d;
    memset(&d, 0, sizeof d);
    d.prompt = "the quick brown fox";
    d.max_tokens = 8;
    d.ignore_eos = 1;
    d.stop = stop;
    d.n_stop = 1;
    d.on_text = on_text;
    return d;
}

static awq_status do_ask(awq_ctx *ctx)
{
    awq_generate_desc d = question();
    awq_generate_result r;
    awq_status st = awq_session_rewind(ctx, G.session, 0);
    DO(awq_ask(ctx, G.session, &d));
    while (!st && awq_session_busy(G.session)) st = awq_step(ctx, G.runner, NULL, 0, AWQ_NO_BUDGET, NULL);
    DO(awq_session_answer(ctx, G.session, &r));
    if (awq_session_busy(G.session)) CHECK(awq_session_stop(ctx, G.session) == AWQ_OK);
    return st;
}

static awq_status do_feed(awq_ctx *ctx)
{
    float logits[VOCAB];
    awq_status st = awq_session_rewind(ctx, G.other, 0);
    DO(awq_session_feed(ctx, G.other, G.ids, 20, NULL, logits));
    if (!st) sum(logits, sizeof logits);
    return st;
}

static awq_status do_save(awq_ctx *ctx) /* in the middle of an answer */
{
    static char data[1 << 16];
    awq_generate_desc d = question();
    int i;
    awq_status st = awq_session_rewind(ctx, G.session, 0);
    DO(awq_ask(ctx, G.session, &d));
    for (i = 0; !st && i < 3; i++) st = awq_step(ctx, G.runner, NULL, 0, AWQ_NO_BUDGET, NULL);
    DO(awq_session_save(ctx, G.session, data, sizeof data));
    DO(awq_session_restore(ctx, G.other, data, awq_session_bytes(G.session), &d));
    if (!st) sum(awq_session_ids(G.other), 4 * (size_t)awq_session_position(G.other));
    CHECK(awq_session_stop(ctx, G.session) == AWQ_OK && awq_session_stop(ctx, G.other) == AWQ_OK);
    return st;
}

static awq_status do_save_file(awq_ctx *ctx)
{
    awq_status st = awq_session_save_file(ctx, G.session, OUT);
    DO(awq_session_restore_file(ctx, G.other, OUT, NULL));
    if (!st) sum(awq_session_ids(G.other), 4 * (size_t)awq_session_position(G.other));
    return st;
}

static awq_status do_fork(awq_ctx *ctx)
{
    awq_session *copy = NULL;
    awq_status st = awq_session_fork(ctx, G.session, NULL, &copy);
    if (!st) G.sum += (uint64_t)awq_session_position(copy);
    CHECK(awq_session_free(ctx, copy) == AWQ_OK);
    return st;
}

static awq_status do_generate(awq_ctx *ctx)
{
    static const char *const texts[] = {"the", "a longer text"};
    awq_generate_desc d = question();
    float e[2 * 64];
    awq_status st = awq_generate(ctx, G.model, &d, NULL);
    DO(awq_embed(ctx, G.model, texts, 2, e));
    if (!st) sum(e, sizeof e);
    return st;
}

static awq_status do_evaluate(awq_ctx *ctx)
{
    awq_evaluate_desc d;
    awq_evaluation e;
    awq_status st;
    memset(&d, 0, sizeof d);
    d.ids = G.ids;
    d.n_ids = 40;
    d.window = 20;
    d.baseline = G.model;
    st = awq_evaluate(ctx, G.model, &d, &e);
    if (!st) sum(&e.nll, sizeof e.nll);
    return st;
}

static awq_status calibration(awq_ctx *ctx, awq_calibration *c)
{
    awq_calibration_source src = {DIR "/text.txt", 0};
    awq_calibration_desc d;
    memset(&d, 0, sizeof d);
    memset(c, 0, sizeof *c);
    d.sources = &src;
    d.n_sources = 1;
    d.samples = 4;
    d.seq_len = 32;
    return awq_calibration_load(ctx, G.tokenizer, &d, c);
}

static awq_status do_calibration(awq_ctx *ctx)
{
    awq_calibration c;
    awq_status st = calibration(ctx, &c);
    if (!st) sum(c.ids, 4 * (size_t)c.start[c.n_blocks]);
    awq_calibration_free(ctx, &c);
    return st;
}

static awq_status do_quantize_model(awq_ctx *ctx)
{
    awq_calibration c;
    awq_quantize_desc d;
    awq_quantize_result r;
    size_t bytes;
    awq_status st = calibration(ctx, &c);
    memset(&d, 0, sizeof d);
    d.source = M;
    d.target = OUT;
    d.group_size = GROUP;
    d.calibration = &c;
    DO(awq_quantize_memory(ctx, &d, &bytes));
    DO(awq_quantize_model(ctx, &d, &r));
    if (!st) sum_file(OUT "/model.safetensors");
    awq_calibration_free(ctx, &c);
    return st;
}

static awq_status do_convert(awq_ctx *ctx)
{
    awq_convert_desc d;
    awq_status st;
    memset(&d, 0, sizeof d);
    d.source = Q;
    d.target = OUT;
    d.layout = AWQ_LAYOUT_NATIVE;
    st = awq_convert(ctx, &d);
    if (!st) sum_file(OUT "/model.safetensors");
    return st;
}

static awq_status do_suite(awq_ctx *ctx)
{
    awq_suite s;
    awq_status st = awq_suite_load(ctx, DIR "/suite.jsonl", &s);
    if (st) return st;
    sum(s.items[0].question, strlen(s.items[0].question));
    awq_suite_free(ctx, &s);
    return st;
}

static awq_status do_guard(awq_ctx *ctx)
{
    awq_guard_desc d;
    awq_guard_report *r = NULL;
    awq_suite s;
    char *json = NULL, *html = NULL;
    awq_status st;
    memset(&s, 0, sizeof s);
    memset(&d, 0, sizeof d);
    st = awq_suite_load(ctx, DIR "/suite.jsonl", &s);
    d.model = d.baseline = G.model;
    d.suite = &s;
    d.ids = G.ids;
    d.n_ids = 60;
    d.window = 20;
    d.answer_tokens = 4;
    DO(awq_guard(ctx, &d, &r));
    DO(awq_guard_json(ctx, r, &json));
    DO(awq_guard_html(ctx, r, "title", &html));
    if (!st) G.sum += (uint64_t)r->n_gates;
    awq_text_free(ctx, html);
    awq_text_free(ctx, json);
    awq_guard_free(ctx, r);
    awq_suite_free(ctx, &s);
    return st;
}

static awq_status do_rollback(awq_ctx *ctx)
{
    awq_generate_desc d = question();
    int64_t from;
    int i;
    awq_status st = awq_session_rewind(ctx, G.session, 0);
    DO(awq_ask(ctx, G.session, &d));
    for (i = 0; !st && i < 4; i++) st = awq_step(ctx, G.runner, NULL, 0, AWQ_NO_BUDGET, NULL);
    from = awq_session_position(G.session);
    DO(awq_session_rollback(ctx, G.session, from - 1, &d));
    while (!st && awq_session_busy(G.session)) st = awq_step(ctx, G.runner, NULL, 0, AWQ_NO_BUDGET, NULL);
    if (!st) sum(awq_session_ids(G.session), 4 * (size_t)awq_session_position(G.session));
    if (awq_session_busy(G.session)) CHECK(awq_session_stop(ctx, G.session) == AWQ_OK);
    return st;
}

static awq_status do_answer(awq_ctx *ctx)
{
    static const char text[] = "The fox ran over the hill. It was red and quick.\n\nThe tree stood by the river, and it was old.\n";
    awq_snippet snippets[2];
    awq_answer_desc d;
    awq_answer_report *r = NULL;
    awq_suite suite;
    awq_suite_draft_desc dd;
    char *jsonl = NULL;
    int64_t n = 0;
    awq_status st;
    memset(&suite, 0, sizeof suite);
    memset(&d, 0, sizeof d);
    memset(&dd, 0, sizeof dd);
    memset(snippets, 0, sizeof snippets);
    snippets[0].id = "1";
    snippets[0].text = "the fox";
    snippets[1].id = "2";
    snippets[1].text = "a tree";
    d.question = "the who";
    d.snippets = snippets;
    d.n_snippets = 2;
    d.max_tokens = 4;
    d.candidates = 2;
    d.reject = 100;
    d.cite_last = 1;
    st = awq_suite_load(ctx, DIR "/suite.jsonl", &suite);
    DO(awq_null_distance(ctx, G.model, &suite, &d.null_distance));
    DO(awq_answer(ctx, G.model, &d, &r));
    if (!st) sum(r->text, strlen(r->text));
    dd.model = G.model;
    DO(awq_suite_draft(ctx, text, sizeof text - 1, &dd, &jsonl, &n));
    if (!st) sum(jsonl, strlen(jsonl));
    awq_text_free(ctx, jsonl);
    awq_answer_free(ctx, r);
    awq_suite_free(ctx, &suite);
    return st;
}

static awq_status do_passages(awq_ctx *ctx)
{
    awq_passages p;
    awq_status st;
    memset(&p, 0, sizeof p);
    st = awq_passages_load(ctx, DIR "/passages.txt", &p);
    if (st) return st;
    sum(p.text[0], strlen(p.text[0]));
    awq_passages_free(ctx, &p);
    return st;
}

static awq_status do_preflight(awq_ctx *ctx)
{
    awq_preflight_desc d;
    awq_guard_report *r = NULL;
    awq_status st;
    memset(&d, 0, sizeof d);
    d.folder = Q;
    d.baseline = M;
    d.memory = 1 << 30;
    st = awq_preflight(ctx, &d, &r);
    if (!st) G.sum += (uint64_t)r->verdict;
    awq_guard_free(ctx, r);
    return st;
}

static awq_status do_verdict(awq_ctx *ctx)
{
    awq_verdict v;
    awq_guard_report r;
    awq_status st;
    memset(&r, 0, sizeof r);
    r.verdict = AWQ_WARN;
    st = awq_verdict_write(ctx, Q, &r, 0);
    DO(awq_verdict_read(ctx, Q, &v));
    if (!st) G.sum += (uint64_t)v.severity;
    return st;
}

static awq_status do_until(awq_ctx *ctx)
{
    awq_calibration c;
    awq_quantize_desc q;
    awq_until_desc d;
    awq_until_result r;
    awq_status st = calibration(ctx, &c);
    memset(&q, 0, sizeof q);
    memset(&d, 0, sizeof d);
    q.source = M;
    q.target = OUT;
    q.bits = 2;
    q.layout = AWQ_LAYOUT_COMPRESSED_TENSORS;
    q.group_size = 64;
    q.calibration = &c;
    d.quantize = &q;
    d.ids = G.ids;
    d.n_ids = 40;
    d.window = 20;
    d.tries = 2;
    q.leave_nothing = 1;
    memset(&r, 0, sizeof r);
    DO(awq_quantize_until(ctx, &d, &r));
    if (!st) sum_file(OUT "/model.safetensors");
    G.kept = !st && r.ended;
    if (G.kept)
        CHECK_MSG(r.tried[r.best].verdict != AWQ_VOID && exists(OUT "/model.safetensors") && strlen(r.why) > 10
                      && (r.ended == AWQ_E_IO || r.ended == AWQ_E_MEMORY), "%d tries: %s", r.n_tries, r.why);
    awq_calibration_free(ctx, &c);
    return st;
}

static const struct {
    const char *names;
    awq_status (*run)(awq_ctx *ctx);
    /* file operations that may fail unheard: closing what was read, what need not be there; of awq_quantize_model
       and awq_convert allocations too: a perplexity that there is no room to measure is left out, and a journal that is
       not found is not removed */
    int quiet;
} calls[] = {
    {"awq_pool_create", do_pool, 0},
    {"awq_to_float awq_from_float", do_numbers, 0},
    {"awq_qweight_alloc awq_quantize awq_dequantize", do_quantize, 0},
    {"awq_layout_describe awq_pack awq_unpack", do_layouts, 0},
    {"awq_linear_prepare awq_linear_dense awq_linear_run", do_linear, 0},
    {"awq_weight_mean awq_scale_candidate awq_fake_quantize awq_search_scales awq_search_clips", do_search, 0},
    {"awq_tensors_open awq_tensors_read awq_tensors_read_float", do_tensors, 2},
    {"awq_writer_open awq_writer_write awq_writer_read awq_writer_sync awq_writer_finish", do_writer, 0},
    {"awq_checkpoint_open awq_checkpoint_linear awq_checkpoint_expert awq_checkpoint_read_qweight", do_checkpoint, 4},
    {"awq_tokenizer_load", do_tokenizer, 4},
    {"awq_encode awq_decode awq_decoder_push", do_encode, 0},
    {"awq_template_render", do_template, 0},
    {"awq_grammar_create awq_grammar_match", do_grammar, 0},
    {"awq_model_load awq_model_free", do_model, 9},
    {"awq_memory_needed", do_memory, 9},
    {"awq_sample", do_sample, 0},
    {"awq_runner_create awq_runner_free awq_session_create awq_session_free", do_session, 0},
    {"awq_ask awq_step awq_session_answer awq_session_stop awq_session_rewind", do_ask, 0},
    {"awq_session_save awq_session_restore", do_save, 0},
    {"awq_session_save_file awq_session_restore_file", do_save_file, 1},
    {"awq_session_fork", do_fork, 0},
    {"awq_session_feed", do_feed, 0},
    {"awq_generate awq_embed", do_generate, 0},
    {"awq_evaluate", do_evaluate, 0},
    {"awq_calibration_load", do_calibration, 1},
    {"awq_quantize_model awq_quantize_memory", do_quantize_model, 30},
    {"awq_convert", do_convert, 12},
    {"awq_suite_load", do_suite, 1},
    {"awq_guard awq_guard_json awq_guard_html", do_guard, 1},
    {"awq_session_rollback", do_rollback, 0},
    {"awq_answer awq_null_distance awq_suite_draft", do_answer, 1},
    {"awq_passages_load", do_passages, 1},
    {"awq_preflight", do_preflight, 20},
    {"awq_verdict_read awq_verdict_write", do_verdict, 9},
    {"awq_quantize_until", do_until, 60}};

enum { N_CALLS = sizeof calls / sizeof calls[0] };

/* every declaration that returns a status is in the table */
static void test_table(void)
{
    awq_ctx ctx;
    char *text = NULL, *p, *end;
    size_t bytes = 0, i;
    int n = 0;
    memset(&ctx, 0, sizeof ctx);
    CHECK_MSG(awq__file_load(&ctx, "awq.h", 1 << 24, &text, &bytes) == AWQ_OK, "%s", ctx.err.text);
    if (!text) return;
    end = strstr(text, "#endif /* AWQ_H */");
    CHECK(end != NULL);
    for (p = text; (p = strstr(p, "\nAWQ_API awq_status ")) != NULL && p < end; n++) {
        char name[80], found = 0;
        p += strlen("\nAWQ_API awq_status ");
        snprintf(name, sizeof name, "%.*s", (int)strcspn(p, "("), p);
        for (i = 0; i < N_CALLS; i++) {
            const char *at = calls[i].names;
            while ((at = strstr(at, name)) != NULL && (at[strlen(name)] != ' ' && at[strlen(name)])) at++;
            found |= at != NULL;
        }
        CHECK_MSG(found, "%s has no row in `calls` of tests/test_faults.c", name);
    }
    CHECK(n > 60);
    awq__free(&ctx, text);
}

/* --- the files and objects that they work on */
static void shell(const char *command, const char *a)
{
    char line[400];
    snprintf(line, sizeof line, "%s %s", command, a);
    CHECK_MSG(system(line) == 0, "%s", line);
}

static void put(const char *path, const void *data, size_t bytes)
{
    awq_ctx os;
    memset(&os, 0, sizeof os);
    CHECK_MSG(awq__file_save(&os, path, data, bytes) == AWQ_OK, "%s", os.err.text);
}

static void save(tiny *t, const char *folder)
{
    char path[200];
    size_t i;
    tiny_ctx(t);
    CHECK(awq__os_make_folder(NULL, folder) == 0);
    for (i = 0; i < t->list.count; i++) {
        snprintf(path, sizeof path, "%s%s", folder, t->files[i].path + 1);
        put(path, t->files[i].data, t->files[i].bytes);
    }
}

static const char suite_text[] =
    "{\"question\": \"the who\", \"answer\": \"fox\", \"anchor\": \"the fox\", \"distractor\": \"a dog\", \"paraphrases\": [\"who the\"]}\n"
    "{\"question\": \"the what\", \"answer\": \"tree\", \"anchor\": \"a tree\", \"distractor\": \"a bush\"}\n";

static const char passages_text[] = "The fox ran over the hill, and the dog slept in the sun.\n\n"
                                    "The tree stood by the river for years, and nobody asked it why.\n";

static void make_files(void)
{
    static char json[4096], text[2000];
    char *p = json;
    tiny t;
    awq_ctx ctx;
    int c;
    shell("rm -rf", DIR);
    CHECK(awq__os_make_folder(NULL, "build") == 0 && awq__os_make_folder(NULL, DIR) == 0);
    p += sprintf(p, "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true}],\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                    "\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[],"
                    "\"vocab\":{\"\xc4\xa0\":0");
    for (c = '!'; c < 127; c++) p += sprintf(p, c == '"' || c == '\\' ? ",\"\\%c\":%d" : ",\"%c\":%d", c, c - 31);
    sprintf(p, "}}}");
    tiny_llama(&t);
    tiny_file(&t, "m/tokenizer.json", json);
    tiny_file(&t, "m/tokenizer_config.json", "{\"bos_token\": \"<s>\"}");
    save(&t, M);
    memset(&ctx, 0, sizeof ctx);
    CHECK(tiny_quantize(&t, &ctx, AWQ_LAYOUT_GEMM, 4, GROUP, 0, AWQ_F16, NULL) == AWQ_OK);
    tiny_set(&t, "quantization_config",
             "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 32, \"zero_point\": true, \"version\": \"gemm\"}");
    save(&t, Q);
    tiny_free(&t);
    for (c = 0; c < 1999; c++) text[c] = c % 7 == 6 ? ' ' : (char)('a' + c * c % 23);
    put(DIR "/text.txt", text, 1999);
    put(DIR "/suite.jsonl", suite_text, sizeof suite_text - 1);
    put(DIR "/passages.txt", passages_text, sizeof passages_text - 1);
}

static void begin(void)
{
    awq_session_desc sd;
    uint64_t seed = 3;
    int i, j;
    make_files();
    memset(&G, 0, sizeof G);
    G.memory.fail_at = G.files.fail_at = -1;
    G.ctx.allocator = fail_allocator(&G.memory);
    G.ctx.files = fail_file_system(&G.files);
    for (i = 0; i < N * K; i++) G.x[i] = awq__h(awq__random_unit(&seed) - 0.5f);
    for (i = 0; i < K; i++)
        for (j = 0; j < K; j++) G.moments[i * K + j] = (i == j) + 0.01f;
    for (i = 0; i < K; i++) G.mean[i] = 0.5f + (float)i / K;
    for (i = 0; i < 80; i++) G.ids[i] = 3 + i * 5 % 90;
    CHECK(awq_qweight_alloc(&G.ctx, N, K, 4, GROUP, 0, &G.w) == AWQ_OK && awq_quantize(&G.ctx, G.x, &G.w) == AWQ_OK);
    CHECK_MSG(awq_model_load(&G.ctx, M, NULL, &G.model) == AWQ_OK, "%s", G.ctx.err.text);
    G.tokenizer = awq_model_tokenizer(G.model);
    CHECK(awq_runner_create(&G.ctx, G.model, NULL, &G.runner) == AWQ_OK);
    memset(&sd, 0, sizeof sd);
    sd.max_tokens = 40;
    CHECK(awq_session_create(&G.ctx, G.runner, &sd, &G.session) == AWQ_OK
          && awq_session_create(&G.ctx, G.runner, &sd, &G.other) == AWQ_OK);
}

static void end(void)
{
    CHECK(awq_session_free(&G.ctx, G.session) == AWQ_OK && awq_session_free(&G.ctx, G.other) == AWQ_OK);
    CHECK(awq_runner_free(&G.ctx, G.runner) == AWQ_OK && awq_model_free(&G.ctx, G.model) == AWQ_OK);
    awq_qweight_free(&G.ctx, &G.w);
    CHECK(G.memory.live == 0 && G.ctx.memory_used == 0);
}

static awq_status once(int k, int files, long at)
{
    awq_status st;
    G.sum = 0;
    G.kept = 0;
    G.memory.calls = G.files.calls = 0;
    G.memory.fail_at = files ? -1 : at;
    G.files.fail_at = files ? at : -1;
    G.ctx.err.status = AWQ_OK;
    G.ctx.err.text[0] = 0;
    st = calls[k].run(&G.ctx);
    G.memory.fail_at = G.files.fail_at = -1;
    return st;
}

static void clean(void)
{
    if (exists(OUT) || exists(OUT ".partial") || exists(OUT ".tries")) shell("rm -rf", OUT " " OUT ".*");
}

static void fail_each(int files)
{
    int k, tried = 0, kept = 0;
    begin();
    for (k = 0; k < N_CALLS; k++) {
        const char *names = calls[k].names;
        size_t live = G.memory.live, used = G.ctx.memory_used;
        uint64_t want;
        long total, at, step, quiet = 0;
        once(k, files, -1); /* what is made once, for good, is there now */
        live = G.memory.live, used = G.ctx.memory_used;
        clean();
        CHECK_MSG(once(k, files, -1) == AWQ_OK, "%s: %s", names, G.ctx.err.text);
        CHECK_MSG(G.memory.live == live && G.ctx.memory_used == used, "%s keeps memory", names);
        want = G.sum;
        total = files ? G.files.calls : G.memory.calls;
        step = TEST_STRIDE + total / 60 * TEST_STRIDE;
        for (at = 0; at < total && T.bad < 20; at += at + 10 > total ? TEST_STRIDE : step, tried++) {
            awq_status st;
            clean();
            st = once(k, files, at);
            if (st) {
                /* AWQ_E_ARG: what cannot be opened where the target goes counts as one that is there */
                CHECK_MSG(st == (files ? AWQ_E_IO : AWQ_E_MEMORY) || (files && st == AWQ_E_ARG && strstr(G.ctx.err.text, OUT)),
                          "%s, %ld: %s: %s", names, at, awq_status_name(st), G.ctx.err.text);
                CHECK_MSG(G.ctx.err.status == st && strlen(G.ctx.err.text) > 10, "%s, %ld: %s", names, at, G.ctx.err.text);
                CHECK_MSG(!exists(OUT "/model.safetensors") && !exists(OUT "/model-00001-of-00002.safetensors.part")
                              && (calls[k].run == do_writer || calls[k].run == do_save_file || !exists(OUT)),
                          "%s, %ld: a file is left", names, at);
            } else if (G.kept) kept++;
            else {
                CHECK_MSG((files || calls[k].quiet > 9) && ++quiet <= calls[k].quiet,
                          "%s, %ld: the failure was not noticed", names, at);
                CHECK_MSG(G.sum == want, "%s, %ld: another result", names, at);
            }
            /* less: an answer that a session had from the call before */
            CHECK_MSG(G.memory.live <= live && G.ctx.memory_used <= used, "%s, %ld: %ld bytes left", names, at,
                      (long)(G.memory.live - live));
            if (at % 3 == 0 || total < 30) {
                clean();
                CHECK_MSG(once(k, files, -1) == AWQ_OK && G.sum == want, "%s, again after %ld: %s", names, at, G.ctx.err.text);
                CHECK_MSG(G.memory.live == live && G.ctx.memory_used == used, "%s, again after %ld: %ld bytes left", names, at,
                          (long)(G.memory.live - live));
            }
        }
        if (total) printf("    %-90.90s %4ld\n", names, total);
    }
    CHECK(tried > (files ? 150 : 500) / TEST_STRIDE && kept > 2 / TEST_STRIDE);
    end();
}

static void test_allocations(void) { fail_each(0); }
static void test_files(void) { fail_each(1); }


/* --- everything again and again: no block more, and no page more, than in the first rounds */
static long resident(void) /* bytes; 0: not known here */
{
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    FILE *f = fopen("/proc/self/statm", "r");
    long size = 0, pages = 0;
    if (f && fscanf(f, "%ld %ld", &size, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
#else
    return 0;
#endif
}

static void test_soak(void)
{
    const char *length = getenv("AWQ_SOAK_SECONDS");
    double seconds = length ? atof(length) : 2, began;
    uint64_t want[N_CALLS];
    size_t live = 0;
    long rounds, before = 0, grown;
    int k;
    begin();
    G.ctx.memory_peak = 0;
    for (rounds = 0, began = awq__now(); (rounds < 6 || awq__now() - began < seconds) && !T.bad; rounds++) {
        for (k = 0; k < N_CALLS; k++) {
            clean();
            CHECK_MSG(once(k, 0, -1) == AWQ_OK, "round %ld, %s: %s", rounds, calls[k].names, G.ctx.err.text);
            if (rounds == 1) want[k] = G.sum;
            CHECK_MSG(rounds < 2 || G.sum == want[k], "round %ld, %s: another result", rounds, calls[k].names);
        }
        if (rounds == 1) live = G.memory.live, G.ctx.memory_limit = live + (32 << 20);
        CHECK_MSG(rounds < 1 || (G.memory.live == live && G.ctx.memory_used == live), "round %ld: %ld bytes more", rounds,
                  (long)(G.memory.live - live));
        if (rounds == 3) before = resident();
    }
    grown = resident() - before;
    G.ctx.memory_limit = 0;
    printf("    %ld rounds of %d calls, at most %.2f MB; %ld KB more resident than after four rounds\n", rounds, (int)N_CALLS,
           (double)G.ctx.memory_peak / 1e6, grown / 1024);
    CHECK_MSG(grown < 4 << 20, "%ld bytes more", grown);
    end();
}

/* --- what lies where a file should be, and names that are not plain */
#ifndef _WIN32
static awq_status rtn(awq_ctx *ctx, const char *target)
{
    awq_quantize_desc d;
    memset(&d, 0, sizeof d);
    d.source = M;
    d.target = target;
    d.group_size = GROUP;
    d.method = AWQ_METHOD_RTN;
    return awq_quantize_model(ctx, &d, NULL);
}

static awq_status say(awq_ctx *ctx, const char *folder, int32_t *out)
{
    awq_model *m = NULL;
    awq_generate_desc d;
    awq_status st = awq_model_load(ctx, folder, NULL, &m);
    memset(&d, 0, sizeof d);
    d.prompt = "the";
    d.max_tokens = 8;
    d.out_ids = out;
    DO(awq_generate(ctx, m, &d, NULL));
    awq_model_free(ctx, m);
    return st;
}

static void test_names(void) /* spaces, UTF-8, over 260 characters */
{
    static const char *const parts[] = {"with spaces", "caf\xc3\xa9 \xe6\xbc\xa2\xe5\xad\x97", "it's \"quoted\" $HOME `x`", "%s%n",
                                        "a\\b"};
    static char path[2000], none[6000];
    awq_ctx ctx;
    int32_t out[8];
    int i;
    make_files();
    memset(&ctx, 0, sizeof ctx);
    snprintf(path, sizeof path, "%s", DIR);
    for (i = 0; i < 25; i++) {
        snprintf(path + strlen(path), sizeof path - strlen(path), "/%s %d", parts[i % 5], i);
        CHECK(awq__os_make_folder(NULL, path) == 0);
        if (i == 2 || i == 24) { /* just odd; too long besides for the old Windows limit */
            snprintf(none, sizeof none, "%s/model", path);
            CHECK_MSG(rtn(&ctx, none) == AWQ_OK, "%s", ctx.err.text);
            CHECK_MSG(say(&ctx, none, out) == AWQ_OK, "%s", ctx.err.text);
            snprintf(none, sizeof none, "%s/absent", path);
            CHECK(say(&ctx, none, out) == AWQ_E_IO && strstr(ctx.err.text, none));
        }
    }
    CHECK(strlen(path) > 260);
    memset(none, 'x', sizeof none - 1); /* over PATH_MAX, and over what a sentence holds */
    CHECK(say(&ctx, none, out) == AWQ_E_IO && strlen(ctx.err.text) < sizeof ctx.err.text);
    CHECK(say(&ctx, "", out) == AWQ_E_IO);
    CHECK(ctx.memory_used == 0);
}

static void test_no_files(void) /* a folder, a pipe, a device, a loop, nothing at all where a file is expected */
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    static const char *const make[] = {"mkdir", "mkfifo", "ln -s /dev/zero", "ln -s /dev/null", "ln -sr"};
    int i, k;
    for (k = 0; k < 5; k++)
        for (i = 0; i < 4; i++) {
            char path[200], copy[600];
            awq_ctx ctx;
            awq_status st;
            int32_t out[8];
            make_files();
            snprintf(path, sizeof path, "%s/%s", M, files[i]);
            CHECK(remove(path) == 0);
            if (k == 4) snprintf(copy, sizeof copy, "%s %s", path, path); /* ln makes a link to itself */
            else snprintf(copy, sizeof copy, "%s", path);
            shell(make[k], copy);
            memset(&ctx, 0, sizeof ctx);
            st = say(&ctx, M, out);
            CHECK_MSG(st == AWQ_E_IO && strstr(ctx.err.text, files[i]), "%s %s: %s: %s", make[k], path, awq_status_name(st),
                      ctx.err.text);
            CHECK(ctx.memory_used == 0);
        }
}

static void test_no_targets(void) /* what cannot be written, a full disk of the system's own */
{
    awq_ctx ctx;
    int32_t out[8];
    int status = 0, with_limit;
    pid_t child;
    make_files();
    memset(&ctx, 0, sizeof ctx);
    CHECK(rtn(&ctx, DIR "/suite.jsonl") == AWQ_E_ARG && strstr(ctx.err.text, "suite.jsonl")); /* a file is there */
    CHECK(rtn(&ctx, DIR "/suite.jsonl/out") == AWQ_E_IO && strstr(ctx.err.text, "suite.jsonl"));
    CHECK(rtn(&ctx, DIR "/absent/out") == AWQ_E_IO && strstr(ctx.err.text, "absent"));
    shell("ln -s loop", DIR "/loop");
    CHECK_MSG((rtn(&ctx, DIR "/loop") == AWQ_E_ARG || ctx.err.status == AWQ_E_IO) && strstr(ctx.err.text, "loop"), "%s",
              ctx.err.text);
    CHECK((rtn(&ctx, DIR "/loop/out") == AWQ_E_ARG || ctx.err.status == AWQ_E_IO) && strstr(ctx.err.text, "loop/out"));
    CHECK(rtn(&ctx, M) == AWQ_E_ARG); /* onto the source */
    CHECK_MSG(say(&ctx, M, out) == AWQ_OK, "%s", ctx.err.text);
    for (with_limit = 0; with_limit < 2; with_limit++) { /* a folder that is read-only; files that may not grow */
        fflush(stdout);
        child = fork();
        if (child == 0) {
            struct rlimit limit = {20000, 20000};
            awq_status st;
            if (with_limit) {
                signal(SIGXFSZ, SIG_IGN);
                if (setrlimit(RLIMIT_FSIZE, &limit)) _exit(77);
            } else {
                if (mkdir(DIR "/locked", 0555) || (geteuid() == 0 && setuid(65534)) || access(M "/config.json", R_OK)) _exit(77);
            }
            st = rtn(&ctx, with_limit ? OUT : DIR "/locked/out");
            _exit(st == AWQ_E_IO && strstr(ctx.err.text, with_limit ? "out" : "locked") && ctx.memory_used == 0 ? 0 : 1);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) printf("    not tried: %s\n", with_limit ? "a limit of files" : "a read-only folder");
        else CHECK_MSG(WEXITSTATUS(status) == 0, "%d", with_limit);
        CHECK(!exists(OUT) && !exists(DIR "/locked/out"));
        shell("rm -rf", OUT ".partial");
    }
    CHECK(awq__os_make_folder(NULL, DIR "/disk") == 0);
    if (system("mount -t tmpfs -o size=64k tmpfs " DIR "/disk 2>/dev/null")) {
        printf("    not tried: a small disk: it cannot be mounted here\n");
    } else {
        CHECK(rtn(&ctx, DIR "/disk/out") == AWQ_E_IO && strstr(ctx.err.text, strerror(ENOSPC)));
        CHECK(!exists(DIR "/disk/out"));
        CHECK(system("umount " DIR "/disk") == 0);
    }
    CHECK(ctx.memory_used == 0);
}

/* four layers, so that there is something to go on with */
static void make_deep(void)
{
    tiny t;
    uint64_t seed = 5;
    int i, l, n;
    size_t k;
    tiny_llama(&t);
    for (n = t.n, i = 0; i < n; i++)
        for (l = 1; l < 4 && !strncmp(t.t[i].name, "model.layers.0.", 15); l++) {
            char name[128];
            tiny_tensor *x;
            snprintf(name, sizeof name, "model.layers.%d.%.100s", l, t.t[i].name + 15);
            x = tiny_add(&t, name, t.t[i].dtype, t.t[i].ndim, t.t[i].shape[0], t.t[i].shape[1]);
            for (k = 0; k < x->bytes / 2; k++) ((uint16_t *)x->data)[k] = awq__float_f16(awq__random_unit(&seed) - 0.5f);
        }
    tiny_set(&t, "num_hidden_layers", "4");
    save(&t, DIR "/deep");
    tiny_free(&t);
}

static awq_status work(int convert, const char *target, int resume)
{
    awq_ctx ctx;
    awq_status st;
    memset(&ctx, 0, sizeof ctx);
    if (convert) {
        awq_convert_desc d;
        memset(&d, 0, sizeof d);
        d.source = DIR "/whole0";
        d.target = target;
        d.layout = AWQ_LAYOUT_COMPRESSED_TENSORS;
        d.shard_bytes = 40000;
        st = awq_convert(&ctx, &d);
    } else {
        awq_quantize_desc d;
        awq_calibration c;
        int64_t start[5] = {0, 20, 40, 60, 80};
        memset(&d, 0, sizeof d);
        memset(&c, 0, sizeof c);
        c.n_blocks = 4;
        c.start = start;
        c.ids = G.ids;
        d.source = DIR "/deep";
        d.target = target;
        d.group_size = GROUP;
        d.calibration = &c;
        d.shard_bytes = 40000;
        d.resume = resume;
        st = awq_quantize_model(&ctx, &d, NULL);
    }
    if (st) printf("    %s\n", ctx.err.text);
    return st;
}

static int same(const char *a, const char *b)
{
    static const char what[] = "diff -r -x awq_report.json"; /* which has times */
    char line[200];
    snprintf(line, sizeof line, "%s %s %s", what, a, b);
    return system(line) == 0;
}

/* kill -9 at any time of the clock; tests/test_quantize_model.c does it at every file operation */
static void test_kill(void)
{
    const char *rounds = getenv("AWQ_KILL_ROUNDS");
    int convert, i, n = rounds ? atoi(rounds) : 10;
    uint64_t seed = (uint64_t)(awq__now() * 1e6);
    make_files();
    make_deep();
    for (i = 0; i < 80; i++) G.ids[i] = 3 + i * 5 % 90;
    for (convert = 0; convert < 2; convert++) {
        const char *whole = convert ? DIR "/whole1" : DIR "/whole0";
        double t0 = awq__now(), takes;
        int done = 0, resumed = 0;
        CHECK(work(convert, whole, 0) == AWQ_OK);
        takes = (awq__now() - t0) * 1.1;
        for (i = 0; i < n && T.bad < 5; i++) {
            pid_t child;
            struct timespec wait;
            double after = takes * awq__random_unit(&seed);
            fflush(stdout);
            child = fork();
            if (child == 0) _exit(work(convert, OUT, 0) != AWQ_OK);
            wait.tv_sec = (time_t)after;
            wait.tv_nsec = (long)((after - (double)wait.tv_sec) * 1e9);
            nanosleep(&wait, NULL);
            CHECK(child > 0 && kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
            if (exists(OUT)) { /* complete, or not there */
                done++;
                if (exists(OUT "/progress.jsonl")) CHECK(work(convert, OUT, 1) == AWQ_E_ARG); /* which takes it away */
                CHECK(same(OUT, whole) && !exists(OUT ".partial"));
            } else {
                resumed += exists(OUT ".partial/progress.jsonl");
                CHECK(work(convert, OUT, 1) == AWQ_OK && same(OUT, whole) && !exists(OUT ".partial"));
            }
            clean();
        }
        printf("    %s killed %d times: %d had finished, %d were resumed\n", convert ? "convert" : "quantize", i, done, resumed);
        CHECK(done < n || !n);
    }
}

static void test_changed(void) /* a file that changes under a checkpoint and under a model */
{
    awq_ctx ctx;
    awq_checkpoint *ck = NULL;
    awq_tensors *t;
    awq_model *m = NULL;
    awq_generate_desc d;
    int32_t before[8], after[8];
    float f[64];
    make_files();
    memset(&ctx, 0, sizeof ctx);
    CHECK(say(&ctx, M, before) == AWQ_OK && awq_model_load(&ctx, M, NULL, &m) == AWQ_OK);
    CHECK(awq_checkpoint_open(&ctx, M, &ck) == AWQ_OK);
    CHECK(truncate(M "/model.safetensors", 100) == 0);
    t = awq_checkpoint_tensors(ck);
    CHECK(awq_tensors_read_float(&ctx, t, awq_tensors_find(t, "model.norm.weight"), 0, 64, f) == AWQ_E_IO
          && strstr(ctx.err.text, "model.safetensors"));
    awq_checkpoint_close(&ctx, ck);
    memset(&d, 0, sizeof d); /* what is loaded is the model's own, but for layout native: see awq_model_load */
    d.prompt = "the";
    d.max_tokens = 8;
    d.out_ids = after;
    CHECK(awq_generate(&ctx, m, &d, NULL) == AWQ_OK && !memcmp(before, after, sizeof after));
    CHECK(awq_model_free(&ctx, m) == AWQ_OK);
    CHECK(say(&ctx, M, after) == AWQ_E_FORMAT && strstr(ctx.err.text, "model.safetensors"));
    CHECK(ctx.memory_used == 0);
}
#endif

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_table);
    RUN(test_allocations);
    RUN(test_files);
    RUN(test_soak);
#ifndef _WIN32
    RUN(test_names);
    RUN(test_no_files);
    RUN(test_no_targets);
    RUN(test_changed);
    RUN(test_kill);
#endif
    return TEST_END();
}
