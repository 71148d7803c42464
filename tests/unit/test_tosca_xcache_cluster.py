"""What a redirector and its caches tell each other in a template."""

from __future__ import annotations

from orchestrator import data
from orchestrator.model import Attribute, Concat
from tests.unit.tosca_support import compiled

TEMPLATE = data.directory("tosca-templates") / "xcache-redirector.yaml"


def variables(text: str) -> dict[str, dict[str, object]]:
    """The variables of every XCache, by the name of its node template."""
    return {
        service.template: dict(service.variables)
        for group in compiled(text).groups
        for service in group.services
        if service.role == "vacuo.site.xcache"
    }


def test_a_cache_learns_the_address_of_its_redirector() -> None:
    found = variables(TEMPLATE.read_text())
    redirector, cache = found["redirector"], found["xcache"]
    assert (redirector["xcache_mode"], cache["xcache_mode"]) == ("redirector", "cache")
    assert cache["xcache_redirector"] == Concat(
        (Attribute("redirector", ("private_address",)), ":", "1213")
    )
    assert "xcache_redirector" not in redirector
    assert "xcache_origin" not in redirector
    assert cache["xcache_purge_seconds"] == 300


def test_a_redirector_may_be_of_another_deployment() -> None:
    text = (
        TEMPLATE.read_text()
        .replace("        - cluster: redirector\n", "")
        .replace(
            "        origin: { get_input: origin }\n",
            "        origin: { get_input: origin }\n        redirector: far.example.org:1213\n",
        )
    )
    assert variables(text)["xcache"]["xcache_redirector"] == "far.example.org:1213"


def test_a_cache_by_itself_has_none() -> None:
    text = (TEMPLATE.parent / "xcache.yaml").read_text()
    assert "xcache_redirector" not in variables(text)["xcache"]


def test_workers_may_read_from_a_redirector_as_from_a_cache() -> None:
    site = (TEMPLATE.parent / "htcondor-site.yaml").read_text()
    site = site.replace(
        "    xcache:\n      type: vacuo.nodes.XCache\n      properties:\n"
        "        origin: { get_input: xcache_origin }\n"
        "        memory: { get_input: xcache_memory }\n",
        "    xcache:\n      type: vacuo.nodes.XCache.Redirector\n",
    )
    assert "XCache.Redirector" in site
    execute = next(
        service
        for group in compiled(site).groups
        for service in group.services
        if service.role == "vacuo.site.htcondor_execute"
    )
    assert execute.variables["htcondor_execute_xcache"] == Concat(
        (Attribute("xcache", ("private_address",)), ":", "1094")
    )
