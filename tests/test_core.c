/* context, numbers, ops: allocation and its accounting, threads, files; conversions and elementary functions
   against double precision; each instruction set against the scalar code, bit for bit. Needs no data. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

#define FOLDER "test_core.tmp"
static const awq_isa isas[] = {AWQ_ISA_SCALAR, AWQ_ISA_AVX2, AWQ_ISA_AVX512};

/* --- context */
static void test_names(void)
{
    static const char *const names[] = {"AWQ_OK", "AWQ_E_ARG", "AWQ_E_MEMORY", "AWQ_E_IO", "AWQ_E_FORMAT",
                                        "AWQ_E_UNSUPPORTED", "AWQ_E_NUMERIC", "AWQ_E_LIMIT", "AWQ_E_CANCELLED",
                                        "AWQ_E_DEVICE", "AWQ_E_GUARD"};
    char version[32];
    int i;
    for (i = 0; i < 11; i++) CHECK(!strcmp(awq_status_name((awq_status)i), names[i]));
    CHECK(!strcmp(awq_status_name((awq_status)99), "AWQ_E_?"));
    snprintf(version, sizeof version, "%d.%d.%d", AWQ_VERSION_MAJOR, AWQ_VERSION_MINOR, AWQ_VERSION_PATCH);
    CHECK(!strcmp(awq_version(), version) && !strcmp(AWQ_VERSION, version));
    CHECK(!strcmp(awq_isa_name(AWQ_ISA_AVX512), "avx512") && !strcmp(awq_isa_name((awq_isa)10), "?"));
    CHECK(!strcmp(awq_isa_name(AWQ_ISA_AUTO), "auto") && !strcmp(awq_isa_name(AWQ_ISA_NEON_I8MM), "neon_i8mm"));
    CHECK(awq_dtype_size(AWQ_BF16) == 2 && awq_dtype_size(AWQ_I64) == 8 && awq_dtype_size((awq_dtype)99) == 0);
    CHECK(!strcmp(awq_dtype_name(AWQ_F8_E5M2), "F8_E5M2") && !strcmp(awq_dtype_name((awq_dtype)99), "?"));
}

/* what is asked for is used if it is here, what is next below if not, and the best one of another kind of processor */
static void test_isa(void)
{
    enum { /* SCALAR, AVX2, AVX2_VNNI, AVX512, AVX512_VNNI, AMX, NEON, DOT, I8MM: bits 1 to 9 */
        PLAIN = 0x002, HASWELL = 0x006, SKYLAKE_X = 0x016, ZEN4 = 0x036, ALDER_LAKE = 0x00e, ZEN5 = 0x03e,
        SAPPHIRE_RAPIDS = 0x07e, ARM8 = 0x082, ARM82 = 0x182, ARM86 = 0x382
    };
    static const struct { uint32_t isas; const char *taken; } machine[] = { /* for AUTO, SCALAR, ... I8MM */
        {PLAIN, "1111111111"}, {HASWELL, "2122222222"}, {SKYLAKE_X, "4122444444"}, {ZEN4, "5122455555"},
        {ALDER_LAKE, "3123333333"}, {ZEN5, "5123455555"}, {SAPPHIRE_RAPIDS, "6123456666"}, {ARM8, "7177777777"},
        {ARM82, "8188888788"}, {ARM86, "9199999789"},
    };
    awq_isa best = awq_best_isa();
    uint32_t isas = awq__isas();
    size_t k;
    int i;
    for (k = 0; k < sizeof machine / sizeof machine[0]; k++)
        for (i = AWQ_ISA_AUTO; i <= AWQ_ISA_NEON_I8MM; i++)
            CHECK_MSG((int)awq__isa_of(machine[k].isas, (awq_isa)i) == machine[k].taken[i] - '0', "%03x %s",
                      machine[k].isas, awq_isa_name((awq_isa)i));
    CHECK(awq__isa_of(ZEN4, (awq_isa)-1) == AWQ_ISA_AVX512_VNNI && awq__isa_of(ZEN4, (awq_isa)99) == AWQ_ISA_AVX512_VNNI);
    printf("    this machine has %s\n", awq_isa_name(best));
    CHECK(best != AWQ_ISA_AUTO && (isas & 3) == 2 && isas >> best == 1);
    for (i = AWQ_ISA_AUTO; i <= AWQ_ISA_NEON_I8MM; i++) {
        awq_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        ctx.isa = (awq_isa)i;
        CHECK(awq__isa(&ctx) == awq__isa_of(isas, (awq_isa)i));
        CHECK(ctx.isas == isas && ctx.isa == (awq_isa)i);
    }
}

