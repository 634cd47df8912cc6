"""`edgewise sim scenario`: days of many boards in minutes, policies side by side."""

import json
import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tools.scenario import checks, schema
from tools.scenario.checks import ScenarioError


@click.group()
def sim() -> None:
    """Make and run simulated boards."""


@sim.command("scenario")
@click.argument("file")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for report and traces.")
@click.option("--duration", help='End sooner or later than the file says, such as "2d".')
@click.option("--policy", "names", multiple=True, help="Only this policy of the file; may be given again.")
@click.option("--jobs", type=click.IntRange(1, 64), default=os.cpu_count() or 1, show_default="processors")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scenario(file: str, out: Path, duration: str | None, names: tuple[str, ...], jobs: int, as_json: bool) -> None:
    """Run FILE, a scenario in TOML or the name of one that comes with Edgewise (three-pumps).

    Writes report.html, report.json, charts and, for `edgewise policy replay`, a trace of each board.
    """
    # Here, because they bring numpy and a database along.
    from model_export.errors import ModelError
    from tools.scenario import report
    from tools.scenario.board import BoardEnded
    from tools.scenario.run import run

    try:
        chosen = schema.load(file)
        if duration is not None:
            chosen = replace(chosen, duration_ms=checks.time_ms(duration, "--duration"))
        for name in names:
            checks.one_of([policy.name for policy in chosen.policies])(name, "--policy")
        if names:
            chosen = replace(chosen, policies=tuple(one for one in chosen.policies if one.name in names))
        if find_spec("matplotlib") is None:
            raise ScenarioError("charts need matplotlib: run `make setup`")
        outcome = run(chosen, out / "traces", jobs, lambda line: click.echo(line, err=True))
        page = report.write(outcome, out)
    except (ScenarioError, ModelError, BoardEnded) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(report.as_data(outcome), indent=2))
        return
    table = Table("policy", "life, days", "of first", "µW", "sessions/day", "worst alert, s", "lost", "twice", box=None)
    for summary in report.summaries(outcome):
        worst = "-" if summary.worst_ms is None else f"{summary.worst_ms / 1000:.1f}"
        cells = (report.rounded(summary.life_days), report.rounded(summary.times_first, 1), f"{summary.mean_uw:.0f}")
        cells += (f"{summary.sessions_a_day:.1f}", worst, str(summary.lost), str(summary.twice))
        table.add_row(summary.policy, *cells)
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    click.echo(f"{outcome.cpu_s:.0f} s of processor time, {outcome.wall_s:.0f} s with {jobs} processes. Report: {page}")
