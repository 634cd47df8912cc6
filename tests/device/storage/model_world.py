"""Runs on MicroPython: records whose bytes prove where they come from, and a cloud that stores each identity once."""

import struct

from contract.wire import EVENT, HEALTH, QUERY, READINGS, STREAMS, UPDATE

_HEAD = "<BIIHI"  # stream, epoch, seq, count, birth
_MIX = (READINGS, READINGS, READINGS, EVENT, READINGS, HEALTH, READINGS, UPDATE, READINGS, QUERY)


class Random:
    """A small seeded generator (xorshift32), the same on every run."""

    def __init__(self, seed):
        self._x = (seed * 2654435761 + 1) & 0xFFFFFFFF or 1

    def below(self, n):
        x = self._x
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        self._x = x
        return x % n


class Fault(Exception):
    """An invariant is broken; the text says which, and for which record."""


class Maker:
    """Makes records, each with a birth number of its own inside its bytes.

    `twin`: a maker whose records count as made here too, without this one telling it about its own.
    """

    def __init__(self, twin=None):
        self._made = {}  # key_of() -> (birth, frame, count)
        self._twin = twin
        self._births = 1 << 20 if twin else 0
        self.next_seq = {}  # epoch -> one per stream
        if twin:
            for epoch in twin.next_seq:
                self.next_seq[epoch] = list(twin.next_seq[epoch])

    def make(self, epoch, random):
        """(stream, epoch, seq, count, t_ms, frame) of a new record; readings are larger and cover several rows."""
        stream = _MIX[random.below(len(_MIX))]
        rank = STREAMS.index(stream)
        nexts = self.next_seq.setdefault(epoch, [0] * len(STREAMS))
        seq = nexts[rank]
        count = 8 + random.below(40) if stream == READINGS else 1
        nexts[rank] = seq + count
        self._births += 1
        n_bytes = 40 + random.below(220 if stream == READINGS else 100)
        frame = _frame(stream, epoch, seq, count, self._births, n_bytes)
        self._made[key_of(stream, epoch, seq)] = (self._births, frame, count)
        return stream, epoch, seq, count, self._births * 1000, frame

    def made(self, identity):
        """(birth, frame, count) of a record, None for one that was never made."""
        found = self._made.get(key_of(*identity))
        if found is None and self._twin:
            found = self._twin.made(identity)
        return found

    def check(self, record):
        """The birth of a record that arrives; raises Fault unless it is exactly as it was made."""
        stream, epoch, seq, count, t_ms, frame = record
        made = self.made((stream, epoch, seq))
        if made is None:
            raise Fault(f"invented: stream {stream} epoch {epoch} seq {seq}")
        birth, made_frame, made_count = made
        if count != made_count or t_ms != birth * 1000 or frame != made_frame:
            raise Fault(f"wrong bytes: stream {stream} epoch {epoch} seq {seq}")
        return birth


def key_of(stream, epoch, seq):
    """An identity as one integer: the hash of a tuple is the sum of its parts, too alike to look up among many."""
    return (epoch << 8 | stream) << 32 | seq


def _frame(stream, epoch, seq, count, birth, n_bytes):
    head = struct.pack(_HEAD, stream, epoch, seq, count, birth)
    filler = struct.pack("<I", birth * 2654435761 & 0xFFFFFFFF)
    return head + (filler * (n_bytes // 4 + 1))[:n_bytes]


class Cloud:
    """Stores each identity once and acknowledges what is contiguous; a floor declares what lies below it lost."""

    def __init__(self, maker):
        self._maker = maker
        self.stored = {}  # identity -> birth
        self._next = {}  # epoch -> next contiguous seq per stream

    def take(self, record):
        """A record arrives, for the first time or again."""
        birth = self._maker.check(record)
        stream, epoch, seq = record[:3]
        if self.stored.setdefault((stream, epoch, seq), birth) != birth:
            raise Fault(f"two records under stream {stream} epoch {epoch} seq {seq}")
        self._advance(stream, epoch, self._next.setdefault(epoch, [0] * len(STREAMS)))

    def hello(self, floors):
        """Nothing below a floor will come any more."""
        for floor in floors:
            nexts = self._next.setdefault(floor[0], [0] * len(STREAMS))
            for rank, stream in enumerate(STREAMS):
                nexts[rank] = max(nexts[rank], floor[1 + rank])
                self._advance(stream, floor[0], nexts)

    def acks(self):
        """The ACK's vector, of all epochs."""
        return [[epoch] + self._next[epoch] for epoch in sorted(self._next)]

    def _advance(self, stream, epoch, nexts):
        rank = STREAMS.index(stream)
        while (stream, epoch, nexts[rank]) in self.stored:
            nexts[rank] += self._maker.made((stream, epoch, nexts[rank]))[2]
