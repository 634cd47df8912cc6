"""How much the evaluation's settings owe to the files they were chosen on: each file judged by the other files' choice.

Scores are scikit-learn's (`evaluate.reference`); export proves the compiled model equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from model_export import evaluate
from model_export import evaluate_recipe as recipe
from model_export.evaluate_data import Recording
from model_export.evaluate_measures import Confusion, Episodes

SKAB_SPREADS = (8.0, 10.0, 12.0, 14.0, 17.0, 20.0, 25.0)
NAB_SPREADS = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 12.0)
# What a setting is chosen for; a little below the aim, so that the choice does not sit on its edge.
_MOST_FALSE = {recipe.BALANCED.name: 0.18, recipe.LOW_ALARM.name: 0.11}


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """by_setting: the pooled outcome of every setting; chosen: the setting the others choose for each file; left_out:
    the pooled outcome of judging each file by it. Outcomes are Confusion or Episodes."""

    by_setting: dict[float, Any]
    chosen: dict[str, float]
    left_out: Any


def skab(recordings: list[Recording], setting: str) -> Sensitivity:
    """For one of the two SKAB settings, by name."""

    def outcome(recording: Recording, spreads: float) -> Confusion:
        return evaluate.skab(recording, recipe.Setting(setting, spreads), evaluate.reference).counts

    def worth(pooled: Confusion) -> float:
        return pooled.f1 if pooled.far <= _MOST_FALSE[setting] else -pooled.far

    return _leave_one_out(recordings, SKAB_SPREADS, outcome, worth)


def nab(recordings: list[Recording]) -> Sensitivity:
    """For the Numenta series, the first model kept for ever."""

    def outcome(recording: Recording, spreads: float) -> Episodes:
        return evaluate.nab(recording, recipe.Setting(recipe.NAB_SETTING.name, spreads), evaluate.reference).frozen

    def worth(pooled: Episodes) -> float:
        return pooled.hit - pooled.false / 2

    return _leave_one_out(recordings, NAB_SPREADS, outcome, worth)


def _leave_one_out(
    recordings: list[Recording],
    settings: Sequence[float],
    outcome: Callable[[Recording, float], Any],
    worth: Callable[[Any], float],
) -> Sensitivity:
    # Setting after setting on one recording, whose features are then computed once.
    found = {recording.name: {setting: outcome(recording, setting) for setting in settings} for recording in recordings}
    table = {setting: {name: row[setting] for name, row in found.items()} for setting in settings}
    chosen = {}
    for left_out in recordings:
        others = {
            setting: reduce(add, [counts for name, counts in row.items() if name != left_out.name])
            for setting, row in table.items()
        }
        chosen[left_out.name] = max(others, key=lambda setting: worth(others[setting]))
    return Sensitivity(
        {setting: reduce(add, row.values()) for setting, row in table.items()},
        chosen,
        reduce(add, [table[setting][name] for name, setting in chosen.items()]),
    )
