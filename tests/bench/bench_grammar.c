/* What a grammar costs: decoding with a JSON schema against decoding without, on models with random weights and real
   vocabularies of 32,000 and 128,256 tokens (AWQ_TEST_DATA: fixtures/tokenizers), medians of 7 answers in turn. Goal: under
   5 % of the decode time.
   Random weights are the worst case: their logits are flat, so that the first choices rarely fit. */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#include "../synthetic.h"

static const char schema[] =
    "{\"type\": \"object\", \"required\": [\"name\", \"story\", \"items\", \"age\"], \"properties\": {"
    "\"name\": {\"type\": \"string\"}, \"story\": {\"type\": \"string\", \"maxLength\": 400},"
    "\"items\": {\"type\": \"array\", \"items\": {\"enum\": [\"sword\", \"lamp\", \"rope\"]}, \"minItems\": 2},"
    "\"age\": {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 120}}}";

static void fail(awq_ctx *ctx)
{
    printf("%s\n", ctx->err.text);
    exit(1);
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* ms per token of one answer */
static double decode(awq_ctx *ctx, const awq_model *m, awq_grammar *g, const awq_sampling *sampling, int seed)
{
    awq_generate_desc d;
    awq_generate_result r;
    memset(&d, 0, sizeof d);
    d.prompt = "Describe a character:";
    d.max_tokens = 32;
    d.grammar = g;
    d.ignore_eos = !g;
    d.sampling = *sampling;
    d.sampling.seed = (uint64_t)seed;
    if (awq_generate(ctx, m, &d, &r)) fail(ctx);
    return 1e3 * r.decode_seconds / (double)AWQ__MAX(r.tokens - 1, (int64_t)1); /* the first comes with the prompt */
}

static void measure(awq_ctx *ctx, const synthetic_shape *shape, const char *root, const char *tokenizer)
{
    enum { ROUNDS = 7 };
    static const struct {
        const char *name;
        awq_sampling s;
    } ways[] = {{"greedy", {0, 0, 0, 0, 0, 0, 0}}, {"T 0.8, top_p 0.95", {0.8f, 0, 0.95f, 0, 0, 0, 0}}};
    char path[1024];
    awq_model *m = NULL;
    awq_grammar *g = NULL;
    awq_grammar_desc gd;
    synthetic s;
    size_t i;
    memset(&gd, 0, sizeof gd);
    gd.schema = schema;
    synthetic_make(&s, shape);
    snprintf(path, sizeof path, "xz -dc '%s/fixtures/tokenizers/%s/tokenizer.json.xz' > build/bench_tokenizer.json", root, tokenizer);
    if (system(path) || !synthetic_tokenizer(&s, "build/bench_tokenizer.json")) {
        printf("skipped: no tokenizer (%s)\n", path);
        synthetic_free(&s);
        return;
    }
    ctx->files = synthetic_files(&s);
    if (awq_model_load(ctx, "m", NULL, &m) || awq_grammar_create(ctx, &gd, &g)) fail(ctx);
    for (i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        double with[ROUNDS], without[ROUNDS];
        int k;
        for (k = -1; k < ROUNDS; k++) { /* turn by turn; the first round warms up */
            without[k < 0 ? 0 : k] = decode(ctx, m, NULL, &ways[i].s, k);
            with[k < 0 ? 0 : k] = decode(ctx, m, g, &ways[i].s, k);
        }
        qsort(with, ROUNDS, sizeof *with, by_double);
        qsort(without, ROUNDS, sizeof *without, by_double);
        printf("%-16s %6d tokens  %-18s %7.2f ms a token without, %7.2f with: %+5.1f %%\n", shape->name, (int)shape->vocab,
               ways[i].name, without[ROUNDS / 2], with[ROUNDS / 2], 100 * (with[ROUNDS / 2] / without[ROUNDS / 2] - 1));
    }
    awq_grammar_free(ctx, g);
    awq_model_free(ctx, m);
    synthetic_free(&s);
}

int main(void)
{
    const char *root = getenv("AWQ_TEST_DATA");
    awq_ctx ctx;
    awq_pool *pool = NULL;
    memset(&ctx, 0, sizeof ctx);
    if (!root || !*root) {
        puts("skipped: AWQ_TEST_DATA is not set");
        return 0;
    }
    if (awq_pool_create(&ctx, 0, &pool)) fail(&ctx);
    ctx.jobs = awq_pool_jobs(pool);
    measure(&ctx, &synthetic_tinyllama, root, "llama2");
    measure(&ctx, &synthetic_llama3_1b, root, "llama3");
    awq_pool_free(&ctx, pool);
    return 0;
}
