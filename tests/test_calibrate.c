/* awq_calibration_load: every kind of source gives exactly the blocks expected, weights and limits hold,
   answers are told apart, every refusal says where and why, failures leak nothing. The tokenizer here gives one
   token per byte. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include "tiny.h"

#define ALPHA "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-" /* 64, all different */

/* Ids of printable ASCII and LF are their codes; <s> 1 is '^' in expectations, </s> 2 '$', <|user|> 3 '?',
   <|assistant|> 4 '!', <|system|> 5 '&'. */
static const char *const specials[] = {"<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"};

static char *tokenizer_json(void)
{
    static char json[8192];
    char *p = json;
    int c;
    p += sprintf(p, "{\"version\":\"1.0\",\"added_tokens\":[");
    for (c = 0; c < 5; c++)
        p += sprintf(p, "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                     "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                     c ? "," : "", c + 1, specials[c]);
    p += sprintf(p, "],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                 "\"use_regex\":false},\"decoder\":{\"type\":\"ByteLevel\"},"
                 "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                 "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
                 "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],"
                 "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}},"
                 "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"\\u010a\":10,\"\\u0120\":32");
    for (c = 33; c < 127; c++) p += sprintf(p, c == '"' || c == '\\' ? ",\"\\%c\":%d" : ",\"%c\":%d", c, c);
    sprintf(p, "}}}");
    return json;
}

static const char tokenizer_config[] =
    "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"chat_template\":\""
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}\"}";

typedef struct setup {
    awq_memory_file files[8];
    awq_memory_list list;
    awq_ctx ctx;
    awq_tokenizer *tok;
    awq_calibration c;
} setup;

static void put(setup *s, const char *path, const void *data, size_t bytes)
{
    awq_memory_file *f = &s->files[s->list.count++];
    f->path = path;
    f->data = data;
    f->bytes = bytes;
}

static void begin(setup *s, int chat)
{
    memset(s, 0, sizeof *s);
    s->list.files = s->files;
    put(s, "m/tokenizer.json", tokenizer_json(), strlen(tokenizer_json()));
    if (chat) put(s, "m/tokenizer_config.json", tokenizer_config, strlen(tokenizer_config));
    s->ctx.files = awq_memory_files(&s->list);
    CHECK_MSG(awq_tokenizer_load(&s->ctx, "m", &s->tok) == AWQ_OK, "%s", s->ctx.err.text);
}

static void end(setup *s)
{
    awq_calibration_free(&s->ctx, &s->c);
    awq_tokenizer_free(&s->ctx, s->tok);
    CHECK(s->ctx.memory_used == 0);
}

static awq_status load(setup *s, const char *path, int64_t samples, int64_t seq_len, int mask)
{
    awq_calibration_source src = {NULL, 0};
    awq_calibration_desc d;
    memset(&d, 0, sizeof d);
    src.path = path;
    d.sources = &src;
    d.n_sources = 1;
    d.samples = samples;
    d.seq_len = seq_len;
    d.mask_answers = mask;
    awq_calibration_free(&s->ctx, &s->c);
    return awq_calibration_load(&s->ctx, s->tok, &d, &s->c);
}

/* "first block|second block"; with counted: the tokens that do not count are '_' */
static const char *show(const awq_calibration *c, int counted)
{
    static char out[8192];
    char *p = out;
    int64_t b, i;
    for (b = 0; b < c->n_blocks; b++) {
        if (b) *p++ = '|';
        for (i = c->start[b]; i < c->start[b + 1]; i++) {
            int32_t id = c->ids[i];
            if (counted && !c->counted[i]) *p++ = '_';
            else *p++ = id >= 1 && id <= 5 ? "^$?!&"[id - 1] : id == 10 ? '~' : (char)id;
        }
    }
    *p = 0;
    return out;
}

/* "ab|c" as [[97,98],[99]] between before and after */
static const char *ids_json(const char *before, const char *pieces, const char *after)
{
    static char out[4096];
    char *p = out + sprintf(out, "%s[", before);
    int fresh = 1;
    for (; *pieces; pieces++) {
        if (*pieces == '|') p += sprintf(p, "],["), fresh = 1;
        else p += sprintf(p, fresh ? "%d" : ",%d", *pieces), fresh = 0;
    }
    sprintf(p, "]%s", after);
    return out;
}

