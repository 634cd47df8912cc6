"""Runs on MicroPython: one scenario of world.py recorded, then begun again from flash as every possible cut leaves it.

argv: folder of world.json, name of the scenario, and for a storm its seed and the number of its lives: boards that
are cut several times in a row, anywhere, instead of once at every operation in turn.
Prints one line of JSON: operations (of a life without cuts), boots, and what went wrong.
"""

import gc
import json
import random
import sys

from ram_block import ALL, HALF, NONE, RamBlock, apply, formatted

from contract.wire import UPDATE_COMMIT, UPDATE_REFUSED, UPDATE_ROLLBACK
from device import detector
from world import PROBE, Board, Cloud, install, pointer, sha8, verify_once

_BLOCKS = 32
_WAKES = 12
_MAX_TRIAL_BOOTS = 3
_OFFSETS = {"v1": 10, "v2": 20, "crash": 30, "broken": 40, "patched": 25, "another": 25, "deflated": 25}
_SCORES = {sha8(name): sum(PROBE) + offset for name, offset in _OFFSETS.items()}
_CRASH = sha8("crash")
_BROKEN = sha8("broken")


class StillTime:
    """The `time` of the self-test: how busy this machine is must not decide whether a model is too slow."""

    ticks_us = staticmethod(lambda: 0)
    ticks_diff = staticmethod(lambda _end, _start: 0)


class Life(Board):
    """A board that checks its invariants at every boot, and whose `crash` model never survives its first score.

    `marks` holds (operations on flash so far, what happened), so that a recording can be cut at any of them.
    """

    def __init__(self, chip, may_be_safe):
        super().__init__(chip)
        self.may_be_safe = may_be_safe
        self.marks = []
        self.crashes = 0
        self.taken_back = False

    def boot(self):
        super().boot()
        ran = self.runs[-1]
        self._mark(("run", ran))
        if ran is None:
            if not self.may_be_safe:
                raise AssertionError("a boot ran no verified model")
            return
        if ran == _BROKEN:
            raise AssertionError("a boot ran a model that fails its self-test")
        score = self.model.score(PROBE)
        if score != _SCORES[ran]:
            raise AssertionError("the code that ran is not that of %s" % ran.hex())
        if ran == _CRASH:
            self.crashes += 1
            if self.crashes > _MAX_TRIAL_BOOTS:
                raise AssertionError("%d trial boots" % self.crashes)
            if self.taken_back:
                raise AssertionError("a model ran that had been taken back")

    def _send(self, *report):
        super()._send(*report)
        self._mark(("report", report[0], bytes(report[4])))
        if report[0] == UPDATE_ROLLBACK:
            self.taken_back = True

    def _mark(self, what):
        if self.chip.log is not None:
            self.marks.append((len(self.chip.log), what))

    def wake(self, cloud, clean=True, pieces=1000):
        self.boot()
        if self.model and self.model.sha8 == _CRASH:
            return  # slept stays False: the next boot is one after a bad end
        self.session(cloud, pieces)
        self.sleep(clean)


# Scenario: installed before, wanted, (state, artifact) that must have been reported at the end, what runs at the end.
SCENARIOS = {
    "first": (None, "v1", (UPDATE_COMMIT, "v1"), "v1"),
    "update": (("v1",), "v2", (UPDATE_COMMIT, "v2"), "v2"),
    "crash": (("v1",), "crash", (UPDATE_ROLLBACK, "crash"), "v1"),
    "broken": (("v1",), "broken", (UPDATE_REFUSED, "broken"), "v1"),
    "patch": (("v1",), "patched", (UPDATE_COMMIT, "patched"), "patched"),
    "whole": (("v1",), "another", (UPDATE_COMMIT, "another"), "another"),  # the patch makes something else
    "deflated": (None, "deflated", (UPDATE_COMMIT, "deflated"), "deflated"),
    "revert": (("v1", "v2"), "v1", (UPDATE_COMMIT, "v1"), "v1"),
}


