"""umqtt.simple for boards simulated on this machine, put into build/umqtt (put that folder on MICROPYPATH).

Every ESP32 image has the module frozen in. On this machine it comes from the package `micropython-umqtt.simple`, an
sdist of the upip era that pip and uv cannot build; unearth only finds and downloads it, from the package index this
machine is set up for.
"""

import configparser
import os
import sys
import tempfile
from pathlib import Path

from unearth import PackageFinder

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "build" / "umqtt"

REQUIREMENT = "micropython-umqtt.simple==1.3.4"
SDIST_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
MODULE = "umqtt/simple.py"


class UmqttUnavailable(Exception):
    """umqtt.simple could not be had; `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{REQUIREMENT}: {reason}. Simulated boards cannot connect without it. Check that the package index "
            "pip is set up for can be reached, then run `make setup` again."
        )


def fetch() -> Path:
    """Return the folder holding umqtt/simple.py, downloading it first when it is not there. Raises UmqttUnavailable."""
    if (TARGET / MODULE).is_file():
        return TARGET
    TARGET.parent.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=TARGET.parent, prefix="umqtt-") as work:
            unpacked = _download(Path(work))
            (TARGET / MODULE).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / MODULE).rename(TARGET / MODULE)
    except UmqttUnavailable:
        raise
    except Exception as error:  # unearth lets the errors of its HTTP client through, which differ between releases
        raise UmqttUnavailable(f"{type(error).__name__}: {error}") from error
    return TARGET


def _download(work: Path) -> Path:
    indexes, more_indexes = configured_indexes()
    finder = PackageFinder(index_urls=indexes, no_binary=[":all:"], ignore_compatibility=True)
    for address in more_indexes:
        finder.add_index_url(address)
    best = finder.find_best_match(REQUIREMENT).best
    if best is None:
        raise UmqttUnavailable("no package index that was asked has it")
    return finder.download_and_unpack(best.link, work / "sdist", work / "download", hashes={"sha256": [SDIST_SHA256]})


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
    try:
        print(f"umqtt.simple: {fetch() / MODULE}")
    except UmqttUnavailable as unavailable:
        print(unavailable, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
