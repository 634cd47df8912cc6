"""An offer taken as a patch: fetched into a file of its own, applied to what runs, written to the spare slot.

One without a base is the artifact deflated, and needs nothing that runs. Nothing here decides whether the outcome is
sound: the head is checked before the slot is emptied for it, as that of a download is, and all of it is verified
afterwards. Whatever goes wrong, the artifact is fetched whole instead.
"""

from micropython import const

from contract import artifact
from contract.artifact import ArtifactError
from contract.wire import MAX_CHUNK_BYTES, REASON_BAD_PATCH
from device import admission
from device.files import make_directory, remove_if_there
from device.slots import file_size

try:
    import deflate
except ImportError:  # an image built without it: what is deflated is fetched as it is
    deflate = None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from device.download import Download
    from device.files import Files
    from device.slots import Slots
    from device.trust import Policy
    from device.update_record import Offer, UpdateRecord

_INFLATED_BYTES = const(128)  # at a time: 1.3 kB of tables and the window stand beside them, 2 kB is all there shall be
_NAMES = ("patch", "patch-head", "patch-trees", "patch-digests")


def suits(fs: "Files", root: str, places: "Slots", offer: "Offer") -> bool:
    """True when the offer has a patch for what runs, or for any board, it is the shorter way, and there is room for
    both; raises OSError."""
    if offer.has_base:
        usable = places.model is not None and places.model.sha8 == offer.patch_base
    else:
        usable = deflate is not None
    return (
        usable
        and 0 < offer.patch_size < offer.size
        and offer.size + offer.patch_size <= admission.room(fs, root, places.folder(places.spare()))
    )


def discard(fs: "Files", root: str) -> None:
    """Removes a patch and what was made of it so far."""
    for name in _NAMES:
        remove_if_there(fs, root + "/models/" + name)


class PatchDownload:
    """The patch of record.offer on its way onto flash; the file's size says where to go on. As download.Download."""

    def __init__(self, fs: "Files", root: str, record: "UpdateRecord") -> None:
        make_directory(fs, root + "/models")
        self._fs = fs
        self._path = root + "/models/" + _NAMES[0]
        self._size = record.offer.patch_size
        self.progress = file_size(fs, self._path)

    def next_piece(self) -> tuple:
        """(offset, length) of the piece to ask for; length 0 when all is there."""
        return self.progress, min(MAX_CHUNK_BYTES, self._size - self.progress)

    def write(self, data: "bytes | memoryview") -> None:
        """Appends a piece."""
        with self._fs.open(self._path, "ab") as f:
            f.write(data)
        self.progress += len(data)


def apply(
    fs: "Files", root: str, places: "Slots", record: "UpdateRecord", policy: "Policy", download: "Download", now_s: int
) -> None:
    """Makes the offered artifact in the spare slot; raises ArtifactError, OSError, EOFError, MemoryError.

    It may be begun again after any cut: the patch and the artifact it is applied to are only read.
    """
    folder = root + "/models/"
    sink = _Sink(fs, folder + _NAMES[1], places, record, policy, download, now_s)
    try:
        with fs.open(folder + _NAMES[0], "rb") as stream:
            if record.offer.has_base:
                _apply_to_base(fs, folder, places, stream, sink.write)
            else:
                inflate(stream, sink.write)
        sink.end()
    finally:
        sink.close()


def inflate(stream: "BinaryIO", write: "Callable[[memoryview], None]") -> None:
    """Hands on what a raw deflate stream stands for; raises EOFError, OSError where it is none, MemoryError."""
    source = deflate.DeflateIO(stream, deflate.RAW, artifact.DEFLATE_WINDOW_BITS)
    buffer = memoryview(bytearray(_INFLATED_BYTES))
    while True:
        n = source.readinto(buffer)
        if not n:
            return
        write(buffer[:n])


def _apply_to_base(fs: "Files", folder: str, places: "Slots", stream: "BinaryIO", write: object) -> None:
    from contract import patch

    base = _Base(fs, places)
    try:
        patch.apply(stream, base, write, lambda *parts: _forest(fs, folder, *parts))
    except patch.PatchError as e:
        raise ArtifactError(REASON_BAD_PATCH, str(e))
    finally:
        base.close()