#define LINE(text) "{\"text\": \"" text "\"}\n"
#define USER(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define SYSTEM(text) "{\"role\": \"system\", \"content\": \"" text "\"}"
#define ANSWER(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"
#define CHAT(messages) "{\"messages\": [" messages "]}\n"
#define QUESTION "what is the answer to all of this, say, if there were one to be had?"

/* as the only text file */
static awq_status load_text(setup *s, const char *path, const char *text, size_t bytes, int64_t samples,
                            int64_t seq_len, int mask)
{
    size_t before = s->list.count;
    awq_status st;
    put(s, path, text, bytes);
    st = load(s, path, samples, seq_len, mask);
    s->list.count = before;
    return st;
}

static void test_kinds(void)
{
    static const struct {
        const char *path, *text;
        int64_t samples, seq;
        const char *want;
    } cases[] = {
        {"a.txt", ALPHA, 0, 0, "^" ALPHA},
        {"a.txt", ALPHA, 1000, 16, "^0123456789abcde|fghijklmnopqrstu|vwxyzABCDEFGHIJK|LMNOPQRSTUVWXYZ+"},
        {"a.txt", ALPHA, 1, 16, "^0123456789abcde"},
        {"a.txt", ALPHA, 2, 16, "^0123456789abcde|vwxyzABCDEFGHIJK"},
        {"a.txt", ALPHA, 3, 16, "^0123456789abcde|fghijklmnopqrstu|vwxyzABCDEFGHIJK"},
        {"a.txt", ALPHA, 9, 40, "^0123456789abcdefghijklmnopqrstuvwxyzABC"},
        {"notes.md", ALPHA, 0, 0, "^" ALPHA}, /* any other name is plain text */
        {"json", "two\nlines " ALPHA, 0, 0, "^two~lines " ALPHA},
        {"a.jsonl", LINE("first") "\n \t\r\n" LINE("") "{\"id\": 3, \"text\": \"" ALPHA "\"}", 0, 0,
         "^first^^" ALPHA},
        {"a.jsonl", LINE("") LINE(ALPHA), 0, 0, "^^" ALPHA},
        {"a.jsonl", CHAT(USER(QUESTION) "," ANSWER("42")) LINE("x") CHAT(SYSTEM("s") "," USER("u")), 0, 0,
         "^?" QUESTION "$!42$^x^&s$?u$"}};
    static const struct {
        const char *before, *pieces, *after;
        int64_t samples, seq;
        const char *want;
    } ids[] = {
        {"{\"blocks\": [", "ab|c|defghij", "]}", 1, 16, "ab|c|defghij"}, /* as they are, all of them */
        {"{\"window\": 5, \"blocks\": [", "ab|c", "], \"ids\": [7]}", 0, 0, "ab|c"},
        {"{\"sample_ids\": [", "0123456789abcdefghijklmnopqrstuv|wxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-", "]}", 0, 0,
         "0123456789abcdefghijklmnopqrstuv|wxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-"},
        {"[", "0123456789abcdef|ghijklmnopqrstuv|wxyzABCDEFGHIJKL|MNOPQRSTUVWXYZ+-", "]", 2, 0,
         "0123456789abcdef|wxyzABCDEFGHIJKL"},
        {"[", "0123456789abc|defghijklmnopqrstuvwxyz|ABCDEFGHIJKLMNOPQRSTUVWXYZ+-", "]", 0, 20, /* joined */
         "0123456789abcdefghij|klmnopqrstuvwxyzABCD|EFGHIJKLMNOPQRSTUVWX"},
        {"[", "|" ALPHA, "]", 0, 0, ALPHA}, /* one is empty */
        {"{\"ids\": ", ALPHA, ", \"window\": 21}", 0, 16,
         "0123456789abcdefghijk|lmnopqrstuvwxyzABCDEF|GHIJKLMNOPQRSTUVWXYZ+"},
        {"{\"ids\": ", ALPHA, "}", 0, 32, "0123456789abcdefghijklmnopqrstuv|wxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-"},
        {"{\"ids\": ", ALPHA, ", \"window\": 1000}", 0, 16, ALPHA}};
    setup s;
    size_t i, n = sizeof cases / sizeof cases[0];
    begin(&s, 1);
    for (i = 0; i < n + sizeof ids / sizeof ids[0]; i++) {
        int json = i >= n;
        size_t k = json ? i - n : 0;
        const char *text = json ? ids_json(ids[k].before, ids[k].pieces, ids[k].after) : cases[i].text;
        const char *want = json ? ids[k].want : cases[i].want;
        int64_t samples = json ? ids[k].samples : cases[i].samples, seq = json ? ids[k].seq : cases[i].seq;
        awq_status st = load_text(&s, json ? "a.json" : cases[i].path, text, strlen(text), samples, seq, 0);
        CHECK_MSG(st == AWQ_OK, "case %d: %s", (int)i, s.ctx.err.text);
        if (st) continue;
        CHECK_MSG(!strcmp(show(&s.c, 0), want), "case %d: %s", (int)i, show(&s.c, 0));
        CHECK_MSG(!strchr(show(&s.c, 1), '_'), "case %d", (int)i); /* all count */
        CHECK(s.c.start[0] == 0);
    }
    end(&s);
}

