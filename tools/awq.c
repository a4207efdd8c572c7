/* awq - the command line of awq.h: a thin user of its public calls.
   cc -O2 -o awq tools/awq.c -lm -lpthread -ldl;  awq help */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#define AWQ_CUDA_IMPLEMENTATION
#include "../awq_cuda.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#  include <windows.h>
#  include <io.h>
#  define isatty _isatty
#  define SLASHES "/\\"
#  define fileno _fileno
#else
#  include <sys/stat.h>
#  include <unistd.h>
#  define SLASHES "/"
#endif

enum { EXIT_NO = 1, EXIT_FAILED = 2, EXIT_UNJUDGED = 3, EXIT_INTERRUPTED = 130 };

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

static void catch_signals(void)
{
#ifdef _WIN32
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
#else
    struct sigaction s; /* reads are interrupted, so that Ctrl-C ends a prompt */
    memset(&s, 0, sizeof s);
    s.sa_handler = on_signal;
    sigaction(SIGINT, &s, NULL);
    sigaction(SIGTERM, &s, NULL);
#endif
}

#define MAX_LIST 64

typedef struct list {
    const char *item[MAX_LIST];
    int n;
} list;

/* every option of every command */
typedef struct options {
    const char *command, *positional[2];
    int n_positional;
    list calib, more_calib, keep, stop, choice;
    const char *output, *layout, *method, *prompt, *text, *file, *ids, *tokens, *baseline, *messages, *dequantize, *shape, *schema, *grammar;
    const char *system, *think, *chat_template, *suite, *passages, *report, *production, *device, *device_layers;
    long long samples, seq_len, bits, group_size, n, ctx_len, stride, threads, memory_limit, seed, top_k, rtn, head_bits, kv_bits, sessions;
    double temp, top_p, min_p, repeat_penalty;
    int symmetric, no_clip, layers, resume, json, quiet, chat, no_special, generation_prompt, exact, deterministic, believe_tensors, mask_answers, ignore_eos, keep_going, help, version;
    int rest_on_cpu;
    int until_guard, quantize, accept_failed, source_instead, save; /* what is done with a verdict */
    long long tries, budget;
    const char *cache, *make_suite;
} options;

typedef struct app {
    awq_ctx ctx;
    awq_pool *pool;
    awq_grammar *grammar; /* of awq run */
    char *chat_template;  /* of --template; NULL: the model's own */
    awq_template_desc chat;
    int think, opens, strips; /* --think; prompts end with <think>; the template takes thoughts from earlier answers */
    options o;
    awq_cuda *cuda[AWQ_MAX_DEVICES]; /* --device, opened when the first model is loaded */
    awq_device *devices[AWQ_MAX_DEVICES];
    int n_devices, device_index[AWQ_MAX_DEVICES], device_layers[AWQ_MAX_DEVICES];
    double last_shown;
    int tty, line_open;
    char problem[8][sizeof ((awq_error *)0)->text]; /* of awq inspect */
    int n_problems;
} app;

/* --- messages, progress, JSON */
static void clear_line(app *a)
{
    if (a->line_open) fprintf(stderr, "\r\033[K");
    a->line_open = 0;
}

static void on_log(void *user, awq_log_level level, const char *text)
{
    app *a = (app *)user;
    if (a->o.quiet || level == AWQ_LOG_DEBUG) return;
    clear_line(a);
    fprintf(stderr, "%s%s\n", level == AWQ_LOG_WARN ? "warning: " : "", text);
}

static int on_progress(void *user, const awq_progress *p)
{
    app *a = (app *)user;
    double left = p->done ? p->seconds / (double)p->done * (double)(p->total - p->done) : 0;
    if (interrupted) return 1;
    if (a->o.quiet || !strcmp(p->stage, "generate") || !strcmp(p->stage, "step") || !strcmp(p->stage, "load")) return 0;
    if (p->seconds - a->last_shown < (a->tty ? 0.2 : 10) && p->seconds >= a->last_shown
        && (p->done < p->total || !a->line_open)) return 0; /* what is short is not shown */
    a->last_shown = p->seconds;
    fprintf(stderr, "%s%s %lld/%lld  %.1f/s  %.0f s left%s", a->tty ? "\r\033[K" : "", p->stage, (long long)p->done,
            (long long)p->total, p->seconds > 0 ? (double)p->done / p->seconds : 0, left, a->tty ? "" : "\n");
    a->line_open = a->tty;
    if (a->tty && p->done == p->total) clear_line(a);
    return 0;
}

