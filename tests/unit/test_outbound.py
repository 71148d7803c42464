"""Addresses that users give are asked for over real TLS, from servers that do not behave."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from misbehaving_server import MisbehavingServer, misbehaving, self_signed

from orchestrator.outbound import Guard, Outbound, OutboundError, OutboundRefused

HOST = "files.example.org"


@dataclass
class World:
    server: MisbehavingServer
    context: ssl.SSLContext
    guard: Guard

    @property
    def port(self) -> int:
        return self.server.server_port

    def client(self, *addresses: str, **changes: object) -> Outbound:
        """One for whom every name has ``addresses``."""
        guard = replace(self.guard, **changes)  # type: ignore[arg-type]
        return Outbound(guard, lambda host, port: addresses or ("127.0.0.1",), self.context)

    def url(self, path: str, host: str = HOST) -> str:
        return f"https://{host}:{self.port}/{path}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"), HOST)


@pytest.fixture
def world(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with misbehaving(b"types", huge=20_000, tls=theirs) as server:
        at = f"{HOST}:{server.server_port}"
        guard = Guard(hosts=(at,), private_hosts=(at,), maximum_bytes=10_000, seconds=20.0)
        yield World(server, ssl.create_default_context(cafile=str(certificate)), guard)


def test_a_listed_host_is_asked_by_its_name(world: World) -> None:
    assert world.client().get(world.url("good?x=1")) == b"types"
    assert world.server.asked == [(f"{HOST}:{world.port}", "/good?x=1")]


def test_a_body_can_be_sent(world: World) -> None:
    answer = world.client().request("POST", world.url("hook"), b"{}", {"Content-Type": "a/b"})
    assert (answer.status, answer.body, answer.headers["x-kind"]) == (202, b"{}", "a/b")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("missing", "answered 404"),
        ("redirect", "302: redirects are not followed"),
        ("huge", "more than 10000 bytes"),
        ("endless", "more than 10000 bytes"),
        ("compressed", "is compressed"),
        ("cut", "cannot be reached"),
    ],
)
def test_a_bad_answer_is_no_answer(world: World, path: str, says: str) -> None:
    with pytest.raises(OutboundError, match=says):
        world.client().get(world.url(path))
    assert [asked for _, asked in world.server.asked] == [f"/{path}"]


@pytest.mark.parametrize("path", ["drip", "headers", "silent"])
def test_a_slow_answer_is_given_up(world: World, path: str) -> None:
    with pytest.raises(OutboundError, match=r"took longer than 0\.5 s"):
        world.client(seconds=0.5).get(world.url(path))


def test_a_server_that_never_shakes_hands_is_given_up(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        at = f"{HOST}:{mute.getsockname()[1]}"
        client = world.client(seconds=0.5, hosts=(at,), private_hosts=(at,))
        with pytest.raises(OutboundError, match="took longer"):
            client.get(f"https://{at}/")


def test_a_name_that_is_not_resolved_in_time_is_given_up(world: World) -> None:
    def never(host: str, port: int) -> list[str]:
        world.server.stop.wait(30)
        return []

    with pytest.raises(OutboundError, match="not resolved in time"):
        Outbound(replace(world.guard, seconds=0.3), never, world.context).get(world.url("good"))


def test_a_certificate_for_another_name_is_refused(world: World) -> None:
    at = f"other.example.org:{world.port}"
    with pytest.raises(OutboundError, match="certificate"):
        world.client(hosts=(at,), private_hosts=(at,)).get(f"https://{at}/good")
    assert world.server.asked == []


def test_a_certificate_that_nobody_vouches_for_is_refused(world: World) -> None:
    client = Outbound(world.guard, lambda host, port: ("127.0.0.1",))
    with pytest.raises(OutboundError, match="certificate"):
        client.get(world.url("good"))


def test_a_name_is_resolved_once_and_that_address_is_asked(world: World) -> None:
    answers = [("127.0.0.1",), ("127.0.0.2",)]
    resolved: list[str] = []

    def rebinding(host: str, port: int) -> tuple[str, ...]:
        resolved.append(host)
        return answers[min(len(resolved), 2) - 1]

    assert Outbound(world.guard, rebinding, world.context).get(world.url("good")) == b"types"
    assert resolved == [HOST]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%eth0",
        "fd00::1", "fec0::1", "ff02::1", "2002:7f00:1::", "64:ff9b::7f00:1", "2001:db8::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "not an address",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_not_asked(world: World, address: str) -> None:
    for addresses in ((address,), ("93.184.215.14", address)):
        with pytest.raises(OutboundRefused, match="not public"):
            world.client(*addresses, private_hosts=()).get(world.url("good"))
    assert world.server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://files.example.org/x", "gopher://files.example.org/",
        "//files.example.org/x", "files.example.org/x", "https:///x", "https://", "",
        "https://user@files.example.org/", "https://user:word@files.example.org/",
        "https://files.example.org@127.0.0.1/", "https://@files.example.org/",
        "https://files.example.org:99999/", "https://files.example.org:22/",
        "https://files.example.org\\@127.0.0.1/", "https://files.example.org /",
        "https://files.example.org/\r\nHost: x", "https://127.0.0.1/", "https://[::1]/",
        "https://[::ffff:127.0.0.1]/", "https://2130706433/", "https://0x7f.1/",
        "https://localhost/", "https://example.org/", "https://xfiles.example.org/",
        "https://files.example.org.evil.test/", "http://files.example.org/",
        "https://файлы.example.org/", "https://[files.example.org/",
    ],
)  # fmt: skip
def test_an_address_that_is_not_listed_is_not_even_resolved(world: World, url: str) -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was resolved")

    guard = replace(world.guard, hosts=(HOST,), private_hosts=(HOST,))
    with pytest.raises(OutboundRefused):
        Outbound(guard, never, world.context).request("GET", url)


def test_hosts_are_listed_by_name_by_domain_or_all() -> None:
    def allowed(pattern: str, url: str) -> bool:
        try:
            Outbound(Guard(hosts=(pattern,))).check(url)
        except OutboundRefused:
            return False
        return True

    assert allowed("*.example.org", "https://a.b.example.org/x")
    assert not allowed("*.example.org", "https://example.org/x")
    assert not allowed("*.example.org", "https://badexample.org/x")
    assert allowed("*", "https://anything.test/")
    assert not allowed("*", "https://anything.test:22/")
    assert allowed("example.org:8443", "https://example.org:8443/")
    assert not allowed("example.org", "https://example.org:8443/")
    assert allowed("example.org", "https://EXAMPLE.org:443/")


def test_http_is_spoken_to_this_machine_only_and_only_when_told() -> None:
    with misbehaving(b"types", huge=0) as server:
        at = f"localhost:{server.server_port}"
        guard = Guard(hosts=(at,), private_hosts=(at,), plain_loopback=True)
        assert Outbound(guard).get(f"http://{at}/good") == b"types"
        with pytest.raises(OutboundRefused, match="by http"):
            Outbound(replace(guard, plain_loopback=False)).get(f"http://{at}/good")
        with pytest.raises(OutboundRefused, match="not this machine"):
            Outbound(guard, lambda host, port: ("10.0.0.1",)).get(f"http://{at}/good")
