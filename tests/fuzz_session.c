/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_session.c -o fuzz_session -lm -lpthread
   ./fuzz_session -max_total_time=60
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_session.c -o fuzz_session -lm -lpthread && ./fuzz_session FILE ...
   The input is a saved session of the model of tiny.h. It is restored as it is, then with the model's hash and the
   checksum put right; what is accepted goes on to its end and is saved again. With FUZZ_SEEDS in the environment
   (a folder) saved sessions are written there. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "tiny.h"

enum { CONTEXT = 64 };

static struct {
    tiny t;
    awq_ctx ctx;
    awq_model *m;
    awq_runner *r;
    awq_session *s, *again;
    char json[4096];
} F;

static void must(awq_status st)
{
    if (st) puts(F.ctx.err.text), abort();
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
    must(awq_session_rewind(&F.ctx, F.s, 0));
    if (ids) {
        d.ids = list;
        d.n_ids = ids;
        must(awq_ask(&F.ctx, F.s, &d));
    }
    for (i = 0; i < steps; i++) must(awq_step(&F.ctx, F.r, NULL, 0, AWQ_NO_BUDGET, NULL));
    snprintf(path, sizeof path, "%s/%s", folder, name);
    memset(&F.ctx.files, 0, sizeof F.ctx.files);
    must(awq_session_save_file(&F.ctx, F.s, path));
}

static void begin(void)
{
    awq_runner_desc rd;
    awq_session_desc sd;
    const char *seeds = getenv("FUZZ_SEEDS");
    char *p = F.json;
    int c;
    tiny_llama(&F.t);
    p += sprintf(p, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":"
                    "\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"\xc3\x83\":0,\"\xc2\xa9\":1");
    for (c = 33; c < 127; c++) p += sprintf(p, c == '"' || c == '\\' ? ",\"\\%c\":%d" : ",\"%c\":%d", c, c - 31);
    sprintf(p, "}}}");
    tiny_file(&F.t, "m/tokenizer.json", F.json);
    F.ctx = tiny_ctx(&F.t);
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    must(awq_model_load(&F.ctx, "m", NULL, &F.m));
    must(awq_runner_create(&F.ctx, F.m, &rd, &F.r));
    sd.max_tokens = CONTEXT;
    must(awq_session_create(&F.ctx, F.r, &sd, &F.s));
    must(awq_session_create(&F.ctx, F.r, &sd, &F.again));
    F.ctx.memory_limit = F.ctx.memory_used + ((size_t)64 << 20);
    if (seeds) {
        seed(seeds, "empty", 0, 0);
        seed(seeds, "asked", 5, 0);
        seed(seeds, "answering", 3, 4);
        seed(seeds, "done", 20, 40);
    }
}

static void try_it(const char *data, size_t size, int go_on)
{
    awq_generate_desc d = question();
    awq_status st = awq_session_restore(&F.ctx, F.s, data, size, go_on ? &d : NULL);
    size_t bytes;
    char *copy;
    int steps = 0;
    if (st) {
        if (!F.ctx.err.text[0] || awq_session_busy(F.s)) abort();
        return;
    }
    bytes = awq_session_bytes(F.s);
    copy = (char *)malloc(bytes);
    must(awq_session_save(&F.ctx, F.s, copy, bytes));
    st = awq_session_restore(&F.ctx, F.again, copy, bytes, go_on ? &d : NULL);
    free(copy);
    if (st && st != AWQ_E_MEMORY) must(st); /* an answer of millions of tokens: there is room for one */
    if (!st && awq_session_position(F.again) != awq_session_position(F.s)) abort();
    while (awq_session_busy(F.s) || awq_session_busy(F.again)) {
        must(awq_step(&F.ctx, F.r, NULL, 0, AWQ_NO_BUDGET, NULL));
        if (++steps > 4 * CONTEXT) abort();
    }
    if (awq_session_position(F.s) < CONTEXT - 1) {
        int32_t id = 5;
        awq_status fed = awq_session_feed(&F.ctx, F.s, &id, 1, NULL, NULL);
        if (fed && !F.ctx.err.text[0]) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = (char *)malloc(size + 1);
    awq__saved h;
    if (!F.m) begin();
    if (size) memcpy(copy, data, size);
    try_it(copy, size, 1);
    if (size >= sizeof h + 8) {
        uint64_t sum, hash = awq_model_hash(F.m);
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
