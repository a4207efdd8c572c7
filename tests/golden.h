/* Reads the golden matrices (safetensors) for test_quantize.c and test_layouts.c. */
#ifndef GOLDEN_H
#define GOLDEN_H

typedef struct golden {
    char *data; /* the whole file */
    size_t bytes, header;
} golden;

static int golden_open(golden *f, const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t n = 0;
    memset(f, 0, sizeof *f);
    if (!file) return 0;
    fseek(file, 0, SEEK_END);
    f->bytes = (size_t)ftell(file);
    rewind(file);
    f->data = (char *)malloc(f->bytes + 1);
    if (fread(f->data, 1, f->bytes, file) != f->bytes) f->bytes = 0;
    fclose(file);
    if (f->bytes > 8) awq__copy_little(&n, f->data, 8);
    f->header = (size_t)n + 8;
    return f->bytes > f->header;
}

static void golden_close(golden *f)
{
    free(f->data);
    memset(f, 0, sizeof *f);
}

/* A copy (so that it is aligned) of one tensor, NULL when the file has none of that name. */
static void *golden_tensor(const golden *f, const char *name, size_t *bytes)
{
    static const char *const sizes[] = {"8\"", "16\"", "32\"", "64\""}; /* how names of types end */
    char key[96], *at, *type;
    unsigned long long begin, end;
    size_t k;
    void *p;
    sprintf(key, "\"%s\":{", name);
    f->data[f->header - 1] = 0; /* the header's last byte is padding or '}' */
    at = strstr(f->data + 8, key);
    type = at ? strstr(at, "\"dtype\":\"") : NULL;
    at = at ? strstr(at, "\"data_offsets\":[") : NULL;
    if (!at || !type || sscanf(at + 16, "%llu,%llu", &begin, &end) != 2) return NULL;
    *bytes = (size_t)(end - begin);
    p = malloc(*bytes + 1);
    memcpy(p, f->data + f->header + begin, *bytes);
    type += 9 + strcspn(type + 9, "0123456789");
    for (k = 0; k < 4; k++)
        if (!strncmp(type, sizes[k], strlen(sizes[k]))) awq__little(p, *bytes >> k, (size_t)1 << k);
    return p;
}

static float *golden_half(const golden *f, const char *name, size_t *count) /* an F16 tensor as floats */
{
    uint16_t *h = (uint16_t *)golden_tensor(f, name, count);
    float *p;
    size_t i;
    if (!h) return NULL;
    *count /= 2;
    p = (float *)malloc(*count * sizeof *p + 1);
    for (i = 0; i < *count; i++) p[i] = awq__f16_float(h[i]);
    free(h);
    return p;
}

typedef struct golden_shape {
    int k, n, g;
    const char *name;
} golden_shape;

static const golden_shape golden_shapes[] = {
    {64, 8, 32, "K64_N8_g32"},        {96, 24, 32, "K96_N24_g32"},      {64, 32, 64, "K64_N32_g64"},
    {256, 512, 128, "K256_N512_g128"}, {256, 512, 64, "K256_N512_g64"},  {256, 512, 32, "K256_N512_g32_bias"},
    {768, 256, 128, "K768_N256_g128_bias"}, {1152, 264, 128, "K1152_N264_g128"}, {384, 64, 384, "K384_N64_g-1"},
    {256, 136, 16, "K256_N136_g16"}};
enum { GOLDEN_SHIPPED = 3, GOLDEN_ALL = 10 }; /* the first three lie in tests/data */

static int golden_open_shape(golden *f, int i)
{
    char path[1024];
    const char *here = __FILE__, *end = here + strlen(here);
    while (end > here && end[-1] != '/' && end[-1] != '\\') end--;
    if (i < GOLDEN_SHIPPED)
        sprintf(path, "%.*sdata/%s.safetensors", (int)(end - here), here, golden_shapes[i].name);
    else sprintf(path, "%.800s/golden/layouts/%s.safetensors", TEST_DATA(), golden_shapes[i].name);
    return golden_open(f, path);
}
#endif
