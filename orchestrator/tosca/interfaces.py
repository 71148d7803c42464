"""Interfaces of types and templates: are they well formed, and do such operations exist?

Whether anything realises an operation is not asked here: see :mod:`orchestrator.tosca.realise`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.operations import NO_OPERATIONS, is_definition, short_interface
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.read import Table
from orchestrator.tosca.schemas import INPUT_KEYS, schema
from orchestrator.tosca.type_names import known_type

_OPERATION = ("implementation", "inputs", "description", "outputs", "metadata")
_IMPLEMENTATION = ("primary", "dependencies", "operation_host", "timeout", "file", "type",
                   "repository")  # fmt: skip


@dataclass(frozen=True)
class OperationAssignment:
    """An operation as a template writes it.  ``position`` is the operation, ``implementation``
    where its implementation stands, if it has one; ``inputs`` are those of the interface too."""

    position: Cursor
    implementation: Cursor | None = None
    inputs: Mapping[str, Cursor] = field(default_factory=dict)

    @property
    def written(self) -> str | None:
        """The implementation: a role, a URL, a file or the name of an artifact."""
        return str(self.implementation.value) if self.implementation is not None else None


def assignments(
    section: Cursor, of: str, known: Mapping[str, frozenset[str]]
) -> dict[str, OperationAssignment]:
    """The operations of a template's ``interfaces``, by ``Interface.operation``.

    ``known`` are the interfaces of its type, ``of``, with their operations.
    """
    found: dict[str, OperationAssignment] = {}
    for interface in section.table().values():
        name = short_interface(interface.name)
        if name not in known:
            hint = did_you_mean(name, known) or (f"It has {listed(known)}." if known else "")
            interface.problem_at_key(f"{shown(of)} has no interface {shown(name)}.", hint)
            continue
        shared = _shared(interface)
        for operation in _operations(interface):
            word = operation.name
            if word not in known[name]:
                hint = did_you_mean(word, known[name]) or f"It has {listed(sorted(known[name]))}."
                operation.problem_at_key(f"{shown(name)} has no operation {shown(word)}.", hint)
            elif (assignment := _operation(operation, shared)) is not None:
                found[f"{name}.{word}"] = assignment
    return found


def check_definitions(section: Cursor, library: Library) -> None:
    """Checks the ``interfaces`` of a type, which may bring operations of its own."""
    for interface in section.table().values():
        if interface.empty:
            continue
        named = interface.get("type")
        if named is not None:
            known_type(named, "interface_types", library)
        known = library.interfaces("node_types", "tosca.nodes.Root").get(
            short_interface(interface.name)
        )
        shared = _shared(interface, library)
        for operation in _operations(interface):
            if known and operation.name not in known:
                hint = did_you_mean(operation.name, known) or f"It has {listed(sorted(known))}."
                sentence = f"{shown(interface.name)} has no operation {shown(operation.name)}."
                operation.problem_at_key(sentence, hint)
            else:
                _operation(operation, shared, library)


def _operations(interface: Cursor) -> list[Cursor]:
    body = interface.get("operations")
    if body is not None:
        interface.table(NO_OPERATIONS)
        return list(body.table().values())
    return [one for word, one in interface.table().items() if word not in NO_OPERATIONS]


def _shared(interface: Cursor, library: Library | None = None) -> dict[str, Cursor]:
    """The inputs that an interface gives to each of its operations."""
    inputs = interface.get("inputs") if isinstance(interface.tree, Table) else None
    return _inputs(inputs, library) if inputs is not None else {}


def _operation(
    operation: Cursor, shared: Mapping[str, Cursor], library: Library | None = None
) -> OperationAssignment | None:
    before = operation.report.count
    implementation: Cursor | None = operation
    inputs = dict(shared)
    if isinstance(operation.tree, Table):
        keys = operation.table(_OPERATION)
        implementation = keys.get("implementation")
        if "inputs" in keys:
            inputs |= _inputs(keys["inputs"], library)
    implementation = _implementation(implementation)
    if operation.report.count > before:
        return None
    return OperationAssignment(operation, implementation, inputs)


def _inputs(section: Cursor, library: Library | None) -> dict[str, Cursor]:
    """Inputs of an operation: values, or in a type also definitions, with or without a value."""
    found = {}
    for name, one in section.table().items():
        if library is not None and is_definition_of_input(one):
            schema(one, library, INPUT_KEYS)
        found[name] = one
    return found


def is_definition_of_input(cursor: Cursor) -> bool:
    """Whether an input of a type's operation is a definition rather than a value."""
    if not isinstance(cursor.tree, Table) or not cursor.tree.entries.keys() <= set(INPUT_KEYS):
        return False
    valued = cursor.get("default") or cursor.get("value")
    return is_definition(cursor.value) or (cursor.get("type") is not None and valued is not None)


def _implementation(cursor: Cursor | None) -> Cursor | None:
    """Where the primary artifact of an implementation stands."""
    if cursor is None or cursor.empty:
        return None
    if not isinstance(cursor.tree, Table):
        return cursor if cursor.text() is not None else None
    keys = cursor.table(_IMPLEMENTATION)
    for item in keys["dependencies"].items() if "dependencies" in keys else ():
        item.text()
    primary = keys.get("primary") or keys.get("file")
    if primary is None:
        cursor.problem_at_key("The implementation has no `primary`.")
        return None
    if isinstance(primary.tree, Table):
        primary = primary.table(("file", "type", "repository", "description")).get("file")
        if primary is None:
            cursor.problem_at_key("The artifact of the implementation has no `file`.")
            return None
    return primary if primary.text() is not None else None
