"""Power is cut at every write and erase of an update, and half-way through each.

Every boot runs a verified model, at most three boots run one that crashes, a digest that was taken back never runs
again, and what the scenario promises is reached and reported.
"""

import pytest

from tests.device.update.conftest import CUTS_HEAP, RunProgram
from tests.device.update.forge import World

# Scenario -> operations on flash it takes at least, so that a recording that stopped early can not pass.
SCENARIOS = {
    "first": 60,
    "update": 100,
    "crash": 100,
    "broken": 30,
    "patch": 100,
    "whole": 100,
    "deflated": 60,
    "revert": 40,
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cut_at_every_operation(run_program: RunProgram, world: World, scenario: str):
    (outcome,) = run_program("power_cuts", world.folder, scenario, heap=CUTS_HEAP)
    assert outcome["wrong"] == []
    assert outcome["operations"] >= SCENARIOS[scenario]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_several_cuts_in_a_row(run_program: RunProgram, world: World, scenario: str):
    (outcome,) = run_program("power_cuts", world.folder, scenario, 1, 12, heap=CUTS_HEAP)
    assert outcome["wrong"] == []


@pytest.mark.soak
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("seed", range(10, 14))
def test_many_cuts_in_a_row(run_program: RunProgram, world: World, scenario: str, seed: int):
    (outcome,) = run_program("power_cuts", world.folder, scenario, seed, 150, heap=CUTS_HEAP)
    assert outcome["wrong"] == []
