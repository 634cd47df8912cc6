"""A/B records: small values on flash that any power cut leaves either old or new, never torn.

Theory of operation. A record at `path` is two files, `path.0` and `path.1`. Each is magic, generation, length, CRC-32
and the payload. A store writes the file that is *not* the newest valid one, so until that write is complete the other
file is still what load() returns. littlefs alone would make one file enough; two keep the promise on FAT and POSIX
too, where a rewritten file can be cut short, and against a block that decays under littlefs.
"""

import binascii
import struct

_HEADER = "<4sIHI"  # magic, generation, payload bytes, CRC-32 of generation, length and payload
_HEADER_BYTES = struct.calcsize(_HEADER)
_MAGIC = b"EWR1"
MAX_PAYLOAD_BYTES = 2048  # bounds the RAM a load takes, whatever the file's length says


class Record:
    """One value of 0 to MAX_PAYLOAD_BYTES bytes at `path` on `fs` (see files.Files)."""

    def __init__(self, fs: object, path: str) -> None:
        self._fs = fs
        self._path = path
        self._newest = None  # 0 or 1: the file that must survive the next store; None: not looked yet
        self._generation = 0

    def load(self) -> bytes | None:
        """The newest payload that is whole, or None where there is none; unreadable files count as absent."""
        self._newest = None
        self._generation = 0
        payload = None
        for slot in (0, 1):
            found = self._read(slot)
            if found is not None and (payload is None or found[0] > self._generation):
                self._newest = slot
                self._generation, payload = found
        if payload is None:
            self._newest = 1  # nothing to protect: the first store goes to file 0
        return payload

    def store(self, payload: bytes) -> None:
        """Makes `payload` the value; raises OSError when flash refuses, and the older value then still holds."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError("record of %d bytes, at most %d" % (len(payload), MAX_PAYLOAD_BYTES))
        if self._newest is None:
            self.load()
        slot = 1 - self._newest
        generation = self._generation + 1
        self._newest = None  # should the write fail, look again before the next one
        with self._fs.open(self._path + "." + str(slot), "wb") as f:
            f.write(_header(generation, payload))
            f.write(payload)
            f.flush()
        self._newest = slot
        self._generation = generation

    def _read(self, slot: int) -> tuple | None:
        """(generation, payload) of one file, or None."""
        try:
            with self._fs.open(self._path + "." + str(slot), "rb") as f:
                header = f.read(_HEADER_BYTES)
                if len(header) < _HEADER_BYTES:
                    return None
                _, generation, length, _ = struct.unpack(_HEADER, header)
                payload = f.read(min(length, MAX_PAYLOAD_BYTES))  # MicroPython allocates what is asked for
        except OSError:
            return None
        if header != _header(generation, payload):
            return None
        return generation, payload


def _header(generation: int, payload: bytes) -> bytes:
    crc = binascii.crc32(payload, binascii.crc32(struct.pack("<IH", generation, len(payload))))
    return struct.pack(_HEADER, _MAGIC, generation, len(payload), crc)