static void json_string(const char *s, size_t n)
{
    size_t i;
    putchar('"');
    for (i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 0x20) printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

static int failed(app *a)
{
    clear_line(a);
    if (a->o.json) {
        printf("{\"error\": ");
        json_string(a->ctx.err.text, strlen(a->ctx.err.text));
        printf(", \"status\": \"%s\"}\n", awq_status_name(a->ctx.err.status));
    }
    if (a->ctx.err.status == AWQ_E_CANCELLED) {
        fprintf(stderr, "awq: interrupted\n");
        return EXIT_INTERRUPTED;
    }
    fprintf(stderr, "awq: %s\n", a->ctx.err.text);
    return EXIT_FAILED;
}

/* awq guard says 2 of a model that fails: what it cannot judge is a 3 */
static int exit_of(const app *a, int code)
{
    return code == EXIT_FAILED && a->o.command && !strcmp(a->o.command, "guard") ? EXIT_UNJUDGED : code;
}

static int refuse(app *a, const char *fmt, const char *what)
{
    a->ctx.err.status = AWQ_E_ARG;
    snprintf(a->ctx.err.text, sizeof a->ctx.err.text, fmt, what);
    return failed(a);
}

/* --- help */
static const struct {
    const char *name, *usage, *example;
} commands[] = {
    {"quantize", "SRC -o DST [--calib FILE ...] [--samples 128] [--seq-len 512] [--bits 4] [--group-size N] [--symmetric]\n"
     "       [--layout gemm|gemv|gemv_fast|marlin|gptq|gptq_v2|compressed-tensors|int-quantized|native|scaled-fp16]\n"
     "       [--method best|awq|rtn] [--no-clip] [--keep NAME ...] [--mask-answers] [--memory-limit BYTES] [--resume]\n"
     "       [--device cpu|cuda|cuda:1] [--until-guard --text FILE [--suite FILE.jsonl] [--ctx N] [-n N] [--tries 8]\n"
     "       [--budget SECONDS] [--more-calib FILE ...]]\n"
     "       --until-guard: judges the result by awq guard, tries what its gates ask for and keeps the best; exit 1: it fails\n"
     "       marlin: holds symmetric weights, so --symmetric is meant\n"
     "       scaled-fp16: FP16 weights with scales (and clips of awq) folded in, for another quantizer to round\n"
     "       --device cuda: a GPU computes linears, attention, second moments and losses; the CPU norms and rounding",
     "awq quantize SmolLM2-135M -o SmolLM2-135M-awq --calib wiki.txt"},
    {"convert", "SRC -o DST --layout L [--head-bits 8] | --dequantize fp16|bf16|fp32\n"
     "       native: as the kernels here read it; loads at once, processes share its memory. --head-bits 8 adds the\n"
     "       head that run --head-bits 8 wants", "awq convert SmolLM2-awq -o SmolLM2-native --layout native"},
    {"run", "MODEL [-p TEXT] [--chat [--system TEXT] [--think show|hide|off] [--template FILE]] [-n N] [--sessions N]\n"
     "       [--ctx N] [--stop TEXT ...] [--ignore-eos]\n"
     "       [--temp T --top-k K --top-p P --min-p P --repeat-penalty R --seed S]\n"
     "       [--schema FILE.json | --grammar FILE.gbnf | --choice TEXT ...]\n"
     "       [--quantize [--cache FOLDER] [--calib FILE] [--method best|awq] [--bits N] [--group-size N] [--symmetric]\n"
     "       [--keep NAME ...] [--accept-failed] [--source-instead]]\n"
     "       --chat without -p reads a question a line; /help there lists commands. --sessions: N answers at once\n"
     "       --quantize: a dense MODEL is quantized and judged first, or taken from the cache (MODEL-cache). Refused when\n"
     "       the verdict is fail, but for --accept-failed; --source-instead: runs MODEL as it is then",
     "awq run SmolLM2-awq -p 'Once upon a time' -n 64"},
    {"eval", "MODEL --text FILE [--ctx N] [--stride N] [--rtn BITS --group-size N [--symmetric]] [--baseline MODEL [--layers]]\n"
     "       --layers: what each layer adds to the error; with --json entropies by position are in the object too",
     "awq eval SmolLM2-awq --text wiki.test.txt --baseline SmolLM2-135M"},
    {"guard", "BASELINE MODEL [--suite FILE.jsonl [--passages FILE] [--keep-going]] [--text FILE] [--ctx N]\n"
     "       [--report FILE.html] [-n N] [--rtn BITS --group-size N [--symmetric]] [--save]\n"
     "       [--calib FILE ... [--production FILE] [--seq-len 512]]\n"
     "       | --make-suite TEXT [MODEL] [-o FILE.jsonl] [-n ITEMS]\n"
     "       --make-suite: drafts a suite from a text; MODEL, if it is one to chat with, writes the questions\n"
     "       --save: the verdict goes into MODEL's awq_report.json, where loading and awq inspect find it\n"
     "       is MODEL still BASELINE? exit 0 pass, 1 warn, 2 fail, 3 could not judge. -n: tokens of an answer, 0: no answers.\n"
     "       --suite: lines of JSON with question, paraphrases, answer, anchor, distractor, contexts, schema, long;\n"
     "       --keep-going: lines that are no good or too long are left out, and told. --passages: a text whose paragraphs\n"
     "       are retrieved for 10 of the questions, 5, 10 and 20 of them in three orders (else those of the suite)\n"
     "       --calib: what it was calibrated on, --production: a sample of what it will see; are they of one kind?",
     "awq guard SmolLM2-135M SmolLM2-awq --text wiki.test.txt --report guard.html"},
    {"inspect", "MODEL [--sessions N] [--ctx N] | FILE.safetensors\n       with --device: how many layers go where, and in how much memory",
     "awq inspect SmolLM2-awq"},
    {"tokenize", "MODEL --text T | --file F | --ids 1,2,3 [--no-special]", "awq tokenize SmolLM2-135M --text 'Hello'"},
    {"template", "MODEL --messages FILE.json [--generation-prompt] [--template FILE]\n"
     "       FILE.json: a list of messages, or {\"messages\": [...], \"tools\": [...], other variables}",
     "awq template SmolLM2-135M --messages chat.json"},
    {"logits", "MODEL --tokens 1,2,3 -o FILE.safetensors", "awq logits SmolLM2-awq --tokens 1,2,3 -o logits.safetensors"},
    {"bench", "MODEL [-n N]", "awq bench SmolLM2-awq"},
    {"doctor", "[--device cuda:1 [MODEL]]\n       what this machine has: processor, CUDA driver and device, NVRTC, and what is missing; seconds to compile\n"
     "       kernels, or that they are there compiled; with MODEL where the time to its first token goes",
     "awq doctor"},
};
#define N_COMMANDS ((int)(sizeof commands / sizeof commands[0]))

static const char common[] =
    "common: --json (one object on stdout)  --threads N  -q  --memory-limit BYTES (or 800M, 2G)\n"
    "models: --exact | --deterministic  --head-bits 8  --kv-bits 8|16|32  --believe-tensors (where its config contradicts them)\n"
    "run, eval, guard, logits, bench, inspect, doctor, and one device for quantize: --device cpu | cuda | cuda:1 | cuda:0,cuda:1,...\n"
    "        which GPUs compute the model, its first layers the first of them; without --device no GPU is looked for, with it\n"
    "        none is a failure\n"
    "        --device-layers 20,12: how many layers each gets (else as many as it has room for)\n"
    "        --rest-on-cpu: the CPU computes layers that are left (else they are a failure)\n"
    "awq --version, awq help [COMMAND] or --help\n"
    "exit:   0 success, 1 the answer is no, 2 refused or failed, 130 interrupted\n";

static int help(const char *which)
{
    int i, found = 0;
    if (!which) printf("awq %s - 4-bit quantization and inference for llama-family models\n\n", awq_version());
    for (i = 0; i < N_COMMANDS; i++) {
        if (which && strcmp(which, commands[i].name)) continue;
        found = 1;
        printf("awq %s %s\n", commands[i].name, commands[i].usage);
        if (which) printf("\nexample: %s\n", commands[i].example);
    }
    if (!found) {
        fprintf(stderr, "awq: no command \"%s\"; awq help lists them\n", which);
        return EXIT_FAILED;
    }
    printf("\n%s", common);
    return 0;
}

/* --- options */
/* whether the text, a part of the help, speaks of the option: what a command does not mention it does not take */
static int mentions(const char *text, const char *option)
{
    const size_t n = strlen(option);
    const char *s = text;
    for (; (s = strstr(s, option)) != NULL; s += n)
        if ((s == text || strchr(" [(|", s[-1])) && !strchr("abcdefghijklmnopqrstuvwxyz-", s[n] ? s[n] : ' ')) return 1;
    return 0;
}

static int takes(const char *command, const char *option)
{
    int i;
    for (i = 0; i < N_COMMANDS && strcmp(command, commands[i].name); i++) {}
    return i == N_COMMANDS || mentions(commands[i].usage, option) || mentions(common, option);
}

/* options that mean nothing without another one */
static const struct {
    const char *command, *option, *needs;
} only_with[] = {
    {"quantize", "--text", "--until-guard"}, {"quantize", "--suite", "--until-guard"}, {"quantize", "--ctx", "--until-guard"},
    {"quantize", "-n", "--until-guard"}, {"quantize", "--tries", "--until-guard"}, {"quantize", "--budget", "--until-guard"},
    {"quantize", "--more-calib", "--until-guard"},
    {"run", "--cache", "--quantize"}, {"run", "--calib", "--quantize"}, {"run", "--method", "--quantize"},
    {"run", "--bits", "--quantize"}, {"run", "--group-size", "--quantize"}, {"run", "--symmetric", "--quantize"},
    {"run", "--keep", "--quantize"}, {"run", "--accept-failed", "--quantize"}, {"run", "--source-instead", "--quantize"},
    {"run", "--system", "--chat"}, {"run", "--think", "--chat"}, {"run", "--template", "--chat"}, {"run", "--sessions", "-p"},
    {"eval", "--group-size", "--rtn"}, {"eval", "--symmetric", "--rtn"}, {"eval", "--layers", "--baseline"},
    {"guard", "--group-size", "--rtn"}, {"guard", "--symmetric", "--rtn"}, {"guard", "--passages", "--suite"},
    {"guard", "--keep-going", "--suite"}, {"guard", "--seq-len", "--calib"}, {"guard", "-o", "--make-suite"},
};

/* numbers from least to most; command NULL: of any */
#define MAX_SESSIONS 1024
static const struct {
    const char *command, *option;
    double least, most;
} ranges[] = {
    {NULL, "--threads", 0, 1024}, {NULL, "--ctx", 0, 2147483648.0}, {NULL, "-n", 0, 2147483647},
    {"eval", "--ctx", 16, 2147483648.0}, {"guard", "--ctx", 16, 2147483648.0},
    {"run", "--sessions", 1, MAX_SESSIONS}, {"inspect", "--sessions", 1, 1000000},
    {NULL, "--temp", 0, 1e6}, {NULL, "--top-k", 0, 2147483647}, {NULL, "--top-p", 0, 1}, {NULL, "--min-p", 0, 1},
    {NULL, "--repeat-penalty", 0, 1e6}, {NULL, "--bits", 0, 64}, {NULL, "--rtn", 0, 64}, {NULL, "--head-bits", 0, 64},
    {NULL, "--kv-bits", 0, 64}, {NULL, "--tries", 0, 1000000}, {NULL, "--budget", 0, 2147483647},
    {NULL, "--stride", 0, 2147483647},
};

typedef enum kind { FLAG, TEXT, WHOLE, REAL, BYTES, LIST } kind;

/* digits, and K, M or G behind them in BYTES; 0: it is no such number */
static int whole(const char *s, kind k, long long *v)
{
    static const char units[] = "KMG";
    char *end;
    const char *unit;
    int shift = 0;
    *v = strtoll(s, &end, 10);
    if (end == s) return 0;
    if (k == BYTES) {
        if (*end && (unit = strchr(units, *end)) != NULL) shift = 10 * (int)(unit - units + 1), end++;
        if (*v < 0 || *v > INT64_MAX >> shift) return 0;
        *v <<= shift;
    }
    return !*end;
}

static int parse(app *a, int argc, char **argv)
{
    options *o = &a->o;
    const struct {
        const char *name;
        kind k;
        void *to;
    } table[] = {
        {"-o", TEXT, &o->output}, {"--calib", LIST, &o->calib},
        {"--keep", LIST, &o->keep}, {"--stop", LIST, &o->stop}, {"--samples", WHOLE, &o->samples},
        {"--seq-len", WHOLE, &o->seq_len}, {"--bits", WHOLE, &o->bits}, {"--group-size", WHOLE, &o->group_size},
        {"--symmetric", FLAG, &o->symmetric}, {"--layout", TEXT, &o->layout}, {"--method", TEXT, &o->method},
        {"--no-clip", FLAG, &o->no_clip}, {"--mask-answers", FLAG, &o->mask_answers}, {"--resume", FLAG, &o->resume},
        {"--memory-limit", BYTES, &o->memory_limit}, {"--seed", WHOLE, &o->seed}, {"--dequantize", TEXT, &o->dequantize},
        {"-p", TEXT, &o->prompt}, {"--chat", FLAG, &o->chat}, {"-n", WHOLE, &o->n},
        {"--temp", REAL, &o->temp}, {"--top-k", WHOLE, &o->top_k}, {"--top-p", REAL, &o->top_p},
        {"--min-p", REAL, &o->min_p}, {"--repeat-penalty", REAL, &o->repeat_penalty}, {"--system", TEXT, &o->system},
        {"--ignore-eos", FLAG, &o->ignore_eos}, {"--text", TEXT, &o->text}, {"--file", TEXT, &o->file},
        {"--ids", TEXT, &o->ids}, {"--tokens", TEXT, &o->tokens}, {"--no-special", FLAG, &o->no_special},
        {"--think", TEXT, &o->think}, {"--template", TEXT, &o->chat_template},
        {"--messages", TEXT, &o->messages}, {"--generation-prompt", FLAG, &o->generation_prompt},
        {"--ctx", WHOLE, &o->ctx_len}, {"--sessions", WHOLE, &o->sessions},
        {"--schema", TEXT, &o->schema}, {"--grammar", TEXT, &o->grammar}, {"--choice", LIST, &o->choice}, {"--stride", WHOLE, &o->stride}, {"--baseline", TEXT, &o->baseline},
        {"--layers", FLAG, &o->layers}, {"--suite", TEXT, &o->suite}, {"--passages", TEXT, &o->passages}, {"--keep-going", FLAG, &o->keep_going},
        {"--report", TEXT, &o->report}, {"--production", TEXT, &o->production},
        {"--rtn", WHOLE, &o->rtn}, {"--exact", FLAG, &o->exact}, {"--json", FLAG, &o->json},
        {"--deterministic", FLAG, &o->deterministic}, {"--believe-tensors", FLAG, &o->believe_tensors}, {"--head-bits", WHOLE, &o->head_bits},
        {"--kv-bits", WHOLE, &o->kv_bits},
        {"--device", TEXT, &o->device}, {"--device-layers", TEXT, &o->device_layers}, {"--rest-on-cpu", FLAG, &o->rest_on_cpu},
        {"--until-guard", FLAG, &o->until_guard}, {"--tries", WHOLE, &o->tries}, {"--budget", WHOLE, &o->budget},
        {"--more-calib", LIST, &o->more_calib}, {"--quantize", FLAG, &o->quantize}, {"--cache", TEXT, &o->cache},
        {"--accept-failed", FLAG, &o->accept_failed}, {"--source-instead", FLAG, &o->source_instead}, {"--save", FLAG, &o->save},
        {"--make-suite", TEXT, &o->make_suite},
        {"--threads", WHOLE, &o->threads}, {"-q", FLAG, &o->quiet}, {"--help", FLAG, &o->help}, {"--version", FLAG, &o->version},
    };
    static const char *const other_name[][2] = {{"--output", "-o"}, {"--prompt", "-p"}, {"--quiet", "-q"},
                                             {"-h", "--help"}};
    unsigned char given[sizeof table / sizeof table[0]] = {0};
    int i, k, n = (int)(sizeof table / sizeof table[0]);
    o->n = -1; /* not given */
    for (i = 1; i < argc; i++) /* first, so that any refusal below is JSON too */
        if (!strcmp(argv[i], "--json")) o->json = 1;
    for (i = 1; i < argc; i++) {
        const char *s = argv[i], *v;
        char *end, what[200];
        if (s[0] != '-' || !s[1]) {
            if (!o->command) o->command = s;
            else if (o->n_positional < 2) o->positional[o->n_positional++] = s;
            else return refuse(a, "unexpected argument \"%s\"", s);
            continue;
        }
        for (k = 0; k < 4; k++)
            if (!strcmp(s, other_name[k][0])) s = other_name[k][1];
        for (k = 0; k < n && strcmp(s, table[k].name); k++) {}
        if (k < n) given[k] = 1;
        if (k == n) return refuse(a, "unknown option %s; awq help lists the options", s);
        if (table[k].k == FLAG) {
            *(int *)table[k].to = 1;
            continue;
        }
        if (i + 1 >= argc) return refuse(a, "option %s wants a value", s);
        v = argv[++i];
        if (table[k].k == TEXT) *(const char **)table[k].to = v;
        else if (table[k].k == LIST) {
            list *l = (list *)table[k].to;
            if (l->n == MAX_LIST) return refuse(a, "option %s was given too often", s);
            l->item[l->n++] = v;
        } else {
            int good;
            if (table[k].k != REAL) good = whole(v, table[k].k, (long long *)table[k].to);
            else *(double *)table[k].to = strtod(v, &end), good = end != v && !*end;
            if (!good) {
                snprintf(what, sizeof what, "%s wants a number%s, not \"%.100s\"", s,
                         table[k].k == BYTES ? " of bytes such as 800M" : "", v);
                return refuse(a, "%s", what);
            }
        }
    }
    if (!o->command) return 0;
    for (k = 0; k < n; k++) {
        char what[200];
        double v;
        if (!given[k]) continue;
        if (!takes(o->command, table[k].name)) {
            snprintf(what, sizeof what, "awq %.20s takes no %s; see awq help %.20s", o->command, table[k].name, o->command);
            return refuse(a, "%s", what);
        }
        for (i = 0; i < (int)(sizeof only_with / sizeof only_with[0]); i++) {
            int other;
            if (strcmp(o->command, only_with[i].command) || strcmp(table[k].name, only_with[i].option)) continue;
            for (other = 0; strcmp(table[other].name, only_with[i].needs); other++) {}
            if (given[other]) continue;
            snprintf(what, sizeof what, "%s means nothing without %s; see awq help %s", table[k].name, only_with[i].needs,
                     o->command);
            return refuse(a, "%s", what);
        }
        for (i = 0; i < (int)(sizeof ranges / sizeof ranges[0]); i++) {
            if ((ranges[i].command && strcmp(o->command, ranges[i].command)) || strcmp(table[k].name, ranges[i].option)) continue;
            v = table[k].k == REAL ? *(double *)table[k].to : (double)*(long long *)table[k].to;
            if (v >= ranges[i].least && v <= ranges[i].most) continue;
            snprintf(what, sizeof what, "%s wants %.10g to %.10g, not %.10g", table[k].name, ranges[i].least, ranges[i].most, v);
            return refuse(a, "%s", what);
        }
    }
    if (o->exact && o->deterministic) return refuse(a, "--exact or --deterministic, not both%s", "");
    if (o->n_positional > 1 && strcmp(o->command, "guard")) return refuse(a, "unexpected argument \"%s\"", o->positional[1]);
    return 0;
}

/* --- small helpers */
static int need_model(app *a)
{
    if (a->o.n_positional >= 1) return 0;
    return refuse(a, "awq %s wants a model folder; see awq help", a->o.command);
}

static awq_mode mode_of(const options *o)
{
    return o->exact ? AWQ_MODE_EXACT : o->deterministic ? AWQ_MODE_DETERMINISTIC : AWQ_MODE_FAST;
}

static awq_model_desc model_desc(const app *a, int rtn)
{
    awq_model_desc d;
    memset(&d, 0, sizeof d);
    d.mode = mode_of(&a->o);
    d.head_bits = (int)a->o.head_bits;
    d.kv_bits = (int)a->o.kv_bits;
    d.believe_tensors = a->o.believe_tensors;
    d.devices = a->devices;
    d.n_devices = a->n_devices;
    d.device_layers = a->o.device_layers ? a->device_layers : NULL;
    d.rest_on_cpu = a->o.rest_on_cpu;
    if (a->n_devices) d.device_tokens = AWQ__MAX(a->o.sessions, 1) * (a->o.ctx_len > 0 ? a->o.ctx_len : 4096); /* as sessions of awq run */
    if (rtn) {
        d.rtn_bits = (int)a->o.rtn;
        d.rtn_group_size = a->o.group_size;
        d.rtn_symmetric = a->o.symmetric;
    }
    return d;
}

/* the number of a list that is behind `before`, which may be all there is of it: 0 then; -1: something else is there.
   *s goes on behind it and its ',' */
static int list_number(const char **s, const char *before, int optional)
{
    size_t n = strlen(before);
    const char *p = *s + n;
    char *end;
    long v = 0;
    if (strncmp(*s, before, n)) return -1;
    if (!optional || *p == ':') {
        p += optional;
        v = strtol(p, &end, 10);
        if (*p < '0' || *p > '9' || v > INT32_MAX) return -1;
        p = end;
    }
    if (*p && (*p != ',' || !p[1])) return -1;
    *s = p + (*p != 0);
    return (int)v;
}

/* --device, --device-layers and --rest-on-cpu, as far as they can be looked at without a device */
static int read_devices(app *a)
{
    options *o = &a->o;
    const char *s = o->device && strcmp(o->device, "cpu") ? o->device : NULL;
    int n, k;
    for (a->n_devices = 0; s && (*s || !a->n_devices); a->device_index[a->n_devices++] = n) {
        if (a->n_devices == AWQ_MAX_DEVICES) return refuse(a, "--device %s: at most 8 devices", o->device);
        if ((n = list_number(&s, "cuda", 1)) < 0)
            return refuse(a, "--device %s: expected cpu, cuda, cuda:1 or a list such as cuda:0,cuda:1; the CPU takes "
                          "what is left with --rest-on-cpu", o->device);
        for (k = 0; k < a->n_devices; k++)
            if (a->device_index[k] == n) return refuse(a, "--device %s: a device is there twice", o->device);
    }
    if (!a->n_devices && o->device_layers) return refuse(a, "--device-layers %s: of which device? --device cuda", o->device_layers);
    if (!a->n_devices && o->rest_on_cpu) return refuse(a, "--rest-on-cpu wants a device%s", ": --device cuda");
    for (s = o->device_layers, k = 0; s && k < a->n_devices; k++)
        if ((a->device_layers[k] = list_number(&s, "", 0)) < 0) break;
    if (s && (k < a->n_devices || *s))
        return refuse(a, "--device-layers %s: expected a number of layers for each device, such as 20,12", o->device_layers);
    return 0;
}

/* Opens what --device names, once; close_devices at the end. For whatever takes an awq_device: a->devices. */
static int open_devices(app *a)
{
    awq_cuda_desc d;
    int k;
    memset(&d, 0, sizeof d);
    for (k = 0; k < a->n_devices && !a->cuda[k]; k++) {
        d.index = a->device_index[k];
        if (awq_cuda_create(&a->ctx, &d, &a->cuda[k])) return failed(a);
        a->devices[k] = awq_cuda_device(a->cuda[k]);
    }
    return 0;
}

static void close_devices(app *a)
{
    int k;
    for (k = 0; k < a->n_devices; k++) awq_cuda_free(&a->ctx, a->cuda[k]);
}

static void print_places(const app *a, FILE *f, const char *indent, const awq_memory *m)
{
    int k;
    for (k = 0; k < a->n_devices; k++) {
        const awq_device_memory *p = &m->device[k];
        if (!p->layers) fprintf(f, "%s%s: no layers\n", indent, p->name);
        else fprintf(f, "%s%s: layers %d to %d, %.1f MB needed of %.1f MB there\n", indent, p->name, p->first_layer,
                     p->first_layer + p->layers - 1, (double)p->needed / 1e6, (double)p->available / 1e6);
    }
    if (m->host_layers) fprintf(f, "%sCPU: the last %d layers, ", indent, m->host_layers);
    else fprintf(f, "%sCPU: no layers, ", indent);
    fprintf(f, "%.1f MB needed (%.1f MB while it loads)\n", (double)(m->model + m->runner + m->session) / 1e6,
            (double)m->loading / 1e6);
}

/* where the layers will be, and in how much memory; refusals come from here, before anything is read */
static int tell_places(app *a, const char *folder, const awq_model_desc *desc)
{
    awq_memory m;
    awq_status st;
    a->ctx.log = NULL; /* awq_model_load will say it */
    st = awq_memory_needed(&a->ctx, folder, desc, NULL, NULL, 1, &m);
    a->ctx.log = on_log;
    if (st) return failed(a);
    if (!a->o.quiet) print_places(a, stderr, "", &m);
    return 0;
}

static int load(app *a, const char *folder, int rtn, awq_model **m)
{
    awq_model_desc d = model_desc(a, rtn);
    int code;
    if (a->n_devices && ((code = open_devices(a)) != 0 || (code = tell_places(a, folder, &d)) != 0)) return code;
    return awq_model_load(&a->ctx, folder, &d, m) ? failed(a) : 0;
}

/* "1,2,3" -> ids; the caller frees, after a failure too */
static int parse_ids(app *a, const char *s, int32_t **ids, int64_t *n)
{
    int64_t count = 1, i = 0;
    const char *p;
    for (p = s; *p; p++) count += *p == ',';
    *ids = (int32_t *)malloc((size_t)count * sizeof **ids);
    if (!*ids) return refuse(a, "out of memory%s", "");
    for (p = s; *p;) {
        char *end;
        long long v = strtoll(p, &end, 10);
        if (end == p || v < 0 || v > INT32_MAX || (*end && *end != ','))
            return refuse(a, "\"%s\" is not a list of token ids such as 1,2,3", s);
        (*ids)[i++] = (int32_t)v;
        p = *end ? end + 1 : end;
    }
    *n = i;
    return 0;
}

/* The tokens of --text FILE: text, or token ids from .json ({"ids", "window"} or a list of equal lists). */
static awq_status read_text(app *a, const awq_tokenizer *t, const char *path, awq_calibration *c)
{
    awq_calibration_source src;
    awq_calibration_desc d;
    memset(&src, 0, sizeof src);
    memset(&d, 0, sizeof d);
    src.path = path;
    d.sources = &src;
    d.n_sources = 1;
    d.samples = INT32_MAX; /* everything */
    d.seq_len = a->o.ctx_len;
    return awq_calibration_load(&a->ctx, t, &d, c);
}

static int read_eval_ids(app *a, const awq_model *m, const char *path, awq_calibration *c)
{
    return read_text(a, awq_model_tokenizer(m), path, c) ? failed(a) : 0;
}

/* --- commands */
static awq_status read_calibration(app *a, const awq_tokenizer *t, const list *files, awq_calibration *cal)
{
    awq_calibration_source src[MAX_LIST];
    awq_calibration_desc cd;
    int i;
    memset(&cd, 0, sizeof cd);
    memset(src, 0, sizeof src);
    for (i = 0; i < files->n; i++) {
        char *eq = strrchr((char *)(uintptr_t)files->item[i], '='), *end = NULL;
        double weight = eq ? strtod(eq + 1, &end) : 0;
        src[i].path = files->item[i];
        if (weight > 0 && !*end) { /* FILE=WEIGHT */
            src[i].weight = weight;
            *eq = 0;
        }
    }
    cd.sources = src;
    cd.n_sources = files->n;
    cd.samples = a->o.samples;
    cd.seq_len = a->o.seq_len;
    cd.mask_answers = a->o.mask_answers;
    return awq_calibration_load(&a->ctx, t, &cd, cal);
}

/* failed, and what can be done where the target has a journal */
static int unfinished(app *a, const char *journal)
{
    int code = failed(a);
    size_t n = strlen(a->o.output);
    char path[1024];
    while (n > 1 && a->o.output[n - 1] == '/') n--;
    snprintf(path, sizeof path, "%.*s%s", (int)AWQ__MIN(n, (size_t)900), a->o.output, journal);
    if ((!a->o.resume || a->ctx.err.status != AWQ_E_ARG) && awq__file_exists(&a->ctx, path))
        fprintf(stderr, "awq: what is done is kept; --resume goes on from there\n");
    return code;
}

static void print_try(void *user, const awq_try *t)
{
    const app *a = (const app *)user;
    if (a->o.json) return;
    printf("%-28s %-5s", t->what, t->verdict == AWQ_VOID ? "-" : awq_severity_name(t->verdict));
    if (t->kl == t->kl) printf("  KL %-8.4g perplexity x %-7.4g", t->kl, t->ppl_ratio);
    if (t->verdict != AWQ_VOID) printf("  %d of %d gates pass", t->counted - t->failed, t->counted);
    printf("  %.1f s%s\n", t->seconds, t->resumed ? ", of the run before" : "");
    if (t->text[0]) printf("      %s\n", t->text);
    fflush(stdout);
}

static int print_until(app *a, const awq_until_result *u)
{
    const awq_try *best = &u->tried[u->best];
    int i;
    if (a->o.json) {
        printf("{\"verdict\": \"%s\", \"best\": %d, \"group_size\": %lld, \"tries\": [", awq_severity_name(best->verdict),
               u->best, (long long)u->quantize.group_size);
        for (i = 0; i < u->n_tries; i++) {
            const awq_try *t = &u->tried[i];
            printf(i ? ", {\"what\": " : "{\"what\": ");
            json_string(t->what, strlen(t->what));
            printf(", \"verdict\": \"%s\", \"failed\": %d, \"seconds\": %.2f", awq_severity_name(t->verdict), t->failed, t->seconds);
            if (t->kl == t->kl) printf(", \"kl_mean\": %.6g, \"ppl_ratio\": %.6g", t->kl, t->ppl_ratio);
            printf(", \"resumed\": %s, \"text\": ", t->resumed ? "true" : "false");
            json_string(t->text, strlen(t->text));
            printf("}");
        }
        printf("], \"ended\": ");
        if (u->ended) json_string(u->why, strlen(u->why));
        else printf("null");
        printf("}\n");
    } else {
        printf("%s: %s, kept of %d tries: %s\n", a->o.output, awq_severity_name(best->verdict), u->n_tries, best->what);
        if (u->ended) printf("      no other was begun: %s\n", u->why);
    }
    return best->verdict == AWQ_FAIL ? EXIT_NO : 0;
}

/* --until-guard */
static int quantize_until(app *a, const awq_quantize_desc *d, awq_until_result *u, awq_quantize_result *r)
{
    options *o = &a->o;
    awq_tokenizer *t = NULL;
    awq_calibration text, more;
    awq_suite suite;
    awq_until_desc ud;
    awq_status st;
    if (!o->text && !o->suite) return refuse(a, "--until-guard wants --text FILE or --suite FILE or both, to judge by%s", "");
    memset(&text, 0, sizeof text);
    memset(&more, 0, sizeof more);
    memset(&suite, 0, sizeof suite);
    memset(&ud, 0, sizeof ud);
    st = awq_tokenizer_load(&a->ctx, d->source, &t);
    if (!st && o->text && read_text(a, t, o->text, &text)) st = a->ctx.err.status;
    if (!st && o->more_calib.n) st = read_calibration(a, t, &o->more_calib, &more);
    if (!st && o->suite) st = awq_suite_load(&a->ctx, o->suite, &suite);
    ud.quantize = d;
    ud.suite = o->suite ? &suite : NULL;
    if (!st && o->text) {
        ud.ids = text.ids;
        ud.n_ids = text.start[text.n_blocks];
        ud.window = o->ctx_len > 0 ? o->ctx_len : text.start[1] - text.start[0];
    }
    ud.answer_tokens = o->n < 0 ? 0 : o->n == 0 ? -1 : o->n;
    ud.more = more.n_blocks ? &more : NULL;
    ud.tries = (int)o->tries;
    ud.seconds = (double)o->budget;
    ud.on_try = print_try;
    ud.user = a;
    if (!st) st = awq_quantize_until(&a->ctx, &ud, u);
    if (!st) *r = u->quantize;
    awq_suite_free(&a->ctx, &suite);
    awq_calibration_free(&a->ctx, &more);
    awq_calibration_free(&a->ctx, &text);
    awq_tokenizer_free(&a->ctx, t);
    return st ? unfinished(a, ".tries") : 0;
}

static int cmd_quantize(app *a)
{
    options *o = &a->o;
    awq_quantize_desc d;
    awq_quantize_result r;
    awq_until_result u;
    awq_calibration cal;
    awq_tokenizer *t = NULL;
    awq_status st = AWQ_OK;
    int i;
    if (need_model(a)) return EXIT_FAILED;
    if (!o->output) return refuse(a, "awq quantize wants a target folder: -o DST%s", "");
    memset(&d, 0, sizeof d);
    memset(&cal, 0, sizeof cal);
    d.source = o->positional[0];
    d.target = o->output;
    d.bits = (int)o->bits;
    d.group_size = o->group_size;
    d.symmetric = o->symmetric;
    d.no_clip = o->no_clip;
    d.keep = o->keep.item;
    d.n_keep = o->keep.n;
    d.resume = o->resume;
    d.mode = mode_of(o);
    if (!o->method || !strcmp(o->method, "best")) d.method = AWQ_METHOD_BEST;
    else if (!strcmp(o->method, "awq")) d.method = AWQ_METHOD_AWQ;
    else if (!strcmp(o->method, "rtn")) d.method = AWQ_METHOD_RTN;
    else return refuse(a, "--method %s: expected best, awq or rtn", o->method);
    d.scaled = o->layout && !strcmp(o->layout, "scaled-fp16");
    if (o->layout && !d.scaled && (d.layout = awq_layout_from_name(o->layout)) == AWQ_LAYOUT_NONE)
        return refuse(a, "--layout %s: expected gemm, gemv, gemv_fast, marlin, gptq, gptq_v2, compressed-tensors, "
                      "int-quantized, native or scaled-fp16", o->layout);
    if (d.layout == AWQ_LAYOUT_MARLIN) d.symmetric = 1;
    if (d.method != AWQ_METHOD_RTN) {
        char *path;
        if (!o->calib.n) return refuse(a, "--method %s needs calibration text: --calib FILE (.txt, .jsonl or token-id .json)",
                                       o->method ? o->method : "best");
        path = awq__path_join(&a->ctx, d.source, "tokenizer.json");
        if (!path) return failed(a);
        if (awq__file_exists(&a->ctx, path)) st = awq_tokenizer_load(&a->ctx, d.source, &t);
        awq__free(&a->ctx, path);
        if (st) return failed(a);
        st = read_calibration(a, t, &o->calib, &cal);
        awq_tokenizer_free(&a->ctx, t);
        if (st) return failed(a);
        d.calibration = &cal;
    }
    i = 0;
    if (a->n_devices > 1 || o->device_layers || o->rest_on_cpu)
        i = refuse(a, "awq quantize computes on one device: --device %s alone", "cuda:1");
    if (!i) i = open_devices(a);
    if (!i) {
        d.device = a->n_devices ? a->devices[0] : NULL;
        if (o->until_guard) i = quantize_until(a, &d, &u, &r);
        else st = awq_quantize_model(&a->ctx, &d, &r);
    }
    awq_calibration_free(&a->ctx, &cal);
    if (i) return i;
    if (o->until_guard) return print_until(a, &u);
    if (st) return unfinished(a, ".partial/progress.jsonl");
    if (o->json)
        printf("{\"seconds\": %.2f, \"peak_bytes\": %llu, \"ppl_calib\": %.5g, \"ppl_source\": %.5g, \"layers\": %d, "
               "\"fell_back\": %d, \"group_size\": %lld, \"calibration_tokens\": %lld, \"experts_few\": %d, "
               "\"experts_unused\": %d}\n", r.seconds, (unsigned long long)r.peak_bytes, r.ppl_result, r.ppl_source,
               r.layers, r.fell_back, (long long)r.group_size, (long long)r.calibration_tokens, r.experts_few,
               r.experts_unused);
    else {
        printf("%s: %d layers, group size %lld, in %.1f s, at most %.0f MB of memory\n", d.target, r.layers,
               (long long)r.group_size, r.seconds, (double)r.peak_bytes / 1e6);
        if (r.ppl_result > 0) printf("perplexity on calibration text held out: %.3f before, %.3f after\n", r.ppl_source,
                                     r.ppl_result);
        if (r.experts_few) printf("%d experts saw fewer tokens than they have inputs, %d of them none: more samples "
                                  "would serve them better\n", r.experts_few, r.experts_unused);
        if (r.fell_back) printf("%d layers kept plain rounding: the search was not better there\n", r.fell_back);
    }
    return 0;
}

static int cmd_convert(app *a)
{
    options *o = &a->o;
    awq_convert_desc d;
    if (need_model(a)) return EXIT_FAILED;
    if (!o->output) return refuse(a, "awq convert wants a target folder: -o DST%s", "");
    memset(&d, 0, sizeof d);
    d.source = o->positional[0];
    d.target = o->output;
    if (o->layout && (d.layout = awq_layout_from_name(o->layout)) == AWQ_LAYOUT_NONE)
        return refuse(a, "--layout %s: expected gemm, gemv, gemv_fast, marlin, gptq, gptq_v2, compressed-tensors, "
                      "int-quantized or native", o->layout);
    d.head_bits = (int)o->head_bits;
    if (o->dequantize) {
        if (!strcmp(o->dequantize, "fp16")) d.dequantize = AWQ_F16;
        else if (!strcmp(o->dequantize, "bf16")) d.dequantize = AWQ_BF16;
        else if (!strcmp(o->dequantize, "fp32")) d.dequantize = AWQ_F32;
        else return refuse(a, "--dequantize %s: expected fp16, bf16 or fp32", o->dequantize);
    }
    if (awq_convert(&a->ctx, &d)) return failed(a);
    if (o->json) printf("{\"target\": "), json_string(d.target, strlen(d.target)), printf("}\n");
    else printf("%s is written\n", d.target);
    return 0;
}

/* An answer as it is made. A chat's may begin with thoughts, <think>...</think>, that are told apart. */
enum { THINK_SHOW, THINK_HIDE, THINK_OFF };
enum { AT_START, IN_THOUGHTS, BEHIND_THOUGHTS, IN_TEXT };

typedef struct answer {
    awq__text all; /* thoughts, tags and text */
    app *a;
    int show;      /* while it is made */
    int at;        /* which part of it all[seen] is in */
    size_t seen, thoughts, n_thoughts, text; /* text: where it begins; n_thoughts: bytes */
} answer;

static const char *answer_text(const answer *r) { return r->all.data ? r->all.data + r->text : ""; }

/* bytes at the end of s that may be the beginning of a tag */
static size_t half_tag(const char *s, size_t n, const char *tag)
{
    size_t k = strlen(tag) - 1;
    while (k && (k > n || memcmp(s + n - k, tag, k))) k--;
    return k;
}

static void answer_put(const answer *r, const char *s, size_t n, int thought)
{
    if (r->show && !(thought && r->a->think)) fwrite(s, 1, n, stdout);
}

static void answer_mark(answer *r, int begin) /* around thoughts: dimmed on a terminal */
{
    const char *mark = begin ? "<think>" : "</think>";
    if (isatty(fileno(stdout))) mark = begin ? "\033[2m" : "\033[0m";
    answer_put(r, mark, strlen(mark), 1);
    if (!begin) answer_put(r, "\n\n", 2, 1);
    r->at = begin ? IN_THOUGHTS : BEHIND_THOUGHTS;
}

/* shows what has come; last: nothing more will */
static void answer_look(answer *r, int last)
{
    const char *s = r->all.data ? r->all.data : "", *tag;
    size_t n = r->all.len, k;
    if (r->at == AT_START) {
        k = strspn(s, " \n");
        if (n - k >= 7 && !memcmp(s + k, "<think>", 7)) {
            r->seen = r->thoughts = k + 7;
            answer_mark(r, 1);
        } else if (last || half_tag(s + k, n - k, "<think>") < n - k) r->at = IN_TEXT;
    }
    if (r->at == IN_THOUGHTS) {
        tag = strstr(s + r->seen, "</think>");
        k = tag ? (size_t)(tag - s) : last ? n : n - half_tag(s + r->seen, n - r->seen, "</think>");
        answer_put(r, s + r->seen, k - r->seen, 1);
        r->n_thoughts = k - r->thoughts;
        r->seen = r->text = tag ? k + 8 : k;
        if (tag) answer_mark(r, 0);
        else if (last && isatty(fileno(stdout))) answer_put(r, "\033[0m", 4, 1);
    }
    if (r->at == BEHIND_THOUGHTS) {
        r->seen = r->text = r->seen + strspn(s + r->seen, "\n");
        if (r->seen < n) r->at = IN_TEXT;
    }
    if (r->at == IN_TEXT) {
        answer_put(r, s + r->seen, n - r->seen, 0);
        r->seen = n;
    }
    if (r->show) fflush(stdout);
}

static int on_text(void *user, const char *text, size_t bytes)
{
    answer *r = (answer *)user;
    awq__text_add(&r->a->ctx, &r->all, text, bytes);
    answer_look(r, 0);
    return interrupted != 0;
}

static void answer_new(app *a, answer *r)
{
    memset(r, 0, sizeof *r);
    r->a = a;
    r->show = !a->o.json;
    r->at = a->o.chat ? AT_START : IN_TEXT;
    if (a->o.chat && a->opens) answer_mark(r, 1);
}

static void fill_generate(app *a, awq_generate_desc *d, answer *r)
{
    options *o = &a->o;
    memset(d, 0, sizeof *d);
    d->max_tokens = o->n > 0 ? o->n : 128;
    d->sampling.temperature = (float)o->temp;
    d->sampling.top_k = (int)o->top_k;
    d->sampling.top_p = (float)o->top_p;
    d->sampling.min_p = (float)o->min_p;
    d->sampling.repetition_penalty = (float)o->repeat_penalty;
    d->sampling.seed = (uint64_t)o->seed;
    d->stop = o->stop.item;
    d->n_stop = (size_t)o->stop.n;
    d->ignore_eos = o->ignore_eos;
    d->grammar = a->grammar;
    d->on_text = on_text;
    d->user = r;
    d->chat_template = a->chat_template;
    d->chat = &a->chat;
}

static double per_second(int64_t n, double seconds) { return seconds > 0 ? (double)n / seconds : 0; }

/* {"thinking" (if there was any), "text", and every number of an answer; } is left to the caller */
static void json_answer(const answer *a, const awq_generate_result *r)
{
    static const char *const reasons[] = {"length", "eos", "string", "caller", "context", "grammar", "failed"};
    const char *s = a->all.data ? a->all.data + a->thoughts : "";
    size_t n = a->n_thoughts;
    while (n && *s == '\n') s++, n--;
    while (n && s[n - 1] == '\n') n--;
    printf("{");
    if (a->n_thoughts) printf("\"thinking\": "), json_string(s, n), printf(", ");
    printf("\"text\": ");
    json_string(answer_text(a), a->all.len - a->text);
    printf(", \"tokens\": %lld, \"prompt_tokens\": %lld, \"cached_tokens\": %lld, \"decode_tokens_per_s\": %.2f, "
           "\"prefill_tokens_per_s\": %.2f, \"stop\": \"%s\", \"complete\": %s", (long long)r->tokens,
           (long long)r->prompt_tokens, (long long)r->cached_tokens, per_second(r->tokens, r->decode_seconds),
           per_second(r->prompt_tokens - r->cached_tokens, r->prefill_seconds), reasons[r->reason],
           r->complete ? "true" : "false");
}

/* What chat templates are rendered over: [message, ...] or {"messages": [...], "tools": [...], other variables}. */
typedef struct conversation {
    awq__arena arena; /* owns everything below */
    awq_message *messages;
    size_t n;
    awq_template_desc with;
} conversation;

/* JSON of a node, or of the members of an object but for messages and tools */
static const char *json_of(app *a, awq__arena *arena, const awq__json *j, uint32_t node, int others)
{
    awq__text t = {NULL, 0, 0, 0};
    const char *text = NULL;
    uint32_t i;
    if (!others) awq__json_write(&a->ctx, &t, j, node);
    else awq__text_str(&a->ctx, &t, "{");
    for (i = others ? awq__json_first(j, node) : 0; i; i = awq__json_next(j, i)) {
        const char *key = awq__json_key(j, i);
        if (!strcmp(key, "messages") || !strcmp(key, "tools")) continue;
        awq__text_str(&a->ctx, &t, t.len > 1 ? ", " : "");
        awq__json_quote(&a->ctx, &t, key, strlen(key));
        awq__text_str(&a->ctx, &t, ": ");
        awq__json_write(&a->ctx, &t, j, i);
    }
    if (others) awq__text_str(&a->ctx, &t, "}");
    if (!t.failed) text = awq__arena_text(&a->ctx, arena, t.data, t.len);
    awq__text_free(&a->ctx, &t);
    return text;
}

static int read_message(app *a, const char *path, const awq__json *j, uint32_t node, awq__arena *arena, awq_message *m)
{
    uint32_t part[2], i, more = 0;
    part[0] = awq__json_get(j, node, "role");
    part[1] = awq__json_get(j, node, "content");
    for (i = awq__json_first(j, node); i; i = awq__json_next(j, i))
        if ((i != part[0] && i != part[1]) || awq__json_is(j, i) != AWQ__J_STR) more = 1;
    if (awq__json_is(j, part[0]) != AWQ__J_STR || !(more || part[1]))
        return refuse(a, "%s: each message wants \"role\" and \"content\"", path);
    m->role = awq__arena_text(&a->ctx, arena, awq__json_str(j, part[0], NULL), j->nodes[part[0]].v.s.len);
    if (awq__json_is(j, part[1]) == AWQ__J_STR)
        m->content = awq__arena_text(&a->ctx, arena, awq__json_str(j, part[1], NULL), j->nodes[part[1]].v.s.len);
    if (more) m->extra = json_of(a, arena, j, node, 0);
    return m->role && (m->content || m->extra) ? 0 : failed(a);
}

static int read_conversation(app *a, const char *path, conversation *c)
{
    awq__json j;
    uint32_t list = 1, tools = 0, i;
    int code = 0;
    memset(c, 0, sizeof *c);
    if (awq__json_load(&a->ctx, path, (size_t)64 << 20, &j)) return failed(a);
    if (awq__json_is(&j, 1) == AWQ__J_OBJ) {
        list = awq__json_get(&j, 1, "messages");
        tools = awq__json_get(&j, 1, "tools");
        c->with.variables = json_of(a, &c->arena, &j, 1, 1);
        if (awq__json_is(&j, tools) != AWQ__J_NULL) c->with.tools = json_of(a, &c->arena, &j, tools, 0);
        if (!c->with.variables) code = failed(a);
    }
    i = awq__json_count(&j, list) + 1;
    c->messages = (awq_message *)awq__arena_alloc(&a->ctx, &c->arena, i, sizeof *c->messages);
    if (!code && !c->messages) code = failed(a);
    if (!code && awq__json_is(&j, list) != AWQ__J_ARR) code = refuse(a, "%s: expected a list of messages", path);
    for (i = awq__json_first(&j, list); i && !code; i = awq__json_next(&j, i), c->n++)
        code = read_message(a, path, &j, i, &c->arena, &c->messages[c->n]);
    awq__json_free(&a->ctx, &j);
    if (code) awq__arena_free(&a->ctx, &c->arena);
    return code;
}

/* --template, and what is to be known of the template: how thoughts go in and out of it */
static int read_template(app *a, const awq_tokenizer *t)
{
    static const awq_message probe[] = {{"user", "a", NULL},
                                        {"assistant", "<think>\n(thought)\n</think>\n\nb", NULL},
                                        {"user", "c", NULL}};
    const options *o = &a->o;
    const char *source = NULL, *modes[] = {"show", "hide", "off"};
    char *text = NULL;
    size_t bytes, n = 0;
    int32_t id;
    while (o->think && a->think < 3 && strcmp(o->think, modes[a->think])) a->think++;
    if (a->think == 3) return refuse(a, "--think %s: expected show, hide or off", o->think);
    if (!t) return refuse(a, "%s has no tokenizer.json", o->positional[0]);
    if (o->chat_template && awq__file_load(&a->ctx, o->chat_template, (size_t)1 << 24, &a->chat_template, &bytes))
        return failed(a);
    source = a->chat_template ? a->chat_template : awq_tokenizer_chat_template(t);
    if (!source) { /* lines of text, behind BOS where this tokenizer's texts begin with it */
        if (!o->quiet) fprintf(stderr, "%s has no chat template: the lines go to it as they are (--template FILE gives one)\n",
                               o->positional[0]);
        if (awq_encode(&a->ctx, t, "", 0, 1, &id, 1, &n)) return failed(a);
        source = n ? "{{ bos_token }}{% for m in messages %}{{ m.content + '\n' }}{% endfor %}"
                   : "{% for m in messages %}{{ m.content + '\n' }}{% endfor %}";
        a->chat_template = (char *)awq__alloc_raw(&a->ctx, strlen(source) + 1, 1);
        if (!a->chat_template) return failed(a);
        strcpy(a->chat_template, source);
    }
    if (a->think == THINK_OFF) {
        a->chat.enable_thinking = -1;
        a->chat.variables = "{\"thinking\": false}"; /* what some templates call it */
        if (!strstr(source, "thinking") && !o->quiet)
            fprintf(stderr, "the chat template has no switch for thinking: what is thought is not shown\n");
    }
    if (!awq__render_with(&a->ctx, t, source, &a->chat, probe, 3, 1, &text, &bytes)) {
        while (bytes && strchr(" \n", text[bytes - 1])) bytes--;
        a->opens = bytes >= 7 && !memcmp(text + bytes - 7, "<think>", 7);
        a->strips = !strstr(text, "(thought)");
        awq_text_free(&a->ctx, text);
    }
    return 0;
}

/* --- awq run --chat: one session; each turn the whole conversation is rendered, and the session computes what it does not
   hold yet */
typedef struct chat {
    app *a;
    const awq_model *m;
    awq_runner *r;
    awq_session *s;
    awq_message *msgs; /* role: a constant; content: malloc */
    size_t n, cap;
    awq_generate_result last;
    size_t answered, refused; /* questions */
    size_t thought, thoughts; /* tokens thought in the last turn, in all */
} chat;

static int chat_add(chat *c, const char *role, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = (char *)malloc(n);
    if (copy && c->n == c->cap) {
        awq_message *p = (awq_message *)realloc(c->msgs, (c->cap * 2 + 8) * sizeof *p);
        if (!p) {
            free(copy);
            copy = NULL;
        } else {
            c->msgs = p;
            c->cap = c->cap * 2 + 8;
        }
    }
    if (!copy) return refuse(c->a, "out of memory%s", "");
    memcpy(copy, text, n);
    memset(&c->msgs[c->n], 0, sizeof *c->msgs);
    c->msgs[c->n].role = role;
    c->msgs[c->n++].content = copy;
    return 0;
}

static void chat_drop(chat *c, size_t i) /* message i goes */
{
    free((char *)(uintptr_t)c->msgs[i].content);
    memmove(c->msgs + i, c->msgs + i + 1, (c->n - i - 1) * sizeof *c->msgs);
    c->n--;
}

static int chat_system(const chat *c) { return c->n && !strcmp(c->msgs[0].role, "system"); }

/* The answer joins the conversation as the template wants it: with its thoughts, if it takes them out itself (in
   ways of its own), else without. */
static int chat_answered(chat *c, const answer *r)
{
    app *a = c->a;
    char *whole = NULL;
    const char *text = answer_text(r);
    int code;
    c->thought = 0;
    if (r->n_thoughts && awq_encode(&a->ctx, awq_model_tokenizer(c->m), r->all.data + r->thoughts, r->n_thoughts, 0,
                                    NULL, 0, &c->thought)) return failed(a);
    c->thoughts += c->thought;
    if (a->strips && r->text && r->at != IN_THOUGHTS) {
        text = r->all.data;
        if (a->opens && !(whole = (char *)malloc(r->all.len + 9))) return refuse(a, "out of memory%s", "");
        if (whole) text = strcat(strcpy(whole, "<think>\n"), text);
    }
    code = chat_add(c, "assistant", text);
    free(whole);
    return code;
}

/* the user's line, and the model's answer to it */
static int chat_turn(chat *c, const char *line)
{
    app *a = c->a;
    awq_generate_desc d;
    answer r;
    awq_status st;
    int code = chat_add(c, "user", line);
    if (code) return code;
    fill_generate(a, &d, &r);
    answer_new(a, &r);
    interrupted = 0;
    for (;;) { /* what is oldest is forgotten when the context is full */
        d.messages = c->msgs;
        d.n_messages = c->n;
        st = awq_ask(&a->ctx, c->s, &d);
        if (st != AWQ_E_LIMIT || c->n < (size_t)(3 + chat_system(c))) break;
        chat_drop(c, (size_t)chat_system(c));
        chat_drop(c, (size_t)chat_system(c));
        if (!a->o.quiet) fprintf(stderr, "(the context is full: the oldest question and answer are forgotten)\n");
    }
    while (!st && awq_session_busy(c->s)) st = awq_step(&a->ctx, c->r, NULL, 0, AWQ_NO_BUDGET, NULL);
    if (st == AWQ_E_CANCELLED) st = awq_session_stop(&a->ctx, c->s);
    if (!st) st = awq_session_answer(&a->ctx, c->s, &c->last);
    answer_look(&r, 1);
    if (!st) code = chat_answered(c, &r);
    if (!a->o.json) putchar('\n');
    else if (!st) {
        json_answer(&r, &c->last);
        printf("}\n");
        fflush(stdout);
    }
    if (!st && !a->o.json && !a->o.quiet && interrupted) fprintf(stderr, "(stopped)\n");
    if (!st && !a->o.json && !a->o.quiet && c->last.reason == AWQ_STOP_CONTEXT)
        fprintf(stderr, "(the context of %lld tokens is full; --ctx N makes it larger)\n",
                (long long)awq_session_position(c->s));
    awq__text_free(&a->ctx, &r.all);
    interrupted = 0;
    c->answered += !st;
    c->refused += st != AWQ_OK;
    if (!st) return code;
    chat_drop(c, c->n - 1); /* the question that got no answer */
    failed(a);
    return 0; /* the chat goes on */
}

/* the conversation as [{"role", "content"}], which awq template reads too */
static awq_status chat_write(chat *c, const char *path)
{
    awq_ctx *ctx = &c->a->ctx;
    awq__text t = {NULL, 0, 0, 0};
    awq_status st;
    size_t i;
    awq__text_str(ctx, &t, "[");
    for (i = 0; i < c->n; i++) {
        awq__textf(ctx, &t, "%s\n  {\"role\": \"%s\", \"content\": ", i ? "," : "", c->msgs[i].role);
        awq__json_quote(ctx, &t, c->msgs[i].content, strlen(c->msgs[i].content));
        awq__text_str(ctx, &t, "}");
    }
    awq__text_str(ctx, &t, "\n]\n");
    st = t.failed ? AWQ_E_MEMORY : awq__file_save(ctx, path, t.data, t.len);
    awq__text_free(ctx, &t);
    return st;
}

static const char *chat_role(const char *role) /* as a constant, NULL: not one */
{
    static const char *const roles[] = {"system", "user", "assistant"};
    int i;
    for (i = 0; i < 3; i++)
        if (!strcmp(role, roles[i])) return roles[i];
    return NULL;
}

static int chat_read(chat *c, const char *path)
{
    conversation read;
    size_t i;
    int code = read_conversation(c->a, path, &read);
    if (code) return code;
    for (i = 0; !code && i < read.n; i++)
        if (!chat_role(read.messages[i].role) || !read.messages[i].content)
            code = refuse(c->a, "a message of role \"%s\"", read.messages[i].role);
    while (!code && c->n) chat_drop(c, c->n - 1);
    for (i = 0; !code && i < read.n; i++)
        code = chat_add(c, chat_role(read.messages[i].role), read.messages[i].content);
    awq__arena_free(&c->a->ctx, &read.arena);
    return code;
}

static void chat_stats(const chat *c)
{
    const awq_generate_result *r = &c->last;
    fprintf(stderr, "context: %lld tokens, %llu messages; memory: %.1f MB held, %.1f MB at most\n",
            (long long)awq_session_position(c->s), (unsigned long long)c->n, (double)c->a->ctx.memory_used / 1e6,
            (double)c->a->ctx.memory_peak / 1e6);
    fprintf(stderr, "last turn: %lld tokens read (%.1f per second), %lld answered (%.1f per second)\n",
            (long long)r->prompt_tokens, per_second(r->prompt_tokens - r->cached_tokens, r->prefill_seconds),
            (long long)r->tokens, per_second(r->tokens, r->decode_seconds));
    if (c->thoughts) fprintf(stderr, "thoughts: %llu of them, %llu tokens in all turns\n", (unsigned long long)c->thought,
                             (unsigned long long)c->thoughts);
}

/* a line that begins with '/'; the chat goes on whatever comes of it. 1: leave */
static int chat_command(chat *c, char *line)
{
    app *a = c->a;
    char *arg = strchr(line, ' '), path[1024];
    if (arg) *arg++ = 0;
    snprintf(path, sizeof path, "%s.json", arg ? arg : "");
    if (!strcmp(line, "/exit") || !strcmp(line, "/quit")) return 1;
    if (!strcmp(line, "/stats")) chat_stats(c);
    else if (!strcmp(line, "/undo")) {
        size_t first = (size_t)chat_system(c);
        if (c->n < first + 2) fprintf(stderr, "there is nothing to undo\n");
        else {
            chat_drop(c, c->n - 1);
            fprintf(stderr, "undone: %s\n", c->msgs[c->n - 1].content);
            chat_drop(c, c->n - 1);
        }
    } else if (!strcmp(line, "/reset")) {
        while (c->n > (size_t)chat_system(c)) chat_drop(c, c->n - 1);
        if (awq_session_rewind(&a->ctx, c->s, 0)) failed(a);
    } else if (!strcmp(line, "/save") && arg) {
        if (awq_session_save_file(&a->ctx, c->s, arg) || chat_write(c, path)) failed(a);
        else fprintf(stderr, "saved: %s (state) and %s (text)\n", arg, path);
    } else if (!strcmp(line, "/load") && arg) {
        if (awq_session_restore_file(&a->ctx, c->s, arg, NULL)) failed(a);
        else if (!chat_read(c, path)) fprintf(stderr, "loaded: %llu messages\n", (unsigned long long)c->n);
    } else {
        fprintf(stderr, "/save FILE  /load FILE  /undo (the last question and answer)  /reset  /stats  /exit\n"
                        "Ctrl-C stops an answer; at the prompt it ends the chat\n");
    }
    return 0;
}

/* a whole line from stdin without its end; NULL at the end of input or when interrupted. The caller frees. */
static char *read_line(app *a)
{
    awq__text t = {NULL, 0, 0, 0};
    char *line = NULL;
    int ch;
    while ((ch = getchar()) != EOF && ch != '\n') {
        char b = (char)ch;
        if (ch) awq__text_add(&a->ctx, &t, &b, 1);
    }
    if (!t.failed && (t.len || ch == '\n')) {
        while (t.len && t.data[t.len - 1] == '\r') t.data[--t.len] = 0;
        line = (char *)malloc(t.len + 1);
        if (line) memcpy(line, t.len ? t.data : "", t.len + 1);
    }
    awq__text_free(&a->ctx, &t);
    return line;
}

static int run_chat(app *a, const awq_model *m)
{
    awq_session_desc sd;
    chat c;
    int code = 0;
    memset(&c, 0, sizeof c);
    memset(&sd, 0, sizeof sd);
    c.a = a;
    c.m = m;
    sd.max_tokens = a->o.ctx_len;
    if (awq_runner_create(&a->ctx, m, NULL, &c.r) || awq_session_create(&a->ctx, c.r, &sd, &c.s)) code = failed(a);
    if (!code && a->o.system) code = chat_add(&c, "system", a->o.system);
    if (!code && a->tty && !a->o.quiet) fprintf(stderr, "/help lists commands\n");
    interrupted = 0;
    while (!code) {
        char *line;
        if (a->tty) fprintf(stderr, "> ");
        line = read_line(a);
        if (!line) break;
        if (*line == '/') code = chat_command(&c, line) ? -1 : 0;
        else if (*line) code = chat_turn(&c, line);
        free(line);
    }
    if (interrupted) code = EXIT_INTERRUPTED;
    while (c.n) chat_drop(&c, c.n - 1);
    free(c.msgs);
    awq_session_free(&a->ctx, c.s);
    awq_runner_free(&a->ctx, c.r);
    if (code <= 0) code = c.refused && !c.answered ? EXIT_FAILED : 0;
    return code;
}

/* --- awq run --sessions N: the same prompt to N sessions that are advanced together, each with a seed of its own */
static void show_voices(app *a, awq_session **s, answer *r, int n)
{
    int i;
    for (i = 0; i < n; i++) { /* a line each, rewritten in place: the end of its text */
        awq_generate_result g;
        const char *text = r[i].all.data ? r[i].all.data : "", *p;
        size_t from = r[i].all.len > 56 ? r[i].all.len - 56 : 0;
        memset(&g, 0, sizeof g);
        awq_session_answer(&a->ctx, s[i], &g);
        while (((unsigned char)text[from] & 0xc0) == 0x80) from++;
        fprintf(stderr, "\033[K%3d %6.1f/s  ", i + 1, per_second(g.tokens, g.decode_seconds));
        for (p = text + from; *p; p++) fputc((unsigned char)*p < 32 ? ' ' : *p, stderr);
        fputc('\n', stderr);
    }
    fprintf(stderr, "\033[%dA", n);
}

static int run_voices(app *a, const awq_model *m, awq_generate_desc *desc)
{
    int n = (int)a->o.sessions, i, code = 0, live = a->tty && !a->o.quiet && n <= 40;
    awq_session *s[MAX_SESSIONS];
    answer *r = (answer *)calloc((size_t)n, sizeof *r);
    awq_runner *runner = NULL;
    awq_session_desc sd;
    awq_step_info info;
    awq_status st = AWQ_OK;
    int64_t tokens = 0;
    double began = awq__now(), shown = 0;
    memset(s, 0, sizeof s);
    memset(&sd, 0, sizeof sd);
    memset(&info, 0, sizeof info);
    sd.max_tokens = a->o.ctx_len;
    if (!r) return refuse(a, "out of memory%s", "");
    st = awq_runner_create(&a->ctx, m, NULL, &runner);
    for (i = 0; !st && i < n; i++) {
        awq_generate_desc d = *desc;
        answer_new(a, &r[i]);
        r[i].show = 0;
        d.user = &r[i];
        d.sampling.seed += (uint64_t)i;
        st = awq_session_create(&a->ctx, runner, &sd, &s[i]);
        if (!st) st = awq_ask(&a->ctx, s[i], &d);
    }
    for (info.busy = 1; !st && info.busy;) {
        st = awq_step(&a->ctx, runner, NULL, 0, AWQ_NO_BUDGET, &info);
        if (live && (awq__now() - shown > 0.1 || !info.busy)) {
            show_voices(a, s, r, n);
            shown = awq__now();
        }
    }
    if (live) fprintf(stderr, "\033[%dB", n);
    if (st) code = failed(a);
    if (!code && a->o.json) printf("{\"sessions\": [");
    for (i = 0; !code && i < n; i++) {
        awq_generate_result g;
        memset(&g, 0, sizeof g);
        if (awq_session_answer(&a->ctx, s[i], &g)) {
            code = failed(a);
            break;
        }
        tokens += g.tokens;
        answer_look(&r[i], 1);
        if (a->o.json) {
            printf(i ? ", " : "");
            json_answer(&r[i], &g);
            printf("}");
        } else printf("--- %d: %lld tokens, %.1f per second\n%s\n", i + 1, (long long)g.tokens,
                      per_second(g.tokens, g.decode_seconds), a->think ? answer_text(&r[i]) : r[i].all.data ?
                      r[i].all.data : "");
    }
    if (!code && a->o.json) printf("], \"tokens\": %lld, \"tokens_per_s\": %.2f}\n", (long long)tokens,
                                   per_second(tokens, awq__now() - began));
    else if (!code && !a->o.quiet) fprintf(stderr, "%lld tokens in all, %.1f per second with the prompts\n",
                                           (long long)tokens, per_second(tokens, awq__now() - began));
    for (i = 0; i < n; i++) {
        awq_session_free(&a->ctx, s[i]);
        awq__text_free(&a->ctx, &r[i].all);
    }
    awq_runner_free(&a->ctx, runner);
    free(r);
    return code;
}

/* --schema, --grammar or --choice */
static int read_grammar(app *a)
{
    options *o = &a->o;
    awq_grammar_desc d;
    char *text = NULL;
    size_t bytes;
    awq_status st;
    memset(&d, 0, sizeof d);
    if (!o->schema && !o->grammar && !o->choice.n) return 0;
    if ((o->schema != NULL) + (o->grammar != NULL) + (o->choice.n > 0) > 1)
        return refuse(a, "one of --schema, --grammar and --choice%s", "");
    if (!o->choice.n && awq__file_load(&a->ctx, o->schema ? o->schema : o->grammar, (size_t)1 << 24, &text, &bytes))
        return failed(a);
    if (o->schema) d.schema = text;
    if (o->grammar) d.gbnf = text;
    d.choices = o->choice.item;
    d.n_choices = (size_t)o->choice.n;
    st = awq_grammar_create(&a->ctx, &d, &a->grammar);
    awq__free(&a->ctx, text);
    return st ? failed(a) : 0;
}

/* --quantize */
static int load_online(app *a, awq_model **m)
{
    options *o = &a->o;
    awq_model_desc d = model_desc(a, 0);
    awq_online_desc online;
    awq_quantize_desc q;
    awq__text cache = {NULL, 0, 0, 0};
    const char *name;
    int code = 0;
    memset(&online, 0, sizeof online);
    memset(&q, 0, sizeof q);
    if (o->calib.n > 1) return refuse(a, "--quantize takes one --calib FILE%s", "");
    if (o->method && strcmp(o->method, "best") && strcmp(o->method, "awq"))
        return refuse(a, "--method %s: expected best or awq", o->method);
    awq__text_str(&a->ctx, &cache, o->cache ? o->cache : o->positional[0]);
    while (cache.len > 1 && strchr(SLASHES, cache.data[cache.len - 1])) cache.data[--cache.len] = 0;
    if (!o->cache && !cache.failed) { /* beside the model, which wants a name for that */
        for (name = cache.data; *name && strcspn(name, SLASHES) < strlen(name);) name += strcspn(name, SLASHES) + 1;
        if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
            code = refuse(a, "where is the quantized model of %s kept? give --cache FOLDER", o->positional[0]);
        awq__text_str(&a->ctx, &cache, "-cache");
    }
    if (!code && cache.failed) code = failed(a);
    q.method = o->method && !strcmp(o->method, "awq") ? AWQ_METHOD_AWQ : AWQ_METHOD_BEST;
    q.bits = (int)o->bits;
    q.group_size = o->group_size;
    q.symmetric = o->symmetric;
    q.keep = o->keep.item;
    q.n_keep = o->keep.n;
    online.quantize = &q;
    online.text = o->calib.n ? o->calib.item[0] : NULL;
    online.cache = cache.data;
    online.accept_failed = o->accept_failed;
    online.source_instead = o->source_instead;
    d.quantize = &online;
    if (!code && a->n_devices) code = open_devices(a);
    if (!code && awq_model_load(&a->ctx, o->positional[0], &d, m)) code = failed(a);
    awq__text_free(&a->ctx, &cache);
    return code;
}

/* awq_generate, in a session of --ctx tokens where that is given */
static awq_status generate(app *a, const awq_model *m, const awq_generate_desc *d, awq_generate_result *result)
{
    awq_runner *r = NULL;
    awq_session *s = NULL;
    awq_session_desc sd;
    awq_status st;
    if (!a->o.ctx_len) return awq_generate(&a->ctx, m, d, result);
    memset(&sd, 0, sizeof sd);
    sd.max_tokens = a->o.ctx_len;
    st = awq_runner_create(&a->ctx, m, NULL, &r);
    if (!st) st = awq_session_create(&a->ctx, r, &sd, &s);
    if (!st) st = awq_ask(&a->ctx, s, d);
    while (!st && awq_session_busy(s)) st = awq_step(&a->ctx, r, NULL, 0, AWQ_NO_BUDGET, NULL);
    if (!st) st = awq_session_answer(&a->ctx, s, result);
    awq_session_free(&a->ctx, s);
    awq_runner_free(&a->ctx, r);
    return st;
}

static int cmd_run(app *a)
{
    awq_model *m = NULL;
    awq_generate_desc d;
    awq_generate_result r;
    awq_message message[2];
    answer out;
    int code;
    if (need_model(a)) return EXIT_FAILED;
    if (!a->o.prompt && !a->o.chat) return refuse(a, "give -p TEXT or --chat%s", "");
    if ((code = read_grammar(a)) != 0) return code;
    code = a->o.quantize ? load_online(a, &m) : load(a, a->o.positional[0], 0, &m);
    if (code == 0 && a->o.chat) code = read_template(a, awq_model_tokenizer(m));
    memset(&out, 0, sizeof out);
    memset(message, 0, sizeof message);
    fill_generate(a, &d, &out);
    d.prompt = a->o.prompt ? a->o.prompt : "";
    if (a->o.chat && a->o.prompt) { /* one question of a chat */
        message[0].role = "system";
        message[0].content = a->o.system;
        message[1].role = "user";
        message[1].content = a->o.prompt;
        d.prompt = NULL;
        d.messages = a->o.system ? message : message + 1;
        d.n_messages = a->o.system ? 2 : 1;
    }
    if (code) {
    } else if (a->o.chat && !a->o.prompt) code = run_chat(a, m);
    else if (a->o.sessions) code = run_voices(a, m, &d);
    else {
        if (!a->o.json && d.prompt) printf("%s", d.prompt);
        answer_new(a, &out);
        if (generate(a, m, &d, &r)) code = failed(a);
        answer_look(&out, 1);
        if (code) {
            if (!a->o.json) putchar('\n');
        } else if (a->o.json) {
            json_answer(&out, &r);
            printf("}\n");
        } else {
            putchar('\n');
            if (!a->o.quiet)
                fprintf(stderr, "%lld tokens, %.1f per second (prompt: %lld, %.1f per second)\n", (long long)r.tokens,
                        per_second(r.tokens, r.decode_seconds), (long long)r.prompt_tokens,
                        per_second(r.prompt_tokens, r.prefill_seconds));
        }
        if (!code && interrupted) code = EXIT_INTERRUPTED;
    }
    awq__text_free(&a->ctx, &out.all);
    awq__free(&a->ctx, a->chat_template);
    awq_grammar_free(&a->ctx, a->grammar);
    awq_model_free(&a->ctx, m);
    return code;
}

static void print_numbers(const char *key, const double *v, int64_t n) /* of a JSON object; NULL: nothing */
{
    int64_t i;
    if (!v) return;
    printf(", \"%s\": [", key);
    for (i = 0; i < n; i++) printf(v[i] - v[i] == 0 ? "%s%.8g" : "%snull", i ? ", " : "", v[i]);
    printf("]");
}

static int cmd_eval(app *a)
{
    options *o = &a->o;
    awq_model *m = NULL, *base = NULL;
    awq_calibration c;
    awq_evaluate_desc d;
    awq_evaluation r;
    double *each = NULL; /* per window: NLL, the baseline's, KL; of each layer its error; by position two entropies */
    int64_t windows = 0, layers = 0, positions = 0, i;
    int code;
    if (need_model(a)) return EXIT_FAILED;
    if (!o->text) return refuse(a, "awq eval wants a text: --text FILE (.txt, .jsonl or token-id .json)%s", "");
    memset(&c, 0, sizeof c);
    if ((code = load(a, o->positional[0], o->rtn != 0, &m)) != 0) return code;
    if (o->baseline) code = load(a, o->baseline, 0, &base);
    if (!code) code = read_eval_ids(a, m, o->text, &c);
    if (!code) {
        memset(&d, 0, sizeof d);
        d.ids = c.ids;
        d.n_ids = c.start[c.n_blocks];
        d.window = o->ctx_len > 0 ? o->ctx_len : c.start[1] - c.start[0];
        d.stride = o->stride;
        d.baseline = base;
        windows = awq_evaluate_windows(d.n_ids, d.window, d.stride);
        layers = awq_model_config(m)->num_hidden_layers;
        positions = AWQ__MIN(d.window, d.n_ids) - 1;
        each = (double *)calloc((size_t)(3 * windows + layers + 2 * d.window), sizeof *each);
        if (!each) code = refuse(a, "out of memory%s", "");
    }
    if (!code) {
        d.window_nll = each;
        d.baseline_nll = base ? each + windows : NULL;
        d.window_kl = base ? each + 2 * windows : NULL;
        d.layer_error = o->layers ? each + 3 * windows : NULL;
        d.position_entropy = each + 3 * windows + layers;
        d.baseline_position_entropy = base ? d.position_entropy + d.window : NULL;
        if (awq_evaluate(&a->ctx, m, &d, &r)) code = failed(a);
    }
    if (!code && o->json) {
        printf("{\"ppl\": %.6g, \"nll\": %.8g, \"entropy\": %.6g, \"tokens\": %lld, \"not_finite\": %lld, "
               "\"windows\": %lld, \"seconds\": %.2f", r.ppl, r.nll, r.entropy, (long long)r.tokens,
               (long long)r.not_finite, (long long)r.windows, r.seconds);
        if (base) printf(", \"kl_mean\": %.6g, \"kl_median\": %.6g, \"kl_p99\": %.6g, \"kl_max\": %.6g, "
                         "\"top1_agreement\": %.6g, \"top5_agreement\": %.6g, \"max_logit_error\": %.6g, "
                         "\"baseline_ppl\": %.6g, \"baseline_entropy\": %.6g, \"nll_diff\": %.6g, \"nll_diff_se\": %.3g",
                         r.kl_mean, r.kl_median, r.kl_p99, r.kl_max, r.top1_agreement, r.top5_agreement, r.max_logit_error,
                         r.baseline_ppl, r.baseline_entropy, r.nll_diff, r.nll_diff_se);
        print_numbers("window_nll", d.window_nll, windows);
        print_numbers("baseline_window_nll", d.baseline_nll, windows);
        print_numbers("window_kl", d.window_kl, windows);
        print_numbers("layer_error", d.layer_error, layers);
        print_numbers("position_entropy", d.position_entropy, positions);
        print_numbers("baseline_position_entropy", d.baseline_position_entropy, positions);
        printf("}\n");
    } else if (!code) {
        printf("perplexity %.4f (%.5f nats per token) over %lld tokens in windows of %lld, entropy %.4f\n", r.ppl, r.nll,
               (long long)r.tokens, (long long)d.window, r.entropy);
        if (base) printf("baseline   %.4f, entropy %.4f; KL to it %.5f nats (median %.5f, 99 %% %.4f), NLL %+.5f +- %.5f\n"
                         "same       first choice %.2f %%, of the first five %.2f %%; largest difference of logits %.3g\n",
                         r.baseline_ppl, r.baseline_entropy, r.kl_mean, r.kl_median, r.kl_p99, r.nll_diff, r.nll_diff_se,
                         100 * r.top1_agreement, 100 * r.top5_agreement, r.max_logit_error);
        if (r.not_finite) printf("not scored %lld predictions with NaN or Inf\n", (long long)r.not_finite);
        for (i = 0; d.layer_error && i < layers; i++) printf("layer %3lld  error %.4f\n", (long long)i, d.layer_error[i]);
    }
    free(each);
    awq_calibration_free(&a->ctx, &c);
    awq_model_free(&a->ctx, base);
    awq_model_free(&a->ctx, m);
    return code;
}

/* bits and group size of a checkpoint's first quantized linear; 0: it has none */
static int kind_of(app *a, const char *folder, awq_packed *p)
{
    awq_checkpoint *ck = NULL;
    const awq_config *c;
    int l, id;
    memset(p, 0, sizeof *p);
    if (awq_checkpoint_open(&a->ctx, folder, &ck)) return failed(a);
    c = awq_checkpoint_config(ck);
    for (l = 0; !p->bits && l < c->num_hidden_layers; l++)
        for (id = 0; !p->bits && id < AWQ_N_LINEAR_IDS; id++) {
            awq_linear_info info;
            if (!awq_linear_count(c, l, (awq_linear_id)id)) continue;
            if (!awq_checkpoint_linear(&a->ctx, ck, l, (awq_linear_id)id, &info) && info.quantized) *p = info.packed;
        }
    awq_checkpoint_close(&a->ctx, ck);
    return 0;
}

static int print_guard(app *a, const awq_guard_report *r)
{
    char *text = NULL, title[1024];
    int i;
    if (a->o.report) {
        char rounded[32] = "";
        if (a->o.rtn) snprintf(rounded, sizeof rounded, ", rounded to %d bits,", (int)a->o.rtn);
        snprintf(title, sizeof title, "%.400s%s against %.400s", a->o.positional[1], rounded, a->o.positional[0]);
        if (awq_guard_html(&a->ctx, r, title, &text)
            || awq__file_save(&a->ctx, a->o.report, text, strlen(text))) {
            awq_text_free(&a->ctx, text);
            return failed(a);
        }
        awq_text_free(&a->ctx, text);
        text = NULL;
    }
    if (a->o.json) {
        if (awq_guard_json(&a->ctx, r, &text)) return failed(a);
        fputs(text, stdout);
        awq_text_free(&a->ctx, text);
        return 0;
    }
    for (i = 0; i < r->n_gates; i++) {
        const awq_gate *g = &r->gate[i];
        const double limit = g->fail == g->fail && g->severity != AWQ_WARN ? g->fail : g->warn; /* the one it crossed */
        char value[32] = "-", bad[32] = "-"; /* not measured; no share of so few answers is bad */
        if (g->value == g->value) snprintf(value, sizeof value, "%.4g", g->value);
        if (limit == limit) snprintf(bad, sizeof bad, "%s %.4g", g->below ? "<" : ">", limit);
        printf("%-5s %-14s %10s  %-10s %s\n", awq_severity_name(g->severity), g->id, value, bad, g->what);
        if (g->text[0]) printf("      %s\n", g->text);
    }
    if (r->left_out[0]) printf("left out: %s\n", r->left_out);
    if (r->tokens_per_second[0] > 0)
        printf("weights %.1f MB, baseline %.1f MB; %.4g tokens per second, baseline %.4g\n", (double)r->bytes[0] / 1e6,
               (double)r->bytes[1] / 1e6, r->tokens_per_second[0], r->tokens_per_second[1]);
    for (i = 0; i < r->n_diagnoses; i++) {
        const awq_diagnosis *d = &r->diagnosis[i];
        printf("diagnosis: %s%s%s%s\n      %s\n", d->symptom, d->gates[0] ? " (" : "", d->gates, d->gates[0] ? ")" : "", d->text);
    }
    printf("verdict: %s\n", awq_severity_name(r->verdict));
    return 0;
}

/* texts of files, whole, for awq_guard */
static int read_texts(app *a, const awq_model *m, const char *const *paths, int n, awq_calibration *c)
{
    awq_calibration_source src[MAX_LIST];
    awq_calibration_desc d;
    int i;
    memset(src, 0, sizeof src);
    memset(&d, 0, sizeof d);
    for (i = 0; i < n; i++) src[i].path = paths[i];
    d.sources = src;
    d.n_sources = n;
    d.whole = 1;
    return n && awq_calibration_load(&a->ctx, awq_model_tokenizer(m), &d, c) ? failed(a) : 0;
}

/* What can be said without loading: *r, whose gates those of awq_guard come behind. *ready: devices are */
static int preflight(app *a, awq_guard_report **r, int *ready)
{
    awq_cuda_report doctor[AWQ_MAX_DEVICES];
    awq_model_desc md = model_desc(a, 0);
    awq_preflight_desc d;
    awq_cuda_desc cd;
    int code = 0, k, n;
    memset(&d, 0, sizeof d);
    memset(&cd, 0, sizeof cd);
    for (n = 0, *ready = 1; n < a->n_devices && !code; n += !code) {
        cd.index = a->device_index[n];
        code = awq_cuda_doctor(&a->ctx, &cd, &doctor[n]) ? failed(a) : 0;
        if (!code && doctor[n].status) *ready = 0;
    }
    if (!code && *ready) code = open_devices(a);
    md.devices = a->devices;
    if (!*ready) md.n_devices = 0;
    d.folder = a->o.positional[1];
    d.baseline = a->o.positional[0];
    d.model = &md;
    if (!code && awq_preflight(&a->ctx, &d, r)) code = failed(a);
    if (!code && n) awq_cuda_preflight(doctor, n, *r);
    for (k = 0; k < n; k++) awq_text_free(&a->ctx, doctor[k].text);
    return code;
}

static int same_file(const char *a, const char *b)
{
#ifndef _WIN32
    struct stat x, y;
    if (!stat(a, &x) && !stat(b, &y)) return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
#endif
    return !strcmp(a, b);
}

/* is what --report would write one of the files to be read? */
static int report_is_input(const options *o)
{
    const char *const in[] = {o->text, o->suite, o->passages, o->production};
    int i;
    if (!o->report) return 0;
    for (i = 0; i < 4; i++)
        if (in[i] && same_file(o->report, in[i])) return 1;
    for (i = 0; i < o->calib.n; i++)
        if (same_file(o->report, o->calib.item[i])) return 1;
    return 0;
}

/* --make-suite TEXT */
static int make_suite(app *a)
{
    options *o = &a->o;
    awq_model *m = NULL;
    awq_suite_draft_desc d;
    char *text = NULL, *jsonl = NULL;
    size_t bytes = 0;
    int64_t n = 0;
    int code = 0;
    memset(&d, 0, sizeof d);
    if (o->n_positional > 1) return refuse(a, "--make-suite takes one model, %s is too many", o->positional[1]);
    if (o->output && awq__file_exists(&a->ctx, o->output)) return refuse(a, "%s exists already", o->output);
    if (awq__text_load(&a->ctx, o->make_suite, &text, &bytes)) code = failed(a);
    if (!code && o->n_positional) code = load(a, o->positional[0], 0, &m);
    d.model = m;
    d.items = o->n > 0 ? o->n : 0;
    if (!code && awq_suite_draft(&a->ctx, text, bytes, &d, &jsonl, &n)) {
        char why[sizeof a->ctx.err.text];
        const char *colon = strstr(a->ctx.err.text, "awq_suite_draft: ");
        snprintf(why, sizeof why, "%s", colon ? colon + strlen("awq_suite_draft: ") : a->ctx.err.text);
        if (colon) snprintf(a->ctx.err.text, sizeof a->ctx.err.text, "%.400s: %.600s", o->make_suite, why);
        code = failed(a);
    }
    if (!code && o->output && awq__file_save(&a->ctx, o->output, jsonl, strlen(jsonl))) code = failed(a);
    if (!code && !o->output) fputs(jsonl, stdout);
    if (!code) {
        clear_line(a);
        fprintf(stderr, "%lld questions drafted%s%s: read them, mend what is wrong and add paraphrases before they judge\n",
                (long long)n, o->output ? " in " : "", o->output ? o->output : "");
    }
    awq_text_free(&a->ctx, jsonl);
    awq__free(&a->ctx, text);
    awq_model_free(&a->ctx, m);
    return code;
}

static int cmd_guard(app *a)
{
    static const int exits[] = {0, 1, 2, 3};
    options *o = &a->o;
    awq_model *m = NULL, *base = NULL, *rtn = NULL;
    awq_guard_report *r = NULL, *before = NULL;
    awq_calibration calib, production;
    awq_calibration c;
    awq_guard_desc d;
    awq_packed packed;
    awq_suite suite;
    awq_passages passages;
    int code, ready;
    memset(&passages, 0, sizeof passages);
    memset(&c, 0, sizeof c);
    memset(&d, 0, sizeof d);
    memset(&suite, 0, sizeof suite);
    memset(&calib, 0, sizeof calib);
    memset(&production, 0, sizeof production);
    if (o->make_suite) return exit_of(a, make_suite(a));
    if (o->n_positional < 2) code = refuse(a, "awq guard wants two model folders, the original and the quantized one%s", "");
    else if (o->save && o->rtn) code = refuse(a, "--save: the verdict on --rtn is not one on %s", o->positional[1]);
    else if (!o->text && !o->suite && !o->calib.n) code = refuse(a, "awq guard wants --text FILE or --suite FILE or both%s", "");
    else if (o->production && !o->calib.n) code = refuse(a, "--production %s: compared with what? --calib FILE", o->production);
    else if (report_is_input(o)) code = refuse(a, "--report %s: it is one of the files to read", o->report);
    else code = preflight(a, &before, &ready);
    if (!code && before->verdict == AWQ_FAIL) { /* it need not be loaded */
        code = print_guard(a, before);
        awq_guard_free(&a->ctx, before);
        return code || !ready ? EXIT_UNJUDGED : exits[AWQ_FAIL]; /* no GPU, no driver: nothing is said of the model */
    }
    if (!code && !(code = kind_of(a, o->positional[1], &packed))) code = load(a, o->positional[0], 0, &base);
    if (!code) code = load(a, o->positional[1], o->rtn != 0, &m);
    if (!code && packed.bits && o->text) { /* what plain rounding to as many bits would have given */
        awq_model_desc plain = model_desc(a, 0);
        plain.rtn_bits = packed.bits;
        plain.rtn_group_size = packed.group_size;
        plain.rtn_symmetric = packed.symmetric;
        if (awq_model_load(&a->ctx, o->positional[0], &plain, &rtn)) code = failed(a);
    }
    if (!code && o->text) code = read_eval_ids(a, base, o->text, &c);
    if (!code) code = read_texts(a, base, o->calib.item, o->calib.n, &calib);
    if (!code) code = read_texts(a, base, &o->production, o->production != NULL, &production);
    suite.keep_going = o->keep_going;
    if (!code && o->suite && awq_suite_load(&a->ctx, o->suite, &suite)) code = failed(a);
    if (!code && o->passages && awq_passages_load(&a->ctx, o->passages, &passages)) code = failed(a);
    if (!code) {
        d.model = m;
        d.baseline = base;
        d.rtn = rtn;
        d.preflight = before;
        if (calib.n_blocks) d.calibration = &calib;
        if (production.n_blocks) d.production = &production;
        d.calibration_window = o->seq_len;
        if (o->suite) d.suite = &suite;
        d.keep_going = o->keep_going;
        d.passages = passages.text;
        d.n_passages = passages.n;
        if (o->text) {
            d.ids = c.ids;
            d.n_ids = c.start[c.n_blocks];
            d.window = o->ctx_len > 0 ? o->ctx_len : c.start[1] - c.start[0];
        }
        d.answer_tokens = o->n < 0 ? 0 : o->n == 0 ? -1 : o->n;
        if (awq_guard(&a->ctx, &d, &r)) code = failed(a);
        else if (o->save && awq_verdict_write(&a->ctx, o->positional[1], r, a->n_devices)) code = failed(a);
        else code = print_guard(a, r);
        code = code ? exit_of(a, code) : exits[r->verdict];
    } else code = exit_of(a, code);
    awq_guard_free(&a->ctx, r);
    awq_guard_free(&a->ctx, before);
    awq_suite_free(&a->ctx, &suite);
    awq_calibration_free(&a->ctx, &calib);
    awq_calibration_free(&a->ctx, &production);
    awq_passages_free(&a->ctx, &passages);
    awq_calibration_free(&a->ctx, &c);
    awq_model_free(&a->ctx, rtn);
    awq_model_free(&a->ctx, base);
    awq_model_free(&a->ctx, m);
    return code;
}

static void print_tensors(const awq_tensors *ts)
{
    int64_t i;
    int k;
    for (i = 0; i < awq_tensors_count(ts); i++) {
        const awq_tensor *t = awq_tensors_at(ts, i);
        printf("  %-64s %-5s [", t->name, awq_dtype_name(t->dtype));
        for (k = 0; k < t->ndim; k++) printf("%s%lld", k ? ", " : "", (long long)t->shape[k]);
        printf("]\n");
    }
}

static void add_problem(app *a, const char *text)
{
    if (a->n_problems < 8) snprintf(a->problem[a->n_problems++], sizeof a->problem[0], "%s", text);
}

static void on_problem(void *user, awq_log_level level, const char *text)
{
    if (level == AWQ_LOG_WARN) add_problem((app *)user, text);
}

static void print_problems(const app *a)
{
    int i;
    if (a->o.json) printf("\"problems\": [");
    for (i = 0; i < a->n_problems; i++) {
        printf(a->o.json ? i ? ", " : "" : "problem      ");
        if (a->o.json) json_string(a->problem[i], strlen(a->problem[i]));
        else printf("%s\n", a->problem[i]);
    }
    if (a->o.json) printf("]");
}

/* the linears by layout, bits, groups and symmetry */
static void print_kinds(app *a, const awq_checkpoint *ck)
{
    const awq_config *c = awq_checkpoint_config(ck);
    struct {
        awq_packed p;
        int64_t count;
    } kinds[8];
    int n = 0, l, id, e, k;
    for (l = 0; l < c->num_hidden_layers; l++)
        for (id = 0; id < AWQ_N_LINEAR_IDS; id++)
            for (e = 0; e < awq_linear_count(c, l, (awq_linear_id)id); e++) {
                awq_linear_info info;
                if (awq_checkpoint_expert(&a->ctx, ck, l, (awq_linear_id)id, e, &info)) continue;
                if (!info.quantized) memset(&info.packed, 0, sizeof info.packed);
                for (k = 0; k < n; k++)
                    if (kinds[k].p.layout == info.packed.layout && kinds[k].p.bits == info.packed.bits
                        && kinds[k].p.group_size == info.packed.group_size && kinds[k].p.symmetric == info.packed.symmetric)
                        break;
                if (k == 8) continue;
                if (k == n) kinds[n].p = info.packed, kinds[n++].count = 0;
                kinds[k].count++;
            }
    if (a->o.json) printf(", \"linears\": [");
    for (k = 0; k < n; k++) {
        const awq_packed *p = &kinds[k].p;
        if (a->o.json)
            printf("%s{\"layout\": \"%s\", \"bits\": %d, \"group_size\": %lld, \"symmetric\": %s, \"count\": %lld}",
                   k ? ", " : "", p->layout ? awq_layout_name(p->layout) : "dense", p->bits, (long long)p->group_size,
                   p->symmetric ? "true" : "false", (long long)kinds[k].count);
        else if (n > 1 && p->layout)
            printf("  %6lld     linears %s, %d bits, group size %lld, %s\n", (long long)kinds[k].count,
                   awq_layout_name(p->layout), p->bits, (long long)p->group_size,
                   p->symmetric ? "symmetric" : "with zero points");
        else if (n > 1) printf("  %6lld     linears dense\n", (long long)kinds[k].count);
    }
    if (a->o.json) printf("]");
}

/* and the command that serves the folder, on one device before it is spread */
static void print_verdict(const char *folder, awq_layout layout, const awq_verdict *v)
{
    if (v->severity == AWQ_VOID) printf("verdict      none on these weights; awq guard ORIGINAL %s --save\n", folder);
    else printf("verdict      %s%s%s\n", awq_severity_name(v->severity), v->text[0] ? ": " : "", v->text);
    if (layout != AWQ_LAYOUT_GEMM && layout != AWQ_LAYOUT_GPTQ && layout != AWQ_LAYOUT_COMPRESSED_TENSORS) return;
    printf("to serve     vllm serve %s\n", folder);
    if (v->severity > AWQ_WARN || v->devices > 1)
        printf("             warning: judge it on one device before --tensor-parallel-size spreads it\n");
    else printf("             judged on one device: --tensor-parallel-size 2 may follow\n");
}

static int cmd_inspect(app *a)
{
    awq_checkpoint *ck = NULL;
    awq_tensors *ts = NULL;
    const awq_config *c;
    const awq_quant_config *q;
    awq_memory memory;
    awq_session_desc session;
    awq_model_desc desc;
    awq_verdict verdict = {AWQ_VOID, 0, ""};
    awq_status st;
    uint64_t bytes = 0;
    int64_t i;
    const char *path;
    size_t n;
    int k;
    if (need_model(a) || open_devices(a)) return EXIT_FAILED;
    path = a->o.positional[0];
    n = strlen(path);
    if (n > 12 && !strcmp(path + n - 12, ".safetensors")) {
        if (awq_tensors_open(&a->ctx, path, &ts)) return failed(a);
        for (i = 0; i < awq_tensors_count(ts); i++) bytes += awq_tensors_at(ts, i)->bytes;
        if (a->o.json) printf("{\"tensors\": %lld, \"bytes\": %llu, \"problems\": []}\n",
                              (long long)awq_tensors_count(ts), (unsigned long long)bytes);
        else {
            printf("%lld tensors, %.1f MB\n", (long long)awq_tensors_count(ts), (double)bytes / 1e6);
            print_tensors(ts);
        }
        awq_tensors_close(&a->ctx, ts);
        return 0;
    }
    a->ctx.log = on_problem;
    st = awq_checkpoint_open(&a->ctx, path, &ck);
    if (!st && awq_checkpoint_disagreement(ck)[0]) add_problem(a, awq_checkpoint_disagreement(ck));
    a->ctx.log = on_log;
    if (st) {
        if (a->o.json) {
            add_problem(a, a->ctx.err.text);
            printf("{");
            print_problems(a);
            printf(", \"error\": ");
            json_string(a->ctx.err.text, strlen(a->ctx.err.text));
            printf(", \"status\": \"%s\"}\n", awq_status_name(a->ctx.err.status));
            return EXIT_FAILED;
        }
        return failed(a);
    }
    c = awq_checkpoint_config(ck);
    q = awq_checkpoint_quant(ck);
    ts = awq_checkpoint_tensors(ck);
    for (i = 0; i < awq_tensors_count(ts); i++) bytes += awq_tensors_at(ts, i)->bytes;
    a->ctx.log = NULL; /* it was heard above */
    desc = model_desc(a, 0);
    memset(&session, 0, sizeof session);
    session.max_tokens = a->o.ctx_len > 0 ? a->o.ctx_len : AWQ__MIN(c->max_position_embeddings, (int64_t)4096);
    st = awq_memory_needed(&a->ctx, path, &desc, NULL, &session, 1, &memory);
    a->ctx.log = on_log;
    if (st) add_problem(a, a->ctx.err.text);
    if (awq_verdict_read(&a->ctx, path, &verdict)) add_problem(a, a->ctx.err.text);
    if (a->o.json) {
        printf("{\"family\": \"%s\", \"layout\": \"%s\", \"bits\": %d, \"group_size\": %lld, \"tensors\": %lld, "
               "\"bytes\": %llu", c->model_type, q->present ? awq_layout_name(q->layout) : "dense",
               q->present ? q->bits : (int)awq_dtype_size(c->dtype) * 8, (long long)(q->present ? q->group_size : 0),
               (long long)awq_tensors_count(ts), (unsigned long long)bytes);
        if (!st) printf(", \"memory\": {\"model\": %llu, \"loading\": %llu, \"runner\": %llu, \"session\": %llu}",
                        (unsigned long long)memory.model, (unsigned long long)memory.loading,
                        (unsigned long long)memory.runner, (unsigned long long)memory.session);
        if (!st && a->n_devices) printf(", \"host_layers\": %d, \"devices\": [", memory.host_layers);
        for (k = 0; !st && k < a->n_devices; k++) {
            const awq_device_memory *p = &memory.device[k];
            printf(k ? ", {\"name\": " : "{\"name\": ");
            json_string(p->name, strlen(p->name));
            printf(", \"first_layer\": %d, \"layers\": %d, \"needed\": %llu, \"available\": %llu}", p->first_layer, p->layers,
                   (unsigned long long)p->needed, (unsigned long long)p->available);
        }
        if (!st && a->n_devices) printf("]");
        if (q->present) print_kinds(a, ck);
        if (q->present) {
            printf(", \"verdict\": \"%s\", \"verdict_text\": ", awq_severity_name(verdict.severity));
            json_string(verdict.text, strlen(verdict.text));
        }
        printf(", ");
        print_problems(a);
        printf("}\n");
    } else {
        printf("family       %s\nlayers       %d, hidden %lld, intermediate %lld, vocabulary %lld%s\n", c->model_type,
               c->num_hidden_layers, (long long)c->hidden_size, (long long)c->intermediate_size, (long long)c->vocab_size,
               c->tie_word_embeddings ? ", embeddings tied" : "");
        printf("attention    %d heads of %d, %d key/value heads, %lld positions\n", c->num_attention_heads, c->head_dim,
               c->num_key_value_heads, (long long)c->max_position_embeddings);
        if (q->present) printf("quantized    %s, %d bits, group size %lld, %s\n", awq_layout_name(q->layout), q->bits,
                               (long long)q->group_size, q->symmetric ? "symmetric" : "with zero points");
        else printf("quantized    no, %s\n", awq_dtype_name(c->dtype));
        if (q->present) print_kinds(a, ck);
        printf("tensors      %lld, %.1f MB\n", (long long)awq_tensors_count(ts), (double)bytes / 1e6);
        if (!st) printf("to run       %.1f MB (%.1f MB while it loads), %.1f MB for the runner, %.1f MB for each session of "
                        "%lld tokens", (double)memory.model / 1e6, (double)memory.loading / 1e6, (double)memory.runner / 1e6,
                        (double)memory.session / 1e6, (long long)session.max_tokens);
        if (!st && a->o.sessions > 1) printf(", %.1f MB for %lld of them", (double)memory.session * (double)a->o.sessions / 1e6,
                                             (long long)a->o.sessions);
        if (!st) printf("\n");
        if (!st && a->n_devices) print_places(a, stdout, "  ", &memory);
        if (q->present) print_verdict(path, q->layout, &verdict);
        print_problems(a);
        if (!a->o.quiet) print_tensors(ts);
    }
    awq_checkpoint_close(&a->ctx, ck);
    return 0;
}

static int cmd_tokenize(app *a)
{
    options *o = &a->o;
    awq_tokenizer *t = NULL;
    int32_t *ids = NULL;
    int64_t count = 0, i;
    size_t n = 0, bytes = 0;
    char *text = NULL;
    int code = 0;
    if (need_model(a)) return EXIT_FAILED;
    if (!o->text && !o->file && !o->ids) return refuse(a, "awq tokenize wants --text, --file or --ids%s", "");
    if (awq_tokenizer_load(&a->ctx, o->positional[0], &t)) return failed(a);
    if (o->ids) {
        code = parse_ids(a, o->ids, &ids, &count);
        if (!code && awq_decode(&a->ctx, t, ids, (size_t)count, o->no_special, NULL, 0, &bytes)) code = failed(a);
        if (!code && !(text = (char *)malloc(bytes + 1))) code = refuse(a, "out of memory%s", "");
        if (!code && awq_decode(&a->ctx, t, ids, (size_t)count, o->no_special, text, bytes + 1, &bytes)) code = failed(a);
        if (!code && o->json) {
            printf("{\"text\": ");
            json_string(text, bytes);
            printf("}\n");
        } else if (!code) printf("%s\n", text);
        free(text);
    } else {
        char *data = NULL;
        const char *s = o->text;
        bytes = s ? strlen(s) : 0;
        if (o->file) {
            if (awq__file_load(&a->ctx, o->file, (size_t)1 << 30, &data, &bytes)) code = failed(a);
            s = data;
        }
        if (!code && !(ids = (int32_t *)malloc((bytes + 16) * sizeof *ids))) code = refuse(a, "out of memory%s", "");
        if (!code && awq_encode(&a->ctx, t, s, bytes, !o->no_special, ids, bytes + 16, &n)) code = failed(a);
        if (!code) {
            printf(o->json ? "{\"ids\": [" : "");
            for (i = 0; i < (int64_t)n; i++) printf("%s%d", i ? (o->json ? ", " : ",") : "", ids[i]);
            printf(o->json ? "]}\n" : "\n");
        }
        awq__free(&a->ctx, data);
    }
    free(ids);
    awq_tokenizer_free(&a->ctx, t);
    return code;
}

static int cmd_template(app *a)
{
    options *o = &a->o;
    awq_tokenizer *t = NULL;
    conversation c;
    char *text = NULL, *source = NULL;
    size_t bytes = 0;
    int code = 0;
    if (need_model(a)) return EXIT_FAILED;
    if (!o->messages) return refuse(a, "awq template wants --messages FILE.json%s", "");
    memset(&c, 0, sizeof c);
    if (awq_tokenizer_load(&a->ctx, o->positional[0], &t)) return failed(a);
    if (o->chat_template && awq__file_load(&a->ctx, o->chat_template, (size_t)1 << 24, &source, &bytes)) code = failed(a);
    if (!code && !source && !awq_tokenizer_chat_template(t))
        code = refuse(a, "%s has no chat template", o->positional[0]);
    if (!code) code = read_conversation(a, o->messages, &c);
    if (!code && awq__render_with(&a->ctx, t, source, &c.with, c.messages, c.n, o->generation_prompt, &text, &bytes))
        code = failed(a);
    if (!code && o->json) {
        printf("{\"text\": ");
        json_string(text, bytes);
        printf("}\n");
    } else if (!code) fwrite(text, 1, bytes, stdout);
    awq_text_free(&a->ctx, text);
    awq__arena_free(&a->ctx, &c.arena);
    awq__free(&a->ctx, source);
    awq_tokenizer_free(&a->ctx, t);
    return code;
}

/* a session of n tokens on a runner with room for long prompts */
static awq_status open_session(app *a, const awq_model *m, int64_t n, awq_runner **r, awq_session **s)
{
    awq_runner_desc rd;
    awq_session_desc sd;
    awq_status st;
    memset(&rd, 0, sizeof rd);
    memset(&sd, 0, sizeof sd);
    rd.max_rows = 256;
    sd.max_tokens = n;
    st = awq_runner_create(&a->ctx, m, &rd, r);
    return st ? st : awq_session_create(&a->ctx, *r, &sd, s);
}

static int cmd_logits(app *a)
{
    options *o = &a->o;
    awq_model *m = NULL;
    awq_runner *r = NULL;
    awq_session *s = NULL;
    awq_feed_desc d;
    int32_t *ids = NULL;
    int64_t n = 0;
    float *logits = NULL;
    int code;
    if (need_model(a)) return EXIT_FAILED;
    if (!o->tokens || !o->output) return refuse(a, "awq logits wants --tokens 1,2,3 and -o FILE.safetensors%s", "");
    if ((code = load(a, o->positional[0], 0, &m)) != 0) return code;
    code = parse_ids(a, o->tokens, &ids, &n);
    if (!code) {
        int64_t V = awq_model_config(m)->vocab_size;
        size_t bytes = (size_t)n * (size_t)V * sizeof(float);
        awq__text file = {NULL, 0, 0, 0};
        char head[256];
        uint64_t len;
        memset(&d, 0, sizeof d);
        logits = (float *)malloc(bytes + 1);
        if (!logits) code = refuse(a, "out of memory%s", "");
        d.all_logits = logits;
        if (!code && open_session(a, m, n, &r, &s)) code = failed(a);
        if (!code && awq_session_feed(&a->ctx, s, ids, n, &d, NULL)) code = failed(a);
        if (!code) { /* one tensor: a header and the data */
            int k = snprintf(head, sizeof head, "{\"logits\":{\"dtype\":\"F32\",\"shape\":[%lld,%lld],\"data_offsets\":"
                             "[0,%llu]}}", (long long)n, (long long)V, (unsigned long long)bytes);
            while (k % 8) head[k++] = ' ';
            len = (uint64_t)k;
            awq__text_add(&a->ctx, &file, (const char *)&len, 8);
            awq__text_add(&a->ctx, &file, head, (size_t)k);
            awq__text_add(&a->ctx, &file, (const char *)logits, bytes);
            if (file.failed || awq__file_save(&a->ctx, o->output, file.data, file.len)) code = failed(a);
            awq__text_free(&a->ctx, &file);
        }
        if (!code && o->json) printf("{\"tokens\": %lld, \"vocab_size\": %lld}\n", (long long)n, (long long)V);
    }
    awq_session_free(&a->ctx, s);
    awq_runner_free(&a->ctx, r);
    awq_model_free(&a->ctx, m);
    free(ids);
    free(logits);
    return code;
}

/* --- bench: the machine's read bandwidth beside the model's speed, medians of several */
static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_double);
    return v[n / 2];
}