static void test_long_text(void) /* blocks one after another; a few samples are spread over all of it */
{
    enum { N = 100000, SEQ = 64 };
    char *text = (char *)malloc(N);
    setup s;
    int64_t samples, i, b;
    for (i = 0; i < N; i++) text[i] = (char)(33 + (i * i / 7 + i) % 90);
    begin(&s, 1);
    for (samples = 1; samples < 4 * N / SEQ; samples *= 5) {
        int64_t all = (N + 1) / SEQ, n = AWQ__MIN(samples, all), bad = 0;
        CHECK_MSG(load_text(&s, "a.txt", text, N, samples, SEQ, 0) == AWQ_OK, "%s", s.ctx.err.text);
        CHECK(s.c.n_blocks == n);
        for (b = 0; b < s.c.n_blocks; b++) {
            int64_t at = b * all / n * SEQ;
            bad += s.c.start[b + 1] - s.c.start[b] != SEQ || s.c.start[b] != b * SEQ;
            for (i = 0; i < SEQ; i++) bad += s.c.ids[b * SEQ + i] != (at + i ? text[at + i - 1] : 1);
        }
        CHECK_MSG(bad == 0, "%d samples", (int)samples);
    }
    end(&s);
    free(text);
}

static void test_weights(void)
{
    static const struct {
        double weight[3];
        int n;
        int64_t samples;
        int64_t want[3];
    } cases[] = {{{3, 1, 0}, 2, 8, {6, 2, 0}},      {{0, 0, 0}, 2, 8, {4, 4, 0}},
                 {{1, 0, 0}, 2, 8, {4, 4, 0}},      {{0.1, 0.9, 0}, 2, 10, {1, 9, 0}},
                 {{5, 5, 5}, 3, 8, {3, 2, 3}},      {{1, 1, 1}, 3, 2, {1, 1, 1}}, /* at least one of each */
                 {{1, 1e6, 0}, 2, 10, {1, 9, 0}},   {{2, 2, 0}, 2, 100, {10, 10, 0}}, /* all that there is */
                 {{1, 2, 1}, 3, 12, {3, 6, 3}}};
    static const char *const names[3] = {"a.txt", "b.txt", "c.jsonl"};
    static char text[3][200];
    awq_calibration_source src[3];
    awq_calibration_desc d;
    setup s;
    size_t i;
    int k;
    begin(&s, 1);
    for (k = 0; k < 3; k++) { /* ten blocks of 16 each */
        char word[160];
        memset(word, 'a' + k, 159);
        word[159] = 0;
        sprintf(text[k], k < 2 ? "%s" : "{\"text\": \"%s\"}", word);
        put(&s, names[k], text[k], strlen(text[k]));
    }
    memset(&d, 0, sizeof d);
    d.sources = src;
    d.seq_len = 16;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t got[3] = {0, 0, 0}, b;
        for (k = 0; k < 3; k++) src[k].path = names[k], src[k].weight = cases[i].weight[k];
        d.n_sources = cases[i].n;
        d.samples = cases[i].samples;
        awq_calibration_free(&s.ctx, &s.c);
        CHECK_MSG(awq_calibration_load(&s.ctx, s.tok, &d, &s.c) == AWQ_OK, "%s", s.ctx.err.text);
        for (b = 0; b < s.c.n_blocks; b++) got[s.c.ids[s.c.start[b] + 1] - 'a']++;
        for (k = 0; k < 3; k++)
            CHECK_MSG(got[k] == cases[i].want[k], "case %d, source %d: %d blocks", (int)i, k, (int)got[k]);
    }
    end(&s);
}

