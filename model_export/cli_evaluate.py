"""`edgewise evaluate`: what the compiled models reach on public recordings, beside what others reach."""

import json
import sys
import tempfile
from collections import Counter
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model_export.cli import explained

# Measured with the same protocol on SKAB valve1; on the set's own leaderboard and in Numenta's repository by others.
SKAB_REFERENCES = (
    ("EllipticEnvelope, q .99", 0.82, 0.303, 0.126),
    ("full-covariance Gaussian, max + 3 IQR", 0.81, 0.197, 0.195),
    ("IsolationForest on 10-s means", 0.42, 0.160, None),
    ("Conv-AE, best of the leaderboard, all files", 0.78, 0.136, 0.280),
)
NAB_REFERENCES = (
    ("GMM-3 diagonal, eight series", 14, 18, 60),
    ("Random Cut Forest, published, eight series", 13, 18, 5),
    ("ARTime, published, eight series", 17, 18, 35),
)


@click.command()
@click.option(
    "--data",
    "folder",
    required=True,
    envvar="EDGEWISE_DATA",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with skab/ and nab/; by default $EDGEWISE_DATA.",
)
@click.option("--only", type=click.Choice(["skab", "nab"]), help="One of the two sets.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many files of each set.")
@click.option("--sensitivity", is_flag=True, help="Instead, judge each file by the setting that the others choose.")
@click.option("--json", "as_json", is_flag=True)
def evaluate(folder: Path, only: str | None, limit: int | None, sensitivity: bool, as_json: bool) -> None:
    """Score SKAB and Numenta recordings by compiled models under MicroPython.

    Each file's first part trains a model; it is exported as for a board, with its parity proof, and scores all that
    follows. Settings are fixed, thresholds come from the training part. docs/evaluation.md says what is counted.
    """
    from model_export import evaluate_data as sets
    from model_export.errors import ModelError

    with explained():
        skab = sets.skab(folder)[:limit] if only != "nab" else []
        nab = sets.nab(folder)[:limit] if only != "skab" else []
        if not skab and not nab:
            raise ModelError("bad-data", f"{folder} holds neither skab/**.csv nor nab/windows.json: give their parent")
        report = _sensitivity(skab, nab) if sensitivity else _evaluate(skab, nab)
    if as_json:
        click.echo(json.dumps(report))
        return
    # On a terminal as wide as it is; in a file or a pipe wide enough for every name.
    console = Console() if sys.stdout.isatty() else Console(width=110)
    if sensitivity:
        _print_sensitivity(console, report)
        return
    if skab:
        _print_skab(console, report["skab"])
    if nab:
        _print_nab(console, report["nab"])


def _evaluate(skab: list[Any], nab: list[Any]) -> dict[str, Any]:
    from model_export import evaluate as runs
    from model_export import evaluate_recipe as recipe
    from model_export import keys

    report: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="edgewise-evaluate-") as work,
        Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress,
    ):
        task = progress.add_task("Scoring", total=2 * len(skab) + len(nab))
        score = runs.compiled(keys.create(Path(work), "evaluation"))
        if skab:
            report["skab"] = {}
        for setting in (recipe.BALANCED, recipe.LOW_ALARM) if skab else ():
            results = []
            for recording in skab:
                results.append(runs.skab(recording, setting, score))
                progress.advance(task)
            report["skab"][setting.name] = {
                "spreads": setting.spreads,
                "files": {result.name: _rates(result.counts) for result in results},
                "all": _rates(reduce(add, [result.counts for result in results])),
            }
        outcomes = []
        for recording in nab:
            outcomes.append(runs.nab(recording, recipe.NAB_SETTING, score))
            progress.advance(task)
    if outcomes:
        report["nab"] = {
            "spreads": recipe.NAB_SETTING.spreads,
            "series": {
                outcome.name: {
                    "window": outcome.window,
                    "labelled": outcome.labelled,
                    "retrained_at": outcome.retrained_at,
                    "frozen": _counts(outcome.frozen),
                    "one_retrain": _counts(outcome.retrained),
                    "benchmark": _scores(outcome.told, outcome.each_row),
                }
                for outcome in outcomes
            },
            "labelled": sum(outcome.labelled for outcome in outcomes),
            "frozen": _counts(reduce(add, [outcome.frozen for outcome in outcomes])),
            "one_retrain": _counts(reduce(add, [outcome.retrained for outcome in outcomes])),
            "benchmark": _scores(
                reduce(add, [outcome.told for outcome in outcomes]),
                reduce(add, [outcome.each_row for outcome in outcomes]),
            ),
        }
    return report


