"""Pinned bundles: copied in whole, used unchanged or not at all, seen by who looks next."""

from __future__ import annotations

import json
import tarfile
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli import exitcodes
from orchestrator.cli.main import app
from orchestrator.errors import Conflict, NotFound, UserError
from orchestrator.outbound import Outbound
from orchestrator.settings import Limits, Settings
from orchestrator.tosca.bundle_sources import bundle_from
from orchestrator.tosca.bundles import Bundles
from orchestrator.tosca.imports import Document
from orchestrator.tosca.names import Refusal
from orchestrator.tosca.problems import TemplateInvalid
from orchestrator.tosca.sandbox import Compiler
from orchestrator.tosca.sources import ImportSources, catalogue_directory, sources_of
from tests.unit.test_outbound import World, certificate, world  # noqa: F401 - fixtures
from tests.unit.test_tosca_archives import zipped
from tests.unit.test_tosca_imports import BASE, HEAD, TYPE, importing

PREFIX = "https://types.example.org/"


@pytest.fixture
def types(tmp_path: Path) -> Path:
    found = tmp_path / "types"
    (found / "one").mkdir(parents=True)
    (found / "one" / "types.yaml").write_text(HEAD + TYPE)
    (found / "playbook.yaml").write_text("- hosts: all\n")
    (found / "README.md").write_text("read me\n")
    return found


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path / "data" / "catalogue")


def put(bundles: Bundles, source: Path, name: str = "mine", prefix: str | None = PREFIX) -> None:
    bundle, content = bundle_from(name, str(source), prefix)
    bundles.put(bundle, content, new=True)


def test_a_bundle_answers_for_its_prefix_and_by_its_name(bundles: Bundles, types: Path) -> None:
    put(bundles, types)
    for name in (f"{BASE}/types.yaml", "mine/one/types.yaml"):
        found = bundles.find(name)
        assert isinstance(found, Document)
        assert found.text == HEAD + TYPE
    assert bundles.find("https://other.example.org/types.yaml") is None
    assert bundles.find("other/one/types.yaml") is None
    missing = bundles.find(f"{PREFIX}one/type.yaml")
    assert isinstance(missing, Refusal)
    assert missing.suggestion == "Did you mean `one/types.yaml`?"
    assert list(bundles.get("mine").files) == ["one/types.yaml"], "what is TOSCA, and no more"


def test_the_longest_prefix_wins(bundles: Bundles, types: Path, tmp_path: Path) -> None:
    put(bundles, types)
    other = tmp_path / "other"
    other.mkdir()
    (other / "types.yaml").write_text(HEAD)
    put(bundles, other, "other", f"{PREFIX}one/")
    found = bundles.find(f"{BASE}/types.yaml")
    assert isinstance(found, Document)
    assert found.text == HEAD


def test_a_file_that_was_changed_is_refused_and_not_used(bundles: Bundles, types: Path) -> None:
    put(bundles, types)
    (stored,) = bundles._directory.glob("objects/*/one/types.yaml")
    for change in (lambda: stored.write_text(HEAD), stored.unlink):
        change()
        found = bundles.find(f"{BASE}/types.yaml")
        assert isinstance(found, Refusal)
        assert "not what was pinned" in found.sentence
        with pytest.raises(UserError, match="not what was pinned"):
            bundles.content(bundles.get("mine"))
    bundle, content = bundle_from("mine", str(types), PREFIX)
    bundles.put(bundle, content, new=False)
    assert isinstance(bundles.find(f"{BASE}/types.yaml"), Document)


def test_names_and_prefixes_belong_to_one(bundles: Bundles, types: Path) -> None:
    put(bundles, types)
    for name, prefix, kind in (
        ("mine", "https://x.example/", Conflict),
        ("other", PREFIX, Conflict),
        ("vacuo", "", UserError),
        ("../up", "", UserError),
        ("Mine", "", UserError),
    ):
        with pytest.raises(kind):
            put(bundles, types, name, prefix)
    with pytest.raises(UserError, match="no URL prefix"):
        put(bundles, types, "other", "file:///etc/")
    assert [bundle.name for bundle in bundles.all()] == ["mine"]


