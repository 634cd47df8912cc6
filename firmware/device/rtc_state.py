"""What the board remembers through deep sleep: 2,048 bytes of RTC memory, as attributes.

Theory of operation. load() takes the memory in, one store() writes it back, and between the two nothing is saved.
Two rules make a crash at any point harmless:

1. take_seq() and the ring give out identities; store() comes before any of them leaves this program (to flash by
   Outbox.commit(), to the cloud by the link). After a crash the memory is as of the last store(), so an identity given
   out later is given out again only if nobody has seen it.
2. trim() and another store() come after a frame is stored on flash or acknowledged. A crash between leaves the frame
   in both places, with one identity and the same bytes.

The memory is written whole, and a reset in the middle of a write tears it. A copy to fall back to would halve the
ring, so there is none: what fails its CRC is rebuilt. The epoch then rises, so that no identity is given out twice;
lost are the readings of the ring, which were never reported stored, and the counters.
"""

import binascii
import os
import struct

import device.rtc_layout as layout
from contract.wire import MAX_U32, READINGS, STREAMS
from device.records import Record
from device.rtc_ring import Ring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

OK = 0
MIGRATED = 1  # an older layout was read; the next store() writes the present one
REBUILT = 2  # torn, foreign or empty: a new epoch has begun and every counter is 0

# What RTC memory knows of a shadow model, shadow[0]; 0: flash was not asked yet, 2: there is one.
SHADOW_NONE = 1
SHADOW_RUNS = 3  # it has the processor, or had it in this wake

_READINGS_RANK = STREAMS.index(READINGS)


