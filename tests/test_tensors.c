/* tensors: safetensors files and indexes, good and damaged; the writer with shards, resume and failures.
   Files go to a folder of the current directory that is removed at the end. */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include "test.h"

#define FOLDER "test_tensors.tmp"

static void clean(void)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.part",
                                        "model.safetensors.index.json", "model.safetensors.index.json.tmp",
                                        "x.safetensors", "pipe.safetensors"};
    char path[200];
    size_t i;
    int n, k;
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, FOLDER "/%s", names[i]);
        awq__os_remove(NULL, path);
    }
    for (n = 2; n <= 6; n++)
        for (k = 1; k <= n; k++) {
            snprintf(path, sizeof path, FOLDER "/model-%05d-of-%05d.safetensors", k, n);
            awq__os_remove(NULL, path);
            snprintf(path, sizeof path, FOLDER "/model-%05d-of-%05d.safetensors.part", k, n);
            awq__os_remove(NULL, path);
        }
    awq__os_remove(NULL, FOLDER);
}

static int exists(const char *name)
{
    awq_ctx ctx;
    char path[200];
    memset(&ctx, 0, sizeof ctx);
    snprintf(path, sizeof path, FOLDER "/%s", name);
    return awq__file_exists(&ctx, path);
}

/* a file in memory: header length, header, n bytes of data 0, 1, 2, ... */
typedef struct image {
    char *data;
    size_t bytes;
} image;

static image make(const char *header, size_t n)
{
    size_t h = strlen(header), i;
    image m;
    m.bytes = 8 + h + n;
    m.data = (char *)malloc(m.bytes);
    for (i = 0; i < 8; i++) m.data[i] = (char)((uint64_t)h >> 8 * i);
    memcpy(m.data + 8, header, h);
    for (i = 0; i < n; i++) m.data[8 + h + i] = (char)i;
    return m;
}

/* opens path in a file system of these files (name, text pairs end with NULL); everything is freed again */
static awq_status open_memory(const char *path, const awq_memory_file *files, size_t n, char *text,
                              int64_t *count)
{
    awq_memory_list list;
    awq_ctx ctx;
    awq_tensors *t = NULL;
    awq_status st;
    memset(&ctx, 0, sizeof ctx);
    list.files = files;
    list.count = n;
    ctx.files = awq_memory_files(&list);
    st = awq_tensors_open(&ctx, path, &t);
    CHECK(!st == !!t);
    if (count) *count = t ? awq_tensors_count(t) : -1;
    snprintf(text, 1024, "%s", st ? ctx.err.text : "");
    awq_tensors_close(&ctx, t);
    CHECK(ctx.memory_used == 0);
    return st;
}

