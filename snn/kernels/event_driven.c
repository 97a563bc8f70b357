/* Event-driven layers of a spiking network: work is done for spikes, not for silence.
 *
 * Spikes are lists. An entry packs one spike as  y << 22 | x << 12 | channel.  The lists of a chunk of
 * samples lie one after the other in one array, sample by sample and in each sample time step by time
 * step; offsets[sample * time_steps + t] is where a list begins, and the last offset where all end.
 *
 * Every output of a layer adds its inputs in the order of the list. Samples never meet, so that the result
 * depends neither on the size of a chunk nor on threads; compile without contraction (-ffp-contract=off)
 * and it does not depend on the processor either.
 */
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#define LANES 8
typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));

/* One input of a layer. With weights: a convolution, weights [C_in][K_h][K_w from last to first][C_padded].
 * Without: each spike adds `scale` to its own channel at (y / size, x / size), which is an identity
 * (size 1) or an average pool. */
typedef struct {
    const uint32_t *entries;
    const int32_t *offsets;
    const float *weights;
    int32_t kernel_h, kernel_w, stride, padding, size;
    int32_t fan_out; /* output channels that one tap of the kernel really feeds */
    float scale;
} input_t;

typedef struct {
    int32_t height, width, channels, padded; /* padded: channels rounded up to LANES */
    int32_t time_steps;
    float leak, threshold;
    const float *bias; /* [padded] */
} layer_t;

