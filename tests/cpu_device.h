/* A device that is the CPU: a model of its own computes the layers, its pages are plain memory. What a device
   must do and nothing else, so that sessions over devices can be tested everywhere. Include after awq.h with its
   implementation. */
#ifndef CPU_DEVICE_H
#define CPU_DEVICE_H
#include <stdlib.h>
#include <string.h>

typedef struct cpu_device {
    awq_device d;
    int layers;        /* it has room for */
    int64_t calls;     /* of begin, layers, result, head */
    int64_t fail_call; /* fails, from 1; 0: none does */
    int64_t pages, works;
} cpu_device;

typedef struct cpu_share {
    cpu_device *d;
    awq_model *m;
    int first, n;
    size_t page_bytes;
} cpu_share;

typedef struct cpu_work {
    cpu_share *s;
    awq__work w;
    awq__kv *kv; /* [rows] */
    int64_t n;
} cpu_work;

static awq_status cpu_step(awq_ctx *ctx, cpu_device *d)
{
    if (++d->calls != d->fail_call) return AWQ_OK;
    return awq__fail(ctx, AWQ_E_IO, "%s: this call was to fail", d->d.name);
}

static awq_status cpu_fit(awq_ctx *ctx, awq_device *d, const awq_checkpoint *ck, const awq_model_desc *desc,
                          awq_device_memory *m)
{
    (void)ctx, (void)ck, (void)desc;
    m->needed = (1 + (uint64_t)m->layers) * 1000000000u;
    m->layers = AWQ__MIN(((cpu_device *)d)->layers, m->layers);
    m->available = (1 + (uint64_t)((cpu_device *)d)->layers) * 1000000000u;
    m->host = 1000000;
    return AWQ_OK;
}

static awq_status cpu_load(awq_ctx *ctx, awq_device *d, const awq_model *m, const awq_model_desc *desc,
                           int first, int n, void **share, uint64_t *bytes, uint64_t *a_token, uint64_t *hash)
{
    awq_model_desc own = *desc;
    cpu_share *s = AWQ__NEW(ctx, cpu_share, 1);
    awq_status st = s ? AWQ_OK : AWQ_E_MEMORY;
    own.n_devices = 0;
    own.no_tokenizer = 1;
    if (!st) st = awq_model_load(ctx, awq_checkpoint_folder(m->checkpoint), &own, &s->m);
    if (st) {
        awq__free(ctx, s);
        return st;
    }
    s->d = (cpu_device *)d;
    s->first = first;
    s->n = n;
    s->page_bytes = awq__cache_bytes(&m->cache, n);
    *bytes += awq_model_bytes(s->m);
    *a_token += awq_model_linear_bytes(s->m);
    *hash = awq_model_hash(s->m) + (uint64_t)n;
    *share = s;
    return AWQ_OK;
}

static void cpu_unload(awq_ctx *ctx, void *share)
{
    awq_model_free(ctx, ((cpu_share *)share)->m);
    awq__free(ctx, share);
}

static void cpu_work_free(awq_ctx *ctx, void *work)
{
    cpu_work *k = (cpu_work *)work;
    k->s->d->works--;
    k->w.model = NULL;
    awq__work_free(ctx, &k->w);
    awq__free(ctx, k->kv);
    awq__free(ctx, k);
}

static awq_status cpu_work_make(awq_ctx *ctx, void *share, int64_t rows, void **work)
{
    cpu_work *k = AWQ__NEW(ctx, cpu_work, 1);
    awq_status st;
    if (!k) return AWQ_E_MEMORY;
    k->s = (cpu_share *)share;
    k->s->d->works++;
    st = awq__work_for(ctx, k->s->m, rows, &k->w);
    k->w.host_first = k->s->first;
    if (!st && !(k->kv = AWQ__NEW(ctx, awq__kv, rows))) st = AWQ_E_MEMORY;
    if (st) cpu_work_free(ctx, k);
    else *work = k;
    return st;
}

static awq_status cpu_page(awq_ctx *ctx, void *share, uint64_t *page)
{
    void *p = awq__alloc_raw(ctx, ((cpu_share *)share)->page_bytes, 1);
    if (!p) return AWQ_E_MEMORY;
    *page = (uint64_t)(uintptr_t)p;
    ((cpu_share *)share)->d->pages++;
    return AWQ_OK;
}

static void cpu_page_free(awq_ctx *ctx, void *share, uint64_t page)
{
    awq__free(ctx, (void *)(uintptr_t)page);
    ((cpu_share *)share)->d->pages--;
}

static void cpu_page_copy(void *share, uint64_t to, uint64_t from)
{
    memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, ((cpu_share *)share)->page_bytes);
}

static awq_status cpu_page_read(awq_ctx *ctx, void *share, uint64_t page, void *to)
{
    (void)ctx;
    memcpy(to, (const void *)(uintptr_t)page, ((cpu_share *)share)->page_bytes);
    return AWQ_OK;
}

static awq_status cpu_page_write(awq_ctx *ctx, void *share, uint64_t page, const void *from)
{
    (void)ctx;
    memcpy((void *)(uintptr_t)page, from, ((cpu_share *)share)->page_bytes);
    return AWQ_OK;
}

