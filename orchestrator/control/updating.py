"""Whether a changed wish may be taken.  Pure."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.control.previewed import GroupPreview, Preview
from orchestrator.model import DeploymentSpec, DeploymentStatus, NodeGroup, PoolName, SiteName

UPDATABLE = frozenset(
    status for status in DeploymentStatus if not status.value.startswith("DELETE_")
)


def impossible(
    before: DeploymentSpec,
    wished: DeploymentSpec,
    preview: Preview,
    pools: Collection[PoolName],
    sites: Collection[SiteName],
) -> str:
    """Why the wish could never come true, as a sentence; empty where it may.

    Only what the update changes counts, and only what is known: a site that does not answer now
    may have what is asked for.
    """
    old = {group.name: group for group in before.groups}
    shown = {group.name: group for group in preview.groups}
    for group in wished.groups:
        if old.get(group.name) == group:
            continue
        why = _why_not(group, shown[group.name], preview, pools, sites)
        if why:
            return why
    return ""


def _why_not(
    group: NodeGroup,
    shown: GroupPreview,
    preview: Preview,
    pools: Collection[PoolName],
    sites: Collection[SiteName],
) -> str:
    if group.pool and group.pool not in pools:
        return f"Group {group.name} joins pool {group.pool}, and the server has none of that name."
    if group.site and group.site not in sites:
        return f"Group {group.name} asks for site {group.site}, and the server has none so named."
    if any(site.before is None for site in preview.sites):
        return ""
    return next((why.sentence for why in shown.reasons if why.code == "no-offer"), "")
