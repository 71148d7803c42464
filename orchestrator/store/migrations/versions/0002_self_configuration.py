"""Nodes that configure themselves: their credentials, and runs that they report."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("deadline", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("reporter", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("reported", sa.Integer(), server_default="0", nullable=False))
    op.create_index(op.f("ix_runs_reporter"), "runs", ["reporter"], unique=False)
    op.create_table(
        "enrolments",
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("host_keys", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"],
            ["deployments.id"],
            name=op.f("fk_enrolments_deployments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("credential", name=op.f("pk_enrolments")),
        sa.UniqueConstraint("secret", name=op.f("uq_enrolments_secret")),
    )
    op.create_index(
        op.f("ix_enrolments_deployment_node"), "enrolments", ["deployment", "node"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_enrolments_deployment_node"), table_name="enrolments")
    op.drop_table("enrolments")
    op.drop_index(op.f("ix_runs_reporter"), table_name="runs")
    op.drop_column("runs", "reported")
    op.drop_column("runs", "reporter")
    op.drop_column("runs", "deadline")
