"""Fetch the real templates that the tests have a table of: ``make corpus``.

They are other people's documents and not a part of this repository; each is taken only if it is
the one that the table is about.  Nothing here is needed to build or to run Vacuo.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import yaml

from orchestrator.outbound import Guard, Outbound, OutboundError

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests/unit/tosca_corpus.yaml"
HOST = "raw.githubusercontent.com"
PREFIX = f"https://{HOST}/"
VARIABLE = "VACUO_CORPUS"


def directory() -> Path:
    """Where the corpus is, or would be."""
    return Path(os.environ.get(VARIABLE) or ROOT / "build/corpus")


def rows() -> list[dict[str, object]]:
    return list(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def is_there() -> bool:
    """Whether every document of the table is in the corpus."""
    return all((directory() / str(row["path"])).is_file() for row in rows())


def main() -> int:
    """Fetch what is missing; exit code 1 where a document cannot be had, or is another one."""
    outbound = Outbound(Guard(hosts=(HOST,)))
    failed = 0
    for row in rows():
        target = directory() / str(row["path"])
        if target.is_file():
            continue
        try:
            content = outbound.get(PREFIX + str(row["path"]))
        except OutboundError as error:
            print(f"{row['path']}: {error}.", file=sys.stderr)
            return 1  # the next ones would wait as long
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            print(
                f"{row['path']}: published is another one than the table is about", file=sys.stderr
            )
            failed += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    print(f"{len(rows()) - failed} of {len(rows())} documents are in {directory()}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
