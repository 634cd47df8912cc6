// The last step of every tree ensemble: from the sum over its leaves to a score that decides as scikit-learn does.
//
// Trees compare integers with integers and end in a leaf; the leaf's value enters a sum. scikit-learn sums in double.
// Here the values are summed as integers in units of 2**-bits, each off by a known part of a unit, so that the sum of n
// trees is off by at most n times that. Only within it of the limit the values are summed in double, in the order and so
// with the very bits of scikit-learn.

#ifndef EW_FOREST_H
#define EW_FOREST_H

#include <stdint.h>

#include "exp_log.h"

// True where the integer sum leaves open on which side of the limit the sum lies.
static inline int ew_forest_in_doubt(int32_t sum, int32_t limit, int32_t open) {
    int32_t distance = sum - limit;
    return distance <= open && distance >= -open;
}

// An integer that orders as the float does; both zeros are 0. Comparing floats takes a call where no unit does it.
static inline int32_t ew_order_f(float value) {
    union {
        float value;
        int32_t bits;
    } number = {value};
    return number.bits >= 0 ? number.bits : INT32_MIN - number.bits;
}

// `score` carried to the side of the threshold that was decided.
static inline float ew_forest_side(float score, float threshold, int anomalous) {
    int32_t order = ew_order_f(threshold);
    int over = ew_order_f(score) > order;
    if (anomalous == over) {
        return score;
    }
    if (!anomalous) {
        return threshold;
    }
    union {
        int32_t bits;
        float value;
    } above = {order >= -1 ? order + 1 : INT32_MIN - (order + 1)};
    return above.value;
}

// 2**x for -100 < x <= 0.
static inline float ew_exp2_f(float x) {
    return ew_exp_f(x * 0.69314718056f);
}

// value * 2**-exponent of a value that is 0 or whose result is in the normal range.
static inline float ew_halved_f(float value, int exponent) {
    union {
        float value;
        int32_t bits;
    } number = {value};
    number.bits -= number.bits ? exponent << 23 : 0;
    return number.value;
}

// The score sum * 2**-bits, bits from 1 to 30.
static inline float ew_forest_linear(int32_t sum, int bits) {
    return ew_halved_f((float)sum, bits);
}

static inline uint32_t ew_high(uint32_t a, uint32_t b) {
    return (uint32_t)((uint64_t)a * b >> 32);
}

// The score 2**(sum * 2**-bits) for sum from -2**30 to 0, bits from 1 to 30, and an exponent above -90; in integers, as
// floats cost a chip without a unit for them forty times as much. Off by 0.55 units in the last place at most: the
// polynomial, which takes 2**-f at the Chebyshev points of [0, 1], by 3e-9 (tests/native/test_forest.py).
static inline float ew_forest_exp2(int32_t sum, int bits) {
    uint32_t a = (uint32_t)-sum;
    uint32_t f = a << (32 - bits); // of 2**32
    uint32_t y = 234782; // coefficients in units of 2**-31
    y = 2739202 - ew_high(y, f);
    y = 20572593 - ew_high(y, f);
    y = 119165869 - ew_high(y, f);
    y = 515877823 - ew_high(y, f);
    y = 1488521945 - ew_high(y, f);
    y = 2147483645 - ew_high(y, f);
    return ew_halved_f((float)y, 31 + (int)(a >> bits));
}

// The sum in double precision, in scikit-learn's order. sums: (trees,), of the units up to each tree; units: (count,),
// ascending, and the value of each.
static double __attribute__((unused, noinline)) ew_forest_sum_of(const int32_t *sums, int trees, const int32_t *units,
    const double *values, int count) {
    double total = 0.0;
    int32_t before = 0;
    for (int i = 0; i < trees; i++) {
        int32_t unit = sums[i] - before;
        before = sums[i];
        int low = 0;
        int high = count - 1;
        while (low < high) {
            int middle = (low + high) / 2;
            if (units[middle] < unit) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        total += values[low];
    }
    return total;
}

#endif // EW_FOREST_H
