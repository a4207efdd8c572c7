/* 12 - a scene in the terminal at a steady 60 frames a second: four characters chat while a cat walks by. What the models
   get of a frame is what the game leaves, and the worst frame is measured.
       cc -O2 -o 12_scene examples/12_scene.c -lm -lpthread
       ./12_scene [MODEL] [FRAMES]
   You learn: awq_step with a budget in a loop that must not be late, questions that come while others are answered, text
   as it is spoken. Ends after FRAMES (600, not on a terminal 120). Last line for the demo model:
       120 frames, 9 answers, 88 tokens; models: worst 4.2 ms of 4.0 a frame; worst frame 4.3 ms of 16.7, 0 late */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#  include <io.h>
#  include <windows.h>
#  define isatty _isatty
static double now(void)
{
    LARGE_INTEGER t, f;
    QueryPerformanceCounter(&t), QueryPerformanceFrequency(&f);
    return (double)t.QuadPart / (double)f.QuadPart;
}
static void wait_for(double seconds) { Sleep((DWORD)(1000 * seconds)); }
#else
#  include <time.h>
#  include <unistd.h>
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void wait_for(double seconds)
{
    struct timespec t;
    t.tv_sec = 0;
    t.tv_nsec = (long)(1e9 * seconds);
    nanosleep(&t, NULL);
}
#endif

enum { CAST = 4, BUDGET_US = 4000 };
#define FRAME (1.0 / 60)

typedef struct actor {
    const char *name;
    awq_session *session;
    char says[256];
    size_t length;
    int pause; /* frames until the next question */
} actor;

static int on_text(void *user, const char *text, size_t bytes)
{
    actor *a = (actor *)user;
    if (bytes > sizeof a->says - 1 - a->length) bytes = sizeof a->says - 1 - a->length;
    memcpy(a->says + a->length, text, bytes);
    a->length += bytes;
    a->says[a->length] = 0;
    return 0;
}

static void draw(const actor *cast, int frame)
{
    static const char *const cat[] = {"=^.^=~", "=^.^=-"};
    int i;
    printf("\033[H\033[2K   the market of Dunmarrow%*s\n\033[2K\n", 40, "");
    for (i = 0; i < CAST; i++) printf("\033[2K   %-10s %s%s\n", cast[i].name, cast[i].says, frame / 30 % 2 ? "" : "_");
    printf("\033[2K\n\033[2K%*s%s\n", 3 + frame / 4 % 60, "", cat[frame / 8 % 2]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const char *const questions[] = {"What is Bram's trade?", "Where does Bram live?", "Who is Bram?", "What does Bram own?",
                                            "Who lives in Dunmarrow?"};
    static actor cast[CAST] = {{"Anwen", NULL, "", 0, 1}, {"Ottilie", NULL, "", 0, 20}, {"Zara", NULL, "", 0, 30}, {"Corin", NULL, "", 0, 50}};
    int tty = isatty(1), frame, i, asked = 0, answers = 0, late = 0, failed = 1, frames = argc > 2 ? atoi(argv[2]) : tty ? 600 : 120;
    double worst = 0, worst_step = 0, next;
    int64_t tokens = 0;
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_model *model = NULL;
    awq_runner *runner = NULL;
    awq_session_desc session;
    awq_generate_desc desc;
    awq_message message;
    awq_step_info step;

    memset(&ctx, 0, sizeof ctx);
    memset(&session, 0, sizeof session);
    memset(&desc, 0, sizeof desc);
    memset(&message, 0, sizeof message);
    session.max_tokens = 256;
    session.overflow = AWQ_OVERFLOW_SLIDE;
    desc.messages = &message, desc.n_messages = 1, desc.max_tokens = 32, desc.on_text = on_text;
    message.role = "user";
    if (awq_pool_create(&ctx, 0, &pool)) goto out;
    ctx.jobs = awq_pool_jobs(pool);
    if (awq_model_load(&ctx, argc > 1 ? argv[1] : "tools/demo/model", NULL, &model)) goto out;
    if (awq_runner_create(&ctx, model, NULL, &runner)) goto out;
    for (i = 0; i < CAST; i++)
        if (awq_session_create(&ctx, runner, &session, &cast[i].session)) goto out;
    if (tty) printf("\033[2J");
    for (frame = 0, next = now(); frame < frames; frame++) {
        double t0 = now(), spent;
        for (i = 0; i < CAST; i++) /* the game: who is silent for a while is asked something */
            if (!awq_session_busy(cast[i].session) && --cast[i].pause <= 0) {
                if (asked && cast[i].length) answers++;
                cast[i].length = 0, cast[i].says[0] = 0, cast[i].pause = 40;
                message.content = questions[asked++ % 5];
                desc.user = &cast[i];
                if (awq_session_rewind(&ctx, cast[i].session, 0) || awq_ask(&ctx, cast[i].session, &desc)) goto out;
            }
        if (awq_step(&ctx, runner, NULL, 0, BUDGET_US, &step)) goto out;
        tokens += step.tokens;
        if (step.seconds > worst_step) worst_step = step.seconds;
        if (tty) draw(cast, frame);
        spent = now() - t0;
        if (spent > worst) worst = spent;
        next += FRAME;
        if (now() > next) late++, next = now(); /* a frame was missed; do not run after it */
        else wait_for(next - now());
    }
    printf("%d frames, %d answers, %d tokens; models: worst %.1f ms of %.1f a frame; worst frame %.1f ms of %.1f, %d late\n", frames,
           answers, (int)tokens, 1e3 * worst_step, BUDGET_US / 1e3, 1e3 * worst, 1e3 * FRAME, late);
    failed = 0;
out:
    if (failed) fprintf(stderr, "%s\n", ctx.err.text);
    for (i = 0; i < CAST; i++) awq_session_free(&ctx, cast[i].session);
    awq_runner_free(&ctx, runner);
    awq_model_free(&ctx, model);
    awq_pool_free(&ctx, pool);
    return failed;
}
