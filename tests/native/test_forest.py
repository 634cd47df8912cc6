"""The last step of tree ensembles in C: scores from integers, held against the C library in extended precision."""

import re

import numpy as np
import pytest
from numpy.polynomial import Chebyshev, Polynomial

from model_export.compile import NATIVE_DIR
from tests.support.c_program import numbers_from

# Prints the largest errors of both shapes in units in the last place, then 1 when no side was mistaken.
PROGRAM = r"""
#include <math.h>
#include <stdio.h>
#include "forest.h"

static double worst(double sofar, long double exact, float got) {
    float value = fabsf((float)exact);
    double error = (double)(fabsl(got - exact) / (nextafterf(value, INFINITY) - value));
    return error > sofar ? error : sofar;
}

static int sides(float a, float b) {
    return ew_forest_side(a, b, 1) > b && !(ew_forest_side(a, b, 0) > b)
        && (ew_forest_side(a, b, a > b) == a) && (ew_order_f(a) > ew_order_f(b)) == (a > b);
}

int main(void) {
    double linear = 0, exp2 = 0;
    uint64_t state = 1;
    int right = sides(0.0f, -0.0f) && sides(-0.0f, 0.0f) && sides(0.0f, 0.0f);
    float before = 0.5f;
    for (int i = 0; i < 2000000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        int32_t sum = -(int32_t)(state >> 34);
        int bits = 24 + i % 7;
        exp2 = worst(exp2, exp2l((long double)sum / (1 << bits)), ew_forest_exp2(sum, bits));
        linear = worst(linear, (long double)sum / (1 << bits), ew_forest_linear(sum, bits));
        linear = worst(linear, (long double)-sum / (1 << bits), ew_forest_linear(-sum, bits));
        float score = (i & 1 ? 1.0f : -1.0f) * ew_forest_linear(sum, bits);
        right &= sides(score, before) && sides(score, score);
        before = score;
    }
    right &= ew_forest_linear(0, 30) == 0.0f && ew_forest_exp2(0, 30) == 1.0f && ew_forest_exp2(-1 << 30, 29) == 0.25f;

    // Three trees over four values that no sum of units may mix up.
    static const int32_t units[] = {-7, -6, 0, 1 << 29};
    static const double values[] = {-0.7, -0.6, 0.0, 5e8};
    static const int32_t sums[] = {(1 << 29), (1 << 29) - 6, (1 << 29) - 13, (1 << 29) - 13};
    right &= ew_forest_sum_of(sums, 4, units, values, 4) == 5e8 + -0.6 + -0.7 + 0.0;
    printf("%g %g %d\n", linear, exp2, right);
    return 0;
}
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, native_toolchain) -> list[float]:
    return numbers_from(tmp_path_factory.mktemp("forest"), PROGRAM)


def test_scores_are_right_to_0_55_units_in_the_last_place(told: list[float]):
    assert told[0] <= 0.5
    assert told[1] < 0.55


def test_scores_are_carried_to_the_side_decided_and_else_kept(told: list[float]):
    assert told[2] == 1


def test_the_polynomial_takes_the_power_at_the_chebyshev_points():
    made = Chebyshev.interpolate(lambda f: 2.0**-f, 6, domain=[0, 1]).convert(kind=Polynomial)
    text = (NATIVE_DIR / "forest.h").read_text()
    found = [int(number) for number in re.findall(r"\by = (\d+)", text)]
    assert found == [round(abs(value) * 2**31) for value in made.coef[::-1]]
    f = np.linspace(0, 1, 100_001)
    assert np.abs(made(f) * 2**f - 1).max() < 3e-9
