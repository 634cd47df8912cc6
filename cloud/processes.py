"""`edgewise up`: one process tree on this machine with a broker, an ingest and a web process.

The parent starts the three, starts a dead one again after a pause that doubles from 0.1 s to 2 s, and stops all when it
is told to. It holds a lock on the data folder, so that two trees never share one, and writes `up.json` there: the pids
and addresses by which the command line and the other parts find each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

import msgspec

from cloud import broker
from cloud.errors import BadSettings, Unavailable
from cloud.settings import Settings

log = logging.getLogger("up")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_STEADY_S = 1.5  # a child that lived this long is not in a crash loop: it starts again at the first pause
_STOP_TIMEOUT_S = 8.0
_READY_TIMEOUT_S = 30.0
_PR_SET_PDEATHSIG = 1


class UpState(msgspec.Struct, frozen=True):
    """What up.json holds while a tree runs."""

    pid: int
    http: str
    mqtt_host: str
    mqtt_port: int
    children: dict[str, int]
    """Name (broker, ingest, web) to pid; a child that is just being started again is missing."""


def read_state(settings: Settings) -> UpState | None:
    """The running tree of this data folder, or None when there is none (a file a killed parent left is ignored)."""
    try:
        state = msgspec.json.decode(settings.state_path.read_bytes(), type=UpState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    with _lock(settings) as was_free:
        return None if was_free else state  # nobody holds the lock: the parent is gone


def broker_pid(settings: Settings) -> int | None:
    """The pid of the running broker of this data folder."""
    state = read_state(settings)
    return None if state is None else state.children.get("broker")


class Tree:
    """The children of one data folder. `start` returns when all are up, `wait` when the tree shall end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._commands: dict[str, Sequence[str]] = {
            "broker": broker.server_command(settings),
            "ingest": [sys.executable, "-m", "cloud.ingest"],
            "web": [sys.executable, "-m", "cloud.app"],
        }
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Starts the children and waits until the broker listens and the web process answers; raises Unavailable."""
        for stale in self.settings.broker_dir.glob("*.ports"):
            stale.unlink()
        for name in self._commands:
            self._keepers.append(asyncio.create_task(self._keep(name), name=name))
            if name == "broker":
                await self._until(lambda: broker.is_listening(self.settings), name)
        await self._until(lambda: _connects(self.settings.host, self.settings.http_port), "web")

    async def stop(self) -> None:
        """Ends the children, the broker last, so that what ingest acknowledges still reaches it."""
        self._stopping = True
        for name in reversed(self._commands):
            if process := self._running.get(name):
                await _end(process)
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self.settings.state_path.unlink(missing_ok=True)

    async def _keep(self, name: str) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping:
            began = time.monotonic()
            status: int | str
            try:
                status = await (await self._spawn(name)).wait()
            except OSError as error:  # no memory, no more processes: it passes, and nobody else would try again
                status = str(error)
            self._running.pop(name, None)
            if self._stopping:
                return
            if time.monotonic() - began > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            log.warning("%s ended status=%s restart_in_s=%.1f", name, status, pause_s)
            self._write_state()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _spawn(self, name: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self._commands[name],
            env={**os.environ, **self.settings.environment()},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the parent only, which then ends them in order
            preexec_fn=end_with_parent,
        )
        self._running[name] = process
        self._write_state()
        log.info("%s started pid=%d", name, process.pid)
        return process

    def _write_state(self) -> None:
        settings = self.settings
        children = {name: process.pid for name, process in self._running.items()}
        state = UpState(os.getpid(), settings.http_address, settings.mqtt_host, settings.mqtt_port, children)
        draft = settings.state_path.with_suffix(".draft")
        try:
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
            draft.replace(settings.state_path)
        except OSError as error:  # a full disk: the children matter more
            log.error("%s not written cause=%r", settings.state_path, str(error))

    async def _until(self, is_up: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not await asyncio.to_thread(is_up):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{name} did not start within {_READY_TIMEOUT_S:.0f} s", f"see {self.settings.data_dir}/{name}.log"
                )
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[Tree]:
    """A started tree; its children end with the block, however that ends."""
    tree = Tree(settings)
    try:
        await tree.start()
        yield tree
    finally:
        await tree.stop()


@contextmanager
def owned(settings: Settings) -> Generator[None]:
    """Holds the data folder for one tree; raises BadSettings when another one does, or nothing can be written there."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.data_dir.joinpath("up.lock").touch(mode=0o600)
    except OSError as error:
        cause = f"the data folder {settings.data_dir} cannot be used: {error.strerror}"
        raise BadSettings(cause, "give a folder of your own with --data") from None
    with _lock(settings) as was_free:
        if not was_free:
            raise BadSettings(
                f"{settings.data_dir} is in use by another `edgewise up`", "stop that one, or give another --data"
            )
        yield


def with_free_ports(settings: Settings) -> Settings:
    """The settings with port 0 replaced by a free one; raises BadSettings where nothing can listen."""
    if settings.mqtt_host in ("0.0.0.0", "::"):
        cause = f"boards cannot connect to {settings.mqtt_host}"
        raise BadSettings(cause, "name the address of this machine that they reach with --mqtt-host")
    http = _bindable(settings.host, settings.http_port, "EDGEWISE_HOST", "--port")
    mqtt = _bindable(settings.mqtt_host, settings.mqtt_port, "--mqtt-host", "--mqtt-port")
    return msgspec.structs.replace(settings, http_port=http, mqtt_port=mqtt)


def signalled() -> asyncio.Event:
    """An event that SIGINT or SIGTERM sets, from now on."""
    event = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            log.warning("pid=%d did not end when told to, killing it", process.pid)
            process.kill()
            await process.wait()


def end_with_parent() -> None:
    """For `preexec_fn`: a parent that is killed cannot end its children, so the kernel does (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _lock(settings: Settings) -> Generator[bool]:
    """Tries for the lock of the data folder; yields whether it was free. The kernel frees it when its holder dies."""
    handle = os.open(settings.data_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _bindable(host: str, port: int, host_setting: str, port_option: str) -> int:
    """`port`, or a free one for 0. Raises BadSettings when nothing can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                cause, next_step = f"port {port} is taken", f"give another {port_option}, or 0 for any free one"
            elif error.errno == errno.EACCES:
                cause, next_step = (
                    f"port {port} is for root only",
                    f"give another {port_option}, such as one above 1023",
                )
            else:
                cause, next_step = (
                    f"this machine cannot listen on {host!r}: {error.strerror}",
                    f"correct {host_setting}",
                )
            raise BadSettings(cause, next_step) from None
        bound: int = probe.getsockname()[1]
        return bound
