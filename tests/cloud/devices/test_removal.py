"""A board that is taken out of the fleet leaves it, whatever it was part of; what it said stays."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloud.devices.commands import command
from cloud.devices.provisioning import Provisioner
from cloud.devices.tags import tag
from cloud.errors import Conflict
from cloud.models.housekeeping import delete_version
from cloud.rollouts.queries import show_rollout
from cloud.store import tables as t
from cloud.store.engine import writing
from contract import wire
from tests.support.fleet import Fleet, settings_in
from tests.support.rollout_fleet import OLD, RolloutFleet


def remove(fleet: Fleet, device: str) -> None:
    fleet.run(lambda engine: Provisioner(fleet.settings, engine).remove(device))


def test_tags_and_unsent_commands_go_with_the_board_and_its_records_stay(tmp_path: Path) -> None:
    fleet = Fleet(settings_in(tmp_path))
    fleet.joined("pump-1")
    fleet.event("pump-1")

    async def hang_on(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await tag(connection, ["pump-1"], ["wet"], [])
            await command(connection, "pump-1", wire.VERB_RAW_WINDOW, [1])

    fleet.run(hang_on)
    remove(fleet, "pump-1")
    assert [fleet.rows(sa.select(table)) for table in (t.devices, t.device_tags, t.commands)] == [[], [], []]
    assert len(fleet.rows(sa.select(t.events))) == 1


def test_a_board_of_a_rollout_can_be_removed_once_that_has_ended(tmp_path: Path) -> None:
    made = RolloutFleet(tmp_path, 30, reports=1)
    rollout = made.started()
    with pytest.raises(Conflict, match=f"pump-001 is in rollout {rollout}"):
        remove(made.fleet, "pump-001")
    made.rollouts(lambda rollouts: rollouts.abort(rollout))
    remove(made.fleet, "pump-001")

    async def shown(engine: Any) -> Any:
        async with engine.connect() as connection:
            return await show_rollout(connection, rollout, made.now)

    assert made.run(shown).summary.boards == 29


def test_a_removed_board_keeps_no_model_from_being_deleted(tmp_path: Path) -> None:
    made = RolloutFleet(tmp_path, 1, reports=0)

    async def delete(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await connection.execute(sa.delete(t.aliases))
            await delete_version(connection, "flow", OLD)

    with pytest.raises(Conflict, match="pump-000 is told to run it"):
        made.run(delete)
    remove(made.fleet, "pump-000")
    made.run(delete)
