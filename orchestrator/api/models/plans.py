"""A plan: what would be done, and why so.  ``/schemas/plan.json`` is made of this."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from orchestrator.api.models.deployments import Imported
from orchestrator.api.models.wire import Answer, Reason
from orchestrator.model import NodeState


class Mark(StrEnum):
    """What becomes of a thing: it is made, changed, removed, or left."""

    MADE = "+"
    CHANGED = "~"
    REMOVED = "-"
    LEFT = "="


Effect = Literal["create", "reconfigure", "replace", "remove", "keep"]


class PlanSummary(Answer):
    """Groups by what becomes of them."""

    create: int
    change: int
    delete: int


class PlannedNodes(Answer):
    """Nodes by what becomes of them; a replaced one also has its successor among the created."""

    create: int
    reconfigure: int
    replace: int
    remove: int
    keep: int


class PlannedNode(Answer):
    """``name`` and ``state`` are null for a node that is not there yet."""

    action: Mark
    effect: Effect
    name: str | None
    state: NodeState | None
    site: str
    flavour: str
    image: str
    cores: int
    memory_mb: int
    why: str


class PlannedService(Answer):
    action: Mark
    template: str
    role: str


class Candidate(Answer):
    """A flavour of a site: whether the next node is to be one, and if not, why not."""

    site: str
    flavour: str
    chosen: bool
    price_per_hour: float | None
    why: str


class PlannedChange(Answer):
    """``before`` and ``after`` are empty where they are not shown: values may be secret."""

    what: str
    effect: Literal["scale", "reconfigure", "rebuild"]
    before: str
    after: str
    why: str


class Cost(Answer):
    """In the currency of the sites' prices; null where no price is known, or nothing expires."""

    per_hour_now: float | None
    per_hour_after: float | None
    per_hour_at_most: float | None
    to_expiry: float | None


class PlannedGroup(Answer):
    name: str
    action: Mark
    now: int
    wanted: int
    minimum: int
    maximum: int
    pool: str | None
    cores: int
    memory_mb: int
    disk_gb: int
    site: str | None
    flavour: str | None
    image: str | None
    price_per_hour: float | None
    cost: Cost
    changes: list[PlannedChange]
    candidates: list[Candidate]
    nodes: list[PlannedNode]
    services: list[PlannedService]
    reasons: list[Reason]


class QuotaUse(Answer):
    """``limit`` is null where there is none."""

    limit: int | None
    before: int
    after: int


class SiteQuota(Answer):
    instances: QuotaUse
    cores: QuotaUse
    memory_mb: QuotaUse


class PlannedSite(Answer):
    """``quota`` is null where it cannot be known now; ``why`` says why."""

    name: str
    create: int
    remove: int
    quota: SiteQuota | None
    why: str


class Plan(Answer):
    """What would be done, up to where nothing is left to do."""

    format: Literal["vacuo.plan/1"] = "vacuo.plan/1"
    deployment: str | None
    changes: bool
    complete: bool
    summary: PlanSummary
    nodes: PlannedNodes
    sites: list[PlannedSite]
    groups: list[PlannedGroup]
    cost: Cost
    imports: list[Imported]
    notes: list[str]
    reasons: list[Reason]


def plan_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a plan."""
    schema = Plan.model_json_schema(by_alias=True, mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "/schemas/plan.json",
        **schema,
        "title": "A plan of Vacuo",
    }