typedef struct sweep {
    const uint64_t *data;
    int64_t words, parts;
    uint64_t sum[64];
} sweep;

static void sweep_part(void *arg, int64_t i)
{
    sweep *s = (sweep *)arg;
    int64_t n = s->words / s->parts, k;
    const uint64_t *p = s->data + i * n;
    uint64_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
    for (k = 0; k + 8 <= n; k += 8) {
        a += p[k], b += p[k + 1], c += p[k + 2], d += p[k + 3];
        e += p[k + 4], f += p[k + 5], g += p[k + 6], h += p[k + 7];
    }
    s->sum[i] = a + b + c + d + e + f + g + h;
}

/* GB/s of reading a buffer far larger than the caches; 0 without memory */
static double read_bandwidth(app *a, size_t bytes)
{
    sweep s;
    double v[5];
    int i;
    uint64_t *p = (uint64_t *)malloc(bytes);
    if (!p) return 0;
    memset(p, 1, bytes);
    s.data = p;
    s.words = (int64_t)(bytes / 8);
    s.parts = 64;
    for (i = 0; i < 5; i++) {
        double t0 = awq__now();
        awq__run(&a->ctx, s.parts, sweep_part, &s);
        v[i] = (double)bytes / (awq__now() - t0) / 1e9;
    }
    free(p);
    return median(v, 5);
}

