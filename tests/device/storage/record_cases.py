"""Runs on MicroPython: what device/records.py promises beyond power cuts, case by case."""

import errno

from cases import raises, run, same
from ram_block import formatted
from torn_files import TornFiles

from device.records import MAX_PAYLOAD_BYTES, Record


def a_value_comes_back():
    for fs in (formatted(6).mount(), TornFiles()):
        for payload in (b"", b"x", bytes(range(256)) * 8):
            Record(fs, "/r").store(payload)
            same(Record(fs, "/r").load(), payload)


def nothing_stored_is_nothing():
    same(Record(formatted(6).mount(), "/r").load(), None)


def a_value_too_large_is_refused():
    fs = TornFiles()
    raises(ValueError, Record(fs, "/r").store, bytes(MAX_PAYLOAD_BYTES + 1))
    same(Record(fs, "/r").load(), None)


def the_newest_value_wins_whichever_file_it_is_in():
    fs = TornFiles()
    for version in range(7):
        Record(fs, "/r").store(b"%d" % version)
        same(Record(fs, "/r").load(), b"%d" % version)


def a_refused_store_leaves_the_older_value():
    chip = formatted(6)
    record = Record(chip.mount(), "/r")
    record.store(b"old")
    chip.refuse = errno.EIO
    same(raises(OSError, record.store, b"new").errno, errno.EIO)
    chip.refuse = 0
    same(record.load(), b"old")
    record.store(b"newer")
    same(Record(chip.mount(), "/r").load(), b"newer")


def damage_to_the_newest_file_brings_back_the_older_value():
    """Every flipped bit, every length shorter, and bytes of something else."""
    fs = TornFiles()
    Record(fs, "/r").store(b"older")
    Record(fs, "/r").store(b"newest")
    with fs.open("/r.1", "rb") as f:
        sound = f.read(100)
    damaged = 0
    for bad in damages(sound):
        with fs.open("/r.1", "wb") as f:
            f.write(bad)
        same(Record(fs, "/r").load(), b"older")
        damaged += 1
    return {"damages": damaged, "believed": 0}


def damages(sound):
    for bit in range(8 * len(sound)):
        bad = bytearray(sound)
        bad[bit // 8] ^= 1 << bit % 8
        yield bad
    for length in range(len(sound)):
        yield sound[:length]
    yield b"\xff" * 4096
    yield b"something else altogether"


run(globals())
