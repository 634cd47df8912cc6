"""One stream's segments on flash, oldest first: where to append, what to remove."""

import device.outbox_segment as segment
from device.files import remove_if_there


class Chain:
    """The segments of the stream of one rank; segments hold (number, epoch), oldest first."""

    def __init__(self, fs: object, root: str, rank: int, reader: "segment.SegmentReader") -> None:
        self._fs = fs
        self._root = root + "/"
        self._rank = rank
        self._reader = reader
        self.segments = []
        self._next_number = 0
        self._tail_bytes = -1  # size of the newest segment; -1: not looked yet, 0: not to be appended to

    def found(self, number: int, epoch: int) -> None:
        """A segment exists; call in any order, then sort()."""
        self.segments.append((number, epoch))

    def sort(self) -> None:
        """Brings what was found into the order of writing."""
        self.segments.sort()
        if self.segments:
            self._next_number = self.segments[-1][0] + 1

    def room(self, epoch: int) -> int:
        """Bytes of records that can be appended for `epoch` without a new segment."""
        if not self.segments or self.segments[-1][1] != epoch:
            return 0
        if self._tail_bytes < 0:
            loaded = self._reader.load(self._rank, self.segments[-1][0], epoch) == segment.LOADED
            self._tail_bytes = self._reader.sound_bytes() if loaded else 0
        return segment.SEGMENT_BYTES - self._tail_bytes if self._tail_bytes else 0

    def append(self, records: list) -> None:
        """Appends packed records (memoryviews) to the newest segment in one write; the caller asked room().

        Raises OSError when flash refuses: none of them is stored then, and the next write begins a new segment.
        """
        number, epoch = self.segments[-1]
        self._write(number, epoch, "ab", records)

    def begin(self, epoch: int, records: list) -> None:
        """Like append(), to a new segment for `epoch`."""
        number = self._next_number
        self._next_number = number + 1
        self.segments.append((number, epoch))
        try:
            self._write(number, epoch, "wb", records)
        except OSError:
            self.remove((number, epoch))  # where that is refused too, it is found empty or torn and freed later
            raise

    def remove(self, entry: tuple) -> bool:
        """Removes a segment; False when flash refuses."""
        self._reader.forget()
        try:
            remove_if_there(self._fs, self._path(entry))
        except OSError:
            return False
        if entry == self.segments[-1]:
            self._tail_bytes = -1
        self.segments.remove(entry)
        return True

    def next_seq(self, epoch: int) -> int:
        """One past the newest sequence number held for `epoch`, 0 when none is."""
        top = 0
        for number, its_epoch in reversed(self.segments):
            if its_epoch == epoch and self._reader.load(self._rank, number, epoch) == segment.LOADED:
                at = segment.HEADER_BYTES
                while at := self._reader.step(at):
                    top = max(top, self._reader.end)
                if top:
                    break
        return top

    def _path(self, entry: tuple) -> str:
        return self._root + segment.file_name(self._rank, entry[0], entry[1])

    def _write(self, number: int, epoch: int, mode: str, records: list) -> None:
        head = segment.header(self._rank, number, epoch)
        key = segment.key_of(head)
        size = self._tail_bytes
        self._tail_bytes = 0  # should the write fail, what the file holds is not known
        self._reader.forget()
        with self._fs.open(self._path((number, epoch)), mode) as f:
            if mode == "wb":
                f.write(head)
                size = len(head)
            for record in records:
                segment.stamp(record, key)
                f.write(record)
                size += len(record)
            f.flush()
        self._tail_bytes = size
