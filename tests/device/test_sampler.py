"""device/sampler.py over device/sensors/replay.py: windows of a real recording file."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.micropython import evaluate
from tools.provision import write_recording

CHANNELS = "flow:l/s:100,temp:degC:10"
ROWS = [[n, -1000 * n] for n in range(10)]


def sampler(folder: Path, code: str, schema: str = f"v1;w=4;c={CHANNELS};f=mean") -> Any:
    return evaluate(
        f"""
from contract.features import Features
from device.files import Files
from device.sampler import Sampler
from device.sensors import open_sensor
class Board:
    root = {str(folder)!r}
features = Features({schema!r})
sampler = Sampler(open_sensor({{"driver": "replay", "file": "recording.bin"}}, Files, Board, features), features)
{code}
"""
    )


def test_a_window_holds_the_samples_from_its_first_number_on(tmp_path: Path):
    write_recording(tmp_path / "recording.bin", CHANNELS, 250, ROWS)
    code = "sampler.take(3, None, 100_000, None)\nresult = [list(sampler.window), sampler.times_ms, sampler.row(1)]"
    window, times, row = sampler(tmp_path, code)
    assert window == [value for n in range(3, 7) for value in ROWS[n]]
    assert times == [99_250, 99_500, 99_750, 100_000]
    assert row == ROWS[4]


def test_a_wake_that_comes_early_gets_the_newest_rows_and_knows_which_are_new(tmp_path: Path):
    write_recording(tmp_path / "recording.bin", CHANNELS, 250, ROWS)
    code = "sampler.take(5, %d, 100_000, None)\nresult = [list(sampler.window)[::2], sampler.fresh]"
    assert sampler(tmp_path, code % 490) == [[3, 4, 5, 6], 2]
    assert sampler(tmp_path, code % 100) == [[1, 2, 3, 4], 0]
    assert sampler(tmp_path, code % 5000) == [[5, 6, 7, 8], 4]


def test_a_recording_that_ends_begins_again(tmp_path: Path):
    write_recording(tmp_path / "recording.bin", CHANNELS, 250, ROWS)
    counts = sampler(tmp_path, "sampler.take(88, None, 0, None)\nresult = list(sampler.window)")[::2]
    assert counts == [8, 9, 0, 1]


def test_a_window_longer_than_the_recording_repeats_it(tmp_path: Path):
    write_recording(tmp_path / "recording.bin", CHANNELS, 250, ROWS[:3])
    schema = f"v1;w=8;c={CHANNELS};f=mean"
    assert sampler(tmp_path, "sampler.take(1, None, 0, None)\nresult = list(sampler.window)", schema)[::2] == [
        1,
        2,
        0,
        1,
        2,
        0,
        1,
        2,
    ]


def test_other_channels_than_the_schemas_are_refused(tmp_path: Path):
    write_recording(tmp_path / "recording.bin", "flow:l/s:10,temp:degC:10", 250, ROWS)
    with pytest.raises(RuntimeError, match="the sensor gives flow:l/s:10,temp:degC:10, the schema wants flow:l/s:100"):
        sampler(tmp_path, "result = 0")


@pytest.mark.parametrize("size", [0, 5, 16, 30])
def test_a_cut_recording_is_a_sensor_fault(tmp_path: Path, size: int):
    write_recording(tmp_path / "recording.bin", CHANNELS, 250, ROWS)
    (tmp_path / "recording.bin").write_bytes((tmp_path / "recording.bin").read_bytes()[:size])
    with pytest.raises(RuntimeError, match=r"(SensorError|ConfigError): .*recording\.bin|the sensor gives"):
        sampler(tmp_path, "sampler.take(0, None, 0, None)\nresult = 0")


def test_rows_missing_at_the_end_are_a_sensor_fault(tmp_path: Path):
    write_recording(tmp_path / "recording.bin", CHANNELS, 250, ROWS)
    (tmp_path / "recording.bin").write_bytes((tmp_path / "recording.bin").read_bytes()[:-4])
    with pytest.raises(RuntimeError, match="shorter than its header says"):
        sampler(tmp_path, "sampler.take(8, None, 0, None)\nresult = 0")
