#!/usr/bin/env python3
"""A token issuer for the test: make_issuer.py DIRECTORY ISSUER_ADDRESS [ADDRESS ...]

Writes an authority, one certificate for all the addresses, the issuer's two documents as an HTTPS
server gives them, and tokens: one that may read everything, one for another directory, one that
has expired, and one that is signed by somebody else. A second issuer, below the first one's
address, has a token that may read everything too. All of it is packed into DIRECTORY/secrets.tar,
with the modes that it is to have on a host.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import sys
import tarfile
import time
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PORT = 8443
DAY = datetime.timedelta(days=1)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate(
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    addresses: list[str],
) -> x509.Certificate:
    """A certificate for ``addresses``, or the authority's own where there are none."""
    now = datetime.datetime.now(datetime.UTC)
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test host")])
    built = (
        x509.CertificateBuilder()
        .subject_name(own if addresses else authority)
        .issuer_name(authority)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 10 * DAY)
        .add_extension(x509.BasicConstraints(ca=not addresses, path_length=None), critical=True)
    )
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
    names += [x509.DNSName(a) for a in ["localhost", *addresses]]
    if addresses:
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return built.sign(signer, hashes.SHA256())


def publish(root: Path, issuer: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Write the documents of ``issuer``, whose address is served from ``root``."""
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    documents = root / ".well-known"
    documents.mkdir(parents=True, exist_ok=True)
    (documents / "openid-configuration").write_text(
        json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/.well-known/keys"})
    )
    keys = {"keys": [public | {"kid": "test", "use": "sig", "alg": "ES256"}]}
    (documents / "keys").write_text(json.dumps(keys))


def packed(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A file of root's, readable by root alone; the authority, which hides nothing, by all."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() else 0o644 if member.name.endswith("/ca.pem") else 0o600
    return member


def main(parent: Path, addresses: list[str]) -> None:
    directory = parent / "secrets"
    directory.mkdir(parents=True, exist_ok=True)
    ca_key, host_key, key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
    for name, made in (
        ("ca.pem", certificate(ca_key, ca_key, [])),
        ("host.pem", certificate(host_key, ca_key, [*addresses, "127.0.0.1"])),
    ):
        (directory / name).write_bytes(made.public_bytes(serialization.Encoding.PEM))
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
