"""Audits are chained by hashes; those that are there are, as they are."""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EVENTS = sa.table(
    "events",
    sa.column("sequence", sa.BigInteger),
    sa.column("at", sa.Double),
    sa.column("kind", sa.Text),
    sa.column("deployment", sa.Text),
    sa.column("node", sa.Text),
    sa.column("phase", sa.Text),
    sa.column("message", sa.Text),
    sa.column("failed", sa.Boolean),
    sa.column("actor", sa.Text),
    sa.column("correlation", sa.Text),
    sa.column("code", sa.Text),
)
COUNTERS = sa.table("counters", sa.column("name", sa.Text), sa.column("value", sa.BigInteger))


def upgrade() -> None:
    audits = op.create_table(
        "audits",
        sa.Column("sequence", NUMBER, autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audits")),
    )
    chained = []
    last = "0" * 64
    query = sa.select(EVENTS).where(EVENTS.c.kind == "audit").order_by(EVENTS.c.sequence)
    for row in op.get_bind().execute(query):
        text = json.dumps(dict(row._mapping), sort_keys=True, separators=(",", ":"))
        last = hashlib.sha256(f"{last}\n{text}".encode()).hexdigest()
        chained.append({"sequence": row.sequence, "hash": last})
    if chained:
        op.bulk_insert(audits, chained)
    op.bulk_insert(COUNTERS, [{"name": "audits", "value": len(chained)}])


def downgrade() -> None:
    op.execute(sa.delete(COUNTERS).where(COUNTERS.c.name == "audits"))
    op.drop_table("audits")
