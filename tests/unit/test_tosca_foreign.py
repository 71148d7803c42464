"""Templates in the style of INDIGO and DODAS: what realises them, and what is refused, complete."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model import Attribute, DeploymentSpec, NodeGroup
from orchestrator.tosca import adapters
from orchestrator.tosca.catalogue import load
from orchestrator.tosca.compile import check_template, compile_template
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.imports import Document
from orchestrator.tosca.means import NO_MEANS, Means
from orchestrator.tosca.problems import Problem, TemplateInvalid

URL = "https://types.example/custom_types.yaml"
TYPES = Path(__file__).with_name("tosca_foreign_types.yaml").read_bytes()
PORTAL = {
    "https://types.example/artifacts/portal_install.yml": "0" * 64,
    "https://types.example/artifacts/portal.yml": "1" * 64,
    "example.portal,v2": "2" * 64,
}
HEAD = f"""\
tosca_definitions_version: tosca_simple_yaml_1_0

imports:
  - indigo_custom_types: {URL}

topology_template:
"""
HOST = """\
    server:
      type: tosca.nodes.indigo.Compute
      capabilities:
        host:
          properties: {num_cpus: 2, mem_size: 4 GB}
        os:
          properties: {image: "ost://cloud.example/8f667fbc", type: linux, version: 16.04}
"""
CMS = (
    HEAD
    + """\
  inputs:
    site: {type: string, default: T3_XX_Example}
    workers: {type: integer, default: 2, required: yes}
    token: {type: string, default: secret, required: no}
  node_templates:
    k8s_master:
      type: tosca.nodes.indigo.LRMS.FrontEnd.Kubernetes
      properties: {admin_token: testme}
      requirements:
        - host: server
    k8s_slave:
      type: tosca.nodes.indigo.LRMS.WorkerNode.Kubernetes
      properties:
        front_end_ip: { get_attribute: [ server, public_address, 0 ] }
      requirements:
        - host: slave
    cms_wn:
      type: tosca.nodes.indigo.CmsWnConfig
      properties:
        cms_local_site: { get_input: site }
        cms_stageoutsite: T1_XX_Disk
        mysquid_host: { get_attribute: [ server, private_address, 0 ] }
      requirements:
        - host: k8s_slave
    cms_services:
      type: tosca.nodes.indigo.CmsServices
      properties:
        iam_access_token: { get_input: token }
      requirements:
        - host: k8s_master
    slave:
      type: tosca.nodes.indigo.Compute
      capabilities:
        scalable:
          properties: {count: { get_input: workers }, removal_list: []}
        os:
          properties: {image: "ost://cloud.example/8f667fbc"}
"""
    + HOST
    + """\
  outputs:
    endpoint:
      value: { concat: [ 'https://', get_attribute: [ server, public_address, 0 ], ':30443' ] }
    credentials:
      value: { get_attribute: [ server, endpoint, credential, 0 ] }
"""
)
ELASTIC = (
    HEAD
    + """\
  node_templates:
    elastic:
      type: tosca.nodes.indigo.ElasticCluster
      requirements:
        - lrms: front_end
        - wn: worker
    front_end:
      type: tosca.nodes.indigo.LRMS.FrontEnd.HTCondor
      properties:
        wn_ips: { get_attribute: [ slave, private_address ] }
      requirements:
        - host: server
    worker:
      type: tosca.nodes.indigo.LRMS.WorkerNode.HTCondor
      properties:
        front_end_ip: { get_attribute: [ server, private_address, 0 ] }
      capabilities:
        wn:
          properties: {min_instances: 0, max_instances: 5}
      requirements:
        - host: slave
    slave:
      type: tosca.nodes.indigo.Compute
      capabilities:
        scalable:
          properties: {count: 0}
