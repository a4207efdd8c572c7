/* A checkpoint of any shape, 4 bits in AutoAWQ's gemm layout, with random weights that are made as they are read: a
   file system of two files, m/config.json and m/model.safetensors. For speed at sizes that nobody wants on a disk.
       synthetic s;
       synthetic_make(&s, &synthetic_tinyllama);
       ctx.files = synthetic_files(&s);
       awq_model_load(&ctx, "m", NULL, &model); ... synthetic_free(&s);
   Include after awq.h with its implementation. */
#ifndef SYNTHETIC_H
#define SYNTHETIC_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct synthetic_shape {
    const char *name;
    int64_t hidden, inter, layers, heads, kv_heads, head_dim, vocab, group, context;
} synthetic_shape;

static const synthetic_shape synthetic_tinyllama AWQ__UNUSED = {"TinyLlama-1.1B", 2048, 5632, 22, 32, 4, 64, 32000, 128, 2048};
static const synthetic_shape synthetic_llama3_1b AWQ__UNUSED = {"Llama-3.2-1B", 2048, 8192, 16, 32, 8, 64, 128256, 128, 4096};
static const synthetic_shape synthetic_llama2_7b AWQ__UNUSED = {"Llama-2-7B", 4096, 11008, 32, 32, 32, 128, 32000, 128, 4096};
static const synthetic_shape synthetic_llama3_8b AWQ__UNUSED = {"Llama-3-8B", 4096, 14336, 32, 32, 8, 128, 128256, 128, 8192};
static const synthetic_shape synthetic_llama3_3b AWQ__UNUSED = {"Llama-3.2-3B", 3072, 8192, 28, 24, 8, 128, 128256, 128, 4096};

typedef struct synthetic_tensor {
    char name[96], dtype[8];
    int64_t shape[2];
    int ndim;
    uint64_t offset, bytes;
    double middle, spread; /* F16: uniform; I32: random bits */
} synthetic_tensor;

typedef struct synthetic {
    char config[1024], *head;
    char *tokenizer; /* m/tokenizer.json, if synthetic_tokenizer gave one */
    uint64_t head_bytes, data_bytes, tokenizer_bytes;
    synthetic_tensor *t;
    int n, cap;
} synthetic;

static void synthetic_add(synthetic *s, const char *name, const char *dtype, int64_t a, int64_t b, double middle, double spread)
{
    synthetic_tensor *t;
    if (s->n == s->cap) s->t = (synthetic_tensor *)realloc(s->t, (size_t)(s->cap = s->cap * 2 + 64) * sizeof *s->t);
    t = &s->t[s->n++];
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
    t->shape[0] = a;
    t->shape[1] = b;
    t->ndim = b ? 2 : 1;
    t->bytes = (uint64_t)a * (uint64_t)(b ? b : 1) * (*dtype == 'I' ? 4 : 2);
    t->offset = s->data_bytes;
    t->middle = middle;
    t->spread = spread;
    s->data_bytes += t->bytes;
}

static void synthetic_linear(synthetic *s, int64_t layer, const char *name, int64_t out, int64_t in, int64_t group)
{
    char full[96];
    double scale = 1 / sqrt((double)in) / 4; /* outputs about as large as inputs */
    snprintf(full, sizeof full, "model.layers.%d.%s.qweight", (int)layer, name);
    synthetic_add(s, full, "I32", in, out / 8, 0, 0);
    snprintf(full, sizeof full, "model.layers.%d.%s.qzeros", (int)layer, name);
    synthetic_add(s, full, "I32", in / group, out / 8, 0, 0);
    snprintf(full, sizeof full, "model.layers.%d.%s.scales", (int)layer, name);
    synthetic_add(s, full, "F16", in / group, out, scale, scale / 2);
}

static void synthetic_make(synthetic *s, const synthetic_shape *p)
{
    awq_ctx ctx;
    awq__text t = {NULL, 0, 0, 0};
    char name[96];
    int64_t l, q = p->heads * p->head_dim, kv = p->kv_heads * p->head_dim;
    uint64_t n;
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(s, 0, sizeof *s);
    snprintf(s->config, sizeof s->config,
             "{\"model_type\": \"llama\", \"hidden_size\": %d, \"intermediate_size\": %d, \"vocab_size\": %d, "
             "\"num_hidden_layers\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d, "
             "\"max_position_embeddings\": %d, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", "
             "\"tie_word_embeddings\": false, \"torch_dtype\": \"float16\", \"bos_token_id\": 1, \"eos_token_id\": 2, "
             "\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": %d, \"zero_point\": true, "
             "\"version\": \"gemm\"}}",
             (int)p->hidden, (int)p->inter, (int)p->vocab, (int)p->layers, (int)p->heads, (int)p->kv_heads, (int)p->head_dim,
             (int)p->context, (int)p->group);
    synthetic_add(s, "model.embed_tokens.weight", "F16", p->vocab, p->hidden, 0, 1);
    synthetic_add(s, "lm_head.weight", "F16", p->vocab, p->hidden, 0, 0.1);
    synthetic_add(s, "model.norm.weight", "F16", p->hidden, 0, 1, 0.1);
    for (l = 0; l < p->layers; l++) {
        snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", (int)l);
        synthetic_add(s, name, "F16", p->hidden, 0, 1, 0.1);
        snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm.weight", (int)l);
        synthetic_add(s, name, "F16", p->hidden, 0, 1, 0.1);
        synthetic_linear(s, l, "self_attn.q_proj", q, p->hidden, p->group);
        synthetic_linear(s, l, "self_attn.k_proj", kv, p->hidden, p->group);
        synthetic_linear(s, l, "self_attn.v_proj", kv, p->hidden, p->group);
        synthetic_linear(s, l, "self_attn.o_proj", p->hidden, q, p->group);
        synthetic_linear(s, l, "mlp.gate_proj", p->inter, p->hidden, p->group);
        synthetic_linear(s, l, "mlp.up_proj", p->inter, p->hidden, p->group);
        synthetic_linear(s, l, "mlp.down_proj", p->hidden, p->inter, p->group);
    }
    awq__text_add(&ctx, &t, "12345678{", 9);
    for (i = 0; i < s->n; i++) {
        const synthetic_tensor *k = &s->t[i];
        char second[32] = "";
        if (k->ndim > 1) snprintf(second, sizeof second, ",%lld", (long long)k->shape[1]);
        awq__textf(&ctx, &t, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld%s],\"data_offsets\":[%llu,%llu]}", i ? "," : "", k->name,
                   k->dtype, (long long)k->shape[0], second, (unsigned long long)k->offset,
                   (unsigned long long)(k->offset + k->bytes));
    }
    awq__text_str(&ctx, &t, "}");
    while (t.len % 8) awq__text_str(&ctx, &t, " ");
    n = t.len - 8;
    awq__copy_little(t.data, &n, 8);
    s->head = (char *)malloc(t.len);
    memcpy(s->head, t.data, s->head_bytes = t.len);
    awq__text_free(&ctx, &t);
}

