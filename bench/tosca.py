"""What validating a template costs, beside tosca-parser's own time for the same template.

Both in this process, warm, in turn, in CPU time; starting Python counts for neither.
tosca-parser is given the types in the template, as it would have to read them from somewhere; what
Vacuo itself asks of tosca-parser is in Vacuo's time.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import time
from collections.abc import Callable, Sequence

import yaml
from toscaparser.tosca_template import ToscaTemplate

from bench.figures import Figure
from orchestrator.tosca.compile import compile_template

ROUNDS = 25
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
    """One host with one service."""
    ours, theirs = _both(1, ROUNDS)
    return [
        Figure("validate 1 + 1 nodes", ours, "ms", "tosca-parser", theirs,
               f"at most {GOAL_RATIO:g} x", ours <= GOAL_RATIO * theirs)
    ]  # fmt: skip


def large() -> Sequence[Figure]:
    """A hundred hosts with a service each."""
    ours, theirs = _both(PAIRS, 5)
    return [
        Figure(f"validate {PAIRS} + {PAIRS} nodes", ours, "ms", "tosca-parser", theirs,
               f"at most {GOAL_MILLISECONDS:g} ms", ours <= GOAL_MILLISECONDS)
    ]  # fmt: skip


def _both(pairs: int, rounds: int) -> tuple[float, float]:
    """The best of ``rounds`` of each, in milliseconds: what is not ours only ever adds."""
    document = _topology(pairs)
    logging.getLogger("tosca").disabled = True
    logging.getLogger("tosca.model").disabled = True
    ours = lambda: compile_template(_TYPES + document, {}, "bench.yaml")  # noqa: E731
    theirs = lambda: _parse(_PLAIN_TYPES + document)  # noqa: E731
    best = [float("inf"), float("inf")]
    for _ in range(rounds + 1):  # the first fills caches
        for index, work in enumerate((ours, theirs)):
            best[index] = min(best[index], _milliseconds(work))
    return best[0], best[1]


def _parse(text: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        ToscaTemplate(yaml_dict_tpl=yaml.load(text, Loader=yaml.CSafeLoader))


def _milliseconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000
