"""Secrets left to Vault, against a server that answers as its KV engine is documented to.

A Vault itself is not to be had everywhere; this shows our side of the contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from vault_world import TOKEN, Kv

from orchestrator.errors import Retryable
from orchestrator.identity.secrets import SecretStore, SecretUnreadable
from orchestrator.identity.vault import VaultSealer
from orchestrator.model import Principal, SecretPlace
from orchestrator.settings import Secrets
from orchestrator.store.repository import Repository

PLACE = SecretPlace.of(Principal("https://issuer.example", "alice"), "openstack")
CONTENT = b"application-credential-secret"


class Kept:
    def __init__(self, directory: Path, kv: Kv) -> None:
        self.kv = kv
        self.token = directory / "vault-token"
        self.token.write_text(TOKEN + "\n")
        self.settings = Secrets(
            backend="vault", vault_url=kv.url, vault_mount="kv", vault_token_file=self.token
        )
        self.repository = Repository.open(f"sqlite:///{directory / 'vacuo.db'}")
        self.store = SecretStore(self.repository.secrets, VaultSealer(self.settings))
        self.directory = directory


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kv = Kv()
    thread = threading.Thread(target=kv.serve_forever, daemon=True)
    thread.start()
    made = Kept(tmp_path, kv)
    yield made
    made.repository.close()
    kv.shutdown()
    kv.server_close()


def test_a_secret_is_in_vault_and_not_in_the_database(kept: Kept) -> None:
    kept.store.put(PLACE, CONTENT, "openstack", 1.0)
    assert kept.store.get(PLACE) == CONTENT
    stored = b"".join(path.read_bytes() for path in kept.directory.glob("vacuo.db*"))
    assert CONTENT not in stored
    (path,) = kept.kv.entries
    assert path.startswith("vacuo/")
    assert not any("alice" in asked or "openstack" in asked for asked in kept.kv.asked)


def test_a_secret_that_is_replaced_is_read_in_its_new_version(kept: Kept) -> None:
    kept.store.put(PLACE, b"first", "openstack", 1.0)
    kept.store.put(PLACE, b"second", "openstack", 2.0)
    assert kept.store.get(PLACE) == b"second"


def test_what_is_deleted_is_gone_from_vault(kept: Kept) -> None:
    kept.store.put(PLACE, CONTENT, "openstack", 1.0)
    assert kept.store.delete(PLACE)
    assert not kept.kv.entries
    assert kept.store.get(PLACE) is None


def test_secrets_of_deployments_that_are_no_more_are_gone_from_vault_too(kept: Kept) -> None:
    of_one = replace(PLACE, deployment="d-1")
    late = replace(PLACE, deployment="d-2")
    kept.store.put(PLACE, CONTENT, "openstack", 1.0)
    kept.store.put(of_one, CONTENT, "parameter", 1.0)
    kept.store.put(late, CONTENT, "parameter", 3.0)
    kept.store.prune(2.0)
    assert kept.store.get(of_one) is None
    assert kept.store.get(PLACE) == kept.store.get(late) == CONTENT
    assert len(kept.kv.entries) == 2


def test_an_entry_that_was_moved_in_vault_opens_nowhere(kept: Kept) -> None:
    other = replace(PLACE, subject="mallory")
    kept.store.put(PLACE, CONTENT, "openstack", 1.0)
    (first,) = kept.kv.entries
    kept.store.put(other, b"their own", "openstack", 1.0)
    second = next(name for name in kept.kv.entries if name != first)
    kept.kv.entries[second] = kept.kv.entries[first]
    with pytest.raises(SecretUnreadable, match="belongs elsewhere"):
        kept.store.get(other)


@pytest.mark.parametrize("entry", [{}, {"place": 1}, {"content": "x"}, None, [], "text"])
def test_an_entry_that_is_not_ours_is_refused(kept: Kept, entry: Any) -> None:
    kept.store.put(PLACE, CONTENT, "openstack", 1.0)
    (path,) = kept.kv.entries
    kept.kv.entries[path] = [entry]
    with pytest.raises(SecretUnreadable):
        kept.store.get(PLACE)


def test_what_somebody_deleted_in_vault_is_told(kept: Kept) -> None:
    kept.store.put(PLACE, CONTENT, "openstack", 1.0)
    kept.kv.entries.clear()
    with pytest.raises(SecretUnreadable, match="not in Vault any more"):
        kept.store.get(PLACE)


@pytest.mark.parametrize("fault", [307, 400, 403, 429, 500, 503])
def test_a_vault_in_trouble_is_tried_again_and_repeats_nothing(kept: Kept, fault: int) -> None:
    kept.kv.fault = fault
    with pytest.raises(Retryable) as raised:
        kept.store.put(PLACE, CONTENT, "openstack", 1.0)
    assert CONTENT.decode() not in str(raised.value)
    assert TOKEN not in str(raised.value)
    kept.kv.fault = 0
    assert kept.store.get(PLACE) is None


def test_a_token_that_was_renewed_is_used_at_once(kept: Kept) -> None:
    kept.token.write_text("expired")
    with pytest.raises(Retryable, match="refuses the server's token"):
        kept.store.put(PLACE, CONTENT, "openstack", 1.0)
    kept.token.write_text(TOKEN)
    kept.store.put(PLACE, CONTENT, "openstack", 1.0)


def test_a_vault_that_is_away_is_tried_again(kept: Kept) -> None:
    away = kept.settings.model_copy(update={"vault_url": "http://127.0.0.1:9"})
    with pytest.raises(Retryable):
        SecretStore(kept.repository.secrets, VaultSealer(away)).put(PLACE, CONTENT, "x", 1.0)


@pytest.mark.parametrize(
    "fields",
    [{"vault_url": "https://vault.example"}, {"vault_token_file": "/x"}, {},
     {"vault_url": "http://vault.example", "vault_token_file": "/x"}],
)  # fmt: skip
def test_half_a_vault_is_no_vault(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Secrets.model_validate({"backend": "vault", **fields})
