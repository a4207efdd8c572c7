/* cuda: the host side of awq_cuda.h against the emulated driver and NVRTC of tests/cuda/driver.cpp: what is refused and
   in which words, which NVRTC is taken, compiled kernels on disk, memory, copies, launches, graphs, a lost device; each
   call of the driver, each allocation and each file operation failing once. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#define AWQ_CUDA_IMPLEMENTATION
#include "../awq_cuda.h"
#include "test.h"
#include "cuda_emulator.h"

#include <sys/wait.h>

#define DIR "test_cuda.tmp"
#define CACHE DIR "/cache"

static void env(const char *name, const char *value)
{
    if (value) setenv(name, value, 1);
    else unsetenv(name);
}

static void put_file(const char *path, const void *data, size_t n)
{
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq__file_save(&ctx, path, data, n) == AWQ_OK);
}

static char *get_file(const char *path, size_t *n) /* free it */
{
    FILE *f = fopen(path, "rb");
    char *data = (char *)calloc(1, 1 << 22);
    *n = f && data ? fread(data, 1, 1 << 22, f) : 0;
    if (f) fclose(f);
    return data;
}

static void copy_file(const char *from, const char *to)
{
    size_t n;
    char *data = get_file(from, &n);
    CHECK(n > 1000);
    put_file(to, data, n);
    free(data);
}

static void remove_cache(void) { CHECK(system("rm -rf " CACHE) == 0); }

/* nothing of an earlier test in the environment; a description that uses the emulator alone */
static awq_cuda_desc fresh(void)
{
    static const char *const names[] = {"COMPUTE", "DRIVER", "DEVICES", "MEMORY", "USED", "NVRTC", "FAIL", "EAGER",
                                        "SCHEDULE", "LATE", "WRONG"};
    static const char *const others[] = {"AWQ_CUDA_DRIVER", "AWQ_NVRTC", "AWQ_CACHE_DIR"};
    awq_cuda_desc d;
    char name[64];
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(name, sizeof name, "AWQ_EMULATOR_%s", names[i]);
        env(name, NULL);
    }
    for (i = 0; i < sizeof others / sizeof others[0]; i++) env(others[i], NULL);
    if (reset) reset();
    memset(&d, 0, sizeof d);
    d.driver = d.nvrtc = emulator;
    d.cache_folder = CACHE;
    return d;
}

/* everything was given back, and no context is current */
static void clean(void)
{
    char text[256];
    CHECK_MSG(live(text, sizeof text) == 0, "%s", text);
}

/* awq_cuda_create returns this status with this in its sentence, awq_cuda_doctor reports both, and `found` */
static void refuse(const awq_cuda_desc *d, awq_status status, const char *sentence, const char *found)
{
    fail_alloc f = {-1, 0, 0};
    awq_cuda *c = NULL;
    awq_cuda_report r;
    awq_ctx ctx;
    awq_status st;
    memset(&ctx, 0, sizeof ctx);
    memset(&r, 0, sizeof r);
    ctx.allocator = fail_allocator(&f);
    st = awq_cuda_create(&ctx, d, &c);
    CHECK_MSG(st == status && ctx.err.status == status && strstr(ctx.err.text, sentence) && !c, "%s: %s",
              awq_status_name(st), ctx.err.text);
    if (reset) reset();
    CHECK(awq_cuda_doctor(&ctx, d, &r) == AWQ_OK);
    CHECK_MSG(r.status == status && strstr(r.error, sentence), "%s: %s", awq_status_name(r.status), r.error);
    CHECK_MSG(r.text && strstr(r.text, "verdict      no: ") && strstr(r.text, r.error) && (!found || strstr(r.text, found)),
              "[%s]", r.text ? r.text : "");
    awq_text_free(&ctx, r.text);
    CHECK(f.live == 0 && ctx.memory_used == 0);
    if (live) clean();
}

static awq_cuda *need(awq_ctx *ctx, const awq_cuda_desc *d)
{
    awq_cuda *c = NULL;
    awq_status st = awq_cuda_create(ctx, d, &c);
    CHECK_MSG(st == AWQ_OK, "%s: %s", awq_status_name(st), ctx->err.text);
    return c;
}

/* --- what needs no emulator */
static void test_arch(void)
{
    static const int old[] = {35, 50, 75, 80, 86, 87}, v118[] = {50, 75, 80, 86, 87, 89, 90},
                     v128[] = {75, 80, 86, 87, 89, 90, 100, 101, 120}, v13[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121},
                     later[] = {90, 100};
    static const struct {
        int compute, major;
        const int *archs;
        int n;
        const char *arch;
        int worth;
    } cases[] = {{75, 11, old, 6, "sm_75", 2}, {80, 11, old, 6, "sm_80", 2}, {86, 11, old, 6, "sm_86", 2},
                 {89, 11, old, 6, "sm_86", 1}, /* not 8.7, which is a module's */
                 {87, 11, old, 6, "sm_87", 2}, {90, 11, old, 6, "compute_86", 1}, {90, 11, v118, 7, "sm_90", 2},
                 {90, 12, v118, 7, "sm_90a", 2}, {89, 12, v118, 7, "sm_89", 2}, {100, 12, v118, 7, "compute_90", 1},
                 {87, 12, v118, 7, "sm_87", 2}, {100, 12, v128, 9, "sm_100a", 2}, {103, 12, v128, 9, "sm_100", 1},
                 {120, 12, v128, 9, "sm_120a", 2}, {121, 12, v128, 9, "sm_120", 1}, {110, 12, v128, 9, "compute_100", 1},
                 {121, 13, v13, 12, "sm_121a", 2}, {110, 13, v13, 12, "sm_110a", 2}, {103, 13, v13, 12, "sm_103a", 2},
                 {75, 13, v13, 12, "sm_75", 2}, {130, 13, v13, 12, "compute_121", 1}, {75, 14, later, 2, "", 0},
                 {88, 12, v128, 9, "sm_86", 1}, {120, 12, v118, 7, "compute_89", 1}, /* with less shared memory than 9.0 */
                 {121, 11, old, 6, "compute_86", 1}};
    static const int rows[] = {1, 5, 12, 20, 40, 70, 200};
    size_t i, k;
    int bits;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char arch[16] = "";
        int worth = awq__cuda_arch(cases[i].compute, cases[i].major, cases[i].archs, cases[i].n, arch, sizeof arch);
        CHECK_MSG(worth == cases[i].worth && !strcmp(arch, cases[i].arch), "%d by NVRTC %d: %d %s, not %d %s", cases[i].compute,
                  cases[i].major, worth, arch, cases[i].worth, cases[i].arch);
        for (k = 0; worth && k < 3 * sizeof rows / sizeof rows[0]; k++) { /* what the code wants fits the card */
            const int there = cases[i].compute, kb = there < 80 ? 64 : awq__cuda_sm_kb(there) - 1;
            awq__cuda_device d = {0, 0, 40, 0};
            awq__cuda_launch l;
            d.arch = atoi(strchr(arch, '_') + 1);
            bits = 4 << k % 3;
            CHECK(awq__cuda_linear_plan(&d, bits, rows[k / 3], 4096, 4096, 128, 0, 0, &l));
            CHECK_MSG(l.smem <= (uint32_t)kb << 10, "%s on %d: %s wants %u bytes", arch, there, l.kernel, l.smem);
        }
    }
}

static void test_no_driver(void)
{
    awq_cuda_desc d = fresh();
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    d.driver = "/nowhere/libcuda.so.1";
    refuse(&d, AWQ_E_UNSUPPORTED, "no CUDA driver: /nowhere/libcuda.so.1: cannot open", "  tried /nowhere/libcuda.so.1: cannot open");
    refuse(&d, AWQ_E_UNSUPPORTED, "which awq_cuda_desc.driver names", "driver       none");
    d.driver = NULL;
    env("AWQ_CUDA_DRIVER", "/nowhere/else.so");
    refuse(&d, AWQ_E_UNSUPPORTED, "no CUDA driver: /nowhere/else.so: cannot open", "driver       none");
    refuse(&d, AWQ_E_UNSUPPORTED, "which AWQ_CUDA_DRIVER names", NULL);
    env("AWQ_CUDA_DRIVER", "tests/test_cuda.c"); /* no library */
    refuse(&d, AWQ_E_UNSUPPORTED, "no CUDA driver: ", "  tried tests/test_cuda.c: ");
    env("AWQ_CUDA_DRIVER", "libm.so.6"); /* another one */
    refuse(&d, AWQ_E_UNSUPPORTED, "the CUDA driver libm.so.6 has no cuGetErrorName: a driver of CUDA 11.4 or newer is needed",
           "driver       libm.so.6");
    CHECK(awq_cuda_create(&ctx, &d, NULL) == AWQ_E_ARG && !strcmp(ctx.err.text, "awq_cuda_create: cuda is NULL"));
    CHECK(awq_cuda_doctor(&ctx, &d, NULL) == AWQ_E_ARG && !strcmp(ctx.err.text, "awq_cuda_doctor: report is NULL"));
    awq_cuda_free(&ctx, NULL);
}

/* the toolkit's library for linking has every symbol and does nothing */
static void test_stub(void)
{
    static const char *const stubs[] = {"/usr/local/cuda/lib64/stubs/libcuda.so", "/usr/local/cuda/lib/stubs/libcuda.so"};
    awq_cuda_desc d = fresh();
    size_t i;
    for (i = 0; i < 2; i++) {
        FILE *f = fopen(stubs[i], "rb");
        if (!f) continue;
        fclose(f);
        d.driver = stubs[i];
        refuse(&d, AWQ_E_UNSUPPORTED, "does not start: cuInit: error (34); this file is the toolkit's, for linking only",
               "driver       /usr/local/cuda");
    }
}

