/* 03 - one matrix in the packed forms that other engines load, and back.
       cc -O2 -o 03_layouts examples/03_layouts.c -lm -lpthread
       ./03_layouts [MODEL]
   You learn: tensors of a checkpoint, awq_quantize for one matrix, awq_layout_describe, awq_pack, awq_unpack.
   Output for the demo model:
       gemm                  8832 bytes, same codes: qweight I32 qzeros I32 scales F16
       marlin                8704 bytes, same codes: qweight I32 scales F16
       compressed-tensors    8720 bytes, same codes: weight_packed I32 weight_scale F16 weight_shape I64 ... */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* w in layout l, printed, unpacked into back and compared */
static awq_status show(awq_ctx *ctx, awq_layout l, const awq_qweight *w, awq_qweight *back)
{
    size_t n = (size_t)(w->out_features * w->in_features), bytes = 0;
    awq_packed p;
    awq_status st = awq_layout_describe(ctx, l, w, &p); /* names, types and sizes; the memory is ours to give */
    int i, k;
    if (st == AWQ_E_UNSUPPORTED) {
        printf("%-19s %s\n", awq_layout_name(l), ctx->err.text);
        return AWQ_OK;
    }
    for (i = 0; !st && i < p.n_tensors; i++) {
        p.tensor[i].data = malloc(p.tensor[i].bytes);
        if (!p.tensor[i].data) st = AWQ_E_MEMORY;
        bytes += p.tensor[i].bytes;
    }
    if (!st) st = awq_pack(ctx, w, &p);
    if (!st) memset(back->codes, 0xff, n);
    if (!st) st = awq_unpack(ctx, &p, back);
    if (!st) {
        printf("%-19s %6lu bytes, %s:", awq_layout_name(l), (unsigned long)bytes,
               memcmp(w->codes, back->codes, n) ? "CHANGED" : "same codes");
        for (k = 0; k < p.n_tensors; k++) printf(" %s %s", p.tensor[k].suffix, awq_dtype_name(p.tensor[k].dtype));
        printf("\n");
    }
    while (i-- > 0) free(p.tensor[i].data);
    return st;
}

int main(int argc, char **argv)
{
    const char *name = "model.layers.0.self_attn.q_proj.weight";
    awq_checkpoint *model = NULL;
    const awq_tensor *t;
    awq_qweight w, back;
    awq_status st;
    awq_ctx ctx;
    float *weights = NULL;
    int l;

    memset(&ctx, 0, sizeof ctx);
    memset(&w, 0, sizeof w);
    memset(&back, 0, sizeof back);
    st = awq_checkpoint_open(&ctx, argc > 1 ? argv[1] : "tools/demo/model", &model);
    t = st ? NULL : awq_tensors_find(awq_checkpoint_tensors(model), name);
    if (!st && !t) {
        fprintf(stderr, "no %s: is the model quantized already?\n", name);
        awq_checkpoint_close(&ctx, model);
        return 1;
    }
    if (!st) weights = (float *)malloc((size_t)(t->shape[0] * t->shape[1]) * sizeof *weights);
    if (!st && !weights) st = AWQ_E_MEMORY;
    if (!st) st = awq_tensors_read_float(&ctx, awq_checkpoint_tensors(model), t, 0, t->shape[0] * t->shape[1], weights);

    /* 4 bits, groups of 64, symmetric, so that every layout can hold it */
    if (!st) st = awq_qweight_alloc(&ctx, t->shape[0], t->shape[1], 4, 64, 1, &w);
    if (!st) st = awq_qweight_alloc(&ctx, t->shape[0], t->shape[1], 4, 64, 1, &back);
    if (!st) st = awq_quantize(&ctx, weights, &w);
    for (l = AWQ_LAYOUT_GEMM; !st && l < AWQ_LAYOUT_COUNT; l++) st = show(&ctx, (awq_layout)l, &w, &back);

    if (st) fprintf(stderr, "%s\n", ctx.err.text);
    free(weights);
    awq_qweight_free(&ctx, &back);
    awq_qweight_free(&ctx, &w);
    awq_checkpoint_close(&ctx, model);
    return st != AWQ_OK;
}
