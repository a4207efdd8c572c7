/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_checkpoint.c -o fuzz_checkpoint -lm -lpthread
   ./fuzz_checkpoint -max_total_time=60
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_checkpoint.c -o fuzz_checkpoint -lm -lpthread && ./fuzz_checkpoint FILE ...
   The input says how the model of tiny.h is packed (layout, bits, group, mode: a byte each), then what is wrong with
   its tensors (six bytes each, up to a '{'), then perhaps a quantization_config. What opens must read, load and run,
   or say why not. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "tiny.h"

enum { BASES = 64 };

static const struct {
    awq_layout layout;
    const char *config; /* with bits, group */
} packings[] = {
    {AWQ_LAYOUT_GEMM, "{\"quant_method\":\"awq\",\"version\":\"gemm\",\"bits\":%d,\"group_size\":%d,\"zero_point\":true}"},
    {AWQ_LAYOUT_GEMV, "{\"quant_method\":\"awq\",\"version\":\"gemv\",\"bits\":%d,\"group_size\":%d,\"zero_point\":true}"},
    {AWQ_LAYOUT_GEMV_FAST,
     "{\"quant_method\":\"awq\",\"version\":\"gemv_fast\",\"bits\":%d,\"group_size\":%d,\"zero_point\":true}"},
    {AWQ_LAYOUT_MARLIN, "{\"quant_method\":\"awq\",\"version\":\"marlin\",\"bits\":%d,\"group_size\":%d,\"zero_point\":false}"},
    {AWQ_LAYOUT_GPTQ, "{\"quant_method\":\"gptq\",\"bits\":%d,\"group_size\":%d,\"desc_act\":true,\"sym\":false}"},
    {AWQ_LAYOUT_GPTQ_V2,
     "{\"quant_method\":\"gptq\",\"bits\":%d,\"group_size\":%d,\"desc_act\":false,\"checkpoint_format\":\"gptq_v2\"}"},
    {AWQ_LAYOUT_COMPRESSED_TENSORS,
     "{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\",\"config_groups\":{\"group_0\":{\"targets\":"
     "[\"Linear\"],\"weights\":{\"num_bits\":%d,\"group_size\":%d,\"strategy\":\"group\",\"symmetric\":false,\"type\":\"int\"}}},"
     "\"ignore\":[\"lm_head\"]}"},
    {AWQ_LAYOUT_NATIVE, "{\"quant_method\":\"awq\",\"version\":\"native\",\"bits\":%d,\"group_size\":%d,\"zero_point\":true}"}};

static const int64_t numbers[] = {0, 1, -1, 2, 7, 8, 16, 31, 32, 33, 63, 64, 65, 96, 127, 128, 256, 4096, 65536, 0x7fffffff,
                                  (int64_t)1 << 31, (int64_t)1 << 32, (int64_t)1 << 40, (int64_t)1 << 62, INT64_MAX};

static int64_t number(unsigned byte)
{
    return byte < 128 ? (int64_t)byte : numbers[byte % (sizeof numbers / sizeof numbers[0])];
}

static tiny *base(unsigned packing, int bits, int group)
{
    static tiny *all[BASES];
    static const int all_bits[] = {2, 3, 4, 8};
    unsigned at = packing * 8 + (unsigned)(bits & 3) * 2 + (unsigned)(group & 1);
    if (!all[at]) {
        awq_ctx ctx;
        char config[512];
        tiny *t = (tiny *)calloc(1, sizeof *t);
        memset(&ctx, 0, sizeof ctx);
        bits = all_bits[bits & 3];
        group = group & 1 ? 64 : 32;
        tiny_llama(t);
        if (tiny_quantize(t, &ctx, packings[packing].layout, bits, group, packings[packing].layout == AWQ_LAYOUT_MARLIN,
                          AWQ_F16, NULL))
            abort();
        snprintf(config, sizeof config, packings[packing].config, bits, group);
        tiny_set(t, "quantization_config", config);
        t->native = packings[packing].layout == AWQ_LAYOUT_NATIVE ? AWQ__NATIVE_VERSION : 0;
        all[at] = t;
    }
    return all[at];
}

