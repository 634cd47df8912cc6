"""A loaded model, the model of last resort and the self-test, checked under MicroPython."""

import pytest

from tests.device.update.conftest import RunProgram, checks_of


@pytest.fixture(scope="module")
def outcomes(run_program: RunProgram) -> dict[str, str]:
    return dict(run_program("detection"))


@pytest.mark.parametrize("check", checks_of("detection"))
def test_detector(outcomes: dict[str, str], check: str):
    assert outcomes[check] == ""
