"""Commands run as forks of one process: the same options, output, exit status and environment as when started alone."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tools.commands import Command
from tools.firmware import program


def test_a_forked_command_does_what_a_started_one_does(tmp_path: Path):
    words = ("keys", "list", "--keys", str(tmp_path / "none"), "--json")
    alone = subprocess.run([program("edgewise"), *words], capture_output=True, text=True, timeout=60, check=False)
    done = Command(*words).ended(60)
    assert (done.returncode, done.stdout, done.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_it_runs_in_the_folder_and_environment_it_is_given(tmp_path: Path):
    environ = {"PATH": os.environ["PATH"], "XDG_DATA_HOME": str(tmp_path / "home")}
    made = Command("keys", "new", "site", "--json", environ=environ).ended(60)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "home").is_dir()
    listed = Command("keys", "list", "--keys", "home/edgewise/keys", "--json", folder=tmp_path).ended(60)
    assert [key["name"] for key in json.loads(listed.stdout)] == ["site"]


def test_a_refusal_has_its_status_and_its_words():
    done = Command("model", "train", "--data", "no-such.csv", "--out", "x").ended(60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no-such.csv" in done.stderr


def test_a_command_that_takes_too_long_is_killed(tmp_path: Path):
    command = Command("up", "--data", str(tmp_path / "data"), "--port", "0", "--mqtt-port", "0", "--json")
    with pytest.raises(subprocess.TimeoutExpired):
        command.ended(0.2)
