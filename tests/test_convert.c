/* awq_convert between checkpoints on the system's files: every layout to every other and back gives the same bytes or a
   refusal, several kinds of bits and groups in one checkpoint, what surrounds a text model, experts in one tensor. */
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
    static const char *const files[] = {"config.json", "model.safetensors"};
    static char path[8][64]; /* one for each name, for good */
    char file[1024];
    size_t i;
    int k;
    for (k = 0; path[k][0] && strcmp(path[k] + sizeof DIR, name); k++) {}
    snprintf(path[k], sizeof path[0], DIR "/%s", name);
    for (i = 0; i < 2; i++) {
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

static awq_status convert(const char *source, const char *target, awq_layout layout)
{
    awq_convert_desc d;
    memset(&d, 0, sizeof d);
    d.source = source;
    d.target = target;
    d.layout = layout;
    return awq_convert(&ctx, &d);
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
    RUN(test_refusals);
    return TEST_END();
}
