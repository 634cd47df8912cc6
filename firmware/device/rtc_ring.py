"""The readings in RTC memory: sealed frames, then an open tail of the newest rows.

Theory of operation. A row joins the tail as varints of its differences to the row before: one byte for most values of
a smooth series, and no other row need be decoded. When the tail has `batch_rows` rows more than the window that
features need, or when room gets short, its oldest rows are sealed: encoded by contract/delta.py into a frame whose
boundaries and bytes never change again, whether it goes to flash or to the cloud and however often.

    area    frame ... | row of the tail ... | free
    frame   rows u8 | bytes of first u8 | bytes of body u16 | t_ms u48 of its first row | first | body
    row     rowlog.append_row(), with the zigzag of this step minus the step before in place of the gap

The step before the tail's second row is `tail_step_ms`; its first row has its time in `tail_t_ms` and its values as
differences to 0. Rows of the tail that are `tail_sealed` are in a frame too, or were trimmed: they are kept only to be
read by features.
"""

import struct
from array import array

from contract import delta, rowlog
from contract.bits import unzigzag, zigzag
from contract.delta_encoder import MAX_GAP_MS, Encoder
from contract.wire import MAX_CHANNELS, MAX_ROWS, READINGS, STREAMS
from micropython import const

_FRAME = "<BBHIH"
_FRAME_BYTES = const(10)
_BATCH_ROWS = const(64)  # see DESIGN.md "RTC memory" for the measurement behind it
_FEWEST_SEALED = const(8)  # a smaller frame costs more than the room it makes
_RANK = STREAMS.index(READINGS)


