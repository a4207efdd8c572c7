/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_tensors.c -o fuzz_tensors -lm -lpthread
   ./fuzz_tensors -max_total_time=60
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_tensors.c -o fuzz_tensors -lm -lpthread && ./fuzz_tensors FILE ...
   The input is a .safetensors file; one that begins with "{" is an index with a good shard beside it. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"

static const char fuzz_shard[] = "\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F16\",\"shape\":[2],"
                                 "\"data_offsets\":[0,4]}}          data";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const known[] = {"model.norm.weight", "a", ""};
    awq_memory_file files[2];
    awq_memory_list list;
    awq_ctx ctx;
    awq_tensors *t = NULL;
    float f[64];
    char raw[64];
    int64_t i;
    memset(&ctx, 0, sizeof ctx);
    files[0].path = size && data[0] == '{' ? "m/model.safetensors.index.json" : "m/model.safetensors";
    files[0].data = data;
    files[0].bytes = size;
    files[1].path = "m/s.safetensors";
    files[1].data = fuzz_shard;
    files[1].bytes = sizeof fuzz_shard - 1;
    list.files = files;
    list.count = 2;
    ctx.files = awq_memory_files(&list);
    ctx.memory_limit = (size_t)256 << 20;
    if (awq_tensors_open(&ctx, "m", &t)) {
        if (!ctx.err.text[0] || ctx.memory_used) abort();
        return 0;
    }
    for (i = 0; i < awq_tensors_count(t); i++) {
        const awq_tensor *x = awq_tensors_at(t, i);
        if (awq_tensors_find(t, x->name) != x) abort();
        if (awq_tensors_read(&ctx, t, x, 0, raw, (size_t)AWQ__MIN(x->bytes, sizeof raw))) abort();
        awq_tensors_read_float(&ctx, t, x, 0, (int64_t)AWQ__MIN(x->bytes / awq_dtype_size(x->dtype), 64), f);
        awq_tensors_map(t, x);
    }
    for (i = 0; i < 3; i++) awq_tensors_find(t, known[i]);
    awq_tensors_close(&ctx, t);
    if (ctx.memory_used) abort();
    return 0;
}

#include "fuzz.h"
