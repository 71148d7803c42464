"""Who may do what.  Every rule of access is here and nowhere else, and all of it is pure.

*Which routes need what* is data on the view itself: ``@access(...)``, which a test enumerates and
the API's guard enforces; a view without it is refused.  *What this caller is here* is
:func:`standing`, from the token and the access file.  *What that lets them do with a deployment* is
:func:`granted`, one table.

A deployment that somebody may not see does not exist for them: 404, never 403, so that nobody
learns which identifiers are taken.  What they may see and not do is 403.

Scopes that give a capability (WLCG token profile 1.x) only ever take away: a token that has any is
good for what they name and for nothing else, and its groups do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Protocol, TypeVar

from orchestrator.errors import Forbidden, NotFound
from orchestrator.identity.access import Each, Role, Rule, Rules, most
from orchestrator.identity.claims import Caller
from orchestrator.model import Principal, Sight


class Right(StrEnum):
    """What may be done; all but CREATE and AUDIT with one deployment."""

    CREATE = "create"
    SEE = "see"
    CHANGE = "change"
    DELETE = "delete"
    DRAIN = "drain"
    SECRETS = "secrets"  # how to log in to hosts, and whatever is kept secret
    AUDIT = "audit"  # to read on record who did what, and the hashes of that


class Access(Enum):
    """What a route asks of its caller."""

    PUBLIC = "anybody"
    PAGE = "anybody with a browser"  # signing in and out; a form checks where it comes from
    THIS_MACHINE = "anybody on this machine"  # the development issuer; it checks that itself
    IDENTIFIED = "anybody with a valid token"
    AUTHENTICATED = "whoever a rule gives a role; shows only what they may see"
    CREATE = "a user"
    SEE = "whoever may see the deployment that the path names"
    CHANGE = "whoever may change it"
    DELETE = "whoever may delete it"
    DRAIN = "whoever may drain its hosts"
    SECRETS = "whoever may have its secrets"
    AUDIT = "whoever may read the audits of everybody"
    NODE_CREDENTIAL = "a node that shows its one-time credential"
    NODE = "a node that shows the secret it enrolled with"
    NODE_RUN = "a node that shows the reporting credential of its run"

    @property
    def right(self) -> Right | None:
        """The right that the caller needs; None where a valid token or less will do."""
        return _RIGHTS.get(self)

    @property
    def of_deployment(self) -> bool:
        """Whether it is about one deployment, which the path names."""
        return self in _OF_DEPLOYMENT

    @property
    def needs_token(self) -> bool:
        """Whether the caller is a person, or something that acts for one."""
        return self is Access.IDENTIFIED or self.right is not None

    @property
    def is_a_nodes(self) -> bool:
        """Whether the caller is a node that configures itself."""
        return self in (Access.NODE_CREDENTIAL, Access.NODE, Access.NODE_RUN)


_RIGHTS = {
    Access.AUTHENTICATED: Right.SEE,
    Access.CREATE: Right.CREATE,
    Access.SEE: Right.SEE,
    Access.CHANGE: Right.CHANGE,
    Access.DELETE: Right.DELETE,
    Access.DRAIN: Right.DRAIN,
    Access.SECRETS: Right.SECRETS,
    Access.AUDIT: Right.AUDIT,
}
_OF_DEPLOYMENT = frozenset({Access.SEE, Access.CHANGE, Access.DELETE, Access.DRAIN, Access.SECRETS})

# --- the table ----------------------------------------------------------------------------------

OF_NO_DEPLOYMENT = frozenset({Right.CREATE, Right.AUDIT})
OWNER = frozenset(Right) - OF_NO_DEPLOYMENT
MEMBER = frozenset({Right.SEE, Right.CHANGE, Right.DELETE, Right.DRAIN})
OF_ROLE: Mapping[Role, frozenset[Right]] = {
    Role.ADMINISTRATOR: frozenset(Right),
    Role.OPERATOR: frozenset({Right.SEE, Right.DELETE, Right.DRAIN}),
    Role.AUDITOR: frozenset({Right.SEE, Right.AUDIT}),
    Role.USER: frozenset(),  # with the deployments of others
}
CREATORS = frozenset({Role.ADMINISTRATOR, Role.USER})
SCOPES: Mapping[Right, str] = {
    Right.CREATE: "compute.create",
    Right.SEE: "compute.read",
    Right.CHANGE: "compute.modify",
    Right.DELETE: "compute.cancel",
    Right.DRAIN: "compute.cancel",
    Right.SECRETS: "compute.modify",  # who gets into hosts can change them
    Right.AUDIT: "compute.read",
}


class InsufficientScope(Forbidden):
    """The token's scopes do not cover what it was used for (RFC 6750, 3.1)."""

    def __init__(self, scope: str) -> None:
        super().__init__(
            "This token may not do this.",
            f"It names what it is good for, and {scope} is not among it.",
            f"a token with the scope {scope}, or one without capabilities; vacuo whoami shows it",
        )
        self.scope = scope


