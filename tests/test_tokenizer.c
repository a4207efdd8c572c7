/* Token ids, decoded text and streamed text against Hugging Face's tokenizers 0.23; refusals; hostile text.
   tests/data/tok_* hold small tokenizers and what the reference gives; with AWQ_TEST_DATA also real models'. */
#ifndef _WIN32
#  define _POSIX_C_SOURCE 200809L
#endif
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

/* --- small tokenizers in memory: all ASCII characters, a few longer tokens, ids in this order */
#define MARK "\xe2\x96\x81"
static const char base_vocab[] =
    "\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"" MARK "\":3,\"he\":4,\"ll\":5,\"hell\":6,\"hello\":7,\"\\u0120\":8,"
    "\"<0xC3>\":9,\"<0xA9>\":10,\"<0xFF>\":11,\"\\u00c3\":12,\"\\u00a9\":13,\"\\u0120w\":14,\" \":15";
static const char base_merges[] = "[\"h e\",[\"l\",\"l\"],\"he ll\",[\"hell\",\"o\"],\"\\u0120 w\"]";

typedef struct tiny {
    char json[16384];
    awq_memory_file files[3];
    awq_memory_list list;
    awq_ctx ctx;
    awq_tokenizer *t;
} tiny;

/* extra: more members of the file; model: more members of the model */
static void tiny_make(tiny *y, const char *extra, const char *model, const char *vocab)
{
    char *p = y->json;
    int c;
    memset(y, 0, sizeof *y);
    p += sprintf(p, "{\"version\":\"1.0\",%s%s\"model\":{\"type\":\"BPE\",%s%s\"vocab\":{%s", extra,
                 *extra ? "," : "", model, *model ? "," : "", base_vocab);
    for (c = 33; c < 127; c++) p += sprintf(p, c == '"' || c == '\\' ? ",\"\\%c\":%d" : ",\"%c\":%d", c, c);
    sprintf(p, "%s},\"merges\":%s}}", vocab, base_merges);
    y->files[0].path = "m/tokenizer.json";
    y->files[0].data = y->json;
    y->files[0].bytes = strlen(y->json);
    y->list.files = y->files;
    y->list.count = 1;
    y->ctx.files = awq_memory_files(&y->list);
}

static void tiny_file(tiny *y, const char *path, const char *text)
{
    awq_memory_file *f = &y->files[y->list.count++];
    f->path = path;
    f->data = text;
    f->bytes = strlen(text);
}

static void tiny_free(tiny *y)
{
    awq_tokenizer_free(&y->ctx, y->t);
    CHECK(y->ctx.memory_used == 0);
}

/* ids of text as "1 2 3", or the status */
static const char *ids_text(awq_ctx *ctx, const awq_tokenizer *t, const char *text, int special)
{
    static char out[4096];
    int32_t ids[256];
    size_t n, i;
    char *p = out;
    awq_status st = awq_encode(ctx, t, text, strlen(text), special, ids, 256, &n);
    if (st) return awq_status_name(st);
    *p = 0;
    for (i = 0; i < n && i < 256; i++) p += sprintf(p, i ? " %ld" : "%ld", (long)ids[i]);
    return out;
}

static const char *decoded(awq_ctx *ctx, const awq_tokenizer *t, const int32_t *ids, size_t n, int skip)
{
    static char out[4096];
    size_t bytes;
    awq_status st = awq_decode(ctx, t, ids, n, skip, out, sizeof out, &bytes);
    return st ? awq_status_name(st) : out;
}

#define CHECK_STR(got, want) \
    do { \
        const char *got_ = (got); \
        CHECK_MSG(!strcmp(got_, want), "'%s' instead of '%s'", got_, want); \
    } while (0)

/* tokenizers of the reference's shape: make one from `extra` and encode */
static void expect_ids(const char *extra, const char *model, const char *vocab, const char *text,
                       const char *want)
{
    static tiny y;
    tiny_make(&y, extra, model, vocab);
    if (awq_tokenizer_load(&y.ctx, "m", &y.t)) CHECK_MSG(0, "%s", y.ctx.err.text);
    else CHECK_STR(ids_text(&y.ctx, y.t, text, 1), want);
    tiny_free(&y);
}

static void expect_refused(const char *extra, const char *model, const char *vocab, awq_status want,
                           const char *word)
{
    static tiny y;
    awq_status st;
    tiny_make(&y, extra, model, vocab);
    st = awq_tokenizer_load(&y.ctx, "m", &y.t);
    CHECK_MSG(st == want, "%s for %s %s %s", awq_status_name(st), extra, model, vocab);
    CHECK_MSG(y.t == NULL && strstr(y.ctx.err.text, word) && !strncmp(y.ctx.err.text, "m/tokenizer.json: ", 18),
              "'%s' lacks '%s'", y.ctx.err.text, word);
    tiny_free(&y);
}

#define ADDED(s) \
    "\"added_tokens\":[{\"id\":200,\"content\":\"<x>\"," s \
    "},{\"id\":201,\"content\":\"<x>y\",\"special\":true}]"

static void test_components(void)
{
    expect_ids("", "", "", "hello", "7");
    expect_ids("", "\"ignore_merges\":true", "", "hello", "7");
    expect_ids("", "", ",\"ello\":300", "jello", "106 101 5 111"); /* no merge makes "ello" */
    expect_ids("", "\"ignore_merges\":true", ",\"jello\":300", "jello", "300");
    expect_ids("", "", "", "h\xc3\xa9h", "104 104"); /* no unknown token: dropped */
    expect_ids("", "\"unk_token\":\"<unk>\"", "", "\xc3\xaa\xc3\xaah", "0 0 104");
    expect_ids("", "\"unk_token\":\"<unk>\",\"fuse_unk\":true", "", "\xc3\xaa\xc3\xaah", "0 104");
    expect_ids("", "\"unk_token\":\"none\"", "", "\xc3\xaa", "AWQ_E_FORMAT");
    expect_ids("", "\"unk_token\":\"<unk>\",\"byte_fallback\":true", "", "\xc3\xa9\xc3\xaah", "9 10 0 104");
    expect_ids("\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "", "", "he wo\xc3\xa9",
               "4 14 111 12 13");
    expect_ids("\"pre_tokenizer\":{\"type\":\"ByteLevel\"}", "", "", "hello w", "8 7 14");
    expect_ids("\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"h\"}", "", "", "ello", "7");
    expect_ids("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"
               "\"Replace\",\"pattern\":"
               "{\"String\":\"ab\"},\"content\":\"lo\"}]}",
               "", "", "helab", "7");
    expect_ids("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"}", "", "", "he he",
               "3 4 3 4");
    expect_ids("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK
               "\",\"prepend_scheme\":\"never\"}",
               "", "", "he he", "4 3 4");
    expect_ids("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK
               "\",\"prepend_scheme\":\"first\"}," ADDED("\"special\":true"),
               "", "", "he<x>he", "3 4 200 4");
    expect_ids(
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"l\"},\"behavior\":\"Isolated\"}", "",
        "", "hello", "4 108 108 111");
    expect_ids("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"l\"},\"behavior\":\"Removed\"}",
               "", "", "hello", "4 111");
    expect_ids("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"l\"},\"behavior\":\"Removed\","
               "\"invert\":true}",
               "", "", "hello", "108 108");
    expect_ids(
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"l\"},\"behavior\":\"Contiguous\"}", "",
        "", "hello", "4 5 111");
    expect_ids("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_"
               "digits\":"
               "true},{\"type\":\"Punctuation\"}]}",
               "", "", "he12!he", "4 49 50 33 4");
    expect_ids(
        "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":"
        "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"B\"}},{\"Sequence\":{\"id\":\"A\"}},"
        "{\"SpecialToken\":{\"id\":\"E\"}}],\"special_tokens\":{\"B\":{\"ids\":[1]},\"E\":{\"ids\":[2,2]}}}]}",
        "", "", "he", "1 4 2 2");
}

