"""Who may do what.  Every rule of access is here and nowhere else.

There are two questions.  *Which routes need what* is data on the view itself: ``@access(...)``,
which a test enumerates and the API's guard enforces; a view without it is refused.  *May this
caller do this to that deployment* is a pure function below.

A deployment is visible to its owner alone, the pair of issuer and subject that created it.  To
everybody else it does not exist: 404, never 403, so that nobody learns which identifiers are
taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Protocol, TypeVar

from orchestrator.errors import NotFound
from orchestrator.identity.claims import Caller
from orchestrator.model import Principal


class Access(Enum):
    """What a route asks of its caller."""

    PUBLIC = "anybody"
    THIS_MACHINE = "anybody on this machine"  # the development issuer; it checks that itself
    AUTHENTICATED = "anybody with a valid token; sees and makes only what is their own"
    NODE_CREDENTIAL = "a node that shows its one-time credential"
    NODE = "a node that shows the secret it enrolled with"
    NODE_RUN = "a node that shows the reporting credential of its run"
    OWNER = "the owner of the deployment that the path names; to all others it does not exist"

    @property
    def needs_token(self) -> bool:
        """Whether the caller is a person, or something that acts for one."""
        return self in (Access.AUTHENTICATED, Access.OWNER)

    @property
    def is_a_nodes(self) -> bool:
        """Whether the caller is a node that configures itself."""
        return self in (Access.NODE_CREDENTIAL, Access.NODE, Access.NODE_RUN)


class Owned(Protocol):
    """Anything that belongs to a principal, such as a deployment."""

    @property
    def owner(self) -> Principal: ...


View = TypeVar("View", bound=Callable[..., Any])
OwnedThing = TypeVar("OwnedThing", bound=Owned)
_ATTRIBUTE = "__vacuo_access__"


def access(rule: Access) -> Callable[[View], View]:
    """Declare what the decorated view asks of its caller."""

    def declare(view: View) -> View:
        setattr(view, _ATTRIBUTE, rule)
        return view

    return declare


def access_of(view: Callable[..., Any] | None) -> Access | None:
    """The rule of ``view``; None means that it must not be served to anybody."""
    rule = getattr(view, _ATTRIBUTE, None)
    return rule if isinstance(rule, Access) else None


def without_policy(
    rules: Iterable[Any], views: Mapping[str, Callable[..., Any]]
) -> tuple[str, ...]:
    """The routes of a Flask application (``url_map.iter_rules()``, ``view_functions``) that have
    no rule of access, as ``path (endpoint)``."""
    return tuple(
        sorted(
            f"{rule.rule} ({rule.endpoint})"
            for rule in rules
            if access_of(views.get(rule.endpoint)) is None
        )
    )


def may_create(caller: Caller) -> bool:
    """Anybody with a valid token of a configured issuer may have deployments."""
    return bool(caller.principal.subject)


def may_see(caller: Caller, thing: Owned) -> bool:
    """Its status, template, log, resources, plan, events."""
    return caller.principal == thing.owner


def may_change(caller: Caller, thing: Owned) -> bool:
    """Give it a new template or new parameters."""
    return may_see(caller, thing)


def may_delete(caller: Caller, thing: Owned) -> bool:
    return may_see(caller, thing)


def may_log_in_to_hosts(caller: Caller, thing: Owned) -> bool:
    """Learn how to reach its hosts over ssh."""
    return may_see(caller, thing)


def visible(
    caller: Caller,
    thing: OwnedThing | None,
    identifier: str,
    rule: Callable[[Caller, OwnedThing], bool] = may_see,
) -> OwnedThing:
    """``thing``, if it exists and ``rule`` lets ``caller`` have it; else :class:`NotFound`.

    Both refusals are the same object to the last byte, whatever the reason.
    """
    if thing is None or not rule(caller, thing):
        raise NotFound(f"There is no deployment {identifier}.", "vacuo list")
    return thing
