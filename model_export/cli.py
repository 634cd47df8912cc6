"""`edgewise model train` and `edgewise model export`."""

import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from model_export import keys
from model_export.errors import ModelError

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.group("model")
def model() -> None:
    """Train, export and publish models."""


@contextmanager
def explained() -> Generator[None]:
    """Errors a user can put right end the command with their message, not with a traceback."""
    try:
        yield
    except (ModelError, keys.PublisherKeyError) as error:
        raise click.ClickException(str(error)) from None


def _given(*parameters: str) -> bool:
    """True where one of these was written on the command line."""
    source = click.get_current_context().get_parameter_source
    return any(source(name) is ParameterSource.COMMANDLINE for name in parameters)


def _created() -> int:
    """Unix seconds of now, or as SOURCE_DATE_EPOCH says (reproducible-builds.org)."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given and not given.isdecimal():
        raise ModelError("bad-data", f"SOURCE_DATE_EPOCH is {given!r}: give unix seconds, or unset it")
    return int(given or time.time())


def _settings(_context: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings


@model.command()
@click.option("--data", "source", required=True, help="water-flow, shuttle, or a CSV file.")
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path), help="Folder for the model.")
@click.option("--name", help="Name of the model; by default that of the data.")
@click.option("--columns", help="Channels, separated by commas; by default every numeric column.")
@click.option("--label", help="Column with 1 or true in anomalous rows; they are kept out of training.")
@click.option("--schema", help="Feature schema; by default the data's own, or one made from --window and --features.")
@click.option("--window", type=click.IntRange(1, 256), default=16, show_default=True, help="Samples in a window.")
@click.option("--features", "tokens", default="mean,var,min,max,ld,zc", show_default=True, help="Of every channel.")
@click.option("--detector", default="elliptic-envelope", show_default=True)
@click.option("--set", "settings", multiple=True, callback=_settings, help="NAME=VALUE for the scikit-learn estimator.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--train-part", type=_SHARE, help="Share of the rows to train on; by default 0.4 or the data's own.")
@click.option("--held-out-part", type=_SHARE, help="Share after it to set the threshold on; 0.3 or the data's own.")
@click.option(
    "--false-alarms",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.01,
    show_default=True,
    help="Share of normal windows above the threshold.",
)
@click.option(
    "--threshold",
    type=click.Choice(["held-out", "extreme-value"]),
    default="held-out",
    show_default=True,
    help="Count held-out windows, or fit their tail: for rates rarer than one in as many as are held out.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "int16"]),
    default="float32",
    show_default=True,
    help="Of features and tables: int16 halves the tables, and says how many decisions that changed.",
)
@click.option("--warm-from", type=click.Path(path_type=Path), help="Folder of a forest whose trees to keep.")
@click.option("--replace-share", type=_SHARE, default=0.1, show_default=True, help="Of its trees, the oldest.")
@click.option("--json", "as_json", is_flag=True, help="Print the model card.")
def train(
    source: str,
    folder: Path,
    name: str | None,
    columns: str | None,
    label: str | None,
    schema: str | None,
    window: int,
    tokens: str,
    train_part: float | None,
    held_out_part: float | None,
    warm_from: Path | None,
    replace_share: float,
    as_json: bool,
    **plan: Any,
) -> None:
    """Train a detector on a recorded series and choose its threshold."""
    # scikit-learn takes a second to import; --help and the other commands need not wait for it.
    from model_export import data, windows
    from model_export import model as models
    from model_export import train as training

    with explained():
        preset = data.PRESETS.get(source)
        plan["train_part"] = train_part or (preset.train_part if preset else 0.4)
        plan["held_out_part"] = held_out_part or (preset.held_out_part if preset else 0.3)
        if plan["train_part"] + plan["held_out_part"] > 1:
            raise ModelError("bad-data", "--train-part and --held-out-part together exceed the series: at most 1")
        series = data.load(source, tuple(columns.split(",")) if columns else (), label)
        if schema is None:
            own = preset.schema if preset and not columns and not _given("window", "tokens") else None
            schema = own or windows.schema_for(series, window, tuple(tokens.split(",")), plan["train_part"])
        start = training.Warm(models.load(warm_from), replace_share) if warm_from else None
        of = training.Plan(name=name or _plain(series.name), schema=schema, **plan)
        trained = training.train(series, of, start=start)
        models.save(trained, folder)
    if as_json:
        click.echo(trained.card_bytes().decode(), nl=False)
        return
    card = trained.card
    alarms = card["false_alarms"]
    low, high = alarms["confidence_95"]
    counts = card["windows"]
    click.echo(f"{card['name']}: {card['detector']} on {series.name}, in {folder}")
    click.echo(f"  windows       {counts['train']} to train, {counts['held_out']} held out, {counts['test']} to test")
    click.echo(f"  schema        {card['schema']}")
    click.echo(f"  threshold     {card['threshold']:.6g}, margin {card['margin']:.3g}")
    click.echo(f"  false alarms  {alarms['held_out']:.2%} of held-out windows (95 %: {low:.2%} to {high:.2%})")
    if "f1" in card["test"]:
        click.echo("  test          F1 {f1:.2f}, precision {precision:.2f}, recall {recall:.2f}".format(**card["test"]))
    else:
        click.echo(f"  test          {card['test']['alarms']} alarms in {card['test']['windows']} windows, no labels")
    if "warm" in card:
        click.echo(f"  trees         {card['warm']['kept']} kept, {card['warm']['replaced']} new")
    _echo_quantisation(card)
    for remark in card["remarks"]:
        click.echo(f"  remark        {remark}")


def _echo_quantisation(card: dict[str, Any]) -> None:
    """What an int16 model decides otherwise than the float32 one."""
    if "quantisation" not in card:
        return
    found = card["quantisation"]
    differing = f"{found['decisions_differing']} of {found['windows']}"
    click.echo(f"  int16         {differing} windows decided otherwise than in float32")
    if found["bits_left_out"]:
        lost = ", ".join(f"{name} {bits}" for name, bits in found["bits_left_out"].items())
        click.echo(f"  bits left out {lost}")


def _plain(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-")[:48] or "model"


@model.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--target",
    "form",
    type=click.Choice(["native", "blob"]),
    default="native",
    show_default=True,
    help="Machine code for one architecture, or a table that any board scores: tree ensembles, and Gaussians of int16.",
)
@click.option("--arch", help="x64, rv32imc, armv7emsp or xtensawin; by default that of --board, else x64.")
@click.option("--board", help="Refuse a model too heavy for it: esp32, esp32-s3, esp32-c3, esp32-c6 or nrf52840.")
@click.option("--budget-bytes", type=click.IntRange(1), help="Refuse a larger model; overrides the board's own limit.")
@click.option("--base", type=click.Path(path_type=Path), help="An earlier table, .ewa: trees in both keep their bytes.")
@click.option("--version", required=True, help="MAJOR.MINOR.PATCH")
@click.option("--sequence", type=int, help="Anti-rollback counter; by default it follows from the version.")
@click.option("--key", required=True, help="Name of a publisher key, or its .pem file.")
@click.option("--keys", "key_folder", type=click.Path(path_type=Path), help="Folder with publisher keys.")
@click.option("--expires", type=int, default=0, help="Unix seconds after which no board may install it.")
@click.option("--shadow-only", is_flag=True, help="Sign it to score beside another model and never to decide.")
@click.option(
    "--stands-in-for",
    "original",
    type=click.Path(path_type=Path),
    help="Folder of the model this one replaces on boards that cannot take it, in the same version.",
)
@click.option("--rung", type=click.IntRange(1, 9), default=1, show_default=True, help="Of several, the lowest first.")
@click.option("--out", "file", type=click.Path(path_type=Path), help="By default NAME-VERSION-ARCH.ewa.")
@click.option("--json", "as_json", is_flag=True)
def export(
    folder: Path,
    form: str,
    arch: str | None,
    board: str | None,
    budget_bytes: int | None,
    base: Path | None,
    version: str,
    sequence: int | None,
    key: str,
    key_folder: Path | None,
    expires: int,
    shadow_only: bool,
    original: Path | None,
    rung: int,
    file: Path | None,
    as_json: bool,
) -> None:
    """Compile a trained model, prove it equal to scikit-learn's, and sign it.

    Besides FILE.ewa, FILE.card.json is written, the model card the artifact refers to. The same model, version, key and
    SOURCE_DATE_EPOCH give the same bytes.
    """
    from contract import artifact as container
    from model_export import budget, package
    from model_export import model as models

    with explained():
        target = budget.by_name(board) if board else None
        if form == "blob" and arch:
            raise ModelError("unsupported", "a table blob is for any architecture: leave out --arch")
        if form != "blob" and base:
            raise ModelError("unsupported", "machine code resembles no base: add --target blob, or leave out --base")
        arch = container.ANY_ARCH if form == "blob" else arch or (target.arch if target else "x64")
        release = package.Release(
            version,
            package.default_sequence(version) if sequence is None else sequence,
            _created(),
            expires,
            container.CLASS_SHADOW if shadow_only else container.CLASS_MODEL,
        )
        trained = models.load(folder)
        signer = _key(key, key_folder)
        standing_in = package.stand_in(trained, models.load(original), rung) if original else None
        if form == "blob":
            done = package.export_table(trained, release, signer, _table_of(base) if base else None, standing_in)
        else:
            done = package.export_native(trained, arch, release, signer, standing_in)
        limit = budget_bytes or (target.payload_bytes if target else None)
        if limit is not None:
            budget.require(trained, arch, len(container.split(done.artifact)[3]), limit, board or "--budget-bytes")
    file = file or Path(f"{trained.card['name']}-{version}-{arch}.ewa")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".card.json").write_bytes(done.card)
    file.write_bytes(done.artifact)
    outcome = done.parity
    if as_json:
        click.echo(json.dumps({"file": str(file), "bytes": len(done.artifact)} | json.loads(done.card)["export"]))
        return
    click.echo(f"{file}: {len(done.artifact)} bytes, {arch}, signed")
    click.echo(
        f"  parity        {outcome.points} points, {outcome.decisions_differing} decisions differ, "
        f"scores by at most {outcome.largest_difference:.2g}"
    )
    if standing_in:
        click.echo(f"  stands in     on rung {rung}, decides {standing_in.disagreement:.2%} of the windows otherwise")
    _echo_quantisation(trained.card)


def _table_of(file: Path) -> bytes:
    """The table in an artifact on disk; raises ModelError(bad-model)."""
    from contract import artifact as container

    try:
        _head, manifest, _golden, payload = container.split(file.read_bytes())
    except (OSError, container.ArtifactError) as error:
        raise ModelError("bad-model", f"{file} is no artifact: {error}. Name the .ewa of an earlier export") from None
    if manifest.format != container.FORMAT_BLOB:
        raise ModelError("bad-model", f"{file} holds machine code: name the .ewa of an earlier --target blob")
    return payload


def _key(name: str, folder: Path | None) -> keys.PublisherKey:
    """A key by name, or by the path of its file."""
    if name.endswith(".pem"):
        return keys.load(Path(name).parent, Path(name).stem)
    return keys.load(folder or keys.default_directory(), name)
