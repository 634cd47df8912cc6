"""Reading scenario and policy files: TOML, then checks of single keys, which each take what TOML gave and the key and
say what to write instead."""

import re
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from contract import merge, wire

DAY_MS = 86_400_000
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"
_TIME = re.compile(f"(?:{_PART})+")


class ScenarioError(ValueError):
    """A scenario that cannot be run; the message names the key, what is wrong with it and what to write."""


def read_toml(source: str | Path, bundled: Path) -> tuple[dict[str, Any], Path]:
    """(the tables, the folder) of a file, or of the one in `bundled` that is called so. Raises ScenarioError."""
    path = Path(source)
    if not path.suffix and (bundled / f"{source}.toml").is_file():
        path = bundled / f"{source}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path.parent
    except OSError as error:
        names = ", ".join(sorted(file.stem for file in bundled.glob("*.toml")))
        raise ScenarioError(f"{source}: {error.strerror}. Give a TOML file, or one of these: {names}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{source} is not TOML: {error}. docs/simulate.md shows one") from None


class Table:
    """One table of the file: take() each key, then done() refuses what is left."""

    def __init__(self, given: Any, where: str) -> None:
        if not isinstance(given, dict):
            raise ScenarioError(f"{where}: must be a table ([{where}]), is {given!r}")
        self._left: dict[str, Any] = dict(given)
        self._known: list[str] = []
        self.where = where

    def key(self, name: str) -> str:
        """The name of a key in the whole file, for messages."""
        return f"{self.where}.{name}" if self.where else name

    def take(self, name: str, check: Callable[[Any, str], Any], default: Any = ...) -> Any:
        self._known.append(name)
        if name not in self._left:
            if default is ...:
                raise ScenarioError(f"{self.key(name)} is missing: docs/simulate.md shows what it takes")
            return default
        return check(self._left.pop(name), self.key(name))

    def done(self) -> None:
        for name in self._left:
            raise ScenarioError(f"{self.key(name)} is not a key here: use one of {', '.join(self._known)}")


def text(given: Any, key: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise ScenarioError(f"{key} must be text, is {given!r}")
    return given


def time_ms(given: Any, key: str) -> int:
    """Milliseconds of "90s", of "1d12h" or of a whole number."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    if not isinstance(given, str) or not _TIME.fullmatch(given):
        raise ScenarioError(f'{key} must be a time such as "90s", "15m", "2h" or "1d12h", is {given!r}')
    return round(sum(float(amount) * _UNITS[unit] for amount, unit in re.findall(_PART, given)))


def number(low: float, high: float) -> Callable[[Any, str], float]:
    def check(given: Any, key: str) -> float:
        if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
            raise ScenarioError(f"{key} must be a number of {low:g} to {high:g}, is {given!r}")
        return float(given)

    return check


def whole(low: int, high: int) -> Callable[[Any, str], int]:
    def check(given: Any, key: str) -> int:
        if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
            raise ScenarioError(f"{key} must be a whole number of {low} to {high}, is {given!r}")
        return given

    return check


def one_of(names: tuple[str, ...] | list[str]) -> Callable[[Any, str], str]:
    def check(given: Any, key: str) -> str:
        if given not in names:
            raise ScenarioError(f"{key} must be one of {', '.join(names)}, is {given!r}")
        return str(given)

    return check


def anything(given: Any, _key: str) -> Any:
    return given


def tables(given: Any, key: str) -> list[Table]:
    if not isinstance(given, list) or not given:
        raise ScenarioError(f"{key} must be a list of tables: write [[{key}]]")
    return [Table(one, key) for one in given]


def tables_of(where: str) -> Callable[[Any, str], list[Table]]:
    return lambda given, _key: tables(given, where)


def texts(given: Any, key: str) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise ScenarioError(f"{key} must be a list of texts, is {given!r}")
    return tuple(text(one, key) for one in given)


def boards_of(group: str) -> Callable[[Any, str], tuple[str, ...]]:
    def check(given: Any, key: str) -> tuple[str, ...]:
        names = (
            tuple(f"{group}-{n}" for n in range(1, given + 1))
            if isinstance(given, int) and 0 < given <= 1000
            else texts(given, key)
        )
        for name in names:
            if not wire.valid_device_id(name):
                raise ScenarioError(f"{key}: {name!r} must be 1 to {wire.MAX_DEVICE_ID} of a-z, 0-9 and -")
        return names

    return check


def some_of(boards: tuple[str, ...]) -> Callable[[Any, str], tuple[str, ...]]:
    def check(given: Any, key: str) -> tuple[str, ...]:
        return tuple(one_of(boards)(name, key) for name in texts(given, key))

    return check


def settings_table(given: Any, key: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ScenarioError(f"{key} must be a table, is {given!r}")
    settings = {
        name: time_ms(value, f"{key}.{name}") if name.endswith("_ms") else value for name, value in given.items()
    }
    if "interval_ms" in settings:
        raise ScenarioError(f"{key}.interval_ms is not set here: it is a window of samples, set sample")
    for name, cause in merge.check(settings):
        known = f": use one of {', '.join(merge.KEYS)}" if name not in merge.KEYS else ""
        raise ScenarioError(f"{key}.{name}: {cause}{known}")
    return settings


def limits_of(names: list[str]) -> Callable[[Any, str], dict[str, tuple[int, int]]]:
    def check(given: Any, key: str) -> dict[str, tuple[int, int]]:
        if not isinstance(given, dict):
            raise ScenarioError(f"{key} must be a table of feature = [low, high], is {given!r}")
        for name, pair in given.items():
            one_of(names)(name, key)
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(value, int) for value in pair):
                raise ScenarioError(f"{key}.{name} must be [low, high], whole counts of the feature, is {pair!r}")
        return {name: (pair[0], pair[1]) for name, pair in given.items()}

    return check


def curve(low: float, high: float) -> Callable[[Any, str], tuple[tuple[float, float], ...]]:
    """Points (x, y) with x falling from point to point."""

    def check(given: Any, key: str) -> tuple[tuple[float, float], ...]:
        try:
            points = tuple((float(x), float(y)) for x, y in given)
        except (TypeError, ValueError):
            points = ()
        falls = all(before[0] > after[0] for before, after in pairwise(points))
        if not points or not falls or not all(low <= x <= high for x, _ in points):
            raise ScenarioError(f"{key} must be [[x, y], ...], x falling within {low:g} to {high:g}, is {given!r}")
        return points

    return check


def steps(given: Any, key: str) -> tuple[tuple[int, int], ...]:
    """(moment, dBm) in order of time; a single number holds all the time."""
    if isinstance(given, int):
        given = [[0, given]]
    try:
        steps = tuple((time_ms(moment, key), whole(-120, 0)(dbm, key)) for moment, dbm in given)
    except (TypeError, ValueError) as error:
        if isinstance(error, ScenarioError):
            raise
        raise ScenarioError(f'{key} must be a dBm or [["0d", -60], ["10d", -85], ...], is {given!r}') from None
    if not steps or steps[0][0] != 0 or [step[0] for step in steps] != sorted({step[0] for step in steps}):
        raise ScenarioError(f"{key} must begin with moment 0, and the moments must rise")
    return steps