/* folders of toolkits and environments: what is in them is tried, the newest first, once */
static void test_places(void)
{
    static const char *const files[] = {DIR "/venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
                                        DIR "/venv/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
                                        DIR "/cuda/lib64/libnvrtc.so.12", DIR "/cuda/lib64/libnvrtc.so.12.4",
                                        DIR "/conda/lib/libnvrtc.so.11.2"};
    static const int order[] = {3, 2, 1, 0, 4}; /* CUDA_PATH, then VIRTUAL_ENV, then CONDA_PREFIX */
    awq_cuda_desc d = fresh();
    awq_cuda *c = (awq_cuda *)calloc(1, sizeof *c);
    awq_ctx ctx;
    int i, k, at, before = -1;
    memset(&ctx, 0, sizeof ctx);
    CHECK(system("mkdir -p " DIR "/venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib "
                 DIR "/venv/lib/python3.11/site-packages/nvidia/cu13/lib " DIR "/cuda/lib64 " DIR "/conda/lib") == 0);
    for (i = 0; i < 5; i++) put_file(files[i], "x", 1);
    put_file(DIR "/cuda/lib64/libnvrtc-builtins.so.12.4", "x", 1);
    env("VIRTUAL_ENV", DIR "/venv");
    env("CUDA_PATH", DIR "/cuda");
    env("CUDA_HOME", DIR "/cuda"); /* the same again */
    env("CONDA_PREFIX", DIR "/conda");
    d.nvrtc = NULL;
    c->desc = d;
    CHECK(awq__cuda_list_nvrtc(&ctx, c) == AWQ_OK);
    CHECK(c->n_candidates >= 9 && !strcmp(c->candidate[0].path, "libnvrtc.so.13")
          && !strcmp(c->candidate[3].path, "libnvrtc.so"));
    for (i = 0; i < 5; i++) {
        for (at = -1, k = 0; k < c->n_candidates; k++)
            if (!strcmp(c->candidate[k].path, files[order[i]])) {
                CHECK_MSG(at < 0, "%s twice", files[order[i]]);
                at = k;
            }
        CHECK_MSG(at > before, "%s is number %d behind %d", files[order[i]], at, before);
        before = at;
    }
    for (k = 0; k < c->n_candidates; k++) CHECK(!strstr(c->candidate[k].path, "builtins") && c->candidate[k].worth == -1);
    awq__arena_free(&ctx, &c->arena);
    c->n_candidates = 0;
    env("AWQ_NVRTC", "one:two:one"); /* only what is asked for */
    CHECK(awq__cuda_list_nvrtc(&ctx, c) == AWQ_OK && c->n_candidates == 2 && !strcmp(c->candidate[1].path, "two"));
    awq__arena_free(&ctx, &c->arena);
    for (i = 0; i < 4; i++) env(i == 0 ? "VIRTUAL_ENV" : i == 1 ? "CUDA_PATH" : i == 2 ? "CUDA_HOME" : "CONDA_PREFIX", NULL);
    free(c);
    CHECK(ctx.memory_used == 0);
}

/* --- refusals of the emulated driver */
static void test_driver_refusals(void)
{
    awq_cuda_desc d = fresh();
    char sentence[600];
    NEED_EMULATOR;
    env("AWQ_EMULATOR_DRIVER", "11030");
    snprintf(sentence, sizeof sentence, "the CUDA driver %s is for CUDA 11.3, 11.4 or newer is needed: update it", emulator);
    refuse(&d, AWQ_E_UNSUPPORTED, sentence, emulator);
    d = fresh();
    env("AWQ_EMULATOR_FAIL", "cuInit:1=100");
    refuse(&d, AWQ_E_UNSUPPORTED, "does not start: cuInit: CUDA_ERROR_NO_DEVICE (100), no CUDA-capable device is detected; no "
                                  "NVIDIA GPU is here, or CUDA_VISIBLE_DEVICES hides it", "driver       CUDA 13.0, ");
    env("AWQ_EMULATOR_FAIL", "cuInit:1=803");
    refuse(&d, AWQ_E_UNSUPPORTED, "the driver was updated and the machine not restarted", NULL);
    d = fresh();
    env("AWQ_EMULATOR_DEVICES", "0");
    refuse(&d, AWQ_E_UNSUPPORTED, "finds no device", NULL);
    d = fresh();
    env("AWQ_EMULATOR_DEVICES", "2");
    d.index = 2;
    refuse(&d, AWQ_E_ARG, "awq_cuda_create: index is 2, devices 0 to 1 are here", NULL);
    d.index = -1;
    refuse(&d, AWQ_E_ARG, "awq_cuda_create: index is -1, devices 0 to 1 are here", NULL);
    d = fresh();
    env("AWQ_EMULATOR_COMPUTE", "70");
    refuse(&d, AWQ_E_UNSUPPORTED, "CUDA device 0 (Emulated GPU 0) has compute capability 7.0, 7.5 (Turing) or newer is needed",
           "device       0: Emulated GPU 0, compute capability 7.0, 2 multiprocessors");
    d = fresh();
    d.free = NULL;
    d.alloc = (uint64_t(*)(void *, size_t))(uintptr_t)1;
    refuse(&d, AWQ_E_ARG, "awq_cuda_create: alloc and free go together, one is NULL", NULL);
}

static void test_memory_refusals(void)
{
    awq_cuda_desc d = fresh();
    NEED_EMULATOR;
    env("AWQ_EMULATOR_MEMORY", "8000000000");
    env("AWQ_EMULATOR_USED", "7700000000");
    refuse(&d, AWQ_E_MEMORY, "CUDA device 0 (Emulated GPU 0): 300000000 of 8000000000 bytes are free, less than the 393435456 kept "
                             "in reserve", "memory       8.0 GB\n");
    d.memory_limit = 300000001;
    refuse(&d, AWQ_E_MEMORY, "memory_limit is 300000001 bytes, 300000000 of 8000000000 are free", NULL);
    d.memory_limit = 3840;
    refuse(&d, AWQ_E_MEMORY, "0 bytes in use, 4096 more asked for, the limit is 3840", "memory       8.0 GB, 0.3 GB free");
}

static void test_nvrtc_refusals(void)
{
    awq_cuda_desc d = fresh();
    NEED_EMULATOR;
    d.nvrtc = "/nowhere/libnvrtc.so.13:tests/test_cuda.c:libm.so.6";
    refuse(&d, AWQ_E_UNSUPPORTED, "no NVRTC, NVIDIA's run-time compiler, that makes code for Emulated GPU 0 (compute capability "
                                  "9.0) is here; 3 files were tried, awq_cuda_doctor lists them. Install it: pip install "
                                  "nvidia-cuda-nvrtc, or the CUDA toolkit, or name the library in AWQ_NVRTC",
           "  tried libm.so.6: it has no nvrtcVersion\n");
    refuse(&d, AWQ_E_UNSUPPORTED, "no NVRTC", "  tried /nowhere/libnvrtc.so.13: cannot open");
    env("AWQ_EMULATOR_DRIVER", "12020");
    refuse(&d, AWQ_E_UNSUPPORTED, "pip install nvidia-cuda-nvrtc-cu12, or", NULL);
    env("AWQ_EMULATOR_DRIVER", "11080");
    refuse(&d, AWQ_E_UNSUPPORTED, "pip install nvidia-cuda-nvrtc-cu11, or", NULL);
    d = fresh();
    d.nvrtc = NULL;
    env("AWQ_NVRTC", "/nowhere/x");
    refuse(&d, AWQ_E_UNSUPPORTED, "1 files were tried", "  tried /nowhere/x: ");
    d = fresh();
    env("AWQ_EMULATOR_FAIL", "nvrtcVersion:1=11");
    refuse(&d, AWQ_E_UNSUPPORTED, "no NVRTC", "it does not tell its version and architectures (error 11)");
    remove_cache();
    env("AWQ_EMULATOR_FAIL", "nvrtcCompileProgram:1=6");
    refuse(&d, AWQ_E_DEVICE, "does not compile selftest.cuh for sm_90a: error 6: selftest.cuh(8): error: the emulator was told to "
                             "fail", NULL);
    env("AWQ_EMULATOR_FAIL", "nvrtcCreateProgram:1=1");
    refuse(&d, AWQ_E_DEVICE, "nvrtcCreateProgram: error 1", NULL);
    env("AWQ_EMULATOR_FAIL", "nvrtcGetCUBIN:1=11");
    refuse(&d, AWQ_E_DEVICE, "no code of selftest.cuh: error 11", NULL);
    env("AWQ_EMULATOR_FAIL", "cuModuleLoadDataEx:1=222");
    refuse(&d, AWQ_E_DEVICE, "the driver (CUDA 13.0) does not take selftest for sm_90a made by NVRTC 13.0", "CUDA_ERROR_UNSUPPORTED_PTX");
    d = fresh();
    env("AWQ_EMULATOR_WRONG", "1");
    refuse(&d, AWQ_E_DEVICE, "CUDA device 0 (Emulated GPU 0) computes wrongly: value 999 of the self-test is ", NULL);
}

/* an NVRTC for the driver and the card is taken before others, whatever the order */
static void test_nvrtc_choice(void)
{
    static const struct {
        const char *compute, *driver, *files, *arch;
        int major;
    } cases[] = {
        {"90", "13000", DIR "/n/libnvrtc.so.13:" DIR "/n/libnvrtc.so.12", "sm_90a", 13},
        {"90", "12040", DIR "/n/libnvrtc.so.13:" DIR "/n/libnvrtc.so.12", "sm_90a", 12},
        {"90", "13000", DIR "/n/libnvrtc.so.11.2:" DIR "/n/libnvrtc.so.12", "sm_90a", 12},
        {"89", "13000", DIR "/n/libnvrtc.so.11.2:/nowhere/x", "sm_86", 11},
        {"120", "13000", DIR "/n/libnvrtc.so.11.2:" DIR "/n/libnvrtc.so.12:" DIR "/n/libnvrtc.so.13", "sm_120a", 13},
        {"120", "12080", DIR "/n/libnvrtc.so.13:" DIR "/n/libnvrtc.so.12", "compute_89", 12}, /* not newer than the driver */
        {"120", "12080", DIR "/n/libnvrtc.so.13", "sm_120a", 13},                             /* there is no other */
        {"90", "13000", DIR "/nobuiltins/libnvrtc.so.13:" DIR "/n/libnvrtc.so.12", "sm_90a", 12},
        {"75", "11080", DIR "/nobuiltins/libnvrtc.so.13:" DIR "/n/libnvrtc.so.13", "sm_75", 13},
    };
    awq_cuda_desc d = fresh();
    size_t i;
    NEED_EMULATOR;
    CHECK(system("mkdir -p " DIR "/n " DIR "/nobuiltins") == 0);
    copy_file(emulator, DIR "/n/libnvrtc.so.11.2");
    copy_file(emulator, DIR "/n/libnvrtc.so.12");
    copy_file(emulator, DIR "/n/libnvrtc.so.13");
    copy_file(emulator, DIR "/nobuiltins/libnvrtc.so.13");
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int again;
        for (again = 0; again < 2; again++) { /* compiled, then from the cache */
            awq_ctx ctx;
            awq_cuda *c;
            if (!again) remove_cache();
            memset(&ctx, 0, sizeof ctx);
            d = fresh();
            d.nvrtc = cases[i].files;
            env("AWQ_EMULATOR_COMPUTE", cases[i].compute);
            env("AWQ_EMULATOR_DRIVER", cases[i].driver);
            c = need(&ctx, &d);
            if (!c) continue;
            CHECK_MSG(!strcmp(c->info.arch, cases[i].arch) && c->info.nvrtc_major == cases[i].major, "%d: %s by NVRTC %d", (int)i,
                      c->info.arch, c->info.nvrtc_major);
            CHECK(c->info.cache_hits == again || strstr(cases[i].files, "nobuiltins"));
            /* plans are made for the code, not for the card */
            CHECK(awq__cuda_plan_device(c, 1).arch == atoi(strchr(cases[i].arch, '_') + 1));
            awq_cuda_free(&ctx, c);
            CHECK(ctx.memory_used == 0);
            clean();
        }
    }
    d = fresh();
    remove_cache();
    d.nvrtc = DIR "/nobuiltins/libnvrtc.so.13";
    refuse(&d, AWQ_E_UNSUPPORTED, "no NVRTC, NVIDIA's run-time compiler, that makes code for Emulated GPU 0",
           "its other half, libnvrtc-builtins of version 13.0, is not beside it");
    copy_file(emulator, DIR "/nobuiltins/libnvrtc-builtins.so.13.0");
    {
        awq_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        awq_cuda_free(&ctx, need(&ctx, &d));
        CHECK(ctx.memory_used == 0);
    }
    clean();
}