#define A "{\"a\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]}"
static void test_headers(void)
{
    static const struct {
        const char *header;
        size_t data;
        awq_status status;
        const char *text;
    } cases[] = {
        {A "}", 12, AWQ_OK, ""},
        {"{}", 0, AWQ_OK, ""},
        {"  " A "}   ", 12, AWQ_OK, ""},
        {A ",\"__metadata__\":{\"format\":\"pt\"}}", 12, AWQ_OK, ""},
        {A ",\"b\":{\"shape\":[],\"data_offsets\":[12,13],\"dtype\":\"U8\",\"more\":[{}]}}", 13, AWQ_OK, ""},
        {A ",\"b\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[12,12]}}", 12, AWQ_OK, ""},
        {"{\"b\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[12,13]},"
         "\"a\":{\"dtype\":\"F16\",\"shape\":[6],\"data_offsets\":[0,12]}}", 13, AWQ_OK, ""},
        {"", 0, AWQ_E_FORMAT, "JSON"},
        {"no", 0, AWQ_E_FORMAT, "JSON"},
        {"[]", 0, AWQ_E_FORMAT, "not an object"},
        {A "", 12, AWQ_E_FORMAT, "JSON"},
        {A "}", 11, AWQ_E_FORMAT, "tensor \"a\" ends at data byte 12, the file has only 11"},
        {A "}", 13, AWQ_E_FORMAT, "1 bytes follow the last tensor"},
        {A ",\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[12,13]}}", 13, AWQ_E_FORMAT,
         "\"a\": is there twice"},
        {A ",\"a\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]}}", 12, AWQ_E_FORMAT,
         "inside the one before"},
        {A ",\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[11,13]}}", 13, AWQ_E_FORMAT,
         "inside the one before"},
        {A ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[13,14]}}", 14, AWQ_E_FORMAT,
         "but the one before ends"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[2,4]}}", 4, AWQ_E_FORMAT,
         "begins at data byte 2"},
        {"{\"a\":[]}", 0, AWQ_E_FORMAT, "\"a\": its entry is no object"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,2]}}", 2, AWQ_E_FORMAT, "dtype is missing"},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,2]}}", 2, AWQ_E_FORMAT,
         "dtype is missing or no string"},
        {"{\"a\":{\"dtype\":\"F7\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2, AWQ_E_UNSUPPORTED,
         "dtype \"F7\""},
        {"{\"a\":{\"dtype\":\"none\",\"shape\":[1],\"data_offsets\":[0,0]}}", 0, AWQ_E_UNSUPPORTED,
         "dtype \"none\""},
        {"{\"a\":{\"dtype\":\"F16\",\"data_offsets\":[0,2]}}", 2, AWQ_E_FORMAT, "shape is missing"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":1,\"data_offsets\":[0,2]}}", 2, AWQ_E_FORMAT,
         "shape is missing or no array"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[-1],\"data_offsets\":[0,2]}}", 2, AWQ_E_FORMAT, "dimension"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1.0],\"data_offsets\":[0,2]}}", 2, AWQ_E_FORMAT, "dimension"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,2]}}", 2, AWQ_E_LIMIT,
         "9 dimensions"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         AWQ_E_FORMAT, "too large"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[9223372036854775808,2],\"data_offsets\":[0,0]}}", 0,
         AWQ_E_FORMAT, "dimension"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, AWQ_E_FORMAT,
         "F16 [2] takes 4 bytes, data_of"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1]}}", 2, AWQ_E_FORMAT, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0]}}", 2, AWQ_E_FORMAT, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2,0]}}", 2, AWQ_E_FORMAT, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":{\"a\":0,\"b\":2}}}", 2, AWQ_E_FORMAT,
         "data_offsets"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[2,0]}}", 2, AWQ_E_FORMAT, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[-2,0]}}", 2, AWQ_E_FORMAT, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F16\",\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2,
         AWQ_E_FORMAT, "twice"},
        {"{\"a\\u0000b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2, AWQ_E_FORMAT,
         "zero byte"},
        {"{\"__metadata__\":[]}", 0, AWQ_E_FORMAT, "__metadata__"},
        {"{\"__metadata__\":{\"a\":1}}", 0, AWQ_E_FORMAT, "__metadata__"},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        image m = make(cases[i].header, cases[i].data);
        awq_memory_file f;
        char text[1024];
        awq_status st;
        f.path = "x.safetensors";
        f.data = m.data;
        f.bytes = m.bytes;
        st = open_memory("x.safetensors", &f, 1, text, NULL);
        CHECK_MSG(st == cases[i].status && strstr(text, cases[i].text), "%s: %s %s", cases[i].header,
                  awq_status_name(st), text);
        CHECK(!st || !strncmp(text, "x.safetensors: ", 15));
        free(m.data);
    }
}

static void test_header_length(void)
{
    static const struct {
        uint64_t length;
        size_t bytes;
        awq_status status;
    } cases[] = {{0, 0, AWQ_E_FORMAT}, {0, 7, AWQ_E_FORMAT}, {0, 8, AWQ_E_FORMAT}, {3, 10, AWQ_E_FORMAT},
                 {UINT64_MAX, 100, AWQ_E_FORMAT}, {(uint64_t)1 << 63, 100, AWQ_E_FORMAT},
                 {93, 100, AWQ_E_FORMAT}, {AWQ__ST_MAX_HEADER + 1, AWQ__ST_MAX_HEADER + 9, AWQ_E_LIMIT}};
    size_t i, k;
    char text[1024];
    awq_memory_file f;
    f.path = "m/model.safetensors";
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *data = (char *)calloc(cases[i].bytes + 8, 1);
        for (k = 0; k < 8; k++) data[k] = (char)(cases[i].length >> 8 * k);
        f.data = data;
        f.bytes = cases[i].bytes;
        CHECK_MSG(open_memory("m", &f, 1, text, NULL) == cases[i].status, "%d: %s", (int)i, text);
        free(data);
    }
    f.data = "version https://git-lfs.github.com/spec/v1\n";
    f.bytes = strlen((const char *)f.data);
    CHECK(open_memory("m", &f, 1, text, NULL) == AWQ_E_FORMAT && strstr(text, "Git LFS"));
}

