/* awq_convert between checkpoints on the system's files: every layout to every other and back gives the same bytes or a
   refusal, several kinds of bits and groups in one checkpoint, what surrounds a text model, experts in one tensor and
   under other names. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

#define DIR "build/test_convert"

static awq_ctx ctx;
static fail_files files = {-1, 0};

static int no_sync(void *user, void *file) { return (void)user, (void)file, 0; } /* it takes most of the time */

/* a folder of DIR that is not there, nor its .partial */
static const char *fresh(const char *name)
{
    static const char *const files[] = {"config.json", "model.safetensors", "awq_report.json"};
    static char path[12][64]; /* one for each name, for good */
    char file[1024];
    size_t i;
    int k;
    for (k = 0; path[k][0] && strcmp(path[k] + sizeof DIR, name); k++) {}
    snprintf(path[k], sizeof path[0], DIR "/%s", name);
    for (i = 0; i < 3; i++) {
        snprintf(file, sizeof file, "%s/%s", path[k], files[i]);
        awq__os_remove(NULL, file);
    }
    awq__os_remove(NULL, path[k]);
    return path[k];
}

static const char *save(tiny *t, const char *name)
{
    const char *folder = fresh(name);
    char path[128];
    int i;
    tiny_ctx(t);
    CHECK(awq__os_make_folder(NULL, folder) == 0);
    for (i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, t->files[i].path + 2);
        CHECK(awq__file_save(&ctx, path, (const char *)t->files[i].data, t->files[i].bytes) == AWQ_OK);
    }
    return folder;
}

static awq_status rewrite(const char *source, const char *target, awq_layout layout, awq_dtype dequantize)
{
    awq_convert_desc d;
    memset(&d, 0, sizeof d);
    d.source = source;
    d.target = target;
    d.layout = layout;
    d.dequantize = dequantize;
    return awq_convert(&ctx, &d);
}

static awq_status convert(const char *source, const char *target, awq_layout layout)
{
    return rewrite(source, target, layout, AWQ_DTYPE_NONE);
}

static char *load(const char *folder, const char *name, size_t *bytes)
{
    char path[160], *data = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK_MSG(awq__file_load(&ctx, path, (size_t)1 << 28, &data, bytes) == AWQ_OK, "%s", ctx.err.text);
    return data;
}

static int same(const char *a, const char *b, const char *name)
{
    size_t n = 0, m = 0;
    char *x = load(a, name, &n), *y = load(b, name, &m);
    int equal = x && y && n == m && !memcmp(x, y, n);
    awq__free(&ctx, x);
    awq__free(&ctx, y);
    return equal;
}

static int says(const char *folder, const char *text) /* in config.json */
{
    size_t n = 0;
    char *config = load(folder, "config.json", &n);
    int there = config && strstr(config, text);
    if (!there) printf("    %s\n", config ? config : "no config.json");
    awq__free(&ctx, config);
    return there;
}

static const char compressed[] = "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", "
                                 "\"config_groups\": {\"g\": {\"weights\": {\"num_bits\": %d, \"symmetric\": %s, "
                                 "\"group_size\": %d}}}}";

/* a tiny llama whose linears from `first` on are packed */
static void pack(tiny *t, int bits, int group, int symmetric, awq_dtype scales)
{
    char config[512];
    snprintf(config, sizeof config, compressed, bits, symmetric ? "true" : "false", group);
    tiny_set(t, "quantization_config", config);
    CHECK(tiny_quantize(t, &ctx, AWQ_LAYOUT_COMPRESSED_TENSORS, bits, group, symmetric, scales, NULL) == AWQ_OK);
}

/* whether every linear of the tiny llama fits the layout */
static int fits(awq_layout layout, int bits, int group, int symmetric)
{
    int k;
    for (k = 0; k < 7; k++) {
        awq_qweight w;
        awq_packed p;
        memset(&w, 0, sizeof w);
        w.out_features = tiny_linears[k].out, w.in_features = tiny_linears[k].in, w.bits = bits;
        w.group_size = group < 0 ? w.in_features : group, w.symmetric = symmetric, w.scale_dtype = AWQ_F16;
        if (awq_layout_describe(&ctx, layout, &w, &p)) return 0;
    }
    return 1;
}