/* --- the cache */
static char logged[4096];

static void keep_log(void *user, awq_log_level level, const char *text)
{
    (void)user;
    snprintf(logged + strlen(logged), sizeof logged - strlen(logged), "%d %s\n", (int)level, text);
}

/* creates and frees; how the kernel came about, and what was said */
static void with_cache(const awq_cuda_desc *d, int compiled, int hits, const char *said)
{
    awq_ctx ctx;
    awq_cuda *c;
    memset(&ctx, 0, sizeof ctx);
    ctx.log = keep_log;
    logged[0] = 0;
    strcpy(ctx.err.text, "before");
    c = need(&ctx, d);
    if (!c) return;
    CHECK_MSG(c->info.compiled == compiled && c->info.cache_hits == hits, "%d compiled, %d from the cache", c->info.compiled,
              c->info.cache_hits);
    CHECK_MSG(said ? strstr(logged, said) != NULL : !logged[0] || !strncmp(logged, "0 compiled", 10), "[%s]", logged);
    CHECK(!strcmp(ctx.err.text, "before") || strstr(logged, ctx.err.text)); /* the cache's own failures stay its own */
    awq_cuda_free(&ctx, c);
    CHECK(ctx.memory_used == 0);
    clean();
}

static char *cached(const char *folder) /* the one file in it; NULL: none or more */
{
    static char path[512];
    char pattern[300];
    glob_t g;
    snprintf(pattern, sizeof pattern, "%s/*", folder);
    if (glob(pattern, 0, NULL, &g)) return NULL;
    snprintf(path, sizeof path, "%s", g.gl_pathv[0]);
    if (g.gl_pathc > 1) printf("    %s: %d files\n", folder, (int)g.gl_pathc), T.bad++;
    globfree(&g);
    return path;
}

static void test_cache(void)
{
    awq_cuda_desc d = fresh();
    struct stat s;
    char *path, *good, *bad;
    size_t n, i;
    NEED_EMULATOR;
    remove_cache();
    with_cache(&d, 1, 0, NULL);
    with_cache(&d, 0, 1, NULL);
    CHECK(!stat(CACHE, &s) && (s.st_mode & 0777) == 0700);
    path = cached(CACHE);
    CHECK(path != NULL && strstr(path, CACHE "/selftest-sm_90a-"));
    if (!path) return;
    good = get_file(path, &n);
    bad = (char *)malloc(n + 1);
    CHECK(n > AWQ__CUDA_CACHE_HEADER + 2 && !memcmp(good, "awq.h kernels 1", 16));
    if (n <= AWQ__CUDA_CACHE_HEADER + 2 || !bad) return;
    for (i = 0; i < n; i++) { /* each byte wrong, but for the zeros behind the checksum */
        if (i >= 40 && i < AWQ__CUDA_CACHE_HEADER) continue;
        memcpy(bad, good, n);
        bad[i] ^= 16;
        put_file(path, bad, n);
        with_cache(&d, 1, 0, i < 16 ? " is not of this program: compiled anew" : i < 24 ? " is of other code: compiled anew"
                             : i < 32 ? " is not whole: compiled anew" : " is damaged: compiled anew");
    }
    for (i = 0; i < n; i += i < 70 ? 1 : 13) { /* each length */
        put_file(path, good, i);
        with_cache(&d, 1, 0, i < AWQ__CUDA_CACHE_HEADER ? " is not of this program" : " is not whole");
    }
    memcpy(bad, good, n);
    put_file(path, bad, n + 1);
    with_cache(&d, 1, 0, " is not whole");
    with_cache(&d, 0, 1, NULL);
    /* whole, but the driver does not take it: as if the card were another one */
    memcpy(bad, good, n);
    {
        uint64_t sum;
        bad[n - 2] = '!';
        sum = awq__fnv(AWQ__FNV, bad + AWQ__CUDA_CACHE_HEADER, n - AWQ__CUDA_CACHE_HEADER);
        memcpy(bad + 32, &sum, 8);
    }
    put_file(path, bad, n);
    with_cache(&d, 1, 0, "CUDA_ERROR_INVALID_IMAGE (200), device kernel image is invalid; emulator: error : this is not for this "
                         "device; compiled anew");
    with_cache(&d, 0, 1, NULL);
    /* a folder of that name; it cannot be read, nor replaced, nor removed while it has something in it */
    CHECK(!remove(path) && !mkdir(path, 0700));
    with_cache(&d, 1, 0, "compiled anew");
    CHECK(!stat(path, &s) && S_ISREG(s.st_mode));
    with_cache(&d, 0, 1, NULL);
    /* other code, another NVRTC, another card: other files */
    env("AWQ_EMULATOR_NVRTC", "13.1");
    with_cache(&d, 1, 0, NULL);
    env("AWQ_EMULATOR_COMPUTE", "80");
    with_cache(&d, 1, 0, NULL);
    with_cache(&d, 0, 1, NULL);
    env("AWQ_EMULATOR_COMPUTE", NULL);
    env("AWQ_EMULATOR_NVRTC", NULL);
    with_cache(&d, 0, 1, NULL);
    d.no_cache = 1;
    with_cache(&d, 1, 0, NULL);
    free(good);
    free(bad);
}

static void test_cache_places(void)
{
    char *home = getenv("HOME"), kept[512], folder[256];
    awq_cuda_desc d = fresh();
    NEED_EMULATOR;
    snprintf(kept, sizeof kept, "%s", home ? home : "");
    CHECK(system("rm -rf " DIR "/home " DIR "/xdg " DIR "/given") == 0);
    d.cache_folder = NULL;
    env("AWQ_CACHE_DIR", DIR "/given/deep/er");
    with_cache(&d, 1, 0, NULL);
    CHECK(cached(DIR "/given/deep/er") != NULL);
    with_cache(&d, 0, 1, NULL);
    env("AWQ_CACHE_DIR", NULL);
    env("XDG_CACHE_HOME", DIR "/xdg");
    with_cache(&d, 1, 0, NULL);
    CHECK(cached(DIR "/xdg/awq-cuda") != NULL);
    env("XDG_CACHE_HOME", NULL);
    env("HOME", DIR "/home");
    with_cache(&d, 1, 0, NULL);
    CHECK(cached(DIR "/home/.cache/awq-cuda") != NULL);
    env("HOME", NULL);
    with_cache(&d, 1, 0, "2 CUDA kernels are compiled anew each time: no folder to keep them in; set AWQ_CACHE_DIR");
    if (home) env("HOME", kept);
    /* nowhere to write: a file is where the folder should be */
    put_file(DIR "/file", "x", 1);
    snprintf(folder, sizeof folder, "%s", DIR "/file/cache");
    d.cache_folder = folder;
    with_cache(&d, 1, 0, "2 CUDA kernels are compiled anew each time: " DIR "/file/cache cannot be written: Not a directory");
    with_cache(&d, 1, 0, "cannot be written");
}

/* the disk fails at the k-th operation, or is full: a compilation more, and that is all */
static void test_cache_faults(void)
{
    awq_cuda_desc d = fresh();
    fail_files f;
    long k;
    int round;
    NEED_EMULATOR;
    for (round = 0; round < 2; round++) { /* written, then read */
        remove_cache();
        if (round) with_cache(&d, 1, 0, NULL);
        for (k = 0; k < 40; k++) {
            awq_ctx ctx;
            awq_cuda *c;
            memset(&ctx, 0, sizeof ctx);
            if (!round) remove_cache();
            f.fail_at = k;
            f.calls = 0;
            d.cache_files = fail_file_system(&f);
            c = need(&ctx, &d);
            if (!c) return;
            CHECK(c->info.compiled + c->info.cache_hits == 1);
            awq_cuda_free(&ctx, c);
            CHECK(ctx.memory_used == 0);
            if (f.calls <= k) break;
        }
        CHECK_MSG(k > (round ? 2 : 5) && k < 40, "%ld operations", k);
        memset(&d.cache_files, 0, sizeof d.cache_files);
        with_cache(&d, 0, 1, NULL); /* whatever happened, what is there is right */
        CHECK(cached(CACHE) != NULL);
    }
    clean();
}

