"""What the documents say and what the command does are the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from orchestrator import settings
from orchestrator.cli import example, exitcodes
from orchestrator.cli.main import app
from orchestrator.reasons import REGISTRY

USER_DOCS = Path(__file__).resolve().parents[2] / "docs" / "user"


def commands() -> dict[str, Any]:
    """Every command by its full name, groups' commands too."""
    found = {}
    root: Any = get_command(app)
    for name, command in root.commands.items():
        found[name] = command
        for inner, deeper in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = deeper
    return found


def options(command: Any) -> set[str]:
    return {
        word for parameter in command.params for word in parameter.opts if word.startswith("--")
    }


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    assert result.exit_code == exitcodes.OK, result.output
    assert len(commands()[name].help) > 10
    for parameter in commands()[name].params:
        assert parameter.name == "help" or parameter.help, parameter.name


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_option_is_documented(name: str) -> None:
    text = (USER_DOCS / "cli.md").read_text()
    section = re.search(rf"^### `vacuo {re.escape(name)}`\n(.*?)(?=^##)", text, re.M | re.S)
    assert section, f"docs/user/cli.md has no section for vacuo {name}"
    missing = [
        word for word in options(commands()[name]) - {"--help"} if f"`{word}" not in section[1]
    ]
    assert missing == []


def test_no_document_names_a_command_or_an_option_that_does_not_exist() -> None:
    text = (USER_DOCS / "cli.md").read_text()
    named = set(re.findall(r"^### `vacuo ([a-z -]+)`$", text, re.M))
    assert named == set(commands())


def test_global_options_are_documented() -> None:
    text = (USER_DOCS / "cli.md").read_text()
    hidden = {"--install-completion", "--show-completion", "--help", "--version"}
    assert all(f"`{word}" in text for word in options(get_command(app)) - hidden)


def test_exit_codes_are_documented() -> None:
    text = (USER_DOCS / "cli.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", text, re.M))
    assert rows == {str(code): meaning for code, meaning in exitcodes.MEANING.items()}


def test_every_reason_is_documented_and_nothing_else() -> None:
    text = (USER_DOCS / "reasons.md").read_text()
    sections = re.findall(r"^### ([a-z-]+)\n(.+?)(?=\n#|\Z)", text, re.M | re.S)
    assert [code for code, _ in sections] == list(dict.fromkeys(code for code, _ in sections))
    assert {code for code, _ in sections} == set(REGISTRY)
    assert all(len(what) > 40 for _, what in sections)


@pytest.mark.parametrize("code", sorted(REGISTRY))
def test_the_next_command_of_every_reason_exists(code: str) -> None:
    said = REGISTRY[code].next_command
    for found in re.findall(r"\bvacuo .*", said):
        words = shlex.split(found)[1:]
        known = commands()
        name = next(n for n in (" ".join(words[:2]), words[0]) if n in known)
        given = {word for word in words if word.startswith("--")}
        assert given <= options(known[name]), said


def test_the_example_of_the_configuration_is_one_that_the_server_takes(tmp_path: Path) -> None:
    text = example.document()
    lines = [line.removeprefix("#") for line in text.splitlines() if not line.startswith("##")]
    path = tmp_path / "vacuo.yaml"
    path.write_text("\n".join(lines))
    found = settings.load(path, {})
    assert found.sites[0].flavours[0].cores == 2
    assert found.limits == settings.Limits()


def test_the_example_as_it_is_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vacuo.yaml"
    path.write_text(example.document() + "{}\n")
    assert settings.load(path, {}) == settings.Settings()


def test_the_example_shows_every_setting() -> None:
    text = example.document()
    models = (settings.Settings, settings.Site, settings.Pool, settings.Issuer, settings.Limits)
    for model in (*models, settings.Flavour, settings.SiteLimits):
        for name in model.model_fields:
            assert re.search(rf"^#[ -]*{name}:", text, re.M), name
    assert yaml.safe_load(text) is None