def test_what_is_taken_away_is_gone(bundles: Bundles, types: Path) -> None:
    put(bundles, types)
    bundles.remove("mine")
    assert bundles.find(f"{BASE}/types.yaml") is None
    assert list(bundles._directory.glob("objects/*")) == []
    with pytest.raises(NotFound):
        bundles.remove("mine")


def test_two_bundles_may_have_the_same_content(bundles: Bundles, types: Path) -> None:
    put(bundles, types)
    put(bundles, types, "again", "https://again.example/")
    bundles.remove("mine")
    assert isinstance(bundles.find("again/one/types.yaml"), Document)


def test_broken_documents_and_empty_sources_are_refused(bundles: Bundles, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for content in ("", "a: b\n"):
        (tmp_path / "empty" / "x.yaml").write_text(content)
        with pytest.raises(UserError, match="no TOSCA document"):
            put(bundles, tmp_path / "empty")
    (tmp_path / "empty" / "x.yaml").write_text(HEAD + "a: [\n")
    with pytest.raises(TemplateInvalid):
        put(bundles, tmp_path / "empty")
    with pytest.raises(UserError, match="No such file"):
        put(bundles, tmp_path / "none")
    assert bundles.all() == ()


def test_archives_and_single_files_are_sources(bundles: Bundles, tmp_path: Path) -> None:
    packed = tmp_path / "types.zip"
    packed.write_bytes(zipped({"types-main/one/types.yaml": HEAD, "types-main/x": "y"}))
    put(bundles, packed, "zip", "")
    (tmp_path / "types.yaml").write_text(HEAD)
    with tarfile.open(tmp_path / "types.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "types.yaml", "types.yaml")
    put(bundles, tmp_path / "types.tar.gz", "tar", "")
    put(bundles, tmp_path / "types.yaml", "file", "")
    assert isinstance(bundles.find("zip/one/types.yaml"), Document)
    assert isinstance(bundles.find("tar/types.yaml"), Document)
    assert isinstance(bundles.find("file/types.yaml"), Document)
    (tmp_path / "bad.zip").write_bytes(zipped({"../x.yaml": HEAD}))
    with pytest.raises(UserError, match="no name for an entry"):
        put(bundles, tmp_path / "bad.zip", "bad", "")


def test_links_in_a_directory_are_not_followed(
    bundles: Bundles, types: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.yaml").write_text(HEAD)
    (types / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    put(bundles, types)
    assert "link.yaml" not in bundles.get("mine").files


def test_a_reader_sees_the_old_or_the_new(bundles: Bundles, types: Path) -> None:
    put(bundles, types)
    reader = Bundles(bundles._directory)
    found: list[object] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            found.append(reader.find(f"{BASE}/types.yaml"))

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(30):
        (types / "one" / "types.yaml").write_text(f"{HEAD}# {number}\n")
        bundle, content = bundle_from("mine", str(types), PREFIX)
        bundles.put(bundle, content, new=False)
    done.set()
    thread.join(60)
    assert found
    assert all(isinstance(one, Document) for one in found)


def test_a_compiler_sees_a_new_bundle_at_once_and_the_checksum_is_kept(
    bundles: Bundles, types: Path
) -> None:
    compiler = Compiler(Limits(), workers=1, imports=ImportSources(bundles=bundles))
    template = importing(f"{BASE}/types.yaml")
    try:
        with pytest.raises(TemplateInvalid):
            compiler.compile(template, {})
        put(bundles, types)
        for _ in range(3):
            spec = compiler.compile(template, {})
        digest = bundles.get("mine").files["one/types.yaml"]
        assert (f"{BASE}/types.yaml", digest) in spec.imports
        bundles.remove("mine")
        with pytest.raises(TemplateInvalid):
            compiler.compile(template, {})
    finally:
        compiler.close()


def test_a_server_fetches_from_listed_hosts_only(
    world: World,  # noqa: F811
    tmp_path: Path,
    certificate: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = f"files.example.org:{world.port}"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    given = {"hosts": [at], "private_hosts": [at]}
    settings = Settings.model_validate({"data_directory": tmp_path, "imports": given})
    # The one thing that is not real: the name is in no DNS.
    monkeypatch.setattr(
        "orchestrator.tosca.sources.Outbound",
        lambda guard: Outbound(guard, lambda host, port: ("127.0.0.1",)),
    )
    sources = sources_of(settings)
    found = sources.find(world.url("good"))
    assert isinstance(found, Document)
    assert found.text == "types"
    for url, says in (
        (world.url("redirect"), "redirects are not followed"),
        ("https://example.org/x.yaml", "the administrator lists hosts"),
        (world.url("good").replace("https", "http"), "by https only"),
    ):
        refused = sources.find(url)
        assert isinstance(refused, Refusal)
        assert says in refused.sentence


# --- the commands --------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "vacuo.yaml"
    path.write_text(f"data_directory: {tmp_path / 'data'}\n")
    return path


def vacuo(config: Path, *words: str, given: str = "") -> Result:
    return CliRunner().invoke(app, ["catalogue", *words, "-c", str(config)], input=given)


def test_bundles_are_added_listed_and_removed(config: Path, types: Path) -> None:
    added = vacuo(config, "add", "mine", str(types), "--prefix", PREFIX)
    assert added.exit_code == exitcodes.OK, added.output
    assert "2 files that are no TOSCA" not in added.output  # only YAML is looked at
    shown = json.loads(vacuo(config, "list", "-o", "json").stdout)["bundles"]
    assert [(one["name"], one["prefix"], list(one["files"])) for one in shown] == [
        ("mine", PREFIX, ["one/types.yaml"])
    ]
    assert shown[0]["source"] == str(types)
    assert vacuo(config, "remove", "mine").exit_code == exitcodes.OK
    again = vacuo(config, "remove", "mine")
    assert again.exit_code == exitcodes.ERROR
    assert "no bundle `mine`" in again.output


def test_update_shows_which_types_change_and_asks(config: Path, types: Path) -> None:
    vacuo(config, "add", "mine", str(types), "--prefix", PREFIX)
    same = vacuo(config, "update", "mine")
    assert "nothing has changed" in same.output
    changed = TYPE.replace("default: 1", "default: 2")
    (types / "one" / "types.yaml").write_text(
        f"{HEAD}{changed}  example.nodes.Loud: {{derived_from: tosca.nodes.Compute}}\n"
    )
    refused = vacuo(config, "update", "mine", given="n\n")
    assert "+ example.nodes.Loud" in refused.output
    assert "~ example.nodes.Quiet" in refused.output
    bundles = Bundles(catalogue_directory(Settings(data_directory=config.parent / "data")))
    before = bundles.get("mine").sha256
    done = vacuo(config, "update", "mine", "--yes", "-o", "json")
    told = json.loads(done.stdout)["update"]
    assert told["types"]["added"] == ["example.nodes.Loud"]
    assert bundles.get("mine").sha256 != before


def test_validate_takes_an_import_map(types: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(importing(f"{BASE}/types.yaml"))
    runner = CliRunner(env={"VACUO_SERVER": "http://127.0.0.1:9"})
    assert runner.invoke(app, ["validate", str(template)]).exit_code == exitcodes.ERROR
    mapped = runner.invoke(app, ["validate", str(template), "--import-map", f"{PREFIX}={types}"])
    assert mapped.exit_code == exitcodes.OK, mapped.output
    wrong = runner.invoke(app, ["validate", str(template), "--import-map", f"{PREFIX}=/none"])
    assert wrong.exit_code == exitcodes.ERROR


def test_validate_takes_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "site.csar"
    archive.write_bytes(
        zipped({"site.yaml": importing("types/quiet.yaml"), "types/quiet.yaml": HEAD + TYPE})
    )
    result = CliRunner().invoke(app, ["validate", str(archive), "-p", "cores=3"])
    assert result.exit_code == exitcodes.OK, result.output
