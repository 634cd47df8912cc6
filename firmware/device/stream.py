"""A TCP connection on which every wait ends, and small writes leave together.

It has the methods that umqtt.simple calls on a socket (`write`, `read`, `setblocking`, `close`), so that client runs
on it unchanged, without the two faults a plain socket gives it: a wait with no end, and a packet per write.
"""

import errno
import select
import socket
import time

from micropython import const

from contract.wire import FAULT_CLOSED, FAULT_CONNECT, FAULT_TIMEOUT
from device.errors import LinkError

_IPPROTO_TCP = const(6)  # neither port names these two
_TCP_NODELAY = const(1)
_TX_BYTES = const(1400)  # one TCP segment on Wi-Fi; a whole session of a few frames leaves as one
_RX_BYTES = const(512)
_TLS = "TLS: %s"  # MicroPython raises ValueError for a certificate it refuses


class Stream:
    """One connection; `until` (ticks_ms) bounds every wait and must be set before each operation.

    Counts for the ledger: `tx_bytes`, `rx_bytes` (above TCP), and `turns`, how often we sent something and then had
    to wait for an answer, which is the number of round trips the session cost. `heard`: the other end has answered,
    be it by a refusal.
    """

    def __init__(self) -> None:
        self.until = 0
        self.tx_bytes = 0
        self.rx_bytes = 0
        self.turns = 0
        self.heard = False
        self.last_tx_ms = 0
        self._sock = None
        self._poll = select.poll()
        self._tx = bytearray(_TX_BYTES)
        self._tx_used = 0
        self._rx = bytearray(_RX_BYTES)
        self._rx_at = 0
        self._rx_end = 0
        self._asked = False

    def open(self, address: tuple, tls: object = None, name: str = "") -> None:
        """Connect to a getaddrinfo address, with TLS when an ssl.SSLContext is given; raises LinkError."""
        sock = socket.socket()
        self._sock = sock
        # Non-blocking from the first call: a blocking connect to a silent host waits minutes on either port.
        sock.setblocking(False)
        try:
            sock.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
            try:
                sock.connect(address)
            except OSError as error:
                if error.errno != errno.EINPROGRESS:
                    raise
            self._poll.register(sock, select.POLLOUT)
            # A refusal makes the socket writable, too, and on an ESP32 HUP is told to who asks for it only.
            ready = self._wait(select.POLLOUT | select.POLLHUP)
            self.heard = True
            if ready & (select.POLLERR | select.POLLHUP):
                raise LinkError(FAULT_CONNECT, "refused")
            if tls is not None:
                self._poll.unregister(sock)
                # The handshake runs inside the first writes and reads, under their deadline.
                self._sock = tls.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
                self._poll.register(self._sock, select.POLLOUT)
        except OSError as error:
            self.abort()
            raise LinkError(FAULT_CONNECT, str(error))
        except LinkError as error:
            self.abort()
            raise LinkError(FAULT_CONNECT, error.detail)

    def setblocking(self, _flag: bool) -> None:
        """Nothing to do: the socket never blocks, `until` says how long a call may wait."""

    def write(self, data: bytes, size: int = -1) -> None:
        """Take the first `size` bytes of data (all when negative); they leave at the next flush, read or overflow."""
        if size < 0:
            size = len(data)
        view = memoryview(data)[:size]
        if self._tx_used + size > _TX_BYTES:
            self.flush()
        if size > _TX_BYTES:
            self._send(view)
            return
        self._tx[self._tx_used : self._tx_used + size] = view
        self._tx_used += size

    def flush(self) -> None:
        """Hand everything written so far to TCP."""
        if self._tx_used:
            size = self._tx_used
            self._tx_used = 0
            self._send(memoryview(self._tx)[:size])

    def read(self, size: int) -> bytearray:
        """Exactly `size` bytes; raises LinkError when they do not come in time."""
        data = bytearray(size)
        self.read_into(memoryview(data))
        return data

    def read_into(self, view: memoryview) -> None:
        """Fill `view`; raises LinkError when the bytes do not come in time."""
        size = len(view)
        done = 0
        while done < size:
            if self._rx_at == self._rx_end:
                self._fill()
            part = min(size - done, self._rx_end - self._rx_at)
            view[done : done + part] = memoryview(self._rx)[self._rx_at : self._rx_at + part]
            self._rx_at += part
            done += part

    def ready(self, wait_ms: int) -> bool:
        """True when a byte can be read within `wait_ms` (bounded by `until`)."""
        if self._rx_at < self._rx_end:
            return True
        self._count_turn()
        wait_ms = min(wait_ms, time.ticks_diff(self.until, time.ticks_ms()))
        self._poll.modify(self._open_socket(), select.POLLIN)
        return bool(self._poll.poll(max(0, wait_ms)))

    def close(self) -> None:
        """Send what is left and close; raises LinkError when it cannot be sent in time."""
        try:
            self.flush()
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once; what was not sent is dropped."""
        self._tx_used = 0
        self._rx_at = self._rx_end = 0
        if self._sock is not None:
            self._poll.unregister(self._sock)
            self._sock.close()
            self._sock = None

    def _open_socket(self) -> object:
        if self._sock is None:
            raise LinkError(FAULT_CLOSED, "not connected")
        return self._sock

    def _count_turn(self) -> None:
        self.flush()
        if self._asked:
            self._asked = False
            self.turns += 1

    def _send(self, view: memoryview) -> None:
        sock = self._open_socket()
        done = 0
        try:
            while done < len(view):
                sent = sock.write(view[done:])
                if sent is None:  # TCP has no room
                    self._wait(select.POLLOUT)
                else:
                    done += sent
        except OSError as error:
            raise LinkError(FAULT_CLOSED, "send " + str(error))
        except ValueError as error:
            raise LinkError(FAULT_CONNECT, _TLS % error)
        self.tx_bytes += done
        self.last_tx_ms = time.ticks_ms()
        self._asked = True

    def _fill(self) -> None:
        sock = self._open_socket()
        self._count_turn()
        try:
            while True:
                got = sock.readinto(self._rx)
                if got is None:
                    self._wait(select.POLLIN)
                elif got == 0:
                    raise LinkError(FAULT_CLOSED, "by the broker")
                else:
                    break
        except OSError as error:
            raise LinkError(FAULT_CLOSED, "receive " + str(error))
        except ValueError as error:
            raise LinkError(FAULT_CONNECT, _TLS % error)
        self.rx_bytes += got
        self._rx_at = 0
        self._rx_end = got

    def _wait(self, event: int) -> int:
        left_ms = time.ticks_diff(self.until, time.ticks_ms())
        if left_ms > 0:
            self._poll.modify(self._open_socket(), event)
            ready = self._poll.poll(left_ms)
            if ready:
                return ready[0][1]
        raise LinkError(FAULT_TIMEOUT, "no answer in time")
