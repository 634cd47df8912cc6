"""A scenario file, TOML, checked key by key into plain values: what the boards measure, and the world they live in.

docs/simulate.md shows every key. A time is text with its units ("90s", "2h", "1d12h") or a whole number of ms; moments
count from the start of the scenario, when all boards get their power.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import merge, wire
from contract.features import Features, SchemaError

BUNDLED = Path(__file__).parent / "bundled"
DAY_MS = 86_400_000
MAX_DURATION_MS = 400 * DAY_MS
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"
_TIME = re.compile(f"(?:{_PART})+")

INJECTIONS = ("step", "spike", "drift", "stuck")
FAULTS = ("power-cut", "hang", "no-wifi", "broker-down", "ingest-down", "lossy")
UPLINKS = ("edgewise", "json")


class ScenarioError(ValueError):
    """A scenario that cannot be run; the message names the key, what is wrong with it and what to write."""


@dataclass(frozen=True)
class Injection:
    """What is done to one channel from at_ms for for_ms, again every every_ms (0: once).

    step adds `size`, spike adds it to the first sample only, drift adds it little by little, stuck repeats the sample
    before. size is in the channel's unit.
    """

    kind: str
    channel: str
    at_ms: int
    for_ms: int
    size: float
    every_ms: int
    boards: tuple[str, ...]


@dataclass(frozen=True)
class Wave:
    """One channel of a synthetic signal: mean + amplitude * sin(2 pi t / period) + Gaussian noise of that deviation."""

    mean: float
    amplitude: float
    period_ms: int
    noise: float


@dataclass(frozen=True)
class Signal:
    """Either a recorded series (model_export.data.load) or a wave for each channel; then what is injected."""

    series: str | None
    columns: tuple[str, ...]
    waves: Mapping[str, Wave]
    injections: tuple[Injection, ...]


@dataclass(frozen=True)
class Battery:
    """One cell. capacity_mah; start: how full at first, 0 to 1; curve: (share left, mV at rest) falling; sag_mv: lower
    while the board measures. mains: there is none, and nothing runs empty."""

    capacity_mah: float = 2500.0
    start: float = 1.0
    curve: tuple[tuple[float, int], ...] = (
        (1.0, 4180),
        (0.9, 4060),
        (0.7, 3920),
        (0.5, 3800),
        (0.3, 3720),
        (0.15, 3640),
        (0.08, 3520),
        (0.03, 3350),
        (0.0, 3000),
    )
    sag_mv: int = 30


@dataclass(frozen=True)
class Radio:
    """What Wi-Fi costs in time. associate: (dBm, ms with cached channel and lease) falling; dhcp_ms more without them;
    fail_ms: an association that fails; rtt_ms there and back; kbps by the slowest part of the way; loss: (dBm, share of
    sessions that break in the middle); below `floor_dbm` no association works."""

    associate: tuple[tuple[float, float], ...] = ((-60.0, 600.0), (-75.0, 750.0), (-85.0, 1800.0), (-92.0, 4000.0))
    dhcp_ms: int = 850
    fail_ms: int = 3000
    rtt_ms: int = 40
    kbps: int = 500
    loss: tuple[tuple[float, float], ...] = ((-75.0, 0.0), (-85.0, 0.02), (-92.0, 0.2))
    floor_dbm: int = -93


@dataclass(frozen=True)
class WakeOn:
    """The ULP program watches this channel at every sample and wakes the board when it leaves low..high, in units."""

    channel: str
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """Boards that are alike. sample_ms: between two samples; cpu_ms: what a wake computes on the chip; boot_ms: until
    its first line; rssi: (moment, dBm) steps."""

    name: str
    boards: tuple[str, ...]
    schema: str
    sample_ms: int
    signal: Signal
    limits: Mapping[str, tuple[int, int]]
    settings: Mapping[str, Any]
    wake_on: WakeOn | None
    battery: Battery | None
    rssi: tuple[tuple[int, int], ...]
    cpu_ms: int
    boot_ms: int

    @property
    def interval_ms(self) -> int:
        """Between two wakes: one window of samples."""
        return Features(self.schema).window * self.sample_ms


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong. power-cut and hang happen at from_ms, the others last until to_ms; lossy breaks the
    given share of sessions; boards: whose."""

    kind: str
    from_ms: int
    to_ms: int
    share: float
    boards: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """One way to run the boards. uplink "edgewise" is the firmware, its settings changed by `settings`; "json" is
    tools/on_board/naive_uplink.py, connecting after every `batch` wakes."""

    name: str
    uplink: str = "edgewise"
    batch: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Scenario:
    """A checked scenario file. commit_ms: from the arrival of a record to its acknowledgement by the cloud."""

    name: str
    duration_ms: int
    seed: int
    groups: tuple[Group, ...]
    policies: tuple[Policy, ...]
    faults: tuple[Fault, ...]
    radio: Radio
    commit_ms: int

    @property
    def boards(self) -> tuple[tuple[Group, str], ...]:
        """Every board with its group."""
        return tuple((group, board) for group in self.groups for board in group.boards)


