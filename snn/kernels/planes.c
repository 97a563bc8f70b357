/* Spiking neurons behind a batch norm, forward and backward over all time steps at once.
 *
 * Planes are float arrays [T][N][place][channel]. A call works on the samples of one share, N of them. Samples
 * meet in sums only, and each has its own, so that nothing depends on how many threads there are. A sample is
 * done block after block of places: what all time steps of a block need stays in the first cache. The elements
 * of a block lie in a row, so that loops over them become vectors; what each channel has (scale, shift, ...)
 * is given repeated over a whole block.
 */
#include <stdint.h>
#include <string.h>

#define SLOPE 3.14159274f /* pi / 2 * alpha with alpha = 2, of the ATan surrogate */

typedef struct {
    int64_t plane;        /* floats of one sample at one time step */
    int64_t stride;       /* floats from one time step to the next */
    int64_t input_stride; /* the same of the input; 0 of a current that is fed at every time step */
    int32_t time_steps, num_samples, block, channels;
    int32_t leaky; /* h = v + (x - v) * decay, or h = v + x */
    float decay, threshold;
} neurons_t;

/* The norm of each channel: x = input * scale + shift, and without gain and bias input * unit + offset. */
typedef struct {
    const float *scale, *shift, *unit, *offset;
} norm_t;

#define EACH(...) \
    for (int32_t i = 0; i < n; i++) { __VA_ARGS__ }
#define NORMALISED (z[i] * scale[i] + shift[i])
#define CHARGE(x, next)                         \
    EACH(const float current = x; h[i] = next; \
         v[i] = h[i] >= threshold ? 0.0f : h[i];)

/* The potentials h of n neurons before they fire, and v after, which on entry is that of the last time step. */
static inline void charge(const neurons_t *it, const norm_t *norm, const float *restrict z,
                          const float *restrict added, int32_t n, float *restrict v, float *restrict h) {
    const float *restrict scale = norm->scale, *restrict shift = norm->shift;
    const float decay = it->decay, threshold = it->threshold;
    if (it->leaky && added) CHARGE(NORMALISED + added[i], v[i] + (current - v[i]) * decay)
    else if (it->leaky) CHARGE(NORMALISED, v[i] + (current - v[i]) * decay)
    else if (added) CHARGE(NORMALISED + added[i], v[i] + current)
    else CHARGE(NORMALISED, v[i] + current)
}

/* Spikes [T][N][plane] of input [T or 1][N][plane] plus `added` [T][N][plane], which may be NULL. Scratch: 2 *
 * block floats. */
void neurons_forward(const neurons_t *it, const norm_t *norm, const float *input, const float *added,
                     float *spikes, float *scratch) {
    const float threshold = it->threshold;
    float *restrict v = scratch, *restrict h = scratch + it->block;
    for (int64_t sample = 0, at = 0; sample < it->num_samples; sample++) {
        for (const int64_t end = (sample + 1) * it->plane; at < end;) {
            const int32_t n = end - at < it->block ? (int32_t)(end - at) : it->block;
            memset(v, 0, sizeof(float) * (size_t)n);
            for (int32_t t = 0; t < it->time_steps; t++) {
                float *restrict s = spikes + t * it->stride + at;
                charge(it, norm, input + t * it->input_stride + at, added ? added + t * it->stride + at : 0, n, v,
                       h);
                EACH(s[i] = h[i] >= threshold ? 1.0f : 0.0f;)
            }
            at += n;
        }
    }
}

/* Adds what the elements of a block got to their channels' sums. */
static inline void add_by_channel(const float *block, int32_t n, int32_t channels, double *sums) {
    for (int32_t i = 0; i < n; i += channels)
        for (int32_t c = 0; c < channels; c++) sums[c] += block[i + c];
}

