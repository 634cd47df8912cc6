"""`edgewise keys new|rotate|revoke|allow-downgrade|list`: keys of whoever publishes models, kept on their machine.

Nothing here talks to a server. What is signed is written to a file, and `edgewise keys announce` hands it on.
"""

import hashlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from contract import artifact
from contract.keyring import Keyring
from model_export import keys as store
from model_export import statements
from model_export.keys import PublisherKey, PublisherKeyError

_folder = click.option(
    "--keys",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with publisher keys; by default $XDG_DATA_HOME/edgewise/keys.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def keys() -> None:
    """Publisher keys of this machine."""


@keys.command()
@click.argument("name")
@_folder
@_as_json
def new(name: str, folder: Path | None, as_json: bool) -> None:
    """Make a key. Its private half stays in NAME.pem, which only you can read; boards get the public half."""
    folder = folder or store.default_directory()
    try:
        key = store.create(folder, name)
    except PublisherKeyError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(_facts(key)))
        return
    click.echo(f"{folder / name}.pem: keep it secret, and keep a copy; without it no board takes an update from you")
    _print_public(key)


@keys.command()
@click.argument("old")
@click.argument("new")
@click.option(
    "--accept-days",
    type=click.IntRange(0, 3650),
    default=90,
    show_default=True,
    help="For how long models signed with OLD still count.",
)
@click.option("--stolen", is_flag=True, help="OLD is revoked at once and for ever.")
@_folder
def rotate(old: str, new: str, accept_days: int, stolen: bool, folder: Path | None) -> None:
    """Hand over from key OLD to key NEW, which is made unless it is there.

    OLD signs it, so every board and server that trusts OLD will trust NEW once it has the statement. Only the newest
    key of a publisher can hand over.
    """
    folder = folder or store.default_directory()
    now = int(time.time())
    try:
        signer = store.load(folder, old)
        ring = _require_newest(folder, signer)
        successor = store.load(folder, new) if (folder / f"{new}.pem").exists() else store.create(folder, new)
        until = 0 if stolen else now + accept_days * 86400
        data = statements.hand_over(signer, successor, _number(ring, signer), until, [signer.key_id] if stolen else [])
        path = _write(folder, successor.name, data)
    except PublisherKeyError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{path}: {new} ({successor.key_id.hex()}) takes over from {old} ({signer.key_id.hex()})")
    click.echo(f"  models signed with {old} count {'no longer' if stolen else _until(until)}")
    click.echo(f"  hand it on with `edgewise keys announce {path}`, then sign with --key {new}")


@keys.command()
@click.argument("key")
@click.option("--by", "newest", required=True, help="The publisher's newest key, which signs.")
@_folder
def revoke(key: str, newest: str, folder: Path | None) -> None:
    """Take back KEY, the name or the id of a key that has handed over: nothing signed with it counts, for ever."""
    folder = folder or store.default_directory()
    try:
        signer = store.load(folder, newest)
        ring = _require_newest(folder, signer)
        key_id = bytes.fromhex(key) if _is_key_id(key) else store.load(folder, key).key_id
        known = ring.keys.get(key_id)
        if known is None or known.newest or known.line != ring.keys[signer.key_id].line:
            raise PublisherKeyError("not-found", f"{key} has not handed over to {newest}: see `edgewise keys list`")
        path = _write(folder, f"revoked-{key_id.hex()}", statements.revoke(signer, _number(ring, signer), [key_id]))
    except PublisherKeyError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{path}: {key_id.hex()} is revoked; hand it on with `edgewise keys announce {path}`")


@keys.command("allow-downgrade")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--key", "name", required=True, help="The publisher's newest key, which signs.")
@click.option(
    "--counter",
    type=click.IntRange(0, 0xFFFFFFFF),
    required=True,
    help="Highest sequence boards may have reached; the sequence of the version to be left.",
)
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="For how long.")
@_folder
def allow_downgrade(file: Path, name: str, counter: int, days: int, folder: Path | None) -> None:
    """Let boards go back to the artifact FILE although they have committed a newer one."""
    folder = folder or store.default_directory()
    data = file.read_bytes()
    try:
        signer = store.load(folder, name)
        _require_newest(folder, signer)
        manifest = artifact.split(data)[1]
        if manifest.sequence >= counter:
            raise PublisherKeyError(
                "bad-name", f"{file} has sequence {manifest.sequence}: boards at {counter} take it without leave"
            )
        until = int(time.time()) + days * 86400
        path = file.with_suffix(f".leave{statements.SUFFIX}")
        path.write_bytes(statements.leave(signer, hashlib.sha256(data).digest(), counter, until))
    except artifact.ArtifactError as error:
        raise click.ClickException(f"{file} is no artifact: {error}") from None
    except PublisherKeyError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{path}: boards up to sequence {counter} may take {manifest.name} {manifest.version}, {_until(until)}")
    click.echo(f"  hand it on with `edgewise keys announce {path}`")


@keys.command("list")
@_folder
@_as_json
def list_keys(folder: Path | None, as_json: bool) -> None:
    """The keys in the folder, with the public half that boards and server trust."""
    folder = folder or store.default_directory()
    try:
        found = store.load_all(folder)
        ring = statements.ring_of(folder, found)
    except PublisherKeyError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps([_facts(key) | {"role": _role(ring, key)} for key in found]))
    elif not found:
        click.echo(f"no keys in {folder}: make one with `edgewise keys new NAME`")
    else:
        # No table: a public key is wider than a terminal, and one cut in lines is none for `edgewise keys trust`.
        for key in found:
            click.echo(f"{key.name}: {_role(ring, key)}")
            _print_public(key)


def _print_public(key: PublisherKey) -> None:
    click.echo(f"  key id      {key.key_id.hex()}")
    click.echo(f"  public key  {key.public.hex()}")


def _require_newest(folder: Path, signer: PublisherKey) -> Keyring:
    """The keys of the folder; raises PublisherKeyError unless `signer` may sign statements."""
    ring = statements.ring_of(folder, store.load_all(folder))
    known = ring.keys.get(signer.key_id)
    if known is None or not known.newest:
        raise PublisherKeyError("retired", f"{signer.name} has handed over or was revoked: see `edgewise keys list`")
    return ring


def _number(ring: Keyring, signer: PublisherKey) -> int:
    """Of the next statement: the unix seconds of now, or more where the last one was made within the second."""
    return max(int(time.time()), ring.keys[signer.key_id].number + 1)


def _write(folder: Path, stem: str, data: bytes) -> Path:
    path = folder / f"{stem}{statements.SUFFIX}"
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise PublisherKeyError("exists", f"{path} exists: it was said before; hand that file on") from None
    return path


def _role(ring: Keyring, key: PublisherKey) -> str:
    if key.key_id in ring.revoked:
        return "revoked"
    known = ring.keys.get(key.key_id)
    if known is None:
        return "unknown"
    return "newest" if known.newest else f"handed over, models count {_until(known.until)}"


def _until(seconds: int) -> str:
    if seconds <= 1:
        return "no longer"
    return f"until {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _is_key_id(text: str) -> bool:
    return len(text) == 2 * artifact.KEY_ID_BYTES and all(c in "0123456789abcdef" for c in text)


def _facts(key: PublisherKey) -> dict[str, str]:
    return {"name": key.name, "key_id": key.key_id.hex(), "public_key": key.public.hex()}
