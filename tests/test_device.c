/* models on devices: the tests of sessions once more over devices that are the CPU (cpu_device.h), in every way
   to deal two layers out; which layers go where; failures. */
#define main session_main
#include "test_session.c"
#undef main
#include "cpu_device.h"

static cpu_device A, B;

static void devices(int a, int b)
{
    cpu_device_make(&A, 2);
    cpu_device_make(&B, 2);
    memset(&TEST_DEVICES, 0, sizeof TEST_DEVICES);
    TEST_DEVICES.device[0] = &A.d;
    TEST_DEVICES.device[1] = &B.d;
    TEST_DEVICES.layers[0] = a;
    TEST_DEVICES.layers[1] = b;
    TEST_DEVICES.n = 2;
    TEST_DEVICES.rest_on_cpu = a + b < 2;
}

static void sessions(void)
{
    test_together();
    test_soak();
    test_prefix();
    test_leave();
    test_waiting();
    test_overflow();
    test_text();
    test_state();
    test_embed();
    CHECK(A.pages == 0 && B.pages == 0 && A.works == 0 && B.works == 0);
    memset(&TEST_DEVICES, 0, sizeof TEST_DEVICES);
}

static void test_one_device(void)
{
    devices(2, 0);
    sessions();
    CHECK(A.calls > 1000 && B.calls == 0);
}

static void test_two_devices(void)
{
    devices(1, 1);
    sessions();
    CHECK(A.calls > 1000 && B.calls > 1000);
}

static void test_device_and_cpu(void)
{
    devices(1, 0);
    sessions();
    CHECK(A.calls > 1000);
}

/* the same logits, taps and perplexity wherever the layers are, to the bit */
typedef struct tapped {
    float data[4 * 8 * 1024];
    int64_t n;
} tapped;

static void on_tap(void *user, awq_tap_point point, int layer, const float *data, int64_t n, int64_t width)
{
    tapped *t = (tapped *)user;
    (void)point, (void)layer;
    CHECK(t->n + n * width <= (int64_t)(sizeof t->data / sizeof *t->data));
    if (t->n + n * width > (int64_t)(sizeof t->data / sizeof *t->data)) return;
    memcpy(t->data + t->n, data, (size_t)(n * width) * sizeof *data);
    t->n += n * width;
}

static void same_everywhere(int32_t *ids, int n, float *logits, tapped *taps, awq_evaluation *e)
{
    world w;
    awq_session *s = NULL;
    awq_feed_desc f;
    awq_evaluate_desc d;
    world_open(&w, 0);
    memset(&f, 0, sizeof f);
    memset(&d, 0, sizeof d);
    memset(taps, 0, sizeof *taps);
    f.tap = on_tap;
    f.user = taps;
    f.all_logits = logits;
    CHECK(open_session(&w.ctx, w.m, CONTEXT, &s) == AWQ_OK);
    CHECK_MSG(awq_session_feed(&w.ctx, s, ids, n, &f, NULL) == AWQ_OK, "%s", w.ctx.err.text);
    close_session(&w.ctx, s);
    d.ids = ids;
    d.n_ids = n;
    d.window = 8;
    CHECK_MSG(awq_evaluate(&w.ctx, w.m, &d, e) == AWQ_OK, "%s", w.ctx.err.text);
    world_close(&w);
}

static void test_numbers_everywhere(void)
{
    static const int deals[4][2] = {{0, 0}, {2, 0}, {1, 1}, {1, 0}};
    static float logits[4][24 * 512];
    static tapped taps[4];
    awq_evaluation e[4];
    int32_t ids[24];
    uint64_t seed = 5;
    int k;
    some_ids(&seed, ids, 24);
    for (k = 0; k < 4; k++) {
        devices(deals[k][0], deals[k][1]);
        if (!k) TEST_DEVICES.n = 0;
        same_everywhere(ids, 24, logits[k], &taps[k], &e[k]);
        CHECK(taps[k].n == taps[0].n && !memcmp(taps[k].data, taps[0].data, (size_t)taps[0].n * sizeof(float)));
        CHECK(!memcmp(logits[k], logits[0], sizeof logits[0]));
        CHECK(e[k].tokens == e[0].tokens && !memcmp(&e[k].nll, &e[0].nll, sizeof e[0].nll));
    }
    CHECK(taps[0].n > 0);
    memset(&TEST_DEVICES, 0, sizeof TEST_DEVICES);
}

