/* checkpoint: config dialects, quantization configs, presence and shape of tensors, damage of every kind.
   With AWQ_TEST_DATA also the reference checkpoints. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

static struct {
    int count;
    char text[600]; /* of the last one */
} told; /* warnings of the last checkpoint opened, and its disagreement */

static void on_log(void *user, awq_log_level level, const char *text)
{
    (void)user;
    told.count += level == AWQ_LOG_WARN;
    if (level == AWQ_LOG_WARN) snprintf(told.text, sizeof told.text, "%s", text);
}

/* Open, expect `want` (and its sentence to contain `text`), close, expect nothing left. */
static void expect(tiny *t, awq_status want, const char *text, const char *what)
{
    awq_ctx ctx = tiny_ctx(t);
    awq_checkpoint *ck = NULL;
    awq_status st;
    memset(&told, 0, sizeof told);
    ctx.log = on_log;
    st = awq_checkpoint_open(&ctx, "m", &ck);
    CHECK_MSG(st == want, "%s: %s, %s", what, awq_status_name(st), st ? ctx.err.text : "");
    if (st && st == want) CHECK_MSG(strstr(ctx.err.text, text) != NULL, "%s: \"%s\" lacks \"%s\"", what,
                                    ctx.err.text, text);
    CHECK_MSG(!st == !!ck, "%s: output", what);
    if (ck && awq_checkpoint_disagreement(ck)[0]) on_log(NULL, AWQ_LOG_WARN, awq_checkpoint_disagreement(ck));
    awq_checkpoint_close(&ctx, ck);
    CHECK_MSG(!ctx.memory_used, "%s: %llu bytes left", what, (unsigned long long)ctx.memory_used);
}

static void test_opens(void)
{
    tiny t;
    awq_ctx ctx;
    awq_checkpoint *ck = NULL;
    const awq_config *c;
    awq_linear_info info;
    tiny_llama(&t);
    tiny_file(&t, "m/generation_config.json", "{\"eos_token_id\": [2, 7, 5, 7]}");
    ctx = tiny_ctx(&t);
    CHECK(awq_checkpoint_open(&ctx, "m", &ck) == AWQ_OK);
    if (!ck) return;
    c = awq_checkpoint_config(ck);
    CHECK(!strcmp(c->family->model_type, "llama") && !strcmp(c->model_type, "llama"));
    CHECK(c->hidden_size == 64 && c->intermediate_size == 128 && c->vocab_size == 96
          && c->max_position_embeddings == 128);
    CHECK(c->num_hidden_layers == 1 && c->num_attention_heads == 2 && c->num_key_value_heads == 1
          && c->head_dim == 32);
    CHECK(c->rms_norm_eps == 1e-5 && c->rope[0].theta == 10000 && c->rope[0].kind == AWQ_ROPE_DEFAULT
          && c->sliding_window == 0);
    CHECK(c->dtype == AWQ_F16 && c->bos_token_id == 1 && c->n_eos == 3);
    CHECK(c->eos_token_id[0] == 2 && c->eos_token_id[1] == 7 && c->eos_token_id[2] == 5);
    CHECK(!awq_checkpoint_quant(ck)->present && !strcmp(awq_checkpoint_folder(ck), "m"));
    CHECK(!strcmp(awq_checkpoint_config_text(ck), t.config)
          && awq_tensors_count(awq_checkpoint_tensors(ck)) == t.n);
    CHECK(awq_checkpoint_linear(&ctx, ck, 0, AWQ_DOWN_PROJ, &info) == AWQ_OK);
    CHECK(!strcmp(info.name, "model.layers.0.mlp.down_proj") && info.out_features == 64
          && info.in_features == 128);
    CHECK(!info.quantized && info.weight && !info.bias);
    CHECK(awq_checkpoint_linear(&ctx, ck, 1, AWQ_DOWN_PROJ, &info) == AWQ_E_ARG);
    CHECK(awq_checkpoint_linear(&ctx, ck, 0, AWQ_N_LINEARS, &info) == AWQ_E_ARG);
    CHECK(awq_checkpoint_read_qweight(&ctx, ck, &info, NULL) == AWQ_E_ARG);
    awq_checkpoint_close(&ctx, ck);
    CHECK(ctx.memory_used == 0);
    awq_checkpoint_close(&ctx, NULL);
    tiny_free(&t);
    tiny_llama(&t); /* a layer more than config.json has */
    tiny_add(&t, "model.layers.1.input_layernorm.weight", AWQ_F32, 1, 64, 0);
    expect(&t, AWQ_OK, "", "a layer more");
    CHECK_MSG(told.count == 1 && strstr(told.text, "num_hidden_layers is 1, which is believed"), "%d: %s", told.count, told.text);
    tiny_free(&t);
}