class Ring:
    """Works on the ring_*, tail_* and last_* attributes of an RtcState and on `area`, the bytes behind its header."""

    def __init__(self, state, area: memoryview, window: int) -> None:
        self._state = state
        self._area = area
        self._window = window
        self.batch_rows = _BATCH_ROWS

    def is_sound(self) -> bool:
        """Whether counts, lengths and sequence numbers agree; cheap, the tail is not decoded."""
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
        unsealed = state.tail_rows - state.tail_sealed
        return at == state.ring_bytes and unsealed >= 0 and seq + unsealed == state.next_seq[_RANK]

    def push(self, t_ms: int, values: "list | array") -> bool:
        """See RtcState.push_row()."""
        state = self._state
        if len(values) != state.cols:
            self._change_cols(len(values))
        worst = 5 + 5 * state.cols  # bytes of a row: the step's change and each difference take at most 33 bits
        step = t_ms - state.last_t_ms
        if state.tail_rows and not 0 <= step <= MAX_GAP_MS:
            self.seal()  # one batch holds neither a clock set back nor such a gap
            self._empty_tail()
        while self._free() < worst:
            self._make_room()
        if state.tail_rows == 0:
            state.tail_t_ms = t_ms
            step = state.tail_step_ms = state.last_step_ms = 0
            for channel in range(MAX_CHANNELS):
                state.last_values[channel] = 0
        self._put_row(t_ms, step, values)
        state.next_seq[_RANK] += 1
        unsealed = state.tail_rows - state.tail_sealed
        enough = self.batch_rows if self._free() >= worst else _FEWEST_SEALED
        if unsealed - self._window >= enough or state.tail_rows >= MAX_ROWS:
            self._seal(unsealed - self._window)
        return self._free() < worst

    def seal(self) -> None:
        """See RtcState.seal()."""
        unsealed = self._state.tail_rows - self._state.tail_sealed
        if unsealed:
            self._seal(unsealed)

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
        newest = self.newest(self._window) if state.tail_rows < self._window else None
        at = frames = 0
        seq = state.ring_seq
        for start, _, rows, _, first, body in self.frames():
            if start + rows > next_seq:
                break
            at += _FRAME_BYTES + len(first) + len(body)
            seq = start + rows
            frames += 1
        self._cut_front(at)
        state.ring_frames -= frames
        if state.ring_frames == 0:
            done = min(next_seq, state.next_seq[_RANK]) - seq
            if done > 0:
                state.tail_sealed += done
                seq += done
            if newest is not None:
                unsealed = state.tail_rows - state.tail_sealed
                self._write_tail(newest, 0)
                state.tail_sealed = state.tail_rows - unsealed
        state.ring_seq = seq

    def newest(self, rows: int) -> tuple:
        """(times, values) of up to `rows` newest rows, oldest first, held or trimmed; values int32 row by row."""
        state = self._state
        times, values = self._read_tail()
        if state.ring_frames:
            # The rows before the tail's unsealed ones are the last frames'.
            times = times[state.tail_sealed :]
            values = values[state.tail_sealed * state.cols :]
            for _, t_ms, n_rows, cols, first, body in reversed(self.frames()):
                if len(times) >= rows:
                    break
                offsets, frame_values = delta.decode(n_rows, cols, first, body)
                times = array("q", [t_ms + offset for offset in offsets]) + times
                values = frame_values + values
        start = max(0, len(times) - rows)
        return times[start:], values[start * state.cols :]

    def _free(self) -> int:
        return len(self._area) - self._state.ring_bytes - self._state.tail_bytes

    def _change_cols(self, cols: int) -> None:
        state = self._state
        if not 1 <= cols <= MAX_CHANNELS:
            raise ValueError("%d channels, at most %d" % (cols, MAX_CHANNELS))
        if state.ring_seq != state.next_seq[_RANK]:
            raise ValueError("rows of %d channels wait: seal and trim before rows of %d" % (state.cols, cols))
        self._empty_tail()
        state.cols = cols

    def _make_room(self) -> None:
        """Drops the oldest frame, or seals the tail into one."""
        state = self._state
        if state.ring_frames:
            seq, _, rows, _, first, body = self.frames()[0]
            self._cut_front(_FRAME_BYTES + len(first) + len(body))
            state.ring_frames -= 1
            state.ring_seq = seq + rows
            state.ring_dropped += rows
        else:
            self.seal()
            self._empty_tail()

    def _seal(self, rows: int) -> None:
        """Moves the oldest `rows` unsealed rows of the tail into a frame; rows behind them stay, none before them.

        A batch no predictor fits can be longer than it was in the tail. What finds no room then is dropped and
        counted, as in a full ring.
        """
        state = self._state
        tail = self._read_tail()
        start = state.tail_sealed
        cols = state.cols
        values = tail[1][start * cols :]
        scratch = bytearray(_FRAME_BYTES + 5 * cols + 8 * (cols + 2) + 5 * rows * (cols + 1))
        n_first = delta.first_row(values, None, cols, scratch, _FRAME_BYTES) - _FRAME_BYTES
        end = Encoder().body(tail[0][start:], values, rows, cols, scratch, _FRAME_BYTES + n_first)
        t_ms = tail[0][start]
        n_body = end - _FRAME_BYTES - n_first
        struct.pack_into(_FRAME, scratch, 0, rows, n_first, n_body, t_ms & 0xFFFFFFFF, t_ms >> 32)
        self._empty_tail()
        while end > self._free() and state.ring_frames:
            self._make_room()
        if end > self._free():
            state.ring_seq += rows
            state.ring_dropped += rows
        else:
            self._area[state.ring_bytes : state.ring_bytes + end] = memoryview(scratch)[:end]
            state.ring_bytes += end
            state.ring_frames += 1
        self._write_tail(tail, start + rows)

    def _cut_front(self, n_bytes: int) -> None:
        """Removes the first `n_bytes` of frames."""
        state = self._state
        end = state.ring_bytes + state.tail_bytes
        rest = bytes(self._area[n_bytes:end])
        self._area[: len(rest)] = rest
        state.ring_bytes -= n_bytes

    def _empty_tail(self) -> None:
        self._state.tail_bytes = self._state.tail_rows = self._state.tail_sealed = 0

    def _put_row(self, t_ms: int, step: int, values: "list | array") -> None:
        """Appends a row to the tail, `step` ms after the last one."""
        state = self._state
        at = state.ring_bytes + state.tail_bytes
        change = zigzag(step - state.last_step_ms)
        state.tail_bytes += rowlog.append_row(self._area, at, change, values, state.last_values) - at
        state.tail_rows += 1
        state.last_t_ms = t_ms
        state.last_step_ms = step
        for channel in range(state.cols):
            state.last_values[channel] = values[channel]

    def _read_tail(self) -> tuple:
        """(times, values) of all rows of the tail."""
        state = self._state
        cols = state.cols
        row = array("i", bytes(4 * cols))
        times = array("q", bytes(8 * state.tail_rows))
        values = array("i", bytes(4 * cols * state.tail_rows))
        at = state.ring_bytes
        end = at + state.tail_bytes
        t_ms = state.tail_t_ms
        step = state.tail_step_ms
        for index in range(state.tail_rows):
            change, at = rowlog.take_row(self._area, at, end, row)
            if index:
                step += unzigzag(change)
                t_ms += step
            times[index] = t_ms
            values[index * cols : (index + 1) * cols] = row
        return times, values

    def _write_tail(self, rows: tuple, start: int) -> None:
        """Makes the rows from `start` on the tail, none of them sealed."""
        times, values = rows
        state = self._state
        self._empty_tail()
        if start >= len(times):
            return
        state.tail_t_ms = times[start]
        state.tail_step_ms = state.last_step_ms = times[start] - times[start - 1] if start else 0
        for channel in range(MAX_CHANNELS):
            state.last_values[channel] = 0
        cols = state.cols
        for index in range(start, len(times)):
            step = times[index] - times[index - 1] if index > start else state.tail_step_ms
            self._put_row(times[index], step, values[index * cols : (index + 1) * cols])
