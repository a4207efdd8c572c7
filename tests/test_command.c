/* command: awq run --chat and awq template, run inside this program with stdin and stdout in files: thoughts shown,
   hidden, apart in JSON, given back as the template wants them; models without a template; tools. A grammar makes the
   demo model say what a test needs. */
#define main awq_main
#define open_session awq_open_session /* test.h has another */
#include "../tools/awq.c"
#undef main
#undef open_session
#define main cuda_main
#include "../examples/07_cuda.c"
#undef main
#define main cuda_linear_main
#include "../examples/08_cuda_linear.c"
#undef main
#include "test.h"
#include "cuda_emulator.h"

#include <fcntl.h>

#define DIR "build/test_command"
#define DEMO "tools/demo/model"
#define SPOKEN "caf\xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x98\x80." /* characters of several tokens */

static char out[65536]; /* stdout of the last run */

static void put_file(const char *path, const char *text)
{
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq__file_save(&ctx, path, text, strlen(text)) == AWQ_OK);
}

static int stream(FILE *f, const char *path, int flags, int saved) /* f from or to a file; back when path is NULL */
{
    int fd, old = dup(fileno(f));
    fflush(f);
    fd = path ? open(path, flags, 0644) : saved;
    CHECK(fd >= 0 && dup2(fd, fileno(f)) >= 0);
    close(fd);
    if (f == stdin) {
        fseek(f, 0, SEEK_SET);
        clearerr(f);
    }
    return old;
}

/* a program with these arguments (NULL ends them), `input` on stdin; its exit status */
static int run_program(int (*program)(int argc, char **argv), const char *input, const char *const *args)
{
    char *argv[24];
    int argc = 0, in, to, err, code;
    awq_ctx ctx;
    char *data = NULL;
    size_t n = 0;
    argv[argc++] = (char *)(uintptr_t)"awq";
    for (; *args; args++) argv[argc++] = (char *)(uintptr_t)*args;
    put_file(DIR "/in", input);
    in = stream(stdin, DIR "/in", O_RDONLY, -1);
    to = stream(stdout, DIR "/out", O_WRONLY | O_CREAT | O_TRUNC, -1);
    err = stream(stderr, DIR "/err", O_WRONLY | O_CREAT | O_TRUNC, -1);
    code = program(argc, argv);
    stream(stdin, NULL, 0, in);
    stream(stdout, NULL, 0, to);
    stream(stderr, NULL, 0, err);
    memset(&ctx, 0, sizeof ctx);
    if (awq__file_load(&ctx, DIR "/out", sizeof out - 1, &data, &n) == AWQ_OK && n) memcpy(out, data, n);
    out[n] = 0;
    awq__free(&ctx, data);
    return code;
}

static int run(const char *input, const char *const *args) { return run_program(awq_main, input, args); }

static int in_file(const char *file, const char *part, int show) /* is part in this file? show: what is, if not */
{
    awq_ctx ctx;
    char *data = NULL;
    size_t n;
    int yes;
    memset(&ctx, 0, sizeof ctx);
    CHECK(awq__file_load(&ctx, file, (size_t)1 << 20, &data, &n) == AWQ_OK);
    yes = data && strstr(data, part) != NULL;
    if (!yes && show) printf("    %s: [%s]\n", file, data ? data : "");
    awq__free(&ctx, data);
    return yes;
}

static int said(const char *file, const char *part) { return in_file(file, part, 1); }

static void expect(const char *text) { CHECK_MSG(!strcmp(out, text), "[%s], expected [%s]", out, text); }

/* the answer in pieces of any length */
static void test_thoughts(void)
{
    static const struct {
        const char *all, *thoughts, *text;
        int opens;
    } cases[] = {{"<think>\nhm\n</think>\n\nYes.", "\nhm\n", "Yes.", 0}, {"hm\n</think>\n\nYes.", "hm\n", "Yes.", 1},
                 {"\n <think></think>Yes <think>no</think>", "", "Yes <think>no</think>", 0},
                 {"Yes </think>", "", "Yes </think>", 0}, {"<think>a </thinx>", "a </thinx>", "", 0},
                 {"<thi", "", "<thi", 0}, {"< think>", "", "< think>", 0}, {"", "", "", 0}, {"x</thin", "x</thin", "", 1},
                 {"<think>" SPOKEN "</think>\n" SPOKEN, SPOKEN, SPOKEN, 0}};
    app a;
    size_t i, k, at;
    memset(&a, 0, sizeof a);
    a.o.chat = a.o.json = 1;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (k = 1; k < 30; k++) {
            const char *s = cases[i].all;
            size_t n = strlen(s);
            answer r;
            a.opens = cases[i].opens;
            answer_new(&a, &r);
            for (at = 0; at < n; at += k) on_text(&r, s + at, AWQ__MIN(k, n - at));
            answer_look(&r, 1);
            CHECK_MSG(r.n_thoughts == strlen(cases[i].thoughts) && r.seen == n
                      && (!r.n_thoughts || !memcmp(r.all.data + r.thoughts, cases[i].thoughts, r.n_thoughts)),
                      "%s, %d at a time: %d bytes of thoughts at %d", s, (int)k, (int)r.n_thoughts, (int)r.thoughts);
            CHECK_MSG(!strcmp(answer_text(&r), cases[i].text), "%s: %s", s, answer_text(&r));
            awq__text_free(&a.ctx, &r.all);
        }
    CHECK(a.ctx.memory_used == 0);
}

#define THOUGHT "<think>\nhm " SPOKEN "\n</think>\n\n" SPOKEN
#define TURNS "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + "
#define TAIL " + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}"

