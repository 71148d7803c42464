"""Secrets at rest: what is stored opens at its own place and nowhere else, and keys rotate."""

from __future__ import annotations

import base64
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import UserError
from orchestrator.identity.master_keys import GIVEN, GIVEN_OLD, KeyRing
from orchestrator.identity.secrets import (
    EnvelopeSealer,
    SecretStore,
    SecretUnreadable,
    fingerprint,
    rotate,
)
from orchestrator.model import Principal, Sealed, SecretPlace
from orchestrator.store.repository import Repository

ALICE = Principal("https://issuer.example", "alice")
CONTENT = b"hunter2-do-not-tell"
HERE = SecretPlace.of(ALICE, "password", "d-1")


class Safe:
    """A store on a database of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ring = KeyRing(directory / "master-keys", {})
        self.repository = Repository.open(f"sqlite:///{directory / 'vacuo.db'}")
        self.rows = self.repository.secrets
        self.sealer = EnvelopeSealer(self.ring)
        self.store = SecretStore(self.rows, self.sealer)

    def change(self, statement: str, *values: object) -> None:
        with sqlite3.connect(self.directory / "vacuo.db") as connection:
            connection.execute(statement, values)
        connection.close()

    def written(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.directory.iterdir())


@pytest.fixture
def safe(tmp_path: Path) -> Iterator[Safe]:
    made = Safe(tmp_path)
    yield made
    made.repository.close()


def test_a_secret_comes_back_and_is_nowhere_in_the_clear(safe: Safe) -> None:
    safe.store.put(HERE, CONTENT, "parameter", 1.0)
    assert safe.store.get(HERE) == CONTENT
    for form in (CONTENT, base64.b64encode(CONTENT), CONTENT.hex().encode()):
        assert form not in safe.written()


def test_the_key_file_is_for_the_server_alone(safe: Safe) -> None:
    safe.store.put(HERE, CONTENT, "parameter", 1.0)
    assert (safe.directory / "master-keys").stat().st_mode & 0o777 == 0o600
    (safe.directory / "master-keys").chmod(0o640)
    with pytest.raises(SecretUnreadable, match="Other users can read it"):
        safe.store.get(HERE)


def test_what_was_deleted_or_never_there_is_none(safe: Safe) -> None:
    assert safe.store.get(HERE) is None
    safe.store.put(HERE, CONTENT, "parameter", 1.0)
    assert safe.store.delete(HERE)
    assert not safe.store.delete(HERE)
    assert safe.store.get(HERE) is None


def test_the_same_content_is_sealed_differently_each_time(safe: Safe) -> None:
    first, second = (safe.sealer.seal(HERE, CONTENT) for _ in range(2))
    assert first.content != second.content
    assert first.wrapped != second.wrapped


PLACES = [
    replace(HERE, subject="mallory"),
    replace(HERE, issuer="https://other.example"),
    replace(HERE, deployment="d-2"),
    replace(HERE, deployment=""),
    replace(HERE, name="passwor", deployment="d-1d"),
    replace(HERE, subject="", group="alice"),
]


@pytest.mark.parametrize("place", PLACES)
def test_a_row_that_is_copied_elsewhere_opens_nowhere(safe: Safe, place: SecretPlace) -> None:
    safe.store.put(HERE, CONTENT, "parameter", 1.0)
    safe.store.put(place, b"their own", "parameter", 1.0)
    columns = ("key", "wrapped", "content")
    for chosen in (columns, ("content",), ("wrapped",), ("key", "wrapped")):
        sealed = safe.rows.get(HERE)
        own = safe.rows.get(place)
        assert sealed
        assert own
        mixed = replace(own, **{name: getattr(sealed, name) for name in chosen})
        if mixed == own:
            continue
        with pytest.raises(SecretUnreadable) as raised:
            safe.sealer.open(place, mixed)
        assert CONTENT.decode() not in str(raised.value)


def test_swapped_rows_of_one_owner_are_refused(safe: Safe) -> None:
    other = replace(HERE, name="other")
    safe.store.put(HERE, CONTENT, "parameter", 1.0)
    safe.store.put(other, b"something else", "parameter", 1.0)
    safe.change("UPDATE secrets SET name = 'x' WHERE name = 'other'")
    safe.change("UPDATE secrets SET name = 'other' WHERE name = 'password'")
    safe.change("UPDATE secrets SET name = 'password' WHERE name = 'x'")
    for place in (HERE, other):
        with pytest.raises(SecretUnreadable, match="not as it was stored"):
            safe.store.get(place)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(part=st.sampled_from(["wrapped", "content"]), data=st.data())
def test_any_change_of_a_stored_text_is_refused(safe: Safe, part: str, data: st.DataObject) -> None:
    sealed = safe.sealer.seal(HERE, CONTENT)
    text = getattr(sealed, part)
    raw = bytearray(base64.b64decode(text))
    how = data.draw(st.sampled_from(["flip", "cut", "longer", "empty", "garbage"]))
    if how == "flip":
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = {
        "flip": base64.b64encode(raw).decode(),
        "cut": base64.b64encode(raw[: data.draw(st.integers(0, len(raw) - 1))]).decode(),
        "longer": base64.b64encode(raw + b"x").decode(),
        "empty": "",
        "garbage": data.draw(st.text(max_size=40)),
    }[how]
    with pytest.raises(SecretUnreadable) as raised:
        safe.sealer.open(HERE, replace(sealed, **{part: changed}))
    assert CONTENT.decode() not in str(raised.value)


def test_another_master_key_opens_nothing_and_says_so(safe: Safe, tmp_path: Path) -> None:
    safe.store.put(HERE, CONTENT, "parameter", 1.0)
    (safe.directory / "master-keys").unlink()
    with pytest.raises(SecretUnreadable, match=r"master key .* is not here"):
        safe.store.get(HERE)


def test_a_key_of_another_name_is_not_taken(safe: Safe) -> None:
    sealed = safe.sealer.seal(HERE, CONTENT)
    for key in ("", "vault", "0" * 16):
        with pytest.raises(SecretUnreadable):
            safe.sealer.open(HERE, replace(sealed, key=key))


def test_fingerprints_tell_contents_apart_and_places_too() -> None:
    assert fingerprint(HERE, b"a") == fingerprint(HERE, b"a")
    assert len({fingerprint(place, b"a") for place in [HERE, *PLACES]}) == 1 + len(PLACES)
    assert fingerprint(HERE, b"a") != fingerprint(HERE, b"b")


def test_what_is_sealed_shows_nothing_of_itself() -> None:
    assert "wrapped-text" not in repr(Sealed("key", "wrapped-text", "content-text"))


# --- rotation -------------------------------------------------------------------------------------


def fill(safe: Safe, count: int) -> list[SecretPlace]:
    places = [replace(HERE, name=f"secret-{number}") for number in range(count)]
    for place in places:
        sealed = safe.sealer.seal(place, CONTENT + place.name.encode())
        safe.rows.put(_entry(place), lambda sealed=sealed: sealed)  # type: ignore[misc]
    return places


def _entry(place: SecretPlace):  # type: ignore[no-untyped-def]
    from orchestrator.model import SecretEntry

    return SecretEntry(place, "parameter", "", 1.0)


def test_a_rotation_leaves_one_key_and_every_secret(safe: Safe) -> None:
    places = fill(safe, 7)
    before = safe.ring.load()
    assert rotate(safe.rows, safe.ring) == 7
    after = safe.ring.load()
    assert before.current not in after.keys
    assert len(after.keys) == 1
    for place in places:
        assert safe.store.get(place) == CONTENT + place.name.encode()


def test_what_is_written_during_a_rotation_is_readable_after_it(safe: Safe) -> None:
    fill(safe, 3)
    safe.rows.turn(safe.ring.begin_rotation)
    late = replace(HERE, name="late")
    safe.store.put(late, b"late", "parameter", 2.0)
    rotate(safe.rows, safe.ring)
    assert safe.store.get(late) == b"late"


def test_the_old_key_is_kept_while_a_row_needs_it(safe: Safe) -> None:
    (place,) = fill(safe, 1)
    safe.ring.begin_rotation()
    assert not safe.rows.finish((safe.ring.load().current,), safe.ring.end_rotation)
    assert safe.store.get(place) == CONTENT + place.name.encode()


def test_a_row_that_cannot_be_opened_stops_the_rotation_and_keeps_the_key(safe: Safe) -> None:
    good, bad = fill(safe, 2)
    safe.change("UPDATE secrets SET wrapped = 'AAAA' WHERE name = ?", bad.name)
    with pytest.raises(SecretUnreadable):
        rotate(safe.rows, safe.ring)
    assert safe.store.get(good) == CONTENT + good.name.encode()


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator.identity import secrets
from orchestrator.identity.master_keys import KeyRing
from orchestrator.store.repository import Repository
directory, at = Path(sys.argv[1]), int(sys.argv[2])
repository = Repository.open(f"sqlite:///{directory / 'vacuo.db'}")
ring = KeyRing(directory / "master-keys", {})
calls = 0
def counted(inner):
    def call(*arguments):
        global calls
        calls += 1
        if calls == at: os.kill(os.getpid(), signal.SIGKILL)
        answer = inner(*arguments)
        calls += 1
        if calls == at: os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return call
rows = repository.secrets
for name in ("turn", "sealed_otherwise", "replace", "finish"):
    setattr(rows, name, counted(getattr(rows, name)))
ring.begin_rotation, ring.end_rotation = counted(ring.begin_rotation), counted(ring.end_rotation)
secrets.rotate(rows, ring)
"""


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6, 8, 11, 14, 15, 16, 17, 18])
def test_a_rotation_that_is_killed_goes_on(safe: Safe, at: int) -> None:
    places = fill(safe, 3)
    code = textwrap.dedent(KILLED)
    done = subprocess.run([sys.executable, "-c", code, str(safe.directory), str(at)], timeout=100)
    assert done.returncode in (0, -signal.SIGKILL)
    for place in places:  # nothing is lost as it is
        assert safe.store.get(place) == CONTENT + place.name.encode()
    rotate(safe.rows, safe.ring)
    assert len(safe.ring.load().keys) == 1
    for place in places:
        assert safe.store.get(place) == CONTENT + place.name.encode()


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def test_a_key_that_is_given_is_on_no_disk(tmp_path: Path) -> None:
    first, second = key(), key()
    repository = Repository.open(f"sqlite:///{tmp_path / 'vacuo.db'}")
    try:
        ring = KeyRing(tmp_path / "master-keys", {GIVEN: first})
        SecretStore(repository.secrets, EnvelopeSealer(ring)).put(HERE, CONTENT, "x", 1.0)
        assert not ring.path.exists()
        both = KeyRing(ring.path, {GIVEN: second, GIVEN_OLD: first})
        assert rotate(repository.secrets, both) == 1
        only = KeyRing(ring.path, {GIVEN: second})
        assert SecretStore(repository.secrets, EnvelopeSealer(only)).get(HERE) == CONTENT
    finally:
        repository.close()


TOO_SHORT = base64.b64encode(b"k" * 27).decode()


@pytest.mark.parametrize("text", ["short", TOO_SHORT, "ü" * 44, base64.b64encode(b"x").decode()])
def test_a_master_key_that_is_none_is_refused_without_being_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as raised:
        KeyRing(tmp_path / "keys", {GIVEN: text})
    assert text not in str(raised.value)
    assert GIVEN in str(raised.value)


def test_a_damaged_key_file_is_refused_without_being_told(safe: Safe) -> None:
    safe.store.put(HERE, CONTENT, "parameter", 1.0)
    path = safe.directory / "master-keys"
    for text in ("", "garbage", path.read_text()[:30], "0" * 16 + " " + key()):
        path.write_text(text)
        with pytest.raises(SecretUnreadable, match=r"master key in .* cannot be used") as raised:
            safe.store.get(HERE)
        assert text == "" or text not in str(raised.value)
