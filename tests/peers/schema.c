/* For tests/peers/schema.py: sentences of a grammar made from a schema, and what it says of given ones.
     schema FILE                  its rules as GBNF
     schema FILE N SEED           N random sentences, one a line, each as a JSON string
     schema FILE match < LINES    for each line, a JSON string: 0 no, 1 the beginning of one, 2 a sentence */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"

static awq_status step_byte(awq_ctx *ctx, awq_grammar *g, int32_t state, unsigned char byte, int32_t *next)
{
    return awq__gr_walk(ctx, g, state, (const char *)&byte, 1, next);
}

#define LONGEST 4096
#define SEARCH 60000 /* states */

static uint64_t seed;
static uint32_t dice(uint32_t n)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 33) % n;
}

/* the shortest way from `state` to the end of a sentence, behind text; its length, or 0 */
static size_t finish(awq_ctx *ctx, awq_grammar *g, int32_t state, char *text)
{
    static int32_t queue[SEARCH], from[SEARCH];
    static unsigned char by[SEARCH], seen[70000];
    size_t at, n = 1, len = 0;
    memset(seen, 0, sizeof seen);
    queue[0] = state;
    seen[state] = 1;
    for (at = 0; at < n; at++) {
        int c;
        if (awq__gr_accepts(g, queue[at])) {
            size_t k;
            for (k = at; k; k = (size_t)from[k]) len++;
            for (n = len, k = at; k; k = (size_t)from[k]) text[--n] = (char)by[k];
            return len;
        }
        for (c = 0; c < 256; c++) {
            int32_t next;
            if (step_byte(ctx, g, queue[at], (unsigned char)c, &next)) exit((puts(ctx->err.text), 1));
            if (!next || seen[next] || n == SEARCH) continue;
            seen[next] = 1;
            by[n] = (unsigned char)c;
            from[n] = (int32_t)at;
            queue[n++] = next;
        }
    }
    return 0;
}

/* A walk: of the states that may come next one at random, then one of its bytes; once the text is long enough
   it is finished the shortest way. */
static size_t sentence(awq_ctx *ctx, awq_grammar *g, char *text)
{
    size_t len = 0, enough = dice(4) ? dice(60) : dice(400);
    int32_t state, next[256], kinds[256];
    state = g->start;
    while (len < enough) {
        int c, n = 0, k;
        if (awq__gr_ends(g, state) || (awq__gr_accepts(g, state) && !dice(8))) return len;
        for (c = 0; c < 256; c++) {
            if (step_byte(ctx, g, state, (unsigned char)c, &next[c])) exit((puts(ctx->err.text), 1));
            if (!next[c]) continue;
            for (k = 0; k < n && kinds[k] != next[c]; k++)
                ;
            if (k == n) kinds[n++] = next[c];
        }
        state = kinds[dice((uint32_t)n)];
        for (c = (int)dice(256); next[c] != state; c = (c + 1) % 256)
            ;
        text[len++] = (char)c;
    }
    return len + finish(ctx, g, state, text + len);
}

int main(int argc, char **argv)
{
    static char line[1 << 20];
    awq_ctx ctx;
    awq_grammar_desc desc;
    awq_grammar *g;
    char *data;
    size_t n;
    int i;
    memset(&ctx, 0, sizeof ctx);
    memset(&desc, 0, sizeof desc);
    if (argc < 2 || awq__file_load(&ctx, argv[1], (size_t)1 << 30, &data, &n)) return puts(ctx.err.text), 2;
    desc.schema = data;
    desc.memory = (size_t)64 << 20; /* no state is dropped while it is walked */
    if (awq_grammar_create(&ctx, &desc, &g)) return puts(ctx.err.text), 1;
    if (argc == 2) puts(awq_grammar_text(g));
    else if (!strcmp(argv[2], "match"))
        while (fgets(line, sizeof line, stdin)) {
            awq__json j;
            awq_match m;
            const char *s;
            if (awq__json_parse(&ctx, "line", line, strlen(line), &j)) return puts(ctx.err.text), 2;
            s = awq__json_str(&j, 1, &n);
            if (!s || awq_grammar_match(&ctx, g, s, n, &m)) return puts(ctx.err.text), 2;
            printf("%d\n", (int)m);
            awq__json_free(&ctx, &j);
        }
    else
        for (i = 0, seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1; i < atoi(argv[2]); i++) {
            awq__text out = {NULL, 0, 0, 0};
            n = sentence(&ctx, g, line);
            awq__json_quote(&ctx, &out, line, n);
            puts(out.data);
            awq__text_free(&ctx, &out);
        }
    awq_grammar_free(&ctx, g);
    awq__free(&ctx, data);
    return 0;
}
