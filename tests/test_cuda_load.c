/* cuda_load: how weights come to the GPU, on the emulated driver of tests/cuda/driver.cpp: bit for bit what the
   canonical form gives, from every layout; the memory of the host, allocations of the device; what is refused; that
   all kernels of a model are compiled when it is loaded, by this machine's NVRTC too, and tried. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#define AWQ_CUDA_IMPLEMENTATION
#include "../awq_cuda.h"
#include "test.h"
#include "tiny.h"
#include "synthetic.h"
#include "cuda_emulator.h"

#define DIR "test_cuda_load.tmp"

static awq_cuda *need_with(awq_ctx *ctx, const char *nvrtc) /* NULL: the NVRTC of this machine; NULL: it has none */
{
    awq_cuda_desc d;
    awq_cuda *c = NULL;
    unsetenv("AWQ_EMULATOR_FAIL");
    unsetenv("AWQ_EMULATOR_COMPUTE");
    if (reset) reset();
    memset(ctx, 0, sizeof *ctx);
    memset(&d, 0, sizeof d);
    d.driver = emulator;
    d.nvrtc = nvrtc;
    d.no_cache = 1;
    if (awq_cuda_create(ctx, &d, &c)) CHECK_MSG(!nvrtc && strstr(ctx->err.text, "no NVRTC"), "%s", ctx->err.text);
    return c;
}

static awq_cuda *need(awq_ctx *ctx) { return need_with(ctx, emulator); }

static void done(awq_ctx *ctx, awq_cuda *c)
{
    char text[256];
    awq_cuda_free(ctx, c);
    CHECK(ctx->memory_used == 0);
    CHECK_MSG(live(text, sizeof text) == 0, "%s", text);
}

static awq_status load(awq_ctx *ctx, awq_cuda *c, const char *folder, awq_model_desc d, awq_model **m)
{
    awq_device *list[1];
    list[0] = awq_cuda_device(c);
    d.devices = list;
    d.n_devices = 1;
    d.no_tokenizer = 1;
    return awq_model_load(ctx, folder, &d, m);
}

/* --- the same bytes as by the canonical form */

/* linears n of `info`, one below the other, by the public calls */
static void by_canonical(awq_ctx *ctx, awq_cuda *c, awq_checkpoint *ck, const awq_linear_info *info, int n, awq_dtype dtype,
                         awq_cuda_linear *l)
{
    int64_t in = info->in_features, rows = 0, row = 0, g;
    awq_qweight all, q;
    float *dense = NULL;
    int i, quantized = info->quantized;
    for (i = 0; i < n; i++) rows += info[i].out_features;
    memset(&all, 0, sizeof all);
    memset(l, 0, sizeof *l);
    if (quantized) CHECK(awq_qweight_alloc(ctx, rows, in, info->packed.bits, info->packed.group_size, 0, &all) == AWQ_OK);
    else dense = (float *)malloc((size_t)(rows * in) * sizeof *dense);
    for (i = 0; i < n; row += info[i++].out_features) {
        size_t count = (size_t)info[i].out_features;
        if (!quantized) {
            CHECK(awq__read_dense(ctx, ck, &info[i], dense + row * in) == AWQ_OK);
            continue;
        }
        memset(&q, 0, sizeof q);
        CHECK_MSG(awq_checkpoint_read_qweight(ctx, ck, &info[i], &q) == AWQ_OK, "%s", ctx->err.text);
        g = in / q.group_size;
        memcpy(all.codes + row * in, q.codes, count * (size_t)in);
        memcpy(all.zeros + row * g, q.zeros, count * (size_t)g);
        memcpy(all.scales + row * g, q.scales, count * (size_t)g * sizeof(float));
        q.out_features = info[i].packed.out_features;
        awq_qweight_free(ctx, &q);
    }
    if (quantized) CHECK_MSG(awq_cuda_linear_prepare(ctx, c, &all, NULL, dtype, l) == AWQ_OK, "%s", ctx->err.text);
    else CHECK(awq_cuda_linear_dense(ctx, c, AWQ_F32, dense, rows, in, NULL, dtype, l) == AWQ_OK);
    awq_qweight_free(ctx, &all);
    free(dense);
}

static int same_bytes(awq_ctx *ctx, awq_cuda *c, uint64_t a, uint64_t b, uint64_t bytes)
{
    char *x = (char *)malloc((size_t)bytes + 1), *y = (char *)malloc((size_t)bytes + 1);
    int same = !awq_cuda_download(ctx, c, x, a, (size_t)bytes) && !awq_cuda_download(ctx, c, y, b, (size_t)bytes)
               && !memcmp(x, y, (size_t)bytes);
    free(x);
    free(y);
    return same;
}