/* several processes at once start with an empty cache */
static void test_processes(void)
{
    awq_cuda_desc d = fresh();
    int i, status, bad = 0;
    NEED_EMULATOR;
    remove_cache();
    fflush(stdout);
    for (i = 0; i < 8; i++)
        if (!fork()) {
            int k, code = 0;
            for (k = 0; k < 20 && !code; k++) {
                awq_ctx ctx;
                awq_cuda *c = NULL;
                memset(&ctx, 0, sizeof ctx);
                if (awq_cuda_create(&ctx, &d, &c)) code = 1;
                awq_cuda_free(&ctx, c);
                /* it may be deleted at any time; rm fails when a file comes into the folder meanwhile */
                if (k == 10 && i == 0 && system("rm -rf " CACHE " 2> /dev/null") < 0) code = 2;
            }
            _exit(code);
        }
    for (i = 0; i < 8; i++) {
        if (wait(&status) < 0 || status) bad++;
    }
    CHECK_MSG(!bad, "%d of 8 processes failed", bad);
    with_cache(&d, 0, 1, NULL);
    CHECK(cached(CACHE) != NULL); /* no parts are left */
}

/* --- memory, copies, launches */
static unsigned char *pattern(size_t n)
{
    unsigned char *p = (unsigned char *)malloc(n + 1);
    uint64_t state = 7;
    size_t i;
    for (i = 0; p && i < n; i++) p[i] = (unsigned char)(i % 8 ? state >> 8 * (i % 8) : awq__random(&state));
    return p;
}

static void test_copies(void)
{
    static const size_t sizes[] = {1, 255, AWQ__CUDA_STAGE, AWQ__CUDA_STAGE + 1, 5 * AWQ__CUDA_STAGE + 12345};
    awq_cuda_desc d = fresh();
    int eager;
    size_t i;
    NEED_EMULATOR;
    for (eager = 0; eager < 2; eager++)
        for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            awq_ctx ctx;
            awq_cuda *c;
            uint64_t a = 0, b = 0;
            size_t n = sizes[i];
            unsigned char *from = pattern(n), *to = (unsigned char *)calloc(1, n + 1);
            memset(&ctx, 0, sizeof ctx);
            env("AWQ_EMULATOR_EAGER", eager ? "1" : NULL);
            c = need(&ctx, &d);
            if (!c || !from || !to) return;
            CHECK(awq_cuda_alloc(&ctx, c, n, &a) == AWQ_OK && awq_cuda_alloc(&ctx, c, n, &b) == AWQ_OK && a != b);
            CHECK(a % 256 == 0 && c->info.memory_used >= 2 * n && c->info.memory_used < 2 * n + 512);
            CHECK(awq_cuda_upload(&ctx, c, a, from, n) == AWQ_OK);
            CHECK(awq_cuda_fill(&ctx, c, b, 0x5a, n) == AWQ_OK);
            CHECK(awq_cuda_upload(&ctx, c, b, from, n / 2) == AWQ_OK);
            CHECK(awq_cuda_download(&ctx, c, to, a, n) == AWQ_OK && !memcmp(from, to, n) && !to[n]);
            memset(from + n / 2, 0x5a, n - n / 2);
            CHECK(awq_cuda_download(&ctx, c, to, b, n) == AWQ_OK && !memcmp(from, to, n) && !to[n]);
            CHECK(awq_cuda_upload(&ctx, c, a, NULL, 0) == AWQ_OK && awq_cuda_download(&ctx, c, NULL, a, 0) == AWQ_OK);
            CHECK(awq_cuda_sync(&ctx, c) == AWQ_OK);
            /* outside of every block */
            CHECK(awq_cuda_upload(&ctx, c, a + (n + 255) / 256 * 256, from, 1) == AWQ_E_DEVICE
                  && strstr(ctx.err.text, "CUDA device 0 (Emulated GPU 0): cuMemcpyHtoDAsync: CUDA_ERROR_INVALID_VALUE (1), invalid argument"));
            awq_cuda_release(&ctx, c, a);
            awq_cuda_release(&ctx, c, a); /* not there any more */
            awq_cuda_release(&ctx, c, 0);
            CHECK(c->info.memory_used < n + 256 && c->info.memory_peak >= 2 * n);
            awq_cuda_free(&ctx, c); /* and b */
            CHECK(ctx.memory_used == 0);
            clean();
            free(from);
            free(to);
        }
}

static void test_arena(void)
{
    awq_cuda_desc d = fresh();
    awq__cuda_arena a;
    awq_cuda_info in;
    awq_cuda *c;
    awq_ctx ctx;
    uint64_t p, before = 0;
    int i;
    NEED_EMULATOR;
    memset(&ctx, 0, sizeof ctx);
    memset(&a, 0, sizeof a);
    d.memory_limit = (size_t)200 << 20;
    c = need(&ctx, &d);
    if (!c) return;
    for (i = 0; i < 100; i++) {
        CHECK(awq__cuda_arena_alloc(&ctx, c, &a, (size_t)i * 37, &p) == AWQ_OK && p % 256 == 0);
        CHECK(!before || p == before + AWQ__MAX(((size_t)(i - 1) * 37 + 255) / 256, 1) * 256);
        before = p;
    }
    CHECK(a.n_slabs == 1 && c->info.memory_used == AWQ__CUDA_SLAB);
    CHECK(awq__cuda_arena_alloc(&ctx, c, &a, (size_t)100 << 20, &p) == AWQ_OK && a.n_slabs == 2); /* one of its own */
    CHECK(awq__cuda_arena_alloc(&ctx, c, &a, (size_t)100 << 20, &p) == AWQ_E_MEMORY
          && !strcmp(ctx.err.text, "CUDA device 0 (Emulated GPU 0): 138412032 bytes in use, 104857600 more asked for, the limit is "
                                   "209715200"));
    CHECK(awq__cuda_arena_alloc(&ctx, c, &a, SIZE_MAX - 5, &p) == AWQ_E_ARG);
    CHECK(awq_cuda_get_info(&ctx, c, &in) == AWQ_OK && in.memory_used == 138412032 && in.memory_limit == d.memory_limit
          && in.memory_total == (size_t)8 << 30 && in.memory_free == in.memory_total - in.memory_used);
    awq__cuda_arena_free(&ctx, c, &a);
    CHECK(c->info.memory_used == 0 && a.n_slabs == 0);
    CHECK(awq__cuda_arena_reserve(&ctx, c, &a, 1000) == AWQ_OK && c->info.memory_used == 1024);
    CHECK(awq__cuda_arena_alloc(&ctx, c, &a, 1000, &p) == AWQ_OK && c->info.memory_used == 1024);
    for (i = 0; i < 99; i++) CHECK(awq__cuda_arena_reserve(&ctx, c, &a, 1) == AWQ_OK);
    awq_cuda_free(&ctx, c); /* the arena's blocks too */
    CHECK(ctx.memory_used == 0);
    clean();
}

typedef struct selftest_args {
    uint64_t out;
    uint32_t n, seed;
    void *params[3];
} selftest_args;

static void set_args(selftest_args *a, uint64_t out, uint32_t n, uint32_t seed)
{
    a->out = out;
    a->n = n;
    a->seed = seed;
    a->params[0] = &a->out;
    a->params[1] = &a->n;
    a->params[2] = &a->seed;
}

static int right(const uint32_t *x, uint32_t n, uint32_t seed)
{
    uint32_t i;
    for (i = 0; i < n && x[i] == awq__cuda_mix(i, seed); i++) {}
    return i == n;
}

static void test_launches(void)
{
    static const unsigned grid[3] = {20, 1, 1};
    static uint32_t x[5000];
    static const char *const cards[] = {"75", "80", "90", "120"};
    size_t i;
    NEED_EMULATOR;
    for (i = 0; i < 4; i++) {
        awq_cuda_desc d = fresh();
        awq__cuda_timer t = {NULL, NULL};
        awq__cuda_kernel k, none;
        selftest_args a;
        awq_cuda *c;
        awq_ctx ctx;
        uint64_t p = 0;
        double seconds = -1;
        void *graph = NULL;
        awq_status st;
        memset(&ctx, 0, sizeof ctx);
        env("AWQ_EMULATOR_COMPUTE", cards[i]);
        c = need(&ctx, &d);
        if (!c || awq_cuda_alloc(&ctx, c, sizeof x, &p)) return;
        CHECK(c->programmatic && c->target == atoi(cards[i]));
        CHECK(awq__cuda_enter(&ctx, c) == AWQ_OK);
        CHECK(awq__cuda_find(&ctx, c, AWQ__CUDA_SELFTEST, "awq_selftest", 50000, &k) == AWQ_OK);
        CHECK(awq__cuda_find(&ctx, c, AWQ__CUDA_SELFTEST, "awq_nothing", 0, &none) == AWQ_E_DEVICE
              && strstr(ctx.err.text, "cuModuleGetFunction: CUDA_ERROR_NOT_FOUND (500)"));
        CHECK(awq__cuda_find(&ctx, c, AWQ__CUDA_SELFTEST, "awq_selftest", 300000, &none) == AWQ_E_LIMIT
              && strstr(ctx.err.text, "awq_selftest wants 300000 bytes of shared memory, a block of CUDA device 0"));
        /* arguments may change as soon as the launch returns */
        set_args(&a, p, 5000, 3);
        CHECK(awq__cuda_timer_start(&ctx, c, &t) == AWQ_OK);
        CHECK(awq__cuda_queue(&ctx, c, &k, grid, 256, 0, a.params) == AWQ_OK);
        set_args(&a, p, 5000, 4);
        CHECK(awq__cuda_timer_stop(&ctx, c, &t, &seconds) == AWQ_OK && seconds >= 0 && seconds < 10);
        CHECK(awq__cuda_download(&ctx, c, x, p, sizeof x) == AWQ_OK && right(x, 5000, 3));
        CHECK(awq__cuda_queue(&ctx, c, &k, grid, 256, 1, a.params) == AWQ_OK);
        CHECK(awq__cuda_download(&ctx, c, x, p, sizeof x) == AWQ_OK && right(x, 5000, 4));
        CHECK(calls("cuLaunchKernelEx") == (c->target >= 90 ? 1 : 0));
        CHECK(awq__cuda_queue(&ctx, c, &k, grid, 512, 0, a.params) == AWQ_E_DEVICE
              && strstr(ctx.err.text, "cuLaunchKernel: CUDA_ERROR_INVALID_VALUE"));
        /* recorded: nothing happens until it runs, each time it does */
        CHECK(awq__cuda_record_begin(&ctx, c) == AWQ_OK);
        set_args(&a, p + 400, 900, 5);
        st = AWQ__CU(&ctx, c, MemsetD8Async, (p, 0, sizeof x, c->stream));
        if (!st) st = awq__cuda_queue(&ctx, c, &k, grid, 256, 1, a.params);
        CHECK(awq__cuda_record_end(&ctx, c, st, &graph) == AWQ_OK && graph);
        CHECK(awq__cuda_download(&ctx, c, x, p, sizeof x) == AWQ_OK && right(x, 5000, 4));
        CHECK(awq__cuda_graph_run(&ctx, c, graph) == AWQ_OK);
        CHECK(awq__cuda_download(&ctx, c, x, p, sizeof x) == AWQ_OK && right(x + 100, 900, 5) && !x[0] && !x[1000]);
        memset(x, 7, sizeof x);
        CHECK(awq__cuda_upload(&ctx, c, p, x, sizeof x) == AWQ_OK && awq__cuda_graph_run(&ctx, c, graph) == AWQ_OK);
        CHECK(awq__cuda_download(&ctx, c, x, p, sizeof x) == AWQ_OK && right(x + 100, 900, 5) && !x[0] && !x[1000]);
        awq__cuda_graph_free(c, graph);
        awq__cuda_graph_free(c, NULL);
        /* what may not be recorded ends the recording, and work goes on */
        graph = NULL;
        CHECK(awq__cuda_record_begin(&ctx, c) == AWQ_OK);
        st = AWQ__CU(&ctx, c, StreamSynchronize, (c->stream));
        CHECK(st == AWQ_E_DEVICE && awq__cuda_record_end(&ctx, c, AWQ_OK, &graph) == AWQ_E_DEVICE && !graph
              && strstr(ctx.err.text, "cuStreamEndCapture: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED (901)"));
        CHECK(awq__cuda_record_begin(&ctx, c) == AWQ_OK);
        CHECK(awq__cuda_record_end(&ctx, c, AWQ_E_LIMIT, &graph) == AWQ_E_LIMIT && !graph);
        CHECK(awq__cuda_queue(&ctx, c, &k, grid, 256, 1, a.params) == AWQ_OK && awq_cuda_sync(&ctx, c) == AWQ_OK);
        awq__cuda_timer_free(c, &t);
        awq__cuda_leave(c);
        awq_cuda_free(&ctx, c);
        CHECK(ctx.memory_used == 0);
        clean();
    }
}

