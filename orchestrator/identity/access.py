"""The access file: rules that say who is what, and how much they may have.

One YAML file, read as a whole; what is wrong in it is told by file, line and field.  What a role
may do is not in it: that is ``orchestrator.identity.policy``.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from orchestrator import yaml_file
from orchestrator.errors import UserError
from orchestrator.settings import Issuer
from orchestrator.settings.document import checked

_GROUP = re.compile(r"(/[^/\s][^/]*)+")


class Role(StrEnum):
    """What a rule makes of a person; the words are part of the access file."""

    ADMINISTRATOR = "administrator"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    USER = "user"


def _group(text: str) -> str:
    if not _GROUP.fullmatch(text) or not text.isprintable() or {".", ".."} & set(text.split("/")):
        raise PydanticCustomError("group", "must be a path of groups, such as /cms/uscms")
    return text


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_Limit = Annotated[int | None, Field(ge=0, strict=True)]


class Together(_Part):
    """What the deployments of one account may be at most; None is no limit."""

    deployments: _Limit = None
    nodes: _Limit = None
    cores: _Limit = None


class Each(Together):
    """What one person may have, and how often they may ask."""

    requests_per_minute: Annotated[int | None, Field(ge=1, strict=True)] = None


Limits = TypeVar("Limits", bound=Together)


def most(kind: type[Limits], found: list[Limits]) -> Limits:
    """Field by field the largest; no limit is larger than any."""

    def largest(field: str) -> int | None:
        values = [getattr(limits, field) for limits in found]
        return None if None in values else max(values)

    return kind(**{field: largest(field) for field in kind.model_fields})


class Rule(_Part):
    """One rule.  After :func:`load`, ``issuer`` is the exact ``iss`` and no longer its name."""

    role: Role
    issuer: str
    groups: tuple[Annotated[str, AfterValidator(_group)], ...] = ()
    subjects: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    anybody: bool = False
    each: Each | None = None
    together: Together | None = None

    @model_validator(mode="after")
    def _names_somebody(self) -> Rule:
        if self.anybody and (self.groups or self.subjects):
            raise _mistake("anybody", "stands alone: it includes all groups and subjects")
        if not (self.anybody or self.groups or self.subjects):
            raise _mistake("", "names nobody: it needs groups, subjects, or anybody: true")
        for field in ("each", "together"):
            if getattr(self, field) and self.role is not Role.USER:
                raise _mistake(field, "limits are for the role user: the others have none")
        if self.together and not self.groups:
            raise _mistake("together", "is for the groups of the rule, and it names none")
        return self


def _mistake(field: str, sentence: str) -> PydanticCustomError:
    return PydanticCustomError("rule", sentence, {"at": (field,) if field else ()})


class Rules(_Part):
    """All rules, in their order; a person has what any of them gives."""

    rules: tuple[Rule, ...]


def without_file(issuers: Sequence[Issuer]) -> Rules:
    """The rules where there is no access file: whoever has a token is a user without limits."""
    return Rules(
        rules=tuple(Rule(role=Role.USER, issuer=one.issuer, anybody=True) for one in issuers)
    )


def load(path: Path | None, issuers: Sequence[Issuer]) -> Rules:
    """The rules of ``path``, for ``issuers``; None is :func:`without_file`.

    Raises :class:`UserError` with file, line and field of everything that is wrong.
    """
    if path is None:
        return without_file(issuers)
    try:
        return _read(path, {one.name: one.issuer for one in issuers})
    except UserError as error:
        raise UserError(
            f"The access file {path} cannot be used.",
            error.why,
            "see docs/admin/identity.md, and the examples in iam/access",
            code="configuration-invalid",
        ) from None


def _read(path: Path, issuers: dict[str, str]) -> Rules:
    document, places = yaml_file.read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IWOTH:  # whoever writes it makes themselves administrator
        raise UserError("", f"{path}: everybody on this machine can write it (mode {mode:04o}).")
    found = checked(Rules, document, places, "The access file", f"{path}")
    unknown = [
        f"{places['rules', index, 'issuer']}: rules.{index}.issuer: {_no_issuer(rule, issuers)}"
        for index, rule in enumerate(found.rules)
        if rule.issuer not in issuers
    ]
    if unknown:
        raise UserError("", "\n".join(unknown))
    named = (rule.model_copy(update={"issuer": issuers[rule.issuer]}) for rule in found.rules)
    return Rules(rules=tuple(named))


def _no_issuer(rule: Rule, issuers: dict[str, str]) -> str:
    close = difflib.get_close_matches(rule.issuer, issuers, n=1, cutoff=0.6)
    if close:
        return f"no issuer of the settings has this name. Did you mean {close[0]}?"
    return f"no issuer of the settings has this name; there is: {', '.join(issuers) or 'none'}."
