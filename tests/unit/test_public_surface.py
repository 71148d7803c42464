"""Nothing public is undocumented, and no document tells of what is not there.

Other tests hold for their part: routes and ``docs/user/api.md`` (``test_api_routes``), commands,
exit codes and reasons (``test_cli_docs``), roles' variables (``test_configure_role_contracts``).
"""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

from orchestrator import settings
from orchestrator.cli.main import app
from orchestrator.errors import UserError
from orchestrator.reasons import REGISTRY
from orchestrator.settings import Settings
from orchestrator.tosca import catalogue

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = (ROOT / "docs/admin/configuration.md").read_text()
ROOT_COMMAND: Any = get_command(app)
COMMANDS: dict[str, Any] = ROOT_COMMAND.commands
TOSCA = (ROOT / "docs/user/tosca.md").read_text()

# --- settings: docs/admin/configuration.md ------------------------------------------------------

SECTIONS = {
    "The top level": Settings,
    "sites": settings.Site,
    "sites: flavours": settings.Flavour,
    "sites: limits": settings.SiteLimits,
    "pools": settings.Pool,
    "issuers": settings.Issuer,
    "imports": settings.Imports,
    "secrets": settings.Secrets,
    "callbacks": settings.Callbacks,
    "templates": settings.Templates,
    "templates: playbooks": settings.ForeignPlaybook,
    "limits": settings.Limits,
}
WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "boolean",
    Path: "path",
    dict: "mapping",
}


def section(document: str, heading: str) -> str:
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", document, re.M | re.S)
    assert found, f"there is no section {heading}"
    return found[1]


def rows(text: str) -> dict[str, list[str]]:
    """The tables of ``text``: name in the first cell to the other cells."""
    found: dict[str, list[str]] = {}
    for name, rest in re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, re.M):
        assert name not in found, f"{name} is there twice"
        found[name] = [cell.strip() for cell in rest.split("|")]
    return found


def kind(annotation: Any) -> str:
    """The type of a setting, in the words of the document."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kind(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{word}`" for word in arguments)
    if origin is tuple:
        return f"list of {kind(arguments[0])}"
    if origin in (types.UnionType, typing.Union):
        return kind(next(one for one in arguments if one is not type(None)))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        name = next(name for name, model in SECTIONS.items() if model is annotation)
        return f"[{name}](#{name.replace(': ', '-')})"
    return WORDS[origin or annotation]


def default(field: FieldInfo) -> str:
    """The default of a setting, as the document writes it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}, "") or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@pytest.mark.parametrize("name", SECTIONS)
def test_every_setting_is_documented_with_its_type_and_default(name: str) -> None:
    fields = SECTIONS[name].model_fields
    documented = rows(section(CONFIGURATION, name))
    assert list(documented) == list(fields)
    for field, (type_, default_, meaning) in documented.items():
        assert (type_, default_) == (kind(fields[field].annotation), default(fields[field])), field
        assert len(meaning) > 10, field
        assert meaning.endswith("."), field


def test_no_section_of_the_settings_is_left_out() -> None:
    def reached(model: type[BaseModel]) -> set[type[BaseModel]]:
        inner = [
            one for f in model.model_fields.values() for one in settings.sections(f.annotation)
        ]
        return {model}.union(*(reached(one) for one in inner))

    assert reached(Settings) == set(SECTIONS.values())


def test_every_setting_has_a_description_in_the_example() -> None:
    for model in SECTIONS.values():
        assert all(field.description for field in model.model_fields.values()), model


