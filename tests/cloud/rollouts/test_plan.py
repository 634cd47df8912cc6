"""A plan that could not protect anybody is refused."""

from typing import Any

import pytest

from cloud.errors import BadRequest
from cloud.rollouts.plan import Mode, Plan, Tolerance, canaries_of, exposed_at, in_bucket_order, is_open, validated
from cloud.rollouts.stats import least_p


def plan(**changes: Any) -> Plan:
    facts: dict[str, Any] = {"name": "flow", "version": "2.0.0", "fallback": "1.0.0", "period_ms": 3_600_000}
    return Plan(**(facts | changes))


def test_the_default_plan_is_sound() -> None:
    assert validated(plan()) == plan()
    assert canaries_of(plan(), 200) == 10
    assert [exposed_at(plan(), step, 200) for step in range(4)] == [10, 50, 100, 200]


def test_canaries_never_exceed_their_share_unless_the_minimum_says_so() -> None:
    assert canaries_of(plan(), 219) == 10
    assert canaries_of(plan(min_canaries=20), 200) == 20


def test_a_small_fleet_gets_as_many_canaries_as_it_takes_to_stop_a_bad_model() -> None:
    counts = [canaries_of(plan(), cohort) for cohort in (30, 40, 60, 100, 200)]
    assert counts[-1] == 10
    for cohort, count in zip((30, 40, 60, 100), counts, strict=False):
        assert least_p(count, cohort) <= plan().level("energy", plan().looks)
        assert count == 5 or least_p(count - 1, cohort) > plan().level("energy", plan().looks)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fallback": "2.0.0"}, "also the fallback"),
        ({"period_ms": 10}, "a report period of 10 ms"),
        ({"steps": (5, 25)}, "steps [5, 25]"),
        ({"steps": (25, 5, 100)}, "steps [25, 5, 100]"),
        ({"steps": (100,)}, "steps [100]"),
        ({"steps": (0, 100)}, "steps [0, 100]"),
        ({"mode": Mode.AB}, "steps [5, 25, 50, 100] of a comparison"),
        ({"mode": Mode.AB, "steps": (60,)}, "steps [60] of a comparison"),
        ({"soak_periods": 0}, "soak_periods is 0"),
        ({"min_canaries": 0}, "min_canaries is 0"),
        ({"false_stops": 0.0}, "false_stops is 0.0"),
        ({"false_stops": 0.5}, "false_stops is 0.5"),
        ({"failing_share": -1.0}, "failing_share is -1.0"),
        ({"tolerance": Tolerance(energy=-0.1)}, "tolerance of energy is -0.1"),
        ({"window": "2200-0400"}, "maintenance window '2200-0400'"),
        ({"window": "25:00-04:00"}, "maintenance window '25:00-04:00'"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        validated(plan(**changes))
    assert said in str(refused.value)


@pytest.mark.parametrize("boards", [0, 1, 4, 9, 18])
def test_a_fleet_too_small_to_compare_is_refused(boards: int) -> None:
    with pytest.raises(BadRequest, match=f"{boards} boards are too few to tell a bad model from chance"):
        canaries_of(plan(), boards)


def test_buckets_are_stable_and_differ_between_rollouts() -> None:
    boards = [f"pump-{at}" for at in range(100)]
    first = in_bucket_order(1, boards)
    assert in_bucket_order(1, boards[::-1]) == first
    assert sorted(first) == sorted(boards)
    assert set(in_bucket_order(2, boards)[:10]) != set(first[:10])


@pytest.mark.parametrize(
    ("window", "hour", "open_"),
    [
        ("", 12, True),
        ("22:00-04:00", 23, True),
        ("22:00-04:00", 3, True),
        ("22:00-04:00", 4, False),
        ("08:00-17:30", 17, True),
        ("08:00-17:30", 18, False),
    ],
)
def test_maintenance_windows_are_utc_and_may_span_midnight(window: str, hour: int, open_: bool) -> None:
    assert is_open(window, hour * 3_600_000 + 86_400_000 * 20_000) is open_
