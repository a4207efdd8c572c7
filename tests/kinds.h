/* kinds.h - tiny models of the kinds that are computed in different ways, dense and quantized, of one layer or
   two, and what a device makes of them against the CPU: for tests on the emulated driver and on a GPU. Include
   after awq.h with its implementation and test.h. */
#ifndef KINDS_H
#define KINDS_H
#include "tiny.h"

static void randomize(tiny_tensor *x, uint64_t seed)
{
    uint16_t *p = (uint16_t *)x->data;
    size_t i;
    for (i = 0; i < x->bytes / 2; i++) p[i] = awq__float_f16(awq__random_unit(&seed) - 0.5f);
}

/* --- families of two layers: tiny_llama with other tensors, `wide` times as wide, also its heads of 32 */
typedef struct own_tensor {
    const char *name;
    int out, in; /* in 0: a vector; below 16 (experts) is not widened */
} own_tensor;

static void own_set(tiny *t, const char *key, const char *value, int wide) /* numbers from 16 on are widened */
{
    char text[32];
    if (value && atoi(value) >= 16) snprintf(text, sizeof text, "%d", atoi(value) * wide);
    tiny_set(t, key, value && atoi(value) >= 16 ? text : value);
}

static void own_family(tiny *t, const char *type, const own_tensor *x, int wide)
{
    static const char *const ends[] = {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"};
    int l, i, k, experts = 0;
    size_t e;
    tiny_llama(t);
    tiny_set(t, "num_hidden_layers", "2");
    tiny_set(t, "model_type", type);
    own_set(t, "hidden_size", "64", wide);
    own_set(t, "intermediate_size", "128", wide);
    tiny_file(t, "m/generation_config.json", "{\"eos_token_id\": 2}");
    for (i = t->n - 1; i >= 0; i--)
        if (strstr(t->t[i].name, "layers.0")) tiny_remove(t, t->t[i].name);
    for (i = 0; i < 3 && wide > 1; i++) {
        tiny_tensor *to = tiny_find(t, ends[i]);
        tiny_resize(to, AWQ_F16, to->ndim, i < 2 ? 96 : 64 * wide, 64 * wide);
        randomize(to, (uint64_t)i + 1);
    }
    for (l = 0; l < 2; l++)
        for (i = 0; x[i].name; i++)
            for (k = 0; k == 0 || (experts && k < 4); k++) {
                const int out = x[i].out < 16 ? x[i].out : x[i].out * wide;
                char name[128];
                tiny_tensor *to;
                experts = strstr(x[i].name, "%d") != NULL;
                snprintf(name, sizeof name, "model.layers.%d.", l);
                snprintf(name + strlen(name), sizeof name - strlen(name), x[i].name, k);
                to = tiny_add(t, name, AWQ_F16, x[i].in ? 2 : 1, out, x[i].in * wide);
                randomize(to, (uint64_t)(l * 100 + i * 7 + k + 1));
                for (e = 0; e < to->bytes / 2; e++) { /* norms: around one, some of them small */
                    uint16_t *h = (uint16_t *)to->data + e;
                    if (!x[i].in) *h = awq__float_f16(awq__f16_float(*h) + (e % 9 == 8 ? 0.55f : 1.0f));
                    else if (wide > 1) *h = awq__float_f16(awq__f16_float(*h) / sqrtf((float)wide));
                }
            }
    for (e = 0; e < tiny_find(t, ends[2])->bytes / 2; e++)
        ((uint16_t *)tiny_find(t, ends[2])->data)[e] = awq__float_f16(1);
}

#define OWN_QKVO {"self_attn.q_proj.weight", 64, 64}, {"self_attn.k_proj.weight", 32, 64}, \
    {"self_attn.v_proj.weight", 32, 64}, {"self_attn.o_proj.weight", 64, 64}
#define OWN_MLP {"mlp.gate_proj.weight", 128, 64}, {"mlp.up_proj.weight", 128, 64}, \
    {"mlp.down_proj.weight", 64, 128}
#define OWN_NORMS {"input_layernorm.weight", 64, 0}, {"post_attention_layernorm.weight", 64, 0}
static const own_tensor own_mixtral[] = {
    OWN_QKVO, OWN_NORMS, {"block_sparse_moe.gate.weight", 4, 64},
    {"block_sparse_moe.experts.%d.w1.weight", 128, 64},
    {"block_sparse_moe.experts.%d.w3.weight", 128, 64}, {"block_sparse_moe.experts.%d.w2.weight", 64, 128},
    {NULL, 0, 0}};
static const own_tensor own_phi3[] = {
    {"self_attn.qkv_proj.weight", 128, 64}, {"self_attn.o_proj.weight", 64, 64}, OWN_NORMS,
    {"mlp.gate_up_proj.weight", 256, 64}, {"mlp.down_proj.weight", 64, 128}, {NULL, 0, 0}};
static const own_tensor own_olmo2[] = {
    OWN_QKVO, OWN_MLP, {"post_attention_layernorm.weight", 64, 0}, {"post_feedforward_layernorm.weight", 64, 0},
    {"self_attn.q_norm.weight", 64, 0}, {"self_attn.k_norm.weight", 32, 0}, {NULL, 0, 0}};
static const own_tensor own_gemma2[] = {
    OWN_QKVO, OWN_MLP, OWN_NORMS, {"pre_feedforward_layernorm.weight", 64, 0},
    {"post_feedforward_layernorm.weight", 64, 0}, {NULL, 0, 0}};
static const own_tensor own_starcoder2[] = {
    OWN_QKVO, OWN_NORMS, {"input_layernorm.bias", 64, 0}, {"post_attention_layernorm.bias", 64, 0},
    {"mlp.c_fc.weight", 128, 64}, {"mlp.c_proj.weight", 64, 128}, {NULL, 0, 0}};
/* heads of 32 and 16 with rope, values of 32, from latents of 64 and 128; a shared expert */
static const own_tensor own_deepseek[] = {
    {"self_attn.q_a_proj.weight", 64, 64}, {"self_attn.q_a_layernorm.weight", 64, 0},
    {"self_attn.q_b_proj.weight", 96, 64}, {"self_attn.kv_a_proj_with_mqa.weight", 144, 64},
    {"self_attn.kv_a_layernorm.weight", 128, 0}, {"self_attn.kv_b_proj.weight", 128, 128},
    {"self_attn.o_proj.weight", 64, 64}, OWN_NORMS, {"mlp.gate.weight", 4, 64},
    {"mlp.experts.%d.gate_proj.weight", 64, 64}, {"mlp.experts.%d.up_proj.weight", 64, 64},
    {"mlp.experts.%d.down_proj.weight", 64, 64}, {"mlp.shared_experts.gate_proj.weight", 64, 64},
    {"mlp.shared_experts.up_proj.weight", 64, 64}, {"mlp.shared_experts.down_proj.weight", 64, 64},
    {NULL, 0, 0}};

enum { OWN_MIXTRAL, OWN_PHI3, OWN_OLMO2, OWN_GEMMA2, OWN_STARCODER2, OWN_DEEPSEEK, OWN_FAMILIES };
static const char *const own_names[] = {"mixtral", "phi3", "olmo2", "gemma2", "starcoder2", "deepseek_v2"};

static void make_own(tiny *t, int family, int wide)
{
    static const own_tensor *const tensors[] = {own_mixtral, own_phi3,       own_olmo2,
                                                own_gemma2,  own_starcoder2, own_deepseek};
    static const struct {
        int family;
        const char *key, *value;
    } settings[] = {{OWN_MIXTRAL, "num_local_experts", "4"},
                    {OWN_GEMMA2, "head_dim", "32"},
                    {OWN_GEMMA2, "hidden_act", NULL},
                    {OWN_GEMMA2, "sliding_window", "8"}, /* of the first layer */
                    {OWN_GEMMA2, "query_pre_attn_scalar", "24"},
                    {OWN_GEMMA2, "attn_logit_softcapping", "3"},
                    {OWN_GEMMA2, "final_logit_softcapping", "8"},
                    {OWN_STARCODER2, "use_bias", "false"},
                    {OWN_STARCODER2, "hidden_act", "\"gelu_pytorch_tanh\""},
                    {OWN_DEEPSEEK, "num_key_value_heads", "2"},
                    {OWN_DEEPSEEK, "q_lora_rank", "64"},
                    {OWN_DEEPSEEK, "kv_lora_rank", "128"},
                    {OWN_DEEPSEEK, "qk_nope_head_dim", "32"},
                    {OWN_DEEPSEEK, "qk_rope_head_dim", "16"},
                    {OWN_DEEPSEEK, "v_head_dim", "32"},
                    {OWN_DEEPSEEK, "first_k_dense_replace", "0"},
                    {OWN_DEEPSEEK, "moe_intermediate_size", "64"},
                    {OWN_DEEPSEEK, "n_routed_experts", "4"},
                    {OWN_DEEPSEEK, "n_shared_experts", "1"},
                    {OWN_DEEPSEEK, "num_experts_per_tok", "2"}};
    char type[32];
    size_t i;
    snprintf(type, sizeof type, "\"%s\"", own_names[family]);
    own_family(t, type, tensors[family], wide);
    for (i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (settings[i].family == family) own_set(t, settings[i].key, settings[i].value, wide);
    if (family == OWN_STARCODER2) randomize(tiny_add(t, "model.norm.bias", AWQ_F16, 1, 64 * wide, 0), 3);
}

/* --- kinds */
#define GEMM "{\"quant_method\": \"awq\", \"group_size\": 32, \"zero_point\": true}"
#define GPTQ "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32, \"sym\": false, \"desc_act\": false}"
#define GPTQ_8 "{\"quant_method\": \"gptq\", \"bits\": 8, \"group_size\": 64, \"sym\": true, \"desc_act\": false}"
#define STACKED                                                                                                       \
    "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": {\"group_0\": "    \
    "{\"weights\": {\"num_bits\": 3, \"type\": \"int\", \"symmetric\": false, \"strategy\": \"group\", "              \
    "\"group_size\": 32}}}}"

enum { DENSE, BF16, GEMM_4, GPTQ_4, GPTQ_8_BITS, RTN_4, RTN_3, RTN_8, TIED, HEAD_8, TIED_HEAD_8, BIASES, QK_NORMS,
       WINDOW, STACKED_EXPERTS, FAMILY_KINDS, KINDS = FAMILY_KINDS + OWN_FAMILIES };
static const char *const kind_names[] = {"dense", "bf16", "gemm", "gptq", "gptq, 8 bits", "rounded to 4 bits",
                                         "rounded to 3 bits", "rounded to 8 bits", "tied", "head of 8 bits",
                                         "tied, head of 8 bits", "biases", "norms of q and k", "window", "experts",
                                         "mixtral", "phi3", "olmo2", "gemma2", "starcoder2", "deepseek_v2"};

static void random_vector(tiny *t, const char *name, int64_t n)
{
    uint64_t seed = (uint64_t)n + strlen(name);
    tiny_tensor *x = tiny_add(t, name, AWQ_F16, 1, n, 0);
    int64_t i;
    for (i = 0; i < n; i++) ((uint16_t *)x->data)[i] = awq__float_f16(awq__random_unit(&seed) + 0.5f);
}

static void make_kind(tiny *t, int kind, awq_model_desc *d)
{
    awq_qweight w[6];
    awq_ctx ctx;
    int i;
    size_t k;
    memset(&ctx, 0, sizeof ctx);
    memset(w, 0, sizeof w);
    memset(d, 0, sizeof *d);
    if (kind >= FAMILY_KINDS) make_own(t, kind - FAMILY_KINDS, 1);
    else tiny_llama(t);
    if (kind == BF16) {
        tiny_set(t, "torch_dtype", "\"bfloat16\"");
        for (i = 0; i < t->n; i++)
            for (t->t[i].dtype = AWQ_BF16, k = 0; k < t->t[i].bytes / 2; k++) {
                uint16_t *h = (uint16_t *)t->t[i].data + k;
                *h = awq__float_bf16(awq__f16_float(*h));
            }
    } else if (kind == GEMM_4) {
        tiny_set(t, "quantization_config", GEMM);
        CHECK(tiny_quantize(t, &ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL) == AWQ_OK);
    } else if (kind == GPTQ_4) {
        tiny_set(t, "quantization_config", GPTQ);
        CHECK(tiny_quantize(t, &ctx, AWQ_LAYOUT_GPTQ, 4, 32, 0, AWQ_F16, NULL) == AWQ_OK);
    } else if (kind == GPTQ_8_BITS) {
        tiny_set(t, "quantization_config", GPTQ_8);
        CHECK(tiny_quantize(t, &ctx, AWQ_LAYOUT_GPTQ, 8, 64, 1, AWQ_F16, NULL) == AWQ_OK);
    } else if (kind == STACKED_EXPERTS) {
        tiny_free(t);
        CHECK(tiny_stacked(t, 3, STACKED, w, &ctx) == AWQ_OK);
        for (i = 0; i < 6; i++) awq_qweight_free(&ctx, &w[i]);
    }
    if (kind == RTN_4 || kind == RTN_3 || kind == RTN_8) d->rtn_bits = kind == RTN_4 ? 4 : kind == RTN_3 ? 3 : 8;
    if (kind == HEAD_8 || kind == TIED_HEAD_8) d->head_bits = 8;
    if (kind == TIED || kind == TIED_HEAD_8) {
        tiny_set(t, "tie_word_embeddings", "true");
        tiny_remove(t, "lm_head.weight");
    }
    if (kind == BIASES) {
        tiny_set(t, "attention_bias", "true");
        tiny_set(t, "mlp_bias", "true");
        for (i = 0; i < 7; i++) {
            char name[128];
            snprintf(name, sizeof name, "model.layers.0.%s.bias", tiny_linears[i].name);
            random_vector(t, name, tiny_linears[i].out);
        }
    }
    if (kind == QK_NORMS) {
        tiny_set(t, "model_type", "\"qwen3\"");
        tiny_set(t, "head_dim", "32");
        random_vector(t, "model.layers.0.self_attn.q_norm.weight", 32);
        random_vector(t, "model.layers.0.self_attn.k_norm.weight", 32);
    }
    if (kind == WINDOW) {
        tiny_set(t, "model_type", "\"mistral\"");
        tiny_set(t, "sliding_window", "8");
    }
    CHECK(ctx.memory_used == 0);
}

/* --- on a device */

/* logits [n][vocab] of ids, so many read at a time (0: as many as can be); free them */
static float *logits_of(awq_ctx *ctx, const awq_model *m, const int32_t *ids, int n, int64_t chunk)
{
    float *out = (float *)calloc((size_t)n * (size_t)awq_model_config(m)->vocab_size, sizeof *out);
    awq_session *s = NULL;
    awq_feed_desc f;
    memset(&f, 0, sizeof f);
    f.all_logits = out;
    f.chunk = chunk;
    CHECK_MSG(open_session(ctx, m, n, &s) == AWQ_OK, "%s", ctx->err.text);
    if (s) CHECK_MSG(awq_session_feed(ctx, s, ids, n, &f, NULL) == AWQ_OK, "%s", ctx->err.text);
    if (s) close_session(ctx, s);
    return out;
}

enum { MOST_IDS = 512 };

static void spread_ids(const awq_model *m, int32_t *ids, int n)
{
    int i;
    for (i = 0; i < n; i++) ids[i] = (int32_t)((i * 37 + 11) % awq_model_config(m)->vocab_size);
}

static int kinds_by_size(const void *a, const void *b) /* NaN last */
{
    double x = *(const double *)a, y = *(const double *)b;
    return y != y || x < y ? -1 : x > y || x != x;
}

/* Largest difference over the largest logit, between the folder's model on the CPU in exact mode and where desc
   says. So many of the n rows may be `others`: of experts whose scores lie close others are chosen. */
static double difference(awq_ctx *ctx, const char *folder, const awq_model_desc *desc, int n, int others)
{
    awq_model_desc exact = *desc;
    awq_model *a = NULL, *b = NULL;
    double row[MOST_IDS], largest = 0;
    int32_t ids[MOST_IDS];
    exact.mode = AWQ_MODE_EXACT;
    exact.n_devices = 0;
    exact.device_layers = NULL;
    exact.rest_on_cpu = 0;
    exact.no_tokenizer = 1;
    row[n - 1 - others] = 1e30;
    CHECK_MSG(awq_model_load(ctx, folder, &exact, &a) == AWQ_OK, "%s: %s", folder, ctx->err.text);
    CHECK_MSG(awq_model_load(ctx, folder, desc, &b) == AWQ_OK, "%s: %s", folder, ctx->err.text);
    if (a && b) {
        int64_t i, vocab = awq_model_config(a)->vocab_size;
        float *want, *got;
        int r;
        spread_ids(a, ids, n);
        want = logits_of(ctx, a, ids, n, 0);
        got = logits_of(ctx, b, ids, n, 0);
        for (r = 0; r < n; r++)
            for (row[r] = 0, i = r * vocab; i < (r + 1) * vocab; i++) {
                double d = fabs((double)want[i] - got[i]);
                if (!(d <= row[r])) row[r] = d;
                if (d != d) break; /* NaN stays */
                if (fabs(want[i]) > largest) largest = fabs(want[i]);
            }
        qsort(row, (size_t)n, sizeof row[0], kinds_by_size);
        row[n - 1 - others] /= largest > 0 ? largest : 1e-30;
        free(want);
        free(got);
    }
    CHECK(awq_model_free(ctx, a) == AWQ_OK && awq_model_free(ctx, b) == AWQ_OK);
    return row[n - 1 - others];
}

/* What `difference` may be: activations have 11 bits, 8 in BF16; those of families are larger, as their norms
   are. */
static double kind_bound(int kind) { return 1.0 / (kind == BF16 ? 32 : kind >= FAMILY_KINDS ? 64 : 256); }
static int kind_others(int kind, int n)
{
    return kind == FAMILY_KINDS + OWN_MIXTRAL || kind == FAMILY_KINDS + OWN_DEEPSEEK ? n / 20 : 0;
}

/* deterministic mode: the same logits whatever rows are computed together, one at a time, seven, all */
static void check_same_bits(const char *name, awq_ctx *ctx, const char *folder, const awq_model_desc *desc,
                            int n)
{
    static const int64_t chunks[] = {0, 1, 7};
    awq_model_desc d = *desc;
    awq_model *m = NULL;
    float *logits[3];
    int32_t ids[MOST_IDS];
    size_t bytes;
    int i;
    d.mode = AWQ_MODE_DETERMINISTIC;
    CHECK_MSG(awq_model_load(ctx, folder, &d, &m) == AWQ_OK, "%s: %s", name, ctx->err.text);
    if (!m) return;
    spread_ids(m, ids, n);
    bytes = (size_t)n * (size_t)awq_model_config(m)->vocab_size * sizeof(float);
    for (i = 0; i < 3; i++) {
        logits[i] = logits_of(ctx, m, ids, n, chunks[i]);
        CHECK_MSG(!memcmp(logits[i], logits[0], bytes), "%s: %d rows at a time", name, (int)chunks[i]);
    }
    for (i = 0; i < 3; i++) free(logits[i]);
    CHECK(awq_model_free(ctx, m) == AWQ_OK);
}
#endif