def test_every_variable_of_the_environment_is_documented_and_read() -> None:
    documented = set(rows(section(CONFIGURATION, "The environment")))
    assert documented >= {f"VACUO_{name.upper()}" for name in settings.scalars()}
    read: set[str] = set()
    for path in (ROOT / "orchestrator").rglob("*.py"):
        read |= set(re.findall(r"\bVACUO_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
    assert read - documented <= {"VACUO_SERVER", "VACUO_OIDC_ACCOUNT"}
    assert documented <= read | {f"VACUO_{name.upper()}" for name in settings.scalars()}


EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", CONFIGURATION, re.M | re.S)


@pytest.mark.parametrize("text", EXAMPLES, ids=["one machine", "foreign pool", "simulated"])
def test_the_examples_are_taken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vacuo.yaml"
    path.write_text(text)
    found = settings.load(path, {})
    assert found.sites
    assert found.pools[0].name == "default"


def test_the_example_of_mistakes_is_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "vacuo.yaml"
    flavour = "      - {name: small, cores: 1, memory: 1, disk_gb: 1}\n"
    path.write_text(f"sites:\n  - name: a\n    provider: local\n    flavours:\n{flavour}")
    with pytest.raises(UserError) as caught:
        settings.load(path, {"VACUO_LISTEN": "here"})
    for line in caught.value.why.splitlines():
        assert line.replace(str(path), "/etc/vacuo/vacuo.yaml") in CONFIGURATION


# --- TOSCA: docs/user/tosca.md ------------------------------------------------------------------

BUNDLE = catalogue.load("vacuo/types.yaml")
assert BUNDLE is not None
TYPES: dict[str, dict[str, Any]] = {
    name: definition
    for kind_ in ("node_types", "policy_types")
    for name, definition in BUNDLE.sections[kind_].items()
}
# Types that templates derive from and do not use; the chapter on own services has them.
BASES = {"vacuo.nodes.Service", "vacuo.nodes.PoolMember", "vacuo.nodes.Pool"}


def type_rows() -> dict[str, str]:
    text = section(TOSCA, "Types") + section(TOSCA, "Policies")
    return {name: " ".join(cells) for name, cells in rows(text).items()}


def test_every_type_is_documented_and_no_other() -> None:
    ours = {name for name in type_rows() if name.startswith("vacuo.")}
    assert ours == set(TYPES) - BASES
    assert all(name in TOSCA for name in BASES)


@pytest.mark.parametrize("name", sorted(set(TYPES) - BASES))
def test_every_property_of_a_type_is_documented(name: str) -> None:
    documented = set(re.findall(r"`([a-z_.0-9]+)`", type_rows()[name]))
    own = set(TYPES[name].get("properties") or {})
    inherited: set[str] = set()
    base: str | None = TYPES[name].get("derived_from")
    while base in TYPES:
        inherited |= set(TYPES[base].get("properties") or {})
        base = TYPES[base].get("derived_from")
    assert own <= documented, own - documented
    requirements = {word for one in TYPES[name].get("requirements") or [] for word in one}
    assert requirements - {"host"} <= documented
    capabilities = {"os.image", "scalable.removal_list"} if name == "vacuo.nodes.Host" else set()
    assert documented <= own | inherited | requirements | capabilities


def test_every_shipped_template_is_documented() -> None:
    shipped = {template.path.name for template in catalogue.templates()}
    assert shipped == {name for name in rows(TOSCA) if name.endswith(".yaml")}


def test_defaults_of_policies_are_as_documented() -> None:
    told = dict(re.findall(r"`([a-z_]+)` \(([^)]+)\)", type_rows()["vacuo.policies.Vacuum"]))
    properties = TYPES["vacuo.policies.Vacuum"]["properties"]
    fixed = {name: str(one["default"]) for name, one in properties.items() if "default" in one}
    assert fixed.items() <= told.items()
    assert set(told) == set(properties)


# --- what a developer types ---------------------------------------------------------------------


def test_every_target_of_make_is_in_its_help() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.M))
    explained = set(re.findall(r"^([a-z-]+):.*## ", text, re.M))
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)$", text, re.M))
    assert targets == explained == phony


# --- what an administrator types ----------------------------------------------------------------

INSTALLATION = (ROOT / "docs/admin/installation.md").read_text()


def test_the_unit_is_the_one_in_the_document() -> None:
    unit = (ROOT / "setup/vacuo.service").read_text()
    assert f"```ini\n{unit}```" in INSTALLATION
    [start] = re.findall(r"^ExecStart=/opt/vacuo/bin/vacuo (.*)$", unit, re.M)
    assert start.split()[0] in COMMANDS


def test_the_table_for_the_night_names_codes_and_commands_that_exist() -> None:
    table = [
        line
        for line in INSTALLATION.splitlines()
        if re.match(r"\| [a-z ]*[^|]*\| `[a-z-]+` \|", line)
    ]
    codes = [line.split("|")[2].strip(" `") for line in table]
    assert len(codes) > 12
    assert set(codes) <= set(REGISTRY)


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_documents_name_commands_and_options_that_exist(path: Path) -> None:
    """Where a document shows what to type: in code, between backquotes or indented."""
    text = path.read_text()
    shown = re.findall(r"`vacuo ([^`\n]+)`", text) + re.findall(r"^    vacuo (.+)$", text, re.M)
    for line in shown:
        words = re.split(r"\s+(?:#|&|\||--\s)", line)[0].split()
        command = COMMANDS.get(words[0])
        if words[0].startswith("-"):
            continue
        assert command, f"vacuo {line}"
        inner = getattr(command, "commands", {}).get(words[1] if len(words) > 1 else "")
        known = {
            o for one in (ROOT_COMMAND, command, inner) if one for p in one.params for o in p.opts
        }
        for word in words[1:]:
            option = word.split("=")[0]
            assert not re.fullmatch(r"--?[a-z][a-z-]*", option) or option in known, f"vacuo {line}"


# --- changes ------------------------------------------------------------------------------------


def test_fragments_of_changes_are_of_a_known_kind() -> None:
    kinds = set(rows((ROOT / "changes/README.md").read_text()))
    for path in (ROOT / "changes").iterdir():
        if path.name != "README.md":
            area, kind_, end = path.name.split(".")
            assert re.fullmatch(r"[a-z-]+", area), path.name
            assert (kind_ in kinds, end) == (True, "md"), path.name
            assert 20 < len(path.read_text()) < 400, path.name


# --- documents ----------------------------------------------------------------------------------

DOCUMENTS = sorted(
    path
    for directory in ("docs", "iam", "monitoring", "xcache", "changes", "images")
    for path in (ROOT / directory).rglob("*.md")
)


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), target


def test_every_document_is_listed() -> None:
    index = (ROOT / "docs/README.md").read_text()
    listed = {(ROOT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)#]+)", index)}
    for path in (ROOT / "docs").rglob("*.md"):
        assert path == ROOT / "docs/README.md" or {path, path.parent} & listed, path


def test_decisions_are_numbered_without_gaps_and_short() -> None:
    records = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [path.name[:4] for path in records] == [f"{n + 1:04}" for n in range(len(records))]
    for path in records:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]}: ")
        assert all(f"\n## {part}\n" in text for part in ("Context", "Decision", "Rejected"))
        assert len(text.splitlines()) <= 40, path
