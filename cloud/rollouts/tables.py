"""Tables of the rollouts: the plan, the state, the cohort, and every step with what led to it."""

import sqlalchemy as sa

from cloud.store.tables import metadata
from contract import wire

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("fallback", sa.String(32), nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),  # plan.Plan
    sa.Column("stage", sa.String(16), nullable=False),  # engine.Stage; also in `state`, here to be selected by
    sa.Column("state", sa.JSON, nullable=False),  # engine.State
    sa.Column("findings", sa.JSON, nullable=False),  # [gates.Finding] of the last look
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
)

rollout_boards = sa.Table(
    "rollout_boards",
    metadata,
    sa.Column("rollout", sa.BigInteger, sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("device", sa.String(wire.MAX_DEVICE_ID), sa.ForeignKey("devices.device"), primary_key=True),
    sa.Column("rank", sa.Integer, nullable=False),  # bucket order; who joins late comes last
    sa.Column("active", sa.Boolean, nullable=False),  # the rollout owns the board
    sa.Column("exposed", sa.Boolean, nullable=False),  # it shall run the candidate
    sa.Column("told_ms", sa.BigInteger),  # when `exposed` last changed
    sa.Column("before", sa.JSON, nullable=False),  # {metric: [amount, exposure]} before the rollout
    # Whatever goes wrong elsewhere, no board is ever in two rollouts.
    sa.Index(
        "uq_rollout_boards_active",
        "device",
        unique=True,
        sqlite_where=sa.text("active"),
        postgresql_where=sa.text("active"),
    ),
)

rollout_steps = sa.Table(
    "rollout_steps",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("rollout", sa.BigInteger, sa.ForeignKey("rollouts.id"), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("stage", sa.String(16), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("exposed", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by", sa.String(16), nullable=False),  # "operator" or "controller"
    sa.Index(None, "rollout"),
)
