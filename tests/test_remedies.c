/* remedies: verdicts in awq_report.json, told when a model is loaded; quantization that goes on until the guard passes;
   quantization when a model is loaded, its cache, two at once; what is refused; each failure of memory and disk. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"
#include "cpu_device.h"
#include <sys/stat.h>
#include <dirent.h>
#ifndef _WIN32
#  include <signal.h>
#  include <sys/wait.h>
#  include <time.h>
#  include <unistd.h>
#endif

#define TMP "test_remedies.tmp"
#define MODEL TMP "/m"
enum { BLOCKS = 9, LENGTH = 8, N_IDS = 64 };

static void sh(const char *command) { CHECK_MSG(system(command) == 0, "%s", command); }

static int exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static int entries(const char *folder) /* but . and .. */
{
    DIR *d = opendir(folder);
    int n = 0;
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return d ? n - 2 : -1;
}

typedef struct setup {
    awq_ctx ctx;
    int32_t ids[BLOCKS * LENGTH + N_IDS];
    int64_t start[BLOCKS + 1];
    awq_calibration cal;
    awq_quantize_desc q;
    char said[8][1200]; /* warnings */
    int n_said;
    int quantized;      /* progress of that kind was seen */
    int64_t stop_at;    /* cancels at so many calls of progress; 0: never */
    int64_t steps;
    long stop_layer;    /* stops behind that layer, see count_layer; 0: never */
} setup;

static void on_log(void *user, awq_log_level level, const char *text)
{
    setup *s = (setup *)user;
    if (level == AWQ_LOG_WARN && s->n_said < 8) snprintf(s->said[s->n_said++], sizeof s->said[0], "%s", text);
}

static int on_progress(void *user, const awq_progress *p)
{
    setup *s = (setup *)user;
    s->quantized |= !strcmp(p->stage, "quantize");
    return ++s->steps == s->stop_at;
}

/* a model of two layers on the disk */
static void save_tiny(void)
{
    awq_ctx ctx;
    tiny t;
    size_t k;
    int i, n;
    tiny_llama(&t);
    tiny_set(&t, "num_hidden_layers", "2");
    tiny_set(&t, "max_position_embeddings", "64");
    for (i = 0, n = t.n; i < n; i++) {
        tiny_tensor *x = &t.t[i], *y;
        char name[128];
        if (strncmp(x->name, "model.layers.0", 14)) continue;
        snprintf(name, sizeof name, "model.layers.1%s", x->name + 14);
        y = tiny_add(&t, name, x->dtype, x->ndim, x->shape[0], x->shape[1]);
        memcpy(y->data, t.t[i].data, y->bytes);
    }
    tiny_ctx(&t);
    memset(&ctx, 0, sizeof ctx);
    sh("mkdir -p " TMP "/m");
    for (k = 0; k < t.list.count; k++) {
        char path[200];
        snprintf(path, sizeof path, TMP "/%s", t.files[k].path);
        CHECK(awq__file_save(&ctx, path, t.files[k].data, t.files[k].bytes) == AWQ_OK);
    }
    tiny_free(&t);
}

/* the model, calibration for it, and nothing else in the folder */
static void begin(setup *s)
{
    uint64_t seed = 7;
    int i;
    memset(s, 0, sizeof *s);
    for (i = 0; i < BLOCKS * LENGTH + N_IDS; i++) s->ids[i] = (int32_t)((awq__random_unit(&seed)) * 96);
    for (i = 0; i <= BLOCKS; i++) s->start[i] = i * LENGTH;
    s->cal.n_blocks = BLOCKS;
    s->cal.start = s->start;
    s->cal.ids = s->ids;
    s->q.source = TMP "/m";
    s->q.target = TMP "/q";
    s->q.calibration = &s->cal;
    s->q.method = AWQ_METHOD_AWQ;
    s->q.group_size = 64;
    s->q.bits = 8;
    s->q.layout = AWQ_LAYOUT_NATIVE;
    s->ctx.log = on_log;
    s->ctx.progress = on_progress;
    s->ctx.user = s;
    sh("rm -rf " TMP " && mkdir " TMP);
    save_tiny();
}

static void end(setup *s)
{
    CHECK(s->ctx.memory_used == 0);
    sh("rm -rf " TMP);
}

/* a byte in the middle of a tensor, and back again */
static void flip(const char *folder)
{
    awq_ctx ctx;
    awq_tensors *ts = NULL;
    const awq_tensor *t;
    char path[300], c = 0;
    FILE *f;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq_tensors_open(&ctx, folder, &ts) == AWQ_OK);
    t = awq_tensors_at(ts, awq_tensors_count(ts) / 2);
    snprintf(path, sizeof path, "%s", awq_tensors_file(ts, t->file));
    f = fopen(path, "r+b");
    CHECK(f && !fseek(f, (long)(t->offset + t->bytes / 2), SEEK_SET) && fread(&c, 1, 1, f) == 1);
    c = (char)(c ^ 1);
    CHECK(f && !fseek(f, (long)(t->offset + t->bytes / 2), SEEK_SET) && fwrite(&c, 1, 1, f) == 1);
    if (f) fclose(f);
    awq_tensors_close(&ctx, ts);
}

static awq_model *load(setup *s, const char *folder, int devices, awq_status expect)
{
    static cpu_device d[2];
    awq_device *list[2];
    awq_model_desc md;
    awq_model *m = NULL;
    int k;
    memset(&md, 0, sizeof md);
    for (k = 0; k < 2; k++) {
        cpu_device_make(&d[k], 1);
        list[k] = &d[k].d;
    }
    md.devices = list;
    md.n_devices = devices;
    md.rest_on_cpu = 1;
    s->n_said = 0;
    CHECK_MSG(awq_model_load(&s->ctx, folder, &md, &m) == expect, "%s", s->ctx.err.text);
    return m;
}