/* a kernel goes wrong: every call says so from then on, objects go, and a new one works */
static void test_lost(void)
{
    static const unsigned grid[3] = {4, 1, 1};
    static const char *const sentence = "CUDA device 0 (Emulated GPU 0) is lost to its context: ";
    awq_cuda_desc d = fresh();
    awq__cuda_kernel k;
    awq_cuda_info in;
    selftest_args a;
    awq_cuda *c;
    awq_ctx ctx;
    uint64_t p = 0, q = 0;
    char byte = 0;
    int round;
    NEED_EMULATOR;
    memset(&ctx, 0, sizeof ctx);
    for (round = 0; round < 2; round++) {
        c = need(&ctx, &d);
        if (!c) return;
        CHECK(awq_cuda_alloc(&ctx, c, 1000, &p) == AWQ_OK && awq__cuda_enter(&ctx, c) == AWQ_OK);
        CHECK(awq__cuda_find(&ctx, c, AWQ__CUDA_SELFTEST, "awq_selftest", 0, &k) == AWQ_OK);
        if (round) { /* an earlier one, the driver finds it at the next copy */
            env("AWQ_EMULATOR_FAIL", "cuMemcpyDtoHAsync_v2:1=700");
            reset();
        } else { /* outside of every block */
            set_args(&a, p + 4096, 1000, 1);
            CHECK(awq__cuda_queue(&ctx, c, &k, grid, 256, 0, a.params) == AWQ_OK);
        }
        awq__cuda_leave(c);
        CHECK(awq_cuda_download(&ctx, c, &byte, p, 1) == AWQ_E_DEVICE && strstr(ctx.err.text, sentence));
        CHECK_MSG(strstr(ctx.err.text, round ? "cuMemcpyDtoHAsync: CUDA_ERROR_ILLEGAL_ADDRESS (700), an illegal memory access"
                                             : "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (700), an illegal memory access")
                      && strstr(ctx.err.text, "the last kernel launched was awq_selftest; free what is on it and start the program again"),
                  "%s", ctx.err.text);
        CHECK(awq_cuda_sync(&ctx, c) == AWQ_E_DEVICE && strstr(ctx.err.text, sentence));
        CHECK(awq_cuda_alloc(&ctx, c, 1, &q) == AWQ_E_DEVICE && strstr(ctx.err.text, sentence) && !q);
        CHECK(awq_cuda_upload(&ctx, c, p, &byte, 1) == AWQ_E_DEVICE && awq_cuda_fill(&ctx, c, p, 0, 1) == AWQ_E_DEVICE);
        CHECK(awq_cuda_get_info(&ctx, c, &in) == AWQ_E_DEVICE);
        awq_cuda_release(&ctx, c, p);
        awq_cuda_free(&ctx, c);
        CHECK(ctx.memory_used == 0);
        clean();
        env("AWQ_EMULATOR_FAIL", NULL);
        reset();
    }
    c = need(&ctx, &d);
    awq_cuda_free(&ctx, c);
    clean();
}

/* --- the program's own context, stream and memory */
typedef struct host {
    awq__cuda_driver *cu;
    size_t blocks, bytes;
} host;

static uint64_t host_alloc(void *user, size_t bytes)
{
    host *h = (host *)user;
    uint64_t p = 0;
    if (h->bytes + bytes > 1 << 20 || h->cu->MemAlloc(&p, bytes)) return 0;
    h->blocks++;
    h->bytes += bytes;
    return p;
}

static void host_free(void *user, uint64_t ptr, size_t bytes)
{
    host *h = (host *)user;
    CHECK(!h->cu->MemFree(ptr));
    h->blocks--;
    h->bytes -= bytes;
}

static void test_host(void)
{
    int (*create)(void **context, unsigned flags, int device), (*destroy)(void *context), (*current)(void **context), mode;
    void *lib, *context = NULL, *other = NULL, *stream = NULL, *now = NULL;
    awq_cuda_desc d = fresh();
    awq__cuda_driver cu;
    awq_cuda *c;
    awq_ctx ctx;
    uint64_t p = 0, q = 0;
    host h;
    int round;
    NEED_EMULATOR;
    memset(&ctx, 0, sizeof ctx);
    env("AWQ_EMULATOR_DEVICES", "2");
    lib = dlopen(emulator, RTLD_NOW);
    CHECK(lib && !awq__cuda_bind(lib, awq__cuda_driver_symbols, &cu));
    *(void **)&create = dlsym(lib, "cuCtxCreate_v2");
    *(void **)&destroy = dlsym(lib, "cuCtxDestroy_v2");
    *(void **)&current = dlsym(lib, "cuCtxGetCurrent");
    CHECK(!cu.Init(0) && !create(&context, 0, 1) && !cu.StreamCreate(&stream, 0) && !create(&other, 0, 0));
    for (round = 0; round < 3; round++) { /* the context alone, the stream alone, both */
        memset(&h, 0, sizeof h);
        h.cu = &cu;
        d.context = round == 1 ? NULL : context;
        d.stream = round ? stream : NULL;
        d.alloc = host_alloc;
        d.free = host_free;
        d.user = &h;
        c = need(&ctx, &d);
        if (!c) break;
        CHECK(c->context == context && (round == 0) == (c->stream != stream) && c->info.index == 1 && !c->own_context
              && c->own_stream == !round && !strcmp(c->info.name, "Emulated GPU 1"));
        CHECK(!current(&now) && now == other);
        CHECK(awq_cuda_alloc(&ctx, c, 1000, &p) == AWQ_OK && h.blocks == 1 && h.bytes == 1024);
        CHECK(awq_cuda_alloc(&ctx, c, 2 << 20, &q) == AWQ_E_MEMORY && !q
              && strstr(ctx.err.text, "CUDA device 1 (Emulated GPU 1): the program has no block of 2097152 bytes"));
        CHECK(awq_cuda_fill(&ctx, c, p, 1, 1000) == AWQ_OK && awq_cuda_sync(&ctx, c) == AWQ_OK);
        CHECK(awq_cuda_alloc(&ctx, c, 1, &q) == AWQ_OK);
        awq_cuda_release(&ctx, c, p);
        CHECK(h.blocks == 1 && !current(&now) && now == other);
        mode = 1;
        CHECK(!cu.ThreadCaptureMode(&mode) && mode == 0 && awq_cuda_sync(&ctx, c) == AWQ_OK);
        mode = 0;
        CHECK(!cu.ThreadCaptureMode(&mode) && mode == 1); /* the thread's own, as it was */
        awq_cuda_free(&ctx, c);
        CHECK(h.blocks == 0 && h.bytes == 0 && ctx.memory_used == 0 && !current(&now) && now == other);
        q = 0;
    }
    CHECK(!destroy(other) && !cu.CtxPushCurrent(context) && !cu.StreamDestroy(stream) && !cu.CtxPopCurrent(&now) && !destroy(context));
    /* a context that is none any more */
    memset(&d.alloc, 0, sizeof d.alloc);
    memset(&d.free, 0, sizeof d.free);
    d.context = context;
    d.stream = NULL;
    CHECK(cu.CtxPopCurrent(&now) == 0 || 1);
    refuse(&d, AWQ_E_DEVICE, "cuCtxPushCurrent: CUDA_ERROR_INVALID_CONTEXT (201), invalid device context", NULL);
}

