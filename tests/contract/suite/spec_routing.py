"""The routing table, row by row, and what must hold for all of it."""

import math

from contract import routing, wire
from contract.policy import BAND_EMPTY, BAND_FAIR, BAND_FULL, BAND_LOW

CALM = 0
WAVERING = 0b00101100  # three changes of side
HOUR = 3_600_000


def route(score=0.5, verdicts=CALM, deadline_ms=0, band=BAND_FULL, session_ms=800, **given):
    """routing.route() of a window on the threshold of a model with margin 0.1, on a good day."""
    facts = {"sensitive": False, "fog": False, "wait_ms": HOUR, "breaker_open": False}
    facts.update(given)
    return routing.route(
        score,
        0.5,
        0.1,
        verdicts,
        facts["sensitive"],
        facts["fog"],
        deadline_ms,
        facts["wait_ms"],
        band,
        session_ms,
        facts["breaker_open"],
    )


ROUTED = (
    # one entry for each row of routing.ROUTES, in its order, then what only looks like another row
    ({"score": 0.9}, (wire.ROUTE_DEVICE, wire.WHY_CLEAR)),
    ({"sensitive": True}, (wire.ROUTE_DEVICE, wire.WHY_SENSITIVE)),
    ({"breaker_open": True, "deadline_ms": 60_000}, (wire.ROUTE_DROP, wire.WHY_BREAKER)),
    ({"deadline_ms": 500}, (wire.ROUTE_DROP, wire.WHY_DEADLINE)),
    ({"band": BAND_EMPTY}, (wire.ROUTE_DROP, wire.WHY_BATTERY)),
    ({"band": BAND_LOW, "deadline_ms": 60_000}, (wire.ROUTE_DROP, wire.WHY_BATTERY)),
    ({"session_ms": 5001, "deadline_ms": 60_000}, (wire.ROUTE_DROP, wire.WHY_LINK)),
    ({"breaker_open": True}, (wire.ROUTE_DEFER, wire.WHY_BREAKER)),
    ({"band": BAND_LOW}, (wire.ROUTE_DEFER, wire.WHY_BATTERY)),
    ({"session_ms": 5001}, (wire.ROUTE_DEFER, wire.WHY_LINK)),
    ({"fog": True}, (wire.ROUTE_FOG, wire.WHY_MARGIN)),
    ({"fog": True, "score": 0.9, "verdicts": WAVERING}, (wire.ROUTE_FOG, wire.WHY_ENTROPY)),
    ({}, (wire.ROUTE_CLOUD, wire.WHY_MARGIN)),
    ({"score": 0.9, "verdicts": WAVERING}, (wire.ROUTE_CLOUD, wire.WHY_ENTROPY)),
    # sure, whatever the day is like
    (
        {"score": 0.1, "sensitive": True, "deadline_ms": 10, "band": BAND_EMPTY, "breaker_open": True},
        (wire.ROUTE_DEVICE, wire.WHY_CLEAR),
    ),
    ({"sensitive": True, "fog": True}, (wire.ROUTE_DEVICE, wire.WHY_SENSITIVE)),
    ({"score": 0.45, "band": BAND_FAIR}, (wire.ROUTE_CLOUD, wire.WHY_MARGIN)),
    ({"verdicts": WAVERING}, (wire.ROUTE_CLOUD, wire.WHY_MARGIN)),
    ({"deadline_ms": 60_000}, (wire.ROUTE_CLOUD, wire.WHY_MARGIN)),
    ({"deadline_ms": 800}, (wire.ROUTE_CLOUD, wire.WHY_MARGIN)),
    # a deadline that outlasts the wait for the next scheduled session lets the question wait for it
    ({"band": BAND_LOW, "deadline_ms": HOUR + 800}, (wire.ROUTE_DEFER, wire.WHY_BATTERY)),
    ({"band": BAND_LOW, "deadline_ms": HOUR + 799}, (wire.ROUTE_DROP, wire.WHY_BATTERY)),
    ({"breaker_open": True, "deadline_ms": 60_000, "wait_ms": 2000}, (wire.ROUTE_DEFER, wire.WHY_BREAKER)),
    ({"session_ms": 5001, "deadline_ms": 2 * HOUR}, (wire.ROUTE_DEFER, wire.WHY_LINK)),
    ({"session_ms": 5000}, (wire.ROUTE_CLOUD, wire.WHY_MARGIN)),
)