static void test_chat(void)
{
    static const char *const show[] = {"run", DEMO, "--chat", "--choice", THOUGHT, NULL};
    static const char *const hide[] = {"run", DEMO, "--chat", "--choice", THOUGHT, "--think", "hide", NULL};
    static const char *const json[] = {"run", DEMO, "--chat", "--choice", THOUGHT, "--json", NULL};
    static const char *const once[] = {"run", DEMO, "--chat", "--choice", THOUGHT, "--think", "hide", "-p", "Hi", "-q", NULL};
    static const char *const many[] = {"run", DEMO, "--chat", "--choice", THOUGHT, "--think", "hide", "-p", "Hi",
                                       "--sessions", "2", "--json", NULL};
    static const char *const cut[] = {"run", DEMO, "--chat", "--choice", THOUGHT, "-n", "10", "--json", NULL};
    static const char *const bad[] = {"run", DEMO, "--chat", "--think", "loud", NULL};
    CHECK(run("Hi\n/stats\nAnd?\n/stats\n", show) == 0);
    expect(THOUGHT "\n" THOUGHT "\n");
    CHECK(said(DIR "/err", "tokens in all turns"));
    CHECK(run("Hi\nAnd?\n", hide) == 0);
    expect(SPOKEN "\n" SPOKEN "\n");
    CHECK(run("Hi\n", json) == 0 && strstr(out, "{\"thinking\": \"hm " SPOKEN "\", \"text\": \"" SPOKEN "\", \"tokens\": "));
    CHECK(run("", once) == 0);
    expect(SPOKEN "\n");
    CHECK(run("", many) == 0 && strstr(out, "}, {\"thinking\": \"hm " SPOKEN "\", \"text\": \"" SPOKEN "\""));
    CHECK(run("Hi\n", cut) == 0 && strstr(out, "{\"thinking\": \"") && strstr(out, "\"text\": \"\", \"tokens\": 10"));
    CHECK(run("Hi\n", bad) == 2 && said(DIR "/err", "expected show, hide or off"));
}

/* what the conversation keeps of an answer, as /save writes it */
static void test_history(void)
{
    static const char strips[] = TURNS "m.content.split('</think>')[-1]" TAIL "{% endif %}";
    static const char keeps[] = TURNS "m.content" TAIL "{% endif %}";
    static const char opens[] = TURNS "m.content.split('</think>')[-1]" TAIL "{{ '<think>\n' }}{% endif %}";
    static const char off[] = TURNS "m.content" TAIL
        "{% if not thinking|default(true) or not enable_thinking|default(true) %}{{ raise_exception('off') }}"
        "{% endif %}{% endif %}";
    static const char saved[] = "\"role\": \"assistant\", \"content\": \"";
    static const char *const args[] = {"run", DEMO, "--chat", "--template", DIR "/t", "--choice", THOUGHT, NULL};
    static const char *const inside[] = {"run", DEMO, "--chat", "--template", DIR "/t", "--choice",
                                         "hm\n</think>\n\n" SPOKEN, "--think", "hide", NULL};
    static const char *const quiet[] = {"run", DEMO, "--chat", "--template", DIR "/t", "--choice", THOUGHT,
                                        "--think", "off", NULL};
    char want[256];
    put_file(DIR "/t", strips);
    CHECK(run("Hi\nAnd?\n/save " DIR "/s\n", args) == 0);
    snprintf(want, sizeof want, "%s<think>\\nhm %s\\n</think>\\n\\n%s\"", saved, SPOKEN, SPOKEN);
    CHECK(said(DIR "/s.json", want));
    CHECK(run("/load " DIR "/s\n/save " DIR "/s2\n", args) == 0 && said(DIR "/s2.json", want));
    put_file(DIR "/t", keeps);
    CHECK(run("Hi\nAnd?\n/save " DIR "/s\n", args) == 0);
    snprintf(want, sizeof want, "%s%s\"", saved, SPOKEN);
    CHECK(said(DIR "/s.json", want));
    put_file(DIR "/t", opens);
    CHECK(run("Hi\nAnd?\n/save " DIR "/s\n", inside) == 0);
    expect(SPOKEN "\n" SPOKEN "\n");
    snprintf(want, sizeof want, "%s<think>\\nhm\\n</think>\\n\\n%s\"", saved, SPOKEN);
    CHECK(said(DIR "/s.json", want));
    put_file(DIR "/t", off);
    CHECK(run("Hi\n", args) == 0);
    expect(THOUGHT "\n");
    CHECK(run("Hi\n", quiet) == EXIT_FAILED && said(DIR "/err", "chat template: off")); /* no question got an answer */
    put_file(DIR "/t", keeps);
    CHECK(run("Hi\n", quiet) == 0 && said(DIR "/err", "no switch for thinking"));
    expect(SPOKEN "\n");
}

static void test_no_template(void)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"};
    static const char *const chat[] = {"run", DIR "/m", "--chat", "--choice", "Yes.", NULL};
    static const char *const plain[] = {"template", DIR "/m", "--messages", DIR "/messages", NULL};
    char cmd[256];
    size_t i;
    for (i = 0; i < 4; i++) {
        snprintf(cmd, sizeof cmd, "mkdir -p " DIR "/m && cp " DEMO "/%s " DIR "/m/", names[i]);
        CHECK(system(cmd) == 0);
    }
    CHECK(run("Hi\nAnd?\n", chat) == 0 && said(DIR "/err", DIR "/m has no chat template"));
    expect("Yes.\nYes.\n");
    put_file(DIR "/messages", "[]");
    CHECK(run("", plain) == 2 && said(DIR "/err", "no chat template"));
}

static void test_tools(void)
{
    static const char *const args[] = {"template", DEMO, "--template", DIR "/t", "--messages", DIR "/messages", NULL};
    static const struct {
        const char *messages, *text; /* text NULL: refused */
    } cases[] = {
        {"[{\"role\": \"user\", \"content\": \"a\"}]", "None[{'role': 'user', 'content': 'a'}]"},
        {"{\"messages\": [{\"role\": \"tool\", \"content\": null, \"x\": [1, 1e22, {\"b\": true}]}], \"tools\": "
         "[{\"name\": \"f\"}], \"day\": \"\\u00e9\"}",
         "[{'name': 'f'}][{'role': 'tool', 'content': None, 'x': [1, 1e+22, {'b': True}]}]\xc3\xa9"},
        {"{\"messages\": [], \"tools\": null}", "None[]"}, {"{\"messages\": [], \"tools\": {}}", NULL},
        {"{\"messages\": [{\"content\": \"a\"}]}", NULL}, {"{\"messages\": [{\"role\": \"user\"}]}", NULL},
        {"{\"messages\": 3}", NULL}, {"{}", NULL}, {"3", NULL}, {"[3]", NULL}, {"[", NULL}};
    size_t i;
    put_file(DIR "/t", "{{ tools }}{{ messages }}{{ day }}");
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_file(DIR "/messages", cases[i].messages);
        CHECK_MSG(run("", args) == (cases[i].text ? 0 : 2), "%s", cases[i].messages);
        if (cases[i].text) expect(cases[i].text);
    }
}