static void test_index(void)
{
    static const struct {
        const char *index;
        awq_status status;
        const char *text;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", AWQ_OK, ""},
        {"{\"metadata\":{\"total_size\":1e9},\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\"}}",
         AWQ_OK, ""},
        {"{\"weight_map\":{\"a\":\"1.safetensors\"}}", AWQ_OK, ""},
        {"{}", AWQ_E_FORMAT, "weight_map"},
        {"[]", AWQ_E_FORMAT, "weight_map"},
        {"{\"weight_map\":{}}", AWQ_E_FORMAT, "weight_map"},
        {"{\"weight_map\":[\"1.safetensors\"]}", AWQ_E_FORMAT, "weight_map"},
        {"{\"weight_map\":{\"a\":1}}", AWQ_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"\"}}", AWQ_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"../1.safetensors\"}}", AWQ_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"/dev/zero\"}}", AWQ_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"x\\\\1.safetensors\"}}", AWQ_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"c:1.safetensors\"}}", AWQ_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\\u0000\"}}", AWQ_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", AWQ_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"3.safetensors\"}}", AWQ_E_IO, "m/3.safetensors"},
        {"{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}", AWQ_E_FORMAT,
         "says that \"a\" is in 2.safet"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"1.safetensors\"}}", AWQ_E_FORMAT,
         "\"c\" is in 1.safetensors, but it is nowhere"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1b.safetensors\",\"c\":\"2.safetensors\"}}",
         AWQ_E_FORMAT, "also in"},
    };
    image a = make(A "}", 12), b = make("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3);
    awq_memory_file f[4];
    char text[1024];
    size_t i;
    f[0].path = "m/model.safetensors.index.json";
    f[1].path = "m/1.safetensors", f[1].data = a.data, f[1].bytes = a.bytes;
    f[2].path = "m/2.safetensors", f[2].data = b.data, f[2].bytes = b.bytes;
    f[3].path = "m/1b.safetensors", f[3].data = b.data, f[3].bytes = b.bytes;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        awq_status st;
        f[0].data = cases[i].index;
        f[0].bytes = strlen(cases[i].index);
        st = open_memory("m", f, 4, text, NULL);
        CHECK_MSG(st == cases[i].status && strstr(text, cases[i].text), "%s: %s %s", cases[i].index,
                  awq_status_name(st), text);
    }
    f[0].data = "{\"weight_map\":{\"a\":\"1.safetensors\"}";
    f[0].bytes = strlen((const char *)f[0].data);
    CHECK(open_memory("m", f, 4, text, NULL) == AWQ_E_FORMAT);
    CHECK(open_memory("n", f, 4, text, NULL) == AWQ_E_IO && strstr(text, "n: neither"));
    f[0].path = "m/pytorch_model.bin";
    CHECK(open_memory("m", f, 4, text, NULL) == AWQ_E_UNSUPPORTED && strstr(text, "s.save_file"));
    f[0].path = "m/model.gguf";
    CHECK(open_memory("m", f, 4, text, NULL) == AWQ_E_UNSUPPORTED && strstr(text, "model.gguf"));
    free(a.data);
    free(b.data);
}

static void test_many_shards(void)
{
    size_t cap = 200000, n = (size_t)snprintf(NULL, 0, "%s", ""), i;
    char *index = (char *)malloc(cap), text[1024];
    awq_memory_file f;
    n = (size_t)snprintf(index, cap, "{\"weight_map\":{");
    for (i = 0; i < AWQ__ST_MAX_FILES + 1; i++)
        n += (size_t)snprintf(index + n, cap - n, "%s\"t%d\":\"%d.safetensors\"", i ? "," : "", (int)i,
                              (int)(i * 7919 % 10007));
    snprintf(index + n, cap - n, "}}");
    f.path = "m/model.safetensors.index.json";
    f.data = index;
    f.bytes = strlen(index);
    CHECK(open_memory("m", &f, 1, text, NULL) == AWQ_E_LIMIT && strstr(text, "more than 1000 files"));
    free(index);
}

