"""How an update goes on the board, checked under MicroPython on a littlefs in RAM."""

from pathlib import Path

import pytest

from contract import wire
from model_export.keys import PublisherKey
from tests.device.update import forge
from tests.device.update.conftest import RunProgram, checks_of
from tests.device.update.forge import World
from tools.scenario.program import beside

# Of a board with 64 kB to spare, twice as wide here: 64-bit pointers, and code in RAM, not flash. MicroPython keeps
# the names in code in tables that double: the one for names 621 to 1,260 takes 7 kB, on a board with frozen code none.
HEAP = "120k"


@pytest.fixture(scope="module")
def outcomes(run_program: RunProgram, world: World) -> dict[str, str]:
    return dict([*run_program("behaviour", world.folder), *run_program("swaps", world.folder)])


@pytest.mark.parametrize("check", checks_of("behaviour"))
def test_update(outcomes: dict[str, str], check: str):
    assert outcomes[check] == ""


@pytest.mark.parametrize("check", checks_of("swaps"))
def test_swap_between_check_and_use(outcomes: dict[str, str], check: str):
    assert outcomes[check] == ""


def test_update_of_64_kb_fits_the_heap_of_a_board(run_program: RunProgram, publisher: PublisherKey, tmp_path: Path):
    world = World(tmp_path)
    world.trust(publisher)
    # Ballast that is not loaded: the payload ends where MicroPython stops reading it.
    code = forge.payload(20) + bytes(65536)
    world.publish("large", forge.pack(forge.manifest(version="2.0.0", sequence=6), forge.golden(20), code, publisher))
    world.write()
    (tmp_path / "flash").mkdir()
    arguments = ("small_heap", tmp_path, tmp_path / "flash")
    wakes = [run_program(*arguments, heap=HEAP, within=beside())[0] for _ in range(5)]
    reports = [report for wake in wakes for report in wake[0]]
    assert reports == [[wire.UPDATE_DOWNLOAD, 0], [wire.UPDATE_TRIAL, 0], [wire.UPDATE_COMMIT, 0]]
    assert [version for _, version, _ in wakes] == [None, "2.0.0", "2.0.0", "2.0.0", "2.0.0"]
    # A wake without a download has neither elliptic curves nor the container format in RAM.
    assert wakes[4][2] > wakes[0][2] + 20_000
