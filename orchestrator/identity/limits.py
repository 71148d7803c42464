"""How much somebody may have: what the rules say of their person and their groups.  Pure."""

from __future__ import annotations

from orchestrator.identity.access import Role, Together, most
from orchestrator.identity.policy import Standing, is_in
from orchestrator.model import Account, Allowance, Principal


def allowances(who: Standing, owner: Principal, group: str | None) -> tuple[Allowance, ...]:
    """What a deployment of ``owner``, shared with ``group``, has to fit into if ``who`` makes or
    changes it.  Whoever changes another's is held to their own limits, on the owner's account."""
    if Role.ADMINISTRATOR in who.roles:
        return ()
    person = Account(owner.issuer, owner.subject)
    found = [_allowance(person, who.each)]
    if group is not None and owner.issuer == who.caller.principal.issuer:
        found += [_allowance(*limits) for limits in group_limits(who) if _is_of(group, limits[0])]
    return tuple(one for one in found if one != Allowance(one.account))


def group_limits(who: Standing) -> tuple[tuple[Account, Together], ...]:
    """The limits of groups of the caller's issuer; two for one group are the most generous."""
    limits: dict[str, list[Together]] = {}
    for rule in who.accounts:
        for group in rule.groups:
            limits.setdefault(group, []).append(rule.together or Together())
    issuer = who.caller.principal.issuer
    return tuple(
        (Account(issuer, group=group), most(Together, found))
        for group, found in sorted(limits.items())
    )


def _is_of(group: str, account: Account) -> bool:
    return account.group is not None and is_in([group], account.group)


def _allowance(account: Account, limits: Together) -> Allowance:
    return Allowance(account, limits.deployments, limits.nodes, limits.cores)
