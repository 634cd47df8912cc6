"""Runs on MicroPython: a file system that protects nothing, as FAT does not: every write reaches its file at once.

Where littlefs leaves a file old or new, a cut leaves half a write here; one file in two has then grown by all of it,
with zeros where nothing was written. Stands in for a mounted file system, and for the chip under it, with the methods
that ram_block.RamBlock has.
"""

import errno

from ram_block import ALL, HALF, NONE

_WRITE, _CREATE, _REMOVE = 0, 1, 2


class TornFiles:
    """Files in RAM. `log` holds (kind, path, offset, data) of every change; `changes` counts them, log or not."""

    def __init__(self, files=None):
        self._files = files or {}
        self.log = None
        self.changes = 0

    def mount(self):
        return self

    def copy(self):
        files = {}
        for path, data in self._files.items():
            files[path] = bytearray(data)
        return TornFiles(files)

    def apply(self, operation, part=ALL):
        """Does a logged change, or what a cut leaves of it."""
        kind, path, offset, data = operation
        if part == NONE:
            return
        if kind == _CREATE:
            self._files[path] = bytearray()
        elif part == ALL and kind == _REMOVE:
            del self._files[path]
        elif kind == _WRITE:
            if part == HALF:
                grown = len(data) - len(data) // 2 if len(data) % 2 else 0
                data = data[: len(data) // 2] + bytes(grown)
            self._files[path][offset : offset + len(data)] = data

    def open(self, path, mode):
        if mode == "wb":
            self.change(_CREATE, path, 0, b"")
        elif path not in self._files:
            raise OSError(errno.ENOENT)
        return _File(self, path, self._files[path], mode)

    def ilistdir(self, folder):
        for path in sorted(self._files):
            if path.startswith(folder + "/"):
                yield path[len(folder) + 1 :], 0x8000, 0, len(self._files[path])

    def mkdir(self, path):
        raise OSError(errno.EEXIST)

    def stat(self, path):
        for name, data in self._files.items():
            if name == path or name.startswith(path + "/"):
                return 0x8000 if name == path else 0x4000, 0, 0, 0, 0, 0, len(data), 0, 0, 0
        raise OSError(errno.ENOENT)

    def remove(self, path):
        if path not in self._files:
            raise OSError(errno.ENOENT)
        self.change(_REMOVE, path, 0, b"")

    def change(self, kind, path, offset, data):
        self.changes += 1
        operation = (kind, path, offset, data)
        if self.log is not None:
            self.log.append(operation)
        self.apply(operation)


class _File:
    def __init__(self, files, path, data, mode):
        self._files = files
        self._path = path
        self._data = data
        self._at = len(data) if mode == "ab" else 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def write(self, data):
        self._files.change(_WRITE, self._path, self._at, bytes(data))
        self._at += len(data)
        return len(data)

    def read(self, n_bytes):
        found = bytes(self._data[self._at : self._at + n_bytes])
        self._at += len(found)
        return found

    def readinto(self, buf):
        found = self.read(len(buf))
        memoryview(buf)[: len(found)] = found
        return len(found)

    def flush(self):
        return None
