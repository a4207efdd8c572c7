/* A tiny checkpoint in memory for tests: one layer, hidden 64, 2 heads of 32, 1 kv head, intermediate 128,
   vocabulary 96. Include after awq.h with its implementation.
       tiny t;
       tiny_llama(&t);
       tiny_set(&t, "hidden_act", "\"gelu\"");
       awq_ctx ctx = tiny_ctx(&t);
       ...
       tiny_free(&t);
   Members of config.json and tensors can be changed, added and removed before tiny_ctx, which serialises them
   as the files m/config.json and m/model.safetensors of a memory file system. */
#ifndef TINY_H
#define TINY_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tiny_tensor {
    char name[128];
    awq_dtype dtype;
    int ndim;
    int64_t shape[3]; /* three dimensions only by tiny_stack */
    size_t bytes;
    unsigned char *data;
} tiny_tensor;

typedef struct tiny {
    char keys[40][48], values[40][512]; /* members of config.json */
    int n_keys;
    tiny_tensor t[64];
    int n;
    char config[24000], *st;
    awq_memory_file files[8]; /* 0 and 1 are config.json and model.safetensors; tiny_file adds */
    awq_memory_list list;
    int native; /* version of layout native in __metadata__; 0: none */
} tiny;

static void tiny_set(tiny *t, const char *key, const char *json) /* json NULL: remove */
{
    int i;
    for (i = 0; i < t->n_keys && strcmp(t->keys[i], key); i++) {}
    if (i == t->n_keys) t->n_keys++;
    snprintf(t->keys[i], sizeof t->keys[i], "%s", key);
    snprintf(t->values[i], sizeof t->values[i], "%s", json ? json : "");
}

static tiny_tensor *tiny_find(tiny *t, const char *name)
{
    int i;
    for (i = 0; i < t->n; i++)
        if (!strcmp(t->t[i].name, name)) return &t->t[i];
    return NULL;
}

static void tiny_remove(tiny *t, const char *name)
{
    tiny_tensor *x = tiny_find(t, name);
    if (!x) return;
    free(x->data);
    *x = t->t[--t->n];
}

static void tiny_resize(tiny_tensor *x, awq_dtype dtype, int ndim, int64_t a, int64_t b) /* data become zero */
{
    x->dtype = dtype;
    x->ndim = ndim;
    x->shape[0] = a;
    x->shape[1] = ndim > 1 ? b : 1;
    x->bytes = (size_t)(x->shape[0] * x->shape[1]) * awq_dtype_size(dtype);
    free(x->data);
    x->data = (unsigned char *)calloc(x->bytes + 1, 1);
}

static tiny_tensor *tiny_add(tiny *t, const char *name, awq_dtype dtype, int ndim, int64_t a, int64_t b)
{
    tiny_tensor *x = &t->t[t->n++];
    memset(x, 0, sizeof *x);
    snprintf(x->name, sizeof x->name, "%s", name);
    tiny_resize(x, dtype, ndim, a, b);
    return x;
}

AWQ__UNUSED static void tiny_stack(tiny_tensor *x, int n) /* n of the matrices; data become zero */
{
    int64_t a = x->shape[0], b = x->shape[1];
    tiny_resize(x, x->dtype, 2, n * a, b);
    x->ndim = 3;
    x->shape[0] = n, x->shape[1] = a, x->shape[2] = b;
}

static const struct {
    const char *name;
    int out, in;
} tiny_linears[] = {{"self_attn.q_proj", 64, 64}, {"self_attn.k_proj", 32, 64}, {"self_attn.v_proj", 32, 64},
                    {"self_attn.o_proj", 64, 64}, {"mlp.gate_proj", 128, 64},   {"mlp.up_proj", 128, 64},
                    {"mlp.down_proj", 64, 128}};

static void tiny_llama(tiny *t)
{
    static const char *const config[][2] = {
        {"model_type", "\"llama\""}, {"hidden_size", "64"}, {"intermediate_size", "128"}, {"vocab_size", "96"},
        {"num_hidden_layers", "1"}, {"num_attention_heads", "2"}, {"num_key_value_heads", "1"},
        {"max_position_embeddings", "128"}, {"rms_norm_eps", "1e-5"}, {"rope_theta", "10000.0"},
        {"hidden_act", "\"silu\""}, {"tie_word_embeddings", "false"}, {"torch_dtype", "\"float16\""},
        {"bos_token_id", "1"}, {"eos_token_id", "2"}};
    uint64_t seed = 7;
    size_t i;
    int k;
    memset(t, 0, sizeof *t);
    for (i = 0; i < sizeof config / sizeof config[0]; i++) tiny_set(t, config[i][0], config[i][1]);
    tiny_add(t, "model.embed_tokens.weight", AWQ_F16, 2, 96, 64);
    tiny_add(t, "lm_head.weight", AWQ_F16, 2, 96, 64);
    tiny_add(t, "model.norm.weight", AWQ_F16, 1, 64, 0);
    tiny_add(t, "model.layers.0.input_layernorm.weight", AWQ_F16, 1, 64, 0);
    tiny_add(t, "model.layers.0.post_attention_layernorm.weight", AWQ_F16, 1, 64, 0);
    for (k = 0; k < 7; k++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.0.%s.weight", tiny_linears[k].name);
        tiny_add(t, name, AWQ_F16, 2, tiny_linears[k].out, tiny_linears[k].in);
    }
    for (k = 0; k < t->n; k++)
        for (i = 0; i < t->t[k].bytes / 2; i++)
            ((uint16_t *)t->t[k].data)[i] = awq__float_f16(awq__random_unit(&seed) - 0.5f);
}

