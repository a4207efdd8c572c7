/* Categories and normalization form C against numbers that other implementations of Unicode 16.0 give. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

static uint64_t fnv(uint64_t h, const char *s, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3ull;
    return h;
}

static void test_categories(void)
{
    static const struct {
        unsigned set;
        long count;
    } want[] = {{AWQ__UC_IN_L, 141028},
                {AWQ__UC_BIT(AWQ__UC_LU), 1858},
                {AWQ__UC_BIT(AWQ__UC_LL), 2258},
                {AWQ__UC_BIT(AWQ__UC_LT), 31},
                {AWQ__UC_BIT(AWQ__UC_LM), 404},
                {AWQ__UC_BIT(AWQ__UC_LO), 136477},
                {AWQ__UC_IN_M, 2501},
                {AWQ__UC_IN_N, 1911},
                {AWQ__UC_BIT(AWQ__UC_ND), 760},
                {AWQ__UC_BIT(AWQ__UC_NL), 236},
                {AWQ__UC_BIT(AWQ__UC_NO), 915},
                {AWQ__UC_IN_P, 855},
                {AWQ__UC_BIT(AWQ__UC_PC), 10},
                {AWQ__UC_IN_S, 8514},
                {AWQ__UC_IN_SPACE, 25},
                {AWQ__UC_IN_CRLF, 2}};
    static long counts[16];
    uint32_t cp;
    size_t i;
    int k;
    memset(counts, 0, sizeof counts);
    for (cp = 0; cp < 0x110000; cp++) counts[awq__uni_category(cp)]++;
    for (i = 0; i < sizeof want / sizeof want[0]; i++) {
        long n = 0;
        for (k = 0; k < 16; k++)
            if (want[i].set >> k & 1) n += counts[k];
        CHECK_MSG(n == want[i].count, "set %x has %ld code points, expected %ld", want[i].set, n,
                  want[i].count);
    }
    CHECK(counts[AWQ__UC_ALTERNATE] == 0);
    CHECK(awq__uni_category('a') == AWQ__UC_LL && awq__uni_category('_') == AWQ__UC_PC);
    CHECK(awq__uni_category('$') == AWQ__UC_S && awq__uni_category('!') == AWQ__UC_P);
    CHECK(awq__uni_category(0x100) == AWQ__UC_LU && awq__uni_category(0x101) == AWQ__UC_LL); /* in turns */
    CHECK(awq__uni_category(0x0b) == AWQ__UC_SPACE && awq__uni_category(0x1c) == AWQ__UC_OTHER);
    CHECK(awq__uni_category(0x200b) == AWQ__UC_OTHER && awq__uni_category(0x10ffff) == AWQ__UC_OTHER);
    CHECK(awq__uni_class(0x301) == 230 && awq__uni_class(0x323) == 220 && awq__uni_class('a') == 0);
}

static int nfc_is(const char *in, const char *want)
{
    awq_ctx ctx;
    awq__text t = {NULL, 0, 0, 0};
    int same;
    memset(&ctx, 0, sizeof ctx);
    same = awq__uni_nfc(&ctx, in, strlen(in), &t) == AWQ_OK && t.len == strlen(want) &&
           !memcmp(t.data, want, t.len);
    awq__text_free(&ctx, &t);
    return same && !ctx.memory_used;
}

static void test_nfc_known(void)
{
    CHECK(nfc_is("", ""));
    CHECK(nfc_is("plain ASCII", "plain ASCII"));
    CHECK(nfc_is("caf\xc3\xa9", "caf\xc3\xa9"));
    CHECK(nfc_is("cafe\xcc\x81", "caf\xc3\xa9"));
    CHECK(nfc_is("a\xcc\x81\xcc\xa3", "\xe1\xba\xa1\xcc\x81")); /* acute, dot below: reordered, then composed */
    CHECK(nfc_is("a\xcc\xa3\xcc\x81", "\xe1\xba\xa1\xcc\x81"));
    CHECK(nfc_is("\xcc\x81z", "\xcc\x81z"));                   /* begins with a mark */
    CHECK(nfc_is("a\xcc\x81\xcc\x81", "\xc3\xa1\xcc\x81"));    /* the second is blocked by the first */
    CHECK(nfc_is("\xe2\x84\xab", "\xc3\x85"));                 /* Angstrom sign: a singleton */
    CHECK(nfc_is("\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc")); /* U+0958: excluded from composition */
    CHECK(nfc_is("\xcd\x84", "\xcc\x88\xcc\x81"));             /* U+0344: begins with a mark */
    CHECK(nfc_is("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c")); /* jamo to U+D55C */
    CHECK(nfc_is("\xea\xb0\x80\xe1\x86\xa8", "\xea\xb0\x81"));             /* LV + T */
    CHECK(nfc_is("\xea\xb0\x81\xe1\x86\xa8", "\xea\xb0\x81\xe1\x86\xa8")); /* LVT takes no second T */
    CHECK(nfc_is("\xef\xa4\x80", "\xe8\xb1\x88"));                         /* compatibility ideograph U+F900 */
}

