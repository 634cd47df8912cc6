"""The fields of every message: name, type, bounds, unit, default and meaning, each stated once.

Never shipped to a board. From this table tools/gen_contract.py makes the field tables of PROTOCOL.md and the typed
view of the cloud (cloud/wire_types.py); the tests hold the hand-written board side (frames.py) against it.

A message is a msgpack array: its code, then its fields in this order. Fields are only ever appended, and an appended
field has a default. A Record is a nested array under the same rule; a Fixed is a nested array whose length never
changes. A number that names something (a kind, state, reason, route) is held to its width only: a receiver may be older
than the name.
"""

from dataclasses import dataclass
from typing import Any, Final

from contract import wire


@dataclass(frozen=True)
class Int:
    """An integer of `low` to `high`; `name` is how the tables call it."""

    name: str
    low: int
    high: int


@dataclass(frozen=True)
class Float32:
    """A finite float, sent in single precision."""


@dataclass(frozen=True)
class Bytes:
    """`low` to `high` bytes, a multiple of `step`."""

    low: int
    high: int
    step: int = 1


@dataclass(frozen=True)
class Text:
    """`low` to `high` characters of UTF-8."""

    low: int
    high: int


@dataclass(frozen=True)
class Settings:
    """A map of 0 to `high` settings: short text to int, float, bool, text, or a list of int."""

    high: int


@dataclass(frozen=True)
class Arguments:
    """A list of 0 to `high` values, each int, float, bool or text."""

    high: int


@dataclass(frozen=True)
class Items:
    """A list of `low` to `high` values of one type."""

    of: "Type"
    low: int
    high: int


