/* Grammars: GBNF, schemas, choices; what matches and what is refused; masks against every token walked alone;
   tables that overflow. tests/peers/schema.py holds schemas against the jsonschema package. */
#ifndef _WIN32
#define _POSIX_C_SOURCE 200809L
#endif
#define AWQ_IMPLEMENTATION
#define AWQ__GR_WORK 2000000 /* so that the limit is reached soon */
#include "../awq.h"
#include "test.h"

static awq_status step_byte(awq_ctx *ctx, awq_grammar *g, int32_t state, unsigned char byte, int32_t *next)
{
    return awq__gr_walk(ctx, g, state, (const char *)&byte, 1, next);
}

static awq_grammar_desc desc_of(const char *gbnf, const char *schema)
{
    awq_grammar_desc d;
    memset(&d, 0, sizeof d);
    d.gbnf = gbnf;
    d.schema = schema;
    return d;
}

static awq_grammar *make(awq_ctx *ctx, const char *gbnf, const char *schema)
{
    awq_grammar_desc d = desc_of(gbnf, schema);
    awq_grammar *g = NULL;
    if (awq_grammar_create(ctx, &d, &g)) CHECK_MSG(0, "%s\n%s", ctx->err.text, gbnf ? gbnf : schema);
    return g;
}

static int match(awq_ctx *ctx, awq_grammar *g, const char *text, size_t n)
{
    awq_match m = AWQ_MATCH_NO;
    if (awq_grammar_match(ctx, g, text, n, &m)) CHECK_MSG(0, "%s", ctx->err.text);
    return (int)m;
}

/* texts, separated by '|': those up to "||" are sentences, the others up to the next "||" beginnings, the rest
   neither (there an empty one is none) */
static void expect(const char *gbnf, const char *schema, const char *texts)
{
    static const char *const names[] = {"no", "the beginning of one", "a sentence"};
    awq_ctx ctx;
    awq_grammar *g;
    char text[1024];
    size_t n = 0;
    int want = AWQ_MATCH_WHOLE;
    const char *p;
    memset(&ctx, 0, sizeof ctx);
    g = make(&ctx, gbnf, schema);
    for (p = texts; g; p++) {
        if (*p && *p != '|') text[n++] = *p;
        else {
            int got = match(&ctx, g, text, n);
            CHECK_MSG(got == want || (n == 0 && want < AWQ_MATCH_WHOLE), "'%.*s' is %s, not %s, of %s", (int)n,
                      text, names[got], names[want], gbnf ? gbnf : schema);
            n = 0;
            if (!*p) break;
            if (p[1] == '|') p++, want--;
        }
    }
    awq_grammar_free(&ctx, g);
    CHECK(ctx.memory_used == 0);
}

static void refuse(const awq_grammar_desc *d, awq_status want, const char *words)
{
    awq_ctx ctx;
    awq_grammar *g = NULL;
    awq_status st;
    memset(&ctx, 0, sizeof ctx);
    st = awq_grammar_create(&ctx, d, &g);
    CHECK_MSG(st == want && !g, "%s instead of %s: %s", awq_status_name(st), awq_status_name(want),
              d->gbnf     ? d->gbnf
              : d->schema ? d->schema
                          : "choices");
    CHECK_MSG(strstr(ctx.err.text, words) != NULL, "'%s' lacks '%s'", ctx.err.text, words);
    awq_grammar_free(&ctx, g);
    CHECK(ctx.memory_used == 0);
}

static void refuse_gbnf(const char *gbnf, awq_status want, const char *words)
{
    awq_grammar_desc d = desc_of(gbnf, NULL);
    refuse(&d, want, words);
}

static void refuse_schema(const char *schema, awq_status want, const char *words)
{
    awq_grammar_desc d = desc_of(NULL, schema);
    refuse(&d, want, words);
}

static void test_gbnf(void)
{
    expect("root ::= \"yes\" | \"no\"", NULL, "yes|no||y|ye|n||yess|x|noo");
    expect("root ::= [a-c]+ [^a-c]*", NULL, "a|abc|ax|cxyz\xc3\xa9||||x|axa");
    expect("root ::= a b? c*\na ::= \"a\"\nb ::= \"b\"\nc ::= \"c\"", NULL, "a|ab|ac|abccc||||b|abb");
    expect("root ::= \"a\"{3}", NULL, "aaa||a|aa||aaaa");
    expect("root ::= \"ab\"{ 1 , 2 }", NULL, "ab|abab||a|aba||ababab");
    expect("root ::= [ab]{2,} \"c\"", NULL, "aac|ababc||a|ab|aba||c|ac");
    expect("root ::= \"a\"{0} \"b\" \"c\"{0,0}", NULL, "b||||a|bc");
    expect("root ::= \"a\"{0,2}", NULL, "|a|aa||||aaa");
    expect("root ::= (\"a\" | \"b\" (\"c\" | \"d\")*) \"e\"", NULL, "ae|be|bcdce||a|bc||ce");
    expect("root ::= .{2}", NULL, "ab|\xc3\xa9\n|\xf0\x9f\x98\x80\xe2\x82\xac||a|\xc3|a\xf0\x9f||\x80|\xff");
    expect("# first\nroot ::= # why\n  \"a\" | # or\n\n  \"b\" (\n \"c\" # inside\n )\r\n | \"d\"\n\n\n# last",
           NULL, "a|bc|d||b||c");
    expect("root ::= \"\\n\\r\\t\\\\\\\"\\x41\\u00e9\\U0001F600\\[\\]\"", NULL,
           "\n\r\t\\\"A\xc3\xa9\xf0\x9f\x98\x80[]||\n");
    expect("root ::= [\\]\\[\\\\^\\x2D-\\x2f-] [^]", NULL, "]x|[x|\\x|^x|-x|.x|/x|--||]||0x");
    expect("root ::= [a-z-9]", NULL, "a|-|9||||8");
    expect("root ::= \"\" | (\"\"*)* | \"\"? \"a\"", NULL, "|a||||b");
    expect("root ::= A_b-9 \nA_b-9 ::= \"x\"", NULL, "x||||y");
    expect("root ::= list\nlist ::= \"[\" (list (\",\" list)*)? \"]\"", NULL,
           "[]|[[],[[]]]||[|[[|[[]|[[],||]|[,]|[]]|[],");
    expect("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"x\"", NULL, "x|axb|aaxbc||a|aax||axd|axbb");
    expect("root ::= expr\nexpr ::= term ([-+] term)*\nterm ::= [0-9]+ | \"(\" expr \")\"", NULL,
           "1|1+22|(1-2)+3||(|1+|(1||+|)|1)");
    expect("root ::= (\"ab\" | \"a\" | \"abc\" | \"b\" | \"\" | \"abc\" | \"b\" [x]) \"d\"", NULL,
           "d|ad|abd|abcd|bd|bxd||a|ab|abc|bx||cd|abx");
}

/* every code point against the class it is in, and what is no UTF-8 at all */
static void test_classes(void)
{
    static const struct {
        const char *gbnf;
        uint32_t lo, hi;
        int negate;
    } cases[] = {{"root ::= [\\x00-\\x7f]", 0, 0x7f, 0},
                 {"root ::= [\\x7f-\\u0080]", 0x7f, 0x80, 0},
                 {"root ::= [\\u07ff-\\u0800]", 0x7ff, 0x800, 0},
                 {"root ::= [\\uffff-\\U00010000]", 0xffff, 0x10000, 0},
                 {"root ::= [\\u0080-\\u07ff]", 0x80, 0x7ff, 0},
                 {"root ::= [\\u0800-\\uffff]", 0x800, 0xffff, 0},
                 {"root ::= [\\U00010000-\\U0010ffff]", 0x10000, 0x10ffff, 0},
                 {"root ::= .", 0, 0x10ffff, 0},
                 {"root ::= [^\\u0345-\\U00045678]", 0x345, 0x45678, 1},
                 {"root ::= [\\ud7fe-\\ue001]", 0xd7fe, 0xe001, 0},
                 {"root ::= [^\\U0010ffff]", 0x10ffff, 0x10ffff, 1},
                 {"root ::= [\\u1234-\\u5678]", 0x1234, 0x5678, 0}};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x80\x80\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xc3\x28",
                                      "\xe2\x82\x28"};
    size_t i, k;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        awq_ctx ctx;
        awq_grammar *g;
        uint32_t cp;
        int wrong = 0;
        memset(&ctx, 0, sizeof ctx);
        g = make(&ctx, cases[i].gbnf, NULL);
        for (cp = 0; g && cp <= 0x10ffff; cp++) {
            char utf8[4];
            int n = awq__utf8_put(cp, utf8), in = cp >= cases[i].lo && cp <= cases[i].hi;
            in = in != cases[i].negate && !(cp >= 0xd800 && cp < 0xe000);
            wrong += (match(&ctx, g, utf8, (size_t)n) == AWQ_MATCH_WHOLE) != in;
        }
        CHECK_MSG(wrong == 0, "%s: %d characters", cases[i].gbnf, wrong);
        for (k = 0; g && k < sizeof bad / sizeof bad[0]; k++)
            CHECK_MSG(!match(&ctx, g, bad[k], strlen(bad[k])), "%s: bytes %d", cases[i].gbnf, (int)k);
        awq_grammar_free(&ctx, g);
        CHECK(ctx.memory_used == 0);
    }
}

