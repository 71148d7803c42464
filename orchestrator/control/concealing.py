"""Secret parameters of a template: which are, and a wish that only names them.  Pure.

A parameter is secret by its name, or where its declaration says so (``metadata: {secret: true}``).
Wherever its text stands in what the template was compiled to, a name takes its place, and the text
itself is sealed; it comes back only while a host is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.model import Concat, DeploymentSpec, Join, Secret, Service, Token, Value

SECRET_WORDS = ("password", "passphrase", "passwd", "secret", "token", "private_key", "credential")
# A text as short as this is looked for as a whole only: "no" stands in many others.
LONGEST_WHOLE = 3


@dataclass(frozen=True)
class Concealed:
    """A wish without secrets, and what was taken out of it."""

    spec: DeploymentSpec
    parameters: Mapping[str, Any]
    secrets: Mapping[Secret, str] = field(repr=False)


def says_secret(name: str) -> bool:
    """Whether an input of this name is a secret."""
    return any(word in name.lower() for word in SECRET_WORDS)


def conceal(
    spec: DeploymentSpec, parameters: Mapping[str, Any], mark: Callable[[str, str], str]
) -> Concealed:
    """``spec`` and ``parameters`` with names for secrets.  ``mark`` tells contents of one name
    apart, so that another password is another wish."""
    names = {name for name in parameters if says_secret(name) or name in spec.secret_inputs}
    found: dict[Secret, str] = {}
    for name in sorted(names):
        for where, text in _texts(parameters[name], name):
            found[Secret(where, mark(where, text))] = text
    if not found:
        return Concealed(spec, parameters, {})
    taken = sorted(found.items(), key=lambda one: (-len(one[1]), one[0].name))
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


def _service(service: Service, taken: Sequence[tuple[Secret, str]]) -> Service:
    variables = {name: _without(value, taken) for name, value in service.variables.items()}
    return replace(service, variables=variables)


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text of a parameter, by a name for where it stands."""
    if isinstance(value, str) and value:
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{where}.{number}")


def _without(value: Value, taken: Sequence[tuple[Secret, str]]) -> Value:
    if isinstance(value, str):
        return _text_without(value, taken)
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


def _text_without(text: str, taken: Sequence[tuple[Secret, str]]) -> Value:
    for secret, content in taken:
        if text == content:
            return secret
    for secret, content in taken:
        if len(content) > LONGEST_WHOLE and content in text:
            before, _, after = text.partition(content)
            parts = (_text_without(before, taken), secret, _text_without(after, taken))
            return Concat(tuple(part for part in parts if part != ""))
    return text
