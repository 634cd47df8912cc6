"""Rules for every tracked file."""

import re
import subprocess

import pytest

from tools.firmware import ROOT

# Where packages are downloaded from is the machine's business. The words are cut so that this file may hold them.
REGISTRY_HOSTS = (
    "pypi." + "org",
    "python" + "hosted.org",
    "deb." + "debian.org",
    "npmjs." + "org",
    "jsdeliv" + "r.net",
)
MACHINE_PATHS = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/")


def tracked_text() -> list[tuple[str, str]]:
    """Path and text of every tracked file that is text."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    found: list[tuple[str, str]] = []
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:
                found.append((name, data.decode("utf-8")))
    return found


def test_no_file_names_a_package_registry():
    for name, text in tracked_text():
        for host in REGISTRY_HOSTS:
            assert host not in text, f"{name} names {host}"


def test_no_file_holds_a_path_of_the_machine_it_was_written_on():
    for name, text in tracked_text():
        for path in MACHINE_PATHS:
            assert not re.search(rf"(?<![\w.*/]){re.escape(path)}", text), f"{name} holds {path}"


def test_scripts_are_executable_and_say_what_runs_them():
    run = ROOT / ".ci" / "run"
    assert run.stat().st_mode & 0o111
    assert run.read_text().startswith("#!")