static int cmd_bench(app *a)
{
    awq_model *m = NULL;
    awq_runner *r = NULL;
    awq_session *s = NULL;
    const awq_config *c;
    int32_t ids[512];
    double pre[3], dec[3], bw, gbs, p, d;
    float *logits;
    int code, i, k, n = a->o.n > 0 ? (int)a->o.n : 32, prompt;
    if (need_model(a)) return EXIT_FAILED;
    if ((code = load(a, a->o.positional[0], 0, &m)) != 0) return code;
    c = awq_model_config(m);
    prompt = (int)AWQ__MIN((int64_t)512, c->max_position_embeddings / 2);
    for (i = 0; i < prompt; i++) ids[i] = (int32_t)((i * 7919 + 13) % c->vocab_size);
    logits = (float *)malloc((size_t)c->vocab_size * sizeof *logits);
    if (!logits) code = refuse(a, "out of memory%s", "");
    if (!code && open_session(a, m, prompt + n, &r, &s)) code = failed(a);
    for (i = 0; i < 3 && !code; i++) {
        double t0 = awq__now();
        if (awq_session_rewind(&a->ctx, s, 0) || awq_session_feed(&a->ctx, s, ids, prompt, NULL, logits)) code = failed(a);
        pre[i] = prompt / (awq__now() - t0);
        t0 = awq__now();
        for (k = 0; k < n && !code; k++)
            if (interrupted || awq_session_feed(&a->ctx, s, ids + k % prompt, 1, NULL, logits)) code = failed(a);
        dec[i] = n / (awq__now() - t0);
    }
    if (!code) {
        p = median(pre, 3);
        d = median(dec, 3);
        gbs = d * (double)awq_model_linear_bytes(m) / 1e9;
        bw = a->n_devices ? 0 : read_bandwidth(a, (size_t)512 << 20); /* of a GPU's memory nothing is known here */
        if (a->n_devices && a->o.json) {
            printf("{\"decode_tokens_per_s\": %.2f, \"prefill_tokens_per_s\": %.2f, \"weights_gbs\": %.2f, \"devices\": [",
                   d, p, gbs);
            for (i = 0; i < a->n_devices; i++) {
                printf(i ? ", " : "");
                json_string(a->devices[i]->name, strlen(a->devices[i]->name));
            }
            printf("]}\n");
        } else if (a->n_devices)
            printf("prefill %.1f tokens/s (%d tokens), decode %.1f tokens/s: %.1f GB/s of weights\n", p, prompt, d, gbs);
        else if (a->o.json) printf("{\"decode_tokens_per_s\": %.2f, \"prefill_tokens_per_s\": %.2f, \"bandwidth_gbs\": %.2f, "
                              "\"bandwidth_share\": %.3f, \"isa\": \"%s\", \"threads\": %d}\n", d, p, bw,
                              bw > 0 ? gbs / bw : 0, awq_isa_name(awq_best_isa()), awq_pool_threads(a->pool));
        else printf("prefill %.1f tokens/s (%d tokens), decode %.1f tokens/s: %.1f GB/s of weights, %.0f %% of the %.1f GB/s "
                    "this machine reads\n", p, prompt, d, gbs, bw > 0 ? 100 * gbs / bw : 0, bw);
    }
    free(logits);
    awq_session_free(&a->ctx, s);
    awq_runner_free(&a->ctx, r);
    awq_model_free(&a->ctx, m);
    return code;
}

