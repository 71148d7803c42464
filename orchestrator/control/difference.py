"""What differs between two wishes for one group, and what that costs its nodes.  Pure.

Values of variables are never told: any of them may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from orchestrator.model import NodeGroup, Service, VacuumPolicy


@dataclass(frozen=True)
class Change:
    """``what`` differs; ``effect`` is scale, reconfigure (in place) or rebuild; ``before`` and
    ``after`` are empty where they are not to be shown."""

    what: str
    effect: str
    before: str = ""
    after: str = ""
    why: str = ""


_REBUILD = "a host cannot change it while it is there"
_AGAIN = "Ansible runs again on the hosts that are there; running jobs are not touched"


def changes(old: NodeGroup | None, new: NodeGroup) -> tuple[Change, ...]:
    """Everything in which ``new`` differs from ``old``; nothing for a group that is new."""
    if old is None or old == new:
        return ()
    found = [*_place(old, new), *_number(old, new), *_policy(old.vacuum, new.vacuum)]
    found += _services(old, new)
    if old.uses != new.uses:
        found.append(Change("the groups it uses", "reconfigure", why=_AGAIN))
    return tuple(found)


def _place(old: NodeGroup, new: NodeGroup) -> Iterator[Change]:
    for field in fields(old.requirements):
        was, now = getattr(old.requirements, field.name), getattr(new.requirements, field.name)
        if was != now:
            why = f"{_REBUILD}, unless the flavour it has is what the site would choose again"
            yield Change(field.name, "rebuild", str(was), str(now), why)
    for what, before, after in (("pool", old.pool, new.pool), ("site", old.site, new.site)):
        if before != after:
            yield Change(what, "rebuild", str(before or "any"), str(after or "any"), _REBUILD)


def _number(old: NodeGroup, new: NodeGroup) -> Iterator[Change]:
    for what in ("minimum", "maximum"):
        was, now = getattr(old, what), getattr(new, what)
        if was != now:
            yield Change(what, "scale", str(was), str(now))
    if new.removal_list and old.removal_list != new.removal_list:
        yield Change("removal_list", "scale", after=", ".join(new.removal_list))


def _policy(old: VacuumPolicy | None, new: VacuumPolicy | None) -> Iterator[Change]:
    for what in ("idle_seconds", "lifetime_seconds"):
        was, now = getattr(old, what, None), getattr(new, what, None)
        if was != now:
            yield Change(what, "reconfigure", _number_or_none(was), _number_or_none(now), _AGAIN)


def _number_or_none(value: int | None) -> str:
    return "none" if value is None else str(value)


def _services(old: NodeGroup, new: NodeGroup) -> Iterator[Change]:
    was = {service.template: service for service in old.services}
    now = {service.template: service for service in new.services}
    for name in was.keys() - now.keys():
        yield Change(name, "rebuild", "there", "gone", "nothing takes a service off a host")
    for name, service in now.items():
        if name not in was:
            yield Change(name, "reconfigure", "absent", "there", _AGAIN)
        else:
            yield from _service(name, was[name], service)


def _service(name: str, old: Service, new: Service) -> Iterator[Change]:
    if old.role != new.role:
        yield Change(f"{name}: role", "rebuild", old.role, new.role, _REBUILD)
    for variable in _differing(old.variables, new.variables):
        yield Change(f"{name}: {variable}", "reconfigure", why=_AGAIN)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    missing = object()
    return sorted(
        name for name in old.keys() | new.keys() if old.get(name, missing) != new.get(name, missing)
    )
