// A window of samples -> a vector of integers: the C twin of contract/features.py, the same bits.
// (Not named features.h: the C library has a header of that name.)
//
// contract/features.py says what each feature is and why no value leaves 31 bits; the names here are its names. It reads
// the schema, this file only computes: what a schema declares arrives as codes and bands.
//
// C rounds a division towards zero and features.py towards minus infinity: ew_floor is that one difference, the others
// divide what is never negative. ">>" of a negative number shifts the sign in with every compiler named in
// model_export/compile.py (C99 leaves it to the implementation, 6.5.7).

#ifndef EW_WINDOW_FEATURES_H
#define EW_WINDOW_FEATURES_H

#include <stdint.h>

#define EW_COUNT_LIMIT 32767
#define EW_FEATURE_LIMIT ((1 << 30) - 1)
#define EW_MAX_WINDOW 256

// The codes of features.TOKENS; from EW_BAND on a code names a band of bins.
enum {
    EW_MEAN, EW_VAR, EW_SD, EW_MIN, EW_MAX, EW_LAST, EW_PP, EW_LD, EW_LD2, EW_MD, EW_MD2, EW_ZC, EW_CREST, EW_KURT,
    EW_BAND
};

// What one schema declares. codes: uint8 (n_codes,), features of every channel; bands: uint8 (n_bands, 2), first and last
// bin, 1 to samples / 2; cosines: int16 (4 * samples,) as ew_cosines fills it, not read without bands.
typedef struct {
    int samples;
    int channels;
    int n_codes;
    const uint8_t *codes;
    const uint8_t *bands;
    const int16_t *cosines;
} ew_schema;

static inline int32_t ew_clamped(int32_t x) {
    return x > EW_COUNT_LIMIT ? EW_COUNT_LIMIT : x < -EW_COUNT_LIMIT ? -EW_COUNT_LIMIT : x;
}

// floor(value / by) for by > 0.
static inline int32_t ew_floor(int32_t value, int32_t by) {
    int32_t quotient = value / by;
    return quotient * by > value ? quotient - 1 : quotient;
}

// (high * 2**15 + low) / count for a sum that was kept in two parts.
static inline int32_t ew_mean_of(int32_t high, int32_t low, int32_t count) {
    int32_t whole = high / count;
    return (whole << 15) + (((high - whole * count) << 15) + low) / count;
}

// floor(sqrt(value)) for 0 <= value < 2**30, bit by bit.
static inline int32_t ew_square_root(int32_t value) {
    int32_t root = 0;
    for (int32_t bit = 1 << 28; bit; bit >>= 2) {
        int32_t trial = root + bit;
        root >>= 1;
        if (value >= trial) {
            value -= trial;
            root += bit;
        }
    }
    return root;
}