/* a header with a great many tensors takes time in proportion */
static void test_many_tensors(void)
{
    int n = 200000, i;
    size_t cap = (size_t)n * 80, at = 1;
    char *h = (char *)malloc(cap), text[1024];
    int64_t count = 0;
    image m;
    awq_memory_file f;
    double t0;
    h[0] = '{';
    for (i = 0; i < n; i++)
        at += (size_t)snprintf(h + at, cap - at,
                               "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? ","
                               : "", (int)((int64_t)i * 7919 % n), i, i + 1);
    snprintf(h + at, cap - at, "}");
    m = make(h, (size_t)n);
    f.path = "m/model.safetensors", f.data = m.data, f.bytes = m.bytes;
    t0 = test_cpu();
    CHECK(open_memory("m", &f, 1, text, &count) == AWQ_OK && count == n);
    CHECK(test_cpu() - t0 < 60); /* quadratic would be hours; emulated it takes longer */
    free(m.data);
    free(h);
}

static void test_sort(void)
{
    awq_tensor t[64];
    const void *v[64];
    uint64_t seed = 1;
    int n, round, i;
    memset(t, 0, sizeof t);
    for (n = 0; n <= 64; n++)
        for (round = 0; round < 20; round++) {
            uint64_t sum = 0;
            for (i = 0; i < n; i++) {
                t[i].offset = round == 0 ? (uint64_t)i : round == 1 ? (uint64_t)(n - i)
                : awq__random(&seed) % (uint64_t)(n + 1);
                sum += t[i].offset;
                v[i] = &t[i];
            }
            awq__sort(v, (size_t)n, awq__st_by_offset);
            for (i = 0; i < n; i++) sum -= ((const awq_tensor *)v[i])->offset;
            CHECK(sum == 0);
            for (i = 1; i < n; i++)
                CHECK(((const awq_tensor *)v[i - 1])->offset <= ((const awq_tensor *)v[i])->offset);
        }
}

/* --- the writer */
static void plan(awq_tensor list[5])
{
    static const struct {
        const char *name;
        awq_dtype dtype;
        int ndim;
        int64_t shape[3];
    } t[5] = {{"z.\"quoted\"", AWQ_F32, 2, {5, 700, 0}}, {"h", AWQ_F16, 1, {9000, 0, 0}},
              {"b", AWQ_BF16, 3, {2, 3, 5}}, {"scalar", AWQ_F64, 0, {0, 0, 0}},
              {"none", AWQ_I32, 2, {0, 8, 0}}};
    int i;
    memset(list, 0, 5 * sizeof *list);
    for (i = 0; i < 5; i++) {
        list[i].name = t[i].name;
        list[i].dtype = t[i].dtype;
        list[i].ndim = t[i].ndim;
        memcpy(list[i].shape, t[i].shape, sizeof t[i].shape);
    }
}

static const size_t plan_bytes[5] = {14000, 18000, 60, 8, 0};

static void fill(int i, unsigned char *data) /* tensor i; finite numbers of its type */
{
    static const size_t size[5] = {4, 2, 2, 8, 4};
    size_t k;
    uint64_t seed = (uint64_t)i + 3;
    for (k = 0; k < plan_bytes[i]; k++) data[k] = (unsigned char)(awq__random(&seed) & (k & 1 ? 0x33 : 0xff));
    awq__little(data, plan_bytes[i] / size[i], size[i]);
}

/* tensors in an odd order, in odd pieces; `part` 0 all, 1 the first halves, 2 the second halves */
static awq_status write_all(awq_ctx *ctx, awq_writer *w, int part)
{
    static const int order[] = {3, 1, 4, 0, 2};
    unsigned char data[20000];
    int k;
    for (k = 0; k < 5; k++) {
        int i = order[k];
        size_t n = plan_bytes[i], at = part == 2 ? n / 2 : 0, end = part == 1 ? n / 2 : n;
        fill(i, data);
        while (at < end) {
            size_t step = AWQ__MIN(end - at, (size_t)4999);
            AWQ__TRY(awq_writer_write(ctx, w, i, at, data + at, step));
            at += step;
        }
    }
    return AWQ_OK;
}

