/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_written.c -o fuzz_written -lm -lpthread
   ./fuzz_written -max_total_time=60
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_written.c -o fuzz_written -lm -lpthread && ./fuzz_written FILE ...
   What the library writes beside a model and reads again. The first byte says what the rest is: R awq_report.json, read,
   judged before loading and given another verdict; C config.json of a packed checkpoint that is converted; J the lines
   of progress.jsonl behind the first; T those of target.tries, which must come back as they were written; G tokenizer.json
   of a model that is looked at before it is loaded; P changes (where: three bytes, what, how often) to the unfinished tensors of a
   quantization that is resumed. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "tiny.h"
#include <errno.h>

/* --- files in memory, and names that begin alike are a folder */
typedef struct wr_file {
    char path[64];
    unsigned char *data; /* NULL: none */
    size_t n;
} wr_file;
typedef struct wr_disk {
    wr_file f[16];
} wr_disk;

static wr_file *wr_find(wr_disk *d, const char *path)
{
    int i;
    for (i = 0; i < 16 && (!d->f[i].data || strcmp(d->f[i].path, path)); i++) {}
    return i < 16 ? &d->f[i] : NULL;
}

static wr_file *wr_put(wr_disk *d, const char *path, const void *data, size_t n)
{
    wr_file *f = wr_find(d, path);
    int i;
    for (i = 0; !f; i++)
        if (!d->f[i].data) f = &d->f[i];
    free(f->data);
    snprintf(f->path, sizeof f->path, "%s", path);
    f->data = (unsigned char *)malloc(n + 1);
    f->n = n;
    if (n) memcpy(f->data, data, n);
    return f;
}

static int wr_open(void *u, const char *path, int for_write, void **file)
{
    wr_disk *d = (wr_disk *)u;
    size_t n = strlen(path);
    int i;
    if ((*file = wr_find(d, path)) != NULL) return 0;
    for (i = 0; i < 16; i++)
        if (d->f[i].data && !strncmp(d->f[i].path, path, n) && d->f[i].path[n] == '/') return EISDIR;
    if (!for_write) return ENOENT;
    *file = wr_put(d, path, "", 0);
    return 0;
}

static int wr_size(void *u, void *file, uint64_t *n) { return (void)u, *n = ((wr_file *)file)->n, 0; }

static int wr_read(void *u, void *file, uint64_t at, void *data, size_t n)
{
    wr_file *f = (wr_file *)file;
    (void)u;
    if (at > f->n || n > f->n - at) return EIO;
    memcpy(data, f->data + at, n);
    return 0;
}

static int wr_truncate(void *u, void *file, uint64_t n)
{
    wr_file *f = (wr_file *)file;
    (void)u;
    f->data = (unsigned char *)realloc(f->data, (size_t)n + 1);
    if (n > f->n) memset(f->data + f->n, 0, (size_t)n - f->n);
    f->n = (size_t)n;
    return 0;
}

static int wr_write(void *u, void *file, uint64_t at, const void *data, size_t n)
{
    if (at + n > ((wr_file *)file)->n) wr_truncate(u, file, at + n);
    memcpy(((wr_file *)file)->data + at, data, n);
    return 0;
}

static int wr_nothing(void *u, void *file) { return (void)u, (void)file, 0; }
static int wr_folder(void *u, const char *path) { return (void)u, (void)path, 0; }

static int wr_remove(void *u, const char *path)
{
    wr_file *f = wr_find((wr_disk *)u, path);
    if (!f) return ENOENT;
    free(f->data);
    f->data = NULL;
    return 0;
}

static int wr_rename(void *u, const char *from, const char *to)
{
    wr_disk *d = (wr_disk *)u;
    size_t n = strlen(from);
    int i, moved = 0;
    for (i = 0; i < 16; i++) {
        char path[64];
        if (!d->f[i].data || strncmp(d->f[i].path, from, n) || (d->f[i].path[n] && d->f[i].path[n] != '/')) continue;
        snprintf(path, sizeof path, "%s%.40s", to, d->f[i].path + n);
        wr_remove(u, path);
        memcpy(d->f[i].path, path, sizeof path);
        moved = 1;
    }
    return moved ? 0 : ENOENT;
}

static awq_ctx wr_ctx(wr_disk *d)
{
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    ctx.files.open = wr_open, ctx.files.size = wr_size, ctx.files.read = wr_read, ctx.files.write = wr_write;
    ctx.files.truncate = wr_truncate, ctx.files.sync = wr_nothing, ctx.files.close = wr_nothing;
    ctx.files.rename = wr_rename, ctx.files.remove = wr_remove, ctx.files.make_folder = wr_folder;
    ctx.files.user = d;
    ctx.memory_limit = (size_t)256 << 20;
    return ctx;
}

