"""The flash queue between the board and the cloud. The reasons behind its shape are in DESIGN.md "Outbox".

Theory of operation. Every stream has its own chain of segment files (outbox_chain.py, outbox_segment.py). append()
packs records into RAM, commit() writes them: one file and one flush per stream. When commit() returns True, they are
*stored*: whatever is cut from then on, pending() yields them until an ACK covers them, they expire, or the bound
drops them.

Nothing is rewritten to acknowledge a record: a segment of which all is done is removed, and the cursor
(outbox_cursor.py) says how far a segment is done in part. The cursor is written *before* a drop removes anything, so
a drop is counted, and told to the cloud as a floor, whatever is cut.
"""

import struct

from micropython import const

import device.outbox_segment as segment
from contract.wire import HEALTH, MAX_FLOORS, STREAMS
from device.files import make_directory
from device.outbox_chain import Chain
from device.outbox_cursor import Cursor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BUFFER_BYTES = 4096  # records waiting for commit()
MAX_SEGMENTS = 64  # of all streams together: 256 kB, at most 8,600 records
HEALTH_SEGMENTS = 2  # the newest 28 to 56 health records say enough, see DESIGN.md
_ENOSPC = const(28)  # which MicroPython's errno leaves out
_ENTRY = "<BI"  # rank and epoch before each record in the buffer
_ENTRY_BYTES = const(5)
_RANKS = tuple(range(len(STREAMS)))
_HEALTH_RANK = STREAMS.index(HEALTH)


