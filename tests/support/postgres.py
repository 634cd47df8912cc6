"""A real PostgreSQL server of the test run's own: no service, no root needed, gone with the tests."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

_START_DEADLINE_S = 30.0
_USER = "edgewise"


def find_programs() -> Path | None:
    """The folder with `initdb` and `postgres`: on PATH, or where Debian keeps each version apart."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent  # the others are beside it, and perhaps not linked
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return debian[-1].parent if debian else None


class Postgres:
    """One server in a folder of its own, listening on a loopback port."""

    def __init__(self, programs: Path, port: int) -> None:
        self._programs = programs
        self._port = port
        self._made = 0
        # Not below pytest's folder, whose mode (0700) keeps another user out.
        self._folder = Path(tempfile.mkdtemp(prefix="edgewise-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self._uid = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
        if self._uid is not None:
            os.chown(self._folder, self._uid, -1)
        data = str(self._folder / "data")
        self._run("initdb", "--no-locale", "--encoding=UTF8", "--auth=trust", f"--username={_USER}", "-D", data)

    def start(self) -> None:
        """Returns when it takes connections."""
        options = ("listen_addresses=127.0.0.1", f"port={self._port}", f"unix_socket_directories={self._folder}")
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._folder / "data", *(f"-c{option}" for option in options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("ab"),
            cwd=self._folder,
            user=self._uid,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_DEADLINE_S
        while subprocess.call([self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]):
            log = (self._folder / "log").read_text(errors="replace")
            assert time.monotonic() < deadline, log[-2000:]
            assert self._process.poll() is None, log[-2000:]
            time.sleep(0.05)

    def crash(self) -> None:
        """Ends every process of the server at once, without a checkpoint: what is left is what was synced."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGQUIT)
        self._process.wait(10)

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._made += 1
        name = f"edgewise_{self._made}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", _USER, name)
        return f"postgresql://{_USER}@127.0.0.1:{self._port}/{name}"

    def stop(self) -> None:
        """Ends it and removes its folder."""
        if self._process is not None and self._process.poll() is None:
            self.crash()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], cwd=self._folder, user=self._uid, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")


@contextlib.contextmanager
def running(free_port: Callable[[], int]) -> Generator[Postgres | None]:
    """A server, or None where PostgreSQL is not installed."""
    programs = find_programs()
    if programs is None:
        yield None
        return
    server = Postgres(programs, free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()
