"""tools/setup.sh: what it does without a network here, the whole of it in a fresh clone under `make soak`."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.firmware import ROOT

NOBODY = 65534


@pytest.fixture
def set_up_folder(tmp_path: Path) -> Path:
    """A folder whose stamp says that everything is installed; nothing is."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/setup.sh", tmp_path / "tools/setup.sh")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("a==1\n")
    key = f"echo $(pwd) $(cat {tmp_path}/pyproject.toml {tmp_path}/constraints.txt {tmp_path}/tools/setup.sh | cksum)"
    stamp = subprocess.run(["sh", "-c", key], cwd=tmp_path, capture_output=True, check=True, timeout=30).stdout
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.setup-stamp").write_bytes(stamp)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run setup.sh where neither uv nor Python is on PATH."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("sh", "dirname", "cat", "cksum", "grep", "rm"):
        found = shutil.which(name)
        assert found
        if not (programs / name).exists():
            (programs / name).symlink_to(found)
    return subprocess.run(
        [str(programs / "sh"), str(folder / "tools/setup.sh"), *arguments],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_nothing_is_done_when_nothing_changed(set_up_folder: Path):
    done = run(set_up_folder, "--if-needed")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_pins_are_installed(set_up_folder: Path, name: str):
    with (set_up_folder / name).open("a") as file:
        file.write("# changed\n")
    done = run(set_up_folder, "--if-needed")
    assert done.returncode == 1
    assert "installing into .venv with pip" in done.stdout
    assert not (set_up_folder / ".venv/.setup-stamp").exists()


def test_moved_checkout_is_installed_anew(set_up_folder: Path):
    moved = set_up_folder.parent / "moved"
    set_up_folder.rename(moved)
    assert "installing into .venv" in run(moved, "--if-needed").stdout
    assert not (moved / ".venv").exists()


def test_machine_without_python_is_told_what_to_install(set_up_folder: Path):
    (set_up_folder / "constraints.txt").write_text("a==2\n")
    done = run(set_up_folder)
    assert done.returncode == 1
    assert "no Python 3.11 or newer on PATH" in done.stderr
    assert "uv" in done.stderr


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A new folder every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fresh_clone_sets_itself_up_without_root(open_folder: Path):
    clone = open_folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, timeout=60)
    command = ["make", "-C", str(clone), "setup"]
    environment = os.environ | {"HOME": str(open_folder)}
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(open_folder)], check=True, timeout=60)
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
        environment["PATH"] = "/usr/local/bin:/usr/bin:/bin"  # a Python of root's own may be out of reach
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "build/umqtt/umqtt/simple.py").is_file()
    version = subprocess.run([clone / ".venv/bin/edgewise", "--version"], capture_output=True, check=True, timeout=60)
    assert version.stdout.startswith(b"edgewise ")
