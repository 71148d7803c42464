"""What the store keeps of a person who is signed in with a browser."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.identifiers import Principal


@dataclass(frozen=True)
class WebSession:
    """What a session cookie stands for; times are in seconds since the epoch.

    ``digest`` is the hash of the cookie, which is kept nowhere.  The rest is what the access token
    told that the person signed in with; the token is not kept either, and ``ends_at`` is never
    after its end.
    """

    digest: str
    principal: Principal
    groups: tuple[str, ...]
    scopes: tuple[str, ...]
    client_id: str | None
    created_at: float
    used_at: float
    ends_at: float
