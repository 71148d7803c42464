"""What passes between the sandbox and its parent: framed JSON, and exactly our own dataclasses.

A process that has read a stranger's template is not trusted, so nothing is unpickled.  Mappings
are mappings; lists, tuples and dataclasses are lists that begin with what they are.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any

from orchestrator import model
from orchestrator.tosca.problems import Problem
from orchestrator.tosca.summary import InputSummary, TemplateCheck, TemplateSummary

_CLASSES: dict[str, type[Any]] = {
    one.__name__: one
    for one in (
        model.DeploymentSpec,
        model.NodeGroup,
        model.Requirements,
        model.Service,
        model.VacuumPolicy,
        model.Attribute,
        model.Concat,
        model.Token,
        model.Join,
        TemplateSummary,
        TemplateCheck,
        InputSummary,
        Problem,
    )
}
HEADER = struct.Struct(">I")
ANSWER_BYTES = 64_000_000


class Malformed(ValueError):
    """What arrived is not what :func:`encode` makes."""


def frame(message: Any) -> bytes:
    body = json.dumps(message).encode()
    return HEADER.pack(len(body)) + body


def encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return ["object", type(value).__name__, fields]
    if isinstance(value, dict):
        return {str(key): encode(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        what = "list" if isinstance(value, list) else "tuple"
        return [what, *(encode(inner) for inner in value)]
    return value


def decode(value: Any) -> Any:
    """The value again; raises :class:`Malformed`."""
    if isinstance(value, dict):
        return {key: decode(inner) for key, inner in value.items()}
    if not isinstance(value, list):
        return value
    what, *rest = value or [None]
    if what == "list":
        return [decode(inner) for inner in rest]
    if what == "tuple":
        return tuple(decode(inner) for inner in rest)
    if what == "object" and len(rest) == 2 and rest[0] in _CLASSES and isinstance(rest[1], dict):
        try:
            return _CLASSES[rest[0]](**decode(rest[1]))
        except TypeError:
            raise Malformed(f"no {rest[0]}") from None
    raise Malformed("neither a list nor an object")
