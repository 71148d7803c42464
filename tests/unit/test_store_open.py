"""Opening, creating and migrating a database."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, text

from orchestrator.errors import StoreUnavailable, UserError
from orchestrator.model import (
    Deployment,
    DeploymentId,
    DeploymentSpec,
    DeploymentStatus,
    Event,
    EventKind,
    Principal,
)
from orchestrator.store import Repository, schema
from orchestrator.store.database import MIGRATIONS, alembic_config, open_database

ID = DeploymentId("one")


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


def _deployment() -> Deployment:
    return Deployment(
        id=ID,
        owner=Principal("https://issuer", "ada"),
        template="tosca_definitions_version: x",
        parameters={},
        spec=DeploymentSpec("", ()),
        status=DeploymentStatus.CREATE_IN_PROGRESS,
        created_at=1.0,
        updated_at=1.0,
    )


def test_a_new_database_and_its_directory_are_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "vacuo.db"
    repository = Repository.open(_url(path))
    repository.ready()
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"vacuo.db": 0o600, "vacuo.db-wal": 0o600, "vacuo.db-shm": 0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    repository.close()


def test_opening_again_keeps_everything(tmp_path: Path) -> None:
    url = _url(tmp_path / "vacuo.db")
    first = Repository.open(url)
    created = first.create(_deployment())
    first.close()
    again = Repository.open(url)
    assert again.deployment(ID) == created
    again.close()


def test_every_connection_keeps_its_promises(tmp_path: Path) -> None:
    database = open_database(_url(tmp_path / "vacuo.db"))
    with database.write() as one, database.read() as other:
        for connection in (one, other):
            said = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
            }
            assert said == {
                "journal_mode": "wal",
                "foreign_keys": 1,
                "synchronous": 2,
                "busy_timeout": 10_000,
            }
    database.close()


def test_a_write_takes_the_lock_when_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "vacuo.db"
    database = open_database(_url(path))
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    with database.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    with database.read():
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    other.close()
    database.close()


def test_the_model_and_the_migrations_are_the_same(tmp_path: Path) -> None:
    database = open_database(_url(tmp_path / "vacuo.db"))
    config = alembic_config()
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.check(config)
    database.close()


def test_the_migrations_can_be_undone(tmp_path: Path) -> None:
    database = open_database(_url(tmp_path / "vacuo.db"))
    config = alembic_config()
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    database.close()


REMAKE = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade():
    with op.batch_alter_table("deployments", recreate="always") as batch:
        batch.add_column(sa.Column("colour", sa.Text(), server_default="grey"))
    {then}
"""


def _later_version(tmp_path: Path, then: str = "") -> Path:
    """Migrations as a later version of Vacuo might have them: one more, which makes anew the table
    that all others point to."""
    scripts = tmp_path / "later"
    shutil.copytree(MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    newest = max(path.name[:4] for path in (scripts / "versions").glob("*.py"))
    later = REMAKE.format(revision="9999", before=newest, then=then)
    (scripts / "versions" / "9999_later.py").write_text(later)
    return scripts


def _with_rows(tmp_path: Path) -> str:
    url = _url(tmp_path / "vacuo.db")
    repository = Repository.open(url)
    event = Event(1.0, EventKind.AUDIT, ID, "made")
    repository.create(_deployment(), idempotency_key="k", events=[event])
    repository.acquire(ID, "server", 10, now=1.0)
    repository.close()
    return url


def test_a_migration_over_an_existing_database_loses_no_row(tmp_path: Path) -> None:
    url = _with_rows(tmp_path)
    database = open_database(url, _later_version(tmp_path))
    with database.read() as connection:
        assert connection.execute(text("SELECT id, colour FROM deployments")).all() == [
            (ID, "grey")
        ]
        for table in (schema.leases, schema.idempotency_keys, schema.events):
            assert len(connection.execute(table.select()).all()) == 1, table.name
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    database.close()


def test_a_migration_that_fails_half_way_leaves_the_old_database(tmp_path: Path) -> None:
    url = _with_rows(tmp_path)
    scripts = _later_version(tmp_path, then="raise OSError(28, 'No space left on device')")
    with pytest.raises(UserError, match="No space left on device"):
        open_database(url, scripts)
    repository = Repository.open(url)
    assert repository.deployment(ID).id == ID
    assert len(repository.events()) == 1
    repository.close()


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    url = _with_rows(tmp_path)
    scripts = _later_version(tmp_path)
    open_database(url, scripts).close()
    with pytest.raises(UserError, match="written by a newer Vacuo") as refused:
        Repository.open(url)
    assert "9999" in refused.value.why
    assert refused.value.attempt
    open_database(url, scripts).close()


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE recipes (name TEXT)")
    theirs.close()
    with pytest.raises(UserError, match="belongs to something else"):
        Repository.open(_url(path))


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda path: path.write_bytes(b"not a database" * 500), "is not an SQLite database"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
    ids=["text", "directory"],
)
def test_a_file_that_is_no_database_is_a_user_error(
    tmp_path: Path, break_it: object, sentence: str
) -> None:
    assert callable(break_it)
    break_it(tmp_path / "vacuo.db")
    with pytest.raises(UserError, match=sentence) as refused:
        Repository.open(_url(tmp_path / "vacuo.db"))
    assert refused.value.attempt


def test_a_directory_that_cannot_be_made_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        Repository.open(_url(tmp_path / "file" / "data" / "vacuo.db"))


@pytest.mark.parametrize("url", ["", "no url", "oracle+nothing://u:hunter2@db/x"])
def test_a_url_that_cannot_be_used_is_a_user_error_without_its_password(url: str) -> None:
    with pytest.raises(UserError) as refused:
        Repository.open(url)
    assert "hunter2" not in str(refused.value)


def test_errors_never_show_what_was_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "vacuo.db"
    database = open_database(_url(path))
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE events")
    repository = Repository(database)
    with pytest.raises(StoreUnavailable) as failed:
        repository.append([Event(1.0, EventKind.AUDIT, ID, "hunter2")])
    assert "hunter2" not in str(failed.value)
    repository.close()
