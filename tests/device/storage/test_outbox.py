"""device/outbox.py under MicroPython on littlefs in RAM."""

import ast
import asyncio
from pathlib import Path

import pytest

from tests.support.micropython import run

PROGRAM = Path(__file__).with_name("outbox_cases.py")


def cases(program: Path) -> list[str]:
    """The functions of a case program that take nothing: each is a case, and its name says what must hold."""
    functions = [node for node in ast.parse(program.read_text()).body if isinstance(node, ast.FunctionDef)]
    return [function.name for function in functions if not function.args.args]


# The flash of these cases is in the same heap: 288 kB of it for a full outbox.
LARGE = {"a_full_outbox_takes_little_more_memory_than_an_empty_one": "512k"}


@pytest.mark.parametrize("case", cases(PROGRAM))
def test_outbox(case: str):
    figures = asyncio.run(run(PROGRAM, case, heap=LARGE.get(case, "320k")))[0]
    if figures:
        print(figures)
