"""`edgewise policy replay`: what another policy would have made of a recorded trace."""

import json
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cloud.cli import remote, served, show
from tools.scenario import plan, recorded, replay, trace
from tools.scenario.checks import ScenarioError
from tools.scenario.replay import Replayed


@click.group("policy")
def policy() -> None:
    """Replay policies over recorded traces."""


_TIMES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M")


@policy.command("replay")
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--policies", help="TOML file with [[policy]] tables to compare with, or a bundled one (sync-intervals).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay_command(traces: tuple[Path, ...], policies: str | None, as_json: bool) -> None:
    """Replay TRACES of `edgewise sim scenario` or `edgewise policy trace`: as recorded, then under each policy."""
    try:
        plans = [plan.DEFAULT, *(plan.load(policies) if policies else ())]
        read = [trace.read(path) for path in traces]
    except (ScenarioError, trace.TraceError) as error:
        raise click.ClickException(str(error)) from None
    figures = [_figures(name, [replay.replay(one, chosen) for one in read]) for name, chosen in _named(plans)]
    figures.insert(0, _recorded(read))
    if as_json:
        click.echo(json.dumps(figures, indent=2))
        return
    columns = ("policy", "sessions", "failed", "kB", "µW", "alert s, median", "worst", "rows dropped", "held")
    table = Table(*columns, box=None)
    for row in figures:
        median, worst = (("-" if row[key] is None else f"{row[key] / 1000:.1f}") for key in ("median_ms", "worst_ms"))
        cells = (str(row["sessions"]), str(row["failed"]), f"{row['bytes'] / 1000:.1f}", f"{row['mean_uw']:.0f}")
        table.add_row(row["policy"], *cells, median, worst, str(row["dropped_rows"]), str(row["held_rows"]))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    click.echo(
        "Alerts: from the wake that told one until it is in the cloud. The first line is what the trace itself says."
    )


@policy.command("trace")
@click.argument("name", metavar="ID")
@click.option("--from", "begin", type=click.DateTime(_TIMES), required=True, help="Begin, UTC.")
@click.option("--to", "end", type=click.DateTime(_TIMES), help="End, UTC. [now]")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@remote
def trace_command(
    name: str, begin: datetime, end: datetime | None, out: Path, data: str | None, server: str | None, as_json: bool
) -> None:
    """Write a trace of board ID, for replay, from what it has told the server."""
    moments = (begin.replace(tzinfo=UTC), end.replace(tzinfo=UTC) if end else datetime.now(UTC))
    from_ms, to_ms = (round(moment.timestamp() * 1000) for moment in moments)
    with served(data, server) as client:
        history = client.get(f"/devices/{name}/history", from_ms=from_ms, to_ms=to_ms)
    try:
        made = recorded.build(history, from_ms, to_ms)
    except trace.TraceError as error:
        raise click.ClickException(str(error)) from None
    trace.save(out, made)
    sessions = made.columns["session"]
    told = {
        "wakes": len(sessions),
        "sessions": len(sessions) - sessions.count(0),
        "failed": sessions.count(-1),
        "rows": sum(made.columns["rows"]),
        "events": sum(made.columns["events"]),
        "file": str(out),
    }
    show(as_json, told)


def _named(plans: list[plan.Plan]) -> list[tuple[str, plan.Plan]]:
    return [("replayed as recorded" if chosen is plan.DEFAULT else chosen.name, chosen) for chosen in plans]


def _figures(name: str, found: list[Replayed]) -> dict[str, Any]:
    latencies = sorted(ms for one in found for ms in one.latencies_ms)
    return {
        "policy": name,
        "sessions": sum(one.sessions for one in found),
        "failed": sum(one.failed for one in found),
        "reasons": {key: sum(one.reasons[key] for one in found) for key in ("event", "window", "room")},
        "routes": dict(sum((one.routes for one in found), Counter[str]()).most_common()),
        "bytes": round(sum(one.bytes for one in found)),
        "energy_uj": round(sum(one.energy_uj for one in found)),
        "mean_uw": sum(one.mean_uw for one in found) / len(found),
        "median_ms": latencies[len(latencies) // 2] if latencies else None,
        "worst_ms": latencies[-1] if latencies else None,
        "dropped_rows": round(sum(one.dropped_rows for one in found)),
        "held_rows": round(sum(one.held_rows for one in found)),
    }


def _recorded(read: list[trace.Trace]) -> dict[str, Any]:
    """What the traces themselves say, for the same figures."""
    sums = {name: sum(sum(one.columns[name]) for one in read) for name in ("tx_bytes", "rx_bytes", "energy_uj")}
    days = sum(one.duration_ms for one in read) / 86_400_000
    sessions = [session for one in read for session in one.columns["session"] if session]
    return {
        "policy": "recorded",
        "sessions": len(sessions),
        "failed": sessions.count(-1),
        "reasons": {},
        "routes": {},
        "bytes": sums["tx_bytes"] + sums["rx_bytes"],
        "energy_uj": sums["energy_uj"],
        "mean_uw": sums["energy_uj"] / (days * 86_400),
        "median_ms": None,
        "worst_ms": None,
        "dropped_rows": 0,
        "held_rows": 0,
    }