/* each linear of the folder's model; how many are packed. *hash: of the model */
static int compare(awq_ctx *ctx, awq_cuda *c, const char *folder, const char *what, uint64_t *hash)
{
    awq_model_desc d;
    awq_model *m = NULL;
    awq_checkpoint *ck = NULL;
    awq__cuda_share *s;
    int layer, k, e, n, packed = 0, seen = 0;
    memset(&d, 0, sizeof d);
    CHECK_MSG(load(ctx, c, folder, d, &m) == AWQ_OK, "%s: %s", what, ctx->err.text);
    CHECK(awq_checkpoint_open(ctx, folder, &ck) == AWQ_OK);
    if (!m || !ck) return 0;
    s = (awq__cuda_share *)m->share[0].data;
    *hash = awq_model_hash(m);
    for (layer = 0; layer < s->n; layer++)
        for (k = 0; k < AWQ_N_LINEAR_IDS; k++)
            for (e = 0; e < awq_linear_count(&m->config, layer, (awq_linear_id)k); e++) {
                awq_linear_info info[3];
                awq_cuda_linear want, *l = k < AWQ_EXPERT_GATE ? &s->layer[layer].linear[k]
                                                               : &s->layer[layer].expert[(k - AWQ_EXPERT_GATE)
                                                                                         * m->config.num_experts + e];
                int64_t rows;
                uint64_t size[2];
                if (!l->weights) continue; /* joined */
                CHECK(awq_checkpoint_expert(ctx, ck, layer, (awq_linear_id)k, e, &info[0]) == AWQ_OK);
                for (n = 1, rows = info[0].out_features; rows < l->out_features; n++, rows += info[n - 1].out_features)
                    CHECK(awq_checkpoint_expert(ctx, ck, layer, (awq_linear_id)(k + n), e, &info[n]) == AWQ_OK);
                packed += info[0].quantized;
                by_canonical(ctx, c, ck, info, n, s->dtype, &want);
                awq__cuda_linear_sizes(&want, size);
                CHECK_MSG(want.bits == l->bits && want.out_features == l->out_features, "%s: %s", what, info[0].name);
                CHECK_MSG(same_bytes(ctx, c, want.weights, l->weights, size[0]), "%s: weights of %s, %d", what, info[0].name, n);
                CHECK_MSG(same_bytes(ctx, c, want.params, l->params, size[1]), "%s: params of %s, %d", what, info[0].name, n);
                awq_cuda_linear_free(ctx, c, &want);
                seen++;
            }
    CHECK(seen >= 4);
    awq_checkpoint_close(ctx, ck);
    CHECK(awq_model_free(ctx, m) == AWQ_OK);
    return packed;
}

#define I8(more) "{\"quant_method\": \"compressed-tensors\", \"format\": \"int-quantized\", \"config_groups\": " \
                 "{\"g\": {\"weights\": {" more "}}}}"
#define CT(more) "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": " \
                 "{\"g\": {\"weights\": {" more "}}}}"
