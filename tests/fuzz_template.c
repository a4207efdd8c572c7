/* clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_template.c -o fuzz_template -lm -lpthread
   ./fuzz_template -max_total_time=60 -max_len=4096
   Without libFuzzer, over the files given:
   cc -g -DFUZZ_MAIN tests/fuzz_template.c -o fuzz_template -lm -lpthread && ./fuzz_template FILE ...
   The input is a chat template; it is rendered over a fixed conversation. */
#define AWQ_IMPLEMENTATION
#define AWQ__TP_WORK 2000000 /* so that one input takes milliseconds */
#include "../awq.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    awq_message messages[] = {{"system", "Be brief.", NULL},
                                           {"user", " caf\xc3\xa9 </think> \xff", NULL},
                                           {"assistant", "a,b\n{{ x }}", NULL}};
    awq_template_desc desc;
    awq_ctx ctx;
    awq_status st;
    char *source = (char *)malloc(size + 1), *text = NULL; /* its own block, so that a read past the end shows */
    size_t bytes = 0;
    if (!source) return 0;
    if (size) memcpy(source, data, size);
    source[size] = 0;
    memset(&ctx, 0, sizeof ctx);
    memset(&desc, 0, sizeof desc);
    desc.bos_token = "<s>";
    desc.add_generation_prompt = size & 1;
    desc.date_string = size & 2 ? "26 Jul 2024" : NULL;
    desc.enable_thinking = (int)(size / 4 % 3) - 1;
    if (size & 8) messages[2].extra = "{\"tool_calls\": [{\"name\": \"f\", \"arguments\": {\"a\": [1.5, null]}}]}";
    if (size & 32) desc.tools = "[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]";
    if (size & 64) desc.variables = source; /* JSON, or a failure */
    st = awq_template_render(&ctx, source, messages, size / 16 % 4, &desc, &text, &bytes);
    free(source);
    if (st ? !ctx.err.text[0] || text : strlen(text) > bytes) abort();
    awq_text_free(&ctx, text);
    if (ctx.memory_used) abort();
    return 0;
}

#include "fuzz.h"
