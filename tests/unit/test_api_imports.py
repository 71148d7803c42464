"""Imports and archives through the API: who is not known fetches nothing, a plan shows what was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.settings import Limits
from orchestrator.tosca.sandbox import Compiler
from orchestrator.tosca.sources import ImportSources
from tests.unit.api_world import ApiWorld, submission
from tests.unit.test_tosca_archives import FILES, sent, zipped
from tests.unit.test_tosca_imports import BASE, HEAD, TYPE, importing

TYPES = (HEAD + TYPE).encode()


class Served:
    """A world whose imports are fetched from memory, and what was asked for."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[str] = []
        self.compiler = Compiler(Limits(), workers=1, imports=ImportSources(fetch=self._fetch))
        self.world = ApiWorld(directory, self.compiler)

    def _fetch(self, name: str) -> bytes:
        self.asked.append(name)
        return TYPES

    def post(self, path: str, template: str) -> Any:
        return self.world.send("POST", path, submission(template=template))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.compiler.close()
    made.world.close()


def _in_the_pool(template: str) -> str:
    return template.replace("pool: test", "pool: default")


def test_a_plan_shows_each_import_with_its_checksum(served: Served) -> None:
    answer = served.post("/plan", _in_the_pool(importing(f"{BASE}/types.yaml")))
    assert answer.status_code == 200, answer.text
    found = {one["name"]: one["sha256"] for one in answer.json["imports"]}
    assert found[f"{BASE}/types.yaml"] == hashlib.sha256(TYPES).hexdigest()
    assert "vacuo/types.yaml" in found


def test_nothing_is_fetched_for_somebody_who_is_not_known(served: Served) -> None:
    body = submission(template=importing(f"{BASE}/types.yaml"))
    for path in ("/validate", "/plan", "/deployments"):
        assert served.world.client.post(path, json=body).status_code == 401
    assert served.asked == []


def test_a_broken_import_is_told_with_its_own_name_and_line(served: Served) -> None:
    template = importing(f"{BASE}/types.yaml", "file:///etc/passwd", f"{BASE}/types.yaml")
    answer = served.post("/validate", template)
    assert answer.status_code == 400
    (error,) = answer.json["errors"]
    assert (error["line"], error["path"]) == (8, "imports[2]")


def test_an_archive_is_deployed_and_given_back_as_it_came(served: Served) -> None:
    archive = sent(zipped({n: _in_the_pool(text) for n, text in FILES.items()}))
    made = served.post("/deployments", archive)
    assert made.status_code == 201, made.text
    id = made.json["uuid"]
    assert served.world.get(f"/deployments/{id}/template").text == archive
    assert served.asked == []


def test_a_broken_archive_is_the_senders_mistake(served: Served) -> None:
    answer = served.post("/validate", sent(zipped({"../x.yaml": "a"})))
    assert answer.status_code == 400
    assert "`../x.yaml` is no name" in answer.json["errors"][0]["sentence"]