static const struct {
    awq_layout layout;
    int bits, group, symmetric;
    awq_dtype scales;
    const char *config;
} kinds[] = {
    {AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 32}"},
    {AWQ_LAYOUT_GEMM, 4, -1, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": -1, \"format\": \"gemm\"}"},
    {AWQ_LAYOUT_GEMV, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 32, \"version\": \"GEMV\"}"},
    {AWQ_LAYOUT_GEMV_FAST, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 32, \"version\": \"gemv_fast\"}"},
    {AWQ_LAYOUT_GEMV, 4, 64, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 64, \"version\": \"GEMV\"}"},
    {AWQ_LAYOUT_GEMV_FAST, 4, 64, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 64, \"version\": \"gemv_fast\"}"},
    {AWQ_LAYOUT_MARLIN, 4, -1, 1, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": -1, \"zero_point\": false, "
     "\"version\": \"marlin\", \"modules_to_not_convert\": [\"k_proj\", \"v_proj\"]}"},
    {AWQ_LAYOUT_MARLIN, 4, 32, 1, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 32, \"zero_point\": false, "
     "\"version\": \"marlin\", \"modules_to_not_convert\": [\"k_proj\", \"v_proj\"]}"},
    {AWQ_LAYOUT_GPTQ, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32, \"sym\": false, "
     "\"desc_act\": false}"},
    {AWQ_LAYOUT_GPTQ, 8, 32, 1, AWQ_F16, "{\"quant_method\": \"gptq\", \"bits\": 8, \"group_size\": 32}"},
    {AWQ_LAYOUT_GPTQ, 3, 32, 1, AWQ_F16, "{\"quant_method\": \"gptq\", \"bits\": 3, \"group_size\": 32}"},
    {AWQ_LAYOUT_GPTQ, 2, 64, 0, AWQ_F16, "{\"quant_method\": \"gptq\", \"bits\": 2, \"group_size\": 64, \"sym\": false}"},
    {AWQ_LAYOUT_GPTQ_V2, 3, -1, 0, AWQ_F16, "{\"quant_method\": \"gptq\", \"bits\": 3, \"group_size\": -1, \"sym\": false, "
     "\"checkpoint_format\": \"gptq_v2\"}"},
    {AWQ_LAYOUT_GPTQ_V2, 4, 64, 0, AWQ_F16, "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 64, \"sym\": false, "
     "\"checkpoint_format\": \"gptq_v2\"}"},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 4, 32, 0, AWQ_F16, CT("\"num_bits\": 4, \"symmetric\": false, \"group_size\": 32")},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 4, 64, 1, AWQ_BF16, CT("\"num_bits\": 4, \"group_size\": 64")},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 8, -1, 1, AWQ_F32, CT("\"num_bits\": 8, \"strategy\": \"channel\"")},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 6, 64, 1, AWQ_F16, CT("\"num_bits\": 6, \"group_size\": 64")},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 2, 32, 1, AWQ_F16, CT("\"num_bits\": 2, \"group_size\": 32")},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 3, 32, 0, AWQ_F16, CT("\"num_bits\": 3, \"symmetric\": false, \"group_size\": 32")},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 5, 64, 0, AWQ_BF16, CT("\"num_bits\": 5, \"symmetric\": false, \"group_size\": 64")},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 7, -1, 0, AWQ_F16, CT("\"num_bits\": 7, \"symmetric\": false, \"strategy\": \"channel\"")},
    {AWQ_LAYOUT_INT8, 8, -1, 1, AWQ_BF16, I8("\"num_bits\": 8, \"strategy\": \"channel\"")},
    {AWQ_LAYOUT_INT8, 8, 32, 0, AWQ_F16, I8("\"num_bits\": 8, \"symmetric\": false, \"group_size\": 32")},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void make_kind(tiny *t, int i)
{
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    tiny_llama(t);
    tiny_set(t, "quantization_config", kinds[i].config);
    CHECK(tiny_quantize(t, &ctx, kinds[i].layout, kinds[i].bits, kinds[i].group, kinds[i].symmetric, kinds[i].scales, NULL)
          == AWQ_OK);
}

/* every layout, and as native, whose hash is that of what it was made from; gptq as GPTQModel writes it */
static void test_layouts(void)
{
    awq_ctx gpu;
    awq_cuda *c;
    int i, k;
    NEED_EMULATOR;
    c = need(&gpu);
    for (i = 0; c && i < KINDS; i++) {
        static const char *const names[] = {"config.json", "model.safetensors"};
        awq_convert_desc d;
        awq_ctx ctx, files;
        uint64_t hash = 0, native = 0;
        char path[200];
        tiny t;
        make_kind(&t, i);
        ctx = tiny_ctx(&t);
        CHECK_MSG(compare(&ctx, c, "m", kinds[i].config, &hash) > 0, "%s", kinds[i].config);
        CHECK(ctx.memory_used == 0);
        memset(&files, 0, sizeof files);
        memset(&d, 0, sizeof d);
        CHECK(system("rm -rf " DIR " && mkdir -p " DIR "/m") == 0);
        for (k = 0; k < 2; k++) {
            snprintf(path, sizeof path, DIR "/m/%s", names[k]);
            CHECK(awq__file_save(&files, path, (const char *)t.files[k].data, t.files[k].bytes) == AWQ_OK);
        }
        d.source = DIR "/m";
        d.target = DIR "/native";
        d.layout = AWQ_LAYOUT_NATIVE;
        CHECK_MSG(awq_convert(&files, &d) == AWQ_OK, "%s", files.err.text);
        CHECK_MSG(compare(&files, c, d.target, "native", &native) > 0, "native of %s", kinds[i].config);
        CHECK_MSG(hash == native, "%s", kinds[i].config);
        CHECK(files.memory_used == 0);
        tiny_free(&t);
        if (kinds[i].layout == AWQ_LAYOUT_GPTQ && kinds[i].bits != 3) {
            make_kind(&t, i);
            snprintf(path, sizeof path, "{\"quant_method\": \"gptq\", \"bits\": %d, \"group_size\": %d, \"sym\": %s, \"meta\": "
                     "{\"quantizer\": [\"gptqmodel:1.4\"]}}", kinds[i].bits, kinds[i].group, kinds[i].symmetric ? "true" : "false");
            tiny_set(&t, "quantization_config", path);
            ctx = tiny_ctx(&t);
            CHECK(compare(&ctx, c, "m", "gptqmodel", &native) > 0);
            tiny_free(&t);
        }
    }
    CHECK(system("rm -rf " DIR) == 0);
    done(&gpu, c);
}

