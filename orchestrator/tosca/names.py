"""What an import names, written out: a name of the catalogue, a URL, a file of a bundle or archive.

The canonical names are ``vacuo/<file>`` (shipped), ``https://…`` and ``http://…`` (found through
an import map or a bundle; only https is ever fetched), ``./<path>`` (beside the template, in the
archive that it came in) and ``<bundle>/<path>``.  Whatever a document writes becomes one of these
before anybody looks for it, so that nothing leads out of where it belongs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

SHIPPED = "vacuo/"
# Names that mean the same; what people write first.
ALIASES = {"vacuo": "vacuo/types.yaml", "vacuo/types": "vacuo/types.yaml"}
MAXIMUM_LENGTH = 2000
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


@dataclass(frozen=True)
class Refusal:
    """Why an import cannot be had, and what to try."""

    sentence: str
    suggestion: str = ""


def canonical(written: str, origin: str) -> str | Refusal:
    """The canonical name of what a document named ``origin`` writes; "" is a lone template."""
    name = written.strip()
    if len(name) > MAXIMUM_LENGTH or not name.isprintable() or "\\" in name or " " in name:
        return Refusal("An import is a name or an address, without spaces or backslashes.")
    if name in ALIASES or name.startswith(SHIPPED):
        return ALIASES.get(name, name)
    scheme = _SCHEME.match(name)
    if scheme:
        return url(name) if scheme[1].lower() in ("http", "https") else _other_scheme(scheme[1])
    if name.startswith(("/", "~")):
        return Refusal(
            "An import cannot name a file by an absolute path: Vacuo opens no file because a "
            "template says so.",
            "Name it relative to the document that imports it.",
        )
    if not origin:
        return _inside(name, "", "")
    if is_url(origin):
        base = urlsplit(origin)
        path = _inside(name, base.path.lstrip("/"), "the address")
        if isinstance(path, Refusal):
            return path
        return urlunsplit((base.scheme, base.netloc, "/" + path, "", ""))
    root, _, inner = origin.partition("/")
    path = _inside(name, inner, "the archive" if root == "." else f"the bundle `{root}`")
    return path if isinstance(path, Refusal) else f"{root}/{path}"


def url(text: str) -> str | Refusal:
    """An address in its one spelling: host in lower case, no port that goes without saying."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return Refusal("This is not an address.")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        return Refusal("An address with a user or a password in it is not followed.")
    if parts.fragment:
        return Refusal("An address of an import has no `#`.")
    host = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(host) or not text.isascii():
        return Refusal("The address names no host that Vacuo understands.")
    default = {"https": 443, "http": 80}[parts.scheme]
    netloc = host if port in (None, default) else f"{host}:{port}"
    path = _inside(parts.path.lstrip("/"), "", "the address") if parts.path.strip("/") else ""
    if isinstance(path, Refusal):
        return path
    if parts.path.endswith("/") and path:
        path += "/"
    return urlunsplit((parts.scheme, netloc, "/" + path, parts.query, ""))


def is_url(name: str) -> bool:
    return name.startswith(("https://", "http://"))


def within(prefix: str, name: str) -> str | None:
    """What follows ``prefix`` in ``name``, or None where ``name`` is not below it."""
    base = prefix if prefix.endswith("/") else prefix + "/"
    return name.removeprefix(base) if name.startswith(base) else None


def shown(name: str) -> str:
    """The name as people know it: a file of an archive goes by its path there."""
    return name.removeprefix("./")


def _inside(path: str, importer: str, where: str) -> str | Refusal:
    """``path`` seen from the document at ``importer``; both are relative to the same root."""
    steps = importer.split("/")[:-1]
    for step in path.split("/"):
        if step == "..":
            if not steps:
                return Refusal(
                    f"The import leads out of {where}." if where else "An import has no `..`."
                )
            steps.pop()
        elif step not in ("", "."):
            steps.append(step)
    if not steps:
        return Refusal("The import names a directory, not a file.")
    return "/".join(steps)


def _other_scheme(scheme: str) -> Refusal:
    if scheme.lower() == "file":
        return Refusal(
            "An import cannot name a file of this machine: Vacuo opens no file because a template "
            "says so.",
            "Name a shipped file such as `vacuo/types.yaml`, or an https address.",
        )
    return Refusal(f"An import is named by an https address, not by `{scheme[:20]}:`.")