static void test_verdict(void)
{
    awq_quantize_result r;
    awq_guard_report *report = NULL;
    awq_guard_desc gd;
    awq_model_desc md;
    awq_model *m, *bad = NULL;
    awq_verdict v;
    awq__json j;
    char *text = NULL;
    size_t n;
    setup s;
    begin(&s);
    s.q.symmetric = 1; /* devices that are the CPU load it */
    CHECK_MSG(awq_quantize_model(&s.ctx, &s.q, &r) == AWQ_OK, "%s", s.ctx.err.text);
    CHECK(r.verdict == AWQ_PASS && r.ppl_result > 1 && r.ppl_source > 1);
    CHECK(awq_verdict_read(&s.ctx, s.q.target, &v) == AWQ_OK && v.severity == AWQ_PASS && !v.text[0] && v.devices == 0);
    CHECK(awq__json_load(&s.ctx, TMP "/q/awq_report.json", 1 << 20, &j) == AWQ_OK);
    CHECK(awq__json_count(&j, awq__json_get(&j, 1, "layers")) == 2 && awq__json_eq(&j, awq__json_get(&j, 1, "method"), "awq"));
    CHECK(awq__json_count(&j, awq__json_get(&j, awq__json_get(&j, awq__json_get(&j, 1, "guard"), "report"), "gates")) >= 5);
    awq__json_free(&s.ctx, &j);
    awq_model_free(&s.ctx, load(&s, s.q.target, 0, AWQ_OK));
    CHECK(s.n_said == 0);
    awq_model_free(&s.ctx, load(&s, s.q.target, 2, AWQ_OK)); /* it has passed on one */
    CHECK_MSG(s.n_said == 0, "%s", s.said[0]);
    awq_model_free(&s.ctx, load(&s, MODEL, 1, AWQ_OK)); /* one device wants no verdict */
    CHECK(s.n_said == 0);
    awq_model_free(&s.ctx, load(&s, MODEL, 2, AWQ_OK));
    CHECK(s.n_said == 1 && strstr(s.said[0], "no pass of these weights on one") && strstr(s.said[0], MODEL));

    /* a report that says fail */
    m = load(&s, MODEL, 0, AWQ_OK);
    memset(&md, 0, sizeof md);
    md.rtn_bits = 2;
    CHECK(awq_model_load(&s.ctx, MODEL, &md, &bad) == AWQ_OK);
    memset(&gd, 0, sizeof gd);
    gd.model = bad;
    gd.baseline = m;
    gd.ids = s.ids;
    gd.n_ids = 64;
    gd.window = 16;
    CHECK(awq_guard(&s.ctx, &gd, &report) == AWQ_OK && report->verdict == AWQ_FAIL);
    CHECK_MSG(awq_verdict_write(&s.ctx, s.q.target, report, 2) == AWQ_OK, "%s", s.ctx.err.text);
    CHECK(awq_verdict_read(&s.ctx, s.q.target, &v) == AWQ_OK && v.severity == AWQ_FAIL && v.devices == 2);
    CHECK_MSG(strstr(v.text, "is expected: ") && strstr(v.text, "calibrate"), "%s", v.text);
    CHECK(awq__json_load(&s.ctx, TMP "/q/awq_report.json", 1 << 20, &j) == AWQ_OK); /* the rest is as it was */
    CHECK(awq__json_count(&j, awq__json_get(&j, 1, "layers")) == 2 && awq__json_eq(&j, awq__json_get(&j, 1, "method"), "awq"));
    awq__json_free(&s.ctx, &j);
    awq_model_free(&s.ctx, bad);
    bad = load(&s, s.q.target, 0, AWQ_OK);
    CHECK(s.n_said == 1 && strstr(s.said[0], "not the same model") && strstr(s.said[0], v.text));
    awq_model_free(&s.ctx, bad);
    bad = load(&s, s.q.target, 2, AWQ_OK);
    CHECK(s.n_said > 1 && strstr(s.said[1], "holds no pass")); /* and the devices' own models */
    awq_model_free(&s.ctx, bad);

    flip(s.q.target); /* other weights: nothing is said of them */
    CHECK(awq_verdict_read(&s.ctx, s.q.target, &v) == AWQ_OK && v.severity == AWQ_VOID && !v.text[0]);
    awq_model_free(&s.ctx, load(&s, s.q.target, 0, AWQ_OK));
    CHECK(s.n_said == 0);
    flip(s.q.target);
    CHECK(awq_verdict_read(&s.ctx, s.q.target, &v) == AWQ_OK && v.severity == AWQ_FAIL);
    CHECK(awq__file_load(&s.ctx, TMP "/q/awq_report.json", 1 << 20, &text, &n) == AWQ_OK);
    CHECK(awq__file_save(&s.ctx, TMP "/q/awq_report.json", text, n / 2) == AWQ_OK); /* damaged: the model loads */
    awq__free(&s.ctx, text);
    awq_model_free(&s.ctx, load(&s, s.q.target, 0, AWQ_OK));
    CHECK(s.n_said == 1 && strstr(s.said[0], "cannot be read") && strstr(s.said[0], "awq_report.json"));
    CHECK(awq_verdict_write(&s.ctx, s.q.target, report, 0) == AWQ_E_FORMAT);
    remove(TMP "/q/awq_report.json");
    awq_model_free(&s.ctx, load(&s, s.q.target, 0, AWQ_OK));
    CHECK(s.n_said == 0);
    CHECK(awq_verdict_write(&s.ctx, s.q.target, report, 0) == AWQ_OK); /* made anew */
    CHECK(awq_verdict_read(&s.ctx, s.q.target, &v) == AWQ_OK && v.severity == AWQ_FAIL && v.devices == 0);
    CHECK(awq_verdict_read(&s.ctx, TMP "/none", &v) == AWQ_E_IO);
    awq_guard_free(&s.ctx, report);
    awq_model_free(&s.ctx, m);
    end(&s);
}