/* quantized in layout gemm and converted, and quantized in layout native: the same file, the same words as gemm */
static void test_native(void)
{
    static const char *const folders[] = {DIR "/gemm", DIR "/native", DIR "/straight"};
    static const char *const quantize[] = {"quantize", DEMO, "-o", DIR "/gemm", "--method", "rtn", NULL},
        *const convert[] = {"convert", DIR "/gemm", "-o", DIR "/native", "--layout", "native", "--head-bits", "8", NULL},
        *const straight[] = {"quantize", DEMO, "-o", DIR "/straight", "--method", "rtn", "--layout", "native", NULL},
        *const wrong[] = {"convert", DIR "/gemm", "-o", DIR "/wrong", "--layout", "gemv", "--head-bits", "8", NULL};
    char said_first[2][4096];
    int i, bits;
    if (system("rm -rf " DIR "/gemm " DIR "/native " DIR "/straight")) return;
    CHECK(run("", quantize) == 0 && run("", convert) == 0 && run("", straight) == 0);
    CHECK(run("", wrong) == 2 && said(DIR "/err", "head_bits is 8, expected 8 with layout native"));
    for (i = 0; i < 3; i++)
        for (bits = 0; bits < 2; bits++) {
            const char *args[] = {"run", NULL, "-p", "The", "-n", "24", "--deterministic", "--head-bits", NULL, NULL};
            args[1] = folders[i];
            args[8] = bits ? "8" : "0";
            CHECK(run("", args) == 0 && strlen(out) > 20 && strlen(out) < sizeof said_first[0]);
            if (i) CHECK_MSG(!strcmp(out, said_first[bits]), "%s, head_bits %s: [%s], [%s]", folders[i], args[8], out,
                             said_first[bits]);
            else memcpy(said_first[bits], out, strlen(out) + 1);
        }
    for (i = 1; i < 3; i++) {
        const char *args[] = {"inspect", NULL, "--json", NULL};
        args[1] = folders[i];
        CHECK(run("", args) == 0 && said(DIR "/out", "\"layout\": \"native\""));
    }
}

/* programs find the emulated driver, or the one at `path` */
static void emulate(const char *path)
{
    static const char *const names[] = {"AWQ_EMULATOR_DEVICES", "AWQ_EMULATOR_MEMORY", "AWQ_EMULATOR_FAIL"};
    size_t i;
    for (i = 0; i < 3; i++) unsetenv(names[i]);
    setenv("AWQ_CUDA_DRIVER", path ? path : emulator, 1);
    setenv("AWQ_NVRTC", emulator, 1);
    setenv("AWQ_CACHE_DIR", DIR "/cache", 1);
    if (reset) reset();
}

static void emulate_no_more(void)
{
    unsetenv("AWQ_CUDA_DRIVER");
    unsetenv("AWQ_NVRTC");
    unsetenv("AWQ_CACHE_DIR");
}

/* awq doctor says what of CUDA is missing, and on the emulated driver what there is */
static void test_doctor(void)
{
    static const char *const words[] = {"doctor", "-q", NULL}, *const json[] = {"doctor", "--json", "-q", NULL};
    static const char *const second[] = {"doctor", "-q", "--device", "cuda:1", NULL},
                             *const model[] = {"doctor", "-q", "--device", "cuda", DEMO, NULL};
    emulate("/nowhere/libcuda.so.1");
    CHECK(run("", words) == 0 && strstr(out, "\ncores        ") && strstr(out, "\n\nCUDA\ndriver       none\n"));
    CHECK(strstr(out, "\nverdict      no: no CUDA driver: /nowhere/libcuda.so.1: cannot open"));
    CHECK(run("", json) == 0 && strstr(out, ", \"cuda\": {\"status\": \"AWQ_E_UNSUPPORTED\", \"error\": \"no CUDA driver: /nowhere"));
    if (emulator[0]) {
        emulate(NULL);
        CHECK(run("", words) == 0 && strstr(out, "\ndevice       0: Emulated GPU 0, compute capability 9.0, 2 multiprocessors\n"));
        CHECK(strstr(out, "\ncache        " DIR "/cache\n") && strstr(out, "\nverdict      ready"));
        CHECK(run("", json) == 0 && strstr(out, "\"cuda\": {\"status\": \"AWQ_OK\", \"error\": \"\", \"driver\": \""));
        CHECK(strstr(out, "\"driver_cuda\": \"13.0\", \"index\": 0, \"device\": \"Emulated GPU 0\", \"compute_capability\": \"9.0\", "
                          "\"multiprocessors\": 2, \"memory_total\": 8589934592, \"memory_free\": 8589934592, \"memory_limit\": "));
        CHECK(strstr(out, "\"nvrtc_version\": \"13.0\", \"arch\": \"sm_90a\", \"cache\": \"" DIR "/cache\"}}\n"));
        CHECK(run("", second) == 0 && strstr(out, "\nverdict      no: awq_cuda_create: index is 1, devices 0 to 0 are here"));
        CHECK(!strstr(out, "\nfirst token "));
        CHECK(run("", model) == 0 && strstr(out, "\n  attention  ") && strstr(out, "\nfirst token  ")
              && strstr(out, "; first step, 16 tokens, "));
        setenv("AWQ_EMULATOR_DEVICES", "2", 1);
        CHECK(run("", second) == 0 && strstr(out, "\ndevice       1: Emulated GPU 1, ") && strstr(out, "\nverdict      ready"));
    } else printf("    without the emulated driver\n");
    emulate_no_more();
}

