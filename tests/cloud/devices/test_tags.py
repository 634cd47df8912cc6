"""Tags are put on all boards named or on none."""

from pathlib import Path
from typing import Any

import pytest

from cloud.devices.tags import MAX_TAGS, tag
from cloud.errors import BadRequest, EdgewiseError, NotFound
from cloud.store.engine import writing
from tests.support.fleet import Fleet, settings_in


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet(settings_in(tmp_path))
    made.add("pump-1", "pump-2")
    return made


def tagged(fleet: Fleet, names: list[str], add: list[str], remove: list[str]) -> dict[str, list[str]]:
    async def work(engine: Any) -> dict[str, list[str]]:
        async with writing(engine).begin() as connection:
            return await tag(connection, names, add, remove)

    return fleet.run(work)


def test_tags_are_added_taken_away_and_shown(fleet: Fleet) -> None:
    assert tagged(fleet, ["pump-1", "pump-2"], ["wet", "site:north"], []) == {
        name: ["site:north", "wet"] for name in ("pump-1", "pump-2")
    }
    assert tagged(fleet, ["pump-2"], ["dry", "dry"], ["wet"]) == {"pump-2": ["dry", "site:north"]}
    assert tagged(fleet, ["pump-1"], [], []) == {"pump-1": ["site:north", "wet"]}


@pytest.mark.parametrize(
    ("names", "add", "error", "said"),
    [
        (["pump-1", "nobody"], ["wet"], NotFound, "no device nobody"),
        (["pump-1"], ["Wet!"], BadRequest, "tag 'Wet!'"),
        ([], ["wet"], BadRequest, "0 boards"),
        (["pump-1"], [f"t{n}" for n in range(MAX_TAGS + 1)], BadRequest, "would have 17 tags"),
    ],
)
def test_a_mistake_tags_nothing(
    fleet: Fleet, names: list[str], add: list[str], error: type[EdgewiseError], said: str
) -> None:
    with pytest.raises(error, match=said):
        tagged(fleet, names, add, [])
    assert tagged(fleet, ["pump-1"], [], []) == {"pump-1": []}
