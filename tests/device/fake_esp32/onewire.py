"""MicroPython's frozen `onewire`, over the one chip in machine.chip["onewire"] (chips.Ds18b20)."""

from machine import chip


class OneWire:
    def __init__(self, pin):
        self.pin = pin

    def reset(self, required=False):
        device = chip["onewire"]
        if device is None:
            return False
        device.begin()
        return True

    def writebyte(self, value):
        chip["onewire"].take(value)

    def readbit(self):
        return chip["onewire"].bit()

    def readinto(self, buf):
        for at in range(len(buf)):
            buf[at] = chip["onewire"].give()

    def crc8(self, data):
        """Dallas/Maxim: polynomial x^8 + x^5 + x^4 + 1, from the least significant bit; 0 over data with its CRC."""
        crc = 0
        for byte in data:
            for _ in range(8):
                mixed = (crc ^ byte) & 1
                crc >>= 1
                if mixed:
                    crc ^= 0x8C
                byte >>= 1
        return crc
