"""statements of publishers and patches"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "key_statements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("signer", sa.String(length=16), nullable=False),
        sa.Column("new_key_id", sa.String(length=16), nullable=False),
        sa.Column("revoked", sa.JSON(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key_statements")),
    )
    op.create_table(
        "leaves",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("expires_s", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["artifacts.sha256"], name=op.f("fk_leaves_sha256"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_leaves")),
    )
    op.create_table(
        "patches",
        sa.Column("base_sha8", sa.String(length=16), nullable=False),
        sa.Column("target_sha256", sa.String(length=64), nullable=False),
        sa.Column("patch_sha256", sa.String(length=64), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["target_sha256"], ["artifacts.sha256"], name=op.f("fk_patches_target_sha256"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("base_sha8", "target_sha256", name=op.f("pk_patches")),
    )
    with op.batch_alter_table("desired", schema=None) as batch_op:
        batch_op.add_column(sa.Column("statement_ids", sa.JSON(), server_default="[]", nullable=False))

    with op.batch_alter_table("publisher_keys", schema=None) as batch_op:
        batch_op.add_column(sa.Column("until_ms", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("publisher_keys", schema=None) as batch_op:
        batch_op.drop_column("until_ms")

    with op.batch_alter_table("desired", schema=None) as batch_op:
        batch_op.drop_column("statement_ids")

    op.drop_table("patches")
    op.drop_table("leaves")
    op.drop_table("key_statements")
