/* 13 - guard in a build pipeline: a model goes into the game only if it is still the same model.
       cc -O2 -o 13_guard examples/13_guard.c -lm -lpthread
       ./13_guard [ORIGINAL] [QUANTIZED] [SUITE.jsonl] [TEXT.txt] [REPORT.html]; echo $?
   You learn: awq_guard, its gates and verdict, the report, and exit statuses that a pipeline can act on: 0 the same, 1 a
   warning, 2 not the same, 3 could not judge. Without QUANTIZED the original is rounded to 4 bits while loading, which is
   not good enough for the demo model. Output (the gates that do not pass):
       warn G7.level: 0.09569, at most 0.05 is expected: the model is less (or more) certain than the original: ...
       FAIL G8.kept: 0.75, at least 0.95 is expected: the model no longer tells a passage from its neighbour: ...
       verdict: fail */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 4000, WINDOW = 500 };

static char *read_text(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    char *text = (char *)malloc(1 << 20);
    *bytes = f && text ? fread(text, 1, 1 << 20, f) : 0;
    if (!*bytes) fprintf(stderr, "%s: cannot be read or is empty\n", path);
    if (f) fclose(f);
    return text;
}

int main(int argc, char **argv)
{
    const char *original = argc > 1 ? argv[1] : "tools/demo/model", *quantized = argc > 2 ? argv[2] : "";
    const char *text_path = argc > 4 ? argv[4] : "tools/demo/heldout.txt";
    static int32_t ids[MOST_TOKENS];
    size_t bytes = 0, n = 0;
    char *text = NULL, *html = NULL;
    awq_ctx ctx;
    awq_pool *pool = NULL;
    awq_model *before = NULL, *after = NULL;
    awq_model_desc load;
    awq_suite suite;
    awq_guard_desc desc;
    awq_guard_report *report = NULL;
    int i, status = 3;

    memset(&ctx, 0, sizeof ctx);
    memset(&load, 0, sizeof load);
    memset(&suite, 0, sizeof suite);
    memset(&desc, 0, sizeof desc);
    if (awq_pool_create(&ctx, 0, &pool)) goto out;
    ctx.jobs = awq_pool_jobs(pool);
    load.mode = AWQ_MODE_DETERMINISTIC; /* the same verdict on every machine */
    if (awq_model_load(&ctx, original, &load, &before)) goto out;
    if (!*quantized) load.rtn_bits = 4;
    if (awq_model_load(&ctx, *quantized ? quantized : original, &load, &after)) goto out;
    if (awq_suite_load(&ctx, argc > 3 ? argv[3] : "tools/demo/suite.jsonl", &suite)) goto out;
    text = read_text(text_path, &bytes);
    if (!bytes) goto out;
    while (bytes && (text[bytes - 1] & 0x80)) bytes--; /* whole characters */
    if (awq_encode(&ctx, awq_model_tokenizer(before), text, bytes, 0, ids, MOST_TOKENS, &n)) goto out;
    desc.baseline = before, desc.model = after, desc.suite = &suite;
    desc.ids = ids, desc.n_ids = (int64_t)(n < MOST_TOKENS ? n : (size_t)MOST_TOKENS), desc.window = WINDOW;
    desc.answer_tokens = 16; /* short answers for every build; the nightly one takes longer ones */
    if (awq_guard(&ctx, &desc, &report)) goto out;
    for (i = 0; i < report->n_gates; i++) {
        const awq_gate *g = &report->gate[i];
        if (g->severity == AWQ_WARN || g->severity == AWQ_FAIL)
            printf("%s %s: %.4g, at %s %.4g is expected: %s\n", g->severity == AWQ_FAIL ? "FAIL" : "warn", g->id, g->value,
                   g->below ? "least" : "most", g->warn, g->text);
    }
    if (argc > 5) {
        FILE *f = fopen(argv[5], "wb");
        if (awq_guard_html(&ctx, report, *quantized ? quantized : "4 bits, rounded to nearest", &html)) goto out;
        if (!f || fputs(html, f) < 0) fprintf(stderr, "%s: cannot be written\n", argv[5]);
        if (f) fclose(f);
    }
    printf("verdict: %s\n", awq_severity_name(report->verdict));
    status = report->verdict == AWQ_PASS ? 0 : report->verdict == AWQ_WARN ? 1 : report->verdict == AWQ_FAIL ? 2 : 3;
out:
    if (ctx.err.text[0] && status == 3) fprintf(stderr, "%s\n", ctx.err.text);
    awq_text_free(&ctx, html);
    awq_guard_free(&ctx, report);
    awq_suite_free(&ctx, &suite);
    free(text);
    awq_model_free(&ctx, after);
    awq_model_free(&ctx, before);
    awq_pool_free(&ctx, pool);
    return status;
}
