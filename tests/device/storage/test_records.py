"""device/records.py under MicroPython; that it survives power cuts is in test_power_cuts.py."""

import asyncio
from pathlib import Path

import pytest

from tests.device.storage.test_outbox import cases
from tests.support.micropython import run

PROGRAM = Path(__file__).with_name("record_cases.py")


@pytest.mark.parametrize("case", cases(PROGRAM))
def test_records(case: str):
    figures = asyncio.run(run(PROGRAM, case, heap="256k"))[0]
    if figures:
        print(figures)
