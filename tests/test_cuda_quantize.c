/* cuda_quantize: quantizing with a device, on the emulated driver of tests/cuda/driver.cpp, against the CPU: losses of
   each candidate, codes and perplexity of small models of several families and of the demo's model; the same bytes in
   another run and after a failure; calls of the driver and allocations failing; what is refused. */
#define DIR "build/test_cuda_quantize"
#define main quantize_main
#include "test_quantize_model.c"
#undef main
#define AWQ_CUDA_IMPLEMENTATION
#include "../awq_cuda.h"
#include "cuda_emulator.h"

static awq_status open_gpu(awq_ctx *ctx, size_t limit, awq_cuda **c)
{
    awq_cuda_desc d;
    memset(&d, 0, sizeof d);
    d.driver = d.nvrtc = emulator;
    d.no_cache = 1;
    d.memory_limit = limit;
    return awq_cuda_create(ctx, &d, c);
}

static awq_cuda *need(awq_ctx *ctx, size_t limit)
{
    awq_cuda *c = NULL;
    unsetenv("AWQ_EMULATOR_FAIL");
    unsetenv("AWQ_EMULATOR_COMPUTE");
    reset();
    memset(ctx, 0, sizeof *ctx);
    CHECK_MSG(open_gpu(ctx, limit, &c) == AWQ_OK, "%s", ctx->err.text);
    return c;
}

static void done(awq_ctx *ctx, awq_cuda *c)
{
    char left[256];
    awq_cuda_free(ctx, c);
    CHECK(ctx->memory_used == 0);
    CHECK_MSG(live(left, sizeof left) == 0, "%s", left);
}

static void both(const char *name, run q, int times, double bound)
{
    awq_ctx gpu;
    awq_cuda *c = need(&gpu, 0);
    on_both(name, q, awq_cuda_device(c), times, bound);
    done(&gpu, c);
}

static void test_methods(void)
{
    awq_calibration few = text;
    run q;
    NEED_EMULATOR;
    few.n_blocks = 3;
    q = prepare(save_small(1), fresh("cpu"), AWQ_METHOD_AWQ);
    q.d.calibration = &few;
    both("awq", q, 2, 0.02);
    q.d.target = fresh("cpu");
    q.d.method = AWQ_METHOD_BEST;
    q.d.keep = jobs_keep;
    q.d.n_keep = 4;
    both("best, some kept", q, 2, 0.08);
    q = prepare(save_small(0), fresh("cpu"), AWQ_METHOD_BEST); /* some blocks held out */
    both("best", q, 1, 0.08);
    q = prepare(save_small(0), fresh("cpu"), AWQ_METHOD_AWQ);
    q.d.calibration = &few;
    q.d.symmetric = 1;
    q.d.bits = 3;
    q.d.group_size = -1;
    q.d.layout = AWQ_LAYOUT_COMPRESSED_TENSORS;
    both("awq, symmetric, rows", q, 1, 0.02);
}

/* experts, fused linears, norms behind, caps, no gate, latents; few blocks, so that none is held out */
static void test_own(void)
{
    static const struct {
        const char *name;
        int family;
        awq_method method;
    } own[] = {{"mixtral, best", OWN_MIXTRAL, AWQ_METHOD_BEST},       {"phi3, best", OWN_PHI3, AWQ_METHOD_BEST},
               {"olmo2, best", OWN_OLMO2, AWQ_METHOD_BEST},           {"gemma2, awq", OWN_GEMMA2, AWQ_METHOD_AWQ},
               {"starcoder2, best", OWN_STARCODER2, AWQ_METHOD_BEST}, {"deepseek_v2, best", OWN_DEEPSEEK, AWQ_METHOD_BEST}};
    awq_calibration few = text;
    size_t k;
    NEED_EMULATOR;
    few.n_blocks = 2;
    for (k = 0; k < sizeof own / sizeof own[0]; k++) {
        tiny t;
        run q = prepare(save_own(own[k].family, &t), fresh("cpu"), own[k].method);
        tiny_free(&t);
        q.d.calibration = &few;
        both(own[k].name, q, 1, 0.1);
    }
}

