"""``make audit``: ask pip-audit about the libraries that are installed here.

It needs PyPI's advisories (or ``--service osv``), which not every machine reaches.  Where it asks a
mirror that has none, pip-audit passes every library over and ends well: so what was passed over is
counted here, and "nothing found" is not said of what was not looked at.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

NOT_KNOWN = 3


def main(arguments: list[str]) -> int:
    """0 without a known hole, 1 with one, 3 where it cannot be told of all libraries."""
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off"]
    done = subprocess.run([*command, "-f", "json", *arguments], capture_output=True, text=True)
    try:
        return report(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"pip-audit could not ask about the libraries: nothing is known. ({last})")
        return NOT_KNOWN


def report(libraries: list[dict[str, Any]]) -> int:
    """Print what was found of ``libraries``, as pip-audit gives them in JSON."""
    holes: list[tuple[dict[str, Any], dict[str, Any]]] = []
    passed_over = []
    for library in libraries:
        found = library.get("vulns")
        if isinstance(found, list):
            holes += [(library, hole) for hole in found]
        elif "editable" not in str(library.get("skip_reason")):
            passed_over.append(str(library.get("name")))
    for library, hole in holes:
        fixed = ", ".join(map(str, hole.get("fix_versions") or [])) or "no version yet"
        print(f"{library['name']} {library['version']}: {hole['id']}, mended in {fixed}")
    asked = len(libraries) - len(passed_over)
    print(f"{len(holes)} known holes in {asked} libraries.")
    if passed_over:
        some = ", ".join(passed_over[:5])
        print(
            f"Of {len(passed_over)} others the service knows nothing ({some} …): nothing is known "
            "of them. Is it a mirror without advisories?"
        )
    if holes:
        return 1
    return NOT_KNOWN if passed_over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