static void check_written(const char *path)
{
    awq_ctx ctx;
    awq_tensors *ts = NULL;
    awq_tensor list[5];
    int i;
    memset(&ctx, 0, sizeof ctx);
    plan(list);
    CHECK_MSG(awq_tensors_open(&ctx, path, &ts) == AWQ_OK, "%s", ctx.err.text);
    if (!ts) return;
    CHECK(awq_tensors_count(ts) == 5 && awq_tensors_at(ts, 5) == NULL && awq_tensors_at(ts, -1) == NULL);
    for (i = 1; i < 5; i++) CHECK(strcmp(awq_tensors_at(ts, i - 1)->name, awq_tensors_at(ts, i)->name) < 0);
    CHECK(awq_tensors_find(ts, "nothing") == NULL && awq_tensors_find(ts, "") == NULL);
    for (i = 0; i < 5; i++) {
        const awq_tensor *t = awq_tensors_find(ts, list[i].name);
        unsigned char want[20000], got[20000];
        if (!t) {
            CHECK(0);
            continue;
        }
        fill(i, want);
        CHECK(t->dtype == list[i].dtype && t->ndim == list[i].ndim
              && !memcmp(t->shape, list[i].shape, sizeof t->shape));
        CHECK(t->bytes == plan_bytes[i]);
        CHECK(awq_tensors_read(&ctx, ts, t, 0, got, plan_bytes[i]) == AWQ_OK
              && !memcmp(got, want, plan_bytes[i]));
        if (t->bytes > 50) {
            CHECK(awq_tensors_read(&ctx, ts, t, 17, got, 30) == AWQ_OK && !memcmp(got, want + 17, 30));
            CHECK(awq_tensors_read(&ctx, ts, t, t->bytes - 3, got, 4) == AWQ_E_ARG);
            CHECK(awq_tensors_read(&ctx, ts, t, UINT64_MAX, got, 4) == AWQ_E_ARG);
        }
        if (awq__is_real(t->dtype)) {
            int64_t n = (int64_t)(t->bytes / awq_dtype_size(t->dtype)), first = n / 3;
            float f[9000], g[9000];
            CHECK(awq_to_float(&ctx, t->dtype, want, n, f) == AWQ_OK);
            CHECK_MSG(awq_tensors_read_float(&ctx, ts, t, 0, n, g) == AWQ_OK, "%s", ctx.err.text);
            CHECK(!memcmp(f, g, (size_t)n * sizeof *f));
            CHECK(awq_tensors_read_float(&ctx, ts, t, first, n - first, g) == AWQ_OK);
            CHECK(!memcmp(f + first, g, (size_t)(n - first) * sizeof *f));
            CHECK(awq_tensors_read_float(&ctx, ts, t, 1, n, g) == AWQ_E_ARG);
            CHECK(awq_tensors_read_float(&ctx, ts, t, -1, 1, g) == AWQ_E_ARG);
            CHECK(awq_tensors_read_float(&ctx, ts, t, n, 0, g) == AWQ_OK);
        } else {
            float g;
            CHECK(awq_tensors_read_float(&ctx, ts, t, 0, 0, &g) == AWQ_E_UNSUPPORTED);
        }
        CHECK(awq_tensors_map(ts, t) == NULL && strstr(awq_tensors_file(ts, t->file), ".safetensors"));
    }
    CHECK(!strcmp(awq_tensors_file(ts, 99), "?"));
    awq_tensors_close(&ctx, ts);
    CHECK(ctx.memory_used == 0);
}

static awq_status write_checkpoint(awq_ctx *ctx, uint64_t shard_bytes, int fail_missing)
{
    awq_writer *w = NULL;
    awq_tensor list[5];
    awq_status st;
    plan(list);
    st = awq_writer_open(ctx, FOLDER, list, 5, shard_bytes, 0, &w);
    CHECK(!st == !!w);
    if (!st) st = write_all(ctx, w, fail_missing);
    if (!st) st = awq_writer_sync(ctx, w);
    if (!st) st = awq_writer_finish(ctx, w);
    if (st) awq_writer_abort(ctx, w, 0);
    return st;
}

