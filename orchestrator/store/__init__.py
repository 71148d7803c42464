"""The store: SQLAlchemy over SQLite now, with nothing in it that PostgreSQL could not do."""

from orchestrator.store.lock import ServerLock
from orchestrator.store.repository import Lease, Page, Repository

__all__ = ["Lease", "Page", "Repository", "ServerLock"]
