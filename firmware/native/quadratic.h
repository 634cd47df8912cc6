// A squared Mahalanobis distance in double precision, where emlearn's in float leaves the decision open.

#ifndef EW_QUADRATIC_H
#define EW_QUADRATIC_H

#include <stdint.h>

// d' P d with d = x - center - rest; rest: double (n,), precision: double (n, n) symmetric. n * n products.
static double ew_quadratic_d(const int32_t *x, const int32_t *center, const double *rest, const double *precision,
    int n) {
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

#endif // EW_QUADRATIC_H
