"""The bytes of an offer on their way onto flash. The files are the checkpoint: their sizes say where to go on."""

from contract.artifact import ArtifactError
from contract.wire import MAX_CHUNK_BYTES
from device import admission
from device.slots import file_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from device.files import Files
    from device.slots import Slots
    from device.update_record import UpdateRecord

_PIECE_BYTES = 128


class Download:
    """Writes record.offer into a slot, front to back; record: .offer, .started and .store() of an UpdateRecord.

    The start of an artifact goes to the slot's head file and the payload to its own, so that nothing is copied when
    all is there. Each piece is closed, hence on flash, before the next is asked for. Methods raise OSError when flash
    refuses.
    """

    def __init__(self, fs: "Files", root: str, places: "Slots", record: "UpdateRecord", slot: int) -> None:
        self._fs = fs
        self._root = root
        self._places = places
        self._record = record
        self._slot = slot
        self._payload_at = 0
        self.progress = self._measure() if record.started else 0  # bytes on flash

    def next_piece(self) -> tuple:
        """(offset, length) of the piece to ask for; length 0 when all is there."""
        return self.progress, min(MAX_CHUNK_BYTES, self._record.offer.size - self.progress)

    def begin(self, payload_at: int) -> None:
        """Empties the slot for an artifact whose payload begins at byte payload_at, and says so in the record."""
        self._places.vacate(self._slot)
        self._payload_at = payload_at
        self._record.started = 1
        self._record.store()

    def write(self, data: "bytes | memoryview") -> None:
        """Appends a piece."""
        n_head = max(0, min(len(data), self._payload_at - self.progress))
        if n_head:
            self._append(self._places.head_path(self._slot), data[:n_head])
        if n_head < len(data):
            self._append(self._payload_path(), data[n_head:])
        self.progress += len(data)

    def copy_head(self, source: "BinaryIO") -> None:
        """Writes the slot's head file from one that lies elsewhere."""
        with self._fs.open(self._places.head_path(self._slot), "wb") as f:
            while True:
                data = source.read(_PIECE_BYTES)
                if not data:
                    return
                f.write(data)

    def open_payload(self) -> "BinaryIO":
        """The slot's payload file, empty."""
        return self._fs.open(self._payload_path(), "wb")

    def _measure(self) -> int:
        try:
            self._payload_at = admission.payload_at(self._fs, self._places, self._slot)
        except (OSError, ArtifactError):
            return 0  # cut before the first piece was whole
        size = file_size(self._fs, self._places.head_path(self._slot))
        return size + file_size(self._fs, self._payload_path()) if size >= self._payload_at else size

    def _payload_path(self) -> str:
        return self._places.payload_path(self._slot, self._record.offer.format)

    def _append(self, path: str, data: "bytes | memoryview") -> None:
        with self._fs.open(path, "ab") as f:
            f.write(data)
