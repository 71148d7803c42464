"""Archives: templates with the files they import, and what is refused without being unpacked."""

from __future__ import annotations

import base64
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping

import pytest

from orchestrator.settings import Limits
from orchestrator.tosca import archives, csar
from orchestrator.tosca.archives import BadArchive, unpacked
from orchestrator.tosca.problems import TemplateInvalid
from orchestrator.tosca.sandbox import Compiler
from tests.unit.test_tosca_imports import HEAD, TYPE, importing

META = "TOSCA-Meta-File-Version: 1.1\nCSAR-Version: 1.1\nEntry-Definitions: definitions/site.yaml\n"
FILES = {
    "TOSCA-Metadata/TOSCA.meta": META,
    "definitions/site.yaml": importing("../types/quiet.yaml"),
    "types/quiet.yaml": HEAD + TYPE,
    "scripts/image.bin": "not text",
}


def zipped(files: Mapping[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return content.getvalue()


def entry(name: str, **fields: int) -> bytes:
    """A zip with one entry that is not what it should be."""
    content = io.BytesIO()
    info = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(info, b"target")
    return content.getvalue()


def sent(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    found = Compiler(Limits(), workers=1)
    yield found
    found.close()


def refusal(compiler: Compiler, files: Mapping[str, str | bytes]) -> str:
    with pytest.raises(TemplateInvalid) as caught:
        compiler.compile(sent(zipped(files)), {})
    return caught.value.problems[0].as_text()


def test_a_template_comes_with_the_files_it_imports(compiler: Compiler) -> None:
    spec = compiler.compile(sent(zipped(FILES)), {"cores": 3})
    assert spec.group("worker").requirements.cores == 3
    assert {"types/quiet.yaml", "vacuo/types.yaml"} <= {name for name, _ in spec.imports}
    assert compiler.describe(sent(zipped(FILES))).description == "One worker node."


def test_without_metadata_the_one_template_at_the_root_is_meant(compiler: Compiler) -> None:
    files = {"site.yaml": importing("types/quiet.yaml"), "types/quiet.yaml": HEAD + TYPE}
    assert compiler.compile(sent(zipped(files)), {}).groups
    assert "2 YAML files at its root" in refusal(compiler, {**files, "other.yml": "a: b"})
    assert "0 YAML files at its root" in refusal(compiler, {"a/b.yaml": "a: b"})


def test_problems_name_the_entry(compiler: Compiler) -> None:
    broken = FILES["types/quiet.yaml"].replace("integer", "intger")
    text = refusal(compiler, {**FILES, "types/quiet.yaml": broken})
    assert text.startswith("types/quiet.yaml:6:")
    broken = FILES["definitions/site.yaml"].replace("num_cpus", "num_cpu")
    assert refusal(compiler, {**FILES, "definitions/site.yaml": broken}).startswith(
        "definitions/site.yaml:22:"
    )


def test_imports_stay_in_the_archive(compiler: Compiler) -> None:
    for wanted, says in (
        ("../../etc/passwd", "leads out of the archive"),
        ("/etc/passwd", "absolute path"),
        ("none.yaml", "no file `definitions/none.yaml`"),
        ("../scripts/image.bin", "must be a mapping"),
    ):
        files = {**FILES, "definitions/site.yaml": importing(wanted)}
        assert says in refusal(compiler, files)


@pytest.mark.parametrize(
    ("meta", "says"),
    [
        ("CSAR-Version: 1.1\n", "names no `Entry-Definitions`"),
        ("CSAR-Version: 1.1\n\nEntry-Definitions: definitions/site.yaml\n", "names no"),
        ("Entry-Definitions: definitions/sit.yaml\n", "Did you mean `definitions/site.yaml`?"),
        ("Entry-Definitions: ../x\n", "which is not in the archive"),
        ("\x00\xff", "names no"),
    ],
)
def test_metadata_that_names_no_template_is_refused(
    compiler: Compiler, meta: str, says: str
) -> None:
    assert says in refusal(compiler, {**FILES, "TOSCA-Metadata/TOSCA.meta": meta})


def test_what_is_no_archive_is_refused(compiler: Compiler) -> None:
    whole = zipped(FILES)
    for template in (sent(whole)[:-8], sent(whole[: len(whole) // 2]), sent(whole)[:9] + "!!"):
        with pytest.raises(TemplateInvalid) as caught:
            compiler.compile(template, {}, "mine.csar")
        assert caught.value.problems[0].file == "mine.csar"


def test_base64_may_be_folded(compiler: Compiler) -> None:
    assert compiler.compile(base64.encodebytes(zipped(FILES)).decode(), {}).groups


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "a/./b", "C:/x", "a\\b", "a\nb", "a//b", "x" * 600, ".."]
)
def test_names_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(BadArchive, match="no name for an entry"):
        unpacked(entry(name))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(BadArchive, match="no name for an entry"):
        unpacked(content.getvalue())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_links_and_devices_are_refused(kind: int) -> None:
    with pytest.raises(BadArchive, match="a link or no file"):
        unpacked(entry("x", external_attr=(kind | 0o777) << 16, create_system=3))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_tar_are_refused(kind: bytes) -> None:
    content = io.BytesIO()
    info = tarfile.TarInfo("x")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(info)
    with pytest.raises(BadArchive, match="a link or no file"):
        unpacked(content.getvalue())


def test_what_expands_too_much_is_refused() -> None:
    with pytest.raises(BadArchive, match="expands too much"):
        unpacked(zipped({"bomb": b"\x00" * 1_900_000}))
    with pytest.raises(BadArchive, match=f"more than {archives.FILE_BYTES}"):
        unpacked(zipped({"bomb": b"\x00" * 50_000_000}))
    text = os.urandom(1_800_000)
    with pytest.raises(BadArchive, match=f"more than {archives.TOTAL_BYTES}"):
        unpacked(zipped({str(n): text for n in range(5)}))
    with pytest.raises(BadArchive, match="entries"):
        unpacked(zipped({str(n): "" for n in range(600)}))


def test_a_header_that_tells_less_than_there_is_does_not_help() -> None:
    whole = bytearray(zipped({"bomb": b"\x00" * 50_000_000}))
    size = (50_000_000).to_bytes(4, "little")
    while (at := whole.find(size)) >= 0:
        whole[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(BadArchive):
        unpacked(bytes(whole))


def test_an_entry_twice_is_refused() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("x.yaml", "a")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.yaml", "b")
    with pytest.raises(BadArchive, match="twice"):
        unpacked(content.getvalue())


def test_encrypted_and_odd_methods_are_refused() -> None:
    whole = bytearray(zipped({"x": "y"}))
    central = whole.find(b"PK\x01\x02")
    whole[central + 8] |= 1
    with pytest.raises(BadArchive, match="encrypted"):
        unpacked(bytes(whole))
    with pytest.raises(BadArchive, match="neither stored nor deflated"):
        unpacked(zipped({"x": "y" * 1000}, zipfile.ZIP_LZMA))


def test_a_template_is_not_taken_for_an_archive() -> None:
    assert csar.opened("tosca_definitions_version: x", "f") is None
    assert csar.encoded(b"tosca_definitions_version: x") is None
