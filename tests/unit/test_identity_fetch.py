"""Keys are fetched over real HTTP, from servers that do not behave."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from misbehaving_server import MisbehavingServer, misbehaving, self_signed

from orchestrator.identity import endpoints
from orchestrator.identity.endpoints import MAXIMUM_BODY, IssuerAway, ask


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # this machine is not behind a proxy
    with misbehaving(b'{"keys": []}', huge=MAXIMUM_BODY + 1) as running:
        yield running


def of(server: MisbehavingServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def test_document_is_fetched(server: MisbehavingServer) -> None:
    assert ask(of(server, "good")) == b'{"keys": []}'


@pytest.mark.parametrize("path", ["missing", "huge", "endless", "cut"])
def test_bad_answer_is_refused(server: MisbehavingServer, path: str) -> None:
    with pytest.raises(IssuerAway):
        ask(of(server, path))


def test_redirect_is_not_followed(server: MisbehavingServer) -> None:
    with pytest.raises(IssuerAway, match="302"):
        ask(of(server, "redirect"))
    assert [path for _, path in server.asked] == ["/redirect"]


def test_compressed_answer_is_not_unpacked(server: MisbehavingServer) -> None:
    assert len(ask(of(server, "compressed"))) < MAXIMUM_BODY


@pytest.mark.parametrize("path", ["drip", "headers", "silent"])
def test_slow_answer_is_given_up(
    server: MisbehavingServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "FETCH_SECONDS", 0.5)
    with pytest.raises(IssuerAway, match="took longer"):
        ask(of(server, path))


def test_slow_answer_over_tls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path, "localhost")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with misbehaving(b"{}", huge=0, tls=theirs) as server:
        url = f"https://localhost:{server.server_port}"
        assert ask(f"{url}/good") == b"{}"
        monkeypatch.setattr(endpoints, "FETCH_SECONDS", 0.5)
        with pytest.raises(IssuerAway, match="took longer"):
            ask(f"{url}/headers")
    assert [path for _, path in server.asked] == ["/good", "/headers"]


def test_server_that_is_not_there(server: MisbehavingServer) -> None:
    with pytest.raises(IssuerAway, match="ConnectError"):
        ask("http://127.0.0.1:1/")
