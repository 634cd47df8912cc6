"""MicroPython packages of the upip era, put into build/<name> (put that folder on MICROPYPATH).

They are sdists that pip and uv cannot build. unearth only finds and downloads one, by name, from the package index this
machine is set up for; its SHA-256 is checked here.
"""

import configparser
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"


class Sdist(NamedTuple):
    folder: str
    """Below build/, where the modules go."""
    requirement: str
    sha256: str
    modules: tuple[str, ...]
    """What of it is kept: a file, or a folder with all its files; the first tells that it is there."""
    without_it: str
    """What does not work when it cannot be had."""
    required: bool


# Frozen into every ESP32 image; on this machine it comes from here.
UMQTT = Sdist(
    "umqtt",
    "micropython-umqtt.simple==1.3.4",
    "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f",
    ("umqtt/simple.py",),
    "Simulated boards cannot connect",
    required=True,
)
# The assembler of the ESP32's ULP coprocessor; tools/gen_ulp.py keeps what it makes in the repository.
ESP32_ULP = Sdist(
    "ulp_assembler",
    "micropython-py-esp32-ulp==1.1.0",
    "708f2b36195ae2c17de0483396939681999e004e072297d3bd9ad4b86787fd09",
    ("esp32_ulp",),
    "The ULP program that is here works, but cannot be changed",
    required=False,
)
ALL = (UMQTT, ESP32_ULP)


class Unavailable(Exception):
    """A package could not be had; `reason` says why."""

    def __init__(self, sdist: Sdist, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{sdist.requirement}: {reason}. {sdist.without_it} without it. Check that the package index "
            "pip is set up for can be reached, then run `make setup` again."
        )


def is_here(sdist: Sdist) -> bool:
    return (BUILD / sdist.folder / sdist.modules[0]).exists()


def fetch(sdist: Sdist) -> Path:
    """Return the folder holding the package's modules, downloading them first when not there. Raises Unavailable."""
    target = BUILD / sdist.folder
    if is_here(sdist):
        return target
    BUILD.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=BUILD, prefix=f"{sdist.folder}-") as work:
            unpacked = _download(sdist, Path(work))
            for module in reversed(sdist.modules):  # the first last: it tells that all are there
                (target / module).parent.mkdir(parents=True, exist_ok=True)
                (unpacked / module).rename(target / module)
    except Unavailable:
        raise
    except Exception as error:  # unearth lets the errors of its HTTP client through, which differ between releases
        raise Unavailable(sdist, f"{type(error).__name__}: {error}") from error
    return target


def _download(sdist: Sdist, work: Path) -> Path:
    from unearth import PackageFinder  # here: it takes half a second, and every command that runs boards comes by

    indexes, more_indexes = configured_indexes()
    finder = PackageFinder(index_urls=indexes, no_binary=[":all:"], ignore_compatibility=True)
    for address in more_indexes:
        finder.add_index_url(address)
    best = finder.find_best_match(sdist.requirement).best
    if best is None:
        raise Unavailable(sdist, "no package index that was asked has it")
    return finder.download_and_unpack(best.link, work / "sdist", work / "download", hashes={"sha256": [sdist.sha256]})


def configured_indexes() -> tuple[list[str], list[str]]:
    """The index addresses (main, extra) this machine sets for uv or pip; no main one means the usual public index."""
    main = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or os.environ.get("PIP_INDEX_URL")
    extra = os.environ.get("UV_EXTRA_INDEX_URL") or os.environ.get("PIP_EXTRA_INDEX_URL") or ""
    config = configparser.ConfigParser(interpolation=None)
    config.read(_pip_config_files())
    main = main or config.get("global", "index-url", fallback=None)
    extra = extra or config.get("global", "extra-index-url", fallback="")
    return ([main] if main else []), extra.split()


def _pip_config_files() -> list[Path]:
    """pip's configuration files on Unix, later ones overriding (pip's user guide, "Configuration files")."""
    if os.environ.get("PIP_CONFIG_FILE"):
        return [Path(os.environ["PIP_CONFIG_FILE"])]
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [Path("/etc/pip.conf"), user / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf"]


def main() -> int:
    status = 0
    for sdist in ALL:
        try:
            print(f"{sdist.requirement}: {fetch(sdist)}")
        except Unavailable as unavailable:
            print(unavailable, file=sys.stderr)
            status |= sdist.required
    return status


if __name__ == "__main__":
    sys.exit(main())
