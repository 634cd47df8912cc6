"""TLS to the broker, on a board that may not know the time.

MicroPython's ESP32 port judges certificates by the RTC, which stands at the year 2000 after power-on, when no
certificate of today was valid yet. The firmware needs no date and counts from the RTC, so a date is put there for the
length of a session only (Board.set_date). It is the cloud's, as of the last contact. A board that has had none asks for
the broker's certificate first, with a ClientHello that goes no further, and takes the day it was issued: signature and
name are then checked as always, but an end that has passed is not noticed in that session. That takes one round trip
more and no time server, which a plant may not have.
"""

import os
import struct
import time

import tls  # the module behind `ssl`; here: a broker on the same premises may have none
from micropython import const

from contract.wire import FAULT_CONNECT
from device.errors import LinkError

_EPOCH_S = 946684800 if time.gmtime(0)[0] == 2000 else 0  # Unix time at which this port's time begins
_UTC_TIME = b"\x17\x0d"  # tag and length of a date up to 2049 (RFC 5280, 4.1.2.5); the first one is notBefore
_PIECE_BYTES = const(64)  # fewer than what follows a date in the flight of a server
_MOST_BYTES = const(2048)
# TLS 1.2 (RFC 5246, 7.4.1.2), whose Certificate is not encrypted: version, then random and session id, cipher suites,
# compression, and extensions: groups, point formats, signature algorithms (RFC 8422, 5.1; RFC 5246, 7.4.1.4.1)
_SUITES = b"\x00\x00\x14\xc0\x2b\xc0\x2f\xc0\x2c\xc0\x30\xcc\xa9\xcc\xa8\x00\x9c\x00\x9d\x00\x2f\x00\x35\x01\x00"
_EXTENSIONS = (
    b"\x00\x0a\x00\x08\x00\x06\x00\x17\x00\x18\x00\x1d\x00\x0b\x00\x02\x01\x00"
    b"\x00\x0d\x00\x12\x00\x10\x04\x03\x05\x03\x06\x03\x04\x01\x05\x01\x06\x01\x08\x04\x08\x05"
)


class Tls:
    """Takes a broker only with a certificate for its "host" that its "ca", a file on flash in DER, has signed.

    broker: of config.json; now_s: Unix time, 0: not known. Raises OSError when there is no such file, ValueError for
    one that is no certificate.
    """

    def __init__(self, files: object, board: object, broker: dict, now_s: int) -> None:
        self._context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        self._context.verify_mode = tls.CERT_REQUIRED
        with files.open(board.root + "/" + broker["ca"], "rb") as file:
            ca = file.read()
        self._context.load_verify_locations(ca)
        self._ca_issued = issued(ca) or ()
        self._board = board
        self._host = broker["host"]
        self._now_s = now_s

    def open(self, stream: object, address: tuple) -> None:
        """Connect `stream`, whose `until` bounds it, to a getaddrinfo address. Raises LinkError."""
        if self._now_s:
            date = time.gmtime(self._now_s - _EPOCH_S)[:6]
        else:
            stream.open(address)
            date = max(_issued_of(stream, self._host), self._ca_issued)  # the CA may have been renewed since
            stream.abort()
        self._board.set_date(date)
        stream.open(address, self._context, self._host)


def issued(data: bytes) -> "tuple | None":
    """(year, month, day, hour, minute, second), UTC, from which the first certificate in data, DER, is valid.

    None: there is no such date.
    """
    at = data.find(_UTC_TIME)
    while at >= 0:
        text = data[at + 2 : at + 15]
        if len(text) == 13 and text[12:] == b"Z" and text[:12].isdigit():
            fields = [int(text[digit : digit + 2]) for digit in range(0, 12, 2)]
            fields[0] += 2000 if fields[0] < 50 else 1900
            return tuple(fields)
        at = data.find(_UTC_TIME, at + 1)
    return None


def _issued_of(stream: object, host: str) -> tuple:
    name = host.encode()
    size = len(name)
    extensions = struct.pack(">HHHBH", 0, size + 5, size + 3, 0, size) + name + _EXTENSIONS
    body = b"\x03\x03" + os.urandom(32) + _SUITES + struct.pack(">H", len(extensions)) + extensions
    stream.write(struct.pack(">BHHBBH", 22, 0x0301, len(body) + 4, 1, 0, len(body)) + body)
    seen = b""
    while len(seen) < _MOST_BYTES:
        seen += stream.read(_PIECE_BYTES)
        date = issued(seen)
        if date:
            return date
    raise LinkError(FAULT_CONNECT, "TLS: no certificate of the broker")
