"""The registry of the API's error codes.

It is served at ``/docs/errors``, which is what ``type`` of a problem points at.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A code of ours: its HTTP status, its title, and what the documentation says of it."""

    status: int
    title: str
    meaning: str


CODES: dict[str, Code] = {
    "request-invalid": Code(
        400,
        "The request cannot be used",
        "A field of the body, a query parameter or a header is unknown, missing or out of range. "
        "`errors` names each.",
    ),
    "json-invalid": Code(
        400,
        "The body is not a JSON object",
        "The body cannot be read as JSON in UTF-8, is not an object, or names a field twice.",
    ),
    "template-invalid": Code(
        400,
        "The template cannot be used",
        "The template has problems; `errors` gives file, line, column and path of each, and where "
        "there is one a suggestion. `vacuo validate` shows the same.",
    ),
    "template-too-expensive": Code(
        400,
        "The template takes too much to read",
        "Reading it took more time or memory than one template may.",
    ),
    "login-unusable": Code(
        400,
        "This login is not kept",
        "The issuer did not renew it for this server.",
    ),
    "login-not-kept": Code(
        400,
        "No login of yours is kept",
        "The server keeps no logins of people of your issuer, or its own address is not https.",
    ),
    "credential-unusable": Code(
        400,
        "This is no credential",
        "A field is missing, or one that its kind does not know was sent.",
    ),
    "master-key-unusable": Code(
        500,
        "The server cannot use its master key",
        "An administrator has to mend it: see docs/admin/configuration.md.",
    ),
    "callback-refused": Code(
        400,
        "The callback cannot be called",
        "It has to be an https address of a host that the administrator has listed in `callbacks`.",
    ),
    "template-failed": Code(
        500,
        "The template cannot be read, by a fault of Vacuo",
        "The server's log has the rest, under the correlation id of the answer.",
    ),
    "template-busy": Code(
        503, "Too many templates are being read", "Send the same again in a few seconds."
    ),
    "token-missing": Code(
        401, "A token is needed", "Send `Authorization: Bearer …`; `vacuo login` gets a token."
    ),
    "token-invalid": Code(
        401,
        "The token is not accepted",
        "It is not a token of an issuer that this server trusts, or it is not meant for it.",
    ),
    "credential-invalid": Code(
        401,
        "The node's credential is not accepted",
        "It was used, has expired, belongs to a node that is to be deleted or to a run that is "
        "over, or is not one of this server.",
    ),
    "token-expired": Code(401, "The token has expired", "Log in again: `vacuo login`."),
    "session-ended": Code(
        401,
        "The session of the browser has ended",
        "It was signed out, nobody used it for half an hour, or the token it began with has "
        "ended. Sign in again at `/account`.",
    ),
    "cross-site": Code(
        403,
        "The request does not come from a page of this server",
        "It came with a session cookie, and without the session's `X-CSRF-Token` or from another "
        "site. Programs send `Authorization: Bearer …` instead.",
    ),
    "login-failed": Code(
        400, "Nobody is signed in", "The page says why; the server's log knows more."
    ),
    "login-not-configured": Code(
        400,
        "Nobody can sign in by browser here",
        "The administrator has to set `public_url` and the issuer's `web_client_id`.",
    ),
    "forbidden": Code(403, "This is not allowed", "The token is good and does not allow this."),
    "limit-exceeded": Code(
        403,
        "A limit would be exceeded",
        "It would take a person or a group above what they may have together; `limit` says which "
        "limit, what is used and what was asked for.",
    ),
    "not-found": Code(
        404,
        "There is nothing here",
        "The thing does not exist, or it is not yours to see: the two look alike on purpose.",
    ),
    "method-not-allowed": Code(
        405, "The method does not fit", "`Allow` in the answer names those that do."
    ),
    "conflict": Code(
        409,
        "The request does not fit the state",
        "Such as an update of a deployment that is being deleted, or an `Idempotency-Key` that was "
        "used for something else.",
    ),
    "changed-meanwhile": Code(
        412,
        "Somebody else changed it meanwhile",
        "The `If-Match` of the request is not the `ETag` of the deployment any more.",
    ),
    "too-large": Code(
        413, "The body is too large", "The limit is `limits.templateBytes` of `GET /info`."
    ),
    "media-type": Code(415, "The body is not JSON", "Send `Content-Type: application/json`."),
    "too-many-requests": Code(
        429,
        "Too many requests",
        "You may send so many a minute; `Retry-After` says in how many seconds the next is good.",
    ),
    "internal": Code(
        500,
        "The server failed",
        "A fault of Vacuo. The server's log has the rest, under the correlation id of the answer.",
    ),
    "site-failed": Code(
        502, "A site or pool did not answer as it should", "`why` tells what it said."
    ),
    "issuer-unreachable": Code(
        503,
        "The issuer of the token cannot be reached",
        "Its keys are needed to check the token; the token itself may be good. Try again.",
    ),
    "unavailable": Code(503, "The server cannot do this now", "Try again; see `GET /readyz`."),
    "too-many-streams": Code(
        503,
        "Too many event streams are open",
        "Ask for JSON with `since` instead of a stream, or try again.",
    ),
}


def errors_page() -> str:
    """The registry as Markdown, with an anchor for each code."""
    lines = ["# Error codes of the API", ""]
    for name, code in CODES.items():
        lines += [f"## {name}", "", f"{code.status}: {code.title}. {code.meaning}", ""]
    return "\n".join(lines)
