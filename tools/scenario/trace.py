"""What a board did, wake by wake, in a file that a policy can be replayed over: JSON, compressed, columns side by side.

Written by the simulator, and from the records of a real board (recorded.py). Times are ms since the scenario began.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract import merge

if TYPE_CHECKING:  # a replay needs no board, nor the database of a board's cloud
    from tools.scenario.board import Run
    from tools.scenario.schema import Group, Policy, Scenario

FORMAT = "edgewise trace 1"
COLUMNS = (
    "at_ms",  # the wake's first line
    "cause",  # wire.WAKE_*
    "awake_ms",
    "radio_ms",
    "slept_ms",
    "energy_uj",
    "battery_mv",
    "rssi",
    "rows",  # samples recorded
    "events",  # noted
    "queries",
    "score",
    "threshold",
    "route",  # wire.ROUTE_*, -1: not scored
    "why",
    "margin",
    "sync",  # policy.SYNC_*
    "session",  # 0 none, 1 it worked, -1 it failed
    "tx_bytes",
    "rx_bytes",
    "flash_bytes",
    "ring_bytes",  # held in RTC memory as the board went to sleep
    "link_ms",  # what an association in this wake takes, negative for one that fails
    "reach",  # what a session then meets, world.REACH_*
)
MAX_WAKES = 5_000_000


class TraceError(ValueError):
    """A file that is no trace, or one that contradicts itself; the message says where and what to do."""


@dataclass(frozen=True)
class Trace:
    """One board's. rates: nanojoule of a ms awake, with the radio on, asleep, of a byte of flash, and of a boot;
    columns: lists of the same length, by the names in COLUMNS."""

    board: str
    policy: str
    interval_ms: int
    duration_ms: int
    seed: int
    cpu_ms: int
    settings: dict[str, Any]
    rates: list[float]
    columns: dict[str, list[Any]]


def file_name(policy: str, board: str) -> str:
    """Of a trace, from what a policy and a board are called."""
    return f"{re.sub('[^a-z0-9]+', '-', policy.lower()).strip('-')}-{board}.json.gz"


def write(path: Path, scenario: Scenario, policy: Policy, group: Group, run: Run) -> None:
    """The trace of one run."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    before: dict[int, list[int]] = {}
    for wake in run.wakes:
        found = wake.found
        made = found["made"] if isinstance(found["made"], list) else [0, 0, 0, 0, found["made"]]
        known = before.get(found.get("epoch", 0), [0] * len(made))
        before[found.get("epoch", 0)] = made
        session = found.get("session", (0, 0, 0, 0))
        awake_ms, radio_ms, slept_ms, flash_bytes = found["spent"]
        verdict = found.get("verdict", (0.0, 0.0, -1, 0, 0.0))
        row = (
            *(wake.at_ms, wake.cause, awake_ms, radio_ms, slept_ms, sum(wake.energy_uj), wake.battery_mv, wake.rssi),
            *(made[-1] - known[-1], made[0] - known[0], made[1] - known[1], *verdict),
            found.get("sync", 0),
            0 if not session[0] else -1 if session[1] >= session[0] else 1,
            *(session[2], session[3], flash_bytes, found.get("ring", 0), wake.link_ms, wake.reach),
        )
        for name, value in zip(COLUMNS, row, strict=True):
            columns[name].append(value)
    given = dict(group.settings) | dict(policy.settings)
    whole = Trace(
        board=run.board,
        policy=policy.name,
        interval_ms=group.interval_ms,
        duration_ms=scenario.duration_ms,
        seed=scenario.seed,
        cpu_ms=group.cpu_ms,
        settings=settings(given),
        rates=run.rates,
        columns=columns,
    )
    save(path, whole)


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a trace, from those that are given."""
    return {key: merge.value(given, key) for key in merge.KEYS if key != "interval_ms"}


def save(path: Path, trace: Trace) -> None:
    """Write a trace."""
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(json.dumps({"format": FORMAT} | vars(trace)).encode())


def read(path: Path) -> Trace:
    """A trace, checked. Raises TraceError."""
    try:
        given: Any = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise TraceError(f"{path}: {error}. Give a trace that `edgewise sim scenario` wrote") from None
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        raise TraceError(f"{path} does not say {FORMAT!r}: write it anew with `edgewise sim scenario`")
    try:
        head = {name: given[name] for name in Trace.__dataclass_fields__}
    except KeyError as error:
        raise TraceError(f"{path} has no {error.args[0]}: write it anew with `edgewise sim scenario`") from None
    for name in ("interval_ms", "duration_ms", "seed", "cpu_ms"):
        if not isinstance(head[name], int) or head[name] < (name in ("interval_ms", "duration_ms")):
            raise TraceError(f"{path}: {name} must be a whole number, is {head[name]!r}")
    wrong = merge.check(head["settings"]) if isinstance(head["settings"], dict) else [("settings", "must be a table")]
    if wrong:
        raise TraceError(f"{path}: {wrong[0][0]} {wrong[0][1]}")
    if len(head["rates"]) != 5 or not all(isinstance(rate, int | float) and rate >= 0 for rate in head["rates"]):
        raise TraceError(f"{path}: rates must be five numbers, are {head['rates']!r}")
    columns = head["columns"]
    lengths = {len(columns.get(name, ())) for name in COLUMNS}
    if len(lengths) != 1 or not 0 < lengths.copy().pop() <= MAX_WAKES:
        raise TraceError(f"{path}: its columns must be {', '.join(COLUMNS)}, all of the same length and not empty")
    for name in COLUMNS:
        if not all(isinstance(value, int | float) for value in columns[name]):
            raise TraceError(f"{path}: column {name} must hold numbers only")
    moments = columns["at_ms"]
    if any(later <= earlier for earlier, later in pairwise(moments)):
        raise TraceError(f"{path}: at_ms must rise from wake to wake")
    return Trace(**head)
