"""Secret parameters: sealed where they are stored, shown to nobody, whole on the host."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_world import ApiWorld, Compiler, submission
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.configure.base import HostToConfigure
from orchestrator.control.concealing import conceal, says_secret, sealable, unsealed
from orchestrator.control.values import Scope, is_secret, outputs, resolve
from orchestrator.model import (
    Concat,
    DeploymentId,
    DeploymentSpec,
    GroupName,
    NodeGroup,
    NodeState,
    Requirements,
    Secret,
    Service,
)
from orchestrator.settings import Limits
from orchestrator.tosca.sandbox import Compiler as RealCompiler

PASSWORD = "marked-hunter2-äöü"
NESTED = "marked-nested-7"
PIN = 73_190_558_264_417
RATIO = 0.7319055826


def spec_of(variables: Mapping[str, Any], **more: Any) -> DeploymentSpec:
    service = Service("service", "vacuo.nodes.Squid", "vacuo.site.squid", variables)
    group = NodeGroup(GroupName("workers"), Requirements(), (service,))
    return DeploymentSpec("", (group,), **more)


def variables(spec: DeploymentSpec) -> Mapping[str, Any]:
    return spec.groups[0].services[0].variables


def concealed(spec: DeploymentSpec, parameters: Mapping[str, Any]) -> Any:
    return conceal(spec, parameters, lambda name, text: f"mark {len(text)}")


texts = st.text(min_size=1, max_size=8)
values = st.recursive(
    st.one_of(texts, st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


@given(texts | st.integers() | st.booleans(), values, st.lists(texts, max_size=3))
def test_a_wish_without_its_secrets_becomes_the_same_again(
    secret: str | int, value: Any, around: Sequence[str]
) -> None:
    inside = str(secret).join(["", *around, ""])
    wished = {"squid_a": value, "squid_b": inside, "squid_c": [secret]}
    spec = spec_of(wished)
    found = concealed(spec, {"password": secret, "other": "x"})
    sealed = {name: unsealed(sealable(content)) for name, content in found.secrets.items()}
    back = resolve(variables(found.spec), Scope(found.spec, (), secrets=sealed))
    assert json.dumps(back) == json.dumps(wished)  # which tells 1, 1.0, true and "1" apart
    mark = f"mark {len(sealable(secret))}"
    assert variables(found.spec)["squid_c"] == [Secret("password", mark)]
    assert is_secret(variables(found.spec)["squid_c"])


def test_numbers_and_booleans_are_taken_out_and_keep_their_types() -> None:
    given = {"secrets": {"pin": PIN, "ratio": RATIO, "on": True, "deep": [[PIN + 1]]}, "one": 1}
    wished = {
        "squid_all": given["secrets"],
        "squid_url": f"https://{PIN}@host/",
        "squid_text": str(PIN),
        "squid_one": 1,
    }
    found = concealed(spec_of(wished, outputs={"pin": PIN, "one": 1}), given)
    for number in (PIN, PIN + 1, RATIO):
        assert str(number) not in repr(found)
    assert "True" not in repr(found)
    assert variables(found.spec)["squid_one"] == 1  # true is no number here
    assert outputs(found.spec, ()) == {"pin": None, "one": 1}
    back = resolve(variables(found.spec), Scope(found.spec, (), secrets=found.secrets))
    assert json.dumps(back) == json.dumps(wished)


def test_an_empty_secret_is_none() -> None:
    assert not concealed(spec_of({}), {"password": "", "token": None, "secret": []}).secrets


def test_a_secret_inside_a_text_is_taken_out() -> None:
    found = concealed(spec_of({"squid_url": f"https://me:{PASSWORD}@host/"}), {"token": PASSWORD})
    (url,) = variables(found.spec).values()
    assert isinstance(url, Concat)
    assert PASSWORD not in repr(found)


def test_secrets_in_lists_and_maps_are_taken_out_and_outputs_too() -> None:
    given = {"passwords": [PASSWORD, {"inner": NESTED}], "site": "here"}
    spec = spec_of({"squid_all": given["passwords"]}, outputs={"told": NESTED, "site": "here"})
    found = concealed(spec, given)
    assert PASSWORD not in repr(found)
    assert NESTED not in repr(found)
    assert outputs(found.spec, ()) == {"told": None, "site": "here"}
    assert found.parameters["site"] == "here"


def test_what_the_template_says_to_be_secret_is() -> None:
    spec = spec_of({"squid_x": "plain name"}, secret_inputs=("innocent",))
    assert concealed(spec, {"innocent": "plain name"}).secrets
    assert not concealed(spec_of({}), {"innocent": "plain name"}).secrets


@pytest.mark.parametrize("name", ["password", "db_Password", "API_TOKEN", "client_secret"])
def test_names_of_secrets(name: str) -> None:
    assert says_secret(name)


TEMPLATE = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs:
    innocent: {type: string, metadata: {secret: true}}
    site: {type: string, default: here}
  node_templates:
    server: {type: tosca.nodes.Compute}
"""


