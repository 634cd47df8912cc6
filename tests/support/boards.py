"""Boards for tests: a recording whose row n says that it is row n, and how to make, wake and question them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract import wire
from tools.provision import BoardPlan, Broker, make_board
from tools.simulate import SimulatedBoard

SCHEMA = "v1;w=16;c=flow:l/s:100,count:rows:1;f=mean,var,min,max,ld,zc"
WINDOW = 16
SAMPLE_MS = 1000
INTERVAL_MS = WINDOW * SAMPLE_MS
SPEED = 2000.0
CALM = 1000
LIMITS = {"flow.max": [0, 2 * CALM]}  # of the SAFE model


def recording(rows: int, anomalies: tuple[range, ...] = ()) -> list[list[int]]:
    """Rows (flow, row number): flow wavers about CALM, and is ten times as high in `anomalies`."""
    return [[10 * CALM if any(n in span for span in anomalies) else CALM + n * 7 % 50, n] for n in range(rows)]


def make(
    folder: Path,
    port: int,
    rows: list[list[int]] | None = None,
    settings: Mapping[str, Any] | None = None,
    world: Mapping[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A board of this file's schema named like its folder; `config` goes into config.json as it is."""
    plan = BoardPlan(
        folder.name,
        "pump",
        SCHEMA,
        INTERVAL_MS,
        Broker(port),
        settings={"sync_interval_ms": 4 * INTERVAL_MS, "syncs_per_hour": 3600} | dict(settings or {}),
        log=True,
    )
    made = make_board(folder, plan, rows or recording(5000), SAMPLE_MS, world)
    path = made / "flash" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"limits": LIMITS} | config))
    return made


def samples_taken(board: SimulatedBoard) -> int:
    """Rows a board has measured: a window at every timer wake."""
    return WINDOW * board.totals.by_cause.get(wire.WAKE_TIMER, 0)


async def press(board: SimulatedBoard, times: int = 1) -> None:
    """Press the board's button: it syncs in that wake, unless its breaker is open."""
    for _ in range(times):
        board.call()
        await board.run(wakes=1)


def faults(health: Any) -> dict[str, int]:
    """The faults a HEALTH record counts, by name."""
    return {wire.FAULT_NAMES[fault]: count for fault, count in health.errors}