static void test_more_components(void)
{
    expect_ids("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"l\"}",
               "", "",
               "he  o he", "4 108 111 15 4");
    expect_ids("\"normalizer\":{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}",
               "", "", " \n he ",
               "4 15");
    expect_ids("\"normalizer\":{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}",
               "", "", " he \n",
               "15 4");
    expect_ids("\"normalizer\":{\"type\":\"Strip\"}", "", "", " \n ", "");
    expect_ids("\"normalizer\":{\"type\":\"NFD\"}", "\"unk_token\":\"<unk>\"", "", "h\xc3\xa9", "4 0");
    expect_ids("\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"}", "", "", "he ll  o", "4 5 111");
    expect_ids("\"pre_tokenizer\":{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"l\"}",
               "", "", "hello", "4 111");
    expect_ids("\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Removed\"}",
               "", "", "he$\xc2\xa7he.", "4 4");
}

static void test_added_tokens(void)
{
    /* a token may lie in the space that the one before it took: it stays, unless it takes space itself */
    expect_ids("\"added_tokens\":[{\"id\":15,\"content\":\" \",\"rstrip\":true}]",
               "", "", "a  b", "97 15 15 98");
    expect_ids("\"added_tokens\":[{\"id\":15,\"content\":\" \",\"rstrip\":true,\"lstrip\":true}]",
               "", "", "a  b",
               "97 15 98");
    expect_ids(ADDED("\"special\":true"), "", "", "a<x>b<x>y<x", "97 200 98 201 60 120");
    expect_ids(ADDED("\"lstrip\":true"), "", "", "a  <x> b", "97 200 15 98");
    expect_ids(ADDED("\"rstrip\":true"), "", "", "a <x> \n b", "97 15 200 98");
    expect_ids(ADDED("\"single_word\":true"), "", "", "a<x> <x>", "97 60 120 62 15 200");
    expect_ids("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"h\"}," ADDED(
                   "\"normalized\":true"),
               "", "", "<h><x><x>y", "200 200 201"); /* found after the normalizer */
}

static void test_decoders(void)
{
    static const struct {
        const char *decoder;
        int32_t ids[6];
        size_t n;
        const char *want;
    } cases[] = {
        {"null", {4, 5, 111}, 3, "he ll o"},
        {"{\"type\":\"Fuse\"}", {4, 5, 111}, 3, "hello"},
        {"{\"type\":\"ByteLevel\"}", {4, 14, 12, 13}, 4, "he w\xc3\xa9"},
        {"{\"type\":\"ByteLevel\"}", {12, 4, 12}, 3, "\xef\xbf\xbdhe\xef\xbf\xbd"},
        {"{\"type\":\"ByteLevel\"}", {3, 12, 13}, 3, MARK "\xc3\xa9"}, /* the mark stands for no byte: itself */
        {"{\"type\":\"ByteFallback\"}", {9, 10, 4}, 3, "\xc3\xa9he"},
        {"{\"type\":\"ByteFallback\"}",
         {9, 10, 11, 4, 9},
         5,
         "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdhe\xef\xbf\xbd"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"}", {3, 3, 4}, 3, " he"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"prepend_scheme\":\"never\"}",
         {3, 4},
         2,
         " he"},
        {"{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK
         "\"},\"content\":"
         "\" \"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":1}]}",
         {3, 3, 4, 3},
         4,
         " he"}};
    static tiny y;
    char extra[512];
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sprintf(extra, "\"decoder\":%s", cases[i].decoder);
        tiny_make(&y, extra, "", "");
        if (awq_tokenizer_load(&y.ctx, "m", &y.t)) CHECK_MSG(0, "%s", y.ctx.err.text);
        else CHECK_STR(decoded(&y.ctx, y.t, cases[i].ids, cases[i].n, 0), cases[i].want);
        tiny_free(&y);
    }
}

static void test_refused(void)
{
    expect_refused("\"normalizer\":{\"type\":\"Lowercase\"}", "", "", AWQ_E_UNSUPPORTED, "Lowercase");
    expect_refused("\"normalizer\":{\"type\":\"NFKC\"}", "", "", AWQ_E_UNSUPPORTED, "NFKC");
    expect_refused("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(a b)+\"},\"content\":\"\"}",
                   "", "", AWQ_E_UNSUPPORTED, "(a b)+");
    expect_refused("\"pre_tokenizer\":{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"\"}", "", "",
                   AWQ_E_FORMAT, "delimiter");
    expect_refused("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}", "",
                   "", AWQ_E_FORMAT, "empty pattern");
    expect_refused("\"normalizer\":{\"type\":\"Prepend\"}", "", "", AWQ_E_FORMAT, "prepend");
    expect_refused("\"normalizer\":7", "", "", AWQ_E_FORMAT, "a normalizer");
    expect_refused("\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}", "", "", AWQ_E_UNSUPPORTED,
                   "BertPreTokenizer");
    expect_refused(
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"([\"},\"behavior\":\"Isolated\"}", "",
        "", AWQ_E_UNSUPPORTED, "([");
    expect_refused("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Odd\"}",
                   "", "", AWQ_E_UNSUPPORTED, "Odd");
    expect_refused("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\"}", "", "", AWQ_E_FORMAT,
                   "Metaspace");
    expect_refused(
        "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"odd\"}", "", "",
        AWQ_E_UNSUPPORTED, "odd");
    expect_refused("\"decoder\":{\"type\":\"WordPiece\"}", "", "", AWQ_E_UNSUPPORTED, "WordPiece");
    expect_refused("\"decoder\":{\"type\":\"Strip\",\"content\":\" \"}", "", "", AWQ_E_FORMAT, "Strip");
    expect_refused("\"post_processor\":{\"type\":\"RobertaProcessing\"}", "", "", AWQ_E_UNSUPPORTED,
                   "RobertaProcessing");
    expect_refused("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}", "", "",
                   AWQ_E_UNSUPPORTED, "0 times");
    expect_refused(
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"B\"}}]}",
        "", "", AWQ_E_FORMAT, "'B'");
    expect_refused(
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"B\"}}],"
        "\"special_tokens\":{\"B\":{\"ids\":[4000]}}}",
        "", "", AWQ_E_FORMAT, "not in the vocabulary");
    expect_refused("\"added_tokens\":[{\"id\":4,\"content\":\"<x>\"}]", "", "", AWQ_E_FORMAT,
                   "belongs to both");
    expect_refused("\"added_tokens\":[{\"id\":200,\"content\":\"he\"}]", "", "", AWQ_E_FORMAT, "there twice");
    expect_refused("\"added_tokens\":[{\"id\":200}]", "", "", AWQ_E_FORMAT, "without content");
    expect_refused("\"added_tokens\":[{\"id\":-1,\"content\":\"<x>\"}]", "", "", AWQ_E_FORMAT, "-1");
    expect_refused("", "\"dropout\":0.5", "", AWQ_E_UNSUPPORTED, "dropout");
    expect_refused("", "\"end_of_word_suffix\":\"@@\"", "", AWQ_E_UNSUPPORTED, "end_of_word_suffix");
    expect_refused("", "", ",\"big\":1099511627776", AWQ_E_LIMIT, "1099511627776");
    expect_refused("", "", ",\"neg\":-5", AWQ_E_FORMAT, "-5");
    expect_refused("", "", ",\"real\":1.5", AWQ_E_FORMAT, "'real'");
    expect_refused("", "", ",\"he\":300", AWQ_E_FORMAT, "there twice"); /* as when U+00A0 became a space */
    expect_refused("", "", ",\"new\":7", AWQ_E_FORMAT, "belongs to both");
}

