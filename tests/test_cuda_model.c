/* cuda_model: models on the GPU against the CPU's exact mode, on the emulated driver of tests/cuda/driver.cpp: logits
   of tiny models of several kinds, also divided between GPU and CPU; sessions in deterministic mode bit for bit, alone
   and among others; greedy tokens of the demo's model; each call of the driver failing once; too little memory. With
   AWQ_TEST_DATA every family. */
#define main session_main
#include "test_session.c"
#undef main
#define AWQ_CUDA_IMPLEMENTATION
#include "../awq_cuda.h"
#include "cpu_device.h"
#include "cuda_emulator.h"
#include "kinds.h"
#include "synthetic.h"
#include <pthread.h>

static awq_cuda_desc fresh(void)
{
    awq_cuda_desc d;
    unsetenv("AWQ_EMULATOR_FAIL");
    unsetenv("AWQ_EMULATOR_COMPUTE");
    if (reset) reset();
    memset(&d, 0, sizeof d);
    d.driver = d.nvrtc = emulator;
    d.no_cache = 1;
    return d;
}

static awq_cuda *need(awq_ctx *ctx, size_t limit)
{
    awq_cuda_desc d = fresh();
    awq_cuda *c = NULL;
    memset(ctx, 0, sizeof *ctx);
    d.memory_limit = limit;
    CHECK_MSG(awq_cuda_create(ctx, &d, &c) == AWQ_OK, "%s", ctx->err.text);
    return c;
}

static void done(awq_ctx *ctx, awq_cuda *c)
{
    char text[256];
    awq_cuda_free(ctx, c);
    CHECK(ctx->memory_used == 0);
    CHECK_MSG(live(text, sizeof text) == 0, "%s", text);
}

/* --- tiny models */
/* against exact mode, which rounds neither activations nor keys and values */
static void test_logits(void)
{
    awq_ctx gpu;
    awq_cuda *c;
    int kind, mode;
    NEED_EMULATOR;
    c = need(&gpu, 0);
    for (kind = 0; c && kind < KINDS; kind++)
        for (mode = 0; mode < 2; mode++) {
            awq_device *list[1];
            awq_model_desc d;
            awq_ctx ctx;
            double off;
            tiny t;
            make_kind(&t, kind, &d);
            ctx = tiny_ctx(&t);
            list[0] = awq_cuda_device(c);
            d.mode = mode ? AWQ_MODE_DETERMINISTIC : AWQ_MODE_FAST;
            d.devices = list;
            d.n_devices = 1;
            off = difference(&ctx, "m", &d, 40, kind_others(kind, 40));
            CHECK_MSG(off <= kind_bound(kind), "%s: off by %g of the largest logit", kind_names[kind], off);
            if (mode) printf("    %-20s %.5f\n", kind_names[kind], off);
            CHECK(ctx.memory_used == 0);
            tiny_free(&t);
        }
    done(&gpu, c);
}

/* --- deterministic mode: bit for bit */

static void test_same_bits(void)
{
    awq_ctx gpu;
    awq_cuda *c;
    int kind;
    NEED_EMULATOR;
    c = need(&gpu, 0);
    for (kind = 0; c && kind < KINDS; kind++) {
        awq_device *list[1];
        awq_model_desc d;
        awq_ctx ctx;
        tiny t;
        make_kind(&t, kind, &d);
        ctx = tiny_ctx(&t);
        list[0] = awq_cuda_device(c);
        d.devices = list;
        d.n_devices = 1;
        check_same_bits(kind_names[kind], &ctx, "m", &d, 40);
        CHECK(ctx.memory_used == 0);
        tiny_free(&t);
    }
    done(&gpu, c);
}

/* likewise where sums are split among blocks because there are multiprocessors for them; that GPUs with more of
   them or less say the same bits is not promised */
static void test_same_bits_split(void)
{
    enum { ROWS = 40, VOCAB = 96 };
    static const synthetic_shape shape = {"split", 512, 1024, 1, 4, 2, 64, VOCAB, 128, 256};
    static const char *const multiprocessors[] = {"2", "24"};
    static const int rows[] = {ROWS, 8, ROWS}, chunks[] = {ROWS, 1, 13};
    synthetic syn;
    int k, i;
    NEED_EMULATOR;
    synthetic_make(&syn, &shape);
    for (k = 0; k < 2; k++) {
        static float logits[3][ROWS * VOCAB];
        awq__cuda_device of = {90, 1, 0, 0};
        awq__cuda_launch down, head;
        awq_device *list[1];
        awq_model_desc d;
        awq_model *m = NULL;
        awq_ctx gpu, ctx;
        awq_cuda *c;
        int32_t ids[ROWS];
        setenv("AWQ_EMULATOR_MULTIPROCESSORS", multiprocessors[k], 1);
        c = need(&gpu, 0);
        if (!c) break;
        of.sms = atoi(multiprocessors[k]);
        CHECK(awq__cuda_linear_plan(&of, 4, ROWS, 512, 1024, 128, 0, 1, &down) && down.grid[1] == (k ? 2 : 1));
        CHECK(awq__cuda_linear_plan(&of, 16, ROWS, VOCAB, 512, 64, 0, 1, &head) && head.grid[1] == (k ? 2 : 1));
        memset(&ctx, 0, sizeof ctx);
        memset(&d, 0, sizeof d);
        ctx.files = synthetic_files(&syn);
        list[0] = awq_cuda_device(c);
        d.mode = AWQ_MODE_DETERMINISTIC;
        d.devices = list;
        d.n_devices = 1;
        d.no_tokenizer = 1;
        for (i = 0; i < ROWS; i++) ids[i] = (i * 31 + 5) % VOCAB;
        CHECK_MSG(awq_model_load(&ctx, "m", &d, &m) == AWQ_OK, "%s", ctx.err.text);
        for (i = 0; m && i < 3; i++) {
            awq_session *s = NULL;
            awq_feed_desc f;
            memset(&f, 0, sizeof f);
            f.chunk = chunks[i];
            f.all_logits = logits[i];
            CHECK(open_session(&ctx, m, 64, &s) == AWQ_OK);
            CHECK_MSG(awq_session_feed(&ctx, s, ids, rows[i], &f, NULL) == AWQ_OK, "%s", ctx.err.text);
            close_session(&ctx, s);
            CHECK_MSG(!memcmp(logits[i], logits[0], (size_t)rows[i] * VOCAB * sizeof(float)),
                      "%s multiprocessors: %d rows at a time", multiprocessors[k], chunks[i]);
        }
        CHECK(awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0);
        done(&gpu, c);
    }
    unsetenv("AWQ_EMULATOR_MULTIPROCESSORS");
    synthetic_free(&syn);
}

enum { TALKS = 3, SAID = 8 };