static void test_errors(void)
{
    awq_ctx ctx;
    char longer[3000];
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq__fail(&ctx, AWQ_E_FORMAT, "%s: %d", "file", 7) == AWQ_E_FORMAT);
    CHECK(ctx.err.status == AWQ_E_FORMAT && !strcmp(ctx.err.text, "file: 7"));
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    awq__fail(&ctx, AWQ_E_IO, "%s", longer); /* cut, terminated */
    CHECK(strlen(ctx.err.text) == sizeof ctx.err.text - 1);
}

static void test_memory(void)
{
    fail_alloc f = {2, 0, 0};
    awq_ctx ctx;
    char *a, *b;
    void *array = NULL;
    size_t cap = 0, i;
    memset(&ctx, 0, sizeof ctx);
    ctx.allocator = fail_allocator(&f);
    a = (char *)awq__alloc(&ctx, 100, 10);
    b = (char *)awq__alloc_raw(&ctx, 0, 8);
    CHECK(a && b && (uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0);
    for (i = 0; i < 1000 && !a[i]; i++) {}
    CHECK(i == 1000 && f.live == ctx.memory_used && ctx.memory_used == 1000 + 2 * AWQ__ALIGN);
    CHECK(!awq__alloc(&ctx, 1, 1) && ctx.err.status == AWQ_E_MEMORY
          && strstr(ctx.err.text, "block of 65 bytes"));
    CHECK(!awq__alloc(&ctx, SIZE_MAX / 2, 3) && strstr(ctx.err.text, "x 3 bytes asked for"));
    CHECK(f.calls == 3); /* the impossible size was not even asked for */
    ctx.memory_limit = ctx.memory_used + 100 + AWQ__ALIGN;
    CHECK(!awq__alloc(&ctx, 101, 1) && ctx.err.status == AWQ_E_MEMORY);
    CHECK_MSG(
        !strcmp(ctx.err.text, "memory limit: 1128 bytes in use, 165 more asked for, memory_limit is 1292"),
        "%s", ctx.err.text);
    CHECK((array = awq__alloc(&ctx, 100, 1)) != NULL && ctx.memory_peak == ctx.memory_limit);
    awq__free(&ctx, array);
    awq__free(&ctx, a);
    awq__free(&ctx, b);
    awq__free(&ctx, NULL);
    CHECK(f.live == 0 && ctx.memory_used == 0 && ctx.memory_peak == 1292);
    ctx.memory_limit = 0;
    array = NULL;
    for (i = 0; i < 1000; i++) { /* growing keeps what is there */
        CHECK(awq__grow(&ctx, &array, &cap, i + 1, sizeof(size_t)));
        ((size_t *)array)[i] = i;
    }
    for (i = 0; i < 1000 && ((size_t *)array)[i] == i; i++) {}
    f.fail_at = f.calls;
    CHECK(i == 1000 && !awq__grow(&ctx, &array, &cap, cap + 1, sizeof(size_t))
          && ((size_t *)array)[999] == 999);
    awq__free(&ctx, array);
    CHECK(f.live == 0);
}

static void test_arena_text(void)
{
    fail_alloc f = {-1, 0, 0};
    awq__arena a;
    awq__text t;
    awq_ctx ctx;
    char *p, *q;
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(&a, 0, sizeof a);
    memset(&t, 0, sizeof t);
    ctx.allocator = fail_allocator(&f);
    p = awq__arena_text(&ctx, &a, "kept", 4);
    for (i = 0; i < 200; i++) {
        q = (char *)awq__arena_alloc(&ctx, &a, (size_t)i, 97);
        CHECK(q && (uintptr_t)q % 16 == 0 && (!i || !q[97 * i - 1]));
        if (i) memset(q, 1, (size_t)i * 97);
    }
    CHECK(!strcmp(p, "kept") && !awq__arena_alloc(&ctx, &a, SIZE_MAX / 2, 4) && ctx.err.status == AWQ_E_MEMORY);
    awq__arena_free(&ctx, &a);
    for (i = 0; i < 500; i++) awq__textf(&ctx, &t, "%d,", i);
    CHECK(!t.failed && t.len == strlen(t.data) && !strncmp(t.data, "0,1,2,", 6));
    f.fail_at = f.calls;
    p = (char *)malloc(10000);
    memset(p, 'y', 10000);
    awq__text_add(&ctx, &t, p, 10000);
    awq__text_str(&ctx, &t, "after a failure nothing is added");
    CHECK(t.failed && !strstr(t.data, "after"));
    free(p);
    awq__text_free(&ctx, &t);
    CHECK(f.live == 0 && ctx.memory_used == 0);
}

typedef struct counted {
    int times[10000];
} counted;

static void count_job(void *arg, int64_t i) { ((counted *)arg)->times[i]++; }

typedef struct nested {
    awq_ctx *ctx;
    counted inner[8];
} nested;

static void nested_job(void *arg, int64_t i)
{
    nested *n = (nested *)arg;
    n->ctx->jobs.run(n->ctx->jobs.user, 100, count_job, &n->inner[i]);
}

static void *other_caller(void *arg)
{
    nested *n = (nested *)arg;
    int k;
    for (k = 0; k < 2000; k++) n->ctx->jobs.run(n->ctx->jobs.user, 16, count_job, &n->inner[0]);
    return NULL;
}

static void test_pool_shared(void) /* runs inside runs, and by two threads at once */
{
    nested *a = (nested *)calloc(1, sizeof *a), *b = (nested *)calloc(1, sizeof *b);
    awq_ctx ctx;
    awq_pool *pool = NULL;
    pthread_t thread;
    int i, k, wrong = 0;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq_pool_create(&ctx, 3, &pool) == AWQ_OK);
    ctx.jobs = awq_pool_jobs(pool);
    a->ctx = b->ctx = &ctx;
    awq__run(&ctx, 8, nested_job, a);
    for (i = 0; i < 8; i++)
        for (k = 0; k < 100; k++) wrong += a->inner[i].times[k] != 1;
    CHECK_MSG(!wrong, "%d inner jobs did not run once", wrong);
    memset(a->inner, 0, sizeof a->inner);
    CHECK(!pthread_create(&thread, NULL, other_caller, a));
    other_caller(b);
    pthread_join(thread, NULL);
    for (k = 0; k < 16; k++) wrong += a->inner[0].times[k] != 2000 || b->inner[0].times[k] != 2000;
    CHECK_MSG(!wrong, "%d jobs did not run 2000 times", wrong);
    awq_pool_free(&ctx, pool);
    free(a);
    free(b);
}

