"""Time, sockets and waiting for a firmware that runs in virtual time; the other end is tools/scenario/board.py.

Run under MicroPython. Modules of the firmware import `time`, `socket` and `select` by name; install() puts what is here
in their place. Nothing here waits: a poll that finds nothing moves the clock by what it was to wait, one that finds
something moves it to when that arrived. So a run depends neither on the speed of this machine nor on its load.

A message on the pipes, both ways: `<BqI`, one letter, a time in ms of the board's clock or another number, the length
of what follows. Up: A associate (answer: ms it took, negative for a failure), C connect (ms, -1 refused, -2 silence), X
bytes sent (answer: when the peer closes, -1 never, and segments, each `<qI` arrival and length), E connection over, M
RTC memory, then D this board has hung or S asleep, R ready. Down: W wakes it.
"""

import errno
import json
import select as real_select
import socket as real_socket
import struct
import sys
import time as real_time

HEAD = "<BqI"
_HEAD_BYTES = 13
_SEGMENT = "<qI"
_SEGMENT_BYTES = 12
_REFUSED = -1
_SILENT = -2
_FOREVER_MS = 120000  # what a socket without a timeout waits before the watchdog would bite


class Pipe:
    """Both pipes to the supervisor, by file descriptor."""

    def __init__(self, down: int, up: int) -> None:
        self._down = open(down, "rb")  # noqa: SIM115 - for as long as this process lives
        self._up = open(up, "wb")  # noqa: SIM115

    def tell(self, letter: bytes, number: int, body: bytes = b"") -> None:
        self._up.write(struct.pack(HEAD, letter[0], number, len(body)) + body)

    def hear(self) -> tuple:
        """(number, body) of the next message; ends this process when the supervisor is gone."""
        head = self._down.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            raise SystemExit(0)
        _, number, size = struct.unpack(HEAD, head)
        return number, self._down.read(size) if size else b""

    def ask(self, letter: bytes, number: int, body: bytes = b"") -> tuple:
        self.tell(letter, number, body)
        return self.hear()


class Time:
    """The module `time`: ms is the board's clock."""

    ms = 0

    def __getattr__(self, name: str) -> object:
        return getattr(real_time, name)

    def ticks_ms(self) -> int:
        return self.ms

    def ticks_us(self) -> int:
        return self.ms * 1000

    def sleep_ms(self, ms: int) -> None:
        self.ms += ms


class Socket:
    """A TCP socket to the one peer there is; blocking until setblocking(False)."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._blocking = True
        self._out = bytearray()
        self._arrivals = []  # (ms, bytes)
        self._closes = -1  # when the peer goes away
        self.connected_ms = -1  # when the connection is there, or is refused
        self.answer = _SILENT

    def setblocking(self, flag: bool) -> None:
        self._blocking = flag

    def settimeout(self, _seconds: float) -> None:
        pass

    def setsockopt(self, *_ignored: int) -> None:
        pass

    def connect(self, _address: tuple) -> None:
        world = self._world
        self.answer, body = world.pipe.ask(b"C", world.time.ms)
        self.connected_ms = world.time.ms + (self.answer if self.answer >= 0 else int(body or b"0"))
        if not self._blocking:
            raise OSError(errno.EINPROGRESS)
        world.time.ms = self.connected_ms if self.answer != _SILENT else world.time.ms + _FOREVER_MS
        if self.answer < 0:
            raise OSError(errno.ECONNREFUSED if self.answer == _REFUSED else errno.ETIMEDOUT)

    def write(self, data: bytes, size: int = -1) -> int:
        if isinstance(data, str):
            data = data.encode()
        elif size >= 0:
            data = memoryview(data)[:size]
        self._out.extend(data)
        return len(data)

    def readinto(self, buf: bytearray) -> object:
        """Bytes taken, 0 when the peer has gone, None when there are none yet."""
        self.flush()
        now = self._world.time.ms
        if self._arrivals and self._arrivals[0][0] <= now:
            at, data = self._arrivals.pop(0)
            size = min(len(buf), len(data))
            buf[:size] = data[:size]
            if size < len(data):
                self._arrivals.insert(0, (at, data[size:]))
            return size
        return 0 if 0 <= self._closes <= now else None

    def read(self, size: int) -> bytes:
        """`size` bytes, as a blocking socket gives them; raises OSError when they do not come."""
        buf = bytearray(size)
        view = memoryview(buf)
        done = 0
        while done < size:
            got = self.readinto(view[done:])
            if got == 0:
                raise OSError(errno.ECONNRESET)
            if got is None and not self.wait(_FOREVER_MS):
                raise OSError(errno.ETIMEDOUT)
            done += got or 0
        return bytes(buf)

    def close(self) -> None:
        self.flush()
        if self.connected_ms >= 0:
            self._world.pipe.tell(b"E", self._world.time.ms)
            self.connected_ms = -1

    def flush(self) -> None:
        """Hand what was written to the other side, and learn what comes back and when."""
        if not self._out:
            return
        self._closes, body = self._world.pipe.ask(b"X", self._world.time.ms, self._out)
        self._out = bytearray()
        at = 0
        while at < len(body):
            ms, size = struct.unpack_from(_SEGMENT, body, at)
            at += _SEGMENT_BYTES
            self._arrivals.append((ms, body[at : at + size]))
            at += size

    def wait(self, wait_ms: int) -> bool:
        """Pass the time until something can be read, for wait_ms at most; True when it can."""
        self.flush()
        clock = self._world.time
        due = [self._arrivals[0][0]] if self._arrivals else []
        if self._closes >= 0:
            due.append(self._closes)
        if due and min(due) <= clock.ms + wait_ms:
            clock.ms = max(clock.ms, min(due))
            return True
        clock.ms += wait_ms
        return False


class Poll:
    """select.poll() for one socket, which is all that the firmware ever waits for at once."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._socket = None
        self._events = 0

    def register(self, sock: Socket, events: int) -> None:
        self._socket = sock
        self._events = events

    modify = register

    def unregister(self, _sock: Socket) -> None:
        self._socket = None

    def poll(self, wait_ms: int) -> list:
        sock = self._socket
        clock = self._world.time
        if self._events & real_select.POLLIN:
            return [(sock, real_select.POLLIN)] if sock.wait(wait_ms) else []
        if sock.answer == _SILENT or sock.connected_ms > clock.ms + wait_ms:
            clock.ms += wait_ms
            return []
        clock.ms = max(clock.ms, sock.connected_ms)
        refused = sock.answer == _REFUSED
        return [(sock, real_select.POLLOUT | (real_select.POLLERR if refused else 0))]


class World:
    """All of it: `pipe`, `time`; what modules named socket and select look like."""

    AF_INET = real_socket.AF_INET
    SOCK_DGRAM = real_socket.SOCK_DGRAM
    POLLIN = real_select.POLLIN
    POLLOUT = real_select.POLLOUT
    POLLERR = real_select.POLLERR
    POLLHUP = real_select.POLLHUP

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.time = Time()

    def socket(self, *_kind: int) -> Socket:
        return Socket(self)

    def getaddrinfo(self, host: str, port: int) -> list:
        return [(2, 1, 0, "", (host, port))]

    def poll(self) -> Poll:
        return Poll(self)

    def install(self) -> None:
        """Be the modules that the firmware is about to import."""
        sys.modules["time"] = self.time
        for name in ("socket", "usocket", "select"):
            sys.modules[name] = self

    def hear_order(self) -> dict:
        """The next wake: what the supervisor says of it."""
        return json.loads(self.pipe.hear()[1])