class Outbox:
    """Records on their way to the cloud, in the directory `root` of `fs` (see files.Files)."""

    def __init__(self, fs: object, root: str, max_segments: int = MAX_SEGMENTS) -> None:
        self._fs = fs
        self._root = root
        self._max_segments = max_segments
        self._reader = segment.SegmentReader(fs, root)
        self._chains = [Chain(fs, root, rank, self._reader) for rank in _RANKS]
        self._cursor = Cursor(fs, root + "/cursor")
        self._buf = bytearray(BUFFER_BYTES)
        self._used = 0
        self._refused = []  # as `unstored`, of the commit() that is still to come
        self.unstored = []  # what the last commit() could not store: (stream, epoch, seq, count)
        self.write_failures = 0  # since this object was made
        self.damaged_segments = 0  # likewise: removed although not all of their bytes could be read
        self.is_open = False

    def open(self) -> None:
        """Finds what is held: one listing of the directory and one A/B record, however many records are held.

        Raises OSError when the directory can neither be read nor made.
        """
        make_directory(self._fs, self._root)
        for entry in self._fs.ilistdir(self._root):
            name = segment.parse_name(entry[0])
            if name is not None:
                self._chains[name[0]].found(name[1], name[2])
        for chain in self._chains:
            chain.sort()
        self._cursor.load()
        self.is_open = True

    # In

    def append(self, stream: int, epoch: int, seq: int, count: int, t_ms: int, frame: bytes, ttl_ms: int = 0) -> bool:
        """Takes a record for the next commit(); False, and not taken, when the frame is larger than a segment holds.

        The frame is `count` sequence numbers from `seq` on; (stream, epoch, seq) never names other bytes again.
        `ttl_ms` counts from t_ms, 0 is for ever; it is kept in whole seconds, rounded up.
        """
        if not 0 < len(frame) <= segment.MAX_FRAME_BYTES:
            return False
        if self._used + _ENTRY_BYTES + segment.RECORD_BYTES + len(frame) > BUFFER_BYTES:
            self._write_buffer()
        struct.pack_into(_ENTRY, self._buf, self._used, STREAMS.index(stream), epoch)
        at = self._used + _ENTRY_BYTES
        self._used = segment.pack_record_into(self._buf, at, seq, count, t_ms, (ttl_ms + 999) // 1000, frame)
        return True

    def commit(self) -> bool:
        """Writes what was appended; True: every record appended since the last commit() is stored.

        On False `unstored` lists the records that are not, and they are no longer here: whoever appended them still
        has them and may append the same again, or gives them up with count_dropped().
        """
        self._write_buffer()
        self.unstored = self._refused
        self._refused = []
        return not self.unstored

    def count_dropped(self, stream: int, count: int) -> None:
        """Counts records that were lost before they got here."""
        self._cursor.dropped[STREAMS.index(stream)] += count
        self._save_cursor()

    # Out

    def pending(self, now_ms: int, epoch: int, max_frames: int = 0) -> "Iterator[tuple]":
        """Yields (stream, epoch, seq, count, t_ms, frame) of what is held, most important stream first.

        Within a stream, in the order of writing: old epochs first. `epoch` is the current one and `now_ms` its age.
        Expired records are skipped, and counted as dropped once nothing older is held. max_frames 0: all. commit()
        and ack() may be called between two steps; what they add may be seen by the next call only.
        """
        reader = self._reader
        left = max_frames
        for rank in _RANKS:
            self._expire(rank, now_ms, epoch)
            for number, its_epoch in list(self._chains[rank].segments):
                done = self._cursor.done(its_epoch, rank)
                at = segment.HEADER_BYTES
                # Whoever takes the frame may have used the reader meanwhile: load() is free when nobody has.
                while reader.load(rank, number, its_epoch) == segment.LOADED and (at := reader.step(at)):
                    if reader.end <= done or reader.expired(its_epoch, now_ms, epoch):
                        continue
                    yield STREAMS[rank], its_epoch, reader.seq, reader.count, reader.t_ms, reader.frame()
                    left -= 1
                    if left == 0:
                        return

    def ack(self, acks: list) -> None:
        """Frees what the cloud has: acks is the ACK's [[epoch, next seq of each stream]..].

        A refused write is counted, never raised: what could not be removed is sent and acknowledged once more.
        """
        nexts = {}
        for entry in acks:
            nexts[entry[0]] = entry[1:]
        for rank in _RANKS:
            self._free(rank, nexts)
        held = self._held_epochs()
        for epoch in nexts:
            if epoch not in held:
                self._cursor.forget_if_told(epoch, nexts[epoch])
        self._save_cursor()

    def floors(self, epoch: int, next_seqs: list) -> list:
        """HELLO's [[epoch, lowest seq held of each stream]..], newest epoch last, at most MAX_FLOORS.

        `epoch` is the current one; next_seqs are the lowest sequence numbers *behind* this outbox, which are the
        floors of streams of which nothing is held here (for readings the first row in RTC memory).
        """
        epochs = self._held_epochs()
        epochs.update({epoch: True})
        for its_epoch in self._cursor.epochs():
            epochs[its_epoch] = True
        result = []
        for its_epoch in sorted(epochs)[-MAX_FLOORS:]:
            floor = [its_epoch]
            for rank in _RANKS:
                lowest = self._lowest(rank, its_epoch)
                if lowest is None:
                    lowest = next_seqs[rank] if its_epoch == epoch else self._cursor.done(its_epoch, rank)
                floor.append(lowest)
            result.append(floor)
        return result

    # Figures

    @property
    def dropped(self) -> list:
        """Records lost to expiry or to a bound since the flash was formatted, one count per stream."""
        return self._cursor.dropped

    def next_seq(self, stream: int, epoch: int) -> int:
        """One past the newest record of `epoch` that is held, 0 when none is: where to go on after a crash."""
        return self._chains[STREAMS.index(stream)].next_seq(epoch)

    def holds(self, stream: int) -> bool:
        """True while a segment of the stream is on flash."""
        return bool(self._chains[STREAMS.index(stream)].segments)

    # Writing

    def _write_buffer(self) -> None:
        batches = [[] for _ in _RANKS]
        view = memoryview(self._buf)
        at = 0
        while at < self._used:
            rank, epoch = struct.unpack_from(_ENTRY, view, at)
            at += _ENTRY_BYTES
            record = segment.record_at(view, at)
            batches[rank].append((epoch, record))
            at += len(record)
        self._used = 0
        for rank in _RANKS:
            self._write_batch(rank, batches[rank])

    def _write_batch(self, rank: int, batch: list) -> None:
        """Stores (epoch, record) pairs of one stream; what was refused is tried once more, in a new segment."""
        chain = self._chains[rank]
        refusals = 0
        while batch and refusals < 2:
            epoch = batch[0][0]
            # A group is not split to fill a segment: that would cost a second erase.
            records = _for_one_segment(batch)
            begin = sum([len(record) for record in records]) > chain.room(epoch)
            if begin and not self._make_room(rank):
                break
            try:
                if begin:
                    chain.begin(epoch, records)
                else:
                    chain.append(records)
                batch = batch[len(records) :]
            except OSError as e:
                self.write_failures += 1
                if not (e.errno == _ENOSPC and self._drop_oldest(rank)):
                    refusals += 1
        for epoch, record in batch:
            seq, count = segment.seq_and_count(record)
            self._refused.append((STREAMS[rank], epoch, seq, count))

    def _make_room(self, rank: int) -> bool:
        """Drops until one more segment of the stream keeps the bounds; False when only more important ones are left."""
        if rank == _HEALTH_RANK:
            while len(self._chains[rank].segments) >= HEALTH_SEGMENTS:
                if not self._drop_segment(rank):
                    return False
        while self._segments() >= self._max_segments:
            if not self._drop_oldest(rank):
                return False
        return True

    def _drop_oldest(self, rank: int) -> bool:
        """Drops the oldest segment of the least important stream, never of one more important than `rank`."""
        for victim in reversed(_RANKS[rank:]):
            if self._chains[victim].segments:
                return self._drop_segment(victim)
        return False

    def _drop_segment(self, rank: int) -> bool:
        """Drops the stream's oldest segment; False when flash refuses."""
        reader = self._reader
        number, epoch = self._chains[rank].segments[0]
        found = reader.load(rank, number, epoch)
        at = segment.HEADER_BYTES
        while found == segment.LOADED and (at := reader.step(at)):
            self._drop_record(epoch, rank)
        if found == segment.UNREADABLE:
            self.damaged_segments += 1
        self._save_cursor()
        return self._remove(rank, (number, epoch))

    def _drop_record(self, epoch: int, rank: int) -> None:
        """Counts the reader's record as dropped, unless it is done already."""
        reader = self._reader
        done = self._cursor.done(epoch, rank)
        if reader.end > done:
            self._cursor.dropped[rank] += reader.end - max(done, reader.seq)
            self._cursor.advance(epoch, rank, reader.end)

    # Freeing

    def _free(self, rank: int, nexts: dict) -> None:
        """Removes the segments of which everything is done, oldest first; `nexts` has what the cloud has, by epoch."""
        reader = self._reader
        for number, epoch in list(self._chains[rank].segments):
            done = self._cursor.done(epoch, rank)
            if epoch in nexts:
                done = max(done, nexts[epoch][rank])
            found = reader.load(rank, number, epoch)
            at = segment.HEADER_BYTES
            while found == segment.LOADED and (at := reader.step(at)):
                if reader.end > done:
                    # Only here, where something newer is held: an acknowledgement beyond all that exists must not
                    # cover what is yet to be made.
                    self._cursor.advance(epoch, rank, done)
                    return
            if found != segment.UNREADABLE:
                self._remove(rank, (number, epoch))

    def _remove(self, rank: int, entry: tuple) -> bool:
        """Removes a segment; if it is the one in the reader, the caller has walked it to its end."""
        if self._reader.damaged(rank, entry[0], entry[1]):
            self.damaged_segments += 1
        if self._chains[rank].remove(entry):
            return True
        self.write_failures += 1
        return False

    def _expire(self, rank: int, now_ms: int, epoch: int) -> None:
        """Drops the expired records at the head of a chain."""
        before = self.dropped[rank]
        for number, its_epoch in self._chains[rank].segments:
            if not self._expire_segment(rank, number, its_epoch, now_ms, epoch):
                break
        if self.dropped[rank] != before:
            self._save_cursor()
            self._free(rank, {})

    def _expire_segment(self, rank: int, number: int, its_epoch: int, now_ms: int, epoch: int) -> bool:
        """True when nothing in the segment is worth sending any more."""
        reader = self._reader
        if reader.load(rank, number, its_epoch) != segment.LOADED:
            return True
        at = segment.HEADER_BYTES
        while at := reader.step(at):
            if reader.end > self._cursor.done(its_epoch, rank):
                if not reader.expired(its_epoch, now_ms, epoch):
                    return False
                self._drop_record(its_epoch, rank)
        return True

    def _lowest(self, rank: int, epoch: int) -> int | None:
        """The lowest sequence number held of one stream and epoch, None when none is."""
        reader = self._reader
        done = self._cursor.done(epoch, rank)
        for number, its_epoch in self._chains[rank].segments:
            if its_epoch == epoch and reader.load(rank, number, epoch) == segment.LOADED:
                at = segment.HEADER_BYTES
                while at := reader.step(at):
                    if reader.end > done:
                        return reader.seq
        return None

    def _segments(self) -> int:
        return sum([len(chain.segments) for chain in self._chains])

    def _held_epochs(self) -> dict:
        epochs = {}
        for chain in self._chains:
            for _, epoch in chain.segments:
                epochs[epoch] = True
        return epochs

    def _save_cursor(self) -> None:
        try:
            self._cursor.save()
        except OSError:
            self.write_failures += 1


def _for_one_segment(batch: list) -> list:
    """The records at the head of a batch of (epoch, record) that one new segment can hold."""
    room = segment.SEGMENT_BYTES - segment.HEADER_BYTES
    records = []
    for epoch, record in batch:
        room -= len(record)
        if room < 0 or epoch != batch[0][0]:
            break
        records.append(record)
    return records
