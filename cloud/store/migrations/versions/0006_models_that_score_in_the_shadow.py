"""models that score in the shadow"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("assignments", schema=None) as batch_op:
        batch_op.add_column(sa.Column("shadow_version", sa.String(length=32), nullable=True))

    with op.batch_alter_table("desired", schema=None) as batch_op:
        batch_op.add_column(sa.Column("shadow_sha256", sa.String(length=64), nullable=True))
        batch_op.create_foreign_key(batch_op.f("fk_desired_shadow_sha256"), "artifacts", ["shadow_sha256"], ["sha256"])

    with op.batch_alter_table("devices", schema=None) as batch_op:
        batch_op.add_column(sa.Column("shadow_sha8", sa.String(length=16), nullable=True))

    with op.batch_alter_table("health", schema=None) as batch_op:
        batch_op.add_column(sa.Column("shadow_sha8", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("shadow_compared", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("shadow_disagreed", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("health", schema=None) as batch_op:
        batch_op.drop_column("shadow_disagreed")
        batch_op.drop_column("shadow_compared")
        batch_op.drop_column("shadow_sha8")

    with op.batch_alter_table("devices", schema=None) as batch_op:
        batch_op.drop_column("shadow_sha8")

    with op.batch_alter_table("desired", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_desired_shadow_sha256"), type_="foreignkey")
        batch_op.drop_column("shadow_sha256")

    with op.batch_alter_table("assignments", schema=None) as batch_op:
        batch_op.drop_column("shadow_version")