static void test_mask(void)
{
    static const struct {
        const char *text, *blocks, *counted; /* '#' in counted: the question, hidden */
    } cases[] = {
        {CHAT(USER(QUESTION) "," ANSWER("42") "," USER("so?") "," ANSWER("yes")) LINE("x"),
         "^?" QUESTION "$!42$?so?$!yes$^x", "__#__42$______yes$^x"},
        {CHAT(ANSWER("hi") "," USER(QUESTION)), "^!hi$?" QUESTION "$", "__hi$_#_"},
        {CHAT(USER(QUESTION) "," ANSWER("")), "^?" QUESTION "$!$", "__#__$"},
        {CHAT(USER(QUESTION)), "^?" QUESTION "$", "__#_"}};
    setup s;
    size_t i;
    begin(&s, 1);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *c;
        char want[200], *p = want;
        int mask;
        for (c = cases[i].counted; *c; c++) {
            size_t n = *c == '#' ? strlen(QUESTION) : 1;
            memset(p, *c == '#' ? '_' : *c, n);
            p += n;
        }
        *p = 0;
        for (mask = 0; mask < 2; mask++) {
            awq_status st = load_text(&s, "a.jsonl", cases[i].text, strlen(cases[i].text), 0, 0, mask);
            CHECK_MSG(st == AWQ_OK, "%s", s.ctx.err.text);
            CHECK_MSG(!strcmp(show(&s.c, 0), cases[i].blocks), "case %d: %s", (int)i, show(&s.c, 0));
            CHECK_MSG(!strcmp(show(&s.c, 1), mask ? want : cases[i].blocks), "case %d: %s", (int)i,
                      show(&s.c, 1));
        }
    }
    end(&s);
}

