"""The two public sets the evaluation runs on, as files lie in their repositories: SKAB and the Numenta benchmark.

Unlike `data.parse` this takes what a benchmark holds: sensors that rest, labels per second, labels as spans of time.
"""

import csv
import hashlib
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_export.data import Series
from model_export.errors import ModelError

_NOT_SENSORS = ("datetime", "anomaly", "changepoint")


@dataclass(frozen=True, slots=True)
class Recording:
    """One file. values: float64 (rows, channels), finite; hours: float64 (rows,), since the first row; a
    series of the benchmark's has a row that is earlier than the one above.

    anomalous: bool (rows,), or None where spans: (first, last) hours of each labelled window say more.
    """

    name: str
    sha256: str
    channels: tuple[str, ...]
    values: npt.NDArray[np.float64]
    hours: npt.NDArray[np.float64]
    anomalous: npt.NDArray[np.bool_] | None
    spans: tuple[tuple[float, float], ...]

    def part(self, start: int, end: int) -> Series:
        """Rows [start, end) as training data."""
        return Series(self.name, self.sha256, self.channels, self.values[start:end], None)


def skab(folder: Path) -> list[Recording]:
    """Every recording below `folder`/skab that has labels, in order of name; empty when there is no such folder."""
    found = sorted((folder / "skab").rglob("*.csv"), key=lambda path: (path.parent.name, len(path.stem), path.stem))
    recordings = [_skab(path, str(path.relative_to(folder / "skab").with_suffix(""))) for path in found]
    return [recording for recording in recordings if recording.anomalous is not None]


def nab(folder: Path) -> list[Recording]:
    """Every series that `folder`/nab/windows.json names and that is there; empty when there is no such file."""
    index = folder / "nab" / "windows.json"
    if not index.is_file():
        return []
    try:
        spans = json.loads(index.read_bytes())
    except ValueError as error:
        raise ModelError("bad-data", f"{index} is no JSON: {error}") from None
    if not isinstance(spans, dict) or not all(_are_windows(windows) for windows in spans.values()):
        raise ModelError("bad-data", f"{index} is not {{series: [[first time, last time], ...]}} as in the benchmark")
    return [_nab(index.parent / name, windows) for name, windows in spans.items() if (index.parent / name).is_file()]


def _are_windows(given: Any) -> bool:
    return isinstance(given, list) and all(
        isinstance(window, list) and len(window) == 2 and all(isinstance(time, str) for time in window)
        for window in given
    )


def _skab(path: Path, name: str) -> Recording:
    raw, header, rows = _table(path, ";")
    if "anomaly" not in header:
        anomalous = None
    else:
        anomalous = _column(path, rows, header.index("anomaly"), "anomaly") > 0
    sensors = [column for column in header if column not in _NOT_SENSORS]
    values = np.column_stack([_column(path, rows, header.index(column), column) for column in sensors])
    hours = np.arange(len(rows)) / 3600.0
    return Recording(f"skab-{name}", _digest(raw), tuple(sensors), values, hours, anomalous, ())


def _nab(path: Path, windows: list[list[str]]) -> Recording:
    raw, header, rows = _table(path, ",")
    if header[:2] != ["timestamp", "value"]:
        raise ModelError("bad-data", f"{path} has the columns {', '.join(header)}: timestamp,value are expected")
    seconds = np.array([_seconds(path, row[0]) for row in rows])
    start = seconds[0]
    spans = tuple(((_seconds(path, a) - start) / 3600, (_seconds(path, b) - start) / 3600) for a, b in windows)
    values = _column(path, rows, 1, "value")[:, None]
    return Recording(path.stem, _digest(raw), ("value",), values, (seconds - start) / 3600, None, spans)


def _table(path: Path, delimiter: str) -> tuple[bytes, list[str], list[list[str]]]:
    raw = path.read_bytes()
    try:
        rows = [row for row in csv.reader(raw.decode("utf-8-sig").splitlines(), delimiter=delimiter) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ModelError("bad-data", f"{path} is no table of text in UTF-8: {error}") from None
    if len(rows) < 2:
        raise ModelError("bad-data", f"{path} has no rows below its header")
    header = rows.pop(0)
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ModelError("bad-data", f"{path}, line {line}: {len(row)} cells under a header of {len(header)}")
    return raw, header, rows


def _column(path: Path, rows: list[list[str]], at: int, name: str) -> npt.NDArray[np.float64]:
    try:
        values = np.array([float(row[at]) for row in rows])
    except ValueError as error:
        raise ModelError("bad-data", f"{path}, column {name!r}: {error}") from None
    if not np.isfinite(values).all():
        line = int(np.flatnonzero(~np.isfinite(values))[0]) + 2
        raise ModelError("bad-data", f"{path}, line {line}: column {name!r} is {values[line - 2]}: fill the gap")
    return values


def _seconds(path: Path, text: str) -> float:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ModelError("bad-data", f"{path}: {text!r} is no time") from None


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def sample_hours(recording: Recording) -> float:
    """The usual time between two rows, hours."""
    step = float(np.median(np.diff(recording.hours)))
    return step if step > 0 and math.isfinite(step) else 1.0