static void test_write_read(void)
{
    static const uint64_t shards[] = {0, 32068, 32067, 18000, 1};
    static const int files[] = {1, 1, 2, 2, 4}; /* the empty tensor goes where there is room */
    static const char start[] = "{\"__metadata__\":{\"format\":\"pt\"},\"z.\\\"quoted\\\"\":{\"dtype\":\"F";
    awq_ctx ctx;
    char *text;
    size_t i, n;
    memset(&ctx, 0, sizeof ctx);
    clean();
    for (i = 0; i < 5; i++) {
        char name[64];
        CHECK_MSG(write_checkpoint(&ctx, shards[i], 0) == AWQ_OK, "%s", ctx.err.text);
        CHECK(ctx.memory_used == 0);
        snprintf(name, sizeof name, "model-00001-of-%05d.safetensors", files[i]);
        CHECK_MSG(exists(files[i] == 1 ? "model.safetensors" : name), "%d", (int)i);
        CHECK(exists("model.safetensors") == (files[i] == 1));
        CHECK(exists("model.safetensors.index.json") == (files[i] > 1));
        strcat(name, ".part");
        CHECK(!exists(name) && !exists("model.safetensors.part"));
        check_written(FOLDER);
    }
    CHECK(awq__file_load(&ctx, FOLDER "/model.safetensors.index.json", 10000, &text, &n) == AWQ_OK);
    CHECK(strstr(text, "\"total_size\": 32068") && strstr(text, "\"scalar\": \"model-0000"));
    awq__free(&ctx, text);
    CHECK(write_checkpoint(&ctx, 0, 0) == AWQ_OK); /* the index of the shards must not win over the new file */
    CHECK(!exists("model.safetensors.index.json"));
    check_written(FOLDER "/model.safetensors");
    CHECK(awq__file_load(&ctx, FOLDER "/model.safetensors", 100000, &text, &n) == AWQ_OK);
    CHECK((unsigned char)text[0] % 8 == 0 && !strncmp(text + 8, start, strlen(start)));
    CHECK(awq__fnv(AWQ__FNV, text, n) == 0xba98f6020134e45cull); /* on every machine */
    awq__free(&ctx, text);
    clean();
}

static void test_resume(void)
{
    awq_ctx ctx;
    awq_writer *w = NULL;
    awq_tensor list[5];
    int shards;
    memset(&ctx, 0, sizeof ctx);
    clean();
    plan(list);
    for (shards = 0; shards < 2; shards++) {
        uint64_t size = shards ? 18000 : 0;
        CHECK(awq_writer_open(&ctx, FOLDER, list, 5, size, 1, &w) == AWQ_E_FORMAT
              && strstr(ctx.err.text, "not there"));
        CHECK(awq_writer_open(&ctx, FOLDER, list, 5, size, 0, &w) == AWQ_OK);
        CHECK(write_all(&ctx, w, 1) == AWQ_OK);
        CHECK(awq_writer_finish(&ctx, w) == AWQ_E_ARG && strstr(ctx.err.text, "bytes of \"z.\"quoted\"\""));
        awq_writer_abort(&ctx, w, 1);
        CHECK(awq_writer_open(&ctx, FOLDER, list, 5, size, 1, &w) == AWQ_OK);
        CHECK(write_all(&ctx, w, 2) == AWQ_OK);
        CHECK_MSG(awq_writer_finish(&ctx, w) == AWQ_OK, "%s", ctx.err.text);
        check_written(FOLDER);
        clean();
    }
    CHECK(awq_writer_open(&ctx, FOLDER, list, 5, 0, 0, &w) == AWQ_OK);
    awq_writer_abort(&ctx, w, 1);
    list[0].shape[1] = 701;
    CHECK(awq_writer_open(&ctx, FOLDER, list, 5, 0, 1, &w) == AWQ_E_FORMAT
          && strstr(ctx.err.text, "were planned"));
    list[0].shape[1] = 700;
    list[1].dtype = AWQ_BF16;
    list[2].dtype = AWQ_F16;
    CHECK(awq_writer_open(&ctx, FOLDER, list, 5, 0, 1, &w) == AWQ_E_FORMAT);
    CHECK(exists("model.safetensors.part")); /* a refused resume leaves the file alone */
    CHECK(awq_writer_open(&ctx, FOLDER, list, 5, 0, 0, &w) == AWQ_OK);
    awq_writer_abort(&ctx, w, 0);
    CHECK(!exists("model.safetensors.part") && ctx.memory_used == 0);
    awq_writer_abort(&ctx, NULL, 0);
    clean();
}