static void test_refusals(void)
{
    static const struct {
        const char *path, *text;
        size_t bytes; /* 0: strlen */
        int tokenizer; /* 0: none, 1: without a chat template, 2 */
        awq_status status;
        const char *words[2];
    } cases[] = {
        {"gone.txt", NULL, 0, 2, AWQ_E_IO, {"cannot open", "No such file"}},
        {"a.txt", "", 0, 2, AWQ_E_FORMAT, {"is empty", "text"}},
        {"a.jsonl", " \r\n\t\n", 0, 2, AWQ_E_FORMAT, {"is empty", "text"}},
        {"a.json", "", 0, 2, AWQ_E_FORMAT, {"is empty", ""}},
        {"a.txt", "too short", 0, 2, AWQ_E_FORMAT, {"only 10 tokens", "at least 64"}},
        {"a.jsonl", LINE("too short"), 0, 2, AWQ_E_FORMAT, {"only 10 tokens", "at least 64"}},
        {"a.txt", "some\0" ALPHA, 69, 2, AWQ_E_FORMAT, {"is binary (a NUL byte at 4)", "expected text"}},
        {"a.txt", "\0\0\0", 3, 2, AWQ_E_FORMAT, {"is binary (a NUL byte at 0)", "expected text"}},
        {"a.parquet", "PAR1\x15\0\x15", 7, 2, AWQ_E_FORMAT, {"is binary", "expected text"}},
        {"a.txt", "12345\xff" ALPHA, 0, 2, AWQ_E_FORMAT, {"line 1 is not UTF-8", "byte 5"}},
        {"a.txt", "\xff\xfe" "a\0b\0", 6, 2, AWQ_E_FORMAT, {"is UTF-16", "expected UTF-8"}},
        {"a.txt", ALPHA "\xe2\x82", 0, 2, AWQ_E_FORMAT, {"UTF-8", "byte 64"}},
        {"a.txt", ALPHA, 0, 0, AWQ_E_ARG, {"text needs a tokenizer", "tokenizer.json"}},
        {"a.jsonl", LINE(ALPHA), 0, 0, AWQ_E_ARG, {"text needs a tokenizer", "tokenizer.json"}},
        {"a.jsonl", LINE(ALPHA) "\n{\"text\": oops}\n", 0, 2, AWQ_E_FORMAT, {"line 3", "byte 9"}},
        {"a.jsonl", LINE(ALPHA) "{\"text\": \"cut", 0, 2, AWQ_E_FORMAT, {"line 2", "byte"}},
        {"a.jsonl", LINE(ALPHA) LINE("\xff"), 0, 2, AWQ_E_FORMAT, {"line 2", "UTF-8"}},
        {"a.jsonl", LINE(ALPHA) "{\"a\": \"x\"}", 0, 2, AWQ_E_FORMAT, {"line 2", "\"text\" or \"messages\""}},
        {"a.jsonl", "{\"text\": 5}", 0, 2, AWQ_E_FORMAT, {"line 1", "\"text\" or \"messages\""}},
        {"a.jsonl", "[[1, 2]]", 0, 2, AWQ_E_FORMAT, {"line 1", "\"text\" or \"messages\""}},
        {"a.jsonl", CHAT(""), 0, 2, AWQ_E_FORMAT, {"line 1", "\"text\" or \"messages\""}},
        {"a.jsonl", CHAT(USER("a") ",{\"role\": \"user\"}"), 0, 2, AWQ_E_FORMAT, {"line 1", "message 1 wants"}},
        {"a.jsonl", CHAT("{\"role\": 1, \"content\": \"\"}"), 0, 2, AWQ_E_FORMAT, {"message 0", "\"role\""}},
        {"a.jsonl", LINE("x") CHAT(USER("a")), 0, 1, AWQ_E_UNSUPPORTED, {"line 2", "chat template"}},
        {"a.json", "{\"ids\": [1,", 0, 2, AWQ_E_FORMAT, {"byte 11", ""}},
        {"a.json", "{\"a\": []}", 0, 2, AWQ_E_FORMAT, {"\"blocks\", \"sample_ids\", \"ids\"", "list of lists"}},
        {"a.json", "7", 0, 2, AWQ_E_FORMAT, {"\"blocks\", \"sample_ids\", \"ids\"", "list of lists"}},
        {"a.json", "[1, 2, 3]", 0, 2, AWQ_E_FORMAT, {"expected a list of token ids", ""}},
        {"a.json", "{\"blocks\": 7}", 0, 2, AWQ_E_FORMAT, {"expected", "list of lists"}},
        {"a.json", "{\"blocks\": [1, 2]}", 0, 2, AWQ_E_FORMAT, {"expected a list of token ids", ""}},
        {"a.json", "{\"ids\": \"text\"}", 0, 2, AWQ_E_FORMAT, {"expected a list of token ids", ""}},
        {"a.json", "{\"blocks\": [[1], []]}", 0, 2, AWQ_E_FORMAT, {"block 1 is empty", ""}},
        {"a.json", "{\"blocks\": []}", 0, 2, AWQ_E_FORMAT, {"only 0 tokens", ""}},
        {"a.json", "{\"ids\": [1, 2, 3]}", 0, 2, AWQ_E_FORMAT, {"only 3 tokens", "at least 64"}},
        {"a.json", "[[1, 2], [3, \"x\"]]", 0, 2, AWQ_E_FORMAT, {"a token id was expected at element 3", ""}},
        {"a.json", "[[1.5]]", 0, 2, AWQ_E_FORMAT, {"a token id was expected at element 0", ""}},
        {"a.json", "[[-1]]", 0, 2, AWQ_E_FORMAT, {"a token id was expected at element 0", ""}},
        {"a.json", "[[2147483648]]", 0, 2, AWQ_E_FORMAT, {"a token id was expected at element 0", ""}}};
    setup s;
    awq_calibration untouched;
    awq_calibration_source src[2] = {{"a.txt", 0}, {"b.txt", 0}};
    awq_calibration_desc d;
    char many[16384];
    size_t i, used;
    int k;
    for (k = 0; k < 3; k++) {
        awq_tokenizer *tok;
        begin(&s, k == 2);
        tok = s.tok;
        if (!k) s.tok = NULL;
        used = s.ctx.memory_used;
        for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            awq_status st;
            if (cases[i].tokenizer != k) continue;
            st = cases[i].text ? load_text(&s, cases[i].path, cases[i].text,
                                           cases[i].bytes ? cases[i].bytes : strlen(cases[i].text), 0, 16, 0)
                               : load(&s, cases[i].path, 0, 16, 0);
            CHECK_MSG(st == cases[i].status && st == s.ctx.err.status
                          && !strncmp(s.ctx.err.text, cases[i].path, strlen(cases[i].path))
                          && strstr(s.ctx.err.text, cases[i].words[0])
                          && strstr(s.ctx.err.text, cases[i].words[1]),
                      "case %d: %s: %s", (int)i, awq_status_name(st), s.ctx.err.text);
            CHECK(s.ctx.memory_used == used && !s.c.ids && !s.c.start && !s.c.n_blocks);
        }
        s.tok = tok;
        if (k < 2) end(&s);
    }
    i = (size_t)sprintf(many, "{\"messages\": [" USER("a"));
    for (k = 0; k < 256; k++) i += (size_t)sprintf(many + i, "," USER("a"));
    sprintf(many + i, "]}");
    CHECK(load_text(&s, "a.jsonl", many, strlen(many), 0, 0, 0) == AWQ_E_LIMIT);
    CHECK(strstr(s.ctx.err.text, "a.jsonl: line 1: more than 256 messages"));

    memset(&untouched, 0x5a, sizeof untouched);
    s.c = untouched;
    memset(&d, 0, sizeof d);
    CHECK(awq_calibration_load(&s.ctx, s.tok, &d, &s.c) == AWQ_E_ARG && strstr(s.ctx.err.text, "no source"));
    d.sources = src;
    d.n_sources = 2;
    put(&s, "a.txt", ALPHA, 64);
    CHECK(awq_calibration_load(&s.ctx, s.tok, &d, &s.c) == AWQ_E_IO && strstr(s.ctx.err.text, "b.txt"));
    d.samples = -1;
    CHECK(awq_calibration_load(&s.ctx, s.tok, &d, &s.c) == AWQ_E_ARG && strstr(s.ctx.err.text, "samples -1"));
    d.samples = 0;
    d.seq_len = 15;
    CHECK(awq_calibration_load(&s.ctx, s.tok, &d, &s.c) == AWQ_E_ARG && strstr(s.ctx.err.text, "seq_len 15"));
    d.seq_len = 0;
    for (k = 0; k < 3; k++) {
        src[1].weight = k == 0 ? -0.5 : k == 1 ? NAN : INFINITY;
        CHECK(awq_calibration_load(&s.ctx, s.tok, &d, &s.c) == AWQ_E_ARG);
        CHECK(strstr(s.ctx.err.text, "the weight of b.txt is"));
    }
    CHECK(!memcmp(&s.c, &untouched, sizeof untouched) && s.ctx.memory_used == used);
    memset(&s.c, 0, sizeof s.c);
    end(&s);
}