static char *repeated(const char *head, const char *unit, size_t n, const char *tail)
{
    size_t h = strlen(head), u = strlen(unit), i;
    char *s = (char *)malloc(h + u * n + strlen(tail) + 1);
    memcpy(s, head, h);
    for (i = 0; i < n; i++) memcpy(s + h + i * u, unit, u);
    strcpy(s + h + n * u, tail);
    return s;
}

static void test_refused_gbnf(void)
{
    static const char *const choice[] = {"a", NULL, "\xff"};
    awq_grammar_desc d;
    awq_ctx ctx;
    char *s;
    refuse_gbnf("", AWQ_E_FORMAT, "there is no rule 'root'");
    refuse_gbnf("start ::= \"a\"", AWQ_E_FORMAT, "GBNF, line 1, column 14: there is no rule 'root'");
    refuse_gbnf("root ::= \"a\"\n\nx ::= nothing", AWQ_E_FORMAT,
                "GBNF, line 3, column 7: there is no rule 'nothing'");
    refuse_gbnf("root ::= \"a\nb", AWQ_E_FORMAT, "line 1, column 10: '\"' without an end");
    refuse_gbnf("root ::= [a", AWQ_E_FORMAT, "'[' without an end");
    refuse_gbnf("root ::= (\"a\"", AWQ_E_FORMAT, "'(' without an end");
    refuse_gbnf("root ::= \"a\")", AWQ_E_FORMAT, "column 13: ')' is not expected here");
    refuse_gbnf("root = \"a\"", AWQ_E_FORMAT, "expected '::='");
    refuse_gbnf("root ::= \"a\"\n\"b\"", AWQ_E_FORMAT, "line 2, column 1: expected the name of a rule");
    refuse_gbnf("root ::= * \"a\"", AWQ_E_FORMAT, "nothing stands before '*'");
    refuse_gbnf("root ::= \"a\"*+", AWQ_E_FORMAT, "'+' behind a repetition needs parentheses");
    refuse_gbnf("root ::= \"a\"{2,1}", AWQ_E_FORMAT, "expected {2}, {2,} or {2,5}");
    refuse_gbnf("root ::= \"a\"{}", AWQ_E_FORMAT, "expected {2}");
    refuse_gbnf("root ::= [z-a]", AWQ_E_FORMAT, "a range that ends before it begins");
    refuse_gbnf("root ::= \"\\q\"", AWQ_E_FORMAT, "an unknown escape");
    refuse_gbnf("root ::= \"\\x4\"", AWQ_E_FORMAT, "hexadecimal digit");
    refuse_gbnf("root ::= \"\\U00110000\"", AWQ_E_FORMAT, "beyond U+10FFFF");
    refuse_gbnf("root ::= \"\\ud800\"", AWQ_E_FORMAT, "surrogate");
    refuse_gbnf("root ::= \"\xff\"", AWQ_E_FORMAT, "not UTF-8 (0xff)");
    refuse_gbnf("root ::= \"a\"\nroot ::= \"b\"", AWQ_E_FORMAT,
                "line 2, column 1: the rule 'root' is there twice");
    /* left recursion */
    refuse_gbnf("root ::= root \"a\" | \"b\"", AWQ_E_UNSUPPORTED,
                "line 1, column 1: left recursion: the rule 'root'");
    refuse_gbnf("root ::= \"x\" a\na ::= b \"y\" | \"z\"\nb ::= \"q\"? a", AWQ_E_UNSUPPORTED, "left recursion");
    refuse_gbnf("root ::= e* root | \"a\"\ne ::= \"\" | \"x\"", AWQ_E_UNSUPPORTED,
                "left recursion: the rule 'root'");
    refuse_gbnf("root ::= \"a\"\nx ::= n n x\nn ::= m?\nm ::= \"m\"", AWQ_E_UNSUPPORTED, "line 2, column 1");
    refuse_gbnf("root ::= root", AWQ_E_UNSUPPORTED, "left recursion");
    /* nothing can be finished */
    refuse_gbnf("root ::= \"a\" root", AWQ_E_ARG, "line 1, column 1: the rule 'root' accepts no text");
    refuse_gbnf("root ::= \"a\" b\nb ::= \"(\" c\nc ::= \")\" b", AWQ_E_ARG, "accepts no text");
    refuse_gbnf("root ::= []", AWQ_E_ARG, "accepts no text");
    expect("root ::= \"a\" root | \"b\" | \"c\" never | [] \"d\"\nnever ::= \"x\" never", NULL, "b|ab||a||c|d");
    /* limits */
    refuse_gbnf("root ::= \"a\"{10001}", AWQ_E_LIMIT, "more than 10000 repetitions");
    refuse_gbnf("root ::= (\"abcdef\"{1000}){1000}", AWQ_E_LIMIT, "take more than 1048576 nodes");
    refuse_gbnf("root ::= (((\"\"{9999}){9999}){9999}){9999}", AWQ_E_LIMIT, "steps");
    s = repeated("root ::= ", "(", 101, "\"a\"");
    refuse_gbnf(s, AWQ_E_LIMIT, "more than 100 parentheses");
    free(s);
    s = repeated("root ::= \"a\"\n", "#\n", 600000, "");
    refuse_gbnf(s, AWQ_E_LIMIT, "grammar: the GBNF has 1200013 bytes, at most 1048576 are read");
    free(s);
    {
        size_t i, n = 0;
        s = (char *)malloc(1 << 20);
        n += (size_t)sprintf(s, "root ::= \"\"\n");
        for (i = 0; i < 65536; i++) n += (size_t)sprintf(s + n, "r%d::=\"\"\n", (int)i);
        refuse_gbnf(s, AWQ_E_LIMIT, "more than 65536 rules");
        for (i = n = 0; i < 600; i++)
            n += (size_t)sprintf(s + n, "%s%d ::= r%d \"x\"\n", i ? "r" : "root ::= r0 \"y\"\nr", (int)i,
                                 (int)i + 1);
        sprintf(s + n, "r600 ::= \"z\"\n");
        refuse_gbnf(s, AWQ_E_LIMIT, "nests rules 601 deep, at most 512");
        free(s);
    }
    /* the description */
    memset(&d, 0, sizeof d);
    refuse(&d, AWQ_E_ARG, "exactly one of gbnf, schema and choices");
    d.gbnf = "root ::= \"a\"", d.schema = "true";
    refuse(&d, AWQ_E_ARG, "exactly one");
    d.schema = NULL, d.memory = 65535;
    refuse(&d, AWQ_E_ARG, "memory is 65535 bytes, expected at least 65536");
    d = desc_of(NULL, NULL);
    d.choices = choice, d.n_choices = 0;
    refuse(&d, AWQ_E_ARG, "exactly one");
    d.n_choices = 2;
    refuse(&d, AWQ_E_ARG, "choice 1 is NULL");
    d.choices = choice + 2, d.n_choices = 1;
    refuse(&d, AWQ_E_ARG, "choice 0 is not UTF-8");
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq_grammar_create(&ctx, NULL, NULL) == AWQ_E_ARG);
    CHECK(awq_grammar_match(&ctx, NULL, "", 0, NULL) == AWQ_E_ARG);
    awq_grammar_free(&ctx, NULL);
}