static void json_member(const char *name, const char *value)
{
    printf(", \"%s\": ", name);
    json_string(value, strlen(value));
}

static void json_cuda(const awq_cuda_report *r)
{
    const awq_cuda_info *in = &r->info;
    char capability[32], version[32];
    snprintf(capability, sizeof capability, "%d.%d", in->compute_major, in->compute_minor);
    snprintf(version, sizeof version, "%d.%d", in->nvrtc_major, in->nvrtc_minor);
    printf("{\"status\": \"%s\"", awq_status_name(r->status));
    json_member("error", r->error);
    json_member("driver", in->driver_path);
    printf(", \"driver_cuda\": \"%d.%d\", \"index\": %d", in->driver_version / 1000, in->driver_version % 1000 / 10, in->index);
    json_member("device", in->name);
    json_member("compute_capability", capability);
    printf(", \"multiprocessors\": %d, \"memory_total\": %llu, \"memory_free\": %llu, \"memory_limit\": %llu",
           in->multiprocessors, (unsigned long long)in->memory_total, (unsigned long long)in->memory_free,
           (unsigned long long)in->memory_limit);
    json_member("nvrtc", in->nvrtc_path);
    json_member("nvrtc_version", version);
    json_member("arch", in->arch);
    json_member("cache", in->cache_folder);
    printf("}");
}