static void test_all_pairs(void)
{
    static const struct {
        int bits, group, wide; /* wide: 64 rows for k and v, so that marlin holds them */
    } cases[] = {{4, 32, 1}, {4, 64, 0}, {4, 16, 1}, {4, -1, 1}, {3, 32, 0}, {8, 64, 0}};
    size_t i;
    int sym, a, b, back = 0, refused = 0;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (sym = 0; sym < 2; sym++) {
            int bits = cases[i].bits, group = cases[i].group;
            const char *source, *first, *there, *again;
            tiny t;
            tiny_llama(&t);
            if (cases[i].wide) { /* dense: rows of k and v do not fit marlin */
                tiny_tensor keep[2];
                int k;
                for (k = 0; k < 2; k++) {
                    tiny_tensor *x = tiny_find(&t, k ? "model.layers.0.self_attn.v_proj.weight"
                                                     : "model.layers.0.self_attn.k_proj.weight");
                    keep[k] = *x;
                    *x = t.t[--t.n];
                }
                for (k = 0; k < 2; k++) tiny_resize(tiny_add(&t, keep[k].name, AWQ_F16, 2, 32, 64), AWQ_F16, 2, 32, 64);
                pack(&t, bits, group, sym, AWQ_F16);
                for (k = 0; k < 2; k++) {
                    static const char *const suffix[] = {"_packed", "_scale", "_shape", "_zero_point"};
                    char name[160];
                    int s;
                    for (s = 0; s < 4; s++) {
                        snprintf(name, sizeof name, "%.120s%s", keep[k].name, suffix[s]);
                        tiny_remove(&t, name);
                    }
                    t.t[t.n++] = keep[k];
                }
            } else {
                pack(&t, bits, group, sym, AWQ_F16);
            }
            source = save(&t, "source");
            tiny_free(&t);
            for (a = AWQ_LAYOUT_GEMM; a < AWQ_LAYOUT_COUNT; a++) {
                awq_status st = convert(source, first = fresh("first"), (awq_layout)a);
                awq_error e = ctx.err;
                int holds = a != AWQ_LAYOUT_EXLLAMA && (cases[i].wide && a == AWQ_LAYOUT_MARLIN ? sym && bits == 4
                                                        : fits((awq_layout)a, bits, group, sym));
                ctx.err = e;
                CHECK_MSG(st == (holds ? AWQ_OK : AWQ_E_UNSUPPORTED), "%d bits, group %d, symmetric %d: %s: %s", bits,
                          group, sym, awq_layout_name((awq_layout)a), st ? ctx.err.text : "converted");
                if (st) refused++;
                for (b = AWQ_LAYOUT_GEMM; b < AWQ_LAYOUT_COUNT && !st; b++) {
                    if (convert(first, there = fresh("there"), (awq_layout)b)) continue; /* refused above too */
                    CHECK_MSG(!convert(there, again = fresh("again"), (awq_layout)a), "%s", ctx.err.text);
                    /* native keeps that exact mode has to round zero terms as gemv_fast has them rounded */
                    if (a == AWQ_LAYOUT_NATIVE && b == AWQ_LAYOUT_GEMV_FAST) {
                        CHECK(!same(first, again, "model.safetensors") && same(first, again, "config.json"));
                        continue;
                    }
                    CHECK_MSG(same(first, again, "model.safetensors") && same(first, again, "config.json"),
                              "%d bits, group %d, symmetric %d: %s to %s and back", bits, group, sym,
                              awq_layout_name((awq_layout)a), awq_layout_name((awq_layout)b));
                    back++;
                }
            }
        }
    printf("    %d pairs there and back, %d layouts refused\n", back, refused);
    CHECK(back > 150 && refused > 40 && ctx.memory_used == 0);
}

