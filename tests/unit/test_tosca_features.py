"""Every part of the language, in every version of it: one document each, and what it comes to.

Refused parts stand in the second table, each with the sentence that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.model import Attribute, Concat, DeploymentSpec, Join, Service
from tests.unit.tosca_support import compiled, problems

VERSIONS = ("1_0", "1_1", "1_2", "1_3")
_HEAD = "tosca_definitions_version: tosca_simple_yaml_{version}\nimports: [vacuo/types.yaml]\n"

# One host with one service, to which most documents add what they are about.
SERVER = """
node_types:
  own.Server:
    derived_from: vacuo.nodes.Service
    properties:
      greeting: {type: string, required: false}
      things: {type: list, entry_schema: {type: string}, required: false}
      table: {type: map, entry_schema: string, required: false}
      size: {type: scalar-unit.size, default: 1 GiB}
    attributes:
      colour: {type: string, default: red}
    capabilities:
      door: {type: tosca.capabilities.Endpoint, valid_source_types: [own.Server]}
    requirements:
      - host:
          capability: tosca.capabilities.Container
          node: tosca.nodes.Compute
          relationship: tosca.relationships.HostedOn
          occurrences: [1, 1]
      - peer:
          capability: tosca.capabilities.Endpoint
          node: own.Server
          relationship: tosca.relationships.ConnectsTo
          occurrences: [0, UNBOUNDED]
    artifacts:
      page: {file: pages/index.html, type: tosca.artifacts.File}
    interfaces:
      Standard:
        configure: vacuo.site.server
"""
HOST = """
topology_template:
  node_templates:
    small:
      type: tosca.nodes.Compute
      capabilities: {host: {properties: {num_cpus: 2, mem_size: 4 GB}}}
    large:
      type: tosca.nodes.Compute
      capabilities: {host: {properties: {num_cpus: 16, mem_size: 64 GiB}}}