def _sensitivity(skab: list[Any], nab: list[Any]) -> dict[str, Any]:
    from model_export import evaluate_recipe as recipe
    from model_export import evaluate_sensitivity as studies

    report: dict[str, Any] = {}
    for setting in (recipe.BALANCED, recipe.LOW_ALARM) if len(skab) > 1 else ():
        report[f"skab {setting.name}"] = _study(studies.skab(skab, setting.name), setting.spreads, _rates)
    if len(nab) > 1:
        report["nab"] = _study(studies.nab(nab), recipe.NAB_SETTING.spreads, _counts)
    return report


def _study(study: Any, fixed: float, described: Any) -> dict[str, Any]:
    return {
        "fixed": fixed,
        "by_setting": {f"{spreads:g}": described(outcome) for spreads, outcome in study.by_setting.items()},
        "chosen": {f"{spreads:g}": count for spreads, count in sorted(Counter(study.chosen.values()).items())},
        "left_out": described(study.left_out),
    }


def _rates(counts: Any) -> dict[str, float]:
    return {"f1": counts.f1, "far": counts.far, "mar": counts.mar}


def _counts(counts: Any) -> dict[str, Any]:
    return {
        "windows": counts.windows,
        "hit": counts.hit,
        "false_episodes": counts.false,
        "mean_score": counts.mean_score,
        "normal_in_alarm": counts.normal_share,
    }


def _scores(told: Any, each_row: Any) -> dict[str, Any]:
    return {
        "told": {"outside_windows": told.outside, "score": told.score},
        "each_row": {"outside_windows": each_row.outside, "score": each_row.score},
    }


def _print_skab(console: Console, report: dict[str, Any]) -> None:
    files = len(next(iter(report.values()))["files"])
    table = Table(title=f"SKAB, {files} recordings, every second after the first 400", title_justify="left")
    for name in ("", "F1", "FAR", "MAR"):
        table.add_column(name, justify="left" if not name else "right")
    for name, row in report.items():
        table.add_row(f"Edgewise, compiled, {name}: max + {row['spreads']:g} IQR", *_cells(**row["all"]), style="bold")
    for name, f1, far, mar in SKAB_REFERENCES:
        table.add_row(name, *_cells(f1, far, mar), style="dim")
    console.print(table)


def _cells(f1: float, far: float, mar: float | None) -> tuple[str, str, str]:
    return f"{f1:.3f}", f"{far:.1%}", "" if mar is None else f"{mar:.1%}"


def _print_nab(console: Console, report: dict[str, Any]) -> None:
    table = Table(title=f"Numenta benchmark, {len(report['series'])} series after the first 15 %", title_justify="left")
    for name in ("", "windows hit", "false episodes", "mean score", "normal in alarm"):
        table.add_column(name, justify="left" if not name else "right")
    for name, row in report["series"].items():
        table.add_row(name, *_nab_cells(row["frozen"], row["labelled"]))
        if row["retrained_at"] is not None:
            table.add_row(
                f"  one retrain at row {row['retrained_at']}", *_nab_cells(row["one_retrain"], row["labelled"])
            )
    table.add_section()
    table.add_row(
        "Edgewise, compiled, first model kept", *_nab_cells(report["frozen"], report["labelled"]), style="bold"
    )
    table.add_row(
        "Edgewise, compiled, one retrain", *_nab_cells(report["one_retrain"], report["labelled"]), style="bold"
    )
    for name, hit, windows, false in NAB_REFERENCES:
        table.add_row(name, f"{hit} of {windows}", str(false), style="dim")
    console.print(table)
    told, each_row = report["benchmark"]["told"], report["benchmark"]["each_row"]
    if told["score"] is not None:
        console.print(
            f"By the benchmark's own count, with one retrain: {told['score']:.1f} for what a board tells "
            f"({told['outside_windows']} times outside windows), {each_row['score']:.1f} for each row in alarm "
            f"({each_row['outside_windows']} outside)."
        )
    missing = report["labelled"] - report["frozen"]["windows"]
    if missing:
        console.print(f"{missing} of {report['labelled']} windows end inside the training part and cannot be hit.")


def _nab_cells(row: dict[str, Any], labelled: int) -> tuple[str, str, str, str]:
    score = "" if row["mean_score"] is None else f"{row['mean_score']:.1f}"
    return f"{row['hit']} of {labelled}", str(row["false_episodes"]), score, f"{row['normal_in_alarm']:.1%}"


def _print_sensitivity(console: Console, report: dict[str, Any]) -> None:
    for name, study in report.items():
        table = Table(title=f"{name}: threshold = max + k IQR, fixed at k = {study['fixed']:g}", title_justify="left")
        columns = list(study["left_out"])
        for column in ("k", *columns):
            table.add_column(column, justify="right")
        rows = {**study["by_setting"], "left out": study["left_out"]}
        for label, row in rows.items():
            table.add_row(label, *(_number(row[column]) for column in columns))
        console.print(table)
        console.print("chosen by the others: " + ", ".join(f"k = {k} for {n}" for k, n in study["chosen"].items()))


def _number(value: float | int | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