/* One time step of the gradient; arrays of n. `last` is h of the time step before, zeros at the first. */
static inline void discharge(const neurons_t *it, const norm_t *norm, int32_t n, const float *restrict z,
                             const float *restrict h, const float *restrict last, const float *restrict ds,
                             float *restrict dx, float *restrict dv, float *restrict decayed,
                             float *restrict sum, float *restrict product) {
    const float *restrict unit = norm->unit, *restrict offset = norm->offset;
    const float threshold = it->threshold, gain = it->leaky ? it->decay : 1.0f, leaky = it->leaky;
    EACH(
        const float away = (h[i] - threshold) * SLOPE; 
        const float dh = (h[i] >= threshold ? 0.0f : dv[i]) + ds[i] / (1.0f + away * away);
        const float v = last[i] >= threshold ? 0.0f : last[i];
        const float g = dh * gain;
        dx[i] = g;
        dv[i] = dh - g * leaky;
        decayed[i] += dh * (h[i] - v);
        sum[i] += g;
        product[i] += g * (z[i] * unit[i] + offset[i]);
    )
}

/* Gradient of the normalised input, from that of the spikes:
 *
 *   dh_t = dv_t * (1 - s_t) + ds_t / (1 + (SLOPE * (h_t - threshold))^2),   dx_t = dh_t * decay,
 *   dv_{t-1} = dh_t - dx_t,   d(decay) = sum of dh_t * (h_t - v_{t-1}), to be divided by the decay
 *
 * gradient: dx, [T][N][plane]; of one input for all time steps (input_stride 0) their sum, [N][plane].
 * sums: of each sample and channel the sums of dx and of dx * (input * unit + offset), [N][2][channels].
 * decays: of each sample d(decay), [N]. scratch: (T + 7) * block floats. */
void neurons_backward(const neurons_t *it, const norm_t *norm, const float *input, const float *added,
                      const float *spike_gradient, float *gradient, double *sums, double *decays,
                      float *scratch) {
    const int32_t block = it->block, channels = it->channels;
    float *zeros = scratch, *row = zeros + block, *v = row + block, *h = v + block;
    float *dv = h + (int64_t)it->time_steps * block, *decayed = dv + block, *sum = decayed + block;
    float *product = sum + block;
    memset(zeros, 0, sizeof(float) * (size_t)block);
    for (int64_t sample = 0, at = 0; sample < it->num_samples; sample++, sums += 2 * channels) {
        memset(sums, 0, sizeof(double) * 2 * (size_t)channels);
        decays[sample] = 0.0;
        for (const int64_t end = (sample + 1) * it->plane; at < end;) {
            const int32_t n = end - at < block ? (int32_t)(end - at) : block;
            memset(v, 0, sizeof(float) * (size_t)n);
            memset(dv, 0, sizeof(float) * 4 * (size_t)block);
            for (int32_t t = 0; t < it->time_steps; t++)
                charge(it, norm, input + t * it->input_stride + at, added ? added + t * it->stride + at : 0, n, v,
                       h + (int64_t)t * block);
            for (int32_t t = it->time_steps - 1; t >= 0; t--) {
                float *restrict to = gradient + at;
                const float *potential = h + (int64_t)t * block;
                discharge(it, norm, n, input + t * it->input_stride + at, potential,
                          t ? potential - block : zeros, spike_gradient + t * it->stride + at,
                          it->input_stride ? to + t * it->input_stride : row, dv, decayed, sum, product);
                if (!it->input_stride && t == it->time_steps - 1) memcpy(to, row, sizeof(float) * (size_t)n);
                else if (!it->input_stride) EACH(to[i] += row[i];)
            }
            add_by_channel(sum, n, channels, sums);
            add_by_channel(product, n, channels, sums + channels);
            EACH(decays[sample] += decayed[i];)
            at += n;
        }
    }
}

/* Sums and sums of squares of each plane's channels, less their pivot: sums [num_planes][2][channels]. Scratch:
 * 2 * block floats. */