/* an option is taken where its command's help speaks of it, and nowhere else; every option of the help is one */
static void test_options(void)
{
    const char *help[] = {"help", NULL}, *of_run[] = {"run", "--help", NULL}, *help_run[] = {"help", "run", NULL},
               *version[] = {"--version", NULL}, *foreign[] = {"tokenize", DEMO, "--text", "Bram", "--temp", "1", NULL},
               *number[] = {"run", DEMO, "-p", "Bram", "-n", "x3", NULL}, *longer[] = {"run", DEMO, "--prompt", "Bram is", "-n", "2", NULL},
               *guard[] = {"guard", DEMO, DEMO, "--layout", "gemm", NULL},
               *pipe[] = {"eval", DEMO, "--text", DIR "/pipe", NULL},
               *beyond[] = {"run", DEMO, "-p", "Bram is", "-n", "600", "--stop", "B", NULL},
               *windows[] = {"eval", DEMO, "--text", DIR "/text.txt", "--ctx", "600", NULL};
    char text[sizeof out], word[40], *s;
    int n = 0;
    CHECK(run("", of_run) == 0 && strstr(out, "[--ignore-eos]"));
    strcpy(text, out);
    CHECK(run("", help_run) == 0 && !strcmp(out, text));
    CHECK(run("", version) == 0 && !strncmp(out, "awq 0.", 6));
    CHECK(run("", foreign) == 2 && !out[0] && said(DIR "/err", "awq tokenize takes no --temp; see awq help tokenize"));
    CHECK(run("", number) == 2 && said(DIR "/err", "-n wants a number, not \"x3\""));
    CHECK(run("", guard) == 3 && said(DIR "/err", "takes no --layout"));
    CHECK(run("", longer) == 0 && strstr(out, "Bram is") == out);
    CHECK(run("", help) == 0);
    strcpy(text, out);
    for (s = text; (s = strstr(s, "--")) != NULL; s += strlen(word)) {
        const char *unknown[] = {"nosuch", word, NULL};
        size_t k = 2 + strspn(s + 2, "abcdefghijklmnopqrstuvwxyz-");
        CHECK(k < sizeof word);
        memcpy(word, s, k);
        word[k] = 0;
        CHECK_MSG(run("", unknown) >= 0 && !in_file(DIR "/err", "unknown option", 0), "%s", word);
        n++;
    }
    CHECK_MSG(n > 60, "%d", n);
    /* no plain file; more tokens than the model was made for */
    CHECK(mkfifo(DIR "/pipe", 0600) == 0);
    CHECK(run("", pipe) == 2 && said(DIR "/err", "/pipe: cannot open: a plain file is wanted"));
    unlink(DIR "/pipe");
    CHECK(run("", beyond) == 0 && said(DIR "/err", "made for 512 (max_position_embeddings)"));
    for (s = text, n = 0; n < 600; n++) s += sprintf(s, "Bram ");
    put_file(DIR "/text.txt", text);
    CHECK(run("", windows) == 0 && said(DIR "/err", "awq_evaluate: a context of 600 tokens"));
}

/* what cannot be done, or means nothing, is refused by a sentence before anything is printed */
#define TO_GUARD "guard", DEMO, DEMO, "--suite", "tools/demo/suite.jsonl"

static void test_refusals(void)
{
    static const struct {
        const char *words, *args[12];
        int code;
    } cases[] = {
        {"\"1,2,x\" is not a list of token ids", {"tokenize", DEMO, "--ids", "1,2,x"}, EXIT_FAILED},
        {"\"1,a\" is not a list of token ids", {"logits", DEMO, "--tokens", "1,a", "-o", DIR "/no"}, EXIT_FAILED},
        {"--threads wants 0 to 1024, not -3", {TO_GUARD, "--threads", "-3"}, EXIT_UNJUDGED},
        {"--threads wants 0 to 1024, not -3", {"run", DEMO, "-p", "a", "--threads", "-3"}, EXIT_FAILED},
        {"/none.txt: cannot open", {"guard", "--make-suite", DIR "/none.txt"}, EXIT_UNJUDGED},
        {"--exact or --deterministic, not both", {TO_GUARD, "--exact", "--deterministic"}, EXIT_UNJUDGED},
        {"--tries means nothing without --until-guard", {"quantize", DEMO, "-o", DIR "/no", "--tries", "3"}, EXIT_FAILED},
        {"--cache means nothing without --quantize", {"run", DEMO, "-p", "a", "--cache", "b"}, EXIT_FAILED},
        {"--system means nothing without --chat", {"run", DEMO, "-p", "a", "--system", "b"}, EXIT_FAILED},
        {"--sessions means nothing without -p", {"run", DEMO, "--chat", "--sessions", "2"}, EXIT_FAILED},
        {"--layers means nothing without --baseline", {"eval", DEMO, "--text", "a", "--layers"}, EXIT_FAILED},
        {"--symmetric means nothing without --rtn", {"eval", DEMO, "--text", "a", "--symmetric"}, EXIT_FAILED},
        {"--group-size means nothing without --rtn", {TO_GUARD, "--group-size", "32"}, EXIT_UNJUDGED},
        {"--keep-going means nothing without --suite", {"guard", DEMO, DEMO, "--text", "a", "--keep-going"}, EXIT_UNJUDGED},
        {"kept.txt exists already", {"guard", "--make-suite", DIR "/kept.txt", "-o", DIR "/kept.txt"}, EXIT_UNJUDGED},
        {"it is one of the files to read", {"guard", DEMO, DEMO, "--suite", DIR "/kept.txt", "--report",
                                            DIR "/../test_command/kept.txt"}, EXIT_UNJUDGED},
        {"--ctx wants 0 to 2147483648, not -1", {"run", DEMO, "-p", "a", "--ctx", "-1"}, EXIT_FAILED},
        {"--ctx wants 16 to 2147483648, not 1", {"eval", DEMO, "--text", "a", "--ctx", "1"}, EXIT_FAILED},
        {"--sessions wants 1 to 1024, not 0", {"run", DEMO, "-p", "a", "--sessions", "0"}, EXIT_FAILED},
        {"--sessions wants 1 to 1000000, not ", {"inspect", DEMO, "--sessions", "9223372036854775807"}, EXIT_FAILED},
        {"-n wants 0 to ", {TO_GUARD, "-n", "-2"}, EXIT_UNJUDGED},
        {"the context has room for 2 tokens", {"run", DEMO, "-p", "Bram is", "--ctx", "2", "--json"}, EXIT_FAILED},
        {"unexpected argument \"b\"", {"run", DEMO, "b", "-p", "a"}, EXIT_FAILED},
        {"give -p TEXT or --chat", {"run", DEMO}, EXIT_FAILED},
        {"give --cache FOLDER", {"run", DEMO "/.", "-p", "a", "--quantize"}, EXIT_FAILED},
        {"give --cache FOLDER", {"run", "..", "-p", "a", "--quantize"}, EXIT_FAILED},
        {"--temp wants 0 to 1000000, not -1", {"run", DEMO, "-p", "a", "--temp", "-1"}, EXIT_FAILED},
        {"--top-p wants 0 to 1, not 1.5", {"run", DEMO, "-p", "a", "--top-p", "1.5"}, EXIT_FAILED},
        {"--min-p wants 0 to 1, not nan", {"run", DEMO, "-p", "a", "--min-p", "nan"}, EXIT_FAILED},
        {"--memory-limit wants a number of bytes such as 800M, not \"8X\"", {"run", DEMO, "-p", "a", "--memory-limit", "8X"},
         EXIT_FAILED},
        {"memory_limit is 2048", {"run", DEMO, "-p", "a", "--memory-limit", "2K", "--json"}, EXIT_FAILED}};
    static const char *const enough[] = {"run", DEMO, "-p", "Bram is", "--ctx", "8", "--memory-limit", "1G", "--json", NULL};
    size_t i;
    put_file(DIR "/kept.txt", "kept");
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_MSG(run("", cases[i].args) == cases[i].code && said(DIR "/err", cases[i].words), "%s", cases[i].words);
        CHECK_MSG(!out[0] || out[0] == '{', "%s: [%s]", cases[i].words, out);
    }
    CHECK(in_file(DIR "/kept.txt", "kept", 1));
    CHECK(run("", enough) == 0 && strstr(out, "\"tokens\": 6, ") && strstr(out, "\"stop\": \"context\""));
}

