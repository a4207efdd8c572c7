/* cuda_emulator.h - the emulated driver and NVRTC of tests/cuda/driver.cpp, for the tests of awq_cuda.h */
#ifndef AWQ_CUDA_EMULATOR_H
#define AWQ_CUDA_EMULATOR_H

static char emulator[512];                  /* path; "": there is none */
static int (*live)(char *text, size_t cap); /* objects of the driver that were not given back, and a list of them */
static void (*reset)(void);                 /* as a new process would find it */
static long (*calls)(const char *name);     /* of a function of the driver; "*": of all */
static int (*kernels)(const char *family);  /* that it has */

static void find_emulator(void)
{
    const char *path = getenv("AWQ_CUDA_EMULATOR");
    void *lib;
    if (!path || !*path) path = "build/libcuda_emulator.so";
    snprintf(emulator, sizeof emulator, "%s%s", strchr(path, '/') ? "" : "./", path);
    lib = dlopen(emulator, RTLD_NOW);
    if (!lib) {
        printf("    no emulated driver: %s\n", dlerror());
        emulator[0] = 0;
        return;
    }
    *(void **)&live = dlsym(lib, "awq_emulator_live");
    *(void **)&reset = dlsym(lib, "awq_emulator_reset");
    *(void **)&calls = dlsym(lib, "awq_emulator_calls");
    *(void **)&kernels = dlsym(lib, "awq_emulator_kernels");
}

#define NEED_EMULATOR \
    if (!emulator[0]) TEST_SKIP("no emulated driver: ./build.sh makes it where a C++ compiler is")

#endif