static void test_choices(void)
{
    static const char *const choices[] = {"go", "gold", "", "go", "a\"\\\nb", "gr\xc3\xbcn", "golden"};
    static char many[5000][8];
    static const char *list[5000];
    awq_grammar_desc d;
    awq_grammar *g = NULL;
    awq_ctx ctx;
    int32_t start, s;
    int i;
    memset(&ctx, 0, sizeof ctx);
    d = desc_of(NULL, NULL);
    d.choices = choices;
    d.n_choices = 7;
    CHECK(!awq_grammar_create(&ctx, &d, &g));
    for (i = 0; i < 7; i++) CHECK(match(&ctx, g, choices[i], strlen(choices[i])) == AWQ_MATCH_WHOLE);
    CHECK(match(&ctx, g, "gol", 3) == AWQ_MATCH_PARTIAL && match(&ctx, g, "g", 1) == AWQ_MATCH_PARTIAL);
    CHECK(!match(&ctx, g, "goldx", 5) && !match(&ctx, g, "o", 1) && match(&ctx, g, "", 0));
    CHECK(!strcmp(awq_grammar_text(g), "root ::= \"go\" | \"gold\" | \"\" | \"go\" | \"a\\\"\\\\\\nb\" | "
                                       "\"gr\xc3\xbcn\" | \"golden\"\n"));
    start = g->start;
    CHECK(start > 0);
    CHECK(awq__gr_accepts(g, start) && !awq__gr_ends(g, start)); /* "" is a choice, others are longer */
    CHECK(!awq__gr_walk(&ctx, g, start, "gold", 4, &s) && awq__gr_accepts(g, s) && !awq__gr_ends(g, s));
    CHECK(!awq__gr_walk(&ctx, g, start, "golden", 6, &s) && awq__gr_accepts(g, s) && awq__gr_ends(g, s));
    CHECK(!awq__gr_walk(&ctx, g, start, "gol", 3, &s) && s && !awq__gr_accepts(g, s) && !awq__gr_ends(g, s));
    CHECK(!awq__gr_walk(&ctx, g, start, "gx", 2, &s) && s == 0);
    CHECK(!step_byte(&ctx, g, 0, 'a', &s) && s == 0 && !awq__gr_accepts(g, 0) && !awq__gr_ends(g, 0));
    awq_grammar_free(&ctx, g);
    for (i = 0; i < 5000; i++) sprintf(many[i], "%d", i * 7), list[i] = many[i];
    d.choices = list;
    d.n_choices = 5000;
    d.memory = 65536; /* 5000 alternatives at once would not fit */
    CHECK(!awq_grammar_create(&ctx, &d, &g));
    for (i = 0; i < 40000; i++) {
        char text[16];
        int n = sprintf(text, "%d", i);
        CHECK((match(&ctx, g, text, (size_t)n) == AWQ_MATCH_WHOLE) == (i % 7 == 0 && i < 35000));
    }
    awq_grammar_free(&ctx, g);
    CHECK(ctx.memory_used == 0);
    { /* each the beginning of the next; and one that is too much */
        char *s1 = repeated("", "a", 1200, "");
        const char **all = (const char **)malloc(1200 * sizeof *all);
        for (i = 0; i < 1200; i++) all[i] = s1 + i;
        d.choices = all;
        d.n_choices = 1200;
        CHECK(!awq_grammar_create(&ctx, &d, &g));
        CHECK(match(&ctx, g, s1, 1200) == AWQ_MATCH_WHOLE && !match(&ctx, g, "b", 1));
        awq_grammar_free(&ctx, g);
        free(s1);
        s1 = repeated("", "abcdefgh", 140000, "");
        all[0] = s1;
        d.n_choices = 1;
        refuse(&d, AWQ_E_LIMIT, "the choices have more than 1 MB together");
        free(s1);
        free((void *)all);
    }
}

static uint32_t dice(uint32_t n)
{
    static uint64_t seed = 1;
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 33) % n;
}

/* Random walks: from every state that is not dead a sentence can be finished. */
static void test_no_dead_ends(void)
{
    static const char *const grammars[] = {
        "root ::= \"(\" root \")\" | \"x\"",
        "root ::= \"[\" (a (\",\" a)*)? \"]\" | \"<\" b \">\"\na ::= root | \"1\"\nb ::= c c\nc ::= d d\nd ::= "
        "root | \"2\"",
        "root ::= \"a\" b | \"q\"\nb ::= \"b\" c \"B\" | \"b\" n\nc ::= \"c\" root \"C\" | \"d\"\nn ::= \"n\" "
        "n",
        "root ::= v\nv ::= \"{\" m \"}\" | \"1\"\nm ::= v v v | \"m\" v \"m\""};
    size_t i;
    for (i = 0; i < sizeof grammars / sizeof grammars[0]; i++) {
        awq_ctx ctx;
        awq_grammar *g;
        int32_t s, next;
        unsigned char live[256];
        int c, n, walk, step, deep = 0;
        memset(&ctx, 0, sizeof ctx);
        g = make(&ctx, grammars[i], NULL);
        for (walk = 0; g && walk < 30; walk++) {
            s = g->start;
            awq__gr_hold(g, s, 1);
            for (step = 0; step < 20000 && s; step++) {
                for (c = n = 0; c < 256; c++) {
                    CHECK(!step_byte(&ctx, g, s, (unsigned char)c, &next));
                    if (next) live[n++] = (unsigned char)c;
                }
                if (!n && !awq__gr_accepts(g, s)) CHECK_MSG(0, "a dead end in %s", grammars[i]);
                if (!n) break;
                c = walk % 2 || step < 600 ? live[dice((uint32_t)n)] : live[0];
                CHECK(!step_byte(&ctx, g, s, (unsigned char)c, &next));
                awq__gr_hold(g, next, 1);
                awq__gr_hold(g, s, -1);
                s = next;
                deep = AWQ__MAX(deep, step);
            }
            awq__gr_hold(g, s, -1);
            if (T.bad) break;
        }
        CHECK(deep > 3);
        awq_grammar_free(&ctx, g);
        CHECK(ctx.memory_used == 0);
    }
    { /* as deep as it goes: the last parenthesis is not allowed, the others can be closed */
        awq_ctx ctx;
        awq_grammar *g;
        char *open = repeated("", "(", 513, ""), *whole = repeated("", "(", 512, "x");
        char *close = repeated(whole, ")", 512, "");
        memset(&ctx, 0, sizeof ctx);
        g = make(&ctx, grammars[0], NULL);
        CHECK(match(&ctx, g, open, 512) == AWQ_MATCH_PARTIAL && !match(&ctx, g, open, 513));
        CHECK(match(&ctx, g, whole, 513) == AWQ_MATCH_PARTIAL);
        CHECK(match(&ctx, g, close, 1025) == AWQ_MATCH_WHOLE);
        awq_grammar_free(&ctx, g);
        free(open), free(whole), free(close);
        /* the last call of a rule needs no stack */
        open = repeated("", "a", 100000, "");
        g = make(&ctx, "root ::= x\nx ::= \"a\" x | \"\"", NULL);
        CHECK(match(&ctx, g, open, 100000) == AWQ_MATCH_WHOLE);
        CHECK(g->n_states < 5);
        awq_grammar_free(&ctx, g);
        free(open);
        CHECK(ctx.memory_used == 0);
    }
}

