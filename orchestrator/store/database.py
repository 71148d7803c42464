"""The connection to the database: transactions, what its errors mean, and its migrations."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy import exc as sql
from sqlalchemy.pool import QueuePool

from orchestrator.errors import StoreUnavailable, UserError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 10.0


def sqlite_path(url: URL) -> Path | None:
    """The file of an SQLite URL; None for a database in memory or another kind of database."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database)).absolute()


def parse(url: str) -> URL:
    """``url`` as SQLAlchemy understands it; :class:`UserError` when it does not."""
    try:
        return make_url(url)
    except sql.ArgumentError:
        raise UserError(
            "The database URL cannot be understood.",
            attempt="write it like sqlite:////var/lib/vacuo/vacuo.db",
            code="configuration-invalid",
        ) from None


class Database:
    """One database, with reads that see one moment and writes that happen whole or not at all.

    Threads may share it.  ``name`` is what to call it in a sentence; it has no password in it.
    """

    def __init__(self, url: str) -> None:
        self.url = parse(url)
        self.path = sqlite_path(self.url)
        self.name = str(self.path or self.url.render_as_string(hide_password=True))
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        # SQLite has one writer at a time and wakes the waiting ones in no order: within one
        # process a lock is fairer than its polling, and nobody starves.
        self._one_writer: AbstractContextManager[Any] = (
            threading.Lock() if self.is_sqlite else nullcontext()
        )
        self.engine = self._engine()
        self.write_engine = self.engine.execution_options(vacuo_write=True)
        self.read_engine = self.engine
        if not self.is_sqlite:  # where that is what a transaction sees in any case
            self.read_engine = self.engine.execution_options(isolation_level="REPEATABLE READ")

    def _engine(self) -> Engine:
        # Parameters carry templates and their secrets: they stay out of errors and logs.
        options: dict[str, Any] = {"hide_parameters": True}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": BUSY_SECONDS, "check_same_thread": False}
            # A database in memory lives in its one connection, which threads take in turn.
            in_memory = self.path is None
            options |= {"pool_size": 1, "max_overflow": 0} if in_memory else {"pool_size": 16}
            options["poolclass"] = QueuePool
        try:
            engine = create_engine(self.url, **options)
        except (sql.NoSuchModuleError, ModuleNotFoundError) as error:
            raise UserError(
                f"The database {self.name} cannot be used.",
                f"{error}.",
                "install its Python driver, or use sqlite",
                code="database-unusable",
            ) from None
        if self.is_sqlite:
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees the database as it was at one moment."""
        with self.explained(), self.read_engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, and undone by any exception.

        Raises :class:`StoreUnavailable` when the database cannot take it; nothing is written then.
        """
        with self.writer(), self.write_engine.begin() as connection:
            yield connection

    @contextmanager
    def writer(self) -> Iterator[None]:
        """This process's turn to write."""
        with self._one_writer, self.explained():
            yield

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of the database as what they mean to whoever runs it."""
        try:
            yield
        except (sql.IntegrityError, sql.ProgrammingError):
            raise  # a mistake of ours
        except sql.DBAPIError as error:
            raise StoreUnavailable(self._sentence(error.orig)) from None
        except sql.TimeoutError:
            raise StoreUnavailable(
                f"Too many requests wait for the database {self.name}; try again."
            ) from None

    def _sentence(self, error: BaseException | None) -> str:
        code = getattr(error, "sqlite_errorcode", None)
        if not isinstance(error, sqlite3.Error) or code is None:
            return f"The database {self.name} does not answer ({type(error).__name__})."
        text = _SQLITE_SENTENCES.get(code & 0xFF, "failed ({error}).")  # the low byte is the class
        return f"The database {self.name} {text.format(error=error)} Nothing was written."


_SQLITE_SENTENCES = {
    sqlite3.SQLITE_FULL: "cannot grow because its disk is full; make room there.",
    sqlite3.SQLITE_BUSY: "is kept locked by another process; find it with: fuser -v FILE.",
    sqlite3.SQLITE_READONLY: "is read-only; check its owner, its mode and its file system.",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that its directory exists and is writable.",
    sqlite3.SQLITE_IOERR: "meets errors of its disk ({error}); look for a full or failing one.",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore it from a backup.",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database.",
}


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    connection.execute("PRAGMA foreign_keys = ON")
    # FULL, not NORMAL: in WAL mode NORMAL may lose the last commits when the power fails, and
    # those may be a deletion that was promised or the intent of a machine that was then created.
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails when another one wrote in between;
    # one that says at once that it will write waits for its turn instead.
    write = connection.get_execution_options().get("vacuo_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


# --- opening and migrating ----------------------------------------------------------------------


def alembic_config(scripts: Path = MIGRATIONS) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def open_database(url: str, scripts: Path = MIGRATIONS) -> Database:
    """Open the database, creating it or bringing it up to this version's schema.

    Raises :class:`UserError` with what to do when that cannot be.
    """
    database = Database(url)
    try:
        _make_file(database)
        _use_wal(database)
        _migrate(database, scripts)
    except (StoreUnavailable, OSError) as error:
        database.close()
        raise UserError(
            f"The database {database.name} cannot be opened.",
            str(error) if isinstance(error, StoreUnavailable) else f"{error.strerror}.",
            "mend that, or set another data_directory in vacuo.yaml",
            code="database-unusable",
        ) from None
    except UserError:
        database.close()
        raise
    return database


def _make_file(database: Database) -> None:
    """Nobody else reads the file: parameters of templates may be secret.  SQLite gives its
    companions (-wal, -shm) the same mode."""
    if database.path is not None:
        database.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(database.path, os.O_RDWR | os.O_CREAT, 0o600))


def _use_wal(database: Database) -> None:
    if database.path is None:
        return
    with database.explained(), database.engine.connect() as connection:
        mode = _outside_transaction(connection, "PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise UserError(
            f"The database {database.name} cannot use a write-ahead log.",
            "Its file system has no shared memory; network file systems do not.",
            "set data_directory in vacuo.yaml to a local disk",
            code="database-unusable",
        )


def _outside_transaction(connection: Connection, statement: str) -> Any:
    """Run an SQLite statement that a transaction would refuse or ignore; its first value."""
    driver: Any = connection.connection.driver_connection
    try:
        row = driver.execute(statement).fetchone()
    except sqlite3.DatabaseError as error:
        raise sql.DatabaseError(statement, None, error) from error
    return row[0] if row else None


def _migrate(database: Database, scripts: Path) -> None:
    """All of it in one transaction: a kill or a full disk in the middle leaves the old schema."""
    with database.writer(), database.write_engine.connect() as connection:
        if not database.is_sqlite:
            with connection.begin():
                _upgrade(database, connection, scripts)
            return
        # A table that is made anew is dropped first, which must not take its children along.
        _outside_transaction(connection, "PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                _upgrade(database, connection, scripts)
                orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                if orphans:
                    raise RuntimeError(f"the migration left {len(orphans)} rows without a parent")
        finally:
            _outside_transaction(connection, "PRAGMA foreign_keys = ON")


def _upgrade(database: Database, connection: Connection, scripts: Path) -> None:
    config = alembic_config(scripts)
    current = MigrationContext.configure(connection).get_current_heads()
    if current == tuple(ScriptDirectory.from_config(config).get_heads()):
        return
    if not current and inspect(connection).get_table_names():
        raise UserError(
            f"The database {database.name} belongs to something else.",
            "It has tables and none of Vacuo's.",
            "give Vacuo a database of its own: `database` or `data_directory` in vacuo.yaml",
            code="database-unusable",
        )
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except (CommandError, ResolutionError) as error:
        if not isinstance(error, ResolutionError) and not isinstance(
            error.__cause__, ResolutionError
        ):
            raise
        raise UserError(
            f"The database {database.name} was written by a newer Vacuo.",
            f"This one does not know its schema {', '.join(current)}.",
            "start the newer version, or restore the backup taken before it ran",
            code="database-unusable",
        ) from None
