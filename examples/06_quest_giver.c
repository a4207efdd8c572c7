/* 06 - a quest giver whose answers a game can read: JSON that fits a schema, whatever the model would rather say.
       cc -O2 -o 06_quest_giver examples/06_quest_giver.c -lm -lpthread
       ./06_quest_giver [MODEL]
   You learn: awq_grammar from a JSON schema and from a list of choices, sampling with a seed, and how an answer that ran
   out of tokens is told from a whole one. The demo model knows names and trades but has never seen JSON: the grammar
   supplies the form. Output for the demo model:
       {"giver": "Bram", "goal": "fetch", "reward": 45, "danger": true}   (35 tokens, complete)
       {"giver": "Anwen", "goal": "escort", "reward": 120, "danger": true }   (40 tokens, complete)
       ...
       {"giver":   (5 tokens, cut off) */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <stdio.h>
#include <string.h>

static const char schema[] =
    "{\"type\": \"object\", \"required\": [\"giver\", \"goal\", \"reward\", \"danger\"], \"properties\": {"
    "  \"giver\":  {\"type\": \"string\", \"minLength\": 2, \"maxLength\": 20},"
    "  \"goal\":   {\"enum\": [\"fetch\", \"escort\", \"find\", \"deliver\"]},"
    "  \"reward\": {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 500},"
    "  \"danger\": {\"type\": \"boolean\"}}}";

static int print_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    fwrite(text, 1, bytes, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const moods[] = {"friendly", "wary", "hostile"};
    static const char *const prompts[] = {"A quest from Bram: ", "A quest from Ottilie: ", "A quest from Zara: "};
    awq_ctx ctx;
    awq_model *model = NULL;
    awq_grammar *quest = NULL, *mood = NULL;
    awq_grammar_desc grammar;
    awq_generate_desc desc;
    awq_generate_result result;
    int i, failed = 1;

    memset(&ctx, 0, sizeof ctx);
    memset(&grammar, 0, sizeof grammar);
    memset(&desc, 0, sizeof desc);
    if (awq_model_load(&ctx, argc > 1 ? argv[1] : "tools/demo/model", NULL, &model)) goto out;
    grammar.schema = schema; /* a keyword that is not supported would be named */
    if (awq_grammar_create(&ctx, &grammar, &quest)) goto out;
    memset(&grammar, 0, sizeof grammar);
    grammar.choices = moods;
    grammar.n_choices = 3;
    if (awq_grammar_create(&ctx, &grammar, &mood)) goto out;

    desc.on_text = print_text;
    for (i = 0; i < 3; i++) {
        desc.prompt = prompts[i];
        desc.grammar = quest;
        desc.max_tokens = 96;
        desc.sampling.temperature = 0.8f;
        desc.sampling.seed = (uint64_t)i;
        if (awq_generate(&ctx, model, &desc, &result)) goto out;
        printf("   (%d tokens, %s)\n", (int)result.tokens, result.complete ? "complete" : "cut off");
    }
    desc.prompt = "Bram is";
    desc.grammar = mood;
    printf("Bram is ");
    if (awq_generate(&ctx, model, &desc, &result)) goto out;
    printf("\n");

    desc.prompt = prompts[0];
    desc.grammar = quest;
    desc.max_tokens = 5; /* too few */
    if (awq_generate(&ctx, model, &desc, &result)) goto out;
    printf("   (%d tokens, %s)\n", (int)result.tokens, result.complete ? "complete" : "cut off");
    failed = 0;
out:
    if (failed) fprintf(stderr, "%s\n", ctx.err.text);
    awq_grammar_free(&ctx, quest);
    awq_grammar_free(&ctx, mood);
    awq_model_free(&ctx, model);
    return failed;
}
