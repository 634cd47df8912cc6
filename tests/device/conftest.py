"""A real broker for the tests of the board side."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker

PROGRAMS = Path(__file__).parent / "on_board"


@pytest.fixture
def broker(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Broker]:
    """A broker that is up, without logins."""
    broker = Broker(tmp_path / "nats", free_port(), free_port())
    broker.start()
    yield broker
    broker.kill()
