/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_grammar.c -o fuzz_grammar -lm -lpthread
   ./fuzz_grammar -max_total_time=60 -max_len=4096
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_grammar.c -o fuzz_grammar -lm -lpthread && ./fuzz_grammar FILE ...
   The input is a GBNF text, or a schema if it begins with '{', then perhaps a NUL and a text that is matched,
   also in small pieces and with little memory; then states are followed at random. A schema's GBNF must read. */
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
