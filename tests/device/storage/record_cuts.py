"""Runs on MicroPython: cuts the power at every operation of a run of stores to one A/B record, once and twice.

argv: JSON of {"medium": "littlefs" or "torn files", "value": "record" or (littlefs) "configuration",
"stores"}. After each cut the
value must be the last one reported stored or the one being stored, and a further store must work; that one is cut at
every operation too. Prints one line of JSON with the figures; a broken invariant is an exception.
"""

import json
import sys
import time

from model_world import Fault
from ram_block import HALF, formatted
from torn_files import TornFiles

from device.config import Config
from device.records import Record

_CONFIG = (
    '{"device": "pump-1", "kind": "pump", "schema": "x", "broker": {"host": "127.0.0.1", "port": 1},'
    ' "sensor": {"driver": "replay"}}'
)


class RecordValue:
    """Version v of a plain record: v in the first two bytes, then up to 300 that depend on it; version 0: none."""

    def __init__(self, fs):
        self._record = Record(fs, "/value")

    def load(self):
        payload = self._record.load()
        if payload is None:
            return 0
        version = payload[0] << 8 | payload[1]
        if payload != self._payload(version):
            raise Fault(f"wrong bytes in version {version}")
        return version

    def store(self, version):
        self._record.store(self._payload(version))

    def _payload(self, version):
        return bytes((version >> 8, version & 255)) + bytes((version & 255,)) * (version * 37 % 300)


class Files:
    """A mounted VfsLfs2 whose open() has a default mode, as the built-in one does."""

    def __init__(self, fs):
        self._fs = fs

    def open(self, path, mode="r"):
        return self._fs.open(path, mode)


class Configuration:
    """Version v of the cloud's settings, as device/config.py keeps them; version 0: those of config.json alone."""

    def __init__(self, fs):
        self._config = Config(Files(fs), "")

    def load(self):
        version = self._config.version
        if self._config["interval_ms"] != (1000 * version or 60000):
            raise Fault(f"settings of another version than {version}")
        return version

    def store(self, version):
        self._config.apply(version, {"interval_ms": 1000 * version}, 0)


def fresh(arguments):
    if arguments["medium"] == "torn files":
        return TornFiles()
    medium = formatted(8)
    with medium.mount().open("/config.json", "wb") as f:
        f.write(_CONFIG.encode())
    return medium


def stored(medium, kind, first, n_stores):
    """Stores versions first, first + 1, ..; (medium before, its log, [length of the log as each store returned])."""
    start = medium.copy()
    medium.log = log = []
    value = kind(medium.mount())
    done = []
    for version in range(first, first + n_stores):
        value.store(version)
        done.append(len(log))
    medium.log = None
    return start, log, done


def states(medium, log):
    """(operations done, medium left) for every cut: none, half (and, as none of the next, all) of each operation."""
    for k in range(len(log) + 1):
        yield k, medium.copy()
        if k < len(log):
            left = medium.copy()
            left.apply(log[k], HALF)
            yield k, left
            medium.apply(log[k])


def check(medium, kind, low, high):
    version = kind(medium.mount()).load()
    if not low <= version <= high:
        raise Fault(f"version {version}, not {low} to {high}")
    return version


def run(kind, arguments):
    medium, log, done = stored(fresh(arguments), kind, 1, arguments["stores"])
    cuts = twice = 0
    for k, left in states(medium, log):
        low = sum([length <= k for length in done])
        found = check(left, kind, low, low + 1)
        cuts += 1
        again, log2, done2 = stored(left, kind, found + 1, 1)
        for k2, left2 in states(again, log2):
            low2 = found + 1 if done2[0] <= k2 else found
            check(left2, kind, low2, found + 1)
            twice += 1
    return {"operations": len(log), "cuts": cuts, "cut_twice": twice}


def main(arguments):
    began_ms = time.ticks_ms()
    figures = run(RecordValue if arguments["value"] == "record" else Configuration, arguments)
    figures["seconds"] = time.ticks_diff(time.ticks_ms(), began_ms) / 1000
    print(json.dumps(figures))


main(json.loads(sys.argv[1]))
