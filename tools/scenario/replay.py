"""A policy replayed over a recorded trace: what its sessions, bytes, energy, alerts and drops would have been.

The trace says when the board woke, what it measured and what the air was like. When to hold a session, how much to
send, when to try again after a failure: that is decided anew, by the functions of contract/policy.py in the order in
which device/cycle.py and device/sync.py call them, and with the random numbers the board drew. What a session costs is
fitted to the sessions of the trace. Not replayed: what changes the wakes themselves, a battery that is drained
otherwise (the voltage is the recorded one), updates, and HELLO and HEALTH where sessions are rare.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from contract import merge, routing, wire
from tools.scenario.plan import Plan
from tools.scenario.trace import Trace
from tools.scenario.world import REACH_CLOUD, REACH_NO_WIFI, REACH_REFUSED, draw

_RING_BYTES = 1536  # device/rtc_layout.py: RTC_BYTES - RING_AT
_FLASH_BYTES = 64 * 4000  # device/outbox.py: MAX_SEGMENTS of records
_ROWS_A_FRAME = 64
_EVENT_BYTES = 60
_REFUSED_MS = 100
_NO_ANSWER_MS = 5200  # a session that waits for an ACK in vain


class Costs(NamedTuple):
    """What sessions cost, fitted to a trace. tx and rx: bytes of a session, then of each row and each event more;
    talk_ms: with the radio on behind the association, and for each byte sent."""

    tx: tuple[float, float, float]
    rx: float
    talk_ms: tuple[float, float]
    row_bytes: float
    failed_ms: dict[int, float]


@dataclass
class Replayed:
    """One board under one policy. latencies_ms: from the wake that told an event to its end in the cloud; dropped:
    readings and events for which there was no room; held: what waits at the end."""

    policy: str
    board: str
    days: float
    sessions: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    routes: Counter[str] = field(default_factory=Counter[str])
    """Windows by decision and its reason."""
    bytes: float = 0.0
    energy_uj: float = 0.0
    radio_ms: float = 0.0
    latencies_ms: list[float] = field(default_factory=list[float])
    dropped_rows: float = 0.0
    held_rows: float = 0.0
    held_events: int = 0

    @property
    def mean_uw(self) -> float:
        """Mean power."""
        return self.energy_uj / (self.days * 86_400) if self.days else 0.0


def fit(trace: Trace) -> Costs:
    """What sessions of this trace cost. Sound also for a trace with few of them, or none."""
    columns = trace.columns
    rows = events = 0
    table: list[tuple[float, float, float]] = []
    sent: list[float] = []
    heard: list[float] = []
    talks: list[tuple[float, float]] = []
    failed: dict[int, list[float]] = {}
    held: list[tuple[int, int]] = []  # rows since the last session, bytes of the ring
    for at, session in enumerate(columns["session"]):
        rows += columns["rows"][at]
        events += columns["events"][at]
        if session == 0:
            held.append((rows, columns["ring_bytes"][at]))
        elif session > 0:
            table.append((1.0, rows, events))
            sent.append(columns["tx_bytes"][at])
            heard.append(columns["rx_bytes"][at])
            talks.append((columns["tx_bytes"][at], columns["radio_ms"][at] - abs(columns["link_ms"][at])))
            rows = events = 0
        else:
            failed.setdefault(columns["reach"][at], []).append(columns["radio_ms"][at] - abs(columns["link_ms"][at]))
    # Of what has not overflowed to flash: the ring is then empty, however many rows wait.
    fitting = [(n, size) for n, size in held if n and size]
    row_bytes = sum(n * size for n, size in fitting) / sum(n * n for n, _ in fitting) if fitting else 2.0
    return Costs(
        tx=_fit_bytes(table, sent, row_bytes),
        rx=float(np.mean(heard)) if heard else 60.0,
        talk_ms=_fit_talk(talks),
        row_bytes=row_bytes,
        failed_ms={reach: float(np.mean(times)) for reach, times in failed.items()},
    )


def _fit_bytes(
    table: Sequence[tuple[float, float, float]], sent: Sequence[float], row_bytes: float
) -> tuple[float, float, float]:
    """Bytes of a session = first + second * rows + third * events, by least squares pulled towards what is usual."""
    usual = np.array([250.0, row_bytes, float(_EVENT_BYTES)])
    if not table:
        return tuple(usual.tolist())  # type: ignore[return-value]
    scale = np.array([1.0, 0.05, 0.05])
    left = np.vstack([np.array(table), np.diag(1 / scale) * 0.1])
    right = np.concatenate([np.array(sent) - np.array(table) @ usual, np.zeros(3)])
    found = usual + np.linalg.lstsq(left, right, rcond=None)[0]
    return tuple(np.maximum(found, 0).tolist())  # type: ignore[return-value]


def _fit_talk(talks: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """ms = first + second * bytes sent."""
    if not talks:
        return 150.0, 0.02
    sizes, times = np.array(talks).T
    spread = float(np.var(sizes))
    slope = max(0.0, float(np.mean((sizes - sizes.mean()) * (times - times.mean()))) / spread) if spread > 100 else 0.02
    return max(0.0, float(times.mean() - slope * sizes.mean())), slope


def replay(trace: Trace, plan: Plan, costs: Costs | None = None) -> Replayed:
    """One policy over one trace; costs: of fit(), which is the same for each policy."""
    return _Replay(trace, plan, costs or fit(trace)).run()


class _Replay:
    """The state that the board keeps in RTC memory, as far as a policy looks at it."""

    def __init__(self, trace: Trace, plan: Plan, costs: Costs) -> None:
        self._trace = trace
        self._policy: Any = plan.module()
        self._settings = dict(trace.settings) | dict(plan.settings)
        self._costs = costs
        self.found = Replayed(
            plan.name, trace.board, trace.duration_ms / 86_400_000, reasons=Counter(), latencies_ms=[]
        )
        self._band = 0
        self._breaker = self._policy.NEW_BREAKER
        self._tokens = (0, 0)
        self._next_sync_ms = 0
        self._quality = 255
        self._session_ms = 0
        self._verdicts = 0
        self._urgent = False  # a window of this wake is asked about
        self._told: list[int] = []  # moments of the events that wait
        self._rows = 0.0  # that wait, in RTC memory and on flash
        self._ring_rows = 0.0
        self._draw: Callable[[], int] = int

    def _value(self, key: str) -> Any:
        return merge.value(self._settings, key)

    def run(self) -> Replayed:
        columns = self._trace.columns
        active_nj, radio_nj, sleep_nj, flash_nj, boot_nj = self._trace.rates
        found = self.found
        for at, at_ms in enumerate(columns["at_ms"]):
            self._measure(at, at_ms)
            self._route(at, at_ms + self._trace.cpu_ms)
            own_ms = columns["awake_ms"][at] - columns["radio_ms"][at]
            radio_ms = self._maybe_sync(at, at_ms + own_ms)
            found.radio_ms += radio_ms
            found.energy_uj += (
                boot_nj
                + own_ms * active_nj
                + radio_ms * radio_nj
                + max(0, columns["slept_ms"][at]) * sleep_nj
                + columns["flash_bytes"][at] * flash_nj
            ) / 1000
        found.held_rows = self._rows
        found.held_events = len(self._told)
        return found

    def _measure(self, at: int, at_ms: int) -> None:
        columns = self._trace.columns
        self._draw = draws(self._trace.seed, self._trace.board, at)
        if columns["cause"][at] == wire.WAKE_COLD:
            self._next_sync_ms, self._tokens, self._breaker = 0, (0, -(10**9)), self._policy.NEW_BREAKER
            self._band = 0
        self._band = self._policy.battery_band(columns["battery_mv"][at], self._band)
        if columns["cause"][at] in (wire.WAKE_PIN, wire.WAKE_TOUCH):
            self._next_sync_ms = at_ms
        self._told += [at_ms] * columns["events"][at]
        self._rows += columns["rows"][at]
        self._ring_rows += columns["rows"][at]
        if self._ring_rows * self._costs.row_bytes > _RING_BYTES:
            self._ring_rows = 0.0  # it went to flash
        room = _FLASH_BYTES / max(0.1, self._costs.row_bytes)
        if self._rows - self._ring_rows > room:
            self.found.dropped_rows += self._rows - self._ring_rows - room
            self._rows = room + self._ring_rows

    def _route(self, at: int, now_ms: int) -> None:
        """Who decides on the window of this wake, where the board has a model."""
        columns, policy = self._trace.columns, self._policy
        self._urgent = False
        if columns["route"][at] < 0:
            return
        score, threshold = columns["score"][at], columns["threshold"][at]
        self._verdicts = routing.remember(self._verdicts, score > threshold)
        route, why = columns["route"][at], columns["why"][at]
        if why != wire.WHY_NO_MODEL:
            route, why = routing.route(
                score,
                threshold,
                columns["margin"][at],
                self._verdicts,
                self._value("sensitive"),
                self._value("fog"),
                self._value("deadline_ms"),
                max(0, self._next_sync_ms - now_ms, self._breaker[2] - now_ms),
                self._band,
                self._session_ms,
                self._breaker[0] != policy.BREAKER_CLOSED,
            )
        self.found.routes[f"{wire.ROUTE_NAMES[route]}: {wire.WHY_NAMES[why]}"] += 1
        self._urgent = route in (wire.ROUTE_FOG, wire.ROUTE_CLOUD)

    def _maybe_sync(self, at: int, now_ms: int) -> float:
        """ms with the radio on in this wake."""
        policy, found = self._policy, self.found
        per_hour = self._value("syncs_per_hour")
        self._tokens = policy.refill(*self._tokens, now_ms, per_hour, per_hour)
        percent = int(self._ring_rows * self._costs.row_bytes * 100) // _RING_BYTES
        waits = len(self._told) + self._urgent
        why = policy.sync_reason(now_ms, self._next_sync_ms, waits, percent, self._band, self._breaker, self._tokens[0])
        if why == policy.SYNC_NONE:
            return 0.0
        found.reasons[policy.SYNC_NAMES[why]] += 1
        self._breaker = policy.breaker_after(self._breaker, policy.BEGIN, now_ms, self._draw())
        self._tokens = (max(0, self._tokens[0] - policy.MILLI), self._tokens[1])
        found.sessions += 1
        reach = self._trace.columns["reach"][at]
        link_ms = abs(self._trace.columns["link_ms"][at])
        worked = reach == REACH_CLOUD
        took_ms = link_ms + (self._talk() if worked else self._fail(reach))
        end_ms = now_ms + round(took_ms)
        happening = policy.SUCCESS if worked else policy.FAILURE
        self._breaker = policy.breaker_after(self._breaker, happening, end_ms, self._draw())
        if worked:
            self._quality += (255 - self._quality) // 8
            self._session_ms += (min(round(took_ms), 0xFFFF) - self._session_ms) // 4
            found.latencies_ms += [end_ms - told_ms for told_ms in self._told]
            self._told.clear()
            self._next_sync_ms = end_ms if self._send_rows() else self._schedule(end_ms)
        else:
            found.failed += 1
            self._quality -= self._quality // 8
        return took_ms

    def _schedule(self, now_ms: int) -> int:
        return self._policy.next_sync_ms(now_ms, self._value("sync_interval_ms"), self._band, self._draw())

    def _send_rows(self) -> bool:
        """Take what the session may carry from what waits; True when some is left."""
        frames = self._policy.frames_per_session(self._band, self._quality) - len(self._told)
        self._rows = max(0.0, self._rows - max(1, frames) * _ROWS_A_FRAME)
        self._ring_rows = min(self._ring_rows, self._rows)
        return self._rows > 0

    def _talk(self) -> float:
        """ms of a session that works, behind the association."""
        frames = self._policy.frames_per_session(self._band, self._quality)
        rows = min(self._rows, frames * _ROWS_A_FRAME)
        sent = self._costs.tx[0] + self._costs.tx[1] * rows + self._costs.tx[2] * len(self._told)
        self.found.bytes += sent + self._costs.rx
        return self._costs.talk_ms[0] + self._costs.talk_ms[1] * sent

    def _fail(self, reach: int) -> float:
        """ms of a session that fails, behind the association."""
        if reach in self._costs.failed_ms:
            return max(0.0, self._costs.failed_ms[reach])
        return {REACH_NO_WIFI: 0.0, REACH_REFUSED: float(_REFUSED_MS)}.get(reach, float(_NO_ANSWER_MS))


def draws(seed: int, board: str, wake: int) -> Callable[[], int]:
    """The random numbers that a board drew in a wake: virtual_board.py's random16(), begun by the same seed."""
    state = int(draw(seed, board, "draws", wake) * 2**31)

    def next_number() -> int:
        nonlocal state
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        return state >> 15 & 0xFFFF

    return next_number
