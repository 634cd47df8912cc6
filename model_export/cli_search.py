"""`edgewise model search`: which detector suits a series, and what each would cost a board."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model_export.cli import explained

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.group("model")
def model() -> None:
    """Train, export and publish models."""


@model.command()
@click.option("--data", "source", required=True, help="water-flow, shuttle, or a CSV file.")
@click.option("--out", "folder", type=click.Path(path_type=Path), help="Folder for report, charts and best model.")
@click.option("--columns", help="Channels, separated by commas; by default every numeric column.")
@click.option("--label", help="Column with 1 or true in anomalous rows.")
@click.option("--window", type=click.IntRange(1, 256), default=16, show_default=True, help="Samples in a window.")
@click.option("--detectors", "names", help="Those to try, separated by commas; by default all.")
@click.option("--train-part", type=_SHARE, default=0.4, show_default=True)
@click.option("--held-out-part", type=_SHARE, default=0.3, show_default=True, help="Sets thresholds; the rest tests.")
@click.option(
    "--false-alarms", type=click.FloatRange(0, 0.5, min_open=True), default=0.01, show_default=True, help="Target."
)
@click.option("--budget-bytes", type=click.IntRange(1), help="Leave out larger models (bytes of the x64 module).")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def search(
    source: str,
    folder: Path | None,
    columns: str | None,
    label: str | None,
    window: int,
    names: str | None,
    budget_bytes: int | None,
    as_json: bool,
    **plan: Any,
) -> None:
    """Try detectors, settings and features on a series, best first.

    With labels in its last part, quality is the average precision there. Without, it is the recall of synthetic faults
    less false alarms in that part, all of it taken for normal. --out writes report.html, charts and the best model.
    """
    from model_export import data, report
    from model_export import search as searching
    from model_export.errors import ModelError

    with explained():
        if plan["train_part"] + plan["held_out_part"] >= 1:
            raise ModelError("bad-data", "--train-part and --held-out-part leave nothing to test on: below 1 together")
        series = data.load(source, tuple(columns.split(",")) if columns else (), label)
        tried = searching.candidates(series.labels is not None, window, names.split(",") if names else ())
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
            task = progress.add_task("Trying", total=len(tried))
            outcome = searching.search(series, tried, window, plan, budget_bytes, lambda: progress.advance(task))
        written = report.write(outcome, series, folder) if folder else None
    if as_json:
        click.echo(json.dumps(report.summary(outcome)))
        return
    _show(outcome)
    if written:
        click.echo(f"{written}, charts beside it, and the best model in {written.parent / 'model'}")


def _show(outcome: Any) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=120)
    if outcome.labelled:
        quality = "Quality: average precision on the labels of the test part"
    else:
        quality = (
            "No labels to test on. Quality: recall of synthetic faults less false alarms, all else taken for normal"
        )
    table = Table(title=quality, title_justify="left")
    for name in ("", "detector", "settings", "features", "quality", "false alarms", "recall", "bytes", "operations"):
        numeric = name in ("quality", "false alarms", "recall", "bytes", "operations")
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for one, on_front in zip(outcome.found, outcome.on_front, strict=True):
        table.add_row(
            "*" if on_front else "",
            one.candidate.detector,
            " ".join(f"{name}={value}" for name, value in one.candidate.described.items()),
            ",".join(one.candidate.tokens),
            f"{one.quality:.3f}",
            f"{one.false_alarms:.1%}",
            f"{one.recall:.1%}",
            str(one.bytes),
            str(one.cost.operations),
        )
    console.print(table)
    console.print("* no other is better in quality, bytes (x64) and operations (counted, not measured) at once")
    for candidate, reason in outcome.refused:
        console.print(f"left out: {candidate.detector} on {','.join(candidate.tokens)}: {reason}", style="dim")