static void test_config_values(void)
{
    static const struct {
        const char *key, *json; /* NULL: without the key */
        awq_status status;
        const char *text;
    } cases[] = {
        {"model_type", NULL, AWQ_E_FORMAT, "model_type is missing"},
        {"model_type", "3", AWQ_E_FORMAT, "model_type"},
        {"model_type", "\"warble\"", AWQ_E_UNSUPPORTED, "m/config.json: model_type is \"warble\"; known are "
         "llama, mistral,"},
        {"hidden_size", NULL, AWQ_E_FORMAT, "hidden_size is missing"},
        {"hidden_size", "null", AWQ_E_FORMAT, "hidden_size is missing"},
        {"hidden_size", "64.5", AWQ_E_FORMAT, "hidden_size is not a whole number"},
        {"hidden_size", "\"64\"", AWQ_E_FORMAT, "hidden_size"},
        {"hidden_size", "2147483648", AWQ_E_LIMIT, "hidden_size is 2147483648"},
        {"hidden_size", "99999999999999999999", AWQ_E_FORMAT, "hidden_size"},
        {"hidden_size", "-64", AWQ_E_FORMAT, "hidden_size"},
        {"intermediate_size", NULL, AWQ_E_FORMAT, "intermediate_size"},
        {"intermediate_size", "127", AWQ_E_FORMAT, "[128, 64], expected"},
        {"vocab_size", "-320", AWQ_E_FORMAT, "vocab_size is -320"},
        {"vocab_size", "97", AWQ_E_FORMAT, "embed_tokens.weight\" is F16 [96, 64], expected F16 [97, 64]"},
        {"num_hidden_layers", "0", AWQ_E_FORMAT, "num_hidden_layers is 0"},
        {"num_hidden_layers", "2", AWQ_E_FORMAT, "\"model.layers.1.input_layernorm.weight\" is missing; num_hidden_layers is 2"},
        {"num_hidden_layers", "1000000000", AWQ_E_LIMIT, "num_hidden_layers is 1000000000"},
        {"num_attention_heads", "0", AWQ_E_FORMAT, "num_attention_heads"},
        {"num_attention_heads", "3", AWQ_E_FORMAT, "does not divide hidden_size"},
        {"num_attention_heads", "64", AWQ_E_FORMAT, "head_dim is 1"},
        {"num_attention_heads", "128", AWQ_E_FORMAT, "num_attention_heads 128"},
        {"num_key_value_heads", "3", AWQ_E_FORMAT, "num_key_value_heads 3"},
        {"num_key_value_heads", NULL, AWQ_E_FORMAT, "k_proj"}, /* then as many as heads */
        {"head_dim", "0", AWQ_E_FORMAT, "head_dim"},
        {"head_dim", "33", AWQ_E_FORMAT, "even"},
        {"head_dim", "32", AWQ_OK, ""},
        {"head_dim", "64", AWQ_E_FORMAT, "q_proj.weight\" is F16 [64, 64], expected F16 [128, 64]"},
        {"max_position_embeddings", NULL, AWQ_OK, ""},
        {"max_position_embeddings", "0", AWQ_E_FORMAT, "max_position_embeddings"},
        {"rms_norm_eps", NULL, AWQ_OK, ""},
        {"rms_norm_eps", "\"small\"", AWQ_E_FORMAT, "rms_norm_eps is not a number"},
        {"rms_norm_eps", "-1e-5", AWQ_E_FORMAT, "rms_norm_eps"},
        {"rms_norm_eps", "1e999", AWQ_E_FORMAT, "rms_norm_eps"},
        {"rope_theta", NULL, AWQ_OK, ""},
        {"rope_theta", "0", AWQ_E_FORMAT, "rope_theta is 0"},
        {"rope_scaling", "null", AWQ_OK, ""},
        {"rope_scaling", "\"linear\"", AWQ_E_FORMAT, "rope_scaling is not an object"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": 2}", AWQ_OK, ""},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": 0}", AWQ_E_FORMAT, "factor is 0"},
        {"rope_scaling", "{\"type\": \"linear\"}", AWQ_E_FORMAT, "factor is missing"},
        {"rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 2}", AWQ_OK, ""},
        {"rope_scaling", "{\"rope_type\": \"yarn\"}", AWQ_E_FORMAT, "factor is missing"},
        {"rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 2, \"beta_fast\": 0}", AWQ_E_FORMAT, "beta_fast is 0"},
        {"rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 2, \"truncate\": 1}", AWQ_E_FORMAT, "truncate"},
        {"rope_parameters", "{\"rope_type\": \"yarn\", \"factor\": 2, \"rope_theta\": 1}", AWQ_E_FORMAT,
         "rope_theta is 1, yarn"},
        {"rope_scaling", "{\"rope_type\": \"dynamic\", \"factor\": 2}", AWQ_OK, ""},
        {"rope_scaling", "{\"rope_type\": \"dynamic\"}", AWQ_E_FORMAT, "factor is missing"},
        {"rope_scaling", "{\"rope_type\": \"longrope\", \"short_factor\": [1, 1], \"long_factor\": [2, 2]}",
         AWQ_E_FORMAT, "short_factor has 2 numbers, expected 16"},
        {"rope_scaling", "{\"rope_type\": \"longrope\", \"short_factor\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,0], "
         "\"long_factor\": [1]}", AWQ_E_FORMAT, "short_factor[15] is not a finite number above 0"},
        {"rope_scaling", "{\"rope_type\": \"spiral\"}", AWQ_E_UNSUPPORTED, "\"spiral\"; known are default,"},
        {"rope_parameters", "{\"rope_type\": \"spiral\", \"rope_theta\": 1e4}", AWQ_E_UNSUPPORTED, "spiral"},
        {"rope_parameters", "{\"rope_theta\": -1}", AWQ_E_FORMAT, "rope_theta is -1"},
        {"rope_parameters", "{\"full_attention\": {\"rope_theta\": 1e4}}", AWQ_E_UNSUPPORTED, "full_attention"},
        {"rope_parameters", "{\"rope_theta\": 1e4, \"partial_rotary_factor\": 0.5}", AWQ_E_UNSUPPORTED,
         "partial_rotary"},
        {"rope_parameters", "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
         "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}", AWQ_OK, ""},
        {"rope_parameters", "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
         "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}", AWQ_E_FORMAT,
         "low_freq_factor 4 is not below"},
        {"rope_parameters", "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
         "\"high_freq_factor\": 4}", AWQ_E_FORMAT, "original_max_position_embeddings is missing"},
        {"hidden_act", "\"swish\"", AWQ_OK, ""},
        {"hidden_act", NULL, AWQ_OK, ""},
        {"hidden_act", "\"gelu\"", AWQ_E_UNSUPPORTED, "hidden_act is \"gelu\""},
        {"tie_word_embeddings", NULL, AWQ_OK, ""},
        {"tie_word_embeddings", "true", AWQ_OK, ""},
        {"tie_word_embeddings", "1", AWQ_E_FORMAT, "tie_word_embeddings is neither"},
        {"attention_bias", "true", AWQ_E_FORMAT, "q_proj.bias\" is missing"},
        {"mlp_bias", "true", AWQ_E_FORMAT, "gate_proj.bias\" is missing"},
        {"torch_dtype", NULL, AWQ_OK, ""},
        {"dtype", "\"bfloat16\"", AWQ_OK, ""},
        {"dtype", "\"float8_e4m3fn\"", AWQ_E_UNSUPPORTED, "float8_e4m3fn"},
        {"bos_token_id", "null", AWQ_OK, ""},
        {"eos_token_id", "[2, 3]", AWQ_OK, ""},
        {"eos_token_id", "-1", AWQ_OK, ""},
        {"eos_token_id", "\"</s>\"", AWQ_E_FORMAT, "eos_token_id"},
        {"eos_token_id", "[2, [3]]", AWQ_E_FORMAT, "eos_token_id"},
        {"eos_token_id", "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", AWQ_E_LIMIT, "eos_token_id"},
        {"sliding_window", "16", AWQ_OK, ""}, /* llama has none */
        {"quantization_config", "null", AWQ_OK, ""},
        {"quantization_config", "\"awq\"", AWQ_E_FORMAT, "not an object"},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tiny t;
        char what[300];
        tiny_llama(&t);
        tiny_set(&t, cases[i].key, cases[i].json);
        snprintf(what, sizeof what, "%s %s", cases[i].key, cases[i].json ? cases[i].json : "(absent)");
        expect(&t, cases[i].status, cases[i].text, what);
        tiny_free(&t);
    }
}

static void test_config_files(void)
{
    static const char *const bad[] = {"", "model_type: llama\n", "[]", "{\"model_type\": \"llama\"", "null"};
    tiny t;
    awq_ctx ctx;
    awq_checkpoint *ck = NULL;
    size_t i;
    tiny_llama(&t);
    ctx = tiny_ctx(&t);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        t.files[0].data = bad[i];
        t.files[0].bytes = strlen(bad[i]);
        CHECK(awq_checkpoint_open(&ctx, "m", &ck) == AWQ_E_FORMAT && strstr(ctx.err.text, "m/config.json"));
    }
    CHECK(awq_checkpoint_open(&ctx, "elsewhere", &ck) == AWQ_E_IO
          && strstr(ctx.err.text, "elsewhere/config.json"));
    tiny_file(&t, "m/generation_config.json", "{\"eos_token_id\": true}");
    expect(&t, AWQ_E_FORMAT, "m/generation_config.json: eos_token_id", "generation_config");
    tiny_file(&t, "m/generation_config.json", "{");
    expect(&t, AWQ_E_FORMAT, "m/generation_config.json: not valid JSON", "generation_config");
    tiny_file(&t, "m/generation_config.json", "{}");
    expect(&t, AWQ_OK, "", "generation_config");
    ctx = tiny_ctx(&t);
    t.files[1].path = "m/pytorch_model.bin";
    CHECK(awq_checkpoint_open(&ctx, "m", &ck) == AWQ_E_UNSUPPORTED
          && strstr(ctx.err.text, "pytorch_model.bin"));
    CHECK(ctx.memory_used == 0 && ck == NULL);
    tiny_free(&t);
}

/* opens and hands back a copy of the config */
static awq_config config_of(tiny *t)
{
    awq_ctx ctx = tiny_ctx(t);
    awq_checkpoint *ck = NULL;
    awq_config c;
    memset(&c, 0, sizeof c);
    CHECK_MSG(awq_checkpoint_open(&ctx, "m", &ck) == AWQ_OK, "%s", ctx.err.text);
    if (ck) c = *awq_checkpoint_config(ck);
    awq_checkpoint_close(&ctx, ck);
    return c;
}

