"""The readings in RTC memory: sealed frames, then an open tail of the newest rows.

Theory of operation. A row joins the tail as varints of its differences to the row before: one byte for most values of
a smooth series, and no other row need be decoded. When the tail has `batch_rows` rows, or when room gets short, it is
sealed: encoded by contract/delta_encoder.py into a frame whose boundaries and bytes never change again, whether it
goes to flash or to the cloud and however often.

    area    frame ... | row of the tail ... | free
    frame   rows u8 | bytes of first u8 | bytes of body u16 | t_ms u48 of its first row | first | body
    row     rowlog.append_row(), with the zigzag of this step minus the step before in place of the gap

The tail's first row has its time in `tail_t_ms`, and its values are differences to 0.
"""

import struct
from array import array

from micropython import const

from contract import rowlog
from contract.bits import unzigzag, zigzag
from contract.delta import first_row
from contract.delta_encoder import MAX_GAP_MS, Encoder
from contract.wire import MAX_CHANNELS, MAX_ROWS, MAX_TIME_MS, READINGS, STREAMS

_FRAME = "<BBHIH"
_FRAME_BYTES = const(10)
_BATCH_ROWS = const(64)  # see DESIGN.md "RTC memory" for the measurement behind it
_BATCH_VALUES = const(288)  # of a frame, rows times channels: sealing 8 channels then takes 4 kB of heap, not 8
_FEWEST_SEALED = const(8)  # a smaller frame costs more than the room it makes
_RANK = STREAMS.index(READINGS)