/* how long the first token of a process takes, and where the time goes */
static int first_token(app *a)
{
    awq_model *m = NULL;
    awq_runner *r = NULL;
    awq_session *s = NULL;
    awq_cuda_info in;
    int32_t ids[16];
    float *logits = NULL;
    double t0 = awq__now(), t1, t2;
    int i, code = load(a, a->o.positional[0], 0, &m);
    t1 = awq__now();
    memset(&in, 0, sizeof in);
    if (!code && awq_cuda_get_info(&a->ctx, a->cuda[0], &in)) code = failed(a);
    if (!code && !(logits = (float *)malloc((size_t)awq_model_config(m)->vocab_size * sizeof *logits)))
        code = refuse(a, "out of memory%s", "");
    for (i = 0; i < 16 && !code; i++) ids[i] = (int32_t)((i * 7919 + 13) % awq_model_config(m)->vocab_size);
    if (!code && (open_session(a, m, 17, &r, &s) || awq_session_feed(&a->ctx, s, ids, 16, NULL, logits))) code = failed(a);
    t2 = awq__now();
    if (!code)
        printf("first token  %.0f ms: start %.0f, of which cuInit %.0f and the context %.0f; load %.0f, %.2f GB, with %d kernels "
               "compiled in %.0f; first step, 16 tokens, %.0f\n",
               (t2 - t0) * 1e3, in.create_seconds * 1e3, in.init_seconds * 1e3, in.context_seconds * 1e3,
               (t1 - t0 - in.create_seconds) * 1e3, (double)awq_model_bytes(m) / 1e9, in.compiled, in.compile_seconds * 1e3,
               (t2 - t1) * 1e3);
    free(logits);
    awq_session_free(&a->ctx, s);
    awq_runner_free(&a->ctx, r);
    awq_model_free(&a->ctx, m);
    return code;
}

