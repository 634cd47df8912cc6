"""Every table, once. Columns carry units; a JSON column's docstring-comment gives its shape.

Times: `*_ms` alone is unix time in milliseconds of the cloud's clock. `t_ms`, `t0_ms`, `t1_ms` are the board's own:
milliseconds since its epoch began. Cloud time of a record = epochs.began_ms + t_ms, so that one row corrects all
records of an epoch. SHA-256 digests are lower-case hex; `sha8` is the first 8 bytes of one, as 16 hex digits.
"""

from __future__ import annotations

import sqlalchemy as sa

from contract import wire

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

# How well the start of an epoch is known (epochs.quality)
QUALITY_ESTIMATED = 0  # no HELLO yet: began_ms is the latest possible start, records made it known
QUALITY_HELLO = 1  # a HELLO told the board's clock
QUALITY_JUMPED = 2  # the board's clock ran ahead of the cloud's by more than a month: times are not to be trusted
QUALITY_NAMES = ("estimated", "known", "jumped")

# Why sequence numbers will never be stored (skipped.why)
SKIPPED_DROPPED = 0  # the board declared that it holds them no longer
SKIPPED_SET_ASIDE = 1  # the frame is in quarantine
SKIPPED_NAMES = ("dropped", "set aside")


def _device(primary: bool = True) -> sa.Column[str]:
    return sa.Column("device", sa.String(wire.MAX_DEVICE_ID), primary_key=primary, nullable=False)


def _record_key() -> tuple[sa.Column[str], sa.Column[int], sa.Column[int]]:
    """The identity of a record within its stream: device, epoch, seq."""
    return (
        _device(),
        sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    )