static awq_until_desc until_of(setup *s)
{
    awq_until_desc d;
    memset(&d, 0, sizeof d);
    d.quantize = &s->q;
    d.ids = s->ids + BLOCKS * LENGTH;
    d.n_ids = N_IDS;
    d.window = 16;
    return d;
}

/* two bits fail and are mended; where the first try passes there is no other; what is kept is what is there */
static void test_until(void)
{
    awq_until_result r;
    awq_until_desc d;
    awq_verdict v;
    setup s;
    int i;
    begin(&s);
    d = until_of(&s);
    d.enough = AWQ_WARN;
    CHECK_MSG(awq_quantize_until(&s.ctx, &d, &r) == AWQ_OK, "%s", s.ctx.err.text);
    CHECK_MSG(r.tried[0].verdict <= AWQ_WARN, "%s", r.tried[0].text); /* rounding to nearest is as good */
    CHECK(r.n_tries == 1 && r.best == 0 && !strcmp(r.tried[0].what, "as asked")
          && r.quantize.group_size == 64);
    CHECK(entries(TMP) == 2 && awq_verdict_read(&s.ctx, s.q.target, &v) == AWQ_OK && v.severity == r.tried[0].verdict);
    d.enough = AWQ_PASS;
    CHECK(awq_quantize_until(&s.ctx, &d, &r) == AWQ_E_ARG && strstr(s.ctx.err.text, "exists already"));
    sh("rm -rf " TMP "/q*");
    s.q.bits = 2;
    d.tries = 4;
    d.more = &s.cal; /* is what it has: no remedy */
    CHECK_MSG(awq_quantize_until(&s.ctx, &d, &r) == AWQ_OK, "%s", s.ctx.err.text);
    for (i = 0; i < r.n_tries; i++)
        printf("    %s: %s, KL %.4f, %d gates fail, %.1f s\n", r.tried[i].what, awq_severity_name(r.tried[i].verdict),
               r.tried[i].kl, r.tried[i].failed, r.tried[i].seconds);
    CHECK(r.n_tries == 4 && r.tried[0].verdict == AWQ_FAIL && r.tried[0].text[0] && r.best > 0);
    for (i = 0; i < r.n_tries; i++) {
        CHECK(r.tried[r.best].verdict <= r.tried[i].verdict);
        CHECK(r.tried[r.best].verdict < r.tried[i].verdict || r.tried[r.best].kl <= r.tried[i].kl);
        CHECK(!strstr(r.tried[i].what, "calibration"));
    }
    CHECK(entries(TMP) == 2 && awq_verdict_read(&s.ctx, s.q.target, &v) == AWQ_OK && v.severity == r.tried[r.best].verdict
          && !strcmp(v.text, r.tried[r.best].text));
    awq_model_free(&s.ctx, load(&s, s.q.target, 0, AWQ_OK));
    sh("rm -rf " TMP "/q*");
    d.seconds = 1e-9; /* no time but for the first */
    CHECK(awq_quantize_until(&s.ctx, &d, &r) == AWQ_OK && r.n_tries == 1 && r.tried[0].verdict == AWQ_FAIL && entries(TMP) == 2);
    sh("rm -rf " TMP "/q*");
    d.seconds = 0;
    d.enough = AWQ_FAIL;
    CHECK(awq_quantize_until(&s.ctx, &d, &r) == AWQ_OK && r.n_tries == 1);
    sh("rm -rf " TMP "/q*");
    d.ids = NULL;
    CHECK(awq_quantize_until(&s.ctx, &d, &r) == AWQ_E_ARG && strstr(s.ctx.err.text, "to judge by"));
    d = until_of(&s);
    s.q.scaled = 1;
    CHECK(awq_quantize_until(&s.ctx, &d, &r) == AWQ_E_ARG && strstr(s.ctx.err.text, "scaled"));
    s.q.scaled = 0;
    s.q.bits = 9;
    CHECK(awq_quantize_until(&s.ctx, &d, &r) == AWQ_E_ARG && strstr(s.ctx.err.text, "bits"));
    CHECK(entries(TMP) == 1);
    end(&s);
}

/* --- each failure: the k-th allocation (what 0), the k-th file operation (1), a stop at the k-th call of progress (2) */
typedef struct fault {
    int what;
    long k;
    fail_alloc memory;
    fail_files disk;
    int reached;
} fault;

static int reached(const setup *s, fault *f) /* by the call that was made; nothing fails from now on */
{
    f->reached = f->what == 0 ? f->memory.calls > f->k : f->what == 1 ? f->disk.calls > f->k : s->steps > f->k;
    f->memory.fail_at = f->disk.fail_at = -1;
    return f->reached;
}

