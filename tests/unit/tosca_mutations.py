"""Mutations of a template at every place of it, and which of them the specification lets pass.

A mutation is expected to be refused.  :func:`may_pass` knows the few kinds that need not be, each
with its reason; what a property must be is taken from the types.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from orchestrator.tosca import catalogue
from orchestrator.tosca.compile import base_library
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import Schema
from orchestrator.tosca.definitions import PLACEMENT, Library
from orchestrator.tosca.local_types import local_types
from orchestrator.tosca.problems import START, Report
from orchestrator.tosca.read import tree_of

Place = tuple[Any, ...]
_WRONG: dict[str, Any] = {
    "text": "no such thing",
    "number": -7,
    "list": ["a", ["b"]],
    "mapping": {"no such key": {"x": 1}},
}
_FUNCTIONS = ("get_input", "get_property", "get_attribute", "concat", "token")
_NODES = r"topology_template\.node_templates\.[^.]+"

# Places by pattern, the mutations that may pass there, and why.
_RULES: list[tuple[str, str, str]] = [
    (r".*\bdescription", "drop null text", "a description may lack, and says what it likes"),
    (r"metadata|.*\.metadata", "drop null", "metadata may lack"),
    (r"(.*\.)?metadata\.[^.]+", "drop null rename text number", "metadata holds any texts"),
    (r"dsl_definitions(\..*)?", "drop null rename text number mapping list", "for the writer only"),
    (r".*\.inputs\.[^.]+\.required", "drop null", "an input with a default may be required or not"),
    (r".*\.constraints(\.\d+)?", "drop null", "a value need not be constrained"),
    (r".*\.constraints\.\d+\.in_range\.0", "number", "another lower bound"),
    (r".*\.constraints\.\d+\.greater_or_equal", "number", "another lower bound"),
    (r".*\.constraints\.\d+\.valid_values\.\d+", "drop", "fewer values"),
    (r".*\.(entry_schema|key_schema)", "drop", "entries need not be of a type"),
    (r".*\.inputs\.[^.]+\.default\.\d+", "drop", "a shorter list"),
    (r".*\.inputs\.[^.]+\.default", "drop null", "an input that is not required needs no default"),
    (r".*\.outputs", "drop null", "a template may tell nothing"),
    (r".*\.outputs\.[^.]+", "drop rename", "nobody uses an output"),
    (r".*\.outputs\.[^.]+\.value", "text number list mapping", "an output may be anything"),
    (r".*\.(policies|groups)", "drop null", "a template needs no policies"),
    (r".*\.policies\.\d+", "drop", "one policy fewer"),
    (r".*\.policies\.\d+\.[^.]+", "rename", "nobody uses the name of a policy"),
    (r".*\.(targets|members)\.\d+", "drop", "one target fewer"),
    (rf"{_NODES}\.(capabilities|properties|interfaces|requirements)", "drop null",
     "may lack where nothing in it is required, which is told of otherwise"),
    (rf"{_NODES}\.capabilities\.[^.]+(\.properties)?", "drop null", "a capability needs no words"),
    (r".*\.policies\.\d+\.[^.]+\.properties", "drop null", "the defaults of the type"),
    (r".*\.concat\.\d+", "drop text number", "texts of any kind"),
    (rf".*\.({'|'.join(_FUNCTIONS)})", "drop", "an empty map, where a value may be one"),
    (r".*\.interfaces\.Standard(\.operations)?(\.configure)?", "drop null",
     "the type's own operation"),
    (r".*\.configure\.(implementation|inputs)", "drop null mapping", "the type's own"),
    (r".*\.inputs\.[a-z](\..*)?", "drop null rename text number list mapping",
     "inputs of an operation are of no type"),
    (r".*\.get_attribute\.2", "drop", "all of a list rather than one of it"),
    (r".*\.relationship", "drop null", "the relationship that the type has"),
]  # fmt: skip
# Definitions of types may leave out what is optional, and what no template uses.
_TYPE_RULES: list[tuple[str, str, str]] = [
    (r"data_types\.my\.Port(\.(type|derived_from))?", "drop rename", "nobody uses the type"),
    (r".*\.properties", "drop null", "no property is used"),
    (r".*\.properties\.(a|extra|floats|port|r|version|size|when|cred|spec|more)", "drop rename",
     "a property that no template sets"),
    (r".*\.(required|default)", "drop null text number",
     "a property that every template sets, or of type string"),
    (r".*\.default\.\d+", "drop number", "another default"),
    (r".*\.valid_target_types(\.\d+)?", "drop null", "any target"),
    (r".*\.requirements\.\d+", "drop", "as the parent has it"),
    (r".*\.requirements\.\d+\.[^.]+\.(capability|node|occurrences|relationship)", "drop null",
     "as the parent has it, or any"),
]  # fmt: skip


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Every key of every mapping and every item of every list."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*path, key))


def mutations(document: Any, place: Place) -> Iterator[tuple[str, Any]]:
    """The document with a change at ``place``, and the name of the change: the key dropped, the
    key renamed, nothing at all, and values of another kind."""
    old = at(document, place)
    changed, parent = _copy(document, place)
    del parent[place[-1]]
    yield "drop", changed
    if isinstance(parent, dict):
        changed, parent = _copy(document, place)
        entries = [(f"{k}x" if k == place[-1] else k, v) for k, v in parent.items()]
        parent.clear()
        parent.update(entries)
        yield "rename", changed
    wrong: tuple[str, ...] = ("null", "mapping") if isinstance(old, list) else ("null", "list")
    if isinstance(old, str):
        wrong = (*wrong, "number", "text")
    elif not isinstance(old, dict | list):
        wrong = (*wrong, "mapping", "text")
    for kind in wrong:
        changed, parent = _copy(document, place)
        parent[place[-1]] = _WRONG.get(kind)
        yield kind, changed


def at(document: Any, place: Place) -> Any:
    for key in place:
        document = document[key]
    return document


def _copy(document: Any, place: Place) -> tuple[Any, Any]:
    changed = copy.deepcopy(document)
    return changed, at(changed, place[:-1])


def may_pass(document: Any, place: Place, mutation: str) -> str:
    """Why the mutation may make a sound template; "" where it must not."""
    path = ".".join(str(key) for key in place)
    rules = _RULES + _TYPE_RULES if str(place[0]).endswith("_types") else _RULES
    for pattern, kinds, reason in rules:
        if mutation in kinds.split() and re.fullmatch(pattern, path):
            return reason
    if place[:2] == ("topology_template", "node_templates"):
        return _of_node(document, place, mutation)
    if place[:2] == ("topology_template", "policies") and place[4:] == ("targets",):
        kind = at(document, place[:4])["type"]
        for_all = library_of(document).derives("policy_types", kind, PLACEMENT)
        return "a placement without targets is for all" if for_all and mutation == "drop" else ""
    if place[:2] == ("topology_template", "policies") and len(place) > 5:
        return _of_value(_policy_schema(document, place), place[6:], mutation)
    if place[:2] == ("topology_template", "inputs") and len(place) > 3 and place[3] == "default":
        return _of_value(Schema.parse("", at(document, place[:3])), place[4:], mutation)
    return ""


def _of_node(document: Any, place: Place, mutation: str) -> str:
    name, *rest = place[2:]
    if not rest:
        nobody = mutation in ("drop", "rename") and not _is_named(document, name)
        return "nobody names the node template" if nobody else ""
    library = library_of(document)
    node_type = at(document, place[:3])["type"]
    if rest[0] == "properties" and len(rest) > 1:
        schemas = library.properties("node_types", node_type)
        return _of_value(schemas[rest[1]], rest[2:], mutation)
    if rest[0] == "capabilities" and len(rest) > 3:
        schemas = library.capability_properties(node_type, rest[1])
        return _of_value(schemas[rest[3]], rest[4:], mutation)
    if rest[0] == "requirements" and len(rest) == 2 and mutation == "drop":
        (requirement,) = at(document, place)
        least = library.requirements(node_type)[requirement].least
        return "the requirement is optional" if least == 0 else ""
    return ""


def _of_value(schema: Schema, rest: Any, mutation: str) -> str:
    """What may become of the value of a property, or of something inside of it."""
    if rest:
        inside = mutation in ("drop", "rename", "text", "number", "null")
        return "another entry of a list or map, or of a data type" if inside else ""
    if mutation in ("drop", "null") and (not schema.required or schema.has_default):
        return "the property is optional"
    free = schema.type not in ("string",) or mutation in ("text", "number")
    if schema.type == "string" and not schema.constraints and free:
        return "text is text, and a number the text that stands there"
    if schema.type in ("list", "map") and mutation in ("list", "mapping"):
        same = (schema.type == "list") == (mutation == "list")
        return "a list or map of anything" if same and schema.entry is None else ""
    return ""


def _policy_schema(document: Any, place: Place) -> Schema:
    kind = at(document, place[:4])["type"]
    return library_of(document).properties("policy_types", kind)[place[5]]


def _is_named(document: Any, name: str) -> bool:
    body = document["topology_template"]
    return any(at(body, place) == name for place in places(body))


_libraries: dict[int, Library] = {}


def library_of(document: Any) -> Library:
    """The types that a document may use."""
    key = id(document)
    if key not in _libraries:
        shipped = catalogue.load("vacuo/types.yaml")
        assert shipped is not None
        library = base_library().with_types(shipped.sections)
        root = Cursor.root(tree_of(document, START), Report(""))
        _libraries[key] = local_types(root, library)
    return _libraries[key]
