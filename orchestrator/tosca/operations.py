"""Operations as a plain ``interfaces`` section has them, in the notations of 1.0 to 1.3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_OPERATIONS = frozenset(
    ("type", "description", "inputs", "notifications", "operations", "metadata", "derived_from",
     "version")
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """An operation of an interface: what implements it, and its inputs beyond the properties.

    ``implementation`` is as written: a role, a URL, a file or the name of an artifact.
    """

    implementation: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    dependencies: tuple[str, ...] = ()


def short_interface(name: str) -> str:
    """``Standard`` for its full name; others keep theirs."""
    short = name.rpartition(".")[2]
    return short if name.startswith(("tosca.interfaces.", "tosca:")) else name


def operations_of(interface: Any) -> frozenset[str]:
    """The names of the operations in an interface or interface type, in either notation."""
    if not isinstance(interface, Mapping):
        return frozenset()
    body = interface.get("operations")
    return frozenset(body if isinstance(body, Mapping) else set(interface) - NO_OPERATIONS)


def operations_in(interfaces: Any) -> dict[str, Operation]:
    """The operations of a plain ``interfaces`` section, by ``Interface.operation``."""
    found: dict[str, Operation] = {}
    for name, interface in (interfaces or {}).items():
        if not isinstance(interface, Mapping):
            continue
        shared = {key: _assigned(value) for key, value in (interface.get("inputs") or {}).items()}
        body = interface.get("operations") or interface
        for word in operations_of(interface):
            found[f"{short_interface(name)}.{word}"] = _operation(body[word], shared)
    return found


def _operation(written: Any, shared: Mapping[str, Any]) -> Operation:
    if isinstance(written, str):
        return Operation(written, shared)
    if not isinstance(written, Mapping):
        return Operation(None, shared)
    inputs = {key: _assigned(value) for key, value in (written.get("inputs") or {}).items()}
    role = written.get("implementation")
    more: tuple[str, ...] = ()
    if isinstance(role, Mapping):
        more = tuple(str(one) for one in role.get("dependencies") or ())
        role = role.get("primary") or role.get("file")
        role = role.get("file") if isinstance(role, Mapping) else role
    return Operation(role, {**shared, **inputs}, more)


def _assigned(value: Any) -> Any:
    """An input of an operation may be given as a value, or as a definition with a default."""
    if isinstance(value, Mapping) and "type" in value and ("default" in value or "value" in value):
        return value.get("value", value.get("default"))
    return None if is_definition(value) else value


def is_definition(value: Any) -> bool:
    """Whether an input of an operation is only declared: it has a type and no value."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("type"), str)
        and not set(value) - {"type", "description", "required", "constraints", "entry_schema",
                              "key_schema", "status", "metadata"}
    )  # fmt: skip
