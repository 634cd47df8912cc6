"""Runs on MicroPython: every attack of attacks.py on a board that runs v1; a line of JSON for each.

[name, (state, reason) of the last report, v1 still runs, times it was reported]
"""

import gc
import json
import sys

from ram_block import RamBlock, formatted

from world import OFFERS, Board, Cloud, install, pointer, sha8

_BLOCKS = 32


def _spoil(kind):
    """What happens to a piece on its way."""
    if kind == "growing total":
        return lambda offset, data, total: (data, total + offset + 1)
    if kind == "longer piece":
        return lambda offset, data, total: (data + bytes(3000), total)
    if kind == "stub":
        return lambda offset, data, total: (data[:300], total)
    if kind == "nothing after a piece":
        return lambda offset, data, total: (data if offset == 0 else b"", total)
    return None


def _suffer(flash, attack):
    board = Board(RamBlock(_BLOCKS, flash), attack["rules"])
    board.slept = True
    board.boot()
    if attack["condemned"]:
        pointer().condemn(sha8(attack["id"]))
    for said in attack["statements"]:
        board.updater.on_statement(bytes.fromhex(said), attack["now_s"])
    cloud = Cloud()
    cloud.wish(attack["id"])
    cloud.now_s = attack["now_s"]
    cloud.spoil = _spoil(attack["spoil"])
    for _ in range(4):
        board.wake(cloud)
    unharmed = board.model is not None and board.model.sha8 == sha8("v1")
    board.slept = False  # and after a power cut
    board.boot()
    unharmed = unharmed and board.model is not None and board.model.sha8 == sha8("v1")
    last = board.reports[-1] if board.reports else (0, 0)
    named = sum([1 for report in board.reports if report[1]])
    return [attack["name"], [last[0], last[1]], unharmed, named]


def main():
    board = Board(formatted(_BLOCKS))
    install(board, "v1")
    flash = bytes(board.chip.data)
    with open(sys.argv[2]) as f:
        attacks = json.load(f)
    for attack in attacks:
        OFFERS[attack["id"]] = attack["offer"]
        print(json.dumps(_suffer(flash, attack)))
        gc.collect()


main()
