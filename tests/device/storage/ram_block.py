"""Runs on MicroPython: a flash chip in RAM for littlefs, that can be left as a power cut leaves it.

The geometry is that of an ESP32's vfs partition: 4096-byte blocks, and littlefs with its defaults of that port (reads
and programs of 32 bytes and up, caches of 128).
"""

import micropython
import vfs

BLOCK_BYTES = 4096
NONE, HALF, ALL = 0, 1, 2  # how much of the operation under way at the cut reaches flash
_ERASED = b"\xff" * BLOCK_BYTES


class RamBlock:
    """Block device of `n_blocks`; `log` holds (block, offset, data) of every program, (block, -1, b"") of every erase.

    `refuse`: an errno that every program and erase answers with, 0: none. Programs and erases are counted, log or not.
    """

    def __init__(self, n_blocks, image=None):
        self.n_blocks = n_blocks
        self.data = bytearray(image or n_blocks * BLOCK_BYTES)
        self._view = memoryview(self.data)
        if not image:
            for block in range(n_blocks):
                self._erase(block)
        self.log = None
        self.refuse = 0
        self.programs = self.program_bytes = self.erases = 0

    @property
    def changes(self):
        return self.programs + self.erases

    def copy(self):
        return RamBlock(self.n_blocks, self.data)

    def mount(self):
        """The littlefs on the chip; a corrupt one raises OSError."""
        return vfs.VfsLfs2(self)

    def apply(self, operation, part=ALL):
        """Does a logged operation, or what a cut leaves of it."""
        apply(self.data, operation, part)

    # Machine code: littlefs reads hundreds of times to find a file, always a multiple of 32 bytes.
    @micropython.viper
    def readblocks(self, block: int, buf, offset: int):
        source = ptr32(self.data)  # noqa: F821 - no name of Python
        target = ptr32(buf)  # noqa: F821
        at = (block * int(BLOCK_BYTES) + offset) >> 2
        for word in range(int(len(buf)) >> 2):  # noqa: RUF046 - an object becomes a machine word
            target[word] = source[at + word]

    def writeblocks(self, block, buf, offset=0):
        if self.refuse:
            return -self.refuse
        at = block * BLOCK_BYTES + offset
        self._view[at : at + len(buf)] = buf
        self.programs += 1
        self.program_bytes += len(buf)
        if self.log is not None:
            self.log.append((block, offset, bytes(buf)))
        return 0

    def ioctl(self, request, block):
        if request == 4:
            return self.n_blocks
        if request == 5:
            return BLOCK_BYTES
        if request == 6:
            if self.refuse:
                return -self.refuse
            self._erase(block)
            self.erases += 1
            if self.log is not None:
                self.log.append((block, -1, b""))
        return 0

    def _erase(self, block):
        self._view[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = _ERASED


def formatted(n_blocks):
    """A RamBlock with an empty littlefs."""
    chip = RamBlock(n_blocks)
    vfs.VfsLfs2.mkfs(chip)
    return chip


def apply(image, operation, part=ALL):
    """Does a logged operation, or what a cut leaves of it, to the bytes of a chip."""
    block, offset, data = operation
    if part == NONE:
        return
    if offset < 0:
        offset, data = 0, _ERASED
    n_bytes = len(data) if part == ALL else len(data) // 2
    at = block * BLOCK_BYTES + offset
    image[at : at + n_bytes] = data[:n_bytes]