static void load_refused(awq_ctx *ctx, const awq_model_desc *d, awq_status want, const char *words)
{
    awq_model *m = NULL;
    size_t used = ctx->memory_used;
    awq_status st = awq_model_load(ctx, "m", d, &m);
    CHECK_MSG(st == want && strstr(ctx->err.text, words), "%s: %s", awq_status_name(st), ctx->err.text);
    CHECK(!m && ctx->memory_used == used);
}

static void test_places(void)
{
    world w;
    awq_model_desc d;
    awq_device *list[9];
    int layers[2] = {1, 1}, k;
    world_open(&w, 0);
    cpu_device_make(&A, 1);
    cpu_device_make(&B, 1);
    memset(&d, 0, sizeof d);
    for (k = 0; k < 9; k++) list[k] = k ? &B.d : &A.d;
    d.devices = list;
    d.n_devices = 1;
    load_refused(&w.ctx, &d, AWQ_E_MEMORY, "the devices take 1 of 2 layers; cpu:");
    load_refused(&w.ctx, &d, AWQ_E_MEMORY, "1 layers in 2.00 GB, of 3.00 needed; set rest_on_cpu");
    d.device_layers = layers;
    layers[0] = 2;
    load_refused(&w.ctx, &d, AWQ_E_MEMORY, "has room for 1 layers, 2 are wanted");
    layers[0] = 3;
    load_refused(&w.ctx, &d, AWQ_E_ARG, "device_layers[0] is 3 of 2 layers that are left");
    layers[0] = 1;
    d.n_devices = 2;
    d.mode = AWQ_MODE_EXACT;
    load_refused(&w.ctx, &d, AWQ_E_UNSUPPORTED, "devices compute in the modes fast and deterministic");
    d.mode = AWQ_MODE_FAST;
    d.kv_bits = 8;
    load_refused(&w.ctx, &d, AWQ_E_UNSUPPORTED, "keys and values of 16 bits");
    d.kv_bits = 0;
    d.n_devices = 9;
    load_refused(&w.ctx, &d, AWQ_E_ARG, "n_devices is 9, expected 0 to 8");
    d.n_devices = 2;
    d.device_tokens = -1;
    load_refused(&w.ctx, &d, AWQ_E_ARG, "device_tokens is -1");
    d.device_tokens = 0;
    list[1] = list[0];
    load_refused(&w.ctx, &d, AWQ_E_ARG, "devices[0] and devices[1] are the same one");
    world_close(&w);
}

/* awq_memory_needed says where layers would go, and awq_model_load puts them there */
static void test_places_told(void)
{
    static const struct {
        int room[2], layers[2], n, rest_on_cpu, want[3]; /* layers -1: as many as it has room for */
    } cases[] = {{{2, 2}, {-1, -1}, 2, 0, {2, 0, 0}}, {{1, 2}, {-1, -1}, 2, 0, {1, 1, 0}}, {{0, 2}, {-1, -1}, 2, 0, {0, 2, 0}},
                 {{1, 0}, {-1, -1}, 2, 1, {1, 0, 1}}, {{0, 0}, {-1, -1}, 2, 1, {0, 0, 2}}, {{2, 2}, {1, 1}, 2, 0, {1, 1, 0}},
                 {{2, 2}, {0, 1}, 2, 1, {0, 1, 1}}, {{2, 2}, {1, 0}, 1, 1, {1, 0, 1}}};
    world w;
    size_t i;
    world_open(&w, 0);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        awq_device *list[2];
        awq_memory told, cpu;
        awq_model_desc d;
        awq_model *m = NULL;
        int k, first = 0, shares = 0;
        cpu_device_make(&A, cases[i].room[0]);
        cpu_device_make(&B, cases[i].room[1]);
        list[0] = &A.d;
        list[1] = &B.d;
        memset(&d, 0, sizeof d);
        CHECK(awq_memory_needed(&w.ctx, "m", &d, NULL, NULL, 1, &cpu) == AWQ_OK && cpu.host_layers == 2);
        d.devices = list;
        d.n_devices = cases[i].n;
        d.rest_on_cpu = cases[i].rest_on_cpu;
        if (cases[i].layers[0] >= 0) d.device_layers = cases[i].layers;
        CHECK_MSG(awq_memory_needed(&w.ctx, "m", &d, NULL, NULL, 1, &told) == AWQ_OK, "%s", w.ctx.err.text);
        CHECK_MSG(awq_model_load(&w.ctx, "m", &d, &m) == AWQ_OK, "%s", w.ctx.err.text);
        for (k = 0; m && k < 2; k++) {
            const awq_device_memory *p = &told.device[k];
            int n = cases[i].want[k];
            CHECK_MSG(p->layers == n && p->first_layer == first * (k < d.n_devices), "case %d: %d layers from %d on", (int)i,
                      p->layers, p->first_layer);
            CHECK(!strcmp(p->name, k < d.n_devices ? list[k]->name : ""));
            CHECK(!n || p->needed == (1 + (uint64_t)n) * 1000000000u);
            if (n) CHECK(m->share[shares].device == list[k] && m->share[shares].first == first && m->share[shares++].n == n);
            first += n;
        }
        CHECK(m && shares == m->n_shares && told.host_layers == cases[i].want[2] && m->host_first == 2 - told.host_layers);
        CHECK(told.host_layers == 2 ? told.loading == cpu.loading : told.loading > 1000000);
        CHECK(told.host_layers == 2 || told.session < cpu.session);
        CHECK(awq_model_free(&w.ctx, m) == AWQ_OK);
    }
    world_close(&w);
}

