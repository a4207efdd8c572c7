/* json: what parses to what, what is refused at which byte, limits, hostile input, writing */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"
#include <locale.h>

/* parse n bytes and write them again into out; everything is freed */
static awq_status round_trip(const char *text, size_t n, char *out, size_t cap)
{
    char *exact = (char *)malloc(n ? n : 1); /* its own block, so that a read past the end shows */
    awq_ctx ctx;
    awq__json j;
    awq__text t = {NULL, 0, 0, 0};
    awq_status st;
    memset(&ctx, 0, sizeof ctx);
    memset(&j, 0, sizeof j);
    if (n) memcpy(exact, text, n);
    st = awq__json_parse(&ctx, "doc", exact, n, &j);
    free(exact);
    if (!st) awq__json_write(&ctx, &t, &j, 1);
    snprintf(out, cap, "%s", st ? ctx.err.text : t.data);
    awq__text_free(&ctx, &t);
    awq__json_free(&ctx, &j);
    CHECK(ctx.memory_used == 0);
    return st;
}

static void test_values(void)
{
    static const char *const cases[][2] = {
        {"null", "null"}, {"true", "true"}, {" false ", "false"}, {"\t\r\n1\n", "1"}, {"[]", "[]"},
        {"{}", "{}"},
        {"[[],{}]", "[[], {}]"}, {"[1,[2,[3]],4]", "[1, [2, [3]], 4]"}, {"\"\"", "\"\""},
        {"{\"a\":1,\"b\":[{}]}", "{\"a\": 1, \"b\": [{}]}"}, {"{\"\":\"\"}", "{\"\": \"\"}"},
        {"{\"a\" : {\"b\" : {}} , \"a\":2}", "{\"a\": {\"b\": {}}, \"a\": 2}"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\u0008\\u000c\\n\\r\\t\""},
        {"\"\\u0041\\u00e9\"", "\"A\xc3\xa9\""}, {"\"\\ud83d\\uDE00\"", "\"\xf0\x9f\x98\x80\""},
        {"\"\\u0000\"", "\"\\u0000\""}, {"\"\x7f\"", "\"\x7f\""}, {"\xef\xbb\xbf{}", "{}"},
        {"\"\xf4\x8f\xbf\xbf\xed\x9f\xbf\"", "\"\xf4\x8f\xbf\xbf\xed\x9f\xbf\""}};
    char out[1024];
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        awq_status st = round_trip(cases[i][0], strlen(cases[i][0]), out, sizeof out);
        CHECK_MSG(st == AWQ_OK && !strcmp(out, cases[i][1]), "%s: %s", cases[i][0], out);
        /* what was written reads back the same */
        st = round_trip(cases[i][1], strlen(cases[i][1]), out, sizeof out);
        CHECK_MSG(st == AWQ_OK && !strcmp(out, cases[i][1]), "%s: %s", cases[i][1], out);
    }
}

static void test_numbers(void)
{
    static const struct {
        const char *text, *written;
    } cases[] = {
        {"0", "0"}, {"-0", "0"}, {"7", "7"}, {"-12", "-12"}, {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"}, {"9223372036854775808", "9.223372036854775808e+18"},
        {"99999999999999999999", "1e+20"}, {"0.5", "0.5"}, {"1e3", "1000.0"}, {"1E+2", "100.0"},
        {"1e-5", "1e-05"}, {"-0.0", "-0.0"}, {"10000.0", "10000.0"}, {"0.1", "0.1"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"}, {"5e-324", "4.94066e-324"},
        {"0.30000000000000004", "0.30000000000000004"}, {"1e-999", "0.0"},
        /* digits beyond what a double holds change neither its value nor its exponent */
        {"0.100000000000000000000000000000000000000000000000000000000000000000000000000000000001", "0.1"},
        {"1000000000000000000000000000000000000000000000000000000000000000000000000000000000", "1e+81"},
        {"2.50000000000000000000000000000000000000000000000000000000000000000000000000000e-5", "2.5e-05"},
        {"0.000000000000000000000000000000000000000000000000000000000000000000000000000000025", "2.5e-80"}};
    char out[1024];
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        awq_status st = round_trip(cases[i].text, strlen(cases[i].text), out, sizeof out);
        CHECK_MSG(st == AWQ_OK && strtod(out, NULL) == strtod(cases[i].written, NULL), "%s: %s",
                  cases[i].text, out);
        CHECK_MSG(!strpbrk(cases[i].written, ".e") == !strpbrk(out, ".e"), "%s: %s", cases[i].text, out);
    }
}

/* a program may have set a locale that writes 0,5 */
static void test_locale(void)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "de_DE",
                                        "de-DE"};
    char out[100];
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0] && !setlocale(LC_NUMERIC, names[i]); i++) {}
    CHECK(round_trip("[0.5, 1e-05, 2.25]", 18, out, sizeof out) == AWQ_OK
          && !strcmp(out, "[0.5, 1e-05, 2.25]"));
    setlocale(LC_NUMERIC, "C");
}