static void test_families(void)
{
    awq_config c;
    tiny t;
    tiny_llama(&t);
    tiny_set(&t, "rope_parameters", "{\"rope_type\": \"linear\", \"rope_theta\": 5e5, \"factor\": 4}");
    c = config_of(&t);
    CHECK(c.rope[0].kind == AWQ_ROPE_LINEAR && c.rope[0].factor == 4 && c.rope[0].theta == 5e5);
    tiny_set(&t, "rope_parameters", NULL);

    tiny_set(&t, "model_type", "\"mistral\"");
    c = config_of(&t);
    CHECK(c.sliding_window == 4096 && c.layer_is_sliding[0]); /* the class default */
    tiny_set(&t, "sliding_window", "null");
    c = config_of(&t);
    CHECK(c.sliding_window == 0 && !c.layer_is_sliding[0]);
    tiny_set(&t, "sliding_window", "16");
    c = config_of(&t);
    CHECK(c.sliding_window == 16 && c.layer_is_sliding[0] && c.family->qkv_bias == 0);
    tiny_set(&t, "sliding_window", "0");
    expect(&t, AWQ_E_FORMAT, "sliding_window is 0", "mistral");
    tiny_set(&t, "sliding_window", "12");

    tiny_set(&t, "model_type", "\"qwen2\"");
    expect(&t, AWQ_E_FORMAT, "q_proj.bias\" is missing", "qwen2");
    tiny_add(&t, "model.layers.0.self_attn.q_proj.bias", AWQ_F16, 1, 64, 0);
    tiny_add(&t, "model.layers.0.self_attn.k_proj.bias", AWQ_F16, 1, 32, 0);
    tiny_add(&t, "model.layers.0.self_attn.v_proj.bias", AWQ_F16, 1, 32, 0);
    c = config_of(&t);
    CHECK(c.sliding_window == 0);
    tiny_set(&t, "use_sliding_window", "true");
    c = config_of(&t);
    CHECK(c.sliding_window == 0); /* max_window_layers is 28 */
    tiny_set(&t, "max_window_layers", "0");
    c = config_of(&t);
    CHECK(c.sliding_window == 12 && c.layer_is_sliding[0]);
    tiny_set(&t, "layer_types", "[\"full_attention\"]");
    c = config_of(&t);
    CHECK(c.sliding_window == 0);
    tiny_set(&t, "max_window_layers", NULL);
    tiny_set(&t, "layer_types", "[\"sliding_attention\"]");
    c = config_of(&t);
    CHECK(c.sliding_window == 12 && c.layer_is_sliding[0]);
    tiny_set(&t, "layer_types", "[\"linear_attention\"]");
    expect(&t, AWQ_E_UNSUPPORTED, "layer_types[0]", "qwen2");
    tiny_set(&t, "layer_types", "[]");
    expect(&t, AWQ_E_FORMAT, "layer_types", "qwen2");
    tiny_set(&t, "layer_types", "{\"a\": \"full_attention\"}");
    expect(&t, AWQ_E_FORMAT, "layer_types", "qwen2");
    tiny_set(&t, "layer_types", NULL);
    tiny_resize(tiny_find(&t, "model.layers.0.self_attn.v_proj.bias"), AWQ_F16, 1, 31, 0);
    expect(&t, AWQ_E_FORMAT, "v_proj.bias\" is F16 [31], expected F16 [32]", "qwen2");

    tiny_set(&t, "model_type", "\"qwen3\"");
    tiny_set(&t, "head_dim", "32"); /* absent it is 128 */
    expect(&t, AWQ_E_FORMAT, "q_norm.weight\" is missing", "qwen3");
    tiny_add(&t, "model.layers.0.self_attn.q_norm.weight", AWQ_F32, 1, 32, 0);
    tiny_add(&t, "model.layers.0.self_attn.k_norm.weight", AWQ_BF16, 1, 32, 0);
    c = config_of(&t);
    CHECK(c.family->qk_norm == AWQ_QK_HEAD && c.qk_norm == AWQ_QK_HEAD);
    tiny_free(&t);
}

/* Keys of other families than llama. What is wrong in config.json is told before tensors are looked at, so that
   llama's do. */
static void test_family_keys(void)
{
    static const struct {
        const char *type, *key, *json;
        awq_status status;
        const char *text;
    } cases[] = {
        {"gemma2", "hidden_activation", "\"relu\"", AWQ_E_UNSUPPORTED, "hidden_activation is \"relu\"; known are"},
        {"gemma", "use_bidirectional_attention", "true", AWQ_E_UNSUPPORTED, "use_bidirectional_attention is true"},
        {"gemma2", "query_pre_attn_scalar", "0", AWQ_E_FORMAT, "query_pre_attn_scalar is 0"},
        {"gemma2", "final_logit_softcapping", "-30", AWQ_E_FORMAT, "final_logit_softcapping is -30"},
        {"gemma2", "layer_types", "[\"chunked_attention\"]", AWQ_E_UNSUPPORTED, "layer_types[0]"},
        {"gemma2", "sliding_window", "0", AWQ_E_FORMAT, "sliding_window is 0"},
        {"gemma3_text", "sliding_window_pattern", "0", AWQ_E_FORMAT, "sliding_window_pattern is 0"},
        {"gemma3_text", "rope_parameters", "{\"full_attention\": {\"rope_type\": \"spiral\"}}", AWQ_E_UNSUPPORTED,
         "rope_type is \"spiral\""},
        {"gemma3_text", "rope_local_base_freq", "0", AWQ_E_FORMAT, "rope_local_base_freq is 0"},
        {"mixtral", "num_experts_per_tok", "9", AWQ_E_FORMAT, "9 of 8 experts"},
        {"mixtral", "num_local_experts", "0", AWQ_E_FORMAT, "num_local_experts is 0"},
        {"mixtral", "num_local_experts", "100000", AWQ_E_LIMIT, "num_local_experts is 100000"},
        {"mixtral", "moe_layer_freq", "2", AWQ_E_UNSUPPORTED, "moe_layer_freq is 2"},
        {"mixtral", "num_local_experts", "2", AWQ_E_FORMAT, "block_sparse_moe.gate.weight\" is missing"},
        {"mixtral", "decoder_sparse_step", "2", AWQ_E_UNSUPPORTED, "layer 0 has no experts"},
        {"qwen3_moe", "mlp_only_layers", "[\"a\"]", AWQ_E_FORMAT, "mlp_only_layers"},
        {"qwen2_moe", "norm_topk_prob", "2", AWQ_E_FORMAT, "norm_topk_prob"},
        {"deepseek_v2", "topk_method", "\"noaux_tc\"", AWQ_E_UNSUPPORTED, "topk_method is \"noaux_tc\"; known"},
        {"deepseek_v2", "num_experts_per_tok", NULL, AWQ_E_FORMAT, "num_experts_per_tok is missing"},
        {"deepseek_v3", "scoring_func", "\"softmax\"", AWQ_E_UNSUPPORTED, "scoring_func is \"softmax\"; known"},
        {"deepseek_v3", "n_group", "7", AWQ_E_FORMAT, "8 of 256 experts in the 4 best of 7 groups"},
        {"deepseek_v3", "topk_group", "9", AWQ_E_FORMAT, "9 best of 8 groups"},
        {"deepseek_v3", "num_key_value_heads", "1", AWQ_E_FORMAT, "num_key_value_heads is 1, latent"},
        {"deepseek_v3", "qk_rope_head_dim", "33", AWQ_E_FORMAT, "head_dim is 33, expected an even"},
        {"deepseek_v3", "kv_lora_rank", "0", AWQ_E_FORMAT, "kv_lora_rank is 0"},
        {"gpt_oss", "num_local_experts", "4", AWQ_E_FORMAT, "rope_parameters (or rope_scaling) is missing"},
        {"smollm3", "no_rope_layers", "[1, 1]", AWQ_E_FORMAT, "no_rope_layers is not an array of num_hidden_layers"},
        {"smollm3", "no_rope_layers", "[2]", AWQ_E_FORMAT, "no_rope_layers[0] is neither 0 nor 1"},
        {"glm4", "partial_rotary_factor", "0.01", AWQ_E_FORMAT, "partial_rotary_factor is 0.01"},
        {"glm4", "partial_rotary_factor", "2", AWQ_E_FORMAT, "partial_rotary_factor is 2"},
        {"stablelm", "use_parallel_residual", "1", AWQ_E_FORMAT, "use_parallel_residual is neither"},
        {"stablelm", "qk_layernorm", "true", AWQ_E_FORMAT, "norm.bias\" is missing"},
        {"cohere", "use_qk_norm", "true", AWQ_E_FORMAT, "q_norm.weight\" is missing"},
        {"granite", "residual_multiplier", "0", AWQ_E_FORMAT, "residual_multiplier is 0"},
        {"granite", "logits_scaling", "\"8\"", AWQ_E_FORMAT, "logits_scaling is not a number"},
        {"olmoe", "clip_qkv", "-8", AWQ_E_FORMAT, "clip_qkv is -8"},
        {"phi3", "rope_scaling", "{\"type\": \"su\", \"short_factor\": [1]}", AWQ_E_FORMAT, "short_factor has 1"},
        {"phi3", "num_hidden_layers", "1", AWQ_E_FORMAT, "self_attn.qkv_proj.weight\" is missing"},
        {"starcoder2", "norm_epsilon", "0", AWQ_E_FORMAT, "norm_epsilon is 0"},
        {"starcoder2", "hidden_act", "\"gelu\"", AWQ_E_UNSUPPORTED, "hidden_act is \"gelu\""},
        {"starcoder2", "num_hidden_layers", "1", AWQ_E_FORMAT, "norm.bias\" is missing"},
        {"qwen2_5_vl", "rope_scaling", "{\"type\": \"mrope\", \"mrope_section\": [8, 4, 4]}", AWQ_E_FORMAT,
         "q_proj.bias\" is missing"},
        {"llama", "text_config", "[]", AWQ_E_FORMAT, "text_config is not an object"},
        {"llava", "text_config", "{}", AWQ_E_FORMAT, "model_type is missing"},
        {"llava", "text_config", "{\"model_type\": \"opt\"}", AWQ_E_UNSUPPORTED, "model_type is \"opt\""},
    };
    static const char *const also[][3] = {{"deepseek_v2", "num_experts_per_tok", "2"},
                                           {"deepseek_v2", "num_key_value_heads", "2"},
                                           {"deepseek_v3", "num_key_value_heads", "2"}};
    size_t i, k;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tiny t;
        char what[300];
        tiny_llama(&t);
        for (k = 0; k < sizeof also / sizeof also[0]; k++)
            if (!strcmp(also[k][0], cases[i].type)) tiny_set(&t, also[k][1], also[k][2]);
        snprintf(what, sizeof what, "\"%s\"", cases[i].type);
        tiny_set(&t, "model_type", what);
        tiny_set(&t, cases[i].key, cases[i].json);
        snprintf(what, sizeof what, "%s: %s %s", cases[i].type, cases[i].key, cases[i].json ? cases[i].json : "");
        expect(&t, cases[i].status, cases[i].text, what);
        tiny_free(&t);
    }
}

