"""A scenario file, TOML, checked key by key into plain values: what the boards measure, and the world they live in.

docs/simulate.md shows every key. A time is text with its units ("90s", "2h", "1d12h") or a whole number of ms; moments
count from the start of the scenario, when all boards get their power.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import merge
from contract.features import Features, SchemaError
from model_export import keys
from tools.scenario.checks import (
    DAY_MS,
    ScenarioError,
    Table,
    anything,
    boards_of,
    curve,
    limits_of,
    number,
    one_of,
    read_toml,
    settings_table,
    some_of,
    steps,
    tables,
    tables_of,
    text,
    texts,
    time_ms,
    whole,
)

BUNDLED = Path(__file__).parent / "bundled"
MAX_DURATION_MS = 400 * DAY_MS
INJECTIONS = ("step", "spike", "drift", "stuck")
FAULTS = ("power-cut", "hang", "no-wifi", "broker-down", "ingest-down", "lossy")
UPLINKS = ("edgewise", "json")


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
    its first line; rssi: (moment, dBm) steps; model: an artifact it runs from the start, None for SAFE limits alone;
    trusted_keys: of config.json."""

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
    model: Path | None = None
    trusted_keys: Mapping[str, str] = field(default_factory=dict[str, str])

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
    """A checked scenario file. commit_ms: from the arrival of a record to its acknowledgement by the cloud; answer_ms:
    how much later a tier that knows the truth answers a QUERY, None: nobody answers."""

    name: str
    duration_ms: int
    seed: int
    groups: tuple[Group, ...]
    policies: tuple[Policy, ...]
    faults: tuple[Fault, ...]
    radio: Radio
    commit_ms: int
    answer_ms: int | None = None

    @property
    def boards(self) -> tuple[tuple[Group, str], ...]:
        """Every board with its group."""
        return tuple((group, board) for group in self.groups for board in group.boards)


def load(source: str | Path) -> Scenario:
    """The scenario in a file, or the bundled one of that name. Raises ScenarioError."""
    return parse(*read_toml(source, BUNDLED))


def parse(given: Mapping[str, Any], folder: Path) -> Scenario:
    """A scenario from the tables of its file; CSV files are named relative to `folder`. Raises ScenarioError."""
    top = Table(dict(given), "")
    name = top.take("name", text)
    duration_ms = top.take("duration", time_ms)
    if not 60_000 <= duration_ms <= MAX_DURATION_MS:
        raise ScenarioError(f'duration must be "1m" to "{MAX_DURATION_MS // DAY_MS}d", is {duration_ms} ms')
    seed = top.take("seed", whole(0, 2**31 - 1), 1)
    groups = tuple(_group(table, folder) for table in top.take("group", tables))
    names = [board for group in groups for board in group.boards]
    for board in names:
        if names.count(board) > 1:
            raise ScenarioError(f"group: two boards are called {board}: give one group another name")
    policies = tuple(_policy(table) for table in top.take("policy", tables))
    for policy in policies:
        if [other.name for other in policies].count(policy.name) > 1:
            raise ScenarioError(f"policy.name {policy.name!r} is used twice: each policy needs its own")
    faults = tuple(_fault(table, names) for table in top.take("fault", tables, []))
    radio = _radio(Table(top.take("radio", anything, {}), "radio"))
    commit_ms = top.take("commit", time_ms, 60)
    answer_ms = top.take("answer", time_ms, None)
    top.done()
    return Scenario(name, duration_ms, seed, groups, policies, faults, radio, commit_ms, answer_ms)


def _group(table: Table, folder: Path) -> Group:
    name = table.take("name", text)
    table.where = f"group {name}"
    boards = table.take("boards", boards_of(name), (f"{name}-1",))
    schema = table.take("schema", text)
    try:
        features = Features(schema)
    except SchemaError as error:
        raise ScenarioError(f"{table.key('schema')}: {error}") from None
    channels = [channel.name for channel in features.channels]
    signal = _signal(Table(table.take("signal", anything), table.key("signal")), channels, boards, folder)
    limits = table.take("limits", limits_of(list(features.names)), {})
    settings = table.take("settings", settings_table, {})
    sample_ms = table.take("sample", time_ms)
    interval_ms = sample_ms * features.window
    wrong = merge.check({"interval_ms": interval_ms})
    if wrong:
        raise ScenarioError(f"{table.key('sample')}: a window of it is {interval_ms} ms, {wrong[0][1]}")
    wake_on = table.take("wake_on", anything, None)
    battery = table.take("battery", anything, {})
    group = Group(
        name=name,
        boards=boards,
        schema=schema,
        sample_ms=sample_ms,
        signal=signal,
        limits=limits,
        settings=settings,
        wake_on=None if wake_on is None else _wake_on(Table(wake_on, table.key("wake_on")), channels),
        battery=None if battery == "mains" else _battery(Table(battery, table.key("battery"))),
        rssi=table.take("rssi", steps, ((0, -60),)),
        cpu_ms=table.take("cpu", time_ms, 50),
        boot_ms=table.take("boot", time_ms, 49),
        model=_model(table.take("model", text, None), folder, table.key("model")),
        trusted_keys=_trusted(
            table.take("trust", texts, ()), table.take("keys", text, None), folder, table.key("trust")
        ),
    )
    table.done()
    return group