def test_every_row_of_the_routing_table_decides_the_window_it_was_made_for():
    for facts, expected in ROUTED:
        assert route(**facts) == expected, facts
    rows = [(decision, why) for _, decision, why in routing.ROUTES]
    assert [expected for _, expected in ROUTED[: len(rows)]] == rows


def test_every_row_of_the_routing_table_is_the_first_to_hold_for_its_own_facts():
    for number, (needed, decision, why) in enumerate(routing.ROUTES):
        assert routing.route_by_facts(needed) == (decision, why), number
        for earlier, _, _ in routing.ROUTES[:number]:
            assert needed & earlier != earlier, (number, "is never reached")


def test_a_window_the_board_is_not_sure_of_never_leaves_a_sensitive_board():
    for facts in range(1024):
        if facts & routing.FACT_SENSITIVE:
            assert routing.route_by_facts(facts)[0] == wire.ROUTE_DEVICE, facts


def test_a_deadline_never_passes_in_silence():
    for facts in range(1024):
        decision, why = routing.route_by_facts(facts)
        if facts & routing.FACT_DEADLINE:
            assert decision != wire.ROUTE_DEFER, facts
        if facts & routing.FACT_LATE:
            assert decision in (wire.ROUTE_DEVICE, wire.ROUTE_DROP), facts
            assert why not in (wire.WHY_MARGIN, wire.WHY_ENTROPY), facts


def test_fog_is_asked_only_where_there_is_one_and_the_cloud_only_where_there_is_none():
    for facts in range(1024):
        decision = routing.route_by_facts(facts)[0]
        if decision in (wire.ROUTE_FOG, wire.ROUTE_CLOUD):
            assert (decision == wire.ROUTE_FOG) == bool(facts & routing.FACT_FOG), facts


def test_a_score_that_is_not_a_number_is_not_taken_for_a_clear_one():
    assert route(score=float("nan")) == (wire.ROUTE_CLOUD, wire.WHY_MARGIN)


def test_the_entropy_of_the_last_verdicts_is_that_of_their_changes():
    for changes in range(routing.HISTORY):
        verdicts = sum([(min(number, changes) & 1) << number for number in range(routing.HISTORY)])
        p = (changes + 0.5) / routing.HISTORY
        bits = -p * math.log(p) / math.log(2) - (1 - p) * math.log(1 - p) / math.log(2)
        expected = 1000 if p > 0.5 else int(1000 * bits + 0.5)
        assert routing.entropy_milli(verdicts) == expected, (changes, verdicts)
        assert routing.entropy_milli(verdicts ^ 0xFF) == expected


def test_an_onset_and_an_end_are_settled_and_a_third_change_is_not():
    verdicts = 0
    for anomalous in (True, True, True, False, False):
        verdicts = routing.remember(verdicts, anomalous)
        assert routing.entropy_milli(verdicts) < routing.UNSETTLED_MILLI
    verdicts = routing.remember(verdicts, True)
    assert verdicts == 0b00111001
    assert routing.entropy_milli(verdicts) >= routing.UNSETTLED_MILLI
    for _ in range(routing.HISTORY):
        verdicts = routing.remember(verdicts, True)
    assert (verdicts, routing.entropy_milli(verdicts)) == (0xFF, 337)


def test_an_answer_is_waited_for_within_its_deadline_and_never_long():
    for until_ms, now_ms, expected in (
        (0, 0, routing.ANSWER_MS),
        (0, 10**9, routing.ANSWER_MS),
        (60_000, 1000, routing.ANSWER_MS),
        (60_000, 59_000, 1000),
        (60_000, 60_000, 0),
        (500, 10**9, 0),
    ):
        assert routing.answer_wait_ms(until_ms, now_ms) == expected, (until_ms, now_ms)