/* answers together are those alone; a saved session and a fork go on as the session itself does */
static void talk(world *w)
{
    awq_session *s[TALKS + 2] = {NULL, NULL, NULL, NULL, NULL};
    awq_runner *r = NULL;
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_generate_desc d;
    int32_t ids[TALKS][40], want[TALKS][SAID], got[TALKS + 2][SAID], more[4] = {5, 6, 7, 8};
    uint64_t seed = 11;
    uint8_t *state;
    size_t bytes;
    int i, busy = 1;
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    memset(&d, 0, sizeof d);
    rd.max_rows = 24;
    sd.max_tokens = 96;
    d.max_tokens = SAID;
    d.ignore_eos = 1;
    for (i = 0; i < TALKS; i++) {
        some_ids(&seed, ids[i], 40);
        alone(w, &d, ids[i], 40 - 9 * i, want[i], NULL);
    }
    CHECK_MSG(awq_runner_create(&w->ctx, w->m, &rd, &r) == AWQ_OK, "%s", w->ctx.err.text);
    for (i = 0; i < TALKS + 2; i++) {
        CHECK_MSG(awq_session_create(&w->ctx, r, &sd, &s[i]) == AWQ_OK, "%s", w->ctx.err.text);
        if (i >= TALKS) continue;
        d.ids = ids[i];
        d.n_ids = 40 - 9 * i;
        d.out_ids = got[i];
        CHECK_MSG(awq_ask(&w->ctx, s[i], &d) == AWQ_OK, "%s", w->ctx.err.text);
    }
    while (busy) {
        CHECK_MSG(awq_step(&w->ctx, r, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK, "%s", w->ctx.err.text);
        for (busy = i = 0; i < TALKS; i++) busy |= awq_session_busy(s[i]);
    }
    for (i = 0; i < TALKS; i++) {
        CHECK(awq_session_answer(&w->ctx, s[i], NULL) == AWQ_OK);
        CHECK_MSG(!memcmp(want[i], got[i], sizeof want[i]), "answer %d", i);
    }
    bytes = awq_session_bytes(s[0]);
    state = (uint8_t *)malloc(bytes);
    CHECK_MSG(awq_session_save(&w->ctx, s[0], state, bytes) == AWQ_OK, "%s", w->ctx.err.text);
    CHECK_MSG(awq_session_restore(&w->ctx, s[3], state, bytes, NULL) == AWQ_OK, "%s", w->ctx.err.text);
    awq_session_free(&w->ctx, s[4]);
    s[4] = NULL;
    CHECK_MSG(awq_session_fork(&w->ctx, s[0], NULL, &s[4]) == AWQ_OK, "%s", w->ctx.err.text);
    for (i = 0; i < TALKS + 2; i += i ? 1 : TALKS) { /* 0, then 3 and 4 */
        d.ids = more;
        d.n_ids = 4;
        d.out_ids = got[i];
        CHECK_MSG(awq_ask(&w->ctx, s[i], &d) == AWQ_OK, "%s", w->ctx.err.text);
        while (awq_session_busy(s[i])) CHECK(awq_step(&w->ctx, r, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK);
        CHECK(awq_session_answer(&w->ctx, s[i], NULL) == AWQ_OK);
        CHECK_MSG(!memcmp(got[i], got[0], sizeof got[0]), "session %d", i);
    }
    free(state);
    for (i = 0; i < TALKS + 2; i++) awq_session_free(&w->ctx, s[i]);
    CHECK(awq_runner_free(&w->ctx, r) == AWQ_OK);
}

/* what world_open loads: so many of a model's two layers on the GPU, the rest on the CPU; NULL: all on the CPU */
static void use_device(awq_cuda *c, int layers)
{
    memset(&TEST_DEVICES, 0, sizeof TEST_DEVICES);
    TEST_DEVICES.device[0] = awq_cuda_device(c);
    TEST_DEVICES.layers[0] = layers;
    TEST_DEVICES.n = c != NULL;
    TEST_DEVICES.rest_on_cpu = c && layers < 2;
}

/* of a model of two layers: 2 of them on the GPU, or 1 and the other on the CPU */
static void sessions(int layers)
{
    awq_ctx gpu;
    awq_cuda *c = need(&gpu, 0);
    world w;
    use_device(c, layers);
    world_open(&w, 0);
    talk(&w);
    world_close(&w);
    test_leave();
    if (layers == 2) test_prefix();
    use_device(NULL, 0);
    done(&gpu, c);
}

static void test_sessions(void)
{
    NEED_EMULATOR;
    sessions(2);
}

static void test_sessions_divided(void)
{
    NEED_EMULATOR;
    sessions(1);
}

/* --- steps: what a token costs the driver */

enum { STEPPED = 3, STEPS = 56, ASKED = 90 }; /* from 3 pages to 5 */

static long launches(void) { return calls("cuLaunchKernel") + calls("cuLaunchKernelEx"); }
static long allocations(void)
{
    return calls("cuMemAlloc_v2") + calls("cuMemAllocHost_v2") + calls("cuModuleLoadDataEx");
}

/* the head that the device has, whose choices are made here */
static awq_status (*head_of_device)(awq_ctx *, void *, const int32_t *, int64_t, float *, int32_t *);
static int64_t head_vocab;
static awq_status head_of_cpu(awq_ctx *ctx, void *work, const int32_t *rows, int64_t n, float *logits,
                              int32_t *best)
{
    awq_status st = head_of_device(ctx, work, rows, n, logits, NULL);
    int64_t r;
    for (r = 0; !st && best && r < n; r++) cpu_choose(logits + r * head_vocab, head_vocab, &best[r]);
    return st;
}

/* STEPPED answers of STEPS tokens side by side, greedy but for the last, to ids. With `check`: nearly all
   steps repeat one of `check` recorded passes or more, which is one launch and, if nobody wants all logits, one
   wait, and only the first few allocate. */
static void step_through(const awq_model *m, int32_t *ids, int top_k, int64_t budget, int check)
{
    awq_session *s[STEPPED] = {NULL, NULL, NULL};
    awq_runner *r = NULL;
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_generate_desc d;
    awq_ctx ctx;
    int32_t prompt[ASKED];
    uint64_t seed = 31;
    long repeated = 0;
    int i, k, busy = 1;
    memset(&ctx, 0, sizeof ctx);
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    memset(&d, 0, sizeof d);
    rd.max_rows = rd.prompt_rows = 96;
    sd.max_tokens = ASKED + 1 + STEPS;
    d.max_tokens = STEPS;
    d.ignore_eos = 1;
    CHECK_MSG(awq_runner_create(&ctx, m, &rd, &r) == AWQ_OK, "%s", ctx.err.text);
    for (i = 0; i < STEPPED; i++) {
        CHECK_MSG(awq_session_create(&ctx, r, &sd, &s[i]) == AWQ_OK, "%s", ctx.err.text);
        some_ids(&seed, prompt, ASKED);
        d.ids = prompt;
        d.n_ids = ASKED;
        d.out_ids = ids + i * STEPS;
        d.sampling.temperature = i == STEPPED - 1 ? 1.0f : 0;
        d.sampling.top_k = top_k;
        CHECK_MSG(awq_ask(&ctx, s[i], &d) == AWQ_OK, "%s", ctx.err.text);
    }
    for (k = 0; busy; k++) {
        awq_step_info info;
        long launched = launches(), repeats = calls("cuGraphLaunch"), waits = calls("cuStreamSynchronize"),
             recordings = calls("cuStreamBeginCapture_v2"), taken = allocations();
        CHECK_MSG(awq_step(&ctx, r, NULL, 0, budget, &info) == AWQ_OK, "%s", ctx.err.text);
        for (busy = i = 0; i < STEPPED; i++) busy |= awq_session_busy(s[i]);
        if (!check) continue;
        CHECK_MSG(k < 4 || allocations() == taken, "step %d: %ld allocations", k, allocations() - taken);
        if (calls("cuGraphLaunch") == repeats || calls("cuStreamBeginCapture_v2") > recordings) continue;
        repeated++;
        CHECK_MSG(calls("cuGraphLaunch") == repeats + 1 && launches() == launched, "step %d: %ld kernels", k,
                  launches() - launched);
        CHECK_MSG(calls("cuStreamSynchronize") <= waits + 1 + !top_k, "step %d waits %ld times", k,
                  calls("cuStreamSynchronize") - waits);
    }
    if (check) {
        long recordings = calls("cuGraphInstantiateWithFlags");
        printf("    %ld of %d steps repeat %ld recorded passes\n", repeated, k, recordings);
        CHECK(recordings >= check && repeated >= k - 6 - 2 * recordings);
    }
    for (i = 0; i < STEPPED; i++) {
        CHECK(awq_session_answer(&ctx, s[i], NULL) == AWQ_OK);
        awq_session_free(&ctx, s[i]);
    }
    CHECK(awq_runner_free(&ctx, r) == AWQ_OK && ctx.memory_used == 0);
}

/* a step is one launch, allocates nothing and says what plain launches say */
static void test_steps(void)
{
    static const int kinds[] = {GEMM_4, WINDOW, STACKED_EXPERTS};
    awq_ctx gpu;
    awq_cuda *c;
    size_t k;
    int mode;
    NEED_EMULATOR;
    setenv("AWQ_EMULATOR_MULTIPROCESSORS", "24", 1); /* keys and values are split over blocks */
    c = need(&gpu, 0);
    for (k = 0; c && k < sizeof kinds / sizeof kinds[0]; k += TEST_STRIDE)
        for (mode = 0; mode < 1 + (kinds[k] == GEMM_4); mode++) {
            static int32_t ids[4][STEPPED * STEPS];
            const int top_k = mode ? 5 : 0;
            awq_device *list[1];
            awq_model_desc d;
            awq_model *m = NULL;
            awq_ctx ctx;
            tiny t;
            make_kind(&t, kinds[k], &d);
            ctx = tiny_ctx(&t);
            list[0] = awq_cuda_device(c);
            d.devices = list;
            d.n_devices = 1;
            d.mode = mode ? AWQ_MODE_DETERMINISTIC : AWQ_MODE_FAST;
            CHECK_MSG(awq_model_load(&ctx, "m", &d, &m) == AWQ_OK, "%s", ctx.err.text);
            reset();
            step_through(m, ids[0], top_k, AWQ_NO_BUDGET, mode ? 1 : 2); /* splits of one size, of some */
            setenv("AWQ_EMULATOR_FAIL", "cuStreamBeginCapture_v2:1=900,cuStreamBeginCapture_v2:2=900,cuStreamBeginCapture_v2:3=900",
                   1); /* the driver does not record */
            reset();
            step_through(m, ids[1], top_k, AWQ_NO_BUDGET, 0);
            unsetenv("AWQ_EMULATOR_FAIL");
            CHECK(calls("cuStreamBeginCapture_v2") == 3 && calls("cuGraphLaunch") == 0);
            CHECK_MSG(!memcmp(ids[0], ids[1], sizeof ids[0]), "%s: recorded passes say something else",
                      kind_names[kinds[k]]);
            if (mode) { /* also a layer at a time, and with tokens chosen by the CPU */
                step_through(m, ids[2], top_k, 2000, 0);
                CHECK_MSG(!memcmp(ids[0], ids[2], sizeof ids[0]), "%s: with a budget", kind_names[kinds[k]]);
                head_of_device = list[0]->head;
                head_vocab = awq_model_config(m)->vocab_size;
                list[0]->head = head_of_cpu;
                step_through(m, ids[3], top_k, AWQ_NO_BUDGET, 0);
                list[0]->head = head_of_device;
                CHECK_MSG(!memcmp(ids[0], ids[3], sizeof ids[0]), "%s: choices", kind_names[kinds[k]]);
            }
            CHECK(awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0);
            tiny_free(&t);
        }
    done(&gpu, c);
    unsetenv("AWQ_EMULATOR_MULTIPROCESSORS");
}

/* two models on one GPU, whose threads step at the same time, say what each says alone */
typedef struct talker {
    const awq_model *m;
    int32_t out[SAID];
    awq_status status;
} talker;

static void *talk_alone(void *arg)
{
    talker *t = (talker *)arg;
    awq_generate_desc d;
    awq_ctx ctx;
    int32_t ids[20];
    uint64_t seed = 21;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    some_ids(&seed, ids, 20);
    d.ids = ids;
    d.n_ids = 20;
    d.max_tokens = SAID;
    d.ignore_eos = 1;
    d.out_ids = t->out;
    t->status = awq_generate(&ctx, t->m, &d, NULL);
    if (ctx.memory_used) t->status = AWQ_E_MEMORY;
    return NULL;
}

static void test_demo(void)
{
    awq_ctx gpu, ctx;
    awq_cuda *c;
    awq_model_desc d;
    awq_device *list[1];
    talker t[3];
    pthread_t thread[2];
    int i;
    NEED_EMULATOR;
    c = need(&gpu, 0);
    list[0] = awq_cuda_device(c);
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    memset(t, 0, sizeof t);
    d.no_tokenizer = 1;
    d.mode = AWQ_MODE_EXACT;
    for (i = 0; i < 3; i++) {
        awq_model *m = NULL;
        CHECK_MSG(awq_model_load(&ctx, DEMO, &d, &m) == AWQ_OK, "%s", ctx.err.text);
        t[i].m = m;
        d.mode = AWQ_MODE_FAST;
        d.devices = list;
        d.n_devices = 1;
    }
    talk_alone(&t[0]);
    for (i = 0; i < 2; i++) CHECK(!pthread_create(&thread[i], NULL, talk_alone, &t[1 + i]));
    for (i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    for (i = 0; i < 3; i++) {
        CHECK(t[i].status == AWQ_OK);
        CHECK_MSG(!memcmp(t[i].out, t[0].out, sizeof t[0].out), "model %d", i);
        CHECK(awq_model_free(&ctx, (awq_model *)(uintptr_t)t[i].m) == AWQ_OK);
    }
    CHECK(ctx.memory_used == 0);
    done(&gpu, c);
}

/* --- failures */

/* a model of one layer is loaded, says some tokens and is freed */
static awq_status whole_life(awq_ctx *gpu, awq_ctx *ctx)
{
    awq_cuda_desc d;
    awq_device *list[1];
    awq_model_desc md;
    awq_model *m = NULL;
    awq_session *s = NULL;
    awq_cuda *c = NULL;
    float last[96];
    int32_t ids[40];
    awq_status st;
    int i;
    memset(&d, 0, sizeof d);
    memset(&md, 0, sizeof md);
    d.driver = d.nvrtc = emulator;
    d.no_cache = 1;
    d.no_selftest = 1; /* tests/test_cuda_load.c */
    for (i = 0; i < 40; i++) ids[i] = (i * 7 + 3) % 96;
    st = awq_cuda_create(gpu, &d, &c);
    if (st) return st;
    list[0] = awq_cuda_device(c);
    md.devices = list;
    md.n_devices = 1;
    st = awq_model_load(ctx, "m", &md, &m);
    if (!st) st = open_session(ctx, m, 64, &s);
    if (!st) st = awq_session_feed(ctx, s, ids, 39, NULL, last);
    for (i = 0; !st && i < 4; i++) st = awq_session_feed(ctx, s, ids + 39, 1, NULL, last); /* recorded */
    if (s) close_session(ctx, s);
    CHECK(awq_model_free(ctx, m) == AWQ_OK);
    awq_cuda_free(gpu, c);
    return st;
}

/* the k-th call of the driver fails, for each k of a model's life */
static void test_every_call(void)
{
    awq_ctx gpu, ctx;
    tiny t;
    long all, k, failed = 0;
    awq_model_desc d;
    NEED_EMULATOR;
    fresh();
    make_kind(&t, GEMM_4, &d);
    ctx = tiny_ctx(&t);
    memset(&gpu, 0, sizeof gpu);
    CHECK_MSG(whole_life(&gpu, &ctx) == AWQ_OK, "%s / %s", gpu.err.text, ctx.err.text);
    all = calls("*");
    CHECK_MSG(all > 100, "%ld calls", all);
    for (k = 1; k <= all; k += TEST_STRIDE + all / 400) {
        char told[64], text[256];
        fresh();
        snprintf(told, sizeof told, "*:%ld=1", k);
        setenv("AWQ_EMULATOR_FAIL", told, 1);
        failed += whole_life(&gpu, &ctx) != AWQ_OK;
        CHECK_MSG(gpu.memory_used == 0 && ctx.memory_used == 0, "call %ld: %llu and %llu bytes are left", k,
                  (unsigned long long)gpu.memory_used, (unsigned long long)ctx.memory_used);
        /* what the call was to give back, if it was one of those */
        CHECK_MSG(live(text, sizeof text) <= 1, "call %ld: %s", k, text);
    }
    printf("    %ld calls of the driver, %ld failures\n", all, failed);
    CHECK(failed > 50);
    fresh();
    tiny_free(&t);
}

/* likewise the k-th allocation, of the model's caller and of the one who made the awq_cuda */
static void test_every_allocation(void)
{
    awq_model_desc d;
    int whose;
    NEED_EMULATOR;
    for (whose = 0; whose < 2; whose++) {
        int64_t k;
        awq_status st = AWQ_E_MEMORY;
        for (k = 0; st && k < 2000; k++) {
            fail_alloc f = {k, 0, 0};
            awq_ctx gpu, ctx;
            tiny t;
            char text[256];
            fresh();
            make_kind(&t, GEMM_4, &d);
            ctx = tiny_ctx(&t);
            memset(&gpu, 0, sizeof gpu);
            (whose ? &gpu : &ctx)->allocator = fail_allocator(&f);
            st = whole_life(&gpu, &ctx);
            CHECK_MSG(!st || st == AWQ_E_MEMORY, "allocation %d: %s", (int)k, awq_status_name(st));
            CHECK_MSG(f.live == 0 && gpu.memory_used == 0 && ctx.memory_used == 0, "allocation %d", (int)k);
            CHECK_MSG(live(text, sizeof text) == 0, "allocation %d: %s", (int)k, text);
            tiny_free(&t);
        }
        CHECK(!st);
        printf("    %d allocations\n", (int)k - 1);
    }
}

/* a limit that the layer does not fit in: sizes are told, and nothing stays */
static void test_short_memory(void)
{
    awq_ctx gpu, ctx;
    awq_model_desc d;
    awq_device *list[1];
    awq_model *m = NULL;
    awq_cuda *c;
    tiny t;
    NEED_EMULATOR;
    c = need(&gpu, 100000);
    make_kind(&t, DENSE, &d);
    ctx = tiny_ctx(&t);
    list[0] = awq_cuda_device(c);
    d.devices = list;
    d.n_devices = 1;
    CHECK(awq_model_load(&ctx, "m", &d, &m) == AWQ_E_MEMORY && !m);
    CHECK_MSG(strstr(ctx.err.text, "the devices take 0 of 1 layers; cuda:0 (Emulated GPU 0): 0 layers in 0.00 GB"), "%s",
              ctx.err.text);
    CHECK(ctx.memory_used == 0);
    tiny_free(&t);
    done(&gpu, c);
}

static const char *const families[] = {
    "cohere", "deepseek_v2", "deepseek_v3", "glm4_moe", "gpt_oss", "granitemoe", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe",
    "exaone4", "gemma2", "gemma3", "glm4", "granite", "llama_awq_gemm", "llama_awq_gemv_fast", "llama_ct_pack_sym_bf16",
    "mixtral_awq_gemm", "olmo2", "phi3", "qwen2_swa", "stablelm", "starcoder2"};
enum { ROUTED_FIRST = 1, ROUTED_LAST = 9, FAMILIES = sizeof families / sizeof families[0] }; /* bf16 with experts */

/* --- inside a program */

/* awq_memory_needed against what is taken, of the host's memory and of the GPU's; and that much is enough */
static void memory_told(const char *what, awq_ctx *ctx, const char *folder, const awq_model_desc *desc)
{
    size_t limit = 0;
    int round;
    for (round = 0; round < 2; round++) { /* the second time with as much as was said */
        awq_ctx gpu;
        awq_cuda *c = need(&gpu, limit);
        awq_model_desc d = *desc;
        awq_device *list[1];
        awq_memory told;
        awq_cuda_info before, after;
        awq_runner_desc rd;
        awq_session_desc sd;
        awq_runner *r = NULL;
        awq_session *s[2] = {NULL, NULL};
        awq_model *m = NULL;
        int32_t ids[64];
        int i;
        memset(&rd, 0, sizeof rd);
        memset(&sd, 0, sizeof sd);
        list[0] = awq_cuda_device(c);
        d.devices = list;
        d.n_devices = 1;
        d.device_tokens = 2 * 64;
        rd.max_rows = 512;
        sd.max_tokens = 64;
        for (i = 0; i < 64; i++) ids[i] = 3 + i;
        ctx->memory_peak = ctx->memory_used;
        CHECK(awq_cuda_get_info(&gpu, c, &before) == AWQ_OK);
        CHECK_MSG(awq_memory_needed(ctx, folder, &d, &rd, &sd, 2, &told) == AWQ_OK, "%s: %s", what, ctx->err.text);
        CHECK_MSG(awq_model_load(ctx, folder, &d, &m) == AWQ_OK, "%s: %s", what, ctx->err.text);
        CHECK_MSG(ctx->memory_peak <= told.loading && ctx->memory_used <= told.model,
                  "%s: loading %llu of %llu, then %llu of %llu", what, (unsigned long long)ctx->memory_peak,
                  (unsigned long long)told.loading, (unsigned long long)ctx->memory_used, (unsigned long long)told.model);
        CHECK_MSG(awq_runner_create(ctx, m, &rd, &r) == AWQ_OK, "%s: %s", what, ctx->err.text);
        for (i = 0; i < 2; i++) {
            CHECK_MSG(awq_session_create(ctx, r, &sd, &s[i]) == AWQ_OK, "%s: %s", what, ctx->err.text);
            CHECK_MSG(awq_session_feed(ctx, s[i], ids, 64, NULL, NULL) == AWQ_OK, "%s: %s", what, ctx->err.text);
        }
        CHECK(awq_cuda_get_info(&gpu, c, &after) == AWQ_OK);
        CHECK_MSG(ctx->memory_peak <= told.peak, "%s: %llu of %llu", what, (unsigned long long)ctx->memory_peak,
                  (unsigned long long)told.peak);
        CHECK_MSG(after.memory_peak - before.memory_used <= told.device[0].needed, "%s: %llu of %llu on the GPU", what,
                  (unsigned long long)(after.memory_peak - before.memory_used), (unsigned long long)told.device[0].needed);
        CHECK(told.device[0].layers == awq_model_config(m)->num_hidden_layers && told.host_layers == 0
              && !strcmp(told.device[0].name, "cuda:0 (Emulated GPU 0)")
              && told.device[0].available == before.memory_limit - before.memory_used);
        if (getenv("AWQ_TEST_VERBOSE"))
            printf("    %s: host %llu of %llu, GPU %llu of %llu\n", what, (unsigned long long)ctx->memory_peak,
                   (unsigned long long)told.peak, (unsigned long long)(after.memory_peak - before.memory_used),
                   (unsigned long long)told.device[0].needed);
        limit = before.memory_used + (size_t)told.device[0].needed;
        close_all(ctx, r);
        CHECK(awq_model_free(ctx, m) == AWQ_OK);
        done(&gpu, c);
    }
}

static void test_memory_told(void)
{
    awq_model_desc d;
    awq_ctx ctx;
    size_t i;
    int kind;
    NEED_EMULATOR;
    for (kind = 0; kind < KINDS; kind += TEST_STRIDE) {
        tiny t;
        make_kind(&t, kind, &d);
        d.mode = kind % 2 ? AWQ_MODE_DETERMINISTIC : AWQ_MODE_FAST;
        ctx = tiny_ctx(&t);
        memory_told(kind_names[kind], &ctx, "m", &d);
        CHECK(ctx.memory_used == 0);
        tiny_free(&t);
    }
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    memory_told("demo", &ctx, DEMO, &d);
    for (i = 0; TEST_DATA() && i < FAMILIES; i += TEST_STRIDE) {
        char folder[600];
        snprintf(folder, sizeof folder, "%s/fixtures/models/%s", TEST_DATA(), families[i]);
        memory_told(families[i], &ctx, folder, &d);
    }
    CHECK(ctx.memory_used == 0);
}

/* sessions of 64 tokens in a runner, which read 64; two: all that memory_told counts. *r: to be closed */
static awq_status fill_up(awq_ctx *ctx, const awq_model *m, int sessions, awq_runner **r)
{
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_session *s = NULL;
    awq_status st;
    int32_t ids[64];
    int i;
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    rd.max_rows = 512;
    sd.max_tokens = 64;
    for (i = 0; i < 64; i++) ids[i] = 3 + i % 90;
    st = awq_runner_create(ctx, m, &rd, r);
    for (i = 0; i < sessions && !st; i++) {
        st = awq_session_create(ctx, *r, &sd, &s);
        if (!st && i < 2) st = awq_session_feed(ctx, s, ids, 64, NULL, NULL);
    }
    return st;
}

/* Two models on a GPU of so much memory; 0: the second has no place there. fill: 1 both take all that they were told,
   2 the first asks for more before. */
static int two_models(size_t limit, int fill)
{
    static const int kinds[2] = {GEMM_4, DENSE};
    awq_ctx gpu, ctx[2];
    awq_cuda *c = need(&gpu, limit);
    awq_model *m[2] = {NULL, NULL};
    awq_runner *r[2] = {NULL, NULL};
    awq_device *list[1];
    tiny t[2];
    int i, both;
    list[0] = awq_cuda_device(c);
    c->tested = AWQ__CUDA_TEST_ALL;
    for (i = 0; i < 2; i++) {
        awq_model_desc d;
        awq_memory told;
        awq_status st;
        make_kind(&t[i], kinds[i], &d);
        ctx[i] = tiny_ctx(&t[i]);
        d.devices = list;
        d.n_devices = 1;
        d.device_tokens = 2 * 64;
        st = awq_memory_needed(&ctx[i], "m", &d, NULL, NULL, 0, &told);
        CHECK_MSG(awq_model_load(&ctx[i], "m", &d, &m[i]) == st && (!st || st == AWQ_E_MEMORY), "%s", ctx[i].err.text);
        if (st) CHECK_MSG(strstr(ctx[i].err.text, "the devices take 0 of 1 layers"), "%s", ctx[i].err.text);
    }
    both = m[0] && m[1];
    if (both && fill == 2) {
        CHECK(fill_up(&ctx[0], m[0], 100000, &r[0]) == AWQ_E_MEMORY);
        CHECK_MSG(strstr(ctx[0].err.text, " are kept for other models on it, "), "%s", ctx[0].err.text);
        close_all(&ctx[0], r[0]);
    }
    for (i = 0; both && fill && i < 2; i++) {
        r[i] = NULL;
        CHECK_MSG(fill_up(&ctx[i], m[i], 2, &r[i]) == AWQ_OK, "model %d: %s", i, ctx[i].err.text);
    }
    for (i = 0; i < 2; i++) {
        close_all(&ctx[i], r[i]);
        CHECK(awq_model_free(&ctx[i], m[i]) == AWQ_OK && ctx[i].memory_used == 0);
        tiny_free(&t[i]);
    }
    CHECK(!c->shares);
    done(&gpu, c);
    return both;
}

/* another model is loaded between the placing of a model and its loading */
static awq_status (*fit_of_device)(awq_ctx *, awq_device *, const awq_checkpoint *, const awq_model_desc *,
                                   awq_device_memory *);
static awq_ctx *other_ctx;
static awq_model_desc other_desc;
static awq_model *other;
static awq_status fit_then_another(awq_ctx *ctx, awq_device *d, const awq_checkpoint *ck, const awq_model_desc *desc,
                                   awq_device_memory *m)
{
    awq_status st = fit_of_device(ctx, d, ck, desc, m);
    d->fit = fit_of_device;
    CHECK_MSG(awq_model_load(other_ctx, "m", &other_desc, &other) == AWQ_OK, "%s", other_ctx->err.text);
    return st;
}

/* limit: of the GPU, on which one of them has a place */
static void another_comes(size_t limit)
{
    awq_ctx gpu, ctx[2];
    awq_cuda *c = need(&gpu, limit);
    awq_device *list[1];
    awq_model_desc d;
    awq_model *m = NULL;
    awq_runner *r = NULL;
    tiny t[2];
    list[0] = awq_cuda_device(c);
    make_kind(&t[0], GEMM_4, &other_desc);
    make_kind(&t[1], DENSE, &d);
    ctx[0] = tiny_ctx(&t[0]);
    ctx[1] = tiny_ctx(&t[1]);
    other_ctx = &ctx[0];
    d.devices = other_desc.devices = list;
    d.n_devices = other_desc.n_devices = 1;
    d.device_tokens = other_desc.device_tokens = 2 * 64;
    fit_of_device = list[0]->fit;
    list[0]->fit = fit_then_another;
    CHECK(awq_model_load(&ctx[1], "m", &d, &m) == AWQ_E_MEMORY && !m && ctx[1].memory_used == 0);
    CHECK_MSG(strstr(ctx[1].err.text, "m: layers 0 to 0 need ") && strstr(ctx[1].err.text, " that no other model was told of"),
              "%s", ctx[1].err.text);
    CHECK_MSG(other && fill_up(&ctx[0], other, 2, &r) == AWQ_OK, "%s", ctx[0].err.text);
    close_all(&ctx[0], r);
    CHECK(awq_model_free(&ctx[0], other) == AWQ_OK && ctx[0].memory_used == 0 && !c->shares);
    tiny_free(&t[0]);
    tiny_free(&t[1]);
    done(&gpu, c);
}

/* The second model is placed beside all that the first was told it will take, though it has no buffers and pages yet:
   with the least memory in which both have a place both work, and neither takes what the other was told of. */
static void test_two_models(void)
{
    size_t few = (size_t)1 << 20, enough = (size_t)64 << 20;
    NEED_EMULATOR;
    CHECK(!two_models(few, 0) && two_models(enough, 0));
    while (enough - few > 4096) {
        size_t limit = few + (enough - few) / 8192 * 4096;
        if (two_models(limit, 0)) enough = limit;
        else few = limit;
    }
    CHECK(two_models(enough, 1) && two_models(enough, 2));
    another_comes(few);
}

/* a model in the context, on the stream and in the memory of the program */
typedef struct program {
    awq__cuda_driver cu;
    long blocks, calls, fail_at; /* fail_at: from 0; negative: none */
    size_t bytes;
} program;

static uint64_t program_alloc(void *user, size_t bytes)
{
    program *p = (program *)user;
    uint64_t ptr = 0;
    if (p->calls++ == p->fail_at || p->cu.MemAlloc(&ptr, bytes)) return 0;
    p->blocks++;
    p->bytes += bytes;
    return ptr;
}

static void program_free(void *user, uint64_t ptr, size_t bytes)
{
    program *p = (program *)user;
    CHECK(!p->cu.MemFree(ptr));
    p->blocks--;
    p->bytes -= bytes;
}

/* what world's model says on c; AWQ_E_MEMORY where the program has none */
static awq_status say(awq_ctx *ctx, awq_cuda *c, const int32_t *ids, int n, int32_t *out)
{
    awq_device *list[1];
    awq_generate_desc d;
    awq_model_desc md;
    awq_model *m = NULL;
    awq_status st;
    memset(&d, 0, sizeof d);
    memset(&md, 0, sizeof md);
    list[0] = awq_cuda_device(c);
    md.devices = list;
    md.n_devices = 1;
    d.ids = ids;
    d.n_ids = n;
    d.max_tokens = SAID;
    d.ignore_eos = 1;
    d.out_ids = out;
    st = awq_model_load(ctx, "m", &md, &m);
    if (!st) st = awq_generate(ctx, m, &d, NULL);
    CHECK(awq_model_free(ctx, m) == AWQ_OK);
    return st;
}

static void test_program(void)
{
    int (*create)(void **context, unsigned flags, int device), (*destroy)(void *context), (*current)(void **context);
    void *lib, *context = NULL, *other = NULL, *stream = NULL, *now = NULL;
    int32_t ids[20], want[SAID], got[SAID];
    awq_cuda_desc d;
    awq_ctx gpu;
    program p;
    world w;
    uint64_t seed = 31;
    long calls_made = 0;
    char text[256];
    int round;
    NEED_EMULATOR;
    world_open(&w, 0);
    some_ids(&seed, ids, 20);
    d = fresh();
    setenv("AWQ_EMULATOR_DEVICES", "2", 1);
    memset(&gpu, 0, sizeof gpu);
    memset(&p, 0, sizeof p);
    p.fail_at = -1;
    lib = dlopen(emulator, RTLD_NOW);
    CHECK(lib && !awq__cuda_bind(lib, awq__cuda_driver_symbols, &p.cu));
    *(void **)&create = dlsym(lib, "cuCtxCreate_v2");
    *(void **)&destroy = dlsym(lib, "cuCtxDestroy_v2");
    *(void **)&current = dlsym(lib, "cuCtxGetCurrent");
    CHECK(!p.cu.Init(0) && !create(&context, 0, 1) && !p.cu.StreamCreate(&stream, 0) && !create(&other, 0, 0));
    for (round = 0; round < 5; round++) { /* all its own; the context; the stream; both; both and its memory */
        awq_cuda *c = NULL;
        d.context = round == 1 || round > 2 ? context : NULL;
        d.stream = round > 1 ? stream : NULL;
        d.alloc = round == 4 ? program_alloc : NULL;
        d.free = round == 4 ? program_free : NULL;
        d.user = &p;
        CHECK_MSG(awq_cuda_create(&gpu, &d, &c) == AWQ_OK, "%s", gpu.err.text);
        if (!c) break;
        CHECK(!round || (c->context == context && !strcmp(awq_cuda_device(c)->name, "cuda:1 (Emulated GPU 1)")));
        calls_made = calls("cuMemAlloc_v2");
        p.calls = 0;
        CHECK_MSG(say(&w.ctx, c, ids, 20, round ? got : want) == AWQ_OK, "%s", w.ctx.err.text);
        CHECK(!round || !memcmp(got, want, sizeof want));
        CHECK(round < 4 || (p.calls > 5 && p.calls == calls("cuMemAlloc_v2") - calls_made));
        CHECK(!current(&now) && now == other);
        awq_cuda_free(&gpu, c);
        CHECK(p.blocks == 0 && p.bytes == 0 && gpu.memory_used == 0 && !current(&now) && now == other);
        CHECK(live(text, sizeof text) == 3); /* the stream, and two contexts that are current */
    }
    for (p.fail_at = 0; p.fail_at < 100; p.fail_at++) { /* it has no block to give, once */
        awq_cuda *c = NULL;
        awq_status st;
        p.calls = 0;
        st = awq_cuda_create(&gpu, &d, &c);
        if (st) CHECK(st == AWQ_E_MEMORY && strstr(gpu.err.text, ": the program has no block of "));
        else if ((st = say(&w.ctx, c, ids, 20, got)) != AWQ_OK)
            CHECK_MSG(st == AWQ_E_MEMORY && strstr(w.ctx.err.text, ": the program has no block of "), "%s", w.ctx.err.text);
        else CHECK(!memcmp(got, want, sizeof want));
        awq_cuda_free(&gpu, c);
        CHECK(p.blocks == 0 && p.bytes == 0 && gpu.memory_used == 0 && !current(&now) && now == other);
        if (!st) break;
    }
    CHECK(p.fail_at > 5 && p.fail_at < 100);
    CHECK(!destroy(other) && !p.cu.CtxPushCurrent(context) && !p.cu.StreamDestroy(stream) && !p.cu.CtxPopCurrent(&now)
          && !destroy(context));
    CHECK_MSG(live(text, sizeof text) == 0, "%s", text);
    unsetenv("AWQ_EMULATOR_DEVICES");
    world_close(&w);
}

/* Time and cancelling are looked at between layers: an answer cancelled at each cut, and one computed a
   microsecond at a time, are the answer. layers: of two on the GPU. */
static void cuts(int layers)
{
    awq_ctx gpu;
    awq_cuda *c = need(&gpu, 0);
    int32_t ids[40], many[90], out[4], want[4];
    awq_generate_desc d;
    awq_step_info f;
    awq_session *s;
    awq_runner *run;
    uint64_t seed = 13;
    long k, left, reached = 1, steps, inside;
    int64_t op;
    awq_status st;
    int i, cancelled;
    world w;
    use_device(c, layers);
    world_open(&w, 0);
    some_ids(&seed, ids, 40);
    memset(&d, 0, sizeof d);
    d.max_tokens = 4;
    d.ignore_eos = 1;
    alone(&w, &d, ids, 40, want, NULL);
    run = runner(&w.ctx, w.m, 30, 10, 0);
    s = session(&w.ctx, run, 128);
    d.out_ids = out;
    w.ctx.user = &left;
    for (k = 0; reached; k++) { /* with time for one layer; stopped once, at cut k */
        memset(out, 0, sizeof out);
        CHECK(awq_session_rewind(&w.ctx, s, 0) == AWQ_OK);
        ask(&w.ctx, s, &d, ids, 40);
        left = k;
        cancelled = 0;
        w.ctx.progress = cancel_at;
        do {
            st = awq_step(&w.ctx, run, NULL, 0, k % 2 ? 1 : AWQ_NO_BUDGET, &f);
            CHECK(st == AWQ_OK || (st == AWQ_E_CANCELLED && strstr(w.ctx.err.text, "step: cancelled at ")));
            cancelled += st == AWQ_E_CANCELLED;
        } while (f.busy && cancelled < 2);
        reached = left < 0;
        CHECK_MSG(cancelled == reached && !memcmp(out, want, sizeof out) && check_pages(run), "cut %ld", k);
    }
    CHECK_MSG(k > 5 * 3, "%ld cuts", k); /* 5 passes, each some layers, the end and the head */
    for (i = 0; i < 2; i++) { /* each step moves on, also when each is cancelled */
        memset(out, 0, sizeof out);
        CHECK(awq_session_rewind(&w.ctx, s, 0) == AWQ_OK);
        ask(&w.ctx, s, &d, ids, 40);
        w.ctx.progress = i ? cancel_at : NULL;
        steps = inside = 0;
        do {
            op = run->op;
            left = 0;
            st = awq_step(&w.ctx, run, NULL, 0, 1, &f);
            CHECK(st == (i ? AWQ_E_CANCELLED : AWQ_OK));
            CHECK(run->op != op || run->count);
            inside += run->n_ops && (run->op == 2 || run->op == 1 + AWQ__N_STEPS); /* behind the first layer */
        } while (f.busy && ++steps < 10000);
        CHECK(!f.busy && !memcmp(out, want, sizeof out));
        CHECK_MSG(inside >= 1, "%ld of %ld steps ended between the layers", inside, steps);
    }
    w.ctx.progress = NULL;
    close_all(&w.ctx, run);
    run = runner(&w.ctx, w.m, 96, 96, 0); /* many rows at once, without a budget: a hook is asked behind a layer */
    s = session(&w.ctx, run, 128);
    for (i = 0; i < 90; i++) many[i] = ids[i % 40];
    for (i = 1; i >= 0; i--) { /* one layer first, since nothing has been timed */
        CHECK(awq_session_rewind(&w.ctx, s, 0) == AWQ_OK);
        ask(&w.ctx, s, &d, many, 90);
        left = 1;
        w.ctx.progress = i ? cancel_at : NULL;
        st = awq_step(&w.ctx, run, NULL, 0, AWQ_NO_BUDGET, &f);
        CHECK(st == (i ? AWQ_E_CANCELLED : AWQ_OK) && (!i || run->op == 2 || run->op == 1 + AWQ__N_STEPS));
        w.ctx.progress = NULL;
        while (f.busy) CHECK(awq_step(&w.ctx, run, NULL, 0, AWQ_NO_BUDGET, &f) == AWQ_OK);
        CHECK(i || !memcmp(out, want, sizeof out));
        memcpy(want, out, sizeof out);
    }
    close_all(&w.ctx, run);
    world_close(&w);
    use_device(NULL, 0);
    done(&gpu, c);
}

static void test_cuts_on_device(void)
{
    NEED_EMULATOR;
    cuts(2);
    cuts(1);
}

/* A kernel goes wrong in the middle of an answer: whatever is asked of the GPU says so, everything can be freed, a
   model on the CPU is not touched by it, and a new awq_cuda works. */
static void test_lost_model(void)
{
    static const char *const sentence = "CUDA device 0 (Emulated GPU 0) is lost to its context: ";
    int32_t ids[40], want[SAID], got[SAID];
    uint64_t seed = 17;
    int round;
    NEED_EMULATOR;
    some_ids(&seed, ids, 40);
    for (round = 0; round < 4; round++) { /* a launch fails; a kernel reads where nothing is. One layer of two, both. */
        awq_ctx gpu;
        awq_cuda *c = need(&gpu, 0);
        awq_generate_desc d;
        awq_runner *run;
        awq_session *s, *late = NULL;
        awq_session_desc sd;
        awq_model *other = NULL;
        awq_model_desc md;
        world w, cpu;
        uint8_t state[65536];
        uint64_t at;
        awq__cuda_block *block;
        int steps = 0;
        memset(&d, 0, sizeof d);
        memset(&md, 0, sizeof md);
        memset(&sd, 0, sizeof sd);
        world_open(&cpu, 0);
        d.max_tokens = SAID;
        d.ignore_eos = 1;
        alone(&cpu, &d, ids, 40, want, NULL);
        use_device(c, 1 + round / 2);
        world_open(&w, 0);
        run = runner(&w.ctx, w.m, 30, 10, 0);
        s = session(&w.ctx, run, 128);
        ask(&w.ctx, s, &d, ids, 40);
        while (s->reading) CHECK(awq_step(&w.ctx, run, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK);
        at = ((awq__cuda_share *)w.m->share[0].data)->layer[0].linear[AWQ_O_PROJ].weights;
        for (block = c->blocks; block && (at < block->ptr || at >= block->ptr + block->bytes); block = block->next) {}
        if (round % 2) CHECK(block && !c->cu.MemFree(block->ptr));
        else setenv("AWQ_EMULATOR_FAIL", "cuLaunchKernelEx:5=719,cuGraphLaunch:1=719", 1);
        while (steps++ < 100 && awq_step(&w.ctx, run, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK) {}
        CHECK_MSG(steps < 100 && w.ctx.err.status == AWQ_E_DEVICE && strstr(w.ctx.err.text, sentence), "%s", w.ctx.err.text);
        CHECK_MSG(strstr(w.ctx.err.text, round % 2 ? "CUDA_ERROR_ILLEGAL_ADDRESS (700)" : "CUDA_ERROR_LAUNCH_FAILED (719)")
                      && strstr(w.ctx.err.text, "; free what is on it and start the program again"), "%s", w.ctx.err.text);
        CHECK(awq_step(&w.ctx, run, NULL, 0, 100, NULL) == AWQ_E_DEVICE && strstr(w.ctx.err.text, sentence));
        CHECK(awq_session_busy(s) && awq_session_bytes(s) <= sizeof state);
        CHECK(awq_session_save(&w.ctx, s, state, awq_session_bytes(s)) == AWQ_E_DEVICE && strstr(w.ctx.err.text, sentence));
        sd.max_tokens = 4096; /* more pages than there are */
        CHECK(awq_session_create(&w.ctx, run, &sd, &late) == AWQ_E_DEVICE && !late && strstr(w.ctx.err.text, sentence));
        md.devices = TEST_DEVICES.device;
        md.n_devices = 1;
        CHECK(awq_model_load(&w.ctx, "m", &md, &other) == AWQ_E_DEVICE && !other && strstr(w.ctx.err.text, sentence));
        memset(got, 0, sizeof got);
        alone(&cpu, &d, ids, 40, got, NULL);
        CHECK(!memcmp(got, want, sizeof want));
        close_all(&w.ctx, run);
        world_close(&w);
        done(&gpu, c);
        c = need(&gpu, 0);
        use_device(NULL, 0);
        memset(got, 0, sizeof got);
        CHECK_MSG(say(&cpu.ctx, c, ids, 40, got) == AWQ_OK, "%s", cpu.ctx.err.text);
        done(&gpu, c);
        world_close(&cpu);
    }
}

/* --- larger ones */

/* Experts that layers choose, of a pass of ROUTED rows: a layer at a time, so that each can be asked. */
enum { ROUTED = 40, ROUTED_LAYERS = 4, ROUTED_TOP = 8 };
static awq_status (*layers_of_device)(awq_ctx *, void *, const awq__work *, int, int);
static int32_t (*routed)[ROUTED * ROUTED_TOP]; /* [layer][row][top] */
static awq_cuda *routing;                      /* NULL: the device is the CPU */
static double score_error;                     /* largest there was, over sum |x w| */

/* the router's scores of a layer that has just been, from what is left of it: the sum after it and its MLP */
static awq_status check_scores(awq_ctx *ctx, const awq__cuda_work *w, int layer)
{
    const awq_model *m = w->s->m;
    const awq_config *c = &m->config;
    const int64_t H = c->hidden_size, E = c->num_experts, row = AWQ__CUDA_PAD(H);
    const float *norm = m->layers[layer].vec[AWQ_POST_NORM];
    float *x = (float *)malloc((size_t)(ROUTED * H) * 4), *out = (float *)malloc((size_t)(ROUTED * H) * 4),
          *scores = (float *)malloc((size_t)(ROUTED * E) * 4);
    uint16_t *weights = (uint16_t *)malloc((size_t)(E * row) * 2);
    float *bias = (float *)calloc((size_t)E, 4);
    const awq_cuda_linear *l = &w->s->layer[layer - w->s->first].linear[AWQ_ROUTER];
    int64_t r, e, i;
    awq_status st = awq_cuda_download(ctx, routing, x, w->x, (size_t)(ROUTED * H) * 4);
    if (!st) st = awq_cuda_download(ctx, routing, out, w->out, (size_t)(ROUTED * H) * 4);
    if (!st) st = awq_cuda_download(ctx, routing, scores, w->scores, (size_t)(ROUTED * E) * 4);
    if (!st) st = awq_cuda_download(ctx, routing, weights, l->weights, (size_t)(E * row) * 2);
    if (!st && l->bias) st = awq_cuda_download(ctx, routing, bias, l->bias, (size_t)E * 4);
    for (r = 0; !st && r < ROUTED; r++) {
        double squares = 0;
        for (i = 0; i < H; i++) {
            x[r * H + i] -= (float)c->residual_scale * out[r * H + i];
            squares += (double)x[r * H + i] * x[r * H + i];
        }
        for (e = 0; e < E; e++) {
            double sum = bias[e], size = fabs(sum);
            for (i = 0; i < H; i++) {
                double v = x[r * H + i] * norm[i] / sqrt(squares / (double)H + c->rms_norm_eps)
                           * awq__bf16_float(weights[e * row + i]);
                sum += v;
                size += fabs(v);
            }
            sum = fabs(scores[r * E + e] - sum) / size;
            if (!(sum <= score_error)) score_error = sum;
        }
    }
    free(x);
    free(out);
    free(scores);
    free(weights);
    free(bias);
    return st;
}

static awq_status layers_told(awq_ctx *ctx, void *work, const awq__work *from, int first, int n)
{
    const awq_config *c = routing ? &((awq__cuda_work *)work)->s->m->config : &((cpu_work *)work)->s->m->config;
    const size_t bytes = (size_t)(ROUTED * c->experts_per_token) * sizeof(int32_t);
    int i;
    for (i = first; i < first + n; i++) {
        AWQ__TRY(layers_of_device(ctx, work, from, i, 1));
        if (!c->layer_has_experts[i]) continue;
        if (!routing) memcpy(routed[i], ((cpu_work *)work)->w.pick, bytes);
        else {
            AWQ__TRY(awq_cuda_download(ctx, routing, routed[i], ((awq__cuda_work *)work)->pick, bytes));
            AWQ__TRY(check_scores(ctx, (awq__cuda_work *)work, i));
        }
    }
    return AWQ_OK;
}

/* bf16 checkpoints with experts: routers read 16 bits of x, though other linears read 8, so that of the same x
   the CPU's experts are chosen. x itself comes from linears that read 8: some choices of these random models,
   whose scores lie close, are others, and the rows from there on say something else. */
static void test_routing(void)
{
    static int32_t picks[2][ROUTED_LAYERS][ROUTED * ROUTED_TOP];
    awq_ctx gpu, ctx;
    awq_cuda *c;
    cpu_device cpu;
    size_t i;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA names no folder");
    NEED_EMULATOR;
    c = need(&gpu, 0);
    for (i = ROUTED_FIRST; c && i <= ROUTED_LAST; i++) {
        int k, other = 0, all = 0, rows = ROUTED, layer, r, j, e, top = 0;
        float *logits[2] = {NULL, NULL};
        int64_t vocab = 0, n;
        double off = 0, most = 0;
        memset(&ctx, 0, sizeof ctx);
        memset(picks, 0xff, sizeof picks);
        cpu_device_make(&cpu, 100);
        score_error = 0;
        for (k = 0; k < 2; k++) {
            awq_device *list[1];
            awq_model_desc d;
            awq_model *m = NULL;
            int32_t ids[ROUTED];
            char folder[600];
            memset(&d, 0, sizeof d);
            list[0] = k ? awq_cuda_device(c) : &cpu.d;
            routing = k ? c : NULL;
            routed = picks[k];
            layers_of_device = list[0]->layers;
            list[0]->layers = layers_told;
            d.mode = AWQ_MODE_DETERMINISTIC;
            d.devices = list;
            d.n_devices = d.no_tokenizer = 1;
            snprintf(folder, sizeof folder, "%s/fixtures/models/%s", TEST_DATA(), families[i]);
            CHECK_MSG(awq_model_load(&ctx, folder, &d, &m) == AWQ_OK, "%s: %s", folder, ctx.err.text);
            if (!m) break;
            top = awq_model_config(m)->experts_per_token;
            CHECK(awq_model_config(m)->dtype == AWQ_BF16 && awq_model_config(m)->num_hidden_layers <= ROUTED_LAYERS
                  && top <= ROUTED_TOP);
            vocab = awq_model_config(m)->vocab_size;
            for (j = 0; j < ROUTED; j++) ids[j] = (int32_t)((j * 37 + 11) % vocab);
            logits[k] = logits_of(&ctx, m, ids, ROUTED, 0);
            CHECK(awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0);
            list[0]->layers = layers_of_device;
        }
        for (layer = 0; layer < ROUTED_LAYERS; layer++)
            for (r = 0; r < ROUTED; r++)
                for (j = 0; j < top && picks[0][layer][r * top] >= 0; j++) { /* in any order */
                    for (e = 0; e < top && picks[1][layer][r * top + e] != picks[0][layer][r * top + j]; e++) {}
                    other += e == top;
                    if (e == top) rows = AWQ__MIN(rows, r);
                    all++;
                }
        for (n = 0; logits[1] && n < ROUTED * vocab; n++) {
            double d = fabs((double)logits[0][n] - logits[1][n]);
            if (fabs(logits[0][n]) > most) most = fabs(logits[0][n]);
            if (n < rows * vocab && !(d <= off)) off = d;
        }
        free(logits[0]);
        free(logits[1]);
        printf("    %-12s scores within %.1e; %d of %d choices are others than the CPU's, before them logits within %.4f\n",
               families[i], score_error, other, all, off / most);
        CHECK_MSG(score_error > 0 && score_error < 0x1p-16, "%s: scores are off by %g", families[i], score_error);
        CHECK_MSG(all >= ROUTED && other <= all / 20 && rows > 0, "%s", families[i]);
        CHECK_MSG(off <= most / 32, "%s: %d rows off by %g of the largest logit", families[i], rows, off / most);
    }
    done(&gpu, c);
}

static void test_families(void)
{
    awq_ctx gpu, ctx;
    awq_cuda *c;
    size_t i;
    if (!TEST_DATA()) {
        printf("    skipped: AWQ_TEST_DATA names no folder\n");
        T.skip = 1;
        return;
    }
    NEED_EMULATOR;
    c = need(&gpu, 0);
    for (i = 0; c && i < FAMILIES; i++) {
        awq_device *list[1];
        awq_model_desc d;
        char folder[600];
        double off;
        if (i >= ROUTED_FIRST && i <= ROUTED_LAST) continue;
        memset(&ctx, 0, sizeof ctx);
        memset(&d, 0, sizeof d);
        list[0] = awq_cuda_device(c);
        d.devices = list;
        d.n_devices = 1;
        d.no_tokenizer = 1;
        snprintf(folder, sizeof folder, "%s/fixtures/models/%s", TEST_DATA(), families[i]);
        off = difference(&ctx, folder, &d, 40, 0);
        CHECK_MSG(off <= 1.0 / 32, "%s: off by %g of the largest logit", families[i], off);
        CHECK(ctx.memory_used == 0);
    }
    done(&gpu, c);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    find_emulator();
    RUN(test_logits);
    RUN_PLAIN(test_same_bits);
    RUN_PLAIN(test_same_bits_split);
    RUN(test_steps);
    RUN_PLAIN(test_demo);
    RUN(test_sessions);
    RUN(test_sessions_divided);
    RUN(test_every_call);
    RUN(test_every_allocation);
    RUN(test_short_memory);
    RUN_PLAIN(test_memory_told);
    RUN(test_two_models);
    RUN(test_program);
    RUN(test_cuts_on_device);
    RUN(test_lost_model);
    RUN_PLAIN(test_routing);
    RUN(test_families);
    return TEST_END();
}
