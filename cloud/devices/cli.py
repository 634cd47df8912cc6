"""`edgewise device events`, `readings` and `prune`: what boards said, for a look, for other programs, and no more."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from cloud.cli import remote, served, show, when
from cloud.client import Client
from cloud.clock import now_ms

_DAY_MS = 86_400_000
_LONGEST_MS = 400 * _DAY_MS  # the most the server reads at once
_MOST_ROWS = 10_000
_TIMES = click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"])


@click.group("device")
def device() -> None:
    """What boards said."""


@device.command()
@click.argument("name", metavar="[ID]", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@remote
def events(name: str | None, limit: int, data: str | None, server: str | None, as_json: bool) -> None:
    """Alerts of a board, or of all: the last received first. `edgewise model trace` goes on from one."""
    with served(data, server) as client:
        found = client.get(f"/devices/{name}/events" if name else "/events", limit=limit)
    table = Table("board", "time", "kind", "score", "threshold", "reason", "epoch", "seq", box=None)
    for event in found:
        table.add_row(
            event["device"],
            when(event["at_ms"]),
            event["kind"],
            f"{event['score']:.6g}",
            f"{event['threshold']:.6g}",
            event["reason"],
            str(event["epoch"]),
            str(event["seq"]),
        )
    show(as_json, found, table)


@device.command()
@click.argument("name", metavar="ID")
@click.option("--from", "begin", type=_TIMES, help="UTC, inclusive; by default 400 days before the end.")
@click.option("--to", "end", type=_TIMES, help="UTC, exclusive; by default now.")
@remote
def readings(
    name: str, begin: datetime | None, end: datetime | None, data: str | None, server: str | None, as_json: bool
) -> None:
    """Samples of a board as CSV, a column for each channel: `edgewise device readings pump-1 > pump-1.csv`.

    Without a model for the board's features the server knows no names, units and scales: then they are counts.
    """
    to_ms = now_ms() + _DAY_MS if end is None else _ms(end)
    from_ms = to_ms - _LONGEST_MS if begin is None else _ms(begin)
    with served(data, server) as client:
        pages = _pages(client, name, max(0, from_ms), to_ms)
        if as_json:
            found = list(pages)
            channels = max((page["channels"] for page in found), key=len)
            rows = [row for page in found for row in page["rows"]]
            click.echo(json.dumps({"device": name, "channels": channels, "rows": rows}))
            return
        out, header = csv.writer(sys.stdout, lineterminator="\n"), []
        for page in pages:
            names = ["time", *(f"{channel['name']} [{channel['unit']}]" for channel in page["channels"])]
            if page["rows"] and names != header:  # another header where the board got other channels
                out.writerow(header := names)
            out.writerows([_iso(at_ms), *(f"{value:.10g}" for value in values)] for at_ms, _, _, values in page["rows"])
    if not header:
        click.echo(f"{name} has no readings in that time", err=True)


@device.command("prune")
@click.option("--before", required=True, type=_TIMES, help="UTC; samples from then on stay.")
@remote
def prune_command(before: datetime, data: str | None, server: str | None, as_json: bool) -> None:
    """Delete the samples of all boards from before a time, for ever; what else they said stays."""
    total = {"frames": 0, "samples": 0}
    more = True
    with served(data, server) as client:
        while more:
            done = client.post("/prune", {"before_ms": _ms(before)})
            total = {name: count + done[name] for name, count in total.items()}
            more = done["more"]
    show(as_json, total)


def _pages(client: Client, name: str, from_ms: int, to_ms: int) -> Iterator[dict[str, Any]]:
    """Every sample of the time once. A stretch with more than the server reads at once is cut.

    Going on from the last sample's time would lose some: samples come by number, and times may jump back at a restart.
    """
    step_ms = min(to_ms - from_ms, _LONGEST_MS)
    while True:
        until_ms = min(from_ms + step_ms, to_ms)
        page = client.get(f"/devices/{name}/readings", from_ms=from_ms, to_ms=until_ms, limit=_MOST_ROWS)
        if page["truncated"] and step_ms > 1:
            step_ms = max(1, min(step_ms // 2, page["rows"][-1][0] - from_ms))
            continue
        yield page
        if until_ms >= to_ms:
            return
        from_ms = until_ms
        if len(page["rows"]) < _MOST_ROWS // 4:
            step_ms = min(2 * step_ms, _LONGEST_MS)


def _ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