/* the text part of a model that also sees: its config and its tensors' names */
static void test_wrapped(void)
{
    static const char *const prefixes[][2] = {{"model.language_model.", ""}, {"language_model.model.", "language_model."}};
    size_t p;
    int i;
    for (p = 0; p < 2; p++) {
        tiny t;
        awq_config c;
        awq_linear_info info;
        awq_checkpoint *ck = NULL;
        awq_ctx ctx;
        tiny_llama(&t);
        for (i = 0; i < t.n; i++) {
            char name[128];
            int inner = !strncmp(t.t[i].name, "model.", 6);
            snprintf(name, sizeof name, "%s%s", prefixes[p][!inner], t.t[i].name + (inner ? 6 : 0));
            memcpy(t.t[i].name, name, sizeof name);
        }
        tiny_set(&t, "model_type", "\"llava\"");
        expect(&t, AWQ_E_UNSUPPORTED, "model_type is \"llava\"", "without text_config");
        for (i = 0; i < t.n_keys; i++)
            if (strcmp(t.keys[i], "torch_dtype") && strcmp(t.keys[i], "tie_word_embeddings")
                && strcmp(t.keys[i], "eos_token_id")) t.values[i][0] = 0;
        tiny_set(&t, "text_config", "{\"model_type\": \"mistral\", \"hidden_size\": 64, \"intermediate_size\": 128, "
                 "\"vocab_size\": 96, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
                 "\"num_key_value_heads\": 1, \"rms_norm_eps\": 1e-5, \"bos_token_id\": 3, \"eos_token_id\": 4}");
        tiny_set(&t, "model_type", "\"llava\"");
        c = config_of(&t);
        CHECK(c.family && !strcmp(c.model_type, "mistral") && !strcmp(c.prefix, prefixes[p][0]));
        CHECK(c.hidden_size == 64 && c.dtype == AWQ_F16 && c.bos_token_id == 3 && c.n_eos == 2);
        ctx = tiny_ctx(&t);
        CHECK(awq_checkpoint_open(&ctx, "m", &ck) == AWQ_OK);
        if (ck && !awq_checkpoint_linear(&ctx, ck, 0, AWQ_DOWN_PROJ, &info))
            CHECK_MSG(!strncmp(info.name, prefixes[p][0], 21), "%s", info.name);
        awq_checkpoint_close(&ctx, ck);
        tiny_free(&t);
    }
}

/* every tensor missing, one row short, of another type */
static void test_each_tensor(void)
{
    tiny t;
    int i, k, n;
    tiny_llama(&t);
    n = t.n;
    tiny_free(&t);
    for (i = 0; i < n; i++)
        for (k = 0; k < 3; k++) {
            char name[128];
            tiny_tensor *x;
            tiny_llama(&t);
            x = &t.t[i];
            snprintf(name, sizeof name, "%s", x->name);
            if (k == 0) tiny_remove(&t, name);
            else if (k == 1) tiny_resize(x, AWQ_F16, x->ndim, x->shape[0] - 1, x->shape[1]);
            else tiny_resize(x, AWQ_I16, x->ndim, x->shape[0], x->shape[1]);
            expect(&t, k == 2 ? AWQ_E_UNSUPPORTED : AWQ_E_FORMAT, name, name);
            tiny_free(&t);
        }
    tiny_llama(&t);
    tiny_set(&t, "tie_word_embeddings", "true");
    tiny_remove(&t, "lm_head.weight");
    tiny_add(&t, "model.layers.0.self_attn.rotary_emb.inv_freq", AWQ_F32, 1, 16, 0);
    expect(&t, AWQ_OK, "", "tied");
    tiny_free(&t);
}

static const struct {
    awq_layout layout;
    int bits, group, symmetric;
    awq_dtype scale_dtype;
    const char *config;
} packings[] = {
    {AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 32, "
     "\"zero_point\": true, \"version\": \"gemm\", \"modules_to_not_convert\": null}"},
    {AWQ_LAYOUT_GEMM, 4, 64, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"w_bit\": 4, \"q_group_size\": 64, "
     "\"version\": \"GEMM\", \"backend\": \"autoawq\"}"},
    {AWQ_LAYOUT_GEMM, 4, -1, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": -1, \"format\": "
     "\"gemm\", \"sym\": false, \"desc_act\": false, \"dynamic\": {}}"},
    {AWQ_LAYOUT_GEMV, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 32, \"version\": "
     "\"GEMV\"}"},
    {AWQ_LAYOUT_GEMV_FAST, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 32, \"version\": "
     "\"gemv_fast\"}"},
    {AWQ_LAYOUT_GEMV_FAST, 4, 64, 0, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 64, \"version\": "
     "\"gemm\", \"backend\": \"llm-awq\"}"},
    {AWQ_LAYOUT_MARLIN, 4, 32, 1, AWQ_F16, "{\"quant_method\": \"awq\", \"group_size\": 32, \"zero_point\": "
     "false, \"version\": \"marlin\", \"modules_to_not_convert\": [\"k_proj\", \"v_proj\"]}"},
     /* 32 rows do not fit it */
    {AWQ_LAYOUT_GPTQ, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32, "
     "\"sym\": false, \"desc_act\": false}"},
    {AWQ_LAYOUT_GPTQ_V2, 4, 32, 1, AWQ_F16, "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32, "
     "\"sym\": true, \"checkpoint_format\": \"gptq_v2\"}"},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 4, 32, 0, AWQ_F16, "{\"quant_method\": \"compressed-tensors\", \"format\": "
     "\"pack-quantized\", \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"input_activations\": "
     "null, \"weights\": {\"num_bits\": 4, \"type\": \"int\", \"symmetric\": false, \"strategy\": \"group\", "
     "\"group_size\": 32}}}}"},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 4, 64, 1, AWQ_BF16, "{\"quant_method\": \"compressed-tensors\", "
     "\"config_groups\": {\"g\": {\"format\": \"pack-quantized\", \"weights\": {\"num_bits\": 4, "
     "\"symmetric\": true, \"group_size\": 64}}}}"},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 8, -1, 1, AWQ_F32, "{\"quant_method\": \"compressed-tensors\", \"format\": "
     "\"pack-quantized\", \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 8, \"strategy\": "
     "\"channel\"}}}}"},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 3, 32, 0, AWQ_F16, "{\"quant_method\": \"compressed-tensors\", \"format\": "
     "\"mixed-precision\", \"ignore\": [\"lm_head\", \"re:.*mlp.gate$\"], \"config_groups\": {\"group_0\": "
     "{\"format\": \"pack-quantized\", \"targets\": [\"re:.*mlp.*\"], \"weights\": {\"num_bits\": 8, "
     "\"group_size\": -1}}, \"group_1\": {\"format\": \"pack-quantized\", \"targets\": [\"Linear\"], "
     "\"weights\": {\"num_bits\": 3, \"symmetric\": false, \"group_size\": 32}}}, \"sparsity_config\": "
     "{\"format\": \"dense\"}}"},
    {AWQ_LAYOUT_COMPRESSED_TENSORS, 6, 64, 1, AWQ_F16, "{\"quant_method\": \"sparseml\", \"format\": "
     "\"pack-quantized\", \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 6, \"strategy\": \"Group\", "
     "\"group_size\": 64}}}}"},
    {AWQ_LAYOUT_INT8, 8, -1, 1, AWQ_BF16, "{\"quant_method\": \"compressed-tensors\", \"format\": "
     "\"int-quantized\", \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 8, \"strategy\": "
     "\"channel\"}, \"input_activations\": {\"num_bits\": 8, \"dynamic\": true, \"strategy\": \"token\"}}}}"},
    {AWQ_LAYOUT_INT8, 8, 32, 0, AWQ_F16, "{\"quant_method\": \"compressed-tensors\", \"format\": "
     "\"naive-quantized\", \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 4, \"symmetric\": false, "
     "\"group_size\": 32}}}}"},
    {AWQ_LAYOUT_GPTQ, 8, 32, 1, AWQ_F16, "{\"quant_method\": \"gptq\", \"bits\": 8, \"group_size\": 32, "
     "\"desc_act\": true, \"checkpoint_format\": \"GPTQ\"}"},
    {AWQ_LAYOUT_GPTQ, 4, 32, 0, AWQ_BF16, "{\"quant_method\": \"gptq\", \"bits\": 8, \"group_size\": 128, "
     "\"sym\": true, \"dynamic\": {\"-:.*lm_head\": {}, \"+:.*layers.*\": {\"bits\": 4, \"group_size\": 32, "
     "\"sym\": false}}}"},
    {AWQ_LAYOUT_GPTQ, 4, 64, 1, AWQ_F16, "{\"quant_method\": \"auto-round\", \"bits\": 4, \"group_size\": 64, "
     "\"sym\": true, \"data_type\": \"int\", \"packing_format\": \"auto_round:auto_gptq\"}"},
};
#define N_PACKINGS ((int)(sizeof packings / sizeof packings[0]))