static void test_writer_arguments(void)
{
    awq_ctx ctx;
    awq_writer *w = NULL;
    awq_tensor list[5], many[2], *big;
    char names[1001][16];
    int i;
    memset(&ctx, 0, sizeof ctx);
    clean();
    plan(list);
    CHECK(awq_writer_open(&ctx, FOLDER, list, 0, 0, 0, &w) == AWQ_E_ARG);
    for (i = 0; i < 7; i++) {
        memcpy(many, list, sizeof many);
        if (i == 0) many[1].name = many[0].name;
        else if (i == 1) many[1].name = "";
        else if (i == 2) many[1].name = NULL;
        else if (i == 3) many[1].name = "\xff";
        else if (i == 4) many[1].dtype = (awq_dtype)99;
        else if (i == 5) many[1].ndim = 9;
        else many[1].shape[0] = -1;
        CHECK_MSG(awq_writer_open(&ctx, FOLDER, many, 2, 0, 0, &w) == AWQ_E_ARG, "%d", i);
    }
    many[1].shape[0] = INT64_MAX;
    CHECK(awq_writer_open(&ctx, FOLDER, many, 2, 0, 0, &w) == AWQ_E_ARG && strstr(ctx.err.text, "too large"));
    many[1].name = "__metadata__";
    CHECK(awq_writer_open(&ctx, FOLDER, many, 2, 0, 0, &w) == AWQ_E_ARG);
    CHECK(!exists("model.safetensors.part") && ctx.memory_used == 0);
    big = (awq_tensor *)calloc(1001, sizeof *big);
    for (i = 0; i < 1001; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        big[i].name = names[i];
        big[i].dtype = AWQ_U8;
        big[i].ndim = 1;
        big[i].shape[0] = 2;
    }
    CHECK(awq_writer_open(&ctx, FOLDER, big, 1001, 1, 0, &w) == AWQ_E_LIMIT);
    free(big);
    CHECK(awq_writer_open(&ctx, FOLDER, list, 5, 0, 0, &w) == AWQ_OK);
    CHECK(awq_writer_find(w, "scalar") == 3 && awq_writer_find(w, "b") == 2 && awq_writer_find(w, "c") == -1);
    CHECK(awq_writer_write(&ctx, w, 5, 0, "x", 1) == AWQ_E_ARG);
    CHECK(awq_writer_write(&ctx, w, -1, 0, "x", 1) == AWQ_E_ARG);
    CHECK(awq_writer_write(&ctx, w, 3, 8, "x", 1) == AWQ_E_ARG);
    CHECK(awq_writer_write(&ctx, w, 3, UINT64_MAX, "x", 2) == AWQ_E_ARG);
    awq_writer_abort(&ctx, w, 0);
    CHECK(awq_writer_open(&ctx, FOLDER "/no/such/folder", list, 5, 0, 0, &w) == AWQ_E_IO);
    clean();
}

static int full_write(void *u, void *f, uint64_t offset, const void *data, size_t bytes)
{
    (void)u;
    return offset > 2000 ? ENOSPC : awq__os_write(NULL, f, offset, data, bytes);
}

static void test_full_disk(void)
{
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    clean();
    ctx.files = *awq__fs(&ctx);
    ctx.files.write = full_write;
    CHECK(write_checkpoint(&ctx, 0, 0) == AWQ_E_IO);
    CHECK_MSG(!strcmp(ctx.err.text, FOLDER "/model.safetensors.part: cannot write: the disk is full"), "%s",
              ctx.err.text);
    CHECK(!exists("model.safetensors.part") && ctx.memory_used == 0);
    clean();
}

static awq_status read_everything(awq_ctx *ctx)
{
    awq_tensors *t = NULL;
    awq_status st = awq_tensors_open(ctx, FOLDER, &t);
    char data[20000];
    int64_t i;
    for (i = 0; t && !st && i < awq_tensors_count(t); i++)
        st = awq_tensors_read(ctx, t, awq_tensors_at(t, i), 0, data, (size_t)awq_tensors_at(t, i)->bytes);
    awq_tensors_close(ctx, t);
    return st;
}

static void test_failures(void)
{
    long k;
    int what;
    clean();
    for (what = 0; what < 4; what++) { /* write and read, allocations and file calls */
        int reached = 1;
        for (k = 0; reached; k++) {
            fail_alloc a = {-1, 0, 0};
            fail_files f = {-1, 0};
            awq_status st;
            awq_ctx ctx;
            memset(&ctx, 0, sizeof ctx);
            if (what & 1) f.fail_at = k;
            else a.fail_at = k;
            ctx.allocator = fail_allocator(&a);
            ctx.files = fail_file_system(&f);
            if (what < 2) clean();
            st = what < 2 ? write_checkpoint(&ctx, 18000, 0) : read_everything(&ctx);
            reached = what & 1 ? f.calls > k : a.calls > k;
            /* closing a file that was only read may fail unnoticed */
            CHECK_MSG(st == (what & 1 ? AWQ_E_IO : AWQ_E_MEMORY) || (st == AWQ_OK && (!reached || what & 1)),
                      "%d, %ld: %s", what, k, ctx.err.text);
            CHECK(a.live == 0 && ctx.memory_used == 0);
            if (what < 2 && st) { /* nothing half-made stays */
                CHECK(!exists("model-00001-of-00002.safetensors.part")
                      && !exists("model-00002-of-00002.safetensors.part"));
                CHECK(!exists("model-00001-of-00002.safetensors") && !exists("model.safetensors.index.json"));
            }
        }
        CHECK_MSG(k > 10, "%d", what);
    }
    check_written(FOLDER);
    clean();
}

