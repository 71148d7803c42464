"""Templates of INDIGO and DODAS through the sandbox, their types read already.

With the corpus (``make corpus``, or ``VACUO_CORPUS``) every template of it that imports types; else
one of our own in their style, with small types.  Reference: the first reading of each, types and
all.  A template that is refused counts as well: what it lacks is found by the same way.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure
from bench.world import say
from orchestrator.settings import Limits
from orchestrator.tosca.problems import TemplateInvalid
from orchestrator.tosca.sandbox import Compiler
from orchestrator.tosca.sources import ImportSources
from testbed import corpus

GOAL_MS = 25.0
RUNS = 20
TESTS = Path(__file__).resolve().parents[1] / "tests/unit"
OWN_URL = "https://types.example/"
OWN = f"""\
tosca_definitions_version: tosca_simple_yaml_1_0
imports:
  - custom_types: {OWN_URL}tosca_foreign_types.yaml
topology_template:
  node_templates:
    slave:
      type: tosca.nodes.indigo.LRMS.WorkerNode.Kubernetes
      properties:
        front_end_ip: {{ get_attribute: [ server, private_address, 0 ] }}
      requirements:
        - host: server
    cms:
      type: tosca.nodes.indigo.CmsWnConfig
      properties: {{cms_local_site: T3_XX_Example}}
      requirements:
        - host: slave
    server:
      type: tosca.nodes.indigo.Compute
"""


def run() -> Sequence[Figure]:
    if corpus.is_there():
        imports = ImportSources({corpus.PREFIX: corpus.directory()})
        texts = dict(_of_corpus())
    else:
        say("the corpus is not here (make corpus): one template of our own instead")
        imports = ImportSources({OWN_URL: TESTS})
        texts = {"own": OWN}
    figures = []
    for name, text in texts.items():
        compiler = Compiler(Limits(), workers=1, imports=imports)  # a worker that has read nothing
        try:
            compiler.warm()
            first = _milliseconds(compiler, text, name)
            times = [_milliseconds(compiler, text, name) for _ in range(RUNS)]
        finally:
            compiler.close()
        median = statistics.median(times)
        goal = f"at most {GOAL_MS:g} ms"
        figures.append(Figure(name, median, "ms", "first", first, goal, median <= GOAL_MS))
    return figures


def _of_corpus() -> list[tuple[str, str]]:
    found = []
    for row in corpus.rows():
        path = Path(str(row["path"]))
        if path.suffix == ".json":
            continue
        text = (corpus.directory() / path).read_text(encoding="utf-8")
        if "\nimports:" in text and "types.yaml" in text:
            found.append((path.stem, text))
    return found


def _milliseconds(compiler: Compiler, text: str, name: str) -> float:
    began = time.perf_counter()
    origin = f"{corpus.PREFIX}DODAS-TS/dodas-go-client/master/template"
    with contextlib.suppress(TemplateInvalid):
        compiler.compile(text, {}, f"{name}.yaml", origin=origin)
    return (time.perf_counter() - began) * 1000
