"""A trace made of what a real board has told the cloud, so that a policy can be replayed over its life.

The cloud knows less than the simulator. HEALTH sums up the wakes, times, energy and sessions of a period; readings and
events have their times, and when they came tells in which wakes a session worked. So here the wakes of a period are
spread evenly over it, each with its share of time and energy; sessions are where something came, and those that failed
are spread over the wakes without. What no record tells is left out: verdicts of windows (a replay then routes nothing),
random numbers, and what the air was like in wakes that tried nothing, for which it is taken as around them.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from contract import merge, wire
from tools.scenario import trace
from tools.scenario.trace import Trace, TraceError
from tools.scenario.world import REACH_BREAKS, REACH_CLOUD, REACH_NO_WIFI, REACH_REFUSED, REACH_SILENT

_ONE_SESSION_MS = 10_000  # what comes within it came in one session
_TALK_MS = 150  # of a session with the radio on, behind the association: what replay.py takes where it can fit nothing
_LINK_MS = 600  # of an association, where no report tells of any
_RING_BYTES = 1536
# What stopped a session, by the fault that HEALTH counts for it. A radio that came up gets at least to a refusal.
_REACH = {
    wire.FAULT_RADIO: REACH_NO_WIFI,
    wire.FAULT_NAME: REACH_REFUSED,
    wire.FAULT_CONNECT: REACH_REFUSED,
    wire.FAULT_LOGIN: REACH_REFUSED,
    wire.FAULT_TIMEOUT: REACH_SILENT,
    wire.FAULT_CLOSED: REACH_BREAKS,
}

History = Mapping[str, Any]
"""The JSON of cloud.devices.history.History."""


def build(history: History, from_ms: int, to_ms: int) -> Trace:
    """The trace of a board from one moment to another, Unix ms. Raises TraceError where no wake is known."""
    return _Builder(history, from_ms, to_ms).build()


class _Builder:
    """wakes and period: of each wake its moment and the number of its health report."""

    def __init__(self, history: History, from_ms: int, to_ms: int) -> None:
        self._history = history
        self._from_ms = from_ms
        self._duration_ms = to_ms - from_ms
        self._reports: list[Mapping[str, Any]] = history["health"]
        self._wakes: list[int] = []
        self._period: list[int] = []
        self._firsts: list[int] = []
        self._columns: dict[str, list[Any]] = {}

    def build(self) -> Trace:
        self._spread_wakes()
        count = len(self._wakes)
        if not count:
            raise TraceError(
                f"{self._history['device']}: no health report of that time tells of wakes: ask for a longer time"
            )
        usual = {"route": -1, "reach": REACH_CLOUD}
        self._columns = {name: [usual.get(name, 0)] * count for name in trace.COLUMNS}
        rates = self._rates()
        self._share(rates)
        self._place_records()
        self._place_sessions(rates[1])
        given = self._history["settings"]
        return Trace(
            board=self._history["device"],
            policy="recorded",
            interval_ms=merge.value(given, "interval_ms"),
            duration_ms=self._duration_ms,
            seed=0,
            cpu_ms=max(1, sum(self._columns["awake_ms"]) // count),
            settings=trace.settings(given),
            rates=rates,
            columns=self._columns,
        )

    def _spread_wakes(self) -> None:
        """The moments of all wakes. The last wake of a period is the one that wrote its report."""
        before_ms = -1
        for number, report in enumerate(self._reports):
            end_ms = report["at_ms"] - self._from_ms
            begin_ms = max(before_ms, end_ms - report["period_ms"])
            wakes = max(0, min(report["wakes"], end_ms - begin_ms))
            if len(self._wakes) + wakes > trace.MAX_WAKES:
                raise TraceError(
                    f"{self._history['device']}: more than {trace.MAX_WAKES} wakes: ask for a shorter time"
                )
            self._firsts.append(len(self._wakes))
            for nth in range(1, wakes + 1):
                self._wakes.append(begin_ms + (end_ms - begin_ms) * nth // wakes)
                self._period.append(number)
            before_ms = max(before_ms, end_ms)

    def _rates(self) -> list[float]:
        """As trace.Trace.rates, from the sums of all reports. What a boot takes is part of the time awake; what goes to
        flash is charged by the wake, as if each wrote one byte."""
        reports = self._reports
        radio_ms = sum(report["radio"]["ms"] for report in reports)
        awake_ms = sum(report["awake_ms"] for report in reports)
        asleep_ms = sum(report["period_ms"] for report in reports) - awake_ms
        by = {"active": awake_ms - radio_ms, "radio": radio_ms, "sleep": asleep_ms, "flash": len(self._wakes)}
        spent = {state: sum(report["energy_uj"][state] for report in reports) for state in by}
        return [*(1000 * spent[state] / max(1, amount) for state, amount in by.items()), 0.0]

    def _share(self, rates: Sequence[float]) -> None:
        """What each wake has of its period's time, energy and state; sessions come later."""
        columns = self._columns
        epoch = None
        for at, number in enumerate(self._period):
            report = self._reports[number]
            own_ms = max(0, report["awake_ms"] - report["radio"]["ms"]) // max(1, report["wakes"])
            slept_ms = max(0, report["period_ms"] - report["awake_ms"]) // max(1, report["wakes"])
            columns["at_ms"][at] = self._wakes[at]
            columns["cause"][at] = wire.WAKE_TIMER if report["epoch"] == epoch else wire.WAKE_COLD
            epoch = report["epoch"]
            columns["awake_ms"][at] = own_ms
            columns["slept_ms"][at] = slept_ms
            columns["flash_bytes"][at] = 1
            columns["battery_mv"][at] = report["battery_mv"]
            columns["rssi"][at] = report["rssi_dbm"]
            columns["energy_uj"][at] = round((own_ms * rates[0] + slept_ms * rates[2] + rates[3]) / 1000)

    def _nearest(self, moment_ms: float) -> int:
        """The wake nearest to a moment."""
        after = min(bisect_left(self._wakes, moment_ms), len(self._wakes) - 1)
        if after and moment_ms - self._wakes[after - 1] < self._wakes[after] - moment_ms:
            return after - 1
        return after

    def _place_records(self) -> None:
        """Samples and events in the wakes that made them."""
        for batch in self._history["batches"]:
            first_ms, rows = batch["first_ms"] - self._from_ms, batch["rows"]
            step_ms = (batch["last_ms"] - batch["first_ms"]) / max(1, rows - 1)
            for row in range(rows):
                at = min(bisect_left(self._wakes, first_ms + row * step_ms - 1000), len(self._wakes) - 1)
                self._columns["rows"][at] += 1
        for event in self._history["events"]:
            self._columns["events"][self._nearest(event["at_ms"] - self._from_ms)] += 1

    def _place_sessions(self, radio_nj: float) -> None:
        columns, history = self._columns, self._history
        came = [one["received_ms"] for one in (*history["batches"], *history["events"])]
        before_ms = -_ONE_SESSION_MS
        for moment_ms in sorted([*came, *history["health_received_ms"]]):
            if moment_ms - before_ms >= _ONE_SESSION_MS and 0 <= moment_ms - self._from_ms <= self._duration_ms:
                columns["session"][self._nearest(moment_ms - self._from_ms)] = 1
            before_ms = moment_ms
        for number, report in enumerate(self._reports):
            self._charge(report, self._told_by(number), radio_nj)
        self._join_failures()
        batches = history["batches"]
        row_bytes = sum(batch["bytes"] for batch in batches) / max(1, sum(batch["rows"] for batch in batches))
        waiting = 0
        for at, session in enumerate(columns["session"]):
            waiting = 0 if session > 0 else waiting + columns["rows"][at]
            columns["ring_bytes"][at] = min(_RING_BYTES, round(waiting * row_bytes))

    def _join_failures(self) -> None:
        """Between two sessions that failed, and none that worked between them, no session would have worked."""
        columns = self._columns
        failed = None
        for at, session in enumerate(columns["session"]):
            if session < 0:
                for between in range(at if failed is None else failed + 1, at):
                    columns["reach"][between] = columns["reach"][at]
                    columns["link_ms"][between] = columns["link_ms"][at]
                failed = at
            elif session > 0:
                failed = None

    def _told_by(self, number: int) -> range:
        """The wakes whose sessions a report counts: from the one that wrote the report before, to before its own."""
        begin = self._firsts[number]
        end = self._firsts[number + 1] if number + 1 < len(self._firsts) else len(self._wakes)
        return range(max(0, begin - 1), max(0, end - 1) if end > begin else begin)

    def _lasting(self, radio: Mapping[str, int]) -> tuple[int, int]:
        """ms with the radio on of a session that worked and of one that failed, in a report."""
        worked, failures = max(0, radio["sessions"] - radio["failures"]), radio["failures"]
        if not failures:
            return radio["ms"] // max(1, worked), 0
        clean = [report["radio"] for report in self._reports if not report["radio"]["failures"]]
        usual_ms = sum(one["ms"] for one in clean) // max(1, sum(one["sessions"] for one in clean))
        worked_ms = min(usual_ms, radio["ms"] // max(1, radio["sessions"]))
        return worked_ms, (radio["ms"] - worked * worked_ms) // failures

    def _charge(self, report: Mapping[str, Any], wakes: range, radio_nj: float) -> None:
        """Spread the sessions that a report counts over these wakes."""
        columns, radio = self._columns, report["radio"]
        worked_ms, failed_ms = self._lasting(radio)
        errors = {wire.FAULT_NAMES.index(name): count for name, count in report["errors"].items() if name in _NAMES}
        reach = _REACH[max(errors, key=lambda fault: errors[fault])] if errors else REACH_SILENT
        free = [at for at in wakes if columns["session"][at] == 0]
        failures = min(radio["failures"], len(free))
        failed = {free[nth * len(free) // failures] for nth in range(failures)}
        for at in wakes:
            columns["link_ms"][at] = max(0, worked_ms - _TALK_MS) if radio["sessions"] else _LINK_MS
            if at in failed:
                columns["session"][at] = -1
                columns["reach"][at] = reach
                columns["link_ms"][at] = -failed_ms if reach == REACH_NO_WIFI else columns["link_ms"][at]
            if columns["session"][at]:
                took_ms = failed_ms if at in failed else worked_ms
                columns["radio_ms"][at] = took_ms
                columns["awake_ms"][at] += took_ms
                columns["tx_bytes"][at] = radio["tx_bytes"] // max(1, radio["sessions"])
                columns["rx_bytes"][at] = radio["rx_bytes"] // max(1, radio["sessions"])
                columns["energy_uj"][at] += round(took_ms * radio_nj / 1000)


_NAMES = {wire.FAULT_NAMES[fault] for fault in _REACH}