/* Replace the dense linears by packed ones; those that the layout cannot hold stay. keep[7], if given, gets
   what was packed (awq_qweight_free them) and zeros for the others. */
static awq_status tiny_quantize(tiny *t, awq_ctx *ctx, awq_layout layout, int bits, int group, int symmetric,
                                awq_dtype scale_dtype, awq_qweight *keep)
{
    int k, i;
    for (k = 0; k < 7; k++) {
        int64_t out = tiny_linears[k].out, in = tiny_linears[k].in, n = out * in;
        float *dense = (float *)malloc((size_t)n * sizeof *dense);
        char name[160];
        awq_qweight w;
        awq_packed p;
        awq_status st;
        if (keep) memset(&keep[k], 0, sizeof keep[k]);
        memset(&w, 0, sizeof w);
        w.out_features = out, w.in_features = in, w.group_size = group < 0 ? in : group;
        w.bits = bits, w.symmetric = symmetric, w.scale_dtype = scale_dtype;
        if (awq_layout_describe(ctx, layout, &w, &p)) {
            free(dense);
            continue;
        }
        snprintf(name, sizeof name, "model.layers.0.%s.weight", tiny_linears[k].name);
        awq__to_float(AWQ_F16, tiny_find(t, name)->data, n, dense);
        tiny_remove(t, name);
        st = awq_qweight_alloc(ctx, out, in, bits, group, symmetric, &w);
        if (!st) st = awq_quantize(ctx, dense, &w);
        free(dense);
        if (st) return st;
        w.scale_dtype = scale_dtype;
        for (i = 0; scale_dtype == AWQ_BF16 && i < out * in / w.group_size; i++)
            w.scales[i] = awq__bf16_float(awq__float_bf16(w.scales[i]));
        for (i = 0; !st && i < p.n_tensors; i++) {
            snprintf(name, sizeof name, "model.layers.0.%s.%s", tiny_linears[k].name, p.tensor[i].suffix);
            p.tensor[i].data = tiny_add(t, name, p.tensor[i].dtype, p.tensor[i].ndim, p.tensor[i].shape[0],
                                        p.tensor[i].shape[1])->data;
        }
        if (!st) st = awq_pack(ctx, &w, &p);
        if (keep && !st) keep[k] = w;
        else awq_qweight_free(ctx, &w);
        if (st) return st;
    }
    return AWQ_OK;
}

/* granitemoe with three experts that compressed-tensors packed in three dimensions, in groups of 32; w[6]:
   the first matrix of each, then the second (awq_qweight_free them) */