/* dense in each type, stacked experts, a linear that is some rows of what is stored, one whose inputs want padding */
static void test_others(void)
{
    static const char *const stacked = CT("\"num_bits\": 4, \"type\": \"int\", \"symmetric\": false, \"group_size\": 32");
    static const awq_dtype types[] = {AWQ_F16, AWQ_BF16, AWQ_F32};
    awq_ctx gpu, ctx;
    awq_cuda *c;
    awq_qweight w[6];
    uint64_t hash;
    tiny t;
    int i, k;
    size_t j;
    NEED_EMULATOR;
    c = need(&gpu);
    if (!c) return;
    for (k = 0; k < 6; k++) { /* activations in F16, then in BF16 */
        tiny_llama(&t);
        if (k >= 3) tiny_set(&t, "torch_dtype", "\"bfloat16\"");
        for (i = 0; i < t.n; i++) {
            tiny_tensor *x = &t.t[i];
            size_t n = x->bytes / 2, es = awq_dtype_size(types[k % 3]);
            unsigned char *to = (unsigned char *)calloc(n, es);
            for (j = 0; j < n; j++) {
                float f = awq__f16_float(((uint16_t *)x->data)[j]);
                uint16_t h = awq__float_bf16(f);
                memcpy(to + j * es, types[k % 3] == AWQ_F32 ? (void *)&f : types[k % 3] == AWQ_BF16 ? (void *)&h
                                                                           : (void *)(x->data + 2 * j), es);
            }
            free(x->data);
            x->data = to;
            x->bytes = n * es;
            x->dtype = types[k % 3];
        }
        ctx = tiny_ctx(&t);
        CHECK(compare(&ctx, c, "m", "dense", &hash) == 0);
        CHECK(ctx.memory_used == 0);
        tiny_free(&t);
    }
    memset(w, 0, sizeof w);
    memset(&ctx, 0, sizeof ctx);
    CHECK(tiny_stacked(&t, 4, stacked, w, &ctx) == AWQ_OK);
    for (i = 0; i < 6; i++) awq_qweight_free(&ctx, &w[i]);
    ctx = tiny_ctx(&t);
    CHECK(compare(&ctx, c, "m", "stacked experts", &hash) == 6); /* gate and up are one, of each of three; and down */
    CHECK(ctx.memory_used == 0);
    for (k = 0; k < 2; k++) { /* wgmma of experts is for many rows: compiled, and tried, when they come */
        awq_model_desc d;
        awq_model *m = NULL;
        awq_session *s = NULL;
        int32_t ids[60];
        memset(&d, 0, sizeof d);
        for (i = 0; i < 60; i++) ids[i] = i;
        setenv("AWQ_EMULATOR_WRONG", k ? "awq_experts4_wgmma128_f16" : "", 1);
        c->tested &= ~(3u << AWQ__CUDA_TEST_MANY_AT);
        CHECK_MSG(load(&ctx, c, "m", d, &m) == AWQ_OK, "%s", ctx.err.text);
        CHECK(c->module[AWQ__CUDA_EXPERTS][0]);
        CHECK(open_session(&ctx, m, 64, &s) == AWQ_OK);
        CHECK_MSG(awq_session_feed(&ctx, s, ids, 20, NULL, NULL) == AWQ_OK, "%s", ctx.err.text);
        CHECK(k || !c->module[AWQ__CUDA_EXPERTS_WGMMA][0]);
        CHECK(awq_session_rewind(&ctx, s, 0) == AWQ_OK);
        CHECK_MSG(awq_session_feed(&ctx, s, ids, 60, NULL, NULL) == (k ? AWQ_E_DEVICE : AWQ_OK), "%s", ctx.err.text);
        CHECK(!k || strstr(ctx.err.text, "awq_experts4_wgmma128_f16 computes wrongly"));
        CHECK(c->module[AWQ__CUDA_EXPERTS_WGMMA][0] && (int)(c->tested >> AWQ__CUDA_TEST_MANY_AT & 1) == 1 - k);
        close_session(&ctx, s);
        CHECK(awq_model_free(&ctx, m) == AWQ_OK);
        CHECK(ctx.memory_used == 0);
    }
    unsetenv("AWQ_EMULATOR_WRONG");
    tiny_free(&t);
    done(&gpu, c);
}

