"""Power cuts at every flash operation of the outbox, the A/B records and the configuration, once and twice.

On littlefs, as on a board, and on files that a cut leaves torn, where CRC and A/B copies have to do alone what littlefs
does otherwise. What is checked after each cut is in outbox_world.py and record_cuts.py.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.micropython import run
from tools.scenario.program import Program

OUTBOX_CUTS = Path(__file__).with_name("outbox_cuts.py")
RECORD_CUTS = Path(__file__).with_name("record_cuts.py")
HEAP = "32m"  # the chip, the log of its operations, and copies of it
DEADLINE_S = 280  # the longest takes 10 s on an idle core
Cut = Callable[..., dict[str, Any]]


@pytest.fixture
def cut(best_program: Program) -> Cut:
    """Runs a program of this folder with arguments; returns its figures."""

    def of(program: Path, arguments: dict[str, Any], deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        figures = asyncio.run(run(program, arguments, deadline_s, HEAP, best_program))[0]
        print(f"{arguments}: {figures}")
        return figures

    return of


@pytest.mark.parametrize(("medium", "drain_every"), [("littlefs", 32), ("torn files", 16)])
def test_no_single_cut_loses_doubles_or_corrupts_a_stored_record(cut: Cut, medium: str, drain_every: int):
    figures = cut(OUTBOX_CUTS, {"medium": medium, "records": 1000, "drain_every": drain_every})
    assert figures["schedules"] == 3 * figures["operations"] > 4000
    assert figures["drained"] > 200


@pytest.mark.parametrize(("medium", "schedules"), [("littlefs", 4000), ("torn files", 1000)])
def test_no_two_cuts_lose_double_or_corrupt_a_stored_record(cut: Cut, medium: str, schedules: int):
    figures = cut(OUTBOX_CUTS, {"medium": medium, "records": 300, "schedules": schedules, "seed": 1})
    assert figures["schedules"] == schedules


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("medium", "schedules"), [("littlefs", 80_000), ("torn files", 20_000)])
def test_no_two_cuts_in_a_hundred_thousand_lose_double_or_corrupt_a_stored_record(
    cut: Cut, medium: str, schedules: int
):
    arguments = {"medium": medium, "records": 1000, "schedules": schedules, "seed": 2}
    assert cut(OUTBOX_CUTS, arguments, deadline_s=1800)["schedules"] == schedules


@pytest.mark.parametrize(
    ("medium", "value"), [("littlefs", "record"), ("torn files", "record"), ("littlefs", "configuration")]
)
def test_a_cut_leaves_a_record_old_or_new(cut: Cut, medium: str, value: str):
    figures = cut(RECORD_CUTS, {"medium": medium, "value": value, "stores": 40})
    assert figures["cuts"] > 80
    assert figures["cut_twice"] > 500