/* a tiny llama packed as row i says */
static void packed(tiny *t, int i, awq_qweight *keep)
{
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    tiny_llama(t);
    tiny_set(t, "quantization_config", packings[i].config);
    CHECK_MSG(tiny_quantize(t, &ctx, packings[i].layout, packings[i].bits, packings[i].group,
                            packings[i].symmetric, packings[i].scale_dtype, keep) == AWQ_OK, "%d: %s", i,
                            ctx.err.text);
}

static void test_packed(void)
{
    int i, k, use_map;
    for (i = 0; i < N_PACKINGS; i++)
        for (use_map = 0; use_map < 2; use_map++) { /* a config that is right brings no warning */
            awq_ctx plain, ctx;
            awq_checkpoint *ck = NULL;
            awq_qweight was[7];
            tiny t;
            memset(&plain, 0, sizeof plain);
            memset(was, 0, sizeof was);
            packed(&t, i, was);
            ctx = tiny_ctx(&t);
            if (!use_map) ctx.files.map = NULL;
            memset(&told, 0, sizeof told);
            ctx.log = on_log;
            CHECK_MSG(awq_checkpoint_open(&ctx, "m", &ck) == AWQ_OK, "%d: %s", i, ctx.err.text);
            CHECK_MSG(told.count == (strstr(packings[i].config, "input_activations\": {") != NULL), "%d: %s", i,
                      told.text);
            for (k = 0; ck && k < 7; k++) {
                awq_linear_info info;
                awq_qweight w;
                size_t n = (size_t)(was[k].out_features * was[k].in_features), g;
                memset(&w, 0, sizeof w);
                CHECK(awq_checkpoint_linear(&ctx, ck, 0, (awq_linear_id)k, &info) == AWQ_OK);
                CHECK(info.quantized == (n > 0) && (n > 0 || packings[i].layout == AWQ_LAYOUT_MARLIN));
                if (!info.quantized || !n) continue;
                CHECK(info.packed.layout == packings[i].layout && info.packed.group_size == was[k].group_size);
                CHECK_MSG(awq_checkpoint_read_qweight(&ctx, ck, &info, &w) == AWQ_OK, "%d: %s", i,
                          ctx.err.text);
                g = n / (size_t)was[k].group_size;
                CHECK(w.codes && !memcmp(w.codes, was[k].codes, n) && !memcmp(w.zeros, was[k].zeros, g)
                      && !memcmp(w.scales, was[k].scales, g * sizeof *w.scales));
                CHECK(w.scale_dtype == packings[i].scale_dtype && w.bits == packings[i].bits);
                awq_qweight_free(&ctx, &w);
                awq_qweight_free(&plain, &was[k]);
            }
            awq_checkpoint_close(&ctx, ck);
            CHECK(ctx.memory_used == 0);
            tiny_free(&t);
        }
}

