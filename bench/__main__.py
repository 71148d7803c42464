"""``make bench``: run the benchmarks; exit code 1 if a goal was missed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from bench import api_fuzz, configure, first_job, hostile, indigo, reaction, tokens, tosca
from bench.figures import Figure, report

BENCHMARKS: dict[str, Callable[[], Sequence[Figure]]] = {
    "reaction": reaction.run,
    "first-job": first_job.run,
    "tosca-small": tosca.small,
    "tosca-200": tosca.large,
    "configure": configure.run,
    "tosca-hostile": hostile.run,
    "tosca-indigo": indigo.run,
    "tokens": tokens.run,
    "api-fuzz": api_fuzz.run,
}


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"There is no benchmark {unknown[0]}; there are: {', '.join(BENCHMARKS)}.")
        return 2
    missed = 0
    for name in names or BENCHMARKS:
        print(f"bench: {name}", file=sys.stderr)
        figures = BENCHMARKS[name]()
        report(name, figures)
        missed += sum(figure.holds is False for figure in figures)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
