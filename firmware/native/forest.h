// The last step of every tree ensemble: from the sum over its leaves to a score that decides as scikit-learn does.
//
// Trees compare integers with integers and end in a leaf; the leaf's value enters a sum. scikit-learn sums in double.
// Here the values are summed as integers in units of 2**-fraction, each off by at most half a unit, so that the sum of n
// trees is off by at most n / 2 units. Only within that of the limit the values are summed in double, in the order and
// so with the very bits of scikit-learn.

#ifndef EW_FOREST_H
#define EW_FOREST_H

#include <stdint.h>

#include "exp_log.h"

// True where the integer sum of `trees` leaves leaves open on which side of the limit the sum lies.
static inline int ew_forest_in_doubt(int32_t sum, int32_t limit, int trees) {
    int32_t distance = sum - limit;
    int32_t open = trees / 2 + 1;
    return distance <= open && distance >= -open;
}

// `score` carried to the side of the threshold that was decided.
static inline float ew_forest_side(float score, float threshold, int anomalous) {
    union {
        float value;
        int32_t bits;
    } above = {threshold};
    above.bits += threshold >= 0.0f ? 1 : -1;
    if (anomalous) {
        return score > threshold ? score : above.value;
    }
    return score <= threshold ? score : threshold;
}

// 2**x for -100 < x <= 0.
static inline float ew_exp2_f(float x) {
    return ew_exp_f(x * 0.69314718056f);
}

#endif // EW_FOREST_H