"""
    + HOST
)


def compiled(text: str, means: Means = NO_MEANS, given: Mapping[str, Any] = {}) -> DeploymentSpec:
    document = Document.of(URL, TYPES)
    assert isinstance(document, Document)
    return compile_template(text, given, "template.yaml", {URL: document}, "", means)


def problems(text: str, means: Means = NO_MEANS) -> tuple[Problem, ...]:
    with pytest.raises(TemplateInvalid) as caught:
        compiled(text, means)
    return caught.value.problems


def roles(group: NodeGroup) -> list[str]:
    return [service.role.rpartition(".")[2] for service in group.services]


def with_nodes(text: str) -> str:
    return f"{HEAD}  node_templates:\n{text}{HOST}"


def line_of(part: str, text: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


# --- what is realised ----------------------------------------------------------------------------


def test_a_cms_site_on_kubernetes_becomes_workers_and_a_squid_on_the_hosts_themselves() -> None:
    spec = compiled(CMS)
    assert roles(spec.group("server")) == ["container_runtime", "squid"]
    workers = spec.group("slave")
    assert sorted(roles(workers)) == ["container_runtime", "cvmfs", "htcondor_execute"]
    assert (workers.count, workers.pool, workers.uses) == (2, "default", ("server",))
    assert workers.advertised == {"GLIDEIN_CMSSite": "T3_XX_Example"}
    assert workers.requirements.image == "ost://cloud.example/8f667fbc"


def test_a_number_of_hosts_that_is_not_known_yet_breaks_no_limit() -> None:
    text = CMS.replace(
        "workers: {type: integer, default: 2, required: yes}", "workers: {type: integer}"
    )
    text = text.replace("removal_list: []}", "min_instances: 1, max_instances: 4}")
    document = Document.of(URL, TYPES)
    assert isinstance(document, Document)
    found = check_template(text, None, "template.yaml", {URL: document})
    assert any("`workers` has no value yet" in note.sentence for note in found.notes)


def test_what_is_not_made_and_what_is_not_used_is_told() -> None:
    notes = compiled(CMS).notes
    assert any(n.startswith("k8s_slave ") and "No Kubernetes is set up" in n for n in notes)
    assert any(n.startswith("cms_wn ") and "Not used: cms_stageoutsite" in n for n in notes)
    assert any(n.startswith("output endpoint") and "nothing answers there" in n for n in notes)
    assert not any("secret" in n for n in notes)


def test_an_index_into_addresses_is_kept_until_there_are_hosts() -> None:
    outputs = compiled(CMS).outputs
    assert outputs["endpoint"].parts[1] == Attribute("server", ("public_address", "0"))


def test_what_a_type_declares_and_nobody_provides_stays_unknown_and_is_no_mistake() -> None:
    assert "credentials" in compiled(CMS).outputs


def test_an_elastic_cluster_becomes_a_vacuum() -> None:
    spec = compiled(ELASTIC)
    workers = spec.group("slave")
    assert roles(workers) == ["container_runtime", "htcondor_execute"]
    assert workers.vacuum is not None
    assert (workers.vacuum.minimum, workers.vacuum.maximum) == (0, 5)
    assert roles(spec.group("server")) == []
    assert any(n.startswith("front_end ") and "the pool that the server" in n for n in spec.notes)


def test_an_xcache_reads_from_where_the_server_says() -> None:
    text = with_nodes(
        "    cache:\n      type: tosca.nodes.indigo.XCache\n"
        "      requirements:\n        - host: server\n"
    )
    (_, cache) = (
        compiled(text, Means({"xcache_origin": "eos.example:1094"})).group("server").services
    )
    assert cache.role == "vacuo.site.xcache"
    assert cache.variables["xcache_origin"] == "eos.example:1094"


def test_a_server_names_the_pool_that_workers_join() -> None:
    assert compiled(ELASTIC, Means({"pool": "cms", "unheard_of": 1})).group("slave").pool == "cms"


def test_a_type_below_one_that_is_known_is_realised_as_that_one() -> None:
    theirs = "tosca.nodes.indigo.LRMS.WorkerNode.HTCondor"
    own = f"node_types:\n  mine.Worker:\n    derived_from: {theirs}\n"
    text = ELASTIC.replace(f"type: {theirs}", "type: mine.Worker")
    text = text.replace("topology_template:", own + "topology_template:")
    assert "htcondor_execute" in roles(compiled(text).group("slave"))


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["{{ lookup('pipe', 'id') }}", '<a b=\\"c\\"/>', "{% raw %}"])
def test_late_jinja_and_escaped_quotes_stay_the_text_they_are(value: str) -> None:
    spec = compiled(CMS, given={"site": value})
    assert spec.group("slave").advertised == {"GLIDEIN_CMSSite": value}


def test_a_value_that_our_role_cannot_take_is_told_where_it_was_written() -> None:
    (problem,) = problems(
        with_nodes(
            "    cache:\n      type: tosca.nodes.indigo.XCache\n"
            "      requirements:\n        - host: server\n"
        ),
        Means({"xcache_origin": "{{ origin }}"}),
    )
    assert "`origin` is `{{ origin }}`; it must match" in problem.sentence
    assert problem.path == "topology_template.node_templates.cache.origin"


# --- what is refused -----------------------------------------------------------------------------


def test_all_that_cannot_be_realised_is_listed_at_once() -> None:
    text = with_nodes(
        """\
    slurm:
      type: tosca.nodes.indigo.LRMS.FrontEnd.Slurm
      requirements:
        - host: server
    helm:
      type: tosca.nodes.DODAS.HelmInstall.HTCondor
      properties:
        values_file: "image: {{ image }}"
      requirements:
        - host: server
    portal:
      type: example.nodes.Portal
      properties:
        title: "a \\"portal\\""
      requirements:
        - host: server
    disk:
      type: tosca.nodes.BlockStorage
      properties: {size: 40 GIB}