static void test_kinds(void) /* MLP of 8 bits in whole rows, attention of 4 bits in groups */
{
    const char *source, *out, *back;
    awq_checkpoint *ck = NULL;
    awq_linear_info info;
    tiny a, b;
    int i;
    tiny_llama(&a);
    tiny_llama(&b);
    pack(&a, 4, 32, 0, AWQ_BF16);
    pack(&b, 8, -1, 1, AWQ_F16);
    for (i = 0; i < a.n; i++)
        while (i < a.n && strstr(a.t[i].name, ".mlp.")) {
            free(a.t[i].data);
            a.t[i] = a.t[--a.n];
        }
    for (i = 0; i < b.n; i++)
        if (strstr(b.t[i].name, ".mlp.")) {
            tiny_tensor *x = tiny_add(&a, b.t[i].name, b.t[i].dtype, b.t[i].ndim, b.t[i].shape[0], b.t[i].shape[1]);
            memcpy(x->data, b.t[i].data, x->bytes);
        }
    tiny_set(&a, "quantization_config", "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", "
             "\"config_groups\": {\"group_0\": {\"targets\": [\"re:.*self_attn.*\"], \"weights\": {\"num_bits\": 4, "
             "\"symmetric\": false, \"group_size\": 32}}, \"group_1\": {\"targets\": [\"re:.*mlp.*\"], \"weights\": "
             "{\"num_bits\": 8, \"strategy\": \"channel\"}}}}");
    source = save(&a, "source");
    CHECK(convert(source, out = fresh("there"), AWQ_LAYOUT_COMPRESSED_TENSORS) == AWQ_OK);
    CHECK(says(out, "\"group_1\": {\"targets\": [\"model.layers.0.mlp.gate_proj\", \"model.layers.0.mlp.up_proj\"]"));
    CHECK(says(out, "\"group_2\": {\"targets\": [\"model.layers.0.mlp.down_proj\"]")); /* its rows are longer */
    CHECK(convert(out, back = fresh("again"), AWQ_LAYOUT_COMPRESSED_TENSORS) == AWQ_OK);
    CHECK(same(out, back, "model.safetensors") && same(out, back, "config.json"));
    CHECK(awq_checkpoint_open(&ctx, out, &ck) == AWQ_OK);
    if (ck && !awq_checkpoint_linear(&ctx, ck, 0, AWQ_DOWN_PROJ, &info))
        CHECK(info.packed.bits == 8 && info.packed.symmetric && info.packed.group_size == 128);
    awq_checkpoint_close(&ctx, ck);
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_GPTQ_V2) == AWQ_E_UNSUPPORTED);
    CHECK_MSG(strstr(ctx.err.text, "its config has a place for one kind; layout compressed-tensors") != NULL, "%s",
              ctx.err.text);
    tiny_free(&a);
    tiny_free(&b);
    CHECK(ctx.memory_used == 0);
}

/* an F16 tensor of a checkpoint is made of these bytes */
static int has(const char *folder, const char *name, const void *data, size_t bytes)
{
    awq_checkpoint *ck = NULL;
    const awq_tensor *t = NULL;
    unsigned char found[64];
    int equal;
    CHECK_MSG(awq_checkpoint_open(&ctx, folder, &ck) == AWQ_OK, "%s", ctx.err.text);
    if (ck) t = awq_tensors_find(awq_checkpoint_tensors(ck), name);
    equal = t && t->dtype == AWQ_F16 && t->bytes == bytes && bytes <= sizeof found
            && !awq_tensors_read(&ctx, awq_checkpoint_tensors(ck), t, 0, found, bytes) && !memcmp(found, data, bytes);
    awq_checkpoint_close(&ctx, ck);
    return equal;
}