/* also serve `path` as m/tokenizer.json; 0: it cannot be read */
static AWQ__UNUSED int synthetic_tokenizer(synthetic *s, const char *path)
{
    awq_ctx ctx;
    char *data;
    size_t bytes;
    memset(&ctx, 0, sizeof ctx);
    if (awq__file_load(&ctx, path, (size_t)1 << 30, &data, &bytes)) return 0;
    s->tokenizer = (char *)malloc(bytes + 1);
    memcpy(s->tokenizer, data, bytes);
    s->tokenizer_bytes = bytes;
    awq__free(&ctx, data);
    return 1;
}

static void synthetic_free(synthetic *s)
{
    free(s->tokenizer);
    free(s->head);
    free(s->t);
}

static uint64_t synthetic_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* a file handle is 1 (config.json), 2 (model.safetensors) or 3 (tokenizer.json) in a pointer's clothes */
static int synthetic_open(void *user, const char *path, int for_write, void **file)
{
    synthetic *s = (synthetic *)user;
    if (for_write) return EROFS;
    *file = !strcmp(path, "m/config.json") ? (void *)1 : !strcmp(path, "m/model.safetensors") ? (void *)2 : NULL;
    if (s->tokenizer && !strcmp(path, "m/tokenizer.json")) *file = (void *)3;
    return *file ? 0 : ENOENT;
}

static int synthetic_size(void *user, void *file, uint64_t *bytes)
{
    synthetic *s = (synthetic *)user;
    *bytes = file == (void *)1 ? strlen(s->config) : file == (void *)3 ? s->tokenizer_bytes : s->head_bytes + s->data_bytes;
    return 0;
}

static int synthetic_read(void *user, void *file, uint64_t offset, void *data, size_t bytes)
{
    synthetic *s = (synthetic *)user;
    char *to = (char *)data;
    uint64_t at;
    int lo = 0, hi = s->n;
    if (file != (void *)2) {
        memcpy(to, (file == (void *)1 ? s->config : s->tokenizer) + offset, bytes);
        return 0;
    }
    for (; bytes && offset < s->head_bytes; bytes--) *to++ = s->head[offset++];
    at = offset - s->head_bytes;
    while (hi - lo > 1) { /* the tensor that byte `at` belongs to */
        int mid = (lo + hi) / 2;
        if (s->t[mid].offset <= at) lo = mid;
        else hi = mid;
    }
    for (; bytes; lo++) {
        const synthetic_tensor *t = &s->t[lo];
        uint64_t x = 0, eight = ~(uint64_t)0; /* bytes at 8 `eight` and behind */
        for (; bytes && at < t->offset + t->bytes; at += 2, to += 2, bytes -= 2) { /* all reads are of whole elements */
            uint16_t h;
            if (at / 8 != eight) x = synthetic_mix((eight = at / 8) * 0x9e3779b97f4a7c15ull);
            if (t->spread <= 0 && at % 8 == 0 && bytes >= 8 && at + 8 <= t->offset + t->bytes) {
                awq__copy_little(to, &x, 8);
                at += 6, to += 6, bytes -= 6;
                continue;
            }
            h = (uint16_t)(x >> at % 8 * 8);
            if (t->spread > 0) h = awq__float_f16((float)(t->middle + t->spread * (h / 32768.0 - 1)));
            awq__copy_little(to, &h, 2);
        }
    }
    return 0;
}

static int synthetic_close(void *user, void *file) { (void)user, (void)file; return 0; }

static awq_file_system synthetic_files(synthetic *s)
{
    awq_file_system fs;
    memset(&fs, 0, sizeof fs);
    fs.open = synthetic_open;
    fs.size = synthetic_size;
    fs.read = synthetic_read;
    fs.close = synthetic_close;
    fs.user = s;
    return fs;
}
#endif