class Ring:
    """Works on the ring_*, tail_* and last_* attributes of an RtcState and on `area`, the bytes behind its header.

    batch_rows (1 to MAX_ROWS): rows of a frame while there is room, fewer where _BATCH_VALUES says so; the caller may
    set it at every wake.
    """

    def __init__(self, state: object, area: memoryview) -> None:
        self._state = state
        self._area = area
        self.batch_rows = _BATCH_ROWS

    def is_sound(self) -> bool:
        """Whether counts, lengths and sequence numbers agree; cheap, no row is decoded."""
        state = self._state
        if state.ring_bytes + state.tail_bytes > len(self._area) or state.cols > MAX_CHANNELS:
            return False
        seq = state.ring_seq
        at = 0
        for _ in range(state.ring_frames):
            if at + _FRAME_BYTES > state.ring_bytes:
                return False
            rows, n_first, n_body, _, _ = struct.unpack_from(_FRAME, self._area, at)
            seq += rows
            at += _FRAME_BYTES + n_first + n_body
        return at == state.ring_bytes and seq + state.tail_rows == state.next_seq[_RANK]

    def push(self, t_ms: int, values: "list | array") -> bool:
        """See RtcState.push_row()."""
        state = self._state
        if len(values) != state.cols:
            self._change_cols(len(values))
        t_ms = min(max(t_ms, 0), MAX_TIME_MS)  # a frame that no one may take would stay for ever
        step = t_ms - state.last_t_ms
        if state.tail_rows and not 0 <= step <= MAX_GAP_MS:
            self.seal()  # one batch holds neither a clock set back nor such a gap
        worst = 5 + 5 * state.cols  # the step's change and each difference take at most 33 bits
        while self._room() < worst:
            self._make_room()
        if state.tail_rows == 0:
            state.tail_t_ms = t_ms
            step = state.last_step_ms = 0
            for channel in range(state.cols):
                state.last_values[channel] = 0
        at = state.ring_bytes + state.tail_bytes
        change = zigzag(step - state.last_step_ms)
        state.tail_bytes += rowlog.append_row(self._area, at, change, values, state.last_values) - at
        state.tail_rows += 1
        state.next_seq[_RANK] += 1
        state.last_t_ms = t_ms
        state.last_step_ms = step
        for channel in range(state.cols):
            state.last_values[channel] = values[channel]
        most = min(self.batch_rows, MAX_ROWS, _BATCH_VALUES // state.cols)
        if state.tail_rows >= (most if self._room() >= worst else _FEWEST_SEALED):
            self.seal()
        return self._room() < worst

    def seal(self) -> None:
        """Makes a frame of the tail; _room() has kept the bytes for it."""
        state = self._state
        rows = state.tail_rows
        if rows == 0:
            return
        times, values = self._read_tail()
        worst = _FRAME_BYTES + 5 * state.cols + (state.cols + 1) * (8 + 5 * rows)
        frame = bytearray(worst)
        body_at = first_row(values, None, state.cols, frame, _FRAME_BYTES)
        end = Encoder(rows).body(times, values, rows, state.cols, frame, body_at)
        t_ms = times[0]
        struct.pack_into(_FRAME, frame, 0, rows, body_at - _FRAME_BYTES, end - body_at, t_ms & 0xFFFFFFFF, t_ms >> 32)
        self._area[state.ring_bytes : state.ring_bytes + end] = memoryview(frame)[:end]
        state.tail_bytes = state.tail_rows = 0  # no sooner: where no memory is left, the tail has to stay what it was
        state.ring_bytes += end
        state.ring_frames += 1

    def frames(self) -> list:
        """See RtcState.seal()."""
        state = self._state
        found = []
        seq = state.ring_seq
        at = 0
        for _ in range(state.ring_frames):
            rows, n_first, n_body, t_low, t_high = struct.unpack_from(_FRAME, self._area, at)
            at += _FRAME_BYTES
            first = self._area[at : at + n_first]
            at += n_first
            found.append((seq, t_low | t_high << 32, rows, state.cols, first, self._area[at : at + n_body]))
            at += n_body
            seq += rows
        return found

    def trim(self, next_seq: int) -> None:
        """See RtcState.trim()."""
        state = self._state
        while state.ring_frames and state.ring_seq + self._area[0] <= next_seq:
            self._cut_first_frame()
        if state.ring_frames == 0 and next_seq > state.ring_seq:
            self._trim_tail(min(next_seq - state.ring_seq, state.tail_rows))

    def _room(self) -> int:
        """Bytes left for rows of the tail."""
        return self._free() - sealing_bytes(self._state.cols)

    def _free(self) -> int:
        return len(self._area) - self._state.ring_bytes - self._state.tail_bytes

    def _change_cols(self, cols: int) -> None:
        state = self._state
        if not 1 <= cols <= MAX_CHANNELS:
            raise ValueError("%d channels, at most %d" % (cols, MAX_CHANNELS))
        if state.ring_seq != state.next_seq[_RANK]:
            raise ValueError("rows of %d channels wait: seal and trim before rows of %d" % (state.cols, cols))
        state.cols = cols

    def _make_room(self) -> None:
        """Drops the oldest frame; where there is none, makes one of the tail."""
        state = self._state
        if state.ring_frames == 0:
            self.seal()
            return
        state.ring_dropped += self._area[0]
        self._cut_first_frame()

    def _cut_first_frame(self) -> None:
        state = self._state
        rows, n_first, n_body, _, _ = struct.unpack_from(_FRAME, self._area)
        n_bytes = _FRAME_BYTES + n_first + n_body
        rest = bytes(self._area[n_bytes : state.ring_bytes + state.tail_bytes])
        self._area[: len(rest)] = rest
        state.ring_bytes -= n_bytes
        state.ring_frames -= 1
        state.ring_seq += rows

    def _trim_tail(self, n_rows: int) -> None:
        """Forgets the first rows of the tail; there are no frames before it."""
        state = self._state
        times, values = self._read_tail()
        state.ring_seq += n_rows
        state.next_seq[_RANK] = state.ring_seq
        state.tail_bytes = state.tail_rows = 0
        for row in range(n_rows, len(times)):
            self.push(times[row], values[row * state.cols : (row + 1) * state.cols])

    def _read_tail(self) -> tuple:
        """(times, values) of the tail: int64 (rows,) and int32 (rows, cols) row by row."""
        state = self._state
        cols = state.cols
        row = array("i", bytes(4 * cols))
        times = array("q", bytes(8 * state.tail_rows))
        values = array("i", bytes(4 * cols * state.tail_rows))
        at = state.ring_bytes
        end = at + state.tail_bytes
        t_ms = state.tail_t_ms
        step = 0
        for index in range(state.tail_rows):
            change, at = rowlog.take_row(self._area, at, end, row)
            step += unzigzag(change)
            t_ms += step
            times[index] = t_ms
            values[index * cols : (index + 1) * cols] = row
        return times, values


def sealing_bytes(cols: int) -> int:
    """Bytes kept free for sealing the tail: a frame's header, and 5 a column by which differences may grow."""
    return _FRAME_BYTES + 5 * (cols + 1)
