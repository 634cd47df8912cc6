"""Runs on MicroPython with a small heap: one wake of an update, on the machine's files.

argv: folder of world.json, the board's flash. Prints the reports, the version that ran, and the heap free at the end.
"""

import gc
import json
import sys

from device.files import Files
from device.trust import Keys, Policy
from device.update import Updater

_PIECE = bytearray(2048)  # a cloud may send less than was asked for


def _world():
    with open(sys.argv[1] + "/world.json") as f:
        world = json.load(f)
    offer = world["offers"]["large"]
    want = [offer[key] for key in ("name", "version", "sequence", "sha256", "size", "format", "arch")]
    want[3] = bytes.fromhex(want[3])
    keys = Keys(Files, sys.argv[2], world["keys"])
    return want, Policy(world["arch"], world["abi"], 1, bytes.fromhex(world["schema_hash"]), keys)


def _serve(updater, fetch, size):
    sha8, offset, _ = fetch
    with open(sys.argv[1] + "/large.bin", "rb") as f:
        f.seek(offset)
        count = f.readinto(_PIECE)
    updater.on_chunk(sha8, offset, memoryview(_PIECE)[:count], size, 0)


def main():
    want, policy = _world()
    reports = []
    updater = Updater(Files, sys.argv[2], policy, lambda *report: reports.append(report[:2]))
    updater.start(True)
    model = updater.load(True)
    updater.on_want(1, want)
    while updater.step(0):
        pass
    fetch = updater.next_fetch()
    while fetch:
        _serve(updater, fetch, want[4])
        fetch = updater.next_fetch()
    while updater.step(0):
        pass
    updater.end_session(True)
    updater.end_wake(True)
    gc.collect()
    print(json.dumps([reports, model and model.version, gc.mem_free()]))


main()
