"""The parts of the demo: models trained and exported, a server, boards. Everything through the `edgewise` command."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud.client import Client, connect
from cloud.processes import end_with_parent, read_state
from cloud.settings import load_settings
from model_export import data, windows
from model_export.keys import PublisherKey
from tools.commands import Command
from tools.provision import BoardPlan, Broker, make_board

COMMAND_DEADLINE_S = 120
START_DEADLINE_S = 60
STOP_DEADLINE_S = 15
_SAMPLE_MS = {"water-flow": 7_500, "shuttle": 60_000}  # both kinds then wake once a minute
INTERVAL_MS = 60_000
SYNC_INTERVAL_MS = 480_000


class DemoFailed(Exception):
    """A part of the demo did not do what it must; the message says which and what it printed."""


@dataclass(frozen=True)
class Kind:
    """One kind of board: its series, and the part of it that each board plays.

    first_training: what the first model is trained with, too little of the series; the second takes what suits it.
    """

    name: str
    boards: tuple[str, ...]
    first_training: tuple[str, ...]


KINDS = (
    Kind("water-flow", ("flow-1", "flow-2"), ("--train-part", "0.07", "--held-out-part", "0.06")),
    Kind("shuttle", ("shuttle-1", "shuttle-2", "shuttle-3"), ("--train-part", "0.005", "--held-out-part", "0.005")),
)


@dataclass(frozen=True)
class Recording:
    """What a board plays. rows: int32 (n, channels) counts; labels: bool (n,), or None where the series has none."""

    schema: str
    window: int
    channels: tuple[str, ...]
    rows: np.ndarray[Any, np.dtype[np.int32]]
    labels: np.ndarray[Any, np.dtype[np.bool_]] | None


Models = dict[str, dict[str, Path]]
"""Artifacts by version, "1.0.0" and "2.0.0", then by kind of board."""


async def edgewise(*words: str, environ: Mapping[str, str] | None = None) -> Any:
    """Run an `edgewise` command with --json; returns what it printed, parsed. Raises DemoFailed."""
    command = await asyncio.to_thread(Command, *words, "--json", environ=os.environ | dict(environ or {}))
    try:
        done = await asyncio.to_thread(command.ended, COMMAND_DEADLINE_S)
    except asyncio.CancelledError:
        command.kill()
        raise
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"`edgewise {' '.join(words)}` took over {COMMAND_DEADLINE_S} s:\n{error.stderr}") from None
    if done.returncode:
        raise DemoFailed(f"`edgewise {' '.join(words)}` ended with status {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def recording(kind: str, part: int, parts: int) -> Recording:
    """The rows after the training part of a series, one of `parts` equal shares of them."""
    series = data.load(kind)
    preset = data.PRESETS[kind]
    features = windows.parse_schema(preset.schema)
    counts = windows.to_counts(series, features)
    # Boards see what the models never saw, water flow's from its held-out part on: the series is short.
    begin = int(len(counts) * preset.train_part)
    share = (len(counts) - begin) // parts
    rows = slice(begin + part * share, begin + (part + 1) * share)
    labels = None if series.labels is None else series.labels[rows]
    names = tuple(channel.name for channel in features.channels)
    return Recording(preset.schema, features.window, names, counts[rows], labels)


async def make_models(folder: Path, key: Path) -> Models:
    """Train and export two versions for each kind."""

    async def make(kind: Kind, version: str, training: tuple[str, ...]) -> Path:
        trained = folder / f"{kind.name}-{version}"
        await edgewise("model", "train", "--data", kind.name, "--out", str(trained), *training)
        artifact = folder / f"{kind.name}-{version}.ewa"
        await edgewise(
            *("model", "export", str(trained), "--version", version, "--key", str(key), "--out", str(artifact))
        )
        return artifact

    made = await asyncio.gather(
        *(make(kind, "1.0.0", kind.first_training) for kind in KINDS), *(make(kind, "2.0.0", ()) for kind in KINDS)
    )
    names = [kind.name for kind in KINDS]
    return {
        "1.0.0": dict(zip(names, made[: len(KINDS)], strict=True)),
        "2.0.0": dict(zip(names, made[len(KINDS) :], strict=True)),
    }


@dataclass(frozen=True)
class Server:
    """A running `edgewise up`."""

    data: Path
    http: str
    mqtt_port: int

    def client(self) -> Client:
        """A connection to it, with its admin token."""
        return connect(load_settings(data_dir=self.data), environ={})

    def kill(self, child: str) -> None:
        """SIGKILL a process of the tree: "broker", "ingest" or "web". Raises DemoFailed when it does not run."""
        state = read_state(load_settings(data_dir=self.data))
        if state is None or child not in state.children:
            raise DemoFailed(f"the {child} process is not there to be killed")
        os.kill(state.children[child], signal.SIGKILL)


@contextlib.asynccontextmanager
async def server(data_dir: Path, environ: Mapping[str, str] | None = None) -> AsyncGenerator[Server]:
    """`edgewise up` on free ports, ended with the block. Raises DemoFailed."""
    log = data_dir.parent / "up.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.cli", "up", "--data", str(data_dir)),
            *("--port", "0", "--mqtt-port", "0", "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=os.environ | dict(environ or {}),
            start_new_session=True,  # Ctrl-C is for us; we then end it in order
            preexec_fn=end_with_parent,
        )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_DEADLINE_S)
        if not line:
            raise DemoFailed(f"`edgewise up` did not start:\n{log.read_text()}")
        said = json.loads(line)
        yield Server(data_dir, said["http"], said["mqtt_port"])
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_DEADLINE_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def make_boards(folder: Path, up: Server, publisher: PublisherKey) -> dict[str, Recording]:
    """Add the boards to the server and make their folders below `folder`; returns what each plays, by device."""
    plays: dict[str, Recording] = {}
    for kind in KINDS:
        added = await edgewise("device", "add", *kind.boards, "--kind", kind.name, "--data", str(up.data))
        for part, given in enumerate(added):
            device = str(given["device"])
            plays[device] = recording(kind.name, part, len(kind.boards))
            login = given["broker"]
            plan = BoardPlan(
                device=device,
                kind=kind.name,
                schema=plays[device].schema,
                interval_ms=INTERVAL_MS,
                broker=Broker(login["port"], login["host"], login["user"], login["password"]),
                trusted_keys={publisher.key_id.hex(): publisher.public.hex()},
                settings={"sync_interval_ms": SYNC_INTERVAL_MS},
            )
            make_board(folder / device, plan, plays[device].rows.tolist(), _SAMPLE_MS[kind.name])
    return plays
