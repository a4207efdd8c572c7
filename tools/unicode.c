/* Prints the block of Unicode tables in awq.h: general categories, canonical decompositions, combining classes.
       cc -o unicode tools/unicode.c
       ./unicode UnicodeData.txt CompositionExclusions.txt > block.h
       ./unicode --check awq.h UnicodeData.txt CompositionExclusions.txt     exit 1: the block in awq.h differs
   Both files are those of https://www.unicode.org/Public/16.0.0/ucd/; the version comes from the first line of
   CompositionExclusions.txt. 16.0.0 is what the regexes of Hugging Face's tokenizers 0.23 know. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_CP 0x110000

enum { OTHER, LU, LL, LT, LM, LO, M, ND, NL, NO, PC, P, S, ALTERNATE = 15 }; /* as in awq.h */

/* Hugging Face's tokenizers 0.23 normalizes by the tables of Unicode 9.0: what has a combining class or a
   decomposition and came later stays as it is. First and last of each run. */
static const unsigned later[][2] = {
    {0x7fd, 0x7fd}, {0x897, 0x89f}, {0x8ca, 0x8d3}, {0x9fe, 0x9fe}, {0xc3c, 0xc3c}, {0xd3b, 0xd3c},
    {0xeba, 0xeba}, {0x1715, 0x1715}, {0x1abf, 0x1ace}, {0x1df6, 0x1dfa}, {0xa82c, 0xa82c},
    {0x105c9, 0x105c9}, {0x105e4, 0x105e4}, {0x10d24, 0x10d27}, {0x10d69, 0x10d6d}, {0x10eab, 0x10eac},
    {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b},
    {0x11383, 0x11383}, {0x11385, 0x11385}, {0x1138e, 0x1138e}, {0x11391, 0x11391}, {0x113c5, 0x113c5},
    {0x113c7, 0x113c8}, {0x113ce, 0x113d0}, {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11938, 0x11938},
    {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
    {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42},
    {0x16121, 0x16128}, {0x1612f, 0x1612f}, {0x16d68, 0x16d6a}, {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f},
    {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}, {0x1e5ee, 0x1e5ef}};

static unsigned char category[N_CP], combining[N_CP], excluded[N_CP];
static unsigned decomp[N_CP][2]; /* first, second (0: single); first 0: none */
static char *out;
static size_t out_len, out_cap;
static int column;

static void die(const char *what, const char *which)
{
    fprintf(stderr, "unicode: %s: %s\n", which, what);
    exit(2);
}

static void put(const char *s)
{
    size_t n = strlen(s);
    if (out_len + n + 1 > out_cap) {
        out_cap = (out_len + n + 1) * 2;
        out = (char *)realloc(out, out_cap);
        if (!out) die("out of memory", "tables");
    }
    memcpy(out + out_len, s, n + 1);
    out_len += n;
}

static void begin_table(const char *declaration)
{
    put(declaration);
    put(" = {");
    column = 1000;
}

static void number(unsigned v)
{
    char t[16];
    int n = snprintf(t, sizeof t, "%u,", v);
    if (column + n > 112) {
        put("\n    ");
        column = 4;
    }
    put(t);
    column += n;
}

static void end_table(void) { put("\n};\n"); }

static int category_of(const char *s)
{
    static const struct {
        const char *name;
        int category;
    } names[] = {{"Lu", LU}, {"Ll", LL}, {"Lt", LT}, {"Lm", LM}, {"Lo", LO},
                 {"Nd", ND}, {"Nl", NL}, {"No", NO}, {"Pc", PC}};
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strncmp(s, names[i].name, 2)) return names[i].category;
    return *s == 'M' ? M : *s == 'P' ? P : *s == 'S' ? S : OTHER;
}

/* code;name;category;combining class;bidi;decomposition;... Lines <X, First> and <X, Last> span a range. */
static void read_data(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[1024], *field[6];
    unsigned first = 0, cp, i;
    int in_range = 0;
    if (!f) die("cannot be read", path);
    while (fgets(line, sizeof line, f)) {
        char *s = line;
        for (i = 0; i < 6; i++) {
            field[i] = s;
            s = strchr(s, ';');
            if (!s) die("a line has fewer than 6 fields", path);
            *s++ = 0;
        }
        cp = (unsigned)strtoul(field[0], NULL, 16);
        if (cp >= N_CP) die("a code point is too large", path);
        if (!in_range) first = cp;
        in_range = strstr(field[1], ", First>") != NULL;
        if (in_range) continue;
        for (i = first; i <= cp; i++) {
            category[i] = (unsigned char)category_of(field[2]);
            combining[i] = (unsigned char)atoi(field[3]);
        }
        if (*field[5] && *field[5] != '<') {
            decomp[cp][0] = (unsigned)strtoul(field[5], &s, 16);
            decomp[cp][1] = (unsigned)strtoul(s, NULL, 16);
        }
    }
    fclose(f);
    for (i = 0; i < sizeof later / sizeof later[0]; i++)
        for (cp = later[i][0]; cp <= later[i][1]; cp++) combining[cp] = 0, decomp[cp][0] = decomp[cp][1] = 0;
}

