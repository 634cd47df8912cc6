"""Desired and reported configuration become one; what cannot be both is decided by rule and listed."""

from typing import Any

import pytest

from cloud.devices import configuration
from cloud.devices.configuration import configure
from cloud.errors import BadRequest, NotFound
from cloud.store import tables as t
from tests.support.messages import hello
from tests.support.store import BOARD, Store


def change(store: Store, **changes: Any) -> dict[str, Any]:
    return store.run(lambda engine: configure(engine, BOARD, changes))


def wanted(store: Store) -> tuple[int, dict[str, Any], int]:
    """(version, config, local_version) of the next WANT."""
    (row,) = store.rows(t.desired)
    return row["version"], row["config"], row["local_version"]


def test_changes_raise_the_version_and_go_together(store: Store):
    change(store, interval_ms=5_000)
    assert change(store, sensitive=True) == {"interval_ms": 5_000, "sensitive": True}
    assert wanted(store) == (2, {"interval_ms": 5_000, "sensitive": True}, 0)
    change(store, interval_ms=None)
    assert wanted(store) == (3, {"sensitive": True}, 0)


def test_saying_the_same_again_is_no_new_version(store: Store):
    change(store, interval_ms=5_000)
    change(store, interval_ms=5_000)
    assert wanted(store)[0] == 1


@pytest.mark.parametrize("changes", [{"interval_ms": 1}, {"interval_ms": "5"}, {"colour": 1}, {"colour": None}])
def test_unknown_keys_and_values_out_of_bounds_are_refused(store: Store, changes: dict[str, Any]):
    with pytest.raises(BadRequest):
        change(store, **changes)
    assert store.rows(t.desired) == []


def test_an_unknown_device_is_refused(store: Store):
    with pytest.raises(NotFound):
        store.run(lambda engine: configure(engine, "nobody", {"interval_ms": 5_000}))


def test_what_was_changed_at_the_board_is_taken_in_and_answered(store: Store):
    change(store, interval_ms=5_000)
    store.write(hello(config_version=1, local_version=1, reported={"interval_ms": 5_000, "threshold_milli": 20}))
    assert wanted(store) == (2, {"interval_ms": 5_000, "threshold_milli": 20}, 1)
    assert store.rows(t.config_conflicts) == []


def test_the_same_hello_again_changes_nothing(store: Store):
    said = hello(config_version=0, local_version=1, reported={"threshold_milli": 20})
    store.write(said)
    store.write(said)
    assert wanted(store) == (1, {"threshold_milli": 20}, 1)


def test_changes_on_both_sides_are_decided_key_by_key_and_listed(store: Store):
    change(store, interval_ms=5_000, threshold_milli=10, heartbeat_rows=30)
    reported = {"interval_ms": 9_000, "threshold_milli": 20, "heartbeat_rows": 40}
    store.write(hello(config_version=0, local_version=3, reported=reported))
    assert wanted(store) == (2, {"interval_ms": 5_000, "threshold_milli": 20, "heartbeat_rows": 30}, 3)
    listed = [
        (row["key"], row["desired"], row["reported"], row["rule"], row["kept"])
        for row in store.rows(t.config_conflicts)
    ]
    assert listed == [
        ("heartbeat_rows", 30, 40, "least", 30),
        ("interval_ms", 5_000, 9_000, "cloud", 5_000),
        ("threshold_milli", 10, 20, "board", 20),
    ]


def test_a_new_model_is_no_change_of_the_configuration(store: Store):
    change(store, threshold_milli=10)

    async def promote(engine: Any) -> None:
        async with engine.begin() as connection:
            await connection.execute(t.desired.update().values(version=7))

    store.run(promote)
    store.write(hello(config_version=1, local_version=1, reported={"interval_ms": 9_000}))
    assert wanted(store) == (8, {"interval_ms": 9_000}, 1)
    assert store.rows(t.config_conflicts) == []


def test_conflicts_of_one_board_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(configuration, "MAX_CONFLICTS", 3)
    for number in range(1, 6):
        change(store, threshold_milli=number)
        store.write(hello(config_version=0, local_version=number, reported={"threshold_milli": -number}))
    assert [row["reported"] for row in store.rows(t.config_conflicts)] == [-3, -4, -5]