class RtcState:
    """The fields of rtc_layout.FIELDS as attributes (load() sets them), and the ring of readings.

    board: rtc_read_into(buf) -> bytes read, rtc_write(buf), now_ms(), root. fs: see files.Files; the epoch is an A/B
    record on it.
    """

    def __init__(self, board: object, fs: object) -> None:
        self._board = board
        self._fs = fs
        self._epoch_record = Record(fs, board.root + "/epoch")
        self._buf = bytearray(layout.RTC_BYTES)
        self.ring = Ring(self, memoryview(self._buf)[layout.RING_AT :])
        self.epoch_stored = True  # False: flash refused the new epoch, see _next_epoch()
        self._loaded = False
        self._set(layout.unpack(layout.FIELDS, self._buf))

    def load(self, first_epoch: int = 1) -> int:
        """Reads RTC memory; OK, MIGRATED or REBUILT. Call once per wake, before anything else here.

        first_epoch: lowest epoch to begin with where flash knows of none (a board whose flash was wiped must not
        give out identities again that the cloud has stored).
        """
        n_bytes = self._board.rtc_read_into(self._buf)
        if n_bytes == layout.RTC_BYTES and _is_whole(self._buf):
            version = self._buf[layout.CRC_FROM]
            if version == layout.LAYOUT:
                found = layout.unpack(layout.FIELDS, self._buf)
            else:
                from device.rtc_migrate import migrate  # once in a firmware's life: not worth its RAM at every wake

                found = migrate(self._buf, version)
            if found is not None:
                self._set(found)
                if self.ring.is_sound():
                    self._loaded = True
                    return OK if version == layout.LAYOUT else MIGRATED
        self._rebuild(first_epoch)
        self._loaded = True
        return REBUILT

    def store(self) -> None:
        """Writes RTC memory, once and whole. When it must be called: see this module's first lines.

        Does nothing where load() did not come to its end: what the memory holds is better than what is here.
        """
        if not self._loaded:
            return
        self.generation = (self.generation + 1) & MAX_U32
        self.stored_ms = self._board.now_ms()
        buf = self._buf
        layout.pack_into(buf, self)
        struct.pack_into("<I", buf, 4, _crc(buf))
        self._board.rtc_write(buf)

    def take_seq(self, stream: int) -> int:
        """The next sequence number of a stream other than READINGS; store() before it is used."""
        rank = STREAMS.index(stream)
        seq = self.next_seq[rank]
        self.next_seq[rank] = seq + 1
        return seq

    def reconcile(self, outbox: object) -> None:
        """After a reset that deep sleep did not announce: goes on behind what flash already holds of this epoch."""
        for rank, stream in enumerate(STREAMS):
            held = outbox.next_seq(stream, self.epoch)
            if rank == _READINGS_RANK:
                self.ring.trim(held)
            elif held > self.next_seq[rank]:
                self.next_seq[rank] = held

    def raise_epoch(self, above: int) -> None:
        """Begins an epoch higher than `above`: the cloud acknowledges epochs this board does not remember.

        The rows in the ring have not left the board; they move to the new epoch. Ends with a store().
        """
        self.epoch = self._next_epoch(above)
        rows = self.next_seq[_READINGS_RANK] - self.ring_seq
        clear(self.next_seq)
        self.next_seq[_READINGS_RANK] = rows
        self.ring_seq = 0
        self.base_epoch = 0
        self.store()

    # The ring of readings

    def push_row(self, t_ms: int, values: "list | array") -> bool:
        """Adds one row (1 to MAX_CHANNELS int32) under the next sequence number of READINGS; True: the ring is full.

        A full ring is drained by seal(), then the outbox or the link, then trim(). Pushing on drops the oldest frame
        and counts its rows in `ring_dropped`.
        """
        return self.ring.push(t_ms, values)

    def seal(self) -> list:
        """Closes the open tail; the frames held, oldest first: (seq, t_ms, rows, cols, first, body).

        A frame's boundaries and bytes never change again. first and body are views of RTC memory, valid until the
        next push_row(), seal() or trim(); store() before they leave this program.
        """
        self.ring.seal()
        return self.ring.frames()

    def trim(self, next_seq: int) -> None:
        """Forgets the frames below a sequence number of this epoch: they are on flash, or acknowledged."""
        self.ring.trim(next_seq)

    def _set(self, found: "Iterable[tuple]") -> None:
        for name, value in found:
            setattr(self, name, value)
        self.magic = layout.MAGIC
        self.layout = layout.LAYOUT

    def _rebuild(self, first_epoch: int) -> None:
        self._buf[:] = bytes(layout.RTC_BYTES)
        self._set(layout.unpack(layout.FIELDS, self._buf))
        self.epoch = self._next_epoch(first_epoch - 1)
        self.began_ms = self._board.now_ms()

    def _next_epoch(self, above: int) -> int:
        """An epoch higher than `above` and than any before, on flash before anything is named after it."""
        known = self._epoch_record.load()
        if known and len(known) == 4:
            above = max(above, struct.unpack("<I", known)[0])
        elif self._was_used():
            above += _leap()
        epoch = above + 1
        try:
            self._epoch_record.store(struct.pack("<I", epoch))
        except OSError:
            epoch += _leap()
            self.epoch_stored = False
        return epoch

    def _was_used(self) -> bool:
        """True when this flash has served before: the outbox makes its directory at the end of the first wake."""
        try:
            self._fs.stat(self._board.root + "/outbox")
        except OSError:
            return False
        return True


def clear(counts: "array", begin: int = 0) -> None:
    """Sets the counters of an array, from `begin` on, to 0."""
    for index in range(begin, len(counts)):
        counts[index] = 0


def _leap() -> int:
    """How far to jump where flash has lost the epoch, or cannot take it.

    Each cold start would otherwise begin the same epoch, and the cloud would take new records for ones it has. A leap
    makes that as unlikely as one in 65,536.
    """
    return 1 + struct.unpack("<H", os.urandom(2))[0]


def _crc(buf: bytearray) -> int:
    return binascii.crc32(memoryview(buf)[layout.CRC_FROM :])


def _is_whole(buf: bytearray) -> bool:
    return buf[:4] == layout.MAGIC and struct.unpack_from("<I", buf, 4)[0] == _crc(buf)