static void wr_free(wr_disk *d)
{
    int i;
    for (i = 0; i < 16; i++) free(d->f[i].data);
}

static void wr_copy(wr_disk *to, const wr_disk *from)
{
    int i;
    memset(to, 0, sizeof *to);
    for (i = 0; i < 16; i++)
        if (from->f[i].data) wr_put(to, from->f[i].path, from->f[i].data, from->f[i].n);
}

/* --- what is begun once */
static wr_disk wr_packed, wr_begun; /* a packed checkpoint; a quantization that stopped behind the last layer */

static void wr_model(wr_disk *d, tiny *t)
{
    tiny_ctx(t);
    wr_put(d, "m/config.json", t->files[0].data, t->files[0].bytes);
    wr_put(d, "m/model.safetensors", t->files[1].data, t->files[1].bytes);
}

static awq_status wr_quantize(awq_ctx *ctx, int resume)
{
    static int64_t start[5] = {0, 12, 24, 36, 48};
    static int32_t ids[48];
    awq_calibration c = {4, start, ids, NULL};
    awq_quantize_desc d;
    int i;
    for (i = 0; i < 48; i++) ids[i] = i * 7 % 96;
    memset(&d, 0, sizeof d);
    d.source = "m";
    d.target = "q";
    d.calibration = &c;
    d.group_size = 32;
    d.no_clip = 1;
    d.resume = resume;
    return awq_quantize_model(ctx, &d, NULL);
}

static int wr_stop(void *user, const awq_progress *p) { return (void)user, !strcmp(p->stage, "quantize") && p->done == 2; }

static void wr_begin(void)
{
    static tiny t;
    awq_ctx ctx;
    int i, n;
    memset(&ctx, 0, sizeof ctx);
    tiny_llama(&t);
    if (tiny_quantize(&t, &ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL)) abort();
    tiny_set(&t, "quantization_config",
             "{\"quant_method\":\"awq\",\"version\":\"gemm\",\"bits\":4,\"group_size\":32,\"zero_point\":true}");
    wr_model(&wr_packed, &t);
    tiny_free(&t);
    tiny_llama(&t);
    tiny_set(&t, "num_hidden_layers", "2");
    for (i = 0, n = t.n; i < n; i++) {
        char name[128];
        tiny_tensor *x;
        if (strncmp(t.t[i].name, "model.layers.0", 14)) continue;
        snprintf(name, sizeof name, "model.layers.1%.100s", t.t[i].name + 14);
        x = tiny_add(&t, name, t.t[i].dtype, t.t[i].ndim, t.t[i].shape[0], t.t[i].shape[1]);
        memcpy(x->data, t.t[i].data, x->bytes);
    }
    wr_model(&wr_begun, &t);
    ctx = wr_ctx(&wr_begun);
    ctx.progress = wr_stop;
    if (wr_quantize(&ctx, 0) != AWQ_E_CANCELLED) abort();
    tiny_free(&t);
}

/* --- what is tried */
static void wr_report(wr_disk *d, awq_ctx *ctx)
{
    awq_guard_report *r = NULL;
    awq_preflight_desc pd;
    awq_verdict v;
    awq_severity verdict;
    memset(&pd, 0, sizeof pd);
    pd.folder = "m";
    if (awq_verdict_read(ctx, "m", &v) && !ctx->err.text[0]) abort();
    if (awq_preflight(ctx, &pd, &r)) {
        if (!ctx->err.text[0]) abort();
        wr_remove(d, "m/awq_report.json");
        if (awq_preflight(ctx, &pd, &r)) abort();
        return awq_guard_free(ctx, r);
    }
    verdict = r->verdict;
    if (awq_verdict_write(ctx, "m", r, 3)) {
        if (!ctx->err.text[0]) abort();
    } else {
        if (awq_verdict_read(ctx, "m", &v) || v.severity != verdict || v.devices != 3) abort();
    }
    awq_guard_free(ctx, r);
}

static void wr_convert(awq_ctx *ctx)
{
    awq_convert_desc cv;
    awq_checkpoint *ck = NULL;
    memset(&cv, 0, sizeof cv);
    cv.source = "m";
    cv.target = "q";
    cv.layout = AWQ_LAYOUT_COMPRESSED_TENSORS;
    if (awq_convert(ctx, &cv)) {
        if (!ctx->err.text[0]) abort();
    } else {
        if (awq_checkpoint_open(ctx, "q", &ck)) abort();
        awq_checkpoint_close(ctx, ck);
    }
}

