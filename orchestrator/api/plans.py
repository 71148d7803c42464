"""Plans, validation and explanations: what would be done, and why it is as it is."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from orchestrator.api import models, present, present_plan
from orchestrator.api.deployments import ignored, submission
from orchestrator.api.requests import deployment, orchestrator
from orchestrator.api.specification import operation
from orchestrator.identity.policy import Access

blueprint = Blueprint("plans", __name__)


@operation(blueprint, "POST", "/validate", Access.AUTHENTICATED, answers={200: models.Validated})
def validate(
    json: models.SubmissionBody, query: models.NoQuery
) -> tuple[models.Validated, int, dict[str, str]]:
    """Check a template; every problem is named."""
    return present.validated(orchestrator().validate(submission(json))), 200, ignored(json)


@operation(
    blueprint,
    "POST",
    "/plan",
    Access.AUTHENTICATED,
    answers={200: models.Plan},
    errors=(502,),
)
def plan(
    json: models.SubmissionBody, query: models.NoQuery
) -> tuple[models.Plan, int, dict[str, str]]:
    """What a deployment of this template would do; nothing is kept."""
    return present_plan.plan(orchestrator().preview(submission(json))), 200, ignored(json)


@operation(
    blueprint,
    "GET",
    "/deployments/<id>/plan",
    Access.SEE,
    answers={200: models.Plan},
    errors=(502,),
)
def get_plan(id: str, query: models.NoQuery) -> models.Plan:
    """What the next pass would do."""
    return present_plan.plan(orchestrator().preview_of(deployment().id))


@operation(
    blueprint,
    "POST",
    "/deployments/<id>/plan",
    Access.CHANGE,
    answers={200: models.Plan},
    errors=(502,),
)
def plan_update(
    id: str, json: models.SubmissionBody, query: models.NoQuery
) -> tuple[models.Plan, int, dict[str, str]]:
    """What an update with this template would do; nothing is changed."""
    preview = orchestrator().preview_of(deployment().id, submission(json))
    return present_plan.plan(preview), 200, ignored(json)


@operation(
    blueprint,
    "GET",
    "/deployments/<id>/explain",
    Access.SEE,
    answers={200: models.Explanation},
    errors=(502,),
)
def explain(id: str, query: models.ExplainQuery) -> models.Explanation:
    """Why the deployment, one of its nodes, or a job is as it is."""
    return present.explanation(orchestrator().explain(deployment().id, query.subject))


@operation(
    blueprint, "GET", "/schemas/plan.json", Access.PUBLIC, answers={200: "application/schema+json"}
)
def get_plan_schema() -> Response:
    """The JSON Schema of a plan."""
    answer = jsonify(models.plan_schema())
    answer.content_type = "application/schema+json"
    return answer
