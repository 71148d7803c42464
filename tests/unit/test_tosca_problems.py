"""Each kind of mistake: where it is said to be, what is said, what to try."""

from __future__ import annotations

import pytest

from orchestrator.tosca.problems import TemplateInvalid
from tests.unit.tosca_support import SOUND, compiled, line_of, problems, spoilt, the_problem


def test_the_sound_template_is_sound() -> None:
    assert compiled(SOUND).group("worker").pool == "test"


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("", "empty"),
        ("- a\n- list\n", "must be a mapping"),
        ("just text", "must be a mapping"),
        ("tosca_definitions_version: tosca_simple_yaml_1_3\n", "no `topology_template`"),
    ],
)
def test_what_is_not_a_template_is_refused(template: str, sentence: str) -> None:
    assert sentence in the_problem(template).sentence


def test_tosca_2_is_refused_with_what_to_change() -> None:
    problem = the_problem(spoilt("tosca_simple_yaml_1_3", "tosca_2_0"))
    assert problem.line == 1
    assert "service_template" in problem.suggestion


@pytest.mark.parametrize("version", ["1_0", "1_1", "1_2", "1_3"])
def test_every_version_of_the_simple_profile_is_read(version: str) -> None:
    assert compiled(spoilt("yaml_1_3", f"yaml_{version}"))


# Every mistake: what stands in the sound template, what stands there instead, the text on the
# line that is blamed, what the sentence says, and the suggestion.
MISTAKES = [
    ("vacuo.nodes.HTCondor.Execute", "vacuo.nodes.HTCondor.Exceute", "Exceute", "no node type",
     "Did you mean `vacuo.nodes.HTCondor.Execute`?"),
    ("num_cpus", "num_cpu", "num_cpu:", "no property `num_cpu`", "Did you mean `num_cpus`?"),
    ("{ get_input: cores }", "lots", "lots", "must be an integer", ""),
    ("{ get_input: cores }", "0", "num_cpus", "at least 1", ""),
    ("{ get_input: cores }", "{ get_input: core }", "get_input", "no input `core`",
     "Did you mean `cores`?"),
    ("{ get_input: cores }", "{ getinput: cores }", "getinput", "must be an integer",
     "Did you mean `get_input`?"),
    ("4 GB", "4", "mem_size", "lacks a unit", "Write `4 MB` or `4 GB`."),
    ("4 GB", "4 gigs", "4 gigs", "no unit", ""),
    ("4 GB", "[4 GB]", "[4 GB]", "must be an amount", ""),
    ("default: 2", "default: 9", "default: 9", "in the range 1 to 8", ""),
    ("default: 2", "default: two", "default: two", "must be an integer", ""),
    ("type: integer", "type: int", "type: int", "no data type `int`", "Did you mean `integer`?"),
    ("in_range: [1, 8]", "in_rnage: [1, 8]", "in_rnage", "no constraint",
     "Did you mean `in_range`?"),
    ("in_range: [1, 8]", "in_range: 8", "in_range: 8", "needs a list of two", ""),
    ("pool: test", "pool: no way", "no way", "must match", ""),
    ("pool: test", "pool: yes", "pool: yes", "must be text", 'write "yes", in quotes'),
    ("pool: test", "pol: test", "execute:", "lacks the property `pool`", ""),
    ("- host: containers", "- hots: containers", "hots", "no requirement `hots`",
     "Did you mean `host`?"),
    ("- host: containers", "- host: container", "- host: container", "no node template",
     "Did you mean `containers`?"),
    ("- host: containers", "- host:  worker", "- host:  worker",
     "needs a `vacuo.nodes.ContainerRuntime`", ""),
    ("- host: containers", "- host: ~", "- host: ~", "leads nowhere", ""),
    ("targets: [worker]", "targets: [wroker]", "targets", "no node template `wroker`",
     "Did you mean `worker`?"),
    ("vacuo.policies.Vacuum", "vacuo.policies.Vacum", "Vacum", "no policy type",
     "Did you mean `vacuo.policies.Vacuum`?"),
    ("maximum: 3", "maximum: 0", "maximum: 0", "at least 1", ""),
    ("maximum: 3", "minimum: 3\n          maximum: 2", "minimum: 3", "above its maximum", ""),
    ("maximum: 3", "idle_time: 5 min", "5 min", "no unit", "Did you mean `m`?"),
    ("maximum: 3", "idle_time: 1 s", "1 s", "in the range 10 s to 7 d", ""),
    ("[worker, private_address]", "[worker, private_adress]", "get_attribute",
     "no attribute `private_adress`", "Did you mean `private_address`?"),
    ("[worker, private_address]", "[nobody, private_address]", "get_attribute",
     "no node template `nobody`", ""),
    ("[worker, private_address]", "[SELF, private_address]", "get_attribute",
     "means nothing outside", ""),
    ("[worker, private_address]", "[execute, join_credential]", "get_attribute",
     "Only `execute` itself", ""),
    ("{ get_attribute: [worker, private_address] }", "{ get_atribute: [worker, x] }",
     "get_atribute", "no function", "Did you mean `get_attribute`?"),
    ("{ get_attribute: [worker, private_address] }",
     "{ get_operation_output: [worker, Standard, confgure, x] }",
     "get_operation_output", "no operation", "Did you mean `configure`?"),
    ("  outputs:", "  output:", "output:", "no key `output`", "Did you mean `outputs`?"),
    ("- vacuo/types.yaml", "- vacuo/type.yaml", "vacuo/type", "not in the catalogue",
     "Did you mean `vacuo/types.yaml`?"),
    ("- vacuo/types.yaml", "- file:///etc/passwd", "file:", "opens no file",
     "Name a shipped file such as `vacuo/types.yaml`, or an https address."),
    ("- vacuo/types.yaml", "- ../../etc/passwd", "etc/passwd", "has no `..`", None),
    ("- vacuo/types.yaml", "- x: { file: //127.0.0.1/x }", "127", "opens no file", None),
    ("- vacuo/types.yaml", "- { a: b, c: d }", "a: b", "must name a `file`", None),
    ("- vacuo/types.yaml", "- ''", "''", "must name a file", "Write `- vacuo/types.yaml`."),
    ("- vacuo/types.yaml", "- { file: '' }", "file: ''", "must name a file", None),
    ("type: tosca.nodes.Compute", "type: tosca.nodes.BlockStorage\n      properties: {size: 1 GB}",
     "BlockStorage", "which no role here realises", None),
    ("type: vacuo.nodes.ContainerRuntime", "type: vacuo.nodes.Service", "nodes.Service",
     "names no role", None),
    ("pool: test", "pool: test\n      interfaces: {Standard: {configure: rm -rf}}", "rm -rf",
     "not a role", "Roles are named `vacuo.site.<role>`."),
    ("pool: test", "pool: test\n      interfaces: {Standard: {create: vacuo.site.squid}}",
     "create", "no other operation", None),
    ("pool: test", "pool: test\n      directives: [select]", "directives", "directive `select`",
     "without `directives`"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "sentence", "suggestion"), MISTAKES)