/* --device: the same words wherever the layers are; sizes are told first; refusals */
#define BRAM "Bram is the carpenter in Dunmarrow. He is 40 years old.\n"
#define ON DEMO, "-p", "Bram is", "-n", "3", "--device"
#define DEVICES_WANTED ": expected cpu, cuda, cuda:1 or a list such as cuda:0,cuda:1"

static void refused(const char *const *args, const char *words) /* and nothing was told or said before */
{
    char text[256];
    CHECK(run("", args) == 2 && !out[0] && said(DIR "/err", words));
    CHECK(!in_file(DIR "/err", " MB needed", 0));
    CHECK_MSG(!live || live(text, sizeof text) == 0, "%s", text);
}

static void test_device(void)
{
    static const char *const cpu[] = {"run", ON, "cpu", NULL}, *const one[] = {"run", ON, "cuda", NULL},
        *const same[] = {"run", ON, "cuda:0", "--deterministic", "-q", NULL},
        *const two[] = {"run", ON, "cuda:1,cuda:0", "--device-layers", "3,5", NULL},
        *const rest[] = {"run", ON, "cuda", "--device-layers", "3", "--rest-on-cpu", NULL},
        *const none[] = {"run", ON, "cuda", "--device-layers", "0", "--rest-on-cpu", NULL},
        *const convert[] = {"convert", DEMO, "-o", DIR "/no", "--layout", "native", "--device", "cuda", NULL},
        *const voices[] = {"run", ON, "cuda", "--sessions", "2", "--ctx", "64", NULL},
        *const json[] = {"run", ON, "cuda", "--json", NULL},
        *const quantize[] = {"quantize", DEMO, "-o", DIR "/quantized", "--calib", DIR "/text.txt", "--samples", "1", "--seq-len", "16",
                             "--device", "cuda", "-q", NULL},
        *const bench[] = {"bench", DIR "/short", "-n", "1", "--device", "cuda", "--json", NULL},
        *const eval[] = {"eval", DEMO, "--text", DIR "/text.txt", "--device", "cuda", "--json", NULL},
        *const logits[] = {"logits", DEMO, "--tokens", "1,2,3", "-o", DIR "/logits.safetensors", "--device", "cuda", NULL};
    static const char *const bad[] = {"gpu", "", "cuda:", "cuda:x", "cuda:-1", "cuda0", "cpu,cuda", "cuda,", ",cuda", "cuda,,cuda:1"};
    static const char *const bad_layers[] = {"", "x", "3,", "3,4", "-1", "3;4"};
    static const struct {
        const char *device, *option, *value, *words;
    } wrong[] = {{"cuda:1,cuda:1", NULL, NULL, "--device cuda:1,cuda:1: a device is there twice"},
                 {"cuda,cuda:1,cuda:2,cuda:3,cuda:4,cuda:5,cuda:6,cuda:7,cuda:8", NULL, NULL, ": at most 8 devices"},
                 {"cuda:7", NULL, NULL, "index is 7, devices 0 to 1 are here"},
                 {"cpu", "--device-layers", "3", "--device-layers 3: of which device?"},
                 {"cpu", "--rest-on-cpu", "-q", "--rest-on-cpu wants a device"},
                 {"cuda", "--device-layers", "9", "device_layers[0] is 9 of 8 layers that are left"},
                 {"cuda", "--device-layers", "3", "the devices take 3 of 8 layers; cuda:0 (Emulated GPU 0): 3 layers in "},
                 {"cuda", "--exact", NULL, "devices compute in the modes fast and deterministic"},
                 {"cuda", "--kv-bits", "8", "with keys and values of 16 bits"}};
    const char *inspect[] = {"inspect", DEMO, "-q", "--device", "cuda", "--device-layers", "3", "--rest-on-cpu", NULL};
    static const char *const many[] = {"inspect", DEMO, "-q", "--sessions", "64", "--ctx", "256", NULL};
    char want[sizeof out], text[256];
    const char *args[12] = {"run", ON};
    size_t i;
    if (!emulator[0]) TEST_SKIP("no emulated driver: ./build.sh makes it where a C++ compiler is");
    emulate("/nowhere/libcuda.so.1");
    CHECK(run("", cpu) == 0 && strlen(out) > 8);
    strcpy(want, out);
    refused(one, "no CUDA driver: /nowhere/libcuda.so.1: cannot open");
    emulate(NULL);
    setenv("AWQ_EMULATOR_DEVICES", "2", 1);
    CHECK(run("", one) == 0 && said(DIR "/err", "cuda:0 (Emulated GPU 0): layers 0 to 7, "));
    expect(want);
    CHECK(said(DIR "/err", " MB needed of 8187.3 MB there\nCPU: no layers, "));
    CHECK(run("", same) == 0 && said(DIR "/err", ""));
    expect(want);
    CHECK(run("", two) == 0 && said(DIR "/err", "cuda:1 (Emulated GPU 1): layers 0 to 2, "));
    expect(want);
    CHECK(said(DIR "/err", "cuda:0 (Emulated GPU 0): layers 3 to 7, "));
    CHECK(run("", rest) == 0 && said(DIR "/err", "\nCPU: the last 5 layers, "));
    expect(want);
    CHECK(run("", none) == 0 && said(DIR "/err", "cuda:0 (Emulated GPU 0): no layers\nCPU: the last 8 layers, "));
    expect(want);
    CHECK(run("", voices) == 0 && strstr(out, "--- 2: 3 tokens"));
    put_file(DIR "/text.txt", BRAM BRAM BRAM BRAM BRAM);
    CHECK(system("rm -rf " DIR "/short && cp -r " DEMO " " DIR "/short && sed 's/\\(max_position_embeddings\": \\)[0-9]*/\\132/' "
                 DEMO "/config.json > " DIR "/short/config.json") == 0); /* its bench reads 16 tokens */
    CHECK(run("", json) == 0 && !strncmp(out, "{\"text\": \"", 10) && said(DIR "/err", "layers 0 to 7"));
    CHECK(run("", bench) == 0 && strstr(out, "\"devices\": [\"cuda:0 (Emulated GPU 0)\"]}"));
    CHECK(run("", eval) == 0 && strstr(out, "{\"ppl\": "));
    CHECK(run("", logits) == 0);
    CHECK(system("rm -rf " DIR "/quantized") == 0);
    CHECK_MSG(run("", quantize) == 0 && strstr(out, "/quantized: 8 layers, group size 128, in "), "[%s]", out);
    CHECK(said(DIR "/quantized/config.json", "\"quant_method\""));
    CHECK(run("", many) == 0 && strstr(out, " MB for each session of 256 tokens, ") && strstr(out, " MB for 64 of them\n"));
    CHECK(run("", inspect) == 0 && strstr(out, "\n  cuda:0 (Emulated GPU 0): layers 0 to 2, ") && strstr(out, "\n  CPU: the last 5 layers, "));
    inspect[2] = "--json";
    CHECK(run("", inspect) == 0 && strstr(out, "\"host_layers\": 5, \"devices\": [{\"name\": \"cuda:0 (Emulated GPU 0)\", "
                                               "\"first_layer\": 0, \"layers\": 3, \"needed\": "));
    CHECK_MSG(live(text, sizeof text) == 0, "%s", text);
    args[8] = NULL;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        args[7] = bad[i];
        snprintf(text, sizeof text, "--device %s" DEVICES_WANTED, bad[i]);
        refused(args, text);
    }
    args[7] = "cuda";
    args[8] = "--device-layers";
    for (i = 0; i < sizeof bad_layers / sizeof bad_layers[0]; i++) {
        args[9] = bad_layers[i];
        snprintf(text, sizeof text, "--device-layers %s: expected a number of layers for each device", bad_layers[i]);
        refused(args, text);
    }
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        args[7] = wrong[i].device;
        args[8] = wrong[i].option;
        args[9] = wrong[i].value;
        refused(args, wrong[i].words);
    }
    args[7] = "cuda";
    args[8] = NULL;
    refused(convert, "awq convert computes on the CPU, not where --device says");
    args[0] = "run";
    args[9] = NULL;
    setenv("AWQ_EMULATOR_MEMORY", "300000000", 1); /* less than all layers take */
    refused(args, " of 8 layers; cuda:0 (Emulated GPU 0): ");
    args[8] = "--rest-on-cpu";
    CHECK(run("", args) == 0 && said(DIR "/err", " MB needed of 26.9 MB there\nCPU: the last "));
    expect(want);
    args[8] = "--device-layers";
    args[9] = "8";
    refused(args, " layers, 8 are wanted (");
    setenv("AWQ_EMULATOR_MEMORY", "100000000", 1);
    refused(one, " bytes are free, less than the ");
    emulate(NULL);
    setenv("AWQ_EMULATOR_FAIL", "cuLaunchKernelEx:20=719", 1); /* in the middle of it */
    CHECK(run("", json) == 2 && strstr(out, "\"status\": \"AWQ_E_DEVICE\"}") && said(DIR "/err", " is lost to its context: "));
    CHECK_MSG(live(text, sizeof text) == 0, "%s", text);
    emulate_no_more();
}

