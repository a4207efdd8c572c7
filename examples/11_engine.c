/* 11 - inside an engine: its allocator, its job system, its log, its way of cancelling.
       cc -O2 -o 11_engine examples/11_engine.c -lm -lpthread
       ./11_engine [MODEL]
   You learn: awq_ctx's hooks and their rules (the allocator is called on the calling thread alone; jobs may run in any
   order on any threads), a limit for memory, and that the answer does not depend on any of it. Output for the demo model:
       loading: 100 %
       1 worker(s): He is the carpenter in Dunmarrow.   (0 jobs beside)
       3 worker(s): He is the carpenter in Dunmarrow.   (1126 jobs beside)
       278 blocks, at most 6.8 MB; 0 bytes left
       with half of it: AWQ_E_MEMORY: memory limit: 3306610 bytes in use, 131137 more asked for, ... */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the engine's memory: counted, aligned as asked for; free is told the size, so no block needs a header of its own */
typedef struct memory {
    size_t used, peak, blocks;
} memory;

static void *engine_alloc(void *user, size_t bytes, size_t align)
{
    memory *m = (memory *)user;
    void *p;
    if (posix_memalign(&p, align < sizeof p ? sizeof p : align, bytes)) return NULL;
    m->used += bytes;
    m->blocks++;
    if (m->used > m->peak) m->peak = m->used;
    return p;
}

static void engine_free(void *user, void *p, size_t bytes)
{
    ((memory *)user)->used -= bytes;
    free(p);
}

/* --- the engine's workers: they take indices until there are none; run returns when all are done */
enum { WORKERS = 2 };
typedef struct crew {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t thread[WORKERS];
    void (*job)(void *arg, int64_t index);
    void *arg;
    int64_t next, count, open, beside; /* open: not done yet; beside: done by workers */
    int quit;
} crew;

static void crew_take(crew *c, int worker) /* the lock is held */
{
    while (c->next < c->count) {
        int64_t i = c->next++;
        pthread_mutex_unlock(&c->lock);
        c->job(c->arg, i);
        pthread_mutex_lock(&c->lock);
        c->beside += worker;
        if (!--c->open) pthread_cond_signal(&c->done);
    }
}

static void *crew_main(void *user)
{
    crew *c = (crew *)user;
    pthread_mutex_lock(&c->lock);
    while (!c->quit) {
        crew_take(c, 1);
        if (!c->quit) pthread_cond_wait(&c->work, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static void crew_run(void *user, int64_t count, void (*job)(void *arg, int64_t index), void *arg)
{
    crew *c = (crew *)user;
    pthread_mutex_lock(&c->lock);
    c->job = job, c->arg = arg, c->next = 0, c->count = c->open = count;
    pthread_cond_broadcast(&c->work);
    crew_take(c, 0); /* the caller helps */
    while (c->open) pthread_cond_wait(&c->done, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

/* --- its log and its cancel button */
static void engine_log(void *user, awq_log_level level, const char *text)
{
    (void)user;
    if (level >= AWQ_LOG_WARN) fprintf(stderr, "awq: %s\n", text);
}

static int engine_progress(void *user, const awq_progress *p)
{
    int *shown = (int *)user;
    if (!strcmp(p->stage, "load") && p->done == p->total && !(*shown)++) printf("loading: 100 %%\n");
    return 0; /* nonzero: the player has left; the call ends with AWQ_E_CANCELLED */
}

static int print_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    fwrite(text, 1, bytes, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "tools/demo/model";
    static crew workers; /* static: zero */
    memory heap = {0, 0, 0};
    awq_message message = {"user", "What is Bram's trade?", NULL};
    awq_generate_desc desc;
    awq_model *model = NULL;
    awq_ctx ctx;
    int i, shown = 0, failed = 1;

    memset(&ctx, 0, sizeof ctx);
    memset(&desc, 0, sizeof desc);
    ctx.allocator.alloc = engine_alloc, ctx.allocator.free = engine_free, ctx.allocator.user = &heap;
    ctx.log = engine_log, ctx.progress = engine_progress, ctx.user = &shown;
    desc.messages = &message;
    desc.n_messages = 1;
    desc.max_tokens = 48;
    desc.on_text = print_text;
    pthread_mutex_init(&workers.lock, NULL), pthread_cond_init(&workers.work, NULL), pthread_cond_init(&workers.done, NULL);
    for (i = 0; i < WORKERS; i++)
        if (pthread_create(&workers.thread[i], NULL, crew_main, &workers)) return fprintf(stderr, "no threads\n"), 1;
    if (awq_model_load(&ctx, folder, NULL, &model)) goto out;
    for (i = 0; i < 2; i++) {
        if (i) ctx.jobs.run = crew_run, ctx.jobs.user = &workers, ctx.jobs.threads = WORKERS + 1;
        printf("%d worker(s): ", i ? WORKERS + 1 : 1);
        if (awq_generate(&ctx, model, &desc, NULL)) goto out;
        printf("   (%d jobs beside)\n", (int)workers.beside);
    }
    failed = 0;
out:
    if (failed) fprintf(stderr, "%s\n", ctx.err.text);
    awq_model_free(&ctx, model);
    if (!failed) {
        printf("%d blocks, at most %.1f MB; %d bytes left\n", (int)heap.blocks, (double)heap.peak / 1e6, (int)heap.used);
        model = NULL;
        ctx.memory_limit = heap.peak / 2; /* a console's budget: refused in words, and nothing is lost */
        if (awq_model_load(&ctx, folder, NULL, &model))
            printf("with half of it: %s: %s\n", awq_status_name(ctx.err.status), ctx.err.text);
        awq_model_free(&ctx, model);
    }
    pthread_mutex_lock(&workers.lock);
    workers.quit = 1;
    pthread_cond_broadcast(&workers.work);
    pthread_mutex_unlock(&workers.lock);
    for (i = 0; i < WORKERS; i++) pthread_join(workers.thread[i], NULL);
    return failed || heap.used;
}