def test_a_mistake_is_said_where_it_is(
    old: str, new: str, place: str, sentence: str, suggestion: str | None
) -> None:
    template = spoilt(old, new)
    first, *_ = [p for p in problems(template) if sentence in p.sentence] or [None]
    assert first is not None, [p.as_text() for p in problems(template)]
    assert first.line == line_of(place, template)
    assert first.path
    if suggestion is not None:
        assert suggestion in first.suggestion
        assert bool(first.suggestion) >= bool(suggestion)


def test_all_mistakes_of_a_document_are_told_at_once() -> None:
    template = spoilt("4 GB", "4")
    template = spoilt("pool: test", "poll: test", template)
    template = spoilt("maximum: 3", "maximum: many", template)
    template = spoilt("private_address", "address", template)
    lines = [problem.line for problem in problems(template)]
    assert len(lines) == 5  # poll is unknown, and pool lacks
    assert lines == sorted(lines)


def test_inputs_are_checked_as_given() -> None:
    found = problems(SOUND, {"cores": 99, "coers": 1})
    assert [p.path for p in found] == ["parameters.coers", "parameters.cores"]
    assert found[0].suggestion == "Did you mean `cores`?"
    assert "in the range 1 to 8" in found[1].sentence


def test_a_required_input_without_a_value_is_missed() -> None:
    template = spoilt("      default: 2\n", "")
    problem = the_problem(template)
    assert problem.line == line_of("cores:", template)
    assert "-p cores=" in problem.suggestion
    assert compiled(template, {"cores": 3}).group("worker").requirements.cores == 3


def test_what_a_parameter_holds_is_data_and_never_a_function() -> None:
    template = spoilt("type: integer\n      default: 2", "type: map\n      default: {}")
    template = spoilt("      constraints:\n        - in_range: [1, 8]\n", "", template)
    template = spoilt("num_cpus: { get_input: cores }", "num_cpus: 1", template)
    template = spoilt(
        "pool: test", "pool: test\n        job_environment: { get_input: cores }", template
    )
    problem = the_problem(template, {"cores": {"A": {"get_input": "cores"}}})
    assert "must be text, not a mapping" in problem.sentence


