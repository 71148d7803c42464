"""An issuer of WLCG tokens: keys and tokens made here, its documents served in a container."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import jwt

from testbed.authority import Key, certificate, make_key, pem, publish
from testbed.engine import ContainerRequest, TestbedNetwork

ANY_AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"
_PORT = 8443
_READY_SECONDS = 60.0

SERVER = """\
import functools, http.server, ssl
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/issuer/www")
server = http.server.ThreadingHTTPServer(("", 8443), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/issuer/host.pem", "/issuer/host.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
LOOK = "import socket; socket.create_connection(('127.0.0.1', 8443), 2).close()"


class TokenIssuer:
    """Two issuers, from :meth:`start` to :meth:`stop`: ``url``, and ``other`` below it.

    ``authority`` is the PEM file of the authority that signed their certificate; it signs others
    too (:meth:`certify`).
    """

    def __init__(self, directory: Path, network: TestbedNetwork, number: int = 12) -> None:
        self.directory = directory.absolute()
        self.network = network
        self._number = number
        self._authority_key, self._key, self._other_key = make_key(), make_key(), make_key()

    @property
    def authority(self) -> Path:
        return self.directory / "authority.pem"

    @property
    def url(self) -> str:
        """With a slash at its end, as INDIGO-IAM has it."""
        return f"https://{self.network.address(self._number)}:{_PORT}/"

    @property
    def other(self) -> str:
        return f"{self.url}other/"

    def start(self) -> TokenIssuer:
        """Serve; whatever a crash left of the same name is replaced."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.network.ensure()
        self.authority.write_bytes(certificate(self._authority_key, self._authority_key, []))
        address = self.network.address(self._number)
        served = self.directory / "served"
        self.certify(served, [address], "host")
        publish(served / "www", self.url, self._key)
        publish(served / "www" / "other", self.other, self._other_key)
        self.network.run(
            ContainerRequest(
                "issuer",
                ["python3", "-c", SERVER],
                address=address,
                volumes={served: ("/issuer", "ro")},
            )
        )
        deadline = time.monotonic() + _READY_SECONDS
        while self.network.execute("issuer", "python3", "-c", LOOK)[0] != 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"The issuer did not come up in {_READY_SECONDS} s.")
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        self.network.remove_container("issuer")

    def certify(self, directory: Path, addresses: list[str], name: str) -> None:
        """Put a certificate for ``addresses`` and its key there: ``<name>.pem``, ``<name>.key``."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        key = make_key()
        (directory / f"{name}.pem").write_bytes(certificate(key, self._authority_key, addresses))
        (directory / f"{name}.key").touch(mode=0o600)
        (directory / f"{name}.key").write_bytes(pem(key))

    def token(self, subject: str, scope: str | None, key: Key | None = None, **claims: Any) -> str:
        """A token of WLCG's profile for an hour; ``claims`` replace those that it has, and None
        leaves one out."""
        now = int(time.time())
        content = {
            "iss": self.url,
            "sub": subject,
            "aud": ANY_AUDIENCE,
            "scope": scope,
            "wlcg.ver": "1.0",
            "jti": uuid.uuid4().hex,
            "iat": now - 10,
            "nbf": now - 10,
            "exp": now + 3600,
        } | claims
        content = {name: value for name, value in content.items() if value is not None}
        signer = self._other_key if content["iss"] == self.other else self._key
        return jwt.encode(content, key or signer, "ES256", headers={"kid": "test"})
