"""Credentials that people bring: kept sealed, listed by name, shown to nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import ApiWorld
from cli_server import Recorded, serving

from orchestrator.errors import UserError
from orchestrator.identity.cloud_credentials import KINDS, check
from orchestrator.model import Principal, SecretPlace

MARK = "marked-secret-key"
EC2 = {"access_key_id": "AKIA", "secret_access_key": MARK}
CLOUDS = f"""\
clouds:
  cern:
    auth:
      auth_url: https://keystone.example/v3
      application_credential_id: "21"
      application_credential_secret: {MARK}
    region_name: cern
    verify: true
  other: {{auth: {{}}}}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ApiWorld]:
    directory = tmp_path / "data"
    directory.mkdir()
    made = ApiWorld(directory)
    yield made
    made.close()


def put(world: ApiWorld, name: str = "aws", who: str = "alice", **fields: Any) -> Any:
    body = {"kind": "ec2", "secrets": EC2, **fields}
    return world.send("PUT", f"/credentials/{name}", body, who=who)


def names(world: ApiWorld, who: str = "alice") -> list[str]:
    return [one["name"] for one in world.get("/credentials", who=who).json["content"]]


def test_a_credential_is_listed_and_never_shown(world: ApiWorld, caplog: Any) -> None:
    made = put(world)
    assert made.status_code == 200, made.text
    listed = world.get("/credentials")
    (one,) = listed.json["content"]
    assert (one["name"], one["kind"], one["lastUse"]) == ("aws", "ec2", None)
    stored = b"".join(p.read_bytes() for p in world.settings.data_directory.glob("vacuo.db*"))
    events = repr(world.repository.events())
    for text in (made.text, listed.text, caplog.text, events, stored.decode("latin-1")):
        assert MARK not in text
    place = SecretPlace.of(Principal(world.issuer.issuer.issuer, "alice"), "credential aws")
    content = world.orchestrator.secrets.get(place, now=7.0)
    assert content is not None
    assert json.loads(content) == EC2
    assert world.get("/credentials").json["content"][0]["lastUse"] == "1970-01-01T00:00:07.000Z"


def test_another_takes_the_place_of_the_first(world: ApiWorld) -> None:
    first = put(world).json["fingerprint"]
    second = put(world, secrets={**EC2, "secret_access_key": "another"}).json["fingerprint"]
    assert first != second
    assert names(world) == ["aws"]


def test_nobody_else_sees_or_removes_it(world: ApiWorld) -> None:
    put(world)
    assert names(world, "mallory") == []
    assert world.send("DELETE", "/credentials/aws", who="mallory").status_code == 404
    assert names(world) == ["aws"]


def test_a_group_shares_what_is_the_groups(world: ApiWorld) -> None:
    world.groups["bob"] = ("/cms",)
    assert put(world, "shared", userGroup="cms").status_code == 200
    assert names(world, "bob") == ["shared"]
    assert names(world, "mallory") == []
    assert put(world, "theirs", who="mallory", userGroup="cms").status_code == 403
    gone = world.send("DELETE", "/credentials/shared?userGroup=cms", who="bob")
    assert gone.status_code == 204
    assert names(world) == []


def test_what_is_removed_is_gone(world: ApiWorld) -> None:
    put(world)
    assert world.send("DELETE", "/credentials/aws").status_code == 204
    assert world.send("DELETE", "/credentials/aws").status_code == 404


def test_secret_parameters_are_not_listed_as_credentials(world: ApiWorld) -> None:
    world.send("POST", "/deployments", {"template": "minimum: 0\n", "parameters": {"token": "x"}})
    assert names(world) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "gopher"},
        {"secrets": {"access_key_id": MARK}},
        {"secrets": {**EC2, "extra": MARK}},
        {"secrets": {**EC2, "region": [MARK]}},
        {"secrets": {**EC2, "region": {"deeper": {"still": MARK}}}},
        {"secrets": {**EC2, "region": ""}},
        {"secrets": {**EC2, "region": "x" * 20_001}},
        {"kind": "openstack", "secrets": {"auth": {"auth_url": MARK}}},
    ],
)
def test_what_is_no_credential_is_refused_and_not_repeated(
    world: ApiWorld, fields: dict[str, Any]
) -> None:
    answer = put(world, **fields)
    assert answer.status_code == 400
    assert answer.json["code"] == "credential-unusable"
    assert MARK not in answer.text


@pytest.mark.parametrize("name", ["a b", "-x", "a" * 64, "ä", "a%2Fb"])
def test_names_that_are_none_are_refused(world: ApiWorld, name: str) -> None:
    assert put(world, name).status_code in (400, 404)


def test_every_kind_takes_the_least_it_needs() -> None:
    for kind, wanted in KINDS.items():
        for needed in wanted.needs:
            given: dict[str, Any] = {}
            for field in needed:
                above, _, last = field.rpartition(".")
                (given.setdefault(above, {}) if above else given)[last] = "x"
            assert check(kind, given) == given
            with pytest.raises(UserError):
                check(kind, {})


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def server(world: ApiWorld, tmp_path: Path) -> Iterator[Recorded]:
    with serving(tmp_path, world.app) as found:
        found.environment["BEARER_TOKEN"] = world.issuer.mint("alice", groups=("/cms",))
        yield found


def test_a_cloud_of_a_clouds_yaml_is_added_listed_and_removed(
    server: Recorded, tmp_path: Path
) -> None:
    file = tmp_path / "clouds.yaml"
    file.write_text(CLOUDS)
    words = ["credentials", "add", "openstack", "cern", "--file", str(file), "--cloud", "cern"]
    added = server.run(*words, "--show-request")
    assert added.exit_code == 0, added.output
    listed = server.run("credentials", "list")
    assert "cern" in listed.output
    assert "openstack" in listed.output
    removed = server.run("credentials", "remove", "cern")
    assert removed.exit_code == 0, removed.output
    assert server.run("credentials", "list", "-o", "name").output.strip() == ""
    assert MARK not in added.output + listed.output + removed.output


def test_a_key_comes_from_standard_input(server: Recorded) -> None:
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{MARK}\n-----END OPENSSH PRIVATE KEY-----\n"
    added = server.run(
        "credentials", "add", "ssh", "hosts", "--file", "-", "--group", "cms", typed=key
    )
    assert added.exit_code == 0, added.output
    assert MARK not in added.output
    assert server.run("credentials", "remove", "hosts", "--group", "cms").exit_code == 0


@pytest.mark.parametrize("text", ["", "just text", f"{{broken: {MARK}", f"- {MARK}", CLOUDS])
def test_a_file_that_holds_no_credential_is_refused_and_not_repeated(
    server: Recorded, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    refused = server.run("credentials", "add", "ec2", "aws", "--file", str(file))
    assert refused.exit_code != 0
    assert MARK not in refused.output
