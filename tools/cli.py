"""The `edgewise` command: composes the groups that each package defines, importing one only when it is asked for.

A line of COMMANDS names the modules a command comes from. A group may come from several: `edgewise model train` is
model_export's and `edgewise model publish` the cloud's, because neither of the two may import the other.
"""

import importlib
from collections.abc import Iterator
from importlib.metadata import version

import click

COMMANDS = {
    "up": (("cloud.cli",), "Run broker, ingest and pages on this machine."),
    "device": (("cloud.cli",), "Add, list and show boards."),
    "frames": (("cloud.cli",), "Inspect and replay frames that were set aside."),
    "model": (("model_export.cli", "cloud.models.cli"), "Train, export, publish, list and show models."),
    "keys": (("model_export.cli", "cloud.models.cli"), "Make publisher keys, and say whose signature counts."),
    "frames": (("cloud.cli",), "Inspect and replay frames that ingest set aside."),
    "board": (("tools.board_cli",), "Flash and deploy to a board on a serial port."),
    "demo": (("tools.demo.cli",), "Five simulated boards, two outages, one model update."),
    "doctor": (("tools.doctor",), "Say what this machine lacks, and how to get it."),
}


class _Composed(click.Group):
    """The commands of several groups in one; a command comes from the first module that has it."""

    def __init__(self, name: str, modules: tuple[str, ...], help: str) -> None:  # noqa: A002 - click's own name
        super().__init__(name, help=help)
        self.own_name = name
        self.modules = modules

    def _groups(self) -> Iterator[click.Group]:
        for module in self.modules:
            group = _load(module, self.own_name)
            if isinstance(group, click.Group):
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
        modules, summary = COMMANDS[cmd_name]
        if len(modules) > 1:
            return _Composed(cmd_name, modules, summary)
        return _load(modules[0], cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table, so that the list appears at once and without importing a web server.
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _load(module: str, name: str) -> click.Command:
    try:
        command = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise click.ClickException(
            f"`{name}` cannot be loaded: {error}. Run `make setup`, then use .venv/bin/edgewise."
        ) from error
    if not isinstance(command, click.Command):
        raise TypeError(f"{module}.{name} is not a click command")
    return command


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
