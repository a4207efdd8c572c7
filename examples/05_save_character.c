/* 05 - a character that remembers: talk, save its mind beside the saved game, load it again, take back a question.
       cc -O2 -o 05_save_character examples/05_save_character.c -lm -lpthread
       ./05_save_character [MODEL] [FILE]
   You learn: awq_session_save_file and _restore_file (tied to the model, checked), awq_session_rewind, and
   awq_session_fork, a copy that goes its own way. Output for the demo model:
       first   In Dunmarrow.
       saved   12 tokens, 98480 bytes
       loaded  12 tokens, nothing was computed
       copy    He is the carpenter in Dunmarrow.
       rewound to 0 tokens; the copy still has 30 */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <stdio.h>
#include <string.h>

static int print_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    fwrite(text, 1, bytes, stdout);
    return 0;
}

/* a question in the model's chat form, the answer on the screen */
static awq_status talk(awq_ctx *ctx, awq_runner *runner, awq_session *session, const awq_message *talk, size_t n)
{
    awq_generate_desc desc;
    awq_status st;
    memset(&desc, 0, sizeof desc);
    desc.messages = talk; /* all of it: what the session holds already is not computed again */
    desc.n_messages = n;
    desc.max_tokens = 48;
    desc.on_text = print_text;
    st = awq_ask(ctx, session, &desc);
    while (!st && awq_session_busy(session)) st = awq_step(ctx, runner, NULL, 0, AWQ_NO_BUDGET, NULL);
    putchar('\n');
    return st ? st : awq_session_answer(ctx, session, NULL);
}

int main(int argc, char **argv)
{
    const char *file = argc > 2 ? argv[2] : "character.awq";
    awq_message talked[3] = {{"user", "Where does Bram live?", NULL},
                             {"assistant", "In Dunmarrow.", NULL},
                             {"user", "What is Bram's trade?", NULL}};
    awq_ctx ctx;
    awq_model *model = NULL;
    awq_runner *runner = NULL;
    awq_session *npc = NULL, *later = NULL, *copy = NULL;
    awq_session_desc desc;
    int failed = 1;

    memset(&ctx, 0, sizeof ctx);
    memset(&desc, 0, sizeof desc);
    desc.max_tokens = 256;
    if (awq_model_load(&ctx, argc > 1 ? argv[1] : "tools/demo/model", NULL, &model)) goto out;
    if (awq_runner_create(&ctx, model, NULL, &runner)) goto out;
    if (awq_session_create(&ctx, runner, &desc, &npc)) goto out;
    printf("first   ");
    if (talk(&ctx, runner, npc, talked, 1)) goto out;

    if (awq_session_save_file(&ctx, npc, file)) goto out; /* whole or not at all */
    printf("saved   %d tokens, %d bytes\n", (int)awq_session_position(npc), (int)awq_session_bytes(npc));
    if (awq_session_create(&ctx, runner, &desc, &later)) goto out;
    if (awq_session_restore_file(&ctx, later, file, NULL)) goto out; /* another model's file would be refused */
    printf("loaded  %d tokens, nothing was computed\n", (int)awq_session_position(later));

    if (awq_session_fork(&ctx, later, NULL, &copy)) goto out;
    printf("copy    ");
    if (talk(&ctx, runner, copy, talked, 3)) goto out;
    if (awq_session_rewind(&ctx, later, 0)) goto out;
    printf("rewound to %d tokens; the copy still has %d\n", (int)awq_session_position(later),
           (int)awq_session_position(copy));
    failed = 0;
out:
    if (failed) fprintf(stderr, "%s\n", ctx.err.text);
    awq_session_free(&ctx, npc);
    awq_session_free(&ctx, later);
    awq_session_free(&ctx, copy);
    awq_runner_free(&ctx, runner);
    awq_model_free(&ctx, model);
    remove(file);
    return failed;
}
