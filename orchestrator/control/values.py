"""Late values: what ``get_attribute`` means once machines exist.  Pure.

Attributes of a host, and of every service on it: ``private_address``, ``public_address``,
``node_name``, ``deployment``, ``site``, ``group``, ``cores``, ``memory_mb``; and, for a host and
its services alone, ``other_addresses``: those of the other hosts of its group.  Of a service that
joins a pool also ``idle_time`` and ``lifetime`` (seconds; 0 is none) and what it needs to
join it: ``collector``, ``trust_domain``, ``join_credential``, ``administrator`` and
``administrator_key`` (who may drain it, and the key by which it knows them).  Of a pool that the
deployment makes itself, for hosts of the same template alone: ``signing_key``, and
``worker_credential``, which is another for every host that asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.control.lifecycle import LIVE
from orchestrator.errors import VacuoError
from orchestrator.model import (
    Attribute,
    Concat,
    DeploymentSpec,
    Join,
    Node,
    NodeGroup,
    NodeState,
    Secret,
    Token,
    Value,
)

WORKER_CREDENTIAL = "worker_credential"
POOL_SECRETS = frozenset({"signing_key", WORKER_CREDENTIAL})
SECRET_ATTRIBUTES = frozenset({"join_credential", "administrator_key"}) | POOL_SECRETS


class Unresolved(VacuoError):
    """A late value is not known yet; the message names it."""


@dataclass(frozen=True)
class Scope:
    """What values are resolved against: the deployment's nodes and, where a host is being
    configured, that host itself with ``own`` attributes that only it may see, and what it is
    ``granted`` of the pools of its deployment, by node template and attribute."""

    spec: DeploymentSpec
    nodes: Sequence[Node]
    node: Node | None = None
    own: Mapping[str, Any] = field(default_factory=dict, repr=False)
    granted: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)
    secrets: Mapping[Secret, Any] = field(default_factory=dict, repr=False)  # opened parameters

    def attribute(self, reference: Attribute) -> Any:
        given = self.granted.get((reference.template, ".".join(reference.path)))
        if given is not None:
            return given
        group = self.spec.group_of_template(reference.template)
        if group is None:
            raise Unresolved(f"{reference.template}.{'.'.join(reference.path)}")
        if self.node is not None and group.name == self.node.group:
            others = addresses_beside(self.node, self.nodes)
            own = {**host_attributes(self.node), "other_addresses": others, **self.own}
            return self._pick(reference, own)
        nodes = serving(node for node in self.nodes if node.group == group.name)
        name, *rest = reference.path
        if rest and rest[0].isdigit():  # one of the hosts, where each has one value
            values: Any = [self._pick(reference, host_attributes(n), [name]) for n in nodes]
            return self._pick(reference, values, rest)
        values = [self._pick(reference, host_attributes(node)) for node in nodes]
        if not values:
            raise Unresolved(f"{reference.template}.{'.'.join(reference.path)}")
        return values[0] if _is_single(group) else values

    def secret(self, reference: Secret) -> Any:
        if reference not in self.secrets:
            raise Unresolved(f"the secret parameter {reference.name}")
        return self.secrets[reference]

    @staticmethod
    def _pick(reference: Attribute, value: Any, path: Sequence[str] | None = None) -> Any:
        for word in reference.path if path is None else path:
            if isinstance(value, Mapping) and word in value:
                value = value[word]
            elif isinstance(value, list) and word.isdigit() and int(word) < len(value):
                value = value[int(word)]
            elif word == "0" and isinstance(value, str | int):
                pass  # the first of one
            else:
                raise Unresolved(f"{reference.template}.{'.'.join(reference.path)}")
        return value


def _is_single(group: NodeGroup) -> bool:
    return group.maximum <= 1


def serving(nodes: Iterable[Node]) -> list[Node]:
    """Of the nodes of one group those that others should use: the living that have an address,
    without the ones that are being replaced once another is in service."""
    living = [node for node in nodes if node.state in LIVE and node.address]
    lasting = [node for node in living if not node.outdated]
    return lasting if any(node.state is NodeState.JOINED for node in lasting) else living


def addresses_beside(node: Node | None, nodes: Iterable[Node], group: str = "") -> list[str]:
    """The addresses of the hosts of ``group``, or of the group of ``node``, without ``node``'s."""
    name = node.group if node else group
    beside = serving(n for n in nodes if n.group == name)
    return sorted(n.address for n in beside if n.address and (not node or n.name != node.name))


def policy_attributes(group: NodeGroup) -> dict[str, int]:
    """How long a host of the group may idle and live, in seconds; 0 is without an end."""
    # A group with a promised floor must not lose it to idleness.
    elastic = group.vacuum is not None and group.minimum == 0
    return {
        "idle_time": group.vacuum.idle_seconds if elastic and group.vacuum else 0,
        "lifetime": group.vacuum.lifetime_seconds if group.vacuum else 0,
    }


def host_attributes(node: Node) -> dict[str, Any]:
    """What a host says of itself to anybody in its deployment."""
    return {
        "private_address": node.address,
        "public_address": node.address,
        "node_name": str(node.name),
        "deployment": str(node.deployment),
        "site": str(node.site),
        "group": str(node.group),
        "cores": node.cores,
        "memory_mb": node.memory_mb,
    }


def resolve(value: Value, scope: Scope) -> Any:
    """``value`` with every late value in it replaced; raises :class:`Unresolved`."""
    if isinstance(value, Attribute):
        return scope.attribute(value)
    if isinstance(value, Secret):
        return scope.secret(value)
    if isinstance(value, Concat):
        return "".join(str(resolve(part, scope)) for part in value.parts)
    if isinstance(value, Token):
        parts = str(resolve(value.value, scope)).split(value.separator)
        if value.index >= len(parts):
            raise Unresolved(f"token {value.index} of {len(parts)}")
        return parts[value.index]
    if isinstance(value, Join):
        items = resolve(value.value, scope)
        texts = items if isinstance(items, list) else [items]
        return value.delimiter.join(str(text) for text in texts)
    if isinstance(value, Mapping):
        return {key: resolve(inner, scope) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(inner, scope) for inner in value]
    return value


def is_secret(value: Value) -> bool:
    """Whether a value contains an attribute that must never be shown."""
    return any(
        isinstance(found, Secret) or bool(SECRET_ATTRIBUTES.intersection(found.path))
        for found in _references_in(value)
    )


def attributes_in(value: Value) -> Iterator[Attribute]:
    """Every attribute that ``value`` refers to, however deep."""
    return (found for found in _references_in(value) if isinstance(found, Attribute))


def secrets_in(value: Value) -> Iterator[Secret]:
    """Every secret parameter that is in ``value``, however deep."""
    return (found for found in _references_in(value) if isinstance(found, Secret))


def _references_in(value: Value) -> Iterator[Attribute | Secret]:
    if isinstance(value, Attribute | Secret):
        yield value
        return
    inner: Iterable[Value] = ()
    if isinstance(value, Concat):
        inner = value.parts
    elif isinstance(value, Token | Join):
        inner = (value.value,)
    elif isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    for one in inner:
        yield from _references_in(one)


def outputs(spec: DeploymentSpec, nodes: Sequence[Node]) -> dict[str, Any]:
    """The template's outputs; one that is not known now is None."""
    known: dict[str, Any] = {}
    for name, value in spec.outputs.items():
        try:
            known[name] = None if is_secret(value) else resolve(value, Scope(spec, nodes))
        except Unresolved:
            known[name] = None
    return known