static void test_refused(void)
{
    static const struct {
        const char *text;
        int byte;
    } cases[] = {
        {"", 0}, {"  ", 2}, {"nul", 0}, {"nulL", 0}, {"tru", 0}, {"True", 0}, {"NaN", 0}, {"Infinity", 0},
        {"-", 1}, {"+1", 0}, {"01", 2}, {"-01", 3}, {"1.", 2}, {".5", 0}, {"1e", 2}, {"1e+", 3}, {"1.e5", 2},
        {"0x10", 1}, {"1 2", 2}, {"[1,]", 3}, {"[,1]", 1}, {"[1 2]", 3}, {"[1", 2}, {"[", 1}, {"]", 0},
        {"[}", 1}, {"{]", 1}, {"[1}", 2}, {"{\"a\":1]", 6}, {"{", 1}, {"{\"a\"", 4}, {"{\"a\":", 5},
        {"{\"a\":}", 5}, {"{\"a\":1", 6}, {"{\"a\":1,", 7}, {"{\"a\":1,}", 7}, {"{a:1}", 1}, {"{1:1}", 1},
        {"{\"a\" 1}", 5}, {"{\"a\":1 \"b\":2}", 7}, {"{,}", 1}, {"\"", 1}, {"\"a", 2}, {"\"\\", 2},
        {"\"\\\"", 3}, {"\"\\x\"", 2}, {"\"\\u12\"", 5}, {"\"\\u12G4\"", 5}, {"\"\\ud800\"", 7},
        {"\"\\ud800\\n\"", 7}, {"\"\\udc00\"", 7}, {"\"\\ud800\\ud800\"", 13}, {"\"\n\"", 1}, {"\"\x80\"", 1},
        {"\"\xc0\xaf\"", 1}, {"\"\xed\xa0\x80\"", 1}, {"\"\xf4\x90\x80\x80\"", 1}, {"\"\xe2\x82\"", 1},
        {"\"\xff\"", 1}, {"// x\n1", 0}, {"'a'", 0}, {"[1]]", 3}, {"{}{}", 2}};
    char out[1024], want[64];
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        awq_status st = round_trip(cases[i].text, strlen(cases[i].text), out, sizeof out);
        snprintf(want, sizeof want, "doc: not valid JSON at byte %d:", cases[i].byte);
        CHECK_MSG(st == AWQ_E_FORMAT && !strncmp(out, want, strlen(want)), "%s: %s, expected byte %d",
                  cases[i].text, out, cases[i].byte);
    }
    CHECK(round_trip("1\0", 2, out, sizeof out) == AWQ_E_FORMAT);
}

static void test_depth(void)
{
    size_t n = 400000, d;
    char *text = (char *)malloc(n + 1), out[1024];
    for (d = AWQ__JSON_DEPTH; d <= AWQ__JSON_DEPTH + 1; d++) {
        memset(text, '[', d);
        memset(text + d, ']', d);
        CHECK(round_trip(text, 2 * d, out, sizeof out) == (d == AWQ__JSON_DEPTH ? AWQ_OK : AWQ_E_FORMAT));
    }
    memset(text, '[', n);
    CHECK(round_trip(text, n, out, sizeof out) == AWQ_E_FORMAT && strstr(out, "nested too deeply"));
    for (d = 0; d + 5 <= n; d += 5) memcpy(text + d, "{\"a\":", 5);
    CHECK(round_trip(text, d, out, sizeof out) == AWQ_E_FORMAT && strstr(out, "nested too deeply"));
    free(text);
}

/* every prefix of a document and every single changed byte: refused or read, never worse */
static void test_damage(void)
{
    static const char doc[] = "{\"a\": [1, -2.5e+3, true, null], \"\\u00e9\xc3\xa9\": {\"b\": "
    "\"x\\n\\ud83d\\ude00\"}, \"c\": []}";
    char copy[sizeof doc], out[1024];
    size_t n = sizeof doc - 1, i;
    int b;
    CHECK(round_trip(doc, n, out, sizeof out) == AWQ_OK);
    for (i = 0; i < n; i++) CHECK(round_trip(doc, i, out, sizeof out) == AWQ_E_FORMAT);
    for (i = 0; i < n; i++)
        for (b = 0; b < 256; b++) {
            awq_status st;
            memcpy(copy, doc, sizeof doc);
            copy[i] = (char)b;
            st = round_trip(copy, n, out, sizeof out);
            CHECK(st == AWQ_OK || st == AWQ_E_FORMAT);
        }
}

