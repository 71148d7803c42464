"""Whatever is sent, a template or not, compiles, asks for imports, or is refused with problems."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.tosca import catalogue
from orchestrator.tosca.compile import compile_template, describe_template
from orchestrator.tosca.imports import ImportsNeeded
from orchestrator.tosca.problems import TemplateInvalid
from tests.unit.tosca_mutations import at, places
from tests.unit.tosca_support import SOUND

_TEXTS = [one.path.read_text(encoding="utf-8") for one in catalogue.templates()]
_DOCUMENTS = [yaml.safe_load(text) for text in _TEXTS]
_PLACES = [list(places(document)) for document in _DOCUMENTS]

_VOCABULARY = """
    tosca_definitions_version imports metadata description dsl_definitions repositories
    topology_template inputs node_templates relationship_templates groups policies outputs
    substitution_mappings workflows node_types capability_types relationship_types policy_types
    group_types data_types interface_types artifact_types type derived_from properties attributes
    capabilities requirements interfaces artifacts constraints entry_schema key_schema default
    required value members targets triggers directives copy node_filter node capability
    relationship occurrences implementation primary dependencies operations Standard configure
    valid_source_types valid_target_types file repository mapping node_type host os scalable
    num_cpus mem_size get_input get_property get_attribute concat join token get_artifact
    get_nodes_of_type get_operation_output in_range valid_values equal pattern length schema
    a b own.A own.B <<
"""
_KEYS = st.sampled_from(_VOCABULARY.split())
_WORDS = st.sampled_from(
    ["", "a", "b", "own.A", "own.B", "SELF", "HOST", "SOURCE", "string", "integer", "list", "map",
     "tosca.nodes.Compute", "tosca.nodes.Root", "tosca.nodes.SoftwareComponent", "Compute",
     "vacuo.nodes.Service", "vacuo.nodes.Squid", "vacuo.policies.Vacuum", "tosca.groups.Root",
     "tosca.capabilities.Container", "tosca.relationships.HostedOn", "tosca.datatypes.Credential",
     "vacuo.site.squid", "vacuo/types.yaml", "4 GB", "UNBOUNDED", "[a", "host", "default"]
)  # fmt: skip
_SCALARS = st.none() | st.booleans() | st.integers(-2, 99) | st.floats(allow_nan=False) | _WORDS
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=25,
)
_LINES = st.lists(
    st.builds(
        lambda indent, line: " " * indent + line,
        st.integers(0, 12),
        st.sampled_from(SOUND.splitlines()).map(str.strip)
        | st.text("ab:-[]{}#&*!|>'\"%@`,? \t\n", max_size=12),
    ),
    max_size=25,
)


def _refusal(ask: Callable[[], object]) -> TemplateInvalid | None:
    try:
        ask()
    except ImportsNeeded:
        return None
    except TemplateInvalid as refused:
        return refused
    return None


def _answered(text: str) -> None:
    for ask in (lambda: compile_template(text, {}, "t.yaml"), lambda: describe_template(text, "t")):
        refused = _refusal(ask)
        if refused is not None:
            assert refused.problems
            assert all(one.sentence.endswith(".") for one in refused.problems)
            assert "Traceback" not in refused.as_text(text)


def _written(document: Any) -> str:
    return json.dumps(document, indent=1, default=str)


@settings(max_examples=250, deadline=None)
@given(_LINES)
def test_any_lines(lines: list[str]) -> None:
    _answered("\n".join(lines))


@settings(max_examples=250, deadline=None)
@given(st.dictionaries(_KEYS, _VALUES, max_size=6), st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_any_document_of_the_words_of_tosca(top: Any, topology: Any) -> None:
    document = {"tosca_definitions_version": "tosca_simple_yaml_1_3", "imports": [], **top}
    _answered(_written({**document, "topology_template": topology}))
    _answered(_written({**document, "imports": ["vacuo/types.yaml"]}))


@settings(max_examples=250, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["own.A", "own.B", "a"]), _VALUES, max_size=3),
    st.sampled_from(["node_types", "capability_types", "relationship_types", "policy_types",
                     "group_types", "data_types", "interface_types", "artifact_types"]),
    st.sampled_from(["tosca.nodes.Root", "vacuo.nodes.Service", "own.A", "string"]),
)  # fmt: skip
def test_any_types(types: Any, kind: str, parent: str) -> None:
    document = yaml.safe_load(SOUND)
    for one in types.values():
        if isinstance(one, dict):
            one.setdefault("derived_from", parent)
    document[kind] = types
    document["topology_template"]["node_templates"]["it"] = {"type": "own.A"}
    _answered(_written(document))


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_any_splice_of_real_templates(data: st.DataObject) -> None:
    indices = st.integers(0, len(_DOCUMENTS) - 1)
    index = data.draw(indices)
    document = copy.deepcopy(_DOCUMENTS[index])
    for _ in range(data.draw(st.integers(1, 3))):
        other = data.draw(indices)
        piece = at(_DOCUMENTS[other], data.draw(st.sampled_from(_PLACES[other])))
        place = data.draw(st.sampled_from(_PLACES[index]))
        try:
            at(document, place[:-1])[place[-1]] = copy.deepcopy(piece)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier splice took the place away
    _answered(_written(document))


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(_TEXTS), st.data())
def test_any_line_lost_doubled_or_shifted(text: str, data: st.DataObject) -> None:
    lines = text.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(0, len(lines) - 1))
        line = lines[number]
        lines[number : number + 1] = data.draw(
            st.sampled_from([[], [line, line], [" " + line], [line[1:]], [line[: len(line) // 2]]])
        ) or [""]
    _answered("\n".join(lines))