class _Table:
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


def load(source: str | Path) -> Scenario:
    """The scenario in a file, or the bundled one of that name. Raises ScenarioError."""
    path = Path(source)
    if not path.suffix and (BUNDLED / f"{source}.toml").is_file():
        path = BUNDLED / f"{source}.toml"
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        names = ", ".join(sorted(file.stem for file in BUNDLED.glob("*.toml")))
        raise ScenarioError(f"{source}: {error.strerror}. Give a TOML file, or one of these: {names}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{source} is not TOML: {error}. docs/simulate.md shows one") from None
    return parse(given, path.parent)


def parse(given: Mapping[str, Any], folder: Path) -> Scenario:
    """A scenario from the tables of its file; CSV files are named relative to `folder`. Raises ScenarioError."""
    top = _Table(dict(given), "")
    name = top.take("name", text)
    duration_ms = top.take("duration", time_ms)
    if not 60_000 <= duration_ms <= MAX_DURATION_MS:
        raise ScenarioError(f'duration must be "1m" to "{MAX_DURATION_MS // DAY_MS}d", is {duration_ms} ms')
    seed = top.take("seed", whole(0, 2**31 - 1), 1)
    groups = tuple(_group(table, folder) for table in top.take("group", _tables))
    names = [board for group in groups for board in group.boards]
    for board in names:
        if names.count(board) > 1:
            raise ScenarioError(f"group: two boards are called {board}: give one group another name")
    policies = tuple(_policy(table) for table in top.take("policy", _tables))
    for policy in policies:
        if [other.name for other in policies].count(policy.name) > 1:
            raise ScenarioError(f"policy.name {policy.name!r} is used twice: each policy needs its own")
    faults = tuple(_fault(table, names) for table in top.take("fault", _tables, []))
    radio = _radio(_Table(top.take("radio", _anything, {}), "radio"))
    commit_ms = top.take("commit", time_ms, 60)
    top.done()
    return Scenario(name, duration_ms, seed, groups, policies, faults, radio, commit_ms)


def _group(table: _Table, folder: Path) -> Group:
    name = table.take("name", text)
    table.where = f"group {name}"
    boards = table.take("boards", _boards_of(name), (f"{name}-1",))
    schema = table.take("schema", text)
    try:
        features = Features(schema)
    except SchemaError as error:
        raise ScenarioError(f"{table.key('schema')}: {error}") from None
    channels = [channel.name for channel in features.channels]
    signal = _signal(_Table(table.take("signal", _anything), table.key("signal")), channels, boards, folder)
    limits = table.take("limits", _limits(list(features.names)), {})
    settings = table.take("settings", _settings, {})
    sample_ms = table.take("sample", time_ms)
    interval_ms = sample_ms * features.window
    wrong = merge.check({"interval_ms": interval_ms})
    if wrong:
        raise ScenarioError(f"{table.key('sample')}: a window of it is {interval_ms} ms, {wrong[0][1]}")
    wake_on = table.take("wake_on", _anything, None)
    battery = table.take("battery", _anything, {})
    group = Group(
        name=name,
        boards=boards,
        schema=schema,
        sample_ms=sample_ms,
        signal=signal,
        limits=limits,
        settings=settings,
        wake_on=None if wake_on is None else _wake_on(_Table(wake_on, table.key("wake_on")), channels),
        battery=None if battery == "mains" else _battery(_Table(battery, table.key("battery"))),
        rssi=table.take("rssi", _steps, ((0, -60),)),
        cpu_ms=table.take("cpu", time_ms, 50),
        boot_ms=table.take("boot", time_ms, 49),
    )
    table.done()
    return group


