"""From what a board did under a policy to the figures of the report: pure, and small enough to be kept and compared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from contract import policy as decisions
from contract import wire
from tools.scenario.board import CLOCK_START_MS, Run
from tools.scenario.checks import DAY_MS
from tools.scenario.schema import Group, Scenario
from tools.scenario.signals import Played

STATES = ("active", "radio", "sleep", "flash")  # as device/ledger.py counts


@dataclass(frozen=True)
class Alert:
    """One injected anomaly and what the cloud knew of it.

    visible_ms: moment of the first sample that shows it. stored_ms: its alert was in the cloud (Edgewise: an EVENT; the
    naive uplink has no alerts, so: the first line with such a sample); None: never. measured_ms: the wake that told.
    """

    board: str
    kind: str
    channel: str
    visible_ms: int
    measured_ms: int | None
    stored_ms: int | None

    @property
    def latency_ms(self) -> int | None:
        """From visible to the sensor until stored in the cloud."""
        return None if self.stored_ms is None else self.stored_ms - self.visible_ms

    @property
    def from_wake_ms(self) -> int | None:
        """From the wake that measured it until stored in the cloud."""
        return None if self.stored_ms is None or self.measured_ms is None else self.stored_ms - self.measured_ms


@dataclass
class Records:
    """Of one stream. lost: made, and neither stored in the cloud nor given up on the record (dropped)."""

    made: int = 0
    stored: int = 0
    dropped: int = 0
    twice: int = 0
    """Stored more than once."""
    again: int = 0
    """Came more than once; the cloud kept one."""

    @property
    def lost(self) -> int:
        return max(0, self.made - self.stored - self.dropped)


@dataclass
class Result:
    """One board under one policy. energy_uj by STATES; alive_ms: how long its battery lasted within the scenario."""

    board: str
    policy: str
    alive_ms: int
    died: bool
    battery_left: float
    capacity_uj: float
    energy_uj: list[int]
    crash_energy_uj: float
    energy_by_day_uj: list[list[int]]
    battery_by_day: list[tuple[int, int]]
    """(moment, mV) once a day."""
    wakes: dict[str, int]
    crashes: dict[str, int]
    sessions: int
    failed_sessions: int
    awake_ms: int
    radio_ms: int
    tx_bytes: int
    rx_bytes: int
    bands: dict[str, int]
    sync_reasons: dict[str, int]
    routes: dict[str, int]
    """Wakes by decision and its reason."""
    records: dict[str, Records]
    alerts: list[Alert] = field(default_factory=list[Alert])
    false_alarms: int = 0
    set_aside: int = 0

    @property
    def total_uj(self) -> float:
        return sum(self.energy_uj) + self.crash_energy_uj

    @property
    def mean_uw(self) -> float:
        """Mean power."""
        return self.total_uj * 1000 / max(1, self.alive_ms)

    @property
    def life_days(self) -> float:
        """How long a full battery lasts at this mean power; endless without a battery."""
        return self.capacity_uj / max(1e-9, self.mean_uw) * 1000 / DAY_MS

    @property
    def lost(self) -> int:
        return sum(record.lost for record in self.records.values())

    @property
    def twice(self) -> int:
        return sum(record.twice for record in self.records.values())


def summarize(scenario: Scenario, group: Group, played: Played, run: Run) -> Result:
    """The figures of one run."""
    edgewise = not run.json_lines and not any("boot" in wake.found for wake in run.wakes[:1])
    by_day = [[0] * len(STATES) for _ in range(-(-scenario.duration_ms // DAY_MS))]
    battery: dict[int, tuple[int, int]] = {}
    bands: Counter[str] = Counter()
    routes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    totals = [0] * 6  # sessions, failures, tx, rx, awake, radio
    for wake in run.wakes:
        day = wake.at_ms // DAY_MS
        for state, spent in enumerate(wake.energy_uj):
            by_day[day][state] += spent
        battery.setdefault(day, (wake.at_ms, wake.battery_mv))
        found = wake.found
        for at, count in enumerate(found.get("session", ())[:4]):
            totals[at] += count
        totals[4] += found["spent"][0]
        totals[5] += found["spent"][1]
        if edgewise:
            bands[decisions.BAND_NAMES[found["band"]]] += 1
            if found.get("sync"):
                reasons[decisions.SYNC_NAMES[found["sync"]]] += 1
            if "verdict" in found:
                _, _, route, why, _ = found["verdict"]
                routes[f"{wire.ROUTE_NAMES[route]}: {wire.WHY_NAMES[why]}"] += 1
    alerts, false_alarms = (_alerts if edgewise else _arrivals)(group, played, run)
    return Result(
        board=run.board,
        policy=run.policy,
        alive_ms=scenario.duration_ms if run.died_ms is None else run.died_ms,
        died=run.died_ms is not None,
        battery_left=run.left,
        capacity_uj=run.capacity_uj,
        energy_uj=[sum(day[state] for day in by_day) for state in range(len(STATES))],
        crash_energy_uj=run.crash_energy_uj,
        energy_by_day_uj=by_day,
        battery_by_day=list(battery.values()),
        wakes=_named(Counter(wire.WAKE_NAMES[wake.cause] for wake in run.wakes)),
        crashes=_named(Counter(kind for _, kind in run.crashes)),
        sessions=totals[0],
        failed_sessions=totals[1],
        awake_ms=totals[4],
        radio_ms=totals[5],
        tx_bytes=totals[2],
        rx_bytes=totals[3],
        bands=_named(bands),
        sync_reasons=_named(reasons),
        routes=_named(routes),
        records=_records(run) if edgewise else _lines(run),
        alerts=alerts,
        false_alarms=false_alarms,
        set_aside=run.stored.set_aside,
    )


def as_json(result: Result) -> dict[str, Any]:
    """Everything, with what follows from it."""
    found = asdict(result)
    found |= {"mean_uw": result.mean_uw, "life_days": result.life_days if result.capacity_uj < 1e300 else None}
    found["capacity_uj"] = result.capacity_uj if result.capacity_uj < 1e300 else None
    for name, record in result.records.items():
        found["records"][name]["lost"] = record.lost
    for told, alert in zip(found["alerts"], result.alerts, strict=True):
        told |= {"latency_ms": alert.latency_ms, "from_wake_ms": alert.from_wake_ms}
    return found


def _named(counts: Counter[str]) -> dict[str, int]:
    return dict(counts.most_common())


def _records(run: Run) -> dict[str, Records]:
    """Made by the board's own numbers, stored by the cloud's books."""
    records: dict[str, Records] = {}
    for rank, name in enumerate(wire.STREAM_NAMES):
        received, dropped, set_aside, again = run.stored.by_stream.get(name, [0, 0, 0, 0])
        made = sum(numbers[rank] for numbers in run.made.values())
        records[name] = Records(made, received, dropped + set_aside, 0, again)
    distinct = {"event": len({(epoch, t_ms, kind) for epoch, t_ms, kind, _ in run.stored.events})}
    records["event"].twice = len(run.stored.events) - distinct["event"]
    starts: dict[int, set[int]] = {}
    for epoch, t0_ms, _, _, _ in run.stored.readings:
        held = starts.setdefault(epoch, set())
        records["reading"].twice += t0_ms in held
        held.add(t0_ms)
    return records


def _lines(run: Run) -> dict[str, Records]:
    made = sum(numbers[0] for numbers in run.made.values())
    return {"line": Records(made, len(run.json_lines), 0, 0, run.json_again)}


def _alerts(group: Group, played: Played, run: Run) -> tuple[list[Alert], int]:
    """The EVENTs of the cloud, each matched with the anomaly that was there when it was told."""
    told = [
        (run.epochs[epoch] + t_ms, stored_ms)
        for epoch, t_ms, kind, stored_ms in run.stored.events
        if kind == wire.EVENT_ANOMALY and epoch in run.epochs
    ]
    wakes = sorted(wake.at_ms for wake in run.wakes)
    alerts: list[Alert] = []
    matched: set[int] = set()
    for anomaly in played.anomalies:
        visible_ms, gone_ms = anomaly.first * group.sample_ms, anomaly.last * group.sample_ms + 2 * group.interval_ms
        hits = [at for at, (moment, _) in enumerate(told) if visible_ms <= moment <= gone_ms]
        matched.update(hits)
        first = min(hits, key=lambda at: told[at][1], default=None)
        measured_ms = stored_ms = None
        if first is not None:
            moment, stored_ms = told[first]
            measured_ms = _last_before(wakes, moment)
        alerts.append(Alert(run.board, anomaly.kind, anomaly.channel, visible_ms, measured_ms, stored_ms))
    return alerts, len(told) - len(matched)


def _arrivals(group: Group, played: Played, run: Run) -> tuple[list[Alert], int]:
    """For the naive uplink: when the first line with a sample of the anomaly came."""
    lines = sorted(
        (run.epochs[boot] + t - CLOCK_START_MS, stored_ms)
        for (boot, t), stored_ms in run.json_lines.items()
        if boot in run.epochs
    )
    alerts: list[Alert] = []
    for anomaly in played.anomalies:
        visible_ms, gone_ms = anomaly.first * group.sample_ms, anomaly.last * group.sample_ms + group.interval_ms
        line = next((line for line in lines if visible_ms <= line[0] <= gone_ms), (None, None))
        alerts.append(Alert(run.board, anomaly.kind, anomaly.channel, visible_ms, *line))
    return alerts, 0


def _last_before(moments: Sequence[int], moment: int) -> int | None:
    return next((at for at in reversed(moments) if at <= moment), None)
