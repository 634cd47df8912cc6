"""`edgewise up`, `edgewise device ...` and `edgewise frames ...`. All but `up` talk to a running server over HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from cloud.client import Client, connect
from cloud.clock import time_text
from cloud.errors import EdgewiseError
from cloud.settings import DEFAULT_HTTP_PORT, DEFAULT_MQTT_PORT, Settings, load_settings
from contract import wire

Command = Callable[..., Any]
_WIDTH_OF_A_FILE = 140
_WHY_IN_A_LIST = 40  # `device show` has all of it

_data = click.option("--data", metavar="DIR", help="Data folder (EDGEWISE_DATA_DIR, else ./edgewise-data).")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_server = click.option("--server", metavar="URL", help="Talk to this server instead of the data folder's.")


def remote(command: Command) -> Command:
    """The options of a command that talks to a server: --data, --server, --json."""
    return _data(_server(_json(command)))


@contextmanager
def said_plainly() -> Generator[None]:
    """Turns our errors into what click prints: the cause, the next step, exit status 1."""
    try:
        yield
    except EdgewiseError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def served(data: str | None, server: str | None) -> Generator[Client]:
    """A client for a command's options; errors end the command."""
    with said_plainly(), connect(load_settings(data_dir=data), server) as client:
        yield client


def show(as_json: bool, value: Any, table: Table | None = None) -> None:
    """Prints a result: JSON for machines, the table (else `key: value` lines) for people."""
    if as_json:
        click.echo(json.dumps(value, indent=2))
    elif table is not None:
        terminal().print(table)
    else:
        for key, text in value.items():
            click.echo(f"{key}: {text}")


