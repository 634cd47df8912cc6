"""Run by storage.py under MicroPython: what the outbox, A/B records and RTC memory cost, as JSON."""

# ruff: noqa: ANN001, ANN202, ANN204
# pyright: basic, reportAttributeAccessIssue=false, reportMissingImports=false
# A program for MicroPython: gc and time are its own, ram_block is in tests/device/storage.
import gc
import json
import sys
import time
from array import array

from ram_block import BLOCK_BYTES, formatted

from contract.wire import EVENT, READINGS
from device import rtc_layout
from device.outbox import MAX_SEGMENTS, Outbox
from device.records import Record
from device.rtc_state import RtcState

ROOT = "/outbox"
SESSION_EVERY = 24  # commits: then all is sent and acknowledged
READING_BYTES = 390  # a READINGS frame of 64 rows, 8 smooth channels
EVENT_BYTES = 190


def workload(n_commits):
    """Yields lists of (stream, bytes), each a group commit: a ring of readings, now and then an event by itself."""
    for index in range(n_commits):
        yield [(EVENT, EVENT_BYTES)] if index % 3 == 2 else [(READINGS, READING_BYTES)] * 4


class OutboxWriter:
    """The outbox as it is."""

    def __init__(self, fs):
        self._outbox = Outbox(fs, ROOT)
        self._outbox.open()
        self._seqs = {EVENT: 0, READINGS: 0}

    def commit(self, group):
        for stream, n_bytes in group:
            self._outbox.append(stream, 1, self._seqs[stream], 1, 0, bytes(n_bytes))
            self._seqs[stream] += 1
        self._outbox.commit()

    def session(self):
        self._outbox.ack([[1, self._seqs[EVENT], 0, 0, 0, self._seqs[READINGS]]])


class PlainWriter:
    """The same records without any header, in files of at most a block: one chain for all, or a file per commit."""

    def __init__(self, fs, file_per_commit):
        self._fs = fs
        self._file_per_commit = file_per_commit
        self._names = []
        self._used = BLOCK_BYTES
        fs.mkdir(ROOT)

    def commit(self, group):
        n_bytes = sum([size for _, size in group])
        if self._file_per_commit or self._used + n_bytes > BLOCK_BYTES:
            self._names.append(f"{ROOT}/{len(self._names)}")
            self._used = 0
        with self._fs.open(self._names[-1], "ab") as f:
            for _, size in group:
                f.write(bytes(size))
        self._used += n_bytes

    def session(self):
        for name in self._names:
            self._fs.remove(name)
        self._names = []
        self._used = BLOCK_BYTES


def wear(make):
    """Programmed bytes, erases and most blocks in use per record of the workload, and the records' own bytes."""
    chip = formatted(64)
    fs = chip.mount()
    writer = make(fs)
    chip.program_bytes = chip.erases = 0
    records = payload = most = 0
    for index, group in enumerate(workload(240)):
        writer.commit(group)
        records += len(group)
        payload += sum([size for _, size in group])
        if index % SESSION_EVERY == SESSION_EVERY - 1:
            most = max(most, fs.statvfs("/")[2] - fs.statvfs("/")[3])
            writer.session()
        gc.collect()
    return {
        "records": records,
        "payload": payload / records,
        "programmed": chip.program_bytes / records,
        "erases": chip.erases / records,
        "blocks": most,
    }


def record_wear(n_bytes):
    chip = formatted(8)
    record = Record(chip.mount(), "/value")
    chip.program_bytes = chip.erases = 0
    for _ in range(100):
        record.store(bytes(n_bytes))
    return {"programmed": chip.program_bytes / 100, "erases": chip.erases / 100}


def full_outbox():
    """Milliseconds to open, and to read, an outbox that is full; beside it the bare file system."""
    fs = formatted(MAX_SEGMENTS + 8).mount()
    outbox = Outbox(fs, ROOT)
    outbox.open()
    seq = 0
    while outbox.dropped[-1] == 0:
        outbox.append(READINGS, 1, seq, 1, 0, bytes(READING_BYTES))
        outbox.commit()
        seq += 1
    found = {"list_ms": milliseconds(lambda: list(fs.ilistdir(ROOT)))}

    def open_only():
        Outbox(fs, ROOT).open()

    def read_all():
        again = Outbox(fs, ROOT)
        again.open()
        found["records"] = sum([1 for _ in again.pending(0, 1)])

    def read_files():
        for entry in fs.ilistdir(ROOT):
            with fs.open(ROOT + "/" + entry[0], "rb") as f:
                f.readinto(buf)

    buf = bytearray(BLOCK_BYTES)
    found["open_ms"] = milliseconds(open_only)
    found["read_ms"] = milliseconds(read_all)
    found["files_ms"] = milliseconds(read_files)
    return found


def milliseconds(call):
    """The least of several runs: the machine may be busy."""
    least = 1 << 30
    for _ in range(7):
        gc.collect()
        began = time.ticks_us()
        call()
        least = min(least, time.ticks_diff(time.ticks_us(), began))
    return least / 1000


class Board:
    root = ""

    def __init__(self):
        self._memory = bytearray(rtc_layout.RTC_BYTES)

    def now_ms(self):
        return 0

    def rtc_read_into(self, buf):
        buf[:] = self._memory
        return len(buf)

    def rtc_write(self, buf):
        self._memory[:] = buf


def readings_that_fit(cols, values, batch_rows):
    """How many rows of `values`, one a minute, go into fresh RTC memory before it is full."""
    state = RtcState(Board(), formatted(8).mount())
    state.load()
    state.ring.batch_rows = batch_rows
    for row in range(len(values) // cols):
        if state.push_row(60000 * row, values[row * cols : (row + 1) * cols]):
            return row + 1
    raise ValueError("not enough rows")


def state_times():
    board = Board()
    state = RtcState(board, formatted(8).mount())
    state.load()
    state.store()
    return {"load_ms": milliseconds(state.load), "store_ms": milliseconds(state.store)}


def main(arguments):
    figures = {
        "outbox": wear(OutboxWriter),
        "one chain": wear(lambda fs: PlainWriter(fs, False)),
        "file per commit": wear(lambda fs: PlainWriter(fs, True)),
        "record 40": record_wear(40),
        "record 200": record_wear(200),
        "full": full_outbox(),
        "state": state_times(),
        "fits": [],
    }
    for series in arguments["series"]:
        values = array("i", series["values"])
        for batch_rows in arguments["batches"]:
            gc.collect()
            figures["fits"].append([series["name"], batch_rows, readings_that_fit(series["cols"], values, batch_rows)])
    print(json.dumps(figures))


main(json.loads(sys.stdin.read()))
