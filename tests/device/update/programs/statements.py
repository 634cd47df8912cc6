"""Runs on MicroPython: statements on keys, sound and not, on a board that runs v1.

argv: folder of world.json, file of cases. For each case [name, reason, the keys are as before, v1 still runs]; then
[operations, what went wrong] of a handover whose every write on flash is cut, and the keys after a year of handovers.
"""

import gc
import json
import sys

from ram_block import HALF, NONE, RamBlock, apply, formatted

from world import Board, install, policy, sha8

_BLOCKS = 32


def _board(flash, case):
    board = Board(RamBlock(_BLOCKS, flash), {"trusted": case["trusted"]})
    board.slept = True
    board.boot()
    return board


def _ids(now_s=0, case=None):
    return [key_id.hex() for key_id in policy(trusted=case["trusted"]).keys.key_ids(now_s)]


def _suffer(flash, case):
    board = _board(flash, case)
    for said in case["before"]:
        reason = board.updater.on_statement(bytes.fromhex(said), case["now_s"])
        if reason:
            raise AssertionError("%s: a sound statement was refused: %d" % (case["name"], reason))
        board.boot()
    before = _ids(case=case)
    reason = board.updater.on_statement(bytes.fromhex(case["data"]), case["now_s"])
    same = _ids(case=case) == before
    board.boot()
    return [case["name"], reason, same, board.model.sha8 == sha8("v1")]


def _cut(flash, case):
    """A handover cut at every write: the keys are the old or the new ones, and the statement can be taken again."""
    said = bytes.fromhex(case["data"])
    board = _board(flash, case)
    old = _ids(case=case)
    board.chip.log = []
    board.updater.on_statement(said, 0)
    operations = board.chip.log
    board.chip.log = None
    new = _ids(case=case)
    wrong = []
    if new == old or new != case["after"]:
        wrong.append("the statement changes nothing")
    state = bytearray(flash)
    for at in range(len(operations)):
        for part in (NONE, HALF):
            cut = bytearray(state)
            apply(cut, operations[at], part)
            board = _board(cut, case)
            if _ids(case=case) not in (old, new):
                wrong.append("keys torn at operation %d" % at)
            board.updater.on_statement(said, 0)
            board.boot()
            if _ids(case=case) != new or board.model.sha8 != sha8("v1"):
                wrong.append("not taken after operation %d" % at)
        apply(state, operations[at])
        gc.collect()
    return [len(operations), wrong]


def main():
    board = Board(formatted(_BLOCKS))
    install(board, "v1")
    flash = bytes(board.chip.data)
    with open(sys.argv[2]) as f:
        cases = json.load(f)
    for case in cases["attacks"]:
        print(json.dumps(_suffer(flash, case)))
        gc.collect()
    print(json.dumps(_cut(flash, cases["cut"])))
    line = cases["line"]
    board = _board(flash, line)
    for said, now_s in line["statements"]:
        reason = board.updater.on_statement(bytes.fromhex(said), now_s)
        if reason:
            raise AssertionError("refused: %d" % reason)
        board.boot()
    print(json.dumps([_ids(now_s, line) for now_s in line["at_s"]]))


main()
