#!/usr/bin/env python3
"""A token issuer for the test: make_issuer.py DIRECTORY ISSUER_ADDRESS [ADDRESS ...]

Writes an authority, one certificate for all the addresses, the issuer's two documents as an HTTPS
server gives them, and tokens: one that may read everything, one for another directory, one that
has expired, and one that is signed by somebody else. A second issuer, below the first one's
address, has a token that may read everything too. All of it is packed into DIRECTORY/secrets.tar,
with the modes that it is to have on a host.
"""

from __future__ import annotations

import sys
import tarfile
import time
from pathlib import Path

import jwt

# The test bed is not installed: it is imported from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[5]))
from testbed.authority import certificate, make_key, pem, publish

PORT = 8443


def packed(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A file of root's, readable by root alone; the authority, which hides nothing, by all."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() else 0o644 if member.name.endswith("/ca.pem") else 0o600
    return member


def main(parent: Path, addresses: list[str]) -> None:
    directory = parent / "secrets"
    directory.mkdir(parents=True, exist_ok=True)
    ca_key, host_key, key, other = (make_key() for _ in range(4))
    for name, made in (
        ("ca.pem", certificate(ca_key, ca_key, [])),
        ("host.pem", certificate(host_key, ca_key, [*addresses, "127.0.0.1"])),
    ):
        (directory / name).write_bytes(made)
    (directory / "host.key").write_bytes(pem(host_key))

    issuer = f"https://{addresses[0]}:{PORT}"
    publish(directory / "www", issuer, key)
    publish(directory / "www" / "another", f"{issuer}/another", other)

    now = int(time.time())
    claims = {
        "iss": issuer, "sub": "analyst", "aud": "https://wlcg.cern.ch/jwt/v1/any",
        "wlcg.ver": "1.0", "jti": "1", "iat": now - 10, "nbf": now - 10, "exp": now + 36000,
        "scope": "storage.read:/",
    }  # fmt: skip
    tokens = {
        "good": (claims, key),
        "elsewhere": (claims | {"scope": "storage.read:/elsewhere"}, key),
        "expired": (claims | {"exp": now - 3600, "iat": now - 7200, "nbf": now - 7200}, key),
        "forged": (claims, other),
        "another": (claims | {"iss": f"{issuer}/another"}, other),
    }
    for name, (content, signer) in tokens.items():
        token = jwt.encode(content, signer, "ES256", headers={"kid": "test"})
        (directory / f"{name}.token").write_text(token)
    with tarfile.open(parent / "secrets.tar", "w") as archive:
        archive.add(directory, "secrets", filter=packed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
