"""One suite, two runtimes: every function of suite/spec_*.py runs under CPython and under MicroPython.

The functions use nothing but the language, so that the same file runs on both. Each is one test per runtime here.
"""

import importlib
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITE = Path(__file__).parent / "suite"
RUNNER = Path(__file__).parent / "run_suite.py"
HEAP = "512k"
DEADLINE_S = 100


def modules() -> list[str]:
    return sorted(path.stem for path in SUITE.glob("spec_*.py"))


def load(name: str) -> ModuleType:
    return importlib.import_module(f"tests.contract.suite.{name}")


def suite_tests() -> list[str]:
    return [f"{name}.{test}" for name in modules() for test in sorted(dir(load(name))) if test.startswith("test_")]


@pytest.fixture(scope="module")
def on_micropython(micropython: str) -> dict[str, str | None]:
    """The failure, or None, of each test under MicroPython."""
    ran = subprocess.run(
        [micropython, "-X", f"heapsize={HEAP}", str(RUNNER), *modules()],
        env=os.environ | {"MICROPYPATH": f"{ROOT / 'firmware'}:{ROOT}:.frozen"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    results = [json.loads(line) for line in ran.stdout.splitlines()]
    return {result["test"]: result["failure"] for result in results}


@pytest.mark.parametrize("name", suite_tests())
def test_cpython(name: str) -> None:
    module, function = name.split(".")
    getattr(load(module), function)()


@pytest.mark.parametrize("name", suite_tests())
def test_micropython(name: str, on_micropython: dict[str, str | None]) -> None:
    assert name in on_micropython, "MicroPython did not find this test"
    assert on_micropython[name] is None, on_micropython[name]


def test_both_runtimes_run_the_same_number_of_tests(on_micropython: dict[str, str | None]) -> None:
    counted = len(suite_tests())
    print(f"{counted} tests on CPython, {len(on_micropython)} on MicroPython")
    assert counted == len(on_micropython) > 0
