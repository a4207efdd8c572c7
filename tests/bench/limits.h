/* What this machine can do at best, measured: bandwidth of reading, in GB/s; medians. Include after awq.h with its
   implementation. */
#ifndef LIMITS_H
#define LIMITS_H
#include <stdio.h>
#include <stdlib.h>

static int limits_by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double limits_median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, limits_by_double);
    return v[n / 2];
}

typedef struct limits_sweep {
    const uint64_t *p;
    size_t n; /* words of a part */
    uint64_t sum[64];
} limits_sweep;

/* Several streams at once: more of the memory's pages are open, and one stream does not reach the limit. Which way is
   the fastest depends on the machine: eight streams through the whole part, or blocks of 32 KB one after another, the next
   one fetched in eight streams meanwhile. */
AWQ__VECTORIZE static void limits_part(void *arg, int64_t part)
{
    limits_sweep *s = (limits_sweep *)arg;
    const uint64_t *p = s->p + (size_t)part * s->n;
    size_t stream = s->n / 8, k;
    uint64_t sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    int j, w;
    for (k = 0; k + 8 <= stream; k += 8)
        for (j = 0; j < 8; j++)
            for (w = 0; w < 8; w++) sum[w] ^= p[(size_t)j * stream + k + (size_t)w];
    for (j = 0; j < 8; j++) s->sum[part] ^= sum[j];
}

AWQ__VECTORIZE static void limits_blocks(void *arg, int64_t part)
{
    limits_sweep *s = (limits_sweep *)arg;
    const uint64_t *p = s->p + (size_t)part * s->n;
    enum { BLOCK = 4096 }; /* words */
    uint64_t sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    size_t at, k;
    int j, w;
    for (at = 0; at + BLOCK <= s->n; at += BLOCK)
        for (k = 0; k < BLOCK / 8; k += 8)
            for (j = 0; j < 8; j++) {
#if defined(__GNUC__)
                __builtin_prefetch(p + at + BLOCK + (size_t)j * (BLOCK / 8) + k, 0, 2);
#endif
                for (w = 0; w < 8; w++) sum[w] ^= p[at + (size_t)j * (BLOCK / 8) + k + (size_t)w];
            }
    for (j = 0; j < 8; j++) s->sum[part] ^= sum[j];
}

/* of reading 1 GB, the best of `tries` in both ways; 0: no memory */
static double limits_bandwidth(awq_ctx *ctx, int tries)
{
    size_t bytes = (size_t)1 << 30;
    limits_sweep s;
    double best = 0;
    char *p = (char *)awq__alloc(ctx, bytes, 1); /* in huge pages where there are any */
    int i;
    if (!p) return 0;
    memset(&s, 0, sizeof s);
    s.p = (const uint64_t *)(const void *)p;
    s.n = bytes / 8 / 64;
    for (i = 0; i < 2 * tries; i++) {
        double t0 = awq__now(), v;
        awq__run(ctx, 64, i % 2 ? limits_blocks : limits_part, &s);
        v = (double)bytes / (awq__now() - t0) / 1e9;
        best = v > best ? v : best;
    }
    for (i = 0; i < 64; i++)
        if (s.sum[i] == 12345) printf(" "); /* the sums are used */
    awq__free(ctx, p);
    return best;
}
#endif
