"""Every claim of docs/admin/security.md names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/admin/security.md").read_text()
HEADINGS = (
    "Tokens",
    "Access",
    "Secrets",
    "Hostile input",
    "The sandbox",
    "HTTP",
    "Browsers",
    "Audit",
)


@cache
def existing() -> frozenset[str]:
    """The names of all tests that pytest would collect."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return frozenset(found)


def claims(heading: str) -> list[tuple[str, list[str]]]:
    """The rows of the table under ``heading``: the claim, and the tests it names."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section, f"there is no section {heading}"
    head, _, body = section[1].partition("|---|---|\n")
    assert head.strip().endswith("| claim | test |")
    found = []
    for line in body.splitlines():
        if not line.startswith("|"):
            continue
        claim, tests = line.strip("|").rsplit("|", 1)
        found.append((claim.strip(), re.findall(r"`([^`]+)`", tests)))
    return found


@pytest.mark.parametrize("heading", HEADINGS)
def test_each_claim_names_tests_that_exist(heading: str) -> None:
    rows = claims(heading)
    assert rows, "a section without a claim"
    for claim, tests in rows:
        assert claim
        assert tests, f"no test is named for: {claim}"
        missing = sorted(set(tests) - existing())
        assert not missing, f"{claim}: there is no {', '.join(missing)}"


def test_no_claim_is_made_outside_the_sections_that_are_checked() -> None:
    assert PAGE.count("| claim | test |") == len(HEADINGS)


def test_the_page_says_what_is_not_protected() -> None:
    section = re.search(r"^## What is not protected\n(.*?)(?=^## )", PAGE, re.M | re.S)
    assert section
    assert section[1].count("\n- **") + 1 >= 5
