/* 07 - a model on an NVIDIA GPU: nothing to link, no CUDA toolkit to build with.
       cc -O2 -o 07_cuda examples/07_cuda.c -lm -lpthread -ldl
       ./07_cuda [MODEL] [PROMPT] [--cpu]
   You learn: awq_cuda_create, a model whose layers a device computes, and that going on without a GPU is decided by the
   program. Output for the demo model on a machine without a GPU:
       no CUDA driver: libcuda.so.1: cannot open shared object file: ...; install NVIDIA's driver, or ...
   and with --cpu behind that sentence:
        20 years old. He is 20 years old. ... */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#define AWQ_CUDA_IMPLEMENTATION
#include "../awq_cuda.h"
#include <stdio.h>
#include <string.h>

static int print_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
    return 0;
}

static awq_status say(awq_ctx *ctx, const char *folder, const char *prompt, int cpu_will_do)
{
    awq_cuda *gpu = NULL;
    awq_device *devices[1];
    awq_model *model = NULL;
    awq_model_desc desc;
    awq_generate_desc question;
    awq_status st = awq_cuda_create(ctx, NULL, &gpu); /* NULL: device 0, all defaults */
    if (st && !cpu_will_do) return st;
    if (st) fprintf(stderr, "%s\n", ctx->err.text);
    memset(&desc, 0, sizeof desc);
    memset(&question, 0, sizeof question);
    devices[0] = awq_cuda_device(gpu);
    desc.devices = devices;
    desc.n_devices = gpu != NULL;
    question.prompt = prompt;
    question.on_text = print_text;
    st = awq_model_load(ctx, folder, &desc, &model); /* AWQ_E_MEMORY where it does not fit; see rest_on_cpu */
    if (!st) st = awq_generate(ctx, model, &question, NULL);
    awq_model_free(ctx, model);
    awq_cuda_free(ctx, gpu); /* behind the models on it */
    return st;
}

int main(int argc, char **argv)
{
    const char *text[2] = {"tools/demo/model", "Bram is"};
    int i, n = 0, cpu_will_do = 0;
    awq_pool *pool = NULL;
    awq_ctx ctx;
    awq_status st;

    for (i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--cpu")) cpu_will_do = 1;
        else if (n < 2) text[n++] = argv[i];
    memset(&ctx, 0, sizeof ctx);
    st = awq_pool_create(&ctx, 0, &pool); /* for what the CPU computes */
    if (!st) {
        ctx.jobs = awq_pool_jobs(pool);
        st = say(&ctx, text[0], text[1], cpu_will_do);
    }
    printf("\n");
    if (st) fprintf(stderr, "%s\n", ctx.err.text);
    awq_pool_free(&ctx, pool);
    return st != AWQ_OK;
}
