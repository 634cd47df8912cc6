"""profiles of models"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("health", schema=None) as batch_op:
        batch_op.add_column(sa.Column("profile", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("health", schema=None) as batch_op:
        batch_op.drop_column("profile")
