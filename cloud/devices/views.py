"""What the API says of boards: the JSON shapes of /api/v1/devices, /events and /readings."""

from typing import Any

from msgspec import Struct

from cloud.devices.presence import Presence


class ModelRef(Struct, frozen=True):
    """A model as a board names it."""

    name: str
    version: str
    sha8: str
    """First 8 bytes of the artifact's SHA-256, hex."""


class Wanted(Struct, frozen=True):
    """The model the cloud wants a board to run."""

    name: str | None
    version: str | None
    sha256: str | None
    why: str
    """Why none fits, or why nothing newer does; empty when all is well."""


class UpdateStep(Struct, frozen=True):
    """One step of a model update, as the board reported it."""

    state: str
    reason: str
    """`ok`, or the name of the reason it was refused or rolled back."""
    name: str
    version: str
    sha8: str
    progress_bytes: int
    detail: str
    at_ms: int
    epoch: int
    seq: int


class Device(Struct, frozen=True):
    """One line of the list of boards."""

    device: str
    kind: str
    presence: Presence
    last_contact_ms: int | None
    next_contact_ms: int | None
    """Until when it has to be heard from, before it counts as lost."""
    model: ModelRef | None
    wanted: Wanted
    update: UpdateStep | None
    battery_mv: int | None
    epoch: int | None
    firmware: str | None
    arch: str | None
    set_aside: int
    """Frames of it that are in quarantine."""


class Hello(Struct, frozen=True):
    """What the board said of itself last."""

    at_ms: int
    proto: int
    epoch: int
    firmware: str
    arch: str
    abi: str
    formats: list[str]
    schema_hash: str
    free_flash_bytes: int
    free_heap_bytes: int
    wake_cause: str
    key_ids: list[str]
    sequence: int


class StreamState(Struct, frozen=True):
    """The books of one stream of one epoch: high_seq = received + dropped + set_aside + missing."""

    epoch: int
    stream: str
    high_seq: int
    received: int
    dropped: int
    """Given up by the board, which said so."""
    set_aside: int
    missing: int
    """Neither stored nor declared given up: on the way, or to be sent again."""
    duplicates: int
    acknowledged: int
    """All numbers below this one are settled."""


class Health(Struct, frozen=True):
    """One HEALTH record."""

    epoch: int
    seq: int
    at_ms: int
    period_ms: int
    wakes: int
    battery_mv: int
    rssi_dbm: int
    free_heap_bytes: int
    free_flash_bytes: int
    awake_ms: int
    energy_uj: dict[str, int]
    radio: dict[str, int]
    drops: dict[str, int]
    errors: dict[str, int]
    scores: list[int]
    resets: int
    next_contact_ms: int
    sending_uj: int
    """Of the energy with the radio on."""
    energy_mj: int
    """Since the cold start."""
    line_holds: int
    """Sleeps that the wake line could not end: it was held, or chattered."""
    routes: dict[str, int]
    """What became of the windows of the period, zeros left out."""


class FeatureStability(Struct, frozen=True):
    """How one feature's windows lie in the quarters of its values in training."""

    name: str
    windows: int
    index: float
    """Population stability index."""
    word: str
    """`stable`, `look`, `changed`, or `few windows`."""
    counts: list[int]


class Stability(Struct, frozen=True):
    """Whether a board sees what its model was trained on, by the last HEALTH records that count in its bins."""

    model_sha8: str
    name: str
    version: str
    records: int
    windows: int
    index: float
    """Population stability index of the scores."""
    word: str
    """`stable`, `look`, `changed`, or `few windows`."""
    scores: list[int]
    """Windows by eighths of the scores in training."""
    features: list[FeatureStability]
    """Those counted so far, the strangest first."""


class Conflict(Struct, frozen=True):
    """A setting that the cloud and the board had changed both."""

    key: str
    desired: Any
    reported: Any
    kept: Any
    rule: str
    at_ms: int


class Configuration(Struct, frozen=True):
    """Desired against reported settings."""

    desired: dict[str, Any]
    desired_version: int
    published_version: int
    reported: dict[str, Any]
    reported_version: int | None
    conflicts: list[Conflict]


class Question(Struct, frozen=True):
    """A window a board was not sure of, and what was said of it."""

    epoch: int
    seq: int
    at_ms: int
    route: str
    """Who was to be asked first; `defer`: it could wait."""
    reason: str
    score: float
    deadline_ms: int
    """0: for ever."""
    model_sha8: str
    verdict: str | None
    """`normal`, `anomaly` or `unknown`; None: not answered yet."""
    tier: str | None
    answer_score: float | None
    model: str | None
    """Name and version of the model that answered."""
    why: str
    """Why the verdict is unknown."""
    answered_after_ms: int | None
    """From its arrival here."""


class DeviceDetail(Struct, frozen=True):
    """All there is to know of one board, but its readings and events."""

    summary: Device
    hello: Hello | None
    health: Health | None
    updates: list[UpdateStep]
    """The last 50 steps, newest first."""
    streams: list[StreamState]
    """Newest epoch first; at most 8 epochs."""
    configuration: Configuration
    channels: list[str]
    """`name (unit)` per channel, empty when no registered model tells them."""
    questions: list[Question]
    """The last 50, newest first."""
    stability: Stability | None
    """None: the board has not counted in its model's bins yet, or the model has none."""
    tags: list[str]


class Event(Struct, frozen=True):
    """An anomaly that began or ended, or a call for attention."""

    device: str
    epoch: int
    seq: int
    at_ms: int
    received_ms: int
    kind: str
    score: float
    threshold: float
    route: str
    reason: str
    model_sha8: str
    time_quality: str
    """How well `at_ms` is known: `known`, `estimated` or `jumped`."""
    key: str
    """Where the list is to go on, with `after`."""


class Channel(Struct, frozen=True):
    """One column of readings: value = count * factor."""

    name: str
    unit: str
    factor: float


class Row(Struct, frozen=True, array_like=True):
    """One sample of all channels: [at_ms, epoch, seq, [value, ...]]."""

    at_ms: int
    epoch: int
    seq: int
    values: list[float]


class Readings(Struct, frozen=True):
    """Samples of a board in a range of time, oldest first."""

    device: str
    channels: list[Channel]
    rows: list[Row]
    truncated: bool
    """More rows exist in the range: ask for a shorter time. Rows are in order of number, and times may jump back."""
