"""What every part of the repository has."""

from __future__ import annotations

from orchestrator.store.database import Database


class Part:
    """Some methods of a repository; each is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
