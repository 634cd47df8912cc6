"""The commands of `edgewise model` that talk to a server, and `edgewise keys trust|trusted|distrust`."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import wrap_file
from rich.table import Table

from cloud.cli import remote, served, shortened, show, terminal, when
from contract import artifact, wire

_TO = "Who shall run it: all (it becomes the champion), none, kind:KIND, or board ids with commas."
_PUBLIC_KEY = re.compile(r"\b[0-9a-f]{128}\b")


@click.group("model")
def model() -> None:
    """Publish, list and show models."""


@model.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", default="none", show_default=True, help=_TO)
@click.option("--note", default="", help="Why; it is kept in the history of the alias.")
@remote
def publish(files: tuple[Path, ...], to: str, note: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Upload the artifacts of one version, one FILE per target; FILE's .card.json goes along.

    Signatures are checked against the keys the server trusts. Either everything happens or nothing.
    """
    for file in files:
        try:
            artifact.split(file.read_bytes())
        except artifact.ArtifactError as error:
            raise click.ClickException(f"{file} is no artifact: {error}; `edgewise model export` makes one") from None
    cards = [card for file in files if (card := file.with_suffix(".card.json")).exists()]
    with served(data, server) as client, ExitStack() as open_files:
        parts = [("artifact", (file.name, open_files.enter_context(_read(file)))) for file in files]
        parts += [("card", (card.name, open_files.enter_context(card.open("rb")))) for card in cards]
        done = client.request("POST", "/models", files=parts, data={"to": to, "note": note})
    added = len(done["artifacts"])
    _print_deployed(done, as_json, f": {added} artifact{'s' if added != 1 else ''} added")


@model.command("list")
@click.argument("name", required=False)
@remote
def list_(name: str | None, data: str | None, server: str | None, as_json: bool) -> None:
    """Every version, or those of one model, the newest first."""
    with served(data, server) as client:
        found = client.get(f"/models/{name}" if name else "/models")
    table = Table("model", "version", "alias", "detector", "targets", "sequence", "running", "wanted", box=None)
    for version in found:
        table.add_row(
            version["name"],
            version["version"],
            ", ".join(version["aliases"]),
            version["detector"],
            ", ".join(version["targets"]),
            str(version["sequence"]),
            str(version["boards_running"]),
            str(version["boards_wanted"]),
        )
    show(as_json, found, table)


@model.command("show")
@click.argument("name")
@click.argument("version", required=False)
@remote
def show_(name: str, version: str | None, data: str | None, server: str | None, as_json: bool) -> None:
    """One version, by default the newest: its artifacts, where it runs, and what is on its card."""
    with served(data, server) as client:
        version = version or client.get(f"/models/{name}")[0]["version"]
        found = client.get(f"/models/{name}/{version}")
    if as_json:
        show(True, found)
        return
    console = terminal()
    summary = found["summary"]
    facts = Table(box=None, show_header=False, title=f"{name} {version}", title_justify="left")
    facts.add_row("aliases", ", ".join(summary["aliases"]) or "-")
    for key in ("detector", "schema", "threshold", "margin", "sequence"):
        facts.add_row(key, str(summary[key]))
    facts.add_row("published", when(summary["created_ms"]))
    facts.add_row("note", found["note"] or "-")
    facts.add_row("updates", ", ".join(f"{count} {state}" for state, count in found["status"].items()) or "-")
    facts.add_row("runs on", _names(found["running"]))
    facts.add_row("wanted on", _names(found["wanted"]))
    console.print(facts)
    targets = Table("artifact", "target", "bytes", "key", box=None)
    for item in found["artifacts"]:
        targets.add_row(item["sha256"][:16], item["target"], str(item["size"]), item["key_id"])
    console.print(targets)
    if found["card"]:
        console.print_json(data=found["card"])


@model.command()
@click.argument("name")
@click.argument("version")
@click.option(
    "--alias", default="champion", show_default=True, type=click.Choice(["champion", "challenger", "reference"])
)
@click.option("--note", default="", help="Why; it is kept in the history.")
@remote
def promote(
    name: str, version: str, alias: str, note: str, data: str | None, server: str | None, as_json: bool
) -> None:
    """Point an alias to a version. Boards that follow the champion are told in the same step."""
    with served(data, server) as client:
        done = client.request("PUT", f"/models/{name}/aliases/{alias}", json={"version": version, "note": note})
    _print_deployed(done, as_json)


