"""Each attack is refused with its own reason, reported once, and the old model runs on."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from contract import wire
from model_export import keys
from model_export.keys import PublisherKey
from tests.device.update import attacks, forge
from tests.device.update.attacks import Attack
from tests.device.update.conftest import RunProgram


def _names() -> list[str]:
    """The attacks' names, found without a key at hand: they are needed before any fixture runs."""
    key = PublisherKey("none", keys.ec.generate_private_key(keys.ec.SECP256R1()))
    return [attack.name for attack in attacks.all_attacks(key, key)]


@pytest.fixture(scope="module")
def table(publisher: PublisherKey, tmp_path_factory: pytest.TempPathFactory) -> list[Attack]:
    return attacks.all_attacks(publisher, keys.create(tmp_path_factory.mktemp("stranger"), "stranger"))


@pytest.fixture(scope="module")
def suffered(run_program: RunProgram, world: forge.World, table: list[Attack]) -> dict[str, list[Any]]:
    """Name of the attack -> [[state, reason] of the last report, the old model runs, reports with a reason]."""
    cases: list[dict[str, Any]] = []
    for number, attack in enumerate(table):
        case = asdict(attack) | {"id": f"attack-{number}"}
        case["offer"] = forge.offer(attack.offered or attack.data, **attack.offer)
        if attack.offered is None and "sha256" not in attack.offer:
            case["offer"]["sha256"] = forge.offer(attack.data)["sha256"]
        del case["data"], case["offered"]
        case["statements"] = [said.hex() for said in attack.statements]
        (world.folder / f"{case['id']}.bin").write_bytes(attack.data)
        cases.append(case)
    path = Path(world.folder) / "attacks.json"
    path.write_text(json.dumps(cases))
    return {name: result for name, *result in run_program("attacks", world.folder, path)}


@pytest.mark.parametrize("name", _names())
def test_attack_is_refused_with_its_reason(suffered: dict[str, list[Any]], table: list[Attack], name: str):
    (attack,) = [attack for attack in table if attack.name == name]
    (state, reason), unharmed, reports = suffered[name]
    assert (state, wire.REASON_NAMES[reason]) == (wire.UPDATE_REFUSED, wire.REASON_NAMES[attack.reason])
    assert unharmed, "the old model no longer runs"
    assert reports == 1


def test_there_are_forty_attacks_and_every_reason_that_refuses_an_artifact(table: list[Attack]):
    assert len(table) >= 40
    # The rest is no property of what is sent: the board's flash, the trial, a WANT that is stale (test_update.py).
    elsewhere = {
        wire.REASON_OK,
        wire.REASON_NO_SPACE,
        wire.REASON_TRIAL_FAILED,
        wire.REASON_FLASH,
        wire.REASON_STALE_OFFER,
        wire.REASON_OLD_STATEMENT,  # of statements: test_statements.py
        wire.REASON_OTHERS_KEY,
        wire.REASON_NO_MEMORY,  # the server's, before it offers anything
        wire.REASON_BAD_PATCH,  # refuses a patch and not the artifact: test_update.py
        wire.REASON_LOW_BATTERY,  # a download waits and nothing is refused: test_update.py
        wire.REASON_NOT_NOW,
    }
    assert {attack.reason for attack in table} == set(range(len(wire.REASON_NAMES))) - elsewhere
