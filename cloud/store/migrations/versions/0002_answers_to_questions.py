"""answers to questions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.Column("verdict", sa.SmallInteger(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=True),
        sa.Column("version", sa.String(length=32), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("answered_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device", "epoch", "seq", name=op.f("pk_answers")),
    )
    with op.batch_alter_table("health", schema=None) as batch_op:
        batch_op.add_column(sa.Column("routes", sa.JSON(), nullable=True))

    with op.batch_alter_table("queries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("route", sa.SmallInteger(), server_default="2", nullable=False))
        batch_op.create_index(batch_op.f("ix_queries_received_ms"), ["received_ms"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("queries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_queries_received_ms"))
        batch_op.drop_column("route")

    with op.batch_alter_table("health", schema=None) as batch_op:
        batch_op.drop_column("routes")

    op.drop_table("answers")