static void test_wrapped(void)
{
    static const char *const towers[][2] = {{"vision_tower.patch.weight", "model.language_model."},
                                            {"model.visual.blocks.0.attn.qkv.weight", "model.language_model."},
                                            {"visual.patch_embed.proj.weight", "model."},
                                            {"multi_modal_projector.linear_1.weight", "language_model.model."}};
    static const char *const words[] = {"vision_tower", "visual", "visual", "multi_modal_projector"};
    size_t i, k;
    for (i = 0; i < 4; i++) {
        unsigned char odd[64];
        char text[700], name[128];
        const char *source, *out;
        tiny t;
        int n;
        tiny_llama(&t);
        pack(&t, 4, 32, 0, AWQ_F16);
        for (n = 0; n < t.n; n++)
            if (!strncmp(t.t[n].name, "model.", 6)) {
                snprintf(name, sizeof name, "%s%s", towers[i][1], t.t[n].name + 6);
                memcpy(t.t[n].name, name, sizeof name);
            } else if (i == 3) {
                memcpy(t.t[n].name, "language_model.lm_head.weight", 30);
            }
        for (k = 0; k < sizeof odd; k++) odd[k] = (unsigned char)(k * 37 + 5); /* as F16: also NaN, Inf, tiny ones */
        odd[1] = 0x7c, odd[0] = 0, odd[3] = 0xfe, odd[5] = 0x80, odd[4] = 1;
        memcpy(tiny_add(&t, towers[i][0], AWQ_F16, 2, 4, 8)->data, odd, 64);
        for (n = 0; n < t.n_keys && strcmp(t.keys[n], "quantization_config"); n++) {}
        snprintf(text, sizeof text, "{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 128, "
                 "\"vocab_size\": 96, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
                 "\"quantization_config\": {\"quant_method\": \"awq\"}, \"tie_word_embeddings\": false}");
        tiny_set(&t, "text_config", text);
        tiny_set(&t, "model_type", "\"llava\"");
        source = save(&t, "source");
        CHECK_MSG(convert(source, out = fresh("there"), AWQ_LAYOUT_GEMM) == AWQ_OK, "%s", ctx.err.text);
        CHECK(has(out, towers[i][0], odd, 64));
        snprintf(text, sizeof text, "\"modules_to_not_convert\": [\"%s\"]", words[i]);
        CHECK(says(out, text) && says(out, "\"num_key_value_heads\": 1,\n    \"tie_word_embeddings\": false\n  }"));
        source = out;
        CHECK_MSG(convert(source, out = fresh("again"), AWQ_LAYOUT_COMPRESSED_TENSORS) == AWQ_OK, "%s", ctx.err.text);
        CHECK(has(out, towers[i][0], odd, 64));
        snprintf(text, sizeof text, "\"ignore\": [\"lm_head\", \"re:.*%s.*\"]", words[i]);
        CHECK(says(out, text));
        snprintf(name, sizeof name, "%.*squeight", (int)strlen(towers[i][0]) - 6, towers[i][0]);
        memcpy(strrchr(name, '.'), ".qweight", 9);
        tiny_add(&t, name, AWQ_I32, 2, 4, 8);
        CHECK(convert(save(&t, "source"), fresh("there"), AWQ_LAYOUT_GEMM) == AWQ_E_UNSUPPORTED);
        CHECK_MSG(strstr(ctx.err.text, "not a linear of the text model") != NULL, "%s", ctx.err.text);
        tiny_free(&t);
        CHECK(ctx.memory_used == 0);
    }
}

static awq_status dequantize(const char *source, const char *target, awq_dtype type)
{
    return rewrite(source, target, AWQ_LAYOUT_NONE, type);
}

/* Every tensor of `folder` is one of t's, of its shape, and within `apart` of it; those with `exact` in their name
   are the same. */
static void expect_near(const char *folder, tiny *t, const char *exact, float apart)
{
    static float x[1 << 16], y[1 << 16];
    awq_checkpoint *ck = NULL;
    int64_t i, k;
    CHECK_MSG(awq_checkpoint_open(&ctx, folder, &ck) == AWQ_OK, "%s", ctx.err.text);
    CHECK(ck && awq_tensors_count(awq_checkpoint_tensors(ck)) == t->n);
    for (i = 0; ck && i < awq_tensors_count(awq_checkpoint_tensors(ck)); i++) {
        const awq_tensor *a = awq_tensors_at(awq_checkpoint_tensors(ck), i);
        const tiny_tensor *b = tiny_find(t, a->name);
        float d = 0;
        int64_t n = (int64_t)(a->bytes / awq_dtype_size(a->dtype));
        CHECK_MSG(b && a->ndim == b->ndim && n <= 1 << 16, "%s", a->name);
        for (k = 0; b && k < a->ndim; k++)
            CHECK_MSG(a->shape[k] == b->shape[k], "%s, %d: %lld", a->name, (int)k, (long long)a->shape[k]);
        if (!b || (size_t)n * awq_dtype_size(b->dtype) != b->bytes) continue;
        CHECK(awq_tensors_read_float(&ctx, awq_checkpoint_tensors(ck), a, 0, n, x) == AWQ_OK);
        awq__to_float(b->dtype, b->data, n, y);
        for (k = 0; k < n; k++) d = AWQ__MAX(d, fabsf(x[k] - y[k]));
        CHECK_MSG(d <= (strstr(a->name, exact) ? 0 : apart), "%s: apart by %g", a->name, (double)d);
    }
    awq_checkpoint_close(&ctx, ck);
}

