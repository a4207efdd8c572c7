/* gpu.c - awq_cuda.h on a GPU: every kernel against the CPU, models of all kinds against the CPU's exact mode,
   divided models, steps that are cut, quantizing against the CPU's; then how fast it is, as tables for
   tests/bench/RESULTS.md: starting, linear layers and whole models beside this GPU's memory, cuBLAS

       gpu                   on a GPU, which takes minutes; says so and is done where there is none (a card that does
                             not start is a failure, and so is none at all with AWQ_NEED_GPU set)
       gpu NAME              only the tests whose name contains it, no times: for compute-sanitizer
       gpu --times [WORD]    only times: start, decode, layers; the limit, which the last two need, too
       gpu --try             on the emulated driver ($AWQ_CUDA_EMULATOR), few tokens and small shapes: does this program work?

   Times of layers are of a recorded sequence of at least 100 launches over different weights of more than 200 MB together,
   so that the second cache does not flatter, median of 7. The limit is read by a kernel that only reads. cuBLAS
   (AWQ_CUBLAS, or the usual names) computes the same shapes in FP16, likewise. Models have the shapes of known ones and
   random weights, which are made as they are read (tests/synthetic.h). What fails is told, and the rest goes on. */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#define AWQ_CUDA_IMPLEMENTATION
#include "../../awq_cuda.h"
#include "../test.h"
#define DIR "build/test_gpu"
#include "../quantizing.h"
#include "../synthetic.h"
#include <time.h>

enum { MOST_COPIES = 256 };

static awq_ctx ctx;
static awq_cuda_desc opened; /* with which the GPU is opened */
static awq_cuda *gpu;
static int not_recorded; /* passes that the driver did not record */
static int trying;
static double limit; /* bytes a second */

static int die(const char *what)
{
    printf("%s: %s\n", what, ctx.err.text);
    return 1;
}

static void told(void *user, awq_log_level level, const char *text)
{
    (void)user;
    not_recorded += strstr(text, "not recorded") != NULL;
    if (level == AWQ_LOG_WARN || strstr(text, "not recorded")) printf("    %s\n", text);
}

/* --- is it right? */
static void test_kernels(void)
{
    CHECK_MSG(awq_cuda_selftest(&ctx, gpu) == AWQ_OK, "%s", ctx.err.text);
}

static void test_models(void)
{
    static const struct {
        const char *name;
        int rtn, head;
        awq_mode mode;
    } kinds[] = {{"dense", 0, 0, AWQ_MODE_FAST}, {"4 bits", 4, 0, AWQ_MODE_FAST}, {"8 bits, head of 8", 8, 8, AWQ_MODE_FAST},
                 {"4 bits, same bits", 4, 0, AWQ_MODE_DETERMINISTIC}};
    awq_device *list[1];
    size_t k;
    list[0] = awq_cuda_device(gpu);
    for (k = 0; k < (trying ? 2 : sizeof kinds / sizeof kinds[0]); k++) {
        awq_model_desc d;
        double off;
        memset(&d, 0, sizeof d);
        d.rtn_bits = kinds[k].rtn;
        d.head_bits = kinds[k].head;
        d.mode = kinds[k].mode;
        d.devices = list;
        d.n_devices = 1;
        off = difference(&ctx, DEMO, &d, trying ? 20 : 300, 0);
        printf("    %-20s %.5f of the largest logit\n", kinds[k].name, off);
        CHECK_MSG(off <= 1.0 / 128, "%s", kinds[k].name);
        CHECK_MSG(!not_recorded, "%s: %d passes are not recorded", kinds[k].name, not_recorded);
    }
}

/* Tiny ones of all kinds; then the families four times as wide, with heads of 128 and latent ones of 192, in 4
   bits, read by so many rows that their experts are computed by the kernels of many. */
static void test_kinds(void)
{
    awq_device *list[1];
    int k;
    list[0] = awq_cuda_device(gpu);
    for (k = 0; k < KINDS + OWN_FAMILIES; k++) {
        const int wide = k >= KINDS, kind = wide ? k - OWN_FAMILIES : k, n = wide ? 120 : 40;
        awq_model_desc d;
        awq_ctx c;
        char name[64];
        double off;
        tiny t;
        snprintf(name, sizeof name, "%s%s", wide ? "wide " : "", kind_names[kind]);
        if (kind == BF16 && gpu->info.compute_major < 8) continue;
        memset(&d, 0, sizeof d);
        if (wide) make_own(&t, kind - FAMILY_KINDS, 4);
        else make_kind(&t, kind, &d);
        if (wide) d.rtn_bits = 4;
        c = tiny_ctx(&t);
        c.jobs = ctx.jobs;
        c.log = told;
        d.devices = list;
        d.n_devices = 1;
        off = difference(&c, "m", &d, n, kind_others(kind, n));
        printf("    %-20s %.5f of the largest logit\n", name, off);
        CHECK_MSG(off <= kind_bound(kind), "%s", name);
        if (!trying || wide) check_same_bits(name, &c, "m", &d, trying ? 8 : n);
        CHECK_MSG(!not_recorded && c.memory_used == 0, "%s", name);
        tiny_free(&t);
    }
}

/* --- divided models, and steps that are cut */
static int cancel_always(void *user, const awq_progress *p)
{
    (void)user, (void)p;
    return 1;
}

static const struct {
    const char *name;
    int64_t budget;
    int (*cancel)(void *user, const awq_progress *p);
} cuts[] = {{"whole passes", AWQ_NO_BUDGET, NULL},
            {"1 us at a time", 1, NULL},
            {"each step cancelled", 1, cancel_always}};
enum { CUTS = sizeof cuts / sizeof cuts[0], SAID = 24 };