static void test_vocabulary(void) /* ids are checked where the model is known, before anything is written */
{
    static const char *const bad[] = {"{\"blocks\": [[1, 95], [0, 96, 2]]}", "{\"blocks\": [[1, 2147483647]]}"};
    awq_quantize_desc d;
    tiny t;
    awq_ctx ctx;
    int i;
    tiny_llama(&t);
    for (i = 0; i < 2; i++) {
        awq_calibration_source src = {"ids.json", 0};
        awq_calibration_desc cd;
        awq_calibration c;
        size_t bytes;
        memset(&cd, 0, sizeof cd);
        memset(&d, 0, sizeof d);
        cd.sources = &src;
        cd.n_sources = 1;
        tiny_file(&t, "ids.json", bad[i]);
        ctx = tiny_ctx(&t);
        CHECK_MSG(awq_calibration_load(&ctx, NULL, &cd, &c) == AWQ_OK, "%s", ctx.err.text);
        d.source = "m";
        d.target = "t";
        d.calibration = &c;
        d.group_size = 32;
        CHECK(awq_quantize_model(&ctx, &d, NULL) == AWQ_E_ARG);
        CHECK_MSG(strstr(ctx.err.text, i ? "token 1 is id 2147483647" : "token 3 is id 96")
                  && strstr(ctx.err.text, "the model has 96"), "%s", ctx.err.text);
        CHECK(awq_quantize_memory(&ctx, &d, &bytes) == AWQ_E_ARG);
        awq_calibration_free(&ctx, &c);
        CHECK(ctx.memory_used == 0);
    }
    tiny_free(&t);
}

/* the k-th open, size or read of a memory file system fails */
typedef struct hooked {
    awq_file_system under;
    long fail_at, calls;
} hooked;

