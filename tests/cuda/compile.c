/* compile.c - compiles the kernels of tools/cuda with NVRTC for every processor it supports; needs no GPU

       cc -O2 -o compile tests/cuda/compile.c -ldl && ./compile [-v] [-a 90a,80] [-o FOLDER] [-p FOLDER] [family ...]

   run in the repository's root. A family is a file tools/cuda/NAME.cuh; prims.cuh, common.cuh, block.cuh and
   warpgroup.cuh are put before it, and the definitions of its parts, as awq_cuda.h does. Prints a line for each part
   and processor: milliseconds of the processor, bytes of the cubin, most registers of a kernel, kernels that spill;
   with -v a line for each kernel; -o keeps the cubins; in the end what a model of the llama family takes in all. Fails
   when a compile fails or warns, or when a kernel spills. With -p only PTX is made, FOLDER/PART.ptx, for ptx.h. The
   library is $AWQ_NVRTC, else what the loader finds, else that of /usr/local/cuda. */
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
static int (*nvrtc_ptx_size)(program, size_t *);
static int (*nvrtc_ptx)(program, char *);
static int (*nvrtc_destroy)(program *);
static const char *(*nvrtc_error)(int);

static int verbose;
static const char *folder, *ptx_folder;

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
                   {&nvrtc_ptx_size, "nvrtcGetPTXSize"},
                   {&nvrtc_ptx, "nvrtcGetPTX"},
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

