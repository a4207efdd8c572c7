/* 09 - quantize one linear by hand: what AWQ does, step by step, with the library's parts.
       cc -O2 -o 09_quantize_layer examples/09_quantize_layer.c -lm -lpthread
       ./09_quantize_layer [MODEL]
   You learn: activations from a running model (awq_session_feed and its tap), second moments, awq_search_scales,
   awq_search_clips, awq_fake_quantize, and what each gains. Output for the demo model:
       q_proj of layer 0, 128 x 128, 4 bits, a scale for each row; mean squared error of its outputs on 17 tokens:
       rounded to nearest   0.031845
       scaled (0.35)        0.001663
       scaled and clipped   0.001104 */
#define AWQ_IMPLEMENTATION
#include "../awq.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 64 };

static float *x; /* [TOKENS][in]: what layer 0 is given */

static void on_tap(void *user, awq_tap_point point, int layer, const float *data, int64_t n, int64_t width)
{
    int64_t *seen = (int64_t *)user;
    (void)layer;
    if (point != AWQ_TAP_EMBED || *seen + n > TOKENS) return;
    memcpy(x + *seen * width, data, (size_t)(n * width) * sizeof *x);
    *seen += n;
}

/* mean squared error of the outputs: the trace of D moments D^T, D = q - w */
static double error_of(const float *w, const float *q, const float *moments, int64_t out, int64_t in)
{
    double sum = 0;
    int64_t o, i, j;
    for (o = 0; o < out; o++)
        for (i = 0; i < in; i++)
            for (j = 0; j < in; j++)
                sum += ((double)q[o * in + i] - w[o * in + i]) * moments[i * in + j] * ((double)q[o * in + j] - w[o * in + j]);
    return sum / (double)out;
}

int main(int argc, char **argv)
{
    static const char text[] = "Bram lives in Dunmarrow. He is the carpenter, and he is 20 years old.";
    const char *folder = argc > 1 ? argv[1] : "tools/demo/model";
    awq_ctx ctx;
    awq_model *model = NULL;
    awq_runner *runner = NULL;
    awq_session *session = NULL;
    awq_checkpoint *ck = NULL;
    awq_tensors *tensors;
    awq_linear_info info;
    awq_feed_desc feed;
    awq_search_desc how;
    int32_t ids[TOKENS];
    size_t n_ids = 0;
    int64_t n = 0, in, out, i, j, t;
    float *w = NULL, *q, *norm, *moments, *mean, *scales, *clips;
    double losses[AWQ_SCALE_GRID + 1], sum;
    const float *weights;
    int best = 0, failed = 1;

    memset(&ctx, 0, sizeof ctx);
    memset(&feed, 0, sizeof feed);
    memset(&how, 0, sizeof how);
    if (awq_model_load(&ctx, folder, NULL, &model) || awq_runner_create(&ctx, model, NULL, &runner)) goto out;
    if (awq_session_create(&ctx, runner, NULL, &session) || awq_checkpoint_open(&ctx, folder, &ck)) goto out;
    if (awq_checkpoint_linear(&ctx, ck, 0, AWQ_Q_PROJ, &info)) goto out;
    if (info.quantized) {
        fprintf(stderr, "%s is quantized already\n", folder);
        goto out;
    }
    in = info.in_features, out = info.out_features;
    weights = w = (float *)calloc((size_t)(2 * out * in + in * in + (TOKENS + 3) * in + out), sizeof *w);
    if (!w) goto out;
    q = w + out * in, moments = q + out * in, x = moments + in * in, norm = x + TOKENS * in;
    mean = norm + in, scales = mean + in, clips = scales + in;
    tensors = awq_checkpoint_tensors(ck);
    if (awq_tensors_read_float(&ctx, tensors, info.weight, 0, out * in, w)) goto out;
    if (awq_tensors_read_float(&ctx, tensors, awq_tensors_find(tensors, "model.layers.0.input_layernorm.weight"), 0, in, norm))
        goto out;

    /* 1. what the linear sees: layer 0's input behind its norm; its second moments are all that is needed */
    if (awq_encode(&ctx, awq_model_tokenizer(model), text, strlen(text), 1, ids, TOKENS, &n_ids)) goto out;
    feed.tap = on_tap;
    feed.user = &n;
    if (awq_session_feed(&ctx, session, ids, (int64_t)n_ids, &feed, NULL)) goto out;
    for (t = 0; t < n; t++) {
        float *row = x + t * in;
        for (i = 0, sum = 0; i < in; i++) sum += (double)row[i] * row[i];
        sum = 1 / sqrt(sum / (double)in + awq_checkpoint_config(ck)->rms_norm_eps);
        for (i = 0; i < in; i++) row[i] *= (float)sum * norm[i];
        for (i = 0; i < in; i++) mean[i] += fabsf(row[i]) / (float)n;
        for (i = 0; i < in; i++)
            for (j = 0; j < in; j++) moments[i * in + j] += row[i] * row[j] / (float)n;
    }
    /* 2. plain rounding */
    how.bits = 4;
    how.group_size = in;
    printf("q_proj of layer 0, %d x %d, 4 bits, a scale for each row; mean squared error of its outputs on %d tokens:\n",
           (int)out, (int)in, (int)n);
    if (awq_fake_quantize(&ctx, w, out, in, &how, NULL, NULL, q)) goto out;
    printf("rounded to nearest   %.6f\n", error_of(w, q, moments, out, in));
    /* 3. scales that protect the channels that matter */
    if (awq_search_scales(&ctx, &weights, &out, 1, in, mean, moments, &how, scales, losses, &best)) goto out;
    if (awq_fake_quantize(&ctx, w, out, in, &how, scales, NULL, q)) goto out;
    printf("scaled (%.2f)        %.6f\n", best / (double)AWQ_SCALE_GRID, error_of(w, q, moments, out, in));
    /* 4. clips on top of them: of what is multiplied by the scales, for inputs that are divided by them */
    for (i = 0; i < out * in; i++) w[i] *= scales[i % in];
    for (i = 0; i < in * in; i++) moments[i] /= scales[i / in] * scales[i % in];
    if (awq_search_clips(&ctx, w, out, in, moments, &how, clips)) goto out;
    if (awq_fake_quantize(&ctx, w, out, in, &how, NULL, clips, q)) goto out;
    printf("scaled and clipped   %.6f\n", error_of(w, q, moments, out, in));
    failed = 0;
out:
    if (ctx.err.text[0]) fprintf(stderr, "%s\n", ctx.err.text);
    free(w);
    awq_checkpoint_close(&ctx, ck);
    awq_session_free(&ctx, session);
    awq_runner_free(&ctx, runner);
    awq_model_free(&ctx, model);
    return failed;
}
