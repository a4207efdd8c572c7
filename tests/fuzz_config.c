/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_config.c -o fuzz_config -lm -lpthread
   ./fuzz_config -max_total_time=60
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_config.c -o fuzz_config -lm -lpthread && ./fuzz_config FILE ...
   The input is config.json; what follows a zero byte is generation_config.json. The tensors are those of
   tiny.h, packed as GEMM when the first byte is a space. Whatever opens must read. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "tiny.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tiny model[2]; /* built once */
    const uint8_t *zero = size ? (const uint8_t *)memchr(data, 0, size) : NULL;
    tiny *t = &model[size && data[0] == ' '];
    awq_memory_file files[3];
    awq_memory_list list;
    awq_checkpoint *ck = NULL;
    awq_ctx ctx;
    int i, layer;
    if (!t->st) {
        memset(&ctx, 0, sizeof ctx);
        tiny_llama(t);
        if (t == &model[1] && tiny_quantize(t, &ctx, AWQ_LAYOUT_GEMM, 4, 32, 0, AWQ_F16, NULL)) abort();
        tiny_ctx(t);
    }
    files[0].path = "m/config.json";
    files[0].data = data;
    files[0].bytes = zero ? (size_t)(zero - data) : size;
    files[1] = t->files[1];
    files[2].path = "m/generation_config.json";
    files[2].data = zero ? zero + 1 : NULL;
    files[2].bytes = zero ? size - files[0].bytes - 1 : 0;
    list.files = files;
    list.count = zero ? 3 : 2;
    memset(&ctx, 0, sizeof ctx);
    ctx.files = awq_memory_files(&list);
    ctx.memory_limit = (size_t)256 << 20;
    if (awq_checkpoint_open(&ctx, "m", &ck)) {
        if (!ctx.err.text[0] || ctx.memory_used) abort();
        return 0;
    }
    for (layer = 0; layer < awq_checkpoint_config(ck)->num_hidden_layers; layer++)
        for (i = 0; i < AWQ_N_LINEAR_IDS; i++) {
            awq_linear_info info;
            awq_qweight w;
            if (!awq_linear_count(awq_checkpoint_config(ck), layer, (awq_linear_id)i)) continue;
            if (awq_checkpoint_linear(&ctx, ck, layer, (awq_linear_id)i, &info)) abort();
            if (!info.quantized) continue;
            if (awq_checkpoint_read_qweight(&ctx, ck, &info, &w)) abort();
            awq_qweight_free(&ctx, &w);
        }
    awq_checkpoint_close(&ctx, ck);
    if (ctx.memory_used) abort();
    return 0;
}

#include "fuzz.h"
