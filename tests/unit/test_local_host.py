"""How a local host is described to the engine, and read back."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from orchestrator.model import DeploymentId, InstanceState, NodeName, UserData
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.local_host import (
    HostSetting,
    container_description,
    files_archive,
    instance_of,
    only_file,
)
from orchestrator.settings import Flavour

SETTING = HostSetting("1f2e", "here", "podman", "vacuo", "/images", True, True)
FLAVOUR = Flavour(name="small", cores=2, memory_mb=1024, disk_gb=10, price_per_hour=None)
REQUEST = InstanceRequest(
    "one-workers-1", DeploymentId("one"), NodeName("node"), "small", "", UserData()
)


def listed(**fields: Any) -> dict[str, Any]:
    plain = {
        "Id": "abc",
        "State": "running",
        "Status": "Up 3 seconds",
        "Created": 1000,
        "Labels": {"vacuo.owner": "one", "vacuo.node": "node", "vacuo.name": "one-workers-1"},
        "NetworkSettings": {"Networks": {"vacuo": {"IPAddress": "10.93.0.7"}}},
    }
    return {**plain, **fields}


def test_everything_that_a_listing_needs_is_a_label() -> None:
    labels = container_description(REQUEST, FLAVOUR, "image", SETTING)["Labels"]
    assert labels == {
        "vacuo.installation": "1f2e",
        "vacuo.site": "here",
        "vacuo.owner": "one",
        "vacuo.node": "node",
        "vacuo.name": "one-workers-1",
        "vacuo.cores": "2",
        "vacuo.memory_mb": "1024",
    }


def test_limits_are_set_only_where_the_cgroups_can() -> None:
    able = container_description(REQUEST, FLAVOUR, "image", SETTING)["HostConfig"]
    assert (able["Memory"], able["NanoCpus"]) == (1 << 30, 2 * 10**9)
    setting = HostSetting("1f2e", "here", "podman", "vacuo", None, False, False)
    unable = container_description(REQUEST, FLAVOUR, "image", setting)["HostConfig"]
    assert not {"Memory", "NanoCpus", "Binds"} & set(unable)


def test_secrets_among_the_files_are_not_in_the_description() -> None:
    user_data = UserData(("ssh-ed25519 AAAA",), {"/etc/token": (0o600, "s3cret")})
    request = InstanceRequest("a", DeploymentId("one"), NodeName("node"), "small", "", user_data)
    assert "s3cret" not in str(container_description(request, FLAVOUR, "image", SETTING))
    assert "s3cret" not in repr(request)


def test_files_come_with_their_modes_and_the_keys_of_those_who_may_log_in() -> None:
    user_data = UserData(("key one\n", "key two"), {"/etc/token": (0o640, "s3cret")})
    with tarfile.open(fileobj=io.BytesIO(files_archive(user_data, 1000.0))) as archive:
        modes = {entry.name: entry.mode for entry in archive.getmembers()}
        keys = archive.extractfile("root/.ssh/authorized_keys")
        assert keys is not None
        assert keys.read() == b"key one\nkey two\n"
    assert modes == {"root/.ssh/authorized_keys": 0o600, "etc/token": 0o640}


def test_an_archive_ends_after_its_two_empty_blocks() -> None:
    archive = files_archive(UserData(("key",)), 0.0)
    assert len(archive) == 4 * 512  # a header, a block of content, the end
    assert archive.endswith(bytes(1024))
    assert archive[512:515] == b"key"


def test_one_file_is_read_back_from_an_archive() -> None:
    archive = files_archive(UserData(("ssh-ed25519 AAAA",)), 0.0)
    assert only_file(archive) == "ssh-ed25519 AAAA\n"


def test_a_running_host_has_the_address_of_its_network() -> None:
    instance = instance_of(listed(), 1001.0)
    assert (instance.state, instance.address) == (InstanceState.RUNNING, "10.93.0.7")
    assert (instance.owner, instance.node, instance.name) == ("one", "node", "one-workers-1")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("exited", InstanceState.STOPPED),
        ("stopped", InstanceState.STOPPED),
        ("removing", InstanceState.DELETING),
        ("dead", InstanceState.FAILED),
        ("something new", InstanceState.FAILED),
        ("stopping", InstanceState.RUNNING),
    ],
)
def test_the_engines_states_in_our_words(state: str, expected: InstanceState) -> None:
    instance = instance_of(listed(State=state), 1001.0)
    assert instance.state is expected
    assert (instance.address is None) == (expected is not InstanceState.RUNNING)


def test_a_container_that_was_never_started_counts_as_failed_after_a_minute() -> None:
    host = listed(State="created", NetworkSettings=None)
    assert instance_of(host, 1059.0).state is InstanceState.STARTING
    late = instance_of(host, 1061.0)
    assert (late.state, late.detail) == (InstanceState.FAILED, "created and never started")
