"""What a template asks for: the compiled wish, with nothing of TOSCA left but late values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.model.identifiers import GroupName, PoolName, SiteName


@dataclass(frozen=True)
class Attribute:
    """``get_attribute``: the attribute of a node template, known once its machines are.

    ``path`` is what follows the template's name; ``[requirement, …, attribute]`` is already
    resolved to the template that the requirement leads to, so the first word is the attribute.
    """

    template: str
    path: tuple[str, ...]
    kind: Literal["attribute"] = "attribute"


@dataclass(frozen=True)
class Concat:
    """``concat`` of values, at least one of which is late."""

    parts: tuple[Any, ...]
    kind: Literal["concat"] = "concat"


@dataclass(frozen=True)
class Token:
    """``token``: the ``index``-th part of a late value cut at ``separator``."""

    value: Any
    separator: str
    index: int
    kind: Literal["token"] = "token"


@dataclass(frozen=True)
class Join:
    """``join``: the items of ``value``, a late list or one with late items, with ``delimiter``
    between them."""

    value: Any
    delimiter: str
    kind: Literal["join"] = "join"


@dataclass(frozen=True)
class Secret:
    """A secret parameter of the deployment, by name; its content is sealed elsewhere.  ``mark``
    tells one content from another and nothing of either."""

    name: str
    mark: str
    kind: Literal["secret"] = "secret"


# Plain JSON values (str, int, float, bool, None, list, dict), with late values anywhere inside.
Value = Any


@dataclass(frozen=True)
class Requirements:
    """What one host must have."""

    cores: int = 1
    memory_mb: int = 1024
    disk_gb: int = 10
    image: str = ""  # a name from the site's images; empty is the site's default
    architecture: str = "x86_64"


@dataclass(frozen=True)
class UserData:
    """What a host is given at its creation: ssh keys that may log in as root, and files.

    ``files`` maps absolute paths to (mode, content); contents may be secret and never appear in a
    representation or a log.
    """

    authorized_keys: tuple[str, ...] = ()
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class VacuumPolicy:
    """``vacuo.policies.Vacuum``: how many machines there may be, and when they leave."""

    minimum: int = 0
    maximum: int = 1
    idle_seconds: int = 300
    lifetime_seconds: int = 86400


@dataclass(frozen=True)
class Service:
    """A software component on a host: the node template, its type, and the role that makes it."""

    template: str
    type: str
    role: str  # fully qualified, e.g. vacuo.site.squid
    variables: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeGroup:
    """Hosts that are alike: one Compute template with its services, in the order to set them up.

    ``count`` is the wanted number where no vacuum policy applies.  ``pool`` is the HTCondor pool
    that the hosts join, or None for hosts that only serve others.  ``uses`` names the groups whose
    addresses this one needs; a group under a vacuum policy without a pool lives as long as a
    group that uses it has nodes.  ``advertised`` is what its machines will say of themselves
    (ClassAd attributes), and ``start`` the ClassAd expression that a job must satisfy to start on
    one (empty: any does), so that demand can be matched before there is a machine.
    ``removal_list`` names the hosts, by name or id, that leave first when there are too many.
    """

    name: GroupName
    requirements: Requirements
    services: tuple[Service, ...] = ()
    count: int = 1
    vacuum: VacuumPolicy | None = None
    pool: PoolName | None = None
    uses: tuple[GroupName, ...] = ()
    site: SiteName | None = None
    advertised: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    start: str = ""
    removal_list: tuple[str, ...] = ()

    @property
    def minimum(self) -> int:
        return self.vacuum.minimum if self.vacuum else self.count

    @property
    def maximum(self) -> int:
        return self.vacuum.maximum if self.vacuum else self.count


@dataclass(frozen=True)
class DeploymentSpec:
    """A compiled template: nothing of TOSCA is left in it but names and late values.

    ``notes`` are sentences about what the template asks and Vacuo leaves to others or out;
    ``secret_inputs`` names the inputs that the template itself says to be secret.
    """

    description: str
    groups: tuple[NodeGroup, ...]
    outputs: Mapping[str, Value] = field(default_factory=dict)
    imports: tuple[tuple[str, str], ...] = ()  # (what was imported, sha256 of its content)
    notes: tuple[str, ...] = ()
    secret_inputs: tuple[str, ...] = ()

    def group(self, name: str) -> NodeGroup:
        return next(group for group in self.groups if group.name == name)

    def group_of_template(self, template: str) -> NodeGroup | None:
        """The group whose Compute or one of whose services is the node template ``template``."""
        for group in self.groups:
            if group.name == template or any(s.template == template for s in group.services):
                return group
        return None