static int hooked_fails(void *u) { return ((hooked *)u)->calls++ == ((hooked *)u)->fail_at; }
static int hooked_open(void *u, const char *p, int w, void **f)
{
    hooked *h = (hooked *)u;
    return hooked_fails(u) ? EACCES : h->under.open(h->under.user, p, w, f);
}
static int hooked_size(void *u, void *f, uint64_t *n)
{
    hooked *h = (hooked *)u;
    return hooked_fails(u) ? EIO : h->under.size(h->under.user, f, n);
}
static int hooked_read(void *u, void *f, uint64_t o, void *d, size_t n)
{
    hooked *h = (hooked *)u;
    return hooked_fails(u) ? EIO : h->under.read(h->under.user, f, o, d, n);
}

static void test_failures(void)
{
    static const char chat[] = CHAT(USER(QUESTION) "," ANSWER("yes")) LINE("x");
    static const char blocks[] = "{\"blocks\": [[1, 2], [3]]}";
    static const char *const names[] = {"c.jsonl", "b.json", "a.txt", "b.json"};
    static const char want[] = "^?" QUESTION "$!yes$^x|^$|?|^" ALPHA "|^$|?";
    awq_calibration_source src[4];
    awq_calibration_desc d;
    awq_calibration untouched;
    setup s;
    int reads, done = 0;
    long k, n[2];
    begin(&s, 1);
    put(&s, "c.jsonl", chat, strlen(chat));
    put(&s, "b.json", blocks, strlen(blocks));
    put(&s, "a.txt", ALPHA, strlen(ALPHA));
    memset(&d, 0, sizeof d);
    memset(&untouched, 0x5a, sizeof untouched);
    for (k = 0; k < 4; k++) src[k].path = names[k], src[k].weight = 0;
    d.sources = src;
    d.n_sources = 4;
    d.mask_answers = 1;
    for (reads = 0; reads < 2; reads++) {
        for (k = done = 0; !done && k < 10000; k++) {
            fail_alloc f = {-1, 0, 0};
            hooked h;
            awq_ctx ctx;
            awq_calibration c = untouched;
            memset(&ctx, 0, sizeof ctx);
            h.under = ctx.files = s.ctx.files;
            h.calls = 0;
            h.fail_at = reads ? k : -1;
            f.fail_at = reads ? -1 : k;
            ctx.files.open = hooked_open, ctx.files.size = hooked_size, ctx.files.read = hooked_read;
            ctx.files.user = &h;
            ctx.allocator = fail_allocator(&f);
            if (awq_calibration_load(&ctx, s.tok, &d, &c) == AWQ_OK) {
                done = 1;
                CHECK(!strcmp(show(&c, 0), want));
                awq_calibration_free(&ctx, &c);
            } else {
                CHECK(ctx.err.status == (reads ? AWQ_E_IO : AWQ_E_MEMORY));
                CHECK_MSG(!reads || strstr(ctx.err.text, names[k / 3]), "%ld: %s", k, ctx.err.text);
                CHECK(!memcmp(&c, &untouched, sizeof c));
            }
            CHECK_MSG(f.live == 0 && ctx.memory_used == 0, "%ld", k);
        }
        n[reads] = k - 1;
        CHECK(done);
    }
    printf("    %ld allocations, %ld file operations failed one by one\n", n[0], n[1]);
    CHECK(n[0] > 50 && n[1] == 12);
    end(&s);
}

/* a byte-order mark is no part of a text, whoever reads it */
static void test_mark(void)
{
    static const char text[] = "\xef\xbb\xbf" "the fox\n";
    char *data = NULL;
    size_t bytes = 0;
    setup s;
    begin(&s, 1);
    put(&s, "a.txt", text, strlen(text));
    CHECK_MSG(awq__text_load(&s.ctx, "a.txt", &data, &bytes) == AWQ_OK, "%s", s.ctx.err.text);
    CHECK(bytes == 8 && data && !strcmp(data, "the fox\n"));
    awq__free(&s.ctx, data);
    end(&s);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_kinds);
    RUN(test_long_text);
    RUN(test_weights);
    RUN(test_mask);
    RUN(test_mark);
    RUN(test_refusals);
    RUN(test_vocabulary);
    RUN(test_failures);
    return TEST_END();
}
