"""The ESP32's ULP coprocessor (FSM), as far as Espressif documents it: runs the machine code of firmware/ulp.

Instruction formats: ESP32 Technical Reference Manual, chapter "ULP Coprocessor"; meaning of instructions and flags:
ESP-IDF Programming Guide, "ESP32 ULP Coprocessor Instruction Set". A store puts the program counter into bits 31:21,
the address register into 17:16. Only additions and subtractions set the overflow flag (carry or borrow), every
operation of the ALU the zero flag. Whoever meets an instruction that is not here gets BadInstruction.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

MEMORY_WORDS = 2048
MAGIC = b"ulp\0"
_STEPS = 10_000  # a program that runs on for so long does not end

ADD, SUB, AND, OR, MOVE, LSH, RSH = range(7)


class BadInstruction(Exception):
    """A word that is no instruction of this coprocessor, or one that this interpreter does not have."""


class NoHalt(Exception):
    """The program did not come to a HALT."""


def load(binary: bytes) -> list[int]:
    """RTC slow memory after ulp_load_binary(0, ...): text and data as they are, zeros for the rest."""
    magic, text_at, text, data, bss = struct.unpack_from("<4sHHHH", binary)
    assert magic == MAGIC
    assert text_at + text + data == len(binary)
    words = list(struct.unpack_from(f"<{(text + data) // 4}I", binary, text_at))
    assert len(words) + bss // 4 <= MEMORY_WORDS
    return words + [0] * (MEMORY_WORDS - len(words))


@dataclass
class Ulp:
    """One coprocessor; `adc(unit, pad)` converts, `registers` are what READ_RTC_REG sees, by (peripheral, word)."""

    memory: list[int]
    adc: Callable[[int, int], int]
    registers: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    wakes: int = 0
    steps: int = 0

    def run(self, entry: int = 0) -> int:
        """From the timer's start to HALT; returns the instructions that took. Raises BadInstruction, NoHalt."""
        self._r = [0xAAAA] * 4  # a program must not count on what the registers hold
        self._stage = 0xAA
        self._zero = self._overflow = False
        pc: int | None = entry
        for step in range(_STEPS):
            if pc is None:
                self.steps += step
                return step
            pc = self._step(pc, self.memory[pc])
        raise NoHalt

    def _step(self, pc: int, word: int) -> int | None:
        """Execute one instruction; the next program counter, None at HALT."""
        opcode = word >> 28
        if opcode == 7:
            self._alu(word)
        elif opcode == 8:
            return self._branch(pc, word)
        elif opcode == 6 and word >> 25 & 7 == 4:
            address = self._r[word >> 2 & 3] + (word >> 10 & 0x7FF)
            self.memory[address & 0x7FF] = pc << 21 | (word >> 2 & 3) << 16 | self._r[word & 3]
        elif opcode == 13:
            self._r[word & 3] = self.memory[self._r[word >> 2 & 3] + (word >> 10 & 0x7FF) & 0x7FF] & 0xFFFF
        elif opcode == 5:
            self._r[word & 3] = self.adc(word >> 6 & 1, word >> 2 & 0xF) & 0xFFFF
        elif opcode == 2:
            low, high = word >> 18 & 31, word >> 23 & 31
            value = self.registers.get((word >> 8 & 3, word & 0xFF), 0)
            self._r[0] = value >> low & (1 << high - low + 1) - 1 & 0xFFFF
        elif opcode == 9 and word >> 25 & 7 == 0 and word & 1:
            self.wakes += 1
        elif opcode == 11:
            return None
        elif opcode != 4:  # NOP and WAIT do nothing here
            raise BadInstruction(f"{word:#010x} at {pc}")
        return pc + 1

    def _alu(self, word: int) -> None:
        kind, operation = word >> 25 & 7, word >> 21 & 0xF
        if kind == 2:
            amount = word >> 4 & 0xFF
            if operation > 2:
                raise BadInstruction(f"{word:#010x}")
            self._stage = (0 if operation == 2 else self._stage + (amount if operation == 0 else -amount)) & 0xFF
            return
        if kind > 1 or operation > RSH:
            raise BadInstruction(f"{word:#010x}")
        a = self._r[word >> 2 & 3]
        b = word >> 4 & 0xFFFF if kind == 1 else self._r[word >> 4 & 3]
        if operation == MOVE:
            # From a register, the source is where other operations have their first operand.
            wide = b if kind == 1 else a
        else:
            wide = (a + b, a - b, a & b, a | b, 0, a << (b & 0xF), a >> (b & 0xF))[operation]
        if operation in (ADD, SUB):
            self._overflow = not 0 <= wide <= 0xFFFF
        self._r[word & 3] = wide & 0xFFFF
        self._zero = wide & 0xFFFF == 0

    def _branch(self, pc: int, word: int) -> int:
        kind = word >> 25 & 7
        if kind == 0:
            condition = word >> 22 & 7
            target = self._r[word & 3] if word >> 21 & 1 else word >> 2 & 0x7FF
            taken = (True, self._zero, self._overflow)[condition]
            return target if taken else pc + 1
        offset = word >> 17 & 0x7F
        target = pc - offset if word >> 24 & 1 else pc + offset
        if kind == 1:
            limit = word & 0xFFFF
            taken = self._r[0] >= limit if word >> 16 & 1 else self._r[0] < limit
        elif kind == 2:
            limit = word & 0xFF
            taken = (self._stage < limit, self._stage >= limit, self._stage <= limit)[word >> 15 & 3]
        else:
            raise BadInstruction(f"{word:#010x} at {pc}")
        return target if taken else pc + 1
