/* attention over caches of 16 and 8 bits: every instruction set against scalar, bit for bit, and scalar and AMX
   against double precision; rows alone and together; what a cache keeps; models and sessions with each width. With
   AWQ_SMOLLM2 the perplexity that 8 bits cost. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

static void fill(float *x, int64_t n, uint64_t seed, float size)
{
    int64_t i;
    for (i = 0; i < n; i++) x[i] = (awq__random_unit(&seed) - 0.5f) * size;
}

/* --- one kv head, in pages with garbage where nothing was put */
typedef struct world {
    awq__cache cache;
    uint8_t **page;
    int64_t pages;
    awq__attend a;
    float *q, *out, sink[32];
    double worst; /* difference from double precision */
} world;

static void world_make(world *w, int bits, int64_t k_dim, int64_t v_dim, int64_t group, int64_t rows, int64_t pos, uint64_t seed)
{
    float *x = (float *)malloc((size_t)(k_dim + v_dim) * sizeof *x);
    int64_t i;
    memset(w, 0, sizeof *w);
    w->cache = awq__cache_of(2, k_dim, v_dim, bits);
    w->pages = (pos + rows + AWQ__PAGE - 1) / AWQ__PAGE;
    w->page = (uint8_t **)malloc((size_t)w->pages * sizeof *w->page);
    for (i = 0; i < w->pages; i++) {
        w->page[i] = (uint8_t *)malloc(2 * w->cache.head);
        memset(w->page[i], 0xff, 2 * w->cache.head); /* NaN, -1 */
    }
    for (i = 0; i < pos + rows; i++) {
        fill(x, k_dim + v_dim, seed * 1000 + (uint64_t)i, 3);
        awq__cache_put(&awq__mix_scalar, &w->cache, w->page[i / AWQ__PAGE] + w->cache.head, i % AWQ__PAGE, x, x + k_dim);
    }
    free(x);
    w->a.cache = &w->cache;
    w->a.page = w->page;
    w->a.at = w->cache.head;
    w->a.rows = rows;
    w->a.group = group;
    w->a.pos = pos;
    w->a.window = INT64_MAX;
    w->a.q_stride = group * k_dim + 3; /* other heads lie between */
    w->a.out_stride = group * v_dim + 5;
    w->a.scale = 2 / sqrtf((float)k_dim);
    w->q = (float *)malloc((size_t)(rows * w->a.q_stride) * sizeof *w->q);
    w->out = (float *)malloc((size_t)(rows * w->a.out_stride) * sizeof *w->out);
    fill(w->q, rows * w->a.q_stride, seed, 4);
    fill(w->sink, 32, seed + 1, 6);
    w->a.q = w->q;
    w->a.out = w->out;
}

static void world_free(world *w)
{
    int64_t i;
    for (i = 0; i < w->pages; i++) free(w->page[i]);
    free(w->page);
    free(w->q);
    free(w->out);
}

static double key(const world *w, int64_t token, int64_t i)
{
    const uint8_t *head = w->page[token / AWQ__PAGE] + w->cache.head;
    double x = (double)awq__cache_value(head, i * AWQ__PAGE + token % AWQ__PAGE, w->cache.bits);
    if (w->cache.bits == 8) x *= (double)((const float *)(const void *)(head + w->cache.step_at))[token % AWQ__PAGE];
    return x;
}

static double value(const world *w, int64_t token, int64_t i)
{
    const uint8_t *head = w->page[token / AWQ__PAGE] + w->cache.head;
    double x = (double)awq__cache_value(head + w->cache.v_at, token % AWQ__PAGE * w->cache.v_row + i, w->cache.bits);
    if (w->cache.bits == 8) x *= (double)((const float *)(const void *)(head + w->cache.step_at))[AWQ__PAGE + token % AWQ__PAGE];
    return x;
}