def _signal(table: _Table, channels: list[str], boards: tuple[str, ...], folder: Path) -> Signal:
    series = table.take("series", text, None)
    columns = table.take("columns", _texts, ())
    waves: dict[str, Wave] = {}
    if series is None:
        for channel in channels:
            waves[channel] = _wave(_Table(table.take(channel, _anything), table.key(channel)))
    elif (folder / series).is_file():
        series = str(folder / series)
    injections = tuple(
        _injection(one, channels, boards) for one in table.take("inject", _tables_of(table.key("inject")), [])
    )
    table.done()
    return Signal(series, columns, waves, injections)


def _wave(table: _Table) -> Wave:
    wave = Wave(
        table.take("mean", number(-1e9, 1e9)),
        table.take("amplitude", number(0, 1e9), 0.0),
        table.take("period", time_ms, DAY_MS),
        table.take("noise", number(0, 1e9), 0.0),
    )
    if wave.period_ms < 1:
        raise ScenarioError(f"{table.key('period')} must be longer than nothing")
    table.done()
    return wave


def _injection(table: _Table, channels: list[str], boards: tuple[str, ...]) -> Injection:
    kind = table.take("kind", one_of(INJECTIONS))
    injection = Injection(
        kind=kind,
        channel=table.take("channel", one_of(channels)),
        at_ms=table.take("at", time_ms),
        for_ms=table.take("for", time_ms, 0 if kind == "spike" else ...),
        size=table.take("size", number(-1e9, 1e9), 0.0 if kind == "stuck" else ...),
        every_ms=table.take("every", time_ms, 0),
        boards=table.take("boards", _some_of(boards), boards),
    )
    if injection.every_ms and injection.every_ms <= injection.for_ms:
        raise ScenarioError(f"{table.key('every')} must be longer than for, or the injections run into each other")
    table.done()
    return injection


def _battery(table: _Table) -> Battery:
    usual = Battery()
    battery = Battery(
        table.take("capacity_mah", number(1, 1e6), usual.capacity_mah),
        table.take("start", number(0.01, 1), usual.start),
        table.take("curve", _curve(0, 1), usual.curve),
        table.take("sag_mv", whole(0, 1000), usual.sag_mv),
    )
    table.done()
    return battery


def _radio(table: _Table) -> Radio:
    usual = Radio()
    radio = Radio(
        table.take("associate", _curve(-120, 0), usual.associate),
        table.take("dhcp", time_ms, usual.dhcp_ms),
        table.take("fail", time_ms, usual.fail_ms),
        table.take("rtt", time_ms, usual.rtt_ms),
        table.take("kbps", whole(1, 1_000_000), usual.kbps),
        table.take("loss", _curve(-120, 0), usual.loss),
        table.take("floor_dbm", whole(-120, 0), usual.floor_dbm),
    )
    table.done()
    return radio


def _wake_on(table: _Table, channels: list[str]) -> WakeOn:
    channel = table.take("channel", one_of(channels))
    low = table.take("below", number(-1e9, 1e9), float("-inf"))
    high = table.take("above", number(-1e9, 1e9), float("inf"))
    table.done()
    if low == float("-inf") and high == float("inf"):
        raise ScenarioError(f"{table.where}: give below, above or both, or it never wakes anybody")
    return WakeOn(channel, low, high)