static int cmd_doctor(app *a)
{
    int code = 0;
    double bw = read_bandwidth(a, (size_t)256 << 20);
    awq_cuda_report r;
    awq_cuda_desc d;
    memset(&d, 0, sizeof d);
    if (a->n_devices > 1) return refuse(a, "awq doctor looks at one device, not at %s", a->o.device);
    if (a->n_devices) d.index = a->device_index[0];
    if (awq_cuda_doctor(&a->ctx, &d, &r)) return failed(a);
    if (a->o.json) {
        printf("{\"version\": \"%s\", \"isa\": \"%s\", \"cores\": %d, \"threads\": %d, \"bandwidth_gbs\": %.2f, \"cuda\": ",
               awq_version(), awq_isa_name(awq_best_isa()), awq_cpu_cores(), awq_pool_threads(a->pool), bw);
        json_cuda(&r);
        printf("}\n");
    } else
        printf("awq.h        %s\ninstructions %s\ncores        %d, %d threads used\nmemory       %.1f GB/s read\n\nCUDA\n%s",
               awq_version(), awq_isa_name(awq_best_isa()), awq_cpu_cores(), awq_pool_threads(a->pool), bw, r.text);
    if (!r.status && !a->o.json && a->n_devices && a->o.n_positional) code = first_token(a);
    awq_text_free(&a->ctx, r.text);
    return code;
}