/* the greedy answer to n tokens, in steps that are cut so */
static void answer(const awq_model *m, const char *name, int cut, int n, int tokens, int32_t *out)
{
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_generate_desc d;
    awq_runner *r = NULL;
    awq_session *s = NULL;
    awq_step_info info;
    int32_t ids[MOST_IDS];
    double longest = 0;
    long steps = 0;
    awq_status st;
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    memset(&d, 0, sizeof d);
    spread_ids(m, ids, n);
    rd.max_rows = 128;
    sd.max_tokens = n + tokens;
    d.ids = ids;
    d.n_ids = n;
    d.max_tokens = tokens;
    d.ignore_eos = 1;
    d.out_ids = out;
    st = awq_runner_create(&ctx, m, &rd, &r);
    if (!st) st = awq_session_create(&ctx, r, &sd, &s);
    if (!st) st = awq_ask(&ctx, s, &d);
    ctx.progress = cuts[cut].cancel;
    for (; !st && awq_session_busy(s) && steps < 100000; steps++) {
        st = awq_step(&ctx, r, NULL, 0, cuts[cut].budget, &info);
        if (cuts[cut].cancel && st == AWQ_E_CANCELLED) st = AWQ_OK;
        longest = AWQ__MAX(longest, info.seconds);
    }
    ctx.progress = NULL;
    if (!st) st = awq_session_answer(&ctx, s, NULL);
    CHECK_MSG(!st, "%s, %s: %s", name, cuts[cut].name, ctx.err.text);
    printf("    %-20s %-20s %ld steps, the longest of %.2f ms\n", name, cuts[cut].name, steps, longest * 1e3);
    CHECK_MSG(!cut || steps > 2 * tokens, "%s, %s: %ld steps", name, cuts[cut].name, steps);
    awq_session_free(&ctx, s);
    awq_runner_free(&ctx, r);
}

/* What this GPU says is what it says as two of a model's devices, bit for bit; with the rest on the CPU it is
   near. An answer is the same however its steps are cut. */
static void test_divided(void)
{
    static const struct {
        const char *name;
        int layers[2], devices;
    } places[] = {{"all on this GPU", {8, 0}, 1},
                  {"on it and it again", {5, 3}, 2},
                  {"the rest on the CPU", {4, 0}, 1}};
    const int n = trying ? 12 : 300, tokens = trying ? 3 : SAID;
    awq_device *list[2];
    awq_cuda *second = NULL;
    float *logits[3];
    int32_t ids[MOST_IDS], whole[SAID], out[SAID];
    int k, cut;
    CHECK_MSG(awq_cuda_create(&ctx, &opened, &second) == AWQ_OK, "%s", ctx.err.text);
    if (!second) return;
    list[0] = awq_cuda_device(gpu);
    list[1] = awq_cuda_device(second);
    memset(whole, 0, sizeof whole);
    for (k = 0; k < 3; k++) {
        const char *name = places[k].name;
        awq_model_desc d;
        awq_model *m = NULL;
        size_t bytes;
        double off;
        memset(&d, 0, sizeof d);
        d.mode = AWQ_MODE_DETERMINISTIC;
        d.rtn_bits = 4;
        d.devices = list;
        d.n_devices = places[k].devices;
        d.device_layers = places[k].layers;
        d.rest_on_cpu = 1;
        off = difference(&ctx, DEMO, &d, n, 0);
        CHECK_MSG(off <= 1.0 / 128, "%s: off by %g of the largest logit", name, off);
        CHECK_MSG(awq_model_load(&ctx, DEMO, &d, &m) == AWQ_OK, "%s: %s", name, ctx.err.text);
        logits[k] = NULL;
        if (!m) continue;
        spread_ids(m, ids, n);
        logits[k] = logits_of(&ctx, m, ids, n, 0);
        for (cut = 0; cut < CUTS; cut++) {
            memset(out, 0xff, sizeof out);
            answer(m, name, cut, n, tokens, out);
            if (!cut && k != 1) memcpy(whole, out, sizeof out);
            CHECK_MSG(!memcmp(whole, out, sizeof out), "%s, %s: another answer", name, cuts[cut].name);
        }
        bytes = (size_t)n * (size_t)awq_model_config(m)->vocab_size * sizeof(float);
        CHECK_MSG(k != 1 || !logits[0] || !memcmp(logits[0], logits[1], bytes), "%s: other logits", name);
        CHECK(awq_model_free(&ctx, m) == AWQ_OK);
    }
    for (k = 0; k < 3; k++) free(logits[k]);
    awq_cuda_free(&ctx, second);
}

/* --- quantizing */

/* Small models by few tokens, which none is held out of, and the demo's by text: the same bytes twice. On random tokens
   of random models one code that is rounded the other way moves what method best makes of the rest. */
static void test_quantized(void)
{
    enum { DEMOS = -2, SMALL };
    static const struct {
        const char *name;
        int family, wide;
        awq_method method;
    } kinds[] = {{"awq", SMALL, 1, AWQ_METHOD_AWQ},
                 {"best", SMALL, 1, AWQ_METHOD_BEST},
                 {"mixtral, best", OWN_MIXTRAL, 1, AWQ_METHOD_BEST},
                 {"demo, best", DEMOS, 1, AWQ_METHOD_BEST},
                 {"demo, awq", DEMOS, 1, AWQ_METHOD_AWQ},
                 {"gemma2, awq", OWN_GEMMA2, 1, AWQ_METHOD_AWQ},
                 {"wide olmo2, awq", OWN_OLMO2, 4, AWQ_METHOD_AWQ},
                 {"wide mixtral, best", OWN_MIXTRAL, 4, AWQ_METHOD_BEST},
                 {"wide starcoder2, best", OWN_STARCODER2, 4, AWQ_METHOD_BEST},
                 {"wide deepseek_v2, best", OWN_DEEPSEEK, 4, AWQ_METHOD_BEST}};
    awq_calibration few, demo;
    uint64_t seed = 3;
    size_t k;
    if (gpu->info.compute_major < 8) TEST_SKIP("quantizing needs compute capability 8.0");
    make_text(&seed);
    few = text;
    few.n_blocks = trying ? 1 : 3;
    demo_text(&ctx, 4, &demo);
    for (k = 0; k < (trying ? 3 : sizeof kinds / sizeof kinds[0]); k++) {
        const int family = kinds[k].family;
        const char *source = family == SMALL ? save_small(1) : DEMO;
        tiny t;
        run q;
        if (family >= 0) {
            make_own(&t, family, kinds[k].wide);
            source = save(&t, "own");
            tiny_free(&t);
        }
        q = prepare(source, fresh("cpu"), kinds[k].method);
        q.d.calibration = family == DEMOS ? &demo : &few;
        q.ctx.jobs = ctx.jobs;
        on_both(kinds[k].name, q, awq_cuda_device(gpu), trying ? 1 : 2, family == DEMOS ? 0.02 : 0.1);
    }
    awq_calibration_free(&ctx, &demo);
}