@dataclass(frozen=True)
class Fixed:
    """An array of exactly these values, in this order, for ever; `names` says what each is."""

    of: tuple["Type", ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """A nested array with named fields."""

    name: str
    fields: tuple["Field", ...]
    meaning: str


Type = Int | Float32 | Bytes | Text | Settings | Arguments | Items | Fixed | Record

REQUIRED: Final = "required"


@dataclass(frozen=True)
class Field:
    """One field: `default` is what a receiver assumes where a sender is older than the field."""

    name: str
    type: Type
    meaning: str
    unit: str = ""
    default: Any = REQUIRED
    nullable: bool = False


@dataclass(frozen=True)
class Message:
    """One message: `topic` is the kind it travels on, `stream` whether it is a record with (epoch, seq)."""

    name: str
    code: int
    topic: str
    stream: bool
    meaning: str
    fields: tuple[Field, ...]


U8 = Int("u8", 0, 0xFF)
U16 = Int("u16", 0, 0xFFFF)
U32 = Int("u32", 0, wire.MAX_U32)
U48 = Int("u48", 0, wire.MAX_TIME_MS)
I8 = Int("i8", -128, 127)
EPOCH_NUMBER = Int("epoch", 1, wire.MAX_U32)
DIGEST8 = Bytes(8, 8)

EPOCH = Field("epoch", EPOCH_NUMBER, "cold start the record belongs to")
SEQ = Field("seq", U32, "number of the record in its stream and epoch, from 0")
T_MS = Field("t_ms", U48, "when, since the epoch began", unit="ms")

PER_STREAM = Fixed(
    (EPOCH_NUMBER, U32, U32, U32, U32, U32),
    ("epoch", *(f"{name} seq" for name in wire.STREAM_NAMES)),
)
ROW_ID = Fixed((EPOCH_NUMBER, U32), ("epoch", "seq"))

MODEL = Record(
    "ModelRef",
    (
        Field("name", Text(1, wire.MAX_MODEL_NAME), "model name"),
        Field("version", Text(1, wire.MAX_VERSION), "semantic version"),
        Field("sha8", DIGEST8, "first 8 bytes of the artifact's SHA-256"),
    ),
    "the model a board runs",
)

OFFER = Record(
    "Offer",
    (
        Field("name", Text(1, wire.MAX_MODEL_NAME), "model name"),
        Field("version", Text(1, wire.MAX_VERSION), "semantic version"),
        Field("sequence", U32, "anti-rollback counter of the artifact"),
        Field("sha256", Bytes(32, 32), "SHA-256 of the whole artifact"),
        Field("size", Int("size", 1, wire.MAX_ARTIFACT_BYTES), "length of the artifact", unit="bytes"),
        Field("format", U8, "1 native module, 2 table blob"),
        Field("arch", Text(1, wire.MAX_ARCH), "architecture of a native module"),
        Field("leave", Bytes(0, wire.MAX_STATEMENT_BYTES), "publisher's leave to go below the counter", default=b""),
        Field("patch", DIGEST8, "first 8 bytes of the SHA-256 of a patch that makes it", default=None, nullable=True),
        Field("patch_size", U32, "length of the patch", "bytes", 0),
        Field(
            "patch_base",
            DIGEST8,
            "artifact that the patch is a difference to; nil: the patch is the artifact deflated",
            default=None,
            nullable=True,
        ),
    ),
    "the model a board shall run",
)

PROFILE = Record(
    "Profile",
    (
        Field("model", DIGEST8, "artifact whose bins they are"),
        Field("scores", Items(U8, 0, 16), "windows by octile of the scores in training"),
        Field("first", U8, "the first of the features counted in this period"),
        Field("features", Bytes(0, 128, 4), "windows by quartile, four bytes a feature"),
    ),
    "where windows fell in a model's own quantile bins; a count of 255 ends the counting of its score or feature",
)

ENERGY = Record(
    "Energy",
    (
        Field("active", U48, "processor awake, radio off", unit="µJ"),
        Field("radio", U48, "radio on", unit="µJ"),
        Field("sleep", U48, "deep sleep", unit="µJ"),
        Field("flash", U48, "flash writes and erases", unit="µJ"),
    ),
    "energy by state over the period",
)

RADIO = Record(
    "Radio",
    (
        Field("sessions", U32, "sessions begun"),
        Field("ms", U32, "radio time", unit="ms"),
        Field("tx_bytes", U32, "MQTT bytes sent", unit="bytes"),
        Field("rx_bytes", U32, "MQTT bytes received", unit="bytes"),
        Field("failures", U32, "sessions that ended in an error"),
    ),
    "radio use over the period",
)

UPLINK = (
    Message(
        "Hello",
        wire.HELLO,
        wire.KIND_UP,
        False,
        "What the board is and holds. First message of a session when the epoch is new, the model or the "
        "configuration changed, the last ACK asked for it, or a day has passed. Not a record.",
        (
            Field("proto", U8, "protocol version"),
            EPOCH,
            T_MS,
            Field(
                "floors",
                Items(PER_STREAM, 0, wire.MAX_FLOORS),
                "per epoch not wholly acknowledged, newest last: lowest seq still held in each stream",
            ),
            Field("config_version", U32, "version of the last WANT applied"),
            Field("model", MODEL, "active model, nil when only the built-in one is there", nullable=True),
            Field("firmware", Text(1, 32), "firmware version"),
            Field("arch", Text(1, wire.MAX_ARCH), "x64, xtensawin, rv32imc or armv7emsp"),
            Field("abi", U16, ".mpy ABI, major * 256 + minor"),
            Field("formats", U8, "what it can load: 1 native module, 2 table blob"),
            Field("schema_hash", DIGEST8, "feature schema"),
            Field("kind", Text(1, 32), "kind of machine watched"),
            Field("free_flash", U32, "room on flash", unit="bytes"),
            Field("free_heap", U32, "room in RAM", unit="bytes"),
            Field("wake_cause", U8, "why it is awake (WAKE_*)"),
            Field("battery_mv", U16, "battery", unit="mV"),
            Field("reported", Settings(wire.MAX_SETTINGS), "configuration in force", default={}),
            Field("key_ids", Items(DIGEST8, 0, 8), "publisher keys it trusts", default=()),
            Field("sequence", U32, "anti-rollback counter it has reached", default=0),
            Field("local_version", U32, "how often its configuration was changed on the spot", default=0),
            Field("shadow", MODEL, "model that scores beside the active one", default=None, nullable=True),
        ),
    ),
    Message(
        "Readings",
        wire.READINGS,
        wire.KIND_UP,
        True,
        "A sealed batch of rows; row i has seq `seq + i`. Coded as in section 6.",
        (
            EPOCH,
            Field("seq", U32, "seq of the first row"),
            Field("t_ms", U48, "time of the first row", unit="ms"),
            Field("rows", Int("rows", 1, wire.MAX_ROWS), "rows in the batch"),
            Field("cols", Int("cols", 1, wire.MAX_CHANNELS), "channels of a row"),
            Field("base", ROW_ID, "row that `first` is a difference to; nil: a key frame", nullable=True),
            Field("first", Bytes(1, 5 * wire.MAX_CHANNELS), "first row"),
            Field("body", Bytes(0, wire.MAX_UP_BYTES), "times and remaining rows"),
        ),
    ),
    Message(
        "Event",
        wire.EVENT,
        wire.KIND_UP,
        True,
        "An anomaly began or ended, or the board wants to be looked at.",
        (
            EPOCH,
            SEQ,
            T_MS,
            Field("kind", U8, "EVENT_*: 1 anomaly, 2 cleared, 3 boot loop"),
            Field("score", Float32(), "anomaly score, higher is stranger"),
            Field("threshold", Float32(), "what it was compared with"),
            Field("route", U8, "who decided (ROUTE_*)"),
            Field("reason", U8, "why there (WHY_*)"),
            Field("model", DIGEST8, "artifact that scored; zeros: the built-in one"),
            Field("features", Bytes(0, 4 * wire.MAX_FEATURES, 4), "feature vector, int32 little-endian"),
        ),
    ),
    Message(
        "Query",
        wire.QUERY,
        wire.KIND_UP,
        True,
        "The board is not sure and asks a higher tier; it goes on without the answer after the deadline.",
        (
            EPOCH,
            SEQ,
            T_MS,
            Field("deadline_ms", U32, "how long an answer is of use", unit="ms"),
            Field("score", Float32(), "the board's own score"),
            Field("model", DIGEST8, "artifact that scored; zeros: the built-in one"),
            Field("features", Bytes(0, 4 * wire.MAX_FEATURES, 4), "feature vector, int32 little-endian"),
            Field("reason", U8, "why it asks (WHY_*)", default=0),
            Field("route", U8, "who is asked first (ROUTE_*); ROUTE_DEFER: it could wait", default=wire.ROUTE_CLOUD),
        ),
    ),
    Message(
        "Health",
        wire.HEALTH,
        wire.KIND_UP,
        True,
        "Counters over the period that ends at t_ms. Records that were not sent yet may be merged into one.",
        (
            EPOCH,
            SEQ,
            T_MS,
            Field("period_ms", U48, "length of the period", unit="ms"),
            Field("wakes", U32, "wake cycles"),
            Field("battery_mv", U16, "battery", unit="mV"),
            Field("rssi", I8, "signal of the last session, 0 when there was none", unit="dBm"),
            Field("free_heap", U32, "lowest room in RAM", unit="bytes"),
            Field("free_flash", U32, "room on flash", unit="bytes"),
            Field("awake_ms", U48, "time awake", unit="ms"),
            Field("energy_uj", ENERGY, "energy by state"),
            Field("radio", RADIO, "use of the radio"),
            Field(
                "drops",
                Fixed((U32,) * len(wire.STREAMS), wire.STREAM_NAMES),
                "records given up since the epoch began, by stream",
            ),
            Field("errors", Items(Fixed((U8, U32), ("fault", "count")), 0, 32), "faults counted (FAULT_*)"),
            Field("scores", Items(U32, 0, 32), "histogram of scores"),
            Field("resets", U32, "resets that nobody asked for", default=0),
            Field("next_contact_ms", U48, "next session at the latest, from t_ms; 0: not said", "ms", 0),
            Field("routes", Items(U32, 0, 16), "what became of the windows (OUTCOME_*)", default=()),
            Field("sending_uj", U48, "of the energy with the radio on: sending", "µJ", 0),
            Field("energy_mj", U48, "energy since the cold start, this period included", "mJ", 0),
            Field(
                "line_holds",
                U32,
                "sleeps the wake line could not end: held, or chattering",
                default=0,
            ),
            Field("shadow", DIGEST8, "model that scored beside the active one", default=None, nullable=True),
            Field("shadow_compared", U32, "windows both scored", default=0),
            Field("shadow_disagreed", U32, "of these, windows they decided differently", default=0),
            Field("profile", PROFILE, "windows in the bins of the model that scored them", default=None, nullable=True),
        ),
    ),
    Message(
        "Update",
        wire.UPDATE,
        wire.KIND_UP,
        True,
        "A step of a model update.",
        (
            EPOCH,
            SEQ,
            T_MS,
            Field("state", U8, "UPDATE_*"),
            Field("reason", U8, "REASON_*"),
            Field("name", Text(0, wire.MAX_MODEL_NAME), "model name"),
            Field("version", Text(0, wire.MAX_VERSION), "model version"),
            Field("sha8", DIGEST8, "artifact"),
            Field("progress_bytes", U32, "bytes of the artifact on flash", "bytes", 0),
            Field("detail", Text(0, 64), "cause in words", default=""),
        ),
    ),
    Message(
        "Fetch",
        wire.FETCH,
        wire.KIND_UP,
        False,
        "Asks for a piece of an artifact; answered by CHUNK. QoS 0: asked again when no answer comes.",
        (
            Field("sha8", DIGEST8, "artifact"),
            Field("offset", U32, "first byte", unit="bytes"),
            Field("length", Int("length", 1, wire.MAX_CHUNK_BYTES), "bytes wanted", unit="bytes"),
        ),
    ),
)

DOWNLINK = (
    Message(
        "Ack",
        wire.ACK,
        wire.KIND_ACK,
        False,
        "What the cloud has, and its clock. Retained: a waking board gets it as it subscribes.",
        (
            Field("cloud_ms", U48, "cloud clock, Unix time", unit="ms"),
            Field(
                "acks",
                Items(PER_STREAM, 0, wire.MAX_ACKS),
                "per epoch, newest last: next seq expected in each stream; all below is stored or given up",
            ),
            Field("flags", U8, "1 send a key frame, 2 send HELLO", default=0),
            Field(
                "heard_ms",
                U48,
                "t_ms of the latest HELLO of the newest epoch, 0 for none; nil: not told",
                unit="ms",
                default=None,
                nullable=True,
            ),
        ),
    ),
    Message(
        "Want",
        wire.WANT,
        wire.KIND_WANT,
        False,
        "The configuration and the model the board shall have. Retained.",
        (
            Field("config_version", U32, "rises with every change"),
            Field("config", Settings(wire.MAX_SETTINGS), "settings by name"),
            Field("model", OFFER, "model to run, nil: stay with the present one", default=None, nullable=True),
            Field("local_version", U32, "HELLO local_version that these settings have taken in", default=0),
            Field(
                "statements",
                Items(Bytes(1, wire.MAX_STATEMENT_BYTES), 0, wire.MAX_STATEMENTS),
                "what publishers said of their keys, oldest first",
                default=(),
            ),
            Field("shadow", OFFER, "model to score beside the active one, nil: none", default=None, nullable=True),
        ),
    ),
    Message(
        "Chunk",
        wire.CHUNK,
        wire.KIND_DO,
        False,
        "A piece of an artifact.",
        (
            Field("sha8", DIGEST8, "artifact"),
            Field("offset", U32, "first byte", unit="bytes"),
            Field("data", Bytes(0, wire.MAX_CHUNK_BYTES), "the bytes; none: this artifact is not served"),
            Field("total", Int("total", 0, wire.MAX_ARTIFACT_BYTES), "length of the artifact", unit="bytes"),
        ),
    ),
    Message(
        "Answer",
        wire.ANSWER,
        wire.KIND_DO,
        False,
        "The verdict of a higher tier on a QUERY.",
        (
            EPOCH,
            Field("seq", U32, "seq of the QUERY"),
            Field("verdict", U8, "VERDICT_*: 0 normal, 1 anomaly, 2 not known"),
            Field("score", Float32(), "score of that tier"),
            Field("tier", U8, "who answered (ROUTE_FOG or ROUTE_CLOUD)", default=wire.ROUTE_CLOUD),
        ),
    ),
    Message(
        "Do",
        wire.DO,
        wire.KIND_DO,
        False,
        "A command, done at most once per id.",
        (
            Field("id", U32, "rises with every command"),
            Field("verb", Text(1, 32), "what to do"),
            Field("args", Arguments(8), "its arguments", default=()),
        ),
    ),
)

MESSAGES = UPLINK + DOWNLINK
