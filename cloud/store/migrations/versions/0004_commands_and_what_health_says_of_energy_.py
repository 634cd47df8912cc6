"""commands, and what health says of energy and the wake line"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "commands",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("verb", sa.String(length=32), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commands")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("health", schema=None) as batch_op:
        batch_op.add_column(sa.Column("sending_uj", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("energy_mj", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("line_holds", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("health", schema=None) as batch_op:
        batch_op.drop_column("line_holds")
        batch_op.drop_column("energy_mj")
        batch_op.drop_column("sending_uj")

    op.drop_table("commands")
