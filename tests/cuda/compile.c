/* compile.c - compiles the kernels of tools/cuda with NVRTC for every processor it supports; needs no GPU

       cc -O2 -o compile tests/cuda/compile.c -ldl && ./compile [-v] [-a 90a,80] [-o FOLDER] [family ...]

   run in the repository's root. A family is a file tools/cuda/NAME.cuh; prims.cuh, common.cuh and block.cuh are put
   before it, as awq_cuda.h does. Prints a line for each family and processor: milliseconds, bytes of the cubin, most
   registers of a kernel, kernels that spill; with -v a line for each kernel; -o keeps the cubins. Fails when a
   compile fails or warns, or when a kernel spills. The library is $AWQ_NVRTC, else what the loader finds, else
   that of /usr/local/cuda. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct program *program;
static int (*nvrtc_version)(int *, int *);
static int (*nvrtc_archs)(int *);
static int (*nvrtc_arch_count)(int *);
static int (*nvrtc_create)(program *, const char *, const char *, int, const char *const *,
                           const char *const *);
static int (*nvrtc_compile)(program, int, const char *const *);
static int (*nvrtc_log_size)(program, size_t *);
static int (*nvrtc_log)(program, char *);
static int (*nvrtc_cubin_size)(program, size_t *);
static int (*nvrtc_cubin)(program, char *);
static int (*nvrtc_destroy)(program *);
static const char *(*nvrtc_error)(int);

static int verbose;
static const char *folder;

static void *library(void)
{
    const char *names[] = {NULL,
                           "libnvrtc.so.13",
                           "libnvrtc.so.12",
                           "libnvrtc.so",
                           "/usr/local/cuda/lib64/libnvrtc.so",
                           "/usr/local/cuda/targets/x86_64-linux/lib/libnvrtc.so"};
    void *lib = NULL;
    names[0] = getenv("AWQ_NVRTC");
    for (size_t i = 0; i < sizeof names / sizeof *names && !lib; i++)
        if (names[i] && *names[i]) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return lib;
}

static int load(void)
{
    struct {
        void *function;
        const char *name;
    } symbols[] = {{&nvrtc_version, "nvrtcVersion"},
                   {&nvrtc_archs, "nvrtcGetSupportedArchs"},
                   {&nvrtc_arch_count, "nvrtcGetNumSupportedArchs"},
                   {&nvrtc_create, "nvrtcCreateProgram"},
                   {&nvrtc_compile, "nvrtcCompileProgram"},
                   {&nvrtc_log_size, "nvrtcGetProgramLogSize"},
                   {&nvrtc_log, "nvrtcGetProgramLog"},
                   {&nvrtc_cubin_size, "nvrtcGetCUBINSize"},
                   {&nvrtc_cubin, "nvrtcGetCUBIN"},
                   {&nvrtc_destroy, "nvrtcDestroyProgram"},
                   {&nvrtc_error, "nvrtcGetErrorString"}};
    void *lib = library();
    if (!lib) return 0;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *f = dlsym(lib, symbols[i].name);
        if (!f) {
            printf("%s is not in the library\n", symbols[i].name);
            return 0;
        }
        memcpy(symbols[i].function, &f, sizeof f);
    }
    return 1;
}

static char *append(char *text, const char *path)
{
    FILE *f = fopen(path, "rb");
    size_t had = text ? strlen(text) : 0, n;
    if (!f) {
        printf("cannot open %s\n", path);
        exit(2);
    }
    fseek(f, 0, SEEK_END);
    n = (size_t)ftell(f);
    rewind(f);
    text = (char *)realloc(text, had + n + 1);
    if (!text) exit(2);
    text[had + fread(text + had, 1, n, f)] = 0;
    fclose(f);
    return text;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* what ptxas says: "Compiling entry function 'NAME'", "N bytes spill stores, N bytes spill loads", "Used N
   registers"; any other line with "warning" counts */
static int read_log(char *log, int *max_registers, char *max_name, int *spilled, int *warnings)
{
    char *name = NULL;
    int kernels = 0, stores = 0, loads = 0;
    *max_registers = *spilled = *warnings = 0;
    for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
        char *p;
        if (strstr(line, "warning") || strstr(line, "serialized")) {
            printf("    %s\n", line);
            ++*warnings;
        }
        if ((p = strstr(line, "Compiling entry function '"))) {
            name = p + 26;
            if ((p = strchr(name, '\''))) *p = 0;
        }
        if ((p = strstr(line, "bytes stack frame,"))) {
            sscanf(p, "bytes stack frame, %d bytes spill stores, %d bytes spill loads", &stores, &loads);
            if (stores || loads) ++*spilled;
        }
        if ((p = strstr(line, "Used ")) && name) {
            int registers = atoi(p + 5);
            kernels++;
            if (registers > *max_registers) {
                *max_registers = registers;
                snprintf(max_name, 64, "%s", name);
            }
            if (strstr(name, "wgmma256") && registers != 168) { /* what its setmaxnreg counts on */
                printf("    %s: %d registers, not 168\n", name, registers);
                ++*warnings;
            }
            if (verbose || stores || loads)
                printf("    %-40s %3d registers%s", name, registers, stores || loads ? "" : "\n");
            if (stores || loads) printf(", spills %d bytes out, %d in\n", stores, loads);
            stores = loads = 0;
        }
    }
    return kernels;
}

