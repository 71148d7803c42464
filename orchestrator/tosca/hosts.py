"""What a host must have and how many there are: the capabilities of one Compute template.

What a template asks of a host and Vacuo cannot give is refused where jobs would miss it, and noted
where the site decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from orchestrator.model import Requirements, Value
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.functions import Evaluator
from orchestrator.tosca.problems import shown
from orchestrator.tosca.topology import NodeTemplate
from orchestrator.tosca.units import GIB, MIB, amount
from orchestrator.tosca.values import INVALID, is_late

_FOLLOWED = {
    "host": ("num_cpus", "mem_size", "disk_size"),
    "os": ("architecture", "image", "type"),
    "scalable": ("min_instances", "max_instances", "default_instances", "count", "removal_list"),
}
# Without these a host is of no use to who asked for it.
_CANNOT = {
    ("host", "num_gpus"): "Vacuo cannot choose hosts by their GPUs",
    ("host", "infiniband_support"): "Vacuo cannot choose hosts by their network",
    ("host", "sgx"): "Vacuo cannot choose hosts with SGX",
    ("os", "gpu_driver"): "Vacuo cannot choose images by their GPU driver",
    ("os", "cuda_support"): "Vacuo cannot choose images by their CUDA",
}
_WHY = {
    ("os", "distribution"): "the image has it",
    ("os", "version"): "the image has it",
    ("host", "instance_type"): "the site's flavour is chosen by cores, memory and disk",
    ("host", "cpu_frequency"): "the site decides",
}
_LINUX = "linux"


class HostReader:
    """Reads the capabilities of host templates; problems go into the report of their cursors."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def requirements(self, host: NodeTemplate) -> Requirements:
        """What one host must have."""
        self._look_at_the_rest(host)
        default = Requirements()
        cores = self._property(host, "host", "num_cpus")
        memory = self._property(host, "host", "mem_size")
        disk = self._property(host, "host", "disk_size")
        return Requirements(
            cores=math.ceil(cores) if cores else default.cores,
            memory_mb=_whole(memory, MIB) or default.memory_mb,
            disk_gb=_whole(disk, GIB) or default.disk_gb,
            image=str(self._property(host, "os", "image") or default.image),
            architecture=str(self._property(host, "os", "architecture") or default.architecture),
        )

    def count(self, host: NodeTemplate) -> int:
        """How many hosts there are where no vacuum policy applies."""
        written = host.capabilities.get("scalable", {})
        if "count" in written:
            return self._count(host, written)
        least = self.instances(host, "min_instances")
        most = self.instances(host, "max_instances")
        count = self.instances(host, "default_instances")
        count = count if count is not None else least if least is not None else 1
        if written and not (least or 0) <= count <= (most if most is not None else count):
            at = next(iter(written.values()))
            at.problem(
                f"{shown(host.name)} wants {count} instances, which is not between "
                f"min_instances, {least or 0}, and max_instances, {most}."
            )
        return count

    def _count(self, host: NodeTemplate, written: Mapping[str, Cursor]) -> int:
        """INDIGO's way to say how many; its limits count where the template writes them."""
        if self._evaluator.property_value(host, "count", "scalable") is INVALID:
            return 0
        count = self.instances(host, "count") or 0
        for name, exceeds in (("min_instances", int.__lt__), ("max_instances", int.__gt__)):
            bound = self.instances(host, name) if name in written else None
            if bound is not None and exceeds(count, bound):
                written["count"].problem(
                    f"{shown(host.name)} wants {count} instances; its {name} is {bound}."
                )
        return count

    def instances(self, host: NodeTemplate, name: str) -> int | None:
        """A number of instances, where the template speaks of them."""
        written = host.capabilities.get("scalable", {})
        if not written:
            return None
        value = self._property(host, "scalable", name)
        if value is None:
            return None
        if value < 0 and name in written:
            written[name].problem(f"{shown(name)} is {value}; it must be at least 0.")
        return int(value)

    def removal_list(self, host: NodeTemplate) -> tuple[str, ...]:
        """The hosts that leave first, by name or id."""
        names = self._property(host, "scalable", "removal_list")
        if not isinstance(names, list):
            return ()
        if any(is_late(name) or isinstance(name, list | dict) for name in names):
            cursor = host.capabilities["scalable"]["removal_list"]
            cursor.problem("`removal_list` names hosts, and must be known now.")
            return ()
        return tuple(str(name) for name in names if name is not INVALID)

    def _property(self, host: NodeTemplate, capability: str, name: str) -> Value:
        """A property of a capability; one that is only known later is no size to plan with."""
        if name not in self._evaluator.schemas(host, capability):
            return None
        value = self._evaluator.property_value(host, name, capability)
        if is_late(value):
            cursor = host.capabilities[capability][name]
            cursor.problem(f"{shown(name)} must be known before there is a host.")
            return None
        return None if value is INVALID else value

    def _look_at_the_rest(self, host: NodeTemplate) -> None:
        """Says of everything else that is written what becomes of it."""
        for capability, given in host.capabilities.items():
            for name, cursor in given.items():
                if name in _FOLLOWED.get(capability, ()):
                    continue
                value = self._evaluator.property_value(host, name, capability)
                if value in (None, INVALID, False, 0):
                    continue
                refusal = _CANNOT.get((capability, name))
                if refusal:
                    cursor.problem(f"{refusal}.", "Leave it out, or use a site of its own.")
                else:
                    why = _WHY.get((capability, name), "nothing here acts on it")
                    what = f"{host.name}.{capability}.{name}"
                    cursor.note(f"Vacuo does not follow {shown(what)}: {why}.")
        kind = self._property(host, "os", "type")
        if kind is not None and str(kind).lower() != _LINUX:
            at = host.capabilities["os"]["type"]
            at.problem(f"Vacuo makes Linux hosts, not {shown(kind)}.")


def _whole(size: Value, unit: int) -> int:
    """A size in whole units, so that nothing that was asked for lacks; 0 for none."""
    return math.ceil(amount("scalar-unit.size", str(size)) / unit) if size else 0
