"""Every document that INDIGO and DODAS publish compiles, or is refused for the reason in the table.

The documents are not ours and not here: ``VACUO_CORPUS`` names a directory that has them, or
``make corpus`` fetches them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model import DeploymentSpec
from orchestrator.tosca.compile import compile_template
from orchestrator.tosca.problems import TemplateInvalid
from orchestrator.tosca.sources import ImportSources
from testbed import corpus
from tests.unit.tosca_support import with_imports

ROWS = corpus.rows()
# These import by a path below their repository, in which their own tests are run.
REPOSITORY = "DODAS-TS/dodas-go-client/master/"

needs_corpus = pytest.mark.skipif(
    not corpus.is_there(),
    reason=f"the published templates are not here: run `make corpus`, or set {corpus.VARIABLE}",
)


def compiled(path: str, inputs: dict[str, Any] | None = None) -> DeploymentSpec:
    """The document at ``path``, with its imports from the corpus."""
    origin = f"{corpus.PREFIX}{REPOSITORY}template" if path.startswith(REPOSITORY) else ""
    text = (corpus.directory() / path).read_text(encoding="utf-8")
    return with_imports(
        lambda shelf: compile_template(text, inputs or {}, Path(path).name, shelf, origin),
        ImportSources({corpus.PREFIX: corpus.directory()}),
    )


@needs_corpus
@pytest.mark.parametrize("row", ROWS, ids=[str(row["path"]) for row in ROWS])
def test_it_compiles_or_is_refused_for_the_reason_in_the_table(row: dict[str, Any]) -> None:
    path = str(row["path"])
    content = (corpus.directory() / path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == row["sha256"], "another document than the table's"
    if "compiles" in row:
        spec = compiled(path)
        roles = {
            str(group.name): [service.role.rpartition(".")[2] for service in group.services]
            for group in spec.groups
        }
        assert roles == row["compiles"]
        return
    with pytest.raises(TemplateInvalid) as caught:
        compiled(path)
    own = Path(path).name
    found = [
        (f"{'' if one.file == own else Path(one.file).name + ':'}{one.line}", one.sentence)
        for one in caught.value.problems
    ]
    assert [where for where, _ in found] == [where for where, _ in row["refused"]]
    for (_, sentence), (_, part) in zip(found, row["refused"], strict=True):
        assert part in sentence


@needs_corpus
def test_no_document_of_the_corpus_lacks_a_row() -> None:
    there = {
        str(path.relative_to(corpus.directory()))
        for path in corpus.directory().rglob("*")
        if path.suffix in (".yaml", ".yml", ".json")
    }
    assert there == {row["path"] for row in ROWS}


@needs_corpus
@pytest.mark.parametrize("name", ["compute_tosca", "inputs/tosca_inputs_required_not_given"])
def test_with_its_inputs_given_a_plain_host_compiles(name: str) -> None:
    path = f"indigo-dc/orchestrator/master/src/test/resources/tosca/{name}.yaml"
    (group,) = compiled(path, {"cpus": 4}).groups
    needs = group.requirements
    assert (needs.cores, needs.memory_mb, needs.disk_gb) == (4, 1954, 10)


def test_the_table_says_of_each_document_what_becomes_of_it_and_why() -> None:
    assert len({row["path"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert len(str(row["sha256"])) == 64
        assert str(row["why"]).endswith(".")
        assert ("compiles" in row) != ("refused" in row)
        assert row.get("compiles") or row.get("refused")