def test_a_cycle_of_requirements_is_shown() -> None:
    template = spoilt("- host: containers", "- host: containers\n        - dependency: other")
    template = spoilt(
        "  policies:",
        "    other:\n      type: vacuo.nodes.ContainerRuntime\n      requirements:\n"
        "        - host: worker\n        - dependency: execute\n  policies:",
        template,
    )
    assert "execute → other → execute" in the_problem(template).sentence


def test_a_cycle_of_properties_is_shown() -> None:
    template = spoilt(
        "pool: test",
        "pool: { get_property: [SELF, start] }\n        start: { get_property: [SELF, pool] }",
    )
    assert "execute.pool → execute.start → execute.pool" in problems(template)[0].sentence


def test_what_hangs_on_a_broken_template_is_not_blamed_for_it() -> None:
    template = spoilt("type: tosca.nodes.Compute", "type: tosca.nodes.Computer")
    assert "tosca.nodes.Computer" in the_problem(template).sentence


def test_hosts_that_wait_for_one_another_are_refused() -> None:
    squids = "".join(
        f"    host{n}:\n      type: tosca.nodes.Compute\n"
        f"    run{n}:\n      type: vacuo.nodes.ContainerRuntime\n"
        f"      requirements:\n        - host: host{n}\n"
        f"    squid{n}:\n      type: vacuo.nodes.Squid\n      requirements:\n"
        f"        - host: run{n}\n      properties:\n        destinations:\n"
        f"          - get_attribute: [host{3 - n}, private_address]\n"
        for n in (1, 2)
    )
    template = spoilt("  policies:", squids + "  policies:")
    assert "host1 → host2 → host1" in the_problem(template).sentence


def test_a_problem_is_shown_with_its_line_and_a_caret() -> None:
    template = spoilt("num_cpus", "num_cpu")
    text = the_problem(template).as_text(template)
    head, line, caret = text.splitlines()
    assert head.startswith("template.yaml:21:13: `tosca.nodes.Compute.host` has no property")
    assert line[caret.index("^") :].startswith("num_cpu")


def test_the_error_is_a_user_error_with_every_problem_in_it() -> None:
    with pytest.raises(TemplateInvalid) as caught:
        compiled(spoilt("num_cpus", "num_cpu"))
    error = caught.value
    assert (error.code, error.status) == ("template-invalid", 400)
    assert "template.yaml:21:13" in str(error)


def test_a_template_may_bring_types_of_its_own() -> None:
    own = """\
node_types:
  my.nodes.Squid:
    derived_from: vacuo.nodes.Squid
    properties:
      greeting: { type: string, default: hello }
    interfaces:
      Standard:
        configure:
          implementation: vacuo.site.squid
          inputs:
            memory_mb: { type: integer, default: 99 }

topology_template:
"""
    template = spoilt("topology_template:\n", own)
    template = spoilt(
        "  policies:",
        "    proxy:\n      type: my.nodes.Squid\n      requirements:\n"
        "        - host: containers\n  policies:",
        template,
    )
    proxy = next(s for s in compiled(template).group("worker").services if s.template == "proxy")
    assert proxy.variables["squid_greeting"] == "hello"
    assert proxy.variables["squid_memory_mb"] == 99


@pytest.mark.parametrize(
    ("types", "sentence"),
    [
        ("{my.A: {derived_from: my.B}, my.B: {derived_from: my.A}}", "derives from itself"),
        ("{my.A: {derived_from: vacuo.nodes.Srevice}}", "no node type `vacuo.nodes.Srevice`"),
        ("{my.A: {}}", "does not say what it derives from"),
        ("{my.A: []}", "must be a mapping"),
        ("{tosca.nodes.Compute: {derived_from: tosca.nodes.Root}}", "exists already"),
        ("{my.A: {derived_from: vacuo.nodes.Service, properties: {a: {type: strnig}}}}",
         "no data type `strnig`"),
        ("{my.A: {derived_from: vacuo.nodes.Service, properties: {a: 1}}}", "must be a mapping"),
        ("{my.A: {derived_from: vacuo.nodes.Service, property: {}}}", "no key `property`"),
        ("{my.A: {derived_from: vacuo.nodes.Service, requirements: [{a: {node: x}}]}}",
         "no node type `x`"),
        ("{my.A: {derived_from: vacuo.nodes.Service, properties: "
         "{a: {type: string, constraints: [{pattern: '('}]}}}}", "regular expression"),
    ],
)  # fmt: skip
def test_a_broken_type_is_said_to_be(types: str, sentence: str) -> None:
    template = spoilt("topology_template:\n", f"node_types: {types}\ntopology_template:\n")
    assert any(sentence in p.sentence for p in problems(template)), problems(template)