static inline int32_t min32(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t max32(int32_t a, int32_t b) { return a > b ? a : b; }

/* Input elements at one place: spikes of up to GROUP channels, or an analog value of one. */
#define GROUP 4
typedef struct {
    const float *weights[GROUP];
    int32_t count;
    float value;
    int analog;
} group_t;

#define EACH_LANES(expression)                              \
    for (int32_t i = 0; i < n; i += LANES) {                \
        *(lanes *)(to + i) += (expression);                 \
    }
#define FROM(k) (*(const lanes *)(g->weights[k] + at + i))

/* Adds the group's weights from `at` on to `n` floats. Spikes of one place are added to each other first:
 * that saves loads and stores of the output. */
static inline __attribute__((always_inline)) void add_run(float *to, const group_t *g, int64_t at, int32_t n) {
    if (g->analog) EACH_LANES(FROM(0) * g->value)
    else if (g->count == 1) EACH_LANES(FROM(0))
    else if (g->count == 2) EACH_LANES(FROM(0) + FROM(1))
    else if (g->count == 3) EACH_LANES(FROM(0) + FROM(1) + FROM(2))
    else EACH_LANES((FROM(0) + FROM(1)) + (FROM(2) + FROM(3)))
}

/* Adds the weights of a group at (y, x) to every output it reaches; returns how many outputs each reached. */
static inline int64_t reach(float *current, const layer_t *layer, const input_t *in, int32_t y, int32_t x,
                            const group_t *g) {
    const int32_t stride = in->stride, padded = layer->padded, kernel_w = in->kernel_w;
    const int32_t top = y + in->padding, left = x + in->padding;
    int64_t reached = 0;
    if (stride == 1) {
        const int32_t first_h = max32(0, top - layer->height + 1), last_h = min32(in->kernel_h - 1, top);
        const int32_t first_w = max32(0, left - layer->width + 1), last_w = min32(kernel_w - 1, left);
        const int32_t run = last_w - first_w + 1;
        if (run <= 0 || last_h < first_h) return 0;
        for (int32_t h = first_h; h <= last_h; h++)
            add_run(current + ((int64_t)(top - h) * layer->width + left - last_w) * padded, g,
                    ((int64_t)h * kernel_w + kernel_w - 1 - last_w) * padded, run * padded);
        return (int64_t)run * (last_h - first_h + 1) * in->fan_out;
    }
    for (int32_t h = 0; h < in->kernel_h; h++) {
        const int32_t out_y = top - h;
        if (out_y < 0 || out_y % stride || out_y / stride >= layer->height) continue;
        for (int32_t w = 0; w < kernel_w; w++) {
            const int32_t out_x = left - w;
            if (out_x < 0 || out_x % stride || out_x / stride >= layer->width) continue;
            add_run(current + ((int64_t)(out_y / stride) * layer->width + out_x / stride) * padded, g,
                    ((int64_t)h * kernel_w + kernel_w - 1 - w) * padded, padded);
            reached += in->fan_out;
        }
    }
    return reached;
}

static inline const float *weights_of(const input_t *in, const layer_t *layer, uint32_t channel) {
    return in->weights + (int64_t)channel * in->kernel_h * in->kernel_w * layer->padded;
}

static int64_t add_spikes(float *current, const layer_t *layer, const input_t *in, int64_t list) {
    const int32_t end = in->offsets[list + 1];
    int64_t operations = 0;
    for (int32_t i = in->offsets[list]; i < end;) {
        const uint32_t entry = in->entries[i];
        const int32_t y = entry >> 22, x = (entry >> 12) & 1023;
        if (!in->weights) {
            if (y / in->size < layer->height && x / in->size < layer->width)
                current[((int64_t)(y / in->size) * layer->width + x / in->size) * layer->padded +
                        (entry & 4095)] += in->scale;
            i++;
            continue;
        }
        group_t g = {.count = 0, .analog = 0};
        while (i < end && g.count < GROUP && in->entries[i] >> 12 == entry >> 12)
            g.weights[g.count++] = weights_of(in, layer, in->entries[i++] & 4095);
        operations += g.count * reach(current, layer, in, y, x, &g);
    }
    return operations;
}

#ifdef __AVX2__
/* Of each byte the places of its set bits, in order, four bits each. */
static uint32_t places_of[256];

__attribute__((constructor)) static void fill_places(void) {
    for (uint32_t byte = 0; byte < 256; byte++)
        for (uint32_t bit = 0, found = 0; bit < 8; bit++)
            if (byte >> bit & 1) places_of[byte] |= bit << (4 * found++);
}

static inline int32_t write_entries(uint32_t *out, uint32_t base, uint32_t fired) {
    const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    __m256i places = _mm256_srlv_epi32(_mm256_set1_epi32((int32_t)places_of[fired]), shifts);
    places = _mm256_and_si256(places, _mm256_set1_epi32(15));
    _mm256_storeu_si256((__m256i *)out, _mm256_add_epi32(places, _mm256_set1_epi32((int32_t)base)));
    return __builtin_popcount(fired);
}
#endif

/* One time step of the neurons of a layer; appends its spikes to `out` and returns how many there were.
 *
 *   u = current + bias + leak * v,   spike if u >= threshold,   v = 0 if spike else u
 *
 * The input gain d of a leaky neuron is part of weights and bias; leak = 1 - d. Channels that only pad a
 * layer never fire, whatever the threshold: theirs is NaN. `out` needs room for LANES entries more than there
 * are neurons. Clears `current` unless `keep_current`. */
static int32_t step(float *current, float *potential, const layer_t *layer, int first, int keep_current,
                    uint32_t *out) {
    int32_t count = 0;
    float *at = current, *v = potential;
    const lanes all = (lanes){0} + layer->threshold;
    lanes last = all; /* thresholds of a place's last channels */
    for (int32_t i = LANES - (layer->padded - layer->channels); i < LANES; i++) last[i] = __builtin_nanf("");
    for (int32_t y = 0; y < layer->height; y++) {
        for (int32_t x = 0; x < layer->width; x++) {
            const uint32_t place = (uint32_t)y << 22 | (uint32_t)x << 12;
            for (int32_t c = 0; c < layer->padded; c += LANES, at += LANES, v += LANES) {
                const lanes threshold = c + LANES < layer->padded ? all : last;
                lanes u = *(lanes *)at + *(const lanes *)(layer->bias + c);
                if (!first) u += *(lanes *)v * layer->leak;
#ifdef __AVX2__
                const __m256 fires = _mm256_cmp_ps((__m256)u, (__m256)threshold, _CMP_GE_OQ);
                _mm256_storeu_ps(v, _mm256_andnot_ps(fires, (__m256)u));
                count += write_entries(out + count, place | (uint32_t)c, (uint32_t)_mm256_movemask_ps(fires));
#else
                for (int32_t i = 0; i < LANES; i++) {
                    const int fires = u[i] >= threshold[i];
                    v[i] = fires ? 0.0f : u[i];
                    out[count] = place | (uint32_t)(c + i);
                    count += fires;
                }
#endif
                if (!keep_current) *(lanes *)at = (lanes){0};
            }
        }
    }
    return count;
}

/* Currents from the spikes of one or two inputs, then neurons. `operations` [num_inputs][samples] gets the
 * synaptic operations. `current` and `potential` are scratch of height * width * padded floats. */
void fire(int32_t num_samples, const layer_t *layer, int32_t num_inputs, const input_t *inputs, float *current,
          float *potential, uint32_t *entries, int32_t *offsets, int64_t *operations) {
    int32_t end = 0;
    memset(current, 0, sizeof(float) * (size_t)layer->height * layer->width * layer->padded);
    memset(operations, 0, sizeof(int64_t) * (size_t)num_inputs * num_samples);
    offsets[0] = 0;
    for (int64_t n = 0, list = 0; n < num_samples; n++) {
        for (int32_t t = 0; t < layer->time_steps; t++, list++) {
            for (int32_t i = 0; i < num_inputs; i++)
                operations[(int64_t)i * num_samples + n] += add_spikes(current, layer, inputs + i, list);
            end += step(current, potential, layer, t == 0, 0, entries + end);
            offsets[list + 1] = end;
        }
    }
}

/* The first layer: a convolution of analog frames [samples][time_steps or 1][H][W][C_in], then neurons.
 * Zeros cost nothing. Of static samples (num_frames 1) the same current is fed at every time step. */
void encode(int32_t num_samples, const layer_t *layer, const input_t *conv, const float *frames,
            int32_t num_frames, int32_t height, int32_t width, int32_t channels, float *current,
            float *potential, uint32_t *entries, int32_t *offsets) {
    int32_t end = 0;
    const size_t size = sizeof(float) * (size_t)layer->height * layer->width * layer->padded;
    offsets[0] = 0;
    for (int64_t n = 0, list = 0; n < num_samples; n++) {
        for (int32_t t = 0; t < layer->time_steps; t++, list++) {
            if (t < num_frames) {
                memset(current, 0, size);
                for (int32_t y = 0; y < height; y++)
                    for (int32_t x = 0; x < width; x++)
                        for (int32_t c = 0; c < channels; c++, frames++)
                            if (*frames != 0.0f) {
                                const group_t g = {{weights_of(conv, layer, c)}, 1, *frames, 1};
                                reach(current, layer, conv, y, x, &g);
                            }
            }
            end += step(current, potential, layer, t == 0, 1, entries + end);
            offsets[list + 1] = end;
        }
    }
}

/* 2x2 max-pool of lists of spikes. `seen` is scratch of height * width * channels zeros (of the output,
 * rounded up to 8) and is left so. */
void max_pool(int64_t num_lists, const uint32_t *in, const int32_t *in_offsets, int32_t height, int32_t width,
              int32_t channels, uint8_t *seen, uint32_t *entries, int32_t *offsets) {
    const int64_t size = (int64_t)height * width * channels;
    int32_t end = 0;
    offsets[0] = 0;
    for (int64_t list = 0; list < num_lists; list++) {
        for (int32_t i = in_offsets[list]; i < in_offsets[list + 1]; i++) {
            const int32_t y = in[i] >> 23, x = (in[i] >> 13) & 511;
            if (y < height && x < width) seen[((int64_t)y * width + x) * channels + (in[i] & 4095)] = 1;
        }
        for (int64_t i = 0; i < size; i += 8) {
            uint64_t eight;
            memcpy(&eight, seen + i, 8);
            if (!eight) continue;
            memset(seen + i, 0, 8);
            for (; eight; eight &= eight - 1) {
                const uint32_t at = (uint32_t)(i + __builtin_ctzll(eight) / 8), place = at / channels;
                entries[end++] = place / width << 22 | place % width << 12 | at % channels;
            }
        }
        offsets[list + 1] = end;
    }
}

/* Spikes of each group of `voters` channels, summed over time: votes [num_samples][num_classes]. There are
 * exactly voters * num_classes channels. */
void count_votes(int32_t num_samples, int32_t time_steps, const uint32_t *entries, const int32_t *offsets,
                 int32_t voters, int32_t num_classes, int32_t *votes) {
    memset(votes, 0, sizeof(int32_t) * (size_t)num_samples * num_classes);
    for (int64_t n = 0; n < num_samples; n++)
        for (int32_t i = offsets[n * time_steps]; i < offsets[(n + 1) * time_steps]; i++)
            votes[n * num_classes + (entries[i] & 4095) / voters]++;
}

/* Sum and sum of squares of what one input brings to each output channel, over samples, time and space:
 * sums [2][padded]. Batch norm takes its statistics from these. */
void moments(int64_t num_lists, const layer_t *layer, const input_t *in, float *current, double *sums) {
    const int64_t size = (int64_t)layer->height * layer->width * layer->padded;
    memset(sums, 0, sizeof(double) * 2 * (size_t)layer->padded);
    for (int64_t list = 0; list < num_lists; list++) {
        memset(current, 0, sizeof(float) * (size_t)size);
        add_spikes(current, layer, in, list);
        for (int64_t i = 0; i < size; i += layer->padded)
            for (int32_t c = 0; c < layer->padded; c++) {
                const double value = current[i + c];
                sums[c] += value;
                sums[layer->padded + c] += value * value;
            }
    }
}

/* Lists of the non-zero elements of planes [num_lists][height][width][channels]; returns how many in all, or
 * -1 as soon as there may be more than `room`. */
int64_t list_spikes(int64_t num_lists, const float *planes, int32_t height, int32_t width, int32_t channels,
                    int64_t room, uint32_t *entries, int32_t *offsets) {
    int64_t end = 0;
    offsets[0] = 0;
    for (int64_t list = 0; list < num_lists; list++) {
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = 0; x < width; x++, planes += channels) {
                if (end + channels > room) return -1;
                for (int32_t c = 0; c < channels; c++) {
                    entries[end] = (uint32_t)y << 22 | (uint32_t)x << 12 | (uint32_t)c;
                    end += planes[c] != 0.0f;
                }
            }
        offsets[list + 1] = (int32_t)end;
    }
    return end;
}

