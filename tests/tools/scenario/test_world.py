"""Battery and air of a simulated board."""

import pytest

from tests.support import scenarios
from tools.scenario.schema import Battery
from tools.scenario.world import UJ_PER_MAH, Air, Cell, draw, interpolate


def air(**more: object) -> Air:
    scenario = scenarios.make(**more)  # type: ignore[arg-type]
    return Air(scenario, *scenario.boards[0])


def test_a_cell_runs_down_along_its_curve():
    cell = Cell(Battery(capacity_mah=10, sag_mv=0, curve=((1.0, 4200), (0.5, 3700), (0.0, 3000))))
    voltages: list[int] = []
    for _ in range(5):
        voltages.append(cell.battery_mv)
        cell.drained_uj += 2.5 * UJ_PER_MAH
    assert voltages == [4200, 3950, 3700, 3350, 3000]
    assert cell.left == 0


def test_without_a_battery_nothing_runs_down():
    cell = Cell(None)
    cell.drained_uj = 1e18
    assert (cell.left, cell.battery_mv) == (1.0, 0)


@pytest.mark.parametrize(("x", "y"), [(-50, 1.0), (-60, 1.0), (-65, 1.5), (-70, 2.0), (-99, 2.0)])
def test_curves_are_level_beyond_their_ends(x: float, y: float):
    assert interpolate(((-60, 1.0), (-70, 2.0)), x) == y


def test_a_poor_signal_costs_time_and_none_at_all_an_association():
    weak = air(rssi=[["0d", -60], ["1h", -90], ["2h", -100]])
    took = [weak.associate_ms(moment, cached=True) for moment in (0, scenarios.HOUR_MS, 2 * scenarios.HOUR_MS)]
    assert 0 < took[0] < took[1]
    assert took[2] == -3000
    assert weak.associate_ms(0, cached=False) == took[0] + 850


def test_faults_last_from_their_beginning_to_their_end():
    out = air(faults=[{"kind": "no-wifi", "from": "1h", "to": "2h"}])
    hour = scenarios.HOUR_MS
    answers = [out.associate_ms(moment, cached=True) > 0 for moment in (hour - 1, hour, 2 * hour - 1, 2 * hour)]
    assert answers == [True, False, False, True]


def test_a_lossy_link_breaks_its_share_of_sessions():
    lossy = air(faults=[{"kind": "lossy", "from": 0, "to": "1h", "share": 0.3}])
    broken = sum(lossy.breaks(moment) for moment in range(0, 1_000_000, 1000))
    assert 250 < broken < 350
    assert not any(lossy.breaks(scenarios.HOUR_MS + moment) for moment in range(0, 1_000_000, 1000))


def test_draws_depend_on_their_key_alone():
    assert draw(1, "a") == draw(1, "a") != draw(2, "a")
    assert 0.45 < sum(draw(n) for n in range(1000)) / 1000 < 0.55
