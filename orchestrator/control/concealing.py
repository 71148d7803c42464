"""Secret parameters of a template: which are, and a wish that only names them.  Pure.

A parameter is secret by its name, or where its declaration says so (``metadata: {secret: true}``).
Wherever its content stands in what the template was compiled to, a name takes its place, and the
content itself is sealed; it comes back, with its type, only while a host is configured.  Of lists
and maps each text, number and boolean is sealed; the keys of a map are names and stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.model import Concat, DeploymentSpec, Join, Secret, Service, Token, Value

SECRET_WORDS = ("password", "passphrase", "passwd", "secret", "token", "private_key", "credential")
# A text as short as this is looked for as a whole only: "no" stands in many others.
LONGEST_WHOLE = 3
# No text that is sent has it: what follows is JSON of something else.
_NO_TEXT = "\0"

Scalar = str | int | float | bool


@dataclass(frozen=True)
class Concealed:
    """A wish without secrets, and what was taken out of it."""

    spec: DeploymentSpec
    parameters: Mapping[str, Any]
    secrets: Mapping[Secret, Scalar] = field(repr=False)


def says_secret(name: str) -> bool:
    """Whether an input of this name is a secret."""
    return any(word in name.lower() for word in SECRET_WORDS)


def sealable(content: Scalar) -> str:
    """``content`` as the text that is sealed; :func:`unsealed` gives it back with its type."""
    return content if isinstance(content, str) else _NO_TEXT + json.dumps(content)


def unsealed(text: str) -> Scalar:
    if not text.startswith(_NO_TEXT):
        return text
    content: Scalar = json.loads(text.removeprefix(_NO_TEXT))
    return content


def conceal(
    spec: DeploymentSpec, parameters: Mapping[str, Any], mark: Callable[[str, str], str]
) -> Concealed:
    """``spec`` and ``parameters`` with names for secrets.  ``mark``, of a name and what is sealed,
    tells contents of one name apart, so that another password is another wish."""
    names = {name for name in parameters if says_secret(name) or name in spec.secret_inputs}
    found: dict[Secret, Scalar] = {}
    for name in sorted(names):
        for where, content in _scalars(parameters[name], name):
            found[Secret(where, mark(where, sealable(content)))] = content
    if not found:
        return Concealed(spec, parameters, {})
    taken = sorted(found.items(), key=lambda one: (-len(str(one[1])), one[0].name))
    groups = tuple(
        replace(group, services=tuple(_service(service, taken) for service in group.services))
        for group in spec.groups
    )
    outputs = {name: _without(value, taken) for name, value in spec.outputs.items()}
    kept = {
        name: _without(value, taken) if name in names else value
        for name, value in parameters.items()
    }
    return Concealed(replace(spec, groups=groups, outputs=outputs), kept, found)


def _service(service: Service, taken: Sequence[tuple[Secret, Scalar]]) -> Service:
    variables = {name: _without(value, taken) for name, value in service.variables.items()}
    return replace(service, variables=variables)


def _scalars(value: Any, where: str) -> Iterator[tuple[str, Scalar]]:
    """Every text, number and boolean of a parameter, by a name for where it stands."""
    if isinstance(value, Scalar) and value != "":
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _scalars(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _scalars(inner, f"{where}.{number}")


def _without(value: Value, taken: Sequence[tuple[Secret, Scalar]]) -> Value:
    if isinstance(value, str):
        return _text_without(value, taken)
    if isinstance(value, int | float):
        return next((secret for secret, content in taken if _is_the_same(value, content)), value)
    if isinstance(value, Concat):
        return Concat(tuple(_without(part, taken) for part in value.parts))
    if isinstance(value, Token | Join):
        return replace(value, value=_without(value.value, taken))
    if isinstance(value, Mapping):
        return {key: _without(inner, taken) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner, taken) for inner in value]
    if isinstance(value, tuple):
        return tuple(_without(inner, taken) for inner in value)
    return value


def _is_the_same(value: float, content: Scalar) -> bool:
    """A number is another's equal whatever its type is; a boolean only a boolean's."""
    if isinstance(content, str) or isinstance(value, bool) != isinstance(content, bool):
        return False
    return value == content


def _text_without(text: str, taken: Sequence[tuple[Secret, Scalar]]) -> Value:
    for secret, content in taken:
        if text == content:
            return secret
    for secret, content in taken:
        if isinstance(content, bool):
            continue  # "true" is in many texts, and tells nothing there
        inside = str(content)
        if inside == text or (len(inside) > LONGEST_WHOLE and inside in text):
            before, _, after = text.partition(inside)
            parts = (_text_without(before, taken), secret, _text_without(after, taken))
            return Concat(tuple(part for part in parts if part != ""))
    return text