static void test_quant_config(void)
{
    static const struct {
        const char *json;
        awq_status status;
        const char *text;
    } cases[] = { /* over gemm tensors of group 32 */
        {"{\"group_size\": 32}", AWQ_OK, ""},
        {"{\"quant_method\": \"hqqq\", \"group_size\": 32}", AWQ_E_UNSUPPORTED, "quant_method is \"hqqq\""},
        {"{\"quant_method\": 4, \"group_size\": 32}", AWQ_E_FORMAT, "quant_method is not a string"},
        {"{\"bits\": 3, \"group_size\": 32}", AWQ_OK, "says gemm, 3 bits, group_size 32, with zero points; the "
         "tensors of model.layers.0.self_attn.q_proj are gemm, 4 bits, group_size 32, with zero points"},
        {"{\"bits\": 16, \"group_size\": 32}", AWQ_E_UNSUPPORTED, "bits is 16"},
        {"{\"bits\": \"4\", \"group_size\": 32}", AWQ_E_FORMAT, "bits"},
        {"{\"group_size\": 0}", AWQ_E_FORMAT, "group_size is 0"},
        {"{\"group_size\": -2}", AWQ_E_FORMAT, "group_size is -2"},
        {"{\"group_size\": 48}", AWQ_E_UNSUPPORTED, "group_size 48 does not divide the 64 columns of "
         "model.layers.0.self_attn.q_proj"}, /* a short last group, or two of 32? */
        {"{\"group_size\": 64}", AWQ_OK, "says gemm, 4 bits, group_size 64"},
        {"{\"group_size\": -1}", AWQ_OK, "says gemm, 4 bits, group_size -1"},
        {"{\"version\": \"marlin9\", \"group_size\": 32}", AWQ_E_UNSUPPORTED, "version is \"marlin9\""},
        {"{\"version\": \"gptq\", \"group_size\": 32}", AWQ_E_UNSUPPORTED, "version"},
        {"{\"version\": \"gemv\", \"group_size\": 32}", AWQ_OK, "says gemv, 4 bits"},
        {"{\"backend\": \"LLM-AWQ\", \"group_size\": 32}", AWQ_OK, "says gemv_fast, 4 bits"},
        {"{\"version\": \"exllama\", \"group_size\": 32}", AWQ_OK, ""},
        {"{\"version\": \"ipex\", \"group_size\": 32, \"exllama_config\": {\"version\": 2}}", AWQ_OK, ""},
        {"{\"quant_method\": \"AWQ\", \"group_size\": 32, \"do_fuse\": false, \"modules_to_fuse\": null, "
         "\"pack_dtype\": \"torch.int32\", \"meta\": {\"quantizer\": [\"gptqmodel:5.0.0\"]}, \"lm_head\": "
         "false, \"checkpoint_format\": \"gemm\"}", AWQ_OK, ""},
        {"{\"quant_method\": \"awq\", \"group_size\": 32, \"pack_dtype\": \"int8\"}", AWQ_E_UNSUPPORTED,
         "pack_dtype is \"int8\""},
        {"{\"quant_method\": \"awq\", \"group_size\": 32, \"provider\": \"auto-round\", \"data_type\": \"int\", "
         "\"sym\": false, \"autoround_version\": \"0.4.2\", \"block_name_to_quantize\": \"model.layers\", "
         "\"iters\": 200}", AWQ_OK, ""},
        {"{\"quant_method\": \"awq\", \"group_size\": 32, \"data_type\": \"mx_fp\"}", AWQ_E_UNSUPPORTED,
         "data_type is \"mx_fp\""},
        {"{\"quant_method\": \"auto-round\", \"group_size\": 32, \"sym\": false, \"packing_format\": "
         "\"auto_round:auto_awq\", \"extra_config\": {\"lm_head\": {\"bits\": 16}}}", AWQ_OK, ""},
        {"{\"quant_method\": \"auto-round\", \"packing_format\": \"auto_round\"}", AWQ_E_UNSUPPORTED,
         "packing_format is \"auto_round\""},
        {"{\"quant_method\": \"w4afp8\", \"group_size\": 32}", AWQ_OK, ""},
        {"{\"quant_method\": \"modelopt\", \"quant_algo\": \"W4A16_AWQ\", \"group_size\": 32, "
         "\"has_zero_point\": true}", AWQ_OK, ""},
        {"{\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4\"}", AWQ_E_UNSUPPORTED,
         "quant_algo is \"NVFP4\"; known are W4A16_AWQ"},
        {"{\"quant_method\": \"gptq\", \"group_size\": 32, \"sym\": false}", AWQ_OK, "says gptq, 4 bits"},
        {"{\"quant_method\": \"gptq\", \"is_marlin_format\": true}", AWQ_E_UNSUPPORTED, "marlin"},
        {"{\"quant_method\": \"awq\", \"group_size\": 64, \"dynamic\": {\"-:.*gate.*\": {}, \"+:.*proj.*\": "
         "{\"group_size\": 32}}}", AWQ_OK, ""},
        {"{\"quant_method\": \"awq\", \"dynamic\": {\"a\": {\"bits\": \"4\"}}}", AWQ_E_FORMAT, "bits"},
        {"{\"quant_method\": \"awq\", \"dynamic\": {\"1\": {\"group_size\": 1}, \"2\": {\"group_size\": 2}, "
         "\"3\": {\"group_size\": 3}, \"4\": {\"group_size\": 4}, \"5\": {\"group_size\": 5}, "
         "\"6\": {\"group_size\": 6}, \"7\": {\"group_size\": 7}, \"8\": {\"group_size\": 8}, "
         "\"9\": {\"group_size\": 9}, \"a\": {\"group_size\": 10}, \"b\": {\"group_size\": 11}, "
         "\"c\": {\"group_size\": 12}, \"d\": {\"group_size\": 13}, \"e\": {\"group_size\": 14}, "
         "\"f\": {\"group_size\": 15}, \"g\": {\"group_size\": 16}}}", AWQ_E_LIMIT, "more than 16 kinds"},
        {"{\"quant_method\": \"gptq\", \"group_size\": 32, \"checkpoint_format\": \"marlin\"}",
         AWQ_E_UNSUPPORTED, "marlin"},
        {"{\"quant_method\": \"compressed-tensors\"}", AWQ_E_UNSUPPORTED, "config_groups has no group"},
        {"{\"quant_method\": \"compressed-tensors\", \"config_groups\": {\"a\": [\"Linear\"]}}", AWQ_E_FORMAT,
         "not an object"},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"nvfp4-pack-quantized\", \"config_groups\": "
         "{\"a\": {}}}", AWQ_E_UNSUPPORTED, "format is \"nvfp4-pack-quantized\"; known are pack-quantized"},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"mixed-precision\", \"config_groups\": "
         "{\"a\": {\"format\": \"float-quantized\"}}}", AWQ_E_UNSUPPORTED, "format is \"float-quantized\""},
        {"{\"quant_method\": \"compressed-tensors\", \"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}}",
         AWQ_E_UNSUPPORTED, "sparsity_config is \"sparse-24-bitmask\""},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"marlin-24\", \"config_groups\": {\"a\": "
         "{}}}", AWQ_E_UNSUPPORTED, "format is \"marlin-24\""},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": "
         "{\"a\": {}}}", AWQ_E_FORMAT, "num_bits is missing"},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": "
         "{\"a\": {\"weights\": {\"num_bits\": 9}}}}", AWQ_E_UNSUPPORTED, "num_bits is 9"},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": "
         "{\"a\": {\"weights\": {\"num_bits\": 4, \"type\": \"float\"}}}}", AWQ_E_UNSUPPORTED,
         "type is \"float\""},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": "
         "{\"a\": {\"weights\": {\"num_bits\": 4, \"strategy\": \"block\"}}}}", AWQ_E_UNSUPPORTED,
         "strategy is \"block\""},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": "
         "{\"a\": {\"weights\": {\"num_bits\": 4, \"strategy\": \"group\"}}}}", AWQ_E_FORMAT,
         "group_size is missing"},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": "
         "{\"a\": {\"weights\": {\"num_bits\": 4, \"group_size\": 32}, \"input_activations\": {\"num_bits\": "
         "8}}}}", AWQ_E_UNSUPPORTED, "activations"},
        {"{\"quant_method\": \"compressed-tensors\", \"transform_config\": {\"a\": 1}}", AWQ_E_UNSUPPORTED,
         "transform_config"},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": "
         "{\"a\": {\"weights\": {\"num_bits\": 4, \"group_size\": 32}}}}", AWQ_OK,
         "says compressed-tensors, 4 bits, group_size 32, symmetric; the tensors"},
        {NULL, AWQ_E_FORMAT, "q_proj is quantized, but there is no quantization_config"},
    };
    size_t i;
    tiny t;
    packed(&t, 0, NULL);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tiny_set(&t, "quantization_config", cases[i].json);
        expect(&t, cases[i].status, cases[i].text, cases[i].json ? cases[i].json : "no quantization_config");
        if (cases[i].status) continue;
        CHECK_MSG(told.count == (cases[i].text[0] != 0) && strstr(told.text, cases[i].text), "%s: %d warnings, %s",
                  cases[i].json, told.count, told.text);
    }
    tiny_set(&t, "quantization_config", NULL);
    tiny_file(&t, "m/quant_config.json", "{\"zero_point\": true, \"q_group_size\": 32, \"w_bit\": 4, "
              "\"version\": \"GEMM\"}");
    expect(&t, AWQ_OK, "", "quant_config.json");
    tiny_file(&t, "m/quant_config.json", "[]");
    expect(&t, AWQ_E_FORMAT, "m/quant_config.json", "quant_config.json");
    tiny_file(&t, "m/quant_config.json", "{\"w_bit\": 1}");
    expect(&t, AWQ_E_UNSUPPORTED, "m/quant_config.json: quantization bits is 1", "quant_config.json");
    t.files[2].path = "m/hf_quant_config.json";
    tiny_file(&t, "m/hf_quant_config.json", "{\"producer\": {\"name\": \"modelopt\"}, \"quantization\": "
              "{\"quant_algo\": \"W4A16_AWQ\", \"group_size\": 32, \"has_zero_point\": true, "
              "\"exclude_modules\": [\"lm_head\"]}}");
    expect(&t, AWQ_OK, "", "hf_quant_config.json");
    tiny_file(&t, "m/hf_quant_config.json", "{\"quantization\": {\"quant_algo\": \"FP8\"}}");
    expect(&t, AWQ_E_UNSUPPORTED, "m/hf_quant_config.json: quantization quant_algo is \"FP8\"", "hf_quant_config.json");
    tiny_free(&t);
    packed(&t, 7, NULL); /* GPTQ */
    tiny_set(&t, "quantization_config", NULL);
    tiny_file(&t, "m/quantize_config.json", "{\"bits\": 4, \"group_size\": 32, \"desc_act\": false, \"sym\": "
              "false}");
    expect(&t, AWQ_OK, "", "quantize_config.json");
    tiny_free(&t);
}

/* every packed tensor of a linear missing, short, of another type; then bad values */
static void test_each_packed_tensor(void)
{
    int i, j, k;
    for (i = 0; i < N_PACKINGS; i++) {
        tiny whole;
        packed(&whole, i, NULL);
        for (j = 0; j < whole.n; j++)
            for (k = 0; k < 3 && strstr(whole.t[j].name, "q_proj"); k++) {
                const char *name = whole.t[j].name;
                tiny_tensor *x;
                tiny t;
                packed(&t, i, NULL);
                x = tiny_find(&t, name);
                if (k == 0) tiny_remove(&t, name);
                else if (k == 1) tiny_resize(x, x->dtype, x->ndim, x->shape[0] + 8, x->shape[1]);
                else tiny_resize(x, AWQ_U8, x->ndim, x->shape[0], x->shape[1]);
                expect(&t, k == 0 && strstr(name, ".g_idx") ? AWQ_OK : packings[i].layout == AWQ_LAYOUT_INT8
                       && strstr(name, ".weight") + 7 == name + strlen(name) && k == 2 ? AWQ_E_UNSUPPORTED
                       : AWQ_E_FORMAT, "self_attn.q_proj", name);
                tiny_free(&t);
            }
        tiny_free(&whole);
    }
}

