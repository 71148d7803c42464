"""What a local host is, beyond what every provider's is: the real engine of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from provider_worlds import SMALL, LocalWorld, created, listed, request

from orchestrator.errors import OutcomeUnknown, Retryable, Terminal, UserError
from orchestrator.model import Instance, InstanceId, InstanceState, Requirements, UserData
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.local import LocalProvider
from orchestrator.settings import Site
from testbed.waiting import eventually

RUNNING = InstanceState.RUNNING

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LocalWorld]:
    world = LocalWorld(tmp_path)
    yield world
    world.close()


def booted(world: LocalWorld, wanted: InstanceRequest | None = None) -> Instance:
    """A host of which sshd answers."""
    wanted = wanted or request()
    created(world.provider, wanted)
    instance = listed(world.provider, wanted.name, RUNNING)
    eventually(lambda: scanned_keys(instance), "sshd answering")
    return instance


def scanned_keys(instance: Instance) -> set[str]:
    command = ["ssh-keyscan", "-t", "ed25519,rsa,ecdsa", instance.address or ""]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in answer.stdout.splitlines() if not line.startswith("#")]
    return {" ".join(line.split()[1:3]) for line in lines}


def test_host_keys_are_those_that_a_scan_of_the_network_sees(world: LocalWorld) -> None:
    instance = booted(world)
    assert set(world.provider.host_keys(instance.id)) == scanned_keys(instance)


def test_two_hosts_never_share_a_key_or_an_identity(world: LocalWorld) -> None:
    one, other = booted(world), booted(world)
    keys = [tuple(world.provider.host_keys(instance.id)) for instance in (one, other)]
    assert keys[0] != keys[1]
    identities = [world.execute(host, ["cat", "/etc/machine-id"]).strip() for host in (one, other)]
    assert identities[0] != identities[1]
    assert all(len(identity) == 32 for identity in identities)


def test_the_authorised_key_logs_in_where_the_host_key_is_known(
    world: LocalWorld, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = (tmp_path / "key.pub").read_text()
    user_data = UserData((public,), {"/etc/site/secret": (0o600, "open sesame\n")})
    instance = booted(world, replace(request(), user_data=user_data))
    known = tmp_path / "known_hosts"
    host_keys = world.provider.host_keys(instance.id)
    known.write_text("".join(f"{instance.address} {host_key}\n" for host_key in host_keys))
    ssh = ["ssh", "-i", str(key), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    ssh += ["-o", f"UserKnownHostsFile={known}", f"root@{instance.address}"]

    def answer() -> str:
        script = "hostname; stat -c %a /etc/site/secret; cat /etc/site/secret"
        return subprocess.run([*ssh, script], capture_output=True, text=True, check=False).stdout

    assert eventually(answer, "ssh answering").splitlines() == [
        instance.name,
        "600",
        "open sesame",
    ]


def test_a_host_boots_without_a_failed_unit(world: LocalWorld) -> None:
    instance = booted(world)
    state = world.execute(instance, ["sh", "-c", "systemctl is-system-running --wait || true"])
    failed = world.execute(instance, ["systemctl", "--failed", "--plain", "--no-legend"])
    assert (state.strip(), failed.strip()) == ("running", "")


def test_containers_run_inside_a_host_from_the_images_that_all_hosts_share(
    world: LocalWorld,
) -> None:
    instance = booted(world)
    run = ["podman", "run", "--rm", "--network=host", "--memory=128m"]
    command = [*run, "localhost/vacuo/services:current", "condor_version"]
    assert "CondorVersion" in world.execute(instance, command)


def test_a_host_resolves_names_and_reaches_the_network_outside(world: LocalWorld) -> None:
    instance = booted(world)
    world.execute(instance, ["curl", "-sfI", "--retry", "3", "http://deb.debian.org/debian/"])


def test_a_host_has_no_more_memory_than_its_flavour(world: LocalWorld) -> None:
    instance = booted(world)
    v2, v1 = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    limit = world.execute(instance, ["sh", "-c", f"cat {v2} 2>/dev/null || cat {v1}"])
    assert int(limit) == SMALL.memory_mb << 20


def test_the_console_of_a_host_that_powered_off_can_still_be_read(world: LocalWorld) -> None:
    instance = booted(world)
    world.power_off(instance)
    listed(world.provider, instance.name, InstanceState.STOPPED)
    assert "Secure Shell" in world.provider.console(instance.id, 500)


def test_a_deleted_host_leaves_no_volume_behind(world: LocalWorld) -> None:
    instance = booted(world)
    with world.client() as client:
        mounts = client.containers.get(instance.id).attrs["Mounts"]
        volumes = {mount["Name"] for mount in mounts if mount["Type"] == "volume"}
        assert volumes
        world.provider.delete(instance.id)
        assert not volumes & {volume.name for volume in client.volumes.list()}


def test_an_image_that_is_missing_is_said_with_what_to_do(world: LocalWorld) -> None:
    wanted = replace(request(), image="localhost/vacuo/never-built:1")
    with pytest.raises(Terminal, match=r"never-built:1\. Try: make images"):
        world.provider.create(wanted)
    assert not world.provider.list(None)


def test_a_name_that_cannot_be_a_host_name_is_refused(world: LocalWorld) -> None:
    for name in ("", "a_b", "-a", "a" * 64, "a.b", "../etc"):
        with pytest.raises(Terminal, match="letters, digits and dashes"):
            world.provider.create(replace(request(), name=name))


def test_another_architecture_is_rejected(world: LocalWorld) -> None:
    answers = world.provider.offers(Requirements(architecture="pdp11"))
    assert answers
    assert all("pdp11 is needed" in answer.why for answer in answers)


def test_what_the_machine_does_not_have_is_not_offered(world: LocalWorld) -> None:
    small = Requirements(memory_mb=64, disk_gb=1)
    huge = [a for a in world.provider.offers(small) if a.flavour == "huge"]
    assert "this machine has" in huge[0].why


def test_a_create_that_no_answer_comes_to_is_unknown(tmp_path: Path) -> None:
    world = LocalWorld(tmp_path, request_seconds=5)
    try:
        wanted = request()
        world.socket.swallow_answer_to(b"/containers/create", silently=True)
        with pytest.raises(OutcomeUnknown):
            world.provider.create(wanted)
        assert [one.name for one in world.provider.list(None)] == [wanted.name]
    finally:
        world.close()


def test_another_installation_neither_sees_nor_deletes_our_hosts(
    world: LocalWorld, tmp_path: Path
) -> None:
    theirs = LocalProvider(world.site, tmp_path / "theirs")
    identifier = created(world.provider, request())
    assert not theirs.list(None)
    with pytest.raises(Terminal, match="not a host of this installation"):
        theirs.delete(identifier)
    assert world.provider.list(None)


def test_no_host_key_yet_is_worth_another_try(world: LocalWorld) -> None:
    with pytest.raises(Retryable):
        world.provider.host_keys(InstanceId("0" * 64))


def test_a_subnet_that_is_taken_is_said_with_what_to_do(world: LocalWorld, tmp_path: Path) -> None:
    created(world.provider, request())  # takes the subnet
    site = world.site.model_copy(update={"network": "vacuo-test-taken"})
    with pytest.raises(Terminal, match="another network or subnet"):
        LocalProvider(site, tmp_path / "theirs").create(request())


def test_an_option_that_does_not_exist_is_refused_at_the_start(tmp_path: Path) -> None:
    site = Site(name="here", provider="local", flavours=(SMALL,), options={"colour": "red"})
    with pytest.raises(UserError, match="colour"):
        LocalProvider(site, tmp_path)