static void test_cores(void)
{
#ifdef __linux__
    CHECK(awq__count_cores("0") == 1 && awq__count_cores("") == 0 && awq__count_cores("x") == 0);
    CHECK(awq__count_cores("60000-60003,60008,60010-60011") == 7); /* no such processors: no topology */
#endif
    CHECK(awq_cpu_cores() >= 1);
}

static void test_pool(void)
{
    static const int64_t counts[] = {0, 1, 2, 7, 64, 10000};
    counted *c = (counted *)malloc(sizeof *c);
    awq_ctx ctx;
    awq_pool *pool = NULL;
    int threads, k, round;
    int64_t i;
    memset(&ctx, 0, sizeof ctx);
    for (threads = 1; threads <= 8; threads++) {
        CHECK(awq_pool_create(&ctx, threads, &pool) == AWQ_OK && awq_pool_threads(pool) == threads);
        ctx.jobs = awq_pool_jobs(pool);
        for (k = 0; k < 6; k++)
            for (round = 0; round < (k < 5 ? 50 : 3); round++) {
                memset(c, 0, sizeof *c);
                awq__run(&ctx, counts[k], count_job, c);
                for (i = 0; i < 10000 && c->times[i] == (i < counts[k]); i++) {}
                CHECK_MSG(i == 10000, "%d threads, %d jobs: job %d ran %d times", threads, (int)counts[k],
                          (int)i, c->times[i]);
            }
        awq_pool_free(&ctx, pool);
    }
    memset(&ctx.jobs, 0, sizeof ctx.jobs);
    memset(c, 0, sizeof *c);
    awq__run(&ctx, 100, count_job, c);
    for (i = 0; i < 10000 && c->times[i] == (i < 100); i++) {}
    CHECK(i == 10000);
    pool = NULL;
    CHECK(awq_pool_create(&ctx, -1, &pool) == AWQ_E_ARG && awq_pool_create(&ctx, 1025, &pool) == AWQ_E_ARG);
    CHECK(strstr(ctx.err.text, "n_threads is 1025") && !pool);
    ctx.memory_limit = 10;
    CHECK(awq_pool_create(&ctx, 2, &pool) == AWQ_E_MEMORY && !pool);
    ctx.memory_limit = 0;
    CHECK(awq_pool_create(&ctx, 0, &pool) == AWQ_OK && awq_pool_threads(pool) == awq_cpu_cores());
    awq_pool_free(&ctx, pool);
    awq_pool_free(&ctx, NULL);
    CHECK(awq_pool_threads(NULL) == 1 && awq_pool_jobs(NULL).run == NULL && ctx.memory_used == 0);
    free(c);
}

