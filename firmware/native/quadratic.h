// A squared Mahalanobis distance whose decision is the one scikit-learn takes in double precision.
//
// emlearn's float32 code gives the distance. Its error is at most `guard` x the distance (model_export/detectors/
// elliptic.py derives it from the condition of the precision matrix), so only within that band around the threshold
// could the decision differ, and only there the distance is computed again in double precision: on a chip without a
// double unit the costly path runs for the few windows that are in doubt.

#ifndef EW_QUADRATIC_H
#define EW_QUADRATIC_H

#include <stdint.h>

#include "decide.h"

// x - center. Features lie within +-(2**30 - 1), so the difference fits; what does not lie there wraps.
static inline int32_t ew_difference(int32_t x, int32_t center) {
    return (int32_t)((uint32_t)x - (uint32_t)center);
}

// d' P d with d = x - center - rest; rest: double (n,), precision: double (n, n) symmetric. n*n products.
static double ew_quadratic_double(const int32_t *x, const int32_t *center, const double *rest,
    const double *precision, int n) {
    double total = 0.0;
    for (int i = 0; i < n; i++) {
        double row = 0.0;
        for (int j = 0; j < n; j++) {
            row += precision[i * n + j] * ((double)x[j] - (double)center[j] - rest[j]);
        }
        total += row * ((double)x[i] - (double)center[i] - rest[i]);
    }
    return total;
}

// True where a float32 distance leaves the decision open.
static inline int ew_quadratic_in_doubt(float distance, float threshold, float guard) {
    float from_threshold = distance - threshold;
    float band = threshold * guard;
    return from_threshold <= band && from_threshold >= -band;
}

#endif // EW_QUADRATIC_H
