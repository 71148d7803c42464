"""Prepared images: what of a group can be baked beforehand, and which image fits.  Pure.

An image is made for the part of a group that is the same on every host: its roles, and those of
their variables that are plain values.  What only a host or a deployment knows (addresses, tokens,
names, times of a policy) is not in it.  The roles are applied in full on a prepared host too; they
find done what was done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.model import (
    Attribute,
    Concat,
    Join,
    NodeGroup,
    Offer,
    PreparedImage,
    Rejection,
    Secret,
    Service,
    Token,
    Value,
)

REPOSITORY = "localhost/vacuo/prepared"
DIGITS = 12


def constants(service: Service) -> Mapping[str, Any]:
    """The variables that are known before there is a host."""
    return {name: value for name, value in service.variables.items() if not is_late(value)}


def is_late(value: Value) -> bool:
    """Whether anything in ``value`` is known only once machines are, or must not be in an image."""
    if isinstance(value, Attribute | Concat | Join | Secret | Token):
        return True
    if isinstance(value, Mapping):
        return any(is_late(inner) for inner in value.values())
    return isinstance(value, list | tuple) and any(is_late(inner) for inner in value)


def digest(group: NodeGroup, roles: str) -> str:
    """Stands for all that an image for ``group`` has in it; ``roles`` for what the roles are."""
    content = [
        [service.role, constants(service), sorted(set(service.variables) - set(constants(service)))]
        for service in group.services
    ]
    text = json.dumps([roles, group.requirements.architecture, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def named(base: str, digest: str) -> PreparedImage:
    """The image of this digest; two bases make two."""
    of_base = hashlib.sha256(base.encode()).hexdigest()[:DIGITS]
    return PreparedImage(f"{REPOSITORY}:{digest}-{of_base}", base, digest)


def choose(
    candidates: Sequence[Offer | Rejection], digest: str, images: Sequence[PreparedImage]
) -> tuple[Offer | Rejection, ...]:
    """The candidates, each offer with the image that was prepared for it where there is one."""
    fitting = {image.base: image.image for image in images if image.digest == digest}
    return tuple(
        replace(one, image=fitting[one.image], prepared_from=one.image)
        if isinstance(one, Offer) and one.image in fitting
        else one
        for one in candidates
    )
