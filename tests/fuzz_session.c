/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_session.c -o fuzz_session -lm -lpthread
   ./fuzz_session -max_total_time=60
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_session.c -o fuzz_session -lm -lpthread && ./fuzz_session FILE ...
   The input is a saved session of the model of tiny.h, or, if it says that its keys and values are of 8 bits, of a
   mistral with a window. It is restored as it is, then with the model's hash and the checksum put right; what is
   accepted goes on to its end, is saved again, forked, and taken back. With FUZZ_SEEDS in the environment (a folder) saved sessions are
   written there. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "tiny.h"

enum { CONTEXT = 64 };

typedef struct world {
    tiny t;
    awq_ctx ctx;
    awq_model *m;
    awq_runner *r;
    awq_session *s, *again;
    awq_memory_file file;
    awq_memory_list list;
    char json[4096];
} world;

static world worlds[2], *w = worlds; /* w: at work */

static void must(awq_status st)
{
    if (st) puts(w->ctx.err.text), abort();
}

static int on_text(void *user, const char *text, size_t bytes) { return (void)user, (void)text, bytes > 1000; }

static awq_generate_desc question(void)
{
    static const char *const stop[] = {"qu", "xyz"};
    awq_generate_desc d;
    memset(&d, 0, sizeof d);
    d.max_tokens = 12;
    d.ignore_eos = 1;
    d.stop = stop;
    d.n_stop = 2;
    d.on_text = on_text;
    d.sampling.temperature = 1;
    return d;
}

static void seed(const char *folder, const char *name, int64_t ids, int steps)
{
    char path[512];
    int32_t list[CONTEXT];
    awq_generate_desc d = question();
    int i;
    for (i = 0; i < CONTEXT; i++) list[i] = 3 + i;
    must(awq_session_rewind(&w->ctx, w->s, 0));
    if (ids) {
        d.ids = list;
        d.n_ids = ids;
        must(awq_ask(&w->ctx, w->s, &d));
    }
    for (i = 0; i < steps; i++) must(awq_step(&w->ctx, w->r, NULL, 0, AWQ_NO_BUDGET, NULL));
    snprintf(path, sizeof path, "%s/%s", folder, name);
    memset(&w->ctx.files, 0, sizeof w->ctx.files);
    must(awq_session_save_file(&w->ctx, w->s, path));
}

static void begin(void)
{
    awq_runner_desc rd;
    awq_session_desc sd;
    const char *seeds = getenv("FUZZ_SEEDS");
    char *p = w->json;
    int c, small = w == &worlds[1];
    awq_model_desc md;
    tiny_llama(&w->t);
    if (small) tiny_set(&w->t, "model_type", "\"mistral\"");
    if (small) tiny_set(&w->t, "sliding_window", "16");
    p += sprintf(p, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":"
                    "\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"\xc3\x83\":0,\"\xc2\xa9\":1");
    for (c = 33; c < 127; c++) p += sprintf(p, c == '"' || c == '\\' ? ",\"\\%c\":%d" : ",\"%c\":%d", c, c - 31);
    sprintf(p, "}}}");
    tiny_file(&w->t, "m/tokenizer.json", w->json);
    w->ctx = tiny_ctx(&w->t);
    memset(&md, 0, sizeof md);
    md.kv_bits = small ? 8 : 0;
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    must(awq_model_load(&w->ctx, "m", &md, &w->m));
    must(awq_runner_create(&w->ctx, w->m, &rd, &w->r));
    sd.max_tokens = CONTEXT;
    must(awq_session_create(&w->ctx, w->r, &sd, &w->s));
    must(awq_session_create(&w->ctx, w->r, &sd, &w->again));
    w->ctx.memory_limit = w->ctx.memory_used + ((size_t)64 << 20);
    if (seeds) {
        seed(seeds, small ? "empty8" : "empty", 0, 0);
        seed(seeds, small ? "asked8" : "asked", 5, 0);
        seed(seeds, small ? "answering8" : "answering", 3, 4);
        seed(seeds, small ? "done8" : "done", 20, 40);
    }
}

static void try_it(const char *data, size_t size, int go_on)
{
    awq_generate_desc d = question();
    awq_status st;
    awq_session *fork = NULL;
    awq_generate_result r;
    size_t bytes;
    char *copy;
    int steps = 0;
    w->file.data = data;
    w->file.bytes = size;
    w->list.files = &w->file;
    w->list.count = 1;
    w->ctx.files = awq_memory_files(&w->list);
    w->file.path = "saved";
    st = go_on ? awq_session_restore_file(&w->ctx, w->s, "saved", &d)
               : awq_session_restore(&w->ctx, w->s, data, size, NULL);
    if (st) {
        if (!w->ctx.err.text[0] || awq_session_busy(w->s)) abort();
        return;
    }
    bytes = awq_session_bytes(w->s);
    copy = (char *)malloc(bytes);
    must(awq_session_save(&w->ctx, w->s, copy, bytes));
    st = awq_session_restore(&w->ctx, w->again, copy, bytes, go_on ? &d : NULL);
    free(copy);
    if (st && st != AWQ_E_MEMORY) must(st); /* an answer of millions of tokens: there is room for one */
    if (!st && awq_session_position(w->again) != awq_session_position(w->s)) abort();
    if (!awq_session_fork(&w->ctx, w->s, go_on ? &d : NULL, &fork)) {
        if (awq_session_position(fork) != awq_session_position(w->s)) abort();
        if (awq_session_busy(fork) != awq_session_busy(w->s)) abort();
    } else if (!w->ctx.err.text[0]) abort();
    while (awq_session_busy(w->s) || awq_session_busy(w->again)) {
        must(awq_step(&w->ctx, w->r, NULL, 0, AWQ_NO_BUDGET, NULL));
        if (++steps > 4 * CONTEXT) abort();
        if (steps == 2 && !awq_session_answer(&w->ctx, w->s, &r) && r.tokens && size % 2) {
            st = awq_session_rollback(&w->ctx, w->s, awq_session_position(w->s) - (int64_t)(size % (size_t)(r.tokens + 1)), &d);
            if (st && !w->ctx.err.text[0]) abort();
        }
    }
    if (fork) {
        int64_t a = awq_session_position(w->again), b = awq_session_position(fork);
        while (awq_session_busy(fork)) must(awq_step(&w->ctx, w->r, NULL, 0, AWQ_NO_BUDGET, NULL));
        if (a == b && memcmp(awq_session_ids(w->again), awq_session_ids(fork), (size_t)a * sizeof(int32_t))) abort();
        must(awq_session_free(&w->ctx, fork));
    }
    if (awq_session_position(w->s) < CONTEXT - 1) {
        int32_t id = 5;
        awq_status fed = awq_session_feed(&w->ctx, w->s, &id, 1, NULL, NULL);
        if (fed && !w->ctx.err.text[0]) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = (char *)malloc(size + 1);
    awq__saved h;
    if (size) memcpy(copy, data, size);
    if (size >= sizeof h) memcpy(&h, copy, sizeof h);
    w = &worlds[size >= sizeof h && h.kv_bits == 8];
    if (!w->m) begin();
    try_it(copy, size, 1);
    if (size >= sizeof h + 8) {
        uint64_t sum, hash = awq_model_hash(w->m);
        awq__copy_little(copy + offsetof(awq__saved, model), &hash, 8);
        sum = awq__checksum(AWQ__SAVED_VERSION, copy, size - 8);
        awq__copy_little(copy + size - 8, &sum, 8);
        try_it(copy, size, 1);
        try_it(copy, size, 0);
    }
    free(copy);
    return 0;
}

#include "fuzz.h"
