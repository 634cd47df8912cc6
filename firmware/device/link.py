"""The way to the cloud: radio, name, connection and MQTT session, each step with its deadline.

The only owner of the socket. What is said over it is sync.py's story; what MQTT needs is mqtt.py's.
"""

import socket
import time

from micropython import const

from contract.wire import (
    BAD_DEVICE,
    FAULT_CLOSED,
    KIND_ACK,
    KIND_DO,
    KIND_STATE,
    KIND_UP,
    KIND_WANT,
    WireError,
    split_topic,
    topic,
)
from device.errors import LinkError
from device.files import remove_if_there
from device.mqtt import Session
from device.resolve import is_address, resolve
from device.stream import Stream

_RADIO_MS = const(8000)  # association with DHCP takes 1.6 s on an S3, a crowded channel several times that
_NAME_MS = const(2500)
_CONNECT_MS = const(5000)
_REPLY_MS = const(5000)  # the longest a live broker may be silent while it owes an answer
_GOODBYE_MS = const(1000)
_KEEPALIVE_S = const(30)
_WINDOW = const(8)  # QoS 1 messages under way; the broker's answers overlap our writes


class Link:
    """One session at a time with the broker.

    broker: {"host", "port", "user", "password"} of config.json; files: see files.Files; downlink: a buffer of
    MAX_DOWN_BYTES; tls: a secure.Tls, or None. on_message(kind, payload, retained) gets what arrives on this
    device's topics. radio_cache: what the board learned of the access point, to be kept through deep sleep. sessions,
    radio_ms, tx_bytes, rx_bytes, failures: counted since this object was made; refused: downlink messages set aside;
    turns: round trips of the last session; was_closed: the broker took it and then went away.
    """

    def __init__(
        self, board: object, files: object, device: str, broker: dict, downlink: memoryview, tls: object = None
    ) -> None:
        self.on_message = None
        self.radio_cache = bytes(24)
        self.sessions = 0
        self.radio_ms = 0
        self.tx_bytes = 0
        self.rx_bytes = 0
        self.failures = 0
        self.refused = 0
        self.turns = 0
        self.was_closed = False
        self._board = board
        self._files = files
        self._device = device
        self._broker = broker
        self._tls = tls
        self._address_path = board.root + "/broker"
        self._up = topic(device, KIND_UP)
        self._state = topic(device, KIND_STATE)
        self._stream = None
        self._session = None
        self._end = 0
        self._began = 0
        self._last_id = 0
        self._unanswered = {}
        self._payload = downlink

    @property
    def resumed(self) -> bool:
        """True when the broker kept our session: what was sent to us while we slept is coming."""
        return self._session.resumed

    def open(self, budget_ms: int) -> None:
        """Bring the radio up, connect and ask for the retained messages, all to be over within budget_ms.

        Returns as soon as the requests are written; their answers come in while the session goes on. Raises LinkError.
        """
        self._began = time.ticks_ms()
        self._end = time.ticks_add(self._began, budget_ms)
        self.sessions += 1
        self.radio_cache = self._board.radio_up(self._until(_RADIO_MS), self.radio_cache)
        stream = Stream()
        self._stream = stream
        self._connect(stream)
        session = Session(
            stream,
            self._device,
            self._broker.get("user"),
            self._broker.get("password"),
            _KEEPALIVE_S,
            _WINDOW,
            self._payload,
            self._sort,
        )
        session.pid = self._last_id
        self._session = session
        session.set_last_will(self._state, b"0", retain=True)
        session.connect(clean_session=False)
        # ack and want are retained, so QoS 0 loses nothing and spares us every older one that was queued meanwhile.
        session.subscribe(
            [(topic(self._device, KIND_WANT), 0), (topic(self._device, KIND_ACK), 0), (topic(self._device, KIND_DO), 1)]
        )
        session.publish(self._state, b"1", retain=True)

    def send(self, frame: bytes, key: object) -> None:
        """Publish one frame at QoS 1; `key` names it, so that a second sending says DUP. Raises LinkError."""
        self._stream.until = self._until(_REPLY_MS)
        pid = self._unanswered.pop(key, 0)
        self._session.publish(self._up, frame, qos=1, dup=pid != 0, pid=pid, key=key)

    def send_once(self, frame: bytes) -> None:
        """Publish one frame at QoS 0: a request that is repeated by whoever misses its answer. Raises LinkError."""
        self._stream.until = self._until(_REPLY_MS)
        self._session.publish(self._up, frame)

    def settle(self) -> None:
        """Wait until the broker has answered everything sent at QoS 1. Raises LinkError."""
        while self._session.pending or not self._session.connected:
            self._stream.until = self._until(_REPLY_MS)
            self._session.wait_msg()

    def poll(self, wait_ms: int) -> bool:
        """Take in one message or answer if one comes within wait_ms; True when it did. Raises LinkError."""
        self._stream.until = self._until(_REPLY_MS)
        self._session.tend()
        return self._session.check_msg(wait_ms)

    def left_ms(self) -> int:
        """What is left of the session's budget."""
        return time.ticks_diff(self._end, time.ticks_ms())

    def close(self, fault: int | None = None) -> None:
        """End the session and switch the radio off; raises nothing. fault: the FAULT_* class that ended it.

        After a failure the broker publishes our will, which says the same as our goodbye.
        """
        failed = fault is not None
        self.was_closed = fault == FAULT_CLOSED and self._session is not None and self._session.connected
        session = self._session
        stream = self._stream
        if session is not None:
            self._last_id = session.pid
            self._unanswered = {key: pid for pid, key in session.pending.items() if key is not None}
            self.refused += session.refused
            if not failed:
                stream.until = time.ticks_add(time.ticks_ms(), _GOODBYE_MS)
                try:
                    session.publish(self._state, b"0", retain=True)
                    session.disconnect()
                except LinkError:
                    failed = True
        if stream is not None:
            stream.abort()
            self.turns = stream.turns
            self.tx_bytes += stream.tx_bytes
            self.rx_bytes += stream.rx_bytes
        if failed and (stream is None or not stream.heard):
            # What the cache says may be why: another access point, an address of a network that is no more.
            self.radio_cache = bytes(24)
        self._session = self._stream = None
        self._board.radio_down()
        self.radio_ms += time.ticks_diff(time.ticks_ms(), self._began)
        if failed:
            self.failures += 1

    def _until(self, step_ms: int) -> int:
        """ticks_ms at which a step of step_ms must end, and the session's own end at the latest."""
        return time.ticks_add(time.ticks_ms(), min(step_ms, max(0, self.left_ms())))

    def _connect(self, stream: Stream) -> None:
        """Open the stream to the address that answered last time, or else to the one the name has now."""
        host = self._broker["host"]
        if is_address(host):
            self._open(stream, host)
            return
        known = self._known_address()
        if known:
            try:
                self._open(stream, known)
                return
            except LinkError:
                # The broker may have moved: ask for its name once more before giving up.
                remove_if_there(self._files, self._address_path)
        ip = resolve(host, self._board.dns_server(), self._until(_NAME_MS))
        self._open(stream, ip)
        with self._files.open(self._address_path, "w") as file:
            file.write(ip)

    def _open(self, stream: Stream, ip: str) -> None:
        stream.until = self._until(_CONNECT_MS)
        address = socket.getaddrinfo(ip, self._broker["port"])[0][-1]
        if self._tls is None:
            stream.open(address)
        else:
            self._tls.open(stream, address)

    def _known_address(self) -> str:
        """The broker's address as of the last session, "" when none is kept; a torn file is no address."""
        try:
            with self._files.open(self._address_path) as file:
                text = file.read(16)
        except OSError:
            return ""
        return text if is_address(text) else ""

    def _sort(self, name: str, payload: memoryview, retained: bool) -> None:
        """Hand a message of this device's topics on; set aside what is not for us or breaks the contract."""
        try:
            device, kind = split_topic(name)
            if device != self._device:
                raise WireError(BAD_DEVICE, device)
            self.on_message(kind, payload, retained)
        except WireError:
            self.refused += 1
