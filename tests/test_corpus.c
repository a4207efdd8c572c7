/* Every fuzz target in one program, without a fuzzer: over its files in tests/corpus, then over changed copies of them for
   AWQ_FUZZ_SECONDS each (default 0.5). What a target does not like ends the program; the input is in build/test_corpus.bin:
       cc -g -DFUZZ_MAIN tests/fuzz_X.c -o fuzz_X -lm -lpthread && ./fuzz_X build/test_corpus.bin
   ./build.sh fuzz goes on from the same files with libFuzzer: with -DFUZZ this is its program for every target, which its
   name chooses (fuzz_grammar). Run from the repository's root. */
#define AWQ_IMPLEMENTATION
#define AWQ__GR_WORK 300000
#define AWQ__TP_WORK 2000000
#include "../awq.h"
#include "test.h"

#define LLVMFuzzerTestOneInput fuzz_checkpoint
#include "fuzz_checkpoint.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_config
#include "fuzz_config.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_files
#include "fuzz_files.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_grammar
#include "fuzz_grammar.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_session
#include "fuzz_session.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_template
#include "fuzz_template.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_tensors
#include "fuzz_tensors.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_tokenizer
#include "fuzz_tokenizer.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_written
#include "fuzz_written.c"
#undef LLVMFuzzerTestOneInput

static const struct {
    const char *name;
    int (*target)(const uint8_t *data, size_t size);
} targets[] = {{"checkpoint", fuzz_checkpoint}, {"config", fuzz_config},     {"files", fuzz_files},
               {"grammar", fuzz_grammar},       {"session", fuzz_session},   {"template", fuzz_template},
               {"tensors", fuzz_tensors},       {"tokenizer", fuzz_tokenizer},
               {"written", fuzz_written}};

#ifdef FUZZ

static int (*chosen)(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = strrchr((*argv)[0], '/');
    size_t k;
    (void)argc;
    name = strstr(name ? name : (*argv)[0], "fuzz_");
    for (k = 0; name && k < sizeof targets / sizeof targets[0]; k++)
        if (!strcmp(name + 5, targets[k].name)) chosen = targets[k].target;
    if (!chosen) printf("%s: the name says no target, such as fuzz_grammar\n", (*argv)[0]), exit(2);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return chosen(data, size); }

#else

#  ifndef _WIN32
#    include <dirent.h>
#  endif

enum { MOST = 1024, LONGEST = 8192 };

static struct {
    uint8_t *data[MOST];
    size_t bytes[MOST];
    int n;
} corpus;

static FILE *last;

static void try_input(int (*target)(const uint8_t *, size_t), const uint8_t *data, size_t size)
{
    uint8_t *copy = (uint8_t *)malloc(size + !size); /* so that a read past the end shows */
    memcpy(copy, data, size);
    rewind(last);
    if (fwrite(data, 1, size, last) != size || fflush(last) || awq__os_truncate(NULL, (void *)(intptr_t)(fileno(last) + 1), size))
        CHECK(!"build/test_corpus.bin");
    target(copy, size);
    free(copy);
}

static size_t change(uint64_t *seed, uint8_t *to, int k) /* a changed copy of number k */
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '[', '\\', '%', ' ', '9', '-', '\n'};
    size_t n = corpus.bytes[k], at, len, from;
    int times = 1 + (int)(awq__random(seed) % 6), other = (int)(awq__random(seed) % (uint64_t)corpus.n);
    memcpy(to, corpus.data[k], n);
    while (times--) {
        uint64_t r = awq__random(seed);
        at = n ? (size_t)(awq__random(seed) % n) : 0;
        len = 1 + (size_t)(r >> 32) % 16;
        switch (n ? r % 7 : 4) {
        case 0: to[at] ^= (uint8_t)(1u << (r >> 8 & 7)); break;
        case 1: to[at] = odd[(r >> 8) % sizeof odd]; break;
        case 2: to[at] = (uint8_t)(r >> 8); break;
        case 3: /* without some */
            len = AWQ__MIN(len, n - at);
            memmove(to + at, to + at + len, n - at - len);
            n -= len;
            break;
        case 4: /* with some of another */
            if (!corpus.bytes[other] || n + len > LONGEST) break;
            from = (size_t)(awq__random(seed) % corpus.bytes[other]);
            len = AWQ__MIN(len, corpus.bytes[other] - from);
            memmove(to + at + len, to + at, n - at);
            memcpy(to + at, corpus.data[other] + from, len);
            n += len;
            break;
        case 5: /* some twice */
            len = AWQ__MIN(len, n - at);
            if (n + len > LONGEST) break;
            memmove(to + at + len, to + at, n - at);
            n += len;
            break;
        case 6: n = r >> 8 & 3 ? n : at; break; /* cut off */
        }
    }
    return n;
}

static void test_corpus(void)
{
#ifdef _WIN32
    TEST_SKIP("no folders are read here");
#else
    static uint8_t changed[LONGEST + 64];
    const char *length = getenv("AWQ_FUZZ_SECONDS");
    double seconds = length ? atof(length) : 0.5;
    uint64_t seed = (uint64_t)(awq__now() * 1e6);
    size_t k;
    int i;
    awq_ctx os;
    memset(&os, 0, sizeof os);
    CHECK(awq__os_make_folder(NULL, "build") == 0);
    last = fopen("build/test_corpus.bin", "wb");
    CHECK(last != NULL);
    for (k = 0; last && k < sizeof targets / sizeof targets[0]; k++) {
        char path[600];
        struct dirent *e;
        DIR *d;
        long tried = 0;
        double began = awq__now(), replayed;
        snprintf(path, sizeof path, "tests/corpus/%s", targets[k].name);
        d = opendir(path);
        CHECK_MSG(d != NULL, "%s", path);
        for (corpus.n = 0; d && (e = readdir(d)) != NULL && corpus.n < MOST;) {
            char *data;
            size_t n = 0;
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "tests/corpus/%s/%s", targets[k].name, e->d_name);
            CHECK_MSG(awq__file_load(&os, path, LONGEST, &data, &n) == AWQ_OK, "%s", os.err.text);
            corpus.data[corpus.n] = (uint8_t *)data;
            corpus.bytes[corpus.n++] = n;
        }
        if (d) closedir(d);
        CHECK_MSG(corpus.n > 0, "nothing in tests/corpus/%s", targets[k].name);
        for (i = 0; i < corpus.n; i++) try_input(targets[k].target, corpus.data[i], corpus.bytes[i]);
        replayed = awq__now() - began;
        for (began = awq__now(); corpus.n && awq__now() - began < seconds; tried++)
            try_input(targets[k].target, changed, change(&seed, changed, (int)(awq__random(&seed) % (uint64_t)corpus.n)));
        printf("    %-10s %4d files in %.1f s, %ld changed ones\n", targets[k].name, corpus.n, replayed, tried);
        for (i = 0; i < corpus.n; i++) awq__free(&os, corpus.data[i]);
    }
    if (last) fclose(last);
    CHECK(os.memory_used == 0);
#endif
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_corpus);
    return TEST_END();
}

#endif
