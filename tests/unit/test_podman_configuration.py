"""What podman needs follows from what the machine is."""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Terminal
from orchestrator.providers.podman_configuration import (
    MachineFacts,
    containers_conf,
    free_subnet,
    probe,
    runtime_directory,
    storage_conf,
    write_configuration,
)

HERE = Path("/srv/vacuo/engine")
LAPTOP = MachineFacts(
    unified_cgroups=True,
    systemd=True,
    may_raise_limits=True,
    hard_limits=(None, 4194304),
    runtimes=frozenset({"crun"}),
)


def written(facts: MachineFacts) -> dict[str, Any]:
    return tomllib.loads(containers_conf(facts, HERE, "10.64.0.0/20"))


def test_a_machine_that_works_as_it_comes_is_only_isolated() -> None:
    configuration = written(LAPTOP)
    assert configuration["containers"] == {}
    assert set(configuration["engine"]) == {"tmp_dir", "lock_type"}
    assert configuration["network"]["network_config_dir"] == f"{HERE}/networks"


def test_cgroups_of_version_1_take_runc() -> None:
    facts = replace(LAPTOP, unified_cgroups=False, runtimes=frozenset({"crun", "runc"}))
    assert written(facts)["engine"]["runtime"] == "runc"


def test_cgroups_of_version_1_without_runc_say_what_to_install() -> None:
    with pytest.raises(Terminal, match="apt-get install runc"):
        written(replace(LAPTOP, unified_cgroups=False))


def test_without_systemd_podman_makes_cgroups_and_logs_itself() -> None:
    configuration = written(replace(LAPTOP, systemd=False))
    assert configuration["engine"]["cgroup_manager"] == "cgroupfs"
    assert configuration["engine"]["events_logger"] == "file"
    assert configuration["containers"]["log_driver"] == "k8s-file"


def test_limits_that_may_not_be_raised_are_not_asked_to_be() -> None:
    facts = replace(LAPTOP, may_raise_limits=False, hard_limits=(20000, 32768))
    limits = written(facts)["containers"]["default_ulimits"]
    assert limits == ["nofile=20000:20000", "nproc=32768:32768"]
    unlimited = replace(facts, hard_limits=(None, 32768))
    assert written(unlimited)["containers"]["default_ulimits"] == ["nproc=32768:32768"]


def test_two_directories_share_nothing_that_podman_writes_to() -> None:
    other = Path("/srv/other/engine")
    assert runtime_directory(HERE) != runtime_directory(other)
    ours, theirs = storage_conf(HERE), storage_conf(other)
    roots = ("graphroot", "runroot")
    assert all(
        tomllib.loads(ours)["storage"][root] != tomllib.loads(theirs)["storage"][root]
        for root in roots
    )


def test_a_socket_fits_into_the_108_bytes_of_its_address() -> None:
    deep = Path("/srv") / "/".join(["directory"] * 20)
    assert len(str(runtime_directory(deep) / "podman.sock")) < 108


def test_a_subnet_that_the_machine_routes_to_is_never_chosen() -> None:
    first = free_subnet(HERE, [])
    second = free_subnet(HERE, [ipaddress.IPv4Network(first)])
    assert first != second
    assert not ipaddress.IPv4Network(first).overlaps(ipaddress.IPv4Network(second))


def test_no_free_subnet_is_an_error() -> None:
    with pytest.raises(Terminal, match="No free subnet"):
        free_subnet(HERE, [ipaddress.IPv4Network("10.0.0.0/8")])


def test_the_subnet_stays_once_it_is_chosen(tmp_path: Path) -> None:
    write_configuration(tmp_path, LAPTOP)
    first = (tmp_path / "containers.conf").read_text()
    (tmp_path / "subnet").write_text("10.99.0.0/20\n")
    write_configuration(tmp_path, LAPTOP)
    assert "10.99.0.0/20" in (tmp_path / "containers.conf").read_text() != first


def test_stores_on_an_overlay_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Terminal, match="VACUO_ENGINE_DIRECTORY"):
        write_configuration(tmp_path / "engine", replace(LAPTOP, on_overlay=True))
    assert not (tmp_path / "engine").exists()


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    facts = probe(tmp_path)
    assert facts.hard_limits[1]
    assert facts.on_overlay in (True, False)