def test_metadata_of_an_input_makes_it_secret() -> None:
    compiler = RealCompiler(Limits(template_seconds=60))
    try:
        spec = compiler.compile(TEMPLATE, {"innocent": PASSWORD})
    finally:
        compiler.close()
    assert spec.secret_inputs == ("innocent",)


# --- a whole deployment ---------------------------------------------------------------------------


class WithParameters(Compiler):
    """Every parameter becomes a variable of the role, some of them inside other text."""

    def compile(self, template: str, inputs: Mapping[str, Any]) -> DeploymentSpec:
        spec = super().compile(template, inputs)
        (group,) = spec.groups
        (service,) = group.services
        mine = {f"htcondor_execute_{name}": value for name, value in inputs.items()}
        mine["htcondor_execute_url"] = f"https://me:{inputs.get('password', '')}@host/"
        service = replace(service, variables={**service.variables, **mine})
        told = {"login": inputs.get("password")}
        return replace(spec, groups=(replace(group, services=(service,)),), outputs=told)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ApiWorld]:
    made = ApiWorld(tmp_path, compiler=WithParameters())
    yield made
    made.close()


def configured(world: ApiWorld) -> list[HostToConfigure]:
    """The hosts that Ansible is given from now on."""
    hosts: list[HostToConfigure] = []
    configurator: Any = world.ports.configurator
    inner = configurator.apply

    def apply(given: Sequence[HostToConfigure], run: str) -> Any:
        hosts.extend(given)
        return inner(given, run)

    configurator.apply = apply
    return hosts


def everything_written(directory: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def forms(text: str) -> list[bytes]:
    raw = text.encode()
    return [raw, json.dumps(text)[1:-1].encode(), base64.b64encode(raw), raw.hex().encode()]


def test_a_planted_secret_is_nowhere_but_on_its_host(
    world: ApiWorld, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    hosts = configured(world)
    tokens = {"one": NESTED, "pin": PIN, "more": [[RATIO, True]]}
    parameters = {"password": PASSWORD, "tokens": tokens, "secret_pin": PIN + 1, "site": "here"}
    made = create(world, **parameters)
    id = DeploymentId(made["uuid"])
    world.passes(id, 14)
    (node,) = world.repository.nodes(id)
    assert node.state in (NodeState.JOINING, NodeState.JOINED)
    (call,) = hosts[0].roles
    assert call.variables["htcondor_execute_password"] == PASSWORD
    given = call.variables["htcondor_execute_tokens"]
    assert json.dumps(given) == json.dumps(tokens)
    assert call.variables["htcondor_execute_secret_pin"] == PIN + 1
    assert call.variables["htcondor_execute_url"] == f"https://me:{PASSWORD}@host/"
    assert call.secret >= {
        f"htcondor_execute_{name}" for name in ("password", "tokens", "secret_pin", "url")
    }

    changed = {**parameters, "password": PASSWORD + "-2"}
    body = {"template": made_template(world, id), "parameters": changed}
    preview = world.client.post(f"/deployments/{id}/plan", json=body, headers=world.headers())
    update = world.client.put(f"/deployments/{id}", json=body, headers=world.headers())
    assert update.status_code == 202, update.text
    world.passes(id, 14)
    assert hosts[-1].roles[0].variables["htcondor_execute_password"] == PASSWORD + "-2"

    parts = ("", "/resources", "/template", "/log", "/plan", "/explain", "/events")
    answers = [world.get(f"/deployments/{id}{part}").data for part in parts]
    answers += [world.get("/deployments").data, world.get("/events").data]
    answers += [preview.data, update.data, json.dumps(made).encode()]
    events = repr(world.repository.events(deployment=id)).encode()
    written = everything_written(world.settings.data_directory) + everything_written(tmp_path)
    for secret in (PASSWORD, NESTED, str(PIN), str(PIN + 1), str(RATIO)):
        for form in forms(secret):
            assert form not in written
            assert form not in b"".join(answers)
            assert form not in events
        assert secret not in caplog.text


def create(world: ApiWorld, **parameters: Any) -> Any:
    answer = world.send("POST", "/deployments", submission(parameters=parameters))
    assert answer.status_code == 201, answer.text
    return answer.json


def made_template(world: ApiWorld, id: DeploymentId) -> str:
    return world.repository.deployment(id).template


def test_a_key_that_is_away_fails_the_host_with_a_sentence(world: ApiWorld) -> None:
    id = DeploymentId(create(world, password=PASSWORD)["uuid"])
    (world.settings.data_directory / "master-keys").unlink()
    world.passes(id, 8)
    failed = world.repository.events(deployment=id, failed=True)
    assert any("secret 'parameter password" in event.message for event in failed)
    assert PASSWORD not in repr(failed)


def test_a_repeated_request_leaves_no_second_secret(world: ApiWorld) -> None:
    body = {"template": "minimum: 1\n", "parameters": {"password": PASSWORD}}
    headers = {**world.headers(), "Idempotency-Key": "once"}
    first, second = (
        world.client.post("/deployments", json=body, headers=headers) for _ in range(2)
    )
    assert first.json["uuid"] == second.json["uuid"]
    assert len(world.repository.secrets.sealed_otherwise((), 10)) == 1
