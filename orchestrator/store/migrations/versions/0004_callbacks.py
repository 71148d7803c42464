"""Calls that are owed to users' callbacks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "callbacks",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"],
            ["deployments.id"],
            name=op.f("fk_callbacks_deployments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_callbacks")),
        sa.UniqueConstraint("id", name=op.f("uq_callbacks_id")),
    )
    op.create_index(op.f("ix_callbacks_deployment"), "callbacks", ["deployment"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_callbacks_deployment"), table_name="callbacks")
    op.drop_table("callbacks")
