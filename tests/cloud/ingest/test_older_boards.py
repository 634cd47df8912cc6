"""A board older than this cloud, and one newer: their frames are taken, and what they do not say has its default."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloud import wire_types as w
from cloud.ingest.decode import Poison, read
from cloud.ingest.writer import Item, Writer
from cloud.models.desired import board_of
from cloud.models.targets import choose
from cloud.store import tables as t
from contract import messages, msgpack, wire
from contract.messages import REQUIRED, UPLINK, Fixed, Message, Record
from tests.support.fleet import Fleet, settings_in

RECORDS = [message for message in UPLINK if message.stream and message.code != wire.READINGS]


def example(message: Message) -> list[Any]:
    """A value for each field of a message, the least that its type allows."""
    return [_least(field.type) for field in message.fields]


def _least(of: messages.Type) -> Any:
    match of:
        case messages.Int():
            return of.low if of.low > 0 else min(of.high, 0)
        case messages.Float32():
            return 1.5
        case messages.Bytes():
            return bytes(of.low)
        case messages.Text():
            return "x" * of.low
        case messages.Settings():
            return dict[str, Any]()
        case messages.Arguments():
            return list[Any]()
        case messages.Items():
            return [_least(of.of)] * of.low
        case Fixed():
            return [_least(inner) for inner in of.of]
        case Record():
            return [_least(field.type) for field in of.fields]


def packed(values: list[Any]) -> bytes:
    packer = msgpack.Packer(bytearray(wire.MAX_UP_BYTES))
    packer.put(values)
    return bytes(packer.view())


def oldest(message: Message) -> list[Any]:
    """The frame of a board that knows only the fields the message had at first, nested records included."""
    return [message.code, *_oldest_fields(message.fields, example(message))]


def _oldest_fields(fields: tuple[messages.Field, ...], values: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for field, value in zip(fields, values, strict=True):
        if field.default is not REQUIRED:
            break
        if isinstance(field.type, Record) and value is not None:
            value = _oldest_fields(field.type.fields, value)
        kept.append(value)
    return kept


@pytest.mark.parametrize("message", UPLINK, ids=lambda message: message.name)
def test_a_frame_without_any_appended_field_is_read_with_the_defaults(message: Message) -> None:
    frame = oldest(message)
    found = read(packed(frame))
    assert not isinstance(found, Poison), found
    for field in message.fields[len(frame) - 1 :]:
        value = getattr(found, field.name)
        assert value == field.default or (not value and not field.default), field.name


@pytest.mark.parametrize("message", UPLINK, ids=lambda message: message.name)
def test_what_a_newer_board_appends_is_passed_over(message: Message) -> None:
    values = example(message)
    frame = packed([message.code, *values, 7, ["more", 1.5], None])
    assert read(frame) == read(packed([message.code, *values]))


@pytest.mark.parametrize("message", UPLINK, ids=lambda message: message.name)
def test_a_frame_that_lacks_what_was_there_from_the_first_is_set_aside(message: Message) -> None:
    assert isinstance(read(packed(oldest(message)[:-1])), Poison)


def test_frames_of_an_old_board_are_stored_and_it_is_offered_what_it_can_run(tmp_path: Path) -> None:
    fleet = Fleet(settings_in(tmp_path))
    fleet.add("old-1")
    frames = [packed(oldest(message)) for message in UPLINK if message.code == wire.HELLO or message in RECORDS]

    async def take(engine: Any) -> None:
        items: list[Item] = []
        for frame in frames:
            message = read(frame)
            assert not isinstance(message, w.Fetch)
            items.append(Item("old-1", wire.topic("old-1", wire.KIND_UP), frame, message))
        await Writer(engine).write(items, 1_900_000_000_000)

    fleet.run(take)
    for message in RECORDS:
        assert len(fleet.rows(sa.select(wire_table(message.code)))) == 1, message.name
    assert fleet.rows(sa.select(t.quarantine)) == []
    (device,) = fleet.rows(sa.select(t.devices))
    assert (device["key_ids"], device["sequence"], device["reported"]) == ([], 0, {})
    assert fleet.rows(sa.select(t.health))[0]["next_contact_ms"] == 0

    async def offered(engine: Any) -> Any:
        async with engine.connect() as connection:
            row = (await connection.execute(sa.select(t.devices))).mappings().one()
            return choose(board_of(row), [], 0)

    assert fleet.run(offered).detail == "the version has no artifact"


def wire_table(code: int) -> sa.Table:
    return t.RECORD_TABLES[code]


def test_a_fixed_array_never_grows() -> None:
    """The compatibility rule of PROTOCOL.md: arrays written [a, b] never change."""
    floors = next(field.type for field in UPLINK[0].fields if field.name == "floors")
    assert isinstance(floors, messages.Items)
    assert isinstance(floors.of, Fixed)
    assert len(floors.of.of) == 1 + len(wire.STREAMS)
