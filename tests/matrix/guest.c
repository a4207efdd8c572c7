/* What a host does with the library, in every way it can be built: quantizes a layer, packs it, multiplies, and lets the
   demo model speak from memory. Prints a number and a text that must be the same whatever the build; tests/matrix/run.sh
   compares them. GUEST_LINKED: declarations alone, the implementation is in another object. GUEST: main's name. */
#ifndef GUEST_LINKED
#  define AWQ_IMPLEMENTATION
#endif
#include "../../awq.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef GUEST
#  define GUEST main
#endif

static int fail(const awq_ctx *ctx, const char *what)
{
    printf("%s: %s\n", what, ctx->err.text);
    return 1;
}

/* a layer [48, 256]: rounded, packed, unpacked, multiplied by 3 rows; the hash of the products */
static int layer(awq_ctx *ctx)
{
    enum { ROWS = 48, WIDTH = 256, TIMES = 3 };
    static float w[ROWS * WIDTH], x[TIMES * WIDTH], y[TIMES * ROWS];
    awq_qweight a, b;
    awq_packed p;
    awq_linear l;
    uint32_t r = 1, u;
    uint64_t h = 0xcbf29ce484222325u;
    int i, k;
    memset(&p, 0, sizeof p);
    for (i = 0; i < ROWS * WIDTH + TIMES * WIDTH; i++) {
        float *v = i < ROWS * WIDTH ? &w[i] : &x[i - ROWS * WIDTH];
        r = r * 1664525u + 1013904223u;
        *v = (float)((int)(r >> 22) - 512) / 512.0f; /* an fp16 number */
    }
    if (awq_qweight_alloc(ctx, ROWS, WIDTH, 4, 64, 0, &a) || awq_qweight_alloc(ctx, ROWS, WIDTH, 4, 64, 0, &b)) return 1;
    if (awq_quantize(ctx, w, &a) || awq_layout_describe(ctx, AWQ_LAYOUT_GEMM, &a, &p)) return 1;
    for (i = 0; i < p.n_tensors; i++) p.tensor[i].data = malloc(p.tensor[i].bytes);
    if (awq_pack(ctx, &a, &p) || awq_unpack(ctx, &p, &b)) return 1;
    if (awq_linear_prepare(ctx, &b, AWQ_MODE_DETERMINISTIC, 0, NULL, &l) || awq_linear_run(ctx, &l, x, TIMES, y)) return 1;
    for (i = 0; i < TIMES * ROWS; i++) {
        memcpy(&u, &y[i], 4);
        for (k = 0; k < 4; k++) h = (h ^ (u >> 8 * k & 255)) * 0x100000001b3u;
    }
    printf("layer %08lx%08lx\n", (unsigned long)(h >> 32), (unsigned long)(h & 0xffffffffu));
    for (i = 0; i < p.n_tensors; i++) free(p.tensor[i].data);
    awq_linear_free(ctx, &l);
    awq_qweight_free(ctx, &a);
    awq_qweight_free(ctx, &b);
    return 0;
}

#ifndef AWQ_NO_MODEL
static int spoken(void *user, const char *text, size_t bytes)
{
    (void)user;
    fwrite(text, 1, bytes, stdout);
    return 0;
}

/* from memory: the same with and without files of the operating system */
static int speak(awq_ctx *ctx, const char *folder)
{
    static const char *const names[] = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    enum { FILES = 5 };
    char path[FILES][512];
    awq_memory_file files[FILES];
    awq_memory_list list;
    awq_model *m = NULL;
    awq_model_desc d;
    awq_generate_desc g;
    int i, bad = 0;
    memset(&d, 0, sizeof d);
    memset(&g, 0, sizeof g);
    for (i = 0; i < FILES; i++) {
        void *data = malloc((size_t)8 << 20);
        FILE *f;
        snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]);
        f = fopen(path[i], "rb");
        if (!f || !data) return printf("%s: cannot be read\n", path[i]), 1;
        files[i].path = path[i];
        files[i].data = data;
        files[i].bytes = fread(data, 1, (size_t)8 << 20, f);
        fclose(f);
    }
    list.files = files;
    list.count = FILES;
    ctx->files = awq_memory_files(&list);
    d.mode = AWQ_MODE_DETERMINISTIC;
    d.rtn_bits = 4;
    g.prompt = "Bram is a";
    g.max_tokens = 12;
    g.on_text = spoken;
    bad = awq_model_load(ctx, folder, &d, &m) || awq_generate(ctx, m, &g, NULL);
    if (bad) fail(ctx, "speak");
    printf("\n");
    awq_model_free(ctx, m);
    for (i = 0; i < FILES; i++) free((void *)(uintptr_t)files[i].data);
    return bad;
}
#endif

#ifdef __cplusplus
extern "C"
#endif
int GUEST(int argc, char **argv);
int GUEST(int argc, char **argv)
{
    awq_ctx ctx;
    awq_pool *pool = NULL;
    int bad;
    memset(&ctx, 0, sizeof ctx);
    if (awq_pool_create(&ctx, 0, &pool)) return fail(&ctx, "pool");
    ctx.jobs = awq_pool_jobs(pool);
    bad = layer(&ctx);
    if (bad) fail(&ctx, "layer");
#ifdef AWQ_NO_MODEL
    (void)argc, (void)argv;
#else
    if (!bad) bad = speak(&ctx, argc > 1 ? argv[1] : "tools/demo/model");
#endif
#if defined(AWQ_NO_THREADS) && !defined(GUEST_LINKED)
    if (awq_pool_create(&ctx, 2, &pool) != AWQ_E_UNSUPPORTED) printf("a pool of 2 threads without threads\n"), bad = 1;
#endif
#if defined(AWQ_NO_STDIO) && !defined(AWQ_NO_MODEL) && !defined(GUEST_LINKED)
    {
        awq_checkpoint *ck = NULL;
        memset(&ctx.files, 0, sizeof ctx.files);
        if (awq_checkpoint_open(&ctx, "tools/demo/model", &ck) != AWQ_E_IO) printf("a file without files\n"), bad = 1;
    }
#endif
    awq_pool_free(&ctx, pool);
    if (ctx.memory_used) printf("%lu bytes are left\n", (unsigned long)ctx.memory_used), bad = 1;
    return bad;
}
