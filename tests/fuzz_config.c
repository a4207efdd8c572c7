/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_config.c -o fuzz_config -lm -lpthread
   ./fuzz_config -max_total_time=60
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_config.c -o fuzz_config -lm -lpthread && ./fuzz_config FILE ...
   The input is config.json; what follows a zero byte is generation_config.json, or quant_config.json if that begins
   with a space. The tensors are those of tiny.h, packed as GEMM when the first byte is a space; when it is a tab, those
   that the config wants, all zero, as long as they are small. Whatever opens must read. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "tiny.h"

/* a tensor of zeros behind the header h, unless there is one of this name; ndim <= 3 */
static void wanted(awq_ctx *ctx, awq__text *h, uint64_t *at, const char *name, int ndim, int64_t a, int64_t b, int64_t c)
{
    char quoted[300];
    uint64_t n;
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    if ((h->data && strstr(h->data, quoted)) || a > 65536 || b > 65536 || c > 65536) return;
    n = (uint64_t)a * (ndim > 1 ? (uint64_t)b : 1) * (ndim > 2 ? (uint64_t)c : 1) * 2;
    if (n > 1 << 20 || *at + n > 1 << 20) return;
    awq__textf(ctx, h, "%s%s{\"dtype\":\"F16\",\"shape\":[%d", h->len > 8 ? "," : "{", quoted, (int)a);
    if (ndim > 1) awq__textf(ctx, h, ",%d", (int)b);
    if (ndim > 2) awq__textf(ctx, h, ",%d", (int)c);
    awq__textf(ctx, h, "],\"data_offsets\":[%d,%d]}", (int)*at, (int)(*at + n));
    *at += n;
}

