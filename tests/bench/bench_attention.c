/* Attention alone, CPU time of one thread: a prompt of 512 and one token after a context, for a layer times the
   number of layers. Columns: fp32 a query at a time (exact mode), fp16 and int8 by fused multiply-adds, and on AMX.
       bench_attention [heads 32] [kv_heads 4] [head_dim 64] [layers 22]       best of 5 */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#include <time.h>

enum { PROMPT = 512, REPEAT = 5, MOST = 8192 };

typedef struct bench {
    awq_ctx ctx;
    awq_config c;
    awq__layer layer;
    awq__work w;
    awq__kv kv;
} bench;

static double cpu_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* n rows after `at` tokens: seconds of their attention, and of placing keys and values before it */
static double run(bench *b, int64_t at, int64_t n, double *place)
{
    double best = 1e9, t0, t1;
    int i;
    *place = 1e9;
    for (i = 0; i < REPEAT; i++) {
        awq__rows_of(&b->c, &b->w, &b->kv, at, n);
        t0 = cpu_time();
        if (awq__steps(&b->ctx, &b->c, &b->layer, 0, &b->w, n, AWQ__PLACE, AWQ__PLACE, NULL, NULL)) exit(1);
        t1 = cpu_time();
        if (awq__steps(&b->ctx, &b->c, &b->layer, 0, &b->w, n, AWQ__ATTEND, AWQ__ATTEND, NULL, NULL)) exit(1);
        *place = AWQ__MIN(*place, t1 - t0);
        t1 = cpu_time() - t1;
        best = AWQ__MIN(best, t1);
    }
    return best;
}

int main(int argc, char **argv)
{
    static const int bits[] = {32, 16, 8, 16, 8};
    static const int64_t contexts[] = {0, 100, 1000, 4000, 8000};
    int heads = argc > 1 ? atoi(argv[1]) : 32, kv_heads = argc > 2 ? atoi(argv[2]) : 4;
    int dim = argc > 3 ? atoi(argv[3]) : 64, layers = argc > 4 ? atoi(argv[4]) : 22, k, i, r;
    printf("%s, %d heads of %d, %d kv heads, %d layers\n%-24s%14s%14s%14s%14s%14s\n", awq_isa_name(awq_best_isa()), heads, dim,
           kv_heads, layers, "milliseconds", "fp32", "fp16", "int8", "fp16 fast", "int8 fast");
    for (r = 0; r < 2 * 5; r++) {
        int64_t at = contexts[r / 2], n = at ? 1 : PROMPT;
        if (r % 2 == 0) printf(at ? "1 token after %-10d" : "prompt of %-14d", at ? (int)at : PROMPT);
        else printf("   placing %-13s", "");
        for (k = 0; k < 5; k++) {
            static double place[5];
            bench *b = (bench *)calloc(1, sizeof *b);
            uint64_t seed = 1;
            double t;
            if (r % 2) {
                printf("%14.3f", 1e3 * layers * place[k]);
                free(b);
                continue;
            }
            b->c.num_hidden_layers = 1;
            b->c.hidden_size = heads * dim;
            b->c.num_attention_heads = heads;
            b->c.num_key_value_heads = kv_heads;
            b->c.head_dim = b->c.v_head_dim = dim;
            b->c.intermediate_size = 4 * heads * dim;
            b->c.attention_scale = 1 / sqrt(dim);
            if (awq__work_alloc(&b->ctx, &b->c, PROMPT, &b->w) || awq__kv_alloc(&b->ctx, &b->c, bits[k], 1, MOST, &b->kv)) return 1;
            b->w.cache = awq__cache_for(&b->c, bits[k]);
            b->w.fast = k > 2;
            for (i = 0; i < PROMPT * heads * dim; i++) b->w.q[i] = awq__random_unit(&seed) - 0.5f;
            for (i = 0; i < PROMPT * kv_heads * dim; i++) {
                b->w.k[i] = awq__random_unit(&seed) - 0.5f;
                b->w.v[i] = awq__random_unit(&seed) - 0.5f;
            }
            for (i = 0; i < at; i += PROMPT) {
                awq__rows_of(&b->c, &b->w, &b->kv, i, PROMPT);
                if (awq__steps(&b->ctx, &b->c, &b->layer, 0, &b->w, PROMPT, AWQ__PLACE, AWQ__PLACE, NULL, NULL)) return 1;
            }
            t = run(b, at, n, &place[k]);
            printf("%14.3f", 1e3 * layers * t);
            fflush(stdout);
            awq__kv_free(&b->ctx, &b->kv);
            awq__work_free(&b->ctx, &b->w);
            free(b);
        }
        puts("");
    }
    return 0;
}
