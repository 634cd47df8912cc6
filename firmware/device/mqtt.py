"""MQTT 3.1.1 over umqtt.simple, with that client's faults fenced in.

umqtt.simple is frozen into every ESP32 image, so it costs no flash. What it does, and what is done here about it:

    waits for ever on a silent peer          every wait is the Stream's and ends at `stream.until`
    writes each field in its own packet      the Stream collects them
    waits for each reply before going on     connect, subscribe and publish only write; wait_msg takes the replies in
    packet id grows past 65,535              ids go from 1 to 65,535 and step over those in flight
    `assert` on what the broker sent         LinkError(FAULT_PROTOCOL)
    reads any length the broker claims       a message over its bound is read past and counted in `refused`
    never says DUP, keepalive 0              publish(dup=True, pid=...); keepalive set, tend() pings

Sending on before the CONNACK is allowed (MQTT 3.1.1, 3.1.4) and saves a waking board three round trips.
"""

import time

from micropython import const
from umqtt.simple import MQTTClient

from contract.wire import FAULT_LOGIN, FAULT_PROTOCOL, FAULT_TIMEOUT, MAX_DOWN_BYTES
from device.errors import LinkError

_CONNACK = const(0x20)
_PUBLISH = const(0x30)
_PUBACK = const(0x40)
_SUBACK = const(0x90)
_PINGRESP = const(0xD0)
_MAX_ID = const(0xFFFF)
_MAX_TOPIC = const(64)  # ew/1/ + 32 + / + kind, with room to spare
_SUBACK_REFUSED = const(0x80)


