"""From a preview to the plan document.  Pure."""

from __future__ import annotations

from dataclasses import asdict

from orchestrator.api import models
from orchestrator.api.present import imports, reason
from orchestrator.control import previewed as planned
from orchestrator.model import Quota


def plan(preview: planned.Preview) -> models.Plan:
    summary = models.PlanSummary(
        create=preview.count("+"), change=preview.count("~"), delete=preview.count("-")
    )
    effects = ("create", "reconfigure", "replace", "remove", "keep")
    nodes = models.PlannedNodes(**{effect: preview.nodes(effect) for effect in effects})
    moving = any(node.effect != "keep" for group in preview.groups for node in group.nodes)
    return models.Plan(
        deployment=preview.deployment,
        changes=moving or any((summary.create, summary.change, summary.delete)),
        complete=preview.complete,
        summary=summary,
        nodes=nodes,
        sites=[_site(entry) for entry in preview.sites],
        groups=[_group(entry) for entry in preview.groups],
        cost=_cost(preview.cost),
        imports=imports(preview.imports),
        notes=list(preview.notes),
        reasons=[reason(why) for why in preview.reasons],
    )


def _group(group: planned.GroupPreview) -> models.PlannedGroup:
    offer = group.offer
    return models.PlannedGroup(
        name=group.name,
        action=models.Mark(group.action),
        now=group.now,
        wanted=group.wanted,
        minimum=group.minimum,
        maximum=group.maximum,
        pool=group.pool,
        cores=group.requirements.cores,
        memory_mb=group.requirements.memory_mb,
        disk_gb=group.requirements.disk_gb,
        site=offer.site if offer else None,
        flavour=offer.flavour if offer else None,
        image=offer.image if offer else None,
        price_per_hour=offer.price_per_hour if offer else None,
        cost=_cost(group.cost),
        changes=[models.PlannedChange.model_validate(asdict(entry)) for entry in group.changes],
        candidates=[models.Candidate.model_validate(asdict(entry)) for entry in group.candidates],
        nodes=[models.PlannedNode.model_validate(asdict(entry)) for entry in group.nodes],
        services=[models.PlannedService.model_validate(asdict(s)) for s in group.services],
        reasons=[reason(why) for why in group.reasons],
    )


def _cost(cost: planned.Cost) -> models.Cost:
    return models.Cost(
        per_hour_now=cost.now,
        per_hour_after=cost.after,
        per_hour_at_most=cost.at_most,
        to_expiry=cost.to_expiry,
    )


def _site(site: planned.SitePreview) -> models.PlannedSite:
    return models.PlannedSite(
        name=site.name,
        create=site.create,
        remove=site.remove,
        quota=_quota(site.before, site.after),
        why=site.why,
    )


def _quota(before: Quota | None, after: Quota | None) -> models.SiteQuota | None:
    if before is None or after is None:
        return None
    return models.SiteQuota(
        instances=models.QuotaUse(
            limit=before.instances, before=before.instances_used, after=after.instances_used
        ),
        cores=models.QuotaUse(limit=before.cores, before=before.cores_used, after=after.cores_used),
        memory_mb=models.QuotaUse(
            limit=before.memory_mb, before=before.memory_mb_used, after=after.memory_mb_used
        ),
    )