/* --- linears: what is refused, what is computed */
static void test_selftest(void)
{
    static const char *const cards[] = {"80", "90"}; /* for which the emulated kernels are compiled */
    int i;
    NEED_EMULATOR;
    for (i = 0; i < 2; i++) {
        awq_cuda_desc d = fresh();
        awq_cuda *c;
        awq_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        env("AWQ_EMULATOR_COMPUTE", cards[i]);
        env("AWQ_EMULATOR_LATE", i % 2 ? "1" : "0");
        env("AWQ_EMULATOR_SCHEDULE", i % 2 ? "3" : "1");
        c = need(&ctx, &d);
        if (!c) return;
        CHECK_MSG(awq__cuda_test_linears(&ctx, c, 24, i ? 1056 : 96, 0x3ff, 0x3ff, 0, 0) == AWQ_OK, "%s", ctx.err.text);
        CHECK_MSG(awq__cuda_test_linears(&ctx, c, 24, 96, 0, 15, 0, 1) == AWQ_OK, "%s", ctx.err.text);
        CHECK(!i || (c->partial && c->counters)); /* blocks shared the 16 tiles and a half */
        awq_cuda_free(&ctx, c);
        CHECK(ctx.memory_used == 0);
        clean();
    }
    {
        awq_cuda_desc d = fresh();
        awq_ctx ctx;
        awq_cuda *c;
        memset(&ctx, 0, sizeof ctx);
        c = need(&ctx, &d);
        if (!c) return;
        env("AWQ_EMULATOR_WRONG", "1"); /* the last byte of each copy to the host: lossy, y */
        CHECK(awq__cuda_test_linears(&ctx, c, 64, 64, 0x3ff, 0, 0, 0) == AWQ_E_DEVICE
              && strstr(ctx.err.text, "CUDA device 0 (Emulated GPU 0): awq_linear_") && strstr(ctx.err.text, "computes wrongly: of 1 rows, output 63 of row 199 is "));
        CHECK(awq_cuda_selftest(&ctx, NULL) == AWQ_E_ARG);
        awq_cuda_free(&ctx, c);
        CHECK(ctx.memory_used == 0);
        clean();
    }
}

static void test_linear(void)
{
    enum { N = 70, K = 200, KP = 256, ROWS = 6 };
    static uint16_t x[ROWS * KP], y[ROWS * N], twice[ROWS * N], once[N];
    static float w32[N * K], bias[N], y32[ROWS * N];
    awq_cuda_desc d = fresh();
    awq_cuda_linear l, dense, none;
    awq_cuda_info in;
    awq_qweight w;
    awq_cuda *c;
    awq_ctx ctx;
    uint64_t xp = 0, yp = 0, seed = 3;
    void *graph = NULL;
    awq_status st;
    int i, r, o, k;
    NEED_EMULATOR;
    memset(&ctx, 0, sizeof ctx);
    ctx.log = keep_log;
    logged[0] = 0;
    c = need(&ctx, &d);
    if (!c || awq_qweight_alloc(&ctx, N, K, 3, 40, 0, &w)) return;
    for (i = 0; i < N * K; i++) w.codes[i] = (uint8_t)(awq__random(&seed) & 7);
    for (i = 0; i < N * 5; i++) w.zeros[i] = (uint8_t)(i & 7), w.scales[i] = 0.01f + (float)i * 1e-4f;
    for (i = 0; i < N; i++) bias[i] = (float)i;
    for (i = 0; i < ROWS * KP; i++)
        x[i] = i % KP < K ? awq__float_f16((float)(int64_t)(awq__random(&seed) % 201) / 100 - 1) : 0;
    memset(&none, 0, sizeof none);
    /* refused */
    env("AWQ_EMULATOR_WRONG", "awq_dense_mma16_f16");
    CHECK(awq_cuda_linear_dense(&ctx, c, AWQ_F32, w32, N, K, NULL, AWQ_F16, &l) == AWQ_E_DEVICE
          && strstr(ctx.err.text, "awq_dense_mma16_f16 computes wrongly"));
    CHECK(awq_cuda_get_info(&ctx, c, &in) == AWQ_OK && in.memory_used == 0);
    env("AWQ_EMULATOR_WRONG", NULL);
    CHECK(awq_cuda_linear_prepare(&ctx, c, &w, NULL, AWQ_F16, &l) == AWQ_E_UNSUPPORTED
          && strstr(ctx.err.text, "groups of 40 inputs, expected a multiple of 32 or whole rows of 200"));
    CHECK(awq_cuda_linear_prepare(&ctx, c, &w, NULL, AWQ_F32, &l) == AWQ_E_ARG
          && strstr(ctx.err.text, "activations of type F32, expected F16 or BF16"));
    w.group_size = 33;
    CHECK(awq_cuda_linear_prepare(&ctx, c, &w, NULL, AWQ_F16, &l) == AWQ_E_ARG && strstr(ctx.err.text, "groups of 33 of 200 inputs"));
    CHECK(awq_cuda_linear_prepare(&ctx, c, NULL, NULL, AWQ_F16, &l) == AWQ_E_ARG);
    CHECK(awq_cuda_linear_dense(&ctx, c, AWQ_F32, w32, 10, 65537, NULL, AWQ_F16, &l) == AWQ_E_UNSUPPORTED
          && strstr(ctx.err.text, "65537 inputs, at most 65536 on CUDA"));
    CHECK(awq_cuda_linear_dense(&ctx, c, AWQ_I8, w32, 10, 10, NULL, AWQ_F16, &l) == AWQ_E_ARG && strstr(ctx.err.text, "weights of type I8"));
    CHECK(awq_cuda_linear_dense(&ctx, c, AWQ_F32, w32, 0, 10, NULL, AWQ_F16, &l) == AWQ_E_ARG && strstr(ctx.err.text, "a matrix of 0 x 10"));
    w32[17] = 70000;
    CHECK(awq_cuda_linear_dense(&ctx, c, AWQ_F32, w32, N, K, NULL, AWQ_F16, &l) == AWQ_E_NUMERIC
          && !strcmp(ctx.err.text, "awq_cuda_linear_dense: a weight is too large for F16"));
    CHECK(c->info.memory_used == 0);
    /* whole rows; scales that are no fp16 */
    w.group_size = K;
    CHECK(!logged[0] || !strstr(logged, "no fp16 numbers"));
    w.scales[3] = 1e6f;
    CHECK(awq_cuda_linear_prepare(&ctx, c, &w, bias, AWQ_F16, &l) == AWQ_E_NUMERIC
          && strstr(ctx.err.text, "a scale is not finite in fp16, or a zero point is above 15"));
    CHECK(awq_cuda_get_info(&ctx, c, &in) == AWQ_OK && in.memory_used == 0);
    w.scales[3] = 0.01f;
    CHECK(awq_cuda_linear_prepare(&ctx, c, &w, bias, AWQ_F16, &l) == AWQ_OK && strstr(logged, "scales of a linear are no fp16 numbers"));
    CHECK(l.bits == 4 && l.bytes == c->info.memory_used && l.out_features == N);
    for (i = 0; i < N; i++) w.scales[i] = awq__h(w.scales[i]);
    CHECK(awq_dequantize(&ctx, &w, w32) == AWQ_OK);
    CHECK(awq_cuda_linear_dense(&ctx, c, AWQ_F32, w32, N, K, bias, AWQ_F16, &dense) == AWQ_OK && dense.bits == 16);
    CHECK(awq_cuda_alloc(&ctx, c, sizeof x, &xp) == AWQ_OK && awq_cuda_alloc(&ctx, c, sizeof y32, &yp) == AWQ_OK);
    CHECK(awq_cuda_upload(&ctx, c, xp, x, sizeof x) == AWQ_OK);
    CHECK(awq_cuda_linear_run(&ctx, c, &l, xp, KP - 8, ROWS, AWQ_F16, yp, N, 0) == AWQ_E_ARG
          && strstr(ctx.err.text, "6 rows of x, 248 apart; expected at least 256 apart"));
    CHECK(awq_cuda_linear_run(&ctx, c, &l, xp + 8, KP, ROWS, AWQ_F16, yp, N, 0) == AWQ_E_ARG);
    CHECK(awq_cuda_linear_run(&ctx, c, &l, xp, KP, ROWS, AWQ_F16, yp, N - 1, 0) == AWQ_E_ARG
          && strstr(ctx.err.text, "rows of y are 69 apart, expected at least 70"));
    CHECK(awq_cuda_linear_run(&ctx, c, &l, xp, KP, ROWS, AWQ_F16, yp + 1, N, 0) == AWQ_E_ARG
          && awq_cuda_linear_run(&ctx, c, &l, xp, KP, ROWS, AWQ_F32, yp + 2, N, 0) == AWQ_E_ARG
          && strstr(ctx.err.text, "y aligned to its numbers"));
    CHECK(awq_cuda_linear_run(&ctx, c, &l, xp, KP, ROWS, AWQ_BF16, yp, N, 0) == AWQ_E_ARG && strstr(ctx.err.text, "expected F32 or F16"));
    CHECK(awq_cuda_linear_run(&ctx, c, &none, xp, KP, ROWS, AWQ_F16, yp, N, 0) == AWQ_E_ARG);
    CHECK(awq_cuda_linear_run(&ctx, c, &l, xp, KP, 0, AWQ_F16, 0, N, 0) == AWQ_OK);
    /* fp32, dense and quantized; then fp16, then added to itself */
    for (k = 0; k < 2; k++) {
        CHECK(awq_cuda_linear_run(&ctx, c, k ? &dense : &l, xp, KP, ROWS, AWQ_F32, yp, N, 0) == AWQ_OK);
        CHECK(awq_cuda_download(&ctx, c, y32, yp, sizeof y32) == AWQ_OK);
        for (r = 0; r < ROWS; r++)
            for (o = 0; o < N; o++) {
                double sum = bias[o], size = bias[o];
                for (i = 0; i < K; i++) {
                    double p = (double)w32[o * K + i] * awq__f16_float(x[r * KP + i]);
                    sum += p;
                    size += fabs(p);
                }
                CHECK_MSG(fabs(y32[r * N + o] - sum) <= size / 1024, "%s row %d output %d: %g, not %g", k ? "dense" : "4 bits", r, o,
                          y32[r * N + o], sum);
            }
    }
    CHECK(awq_cuda_linear_run(&ctx, c, &l, xp, KP, ROWS, AWQ_F16, yp, N, AWQ_CUDA_SAME_BITS) == AWQ_OK
          && awq_cuda_download(&ctx, c, y, yp, sizeof y) == AWQ_OK);
    for (r = 0; r < ROWS; r++) { /* alone as among others */
        CHECK(awq_cuda_linear_run(&ctx, c, &l, xp + (uint64_t)r * KP * 2, KP, 1, AWQ_F16, yp, N, AWQ_CUDA_SAME_BITS) == AWQ_OK
              && awq_cuda_download(&ctx, c, once, yp, sizeof once) == AWQ_OK && !memcmp(once, y + r * N, sizeof once));
    }
    CHECK(awq_cuda_upload(&ctx, c, yp, y, sizeof y) == AWQ_OK && awq__cuda_enter(&ctx, c) == AWQ_OK);
    CHECK(awq__cuda_record_begin(&ctx, c) == AWQ_OK); /* in a graph too */
    st = awq_cuda_linear_run(&ctx, c, &l, xp, KP, ROWS, AWQ_F16, yp, N, AWQ_CUDA_ADD | AWQ_CUDA_SAME_BITS);
    CHECK(awq__cuda_record_end(&ctx, c, st, &graph) == AWQ_OK && awq__cuda_graph_run(&ctx, c, graph) == AWQ_OK);
    CHECK(awq_cuda_download(&ctx, c, twice, yp, sizeof twice) == AWQ_OK);
    for (i = 0; i < ROWS * N; i++)
        CHECK_MSG(fabs(awq__f16_float(twice[i]) - 2 * awq__f16_float(y[i])) <= 2e-3 * fabs(awq__f16_float(y[i])) + 1e-6, "%d: %g, %g", i,
                  awq__f16_float(twice[i]), awq__f16_float(y[i]));
    awq__cuda_graph_free(c, graph);
    awq__cuda_leave(c);
    awq_cuda_linear_free(&ctx, c, &l);
    CHECK(!l.weights && !l.params && !l.bias);
    awq_cuda_linear_free(&ctx, c, &l);
    awq_cuda_linear_free(&ctx, c, &dense);
    awq_qweight_free(&ctx, &w);
    awq_cuda_free(&ctx, c);
    CHECK(ctx.memory_used == 0);
    clean();
    /* no BF16 on Turing */
    env("AWQ_EMULATOR_COMPUTE", "75");
    c = need(&ctx, &d);
    CHECK(awq_cuda_linear_dense(&ctx, c, AWQ_F32, w32, 4, 4, NULL, AWQ_BF16, &l) == AWQ_E_UNSUPPORTED
          && strstr(ctx.err.text, "BF16 needs compute capability 8.0, CUDA device 0 (Emulated GPU 0) has 7.5, its code is for sm_75: take F16"));
    awq_cuda_free(&ctx, c);
    clean();
}

