"""People who are signed in with a browser, and nodes that were asked to leave."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INDEXES = (["issuer", "subject"], ["ends_at"])


def upgrade() -> None:
    op.create_table(
        "drains",
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"],
            ["deployments.id"],
            name=op.f("fk_drains_deployments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("deployment", "node", name=op.f("pk_drains")),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("issuer", "subject", "groups", "scopes")
        ),
        sa.Column("client_id", sa.Text(), nullable=True),
        *(
            sa.Column(name, sa.Double(), nullable=False)
            for name in ("created_at", "used_at", "ends_at")
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sessions")),
    )
    for columns in INDEXES:
        op.create_index(op.f(_name(columns)), "sessions", columns, unique=False)


def downgrade() -> None:
    for columns in INDEXES:
        op.drop_index(op.f(_name(columns)), table_name="sessions")
    op.drop_table("sessions")
    op.drop_table("drains")


def _name(columns: list[str]) -> str:
    return f"ix_sessions_{'_'.join(columns)}"
