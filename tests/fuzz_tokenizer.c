/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_tokenizer.c -o fuzz_tokenizer -lm -lpthread
   ./fuzz_tokenizer CORPUS
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_tokenizer.c -o fuzz_tokenizer -lm -lpthread && ./fuzz_tokenizer FILE ...
   The input is a tokenizer.json, a byte 0xff, and text to encode; its bytes also serve as ids to decode. Input
   that begins with 0 to ; uses a tokenizer of our own with that regex: its text must come back unchanged. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"

static char own[65536];
static const char *const patterns[] = {
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
    "|\\s+(?!\\S)|\\s+",
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|\\s*[\\r\\n]"
    "|\\s+(?!\\S)|\\s",
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s"
    "|'t|'re|'ve|'m|'ll|'d)?"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s+$",
    "[0-9][0-9][0-9]|\\s?[^a-c[ .]]+"};

static size_t own_tokenizer(size_t regex)
{
    awq_ctx ctx;
    awq__text t = {NULL, 0, 0, 0};
    const char *pattern = patterns[regex % (sizeof patterns / sizeof patterns[0])];
    int i;
    size_t n;
    memset(&ctx, 0, sizeof ctx);
    awq__text_str(
        &ctx, &t,
        "{\"added_tokens\":[{\"id\":300,\"content\":\"<x>\",\"special\":true},{\"id\":301,\"content\":"
        "\"<x>y\"},{\"id\":302,\"content\":\"  \"},{\"id\":303,\"content\":"
        "\"ab\",\"single_word\":true}],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":"
        "[{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":");
    awq__json_quote(&ctx, &t, pattern, strlen(pattern));
    awq__text_str(
        &ctx, &t,
        "}},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},\"decoder\":"
        "{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"ab\":256,\"aba\":257,\"abab\":258");
    for (i = 0; i < 256; i++) {
        char utf8[8];
        utf8[awq__utf8_put(awq__tok_byte_char((unsigned)i), utf8)] = 0;
        awq__textf(&ctx, &t, ",\"%s%s\":%d", i == '"' || i == '\\' ? "\\" : "", utf8, i);
    }
    awq__text_str(&ctx, &t, "},\"merges\":[\"a b\",\"ab a\",\"ab ab\"]}}");
    if (t.failed || t.len >= sizeof own) abort();
    n = t.len;
    memcpy(own, t.data, n);
    awq__text_free(&ctx, &t);
    return n;
}

static void run_text(awq_ctx *ctx, const awq_tokenizer *t, const char *text, size_t n, int exact)
{
    static int32_t ids[4096];
    static char back[65536];
    size_t count = 0, bytes = 0, i, k;
    awq_decoder d;
    for (i = 0; i < 2; i++) {
        awq_status st = awq_encode(ctx, t, text, n, (int)i, ids, 4096, &count);
        if (st && !ctx->err.text[0]) abort();
        if (st) count = 0;
        for (k = 0; k < count && k < 4096; k++)
            if (ids[k] < 0 || ids[k] >= awq_tokenizer_vocab_size(t)) abort();
        if (st || count > 4096) continue;
        if (awq_decode(ctx, t, ids, count, 0, back, sizeof back, &bytes)) {
            if (ctx->err.status != AWQ_E_MEMORY && ctx->err.status != AWQ_E_LIMIT) abort();
        } else if (exact && (bytes != n || (n && memcmp(back, text, n)))) abort();
    }
    memset(&d, 0, sizeof d);
    for (i = 0; i < n && i < 4096; i++) {
        const char *out;
        int32_t id = (int32_t)((unsigned char)text[i] * (i % 7 == 0 ? 2u : 1u));
        awq_decoder_push(ctx, t, &d, id, &out, &bytes);
        awq_tokenizer_is_special(t, id);
    }
    awq_decoder_free(ctx, &d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    awq_memory_file file;
    awq_memory_list list;
    awq_ctx ctx;
    awq_tokenizer *t = NULL;
    size_t json = 0;
    int exact = size && data[0] >= '0' && data[0] <= ';';
    memset(&ctx, 0, sizeof ctx);
    file.path = "t.json";
    if (exact) {
        file.bytes = own_tokenizer(data[0] - '0');
        file.data = own;
        data++, size--;
    } else {
        while (json < size && data[json] != 0xff) json++;
        file.data = data;
        file.bytes = json;
        data += AWQ__MIN(json + 1, size);
        size -= AWQ__MIN(json + 1, size);
    }
    list.files = &file;
    list.count = 1;
    ctx.files = awq_memory_files(&list);
    ctx.memory_limit = (size_t)512 << 20;
    if (awq_tokenizer_load(&ctx, "t.json", &t)) {
        if (!ctx.err.text[0] || ctx.memory_used) abort();
        return 0;
    }
    run_text(&ctx, t, (const char *)data, size, exact);
    awq_tokenizer_free(&ctx, t);
    if (ctx.memory_used) abort();
    return 0;
}

#include "fuzz.h"
