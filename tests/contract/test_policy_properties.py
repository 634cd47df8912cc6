"""contract/policy.py and routing.py: what no combination of facts, voltages and times may do."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from contract import policy, routing, wire

MS = st.integers(0, 10**10)
BANDS = st.integers(policy.BAND_EMPTY, policy.BAND_FULL)
JITTER = st.integers(0, policy.JITTER_RANGE - 1)
ASKED = (wire.ROUTE_FOG, wire.ROUTE_CLOUD)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, object]:
    """Arguments of routing.route()."""
    return {
        "score": draw(st.floats(allow_infinity=True, allow_nan=True)),
        "threshold": draw(st.floats(-1e6, 1e6)),
        "margin": draw(st.floats(0, 1e6)),
        "verdicts": draw(st.integers(0, 255)),
        "sensitive": draw(st.booleans()),
        "fog": draw(st.booleans()),
        "deadline_ms": draw(st.one_of(st.just(0), st.integers(1, 86_400_000))),
        "wait_ms": draw(st.integers(0, 7 * 86_400_000)),
        "band": draw(BANDS),
        "session_ms": draw(st.integers(0, 65_535)),
        "breaker_open": draw(st.booleans()),
    }


@settings(max_examples=1000)
@given(windows())
def test_a_sensitive_window_never_leaves_the_board(window: dict[str, object]):
    decision, why = routing.route(**(window | {"sensitive": True}))  # type: ignore[arg-type]
    assert decision == wire.ROUTE_DEVICE
    assert why in (wire.WHY_CLEAR, wire.WHY_SENSITIVE)


@settings(max_examples=1000)
@given(windows())
def test_a_deadline_that_cannot_be_kept_is_refused_with_its_cause(window: dict[str, object]):
    decision, why = routing.route(**window)  # type: ignore[arg-type]
    deadline_ms, session_ms, wait_ms = window["deadline_ms"], window["session_ms"], window["wait_ms"]
    assert isinstance(deadline_ms, int)
    assert isinstance(session_ms, int)
    assert isinstance(wait_ms, int)
    if deadline_ms == 0:
        assert why != wire.WHY_DEADLINE
    elif decision in ASKED:
        assert deadline_ms >= session_ms, "asked although the session alone takes longer"
    elif decision == wire.ROUTE_DEFER:
        assert deadline_ms >= wait_ms + session_ms, "put off although the deadline comes first"
    if decision == wire.ROUTE_DROP:
        assert why in (wire.WHY_BREAKER, wire.WHY_DEADLINE, wire.WHY_BATTERY, wire.WHY_LINK)


@settings(max_examples=1000)
@given(windows())
def test_what_is_asked_is_what_is_doubtful_and_for_the_reason_that_makes_it_so(window: dict[str, object]):
    decision, why = routing.route(**window)  # type: ignore[arg-type]
    near = not abs(window["score"] - window["threshold"]) > window["margin"]  # type: ignore[operator]
    unsettled = routing.entropy_milli(window["verdicts"]) >= routing.UNSETTLED_MILLI  # type: ignore[arg-type]
    assert (why == wire.WHY_CLEAR) == (not near and not unsettled)
    if decision in ASKED:
        assert why == (wire.WHY_MARGIN if near else wire.WHY_ENTROPY)
        assert (decision == wire.ROUTE_FOG) == window["fog"]


@given(st.integers(1, 4500), st.lists(st.integers(0, 59), min_size=2, max_size=60), BANDS)
def test_a_voltage_that_wavers_less_than_the_hysteresis_changes_the_band_once_at_most(
    lowest_mv: int, sag_mv: list[int], band: int
):
    bands = [policy.battery_band(lowest_mv + sag_mv[0], band)]
    for sag in sag_mv[1:]:
        bands.append(policy.battery_band(lowest_mv + sag, bands[-1]))
    assert sum(one != other for one, other in itertools.pairwise(bands)) <= 1


@given(st.integers(1, 5000), BANDS)
def test_a_steady_voltage_keeps_its_band(battery_mv: int, band: int):
    once = policy.battery_band(battery_mv, band)
    assert policy.battery_band(battery_mv, once) == once


@given(MS, MS, JITTER, st.lists(st.sampled_from((policy.BEGIN, policy.SUCCESS, policy.FAILURE)), max_size=400))
def test_a_breaker_lets_a_session_through_again_within_the_longest_backoff(
    now_ms: int, step_ms: int, jitter: int, happenings: list[int]
):
    breaker = policy.NEW_BREAKER
    for happening in happenings:
        breaker = policy.breaker_after(breaker, happening, now_ms, jitter)
        assert 0 <= breaker[1] <= 255
        assert breaker[2] <= now_ms + 4 * 3_600_000
        assert policy.breaker_allows(breaker, now_ms + 4 * 3_600_000)
        now_ms += step_ms % 1000


@given(st.lists(st.integers(0, 7_200_000), min_size=1, max_size=80), st.integers(1, 3600), st.integers(1, 3600))
def test_no_history_of_looking_lets_more_through_than_flowed_in(steps_ms: list[int], per_hour: int, capacity: int):
    tokens, filled_ms, now_ms, spent = capacity * policy.MILLI, 0, 0, 0
    for step_ms in steps_ms:
        now_ms += step_ms
        tokens, filled_ms = policy.refill(tokens, filled_ms, now_ms, per_hour, capacity)
        assert tokens <= capacity * policy.MILLI
        if tokens >= policy.MILLI:
            tokens -= policy.MILLI
            spent += 1
    assert spent <= capacity + now_ms * per_hour / 3_600_000


@given(MS, st.integers(1000, 7 * 86_400_000), BANDS, JITTER)
def test_the_next_scheduled_session_is_neither_past_nor_later_than_announced(
    now_ms: int, interval_ms: int, band: int, jitter: int
):
    due_ms = policy.next_sync_ms(now_ms, interval_ms, band, jitter)
    latest_ms = policy.next_sync_ms(now_ms, interval_ms, band, policy.JITTER_RANGE - 1)
    assert now_ms < due_ms <= latest_ms
