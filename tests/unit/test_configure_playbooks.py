"""Foreign playbooks: only what is pinned and unchanged reaches a host, and as text."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.configure import run_files
from orchestrator.configure.base import (
    Bundle,
    Confinement,
    HostToConfigure,
    PullOrder,
    RoleCall,
    SecretFile,
    TaskEvent,
)
from orchestrator.configure.playbooks import ROLE, WithPlaybooks, pins, role_files
from orchestrator.errors import Terminal
from orchestrator.model import NodeName, UserData
from orchestrator.settings import ForeignPlaybook

URL = "https://example.org/site.yml"
PLAYBOOK = '- hosts: localhost\n  tasks:\n    - debug: {msg: "{{ greeting }}"}\n'
GALAXY = "example.greeter,v1"


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def pin(directory: Path, source: str, content: bytes) -> ForeignPlaybook:
    digest = hashlib.sha256(content).hexdigest()
    file = directory / digest[:12]
    file.write_bytes(content)
    return ForeignPlaybook(source=source, file=file, sha256=digest)


def call(*sources: str, roles: Sequence[str] = (), **more: Any) -> RoleCall:
    steps = [
        {"source": source, "inputs": {"greeting": "{{ lookup('pipe', 'id') }}"}}
        for source in sources
    ]
    return RoleCall(
        ROLE, "portal", {"playbook_steps": steps, "playbook_roles": list(roles), **more}
    )


def host(*calls: RoleCall) -> HostToConfigure:
    return HostToConfigure(NodeName("n-1"), "10.0.0.1", ("ssh-ed25519 AAAA",), calls)


class Inner:
    """A configurator that keeps what it is given."""

    def __init__(self) -> None:
        self.hosts: list[HostToConfigure] = []

    def bootstrap(self, order: PullOrder | None = None) -> UserData:
        return UserData()

    def bundle(self, host: HostToConfigure) -> Bundle:
        self.hosts.append(host)
        return Bundle(b"", "")

    def roles_digest(self) -> str:
        return ""

    def preparation(self, role: str) -> str | None:
        return None

    def confinement(self) -> Confinement | None:
        return None

    def put_secret(self, host: HostToConfigure, file: SecretFile) -> None:
        self.hosts.append(host)

    def key_file(self) -> str:
        return ""

    def answers(self, address: str) -> bool:
        return True

    def apply(self, hosts: Sequence[HostToConfigure], run: str) -> Iterator[TaskEvent]:
        self.hosts += hosts
        return iter(())


def files(completed: HostToConfigure) -> dict[str, str]:
    (one,) = completed.roles
    return {file["path"]: file["content"] for file in one.variables["playbook_files"]}


def test_a_pinned_playbook_and_its_role_go_to_the_host_as_text(tmp_path: Path) -> None:
    role = archive(
        {
            "greeter-1.0/tasks/main.yml": b"- debug:\n",
            "greeter-1.0/templates/a.j2": b"{{ x }}",
            "greeter-1.0/README.md": b"no",
            "greeter-1.0/.travis.yml": b"no",
        }
    )
    configured = [pin(tmp_path, URL, PLAYBOOK.encode()), pin(tmp_path, GALAXY, role)]
    completed = WithPlaybooks(Inner(), configured).completed(host(call(URL, roles=[GALAXY])))
    assert files(completed) == {
        "steps/0.yml": PLAYBOOK,
        "roles/example.greeter/tasks/main.yml": "- debug:\n",
        "roles/example.greeter/templates/a.j2": "{{ x }}",
    }


def test_nothing_of_a_playbook_or_its_inputs_is_evaluated_on_the_controller(tmp_path: Path) -> None:
    with_files = WithPlaybooks(Inner(), [pin(tmp_path, URL, PLAYBOOK.encode())])
    completed = with_files.completed(host(call(URL)))
    run_files.check(completed, [ROLE])
    text = run_files.host_variables(completed)
    assert text.count("!unsafe") >= text.count("{{")
    for event in yaml.parse(text):
        if isinstance(event, yaml.ScalarEvent) and "{{" in event.value:
            assert event.tag == "!unsafe"
    assert "lookup" not in run_files.play("free", [completed])


def test_files_that_a_template_brings_are_replaced_by_the_pinned_ones(tmp_path: Path) -> None:
    own = [{"path": "steps/0.yml", "content": "- hosts: all"}]
    with_files = WithPlaybooks(Inner(), [pin(tmp_path, URL, PLAYBOOK.encode())])
    assert (
        files(with_files.completed(host(call(URL, playbook_files=own))))["steps/0.yml"] == PLAYBOOK
    )
    assert files(with_files.completed(host(call(playbook_files=own)))) == {}


@pytest.mark.parametrize("source", ["https://example.org/other.yml", "/etc/passwd", "", URL + " "])
def test_what_is_not_pinned_is_refused_by_name(tmp_path: Path, source: str) -> None:
    with_files = WithPlaybooks(Inner(), [pin(tmp_path, URL, PLAYBOOK.encode())])
    with pytest.raises(Terminal, match="not one that this server may run"):
        with_files.bundle(host(call(source)))


def test_a_file_that_changed_since_it_was_pinned_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pinned = pin(tmp_path, URL, PLAYBOOK.encode())
    gone = ForeignPlaybook(source="gone", file=tmp_path / "gone", sha256="0" * 64)
    assert pins([pinned, gone]) == {URL: pinned.sha256}
    pinned.file.write_text(PLAYBOOK + "    - shell: more\n")
    assert pins([pinned, gone]) == {}
    with pytest.raises(Terminal, match="SHA-256 differs"):
        WithPlaybooks(Inner(), [pinned]).completed(host(call(URL)))


def test_a_host_without_its_playbook_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    inner = Inner()
    with_files = WithPlaybooks(inner, [pin(tmp_path, URL, PLAYBOOK.encode())])
    list(with_files.apply([host(call("other")), host(call(URL))], "run"))
    without, complete = inner.hosts
    assert files(without) == {}
    assert files(complete) == {"steps/0.yml": PLAYBOOK}


def test_hosts_without_playbooks_are_as_they_were() -> None:
    inner, plain = Inner(), host(RoleCall("vacuo.site.squid", "squid", {"squid_port": 3128}))
    list(WithPlaybooks(inner, ()).apply([plain], "run"))
    assert inner.hosts == [plain]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no archive", "not a tar.gz"),
        (archive({"README.md": b""}), "no tasks/main.yml"),
        (archive({"tasks/main.yml": b"", "tasks/../../etc/passwd": b""}), "not plain"),
        (archive({"tasks/main.yml": b"", "tasks/a b.yml": b""}), "not plain"),
        (archive({"tasks/main.yml": b"", "files/x": b"\xff\xfe"}), "not text"),
        (archive({"tasks/main.yml": b"", "files/x": b"0" * 5_000_000}), "too large"),
    ],
    ids=["no archive", "no tasks", "a way out", "a space", "a binary", "a large file"],
)
def test_an_archive_that_is_no_plain_role_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(Terminal, match=why):
        role_files(content, "example.role")


def test_links_in_an_archive_are_left_out() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("tasks/secret.yml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("tasks/main.yml"))
    assert list(role_files(buffer.getvalue(), "example.role")) == ["tasks/main.yml"]