/* groups and bits of any kind, more outputs than a grid has rows of blocks */
static void test_linear_shapes(void)
{
    static const struct {
        int64_t n, k, group;
        int bits;
    } cases[] = {{70, 192, 96, 5}, {65, 96, 96, 2}, {130, 256, 128, 8}, {64, 64, 64, 4}, {33, 160, 32, 7}, {33000, 48, 0, 16}};
    awq_cuda_desc d = fresh();
    awq_cuda *c;
    awq_ctx ctx;
    size_t i;
    NEED_EMULATOR;
    memset(&ctx, 0, sizeof ctx);
    c = need(&ctx, &d);
    if (!c) return;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t n = cases[i].n, k = cases[i].k, j, o;
        uint64_t seed = i + 1, xp = 0, yp = 0;
        uint16_t x[256] = {0};
        float *w32 = (float *)malloc((size_t)(n * k) * sizeof *w32), *y = (float *)malloc((size_t)n * sizeof *y);
        awq_cuda_linear l;
        awq_qweight w;
        awq_status st;
        if (!w32 || !y) return;
        for (j = 0; j < k; j++) x[j] = awq__float_f16((float)(int64_t)(awq__random(&seed) % 201) / 100 - 1);
        if (cases[i].bits == 16) {
            for (j = 0; j < n * k; j++) w32[j] = (float)(int64_t)(awq__random(&seed) % 201) / 64 - 1;
            st = awq_cuda_linear_dense(&ctx, c, AWQ_F32, w32, n, k, NULL, AWQ_F16, &l);
        } else {
            if (awq_qweight_alloc(&ctx, n, k, cases[i].bits, cases[i].group, 0, &w)) return;
            for (j = 0; j < n * k; j++) w.codes[j] = (uint8_t)(awq__random(&seed) & ((1u << w.bits) - 1));
            for (j = 0; j < n * (k / w.group_size); j++) {
                w.zeros[j] = (uint8_t)(awq__random(&seed) & ((1u << w.bits) - 1));
                w.scales[j] = awq__h((float)(awq__random(&seed) % 100 + 1) * 1e-3f);
            }
            CHECK(awq_dequantize(&ctx, &w, w32) == AWQ_OK);
            st = awq_cuda_linear_prepare(&ctx, c, &w, NULL, AWQ_F16, &l);
            awq_qweight_free(&ctx, &w);
        }
        CHECK_MSG(st == AWQ_OK, "%s", ctx.err.text);
        CHECK(awq_cuda_alloc(&ctx, c, sizeof x, &xp) == AWQ_OK && awq_cuda_alloc(&ctx, c, (size_t)n * 4, &yp) == AWQ_OK);
        CHECK(awq_cuda_upload(&ctx, c, xp, x, sizeof x) == AWQ_OK);
        CHECK_MSG(awq_cuda_linear_run(&ctx, c, &l, xp, 256, 1, AWQ_F32, yp, n, 0) == AWQ_OK, "%s", ctx.err.text);
        CHECK(awq_cuda_download(&ctx, c, y, yp, (size_t)n * 4) == AWQ_OK);
        for (o = 0; o < n; o++) {
            double sum = 0, size = 0;
            for (j = 0; j < k; j++) {
                sum += (double)w32[o * k + j] * awq__f16_float(x[j]);
                size += fabs((double)w32[o * k + j] * awq__f16_float(x[j]));
            }
            if (fabs(y[o] - sum) <= size / 1024) continue;
            CHECK_MSG(0, "case %d, output %d: %g, not %g", (int)i, (int)o, y[o], sum);
            break;
        }
        awq_cuda_linear_free(&ctx, c, &l);
        awq_cuda_release(&ctx, c, xp);
        awq_cuda_release(&ctx, c, yp);
        free(w32);
        free(y);
    }
    awq_cuda_free(&ctx, c);
    CHECK(ctx.memory_used == 0);
    clean();
}

/* --- everything fails once */
static long work_calls; /* of the driver until the work was done and freeing began */

static awq_status whole_life(awq_ctx *ctx, awq_cuda_desc d)
{
    static const unsigned grid[3] = {4, 1, 1};
    static uint32_t x[1000];
    awq__cuda_timer t = {NULL, NULL};
    awq__cuda_arena arena;
    awq__cuda_kernel k;
    awq_cuda_info in;
    selftest_args a;
    awq_cuda *c = NULL;
    uint64_t p = 0, q = 0;
    double seconds;
    void *graph = NULL;
    static uint8_t codes[64 * 64], zeros[64];
    static float scales[64];
    awq_cuda_linear l;
    awq_qweight w;
    awq_status st;
    d.no_selftest = 1; /* what it leaves undone in the end is of no matter; test_cuda_load lets it fail */
    st = awq_cuda_create(ctx, &d, &c);
    memset(&arena, 0, sizeof arena);
    memset(&l, 0, sizeof l);
    memset(&w, 0, sizeof w);
    w.out_features = w.in_features = w.group_size = 64;
    w.bits = 4;
    w.codes = codes;
    w.zeros = zeros;
    w.scales = scales;
    if (st) return st;
    st = awq__cuda_enter(ctx, c);
    if (!st) {
        st = awq__cuda_arena_alloc(ctx, c, &arena, sizeof x, &p);
        if (!st) st = awq_cuda_alloc(ctx, c, sizeof x, &q);
        if (!st) st = awq__cuda_find(ctx, c, AWQ__CUDA_SELFTEST, "awq_selftest", 60000, &k);
        if (!st) st = awq__cuda_timer_start(ctx, c, &t);
        set_args(&a, p, 1000, 9);
        if (!st) st = awq__cuda_record_begin(ctx, c);
        if (!st) st = awq__cuda_record_end(ctx, c, awq__cuda_queue(ctx, c, &k, grid, 256, 1, a.params), &graph);
        if (!st) st = awq__cuda_graph_run(ctx, c, graph);
        if (!st) st = awq__cuda_timer_stop(ctx, c, &t, &seconds);
        if (!st) st = awq_cuda_upload(ctx, c, q, x, sizeof x);
        if (!st) st = awq_cuda_fill(ctx, c, q, 1, sizeof x);
        if (!st) st = awq_cuda_download(ctx, c, x, p, sizeof x);
        if (!st) CHECK(right(x, 1000, 9));
        if (!st) st = awq_cuda_linear_prepare(ctx, c, &w, scales, AWQ_F16, &l);
        if (!st) st = awq_cuda_linear_run(ctx, c, &l, p, 64, 1, AWQ_F32, q, 64, 0);
        if (!st) st = awq__cuda_workspace(ctx, c, 1000, 10);
        if (!st) st = awq_cuda_get_info(ctx, c, &in);
        if (!st) st = awq_cuda_sync(ctx, c);
        work_calls = calls ? calls("*") : 0;
        awq__cuda_graph_free(c, graph);
        awq__cuda_timer_free(c, &t);
        awq__cuda_leave(c);
    }
    awq_cuda_linear_free(ctx, c, &l);
    awq__cuda_arena_free(ctx, c, &arena);
    awq_cuda_release(ctx, c, q);
    awq_cuda_free(ctx, c);
    return st;
}

static void test_every_call(void)
{
    static const char *const codes[] = {"", "=2", "=700", "=999"};
    awq_cuda_desc d = fresh();
    char fail[64];
    int k, code, n = 0;
    NEED_EMULATOR;
    for (code = 0; code < 4; code++)
        for (k = 1; k < 400; k++) {
            awq_ctx ctx;
            awq_status st;
            memset(&ctx, 0, sizeof ctx);
            remove_cache();
            snprintf(fail, sizeof fail, "*:%d%s", k, codes[code]);
            env("AWQ_EMULATOR_FAIL", fail);
            reset();
            st = whole_life(&ctx, d);
            if (calls("*") < k) { /* everything was done before */
                CHECK_MSG(st == AWQ_OK, "%s: %s", fail, ctx.err.text);
                break;
            }
            n++;
            CHECK_MSG(st ? ctx.err.status == st && ctx.err.text[0] : work_calls < k, "%s: %s", fail, ctx.err.text);
            CHECK_MSG(ctx.memory_used == 0, "%s: %d bytes", fail, (int)ctx.memory_used);
            env("AWQ_EMULATOR_FAIL", NULL);
            clean();
            reset();
        }
    printf("    %d calls failed once\n", n);
    CHECK(n > 400);
}

