/* Tokens per second of whole models: a prompt of 512, one token after another, and 2 to 16 rows at once (several
   characters talking), beside what the machine can read: the share of the limit counts 4-bit codes, an fp16 scale and a
   4-bit zero for every group, the head as configured and the keys and values read, over the wall time of a token.
       bench_model [tinyllama|llama1b|llama3b] [threads 1] [mode fast] [head_bits 0]       medians of 5 */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#include "../synthetic.h"
#include "limits.h"

enum { PROMPT = 512, DECODE = 24, REPEAT = 5 };

static void fail(awq_ctx *ctx)
{
    printf("%s\n", ctx->err.text);
    exit(1);
}

int main(int argc, char **argv)
{
    const synthetic_shape *shape = argc > 1 && !strcmp(argv[1], "llama1b") ? &synthetic_llama3_1b
                                   : argc > 1 && !strcmp(argv[1], "llama3b") ? &synthetic_llama3_3b : &synthetic_tinyllama;
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    const char *mode = argc > 3 ? argv[3] : "fast";
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_model *m = NULL;
    awq_model_desc md;
    awq_runner *r = NULL;
    awq_runner_desc rd;
    awq_session *s = NULL;
    awq_session_desc sd;
    synthetic syn;
    int32_t ids[PROMPT];
    static const int batch[] = {1, 2, 4, 8, 16, 32, 64};
    double v[REPEAT], bw, one = 0, bytes, w;
    float *logits;
    int i, k, b;
    memset(&ctx, 0, sizeof ctx);
    memset(&md, 0, sizeof md);
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    md.mode = !strcmp(mode, "exact") ? AWQ_MODE_EXACT : !strcmp(mode, "deterministic") ? AWQ_MODE_DETERMINISTIC : AWQ_MODE_FAST;
    md.head_bits = argc > 4 ? atoi(argv[4]) : 0;
    if (awq_pool_create(&ctx, threads, &pool)) fail(&ctx);
    ctx.jobs = awq_pool_jobs(pool);
    synthetic_make(&syn, shape);
    ctx.files = synthetic_files(&syn);
    if (awq_model_load(&ctx, "m", &md, &m)) fail(&ctx);
    sd.max_tokens = PROMPT + 256;
    rd.max_rows = PROMPT;
    if (awq_runner_create(&ctx, m, &rd, &r) || awq_session_create(&ctx, r, &sd, &s)) fail(&ctx);
    logits = (float *)malloc((size_t)shape->vocab * sizeof *logits);
    for (i = 0; i < PROMPT; i++) ids[i] = (int32_t)((i * 7919 + 13) % shape->vocab);
    bw = limits_bandwidth(&ctx, 7);
    w = (double)shape->layers * ((double)shape->hidden * (double)(shape->hidden + (double)shape->heads * (double)shape->head_dim
        - (double)shape->hidden + (double)shape->heads * (double)shape->head_dim
        + 2.0 * (double)shape->kv_heads * (double)shape->head_dim) + 3.0 * (double)shape->hidden * (double)shape->inter);
    bytes = w / 2 + w / (double)shape->group * 2.5
            + (double)shape->vocab * (double)shape->hidden * (md.head_bits ? 1 + 3.0 / 128 : 2);
    printf("%s, %s, %d threads, %s, head %d bits; reads %.1f GB/s; limit %.2f tokens/s\n", shape->name,
           awq_isa_name(awq_best_isa()), threads, awq_mode_name(md.mode), md.head_bits ? 8 : 16, bw, bw * 1e9 / bytes);
    for (i = 0; i < REPEAT; i++) {
        double t0;
        if (awq_session_rewind(&ctx, s, 0)) fail(&ctx);
        t0 = awq__now();
        if (awq_session_feed(&ctx, s, ids, PROMPT, NULL, logits)) fail(&ctx);
        v[i] = PROMPT / (awq__now() - t0);
    }
    printf("prompt of %d: %.1f tokens/s\n", PROMPT, limits_median(v, REPEAT));
    for (b = 0; b < (int)(sizeof batch / sizeof batch[0]); b++) {
        for (i = 0; i < REPEAT; i++) {
            double t0;
            int n = b ? 3 : DECODE;
            awq_feed_desc fd;
            memset(&fd, 0, sizeof fd);
            if (awq_session_rewind(&ctx, s, 40)) fail(&ctx);
            t0 = awq__now();
            for (k = 0; k < n; k++)
                if (awq_session_feed(&ctx, s, ids + k, batch[b], &fd, logits)) fail(&ctx);
            v[i] = (awq__now() - t0) / n;
        }
        w = limits_median(v, REPEAT);
        if (!b) one = w;
        if (!b) printf("1 token: %.2f ms, %.2f tokens/s, %.1f %% of the limit\n", w * 1e3, 1 / w, 100 * bytes / w / (bw * 1e9));
        else printf("%d rows: %.2f ms, %.2f x of one\n", batch[b], w * 1e3, w / one);
    }
    free(logits);
    awq_session_free(&ctx, s);
    awq_runner_free(&ctx, r);
    awq_model_free(&ctx, m);
    synthetic_free(&syn);
    awq_pool_free(&ctx, pool);
    return 0;
}
