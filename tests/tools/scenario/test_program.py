"""Which MicroPython simulated boards run in, and that it changes no result."""

from pathlib import Path

import pytest

from tests.support import scenarios
from tests.support.scenarios import as_printed, live
from tools import frozen_port, unix_port
from tools.scenario import program, schema
from tools.scenario.program import Program

POLICIES = [{"name": "Edgewise"}, {"name": "JSON", "uplink": "json", "batch": 3}]


@pytest.mark.parametrize("policy", range(len(POLICIES)))
def test_the_frozen_firmware_lives_as_the_one_in_files(frozen_program: Program, policy: int, tmp_path: Path):
    faults = [{"kind": "power-cut", "at": "40m"}, {"kind": "lossy", "from": "50m", "to": "80m", "share": 0.5}]
    given = scenarios.tables("90m", faults, signal=scenarios.with_injections(scenarios.BURST | {"every": "20m"}))
    scenario = schema.parse(given | {"policy": POLICIES}, Path())
    in_files, _ = live(scenario, tmp_path / "files", policy)
    frozen, result = live(scenario, tmp_path / "frozen", policy, program=frozen_program)
    assert as_printed(frozen) == as_printed(in_files)
    assert result.alerts
    assert result.crashes == {"power-cut": 1}


def test_the_best_one_is_frozen_and_says_nothing_when_it_is_built(frozen_program: Program):
    told: list[str] = []
    assert program.best(told.append) == frozen_program
    assert told == []
    assert frozen_program.path == ".frozen"
    assert (Path(frozen_program.features) / "ew_features.mpy").is_file()


def test_without_a_compiler_the_firmware_runs_from_files_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frozen_port, "HOST", frozen_port.HOST._replace(compiler=("no-such-gcc",)))
    told: list[str] = []
    assert program.best(told.append) == program.beside()
    (reason,) = told
    assert "no C compiler for it: Debian: apt install build-essential" in reason
    assert "from compiled files instead" in reason


def test_a_port_that_does_not_build_is_announced_and_then_done_without(
    native_toolchain: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(unix_port, "CACHE", tmp_path)
    monkeypatch.setattr(frozen_port, "HOST", frozen_port.HOST._replace(flags=("-fno-such-flag",)))
    told: list[str] = []
    assert program.best(told.append) == program.beside()
    announced, reason = told
    assert announced.startswith("building MicroPython's unix port: a minute")
    assert "-fno-such-flag" in reason


def test_a_port_that_is_not_built_in_time_is_done_without(
    native_toolchain: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(unix_port, "CACHE", tmp_path)
    monkeypatch.setattr(unix_port, "BUILD_DEADLINE_S", 0.1)
    told: list[str] = []
    assert program.best(told.append) == program.beside()
    assert "not built within 0.1 s" in told[-1]
