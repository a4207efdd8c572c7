/* sessions: many together against each alone, bit for bit; random operations with the invariants of pages walked;
   the cache of beginnings; budgets and cuts; allocations; full contexts; texts; saved states; bad input; memory.
   Run from the repository's root folder. AWQ_SOAK_SECONDS: how long the random operations go on. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

#define DEMO "tools/demo/model"
enum { VOCAB = 96, CONTEXT = 160, MOST = 64 };

static uint32_t dice(uint64_t *state, uint32_t n) { return (uint32_t)(awq__random(state) % n); }

/* --- a model of two layers, with text where it is wanted */
typedef struct world {
    tiny t;
    awq_ctx ctx;
    awq_model *m;
    char json[8192];
} world;

#define CONFIG                                                                                              \
    "{\"bos_token\":\"<b>\",\"eos_token\":\"<e>\",\"chat_template\":\"{{ bos_token }}{% for message in "    \
    "messages %}{{ message['role'] + ':' + message['content'] + '<e>' }}{% endfor %}{% if "                 \
    "add_generation_prompt %}assistant:{% endif %}\"}"

/* ids 0 to 2 special, then a character each, then parts of characters and short words; `ids` of them */
static void make_tokenizer(char *json, int ids)
{
    static const char *const parts[] = {
        "\xc4\xa0", "\xc3\x83", "\xc2\xa9", "\xc3\xa2", "\xc4\xa4", "\xc2\xac", "\xc3\xb0", "\xc5\x81",
        "\xc4\xba", "\xc4\xa2", "\xc4\xa0the", "\xc4\xa0of", "ing", "abc", "tion", "\xc3\x83\xc2\xa9",
        "\xc3\xa2\xc4\xa4\xc2\xac", "\xc3\xb0\xc5\x81\xc4\xba\xc4\xa2", "\xc3\xa2\xc4\xa4", "\xc3\xb0\xc5\x81",
        "\xc4\xa0\xc3\xa2", "er", "on", "st", "re", "qu", "xyz", "Z"};
    static const char *const special[] = {"<p>", "<b>", "<e>"};
    int i, c = '!';
    char *p = json;
    p += sprintf(p, "{\"version\":\"1.0\",\"added_tokens\":[");
    for (i = 0; i < 3; i++)
        p += sprintf(p, "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                        "\"normalized\":false,\"special\":true}", i ? "," : "", i, special[i]);
    p += sprintf(p, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                    "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":{\"type\":"
                    "\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    for (i = 0; i < 3; i++) p += sprintf(p, "\"%s\":%d,", special[i], i);
    for (; i < ids; i++) {
        while (c == '"' || c == '\\' || (c >= 'A' && c <= 'Z')) c++;
        if (c < 127) p += sprintf(p, "\"%c\":%d%s", c++, i, i + 1 < ids ? "," : "");
        else p += sprintf(p, "\"%s\":%d%s", parts[i - 69], i, i + 1 < ids ? "," : "");
    }
    sprintf(p, "}}}");
}

static void two_layers(tiny *t)
{
    uint64_t seed = 99;
    int i, n = t->n;
    size_t k;
    for (i = 0; i < n; i++) {
        tiny_tensor *x = &t->t[i], *y;
        char name[128];
        if (strncmp(x->name, "model.layers.0.", 15)) continue;
        snprintf(name, sizeof name, "model.layers.1.%.100s", x->name + 15);
        y = tiny_add(t, name, x->dtype, x->ndim, x->shape[0], x->shape[1]);
        for (k = 0; k < y->bytes / 2; k++)
            ((uint16_t *)y->data)[k] = awq__float_f16(awq__random_unit(&seed) - 0.5f);
    }
    tiny_set(t, "num_hidden_layers", "2");
    tiny_set(t, "max_position_embeddings", "512");
}

static void world_open(world *w, int ids) /* of the tokenizer; 0: none */
{
    memset(w, 0, sizeof *w);
    tiny_llama(&w->t);
    two_layers(&w->t);
    if (ids) {
        make_tokenizer(w->json, ids);
        tiny_file(&w->t, "m/tokenizer.json", w->json);
        tiny_file(&w->t, "m/tokenizer_config.json", CONFIG);
    }
    w->ctx = tiny_ctx(&w->t);
    CHECK_MSG(load_deterministic(&w->ctx, "m", &w->m) == AWQ_OK, "%s", w->ctx.err.text);
}

static void world_close(world *w)
{
    CHECK_MSG(awq_model_free(&w->ctx, w->m) == AWQ_OK, "%s", w->ctx.err.text);
    CHECK_MSG(w->ctx.memory_used == 0, "%llu bytes left", (unsigned long long)w->ctx.memory_used);
    tiny_free(&w->t);
}

/* --- what callbacks hear */
typedef struct heard {
    char text[4096];
    size_t n;
    int calls, stop_at;
} heard;

static int whole_text(const char *text, size_t bytes)
{
    size_t i = 0;
    while (i < bytes) {
        int len = awq__utf8_len((const unsigned char *)text + i, bytes - i);
        if (!len) return 0;
        i += (size_t)len;
    }
    return 1;
}

static int on_text(void *user, const char *text, size_t bytes)
{
    heard *h = (heard *)user;
    CHECK(bytes && whole_text(text, bytes) && h->n + bytes < sizeof h->text);
    if (h->n + bytes >= sizeof h->text) return 1;
    memcpy(h->text + h->n, text, bytes);
    h->n += bytes;
    h->text[h->n] = 0;
    return ++h->calls == h->stop_at;
}

/* awq_generate of a context of its own; text may be NULL */
static awq_generate_result alone(world *w, const awq_generate_desc *desc, const int32_t *ids, int64_t n,
                                 int32_t *out, heard *h)
{
    awq_ctx ctx;
    awq_generate_desc d = *desc;
    awq_generate_result r;
    memset(&r, 0, sizeof r);
    memset(&ctx, 0, sizeof ctx);
    d.prompt = NULL;
    d.ids = ids;
    d.n_ids = n;
    d.out_ids = out;
    d.on_text = h ? on_text : NULL;
    d.user = h;
    if (h) memset(h, 0, sizeof *h);
    CHECK_MSG(awq_generate(&ctx, w->m, &d, &r) == AWQ_OK, "%s", ctx.err.text);
    CHECK(ctx.memory_used == 0);
    return r;
}

static awq_runner *runner(awq_ctx *ctx, const awq_model *m, int64_t max_rows, int64_t prompt_rows, int64_t cache)
{
    awq_runner_desc d;
    awq_runner *r = NULL;
    memset(&d, 0, sizeof d);
    d.max_rows = max_rows;
    d.prompt_rows = prompt_rows;
    d.cache_tokens = cache;
    CHECK_MSG(awq_runner_create(ctx, m, &d, &r) == AWQ_OK, "%s", ctx->err.text);
    return r;
}

static awq_session *session(awq_ctx *ctx, awq_runner *r, int64_t max_tokens)
{
    awq_session_desc d;
    awq_session *s = NULL;
    memset(&d, 0, sizeof d);
    d.max_tokens = max_tokens;
    CHECK_MSG(awq_session_create(ctx, r, &d, &s) == AWQ_OK, "%s", ctx->err.text);
    return s;
}

static void ask(awq_ctx *ctx, awq_session *s, const awq_generate_desc *desc, const int32_t *ids, int64_t n)
{
    awq_generate_desc d = *desc;
    d.ids = n ? ids : NULL;
    d.n_ids = n;
    CHECK_MSG(awq_ask(ctx, s, &d) == AWQ_OK, "%s", ctx->err.text);
}

/* steps to the end; what they did together */
static awq_step_info finish(awq_ctx *ctx, awq_runner *r, int64_t budget)
{
    awq_step_info f, sum;
    memset(&sum, 0, sizeof sum);
    do {
        memset(&f, 0, sizeof f);
        CHECK_MSG(awq_step(ctx, r, NULL, 0, budget, &f) == AWQ_OK, "%s", ctx->err.text);
        sum.tokens += f.tokens;
        sum.prompt_tokens += f.prompt_tokens;
        sum.finished += f.finished;
        sum.total++; /* steps */
    } while (f.busy && sum.total < 10000000);
    CHECK(!f.busy && f.done == 0 && f.total == 0);
    return sum;
}

static void close_all(awq_ctx *ctx, awq_runner *r)
{
    while (r && r->sessions) CHECK(awq_session_free(ctx, r->sessions) == AWQ_OK);
    CHECK_MSG(awq_runner_free(ctx, r) == AWQ_OK, "%s", ctx->err.text);
}

/* keys and values of the first n tokens have the same bits */
/* keys and values of the first n tokens are equal, bit for bit */
static int same_cache(const awq_session *a, const awq_session *b, int64_t n)
{
    const awq__cache *c = &a->runner->model->cache;
    size_t es = (size_t)c->bits / 8, at, k;
    int64_t i;
    if (a->kv.len < n || b->kv.len < n) return 0;
    for (i = 0; i < n; i++)
        for (at = 0; at < a->runner->page_bytes; at += c->head) {
            const uint8_t *x = a->kv.page[i / AWQ__PAGE] + at, *y = b->kv.page[i / AWQ__PAGE] + at;
            size_t row = (size_t)(i % AWQ__PAGE), v = c->v_at + row * (size_t)c->v_row * es;
            for (k = 0; k < (size_t)c->k_dim; k++) {
                size_t from = (c->bits == 32 ? row * (size_t)c->k_dim + k : k * AWQ__PAGE + row) * es;
                if (memcmp(x + from, y + from, es)) return 0;
            }
            if (memcmp(x + v, y + v, (size_t)c->v_row * es)) return 0;
            for (k = 0; c->bits == 8 && k < 2; k++)
                if (memcmp(x + c->step_at + 4 * (AWQ__PAGE * k + row), y + c->step_at + 4 * (AWQ__PAGE * k + row), 4)) return 0;
        }
    return 1;
}

/* --- the pages of a runner: who holds them, the list of those nobody holds, the table of beginnings */
static int by_address(const void *a, const void *b)
{
    const awq__page *const *x = (const awq__page *const *)a, *const *y = (const awq__page *const *)b;
    return *x < *y ? -1 : *x > *y;
}

static int check_pages(const awq_runner *r)
{
    static awq__page *held[65536];
    const awq_session *s;
    const awq__page *p;
    int64_t n = 0, i, b, brought = awq__pages(r->desc.cache_tokens), distinct = 0, idle = 0, listed = 0, known = 0;
    int bad = 0, seen_full = 0;
    for (s = r->sessions; s; s = s->next) {
        brought += awq__pages(s->kv.max);
        bad |= s->kv.len > s->n_ids || s->n_ids > s->kv.max || s->n_pages < awq__pages(s->kv.len);
        bad |= (s->n_pages > awq__pages(s->kv.len) && !s->in_pass) || s->n_pages > awq__pages(s->kv.max);
        bad |= s->busy && !s->d.pooled && s->n_ids >= s->kv.max;
        for (b = 0; b < s->n_pages; b++) {
            p = s->page[b];
            held[n++] = s->page[b];
            bad |= s->kv.page[b] != p->data;
            if (b >= s->kv.len / AWQ__PAGE) {
                /* still to be written: its alone, and in no table, once the pass has it */
                bad |= r->n_ops && s->in_pass && s->busy && s->kv.len < s->n_ids && (p->holders != 1 || p->serial)
                       && b * AWQ__PAGE >= s->kv.len;
                continue;
            }
            bad |= !p->serial || p->parent != (b ? s->page[b - 1]->serial : 1);
            bad |= memcmp(p->ids, s->ids + b * AWQ__PAGE, sizeof p->ids) != 0;
        }
    }
    qsort(held, (size_t)n, sizeof *held, by_address);
    for (i = 0; i < n; i = b) {
        for (b = i; b < n && held[b] == held[i]; b++) {}
        distinct++;
        known += held[i]->serial != 0;
        bad |= held[i]->holders != b - i;
    }
    for (p = r->idle.next; p != &r->idle; p = p->next) {
        bad |= p->holders != 0 || p->next->prev != p || p->prev->next != p;
        if (p->serial) seen_full = 1, known++;
        else bad |= seen_full; /* empty ones first */
        idle++;
    }
    for (i = 0; i < AWQ__BUCKETS; i++)
        for (p = r->bucket[i]; p; p = p->same) {
            bad |= !p->serial || awq__page_bucket(p->parent, p->ids) != (uint32_t)i;
            bad |= awq__page_find((awq_runner *)(uintptr_t)r, p->parent, p->ids) != p; /* no second one */
            listed++;
        }
    return !bad && distinct + idle == brought && listed == known;
}

/* a page in the table keeps its contents for as long as it has its number */
typedef struct pages_seen {
    const awq__page *page[4096];
    uint64_t serial[4096], sum[4096];
    int n;
} pages_seen;

static int check_contents(const awq_runner *r, pages_seen *seen)
{
    const awq__page *p;
    int i, k, bad = 0, n = 0;
    static pages_seen now;
    for (i = 0; i < AWQ__BUCKETS; i++)
        for (p = r->bucket[i]; p && n < 4096; p = p->same, n++) {
            now.page[n] = p;
            now.serial[n] = p->serial;
            now.sum[n] = awq__checksum(0, p->data, r->page_bytes);
            for (k = 0; k < seen->n; k++)
                if (seen->page[k] == p && seen->serial[k] == p->serial) bad |= seen->sum[k] != now.sum[n];
        }
    now.n = n;
    *seen = now;
    return !bad;
}

/* --- questions of all kinds */
typedef struct question {
    int32_t ids[128], out[64];
    int64_t n;
    awq_generate_desc d;
    awq_generate_result r;
} question;

/* often one of three common beginnings, sometimes one token over and over: equal pages at different places */
static void some_ids(uint64_t *seed, int32_t *ids, int64_t n)
{
    uint64_t same = 1000 + dice(seed, 3);
    int32_t one = dice(seed, 8) ? -1 : 7;
    int64_t i, common = dice(seed, 2) ? dice(seed, 110) : 0;
    for (i = 0; i < n; i++) ids[i] = one > 0 ? one : 3 + (int32_t)dice(i < common ? &same : seed, VOCAB - 3);
}

static awq_generate_desc some_desc(uint64_t *seed, int64_t max_tokens)
{
    awq_generate_desc d;
    memset(&d, 0, sizeof d);
    d.max_tokens = 1 + dice(seed, (uint32_t)max_tokens);
    d.ignore_eos = (int)dice(seed, 2);
    d.sampling.seed = awq__random(seed);
    switch (dice(seed, 7)) {
    case 0: break;
    case 1: d.sampling.temperature = 0.8f; break;
    case 2: d.sampling.temperature = 1.2f, d.sampling.top_k = 5; break;
    case 3: d.sampling.temperature = 3, d.sampling.top_p = 0.9f; break;
    case 4: d.sampling.temperature = 2, d.sampling.min_p = 0.1f; break;
    case 5: d.sampling.repetition_penalty = 1.3f, d.sampling.repetition_window = 20; break;
    default: d.sampling.temperature = 5, d.sampling.top_k = 40, d.sampling.top_p = 0.95f, d.sampling.min_p = 0.01f;
    }
    if (dice(seed, 3) == 0) d.sampling.repetition_penalty = 1.1f;
    return d;
}

/* --- 1: together as alone */
typedef struct together {
    world w;
    question q[MOST];
    awq_runner *r; /* with the sessions to compare with */
    awq_session *want[MOST];
    float logits[MOST][VOCAB]; /* after the answer and token 5 */
} together;

static void run_together(together *g, int n, int64_t budget, int64_t max_rows, int64_t prompt_rows, int threads,
                         int joins, uint64_t seed)
{
    awq_ctx *ctx = &g->w.ctx;
    size_t used = ctx->memory_used;
    awq_pool *pool = NULL;
    awq_session *s[MOST], *list[MOST];
    awq_runner *r = runner(ctx, g->w.m, max_rows, prompt_rows, dice(&seed, 2) ? 200 : 0);
    int which[MOST], asked = 0, i, k, lists = n > 1 && dice(&seed, 3) == 0;
    int64_t steps = 0, read = 0, tokens = 0, want_tokens = 0, all = 0, cached = 0, finished = 0;
    awq_step_info f;
    memset(&f, 0, sizeof f);
    CHECK(awq_pool_create(ctx, threads, &pool) == AWQ_OK);
    ctx->jobs = awq_pool_jobs(pool);
    for (i = 0; i < n; i++) which[i] = (i + (int)(seed % MOST)) % MOST;
    for (i = 0; i < n; i++) s[i] = session(ctx, r, CONTEXT);
    while (asked < n || f.busy) {
        size_t listed = 0;
        int64_t op = r->op, done = r->done, ops = r->n_ops;
        while (asked < n && (!joins || !f.busy || dice(&seed, budget > 0 && budget < 100 ? 40 : 4) == 0)) {
            const question *q = &g->q[which[asked]];
            ask(ctx, s[asked++], &q->d, q->ids, q->n);
            f.busy++;
        }
        if (lists)
            for (i = 0; i < n; i++)
                if (dice(&seed, 2)) list[listed++] = s[i];
        if (awq_step(ctx, r, listed ? list : NULL, listed, budget, &f)) CHECK_MSG(0, "%s", ctx->err.text);
        read += f.prompt_tokens;
        tokens += f.tokens;
        finished += f.finished;
        /* a step that had a pass under way moved it on */
        if (ops && f.total && r->n_ops == ops && budget > 0 && !lists)
            CHECK(r->op != op || r->done != done || f.tokens || f.prompt_tokens || f.finished);
        CHECK(f.total ? f.done < f.total : f.done == 0);
        if (++steps % 97 == 0) CHECK(check_pages(r));
        if (steps > 3000000) break;
    }
    CHECK_MSG(steps <= 3000000 && !f.busy && finished == n, "%d sessions, budget %lld", n, (long long)budget);
    for (i = 0; i < n; i++) {
        question *q = &g->q[which[i]];
        awq_generate_result got;
        float logits[VOCAB];
        CHECK(awq_session_answer(ctx, s[i], &got) == AWQ_OK && !awq_session_busy(s[i]));
        k = got.tokens == q->r.tokens && got.reason == q->r.reason && got.complete == q->r.complete
            && got.prompt_tokens == q->n && awq_session_position(s[i]) == q->n + got.tokens
            && !memcmp(awq_session_ids(s[i]), q->ids, 4 * (size_t)q->n)
            && !memcmp(awq_session_ids(s[i]) + q->n, q->out, 4 * (size_t)got.tokens);
        CHECK_MSG(k, "%d sessions, budget %lld, max_rows %lld, prompt_rows %lld, %d threads, question %d", n,
                  (long long)budget, (long long)max_rows, (long long)prompt_rows, threads, which[i]);
        CHECK(s[i]->kv.len >= s[i]->n_ids - 1 && same_cache(s[i], g->want[which[i]], s[i]->kv.len));
        if (i % 5 == 0) {
            int32_t five = 5;
            CHECK(awq_session_feed(ctx, s[i], &five, 1, NULL, logits) == AWQ_OK);
            CHECK(!memcmp(logits, g->logits[which[i]], sizeof logits));
        }
        want_tokens += q->r.tokens;
        all += q->n;
        cached += got.cached_tokens;
    }
    CHECK_MSG(tokens == want_tokens && read + cached == all, "%lld read, %lld cached, %lld in all", (long long)read,
              (long long)cached, (long long)all);
    CHECK(check_pages(r));
    close_all(ctx, r);
    memset(&ctx->jobs, 0, sizeof ctx->jobs);
    awq_pool_free(ctx, pool);
    CHECK(ctx->memory_used == used);
}

/* the answer is what feeding and sampling by hand give */
static void check_by_hand(world *w, const question *q)
{
    awq_session *s = NULL;
    float logits[VOCAB];
    uint64_t state = q->d.sampling.seed;
    int64_t i;
    int32_t id;
    CHECK(open_session(&w->ctx, w->m, CONTEXT, &s) == AWQ_OK);
    CHECK(awq_session_feed(&w->ctx, s, q->ids, q->n, NULL, logits) == AWQ_OK);
    for (i = 0; i < q->r.tokens; i++) {
        CHECK(awq_sample(&w->ctx, &q->d.sampling, logits, VOCAB, awq_session_ids(s), q->n + i, &state, &id) == AWQ_OK);
        CHECK(id == q->out[i]);
        if (id != q->out[i]) break;
        CHECK(awq_session_feed(&w->ctx, s, &id, 1, NULL, logits) == AWQ_OK);
    }
    close_session(&w->ctx, s);
}

static void test_together(void)
{
    static const int counts[] = {1, 2, 7, 17, 64};
    static const int64_t budgets[] = {AWQ_NO_BUDGET, 1, 50, 1000}, rows[] = {64, 5, 1, 2};
    together *g = (together *)calloc(1, sizeof *g);
    uint64_t seed = 3;
    int32_t five = 5;
    int i, k;
    world_open(&g->w, 0);
    g->r = runner(&g->w.ctx, g->w.m, 64, 0, 0);
    for (i = 0; i < MOST; i++) {
        question *q = &g->q[i];
        q->n = 1 + dice(&seed, 100);
        some_ids(&seed, q->ids, q->n);
        q->d = some_desc(&seed, 40);
        q->r = alone(&g->w, &q->d, q->ids, q->n, q->out, NULL);
        check_by_hand(&g->w, q);
        g->want[i] = session(&g->w.ctx, g->r, CONTEXT);
        CHECK(awq_session_feed(&g->w.ctx, g->want[i], q->ids, q->n, NULL, NULL) == AWQ_OK);
        if (q->r.tokens) CHECK(awq_session_feed(&g->w.ctx, g->want[i], q->out, q->r.tokens, NULL, NULL) == AWQ_OK);
        CHECK(awq_session_feed(&g->w.ctx, g->want[i], &five, 1, NULL, g->logits[i]) == AWQ_OK);
    }
    for (i = 0; i < 4; i++)
        for (k = 0; k < 5; k++)
            run_together(g, counts[k], budgets[i], rows[(i + k) % 4], (i + k / 2) % 2 ? 1 : 16, 1 + (i + k) % 3,
                         counts[k] > 1, awq__random(&seed));
    for (i = 0; i < 4; i++) { /* all at once: more of them wait for a token than there are rows of logits */
        run_together(g, 17, budgets[(i + 1) % 4], rows[i], 16, 1, 0, awq__random(&seed));
        run_together(g, 64, budgets[i], 64, 64, 1 + i % 3, 0, awq__random(&seed));
    }
    close_all(&g->w.ctx, g->r);
    world_close(&g->w);
    free(g);
}

/* --- files in memory that can be written, over those of a model; the k-th call can be made to fail */
typedef struct ram {
    struct {
        char path[64];
        unsigned char *data;
        size_t n;
    } f[8];
    awq_file_system under;
    long calls, fail_at;
    int full; /* writes fail as on a full disk, after half of the data */
} ram;

#define RAM_STEP \
    if (((ram *)u)->calls++ == ((ram *)u)->fail_at) return EIO

static int ram_find(const ram *m, const char *path)
{
    int i;
    for (i = 0; i < 8 && strcmp(m->f[i].path, path); i++) {}
    return i;
}

static int ram_open(void *u, const char *path, int w, void **file)
{
    ram *m = (ram *)u;
    int i = ram_find(m, path), e;
    RAM_STEP;
    if (i == 8 && w) {
        i = ram_find(m, "");
        if (i == 8) return ENOSPC;
        snprintf(m->f[i].path, sizeof m->f[i].path, "%s", path);
    }
    if (i < 8) {
        *file = (void *)(uintptr_t)(i + 1);
        return 0;
    }
    e = m->under.open ? m->under.open(m->under.user, path, w, file) : ENOENT;
    if (!e) *file = (void *)((uintptr_t)*file + 100);
    return e;
}

static void *ram_under(void *file) { return (void *)((uintptr_t)file - 100); }
static int ram_size(void *u, void *file, uint64_t *n)
{
    ram *m = (ram *)u;
    RAM_STEP;
    if ((uintptr_t)file > 100) return m->under.size(m->under.user, ram_under(file), n);
    *n = m->f[(uintptr_t)file - 1].n;
    return 0;
}

static int ram_read(void *u, void *file, uint64_t at, void *data, size_t n)
{
    ram *m = (ram *)u;
    RAM_STEP;
    if ((uintptr_t)file > 100) return m->under.read(m->under.user, ram_under(file), at, data, n);
    if (at > m->f[(uintptr_t)file - 1].n || n > m->f[(uintptr_t)file - 1].n - at) return EIO;
    memcpy(data, m->f[(uintptr_t)file - 1].data + at, n);
    return 0;
}

static int ram_truncate(void *u, void *file, uint64_t n)
{
    ram *m = (ram *)u;
    int i = (int)(uintptr_t)file - 1;
    RAM_STEP;
    m->f[i].data = (unsigned char *)realloc(m->f[i].data, (size_t)n + 1);
    if (n > m->f[i].n) memset(m->f[i].data + m->f[i].n, 0, (size_t)n - m->f[i].n);
    m->f[i].n = (size_t)n;
    return 0;
}

static int ram_write(void *u, void *file, uint64_t at, const void *data, size_t n)
{
    ram *m = (ram *)u;
    int i = (int)(uintptr_t)file - 1, e;
    RAM_STEP;
    if (m->full) n /= 2;
    if (at + n > m->f[i].n && (e = ram_truncate(u, file, at + n)) != 0) return e;
    memcpy(m->f[i].data + at, data, n);
    return m->full ? ENOSPC : 0;
}

static int ram_sync(void *u, void *file)
{
    (void)file;
    RAM_STEP;
    return 0;
}

static int ram_close(void *u, void *file)
{
    ram *m = (ram *)u;
    RAM_STEP;
    return (uintptr_t)file > 100 ? m->under.close(m->under.user, ram_under(file)) : 0;
}

static int ram_remove(void *u, const char *path)
{
    ram *m = (ram *)u;
    int i = ram_find(m, path);
    if (i == 8) return ENOENT;
    free(m->f[i].data);
    memset(&m->f[i], 0, sizeof m->f[i]);
    return 0;
}

static int ram_rename(void *u, const char *from, const char *to)
{
    ram *m = (ram *)u;
    int i = ram_find(m, from);
    RAM_STEP;
    if (i == 8) return ENOENT;
    ram_remove(u, to);
    snprintf(m->f[i].path, sizeof m->f[i].path, "%s", to);
    return 0;
}

static int ram_folder(void *u, const char *path)
{
    (void)u, (void)path;
    return 0;
}

static awq_file_system ram_files(ram *m, awq_file_system under)
{
    awq_file_system fs;
    memset(&fs, 0, sizeof fs);
    memset(m, 0, sizeof *m);
    m->under = under;
    m->fail_at = -1;
    fs.open = ram_open, fs.size = ram_size, fs.read = ram_read, fs.write = ram_write, fs.truncate = ram_truncate;
    fs.sync = ram_sync, fs.close = ram_close, fs.rename = ram_rename, fs.remove = ram_remove;
    fs.make_folder = ram_folder, fs.user = m;
    return fs;
}

static void ram_free(ram *m)
{
    int i;
    for (i = 0; i < 8; i++) free(m->f[i].data);
}

/* --- 2: random operations */
typedef struct slot { /* what a session should hold */
    awq_session *s;
    int64_t max, n;       /* context; tokens before the answer that is under way, or all */
    int32_t ids[CONTEXT], out[64];
    int busy, slides;     /* slides: its oldest tokens go when it is full; it is not saved, forked, restored into */
    awq_generate_desc d;
    heard h;
} slot;

typedef struct blob {
    char *data;
    size_t bytes;
    slot was; /* s: NULL */
    int64_t answered;
    int32_t answer[64];
} blob;

typedef struct soak {
    world w;
    awq_ctx ctx;
    ram files;
    awq_runner *r;
    slot slots[MOST];
    blob blobs[6];
    uint64_t seed;
    long ops[10], answers, tokens;
    pages_seen seen;
} soak;

static int soak_cancel(void *user, const awq_progress *p)
{
    (void)p;
    return dice((uint64_t *)user, 50) == 0;
}

static awq_session *sliding(awq_ctx *ctx, awq_runner *r, int64_t max_tokens)
{
    awq_session_desc d;
    awq_session *s = NULL;
    memset(&d, 0, sizeof d);
    d.max_tokens = max_tokens;
    d.overflow = AWQ_OVERFLOW_SLIDE;
    d.keep = 33;
    CHECK_MSG(awq_session_create(ctx, r, &d, &s) == AWQ_OK, "%s", ctx->err.text);
    return s;
}

static void soak_fresh(soak *k, slot *s)
{
    if (s->s) CHECK_MSG(awq_session_free(&k->ctx, s->s) == AWQ_OK, "%s", k->ctx.err.text);
    memset(s, 0, sizeof *s);
    s->max = dice(&k->seed, 4) ? CONTEXT : 70;
    s->slides = s - k->slots < 12;
    if (s->slides) s->s = sliding(&k->ctx, k->r, s->max);
    else s->s = session(&k->ctx, k->r, s->max);
}

/* the same answer in a sliding session of its own; afterwards the slot has that one's tokens */
static void soak_verify_sliding(soak *k, slot *s)
{
    awq_generate_result got, want;
    awq_generate_desc d = s->d;
    awq_ctx ctx;
    awq_runner *r;
    awq_session *other;
    int32_t out[64];
    memset(&ctx, 0, sizeof ctx);
    CHECK_MSG(awq_session_answer(&k->ctx, s->s, &got) == AWQ_OK, "%s", k->ctx.err.text);
    r = runner(&ctx, k->w.m, 64, 0, 0);
    other = sliding(&ctx, r, s->max);
    memset(&want, 0, sizeof want);
    if (got.tokens) { /* asked for as many, not more than the session said */
        d.out_ids = out;
        d.on_text = NULL;
        if (got.reason == AWQ_STOP_CALLER) d.max_tokens = got.tokens;
        ask(&ctx, other, &d, s->ids, s->n);
        finish(&ctx, r, AWQ_NO_BUDGET);
        CHECK(awq_session_answer(&ctx, other, &want) == AWQ_OK && want.tokens == got.tokens);
        CHECK(!memcmp(out, s->out, 4 * (size_t)AWQ__MIN(got.tokens, want.tokens)));
        if (got.reason != AWQ_STOP_CALLER) {
            CHECK(got.reason == want.reason && s->s->n_ids == other->n_ids);
            CHECK(!memcmp(s->s->ids, other->ids, 4 * (size_t)s->s->n_ids));
            CHECK(same_cache(s->s, other, AWQ__MIN(s->s->kv.len, other->kv.len)));
        }
    }
    close_all(&ctx, r);
    s->n = s->s->n_ids;
    memcpy(s->ids, s->s->ids, 4 * (size_t)s->n);
    s->busy = 0;
    k->answers++;
    k->tokens += got.tokens;
}

/* the answer of this slot ended, or is looked at: as far as it got it must be what comes out alone */
static void soak_verify(soak *k, slot *s, int ended)
{
    awq_generate_result got, want;
    awq_generate_desc d = s->d;
    int32_t out[64];
    heard h;
    int64_t room = s->max - s->n;
    if (s->slides) {
        soak_verify_sliding(k, s);
        return;
    }
    CHECK_MSG(awq_session_answer(&k->ctx, s->s, &got) == AWQ_OK, "%s", k->ctx.err.text);
    CHECK(s->s->n_ids == s->n + got.tokens && !memcmp(s->s->ids, s->ids, 4 * (size_t)s->n));
    if (s->s->n_ids != s->n + got.tokens) return;
    memset(&want, 0, sizeof want);
    memset(&h, 0, sizeof h);
    if (!ended) d.max_tokens = got.tokens;
    else if (room < d.max_tokens) d.max_tokens = room;
    if (d.max_tokens) want = alone(&k->w, &d, s->ids, s->n, out, &h);
    if (ended && want.reason == AWQ_STOP_LENGTH && room < s->d.max_tokens) want.reason = AWQ_STOP_CONTEXT;
    if (!ended) want.reason = got.reason;
    CHECK_MSG(got.tokens == want.tokens && got.reason == want.reason, "%d tokens, reason %d; alone %d, %d",
              (int)got.tokens, (int)got.reason, (int)want.tokens, (int)want.reason);
    CHECK(!memcmp(s->s->ids + s->n, out, 4 * (size_t)AWQ__MIN(got.tokens, want.tokens)));
    CHECK(!memcmp(s->out, out, 4 * (size_t)AWQ__MIN(got.tokens, want.tokens)));
    CHECK_MSG(s->h.n == h.n && !memcmp(s->h.text, h.text, h.n), "\"%s\", alone \"%s\"", s->h.text, h.text);
    memcpy(s->ids + s->n, s->s->ids + s->n, 4 * (size_t)got.tokens);
    s->n += got.tokens;
    s->busy = 0;
    k->answers++;
    k->tokens += got.tokens;
}

static void soak_step(soak *k)
{
    static const int64_t budgets[] = {1, 1, 20, 100, 500, AWQ_NO_BUDGET};
    awq_session *list[MOST];
    size_t n = 0;
    int i, some = (int)dice(&k->seed, 2);
    awq_status st;
    awq_step_info f;
    for (i = 0; i < MOST && some; i++)
        if (dice(&k->seed, 3)) list[n++] = k->slots[i].s;
    k->ctx.progress = dice(&k->seed, 4) ? NULL : soak_cancel;
    k->ctx.user = &k->seed;
    st = awq_step(&k->ctx, k->r, n ? list : NULL, n, budgets[dice(&k->seed, 6)], &f);
    CHECK_MSG(st == AWQ_OK || (st == AWQ_E_CANCELLED && k->ctx.progress), "%s", k->ctx.err.text);
    k->ctx.progress = NULL;
    for (i = 0; i < MOST; i++) {
        slot *s = &k->slots[i];
        if (s->busy && !awq_session_busy(s->s)) soak_verify(k, s, 1);
    }
}

static void soak_ask(soak *k, slot *s)
{
    awq_generate_desc d = some_desc(&k->seed, 64);
    int32_t ids[64];
    int64_t n = dice(&k->seed, 4) ? 1 + dice(&k->seed, 64) : 0;
    awq_status st, want = s->n + n >= s->max ? AWQ_E_LIMIT : !(s->n + n) ? AWQ_E_ARG : AWQ_OK;
    if (want == AWQ_E_LIMIT && s->slides && 33 + AWQ__MAX(n, (int64_t)0) < s->max) want = AWQ_OK;
    if (s->busy) want = AWQ_E_ARG;
    if (!s->n && !n) n = 1, want = s->busy ? AWQ_E_ARG : AWQ_OK;
    some_ids(&k->seed, ids, n);
    d.ids = n ? ids : NULL;
    d.n_ids = n;
    d.out_ids = s->out;
    d.on_text = on_text;
    d.user = &s->h;
    st = awq_ask(&k->ctx, s->s, &d);
    CHECK_MSG(st == want, "%d, expected %d: %s", (int)st, (int)want, k->ctx.err.text);
    if (st || want) return;
    if (s->n + n < s->max) memcpy(s->ids + s->n, ids, 4 * (size_t)n);
    else memcpy(s->ids, s->s->ids, 4 * (size_t)s->s->n_ids); /* it slid */
    CHECK(s->s->n_ids == s->n + n || (s->slides && s->n + n >= s->max && s->s->n_ids < s->max));
    CHECK(!n || !memcmp(s->s->ids + s->s->n_ids - n, ids, 4 * (size_t)n));
    s->n = s->s->n_ids;
    s->busy = 1;
    s->d = d;
    memset(&s->h, 0, sizeof s->h);
}

static void soak_save(soak *k, const slot *s, blob *b)
{
    size_t bytes = awq_session_bytes(s->s);
    if (s->slides) return;
    free(b->data);
    memset(b, 0, sizeof *b);
    if (dice(&k->seed, 2)) {
        b->data = (char *)malloc(bytes);
        CHECK_MSG(awq_session_save(&k->ctx, s->s, b->data, bytes) == AWQ_OK, "%s", k->ctx.err.text);
    } else {
        int i;
        CHECK_MSG(awq_session_save_file(&k->ctx, s->s, "saved") == AWQ_OK, "%s", k->ctx.err.text);
        i = ram_find(&k->files, "saved");
        CHECK(i < 8 && k->files.f[i].n == bytes && ram_find(&k->files, "saved.tmp") == 8);
        b->data = (char *)malloc(bytes);
        if (i < 8) memcpy(b->data, k->files.f[i].data, bytes);
    }
    b->bytes = bytes;
    b->was = *s;
    b->was.s = NULL;
    b->answered = s->busy ? s->s->n_ids - s->n : 0;
    memcpy(b->answer, s->s->ids + s->n, 4 * (size_t)b->answered);
}

/* slot s takes over what `was` was, with `answered` tokens of its answer; h: what was handed out of it */
static awq_generate_desc soak_desc(slot *s, const slot *was)
{
    awq_generate_desc d = was->d;
    s->h = was->h;
    d.out_ids = s->out;
    d.user = &s->h;
    return d;
}

static void soak_over(slot *s, const slot *was, const int32_t *answer, int64_t answered, int go_on,
                      const awq_generate_desc *d)
{
    awq_session *keep = s->s;
    int64_t max = s->max;
    memcpy(s->ids, was->ids, sizeof s->ids);
    s->n = was->n;
    s->s = keep;
    s->max = max;
    s->d = *d;
    s->busy = was->busy && go_on;
    CHECK(awq_session_busy(s->s) == s->busy);
    if (!s->busy) {
        memcpy(s->ids + s->n, answer, 4 * (size_t)answered);
        s->n += answered;
    }
    CHECK(s->s->n_ids == was->n + answered);
}

static void soak_restore(soak *k, slot *s, const blob *b)
{
    int go_on = (int)dice(&k->seed, 2), file = (int)dice(&k->seed, 2);
    awq_status st, want;
    slot before = *s;
    awq_generate_desc d;
    if (!b->data || s->slides) return;
    want = b->was.n + b->answered > s->max - (b->was.busy && go_on) ? AWQ_E_LIMIT : AWQ_OK;
    d = soak_desc(s, &b->was);
    if (file) {
        awq__file_save(&k->ctx, "saved", b->data, b->bytes);
        st = awq_session_restore_file(&k->ctx, s->s, "saved", go_on ? &d : NULL);
    } else {
        st = awq_session_restore(&k->ctx, s->s, b->data, b->bytes, go_on ? &d : NULL);
    }
    CHECK_MSG(st == want, "%d, expected %d: %s", (int)st, (int)want, k->ctx.err.text);
    if (st || want) *s = before;
    else soak_over(s, &b->was, b->answer, b->answered, go_on, &d);
}

static void soak_fork(soak *k, slot *from, slot *to)
{
    int go_on = (int)dice(&k->seed, 2);
    int64_t answered = from->s->n_ids - from->n;
    awq_generate_desc d;
    if (from == to || from->slides || to->slides) return;
    CHECK(awq_session_free(&k->ctx, to->s) == AWQ_OK);
    to->s = NULL;
    d = soak_desc(to, from);
    to->max = from->max;
    CHECK_MSG(awq_session_fork(&k->ctx, from->s, go_on ? &d : NULL, &to->s) == AWQ_OK, "%s", k->ctx.err.text);
    soak_over(to, from, from->s->ids + from->n, answered, go_on, &d);
}

static void soak_feed(soak *k, slot *s)
{
    int32_t ids[20];
    int64_t n = 1 + dice(&k->seed, 20);
    float got[VOCAB], want[VOCAB];
    awq_session *other = NULL;
    awq_ctx ctx;
    awq_status st, expect = s->busy ? AWQ_E_ARG : s->n + n > s->max ? AWQ_E_LIMIT : AWQ_OK;
    memset(&ctx, 0, sizeof ctx);
    some_ids(&k->seed, ids, n);
    st = awq_session_feed(&k->ctx, s->s, ids, n, NULL, got);
    CHECK_MSG(st == expect, "%d, expected %d: %s", (int)st, (int)expect, k->ctx.err.text);
    if (st || expect) return;
    memcpy(s->ids + s->n, ids, 4 * (size_t)n);
    s->n += n;
    if (dice(&k->seed, 4)) return;
    CHECK(open_session(&ctx, k->w.m, CONTEXT, &other) == AWQ_OK);
    CHECK(awq_session_feed(&ctx, other, s->ids, s->n, NULL, want) == AWQ_OK);
    CHECK(!memcmp(got, want, sizeof got) && same_cache(s->s, other, s->n));
    close_session(&ctx, other);
}

static void test_soak(void)
{
    soak *k = (soak *)calloc(1, sizeof *k);
    const char *length = getenv("AWQ_SOAK_SECONDS");
    double seconds = length ? atof(length) : 10, began = awq__now();
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_memory need;
    awq_pool *pool = NULL;
    size_t used;
    long n;
    int i;
    world_open(&k->w, VOCAB);
    k->seed = 2024;
    k->ctx.files = ram_files(&k->files, k->w.ctx.files);
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    rd.max_rows = 24;
    rd.prompt_rows = 8;
    rd.cache_tokens = 256;
    sd.max_tokens = CONTEXT;
    CHECK_MSG(awq_memory_needed(&k->ctx, "m", NULL, &rd, &sd, MOST, &need) == AWQ_OK, "%s", k->ctx.err.text);
    CHECK(awq_pool_create(&k->ctx, 2, &pool) == AWQ_OK);
    used = k->ctx.memory_used;
    CHECK(awq_runner_create(&k->ctx, k->w.m, &rd, &k->r) == AWQ_OK);
    for (i = 0; i < MOST; i++) soak_fresh(k, &k->slots[i]);
    for (n = 0; awq__now() - began < seconds && !T.bad; n++) {
        slot *s = &k->slots[dice(&k->seed, MOST)], *other = &k->slots[dice(&k->seed, MOST)];
        blob *b = &k->blobs[dice(&k->seed, 6)];
        uint32_t what = dice(&k->seed, 40);
        int64_t position;
        if (dice(&k->seed, 100) == 0) {
            if (k->ctx.jobs.run) memset(&k->ctx.jobs, 0, sizeof k->ctx.jobs);
            else k->ctx.jobs = awq_pool_jobs(pool);
        }
        if (what < 22) soak_step(k), k->ops[0]++;
        else if (what < 30) soak_ask(k, s), k->ops[1]++;
        else if (what < 31) {
            CHECK(awq_session_stop(&k->ctx, s->s) == AWQ_OK);
            if (s->busy) soak_verify(k, s, 0), k->ops[2]++;
        } else if (what < 33) {
            position = dice(&k->seed, (uint32_t)s->s->n_ids + 1);
            if (s->busy) { /* what it says up to here is right, then forget */
                CHECK(awq_session_stop(&k->ctx, s->s) == AWQ_OK);
                soak_verify(k, s, 0);
            }
            CHECK(awq_session_rewind(&k->ctx, s->s, position) == AWQ_OK);
            s->n = position;
            k->ops[3]++;
        } else if (what < 34) soak_fresh(k, s), k->ops[4]++;
        else if (what < 36) soak_save(k, s, b), k->ops[5]++;
        else if (what < 37) soak_restore(k, s, b), k->ops[6]++;
        else if (what < 38) soak_fork(k, s, other), k->ops[7]++;
        else soak_feed(k, s), k->ops[8]++;
        CHECK_MSG(check_pages(k->r), "after operation %ld, a %u", n, what);
        if (n % 64 == 0) CHECK_MSG(check_contents(k->r, &k->seen), "after operation %ld", n);
        CHECK_MSG(TEST_DEVICES.n || k->ctx.memory_used - used <= need.runner + MOST * need.session, "%llu bytes, %llu said",
                  (unsigned long long)(k->ctx.memory_used - used),
                  (unsigned long long)(need.runner + MOST * need.session));
    }
    printf("    %ld operations: steps %ld, asks %ld, stops %ld, rewinds %ld, new %ld, saves %ld, restores %ld, forks "
           "%ld, feeds %ld; %ld answers of %ld tokens\n", n, k->ops[0], k->ops[1], k->ops[2], k->ops[3], k->ops[4],
           k->ops[5], k->ops[6], k->ops[7], k->ops[8], k->answers, k->tokens);
    close_all(&k->ctx, k->r);
    CHECK(k->ctx.memory_used == used);
    memset(&k->ctx.jobs, 0, sizeof k->ctx.jobs);
    awq_pool_free(&k->ctx, pool);
    CHECK(k->ctx.memory_used == 0);
    for (i = 0; i < 6; i++) free(k->blobs[i].data);
    ram_free(&k->files);
    world_close(&k->w);
    free(k);
}

/* --- 3: beginnings that are found computed */
static void test_prefix(void)
{
    world *w = (world *)calloc(1, sizeof *w);
    int32_t ids[140], other[140], out[20], want[20];
    awq_generate_desc d;
    awq_generate_result r, r2;
    awq_step_info f;
    awq_session *a, *b, *c, *many[8];
    awq_runner *run;
    uint64_t seed = 5;
    int i;
    world_open(w, 0);
    for (i = 0; i < 140; i++) ids[i] = other[i] = 3 + (int32_t)dice(&seed, VOCAB - 3);
    memset(&d, 0, sizeof d);
    d.max_tokens = 10;
    d.ignore_eos = 1;
    d.out_ids = out;
    /* the second one with the same 100 tokens computes the rest alone */
    run = runner(&w->ctx, w->m, 64, 0, 0);
    a = session(&w->ctx, run, CONTEXT);
    ask(&w->ctx, a, &d, ids, 100);
    f = finish(&w->ctx, run, AWQ_NO_BUDGET);
    CHECK(f.prompt_tokens == 100 && f.tokens == 10 && f.finished == 1);
    b = session(&w->ctx, run, CONTEXT);
    for (i = 100; i < 120; i++) other[i] = 3 + (int32_t)dice(&seed, VOCAB - 3);
    ask(&w->ctx, b, &d, other, 120);
    f = finish(&w->ctx, run, AWQ_NO_BUDGET);
    alone(w, &d, other, 120, want, NULL);
    CHECK(awq_session_answer(&w->ctx, b, &r) == AWQ_OK && r.cached_tokens == 96 && r.prompt_tokens == 120);
    CHECK(f.prompt_tokens == 24 && !memcmp(out, want, sizeof want[0] * 10));
    CHECK(a->page[0] == b->page[0] && a->page[2] == b->page[2] && a->page[3] != b->page[3] && check_pages(run));
    /* rewound into the middle of a page that both have, other tokens: the other one keeps its own */
    c = session(&w->ctx, run, CONTEXT);
    ask(&w->ctx, c, &d, ids, 100);
    finish(&w->ctx, run, AWQ_NO_BUDGET);
    CHECK(awq_session_rewind(&w->ctx, b, 50) == AWQ_OK && awq_session_position(b) == 50);
    for (i = 50; i < 90; i++) other[i] = 3 + (int32_t)dice(&seed, VOCAB - 3);
    ask(&w->ctx, b, &d, other + 50, 40);
    finish(&w->ctx, run, AWQ_NO_BUDGET);
    alone(w, &d, other, 90, want, NULL);
    CHECK(!memcmp(out, want, sizeof want[0] * 10) && a->page[0] == b->page[0] && a->page[1] != b->page[1]);
    CHECK(check_pages(run) && same_cache(a, c, 109) && awq_session_position(a) == 110);
    close_all(&w->ctx, run);
    /* together from the start: the first one computes it */
    run = runner(&w->ctx, w->m, 64, 0, 0);
    for (i = 0; i < 8; i++) {
        many[i] = session(&w->ctx, run, CONTEXT);
        other[0] = ids[0];
        memcpy(other, ids, sizeof other);
        other[100] = 3 + i;
        ask(&w->ctx, many[i], &d, other, 101);
    }
    d.out_ids = NULL;
    f = finish(&w->ctx, run, AWQ_NO_BUDGET);
    CHECK_MSG(f.prompt_tokens == 101 + 7 * 5, "%lld", (long long)f.prompt_tokens);
    for (i = 1; i < 8; i++) {
        CHECK(awq_session_answer(&w->ctx, many[i], &r) == AWQ_OK && r.cached_tokens == 96);
        CHECK(many[i]->page[2] == many[0]->page[2]);
        other[100] = 3 + i;
        alone(w, &d, other, 101, want, NULL);
        CHECK(!memcmp(awq_session_ids(many[i]) + 101, want, 40));
    }
    CHECK(check_pages(run));
    close_all(&w->ctx, run);
    /* all of it is there: the last token is computed */
    run = runner(&w->ctx, w->m, 64, 0, 0);
    d.out_ids = out;
    alone(w, &d, ids, 64, want, NULL);
    for (i = 0; i < 2; i++) {
        a = session(&w->ctx, run, CONTEXT);
        ask(&w->ctx, a, &d, ids, 64);
        f = finish(&w->ctx, run, AWQ_NO_BUDGET);
        CHECK(f.prompt_tokens == (i ? 32 : 64) && !memcmp(out, want, 40));
    }
    for (i = 0; i < 140; i++) other[i] = 9; /* equal pages, each after another one */
    alone(w, &d, other, 130, want, NULL);
    for (i = 0; i < 2; i++) {
        a = session(&w->ctx, run, CONTEXT);
        ask(&w->ctx, a, &d, other, 130);
        f = finish(&w->ctx, run, AWQ_NO_BUDGET);
        CHECK(f.prompt_tokens == (i ? 2 : 130) && !memcmp(out, want, 40) && check_pages(run));
    }
    for (i = 2; awq__page_bucket((uint64_t)i, other) != awq__page_bucket(1, other); i++) {}
    CHECK(awq__page_find(run, 1, other) && !awq__page_find(run, (uint64_t)i, other));
    close_all(&w->ctx, run);
    /* pages outlive their session when there is room for them; the least recently used go first */
    for (i = 0; i < 2; i++) {
        run = runner(&w->ctx, w->m, 64, 0, i ? 96 : 0);
        a = session(&w->ctx, run, CONTEXT);
        ask(&w->ctx, a, &d, ids, 100);
        finish(&w->ctx, run, AWQ_NO_BUDGET);
        CHECK(awq_session_free(&w->ctx, a) == AWQ_OK);
        a = session(&w->ctx, run, CONTEXT);
        ask(&w->ctx, a, &d, ids, 100);
        f = finish(&w->ctx, run, AWQ_NO_BUDGET);
        CHECK_MSG(f.prompt_tokens == (i ? 4 : 100), "%lld", (long long)f.prompt_tokens);
        close_all(&w->ctx, run);
    }
    run = runner(&w->ctx, w->m, 64, 0, 64);
    a = session(&w->ctx, run, 64); /* 4 pages in all */
    for (i = 0; i < 3; i++) {      /* three beginnings of a page each */
        memcpy(other, ids, sizeof other);
        other[0] = 3 + i;
        CHECK(awq_session_rewind(&w->ctx, a, 0) == AWQ_OK);
        CHECK(awq_session_feed(&w->ctx, a, other, 33, NULL, NULL) == AWQ_OK);
    }
    CHECK(awq_session_rewind(&w->ctx, a, 0) == AWQ_OK);
    other[0] = 3; /* the oldest is used again, so that the second is now the oldest */
    ask(&w->ctx, a, &d, other, 40);
    finish(&w->ctx, run, AWQ_NO_BUDGET);
    CHECK(awq_session_answer(&w->ctx, a, &r) == AWQ_OK && r.cached_tokens == 32);
    CHECK(awq_session_rewind(&w->ctx, a, 0) == AWQ_OK);
    other[0] = 70;
    CHECK(awq_session_feed(&w->ctx, a, other, 64, NULL, NULL) == AWQ_OK); /* one empty page, and the second's */
    for (i = 0; i < 3; i++) {
        other[0] = 3 + i;
        CHECK((awq__page_find(run, 1, other) != NULL) == (i != 1));
    }
    CHECK(check_pages(run));
    close_all(&w->ctx, run);
    /* pooled: every row is computed, whatever is there */
    {
        float pooled[64], again[64];
        run = runner(&w->ctx, w->m, 64, 0, 200);
        a = session(&w->ctx, run, CONTEXT);
        b = session(&w->ctx, run, CONTEXT);
        d.pooled = pooled;
        ask(&w->ctx, a, &d, ids, 100);
        CHECK(finish(&w->ctx, run, AWQ_NO_BUDGET).prompt_tokens == 100);
        d.pooled = again;
        ask(&w->ctx, b, &d, ids, 100);
        CHECK(finish(&w->ctx, run, 1).prompt_tokens == 100 && !memcmp(pooled, again, sizeof again));
        CHECK(awq_session_answer(&w->ctx, b, &r) == AWQ_OK && r.tokens == 0 && r.complete && r.cached_tokens == 0);
        /* the mean is that of the prompt's rows, also after an answer whose last token is still to be computed */
        d.pooled = NULL;
        CHECK(awq_session_rewind(&w->ctx, a, 50) == AWQ_OK && awq_session_rewind(&w->ctx, b, 50) == AWQ_OK);
        ask(&w->ctx, a, &d, ids, 5);
        finish(&w->ctx, run, AWQ_NO_BUDGET);
        CHECK(awq_session_feed(&w->ctx, b, awq_session_ids(a) + 50, 15, NULL, NULL) == AWQ_OK);
        d.pooled = pooled;
        ask(&w->ctx, a, &d, ids, 7);
        d.pooled = again;
        ask(&w->ctx, b, &d, ids, 7);
        finish(&w->ctx, run, AWQ_NO_BUDGET);
        CHECK(!memcmp(pooled, again, sizeof again));
        CHECK(awq_session_answer(&w->ctx, a, &r2) == AWQ_OK && r2.prompt_tokens == 7);
        d.ids = NULL;
        CHECK(awq_ask(&w->ctx, a, &d) == AWQ_E_ARG && strstr(w->ctx.err.text, "no tokens"));
        close_all(&w->ctx, run);
    }
    world_close(w);
    free(w);
}

/* a session that leaves a pass, by another's feed, gives back the pages it had for its rows */
static void test_leave(void)
{
    world *w = (world *)calloc(1, sizeof *w);
    int32_t ids[100], out[10], want[10];
    awq_generate_desc d;
    awq_step_info f;
    awq_session *a, *b;
    awq_runner *run;
    int i;
    world_open(w, 0);
    for (i = 0; i < 100; i++) ids[i] = 3 + i % 90;
    memset(&d, 0, sizeof d);
    d.max_tokens = 10;
    d.ignore_eos = 1;
    d.out_ids = out;
    run = runner(&w->ctx, w->m, 64, 0, 0);
    a = session(&w->ctx, run, 128);
    b = session(&w->ctx, run, 128);
    for (i = 0; i < 5; i++) {
        ask(&w->ctx, a, &d, ids, 100);
        CHECK(awq_step(&w->ctx, run, NULL, 0, 1, &f) == AWQ_OK && f.total > 0);
        CHECK(awq_session_feed(&w->ctx, b, ids, 100, NULL, NULL) == AWQ_OK && check_pages(run));
        finish(&w->ctx, run, AWQ_NO_BUDGET);
        CHECK(check_pages(run) && a->page[0] == b->page[0]);
        alone(w, &d, ids, 100, want, NULL);
        CHECK(!memcmp(out, want, sizeof out));
        CHECK(awq_session_rewind(&w->ctx, a, 0) == AWQ_OK && awq_session_rewind(&w->ctx, b, 0) == AWQ_OK);
        ids[0] = 3 + i;
    }
    close_all(&w->ctx, run);
    world_close(w);
    free(w);
}

/* --- 4: budgets and cuts */
static int cancel_at(void *user, const awq_progress *p)
{
    long *left = (long *)user;
    CHECK(!strcmp(p->stage, "step") && p->done >= 0 && p->done <= p->total && p->seconds >= 0);
    return (*left)-- == 0;
}

static void test_cuts(void)
{
    world *w = (world *)calloc(1, sizeof *w);
    int32_t ids[40], out[4], want[4];
    awq_generate_desc d;
    awq_step_info f;
    awq_session *a, *b;
    awq_runner *run;
    long k, left, steps = 0, reached = 1;
    int64_t done = -1, total = 0;
    awq_status st;
    int i;
    world_open(w, 0);
    for (i = 0; i < 40; i++) ids[i] = 3 + i * 7 % 90;
    memset(&d, 0, sizeof d);
    d.max_tokens = 4;
    d.ignore_eos = 1;
    d.out_ids = want;
    alone(w, &d, ids, 40, want, NULL);
    run = runner(&w->ctx, w->m, 30, 10, 0);
    a = session(&w->ctx, run, 128);
    b = session(&w->ctx, run, 128);
    w->ctx.user = &left;
    for (k = 0; reached; k++) { /* stopped once, at cut k */
        int cancelled = 0;
        CHECK(awq_session_rewind(&w->ctx, a, 0) == AWQ_OK && awq_session_rewind(&w->ctx, b, 0) == AWQ_OK);
        memset(out, 0, sizeof out);
        d.out_ids = out;
        ask(&w->ctx, a, &d, ids, 40);
        d.out_ids = NULL;
        ask(&w->ctx, b, &d, ids + 1, 30);
        left = k;
        w->ctx.progress = cancel_at;
        do {
            st = awq_step(&w->ctx, run, NULL, 0, AWQ_NO_BUDGET, &f);
            CHECK(st == AWQ_OK || st == AWQ_E_CANCELLED);
            CHECK(st == AWQ_OK || strstr(w->ctx.err.text, "step: cancelled at "));
            cancelled += st == AWQ_E_CANCELLED;
        } while (f.busy);
        reached = left < 0;
        CHECK(cancelled == reached && !memcmp(out, want, sizeof out) && check_pages(run));
    }
    CHECK(k > 100); /* 5 passes of 22 operations and their heads */
    left = -1;
    w->ctx.progress = NULL;
    /* a microsecond at a time: every step moves on, also when each is cancelled */
    for (i = 0; i < 2; i++) {
        CHECK(awq_session_rewind(&w->ctx, a, 0) == AWQ_OK);
        memset(out, 0, sizeof out);
        d.out_ids = out;
        ask(&w->ctx, a, &d, ids, 40);
        done = -1, total = 0;
        do {
            int64_t jobs = run->count ? run->done : 0, op = run->op, ops = run->n_ops;
            left = 0;
            w->ctx.progress = i ? cancel_at : NULL;
            st = awq_step(&w->ctx, run, NULL, 0, 1, &f);
            CHECK(st == (i ? AWQ_E_CANCELLED : AWQ_OK));
            CHECK(!ops || run->op != op || (run->count ? run->done : 0) != jobs);
            CHECK(f.total == 0 || f.total != total || f.done >= done || f.tokens || f.prompt_tokens);
            CHECK(f.total ? f.done < f.total : !f.done);
            done = f.done, total = f.total;
        } while (f.busy && ++steps < 100000);
        CHECK(!f.busy && !memcmp(out, want, sizeof out));
    }
    w->ctx.progress = NULL;
    CHECK(awq_step(&w->ctx, run, NULL, 0, 1000, &f) == AWQ_OK && !f.busy && !f.finished && !f.total && !f.tokens);
    close_all(&w->ctx, run);
    world_close(w);
    free(w);
}

/* --- 5: what steps do not do */
static long jobs_run;

static void counting_jobs(void *user, int64_t count, void (*job)(void *arg, int64_t index), void *arg)
{
    (void)user;
    jobs_run++;
    while (count-- > 0) job(arg, count); /* any order */
}

static int threads_now(void) /* -1: not known */
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    int n = -1;
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "Threads:", 8)) n = atoi(line + 8);
    if (f) fclose(f);
    return n;
}