def live_on(board, cloud, scenario, cuts=1):
    """Wakes until nothing more happens, then holds the end against what the scenario promises.

    After three cuts a sound model may have been taken back as well: three boots in a row of its trial ended badly.
    """
    installed, wanted, report, runs = SCENARIOS[scenario]
    rest(board, cloud)
    ends = [sha8(runs)]
    outcomes = [(report[0], sha8(report[1]))]
    if cuts > 2:
        ends.append(sha8(installed[-1]) if installed else None)
        outcomes.append((UPDATE_ROLLBACK, sha8(wanted)))
    if board.runs[-1] not in ends:
        raise AssertionError("%s runs at the end" % board.runs[-1])
    made = [mark[1][1:] for mark in board.marks if mark[1][0] == "report"] + [(r[0], r[2]) for r in board.reports]
    if not any(outcome in made for outcome in outcomes):
        raise AssertionError("the outcome was not reported: %r" % made)
    if report[0] == UPDATE_ROLLBACK:
        cloud.wish(wanted)  # an operator insists
        rest(board, cloud)
        if board.runs[-1] != sha8(runs):
            raise AssertionError("a digest that was taken back ran again")


def rest(board, cloud):
    """Wakes until an update has ended, and once more."""
    for _ in range(_WAKES):
        board.wake(cloud)
        if board.updater.state in (UPDATE_COMMIT, UPDATE_REFUSED, UPDATE_ROLLBACK) and not pointer().trial:
            board.wake(cloud)
            return
    raise AssertionError("the update never ends")


class Scenario:
    """A scenario and the flash it begins with."""

    def __init__(self, name):
        self.name = name
        self.installed, self.wanted = SCENARIOS[name][:2]
        board = Board(formatted(_BLOCKS))
        self.version = 0
        for model in self.installed or ():
            self.version = install(board, model).version
        self.flash = bytes(board.chip.data)

    def cloud(self):
        cloud = Cloud()
        cloud.version = self.version
        cloud.wish(self.wanted)
        return cloud

    def life(self, flash, past=()):
        """A board on this flash that remembers the marks of its `past`."""
        board = Life(RamBlock(_BLOCKS, flash), may_be_safe=self.installed is None)
        for what in past:
            board.marks.append((0, what))
            if what == ("run", _CRASH):
                board.crashes += 1
            if what[0] == "report" and what[1] == UPDATE_ROLLBACK:
                board.taken_back = True
        return board

    def record(self, flash, past=()):
        """A life from `flash` until nothing more happens: (board, operations)."""
        board = self.life(flash, past)
        board.slept = not past
        board.chip.log = []
        cloud = self.cloud()
        rest(board, cloud)
        operations = board.chip.log
        board.chip.log = None
        return board, operations

    def end(self, flash, past, cuts=1):
        """A life from `flash` to the end the scenario promises: boots it took."""
        board = self.life(flash, past)
        live_on(board, self.cloud(), self.name, cuts)
        return len(board.runs)


def before(board, at):
    """What had happened when operation `at` was to be written."""
    return [what for when, what in board.marks if when <= at]


def every_cut(scenario):
    """One life for every operation, and for every operation cut in half."""
    board, operations = scenario.record(scenario.flash)
    flash = bytearray(scenario.flash)
    boots = 0
    wrong = []
    for at in range(len(operations)):
        for part in (NONE, HALF):
            cut = bytearray(flash)
            apply(cut, operations[at], part)
            try:
                boots += scenario.end(cut, before(board, at))
            except Exception as e:
                wrong.append("%s at operation %d, part %d" % (repr(e), at, part))
        apply(flash, operations[at])
        gc.collect()
    return {"operations": len(operations), "boots": boots, "wrong": wrong}


def storm(scenario, lives):
    """Lives with one to four cuts, each somewhere in what follows the one before."""
    boots = 0
    wrong = []
    for life in range(lives):
        flash = bytearray(scenario.flash)
        past = ()
        cuts = []
        try:
            for _ in range(random.randint(1, 4)):
                board, operations = scenario.record(flash, past)
                if not operations:
                    break
                at = random.randint(0, len(operations) - 1)
                part = random.choice((NONE, HALF, ALL))
                cuts.append((at, part))
                for operation in operations[:at]:
                    apply(flash, operation)
                apply(flash, operations[at], part)
                past = before(board, at) or ("start",)
            boots += scenario.end(flash, past, len(cuts))
        except Exception as e:
            wrong.append("%s in life %d, cuts %r" % (repr(e), life, cuts))
        gc.collect()
    return {"operations": 0, "boots": boots, "wrong": wrong}


def main():
    detector.time = StillTime
    verify_once()
    scenario = Scenario(sys.argv[2])
    if len(sys.argv) > 3:
        random.seed(int(sys.argv[3]))
        print(json.dumps(storm(scenario, int(sys.argv[4]))))
    else:
        print(json.dumps(every_cut(scenario)))


main()
