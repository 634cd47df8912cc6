"""What a tier answered to each QUERY. One row per question, written once."""

import sqlalchemy as sa

from cloud.store.tables import metadata
from contract import wire

answers = sa.Table(
    "answers",
    metadata,
    sa.Column("device", sa.String(wire.MAX_DEVICE_ID), primary_key=True),
    sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tier", sa.SmallInteger, nullable=False),  # wire.ROUTE_FOG or ROUTE_CLOUD
    sa.Column("verdict", sa.SmallInteger, nullable=False),  # wire.VERDICT_NAMES
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("name", sa.String(64)),  # of the model that scored, NULL when none did
    sa.Column("version", sa.String(32)),
    sa.Column("why", sa.Text, nullable=False),  # why the verdict is unknown, else empty
    sa.Column("answered_ms", sa.BigInteger, nullable=False),
    sa.Column("sent_ms", sa.BigInteger),  # NULL: not handed to the broker, or too late to be of use
)