/* --- what it takes */

/* Nothing of the model stays in the host's memory on its way; few allocations, and freed at once */
static void test_memory(void)
{
    static const synthetic_shape shape = {"small", 512, 1408, 3, 8, 2, 64, 4000, 128, 256};
    awq_ctx gpu;
    awq_cuda *c;
    awq_cuda_info info;
    synthetic syn;
    int head;
    NEED_EMULATOR;
    c = need(&gpu);
    synthetic_make(&syn, &shape);
    for (head = 0; c && head < 2; head++) {
        awq_model_desc d;
        awq_model *m = NULL;
        awq_ctx ctx;
        long before = calls("cuMemAlloc_v2");
        size_t rounding = head ? AWQ__CUDA_MODEL_PART / 4 * 6 : 0;
        memset(&ctx, 0, sizeof ctx);
        memset(&d, 0, sizeof d);
        ctx.files = synthetic_files(&syn);
        c->tested = AWQ__CUDA_TEST_ALL;
        d.head_bits = 8 * head;
        CHECK_MSG(load(&ctx, c, "m", d, &m) == AWQ_OK, "%s", ctx.err.text);
        CHECK_MSG(ctx.memory_peak < ((size_t)2 << 20) + rounding, "%.1f MB of %.1f", (double)ctx.memory_peak / 1e6,
                  (double)syn.data_bytes / 1e6);
        CHECK(awq_cuda_get_info(&ctx, c, &info) == AWQ_OK);
        /* tables, three layers, what the kernels find, what is repacked, which grows */
        CHECK_MSG(calls("cuMemAlloc_v2") - before <= 10, "%ld allocations", calls("cuMemAlloc_v2") - before);
        CHECK(m->bytes <= info.memory_used && info.memory_used < m->bytes + ((size_t)2 << 20));
        printf("    %.1f MB: %.2f MB of the host, %ld allocations\n", (double)syn.data_bytes / 1e6,
               (double)ctx.memory_peak / 1e6, calls("cuMemAlloc_v2") - before);
        before = calls("cuMemFree_v2");
        CHECK(awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0);
        CHECK(awq_cuda_get_info(&ctx, c, &info) == AWQ_OK && info.memory_used == 0);
    }
    synthetic_free(&syn);
    done(&gpu, c);
}