/* --- schemas */
static void test_schema(void)
{
    expect(NULL,
           "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"},"
           "\"c\":{\"type\":\"null\"}},\"required\":[\"b\"]}",
           "{\"b\":true}|{\"a\":1,\"b\":false}|{ \"a\": -2, \"b\": true, \"c\": null }|{\n  \"b\": true,\n  "
           "\"c\": null\n}"
           "||{|{\"a\":1|{\"b\":true,||{}|{\"a\":1}|{\"b\":true,\"a\":1}|{\"b\":true,}|{\"b\" "
           ":true}|{\"b\":\ntrue}"
           "|{\"b\":true} |{  \"b\":true}|{\"c\":null}|{\"b\":true,\"d\":1}");
    expect(NULL, "{\"type\":\"string\"}",
           "\"\"|\"a\xc3\xa9\"|\"\\\"\\\\\\/"
           "\\b\\f\\n\\r\\t\\u00e9\\ud83d\\uDE00\"||\"|\"\\|\"\\u12|\"\\ud83d|\"\\ud83d\\||\"\n\""
           "|\"\\x|\"\\ud83dx|\"\\udc00|\"\xff|a|\"\" ");
    expect(NULL, "{\"type\":\"number\"}", "0|-0|1.5|-12e-3|1E+10||-|1.|1e||01|.5|+1|1.e|1e100");
    expect(NULL, "{\"enum\":[\"gr\\u00fcn\",\"a\\\"b\\n\",1,null,true,2.5,[1,\"x\"],{\"k\":{}}]}",
           "\"gr\xc3\xbcn\"|\"a\\\"b\\n\"|1|null|true|2.5|[1, \"x\"]|{\"k\": "
           "{}}||\"|2||\"gr\\u00fcn\"|10|false|[1,\"x\"]");
    expect(NULL, "{\"type\":[\"integer\",\"null\"],\"enum\":[1,\"a\",null,2.5]}", "1|null||n||\"a\"|2");
    expect(NULL, "{\"const\":{\"a\":[1]}}", "{\"a\": [1]}||{||{}");
    expect(NULL, "{\"properties\":{\"x\":{\"$ref\":\"#\"},\"v\":{\"type\":\"integer\"}},\"required\":[\"v\"]}",
           "{\"v\":1}|{\"x\":{\"x\":{\"v\":1},\"v\":2},\"v\":3}||{\"x\":{\"v\":1}||{\"x\":{}|{\"v\":1,\"x\"");
    expect(NULL,
           "{\"$ref\":\"#/$defs/tree\",\"$defs\":{\"tree\":{\"type\":\"object\",\"properties\":{\"n\":"
           "{\"type\":\"string\"},\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/tree\"}}},"
           "\"required\":[\"n\",\"kids\"]}}}",
           "{\"n\":\"a\",\"kids\":[]}|{\"n\":\"a\",\"kids\":[{\"n\":\"b\",\"kids\":[]}, "
           "{\"n\":\"c\",\"kids\":[]}]}||"
           "{\"n\":\"a\",\"kids\":[{||{\"n\":\"a\"}|{\"n\":\"a\",\"kids\":[1");
    expect(NULL, "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}",
           "[1]|[1,2]|[ 1, 2, 3 ]||[|[1,||[]|[1,2,3,|[1 ,");
    expect(NULL,
           "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},"
           "\"minItems\":1}",
           "[1]|[1,2]|[1,2,3]|[1,2,3,3,3]||[1,2||[]|[2|[1,3");
    expect(NULL, "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}]}",
           "[1,2]||[1||[1]|[1,2,|[]");
    expect(
        NULL,
        "{\"type\":\"object\",\"properties\":{\"ab\":{\"const\":1},\"a\":{\"const\":2}},"
        "\"additionalProperties\":{\"const\":3}}",
        "{}|{\"ab\":1,\"a\":2,\"\":3,\"b\":3,\"abc\":3,\"aa\":3}|{\"x\":3}|{\"a\":2}||{\"ab||{\"ab\":3|{\"a\":3"
        "|{\"x\":1|{\"x\":3,\"a\":|{\"\\|{\"x\":3,}");
    expect(NULL, "{\"type\":\"string\",\"pattern\":\"^[a-c]{2,3}(x|\\\"\\\\\\\\)?$\"}",
           "\"ab\"|\"abcx\"|\"ab\\\"\\\\\"||\"a||\"a\"|\"abcd|\"abxx");
    expect(NULL, "{\"type\":\"string\",\"pattern\":\"b+c\"}",
           "\"abc\"|\"bbcbb\\n\"|\"bc\"||\"b|\"ac||\"ac\"|\"\"|\"\\u0062c\"|b");
    expect(NULL, "{\"type\":\"string\",\"pattern\":\"^a|b$\"}",
           "\"a\"|\"ax\"|\"xb\"|\"b\"||\"x|\"xa||\"xa\"|x");
    expect(NULL, "{\"type\":\"string\",\"minLength\":1,\"maxLength\":3}",
           "\"a\"|\"\xf0\x9f\x98\x80\\n\\ud83d\\ude00\"||\"|\"abc||\"\"|\"abcd");
    expect(NULL,
           "{\"anyOf\":[{\"type\":\"integer\",\"minimum\":7},{\"type\":\"string\",\"format\":\"date\"},false]}",
           "7|10|\"2024-02-29\"|\"1999-12-31\"||1|6|\"20||06|\"2023-02-29\"|\"1900-02-29\"|\"2024-13|\"2024-04-"
           "31|\"0000-01-01\"");
    expect(NULL, "{\"format\":\"time\"}",
           "\"23:59:59Z\"|\"00:00:00.125+23:59\"||\"12:30:00||\"24|\"12:60|\"12:00:60|\"12:00:00\"");
    expect(NULL, "{\"format\":\"uuid\"}", "\"123e4567-E89b-12d3-a456-426614174000\"||\"123e4567-||\"123e45678");
    expect(NULL, "{\"format\":\"ipv4\"}", "\"0.10.249.255\"||\"1.2.3||\"256|\"01|\"1.2.3\"");
    expect(NULL,
           "{\"allOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1}},\"required\":[\"a\"]},"
           "{\"$ref\":\"#/definitions/b\"}],\"properties\":{\"c\":{\"const\":3}},"
           "\"definitions\":{\"b\":{\"properties\":{\"b\":{\"const\":2}}}}}",
           "{\"a\":1}|{\"c\":3,\"a\":1,\"b\":2}||{||{\"b\"|{\"a\":1,\"c\"|{}");
    expect(NULL, "true", "1|\"a\"|[{\"a\": [null, -1.5e3]}, {}]|{ }|[ ]||[|{\"a\"||x|[1,]|{,}");
    expect(NULL, "{\"type\":\"object\"}", "{}|{\"a\": 1, \"b\": {}}||{\"a\":||[]");
    expect(NULL, "{\"type\":\"object\",\"properties\":{}}", "{}|{ }||{||{\"");
    expect(NULL, "{\"type\":\"object\",\"required\":[\"x\"]}", "{\"x\":1}||{||{}|{\"y\"");
    expect(NULL, "{\"anyOf\":[{\"type\":\"number\",\"exclusiveMinimum\":0.5,\"maximum\":12}]}",
           "0.51|0.6|1|2.0|11.999|12|12.00||0.5|0.50|1.||0.4|-1|12.01|13|00.6|6e");
    expect(NULL, "{\"type\":\"number\",\"minimum\":-1.25,\"exclusiveMaximum\":1}",
           "-1.25|-1.2|-1|-0.5|0|0.99|-1.250||-||-1.26|-2|1|0.e|1.0");
}

/* every integer around the bounds, written out */
static void test_integer_ranges(void)
{
    static const int bounds[][2] = {{0, 0},     {0, 9},     {0, 10},    {5, 5},        {7, 123},
                                    {99, 101},  {100, 999}, {-5, 5},    {-123, -7},    {-1000, 1000},
                                    {1, 2000},  {-999, 0},  {123, 456}, {190, 1203},   {-1, 0},
                                    {-20, -20}, {9, 1100},  {500, 501}, {-1999, -1000}};
    size_t i;
    for (i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        int lo = bounds[i][0], hi = bounds[i][1], open, v, wrong = 0;
        for (open = 0; open < 4; open++) { /* both, no upper, no lower, exclusive ones */
            awq_ctx ctx;
            awq_grammar *g;
            char schema[200], text[32];
            memset(&ctx, 0, sizeof ctx);
            if (open == 0) sprintf(schema, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}", lo, hi);
            if (open == 1) sprintf(schema, "{\"type\":\"integer\",\"minimum\":%d.0}", lo);
            if (open == 2) sprintf(schema, "{\"type\":\"integer\",\"maximum\":%d.5}", hi < 0 ? hi - 1 : hi);
            if (open == 3)
                sprintf(schema, "{\"type\":\"integer\",\"exclusiveMinimum\":%d,\"exclusiveMaximum\":%d}",
                        lo - 1, hi + 1);
            g = make(&ctx, NULL, schema);
            if (!g) continue;
            for (v = -2500; v <= 2500; v++) {
                int in = (open == 2 || v >= lo) && (open == 1 || v <= (open == 2 && hi < 0 ? hi - 2 : hi));
                int n = sprintf(text, "%d", v);
                wrong += (match(&ctx, g, text, (size_t)n) == AWQ_MATCH_WHOLE) != in;
                n = sprintf(text, "%s0%d", v < 0 ? "-" : "", abs(v));
                wrong += match(&ctx, g, text, (size_t)n) == AWQ_MATCH_WHOLE;
            }
            CHECK_MSG(wrong == 0, "%s: %d", schema, wrong);
            awq_grammar_free(&ctx, g);
            CHECK(ctx.memory_used == 0);
        }
    }
    expect(NULL, "{\"type\":\"integer\",\"minimum\":-9223372036854775808,\"maximum\":9223372036854775807}",
           "0|-9223372036854775808|9223372036854775807||-||-9223372036854775809|9223372036854775808|00");
    expect(NULL, "{\"type\":\"integer\",\"minimum\":9223372036854775807}",
           "9223372036854775807|9300000000000000000||9||"
           "9223372036854775806|1e");
    expect(NULL,
           "{\"type\":\"integer\",\"minimum\":3,\"exclusiveMinimum\":5,\"maximum\":9,\"exclusiveMaximum\":12}",
           "6|7|9||||5|3|10|11");
    expect(NULL, "{\"type\":\"integer\",\"minimum\":0}", "0|10|999999999999999999||||-|01|9999999999999999999");
}

