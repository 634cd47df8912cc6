"""Runs on MicroPython: the story of a shadow recorded, then begun again from flash as every possible cut leaves it.

argv: folder of world.json, name of the story. Prints one line of JSON: operations (of a life without cuts), boots, and
what went wrong.
"""

import gc
import json
import sys

from ram_block import HALF, NONE, RamBlock, apply, formatted

from beside import BesideBoard, Wishes, pointer_files
from contract.wire import UPDATE_SHADOW, UPDATE_SHADOW_ENDED
from world import PROBE, Board, install, sha8, verify_once

_BLOCKS = 32
_WAKES = 10
_WAKES_AFTER = 2  # the end must last
_SCORES = {sha8(name): sum(PROBE) + offset for name, offset in (("v2", 20), ("v3", 50), ("crash", 30))}
_CRASH = sha8("crash")

# Story: shadow before, shadow wanted, what must have been reported at the end, the shadow at the end.
STORIES = {
    "store": (None, "v2", (UPDATE_SHADOW, "v2"), "v2"),
    "drop": ("v2", None, (UPDATE_SHADOW_ENDED, "v2"), None),
    "replace": ("v2", "v3", (UPDATE_SHADOW, "v3"), "v3"),
    "crash": ("crash", "crash", (UPDATE_SHADOW_ENDED, "crash"), None),
    "broken": (None, "broken", (UPDATE_SHADOW_ENDED, "broken"), None),
}


class Life(BesideBoard):
    """Checks at every boot that the active model runs as before, and that a shadow is what it says it is; one called
    `crash` never survives its first score."""

    def __init__(self, chip, pointer):
        super().__init__(chip)
        self.pointer = pointer
        self.marks = []
        self.crashes = 0
        self.taken_back = False

    def boot(self):
        super().boot()
        if self.runs[-1] != sha8("v1") or self.model.score(PROBE) != sum(PROBE) + 10:
            raise AssertionError("%s decided" % self.runs[-1])
        if pointer_files() != self.pointer:
            raise AssertionError("the pointer was written")

    def wake(self, cloud):
        self.boot()
        if self.shadow.step(cloud.now_s):
            self.slept = True
            return
        model = self.shadow.load(True)
        if model is not None:
            if model.score(PROBE) != _SCORES[model.sha8]:
                raise AssertionError("the code that ran is not that of %s" % model.sha8)
            if model.sha8 == _CRASH:
                self._mark(("crash",))
                self.crashes += 1
                self.blamed = True
                if self.crashes > 4:  # three, and one that a cut kept from being counted
                    raise AssertionError("%d crashes" % self.crashes)
                if self.taken_back:
                    raise AssertionError("a shadow ran that had been taken back")
                return
            self.ran.append(model.sha8)
            self.shadow.unload()
        self.session(cloud)
        self.shadow.end_wake()
        self.sleep()

    def _send(self, *report):
        super()._send(*report)
        self._mark(("report", report[0], bytes(report[4])))
        if report[0] == UPDATE_SHADOW_ENDED and report[4] == _CRASH:
            self.taken_back = True

    def _mark(self, what):
        if self.chip.log is not None:
            self.marks.append((len(self.chip.log), what))


class Story:
    """A story and the flash it begins with."""

    def __init__(self, name):
        self.before, self.wanted, self.report, self.end = STORIES[name]
        board = BesideBoard(formatted(_BLOCKS))
        install(_Plain(board.chip), "v1")
        board.slept = True
        cloud = Wishes(shadow=self.before)
        for _ in range(3):
            board.wake(cloud)
        if self.before and board.shadow.model.sha8 != sha8(self.before):
            raise AssertionError("no shadow: %r" % board.reports)
        board.boot()
        self.pointer = pointer_files()
        self.flash = bytes(board.chip.data)

    def cloud(self):
        return Wishes(version=200, shadow=self.wanted)

    def life(self, flash, past=()):
        board = Life(RamBlock(_BLOCKS, flash), self.pointer)
        for what in past:
            board.marks.append((0, what))
            board.crashes += what == ("crash",)
            if what[0] == "report" and what[1] == UPDATE_SHADOW_ENDED and what[2] == _CRASH:
                board.taken_back = True
        return board

    def record(self):
        """A life without cuts: (board, operations)."""
        board = self.life(self.flash)
        board.slept = True
        board.chip.log = []
        cloud = self.cloud()
        for _ in range(_WAKES):
            board.wake(cloud)
        operations = board.chip.log
        board.chip.log = None
        return board, operations

    def to_the_end(self, flash, past):
        """A life from `flash` to the end the story promises: boots it took."""
        board = self.life(flash, past)
        cloud = self.cloud()
        calm = 0
        for _ in range(_WAKES):
            board.wake(cloud)
            fault = self.missing(board)
            calm = 0 if fault else calm + 1
            if calm > _WAKES_AFTER:
                return len(board.runs)
        raise AssertionError(fault or "no rest")

    def missing(self, board):
        """What the story promises and is not there yet, "" at its end."""
        model = board.shadow.model
        if (model and model.sha8) != (self.end and sha8(self.end)):
            return "%r at the end" % (model and model.sha8)
        made = [mark[1][1:] for mark in board.marks if mark[1][0] == "report"] + [(r[0], r[2]) for r in board.reports]
        if (self.report[0], sha8(self.report[1])) not in made:
            return "the outcome was not reported: %r" % made
        return ""


class _Plain(Board):
    """A board of world.py on a chip that is there already."""


def main():
    verify_once()
    story = Story(sys.argv[2])
    board, operations = story.record()
    flash = bytearray(story.flash)
    boots = 0
    wrong = []
    for at in range(len(operations)):
        past = [what for when, what in board.marks if when <= at]
        for part in (NONE, HALF):
            cut = bytearray(flash)
            apply(cut, operations[at], part)
            try:
                boots += story.to_the_end(cut, past)
            except Exception as e:
                wrong.append("%s at operation %d, part %d" % (repr(e), at, part))
        apply(flash, operations[at])
        gc.collect()
    print(json.dumps({"operations": len(operations), "boots": boots, "wrong": wrong}))


main()
