/* Convolutions with kernels of 3x3 or 5x5 by Winograd's minimal filtering, which multiplies less.
 *
 * A tile of 4x4 outputs depends on N x N inputs, N = 6 or 8 for a kernel with 3 or 5 rows:
 *
 *   out = A [(G weights G^T) * (B in B^T)] A^T
 *
 * with * for each of the N x N places alone. A, B and G evaluate and interpolate polynomials at the points
 * 0, 1, -1, 2, -2 and infinity, for N = 8 also at 1/2 and -1/2. Summed over input channels, * is a product of
 * matrices at each place: 36 multiplications instead of 144 for each tile and pair of channels, or 64 instead
 * of 400. The price is rounding: errors are some ten times those of a direct convolution.
 *
 * Planes are float arrays [plane][y][x][channel]. Vectors lie along channels, so that nothing is shuffled.
 * TILES tiles are done at once, so few that what is between the transforms stays in the second cache. No
 * output depends on which tiles are done together.
 */
#include <stdint.h>

/* Products are added without rounding them first, where the processor can do that: it is twice as fast. */
#ifdef __clang__
#pragma STDC FP_CONTRACT ON
#else
#pragma GCC optimize("fp-contract=fast")
#endif

#define BLOCK 16  /* channels that lie together between the transforms */
#define TILE 4    /* rows and columns of a tile's outputs */
#define MOST 8    /* the largest N */
#define TILES 16
#define STRIP 8   /* tiles beside each other whose inputs are transformed together, as they overlap */
/* Lanes of a vector, and tiles that are multiplied at once: their sums fit into registers. */
#ifdef __AVX512F__
#define LANES 16
#define GROUP 8
#elif defined(__AVX__)
#define LANES 8
#define GROUP 4
#else
#define LANES 4
#define GROUP 4
#endif

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define AT(pointer) (*(lanes *)(pointer))
#define READ(pointer) (*(const lanes *)(pointer))
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define KEEP_ROLLED _Pragma("GCC unroll 1") /* else addresses fill the registers */

/* A convolution of planes [height][width][in_channels] to [height][width][out_channels], with a centred kernel
 * of `side` (3 or 5) rows and zeros around the planes. Channels are multiples of BLOCK. */
typedef struct {
    int32_t height, width, in_channels, out_channels, side;
} winograd_t;

typedef struct {
    int64_t plane;
    int32_t y, x; /* of its first output */
} tile_t;

