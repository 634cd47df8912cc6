"""`edgewise` commands run by a program, each in a process of its own that need not import anything first.

A command by itself imports for half a second, and for two where it trains or exports. Here one process has imported
what commands need, and each command is a fork of it (multiprocessing's fork server): the same options, the same code.
"""

import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "tools.cli",
        "tools.sim_cli",
        "cloud.models.cli",
        "cloud.rollouts.cli",
        "model_export.train",
        "model_export.package",
    ]
)
_END_S = 5.0  # until a killed process is gone


class Command:
    """`edgewise WORDS`, started with all of `environ` and in `folder`; by default those of this process."""

    def __init__(self, *words: str, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        self.words = words
        self._work = tempfile.TemporaryDirectory(prefix="edgewise-command-")
        self._out, self._err = (Path(self._work.name) / name for name in ("out", "err"))
        for file in (self._out, self._err):
            file.touch()  # one that is killed before it begins has said nothing
        arguments = (
            words,
            dict(os.environ if environ is None else environ),
            folder or Path.cwd(),
            self._out,
            self._err,
        )
        self._process = _FORKS.Process(target=_run, args=arguments)
        self._process.start()

    def ended(self, deadline_s: float) -> subprocess.CompletedProcess[str]:
        """Wait for the end of it. Raises subprocess.TimeoutExpired when it had to be killed, like subprocess.run."""
        with self._work:
            self._process.join(deadline_s)
            late = self._process.exitcode is None
            if late:
                self.kill()
            out, err = self._out.read_text(), self._err.read_text()
        if late:
            raise subprocess.TimeoutExpired(("edgewise", *self.words), deadline_s, out, err)
        return subprocess.CompletedProcess(("edgewise", *self.words), self._process.exitcode or 0, out, err)

    def kill(self) -> None:
        """End it where it is; whoever waits for it learns that it ended by a signal."""
        self._process.kill()
        self._process.join(_END_S)


def _run(words: tuple[str, ...], environ: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    from tools.cli import main

    for path, descriptor in ((out, 1), (err, 2)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    main(args=list(words), prog_name="edgewise")
