"""`edgewise board`: list, flash and deploy, the commands around tools/board.py."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click

from model_export import keys
from tools import board as boards
from tools.chips import WrongImage
from tools.firmware import CompileFailed
from tools.provision import ProvisioningError, read_login

_port = click.option("--port", help="Serial port or pyserial URL; not needed when one board is plugged in.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result for a program.")
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@contextmanager
def _plain_errors() -> Generator[None]:
    try:
        yield
    except (
        boards.BoardError,
        WrongImage,
        CompileFailed,
        ProvisioningError,
        keys.PublisherKeyError,
        OSError,
    ) as error:
        raise click.ClickException(str(error)) from None


@click.group()
def board() -> None:
    """Put MicroPython and the firmware onto a board at a serial port."""


@board.command("list")
@click.option("--chip", "ask_chip", is_flag=True, help="Ask each board for its chip, which restarts it.")
@_as_json
def list_ports(ask_chip: bool, as_json: bool) -> None:
    """List the USB serial ports, and with --chip what is on them."""
    with _plain_errors():
        rows = [port._asdict() | ({"chip": _chip_at(port.path)} if ask_chip else {}) for port in boards.serial_ports()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("no board is on any USB port; plug it in with a data cable")
    for row in [] if as_json else rows:
        click.echo("  ".join(str(value) for value in row.values()))


def _chip_at(port: str) -> str:
    try:
        return boards.detect_chip(port).name
    except boards.BoardError as error:
        return f"({error.cause})"


@board.command()
@_port
@click.option("--image", type=_file, required=True, help="MicroPython's .bin for this chip.")
@click.option("--erase", is_flag=True, help="Also erase the board's files: configuration, models, unsent records.")
@_as_json
def flash(port: str | None, image: Path, erase: bool, as_json: bool) -> None:
    """Write a MicroPython image, after checking that it is a complete one for the chip on the port."""
    with _plain_errors():
        port = boards.choose_port(port)
        chip = boards.flash(port, image, erase, shown=not as_json)
    if as_json:
        click.echo(json.dumps({"port": port, "chip": chip.name, "image": str(image), "erased": erase}))
    else:
        click.echo(f"{image.name} is on the {chip.name} at {port}. Next: edgewise board deploy --config config.json")


@board.command("config")
@click.option("--login", type=_file, required=True, help="What `edgewise device add` printed for this board.")
@click.option("--with", "own", type=_file, required=True, help="JSON with its wifi, schema and sensor: docs/boards.md.")
@click.option("--trust", multiple=True, help="Name of a publisher key (`edgewise keys new`) whose models it takes.")
@click.option("--keys", "key_folder", type=click.Path(path_type=Path), help="Folder with publisher keys.")
@click.option("--out", type=click.Path(path_type=Path), default="config.json", show_default=True)
def config_(login: Path, own: Path, trust: tuple[str, ...], key_folder: Path | None, out: Path) -> None:
    """Join a board's login with what is wired to it into a config.json, and check that a board can run with it."""
    with _plain_errors():
        publishers = [keys.load(key_folder or keys.default_directory(), name) for name in trust]
        config = boards.join_config(read_login(login.read_bytes()), own, publishers)
        try:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise click.ClickException(f"{out} exists: name another file with --out, or move it away") from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(config, file, indent=1)
    takes = ", ".join(trust) or "nobody: name a key with --trust before it shall take one over the air"
    click.echo(f"{out}: {config['device']} for {config['broker']['host']}:{config['broker']['port']}, keep it secret")
    click.echo(f"  takes models signed by {takes}")


@board.command()
@_port
@click.option("--config", type=_file, required=True, help="The config.json that `edgewise board config` made.")
@click.option("--artifact", "artifacts", type=_file, multiple=True, help="A model; give several, the fitting one goes.")
@_as_json
def deploy(port: str | None, config: Path, artifacts: tuple[Path, ...], as_json: bool) -> None:
    """Compile the firmware for the board's processor, copy it with its configuration, and restart the board.

    Files of an earlier release are removed; the records the board has not sent yet stay. A model is installed by the
    board itself, which checks it as it checks one that comes over the air.
    """
    with _plain_errors():
        port = boards.choose_port(port)
        done = boards.deploy(port, config, list(artifacts))
    if as_json:
        click.echo(json.dumps({"port": port} | done._asdict()))
        return
    what = f"{done.files} files" if done.files else f"{config.name}, beside the firmware in its image"
    click.echo(f"{what}, {done.bytes} bytes for {done.arch} are on {done.machine} at {port}.")
    if done.removed:
        click.echo(f"{done.removed} files of an earlier release were removed.")
    if done.artifact:
        click.echo(f"Model: {done.artifact}")


if __name__ == "__main__":
    board()