static void test_memory_files(void)
{
    awq_memory_file files[2] = {{"a/b.txt", "hello", 5}, {"empty", "", 0}};
    awq_memory_list list = {files, 2};
    awq_ctx ctx;
    awq__file f = {NULL, 0, 0};
    char *data = NULL, text[8];
    size_t n = 0;
    memset(&ctx, 0, sizeof ctx);
    ctx.files = awq_memory_files(&list);
    CHECK(awq__file_load(&ctx, "a/b.txt", 5, &data, &n) == AWQ_OK && n == 5 && !strcmp(data, "hello"));
    awq__free(&ctx, data);
    CHECK(awq__file_load(&ctx, "empty", 5, &data, &n) == AWQ_OK && n == 0 && !data[0]);
    awq__free(&ctx, data);
    CHECK(awq__file_load(&ctx, "a/b.txt", 4, &data, &n) == AWQ_E_LIMIT
          && strstr(ctx.err.text, "a/b.txt: 5 bytes"));
    CHECK(awq__file_load(&ctx, "b.txt", 4, &data, &n) == AWQ_E_IO
          && !strncmp(ctx.err.text, "b.txt: cannot open", 18));
    CHECK(awq__file_exists(&ctx, "empty") && !awq__file_exists(&ctx, "a"));
    CHECK(awq__file_save(&ctx, "a/b.txt", "x", 1) == AWQ_E_IO);
    CHECK(awq__file_open(&ctx, "a/b.txt", 0, &f) == AWQ_OK && f.bytes == 5);
    CHECK(awq__file_read(&ctx, &f, "a/b.txt", 1, text, 4) == AWQ_OK && !memcmp(text, "ello", 4));
    CHECK(awq__file_read(&ctx, &f, "a/b.txt", 2, text, 4) == AWQ_E_FORMAT
          && strstr(ctx.err.text, "ends at byte 5"));
    CHECK(awq__file_read(&ctx, &f, "a/b.txt", UINT64_MAX, text, 4) == AWQ_E_FORMAT);
    CHECK(ctx.files.read(&list, f.handle, 3, text, 4) == EIO
          && ctx.files.write(&list, f.handle, 0, text, 1) == EROFS);
    CHECK(ctx.files.map(&list, f.handle) == files[0].data && awq__file_close(&ctx, &f) == 0);
    CHECK(ctx.files.rename(&list, "a", "b") == EROFS && ctx.files.remove(&list, "empty") == EROFS);
    CHECK(ctx.memory_used == 0);
}

static void test_files(void)
{
    static const char *const texts[] = {"a first, longer text", "second", ""};
    awq_ctx ctx;
    char *data, *path;
    size_t n;
    long k;
    int i, reached = 1;
    memset(&ctx, 0, sizeof ctx);
    awq__os_remove(NULL, FOLDER "/file");
    CHECK(awq__os_make_folder(NULL, FOLDER) == 0 && awq__os_make_folder(NULL, FOLDER) == 0);
    path = awq__path_join(&ctx, FOLDER, "file");
    data = awq__path_join(&ctx, FOLDER "/", "file");
    CHECK(!strcmp(path, FOLDER "/file") && !strcmp(data, path));
    awq__free(&ctx, data);
    for (i = 0; i < 3; i++) {
        CHECK_MSG(awq__file_save(&ctx, path, texts[i], strlen(texts[i])) == AWQ_OK, "%s", ctx.err.text);
        CHECK(awq__file_load(&ctx, path, 100, &data, &n) == AWQ_OK && n == strlen(texts[i])
              && !strcmp(data, texts[i]));
        awq__free(&ctx, data);
        CHECK(!awq__file_exists(&ctx, FOLDER "/file.tmp"));
    }
    CHECK(awq__file_load(&ctx, FOLDER "/none", 100, &data, &n) == AWQ_E_IO
          && strstr(ctx.err.text, "none: cannot open"));
    CHECK(awq__file_load(&ctx, FOLDER, 100, &data, &n) == AWQ_E_IO); /* a folder */
    CHECK(awq__file_save(&ctx, FOLDER "/no/file", "x", 1) == AWQ_E_IO);
    for (k = 0; reached; k++) { /* the k-th file call fails: the old file or the new one, no half-written one */
        fail_files f = {0, 0};
        awq_status st;
        memset(&ctx.files, 0, sizeof ctx.files);
        CHECK(awq__file_save(&ctx, path, "old", 3) == AWQ_OK);
        f.fail_at = k;
        ctx.files = fail_file_system(&f);
        st = awq__file_save(&ctx, path, "newer", 5);
        reached = f.calls > k;
        memset(&ctx.files, 0, sizeof ctx.files);
        CHECK(st == (reached ? AWQ_E_IO : AWQ_OK));
        CHECK(awq__file_load(&ctx, path, 100, &data, &n) == AWQ_OK && !strcmp(data, reached ? "old" : "newer"));
        awq__free(&ctx, data);
        /* 1: the size could not be asked for; nothing was written yet */
        CHECK_MSG(k == 1 || !awq__file_exists(&ctx, FOLDER "/file.tmp"), "%ld", k);
        awq__os_remove(NULL, FOLDER "/file.tmp");
    }
    CHECK(k > 5);
    awq__os_remove(NULL, path);
    awq__os_remove(NULL, FOLDER);
    awq__free(&ctx, path);
    CHECK(ctx.memory_used == 0);
}

/* --- numbers */
static double f16_value(int h) /* of a finite positive fp16 pattern; 0x7c00 stands for 2^16 */
{
    int e = h >> 10, m = h & 0x3ff;
    return e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
}

