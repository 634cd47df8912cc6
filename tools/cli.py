"""The `edgewise` command: composes the groups that each package defines, importing one only when it is asked for.

A line of COMMANDS names the modules a command comes from. A group may come from several: `edgewise model train` is
model_export's and `edgewise model publish` the cloud's, because neither of the two may import the other.
"""

import errno
import importlib
import io
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import click

# Command: (where its parts are, as module:attribute, one line of help).
COMMANDS = {
    "up": (("cloud.cli:up",), "Run broker, ingest and pages on this machine."),
    "device": (("cloud.cli:device", "cloud.devices.cli:device"), "Add, list and show boards, and what they said."),
    "model": (
        ("model_export.cli:model", "model_export.cli_search:model", "cloud.models.cli:model"),
        "Train, export, publish, list and show models.",
    ),
    "evaluate": (("model_export.cli_evaluate:evaluate",), "Score public recordings by compiled models, beside others."),
    "rollout": (("cloud.rollouts.cli:rollout",), "Bring a version to few boards first, and back when it does worse."),
    "keys": (
        ("model_export.keys_cli:keys", "cloud.models.cli:keys"),
        "Make publisher keys, say whose signature counts.",
    ),
    "frames": (("cloud.cli:frames",), "Inspect and replay frames that ingest set aside."),
    "backup": (("cloud.backup:backup",), "Copy a server's data folder while it runs."),
    "board": (("tools.board_cli:board",), "Flash and deploy to a board on a serial port."),
    "sim": (("tools.sim_cli:sim", "tools.scenario.cli:sim"), "Make and run simulated boards, for days if need be."),
    "policy": (("tools.scenario.policy_cli:policy",), "Replay other policies over what boards recorded."),
    "demo": (("tools.demo.cli:demo",), "Five simulated boards, two outages, one model update."),
    "doctor": (("tools.doctor:doctor",), "Say what this machine lacks, and how to get it."),
}


class _Composed(click.Group):
    """The commands of several groups in one; a command comes from the first group that has it."""

    def __init__(self, name: str, parts: tuple[str, ...], summary: str) -> None:
        super().__init__(name, help=summary)
        self.parts = parts

    def _groups(self) -> Iterator[click.Group]:
        for part in self.parts:
            group = _load(part)
            if not isinstance(group, click.Group):
                raise TypeError(f"{part} is not a click group")
            yield group

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({name for group in self._groups() for name in group.list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return next((found for group in self._groups() if (found := group.get_command(ctx, cmd_name))), None)


class _Edgewise(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        parts, summary = COMMANDS[cmd_name]
        return _load(parts[0]) if len(parts) == 1 else _Composed(cmd_name, parts, summary)

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a kind of board may hold letters that this locale does not have
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except OSError as error:  # a folder that is not there or not ours, a full disk: no fault of the program
            if error.errno == errno.EPIPE or not (error.filename or error.errno == errno.ENOSPC):
                raise
            named = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{named}{error.strerror}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table, so that the list appears at once and without importing a web server.
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _load(part: str) -> click.Command:
    module, _, attribute = part.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise click.ClickException(f"{error}. Run `make setup`, then use .venv/bin/edgewise.") from error


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"edgewise {version('edgewise')}")
        ctx.exit()


@click.command(cls=_Edgewise, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print it.")
def main() -> None:
    """Anomaly detection on small sensors: scikit-learn models, boards that sleep, one server that watches them."""


if __name__ == "__main__":
    main()