static void test_many_properties(void)
{
    awq_ctx ctx;
    awq_grammar *g;
    char *schema = (char *)malloc(10000), text[4000];
    size_t n = 0, size;
    int i, k;
    memset(&ctx, 0, sizeof ctx);
    n += (size_t)sprintf(schema, "{\"type\":\"object\",\"properties\":{");
    for (i = 0; i < 60; i++) n += (size_t)sprintf(schema + n, "%s\"p%d\":{\"const\":%d}", i ? "," : "", i, i);
    sprintf(schema + n, "}}");
    g = make(&ctx, NULL, schema);
    size = g ? strlen(awq_grammar_text(g)) : 0;
    CHECK_MSG(size && size < 6000, "%d bytes of GBNF", (int)size);
    for (k = 0; g && k < 2000; k++) { /* any of them in order; then one that is out of order */
        int last = -1, some = 0;
        n = (size_t)sprintf(text, "{");
        for (i = 0; i < 60; i++)
            if (dice((uint32_t)k % 7 + 1) == 0)
                n += (size_t)sprintf(text + n, "%s\"p%d\":%d", some++ ? "," : "", i, i), last = i;
        text[n] = '}';
        CHECK(match(&ctx, g, text, n + 1) == AWQ_MATCH_WHOLE);
        if (last < 0) continue;
        n += (size_t)sprintf(text + n, ",\"p%d\":%d}", (int)dice((uint32_t)last + 1), last);
        CHECK(match(&ctx, g, text, n) == AWQ_MATCH_NO);
    }
    awq_grammar_free(&ctx, g);
    free(schema);
    CHECK(ctx.memory_used == 0);
}

static void test_refused_schema(void)
{
    static const char *const unknown[] = {"not",
                                          "if",
                                          "then",
                                          "else",
                                          "patternProperties",
                                          "propertyNames",
                                          "contains",
                                          "minProperties",
                                          "maxProperties",
                                          "dependentRequired",
                                          "multipleOf",
                                          "unevaluatedProperties",
                                          "uniqueItems",
                                          "additionalItems",
                                          "$anchor",
                                          "nullable",
                                          "contentEncoding",
                                          "x-own"};
    static const char *const formats[] = {"email", "uri", "hostname", "ipv6", "regex", "duration", "Date"};
    static const char *const patterns[] = {"a(?=b)", "(?<x>a)", "\\\\bword", "(a)\\\\1", "\\\\p{L}",
                                           "a**",    "*a",      "a^b",       "a$b",      "x{a}",
                                           "(^a$)",  "a++",     "\\\\ud83d"};
    static const char *const broken[] = {"(a",     "a)",     "[a",           "a\\\\",    "[b-a]",
                                         "a{3,2}", "\\\\x4", "\\\\u{1F600}", "[\\\\d-z]"};
    char text[4000];
    size_t i, n;
    for (i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        char words[100];
        sprintf(text, "{\"properties\":{\"x/y\":{\"type\":\"array\",\"items\":{\"%s\":1}}}}", unknown[i]);
        sprintf(words, "schema: #/properties/x/y/items: the keyword '%s' is not supported", unknown[i]);
        refuse_schema(text, AWQ_E_UNSUPPORTED, words);
    }
    for (i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        sprintf(text, "{\"anyOf\":[true,{\"format\":\"%s\"}]}", formats[i]);
        refuse_schema(text, AWQ_E_UNSUPPORTED, "schema: #/anyOf/1: the format '");
        CHECK(strlen(text) > 0);
    }
    for (i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        sprintf(text, "{\"pattern\":\"%s\"}", patterns[i]);
        if (strchr(patterns[i], '{') && patterns[i][0] == 'x')
            refuse_schema(text, AWQ_E_FORMAT, "expected {2}");
        else refuse_schema(text, AWQ_E_UNSUPPORTED, "schema: #/pattern: ");
    }
    for (i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        sprintf(text, "{\"pattern\":\"%s\"}", broken[i]);
        refuse_schema(text, AWQ_E_FORMAT, "schema: #/pattern: ");
    }
    refuse_schema("{", AWQ_E_FORMAT, "schema: not valid JSON at byte 1");
    refuse_schema("1", AWQ_E_FORMAT, "schema: #: expected a schema");
    refuse_schema("{\"items\":3,\"type\":\"array\"}", AWQ_E_FORMAT, "schema: #/items: expected a schema");
    refuse_schema("{\"items\":[{}],\"type\":\"array\"}", AWQ_E_UNSUPPORTED,
                  "schema: #/items: a list is not supported");
    refuse_schema("{\"type\":\"int\"}", AWQ_E_FORMAT, "schema: #/type: expected null, boolean");
    refuse_schema("{\"type\":[\"string\",3]}", AWQ_E_FORMAT, "#/type");
    refuse_schema("{\"type\":[]}", AWQ_E_FORMAT, "#/type: expected null");
    refuse_schema("{\"type\":\"string\",\"type\":\"string\"}", AWQ_E_FORMAT, "'type' is there twice");
    refuse_schema("{\"enum\":3}", AWQ_E_FORMAT, "#/enum: expected a list");
    refuse_schema("{\"enum\":[1],\"minimum\":0}", AWQ_E_UNSUPPORTED, "'minimum' beside 'enum'");
    refuse_schema("{\"anyOf\":[true],\"type\":\"string\"}", AWQ_E_UNSUPPORTED, "'type' beside 'anyOf'");
    refuse_schema("{\"anyOf\":[]}", AWQ_E_FORMAT, "#/anyOf: expected a list of schemas");
    refuse_schema("{\"$ref\":\"#\",\"type\":\"string\"}", AWQ_E_UNSUPPORTED, "'type' beside '$ref'");
    refuse_schema("{\"$ref\":\"#/$defs/x\"}", AWQ_E_FORMAT, "schema: #/$ref: there is no '#/$defs/x'");
    refuse_schema("{\"$ref\":\"http://x\"}", AWQ_E_UNSUPPORTED, "'http://x' is not a place in this schema");
    refuse_schema("{\"$ref\":\"#a\"}", AWQ_E_UNSUPPORTED, "'#a' is not a place");
    refuse_schema("{\"$ref\":3}", AWQ_E_FORMAT, "#/$ref");
    refuse_schema(
        "{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"anyOf\":[{\"$ref\":"
        "\"#/$defs/a\"},{}]}}}",
        AWQ_E_UNSUPPORTED, "left recursion: the rule 'a-");
    refuse_schema("{\"minLength\":-1}", AWQ_E_FORMAT, "#/minLength: expected an integer from 0 on");
    refuse_schema("{\"maxItems\":20000}", AWQ_E_LIMIT, "#/maxItems: 20000 is more than the 10000");
    refuse_schema("{\"pattern\":\"a\",\"minLength\":1}", AWQ_E_UNSUPPORTED, "'minLength' beside 'pattern'");
    refuse_schema("{\"format\":\"date\",\"pattern\":\"a\"}", AWQ_E_UNSUPPORTED, "'format' beside 'pattern'");
    refuse_schema("{\"pattern\":\"a{10001}\"}", AWQ_E_LIMIT, "#/pattern: more than 10000 times");
    refuse_schema("{\"minimum\":\"a\"}", AWQ_E_FORMAT, "#/minimum: expected a number");
    refuse_schema("{\"type\":\"integer\",\"minimum\":1e30}", AWQ_E_UNSUPPORTED,
                  "#/minimum: a bound of an integer beyond");
    refuse_schema("{\"type\":\"number\",\"minimum\":0.1234567890123456789}", AWQ_E_UNSUPPORTED,
                  "more than 15 digits");
    refuse_schema("{\"properties\":3}", AWQ_E_FORMAT, "#/properties: expected an object");
    refuse_schema("{\"required\":[1]}", AWQ_E_FORMAT, "#/required: expected a list of names");
    refuse_schema("{\"properties\":{\"a\":{},\"a\":{}}}", AWQ_E_UNSUPPORTED,
                  "#/properties/a: the property is there twice");
    refuse_schema("{\"allOf\":[{\"type\":\"string\"},{}]}", AWQ_E_UNSUPPORTED,
                  "#/allOf/0: 'allOf' of other things");
    refuse_schema(
        "{\"allOf\":[{\"properties\":{\"a\":{}}},{\"properties\":{},\"additionalProperties\":false}]}",
        AWQ_E_UNSUPPORTED, "#/allOf/1: 'additionalProperties' inside 'allOf'");
    refuse_schema("{\"allOf\":[{\"$ref\":\"#/allOf/0\"}, {}]}", AWQ_E_FORMAT, "$ref leads nowhere");
    /* nothing validates */
    refuse_schema("false", AWQ_E_ARG, "accepts no text");
    refuse_schema("{\"enum\":[]}", AWQ_E_ARG, "accepts no text");
    refuse_schema("{\"minLength\":3,\"maxLength\":2}", AWQ_E_ARG, "accepts no text");
    refuse_schema("{\"minItems\":3,\"maxItems\":2}", AWQ_E_ARG, "accepts no text");
    refuse_schema("{\"type\":\"integer\",\"minimum\":4,\"maximum\":3}", AWQ_E_ARG, "accepts no text");
    refuse_schema("{\"type\":\"number\",\"minimum\":3,\"exclusiveMaximum\":3}", AWQ_E_ARG, "accepts no text");
    refuse_schema("{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", AWQ_E_ARG,
                  "GBNF of the schema, line 1, column 1: the rule 'root' accepts no text");
    { /* limits */
        char *s = repeated("", " ", 1100000, "true");
        refuse_schema(s, AWQ_E_LIMIT, "grammar: the schema has 1100004 bytes");
        free(s);
        n = (size_t)sprintf(text, "{\"pattern\":\"");
        for (i = 0; i < 101; i++) text[n++] = '(';
        sprintf(text + n, "\"}");
        refuse_schema(text, AWQ_E_LIMIT, "more than 100 parentheses");
        n = (size_t)sprintf(text, "{\"pattern\":\"[");
        for (i = 0; i < 129; i++) n += (size_t)sprintf(text + n, "a");
        sprintf(text + n, "]\"}");
        refuse_schema(text, AWQ_E_LIMIT, "a class of more ranges");
        s = repeated("{\"pattern\":\"^", "a{9000}", 150, "$\"}");
        refuse_schema(s, AWQ_E_LIMIT, "nodes");
        free(s);
        s = repeated("{\"pattern\":\"", "\\\\S", 60000, "\"}");
        refuse_schema(s, AWQ_E_LIMIT, "schema: #: the rules made so far have more than 8 MB");
        free(s);
    }
}

