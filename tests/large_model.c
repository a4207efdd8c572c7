/* A checkpoint in the shape of a 7B model with random weights, in shards; then the first blocks quantized, and the memory
   stated beside the memory taken:
       cc -O2 -o large_model tests/large_model.c -lm -lpthread && ./large_model FOLDER [layers 4] [blocks 2] [samples 16]
   FOLDER must not exist; 0.4 GB a layer and 0.5 GB for the embeddings are written to it, and left there. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"

#include <sys/resource.h>
#include <sys/stat.h>

enum { HIDDEN = 4096, INTER = 11008, VOCAB = 32000, SEQ = 512 };

static const struct {
    const char *name;
    int64_t out, in;
} linears[] = {{"self_attn.q_proj", HIDDEN, HIDDEN}, {"self_attn.k_proj", HIDDEN, HIDDEN},
               {"self_attn.v_proj", HIDDEN, HIDDEN}, {"self_attn.o_proj", HIDDEN, HIDDEN},
               {"mlp.gate_proj", INTER, HIDDEN},     {"mlp.up_proj", INTER, HIDDEN},
               {"mlp.down_proj", HIDDEN, INTER}};

static int stop(const awq_ctx *ctx, const char *what)
{
    fprintf(stderr, "%s: %s\n", what, ctx->err.text);
    return 1;
}

static int add(awq_tensor *list, int n, char *name, int64_t rows, int64_t columns)
{
    memset(&list[n], 0, sizeof list[n]);
    list[n].name = name;
    list[n].dtype = AWQ_F16;
    list[n].ndim = rows ? 2 : 1;
    list[n].shape[0] = rows ? rows : columns;
    list[n].shape[1] = columns;
    return n + 1;
}

static int make(awq_ctx *ctx, const char *folder, int layers)
{
    char names[64 * 9 + 3][64], path[600], config[1024];
    awq_tensor *list = (awq_tensor *)calloc(64 * 9 + 3, sizeof *list);
    uint16_t *row = (uint16_t *)malloc((size_t)INTER * 64 * 2);
    awq_writer *w = NULL;
    uint64_t seed = 1;
    int n = 0, l, k;
    FILE *f;
    strcpy(names[n], "model.embed_tokens.weight"), n = add(list, n, names[n], VOCAB, HIDDEN);
    strcpy(names[n], "lm_head.weight"), n = add(list, n, names[n], VOCAB, HIDDEN);
    strcpy(names[n], "model.norm.weight"), n = add(list, n, names[n], 0, HIDDEN);
    for (l = 0; l < layers; l++) {
        for (k = 0; k < 7; k++) {
            snprintf(names[n], 64, "model.layers.%d.%s.weight", l, linears[k].name);
            n = add(list, n, names[n], linears[k].out, linears[k].in);
        }
        snprintf(names[n], 64, "model.layers.%d.input_layernorm.weight", l), n = add(list, n, names[n], 0, HIDDEN);
        snprintf(names[n], 64, "model.layers.%d.post_attention_layernorm.weight", l);
        n = add(list, n, names[n], 0, HIDDEN);
    }
    if (awq_writer_open(ctx, folder, list, n, (uint64_t)1 << 30, 0, &w)) return stop(ctx, folder);
    for (k = 0; k < n; k++) {
        int64_t in = list[k].shape[list[k].ndim - 1], rows = list[k].ndim == 2 ? list[k].shape[0] : 1, r, i, m;
        float scale = list[k].ndim == 2 ? 3.4f / sqrtf((float)in) : 0;
        for (r = 0; r < rows; r += m) {
            m = AWQ__MIN(64, rows - r);
            for (i = 0; i < m * in; i++) row[i] = awq__float_f16(scale > 0 ? scale * (awq__random_unit(&seed) - 0.5f) : 1);
            if (awq_writer_write(ctx, w, k, (uint64_t)(r * in * 2), row, (size_t)(m * in * 2))) return stop(ctx, folder);
        }
    }
    if (awq_writer_finish(ctx, w)) return stop(ctx, folder);
    snprintf(config, sizeof config, "{\"model_type\": \"llama\", \"hidden_size\": %d, \"intermediate_size\": %d, "
             "\"vocab_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": 32, \"num_key_value_heads\": 32, "
             "\"max_position_embeddings\": 4096, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"hidden_act\": "
             "\"silu\", \"tie_word_embeddings\": false, \"torch_dtype\": \"float16\"}", HIDDEN, INTER, VOCAB, layers);
    snprintf(path, sizeof path, "%s/config.json", folder);
    f = fopen(path, "w");
    if (!f || fputs(config, f) < 0 || fclose(f)) return 1;
    free(list);
    free(row);
    return 0;
}

static double megabytes(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss * 1024 / 1e6;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"best", "awq"};
    int layers = argc > 2 ? atoi(argv[2]) : 4, blocks = argc > 3 ? atoi(argv[3]) : 2;
    int64_t samples = argc > 4 ? atoi(argv[4]) : 16, b;
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_calibration cal, usual;
    awq_quantize_desc d;
    awq_quantize_result r;
    uint64_t seed = 5;
    char target[600];
    int k;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    if (argc < 2 || layers < 1 || layers > 64 || blocks < 1 || samples < 1)
        return fprintf(stderr, "large_model FOLDER [layers] [blocks] [samples]\n"), 2;
    if (awq_pool_create(&ctx, 0, &pool)) return stop(&ctx, "threads");
    ctx.jobs = awq_pool_jobs(pool);
    if (mkdir(argv[1], 0777) || make(&ctx, argv[1], layers)) return fprintf(stderr, "cannot make %s\n", argv[1]), 1;
    cal.n_blocks = AWQ__MAX(samples, 128);
    cal.ids = (int32_t *)malloc((size_t)(cal.n_blocks * SEQ) * sizeof *cal.ids);
    cal.start = (int64_t *)malloc((size_t)(cal.n_blocks + 1) * sizeof *cal.start);
    cal.counted = NULL;
    for (b = 0; b <= cal.n_blocks; b++) cal.start[b] = b * SEQ;
    for (b = 0; b < cal.n_blocks * SEQ; b++) cal.ids[b] = (int32_t)(awq__random(&seed) % VOCAB);
    snprintf(target, sizeof target, "%s-4bit", argv[1]);
    d.source = argv[1];
    d.target = target;
    d.max_layers = blocks;
    for (k = 0; k < 2; k++) {
        size_t bytes;
        d.method = k ? AWQ_METHOD_AWQ : AWQ_METHOD_BEST;
        usual = cal;
        usual.n_blocks = 128;
        d.calibration = &usual;
        if (awq_quantize_memory(&ctx, &d, &bytes)) return stop(&ctx, "memory");
        printf("%s: %.2f GB stated for 128 samples of %d tokens\n", names[k], (double)bytes / 1e9, SEQ);
        cal.n_blocks = samples;
        d.calibration = &cal;
        fflush(stdout);
        if (awq_quantize_model(&ctx, &d, &r)) return stop(&ctx, "quantize");
        printf("%s: %.2f GB stated for %d samples, %.2f GB taken at the peak, %.2f GB by the process so far; %.1f s for %d "
               "blocks\n", names[k], (double)r.estimated_bytes / 1e9, (int)samples, (double)r.peak_bytes / 1e9,
               megabytes() / 1e3, r.seconds, blocks);
        cal.n_blocks = 128;
    }
    free(cal.ids);
    free(cal.start);
    awq_pool_free(&ctx, pool);
    return 0;
}
