"""A shadow model on the board: how it comes and goes, its guards, its role, and power cut at every write of it."""

import pytest

from tests.device.update.conftest import CUTS_HEAP, RunProgram, checks_of
from tests.device.update.forge import World


@pytest.fixture(scope="module")
def outcomes(run_program: RunProgram, world: World) -> dict[str, str]:
    return dict(run_program("shadows", world.folder))


@pytest.mark.parametrize("check", checks_of("shadows"))
def test_shadow(outcomes: dict[str, str], check: str):
    assert outcomes[check] == ""


# Story -> operations on flash it takes at least, so that a recording that stopped early can not pass.
STORIES = {"store": 30, "drop": 10, "replace": 40, "crash": 10, "broken": 30}


@pytest.mark.parametrize("story", STORIES)
def test_power_cut_at_every_operation_on_flash(run_program: RunProgram, world: World, story: str):
    """At every boot the active model decides as before, and a shadow runs verified or not at all."""
    (outcome,) = run_program("shadow_cuts", world.folder, story, heap=CUTS_HEAP)
    assert outcome["wrong"] == []
    assert outcome["operations"] >= STORIES[story]