/* --- tokens */
static const char *beside(const char *name) /* tests/data/name */
{
    static char path[1024];
    const char *here = __FILE__, *end = here + strlen(here);
    while (end > here && end[-1] != '/' && end[-1] != '\\') end--;
    snprintf(path, sizeof path, "%.*sdata/%s", (int)(end - here), here, name);
    return path;
}

static const char *const json_schema = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},"
                                       "\"age\":{\"type\":\"integer\",\"minimum\":0},"
                                       "\"tags\":{\"type\":\"array\",\"items\":{\"enum\":[\"red\","
                                       "\"gr\\u00fcn\"]}},\"more\":{}},\"required\":[\"name\"]}";

/* mask and token_fits against the bytes of every token walked alone */
static void check_mask(awq_ctx *ctx, awq_grammar *g, int32_t state, int at_start, const awq__gr_vocab *v)
{
    uint32_t *mask = (uint32_t *)malloc((size_t)(v->size + 31) / 32 * 4);
    int64_t count = -1, n = 0;
    int32_t id, next, fits;
    int wrong = 0;
    awq__gr_hold(g, state, 1);
    CHECK(!awq__gr_mask(ctx, g, state, at_start, v, mask, &count));
    for (id = 0; id < v->size; id++) {
        size_t bytes, skip;
        const char *s = awq__gr_token(v, id, &bytes);
        skip = at_start && bytes && s[0] == ' ' && awq__gr_drops_space(v);
        CHECK(!awq__gr_walk(ctx, g, state, s + skip, bytes - skip, &next));
        if (!bytes) next = 0;
        if (at_start && v->drops > 1 && bytes && memchr(s + 1, ' ', bytes - 1)) next = 0;
        CHECK(!awq__gr_token_fits(ctx, g, state, at_start, v, id, &fits));
        wrong += (mask[id >> 5] >> (id & 31) & 1) != (next != 0) || (fits != 0) != (next != 0);
        n += next != 0;
    }
    for (id = (int32_t)v->size; id % 32; id++) wrong += mask[id >> 5] >> (id & 31) & 1;
    CHECK_MSG(wrong == 0 && n == count, "%d of %d tokens, count %d", wrong, (int)n, (int)count);
    awq__gr_hold(g, state, -1);
    free(mask);
}

static void check_masks(awq_ctx *ctx, const awq_tokenizer *t, int64_t vocab_size)
{
    static const char *const texts[] = {"",
                                        "{",
                                        "{\"",
                                        "{\"name\"",
                                        "{\"name\":",
                                        "{\"name\": \"",
                                        "{\"name\":\"Ab\xc3",
                                        "{\"name\":\"\xe2\x82\xac\\",
                                        "{\"name\":\"x\",\"age\":1",
                                        "{\"name\":\"x\"}",
                                        "{\"name\":\"x\",\"tags\":[\"",
                                        "{\"name\":\"x\", \"more\":[1, {",
                                        "x"};
    awq__gr_vocab *v = NULL;
    size_t memory;
    if (awq__gr_vocab_create(ctx, t, vocab_size, &v)) {
        CHECK_MSG(0, "%s", ctx->err.text);
        return;
    }
    for (memory = 65536; memory <= (size_t)16 << 20; memory *= 16) {
        awq_grammar_desc d = desc_of(NULL, json_schema);
        awq_grammar *g = NULL;
        int32_t s;
        size_t i;
        d.memory = memory;
        CHECK(!awq_grammar_create(ctx, &d, &g));
        for (i = 0; g && i < 2 * sizeof texts / sizeof texts[0]; i++) { /* the second time from what is kept */
            const char *text = texts[i / 2];
            CHECK(!awq__gr_walk(ctx, g, g->start, text, strlen(text), &s));
            check_mask(ctx, g, s, 0, v);
            if (!*text) check_mask(ctx, g, s, 1, v);
        }
        awq_grammar_free(ctx, g);
    }
    awq__gr_vocab_free(ctx, v);
}

/* the bytes of tokens together are what decoding gives, but for a leading space and U+FFFD */
static void check_bytes(const char *name, awq_ctx *ctx, const awq_tokenizer *t, const awq__gr_vocab *v,
                        const int32_t *ids, size_t n)
{
    char *text = (char *)malloc(1 << 20), *joined = (char *)malloc(1 << 20);
    const unsigned char *u = (const unsigned char *)joined;
    size_t bytes = 0, all = 0, i, k, len = 0;
    CHECK(!awq_decode(ctx, t, ids, n, 1, text, 1 << 20, &bytes));
    for (i = 0; i < n; i++) {
        const char *s = awq__gr_token(v, ids[i], &len);
        memcpy(joined + all, s, len);
        all += len;
    }
    i = k = 0;
    if (awq__gr_drops_space(v) && all && u[0] == ' ') i = 1;
    while (i < all && k < bytes) {
        len = (size_t)awq__utf8_len(u + i, all - i);
        if (len && k + len <= bytes && !memcmp(u + i, text + k, len)) i += len, k += len;
        else if (k + 3 <= bytes && !memcmp(text + k, "\xef\xbf\xbd", 3))
            i += 1, k += 3; /* one for bytes that are not UTF-8 */
        else if (!len) i++;
        else break;
    }
    while (i < all && !awq__utf8_len(u + i, all - i)) i++;
    CHECK_MSG(i == all && k == bytes, "%s: '%.60s' is not '%.*s'", name, text, (int)AWQ__MIN(all, (size_t)60),
              joined);
    free(text);
    free(joined);
}

static void check_expected(const char *name, awq_ctx *ctx, const awq_tokenizer *t, const char *path)
{
    awq__gr_vocab *v = NULL;
    awq__json j;
    awq_ctx plain; /* the expectations lie on disk even if the tokenizer is in memory */
    uint32_t list, i, k;
    int n_lists = 0, part;
    memset(&plain, 0, sizeof plain);
    if (awq__json_load(&plain, path, (size_t)1 << 28, &j)) {
        CHECK_MSG(0, "%s", plain.err.text);
        return;
    }
    CHECK(!awq__gr_vocab_create(ctx, t, awq_tokenizer_vocab_size(t) + 5, &v));
    for (part = 0; part < 2 && v; part++)
        for (i = awq__json_first(&j, awq__json_get(&j, 1, part ? "streams" : "cases")); i;
             i = awq__json_next(&j, i)) {
            size_t n = 0;
            int32_t *ids;
            list = awq__json_get(&j, i, "ids_with_special");
            if (!list) list = awq__json_get(&j, i, "ids");
            ids = (int32_t *)malloc((awq__json_count(&j, list) + 1) * sizeof *ids);
            for (k = awq__json_first(&j, list); k; k = awq__json_next(&j, k))
                ids[n++] = (int32_t)j.nodes[k].v.i;
            if (n < 20000) check_bytes(name, ctx, t, v, ids, n);
            n_lists++;
            free(ids);
        }
    CHECK_MSG(n_lists > 20, "%s: %d texts", name, n_lists);
    awq__gr_vocab_free(ctx, v);
    awq__json_free(&plain, &j);
}