static void fill(tiny_tensor *x, uint64_t seed)
{
    size_t i;
    for (i = 0; i < x->bytes / 2; i++)
        ((uint16_t *)x->data)[i] = awq__float_f16(awq__random_unit(&seed) - 0.5f);
}

static void drop(tiny *t, const char *part)
{
    int i;
    for (i = t->n - 1; i >= 0; i--)
        if (strstr(t->t[i].name, part)) tiny_remove(t, t->t[i].name);
}

/* granitemoe, gpt_oss and mixtral with three experts */
static void tiny_experts(tiny *t, int kind)
{
    static const char *const types[] = {"\"granitemoe\"", "\"gpt_oss\"", "\"mixtral\""};
    static const struct {
        int kind;
        const char *name;
        int stack, ndim, a, b;
    } tensors[] = {{0, "block_sparse_moe.router.layer.weight", 0, 2, 3, 64},
                   {0, "block_sparse_moe.input_linear.weight", 3, 2, 256, 64},
                   {0, "block_sparse_moe.output_linear.weight", 3, 2, 64, 128},
                   {1, "mlp.router.weight", 0, 2, 3, 64},
                   {1, "mlp.router.bias", 0, 1, 3, 0},
                   {1, "mlp.experts.gate_up_proj", 3, 2, 64, 256},
                   {1, "mlp.experts.gate_up_proj_bias", 0, 2, 3, 256},
                   {1, "mlp.experts.down_proj", 3, 2, 128, 64},
                   {1, "mlp.experts.down_proj_bias", 0, 2, 3, 64},
                   {1, "self_attn.sinks", 0, 1, 2, 0},
                   {1, "self_attn.q_proj.bias", 0, 1, 64, 0},
                   {1, "self_attn.k_proj.bias", 0, 1, 32, 0},
                   {1, "self_attn.v_proj.bias", 0, 1, 32, 0},
                   {1, "self_attn.o_proj.bias", 0, 1, 64, 0},
                   {2, "block_sparse_moe.gate.weight", 0, 2, 3, 64},
                   {2, "block_sparse_moe.experts.0.w1.weight", 0, 2, 128, 64},
                   {2, "block_sparse_moe.experts.0.w3.weight", 0, 2, 128, 64},
                   {2, "block_sparse_moe.experts.0.w2.weight", 0, 2, 64, 128},
                   {2, "block_sparse_moe.experts.1.w1.weight", 0, 2, 128, 64},
                   {2, "block_sparse_moe.experts.1.w3.weight", 0, 2, 128, 64},
                   {2, "block_sparse_moe.experts.1.w2.weight", 0, 2, 64, 128},
                   {2, "block_sparse_moe.experts.2.w1.weight", 0, 2, 128, 64},
                   {2, "block_sparse_moe.experts.2.w3.weight", 0, 2, 128, 64},
                   {2, "block_sparse_moe.experts.2.w2.weight", 0, 2, 64, 128}};
    size_t i;
    tiny_llama(t);
    drop(t, ".mlp.");
    tiny_set(t, "model_type", types[kind]);
    tiny_set(t, "num_local_experts", "3");
    tiny_set(t, "num_experts_per_tok", "2");
    tiny_set(t, "head_dim", "32");
    if (kind == 1) {
        tiny_set(t, "rope_theta", NULL);
        tiny_set(t, "rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 10000.0}");
    }
    for (i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        char name[128];
        tiny_tensor *x;
        if (tensors[i].kind != kind) continue;
        snprintf(name, sizeof name, "model.layers.0.%s", tensors[i].name);
        x = tiny_add(t, name, AWQ_F16, tensors[i].ndim, tensors[i].a, tensors[i].b);
        if (tensors[i].stack) tiny_stack(x, tensors[i].stack);
        fill(x, i + 1);
    }
}

static awq_status quantize(const char *source, const char *target, const char *keep)
{
    awq_quantize_desc d;
    memset(&d, 0, sizeof d);
    d.source = source;
    d.target = target;
    d.method = AWQ_METHOD_RTN;
    d.group_size = 32;
    d.keep = &keep;
    d.n_keep = keep != NULL;
    return awq_quantize_model(&ctx, &d, NULL);
}