static void test_packed_values(void)
{
    awq_ctx ctx;
    awq_checkpoint *ck = NULL;
    awq_linear_info info;
    awq_qweight w;
    tiny t;
    int k;
    packed(&t, 0, NULL);
    ((uint16_t *)tiny_find(&t, "model.layers.0.mlp.up_proj.scales")->data)[5] = 0x7e00;
    ctx = tiny_ctx(&t);
    memset(&w, 0x55, sizeof w);
    CHECK(awq_checkpoint_open(&ctx, "m", &ck) == AWQ_OK);
    CHECK(awq_checkpoint_linear(&ctx, ck, 0, AWQ_UP_PROJ, &info) == AWQ_OK);
    CHECK(awq_checkpoint_read_qweight(&ctx, ck, &info, &w) == AWQ_E_NUMERIC);
    CHECK_MSG(strstr(ctx.err.text, "m: model.layers.0.mlp.up_proj") != NULL, "%s", ctx.err.text);
    CHECK(w.bits == 0x55555555); /* untouched */
    awq_checkpoint_close(&ctx, ck);
    CHECK(ctx.memory_used == 0);
    tiny_free(&t);

    packed(&t, 7, NULL); /* GPTQ with columns in another order */
    ((int32_t *)tiny_find(&t, "model.layers.0.mlp.up_proj.g_idx")->data)[0] = 1;
    ctx = tiny_ctx(&t);
    CHECK(awq_checkpoint_open(&ctx, "m", &ck) == AWQ_E_UNSUPPORTED);
    CHECK_MSG(strstr(ctx.err.text, "up_proj: layout gptq: g_idx[0] is 1, expected 0") != NULL, "%s", ctx.err.text);
    tiny_set(&t, "quantization_config", "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32, \"sym\": "
             "false, \"desc_act\": true}");
    expect(&t, AWQ_E_UNSUPPORTED, "desc_act false", "desc_act");
    ((int32_t *)tiny_find(&t, "model.layers.0.mlp.up_proj.g_idx")->data)[0] = 0;
    expect(&t, AWQ_OK, "", "desc_act in the usual order");
    tiny_free(&t);

    packed(&t, 9, NULL);
    {
        tiny_tensor *g = tiny_add(&t, "model.layers.0.self_attn.q_proj.weight_g_idx", AWQ_I32, 1, 64, 0);
        expect(&t, AWQ_E_UNSUPPORTED, "q_proj: layout compressed-tensors: g_idx[32] is 0, expected 1", "weight_g_idx");
        for (k = 32; k < 64; k++) ((int32_t *)g->data)[k] = 1;
        expect(&t, AWQ_OK, "", "weight_g_idx in the usual order");
        tiny_resize(g, AWQ_I32, 1, 63, 0);
        expect(&t, AWQ_E_FORMAT, "weight_g_idx\" is not I32 [64]", "weight_g_idx");
    }
    tiny_free(&t);

    packed(&t, 5, NULL); /* llm-awq calls its zeros scaled_zeros */
    {
        int i;
        for (i = 0; i < t.n; i++) {
            char *z = strstr(t.t[i].name, ".qzeros");
            if (z) memcpy(z, ".scaled_zeros", 14);
        }
    }
    expect(&t, AWQ_OK, "", "scaled_zeros");
    tiny_free(&t);
}

static void test_stacked_experts(void)
{
    awq_ctx plain, ctx;
    awq_checkpoint *ck = NULL;
    awq_qweight was[6], w;
    awq_linear_info info;
    int e, use_map, id;
    tiny t;
    memset(&plain, 0, sizeof plain);
    CHECK(tiny_stacked(&t, 3, packings[12].config, was, &plain) == AWQ_OK);
    for (use_map = 0; use_map < 2; use_map++) {
        ctx = tiny_ctx(&t);
        if (!use_map) ctx.files.map = NULL;
        CHECK_MSG(awq_checkpoint_open(&ctx, "m", &ck) == AWQ_OK, "%s", ctx.err.text);
        for (e = 0; ck && e < 3; e++)
            for (id = AWQ_EXPERT_GATE; id <= AWQ_EXPERT_DOWN; id++) { /* gate and up are halves of the rows */
                const awq_qweight *x = &was[(id == AWQ_EXPERT_DOWN) * 3 + e];
                size_t first = id == AWQ_EXPERT_UP ? 128 : 0, in = (size_t)x->in_features;
                CHECK(awq_checkpoint_expert(&ctx, ck, 0, (awq_linear_id)id, e, &info) == AWQ_OK && info.slice == e);
                CHECK_MSG(awq_checkpoint_read_qweight(&ctx, ck, &info, &w) == AWQ_OK, "%s", ctx.err.text);
                CHECK(!memcmp(w.codes, x->codes + first * in, (size_t)w.out_features * in)
                      && !memcmp(w.zeros, x->zeros + first * in / 32, (size_t)w.out_features * in / 32)
                      && w.scales[0] == x->scales[first * in / 32]);
                awq_qweight_free(&ctx, &w);
            }
        awq_checkpoint_close(&ctx, ck);
        CHECK(ctx.memory_used == 0);
    }
    tiny_resize(tiny_find(&t, "model.layers.0.block_sparse_moe.input_linear.weight_shape"), AWQ_I64, 1, 2, 0);
    expect(&t, AWQ_E_FORMAT, "input_linear.weight_shape\" is I64 [2], expected I64 [3]", "weight_shape");
    memcpy(strstr(tiny_find(&t, "model.layers.0.block_sparse_moe.input_linear.weight_packed")->name, "weight"),
           "qweight", 8);
    expect(&t, AWQ_E_UNSUPPORTED, "input_linear: experts packed in one tensor are supported in the form of", "qweight");
    for (e = 0; e < 6; e++) awq_qweight_free(&plain, &was[e]);
    tiny_free(&t);
}

static void test_activation_scales(void) /* of AutoAWQ's ScaledActivation */
{
    static const char *const biases[] = {"model.norm.bias", "model.layers.0.input_layernorm.bias",
                                         "model.layers.0.post_attention_layernorm.bias"};
    awq_config c;
    tiny t;
    size_t i;
    tiny_llama(&t);
    tiny_add(&t, "model.layers.0.mlp.act.scales", AWQ_F16, 1, 128, 0);
    expect(&t, AWQ_E_UNSUPPORTED, "tensor \"model.layers.0.mlp.act.scales\" scales an activation (AutoAWQ's "
           "ScaledActivation): not supported there for llama", "llama");
    tiny_set(&t, "model_type", "\"starcoder2\"");
    tiny_set(&t, "use_bias", "false");
    tiny_set(&t, "hidden_act", "\"gelu_pytorch_tanh\"");
    for (i = 0; i < 3; i++) tiny_add(&t, biases[i], AWQ_F16, 1, 64, 0);
    strcpy(tiny_find(&t, "model.layers.0.mlp.up_proj.weight")->name, "model.layers.0.mlp.c_fc.weight");
    strcpy(tiny_find(&t, "model.layers.0.mlp.down_proj.weight")->name, "model.layers.0.mlp.c_proj.weight");
    c = config_of(&t);
    CHECK(c.act_scales);
    tiny_resize(tiny_find(&t, "model.layers.0.mlp.act.scales"), AWQ_F16, 1, 64, 0);
    expect(&t, AWQ_E_FORMAT, "act.scales\" is F16 [64], expected F16 [128]", "short");
    strcpy(tiny_find(&t, "model.layers.0.mlp.act.scales")->name, "model.layers.0.self_attn.act.scales");
    expect(&t, AWQ_E_UNSUPPORTED, "not supported there for starcoder2", "elsewhere");
    tiny_remove(&t, "model.layers.0.self_attn.act.scales");
    c = config_of(&t);
    CHECK(!c.act_scales);
    tiny_free(&t);
}

static void test_other_weights(void) /* of kinds that are not read */
{
    static const awq_dtype types[] = {AWQ_U8, AWQ_I8, AWQ_F8_E4M3, AWQ_F8_E5M2};
    size_t i;
    tiny t;
    for (i = 0; i < 4; i++) {
        tiny_llama(&t);
        tiny_set(&t, "quantization_config", "{\"quant_method\": \"w4afp8\"}");
        tiny_resize(tiny_find(&t, "model.layers.0.self_attn.q_proj.weight"), types[i], 2, 32, 64);
        expect(&t, AWQ_E_UNSUPPORTED, "q_proj.weight\" is", awq_dtype_name(types[i]));
        expect(&t, AWQ_E_UNSUPPORTED, "or quantize the one that it was made from", awq_dtype_name(types[i]));
        tiny_free(&t);
    }
    tiny_llama(&t);
    tiny_add(&t, "lm_head.qweight", AWQ_I32, 2, 64, 12);
    expect(&t, AWQ_E_UNSUPPORTED, "\"lm_head.qweight\": a quantized head is not supported", "lm_head");
    tiny_free(&t);
}