@model.command()
@click.argument("name")
@click.argument("version")
@click.argument("text")
@remote
def note(name: str, version: str, text: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Say something of a version; `edgewise model show` shows it. Nothing else of a version ever changes."""
    with served(data, server) as client:
        show(as_json, client.put(f"/models/{name}/{version}/note", {"note": text}))


@model.command()
@click.argument("device", metavar="BOARD")
@click.option("--at", "at", type=click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"]), help="UTC.")
@remote
def ran(device: str, at: datetime | None, data: str | None, server: str | None, as_json: bool) -> None:
    """Which models a board ran, the last first; with --at the one it ran then."""
    with served(data, server) as client:
        at_ms = None if at is None else round(at.replace(tzinfo=UTC).timestamp() * 1000)
        found = client.get(f"/devices/{device}/models", at_ms=at_ms)
    table = Table("since", "model", "version", "artifact", box=None)
    for run in found:
        table.add_row(when(run["since_ms"]), run["name"] or "built-in", run["version"] or "-", run["sha8"] or "-")
    show(as_json, found, table)


@model.command()
@click.argument("name")
@click.argument("version")
@click.option("--to", required=True, help=_TO)
@click.option("--note", default="")
@remote
def deploy(name: str, version: str, to: str, note: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Tell boards to run a published version; boards named by id or kind stay pinned to it."""
    with served(data, server) as client:
        done = client.post("/desired", {"name": name, "version": version, "to": to, "note": note})
    _print_deployed(done, as_json)


@model.command()
@click.argument("device", metavar="BOARD")
@remote
def follow(device: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Unpin a board: it follows the champion of its model again."""
    with served(data, server) as client:
        boards = client.request("DELETE", f"/desired/{device}")
    if as_json:
        show(True, boards)
    else:
        _print_boards(boards)


@model.command()
@click.argument("name")
@click.argument("before")
@click.argument("after")
@remote
def diff(name: str, before: str, after: str, data: str | None, server: str | None, as_json: bool) -> None:
    """In what two versions differ."""
    with served(data, server) as client:
        found = client.get(f"/models/{name}/diff", before=before, after=after)
    table = Table("what", before, after, box=None)
    for line in found:
        table.add_row(line["what"], _text(line["before"]), _text(line["after"]))
    show(as_json, found, table)


@model.command()
@click.argument("name")
@remote
def history(name: str, data: str | None, server: str | None, as_json: bool) -> None:
    """How the aliases of a model moved, the last change first."""
    with served(data, server) as client:
        found = client.get(f"/models/{name}/history")
    table = Table("when", "alias", "from", "to", "note", box=None)
    for step in found:
        table.add_row(
            when(step["changed_ms"]), step["alias"], step["previous"] or "-", step["version"] or "-", step["note"]
        )
    show(as_json, found, table)


@model.command()
@click.argument("device", metavar="BOARD")
@click.argument("epoch", type=int)
@click.argument("seq", type=int)
@remote
def trace(device: str, epoch: int, seq: int, data: str | None, server: str | None, as_json: bool) -> None:
    """From an event to the model that raised it, and to the data and code it was made of."""
    with served(data, server) as client:
        found = client.get(f"/trace/{device}/{epoch}/{seq}")
    if as_json:
        show(True, found)
        return
    version = found["version"]
    deployed = f"{when(found['deployed_ms'])} ({found['deployed_cause']})" if found["deployed_ms"] else "-"
    show(
        False,
        {
            "event": f"{found['kind']} on {device} at {when(found['at_ms'])}",
            "score": f"{found['score']:.6g} against {found['threshold']:.6g}",
            "model": f"{version['name']} {version['version']}" if version else f"{found['model_sha8']}, not registered",
            "told to run it": deployed,
            "runs it since": when(found["running_since_ms"]) if found["running_since_ms"] else "-",
        },
    )
    if found["card"]:
        Console().print_json(data=found["card"])


@model.command()
@click.argument("name")
@click.argument("version")
@remote
def delete(name: str, version: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Delete a version nobody uses; `edgewise model gc` then frees its bytes."""
    with served(data, server) as client:
        done = client.request("DELETE", f"/models/{name}/{version}")
    show(as_json, done if as_json else {"deleted": f"{name} {version}"})


@model.command()
@remote
def gc(data: str | None, server: str | None, as_json: bool) -> None:
    """Remove stored bytes that no version refers to and that are older than an hour."""
    with served(data, server) as client:
        done = client.post("/collect")
    show(as_json, done if as_json else {"removed": f"{len(done['blobs'])} blobs, {done['bytes']} bytes"})


@click.group("keys")
def keys() -> None:
    """Publisher keys the server trusts."""


@keys.command()
@click.argument("key", metavar="KEY|FILE")
@click.option("--label", default="", help="Whose it is.")
@remote
def trust(key: str, label: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Accept artifacts signed with a key: its 128 hex digits, or a file that holds them (never the private key)."""
    public = key.lower()
    if Path(key).is_file():
        found = sorted(set(_PUBLIC_KEY.findall(Path(key).read_text("utf-8", "replace").lower())))
        if len(found) != 1:
            cause = f"{key} holds {len(found) or 'no'} public key{'s' if len(found) > 1 else ''} of 128 hex digits"
            raise click.ClickException(f"{cause}; give one that `edgewise keys list` prints")
        (public,) = found
    with served(data, server) as client:
        done = client.post("/keys", {"public_key": public, "label": label})
    show(as_json, done)


@keys.command()
@remote
def trusted(data: str | None, server: str | None, as_json: bool) -> None:
    """Every key the server ever trusted."""
    with served(data, server) as client:
        found = client.get("/keys")
    table = Table("key", "label", "added", "models count", "boards", box=None)
    for key in found:
        counts = f"until {when(key['until_ms'])}" if key["until_ms"] else "yes"
        if key["revoked_ms"]:
            counts = f"revoked {when(key['revoked_ms'])}"
        table.add_row(key["key_id"], key["label"], when(key["added_ms"]), counts, str(key["boards"]))
    show(as_json, found, table)


@keys.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@remote
def announce(file: Path, data: str | None, server: str | None, as_json: bool) -> None:
    """Hand on FILE, a statement of `edgewise keys rotate`, `revoke` or `allow-downgrade`, to the server and its boards.

    `edgewise keys trusted` then shows how many boards have taken the new key.
    """
    if file.stat().st_size > wire.MAX_STATEMENT_BYTES:
        raise click.ClickException(f"{file} is no statement: `edgewise keys rotate` writes one")
    with served(data, server) as client:
        done = client.post("/keys/statements", {"statement": file.read_bytes().hex()})
    show(as_json, done)


@keys.command()
@click.argument("key_id")
@remote
def distrust(key_id: str, data: str | None, server: str | None, as_json: bool) -> None:
    """Revoke a key, for ever: nothing new signed with it is accepted."""
    with served(data, server) as client:
        done = client.request("DELETE", f"/keys/{key_id}")
    show(as_json, done)


@contextmanager
def _read(file: Path) -> Generator[IO[bytes]]:
    """The open file; on a terminal with a bar of what was sent of it."""
    with file.open("rb") as source:
        if not sys.stderr.isatty():
            yield source
            return
        size = file.stat().st_size
        with wrap_file(source, size, description=file.name, console=Console(stderr=True)) as watched:
            yield watched


def _print_deployed(done: dict[str, Any], as_json: bool, said: str = "") -> None:
    if as_json:
        show(True, done)
        return
    click.echo(f"{done['name']} {done['version']}{said}")
    _print_boards(done["boards"])


def _print_boards(boards: list[dict[str, Any]]) -> None:
    told = [board["device"] for board in boards if board["sha256"]]
    click.echo(f"  told to run it  {_names(told)}")
    for board in boards:
        if board["why"]:
            click.echo(f"  not {board['device']}: {board['why']}")


def _names(names: list[str], most: int = 12) -> str:
    if not names:
        return "-"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _text(value: Any) -> str:
    return shortened("-" if value is None else str(value), 60)
