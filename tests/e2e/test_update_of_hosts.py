"""A deployment of real hosts is changed: in place, and by more of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import exitcodes
from testbed.ports import free_port
from testbed.server import VacuoServer

TEMPLATE = """\
tosca_definitions_version: tosca_simple_yaml_1_3
description: Squids, as many as are asked for.
imports:
  - vacuo/types.yaml
topology_template:
  inputs:
    hosts: {type: integer, default: 1}
    cache_memory: {type: scalar-unit.size, default: 128 MiB}
  node_templates:
    proxy:
      type: tosca.nodes.Compute
      capabilities:
        host:
          properties: {num_cpus: 1, mem_size: 1 GiB, disk_size: 10 GB}
        scalable:
          properties:
            min_instances: 1
            max_instances: 3
            default_instances: {get_input: hosts}
    containers:
      type: vacuo.nodes.ContainerRuntime
      requirements: [{host: proxy}]
    squid:
      type: vacuo.nodes.Squid
      # Squids that know nothing of one another: else each is told of the other.
      properties: {memory: {get_input: cache_memory}, siblings: []}
      requirements: [{host: containers}]
"""


@pytest.mark.timeout(600)
def test_a_property_is_changed_in_place_and_a_number_by_another_host(tmp_path: Path) -> None:
    template = tmp_path / "squids.yaml"
    template.write_text(TEMPLATE)
    server = VacuoServer(tmp_path / "server", [], port=free_port()).start()
    try:
        server.login()
        made = server.json("up", str(template), "--wait", "--timeout", "400")["deployment"]
        (host,) = _nodes(server, made["uuid"])
        assert _cache_memory(server, host) == "128"
        _change_in_place(server, template, made["uuid"], host)
        _scale(server, template, made["uuid"], host)
        server.vacuo("down", made["uuid"], "--now", "--wait")
        assert _nodes(server, made["uuid"]) == []
    finally:
        server.stop()


def _change_in_place(server: VacuoServer, template: Path, uuid: str, host: dict[str, Any]) -> None:
    inputs = ("-p", "cache_memory=64 MiB")
    told = server.vacuo("plan", str(template), "--update", uuid, *inputs, check=False)
    assert told.returncode == exitcodes.CHANGES, told.stderr
    assert f"{host['uuid']} is configured anew" in told.stdout
    server.vacuo("up", str(template), "--update", uuid, "--wait", *inputs)
    (now,) = _nodes(server, uuid)
    assert now["physicalId"] == host["physicalId"]
    assert now["attempts"] == host["attempts"] + 1
    assert _cache_memory(server, now) == "64"
    done = server.vacuo("plan", str(template), "--update", uuid, *inputs, check=False)
    assert done.returncode == exitcodes.OK, done.stdout


def _scale(server: VacuoServer, template: Path, uuid: str, host: dict[str, Any]) -> None:
    inputs = ("-p", "cache_memory=64 MiB", "-p", "hosts=2")
    server.vacuo("up", str(template), "--update", uuid, "--wait", "--timeout", "400", *inputs)
    first, second = _nodes(server, uuid)
    assert first["physicalId"] == host["physicalId"]
    assert first["attempts"] == host["attempts"] + 1  # the one from before, and no other
    assert _cache_memory(server, second) == "64"


def _nodes(server: VacuoServer, uuid: str) -> list[dict[str, Any]]:
    return list(server.get(f"/deployments/{uuid}/resources")["content"])


def _cache_memory(server: VacuoServer, node: dict[str, Any]) -> str:
    """How many MB of memory the squid on the host may take, by its configuration."""
    found = server.vacuo("ssh", node["uuid"], "--", "grep -rhoP '^cache_mem \\K[0-9]+' /etc/vacuo")
    return found.stdout.strip()
