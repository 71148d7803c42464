"""Logins that are kept of people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "logins",
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("issuer", "subject", "state", "why")
        ),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("renewed_at", sa.Double(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=True),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("held_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_logins")),
    )


def downgrade() -> None:
    op.drop_table("logins")
