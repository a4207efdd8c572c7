/* Puts the CUDA text of tools/cuda into awq_cuda.h, between its two marker lines: an array of C strings for each file,
   one a line, joined when a family is compiled. No compiler limits the length of an array, the text stays readable
   and differs line by line, and NVRTC's line numbers are the file's.
       cc -o embed_cuda tools/embed_cuda.c
       ./embed_cuda awq_cuda.h tools/cuda/plan.h tools/cuda/steps.h tools/cuda/x.cuh ...             writes the blocks
       ./embed_cuda --check awq_cuda.h tools/cuda/plan.h tools/cuda/steps.h tools/cuda/x.cuh ...     exit 1: they differ
   prims.cuh, common.cuh, block.cuh and warpgroup.cuh stand before every family; each other .cuh is one, compiled when
   first used.
   plan.h and steps.h, which are C, are copied as they are, between markers of their own, from behind the last #include
   to the last #endif. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN "/* --- tools/embed_cuda.c wrote this block: change tools/cuda and run it again --- */\n"
#define END "/* --- end of the block --- */\n"
#define PLAN_BEGIN \
    "/* --- tools/embed_cuda.c copied this from tools/cuda/plan.h: change it there and run it again --- */\n"
#define STEPS_BEGIN \
    "/* --- tools/embed_cuda.c copied this from tools/cuda/steps.h: change it there and run it again --- */\n"
#define COPY_END "/* --- end of the copy --- */\n"
#define COLUMNS 112

typedef struct text {
    char *data;
    size_t len, cap;
} text;

static void die(const char *file, const char *what)
{
    fprintf(stderr, "embed_cuda: %s: %s\n", file, what);
    exit(2);
}

static void add(text *t, const char *s, size_t n)
{
    if (t->len + n + 1 > t->cap) {
        t->cap = (t->len + n + 1) * 2;
        t->data = (char *)realloc(t->data, t->cap);
        if (!t->data) die("text", "out of memory");
    }
    memcpy(t->data + t->len, s, n);
    t->len += n;
    t->data[t->len] = 0;
}

static void put(text *t, const char *s) { add(t, s, strlen(s)); }

static text load(const char *path)
{
    text t = {NULL, 0, 0};
    char part[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f) die(path, "cannot be opened");
    while ((n = fread(part, 1, sizeof part, f)) > 0) add(&t, part, n);
    fclose(f);
    if (!t.len) die(path, "is empty");
    return t;
}

/* one line of CUDA as a string; in pieces where it would pass the last column */
static void put_line(text *t, const char *path, const char *s, size_t n)
{
    size_t i, column = 1;
    put(t, "\"");
    for (i = 0; i < n; i++) {
        char piece[3] = {s[i], 0, 0};
        if ((s[i] < ' ' && s[i] != '\t') || s[i] > '~') die(path, "has a character that is not ASCII");
        if (s[i] == '\t') die(path, "has a tab");
        if (s[i] == '\\' || s[i] == '"' || (s[i] == '?' && i && s[i - 1] == '?')) /* ??: no trigraph */
            piece[0] = '\\', piece[1] = s[i];
        if (column + strlen(piece) + 4 > COLUMNS) { /* \n", behind it */
            put(t, "\"\n\"");
            column = 1;
        }
        put(t, piece);
        column += strlen(piece);
    }
    put(t, "\\n\",\n");
}

/* "prims" of "tools/cuda/prims.cuh" */
static void family(const char *path, char *name, size_t cap)
{
    const char *s = strrchr(path, '/'), *dot;
    s = s ? s + 1 : path;
    dot = strchr(s, '.');
    if (!dot || strcmp(dot, ".cuh") || (size_t)(dot - s) >= cap || strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_")
        != (size_t)(dot - s)) die(path, "is not named [a-z0-9_]*.cuh");
    memcpy(name, s, (size_t)(dot - s));
    name[dot - s] = 0;
}

static void put_file(text *t, const char *path)
{
    text f = load(path);
    char name[64];
    const char *s = f.data, *end;
    family(path, name, sizeof name);
    if (f.data[f.len - 1] != '\n') die(path, "does not end with a line break");
    put(t, "static const char *const awq__cuda_text_");
    put(t, name);
    put(t, "[] = {\n");
    for (; *s; s = end + 1) {
        end = strchr(s, '\n');
        put_line(t, path, s, (size_t)(end - s));
    }
    put(t, "NULL};\n");
    free(f.data);
}

