"""exp and log of the native modules, against the C library in extended precision."""

import pytest

from tests.support.c_program import numbers_from

# Prints the largest errors in units in the last place: exp in double, in float, log likewise; 1 when the ends hold.
PROGRAM = r"""
#include <math.h>
#include <stdio.h>
#include "exp_log.h"

static double worst(double sofar, long double exact, double got, double unit) {
    double error = (double)(fabsl(got - exact) / unit);
    return error > sofar ? error : sofar;
}

static double worst_d(double sofar, long double exact, double got) {
    double value = fabs((double)exact);
    return worst(sofar, exact, got, nextafter(value, INFINITY) - value);
}

static double worst_f(double sofar, long double exact, float got) {
    float value = fabsf((float)exact);
    return worst(sofar, exact, got, (double)(nextafterf(value, INFINITY) - value));
}

int main(void) {
    double exp_d = 0, exp_f = 0, log_d = 0, log_f = 0;
    uint64_t state = 1;
    for (int i = 0; i < 1000000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        double x = ((double)(state >> 11) / 4503599627370496.0 - 1.0) * (i & 1 ? 80.0 : 0.8);
        exp_d = worst_d(exp_d, expl(x), ew_exp_d(x));
        float xf = (float)x;
        exp_f = worst_f(exp_f, expl(xf), ew_exp_f(xf));
        double z = exp(x);
        log_d = worst_d(log_d, logl(z), ew_log_d(z));
        float zf = (float)z;
        log_f = worst_f(log_f, logl(zf), ew_log_f(zf));
    }
    int ends = ew_exp_d(0.0) == 1.0 && ew_exp_f(0.0f) == 1.0f && ew_log_d(1.0) == 0.0 && ew_log_f(1.0f) == 0.0f
        && ew_exp_d(-1e300) == 0.0 && ew_exp_f(-1e30f) == 0.0f && ew_exp_d(NAN) == 0.0 && ew_exp_f(-INFINITY) == 0.0f;
    printf("%g %g %g %g %d\n", exp_d, exp_f, log_d, log_f, ends);
    return 0;
}
"""


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory, native_toolchain) -> list[float]:
    return numbers_from(tmp_path_factory.mktemp("exp_log"), PROGRAM)


def test_exp_is_right_to_1_1_units_in_the_last_place(errors):
    assert max(errors[:2]) < 1.1


def test_log_is_right_to_2_units_in_the_last_place(errors):
    assert max(errors[2:4]) < 2.0


def test_the_ends_of_the_range_and_what_is_no_number_are_met(errors):
    assert errors[4] == 1
