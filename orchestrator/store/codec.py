"""Words of the model to JSON text and back, exactly.

The shape comes from the type hints of the dataclasses, so a field that is added with a default
needs nothing here: old rows get the default.  A field that the model no longer has is dropped.
Inside plain values (hint ``Any``) whatever JSON has no form for is an object with one key that
starts with ``$``: late values, tuples, infinite numbers, and mappings that would be mistaken for
one of these.  Text is pure ASCII, so any database takes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

from orchestrator.model import (
    Action,
    Attribute,
    Concat,
    ConfigureNodes,
    CreateInstance,
    DeleteInstance,
    DrainNode,
    Join,
    RenewCredential,
    Reschedule,
    RevokeCredentials,
    Secret,
    Token,
)

ACTIONS: dict[str, type[Action]] = {
    kind.__name__: kind
    for kind in (
        CreateInstance,
        ConfigureNodes,
        RenewCredential,
        Reschedule,
        DrainNode,
        DeleteInstance,
        RevokeCredentials,
    )
}

_Plain = Any  # what json.dumps takes
_SCALARS = (str, int, float, bool)


def to_json(value: object, hint: Any) -> str:
    """``value``, which is of type ``hint``, as text.  ``TypeError`` for what cannot be stored."""
    return json.dumps(_codec(hint).encode(value), allow_nan=False, separators=(",", ":"))


def from_json(text: str, hint: Any) -> Any:
    """What :func:`to_json` was given."""
    return _codec(hint).decode(json.loads(text))


def action_from_json(kind: str, text: str) -> Action:
    """The action of class name ``kind``."""
    action: Action = from_json(text, ACTIONS[kind])
    return action


@dataclass(frozen=True)
class _Codec:
    encode: Callable[[Any], _Plain]
    decode: Callable[[_Plain], Any]


@cache
def _codec(hint: Any) -> _Codec:
    if hint is Any:
        return _Codec(_encode_value, _decode_value)
    if isinstance(hint, NewType):
        return _codec(hint.__supertype__)
    if is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _Codec(lambda member: member.value, hint)
    if hint in _SCALARS or get_origin(hint) is Literal:
        return _Codec(_encode_value, _decode_value)
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _union(get_args(hint))
    if origin is tuple:
        return _tuple(get_args(hint))
    if origin in (Mapping, dict) and get_args(hint)[0] is str:
        return _mapping(_codec(get_args(hint)[1]))
    raise TypeError(f"no JSON form is known for {hint}")


def _dataclass(kind: type[Any]) -> _Codec:
    hints = get_type_hints(kind)
    # A field whose type is one literal says the same in every instance.
    stored = [f for f in fields(kind) if get_origin(hints[f.name]) is not Literal]
    codecs = {f.name: _codec(hints[f.name]) for f in stored}
    needed = {f.name for f in stored if f.default is MISSING and f.default_factory is MISSING}

    def encode(value: Any) -> _Plain:
        return {name: codec.encode(getattr(value, name)) for name, codec in codecs.items()}

    def decode(data: _Plain) -> Any:
        if missing := needed - data.keys():
            raise ValueError(f"a stored {kind.__name__} lacks {', '.join(sorted(missing))}")
        known = codecs.keys() & data.keys()
        return kind(**{name: codecs[name].decode(data[name]) for name in known})

    return _Codec(encode, decode)


def _union(members: tuple[Any, ...]) -> _Codec:
    others = tuple(member for member in members if member is not NoneType)
    if all(member in _SCALARS for member in others):
        return _Codec(_encode_value, _decode_value)
    if len(others) > 1:
        raise TypeError(f"a union of {others} cannot be told apart in JSON")
    inner = _codec(others[0])
    return _Codec(
        lambda value: None if value is None else inner.encode(value),
        lambda data: None if data is None else inner.decode(data),
    )


def _tuple(members: tuple[Any, ...]) -> _Codec:
    if len(members) == 2 and members[1] is Ellipsis:
        each = _codec(members[0])
        return _Codec(
            lambda value: [each.encode(item) for item in value],
            lambda data: tuple(each.decode(item) for item in data),
        )
    codecs = [_codec(member) for member in members]
    return _Codec(
        lambda value: [c.encode(item) for c, item in zip(codecs, value, strict=True)],
        lambda data: tuple(c.decode(item) for c, item in zip(codecs, data, strict=True)),
    )


def _mapping(inner: _Codec) -> _Codec:
    return _Codec(
        lambda value: {key: inner.encode(item) for key, item in value.items()},
        lambda data: {key: inner.decode(item) for key, item in data.items()},
    )


def _encode_value(value: Any) -> _Plain:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, list):
        return [_encode_value(item) for item in value]
    if isinstance(value, Mapping):
        return _encode_mapping(value)
    if isinstance(value, tuple):
        return {"$tuple": [_encode_value(item) for item in value]}
    if isinstance(value, Attribute):
        return {"$attribute": [value.template, list(value.path)]}
    if isinstance(value, Concat):
        return {"$concat": [_encode_value(part) for part in value.parts]}
    if isinstance(value, Token):
        return {"$token": [_encode_value(value.value), value.separator, value.index]}
    if isinstance(value, Join):
        return {"$join": [_encode_value(value.value), value.delimiter]}
    if isinstance(value, Secret):
        return {"$secret": [value.name, value.mark]}
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")


def _encode_mapping(value: Mapping[Any, Any]) -> _Plain:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encode_value(item) for key, item in value.items()}
    return {"$map": [[_encode_value(key), _encode_value(item)] for key, item in value.items()]}


_TAGS: dict[str, Callable[[_Plain], Any]] = {
    "$float": float,
    "$tuple": lambda data: tuple(_decode_value(item) for item in data),
    "$attribute": lambda data: Attribute(data[0], tuple(data[1])),
    "$concat": lambda data: Concat(tuple(_decode_value(part) for part in data)),
    "$token": lambda data: Token(_decode_value(data[0]), data[1], data[2]),
    "$join": lambda data: Join(_decode_value(data[0]), data[1]),
    "$secret": lambda data: Secret(data[0], data[1]),
    "$map": lambda data: {_decode_value(key): _decode_value(item) for key, item in data},
}


def _decode_value(data: _Plain) -> Any:
    if isinstance(data, list):
        return [_decode_value(item) for item in data]
    if isinstance(data, dict):
        if len(data) == 1:
            (key,) = data
            if key in _TAGS:
                return _TAGS[key](data[key])
        return {key: _decode_value(item) for key, item in data.items()}
    return data
