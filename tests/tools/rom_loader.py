"""What esptool finds at the end of a serial line: a chip in download mode, whose flash is a bytearray.

It answers as Espressif's flasher stub already running in RAM does (esptool-docs, "Serial Protocol"), so that esptool
uploads no code of its own; what it does not need for detecting a chip and writing an image is refused.
"""

import hashlib
import socket
import struct
import threading
import zlib

FLASH_BYTES = 4 << 20
JEDEC_ID = 0x1640EF  # a 4 MB part
# Chip: (chip id it reports or None, magic at 0x40001000, base of the SPI registers, offset of its data register)
CHIPS = {
    "ESP32": (None, 0x00F01D83, 0x3FF42000, 0x80),
    "ESP32-C3": (5, 0x1B31506F, 0x60002000, 0x58),
}
MAGIC_REGISTER = 0x40001000
SPI_USER_COMMAND = 1 << 18
REFUSED = b"\x01\x05"
DONE = b"\x00\x00"


class RomLoader:
    """A TCP server; `port` is the URL for esptool. Use as a context manager."""

    def __init__(self, chip: str) -> None:
        self.chip_id, magic, self.spi_at, self.spi_data_at = CHIPS[chip]
        self.flash = bytearray(b"\xff" * FLASH_BYTES)
        self.erased = False
        self._registers = {MAGIC_REGISTER: magic}
        self._inflate = zlib.decompressobj()
        self._write_at = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "RomLoader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:  # closed by __exit__
                return
            with line:
                self._talk(line)

    def _talk(self, line: socket.socket) -> None:
        received = b""
        while data := line.recv(65536):
            received += data
            # SLIP: frames begin and end with 0xC0
            *frames, received = received.split(b"\xc0")
            for frame in frames:
                if frame:
                    request = frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
                    line.sendall(b"".join(self._answers(request)))

    def _answers(self, request: bytes) -> list[bytes]:
        _, code, size, _ = struct.unpack_from("<BBHI", request)
        value, data = self._command(code, request[8 : 8 + size])
        answer = struct.pack("<BBHI", 1, code, len(data), value) + data
        slip = b"\xc0" + answer.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"
        return [slip] * (8 if code == 0x08 else 1)  # SYNC is answered eight times

    def _command(self, code: int, data: bytes) -> tuple[int, bytes]:
        """The value and the data of the answer to a command."""
        match code:
            case 0x08 | 0x0B | 0x0D | 0x0F | 0x12:  # SYNC, SPI_SET_PARAMS, SPI_ATTACH, CHANGE_BAUDRATE, FLASH_DEFL_END
                return 0, DONE
            case 0x09:  # WRITE_REG
                self._write_register(*struct.unpack_from("<II", data))
                return 0, DONE
            case 0x0A:  # READ_REG
                return self._registers.get(*struct.unpack("<I", data), 0), DONE
            case 0x10:  # FLASH_DEFL_BEGIN
                self._write_at = struct.unpack_from("<IIII", data)[3]
                self._inflate = zlib.decompressobj()
                return 0, DONE
            case 0x11:  # FLASH_DEFL_DATA
                plain = self._inflate.decompress(data[16:])
                self.flash[self._write_at : self._write_at + len(plain)] = plain
                self._write_at += len(plain)
                return 0, DONE
            case 0x13:  # SPI_FLASH_MD5
                at, size = struct.unpack_from("<II", data)
                return 0, hashlib.md5(self.flash[at : at + size]).digest() + DONE
            case 0x14 if self.chip_id is not None:  # GET_SECURITY_INFO
                return 0, struct.pack("<IB7sII", 0, 0, bytes(7), self.chip_id, 0) + DONE
            case 0xD0:  # ERASE_FLASH
                self.erased = True
                return 0, DONE
            case _:
                return 0, REFUSED

    def _write_register(self, register: int, value: int) -> None:
        if register == self.spi_at and value == SPI_USER_COMMAND:
            self._registers[self.spi_at + self.spi_data_at] = JEDEC_ID
        else:
            self._registers[register] = value
