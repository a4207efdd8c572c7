/* How well awq_step keeps to its budget: 4 sessions, each with a prompt of 512 tokens and an answer, advanced by steps of
   2 ms (an argument: other microseconds) until all are done. Goal: 99 % of the steps within 1.2 times the budget, the
   worst within 1.5 times, on a quiet machine. The first line is what the machine itself does to steps that only look at
   the clock, on as many threads. Of the steps over 1.5 times the budget it is counted in how many the system took a thread
   off its core: a switch nobody asked for, or less than 9 tenths of the threads' time. Also what the cutting costs: the same
   work without a budget.
   Models: tools/demo/model; SmolLM2 where AWQ_SMOLLM2 names its folder (4 bits, group 64, rounded to nearest); the
   TinyLlama shape with random weights. */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#include "../synthetic.h"

#ifndef _WIN32
#include <sys/resource.h>
#endif

#define SESSIONS 4
#define PROMPT 512
#define ANSWER 64

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void fail(awq_ctx *ctx)
{
    printf("%s\n", ctx->err.text);
    exit(1);
}

/* processor time in us and involuntary switches of this process so far */
static void usage(double *us, long *switches)
{
#ifdef _WIN32
    *us = 0, *switches = 0;
#else
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    *us = 1e6 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    *switches = u.ru_nivcsw;
#endif
}

static long n_long, n_interrupted; /* steps over 1.5 times the budget; of those */

static void account(double us, int64_t budget, int64_t threads, double cpu, long switches)
{
    double cpu_now;
    long switches_now;
    usage(&cpu_now, &switches_now);
    if (us <= 1.5 * (double)budget) return;
    n_long++;
    n_interrupted += switches_now > switches || cpu_now - cpu < 0.9 * (double)threads * us;
}

/* all sessions from an empty start to the end of their answers; durations of the steps in us */
static int64_t serve(awq_ctx *ctx, const awq_model *m, int64_t budget, int prompt, double *us, int64_t cap, double *seconds)
{
    awq_runner *r = NULL;
    awq_session *s[SESSIONS];
    awq_session_desc sd;
    awq_step_info info;
    int32_t ids[PROMPT];
    int64_t n = 0;
    int i, k;
    double t0;
    memset(&sd, 0, sizeof sd);
    sd.max_tokens = prompt + ANSWER;
    if (awq_runner_create(ctx, m, NULL, &r)) fail(ctx);
    for (i = 0; i < SESSIONS; i++) {
        awq_generate_desc d;
        memset(&d, 0, sizeof d);
        for (k = 0; k < prompt; k++) ids[k] = (int32_t)(3 + ((k + 1) * 7919 + i * 104729) % (awq_model_config(m)->vocab_size - 3));
        d.ids = ids;
        d.n_ids = prompt;
        d.max_tokens = ANSWER;
        d.ignore_eos = 1;
        if (awq_session_create(ctx, r, &sd, &s[i]) || awq_ask(ctx, s[i], &d)) fail(ctx);
    }
    t0 = awq__now();
    do {
        double a, cpu;
        long switches;
        usage(&cpu, &switches);
        a = awq__now();
        if (awq_step(ctx, r, NULL, 0, budget, &info)) fail(ctx);
        a = (awq__now() - a) * 1e6;
        if (us && n < cap) us[n] = a;
        if (us) account(a, budget, ctx->jobs.threads, cpu, switches);
        n++;
    } while (info.busy);
    *seconds = awq__now() - t0;
    for (i = 0; i < SESSIONS; i++) awq_session_free(ctx, s[i]);
    awq_runner_free(ctx, r);
    return n;
}

static void report(const char *name, double *us, int64_t n, int64_t budget)
{
    double over = 0;
    int64_t i;
    for (i = 0; i < n; i++) over += us[i] > 1.2 * (double)budget;
    qsort(us, (size_t)n, sizeof *us, by_double);
    printf("%-16s %7lld steps of %lld us: median %6.0f  99%% %6.0f (%.2fx)  99.9%% %6.0f  worst %6.0f (%.2fx)  over 1.2x: %.3f %%",
           name, (long long)n, (long long)budget, us[n / 2], us[n * 99 / 100], us[n * 99 / 100] / (double)budget,
           us[n * 999 / 1000], us[n - 1], us[n - 1] / (double)budget, 100 * over / (double)n);
}