/* Experts that were packed one by one become the family's own tensors again when dequantized: near what was quantized,
   by names, shapes and order of rows. */
static void test_restacked(void)
{
    static const char *const packed_names[] = {"model.layers.0.block_sparse_moe.experts.2.up_proj.qweight",
                                               "model.layers.0.mlp.experts.2.up_proj.qweight",
                                               "model.layers.0.block_sparse_moe.experts.2.w3.qweight"};
    static const char *const part[] = {"output_linear", "down_proj"};
    static const char *const experts[] = {"block_sparse_moe", "mlp.experts", "block_sparse_moe"};
    const char *source, *packed, *out;
    awq_checkpoint *ck = NULL;
    int kind;
    long k;
    tiny t;
    for (kind = 0; kind < 3; kind++) {
        tiny_experts(&t, kind);
        source = save(&t, "source");
        CHECK_MSG(quantize(source, packed = fresh("packed"), NULL) == AWQ_OK, "%d: %s", kind, ctx.err.text);
        CHECK_MSG(awq_checkpoint_open(&ctx, packed, &ck) == AWQ_OK, "%d: %s", kind, ctx.err.text);
        if (ck) CHECK(awq_tensors_find(awq_checkpoint_tensors(ck), packed_names[kind]) != NULL);
        awq_checkpoint_close(&ctx, ck);
        ck = NULL;
        CHECK_MSG(dequantize(packed, out = fresh("fp32"), AWQ_F32) == AWQ_OK, "%d: %s", kind, ctx.err.text);
        expect_near(out, &t, "norm", 0.04f); /* half of a step of 1 / 15 */
        CHECK_MSG(dequantize(packed, out = fresh("fp16"), AWQ_F16) == AWQ_OK, "%d: %s", kind, ctx.err.text);
        expect_near(out, &t, "norm", 0.04f);
        for (k = 0; kind == 1; k++) { /* no memory for the k-th block; the last ones are for cleaning up */
            fail_alloc f = {k, 0, 0};
            awq_status st;
            ctx.allocator = fail_allocator(&f);
            st = dequantize(packed, out = fresh("fp32"), AWQ_F32);
            CHECK_MSG(f.live == 0 && (!st || (st == AWQ_E_MEMORY && f.calls > k)), "block %ld: %d", k, (int)st);
            if (!st) break;
        }
        CHECK(kind != 1 || k > 150);
        memset(&ctx.allocator, 0, sizeof ctx.allocator);
        /* experts that were kept are what they were */
        CHECK_MSG(quantize(source, packed = fresh("packed"), experts[kind]) == AWQ_OK, "%d: %s", kind, ctx.err.text);
        CHECK_MSG(dequantize(packed, out = fresh("fp32"), AWQ_F32) == AWQ_OK, "%d: %s", kind, ctx.err.text);
        expect_near(out, &t, experts[kind], 0.04f);
        if (kind == 2) CHECK_MSG(quantize(source, fresh("packed"), "experts.1.w3") == AWQ_OK, "%s", ctx.err.text);
        else CHECK(quantize(source, fresh("packed"), part[kind]) == AWQ_E_ARG && strstr(ctx.err.text, "keep all of them"));
        tiny_free(&t);
        CHECK(ctx.memory_used == 0);
    }
}

