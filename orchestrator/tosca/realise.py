"""What realises each node template: our own types by their roles, foreign ones through adapters.

A foreign node template stays in the topology, so that functions can speak of it, and the services
that realise it stand beside it.  Every template that nothing realises is reported, all at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.tosca import catalogue
from orchestrator.tosca.adapters import Adapters, Entry, How, Part
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import RequirementDefinition
from orchestrator.tosca.definitions import COMPUTE, SERVICE, VACUUM
from orchestrator.tosca.functions import Evaluator
from orchestrator.tosca.means import Pins
from orchestrator.tosca.playbooks import ROLE, TYPES, playbook_service, sources
from orchestrator.tosca.problems import Mark, Problem, listed, shown
from orchestrator.tosca.read import tree_of
from orchestrator.tosca.topology import NodeTemplate, Policy, Requirement, Topology
from orchestrator.tosca.values import INVALID

_OURS = "vacuo/types.yaml"
_LIMITS = {"minimum": "min_instances", "maximum": "max_instances"}


@dataclasses.dataclass(frozen=True)
class Realised:
    """A topology whose services are all ours, and what became of the others."""

    topology: Topology
    notes: tuple[Problem, ...] = ()


def realise(topology: Topology, adapters: Adapters, pins: Pins) -> Realised:
    """The topology with a service for everything foreign; reports what nothing realises."""
    return _Realiser(topology, adapters, pins).realised()


class _Realiser:
    def __init__(self, topology: Topology, adapters: Adapters, pins: Pins) -> None:
        self._before = topology
        self._adapters = adapters
        self._pins = pins
        self._library = topology.library
        self._templates = dict(topology.templates)
        self._policies = list(topology.policies)
        self._notes: list[Problem] = []
        self._made: dict[str, list[tuple[NodeTemplate, Part]]] = {}

    def realised(self) -> Realised:
        foreign = {
            name: template
            for name, template in self._before.templates.items()
            if not self._is_ours(template)
        }
        if not foreign:
            return Realised(self._before, tuple(self._notes))
        shelf = catalogue.load(_OURS)
        assert shelf is not None
        self._library = self._before.library.with_types(shelf.sections).with_types(TYPES)
        entries = {n: self._adapters.entry(t.type, self._library) for n, t in foreign.items()}
        for name, template in foreign.items():
            entry = entries[name]
            if entry is not None and entry.how is How.SERVICES:
                self._expand(template, entry)
            elif sources(template, self._library) and self._pinned(template):
                self._add_playbooks(template)
        for name, template in foreign.items():
            if name not in self._made:
                self._not_made(template, entries[name])
        self._connect()
        topology = dataclasses.replace(
            self._before,
            library=self._library,
            templates=self._templates,
            policies=tuple(self._policies),
        )
        self._check_required(topology)
        return Realised(topology, tuple(self._notes))

    # --- what is ours ------------------------------------------------------------------------

    def _is_ours(self, template: NodeTemplate) -> bool:
        if self._library.is_host(template.type):
            self._host(template)
            return True
        if not self._library.derives("node_types", template.type, SERVICE):
            return False
        realised = template.implementation or self._library.configure(template.type).implementation
        if not realised:
            at = template.position.get("type") or template.position
            at.problem(
                f"{shown(template.type)} names no role that realises it.", "Use a type below it."
            )
        elif realised == ROLE:
            at = template.position.get("type") or template.position
            at.problem(
                f"The role {shown(ROLE)} is for playbooks that an administrator has pinned.",
                "docs/user/indigo.md says how a template names them.",
            )
        return True

    def _host(self, template: NodeTemplate) -> None:
        entry = self._adapters.entry(template.type, self._library)
        if entry is None:
            return
        for name, why in entry.refused_if.items():
            written = template.properties.get(name)
            if written is not None and written.value not in (None, "", [], {}):
                written.problem_at_key(
                    f"{shown(template.name)} cannot be made with {shown(name)}.", why
                )
        if entry.how is How.HOST:
            self._note(template, entry.sentence)

    # --- what is not made --------------------------------------------------------------------

    def _not_made(self, template: NodeTemplate, entry: Entry | None) -> None:
        if entry is not None and entry.how is How.LEFT_OUT:
            self._note(template, entry.sentence)
            self._scale(template, entry)
        elif entry is not None and entry.how is How.CARRIER and self._carries(template):
            self._note(template, entry.sentence)
            self._doubt_outputs(template)
        else:
            self._refuse(template, entry)

    def _carries(self, template: NodeTemplate) -> bool:
        """Whether something that is made stands on it."""
        return any(
            template.name in [below.name for below in self._before.hosts_of(name)]
            for name in self._made
        )

    def _refuse(self, template: NodeTemplate, entry: Entry | None) -> None:
        at = template.position.get("type") or template.position
        sentence = f"{shown(template.name)} has the type {shown(template.type)}, which no role here"
        hint = ""
        if entry is not None and entry.how is How.CARRIER:
            hint = f"{entry.sentence} Nothing that Vacuo sets up stands on {shown(template.name)}."
        elif entry is not None:
            hint = entry.sentence
        if wanted := [one for one in sources(template, self._library) if one not in self._pins]:
            offer = "Its own playbooks run once an administrator has pinned them; not pinned here: "
            hint = f"{hint} {offer}{listed(wanted, 4)}.".lstrip()
        at.problem(f"{sentence} realises.", hint or self._what_is_made())

    @staticmethod
    def _what_is_made() -> str:
        return (
            f"Vacuo makes {COMPUTE}, what derives from {SERVICE}, and what docs/user/indigo.md "
            "lists."
        )

    def _note(self, template: NodeTemplate, sentence: str) -> None:
        if sentence:
            told = f"{template.name} ({template.type}): {sentence}"
            self._notes.append(template.position.remark(told))

    def _doubt_outputs(self, template: NodeTemplate) -> None:
        """An output with the address of a host where something is not may promise what is not."""
        machine = self._before.machine_of(template.name)
        for name, cursor in self._before.outputs.items():
            if machine is not None and _names(cursor.value, {machine.name, template.name}):
                told = (
                    f"output {name}: it speaks of {machine.name}, where {template.name} is not "
                    "set up; nothing answers there for it."
                )
                self._notes.append(cursor.remark(told))

    def _scale(self, template: NodeTemplate, entry: Entry) -> None:
        """The limits that something elastic sets become those of its hosts."""
        for requirement, capability in entry.scales.items():
            for target in template.targets(requirement):
                machine = self._before.machine_of(target)
                given = self._before.templates[target].capabilities.get(capability, {})
                if machine is None or not given:
                    continue
                limits = {
                    ours: given[theirs] for ours, theirs in _LIMITS.items() if theirs in given
                }
                self._policies.append(
                    Policy(
                        name=template.name,
                        type=VACUUM,
                        position=template.position,
                        targets=(machine.name,),
                        properties=limits,
                    )
                )

    # --- what is made ------------------------------------------------------------------------

    def _expand(self, template: NodeTemplate, entry: Entry) -> None:
        made = [self._service(template, part) for part in entry.parts]
        self._made[template.name] = list(zip(made, entry.parts, strict=True))
        sentence = f"becomes {' and '.join(part.type for part in entry.parts)}. {entry.sentence}"
        unused = [name for name in entry.unused if name in template.properties]
        if unused:
            sentence = f"{sentence.rstrip()} Not used: {', '.join(unused)}."
        self._note(template, sentence.strip())

    def _service(self, template: NodeTemplate, part: Part) -> NodeTemplate:
        properties = {
            name: self._cursor(template, name, value) for name, value in part.properties.items()
        }
        service = NodeTemplate(
            name=self._free_name(template.name, part.type),
            type=part.type,
            position=template.position,
            properties=properties,
        )
        self._templates[service.name] = service
        return service

    def _free_name(self, name: str, node_type: str) -> str:
        wanted = f"{name}.{node_type.rpartition('.')[2].lower()}"
        while wanted in self._templates:
            wanted += "_"
        return wanted

    def _cursor(self, template: NodeTemplate, name: str, value: Any) -> Cursor:
        """A mapped value as if it stood where the foreign property does that it comes from."""
        mark: Mark = template.position.key
        written = [p for p in _own_words(value) if p in template.properties]
        if written:
            mark = template.properties[written[0]].tree.mark
        known = _spelt_out(value, template.name, self._adapters.parameters)
        path = (*template.position.path, name)
        return Cursor(tree_of(known, mark), path, template.position.report, mark)

    def _pinned(self, template: NodeTemplate) -> bool:
        return all(one in self._pins for one in sources(template, self._library))

    def _add_playbooks(self, template: NodeTemplate) -> None:
        service = playbook_service(template, self._library)
        service = dataclasses.replace(service, name=self._free_name(template.name, service.type))
        self._templates[service.name] = service
        self._made[template.name] = [(service, Part(service.type))]
        pinned = ", ".join(sources(template, self._library))
        self._note(template, f"is set up by its own playbooks, as the server pins them: {pinned}.")

    # --- requirements of what is made --------------------------------------------------------

    def _connect(self) -> None:
        for source, services in self._made.items():
            machine = self._before.machine_of(source)
            foreign = self._before.templates[source]
            if machine is None:
                at = foreign.position.get("type") or foreign.position
                at.problem(f"{shown(source)} stands on no host.", "Give it a `host` requirement.")
                continue
            for service, part in services:
                self._link(service, part, machine, foreign)

    def _link(
        self, service: NodeTemplate, part: Part, machine: NodeTemplate, foreign: NodeTemplate
    ) -> None:
        found: list[Requirement] = []
        for name, definition in self._library.requirements(service.type).items():
            wanted = part.requirements.get(name) or (definition.node if definition.least else None)
            if not wanted:
                continue
            target = self._meeting(wanted, machine, definition, foreign)
            if target is not None and target != service.name:
                found.append(Requirement(definition, target, foreign.position))
        # What it waited for in the foreign template, it waits for here.
        for requirement in foreign.requirements:
            for other, _ in self._made.get(requirement.target, ()):
                depends = RequirementDefinition(
                    requirement.name, "tosca.capabilities.Node", None,
                    "tosca.relationships.DependsOn",
                )  # fmt: skip
                found.append(Requirement(depends, other.name, requirement.position))
        linked = dataclasses.replace(service, requirements=tuple(found))
        self._templates[service.name] = linked

    def _meeting(
        self,
        wanted: str,
        machine: NodeTemplate,
        definition: RequirementDefinition,
        foreign: NodeTemplate,
    ) -> str | None:
        """Who meets a requirement: of the same host, else the only one; made where it must be."""
        if self._library.derives("node_types", machine.type, wanted):
            return machine.name
        fitting = [
            name
            for name, one in self._templates.items()
            if self._library.derives("node_types", one.type, wanted)
        ]
        here = [name for name in fitting if self._machine(name) == machine.name]
        if here:
            return here[0]
        if definition.least == 0:
            return fitting[0] if len(fitting) == 1 else None
        made = NodeTemplate(
            name=self._free_name(machine.name, wanted), type=wanted, position=foreign.position
        )
        self._templates[made.name] = made
        self._made_below(made, machine, foreign)
        return made.name

    def _made_below(self, made: NodeTemplate, machine: NodeTemplate, foreign: NodeTemplate) -> None:
        self._link(made, Part(made.type), machine, foreign=_without_requirements(foreign))

    def _machine(self, name: str) -> str | None:
        for source, services in self._made.items():
            if name in [service.name for service, _ in services]:
                name = source
                break
        machine = dataclasses.replace(
            self._before, library=self._library, templates=self._templates
        ).machine_of(name)
        return machine.name if machine else None

    # --- what a mapped value must be ----------------------------------------------------------

    def _check_required(self, topology: Topology) -> None:
        """A property that our type needs and the foreign template does not give."""
        evaluator = Evaluator(topology)
        for source, services in self._made.items():
            for service, _ in services:
                for name, schema in self._library.properties("node_types", service.type).items():
                    value = evaluator.property_value(topology.templates[service.name], name)
                    if value is None and schema.required and value is not INVALID:
                        self._before.templates[source].position.problem_at_key(
                            f"{shown(source)} gives no {shown(name)}, which {shown(service.type)} "
                            "needs."
                        )


def _without_requirements(template: NodeTemplate) -> NodeTemplate:
    return dataclasses.replace(template, requirements=())


def _own_words(value: Any) -> Iterator[str]:
    """The properties of SELF that an expression uses."""
    if isinstance(value, dict):
        words = value.get("get_property")
        if isinstance(words, list) and len(words) > 1 and words[0] == "SELF":
            yield str(words[1])
        for inner in value.values():
            yield from _own_words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _own_words(inner)


def _spelt_out(value: Any, template: str, parameters: Mapping[str, Any]) -> Any:
    """An expression with SELF as the foreign template and parameters as their values."""
    if isinstance(value, dict):
        if set(value) == {"parameter"}:
            return parameters[value["parameter"]]
        found = {}
        for key, inner in value.items():
            if key in ("get_property", "get_attribute") and isinstance(inner, list):
                found[key] = [template if word == "SELF" else word for word in inner]
            else:
                found[key] = _spelt_out(inner, template, parameters)
        return found
    if isinstance(value, list):
        return [_spelt_out(inner, template, parameters) for inner in value]
    return value


def _names(value: Any, templates: set[str]) -> bool:
    """Whether a value asks for an attribute of one of the templates."""
    if isinstance(value, dict):
        words = value.get("get_attribute")
        if isinstance(words, list) and words and words[0] in templates:
            return True
        return any(_names(inner, templates) for inner in value.values())
    return isinstance(value, list) and any(_names(inner, templates) for inner in value)