/* the work of the passes, as the device is given it: to look at its recorded passes, or to have none */
static awq_status (*layers_of_device)(awq_ctx *, void *, const awq__work *, int, int);
static awq__cuda_work *last_work;
static int unrecorded;
static awq_status layers_told(awq_ctx *c, void *work, const awq__work *from, int first, int n)
{
    last_work = (awq__cuda_work *)work;
    if (unrecorded) last_work->plain = 1;
    return layers_of_device(c, work, from, first, n);
}

/* Tokens one at a time say the same to the bit whether their passes are recorded or not and overlap or not, and in
   deterministic mode all of them at once do. */
static void test_recorded(void)
{
    enum { N = 64, VOCAB = 2048 };
    static const char *const names[] = {"launches that wait for each other", "passes that are not recorded", "all at once"};
    const int n = trying ? 6 : N, programmatic = gpu->programmatic;
    const size_t bytes = (size_t)n * VOCAB * sizeof(float);
    float *logits[2];
    int32_t ids[N];
    int k, v, i, ready;
    for (i = 0; i < n; i++) ids[i] = 300 + i * 37 % 1700;
    for (k = 0; k < 2; k++) logits[k] = (float *)malloc(bytes);
    for (k = 0; k < 2; k++) { /* fast, deterministic */
        awq_device *list[1];
        awq_model_desc d;
        awq_model *m = NULL;
        memset(&d, 0, sizeof d);
        list[0] = awq_cuda_device(gpu);
        d.devices = list;
        d.n_devices = 1;
        d.rtn_bits = 4;
        d.mode = k ? AWQ_MODE_DETERMINISTIC : AWQ_MODE_FAST;
        CHECK_MSG(awq_model_load(&ctx, DEMO, &d, &m) == AWQ_OK, "%s", ctx.err.text);
        if (!m) break;
        layers_of_device = list[0]->layers;
        list[0]->layers = layers_told;
        for (v = 0; v < 3 + k; v++) {
            float *to = logits[v != 0];
            awq_session *s = NULL;
            awq_feed_desc f;
            awq_status st = open_session(&ctx, m, 512, &s);
            memset(&f, 0, sizeof f);
            f.all_logits = to;
            memset(to, 0xff, bytes);
            gpu->programmatic = programmatic && v != 1;
            unrecorded = v == 2;
            if (v == 3 && !st) st = awq_session_feed(&ctx, s, ids, n, &f, NULL);
            for (i = 0; v < 3 && i < n && !st; i++) st = awq_session_feed(&ctx, s, ids + i, 1, NULL, to + (size_t)i * VOCAB);
            for (i = ready = 0; !st && i < (int)(sizeof last_work->graph / sizeof last_work->graph[0]); i++)
                ready |= last_work->graph[i].ready != NULL;
            CHECK_MSG(!st && (v > 1 || ready), "%s", st ? ctx.err.text : "no pass is recorded");
            CHECK_MSG(!v || !memcmp(logits[0], to, bytes), "%s: %s", awq_mode_name(d.mode), names[v ? v - 1 : 0]);
            if (s) close_session(&ctx, s);
        }
        gpu->programmatic = programmatic;
        unrecorded = 0;
        list[0]->layers = layers_of_device;
        CHECK(awq_model_free(&ctx, m) == AWQ_OK);
    }
    for (k = 0; k < 2; k++) free(logits[k]);
}

/* --- how fast? */
static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of one launch in a recorded sequence of n that queue(arg, i) queues; < 0: failed, ctx.err says why. The
   card is kept at work before, for its clocks, and while the clock is started, so that what the host takes to launch
   is not counted. */
static double timed(awq_status (*queue)(void *arg, int i), void *arg, int n)
{
    awq__cuda_timer t;
    void *graph = NULL;
    double s[7], began;
    awq_status st = awq__cuda_enter(&ctx, gpu);
    int i, rounds = trying ? 1 : 7;
    memset(&t, 0, sizeof t);
    if (st) return -1;
    st = queue(arg, 0); /* compiles, and takes its working memory */
    if (!st) st = AWQ__CU(&ctx, gpu, StreamSynchronize, (gpu->stream));
    if (!st) st = awq__cuda_record_begin(&ctx, gpu);
    if (!st) {
        for (i = 0; !st && i < n; i++) st = queue(arg, i);
        st = awq__cuda_record_end(&ctx, gpu, st, &graph);
    }
    for (began = awq__now(); !st && awq__now() - began < (trying ? 0 : 0.2);) {
        st = awq__cuda_graph_run(&ctx, gpu, graph);
        if (!st) st = AWQ__CU(&ctx, gpu, StreamSynchronize, (gpu->stream));
    }
    for (i = 0; !st && i < rounds; i++) {
        st = awq__cuda_graph_run(&ctx, gpu, graph);
        if (!st) st = awq__cuda_timer_start(&ctx, gpu, &t);
        if (!st) st = awq__cuda_graph_run(&ctx, gpu, graph);
        if (!st) st = awq__cuda_timer_stop(&ctx, gpu, &t, &s[i]);
    }
    awq__cuda_graph_free(gpu, graph);
    awq__cuda_timer_free(gpu, &t);
    awq__cuda_leave(gpu);
    if (st) return -1;
    qsort(s, (size_t)rounds, sizeof *s, by_size);
    return s[rounds / 2] / n;
}

/* a kernel that reads 1 GB, 16 bytes of a thread at a time, and adds them up */
typedef struct reading {
    void *function;
    uint64_t data, sum, n;
    unsigned blocks;
} reading;

static awq_status queue_reading(void *arg, int i)
{
    reading *r = (reading *)arg;
    uint64_t from = r->data, n = r->n, sum = r->sum;
    void *params[3];
    (void)i;
    params[0] = &from;
    params[1] = &n;
    params[2] = &sum;
    return AWQ__CU(&ctx, gpu, LaunchKernel, (r->function, r->blocks, 1, 1, 512, 1, 1, 0, gpu->stream, params, NULL));
}

