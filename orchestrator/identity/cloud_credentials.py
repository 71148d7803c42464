"""Credentials for clouds and hosts that people bring: kinds, and what each has to hold.  Pure.

What is wrong is told by field, never by value.  ``openstack`` has the fields of a cloud in
clouds.yaml, ``auth`` and all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import UserError

LONGEST = 20_000  # characters of one field: an RSA key of 16384 bits fits


@dataclass(frozen=True)
class Kind:
    """``needs`` has sets of fields, of which one must be there whole; ``may`` what else can be.
    Fields of a nested mapping are written with a dot."""

    needs: tuple[frozenset[str], ...]
    may: frozenset[str] = frozenset()


_PASSWORD = frozenset({"auth.auth_url", "auth.username", "auth.password"})
_APPLICATION = frozenset(
    {"auth.auth_url", "auth.application_credential_id", "auth.application_credential_secret"}
)
KINDS: Mapping[str, Kind] = {
    "openstack": Kind(
        (_APPLICATION, _PASSWORD),
        frozenset(
            {"auth_type", "region_name", "interface", "identity_api_version", "auth.project_id",
             "auth.project_name", "auth.project_domain_name", "auth.project_domain_id",
             "auth.user_domain_name", "auth.user_domain_id", "auth.application_credential_name"}
        ),
    ),
    "ec2": Kind(
        (frozenset({"access_key_id", "secret_access_key"}),),
        frozenset({"session_token", "region"}),
    ),
    "opennebula": Kind((frozenset({"username", "password"}),), frozenset({"endpoint"})),
    "ssh": Kind((frozenset({"private_key"}),), frozenset({"username", "passphrase"})),
}  # fmt: skip


def check(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` as it is to be kept; :class:`UserError` for what no credential of ``kind`` is."""
    if kind not in KINDS:
        raise _wrong(f"There is no kind of credential {kind[:40]!r}.", f"There is {_list(KINDS)}.")
    fields = dict(_fields(given))
    wanted = KINDS[kind]
    known = frozenset().union(*wanted.needs) | wanted.may
    for name, value in fields.items():
        if name not in known:
            raise _wrong(
                f"A credential for {kind} has no field {name[:60]!r}.",
                f"It has {_list(sorted(known))}.",
            )
        if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
            raise _wrong(f"The field {name} of the credential has to be a text that is not empty.")
        if len(str(value)) > LONGEST:
            raise _wrong(f"The field {name} of the credential is too long.")
    if not any(needed <= fields.keys() for needed in wanted.needs):
        least = " or ".join(_list(sorted(needed)) for needed in wanted.needs)
        raise _wrong(f"A credential for {kind} needs more fields.", f"It needs {least}.")
    return dict(given)


def _fields(given: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in given.items():
        if isinstance(value, Mapping) and not above:
            found += _fields(value, f"{name}.")
        else:
            found.append((f"{above}{name}", value))
    return found


def _list(words: Any) -> str:
    return ", ".join(words)


def _wrong(what: str, why: str = "") -> UserError:
    return UserError(what, why, "see: vacuo credentials add --help", code="credential-unusable")
