"""Libraries with known holes are below the lower bounds of what we ask for."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from testbed import audit

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
REQUIREMENTS = {
    re.sub(r"[-_.]+", "-", found.name).lower(): found
    for found in map(Requirement, PROJECT["project"]["dependencies"])
}
# The library, the last version with the hole, and what it is.
HOLES = [
    ("pyjwt", "2.12.99", "CVE-2026-48526: algorithm confusion; CVE-2026-32597: crit is ignored"),
    ("authlib", "1.6.8", "CVE-2026-27962; CVE-2025-61920: a token without end"),
]


@pytest.mark.parametrize(("name", "last", "hole"), HOLES)
def test_a_version_with_a_known_hole_cannot_be_installed(name: str, last: str, hole: str) -> None:
    assert not REQUIREMENTS[name].specifier.contains(last, prereleases=True), hole
    assert Version(version(name)) > Version(last), hole


def test_every_library_has_a_lower_bound() -> None:
    without = [
        name
        for name, found in REQUIREMENTS.items()
        if not any(part.operator in (">=", ">", "==", "~=") for part in found.specifier)
    ]
    assert without == []


@pytest.mark.parametrize(
    ("library", "code", "says"),
    [
        ({"vulns": []}, 0, "0 known holes in 1 libraries"),
        ({"vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}, 1, "CVE-1, mended in 2"),
        ({"skip_reason": "Dependency not found on PyPI"}, 3, "nothing is known"),
    ],
)
def test_an_audit_that_looked_at_nothing_does_not_say_that_all_is_well(
    library: dict[str, object], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.report([{"name": "lib", "version": "1", **library}]) == code
    assert says in capsys.readouterr().out