/* exit statuses of awq guard, its words, JSON and page */
static void test_guard(void)
{
    const char *same[] = {"guard", DEMO, DEMO, "-q", "--suite", DIR "/suite.jsonl", "--text", DIR "/text.txt", "-n", "12",
                          "--report", DIR "/guard.html", NULL},
               *rounded[] = {"guard", DEMO, DEMO, "-q", "--text", DIR "/text.txt", "--rtn", "3", "--group-size", "128", "--json",
                             NULL},
               *on_gpu[] = {"guard", DEMO, DEMO, "-q", "--text", DIR "/text.txt", "--device", "cuda", "--suite", DIR "/suite.jsonl",
                            "-n", "12", NULL},
               *bad[] = {"guard", DEMO, DEMO, "-q", "--suite", DIR "/bad.jsonl", "-n", "12", "--passages", DIR "/text.txt",
                         NULL, NULL},
               *one[] = {"guard", DEMO, NULL, NULL, NULL, NULL};
    awq__json j;
    awq_ctx ctx;
    char text[4001];
    FILE *f = fopen("tools/demo/heldout.txt", "rb");
    memset(&ctx, 0, sizeof ctx);
    CHECK(f && fread(text, 1, 4000, f) == 4000);
    if (f) fclose(f);
    text[4000] = 0;
    put_file(DIR "/text.txt", text);
    put_file(DIR "/suite.jsonl", "{\"question\": \"What is Bram's trade?\", \"answer\": \"carpenter\", \"anchor\": \"Bram is a carpenter.\"}\n"
                                 "{\"question\": \"Where is Saltmere?\", \"anchor\": \"The road from Crowhill leads to Saltmere.\"}\n");
    CHECK(run("", same) == 0 && strstr(out, "pass  G3.kl") && strstr(out, "pass  G4.right") && strstr(out, "\nverdict: pass\n"));
    CHECK(said(DIR "/guard.html", "Pass: every gate") && said(DIR "/guard.html", "What is Bram"));
    CHECK(run("", rounded) == 2);
    CHECK_MSG(awq__json_parse(&ctx, "stdout", out, strlen(out), &j) == AWQ_OK, "%s", ctx.err.text);
    CHECK(awq__json_eq(&j, awq__json_get(&j, 1, "verdict"), "fail"));
    awq__json_free(&ctx, &j);
    put_file(DIR "/bad.jsonl", "no JSON\n{\"question\": \"What is Bram's trade?\", \"answer\": \"carpenter\"}\n"
                               "{\"question\": \"Where is Saltmere?\", \"anchor\": \"The road leads to Saltmere.\"}\n");
    CHECK(run("", bad) == 3 && said(DIR "/err", "bad.jsonl: line 1: "));
    bad[10] = "--keep-going";
    CHECK_MSG(run("", bad) == 0 && strstr(out, "left out: ") && strstr(out, "1 of the suite's lines, the first: "), "[%s]", out);
    bad[9] = DIR "/none.txt";
    CHECK(run("", bad) == 3 && said(DIR "/err", "none.txt"));
    if (emulator[0]) { /* on a GPU: no layers one by one */
text[500] = 0;
        put_file(DIR "/text.txt", text);
        emulate(NULL);
        CHECK_MSG(run("", on_gpu) == 0 && strstr(out, "pass  G3.kl") && strstr(out, "pass  G4.right")
                      && !strstr(out, "G11.layer") && strstr(out, "; G11: layers are on a device"), "[%s]", out);
        emulate_no_more();
    }
    CHECK(run("", one) == 3 && said(DIR "/err", "awq guard wants two model folders"));
    one[2] = DEMO;
    CHECK(run("", one) == 3 && said(DIR "/err", "wants --text FILE or --suite FILE"));
    one[3] = "--suite";
    one[4] = DIR "/text.txt";
    CHECK(run("", one) == 3 && said(DIR "/err", "text.txt: line 1: the line"));
    one[2] = "tools";
    CHECK(run("", one) == 3 && said(DIR "/err", "tools"));
}