/* the largest difference of w->out from the definition */
static double difference(const world *w)
{
    const awq__attend *a = &w->a;
    int64_t most = a->pos + a->rows, r, h, i, j;
    double *p = (double *)malloc((size_t)most * sizeof *p), worst = 0;
    for (r = 0; r < a->rows; r++)
        for (h = 0; h < a->group; h++) {
            int64_t first = awq__attend_first(a, r), last = a->pos + r;
            double top = -1e300, sum = 0;
            for (j = first; j <= last; j++) {
                for (i = 0, p[j] = 0; i < w->cache.k_dim; i++)
                    p[j] += (double)a->q[r * a->q_stride + h * w->cache.k_dim + i] * key(w, j, i);
                p[j] *= (double)a->scale;
                if (a->cap > 0) p[j] = (double)a->cap * tanh(p[j] / (double)a->cap);
                top = AWQ__MAX(top, p[j]);
            }
            for (j = first; j <= last; j++) sum += p[j] = exp(p[j] - top);
            if (a->sink) sum += exp((double)a->sink[h] - top);
            for (i = 0; i < w->cache.v_dim; i++) {
                double x = 0, d;
                for (j = first; j <= last; j++) x += p[j] / sum * value(w, j, i);
                d = fabs(x - (double)a->out[r * a->out_stride + h * w->cache.v_dim + i]);
                if (!(d <= worst)) worst = d;
            }
        }
    free(p);
    return worst;
}

/* NULL: the scalar one */
static void run(world *w, const awq__mix *fn)
{
    int64_t i;
    for (i = 0; i < w->a.rows * w->a.out_stride; i++) w->out[i] = 12345;
    awq__attend_rows(fn, &w->a);
}

#if AWQ__AMX
static void run_amx(world *w)
{
    size_t n = awq__attend_floats(&w->cache, w->a.group, AWQ__MAX(w->a.rows, (int64_t)AWQ__AMX_ATTEND));
    float *memory = (float *)malloc(n * sizeof *memory + 64);
    int64_t i;
    memset(memory, 0xff, n * sizeof *memory + 64);
    for (i = 0; i < w->a.rows * w->a.out_stride; i++) w->out[i] = 12345;
    awq__attend_amx(&w->a, (float *)(((uintptr_t)memory + 63) & ~(uintptr_t)63));
    free(memory);
}
#endif

/* nothing is written between the heads */
static int gaps_are_whole(const world *w)
{
    int64_t r, i, n = w->a.group * w->cache.v_dim;
    for (r = 0; r < w->a.rows; r++)
        for (i = n; i < w->a.out_stride; i++)
            if (w->out[r * w->a.out_stride + i] < 12345 || w->out[r * w->a.out_stride + i] > 12345) return 0;
    return 1;
}

static const struct {
    int64_t k_dim, v_dim, group, rows, pos, window;
    int cap, sink;
} shapes[] = {{8, 8, 1, 1, 0, 0, 0, 0},       {64, 64, 8, 1, 299, 0, 0, 0},   {64, 64, 8, 40, 0, 0, 0, 0},
              {64, 64, 1, 33, 31, 0, 0, 0},   {40, 24, 3, 17, 5, 0, 1, 0},    {80, 80, 2, 21, 100, 40, 0, 0},
              {96, 96, 4, 16, 64, 0, 0, 1},   {128, 128, 7, 37, 70, 33, 1, 1}, {192, 128, 1, 50, 13, 0, 0, 0},
              {256, 256, 2, 20, 45, 17, 0, 1}, {64, 128, 17, 3, 130, 1, 0, 0}, {512, 48, 5, 4, 33, 0, 1, 0},
              {72, 72, 16, 2, 30, 3, 0, 1},   {16, 16, 32, 18, 2, 0, 0, 0},   {120, 56, 6, 34, 200, 150, 0, 0},
              {64, 64, 4, 300, 0, 64, 0, 0},  {33, 17, 2, 19, 29, 0, 0, 0}};

static void shape_make(world *w, size_t s, int bits)
{
    world_make(w, bits, shapes[s].k_dim, shapes[s].v_dim, shapes[s].group, shapes[s].rows, shapes[s].pos, 7 + s);
    if (shapes[s].window) w->a.window = shapes[s].window;
    if (shapes[s].cap) w->a.cap = 3;
    if (shapes[s].sink) w->a.sink = w->sink;
}