static void test_every_allocation(void)
{
    awq_cuda_desc d = fresh();
    fail_alloc f = {0, 0, 0};
    int round;
    NEED_EMULATOR;
    for (round = 0; round < 2; round++)
        for (f.fail_at = 0; f.fail_at < 500; f.fail_at++) {
            awq_ctx ctx;
            awq_status st;
            memset(&ctx, 0, sizeof ctx);
            f.calls = 0;
            ctx.allocator = fail_allocator(&f);
            if (round == 0) remove_cache();
            if (round < 1) st = whole_life(&ctx, d);
            else {
                awq_cuda_report r;
                memset(&r, 0, sizeof r);
                st = awq_cuda_doctor(&ctx, &d, &r);
                if (!st) st = r.status;
                awq_text_free(&ctx, r.text);
            }
            CHECK_MSG(f.live == 0, "allocation %ld: %d bytes live", f.fail_at, (int)f.live);
            clean();
            if (f.calls <= f.fail_at) {
                CHECK_MSG(st == AWQ_OK, "%s", ctx.err.text);
                break;
            }
            CHECK_MSG(st == AWQ_E_MEMORY || st == AWQ_OK, "allocation %ld: %s: %s", f.fail_at, awq_status_name(st), ctx.err.text);
        }
}

/* every family of the header is in the emulator, loads, and gives up its compiled form from the cache */
static void test_families(void)
{
    awq_cuda_desc d = fresh();
    int i, again;
    NEED_EMULATOR;
    remove_cache();
    for (again = 0; again < 2; again++) {
        awq_ctx ctx;
        awq_cuda *c;
        void *module = NULL;
        memset(&ctx, 0, sizeof ctx);
        c = need(&ctx, &d);
        if (!c || awq__cuda_enter(&ctx, c)) return;
        for (i = 0; i < AWQ__CUDA_FAMILIES; i++) {
            CHECK_MSG(kernels(awq__cuda_family[i].name) > 0, "%s is not in tests/cuda/driver.cpp", awq__cuda_family[i].name);
            CHECK_MSG(awq__cuda_module(&ctx, c, i, "any", &module) == AWQ_OK && module, "%s", ctx.err.text);
        }
        CHECK(c->info.compiled == (again ? 0 : AWQ__CUDA_FAMILIES) && c->info.cache_hits == (again ? AWQ__CUDA_FAMILIES : 0));
        awq__cuda_leave(c);
        awq_cuda_free(&ctx, c);
        CHECK(ctx.memory_used == 0);
        clean();
    }
}

/* the NVRTC of this machine compiles the text in the header; the emulated driver looks for the kernels in its cubins */
static void test_real_nvrtc(void)
{
    static const char *const cards[] = {"90", "75"};
    int i;
    NEED_EMULATOR;
    for (i = 0; i < 2; i++) {
        awq_cuda_desc d = fresh();
        awq_cuda *c = NULL;
        awq__cuda_kernel f;
        awq_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        remove_cache();
        d.nvrtc = NULL;
        env("AWQ_EMULATOR_COMPUTE", cards[i]);
        if (awq_cuda_create(&ctx, &d, &c) == AWQ_E_UNSUPPORTED && strstr(ctx.err.text, "no NVRTC")) {
            printf("    no NVRTC is here\n");
            return;
        }
        CHECK_MSG(c != NULL, "%s", ctx.err.text);
        if (!c || awq__cuda_enter(&ctx, c)) return;
        CHECK_MSG(awq__cuda_find(&ctx, c, AWQ__CUDA_LINEAR, "awq_linear_mma8_f16", 0, &f) == AWQ_OK, "%s", ctx.err.text);
        printf("    NVRTC %d.%d, %s: %d families in %.1f s\n", c->info.nvrtc_major, c->info.nvrtc_minor, c->info.arch,
               c->info.compiled, c->info.compile_seconds);
        awq__cuda_leave(c);
        awq_cuda_free(&ctx, c);
        CHECK(ctx.memory_used == 0);
        clean();
    }
}

/* the same life on a GPU, where one is */
static void test_device(void)
{
    awq_cuda_desc d = fresh();
    awq_cuda *c = NULL;
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    d.driver = d.nvrtc = NULL;
    if (awq_cuda_create(&ctx, &d, &c)) {
        printf("    here: %s\n", ctx.err.text);
        return;
    }
    printf("    %s, %s\n", c->info.name, c->info.arch);
    awq_cuda_free(&ctx, c);
    CHECK_MSG(whole_life(&ctx, d) == AWQ_OK, "%s", ctx.err.text);
    CHECK(awq_cuda_create(&ctx, &d, &c) == AWQ_OK);
    CHECK_MSG(awq_cuda_selftest(&ctx, c) == AWQ_OK, "%s", ctx.err.text);
    awq_cuda_free(&ctx, c);
    CHECK(ctx.memory_used == 0);
}

/* what a doctor finds missing, as gates: the first that is, with its sentence; those behind it are not asked */
static void test_preflight(void)
{
    static const char *const ids[] = {"G12.driver", "G12.compute", "G12.compiler", "G12.gpu_memory", "G12.kernel"};
    int lack, k;
    for (lack = 0; lack <= 5; lack++) {
        static awq_guard_report r;
        awq_cuda_report d[2];
        memset(&r, 0, sizeof r);
        memset(d, 0, sizeof d);
        for (k = 0; k < 2; k++) {
            const int all = k == 0; /* the second device is the one that lacks something */
            d[k].info.driver_version = all || lack > 0 ? 13000 : 0;
            d[k].info.compute_major = 7;
            d[k].info.compute_minor = all || lack > 1 ? 5 : 0;
            d[k].info.nvrtc_major = all || lack > 2 ? 13 : 0;
            d[k].info.memory_limit = all || lack > 3 ? 1 << 30 : 0;
            d[k].status = all || lack > 4 ? AWQ_OK : AWQ_E_DEVICE;
            if (d[k].status) snprintf(d[k].error, sizeof d[k].error, "it lacks %d", lack);
        }
        awq_cuda_preflight(d, 2, &r);
        CHECK(r.n_gates == (lack < 5 ? lack + 1 : 5) && r.verdict == (lack < 5 ? AWQ_FAIL : AWQ_PASS));
        for (k = 0; k < r.n_gates; k++)
            CHECK_MSG(!strcmp(r.gate[k].id, ids[k]) && r.gate[k].severity == (k == lack ? AWQ_FAIL : AWQ_PASS)
                          && !strncmp(r.gate[k].text, k == lack ? "it lacks" : "", 8),
                      "%d: %s %s", lack, r.gate[k].id, r.gate[k].text);
    }
}

static void test_doctor(void)
{
    awq_cuda_desc d = fresh();
    awq_cuda_report r;
    awq_ctx ctx;
    char text[1500];
    const char *at;
    int lines;
    NEED_EMULATOR;
    memset(&ctx, 0, sizeof ctx);
    remove_cache();
    CHECK(awq_cuda_doctor(&ctx, &d, &r) == AWQ_OK && r.status == AWQ_OK && !r.error[0]);
    CHECK_MSG(strstr(r.text, "F16: 9 compiled in ") && strstr(r.text, " ms, 0 from the cache\n  attention  compiled in "), "[%s]",
              r.text);
    CHECK(r.info.compiled == 9 && r.info.cache_hits == 0 && r.info.create_seconds > 0
          && r.info.create_seconds >= r.info.init_seconds + r.info.context_seconds);
    awq_text_free(&ctx, r.text);
    CHECK(awq_cuda_doctor(&ctx, &d, &r) == AWQ_OK && r.info.compiled == 0 && r.info.cache_hits == 9);
    snprintf(text, sizeof text, "driver       CUDA 13.0, %s\n"
                                "device       0: Emulated GPU 0, compute capability 9.0, 2 multiprocessors\n"
                                "memory       8.6 GB, 8.6 GB free, 8.2 GB may be used\n"
                                "NVRTC        13.0, %s, for sm_90a\n"
                                "cache        " CACHE "\n"
                                "start        ", emulator, emulator);
    CHECK_MSG(!strncmp(r.text, text, strlen(text)), "[%s]", r.text);
    CHECK(strstr(r.text, "F16: 0 compiled in 0 ms, 9 from the cache\n  attention  loaded from the cache in "));
    for (lines = 0, at = r.text; (at = strstr(at, " loaded from the cache in ")) != NULL; at++) lines++;
    CHECK(lines == 9);
    CHECK(strstr(r.text, " ms\nverdict      ready: these kernels computed what they should\n"));
    awq_text_free(&ctx, r.text);
    env("AWQ_EMULATOR_WRONG", "awq_norm_f16"); /* one of them does not */
    CHECK(awq_cuda_doctor(&ctx, &d, &r) == AWQ_OK && r.status == AWQ_E_DEVICE && strstr(r.error, "norm"));
    CHECK_MSG(strstr(r.text, "verdict      no: ") && strstr(r.text, r.error), "[%s]", r.text);
    awq_text_free(&ctx, r.text);
    d.no_selftest = 1;
    CHECK(awq_cuda_doctor(&ctx, &d, &r) == AWQ_OK && r.status == AWQ_OK);
    CHECK(strstr(r.text, "ready: the first kernel computed what it should, the others were not tried\n"));
    awq_text_free(&ctx, r.text);
    env("AWQ_EMULATOR_WRONG", NULL);
    CHECK(ctx.memory_used == 0);
    clean();
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    if (system("mkdir -p " DIR)) return 1;
    find_emulator();
    RUN(test_device); /* first: a library of that name, once open, is found by any path */
    RUN(test_arch);
    RUN(test_no_driver);
    RUN(test_stub);
    RUN(test_places);
    RUN(test_driver_refusals);
    RUN(test_memory_refusals);
    RUN(test_nvrtc_refusals);
    RUN(test_nvrtc_choice);
    RUN(test_cache);
    RUN(test_cache_places);
    RUN(test_cache_faults);
    RUN(test_processes);
    RUN(test_copies);
    RUN(test_arena);
    RUN(test_launches);
    RUN(test_lost);
    RUN(test_host);
    RUN(test_linear);
    RUN(test_linear_shapes);
    RUN(test_selftest);
    RUN(test_every_call);
    RUN(test_every_allocation);
    RUN(test_preflight);
    RUN(test_doctor);
    RUN(test_families);
    RUN(test_real_nvrtc);
    if (system("rm -rf " DIR)) return 1;
    return TEST_END();
}