static void spoil(tiny *t, const uint8_t *e)
{
    tiny_tensor *x = &t->t[e[1] % t->n];
    int64_t n = number(e[3]);
    switch (e[0] % 8) {
    case 0: /* a dimension, with or without the data for it */
        x->shape[e[2] % 3] = n;
        if (e[4] & 1 || n < 0 || n > 512) break;
        x->ndim = AWQ__MIN(x->ndim, 2);
        if (x->shape[0] < 0 || x->shape[1] < 0 || x->shape[0] > 512 || x->shape[1] > 512) break;
        tiny_resize(x, x->dtype, x->ndim, x->shape[0], x->shape[1]);
        memset(x->data, e[5], x->bytes);
        break;
    case 1: /* a type */
        x->dtype = (awq_dtype)(1 + e[2] % AWQ_F8_E5M2);
        if (!(e[4] & 1) && x->ndim < 3 && x->shape[0] >= 0 && x->shape[1] >= 0 && x->shape[0] <= 512 && x->shape[1] <= 512)
            tiny_resize(x, x->dtype, x->ndim, x->shape[0], x->shape[1]);
        break;
    case 2: /* values */
        if (x->bytes) memset(x->data + (e[2] | e[3] << 8) % x->bytes, e[4], 1);
        break;
    case 3:
        if (t->n > 1) tiny_remove(t, x->name);
        break;
    case 4: x->ndim = e[2] % 4; break;
    case 5: /* one takes the name of another */
        memmove(x->name, t->t[e[2] % t->n].name, sizeof x->name);
        break;
    case 6: /* a member of config.json */
        snprintf(t->values[e[1] % t->n_keys], sizeof t->values[0], "%lld", (long long)n);
        break;
    case 7: /* the same value everywhere: NaN scales, zeros, g_idx out of range */
        memset(x->data, e[2], x->bytes);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tiny t;
    const tiny *b;
    awq_checkpoint *ck = NULL;
    awq_model *m = NULL;
    awq_model_desc md;
    awq_ctx ctx;
    int i, layer, edits = 0;
    size_t at = 4;
    if (size < 4) return 0;
    b = base(data[0] % 8, data[1], data[2]);
    t = *b;
    t.st = NULL;
    for (i = 0; i < t.n; i++) {
        t.t[i].data = (unsigned char *)malloc(b->t[i].bytes + 1);
        memcpy(t.t[i].data, b->t[i].data, b->t[i].bytes);
    }
    for (; at + 6 <= size && data[at] != '{' && edits < 16; at += 6, edits++) spoil(&t, data + at);
    if (at < size && data[at] == '{' && size - at < sizeof t.values[0] && !memchr(data + at, 0, size - at)) {
        char config[sizeof t.values[0]];
        snprintf(config, sizeof config, "%.*s", (int)(size - at), (const char *)data + at);
        tiny_set(&t, "quantization_config", config);
    }
    ctx = tiny_ctx(&t);
    ctx.memory_limit = (size_t)256 << 20;
    if (awq_checkpoint_open(&ctx, "m", &ck)) {
        if (!ctx.err.text[0] || ctx.memory_used) abort();
        tiny_free(&t);
        return 0;
    }
    for (layer = 0; layer < awq_checkpoint_config(ck)->num_hidden_layers; layer++)
        for (i = 0; i < AWQ_N_LINEAR_IDS; i++) {
            awq_linear_info info;
            awq_qweight w;
            if (!awq_linear_count(awq_checkpoint_config(ck), layer, (awq_linear_id)i)) continue;
            if (awq_checkpoint_linear(&ctx, ck, layer, (awq_linear_id)i, &info)) abort();
            if (!info.quantized) continue;
            if (!awq_checkpoint_read_qweight(&ctx, ck, &info, &w)) awq_qweight_free(&ctx, &w);
            else if (!ctx.err.text[0]) abort();
        }
    awq_checkpoint_close(&ctx, ck);
    if (ctx.memory_used) abort();
    memset(&md, 0, sizeof md);
    md.mode = (awq_mode)(data[3] % 3);
    ctx.err.text[0] = 0;
    if (awq_model_load(&ctx, "m", &md, &m)) {
        if (!ctx.err.text[0]) abort();
    } else {
        int32_t ids[3] = {5, 1, 7}, out[4];
        awq_generate_desc d;
        memset(&d, 0, sizeof d);
        d.ids = ids;
        d.n_ids = awq_model_config(m)->vocab_size > 7 ? 3 : 0;
        d.max_tokens = 4;
        d.out_ids = out;
        if (d.n_ids && awq_generate(&ctx, m, &d, NULL) && !ctx.err.text[0]) abort();
        if (awq_model_free(&ctx, m)) abort();
    }
    if (ctx.memory_used) abort();
    tiny_free(&t);
    return 0;
}

#include "fuzz.h"
