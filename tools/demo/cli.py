"""`edgewise demo`."""

import asyncio
import json
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from cloud.errors import EdgewiseError
from tools.demo import audit, report, stage, story
from tools.micropython_source import source_dir
from tools.simulate import BoardFailed

_TABLE_WIDTH = 150


@click.command()
@click.option("--keep", is_flag=True, help="Leave the server and its page running at the end, until Ctrl-C.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Keep all files here, for a look.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def demo(keep: bool, folder: Path | None, as_json: bool) -> None:
    """Five simulated boards, two outages, one model update; then every record is accounted for.

    Exit status 0 only when each record that a board made is stored once, and every board took the new model.
    """
    if source_dir() is None:
        raise click.ClickException(
            "the demo compiles its models to native modules, and the MicroPython source for that is missing. "
            "`edgewise doctor` says how to get it."
        )
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal ends it as Ctrl-C does: nothing stays behind
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=True)
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/dim]  {text}", highlight=False, soft_wrap=True)

    async def at_end(up: stage.Server, outcomes: list[report.Outcome]) -> None:
        if as_json:
            click.echo(json.dumps(report.plain(outcomes, time.monotonic() - began)))
        else:
            # Into a file or a pipe the table keeps its width: a line per board.
            Console(width=None if sys.stdout.isatty() else _TABLE_WIDTH).print(report.table(outcomes))
        say("every record is stored once" if all(o.sound for o in outcomes) else "see the lines in red")
        if keep:
            say(f"the page stays open at {up.http} until Ctrl-C")
            await asyncio.Event().wait()

    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgewise-demo-")))
        elif folder.exists() and any(folder.iterdir()):
            raise click.ClickException(f"{folder} is not empty: name a new folder")
        try:
            outcomes = asyncio.run(story.run(folder, say, at_end))
        except KeyboardInterrupt:
            raise click.Abort from None
        except (EdgewiseError, stage.DemoFailed, audit.AuditFailed, BoardFailed) as error:
            raise click.ClickException(str(error)) from error
    sys.exit(0 if all(outcome.sound for outcome in outcomes) else 1)
