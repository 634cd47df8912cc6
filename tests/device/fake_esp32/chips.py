"""Sensors on the bus, as their datasheets have them: registers, FIFOs that run over, answers that are not ready.

Each measures `signal(n)` as its n-th sample, at its own rate, by machine.now_ms(). Registers they do not have read 0.
"""

import struct

from machine import now_ms

LIS3DH_RATES = {1: 1, 2: 10, 3: 25, 4: 50, 5: 100, 6: 200}
LIS3DH_STEP_MG = {0: 1, 1: 2, 2: 4, 3: 12}
LIS3DH_THRESHOLD_MG = {0: 16, 1: 32, 2: 62, 3: 186}
DS18B20_MS = {0: 94, 1: 188, 2: 375, 3: 750}


class Lis3dh:
    """signal(n) -> (x, y, z) in mg. DocID17530 Rev 2."""

    DEPTH = 32

    def __init__(self, signal):
        self.signal = signal
        self.registers = {0x0F: 0x33, 0x20: 0x07}
        self.fifo = []
        self.overrun = False
        self.interrupt = False
        self.reference = (0, 0, 0)
        self.taken = 0
        self.now = (0, 0, 0)
        self.began_ms = now_ms()
        self.writes = 0

    def write(self, register, value):
        self.catch_up()
        self.registers[register] = value
        self.writes += 1
        if register == 0x20:
            self.began_ms = now_ms()
            self.taken = 0
        if register == 0x2E and value >> 6 == 0:
            self.fifo = []
            self.overrun = False

    def read(self, register, offset):
        self.catch_up()
        moves_on = register & 0x80
        register = (register & 0x7F) + (offset if moves_on else 0)
        if register == 0x2F:
            full = len(self.fifo) == self.DEPTH and self.overrun
            return 0x40 * full | 0x20 * (not self.fifo) | min(len(self.fifo), 31)
        if register == 0x31:
            source = 0x40 if self.interrupt else 0
            self.interrupt = False
            return source
        if register == 0x26:
            self.reference = self.now
            return 0
        if 0x28 <= register <= 0x2D:
            if register == 0x28:
                self.out = self.fifo.pop(0) if self.fifo else struct.pack("<hhh", *self.raw(self.now, 4))
                self.overrun = self.overrun and len(self.fifo) == self.DEPTH
            return self.out[register - 0x28]
        return self.registers.get(register, 0)

    def catch_up(self):
        rate = LIS3DH_RATES.get(self.registers[0x20] >> 4)
        if not rate:
            return
        due = (now_ms() - self.began_ms) * rate // 1000
        self.taken = max(self.taken, due - 200)  # nobody can see what was overwritten long ago
        while self.taken < due:
            self.sample(self.signal(self.taken))
            self.taken += 1

    def sample(self, mg):
        self.now = mg
        scale = self.registers.get(0x23, 0) >> 4 & 3
        if self.registers.get(0x24, 0) & 0x40 and self.registers.get(0x2E, 0) >> 6 == 2:
            if len(self.fifo) == self.DEPTH:
                self.fifo.pop(0)
                self.overrun = True
            self.fifo.append(struct.pack("<hhh", *self.raw(mg, LIS3DH_STEP_MG[scale])))
            if len(self.fifo) == self.DEPTH:
                self.overrun = True
        moved = [mg[axis] - self.reference[axis] for axis in range(3)]
        limit = self.registers.get(0x32, 0) * LIS3DH_THRESHOLD_MG[scale]
        wanted = self.registers.get(0x30, 0) & 0x2A and self.registers.get(0x22, 0) & 0x40
        if wanted and max(abs(value) for value in moved) > limit:
            self.interrupt = True  # latched, LIR_INT1

    def raw(self, mg, step):
        """12 bits left in 16, of which the FIFO keeps 10."""
        return [max(-32768, min(32767, (value // step) << 4)) & ~0x3F for value in mg]


class Mpu6050:
    """signal(n) -> (x, y, z) in mg. RM-MPU-6000A-00 Rev 4.2; asleep after power-on."""

    BYTES = 1024

    def __init__(self, signal):
        self.signal = signal
        self.registers = {0x75: 0x68, 0x6B: 0x40}
        self.fifo = bytearray()
        self.overflown = False
        self.interrupt = False
        self.taken = 0
        self.before = None
        self.began_ms = now_ms()
        self.writes = 0

    def write(self, register, value):
        self.catch_up()
        self.writes += 1
        if register == 0x6A and value & 4:
            if value & 0x40:
                raise ValueError("FIFO_RESET only works with FIFO_EN 0")
            self.fifo = bytearray()
            self.overflown = False
            value &= ~4
        if self.registers.get(0x6B) & 0x40 and register not in (0x6B, 0x75):
            return  # asleep: nothing but power management is written
        self.registers[register] = value
        if register in (0x19, 0x6B):
            self.began_ms = now_ms()
            self.taken = 0

    def read(self, register, offset):
        self.catch_up()
        if register == 0x74:
            if not self.fifo:
                return 0xFF
            oldest = self.fifo[0]
            self.fifo = self.fifo[1:]
            return oldest
        register += offset
        if register == 0x72:
            return len(self.fifo) >> 8
        if register == 0x73:
            return len(self.fifo) & 0xFF
        if register == 0x3A:
            status = 0x40 * self.interrupt | 0x10 * self.overflown
            self.interrupt = self.overflown = False
            return status
        return self.registers.get(register, 0)

    def catch_up(self):
        if self.registers[0x6B] & 0x40:
            return
        due = (now_ms() - self.began_ms) // (1 + self.registers.get(0x19, 0))
        self.taken = max(self.taken, due - 400)
        while self.taken < due:
            self.sample(self.signal(self.taken))
            self.taken += 1

    def sample(self, mg):
        full_scale = 2000 << (self.registers.get(0x1C, 0) >> 3 & 3)
        if self.registers.get(0x23, 0) & 8 and self.registers.get(0x6A, 0) & 0x40:
            raw = [max(-32768, min(32767, value * 32768 // full_scale)) for value in mg]
            self.fifo += bytearray(struct.pack(">hhh", *raw))
            if len(self.fifo) > self.BYTES:
                self.fifo = self.fifo[len(self.fifo) - self.BYTES :]  # the oldest bytes go, not the oldest sample
                self.overflown = True
        moved = max(abs(now - then) for now, then in zip(mg, self.before or mg))
        if self.registers.get(0x38, 0) & 0x40 and moved > 2 * self.registers.get(0x1F, 0):
            self.interrupt = True
        self.before = mg


class Sht31:
    """signal(n) -> (raw temperature, raw humidity), 16 bits each. SHT3x-DIS version 6."""

    CONVERSION_MS = 15

    def __init__(self, signal):
        self.signal = signal
        self.measured = 0
        self.ready_ms = None
        self.flip = []  # of answers to come, which byte arrives wrong; None: none

    def command(self, data):
        if data == b"\x24\x00":
            self.ready_ms = now_ms() + self.CONVERSION_MS

    def answer(self):
        if self.ready_ms is None or now_ms() < self.ready_ms:
            return None  # no acknowledge while it measures
        self.ready_ms = None
        answer = bytearray()
        for word in self.signal(self.measured):
            pair = bytes([word >> 8, word & 0xFF])
            answer += pair + bytes([self.crc(pair)])
        self.measured += 1
        wrong = self.flip.pop(0) if self.flip else None
        if wrong is not None:
            answer[wrong] ^= 0x10
        return answer

    def crc(self, pair):
        """As the driver's, written another way: long division of the inverted first byte and the second by 0x131."""
        remainder = (pair[0] << 8 | pair[1]) << 8 ^ 0xFF0000
        for bit in range(23, 7, -1):
            if remainder >> bit & 1:
                remainder ^= 0x131 << bit - 8
        return remainder


class Ds18b20:
    """signal(n) -> sixteenths of a degree. 19-7487 Rev 6; 85 degrees until the first conversion."""

    def __init__(self, signal, parasite=False):
        self.signal = signal
        self.measured = 0
        self.config = 0x7F
        self.temperature = 0x0550
        self.done_ms = None
        self.parasite = parasite
        self.flip = []  # of scratchpads to come, which byte arrives wrong
        self.quick = 10  # conversions here take a tenth of the time

    def begin(self):
        self.bytes = []
        self.out = []

    def take(self, value):
        self.bytes.append(value)
        if self.bytes[0] != 0xCC or len(self.bytes) < 2:
            return
        if self.bytes[1] == 0x44 and len(self.bytes) == 2:
            self.done_ms = now_ms() + DS18B20_MS[self.config >> 5 & 3] // self.quick
        elif self.bytes[1] == 0x4E and len(self.bytes) == 5:
            self.config = self.bytes[4] & 0x7F | 0x1F
        elif self.bytes[1] == 0xBE:
            self.out = self.scratchpad()

    def bit(self):
        if self.parasite or (self.done_ms is not None and now_ms() < self.done_ms):
            return 0
        if self.done_ms is not None:
            self.done_ms = None
            self.temperature = self.signal(self.measured) & 0xFFFF | (1 << 3 - (self.config >> 5 & 3)) - 1  # undefined
            self.measured += 1
        return 1

    def give(self):
        return self.out.pop(0) if self.out else 0xFF

    def scratchpad(self):
        low, high = self.temperature & 0xFF, self.temperature >> 8
        data = [low, high, 0x4B, 0x46, self.config, 0xFF, 0x0C, 0x10]
        crc = 0
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
        data.append(crc)
        wrong = self.flip.pop(0) if self.flip else None
        if wrong is not None:
            data[wrong] ^= 0x04
        return data