static void each_fault(void (*one)(setup *s, fault *f))
{
    fault f;
    setup s;
    int what;
    for (what = 0; what < 3; what++) {
        memset(&f, 0, sizeof f);
        for (f.what = what, f.reached = 1; f.reached; f.k += TEST_STRIDE + f.k / 3) {
            begin(&s);
            memset(&f.memory, 0, sizeof f.memory);
            f.memory.fail_at = what == 0 ? f.k : -1;
            f.disk.calls = 0;
            f.disk.fail_at = what == 1 ? f.k : -1;
            if (what == 0) s.ctx.allocator = fail_allocator(&f.memory);
            if (what == 1) s.ctx.files = fail_file_system(&f.disk);
            if (what == 2) s.stop_at = f.k + 1;
            one(&s, &f);
            CHECK_MSG(what || f.memory.live == 0, "%ld", f.k);
            end(&s);
        }
        CHECK(f.k > 10);
    }
}

static int n_kept; /* tries that failed behind one that was kept */

static void fail_until(setup *s, fault *f)
{
    awq_until_result r;
    awq_until_desc d;
    awq_status st;
    int there;
    s->q.bits = 2;
    s->q.method = AWQ_METHOD_BEST;
    s->q.leave_nothing = 1;
    d = until_of(s);
    d.tries = 2;
    memset(&r, 0, sizeof r);
    st = awq_quantize_until(&s->ctx, &d, &r);
    if (!reached(s, f)) CHECK_MSG(st == AWQ_OK && !r.ended && !r.why[0], "%s", s->ctx.err.text);
    if (f->what == 0 && st) CHECK(st == AWQ_E_MEMORY);
    if (f->what == 1 && st) CHECK_MSG(st == AWQ_E_IO || st == AWQ_E_FORMAT || strstr(s->ctx.err.text, "exists") || strstr(s->ctx.err.text, "earlier run") || strstr(s->ctx.err.text, "unfinished"), "%s", s->ctx.err.text);
    if (f->what == 2 && f->reached) CHECK(st == AWQ_E_CANCELLED);
    CHECK(!st || s->ctx.err.text[0]);
    if (!st && r.ended) { /* the best stays, and what happened is said */
        n_kept++;
        CHECK(r.ended == (f->what ? AWQ_E_IO : AWQ_E_MEMORY) && strlen(r.why) > 10);
        CHECK(s->n_said && strstr(s->said[s->n_said - 1], r.why) && strstr(s->said[s->n_said - 1], "is kept"));
        CHECK(r.tried[r.best].verdict != AWQ_VOID);
        if (r.n_tries == 2 && r.best == 0 && r.tried[1].verdict == AWQ_VOID) CHECK(!strcmp(r.tried[1].text, r.why));
    }
    /* nothing under the final name, no try beside it, unless all went well; files are removed by paths in memory */
    there = exists(TMP "/q/config.json");
    CHECK_MSG(there == (st == AWQ_OK), "%d %ld", f->what, f->k);
    if (f->what || (!st && !r.ended)) CHECK_MSG(entries(TMP) == 1 + there, "%d %ld: %d entries", f->what, f->k, entries(TMP));
}

static void test_until_failures(void)
{
    n_kept = 0;
    each_fault(fail_until);
    CHECK_MSG(n_kept > 2 / TEST_STRIDE, "%d", n_kept);
    printf("    %d times a try was kept\n", n_kept);
}

/* --- what was ended goes on: with counts of what was made, in files that outlive a process */
#define COUNT(name) TMP "/m/" name

static void count(const char *path)
{
    FILE *f = fopen(path, "ab");
    CHECK(f && fputc('x', f) == 'x' && fclose(f) == 0);
}

static long counted(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : (long)st.st_size;
}

static void count_try(void *user, const awq_try *t)
{
    (void)user;
    if (!t->resumed) count(COUNT("tries"));
}

static void count_layer(void *user, const awq_layer_report *r)
{
    setup *s = (setup *)user;
    (void)r;
    count(COUNT("layers"));
    if (s && counted(COUNT("layers")) == s->stop_layer) s->stop_at = s->steps + 1;
}

/* every remedy on the way down; *r: may be NULL */
static awq_status climb(setup *s, const char *target, int resume, awq_until_result *r)
{
    awq_until_desc d = until_of(s);
    awq_until_result here;
    awq_status st;
    s->q.bits = 2;
    s->q.target = target;
    s->q.resume = resume;
    s->q.on_layer = count_layer;
    s->q.user = s;
    d.tries = 4;
    d.on_try = count_try;
    st = awq_quantize_until(&s->ctx, &d, &here);
    if (!st && r) *r = here;
    return st;
}

static int same(const char *a, const char *b)
{
    char line[200];
    snprintf(line, sizeof line, "diff -r -x awq_report.json %s %s", a, b); /* which has times */
    return system(line) == 0;
}

static void check_same_tries(const awq_until_result *a, const awq_until_result *b)
{
    int i;
    CHECK(a->n_tries == b->n_tries && a->best == b->best);
    for (i = 0; i < a->n_tries && i < b->n_tries; i++) {
        const awq_try *x = &a->tried[i], *y = &b->tried[i];
        CHECK_MSG(!strcmp(x->what, y->what) && x->verdict == y->verdict && x->counted == y->counted && x->failed == y->failed
                      && x->kl == y->kl && x->ppl_ratio == y->ppl_ratio && !strcmp(x->text, y->text),
                  "%d: %s, %s", i, x->what, y->what);
    }
    CHECK(a->quantize.group_size == b->quantize.group_size && a->quantize.calibration_tokens == b->quantize.calibration_tokens
          && a->quantize.ppl_result == b->quantize.ppl_result && a->quantize.layers == b->quantize.layers);
}