static void check_rounding(float f) /* the nearest fp16, ties to even, by search */
{
    double x = fabs((double)f);
    int lo = 0, hi = 0x7c00, want;
    uint16_t got = awq__float_f16(f);
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (f16_value(mid) <= x) lo = mid;
        else hi = mid;
    }
    if (x >= 65536) want = 0x7c00;
    else if (x - f16_value(lo) == f16_value(hi) - x) want = lo & 1 ? hi : lo;
    else want = x - f16_value(lo) < f16_value(hi) - x ? lo : hi;
    if (awq__float_bits(f) >> 31) want |= 0x8000;
    CHECK_MSG(got == want, "%.9g gives %04x, not %04x", (double)f, got, want);
}

static void test_f16(void)
{
    uint64_t seed = 1;
    uint32_t h;
    int i;
    for (h = 0; h < 65536; h++) {
        float f = awq__f16_float((uint16_t)h);
        int mag = (int)(h & 0x7fff);
        if (mag > 0x7c00) {
            CHECK(f != f && (awq__float_f16(f) & 0x7c00) == 0x7c00 && (awq__float_f16(f) & 0x3ff));
            continue;
        }
        CHECK_MSG(awq__float_f16(f) == h, "%04x", (unsigned)h);
        if (mag < 0x7c00) CHECK_MSG(fabs((double)f) == f16_value(mag), "%04x", (unsigned)h);
        else CHECK(!awq__finite(f));
        CHECK(awq__float_bits(f) >> 31 == h >> 15);
        if (mag >= 0x7bff) continue;
        f = (float)((f16_value(mag) + f16_value(mag + 1)) / 2); /* exactly between two, and next to it */
        check_rounding(f);
        check_rounding(awq__bits_float(awq__float_bits(f) + 1));
        check_rounding(-awq__bits_float(awq__float_bits(f) - 1));
    }
    for (i = 0; i < 200000; i++) {
        float f = awq__bits_float((uint32_t)awq__random(&seed));
        if (f == f) check_rounding(f);
    }
    check_rounding(65519.996f);
    check_rounding(65520.0f);
    check_rounding(5.9604645e-8f / 2);
}

static void test_bf16(void)
{
    uint64_t seed = 2;
    uint32_t h;
    int i;
    for (h = 0; h < 65536; h++) {
        float f = awq__bf16_float((uint16_t)h);
        if (f == f) CHECK_MSG(awq__float_bf16(f) == h, "%04x", (unsigned)h);
        else CHECK((awq__float_bf16(f) & 0x7f80) == 0x7f80 && (awq__float_bf16(f) & 0x7f));
    }
    for (i = 0; i < 200000; i++) {
        uint32_t u = (uint32_t)awq__random(&seed), lo = u >> 16, rest, want;
        float f;
        if (i & 1) u = (u & 0xffff0000u) | 0x8000;
        rest = u & 0xffff;
        f = awq__bits_float(u);
        if (f != f) continue;
        want = rest > 0x8000 || (rest == 0x8000 && (lo & 1)) ? lo + 1 : lo;
        CHECK_MSG(awq__float_bf16(f) == want, "%08x", (unsigned)u);
    }
    /* a NaN whose upper half alone would be Inf */
    CHECK(awq__float_bf16(awq__bits_float(0x7f800001)) == 0x7fc0);
}

static void test_convert(void)
{
    static const awq_dtype types[] = {AWQ_F64, AWQ_F32, AWQ_F16, AWQ_BF16};
    float in[9] = {0, -0.0f, 1, -2.5f, 1e-30f, 65504, 1e30f, 0.333333333f, -7}, out[9];
    double raw[9];
    awq_ctx ctx;
    int k, i;
    memset(&ctx, 0, sizeof ctx);
    for (k = 0; k < 4; k++) {
        CHECK(awq_from_float(&ctx, types[k], in, 9, raw) == AWQ_OK);
        CHECK(awq_to_float(&ctx, types[k], raw, 9, out) == AWQ_OK);
        for (i = 0; i < 9; i++) {
            float want = k < 2 ? in[i] : k == 2 ? awq__h(in[i]) : awq__bf16_float(awq__float_bf16(in[i]));
            CHECK(!memcmp(&want, &out[i], 4));
        }
    }
    CHECK(awq_to_float(&ctx, AWQ_I32, raw, 1, out) == AWQ_E_ARG && strstr(ctx.err.text, "I32"));
    CHECK(awq_from_float(&ctx, AWQ_U8, in, 1, raw) == AWQ_E_ARG && strstr(ctx.err.text, "U8"));
    CHECK(awq_to_float(&ctx, AWQ_F32, raw, -1, out) == AWQ_E_ARG);
    CHECK(awq_from_float(&ctx, AWQ_F32, in, -1, raw) == AWQ_E_ARG);
}

