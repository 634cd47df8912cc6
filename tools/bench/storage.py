"""The board's memory: flash written per record, readings that fit in RTC memory, opening a full outbox."""

import json
import math
import os
import random
import subprocess
from pathlib import Path
from typing import Any

from tools.bench import Row
from tools.firmware import ROOT, program

ON_BOARD = Path(__file__).with_name("_storage_on_board.py")
BATCHES = (16, 32, 64, 128)
ROWS = 2600  # more than fit of any series


def run() -> list[Row]:
    figures = _measure()
    outbox, one, many = figures["outbox"], figures["one chain"], figures["file per commit"]
    full, state = figures["full"], figures["state"]
    rows = [
        Row("payload of a record", outbox["payload"], "B"),
        Row("flash programmed per record", outbox["programmed"], "B", "one chain", one["programmed"]),
        Row("", outbox["programmed"], "B", "a file per commit", many["programmed"]),
        Row("flash programmed per byte of payload", outbox["programmed"], "B", "payload", outbox["payload"]),
        Row("erases per record", outbox["erases"], "", "one chain", one["erases"], "wear"),
        Row("", outbox["erases"], "", "a file per commit", many["erases"]),
        Row("most blocks in use", outbox["blocks"], "", "one chain", one["blocks"]),
        Row("", outbox["blocks"], "", "a file per commit", many["blocks"]),
        Row("store an A/B record of 40 bytes", figures["record 40"]["programmed"], "B programmed"),
        Row("", figures["record 40"]["erases"], "erases", "200 bytes", figures["record 200"]["erases"]),
        Row(
            f"open an outbox of {full['records']} records", full["open_ms"], "ms", "list its directory", full["list_ms"]
        ),
        Row("read all of them", full["read_ms"], "ms", "read its files", full["files_ms"]),
        Row("load RTC memory", state["load_ms"], "ms", "store", state["store_ms"]),
    ]
    fits = {(name, batch): count for name, batch, count in figures["fits"]}
    for name, _, _ in _series():
        for batch in BATCHES:
            aim = ">= 200" if name.startswith("8") and batch == 64 else ""
            what = f"readings that fit: {name}" if batch == BATCHES[0] else ""
            rows.append(Row(what, fits[name, batch], f"in batches of {batch}", aim=aim))
    return rows


def _series() -> list[tuple[str, int, list[int]]]:
    """(name, channels, values row by row): slow waves with noise, in counts; the same on every machine."""
    return [
        (f"{cols} channels, noise of {noise} counts", cols, _waves(cols, noise)) for cols in (1, 8) for noise in (2, 8)
    ]


def _waves(cols: int, noise: float) -> list[int]:
    chance = random.Random(1)
    return [
        round(2000 + 500 * math.sin(row / 40 + channel) + chance.gauss(0, noise))
        for row in range(ROWS)
        for channel in range(cols)
    ]


def _measure() -> dict[str, Any]:
    series = [{"name": name, "cols": cols, "values": values} for name, cols, values in _series()]
    path = os.pathsep.join(str(ROOT / part) for part in ("firmware", "tests/device/storage"))
    ran = subprocess.run(
        [program("micropython"), "-X", "heapsize=8m", str(ON_BOARD)],
        input=json.dumps({"series": series, "batches": BATCHES}).encode(),
        env=os.environ | {"MICROPYPATH": f"{path}:.frozen"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    return json.loads(ran.stdout)
