"""What a scenario leaves behind: report.html with its charts, and report.json with every figure."""

import base64
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tools.scenario import charts
from tools.scenario.checks import DAY_MS
from tools.scenario.results import STATES, Alert, Result, as_json
from tools.scenario.run import Outcome


@dataclass(frozen=True)
class Summary:
    """One policy, all boards together. Lives, power and shares are means over the boards; counts are sums."""

    policy: str
    life_days: float | None
    """None for boards on mains."""
    mean_uw: float
    by_state_uw: dict[str, float]
    sessions_a_day: float
    bytes_a_day: float
    made: int
    stored: int
    dropped: int
    lost: int
    twice: int
    alerts: int
    missed: int
    false_alarms: int
    median_ms: int | None
    worst_ms: int | None
    died: int
    times_first: float | None
    """Battery life in those of the first policy."""


def summaries(outcome: Outcome) -> list[Summary]:
    """Policy by policy, in the order of the scenario."""
    found: list[Summary] = []
    for policy, results in outcome.results.items():
        days = sum(result.alive_ms for result in results) / DAY_MS
        alerts = [alert for result in results for alert in result.alerts]
        latencies = sorted(alert.latency_ms for alert in alerts if alert.latency_ms is not None)
        records = [record for result in results for record in result.records.values()]
        lives = [result.life_days for result in results if isfinite(result.life_days)]
        life_days = _mean(lives) if lives else None
        first_days = found[0].life_days if found else life_days
        found.append(
            Summary(
                policy=policy,
                life_days=life_days,
                mean_uw=_mean(result.mean_uw for result in results),
                by_state_uw={
                    state: _mean(result.energy_uj[at] * 1000 / result.alive_ms for result in results)
                    for at, state in enumerate(STATES)
                },
                sessions_a_day=sum(result.sessions for result in results) / days,
                bytes_a_day=sum(result.tx_bytes + result.rx_bytes for result in results) / days,
                made=sum(record.made for record in records),
                stored=sum(record.stored for record in records),
                dropped=sum(record.dropped for record in records),
                lost=sum(record.lost for record in records),
                twice=sum(record.twice for record in records),
                alerts=len(latencies),
                missed=len(alerts) - len(latencies),
                false_alarms=sum(result.false_alarms for result in results),
                median_ms=latencies[len(latencies) // 2] if latencies else None,
                worst_ms=latencies[-1] if latencies else None,
                died=sum(result.died for result in results),
                times_first=life_days / first_days if life_days and first_days else None,
            )
        )
    return found


def write(outcome: Outcome, folder: Path) -> Path:
    """Writes report.html, report.json and *.png into the folder; returns the path of the page. Raises ModelError."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = charts.write_all(outcome, folder)
    environment = Environment(loader=PackageLoader("tools.scenario"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html").render(
        scenario=outcome.scenario,
        outcome=outcome,
        summaries=summaries(outcome),
        states=STATES,
        charts={name: base64.b64encode(data).decode() for name, data in drawn.items()},
        totals=totals,
        seconds=seconds,
        rounded=rounded,
        isfinite=isfinite,
        boards=len(outcome.scenario.boards),
        days=outcome.scenario.duration_ms / DAY_MS,
        day_ms=DAY_MS,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(as_data(outcome), indent=1) + "\n", encoding="utf-8")
    return path


def as_data(outcome: Outcome) -> dict[str, Any]:
    """The report as JSON data: the comparison, then every board under every policy."""
    return {
        "scenario": outcome.scenario.name,
        "days": outcome.scenario.duration_ms / DAY_MS,
        "boards": len(outcome.scenario.boards),
        "cpu_s": round(outcome.cpu_s, 1),
        "wall_s": round(outcome.wall_s, 1),
        "jobs": outcome.jobs,
        "policies": [vars(summary) for summary in summaries(outcome)],
        "results": [as_json(result) for result in charts.results_of(outcome)],
    }


def totals(results: Iterable[Result], name: str) -> dict[str, int]:
    """One of a Result's tables of counts, summed over the boards, the most frequent first."""
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(getattr(result, name))
    return dict(counts.most_common())


def seconds(alert: Alert) -> str:
    """The latency of an alert, for people."""
    return "never" if alert.latency_ms is None else f"{alert.latency_ms / 1000:.1f}"


def rounded(value: float | None, digits: int = 0) -> str:
    """A number for people, "-" where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / max(1, len(found))
