"""`edgewise sim`: boards without a board, for a desk and for continuous integration."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from contract import wire
from device.board import CLOCK_START_MS
from model_export import data, keys, windows
from model_export.errors import ModelError
from tools.firmware import CompileFailed
from tools.provision import BoardPlan, Broker, ProvisioningError, make_board, read_login
from tools.simulate import BoardFailed, SimulatedBoard, supervised

_DAY_MS = 86_400_000


@click.group()
def sim() -> None:
    """Make and run simulated boards: the real firmware under MicroPython, one process per wake."""


@sim.command("new")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--login", type=click.File("rb"), required=True, help="What `edgewise device add` printed; - for stdin.")
@click.option("--series", required=True, help="What its sensor measures: water-flow, shuttle, or a CSV file.")
@click.option("--columns", help="Channels of a CSV file, separated by commas; by default every numeric column.")
@click.option("--label", help="Column of a CSV file with labels, which the board does not see.")
@click.option("--schema", help="Feature schema; by default the one `edgewise model train` gives the same series.")
@click.option("--skip", type=click.FloatRange(0, 1, max_open=True), default=0.0, help="Share of the series before.")
@click.option("--sample-ms", type=click.IntRange(1, _DAY_MS), default=1000, show_default=True, help="Between samples.")
@click.option("--sync-ms", type=click.IntRange(1000, _DAY_MS), default=600_000, show_default=True)
@click.option("--trust", multiple=True, help="Name of a publisher key (`edgewise keys new`) whose models it takes.")
@click.option("--keys", "key_folder", type=click.Path(path_type=Path), help="Folder with publisher keys.")
def new(
    folder: Path,
    login: Any,
    series: str,
    columns: str | None,
    label: str | None,
    schema: str | None,
    skip: float,
    sample_ms: int,
    sync_ms: int,
    trust: tuple[str, ...],
    key_folder: Path | None,
) -> None:
    """Make FOLDER a board that was never switched on. It wakes once per window of samples."""
    try:
        given = read_login(login.read())
        recorded = data.load(series, tuple(columns.split(",")) if columns else (), label)
        preset = data.PRESETS.get(series)
        text = schema or (preset.schema if preset and not columns else windows.schema_for(recorded, 16))
        features = windows.parse_schema(text)
        rows = windows.to_counts(recorded, features)[int(len(recorded.values) * skip) :]
        publishers = [keys.load(key_folder or keys.default_directory(), name) for name in trust]
        plan = BoardPlan(
            device=given["device"],
            kind=given["kind"],
            schema=text,
            interval_ms=features.window * sample_ms,
            broker=Broker(**given["broker"]),
            trusted_keys={key.key_id.hex(): key.public.hex() for key in publishers},
            settings={"sync_interval_ms": sync_ms},
            first_epoch=given["first_epoch"],
        )
        make_board(folder, plan, rows.tolist(), sample_ms)
    except FileExistsError:
        raise click.ClickException(f"{folder} exists: name a new folder, a board is never overwritten") from None
    except (ModelError, keys.PublisherKeyError, ProvisioningError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{folder}: {given['device']}, {len(rows)} samples, {text}")


@sim.command("run")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--wakes", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="Of every board.")
@click.option("--speed", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Sleep faster.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(folders: tuple[Path, ...], wakes: int, speed: float, as_json: bool) -> None:
    """Let boards wake and sleep; ends with status 1 when one ends otherwise than in deep sleep."""
    try:
        boards = asyncio.run(_run(folders, wakes, speed))
    except FileNotFoundError as error:
        raise click.ClickException(f"{error.filename} is missing: make the board with `edgewise sim new`") from None
    except (BoardFailed, CompileFailed) as error:
        raise click.ClickException(str(error)) from None
    found = [_figures(board) for board in boards]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table("board", "wakes", "hangs", "clock s", "CPU ms a wake", "woken by", box=None)
    for board in found:
        causes = ", ".join(f"{name} {count}" for name, count in board["woken_by"].items())
        cells = (board["wakes"], board["hangs"], board["clock_ms"] // 1000, f"{board['cpu_ms_per_wake']:.1f}")
        table.add_row(board["device"], *map(str, cells), causes)
    Console(width=None if sys.stdout.isatty() else 100).print(table)


async def _run(folders: tuple[Path, ...], wakes: int, speed: float) -> list[SimulatedBoard]:
    async with supervised(folders, speed) as boards:
        async with asyncio.TaskGroup() as tasks:
            for board in boards:
                tasks.create_task(board.run(wakes=wakes))
        return boards


def _figures(board: SimulatedBoard) -> dict[str, Any]:
    totals = board.totals
    return {
        "device": board.device,
        "wakes": totals.wakes,
        "hangs": totals.hangs,
        "clock_ms": board.last.clock_ms - CLOCK_START_MS if board.last else 0,  # since it was first switched on
        "cpu_ms_per_wake": 1000 * totals.cpu_s / max(1, totals.wakes),
        "woken_by": {wire.WAKE_NAMES[cause]: count for cause, count in sorted(totals.by_cause.items())},
    }