/* the examples with a GPU: what they say without one and with one; and the README shows the first one's core */
static int cuda_linear(int argc, char **argv)
{
    (void)argc, (void)argv;
    return cuda_linear_main();
}

/* what is done with a verdict: kept, told, acted upon; and a suite drafted */
static void test_verdicts(void)
{
    static const char *const bad[] = {"quantize", DEMO, "-o", DIR "/bad", "--method", "rtn", "--bits", "2", "--layout", "native", NULL};
    static const char *const look[] = {"inspect", DIR "/bad", "-q", NULL}, *const look_json[] = {"inspect", DIR "/bad", "--json", NULL};
    static const char *const keep[] = {"guard", DEMO, DIR "/bad", "--text", DIR "/t.txt", "--ctx", "128", "--save", NULL};
    static const char *const say[] = {"run", DIR "/bad", "-p", "Bram", "-n", "2", NULL};
    static const char *const both[] = {"guard", DEMO, DEMO, "--text", DIR "/t.txt", "--save", "--rtn", "2", NULL};
    static const char *const until[] = {"quantize", DEMO, "-o", DIR "/until", "--method", "rtn", "--bits", "8", "--layout", "native",
                                        "--until-guard", "--text", DIR "/t.txt", "--ctx", "128", "-q", NULL};
    static const char *const blind[] = {"quantize", DEMO, "-o", DIR "/blind", "--method", "rtn", "--until-guard", NULL};
    static const char *const online[] = {"run", DEMO, "-p", "Bram", "-n", "2", "--quantize", "--cache", DIR "/none/cache", NULL};
    static const char *const instead[] = {"run", DEMO, "-p", "Bram", "-n", "2", "--quantize", "--cache", DIR "/none/cache",
                                          "--source-instead", NULL};
    static const char *const draft[] = {"guard", "--make-suite", "tools/demo/README.md", "-o", DIR "/draft.jsonl", "-n", "3", NULL};
    awq_ctx ctx;
    awq_suite suite = {0};
    char *text = NULL;
    size_t n;
    memset(&ctx, 0, sizeof ctx);
    CHECK(system("rm -rf " DIR "/bad " DIR "/until " DIR "/none " DIR "/draft.jsonl") == 0);
    CHECK(awq__file_load(&ctx, "tools/demo/heldout.txt", 1 << 24, &text, &n) == AWQ_OK && awq__file_save(&ctx, DIR "/t.txt", text, 2000) == AWQ_OK);
    awq__free(&ctx, text);
    CHECK_MSG(run("", bad) == 0, "%s", out);
    CHECK(run("", look) == 0 && strstr(out, "verdict      none on these weights"));
    CHECK(run("", keep) == 2 && strstr(out, "verdict: fail"));
    CHECK(run("", look) == 0 && strstr(out, "verdict      fail: G"));
    CHECK(run("", look_json) == 0 && strstr(out, "\"verdict\": \"fail\", \"verdict_text\": \"G"));
    CHECK(run("", say) == 0 && in_file(DIR "/err", "warning: " DIR "/bad: its awq_report.json says that it is not the same model: G", 1));
    CHECK(run("", both) == 3 && in_file(DIR "/err", "--save", 1));
    CHECK_MSG(run("", until) == 0 && strstr(out, "as asked") && strstr(out, "kept of 1 tries"), "%s", out);
    CHECK(run("", blind) == EXIT_FAILED && in_file(DIR "/err", "wants --text", 1));
    CHECK(run("", online) == EXIT_FAILED && in_file(DIR "/err", "none/cache: cannot make the cache folder", 1));
    CHECK(run("", instead) == 0 && in_file(DIR "/err", "is used as it is", 1) && strstr(out, "Bram"));
    CHECK(run("", draft) == 0 && in_file(DIR "/err", " questions drafted", 1));
    CHECK(awq_suite_load(&ctx, DIR "/draft.jsonl", &suite) == AWQ_OK && suite.n > 1);
    CHECK(run("", draft) == EXIT_UNJUDGED && said(DIR "/err", "draft.jsonl exists already"));
    awq_suite_free(&ctx, &suite);
    CHECK(ctx.memory_used == 0);
}

