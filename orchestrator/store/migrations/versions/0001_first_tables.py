"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "deployments",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner_issuer", sa.Text(), nullable=False),
        sa.Column("owner_subject", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("callback", sa.Text(), nullable=True),
        sa.Column("user_group", sa.Text(), nullable=True),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_deployments")),
        sa.UniqueConstraint("id", name=op.f("uq_deployments_id")),
    )
    op.create_index(
        op.f("ix_deployments_owner_issuer_owner_subject"),
        "deployments",
        ["owner_issuer", "owner_subject"],
        unique=False,
    )
    op.create_index(op.f("ix_deployments_status"), "deployments", ["status"], unique=False)
    op.create_table(
        "events",
        sa.Column("sequence", NUMBER, autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("correlation", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_events")),
    )
    op.create_index(
        op.f("ix_events_deployment_sequence"), "events", ["deployment", "sequence"], unique=False
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner_issuer", sa.Text(), nullable=False),
        sa.Column("owner_subject", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"],
            ["deployments.id"],
            name=op.f("fk_idempotency_keys_deployments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "owner_issuer", "owner_subject", "key", name=op.f("pk_idempotency_keys")
        ),
    )
    op.create_table(
        "intents",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.Double(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment"],
            ["deployments.id"],
            name=op.f("fk_intents_deployments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_intents")),
        sa.UniqueConstraint("id", name=op.f("uq_intents_id")),
    )
    op.create_index(
        op.f("ix_intents_deployment_kind_node"),
        "intents",
        ["deployment", "kind", "node"],
        unique=False,
    )
    op.create_table(
        "leases",
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"],
            ["deployments.id"],
            name=op.f("fk_leases_deployments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("deployment", name=op.f("pk_leases")),
    )
    op.create_table(
        "nodes",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"],
            ["deployments.id"],
            name=op.f("fk_nodes_deployments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_nodes")),
        sa.UniqueConstraint("deployment", "name", name=op.f("uq_nodes_deployment_name")),
    )
    op.create_index(op.f("ix_nodes_state"), "nodes", ["state"], unique=False)
    op.create_table(
        "runs",
        sa.Column("intent", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment"], ["deployments.id"], name=op.f("fk_runs_deployments"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["intent"], ["intents.id"], name=op.f("fk_runs_intents"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("intent", "node", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_deployment_node"), "runs", ["deployment", "node"], unique=False)
    counters = sa.table("counters", sa.column("name", sa.Text), sa.column("value", sa.BigInteger))
    op.bulk_insert(counters, [{"name": "events", "value": 0}, {"name": "probe", "value": 0}])


def downgrade() -> None:
    op.drop_index(op.f("ix_runs_deployment_node"), table_name="runs")
    op.drop_table("runs")
    op.drop_index(op.f("ix_nodes_state"), table_name="nodes")
    op.drop_table("nodes")
    op.drop_table("leases")
    op.drop_index(op.f("ix_intents_deployment_kind_node"), table_name="intents")
    op.drop_table("intents")
    op.drop_table("idempotency_keys")
    op.drop_index(op.f("ix_events_deployment_sequence"), table_name="events")
    op.drop_table("events")
    op.drop_index(op.f("ix_deployments_status"), table_name="deployments")
    op.drop_index(op.f("ix_deployments_owner_issuer_owner_subject"), table_name="deployments")
    op.drop_table("deployments")
    op.drop_table("counters")
