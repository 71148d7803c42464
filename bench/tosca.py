"""What validating a template costs, beside tosca-parser's own time for the same template.

Both in this process, warm, in turn, in CPU time; starting Python counts for neither.
What Vacuo itself asks of tosca-parser is in its time.  Where a template imports Vacuo's types,
tosca-parser reads them from the files, as it does in anybody's hands; the last case has its types
in the template, so that neither imports a thing.
"""

from __future__ import annotations

import gc
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from toscaparser.tosca_template import ToscaTemplate

from bench.figures import Figure
from orchestrator.tosca import catalogue
from orchestrator.tosca.compile import compile_template

ROUNDS = 25
SMALL = "squid"
PAIRS = 100
GOAL_RATIO = 1.5
GOAL_MILLISECONDS = 150.0

_TYPES = """\
tosca_definitions_version: tosca_simple_yaml_1_3
imports: [vacuo/types.yaml]
node_types:
  bench.Server:
    derived_from: vacuo.nodes.Service
    properties:
      port: { type: integer, default: 80, constraints: [ { in_range: [1, 65535] } ] }
      peer: { type: string, required: false }
    requirements:
      - host:
          capability: tosca.capabilities.Container
          node: tosca.nodes.Compute
          relationship: tosca.relationships.HostedOn
          occurrences: [1, 1]
    interfaces: { Standard: { configure: vacuo.site.server } }
"""
# The same for a parser that knows none of our types.
_PLAIN_TYPES = _TYPES.replace("imports: [vacuo/types.yaml]\n", "").replace(
    "derived_from: vacuo.nodes.Service", "derived_from: tosca.nodes.SoftwareComponent"
)
_PLAIN_TYPES = _PLAIN_TYPES.replace(
    "    interfaces: { Standard: { configure: vacuo.site.server } }\n", ""
)


def _topology(pairs: int) -> str:
    lines = [
        "topology_template:",
        "  inputs:",
        "    cores: { type: integer, default: 2, constraints: [ { in_range: [1, 64] } ] }",
        "  node_templates:",
    ]
    for number in range(pairs):
        lines += [
            f"    host{number}:",
            "      type: tosca.nodes.Compute",
            "      capabilities:",
            "        host: { properties: { num_cpus: { get_input: cores }, mem_size: 4 GB } }",
            f"    server{number}:",
            "      type: bench.Server",
            f"      properties: {{ port: {8000 + number}, peer: server }}",
            f"      requirements: [ {{ host: host{number} }} ]",
        ]
    lines += ["  outputs:", "    address: { value: { get_attribute: [host0, private_address] } }"]
    return "\n".join(lines) + "\n"


def small() -> Sequence[Figure]:
    """A shipped template of one host with one service; and one with its types in it."""
    shipped = next(one for one in catalogue.templates() if one.name == SMALL)
    text = shipped.path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        types = str(shipped.path.parent / "types" / "types.yaml")
        beside = Path(directory) / shipped.path.name
        beside.write_text(text.replace("vacuo/types.yaml", types))
        ours, theirs = _best(
            lambda: compile_template(text, {}, shipped.path.name),
            lambda: ToscaTemplate(str(beside)),
            ROUNDS,
        )
    alone, parser_alone = _both(1, ROUNDS)
    return [
        Figure(f"validate {shipped.path.name}", ours, "ms", "tosca-parser", theirs,
               f"at most {GOAL_RATIO:g} x", ours <= GOAL_RATIO * theirs),
        Figure("validate 1 + 1 nodes that import nothing", alone, "ms", "tosca-parser",
               parser_alone),
    ]  # fmt: skip


def large() -> Sequence[Figure]:
    """A hundred hosts with a service each."""
    ours, theirs = _both(PAIRS, 5)
    return [
        Figure(f"validate {PAIRS} + {PAIRS} nodes", ours, "ms", "tosca-parser", theirs,
               f"at most {GOAL_MILLISECONDS:g} ms", ours <= GOAL_MILLISECONDS)
    ]  # fmt: skip


def _both(pairs: int, rounds: int) -> tuple[float, float]:
    document = _topology(pairs)
    return _best(
        lambda: compile_template(_TYPES + document, {}, "bench.yaml"),
        lambda: ToscaTemplate(yaml_dict_tpl=_loaded(_PLAIN_TYPES + document)),
        rounds,
    )


def _best(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """The best of ``rounds`` of each, in milliseconds: what is not ours only ever adds."""
    for name in ("tosca", "tosca.model"):
        logging.getLogger(name).disabled = True
    best = [float("inf"), float("inf")]
    for _ in range(rounds + 1):  # the first fills caches
        for index, work in enumerate((ours, theirs)):
            best[index] = min(best[index], _milliseconds(work))
    return best[0], best[1]


def _loaded(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _milliseconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000
