"""Made-up requests get described answers; the benchmark ``api-fuzz`` asks twenty times as often."""

from __future__ import annotations

import logging
from pathlib import Path

from bench.api_fuzz import fuzz

CASES = 500


def test_no_request_gets_an_error_of_ours_or_an_answer_that_is_not_described(
    tmp_path: Path,
) -> None:
    logging.getLogger("orchestrator").setLevel(logging.CRITICAL)
    try:
        findings = fuzz(tmp_path, CASES, seed=1)
    finally:
        logging.getLogger("orchestrator").setLevel(logging.NOTSET)
    assert not findings.problems, "\n".join(findings.problems[:10])
    assert findings.cases >= CASES
    # It would be no test if hardly a request got through.
    assert {200, 201, 400, 401, 404} <= set(findings.statuses)
    assert findings.statuses[500] == 0
