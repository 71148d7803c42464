"""Alembic's way in: it works on the connection that the store hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from orchestrator.store import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    # SQLite alters little in place: tables are made anew with their rows.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
