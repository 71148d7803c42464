"""The profiles of access tokens: what each must have, and where it tells of groups.  Pure.

INDIGO-IAM has four, chosen by the scopes of the client's registration: its own (``iam``), that of
the WLCG token profile 1.x (``wlcg``), AARC's (``aarc``; groups as in AARC-G069) and Keycloak's
(``kc``).  ``oidc`` is for any other issuer and takes groups as WLCG or as most people write them.

Groups leave here in one form, whatever the profile: a path such as ``/cms/uscms``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

MAXIMUM_GROUPS = 500
MAXIMUM_TEXT = 255

Name = Literal["oidc", "iam", "wlcg", "aarc", "kc"]

# AARC-G069: <namespace>:group:<group>[:<subgroup>]*[:role=<role>]#<authority>
_ENTITLEMENT = re.compile(r"urn:[^#]*?:group:(?P<path>[^#]+)(#.*)?", re.IGNORECASE)


class Malformed(Exception):
    """A claim has another shape than its profile says; the message is for the log."""


@dataclass(frozen=True)
class Profile:
    """``required`` are claims beyond those that every token must have; ``groups`` the claims that
    may tell of groups, the first that is there counts."""

    required: tuple[str, ...]
    groups: tuple[str, ...]


PROFILES: Mapping[Name, Profile] = {
    "oidc": Profile((), ("wlcg.groups", "groups")),
    "iam": Profile(("jti",), ("groups",)),
    "wlcg": Profile(("jti", "wlcg.ver"), ("wlcg.groups",)),
    "aarc": Profile(("jti",), ("entitlements", "eduperson_entitlement")),
    "kc": Profile(("jti",), ("roles",)),
}


def groups_told(claims: Mapping[str, Any], profile: Name) -> frozenset[str] | None:
    """The groups that ``claims`` tell of; None where they say nothing about groups at all.

    Raises :class:`Malformed`: a claim of the wrong shape is never taken for an empty one.
    """
    named = next((name for name in PROFILES[profile].groups if name in claims), None)
    if named is None:
        return None
    entries = claims[named]
    if not isinstance(entries, list) or len(entries) > MAXIMUM_GROUPS:
        raise Malformed(f"{named} is not a list of at most {MAXIMUM_GROUPS}")
    found = [_group(named, entry) for entry in entries]
    return frozenset(group for group in found if group)


def _group(claim: str, entry: object) -> str:
    """The path of one entry; empty for an entitlement that is not about a group."""
    if not isinstance(entry, str) or not 0 < len(entry) <= MAXIMUM_TEXT:
        raise Malformed(f"{claim} has an entry that is not a short string")
    if claim in PROFILES["aarc"].groups:
        match = _ENTITLEMENT.fullmatch(entry)
        if match is None:
            return ""
        # What is escaped is part of a name: it may not make one group into two.
        parts = [unquote(part) for part in match["path"].split(":")]
        if any("/" in part for part in parts):
            raise Malformed(f"{claim} has a group with a slash in its name")
        entry = "/".join(parts)
    elif claim == "wlcg.groups" and not entry.startswith("/"):
        raise Malformed("wlcg.groups has an entry that does not start with a slash")
    path = "/" + entry.removeprefix("/")
    if not path.isprintable() or {"", ".", ".."} & set(path[1:].split("/")):
        raise Malformed(f"{claim} has an entry that is not a plain path")
    return path