def _ms(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


# -- devices ---------------------------------------------------------------------------------------------------------

# A device exists from `edgewise device add` on. What its last HELLO said is NULL until there was one.
devices = sa.Table(
    "devices",
    metadata,
    _device(),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("credential", sa.Integer, nullable=False),  # generation of its broker password; rises when it is renewed
    _ms("created_ms"),
    sa.Column("online", sa.Boolean, nullable=False, server_default=sa.text("false")),
    _ms("online_ms", nullable=True),  # when `online` last changed
    _ms("last_seen_ms", nullable=True),
    _ms("hello_ms", nullable=True),
    sa.Column("epoch", sa.BigInteger),  # the newest one
    _ms("hello_t_ms", nullable=True),  # the board's own time of its latest HELLO, since that epoch began
    sa.Column("proto", sa.Integer),
    sa.Column("firmware", sa.String(64)),
    sa.Column("arch", sa.String(16)),
    sa.Column("abi", sa.Integer),  # mpy ABI, major * 256 + minor
    sa.Column("formats", sa.Integer),  # bit mask wire.FORMAT_*
    sa.Column("schema_hash", sa.String(16)),  # hex
    sa.Column("model_name", sa.String(64)),
    sa.Column("model_version", sa.String(32)),
    sa.Column("model_sha8", sa.String(16)),
    sa.Column("shadow_sha8", sa.String(16)),  # of the model that scores beside it, NULL: none
    sa.Column("config_version", sa.BigInteger),  # of the configuration the board has applied
    sa.Column("local_version", sa.BigInteger),  # how often it was changed on the spot
    sa.Column("reported", sa.JSON),  # {key: value} applied
    sa.Column("free_flash", sa.BigInteger),
    sa.Column("free_heap", sa.BigInteger),
    sa.Column("wake_cause", sa.Integer),
    sa.Column("battery_mv", sa.Integer),
    sa.Column("key_ids", sa.JSON),  # [hex] of the publisher keys it trusts
    sa.Column("sequence", sa.BigInteger),  # its anti-rollback counter
    _count("set_aside"),  # frames of it that went to quarantine, ever
    _count("unknown_codes"),  # messages with a code this cloud does not know, ever
)

# Words an operator puts on devices, to choose them by.
device_tags = sa.Table(
    "device_tags",
    metadata,
    sa.Column("device", sa.String(wire.MAX_DEVICE_ID), sa.ForeignKey("devices.device"), primary_key=True),
    sa.Column("tag", sa.String(32), primary_key=True),
    sa.Index(None, "tag"),
)

epochs = sa.Table(
    "epochs",
    metadata,
    _device(),
    sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
    _ms("began_ms"),
    sa.Column("quality", sa.SmallInteger, nullable=False),
    _ms("hello_ms", nullable=True),  # when a HELLO last named this epoch
    sqlite_with_rowid=False,
)

# One row per (device, epoch, stream). Of the numbers 0..high_seq-1 each one is received, dropped, set aside or missing:
# missing = high_seq - received - declared_dropped - set_aside, 0 when nothing is on its way.
streams = sa.Table(
    "streams",
    metadata,
    _device(),
    sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("stream", sa.SmallInteger, primary_key=True, autoincrement=False),  # message code, wire.STREAMS
    _count("next_seq"),  # all below is stored or will never be: what the ACK says
    _count("high_seq"),  # one more than the highest number seen
    _count("received"),  # records stored; for readings, rows
    _count("declared_dropped"),
    _count("set_aside"),
    _count("duplicates"),  # records that came again
    sqlite_with_rowid=False,
)

# Numbers that will never be stored, as ranges [seq, seq + count); few, because drops and poison are rare.
skipped = sa.Table(
    "skipped",
    metadata,
    _device(),
    sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("stream", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("why", sa.SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)

# -- records ---------------------------------------------------------------------------------------------------------

# Readings as the sealed frames came, always in key form: contract.delta decodes `first` and `body` without other rows.
# Without a rowid the primary key is the table: half the space and one write less per row.
frames = sa.Table(
    "frames",
    metadata,
    *_record_key(),
    sa.Column("rows", sa.SmallInteger, nullable=False),  # it covers [seq, seq + rows)
    _ms("t0_ms"),  # of the first row, board time
    _ms("t1_ms"),  # of the last row
    sa.Column("cols", sa.SmallInteger, nullable=False),
    sa.Column("lows", sa.LargeBinary, nullable=False),  # msgpack [int] per channel
    sa.Column("highs", sa.LargeBinary, nullable=False),  # msgpack [int] per channel
    sa.Column("first", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    _ms("received_ms"),
    sqlite_with_rowid=False,
)

events = sa.Table(
    "events",
    metadata,
    *_record_key(),
    _ms("t_ms"),
    sa.Column("kind", sa.SmallInteger, nullable=False),  # wire.EVENT_NAMES
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("threshold", sa.Float, nullable=False),
    sa.Column("route", sa.SmallInteger, nullable=False),
    sa.Column("reason", sa.SmallInteger, nullable=False),
    sa.Column("model_sha8", sa.String(16), nullable=False),
    sa.Column("features", sa.LargeBinary, nullable=False),  # int32 LE (n_features,)
    _ms("received_ms"),
    sa.Index(None, "received_ms"),
    sa.Index(None, "device", "received_ms"),
)

queries = sa.Table(
    "queries",
    metadata,
    *_record_key(),
    _ms("t_ms"),
    _ms("deadline_ms"),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("model_sha8", sa.String(16), nullable=False),
    sa.Column("features", sa.LargeBinary, nullable=False),
    sa.Column("reason", sa.SmallInteger, nullable=False),
    # wire.ROUTE_NAMES: who was to be asked first
    sa.Column("route", sa.SmallInteger, nullable=False, server_default=str(wire.ROUTE_CLOUD)),
    _ms("received_ms"),
    sa.Index(None, "received_ms"),
)

health = sa.Table(
    "health",
    metadata,
    *_record_key(),
    _ms("t_ms"),
    _ms("period_ms"),
    sa.Column("wakes", sa.BigInteger, nullable=False),
    sa.Column("battery_mv", sa.Integer, nullable=False),
    sa.Column("rssi", sa.Integer, nullable=False),
    sa.Column("free_heap", sa.BigInteger, nullable=False),
    sa.Column("free_flash", sa.BigInteger, nullable=False),
    sa.Column("awake_ms", sa.BigInteger, nullable=False),
    sa.Column("energy_uj", sa.JSON, nullable=False),  # [active, radio, sleep, flash]
    sa.Column("radio", sa.JSON, nullable=False),  # [sessions, ms, tx_bytes, rx_bytes, failures]
    sa.Column("drops", sa.JSON, nullable=False),  # [count] in the order of wire.STREAMS
    sa.Column("errors", sa.JSON, nullable=False),  # [[code, count]]
    sa.Column("scores", sa.JSON, nullable=False),  # [count] histogram
    sa.Column("resets", sa.BigInteger, nullable=False),
    _ms("next_contact_ms"),
    sa.Column("sending_uj", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("energy_mj", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("line_holds", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("routes", sa.JSON),  # [windows] in the order of wire.OUTCOME_NAMES
    sa.Column("shadow_sha8", sa.String(16)),  # of the model that scored beside the active one, NULL: none
    sa.Column("shadow_compared", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("shadow_disagreed", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("profile", sa.JSON(none_as_null=True)),  # [model sha8, [scores], first, [features]], see wire Profile
    _ms("received_ms"),
    sa.Index(None, "device", "received_ms"),  # gates look at the last hours of many boards, out of years
)

updates = sa.Table(
    "updates",
    metadata,
    *_record_key(),
    _ms("t_ms"),
    sa.Column("state", sa.SmallInteger, nullable=False),  # wire.UPDATE_NAMES
    sa.Column("reason", sa.SmallInteger, nullable=False),  # wire.REASON_NAMES
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("sha8", sa.String(16), nullable=False),
    sa.Column("progress_bytes", sa.BigInteger, nullable=False),
    sa.Column("detail", sa.String(256), nullable=False),
    _ms("received_ms"),
)

# What ingest could not take, with its bytes; bounded, oldest go first (counted in services.counters).
quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("topic", sa.String(256), nullable=False),
    sa.Column("device", sa.String(64), nullable=False),  # as the topic named it, "" when it names none
    sa.Column("reason", sa.String(64), nullable=False),
    sa.Column("detail", sa.String(256), nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),  # of the payload as it came; `payload` keeps at most 8 kB of it
    _ms("received_ms"),
    _ms("replay_asked_ms", nullable=True),  # `edgewise frames replay`: ingest takes it once more
    _ms("replayed_ms", nullable=True),
    sa.Index(None, "device"),
)

# -- models ----------------------------------------------------------------------------------------------------------

models = sa.Table(
    "models",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.String(32), primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),  # anti-rollback counter
    sa.Column("schema", sa.Text, nullable=False),
    sa.Column("schema_hash", sa.String(16), nullable=False),
    sa.Column("detector", sa.String(64), nullable=False),
    sa.Column("threshold", sa.Float, nullable=False),
    sa.Column("margin", sa.Float, nullable=False),
    sa.Column("card", sa.JSON, nullable=False),  # metrics and lineage, as the publisher wrote them
    sa.Column("note", sa.Text, nullable=False, server_default=""),  # what operators have to say of it
    _ms("created_ms"),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("arch", sa.String(16), nullable=False),
    sa.Column("abi", sa.Integer, nullable=False),
    sa.Column("format", sa.String(16), nullable=False),  # wire.FORMAT_NAMES
    sa.Column("rung", sa.SmallInteger, nullable=False, server_default="0"),  # 0: the version itself, else a stand-in
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("key_id", sa.String(16), nullable=False),
    sa.Column("manifest", sa.JSON, nullable=False),
    _ms("created_ms"),
    sa.ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
    sa.UniqueConstraint("name", "version", "arch", "abi", "format", "rung"),
)

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("alias", sa.String(32), primary_key=True),  # champion, challenger
    sa.Column("version", sa.String(32), nullable=False),
    _ms("changed_ms"),
    sa.ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
)

alias_history = sa.Table(
    "alias_history",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("alias", sa.String(32), nullable=False),
    sa.Column("version", sa.String(32)),  # NULL: the alias was removed
    sa.Column("previous", sa.String(32)),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    _ms("changed_ms"),
    sa.Index(None, "name", "alias"),
)

# What a device shall become: an outbox. Whoever changes a row raises `version` in the same transaction; ingest
# publishes WANT for rows with version > published_version and then sets published_version to what it published.
desired = sa.Table(
    "desired",
    metadata,
    _device(),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("config", sa.JSON, nullable=False),  # {key: value}, keys of contract/merge.py
    _count("config_version"),  # `version` as `config` last changed
    _count("local_version"),  # how often the board's was changed on the spot, as far as `config` took that in
    sa.Column("artifact_sha256", sa.String(64), sa.ForeignKey("artifacts.sha256")),  # NULL: the model stays as it is
    sa.Column("shadow_sha256", sa.String(64), sa.ForeignKey("artifacts.sha256")),  # to score beside it, NULL: none
    sa.Column("why", sa.Text, nullable=False, server_default=""),  # e.g. why no artifact fits this board
    sa.Column("statement_ids", sa.JSON, nullable=False, server_default="[]"),  # of key_statements, for this board
    sa.Column("published_version", sa.BigInteger, nullable=False, server_default="0"),
    _ms("changed_ms"),
)

# Commands to boards: an outbox, see devices/commands.py. Its ids are the numbers a board sees, which rise for ever.
commands = sa.Table(
    "commands",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    _device(primary=False),
    sa.Column("verb", sa.String(32), nullable=False),
    sa.Column("args", sa.JSON, nullable=False),
    _ms("created_ms"),
    sa.Column("sent_ms", sa.BigInteger),  # NULL: not yet
    sa.Index(
        "ix_commands_unsent",
        "device",
        sqlite_where=sa.text("sent_ms IS NULL"),
        postgresql_where=sa.text("sent_ms IS NULL"),
    ),
    sqlite_autoincrement=True,
)

config_conflicts = sa.Table(
    "config_conflicts",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    _device(primary=False),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("desired", sa.JSON),
    sa.Column("reported", sa.JSON),
    sa.Column("rule", sa.String(32), nullable=False),  # the rule that decided
    sa.Column("kept", sa.JSON),  # the value that won
    _ms("at_ms"),
    sa.Index(None, "device"),
)

# -- the running parts -----------------------------------------------------------------------------------------------

# One row per part, written every second by the part itself: /health/ready and /metrics read it.
services = sa.Table(
    "services",
    metadata,
    sa.Column("service", sa.String(32), primary_key=True),  # "ingest"
    sa.Column("pid", sa.Integer, nullable=False),
    _ms("started_ms"),
    _ms("beat_ms"),
    sa.Column("ready", sa.Boolean, nullable=False),  # connected, subscribed, store writable
    sa.Column("counters", sa.JSON, nullable=False),  # {metric name: number} since the part started
)

# Of a row of `queries` that tells what a shadow model made of a window, and asks nothing.
TELLING = (wire.WHY_SHADOW_ANOMALY, wire.WHY_SHADOW_NORMAL)

RECORD_TABLES = {
    wire.EVENT: events,
    wire.QUERY: queries,
    wire.UPDATE: updates,
    wire.HEALTH: health,
    wire.READINGS: frames,
}