def _fault(table: _Table, boards: list[str]) -> Fault:
    kind = table.take("kind", one_of(FAULTS))
    momentary = kind in ("power-cut", "hang")
    from_ms = table.take("at" if momentary else "from", time_ms)
    to_ms = from_ms if momentary else table.take("to", time_ms)
    if to_ms < from_ms:
        raise ScenarioError(f"{table.key('to')} must come after from")
    share = table.take("share", number(0, 1)) if kind == "lossy" else 1.0
    fault = Fault(kind, from_ms, to_ms, share, table.take("boards", _some_of(tuple(boards)), tuple(boards)))
    table.done()
    return fault


def _policy(table: _Table) -> Policy:
    name = table.take("name", text)
    uplink = table.take("uplink", one_of(UPLINKS), "edgewise")
    batch = table.take("batch", whole(1, 1440), 1) if uplink == "json" else 1
    settings = table.take("settings", _settings, {}) if uplink == "edgewise" else {}
    table.done()
    return Policy(name, uplink, batch, settings)


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


def _anything(given: Any, _key: str) -> Any:
    return given


def _tables(given: Any, key: str) -> list[_Table]:
    if not isinstance(given, list) or not given:
        raise ScenarioError(f"{key} must be a list of tables: write [[{key}]]")
    return [_Table(one, key) for one in given]


def _tables_of(where: str) -> Callable[[Any, str], list[_Table]]:
    return lambda given, _key: _tables(given, where)


def _texts(given: Any, key: str) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise ScenarioError(f"{key} must be a list of texts, is {given!r}")
    return tuple(text(one, key) for one in given)


def _boards_of(group: str) -> Callable[[Any, str], tuple[str, ...]]:
    def check(given: Any, key: str) -> tuple[str, ...]:
        names = (
            tuple(f"{group}-{n}" for n in range(1, given + 1))
            if isinstance(given, int) and 0 < given <= 1000
            else _texts(given, key)
        )
        for name in names:
            if not wire.valid_device_id(name):
                raise ScenarioError(f"{key}: {name!r} must be 1 to {wire.MAX_DEVICE_ID} of a-z, 0-9 and -")
        return names

    return check


def _some_of(boards: tuple[str, ...]) -> Callable[[Any, str], tuple[str, ...]]:
    def check(given: Any, key: str) -> tuple[str, ...]:
        return tuple(one_of(boards)(name, key) for name in _texts(given, key))

    return check


def _settings(given: Any, key: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ScenarioError(f"{key} must be a table, is {given!r}")
    settings = {name: time_ms(value, f"{key}.{name}") if name.endswith("_ms") else value for name, value in given.items()}
    if "interval_ms" in settings:
        raise ScenarioError(f"{key}.interval_ms is not set here: it is a window of samples, set sample")
    for name, cause in merge.check(settings):
        known = f": use one of {', '.join(merge.KEYS)}" if name not in merge.KEYS else ""
        raise ScenarioError(f"{key}.{name}: {cause}{known}")
    return settings


def _limits(names: list[str]) -> Callable[[Any, str], dict[str, tuple[int, int]]]:
    def check(given: Any, key: str) -> dict[str, tuple[int, int]]:
        if not isinstance(given, dict):
            raise ScenarioError(f"{key} must be a table of feature = [low, high], is {given!r}")
        for name, pair in given.items():
            one_of(names)(name, key)
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(value, int) for value in pair):
                raise ScenarioError(f"{key}.{name} must be [low, high], whole counts of the feature, is {pair!r}")
        return {name: (pair[0], pair[1]) for name, pair in given.items()}

    return check


def _curve(low: float, high: float) -> Callable[[Any, str], tuple[tuple[float, float], ...]]:
    """Points (x, y) with x falling from point to point."""

    def check(given: Any, key: str) -> tuple[tuple[float, float], ...]:
        try:
            points = tuple((float(x), float(y)) for x, y in given)
        except (TypeError, ValueError):
            points = ()
        falls = all(before[0] > after[0] for before, after in zip(points, points[1:], strict=False))
        if not points or not falls or not all(low <= x <= high for x, _ in points):
            raise ScenarioError(f"{key} must be [[x, y], ...], x falling within {low:g} to {high:g}, is {given!r}")
        return points

    return check


def _steps(given: Any, key: str) -> tuple[tuple[int, int], ...]:
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
