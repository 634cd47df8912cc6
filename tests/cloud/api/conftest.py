"""One web process and one store per test module; tests keep apart by their own names."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model_export.keys import PublisherKey
from tests.support.artifacts import new_key
from tests.support.fleet import Fleet, settings_in
from tests.support.web import Web


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Web]:
    """A running web process."""
    folder: Path = tmp_path_factory.mktemp("data")
    with Web(settings_in(folder), free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def fleet(web: Web) -> Fleet:
    """The boards of that web process's store."""
    return Fleet(web.settings)


@pytest.fixture(scope="module")
def key(web: Web) -> PublisherKey:
    """A publisher key the server trusts."""
    made = new_key()
    answer = web.admin.post("/api/v1/keys", json={"public_key": made.public.hex(), "label": "tests"})
    assert answer.status_code == 200, answer.text
    return made
