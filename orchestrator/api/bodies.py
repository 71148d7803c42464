"""When a request has come whole, so that no thread waits for the rest of it.  Pure.

This decides when a request is given to a thread, and nothing else: what a request *is* gunicorn's
parser says.  To be wrong here costs a thread some waiting, or a client some.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# What may be a credential: of others no body is read at all, so there is nothing to wait for.
_BEARER = re.compile(rb"bearer +[A-Za-z0-9._~+/=-]+", re.IGNORECASE)
_SESSION = re.compile(rb"(?:^|; ?)(?:__Host-)?vacuo-session=")
_CHUNK_LINE = 1024


@dataclass
class Body:
    """A body that is waited for; it begins at ``start`` of what was read.

    ``length`` is None where it comes in chunks, of which the next begins at ``at``; ``most`` is how
    much of it is waited for.
    """

    start: int
    length: int | None
    most: int
    continues: bool  # its client waits to be told to send it
    at: int = 0

    def whole(self, read: bytearray) -> bool:
        """Whether it has come, or is not worth waiting for: too long, or not in order."""
        if self.length is not None:
            return len(read) >= self.start + self.length
        while len(read) - self.start <= self.most:
            line = read.find(b"\r\n", self.at)
            if line < 0:
                return len(read) - self.at > _CHUNK_LINE
            size = _chunk_size(bytes(read[self.at : line]))
            if size is None:
                return True
            if size == 0:  # then trailers, which end with an empty line
                return read.find(b"\r\n\r\n", line) >= 0 or len(read) - line > _CHUNK_LINE
            after = line + 2 + size + 2
            if after > len(read):
                return after - self.start > self.most
            self.at = after
        return True


def awaited(read: bytes, end: int, most: int) -> Body | None:
    """The body to wait for of a request whose head ends at ``end``; None where there is nothing to
    wait for: no body, none that will be read, or a head that is not in order."""
    found: dict[bytes, bytes] = {}
    for line in read[:end].split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if not colon or name.lower() in found:
            return None  # a cookie may come twice, and then is none
        found[name.lower()] = value.strip(b" \t")
    if not _has_credential(found):
        return None
    start = end + 4
    continues = found.get(b"expect", b"").lower() == b"100-continue"
    length, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
    if length is None and coding is not None and coding.lower() == b"chunked":
        return Body(start, None, most, continues, start)
    if length is None or coding is not None or not re.fullmatch(rb"[0-9]{1,12}", length):
        return None
    wanted = int(length)
    return Body(start, wanted, most, continues) if 0 < wanted <= most else None


def _has_credential(headers: dict[bytes, bytes]) -> bool:
    shown = headers.get(b"authorization")
    if shown is not None:
        return _BEARER.fullmatch(shown) is not None
    return _SESSION.search(headers.get(b"cookie", b"")) is not None


def _chunk_size(line: bytes) -> int | None:
    digits = line.partition(b";")[0].strip(b" \t")
    return int(digits, 16) if re.fullmatch(rb"[0-9A-Fa-f]{1,12}", digits) else None
