"""Runs on MicroPython: flash is changed from outside between the moment it was checked and the moment it is used."""

import os

from ram_block import RamBlock, formatted

from checks import equal, run
from contract.wire import (
    REASON_BAD_DIGEST,
    UPDATE_ARM,
    UPDATE_REFUSED,
    UPDATE_ROLLBACK,
    UPDATE_SELFTEST,
    UPDATE_TRIAL,
    UPDATE_VERIFY,
)
from world import ROOT, Board, Cloud, artifact, install, sha8

_BLOCKS = 64
_board = Board(formatted(_BLOCKS))
install(_board, "v1")
_V1 = bytes(_board.chip.data)
_HEAD = ROOT + "/models/b/head"
_PAYLOAD = ROOT + "/models/b/slot_b.mpy"


def _stopped_in(state):
    """A board that is about to do what `state` asks for, for v2."""
    board = Board(RamBlock(_BLOCKS, _V1))
    board.slept = True
    board.boot()
    cloud = Cloud()
    cloud.version = 100
    cloud.wish("v2")
    updater = board.updater
    updater.on_want(cloud.version, cloud.want)
    while updater.state != state:
        fetch = updater.next_fetch()
        if fetch:
            board.piece(cloud, fetch)
        else:
            updater.step(0)
    return board, cloud


def _put(path, data):
    with open(path, "wb") as f:
        f.write(data)


def _code_of(name):
    """The payload of a published artifact."""
    data = artifact(name)
    return data[-int.from_bytes(data[16:20], "little") :]


def _is_refused(board):
    while board.updater.step(0):
        pass
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_BAD_DIGEST))
    board.boot()
    equal(board.model.sha8, sha8("v1"))


def check_a_payload_swapped_before_it_is_verified():
    board, _ = _stopped_in(UPDATE_VERIFY)
    _put(_PAYLOAD, _code_of("crash"))
    _is_refused(board)


def check_a_payload_swapped_before_its_self_test():
    board, _ = _stopped_in(UPDATE_SELFTEST)
    _put(_PAYLOAD, _code_of("crash"))
    _is_refused(board)


def check_a_payload_swapped_before_it_is_armed():
    board, _ = _stopped_in(UPDATE_ARM)
    _put(_PAYLOAD, _code_of("crash"))
    _is_refused(board)


def check_a_manifest_swapped_after_it_was_verified():
    board, _ = _stopped_in(UPDATE_SELFTEST)
    data = artifact("crash")
    _put(_HEAD, data[: len(data) - len(_code_of("crash"))])
    _is_refused(board)


def check_a_whole_artifact_swapped_for_a_sound_one_that_was_not_offered():
    board, _ = _stopped_in(UPDATE_ARM)
    data = artifact("crash")
    _put(_HEAD, data[: len(data) - len(_code_of("crash"))])
    _put(_PAYLOAD, _code_of("crash"))
    _is_refused(board)


def check_a_payload_swapped_before_its_first_boot():
    board, cloud = _stopped_in(UPDATE_TRIAL)
    _put(_PAYLOAD, _code_of("crash"))
    board.slept = True
    board.boot()
    equal(board.outcomes()[-1], (UPDATE_ROLLBACK, REASON_BAD_DIGEST))
    equal(board.model.sha8, sha8("v1"))
    board.session(cloud)
    equal(board.model.sha8, sha8("v1"))


def check_a_payload_swapped_between_two_pieces():
    board = Board(RamBlock(_BLOCKS, _V1))
    board.slept = True
    cloud = Cloud()
    cloud.version = 100
    cloud.wish("v3")
    board.wake(cloud, pieces=2)
    with open(_PAYLOAD, "rb") as f:
        written = len(f.read())
    _put(_PAYLOAD, bytes(written))
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_BAD_DIGEST))
    equal(board.model.sha8, sha8("v1"))


def check_a_file_missing_after_it_was_verified():
    board, _ = _stopped_in(UPDATE_SELFTEST)
    os.remove(_PAYLOAD)
    while board.updater.step(0):
        pass
    equal(board.outcomes()[-1][0], UPDATE_REFUSED)
    board.boot()
    equal(board.model.sha8, sha8("v1"))


run(globals())