def _forest(fs: "Files", folder: str, stream: object, base: object, write: object, contexts: object) -> None:
    from contract import patch_forest

    trees = _Scratch(fs, folder + _NAMES[2])
    digests = _Scratch(fs, folder + _NAMES[3])
    try:
        patch_forest.apply(stream, base, write, contexts, trees, digests)
    finally:
        trees.close()
        digests.close()


class _Scratch:
    """A file that is written from the start, and read from the start once seek() was called."""

    def __init__(self, fs: "Files", path: str) -> None:
        self._fs = fs
        self._path = path
        self._file = fs.open(path, "wb")
        self.write = self._file.write
        self.read = None

    def seek(self, _start: int) -> None:
        self._file.close()
        self._file = self._fs.open(self._path, "rb")
        self.read = self._file.read

    def close(self) -> None:
        self._file.close()


class _Base:
    """The artifact that runs, read where the applier wants it."""

    def __init__(self, fs: "Files", places: "Slots") -> None:
        slot = places.active
        self.payload_at = admission.payload_at(fs, places, slot)
        self._head = fs.open(places.head_path(slot), "rb")
        self._payload = fs.open(places.payload_path(slot, places.model.format), "rb")

    def read_at(self, offset: int, buffer: "bytearray | memoryview") -> None:
        """Fills the buffer; raises ArtifactError beyond the end."""
        view = memoryview(buffer)
        n_head = max(0, min(len(view), self.payload_at - offset))
        if n_head:
            self._head.seek(offset)
            self._read(self._head, view[:n_head])
        if n_head < len(view):
            self._payload.seek(offset + n_head - self.payload_at)
            self._read(self._payload, view[n_head:])

    def _read(self, file: object, view: memoryview) -> None:
        if file.readinto(view) != len(view):
            raise ArtifactError(REASON_BAD_PATCH, "behind the base")

    def close(self) -> None:
        self._head.close()
        self._payload.close()


class _Sink:
    """Takes the artifact from front to back: the head into a file of its own, and once it is good, into the slot."""

    def __init__(
        self,
        fs: "Files",
        path: str,
        places: "Slots",
        record: "UpdateRecord",
        policy: "Policy",
        download: "Download",
        now_s: int,
    ) -> None:
        self._fs = fs
        self._path = path
        self._checks = (record.offer, policy, places, now_s)
        self._size = record.offer.size
        self._download = download
        self._start = b""  # as much of the header as came
        self._payload_at = artifact.HEADER_BYTES
        self._count = 0
        self._file = fs.open(path, "wb")

    def write(self, view: "bytes | memoryview") -> None:
        """The next bytes."""
        if self._count + len(view) > self._size:
            raise ArtifactError(REASON_BAD_PATCH, "more than was offered")
        at = 0
        while at < len(view):
            if len(self._start) < artifact.HEADER_BYTES:
                n = min(len(view) - at, artifact.HEADER_BYTES - len(self._start))
                self._start += bytes(view[at : at + n])
                if len(self._start) == artifact.HEADER_BYTES:
                    self._payload_at = artifact.parse_header(self._start).payload_at
            else:
                n = len(view) - at
                if self._count < self._payload_at:
                    n = min(n, self._payload_at - self._count)
            self._file.write(view[at : at + n])
            self._count += n
            at += n
            if self._count == self._payload_at and len(self._start) == artifact.HEADER_BYTES:
                self._take_head()

    def _take_head(self) -> None:
        """The head is whole: checks it, empties the slot for it, and goes on with the payload."""
        self._file.close()
        with self._fs.open(self._path, "rb") as f:
            head = f.read(artifact.parse_header(self._start).golden_at)
            admission.check_head(head, *self._checks)
            head = None
            self._download.begin(self._payload_at)
            f.seek(0)
            self._download.copy_head(f)
        self._file = self._download.open_payload()

    def end(self) -> None:
        """Raises ArtifactError when something is missing."""
        if self._count != self._size:
            raise ArtifactError(REASON_BAD_PATCH, "%d of %d bytes" % (self._count, self._size))

    def close(self) -> None:
        """Puts what was written onto flash."""
        self._file.close()