static void test_refused_files(void)
{
    static const struct {
        const char *json;
        awq_status status;
        const char *word;
    } cases[] = {
        {"<html>", AWQ_E_FORMAT, "byte 0"},
        {"[]", AWQ_E_FORMAT, "model"},
        {"{\"version\":\"2.0\",\"model\":{}}", AWQ_E_UNSUPPORTED, "2.0"},
        {"{\"model\":{\"type\":\"Unigram\"}}", AWQ_E_UNSUPPORTED, "Unigram"},
        {"{\"model\":{\"type\":\"BPE\"}}", AWQ_E_FORMAT, "vocab"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", AWQ_E_FORMAT, "merges"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}}", AWQ_E_FORMAT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\",\"a\"]]}}", AWQ_E_FORMAT,
         "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", AWQ_E_FORMAT,
         "one of them"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", AWQ_E_FORMAT,
         "the result"}};
    awq_memory_file file;
    awq_memory_list list;
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        awq_ctx ctx;
        awq_tokenizer *t = NULL;
        awq_status st;
        memset(&ctx, 0, sizeof ctx);
        file.path = "x.json";
        file.data = cases[i].json;
        file.bytes = strlen(cases[i].json);
        list.files = &file;
        list.count = 1;
        ctx.files = awq_memory_files(&list);
        st = awq_tokenizer_load(&ctx, "x.json", &t);
        CHECK_MSG(st == cases[i].status && strstr(ctx.err.text, cases[i].word) && !t, "%s %s for %s",
                  awq_status_name(st), ctx.err.text, cases[i].json);
        CHECK(ctx.memory_used == 0);
        CHECK(awq_tokenizer_load(&ctx, "elsewhere", &t) == AWQ_E_IO &&
              strstr(ctx.err.text, "elsewhere/tokenizer.json"));
    }
}

static void test_api(void)
{
    static tiny y;
    int32_t ids[8] = {-7, -7, -7, -7, -7, -7, -7, -7}, odd[1] = {199};
    char text[4];
    size_t n = 99;
    tiny_make(&y, ADDED("\"special\":true"), "", "");
    tiny_file(
        &y, "m/tokenizer_config.json",
        "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"<x>\"},\"chat_template\":[{\"name\":\"tool_use\","
        "\"template\":\"no\"},{\"name\":\"default\",\"template\":\"yes\"}]}");
    CHECK(!awq_tokenizer_load(&y.ctx, "m", &y.t));
    if (!y.t) return;
    CHECK(awq_tokenizer_vocab_size(y.t) == 202);
    CHECK(awq_tokenizer_bos(y.t) == 1 && awq_tokenizer_eos(y.t) == 200);
    CHECK(awq_tokenizer_find(y.t, "hello") == 7 && awq_tokenizer_find(y.t, "<x>") == 200);
    CHECK(awq_tokenizer_find(y.t, "nothing") == -1 && awq_tokenizer_find(y.t, "") == -1);
    CHECK(awq_tokenizer_is_special(y.t, 200) && !awq_tokenizer_is_special(y.t, 1));
    CHECK(!awq_tokenizer_is_special(y.t, -1) && !awq_tokenizer_is_special(y.t, 5000));
    CHECK_STR(awq_tokenizer_chat_template(y.t), "yes");
    { /* FNV-1a 64 */
        uint64_t h = 0xcbf29ce484222325ull;
        size_t i;
        for (i = 0; i < y.files[0].bytes; i++) h = (h ^ (unsigned char)y.json[i]) * 0x100000001b3ull;
        CHECK(awq_tokenizer_hash(y.t) == h);
    }
    CHECK(!awq_encode(&y.ctx, y.t, "abc", 3, 0, ids, 2, &n) && n == 3 && ids[0] == 97 && ids[1] == 98 &&
          ids[2] == -7);
    CHECK(!awq_encode(&y.ctx, y.t, "abc", 3, 0, NULL, 0, &n) && n == 3);
    CHECK(!awq_encode(&y.ctx, y.t, NULL, 0, 1, ids, 8, &n) && n == 0);
    CHECK(awq_encode(&y.ctx, y.t, "ab\xc3(", 4, 0, ids, 8, &n) == AWQ_E_ARG &&
          strstr(y.ctx.err.text, "byte 2 (0xc3)"));
    CHECK(n == 0 && ids[0] == 97);
    CHECK(awq_encode(&y.ctx, y.t, "", (size_t)1 << 40, 0, ids, 8, &n) == AWQ_E_LIMIT);
    ids[0] = 7, ids[1] = 200, ids[2] = 33;
    CHECK(!awq_decode(&y.ctx, y.t, ids, 3, 0, text, 4, &n) && n == 11 && !strcmp(text, "hel"));
    CHECK(!awq_decode(&y.ctx, y.t, ids, 3, 1, NULL, 0, &n) && n == 7);
    CHECK(!awq_decode(&y.ctx, y.t, NULL, 0, 0, text, 4, &n) && n == 0 && !text[0]);
    CHECK(awq_decode(&y.ctx, y.t, odd, 1, 0, text, 4, &n) == AWQ_E_ARG && strstr(y.ctx.err.text, "199"));
    odd[0] = -1;
    CHECK(awq_decode(&y.ctx, y.t, odd, 1, 0, text, 4, &n) == AWQ_E_ARG && n == 0 && !text[0]);
    tiny_free(&y);

    tiny_make(&y, "", "", "");
    tiny_file(&y, "m/tokenizer_config.json",
              "{\"bos_token\":null,\"eos_token\":\"gone\",\"chat_template\":\"config\"}");
    tiny_file(&y, "m/chat_template.jinja", "file {{ x }}");
    CHECK(!awq_tokenizer_load(&y.ctx, "m", &y.t));
    CHECK(awq_tokenizer_bos(y.t) == -1 && awq_tokenizer_eos(y.t) == -1);
    CHECK_STR(awq_tokenizer_chat_template(y.t), "file {{ x }}");
    awq_tokenizer_free(&y.ctx, y.t);
    y.t = NULL;
    CHECK(!awq_tokenizer_load(&y.ctx, "m/tokenizer.json", &y.t)); /* the file alone */
    CHECK(awq_tokenizer_chat_template(y.t) == NULL);
    tiny_free(&y);

    tiny_make(&y, "", "", ""); /* a template that lies with the processor's settings */
    tiny_file(&y, "m/chat_template.json", "{\"chat_template\":\"json {{ x }}\"}");
    CHECK(!awq_tokenizer_load(&y.ctx, "m", &y.t));
    CHECK_STR(awq_tokenizer_chat_template(y.t), "json {{ x }}");
    awq_tokenizer_free(&y.ctx, y.t);
    y.t = NULL;
    tiny_file(&y, "m/chat_template.jinja", "file");
    CHECK(!awq_tokenizer_load(&y.ctx, "m", &y.t));
    CHECK_STR(awq_tokenizer_chat_template(y.t), "file");
    tiny_free(&y);

    tiny_make(&y, "", "", "");
    tiny_file(&y, "m/tokenizer_config.json", "{");
    CHECK(awq_tokenizer_load(&y.ctx, "m", &y.t) == AWQ_E_FORMAT &&
          strstr(y.ctx.err.text, "tokenizer_config.json"));
    y.files[1].data = "{}", y.files[1].bytes = 2;
    tiny_file(&y, "m/chat_template.jinja", "a\xff");
    CHECK(awq_tokenizer_load(&y.ctx, "m", &y.t) == AWQ_E_FORMAT && strstr(y.ctx.err.text, "byte 1"));
    tiny_free(&y);
    awq_tokenizer_free(&y.ctx, NULL);
}

