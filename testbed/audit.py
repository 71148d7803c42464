"""``make audit``: ask pip-audit about the libraries that are installed here.

It needs the advisory service of PyPI (or ``--service osv``), which not every machine reaches: that
is said, and is no failure of the libraries.
"""

from __future__ import annotations

import subprocess
import sys

UNREACHABLE = ("ConnectionError", "ConnectTimeout", "Max retries", "ServiceError", "HTTPError")
NOT_KNOWN = 3


def main(arguments: list[str]) -> int:
    """0 without a known hole, 1 with one, 3 where it cannot be told."""
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if "No module named pip_audit" in done.stderr:
        print("pip-audit is not installed: .venv/bin/pip install pip-audit", file=sys.stderr)
        return NOT_KNOWN
    if done.returncode and any(word in done.stderr for word in UNREACHABLE):
        last = done.stderr.strip().splitlines()[-1]
        print(
            f"The advisory service cannot be reached: nothing is known. ({last})", file=sys.stderr
        )
        return NOT_KNOWN
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
