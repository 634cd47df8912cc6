"""A policy to be replayed: settings of a board, and other numbers in the tables of contract/policy.py.

The decisions stay the firmware's own: the functions of contract/policy.py run over a copy of that module in which some
of its numbers are changed. A file has one [[policy]] for each, in TOML:

    [[policy]]
    name = "every four hours"
    settings = { sync_interval_ms = "4h" }       # keys of contract/merge.py
    lower_bound_mv = [3300, 3500, 3700]          # of the bands low, fair and full
    open_after = 3                               # failures in a row that open the circuit breaker
    first_backoff = "4s"
    max_backoff = "4h"
    [policy.bands.low]                           # of each band what is to be different
    interval_factor = 4                          # scheduled sessions wait so many times as long
    ring_percent = 95                            # how full the ring gets before a session is worth it
    frames = 24                                  # of one session
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from contract import policy as contract_policy
from tools.scenario.checks import (
    ScenarioError,
    Table,
    anything,
    read_toml,
    settings_table,
    tables,
    text,
    time_ms,
    whole,
)

BUNDLED = Path(__file__).parent / "bundled" / "policies"
_BAND_PARTS = ("interval_factor", "ring_percent", "frames")


@dataclass(frozen=True)
class Plan:
    """One policy. settings: over those of the trace; numbers: what is changed in contract/policy.py, by its name."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    numbers: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def module(self) -> Any:
        """contract/policy.py with these numbers."""
        spec = importlib.util.find_spec("contract.policy")
        assert spec is not None and spec.loader is not None  # noqa: PT018 - this file imports it
        module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, value in self.numbers.items():
            setattr(module, name, value)
        return module


DEFAULT = Plan("as recorded")


def load(source: str | Path) -> list[Plan]:
    """The policies in a file, or in the bundled one of that name. Raises ScenarioError."""
    return parse(read_toml(source, BUNDLED)[0])


def parse(given: Mapping[str, Any]) -> list[Plan]:
    """The policies of a file's tables. Raises ScenarioError naming the key at fault."""
    top = Table(dict(given), "")
    plans = [_plan(table) for table in top.take("policy", tables)]
    top.done()
    names = [DEFAULT.name, *(plan.name for plan in plans)]
    for name in names:
        if names.count(name) > 1:
            raise ScenarioError(f"policy.name {name!r} is used twice: each policy needs its own")
    return plans


def _plan(table: Table) -> Plan:
    name = table.take("name", text)
    settings = table.take("settings", settings_table, {})
    numbers: dict[str, Any] = {}
    if (bounds := table.take("lower_bound_mv", _bounds, None)) is not None:
        numbers["_LOWER_BOUND_MV"] = (0, *bounds)
    if (after := table.take("open_after", whole(1, 255), None)) is not None:
        numbers["_OPEN_AFTER"] = after
    for key, number in (("first_backoff", "_FIRST_BACKOFF_MS"), ("max_backoff", "_MAX_BACKOFF_MS")):
        if (ms := table.take(key, time_ms, None)) is not None:
            if not 1000 <= ms <= 86_400_000:
                raise ScenarioError(f'{table.key(key)} must be "1s" to "1d", is {ms} ms')
            numbers[number] = ms
    bands = table.take("bands", anything, None)
    if bands is not None:
        numbers["BANDS"] = _bands(Table(bands, table.key("bands")))
    table.done()
    return Plan(name, settings, numbers)


def _bands(table: Table) -> tuple[tuple[int, ...], ...]:
    found: list[tuple[int, ...]] = []
    for name, usual in zip(contract_policy.BAND_NAMES, contract_policy.BANDS, strict=True):
        given = Table(table.take(name, anything, {}), table.key(name))
        limits = (whole(1, 1000), whole(1, 100), whole(1, 255))
        found.append(
            tuple(given.take(part, check, value) for part, check, value in zip(_BAND_PARTS, limits, usual, strict=True))
        )
        given.done()
    table.done()
    return tuple(found)


def _bounds(given: Any, key: str) -> tuple[int, ...]:
    check = whole(1, 100_000)
    if not isinstance(given, list) or len(given) != 3:
        raise ScenarioError(f"{key} must be [low, fair, full] in mV, is {given!r}")
    bounds = tuple(check(value, key) for value in given)
    if list(bounds) != sorted(set(bounds)):
        raise ScenarioError(f"{key} must rise from low to full, is {given!r}")
    return bounds