/* --- what is refused, with the tensor or the layer */
static void test_refused(void)
{
    static const char *const names[] = {"model.layers.0.self_attn.v_proj.scales", "lm_head.weight"};
    awq_ctx gpu, ctx;
    awq_cuda *c;
    awq_model_desc d;
    awq_model *m = NULL;
    tiny t;
    int i;
    NEED_EMULATOR;
    c = need(&gpu);
    memset(&d, 0, sizeof d);
    for (i = 0; c && i < 2; i++) { /* not finite */
        make_kind(&t, 0);
        ((uint16_t *)tiny_find(&t, names[i])->data)[7] = 0x7c01;
        ctx = tiny_ctx(&t);
        CHECK(load(&ctx, c, "m", d, &m) == AWQ_E_NUMERIC && !m);
        CHECK_MSG(strstr(ctx.err.text, i ? names[i] : "v_proj: layout gemm: the scale of row 7, group 0 is NaN or Inf")
                  && (!i || strstr(ctx.err.text, "element 7 is NaN or Inf")), "%s", ctx.err.text);
        CHECK(ctx.memory_used == 0 && c->info.memory_used == 0);
        tiny_free(&t);
    }
    for (i = 0; c && i < 2; i++) { /* finite, but not in fp16 */
        tiny_llama(&t);
        tiny_resize(tiny_find(&t, i ? "lm_head.weight" : "model.layers.0.mlp.up_proj.weight"), AWQ_F32, 2, i ? 96 : 128, 64);
        ((float *)tiny_find(&t, i ? "lm_head.weight" : "model.layers.0.mlp.up_proj.weight")->data)[50] = 1e5f;
        ctx = tiny_ctx(&t);
        CHECK(load(&ctx, c, "m", d, &m) == AWQ_E_NUMERIC && !m);
        CHECK_MSG(strstr(ctx.err.text, i ? "m: a weight of the head is too large for F16"
                                         : "m: a weight of layer 0 is too large for F16"), "%s", ctx.err.text);
        CHECK(ctx.memory_used == 0 && c->info.memory_used == 0);
        tiny_free(&t);
    }
    for (i = 0; c && i < 2; i++) { /* zero points: of gemv_fast, 0.7 of a step; of native in 3 bits, above 7 */
        const char *says = i ? "down_proj: layout native: the zero point of row 5, group 0 is above 7"
                             : "down_proj: layout gemv_fast: qzeros of row 5, group 0 is not -scale times 0 to 15";
        tiny_llama(&t);
        memset(&ctx, 0, sizeof ctx);
        tiny_set(&t, "quantization_config",
                 i ? "{\"quant_method\": \"awq\", \"version\": \"native\", \"bits\": 3, \"group_size\": 32}"
                   : "{\"quant_method\": \"awq\", \"version\": \"gemv_fast\", \"bits\": 4, \"group_size\": 32}");
        t.native = i ? AWQ__NATIVE_VERSION : 0;
        CHECK(tiny_quantize(&t, &ctx, i ? AWQ_LAYOUT_NATIVE : AWQ_LAYOUT_GEMV_FAST, i ? 3 : 4, 32, 0, AWQ_F16, NULL) == AWQ_OK);
        if (i) tiny_find(&t, "model.layers.0.mlp.down_proj.weight_params")->data[5] = 9;
        else {
            uint16_t *scales = (uint16_t *)tiny_find(&t, "model.layers.0.mlp.down_proj.scales")->data;
            uint16_t *zeros = (uint16_t *)tiny_find(&t, "model.layers.0.mlp.down_proj.qzeros")->data;
            zeros[5] = awq__float_f16(awq__f16_float(scales[5]) * -0.7f);
        }
        ctx = tiny_ctx(&t);
        CHECK(load(&ctx, c, "m", d, &m) == AWQ_E_FORMAT && !m);
        CHECK_MSG(strstr(ctx.err.text, says), "%s", ctx.err.text);
        CHECK(ctx.memory_used == 0 && c->info.memory_used == 0);
        tiny_free(&t);
    }
    for (i = 0; c && i < 2; i++) { /* scales: fp32, finite but not in fp16; of native, Inf */
        const char *says = i ? "down_proj: layout native: the scale of row 5, group 0 is NaN or Inf"
                             : "m: a scale of layer 0 is too large for fp16, which CUDA has";
        tiny_llama(&t);
        memset(&ctx, 0, sizeof ctx);
        tiny_set(&t, "quantization_config",
                 i ? "{\"quant_method\": \"awq\", \"version\": \"native\", \"bits\": 4, \"group_size\": 32}"
                   : CT("\"num_bits\": 8, \"strategy\": \"channel\""));
        t.native = i ? AWQ__NATIVE_VERSION : 0;
        CHECK(tiny_quantize(&t, &ctx, i ? AWQ_LAYOUT_NATIVE : AWQ_LAYOUT_COMPRESSED_TENSORS, i ? 4 : 8, i ? 32 : -1, !i,
                            i ? AWQ_F16 : AWQ_F32, NULL) == AWQ_OK);
        if (i) {
            uint16_t inf = 0x7c00;
            memcpy(tiny_find(&t, "model.layers.0.mlp.down_proj.weight_params")->data + 16 + 5 * 2, &inf, 2);
        } else ((float *)tiny_find(&t, "model.layers.0.mlp.down_proj.weight_scale")->data)[5] = 1e6f;
        ctx = tiny_ctx(&t);
        CHECK(load(&ctx, c, "m", d, &m) == AWQ_E_NUMERIC && !m);
        CHECK_MSG(strstr(ctx.err.text, says), "%s", ctx.err.text);
        CHECK(ctx.memory_used == 0 && c->info.memory_used == 0);
        tiny_free(&t);
    }
    done(&gpu, c);
}

/* --- kernels */