/* its place before the families, 0: it is one */
static int prelude(const char *path)
{
    char name[64];
    family(path, name, sizeof name);
    return !strcmp(name, "prims") ? 1 : !strcmp(name, "common") ? 2 : !strcmp(name, "block") ? 3
           : !strcmp(name, "warpgroup") ? 4 : 0;
}

static text block(int n, char **path)
{
    text t = {NULL, 0, 0};
    char name[64], *p;
    int i, k;
    put(&t, BEGIN);
    for (i = 0; i < n; i++) put_file(&t, path[i]);
    put(&t, "static const char *const *const awq__cuda_prelude[] = {\n    ");
    for (k = 1; k <= 4; k++)
        for (i = 0; i < n; i++)
            if (prelude(path[i]) == k) {
                put(&t, "awq__cuda_text_");
                family(path[i], name, sizeof name);
                put(&t, name);
                put(&t, ", ");
            }
    put(&t, "NULL};\n");
    put(&t, "enum {\n");
    for (i = 0; i < n; i++) {
        if (prelude(path[i])) continue;
        family(path[i], name, sizeof name);
        for (p = name; *p; p++)
            if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 'a' + 'A');
        put(&t, "    AWQ__CUDA_");
        put(&t, name);
        put(&t, ",\n");
    }
    put(&t, "    AWQ__CUDA_FAMILIES\n};\n");
    put(&t, "static const struct {\n    const char *name;\n    const char *const *text;\n} awq__cuda_family[] = {\n");
    for (i = 0; i < n; i++) {
        if (prelude(path[i])) continue;
        family(path[i], name, sizeof name);
        put(&t, "    {\"");
        put(&t, name);
        put(&t, "\", awq__cuda_text_");
        put(&t, name);
        put(&t, "},\n");
    }
    put(&t, "};\n" END);
    return t;
}

static text copied(const char *path, const char *marker)
{
    text f = load(path), t = {NULL, 0, 0};
    char *begin = f.data, *end = NULL, *p;
    for (p = f.data; (p = strstr(p, "\n#")) != NULL; p++) {
        if (!strncmp(p, "\n#include", 9)) begin = strchr(p + 1, '\n') + 1;
        if (!strncmp(p, "\n#endif", 7)) end = p + 1;
    }
    if (!end || end < begin) die(path, "has no #include or no #endif");
    put(&t, marker);
    add(&t, begin, (size_t)(end - begin));
    put(&t, COPY_END);
    free(f.data);
    return t;
}

/* puts `made` in the place of what is between its marker lines; 1 when that differed */
static int replace(text *header, const char *path, const char *first, const char *last, const text *made)
{
    char *begin = strstr(header->data, first), *end = begin ? strstr(begin, last) : NULL;
    text all = {NULL, 0, 0};
    if (!end) die(path, "does not have the marker lines");
    end += strlen(last);
    if ((size_t)(end - begin) == made->len && !memcmp(begin, made->data, made->len)) return 0;
    add(&all, header->data, (size_t)(begin - header->data));
    add(&all, made->data, made->len);
    put(&all, end);
    free(header->data);
    *header = all;
    return 1;
}

int main(int argc, char **argv)
{
    int check = argc > 1 && !strcmp(argv[1], "--check"), changed;
    const char *path;
    text header, families, plan, steps;
    FILE *f;
    if (argc < 5 + check || !strstr(argv[2 + check], "plan.h") || !strstr(argv[3 + check], "steps.h")) {
        fprintf(stderr, "usage: embed_cuda [--check] awq_cuda.h tools/cuda/plan.h tools/cuda/steps.h tools/cuda/x.cuh ...\n");
        return 2;
    }
    path = argv[1 + check];
    header = load(path);
    plan = copied(argv[2 + check], PLAN_BEGIN);
    steps = copied(argv[3 + check], STEPS_BEGIN);
    families = block(argc - 4 - check, argv + 4 + check);
    changed = replace(&header, path, BEGIN, END, &families);
    changed |= replace(&header, path, PLAN_BEGIN, COPY_END, &plan);
    changed |= replace(&header, path, STEPS_BEGIN, COPY_END, &steps);
    if (!changed) printf("%s: the CUDA text is that of tools/cuda, %lu KB\n", path, (unsigned long)(families.len / 1000));
    else if (check) printf("%s: the CUDA text differs from tools/cuda; run embed_cuda without --check\n", path);
    else {
        f = fopen(path, "wb");
        if (!f || fwrite(header.data, 1, header.len, f) != header.len || fclose(f)) die(path, "cannot be written");
        printf("%s: %lu KB of CUDA text written\n", path, (unsigned long)(families.len / 1000));
    }
    return check && changed;
}
