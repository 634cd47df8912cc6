"""The tests behind the gates: exact where they say so, and never below the truth."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.rollouts.stats import excess_p, failures_p, least_p, level_of_look

VALUES = st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=4, max_size=9)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.data())
def test_the_bound_is_never_below_the_exact_permutation_probability(values: list[float], data: st.DataObject) -> None:
    m = data.draw(st.integers(1, len(values) - 1))
    canaries, controls = values[:m], values[m:]
    draws = list(itertools.combinations(values, m))
    exact = sum(sum(draw) >= sum(canaries) - 1e-9 for draw in draws) / len(draws)
    assert excess_p(canaries, controls) >= exact - 1e-9


def test_where_power_is_dear_the_draws_are_counted() -> None:
    """Three of 24 boards stand out: of 2,024 draws, those with a sum as large are known one by one."""
    rng = random.Random(9)
    controls = [rng.uniform(0, 1) for _ in range(21)]
    canaries = [1.5, 1.7, 2.0]
    sums = [sum(draw) for draw in itertools.combinations([*canaries, *controls], 3)]
    exact = sum(drawn >= sum(canaries) for drawn in sums) / len(sums)
    assert exact == 1 / 2024
    assert excess_p(canaries, controls) == pytest.approx(exact)
    weaker = [0.9, 1.2, 1.4]
    sums = [sum(draw) for draw in itertools.combinations([*weaker, *controls], 3)]
    exact = sum(drawn >= sum(weaker) for drawn in sums) / len(sums)
    assert exact <= excess_p(weaker, controls) < 2 * exact


def test_a_count_of_draws_is_near_the_normal_tail_where_values_are_normal() -> None:
    rng = random.Random(4)
    pool = [rng.gauss(0, 1) for _ in range(190)]
    canaries = [rng.gauss(0, 0.1) + 1.5 for _ in range(10)]
    deviation = math.sqrt(sum(x * x for x in pool + canaries) / 200)
    z = (sum(canaries) - 10 * sum(pool + canaries) / 200) / deviation / math.sqrt(10)
    normal = 0.5 * math.erfc(z / math.sqrt(2))
    assert 0.1 * normal < excess_p(canaries, pool) < 10 * normal
    assert normal < excess_p(canaries, pool * 5) < 1000 * normal, "the bound, for more than can be counted"


def test_the_false_alarm_rate_over_many_looks_stays_within_its_budget() -> None:
    """5,000 fleets whose canaries are no different, with heavy tails, watched for 24 looks at a budget of 5 %."""
    rng = random.Random(11)
    stopped = 0
    for _ in range(5000):
        sums = [0.0] * 40
        for look in range(1, 25):
            for at in range(40):
                sums[at] += rng.paretovariate(2.2)
            if excess_p(sums[:6], sums[6:]) < level_of_look(0.05, look, 20):
                stopped += 1
                break
    assert stopped / 5000 <= 0.05


def test_the_levels_of_all_looks_and_gates_stay_within_the_budget() -> None:
    total = sum(level_of_look(0.01, look, 30) for look in range(1, 100_000))
    assert 0.0099 < total <= 0.01


@pytest.mark.parametrize(("canaries", "controls"), [([], [1.0]), ([1.0], []), ([1.0, 1.0], [1.0, 1.0]), ([0.0], [1.0])])
def test_without_an_excess_nothing_is_found(canaries: list[float], controls: list[float]) -> None:
    assert excess_p(canaries, controls) == 1.0


def test_canaries_apart_from_all_others_come_close_to_the_least_p_there_is() -> None:
    p = excess_p([1.0] * 10, [0.0] * 190)
    assert least_p(10, 200) <= p < 3 * least_p(10, 200)


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.001, 0.5))
def test_failures_are_the_binomial_tail(failed: int, more: int, share: float) -> None:
    tried = failed + more
    exact = sum(math.comb(tried, k) * share**k * (1 - share) ** (tried - k) for k in range(failed, tried + 1))
    assert failures_p(failed, tried, share) == pytest.approx(min(1.0, exact), rel=1e-9, abs=1e-300)


def test_failures_of_a_large_fleet_do_not_overflow() -> None:
    assert failures_p(1000, 20_000, 0.02) < 1e-100
    assert failures_p(400, 20_000, 0.02) == pytest.approx(0.5, abs=0.05)