static int measure_limit(void)
{
    static const char text[] =
        "extern \"C\" __global__ void __launch_bounds__(512) reads(const uint4 *p, unsigned long long n, unsigned *sum)\n"
        "{\n"
        "    const unsigned long long step = (unsigned long long)gridDim.x * 512;\n"
        "    unsigned long long i = blockIdx.x * 512ull + threadIdx.x;\n"
        "    unsigned s = 0;\n"
        "    for (; i + 7 * step < n; i += 8 * step) {\n"
        "        uint4 v[8];\n"
        "#pragma unroll\n"
        "        for (int k = 0; k < 8; k++)\n"
        "            asm volatile(\"ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];\"\n"
        "                : \"=r\"(v[k].x), \"=r\"(v[k].y), \"=r\"(v[k].z), \"=r\"(v[k].w) : \"l\"(p + i + k * step));\n"
        "#pragma unroll\n"
        "        for (int k = 0; k < 8; k++) s += v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;\n"
        "    }\n"
        "    for (; i < n; i += step) s += p[i].x;\n"
        "    if (s == 0x12345678) *sum = s;\n"
        "}\n";
    char arch[64];
    const char *options[1];
    void *program = NULL, *module = NULL;
    char *image = NULL;
    size_t bytes = 0, all = (size_t)1 << 30;
    reading r;
    double t, best = 0;
    int k;
    memset(&r, 0, sizeof r);
    if (trying) { /* the emulator has the header's kernels alone */
        limit = 1e9;
        return 0;
    }
    snprintf(arch, sizeof arch, "--gpu-architecture=%s", gpu->info.arch);
    options[0] = arch;
    if (gpu->rtc.CreateProgram(&program, text, "reads.cu", 0, NULL, NULL) || gpu->rtc.CompileProgram(program, 1, options)
        || gpu->rtc.GetCUBINSize(program, &bytes) || !(image = (char *)malloc(bytes)) || gpu->rtc.GetCUBIN(program, image)) {
        printf("the kernel that only reads does not compile\n");
        return 1;
    }
    if (awq_cuda_alloc(&ctx, gpu, all, &r.data) || awq_cuda_alloc(&ctx, gpu, 256, &r.sum)
        || awq_cuda_fill(&ctx, gpu, r.data, 1, all) || awq_cuda_sync(&ctx, gpu) || awq__cuda_enter(&ctx, gpu))
        return die("reading");
    k = AWQ__CU(&ctx, gpu, ModuleLoadDataEx, (&module, image, 0, NULL, NULL))
        || AWQ__CU(&ctx, gpu, ModuleGetFunction, (&r.function, module, "reads"));
    awq__cuda_leave(gpu);
    if (k) return die("reading");
    r.n = all / 16;
    for (k = 1; k <= 8; k++) {
        r.blocks = (unsigned)(gpu->info.multiprocessors * k);
        t = timed(queue_reading, &r, 20);
        if (t > 0 && (double)all / t > best) best = (double)all / t;
        printf("reading 1 GB, %d blocks on each multiprocessor: %.0f GB/s\n", k, (double)all / t / 1e9);
    }
    awq_cuda_release(&ctx, gpu, r.data);
    awq_cuda_release(&ctx, gpu, r.sum);
    gpu->rtc.DestroyProgram(&program);
    free(image);
    limit = best;
    return best > 0 ? 0 : die("reading");
}

typedef struct cublas {
    void *handle;
    int (*gemm)(void *handle, int transa, int transb, int m, int n, int k, const void *alpha, const void *a, int a_type,
                int lda, const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc, int compute,
                int algo);
} cublas;
static cublas blas;

static void open_cublas(void)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"};
    int (*create)(void **handle) = NULL, (*set_stream)(void *handle, void *stream) = NULL,
        (*set_workspace)(void *handle, void *at, size_t bytes) = NULL;
    void *lib = getenv("AWQ_CUBLAS") ? dlopen(getenv("AWQ_CUBLAS"), RTLD_NOW) : NULL;
    uint64_t work = 0;
    size_t i;
    for (i = 0; !lib && !trying && i < sizeof names / sizeof names[0]; i++) lib = dlopen(names[i], RTLD_NOW);
    if (!lib) {
        printf("cuBLAS is not here: nothing to compare with (AWQ_CUBLAS)\n");
        return;
    }
    *(void **)&create = dlsym(lib, "cublasCreate_v2");
    *(void **)&set_stream = dlsym(lib, "cublasSetStream_v2");
    *(void **)&set_workspace = dlsym(lib, "cublasSetWorkspace_v2");
    *(void **)&blas.gemm = dlsym(lib, "cublasGemmEx");
    if (!create || !set_stream || !set_workspace || !blas.gemm || awq_cuda_alloc(&ctx, gpu, (size_t)64 << 20, &work)
        || awq__cuda_enter(&ctx, gpu)) return;
    if (create(&blas.handle) || set_stream(blas.handle, gpu->stream)
        || set_workspace(blas.handle, (void *)(uintptr_t)work, (size_t)64 << 20)) {
        printf("cuBLAS does not start\n");
        blas.handle = NULL;
    }
    awq__cuda_leave(gpu);
}

typedef struct layers {
    awq_cuda_linear copy[MOST_COPIES];
    uint64_t dense[MOST_COPIES], x, y;
    int copies, n_dense, flags;
    int64_t rows;
} layers;

static awq_status queue_layer(void *arg, int i)
{
    layers *l = (layers *)arg;
    const awq_cuda_linear *w = &l->copy[i % l->copies];
    return awq_cuda_linear_run(&ctx, gpu, w, l->x, w->in_features, l->rows, AWQ_F16, l->y, w->out_features, l->flags);
}

static awq_status queue_gemm(void *arg, int i)
{
    const float one = 1, zero = 0;
    layers *l = (layers *)arg;
    int n = (int)l->copy[0].out_features, k = (int)l->copy[0].in_features;
    int code = blas.gemm(blas.handle, 1, 0, n, (int)l->rows, k, &one, (const void *)(uintptr_t)l->dense[i % l->n_dense], 2, k,
                         (const void *)(uintptr_t)l->x, 2, k, &zero, (void *)(uintptr_t)l->y, 2, n, 68, -1);
    return code ? awq__fail(&ctx, AWQ_E_DEVICE, "cublasGemmEx: status %d", code) : AWQ_OK;
}