/* A convolution without neurons: out [num_lists][height][width][padded]. */
void convolve(int64_t num_lists, const layer_t *layer, const input_t *in, float *out) {
    const int64_t size = (int64_t)layer->height * layer->width * layer->padded;
    memset(out, 0, sizeof(float) * (size_t)(num_lists * size));
    for (int64_t list = 0; list < num_lists; list++, out += size) add_spikes(out, layer, in, list);
}

/* Gradient of a stride-1 convolution's weights, in their layout, added to `gradient`: each spike collects the
 * output gradients [num_lists][height][width][padded] where it would have added weights. */
void collect(int64_t num_lists, const layer_t *layer, const input_t *in, const float *out_gradient,
             float *gradient) {
    const int64_t size = (int64_t)layer->height * layer->width * layer->padded;
    const int32_t padded = layer->padded, kernel_w = in->kernel_w;
    for (int64_t list = 0; list < num_lists; list++, out_gradient += size) {
        for (int32_t i = in->offsets[list]; i < in->offsets[list + 1]; i++) {
            const uint32_t entry = in->entries[i];
            const int32_t top = (int32_t)(entry >> 22) + in->padding;
            const int32_t left = (int32_t)((entry >> 12) & 1023) + in->padding;
            const int32_t first_h = max32(0, top - layer->height + 1), last_h = min32(in->kernel_h - 1, top);
            const int32_t first_w = max32(0, left - layer->width + 1), last_w = min32(kernel_w - 1, left);
            float *own = gradient + (int64_t)(entry & 4095) * in->kernel_h * kernel_w * padded;
            for (int32_t h = first_h; h <= last_h; h++) {
                const float *from = out_gradient + ((int64_t)(top - h) * layer->width + left - last_w) * padded;
                float *to = own + ((int64_t)h * kernel_w + kernel_w - 1 - last_w) * padded;
                for (int32_t k = 0; k < (last_w - first_w + 1) * padded; k += LANES)
                    *(lanes *)(to + k) += *(const lanes *)(from + k);
            }
        }
    }
}
