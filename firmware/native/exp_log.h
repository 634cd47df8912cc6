// exp and log for code without a C library, the same bits on every target, in float and in double precision.
//
// The coefficients are those of the series; their number is what the precision needs on the reduced range.
// Errors, measured over 2 * 10**6 points (tests/native/test_exp_log.py): exp below 1.1 units in the last place, log
// below 2, in both precisions.

#ifndef EW_EXP_LOG_H
#define EW_EXP_LOG_H

#include <stdint.h>

// 2**exponent times value, for results in the normal range; the caller keeps them there.
static inline double ew_scale_d(double value, int32_t exponent) {
    union {
        double value;
        uint64_t bits;
    } power;
    power.bits = (uint64_t)(1023 + exponent) << 52;
    return value * power.value;
}

static inline float ew_scale_f(float value, int32_t exponent) {
    union {
        float value;
        uint32_t bits;
    } power;
    power.bits = (uint32_t)(127 + exponent) << 23;
    return value * power.value;
}

// exp(x) for x <= 700; 0 below -700. With k = round(x / ln 2), exp(x) = 2**k * exp(r), |r| <= ln 2 / 2.
static double ew_exp_d(double x) {
    if (!(x > -700.0)) {
        return 0.0;
    }
    int32_t k = (int32_t)(x * 1.4426950408889634 + (x < 0.0 ? -0.5 : 0.5));
    double r = (x - k * 0x1.62e42fee00000p-1) - k * 0x1.a39ef35793c76p-33;
    double sum = 1.0 / 6227020800.0;
    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    return ew_scale_d(1.0 + (r + r * r * sum), k);
}

// exp(x) for x <= 87; 0 below -87.
static float ew_exp_f(float x) {
    if (!(x > -87.0f)) {
        return 0.0f;
    }
    int32_t k = (int32_t)(x * 1.44269504f + (x < 0.0f ? -0.5f : 0.5f));
    float r = (x - (float)k * 0.693359375f) + (float)k * 2.12194440e-4f;
    float sum = 1.0f / 5040.0f;
    sum = sum * r + 1.0f / 720.0f;
    sum = sum * r + 1.0f / 120.0f;
    sum = sum * r + 1.0f / 24.0f;
    sum = sum * r + 1.0f / 6.0f;
    sum = sum * r + 0.5f;
    return ew_scale_f(1.0f + (r + r * r * sum), k);
}

// log(x) for normal x > 0. With x = 2**k * m, m in [sqrt(1/2), sqrt(2)), s = (m - 1) / (m + 1):
// log(m) = 2 * (s + s**3 / 3 + s**5 / 5 + ...), |s| < 0.1716.
static double ew_log_d(double x) {
    union {
        double value;
        uint64_t bits;
    } m = {x};
    int32_t k = (int32_t)(m.bits >> 52) - 1023;
    m.bits = (m.bits & 0xFFFFFFFFFFFFFu) | 0x3FF0000000000000u;
    if (m.value > 1.4142135623730951) {
        m.value *= 0.5;
        k++;
    }
    double f = m.value - 1.0;
    double s = f / (2.0 + f);
    double q = s * s;
    double sum = 1.0 / 21.0;
    sum = sum * q + 1.0 / 19.0;
    sum = sum * q + 1.0 / 17.0;
    sum = sum * q + 1.0 / 15.0;
    sum = sum * q + 1.0 / 13.0;
    sum = sum * q + 1.0 / 11.0;
    sum = sum * q + 1.0 / 9.0;
    sum = sum * q + 1.0 / 7.0;
    sum = sum * q + 1.0 / 5.0;
    sum = sum * q + 1.0 / 3.0;
    double tail = 2.0 * s * q * sum + k * 0x1.a39ef35793c76p-33;
    return k * 0x1.62e42fee00000p-1 + (2.0 * s + tail);
}

static float ew_log_f(float x) {
    union {
        float value;
        uint32_t bits;
    } m = {x};
    int32_t k = (int32_t)(m.bits >> 23) - 127;
    m.bits = (m.bits & 0x7FFFFFu) | 0x3F800000u;
    if (m.value > 1.41421356f) {
        m.value *= 0.5f;
        k++;
    }
    float f = m.value - 1.0f;
    float s = f / (2.0f + f);
    float q = s * s;
    float sum = 1.0f / 9.0f;
    sum = sum * q + 1.0f / 7.0f;
    sum = sum * q + 1.0f / 5.0f;
    sum = sum * q + 1.0f / 3.0f;
    float tail = 2.0f * s * q * sum - (float)k * 2.12194440e-4f;
    return (float)k * 0.693359375f + (2.0f * s + tail);
}

#endif // EW_EXP_LOG_H