/* experts that compressed-tensors packed in one tensor */
static void test_stacked(void)
{
    const char *source, *out;
    char config[512];
    awq_qweight was[6];
    awq_checkpoint *ck = NULL;
    int i;
    tiny t;
    snprintf(config, sizeof config, compressed, 3, "false", 32);
    CHECK(tiny_stacked(&t, 3, config, was, &ctx) == AWQ_OK);
    source = save(&t, "source");
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_GPTQ) == AWQ_E_UNSUPPORTED);
    CHECK_MSG(strstr(ctx.err.text, "input_linear: experts packed in one tensor can be run and dequantized, but not") != NULL,
              "%s", ctx.err.text);
    CHECK_MSG(dequantize(source, out = fresh("fp32"), AWQ_F32) == AWQ_OK, "%s", ctx.err.text);
    CHECK_MSG(awq_checkpoint_open(&ctx, out, &ck) == AWQ_OK, "%s", ctx.err.text);
    for (i = 0; ck && i < 6; i++) {
        static float w[256 * 64], x[256 * 64];
        const char *name = i < 3 ? "model.layers.0.block_sparse_moe.input_linear.weight"
                                 : "model.layers.0.block_sparse_moe.output_linear.weight";
        const awq_tensor *a = awq_tensors_find(awq_checkpoint_tensors(ck), name);
        int64_t n = was[i].out_features * was[i].in_features;
        CHECK(a && a->ndim == 3 && a->shape[0] == 3 && a->shape[1] == was[i].out_features && a->dtype == AWQ_F32);
        CHECK(a && awq_tensors_read_float(&ctx, awq_checkpoint_tensors(ck), a, i % 3 * n, n, x) == AWQ_OK);
        CHECK(awq_dequantize(&ctx, &was[i], w) == AWQ_OK && !memcmp(w, x, (size_t)n * sizeof *w));
        awq_qweight_free(&ctx, &was[i]);
    }
    awq_checkpoint_close(&ctx, ck);
    tiny_free(&t);
    CHECK(ctx.memory_used == 0);
}

/* the tensors of t, and its config, as of a mixtral whose MLPs are called at and whose experts' linears have the
   names of most families */
static void rename_experts(tiny *t, const char *at)
{
    static const char *const names[][2] = {{".w1.", ".gate_proj."}, {".w3.", ".up_proj."}, {".w2.", ".down_proj."}};
    char name[200];
    int i, k;
    for (i = 0; i < t->n; i++) {
        char *mlp = strstr(t->t[i].name, ".block_sparse_moe."), *part = NULL;
        if (!mlp) continue;
        for (k = 0; k < 3 && !(part = strstr(mlp, names[k][0])); k++) {}
        snprintf(name, sizeof name, "%.*s%s%.*s%s%s", (int)(mlp - t->t[i].name), t->t[i].name, at,
                 (int)(part ? part - mlp - 18 : 100), mlp + 18, part ? names[k][1] : "", part ? part + 4 : "");
        snprintf(t->t[i].name, sizeof t->t[i].name, "%.127s", name);
    }
}

/* the tensors of a checkpoint, in place of t's */
static void take(tiny *t, const char *folder)
{
    awq_checkpoint *ck = NULL;
    int64_t i;
    while (t->n) free(t->t[--t->n].data);
    CHECK_MSG(awq_checkpoint_open(&ctx, folder, &ck) == AWQ_OK, "%s", ctx.err.text);
    for (i = 0; ck && i < awq_tensors_count(awq_checkpoint_tensors(ck)); i++) {
        const awq_tensor *a = awq_tensors_at(awq_checkpoint_tensors(ck), i);
        tiny_tensor *x = tiny_add(t, a->name, a->dtype, a->ndim, a->shape[0], a->ndim > 1 ? a->shape[1] : 1);
        CHECK(awq_tensors_read(&ctx, awq_checkpoint_tensors(ck), a, 0, x->data, (size_t)a->bytes) == AWQ_OK);
    }
    awq_checkpoint_close(&ctx, ck);
}

