"""Nodes that configure themselves, as the API sees them: what a credential is worth and when, what
is handed out, and what hostile hosts can tell."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
from api_world import SITE, ApiWorld

from orchestrator.batch.htcondor import TOKEN_FILE
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import HostToConfigure, PullOrder, RoleCall
from orchestrator.control.ports import PullSite
from orchestrator.errors import Terminal
from orchestrator.model import (
    DeploymentId,
    EventKind,
    NodeName,
    NodeState,
    RenewCredential,
    RunState,
)
from orchestrator.settings import Settings

HOUR = 3600.0
SECRET = "what-the-node-made-up"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


class Pulled:
    """A deployment with one worker at a site that pulls, and the worker's side of it."""

    def __init__(self, directory: Path) -> None:
        self.world = ApiWorld(directory, pull=PullSite("https://vacuo.example.org", 900.0))
        self.id = DeploymentId(self.world.create()["uuid"])
        self.world.passes(self.id, 2)
        (host,) = self.world.world.hosts.values()
        self.order = json.loads(host.user_data.files["/etc/vacuo/pull.json"][1])
        self.credential = self.order["credential"]
        self.secret = (SECRET * 3)[:43]

    @property
    def node(self) -> Any:
        (node,) = self.world.repository.nodes(self.id)
        return node

    def ask(self, method: str, path: str, token: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        return self.world.client.open(path, method=method, json=body, headers=headers)

    def enrol(self, secret: str | None = None, credential: str | None = None) -> Any:
        digest = hashlib.sha256((secret or self.secret).encode()).hexdigest()
        token = credential or self.credential
        return self.ask("POST", "/pull/enrolment", token, {"secretSha256": digest})

    def fetch(self, secret: str | None = None) -> Any:
        return self.ask("GET", "/pull/bundle", secret or self.secret)

    def configuring(self) -> Any:
        """The bundle of the node's first run."""
        assert self.enrol().status_code == 200
        self.world.passes(self.id, 4)
        assert self.node.state is NodeState.CONFIGURING
        answer = self.fetch()
        assert answer.status_code == 200, answer.text
        return answer.json

    def report(self, reporter: str, *events: Any, first: int = 0, **more: Any) -> Any:
        body = {"first": first, "events": list(events), **more}
        return self.ask("POST", "/pull/report", reporter, body)

    def run(self) -> Any:
        return self.world.repository.runs(self.id, "test", self.world.now)[self.node.name]

    def audits(self) -> list[str]:
        events = self.world.repository.events(deployment=self.id, kinds=[EventKind.AUDIT])
        return [event.message.partition(": ")[2] or event.message for event in events]


@pytest.fixture
def pulled(tmp_path: Path) -> Any:
    made = Pulled(tmp_path)
    yield made
    made.world.close()


def done(status: str = "ok", **fields: Any) -> dict[str, Any]:
    return {"role": "vacuo.site.squid", "task": "Write the unit", "status": status, **fields}


# --- the one-time credential ----------------------------------------------------------------------


def test_a_node_is_told_where_to_ask_and_by_what(pulled: Pulled) -> None:
    assert pulled.order["url"] == "https://vacuo.example.org"
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", pulled.credential)


def test_only_hashes_are_stored_and_nothing_is_logged(pulled: Pulled, caplog: Any) -> None:
    bundle = pulled.configuring()
    pulled.report(bundle["reporter"], done())
    directory = pulled.world.settings.data_directory
    stored = b"".join(path.read_bytes() for path in directory.glob("vacuo.db*"))
    for secret in (pulled.credential, pulled.secret, bundle["reporter"]):
        assert secret.encode() not in stored
        assert secret not in caplog.text


def test_a_node_counts_as_there_when_it_has_enrolled(pulled: Pulled) -> None:
    pulled.world.passes(pulled.id, 5)
    assert pulled.node.state is NodeState.BOOTING
    pulled.enrol()
    pulled.world.passes(pulled.id, 4)
    assert pulled.node.state is NodeState.CONFIGURING


def test_the_credential_is_good_once(pulled: Pulled) -> None:
    assert pulled.enrol().json == {"node": pulled.node.name}
    assert pulled.enrol(secret="another" * 8).status_code == 401
    assert pulled.fetch("another" * 8).status_code == 401
    assert pulled.audits()[-1].startswith("its one-time credential was shown again")


def test_an_enrolment_whose_answer_was_lost_may_be_repeated(pulled: Pulled) -> None:
    assert [pulled.enrol().status_code for _ in range(3)] == [200, 200, 200]
    assert pulled.audits().count("enrolled") == 1


def test_the_credential_is_good_for_an_hour(pulled: Pulled) -> None:
    pulled.world.now += HOUR
    assert pulled.enrol().status_code == 401


def test_a_creation_that_is_repeated_leaves_one_credential(pulled: Pulled) -> None:
    again = pulled.world.orchestrator.pulling.order(pulled.node)
    second = json.loads(again.files["/etc/vacuo/pull.json"][1])["credential"]
    assert pulled.enrol().status_code == 200
    assert pulled.enrol(secret="another" * 8, credential=second).status_code == 401


@pytest.mark.parametrize(
    "header", ["", "Bearer ", "Bearer x", "Basic abc", "Bearer " + "a" * 44, "Bearer " + "ä" * 43]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/pull/enrolment"), ("GET", "/pull/bundle"), ("POST", "/pull/report")],
)
def test_without_a_credential_nothing_is_read(
    pulled: Pulled, method: str, path: str, header: str
) -> None:
    answer = pulled.world.client.open(
        path, method=method, data=b"{ not read", headers={"Authorization": header.encode()}
    )
    assert answer.status_code == 401
    assert answer.json["code"] == "credential-invalid"


def test_one_credential_is_no_good_for_another_route(pulled: Pulled) -> None:
    bundle = pulled.configuring()
    good = [("POST", "/pull/enrolment"), ("GET", "/pull/bundle"), ("POST", "/pull/report")]
    shown = [pulled.credential, pulled.secret, bundle["reporter"]]
    for index, (method, path) in enumerate(good):
        for other, token in enumerate(shown):
            if other != index:
                answer = pulled.ask(method, path, token, {"first": 0, "events": []})
                assert answer.status_code == 401, (path, other)


def test_a_persons_token_is_no_nodes_credential(pulled: Pulled) -> None:
    answer = pulled.world.get("/pull/bundle")
    assert answer.status_code == 401


# --- the bundle -----------------------------------------------------------------------------------


def test_there_is_no_bundle_before_there_is_a_run(pulled: Pulled) -> None:
    pulled.enrol()
    answer = pulled.fetch()
    assert answer.status_code == 202
    assert float(answer.headers["Retry-After"]) > 0
    assert "nothing to configure" in answer.json["reason"]


def test_the_bundle_is_what_its_checksum_says(pulled: Pulled) -> None:
    bundle = pulled.configuring()
    archive = base64.b64decode(bundle["archive"])
    assert hashlib.sha256(archive).hexdigest() == bundle["sha256"]
    assert archive == b"vacuo.site.htcondor_execute"
    assert pulled.audits()[-1] == "fetched its bundle"


def test_a_bundle_fetched_again_voids_the_earlier_reporting_credential(pulled: Pulled) -> None:
    first = pulled.configuring()
    second = pulled.fetch().json
    assert second["run"] == first["run"]
    assert pulled.report(first["reporter"], done()).status_code == 401
    assert pulled.report(second["reporter"], done()).status_code == 200


def test_values_that_are_not_known_yet_are_waited_for(
    pulled: Pulled, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.control.values import Unresolved

    pulled.enrol()
    pulled.world.passes(pulled.id, 4)
    pulling = pulled.world.orchestrator.pulling
    known = pulling._host_of

    def unknown(*_: Any) -> HostToConfigure:
        raise Unresolved("squid.private_address")

    monkeypatch.setattr(pulling, "_host_of", unknown)
    answer = pulled.fetch()
    assert answer.status_code == 202
    assert "squid.private_address" in answer.json["reason"]
    assert pulled.run().state is RunState.RUNNING
    monkeypatch.setattr(pulling, "_host_of", known)
    assert pulled.fetch().status_code == 200


def test_what_must_not_reach_ansible_fails_the_run(
    pulled: Pulled, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled.enrol()
    pulled.world.passes(pulled.id, 4)

    def refused(*_: Any) -> HostToConfigure:
        raise Terminal("The role 'x' is not one that this server may run.")

    monkeypatch.setattr(pulled.world.orchestrator.pulling, "_host_of", refused)
    assert pulled.fetch().status_code == 202
    assert pulled.run().state is RunState.FAILED
    assert "may run" in pulled.run().why


def test_a_node_that_goes_gets_nothing_more(pulled: Pulled) -> None:
    bundle = pulled.configuring()
    pulled.world.send("DELETE", f"/deployments/{pulled.id}", body={})
    pulled.world.passes(pulled.id, 2)
    assert pulled.fetch().status_code == 401
    assert bundle


# --- reports --------------------------------------------------------------------------------------


def test_tasks_and_outcome_are_told_as_they_are_over_ssh(pulled: Pulled) -> None:
    bundle = pulled.configuring()
    pulled.report(bundle["reporter"], done("changed"), done("skipped", task="Another"))
    end = {"role": "", "task": "finished", "status": "finished"}
    answer = pulled.report(bundle["reporter"], end, first=2, hostKeys=[KEY])
    assert answer.json == {"known": 3}
    assert pulled.run().state is RunState.SUCCEEDED
    events = pulled.world.repository.events(deployment=pulled.id, kinds=[EventKind.TASK])
    assert [event.message for event in events] == [
        "changed squid: Write the unit",
        "skipped squid: Another",
        "finished finished",
    ]
    assert pulled.world.repository.host_keys(pulled.id, pulled.node.name) == (KEY,)
    pulled.world.passes(pulled.id)
    assert pulled.node.state is NodeState.JOINING


def test_a_failure_says_why_and_the_run_is_offered_again(pulled: Pulled) -> None:
    bundle = pulled.configuring()
    pulled.report(bundle["reporter"], done("failed", message="no room"))
    assert (pulled.run().state, pulled.run().why) == (RunState.FAILED, "Write the unit: no room")
    pulled.world.passes(pulled.id, 8)
    again = pulled.fetch()
    assert again.status_code == 200
    assert again.json["run"] != bundle["run"]


def test_a_report_whose_answer_was_lost_counts_once(pulled: Pulled) -> None:
    reporter = pulled.configuring()["reporter"]
    for _ in range(3):
        assert pulled.report(reporter, done(), done()).status_code == 200
    pulled.report(reporter, done(), done(), done(task="New"))
    events = pulled.world.repository.events(deployment=pulled.id, kinds=[EventKind.TASK])
    assert len(events) == 3


def test_events_that_are_missing_are_asked_for(pulled: Pulled) -> None:
    reporter = pulled.configuring()["reporter"]
    assert pulled.report(reporter, done(), first=1).status_code == 409


def test_after_the_outcome_nothing_more_is_taken(pulled: Pulled) -> None:
    reporter = pulled.configuring()["reporter"]
    pulled.report(reporter, done("failed"))
    assert pulled.report(reporter, done("finished"), first=1).status_code == 401
    assert pulled.run().state is RunState.FAILED


def test_a_run_that_is_not_reported_in_time_has_failed(pulled: Pulled) -> None:
    reporter = pulled.configuring()["reporter"]
    pulled.world.now += 901
    assert pulled.run().state is RunState.FAILED
    assert "did not report" in pulled.run().why
    assert pulled.report(reporter, done("finished")).status_code == 401


def test_a_server_that_is_killed_meanwhile_loses_nothing(pulled: Pulled) -> None:
    reporter = pulled.configuring()["reporter"]
    other = pulled.world.repository.runs(pulled.id, "another server", pulled.world.now)
    assert other[pulled.node.name].state is RunState.RUNNING
    pulled.world.repository.void_leases()
    assert pulled.report(reporter, done("finished")).status_code == 200
    assert pulled.run().state is RunState.SUCCEEDED


HOSTILE = {
    "a status of ours": done("unreachable"),
    "a role that is none": done(role="x; rm -rf /"),
    "a text too long": done(message="x" * 2001),
    "a negative time": done(seconds=-1),
    "no task": {"status": "ok"},
    "more than there is": done(node="another-node"),
    "a number": done(task=7),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_report_is_refused_whole(pulled: Pulled, what: str) -> None:
    reporter = pulled.configuring()["reporter"]
    assert pulled.report(reporter, done(), HOSTILE[what]).status_code == 400
    assert pulled.world.repository.events(deployment=pulled.id, kinds=[EventKind.TASK]) == ()


@pytest.mark.parametrize(
    "key", ["ssh-ed25519 AAAA\nroot", "evil AAAA", "ssh-rsa " + "A" * 2000, ""]
)
def test_host_keys_are_keys(pulled: Pulled, key: str) -> None:
    reporter = pulled.configuring()["reporter"]
    assert pulled.report(reporter, done(), hostKeys=[key]).status_code == 400


def test_too_many_events_are_refused_or_dropped(pulled: Pulled) -> None:
    from orchestrator.control import pulling

    reporter = pulled.configuring()["reporter"]
    assert pulled.report(reporter, *[done()] * 201).status_code == 400
    for first in range(0, pulling.MOST_EVENTS + 400, 200):
        answer = pulled.report(reporter, *[done()] * 200, first=first)
    assert answer.status_code in (200, 409)
    count = len(pulled.world.repository.events(deployment=pulled.id, limit=20_000))
    assert count < pulling.MOST_EVENTS + 100


def test_control_characters_do_not_reach_a_terminal(pulled: Pulled) -> None:
    reporter = pulled.configuring()["reporter"]
    text = "\x1b[2J\x9bred\r\u202eevil\u2028line"
    assert pulled.report(reporter, done(message=text)).status_code == 200
    (event,) = pulled.world.repository.events(deployment=pulled.id, kinds=[EventKind.TASK])
    assert not [c for c in event.message if not c.isprintable()]


def test_a_node_speaks_for_itself_alone(pulled: Pulled) -> None:
    reporter = pulled.configuring()["reporter"]
    pulled.report(reporter, done())
    (event,) = pulled.world.repository.events(deployment=pulled.id, kinds=[EventKind.TASK])
    assert event.node == pulled.node.name
    assert event.at != 0


# --- what is in a real bundle ---------------------------------------------------------------------

HOST = HostToConfigure(
    NodeName("worker-1"),
    "",
    (),
    (
        RoleCall(
            "vacuo.site.htcondor_execute",
            "execute",
            {"htcondor_execute_token": "s3cret-token", "htcondor_execute_site": "{{ 7 * 7 }}"},
            frozenset({"htcondor_execute_token"}),
        ),
    ),
)


def unpacked(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as files:
        return {entry.name: files.extractfile(entry).read() for entry in files}  # type: ignore[union-attr]


@pytest.fixture
def configurator(tmp_path: Path) -> AnsibleConfigurator:
    return AnsibleConfigurator(Settings(data_directory=tmp_path))


def test_a_bundle_has_all_that_a_run_needs(configurator: AnsibleConfigurator) -> None:
    files = unpacked(configurator.bundle(HOST).archive)
    role = "collections/ansible_collections/vacuo/site/roles/htcondor_execute/tasks/main.yml"
    for name in ("ansible.cfg", "inventory.yml", "play.yml", "host_vars/worker-1.yml", role):
        assert files[name]
    assert json.loads(files["secrets.json"]) == ["s3cret-token"]
    assert not [name for name in files if "molecule" in name or "__pycache__" in name]
    holders = [name for name, content in files.items() if b"s3cret-token" in content]
    assert sorted(holders) == ["host_vars/worker-1.yml", "secrets.json"]
    assert b'!unsafe "{{ 7 * 7 }}"' in files["host_vars/worker-1.yml"]


def test_the_same_host_is_the_same_bundle(configurator: AnsibleConfigurator) -> None:
    assert configurator.bundle(HOST) == configurator.bundle(HOST)
    other = replace(HOST, node=NodeName("worker-2"))
    assert configurator.bundle(other).sha256 != configurator.bundle(HOST).sha256


def test_a_bundle_refuses_what_a_run_over_ssh_refuses(configurator: AnsibleConfigurator) -> None:
    for call in (
        RoleCall("vacuo.site.nothing", "x", {}),
        RoleCall("vacuo.site.squid", "x", {"ansible_python_interpreter": "/tmp/evil"}),
    ):
        with pytest.raises(Terminal):
            configurator.bundle(replace(HOST, roles=(call,)))


def test_what_a_host_is_given_is_private_where_it_must_be(
    configurator: AnsibleConfigurator,
) -> None:
    given = configurator.bootstrap(PullOrder("https://vacuo.example.org", "c" * 43))
    mode, text = given.files["/etc/vacuo/pull.json"]
    assert mode == 0o600
    assert "c" * 43 in text
    assert "c" * 43 not in repr(given)
    others = [
        content for name, (_, content) in given.files.items() if name != "/etc/vacuo/pull.json"
    ]
    assert not [content for content in others if "c" * 43 in content]


def test_the_program_on_hosts_needs_no_new_python() -> None:
    import ast

    source = Path("orchestrator/configure/node/vacuo-configure").read_text()
    ast.parse(source, feature_version=(3, 9))


def test_settings_refuse_bundles_without_https() -> None:
    from pydantic import ValidationError

    site = {"name": SITE, "provider": "local", "configure": "pull", "flavours": []}
    good = Settings.model_validate({"sites": [site]})
    assert good.pull_url(good.sites[0]) == "http://127.0.0.1:8420"
    ours = Settings.model_validate({"sites": [{**site, "pull_url": "https://x.example/"}]})
    assert ours.pull_url(ours.sites[0]) == "https://x.example"
    with pytest.raises(ValidationError):
        Settings.model_validate({"sites": [{**site, "pull_url": "ftp://x.example/"}]})


# --- the next credential for its pool -------------------------------------------------------------


def test_a_node_is_given_its_next_credential_until_it_says_that_it_has_it(pulled: Pulled) -> None:
    bundle = pulled.configuring()
    pulled.report(bundle["reporter"], done("finished"))
    pulled.world.passes(pulled.id, 8)
    assert "credential" not in (pulled.fetch().json or {}) or not pulled.fetch().json["credential"]
    decided = replace(pulled.node, credential_at=pulled.world.now - HOUR)
    due = _decide(pulled, decided)
    first, again = pulled.fetch().json["credential"], pulled.fetch().json["credential"]
    assert first["id"] == again["id"] == due
    assert first["file"].startswith("/")
    taken = [pulled.ask("POST", "/pull/credential", pulled.secret, {"id": due}) for _ in range(2)]
    assert [answer.json for answer in taken] == [{"known": True}, {"known": False}]
    assert not pulled.fetch().json.get("credential")
    stored = b"".join(
        path.read_bytes() for path in pulled.world.settings.data_directory.glob("vacuo.db*")
    )
    assert first["content"].strip().encode() not in stored


def test_nobody_else_gets_or_acknowledges_a_nodes_credential(pulled: Pulled) -> None:
    pulled.configuring()
    due = _decide(pulled, pulled.node)
    other = ("x" * 43, pulled.credential)
    for token in other:
        answer = pulled.ask("POST", "/pull/credential", token, {"id": due})
        assert answer.status_code == 401
    wrong = pulled.ask("POST", "/pull/credential", pulled.secret, {"id": "0" * 32})
    assert wrong.json == {"known": False}


def _decide(pulled: Pulled, node: Any) -> str:
    """A renewal, as the planner would decide it."""
    repository, now = pulled.world.repository, pulled.world.now
    found = repository.deployment(pulled.id)
    lease = repository.acquire(pulled.id, "test", 60.0, now)
    (intent,) = repository.save(
        lease,
        generation=found.generation,
        status=found.status,
        status_reason=None,
        reasons=(),
        now=now,
        nodes=[node],
        actions=[RenewCredential(node.name)],
    )
    repository.release(lease)
    return str(intent.id)


def test_the_token_is_renewed_where_the_role_puts_it() -> None:
    names = Path(__file__).parents[2] / "ansible/roles/htcondor_execute/vars/main.yml"
    assert f"path: {TOKEN_FILE}\n" in names.read_text()


def test_the_program_on_the_host_replaces_the_file_whole_and_then_says_so(tmp_path: Path) -> None:
    program = Path(__file__).parents[2] / "orchestrator/configure/node/vacuo-configure"
    loader = SourceFileLoader("vacuo_configure", str(program))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    node = module_from_spec(spec)
    loader.exec_module(node)
    told: list[Any] = []

    class Api:
        def ask(self, *words: Any) -> None:
            told.append((words, target.read_text()))

    target = tmp_path / "vacuo"
    target.write_text("old\n")
    before = os.umask(0o077)
    try:
        new = {"id": "a" * 32, "file": str(target), "content": "new\n"}
        node.take_credential(Api(), "secret", new)
        gone = {"id": "b" * 32, "file": str(tmp_path / "no" / "file"), "content": "x"}
        node.take_credential(Api(), "secret", gone)
    finally:
        os.umask(before)
    body = {"id": "a" * 32}
    assert told == [(("POST", "/pull/credential", "secret", body), "new\n")]
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["vacuo"]