#ifdef _WIN32
/* the arguments in UTF-8, which main has in the system's code page; and what is printed */
static void read_arguments(int *argc, char ***argv)
{
    typedef LPWSTR *(WINAPI *split_fn)(LPCWSTR line, int *n);
    HMODULE shell = LoadLibraryW(L"shell32.dll"); /* not every linker looks into it */
    FARPROC p = shell ? GetProcAddress(shell, "CommandLineToArgvW") : NULL;
    split_fn split;
    wchar_t **wide;
    char **own;
    int i, n = 0;
    memcpy(&split, &p, sizeof p);
    wide = split ? split(GetCommandLineW(), &n) : NULL;
    own = wide ? (char **)calloc((size_t)n + 1, sizeof *own) : NULL;
    for (i = 0; own && i < n; i++) {
        int bytes = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);
        own[i] = (char *)malloc((size_t)bytes + 1);
        if (!own[i] || !WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, own[i], bytes, NULL, NULL)) return;
    }
    if (own) *argc = n, *argv = own;
    SetConsoleOutputCP(CP_UTF8);
}
#endif

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*fn)(app *a);
        int devices; /* --device means something to it */
    } table[] = {{"quantize", cmd_quantize, 1}, {"convert", cmd_convert, 0}, {"run", cmd_run, 1}, {"eval", cmd_eval, 1},
                 {"guard", cmd_guard, 1}, {"inspect", cmd_inspect, 1}, {"tokenize", cmd_tokenize, 0},
                 {"template", cmd_template, 0}, {"logits", cmd_logits, 1}, {"bench", cmd_bench, 1}, {"doctor", cmd_doctor, 1}};
    app a;
    int i, code;
#ifdef _WIN32
    read_arguments(&argc, &argv);
#endif
    memset(&a, 0, sizeof a);
    a.ctx.log = on_log;
    a.ctx.progress = on_progress;
    a.ctx.user = &a;
    a.tty = isatty(fileno(stderr));
    catch_signals();
    if ((code = parse(&a, argc, argv)) != 0) return exit_of(&a, code);
    if (a.o.version) return printf("awq %s\n", awq_version()) < 0;
    if (!a.o.command || !strcmp(a.o.command, "help")) return help(a.o.positional[0]);
    if (a.o.help) return help(a.o.command);
    a.ctx.memory_limit = a.o.memory_limit > 0 ? (size_t)a.o.memory_limit : 0;
    if (awq_pool_create(&a.ctx, (int)a.o.threads, &a.pool)) return exit_of(&a, failed(&a));
    a.ctx.jobs = awq_pool_jobs(a.pool);
    for (i = 0; i < (int)(sizeof table / sizeof table[0]); i++)
        if (!strcmp(a.o.command, table[i].name)) {
            code = read_devices(&a);
            if (!code && a.n_devices && !table[i].devices)
                code = refuse(&a, "awq %s computes on the CPU, not where --device says", a.o.command);
            code = code ? exit_of(&a, code) : table[i].fn(&a);
            close_devices(&a);
            awq_pool_free(&a.ctx, a.pool);
            return code;
        }
    awq_pool_free(&a.ctx, a.pool);
    return refuse(&a, "no command \"%s\"; awq help lists them", a.o.command);
}
