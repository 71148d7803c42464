#!/usr/bin/python3
"""All files of a service in one task: one round trip where a task for each would be three."""

from __future__ import annotations

import os
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text

DOCUMENTATION = r"""
module: files
short_description: Write a service's files and directories
description:
  - Writes every file whose content or mode is another, in one task, and says which they were.
  - A file is replaced as a whole or not at all, and only if its C(validate) has passed.
  - Directories that a file needs are made with mode 0755, unless O(directories) says another.
  - All belong to the user that runs the module.
options:
  directories:
    description: Directories that must be there.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The directory, absolute.
        type: path
        required: true
      mode:
        description: Its mode, in octal.
        type: str
        default: "0755"
  files:
    description: Files that must be there.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file, absolute; a link is replaced.
        type: path
        required: true
      content:
        description: All that is in it.
        type: str
        required: true
      mode:
        description: Its mode, in octal.
        type: str
        default: "0644"
      validate:
        description:
          - A command that must end with 0 before the file takes its place; C(%s) stands for the
            draft.
        type: str
author: The Vacuo developers
attributes:
  check_mode:
    support: full
    description: Says what would be written.
  diff_mode:
    support: full
    description: Shows what changes in each file.
"""

EXAMPLES = r"""
- name: Write its files
  vacuo.site.files:
    files:
      - path: /etc/vacuo/squid/squid.conf
        content: "{{ lookup('ansible.builtin.template', 'squid.conf.j2') }}"
        validate: squid -k parse -f %s
"""

RETURN = r"""
paths:
  description: The files and directories that were not as they must be.
  type: list
  elements: str
  returned: always
"""

ONE = {"path": {"type": "path", "required": True}}
DIRECTORY = {**ONE, "mode": {"type": "str", "default": "0755"}}
FILE = {
    **ONE,
    "content": {"type": "str", "required": True},
    "mode": {"type": "str", "default": "0644"},
    "validate": {"type": "str"},
}


class Host:
    """Makes the host as it is wished, or in check mode only finds out what is not."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self.paths: list[str] = []
        self.diff: list[dict[str, str]] = []

    def directory(self, path: str, mode: int | None = None) -> None:
        there = os.path.isdir(path)
        if path in self.paths or (there and mode in (None, _mode(path))):
            return
        self._note(path, _remark(path, there), f"directory {mode or 0o755:04o}\n")
        if self._module.check_mode:
            return
        if not there:
            os.makedirs(path, mode=0o755)
        os.chmod(path, mode or 0o755)

    def file(self, path: str, content: bytes, mode: int, validate: str | None) -> None:
        self.directory(os.path.dirname(path))
        before = _read(path)
        if before == content and _mode(path) == mode:
            return
        if before == content:
            self._note(path, f"mode {_mode(path):04o}\n", f"mode {mode:04o}\n")
        else:
            self._note(path, to_text(before or b""), to_text(content))
        if not self._module.check_mode:
            self._replace(path, content, mode, validate)

    def _replace(self, path: str, content: bytes, mode: int, validate: str | None) -> None:
        handle, draft = tempfile.mkstemp(dir=self._module.tmpdir)
        with os.fdopen(handle, "wb") as target:
            target.write(content)
        os.chmod(draft, mode)
        if validate:
            status, output, errors = self._module.run_command(validate.replace("%s", draft))
            if status:
                why = (errors.strip() or output.strip() or f"exit status {status}")[-2000:]
                self._module.fail_json(msg=f"{path} would not be valid: {why}")
        if os.path.islink(path):
            os.unlink(path)
        elif os.path.lexists(path) and not os.path.isfile(path):
            self._module.fail_json(msg=f"{path} is there and is no file.")
        self._module.atomic_move(draft, path)
        os.chmod(path, mode)

    def _note(self, path: str, before: str, after: str) -> None:
        self.paths.append(path)
        headers = {"before_header": path, "after_header": path}
        self.diff.append({"before": before, "after": after, **headers})


def _remark(path: str, there: bool) -> str:
    return f"directory {_mode(path):04o}\n" if there else ""


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _read(path: str) -> bytes | None:
    """What is in a file, or None where there is no ordinary one."""
    if os.path.islink(path) or not os.path.isfile(path):
        return None
    with open(path, "rb") as source:
        return source.read()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": DIRECTORY,
            },
            "files": {"type": "list", "elements": "dict", "default": [], "options": FILE},
        },
        supports_check_mode=True,
    )
    host = Host(module)
    try:
        for one in module.params["directories"]:
            host.directory(one["path"], int(one["mode"], 8))
        for one in module.params["files"]:
            content = to_bytes(one["content"])
            host.file(one["path"], content, int(one["mode"], 8), one["validate"])
    except ValueError as error:
        module.fail_json(msg=f"A mode is not octal: {error}")
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=bool(host.paths), paths=host.paths, diff=host.diff)


if __name__ == "__main__":
    main()
