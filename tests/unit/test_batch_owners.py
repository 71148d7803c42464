"""Pools that are joined with an access token of the deployment's owner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from orchestrator.batch.htcondor import TOKEN_FILE, HTCondorPool
from orchestrator.errors import Terminal
from orchestrator.model import DeploymentId, NodeName, TokenWanted
from orchestrator.settings import Pool

AUDIENCE = "condor://cm.example:9618"
OPTIONS = {"join_with": "owner", "join_audience": AUDIENCE, "join_scope": "condor:/READ"}
KEY = "a key of a test that is long enough for HS256"


def settings(**changes: Any) -> Pool:
    return Pool(**{"name": "theirs", "collector": "cm.example:9618", "options": OPTIONS, **changes})


def token(seconds: float = 3600) -> str:
    return jwt.encode({"sub": "alice", "exp": time.time() + seconds}, KEY, algorithm="HS256")


def test_a_node_joins_with_the_owners_token_and_can_be_drained(tmp_path: Path) -> None:
    pool = HTCondorPool(settings(), tmp_path)
    try:
        assert pool.token_wanted() == TokenWanted(AUDIENCE, "condor:/READ")
        mine = token()
        found = pool.join_credential(DeploymentId("d"), NodeName("node-a"), mine)
        assert (found.token, found.identity, found.file) == (mine, "alice", TOKEN_FILE)
        assert found.drain_key
        assert mine not in repr(found)
    finally:
        pool.close()


def test_a_token_that_ends_before_the_next_is_due_is_refused(tmp_path: Path) -> None:
    pool = HTCondorPool(settings(), tmp_path)
    try:
        with pytest.raises(Terminal, match="join_token_seconds"):
            pool.join_credential(DeploymentId("d"), NodeName("node-a"), token(900))
        with pytest.raises(Terminal, match="no JWT"):
            pool.join_credential(DeploymentId("d"), NodeName("node-a"), "")
    finally:
        pool.close()


def test_other_pools_want_no_token(tmp_path: Path) -> None:
    assert HTCondorPool(settings(options={}), tmp_path).token_wanted() is None


@pytest.mark.parametrize(
    "changes",
    [
        {"options": {**OPTIONS, "join_with": "somebody"}},
        {"options": {"join_with": "owner"}},
        {"options": {**OPTIONS, "join_token_file": "/a/file"}},
        {"signing_key_directory": "/keys"},
    ],
)
def test_a_pool_is_joined_in_one_way(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"something else|join_audience|only: owner"):
        settings(**changes)