void plane_moments(int64_t num_planes, int64_t plane, int32_t block, int32_t channels, const float *input,
                   const float *restrict pivot, double *sums, float *scratch) {
    float *restrict sum = scratch, *restrict square = scratch + block;
    for (int64_t k = 0; k < num_planes; k++, input += plane, sums += 2 * channels) {
        memset(scratch, 0, sizeof(float) * 2 * (size_t)block);
        for (int64_t at = 0; at < plane; at += block) {
            const int32_t n = plane - at < block ? (int32_t)(plane - at) : block;
            const float *restrict z = input + at;
            EACH(const float x = z[i] - pivot[i]; sum[i] += x; square[i] += x * x;)
        }
        memset(sums, 0, sizeof(double) * 2 * (size_t)channels);
        add_by_channel(sum, block, channels, sums);
        add_by_channel(square, block, channels, sums + channels);
    }
}

/* out = gradient * a + input * b + c with a, b and c of each channel: the gradient of a batch norm's input. */
void norm_backward(int64_t num_planes, int64_t plane, int32_t block, const float *gradient, const float *input,
                   const float *restrict a, const float *restrict b, const float *restrict c, float *out) {
    for (int64_t k = 0, at = 0; k < num_planes; k++)
        for (const int64_t end = (k + 1) * plane; at < end;) {
            const int32_t n = end - at < block ? (int32_t)(end - at) : block;
            const float *g = gradient + at, *z = input + at;
            float *to = out + at;
            EACH(to[i] = g[i] * a[i] + z[i] * b[i] + c[i];)
            at += n;
        }
}

/* 2x2 max-pool of planes: out [num_planes][height / 2][width / 2][channels], and for each output which of its
 * four inputs it is, row by row, the first of equal ones. */
void pool_forward(int64_t num_planes, int32_t height, int32_t width, int32_t channels, const float *input,
                  float *out, uint8_t *which) {
    const int32_t rows = height / 2, columns = width / 2, n = channels;
    const int64_t row = (int64_t)width * channels;
    for (int64_t k = 0; k < num_planes; k++, input += height * row)
        for (int32_t y = 0; y < rows; y++)
            for (int32_t x = 0; x < columns; x++, out += n, which += n) {
                const float *restrict a = input + 2 * y * row + 2 * (int64_t)x * n, *restrict b = a + n;
                const float *restrict c = a + row, *restrict d = c + n;
                float *restrict to = out;
                uint8_t *restrict index = which;
                EACH(
                    const int32_t right = b[i] > a[i], lower_right = d[i] > c[i];
                    const float top = right ? b[i] : a[i], bottom = lower_right ? d[i] : c[i];
                    const int32_t lower = bottom > top;
                    to[i] = lower ? bottom : top;
                    index[i] = (uint8_t)(right + lower * (2 + lower_right - right));)
            }
}

/* Hands the gradients of n maxima to that one of four inputs each which it is. */
static inline void hand_back(int32_t n, const float *restrict gradient, const uint8_t *restrict which,
                             float *restrict a, float *restrict b, float *restrict c, float *restrict d) {
    EACH(const float value = gradient[i];
         const int32_t index = which[i];
         a[i] = index == 0 ? value : 0.0f;
         b[i] = index == 1 ? value : 0.0f;
         c[i] = index == 2 ? value : 0.0f;
         d[i] = index == 3 ? value : 0.0f;)
}

/* Gradient of pool_forward's input, [num_planes][height][width][channels]; outside of whole windows 0. */
void pool_backward(int64_t num_planes, int32_t height, int32_t width, int32_t channels, const float *gradient,
                   const uint8_t *which, float *out) {
    const int64_t row = (int64_t)width * channels;
    if (height % 2 || width % 2) memset(out, 0, sizeof(float) * (size_t)(num_planes * height * row));
    for (int64_t k = 0; k < num_planes; k++, out += height * row)
        for (int32_t y = 0; y < height / 2; y++)
            for (int32_t x = 0; x < width / 2; x++, gradient += channels, which += channels) {
                float *at = out + 2 * y * row + 2 * (int64_t)x * channels;
                hand_back(channels, gradient, which, at, at + channels, at + row, at + row + channels);
            }
}