"""
    )
    found = {problem.line: problem for problem in problems(text)}
    assert sorted(found) == [line_of(f"type: {name}", text) for name in (
        "tosca.nodes.indigo.LRMS.FrontEnd.Slurm", "tosca.nodes.DODAS", "example.nodes.Portal",
        "tosca.nodes.BlockStorage")]  # fmt: skip
    slurm, helm, portal, disk = (found[line] for line in sorted(found))
    assert slurm.sentence == (
        "`slurm` has the type `tosca.nodes.indigo.LRMS.FrontEnd.Slurm`, which no role here "
        "realises."
    )
    assert "https://types.example/artifacts/slurm.yml" in slurm.suggestion
    assert "Helm" in helm.suggestion
    assert all(source in portal.suggestion for source in PORTAL)
    assert "disk_size" in disk.suggestion


def test_a_cluster_manager_with_nothing_of_ours_on_it_is_refused() -> None:
    text = with_nodes(
        "    k8s:\n      type: tosca.nodes.indigo.LRMS.FrontEnd.Kubernetes\n"
        "      requirements:\n        - host: server\n"
    )
    (problem,) = problems(text)
    assert "Nothing that Vacuo sets up stands on `k8s`." in problem.suggestion


def test_accounts_on_hosts_are_refused() -> None:
    text = with_nodes("").replace(
        "      capabilities:",
        "      properties:\n        os_users: [{name: me}]\n      capabilities:",
    )
    (problem,) = problems(text)
    assert problem.line == line_of("os_users", text)
    assert "accounts" in problem.suggestion


def test_a_type_that_drifted_from_its_own_operations_is_refused_in_its_own_file() -> None:
    drifted = TYPES.decode().replace("front_end_ip: { type", "front_ip: { type")
    document = Document.of(URL, drifted.encode())
    assert isinstance(document, Document)
    with pytest.raises(TemplateInvalid) as caught:
        compile_template(with_nodes(""), {}, "template.yaml", {URL: document})
    (problem,) = caught.value.problems
    assert problem.line == line_of("SELF, front_end_ip", drifted)
    assert problem.file == URL
    assert problem.suggestion == "Did you mean `front_ip`?"


# --- foreign playbooks ---------------------------------------------------------------------------

WITH_PORTAL = with_nodes(
    """\
    portal:
      type: example.nodes.Portal
      properties:
        title: "{{ 'a' }} \\"portal\\""
      requirements:
        - host: server