/* a shard with what a config wants; bytes 0: it cannot be read, or wants much */
static char *family(awq_ctx *ctx, const char *text, size_t n, size_t *bytes)
{
    awq__text h = {NULL, 0, 0, 0};
    awq_checkpoint *ck = (awq_checkpoint *)calloc(1, sizeof *ck);
    awq_config *c = &ck->config;
    awq__json j;
    char name[256], suffixed[300];
    uint64_t at = 0, head;
    int l, id, x, k;
    *bytes = 0;
    if (!awq__json_parse(ctx, "c", text, n, &j)) {
        if (!awq__cfg_read(ctx, &j, c) && c->num_hidden_layers <= 4 && c->num_experts <= 8) {
            int plus = c->family->norm == AWQ_NORM_LAYER_BIAS;
            c->prefix = "model.";
            awq__text_str(ctx, &h, "01234567");
            wanted(ctx, &h, &at, awq__ck_name(name, c, c->family->embed, 0, 0, ""), 2, c->vocab_size, c->hidden_size, 0);
            wanted(ctx, &h, &at, awq__ck_name(name, c, c->family->final_norm, 0, 0, ""), 1, c->hidden_size, 0, 0);
            if (plus) wanted(ctx, &h, &at, awq__ck_name(name, c, c->family->final_norm, 0, 0, "..bias"), 1, c->hidden_size, 0, 0);
            if (c->tie_word_embeddings != 1)
                wanted(ctx, &h, &at, awq__ck_name(name, c, c->family->head, 0, 0, ""), 2, c->vocab_size, c->hidden_size, 0);
            for (l = 0; l < c->num_hidden_layers; l++) {
                for (id = 0; id < AWQ_N_VECTORS; id++) {
                    int64_t size = awq__vector_size(c, l, id);
                    int own = c->qk_norm == AWQ_QK_OWN && (id == AWQ_Q_NORM || id == AWQ_K_NORM);
                    if (!size) continue;
                    wanted(ctx, &h, &at, awq__ck_name(name, c, c->family->vector[id], l, 0, ""), 1 + own,
                           own ? size / c->head_dim : size, c->head_dim, 0);
                    if (awq__has_norm_bias(c, id))
                        wanted(ctx, &h, &at, awq__ck_name(name, c, c->family->vector[id], l, 0, "..bias"), 1, size, 0, 0);
                }
                for (id = 0; id < AWQ_N_LINEAR_IDS; id++)
                    for (x = 0; x < awq_linear_count(c, l, (awq_linear_id)id); x++) {
                        awq_linear_info info;
                        int64_t out, in, rows = awq__ck_rows(c, l, id, x, &info);
                        int bias = awq__ck_linear_shape(c, id, &out, &in), all = awq__is_stacked(c, id);
                        int turned = all && c->family->flags & AWQ_FAMILY_TRANSPOSED;
                        for (k = 0; k <= (bias != 0); k++) {
                            snprintf(suffixed, sizeof suffixed, "%s%s", info.name,
                                     k ? turned ? "_bias" : ".bias" : turned ? "" : ".weight");
                            if (all && k) wanted(ctx, &h, &at, suffixed, 2, c->num_experts, rows, 0);
                            else if (all)
                                wanted(ctx, &h, &at, suffixed, 3, c->num_experts, turned ? in : rows, turned ? rows : in);
                            else wanted(ctx, &h, &at, suffixed, 2 - k, rows, in, 0);
                        }
                    }
            }
            if (h.len > 8) awq__text_str(ctx, &h, "}");
            while (h.len % 8) awq__text_str(ctx, &h, " ");
            if (h.len > 8 && !h.failed) {
                head = h.len - 8;
                for (k = 0; k < 8; k++) h.data[k] = (char)(head >> 8 * k);
                *bytes = h.len + (size_t)at;
            }
        }
        awq__json_free(ctx, &j);
    }
    free(ck);
    {
        char *shard = *bytes ? (char *)calloc(*bytes, 1) : NULL;
        if (shard) memcpy(shard, h.data, h.len);
        awq__text_free(ctx, &h);
        return shard;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tiny model[2]; /* built once */
    const uint8_t *zero = size ? (const uint8_t *)memchr(data, 0, size) : NULL;
    tiny *t = &model[size && data[0] == ' '];
    awq_memory_file files[3];
    awq_memory_list list;
    awq_checkpoint *ck = NULL;
    awq_ctx ctx;
    char *shard = NULL;
    int i, layer;
    if (!t->st) {
        memset(&ctx, 0, sizeof ctx);
        tiny_llama(t);
        if (t == &model[1] && tiny_quantize(t, &ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL)) abort();
        tiny_ctx(t);
    }
    files[0].path = "m/config.json";
    files[0].data = data;
    files[0].bytes = zero ? (size_t)(zero - data) : size;
    files[1] = t->files[1];
    files[2].path = zero && zero + 1 < data + size && zero[1] == ' ' ? "m/quant_config.json" : "m/generation_config.json";
    files[2].data = zero ? zero + 1 : NULL;
    files[2].bytes = zero ? size - files[0].bytes - 1 : 0;
    list.files = files;
    list.count = zero ? 3 : 2;
    memset(&ctx, 0, sizeof ctx);
    ctx.files = awq_memory_files(&list);
    ctx.memory_limit = (size_t)256 << 20;
    if (size && data[0] == '\t') {
        size_t bytes;
        shard = family(&ctx, (const char *)data, files[0].bytes, &bytes);
        if (shard) files[1].data = shard, files[1].bytes = bytes;
        ctx.err.text[0] = 0;
    }
    if (awq_checkpoint_open(&ctx, "m", &ck)) {
        if (!ctx.err.text[0] || ctx.memory_used) abort();
        free(shard);
        return 0;
    }
    for (layer = 0; layer < awq_checkpoint_config(ck)->num_hidden_layers; layer++)
        for (i = 0; i < AWQ_N_LINEAR_IDS; i++) {
            awq_linear_info info;
            awq_qweight w;
            if (!awq_linear_count(awq_checkpoint_config(ck), layer, (awq_linear_id)i)) continue;
            if (awq_checkpoint_linear(&ctx, ck, layer, (awq_linear_id)i, &info)) abort();
            if (!info.quantized) continue;
            if (awq_checkpoint_read_qweight(&ctx, ck, &info, &w)) abort();
            awq_qweight_free(&ctx, &w);
        }
    awq_checkpoint_close(&ctx, ck);
    free(shard);
    if (ctx.memory_used) abort();
    return 0;
}

#include "fuzz.h"
