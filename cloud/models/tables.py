"""Tables only the registry writes: whose signatures count, what boards were told to run, and what they ran."""

import sqlalchemy as sa

from cloud.store.tables import metadata
from contract import wire

# Public keys whose artifacts are accepted. The private halves never come near the server.
publisher_keys = sa.Table(
    "publisher_keys",
    metadata,
    sa.Column("key_id", sa.String(16), primary_key=True),  # hex
    sa.Column("public_key", sa.String(128), nullable=False),  # x || y, hex
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("added_ms", sa.BigInteger, nullable=False),
    sa.Column("revoked_ms", sa.BigInteger),
    sa.Column("until_ms", sa.BigInteger),  # it has handed over: its signature on models counts until then
)

# What publishers said of their keys (contract/statement.py), in the order it was heard.
key_statements = sa.Table(
    "key_statements",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("signer", sa.String(16), nullable=False),  # key id, hex
    sa.Column("new_key_id", sa.String(16), nullable=False),  # hex, "" when nobody takes over
    sa.Column("revoked", sa.JSON, nullable=False),  # [key id, hex]
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

# Leave to go back to an artifact, the widest that its publisher gave.
leaves = sa.Table(
    "leaves",
    metadata,
    sa.Column("sha256", sa.String(64), sa.ForeignKey("artifacts.sha256", ondelete="CASCADE"), primary_key=True),
    sa.Column("counter", sa.BigInteger, nullable=False),
    sa.Column("expires_s", sa.BigInteger, nullable=False),  # 0: never
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

NO_BASE = ""  # of a patch that makes the artifact out of nothing: it is the artifact deflated

# What makes one artifact out of another: a blob, or the finding that none is shorter than the artifact itself.
patches = sa.Table(
    "patches",
    metadata,
    sa.Column("base_sha8", sa.String(16), primary_key=True),  # hex, as boards name what they run, or NO_BASE
    sa.Column("target_sha256", sa.String(64), sa.ForeignKey("artifacts.sha256", ondelete="CASCADE"), primary_key=True),
    sa.Column("patch_sha256", sa.String(64)),  # NULL: none is worth it
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

# Boards that do not simply follow the champion of the model they run.
assignments = sa.Table(
    "assignments",
    metadata,
    sa.Column("device", sa.String(wire.MAX_DEVICE_ID), sa.ForeignKey("devices.device"), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("version", sa.String(32)),  # NULL: whatever the champion of `name` is
    sa.Column("shadow_version", sa.String(32)),  # of `name`, to score beside it; NULL: none
    sa.Column("source", sa.String(64), nullable=False),  # "operator" or "rollout:<id>"
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
)

# Each change of desired.artifact_sha256, in order: what the cloud wanted, since when and why.
deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("device", sa.String(wire.MAX_DEVICE_ID), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("previous", sa.String(64)),
    sa.Column("cause", sa.String(64), nullable=False),  # "champion", "operator" or "rollout:<id>"
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
    sa.Index(None, "device", "changed_ms"),
)

# Each change of the model a board says it runs: what it was, since when.
model_runs = sa.Table(
    "model_runs",
    metadata,
    sa.Column("device", sa.String(wire.MAX_DEVICE_ID), primary_key=True),
    sa.Column("since_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sha8", sa.String(16), nullable=False),  # "" for none: the built-in SAFE model
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
)
