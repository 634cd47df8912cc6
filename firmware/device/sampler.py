"""One window of samples per wake, with the time of each."""

from array import array


class Sampler:
    """Reads windows from `sensor` for the schema that `features` (contract.features.Features) stands for.

    `window` is array('i') (rows, channels) row-major, counts; `times_ms` a list of `rows` times since the epoch began.
    The last `fresh` rows were never read before: a wake that comes early scores rows that are recorded already.
    """

    def __init__(self, sensor: object, features: object) -> None:
        self._sensor = sensor
        self.rows = features.window
        self.channels = features.n_channels
        self.window = array("i", [0] * (self.rows * self.channels))
        self.times_ms = [0] * self.rows
        self._row = [0] * self.channels
        self.fresh = 0

    def take(self, first: int, elapsed_ms: "int | None", woke_ms: int, now_ms: object) -> None:
        """Read a window that ends now. Raises SensorError.

        first: number of the first sample that was never read. elapsed_ms: since the newest one that was, None: there
        is none. woke_ms: when the wake began; now_ms(): what the clock says; both since the epoch began.
        """
        sensor = self._sensor
        self.fresh = sensor.take_into(first, elapsed_ms, self.window)
        last_ms = woke_ms if sensor.ends_at_wake else now_ms()
        for index in range(self.rows):
            self.times_ms[index] = last_ms - (self.rows - 1 - index) * sensor.interval_ms

    def mean_row(self) -> list:
        """The mean of each channel over the window, in counts rounded down, in a list that the next call overwrites."""
        for channel in range(self.channels):
            total = 0
            for at in range(channel, len(self.window), self.channels):
                total += self.window[at]
            self._row[channel] = total // self.rows
        return self._row

    def row(self, index: int) -> list:
        """The counts of sample `index` of the window, in a list that the next call overwrites."""
        at = index * self.channels
        for channel in range(self.channels):
            self._row[channel] = self.window[at + channel]
        return self._row
