"""What tests of several packages share: programs, ports, processes that always end, and data that may be missing."""

import os

# The arrays of tests are small: threads over them mostly spin and wait for each other, for ten times the CPU time of a
# KMeans, and tests run on every core already. Said before numpy is imported, and inherited by what a test starts.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import contextlib
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model_export import qemu
from model_export.errors import ModelError
from tests.support import postgres as postgres_server
from tools import frozen_port, micropython_source, sdists, unix_port
from tools.firmware import program
from tools.scenario import program as scenario_program
from tools.scenario.program import Program

STOP_DEADLINE_S = 5

_TESTS = Path(__file__).parent
_LONGEST_FIRST = ("system", "tools", "model_export", "native", "device", "contract", "cloud")
_BUILD_A_PORT = {"chip_port", "best_program", "emulated_board_built", "fast_wakes", "frozen_program"}

Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="session")
def micropython() -> str:
    """Path of the MicroPython that runs the firmware on this machine."""
    return program("micropython")


@pytest.fixture(scope="session")
def umqtt_path() -> str:
    """The folder to put on MICROPYPATH for `import umqtt.simple`."""
    return str(sdists.fetch(sdists.UMQTT))


@pytest.fixture(scope="session")
def native_toolchain() -> Path:
    """The MicroPython source, for tests that build a native module for this machine; skips without it or a compiler."""
    source = micropython_source.source_dir()
    if source is None:
        pytest.skip("no MicroPython source: `make setup` fetches it, or set MPY_DIR")
    try:
        program("gcc")
    except FileNotFoundError:
        pytest.skip("no C compiler (Debian: apt install build-essential)")
    return source


@pytest.fixture(scope="session")
def chip_port() -> Path:
    """A MicroPython with a chip's words and floats and the firmware frozen in; skips where it cannot be built."""
    try:
        return frozen_port.build(frozen_port.CHIP)
    except frozen_port.PortUnavailable as unavailable:
        pytest.skip(str(unavailable))


@pytest.fixture(scope="session")
def frozen_program() -> Program:
    """The firmware frozen into a MicroPython with this machine's words; skips where it cannot be built."""
    try:
        return scenario_program.frozen()
    except frozen_port.PortUnavailable as unavailable:
        pytest.skip(str(unavailable))


@pytest.fixture(scope="session")
def best_program() -> Program:
    """The fastest MicroPython there is with the firmware, for scenarios and for programs that compute for long.

    No test waits for its build within its own deadlines.
    """
    return scenario_program.best(print)


@pytest.fixture(scope="session")
def fast_wakes() -> Path | None:
    """What boards of long tests wake in: the firmware frozen into a MicroPython, in half the time of the ROM image.

    None, which stands for that image, where it cannot be built.
    """
    try:
        return frozen_port.build(frozen_port.HOST)
    except frozen_port.PortUnavailable:
        return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: workers take a file at a time, and the last ones should be short, so that none waits long.

    Whoever asks for a port first waits while it is built: a minute on two cores that do nothing else.
    """
    places = {folder: place for place, folder in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.relative_to(_TESTS).parts[0], 0))
    for item in items:
        if _BUILD_A_PORT & set(getattr(item, "fixturenames", ())):
            own = item.get_closest_marker("timeout")
            deadline_s = unix_port.BUILD_DEADLINE_S + (own.args[0] if own else 120)
            item.add_marker(pytest.mark.timeout(deadline_s), append=False)


class _FailuresAsTheyHappen:
    """Names a test that failed at once, with the last line of why: the run goes on for minutes."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            reason = report.longreprtext.strip().rpartition("\n")[2]
            self._terminal.write(f"\n{report.when} of {report.nodeid} failed: {reason}\n", red=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:  # a worker of pytest-xdist has none: who started it hears of its tests
        session.config.pluginmanager.register(_FailuresAsTheyHappen(terminal))


@pytest.fixture(scope="session")
def emulated_board_built() -> None:
    """The board that exports are proved on is there, so that no command waits for its build within its own deadline."""
    if qemu.available():
        with contextlib.suppress(ModelError):  # the test that needs it will say why
            qemu.firmware()


@pytest.fixture(scope="session")
def evaluation_data() -> Path:
    """The folder of recorded machines; skips when EDGEWISE_DATA names none."""
    folder = Path(os.environ.get("EDGEWISE_DATA", ""))
    if not os.environ.get("EDGEWISE_DATA") or not folder.is_dir():
        pytest.skip("EDGEWISE_DATA names no folder with evaluation data")
    return folder


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function that returns a loopback TCP port nobody listens on, another one at each call."""
    given: set[int] = set()

    def next_port() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            if port not in given:
                given.add(port)
                return port

    return next_port


@pytest.fixture(scope="session")
def postgres_or_none(free_port: Callable[[], int]) -> Iterator[postgres_server.Postgres | None]:
    """The PostgreSQL server of this run, started when a test first asks; None without its programs."""
    with postgres_server.running(free_port) as server:
        yield server


@pytest.fixture
def postgres(postgres_or_none: postgres_server.Postgres | None) -> postgres_server.Postgres:
    """A running PostgreSQL server that the tests share, each with a database of its own; skips without its programs."""
    if postgres_or_none is None:
        pytest.skip("no PostgreSQL server programs (Debian: apt install postgresql)")
    return postgres_or_none


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Start a program in its own process group; its output goes to <number>.log in tmp_path. All end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str | Path, **options: object) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{len(running)}.log").open("wb")
        with log:
            defaults = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
            process = subprocess.Popen([str(part) for part in command], **(defaults | options))  # type: ignore[call-overload]
        running.append(process)
        return process

    yield start
    for process in running:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to stop, then kill what is left of it: a child may outlive a parent that was killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_DEADLINE_S)
