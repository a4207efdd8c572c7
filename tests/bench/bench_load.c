/* How long a model takes until it is ready, and the memory that it then has:
       cc -O2 -o bench_load tests/bench/bench_load.c -lm -lpthread && ./bench_load FOLDER [layers 8] [threads 0]
           [TOKENIZER]
   FOLDER/gemm, a checkpoint in the shape of a 8B model with random weights (0.12 GB a layer and 0.5 GB for
   embeddings and head), and FOLDER/native, the same in that layout, are made if they are not there, and left.
   Read once: both files by pieces of 8 MB. Not cached: after POSIX_FADV_DONTNEED, which a file system may not
   heed. Each load has a process of its own; cpu: of all threads. RSS: VmRSS; dirty: pages that only this process
   has, of a mapped file none. One token is enough to touch every weight. TOKENIZER: a tokenizer.json. */
#define _GNU_SOURCE
#define AWQ_IMPLEMENTATION
#include "../../awq.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { HIDDEN = 4096, INTER = 14336, KV = 1024, VOCAB = 32000, GROUP = 128, CONTEXT = 512 };

static const struct {
    const char *name;
    int64_t out, in;
} linears[] = {{"self_attn.q_proj", HIDDEN, HIDDEN}, {"self_attn.k_proj", KV, HIDDEN},
               {"self_attn.v_proj", KV, HIDDEN},     {"self_attn.o_proj", HIDDEN, HIDDEN},
               {"mlp.gate_proj", INTER, HIDDEN},     {"mlp.up_proj", INTER, HIDDEN},
               {"mlp.down_proj", HIDDEN, INTER}};

static int stop(const awq_ctx *ctx, const char *what)
{
    fprintf(stderr, "%s: %s\n", what, ctx->err.text);
    return 1;
}

static int add(awq_tensor *list, int n, const char *name, awq_dtype dtype, int64_t rows, int64_t columns)
{
    memset(&list[n], 0, sizeof list[n]);
    list[n].name = strdup(name);
    list[n].dtype = dtype;
    list[n].ndim = rows ? 2 : 1;
    list[n].shape[0] = rows ? rows : columns;
    list[n].shape[1] = columns;
    return n + 1;
}

static int make(awq_ctx *ctx, const char *folder, int layers)
{
    awq_tensor *list = (awq_tensor *)calloc((size_t)layers * 23 + 3, sizeof *list);
    size_t bytes = (size_t)1 << 20, i, at;
    uint16_t *data = (uint16_t *)malloc(bytes);
    char name[256], config[1024], path[1100];
    awq_writer *w = NULL;
    uint64_t seed = 1;
    int n = 0, l, k;
    FILE *f;
    n = add(list, n, "model.embed_tokens.weight", AWQ_F16, VOCAB, HIDDEN);
    n = add(list, n, "lm_head.weight", AWQ_F16, VOCAB, HIDDEN);
    n = add(list, n, "model.norm.weight", AWQ_F16, 0, HIDDEN);
    for (l = 0; l < layers; l++) {
        for (k = 0; k < 7; k++) {
            int64_t out = linears[k].out, in = linears[k].in;
            snprintf(name, sizeof name, "model.layers.%d.%s.qweight", l, linears[k].name);
            n = add(list, n, name, AWQ_I32, in, out / 8);
            snprintf(name, sizeof name, "model.layers.%d.%s.qzeros", l, linears[k].name);
            n = add(list, n, name, AWQ_I32, in / GROUP, out / 8);
            snprintf(name, sizeof name, "model.layers.%d.%s.scales", l, linears[k].name);
            n = add(list, n, name, AWQ_F16, in / GROUP, out);
        }
        snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", l);
        n = add(list, n, name, AWQ_F16, 0, HIDDEN);
        snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm.weight", l);
        n = add(list, n, name, AWQ_F16, 0, HIDDEN);
    }
    if (awq_writer_open(ctx, folder, list, n, 0, 0, &w)) return stop(ctx, folder);
    for (k = 0; k < n; k++) {
        int64_t rows = list[k].ndim == 2 ? list[k].shape[0] : 1, in = list[k].shape[list[k].ndim - 1];
        size_t all = (size_t)(rows * in) * awq_dtype_size(list[k].dtype), part;
        int scales = strstr(list[k].name, ".scales") != NULL, norm = list[k].ndim == 1;
        for (i = 0; i < bytes / 2; i++) {
            float x = awq__random_unit(&seed);
            data[i] = list[k].dtype == AWQ_I32 ? (uint16_t)awq__random(&seed)
                                               : awq__float_f16(norm ? 1 : scales ? 0.002f + 0.004f * x : x - 0.5f);
        }
        for (at = 0; at < all; at += part) { /* the same megabyte again and again is random enough */
            part = AWQ__MIN(bytes, all - at);
            if (awq_writer_write(ctx, w, k, at, data, part)) return stop(ctx, folder);
        }
    }
    if (awq_writer_finish(ctx, w)) return stop(ctx, folder);
    snprintf(config, sizeof config, "{\"model_type\": \"llama\", \"hidden_size\": %d, \"intermediate_size\": %d, "
             "\"vocab_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": 32, \"num_key_value_heads\": 8, "
             "\"max_position_embeddings\": 4096, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"hidden_act\": "
             "\"silu\", \"tie_word_embeddings\": false, \"torch_dtype\": \"float16\", \"quantization_config\": "
             "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": %d, \"zero_point\": true, \"version\": \"gemm\"}}",
             HIDDEN, INTER, VOCAB, layers, GROUP);
    snprintf(path, sizeof path, "%s/config.json", folder);
    f = fopen(path, "w");
    if (!f || fputs(config, f) < 0 || fclose(f)) return 1;
    free(list);
    free(data);
    return 0;
}

