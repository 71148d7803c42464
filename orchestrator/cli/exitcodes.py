"""The exit codes of ``vacuo``; ``docs/user/cli.md`` documents them and a test compares the two.

A usage error would be 2 by the custom of argument parsers, but 2 is what ``vacuo plan`` says when
there are changes, and a script must be able to tell the two apart.  So a usage error is 64, the
``EX_USAGE`` of ``sysexits.h``.
"""

from __future__ import annotations

from typing import Final

OK: Final = 0
ERROR: Final = 1
CHANGES: Final = 2
USAGE: Final = 64
UNREACHABLE: Final = 69
UNAUTHORISED: Final = 77
TIMED_OUT: Final = 124
DETACHED: Final = 130

MEANING: Final[dict[int, str]] = {
    OK: "It worked; for `plan`: nothing would change.",
    ERROR: "It did not work; the message says what, why and what to try.",
    CHANGES: "Only `plan`: there are changes.",
    USAGE: "The command was typed wrongly: an unknown option, a missing argument.",
    UNREACHABLE: "No server answers at the address.",
    UNAUTHORISED: "There is no valid token, or it may not do this.",
    TIMED_OUT: "`--timeout` passed; what was asked for goes on at the server.",
    DETACHED: "Ctrl-C: the command ended; what was asked for goes on at the server.",
}


def of_status(status: int) -> int:
    """The exit code for an HTTP error status."""
    return UNAUTHORISED if status in (401, 403) else ERROR