static void watch_clock(void *arg, int64_t i)
{
    double end = awq__now() + 50e-6;
    (void)arg, (void)i;
    while (awq__now() < end) {}
}

static void idle_steps(awq_ctx *ctx, int64_t budget)
{
    enum { N = 3000 };
    double us[N];
    int i;
    for (i = 0; i < N; i++) {
        double a = awq__now(), end = a + 1e-6 * (double)budget;
        while (awq__now() + 60e-6 < end) awq__run(ctx, awq_cpu_cores(), watch_clock, NULL);
        us[i] = (awq__now() - a) * 1e6;
    }
    report("(clock only)", us, N, budget);
    printf("\n");
}

static void measure(awq_ctx *ctx, const char *name, const awq_model *m, int64_t budget)
{
    enum { CAP = 400000 };
    double *us = (double *)malloc(CAP * sizeof *us), sliced = 0, whole = 0, once;
    int prompt = (int)AWQ__MIN((int64_t)PROMPT, awq_model_config(m)->max_position_embeddings - ANSWER);
    int64_t n = 0;
    int rounds = 0;
    n_long = n_interrupted = 0;
    do { /* each with a runner that knows nothing of the machine's speed yet */
        n += serve(ctx, m, budget, prompt, us + n, CAP - n, &once);
        sliced += once;
        serve(ctx, m, AWQ_NO_BUDGET, prompt, NULL, 0, &once);
        whole += once;
        rounds++;
    } while (n < 3000);
    n = AWQ__MIN(n, (int64_t)CAP);
    report(name, us, n, budget);
    n = (int64_t)rounds * SESSIONS * (prompt + ANSWER);
    printf("  %.0f tokens/s, without budget %.0f\n", (double)n / sliced, (double)n / whole);
    printf("%-16s over 1.5 times the budget: %ld steps, interrupted %ld of them\n", "", n_long, n_interrupted);
    free(us);
}

int main(int argc, char **argv)
{
    int64_t budget = argc > 1 ? atol(argv[1]) : 2000;
    const char *only = argc > 2 ? argv[2] : NULL, *smol = getenv("AWQ_SMOLLM2");
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_model *m = NULL;
    awq_model_desc md;
    synthetic s;
    memset(&ctx, 0, sizeof ctx);
    memset(&md, 0, sizeof md);
    if (awq_pool_create(&ctx, 0, &pool)) fail(&ctx);
    ctx.jobs = awq_pool_jobs(pool);
    printf("%d sessions, prompts of %d tokens, answers of %d; %s, %d threads\n", SESSIONS, PROMPT, ANSWER,
           awq_isa_name(awq_best_isa()), awq_pool_threads(pool));
    idle_steps(&ctx, budget);
    md.rtn_bits = 4;
    if (!only || strstr("demo", only)) {
        if (awq_model_load(&ctx, "tools/demo/model", &md, &m)) fail(&ctx);
        measure(&ctx, "demo", m, budget);
        awq_model_free(&ctx, m);
    }
    if (smol && *smol && (!only || strstr("SmolLM2", only))) {
        md.rtn_group_size = 64;
        if (awq_model_load(&ctx, smol, &md, &m)) fail(&ctx);
        measure(&ctx, "SmolLM2-135M", m, budget);
        awq_model_free(&ctx, m);
    }
    if (!only || strstr("tinyllama", only)) {
        synthetic_make(&s, &synthetic_tinyllama);
        ctx.files = synthetic_files(&s);
        if (awq_model_load(&ctx, "m", NULL, &m)) fail(&ctx);
        measure(&ctx, synthetic_tinyllama.name, m, budget);
        awq_model_free(&ctx, m);
        synthetic_free(&s);
    }
    awq_pool_free(&ctx, pool);
    return 0;
}