AWQ__UNUSED static awq_status tiny_stacked(tiny *t, int bits, const char *quantization, awq_qweight *w, awq_ctx *ctx)
{
    static const char *const names[] = {"model.layers.0.block_sparse_moe.input_linear",
                                        "model.layers.0.block_sparse_moe.output_linear"};
    static const int out[] = {256, 64}, in[] = {64, 128};
    int i, k, e, j;
    tiny_llama(t);
    tiny_set(t, "model_type", "\"granitemoe\"");
    tiny_set(t, "num_local_experts", "3");
    tiny_set(t, "quantization_config", quantization);
    for (i = 0; i < t->n; i++)
        while (i < t->n && strstr(t->t[i].name, ".mlp.")) {
            free(t->t[i].data);
            t->t[i] = t->t[--t->n];
        }
    tiny_add(t, "model.layers.0.block_sparse_moe.router.layer.weight", AWQ_F16, 2, 3, 64);
    for (k = 0; k < 2; k++)
        for (e = 0; e < 3; e++) {
            awq_qweight *q = &w[k * 3 + e];
            uint64_t seed = (uint64_t)(k * 3 + e + 1);
            awq_packed p;
            awq_status st = awq_qweight_alloc(ctx, out[k], in[k], bits, 32, 0, q);
            for (j = 0; !st && j < out[k] * in[k]; j++) q->codes[j] = (uint8_t)(awq__random(&seed) >> (64 - bits));
            for (j = 0; !st && j < out[k] * in[k] / 32; j++) {
                q->zeros[j] = (uint8_t)(awq__random(&seed) >> (64 - bits));
                q->scales[j] = awq__h(awq__random_unit(&seed) + 1e-3f);
            }
            if (!st) st = awq_layout_describe(ctx, AWQ_LAYOUT_COMPRESSED_TENSORS, q, &p);
            for (i = 0; !st && i < p.n_tensors; i++) {
                char name[128];
                tiny_tensor *x;
                snprintf(name, sizeof name, "%s.%s", names[k], p.tensor[i].suffix);
                x = tiny_find(t, name);
                if (!x) {
                    x = tiny_add(t, name, p.tensor[i].dtype, p.tensor[i].ndim, p.tensor[i].shape[0],
                                 p.tensor[i].shape[1]);
                    if (x->ndim == 1) tiny_resize(x, AWQ_I64, 1, 3, 0);
                    else tiny_stack(x, 3);
                }
                p.tensor[i].data = x->data + (x->ndim == 1 ? 8 : p.tensor[i].bytes * (size_t)e);
            }
            if (!st) st = awq_pack(ctx, q, &p);
            if (st) return st;
            for (i = 0; i < t->n; i++)
                if (strstr(t->t[i].name, names[k]) && t->t[i].ndim == 1) ((int64_t *)t->t[i].data)[0] = 3;
        }
    return AWQ_OK;
}

static void tiny_file(tiny *t, const char *path, const char *text)
{
    awq_memory_file *f = &t->files[2];
    while (f->path && strcmp(f->path, path)) f++;
    f->path = path;
    f->data = text;
    f->bytes = strlen(text);
}

/* Serialise and return a context that sees the files; the previous one must be done with them. */
static awq_ctx tiny_ctx(tiny *t)
{
    awq_ctx ctx;
    size_t cap = 65536, at = 0, head;
    char *h = (char *)malloc(cap);
    int i, n = 0;
    for (i = 0; i < t->n_keys; i++)
        if (t->values[i][0])
            n += snprintf(t->config + n, sizeof t->config - (size_t)n, "%s\"%s\": %s", n ? ", " : "{",
                          t->keys[i], t->values[i]);
    snprintf(t->config + n, sizeof t->config - (size_t)n, "}");
    head = (size_t)snprintf(h, cap, "{\"__metadata__\":{\"format\":\"pt\"");
    if (t->native) head += (size_t)snprintf(h + head, cap - head, ",\"" AWQ__ST_NATIVE "\":\"%d\"", t->native);
    h[head++] = '}';
    for (i = 0; i < t->n; i++) {
        const tiny_tensor *x = &t->t[i];
        char shape[64];
        snprintf(shape, sizeof shape, x->ndim > 2 ? "%lld,%lld,%lld" : x->ndim > 1 ? "%lld,%lld" : "%lld",
                 (long long)x->shape[0], (long long)x->shape[1], (long long)x->shape[2]);
        head += (size_t)snprintf(h + head, cap - head,
                                 ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
                                 x->name, awq_dtype_name(x->dtype), shape, (unsigned long long)at,
                                 (unsigned long long)(at + x->bytes));
        at += x->bytes;
    }
    h[head++] = '}';
    while (head % 8) h[head++] = ' ';
    free(t->st);
    t->st = (char *)malloc(8 + head + at);
    for (i = 0; i < 8; i++) t->st[i] = (char)((uint64_t)head >> 8 * i);
    memcpy(t->st + 8, h, head);
    for (i = 0, at = 8 + head; i < t->n; at += t->t[i++].bytes) {
        size_t size = awq_dtype_size(t->t[i].dtype);
        memcpy(t->st + at, t->t[i].data, t->t[i].bytes);
        awq__little(t->st + at, t->t[i].bytes / size, size);
    }
    free(h);
    t->files[0].path = "m/config.json";
    t->files[0].data = t->config;
    t->files[0].bytes = strlen(t->config);
    t->files[1].path = "m/model.safetensors";
    t->files[1].data = t->st;
    t->files[1].bytes = at;
    t->list.files = t->files;
    for (t->list.count = 2; t->list.count < 8 && t->files[t->list.count].path; t->list.count++) {}
    memset(&ctx, 0, sizeof ctx);
    ctx.files = awq_memory_files(&t->list);
    return ctx;
}

static void tiny_free(tiny *t)
{
    while (t->n) free(t->t[--t->n].data);
    free(t->st);
    t->st = NULL;
}
#endif
