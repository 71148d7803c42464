"""What the tests of the command line share: a server of recorded answers, and a template."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_server import TEMPLATE, Recorded, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Recorded]:
    with serving(tmp_path) as found:
        yield found


@pytest.fixture
def template(tmp_path: Path) -> str:
    path = tmp_path / "site.yaml"
    path.write_text(TEMPLATE)
    return str(path)
