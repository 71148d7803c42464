"""Certificates and documents of a token issuer for tests.  A script runs it too, so no imports of
the package."""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey
_DAY = datetime.timedelta(days=1)


def make_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate(key: Key, signer: Key, addresses: Sequence[str]) -> bytes:
    """The PEM of a certificate for ``addresses``, which are names or IP addresses, or of the
    authority's own where there are none."""
    now = datetime.datetime.now(datetime.UTC)
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test host")])
    built = (
        x509.CertificateBuilder()
        .subject_name(own if addresses else authority)
        .issuer_name(authority)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 10 * _DAY)
        .add_extension(x509.BasicConstraints(ca=not addresses, path_length=None), critical=True)
    )
    names: list[x509.GeneralName] = [x509.DNSName(a) for a in ["localhost", *addresses]]
    for address in addresses:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            continue
    if addresses:
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return built.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def publish(root: Path, issuer: str, key: Key) -> None:
    """Write the documents of ``issuer``, whose address is served from ``root``."""
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    documents = root / ".well-known"
    documents.mkdir(parents=True, exist_ok=True)
    keys_at = f"{issuer.rstrip('/')}/.well-known/keys"
    (documents / "openid-configuration").write_text(
        json.dumps({"issuer": issuer, "jwks_uri": keys_at})
    )
    keys = {"keys": [public | {"kid": "test", "use": "sig", "alg": "ES256"}]}
    (documents / "keys").write_text(json.dumps(keys))
