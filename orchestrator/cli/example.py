"""The documented example of ``vacuo.yaml``, made from the settings themselves.

Every setting is a line that begins with one ``#``: taking that one character away makes
the file say what it says already.  Lines that begin with ``##`` explain.
"""

from __future__ import annotations

import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from orchestrator.settings import Flavour, Issuer, Pool, Settings, Site

# What stands in the example where a field has no default, or where a default would show nothing.
_EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    Settings: {"sites": [Site], "pools": [Pool], "issuers": [Issuer]},
    Site: {
        "name": "local",
        "provider": "local",
        "flavours": [Flavour],
        "images": {"default": "localhost/vacuo-host:latest"},
    },
    Flavour: {"name": "small", "cores": 2, "memory_mb": 2048, "disk_gb": 20},
    Pool: {"name": "demo", "collector": "10.93.0.2:9618", "trust_domain": "demo"},
    Issuer: {
        "name": "iam",
        "issuer": "https://iam.example.org/",
        "aliases": ["https://iam.example.org"],
        "audiences": ["https://vacuo.example.org"],
    },
}
_WIDTH = 92


def document() -> str:
    """The whole example, ready to be saved as ``vacuo.yaml``."""
    head = [
        "## vacuo.yaml: the configuration of a Vacuo server.",
        "## Found as --config FILE, $VACUO_CONFIG, ./vacuo.yaml or /etc/vacuo/vacuo.yaml.",
        "## A scalar at the top level can also be given as VACUO_<NAME> in the environment.",
        "## A line with one # is a setting, with its default or with an example where it has none:",
        "## take the # away to use it.",
    ]
    return "\n".join([*head, *_section(Settings, "")]) + "\n"


def _section(model: type[BaseModel], indent: str, first: str | None = None) -> Iterator[str]:
    """The fields of ``model``; ``first`` is the indentation of the first line of a list's item."""
    for name, field in model.model_fields.items():
        if not indent:
            yield ""
        for line in textwrap.wrap(_about(field), _WIDTH - len(indent)):
            yield f"## {indent}{line}"
        yield from _setting(model, name, field, indent if first is None else first, indent)
        first = None


def _setting(
    model: type[BaseModel], name: str, field: FieldInfo, lead: str, indent: str
) -> Iterator[str]:
    value = _EXAMPLES.get(model, {}).get(name, _default(field))
    if isinstance(value, list) and value and isinstance(value[0], type):
        yield f"#{lead}{name}:"
        yield from _section(value[0], f"{indent}    ", f"{indent}  - ")
    elif isinstance(value, BaseModel):
        yield f"#{lead}{name}:"
        yield from _section(type(value), f"{indent}  ")
    else:
        yield f"#{lead}{name}: {_scalar(value)}"


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value


def _scalar(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    plain = plain if isinstance(plain, bool | int | float | list | dict | None) else str(plain)
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def _about(field: FieldInfo) -> str:
    choices = _choices(field.annotation)
    about = field.description or ""
    return f"{about} One of: {', '.join(choices)}.".strip() if choices else about


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    if typing.get_origin(annotation) in (tuple, types.UnionType, typing.Union):
        return [word for inner in typing.get_args(annotation) for word in _choices(inner)]
    return []