static void test_access(void)
{
    static const char doc[] = "{\"i\": 5, \"r\": 0.5, \"s\": \"text\", \"t\": true, \"f\": false, \"n\": null, "
    "\"l\": [1, \"two\", 3]}";
    awq_ctx ctx;
    awq__json j;
    uint32_t l, k;
    int64_t i = 77;
    double d = 0;
    size_t len = 0;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq__json_parse(&ctx, "doc", doc, sizeof doc - 1, &j) == AWQ_OK);
    CHECK(awq__json_is(&j, 1) == AWQ__J_OBJ && awq__json_count(&j, 1) == 7
          && awq__json_is(&j, 0) == AWQ__J_NULL);
    CHECK(awq__json_get(&j, 1, "none") == 0 && awq__json_get(&j, 0, "i") == 0);
    CHECK(awq__json_int_of(&j, awq__json_get(&j, 1, "i"), &i) && i == 5);
    CHECK(!awq__json_int_of(&j, awq__json_get(&j, 1, "r"), &i) && i == 5);
    CHECK(awq__json_number_of(&j, awq__json_get(&j, 1, "r"), &d) && d == 0.5);
    CHECK(awq__json_number_of(&j, awq__json_get(&j, 1, "i"), &d) && d == 5);
    CHECK(!awq__json_number_of(&j, awq__json_get(&j, 1, "s"), &d));
    CHECK(!strcmp(awq__json_str(&j, awq__json_get(&j, 1, "s"), &len), "text") && len == 4);
    CHECK(awq__json_str(&j, awq__json_get(&j, 1, "i"), NULL) == NULL);
    CHECK(awq__json_eq(&j, awq__json_get(&j, 1, "s"), "text")
          && !awq__json_eq(&j, awq__json_get(&j, 1, "s"), "tex"));
    CHECK(awq__json_bool(&j, awq__json_get(&j, 1, "t")) == 1
          && awq__json_bool(&j, awq__json_get(&j, 1, "f")) == 0);
    CHECK(awq__json_bool(&j, awq__json_get(&j, 1, "n")) == -1 && awq__json_bool(&j, 0) == -1);
    l = awq__json_get(&j, 1, "l");
    k = awq__json_first(&j, l);
    CHECK(awq__json_count(&j, l) == 3 && awq__json_eq(&j, awq__json_next(&j, k), "two"));
    CHECK(awq__json_next(&j, awq__json_next(&j, awq__json_next(&j, k))) == 0);
    CHECK(awq__json_get(&j, l, "i") == 0 && awq__json_first(&j, awq__json_get(&j, 1, "i")) == 0);
    CHECK(awq__json_first(&j, 0) == 0 && awq__json_count(&j, 0) == 0 && awq__json_get(&j, l, "") == 0);
    awq__json_free(&ctx, &j);
    CHECK(ctx.memory_used == 0);
}

/* time and memory stay in proportion to the text */
static void test_large(void)
{
    size_t n = 2000001, i;
    char *text = (char *)malloc(n);
    awq_ctx ctx;
    awq__json j;
    double t0 = test_cpu();
    memset(&ctx, 0, sizeof ctx);
    for (i = 0; i < n; i++) text[i] = i & 1 ? '1' : i == 0 ? '[' : i == n - 1 ? ']' : ',';
    CHECK_MSG(awq__json_parse(&ctx, "doc", text, n, &j) == AWQ_OK, "%s", ctx.err.text);
    CHECK(awq__json_count(&j, 1) == 1000000 && ctx.memory_peak < 120 * n);
    awq__json_free(&ctx, &j);
    memset(text, '\\', n);
    text[0] = '"';
    CHECK(awq__json_parse(&ctx, "doc", text, n, &j) == AWQ_E_FORMAT);
    CHECK(awq__json_parse(&ctx, "doc", "", (size_t)0x7fffffff, &j) == AWQ_E_LIMIT);
    CHECK(ctx.memory_used == 0 && test_cpu() - t0 < 5);
    free(text);
}

static void test_memory(void)
{
    static const char doc[] = "[{\"a\": [1, 2, 3]}, {\"b\": [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, "
    "17]}, \"s\"]";
    awq_status st = AWQ_E_MEMORY;
    long k;
    for (k = 0; st && k < 100; k++) {
        fail_alloc f = {k, 0, 0};
        awq_ctx ctx;
        awq__json j;
        memset(&ctx, 0, sizeof ctx);
        ctx.allocator = fail_allocator(&f);
        st = awq__json_parse(&ctx, "doc", doc, sizeof doc - 1, &j);
        CHECK(st == AWQ_OK || st == AWQ_E_MEMORY);
        if (!st) awq__json_free(&ctx, &j);
        CHECK(f.live == 0 && ctx.memory_used == 0);
    }
    CHECK(!st && k > 2);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_values);
    RUN(test_numbers);
    RUN(test_locale);
    RUN(test_refused);
    RUN(test_depth);
    RUN(test_damage);
    RUN(test_access);
    RUN(test_large);
    RUN(test_memory);
    return TEST_END();
}
