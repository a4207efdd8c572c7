/* Speed of linears on one thread, 4-bit groups of 64 and dense, in every mode:
       cc -O2 tests/bench/bench_matmul.c -o bench_matmul -lm -lpthread && ./bench_matmul [threads] [fast|deterministic|exact]
   GFLOP/s count 2 x out x in x m; GB/s count the weights as stored, once per call. Best of several runs. */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"

static double best_seconds(awq_ctx *ctx, const awq_linear *l, const float *x, int64_t m, float *y)
{
    double best = 1e9, total = 0;
    int runs;
    for (runs = 0; runs < 3 || (total < 0.3 && runs < 1000); runs++) {
        double t = awq__now();
        awq_linear_run(ctx, l, x, m, y);
        t = awq__now() - t;
        total += t;
        if (t < best) best = t;
    }
    return best;
}

int main(int argc, char **argv)
{
    static const int shapes[][2] = {{4096, 4096}, {576, 1536}, {1536, 576}}, tokens[] = {1, 2, 4, 8, 16, 128};
    static const awq_dtype kinds[] = {AWQ_DTYPE_NONE, AWQ_F16, AWQ_BF16, AWQ_F32};
    int s, t, d, isa, mode, threads = argc > 1 ? atoi(argv[1]) : 1;
    awq_ctx ctx;
    awq_pool *pool = NULL;
    memset(&ctx, 0, sizeof ctx);
    if (threads > 1 && !awq_pool_create(&ctx, threads, &pool)) ctx.jobs = awq_pool_jobs(pool);
    for (mode = AWQ_MODE_FAST; argc > 2 && mode < AWQ_MODE_EXACT && strcmp(argv[2], awq_mode_name((awq_mode)mode)); mode++) {}
    printf("%s, %d thread(s)\n%-12s %-6s %-11s %4s %12s %9s %7s\n", awq_mode_name((awq_mode)mode), threads, "out x in", "type", "isa", "m",
           "microseconds", "GFLOP/s", "GB/s");
    for (s = 0; s < 3; s++)
        for (d = 0; d < 4; d++) {
            int64_t n = shapes[s][0], k = shapes[s][1], i;
            float *w = (float *)malloc((size_t)(n * k) * 4), *x = (float *)malloc((size_t)(128 * k) * 4);
            float *y = (float *)malloc((size_t)(128 * n) * 4);
            uint64_t seed = 1;
            awq_qweight q;
            awq_linear l;
            size_t bytes;
            for (i = 0; i < n * k; i++) w[i] = awq__h(awq__random_unit(&seed) - 0.5f);
            for (i = 0; i < 128 * k; i++) x[i] = awq__random_unit(&seed) - 0.5f;
            memset(&q, 0, sizeof q);
            if (kinds[d] == AWQ_DTYPE_NONE) {
                if (awq_qweight_alloc(&ctx, n, k, 4, 64, 0, &q) || awq_quantize(&ctx, w, &q)
                    || awq_linear_prepare(&ctx, &q, (awq_mode)mode, 0, NULL, &l)) return 1;
                bytes = awq_linear_bytes(&l);
            } else {
                void *stored = malloc((size_t)(n * k) * 4);
                awq_from_float(&ctx, kinds[d], w, n * k, stored);
                free(w);
                w = (float *)stored;
                if (awq_linear_dense(&ctx, kinds[d], w, n, k, NULL, &l)) return 1;
                l.mode = (awq_mode)mode;
                bytes = (size_t)(n * k) * awq_dtype_size(kinds[d]);
            }
            for (isa = AWQ_ISA_SCALAR; isa <= (int)awq_best_isa(); isa++) {
                ctx.isa = (awq_isa)isa;
                for (t = 0; t < 6 && awq__isa(&ctx) == ctx.isa; t++) {
                    double sec;
                    sec = best_seconds(&ctx, &l, x, tokens[t], y);
                    printf("%4d x %-5d %-6s %-11s %4d %12.1f %9.1f %7.2f\n", (int)n, (int)k,
                           d ? awq_dtype_name(kinds[d]) : "4 bits", awq_isa_name((awq_isa)isa), tokens[t],
                           sec * 1e6, 2e-9 * (double)(n * k) * tokens[t] / sec, 1e-9 * (double)bytes / sec);
                }
            }
            awq_linear_free(&ctx, &l);
            awq_qweight_free(&ctx, &q);
            free(w);
            free(x);
            free(y);
        }
    memset(&ctx.jobs, 0, sizeof ctx.jobs);
    awq_pool_free(&ctx, pool);
    return 0;
}
