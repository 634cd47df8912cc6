"""`edgewise rollout plan|start|list|status|pause|resume|approve|abort|rollback`."""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from cloud.cli import remote, served, show, when
from cloud.client import Client

_POLL_S = 1.0
_ENDED = ("done", "aborted")


@click.group("rollout")
def rollout() -> None:
    """Bring a new version to a few boards first, and take it back by itself when it does worse."""


@rollout.command()
@click.argument("name")
@click.argument("version")
@click.option("--fallback", required=True, help="The version boards run now, and go back to.")
@click.option("--kind", default="", help="Only boards of this kind.")
@click.option("--tag", "tags", multiple=True, help="Only boards with this tag; several: with all of them.")
@click.option("--arch", default="", help="Only boards of this architecture.")
@click.option("--firmware", default="", help="Only boards with this version of the firmware.")
@click.option("--devices", help="Only these boards, with commas.")
@click.option("--ab", is_flag=True, help="Only compare: --steps is one share, and you decide after the soak.")
@click.option("--shadow", is_flag=True, help="Only compare: on one share it scores beside the fallback, which decides.")
@click.option("--steps", default="5,25,50,100", show_default=True, help="Percent of the boards, step by step.")
@click.option("--min-canaries", type=click.IntRange(1), default=5, show_default=True)
@click.option("--period-s", type=click.FloatRange(0), default=0, help="How often boards report; 0: measured.")
@click.option("--soak-periods", type=click.IntRange(1), default=14, show_default=True)
@click.option("--ramp-periods", type=click.IntRange(1), default=3, show_default=True)
@click.option("--approval", is_flag=True, help="Wait for `edgewise rollout approve` before the ramp.")
@click.option("--window", default="", help="HH:MM-HH:MM UTC in which boards may be added.")
@click.option("--start", "start_now", is_flag=True, help="Start it at once.")
@remote
def plan(
    name: str,
    version: str,
    devices: str | None,
    tags: tuple[str, ...],
    ab: bool,
    shadow: bool,
    steps: str,
    period_s: float,
    start_now: bool,
    data: str | None,
    server: str | None,
    as_json: bool,
    **facts: Any,
) -> None:
    """Plan a rollout of NAME VERSION; no board is touched before `start`."""
    if ab and shadow:
        raise click.UsageError("--ab and --shadow: a candidate decides on its boards, or it does not")
    try:
        percents = [int(step) for step in steps.split(",")]
    except ValueError:
        raise click.BadParameter(f"{steps!r}: give percentages with commas", param_hint="--steps") from None
    body = {
        "name": name,
        "version": version,
        "devices": [] if devices is None else devices.split(","),
        "tags": list(tags),
        "mode": "ab" if ab else "shadow" if shadow else "ramp",
        "steps": percents,
        "period_ms": round(period_s * 1000),
        **facts,
    }
    with served(data, server) as client:
        done = client.post("/rollouts", body)
        if start_now:
            done = client.post(f"/rollouts/{done['summary']['id']}/start")
    _print(done, as_json)


def _mover(name: str, text: str) -> None:
    """Adds a command that only names a rollout."""

    @rollout.command(name, help=text)
    @click.argument("number", type=int, metavar="ROLLOUT")
    @remote
    def move(number: int, data: str | None, server: str | None, as_json: bool) -> None:
        with served(data, server) as client:
            done = client.post(f"/rollouts/{number}/{name}")
        _print(done, as_json)


_mover("start", "Take hold of the boards and tell the canaries.")
_mover("pause", "Add no further board; the gates go on.")
_mover("resume", "Go on; the stage it was paused in begins anew.")
_mover("approve", "Let it go on to the ramp after the soak.")
_mover("abort", "End it now; the boards follow the champion again, unwatched.")


@rollout.command()
@click.argument("number", type=int, metavar="ROLLOUT")
@click.option("--to", help="A version other than the plan's fallback.")
@remote
def rollback(number: int, to: str | None, data: str | None, server: str | None, as_json: bool) -> None:
    """Take the candidate back and watch until no board runs it."""
    with served(data, server) as client:
        done = client.post(f"/rollouts/{number}/rollback", {"to": to})
    _print(done, as_json)