static void test_on_text(void)
{
    run q = prepare(DEMO, fresh("cpu"), AWQ_METHOD_BEST);
    awq_calibration c;
    awq_ctx ctx;
    NEED_EMULATOR;
    memset(&ctx, 0, sizeof ctx);
    demo_text(&ctx, 1, &c);
    q.d.calibration = &c;
    q.d.group_size = 0;
    both("demo, best", q, 1, 0.01);
    awq_calibration_free(&ctx, &c);
    CHECK(ctx.memory_used == 0);
}

/* other families, where their files are: latents, sinks, parallel blocks, norms of q and k of all kinds */
static void test_more_families(void)
{
    static const char *const names[] = {"deepseek_v2", "gpt_oss", "cohere", "qwen2_moe", "gemma3", "exaone4", "stablelm"};
    awq_calibration few = f_text;
    int k;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA names no folder");
    NEED_EMULATOR;
    few.n_blocks = 1;
    for (k = 0; k < (int)(sizeof names / sizeof names[0]); k++) {
        char folder[600];
        run q;
        snprintf(folder, sizeof folder, "%s/fixtures/models/%s", TEST_DATA(), names[k]);
        q = prepare(folder, fresh("cpu"), k % 2 ? AWQ_METHOD_AWQ : AWQ_METHOD_BEST);
        q.d.calibration = &few;
        q.d.group_size = 0;
        both(names[k], q, 1, 0.1);
    }
}

/* --- what goes wrong: a layer, two blocks */
static const char *one_layer(void)
{
    const char *folder;
    tiny t;
    tiny_llama(&t);
    tiny_file(&t, "m/generation_config.json", "{\"eos_token_id\": 2}");
    folder = save(&t, "one");
    tiny_free(&t);
    return folder;
}

static awq_status whole_life(awq_ctx *gpu, awq_ctx *ctx, run *q)
{
    awq_cuda *c = NULL;
    awq_status st = open_gpu(gpu, 0, &c);
    q->d.device = awq_cuda_device(c);
    q->d.resume = 1;
    if (!st) st = awq_quantize_model(ctx, &q->d, NULL);
    awq_cuda_free(gpu, c);
    return st;
}

/* a call of the driver fails: nothing is left behind, and what is done by then is gone on from to the same bytes */
static void test_every_call(void)
{
    static const awq_method methods[2] = {AWQ_METHOD_BEST, AWQ_METHOD_AWQ};
    awq_calibration few = text;
    awq_ctx gpu, ctx;
    long all, k, failed;
    int m;
    NEED_EMULATOR;
    few.n_blocks = 2;
    for (m = 0; m < 2; m++) {
        const char *source = one_layer();
        run whole = prepare(source, fresh("whole"), methods[m]), q;
        whole.d.calibration = &few;
        awq_cuda_free(&gpu, need(&gpu, 0));
        memset(&ctx, 0, sizeof ctx);
        CHECK_MSG(whole_life(&gpu, &ctx, &whole) == AWQ_OK, "%s / %s", gpu.err.text, ctx.err.text);
        all = calls("*");
        CHECK_MSG(all > 300, "%ld calls", all);
        for (failed = 0, k = 1; k <= all; k += 1 + all / 10) {
            char told[64], left[256];
            q = whole;
            q.d.target = fresh("failed");
            reset();
            snprintf(told, sizeof told, "*:%ld=1", k);
            setenv("AWQ_EMULATOR_FAIL", told, 1);
            failed += whole_life(&gpu, &ctx, &q) != AWQ_OK;
            unsetenv("AWQ_EMULATOR_FAIL");
            CHECK_MSG(gpu.memory_used == 0 && ctx.memory_used == 0, "call %ld: %llu and %llu bytes are left", k,
                      (unsigned long long)gpu.memory_used, (unsigned long long)ctx.memory_used);
            CHECK_MSG(live(left, sizeof left) <= 1, "call %ld: %s", k, left);
            if (failed % 4 || exists(q.d.target, "")) continue;
            reset();
            CHECK_MSG(whole_life(&gpu, &ctx, &q) == AWQ_OK, "call %ld: %s / %s", k, gpu.err.text, ctx.err.text);
            CHECK_MSG(same(q.d.target, whole.d.target), "call %ld: other bytes", k);
        }
        printf("    %ld calls of the driver, %ld failures\n", all, failed);
        CHECK(failed > 6);
    }
}

