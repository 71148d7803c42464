"""Secrets, sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PLACE = ("issuer", "subject", "user_group", "deployment", "name")


def upgrade() -> None:
    texts = (*PLACE, "kind", "fingerprint", "key", "wrapped", "content")
    op.create_table(
        "secrets",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in texts),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_secrets")),
        sa.UniqueConstraint(*PLACE, name=op.f(f"uq_secrets_{'_'.join(PLACE)}")),
    )
    op.create_index(op.f("ix_secrets_key"), "secrets", ["key"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_secrets_key"), table_name="secrets")
    op.drop_table("secrets")
