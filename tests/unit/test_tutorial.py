"""Whoever follows the tutorial never meets a template that does not work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.tosca.compile import compile_template

PAGE = Path(__file__).parents[2] / "docs" / "user" / "tosca-in-ten-minutes.md"
TEMPLATES = re.findall(
    r"^## ([^\n]*)\n(?:(?!^## ).)*?```yaml\n(.*?)```", PAGE.read_text(), re.S | re.M
)


def test_the_tutorial_has_templates() -> None:
    assert len(TEMPLATES) >= 6
    assert len(TEMPLATES) == PAGE.read_text().count("```yaml")


@pytest.mark.parametrize(("title", "template"), TEMPLATES, ids=[title for title, _ in TEMPLATES])
def test_every_template_of_the_tutorial_is_whole(title: str, template: str) -> None:
    assert compile_template(template, {}, f"{title}.yaml").groups