"""
_BARE = "    one: {type: own.Server, requirements: [{host: small}]}\n"


def service(spec: DeploymentSpec, name: str = "one") -> Service:
    return next(s for group in spec.groups for s in group.services if s.template == name)


def variable(name: str, template: str = "one") -> Callable[[DeploymentSpec], Any]:
    return lambda spec: service(spec, template).variables.get(f"server_{name}")


def output(spec: DeploymentSpec) -> Any:
    return spec.outputs["it"]


def of(properties: str, more: str = "") -> str:
    """A server with ``properties``, on the small host."""
    node = "    one:\n      type: own.Server\n      requirements: [{host: small}]\n"
    return f"{SERVER}{HOST}{node}      properties: {{{properties}}}\n{more}"


def asked(declaration: str) -> str:
    """A server whose greeting is an input with this declaration."""
    inputs = f"  inputs: {{it: {declaration}}}\n"
    return of("greeting: {concat: ['', {get_input: it}]}", inputs)


def told(value: str, more: str = "") -> str:
    """An output with this value."""
    return f"{SERVER}{HOST}{_BARE}{more}  outputs: {{it: {{value: {value}}}}}\n"


# What, the document, what is looked at in the result, what it must be.
FEATURES: list[tuple[str, str, Callable[[DeploymentSpec], Any], Any]] = [
    # --- inputs and their constraints
    ("input default", asked("{type: string, default: hello}"), variable("greeting"), "hello"),
    ("input not required", asked("{type: string, required: false}"), variable("greeting"), None),
    ("equal", asked("{type: integer, default: 3, constraints: [{equal: 3}]}"),
     variable("greeting"), "3"),
    ("greater_than", asked("{type: integer, default: 3, constraints: [{greater_than: 2}]}"),
     variable("greeting"), "3"),
    ("greater_or_equal", asked("{type: float, default: 3.5, "
     "constraints: [{greater_or_equal: 3.5}]}"), variable("greeting"), "3.5"),
    ("less_than", asked("{type: scalar-unit.size, default: 1 GB, constraints: "
     "[{less_than: 1 GiB}]}"), variable("greeting"), "1 GB"),
    ("less_or_equal", asked("{type: scalar-unit.time, default: 60 s, constraints: "
     "[{less_or_equal: 1 m}]}"), variable("greeting"), "60 s"),
    ("in_range", asked("{type: integer, default: 3, constraints: [{in_range: [1, UNBOUNDED]}]}"),
     variable("greeting"), "3"),
    ("in_range of a version", asked("{type: version, default: 1.10, constraints: "
     "[{in_range: ['1.2', '2.0']}]}"), variable("greeting"), "1.10"),
    ("valid_values", asked("{type: string, default: b, constraints: [{valid_values: [a, b]}]}"),
     variable("greeting"), "b"),
    ("lengths", asked("{type: string, default: abc, constraints: [{length: 3}, {min_length: 1}, "
     "{max_length: 3}]}"), variable("greeting"), "abc"),
    ("pattern", asked("{type: string, default: abc, constraints: [{pattern: '[a-c]+'}]}"),
     variable("greeting"), "abc"),
    ("schema", asked("{type: string, default: '{\"a\": 1}', constraints: "
     "[{schema: '{\"required\": [\"a\"]}'}]}"), variable("greeting"), '{"a": 1}'),
    ("frequency", asked("{type: scalar-unit.frequency, default: 2 GHz}"), variable("greeting"),
     "2 GHz"),
    ("timestamp", asked("{type: timestamp, default: '2026-05-01T12:00:00Z'}"),
     variable("greeting"), "2026-05-01T12:00:00+00:00"),
    ("booleans as YAML 1.1 has them", asked("{type: boolean, default: yes}"),
     variable("greeting"), "true"),
    ("required: no", asked("{type: string, required: no}"), variable("greeting"), None),
    ("range", of("greeting: {concat: [{get_input: [it, 1]}]}",
     "  inputs: {it: {type: range, default: [1, 4], constraints: [{in_range: [1, 9]}]}}\n"),
     variable("greeting"), "4"),
    ("list", of("things: {get_input: it}",
     "  inputs: {it: {type: list, entry_schema: {type: string}, default: [a, b]}}\n"),
     variable("things"), ["a", "b"]),
    ("nested get_input", of("greeting: {get_input: [it, deep, 1]}",
     "  inputs: {it: {type: map, default: {deep: [x, y]}}}\n"), variable("greeting"), "y"),
    ("data types of one's own", "\ndata_types:\n  own.Pair:\n    derived_from: tosca.datatypes.Root"
     "\n    properties: {left: {type: string}, right: {type: integer, default: 3}}\n"
     "  own.Word: {derived_from: string, constraints: [{max_length: 4}]}\n"
     + of("greeting: {concat: [{get_input: [it, left]}, {get_input: [it, right]}]}",
          "  inputs:\n    it: {type: own.Pair, default: {left: x}}\n"
          "    word: {type: own.Word, default: abcd}\n"), variable("greeting"), "x3"),
    ("map with a key_schema", of("table: {get_input: it}", "  inputs:\n    it:\n      type: map\n"
     "      key_schema: {type: string, constraints: [{min_length: 2}]}\n"
     "      entry_schema: string\n      default: {ab: c}\n"), variable("table"), {"ab": "c"}),
    # --- functions
    ("concat in flow pairs", told("{concat: ['http://', get_attribute: [small, private_address], "
     "':80']}"), output,
     Concat(("http://", Attribute("small", ("private_address",)), ":80"))),
    ("token", told("{token: ['a:b', ':', 1]}"), output, "b"),
    ("join", told("{join: [[a, b], '-']}"), output, "a-b"),
    ("join of what comes late", told("{join: [{get_attribute: [small, private_address]}, ',']}"),
     output, Join(Attribute("small", ("private_address",)), ",")),
    ("get_property of SELF", of("greeting: x, things: [{get_property: [SELF, greeting]}]"),
     variable("things"), ["x"]),
    ("get_property of HOST", of("greeting: {concat: [{get_property: [HOST, host, num_cpus]}]}"),
     variable("greeting"), "2"),
    ("get_property through a requirement", of("greeting: {get_property: [SELF, host, mem_size]}"),
     variable("greeting"), "4 GB"),
    ("get_property of a capability", told("{get_property: [large, host, num_cpus]}"), output, 16),
    ("get_property of a part", told("{get_property: [two, table, key]}",
     "    two: {type: own.Server, requirements: [{host: small}], properties: "
     "{table: {key: word}}}\n"), output, "word"),
    ("get_attribute by index", told("{get_attribute: [small, private_address, 0]}"), output,
     Attribute("small", ("private_address", "0"))),
    ("get_attribute of a capability", told("{get_attribute: [small, endpoint, ip_address]}"),
     output, Attribute("small", ("private_address",))),
    ("an attribute with a default", told("{get_attribute: [one, colour]}"), output, "red"),
    ("an attribute that is assigned", told("{get_attribute: [two, colour]}", "    two: {type: "
     "own.Server, requirements: [{host: small}], attributes: {colour: blue}}\n"), output, "blue"),
    ("get_attribute of a property", told("{get_attribute: [one, size]}"), output, "1 GiB"),
    ("get_operation_output", told("{get_operation_output: [one, Standard, configure, key]}"),
     output, Attribute("one", ("operation_output", "Standard", "configure", "key"))),
    ("get_artifact", told("{get_artifact: [one, page]}"), output, "pages/index.html"),
    ("get_nodes_of_type", told("{get_nodes_of_type: tosca.nodes.Compute}"), output,
     ["small", "large"]),
    # --- relationships and requirements
    ("requirement, extended", f"{SERVER}{HOST}    one:\n      type: own.Server\n"
     "      requirements:\n        - host: {node: large, capability: host, "
     "relationship: tosca.relationships.HostedOn}\n",
     lambda spec: service(spec) in spec.group("large").services, True),
    ("occurrences of a requirement", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: "
     "[{host: {node: small, occurrences: [1, 1]}}]}\n", variable("size_mb"), 1024),
    ("relationship template", f"\nrelationship_types:\n  own.Link: {{derived_from: "
     "tosca.relationships.ConnectsTo, properties: {speed: {type: integer}}}\n"
     f"{SERVER}{HOST}{_BARE}    two: {{type: own.Server, requirements: [{{host: small}}, "
     "{peer: {node: one, relationship: link}}]}\n  relationship_templates:\n"
     "    link: {type: own.Link, properties: {speed: 7}}\n"
     "  outputs: {it: {value: {get_property: [link, speed]}}}\n", output, 7),
    ("relationship written in a requirement", f"\nrelationship_types:\n  own.Link: {{derived_from: "
     "tosca.relationships.ConnectsTo, properties: {of: {type: string}}}\n"
     f"{SERVER}{HOST}{_BARE}    two: {{type: own.Server, requirements: [{{host: small}}, "
     "{peer: {node: one, relationship: {type: own.Link, properties: "
     "{of: {get_property: [SOURCE, size]}}}}}]}\n",
     lambda spec: service(spec, "two").template, "two"),
    ("node filter on a capability", f"{SERVER}{HOST}    one:\n      type: own.Server\n"
     "      requirements:\n        - host:\n            node_filter:\n              capabilities:\n"
     "                - host: {properties: [{num_cpus: {greater_or_equal: 8}}, "
     "{mem_size: {in_range: [32 GB, 128 GB]}}]}\n",
     lambda spec: service(spec) in spec.group("large").services, True),
    ("node filter on properties", f"{SERVER}{HOST}    a: {{type: own.Server, requirements: "
     "[{host: small}], properties: {greeting: hi}}\n    b: {type: own.Server, requirements: "
     "[{host: small}], properties: {greeting: ho}}\n    one:\n      type: own.Server\n"
     "      properties: {greeting: {get_property: [SELF, peer, size]}}\n"
     "      requirements: [{host: small}, {peer: {node: own.Server, node_filter: {properties: "
     "[{greeting: {equal: ho}}]}}}]\n", variable("greeting"), "1 GiB"),
    # --- substitution, groups, policies
    ("substitution mappings", f"{SERVER}{HOST}{_BARE}  inputs: {{hello: {{type: string, default: "
     "x}}\n  substitution_mappings:\n    node_type: own.Server\n    properties: {greeting: [hello]}"
     "\n    capabilities: {door: [one, door]}\n    requirements: {peer: [one, peer]}\n",
     lambda spec: len(spec.groups), 2),
    ("groups and policies", f"{SERVER}{HOST}{_BARE}  groups:\n    all: {{type: tosca.groups.Root, "
     "members: [small, large]}\n  policies:\n    - grow: {type: vacuo.policies.Vacuum, "
     "targets: [all], properties: {maximum: 4}}\n",
     lambda spec: [group.maximum for group in spec.groups], [4, 4]),
    ("a policy type of one's own", "\npolicy_types:\n  own.Grow: {derived_from: "
     f"vacuo.policies.Vacuum}}\n{SERVER}{HOST}{_BARE}  policies:\n    - grow: {{type: own.Grow, "
     "targets: [one], properties: {maximum: 4}}\n", lambda spec: spec.group("small").maximum, 4),
    ("a placement for all", f"{SERVER}{HOST}{_BARE}  policies:\n    - here: {{type: "
     "vacuo.policies.Placement, properties: {site: attic}}\n",
     lambda spec: {group.site for group in spec.groups}, {"attic"}),
    # --- artifacts, interfaces
    ("artifact, short", told("{get_artifact: [two, notes]}", "    two: {type: own.Server, "
     "requirements: [{host: small}], artifacts: {notes: notes.txt}}\n"), output, "notes.txt"),
    ("artifact, extended, of a type of one's own", "\nrepositories: {shop: {url: "
     "https://example.org/}}\nartifact_types: {own.Book: {derived_from: tosca.artifacts.File, "
     "mime_type: text/plain, file_ext: [txt]}}\n" + told("{get_artifact: [two, book]}", "    two: "
     "{type: own.Server, requirements: [{host: small}], artifacts: {book: {file: book.txt, type: "
     "own.Book, repository: shop, description: A book.}}}\n"), output, "book.txt"),
    ("operation, short", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: [{{host: "
     "small}], interfaces: {Standard: {configure: vacuo.site.other}}}\n",
     lambda spec: service(spec).role, "vacuo.site.other"),
    ("operation with inputs", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: [{{host: "
     "small}], interfaces: {Standard: {inputs: {b: 2}, configure: {inputs: {a: 1}}}}}\n",
     lambda spec: [variable("a")(spec), variable("b")(spec)], [1, 2]),
    ("operations: and a primary", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: "
     "[{host: small}], interfaces: {Standard: {operations: {configure: {implementation: {primary: "
     "vacuo.site.other, dependencies: []}, inputs: {a: 1}}}}}}\n",
     lambda spec: (service(spec).role, service(spec).variables["other_a"]),
     ("vacuo.site.other", 1)),
    ("an implementation that is an artifact", f"{SERVER}{HOST}    one: {{type: own.Server, "
     "requirements: [{host: small}], artifacts: {role: vacuo.site.other}, interfaces: {Standard: "
     "{configure: role}}}\n", lambda spec: service(spec).role, "vacuo.site.other"),
    ("an interface type of one's own", "\ninterface_types: {own.Care: {derived_from: "
     "tosca.interfaces.Root, feed: {description: Feed it.}}}\n"
     + SERVER.replace("      Standard:", "      Care: {type: own.Care}\n      Standard:")
     + f"{HOST}    one: {{type: own.Server, requirements: [{{host: small}}], interfaces: {{Care: "
     "{feed: {inputs: {a: 1}}}}}\n", variable("size_mb"), 1024),
    # --- the rest of a document
    ("copy", f"{SERVER}{HOST}    two: {{type: own.Server, requirements: [{{host: small}}], "
     "properties: {greeting: hi, size: 2 GiB}}\n    one: {type: own.Server, copy: two, properties: "
     "{greeting: ho}}\n",
     lambda spec: [variable("greeting")(spec), variable("size_mb")(spec)], ["ho", 2048]),
    ("dsl_definitions, metadata, descriptions", "\ndescription: All of it.\nmetadata: "
     "{template_name: x, template_version: 1.0}\ndsl_definitions: {half: &half {num_cpus: 8}}\n"
     f"{SERVER}{HOST}    one: {{type: own.Server, metadata: {{a: b}}, description: One., "
     "requirements: [{host: h}]}\n    h: {type: Compute, capabilities: {host: {properties: *half}}}"
     "\n", lambda spec: spec.group("h").requirements.cores, 8),
    ("short and qualified names of types", f"{SERVER}{HOST}    one: {{type: own.Server, "
     "requirements: [{host: h}]}\n    h: {type: 'tosca:Compute'}\n",
     lambda spec: service(spec) in spec.group("h").services, True),
    ("scalable", f"{SERVER}{HOST}    h: {{type: tosca.nodes.Compute, capabilities: {{scalable: "
     "{properties: {min_instances: 1, max_instances: 5, default_instances: 3}}}}\n",
     lambda spec: spec.group("h").count, 3),
    ("removal_list", f"{SERVER}{HOST}    h: {{type: vacuo.nodes.Host, capabilities: {{scalable: "
     "{properties: {min_instances: 0, max_instances: 5, removal_list: [a, b]}}}}\n",
     lambda spec: spec.group("h").removal_list, ("a", "b")),
    ("count, as INDIGO has it", "\ncapability_types: {own.Many: {derived_from: "
     "tosca.capabilities.Scalable, properties: {count: {type: integer, default: 1}}}}\nnode_types: "
     "{own.Host: {derived_from: tosca.nodes.Compute, capabilities: {scalable: {type: own.Many}}}}"
     f"{HOST}    h: {{type: own.Host, capabilities: {{scalable: {{properties: {{count: 7}}}}}}}}\n",
     lambda spec: spec.group("h").count, 7),
    ("sizes", f"{HOST}    h: {{type: tosca.nodes.Compute, capabilities: {{host: {{properties: "
     "{mem_size: 4 GB, disk_size: 20 GiB}}}}\n",
     lambda spec: (spec.group("h").requirements.memory_mb, spec.group("h").requirements.disk_gb),
     (3815, 20)),
    ("image references", f"{HOST}    h: {{type: vacuo.nodes.Host, capabilities: {{os: "
     "{properties: {image: 'ost://cloud.example.org/0b1c'}}}}\n",
     lambda spec: spec.group("h").requirements.image, "ost://cloud.example.org/0b1c"),
    ("what a host is asked for in vain", f"{HOST}    h: {{type: tosca.nodes.Compute, capabilities: "
     "{os: {properties: {type: linux, distribution: debian}}}}\n",
     lambda spec: ["h.os.distribution" in note for note in spec.notes], [True]),
    ("what a host is asked for and the site decides", f"{HOST}    h: {{type: tosca.nodes.Compute, "
     "capabilities: {host: {properties: {cpu_frequency: 2 GHz}}}}\n",
     lambda spec: ["h.host.cpu_frequency" in note for note in spec.notes], [True]),
    ("types of 1.3", f"{SERVER}{HOST}{_BARE}    two: {{type: own.Server, requirements: [{{host: "
     "{node: small, capability: tosca.capabilities.Compute}}]}\n",
     lambda spec: service(spec, "two") in spec.group("small").services, True),
    ("a node that nobody names", f"{SERVER}{HOST}{_BARE}    two: {{type: own.Server, requirements: "
     "[{host: small}, {peer: {capability: door, node: own.Server}}]}\n",
     lambda spec: service(spec, "two").template, "two"),
    ("a capability that a node type refines", SERVER.replace("door: {type: tosca.capabilities."
     "Endpoint, ", "door: {type: tosca.capabilities.Endpoint, properties: {port: {type: PortDef, "
     "default: 81}, protocol: {default: http}}, ")
     + f"{HOST}{_BARE}  outputs: {{it: {{value: {{get_property: [one, door, protocol]}}}}}}\n",
     output, "http"),
]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("document", "look", "wanted"), [f[1:] for f in FEATURES], ids=[f[0] for f in FEATURES]
)
def test_a_feature_means_the_same_in_every_version(
    document: str, look: Callable[[DeploymentSpec], Any], wanted: Any, version: str
) -> None:
    assert look(compiled(_HEAD.format(version=version) + document)) == wanted


# What is refused, and what is said.
REFUSED = [
    ("an equal that is not", asked("{type: integer, default: 4, constraints: [{equal: 3}]}"),
     "it must be 3"),
    ("a schema that is not followed", asked("{type: string, default: '{}', constraints: "
     "[{schema: '{\"required\": [\"a\"]}'}]}"), "follow its schema"),
    ("a schema in XML", asked("{type: string, default: x, constraints: [{schema: '<a/>'}]}"),
     "knows JSON Schema"),
    ("a range that turns back", asked("{type: integer, default: 4, constraints: "
     "[{in_range: [5, 1]}]}"), "from a greater value to a lesser"),
    ("a default that is not of its type, though another is given",
     of("greeting: x", "  inputs: {it: {type: integer, default: many}}\n"), "must be an integer"),
    ("an unknown status", asked("{type: string, default: x, status: old}"), "no status `old`"),
    ("a join of nothing", told("{join: []}"), "`join` takes"),
    ("an artifact that is not there", told("{get_artifact: [one, pag]}"), "no artifact `pag`"),
    ("an artifact on a host", told("{get_artifact: [one, page, LOCAL_FILE]}"),
     "copies no artifact"),
    ("a node type that is not there", told("{get_nodes_of_type: own.Serve}"),
     "no node type `own.Serve`"),
    ("an operation that is not there", told("{get_operation_output: [one, Standard, configur, x]}"),
     "no operation"),
    ("SOURCE outside of a relationship", of("greeting: {get_property: [SOURCE, size]}"),
     "outside of a relationship"),
    ("a variable that nothing sets", of("greeting: {get_attribute: [SELF, state]}"),
     "which nothing ever sets"),
    ("no node passes a filter", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: [{{host:"
     " {node_filter: {capabilities: [{host: {properties: [{num_cpus: {greater_than: 99}}]}}]}}}]}",
     "do not pass its filter"),
    ("several nodes pass a filter", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: "
     "[{host: {node: tosca.nodes.Compute}}]}", "Several node templates fit"),
    ("a filter on what is not there", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: "
     "[{host: {node_filter: {capabilities: [{host: {properties: [{cpus: {equal: 9}}]}}]}}}]}",
     "a property `cpus`"),
    ("a named node that does not pass", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: "
     "[{host: {node: small, node_filter: {capabilities: [{host: {properties: [{num_cpus: "
     "{greater_than: 9}}]}}]}}}]}", "does not pass the filter"),
    ("a capability that is not for it", SERVER.replace("valid_source_types: [own.Server]",
     "valid_source_types: [vacuo.nodes.Squid]") + f"{HOST}{_BARE}    two: {{type: own.Server, "
     "requirements: [{host: small}, {peer: one}]}", "serves `vacuo.nodes.Squid`"),
    ("a relationship that does not fit", f"{SERVER}{HOST}{_BARE}    two: {{type: own.Server, "
     "requirements: [{host: small}, {peer: {node: one, relationship: "
     "tosca.relationships.HostedOn}}]}", "does not derive from"),
    ("a relationship with work to do", "\nrelationship_types: {own.Link: {derived_from: "
     "tosca.relationships.ConnectsTo, interfaces: {Configure: {pre_configure_source: a.sh}}}}"
     f"{SERVER}{HOST}{_BARE}    two: {{type: own.Server, requirements: [{{host: small}}, "
     "{peer: {node: one, relationship: own.Link}}]}", "configures services, not relationships"),
    ("a mapping of what is not there", f"{SERVER}{HOST}{_BARE}  substitution_mappings: {{node_type:"
     " own.Server, capabilities: {door: [one, doo]}}", "no capability `doo`"),
    ("a mapping to no input", f"{SERVER}{HOST}{_BARE}  substitution_mappings: {{node_type: "
     "own.Server, properties: {greeting: [hello]}}", "no input `hello`"),
    ("a workflow", f"{SERVER}{HOST}{_BARE}  workflows: {{deploy: {{steps: {{}}}}}}",
     "runs no workflow, so `deploy`"),
    ("a directive", f"{SERVER}{HOST}    one: {{type: own.Server, directives: [substitute]}}",
     "puts another template in its place"),
    ("triggers", f"{SERVER}{HOST}{_BARE}  policies: [{{p: {{type: vacuo.policies.Vacuum, targets: "
     "[one], triggers: {t: {}}}}]", "follows no `triggers`"),
    ("a policy that is not followed", f"{SERVER}{HOST}{_BARE}  policies: [{{p: {{type: "
     "tosca.policies.Performance, targets: [one]}}]", "does not follow policies of type"),
    ("an unknown policy type", f"{SERVER}{HOST}{_BARE}  policies: [{{p: {{type: "
     "tosca.policies.Placment, targets: [one]}}]", "no policy type"),
    ("a deployment artifact", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: [{{host: "
     "small}], artifacts: {i: {file: x, type: tosca.artifacts.Deployment.Image}}}",
     "deploys no artifacts"),
    ("an artifact of no repository", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: "
     "[{host: small}], artifacts: {i: {file: x, repository: shop}}}", "no repository `shop`"),
    ("an operation of a host", f"{HOST}    h: {{type: tosca.nodes.Compute, interfaces: {{Standard: "
     "{start: x.sh}}}", "runs nothing on a host itself"),
    ("an interface that is not there", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: "
     "[{host: small}], interfaces: {Standart: {}}}", "no interface `Standart`"),
    ("an operation that is not one", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: "
     "[{host: small}], interfaces: {Standard: {confgure: x}}}", "no operation `confgure`"),
    ("a copy of a copy", f"{SERVER}{HOST}{_BARE}    two: {{type: own.Server, copy: one}}\n"
     "    three: {type: own.Server, copy: two}", "may not be copied"),
    ("a copy of nothing", f"{SERVER}{HOST}{_BARE}    two: {{type: own.Server, copy: ona}}",
     "no template `ona` to copy"),
    ("a GPU", "", "by their GPUs"),
    ("a system that is not Linux", f"{HOST}    h: {{type: tosca.nodes.Compute, capabilities: "
     "{os: {properties: {type: windows}}}}", "makes Linux hosts"),
    ("a size without a unit", f"{HOST}    h: {{type: tosca.nodes.Compute, capabilities: {{host: "
     "{properties: {mem_size: 4096}}}}", "lacks a unit"),
    ("more than the most", f"{HOST}    h: {{type: tosca.nodes.Compute, capabilities: {{scalable: "
     "{properties: {max_instances: 2, default_instances: 3}}}}", "which is not between"),
    ("a removal list that comes late", f"{HOST}    h: {{type: vacuo.nodes.Host, capabilities: "
     "{scalable: {properties: {removal_list: [{get_attribute: [small, node_name]}]}}}}",
     "must be known now"),
    ("a removal list of a plain Compute", f"{HOST}    h: {{type: tosca.nodes.Compute, capabilities:"
     " {scalable: {properties: {removal_list: [a]}}}}", "no property `removal_list`"),
    ("a circle of hosts", f"{SERVER}{HOST}    one: {{type: own.Server, requirements: [{{host: "
     "small}, {dependency: two}]}\n    two: {type: own.Server, requirements: [{host: small}, "
     "{dependency: one}]}", "one → two → one"),
]  # fmt: skip
_GPU = (
    "\ncapability_types: {own.Box: {derived_from: tosca.capabilities.Compute, properties: "
    "{num_gpus: {type: integer, default: 0}}}}\nnode_types: {own.Host: {derived_from: "
    "tosca.nodes.Compute, capabilities: {host: {type: own.Box}}}}\ntopology_template:\n"
    "  node_templates: {h: {type: own.Host, capabilities: {host: {properties: {num_gpus: 1}}}}}"
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("document", "sentence"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_is_not_done_is_refused_with_one_sentence(
    document: str, sentence: str, version: str
) -> None:
    found = problems(_HEAD.format(version=version) + (document or _GPU))
    assert [p for p in found if sentence in p.sentence], [p.as_text() for p in found]
    assert len(found) == 1, [p.as_text() for p in found]