/* FNV-1a of the form C of every code point, and of every decomposition with acute and dot below behind it */
static void test_nfc_all(void)
{
    uint64_t h1 = 0xcbf29ce484222325ull, h2 = h1;
    uint32_t cp, parts[4];
    long changed = 0;
    awq_ctx ctx;
    awq__text t = {NULL, 0, 0, 0};
    memset(&ctx, 0, sizeof ctx);
    for (cp = 0; cp < 0x110000; cp++) {
        char in[32];
        int n, i, m;
        if (cp >= 0xd800 && cp < 0xe000) continue;
        n = awq__utf8_put(cp, in);
        t.len = 0;
        CHECK(!awq__uni_nfc(&ctx, in, (size_t)n, &t));
        h1 = fnv(h1, t.data, t.len);
        changed += t.len != (size_t)n || memcmp(t.data, in, t.len) != 0;
        m = awq__uni_decompose(cp, parts);
        if (m == 1 && parts[0] == cp) continue;
        for (n = 0, i = 0; i < m; i++) n += awq__utf8_put(parts[i], in + n);
        memcpy(in + n, "\xcc\x81\xcc\xa3", 4);
        t.len = 0;
        CHECK(!awq__uni_nfc(&ctx, in, (size_t)n + 4, &t));
        h2 = fnv(h2, t.data, t.len);
    }
    CHECK(changed == 1120);
    CHECK(h1 == 0x23fc43766d7c2eb9ull);
    CHECK(h2 == 0x01b5235c25229bacull);
    awq__text_free(&ctx, &t);
}

static void test_long_runs(void) /* of marks: both orders of sorting, and time */
{
    enum { N = 200000 };
    static char in[4 * N + 1];
    awq_ctx ctx;
    awq__text a = {NULL, 0, 0, 0}, b = {NULL, 0, 0, 0};
    double t0 = test_cpu();
    int i, n;
    memset(&ctx, 0, sizeof ctx);
    for (n = 3; n <= N; n = n < 64 ? n + 1 : n * 50) {
        in[0] = 'x';
        for (i = 0; i < n; i++) memcpy(in + 1 + 2 * i, i & 1 ? "\xcc\xa3" : i % 3 ? "\xcc\x81" : "\xcc\x9b", 2);
        a.len = b.len = 0;
        CHECK(!awq__uni_nfc(&ctx, in, 1 + 2 * (size_t)n, &a));
        CHECK(a.len == 1 + 2 * (size_t)n);
        CHECK(!awq__uni_nfc(&ctx, a.data, a.len, &b)); /* sorted already: nothing changes */
        CHECK(a.len == b.len && !memcmp(a.data, b.data, a.len));
        for (i = 1; i + 3 < (int)a.len; i += 2) {
            uint32_t p = awq__uni_class(awq__utf8_get((unsigned char *)a.data + i, 2));
            CHECK(p <= awq__uni_class(awq__utf8_get((unsigned char *)a.data + i + 2, 2)));
        }
    }
    CHECK(test_cpu() - t0 < 20);
    awq__text_free(&ctx, &a);
    awq__text_free(&ctx, &b);
}

static void test_failing_allocations(void)
{
    long k;
    for (k = 0;; k++) {
        fail_alloc f = {k, 0, 0};
        awq_ctx ctx;
        awq__text t = {NULL, 0, 0, 0};
        awq_status st;
        memset(&ctx, 0, sizeof ctx);
        ctx.allocator = fail_allocator(&f);
        st = awq__uni_nfc(&ctx, "e\xcc\x81-e\xcc\x81-e\xcc\x81-e\xcc\x81-e\xcc\x81", 19, &t);
        CHECK(st == AWQ_OK || st == AWQ_E_MEMORY);
        awq__text_free(&ctx, &t);
        CHECK(f.live == 0 && ctx.memory_used == 0);
        if (f.calls <= k) break;
    }
    CHECK(k >= 3);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_categories);
    RUN(test_nfc_known);
    RUN(test_nfc_all);
    RUN(test_long_runs);
    RUN(test_failing_allocations);
    return TEST_END();
}
