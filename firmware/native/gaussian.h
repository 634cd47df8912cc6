// A squared Mahalanobis distance and its limit in integers, from steps to decision; contract/table_gaussian.py says what
// each number means and why no sum overflows.
//
// Nothing here is a float: a score's bits are made of the distance's, so a chip without a float unit calls nothing, and
// all chips give the same bits.

#ifndef EW_GAUSSIAN_H
#define EW_GAUSSIAN_H

#include <stdint.h>

#ifndef EW_FACTOR
#define EW_FACTOR int16_t
#endif

// number * 2**-exponent as a float's bits, rounded half to even; 0 or, the caller sees to it, in the normal range.
static inline uint32_t ew_float_bits(uint64_t number, int exponent) {
    if (!number) {
        return 0;
    }
    int power = 127 + 24 - exponent;
    uint32_t lost = 0; // not 0 where a bit of what was shifted out was set
    while (number >> 25) {
        lost |= (uint32_t)number & 1;
        number >>= 1;
        power++;
    }
    uint32_t bits = (uint32_t)number; // 24 of the mantissa and the next one, once the first is in its place
    while (!(bits >> 24)) {
        bits <<= 1;
        power--;
    }
    uint32_t mantissa = bits >> 1;
    mantissa += bits & 1 & (lost | mantissa);
    return ((uint32_t)power << 23) + (mantissa - 0x800000);
}

// The sum of one column of the factor, from its diagonal on, times the steps; within 2**53.
static inline uint64_t ew_gaussian_column(const EW_FACTOR *factor, const int32_t *steps, int count) {
    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        sum += (int64_t)factor[i] * steps[i];
    }
    return (uint64_t)(sum < 0 ? -sum : sum);
}

// The score of a distance that 64 bits do not hold: of columns without their lowest bits, each off by 2**-27 of the
// largest. Returns the bits of a float.
static uint32_t __attribute__((noinline)) ew_gaussian_far(const int32_t *steps, const EW_FACTOR *factor, int n,
    int exponent) {
    uint64_t largest = 0;
    const EW_FACTOR *column = factor;
    for (int j = 0; j < n; column += n - j, j++) {
        uint64_t y = ew_gaussian_column(column, steps + j, n - j);
        largest = y > largest ? y : largest;
    }
    int shift = 0;
    while (largest >> shift >> 28) {
        shift++;
    }
    uint64_t distance = 0;
    for (int j = 0; j < n; factor += n - j, j++) {
        uint32_t y = (uint32_t)(ew_gaussian_column(factor, steps + j, n - j) >> shift);
        distance += (uint64_t)y * y;
    }
    return ew_float_bits(distance, exponent - 2 * shift);
}

// The score of n steps, n at most 128: a float on the side of the threshold that the integers decided. factor: column by
// column, n * (n + 1) / 2; threshold: the bits of a float, not negative.
static inline float ew_gaussian_score(const int32_t *steps, const EW_FACTOR *factor, int n, uint64_t limit, int exponent,
    uint32_t threshold) {
    uint64_t distance = 0;
    const EW_FACTOR *column = factor;
    int far = 0;
    for (int j = 0; j < n && !far; column += n - j, j++) {
        uint64_t y = ew_gaussian_column(column, steps + j, n - j);
        far = y >> 31 != 0;
        distance += (uint64_t)(uint32_t)y * (uint32_t)y;
        far |= distance >> 62 != 0; // as every limit is below
    }
    union {
        uint32_t bits; // which order floats as they are, none being negative
        float value;
    } score = {far ? ew_gaussian_far(steps, factor, n, exponent) : ew_float_bits(distance, exponent)};
    if (far || distance > limit) {
        score.bits = score.bits > threshold ? score.bits : threshold + 1;
    } else if (score.bits > threshold) {
        score.bits = threshold;
    }
    return score.value;
}

#endif // EW_GAUSSIAN_H