static void read_exclusions(const char *path, char version[16])
{
    FILE *f = fopen(path, "r");
    char line[1024];
    if (!f) die("cannot be read", path);
    if (!fgets(line, sizeof line, f) || sscanf(line, "# CompositionExclusions-%15[0-9.].", version) != 1)
        die("the first line must be '# CompositionExclusions-X.Y.Z.txt'", path);
    version[strspn(version, "0123456789.")] = 0;
    if (*version && version[strlen(version) - 1] == '.') version[strlen(version) - 1] = 0;
    while (fgets(line, sizeof line, f)) {
        char *end;
        unsigned long cp = strtoul(line, &end, 16);
        if (end != line && cp < N_CP) excluded[cp] = 1;
    }
    fclose(f);
}

static int by_pair(const void *a, const void *b)
{
    const unsigned *x = decomp[*(const unsigned *)a], *y = decomp[*(const unsigned *)b];
    if (x[0] != y[0]) return x[0] < y[0] ? -1 : 1;
    return x[1] < y[1] ? -1 : x[1] > y[1];
}

static void print_block(const char *version)
{
    static unsigned row[N_CP], composed[N_CP];
    unsigned cp, i, n = 0, rows = 0, last;
    char text[128];
    snprintf(text, sizeof text, "/* BEGIN GENERATED unicode (tools/unicode.c, Unicode %s) */\n", version);
    put(text);
    put("/* runs of one category: first code point * 16 + category; 15: Lu, Ll, Lu, ... in turns */\n");
    begin_table("static const uint32_t awq__uni_runs[]");
    for (cp = 0; cp < N_CP;) {
        unsigned end = cp + 1, alternate = cp;
        while (end < N_CP && category[end] == category[cp]) end++;
        while (alternate < N_CP && category[alternate] == ((alternate - cp) & 1 ? LL : LU)) alternate++;
        if (alternate - cp > 3 && alternate > end) number(cp * 16 + ALTERNATE), cp = alternate;
        else number(cp * 16 + category[cp]), cp = end;
    }
    end_table();
    put("/* runs of one combining class: first code point * 256 + class */\n");
    begin_table("static const uint32_t awq__uni_combining[]");
    for (last = 256, cp = 0; cp < N_CP; cp++)
        if (combining[cp] != last) number(cp * 256 + (last = combining[cp]));
    end_table();
    put("/* canonical decompositions: code point, first, second (0: a single one) */\n");
    begin_table("static const uint32_t awq__uni_decomp[]");
    for (cp = 0; cp < N_CP; cp++) {
        if (!decomp[cp][0]) continue;
        number(cp), number(decomp[cp][0]), number(decomp[cp][1]);
        if (decomp[cp][1] && decomp[decomp[cp][1]][0]) die("a second part decomposes", "UnicodeData.txt");
        row[cp] = rows++;
        /* left out: the listed ones and those that begin with, or are, combining marks */
        if (decomp[cp][1] && !excluded[cp] && !combining[cp] && !combining[decomp[cp][0]]) composed[n++] = cp;
    }
    end_table();
    put("/* rows of awq__uni_decomp that compose, by (first, second) */\n");
    begin_table("static const uint16_t awq__uni_compose[]");
    qsort(composed, n, sizeof composed[0], by_pair);
    for (i = 0; i < n; i++) number(row[composed[i]]);
    end_table();
    put("/* END GENERATED unicode */\n");
}

static int check(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text, *at;
    long size;
    int same;
    if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET))
        die("cannot be read", path);
    text = (char *)malloc((size_t)size + 1);
    if (!text || fread(text, 1, (size_t)size, f) != (size_t)size) die("cannot be read", path);
    fclose(f);
    text[size] = 0;
    at = strstr(text, "/* BEGIN GENERATED unicode");
    same = at && !strncmp(at, out, out_len);
    free(text);
    if (!same) fprintf(stderr, "unicode: %s: the generated block differs from what these data give\n", path);
    return same ? 0 : 1;
}

int main(int argc, char **argv)
{
    int checking = argc > 1 && !strcmp(argv[1], "--check"), at = checking ? 3 : 1, status = 0;
    char version[16];
    if (argc != at + 2) {
        fprintf(stderr, "usage: unicode [--check awq.h] UnicodeData.txt CompositionExclusions.txt\n");
        return 2;
    }
    read_data(argv[at]);
    read_exclusions(argv[at + 1], version);
    print_block(version);
    if (checking) status = check(argv[2]);
    else fwrite(out, 1, out_len, stdout);
    free(out);
    return status;
}