@rollout.command("list")
@remote
def list_(data: str | None, server: str | None, as_json: bool) -> None:
    """Every rollout, the newest first."""
    with served(data, server) as client:
        found = client.get("/rollouts")
    table = Table("id", "model", "to", "from", "stage", "boards", "running", "failed", "why", box=None)
    for item in found:
        table.add_row(
            str(item["id"]),
            item["name"],
            item["version"],
            item["fallback"],
            _stage(item),
            str(item["boards"]),
            str(item["running"]),
            str(item["failed"]),
            item["reason"],
        )
    show(as_json, found, table)


@rollout.command()
@click.argument("number", type=int, metavar="ROLLOUT")
@click.option("--watch", is_flag=True, help="Stay and update until it ends.")
@remote
def status(number: int, watch: bool, data: str | None, server: str | None, as_json: bool) -> None:
    """Where a rollout is and why: gates, boards, history. Exit status 2 when it was taken back."""
    with served(data, server) as client:
        found = client.get(f"/rollouts/{number}")
        if watch and sys.stdout.isatty() and not as_json:
            found = _watched(client, number, found)
        elif watch:
            while found["summary"]["stage"] not in _ENDED:
                time.sleep(_POLL_S)
                found = client.get(f"/rollouts/{number}")
    if not (watch and sys.stdout.isatty()) or as_json:
        _print(found, as_json)
    if found["summary"]["stage"] == "aborted":
        sys.exit(2)


def _watched(client: Client, number: int, found: dict[str, Any]) -> dict[str, Any]:
    with Live(_picture(found), refresh_per_second=4) as live:
        while found["summary"]["stage"] not in _ENDED:
            time.sleep(_POLL_S)
            found = client.get(f"/rollouts/{number}")
            live.update(_picture(found))
    return found


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show(True, found)
    else:
        Console().print(_picture(found))


def _picture(found: dict[str, Any]) -> Group:
    item = found["summary"]
    facts = Table(box=None, show_header=False, title_justify="left")
    facts.title = f"rollout {item['id']}: {item['name']} {item['fallback']} to {item['version']}"
    facts.add_row("stage", _stage(item))
    facts.add_row("why", item["reason"] or "-")
    counts = f"{item['running']} run it, {item['waiting']} are to take it, {item['failed']} failed"
    facts.add_row("boards", f"{item['boards']}: {counts}, {item['silent']} silent")
    beside = found["shadow"]
    if beside:
        facts.add_row("in the shadow", _share(beside))
    facts.add_row("done by", when(item["eta_ms"]) if item["eta_ms"] else "-")
    gates = Table("gate", "finding", "p", "stops below", box=None)
    for finding in found["findings"]:
        verdict = f"WORSE: {finding['words']}" if finding["worse"] else finding["words"]
        gates.add_row(finding["gate"], verdict, f"{finding['p']:.2g}", f"{finding['level']:.2g}")
    steps = Table("when", "stage", "boards", "why", "by", box=None)
    for step in found["steps"][:10]:
        steps.add_row(when(step["at_ms"]), step["stage"], str(step["exposed"]), step["reason"], step["by"])
    windows = Table("when", "board", f"{item['version']} says", "score", box=None)
    for window in beside["latest"][:10] if beside else ():
        windows.add_row(when(window["at_ms"]), window["device"], window["candidate_says"], f"{window['score']:.4g}")
    failed = Table("board", "failed because", box=None)
    for board in found["cohort"]:
        if board["status"] == "failed":
            failed.add_row(board["device"], board["reason"])
    drift = Table("model", "beside its training", "index", "windows", box=None)
    for model in found["stability"]:
        drift.add_row(
            f"{model['name']} {model['version']}", model["word"], f"{model['index']:.2f}", str(model["windows"])
        )
    return Group(*(table for table in (facts, gates, windows, drift, steps, failed) if table.row_count))


def _share(beside: dict[str, Any]) -> str:
    """What a comparison in the shadow has counted."""
    compared, disagreed = beside["compared"], beside["disagreed"]
    share = f" ({100 * disagreed / compared:.2g} %)" if compared else ""
    return f"{compared} windows compared, {disagreed} decided differently{share}, {beside['sent']} of them sent"


def _stage(item: dict[str, Any]) -> str:
    return f"{item['stage']}, {item['step_percent']} %"
