"""Groups of hosts from a sound topology: sizes, services in order, policies, who uses whom."""

from __future__ import annotations

import math
import re
from typing import Any

import classad2

from orchestrator.model import (
    GroupName,
    NodeGroup,
    PoolName,
    Service,
    SiteName,
    VacuumPolicy,
    Value,
)
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import PLACEMENT, POOL_MEMBER, SERVICE, VACUUM
from orchestrator.tosca.functions import Evaluator
from orchestrator.tosca.hosts import HostReader
from orchestrator.tosca.problems import shown
from orchestrator.tosca.requirements import find_cycle
from orchestrator.tosca.topology import NodeTemplate, Policy, Topology
from orchestrator.tosca.units import amount
from orchestrator.tosca.values import INVALID, is_late
from orchestrator.tosca.variables import attributes_in, variables

# What the role htcondor_execute makes of properties; which jobs a machine takes follows from it.
_SAID_OF = {
    "owners": "VacuoOwners",
    "cms_site": "GLIDEIN_CMSSite",
    "supported_vos": "GLIDEIN_Supported_VOs",
}
_CLASSAD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class GroupMaker:
    """Makes the groups of one topology; problems go into the report of its cursors."""

    def __init__(self, topology: Topology, evaluator: Evaluator) -> None:
        self._topology = topology
        self._library = topology.library
        self._evaluator = evaluator
        self._hosts = HostReader(evaluator)
        self._machines = {
            name: machine.name
            for name in topology.templates
            if (machine := topology.machine_of(name)) is not None
        }

    def groups(self) -> tuple[NodeGroup, ...]:
        hosts = [t for t in self._topology.templates.values() if self._library.is_host(t.type)]
        made = tuple(self._group(host) for host in hosts)
        cycle = find_cycle({str(group.name): [str(u) for u in group.uses] for group in made})
        if cycle:
            position = self._topology.templates[cycle[0]].position
            sentence = f"Hosts wait for one another's addresses: {' → '.join(cycle)}."
            position.problem_at_key(sentence, "Let one of them not use the other.")
        self._unused_policies()
        return made

    def _group(self, host: NodeTemplate) -> NodeGroup:
        members = [
            template
            for name, template in self._topology.templates.items()
            if self._machines.get(name) == host.name
            and self._library.derives("node_types", template.type, SERVICE)
        ]
        made = {m.name: variables(m, self._topology, self._evaluator) for m in members}
        ordered = self._in_order(members, made)
        return NodeGroup(
            name=GroupName(host.name),
            requirements=self._hosts.requirements(host),
            services=tuple(Service(m.name, m.type, self._role(m), made[m.name]) for m in ordered),
            count=self._hosts.count(host),
            vacuum=self._vacuum(host),
            pool=self._pool(members),
            uses=self._uses(host, members, made),
            site=self._site(host),
            advertised=self._advertised(members),
            removal_list=self._hosts.removal_list(host),
            start=self._start(members),
        )

    def _role(self, template: NodeTemplate) -> str:
        role = template.implementation or self._library.configure(template.type).implementation
        return str(role)

    def _in_order(
        self, members: list[NodeTemplate], made: dict[str, dict[str, Value]]
    ) -> list[NodeTemplate]:
        """What others stand on or use comes before them; else the order of the document."""
        needs = {}
        for member in members:
            referred = {a.template for a in attributes_in(made[member.name])}
            targets = {requirement.target for requirement in member.requirements}
            needs[member.name] = (referred | targets) & set(made) - {member.name}
        waiting, ordered = list(members), list[NodeTemplate]()
        while waiting:
            done = {member.name for member in ordered}
            ready = next((m for m in waiting if needs[m.name] <= done), None)
            if ready is None:
                waiting[0].position.problem_at_key("Services on this host wait for one another.")
                return members
            waiting.remove(ready)
            ordered.append(ready)
        return ordered

    def _uses(
        self, host: NodeTemplate, members: list[NodeTemplate], made: dict[str, dict[str, Value]]
    ) -> tuple[GroupName, ...]:
        targets = [r.target for member in (host, *members) for r in member.requirements]
        targets += [a.template for values in made.values() for a in attributes_in(values)]
        found = dict.fromkeys(self._machines.get(target, target) for target in targets)
        return tuple(GroupName(name) for name in found if name != host.name)

    # --- policies ----------------------------------------------------------------------------

    def _policy(self, host: NodeTemplate, base: str) -> Policy | None:
        """The policy of a kind that targets the host, or a service on it."""
        found = [
            policy
            for policy in self._topology.policies
            if self._library.derives("policy_types", policy.type, base)
            and (
                self._is_for_all(policy)
                or any(self._machines.get(target) == host.name for target in policy.targets)
            )
        ]
        if len(found) > 1:
            names = " and ".join(shown(policy.name) for policy in found)
            found[1].position.problem_at_key(f"{names} both target {shown(host.name)}.")
        return found[0] if found else None

    def _is_for_all(self, policy: Policy) -> bool:
        """A placement that names no targets is meant for all hosts."""
        return policy.position.get("targets") is None and self._library.derives(
            "policy_types", policy.type, PLACEMENT
        )

    def _of_policy(self, policy: Policy, name: str) -> Value:
        value = self._evaluator.policy_value(policy, name)
        if is_late(value):
            cursor = policy.properties[name]
            cursor.problem(f"{shown(name)} must be known before there is a host.")
            return None
        return None if value is INVALID else value

    def _is_known(self, policy: Policy, *names: str) -> bool:
        return all(self._evaluator.policy_value(policy, name) is not INVALID for name in names)

    def _vacuum(self, host: NodeTemplate) -> VacuumPolicy | None:
        policy = self._policy(host, VACUUM)
        if policy is None:
            return None
        minimum, maximum = self._of_policy(policy, "minimum"), self._of_policy(policy, "maximum")
        if minimum is None:
            minimum = self._hosts.instances(host, "min_instances") or 0
        if maximum is None:
            most = self._hosts.instances(host, "max_instances")
            maximum = most if most is not None else max(1, minimum)
        if minimum > maximum and self._is_known(policy, "minimum", "maximum"):
            at = policy.properties.get("minimum") or policy.position
            at.problem(
                f"The minimum of {shown(policy.name)}, {minimum}, is above its maximum, {maximum}."
            )
        return VacuumPolicy(
            minimum=minimum,
            maximum=maximum,
            idle_seconds=_seconds(self._of_policy(policy, "idle_time")),
            lifetime_seconds=_seconds(self._of_policy(policy, "lifetime")),
        )

    def _site(self, host: NodeTemplate) -> SiteName | None:
        policy = self._policy(host, PLACEMENT)
        if policy is None:
            return None
        known = self._library.properties("policy_types", policy.type)
        names = [name for name in ("site", "cloud_id") if name in known]
        values = (self._of_policy(policy, name) for name in names)
        site = next((SiteName(str(value)) for value in values if value), None)
        if site is None and policy.properties and self._is_known(policy, *names):
            words = ", ".join(shown(name) for name in policy.properties)
            policy.position.note(f"{shown(policy.name)} chooses no site here: {words}.")
        return site

    def _unused_policies(self) -> None:
        for policy in self._topology.policies:
            where = policy.position.get("targets") or policy.position
            known = any(
                self._library.derives("policy_types", policy.type, base)
                for base in (VACUUM, PLACEMENT)
            )
            if not known:
                where = policy.position.get("type") or policy.position
                where.problem(f"Vacuo does not follow policies of type {shown(policy.type)}.")
            elif not policy.targets and not self._is_for_all(policy):
                where.problem_at_key(f"The policy {shown(policy.name)} has no targets.")

    # --- pool --------------------------------------------------------------------------------

    def _pool(self, members: list[NodeTemplate]) -> PoolName | None:
        joining = [m for m in members if self._joins(m)]
        if len(joining) > 1:
            sentence = f"{shown(joining[0].name)} and {shown(joining[1].name)} join pools from one"
            joining[1].position.problem_at_key(f"{sentence} host; only one service of a host may.")
        if not joining:
            return None
        name = self._evaluator.property_value(joining[0], "pool")
        if is_late(name):
            at = joining[0].properties.get("pool") or joining[0].position
            at.problem("The name of the pool must be known before there is a host.")
            return None
        return PoolName(name) if isinstance(name, str) else None

    def _start(self, members: list[NodeTemplate]) -> str:
        """Which jobs may start on a machine, as far as that is known before there is one."""
        joining = next((member for member in members if self._joins(member)), None)
        if joining is None or "start" not in joining.properties:
            return ""
        value = self._evaluator.property_value(joining, "start")
        if is_late(value):
            return ""
        try:
            classad2.ExprTree(str(value))
        except classad2.ClassAdException:
            joining.properties["start"].problem(f"{shown(value)} is not a ClassAd expression.")
        return str(value)

    def _joins(self, member: NodeTemplate) -> bool:
        return self._library.derives("node_types", member.type, POOL_MEMBER)

    def _advertised(self, members: list[NodeTemplate]) -> dict[str, str | int | float | bool]:
        """What the machines will say of themselves and is known already."""
        found = self._said_of_properties(members)
        for member in members:
            if not self._joins(member):
                continue
            values: Any = self._evaluator.property_value(member, "attributes")
            at: Cursor = member.properties.get("attributes") or member.position
            for name, value in values.items() if isinstance(values, dict) else ():
                if not _CLASSAD_NAME.fullmatch(name):
                    at.problem(f"{shown(name)} cannot be the name of a ClassAd attribute.")
                elif isinstance(value, str | int | float):
                    found[name] = value
                elif not is_late(value):
                    at.problem(f"{shown(name)} must be text, a number or a boolean.")
        return found

    def _said_of_properties(
        self, members: list[NodeTemplate]
    ) -> dict[str, str | int | float | bool]:
        found: dict[str, str | int | float | bool] = {}
        for member in members:
            known = self._library.properties("node_types", member.type)
            for name in _SAID_OF.keys() & known if self._joins(member) else ():
                value: Any = self._evaluator.property_value(member, name)
                words = value if isinstance(value, list) else [value]
                if value and all(isinstance(word, str) for word in words):
                    found[_SAID_OF[name]] = ",".join(words)
        return found


def _seconds(time: Value) -> int:
    return math.ceil(amount("scalar-unit.time", str(time))) if time else 0
