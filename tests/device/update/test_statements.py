"""Statements on keys: what is sound changes the keys for good, what is not is refused with its own reason."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from contract import wire
from contract.keyring import MAX_KEYS
from model_export import statements
from model_export.keys import PublisherKey
from tests.device.update import forge, key_attacks
from tests.device.update.conftest import RunProgram
from tests.device.update.key_attacks import KeyAttack

DAY_S = 86_400


@dataclass(frozen=True)
class Outcome:
    """attacks: name -> [reason, keys as before, v1 runs]; cut: [operations, wrong]; line: key ids at times."""

    attacks: dict[str, list[Any]]
    cut: list[Any]
    line: list[list[str]]


KEY, OTHER, STRANGER = (forge.spare_key(name) for name in ("key", "other", "stranger"))
ATTACKS = key_attacks.all_attacks(KEY, OTHER, STRANGER)
LINE = [KEY, *(forge.spare_key(f"year-{i}") for i in range(2 * MAX_KEYS))]


def _trusted(publisher: PublisherKey) -> dict[str, str]:
    """The publisher of v1 is one line, KEY and OTHER are two more."""
    return {key.key_id.hex(): key.public.hex() for key in (publisher, KEY, OTHER)}


@pytest.fixture(scope="module")
def outcome(run_program: RunProgram, world: forge.World, publisher: PublisherKey) -> Outcome:
    trusted = _trusted(publisher)
    successor = forge.spare_key("successor")
    after = sorted({*trusted, successor.key_id.hex()} - {KEY.key_id.hex()})
    handed = [
        (statements.hand_over(LINE[i], LINE[i + 1], 1 + i, (i + 2) * DAY_S).hex(), (i + 1) * DAY_S)
        for i in range(len(LINE) - 1)
    ]
    cases: dict[str, Any] = {
        "attacks": [
            {
                "name": attack.name,
                "data": attack.data.hex(),
                "before": [said.hex() for said in attack.before],
                "now_s": attack.now_s,
                "trusted": {key.key_id.hex(): key.public.hex() for key in (KEY, OTHER, publisher)}
                if "more keys" not in attack.name
                else {key.key_id.hex(): key.public.hex() for key in (KEY, publisher)},
            }
            for attack in ATTACKS
        ],
        "cut": {"trusted": trusted, "data": statements.hand_over(KEY, successor, 1, 0).hex(), "after": after},
        "line": {"trusted": trusted, "statements": handed, "at_s": [len(LINE) * DAY_S, (len(LINE) + 5) * DAY_S]},
    }
    path = world.folder / "statements.json"
    path.write_text(json.dumps(cases))
    *attacks, cut, line = run_program("statements", world.folder, path)
    return Outcome({name: result for name, *result in attacks}, cut, line)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_is_refused_with_its_reason(outcome: Outcome, attack: KeyAttack):
    reason, keys_same, unharmed = outcome.attacks[attack.name]
    assert wire.REASON_NAMES[reason] == wire.REASON_NAMES[attack.reason]
    assert keys_same, "the keys changed"
    assert unharmed, "the old model no longer runs"


def test_a_handover_cut_at_any_write_leaves_the_old_keys_or_the_new_ones(outcome: Outcome):
    operations, wrong = outcome.cut
    print(f"handover cut at each of {operations} operations on flash, and half-way through each")
    assert wrong == []
    assert operations >= 4


def test_handovers_go_on_for_ever_and_old_keys_never_come_back(outcome: Outcome, publisher: PublisherKey):
    last, later = outcome.line
    others = {publisher.key_id.hex(), OTHER.key_id.hex()}
    assert set(last) == {LINE[-1].key_id.hex(), *others}, "the one before has had its day"
    assert last == later, "the first of the line stands in the configuration and does not come back"
