"""Runs on MicroPython: patches applied from file to file, and what they take of the heap while it goes on.

argv: folder with base, patch and target of each case, names of the cases; an empty base: the target deflated. Prints
[name, it is the target, error, live bytes at most], the last for cases that are not damaged: garbage is collected at
each write.
"""

import gc
import json
import os
import sys
from hashlib import sha256

from contract import artifact, patch, patch_forest
from device.patching import inflate

_FOLDER = sys.argv[1]


class _Base:
    def __init__(self, path):
        self._file = open(path, "rb")  # noqa: SIM115
        self.payload_at = artifact.parse_header(self._file.read(20)).payload_at

    def read_at(self, offset, buffer):
        self._file.seek(offset)
        if self._file.readinto(buffer) != len(buffer):
            raise patch.PatchError("behind the base")


class _Scratch:
    def __init__(self, path):
        self._path = path
        self._file = open(path, "wb")  # noqa: SIM115
        self.write = self._file.write

    def seek(self, _start):
        self._file.close()
        self._file = open(self._path, "rb")  # noqa: SIM115
        self.read = self._file.read


class _Sink:
    """As a board's, which takes no more than it was offered."""

    def __init__(self, measures, size):
        self.measures = measures
        self.left = size
        self.hasher = sha256()
        self.most = 0

    def write(self, view):
        if len(view) > self.left:
            raise patch.PatchError("more than was offered")
        self.left -= len(view)
        self.hasher.update(view)
        if not self.measures:
            return
        gc.collect()
        self.most = max(self.most, gc.mem_alloc())


def _forest(stream, base, write, contexts):
    patch_forest.apply(stream, base, write, contexts, _TREES, _DIGESTS)


def _apply(name):
    global _TREES, _DIGESTS
    path = _FOLDER + "/" + name
    with open(path + ".target", "rb") as f:
        target = f.read()
    wanted, size = sha256(target).digest(), len(target)
    target = None
    base = _Base(path + ".base") if os.stat(path + ".base")[6] else None
    sink, error = _Sink("damaged" not in name, size), ""
    _TREES, _DIGESTS = _Scratch(path + ".trees"), _Scratch(path + ".digests")
    with open(path + ".patch", "rb") as stream:
        gc.collect()
        before = gc.mem_alloc()
        try:
            if base:
                patch.apply(stream, base, sink.write, _forest)
            else:
                inflate(stream, sink.write)
        except (patch.PatchError, EOFError, OSError) as e:
            error = repr(e)
    return [name, sink.hasher.digest() == wanted, error, sink.most - before]


_TREES = _DIGESTS = None
for _name in sys.argv[2:]:
    print(json.dumps(_apply(_name)))
