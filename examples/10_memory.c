/* 10 - a model out of a game's own archive: files are bytes in memory, nothing is opened by the library.
       cc -O2 -o 10_memory examples/10_memory.c -lm -lpthread
       ./10_memory [MODEL]
   You learn: awq_memory_files, and what has to stay alive. A game has the bytes from its pak file; here they are read
   from a folder first. With a program's own awq_file_system in the same place, files can be read piece by piece.
   Output for the demo model:
       4 files, 4.86 MB in memory; the model added 0.55 MB of its own
       He is the carpenter in Dunmarrow. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the program's part: its archive */
static void *archive_get(const char *path, size_t *bytes) /* NULL: not in it */
{
    FILE *f = fopen(path, "rb");
    void *data = NULL;
    long n;
    if (!f) return NULL;
    if (!fseek(f, 0, SEEK_END) && (n = ftell(f)) > 0 && !fseek(f, 0, SEEK_SET) && (data = malloc((size_t)n)) != NULL) {
        *bytes = fread(data, 1, (size_t)n, f);
        if (*bytes != (size_t)n) free(data), data = NULL;
    }
    fclose(f);
    return data;
}

static int print_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    fwrite(text, 1, bytes, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    static const char *const paths[] = {"npc/config.json", "npc/model.safetensors", "npc/tokenizer.json",
                                        "npc/tokenizer_config.json"}; /* any names; the folder is what is loaded */
    awq_memory_file files[4];
    awq_memory_list list = {NULL, 0};
    awq_message message = {"user", "What is Bram's trade?", NULL};
    awq_generate_desc desc;
    awq_model *model = NULL;
    awq_ctx ctx;
    size_t all = 0;
    int i, failed = 1;

    memset(&ctx, 0, sizeof ctx);
    memset(&desc, 0, sizeof desc);
    for (i = 0; i < 4; i++) {
        char path[1024];
        awq_memory_file *f = &files[list.count];
        snprintf(path, sizeof path, "%s/%s", argc > 1 ? argv[1] : "tools/demo/model", names[i]);
        f->path = paths[i];
        f->data = archive_get(path, &f->bytes);
        if (f->data) all += f->bytes, list.count++;
    }
    list.files = files;
    ctx.files = awq_memory_files(&list); /* list, files and their bytes must outlive the model: weights are used in place */
    if (awq_model_load(&ctx, "npc", NULL, &model)) goto out; /* what is missing would be named: npc/config.json */
    printf("%d files, %.2f MB in memory; the model added %.2f MB of its own\n", (int)list.count, (double)all / 1e6,
           (double)ctx.memory_used / 1e6);
    desc.messages = &message;
    desc.n_messages = 1;
    desc.max_tokens = 48;
    desc.on_text = print_text;
    if (awq_generate(&ctx, model, &desc, NULL)) goto out;
    printf("\n");
    failed = 0;
out:
    if (failed) fprintf(stderr, "%s\n", ctx.err.text);
    awq_model_free(&ctx, model);
    while (list.count) free((void *)(uintptr_t)files[--list.count].data);
    return failed;
}