class Session(MQTTClient):
    """One MQTT session on an open Stream.

    `connected` and `resumed` (the broker kept our session) are set by the CONNACK; `pending` maps the packet ids sent
    and not yet answered (SUBSCRIBE and QoS 1 PUBLISH) to what publish was told they carry; at most `window` of them.
    `on_message(topic, payload, retained)` gets each message; topic is str, payload a memoryview valid during the call.
    A QoS 1 message is confirmed to the broker after the handler returned. All methods raise LinkError.
    """

    def __init__(
        self,
        stream: object,
        client_id: str,
        user: str,
        password: str,
        keepalive_s: int,
        window: int,
        payload: memoryview,
        on_message: object,
    ) -> None:
        super().__init__(client_id, "", 1, user, password, keepalive_s)
        self.sock = stream
        self.set_callback(on_message)
        self.window = window
        self.connected = False
        self.resumed = False
        self.pending = {}
        self.refused = 0
        self._topic = bytearray(_MAX_TOPIC)
        self._payload = payload
        self._pinged_ms = None

    def connect(self, clean_session: bool = False) -> None:
        """Write CONNECT with will and login; the CONNACK comes in through wait_msg."""
        flags = 2 if clean_session else 0
        size = 12 + len(self.client_id)
        if self.lw_topic:
            flags |= 4 | self.lw_qos << 3 | (32 if self.lw_retain else 0)
            size += 4 + len(self.lw_topic) + len(self.lw_msg)
        if self.user is not None:
            flags |= 0xC0
            size += 4 + len(self.user) + len(self.pswd)
        self._header(0x10, size)
        self.sock.write(b"\x00\x04MQTT\x04")
        self.sock.write(bytes((flags, self.keepalive >> 8, self.keepalive & 0xFF)))
        self._send_str(self.client_id)
        if self.lw_topic:
            self._send_str(self.lw_topic)
            self._send_str(self.lw_msg)
        if self.user is not None:
            self._send_str(self.user)
            self._send_str(self.pswd)

    def subscribe(self, topics: list) -> int:
        """Write one SUBSCRIBE for [(topic, qos)..]; returns its packet id."""
        size = 2
        for topic, _ in topics:
            size += 3 + len(topic)
        self._header(0x82, size)
        pid = self._next_id()
        self._send_u16(pid)
        for topic, qos in topics:
            self._send_str(topic)
            self.sock.write(bytes((qos,)))
        self.pending[pid] = None
        return pid

    def publish(
        self,
        topic: str,
        msg: bytes,
        retain: bool = False,
        qos: int = 0,
        dup: bool = False,
        pid: int = 0,
        key: object = None,
    ) -> int:
        """Write one PUBLISH, at QoS 1 after waiting for a free place in the window; returns its packet id (0 at QoS 0).

        `key` says what it carries, for `pending`. To send again what an earlier connection left unanswered, give its
        `pid` and dup=True.
        """
        if qos:
            while len(self.pending) >= self.window:
                self.wait_msg()
            pid = pid or self._next_id()
            self.pending[pid] = key
        self._header(
            _PUBLISH | (8 if dup else 0) | qos << 1 | (1 if retain else 0), 2 + len(topic) + 2 * qos + len(msg)
        )
        self._send_str(topic)
        if qos:
            self._send_u16(pid)
        self.sock.write(msg)
        return pid

    def check_msg(self, wait_ms: int = 0) -> bool:
        """Take in one packet if one begins to arrive within wait_ms; True when it did."""
        if not self.sock.ready(wait_ms):
            return False
        self.wait_msg()
        return True

    def wait_msg(self) -> None:
        """Take in one packet, whatever it is."""
        first = self.sock.read(1)[0]
        size = self._recv_len()
        kind = first & 0xF0
        if not self.connected and kind != _CONNACK:
            raise LinkError(FAULT_PROTOCOL, "packet 0x%02x before CONNACK" % first)
        if kind == _PUBLISH:
            self._take_message(first, size)
        elif kind == _PUBACK and size == 2:
            self.pending.pop(self._read_u16(), None)
        elif kind == _CONNACK and size == 2:
            self._take_connack(self.sock.read(2))
        elif kind == _SUBACK and 3 <= size <= _MAX_TOPIC:
            self._take_suback(self.sock.read(size))
        elif kind == _PINGRESP and size == 0:
            self._pinged_ms = None
        else:
            raise LinkError(FAULT_PROTOCOL, "packet 0x%02x of %d bytes" % (first, size))

    def tend(self) -> None:
        """Ping when we have been silent for half the keepalive; raises FAULT_TIMEOUT when a ping stayed unanswered."""
        now = time.ticks_ms()
        patience_ms = self.keepalive * 500
        if self._pinged_ms is not None:
            if time.ticks_diff(now, self._pinged_ms) > patience_ms:
                raise LinkError(FAULT_TIMEOUT, "ping unanswered")
        elif time.ticks_diff(now, self.sock.last_tx_ms) > patience_ms:
            self.ping()
            self._pinged_ms = now

    def _take_connack(self, body: bytearray) -> None:
        if self.connected:
            raise LinkError(FAULT_PROTOCOL, "second CONNACK")
        if body[1]:
            raise LinkError(FAULT_LOGIN, "CONNACK code %d" % body[1])
        self.resumed = bool(body[0] & 1)
        self.connected = True

    def _take_suback(self, body: bytearray) -> None:
        pid = body[0] << 8 | body[1]
        if pid not in self.pending:
            raise LinkError(FAULT_PROTOCOL, "SUBACK for nothing")
        if max(body[2:]) >= _SUBACK_REFUSED:
            raise LinkError(FAULT_LOGIN, "subscription refused")
        del self.pending[pid]

    def _take_message(self, first: int, size: int) -> None:
        qos = first >> 1 & 3
        topic_size = self._read_u16()
        size -= 2 + topic_size + (2 if qos else 0)
        if qos > 1 or size < 0:
            raise LinkError(FAULT_PROTOCOL, "bad PUBLISH")
        good = topic_size <= _MAX_TOPIC and size <= MAX_DOWN_BYTES
        topic = memoryview(self._topic)[:topic_size]
        if good:
            self.sock.read_into(topic)
        else:
            self._skip(topic_size)
        pid = self._read_u16() if qos else 0
        if good:
            self.sock.read_into(self._payload[:size])
            try:
                name = str(topic, "utf-8")
            except UnicodeError:
                good = False
        else:
            self._skip(size)
        if good:
            self.cb(name, self._payload[:size], bool(first & 1))
        else:
            self.refused += 1
        if qos:
            # A refused message is confirmed too: sent again, it would be refused again.
            self.sock.write(b"\x40\x02")
            self._send_u16(pid)

    def _skip(self, size: int) -> None:
        while size:
            part = min(size, MAX_DOWN_BYTES)
            self.sock.read_into(self._payload[:part])
            size -= part

    def _next_id(self) -> int:
        pid = self.pid
        while True:
            pid = 1 if pid >= _MAX_ID else pid + 1
            if pid not in self.pending:
                self.pid = pid
                return pid

    def _header(self, first: int, size: int) -> None:
        head = bytearray((first,))
        while size > 0x7F:
            head.append(size & 0x7F | 0x80)
            size >>= 7
        head.append(size)
        self.sock.write(head)

    def _recv_len(self) -> int:
        size = 0
        for shift in (0, 7, 14, 21):
            byte = self.sock.read(1)[0]
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                return size
        raise LinkError(FAULT_PROTOCOL, "length over 4 bytes")

    def _send_u16(self, value: int) -> None:
        self.sock.write(bytes((value >> 8, value & 0xFF)))

    def _read_u16(self) -> int:
        data = self.sock.read(2)
        return data[0] << 8 | data[1]
