"""RTC memory and outbox together in 192 kB of heap: words have 64 bits here, so a board would need half of that."""

import asyncio
from pathlib import Path

from tests.support.micropython import run

PROGRAM = Path(__file__).with_name("small_heap.py")


def test_ring_and_outbox_work_in_a_small_heap(tmp_path: Path):
    figures = asyncio.run(run(PROGRAM, str(tmp_path), heap="192k"))[0]
    print(figures)
    assert figures["rows"] > 1500
    assert figures["least bytes free"] > 10_000
