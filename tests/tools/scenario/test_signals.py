"""What a sensor gives: repeatable, and changed exactly where the scenario says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import scenarios
from tools.scenario import signals
from tools.scenario.checks import ScenarioError

SAMPLES_AN_HOUR = scenarios.HOUR_MS // scenarios.SAMPLE_MS


def play(board: str = "pump-1", **group: Any) -> signals.Played:
    scenario = scenarios.make(boards=["pump-1", "pump-2"], **group)
    return signals.play(scenario.groups[0], board, scenario.duration_ms, scenario.seed)


def test_same_seed_same_samples_and_another_board_others():
    assert np.array_equal(play().counts, play().counts)
    assert not np.array_equal(play().counts, play("pump-2").counts)


@pytest.mark.parametrize(
    ("kind", "extra", "difference"),
    [
        ("step", {"for": "1m", "size": 5.0}, [500] * 16),
        ("spike", {"size": 5.0}, [500] + [0] * 15),
        ("drift", {"for": "1m", "size": 16.0}, [100 * (n + 1) for n in range(16)]),
    ],
)
def test_an_injection_changes_its_samples_and_no_other(kind: str, extra: dict[str, Any], difference: list[int]):
    injected = play(signal=scenarios.with_injections({"kind": kind, "channel": "flow", "at": "1h", **extra}))
    apart = (injected.counts - play().counts)[:, 0]
    first = SAMPLES_AN_HOUR
    assert np.abs(apart[first : first + 16] - difference).max() <= 1  # both are rounded
    assert not apart[:first].any()
    assert not apart[first + 16 :].any()
    assert injected.anomalies[0].first == first


def test_a_stuck_sensor_repeats_the_sample_before():
    stuck = play(signal=scenarios.with_injections({"kind": "stuck", "channel": "flow", "at": "1h", "for": "1m"})).counts
    assert len(set(stuck[SAMPLES_AN_HOUR - 1 : SAMPLES_AN_HOUR + 16, 0])) == 1


def test_injections_come_again_for_the_boards_they_are_for():
    burst = scenarios.BURST | {"every": "30m", "boards": ["pump-1"]}
    played = play(signal=scenarios.with_injections(burst))
    moments = [anomaly.first * scenarios.SAMPLE_MS // 60_000 for anomaly in played.anomalies]
    assert moments == [31, 61, 91]
    assert [at * scenarios.SAMPLE_MS // 60_000 for at in played.crossings] == moments
    assert play("pump-2", signal=scenarios.with_injections(burst)).anomalies == ()


def test_a_csv_file_is_played_from_the_start_again_when_it_ends(tmp_path: Path):
    (tmp_path / "flow.csv").write_text("flow\n" + "\n".join(str(n % 7) for n in range(70)) + "\n")
    counts = play(signal={"series": str(tmp_path / "flow.csv")}).counts
    assert counts[:7, 0].tolist() == [0, 100, 200, 300, 400, 500, 600]
    assert np.array_equal(counts[:70], counts[70:140])


def test_a_series_that_does_not_fit_is_refused(tmp_path: Path):
    (tmp_path / "two.csv").write_text("a,b\n" + "\n".join(f"{n % 7},{n % 5}" for n in range(40)) + "\n")
    with pytest.raises(ScenarioError, match=r"signal.series: .*1 channels, the data 2"):
        play(signal={"series": str(tmp_path / "two.csv")})
    with pytest.raises(ScenarioError, match=r"signal.series: none.csv: No such file"):
        play(signal={"series": "none.csv"})