static void test_allocations(void)
{
    static const char *const stop[] = {"never said", "nor this, which is a good deal longer than the other"};
    world *w = (world *)calloc(1, sizeof *w);
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_runner *run;
    awq_session *s[9];
    awq_generate_desc d;
    awq_step_info f;
    fail_alloc a = {-1, 0, 0};
    ram files;
    heard *h = (heard *)calloc(9, sizeof *h);
    uint64_t seed = 77;
    int32_t ids[60], out[9][200], want[200];
    int i, round, threads = threads_now();
    size_t before;
    world_open(w, VOCAB);
    ctx = w->ctx;
    ctx.memory_used = ctx.memory_peak = 0;
    ctx.allocator = fail_allocator(&a);
    ctx.files = ram_files(&files, w->ctx.files);
    CHECK_MSG(load_deterministic(&ctx, "m", &m) == AWQ_OK, "%s", ctx.err.text);
    CHECK(files.calls > 5 && a.calls > 5 && a.live == ctx.memory_used);
    run = runner(&ctx, m, 16, 4, 100);
    for (i = 0; i < 9; i++) s[i] = session(&ctx, run, 200);
    for (round = 0; round < 2; round++) {
        int64_t tokens = 0;
        long calls, opened;
        if (round) ctx.jobs.run = counting_jobs;
        for (i = 0; i < 9; i++) {
            memset(&h[i], 0, sizeof h[i]);
            d = some_desc(&seed, 60);
            d.max_tokens = 120;
            d.ignore_eos = 1;
            d.stop = stop;
            d.n_stop = 2;
            d.on_text = on_text;
            d.user = &h[i];
            d.out_ids = out[i];
            if (i > 5) { /* anything: special tokens, parts of characters */
                d.sampling.temperature = 1e4f;
                d.sampling.top_k = 0, d.sampling.top_p = 0, d.sampling.min_p = 0;
            }
            some_ids(&seed, ids, 60);
            CHECK(awq_session_rewind(&ctx, s[i], 0) == AWQ_OK);
            ask(&ctx, s[i], &d, ids, 60);
        }
        calls = a.calls, opened = files.calls;
        before = ctx.memory_used;
        do {
            if (awq_step(&ctx, run, NULL, 0, round ? 100 : AWQ_NO_BUDGET, &f)) CHECK_MSG(0, "%s", ctx.err.text);
            tokens += f.tokens;
        } while (f.busy);
        CHECK_MSG(a.calls == calls && ctx.memory_used == before, "%ld allocations", a.calls - calls);
        CHECK(files.calls == opened && tokens > 900 && (round ? jobs_run > 0 : jobs_run == 0));
        for (i = 0; i < 9; i++) {
            alone(w, &s[i]->d, s[i]->ids, 60, want, NULL);
            CHECK(!memcmp(want, out[i], 4 * (size_t)s[i]->r.tokens));
        }
    }
    CHECK(threads_now() == threads);
    /* many ids without a text of their own, one after the other */
    {
        static const int32_t held[] = {1, 72, 0}; /* special; the first byte of three; special */
        for (i = 0; i < 3; i++) {
            long calls;
            int k;
            memset(&d, 0, sizeof d);
            d.max_tokens = 500;
            d.on_text = on_text;
            memset(&h[0], 0, sizeof h[0]);
            d.user = &h[0];
            CHECK(awq_session_rewind(&ctx, s[0], 0) == AWQ_OK);
            ask(&ctx, s[0], &d, ids, 5);
            calls = a.calls;
            for (k = 0; k < 400; k++) awq__answer_push(&ctx, s[0], held[i]);
            CHECK_MSG(a.calls == calls && !s[0]->status, "%ld allocations for %d", a.calls - calls, (int)held[i]);
        }
    }
    ctx.jobs.run = NULL;
    close_all(&ctx, run);
    CHECK(awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0 && a.live == 0);
    ram_free(&files);
    world_close(w);
    free(w);
    free(h);
}

