"""what boards said lately"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_UNSENT = sa.text("sent_ms IS NULL")


def upgrade() -> None:
    with op.batch_alter_table("commands", schema=None) as batch_op:
        batch_op.create_index(
            "ix_commands_unsent", ["device"], unique=False, sqlite_where=_UNSENT, postgresql_where=_UNSENT
        )

    for table in ("events", "health"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.create_index(batch_op.f(f"ix_{table}_device_received_ms"), ["device", "received_ms"], unique=False)


def downgrade() -> None:
    for table in ("health", "events"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_index(batch_op.f(f"ix_{table}_device_received_ms"))

    with op.batch_alter_table("commands", schema=None) as batch_op:
        batch_op.drop_index("ix_commands_unsent", sqlite_where=_UNSENT, postgresql_where=_UNSENT)
