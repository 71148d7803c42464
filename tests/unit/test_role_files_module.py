"""vacuo.site.files: what it writes, what it only says, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).resolve().parents[2] / "ansible/plugins/modules/files.py"


def run(directory: Path, *, check: bool = False, **parameters: Any) -> dict[str, Any]:
    """The module's answer, run as Ansible runs it."""
    own = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": "/tmp"}
    done = subprocess.run(
        [sys.executable, str(MODULE)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": parameters | own}),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return dict(json.loads(done.stdout))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_files_and_their_directories_are_made_once(tmp_path: Path) -> None:
    one, secret = tmp_path / "a/b/one", tmp_path / "s/key"
    wish = {
        "directories": [{"path": str(tmp_path / "s"), "mode": "0700"}],
        "files": [
            {"path": str(one), "content": "one\n", "mode": "0755"},
            {"path": str(secret), "content": "ä", "mode": "0600"},
        ],
    }
    first = run(tmp_path, **wish)
    assert first["changed"]
    assert first["paths"] == [str(p) for p in (tmp_path / "s", one.parent, one, secret)]
    assert (one.read_text(), secret.read_bytes()) == ("one\n", "ä".encode())
    assert [mode(p) for p in (one, one.parent, secret, secret.parent)] == [
        0o755, 0o755, 0o600, 0o700,
    ]  # fmt: skip
    again = run(tmp_path, **wish)
    assert (again["changed"], again["paths"], again["diff"]) == (False, [], [])


def test_only_what_differs_is_said_and_shown(tmp_path: Path) -> None:
    same, other, opened = (tmp_path / name for name in ("same", "other", "opened"))
    for path in (same, other, opened):
        path.write_text("before\n")
        path.chmod(0o644)
    files = [
        {"path": str(same), "content": "before\n"},
        {"path": str(other), "content": "after\n"},
        {"path": str(opened), "content": "before\n", "mode": "0640"},
    ]
    told = run(tmp_path, files=files)
    assert told["paths"] == [str(other), str(opened)]
    shown = [(one["before"], one["after"]) for one in told["diff"]]
    assert shown == [("before\n", "after\n"), ("mode 0644\n", "mode 0640\n")]
    assert mode(opened) == 0o640


def test_check_mode_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    wish = {"files": [{"path": str(tmp_path / "a/one"), "content": "one\n"}]}
    told = run(tmp_path, check=True, **wish)
    assert list(tmp_path.iterdir()) == []
    done = run(tmp_path, **wish)
    assert (told["paths"], told["diff"]) == (done["paths"], done["diff"])


def test_what_is_not_valid_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text("true\n")
    file = {"path": str(path), "content": "if\n", "validate": "sh -n %s"}
    told = run(tmp_path, files=[file])
    assert told["failed"]
    assert f"{path} would not be valid" in told["msg"]
    assert path.read_text() == "true\n"
    assert run(tmp_path, files=[file | {"content": "false\n"}])["changed"]


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_link_is_replaced_and_what_it_points_at_stays(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").write_text("new\n")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    assert run(tmp_path, files=[{"path": str(link), "content": "new\n"}])["changed"]
    assert not link.is_symlink()
    assert link.read_text() == "new\n"
    assert (tmp_path / "there").read_text() == "new\n"


def test_a_directory_in_the_place_of_a_file_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    told = run(tmp_path, files=[{"path": str(tmp_path / "taken"), "content": ""}])
    assert told["failed"]
    assert "is no file" in told["msg"]
    assert (tmp_path / "taken").is_dir()


def test_a_mode_that_is_none_is_said(tmp_path: Path) -> None:
    file = {"path": str(tmp_path / "one"), "content": "", "mode": "rw"}
    assert "not octal" in run(tmp_path, files=[file])["msg"]
