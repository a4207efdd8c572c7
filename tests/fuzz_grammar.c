/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_grammar.c -o fuzz_grammar -lm -lpthread
   ./fuzz_grammar -max_total_time=60 -max_len=4096
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_grammar.c -o fuzz_grammar -lm -lpthread && ./fuzz_grammar FILE ...
   The input is a GBNF text, or a schema if it begins with '{', then perhaps a NUL and a text that is matched,
   also in small pieces and with little memory; then states are followed at random, and there a vocabulary's mask must
   say of every token what walking it says. A schema's GBNF must read. */
#define AWQ_IMPLEMENTATION
#define AWQ__GR_WORK 300000 /* so that one input takes milliseconds */
#include "../awq.h"

static awq_status step_byte(awq_ctx *ctx, awq_grammar *g, int32_t state, unsigned char byte, int32_t *next)
{
    return awq__gr_walk(ctx, g, state, (const char *)&byte, 1, next);
}

static void check(int ok)
{
    if (!ok) abort();
}

/* bytes, and texts that grammars of JSON like; which 1: decoding takes a leading space from a text, 2: several */
static const awq__gr_vocab *vocabulary(int which)
{
    static awq__gr_vocab *all[3];
    static const char *const decoder[] = {
        "{\"type\":\"ByteLevel\"}",
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,"
        "\"stop\":0}]}",
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":3,"
        "\"stop\":0}]}"};
    static const char *const more[] = {"{\\\"", "\\\":", "\\\",", "true", "false", "null", "  ", " a", " \\\"", "}}", "]}", "0.", "ab",
                                       "abc", "-1", "e+", "\\\\u0", "\xc3\xa9", "\xe4\xb8\xad", "  b c"};
    awq_memory_file file;
    awq_memory_list list;
    awq_ctx ctx;
    awq_tokenizer *t = NULL;
    char json[8192], *p = json;
    size_t i;
    if (all[which]) return all[which];
    p += sprintf(p, "{\"decoder\":%s,\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\" \":0", decoder[which]);
    for (i = 33; i < 127; i++) p += sprintf(p, i == '"' || i == '\\' ? ",\"\\%c\":%d" : ",\"%c\":%d", (int)i, (int)i - 32);
    for (i = 0; i < sizeof more / sizeof more[0]; i++) p += sprintf(p, ",\"%s\":%d", more[i], 95 + (int)i);
    sprintf(p, "}}}");
    memset(&ctx, 0, sizeof ctx);
    file.path = "t.json";
    file.data = json;
    file.bytes = strlen(json);
    list.files = &file;
    list.count = 1;
    ctx.files = awq_memory_files(&list);
    if (awq_tokenizer_load(&ctx, "t.json", &t) || awq__gr_vocab_create(&ctx, t, 120, &all[which]))
        puts(ctx.err.text), abort();
    awq_tokenizer_free(&ctx, t);
    return all[which];
}

static void check_mask(awq_ctx *ctx, awq_grammar *g, int32_t state, int at_start, int which)
{
    const awq__gr_vocab *v = vocabulary(which);
    uint32_t mask[4];
    int64_t count, n = 0;
    int32_t id, next;
    int again;
    for (again = 0; again < 2; again++) { /* made, then perhaps kept */
        if (awq__gr_mask(ctx, g, state, at_start, v, mask, &count)) return;
        for (id = n = 0; id < 120; id++) {
            g->work = 0;
            if (awq__gr_token_fits(ctx, g, state, at_start, v, id, &next)) return;
            check((next != 0) == (int)(mask[id >> 5] >> (id & 31) & 1));
            n += next != 0;
        }
        check(n == count);
    }
}

static void use(awq_ctx *ctx, awq_grammar *g, const char *text, size_t n)
{
    int32_t state, next;
    awq_match m = AWQ_MATCH_NO;
    awq_status st = awq_grammar_match(ctx, g, text, n, &m), one = AWQ_OK;
    size_t i, k;
    check(!st || st == AWQ_E_LIMIT);
    state = g->start;
    check(state > 0);
    awq__gr_hold(g, state, 1);
    for (i = 0; i < n && !one && state; i++) {
        one = step_byte(ctx, g, state, (unsigned char)text[i], &next);
        if (one) break;
        awq__gr_hold(g, next, 1);
        awq__gr_hold(g, state, -1);
        state = next;
    }
    if (!st && !one) {
        check((m != AWQ_MATCH_NO) == (state != 0));
        check((m == AWQ_MATCH_WHOLE) == awq__gr_accepts(g, state));
    }
    for (i = 0; i < 40 && state && !one; i++) { /* no dead ends */
        int c, from = n ? (unsigned char)text[i % n] : 0, found = 0;
        if (i % 8 == 0) check_mask(ctx, g, state, i == 0, (int)(n % 3));
        for (k = 0; k < 256 && !found; k++) {
            c = (from + (int)k) % 256;
            one = step_byte(ctx, g, state, (unsigned char)c, &next);
            if (one) return;
            found = next != 0;
        }
        check(found ? !awq__gr_ends(g, state) : awq__gr_accepts(g, state) && awq__gr_ends(g, state));
        if (!found) return;
        awq__gr_hold(g, next, 1);
        awq__gr_hold(g, state, -1);
        state = next;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    awq_grammar_desc desc;
    awq_grammar *g = NULL, *again = NULL;
    awq_ctx ctx;
    awq_status st;
    char *source = (char *)malloc(size + 1); /* its own block, so that a read past the end shows */
    size_t n;
    if (!source) return 0;
    if (size) memcpy(source, data, size);
    source[size] = 0;
    n = strlen(source);
    memset(&ctx, 0, sizeof ctx);
    memset(&desc, 0, sizeof desc);
    if (source[0] == '{') desc.schema = source;
    else desc.gbnf = source;
    desc.memory = size % 3 ? 65536 : (size_t)1 << 20;
    st = awq_grammar_create(&ctx, &desc, &g);
    check(st ? ctx.err.text[0] && !g : g != NULL);
    if (g) use(&ctx, g, source + AWQ__MIN(n + 1, size), size - AWQ__MIN(n + 1, size));
    if (g && desc.schema && strlen(awq_grammar_text(g)) <= AWQ__GR_TEXT) {
        desc.schema = NULL;
        desc.gbnf = awq_grammar_text(g);
        st = awq_grammar_create(&ctx, &desc, &again);
        check(!st && !strcmp(awq_grammar_text(again), awq_grammar_text(g)));
        awq_grammar_free(&ctx, again);
    }
    awq_grammar_free(&ctx, g);
    free(source);
    check(ctx.memory_used == 0);
    return 0;
}

#include "fuzz.h"
