/* 01 - load a model and let it answer: from a folder to text on the screen.
       cc -O2 -o 01_generate examples/01_generate.c -lm -lpthread
       ./01_generate [MODEL] [QUESTION]
   You learn: the context and its zero defaults, the thread pool, streaming text, a chat message, errors.
   MODEL is a Hugging Face folder, full precision or quantized. Output for the demo model:
       He is the carpenter in Dunmarrow.
       (11 tokens of prompt, 7 of answer, 350 per second) */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <stdio.h>
#include <string.h>

/* called with whole UTF-8 characters as soon as they are certain; nonzero would end the answer */
static int print_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "tools/demo/model";
    awq_message message;
    awq_generate_desc desc;
    awq_generate_result result;
    awq_pool *pool = NULL;
    awq_model *model = NULL;
    awq_ctx ctx;
    int failed = 1;

    memset(&ctx, 0, sizeof ctx);   /* zero means default everywhere */
    memset(&desc, 0, sizeof desc); /* no sampling settings: always the most probable token */
    memset(&message, 0, sizeof message);
    message.role = "user";
    message.content = argc > 2 ? argv[2] : "What is Bram's trade?";
    desc.messages = &message; /* rendered by the model's chat template; desc.prompt is for plain text */
    desc.n_messages = 1;
    desc.max_tokens = 64;
    desc.on_text = print_text;

    if (awq_pool_create(&ctx, 0, &pool)) goto out; /* 0: one thread per core */
    ctx.jobs = awq_pool_jobs(pool);
    if (awq_model_load(&ctx, folder, NULL, &model)) goto out;
    if (awq_generate(&ctx, model, &desc, &result)) goto out;
    printf("\n(%lld tokens of prompt, %lld of answer, %.0f per second)\n", (long long)result.prompt_tokens,
           (long long)result.tokens, (double)result.tokens / (result.decode_seconds + 1e-9));
    failed = 0;
out:
    if (failed) fprintf(stderr, "%s\n", ctx.err.text); /* one sentence that names what was wrong */
    awq_model_free(&ctx, model);
    awq_pool_free(&ctx, pool); /* after everything that used it */
    return failed;
}
