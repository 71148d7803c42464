"""The wheel, installed on its own far from the checkout, does what the checkout does.

The libraries that Vacuo needs are lent by the environment of this test run, so that nothing is
downloaded; Vacuo itself comes from the wheel alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import data
from orchestrator.cli import exitcodes
from testbed.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 100.0
CONFIGURATION = """\
data_directory: {home}/data
listen: 127.0.0.1:{port}
log_format: json
development_issuer: true
sites:
  - name: here
    provider: simulated
    flavours: [{{name: medium, cores: 4, memory_mb: 8192, disk_gb: 40}}]
pools:
  - {{name: default, batch: simulated}}
"""


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        cwd="/",
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, and one user's home."""

    wheel: Path
    binaries: Path
    home: Path
    port: int

    @property
    def configuration(self) -> Path:
        return self.home / "vacuo.yaml"

    @property
    def environment(self) -> dict[str, str]:
        home = str(self.home)
        server = f"http://127.0.0.1:{self.port}"
        return {"HOME": home, "XDG_RUNTIME_DIR": home, "VACUO_SERVER": server}

    def python(self, text: str) -> str:
        done = run(self.binaries / "python", "-c", text)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def vacuo(self, *words: str) -> str:
        done = run(self.binaries / "vacuo", *words, **self.environment)
        assert done.returncode == exitcodes.OK, (words, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, ROOT]
    made = run(*pip, *build)
    assert made.returncode == 0, made.stderr
    [wheel] = place.glob("vacuo-*.whl")
    environment = place / "environment"
    made = run(sys.executable, "-m", "venv", "--without-pip", environment)
    assert made.returncode == 0, made.stderr
    python = environment / "bin/python"
    libraries = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout
    # A directory that is named so is searched last, and the links in it are not followed.
    lent = Path(libraries.strip()) / "lent.pth"
    lent.write_text(sysconfig.get_path("purelib") + "\n")
    made = run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    assert made.returncode == 0, made.stderr
    home = place / "home"
    home.mkdir()
    port = free_port()
    found = Installed(wheel, environment / "bin", home, port)
    found.configuration.write_text(CONFIGURATION.format(home=home, port=port))
    return found


@pytest.fixture
def server(installed: Installed) -> Iterator[subprocess.Popen[bytes]]:
    command = [installed.binaries / "vacuo", "server", "--config", installed.configuration]
    log = installed.home / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},  # as under systemd: nothing of the environment on it
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while (
            "✓ engine"
            not in run(installed.binaries / "vacuo", "doctor", **installed.environment).stdout
        ):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()


def test_the_wheel_ships_all_that_the_checkout_has(installed: Installed) -> None:
    shipped = set(zipfile.ZipFile(installed.wheel).namelist())
    assert not [name for name in shipped if "__pycache__" in name]
    for directory in ("tosca-templates", "ansible", "images"):
        for path in (ROOT / directory).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"orchestrator/_data/{path.relative_to(ROOT)}" in shipped
    for path in (ROOT / "orchestrator").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and "_data" not in path.parts:
            assert str(path.relative_to(ROOT)) in shipped


def test_the_installation_uses_nothing_of_the_checkout(installed: Installed) -> None:
    found = installed.python(
        "import orchestrator\n"
        "from orchestrator.data import directory\n"
        "from orchestrator.store.database import MIGRATIONS\n"
        "names = ('ansible', 'images', 'tosca-templates')\n"
        "print(orchestrator.__file__, MIGRATIONS, *map(directory, names))"
    )
    environment = str(installed.binaries.parent)
    assert all(path.startswith(environment) for path in found.split()), found


def test_image_recipes_are_runnable_and_make_the_same_images(installed: Installed) -> None:
    """Another tag would mean that every image is built again."""
    tags = (
        "import sys\n"
        "from importlib.machinery import SourceFileLoader\n"
        "from importlib.util import module_from_spec, spec_from_loader\n"
        "sys.dont_write_bytecode = True\n"
        "loader = SourceFileLoader('recipes', sys.argv[1])\n"
        "recipes = module_from_spec(spec_from_loader('recipes', loader))\n"
        "sys.modules['recipes'] = recipes\n"
        "loader.exec_module(recipes)\n"
        "print(*(recipes.read_recipe(n).tag for n in ('host', 'host-bare', 'services')))"
    )
    directory = installed.python(
        "from orchestrator.data import directory; print(directory('images'))"
    )
    shipped = run(installed.binaries / "python", "-c", tags, Path(directory) / "build")
    ours = run(sys.executable, "-c", tags, data.directory("images") / "build")
    assert shipped.stdout == ours.stdout != "", shipped.stderr + ours.stderr


def test_templates_are_found_and_valid(installed: Installed) -> None:
    names = installed.vacuo("templates", "--output", "name").split()
    assert set(names) == {path.stem for path in (ROOT / "tosca-templates").glob("*.yaml")}
    assert "✓ htcondor-workers" in installed.vacuo("validate", "htcondor-workers")


@pytest.mark.timeout(300)
def test_a_deployment_comes_up_and_goes(
    installed: Installed, server: subprocess.Popen[bytes]
) -> None:
    client = installed.home / "data/issuer/client.json"
    installed.vacuo("login", "--client-credentials-file", str(client))
    words = ("htcondor-workers", "-p", "workers_minimum=1", "--wait", "--timeout", "90")
    installed.vacuo("up", *words)
    [one] = json.loads(installed.vacuo("list", "--output", "json"))["deployments"]
    assert one["status"] == "CREATE_COMPLETE"
    installed.vacuo("down", "--wait", "--timeout", "90")
    server.terminate()
    assert server.wait(PATIENCE) == 0
    for line in (installed.home / "server.log").read_text().splitlines():
        assert json.loads(line)["level"] in ("info", "warning"), line


def test_roles_are_found_by_ansible(installed: Installed) -> None:
    roles = installed.python(
        "from pathlib import Path\n"
        "from orchestrator.configure.ansible import AnsibleConfigurator\n"
        "from orchestrator.settings import Settings\n"
        f"place = Path({str(installed.home)!r}) / 'roles'\n"
        "print(*AnsibleConfigurator(Settings(data_directory=place))._roles)"
    ).split()
    expected = {path.name for path in (ROOT / "ansible/roles").iterdir()}
    assert {role.rpartition(".")[2] for role in roles} == expected
    link = installed.home / "roles/ansible/collections/ansible_collections/vacuo/site"
    assert str(link.resolve()).startswith(str(installed.binaries.parent))
    assert {path.name for path in (link / "roles").iterdir()} == expected