/* after loading a model nothing is compiled any more, whatever is computed; in two threads */
static void test_compile(void)
{
    int real, bf16, i;
    size_t k;
    NEED_EMULATOR;
    for (real = 0; real < 2; real++)
        for (bf16 = 0; bf16 < 2 - real; bf16++) {
            static float logits[40 * 96];
            awq_ctx gpu, ctx;
            awq_cuda *c = need_with(&gpu, real ? NULL : emulator);
            awq_pool *pool = NULL;
            awq_model_desc d;
            awq_model *m = NULL;
            awq_session *s = NULL;
            awq_feed_desc f;
            int32_t ids[40];
            int compiled;
            tiny t;
            if (!c) {
                printf("    no NVRTC is here\n");
                return;
            }
            make_kind(&t, 0);
            for (i = 0; bf16 && i < t.n; i++) {
                if (strstr(t.t[i].name, "scales") || t.t[i].dtype != AWQ_F16) continue;
                for (t.t[i].dtype = AWQ_BF16, k = 0; k < t.t[i].bytes / 2; k++) {
                    uint16_t *h = (uint16_t *)t.t[i].data + k;
                    *h = awq__float_bf16(awq__f16_float(*h));
                }
            }
            if (bf16) tiny_set(&t, "torch_dtype", "\"bfloat16\"");
            ctx = tiny_ctx(&t);
            memset(&d, 0, sizeof d);
            memset(&f, 0, sizeof f);
            f.all_logits = logits;
            for (i = 0; i < 40; i++) ids[i] = i;
            CHECK(awq_pool_create(&ctx, 2, &pool) == AWQ_OK);
            ctx.jobs = awq_pool_jobs(pool);
            CHECK_MSG(load(&ctx, c, "m", d, &m) == AWQ_OK, "%s", ctx.err.text);
            compiled = c->info.compiled;
            CHECK(compiled == 9); /* selftest; linear, wgmma, wgmma_few, dense, repack, rows, attention, sample */
            if (real)
                printf("    NVRTC %d.%d, %s: %d parts of families in %.1f s by two threads\n", c->info.nvrtc_major,
                       c->info.nvrtc_minor, c->info.arch, compiled, c->info.compile_seconds);
            CHECK(open_session(&ctx, m, 64, &s) == AWQ_OK);
            CHECK_MSG(awq_session_feed(&ctx, s, ids, 39, &f, NULL) == AWQ_OK, "%s", ctx.err.text);
            CHECK_MSG(awq_session_feed(&ctx, s, ids + 39, 1, &f, NULL) == AWQ_OK, "%s", ctx.err.text);
            CHECK(c->info.compiled == compiled);
            close_session(&ctx, s);
            CHECK(awq_model_free(&ctx, m) == AWQ_OK);
            awq_pool_free(&ctx, pool);
            CHECK(ctx.memory_used == 0);
            tiny_free(&t);
            done(&gpu, c);
        }
}

/* --- the self-test */
static long launches(void) { return calls("cuLaunchKernel") + calls("cuLaunchKernelEx"); }

/* each kernel that computes wrongly is named, by what is tried for the models that use it */
static void test_wrong(void)
{
    static const struct {
        const char *kernel;
        int bit;
    } kernels[] = {{"awq_linear_gemv32_f16", 0}, {"awq_linear_gemv_f16", 2}, {"awq_linear_gemv_bf16", 3}, {"awq_linear_mma8_f16", 2},
        {"awq_linear_mma16_f16", 2}, {"awq_linear_mma32_bf16", 3}, {"awq_linear_wgmma64_f16", 2}, {"awq_linear_wgmma128_f16", 2},
        {"awq_linear_wgmma8_f16", 2}, {"awq_linear_wgmma16_bf16", 3}, {"awq_linear_wgmma32_f16", 2},
        {"awq_linear_wgmma256_bf16", 3}, {"awq_linear8_gemv_f16", 6}, {"awq_linear8_gemv32_bf16", 5}, {"awq_linear8_mma16_f16", 6},
        {"awq_linear8_mma64_f16", 6}, {"awq_linear8_mma128_f16", 6}, {"awq_dense_gemv_f16", 8}, {"awq_dense_mma16_f16", 8},
        {"awq_dense_mma64_bf16", 9}, {"awq_dense_mma128_f16", 8}, {"awq_norm_f16", 10}, {"awq_norm_bf16", 11},
        {"awq_place_f16", 10}, {"awq_place_bf16", 11}, {"awq_act_f16", 10}, {"awq_act_bf16", 11}, {"awq_route", 12},
        {"awq_slots", 12}, {"awq_gather", 13}, {"awq_combine_f16", 12}, {"awq_combine_bf16", 13}, {"awq_attend_split_64", 14},
        {"awq_attend_many_64", 14}, {"awq_attend_split_128", 15}, {"awq_attend_many_128", 15}, {"awq_attend_split_192", 16},
        {"awq_attend_many_192", 16}, {"awq_attend_split_256", 17}, {"awq_attend_many_256", 17}, {"awq_embed_f32", 18},
        {"awq_embed_f16", 19}, {"awq_embed_bf16", 20}, {"awq_embed_8", 21}, {"awq_logits", 28}, {"awq_top", 28},
        {"awq_experts4_gemv_f16", 22}, {"awq_experts4_gemv32_bf16", 23}, {"awq_experts4_mma16_f16", 22},
        {"awq_experts4_wgmma128_bf16", 30}, {"awq_experts8_gemv_bf16", 25}, {"awq_experts8_gemv32_f16", 24},
        {"awq_experts8_mma16_bf16", 25}, {"awq_experts8_mma64_f16", 24}, {"awq_experts16_mma16_f16", 26},
        {"awq_experts16_mma64_bf16", 27}, {"awq_split", 31}, {"awq_split_transposed", 31}, {"awq_candidate", 31},
        {"awq_row_dots", 31}, {"awq_clips", 31}, {"awq_gated", 31}, {"awq_turn", 31}, {"awq_sequence", 31}};
    awq_ctx gpu, ctx;
    awq_cuda *c;
    long before;
    size_t i;
    NEED_EMULATOR;
    c = need(&gpu);
    memset(&ctx, 0, sizeof ctx);
    before = launches();
    CHECK_MSG(awq__cuda_selftest(&ctx, c, AWQ__CUDA_TEST_ALL) == AWQ_OK, "%s", ctx.err.text);
    CHECK(c->tested == AWQ__CUDA_TEST_ALL);
    printf("    %ld launches for all there is\n", launches() - before);
    for (i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, ": %s computes wrongly: ", kernels[i].kernel);
        c->desc.mma_rows = strncmp(kernels[i].kernel, "awq_linear_mma", 14) ? 0 : 32; /* instead of wgmma */
        setenv("AWQ_EMULATOR_WRONG", kernels[i].kernel, 1);
        ctx.err.text[0] = 0;
        CHECK_MSG(awq__cuda_selftest(&ctx, c, 1u << kernels[i].bit) == AWQ_E_DEVICE && strstr(ctx.err.text, name), "%s: %s",
                  kernels[i].kernel, ctx.err.text);
    }
    unsetenv("AWQ_EMULATOR_WRONG");
    CHECK(ctx.memory_used == 0);
    done(&gpu, c);
}