/* the memory file system with an injected failure: every call that may fail does so once */
static struct {
    awq_file_system inner;
    long at, calls;
} broken;

static int broken_open(void *u, const char *path, int w, void **f)
{
    return broken.calls++ == broken.at ? EIO : broken.inner.open(u, path, w, f);
}
static int broken_size(void *u, void *f, uint64_t *n)
{
    return broken.calls++ == broken.at ? EIO : broken.inner.size(u, f, n);
}
static int broken_read(void *u, void *f, uint64_t o, void *d, size_t n)
{
    return broken.calls++ == broken.at ? EIO : broken.inner.read(u, f, o, d, n);
}

static awq_status open_and_read(awq_ctx *ctx)
{
    awq_checkpoint *ck = NULL;
    awq_linear_info info;
    awq_qweight w;
    awq_status st = awq_checkpoint_open(ctx, "m", &ck);
    memset(&w, 0, sizeof w);
    if (!st) st = awq_checkpoint_linear(ctx, ck, 0, AWQ_Q_PROJ, &info);
    if (!st) st = awq_checkpoint_read_qweight(ctx, ck, &info, &w);
    awq_qweight_free(ctx, &w);
    awq_checkpoint_close(ctx, ck);
    return st;
}

static void test_failures_of(int packing)
{
    tiny t;
    long k;
    awq_status st = AWQ_E_MEMORY;
    packed(&t, packing, NULL);
    tiny_file(&t, "m/generation_config.json", "{\"eos_token_id\": 3}");
    for (k = 0; st && k < 1000; k++) {
        fail_alloc f = {k, 0, 0};
        awq_ctx ctx = tiny_ctx(&t);
        ctx.files.map = NULL;
        ctx.allocator = fail_allocator(&f);
        st = open_and_read(&ctx);
        CHECK_MSG(st == AWQ_OK || st == AWQ_E_MEMORY, "allocation %ld: %s", k, ctx.err.text);
        CHECK(f.live == 0 && ctx.memory_used == 0);
    }
    CHECK(k > 10 && !st);
    for (k = 0, st = AWQ_E_IO; st && k < 1000; k++) {
        awq_ctx ctx = tiny_ctx(&t);
        broken.inner = ctx.files;
        broken.at = k;
        broken.calls = 0;
        ctx.files.map = NULL;
        ctx.files.open = broken_open;
        ctx.files.size = broken_size;
        ctx.files.read = broken_read;
        st = open_and_read(&ctx);
        CHECK_MSG(st == AWQ_OK || st == AWQ_E_IO, "file call %ld: %s", k, ctx.err.text);
        CHECK(ctx.memory_used == 0);
    }
    CHECK(k > 10 && !st);
    tiny_free(&t);
}

static void test_failures(void)
{
    test_failures_of(0);
    test_failures_of(7);  /* with g_idx */
    test_failures_of(12); /* several kinds */
}

/* --- the reference checkpoints */
/* DATA/fixtures/models/NAME as memory files; v4: config.v4.json in the place of config.json */
static awq_status open_fixture(awq_ctx *ctx, const char *name, int v4, char path[8][600], awq_memory_list *list,
                               awq_memory_file *files, awq_checkpoint **ck)
{
    static const char *const names[] = {"config.json", "generation_config.json", "model.safetensors",
                                        "model.safetensors.index.json", "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    awq_ctx os;
    size_t i;
    memset(&os, 0, sizeof os);
    list->files = files;
    list->count = 0;
    for (i = 0; i < 6; i++) {
        char *data;
        size_t bytes;
        snprintf(path[i], 600, "%s/fixtures/models/%s/%s", TEST_DATA(), name, i == 0 && v4 ? "config.v4.json"
                 : names[i]);
        if (awq__file_load(&os, path[i], (size_t)1 << 30, &data, &bytes)) continue;
        snprintf(path[i], 600, "m/%s", names[i]);
        files[list->count].path = path[i];
        files[list->count].data = data;
        files[list->count++].bytes = bytes;
    }
    ctx->files = awq_memory_files(list);
    return awq_checkpoint_open(ctx, "m", ck);
}

static void test_reference_checkpoints(void)
{
    static const char *const good[] = {
        "cohere", "deepseek_v2", "deepseek_v3", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3", "glm4",
        "glm4_moe", "gpt_oss", "granite", "granitemoe", "hunyuan_dense", "llama_awq_gemm",
        "llama_awq_gemv", "llama_awq_gemv_fast", "llama_bias_fp32", "llama_ct_pack_asym_fp16",
        "llama_ct_pack_sym_bf16", "llama_gqa", "llama_headdim", "llama_rope_dynamic", "llama_rope_linear",
        "llama_rope_llama3", "llama_rope_yarn", "llama_tied", "mistral", "mixtral", "mixtral_awq_gemm",
        "olmo2", "olmo3", "olmoe", "phi3", "phi3_longrope", "qwen2", "qwen2_awq_gemm", "qwen2_moe",
        "qwen2_swa", "qwen3", "qwen3_awq_gemm", "qwen3_moe", "seed_oss", "smollm3", "stablelm",
        "starcoder2"};
    size_t i, k, n_good = sizeof good / sizeof good[0];
    int v4, layer, id, e;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    for (i = 0; i < n_good; i++) {
        const char *name = good[i];
        awq_config config[2];
        memset(config, 0, sizeof config);
        for (v4 = 0; v4 < 2; v4++) {
            char path[8][600];
            awq_memory_file files[8];
            awq_memory_list list;
            awq_checkpoint *ck = NULL;
            awq_ctx ctx, os;
            awq_status st;
            memset(&ctx, 0, sizeof ctx);
            memset(&os, 0, sizeof os);
            st = open_fixture(&ctx, name, v4, path, &list, files, &ck);
            if (list.count == 0) CHECK_MSG(0, "%s: not there", name);
            else CHECK_MSG(st == AWQ_OK, "%s (%s): %s", name, v4 ? "v4" : "v5", ctx.err.text);
            if (ck) config[v4] = *awq_checkpoint_config(ck);
            for (layer = 0; ck && layer < config[v4].num_hidden_layers; layer++)
                for (id = 0; id < AWQ_N_LINEAR_IDS; id++)
                    for (e = 0; e < awq_linear_count(&config[v4], layer, (awq_linear_id)id); e++) {
                        awq_linear_info info;
                        awq_qweight w;
                        CHECK(awq_checkpoint_expert(&ctx, ck, layer, (awq_linear_id)id, e, &info) == AWQ_OK);
                        CHECK(info.quantized == ((strstr(name, "awq") || strstr(name, "_ct_")) && id != AWQ_ROUTER));
                        if (!info.quantized) continue;
                        CHECK_MSG(awq_checkpoint_read_qweight(&ctx, ck, &info, &w) == AWQ_OK, "%s: %s", name,
                                  ctx.err.text);
                        awq_qweight_free(&ctx, &w);
                    }
            awq_checkpoint_close(&ctx, ck);
            CHECK(ctx.memory_used == 0);
            for (k = 0; k < list.count; k++) awq__free(&os, (void *)(uintptr_t)files[k].data);
        }
        CHECK_MSG(!memcmp(&config[0], &config[1], sizeof config[0]), "%s: config.json and config.v4.json "
                  "differ", name);
        if (!strcmp(name, "qwen2_swa"))
            CHECK(config[0].sliding_window == 12 && !config[0].layer_is_sliding[0]
                  && config[0].layer_is_sliding[1]);
        if (!strcmp(name, "llama_rope_llama3"))
            CHECK(config[0].rope[0].kind == AWQ_ROPE_LLAMA3 && config[0].rope[0].factor == 8
                  && config[0].rope[0].low_freq_factor == 1 && config[0].rope[0].high_freq_factor == 4
                  && config[0].rope[0].original_max_position == 32);
    }
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_opens);
    RUN(test_config_values);
    RUN(test_config_files);
    RUN(test_families);
    RUN(test_family_keys);
    RUN(test_wrapped);
    RUN(test_each_tensor);
    RUN(test_packed);
    RUN(test_quant_config);
    RUN(test_each_packed_tensor);
    RUN(test_packed_values);
    RUN(test_stacked_experts);
    RUN(test_activation_scales);
    RUN(test_other_weights);
    RUN(test_failures);
    RUN(test_reference_checkpoints);
    return TEST_END();
}
