#!/usr/bin/env python3
"""Write the variables' table of every role's README from its argument specs.

python ansible/tools/readme.py           # rewrite the tables
python ansible/tools/readme.py squid     # that of one role
python ansible/tools/readme.py --check   # exit status 1 when one is out of date
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"
BEGIN, END = "<!-- variables: begin -->", "<!-- variables: end -->"


def table(options: dict[str, dict[str, Any]]) -> str:
    lines = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in options.items():
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        if "choices" in option:
            kind = " \\| ".join(f"`{choice}`" for choice in option["choices"])
        meaning = " ".join(option["description"].split()).replace("|", "\\|")
        lines.append(f"| `{name}` | {kind} | `{json.dumps(option['default'])}` | {meaning} |")
    return "\n".join(lines)


def rewritten(role: Path) -> str:
    """The README of ``role`` as it should be."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    text = (role / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    options = specs["argument_specs"]["main"]["options"]
    return f"{before}{BEGIN}\n{table(options)}\n{END}{after}"


def main(arguments: list[str]) -> int:
    status = 0
    wanted = {argument for argument in arguments if not argument.startswith("-")}
    for role in sorted(path for path in ROLES.iterdir() if path.is_dir()):
        if wanted and role.name not in wanted:
            continue
        readme = role / "README.md"
        if not readme.exists():
            print(f"{readme} is missing; begin it from that of another role")
            status = 1
            continue
        text = rewritten(role)
        if readme.read_text() != text:
            if "--check" in arguments:
                print(f"{readme} is out of date; run: python ansible/tools/readme.py")
                status = 1
            else:
                readme.write_text(text)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
