"""Which artifact a board gets, and the reason it hears otherwise."""

from typing import Any

import pytest

from cloud.models.targets import Board, Candidate, choose
from contract import artifact, wire
from model_export.keys import PublisherKey
from tests.support.artifacts import ABI, OTHER_SCHEMA, SCHEMA_HASH, blob, digest, make, new_key

KEY = new_key()
NOW_S = 1_800_000_000


def board(**changes: Any) -> Board:
    """An x64 board that takes both formats and trusts KEY."""
    target = artifact.Target(
        arch=changes.pop("arch", "x64"),
        abi=changes.pop("abi", ABI),
        formats=changes.pop("formats", wire.FORMAT_NATIVE | wire.FORMAT_BLOB),
        schema_hash=bytes.fromhex(SCHEMA_HASH),
        contract=changes.pop("contract", wire.PROTOCOL_VERSION),
        sequence=changes.pop("sequence", 0),
    )
    facts: dict[str, Any] = {"key_ids": (KEY.key_id.hex(),), "free_flash_bytes": 1_000_000, "running": ""}
    return Board(target, **(facts | changes))


def candidate(data: bytes, key: PublisherKey = KEY) -> Candidate:
    _, manifest, _, _ = artifact.split(data)
    return Candidate(digest(data), key.key_id.hex(), len(data), manifest)


def test_native_comes_before_blob_and_the_smaller_before_the_larger() -> None:
    native, table = candidate(make(KEY)), candidate(blob(KEY, payload=b"x"))
    assert choose(board(), [table, native], NOW_S).candidate == native
    assert choose(board(arch="xtensawin"), [table, native], NOW_S).candidate == table
    assert choose(board(formats=wire.FORMAT_BLOB), [native, table], NOW_S).candidate == table


def test_a_board_keeps_what_it_runs_even_when_it_would_not_take_it_anew() -> None:
    running = candidate(make(KEY, sequence=1))
    running_board = board(running=running.sha256[:16], sequence=9, free_flash_bytes=0, key_ids=())
    assert choose(running_board, [running], NOW_S).candidate == running


@pytest.mark.parametrize(
    ("changes", "made", "reason", "said"),
    [
        ({"formats": wire.FORMAT_BLOB}, {}, wire.REASON_WRONG_FORMAT, "does not take native artifacts"),
        ({"arch": "rv32imc"}, {}, wire.REASON_WRONG_ARCH, "the board is rv32imc, the nearest artifact is for x64"),
        ({"abi": 1538}, {}, wire.REASON_WRONG_ABI, "loads .mpy ABI 6.2, the artifact has 6.3"),
        ({}, {"min_contract": 2}, wire.REASON_CONTRACT, "needs contract 2, the firmware speaks 1"),
        ({}, {"schema": OTHER_SCHEMA}, wire.REASON_SCHEMA_MISMATCH, f"the model takes {OTHER_SCHEMA}, the board"),
        ({"key_ids": ("00" * 8,)}, {}, wire.REASON_UNKNOWN_KEY, "does not trust publisher key"),
        ({}, {"expires": NOW_S}, wire.REASON_EXPIRED, "expired"),
        ({"sequence": 2}, {}, wire.REASON_OLD_SEQUENCE, "nothing below sequence 2, the artifact has 1"),
        ({"free_flash_bytes": 8_000}, {}, wire.REASON_NO_SPACE, "the board 8000 free"),
        (
            {"free_heap_bytes": 30_000, "held_bytes": 5_000},
            {"payload": bytes(35_001)},
            wire.REASON_NO_MEMORY,
            "the model takes 35001 bytes of RAM, the board would have 35000 free",
        ),
    ],
)
def test_each_reason_is_told_in_words(changes: dict[str, Any], made: dict[str, Any], reason: int, said: str) -> None:
    choice = choose(board(**changes), [candidate(make(KEY, **made))], NOW_S)
    assert choice.candidate is None
    assert choice.reason == reason
    assert said in choice.detail


def test_the_reason_is_that_of_the_artifact_which_came_closest() -> None:
    far = candidate(make(KEY, arch="xtensawin"))
    near = candidate(make(KEY, abi=1540))
    assert choose(board(), [near, far], NOW_S).reason == wire.REASON_WRONG_ABI
    assert choose(board(), [far, near], NOW_S).reason == wire.REASON_WRONG_ABI


def test_without_any_artifact_there_is_a_reason_too() -> None:
    assert choose(board(), [], NOW_S).detail == "the version has no artifact"


def test_what_the_present_model_takes_is_free_for_the_new_one() -> None:
    large = candidate(make(KEY, payload=bytes(35_000)))
    assert choose(board(free_heap_bytes=30_000, held_bytes=5_000), [large], NOW_S).candidate == large
    assert choose(board(free_heap_bytes=None), [large], NOW_S).candidate == large, "an old board that does not say"


def test_a_board_goes_down_the_ladder_only_as_far_as_it_must() -> None:
    """Native, the same as a table, then a smaller forest that the publisher measured against the version itself."""
    native = candidate(make(KEY, payload=bytes(60_000)))
    table = candidate(blob(KEY, payload=bytes(50_000)))
    fewer = candidate(blob(KEY, payload=bytes(20_000), rung=1, disagreement=0.004))
    fewest = candidate(blob(KEY, payload=bytes(5_000), rung=2, disagreement=0.03))
    ladder = [fewest, table, native, fewer]
    for free, expected in ((100_000, native), (55_000, table), (30_000, fewer), (6_000, fewest)):
        assert choose(board(free_heap_bytes=free), ladder, NOW_S).candidate == expected
    small = choose(board(free_heap_bytes=4_000), ladder, NOW_S)
    assert (small.candidate, small.reason) == (None, wire.REASON_NO_MEMORY)
    assert choose(board(arch="rv32imc", free_heap_bytes=100_000), ladder, NOW_S).candidate == table