"""
)


def test_a_pinned_playbook_runs_with_its_inputs_and_its_role() -> None:
    (service,) = compiled(WITH_PORTAL, Means(pins=PORTAL)).group("server").services
    assert service.role == "vacuo.site.playbook"
    install, configure = service.variables["playbook_steps"]
    assert install == {"source": "https://types.example/artifacts/portal_install.yml", "inputs": {}}
    assert configure["inputs"] == {
        "portal_title": "{{ 'a' }} \"portal\"",
        "portal_address": Attribute("server", ("private_address", "0")),
        "portal_version": "1.14.0",
    }
    assert service.variables["playbook_roles"] == ["example.portal,v2"]


@pytest.mark.parametrize("missing", PORTAL)
def test_one_source_that_is_not_pinned_refuses_the_template_and_is_named(missing: str) -> None:
    pins = {source: digest for source, digest in PORTAL.items() if source != missing}
    (problem,) = problems(WITH_PORTAL, Means(pins=pins))
    assert problem.suggestion.endswith(f"not pinned here: {missing}.")


def test_a_template_cannot_call_the_role_of_playbooks_itself() -> None:
    text = """\
tosca_definitions_version: tosca_simple_yaml_1_3
imports: [vacuo/types.yaml]
node_types:
  mine.Own:
    derived_from: vacuo.nodes.Service
    interfaces:
      Standard:
        configure:
          implementation: vacuo.site.playbook
          inputs: {steps: [], files: [{path: steps/0.yml, content: "- hosts: all"}]}
topology_template:
  node_templates:
    server: {type: tosca.nodes.Compute}
    own:
      type: mine.Own
      requirements: [{host: server}]
"""
    assert any("pinned" in problem.sentence for problem in problems(text))


# --- the adapters themselves ---------------------------------------------------------------------


def test_every_adapter_names_our_types_and_their_properties_and_requirements() -> None:
    bundle = load("vacuo/types.yaml")
    assert bundle is not None
    from orchestrator.tosca.compile import base_library

    library: Library = base_library().with_types(bundle.sections)
    for entry in adapters.shipped().entries.values():
        for part in entry.parts:
            assert library.has("node_types", part.type), entry.type
            assert set(part.properties) <= set(library.properties("node_types", part.type))
            assert set(part.requirements) <= set(library.requirements(part.type))
        if entry.how not in (adapters.How.HOST, adapters.How.SERVICES):
            assert entry.sentence.endswith("."), entry.type


@pytest.mark.parametrize(
    "text",
    [
        "vacuo_adapter_version: 2",
        "{vacuo_adapter_version: 1, types: {}}",
        "{vacuo_adapter_version: 1, node_types: {a: {}}}",
        "{vacuo_adapter_version: 1, node_types: {a: {host: x, refused: y}}}",
        "{vacuo_adapter_version: 1, node_types: {a: {refused: x, becuase: y}}}",
        "{vacuo_adapter_version: 1, node_types: {a: {services: [{type: b, propertys: {}}]}}}",
        "{vacuo_adapter_version: 1, node_types: {a: {services: "
        "[{type: b, properties: {c: {parameter: d}}}]}}}",
    ],
)
def test_an_adapter_that_is_not_in_the_form_is_refused(text: str) -> None:
    import yaml

    with pytest.raises(ValueError, match=r"a\.yaml"):
        adapters.parse(yaml.safe_load(text), Path("a.yaml"))
