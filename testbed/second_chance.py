"""Runs the real tests that failed once more, alone: ``make test`` calls it.

A real test may fail because four of them shared a machine that was too busy for what one of them
waits for.  Alone it tells whether the change is bad.  One that passes now is named: at some rare
moment it, or the product, does not do what it should, and that is to be found on purpose.
A test of another kind gets no second chance, nor do those of many files that fail together.

    python -m testbed.second_chance STATUS     # pytest's exit status
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CACHE = Path(".pytest_cache/v/cache/lastfailed")
REAL = ("tests/conformance/", "tests/e2e/")
MOST_FILES = 3  # not tests: all of a file fail where what they share cannot be had


def main(status: int) -> int:
    """The exit status of ``make test`` so far."""
    if status != pytest.ExitCode.TESTS_FAILED or not CACHE.exists():
        return status
    failed = sorted(json.loads(CACHE.read_text()))
    files = {test.partition("::")[0] for test in failed}
    if len(files) > MOST_FILES or not all(test.startswith(REAL) for test in failed):
        return status
    print("Once more, alone:", *failed, sep="\n  ", flush=True)
    again = subprocess.call([sys.executable, "-m", "pytest", *failed])
    if again == pytest.ExitCode.OK:
        print("UNSTEADY: these failed among others and passed alone:", *failed, sep="\n  ")
    return again


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