/* mixtral under the names that some packages write is read, and written under its own */
static void test_other_names(void)
{
    static const char *const at[] = {".block_sparse_moe.", ".mlp."};
    const char *packed, *there, *fp16, *dense;
    int k;
    tiny t;
    for (k = 0; k < 2; k++) {
        tiny_experts(&t, 2);
        CHECK_MSG(quantize(save(&t, "source"), packed = fresh("packed"), NULL) == AWQ_OK, "%s", ctx.err.text);
        CHECK_MSG(dequantize(packed, fp16 = fresh("fp16"), AWQ_F16) == AWQ_OK, "%s", ctx.err.text);
        rename_experts(&t, at[k]);
        CHECK(!tiny_find(&t, "model.layers.0.block_sparse_moe.experts.1.w1.weight"));
        CHECK_MSG(quantize(save(&t, "source"), there = fresh("there"), NULL) == AWQ_OK, "%s", ctx.err.text);
        CHECK(same(packed, there, "model.safetensors") && same(packed, there, "config.json"));
        CHECK_MSG(quantize(save(&t, "source"), there = fresh("there"), "experts.1.w3") == AWQ_OK, "%s", ctx.err.text);
        CHECK(says(there, "\"modules_to_not_convert\": [\"experts.1.w3\""));

        take(&t, packed);
        tiny_set(&t, "quantization_config", "{\"quant_method\": \"awq\", \"group_size\": 32, \"zero_point\": true}");
        rename_experts(&t, at[k]);
        CHECK(!tiny_find(&t, "model.layers.0.block_sparse_moe.experts.1.w1.qweight"));
        CHECK_MSG(convert(save(&t, "source"), there = fresh("there"), AWQ_LAYOUT_GEMM) == AWQ_OK, "%s", ctx.err.text);
        CHECK(same(packed, there, "model.safetensors"));
        CHECK_MSG(dequantize("build/test_convert/source", dense = fresh("dense"), AWQ_F16) == AWQ_OK, "%s", ctx.err.text);
        CHECK(same(fp16, dense, "model.safetensors"));
        tiny_free(&t);
        CHECK(ctx.memory_used == 0);
    }
}

static void test_refusals(void)
{
    const char *source;
    tiny t;
    int i;
    tiny_llama(&t);
    pack(&t, 4, 32, 1, AWQ_F16);
    source = save(&t, "source");
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_EXLLAMA) == AWQ_E_UNSUPPORTED && strstr(ctx.err.text, "in memory"));
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_MARLIN) == AWQ_E_UNSUPPORTED); /* 32 rows */
    CHECK_MSG(strstr(ctx.err.text, "k_proj: layout marlin: out_features is 32, it must be a multiple of 64") != NULL, "%s",
              ctx.err.text);
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_INT8) == AWQ_E_UNSUPPORTED && strstr(ctx.err.text, "it holds 8"));
    tiny_free(&t);

    tiny_llama(&t);
    tiny_set(&t, "quantization_config", "{\"quant_method\": \"awq\"}");
    source = save(&t, "source");
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_GEMM) == AWQ_E_FORMAT && strstr(ctx.err.text, "no quantized linear"));
    tiny_free(&t);

    tiny_llama(&t); /* a config that says symmetric, zero points that are not */
    CHECK(tiny_quantize(&t, &ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL) == AWQ_OK);
    tiny_set(&t, "quantization_config", "{\"quant_method\": \"awq\", \"group_size\": 32, \"zero_point\": false}");
    source = save(&t, "source");
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_COMPRESSED_TENSORS) == AWQ_E_FORMAT);
    CHECK_MSG(strstr(ctx.err.text, "q_proj has other zero points than 8") != NULL, "%s", ctx.err.text);
    tiny_set(&t, "quantization_config", "{\"quant_method\": \"awq\", \"group_size\": 32}");
    ((uint32_t *)tiny_find(&t, "model.layers.0.mlp.up_proj.qzeros")->data)[3] &= 0xffff0fff;
    source = save(&t, "source");
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_GPTQ) == AWQ_E_UNSUPPORTED);
    CHECK_MSG(strstr(ctx.err.text, "up_proj.qweight has a zero point of 0, which engines read in different ways; take "
                     "gptq_v2") != NULL, "%s", ctx.err.text);
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_GPTQ_V2) == AWQ_OK);
    for (i = 0; i < t.n; i++)
        if (strstr(t.t[i].name, "down_proj.scales")) ((uint16_t *)t.t[i].data)[0] = 0x7c00;
    source = save(&t, "source");
    CHECK(convert(source, fresh("there"), AWQ_LAYOUT_GEMV) == AWQ_E_NUMERIC && strstr(ctx.err.text, "down_proj"));
    tiny_free(&t);
    CHECK(ctx.memory_used == 0);
}

int main(int argc, char **argv)
{
    awq__os_make_folder(NULL, "build");
    awq__os_make_folder(NULL, DIR);
    ctx.files = fail_file_system(&files);
    ctx.files.sync = no_sync;
    TEST_BEGIN(argc, argv);
    RUN(test_all_pairs);
    RUN(test_kinds);
    RUN(test_wrapped);
    RUN(test_restacked);
    RUN(test_stacked);
    RUN(test_other_names);
    RUN(test_refusals);
    return TEST_END();
}
