"""Runs on MicroPython: cuts the power anywhere in a run over an outbox, and opens what is left.

A run happens once, on a medium that logs its operations; the medium as a cut leaves it is rebuilt from that log. `all`
of an operation and `none` of the next leave the same bytes, so two states per operation stand for three cuts.

argv: JSON of {"medium": "littlefs" or "torn files", "records", "drain_every"} for one cut at every operation, every so
many of the states followed by a further life of the board; with {"schedules", "seed"} for two cuts: the second anywhere
in the life after the first. Prints one line of JSON with the figures; a broken invariant is an exception.
"""

import json
import sys
import time

from model_world import Cloud, Fault, Maker, Random
from outbox_world import ROOT, Board, Claims, drain, verify, work
from ram_block import HALF, NONE, formatted
from torn_files import TornFiles

_SECOND_CUTS = 20  # per first cut: the life after it is run once, and cut at so many places
_SECOND_RECORDS = 12


def fresh(medium):
    if medium == "torn files":
        return TornFiles()
    chip = formatted(24)
    chip.mount().mkdir(ROOT)
    return chip


class Run:
    """A life of a board over `medium`: `start` is the medium before it, `log` and `facts` tell what happened."""

    def __init__(self, medium, maker, n_records, random, keeps_epoch=False):
        self.start = medium.copy()
        self.maker = maker
        self.facts = []
        medium.log = self.log = []
        cloud = Cloud(maker)
        board = Board(medium.mount(), maker, cloud, random, keeps_epoch)
        work(board, cloud, random, n_records, self.log, self.facts)
        medium.log = None


def look(medium, maker, held, where):
    """Verifies a medium as a cut left it, and that looking changes nothing."""
    before = medium.changes
    try:
        verify(medium.mount(), maker, held)
        if medium.changes != before:
            raise Fault("reading wrote to flash")
    except (Fault, OSError):
        print("cut:", where, file=sys.stderr)
        raise


def live_on(medium, maker, held, random):
    """A further life on a copy of the medium, at whose end the cloud has everything."""
    twin = Maker(maker)
    cloud = Cloud(twin)
    drain(Board(medium.copy().mount(), twin, cloud, random, random.below(2) == 0), cloud, held)


def one_cut(run, drain_every):
    """Every operation of a run, with none, half and all of it."""
    claims = Claims(run.facts)
    medium = run.start
    states = drained = 0
    for k in range(len(run.log) + 1):
        claims.advance(k)
        for part in (NONE, HALF) if k < len(run.log) else (NONE,):
            left = medium
            if part == HALF:
                left = medium.copy()
                left.apply(run.log[k], HALF)
            look(left, run.maker, claims.held, (k, part))
            if states % drain_every == 0:
                drained += 1
                live_on(left, run.maker, claims.held, Random(k))
            states += 1
        if k < len(run.log):
            medium.apply(run.log[k])
    return {"operations": len(run.log), "schedules": 3 * len(run.log), "drained": drained}


def some_cuts(run, n_cuts, held, random):
    """Yields (operation, medium left, identities held) for cuts at random places of a run, in order."""
    claims = Claims(run.facts, held)
    medium = run.start
    at = 0
    for k, part in sorted([(random.below(len(run.log)), random.below(3)) for _ in range(n_cuts)]):
        while at < k:
            medium.apply(run.log[at])
            at += 1
        # A promise kept by all of operation k holds from k + 1 on; `none` and `half` of k come before it.
        claims.advance(k)
        left = medium.copy()
        left.apply(run.log[k], part)
        yield k, left, claims.held


def two_cuts(run, n_schedules, random):
    """Random first cuts, and after each a new life of the board, cut at random places too."""
    done = 0
    for k, left, held in some_cuts(run, n_schedules // _SECOND_CUTS, (), random):
        second = Run(left, Maker(run.maker), _SECOND_RECORDS, random, random.below(2) == 0)
        for k2, left2, held2 in some_cuts(second, _SECOND_CUTS, held, random):
            look(left2, second.maker, held2, (k, k2))
            done += 1
        live_on(left2, second.maker, held2, random)
    return {"operations": len(run.log), "schedules": done}


def main(arguments):
    began_ms = time.ticks_ms()
    run = Run(fresh(arguments["medium"]), Maker(), arguments["records"], Random(7))
    if "schedules" in arguments:
        figures = two_cuts(run, arguments["schedules"], Random(arguments["seed"]))
    else:
        figures = one_cut(run, arguments["drain_every"])
    figures["seconds"] = time.ticks_diff(time.ticks_ms(), began_ms) / 1000
    print(json.dumps(figures))


main(json.loads(sys.argv[1]))