@dataclass(frozen=True)
class Grants:
    """What a token is good for: with one's ``own`` deployments, with those that are ``shared``
    with one's groups, and with all ``others``."""

    own: frozenset[Right]
    shared: frozenset[Right]
    others: frozenset[Right]


class Shared(Protocol):
    """Anything that belongs to a principal and may be shared, such as a deployment."""

    @property
    def owner(self) -> Principal: ...
    @property
    def user_group(self) -> str | None: ...


Thing = TypeVar("Thing", bound=Shared)


@dataclass(frozen=True)
class Standing:
    """What a caller is on this server.

    ``rules`` are those that name the caller, ``accounts`` all that limit groups of their issuer.
    """

    caller: Caller
    rules: tuple[Rule, ...]
    accounts: tuple[Rule, ...] = ()

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset(rule.role for rule in self.rules)

    @property
    def each(self) -> Each:
        """The caller's own limits: for each the most generous of the rules that make them a user;
        none at all for administrators, and for those who are no users."""
        rules = [rule for rule in self.rules if rule.role is Role.USER]
        if not rules or Role.ADMINISTRATOR in self.roles:
            return Each()
        return most(Each, [rule.each or Each() for rule in rules])

    @property
    def sight(self) -> Sight:
        """Whose deployments the caller may see, once admitted: :func:`granted` for lists."""
        everything = any(Right.SEE in OF_ROLE[role] for role in self.roles)
        above = {path for group in self.caller.groups for path in _with_those_above(group)}
        return Sight(self.caller.principal, frozenset(above), everything)


def standing(caller: Caller, rules: Rules) -> Standing:
    """What the rules make of ``caller``.  A rule speaks of one issuer alone."""
    own = [rule for rule in rules.rules if rule.issuer == caller.principal.issuer]
    return Standing(
        caller,
        tuple(rule for rule in own if _names(rule, caller)),
        tuple(rule for rule in own if rule.together),
    )


def _names(rule: Rule, caller: Caller) -> bool:
    return (
        rule.anybody
        or caller.principal.subject in rule.subjects
        or any(is_in(caller.groups, group) for group in rule.groups)
    )


def is_in(groups: Iterable[str], group: str) -> bool:
    """Whether somebody in ``groups`` is in ``group``: a group includes those below it."""
    return group.startswith("/") and any(
        one == group or one.startswith(f"{group}/") for one in groups
    )


def _with_those_above(group: str) -> set[str]:
    parts = group.split("/")
    return {"/".join(parts[:n]) for n in range(2, len(parts) + 1)}


# --- routes -------------------------------------------------------------------------------------

View = TypeVar("View", bound=Callable[..., Any])
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


# --- decisions ----------------------------------------------------------------------------------


