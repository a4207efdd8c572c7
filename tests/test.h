/* A small test runner. A test file includes awq.h with its implementation, then this, and ends with
       int main(int argc, char **argv) { TEST_BEGIN(argc, argv); RUN(test_a); RUN(test_b); return TEST_END(); }
   An argument runs only the tests whose name contains it. CHECK reports and goes on; a test with a failed CHECK fails. */
#ifndef TEST_H
#define TEST_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* what the tests compute and what they inline of awq.h rounds as in awq.h */
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC optimize("fp-contract=off")
#endif

static struct {
    int passed, failed, skipped, bad, skip;
    const char *only;
} T;

#define CHECK(cond)                                                                     \
    do {                                                                                \
        if (!(cond)) printf("    %s:%d: %s\n", __FILE__, __LINE__, #cond), T.bad++;     \
    } while (0)
#define CHECK_MSG(cond, ...)                                                                                 \
    do {                                                                                                     \
        if (!(cond)) printf("    %s:%d: %s: ", __FILE__, __LINE__, #cond), printf(__VA_ARGS__), puts(""), T.bad++; \
    } while (0)
/* Tests that fail call after call, or say the same of many models, take each of them in a plain build and every third in
   a sanitized one, which takes three to six times as long. */
#ifndef TEST_STRIDE
#  if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define TEST_STRIDE 3
#  else
#    define TEST_STRIDE 1
#  endif
#endif
/* leave the test as skipped; with AWQ_TEST_DATA set a skip is a failure */
#define TEST_SKIP(why)                        \
    do {                                      \
        printf("    skipped: %s\n", why);     \
        T.skip = 1;                           \
        return;                               \
    } while (0)
#define TEST_BEGIN(argc, argv) (setvbuf(stdout, NULL, _IOLBF, 0), T.only = (argc) > 1 ? (argv)[1] : NULL)
#define RUN(test) test_run(#test, test)
#define RUN_PLAIN(test) (void)(TEST_STRIDE == 1 && (RUN(test), 1)) /* of numbers alone, or of code that others run */
#define TEST_END() (printf("%d passed, %d failed, %d skipped\n", T.passed, T.failed, T.skipped), T.failed != 0)

static const char *TEST_DATA(void) /* folder of the large test data, NULL: not here */
{
    const char *d = getenv("AWQ_TEST_DATA");
    return d && *d ? d : NULL;
}

/* seconds of the processor, of all threads: what takes too long is judged by these, whatever else the machine does */
AWQ__UNUSED static double test_cpu(void) { return (double)clock() / CLOCKS_PER_SEC; }

static void test_run(const char *name, void (*test)(void))
{
    double t0 = awq__now(), cpu0 = test_cpu();
    if (T.only && !strstr(name, T.only)) return;
    T.bad = T.skip = 0;
    test();
    if (T.skip && TEST_DATA()) T.bad++;
    printf("%-8s %6.2f s, CPU %6.2f s  %s\n", T.bad ? "FAILED" : T.skip ? "skipped" : "ok", awq__now() - t0,
           test_cpu() - cpu0, name);
    if (T.bad) T.failed++;
    else if (T.skip) T.skipped++;
    else T.passed++;
}

/* An allocator that fails the k-th call (k from 0; negative: never) and counts live bytes:
       fail_alloc f = {k}; ctx.allocator = fail_allocator(&f); ... CHECK(f.live == 0); */
typedef struct fail_alloc {
    long fail_at, calls;
    size_t live;
} fail_alloc;

static void *fail_alloc_alloc(void *user, size_t bytes, size_t align)
{
    fail_alloc *f = (fail_alloc *)user;
    void *p;
    if (f->calls++ == f->fail_at) return NULL;
    p = awq__std_alloc(NULL, bytes, align);
    if (p) f->live += bytes, memset(p, 0xa5, bytes);
    return p;
}

static void fail_alloc_free(void *user, void *ptr, size_t bytes)
{
    ((fail_alloc *)user)->live -= bytes;
    awq__std_free(NULL, ptr, bytes);
}

AWQ__UNUSED static awq_allocator fail_allocator(fail_alloc *f)
{
    awq_allocator a;
    a.alloc = fail_alloc_alloc;
    a.free = fail_alloc_free;
    a.user = f;
    return a;
}

/* A file system over the system's that fails the k-th read, write, sync, close or rename with EIO. */
typedef struct fail_files {
    long fail_at, calls;
} fail_files;

#define FAIL_FILES_STEP(user) \
    if (((fail_files *)(user))->calls++ == ((fail_files *)(user))->fail_at) return EIO
static int ff_open(void *u, const char *p, int w, void **f) { FAIL_FILES_STEP(u); return awq__os_open(NULL, p, w, f); }
static int ff_size(void *u, void *f, uint64_t *n) { FAIL_FILES_STEP(u); return awq__os_size(NULL, f, n); }
static int ff_read(void *u, void *f, uint64_t o, void *d, size_t n)
{
    FAIL_FILES_STEP(u);
    return awq__os_read(NULL, f, o, d, n);
}
static int ff_write(void *u, void *f, uint64_t o, const void *d, size_t n)
{
    FAIL_FILES_STEP(u);
    return awq__os_write(NULL, f, o, d, n);
}
static int ff_truncate(void *u, void *f, uint64_t n) { FAIL_FILES_STEP(u); return awq__os_truncate(NULL, f, n); }
static int ff_sync(void *u, void *f) { FAIL_FILES_STEP(u); return awq__os_sync(NULL, f); }
static int ff_close(void *u, void *f)
{
    int e = awq__os_close(NULL, f);
    FAIL_FILES_STEP(u);
    return e;
}
static int ff_rename(void *u, const char *a, const char *b) { FAIL_FILES_STEP(u); return awq__os_rename(NULL, a, b); }
static int ff_remove(void *u, const char *p) { (void)u; return awq__os_remove(NULL, p); }
static int ff_make_folder(void *u, const char *p) { FAIL_FILES_STEP(u); return awq__os_make_folder(NULL, p); }

AWQ__UNUSED static awq_file_system fail_file_system(fail_files *f)
{
    awq_file_system fs;
    fs.open = ff_open, fs.size = ff_size, fs.read = ff_read, fs.write = ff_write, fs.truncate = ff_truncate;
    fs.sync = ff_sync, fs.close = ff_close, fs.rename = ff_rename, fs.remove = ff_remove;
    fs.make_folder = ff_make_folder, fs.map = NULL, fs.user = f;
    return fs;
}

/* what models are loaded for, in modes that devices have; n 0: the CPU alone */
static struct {
    awq_device *device[8];
    int n, layers[8], rest_on_cpu;
} TEST_DEVICES;

AWQ__UNUSED static awq_status load_mode(awq_ctx *ctx, const char *folder, awq_mode mode, awq_model **m)
{
    awq_model_desc d;
    memset(&d, 0, sizeof d);
    d.mode = mode;
    if (mode != AWQ_MODE_EXACT) {
        d.devices = TEST_DEVICES.device;
        d.n_devices = TEST_DEVICES.n;
        d.device_layers = TEST_DEVICES.n ? TEST_DEVICES.layers : NULL;
        d.rest_on_cpu = TEST_DEVICES.rest_on_cpu;
    }
    return awq_model_load(ctx, folder, &d, m);
}

AWQ__UNUSED static awq_status load_exact(awq_ctx *ctx, const char *folder, awq_model **m)
{
    return load_mode(ctx, folder, AWQ_MODE_EXACT, m);
}

/* a model that says the same alone and among others */
AWQ__UNUSED static awq_status load_deterministic(awq_ctx *ctx, const char *folder, awq_model **m)
{
    return load_mode(ctx, folder, AWQ_MODE_DETERMINISTIC, m);
}

/* a session with a runner of its own */
AWQ__UNUSED static awq_status open_session(awq_ctx *ctx, const awq_model *m, int64_t max_tokens, awq_session **s)
{
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_runner *r = NULL;
    awq_status st;
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    rd.max_rows = 256;
    sd.max_tokens = max_tokens;
    st = awq_runner_create(ctx, m, &rd, &r);
    if (!st) st = awq_session_create(ctx, r, &sd, s);
    if (st) awq_runner_free(ctx, r);
    return st;
}

AWQ__UNUSED static void close_session(awq_ctx *ctx, awq_session *s)
{
    awq_runner *r = s ? s->runner : NULL;
    if (awq_session_free(ctx, s) || awq_runner_free(ctx, r)) printf("    %s\n", ctx->err.text), T.bad++;
}
#endif
