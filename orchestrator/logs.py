"""Structured logs: text for people, JSON for machines, and no secret in either.

Every record carries the deployment, the node and the correlation id of the work it belongs to,
taken from context variables: a request handler or a pass binds them once with :func:`bound`, and
whatever logs below need not know; ``extra`` of one call counts more.  A thread starts with none;
pass :func:`context` on.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Literal

FIELDS = ("deployment", "node", "correlation")

_context: ContextVar[Mapping[str, str]] = ContextVar("vacuo_log_context")

# A JSON Web Token (an access token, an ID token, HTCondor's IDTOKEN) wherever it stands; then what
# follows a scheme or a name that announces a secret; then private keys.
_SECRETS = (
    (re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{2,}(?:\.[A-Za-z0-9_-]*)?"), "[token]"),
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20)[A-Za-z0-9._~+/=-]{6,}"), r"\1 [secret]"),
    (
        re.compile(
            r"(?i)\b((?:access_|refresh_|id_)?token|password|passwd|secret|client_secret|"
            r"device_code|api_?key)(\"?'?\s*[=:]\s*\"?'?)(?!\[)[^\s\"'&,;}\]]{4,}"
        ),
        r"\1\2[secret]",
    ),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*KEY-----|\Z)", re.S),
        "[private key]",
    ),
)


def redact(text: str) -> str:
    """``text`` with everything that looks like a credential replaced by what kind it was."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def context() -> Mapping[str, str]:
    """The fields bound now; hand them to another thread as ``with bound(**fields)``."""
    return _context.get({})


@contextmanager
def bound(**fields: str | None) -> Iterator[None]:
    """Bind ``deployment``, ``node`` or ``correlation`` for every record logged inside.

    A field that is None keeps what an outer block has bound.
    """
    unknown = fields.keys() - set(FIELDS)
    if unknown:
        raise TypeError(f"not a field of log records: {sorted(unknown)[0]}")
    added = {name: value for name, value in fields.items() if value is not None}
    token = _context.set({**context(), **added})
    try:
        yield
    finally:
        _context.reset(token)


class _Formatter(logging.Formatter):
    """What both formats share: the time, the fields, the traceback, and the filter."""

    def _time(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        found: dict[str, str] = dict(getattr(record, "vacuo", {}))
        found |= {name: str(record.__dict__[name]) for name in FIELDS if name in record.__dict__}
        return {name: found[name] for name in FIELDS if name in found}

    def _trace(self, record: logging.LogRecord) -> str:
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        return record.exc_text or ""


class TextFormatter(_Formatter):
    """``time level logger [deployment=… node=… correlation=…] message``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in self._fields(record).items())
        parts = [self._time(record), record.levelname, record.name]
        line = " ".join([*parts, f"[{fields}]"] if fields else parts)
        trace = self._trace(record)
        text = f"{line} {record.getMessage()}" + (f"\n{trace}" if trace else "")
        return redact(text)


class JsonFormatter(_Formatter):
    """One JSON object a line: at, level, logger, message, the bound fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "at": self._time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
            **{name: redact(value) for name, value in self._fields(record).items()},
        }
        trace = self._trace(record)
        if trace:
            entry["exception"] = redact(trace)
        return json.dumps(entry, ensure_ascii=False)


class _BindContext(logging.Filter):
    """Keeps with each record what was bound when it was logged, not when it is written."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "vacuo"):
            record.vacuo = dict(context())
        return True


def configure(
    form: Literal["text", "json"] = "text",
    level: int = logging.INFO,
    stream: IO[str] | None = None,
) -> logging.Handler:
    """Send every record of the process to ``stream`` (stderr) in ``form``; replaces handlers.

    Returns the handler, so that a caller may take it away again.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(_BindContext())
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)
    # These write request targets and headers at debug level, or every migration step.
    for noisy in ("httpx", "httpcore", "urllib3", "alembic"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
    return handler