/* a model is refused by its kernels' first wrong one, and tried once; what fails on the way leaves nothing */
static void test_tried(void)
{
    awq_ctx gpu, ctx;
    awq_cuda *c;
    awq_model_desc d;
    awq_model *m = NULL;
    long before, first, again, all, k;
    char told[64];
    tiny t;
    NEED_EMULATOR;
    c = need(&gpu);
    if (!c) return;
    make_kind(&t, 0);
    ctx = tiny_ctx(&t);
    memset(&d, 0, sizeof d);
    setenv("AWQ_EMULATOR_WRONG", "awq_act_f16", 1);
    CHECK(load(&ctx, c, "m", d, &m) == AWQ_E_DEVICE && strstr(ctx.err.text, "awq_act_f16 computes wrongly"));
    CHECK(ctx.memory_used == 0);
    unsetenv("AWQ_EMULATOR_WRONG");
    before = launches();
    CHECK_MSG(load(&ctx, c, "m", d, &m) == AWQ_OK, "%s", ctx.err.text);
    first = launches() - before;
    CHECK(awq_model_free(&ctx, m) == AWQ_OK);
    before = launches();
    CHECK(load(&ctx, c, "m", d, &m) == AWQ_OK && awq_model_free(&ctx, m) == AWQ_OK);
    again = launches() - before;
    printf("    %ld launches to load a model first, %ld then\n", first, again);
    CHECK(first - again <= 30);
    before = calls("*");
    CHECK(awq__cuda_selftest(&ctx, c, 0x84c01) == AWQ_OK);
    all = calls("*") - before;
    CHECK(all > 50 && all < 400);
    for (k = 1; k <= all; k += 7) {
        size_t used = c->info.memory_used;
        snprintf(told, sizeof told, "*:%ld=1", k);
        setenv("AWQ_EMULATOR_FAIL", told, 1);
        ctx.err.text[0] = 0;
        CHECK_MSG(awq__cuda_selftest(&ctx, c, 0x84c01) == AWQ_OK || ctx.err.text[0], "call %ld", k);
        CHECK_MSG(ctx.memory_used == 0 && c->info.memory_used <= used + 4096, "call %ld", k);
    }
    unsetenv("AWQ_EMULATOR_FAIL");
    for (k = 0; k < 20; k++) {
        fail_alloc f = {k, 0, 0};
        awq_ctx some;
        awq_status st;
        memset(&some, 0, sizeof some);
        some.allocator = fail_allocator(&f);
        st = awq__cuda_selftest(&some, c, 0x84c01);
        CHECK_MSG((!st || st == AWQ_E_MEMORY) && f.live == 0 && some.memory_used == 0, "allocation %ld", k);
    }
    CHECK(ctx.memory_used == 0);
    tiny_free(&t);
    done(&gpu, c);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    find_emulator();
    RUN(test_layouts);
    RUN(test_others);
    RUN(test_memory);
    RUN(test_refused);
    RUN(test_compile);
    RUN(test_wrong);
    RUN(test_tried);
    return TEST_END();
}
