"""The bytes of an outbox segment: one file, one stream, one epoch, only ever appended to, at most one flash block.

    segment  "EWQ1" | number u32 | epoch u32 | rank u8 | crc u32 | record ...
    record   crc u32 | length u16 | count u8 | seq u32 | t_ms u48 | ttl_s u32 | frame

All little-endian. The header's CRC-32 covers what stands before it. A record's covers everything behind it and starts
from the header's, so a record is valid only in the segment it was written to. `rank` is the stream's place in
wire.STREAMS. What does not check is the end of the segment: nothing is read behind it and nothing is appended to it.
"""

import binascii
import errno
import struct

from micropython import const

SEGMENT_BYTES = 4096  # one erase block, see DESIGN.md "Outbox"

_HEADER = "<4sIIB"
HEADER_BYTES = const(17)
_MAGIC = b"EWQ1"
_RECORD = "<IHBIIHI"  # t_ms is split in 32 and 16 bits
RECORD_BYTES = const(21)
MAX_FRAME_BYTES = SEGMENT_BYTES - HEADER_BYTES - RECORD_BYTES
_LETTERS = "equhr"  # one per rank, first in a segment's file name

# What load() found
LOADED = 0
MISSING = 1
UNREADABLE = 2  # flash refused: the records may still be there
GARBAGE = 3  # not the header that belongs under this name


def file_name(rank: int, number: int, epoch: int) -> str:
    """Such as `r0000002a.5` for segment 42 of the readings of epoch 5."""
    return "%s%08x.%x" % (_LETTERS[rank], number, epoch)


def parse_name(name: str) -> tuple | None:
    """(rank, number, epoch) of a segment's file name, None for any other file."""
    rank = _LETTERS.find(name[:1]) if name else -1
    if rank < 0 or len(name) < 11 or name[9] != ".":
        return None
    try:
        return rank, int(name[1:9], 16), int(name[10:], 16)
    except ValueError:
        return None


def header(rank: int, number: int, epoch: int) -> bytes:
    """The first HEADER_BYTES of a segment."""
    head = struct.pack(_HEADER, _MAGIC, number, epoch, rank)
    return head + struct.pack("<I", binascii.crc32(head))


def pack_record_into(buf: bytearray, at: int, seq: int, count: int, t_ms: int, ttl_s: int, frame: bytes) -> int:
    """Writes a record without its CRC at `at`, returns the offset behind it; the caller has made room."""
    struct.pack_into(_RECORD, buf, at, 0, len(frame), count, seq, t_ms & 0xFFFFFFFF, t_ms >> 32, ttl_s)
    end = at + RECORD_BYTES + len(frame)
    buf[at + RECORD_BYTES : end] = frame
    return end


def stamp(record: memoryview, key: int) -> None:
    """Puts the CRC in front of a packed record; `key` is the CRC of the header of its segment."""
    struct.pack_into("<I", record, 0, binascii.crc32(record[4:], key))


def record_at(view: memoryview, at: int) -> memoryview:
    """The packed record at offset `at`, without looking at its CRC."""
    return view[at : at + RECORD_BYTES + struct.unpack_from("<H", view, at + 4)[0]]


def seq_and_count(record: memoryview) -> tuple:
    """(seq, count) of a packed record."""
    _, _, count, seq = struct.unpack_from("<IHBI", record)
    return seq, count


def key_of(head: bytes) -> int:
    """The value every record's CRC in the segment that begins with `head` starts from."""
    return struct.unpack_from("<I", head, HEADER_BYTES - 4)[0]


class SegmentReader:
    """One segment at a time in one buffer; step() walks its records and describes the current one in attributes.

    seq, end (one past its last sequence number), count and t_ms are the record's.
    """

    def __init__(self, fs: object, root: str) -> None:
        self._fs = fs
        self._root = root + "/"
        self._view = memoryview(bytearray(SEGMENT_BYTES))
        self._name = ""  # of the file in the buffer
        self._size = 0  # bytes read
        self._key = 0
        self.seq = self.end = self.count = self.t_ms = 0
        self._ttl_s = 0
        self._frame_at = 0
        self._frame_end = 0  # also the end of what was walked and found sound

    def forget(self) -> None:
        """The next load() reads the file again: it was written to, or removed."""
        self._name = ""

    def load(self, rank: int, number: int, epoch: int) -> int:
        """Reads a segment unless it is the one already here; LOADED, MISSING, UNREADABLE or GARBAGE."""
        name = file_name(rank, number, epoch)
        if name == self._name:
            return LOADED
        self._name = ""
        try:
            with self._fs.open(self._root + name, "rb") as f:
                self._size = f.readinto(self._view)
        except OSError as e:
            return MISSING if e.errno == errno.ENOENT else UNREADABLE
        head = header(rank, number, epoch)
        if self._view[: min(HEADER_BYTES, self._size)] != head:
            return GARBAGE
        self._name = name
        self._key = key_of(head)
        self._frame_end = HEADER_BYTES
        return LOADED

    def step(self, at: int) -> int:
        """Takes the record at offset `at` (HEADER_BYTES for the first) and returns the next offset; 0: no record."""
        view = self._view
        start = at + RECORD_BYTES
        if start > self._size:
            return 0
        crc, length, count, seq, t_low, t_high, ttl_s = struct.unpack_from(_RECORD, view, at)
        end = start + length
        if length == 0 or end > self._size or binascii.crc32(view[at + 4 : end], self._key) != crc:
            return 0
        self.seq = seq
        self.count = count
        self.end = seq + count
        self.t_ms = t_low | t_high << 32
        self._ttl_s = ttl_s
        self._frame_at = start
        self._frame_end = end
        return end

    def frame(self) -> bytes:
        """The current record's frame."""
        return bytes(self._view[self._frame_at : self._frame_end])

    def expired(self, its_epoch: int, now_ms: int, epoch: int) -> bool:
        """Whether the current record, of `its_epoch`, is past its time when the current epoch is `now_ms` old.

        How long an older epoch lasted after the record was made is not known: the current one's age must suffice.
        """
        if self._ttl_s == 0:
            return False
        age_ms = now_ms - self.t_ms if its_epoch == epoch else now_ms
        return age_ms > self._ttl_s * 1000

    def sound_bytes(self) -> int:
        """Size of the loaded segment when every byte of it belongs to a valid record, else 0."""
        at = HEADER_BYTES
        while at := self.step(at):
            pass
        return self._size if self._frame_end == self._size else 0

    def damaged(self, rank: int, number: int, epoch: int) -> bool:
        """True when this segment is loaded, was walked to its end, and has bytes that belong to no valid record."""
        return self._name == file_name(rank, number, epoch) and self._frame_end != self._size
