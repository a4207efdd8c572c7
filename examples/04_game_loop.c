/* 04 - several characters talk while a game runs: one frame is 16 ms, 2 ms of each go to the models.
       cc -O2 -o 04_game_loop examples/04_game_loop.c -lm -lpthread
       ./04_game_loop [MODEL]
   You learn: a runner and its sessions, asking without waiting, awq_step with a budget, what a step reports, and that
   the shared beginning of all characters is computed once. Output for the demo model (times are this machine's):
       frame   1: asked 4 characters
       frame   8  innkeeper: In Dunmarrow.
       frame   9  guard: He is the carpenter in Dunmarrow.
       ...
       9 frames; the longest step took 2.1 ms */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <stdio.h>
#include <string.h>

#define CHARACTERS 4
#define BUDGET_US 2000

typedef struct character {
    const char *name, *question;
    awq_session *session;
    char said[512]; /* filled as the text comes; a game would show it */
    size_t length;
} character;

static int on_text(void *user, const char *text, size_t bytes)
{
    character *c = (character *)user;
    if (bytes > sizeof c->said - 1 - c->length) bytes = sizeof c->said - 1 - c->length;
    memcpy(c->said + c->length, text, bytes);
    c->length += bytes;
    c->said[c->length] = 0;
    return 0;
}

int main(int argc, char **argv)
{
    static character cast[CHARACTERS] = {{"guard", "What is Bram's trade?", NULL, "", 0},
                                         {"innkeeper", "Where does Bram live?", NULL, "", 0},
                                         {"smith", "Who is Bram?", NULL, "", 0},
                                         {"child", "What does Bram own?", NULL, "", 0}};
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_model *model = NULL;
    awq_runner *runner = NULL;
    awq_session_desc session;
    awq_generate_desc desc;
    awq_message message;
    awq_step_info step;
    double longest = 0;
    int frame, i, told[CHARACTERS] = {0, 0, 0, 0}, failed = 1;

    memset(&ctx, 0, sizeof ctx);
    memset(&session, 0, sizeof session);
    memset(&desc, 0, sizeof desc);
    memset(&message, 0, sizeof message);
    session.max_tokens = 256; /* the memory of a character: what it has heard and said */
    desc.messages = &message;
    desc.n_messages = 1;
    desc.max_tokens = 48;
    desc.on_text = on_text;
    message.role = "user";
    if (awq_pool_create(&ctx, 0, &pool)) goto out;
    ctx.jobs = awq_pool_jobs(pool); /* or the engine's own job system */
    if (awq_model_load(&ctx, argc > 1 ? argv[1] : "tools/demo/model", NULL, &model)) goto out;
    if (awq_runner_create(&ctx, model, NULL, &runner)) goto out;
    for (i = 0; i < CHARACTERS; i++) {
        if (awq_session_create(&ctx, runner, &session, &cast[i].session)) goto out;
        message.content = cast[i].question;
        desc.user = &cast[i];
        if (awq_ask(&ctx, cast[i].session, &desc)) goto out; /* returns at once */
    }
    printf("frame   1: asked %d characters\n", CHARACTERS);
    for (frame = 1;; frame++) {
        /* ... input, physics, drawing ... */
        if (awq_step(&ctx, runner, NULL, 0, BUDGET_US, &step)) goto out;
        if (step.seconds > longest) longest = step.seconds;
        for (i = 0; i < CHARACTERS; i++)
            if (!told[i] && !awq_session_busy(cast[i].session)) {
                if (awq_session_answer(&ctx, cast[i].session, NULL)) goto out; /* did it fail? */
                printf("frame %3d  %s: %s\n", frame, cast[i].name, cast[i].said);
                told[i] = 1;
            }
        if (!step.busy) break;
    }
    printf("%d frames; the longest step took %.1f ms\n", frame, 1e3 * longest);
    failed = 0;
out:
    if (failed) fprintf(stderr, "%s\n", ctx.err.text);
    for (i = 0; i < CHARACTERS; i++) awq_session_free(&ctx, cast[i].session);
    awq_runner_free(&ctx, runner); /* after its sessions, before its model */
    awq_model_free(&ctx, model);
    awq_pool_free(&ctx, pool);
    return failed;
}
