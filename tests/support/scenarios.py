"""Small scenarios for tests: one group of boards whose flow stands still unless something is done to it."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.scenario import board, schema, signals
from tools.scenario.program import Program, beside
from tools.scenario.results import Result, summarize
from tools.scenario.schema import Scenario

SAMPLE_MS = 3750
INTERVAL_MS = 16 * SAMPLE_MS
HOUR_MS = 3_600_000

_GROUP: dict[str, Any] = {
    "name": "pump",
    "schema": "v1;w=16;c=flow:l/s:100;f=mean,max,min",
    "sample": SAMPLE_MS,
    "limits": {"flow.max": [0, 1800], "flow.min": [600, 9999]},
    "wake_on": {"channel": "flow", "above": 18.0, "below": 6.0},
    "signal": {"flow": {"mean": 12.0, "noise": 0.1}},
    "settings": {"sync_interval_ms": "15m"},
}
BURST = {"kind": "step", "channel": "flow", "at": "31m", "for": "5m", "size": 9.0}


def tables(duration: str = "2h", faults: list[dict[str, Any]] | None = None, **group: Any) -> dict[str, Any]:
    """The tables of a scenario with one board, pump-1, and the firmware as its only policy."""
    given = copy.deepcopy(_GROUP) | group
    return {
        "name": "test",
        "duration": duration,
        "seed": 5,
        "group": [given],
        "policy": [{"name": "Edgewise"}],
        "fault": faults or [],
    } | ({} if faults else {"fault": [{"kind": "broker-down", "from": "300d", "to": "300d"}]})


def with_injections(*injections: dict[str, Any]) -> dict[str, Any]:
    """The signal of a group in which these happen."""
    return {"flow": {"mean": 12.0, "noise": 0.1}, "inject": list(injections)}


def make(duration: str = "2h", faults: list[dict[str, Any]] | None = None, **group: Any) -> Scenario:
    """The scenario of tables()."""
    return schema.parse(tables(duration, faults, **group), Path())


def live(
    scenario: Scenario, folder: Path, policy: int = 0, restart_after: int = 5000, program: Program | None = None
) -> tuple[board.Run, Result]:
    """The first board of a scenario under one of its policies; program: by default the one that need not be built."""
    group, name = scenario.boards[0]
    played = signals.play(group, name, scenario.duration_ms, scenario.seed)
    found = board.run(
        scenario, scenario.policies[policy], group, name, played, folder / name, program or beside(), restart_after
    )
    return found, summarize(scenario, group, played, found)


def as_printed(run: board.Run) -> board.Run:
    """The run with its scores to 12 digits, which every MicroPython prints alike."""
    wakes = [copy.deepcopy(wake) for wake in run.wakes]
    for wake in wakes:
        if "verdict" in wake.found:
            wake.found["verdict"] = [float(f"{value:.12g}") for value in wake.found["verdict"]]
    return replace(run, wakes=wakes)
