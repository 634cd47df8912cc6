"""device/alarm.py: an anomaly is told at its onset, now and then while it lasts, and once at its end."""

import itertools

from contract.wire import EVENT_ANOMALY, EVENT_CLEARED
from tests.support.micropython import evaluate

REPEAT_WAKES = 60


def told(windows: str) -> list[tuple[int, int]]:
    """(window, event kind) of each event that a sequence of windows, "x" anomalous and "." calm, leads to."""
    return [
        (index, kind)
        for index, kind in evaluate(
            f"""
            from device.alarm import alarm_after
            result, alarm = [], 0
            for index, window in enumerate({windows!r}):
                alarm, kind = alarm_after(alarm, window == "x")
                assert 0 <= alarm <= 255
                if kind:
                    result.append((index, kind))
            """
        )
    ]


def test_one_window_is_told_when_it_comes_and_when_two_calm_ones_have_followed():
    assert told("...x....") == [(3, EVENT_ANOMALY), (5, EVENT_CLEARED)]


def test_a_score_that_wavers_about_its_threshold_is_one_alarm():
    assert told("x." * 20 + "..") == [(0, EVENT_ANOMALY), (40, EVENT_CLEARED)]


def test_a_lasting_anomaly_is_told_again_at_most_once_in_sixty_windows():
    events = told("x" * 200 + "..")
    assert events == [
        *((index, EVENT_ANOMALY) for index in (0, REPEAT_WAKES, 2 * REPEAT_WAKES, 3 * REPEAT_WAKES)),
        (201, EVENT_CLEARED),
    ]


def test_a_long_wavering_anomaly_keeps_its_distance_too():
    events = told("xx." * 100 + "..")
    onsets = [index for index, kind in events if kind == EVENT_ANOMALY]
    assert all(later - earlier >= REPEAT_WAKES for earlier, later in itertools.pairwise(onsets))
    assert [kind for _, kind in events].count(EVENT_CLEARED) == 1


def test_after_its_end_the_next_anomaly_is_told_at_once():
    assert told("x..x") == [(0, EVENT_ANOMALY), (2, EVENT_CLEARED), (3, EVENT_ANOMALY)]
