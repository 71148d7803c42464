"""The IAM that people may start: its compose file is whole, and no secret is in what we ship.

No image can be pulled everywhere, so this is about the files alone.
"""

from __future__ import annotations

import json
import re
import shutil
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

SHIPPED = Path(__file__).parents[2] / "iam/try"
HOST = "iam.test.example"
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::\?[^}]*)?\}")


def prepare(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(directory / "prepare"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("iam") / "try"
    shutil.copytree(SHIPPED, directory, ignore=shutil.ignore_patterns(".env", "private"))
    done = prepare(directory, HOST)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((SHIPPED / "compose.yaml").read_text())


def values(prepared: Path) -> dict[str, str]:
    lines = (prepared / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_every_variable_is_written_by_prepare_and_used(prepared: Path) -> None:
    text = (SHIPPED / "compose.yaml").read_text()
    assert set(VARIABLE.findall(text)) == set(values(prepared))
    assert all(values(prepared).values())
    # Without prepare nothing starts with an empty password.
    assert text.count("${") == len(re.findall(r"\$\{[A-Z_]+:\?run ./prepare first\}", text))


def test_the_proxys_template_uses_what_its_container_has(compose: Any) -> None:
    template = (SHIPPED / "nginx.conf.template").read_text()
    assert set(VARIABLE.findall(template)) == set(compose["services"]["proxy"]["environment"])


def test_every_volume_and_network_is_there(prepared: Path, compose: Any) -> None:
    named = set()
    networks = set()
    for service in compose["services"].values():
        networks |= set(service["networks"])
        for volume in service["volumes"]:
            source, _, mode = volume.split(":", 2) if volume.count(":") == 2 else (volume, "", "")
            source = source.split(":")[0]
            if source.startswith("./"):
                assert mode == "ro", volume
                assert (prepared / source).is_file(), source
            else:
                named.add(source)
    assert named == set(compose["volumes"])
    assert networks == set(compose["networks"])
    wanted = {
        name for service in compose["services"].values() for name in service.get("depends_on", ())
    }
    assert wanted <= set(compose["services"])


def test_images_are_pinned(compose: Any) -> None:
    for service in compose["services"].values():
        _, _, tag = service["image"].rpartition(":")
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), service["image"]


def test_only_the_proxy_is_reached_from_outside_and_by_this_machine_alone(
    prepared: Path, compose: Any
) -> None:
    open_ones = [name for name, service in compose["services"].items() if "ports" in service]
    assert open_ones == ["proxy"]
    assert values(prepared)["IAM_LISTEN"] == "127.0.0.1:443"
    assert compose["networks"]["inside"] == {"internal": True}
    outside = [name for name, one in compose["services"].items() if "outside" in one["networks"]]
    assert outside == ["proxy"]


def test_no_secret_is_in_what_is_shipped(compose: Any) -> None:
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if re.search(r"PASSWORD|SECRET|TOKEN", name) and value != "1":
                assert VARIABLE.fullmatch(value), name
    for path in SHIPPED.rglob("*"):
        if path.is_file() and path.name != ".env" and path.parent.name != "private":
            assert "-----BEGIN" not in path.read_text(), path
    ignored = (SHIPPED / ".gitignore").read_text().split()
    assert ignored == [".env", "private/"]


def test_what_is_secret_is_for_its_owner_alone_and_another_each_time(
    prepared: Path, tmp_path: Path
) -> None:
    assert stat.S_IMODE((prepared / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((prepared / "private").stat().st_mode) == 0o700
    other = prepare(prepared, HOST, str(tmp_path))
    assert other.returncode == 0
    assert values(tmp_path)["IAM_DB_PASSWORD"] != values(prepared)["IAM_DB_PASSWORD"]
    assert values(tmp_path)["IAM_DB_PASSWORD"] not in other.stdout


def test_what_is_there_is_kept(prepared: Path) -> None:
    before = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    done = prepare(prepared, "another.example")
    assert done.returncode == 0
    assert done.stdout.count("kept") == 2
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    "words", [(), ("UPPER",), ("a b",), ("x\nIAM_DB_PASSWORD=",), ("a", "b", "c")]
)
def test_a_host_that_is_none_is_refused(prepared: Path, words: tuple[str, ...]) -> None:
    assert prepare(prepared, *words).returncode == 64


def test_the_key_signs_tokens_that_are_accepted_for_its_public_half(prepared: Path) -> None:
    (key,) = json.loads((prepared / "private/keystore.jwks").read_text())["keys"]
    assert (key["alg"], key["use"], bool(key["kid"])) == ("RS256", "sig", True)
    token = jwt.encode({"sub": "x"}, jwt.PyJWK(key).key, "RS256")
    public = {name: key[name] for name in ("kty", "n", "e", "kid", "alg")}
    assert jwt.decode(token, jwt.PyJWK(public).key, ["RS256"]) == {"sub": "x"}


def test_the_certificate_is_for_the_host_and_fits_its_key(prepared: Path) -> None:
    private = prepared / "private"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(private / "certificate.pem", private / "certificate.key")
    client = ssl.create_default_context(cafile=str(private / "certificate.pem"))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = client.wrap_bio(incoming, outgoing, server_hostname=HOST)
    answers = server.wrap_bio(outgoing, incoming, server_side=True)
    for _ in range(4):
        for side in (asks, answers):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    names = (asks.getpeercert() or {})["subjectAltName"]
    assert names == (("DNS", HOST),)
