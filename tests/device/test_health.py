"""device/health.py and device/ledger.py: counters that do not overflow, scores in bins, energy by state."""

from tests.support.micropython import evaluate

HEALTH = """
from device.health import Health
from contract.wire import FAULT_FLASH, FAULT_MEMORY, FAULT_OTHER, FAULT_RADIO
from device.errors import LinkError
class State:
    faults = [0] * 16
    scores = [0] * 16
    energy_uj = [0] * 4
    awake_ms = 0
health = Health(None, State, False)
"""


def bins(threshold: float, scores: list[float]) -> list[int]:
    """The bin of the histogram each score falls into."""
    return evaluate(
        HEALTH
        + f"""
result = []
for score in {scores!r}:
    State.scores = [0] * 16
    health.score(score, {threshold!r})
    result.append(State.scores.index(1))
"""
    )


def test_scores_below_the_threshold_are_in_the_lower_half_and_those_above_in_the_upper():
    assert bins(8.0, [-100.0, 0.0, 0.9, 7.9, 8.0, 8.1, 9.0, 15.5, 16.0, 1e30]) == [0, 0, 0, 7, 8, 8, 9, 15, 15, 15]


def test_a_negative_threshold_has_bins_an_eighth_of_its_size_wide():
    assert bins(-16.0, [-33.0, -18.0, -17.9, -16.1, -16.0, -14.0, 0.0]) == [0, 7, 7, 7, 8, 9, 15]


def test_a_threshold_of_zero_has_bins_one_wide():
    assert bins(0.0, [-9.0, -0.5, 0.0, 0.5, 1.0, 3.2]) == [0, 7, 8, 8, 9, 11]


def test_counts_stop_at_the_width_of_their_field():
    assert evaluate(HEALTH + "health.count(3, 65000)\nhealth.count(3, 1000)\nresult = State.faults[3]") == 65535
    code = "State.scores[8] = 65535\nhealth.score(8.0, 8.0)\nresult = State.scores[8]"
    assert evaluate(HEALTH + code) == 65535


def test_each_exception_counts_under_its_class():
    code = """
for error in (LinkError(FAULT_RADIO), MemoryError(), OSError(5), KeyError("x")):
    health.fault(error)
result = [State.faults[fault] for fault in (FAULT_RADIO, FAULT_MEMORY, FAULT_FLASH, FAULT_OTHER)]
"""
    assert evaluate(HEALTH + code) == [1, 1, 1, 1]


def test_energy_of_a_wake_is_charged_to_the_state_it_was_spent_in():
    active, radio, sleep, flash = evaluate(HEALTH + "health.spend(1000, 800, 60_000, 4096)\nresult = State.energy_uj")
    assert active == (49 + 200) * 132, "49 ms before the first line, then the time without radio, at 40 mA and 3.3 V"
    assert radio == 800 * 363
    assert sleep == 60_000 * 33 // 1000
    assert 4000 < flash < 4600