static void test_tokens(void)
{
    static const char *const names[] = {"tok_bytes", "tok_mark"};
    int i;
    for (i = 0; i < 2; i++) {
        awq_ctx ctx;
        awq_tokenizer *t = NULL;
        char path[64];
        memset(&ctx, 0, sizeof ctx);
        CHECK(!awq_tokenizer_load(&ctx, beside(names[i]), &t));
        if (!t) continue;
        sprintf(path, "%s/expected.json", names[i]);
        check_expected(names[i], &ctx, t, beside(path));
        check_masks(&ctx, t, awq_tokenizer_vocab_size(t) + (i ? 7 : -100));
        awq_tokenizer_free(&ctx, t);
        CHECK(ctx.memory_used == 0);
    }
}

/* a tokenizer in memory with this decoder */
typedef struct tiny {
    char json[4096];
    awq_memory_file file;
    awq_memory_list list;
    awq_ctx ctx;
    awq_tokenizer *t;
} tiny;

#define MARK "\xe2\x96\x81"
static void tiny_make(tiny *y, const char *decoder)
{
    memset(y, 0, sizeof *y);
    sprintf(
        y->json,
        "{\"version\":\"1.0\",%s\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},{\"id\":20,"
        "\"content\":\"<tool>\",\"special\":false}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"" MARK
        "\":1,\"" MARK "a\":2,\"a\":3,\"b\":4,\"ab\":5,\"" MARK MARK "a\":6,\"" MARK "a" MARK
        "b\":7,\"<0xC3>\":8,\"<0xA9>\":9,"
        "\"<0x61>\":10,\"\\u00e9\":11,\"<\":12,\" a\":13},\"merges\":[]}}",
        decoder);
    y->file.path = "m/tokenizer.json";
    y->file.data = y->json;
    y->file.bytes = strlen(y->json);
    y->list.files = &y->file;
    y->list.count = 1;
    y->ctx.files = awq_memory_files(&y->list);
    if (awq_tokenizer_load(&y->ctx, "m", &y->t)) CHECK_MSG(0, "%s", y->ctx.err.text);
}

/* the ids that the mask of `gbnf` has, "1 2 3" */
static const char *mask_text(tiny *y, const char *gbnf, int at_start)
{
    static char out[256];
    awq_grammar *g = make(&y->ctx, gbnf, NULL);
    awq__gr_vocab *v = NULL;
    uint32_t mask[2] = {~0u, ~0u};
    int64_t count = 0, n = 0;
    int32_t s, id;
    char *p = out;
    *out = 0;
    CHECK(!awq__gr_vocab_create(&y->ctx, y->t, 40, &v));
    s = g->start;
    check_mask(&y->ctx, g, s, at_start, v);
    CHECK(!awq__gr_mask(&y->ctx, g, s, at_start, v, mask, &count));
    for (id = 0; id < 40; id++)
        if (mask[id / 32] >> id % 32 & 1) p += sprintf(p, n++ ? " %d" : "%d", (int)id);
    CHECK(n == count);
    awq__gr_vocab_free(&y->ctx, v);
    awq_grammar_free(&y->ctx, g);
    return out;
}

#define CHECK_MASK(gbnf, at_start, want)                                    \
    do {                                                                    \
        const char *got_ = mask_text(&y, gbnf, at_start);                   \
        CHECK_MSG(!strcmp(got_, want), "'%s' instead of '%s'", got_, want); \
    } while (0)

static void test_spaces_at_start(void)
{
    static const char strip[] =
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
        "{\"String\":\"" MARK "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":"
        "\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},";
    static const char meta[] =
        "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"prepend_scheme\":"
        "\"always\",\"split\":true},";
    static tiny y;
    awq__gr_vocab *v = NULL;
    size_t n;
    tiny_make(&y, strip);
    CHECK_MASK("root ::= \"ab\"", 0, "3 5 10");
    CHECK_MASK("root ::= \"ab\"", 1, "1 2 3 5 10 13");
    CHECK_MASK("root ::= \" a b\"", 0, "1 2 7 13");
    CHECK_MASK("root ::= \" a b\"", 1, "1 6"); /* their second space is the text's first */
    CHECK_MASK("root ::= \"\xc3\xa9\"", 0, "8 11");
    CHECK_MASK("root ::= \"<tool>\"", 0, "12 20");
    CHECK_MASK("root ::= \"<s>\"", 0, "12"); /* special tokens have no text */
    CHECK_MASK("root ::= \"\"", 0, "");
    CHECK_MASK("root ::= \"\"", 1, "1");
    CHECK(!awq__gr_vocab_create(&y.ctx, y.t, 40, &v) && awq__gr_drops_space(v));
    CHECK(!memcmp(awq__gr_token(v, 8, &n), "\xc3", 1) && n == 1);
    CHECK(awq__gr_token(v, 39, &n) && n == 0 && awq__gr_token(v, 40, &n) && n == 0 && awq__gr_token(v, -1, &n)
          && n == 0);
    awq__gr_vocab_free(&y.ctx, v);
    v = NULL;
    CHECK(awq__gr_vocab_create(&y.ctx, y.t, 0, &v) == AWQ_E_ARG && !v);
    CHECK(strstr(y.ctx.err.text, "a vocabulary of 0 tokens") != NULL);
    awq_tokenizer_free(&y.ctx, y.t);
    CHECK(y.ctx.memory_used == 0);
    tiny_make(&y, meta);
    CHECK_MASK("root ::= \" a b\" | \"ab\"", 0, "1 2 3 5 7 13"); /* this decoder leaves <0x61> alone */
    CHECK_MASK("root ::= \" a b\" | \"ab\"", 1, "1 2 3 5 13");   /* it would make ab of 7, a of 6 */
    awq_tokenizer_free(&y.ctx, y.t);
    CHECK(y.ctx.memory_used == 0);
    tiny_make(&y, "");
    CHECK(awq__gr_vocab_create(&y.ctx, y.t, 40, &v) == AWQ_E_UNSUPPORTED && !v);
    CHECK(strstr(y.ctx.err.text, "decoder") != NULL);
    awq_tokenizer_free(&y.ctx, y.t);
    tiny_make(
        &y,
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":"
        "\" \",\"start\":0,\"stop\":1}]},");
    CHECK(awq__gr_vocab_create(&y.ctx, y.t, 40, &v) == AWQ_E_UNSUPPORTED && !v);
    awq_tokenizer_free(&y.ctx, y.t);
    CHECK(y.ctx.memory_used == 0);
}

/* --- full tables */
static void test_small_memory(void)
{
    static const char *const grammars[] = {
        NULL, /* json_schema */
        "root ::= (\"a\" | \"b\"){0,300} \"c\"",
        "root ::= v\nv ::= \"[\" (v (\",\" v)*)? \"]\" | \"<\" v \">\" | [a-z]{1,100} \"!\""};
    awq_ctx ctx;
    awq_tokenizer *t = NULL;
    awq__gr_vocab *v = NULL;
    uint32_t *mask[2];
    size_t k, words;
    memset(&ctx, 0, sizeof ctx);
    CHECK(!awq_tokenizer_load(&ctx, beside("tok_bytes"), &t));
    CHECK(!awq__gr_vocab_create(&ctx, t, 3000, &v));
    words = (3000 + 31) / 32;
    mask[0] = (uint32_t *)malloc(words * 4), mask[1] = (uint32_t *)malloc(words * 4);
    for (k = 0; v && k < 3; k++) {
        awq_grammar *g[2] = {NULL, NULL};
        int32_t s[2], held = 0, next, id;
        int64_t n[2];
        int i, step, dropped = 0;
        char text[16] = "";
        for (i = 0; i < 2; i++) {
            awq_grammar_desc d = desc_of(grammars[k], grammars[k] ? NULL : json_schema);
            d.memory = i ? (size_t)32 << 20 : 65536;
            CHECK(!awq_grammar_create(&ctx, &d, &g[i]));
            s[i] = g[i]->start;
            awq__gr_hold(g[i], s[i], 1);
        }
        for (step = 0; step < 400; step++) {
            uint32_t before = g[0]->n_states;
            for (i = 0; i < 2; i++)
                CHECK_MSG(!awq__gr_mask(&ctx, g[i], s[i], 0, v, mask[i], &n[i]), "%s", ctx.err.text);
            CHECK_MSG(n[0] == n[1] && !memcmp(mask[0], mask[1], words * 4),
                      "grammar %d, step %d: %d and %d tokens", (int)k, step, (int)n[0], (int)n[1]);
            dropped += g[0]->n_states < before;
            if (T.bad || (!n[0] && !awq__gr_accepts(g[0], s[0]))) break;
            if (step == 3) { /* a state and its text that stay while others come and go */
                held = s[0];
                awq__gr_hold(g[0], held, 1);
            }
            if (!n[0]) { /* once more from the beginning */
                for (i = 0; i < 2; i++) {
                    awq__gr_hold(g[i], s[i], -1);
                    s[i] = g[i]->start;
                    awq__gr_hold(g[i], s[i], 1);
                }
                continue;
            }
            for (id = (int32_t)dice(3000); !(mask[0][id >> 5] >> (id & 31) & 1); id = (id + 1) % 3000)
                ;
            for (i = 0; i < 2; i++) {
                CHECK(!awq__gr_token_fits(&ctx, g[i], s[i], 0, v, id, &next) && next);
                awq__gr_hold(g[i], next, 1);
                awq__gr_hold(g[i], s[i], -1);
                s[i] = next;
            }
            CHECK(awq__gr_accepts(g[0], s[0]) == awq__gr_accepts(g[1], s[1]));
            CHECK(awq__gr_ends(g[0], s[0]) == awq__gr_ends(g[1], s[1]));
        }
        CHECK_MSG(dropped > 0, "grammar %d: the table was never emptied", (int)k);
        if (held) check_mask(&ctx, g[0], held, 0, v);
        (void)text;
        for (i = 0; i < 2; i++) awq_grammar_free(&ctx, g[i]);
    }
    free(mask[0]);
    free(mask[1]);
    awq__gr_vocab_free(&ctx, v);
    awq_tokenizer_free(&ctx, t);
    CHECK(ctx.memory_used == 0);
}