/* 64 MB of random bytes over and over, or f16 numbers near zero */
static awq_status random_fill(uint64_t to, size_t bytes, int halves)
{
    static uint16_t *data;
    static int had = -1;
    size_t most = (size_t)(trying ? 1 : 64) << 20, i, at;
    uint64_t seed = 1;
    if (!data) data = (uint16_t *)malloc(most);
    for (i = 0; had != halves && i < most / 2; i++) {
        uint64_t v = awq__random(&seed);
        data[i] = halves ? (uint16_t)(0x2000 + (v & 0x87ff)) : (uint16_t)v; /* +- 2^-7 to 2^-5 */
    }
    had = halves;
    for (at = 0; at < bytes; at += i) {
        i = AWQ__MIN(most, bytes - at);
        AWQ__TRY(awq_cuda_upload(&ctx, gpu, to + at, data, i));
    }
    return AWQ_OK;
}

static awq_status make_layers(layers *l, int64_t n, int64_t k, int64_t most_rows)
{
    const size_t enough = trying ? (size_t)1 << 20 : (size_t)220 << 20;
    uint64_t size[2];
    uint32_t *params;
    size_t i;
    memset(l, 0, sizeof *l);
    do {
        awq_cuda_linear *c = &l->copy[l->copies++];
        AWQ__TRY(awq__cuda_linear_shape(&ctx, gpu, "gpu", n, k, 4, 128, AWQ_F16, c));
        AWQ__TRY(awq__cuda_enter(&ctx, gpu));
        awq__cuda_leave(gpu);
        awq__cuda_linear_sizes(c, size);
        AWQ__TRY(awq_cuda_alloc(&ctx, gpu, (size_t)size[0], &c->weights));
        AWQ__TRY(awq_cuda_alloc(&ctx, gpu, (size_t)size[1], &c->params));
        c->bytes = (size_t)(size[0] + size[1]);
        AWQ__TRY(random_fill(c->weights, (size_t)size[0], 0));
        params = (uint32_t *)malloc((size_t)size[1]);
        if (!params) return AWQ_E_MEMORY;
        for (i = 0; i < size[1] / 4; i++) params[i] = (0x6400u + (uint32_t)(i * 7 % 16)) << 16 | awq__float_f16(0.01f);
        AWQ__TRY(awq_cuda_upload(&ctx, gpu, c->params, params, (size_t)size[1]));
        free(params);
    } while (l->copies * l->copy[0].bytes < enough && l->copies < MOST_COPIES);
    AWQ__TRY(awq_cuda_alloc(&ctx, gpu, (size_t)(most_rows * k) * 2, &l->x));
    AWQ__TRY(awq_cuda_alloc(&ctx, gpu, (size_t)(most_rows * n) * 2, &l->y));
    AWQ__TRY(random_fill(l->x, (size_t)(most_rows * k) * 2, 1));
    while (blas.handle && l->n_dense * (size_t)(n * k) * 2 < enough && l->n_dense < MOST_COPIES) {
        AWQ__TRY(awq_cuda_alloc(&ctx, gpu, (size_t)(n * k) * 2, &l->dense[l->n_dense]));
        AWQ__TRY(random_fill(l->dense[l->n_dense++], (size_t)(n * k) * 2, 1));
    }
    return AWQ_OK;
}

static void free_layers(layers *l)
{
    int i;
    for (i = 0; i < l->copies; i++) {
        awq_cuda_release(&ctx, gpu, l->copy[i].weights);
        awq_cuda_release(&ctx, gpu, l->copy[i].params);
    }
    for (i = 0; i < l->n_dense; i++) awq_cuda_release(&ctx, gpu, l->dense[i]);
    awq_cuda_release(&ctx, gpu, l->x);
    awq_cuda_release(&ctx, gpu, l->y);
}

static int measure_layers(void)
{
    static const int64_t shapes[][2] = {{4096, 4096}, {14336, 4096}, {28672, 8192}, {8192, 28672}}, small[][2] = {{192, 256}};
    static const int64_t rows[] = {1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 1024, 4096};
    const int n_shapes = trying ? 1 : 4, n_rows = trying ? 5 : 12;
    static layers l;
    int i, k;
    for (i = 0; i < n_shapes; i++) {
        const int64_t *shape = trying ? small[0] : shapes[i];
        if (make_layers(&l, shape[0], shape[1], rows[n_rows - 1])) return die("layers");
        printf("\n%lld outputs, %lld inputs, 4 bits, groups of 128: %.1f MB, %d of them in turn\n", (long long)shape[0],
               (long long)shape[1], (double)l.copy[0].bytes / 1e6, l.copies);
        printf("| rows | us | GB/s | of the limit | TFLOP/s | same bits, us | mma.sync, us | cuBLAS FP16, us | ratio |\n"
               "|---|---|---|---|---|---|---|---|---|\n");
        for (k = 0; k < n_rows; k++) {
            int n = trying ? 3 : AWQ__MAX(l.copies, 100);
            double t, same, mma = 0, gemm = 0, bytes;
            l.rows = rows[k];
            bytes = (double)l.copy[0].bytes + (double)l.rows * (double)(shape[0] + shape[1]) * 2;
            t = timed(queue_layer, &l, n);
            if (t < 0) return die("a layer");
            l.flags = AWQ_CUDA_SAME_BITS;
            same = timed(queue_layer, &l, n);
            l.flags = 0;
            if (same < 0) return die("a layer, same bits");
            gpu->desc.mma_rows = 32; /* instead of wgmma: whether the plan does well to choose that */
            if (!strcmp(gpu->info.arch, "sm_90a") && rows[k] > 4 && rows[k] <= 32 && (mma = timed(queue_layer, &l, n)) < 0)
                return die("a layer by mma.sync");
            gpu->desc.mma_rows = 0;
            if (l.n_dense && (gemm = timed(queue_gemm, &l, AWQ__MAX(n, l.n_dense))) < 0) return die("cuBLAS");
            printf("| %lld | %.2f | %.0f | %.1f %% | %.1f | %.2f | %.2f | %.2f | %.2f |\n", (long long)l.rows, t * 1e6, bytes / t / 1e9,
                   limit > 0 ? 100 * bytes / t / limit : 0.0,
                   2.0 * (double)l.rows * (double)shape[0] * (double)shape[1] / t / 1e12, same * 1e6, mma * 1e6, gemm * 1e6, gemm / t);
        }
        free_layers(&l);
    }
    return 0;
}

