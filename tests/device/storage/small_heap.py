"""Runs on MicroPython: wakes that fill the ring and the outbox, in the heap of a small board.

argv: JSON of a folder for the board's files. Prints one line of JSON: rows that went through, and the least heap free.
"""

import gc
import json
import sys
from array import array

from contract import frames
from contract.wire import EVENT, READINGS, STREAMS
from device.files import Files
from device.outbox import Outbox
from device.rtc_state import RtcState

FOLDER = json.loads(sys.argv[1])
WAKES = 120
ROWS = 16
CHANNELS = 8


class Board:
    root = FOLDER
    memory = b""
    clock_ms = 0

    def now_ms(self):
        return self.clock_ms

    def rtc_read_into(self, buf):
        buf[: len(self.memory)] = self.memory
        return len(self.memory)

    def rtc_write(self, buf):
        self.memory = bytes(buf)


def wake(board, buffer, row):
    """One wake: rows into the ring, the ring to flash when it is full; the bytes free when all of it is in use."""
    state = RtcState(board, Files)
    state.load()
    outbox = Outbox(Files, FOLDER + "/outbox")
    outbox.open()
    for _ in range(ROWS):
        board.clock_ms += 60000
        for channel in range(CHANNELS):
            row[channel] += (board.clock_ms // 60000 * (channel + 3)) % 11 - 5
        if state.push_row(board.clock_ms, row):
            for seq, t_ms, rows, cols, first, body in state.seal():
                frame = frames.readings(buffer, state.epoch, seq, t_ms, rows, cols, None, first, body)
                outbox.append(READINGS, state.epoch, seq, rows, t_ms, frame)
            outbox.append(EVENT, state.epoch, state.take_seq(EVENT), 1, board.clock_ms, b"event" * 40)
            state.store()
            if not outbox.commit():
                raise RuntimeError("flash refused")
            state.trim(state.next_seq[-1])
    gc.collect()
    free = gc.mem_free()
    state.store()
    return free


def drain(board):
    """Reads all that is on flash and acknowledges it; (records, rows, bytes free)."""
    outbox = Outbox(Files, FOLDER + "/outbox")
    outbox.open()
    records = rows = 0
    nexts = [0] * len(STREAMS)
    for stream, _, seq, count, _, _ in outbox.pending(0, 1):
        records += 1
        rows += count if stream == READINGS else 0
        nexts[STREAMS.index(stream)] = seq + count
    gc.collect()
    free = gc.mem_free()
    outbox.ack([[1] + nexts])
    if list(outbox.pending(0, 1)):
        raise RuntimeError("held after its acknowledgement")
    return records, rows, free


def main():
    board = Board()
    buffer = bytearray(2048)
    row = array("i", bytes(4 * CHANNELS))
    least = min([wake(board, buffer, row) for _ in range(WAKES)])
    records, rows, free = drain(board)
    print(json.dumps({"rows": rows, "records": records, "least bytes free": min(least, free)}))


main()
