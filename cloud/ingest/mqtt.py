"""The connection to the broker: the only importer of aiomqtt.

aiomqtt acknowledges a message before the application has seen it, keeps it in an unbounded queue and makes a task for
each one. Here a message goes straight from the socket to `on_message`, and its PUBACK is sent by `acknowledge`, after
the commit. The broker stops sending at its in-flight limit (`broker.MAX_IN_FLIGHT`), which bounds what is held here.

paho, beneath it, reads a message with three system calls and writes one for each PUBACK. Reading through a buffer and
writing the PUBACKs of a batch at once halves the time of a message (25 to 13 us, measured; the bare loop takes 50).

For both, aiomqtt and paho have no public way; four of their private names are used (`_client`, `_create_socket`,
`_packet_queue` and, public in paho, `manual_ack_set`). Both packages are pinned, and tests/cloud/ingest/test_mqtt.py
fails when one of them changes its mind.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import aiomqtt

from cloud.broker import Login

CONNECT_TIMEOUT_S = 5
KEEPALIVE_S = 15
_MAX_PENDING_CALLS = 1_000  # publishes that wait for a PUBACK before aiomqtt complains
_PUBACK = struct.Struct(">BBH")  # MQTT 3.1.1, section 3.4
_PUBACK_TYPE = 0x40
_READ_BYTES = 65_536
_REFUSED = 0x80  # from here on, the code of a SUBACK is a refusal


class LinkLost(Exception):
    """The broker cannot be reached or went away; `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Delivery(NamedTuple):
    """One message as the broker delivered it. `mid` means something to the link that delivered it and to no other."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    retained: bool


class Link:
    """One connection, from CONNACK to its loss. What was not acknowledged on it comes again on the next one."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._over = asyncio.Event()
        self._paho: Any = client._client  # pyright: ignore[reportPrivateUsage]

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribes with QoS 1; raises LinkLost when the broker refuses or does not answer."""
        try:
            granted = await self._client.subscribe([(topic, 1) for topic in topics], timeout=CONNECT_TIMEOUT_S)
        except aiomqtt.MqttError as error:
            raise LinkLost(str(error)) from error
        if any((code if isinstance(code, int) else code.value) >= _REFUSED for code in granted):
            raise LinkLost("the broker refused a subscription")

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Tells the broker that it may forget these deliveries of this link, in one write."""
        packets = b"".join(_PUBACK.pack(_PUBACK_TYPE, 2, delivery.mid) for delivery in deliveries if delivery.qos)
        if packets:
            self._paho._packet_queue(_PUBACK_TYPE, packets, 0, 0)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hands a message to the socket with QoS 0 and does not wait: for what is made again when it is lost."""
        self._paho.publish(topic, payload, 0, retain)

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publishes with QoS 1 and waits until the broker has it; raises LinkLost when it does not come to have it."""
        publishing = asyncio.ensure_future(
            self._client.publish(topic, payload, qos=1, retain=retain, timeout=CONNECT_TIMEOUT_S)
        )
        over = asyncio.ensure_future(self._over.wait())  # aiomqtt would wait for its timeout on a link that is lost
        await asyncio.wait([publishing, over], return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if not publishing.done():
            publishing.cancel()
            raise LinkLost("lost while publishing")
        try:
            publishing.result()
        except aiomqtt.MqttError as error:
            raise LinkLost(str(error)) from error

    async def lost(self) -> None:
        """Waits for the end of the connection, then raises LinkLost."""
        try:
            await anext(self._client.messages)  # nothing is ever put there: see _Sink
        except aiomqtt.MqttError as error:
            self._over.set()
            raise LinkLost(str(error.__cause__ or error)) from error


@asynccontextmanager
async def connect(login: Login, on_message: Callable[[Delivery], None]) -> AsyncGenerator[Link]:
    """A link with a persistent session; `on_message` is called from the event loop. Raises LinkLost."""

    class _Sink(asyncio.Queue[aiomqtt.Message]):
        """Where aiomqtt puts what it receives: passes it on and stays empty."""

        def put_nowait(self, item: aiomqtt.Message) -> None:
            on_message(Delivery(str(item.topic), _as_bytes(item.payload), item.mid, item.qos, item.retain))

    client = aiomqtt.Client(
        login.host,
        login.port,
        username=login.user,
        password=login.password,
        identifier=login.client_id,
        clean_session=False,
        keepalive=KEEPALIVE_S,
        timeout=CONNECT_TIMEOUT_S,
        queue_type=_Sink,
    )
    client.pending_calls_threshold = _MAX_PENDING_CALLS
    paho: Any = client._client  # pyright: ignore[reportPrivateUsage]
    paho.manual_ack_set(True)
    create_socket = paho._create_socket
    paho._create_socket = lambda: _BufferedSocket(create_socket())
    try:
        await client.__aenter__()
    except (aiomqtt.MqttError, OSError) as error:
        raise LinkLost(str(error)) from error
    try:
        yield Link(client)
    finally:
        with suppress(aiomqtt.MqttError):  # the connection was lost already: the caller knows from `lost`
            await client.__aexit__(None, None, None)


class _BufferedSocket:
    """A socket for paho that asks the system for 64 kB at a time; all but reading goes to the socket itself.

    aiomqtt goes on reading while `pending` says that there is more, as it does for TLS.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read: bytes = b""
        self._pos: int = 0

    def recv(self, limit: int) -> bytes:
        """Up to `limit` bytes; b"" at the end, BlockingIOError when there is nothing yet."""
        if self._pos == len(self._read):
            self._read, self._pos = self._connection.recv(_READ_BYTES), 0
        start = self._pos
        self._pos = min(start + limit, len(self._read))
        return self._read[start : self._pos]

    def pending(self) -> int:
        """Bytes that can be read without asking the system."""
        return len(self._read) - self._pos

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _as_bytes(payload: object) -> bytes:
    return payload if isinstance(payload, bytes) else bytes(payload)  # type: ignore[call-overload]