static void test_numeric_and_map(void)
{
    static const char header[] = "{\"f\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                                 "\"h\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[8,14]},"
                                 "\"g\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[14,18]}}";
    char padded[256];
    image m;
    awq_memory_file f;
    awq_memory_list list;
    awq_ctx ctx;
    awq_tensors *t = NULL;
    const awq_tensor *x;
    float got[3];
    char *data;
    memset(&ctx, 0, sizeof ctx);
    snprintf(padded, sizeof padded, "%-200s", header); /* the data begin at a multiple of 8 */
    m = make(padded, 18);
    data = m.data + m.bytes - 18;
    data[8] = data[10] = data[11] = 0;
    data[12] = 0, data[13] = 0x7c; /* h[2] = Inf */
    data[6] = (char)0xc0, data[7] = 0x7f; /* f[1] = NaN */
    f.path = "x.safetensors", f.data = m.data, f.bytes = m.bytes;
    list.files = &f, list.count = 1;
    ctx.files = awq_memory_files(&list);
    CHECK_MSG(awq_tensors_open(&ctx, "x.safetensors", &t) == AWQ_OK, "%s", ctx.err.text);
    x = awq_tensors_find(t, "h");
    CHECK(awq_tensors_read_float(&ctx, t, x, 0, 3, got) == AWQ_E_NUMERIC);
    CHECK_MSG(!strcmp(ctx.err.text, "x.safetensors: tensor \"h\": element 2 is infinite in fp32"), "%s",
              ctx.err.text);
    CHECK(awq_tensors_read_float(&ctx, t, x, 0, 2, got) == AWQ_OK && awq_tensors_map(t, x) == (AWQ__BIG_ENDIAN ? NULL : data + 8));
    x = awq_tensors_find(t, "f");
    CHECK(awq_tensors_read_float(&ctx, t, x, 1, 1, got) == AWQ_E_NUMERIC
          && strstr(ctx.err.text, "element 1 is NaN"));
    CHECK(awq_tensors_map(t, x) == (AWQ__BIG_ENDIAN ? NULL : data));
    CHECK(awq_tensors_map(t, awq_tensors_find(t, "g")) == NULL); /* not aligned */
    awq_tensors_close(&ctx, t);
    awq_tensors_close(&ctx, NULL);
    free(m.data);
}

/* an index may name what is no plain file: refused, without waiting for it */
static void test_special_files(void)
{
#ifndef _WIN32
    static const char index[] = "{\"weight_map\":{\"a\":\"pipe.safetensors\"}}";
    awq_ctx ctx;
    awq_tensors *t = NULL;
    memset(&ctx, 0, sizeof ctx);
    clean();
    awq__os_make_folder(NULL, FOLDER);
    CHECK(awq__file_save(&ctx, FOLDER "/model.safetensors.index.json", index, strlen(index)) == AWQ_OK);
    CHECK(mkfifo(FOLDER "/pipe.safetensors", 0600) == 0);
    CHECK(awq_tensors_open(&ctx, FOLDER, &t) == AWQ_E_IO && strstr(ctx.err.text, "pipe.safetensors"));
    awq__os_remove(NULL, FOLDER "/pipe.safetensors");
    CHECK(symlink("/dev/zero", FOLDER "/pipe.safetensors") == 0);
    CHECK(awq_tensors_open(&ctx, FOLDER, &t) == AWQ_E_IO && strstr(ctx.err.text, "pipe.safetensors"));
    awq__os_remove(NULL, FOLDER "/pipe.safetensors");
    awq__os_make_folder(NULL, FOLDER "/pipe.safetensors");
    CHECK(awq_tensors_open(&ctx, FOLDER, &t) == AWQ_E_IO);
    CHECK(ctx.memory_used == 0);
    clean();
#endif
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_headers);
    RUN(test_header_length);
    RUN(test_index);
    RUN(test_many_shards);
    RUN(test_many_tensors);
    RUN(test_sort);
    RUN(test_write_read);
    RUN(test_resume);
    RUN(test_writer_arguments);
    RUN(test_full_disk);
    RUN(test_failures);
    RUN(test_numeric_and_map);
    RUN(test_special_files);
    return TEST_END();
}