// Features._levels: one channel into the column, clamped, and what one look at each sample gives.
static void ew_levels(const int32_t *window, int count, int step, int16_t *column, int32_t *stats) {
    int32_t total = 0;
    int32_t low = EW_COUNT_LIMIT;
    int32_t high = -EW_COUNT_LIMIT;
    for (int i = 0; i < count; i++) {
        int32_t x = ew_clamped(window[i * step]);
        column[i] = (int16_t)x;
        total += x;
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    int32_t last = column[count - 1];
    stats[EW_MEAN] = ew_floor(total + count / 2, count);
    stats[EW_MIN] = low;
    stats[EW_MAX] = high;
    stats[EW_LAST] = last;
    stats[EW_PP] = high - low;
    stats[EW_LD] = count > 1 ? last - column[count - 2] : 0;
    stats[EW_LD2] = count > 2 ? last - 2 * column[count - 2] + column[count - 3] : 0;
}

// Features._spread: variance and zero crossings; leaves the clamped deviations in the column.
static void ew_spread(int16_t *column, int count, int32_t *stats) {
    int32_t mean = stats[EW_MEAN];
    int32_t high = 0;
    int32_t low = 0;
    int32_t crossings = 0;
    int below = column[0] < mean;
    for (int i = 0; i < count; i++) {
        int32_t d = column[i] - mean;
        crossings += (d < 0) != below;
        below = d < 0;
        d = ew_clamped(d);
        column[i] = (int16_t)d;
        d *= d;
        high += d >> 15;
        low += d & 0x7FFF;
    }
    stats[EW_VAR] = ew_mean_of(high, low, count);
    stats[EW_ZC] = crossings;
}

// Features._differences: mean absolute first and second differences.
static void ew_differences(const int16_t *column, int count, int32_t *stats) {
    int32_t first = 0;
    int32_t second = 0;
    int32_t before = 0;
    for (int i = 1; i < count; i++) {
        int32_t step = column[i] - column[i - 1];
        int32_t turn = step - before;
        first += step >= 0 ? step : -step;
        if (i > 1) {
            second += turn >= 0 ? turn : -turn;
        }
        before = step;
    }
    stats[EW_MD] = count > 1 ? first / (count - 1) : 0;
    stats[EW_MD2] = count > 2 ? second / (count - 2) : 0;
}

// Features._shape: standard deviation, crest factor and kurtosis.
static void ew_shape(const int16_t *column, int count, int32_t *stats) {
    int32_t variance = stats[EW_VAR];
    stats[EW_SD] = ew_square_root(variance);
    stats[EW_CREST] = stats[EW_KURT] = 0;
    if (!variance) {
        return;
    }
    int shift = 0;
    for (; variance < 1 << 28; variance <<= 2) {
        shift++;
    }
    int32_t root = ew_square_root(variance);
    int32_t peak = 0;
    int32_t high = 0;
    int32_t low = 0;
    for (int i = 0; i < count; i++) {
        int32_t d = column[i] < 0 ? -column[i] : column[i];
        peak = d > peak ? d : peak;
        int32_t t = (d << (shift + 6)) / root;
        t = t * t >> 8;
        t *= t;
        high += t >> 15;
        low += t & 0x7FFF;
    }
    stats[EW_CREST] = (peak << (shift + 8)) / root;
    stats[EW_KURT] = ew_mean_of(high, low, count);
}

// Features._band: energy of the bins first to last.
static int32_t ew_band(const int16_t *column, int count, const int16_t *cosines, int first, int last) {
    int turn = 4 * count;
    int32_t energy = 0;
    for (int line = first; line <= last; line++) {
        int32_t real = 0;
        int32_t imaginary = 0;
        int angle = 0;
        for (int i = 0; i < count; i++) {
            int32_t d = column[i];
            int turned = angle + 3 * count;
            turned -= turned >= turn ? turn : 0;
            real += d * cosines[angle] >> 7;
            imaginary += d * cosines[turned] >> 7;
            angle += 4 * line;
            angle -= angle >= turn ? turn : 0;
        }
        real = ew_floor(real, count) >> 7;
        imaginary = ew_floor(imaginary, count) >> 7;
        energy += real * real + imaginary * imaginary;
        if (energy > EW_FEATURE_LIMIT) {
            return EW_FEATURE_LIMIT;
        }
    }
    return energy;
}

// Features.compute_into. window: int32 (samples, channels) row-major, counts; out: int32 (channels * n_codes,).
static void ew_features(const ew_schema *schema, const int32_t *window, int32_t *out) {
    int16_t column[EW_MAX_WINDOW];
    int32_t stats[EW_BAND];
    uint32_t wanted = 0;
    for (int i = 0; i < schema->n_codes; i++) {
        wanted |= schema->codes[i] < EW_BAND ? 1u << schema->codes[i] : 0;
    }
    for (int channel = 0; channel < schema->channels; channel++) {
        ew_levels(window + channel, schema->samples, schema->channels, column, stats);
        ew_spread(column, schema->samples, stats);
        if (wanted & (1u << EW_MD | 1u << EW_MD2)) {
            ew_differences(column, schema->samples, stats);
        }
        if (wanted & (1u << EW_SD | 1u << EW_CREST | 1u << EW_KURT)) {
            ew_shape(column, schema->samples, stats);
        }
        for (int i = 0; i < schema->n_codes; i++) {
            int code = schema->codes[i];
            const uint8_t *band = schema->bands + 2 * (code - EW_BAND);
            int32_t value = code < EW_BAND
                ? stats[code]
                : ew_band(column, schema->samples, schema->cosines, band[0], band[1]);
            *out++ = value < EW_FEATURE_LIMIT ? value : EW_FEATURE_LIMIT;
        }
    }
}

// features.cosine_table: int16 (4 * samples,), cos(2 * pi * i / (4 * samples)) in 1/2**14.
static void ew_cosines(int samples, int16_t *table) {
    for (int i = 0; i <= samples; i++) {
        // floor(2 * pi * 2**30 * i / (4 * samples)) in two steps: a chip divides 32 bits by 32.
        uint64_t turned = 3373259426u * (uint64_t)i;
        uint32_t by = 2 * (uint32_t)samples;
        uint32_t high = (uint32_t)(turned >> 16) / by;
        uint32_t rest = (uint32_t)(turned >> 16) - high * by;
        uint32_t angle = (high << 16) + ((rest << 16) | (uint32_t)(turned & 0xFFFF)) / by;
        uint32_t square = (uint32_t)((uint64_t)angle * angle >> 30);
        int64_t term = 1 << 30;
        int64_t total = 1 << 30;
        for (uint32_t k = 1; k < 10; k++) {
            // features.py divides -(term * square >> 30) and rounds down; the magnitude is below 2**32.
            int64_t product = -(term * square >> 30);
            uint32_t divisor = (2 * k - 1) * 2 * k;
            if (product >= 0) {
                term = (uint32_t)product / divisor;
            } else {
                term = -(int64_t)(((uint32_t)-product - 1) / divisor) - 1;
            }
            total += term;
        }
        int16_t value = (int16_t)((total + (1 << 15)) >> 16);
        table[i] = value;
        table[2 * samples - i] = -value;
        if (i) {
            table[4 * samples - i] = value;
        }
        table[(2 * samples + i) % (4 * samples)] = -value;
    }
}

#endif // EW_WINDOW_FEATURES_H