static void test_out_of_room(void)
{
    awq_ctx ctx;
    awq_grammar_desc d = desc_of("root ::= [a-z]{0,5000}", NULL);
    awq_grammar *g = NULL;
    awq_match m;
    awq_status st = AWQ_OK;
    char text[64];
    int32_t s, next;
    int i;
    memset(&ctx, 0, sizeof ctx);
    d.memory = 65536;
    CHECK(!awq_grammar_create(&ctx, &d, &g));
    s = g->start;
    for (i = 0; i < 5000; i++) { /* every state is held */
        st = step_byte(&ctx, g, s, 'a', &next);
        if (st) break;
        awq__gr_hold(g, next, 1);
        s = next;
    }
    CHECK_MSG(st == AWQ_E_LIMIT && i > 20 && strstr(ctx.err.text, "states in use"), "%s after %d: %s",
              awq_status_name(st), i, ctx.err.text);
    for (i = 1; i <= (int)g->max_states; i++) g->states[i].hold = i == g->start;
    CHECK(!step_byte(&ctx, g, g->start, 'a', &next) && next); /* and goes on once they are let go */
    awq_grammar_free(&ctx, g);
    /* 2^n stacks after n bytes */
    d.gbnf = "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"x\"";
    d.memory = 0;
    CHECK(!awq_grammar_create(&ctx, &d, &g));
    memset(text, 'a', sizeof text);
    st = awq_grammar_match(&ctx, g, text, 60, &m);
    CHECK_MSG(st == AWQ_E_LIMIT && strstr(ctx.err.text, "ways at once"), "%s: %s", awq_status_name(st),
              ctx.err.text);
    CHECK(match(&ctx, g, "aaxbc", 5) == AWQ_MATCH_WHOLE); /* still of use */
    awq_grammar_free(&ctx, g);
    { /* some thousand ways at each of some thousand bytes */
        char *all = repeated("", "a", 5000, "");
        d.gbnf = "root ::= x x\nx ::= [a-z]{0,2500}";
        d.memory = (size_t)32 << 20;
        CHECK(!awq_grammar_create(&ctx, &d, &g));
        st = awq_grammar_match(&ctx, g, all, 5000, &m);
        CHECK_MSG(st == AWQ_E_LIMIT && strstr(ctx.err.text, "takes more than"), "%s: %s", awq_status_name(st),
                  ctx.err.text);
        CHECK(match(&ctx, g, all, 100) == AWQ_MATCH_WHOLE);
        awq_grammar_free(&ctx, g);
        free(all);
    }
    d.memory = 65536; /* more alternatives than the first state can have */
    {
        char *all = (char *)malloc(20000);
        size_t n = (size_t)sprintf(all, "root ::= a0");
        for (i = 1; i < 600; i++) n += (size_t)sprintf(all + n, " | a%d", i);
        for (i = 0; i < 600; i++) n += (size_t)sprintf(all + n, "\na%d ::= \"%d\"", i, i);
        d.gbnf = all;
        refuse(&d, AWQ_E_LIMIT, "first state");
        free(all);
    }
    CHECK(ctx.memory_used == 0);
}

/* create, vocabulary, mask with the k-th allocation failing; masks and steps make none */
static void test_failures(void)
{
    static const char *const choices[] = {"go", "gold"};
    int kind;
    for (kind = 0; kind < 3; kind++) {
        long k;
        for (k = 0;; k++) {
            fail_alloc f = {-1, 0, 0};
            awq_ctx ctx;
            awq_tokenizer *t = NULL;
            awq_grammar_desc d =
                desc_of(kind == 1 ? "root ::= \"a\" b*\nb ::= [c-z]{2} (\"x\" | \"y\")" : NULL,
                        kind == 0 ? "{\"type\":\"object\",\"properties\":{\"a\":{\"pattern\":\"b\"},\"d\":"
                                    "{\"$ref\":\"#/properties/a\"}},\"additionalProperties\":true}"
                                  : NULL);
            awq_grammar *g = NULL;
            awq__gr_vocab *v = NULL;
            awq_status st;
            uint32_t mask[100];
            int64_t count;
            size_t live;
            memset(&ctx, 0, sizeof ctx);
            if (kind == 2) d.choices = choices, d.n_choices = 2;
            d.memory = 65536;
            ctx.allocator = fail_allocator(&f);
            CHECK(!awq_tokenizer_load(&ctx, beside("tok_mark"), &t));
            live = f.live;
            f.calls = 0;
            f.fail_at = k;
            st = awq_grammar_create(&ctx, &d, &g);
            if (!st) st = awq__gr_vocab_create(&ctx, t, 3000, &v);
            CHECK_MSG(st == (f.calls > k ? AWQ_E_MEMORY : AWQ_OK), "allocation %ld: %s", k,
                      awq_status_name(st));
            if (!st) {
                long calls = f.calls;
                CHECK(!awq__gr_mask(&ctx, g, g->start, 1, v, mask, &count) && count > 0);
                CHECK(match(&ctx, g, "{", 1) == (kind ? AWQ_MATCH_NO : AWQ_MATCH_PARTIAL));
                CHECK(f.calls == calls);
            }
            CHECK(st ? !v : g && v);
            awq__gr_vocab_free(&ctx, v);
            awq_grammar_free(&ctx, g);
            CHECK(f.live == live);
            awq_tokenizer_free(&ctx, t);
            CHECK(f.live == 0 && ctx.memory_used == 0);
            if (f.calls <= k || T.bad) break;
        }
        CHECK(k > 10);
    }
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

static void test_models(void)
{
    static const char *const names[] = {
        "llama2",        "gpt2",        "llama3",      "mistral_v3",   "gemma_small", "deepseek3_small",
        "llama4_cut12k", "o200k_small", "qwen2_cut6k", "smollm_small", "tekken_small"};
    size_t i;
    if (!TEST_DATA()) TEST_SKIP("AWQ_TEST_DATA is not set");
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[1400];
        awq_memory_file file;
        awq_memory_list list;
        awq_tokenizer *t = NULL;
        awq_ctx ctx;
        size_t n;
        char *data;
        memset(&ctx, 0, sizeof ctx);
        snprintf(text, sizeof text,
                 "cd '%s/fixtures/tokenizers/%s' && if test -f tokenizer.json; then cat tokenizer.json; "
                 "else xz -dc tokenizer.json.xz; fi",
                 TEST_DATA(), names[i]);
        data = read_pipe(text, &n);
        file.path = "m/tokenizer.json", file.data = data, file.bytes = n;
        list.files = &file, list.count = 1;
        ctx.files = awq_memory_files(&list);
        CHECK_MSG(data && !awq_tokenizer_load(&ctx, "m", &t), "%s: %s", names[i], ctx.err.text);
        if (t) {
            snprintf(text, sizeof text, "%s/fixtures/tokenizers/%s/expected.json", TEST_DATA(), names[i]);
            check_expected(names[i], &ctx, t, text);
            if (i == 0 || i > 7) check_masks(&ctx, t, awq_tokenizer_vocab_size(t));
        }
        awq_tokenizer_free(&ctx, t);
        free(data);
        CHECK(ctx.memory_used == 0);
    }
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_gbnf);
    RUN(test_classes);
    RUN(test_refused_gbnf);
    RUN(test_choices);
    RUN(test_no_dead_ends);
    RUN(test_schema);
    RUN(test_integer_ranges);
    RUN(test_many_properties);
    RUN(test_refused_schema);
    RUN(test_tokens);
    RUN(test_spaces_at_start);
    RUN(test_small_memory);
    RUN(test_out_of_room);
    RUN(test_failures);
    RUN(test_models);
    return TEST_END();
}
