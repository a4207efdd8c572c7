/* Single linear layers as whole models have them: 4 bits, asymmetric, groups of 128; 220 MB of different ones in turn, so
   that none of them is in a cache. For each number of rows the median time of a layer, the share of the limit (what it
   must read over the bandwidth of the same run), and operations per second.
       bench_layers [threads 1] [fast|deterministic|exact] [seconds for each 1] */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#include "limits.h"

enum { MOST_LAYERS = 32, MOST_RUNS = 400, MOST_ROWS = 512 };

static void fail(awq_ctx *ctx)
{
    printf("%s\n", ctx->err.text);
    exit(1);
}

int main(int argc, char **argv)
{
    static const int shapes[][2] = {{11008, 4096}, {4096, 4096}}, rows[] = {1, 2, 4, 8, 16, 32, 128, MOST_ROWS};
    int threads = argc > 1 ? atoi(argv[1]) : 1, mode = AWQ_MODE_FAST, s, r, k;
    double seconds = argc > 3 ? atof(argv[3]) : 1, bandwidth;
    awq_ctx ctx;
    awq_pool *pool = NULL;
    memset(&ctx, 0, sizeof ctx);
    while (argc > 2 && mode < AWQ_MODE_EXACT && strcmp(argv[2], awq_mode_name((awq_mode)mode))) mode++;
    if (awq_pool_create(&ctx, threads, &pool)) fail(&ctx);
    ctx.jobs = awq_pool_jobs(pool);
    bandwidth = limits_bandwidth(&ctx, 7);
    printf("awq.h %s, %s, threads %d, reads %.1f GB/s\n", awq_isa_name(awq_best_isa()), awq_mode_name((awq_mode)mode), threads,
           bandwidth);
    for (s = 0; s < 2; s++) {
        int64_t out = shapes[s][0], in = shapes[s][1], i;
        int layers = (int)AWQ__MIN((int64_t)MOST_LAYERS, (int64_t)(220e6 / ((double)(out * in) / 2)) + 1);
        awq_linear l[MOST_LAYERS];
        float *x = (float *)malloc(sizeof *x * (size_t)(MOST_ROWS * in));
        float *y = (float *)malloc(sizeof *y * (size_t)(MOST_ROWS * out));
        double bytes = (double)(out * in) / 2 * (1 + 2.5 / 64); /* codes, an fp16 scale and a 4-bit zero for each group */
        uint64_t seed = 1;
        for (k = 0; k < layers; k++) {
            awq_qweight q;
            if (awq_qweight_alloc(&ctx, out, in, 4, 128, 0, &q)) fail(&ctx);
            for (i = 0; i < out * in; i++) q.codes[i] = (uint8_t)(awq__random(&seed) >> 60);
            for (i = 0; i < out * in / 128; i++) {
                q.zeros[i] = (uint8_t)(awq__random(&seed) >> 60);
                q.scales[i] = awq__h(0.01f + 0.01f * awq__random_unit(&seed));
            }
            if (awq_linear_prepare(&ctx, &q, (awq_mode)mode, 0, NULL, &l[k])) fail(&ctx);
            awq_qweight_free(&ctx, &q);
        }
        for (i = 0; i < MOST_ROWS * in; i++) x[i] = awq__random_unit(&seed) - 0.5f;
        for (r = 0; r < (int)(sizeof rows / sizeof rows[0]); r++) {
            double v[MOST_RUNS], end = awq__now() + seconds, t;
            int n = 0;
            for (k = 0; k < layers; k++) awq_linear_run(&ctx, &l[k], x, rows[r], y);
            while (n < 3 || (awq__now() < end && n < MOST_RUNS)) {
                t = awq__now();
                for (k = 0; k < layers; k++)
                    if (awq_linear_run(&ctx, &l[k], x, rows[r], y)) fail(&ctx);
                v[n++] = (awq__now() - t) / layers;
            }
            t = limits_median(v, n);
            printf("awq.h K=%d N=%d t=%d M=%d: %.0f us, %.1f %% of the limit, %.0f GOPS\n", (int)in, (int)out, threads,
                   rows[r], t * 1e6, 100 * bytes / (t * bandwidth * 1e9), 2e-9 * rows[r] * (double)(out * in) / t);
            fflush(stdout);
        }
        for (k = 0; k < layers; k++) awq_linear_free(&ctx, &l[k]);
        free(x);
        free(y);
    }
    memset(&ctx.jobs, 0, sizeof ctx.jobs);
    awq_pool_free(&ctx, pool);
    return 0;
}
