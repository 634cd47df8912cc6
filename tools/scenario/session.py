"""What happens to a board's connection on its way: delays, losses, a broker or an ingest that is down."""

from tools.scenario.broker import Broker, NotMqtt
from tools.scenario.cloud import Cloud
from tools.scenario.world import Air, draw

REFUSED = -1
SILENT = -2

Segments = list[tuple[int, bytes]]
"""What arrives at the board, and when."""


class Session:
    """One board's way to the cloud, one connection at a time. Times are ms of the scenario."""

    def __init__(self, air: Air, cloud: Cloud, commit_ms: int) -> None:
        self._air = air
        self._cloud = cloud
        self._commit_ms = commit_ms
        self._broker = Broker(self._on_publish)
        self._published: list[tuple[str, bytes]] = []
        self._held: list[tuple[str, bytes]] = []  # by the broker, while ingest is down
        self._breaks_in: int | None = None  # exchanges until this connection is dead
        self._deaf = False  # ... the board hears nothing any more; what it sends still arrives

    def connect(self, now_ms: int) -> tuple[int, bytes]:
        """(ms until the connection is there, or REFUSED or SILENT; the ms of a refusal as text)."""
        self.end(now_ms)
        rtt_ms = self._air.radio.rtt_ms
        if self._air.lasting("broker-down", now_ms):
            return REFUSED, str(rtt_ms).encode()
        self._breaks_in = None
        self._deaf = False
        if self._air.breaks(now_ms):
            where = draw("where", now_ms)
            if where < 0.25:
                return SILENT, b""
            self._deaf = where < 0.6
            self._breaks_in = 0 if where < 0.8 else 1
        return rtt_ms, b""

    def exchange(self, now_ms: int, data: bytes) -> tuple[int, Segments]:
        """(when the broker closes, -1 never; what the board will hear) for bytes that leave the board now."""
        broken = self._breaks_in == 0
        if self._breaks_in:
            self._breaks_in -= 1
        if broken and not self._deaf:
            return -1, []
        arrived_ms = now_ms + self._air.one_way_ms(len(data))
        self._published.clear()
        try:
            answer = self._broker.take(data)
        except NotMqtt:
            self._broker.lose()
            return arrived_ms + self._air.one_way_ms(0), []
        segments: Segments = [(arrived_ms + self._air.one_way_ms(len(answer)), answer)] if answer else []
        segments += self._ingest(arrived_ms)
        return -1, [] if broken else segments

    def end(self, now_ms: int) -> None:
        """The connection is over, with a goodbye or without."""
        self._published.clear()
        self._broker.lose()
        self._ingest(now_ms)

    def drain(self, now_ms: int) -> None:
        """At the end of the scenario: what the broker still holds reaches ingest."""
        self._published.clear()
        self._store(now_ms)

    def _on_publish(self, topic: str, payload: bytes) -> None:
        self._published.append((topic, payload))

    def _ingest(self, arrived_ms: int) -> Segments:
        """What the cloud says to what has arrived."""
        down = self._air.lasting("ingest-down", arrived_ms)
        if down:
            self._held += self._published
            self._published.clear()
            return []
        return self._store(arrived_ms)

    def _store(self, arrived_ms: int) -> Segments:
        messages = self._held + self._published
        self._held = []
        self._published.clear()
        if not messages:
            return []
        stored_ms = arrived_ms + self._commit_ms
        segments: Segments = []
        for topic, payload, retain, later_ms in self._cloud.take(messages, stored_ms):
            data = self._broker.publish(topic, payload, retain)
            if data:
                segments.append((stored_ms + later_ms + self._air.one_way_ms(len(data)), data))
        return segments
