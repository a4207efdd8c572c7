/* main of a fuzz target outside libFuzzer (-DFUZZ_MAIN): runs it on the files given. */
#ifdef FUZZ_MAIN
#  include <stdio.h>
int main(int argc, char **argv)
{
    awq_ctx ctx;
    int i;
    memset(&ctx, 0, sizeof ctx);
    for (i = 1; i < argc; i++) {
        char *data;
        size_t n;
        if (awq__file_load(&ctx, argv[i], (size_t)1 << 30, &data, &n)) return puts(ctx.err.text), 2;
        LLVMFuzzerTestOneInput((const uint8_t *)data, n);
        awq__free(&ctx, data);
    }
    printf("%d files read\n", argc - 1);
    return 0;
}
#endif