static int compile(const char *family, const char *text, const char *arch)
{
    char option[64], name[128], max_name[64] = "";
    const char *options[] = {option, "--std=c++17", "--ptxas-options=-v"};
    program p = NULL;
    size_t size = 0, cubin = 0;
    int status, registers, spilled, warnings, kernels;
    char *log;
    double t;
    snprintf(option, sizeof option, "--gpu-architecture=sm_%s", arch);
    snprintf(name, sizeof name, "%s.cuh", family);
    t = now();
    status = nvrtc_create(&p, text, name, 0, NULL, NULL);
    if (!status) status = nvrtc_compile(p, 3, options);
    t = now() - t;
    nvrtc_log_size(p, &size);
    log = (char *)calloc(1, size + 1);
    if (!log) exit(2);
    if (size) nvrtc_log(p, log);
    if (status) {
        printf("%-14s sm_%-5s FAILED: %s\n%s\n", family, arch, nvrtc_error(status), log);
        free(log);
        return 1;
    }
    kernels = read_log(log, &registers, max_name, &spilled, &warnings);
    nvrtc_cubin_size(p, &cubin);
    printf("%-14s sm_%-5s %7.0f ms %8zu bytes  %2d kernels  max %3d registers (%s)%s%s\n", family, arch, t,
           cubin, kernels, registers, max_name, spilled ? "  SPILLS" : "", warnings ? "  WARNINGS" : "");
    if (folder) {
        char path[512];
        char *bin = (char *)malloc(cubin ? cubin : 1);
        FILE *f;
        snprintf(path, sizeof path, "%s/%s.sm_%s.cubin", folder, family, arch);
        f = fopen(path, "wb");
        if (!bin || !f || nvrtc_cubin(p, bin) || fwrite(bin, 1, cubin, f) != cubin)
            printf("cannot write %s\n", path);
        if (f) fclose(f);
        free(bin);
    }
    nvrtc_destroy(&p);
    free(log);
    return spilled || warnings;
}

int main(int argc, char **argv)
{
    static const char *all[] = {"linear", "wgmma",     "linear8", "dense", "repack",
                                "rows",   "attention", "moe",     "sample", "quantize"};
    const char *wanted = "75,80,86,89,90a,100a,103a,120a", *families[32];
    int n = 0, bad = 0, done = 0, major = 0, minor = 0, known[128], count = 0;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "-v")) verbose = 1;
        else if (!strcmp(argv[i], "-a") && i + 1 < argc) wanted = argv[++i];
        else if (!strcmp(argv[i], "-o") && i + 1 < argc) folder = argv[++i];
        else if (n < 32) families[n++] = argv[i];
    if (!n)
        for (; n < (int)(sizeof all / sizeof *all); n++) families[n] = all[n];
    if (!load()) {
        puts("no NVRTC: set AWQ_NVRTC to libnvrtc.so");
        puts("0 passed, 0 failed, 1 skipped");
        return 0;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    nvrtc_version(&major, &minor);
    nvrtc_arch_count(&count);
    if (count > 128) count = 128;
    nvrtc_archs(known);
    printf("NVRTC %d.%d\n", major, minor);
    for (int f = 0; f < n; f++) {
        char path[256];
        char *text = append(NULL, "tools/cuda/prims.cuh");
        text = append(text, "tools/cuda/common.cuh");
        text = append(text, "tools/cuda/block.cuh");
        snprintf(path, sizeof path, "tools/cuda/%s.cuh", families[f]);
        text = append(text, path);
        for (const char *a = wanted; *a; a += strcspn(a, ","), a += *a == ',') {
            char arch[16];
            int supported = 0;
            snprintf(arch, sizeof arch, "%.*s", (int)strcspn(a, ","), a);
            for (int i = 0; i < count; i++) supported |= known[i] == atoi(arch);
            if (!supported || (strchr(arch, 'a') && major < 12)) /* the suffix came with 12.0 */
                printf("%-14s sm_%-5s not known to this NVRTC\n", families[f], arch);
            else if (strcmp(families[f], "wgmma") || !strcmp(arch, "90a"))
                bad += compile(families[f], text, arch), done++;
        }
        free(text);
    }
    printf("%d passed, %d failed, 0 skipped\n", done - bad, bad);
    return bad != 0;
}
