"""Boards made of Python: they speak wire v1 to a real broker and hold every record until an ACK covers it.

What a real board does for energy (batches, backoff, flash) is left out; what it promises is not: records are numbered
per stream, frames are sealed once, nothing is forgotten before the cloud acknowledged it, all else is sent again.
"""

import asyncio
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiomqtt

from cloud import wire_types as w
from cloud.broker import device_password
from cloud.settings import Settings
from contract import delta, wire
from contract.delta_encoder import Encoder

_ROW_MS = 1000
_WINDOW = 40  # frames sent and not acknowledged by the cloud
_QUIET_S = 1.0  # without an ACK for this long, everything is sent again
Record = w.Event | w.Health | w.Readings


@dataclass
class Sealed:
    """A frame that waits for its ACK."""

    stream: int
    seq: int
    end: int
    message: Record
    rows: "Sequence[int]" = ()


@dataclass
class Talker:
    """One board. `made` counts the records of each stream, `samples` keeps every row it ever made."""

    settings: Settings
    device: str
    epoch: int = 1
    cols: int = 2
    frame_rows: int = 10
    seed: int = 0
    credential: int = 1
    made: dict[int, int] = field(default_factory=dict[int, int])
    samples: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    acked: dict[int, int] = field(default_factory=dict[int, int])
    waiting: list[Sealed] = field(default_factory=list[Sealed])
    connections: int = 0
    key_frames_asked: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed} {self.device}")
        self._encoder = Encoder()
        self._level = [1000 * (channel + 1) for channel in range(self.cols)]
        self._base: tuple[tuple[int, int], tuple[int, ...]] | None = None
        self._flags = wire.ACK_SAY_HELLO
        self._news = asyncio.Event()

    # -- making records

    def measure(self, frames: int = 1) -> None:
        """Seals frames of readings, with an event and a health record now and then."""
        for _ in range(frames):
            seq = self.made.get(wire.READINGS, 0)
            values = array("i")
            for row in range(self.frame_rows):
                for channel in range(self.cols):
                    self._level[channel] += self._random.randint(-5, 5)
                values.extend(self._level)
                self.samples.append((_ROW_MS * (seq + row), *self._level))
            self._seal(wire.READINGS, self.frame_rows, self._readings(seq, values), values)
            if self._random.random() < 0.3:
                self._seal(wire.EVENT, 1, self._event())
            if self._random.random() < 0.1:
                self._seal(wire.HEALTH, 1, self._health())

    @property
    def t_ms(self) -> int:
        """The board's clock: the time of its next row."""
        return _ROW_MS * self.made.get(wire.READINGS, 0)

    def _seal(
        self, stream: int, count: int, message: w.Event | w.Health | w.Readings, rows: Sequence[int] = ()
    ) -> None:
        seq = self.made.get(stream, 0)
        self.made[stream] = seq + count
        self.waiting.append(Sealed(stream, seq, seq + count, message, rows))

    def _readings(self, seq: int, values: "array[int]") -> w.Readings:
        times = array("q", [_ROW_MS * row for row in range(self.frame_rows)])
        out = bytearray(wire.MAX_UP_BYTES)
        body = bytes(out[: self._encoder.body(times, values, self.frame_rows, self.cols, out)])
        base, row = self._base or (None, None)
        first = bytes(out[: delta.first_row(values, row, self.cols, out)])
        return w.Readings(self.epoch, seq, _ROW_MS * seq, self.frame_rows, self.cols, base, first, body)

    def _event(self) -> w.Event:
        seq = self.made.get(wire.EVENT, 0)
        return w.Event(self.epoch, seq, self.t_ms, wire.EVENT_ANOMALY, 2.0, 1.0, 0, 0, bytes(8), bytes(16))

    def _health(self) -> w.Health:
        return w.Health(
            epoch=self.epoch,
            seq=self.made.get(wire.HEALTH, 0),
            t_ms=self.t_ms,
            period_ms=60_000,
            wakes=60,
            battery_mv=3700,
            rssi=-60,
            free_heap=80_000,
            free_flash=900_000,
            awake_ms=3000,
            energy_uj=w.Energy(1, 2, 3, 4),
            radio=w.Radio(1, 2, 3, 4, 0),
            drops=(0, 0, 0, 0, 0),
            errors=(),
            scores=(1, 2, 3),
        )

    def hello(self) -> w.Hello:
        """What it is and the lowest record of each stream it still holds."""
        floors = [
            min((f.seq for f in self.waiting if f.stream == s), default=self.made.get(s, 0)) for s in wire.STREAMS
        ]
        return w.Hello(
            proto=wire.PROTOCOL_VERSION,
            epoch=self.epoch,
            t_ms=self.t_ms,
            floors=((self.epoch, *floors),),  # type: ignore[arg-type]
            config_version=0,
            model=None,
            firmware="talker",
            arch="x64",
            abi=1539,
            formats=wire.FORMAT_NATIVE,
            schema_hash=bytes(8),
            kind="pump",
            free_flash=1,
            free_heap=1,
            wake_cause=wire.WAKE_TIMER,
            battery_mv=3700,
        )

    # -- sending them

    async def run(self, stop: asyncio.Event, pause_s: float = 0.02) -> None:
        """Measures and sends until `stop`, then sends what is left; returns when all is acknowledged."""
        while not (stop.is_set() and not self.waiting):
            try:
                async with self._client() as client:
                    self.connections += 1
                    await client.subscribe(wire.topic(self.device, wire.KIND_ACK), qos=1, timeout=3)
                    await self._session(client, stop, pause_s)
            except (aiomqtt.MqttError, OSError):
                await asyncio.sleep(0.05)

    async def say_hello(self) -> None:
        """One more session, in which it says what it holds, as a board does once a day; returns when that is heard."""
        async with self._client() as client:
            await client.subscribe(wire.topic(self.device, wire.KIND_ACK), qos=1, timeout=3)
            await self._publish(client, w.encode(self.hello()))
            async with asyncio.timeout(10):
                async for message in client.messages:
                    ack = w.decode_downlink(bytes(message.payload))  # type: ignore[arg-type]
                    if isinstance(ack, w.Ack) and ack.heard_ms == self.t_ms:
                        return

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self.settings.host,
            self.settings.mqtt_port,
            username=self.device,
            password=device_password(self.settings, self.device, self.credential),
            identifier=self.device,
            clean_session=False,
            timeout=3,
            keepalive=10,
        )

    async def _session(self, client: aiomqtt.Client, stop: asyncio.Event, pause_s: float) -> None:
        listener = asyncio.create_task(self._listen(client))
        sent: set[tuple[int, int]] = set()
        try:
            while not (stop.is_set() and not self.waiting):
                if listener.done():
                    listener.result()
                if not stop.is_set():
                    self.measure()
                if self._flags & wire.ACK_SAY_HELLO:
                    self._flags = 0
                    await self._publish(client, w.encode(self.hello()))
                for frame in self.waiting[:_WINDOW]:
                    if (frame.stream, frame.seq) not in sent:
                        sent.add((frame.stream, frame.seq))
                        await self._publish(client, w.encode(frame.message))
                full = len(self.waiting) >= _WINDOW or stop.is_set()
                self._news.clear()
                try:
                    await asyncio.wait_for(self._news.wait(), _QUIET_S if full else pause_s)
                except TimeoutError:
                    if full:
                        sent.clear()
                if self._flags & wire.ACK_NEED_KEY:
                    self._flags &= ~wire.ACK_NEED_KEY
                    self._to_key_form()
                    sent.clear()
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _publish(self, client: aiomqtt.Client, payload: bytes) -> None:
        await client.publish(wire.topic(self.device, wire.KIND_UP), payload, qos=1, timeout=3)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            ack = w.decode_downlink(bytes(message.payload))  # type: ignore[arg-type]
            assert isinstance(ack, w.Ack)
            self._flags |= ack.flags
            for epoch, *next_seqs in ack.acks:
                if epoch == self.epoch:
                    self._trim(next_seqs)
            self._news.set()

    def _trim(self, next_seqs: Sequence[int]) -> None:
        for stream, next_seq in zip(wire.STREAMS, next_seqs, strict=True):
            self.acked[stream] = max(self.acked.get(stream, 0), next_seq)
        for frame in self.waiting:
            if frame.end == self.acked[frame.stream] and frame.stream == wire.READINGS:
                self._base = ((self.epoch, frame.end - 1), tuple(frame.rows[-self.cols :]))
        self.waiting = [frame for frame in self.waiting if frame.end > self.acked[frame.stream]]

    def _to_key_form(self) -> None:
        self.key_frames_asked += 1
        self._base = None
        for frame in self.waiting:
            message = frame.message
            if isinstance(message, w.Readings):
                out = bytearray(5 * wire.MAX_CHANNELS)
                first = bytes(out[: delta.first_row(frame.rows, None, self.cols, out)])
                frame.message = w.Readings(
                    message.epoch,
                    message.seq,
                    message.t_ms,
                    message.rows,
                    message.cols,
                    None,
                    first,
                    message.body,
                )