static awq_status cpu_begin(awq_ctx *ctx, void *work, const awq__work *w, int i_share, int64_t n,
                            const int32_t *ids, const float *x)
{
    cpu_work *k = (cpu_work *)work;
    const awq_config *c = &k->s->m->config;
    int64_t r;
    AWQ__TRY(cpu_step(ctx, k->s->d));
    if (ids) awq__embed(k->s->m, ids, n, k->w.x);
    else memcpy(k->w.x, x, (size_t)(n * c->hidden_size) * sizeof *x);
    memcpy(k->w.cos_, w->cos_, (size_t)(n * c->rope_dim) * sizeof *w->cos_);
    memcpy(k->w.sin_, w->sin_, (size_t)(n * c->rope_dim) * sizeof *w->sin_);
    for (r = 0; r < n; r++) {
        k->w.row[r] = w->row[r];
        k->w.row[r].bad = 0;
        if (!w->row[r].kv) continue;
        k->kv[r] = *w->row[r].kv; /* rows of one sequence are told by their kv */
        k->kv[r].page = (uint8_t **)(void *)w->row[r].kv->remote[i_share];
        k->w.row[r].kv = r && w->row[r].kv == w->row[r - 1].kv ? k->w.row[r - 1].kv : &k->kv[r];
    }
    k->n = n;
    return AWQ_OK;
}

static awq_status cpu_layers(awq_ctx *ctx, void *work, const awq__work *w, int first, int n)
{
    cpu_work *k = (cpu_work *)work;
    int64_t r;
    int i;
    AWQ__TRY(cpu_step(ctx, k->s->d));
    for (r = 0; r < k->n; r++)
        if (!w->row[r].kv) k->w.row[r].kv = NULL;
    for (i = first; i < first + n; i++)
        AWQ__TRY(awq__steps(ctx, &k->s->m->config, &k->s->m->layers[i], i, &k->w, k->n, AWQ__NORM, AWQ__ADD,
                            NULL, NULL));
    return AWQ_OK;
}

static awq_status cpu_result(awq_ctx *ctx, void *work, int norm, int64_t first, int64_t n, float *x, int *bad)
{
    cpu_work *k = (cpu_work *)work;
    const awq_config *c = &k->s->m->config;
    int64_t r;
    AWQ__TRY(cpu_step(ctx, k->s->d));
    for (r = first; x && r < first + n; r++, x += c->hidden_size) {
        memcpy(x, k->w.x + r * c->hidden_size, (size_t)c->hidden_size * sizeof *x);
        if (norm)
            awq__norm(awq__ops_for(ctx), c, k->w.x + r * c->hidden_size, k->s->m->final_norm, x,
                      c->hidden_size);
    }
    for (r = 0; bad && r < k->n; r++) bad[r] = k->w.row[r].bad;
    return AWQ_OK;
}

/* what head says of a row of finished logits, as *best asks */
static void cpu_choose(float *row, int64_t vocab, int32_t *best)
{
    float top[2 * AWQ__TOP];
    int32_t want = *best, i;
    if (want == AWQ__WANT_LOGITS) return;
    *best = awq__all_finite(row, vocab) ? awq__argmax(row, vocab) : AWQ__NOT_FINITE;
    for (i = 0; i < want; i++) {
        int32_t id = awq__argmax(row, vocab);
        top[i] = row[id];
        memcpy(top + want + i, &id, sizeof id);
        row[id] = -INFINITY;
    }
    memset(row, 0xff, (size_t)vocab * sizeof *row); /* nobody may look at what was not wanted */
    memcpy(row, top, (size_t)(2 * want) * sizeof *row);
}

static awq_status cpu_head(awq_ctx *ctx, void *work, const int32_t *rows, int64_t n, float *logits,
                           int32_t *best)
{
    cpu_work *k = (cpu_work *)work;
    const awq_config *c = &k->s->m->config;
    int64_t r, H = c->hidden_size, vocab = c->vocab_size;
    awq__mm_arg a;
    AWQ__TRY(cpu_step(ctx, k->s->d));
    for (r = 0; r < n; r++)
        awq__norm(awq__ops_for(ctx), c, k->w.x + rows[r] * H, k->s->m->final_norm, k->w.xn + r * H, H);
    a = awq__head_plan(ctx, k->s->m, &k->w, k->w.xn, n, logits);
    awq__run(ctx, a.jobs, awq__mm_job, &a);
    for (r = 0; r < n; r++) {
        awq__logits_finish(awq__ops_for(ctx), c, logits + r * vocab);
        if (best) cpu_choose(logits + r * vocab, vocab, &best[r]);
    }
    return AWQ_OK;
}

static void cpu_device_make(cpu_device *d, int layers)
{
    static int count;
    memset(d, 0, sizeof *d);
    snprintf(d->d.name, sizeof d->d.name, "cpu:%d", count++ % 100);
    d->layers = layers;
    d->d.fit = cpu_fit;
    d->d.load = cpu_load;
    d->d.unload = cpu_unload;
    d->d.work = cpu_work_make;
    d->d.work_free = cpu_work_free;
    d->d.page = cpu_page;
    d->d.page_free = cpu_page_free;
    d->d.page_copy = cpu_page_copy;
    d->d.page_read = cpu_page_read;
    d->d.page_write = cpu_page_write;
    d->d.begin = cpu_begin;
    d->d.layers = cpu_layers;
    d->d.result = cpu_result;
    d->d.head = cpu_head;
}
#endif
