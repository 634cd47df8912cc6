"""`edgewise keys new` and `edgewise keys list`: keys of whoever publishes models, made and kept on their machine."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from model_export import keys as store
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
    click.echo(f"  key id      {key.key_id.hex()}")
    click.echo(f"  public key  {key.public.hex()}")


@keys.command("list")
@_folder
@_as_json
def list_keys(folder: Path | None, as_json: bool) -> None:
    """The keys in the folder, with the public half that boards and server trust."""
    folder = folder or store.default_directory()
    try:
        found = store.load_all(folder)
    except PublisherKeyError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps([_facts(key) for key in found]))
    elif not found:
        click.echo(f"no keys in {folder}: make one with `edgewise keys new NAME`")
    else:
        table = Table("name", "key id", "public key", box=None)
        table.columns[2].overflow = "fold"
        for key in found:
            table.add_row(key.name, key.key_id.hex(), key.public.hex())
        Console().print(table)


def _facts(key: PublisherKey) -> dict[str, str]:
    return {"name": key.name, "key_id": key.key_id.hex(), "public_key": key.public.hex()}