static void test_functions(void)
{
    double worst = 0, worst_sc = 0, x;
    uint64_t state = 0, again = 0;
    float s, c, inf = awq__bits_float(0x7f800000);
    int i;
    for (x = -87.3; x < 88.7; x += 0.000713) {
        float f = (float)x;
        double want = exp((double)f), e = fabs((double)awq__expf(f) - want) / want;
        if (!(e <= worst)) worst = e;
        if (f >= -87 && f <= 0) CHECK(awq__float_bits(awq__expf(f)) == awq__float_bits(awq__exp_body(f)));
    }
    CHECK(awq__expf(0) == 1 && awq__expf(inf) == inf && awq__expf(89) == inf && awq__expf(-inf) == 0);
    CHECK(awq__expf(-88) == 0 && awq__expf(88.72283f) > 3.4e38f && awq__finite(awq__expf(88.72283f)));
    CHECK(!(awq__expf(inf - inf) <= inf));
    for (i = 0; i < 300000; i++) {
        x = i < 100000 ? i * 1e-4 : i < 200000 ? i * 0.377 : (double)(float)(i * 33.3333);
        awq__sincos(x, &s, &c);
        worst_sc = AWQ__MAX(worst_sc, AWQ__MAX(fabs((double)s - sin(x)), fabs((double)c - cos(x))));
    }
    printf("    exp: relative error %.3g, sin and cos: error %.3g\n", worst, worst_sc);
    CHECK(worst < 2e-7 && worst_sc < 6.1e-8); /* of the latter, 2^-24 is the rounding to fp32 */
    CHECK(awq__random(&state) == 0xe220a8397b1dcdafull && awq__random(&state) == 0x6e789e6aa1b965f4ull);
    for (x = 0, i = 0; i < 10000; i++) {
        float u = awq__random_unit(&again);
        CHECK(u >= 0 && u < 1);
        x += u;
    }
    CHECK(fabs(x / 10000 - 0.5) < 0.02);
}

/* --- ops */
enum { N_MAX = 10007 };

typedef struct inputs {
    float x[N_MAX], y[N_MAX], z[N_MAX];
} inputs;

static void fill(float *x, int64_t n, uint64_t seed, float scale)
{
    int64_t i;
    for (i = 0; i < n; i++)
        x[i] = scale * (awq__random_unit(&seed) + awq__random_unit(&seed) + awq__random_unit(&seed) - 1.5f);
}

/* everything one instruction set computes on n values, into out [10 n + 4] */
static void run_ops(const awq__ops *o, const inputs *in, int64_t n, double *out)
{
    float *t = (float *)malloc((size_t)n * sizeof *t), best;
    int64_t i;
    double lp, lq;
    out[0] = o->dot(in->x, in->y, n);
    lp = o->logsum(in->x, n, &best);
    lq = o->logsum(in->y, n, &best);
    out[1] = lp;
    out[2] = best;
    out[3] = o->kl(in->x, lp, in->y, lq, n);
    out += 4;
    o->norm(in->x, in->y, t, n, 1e-5f);
    for (i = 0; i < n; i++) *out++ = t[i];
    memcpy(t, in->x, (size_t)n * sizeof *t);
    o->gate(AWQ_ACT_SILU, t, in->y, n, 0, 0);
    for (i = 0; i < n; i++) *out++ = t[i];
    o->add(t, in->z, 1, n);
    for (i = 0; i < n; i++) *out++ = t[i];
    memcpy(t, in->x, (size_t)n * sizeof *t);
    o->rope(t, in->y, in->z, n / 2 * 2);
    for (i = 0; i < n; i++) *out++ = t[i];
    o->layer_norm(in->x, in->y, in->z, t, n, 1e-5f);
    for (i = 0; i < n; i++) *out++ = t[i];
    memcpy(t, in->x, (size_t)n * sizeof *t);
    o->gate(AWQ_ACT_GELU_TANH, t, in->y, n, 0, 0);
    for (i = 0; i < n; i++) *out++ = t[i];
    memcpy(t, in->x, (size_t)n * sizeof *t);
    o->gate(AWQ_ACT_SWIGLU, t, in->y, n, 1.7f, 3);
    for (i = 0; i < n; i++) *out++ = t[i];
    memcpy(t, in->x, (size_t)n * sizeof *t);
    o->cap(t, 0.5f, 3, n);
    for (i = 0; i < n; i++) *out++ = t[i];
    o->rope_pairs(t, in->y, in->z, n / 2 * 2);
    o->gate(AWQ_ACT_GELU_TANH, t, NULL, n, 0, 0);
    o->gate(AWQ_ACT_SILU, t, NULL, n, 0, 0);
    o->layer_norm(t, in->y, NULL, t, n, 1e-5f);
    o->add(t, in->z, 0.3f, n);
    o->cap(t, 0.5f, 0, n);
    for (i = 0; i < n; i++) *out++ = t[i];
    free(t);
}

