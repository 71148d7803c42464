"""The tables.  Only what SQL asks about has a column of its own; the rest is JSON text.

Times are seconds since the epoch.  ``number`` columns order rows by age.  A change here needs a
migration beside it: a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from orchestrator.model import DeploymentSpec, Node, Outcome
from orchestrator.reasons import Reason
from orchestrator.store import codec


class Json(TypeDecorator[Any]):
    """Something of type ``hint`` as JSON text; None is NULL."""

    impl = Text
    cache_ok = True

    def __init__(self, hint: Any) -> None:
        super().__init__()
        self.hint = hint

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else codec.to_json(value, self.hint)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else codec.from_json(value, self.hint)


# Constraints have names so that a migration can speak of them.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite counts rows by itself only in a column of type INTEGER.
Number = BigInteger().with_variant(Integer(), "sqlite")

deployments = Table(
    "deployments",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("owner_issuer", Text, nullable=False),
    Column("owner_subject", Text, nullable=False),
    Column("template", Text, nullable=False),
    Column("parameters", Json(Mapping[str, Any]), nullable=False),
    Column("spec", Json(DeploymentSpec), nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Json(Reason)),
    Column("reasons", Json(tuple[Reason, ...]), nullable=False),
    Column("outputs", Json(Mapping[str, Any]), nullable=False),
    Column("callback", Text),
    Column("user_group", Text),
    Column("forced", Boolean, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("id"),
    Index(None, "owner_issuer", "owner_subject"),
    Index(None, "status"),
)


def _deployment(**options: Any) -> Column[str]:
    return Column("deployment", ForeignKey("deployments.id", ondelete="CASCADE"), **options)


idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner_issuer", Text, primary_key=True),
    Column("owner_subject", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    _deployment(nullable=False),
)

# One row per deployment for ever, so that the token only grows; no holder is an empty string.
leases = Table(
    "leases",
    metadata,
    _deployment(primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", Integer, nullable=False),
    Column("expires_at", Double, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    _deployment(nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("node", Json(Node), nullable=False),
    UniqueConstraint("deployment", "name"),
    Index(None, "state"),
)

# ``node`` is the one node of the action, where it has one.
intents = Table(
    "intents",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    _deployment(nullable=False),
    Column("kind", Text, nullable=False),
    Column("node", Text),
    Column("action", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("decided_at", Double, nullable=False),
    Column("outcome", Json(Outcome)),
    Column("finished_at", Double),
    UniqueConstraint("id"),
    Index(None, "deployment", "kind", "node"),
)

# One configuration run on one node; ``intent`` is the ConfigureNodes that opened it.  One that the
# node does by itself has a ``deadline``, and the hash of the credential it is reported with;
# ``reported`` counts the events that were.
runs = Table(
    "runs",
    metadata,
    Column("intent", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("number", Number, nullable=False),  # that of the intent
    _deployment(nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("finished_at", Double),
    Column("deadline", Double),
    Column("reporter", Text),
    Column("reported", Integer, nullable=False, server_default="0"),
    ForeignKeyConstraint(["intent"], ["intents.id"], ondelete="CASCADE"),
    Index(None, "deployment", "node"),
    Index(None, "reporter"),
)

# One-time credentials of nodes that configure themselves, as hashes; ``secret`` is the hash of what
# the node made up when it used its own, and NULL until then.
enrolments = Table(
    "enrolments",
    metadata,
    Column("credential", Text, primary_key=True),
    _deployment(nullable=False),
    Column("node", Text, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("secret", Text),
    Column("host_keys", Json(tuple[str, ...]), nullable=False),
    UniqueConstraint("secret"),
    Index(None, "deployment", "node"),
)

# Append only, and without a foreign key: an audit outlives what it is about.
events = Table(
    "events",
    metadata,
    Column("sequence", Number, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("deployment", Text),
    Column("node", Text),
    Column("phase", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("failed", Boolean, nullable=False),
    Column("actor", Text, nullable=False),
    Column("correlation", Text, nullable=False),
    Column("code", Text, nullable=False),
    Index(None, "deployment", "sequence"),
)

# Calls that are owed to users; see ``outbox``.
callbacks = Table(
    "callbacks",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    _deployment(nullable=False),
    Column("url", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Json(Reason)),
    Column("changed_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("retry_at", Double, nullable=False),
    UniqueConstraint("id"),
    Index(None, "deployment"),
)

# Whose each is and what may be shown of it are columns; ``key`` names the master key with which
# ``wrapped``, the key of ``content``, is sealed.
secrets = Table(
    "secrets",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("user_group", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("wrapped", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double),
    UniqueConstraint("issuer", "subject", "user_group", "deployment", "name"),
    Index(None, "key"),
)

# Nodes that somebody asked to leave; the loop sees to it.
drains = Table(
    "drains",
    metadata,
    _deployment(primary_key=True),
    Column("node", Text, primary_key=True),
    Column("actor", Text, nullable=False),
    Column("asked_at", Double, nullable=False),
)

# People who are signed in with a browser; ``digest`` is the hash of what their cookie holds.
sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("groups", Json(tuple[str, ...]), nullable=False),
    Column("scopes", Json(tuple[str, ...]), nullable=False),
    Column("client_id", Text),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double, nullable=False),
    Column("ends_at", Double, nullable=False),
    Index(None, "issuer", "subject"),
    Index(None, "ends_at"),
)

# Logins that are kept of people, but for their refresh tokens, which are among the secrets.  Who
# renews one holds it until ``held_until``; ``turn`` grows with each time that somebody does.
logins = Table(
    "logins",
    metadata,
    Column("issuer", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("renewed_at", Double, nullable=False),
    Column("ends_at", Double),
    Column("turn", Integer, nullable=False),
    Column("held_until", Double, nullable=False),
)

# The hash of each audit over the one before it; see ``audit``.
audits = Table(
    "audits",
    metadata,
    Column("sequence", Number, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
)

# ``events`` is the last sequence given out; ``audits`` counts those ever written; ``probe`` is what
# the readiness check writes.
counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
