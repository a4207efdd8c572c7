/* What a grammar costs: decoding with a JSON schema against decoding without, on models with random weights and real
   vocabularies of 32,000 and 128,256 tokens (AWQ_TEST_DATA: fixtures/tokenizers). Goal: under 5 % of the decode time.
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

/* ms per token */
static double decode(awq_ctx *ctx, const awq_model *m, awq_grammar *g, float temperature, int top_k, float top_p)
{
    awq_generate_desc d;
    awq_generate_result r;
    double ms = 0;
    int64_t tokens = 0;
    int seed;
    memset(&d, 0, sizeof d);
    d.prompt = "Describe a character:";
    d.max_tokens = 48;
    d.grammar = g;
    d.ignore_eos = !g;
    d.sampling.temperature = temperature;
    d.sampling.top_k = top_k;
    d.sampling.top_p = top_p;
    for (seed = 0; tokens < 144; seed++) {
        d.sampling.seed = (uint64_t)seed;
        if (awq_generate(ctx, m, &d, &r)) fail(ctx);
        ms += 1e3 * r.decode_seconds;
        tokens += r.tokens;
    }
    return ms / (double)tokens;
}

static void measure(awq_ctx *ctx, const synthetic_shape *shape, const char *root, const char *tokenizer)
{
    static const struct {
        const char *name;
        float temperature;
        int top_k;
        float top_p;
    } ways[] = {{"greedy", 0, 0, 0}, {"top_k 40", 0.8f, 40, 0}, {"top_p 0.95", 0.8f, 0, 0.95f}, {"temperature 1", 1, 0, 0}};
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
        double with, without;
        decode(ctx, m, g, ways[i].temperature, ways[i].top_k, ways[i].top_p);
        without = decode(ctx, m, NULL, ways[i].temperature, ways[i].top_k, ways[i].top_p);
        with = decode(ctx, m, g, ways[i].temperature, ways[i].top_k, ways[i].top_p);
        printf("%-16s %6d tokens  %-14s %7.2f ms a token without, %7.2f with: %+5.1f %%\n", shape->name, (int)shape->vocab,
               ways[i].name, without, with, 100 * (with / without - 1));
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