static void test_ops(void)
{
    static const int64_t sizes[] = {1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 65, 100, 127, 257, 1025, 4097, N_MAX};
    inputs *in = (inputs *)malloc(sizeof *in);
    double *a = (double *)malloc((10 * N_MAX + 4) * sizeof *a),
           *b = (double *)malloc((10 * N_MAX + 4) * sizeof *b);
    double worst = 0;
    awq_ctx ctx;
    size_t k;
    int isa;
    memset(&ctx, 0, sizeof ctx);
    for (k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        int64_t n = sizes[k], i;
        double dot = 0, mag = 0, sx = 0, sy = 0, kl = 0, lx, ly, sq = 0, e, mean = 0, var = 0;
        fill(in->x, n, 3, 8);
        fill(in->y, n, 4, 5);
        fill(in->z, n, 5, 1);
        run_ops(&awq__ops_scalar, in, n, a);
        for (isa = 0; isa < 3; isa++) {
            ctx.isa = isas[isa];
            run_ops(awq__ops_for(&ctx), in, n, b);
            CHECK_MSG(!memcmp(a, b, (size_t)(9 * n + 4) * sizeof *a), "%s, %d values", awq_isa_name(isas[isa]),
                      (int)n);
        }
        for (i = 0; i < n; i++) {
            dot += (double)in->x[i] * (double)in->y[i];
            mag += fabs((double)in->x[i] * (double)in->y[i]);
            sq += (double)in->x[i] * (double)in->x[i];
            sx += exp((double)in->x[i]);
            sy += exp((double)in->y[i]);
        }
        lx = log(sx), ly = log(sy);
        for (i = 0; i < n; i++)
            kl += exp((double)in->x[i] - lx) * ((double)in->x[i] - lx - (double)in->y[i] + ly);
        CHECK(fabs(a[0] - dot) <= 1e-6 * mag + 1e-12 && fabs(a[1] - lx) < 1e-6 && fabs(a[3] - kl) < 1e-5);
        for (i = 0; i < n; i++) {
            double x = in->x[i], y = in->y[i], norm = x / sqrt(sq / (double)n + 1e-5f) * y;
            double gate = x / (1 + exp(-x)) * y;
            e = AWQ__MAX(fabs(a[4 + i] - norm) / (1 + fabs(norm)),
                         fabs(a[4 + n + i] - gate) / (1 + fabs(gate)));
            worst = AWQ__MAX(worst, e);
        }
        for (i = 0; i < n; i++) mean += (double)in->x[i] / (double)n;
        for (i = 0; i < n; i++) var += ((double)in->x[i] - mean) * ((double)in->x[i] - mean) / (double)n;
        for (i = 0; i < n; i++) {
            double x = in->x[i], y = in->y[i], want[4], g = x > 3 ? 3 : x, u = y > 3 ? 3 : y < -3 ? -3 : y;
            int f;
            want[0] = (x - mean) / sqrt(var + 1e-5f) * y + (double)in->z[i];
            want[1] = 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x))) * y;
            want[2] = g / (1 + exp(-1.7f * g)) * (u + 1);
            want[3] = 3 * tanh(x / 6);
            for (f = 0; f < 4; f++) {
                e = fabs(a[4 + (4 + f) * n + i] - want[f]) / (1 + fabs(want[f]));
                CHECK_MSG(e < (f ? 1e-6 : 1e-5), "function %d of %g, %g: %g, not %g", f, x, y,
                          a[4 + (4 + f) * n + i], want[f]);
            }
        }
    }
    CHECK_MSG(worst < 1e-6, "%g", worst);
    free(in);
    free(a);
    free(b);
}