static void test_instruction_sets(void)
{
    static const awq_isa isas[] = {AWQ_ISA_AVX2, AWQ_ISA_AVX512, AWQ_ISA_AUTO};
    double worst = 0, worst_amx = 0;
    size_t s, k;
    int bits;
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    for (s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (bits = 8; bits <= 16; bits += 8) {
            world w;
            size_t bytes;
            float *want;
            double d;
            shape_make(&w, s, bits);
            bytes = (size_t)(w.a.rows * w.a.out_stride) * sizeof *want;
            want = (float *)malloc(bytes);
            run(&w, &awq__mix_scalar);
            CHECK_MSG(gaps_are_whole(&w), "shape %d", (int)s);
            memcpy(want, w.out, bytes);
            d = difference(&w);
            CHECK_MSG(d < 1e-5, "shape %d, %d bits: %g from double precision", (int)s, bits, d);
            worst = AWQ__MAX(worst, d);
            for (k = 0; k < sizeof isas / sizeof isas[0]; k++) {
                ctx.isa = isas[k];
                run(&w, awq__mix_for(&ctx));
                CHECK_MSG(!memcmp(w.out, want, bytes), "shape %d, %d bits, %s: other bits", (int)s, bits, awq_isa_name(isas[k]));
            }
#if AWQ__AMX
            ctx.isa = AWQ_ISA_AUTO;
            if (awq__isa(&ctx) >= AWQ_ISA_AMX && AWQ__MAX(w.cache.k_dim, w.cache.v_dim) <= AWQ__AMX_DIM) {
                run_amx(&w);
                d = difference(&w);
                CHECK_MSG(d < 6e-3 && gaps_are_whole(&w), "shape %d, %d bits, AMX: %g from double precision", (int)s, bits, d);
                worst_amx = AWQ__MAX(worst_amx, d);
            }
#endif
            free(want);
            world_free(&w);
        }
    printf("    largest difference from double precision %.3g; AMX %.3g\n", worst, worst_amx);
}

/* the bits of a row are those it has alone, whatever comes with it */
static void test_rows(void)
{
    awq_ctx ctx;
    size_t s;
    int bits;
    memset(&ctx, 0, sizeof ctx);
    for (s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (bits = 8; bits <= 16; bits += 8) {
            world w;
            float *want;
            int64_t r, n;
            size_t row;
            shape_make(&w, s, bits);
            n = w.a.rows;
            row = (size_t)w.a.out_stride;
            want = (float *)malloc((size_t)n * row * sizeof *want);
            run(&w, awq__mix_for(&ctx));
            memcpy(want, w.out, (size_t)n * row * sizeof *want);
            for (r = 0; r < n; r++, w.a.q += w.a.q_stride, w.a.pos++) {
                w.a.rows = 1;
                run(&w, awq__mix_for(&ctx));
                if (memcmp(w.out, want + (size_t)r * row, row * sizeof *want)) CHECK_MSG(0, "shape %d, row %d", (int)s, (int)r);
            }
            free(want);
            world_free(&w);
        }
}

/* --- what is kept */
static void test_cache(void)
{
    enum { K = 70, V = 41 };
    float x[K + V];
    int bits, t, i;
    for (bits = 8; bits <= 16; bits += 8) {
        awq__cache c = awq__cache_of(1, K, V, bits);
        uint8_t *a = (uint8_t *)malloc(c.head), *b = (uint8_t *)malloc(c.head);
        awq_ctx ctx;
        world w;
        memset(&ctx, 0, sizeof ctx);
        memset(a, 0xff, c.head);
        memset(b, 0xff, c.head);
        memset(&w, 0, sizeof w);
        w.cache = c;
        w.cache.head = 0; /* of the first head */
        w.page = &a;
        for (t = 0; t < AWQ__PAGE; t++) {
            float top[2] = {0, 0};
            fill(x, K + V, (uint64_t)t, t % 3 ? 2.0f : 1e-3f);
            if (t == 5) x[3] = 1e6f, x[4] = -1e6f, x[K] = 70000;
            if (t == 6) memset(x, 0, sizeof x);
            awq__cache_put(&awq__mix_scalar, &c, a, t, x, x + K);
            awq__cache_put(awq__mix_for(&ctx), &c, b, t, x, x + K);
            for (i = 0; i < K + V; i++) top[i >= K] = AWQ__MAX(top[i >= K], fabsf(x[i]));
            for (i = 0; i < K + V; i++) {
                double got = i < K ? key(&w, t, i) : value(&w, t, i - K), want = (double)x[i];
                if (bits == 16) want = (double)awq__h(AWQ__MIN(AWQ__MAX(x[i], -65504.0f), 65504.0f));
                CHECK_MSG(fabs(got - want) <= (bits == 16 ? 0 : 0.5001 * (double)top[i >= K] / 127), "%d bits, token %d, %d: %g, not %g",
                          bits, t, i, got, want);
            }
        }
        CHECK(!memcmp(a, b, c.head)); /* all of it was written, the same everywhere */
        x[1] = NAN, x[K + 1] = INFINITY;
        awq__cache_put(awq__mix_for(&ctx), &c, a, 7, x, x + K);
        CHECK(isnan(key(&w, 7, bits == 8 ? 0 : 1)) && (bits == 16 || isnan(value(&w, 7, 0))));
        free(a);
        free(b);
    }
}

/* --- models */
enum { N_IDS = 100 };

/* logits of all ids, fed in chunks */
static awq_status feed(awq_ctx *ctx, const awq_model *m, const int32_t *ids, int64_t n, int64_t chunk, float *logits)
{
    awq_session *s = NULL;
    awq_feed_desc d;
    awq_status st = open_session(ctx, m, n, &s);
    memset(&d, 0, sizeof d);
    d.chunk = chunk;
    d.all_logits = logits;
    if (!st) st = awq_session_feed(ctx, s, ids, n, &d, NULL);
    close_session(ctx, s);
    return st;
}

static void test_model(void)
{
    static const int threads[] = {1, 2, 7}, chunks[] = {0, 1, 7, 20, 33}, widths[] = {8, 16, 32};
    static float want[N_IDS * 96], got[N_IDS * 96];
    int32_t ids[N_IDS];
    int k, i, n_isa = (int)awq_best_isa();
    for (i = 0; i < N_IDS; i++) ids[i] = (i * 37 + 5) % 96;
    for (k = 0; k < 9; k++) {
        awq_mode mode = (awq_mode)(k / 3);
        tiny t;
        awq_ctx ctx;
        awq_model_desc d;
        awq_model *m = NULL;
        tiny_llama(&t);
        if (k % 2) tiny_set(&t, "model_type", "\"mistral\""), tiny_set(&t, "sliding_window", "40");
        ctx = tiny_ctx(&t);
        memset(&d, 0, sizeof d);
        d.mode = mode;
        d.kv_bits = widths[k % 3];
        CHECK_MSG(awq_model_load(&ctx, "m", &d, &m) == AWQ_OK, "%s", ctx.err.text);
        CHECK(m && feed(&ctx, m, ids, N_IDS, 0, want) == AWQ_OK);
        for (i = 0; m && i < 3 + 5 + n_isa; i++) {
            awq_pool *pool = NULL;
            if (i < 3) {
                CHECK(awq_pool_create(&ctx, threads[i], &pool) == AWQ_OK);
                ctx.jobs = awq_pool_jobs(pool);
            } else if (mode == AWQ_MODE_FAST) break; /* how many rows there are may matter there */
            if (i >= 8) ctx.isa = (awq_isa)(i - 7);
            CHECK(feed(&ctx, m, ids, N_IDS, i >= 3 && i < 8 ? chunks[i - 3] : 0, got) == AWQ_OK);
            CHECK_MSG(!memcmp(got, want, sizeof got), "%s, %d bits: case %d gives other bits", awq_mode_name(mode), d.kv_bits, i);
            memset(&ctx.jobs, 0, sizeof ctx.jobs);
            awq_pool_free(&ctx, pool);
        }
        awq_model_free(&ctx, m);
        CHECK(ctx.memory_used == 0);
        tiny_free(&t);
    }
}

/* what the widths say does not differ by much, and a mode's own width is what is told */
static void test_widths(void)
{
    static const int widths[] = {32, 16, 8, 0};
    static float logits[4][N_IDS * 96];
    int32_t ids[N_IDS];
    double sum[4] = {0, 0, 0, 0};
    tiny t;
    awq_ctx ctx;
    int mode, k, i;
    for (i = 0; i < N_IDS; i++) ids[i] = (i * 53 + 1) % 96;
    tiny_llama(&t);
    ctx = tiny_ctx(&t);
    for (mode = 0; mode < 3; mode++) {
        memset(sum, 0, sizeof sum);
        for (k = 0; k < 4; k++) {
            awq_model *m = NULL;
            awq_model_desc d;
            memset(&d, 0, sizeof d);
            d.mode = (awq_mode)mode;
            d.kv_bits = widths[k];
            CHECK(awq_model_load(&ctx, "m", &d, &m) == AWQ_OK && feed(&ctx, m, ids, N_IDS, 0, logits[k]) == AWQ_OK);
            awq_model_free(&ctx, m);
            for (i = 0; i < N_IDS * 96; i++) sum[k] += fabs((double)(logits[k][i] - logits[0][i]));
            sum[k] /= N_IDS * 96;
        }
        CHECK_MSG(sum[1] > 0 && sum[1] < 3e-3 && sum[2] > sum[1] && sum[2] < 2e-2, "16 bits: %g, 8 bits: %g", sum[1], sum[2]);
        CHECK(!memcmp(logits[3], logits[mode == AWQ_MODE_EXACT ? 0 : 1], sizeof logits[0]));
    }
    CHECK(ctx.memory_used == 0);
    tiny_free(&t);
}

/* save, restore, fork, rewind, memory */
static void test_sessions(void)
{
    static const int widths[] = {8, 16, 32};
    int32_t ids[N_IDS];
    size_t bytes[3], told[3];
    char *saved[3];
    awq_model *model[3] = {NULL, NULL, NULL};
    tiny t;
    awq_ctx ctx;
    int k, i, n;
    for (i = 0; i < N_IDS; i++) ids[i] = (i * 29 + 3) % 96;
    tiny_llama(&t);
    ctx = tiny_ctx(&t);
    for (k = 0; k < 3; k++) {
        awq_model_desc d;
        awq_session_desc sd;
        awq_memory memory;
        memset(&d, 0, sizeof d);
        memset(&sd, 0, sizeof sd);
        sd.max_tokens = 4096;
        d.mode = AWQ_MODE_DETERMINISTIC;
        d.kv_bits = widths[k];
        CHECK(awq_model_load(&ctx, "m", &d, &model[k]) == AWQ_OK);
        CHECK(awq_memory_needed(&ctx, "m", &d, NULL, &sd, 1, &memory) == AWQ_OK);
        told[k] = (size_t)memory.session;
    }
    CHECK(told[0] < told[1] && told[1] < told[2] && told[2] - told[1] == 4096 * 2 * 32 * 2);
    for (k = 0; k < 3; k++)
        for (n = 1; n < N_IDS; n += n < 31 ? 30 : n < 33 ? 1 : 33) { /* 1, 31, 32, 33, 66, 99 */
            awq_session *s = NULL, *other = NULL, *copy = NULL;
            float want[96], got[96];
            CHECK(open_session(&ctx, model[k], N_IDS + 8, &s) == AWQ_OK);
            CHECK(awq_session_create(&ctx, s->runner, &s->desc, &other) == AWQ_OK);
            CHECK(awq_session_feed(&ctx, s, ids, n, NULL, NULL) == AWQ_OK);
            bytes[k] = awq_session_bytes(s);
            saved[k] = (char *)malloc(bytes[k]);
            CHECK(awq_session_save(&ctx, s, saved[k], bytes[k]) == AWQ_OK);
            CHECK(awq_session_fork(&ctx, s, NULL, &copy) == AWQ_OK);
            CHECK(awq_session_feed(&ctx, s, ids + n, 1, NULL, want) == AWQ_OK);
            CHECK_MSG(awq_session_restore(&ctx, other, saved[k], bytes[k], NULL) == AWQ_OK, "%s", ctx.err.text);
            CHECK(awq_session_feed(&ctx, other, ids + n, 1, NULL, got) == AWQ_OK && !memcmp(got, want, sizeof got));
            CHECK(awq_session_feed(&ctx, copy, ids + n, 1, NULL, got) == AWQ_OK && !memcmp(got, want, sizeof got));
            CHECK(awq_session_rewind(&ctx, s, n) == AWQ_OK);
            CHECK(awq_session_feed(&ctx, s, ids + n, 1, NULL, got) == AWQ_OK && !memcmp(got, want, sizeof got));
            if (n == 99) { /* another width refuses it */
                awq_session *wrong = NULL;
                CHECK(open_session(&ctx, model[(k + 1) % 3], N_IDS + 8, &wrong) == AWQ_OK);
                CHECK(awq_session_restore(&ctx, wrong, saved[k], bytes[k], NULL) == AWQ_E_FORMAT);
                CHECK_MSG(strstr(ctx.err.text, "saved with keys and values of"), "%s", ctx.err.text);
                close_session(&ctx, wrong);
            }
            free(saved[k]);
            awq_session_free(&ctx, copy);
            awq_session_free(&ctx, other);
            close_session(&ctx, s);
        }
    CHECK_MSG(bytes[0] < bytes[1] && bytes[1] < bytes[2], "%d, %d, %d", (int)bytes[0], (int)bytes[1], (int)bytes[2]);
    for (k = 0; k < 3; k++) awq_model_free(&ctx, model[k]);
    CHECK(ctx.memory_used == 0);
    tiny_free(&t);
}

static void test_refused(void)
{
    static const int widths[] = {-1, 1, 4, 12, 64};
    size_t i;
    tiny t;
    awq_ctx ctx;
    tiny_llama(&t);
    ctx = tiny_ctx(&t);
    for (i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        awq_model *m = NULL;
        awq_model_desc d;
        memset(&d, 0, sizeof d);
        d.kv_bits = widths[i];
        CHECK(awq_model_load(&ctx, "m", &d, &m) == AWQ_E_ARG && !m && strstr(ctx.err.text, "kv_bits"));
    }
    tiny_free(&t);
}

/* a real model, 2 windows of its evaluation: perplexity with each width */
static void test_smollm2(void)
{
    const char *folder = getenv("AWQ_SMOLLM2");
    double ppl[3];
    int32_t ids[1024];
    awq_ctx ctx;
    awq__json j;
    uint32_t node;
    char path[1024];
    int k, n = 0;
    if (!folder || !*folder || !TEST_DATA()) {
        printf("    not run: AWQ_SMOLLM2 and AWQ_TEST_DATA are not set\n");
        return;
    }
    memset(&ctx, 0, sizeof ctx);
    memset(&j, 0, sizeof j);
    snprintf(path, sizeof path, "%s/golden/smollm2/eval_ids.json", TEST_DATA());
    CHECK_MSG(awq__json_load(&ctx, path, 1 << 24, &j) == AWQ_OK, "%s", ctx.err.text);
    for (node = awq__json_first(&j, awq__json_get(&j, 1, "ids")); node && n < 1024; node = awq__json_next(&j, node)) {
        int64_t id = 0;
        awq__json_int_of(&j, node, &id);
        ids[n++] = (int32_t)id;
    }
    awq__json_free(&ctx, &j);
    CHECK(n == 1024);
    for (k = 0; k < 3; k++) { /* 32 bits, 16 and 8 */
        awq_model_desc d;
        awq_evaluate_desc e;
        awq_evaluation r;
        awq_model *m = NULL;
        memset(&d, 0, sizeof d);
        memset(&e, 0, sizeof e);
        memset(&r, 0, sizeof r);
        d.kv_bits = 32 >> k;
        d.rtn_bits = 4;
        d.rtn_group_size = 64;
        e.ids = ids;
        e.n_ids = n;
        CHECK_MSG(awq_model_load(&ctx, folder, &d, &m) == AWQ_OK, "%s", ctx.err.text);
        CHECK_MSG(m && awq_evaluate(&ctx, m, &e, &r) == AWQ_OK, "%s", ctx.err.text);
        ppl[k] = r.ppl;
        awq_model_free(&ctx, m);
    }
    printf("    perplexity %.4f with 32 bits, %.4f with 16, %.4f with 8\n", ppl[0], ppl[1], ppl[2]);
    CHECK(fabs(ppl[1] / ppl[0] - 1) < 1e-3 && fabs(ppl[2] / ppl[0] - 1) < 3e-3);
}

/* what is no number stays none, and is never made an integer */
static void test_nan(void)
{
    volatile float nan = NAN, huge = 3e38f;
    float v = nan, w = huge * 10;
    CHECK(awq__soften_exp(v) != awq__soften_exp(v) && awq__exp_body(v) != awq__exp_body(v));
    CHECK(awq__soften_exp(-3e38f) == 0 && awq__exp_body(-3e38f) == 0 && awq__exp_body(3e38f) > 1e38f);
    v = awq__exp_body(w) + awq__exp_body(-w) + awq__soften_exp(-w) + awq__soften_exp(w) * 0;
    CHECK(v != v || v > 0);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_instruction_sets);
    RUN(test_rows);
    RUN(test_cache);
    RUN(test_model);
    RUN(test_widths);
    RUN(test_sessions);
    RUN(test_refused);
    RUN(test_smollm2);
    RUN(test_nan);
    return TEST_END();
}