static void test_until_resumed(void)
{
    awq_until_result whole, r;
    long tries, layers, stop, steps;
    int resumed = 0, k;
    setup s;
    begin(&s);
    CHECK_MSG(climb(&s, TMP "/whole", 0, &whole) == AWQ_OK, "%s", s.ctx.err.text);
    tries = counted(COUNT("tries"));
    layers = counted(COUNT("layers"));
    CHECK(tries == whole.n_tries && tries == 4 && layers == 8);
    steps = (long)s.steps;
    for (k = 0; k < 5; k++) {
        stop = 1 + (steps - 3) * k / 4;
        sh("rm -f " COUNT("tries") " " COUNT("layers"));
        s.steps = 0;
        s.stop_at = stop;
        CHECK(climb(&s, TMP "/q", 0, NULL) == AWQ_E_CANCELLED && !exists(TMP "/q"));
        s.stop_at = 0;
        if (exists(TMP "/q.tries")) {
            CHECK(climb(&s, TMP "/q", 0, NULL) == AWQ_E_ARG && strstr(s.ctx.err.text, "q.tries") && strstr(s.ctx.err.text, "resume"));
            resumed++;
        } else CHECK_MSG(entries(TMP) == 2, "%ld", stop); /* no layer was finished */
        CHECK_MSG(climb(&s, TMP "/q", 1, &r) == AWQ_OK, "%ld: %s", stop, s.ctx.err.text);
        CHECK_MSG(same(TMP "/q", TMP "/whole") && entries(TMP) == 3, "%ld: %d", stop, entries(TMP));
        check_same_tries(&r, &whole);
        /* a layer that was being made may be made again, no try that was finished is */
        CHECK_MSG(counted(COUNT("tries")) == 4 && counted(COUNT("layers")) <= 8 + 1, "%ld: %ld tries, %ld layers", stop,
                  counted(COUNT("tries")), counted(COUNT("layers")));
        sh("rm -rf " TMP "/q");
    }
    CHECK_MSG(resumed > 2, "%d", resumed);

    /* another setting, another text: anew; other limits: not */
    s.steps = 0;
    s.stop_at = steps * 3 / 4;
    CHECK(climb(&s, TMP "/q", 0, NULL) == AWQ_E_CANCELLED);
    s.stop_at = 0;
    {
        awq_until_desc d = until_of(&s);
        d.tries = 1;
        s.q.resume = 1;
        sh("cp -r " TMP "/q.tries " TMP "/kept && for f in " TMP "/q.try?; do cp -r $f $f.kept; done");
        CHECK_MSG(awq_quantize_until(&s.ctx, &d, &r) == AWQ_OK && r.n_tries >= 2 && r.tried[1].resumed, "%s", s.ctx.err.text);
        CHECK(exists(TMP "/q/config.json") && !exists(TMP "/q.tries"));
        sh("rm -rf " TMP "/q && mv " TMP "/kept " TMP "/q.tries && for f in " TMP "/q.try?.kept; do mv $f ${f%.kept}; done");
        d.window = 8;
        CHECK_MSG(awq_quantize_until(&s.ctx, &d, &r) == AWQ_OK && r.n_tries == 1 && !r.tried[0].resumed, "%s", s.ctx.err.text);
        CHECK_MSG(entries(TMP) == 3, "%d", entries(TMP)); /* whole, q: nothing of the run before */
    }
    sh("rm -rf " TMP "/q");

    /* a budget that one more try would pass; nothing of the one that was begun is left */
    sh("rm -f " COUNT("layers"));
    s.stop_layer = 3; /* the first of try 2 */
    CHECK(climb(&s, TMP "/q", 0, NULL) == AWQ_E_CANCELLED && exists(TMP "/q.try2.partial/progress.jsonl"));
    s.stop_layer = s.stop_at = 0;
    {
        awq_until_desc d = until_of(&s);
        double first = NAN;
        char *journal = NULL;
        size_t bytes;
        const char *at;
        CHECK(awq__file_load(&s.ctx, TMP "/q.tries", 1 << 20, &journal, &bytes) == AWQ_OK);
        at = journal ? strstr(journal, "\"seconds\": ") : NULL;
        if (at) first = strtod(at + 11, NULL);
        awq__free(&s.ctx, journal);
        d.seconds = 1.5 * first;
        s.q.resume = 1;
        CHECK_MSG(awq_quantize_until(&s.ctx, &d, &r) == AWQ_OK && r.n_tries == 1 && r.tried[0].resumed, "%s, %d tries", s.ctx.err.text, r.n_tries);
        CHECK_MSG(entries(TMP) == 3, "%d", entries(TMP));
    }
    sh("rm -rf " TMP "/q");

    /* a damaged line in the journal, of the first try or a later one: named, and when it is put right all goes on */
    s.steps = 0;
    s.stop_at = steps * 3 / 4;
    CHECK(climb(&s, TMP "/q", 0, NULL) == AWQ_E_CANCELLED);
    s.stop_at = 0;
    sh("cp " TMP "/q.tries " TMP "/kept && sed -i 's/\"stage\": [0-9]*/\"stage\": 1e300/' " TMP "/q.tries");
    CHECK_MSG(climb(&s, TMP "/q", 1, NULL) == AWQ_E_FORMAT && strstr(s.ctx.err.text, "q.tries: stage is 1e+300"), "%s", s.ctx.err.text);
    sh("cp " TMP "/kept " TMP "/q.tries && sed -i '3s/^./x/' " TMP "/q.tries");
    CHECK_MSG(climb(&s, TMP "/q", 1, NULL) == AWQ_E_FORMAT && strstr(s.ctx.err.text, "q.tries: ")
                  && strstr(s.ctx.err.text, "in a line of the tries"), "%s", s.ctx.err.text);
    CHECK(!exists(TMP "/q"));
    sh("mv " TMP "/kept " TMP "/q.tries");
    CHECK_MSG(climb(&s, TMP "/q", 1, &r) == AWQ_OK, "%s", s.ctx.err.text);
    CHECK_MSG(same(TMP "/q", TMP "/whole") && entries(TMP) == 3, "%d", entries(TMP));
    sh("rm -rf " TMP "/q");

    /* without its journal what is left is of an earlier run, which is said before any work; without the best folder */
    sh("rm -f " COUNT("layers"));
    s.stop_layer = 3;
    CHECK(climb(&s, TMP "/q", 0, NULL) == AWQ_E_CANCELLED && exists(TMP "/q.try2.partial/progress.jsonl"));
    s.stop_layer = s.stop_at = 0;
    sh("mv " TMP "/q.tries " TMP "/kept");
    CHECK_MSG(climb(&s, TMP "/q", 0, NULL) == AWQ_E_ARG && strstr(s.ctx.err.text, "q.try1 is of an earlier run"), "%s", s.ctx.err.text);
    sh("mv " TMP "/q.try1 " TMP "/try1");
    CHECK_MSG(climb(&s, TMP "/q", 1, NULL) == AWQ_E_ARG && strstr(s.ctx.err.text, "q.try2.partial is of"), "%s", s.ctx.err.text);
    CHECK(exists(TMP "/q.try2.partial/progress.jsonl") && !exists(TMP "/q.tries"));
    sh("mv " TMP "/kept " TMP "/q.tries");
    CHECK_MSG(climb(&s, TMP "/q", 1, NULL) == AWQ_E_IO && strstr(s.ctx.err.text, "not there any more"), "%s", s.ctx.err.text);

    /* what is not ours is not touched: a folder of a try's name, a target */
    sh("rm -rf " TMP "/q.* " TMP "/try1 && mkdir " TMP "/q.try1 && echo mine > " TMP "/q.try1/config.json");
    CHECK_MSG(climb(&s, TMP "/q", 0, NULL) == AWQ_E_ARG && strstr(s.ctx.err.text, "q.try1") && exists(TMP "/q.try1/config.json"), "%s",
              s.ctx.err.text);
    sh("rm -rf " TMP "/q.* && mkdir " TMP "/q && echo mine > " TMP "/q/notes.txt");
    CHECK_MSG(climb(&s, TMP "/q", 0, NULL) == AWQ_E_ARG && strstr(s.ctx.err.text, "q exists already"), "%s", s.ctx.err.text);
    CHECK(exists(TMP "/q/notes.txt") && entries(TMP) == 3);
    end(&s);
}