def terminal() -> Console:
    """Where tables go; into a file or a pipe they keep their width, so that no cell is cut."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)


def when(ms: int | None) -> str:
    """A time for people, UTC."""
    return "never" if ms is None else time_text(ms, "%Y-%m-%d %H:%M:%S")


def shortened(text: str, length: int) -> str:
    """The text, cut at `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


@click.command()
@_data
@click.option("--port", type=click.IntRange(0, 65535), help=f"HTTP port; 0: any free one. [{DEFAULT_HTTP_PORT}]")
@click.option("--mqtt-port", type=click.IntRange(0, 65535), help=f"MQTT port; 0: any free one. [{DEFAULT_MQTT_PORT}]")
@click.option("--mqtt-host", metavar="ADDRESS", help="Of this machine, as boards reach it. [127.0.0.1]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line with the addresses when all is up.")
def up(data: str | None, port: int | None, mqtt_port: int | None, mqtt_host: str | None, as_json: bool) -> None:
    """Run broker, ingest and pages on this machine, until Ctrl-C."""
    # Here and not above: the other commands start faster without them.
    from cloud.up import run_up

    with said_plainly():
        given = {"http_port": port, "mqtt_port": mqtt_port, "mqtt_host": mqtt_host}
        changes = {name: value for name, value in given.items() if value is not None}
        settings = msgspec.structs.replace(load_settings(data_dir=data), **changes)
        asyncio.run(run_up(settings, lambda running: _announce(running, as_json)))


def _announce(settings: Settings, as_json: bool) -> None:
    if as_json:
        addresses = {"http": settings.http_address, "mqtt_host": settings.mqtt_host, "mqtt_port": settings.mqtt_port}
        click.echo(json.dumps(addresses | {"data": str(settings.data_dir)}))
    else:
        click.echo(f"Open {settings.http_address}")
        click.echo(f"Boards connect to {settings.mqtt_host}:{settings.mqtt_port}; data is in {settings.data_dir}")
        click.echo("Ctrl-C ends it.")
    sys.stdout.flush()


@click.group()
def device() -> None:
    """Add, list and show boards."""


@device.command("add")
@click.argument("names", nargs=-1, required=True, metavar="ID...")
@click.option("--kind", required=True, help="Kind of machine the board watches, such as pump.")
@remote
def device_add(names: tuple[str, ...], kind: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Add boards and print what belongs into each one's config.json: the password is shown only here."""
    with served(data, server) as client:
        _print_provisioned(as_json, client.post("/devices", {"devices": list(names), "kind": kind}))


@device.command("tag")
@click.argument("names", nargs=-1, required=True, metavar="ID...")
@click.option("--add", multiple=True, metavar="TAG", help="Put a tag on them; may be given several times.")
@click.option("--remove", multiple=True, metavar="TAG", help="Take a tag away.")
@remote
def device_tag(
    names: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    data: str | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Put tags on boards, to choose them by in a rollout; without --add and --remove show them."""
    with served(data, server) as client:
        found = client.post("/tags", {"devices": list(names), "add": list(add), "remove": list(remove)})
    show(as_json, found if as_json else {name: ", ".join(tags) or "-" for name, tags in found.items()})


@device.command("raw-window")
@click.argument("name", metavar="ID")
@click.option("--windows", type=int, default=1, show_default=True, help="How many.")
@remote
def device_raw_window(name: str, windows: int, data: str | None, server: str | None, as_json: bool) -> None:
    """Have a board that sends means only record its next windows sample by sample."""
    with served(data, server) as client:
        sent = client.post(f"/devices/{name}/commands", {"verb": wire.VERB_RAW_WINDOW, "args": [windows]})
    show(as_json, sent if as_json else {name: f"command {sent['id']}, done in its next session"})


@device.command("renew")
@click.argument("name", metavar="ID")
@remote
def device_renew(name: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Give a board a new password; the old one ends at once."""
    with served(data, server) as client:
        _print_provisioned(as_json, [client.post(f"/devices/{name}/credential")])


@device.command("remove")
@click.argument("name", metavar="ID")
@remote
def device_remove(name: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Take a board's login away; its records stay."""
    with served(data, server) as client:
        client.delete(f"/devices/{name}")
        show(as_json, {"removed": name})


@device.command("list")
@click.option("--find", metavar="TEXT", help="Only boards with TEXT in their id or kind, or as a tag.")
@click.option("--presence", type=click.Choice(["online", "sleeping", "lost", "new"]), help="Only boards in this state.")
@remote
def device_list(find: str | None, presence: str | None, data: str | None, server: str | None, as_json: bool) -> None:
    """Boards, one line each."""
    found: list[dict[str, Any]] = []
    with served(data, server) as client:
        chosen = {"find": find, "presence": presence}
        while page := client.get("/devices", after=found[-1]["device"] if found else None, limit=500, **chosen):
            found.extend(page)
    table = Table("board", "kind", "presence", "last contact", "model", "wanted", "update", "set aside", box=None)
    for board in found:
        table.add_row(
            board["device"],
            board["kind"],
            board["presence"],
            when(board["last_contact_ms"]),
            _model(board["model"]),
            shortened(board["wanted"]["why"], _WHY_IN_A_LIST) or _model(board["wanted"]),
            _update(board["update"]),
            str(board["set_aside"]),
        )
    show(as_json, found, table)


@device.command("show")
@click.argument("name", metavar="ID")
@remote
def device_show(name: str, data: str | None, server: str | None, as_json: bool) -> None:
    """One board: what it is, what it runs, its updates with their reasons, the books of its streams."""
    with served(data, server) as client:
        detail = client.get(f"/devices/{name}")
    if as_json:
        show(True, detail)
        return
    console = terminal()
    for table in _detail_tables(detail):
        console.print(table)


@device.command("configure")
@click.argument("name", metavar="ID")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE...")
@remote
def device_configure(name: str, changes: tuple[str, ...], data: str | None, server: str | None, as_json: bool) -> None:
    """Change what a board's configuration shall be; `KEY=` takes a key out. Values are JSON: 5000, true, [1, 2]."""
    with served(data, server) as client:
        show(as_json, client.put(f"/devices/{name}/configuration", dict(map(_setting, changes))))


@click.group()
def frames() -> None:
    """Inspect and replay frames that ingest set aside."""


@frames.command("list")
@click.option("--device", "name", metavar="ID", help="Only of this board.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@remote
def frames_list(name: str | None, limit: int, data: str | None, server: str | None, as_json: bool) -> None:
    """The newest first."""
    with served(data, server) as client:
        found = client.get("/frames", device=name, limit=limit)
    table = Table("id", "board", "received", "bytes", "reason", "detail", "replayed", box=None)
    for frame in found:
        table.add_row(
            str(frame["id"]),
            frame["device"],
            when(frame["received_ms"]),
            str(frame["size_bytes"]),
            frame["reason"],
            frame["detail"],
            when(frame["replayed_ms"]),
        )
    show(as_json, found, table)


@frames.command("show")
@click.argument("frame", type=int, metavar="ID")
@remote
def frames_show(frame: int, data: str | None, server: str | None, as_json: bool) -> None:
    """One frame with its bytes in hex."""
    with served(data, server) as client:
        found = client.get(f"/frames/{frame}")
    show(as_json, found if as_json else found["frame"] | {"payload": found["payload"]})


@frames.command("replay")
@click.argument("frame", type=int, metavar="ID")
@remote
def frames_replay(frame: int, data: str | None, server: str | None, as_json: bool) -> None:
    """Have ingest take a frame once more, such as one of a board that was unknown then."""
    with served(data, server) as client:
        found = client.post(f"/frames/{frame}/replay")
    show(as_json, found if as_json else {"asked": f"`edgewise frames show {frame}` tells when it was done"})


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value) if value else None
    except ValueError:
        return key, value  # text: the server says whether the key takes it


def _print_provisioned(as_json: bool, boards: list[dict[str, Any]]) -> None:
    # JSON either way: it is pasted into config.json. --json keeps the list even for one board.
    click.echo(json.dumps(boards if as_json or len(boards) > 1 else boards[0], indent=2))


def _model(model: dict[str, Any] | None) -> str:
    return f"{model['name']} {model['version'] or ''}".strip() if model and model["name"] else "-"


def _update(step: dict[str, Any] | None) -> str:
    if step is None:
        return "-"
    reason = "" if step["reason"] == "ok" else f": {step['reason']}"
    return f"{step['name']} {step['version']} {step['state']}{reason}"


def _detail_tables(detail: dict[str, Any]) -> Iterator[Table]:
    board, config = detail["summary"], detail["configuration"]
    hello: dict[str, Any] = detail["hello"] or {}
    facts = Table(box=None, show_header=False, title=board["device"], title_justify="left")
    lines = {
        "kind": board["kind"],
        "tags": ", ".join(detail["tags"]) or "-",
        "presence": board["presence"],
        "last contact": when(board["last_contact_ms"]),
        "model": _model(board["model"]),
        "wanted": board["wanted"]["why"] or _model(board["wanted"]),
        "last update": _update(board["update"]),
        "firmware": f"{hello.get('firmware', '-')} {hello.get('arch', '')}",
        "battery": f"{board['battery_mv']} mV" if board["battery_mv"] is not None else "-",
        "configuration": f"desired {json.dumps(config['desired'])}, reported {json.dumps(config['reported'])}",
        "frames set aside": str(board["set_aside"]),
    }
    stability = detail["stability"]
    if stability:
        lines["beside training"] = f"scores {stability['word']}, stability index {stability['index']:.2f}"
    for name, text in lines.items():
        facts.add_row(name, text)
    yield facts
    if stability:
        yield _rows("beside training", stability["features"], ("name", "word", "index", "windows", "counts"))
    if detail["updates"]:
        yield _rows("updates", detail["updates"], ("at_ms", "name", "version", "state", "reason", "detail"))
    if detail["questions"]:
        columns = ("at_ms", "route", "reason", "score", "verdict", "tier", "answer_score", "model", "why")
        yield _rows("questions", detail["questions"], columns)
    if detail["streams"]:
        columns = ("epoch", "stream", "received", "dropped", "set_aside", "missing", "duplicates", "acknowledged")
        yield _rows("streams", detail["streams"], columns)
    if config["conflicts"]:
        yield _rows("configuration conflicts", config["conflicts"], tuple(config["conflicts"][0]))


def _rows(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    table = Table(*(name.removesuffix("_ms") for name in columns), box=None, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(when(row[name]) if name.endswith("_ms") else _cell(row[name]) for name in columns))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
