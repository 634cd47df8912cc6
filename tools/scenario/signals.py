"""What a board's sensor gives, sample by sample, for the whole of a scenario; and when each anomaly shows in it."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from contract.features import COUNT_LIMIT, Features
from model_export import data, windows
from model_export.errors import ModelError
from tools.scenario.checks import ScenarioError
from tools.scenario.schema import Group, Injection, Signal, WakeOn

Counts = np.ndarray[Any, np.dtype[np.int32]]
Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Anomaly:
    """One injected fault of the machine: the samples first..last are not what they would have been."""

    kind: str
    channel: str
    first: int
    last: int


@dataclass(frozen=True)
class Played:
    """counts: int32 (samples, channels); anomalies in order of time; crossings: samples at which the ULP would wake."""

    counts: Counts
    anomalies: tuple[Anomaly, ...]
    crossings: tuple[int, ...]


def play(group: Group, board: str, duration_ms: int, seed: int) -> Played:
    """The samples of one board, number 0 at the start; repeatable by `seed`. Raises ScenarioError."""
    features = Features(group.schema)
    samples = duration_ms // group.sample_ms + 2 * features.window
    names = [channel.name for channel in features.channels]
    random = np.random.default_rng([seed, zlib.crc32(board.encode())])
    values = _source(group.signal, group.schema, names, samples, group.sample_ms, random)
    anomalies: list[Anomaly] = []
    for injection in group.signal.injections:
        if board in injection.boards:
            column = values[:, names.index(injection.channel)]
            anomalies += _inject(column, injection, group.sample_ms, duration_ms // group.sample_ms)
    scale = np.array([channel.scale_num / channel.scale_den for channel in features.channels])
    counts = np.clip(np.rint(values * scale), -COUNT_LIMIT, COUNT_LIMIT).astype(np.int32)
    crossings = () if group.wake_on is None else _crossings(values, names, group.wake_on)
    return Played(counts, tuple(sorted(anomalies, key=lambda anomaly: anomaly.first)), crossings)


def _source(
    signal: Signal, schema: str, names: list[str], samples: int, sample_ms: int, random: np.random.Generator
) -> Values:
    if signal.series is not None:
        try:
            series = data.load(signal.series, signal.columns)
            windows.to_counts(series, windows.parse_schema(schema))  # refuses another number of channels
        except ModelError as error:
            raise ScenarioError(f"signal.series: {error}") from None
        times = -(-samples // len(series.values))
        return np.tile(series.values, (times, 1))[:samples].copy()
    moments = np.arange(samples) * sample_ms
    columns = []
    for name in names:
        wave = signal.waves[name]
        column = wave.mean + wave.amplitude * np.sin(2 * np.pi * moments / wave.period_ms)
        columns.append(column + wave.noise * random.standard_normal(samples))
    return np.column_stack(columns)


def _inject(column: Values, injection: Injection, sample_ms: int, end: int) -> list[Anomaly]:
    """Change one channel in place; an injection whose first sample is beyond the end does not happen."""
    found: list[Anomaly] = []
    at_ms = injection.at_ms
    while True:
        first = -(-at_ms // sample_ms)
        length = max(1, injection.for_ms // sample_ms)
        if first >= end:
            return found
        part = column[first : first + length]
        match injection.kind:
            case "step":
                part += injection.size
            case "spike":
                part[0] += injection.size
            case "drift":
                part += injection.size * np.arange(1, len(part) + 1) / len(part)
            case _:
                part[:] = column[max(0, first - 1)]
        last = first if injection.kind == "spike" else first + len(part) - 1
        found.append(Anomaly(injection.kind, injection.channel, first, last))
        if not injection.every_ms:
            return found
        at_ms += injection.every_ms


def _crossings(values: Values, names: list[str], wake_on: WakeOn) -> tuple[int, ...]:
    column = values[:, names.index(wake_on.channel)]
    outside = (column < wake_on.low) | (column > wake_on.high)
    return tuple(int(at) for at in np.flatnonzero(outside & ~np.concatenate(([False], outside[:-1]))))