/* likewise an allocation of the caller's */
static void test_every_allocation(void)
{
    awq_calibration few = text;
    fail_alloc f = {-1, 0, 0};
    awq_ctx gpu, ctx;
    run q = prepare(one_layer(), fresh("failed"), AWQ_METHOD_AWQ);
    long at, all, failed = 0;
    NEED_EMULATOR;
    few.n_blocks = 1;
    q.d.calibration = &few;
    awq_cuda_free(&gpu, need(&gpu, 0));
    memset(&ctx, 0, sizeof ctx);
    ctx.allocator = fail_allocator(&f);
    CHECK_MSG(whole_life(&gpu, &ctx, &q) == AWQ_OK, "%s", ctx.err.text);
    all = f.calls;
    for (at = 0; at < all; at += 1 + all / 9) {
        char left[256];
        awq_status st;
        memset(&f, 0, sizeof f);
        f.fail_at = at;
        q.d.target = fresh("failed");
        reset();
        st = whole_life(&gpu, &ctx, &q);
        CHECK_MSG(!st || st == AWQ_E_MEMORY, "allocation %ld: %s: %s", at, awq_status_name(st), ctx.err.text);
        CHECK_MSG(f.live == 0 && gpu.memory_used == 0 && ctx.memory_used == 0, "allocation %ld", at);
        CHECK_MSG(live(left, sizeof left) == 0, "allocation %ld: %s", at, left);
        failed += st != AWQ_OK;
    }
    printf("    %ld allocations, %ld failures\n", all, failed);
    CHECK(failed > 4);
}

static void test_refused(void)
{
    run q = prepare(one_layer(), fresh("refused"), AWQ_METHOD_BEST);
    awq_device nothing;
    awq_ctx gpu;
    awq_cuda *c;
    NEED_EMULATOR;
    memset(&nothing, 0, sizeof nothing);
    snprintf(nothing.name, sizeof nothing.name, "a lamp");
    q.d.device = &nothing;
    REFUSED(q, AWQ_E_UNSUPPORTED, "a lamp has nothing to quantize with");
    c = need(&gpu, (size_t)65 << 20);
    q.d.device = awq_cuda_device(c);
    q.d.mode = AWQ_MODE_EXACT;
    REFUSED(q, AWQ_E_ARG, "does not compute exactly");
    q.d.mode = AWQ_MODE_FAST;
    q.d.method = AWQ_METHOD_RTN;
    REFUSED(q, AWQ_E_ARG, "method rtn");
    q.d.method = AWQ_METHOD_BEST;
    REFUSED(q, AWQ_E_MEMORY, "MB of its memory and there are");
    printf("    %s\n", q.ctx.err.text);
    CHECK(!exists(q.d.target, "") && !exists(q.d.target, ".partial"));
    done(&gpu, c);
    setenv("AWQ_EMULATOR_COMPUTE", "75", 1);
    reset();
    memset(&gpu, 0, sizeof gpu);
    CHECK_MSG(open_gpu(&gpu, 0, &c) == AWQ_OK, "%s", gpu.err.text);
    q.d.device = awq_cuda_device(c);
    REFUSED(q, AWQ_E_UNSUPPORTED, "compute capability 8.0");
    done(&gpu, c);
    unsetenv("AWQ_EMULATOR_COMPUTE");
}

int main(int argc, char **argv)
{
    make_texts();
    TEST_BEGIN(argc, argv);
    find_emulator();
    RUN(test_methods);
    RUN(test_own);
    RUN(test_on_text);
    RUN(test_more_families);
    RUN(test_every_call);
    RUN(test_every_allocation);
    RUN(test_refused);
    return TEST_END();
}