static double cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double kilobytes(const char *file, const char *key)
{
    char line[256];
    double v = 0;
    FILE *f = fopen(file, "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) v = atof(line + strlen(key));
    if (f) fclose(f);
    return v;
}

static void show_memory(const char *when, double weights, double kv)
{
    double rss = kilobytes("/proc/self/status", "VmRSS:") * 1024 / 1e6;
    double dirty = kilobytes("/proc/self/smaps_rollup", "Private_Dirty:") * 1024 / 1e6;
    printf("    %s: RSS %.0f MB, dirty %.0f MB; weights %.0f MB, KV %.0f MB: RSS is %+.1f %% and %+.0f MB off\n", when,
           rss, dirty, weights, kv, 100 * (rss / (weights + kv) - 1), rss - weights - kv);
}

/* the model's files, all of them: pages that are cached are dropped, or all are read, to one place of 8 MB or to
   fresh memory */
enum { DROP, READ, KEEP };
static double visit(const char *folder, int how)
{
    static char buffer[8 << 20];
    awq_ctx ctx;
    char *kept, *to;
    const char *const names[] = {"model.safetensors", "model-00001-of-00002.safetensors",
                                 "model-00002-of-00002.safetensors"};
    double began = awq__now();
    char path[1024];
    size_t i;
    for (i = 0; i < 3; i++) {
        struct stat st;
        ssize_t n = 1;
        int fd;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        fd = open(path, O_RDONLY);
        if (fd < 0 || fstat(fd, &st)) continue;
        memset(&ctx, 0, sizeof ctx);
        kept = how == KEEP ? AWQ__NEW_RAW(&ctx, char, st.st_size + 1) : NULL; /* huge pages, as a model has */
        if (how == DROP) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        else for (to = kept; n > 0; to += how == KEEP ? n : 0) n = read(fd, kept ? to : buffer, sizeof buffer);
        close(fd);
        awq__free(&ctx, kept);
    }
    return awq__now() - began;
}

static int load(const char *folder, awq_mode mode, int threads, int run)
{
    awq_model_desc d;
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_model *m = NULL;
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_runner *r = NULL;
    awq_session *s = NULL;
    double began, used, kv = 0, t = 0;
    int32_t ids[16];
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    d.mode = mode;
    rd.max_rows = 16;
    sd.max_tokens = CONTEXT;
    if (awq_pool_create(&ctx, threads, &pool)) return stop(&ctx, "threads");
    ctx.jobs = awq_pool_jobs(pool);
    used = cpu(), began = awq__now();
    if (awq_model_load(&ctx, folder, &d, &m)) return stop(&ctx, folder);
    printf("  load %s, %s: %.0f ms, cpu %.0f ms\n", folder, awq_mode_name(mode), 1e3 * (awq__now() - began),
           1e3 * (cpu() - used));
    if (run) {
        const awq_config *c = awq_model_config(m);
        double weights = (double)awq_model_bytes(m) / 1e6;
        show_memory("loaded", weights, 0);
        if (awq_runner_create(&ctx, m, &rd, &r) || awq_session_create(&ctx, r, &sd, &s)) return stop(&ctx, "session");
        for (i = 0; i < 16; i++) ids[i] = i * 7;
        for (i = 0; i < 8; i++) {
            t = awq__now();
            if (awq_session_feed(&ctx, s, ids + i, 1, NULL, NULL)) return stop(&ctx, "feed");
            if (i == 0) printf("    first token %.0f ms", 1e3 * (awq__now() - t));
        }
        kv = (double)c->num_hidden_layers * CONTEXT * 2 * KV * 4 / 1e6;
        printf(", later ones %.0f ms\n", 1e3 * (awq__now() - t));
        show_memory("running", weights, kv);
    }
    return 0;
}

/* in a process of its own */
static int apart(const char *folder, awq_mode mode, int threads, int run)
{
    int status = 0;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (!child) {
        status = load(folder, mode, threads, run);
        fflush(stdout);
        _exit(status);
    }
    return waitpid(child, &status, 0) < 0 || status;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"gemm", "native"};
    int layers = argc > 2 ? atoi(argv[2]) : 8, threads = argc > 3 ? atoi(argv[3]) : 0, k, mode;
    char path[1024], other[1024], file[1200];
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    if (argc < 2 || layers < 1 || layers > 64)
        return fprintf(stderr, "bench_load FOLDER [layers] [threads] [TOKENIZER]\n"), 2;
    mkdir(argv[1], 0777);
    snprintf(path, sizeof path, "%s/gemm", argv[1]);
    snprintf(other, sizeof other, "%s/native", argv[1]);
    snprintf(file, sizeof file, "%s/config.json", path);
    if (access(file, R_OK) && make(&ctx, path, layers)) return 1;
    snprintf(file, sizeof file, "%s/config.json", other);
    if (access(file, R_OK)) {
        awq_convert_desc d;
        memset(&d, 0, sizeof d);
        d.source = path;
        d.target = other;
        d.layout = AWQ_LAYOUT_NATIVE;
        if (awq_convert(&ctx, &d)) return stop(&ctx, "convert");
    }
    for (k = 0; k < 2; k++) {
        const char *folder = k ? other : path;
        double cold, warm;
        visit(folder, DROP);
        cold = visit(folder, READ);
        warm = visit(folder, READ);
        printf("%s: read once in %.0f ms not cached, %.0f ms cached, %.0f ms cached to fresh memory\n", names[k],
               1e3 * cold, 1e3 * warm, 1e3 * visit(folder, KEEP));
        visit(folder, DROP);
        printf("not cached:");
        if (apart(folder, AWQ_MODE_FAST, threads, 0)) return 1;
        visit(folder, READ);
        printf("cached:");
        for (mode = 0; mode < 3; mode += 2)
            if (apart(folder, (awq_mode)mode, threads, mode == AWQ_MODE_FAST)) return 1;
    }
    if (argc > 4) {
        awq_tokenizer *t = NULL;
        double used = cpu(), began = awq__now();
        if (awq_tokenizer_load(&ctx, argv[4], &t)) return stop(&ctx, argv[4]);
        printf("tokenizer of %lld: %.0f ms, cpu %.0f ms\n", (long long)awq_tokenizer_vocab_size(t),
               1e3 * (awq__now() - began), 1e3 * (cpu() - used));
        awq_tokenizer_free(&ctx, t);
    }
    return 0;
}
