"""The charts of a scenario's report."""

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from model_export.charts import new_figure, png
from tools.scenario.checks import DAY_MS
from tools.scenario.results import STATES, Result
from tools.scenario.run import Outcome

_COLORS = {"active": "C0", "radio": "C3", "sleep": "0.6", "flash": "C2"}


def write_all(outcome: Outcome, folder: Path) -> dict[str, bytes]:
    """Writes each chart as NAME.png and returns them by name."""
    drawn = {
        "power": png(power(outcome)),
        "battery": png(battery(outcome)),
        "alerts": png(alerts(outcome)),
    }
    for name, data in drawn.items():
        (folder / f"{name}.png").write_bytes(data)
    return drawn


def power(outcome: Outcome) -> Any:
    """Mean power by state, and the battery life that follows, policy by policy."""
    figure, axes = new_figure(columns=2)
    names = list(outcome.results)
    at = np.arange(len(names))
    below = np.zeros(len(names))
    for number, state in enumerate(STATES):
        height = np.array(
            [_mean([r.energy_uj[number] * 1000 / r.alive_ms for r in rs]) for rs in outcome.results.values()]
        )
        axes[0].bar(at, height, bottom=below, color=_COLORS[state], label=state)
        below += height
    axes[0].set(ylabel="mean power, µW", xticks=at, xticklabels=names)
    axes[0].legend()
    lives = [_mean([r.life_days for r in rs if isfinite(r.life_days)]) for rs in outcome.results.values()]
    bars = axes[1].bar(at, lives, color="C0")
    axes[1].bar_label(bars, [f"{life:.0f}" for life in lives])
    axes[1].set(ylabel="battery life, days", xticks=at, xticklabels=names)
    return figure


def battery(outcome: Outcome) -> Any:
    """Voltage day by day of every board; a line that ends early is a board that died."""
    figure, axis = new_figure()
    for number, (name, results) in enumerate(outcome.results.items()):
        for result in results:
            days = [moment / DAY_MS for moment, _ in result.battery_by_day]
            label = name if result is results[0] else None
            axis.plot(days, [mv for _, mv in result.battery_by_day], color=f"C{number}", label=label)
    axis.set(xlabel="days", ylabel="battery, mV")
    axis.legend()
    return figure


def alerts(outcome: Outcome) -> Any:
    """How long after it was visible to the sensor each anomaly was known in the cloud."""
    figure, axis = new_figure()
    for number, results in enumerate(outcome.results.values()):
        found = [
            alert.latency_ms / 1000 for result in results for alert in result.alerts if alert.latency_ms is not None
        ]
        axis.plot(found, np.full(len(found), number), "|", markersize=14, color=f"C{number}")
    names = list(outcome.results)
    axis.axvline(2, color="0.7", linewidth=1)
    axis.set(xscale="log", xlabel="s from visible to stored in the cloud", yticks=range(len(names)), yticklabels=names)
    axis.set_ylim(-0.5, len(names) - 0.5)
    return figure


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def results_of(outcome: Outcome) -> list[Result]:
    """Every result, policy by policy."""
    return [result for results in outcome.results.values() for result in results]