static void test_cuda_examples(void)
{
    static const char *const args[] = {DEMO, "Bram is", NULL}, *const will_do[] = {DEMO, "Bram is", "--cpu", NULL};
    char want[sizeof out], text[256];
    char *readme, *core, *end = NULL;
    size_t n;
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    emulate("/nowhere/libcuda.so.1");
    CHECK(run_program(cuda_main, "", args) == 1 && said(DIR "/err", "no CUDA driver: /nowhere/libcuda.so.1"));
    expect("\n");
    CHECK(run_program(cuda_main, "", will_do) == 0 && said(DIR "/err", "no CUDA driver: /nowhere/libcuda.so.1"));
    CHECK(!strncmp(out, " 20 years old. ", 15));
    strcpy(want, out);
    CHECK(run_program(cuda_linear, "", args) == 1 && said(DIR "/err", "no CUDA driver or no GPU is here"));
    if (emulator[0]) {
        emulate(NULL);
        CHECK(run_program(cuda_main, "", args) == 0 && said(DIR "/err", ""));
        expect(want);
        CHECK(run_program(cuda_linear, "", args) == 0 && strstr(out, "384 x 256 in 4 bits: 55296 bytes on Emulated GPU 0\n3 rows, off"));
        CHECK_MSG(live(text, sizeof text) == 0, "%s", text);
        setenv("AWQ_EMULATOR_FAIL", "cuLaunchKernel:3=719", 1);
        CHECK(run_program(cuda_linear, "", args) == 1 && said(DIR "/err", " is lost to its context: "));
        CHECK_MSG(live(text, sizeof text) == 0, "%s", text);
    } else printf("    without the emulated driver\n");
    emulate_no_more();
    CHECK(awq__file_load(&ctx, "README.md", (size_t)1 << 20, &readme, &n) == AWQ_OK);
    core = strstr(readme, "static awq_status say(");
    if (core) end = strstr(core, "\n}\n");
    CHECK(core && end);
    if (end) end[3] = 0;
    CHECK(end && said("examples/07_cuda.c", core));
    awq__free(&ctx, readme);
}

/* what awq guard says before it loads anything, and of calibration text */
static void test_guard_checks(void)
{
    const char *args[] = {"guard", DEMO, DIR "/other", "-q", "--text", DIR "/text.txt", "-n", "0", NULL, NULL, NULL, NULL, NULL};
    put_file(DIR "/text.txt", BRAM BRAM BRAM BRAM BRAM BRAM BRAM BRAM);
    CHECK(system("rm -rf " DIR "/other && cp -r " DEMO " " DIR "/other && echo >> " DIR "/other/tokenizer.json") == 0);
    CHECK_MSG(run("", args) == 2 && strstr(out, "\nfail  G12.tokenizer") && strstr(out, "\ndiagnosis: it is not the model that it says, ")
                  && strstr(out, "\nverdict: fail\n") && !strstr(out, "G3."), "[%s]", out);
    args[2] = DEMO;
    args[8] = "--production";
    args[9] = DIR "/text.txt";
    CHECK(run("", args) == 3 && said(DIR "/err", "compared with what? --calib FILE"));
    args[10] = "--calib";
    args[11] = DIR "/text.txt";
    CHECK_MSG(run("", args) == 2 && strstr(out, "\nfail  G10.tokens") && strstr(out, "\npass  G10.words") && strstr(out, "\npass  G12.memory")
                  && strstr(out, " tokens per second, baseline "), "[%s]", out);
    if (emulator[0]) {
        emulate("/nowhere/libcuda.so.1");
        args[8] = "--device";
        args[9] = "cuda";
        args[10] = NULL;
        CHECK_MSG(run("", args) == 3 && strstr(out, "\nfail  G12.driver"), "[%s]", out);
        emulate_no_more();
    }
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    if (system("mkdir -p " DIR)) return 2;
    find_emulator();
    RUN(test_thoughts);
    RUN(test_chat);
    RUN(test_history);
    RUN(test_no_template);
    RUN(test_tools);
    RUN(test_native);
    RUN(test_doctor);
    RUN(test_options);
    RUN(test_refusals);
    RUN(test_device);
    RUN(test_cuda_examples);
    RUN(test_guard);
    RUN(test_guard_checks);
    RUN(test_verdicts);
    return TEST_END();
}
