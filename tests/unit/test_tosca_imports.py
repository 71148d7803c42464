"""What a template imports: how it is named, what it brings, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.model import DeploymentSpec
from orchestrator.settings import Imports
from orchestrator.tosca import imports
from orchestrator.tosca.compile import base_library, compile_template
from orchestrator.tosca.imports import Document, ImportsNeeded
from orchestrator.tosca.names import Refusal, canonical, url
from orchestrator.tosca.problems import Problem, TemplateInvalid
from orchestrator.tosca.sources import FetchFailed, Gathering, ImportSources
from tests.unit.tosca_support import SOUND, spoilt

BASE = "https://types.example.org/one"
HEAD = "tosca_definitions_version: tosca_simple_yaml_1_3\n"
TYPE = """\
node_types:
  example.nodes.Quiet:
    derived_from: tosca.nodes.Compute
    properties:
      level: {type: integer, default: 1}
"""


def quiet(of: str = "example.nodes.Quiet") -> str:
    """The sound template, using a type that an import must bring."""
    return spoilt("type: tosca.nodes.Compute", f"type: '{of}'")


def importing(*entries: str, template: str | None = None) -> str:
    written = "".join(f"  - {entry}\n" for entry in entries)
    return spoilt("  - vacuo/types.yaml\n", f"  - vacuo/types.yaml\n{written}", template or quiet())


def compiled(
    template: str, documents: Mapping[str, str], origin: str = "", file: str = "mine.yaml"
) -> DeploymentSpec:
    """As the parent of the sandbox does it, without the sandbox."""

    def fetch(name: str) -> bytes:
        if name not in documents:
            raise FetchFailed("there is no such document")
        return documents[name].encode()

    gathering = Gathering(ImportSources(fetch=fetch))
    while True:
        try:
            return compile_template(template, {}, file, gathering.shelf, origin)
        except ImportsNeeded as more:
            if set(more.needed) & set(gathering.shelf):
                raise AssertionError(f"{more.needed} is there") from None
            for name in more.needed:
                gathering.add(name)


def problems(template: str, documents: Mapping[str, str], origin: str = "") -> list[Problem]:
    with pytest.raises(TemplateInvalid) as caught:
        compiled(template, documents, origin)
    return list(caught.value.problems)


TYPES = {f"{BASE}/types.yaml": HEAD + TYPE}


@pytest.mark.parametrize(
    "entry",
    [
        f"{BASE}/types.yaml",
        f"my_types: {BASE}/types.yaml",
        f"{{file: {BASE}/types.yaml}}",
        f"my_types: {{file: '{BASE}/types.yaml', namespace_uri: urn:x}}",
        "{file: one/types.yaml, repository: here}",
        "my_types: {file: ./one/types.yaml, repository: short}",
        "HTTPS://TYPES.example.org:443/one/./two/../types.yaml",
    ],
)
def test_every_way_to_write_an_import_finds_the_document(entry: str) -> None:
    repositories = (
        "repositories:\n  here: {url: 'https://types.example.org/'}\n"
        "  short: https://types.example.org\n"
    )
    spec = compiled(repositories + importing(entry), TYPES)
    content = TYPES[f"{BASE}/types.yaml"].encode()
    assert dict(spec.imports)[f"{BASE}/types.yaml"] == hashlib.sha256(content).hexdigest()


def test_a_prefix_makes_the_types_go_by_it_too() -> None:
    entry = f"{{file: '{BASE}/types.yaml', namespace_prefix: ex}}"
    for name in ("ex:example.nodes.Quiet", "example.nodes.Quiet"):
        assert compiled(importing(entry, template=quiet(name)), TYPES).groups


def test_relative_imports_start_from_the_document_that_has_them() -> None:
    documents = {
        f"{BASE}/all.yaml": f"{HEAD}imports: [more/policies.yaml]\n",
        f"{BASE}/more/policies.yaml": f"{HEAD}imports: [x: ../types.yaml]\n",
        **TYPES,
    }
    spec = compiled(importing(f"{BASE}/all.yaml"), documents)
    assert set(documents) < {name for name, _ in spec.imports}
    assert compiled(importing("all.yaml"), documents, f"{BASE}/template.yaml").groups


def test_a_document_imported_twice_is_no_mistake() -> None:
    documents = {
        f"{BASE}/left.yaml": f"{HEAD}imports: [types.yaml]\n",
        f"{BASE}/right.yaml": f"{HEAD}imports: [types.yaml]\n",
        **TYPES,
    }
    template = importing(*(f"{BASE}/{name}.yaml" for name in ("left", "right", "types")))
    assert compiled(template, documents).groups


def test_a_circle_is_refused_and_shown() -> None:
    documents = {
        f"{BASE}/a.yaml": f"{HEAD}imports:\n  - b.yaml\n",
        f"{BASE}/b.yaml": f"{HEAD}imports:\n  - vacuo/types.yaml\n  - a.yaml\n",
    }
    (circle,) = problems(importing(f"{BASE}/a.yaml", template=SOUND), documents)
    assert (circle.file, circle.line, circle.column) == (f"{BASE}/b.yaml", 4, 5)
    assert f"circle: {BASE}/a.yaml → {BASE}/b.yaml → {BASE}/a.yaml." in circle.sentence
    documents = {f"{BASE}/a.yaml": f"{HEAD}imports: [template.yaml]\n"}
    (own,) = problems(importing("a.yaml", template=SOUND), documents, f"{BASE}/template.yaml")
    assert "template.yaml → " in own.sentence


def test_problems_of_an_imported_document_have_its_name_and_lines() -> None:
    broken = HEAD + TYPE.replace("type: integer", "type: intger")
    found = problems(importing(f"{BASE}/types.yaml", "vacuo/typs.yaml"), {
        f"{BASE}/types.yaml": broken})  # fmt: skip
    assert [(one.file, one.line) for one in found] == [("mine.yaml", 8), (f"{BASE}/types.yaml", 6)]
    assert "intger" in found[1].sentence


def test_an_imported_document_that_is_no_tosca_is_refused() -> None:
    for text, says in (
        ("a: [", "not YAML"),
        ("", "empty"),
        ("- a\n", "must be a mapping"),
        ("tosca_definitions_version: tosca_2_0\n", "not TOSCA 2.0"),
        (f"{HEAD}node_typs: {{}}\n", "node_typs"),
    ):
        found = problems(importing(f"{BASE}/types.yaml", template=SOUND), {
            f"{BASE}/types.yaml": text})  # fmt: skip
        assert says in found[0].message
        assert found[0].file == f"{BASE}/types.yaml"


def test_a_key_twice_in_an_imported_document_is_noted_and_the_last_counts() -> None:
    twice = HEAD + TYPE + "      level: {type: string, default: loud}\n"
    spec = compiled(importing(f"{BASE}/types.yaml"), {f"{BASE}/types.yaml": twice})
    assert any(f"{BASE}/types.yaml:7:7" in note and "twice" in note for note in spec.notes)


def test_a_key_that_nobody_knows_in_an_imported_type_is_noted_unless_it_is_a_slip() -> None:
    odd = HEAD + TYPE.replace("    properties:", "    invented_elsewhere: 1\n    properties:")
    spec = compiled(importing(f"{BASE}/types.yaml"), {f"{BASE}/types.yaml": odd})
    assert any("invented_elsewhere" in note for note in spec.notes)
    slip = HEAD + TYPE.replace("default: 1", "defaut: 1")
    (found,) = problems(importing(f"{BASE}/types.yaml"), {f"{BASE}/types.yaml": slip})
    assert found.suggestion == "Did you mean `default`?"


def test_types_of_the_specification_are_never_changed_by_an_import() -> None:
    changed = (
        f"{HEAD}node_types:\n  tosca.nodes.Compute: {{derived_from: tosca.nodes.Root,"
        " properties: {must: {type: string}}}\n"
    )
    spec = compiled(
        importing(f"{BASE}/types.yaml", template=SOUND), {f"{BASE}/types.yaml": changed}
    )
    assert any("`tosca.nodes.Compute` is a type of the specification" in n for n in spec.notes)


def test_one_type_with_two_definitions_is_refused() -> None:
    documents = {**TYPES, f"{BASE}/other.yaml": HEAD + TYPE.replace("default: 1", "default: 2")}
    template = importing(f"{BASE}/types.yaml", f"{BASE}/other.yaml")
    (found,) = problems(template, documents)
    assert "defined here otherwise" in found.sentence
    assert found.line == 8


def test_what_cannot_be_had_is_said_where_it_is_asked_for_and_all_at_once() -> None:
    found = problems(importing(f"{BASE}/a.yaml", f"x: {BASE}/b.yaml", template=SOUND), {})
    assert [one.line for one in found] == [7, 8]
    assert all("there is no such document" in one.sentence for one in found)


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("file:///etc/passwd", ""), ("FILE:/etc/passwd", ""), ("/etc/passwd", ""), ("~/x", ""),
        ("/etc/passwd", "./a/b.yaml"), ("../../x", "./a/b.yaml"), ("a/../../../x", "./a/b.yaml"),
        ("../../../../x", "https://h.example/a/b.yaml"), ("//h.example/x", "https://g.example/a"),
        ("ftp://h.example/x", ""), ("data:text/plain,x", ""), ("https://u@h.example/x", ""),
        ("https://h.example@127.0.0.1/x", ""), ("https://h.example/x#y", ""), ("a\\..\\b", ""),
        ("a\nb", ""), ("x" * 3000, ""), ("https://h.example:x/", ""), ("https:///x", ""),
        ("https://h.example/../x", ""), ("..", "./a"), (".", "./a"), ("../../x", "indigo/a.yaml"),
        ("a\x00b", ""), ("https://h\u00e9.example/x", ""), ("https://[::1/x", ""),
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(written: str, origin: str) -> None:
    assert isinstance(canonical(written, origin), Refusal)


def test_a_repository_cannot_be_left() -> None:
    repositories = "repositories: {here: 'https://types.example.org/one/'}\n"
    template = repositories + importing("{file: ../types.yaml, repository: here}", template=SOUND)
    assert "leads out of the repository" in problems(template, {})[0].sentence
    template = repositories + importing("{file: x.yaml, repository: her}", template=SOUND)
    assert problems(template, {})[0].suggestion == "Did you mean `here`?"


def test_names_have_one_spelling() -> None:
    assert url("https://H.example:443/a/./b/../c") == "https://h.example/a/c"
    assert canonical("c.yaml", "https://h.example/a/b.yaml") == "https://h.example/a/c.yaml"
    assert canonical("../c.yaml", "./a/b.yaml") == "./c.yaml"
    assert canonical("c.yaml", "indigo/a/b.yaml") == "indigo/a/c.yaml"
    assert canonical("vacuo", "./a") == "vacuo/types.yaml"


def test_a_map_answers_for_its_prefix_and_nothing_is_fetched(tmp_path: Path) -> None:
    def never(name: str) -> bytes:
        raise AssertionError(f"{name} was fetched")

    inside = tmp_path / "map"
    (inside / "deep").mkdir(parents=True)
    (inside / "types.yaml").write_text("a: b\n")
    (inside / "deep" / "types.yaml").write_text("c: d\n")
    (inside / "big.yaml").write_text("#" * 5000)
    (tmp_path / "secret.yaml").write_text("secret\n")
    (inside / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    sources = ImportSources(
        {"https://h.example/": inside, "https://h.example/other/": inside / "deep"},
        fetch=never,
        limits=Imports(document_bytes=1000),
    )

    def found(name: str) -> str:
        one = sources.find(f"https://h.example/{name}")
        return one.text if isinstance(one, Document) else one.sentence

    assert found("types.yaml") == "a: b\n"
    assert found("other/types.yaml") == "c: d\n"
    for name in ("none.yaml", "deep", "link.yaml", "types.yaml?x=1", "other/../none"):
        assert "import map answers" in found(name), name
    assert "more than 1000 bytes" in found("big.yaml")


def test_without_a_place_to_look_nothing_is_found() -> None:
    for name in ("https://h.example/x", "http://h.example/x", "indigo/x.yaml"):
        assert isinstance(ImportSources().find(name), Refusal)


def test_what_was_fetched_serves_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(name: str) -> bytes:
        asked.append(name)
        return b"a: b"

    sources = ImportSources(fetch=fetch)
    for _ in range(3):
        sources.find("https://h.example/x")
    assert asked == ["https://h.example/x"]
    monkeypatch.setattr("orchestrator.tosca.sources.FRESH_SECONDS", 0.0)
    sources.find("https://h.example/x")
    assert len(asked) == 2


def test_imports_have_limits_in_number_size_and_depth() -> None:
    chain = {f"{BASE}/{n}.yaml": f"{HEAD}imports: [{n + 1}.yaml]\n" for n in range(40)}
    deep = problems(importing(f"{BASE}/0.yaml", template=SOUND), chain)
    assert "nested more than 16 levels deep" in deep[0].sentence
    many = {f"{BASE}/{n}.yaml": HEAD for n in range(70)}
    wide = problems(importing(*many, template=SOUND), many)
    assert "at most 64 documents" in wide[0].sentence
    large = {f"{BASE}/{n}.yaml": f"{HEAD}# {'x' * 1_900_000}\n" for n in range(5)}
    assert "at most 8000000 bytes" in problems(importing(*large, template=SOUND), large)[0].sentence


def test_slow_sources_do_not_hold_a_template_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("orchestrator.tosca.sources.time.monotonic", lambda: float(next(clock)))
    many = {f"{BASE}/{n}.yaml": HEAD for n in range(20)}
    found = problems(importing(*many, template=SOUND), many)
    assert "took too long to fetch" in found[0].sentence


def test_what_is_remembered_is_used_while_nothing_changes() -> None:
    names = (f"{BASE}/all.yaml", f"{BASE}/types.yaml")
    texts = {names[0]: f"{HEAD}imports: [types.yaml]\n", names[1]: HEAD + TYPE}
    template = importing(names[0])
    imports.remember(
        {n: d for n, t in texts.items() if isinstance(d := Document.of(n, t.encode()), Document)},
        base_library(),
    )
    try:
        before = compiled(template, texts)
        texts[names[1]] = HEAD + TYPE.replace("Quiet", "Loud")
        assert "no node type" in problems(template, texts)[0].sentence.lower()
        texts[names[1]] = HEAD + TYPE
        assert compiled(template, texts) == before
    finally:
        imports.forget()
