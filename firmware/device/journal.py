"""Makes records and brings them to flash, under the two rules at the top of rtc_state.py.

A record's identity is taken and stored in RTC memory before the record leaves it, so a crash at any point neither loses
a record that was reported stored nor gives two records one identity.
"""

from micropython import const

from contract import delta, frames
from contract.wire import EVENT, HEALTH, MAX_CHANNELS, QUERY, READINGS, STREAMS, UPDATE

_FRAME_BYTES = const(2048)  # the ring's largest frame is 1,552 bytes, an EVENT of 128 features 570


class Journal:
    """Records of this board: state is an RtcState, outbox an Outbox, clock a Board.

    buffer: where frames are built; others may use it between two calls. waiting: records were noted and not kept yet.
    written_bytes: handed to flash since this object was made.
    """

    def __init__(self, state: object, outbox: object, clock: object) -> None:
        self._state = state
        self._outbox = outbox
        self._clock = clock
        self.buffer = bytearray(_FRAME_BYTES)
        self._first = bytearray(5 * MAX_CHANNELS)
        self.waiting = False
        self.written_bytes = 0

    def now_ms(self) -> int:
        """Age of the epoch, what a record's t_ms says."""
        return self._clock.now_ms() - self._state.began_ms

    def event(self, kind: int, verdict: object, sha8: bytes, features: object) -> None:
        """Note an EVENT; verdict: a verdict.Verdict."""
        t_ms, seq = self._identity(EVENT)
        frame = frames.event(
            self.buffer,
            self._state.epoch,
            seq,
            t_ms,
            kind,
            verdict.score,
            verdict.threshold,
            verdict.route,
            verdict.reason,
            sha8,
            features,
        )
        self._note(EVENT, seq, t_ms, frame)

    def query(self, deadline_ms: int, verdict: object, sha8: bytes, features: object) -> None:
        """Note a QUERY, the question that is open from now on.

        It is of no use after deadline_ms (0: for ever) and then given up.
        """
        state = self._state
        t_ms, seq = self.tell(deadline_ms, verdict, sha8, features)
        state.asked = seq + 1
        state.asked_until_s = (t_ms + deadline_ms + 999) // 1000 if deadline_ms else 0

    def tell(self, deadline_ms: int, verdict: object, sha8: bytes, features: object) -> tuple:
        """Note a QUERY whose answer nobody waits for; its (t_ms, seq)."""
        state = self._state
        t_ms, seq = self._identity(QUERY)
        frame = frames.query(
            self.buffer,
            state.epoch,
            seq,
            t_ms,
            deadline_ms,
            verdict.score,
            sha8,
            features,
            verdict.reason,
            verdict.route,
        )
        self._note(QUERY, seq, t_ms, frame, deadline_ms)
        return t_ms, seq

    def health(self, *fields: object) -> None:
        """Note a HEALTH record; fields: those of frames.health from period_ms on."""
        t_ms, seq = self._identity(HEALTH)
        self._note(HEALTH, seq, t_ms, frames.health(self.buffer, self._state.epoch, seq, t_ms, *fields))

    def update(self, *fields: object) -> None:
        """Note an UPDATE record and keep it at once; fields: those of frames.update from state on."""
        t_ms, seq = self._identity(UPDATE)
        self._note(UPDATE, seq, t_ms, frames.update(self.buffer, self._state.epoch, seq, t_ms, *fields))
        self.keep()

    def keep(self) -> bool:
        """Bring what was noted to flash; False when flash refused some of it, which is then counted as dropped."""
        self._state.store()
        self.waiting = False
        if self._outbox.commit():
            return True
        for stream, _, _, count in self._outbox.unstored:
            if stream != READINGS:  # the ring still has those
                self._outbox.count_dropped(stream, count)
        return False

    def count_ring_drops(self) -> None:
        """Hand the rows that found no room in RTC memory to the outbox, which keeps the count of drops."""
        state = self._state
        if state.ring_dropped:
            self._outbox.count_dropped(READINGS, state.ring_dropped)
            state.ring_dropped = 0

    def drain_ring(self) -> bool:
        """Move the readings from RTC memory to flash; False when flash refused some, which then stay in the ring."""
        state = self._state
        sealed = self.sealed()
        state.store()  # before a full buffer may write the first of them
        for seq, t_ms, rows, frame in sealed:
            self._outbox.append(READINGS, state.epoch, seq, rows, t_ms, frame)
            self.written_bytes += len(frame)
        if self._outbox.commit():
            state.trim(state.next_seq[-1])
        else:
            kept = [seq for stream, _, seq, _ in self._outbox.unstored if stream == READINGS]
            state.trim(min(kept) if kept else state.next_seq[-1])
        self.waiting = False
        state.store()
        return state.ring_frames == 0

    def sealed(self) -> list:
        """[(seq, t_ms, rows, frame)..] of the readings in RTC memory, all of them sealed now; key frames."""
        state = self._state
        found = []
        for seq, t_ms, rows, cols, first, body in state.seal():
            frame = frames.readings(self.buffer, state.epoch, seq, t_ms, rows, cols, None, first, body)
            found.append((seq, t_ms, rows, bytes(frame)))
        return found

    def as_difference(self, frame: bytes) -> bytes:
        """A key frame as a difference to the last acknowledged row, when it begins right behind that row.

        Otherwise the frame itself.
        """
        state = self._state
        epoch, seq, t_ms, rows, cols, _, first, body = frames.parse_readings(frame)
        if state.base_epoch != epoch or state.base_seq + 1 != seq:
            return frame
        values = delta.decode_first(first, None, cols)
        end = delta.first_row(values, state.base_values, cols, self._first)
        base = (epoch, state.base_seq)
        return frames.readings(self.buffer, epoch, seq, t_ms, rows, cols, base, self._first[:end], body)

    def _identity(self, stream: int) -> tuple:
        # Only looked at: a frame that finds no memory must not leave a hole, which the cloud would count as a drop.
        return self.now_ms(), self._state.next_seq[STREAMS.index(stream)]

    def _note(self, stream: int, seq: int, t_ms: int, frame: memoryview, ttl_ms: int = 0) -> None:
        self._outbox.append(stream, self._state.epoch, seq, 1, t_ms, frame, ttl_ms)
        self._state.take_seq(stream)
        self.written_bytes += len(frame)
        self.waiting = True