/* text that steps of a file blow up must fail, not fill the memory */
static void test_limits(void)
{
    static tiny y;
    static char extra[8000];
    char *p = extra;
    int i;
    p += sprintf(p, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    for (i = 0; i < 8; i++)
        p += sprintf(p, "%s{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}",
                     i ? "," : "",
                     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                     "aaaaaaaaaa");
    sprintf(p, "]}");
    tiny_make(&y, extra, "", "");
    CHECK(!awq_tokenizer_load(&y.ctx, "m", &y.t));
    CHECK_STR(ids_text(&y.ctx, y.t, "b", 0), "98");
    CHECK_STR(ids_text(&y.ctx, y.t, "a", 0), "AWQ_E_LIMIT");
    tiny_free(&y);
    for (p = extra + sprintf(extra, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["), i = 0;
         i < 17; i++)
        p += sprintf(p, "%s{\"type\":\"Digits\"}", i ? "," : "");
    sprintf(p, "]}");
    expect_refused(extra, "", "", AWQ_E_LIMIT, "steps");
    for (p = extra + sprintf(extra, "\"added_tokens\":[{\"id\":200,\"content\":\""), i = 0; i < 257; i++)
        *p++ = 'z';
    sprintf(p, "\"}]");
    expect_refused(extra, "", "", AWQ_E_LIMIT, "257 bytes");
}

/* --- what the reference says: {"cases": [...], "streams": [...]} */
static size_t read_ids(const awq__json *j, uint32_t node, int32_t *ids, size_t cap)
{
    size_t n = 0;
    uint32_t i;
    for (i = awq__json_first(j, node); i && n < cap; i = awq__json_next(j, i))
        ids[n++] = (int32_t)j->nodes[i].v.i;
    return n;
}

enum { MAX_IDS = 4096, MAX_TEXT = 65536 };

static int same_text(const awq__json *j, uint32_t node, const char *s, size_t n)
{
    size_t m = 0;
    const char *want = awq__json_str(j, node, &m);
    return want && m == n && !memcmp(want, s, n);
}

static void check_case(const char *name, int at, awq_ctx *ctx, const awq_tokenizer *t, const awq__json *j,
                       uint32_t c)
{
    static int32_t want[MAX_IDS], got[MAX_IDS];
    static char text[MAX_TEXT];
    size_t n = 0, n_want = read_ids(j, awq__json_get(j, c, "ids"), want, MAX_IDS), n_got = 0, bytes = 0;
    const char *s = awq__json_str(j, awq__json_get(j, c, "text"), &n);
    uint32_t special = awq__json_get(j, c, "ids_with_special"), plain = awq__json_get(j, c, "decoded"), skipped;
    CHECK_MSG(!awq_encode(ctx, t, s, n, 0, got, MAX_IDS, &n_got), "%s %d: %s", name, at, ctx->err.text);
    CHECK_MSG(n_got == n_want && !memcmp(got, want, n_got * 4), "%s: ids of case %d", name, at);
    if (plain) {
        CHECK(!awq_decode(ctx, t, want, n_want, 0, text, MAX_TEXT, &bytes));
        CHECK_MSG(same_text(j, plain, text, bytes), "%s: text of case %d", name, at);
    }
    if (special) n_want = read_ids(j, special, want, MAX_IDS);
    CHECK(!awq_encode(ctx, t, s, n, 1, got, MAX_IDS, &n_got));
    CHECK_MSG(n_got == n_want && !memcmp(got, want, n_got * 4), "%s: ids of case %d with special", name, at);
    skipped = awq__json_get(j, c, "decoded_skip_special");
    if (!plain) return;
    CHECK(!awq_decode(ctx, t, want, n_want, 1, text, MAX_TEXT, &bytes));
    CHECK_MSG(same_text(j, skipped ? skipped : plain, text, bytes), "%s: text of case %d without special", name,
              at);
}

static void check_stream(const char *name, int at, awq_ctx *ctx, const awq_tokenizer *t, const awq__json *j,
                         uint32_t c)
{
    static int32_t ids[MAX_IDS];
    static char text[MAX_TEXT];
    size_t n = read_ids(j, awq__json_get(j, c, "ids"), ids, MAX_IDS), i, bytes = 0;
    uint32_t chunk = awq__json_first(j, awq__json_get(j, c, "stream_chunks"));
    uint32_t prefix = awq__json_first(j, awq__json_get(j, c, "prefix_decodes"));
    awq_decoder d;
    memset(&d, 0, sizeof d);
    for (i = 0; i < n && chunk; i++) {
        const char *out = NULL;
        CHECK_MSG(!awq_decoder_push(ctx, t, &d, ids[i], &out, &bytes), "%s: %s", name, ctx->err.text);
        CHECK_MSG(awq__json_is(j, chunk) == AWQ__J_NULL ? bytes == 0 : same_text(j, chunk, out, bytes),
                  "%s: chunk %d of stream %d", name, (int)i, at);
        CHECK(!awq_decode(ctx, t, ids, i + 1, 0, text, MAX_TEXT, &bytes));
        CHECK_MSG(!prefix || same_text(j, prefix, text, bytes), "%s: beginning %d of stream %d", name, (int)i,
                  at);
        chunk = awq__json_next(j, chunk);
        prefix = prefix ? awq__json_next(j, prefix) : 0;
    }
    CHECK(i == n && !chunk);
    CHECK(!awq_decode(ctx, t, ids, n, 1, text, MAX_TEXT, &bytes));
    CHECK(same_text(j, awq__json_get(j, c, "decoded_skip_special"), text, bytes));
    awq_decoder_free(ctx, &d);
}

static void check_expected(const char *name, awq_ctx *ctx, const awq_tokenizer *t, const char *path,
                           int at_least)
{
    awq_ctx plain; /* the expectations lie on disk even if the tokenizer is in memory */
    awq__json j;
    uint32_t i;
    int n = 0;
    memset(&plain, 0, sizeof plain);
    if (awq__json_load(&plain, path, (size_t)1 << 28, &j)) {
        CHECK_MSG(0, "%s", plain.err.text);
        return;
    }
    for (i = awq__json_first(&j, awq__json_get(&j, 1, "cases")); i; i = awq__json_next(&j, i))
        check_case(name, n++, ctx, t, &j, i);
    CHECK(n >= at_least);
    for (n = 0, i = awq__json_first(&j, awq__json_get(&j, 1, "streams")); i; i = awq__json_next(&j, i))
        check_stream(name, n++, ctx, t, &j, i);
    awq__json_free(&plain, &j);
}

static const char *beside(const char *name) /* tests/data/name */
{
    static char path[1024];
    const char *here = __FILE__, *end = here + strlen(here);
    while (end > here && end[-1] != '/' && end[-1] != '\\') end--;
    snprintf(path, sizeof path, "%.*sdata/%s", (int)(end - here), here, name);
    return path;
}

static void test_reference(void)
{
    static const char *const names[] = {"tok_bytes", "tok_mark"};
    char file[64];
    int i;
    for (i = 0; i < 2; i++) {
        awq_ctx ctx;
        awq_tokenizer *t = NULL;
        memset(&ctx, 0, sizeof ctx);
        if (awq_tokenizer_load(&ctx, beside(names[i]), &t)) {
            CHECK_MSG(0, "%s", ctx.err.text);
            continue;
        }
        sprintf(file, "%s/expected.json", names[i]);
        check_expected(names[i], &ctx, t, beside(file), 40);
        awq_tokenizer_free(&ctx, t);
        CHECK(ctx.memory_used == 0);
    }
}

/* every known regex, cut by cut: [{"regex": r, "cases": [[text, [piece, ...]], ...]}, ...] */
static void test_regexes(void)
{
    awq_ctx ctx;
    awq__json j;
    awq__arena arena;
    uint32_t r, c, piece;
    size_t known = 0;
    memset(&ctx, 0, sizeof ctx);
    memset(&arena, 0, sizeof arena);
    if (awq__json_load(&ctx, beside("tok_splits.json"), (size_t)1 << 28, &j)) {
        CHECK_MSG(0, "%s", ctx.err.text);
        return;
    }
    for (r = awq__json_first(&j, 1); r; r = awq__json_next(&j, r), known++) {
        size_t n = 0, m = 0;
        const char *pattern = awq__json_str(&j, awq__json_get(&j, r, "regex"), &n), *s;
        awq__tok_step step;
        memset(&step, 0, sizeof step);
        step.kind = AWQ__STEP_SPLIT;
        CHECK_MSG(!awq__tok_regex_read(&ctx, &arena, "t", pattern, n, &step.regex), "%s", ctx.err.text);
        for (c = awq__json_first(&j, awq__json_get(&j, r, "cases")); step.regex && c;
             c = awq__json_next(&j, c)) {
            awq__tok_work w;
            size_t from = 0, i = 0;
            awq__tok_work_init(&w, &ctx, NULL, 100000);
            s = awq__json_str(&j, awq__json_first(&j, c), &n);
            CHECK(!awq__tok_set_text(&w, s, n));
            CHECK(!awq__tok_step_run(&w, &step));
            piece = awq__json_first(&j, awq__json_next(&j, awq__json_first(&j, c)));
            for (; piece && i < w.now.n; piece = awq__json_next(&j, piece), from = w.now.ends[i++]) {
                const char *want = awq__json_str(&j, piece, &m);
                CHECK_MSG(m == w.now.ends[i] - from && !memcmp(want, w.now.text.data + from, m),
                          "%s: piece %d of '%s' is '%.*s'", pattern, (int)i, s, (int)(w.now.ends[i] - from),
                          w.now.text.data + from);
            }
            CHECK(!piece && i == w.now.n);
            awq__tok_work_free(&w);
        }
    }
    CHECK(known >= 12);
    awq__arena_free(&ctx, &arena);
    awq__json_free(&ctx, &j);
    CHECK(ctx.memory_used == 0);
}

/* a regex over a text: the pieces, those found in brackets; or the status. One line end is "\n". */
static const char *cut_with(const char *pattern, const char *text)
{
    static char out[512];
    const awq__tok_regex *r = NULL;
    size_t n = strlen(text), at = 0, from = 0, to, next;
    awq__arena arena;
    awq_ctx ctx;
    awq_status st;
    char *p = out;
    memset(&ctx, 0, sizeof ctx);
    memset(&arena, 0, sizeof arena);
    st = awq__tok_regex_read(&ctx, &arena, "t", pattern, strlen(pattern), &r);
    while (!st && at < n) {
        to = awq__scan(r, text, at, n, &next);
        if (to == at) {
            at = next;
            continue;
        }
        p += sprintf(p, "%.*s[%.*s]", (int)(at - from), text + from, (int)(to - at), text + at);
        from = at = to;
    }
    if (!st) sprintf(p, "%s", text + from);
    awq__arena_free(&ctx, &arena);
    CHECK(ctx.memory_used == 0);
    return st ? awq_status_name(st) : out;
}

/* what an alternative may be: literals, classes with counts, contractions; what may follow; what is refused */
static void test_regex_forms(void)
{
    static const char *const cases[][3] = {
        {"ab|a", "aab", "[a][ab]"},
        {"a|ab", "aab", "[a][a]b"},
        {"[a-c]+", "abxc", "[ab]x[c]"},
        {"[^a-c]+", "abxyc", "ab[xy]c"},
        {"[\\-\\]]", "a-]", "a[-][]]"},
        {"[a-]+", "b-a", "b[-a]"},
        {"[[ab]c]+", "abcd", "[abc]d"},
        {"\\d{2,3}", "1234512", "[123][451]2"},
        {"\\d{2}", "12345", "[12][34]5"},
        {"\\d{1,2}+", "12345", "[12345]"}, /* no possessive form of { } */
        {"[0-9][0-9]", "12345", "[12][34]5"},
        {"a{2,}", "aXaaX", "aX[aa]X"},
        {"-?[a-z]+", "a--b", "[a]-[-b]"},
        {"-[a-z]+", "a--b", "a-[-b]"},
        {"[a-z]*[b-z]+", "abca aa", "[abc]a aa"},
        {"[a-z]*[a-b]", "abca", "[abca]"},
        {" ?\\p{L}+", "a  b\xc3\xa9", "[a] [ b\xc3\xa9]"},
        {"\\p{L}+[\\r\\n]*", "a\n\nb", "[a\n\n][b]"},
        {"\\p{Lu}\\p{Ll}+", "aAbC", "a[Ab]C"},
        {"\\s+(?!\\S)", "a   b  ", "a[  ] b[  ]"},
        {"\\s+$", "a  \n b  ", "a[  ]\n b[  ]"},
        {"\\s++$", "a  \n b  ", "a  \n b[  ]"},
        {"\\s*[\\r\\n]", " \n \n x", "[ \n \n] x"},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'S'lL'\xc5\xbf'x", "['S]['lL]['\xc5\xbf]'x"},
        {"'(?:[sdmt]|ll|ve|re)", "'S's've", "'S['s]['ve]"},
        {"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|a", "'RE'\xc5\xbf""a", "['RE]'\xc5\xbf[a]"},
        {"[a-z]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "it's", "[it's]"},
        {"[\xe4\xb8\x80-\xe9\xbe\xa5]+", "a\xe4\xb8\xad""b", "a[\xe4\xb8\xad]b"},
        {"a||b", "b", "AWQ_E_UNSUPPORTED"},
        {"", "b", "AWQ_E_UNSUPPORTED"},
        {"a*", "b", "AWQ_E_UNSUPPORTED"}, /* may match nothing */
        {"a+?", "b", "AWQ_E_UNSUPPORTED"},
        {"a{3,2}", "b", "AWQ_E_UNSUPPORTED"},
        {"a{99}", "b", "AWQ_E_UNSUPPORTED"},
        {"(a|b)+", "b", "AWQ_E_UNSUPPORTED"},
        {"[a", "b", "AWQ_E_UNSUPPORTED"},
        {"[]", "b", "AWQ_E_UNSUPPORTED"},
        {"[b-a]", "b", "AWQ_E_UNSUPPORTED"},
        {"[a&&b]", "b", "AWQ_E_UNSUPPORTED"},
        {"[a[^b]]", "b", "AWQ_E_UNSUPPORTED"},
        {"[[:alpha:]]", "b", "AWQ_E_UNSUPPORTED"},
        {"\\w+", "b", "AWQ_E_UNSUPPORTED"},
        {"\\p{Han}", "b", "AWQ_E_UNSUPPORTED"},
        {"^a", "b", "AWQ_E_UNSUPPORTED"},
        {"a(?!\\S)", "b", "AWQ_E_UNSUPPORTED"},
        {"[a-z]+$", "b", "AWQ_E_UNSUPPORTED"},
        {"a+b+", "b", "AWQ_E_UNSUPPORTED"},
        {"\\", "b", "AWQ_E_UNSUPPORTED"}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK_STR(cut_with(cases[i][0], cases[i][1]), cases[i][2]);
}

static void push_all(tiny *y, const int32_t *ids, int n, char *out)
{
    awq_decoder d;
    int i;
    memset(&d, 0, sizeof d);
    *out = 0;
    for (i = 0; i < n; i++) {
        const char *text = NULL;
        size_t bytes = 99;
        CHECK(!awq_decoder_push(&y->ctx, y->t, &d, ids[i], &text, &bytes));
        CHECK(text && text[bytes] == 0 && strlen(text) == bytes);
        strcat(out, bytes ? text : "-");
        strcat(out, "|");
    }
    awq_decoder_free(&y->ctx, &d);
}

static void test_stream(void)
{
    static tiny y;
    static const int32_t split[] = {9, 10, 4, 9, 4}, changed[] = {9, 10, 11, 4, 5};
    char out[256];
    awq_decoder d;
    const char *text;
    size_t bytes, total = 0;
    int i;
    tiny_make(&y, "\"decoder\":{\"type\":\"ByteFallback\"}", "", "");
    CHECK(!awq_tokenizer_load(&y.ctx, "m", &y.t));
    push_all(&y, split, 5, out);
    CHECK_STR(out, "-|\xc3\xa9|he|-|\xef\xbf\xbdhe|");
    push_all(&y, changed, 5, out); /* the run C3 A9 FF is not UTF-8 although C3 A9 was: what was shown stays */
    CHECK_STR(out, "-|\xc3\xa9|-|\xef\xbf\xbdhe|ll|");
    memset(&d, 0, sizeof d);
    for (i = 0; i < 5000; i++) { /* never a whole character: the window stays bounded, the text comes late */
        CHECK(!awq_decoder_push(&y.ctx, y.t, &d, 11, &text, &bytes));
        total += bytes;
        CHECK(d.n_ids <= 2 * AWQ__TOK_MAX_HELD + 2);
    }
    CHECK(total > 3 * 4000 && total <= 3 * 5000);
    CHECK(awq_decoder_push(&y.ctx, y.t, &d, 4000, &text, &bytes) == AWQ_E_ARG);
    CHECK(!awq_decoder_push(&y.ctx, y.t, &d, 4, &text, &bytes) && bytes >= 2 &&
          !strcmp(text + bytes - 2, "he"));
    awq_decoder_free(&y.ctx, &d);
    tiny_free(&y);
    tiny_make(&y, "\"decoder\":{\"type\":\"ByteLevel\"}," ADDED("\"special\":true"), "", "");
    CHECK(!awq_tokenizer_load(&y.ctx, "m", &y.t));
    memset(&d, 0, sizeof d);
    d.skip_special = 1;
    CHECK(!awq_decoder_push(&y.ctx, y.t, &d, 200, &text, &bytes) && bytes == 0);
    CHECK(!awq_decoder_push(&y.ctx, y.t, &d, 14, &text, &bytes) && !strcmp(text, " w"));
    CHECK(!awq_decoder_push(&y.ctx, y.t, &d, 200, &text, &bytes) && bytes == 0);
    CHECK(!awq_decoder_push(&y.ctx, y.t, &d, 7, &text, &bytes) && !strcmp(text, "hello"));
    awq_decoder_free(&y.ctx, &d);
    tiny_free(&y);
}

/* 1 MB of text that is all one word, one character, one half-match, ... */
static void test_hostile(void)
{
    static const char *const units[] = {"a",
                                        " ",
                                        "\n",
                                        " \n",
                                        "'",
                                        "<",
                                        "<|",
                                        "0",
                                        "A",
                                        "Aa",
                                        "\xe4\xb8\xad\x41",
                                        "\xcc\x81",
                                        "e\xcc\x81",
                                        "\xf0\x9f\x98\x80",
                                        "the ",
                                        "   x",
                                        "\x01",
                                        "<|im_start|> "};
    static const char *const names[] = {"tok_bytes", "tok_mark"};
    enum { SIZE = 1 << 20 };
    char *text = (char *)malloc(SIZE + 16);
    int32_t *ids = (int32_t *)malloc(SIZE * sizeof *ids);
    double worst = 0;
    size_t u, i, k;
    for (i = 0; i < 2; i++) {
        awq_ctx ctx;
        awq_tokenizer *t = NULL;
        memset(&ctx, 0, sizeof ctx);
        CHECK(!awq_tokenizer_load(&ctx, beside(names[i]), &t));
        for (u = 0; t && u < sizeof units / sizeof units[0]; u++) {
            size_t len = strlen(units[u]), n = 0, n_ids = 0, bytes;
            double t0;
            for (k = 0; k + len <= SIZE; k += len, n += len) memcpy(text + k, units[u], len);
            t0 = test_cpu();
            CHECK(!awq_encode(&ctx, t, text, n, 0, ids, SIZE, &n_ids) && n_ids <= SIZE);
            worst = AWQ__MAX(worst, test_cpu() - t0);
            CHECK(!awq_decode(&ctx, t, ids, n_ids, 0, NULL, 0, &bytes));
            CHECK_MSG(bytes == n, "%s: '%s' comes back as %lu bytes of %lu", names[i], units[u],
                      (unsigned long)bytes, (unsigned long)n);
        }
        awq_tokenizer_free(&ctx, t);
        CHECK(ctx.memory_used == 0);
    }
    free(text);
    free(ids);
    CHECK_MSG(worst < 200, "%.1f s for 1 MB", worst); /* well under 1 s when optimized, 40 s emulated; quadratic: days */
}

/* every regex that tokenizers have here, and alternatives alone, on a text that makes each look far ahead in vain; tokens
   that take the white space around them, on white space. Quadratic would be hours. */
static void test_hostile_splits(void)
{
    static const char *const alone[] = {"\\s+$", "\\s++$", "\\s+(?!\\S)", "\\s*[\\r\\n]", "\\s*[\\r\\n]+", "[a-z]*[b-z]+", "[a-z]*[b-z]",
                                        "\\p{L}+[\\r\\n]*", "-?[a-z]+",
                                        "\\d{2,3}", "a{2,}"};
    static const char *const units[] = {"a", " ", "\n", "A", "0", "'", "!", "Aa", " \n", "\xe4\xb8\xad", "\xcc\x81", "\xc2\xa0"};
    enum { SIZE = 1 << 18, N_ALONE = sizeof alone / sizeof alone[0] };
    char *text = (char *)malloc(SIZE + 16), *file = NULL;
    const awq__tok_regex *r;
    awq__arena arena;
    awq__json j;
    awq_ctx ctx;
    double worst = 0;
    uint32_t node;
    size_t bytes = 0, u, k, n, at, to, next;
    int i = 0;
    memset(&ctx, 0, sizeof ctx);
    memset(&arena, 0, sizeof arena);
    CHECK(awq__file_load(&ctx, beside("tok_splits.json"), 1 << 20, &file, &bytes) == AWQ_OK);
    CHECK(awq__json_parse(&ctx, "splits", file, bytes, &j) == AWQ_OK);
    for (node = awq__json_first(&j, 1); i < N_ALONE || node; i++) {
        const char *pattern = i < N_ALONE ? alone[i] : awq__json_str(&j, awq__json_get(&j, node, "regex"), NULL);
        if (i >= N_ALONE) node = awq__json_next(&j, node);
        CHECK_MSG(awq__tok_regex_read(&ctx, &arena, "t", pattern, strlen(pattern), &r) == AWQ_OK, "%s", ctx.err.text);
        for (u = 0; u < sizeof units / sizeof units[0]; u++) {
            double t0 = test_cpu();
            for (n = 0; n + 5 < SIZE; n += strlen(units[u])) strcpy(text + n, units[u]);
            strcpy(text + n++, "$"); /* what no run goes on over */
            for (at = 0; at < n; at = to == at ? next : to) to = awq__scan(r, text, at, n, &next);
            t0 = test_cpu() - t0;
            CHECK_MSG(t0 < 10, "'%s' takes %.1f s on '%s'", pattern, t0, units[u]);
            worst = AWQ__MAX(worst, t0);
        }
    }
    CHECK(i > N_ALONE + 5);
    printf("    %d regexes, at most %.2f s for 256 KB\n", i, worst);
    awq__json_free(&ctx, &j);
    awq__arena_free(&ctx, &arena);
    awq__free(&ctx, file);
    for (i = 0; i < 2; i++) {
        static int32_t ids[SIZE];
        static tiny y;
        double t0;
        tiny_make(&y, "\"added_tokens\":[{\"id\":200,\"content\":\"  \",\"rstrip\":true},{\"id\":201,\"content\":"
                      "\"!!\",\"lstrip\":true,\"rstrip\":true}]", "", "");
        CHECK_MSG(awq_tokenizer_load(&y.ctx, "m", &y.t) == AWQ_OK, "%s", y.ctx.err.text);
        for (n = 0; n + 4 < SIZE; n += 4) memcpy(text + n, i ? "!!  " : "    ", 4);
        t0 = test_cpu();
        CHECK(awq_encode(&y.ctx, y.t, text, n, 0, ids, SIZE, &k) == AWQ_OK && k > 1000);
        CHECK_MSG(test_cpu() - t0 < 10, "%.1f s for 256 KB of white space", test_cpu() - t0);
        tiny_free(&y);
    }
    free(text);
    CHECK(ctx.memory_used == 0);
}

/* load, encode, decode, stream; *st: the first failure */
static void whole_run(awq_ctx *ctx, const char *path, awq_status *st)
{
    awq_tokenizer *t = NULL;
    awq_decoder d;
    int32_t ids[64];
    char text[256];
    const char *out;
    size_t n = 0, bytes, i;
    memset(&d, 0, sizeof d);
    *st = awq_tokenizer_load(ctx, path, &t);
    if (!*st) *st = awq_encode(ctx, t, "hello <x> w\xc3\xa9", 13, 1, ids, 64, &n);
    if (!*st) *st = awq_decode(ctx, t, ids, n, 0, text, sizeof text, &bytes);
    for (i = 0; i < n && !*st; i++) *st = awq_decoder_push(ctx, t, &d, ids[i], &out, &bytes);
    awq_decoder_free(ctx, &d);
    awq_tokenizer_free(ctx, t);
}

static void test_failures(void)
{
    static tiny y;
    awq_status st;
    long k;
    for (k = 0;; k++) {
        fail_alloc f = {k, 0, 0};
        tiny_make(&y,
                  "\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{"
                  "\"type\":"
                  "\"ByteLevel\"}," ADDED("\"normalized\":true"),
                  "", "");
        tiny_file(&y, "m/tokenizer_config.json", "{\"bos_token\":\"<s>\",\"chat_template\":\"a\"}");
        tiny_file(&y, "m/chat_template.jinja", "b");
        y.ctx.allocator = fail_allocator(&f);
        whole_run(&y.ctx, "m", &st);
        CHECK(f.live == 0 && y.ctx.memory_used == 0);
        CHECK_MSG(st == (f.calls > k ? AWQ_E_MEMORY : AWQ_OK), "allocation %ld: %s", k, awq_status_name(st));
        if (f.calls <= k) break;
    }
    CHECK(k > 20);
    for (k = 0;; k++) {
        fail_files f = {k, 0};
        awq_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        ctx.files = fail_file_system(&f);
        whole_run(&ctx, beside("tok_mark"), &st);
        CHECK(ctx.memory_used == 0);
        CHECK(st == AWQ_OK || st == AWQ_E_IO);
        if (f.calls <= k) break;
    }
    CHECK(st == AWQ_OK && k >= 3);
}

/* --- real models */
static char *read_pipe(const char *command, size_t *bytes)
{
    size_t n = 0, cap = 1 << 20, got;
    char *data = (char *)malloc(cap);
#ifdef _WIN32
    (void)command;
    free(data);
    data = NULL;
    (void)got;
#else
    FILE *f = popen(command, "r");
    while (f && data && (got = fread(data + n, 1, cap - n, f)) > 0) {
        n += got;
        if (n == cap) data = (char *)realloc(data, cap *= 2);
    }
    if (!f || pclose(f) || !n) {
        free(data);
        data = NULL;
    }
#endif
    *bytes = n;
    return data;
}

static awq_tokenizer *load_fixture(awq_ctx *ctx, const char *name, awq_memory_file *file, awq_memory_list *list)
{
    static char command[1200];
    awq_tokenizer *t = NULL;
    size_t n;
    snprintf(command, sizeof command,
             "cd '%s/fixtures/tokenizers/%s' && if test -f tokenizer.json; then cat "
             "tokenizer.json; else xz -dc tokenizer.json.xz; fi",
             TEST_DATA(), name);
    file->data = read_pipe(command, &n);
    file->path = "m/tokenizer.json";
    file->bytes = n;
    list->files = file;
    list->count = 1;
    memset(ctx, 0, sizeof *ctx);
    ctx->files = awq_memory_files(list);
    CHECK_MSG(file->data && !awq_tokenizer_load(ctx, "m", &t), "%s: %s", name, ctx->err.text);
    return t;
}

static void test_real_models(void)
{
    static const char *const names[] = {
        "llama2",       "llama3",      "llama3_cut6k",    "llama4_cut12k", "mistral_v1", "mistral_v3",
        "qwen2",        "qwen2_cut6k", "smollm_small",    "gpt2",          "phi2",       "phi3_mini",
        "tekken_small", "o200k_small", "deepseek3_small", "gemma_small",   "falcon"};
    char path[1024];
    size_t i;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        awq_memory_file file;
        awq_memory_list list;
        awq_ctx ctx;
        awq_tokenizer *t = load_fixture(&ctx, names[i], &file, &list);
        snprintf(path, sizeof path, "%s/fixtures/tokenizers/%s/expected.json", TEST_DATA(), names[i]);
        if (t) check_expected(names[i], &ctx, t, path, 150);
        awq_tokenizer_free(&ctx, t);
        CHECK(ctx.memory_used == 0);
        free((void *)(uintptr_t)file.data);
    }
}

static void test_golden(void) /* what transformers gave for the 32000 tokens of llama */
{
    awq_memory_file file;
    awq_memory_list list;
    awq_ctx ctx, plain;
    awq_tokenizer *t;
    awq__json j;
    char path[1024];
    uint32_t i;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    t = load_fixture(&ctx, "llama2", &file, &list);
    memset(&plain, 0, sizeof plain);
    snprintf(path, sizeof path, "%s/golden/tokenizer_golden.json", TEST_DATA());
    CHECK(!awq__json_load(&plain, path, (size_t)1 << 28, &j));
    for (i = awq__json_first(&j, 1); t && i; i = awq__json_next(&j, i)) {
        int32_t want[256], got[256];
        size_t n, n_got = 0, n_want = read_ids(&j, awq__json_get(&j, i, "llama"), want, 256);
        const char *s = awq__json_str(&j, awq__json_get(&j, i, "text"), &n);
        CHECK(!awq_encode(&ctx, t, s, n, 1, got, 256, &n_got));
        CHECK_MSG(n_got == n_want && !memcmp(got, want, n_got * 4), "'%s'", s);
    }
    awq__json_free(&plain, &j);
    awq_tokenizer_free(&ctx, t);
    free((void *)(uintptr_t)file.data);
    t = NULL;
    snprintf(path, sizeof path, "%s/golden/models/stories260K-gqa-hf", TEST_DATA());
    CHECK_MSG(!awq_tokenizer_load(&plain, path, &t), "%s", plain.err.text);
    if (t) {
        CHECK(awq_tokenizer_vocab_size(t) == 512 && awq_tokenizer_bos(t) == 1 && awq_tokenizer_eos(t) == 2);
        CHECK_STR(ids_text(&plain, t, "Once upon a time", 1), "1 403 407 261 378");
    }
    awq_tokenizer_free(&plain, t);
    CHECK(plain.memory_used == 0);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_components);
    RUN(test_more_components);
    RUN(test_added_tokens);
    RUN(test_decoders);
    RUN(test_refused);
    RUN(test_refused_files);
    RUN(test_api);
    RUN(test_limits);
    RUN(test_reference);
    RUN(test_regexes);
    RUN(test_regex_forms);
    RUN(test_stream);
    RUN(test_hostile);
    RUN(test_hostile_splits);
    RUN(test_failures);
    RUN(test_real_models);
    RUN(test_golden);
    return TEST_END();
}