static void wr_tries(awq_ctx *ctx, const char *text)
{
    awq_quantize_desc q;
    awq_until_desc d;
    awq_model m;
    awq__until u, v;
    double error[2][2] = {{0, 0}, {0, 0}};
    memset(&q, 0, sizeof q);
    memset(&d, 0, sizeof d);
    memset(&m, 0, sizeof m);
    memset(&u, 0, sizeof u);
    memset(&v, 0, sizeof v);
    q.target = "q";
    d.quantize = &q;
    m.config.num_hidden_layers = 2;
    u.d = v.d = &d;
    u.source = v.source = &m;
    u.now.layer_error = error[0];
    v.now.layer_error = error[1];
    u.next = text;
    while (u.next) {
        if (awq__until_recorded(ctx, &u)) {
            if (!ctx->err.text[0]) abort();
            break;
        }
        if (!u.next) break;
        v.journal.len = v.line = 0;
        v.now = u.now;
        v.now.layer_error = error[1];
        memcpy(error[1], error[0], sizeof error[0]);
        if (awq__until_record(ctx, &v)) abort();
        v.next = v.before = (char *)malloc(v.journal.len + 1);
        memcpy(v.before, v.journal.data, v.journal.len + 1);
        memset(error[1], 1, sizeof error[1]);
        v.now.t.failed = v.now.stage = -7;
        if (awq__until_recorded(ctx, &v)) puts(ctx->err.text), abort();
        if (v.now.stage != u.now.stage || v.now.t.failed != u.now.t.failed || v.now.n_layers != u.now.n_layers
            || v.now.t.verdict != u.now.t.verdict || strcmp(v.now.t.text, u.now.t.text)
            || memcmp(error[0], error[1], (size_t)u.now.n_layers * sizeof(double)))
            abort();
        free(v.before);
    }
    awq__text_free(ctx, &u.journal);
    awq__text_free(ctx, &v.journal);
}

static void wr_tokenizer(awq_ctx *ctx)
{
    awq_guard_report *r = NULL;
    awq_preflight_desc pd;
    memset(&pd, 0, sizeof pd);
    pd.folder = pd.baseline = "m";
    if (awq_preflight(ctx, &pd, &r)) {
        if (!ctx->err.text[0]) abort();
    } else awq_guard_free(ctx, r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wr_disk d;
    awq_ctx ctx;
    size_t at;
    if (!size || !strchr("RCJPTG", data[0]) || !data[0]) return 0;
    if (!wr_begun.f[0].data) wr_begin();
    wr_copy(&d, strchr("RCTG", data[0]) ? &wr_packed : &wr_begun);
    ctx = wr_ctx(&d);
    if (data[0] == 'R') {
        wr_put(&d, "m/awq_report.json", data + 1, size - 1);
        wr_report(&d, &ctx);
    } else if (data[0] == 'T') {
        char *text = (char *)malloc(size);
        memcpy(text, data + 1, size - 1);
        text[size - 1] = 0;
        wr_tries(&ctx, text);
        free(text);
    } else if (data[0] == 'G') {
        wr_put(&d, "m/tokenizer.json", data + 1, size - 1);
        wr_tokenizer(&ctx);
    } else if (data[0] == 'C') {
        wr_put(&d, "m/config.json", data + 1, size - 1);
        wr_convert(&ctx);
    } else {
        wr_file *journal = wr_find(&d, "q.partial/progress.jsonl"), *part = wr_find(&d, "q.partial/model.safetensors.part");
        if (!journal || !part) abort();
        if (data[0] == 'J') {
            size_t head = (size_t)((unsigned char *)memchr(journal->data, '\n', journal->n) - journal->data) + 1;
            wr_truncate(&d, journal, head);
            wr_write(&d, journal, head, data + 1, size - 1);
        } else {
            for (at = 1; at + 5 <= size; at += 5) {
                size_t first = (size_t)(data[at] | data[at + 1] << 8 | data[at + 2] << 16) % part->n;
                memset(part->data + first, data[at + 3], AWQ__MIN((size_t)data[at + 4], part->n - first));
            }
        }
        if (wr_quantize(&ctx, 1) && !ctx.err.text[0]) abort();
    }
    if (ctx.memory_used) abort();
    wr_free(&d);
    return 0;
}

#include "fuzz.h"
