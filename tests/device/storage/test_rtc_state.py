"""device/rtc_state.py and rtc_ring.py under MicroPython."""

import asyncio
from pathlib import Path

import pytest

from tests.device.storage.test_outbox import cases
from tests.support.micropython import run
from tools.scenario.program import Program

PROGRAM = Path(__file__).with_name("rtc_cases.py")


# What has been seen of every identity, and many rows to compare with, need more than a board has.
LARGE = {
    "no_crash_gives_two_records_one_identity": "16m",
    "two_hundred_readings_of_eight_channels_fit": "16m",
    "a_full_ring_of_layout_3_gives_up_its_oldest_frames": "16m",
    "a_full_ring_drops_its_oldest_frame_and_counts": "8m",
    "a_sealed_frame_never_changes": "8m",
}


@pytest.mark.parametrize("case", cases(PROGRAM))
def test_rtc_state(best_program: Program, case: str):
    figures = asyncio.run(run(PROGRAM, case, heap=LARGE.get(case, "512k"), within=best_program))[0]
    if figures:
        print(figures)
