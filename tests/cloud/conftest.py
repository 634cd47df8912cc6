"""A store with one board in it."""

from pathlib import Path

import pytest

from tests.support.fleet import settings_in
from tests.support.store import BOARD, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(settings_in(tmp_path / "data"))
    made.add(BOARD)
    return made