/* every call of a device fails once: the step says so, and the next one goes on as if nothing had been */
static void test_failing_device(void)
{
    static const int deals[3][2] = {{2, 0}, {1, 1}, {1, 0}};
    int32_t ids[40], want[12], got[12];
    uint64_t seed = 7;
    int k;
    some_ids(&seed, ids, 40);
    for (k = 0; k < 3; k++) {
        world w;
        int64_t at, calls = 0;
        devices(deals[k][0], deals[k][1]);
        world_open(&w, 0);
        for (at = 0; at == 0 || at < calls; at++) { /* the first time nothing fails */
            awq_generate_desc d;
            awq_session *s = NULL;
            int failed = 0;
            memset(&d, 0, sizeof d);
            d.ids = ids;
            d.n_ids = 40;
            d.max_tokens = 12;
            d.ignore_eos = 1;
            d.out_ids = at ? got : want;
            CHECK(open_session(&w.ctx, w.m, CONTEXT, &s) == AWQ_OK && awq_ask(&w.ctx, s, &d) == AWQ_OK);
            A.calls = 0;
            A.fail_call = at;
            while (awq_session_busy(s) && failed < 3) {
                awq_status st = awq_step(&w.ctx, s->runner, NULL, 0, AWQ_NO_BUDGET, NULL);
                if (!st) continue;
                CHECK(st == AWQ_E_IO && strstr(w.ctx.err.text, "this call was to fail"));
                failed++;
            }
            if (!at) calls = A.calls;
            CHECK(failed == (at > 0) && awq_session_answer(&w.ctx, s, NULL) == AWQ_OK);
            CHECK(!at || !memcmp(want, got, sizeof want));
            A.fail_call = 0;
            close_session(&w.ctx, s);
        }
        CHECK(calls > 20);
        world_close(&w);
    }
    memset(&TEST_DEVICES, 0, sizeof TEST_DEVICES);
}

/* a device chooses tokens, or sends what they are drawn from: they are those of the CPU's logits */
static void test_choices(void)
{
    int32_t ids[20], said[2][6][24];
    uint64_t seed = 17;
    int k, i;
    some_ids(&seed, ids, 20);
    for (k = 0; k < 2; k++) {
        world w;
        devices(2, 0);
        if (k) memset(&TEST_DEVICES, 0, sizeof TEST_DEVICES);
        world_open(&w, 0);
        for (i = 0; i < 6; i++) {
            awq_generate_desc d;
            memset(&d, 0, sizeof d);
            d.max_tokens = 24;
            d.ignore_eos = 1;
            d.sampling.seed = 3;
            d.sampling.temperature = i == 0 ? 0 : i == 4 ? 1e-4f : 3; /* 1e-4: most are as unlikely as can be */
            d.sampling.top_k = i == 1 ? 1 : i == 2 ? 7 : i == 3 ? 30 : i == 4 ? 20 : 0;
            d.sampling.top_p = i == 3 ? 0.8f : 0;
            alone(&w, &d, ids, 20, said[k][i], NULL);
        }
        world_close(&w);
    }
    for (i = 0; i < 6; i++) CHECK_MSG(!memcmp(said[0][i], said[1][i], sizeof said[0][i]), "way %d", i);
    memset(&TEST_DEVICES, 0, sizeof TEST_DEVICES);
}

int main(int argc, char **argv)
{
    setenv("AWQ_SOAK_SECONDS", "3", 0);
    TEST_BEGIN(argc, argv);
    RUN(test_numbers_everywhere);
    RUN_PLAIN(test_one_device);
    RUN(test_two_devices);
    RUN_PLAIN(test_device_and_cpu);
    RUN(test_places);
    RUN(test_places_told);
    RUN(test_choices);
    RUN(test_failing_device);
    return TEST_END();
}