static inline int32_t min32(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t max32(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t num_tiles(int32_t outputs) { return (outputs + TILE - 1) / TILE; }

static int64_t tiles_per_plane(const winograd_t *it) {
    return (int64_t)num_tiles(it->height) * num_tiles(it->width);
}

static tile_t tile_at(const winograd_t *it, int64_t index) {
    const int32_t within = (int32_t)(index % tiles_per_plane(it)), across = num_tiles(it->width);
    return (tile_t){index / tiles_per_plane(it), within / across * TILE, within % across * TILE};
}

/* Floats from one place to the next, [place][channel / BLOCK][TILES][BLOCK]; no power of 2, as what is read
 * together must not compete for the same part of the cache. */
INLINE int64_t place_step(int32_t channels) { return (int64_t)TILES * channels + BLOCK; }

/* B d */
INLINE void to_points_6(const lanes *d, lanes *v) {
    const lanes even_1 = d[4] - d[2] * 4.0f, odd_1 = d[3] - d[1] * 4.0f;
    const lanes even_2 = d[4] - d[2], odd_2 = d[3] - d[1];
    v[0] = d[0] * 4.0f + (d[4] - d[2] * 5.0f);
    v[1] = even_1 + odd_1;
    v[2] = even_1 - odd_1;
    v[3] = even_2 + odd_2 * 2.0f;
    v[4] = even_2 - odd_2 * 2.0f;
    v[5] = d[1] * 4.0f + (d[5] - d[3] * 5.0f);
}

INLINE void to_points_8(const lanes *d, lanes *v) {
    const lanes even_1 = (d[2] + d[6]) - d[4] * 4.25f, odd_1 = (d[1] + d[5]) - d[3] * 4.25f;
    const lanes even_2 = (d[6] + d[2] * 0.25f) - d[4] * 1.25f, odd_2 = (d[5] + d[1] * 0.25f) - d[3] * 1.25f;
    const lanes even_half = (d[6] + d[2] * 4.0f) - d[4] * 5.0f, odd_half = (d[5] + d[1] * 4.0f) - d[3] * 5.0f;
    v[0] = (d[0] - d[6]) + (d[4] - d[2]) * 5.25f;
    v[1] = even_1 + odd_1;
    v[2] = even_1 - odd_1;
    v[3] = even_2 + odd_2 * 2.0f;
    v[4] = even_2 - odd_2 * 2.0f;
    v[5] = even_half + odd_half * 0.5f;
    v[6] = even_half - odd_half * 0.5f;
    v[7] = (d[7] - d[1]) + (d[3] - d[5]) * 5.25f;
}

INLINE void to_points(const lanes *d, lanes *v, const int32_t n) {
    if (n == 6) to_points_6(d, v);
    else to_points_8(d, v);
}

/* A m */
INLINE void from_points(const lanes *m, lanes *y, const int32_t n) {
    const lanes even_1 = m[1] + m[2], odd_1 = m[1] - m[2], even_2 = m[3] + m[4], odd_2 = m[3] - m[4];
    y[0] = (m[0] + even_1) + even_2;
    y[1] = odd_1 + odd_2 * 2.0f;
    y[2] = even_1 + even_2 * 4.0f;
    y[3] = (m[n - 1] + odd_1) + odd_2 * 8.0f;
    if (n == 6) return;
    const lanes even_half = m[5] + m[6], odd_half = m[5] - m[6];
    y[0] += even_half;
    y[1] += odd_half * 0.5f;
    y[2] += even_half * 0.25f;
    y[3] += odd_half * 0.125f;
}

/* B in, of one column of inputs from `at` on. Rows outside of [top, bottom) are zeros. */
INLINE void transform_column(const float *in, int64_t at, int64_t row, int32_t top, int32_t bottom, float *out,
                             const int32_t n) {
    lanes d[MOST], v[MOST];
    UNROLL for (int32_t y = 0; y < n; y++)
        d[y] = y >= top && y < bottom ? READ(in + at + y * row) : (lanes){0};
    to_points(d, v, n);
    UNROLL for (int32_t y = 0; y < n; y++) AT(out + y * BLOCK) = v[y];
}

/* B in B^T of one tile, from the columns of B in. */
INLINE void transform_rows(const float *in, float *out, int64_t step, const int32_t n) {
    KEEP_ROLLED for (int32_t y = 0; y < n; y++, in += BLOCK, out += n * step) {
        lanes d[MOST], v[MOST];
        UNROLL for (int32_t x = 0; x < n; x++) d[x] = READ(in + x * n * BLOCK);
        to_points(d, v, n);
        UNROLL for (int32_t x = 0; x < n; x++) AT(out + x * step) = v[x];
    }
}

/* Transforms the inputs of `count` tiles beside each other. */
INLINE void transform_inputs(const winograd_t *it, const float *planes, tile_t first, int32_t count, float *out,
                             const int32_t n) {
    const int64_t column = it->in_channels, row = column * it->width, step = place_step(it->in_channels);
    const int32_t y = first.y - it->side / 2, x = first.x - it->side / 2;
    const int32_t top = max32(0, -y), bottom = min32(n, it->height - y);
    float columns[(TILE * (STRIP - 1) + MOST) * MOST * BLOCK] __attribute__((aligned(64)));
    for (int32_t c = 0; c < it->in_channels; c += LANES) {
        for (int32_t j = 0; j < TILE * (count - 1) + n; j++) {
            const int64_t at = (first.plane * it->height + y) * row + (x + j) * column + c;
            float *to = columns + j * n * BLOCK;
            const int known = x + j >= 0 && x + j < it->width;
            if (known && bottom - top == n) transform_column(planes, at, row, 0, n, to, n);
            else transform_column(planes, at, row, top, known ? bottom : 0, to, n);
        }
        float *to = out + c / BLOCK * TILES * BLOCK + c % BLOCK;
        for (int32_t t = 0; t < count; t++)
            transform_rows(columns + t * TILE * n * BLOCK, to + t * BLOCK, step, n);
    }
}

/* A products A^T of one tile. */
INLINE void from_products(const float *in, int64_t step, float *out, int64_t row, int64_t column,
                          const int32_t n) {
    lanes rows[MOST][TILE];
    KEEP_ROLLED for (int32_t y = 0; y < n; y++, in += n * step) {
        lanes m[MOST];
        UNROLL for (int32_t x = 0; x < n; x++) m[x] = READ(in + x * step);
        from_points(m, rows[y], n);
    }
    KEEP_ROLLED for (int32_t x = 0; x < TILE; x++, out += column) {
        lanes m[MOST], y[TILE];
        UNROLL for (int32_t i = 0; i < n; i++) m[i] = rows[i][x];
        from_points(m, y, n);
        UNROLL for (int32_t i = 0; i < TILE; i++) AT(out + i * row) = y[i];
    }
}

/* Writes the outputs of one tile, those that lie inside of the plane. */
INLINE void transform_products(const winograd_t *it, const float *in, tile_t tile, float *planes,
                               const int32_t n) {
    const int64_t column = it->out_channels, row = column * it->width, step = place_step(it->out_channels);
    const int32_t height = min32(TILE, it->height - tile.y), width = min32(TILE, it->width - tile.x);
    float *out = planes + (tile.plane * it->height + tile.y) * row + tile.x * column;
    for (int32_t c = 0; c < it->out_channels; c += LANES, out += LANES) {
        const float *from = in + c / BLOCK * TILES * BLOCK + c % BLOCK;
        if (height == TILE && width == TILE) {
            from_products(from, step, out, row, column, n);
            continue;
        }
        float whole[TILE * TILE * LANES] __attribute__((aligned(64)));
        from_products(from, step, whole, TILE * LANES, LANES, n);
        for (int32_t i = 0; i < height; i++)
            for (int32_t j = 0; j < width; j++)
                AT(out + i * row + j * column) = READ(whole + (i * TILE + j) * LANES);
    }
}

/* Products of GROUP tiles at one place, for one or two vectors of output channels. */
INLINE void multiply_group(const float *in, const float *weights, int32_t in_channels, float *out,
                           const int32_t vectors) {
    lanes sum[GROUP][2];
    UNROLL for (int32_t t = 0; t < GROUP; t++)
        UNROLL for (int32_t k = 0; k < vectors; k++) sum[t][k] = (lanes){0};
    for (int32_t b = 0; b < in_channels; b += BLOCK, in += TILES * BLOCK)
        for (int32_t c = 0; c < BLOCK; c++, weights += BLOCK) {
            lanes w[2];
            UNROLL for (int32_t k = 0; k < vectors; k++)
                w[k] = READ(weights + k * LANES / BLOCK * (int64_t)in_channels * BLOCK + k * LANES % BLOCK);
            UNROLL for (int32_t t = 0; t < GROUP; t++)
                UNROLL for (int32_t k = 0; k < vectors; k++) sum[t][k] += w[k] * in[t * BLOCK + c];
        }
    UNROLL for (int32_t t = 0; t < GROUP; t++)
        UNROLL for (int32_t k = 0; k < vectors; k++)
            AT(out + k * LANES / BLOCK * TILES * BLOCK + k * LANES % BLOCK + t * BLOCK) = sum[t][k];
}

static void multiply_place(const winograd_t *it, const float *in, const float *weights, float *out) {
    const int32_t channels = it->in_channels;
    for (int32_t c = 0; c < it->out_channels; c += 2 * LANES) {
        const float *panel = weights + (int64_t)(c - c % BLOCK) * channels + c % BLOCK;
        float *to = out + (c - c % BLOCK) * TILES + c % BLOCK;
        for (int32_t t = 0; t < TILES * BLOCK; t += GROUP * BLOCK)
            if (c + LANES < it->out_channels) multiply_group(in + t, panel, channels, to + t, 2);
            else multiply_group(in + t, panel, channels, to + t, 1);
    }
}

/* Memory that is needed soon. */
typedef struct {
    const float *start;
    int64_t size; /* floats */
} soon_t;

/* Where tiles [first, last) have their inputs or outputs, roughly: rows that tiles share are left out. */
static soon_t memory_of(const winograd_t *it, const float *planes, int64_t first, int64_t last,
                        int32_t channels) {
    const int64_t per_tile = (int64_t)it->height * it->width * channels / tiles_per_plane(it);
    return (soon_t){planes + first * per_tile, (last - first) * per_tile};
}

#define FETCH_PART(soon, for_writing)                                                                    \
    for (int64_t i = soon.size * place / places; i < soon.size * (place + 1) / places; i += BLOCK)       \
        __builtin_prefetch(soon.start + i, for_writing, 2);

/* Multiplies at all places. Meanwhile the memory is idle: it brings what is needed next. */
static void multiply(const winograd_t *it, const float *in, const float *weights, float *out, int32_t places,
                     soon_t inputs, soon_t outputs) {
    for (int32_t place = 0; place < places; place++) {
        FETCH_PART(inputs, 0)
        FETCH_PART(outputs, 1)
        multiply_place(it, in, weights, out);
        in += place_step(it->in_channels);
        out += place_step(it->out_channels);
        weights += (int64_t)it->in_channels * it->out_channels;
    }
}

INLINE void convolve_tiles(const winograd_t *it, int64_t num_planes, const float *planes, const float *weights,
                           float *out, float *scratch, const int32_t n) {
    float *products = scratch + n * n * place_step(it->in_channels);
    const int64_t all = num_planes * tiles_per_plane(it);
    for (int64_t start = 0, end; start < all; start = end) {
        end = all - start < TILES ? all : start + TILES;
        const int64_t next_end = all - end < TILES ? all : end + TILES;
        for (int64_t index = start, count; index < end; index += count) {
            const tile_t first = tile_at(it, index);
            count = min32(STRIP, num_tiles(it->width - first.x));
            count = end - index < count ? end - index : count;
            transform_inputs(it, planes, first, (int32_t)count, scratch + (index - start) * BLOCK, n);
        }
        multiply(it, scratch, weights, products, n * n, memory_of(it, planes, end, next_end, it->in_channels),
                 memory_of(it, out, start, end, it->out_channels));
        for (int64_t index = start; index < end; index++)
            transform_products(it, products + (index - start) * BLOCK, tile_at(it, index), out, n);
    }
}

/* Convolves planes with weights from winograd_weights. Scratch, in floats:
 * places * (TILES * (in_channels + out_channels) + 2 * BLOCK). */
void winograd(const winograd_t *it, int64_t num_planes, const float *planes, const float *weights, float *out,
              float *scratch) {
    if (it->side == 3) convolve_tiles(it, num_planes, planes, weights, out, scratch, 6);
    else convolve_tiles(it, num_planes, planes, weights, out, scratch, 8);
}

static const double G_3[6][5] = {
    {1 / 4., 0, 0},
    {-1 / 6., -1 / 6., -1 / 6.},
    {-1 / 6., 1 / 6., -1 / 6.},
    {1 / 24., 1 / 12., 1 / 6.},
    {1 / 24., -1 / 12., 1 / 6.},
    {0, 0, 1},
};
static const double G_5[8][5] = {
    {1, 0, 0, 0, 0},
    {-2 / 9., -2 / 9., -2 / 9., -2 / 9., -2 / 9.},
    {-2 / 9., 2 / 9., -2 / 9., 2 / 9., -2 / 9.},
    {1 / 90., 2 / 90., 4 / 90., 8 / 90., 16 / 90.},
    {1 / 90., -2 / 90., 4 / 90., -8 / 90., 16 / 90.},
    {32 / 45., 16 / 45., 8 / 45., 4 / 45., 2 / 45.},
    {32 / 45., -16 / 45., 8 / 45., -4 / 45., 2 / 45.},
    {0, 0, 0, 0, 1},
};

/* G weights G^T for BLOCK output channels; from one tap or place to the next there are `step` floats. */
static void transform_weights(const float *weights, float *out, int64_t step, int32_t side) {
    const int32_t n = side + TILE - 1;
    const double(*g)[5] = side == 3 ? G_3 : G_5;
    for (int32_t y = 0; y < n; y++) {
        double row[5][BLOCK] = {0};
        for (int32_t i = 0; i < side; i++)
            for (int32_t j = 0; j < side; j++)
                for (int32_t c = 0; c < BLOCK; c++) row[j][c] += g[y][i] * weights[(i * side + j) * step + c];
        for (int32_t x = 0; x < n; x++) {
            double sum[BLOCK] = {0};
            for (int32_t j = 0; j < side; j++)
                for (int32_t c = 0; c < BLOCK; c++) sum[c] += g[x][j] * row[j][c];
            for (int32_t c = 0; c < BLOCK; c++) out[(y * n + x) * step + c] = (float)sum[c];
        }
    }
}

/* Transforms weights [side][side][in_channels][out_channels] to
 * [place][out_channels / BLOCK][in_channels][BLOCK]. */
void winograd_weights(const winograd_t *it, const float *weights, float *out) {
    const int64_t step = (int64_t)it->in_channels * it->out_channels;
    for (int64_t at = 0; at < step; at += BLOCK) {
        const int64_t in = at / it->out_channels, block = at % it->out_channels;
        transform_weights(weights + at, out + block * it->in_channels + in * BLOCK, step, it->side);
    }
}
