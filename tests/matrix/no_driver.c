/* awq_cuda.h where there is no driver: a status and a sentence, nothing left behind. Skipped where there is one. */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#define AWQ_CUDA_IMPLEMENTATION
#include "../../awq_cuda.h"

int main(void)
{
    awq_ctx ctx;
    awq_cuda *cuda = NULL;
    memset(&ctx, 0, sizeof ctx);
    switch (awq_cuda_create(&ctx, NULL, &cuda)) {
    case AWQ_OK: awq_cuda_free(&ctx, cuda); puts("there is a device"); return 0;
    case AWQ_E_UNSUPPORTED: /* no driver */
    case AWQ_E_DEVICE: puts("no device is said so"); break;
    default: printf("%s\n", ctx.err.text); return 1;
    }
    if (!ctx.err.text[0] || cuda || ctx.memory_used) return puts("no sentence, or something is left"), 1;
    fprintf(stderr, "%s\n", ctx.err.text);
    return 0;
}
