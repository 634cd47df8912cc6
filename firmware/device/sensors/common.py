"""What several drivers need: counts from raw values, registers over I2C, a window taken while the board is awake."""

import time

from contract.sensing import UNITS
from device.errors import SensorError


class Scale:
    """Turns raw values into counts. lsb: a raw step is numerator / denominator base units (contract/sensing.py)."""

    def __init__(self, features: object, numerator: int, denominator: int) -> None:
        self._factors = []
        for channel in features.channels:
            _, unit_num, unit_den = UNITS[channel.unit]
            num = numerator * unit_den * channel.scale_num
            den = denominator * unit_num * channel.scale_den
            common = _gcd(num, den)
            self._factors.append((num // common, den // common))

    def apply(self, window: object) -> None:
        """array('i') (n, channels), raw, to counts in place, rounded to the nearest."""
        channels = len(self._factors)
        for at in range(len(window)):
            num, den = self._factors[at % channels]
            window[at] = (2 * window[at] * num + den) // (2 * den)


class Registers:
    """The registers of one chip on an I2C bus. Raises SensorError when it does not answer."""

    def __init__(self, name: str, i2c: object, address: int) -> None:
        self._name = name
        self._i2c = i2c
        self._address = address
        self._one = bytearray(1)

    def read(self, register: int) -> int:
        self.read_into(register, self._one)
        return self._one[0]

    def read_into(self, register: int, buf: bytearray) -> None:
        try:
            self._i2c.readfrom_mem_into(self._address, register, buf)
        except OSError as error:
            raise silent(self._name, self._address, error)

    def write(self, register: int, value: int) -> None:
        self._one[0] = value
        try:
            self._i2c.writeto_mem(self._address, register, self._one)
        except OSError as error:
            raise silent(self._name, self._address, error)

    def settle(self, wanted: tuple) -> bool:
        """Write the (register, value) pairs unless all are there already; True when something was written."""
        if all(self.read(register) == value for register, value in wanted):
            return False
        for register, value in wanted:
            self.write(register, value)
        return True


def silent(name: str, address: int, error: OSError) -> SensorError:
    """What to raise for a chip that did not acknowledge."""
    return SensorError("%s at 0x%02x does not answer (%s); check its wiring and address" % (name, address, error))


def burst(window: object, channels: int, spacing_ms: int, sample: object) -> int:
    """Fill `window` with samples spacing_ms apart; sample(window, at) puts one there. Returns its rows."""
    rows = len(window) // channels
    due = time.ticks_ms()
    for row in range(rows):
        left_ms = time.ticks_diff(due, time.ticks_ms())
        if left_ms > 0:
            time.sleep_ms(left_ms)
        sample(window, row * channels)
        due = time.ticks_add(due, spacing_ms)
    return rows


def fill(name: str, window: object, channels: int, interval_ms: int, held: object, pop: object) -> int:
    """Fill `window` with the newest samples of a chip's FIFO, waiting for those it lacks. Returns its rows.

    held(): samples in the FIFO; pop(window, at) takes the oldest. Raises SensorError when they do not come.
    """
    rows = len(window) // channels
    have = held()
    while have > rows:
        pop(window, 0)
        have -= 1
    end = time.ticks_add(time.ticks_ms(), (rows - have + 3) * interval_ms + 100)
    row = 0
    while True:
        while have and row < rows:
            pop(window, row * channels)
            row += 1
            have -= 1
        if row == rows:
            return rows
        if time.ticks_diff(end, time.ticks_ms()) < 0:
            raise SensorError("%s: %d of %d samples came; is its rate as configured?" % (name, row, rows))
        time.sleep_ms(interval_ms)
        have = held()


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a