/* many answers do not keep a prompt waiting, whatever max_rows is */
static void test_waiting(void)
{
    static const int64_t rows[] = {1, 2, 4, 9};
    world *w = (world *)malloc(sizeof *w);
    int k, i;
    world_open(w, 0);
    for (k = 0; k < 4 && !T.bad; k++) {
        enum { N = 12 };
        awq_runner *run = runner(&w->ctx, w->m, rows[k], 0, 0);
        awq_session *s[N + 1];
        awq_generate_desc d;
        int32_t ids[24];
        uint64_t seed = 5;
        int steps = 0;
        memset(&d, 0, sizeof d);
        d.ignore_eos = 1;
        d.max_tokens = 100;
        for (i = 0; i < N + 1; i++) s[i] = session(&w->ctx, run, CONTEXT);
        some_ids(&seed, ids, 24);
        for (i = 0; i < N; i++) ask(&w->ctx, s[i], &d, ids, 1);
        for (i = 0; i < N; i++)
            while (s[i]->reading) CHECK(awq_step(&w->ctx, run, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK);
        ask(&w->ctx, s[N], &d, ids, 24);
        while (s[N]->reading && steps < 200) {
            CHECK(awq_step(&w->ctx, run, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK);
            steps++;
        }
        for (i = 0; i < N; i++) CHECK(s[i]->busy); /* it did not wait for them, nor they for it */
        CHECK_MSG(steps <= 50, "%d rows: %d passes", (int)rows[k], steps);
        finish(&w->ctx, run, AWQ_NO_BUDGET);
        close_all(&w->ctx, run);
    }
    world_close(w);
    free(w);
}

/* --- 6: full contexts */
static int64_t slide(int32_t *ids, int64_t n, int64_t keep, int64_t fresh, int64_t max)
{
    while (n >= max) { /* the older half of what follows `keep`, as far as it is not fresh */
        int64_t drop = (n - keep) / 2;
        if (drop > n - keep - fresh) drop = n - keep - fresh;
        if (drop < 1) drop = 1;
        memmove(ids + keep, ids + keep + drop, 4 * (size_t)(n - keep - drop));
        n -= drop;
    }
    return n;
}

static struct {
    int how, calls;
    int64_t max;
} full;

static int64_t on_full(void *user, int32_t *ids, int64_t n, int64_t max_tokens)
{
    CHECK(user == &full && n >= max_tokens && max_tokens == full.max);
    full.calls++;
    switch (full.how) {
    case 0: /* the first 3 and the last 20 */
        memmove(ids + 3, ids + n - 20, 20 * sizeof *ids);
        return 23;
    case 1: return max_tokens;
    case 2: return -1;
    case 3: ids[4] = VOCAB; return 10;
    case 4: ids[4] = -7; return 10;
    case 5: return 0;
    case 6: return n + 1000;
    default: return max_tokens - 1; /* the last one is lost */
    }
}

/* what a session of `max` tokens with this desc says to ids [n] greedily: piece by piece */
static int64_t expected(world *w, const awq_session_desc *sd, const awq_generate_desc *desc, int32_t *ids,
                        int64_t n, int64_t fresh, int32_t *out)
{
    awq_generate_desc d = *desc;
    int64_t got = 0, max = sd->max_tokens;
    while (got < desc->max_tokens) {
        awq_generate_result r;
        if (n >= max) {
            if (sd->on_full) {
                memmove(ids + 3, ids + n - 20, 20 * sizeof *ids);
                n = 23;
            } else if (sd->overflow == AWQ_OVERFLOW_SLIDE) n = slide(ids, n, sd->keep, fresh, max);
            else break;
        }
        fresh = 1;
        d.max_tokens = AWQ__MIN(desc->max_tokens - got, max - n);
        r = alone(w, &d, ids, n, out + got, NULL);
        memcpy(ids + n, out + got, 4 * (size_t)r.tokens);
        n += r.tokens;
        got += r.tokens;
        if (r.reason != AWQ_STOP_LENGTH) break;
    }
    return got;
}

static void test_overflow(void)
{
    static const int64_t lengths[] = {1, 30, 39, 40, 41, 85, 200};
    world *w = (world *)calloc(1, sizeof *w);
    int32_t ids[400], copy[800], out[200], want[200];
    awq_session_desc sd;
    awq_generate_desc d;
    awq_generate_result r;
    awq_session *s;
    awq_runner *run;
    int i, k, policy, budget;
    world_open(w, 0);
    for (i = 0; i < 400; i++) ids[i] = 3 + i * 31 % 90;
    memset(&d, 0, sizeof d);
    d.max_tokens = 90;
    d.ignore_eos = 1;
    d.out_ids = out;
    d.sampling.repetition_penalty = 1.5f;
    d.sampling.repetition_window = 12;
    for (policy = 0; policy < 4; policy++) { /* stop, slide, slide with keep, on_full */
        memset(&sd, 0, sizeof sd);
        sd.max_tokens = full.max = 40;
        sd.overflow = policy == 1 || policy == 2 ? AWQ_OVERFLOW_SLIDE : AWQ_OVERFLOW_STOP;
        sd.keep = policy == 2 ? 5 : 0;
        if (policy == 3) sd.on_full = on_full, sd.user = &full, full.how = 0;
        for (i = 0; i < 7; i++)
            for (k = 0; k < 2; k++) { /* as one prompt; 20 tokens there already */
                int64_t n = lengths[i], old = k ? 20 : 0, got;
                awq_status st;
                /* the prompt stays whole when it slides */
                int fits = policy == 3 || (policy ? sd.keep + n < 40 || (!old && n < 40) : old + n < 40);
                for (budget = 0; budget < 2; budget++) {
                    run = runner(&w->ctx, w->m, 16, 0, 0);
                    s = NULL;
                    CHECK(awq_session_create(&w->ctx, run, &sd, &s) == AWQ_OK);
                    if (k) CHECK(awq_session_feed(&w->ctx, s, ids + 100, 20, NULL, NULL) == AWQ_OK);
                    d.ids = ids;
                    d.n_ids = n;
                    st = awq_ask(&w->ctx, s, &d);
                    CHECK_MSG(st == (fits ? AWQ_OK : AWQ_E_LIMIT), "policy %d, %d tokens: %s", policy, (int)n,
                              w->ctx.err.text);
                    if (st) {
                        CHECK(awq_session_position(s) == old && !awq_session_busy(s));
                        close_all(&w->ctx, run);
                        continue;
                    }
                    finish(&w->ctx, run, budget ? 20 : AWQ_NO_BUDGET);
                    CHECK(check_pages(run));
                    memcpy(copy, ids + 100, 4 * (size_t)old);
                    memcpy(copy + old, ids, 4 * (size_t)n);
                    d.ids = NULL;
                    got = expected(w, &sd, &d, copy, old + n, n, want);
                    CHECK(awq_session_answer(&w->ctx, s, &r) == AWQ_OK && r.tokens == got);
                    CHECK_MSG(!memcmp(out, want, 4 * (size_t)got), "policy %d, %d tokens after %d", policy, (int)n,
                              (int)old);
                    CHECK(r.reason == (policy ? AWQ_STOP_LENGTH : AWQ_STOP_CONTEXT) && !r.complete);
                    CHECK(policy || awq_session_position(s) == 40);
                    CHECK(!memcmp(awq_session_ids(s), copy, 4 * (size_t)awq_session_position(s)));
                    close_all(&w->ctx, run);
                }
            }
    }
    /* on_full that does odd things */
    sd.on_full = on_full;
    sd.user = &full;
    d.sampling.repetition_penalty = 0;
    for (full.how = 1; full.how < 8; full.how++)
        for (k = 0; k < 2; k++) { /* for a prompt; during the answer */
            awq_status st, st2;
            run = runner(&w->ctx, w->m, 16, 0, 0);
            s = NULL;
            full.calls = 0;
            CHECK(awq_session_create(&w->ctx, run, &sd, &s) == AWQ_OK);
            d.ids = ids;
            d.n_ids = k ? 30 : 60;
            st = awq_ask(&w->ctx, s, &d);
            if (!k) {
                CHECK(full.calls == 1 && !s->busy == (full.how != 7));
                CHECK(st == (full.how == 7 ? AWQ_OK : full.how == 3 || full.how == 4 ? AWQ_E_ARG : AWQ_E_LIMIT));
                CHECK(st != AWQ_E_ARG || strstr(w->ctx.err.text, "outside the model's vocabulary"));
            } else {
                CHECK(st == AWQ_OK);
                finish(&w->ctx, run, AWQ_NO_BUDGET);
                st2 = awq_session_answer(&w->ctx, s, &r);
                CHECK(st2 == (full.how == 3 || full.how == 4 ? AWQ_E_ARG : AWQ_OK));
                CHECK(!st2 || strstr(w->ctx.err.text, "outside the model's vocabulary"));
                CHECK(r.reason == (st2 ? AWQ_STOP_FAILED : full.how == 7 ? AWQ_STOP_LENGTH : AWQ_STOP_CONTEXT));
                CHECK(!r.complete && (full.how == 7 ? full.calls == 80 : full.calls == 1 && r.tokens == 10));
                CHECK(awq_session_position(s) <= 40 && check_pages(run));
            }
            close_all(&w->ctx, run);
        }
    world_close(w);
    free(w);
}

/* --- 7: texts */
static void test_text(void)
{
    world *w = (world *)calloc(1, sizeof *w);
    awq_generate_desc d;
    awq_generate_result r;
    awq_session *s;
    awq_runner *run;
    heard *h = (heard *)calloc(2, sizeof *h);
    char stop[24];
    const char *list[2];
    int32_t ids[4] = {40, 41, 42, 43};
    size_t at, len;
    int i, k;
    world_open(w, VOCAB);
    run = runner(&w->ctx, w->m, 16, 0, 0);
    s = session(&w->ctx, run, 200);
    memset(&d, 0, sizeof d);
    d.max_tokens = 100;
    d.ignore_eos = 1;
    d.sampling.temperature = 4;
    list[0] = "not in there";
    list[1] = stop;
    d.stop = NULL;
    alone(w, &d, ids, 4, NULL, &h[0]);
    CHECK(h[0].n > 60);
    for (at = 0; at + 12 < h[0].n; at += 3) /* stop strings from anywhere, characters cut too */
        for (len = 1; len < 12; len += 5) {
            const char *found;
            memcpy(stop, h[0].text + at, len);
            stop[len] = 0;
            found = strstr(h[0].text, stop);
            memset(&h[1], 0, sizeof h[1]);
            d.stop = list;
            d.n_stop = 2;
            d.on_text = on_text;
            d.user = &h[1];
            CHECK(awq_session_rewind(&w->ctx, s, 0) == AWQ_OK);
            if (whole_text(stop, len)) {
                ask(&w->ctx, s, &d, ids, 4);
                memset(stop, 'x', sizeof stop); /* they were copied */
                finish(&w->ctx, run, AWQ_NO_BUDGET);
                CHECK(awq_session_answer(&w->ctx, s, &r) == AWQ_OK && r.reason == AWQ_STOP_STRING && r.complete);
                CHECK(h[1].n == (size_t)(found - h[0].text) && !memcmp(h[1].text, h[0].text, h[1].n));
            }
        }
    /* the caller's word, from on_text and from outside: what was held back comes */
    for (k = 1; k < 20; k++) {
        memset(&h[1], 0, sizeof h[1]);
        h[1].stop_at = k;
        strcpy(stop, "a long stop string");
        CHECK(awq_session_rewind(&w->ctx, s, 0) == AWQ_OK);
        ask(&w->ctx, s, &d, ids, 4);
        finish(&w->ctx, run, AWQ_NO_BUDGET);
        CHECK(awq_session_answer(&w->ctx, s, &r) == AWQ_OK && r.reason == AWQ_STOP_CALLER && h[1].calls == k);
        CHECK(!memcmp(h[1].text, h[0].text, h[1].n));
    }
    for (k = 0; k < 60; k++) {
        heard *part = (heard *)calloc(1, sizeof *part);
        size_t held;
        memset(&h[1], 0, sizeof h[1]);
        CHECK(awq_session_rewind(&w->ctx, s, 0) == AWQ_OK);
        ask(&w->ctx, s, &d, ids, 4);
        for (i = 0; i < k; i++) CHECK(awq_step(&w->ctx, run, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK);
        held = s->speaker.pending.len;
        CHECK(k < 20 || held > 8);
        if (k % 2) CHECK(awq_session_stop(&w->ctx, s) == AWQ_OK);
        else CHECK(awq_session_rewind(&w->ctx, s, 0) == AWQ_OK);
        CHECK(awq_session_answer(&w->ctx, s, &r) == AWQ_OK && r.reason == AWQ_STOP_CALLER && r.tokens == k);
        CHECK(!awq_session_busy(s) && awq_session_stop(&w->ctx, s) == AWQ_OK);
        d.max_tokens = k;
        if (k) alone(w, &d, ids, 4, NULL, part);
        d.max_tokens = 100;
        CHECK_MSG(part->n == h[1].n && !strcmp(part->text, h[1].text), "\"%s\" \"%s\"", part->text, h[1].text);
        free(part);
    }
    close_all(&w->ctx, run);
    world_close(w);
    free(w);
    free(h);
}

/* The ids of a conversation are those of rendering it afresh, and what is computed of it stays, also where the
   template takes thoughts out of earlier answers; another past is gone back on to where it begins. */
static void test_history(void)
{
    static const char source[] =
        "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content.split('</think>')[-1] + '<|end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% if open %}{{ '<think>' }}{% endif %}{% endif %}";
    static const char *const questions[] = {"Where is the mill?", "Who works there?", "Why?", "And then?"};
    awq_message talk[8];
    awq_template_desc chat;
    awq_generate_desc d;
    awq_session *s;
    awq_runner *run;
    awq_model *m = NULL;
    awq_ctx ctx;
    char answer[4][4200];
    heard *h = (heard *)calloc(1, sizeof *h);
    int64_t held = 0;
    int turn, open;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    memset(&chat, 0, sizeof chat);
    CHECK(awq_model_load(&ctx, DEMO, NULL, &m) == AWQ_OK);
    run = runner(&ctx, m, 64, 0, 0);
    s = session(&ctx, run, 512);
    d.messages = talk;
    d.max_tokens = 12;
    d.on_text = on_text;
    d.user = h;
    d.chat_template = source;
    d.chat = &chat;
    for (open = 0; open < 2; open++)
        for (turn = 0; turn < 4; turn++) {
            int32_t *ids = NULL;
            size_t n = 0;
            chat.variables = open ? "{\"open\": true}" : NULL;
            memset(talk + 2 * turn, 0, 2 * sizeof *talk);
            memset(h, 0, sizeof *h);
            talk[2 * turn].role = "user";
            talk[2 * turn].content = questions[turn];
            d.n_messages = (size_t)(2 * turn + 1);
            CHECK_MSG(awq_ask(&ctx, s, &d) == AWQ_OK, "%s", ctx.err.text);
            CHECK(awq__encode_messages(&ctx, m->tokenizer, &d, &ids, &n) == AWQ_OK);
            CHECK((int64_t)n == awq_session_position(s) && !memcmp(ids, awq_session_ids(s), n * sizeof *ids));
            if (turn && !open) CHECK_MSG(s->kv.len >= held - 1, "%d of %d kept", (int)s->kv.len, (int)held);
            awq__free(&ctx, ids);
            finish(&ctx, run, AWQ_NO_BUDGET);
            held = awq_session_position(s);
            snprintf(answer[turn], sizeof answer[turn], open ? "<think>%s</think>Yes." : "<think>no</think>%s", h->text);
            talk[2 * turn + 1].role = "assistant";
            talk[2 * turn + 1].content = answer[turn];
        }
    close_all(&ctx, run);
    CHECK(awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0);
    free(h);
}

/* what ends an answer where no file says so: the token that the template puts behind one */
static void test_turn_end(void)
{
    static const struct {
        const char *source, *token;
    } cases[] = {{"{% for m in messages %}{{ m.content }}\n <|user|>{% endfor %}", "<|user|>"},
                 {"{% for m in messages %}{{ m.content|trim + eos_token }}{% endfor %}", "<|end|>"},
                 {"{% for m in messages %}{{ m.content }}\n\n### {% endfor %}", NULL},
                 {"{% for m in messages %}{{ m.content }}{% endfor %}", NULL}, {"none", NULL},
                 {"{{ raise_exception('no') }}", NULL}};
    awq_message talk = {"user", "Where is the mill?", NULL};
    awq_generate_desc d;
    awq_generate_result r, end;
    awq_model *m = NULL;
    awq_ctx ctx;
    int32_t id, ids[200];
    size_t i;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    CHECK(awq_model_load(&ctx, DEMO, NULL, &m) == AWQ_OK);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        d.chat_template = cases[i].source;
        CHECK(awq__turn_end(&ctx, m->tokenizer, &d, &id) == AWQ_OK && !ctx.err.text[0]);
        CHECK_MSG(id == (cases[i].token ? awq_tokenizer_find(m->tokenizer, cases[i].token) : -1), "%s: %d", cases[i].source,
                  (int)id);
    }
    d.chat_template = NULL;
    d.messages = &talk;
    d.n_messages = 1;
    d.max_tokens = 200;
    d.out_ids = ids;
    CHECK(awq_generate(&ctx, m, &d, &end) == AWQ_OK && end.reason == AWQ_STOP_EOS);
    m->config.n_eos = 0; /* as if no file had named it */
    ((awq_tokenizer *)(uintptr_t)m->tokenizer)->eos = -1;
    d.chat_template = "<|begin|><|user|>{{ messages[0].content }}<|end|><|assistant|>{% for m in messages[1:] %}"
                      "{{ m.content }}<|end|>{% endfor %}";
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_OK && r.reason == AWQ_STOP_EOS && r.tokens == end.tokens);
    d.ignore_eos = 1;
    CHECK(awq_generate(&ctx, m, &d, &r) == AWQ_OK && r.reason == AWQ_STOP_LENGTH);
    CHECK(awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0);
}

static void test_messages(void)
{
    awq_message talk[4] = {{"user", "Where is the mill?", NULL}, {"assistant", NULL, NULL},
                           {"user", "Who works there?", NULL}, {"user", "no", NULL}};
    awq_ctx ctx;
    awq_model *m = NULL;
    awq_runner *run;
    awq_session *s;
    awq_generate_desc d;
    awq_generate_result r, first;
    heard *h = (heard *)calloc(2, sizeof *h);
    int64_t n, read;
    int32_t out[60], want[60];
    memset(&ctx, 0, sizeof ctx);
    CHECK_MSG(load_deterministic(&ctx, DEMO, &m) == AWQ_OK, "%s", ctx.err.text);
    if (!m) return;
    run = runner(&ctx, m, 64, 0, 0);
    s = session(&ctx, run, 512);
    memset(&d, 0, sizeof d);
    d.messages = talk;
    d.n_messages = 1;
    d.max_tokens = 60;
    d.on_text = on_text;
    d.user = &h[0];
    CHECK_MSG(awq_ask(&ctx, s, &d) == AWQ_OK, "%s", ctx.err.text);
    finish(&ctx, run, 1000);
    CHECK(awq_session_answer(&ctx, s, &first) == AWQ_OK && first.reason == AWQ_STOP_EOS && h[0].n > 5);
    n = awq_session_position(s);
    CHECK(n == first.prompt_tokens + first.tokens);
    /* the second turn: what the session has stays */
    talk[1].content = h[0].text;
    d.n_messages = 3;
    d.user = &h[1];
    d.out_ids = out;
    CHECK_MSG(awq_ask(&ctx, s, &d) == AWQ_OK, "%s", ctx.err.text);
    CHECK(s->kv.len >= n - 1);
    read = finish(&ctx, run, AWQ_NO_BUDGET).prompt_tokens;
    CHECK(awq_session_answer(&ctx, s, &r) == AWQ_OK && r.prompt_tokens == awq_session_position(s) - r.tokens - n);
    CHECK(read == r.prompt_tokens); /* the first answer's end was seen: its last token is computed */
    d.out_ids = want;
    memset(&h[1], 0, sizeof h[1]);
    CHECK(awq_generate(&ctx, m, &d, &first) == AWQ_OK && first.tokens == r.tokens);
    CHECK(!memcmp(out, want, 4 * (size_t)r.tokens));
    /* messages that go another way */
    talk[2] = talk[3];
    d.out_ids = out;
    CHECK(awq_ask(&ctx, s, &d) == AWQ_OK && s->kv.len >= n && s->kv.len < awq_session_position(s));
    finish(&ctx, run, AWQ_NO_BUDGET);
    CHECK(awq_session_answer(&ctx, s, &r) == AWQ_OK);
    d.out_ids = want;
    CHECK(awq_generate(&ctx, m, &d, &first) == AWQ_OK && first.tokens == r.tokens);
    CHECK(!memcmp(out, want, 4 * (size_t)r.tokens));
    talk[0].content = "Tell me a story.";
    d.n_messages = 1;
    d.out_ids = out;
    CHECK(awq_ask(&ctx, s, &d) == AWQ_OK && s->kv.len < 8);
    finish(&ctx, run, AWQ_NO_BUDGET);
    CHECK(awq_session_answer(&ctx, s, &r) == AWQ_OK);
    d.out_ids = want;
    CHECK(awq_generate(&ctx, m, &d, &first) == AWQ_OK && first.tokens == r.tokens);
    CHECK(!memcmp(out, want, 4 * (size_t)r.tokens) && first.prompt_tokens > r.prompt_tokens);
    /* the same again: its last token is computed once more */
    CHECK(awq_session_rewind(&ctx, s, awq_session_position(s) - r.tokens) == AWQ_OK);
    d.out_ids = out;
    CHECK(awq_ask(&ctx, s, &d) == AWQ_OK);
    CHECK(finish(&ctx, run, AWQ_NO_BUDGET).prompt_tokens == 1 && !memcmp(out, want, 4 * (size_t)r.tokens));
    close_all(&ctx, run);
    CHECK(awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0);
    free(h);
}

/* --- 8: saved, restored, forked, rewound at every token */
static void take_over(heard *h, const heard *from) /* handed out so far */
{
    *h = *from;
    h->stop_at = 0;
}

static void test_state(void)
{
    static const char *const stop[] = {"a long one that never comes"};
    world *w = (world *)calloc(1, sizeof *w);
    awq_ctx *ctx = &w->ctx;
    ram files;
    heard *h = (heard *)calloc(4, sizeof *h);
    int32_t ids[60], out[50], want[50], copied[50];
    awq_generate_desc d, go;
    awq_generate_result r;
    awq_runner *run, *run2;
    awq_session *s, *other, *fork;
    char *data;
    size_t bytes;
    int i, k, kind, cut;
    world_open(w, VOCAB);
    ctx->files = ram_files(&files, w->ctx.files);
    for (i = 0; i < 60; i++) ids[i] = 3 + i * 17 % 93;
    for (kind = 0; kind < 3; kind++) {
        memset(&d, 0, sizeof d);
        d.max_tokens = 36;
        d.ignore_eos = 1;
        d.stop = stop;
        d.n_stop = kind > 0;
        if (kind) d.sampling.temperature = 3, d.sampling.top_p = 0.95f, d.sampling.seed = 11;
        if (kind == 2) d.sampling.repetition_penalty = 1.2f;
        alone(w, &d, ids, 50, want, &h[0]);
        for (k = -1; k < 36; k++) { /* k tokens are there, -1: nor is the prompt */
            run = runner(ctx, w->m, 16, 0, 0);
            run2 = runner(ctx, w->m, 64, 0, 0);
            s = session(ctx, run, 200);
            other = session(ctx, run2, 120);
            memset(h + 1, 0, 3 * sizeof *h);
            d.out_ids = out;
            d.on_text = on_text;
            d.user = &h[1];
            ask(ctx, s, &d, ids, 50);
            if (k < 0) CHECK(awq_step(ctx, run, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK);
            while (k >= 0 && s->r.tokens < k) CHECK(awq_step(ctx, run, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK);
            /* a pass on devices has few cuts */
            for (cut = TEST_DEVICES.n ? k & 1 : (k + 5) % 5; cut; cut--) CHECK(awq_step(ctx, run, NULL, 0, 1, NULL) == AWQ_OK);
            CHECK(s->r.tokens == AWQ__MAX(k, 0));
            /* into a session that has something else under way, on another runner */
            bytes = awq_session_bytes(s);
            data = (char *)malloc(bytes);
            CHECK(awq_session_save(ctx, s, data, bytes) == AWQ_OK);
            ask(ctx, other, &d, ids + 7, 9);
            if (k % 2) CHECK(awq_step(ctx, run2, NULL, 0, 1, NULL) == AWQ_OK);
            take_over(&h[2], &h[1]);
            go = d;
            go.user = &h[2];
            go.out_ids = copied;
            memset(copied, 0, sizeof copied);
            if (k % 3) {
                CHECK_MSG(awq_session_restore(ctx, other, data, bytes, &go) == AWQ_OK, "%s", ctx->err.text);
            } else {
                CHECK(awq_session_save_file(ctx, s, "state") == AWQ_OK);
                CHECK_MSG(awq_session_restore_file(ctx, other, "state", &go) == AWQ_OK, "%s", ctx->err.text);
            }
            CHECK(awq_session_busy(other) && check_pages(run2));
            if (k > 3) { /* a saved copy of a restored one is as good */
                char *again = (char *)malloc(bytes);
                CHECK(awq_session_bytes(other) == bytes && awq_session_save(ctx, other, again, bytes) == AWQ_OK);
                CHECK(!memcmp(again, data, bytes));
                free(again);
            }
            fork = NULL;
            take_over(&h[3], &h[1]);
            go.user = &h[3];
            go.out_ids = NULL;
            CHECK_MSG(awq_session_fork(ctx, s, &go, &fork) == AWQ_OK, "%s", ctx->err.text);
            CHECK(check_pages(run) && awq_session_busy(fork) && (s->kv.len < AWQ__PAGE || fork->page[0] == s->page[0]));
            finish(ctx, run, AWQ_NO_BUDGET);
            i = (int)finish(ctx, run2, 50).prompt_tokens;
            CHECK(k > 0 ? i == 0 : i > 0 && i <= 50); /* still reading, or not */
            for (i = 1; i < 4; i++)
                CHECK_MSG(h[i].n == h[0].n && !memcmp(h[i].text, h[0].text, h[0].n), "token %d, %d: \"%s\", \"%s\"", k,
                          i, h[i].text, h[0].text);
            CHECK(!memcmp(out, want, sizeof(int32_t) * 36) && !memcmp(copied, want, sizeof(int32_t) * 36));
            CHECK(!memcmp(awq_session_ids(fork) + 50, want, sizeof(int32_t) * 36));
            CHECK(awq_session_answer(ctx, fork, &r) == AWQ_OK && r.tokens == 36 && r.reason == AWQ_STOP_LENGTH);
            CHECK(check_pages(run) && check_pages(run2));
            /* without go_on it ended there */
            CHECK(awq_session_restore(ctx, other, data, bytes, NULL) == AWQ_OK && !awq_session_busy(other));
            CHECK(awq_session_position(other) == 50 + AWQ__MAX(k, 0));
            free(data);
            if (!kind && k > 0) { /* greedily, a rewound session says the same again */
                awq_generate_desc rest = d;
                CHECK(awq_session_rewind(ctx, s, 50 + k) == AWQ_OK);
                memset(out, 0, sizeof out);
                rest.out_ids = out;
                rest.on_text = NULL;
                rest.max_tokens = 36 - k;
                ask(ctx, s, &rest, NULL, 0);
                finish(ctx, run, AWQ_NO_BUDGET);
                CHECK(!memcmp(out, want + k, 4 * (size_t)(36 - k)));
            }
            close_all(ctx, run);
            close_all(ctx, run2);
        }
    }
    ram_free(&files);
    ctx->files = files.under;
    world_close(w);
    free(w);
    free(h);
}

static void sign(char *data, size_t bytes)
{
    uint64_t sum = awq__checksum(AWQ__SAVED_VERSION, data, bytes - 8);
    awq__copy_little(data + bytes - 8, &sum, 8);
}

static void test_damage(void)
{
    world *w = (world *)calloc(1, sizeof *w), *w2 = (world *)calloc(1, sizeof *w2);
    awq_ctx *ctx = &w->ctx;
    ram files;
    int32_t ids[60];
    uint64_t seed = 4;
    awq_generate_desc d;
    awq_runner *run, *run2;
    awq_session *s, *other, *small;
    char *data, *copy;
    size_t bytes, i;
    int k;
    world_open(w, 0);
    world_open(w2, 0);
    for (k = 0; k < 60; k++) ids[k] = 3 + k;
    memset(&d, 0, sizeof d);
    d.max_tokens = 30;
    d.ignore_eos = 1;
    run = runner(ctx, w->m, 64, 0, 0);
    s = session(ctx, run, 100);
    other = session(ctx, run, 100);
    small = session(ctx, run, 22);
    ask(ctx, s, &d, ids, 20);
    for (k = 0; k < 3; k++) CHECK(awq_step(ctx, run, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK);
    bytes = awq_session_bytes(s);
    data = (char *)malloc(bytes);
    copy = (char *)malloc(bytes);
    CHECK(awq_session_save(ctx, s, data, bytes - 1) == AWQ_E_ARG && strstr(ctx->err.text, "are needed"));
    CHECK(awq_session_save(ctx, s, data, 0) == AWQ_E_ARG);
    CHECK(awq_session_save(ctx, s, data, bytes) == AWQ_OK);
    CHECK(awq_session_feed(ctx, other, ids, 5, NULL, NULL) == AWQ_OK);
    CHECK(awq_session_restore(ctx, other, NULL, 0, NULL) == AWQ_E_FORMAT);
    for (i = 0; i < bytes; i++) { /* cut anywhere; in a block of its own, so that reading beyond shows */
        char *part = (char *)malloc(i + 1);
        memcpy(part, data, i);
        if (awq_session_restore(ctx, other, part, i, &d) != AWQ_E_FORMAT) CHECK_MSG(0, "cut at %d", (int)i);
        free(part);
        if (i > 1000) i += 60;
    }
    for (i = 0; i < bytes; i++) {
        memcpy(copy, data, bytes);
        copy[i] = (char)(copy[i] ^ (1 << i % 8));
        if (awq_session_restore(ctx, other, copy, bytes, &d) != AWQ_E_FORMAT) CHECK_MSG(0, "byte %d", (int)i);
        if (i > 2000) i += 10;
    }
    CHECK(awq_session_position(other) == 5 && !awq_session_busy(other) && other->kv.len == 5); /* untouched */
    /* every number of the header, with a right checksum: an answer or a status */
    ctx->memory_limit = ctx->memory_used + (64 << 20);
    for (k = 0; k < 4000; k++) {
        static const int64_t odd[] = {0, -1, 1, 20, 23, 31, 32, 64, 100, INT32_MAX, (int64_t)1 << 31, INT64_MAX,
                                      INT64_MIN};
        size_t at = 8 + 8 * dice(&seed, (sizeof(awq__saved) - 8) / 8);
        int64_t v = odd[dice(&seed, 13)];
        awq_status st;
        memcpy(copy, data, bytes);
        memcpy(copy + at, &v, 8);
        if (dice(&seed, 2)) {
            at = sizeof(awq__saved) + 4 * dice(&seed, 23);
            v = (int64_t)awq__random(&seed);
            memcpy(copy + at, &v, 4);
        }
        sign(copy, bytes);
        st = awq_session_restore(ctx, other, copy, bytes, k % 2 ? &d : NULL);
        CHECK(st == AWQ_OK || st == AWQ_E_FORMAT || st == AWQ_E_LIMIT || st == AWQ_E_MEMORY);
        CHECK(st || check_pages(run));
        if (!st && k % 8 == 1)
            for (i = 0; i < 3; i++) CHECK(awq_step(ctx, run, &other, 1, AWQ_NO_BUDGET, NULL) == AWQ_OK);
    }
    ctx->memory_limit = 0;
    /* by name */
    CHECK(awq_session_restore(ctx, small, data, bytes, &d) == AWQ_E_LIMIT && strstr(ctx->err.text, "room for 22"));
    memcpy(copy, data, bytes);
    copy[0] = 'B';
    CHECK(awq_session_restore(ctx, other, copy, bytes, NULL) == AWQ_E_FORMAT && strstr(ctx->err.text, "AWQSESS"));
    memcpy(copy, data, bytes);
    copy[8] = 9;
    sign(copy, bytes);
    CHECK(awq_session_restore(ctx, other, copy, bytes, NULL) == AWQ_E_FORMAT && strstr(ctx->err.text, "version 9"));
    memcpy(copy, data, bytes);
    copy[12] = 1, copy[15] = 4;
    copy[13] = 2, copy[14] = 3;
    sign(copy, bytes);
    CHECK(awq_session_restore(ctx, other, copy, bytes, NULL) == AWQ_E_FORMAT && strstr(ctx->err.text, "byte order"));
    CHECK(awq_model_free(&w2->ctx, w2->m) == AWQ_OK);
    ((uint16_t *)tiny_find(&w2->t, "model.norm.weight")->data)[5] ^= 1;
    w2->ctx = tiny_ctx(&w2->t);
    CHECK(load_deterministic(&w2->ctx, "m", &w2->m) == AWQ_OK);
    run2 = runner(&w2->ctx, w2->m, 8, 0, 0);
    CHECK(awq_session_restore(&w2->ctx, session(&w2->ctx, run2, 100), data, bytes, NULL) == AWQ_E_FORMAT);
    CHECK(strstr(w2->ctx.err.text, "another model"));
    close_all(&w2->ctx, run2);
    d.pooled = (float *)copy;
    CHECK(awq_session_restore(ctx, other, data, bytes, &d) == AWQ_E_ARG && strstr(ctx->err.text, "pooled"));
    d.pooled = NULL;
    /* files: too large, absent, named in what is said; the k-th call fails; a full disk */
    ctx->files = ram_files(&files, w->ctx.files);
    CHECK(awq_session_restore_file(ctx, other, "state", NULL) == AWQ_E_IO && strstr(ctx->err.text, "state"));
    CHECK(awq_session_save_file(ctx, s, "state") == AWQ_OK);
    CHECK(awq_session_restore_file(ctx, small, "state", &d) == AWQ_E_LIMIT && strstr(ctx->err.text, "state: "));
    files.f[ram_find(&files, "state")].data[100]++;
    CHECK(awq_session_restore_file(ctx, other, "state", &d) == AWQ_E_FORMAT && strstr(ctx->err.text, "state: "));
    for (k = 0;; k++) {
        int before = ram_find(&files, "new"), after;
        awq_status st;
        files.calls = 0;
        files.fail_at = k;
        st = awq_session_save_file(ctx, s, "new");
        after = ram_find(&files, "new");
        CHECK(ram_find(&files, "new.tmp") == 8 && before == 8);
        if (files.calls <= k) break;
        CHECK_MSG(st == AWQ_E_IO && strstr(ctx->err.text, "new"), "%d: %s", k, ctx->err.text);
        CHECK(after == 8);
    }
    CHECK(k >= 6 && ram_find(&files, "new") < 8);
    for (k = 0;; k++) {
        files.calls = 0;
        files.fail_at = k;
        if (awq_session_restore_file(ctx, other, "new", NULL) == AWQ_OK && files.calls <= k) break;
    }
    CHECK(k >= 3 && awq_session_position(other) == awq_session_position(s));
    files.fail_at = -1;
    files.full = 1;
    CHECK(awq_session_save_file(ctx, s, "more") == AWQ_E_IO && strstr(ctx->err.text, strerror(ENOSPC)));
    CHECK(ram_find(&files, "more") == 8 && ram_find(&files, "more.tmp") == 8);
    ram_free(&files);
    ctx->files = files.under;
    /* a pooled question is no answer that could go on */
    {
        float pooled[64];
        awq_session *fork = NULL;
        CHECK(awq_session_stop(ctx, s) == AWQ_OK);
        d.pooled = pooled;
        ask(ctx, s, &d, ids, 10);
        d.pooled = NULL;
        bytes = awq_session_bytes(s);
        copy = (char *)realloc(copy, bytes);
        CHECK(awq_session_save(ctx, s, copy, bytes) == AWQ_OK);
        CHECK(awq_session_restore(ctx, other, copy, bytes, &d) == AWQ_OK && !awq_session_busy(other));
        CHECK(awq_session_fork(ctx, s, &d, &fork) == AWQ_OK && !awq_session_busy(fork));
    }
    free(data);
    free(copy);
    close_all(ctx, run);
    world_close(w);
    world_close(w2);
    free(w);
    free(w2);
}

/* everything once; the first status that is not AWQ_OK */
static awq_status everything(awq_ctx *ctx, const awq_model *m)
{
    static const char *const stop[] = {"never said", "nor this"}, *const texts[] = {"abc", "xyz the mill"};
    awq_message talk = {"user", "where is it", NULL};
    awq_runner *r = NULL;
    awq_session *s = NULL, *copy = NULL;
    awq_session_desc sd;
    awq_runner_desc rd;
    awq_generate_desc d;
    awq_memory need;
    float rows[2 * 64];
    int i;
    awq_status st;
    memset(&sd, 0, sizeof sd);
    memset(&rd, 0, sizeof rd);
    memset(&d, 0, sizeof d);
    sd.max_tokens = 100;
    sd.on_full = on_full;
    rd.cache_tokens = 100;
    d.messages = &talk;
    d.n_messages = 1;
    d.max_tokens = 5;
    d.stop = stop;
    d.n_stop = 2;
    d.ignore_eos = 1;
    st = awq_memory_needed(ctx, "m", NULL, &rd, &sd, 2, &need);
    if (!st) st = awq_runner_create(ctx, m, &rd, &r);
    if (!st) st = awq_session_create(ctx, r, &sd, &s);
    if (!st) st = awq_ask(ctx, s, &d);
    for (i = 0; !st && i < 3; i++) st = awq_step(ctx, r, NULL, 0, AWQ_NO_BUDGET, NULL);
    if (!st) st = awq_session_save_file(ctx, s, "all");
    if (!st) st = awq_session_fork(ctx, s, &d, &copy);
    if (!st) st = awq_session_restore_file(ctx, s, "all", &d);
    while (!st && (s->busy || copy->busy)) st = awq_step(ctx, r, NULL, 0, AWQ_NO_BUDGET, NULL);
    if (!st) CHECK(!memcmp(s->ids, copy->ids, 4 * (size_t)s->n_ids));
    if (!st) st = awq_embed(ctx, m, texts, 2, rows);
    if (r) CHECK(check_pages(r));
    close_all(ctx, r);
    return st;
}

static void test_failing_allocations(void)
{
    world *w = (world *)calloc(1, sizeof *w);
    fail_alloc f = {-1, 0, 0};
    awq_ctx ctx;
    awq_model *m = NULL;
    ram files;
    size_t base;
    long k;
    int reached = 1;
    world_open(w, VOCAB);
    ctx = w->ctx;
    ctx.memory_used = 0;
    ctx.files = ram_files(&files, w->ctx.files);
    ctx.allocator = fail_allocator(&f);
    CHECK(load_deterministic(&ctx, "m", &m) == AWQ_OK);
    base = f.live;
    for (k = 0; reached; k++) {
        awq_status st;
        f.calls = 0;
        f.fail_at = k;
        st = everything(&ctx, m);
        reached = f.calls > k;
        CHECK_MSG(st == (reached ? AWQ_E_MEMORY : AWQ_OK), "%ld: %d, %s", k, (int)st, ctx.err.text);
        CHECK_MSG(f.live == base && ctx.memory_used == base, "%ld: %ld bytes left", k, (long)(f.live - base));
        CHECK(ram_find(&files, "all.tmp") == 8);
    }
    CHECK(k > 60);
    f.fail_at = -1;
    CHECK(awq_model_free(&ctx, m) == AWQ_OK && f.live == 0);
    ram_free(&files);
    world_close(w);
    free(w);
}

/* --- 9: what is refused */
typedef struct inside {
    awq_ctx *ctx;
    awq_runner *r;
    awq_session *s;
    int calls;
} inside;

static int refused(const inside *in, awq_status st, const char *who)
{
    int ok = st == AWQ_E_ARG && strstr(in->ctx->err.text, who) && strstr(in->ctx->err.text, "callback");
    CHECK_MSG(ok, "%s: %d, %s", who, (int)st, in->ctx->err.text);
    return ok;
}

static void try_everything(inside *in)
{
    awq_generate_desc d;
    awq_session *other = NULL;
    int32_t id = 5;
    char data[8];
    memset(&d, 0, sizeof d);
    d.ids = &id;
    d.n_ids = 1;
    in->calls++;
    refused(in, awq_step(in->ctx, in->r, NULL, 0, AWQ_NO_BUDGET, NULL), "awq_step");
    refused(in, awq_ask(in->ctx, in->s, &d), "awq_ask");
    refused(in, awq_session_stop(in->ctx, in->s), "awq_session_stop");
    refused(in, awq_session_rewind(in->ctx, in->s, 0), "awq_session_stop");
    refused(in, awq_session_free(in->ctx, in->s), "awq_session_free");
    refused(in, awq_session_create(in->ctx, in->r, NULL, &other), "awq_session_create");
    refused(in, awq_session_fork(in->ctx, in->s, NULL, &other), "awq_session_create");
    refused(in, awq_session_save(in->ctx, in->s, data, sizeof data), "awq_session_save");
    refused(in, awq_session_save_file(in->ctx, in->s, "x"), "awq_session_save");
    refused(in, awq_session_restore(in->ctx, in->s, data, sizeof data, NULL), "awq_session_restore");
    refused(in, awq_session_restore_file(in->ctx, in->s, "x", NULL), "awq_session_restore_file");
    refused(in, awq_session_feed(in->ctx, in->s, &id, 1, NULL, NULL), "awq_session_feed");
    CHECK(awq_runner_free(in->ctx, in->r) == AWQ_E_ARG && !other);
    CHECK(awq_session_position(in->s) > 0 && awq_session_answer(in->ctx, in->s, NULL) == AWQ_OK);
}

static int inside_text(void *user, const char *text, size_t bytes)
{
    (void)text, (void)bytes;
    try_everything((inside *)user);
    return 0;
}

static int64_t inside_full(void *user, int32_t *ids, int64_t n, int64_t max_tokens)
{
    (void)ids, (void)n;
    try_everything((inside *)user);
    return max_tokens / 2;
}

static int inside_progress(void *user, const awq_progress *p)
{
    (void)p;
    try_everything((inside *)user);
    return 0;
}

static void inside_tap(void *user, awq_tap_point point, int layer, const float *data, int64_t n, int64_t width)
{
    (void)point, (void)layer, (void)data, (void)n, (void)width;
    try_everything((inside *)user);
}

static void test_inside(void)
{
    world *w = (world *)calloc(1, sizeof *w);
    awq_session_desc sd;
    awq_generate_desc d;
    awq_generate_result r;
    awq_feed_desc fd;
    int32_t ids[5] = {40, 41, 42, 43, 44}, want[20], out[20];
    inside in;
    world_open(w, VOCAB);
    memset(&in, 0, sizeof in);
    memset(&sd, 0, sizeof sd);
    memset(&d, 0, sizeof d);
    memset(&fd, 0, sizeof fd);
    in.ctx = &w->ctx;
    in.r = runner(&w->ctx, w->m, 16, 0, 0);
    sd.max_tokens = 16;
    sd.on_full = inside_full;
    sd.user = &in;
    d.max_tokens = 10;
    d.ignore_eos = 1;
    alone(w, &d, ids, 5, want, NULL);
    CHECK(awq_session_create(&w->ctx, in.r, &sd, &in.s) == AWQ_OK);
    d.on_text = inside_text;
    d.user = &in;
    d.out_ids = out;
    ask(&w->ctx, in.s, &d, ids, 5);
    w->ctx.user = &in;
    w->ctx.progress = inside_progress;
    finish(&w->ctx, in.r, AWQ_NO_BUDGET);
    w->ctx.progress = NULL;
    CHECK(awq_session_answer(&w->ctx, in.s, &r) == AWQ_OK && r.tokens == 10 && in.calls > 50);
    CHECK(!memcmp(out, want, sizeof(int32_t) * 10));
    in.calls = 0;
    ask(&w->ctx, in.s, &d, ids, 5); /* 20 of 16 */
    CHECK(in.calls == 1);
    finish(&w->ctx, in.r, AWQ_NO_BUDGET);
    CHECK(awq_session_answer(&w->ctx, in.s, &r) == AWQ_OK && in.calls > 2);
    in.calls = 0;
    fd.tap = inside_tap;
    fd.user = &in;
    CHECK(awq_session_rewind(&w->ctx, in.s, 2) == AWQ_OK);
    CHECK(awq_session_feed(&w->ctx, in.s, ids, 5, &fd, NULL) == AWQ_OK && in.calls == 4);
    CHECK(awq_session_rewind(&w->ctx, in.s, 2) == AWQ_OK); /* afterwards all is as before */
    close_all(&w->ctx, in.r);
    world_close(w);
    free(w);
}

static void test_bad_input(void)
{
    world *w = (world *)calloc(1, sizeof *w);
    awq_ctx *ctx = &w->ctx;
    awq_runner *run, *run2, *none = NULL;
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_session *s, *s2, *list[2], *untouched = NULL;
    awq_generate_desc d;
    awq_generate_result r;
    awq_step_info f;
    awq_memory need;
    int32_t ids[4] = {5, 6, 7, 8}, odd[2] = {5, VOCAB};
    uint64_t state = 1;
    float logits[VOCAB];
    int i;
    world_open(w, 0);
    run = runner(ctx, w->m, 16, 0, 0);
    run2 = runner(ctx, w->m, 16, 0, 0);
    CHECK(awq_step(ctx, run, NULL, 0, AWQ_NO_BUDGET, &f) == AWQ_OK && !f.busy && !f.total); /* no sessions */
    CHECK(awq_step(ctx, run, NULL, 0, 100, NULL) == AWQ_OK);
    s = session(ctx, run, 20);
    s2 = session(ctx, run2, 20);
    CHECK(awq_session_answer(ctx, s, &r) == AWQ_OK && !r.tokens && awq_session_position(s) == 0); /* never asked */
    CHECK(awq_session_stop(ctx, s) == AWQ_OK && awq_session_rewind(ctx, s, 0) == AWQ_OK);
    CHECK(awq_model_free(ctx, w->m) == AWQ_E_ARG && strstr(ctx->err.text, "runner"));
    CHECK(awq_runner_free(ctx, run) == AWQ_E_ARG && strstr(ctx->err.text, "sessions"));
    CHECK(awq_runner_free(ctx, NULL) == AWQ_OK && awq_session_free(ctx, NULL) == AWQ_OK);
    CHECK(awq_model_free(ctx, NULL) == AWQ_OK);
    CHECK(awq_step(ctx, run, NULL, 0, 0, &f) == AWQ_E_ARG && strstr(ctx->err.text, "budget of 0"));
    CHECK(awq_step(ctx, run, NULL, 0, -2, &f) == AWQ_E_ARG && strstr(ctx->err.text, "budget of -2"));
    list[0] = s, list[1] = NULL;
    CHECK(awq_step(ctx, run, list, 2, 10, &f) == AWQ_E_ARG && strstr(ctx->err.text, "session 1 of the list is NULL"));
    list[1] = s2;
    CHECK(awq_step(ctx, run, list, 2, 10, &f) == AWQ_E_ARG && strstr(ctx->err.text, "another runner's"));
    memset(&d, 0, sizeof d);
    CHECK(awq_ask(ctx, s, &d) == AWQ_E_ARG && strstr(ctx->err.text, "no tokenizer.json"));
    d.prompt = "text";
    CHECK(awq_ask(ctx, s, &d) == AWQ_E_ARG && strstr(ctx->err.text, "no tokenizer.json"));
    d.prompt = NULL;
    d.ids = ids;
    CHECK(awq_ask(ctx, s, &d) == AWQ_E_ARG && strstr(ctx->err.text, "n_ids is 0"));
    d.n_ids = -3;
    CHECK(awq_ask(ctx, s, &d) == AWQ_E_ARG && strstr(ctx->err.text, "n_ids is -3"));
    d.ids = odd;
    d.n_ids = 2;
    CHECK(awq_ask(ctx, s, &d) == AWQ_E_ARG && strstr(ctx->err.text, "token id 96"));
    odd[1] = -1;
    CHECK(awq_ask(ctx, s, &d) == AWQ_E_ARG && strstr(ctx->err.text, "token id -1"));
    CHECK(awq_session_feed(ctx, s, odd, 2, NULL, logits) == AWQ_E_ARG && strstr(ctx->err.text, "token id -1"));
    CHECK(awq_session_feed(ctx, s, ids, 0, NULL, logits) == AWQ_E_ARG);
    CHECK(awq_session_position(s) == 0 && !awq_session_busy(s));
    d.ids = ids;
    d.n_ids = 4;
    d.sampling.temperature = -1;
    CHECK(awq_ask(ctx, s, &d) == AWQ_E_ARG && strstr(ctx->err.text, "temperature -1"));
    d.sampling.temperature = 0;
    d.max_tokens = (int64_t)1 << 60;
    ctx->memory_limit = 64 << 20;
    CHECK(awq_ask(ctx, s, &d) == AWQ_E_MEMORY && awq_session_position(s) == 0);
    ctx->memory_limit = 0;
    CHECK(awq_generate(ctx, w->m, &d, NULL) == AWQ_E_ARG);
    d.max_tokens = INT64_MAX;
    CHECK(awq_generate(ctx, w->m, &d, NULL) == AWQ_E_ARG);
    d.max_tokens = 10;
    d.ignore_eos = 1;
    CHECK(awq_ask(ctx, s, &d) == AWQ_OK);
    CHECK(awq_ask(ctx, s, &d) == AWQ_E_ARG && strstr(ctx->err.text, "under way"));
    CHECK(awq_session_feed(ctx, s, ids, 4, NULL, NULL) == AWQ_E_ARG && strstr(ctx->err.text, "under way"));
    CHECK(awq_session_rewind(ctx, s, 5) == AWQ_E_ARG && strstr(ctx->err.text, "holds 4"));
    CHECK(awq_session_rewind(ctx, s, -1) == AWQ_E_ARG && awq_session_busy(s));
    finish(ctx, run, AWQ_NO_BUDGET);
    CHECK(awq_session_answer(ctx, s, &r) == AWQ_OK && r.tokens == 10);
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    for (i = 0; i < 6; i++) {
        rd.max_rows = i == 0 ? -1 : i == 1 ? 65537 : 0;
        rd.prompt_rows = i == 2 ? -1 : 0;
        rd.cache_tokens = i == 3 ? -1 : 0;
        sd.max_tokens = i == 4 ? -1 : 10;
        sd.keep = i == 5 ? 9 : 0;
        if (i < 4) CHECK(awq_runner_create(ctx, w->m, &rd, &none) == AWQ_E_ARG && !none);
        else CHECK(awq_session_create(ctx, run, &sd, &untouched) == AWQ_E_ARG && !untouched);
        CHECK(awq_memory_needed(ctx, "m", NULL, &rd, &sd, 1, &need) == AWQ_E_ARG);
    }
    memset(&sd, 0, sizeof sd);
    sd.overflow = (awq_overflow)7;
    CHECK(awq_session_create(ctx, run, &sd, &untouched) == AWQ_E_ARG && strstr(ctx->err.text, "overflow 7"));
    CHECK(awq_memory_needed(ctx, "m", NULL, NULL, NULL, -1, &need) == AWQ_E_ARG);
    CHECK(awq_memory_needed(ctx, "not there", NULL, NULL, NULL, 1, &need) == AWQ_E_IO);
    CHECK(awq_embed(ctx, w->m, NULL, 0, NULL) == AWQ_E_ARG && strstr(ctx->err.text, "no tokenizer.json"));
    /* logits that leave nothing to draw from still give a token */
    for (i = 0; i < 3; i++) {
        awq_sampling sm;
        int32_t seen[VOCAB], id = -1, k;
        memset(&sm, 0, sizeof sm);
        sm.temperature = 1;
        sm.repetition_penalty = i ? 0 : INFINITY;
        sm.top_k = i == 2 ? 5 : 0;
        for (k = 0; k < VOCAB; k++) seen[k] = k, logits[k] = i ? -2e30f : (float)-k;
        CHECK(awq_sample(ctx, &sm, logits, VOCAB, seen, VOCAB, &state, &id) == AWQ_OK && id >= 0 && id < VOCAB);
    }
    close_all(ctx, run);
    close_all(ctx, run2);
    world_close(w);
    free(w);
}

static void test_numbers(void) /* NaN: only those that meet it fail */
{
    world *w = (world *)calloc(1, sizeof *w);
    awq_ctx *ctx = &w->ctx;
    awq_runner *run;
    awq_session *s[6];
    awq_generate_desc d;
    awq_generate_result r;
    awq_step_info f;
    int32_t ids[6][30], want[6][10];
    uint16_t *embed, kept;
    float *norm, logits[VOCAB];
    int i, k;
    world_open(w, 0);
    memset(&d, 0, sizeof d);
    d.max_tokens = 10;
    for (i = 0; i < 6; i++) {
        for (k = 0; k < 30; k++) ids[i][k] = 3 + (i * 7 + k * 11) % 90;
        for (k = 0; k < 30; k++) ids[i][k] += ids[i][k] >= 50;
        r = alone(w, &d, ids[i], 30, want[i], NULL);
    }
    embed = (uint16_t *)(uintptr_t)w->m->embed + 50 * 64 + 3;
    kept = *embed;
    *embed = 0x7e00;
    ids[2][29] = ids[4][3] = 50; /* at the end, and before the end */
    run = runner(ctx, w->m, 40, 0, 0);
    for (i = 0; i < 6; i++) {
        s[i] = session(ctx, run, 60);
        ask(ctx, s[i], &d, ids[i], 30);
    }
    f = finish(ctx, run, AWQ_NO_BUDGET);
    CHECK(f.finished == 6 && check_pages(run));
    for (i = 0; i < 6; i++) {
        awq_status st = awq_session_answer(ctx, s[i], &r);
        int met = 0; /* its own answer may have 50 in it too */
        for (k = 0; k < 10; k++) met |= want[i][k] == 50;
        if (met && st) continue;
        CHECK(st == (i == 2 || i == 4 ? AWQ_E_NUMERIC : AWQ_OK));
        CHECK(!st || (r.reason == AWQ_STOP_FAILED && !r.complete && strstr(ctx->err.text, "layer 0")));
        CHECK(st || !memcmp(awq_session_ids(s[i]) + 30, want[i], 4 * (size_t)r.tokens));
    }
    /* nothing of it stays behind */
    CHECK(awq_session_feed(ctx, s[2], ids[2], 5, NULL, logits) == AWQ_E_NUMERIC && strstr(ctx->err.text, "layer 0"));
    CHECK(awq_session_rewind(ctx, s[2], 20) == AWQ_OK);
    CHECK(awq_session_feed(ctx, s[2], ids[2], 5, NULL, logits) == AWQ_OK && awq__all_finite(logits, VOCAB));
    /* all members of a pass fail: it ends there; then a feed, then another pass */
    for (i = 0; i < 2; i++) {
        CHECK(awq_session_rewind(ctx, s[i], 0) == AWQ_OK);
        ids[i][5] = 50;
        ask(ctx, s[i], &d, ids[i], 30);
    }
    do {
        CHECK(awq_step(ctx, run, NULL, 0, 1, &f) == AWQ_OK);
    } while (f.busy);
    CHECK(!run->n_ops && !f.total);
    CHECK(awq_session_feed(ctx, s[5], ids[5], 5, NULL, logits) == AWQ_OK && check_pages(run));
    CHECK(awq_session_answer(ctx, s[0], &r) == AWQ_E_NUMERIC && awq_session_answer(ctx, s[1], &r) == AWQ_E_NUMERIC);
    *embed = kept;
    CHECK(awq_session_rewind(ctx, s[0], 0) == AWQ_OK);
    ask(ctx, s[0], &d, ids[5], 30);
    finish(ctx, run, AWQ_NO_BUDGET);
    CHECK(awq_session_answer(ctx, s[0], &r) == AWQ_OK);
    CHECK(!memcmp(awq_session_ids(s[0]) + 30, want[5], 4 * (size_t)r.tokens));
    /* the layer is named */
    norm = w->m->layers[1].vec[AWQ_INPUT_NORM];
    norm[0] = NAN;
    CHECK(awq_session_rewind(ctx, s[0], 0) == AWQ_OK);
    ask(ctx, s[0], &d, ids[3], 30);
    finish(ctx, run, 10);
    CHECK(awq_session_answer(ctx, s[0], &r) == AWQ_E_NUMERIC && strstr(ctx->err.text, "layer 1"));
    CHECK(awq_generate(ctx, w->m, &d, NULL) == AWQ_E_ARG);
    d.ids = ids[3];
    d.n_ids = 30;
    CHECK(awq_generate(ctx, w->m, &d, NULL) == AWQ_E_NUMERIC && strstr(ctx->err.text, "layer 1"));
    norm[0] = 0.25f;
    w->m->final_norm[0] = NAN;
    CHECK(awq_generate(ctx, w->m, &d, NULL) == AWQ_E_NUMERIC && strstr(ctx->err.text, "logits"));
    close_all(ctx, run);
    world_close(w);
    free(w);
}

static void test_vocabularies(void) /* of tokenizer and model */
{
    world *w = (world *)calloc(1, sizeof *w);
    awq_generate_desc d;
    awq_generate_result r;
    awq_runner *run;
    awq_session *s;
    heard *h = (heard *)calloc(1, sizeof *h);
    world_open(w, VOCAB + 1);
    run = runner(&w->ctx, w->m, 8, 0, 0);
    s = session(&w->ctx, run, 400);
    memset(&d, 0, sizeof d);
    d.prompt = "abZ";
    CHECK(awq_ask(&w->ctx, s, &d) == AWQ_E_ARG && strstr(w->ctx.err.text, "token id 96"));
    d.prompt = "";
    CHECK(awq_ask(&w->ctx, s, &d) == AWQ_E_ARG && strstr(w->ctx.err.text, "no tokens"));
    d.prompt = "ab";
    CHECK(awq_ask(&w->ctx, s, &d) == AWQ_OK);
    close_all(&w->ctx, run);
    world_close(w);
    world_open(w, 60); /* the model says ids that the tokenizer does not know */
    run = runner(&w->ctx, w->m, 8, 0, 0);
    s = session(&w->ctx, run, 400);
    d.max_tokens = 300;
    d.ignore_eos = 1;
    d.sampling.temperature = 50;
    d.on_text = on_text;
    d.user = h;
    d.prompt = "#$%";
    CHECK_MSG(awq_ask(&w->ctx, s, &d) == AWQ_OK, "%s", w->ctx.err.text);
    finish(&w->ctx, run, AWQ_NO_BUDGET);
    CHECK(awq_session_answer(&w->ctx, s, &r) == AWQ_E_ARG && r.reason == AWQ_STOP_FAILED);
    CHECK(strstr(w->ctx.err.text, "is not in the vocabulary"));
    CHECK(awq_session_rewind(&w->ctx, s, 0) == AWQ_OK); /* and can be asked again */
    CHECK(awq_ask(&w->ctx, s, &d) == AWQ_OK);
    close_all(&w->ctx, run);
    world_close(w);
    free(w);
    free(h);
}

/* mean of the final rows, as awq_session_feed hands them out */
static void sum_final(void *user, awq_tap_point point, int layer, const float *data, int64_t n, int64_t width)
{
    double *sum = (double *)user;
    int64_t i, k;
    (void)layer;
    for (i = 0; point == AWQ_TAP_FINAL && i < n; i++)
        for (k = 0; k < width; k++) sum[k] += data[i * width + k];
}

static void test_embed(void)
{
    enum { N = 19 };
    world *w = (world *)calloc(1, sizeof *w);
    char text[N][120];
    const char *list[N];
    float *out = (float *)calloc(N, 64 * sizeof *out), one[64];
    uint64_t seed = 8;
    int i, k;
    world_open(w, VOCAB);
    for (i = 0; i < N; i++) {
        int n = 1 + (int)dice(&seed, 110);
        for (k = 0; k < n; k++) text[i][k] = (char)(dice(&seed, 5) ? 'a' + dice(&seed, 26) : ' ');
        text[i][n] = 0;
        if (i > 10) memcpy(text[i], text[3], 40); /* a beginning in common */
        list[i] = text[i];
    }
    CHECK_MSG(awq_embed(&w->ctx, w->m, list, N, out) == AWQ_OK, "%s", w->ctx.err.text);
    for (i = 0; i < N; i++) {
        double sum[64];
        int32_t ids[160];
        size_t n = 0;
        awq_session *s = NULL;
        awq_feed_desc fd;
        memset(sum, 0, sizeof sum);
        memset(&fd, 0, sizeof fd);
        fd.tap = sum_final;
        fd.user = sum;
        CHECK(awq_encode(&w->ctx, w->m->tokenizer, text[i], strlen(text[i]), 1, ids, 160, &n) == AWQ_OK);
        CHECK(open_session(&w->ctx, w->m, 200, &s) == AWQ_OK);
        CHECK(awq_session_feed(&w->ctx, s, ids, (int64_t)n, &fd, NULL) == AWQ_OK);
        close_session(&w->ctx, s);
        CHECK(awq_embed(&w->ctx, w->m, &list[i], 1, one) == AWQ_OK);
        CHECK(!memcmp(one, out + i * 64, sizeof one));
        for (k = 0; k < 64; k++) CHECK(one[k] == (float)(sum[k] / (double)n));
    }
    list[2] = "";
    CHECK(awq_embed(&w->ctx, w->m, list, N, out) == AWQ_E_ARG && strstr(w->ctx.err.text, "text 2 has no tokens"));
    list[2] = "a\xff";
    CHECK(awq_embed(&w->ctx, w->m, list, N, out) == AWQ_E_ARG);
    CHECK(awq_embed(&w->ctx, w->m, list, 0, out) == AWQ_OK);
    world_close(w);
    free(w);
    free(out);
}

/* --- 10: memory, said and taken */
static void check_memory(const char *what, awq_ctx ctx, const char *folder, const awq_model_desc *md, int sessions,
                         int64_t max_tokens, int text)
{
    awq_model *m = NULL;
    awq_runner *r = NULL;
    awq_session *s[20];
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_generate_desc d;
    awq_memory need;
    int32_t ids[50];
    char prompt[4096];
    int i;
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    memset(&d, 0, sizeof d);
    rd.cache_tokens = 300;
    sd.max_tokens = max_tokens;
    ctx.memory_used = ctx.memory_peak = 0;
    CHECK_MSG(awq_memory_needed(&ctx, folder, md, &rd, &sd, sessions, &need) == AWQ_OK, "%s", ctx.err.text);
    CHECK(ctx.memory_used == 0);
    ctx.memory_peak = 0;
    CHECK_MSG(awq_model_load(&ctx, folder, md, &m) == AWQ_OK, "%s", ctx.err.text);
    if (!m) return;
    CHECK_MSG(ctx.memory_peak <= need.loading && ctx.memory_used <= need.model, "%s: loading %llu of %llu, then %llu "
              "of %llu", what, (unsigned long long)ctx.memory_peak, (unsigned long long)need.loading,
              (unsigned long long)ctx.memory_used, (unsigned long long)need.model);
    CHECK(awq_runner_create(&ctx, m, &rd, &r) == AWQ_OK);
    for (i = 0; i < 50; i++) ids[i] = 3 + i;
    d.ids = ids;
    d.n_ids = 50;
    if (text) { /* a prompt that nearly fills the context */
        memset(prompt, 'a', sizeof prompt);
        for (i = 0; i < 4000; i += 11) memcpy(prompt + i, " the mill ", 10);
        prompt[text] = 0;
        d.ids = NULL, d.n_ids = 0, d.prompt = prompt;
    }
    for (i = 0; i < sessions; i++) {
        CHECK(awq_session_create(&ctx, r, &sd, &s[i]) == AWQ_OK);
        CHECK(awq_ask(&ctx, s[i], &d) == AWQ_OK);
    }
    for (i = 0; i < 3; i++) CHECK(awq_step(&ctx, r, NULL, 0, AWQ_NO_BUDGET, NULL) == AWQ_OK);
    CHECK_MSG(ctx.memory_peak <= need.peak && (double)need.peak <= 1.5 * (double)ctx.memory_peak + (1 << 20),
              "%s: %llu said, %llu taken", what, (unsigned long long)need.peak, (unsigned long long)ctx.memory_peak);
    if (getenv("AWQ_TEST_VERBOSE"))
        printf("    %s: %llu said, %llu taken\n", what, (unsigned long long)need.peak,
               (unsigned long long)ctx.memory_peak);
    close_all(&ctx, r);
    CHECK(awq_model_free(&ctx, m) == AWQ_OK && ctx.memory_used == 0);
}

static void test_memory(void)
{
    int k;
    for (k = 0; k < 4; k++) { /* dense, quantized, rounded while loading, with a tokenizer */
        world *w = (world *)calloc(1, sizeof *w);
        awq_model_desc md;
        awq_ctx ctx;
        ram files;
        int sessions;
        static const char *const what[] = {"dense", "quantized", "rounded", "tokenizer"};
        memset(&md, 0, sizeof md);
        world_open(w, k == 3 ? VOCAB : 0);
        CHECK(awq_model_free(&w->ctx, w->m) == AWQ_OK);
        w->m = NULL;
        if (k == 1)
            CHECK(tiny_quantize(&w->t, &w->ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL) == AWQ_OK);
        if (k == 1)
            tiny_set(&w->t, "quantization_config",
                     "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 32, \"zero_point\": true, "
                     "\"version\": \"gemm\", \"modules_to_not_convert\": [\"layers.1.\"]}");
        if (k == 2) md.rtn_bits = 4;
        ctx = tiny_ctx(&w->t);
        for (sessions = 0; sessions < 20; sessions = sessions * 3 + 1) {
            check_memory(what[k], ctx, "m", &md, sessions, 400, k == 3 ? 350 : 0);
            ctx.files = ram_files(&files, ctx.files); /* no map */
            check_memory(what[k], ctx, "m", &md, sessions, 400, k == 3 ? 350 : 0);
            ctx.files = files.under;
        }
        w->ctx.memory_used = 0;
        world_close(w);
        free(w);
    }
    {
        awq_ctx ctx;
        awq_model_desc md;
        memset(&ctx, 0, sizeof ctx);
        memset(&md, 0, sizeof md);
        check_memory("demo", ctx, DEMO, NULL, 1, 0, 1000);
        check_memory("demo", ctx, DEMO, NULL, 8, 300, 600);
        md.rtn_bits = 4;
        check_memory("demo rounded", ctx, DEMO, &md, 3, 0, 1000);
        md.no_tokenizer = 1;
        check_memory("demo without tokenizer", ctx, DEMO, &md, 3, 0, 0);
    }
}

/* --- several threads, one model */
#ifndef _WIN32
typedef struct threads_arg {
    world *w;
    uint64_t seed;
    question *q;
    int pool, bad;
} threads_arg;

static void *threads_main(void *arg)
{
    threads_arg *a = (threads_arg *)arg;
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_runner *r = NULL;
    awq_session *s[8];
    awq_step_info f;
    int i, round;
    memset(&ctx, 0, sizeof ctx);
    if (a->pool) {
        a->bad |= awq_pool_create(&ctx, a->pool, &pool) != AWQ_OK;
        ctx.jobs = awq_pool_jobs(pool);
    }
    for (round = 0; round < 2 && !a->bad; round++) {
        awq_session_desc sd;
        memset(&sd, 0, sizeof sd);
        sd.max_tokens = CONTEXT;
        a->bad |= awq_runner_create(&ctx, a->w->m, NULL, &r) != AWQ_OK;
        for (i = 0; i < 8 && !a->bad; i++) {
            a->bad |= awq_session_create(&ctx, r, &sd, &s[i]) != AWQ_OK;
            a->q[i].d.ids = a->q[i].ids;
            a->q[i].d.n_ids = a->q[i].n;
            a->bad |= awq_ask(&ctx, s[i], &a->q[i].d) != AWQ_OK;
        }
        do {
            a->bad |= awq_step(&ctx, r, NULL, 0, round ? 100 : AWQ_NO_BUDGET, &f) != AWQ_OK;
        } while (f.busy && !a->bad);
        for (i = 0; i < 8 && !a->bad; i++) {
            a->bad |= memcmp(awq_session_ids(s[i]) + a->q[i].n, a->q[i].out, 4 * (size_t)a->q[i].r.tokens) != 0;
            a->bad |= awq_session_free(&ctx, s[i]) != AWQ_OK;
        }
        a->bad |= awq_runner_free(&ctx, r) != AWQ_OK;
    }
    awq_pool_free(&ctx, pool);
    a->bad |= ctx.memory_used != 0;
    return NULL;
}

static void test_threads(void)
{
    world *w = (world *)calloc(1, sizeof *w);
    question *q = (question *)calloc(16, sizeof *q);
    threads_arg a[2];
    pthread_t t[2];
    uint64_t seed = 12;
    int i;
    world_open(w, VOCAB);
    for (i = 0; i < 16; i++) {
        q[i].n = 1 + dice(&seed, 80);
        some_ids(&seed, q[i].ids, q[i].n);
        q[i].d = some_desc(&seed, 20);
        q[i].r = alone(w, &q[i].d, q[i].ids, q[i].n, q[i].out, NULL);
    }
    for (i = 0; i < 2; i++) {
        memset(&a[i], 0, sizeof a[i]);
        a[i].w = w;
        a[i].q = q + 8 * i;
        a[i].pool = i ? 3 : 0;
        CHECK(pthread_create(&t[i], NULL, threads_main, &a[i]) == 0);
    }
    for (i = 0; i < 2; i++) {
        pthread_join(t[i], NULL);
        CHECK(!a[i].bad);
    }
    world_close(w);
    free(w);
    free(q);
}
#endif

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_together);
    RUN(test_soak);
    RUN(test_prefix);
    RUN(test_leave);
    RUN(test_cuts);
    RUN(test_allocations);
    RUN(test_waiting);
    RUN(test_overflow);
    RUN(test_text);
    RUN(test_history);
    RUN(test_turn_end);
    RUN(test_messages);
    RUN(test_state);
    RUN(test_damage);
    RUN(test_failing_allocations);
    RUN(test_inside);
    RUN(test_bad_input);
    RUN(test_numbers);
    RUN(test_vocabularies);
    RUN(test_embed);
    RUN(test_memory);
#ifndef _WIN32
    RUN(test_threads);
#endif
    return TEST_END();
}
