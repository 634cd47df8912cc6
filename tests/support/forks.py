"""A process that has imported the ingest process and forks it on request: 25 ms to ready instead of a second.

`python -m tests.support.forks` reads one line per child, its environment as a JSON object, and answers with its pid.
"""

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

from cloud.ingest.__main__ import main as ingest_main
from cloud.processes import end_with_parent

_ROOT = Path(__file__).parents[2]


class Forks:
    """The parent of ingest processes."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(_ROOT), str(_ROOT / "firmware")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what children have to say is in their ingest.log
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def start(self, environ: dict[str, str]) -> int:
        """Starts an ingest process, returns its pid at once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(environ) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@cache
def shared_forks() -> Forks:
    """One for the whole test run; it ends with it, because its input ends."""
    return Forks()


def _serve() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries killed children
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            end_with_parent()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.environ.update(json.loads(line))
            ingest_main()
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()
