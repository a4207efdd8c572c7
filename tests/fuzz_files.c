/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_files.c -o fuzz_files -lm -lpthread
   ./fuzz_files -max_total_time=60
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_files.c -o fuzz_files -lm -lpthread && ./fuzz_files FILE ...
   The first byte says what the rest is: S a suite; L a .jsonl, J a .json, T a .txt of calibration (small letter: only
   answers count); W a .txt of whole texts, w a .jsonl; P passages; D a text to
   draft a suite from, which must load; K tokenizer_config.json, M chat_template.json,
   C chat_template.jinja beside a small tokenizer, with which a conversation is rendered. */
#define AWQ_IMPLEMENTATION
#define AWQ__TP_WORK 2000000 /* so that one input takes milliseconds */
#include "../awq.h"

static const char config[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"chat_template\":\"{{ bos_token }}{% for m in "
                             "messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}\"}";

static const char *tokenizer(void)
{
    static char json[4096];
    char *p = json;
    int c;
    if (json[0]) return json;
    p += sprintf(p, "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true},{\"id\":2,\"content\":\"</s>\","
                    "\"special\":true}],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":"
                    "{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"\xc4\x8a\":10,\"\xc4\xa0\":32");
    for (c = 33; c < 127; c++) p += sprintf(p, c == '"' || c == '\\' ? ",\"\\%c\":%d" : ",\"%c\":%d", c, c);
    sprintf(p, "}}}");
    return json;
}

static void suite(awq_ctx *ctx)
{
    awq_suite s = {0};
    int64_t i;
    int k;
    size_t n = 0;
    if (awq_suite_load(ctx, "x", &s)) {
        if (!ctx->err.text[0]) abort();
        return;
    }
    for (i = 0; i < s.n; i++) {
        const awq_suite_item *item = &s.items[i];
        n += strlen(item->question);
        for (k = 0; k < item->n_paraphrases; k++) n += strlen(item->paraphrases[k]);
        for (k = 0; k < item->n_contexts; k++) n += strlen(item->contexts[k]);
        if (item->line < 1 || (item->answer && !item->answer[0])) abort();
    }
    if (!n) abort();
    awq_suite_free(ctx, &s);
}

static void passages(awq_ctx *ctx)
{
    awq_passages p;
    int64_t i;
    if (awq_passages_load(ctx, "x", &p)) {
        if (!ctx->err.text[0]) abort();
        return;
    }
    for (i = 0; i < p.n; i++)
        if (!p.text[i][0] || p.text[i][strspn(p.text[i], " \t\n")] != p.text[i][0]) abort();
    awq_passages_free(ctx, &p);
}

static void draft(awq_ctx *ctx, awq_memory_file *file)
{
    char *text = NULL;
    int64_t n;
    if (awq_suite_draft(ctx, (const char *)file->data, file->bytes, NULL, &text, &n)) {
        if (!ctx->err.text[0]) abort();
        return;
    }
    file->data = text;
    file->bytes = strlen(text);
    if (n) {
        awq_suite s;
        if (awq_suite_load(ctx, "x", &s)) puts(ctx->err.text), abort();
        if (s.n != n) abort();
        awq_suite_free(ctx, &s);
    }
    awq_text_free(ctx, text);
}

static void calibration(awq_ctx *ctx, const char *path, int mask, int whole)
{
    awq_calibration_source src = {NULL, 0};
    awq_calibration_desc d;
    awq_calibration c;
    awq_tokenizer *t = NULL;
    int64_t b;
    memset(&d, 0, sizeof d);
    src.path = path;
    d.sources = &src;
    d.n_sources = 1;
    d.samples = 4;
    d.seq_len = 32;
    d.mask_answers = mask;
    d.whole = whole;
    if (awq_tokenizer_load(ctx, "m", &t)) abort();
    if (awq_calibration_load(ctx, t, &d, &c)) {
        if (!ctx->err.text[0]) abort();
    } else {
        if (c.n_blocks < 1) abort();
        for (b = 0; b < c.n_blocks; b++)
            if (c.start[b + 1] <= c.start[b] || c.ids[c.start[b]] < 0) abort();
        awq_calibration_free(ctx, &c);
    }
    awq_tokenizer_free(ctx, t);
}

static void chat(awq_ctx *ctx)
{
    awq_message m[] = {{"user", "a", NULL}, {"assistant", "b", NULL}};
    awq_tokenizer *t = NULL;
    char *text = NULL;
    size_t bytes;
    if (awq_tokenizer_load(ctx, "m", &t)) {
        if (!ctx->err.text[0]) abort();
        return;
    }
    if (awq_tokenizer_bos(t) >= awq_tokenizer_vocab_size(t) || awq_tokenizer_eos(t) >= awq_tokenizer_vocab_size(t)) abort();
    if (awq_tokenizer_chat_template(t)) {
        if (!awq_template_render(ctx, awq_tokenizer_chat_template(t), m, 2, NULL, &text, &bytes)) awq_text_free(ctx, text);
        else if (!ctx->err.text[0]) abort();
    }
    awq_tokenizer_free(ctx, t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    awq_memory_file files[3];
    awq_memory_list list;
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    if (!size) return 0;
    files[0].path = "m/tokenizer.json";
    files[0].data = tokenizer();
    files[0].bytes = strlen(tokenizer());
    files[1].path = "m/tokenizer_config.json";
    files[1].data = config;
    files[1].bytes = sizeof config - 1;
    files[2].path = data[0] == 'L' || data[0] == 'l' || data[0] == 'w' ? "x.jsonl" : data[0] == 'J' || data[0] == 'j' ? "x.json"
                    : data[0] == 'K' ? "m/tokenizer_config.json" : data[0] == 'M' ? "m/chat_template.json"
                    : data[0] == 'C' ? "m/chat_template.jinja" : "x";
    files[2].data = data + 1;
    files[2].bytes = size - 1;
    if (strchr("KMC", data[0])) files[1] = files[2]; /* in the place of ours */
    list.files = files;
    list.count = 3;
    ctx.files = awq_memory_files(&list);
    ctx.memory_limit = (size_t)256 << 20;
    if (strchr("KMC", data[0])) chat(&ctx);
    else if (data[0] == 'S') suite(&ctx);
    else if (data[0] == 'P') passages(&ctx);
    else if (data[0] == 'D') draft(&ctx, &files[2]);
    else calibration(&ctx, files[2].path, data[0] > 'Z', data[0] == 'W' || data[0] == 'w');
    if (ctx.memory_used) abort();
    return 0;
}

#include "fuzz.h"
