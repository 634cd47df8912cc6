"""A sensor that plays a recording: what simulated boards measure, and a board on a desk without a machine.

It stands for a sensor that fills its own FIFO while the board sleeps: the rows are there at wake, in order, none
twice. Row n of the recording is the board's n-th sample whenever it is read, so a run can be repeated exactly.

File, little-endian: magic "EWS1", u16 length of the channel text, u16 channels, u32 rows, u32 interval_ms, the
channel text (what the feature schema has after `c=`), then rows x channels int32 counts.
"""

import struct

from device.errors import ConfigError, SensorError

HEADER = "<4sHHII"
HEADER_BYTES = 16
MAGIC = b"EWS1"
_MAX_CHANNEL_TEXT = 512


class ReplaySensor:
    """Plays the recording at `path`, from the start again when it ends.

    interval_ms: between two samples; rows: in the recording. Raises SensorError, and ConfigError when its channels are
    not those of `features`.
    """

    ends_at_wake = True

    def __init__(self, files: object, path: str, features: object) -> None:
        self._path = path
        try:
            self._file = files.open(path, "rb")
            head = self._file.read(HEADER_BYTES)
            magic, text_bytes, self._columns, self.rows, self.interval_ms = struct.unpack(HEADER, head)
            text = self._file.read(text_bytes) if text_bytes <= _MAX_CHANNEL_TEXT else b""
        except (OSError, ValueError) as error:
            raise SensorError("%s: %s" % (path, error))
        if magic != MAGIC or not text or not self._columns or not self.rows:
            raise SensorError(path + ": not a recording")
        wanted = next(part[2:] for part in features.text.split(";") if part.startswith("c="))
        if text.decode() != wanted:
            raise ConfigError("the sensor gives %s, the schema wants %s" % (text.decode(), wanted))
        self._start = HEADER_BYTES + text_bytes

    def take_into(self, first: int, elapsed_ms: "int | None", window: object) -> int:
        """See device/sensors/__init__.py. The recording goes on with the board's clock."""
        size = 4 * self._columns
        view = memoryview(window)
        rows = len(view) // self._columns
        fresh = rows
        if elapsed_ms is not None:
            fresh = max(0, min(rows, (elapsed_ms + self.interval_ms // 2) // self.interval_ms))
        number = max(0, first - (rows - fresh))
        done = 0
        try:
            while done < len(view):
                row = number % self.rows
                count = min((len(view) - done) // self._columns, self.rows - row)
                part = view[done : done + count * self._columns]
                self._file.seek(self._start + row * size)
                if self._file.readinto(part) != count * size:
                    raise SensorError(self._path + ": shorter than its header says")
                number += count
                done += count * self._columns
        except OSError as error:
            raise SensorError("%s: %s" % (self._path, error))
        return fresh