/* --- whole models */
static const synthetic_shape shape_tiny = {"a tiny one", 128, 256, 2, 4, 2, 32, 256, 64, 512};
static const synthetic_shape *const shapes_of_models[] = {&synthetic_llama2_7b, &synthetic_llama3_8b};
enum { MOST_SESSIONS = 64, ASKED = 32 };

/* Seconds of the recorded pass that has just been, launched again and again: what it reads is still there, and it
   writes what it did. 0: it is not recorded. *head: with the head's product, which is not in those of many answers. */
static double recorded_pass(int *head)
{
    awq__cuda_timer t;
    awq__cuda_graph *g = NULL;
    double all = 0, best = 0;
    int i, k, n = trying ? 2 : 20;
    memset(&t, 0, sizeof t);
    for (i = 0; last_work && i < (int)(sizeof last_work->graph / sizeof last_work->graph[0]); i++) {
        awq__cuda_graph *x = &last_work->graph[i];
        if (x->ready && x->used == last_work->passes) g = x;
    }
    if (!g || awq__cuda_enter(&ctx, gpu)) return 0;
    *head = g->n_head > 0;
    for (k = 0; k < 5; k++) {
        awq_status st = awq__cuda_graph_run(&ctx, gpu, g->ready);
        if (!st) st = awq__cuda_timer_start(&ctx, gpu, &t);
        for (i = 0; i < n && !st; i++) st = awq__cuda_graph_run(&ctx, gpu, g->ready);
        if (!st) st = awq__cuda_timer_stop(&ctx, gpu, &t, &all);
        if (st) break;
        if (!best || all / n < best) best = all / n;
    }
    awq__cuda_timer_free(gpu, &t);
    awq__cuda_leave(gpu);
    return best;
}

/* `sessions` greedy answers side by side: median seconds of a step in which each says one token; < 0: failed */
static double decode(const awq_model *m, int sessions, int tokens, double *recorded, int *head)
{
    awq_session *s[MOST_SESSIONS];
    awq_runner *r = NULL;
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_generate_desc d;
    double *took = (double *)calloc((size_t)tokens, sizeof *took), median = -1;
    int32_t ids[ASKED], out[MOST_SESSIONS][512];
    awq_status st;
    int i, n = 0, busy = 1, failed = 0;
    memset(s, 0, sizeof s);
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    memset(&d, 0, sizeof d);
    rd.max_rows = AWQ__MAX(64, ASKED);
    sd.max_tokens = ASKED + tokens + 1;
    st = took ? awq_runner_create(&ctx, m, &rd, &r) : AWQ_E_MEMORY;
    for (i = 0; i < sessions && !st; i++) {
        int k;
        for (k = 0; k < ASKED; k++) ids[k] = (int32_t)((i * 31 + k * 7919 + 13) % awq_model_config(m)->vocab_size);
        d.ids = ids;
        d.n_ids = ASKED;
        d.max_tokens = tokens;
        d.ignore_eos = 1;
        d.out_ids = out[i];
        st = awq_session_create(&ctx, r, &sd, &s[i]);
        if (!st) st = awq_ask(&ctx, s[i], &d);
    }
    while (!st && busy) {
        awq_step_info info;
        double began = awq__now();
        st = awq_step(&ctx, r, NULL, 0, AWQ_NO_BUDGET, &info);
        if (!st && info.tokens == sessions && !info.prompt_tokens && n < tokens) {
            took[n++] = awq__now() - began;
            if (n == tokens / 2) *recorded = recorded_pass(head);
        }
        for (busy = i = 0; i < sessions; i++) busy |= awq_session_busy(s[i]);
    }
    if (!st && n) {
        qsort(took, (size_t)n, sizeof *took, by_size);
        median = took[n / 2];
    }
    for (i = 0; i < sessions; i++) {
        if (!st && s[i]) failed |= awq_session_answer(&ctx, s[i], NULL) != AWQ_OK;
        awq_session_free(&ctx, s[i]);
    }
    awq_runner_free(&ctx, r);
    free(took);
    return failed ? -1 : median;
}

static double prefill(const awq_model *m, int tokens) /* seconds, the best of 3; < 0: failed */
{
    awq_session *s = NULL;
    awq_runner *r = NULL;
    awq_runner_desc rd;
    awq_session_desc sd;
    int32_t *ids = (int32_t *)calloc((size_t)tokens, sizeof *ids);
    float *logits = (float *)malloc((size_t)awq_model_config(m)->vocab_size * sizeof *logits);
    double best = -1;
    awq_status st;
    int i;
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    rd.max_rows = 512;
    sd.max_tokens = tokens + 1;
    st = ids && logits ? awq_runner_create(&ctx, m, &rd, &r) : AWQ_E_MEMORY;
    if (!st) st = awq_session_create(&ctx, r, &sd, &s);
    for (i = 0; i < tokens && !st; i++) ids[i] = (int32_t)((i * 7919 + 13) % awq_model_config(m)->vocab_size);
    for (i = 0; i < 3 && !st; i++) {
        double began = awq__now();
        st = awq_session_rewind(&ctx, s, 0);
        if (!st) st = awq_session_feed(&ctx, s, ids, tokens, NULL, logits);
        if (!st && (best < 0 || awq__now() - began < best)) best = awq__now() - began;
    }
    awq_session_free(&ctx, s);
    awq_runner_free(&ctx, r);
    free(ids);
    free(logits);
    return st ? -1 : best;
}