#ifndef _WIN32
static void test_until_kill(void) /* at any time of the clock */
{
    const char *rounds = getenv("AWQ_KILL_ROUNDS");
    int i, n = rounds ? atoi(rounds) : 10, kills = 0, going_on = 0;
    uint64_t seed = (uint64_t)(awq__now() * 1e6);
    awq_until_result whole, r;
    double t0, takes;
    setup s;
    begin(&s);
    t0 = awq__now();
    CHECK_MSG(climb(&s, TMP "/whole", 0, &whole) == AWQ_OK, "%s", s.ctx.err.text);
    takes = awq__now() - t0;
    for (i = 0; i < n && T.bad < 5; i++) {
        int k, killed = 0;
        sh("rm -f " COUNT("tries") " " COUNT("layers"));
        for (k = 0; k < 2 && !exists(TMP "/q"); k++) { /* twice, so that what was resumed is killed too */
            struct timespec wait;
            double after = takes * awq__random_unit(&seed);
            pid_t child;
            fflush(stdout);
            child = fork();
            if (child == 0) _exit(climb(&s, TMP "/q", exists(TMP "/q.tries"), NULL) != AWQ_OK);
            wait.tv_sec = (time_t)after;
            wait.tv_nsec = (long)((after - (double)wait.tv_sec) * 1e9);
            nanosleep(&wait, NULL);
            CHECK(child > 0 && kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
            killed++;
        }
        kills += killed;
        if (!exists(TMP "/q")) {
            going_on += exists(TMP "/q.tries");
            CHECK_MSG(climb(&s, TMP "/q", exists(TMP "/q.tries"), &r) == AWQ_OK, "%s", s.ctx.err.text);
            check_same_tries(&r, &whole);
        }
        CHECK(same(TMP "/q", TMP "/whole"));
        /* a layer that was being made is made again, no try that was finished is */
        CHECK_MSG(counted(COUNT("tries")) <= whole.n_tries && counted(COUNT("layers")) <= 2 * whole.n_tries + killed,
                  "%d: %ld tries, %ld layers", i, counted(COUNT("tries")), counted(COUNT("layers")));
        sh("rm -rf " TMP "/q " TMP "/q.*");
    }
    printf("    killed %d times in %d runs of %.2f s, %d were resumed\n", kills, i, takes, going_on);
    CHECK(going_on || !n);
    end(&s);
}
#endif

static awq_status online(setup *s, const awq_online_desc *o, awq_model **m)
{
    awq_model_desc md;
    memset(&md, 0, sizeof md);
    md.quantize = o;
    *m = NULL;
    s->n_said = s->quantized = 0;
    return awq_model_load(&s->ctx, s->q.source, &md, m);
}

static void test_online(void)
{
    awq_online_desc o;
    awq_model *m;
    uint64_t hash;
    setup s;
    begin(&s);
    memset(&o, 0, sizeof o);
    o.quantize = &s.q;
    o.cache = TMP "/cache";
    CHECK_MSG(online(&s, &o, &m) == AWQ_OK, "%s", s.ctx.err.text);
    CHECK(s.quantized && entries(o.cache) == 1 && m && m->layers[0].linear[0].dtype == AWQ_DTYPE_NONE);
    hash = awq_model_hash(m);
    awq_model_free(&s.ctx, m);
    CHECK(online(&s, &o, &m) == AWQ_OK && !s.quantized && entries(o.cache) == 1 && awq_model_hash(m) == hash); /* the cache */
    awq_model_free(&s.ctx, m);
    CHECK(s.n_said == 0);

    s.q.bits = 2; /* another setting, another folder; and it fails */
    CHECK(online(&s, &o, &m) == AWQ_E_GUARD && !m && s.quantized && strstr(s.ctx.err.text, "not the same model: G"));
    CHECK(online(&s, &o, &m) == AWQ_E_GUARD && !s.quantized && entries(o.cache) == 2);
    o.accept_failed = 1;
    CHECK(online(&s, &o, &m) == AWQ_OK && m && s.n_said == 1 && strstr(s.said[0], "not the same model"));
    awq_model_free(&s.ctx, m);
    o.accept_failed = 0;
    o.source_instead = 1;
    CHECK(online(&s, &o, &m) == AWQ_OK && m && s.n_said == 1 && strstr(s.said[0], "is used as it is")
          && m->layers[0].linear[0].dtype != AWQ_DTYPE_NONE);
    awq_model_free(&s.ctx, m);
    end(&s);
}

/* a text, and no text at all: what the model says by itself */
static void test_online_text(void)
{
    awq_online_desc o;
    awq_model *m;
    setup s;
    begin(&s);
    s.q.calibration = NULL;
    memset(&o, 0, sizeof o);
    o.quantize = &s.q;
    o.cache = TMP "/cache";
    CHECK_MSG(online(&s, &o, &m) == AWQ_OK && s.quantized && entries(o.cache) == 1, "%s", s.ctx.err.text);
    awq_model_free(&s.ctx, m);
    CHECK(online(&s, &o, &m) == AWQ_OK && !s.quantized);
    awq_model_free(&s.ctx, m);
    o.text = TMP "/none.json";
    CHECK(online(&s, &o, &m) == AWQ_E_IO && strstr(s.ctx.err.text, "none.json") && entries(o.cache) == 1);
    sh("echo '{\"blocks\": [[1,2,3,4,5,6,7,8],[9,10,11,12,13,14,15,16]]}' > " TMP "/text.json");
    o.text = TMP "/text.json";
    CHECK_MSG(online(&s, &o, &m) == AWQ_OK && s.quantized && entries(o.cache) == 2, "%s", s.ctx.err.text);
    awq_model_free(&s.ctx, m);
    sh("echo '{\"blocks\": [[1,2,3,4,5,6,7,8],[9,10,11,12,13,14,15,17]]}' > " TMP "/text.json"); /* another text */
    CHECK_MSG(online(&s, &o, &m) == AWQ_OK && s.quantized && entries(o.cache) == 3, "%s", s.ctx.err.text);
    awq_model_free(&s.ctx, m);
    end(&s);
}

static void other_process(setup *s, const awq_online_desc *o)
{
    setup *in = (setup *)malloc(sizeof *in);
    awq_model *m;
    if (!in) return;
    *in = *s;
    memset(&in->ctx, 0, sizeof in->ctx);
    in->q = s->q;
    in->ctx.log = on_log;
    in->ctx.user = in;
    CHECK(online(in, o, &m) == AWQ_OK);
    awq_model_free(&in->ctx, m);
    free(in);
}

static const awq_online_desc *both;

static int on_second(void *user, const awq_progress *p)
{
    setup *s = (setup *)user;
    if (!strcmp(p->stage, "quantize") && !s->quantized++) other_process(s, both);
    return 0;
}

static void test_online_tiny(void)
{
    static const char *const damage[] = {"rm " TMP "/cache/*/awq_report.json", "for f in " TMP "/cache/*/config.json; do echo x > $f; done",
                                         "for f in " TMP "/cache/*/model.safetensors; do head -c 900 $f > $f.x; mv $f.x $f; done",
                                         "rm " TMP "/cache/*/model.safetensors", "for f in " TMP "/cache/*; do echo x > $f/tokenizer.json; done"};
    awq_online_desc o;
    awq_model *m;
    setup s;
    size_t i;
    begin(&s);
    memset(&o, 0, sizeof o);
    o.quantize = &s.q;
    CHECK(online(&s, &o, &m) == AWQ_E_ARG && strstr(s.ctx.err.text, "no cache folder"));
    o.cache = TMP "/cache";
    s.q.method = AWQ_METHOD_RTN;
    CHECK(online(&s, &o, &m) == AWQ_E_ARG && strstr(s.ctx.err.text, "rtn_bits"));
    s.q.method = AWQ_METHOD_AWQ;
    o.cache = TMP "/none/cache";
    CHECK(online(&s, &o, &m) == AWQ_E_IO && strstr(s.ctx.err.text, "none/cache"));
    o.cache = TMP "/m/config.json"; /* no folder */
    CHECK(online(&s, &o, &m) == AWQ_E_IO);
    o.source_instead = 1;
    CHECK(online(&s, &o, &m) == AWQ_OK && s.n_said == 1);
    awq_model_free(&s.ctx, m);
    o.source_instead = 0;
    o.cache = TMP "/cache";
    for (i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        CHECK_MSG(online(&s, &o, &m) == AWQ_OK, "%s", s.ctx.err.text);
        awq_model_free(&s.ctx, m);
        sh(damage[i]);
        CHECK_MSG(online(&s, &o, &m) != AWQ_OK && strstr(s.ctx.err.text, TMP "/cache/m-") && !m, "%d: %s", (int)i, s.ctx.err.text);
        o.source_instead = 1;
        CHECK(online(&s, &o, &m) == AWQ_OK && s.n_said == 1 && strstr(s.said[0], TMP "/cache/m-"));
        awq_model_free(&s.ctx, m);
        o.source_instead = 0;
        sh("rm -rf " TMP "/cache");
    }
    CHECK(online(&s, &o, &m) == AWQ_OK); /* the source changes: what is there is not taken */
    awq_model_free(&s.ctx, m);
    flip(s.q.source);
    CHECK(online(&s, &o, &m) == AWQ_OK && s.quantized && entries(o.cache) == 2);
    awq_model_free(&s.ctx, m);
    CHECK(online(&s, &o, &m) == AWQ_OK && !s.quantized);
    awq_model_free(&s.ctx, m);
    sh("rm -rf " TMP "/cache");
    both = &o; /* another process begins and ends within this one's work */
    s.ctx.progress = on_second;
    CHECK_MSG(online(&s, &o, &m) == AWQ_OK && entries(o.cache) == 1, "%s, %d", s.ctx.err.text, entries(o.cache));
    awq_model_free(&s.ctx, m);
    s.ctx.progress = on_progress;
    end(&s);
}

/* what was stopped goes on, and gives the same */
static void test_online_resumed(void)
{
    awq_online_desc o;
    awq_model *m;
    int64_t steps, k;
    int resumed = 0;
    setup s;
    begin(&s);
    memset(&o, 0, sizeof o);
    s.q.on_layer = count_layer;
    o.quantize = &s.q;
    o.cache = TMP "/whole";
    CHECK_MSG(online(&s, &o, &m) == AWQ_OK && counted(COUNT("layers")) == 2, "%s", s.ctx.err.text);
    awq_model_free(&s.ctx, m);
    o.cache = TMP "/cache";
    for (steps = s.steps, k = 1; k < steps; k += 1 + steps / 5) {
        sh("rm -rf " TMP "/cache " COUNT("layers"));
        s.steps = 0;
        s.stop_at = k;
        CHECK(online(&s, &o, &m) == AWQ_E_CANCELLED && entries(o.cache) <= 1);
        resumed += entries(o.cache) == 1;
        s.stop_at = 0;
        CHECK_MSG(online(&s, &o, &m) == AWQ_OK && entries(o.cache) == 1 && same(o.cache, TMP "/whole"), "%d: %s", (int)k,
                  s.ctx.err.text);
        if (resumed) CHECK_MSG(counted(COUNT("layers")) == 2, "%d: %ld", (int)k, counted(COUNT("layers")));
        awq_model_free(&s.ctx, m);
    }
    CHECK_MSG(resumed > 1, "%d of %d", resumed, (int)steps);
    sh("rm -rf " TMP "/cache " COUNT("layers")); /* what was left is damaged: anew */
    s.steps = 0;
    s.stop_at = steps * 3 / 5;
    CHECK(online(&s, &o, &m) == AWQ_E_CANCELLED && entries(o.cache) == 1);
    s.stop_at = 0;
    sh("cd " TMP "/cache && sed -i '2s/^./x/' *.unfinished/progress.jsonl");
    CHECK_MSG(online(&s, &o, &m) == AWQ_OK && entries(o.cache) == 1 && same(o.cache, TMP "/whole"), "%s", s.ctx.err.text);
    awq_model_free(&s.ctx, m);
    end(&s);
}

static void fail_online(setup *s, fault *f)
{
    awq_online_desc o;
    awq_model *m;
    awq_status st;
    memset(&o, 0, sizeof o);
    s->q.method = AWQ_METHOD_BEST;
    o.quantize = &s->q;
    o.cache = TMP "/cache";
    st = online(s, &o, &m);
    if (!reached(s, f)) CHECK_MSG(st == AWQ_OK, "%s", s->ctx.err.text);
    if (f->what == 2 && f->reached) CHECK(st == AWQ_E_CANCELLED);
    CHECK(!st == (m != NULL) && (!st || s->ctx.err.text[0]));
    awq_model_free(&s->ctx, m);
    if (f->what) CHECK_MSG(entries(o.cache) <= 1, "%d %ld: %d entries", f->what, f->k, entries(o.cache));
    s->stop_at = 0; /* what is left is no harm */
    CHECK_MSG(online(s, &o, &m) == AWQ_OK, "%d %ld: %s", f->what, f->k, s->ctx.err.text);
    awq_model_free(&s->ctx, m);
    if (f->what) CHECK_MSG(entries(o.cache) == 1, "%d %ld: %d entries", f->what, f->k, entries(o.cache));
}

static void test_online_failures(void) { each_fault(fail_online); }

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_verdict);
    RUN(test_until);
    RUN(test_until_failures);
    RUN(test_until_resumed);
#ifndef _WIN32
    RUN(test_until_kill);
#endif
    RUN(test_online);
    RUN(test_online_text);
    RUN(test_online_tiny);
    RUN(test_online_resumed);
    RUN(test_online_failures);
    return TEST_END();
}