static double now(void) /* of this process alone: other programs run too */
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
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
        if (strstr(line, "warning") || strstr(line, "serialized") || strstr(line, "setmaxnreg")) { /* ignored */
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

/* what a model of 4 bits in F16 with heads of 128 needs, the kernel that awq_cuda_create runs and those of
   awq__cuda_llama: parts of families, CPU milliseconds by processor */
static const char *const llama[] = {"selftest", "linear_f16", "wgmma_f16", "wgmma_few_f16", "dense_f16",
                                    "rows_f16", "repack",     "sample",    "attention_128"};
enum { LLAMA = sizeof llama / sizeof *llama };
static struct {
    char arch[16];
    double ms;
    int parts;
} needs[32];

static void count_need(const char *part, const char *arch, double ms)
{
    int i, k;
    for (i = 0; i < LLAMA; i++)
        for (k = 0; k < 32 && !strcmp(part, llama[i]); k++)
            if (!needs[k].parts || !strcmp(needs[k].arch, arch)) {
                snprintf(needs[k].arch, sizeof needs[k].arch, "%s", arch);
                needs[k].ms += ms;
                needs[k].parts++;
                break;
            }
}

static int write_file(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    int ok = f && fwrite(data, 1, size, f) == size;
    if (f) ok &= !fclose(f);
    if (!ok) printf("cannot write %s\n", path);
    return ok;
}

/* nvrtcGetPTX ends with a zero byte, which the size counts */
static int write_ptx(program p, const char *family)
{
    char path[512], *text;
    size_t size = 0;
    int ok;
    nvrtc_ptx_size(p, &size);
    text = (char *)calloc(1, size + 1);
    if (!text) exit(2);
    snprintf(path, sizeof path, "%s/%s.ptx", ptx_folder, family);
    ok = !nvrtc_ptx(p, text) && strstr(text, ".entry") && write_file(path, text, strlen(text));
    free(text);
    return ok;
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
    snprintf(option, sizeof option, "--gpu-architecture=%s_%s", ptx_folder ? "compute" : "sm", arch);
    snprintf(name, sizeof name, "%s.cuh", family);
    t = now();
    status = nvrtc_create(&p, text, name, 0, NULL, NULL);
    if (!status) status = nvrtc_compile(p, ptx_folder ? 2 : 3, options);
    t = now() - t;
    if (!ptx_folder) count_need(family, arch, t);
    nvrtc_log_size(p, &size);
    log = (char *)calloc(1, size + 1);
    if (!log) exit(2);
    if (size) nvrtc_log(p, log);
    if (status) {
        printf("%-14s sm_%-5s FAILED: %s\n%s\n", family, arch, nvrtc_error(status), log);
        free(log);
        return 1;
    }
    if (ptx_folder) {
        status = !write_ptx(p, family);
        nvrtc_destroy(&p);
        free(log);
        return status;
    }
    kernels = read_log(log, &registers, max_name, &spilled, &warnings);
    nvrtc_cubin_size(p, &cubin);
    printf("%-14s sm_%-5s %7.0f ms %8zu bytes  %2d kernels  max %3d registers (%s)%s%s\n", family, arch, t,
           cubin, kernels, registers, max_name, spilled ? "  SPILLS" : "", warnings ? "  WARNINGS" : "");
    if (folder) {
        char path[512];
        char *bin = (char *)malloc(cubin ? cubin : 1);
        snprintf(path, sizeof path, "%s/%s.sm_%s.cubin", folder, family, arch);
        if (bin && !nvrtc_cubin(p, bin)) write_file(path, bin, cubin);
        free(bin);
    }
    nvrtc_destroy(&p);
    free(log);
    return spilled || warnings;
}

/* awq__cuda_family_parts of awq_cuda.h: what is defined for each part, and how its kernels end */
static const struct {
    const char *family, *part, *define;
} parts[] = {{"attention", "_64", "AWQ_ATTEND 64"},
             {"attention", "_128", "AWQ_ATTEND 128"},
             {"attention", "_192", "AWQ_ATTEND 192"},
             {"attention", "_256", "AWQ_ATTEND 256"},
             {"", "_f16", "AWQ_NO_BF16"},
             {"", "_bf16", "AWQ_NO_F16"}};
enum { PARTS = sizeof parts / sizeof *parts };
static const struct {
    const char *name;
    int typed; /* has parts _f16 and _bf16 */
} all[] = {{"linear", 1},  {"wgmma", 1},         {"wgmma_few", 1}, {"linear8", 1}, {"dense", 1},
           {"repack", 0},  {"rows", 1},          {"attention", 0}, {"moe", 1},     {"sample", 0},
           {"experts", 1}, {"experts_wgmma", 1}, {"quantize", 0},  {"selftest", 0}};
enum { FAMILIES = sizeof all / sizeof *all };

int main(int argc, char **argv)
{
    const char *wanted = "75,80,86,89,90a,100a,103a,120a", *families[32];
    int n = 0, bad = 0, done = 0, major = 0, minor = 0, known[128], count = 0;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "-v")) verbose = 1;
        else if (!strcmp(argv[i], "-a") && i + 1 < argc) wanted = argv[++i];
        else if (!strcmp(argv[i], "-o") && i + 1 < argc) folder = argv[++i];
        else if (!strcmp(argv[i], "-p") && i + 1 < argc) ptx_folder = argv[++i];
        else if (n < 32) families[n++] = argv[i];
    if (!n)
        for (; n < FAMILIES; n++) families[n] = all[n].name;
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
        int typed = 1;
        for (int i = 0; i < FAMILIES; i++)
            if (!strcmp(all[i].name, families[f])) typed = all[i].typed;
        for (int part = 0; part <= PARTS; part++) { /* the last: whole, of families without */
            const int attends = !strcmp(families[f], "attention"), whole = part == PARTS;
            char path[256], name[64];
            char *text;
            if (whole ? typed || attends : *parts[part].family ? !attends : !typed) continue;
            snprintf(name, sizeof name, "%s%s", families[f], whole ? "" : parts[part].part);
            text = (char *)calloc(1, 64);
            if (!text) exit(2);
            if (!whole) snprintf(text, 64, "#define %s\n", parts[part].define);
            text = append(text, "tools/cuda/prims.cuh");
            text = append(text, "tools/cuda/common.cuh");
            text = append(text, "tools/cuda/block.cuh");
            text = append(text, "tools/cuda/warpgroup.cuh");
            snprintf(path, sizeof path, "tools/cuda/%s.cuh", families[f]);
            text = append(text, path);
            for (const char *a = wanted; *a; a += strcspn(a, ","), a += *a == ',') {
                char arch[16];
                int supported = 0;
                snprintf(arch, sizeof arch, "%.*s", (int)strcspn(a, ","), a);
                for (int i = 0; i < count; i++) supported |= known[i] == atoi(arch);
                if (!supported || (strchr(arch, 'a') && major < 12)) /* the suffix came with 12.0 */
                    printf("%-14s sm_%-5s not known to this NVRTC\n", name, arch);
                else if ((!strstr(families[f], "wgmma") || !strcmp(arch, "90a"))
                         && (atoi(arch) >= 80 || strcmp(name + strlen(families[f]), "_bf16")))
                    bad += compile(name, text, arch), done++;
            }
            free(text);
        }
    }
    for (int i = 0; i < 32 && needs[i].parts; i++)
        if (needs[i].parts >= LLAMA - 2) /* without the two of wgmma */
            printf("llama, 4 bits, F16, heads of 128: %4.1f s of one processor for sm_%s\n", needs[i].ms / 1e3,
                   needs[i].arch);
    printf("%d passed, %d failed, 0 skipped\n", done - bad, bad);
    return bad != 0;
}