static int measure_model(const synthetic_shape *shape, awq_mode mode)
{
    static const int sessions[] = {1, 4, 16, 64};
    const int tokens = trying ? 12 : 200, n = trying ? 2 : (int)(sizeof sessions / sizeof sessions[0]);
    awq_device *list[1];
    awq_model_desc d;
    awq_model *m = NULL;
    synthetic syn;
    double began = awq__now(), bytes, t;
    int i, bad = 0;
    memset(&d, 0, sizeof d);
    list[0] = awq_cuda_device(gpu);
    d.devices = list;
    d.n_devices = d.no_tokenizer = 1;
    d.mode = mode;
    d.device_tokens = MOST_SESSIONS * 512;
    synthetic_make(&syn, shape);
    ctx.files = synthetic_files(&syn);
    if (awq_model_load(&ctx, "m", &d, &m)) {
        memset(&ctx.files, 0, sizeof ctx.files);
        synthetic_free(&syn);
        return die(shape->name);
    }
    memset(&ctx.files, 0, sizeof ctx.files);
    bytes = (double)awq_model_linear_bytes(m);
    printf("\nThe shape of %s, 4 bits, groups of %d, F16 head, mode %s: %.2f GB read for a token, so at most %.0f tokens/s; loaded "
           "in %.1f s\n| answers | ms a step | tokens/s | of the limit | its recorded pass, ms | of the limit |\n|---|---|---|---|"
           "---|---|\n", shape->name, (int)shape->group, awq_mode_name(mode), bytes / 1e9, limit / bytes, awq__now() - began);
    layers_of_device = list[0]->layers;
    list[0]->layers = layers_told;
    for (i = 0; i < n && !bad; i++) {
        double recorded = 0, read = bytes;
        int head = 1;
        last_work = NULL;
        t = decode(m, sessions[i], tokens, &recorded, &head);
        if (!head) read -= 2.0 * (double)shape->vocab * (double)shape->hidden;
        if (t < 0) bad = die("decode");
        else printf("| %d | %.3f | %.0f | %.1f %% | %.3f | %.1f %% |\n", sessions[i], t * 1e3, sessions[i] / t,
                    limit > 0 ? 100 * bytes / t / limit : 0.0, recorded * 1e3,
                    limit > 0 && recorded > 0 ? 100 * read / recorded / limit : 0.0);
    }
    list[0]->layers = layers_of_device;
    for (i = trying ? 64 : 128; i <= (trying ? 64 : 2048) && !bad; i *= 4) {
        t = prefill(m, i);
        if (t < 0) bad = die("prefill");
        else printf("%sa prompt of %d: %.2f ms, %.0f tokens/s\n", i <= 128 ? "\n" : "", i, t * 1e3, i / t);
    }
    if (awq_model_free(&ctx, m)) bad = die("model");
    synthetic_free(&syn);
    return bad;
}

static int measure_models(void)
{
    int i, bad = 0;
    if (trying) return measure_model(&shape_tiny, AWQ_MODE_FAST);
    for (i = 0; i < 2; i++) bad |= measure_model(shapes_of_models[i], AWQ_MODE_FAST);
    return bad | measure_model(shapes_of_models[0], AWQ_MODE_DETERMINISTIC);
}

/* --- how long until the first token? */
static double reading_seconds; /* in files, whose numbers are made up on the way */
static int slow_read(void *user, void *file, uint64_t offset, void *data, size_t bytes)
{
    double began = awq__now();
    int code = synthetic_read(user, file, offset, data, bytes);
    reading_seconds += awq__now() - began;
    return code;
}

/* of a process of its own: from nothing to the first token of the shape of Llama-2-7B */
static int first_token(awq_cuda_desc *d)
{
    const synthetic_shape *shape = trying ? &shape_tiny : shapes_of_models[0];
    awq_device *list[1];
    awq_model_desc md;
    awq_model *m = NULL;
    awq_session *s = NULL;
    awq_cuda_info in;
    synthetic syn;
    int32_t ids[16];
    float *logits = (float *)malloc((size_t)shape->vocab * sizeof *logits);
    double t[4], first_kernel; /* seconds to compile it, part of the start */
    int i;
    memset(&md, 0, sizeof md);
    synthetic_make(&syn, shape);
    t[0] = awq__now();
    if (awq_cuda_create(&ctx, d, &gpu) || awq_cuda_get_info(&ctx, gpu, &in)) return die("start");
    t[1] = awq__now();
    first_kernel = in.compile_seconds;
    ctx.files = synthetic_files(&syn);
    ctx.files.read = slow_read;
    list[0] = awq_cuda_device(gpu);
    md.devices = list;
    md.n_devices = md.no_tokenizer = 1;
    if (awq_model_load(&ctx, "m", &md, &m)) return die("load");
    t[2] = awq__now();
    for (i = 0; i < 16; i++) ids[i] = (int32_t)((i * 7919 + 13) % shape->vocab);
    if (open_session(&ctx, m, 64, &s) || awq_session_feed(&ctx, s, ids, 16, NULL, logits)) return die("first step");
    t[3] = awq__now();
    if (awq_cuda_get_info(&ctx, gpu, &in)) return die("info");
    printf("| %d compiled, %d cached | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n", in.compiled, in.cache_hits,
           in.init_seconds * 1e3, in.context_seconds * 1e3,
           (in.create_seconds - in.init_seconds - in.context_seconds - first_kernel) * 1e3, in.compile_seconds * 1e3,
           reading_seconds * 1e3, (t[2] - t[1] - reading_seconds - (in.compile_seconds - first_kernel)) * 1e3,
           (t[3] - t[2]) * 1e3,
           (t[3] - t[0] - in.init_seconds - in.context_seconds - reading_seconds) * 1e3);
    close_session(&ctx, s);
    awq_model_free(&ctx, m);
    awq_cuda_free(&ctx, gpu);
    memset(&ctx.files, 0, sizeof ctx.files);
    synthetic_free(&syn);
    free(logits);
    return 0;
}

/* itself, once without compiled kernels, then with them */
static int measure_start(const char *program)
{
    char folder[600], command[1400];
    int i, bad = 0;
    snprintf(folder, sizeof folder, "%s.cache", program);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    bad = system(command) != 0;
    printf("\nThe first token of a process, 16 tokens of the shape of %s; ms. `rest` is all but cuInit, the context and making up "
           "the weights\n| kernels | cuInit | context | rest of the start | compiling | making up weights | rest of loading | "
           "first step | rest |\n|---|---|---|---|---|---|---|---|---|\n", trying ? shape_tiny.name : shapes_of_models[0]->name);
    fflush(stdout);
    snprintf(command, sizeof command, "AWQ_CACHE_DIR='%s' '%s' --first%s", folder, program, trying ? " --try" : "");
    for (i = 0; i < 3 && !bad; i++) bad = system(command) != 0;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    bad |= system(command) != 0;
    if (bad) printf("a process of its own failed\n");
    return bad;
}

