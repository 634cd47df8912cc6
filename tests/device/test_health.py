"""device/health.py and device/ledger.py: counters that do not overflow, scores in bins, energy by state."""

import pytest

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


def test_scores_without_measure_are_in_the_outer_bins():
    code = (
        HEALTH
        + """
for score, threshold in ((float("-inf"), 1.0), (-3e38, 3e38), (float("inf"), 1.0), (3e38, -1e-38)):
    health.score(score, threshold)
result = State.scores
"""
    )
    assert evaluate(code) == [2] + [0] * 14 + [2]


def test_counts_stop_at_the_width_of_their_field():
    assert evaluate(HEALTH + "health.count(3, 65000)\nhealth.count(3, 1000)\nresult = State.faults[3]") == 65535
    code = "State.scores[8] = 65535\nhealth.score(8.0, 8.0)\nresult = State.scores[8]"
    assert evaluate(HEALTH + code) == 65535
    day_ms = 86_400_000
    energy_uj = evaluate(HEALTH + f"health.spend({day_ms}, {day_ms // 2}, 0, 0)\nresult = State.energy_uj")
    assert energy_uj == [0xFFFFFFFF, 0xFFFFFFFF, 0, 0], "a day awake is more joules than 32 bits of microjoules hold"


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


@pytest.mark.parametrize(
    ("chip", "active", "radio", "sending", "asleep"),
    [
        ("ESP32", 40, 110, 240, 10),
        ("ESP32S2", 20, 70, 310, 25),
        ("ESP32S3", 36.7, 147, 340, 7),
        ("ESP32C3", 28, 95, 335, 5),
        ("ESP32C6", 38, 88, 354, 7),
    ],
)
def test_each_chip_is_charged_by_its_own_currents(
    chip: str, active: float, radio: float, sending: float, asleep: float
):
    """mA, and uA asleep; a second awake, one with the radio on, an hour asleep, 1,000 bytes sent."""
    code = f"""
from device import ledger
profile = ledger.profile_of({chip!r})
def one(*times):
    energy_uj = [0, 0, 0, 0]
    ledger.charge(energy_uj, *times, 0, profile)
    return energy_uj
boot = one(0, 0, 0)[0]
result = [one(1000, 0, 0)[0] - boot, one(1000, 1000, 0)[1], one(0, 0, 3600000)[2], boot]
result.append(ledger.sending_uj(1000, 10**9, profile))
"""
    awake_uj, radio_uj, asleep_uj, boot_uj, sending_uj = evaluate(code)
    assert awake_uj == pytest.approx(active * 3.3 * 1000, rel=0.01)
    assert radio_uj == pytest.approx(radio * 3.3 * 1000, rel=0.01)
    assert asleep_uj == pytest.approx(asleep * 3.3 * 3600, rel=0.04), "whole microwatts"
    assert boot_uj == pytest.approx(49 * active * 3.3, rel=0.01)
    assert sending_uj == pytest.approx(sending * 3.3 * 8, rel=0.01), "8 ms of 1 Mbit/s"


def test_what_sending_took_is_part_of_the_radios_energy():
    code = "from device import ledger\nresult = ledger.sending_uj(10**6, 5000, ledger.profile_of('ESP32'))"
    assert evaluate(code) == 5000


def test_an_unknown_chip_is_charged_as_an_esp32():
    code = "from device import ledger\nresult = ledger.profile_of('host') == ledger.PROFILES['ESP32']"
    assert evaluate(code)


def test_a_record_reports_the_period_and_adds_it_to_the_energy_since_the_cold_start():
    code = """
import device.health
class Board:
    now_ms = staticmethod(lambda: 5000)
    battery_mv = staticmethod(lambda: 0)
    free_flash = staticmethod(lambda: 0)
class Journal:
    told = []
    def health(self, *fields):
        self.told.append([list(field) if isinstance(field, list) else field for field in fields])  # as of now
state = State
for name in ("health_ms", "began_ms", "health_wakes", "link_rssi", "radio_sessions", "radio_ms", "tx_bytes",
             "rx_bytes", "radio_failures", "resets", "energy_mj", "battery_band"):
    setattr(state, name, 0)
state.routes = [0] * 8
state.shadow = [0] * 4
state.profile_model = bytes(8)
journal = Journal()
health = Health(Board, state, False, "ESP32C3")
for wake in range(2):
    health.spend(1000, 800, 60_000, 0)
    state.tx_bytes, state.line_holds = 1000, 3
    health.record(journal, [0] * 5, 0)
result = [[sum(told[7])] + list(told[-7:-4]) for told in journal.told] + [state.energy_uj, state.line_holds]
"""
    first, second, left, holds = evaluate(HEALTH + code)
    period_uj = (49 + 200) * 92 + 800 * 314 + 60 * 17
    assert first == [period_uj, 8844, round(period_uj / 1000), 3]
    assert second == [period_uj, 8844, 2 * round(period_uj / 1000), 3]
    assert (left, holds) == ([0, 0, 0, 0], 0)
