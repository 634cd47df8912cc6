"""The broker of a simulated board: what MQTT 3.1.1 says of one client's bytes, without sockets and without time.

It does what boards use: a persistent session, will, retained messages, QoS 0 and 1 both ways, ping. The broker that
`edgewise up` starts does all of it too, and the board is tried against that one in tests/device and tests/system; this
one lets a month pass in seconds.
"""

from collections.abc import Callable

_CONNECT, _PUBLISH, _PUBACK, _SUBSCRIBE, _PINGREQ, _DISCONNECT = 1, 3, 4, 8, 12, 14
_RETAIN, _QOS1 = 1, 2
_WILL, _WILL_RETAIN, _PASSWORD, _USER, _CLEAN = 4, 32, 64, 128, 2


class NotMqtt(Exception):
    """The client sent what no MQTT client sends."""


def packet(first: int, body: bytes) -> bytes:
    """A packet with its length in front."""
    size = len(body)
    head = bytearray((first,))
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + body


class Broker:
    """One client's broker. on_publish(topic, payload) gets what the client publishes, its will included."""

    def __init__(self, on_publish: Callable[[str, bytes], None]) -> None:
        self.retained: dict[str, bytes] = {}
        self.connected = False
        self._on_publish = on_publish
        self._buffer = b""
        self._subscribed: dict[str, int] = {}
        self._will: tuple[str, bytes, bool] | None = None

    def take(self, data: bytes) -> bytes:
        """What the client sent -> what it is answered at once. Raises NotMqtt."""
        self._buffer += data
        answer = b""
        while (cut := self._cut()) is not None:
            answer += self._obey(*cut)
        return answer

    def publish(self, topic: str, payload: bytes, retain: bool) -> bytes:
        """A message of the cloud, QoS 0: the bytes for the client, none when it is away or has not asked."""
        if retain:
            self.retained[topic] = payload
        return self._message(topic, payload, False) if self.connected and topic in self._subscribed else b""

    def lose(self) -> None:
        """The connection is gone without a goodbye: the will is published."""
        if self.connected and self._will:
            topic, payload, retain = self._will
            self._note(topic, payload, retain)
        self._end()

    def _end(self) -> None:
        self.connected = False
        self._buffer = b""
        self._will = None

    def _cut(self) -> tuple[int, bytes] | None:
        size = shift = 0
        for at in range(1, min(5, len(self._buffer))):
            byte = self._buffer[at]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                end = at + 1 + size
                if len(self._buffer) < end:
                    return None
                first, body = self._buffer[0], self._buffer[at + 1 : end]
                self._buffer = self._buffer[end:]
                return first, body
        return None

    def _obey(self, first: int, body: bytes) -> bytes:
        kind = first >> 4
        if kind != _CONNECT and not self.connected:
            raise NotMqtt(f"packet 0x{first:02x} before CONNECT")
        match kind:
            case 1:
                return self._connect(body)
            case 3:
                return self._published(first, body)
            case 4:
                return b""
            case 8:
                return self._subscribe(body)
            case 12:
                return packet(0xD0, b"")
            case 14:
                self._end()
                return b""
            case _:
                raise NotMqtt(f"packet 0x{first:02x}")

    def _connect(self, body: bytes) -> bytes:
        flags = body[7]
        fields: list[bytes] = []
        at = 10
        while at < len(body):
            size = int.from_bytes(body[at : at + 2])
            fields.append(body[at + 2 : at + 2 + size])
            at += 2 + size
        kept = bool(self._subscribed) and not flags & _CLEAN
        if flags & _CLEAN:
            self._subscribed = {}
        self.connected = True
        self._will = (fields[1].decode(), fields[2], bool(flags & _WILL_RETAIN)) if flags & _WILL else None
        return packet(0x20, bytes((kept, 0)))

    def _subscribe(self, body: bytes) -> bytes:
        at = 2
        granted = b""
        messages = b""
        while at < len(body):
            size = int.from_bytes(body[at : at + 2])
            topic = body[at + 2 : at + 2 + size].decode()
            at += 3 + size
            self._subscribed[topic] = body[at - 1]
            granted += bytes((body[at - 1],))
            if topic in self.retained:
                messages += self._message(topic, self.retained[topic], True)
        return packet(0x90, body[:2] + granted) + messages

    def _published(self, first: int, body: bytes) -> bytes:
        size = int.from_bytes(body[:2])
        topic = body[2 : 2 + size].decode()
        at = 2 + size
        answer = b""
        if first & _QOS1:
            answer = packet(0x40, body[at : at + 2])
            at += 2
        self._note(topic, body[at:], bool(first & _RETAIN))
        return answer

    def _note(self, topic: str, payload: bytes, retain: bool) -> None:
        if retain:
            self.retained[topic] = payload
        self._on_publish(topic, payload)

    def _message(self, topic: str, payload: bytes, retained: bool) -> bytes:
        name = topic.encode()
        return packet(0x30 | retained, len(name).to_bytes(2) + name + payload)
