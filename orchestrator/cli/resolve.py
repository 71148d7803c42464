"""From what a person types to the thing meant: deployments, nodes, templates."""

from __future__ import annotations

import difflib
import re
from typing import Any
from urllib.parse import quote

from orchestrator.cli.client import Api
from orchestrator.cli.problems import Failure
from orchestrator.errors import UserError

Json = dict[str, Any]

JOB = re.compile(r"\d+(\.\d+)?")
# Long enough that no prefix that a person shortens to is taken for the whole.
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def deployment(api: Api, given: str | None) -> Json:
    """The deployment named by its id, by a prefix that only it has, or, unnamed, one's only one.

    Those of others, which one may see, have to be named.
    """
    if given and _WHOLE_ID.fullmatch(given):
        return by_id(api, given)
    living = api.everything("/deployments", createdBy="me" if given is None else None)
    if given is None:
        if len(living) == 1:
            return by_id(api, living[0]["uuid"])
        raise _which(living)
    found = [entry for entry in living if entry["uuid"].startswith(given)]
    if len(found) == 1:
        return by_id(api, found[0]["uuid"])
    if found:
        raise UserError(
            f"{len(found)} deployments begin with {given}.",
            _some(found),
            "type more of the id",
            code="ambiguous",
        )
    return by_id(api, given)


def by_id(api: Api, uuid: str) -> Json:
    """The deployment with exactly this id, with everything the API tells of it."""
    try:
        found: Json = api.get(f"/deployments/{segment(uuid)}")
    except Failure as failure:
        if failure.status == 404:
            failure.attempt = failure.attempt or "vacuo list --all"
        raise
    return found


def node(api: Api, name: str, within: str | None = None) -> tuple[Json, Json]:
    """The deployment and the resource of the node ``name``; its name or a prefix of its own."""
    searched = [deployment(api, within)] if within else api.everything("/deployments")
    nodes = [
        (owner, resource)
        for owner in searched
        for resource in api.everything(f"/deployments/{segment(owner['uuid'])}/resources", all=True)
    ]
    exact = [pair for pair in nodes if pair[1]["uuid"] == name]
    found = exact or [pair for pair in nodes if pair[1]["uuid"].startswith(name)]
    if len(found) == 1:
        return found[0]
    names = [resource["uuid"] for _, resource in nodes]
    if found:
        raise UserError(
            f"{len(found)} nodes begin with {name}.",
            ", ".join(resource["uuid"] for _, resource in found[:5]) + ".",
            "type more of the name",
            code="ambiguous",
        )
    raise UserError(
        f"There is no node {name}.",
        suggestion(name, names),
        "vacuo status",
        code="not-found",
        status=404,
    )


def deployment_or_node(api: Api, given: str | None) -> tuple[Json, Json | None]:
    """What ``logs`` and ``explain`` take: a deployment, or a node with its deployment."""
    if given is None:
        return deployment(api, None), None
    try:
        return deployment(api, given), None
    except UserError as error:
        if error.code != "not-found":
            raise
    try:
        return node(api, given)
    except UserError as error:
        if error.code != "not-found":
            raise
        error.what = f"There is no deployment and no node {given}."
        raise


def suggestion(given: str, known: list[str]) -> str:
    """``Did you mean …?``, or nothing where nothing is near."""
    near = difflib.get_close_matches(given, known, n=1)
    return f"Did you mean {near[0]}?" if near else ""


def segment(text: str) -> str:
    """``text`` as one segment of a path: what a person types never becomes another path."""
    return quote(text, safe="")


def _which(living: list[Json]) -> UserError:
    if not living:
        return UserError(
            "There is no deployment.",
            attempt="make one with: vacuo up TEMPLATE; templates are shown by: vacuo templates",
            code="not-found",
            status=404,
        )
    return UserError(
        f"There are {len(living)} deployments, and none was named.",
        _some(living),
        "name one by the beginning of its id",
        code="ambiguous",
    )


def _some(found: list[Json]) -> str:
    shown = [
        f"{entry['uuid'][:8]} ({entry.get('description') or 'no description'})"
        for entry in found[:5]
    ]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(shown) + more + "."
