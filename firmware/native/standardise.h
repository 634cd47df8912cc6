// From raw integer features to the coordinates a detector was trained in: z = (x - offset) * scale.

#ifndef EW_STANDARDISE_H
#define EW_STANDARDISE_H

#include <stdint.h>

// A model of dtype int16 sets these to int16_t: the type of its features, and of its tables.
#ifndef EW_FEATURE
#define EW_FEATURE int32_t
#endif
#ifndef EW_TABLE
#define EW_TABLE float
#endif

// x - center. Features lie within +-(2**30 - 1), so the difference fits; what does not lie there wraps.
static inline int32_t ew_difference(int32_t x, int32_t center) {
    return (int32_t)((uint32_t)x - (uint32_t)center);
}

// In float, with offset = center + rest / scale: the large part of a feature cancels before it is rounded.
static inline void ew_standardise_f(const EW_FEATURE *x, const int32_t *center, const float *scale, const float *rest,
    int n, float *z) {
    for (int i = 0; i < n; i++) {
        z[i] = (float)ew_difference(x[i], center[i]) * scale[i] - rest[i];
    }
}

static inline void ew_standardise_d(const EW_FEATURE *x, const double *offset, const double *scale, int n, double *z) {
    for (int i = 0; i < n; i++) {
        z[i] = ((double)x[i] - offset[i]) * scale[i];
    }
}

#endif // EW_STANDARDISE_H
