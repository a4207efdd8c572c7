/* 08 - kernels alone: a matrix in 4 bits times rows of activations, inside a program that has a CUDA context, a stream
   and device memory of its own. No model, and no CUDA header.
       cc -O2 -o 08_cuda_linear examples/08_cuda_linear.c -lm -lpthread -ldl
       ./08_cuda_linear
   You learn: awq_cuda_desc.context and .stream, awq_cuda_linear_prepare and _run on pointers of the program. The part
   called THE PROGRAM is yours already; here it opens the driver as awq_cuda.h does. Output on the emulated driver of
   tests/cuda:
       384 x 256 in 4 bits: 55296 bytes on Emulated GPU 0
       3 rows, off by at most 6.5e-07 from the same product on the CPU, whose largest number is 6.08 */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#define AWQ_CUDA_IMPLEMENTATION
#include "../awq_cuda.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT = 384, IN = 256, ROWS = 3 };

/* --- THE PROGRAM: a context, a stream, and memory for x and y */
typedef struct program {
    int (*Init)(unsigned flags), (*CtxCreate)(void **context, unsigned flags, int device), (*CtxDestroy)(void *context);
    int (*StreamCreate)(void **stream, unsigned flags), (*StreamDestroy)(void *stream), (*StreamSynchronize)(void *stream);
    int (*MemAlloc)(uint64_t *ptr, size_t bytes), (*MemFree)(uint64_t ptr);
    int (*Upload)(uint64_t to, const void *from, size_t bytes, void *stream);
    int (*Download)(void *to, uint64_t from, size_t bytes, void *stream);
    void *context, *stream; /* CUcontext, CUstream */
    uint64_t x, y;          /* F16 [ROWS][IN], fp32 [ROWS][OUT] */
} program;

static int program_start(program *p) /* 0: there is no driver or no GPU */
{
    static const char *const names[] = {"cuInit", "cuCtxCreate_v2", "cuCtxDestroy_v2", "cuStreamCreate",
                                        "cuStreamDestroy_v2", "cuStreamSynchronize", "cuMemAlloc_v2", "cuMemFree_v2",
                                        "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"};
    const char *path = getenv("AWQ_CUDA_DRIVER");
    size_t i;
#ifdef _WIN32
    HMODULE lib = LoadLibraryA(path ? path : "nvcuda.dll");
#  define SYMBOL(name) (void *)GetProcAddress(lib, name)
#else
    void *lib = dlopen(path ? path : "libcuda.so.1", RTLD_NOW);
#  define SYMBOL(name) dlsym(lib, name)
#endif
    memset(p, 0, sizeof *p);
    for (i = 0; lib && i < sizeof names / sizeof names[0]; i++) {
        void *function = SYMBOL(names[i]);
        if (!function) return 0;
        memcpy((char *)p + i * sizeof function, &function, sizeof function); /* the fields, in this order */
    }
    return lib && !p->Init(0) && !p->CtxCreate(&p->context, 0, 0) && !p->StreamCreate(&p->stream, 0)
           && !p->MemAlloc(&p->x, ROWS * IN * sizeof(uint16_t)) && !p->MemAlloc(&p->y, ROWS * OUT * sizeof(float));
}

static void program_end(program *p)
{
    if (p->x) p->MemFree(p->x);
    if (p->y) p->MemFree(p->y);
    if (p->stream) p->StreamDestroy(p->stream);
    if (p->context) p->CtxDestroy(p->context);
}

int main(void)
{
    static float weights[OUT * IN], x[ROWS * IN], y[ROWS * OUT];
    static uint16_t half[ROWS * IN];
    double off = 0, largest = 0;
    awq_cuda *gpu = NULL;
    awq_cuda_info info;
    awq_cuda_linear linear;
    awq_cuda_desc desc;
    awq_qweight w;
    awq_ctx ctx;
    awq_status st;
    program p;
    int i, k, r;

    memset(&ctx, 0, sizeof ctx);
    memset(&desc, 0, sizeof desc);
    memset(&linear, 0, sizeof linear);
    memset(&w, 0, sizeof w);
    if (!program_start(&p)) {
        fprintf(stderr, "no CUDA driver or no GPU is here: awq doctor says more\n");
        return 1;
    }
    for (i = 0; i < OUT * IN; i++) weights[i] = (float)sin(i * 0.37);
    for (i = 0; i < ROWS * IN; i++) x[i] = (float)cos(i * 0.11);

    desc.context = p.context; /* nothing of awq.h outlives them; the stream orders its work and yours */
    desc.stream = p.stream;
    st = awq_cuda_create(&ctx, &desc, &gpu);
    if (!st) st = awq_cuda_get_info(&ctx, gpu, &info);
    if (!st) st = awq_qweight_alloc(&ctx, OUT, IN, 4, 64, 0, &w); /* 4 bits, groups of 64 */
    if (!st) st = awq_quantize(&ctx, weights, &w);                /* or awq_unpack of a checkpoint's tensors */
    if (!st) st = awq_cuda_linear_prepare(&ctx, gpu, &w, NULL, AWQ_F16, &linear);
    if (!st) printf("%d x %d in 4 bits: %llu bytes on %s\n", OUT, IN, (unsigned long long)linear.bytes, info.name);

    if (!st) st = awq_from_float(&ctx, AWQ_F16, x, ROWS * IN, half);
    if (!st && p.Upload(p.x, half, sizeof half, p.stream)) st = AWQ_E_DEVICE;
    if (!st) st = awq_cuda_linear_run(&ctx, gpu, &linear, p.x, IN, ROWS, AWQ_F32, p.y, OUT, 0); /* queued */
    if (!st && (p.Download(y, p.y, sizeof y, p.stream) || p.StreamSynchronize(p.stream))) st = AWQ_E_DEVICE;

    if (!st) st = awq_dequantize(&ctx, &w, weights);
    if (!st) st = awq_to_float(&ctx, AWQ_F16, half, ROWS * IN, x);
    for (r = 0; !st && r < ROWS; r++)
        for (i = 0; i < OUT; i++) {
            double sum = 0;
            for (k = 0; k < IN; k++) sum += (double)x[r * IN + k] * weights[i * IN + k];
            off = fmax(off, fabs(sum - y[r * OUT + i]));
            largest = fmax(largest, fabs(sum));
        }
    if (!st) printf("%d rows, off by at most %.1e from the same product on the CPU, whose largest number is %.2f\n", ROWS, off,
                    largest);
    else fprintf(stderr, "%s\n", ctx.err.status ? ctx.err.text : "a copy of the program failed");
    awq_cuda_linear_free(&ctx, gpu, &linear);
    awq_cuda_free(&ctx, gpu);
    awq_qweight_free(&ctx, &w);
    program_end(&p);
    return st || off > 1e-3 * largest;
}
