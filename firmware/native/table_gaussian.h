// Scores the Gaussian of a table blob where it lies: no copy, no heap. contract/table_gaussian.py says what every byte
// means, and its check() that they are sound; whatever they are, nothing is read but the blob and its features.

#ifndef EW_TABLE_GAUSSIAN_H
#define EW_TABLE_GAUSSIAN_H

#include "int16.h"
#include "table_forest.h"

// A blob is bytes to others, and in a file system may lie anywhere.
typedef int16_t __attribute__((may_alias, aligned(1))) ew_short_t;
#define EW_FACTOR ew_short_t
#include "gaussian.h"

enum {
    EW_GAUSSIAN_MEANS = 32,
    EW_GAUSSIAN_FEATURES = 128,
    EW_GAUSSIAN_MOST_LOSS = 18,
};

// True where `size` bytes at `blob` may be scored.
static int ew_table_gaussian_fits(const uint8_t *blob, size_t size) {
    if (size < EW_GAUSSIAN_MEANS || blob[4] != 2) {
        return 0;
    }
    uint32_t n = ew_u16(blob + 6);
    return n >= 1 && n <= EW_GAUSSIAN_FEATURES && size == EW_GAUSSIAN_MEANS + 6 * n + n * (n + 1);
}

// features: int32 (n,). The exponent is at most 126 and the limit below 2**62 in a blob that is sound.
static float ew_table_gaussian_score(const uint8_t *blob, const int32_t *features) {
    int32_t steps[EW_GAUSSIAN_FEATURES];
    int n = (int)ew_u16(blob + 6);
    const uint8_t *loss = blob + EW_GAUSSIAN_MEANS + 4 * n;
    for (int i = 0; i < n; i++) {
        int shift = loss[i] > EW_GAUSSIAN_MOST_LOSS ? EW_GAUSSIAN_MOST_LOSS : loss[i];
        int32_t x = ew_int16(features[i], shift) * ((int32_t)1 << (loss[n + i] & 15));
        steps[i] = (int32_t)((uint32_t)x - ew_u32(blob + EW_GAUSSIAN_MEANS + 4 * i));
    }
    uint64_t limit = (uint64_t)ew_u32(blob + 28) << 32 | ew_u32(blob + 24);
    return ew_gaussian_score(steps, (const ew_short_t *)(loss + 2 * n), n, limit, blob[20], ew_u32(blob + 16));
}

#endif // EW_TABLE_GAUSSIAN_H
