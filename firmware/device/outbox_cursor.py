"""What the outbox holds no longer: one sequence number per epoch and stream, and the count of dropped records."""

import struct

from micropython import const

from contract.wire import MAX_FLOORS, STREAMS
from device.records import Record

_DROPPED = "<5I"
_DROPPED_BYTES = const(20)
_DONE = "<6I"  # epoch, one sequence number per rank
_DONE_BYTES = const(24)


class Cursor:
    """Below done(epoch, rank) everything is acknowledged, expired or dropped; kept in the A/B record at `path`.

    `dropped` counts by rank the records lost to expiry or to a bound since the flash was formatted. At most MAX_FLOORS
    epochs are kept; when there are more, the oldest is forgotten and what it covered is sent once more.
    """

    def __init__(self, fs: object, path: str) -> None:
        self._record = Record(fs, path)
        self._saved = b""
        self._done = {}  # epoch -> [sequence number per rank]
        self.dropped = [0] * len(STREAMS)

    def load(self) -> None:
        """Reads the record; without one nothing is done and nothing was dropped."""
        payload = self._record.load() or b""
        self._done = {}
        if len(payload) >= _DROPPED_BYTES:
            self.dropped = list(struct.unpack_from(_DROPPED, payload))
            for at in range(_DROPPED_BYTES, len(payload) - _DONE_BYTES + 1, _DONE_BYTES):
                fields = struct.unpack_from(_DONE, payload, at)
                self._done[fields[0]] = list(fields[1:])
        self._saved = self._payload()

    def save(self) -> None:
        """Stores the record if it changed; raises OSError when flash refuses."""
        payload = self._payload()
        if payload != self._saved:
            self._record.store(payload)
            self._saved = payload

    def epochs(self) -> list:
        """The epochs of which something is known to be done."""
        return list(self._done)

    def done(self, epoch: int, rank: int) -> int:
        """The lowest sequence number that may still be held, 0 where nothing is known."""
        nexts = self._done.get(epoch)
        return nexts[rank] if nexts else 0

    def advance(self, epoch: int, rank: int, seq: int) -> None:
        """Everything of the stream below `seq` is done; never goes back."""
        if seq <= self.done(epoch, rank):
            return
        if epoch not in self._done:
            if len(self._done) >= MAX_FLOORS:
                del self._done[min(self._done)]
            self._done[epoch] = [0] * len(STREAMS)
        self._done[epoch][rank] = seq

    def forget_if_told(self, epoch: int, acked: list) -> None:
        """Forgets an epoch of which nothing is held, once the cloud's next sequence numbers show that it knows."""
        nexts = self._done.get(epoch)
        if nexts and all(acked[rank] >= nexts[rank] for rank in range(len(nexts))):
            del self._done[epoch]

    def _payload(self) -> bytes:
        payload = struct.pack(_DROPPED, *self.dropped)
        for epoch in sorted(self._done):
            payload += struct.pack(_DONE, epoch, *self._done[epoch])
        return payload