/* compiling what a llama needs, on 1, 2 and all cores */
static int measure_compiling(awq_cuda_desc d)
{
    static const int threads[] = {1, 2, 0};
    awq_jobs jobs = ctx.jobs;
    int i, bad = 0;
    d.no_cache = 1;
    printf("\nCompiling the kernels of a 4-bit llama in F16, nothing cached: ");
    for (i = 0; i < 3 && !bad; i++) {
        awq_cuda_report r;
        awq_pool *pool = NULL;
        memset(&r, 0, sizeof r);
        if (awq_pool_create(&ctx, threads[i], &pool)) return die("threads");
        ctx.jobs = awq_pool_jobs(pool);
        bad = awq_cuda_doctor(&ctx, &d, &r) || r.status;
        printf("%s%.2f s by %d threads", i ? ", " : "", r.info.compile_seconds, awq_pool_threads(pool));
        if (i == 2 && r.text) printf("\n```\n%s```\n", r.text);
        awq_text_free(&ctx, r.text);
        ctx.jobs = jobs;
        awq_pool_free(&ctx, pool);
    }
    return bad ? die("compiling") : 0;
}

/* what the driver and its management library say of clocks; right behind the reading, so the card is awake */
static void tell_clocks(void)
{
    static const struct {
        int id;
        const char *text;
        double unit;
    } what[] = {{13, "clock up to %.0f MHz", 1e3}, {36, ", memory up to %.0f MHz", 1e3}, {37, " x %.0f bits", 1},
                {38, ", second cache %.0f MB", 1 << 20}};
    int (*init)(void) = NULL, (*handle)(unsigned index, void **device) = NULL,
        (*clock)(void *device, int type, unsigned *mhz) = NULL, (*stop)(void) = NULL;
    void *lib = trying ? NULL : dlopen("libnvidia-ml.so.1", RTLD_NOW), *device = NULL;
    unsigned sm = 0, memory = 0;
    size_t i;
    for (i = 0; i < sizeof what / sizeof what[0]; i++) {
        int value = 0;
        if (!gpu->cu.DeviceGetAttribute(&value, what[i].id, gpu->device) && value > 0) printf(what[i].text, value / what[i].unit);
    }
    if (lib) {
        *(void **)&init = dlsym(lib, "nvmlInit_v2");
        *(void **)&handle = dlsym(lib, "nvmlDeviceGetHandleByIndex_v2");
        *(void **)&clock = dlsym(lib, "nvmlDeviceGetClockInfo");
        *(void **)&stop = dlsym(lib, "nvmlShutdown");
    }
    if (init && handle && clock && stop && !init()) {
        if (!handle((unsigned)gpu->info.index, &device) && !clock(device, 1, &sm) && !clock(device, 2, &memory))
            printf("; now %u and %u MHz", sm, memory);
        stop();
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    const char *program = argv[0], *times = "";
    awq_cuda_desc d;
    awq_cuda_info info;
    awq_pool *pool = NULL;
    char date[32] = "";
    time_t now = time(NULL);
    int bad = 0, only_times = 0, first = 0;
    memset(&d, 0, sizeof d);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (; argc > 1 && !strncmp(argv[1], "--", 2); argc--, argv++)
        if (!strcmp(argv[1], "--try")) trying = 1;
        else if (!strcmp(argv[1], "--first")) first = 1;
        else if (!strcmp(argv[1], "--times")) only_times = 1;
        else {
            printf("gpu: unknown option %s; see the first lines of tests/cuda/gpu.c\n", argv[1]);
            return 2;
        }
    if (only_times && argc > 1) times = argv[1];
    if (trying) {
        d.driver = d.nvrtc = getenv("AWQ_CUDA_EMULATOR");
        d.no_cache = !first;
    }
    ctx.log = told;
    opened = d;
    if (!awq_pool_create(&ctx, 0, &pool)) ctx.jobs = awq_pool_jobs(pool);
    if (first) bad = first_token(&d);
    else if (awq_cuda_create(&ctx, &d, &gpu)) {
        bad = trying || argc > 1 || ctx.err.status != AWQ_E_UNSUPPORTED || getenv("AWQ_NEED_GPU");
        printf("no GPU: %s\n0 passed, %d failed, %d skipped\n", ctx.err.text, bad, !bad);
        first = 1;
    }
    if (!first) {
        CHECK(awq_cuda_get_info(&ctx, gpu, &info) == AWQ_OK);
        strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
        printf("## %s\n%s, %s, %d multiprocessors, %.1f of %.1f GB free, driver for CUDA %d.%d, NVRTC %d.%d\n", info.name, date,
               info.arch, info.multiprocessors, (double)info.memory_free / 1e9, (double)info.memory_total / 1e9,
               info.driver_version / 1000, info.driver_version % 1000 / 10, info.nvrtc_major, info.nvrtc_minor);
        tell_clocks();
        if (!only_times) {
            TEST_BEGIN(argc, argv);
            if (!trying) RUN(test_kernels); /* minutes in the emulator; tests/test_cuda_load.c has them small */
            RUN(test_models);
            RUN(test_kinds);
            RUN(test_recorded);
            RUN(test_divided);
            RUN(test_quantized);
            bad = TEST_END();
        }
        if (!bad && (only_times || argc < 2)) {
            if (strstr("start", times)) bad |= measure_compiling(d) | measure_start(program);
            if (strstr("decode layers", times)) {
                bad |= measure_limit();
                tell_clocks();
            }
            if (strstr("decode", times)) bad |= measure_models();
            if (strstr("layers", times)) {
                open_cublas();
                bad |= measure_layers();
            }
        }
        awq_cuda_free(&ctx, gpu);
    }
    memset(&ctx.jobs, 0, sizeof ctx.jobs);
    awq_pool_free(&ctx, pool);
    return bad;
}
