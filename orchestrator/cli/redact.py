"""Values that must not be shown, found by the names they have and by the form of URLs."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"

_SECRETS = {
    word + plural
    for word in ("password", "passwd", "passphrase", "secret", "token", "credential", "key")
    for plural in ("", "s")
}
# `token_file` says where a secret is, and is none itself.
_POINTERS = {"file", "directory", "path", "uri", "url", "name", "id"}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^/@:\s]*):[^/@\s]*@", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a thing of this name is taken for a secret: ``db_password``, ``clientSecret``."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and words[-1] not in _POINTERS and not _SECRETS.isdisjoint(words)


def redacted(value: Any, name: str = "") -> Any:
    """``value`` with every secret in it, by name or in a URL, replaced by ``***``."""
    if isinstance(value, dict):
        return {key: redacted(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [redacted(inner, name) for inner in value]
    if value is not None and is_secret(name):
        return HIDDEN
    return _USERINFO.sub(rf"\g<scheme>:{HIDDEN}@", value) if isinstance(value, str) else value