static void test_attend(void)
{
    static const int dims[] = {8, 40, 64, 128};
    static const int64_t spans[][2] = {{0, 0},   {0, 1},   {0, 30},  {0, 31},    {0, 32}, {5, 5},
                                       {60, 70}, {63, 63}, {64, 64}, {100, 299}, {0, 299}};
    enum { KEYS = 300 };
    int64_t stride = 128 + 24;
    float *k = (float *)malloc((size_t)(KEYS * stride) * sizeof *k);
    float *v = (float *)malloc((size_t)(KEYS * stride) * sizeof *v);
    enum { PAGES = (KEYS + AWQ__PAGE - 1) / AWQ__PAGE, AT = 24 };
    uint8_t *page[PAGES];
    double worst = 0;
    awq_ctx ctx;
    size_t d, s;
    int isa, r;
    memset(&ctx, 0, sizeof ctx);
    fill(k, KEYS * stride, 11, 2);
    fill(v, KEYS * stride, 12, 2);
    for (r = PAGES - 1; r >= 0; r--) { /* each as large as it must be, to the float */
        size_t rows = (size_t)AWQ__MIN(KEYS - r * AWQ__PAGE, AWQ__PAGE), row = (size_t)stride * sizeof(float);
        page[r] = (uint8_t *)malloc(AT * sizeof(float) + (AWQ__PAGE + rows) * row);
        memcpy(page[r] + AT * sizeof(float), k + r * AWQ__PAGE * stride, rows * row);
        memcpy(page[r] + AT * sizeof(float) + AWQ__PAGE * row, v + r * AWQ__PAGE * stride, rows * row);
    }
    for (d = 0; d < 12; d++) /* plain; capped; with a sink */
        for (s = 0; s < sizeof spans / sizeof spans[0]; s++) {
            int64_t dim = dims[d % 4], first = spans[s][0], last = spans[s][1], i, j;
            float q[128], want[128], got[128], sink = (float)s - 3;
            double p[KEYS], top = -1e300, sum = 0;
            awq__head h;
            memset(&h, 0, sizeof h);
            h.k_at = AT * sizeof(float);
            h.v_at = (AT + (size_t)(AWQ__PAGE * stride)) * sizeof(float);
            h.k_stride = h.v_stride = stride;
            h.k_dim = dim;
            h.v_dim = d >= 4 ? 32 : dim;
            h.scale = 1.0f / sqrtf((float)dim);
            h.cap = d >= 4 && d < 8 ? 3.0f : 0.0f;
            h.sink = d >= 8 ? &sink : NULL;
            fill(q, dim, 13 + s, 4);
            awq__ops_scalar.attend(q, page, &h, first, last, want);
            for (isa = 0; isa < 3; isa++) {
                ctx.isa = isas[isa];
                memset(got, 0xff, sizeof got);
                awq__ops_for(&ctx)->attend(q, page, &h, first, last, got);
                CHECK_MSG(!memcmp(got, want, (size_t)h.v_dim * sizeof *got), "%s, dim %d, keys %d to %d",
                          awq_isa_name(isas[isa]), (int)dim, (int)first, (int)last);
            }
            for (j = first; j <= last; j++) {
                for (i = 0, p[j] = 0; i < dim; i++) p[j] += (double)q[i] * (double)k[j * stride + i];
                p[j] *= (double)h.scale;
                if (h.cap > 0) p[j] = (double)h.cap * tanh(p[j] / (double)h.cap);
                top = AWQ__MAX(top, p[j]);
            }
            for (j = first; j <= last; j++) sum += p[j] = exp(p[j] - top);
            if (h.sink) sum += exp((double)sink - top);
            for (i = 0; i < h.v_dim; i++) {
                double x = 0;
                for (j = first; j <= last; j++) x += p[j] / sum * (double)v[j * stride + i];
                worst = AWQ__MAX(worst, fabs(x - (double)want[i]));
            }
        }
    printf("    attention: largest difference from double precision %.3g\n", worst);
    CHECK(worst < 5e-6);
    for (r = 0; r < PAGES; r++) free(page[r]);
    free(k);
    free(v);
}

#ifdef __linux__
static int wants_huge_pages(const void *at) /* the system says so of the memory there */
{
    char line[512];
    unsigned long from, to;
    int there = 0, wants = 0;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) there = (uintptr_t)at >= from && (uintptr_t)at < to;
        if (there && !strncmp(line, "VmFlags:", 8)) wants = strstr(line, " hg") != NULL;
    }
    if (f) fclose(f);
    return wants;
}
#endif

/* large blocks are on huge pages where the system has them: decoding is a tenth faster so */
static void test_huge_pages(void)
{
#ifdef __linux__
    size_t bytes = (size_t)64 << 20;
    awq_ctx ctx;
    char *p;
    void *q = NULL;
    int can;
    CHECK(!posix_memalign(&q, (size_t)2 << 20, bytes));
    if (!q) return;
    memset(q, 1, bytes);
    madvise(q, bytes, 14); /* MADV_HUGEPAGE */
    can = wants_huge_pages((char *)q + bytes / 2);
    free(q);
    if (!can) {
        puts("    the system takes no such wish, or does not tell");
        return;
    }
    memset(&ctx, 0, sizeof ctx);
    p = (char *)awq__alloc_raw(&ctx, bytes, 1);
    CHECK(p != NULL);
    if (!p) return;
    CHECK(wants_huge_pages(p + bytes / 2));
    awq__free(&ctx, p);
#endif
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_names);
    RUN(test_isa);
    RUN(test_errors);
    RUN(test_memory);
    RUN(test_huge_pages);
    RUN(test_arena_text);
    RUN(test_pool);
    RUN(test_pool_shared);
    RUN(test_cores);
    RUN(test_memory_files);
    RUN(test_files);
    RUN(test_f16);
    RUN(test_bf16);
    RUN(test_convert);
    RUN(test_functions);
    RUN(test_ops);
    RUN(test_attend);
    return TEST_END();
}