def admit(who: Standing, right: Right) -> None:
    """What needs no look at a deployment: :class:`Forbidden` for those whom no rule names, and
    for tokens whose scopes leave ``right`` out.  The answer tells nothing of what there is."""
    if not who.roles:
        raise Forbidden(
            "This server lets you do nothing.",
            "Your token is good, and no rule of the server's access file names you.",
            "vacuo whoami, and show it to the administrator of the server",
        )
    if not _in_scope(who.caller, right):
        raise InsufficientScope(SCOPES[right])
    if right is Right.CREATE and not who.roles & CREATORS:
        raise Forbidden(
            "You may not make deployments.",
            f"You are {_listed(who.roles)} here, and no user.",
            "vacuo whoami, and show it to the administrator of the server",
        )
    if right is Right.AUDIT and right not in _of_roles(who):
        raise Forbidden(
            "You may not read the audits of this server.",
            f"You are {_listed(who.roles)} here, and no auditor.",
            "vacuo events shows what happened to the deployments that you may see",
        )


def _of_roles(who: Standing) -> frozenset[Right]:
    return frozenset[Right]().union(*(OF_ROLE[role] for role in who.roles))


def _in_scope(caller: Caller, right: Right) -> bool:
    return not caller.capabilities or SCOPES[right] in caller.capabilities


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def granted(who: Standing, thing: Shared) -> frozenset[Right]:
    """What ``who`` may do with ``thing``, whatever the scopes of the token they came with."""
    if not who.roles:
        return frozenset()
    found = _of_roles(who)
    if who.caller.principal == thing.owner:
        found |= OWNER
    if (
        thing.user_group is not None
        and who.caller.principal.issuer == thing.owner.issuer
        and is_in(who.caller.groups, thing.user_group)
    ):
        found |= MEMBER
    return found - OF_NO_DEPLOYMENT


def grants(who: Standing) -> Grants:
    """What ``who`` may do at all, for them to read; :func:`allowed` decides."""
    if not who.roles:
        return Grants(frozenset(), frozenset(), frozenset())
    others = _of_roles(who) - {Right.CREATE}
    create = {Right.CREATE} if who.roles & CREATORS else set()
    shared = (others | MEMBER if who.caller.groups else others) - OF_NO_DEPLOYMENT
    good = {right for right in Right if _in_scope(who.caller, right)}
    return Grants((OWNER | create) & good, shared & good, others & good)


def allowed(who: Standing, thing: Thing | None, identifier: str, right: Right) -> Thing:
    """``thing``, if ``who`` may do this with it.

    :class:`NotFound` if it does not exist or is not theirs to see: the two are the same to the last
    byte.  :class:`Forbidden` if they may see it and not do this.
    """
    may = granted(who, thing) if thing is not None else frozenset()
    if thing is None or Right.SEE not in may:
        raise NotFound(f"There is no deployment {identifier}.", "vacuo list")
    if right not in may or not _in_scope(who.caller, right):
        raise Forbidden(
            f"You may not {_VERBS[right]} deployment {identifier}.",
            f"It is another person's; with it you may: {_listed(may)}.",
            "ask its owner; vacuo whoami shows what you are here",
        )
    return thing


_VERBS = {
    Right.CREATE: "create",
    Right.SEE: "see",
    Right.CHANGE: "change",
    Right.DELETE: "delete",
    Right.DRAIN: "drain hosts of",
    Right.SECRETS: "log in to hosts of, or see secrets of,",
    Right.AUDIT: "read the audits of",
}


def share(who: Standing, group: str | None, thing: Shared | None = None) -> str | None:
    """The group to share a deployment with, as it is written everywhere: with a slash in front.

    ``thing`` is the deployment if there is one already; ``group`` None leaves it as it is.
    :class:`Forbidden` if the caller is not in the group, or if it is not theirs to share.
    """
    if group is None:
        return thing.user_group if thing else None
    wanted = group_path(group)
    if thing is not None and wanted == thing.user_group:
        return wanted
    if thing is not None and thing.owner != who.caller.principal:
        raise Forbidden(
            "Only its owner may share a deployment with another group.",
            attempt="send the change without userGroup",
        )
    if not is_in(who.caller.groups, wanted):
        theirs = _listed(who.caller.groups) or "none that this server knows of"
        raise Forbidden(
            "userGroup has to be one of your groups.",
            f"Your groups: {theirs}.",
            "send it with one of these, or without userGroup",
        )
    return wanted


def group_path(group: str) -> str:
    """``cms`` and ``/cms`` are one group."""
    return "/" + group.strip("/")
