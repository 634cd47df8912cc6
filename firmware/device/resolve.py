"""Host name to IPv4 address with a deadline: socket.getaddrinfo has none, and waits 10 s and more on either port."""

import os
import select
import socket
import struct
import time

from micropython import const

from contract.wire import FAULT_NAME
from device.errors import LinkError

_RETRY_MS = const(700)  # UDP loses packets; ask again well within a typical 2 s deadline
_MAX_ANSWER = const(512)  # RFC 1035, 2.3.4
_TYPE_A = const(1)
_CLASS_IN = const(1)


def is_address(host: str) -> bool:
    """True for dotted decimal IPv4 such as 192.168.4.1."""
    parts = host.split(".")
    return len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts)


def resolve(host: str, server: tuple, until: int) -> str:
    """The IPv4 address of the name `host` in dotted decimal, asked of the DNS `server` (ip, port).

    Ends by `until` (ticks_ms). Raises LinkError(FAULT_NAME) with the cause.
    """
    if host == "localhost":
        return "127.0.0.1"
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        return _ask(sock, host, socket.getaddrinfo(server[0], server[1])[0][-1], until)
    except OSError as error:
        raise LinkError(FAULT_NAME, "%s: %s" % (host, error))
    finally:
        sock.close()


def _ask(sock: object, host: str, server: object, until: int) -> str:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    ident = os.urandom(2)
    question = _question(ident, host)
    while True:
        left_ms = time.ticks_diff(until, time.ticks_ms())
        if left_ms <= 0:
            raise LinkError(FAULT_NAME, host + ": no answer")
        sock.sendto(question, server)
        if poll.poll(min(left_ms, _RETRY_MS)):
            answer = sock.recv(_MAX_ANSWER)
            if answer[:2] == ident:
                return _first_address(answer, len(question), host)


def _question(ident: bytes, host: str) -> bytes:
    query = ident + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"  # recursion desired, one question
    for label in host.split("."):
        if not 0 < len(label) < 64:
            raise LinkError(FAULT_NAME, "not a host name: " + host)
        query += bytes((len(label),)) + label.encode()
    return query + b"\x00" + struct.pack(">HH", _TYPE_A, _CLASS_IN)


def _first_address(answer: bytes, at: int, host: str) -> str:
    """The first A record after the question, which ends at `at`; CNAMEs before it are stepped over."""
    try:
        _, flags, _, count = struct.unpack_from(">HHHH", answer)
        if flags & 0x0F:
            raise LinkError(FAULT_NAME, "%s: name server says %d" % (host, flags & 0x0F))
        for _ in range(count):
            while answer[at] and answer[at] < 0xC0:
                at += 1 + answer[at]
            at += 2 if answer[at] else 1
            kind, _, _, size = struct.unpack_from(">HHIH", answer, at)
            at += 10
            if kind == _TYPE_A and size == 4:
                return "%d.%d.%d.%d" % struct.unpack_from("BBBB", answer, at)
            at += size
    except (IndexError, ValueError):
        raise LinkError(FAULT_NAME, host + ": answer cut short")
    raise LinkError(FAULT_NAME, host + ": no address")
