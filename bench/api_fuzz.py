"""Requests made up from the API's own description, good and bad, with and without tokens.

Schemathesis makes them; the server is whole but for its listener.  A finding is an answer that the
description does not have (status, media type, body), or an error of the server's own.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode

from bench.figures import Figure
from orchestrator.model import DeploymentSpec
from orchestrator.settings import Limits
from orchestrator.tosca.sandbox import Compiler
from tests.unit.api_world import TEMPLATE, ApiWorld
from tests.unit.api_world import Compiler as Simple

CASES = 10_000
# What is promised of each answer; the rest of Schemathesis' checks are opinions about an API.
PROMISES = (
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "not_a_server_error",
)
BEARERS = ("alice", "alice", "alice", "mallory", "nobody", "garbage")


@dataclass
class Findings:
    """``statuses`` counts the answers; ``problems`` are what should not have been, in words."""

    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return self.statuses.total()


class _Compiler(Compiler):
    """The real one, that also knows the template of the simulated world."""

    def compile(self, template: str, inputs: Mapping[str, Any]) -> DeploymentSpec:
        if template == TEMPLATE:
            return Simple().compile(template, inputs)
        return super().compile(template, inputs)


def run() -> Sequence[Figure]:
    logging.getLogger("orchestrator").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory:
        findings = fuzz(Path(directory), CASES)
    for problem in findings.problems[:20]:
        print(problem)
    answers = ", ".join(f"{n} of {status}" for status, n in sorted(findings.statuses.items()))
    return [
        Figure(
            "requests",
            findings.cases,
            "",
            answers,
            goal=f"at least {CASES}",
            holds=findings.cases >= CASES,
        ),
        Figure(
            "answers that are not described",
            len(findings.problems),
            "",
            goal="none",
            holds=not findings.problems,
        ),
    ]


def fuzz(directory: Path, cases: int, seed: int | None = None) -> Findings:
    """Ask a server in ``directory`` at least ``cases`` times; the same ``seed`` asks the same."""
    findings = Findings()
    compiler = _Compiler(Limits(), workers=1)
    world = ApiWorld(directory, compiler)
    try:
        schema = schemathesis.openapi.from_wsgi("/openapi.json", world.app)
        operations = [found.ok() for found in schema.get_all_operations()]
        wide = [one for one in operations if one.body or one.query or one.path_parameters]
        for operation in operations:
            if operation not in wide:
                _ask(world, operation, GenerationMode.POSITIVE, len(BEARERS), findings, seed)
        # Hypothesis asks less often where there are fewer ways to; another round makes up for it.
        while findings.cases < cases:
            each = -(-(cases - findings.cases) // (2 * len(wide)))
            for operation in wide:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    _ask(world, operation, mode, each, findings, seed)
    finally:
        world.close()
        compiler.close()
    return findings


def _ask(
    world: ApiWorld,
    operation: Any,
    mode: GenerationMode,
    times: int,
    findings: Findings,
    seed: int | None,
) -> None:
    known = _known(world)

    @hypothesis.settings(
        max_examples=times,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=seed is not None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=mode),
        bearer=st.sampled_from(BEARERS),
        real=st.sampled_from((True, True, True, False)),
    )
    def ask(case: Any, bearer: str, real: bool) -> None:
        if real:  # else all that is asked about deployments is about none
            parameters = case.path_parameters
            parameters.update({name: known[name] for name in known if name in parameters})
            if isinstance(case.body, dict) and isinstance(case.body.get("template"), str):
                case.body["template"] = TEMPLATE
        problem = _problem(case, _headers(world, bearer), findings)
        if problem:
            findings.problems.append(f"{operation.label}, {bearer}: {problem}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ask()
        except hypothesis.errors.Unsatisfiable:
            return  # nothing can be wrong with a request that has nothing in it


def _known(world: ApiWorld) -> dict[str, str]:
    """A deployment and a node that are there."""
    made = world.create()["uuid"]
    world.passes(made, 3)
    return {
        "id": made,
        "rid": world.get(f"/deployments/{made}/resources").json["content"][0]["uuid"],
    }


def _headers(world: ApiWorld, bearer: str) -> dict[str, str]:
    if bearer == "nobody":
        return {}
    if bearer == "garbage":
        return {"Authorization": "Bearer e30.e30.e30"}
    return world.headers(bearer)


def _problem(case: Any, headers: dict[str, str], findings: Findings) -> str:
    checks = [check for check in CHECKS.get_all() if check.__name__ in PROMISES]
    answer = case.call(headers=headers)
    findings.statuses[answer.status_code] += 1
    if answer.status_code in (502, 503):  # a server's error, and described
        checks = [check for check in checks if check.__name__ != "not_a_server_error"]
    try:
        case.validate_response(answer, checks=checks)
    except FailureGroup as group:
        return "; ".join(str(one).replace("\n", " ")[:400] for one in group.exceptions)
    return ""