def _model(given: str | None, folder: Path, key: str) -> Path | None:
    if given is None:
        return None
    path = folder / given
    if not path.is_file():
        raise ScenarioError(f"{key}: {path} is not there: export it with `edgewise model export`")
    return path


def _trusted(names: tuple[str, ...], given: str | None, folder: Path, key: str) -> dict[str, str]:
    directory = keys.default_directory() if given is None else folder / given
    try:
        publishers = [keys.load(directory, name) for name in names]
    except keys.PublisherKeyError as error:
        raise ScenarioError(f"{key}: {error}") from None
    return {publisher.key_id.hex(): publisher.public.hex() for publisher in publishers}


def _signal(table: Table, channels: list[str], boards: tuple[str, ...], folder: Path) -> Signal:
    series = table.take("series", text, None)
    columns = table.take("columns", texts, ())
    waves: dict[str, Wave] = {}
    if series is None:
        for channel in channels:
            waves[channel] = _wave(Table(table.take(channel, anything), table.key(channel)))
    elif (folder / series).is_file():
        series = str(folder / series)
    injections = tuple(
        _injection(one, channels, boards) for one in table.take("inject", tables_of(table.key("inject")), [])
    )
    table.done()
    return Signal(series, columns, waves, injections)


def _wave(table: Table) -> Wave:
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


def _injection(table: Table, channels: list[str], boards: tuple[str, ...]) -> Injection:
    kind = table.take("kind", one_of(INJECTIONS))
    injection = Injection(
        kind=kind,
        channel=table.take("channel", one_of(channels)),
        at_ms=table.take("at", time_ms),
        for_ms=table.take("for", time_ms, 0 if kind == "spike" else ...),
        size=table.take("size", number(-1e9, 1e9), 0.0 if kind == "stuck" else ...),
        every_ms=table.take("every", time_ms, 0),
        boards=table.take("boards", some_of(boards), boards),
    )
    if injection.every_ms and injection.every_ms <= injection.for_ms:
        raise ScenarioError(f"{table.key('every')} must be longer than for, or the injections run into each other")
    table.done()
    return injection


def _battery(table: Table) -> Battery:
    usual = Battery()
    battery = Battery(
        table.take("capacity_mah", number(1, 1e6), usual.capacity_mah),
        table.take("start", number(0.01, 1), usual.start),
        table.take("curve", curve(0, 1), usual.curve),
        table.take("sag_mv", whole(0, 1000), usual.sag_mv),
    )
    table.done()
    return battery


def _radio(table: Table) -> Radio:
    usual = Radio()
    radio = Radio(
        table.take("associate", curve(-120, 0), usual.associate),
        table.take("dhcp", time_ms, usual.dhcp_ms),
        table.take("fail", time_ms, usual.fail_ms),
        table.take("rtt", time_ms, usual.rtt_ms),
        table.take("kbps", whole(1, 1_000_000), usual.kbps),
        table.take("loss", curve(-120, 0), usual.loss),
        table.take("floor_dbm", whole(-120, 0), usual.floor_dbm),
    )
    table.done()
    return radio


def _wake_on(table: Table, channels: list[str]) -> WakeOn:
    channel = table.take("channel", one_of(channels))
    low = table.take("below", number(-1e9, 1e9), float("-inf"))
    high = table.take("above", number(-1e9, 1e9), float("inf"))
    table.done()
    if low == float("-inf") and high == float("inf"):
        raise ScenarioError(f"{table.where}: give below, above or both, or it never wakes anybody")
    return WakeOn(channel, low, high)


def _fault(table: Table, boards: list[str]) -> Fault:
    kind = table.take("kind", one_of(FAULTS))
    momentary = kind in ("power-cut", "hang")
    from_ms = table.take("at" if momentary else "from", time_ms)
    to_ms = from_ms if momentary else table.take("to", time_ms)
    if to_ms < from_ms:
        raise ScenarioError(f"{table.key('to')} must come after from")
    share = table.take("share", number(0, 1)) if kind == "lossy" else 1.0
    fault = Fault(kind, from_ms, to_ms, share, table.take("boards", some_of(tuple(boards)), tuple(boards)))
    table.done()
    return fault


def _policy(table: Table) -> Policy:
    name = table.take("name", text)
    uplink = table.take("uplink", one_of(UPLINKS), "edgewise")
    batch = table.take("batch", whole(1, 1440), 1) if uplink == "json" else 1
    settings = table.take("settings", settings_table, {}) if uplink == "edgewise" else {}
    table.done()
    return Policy(name, uplink, batch, settings)
