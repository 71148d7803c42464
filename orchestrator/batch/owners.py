"""Pools whose nodes join with an access token of the deployment's owner, whom the pool knows."""

from __future__ import annotations

import jwt

from orchestrator.batch.base import JoinCredential
from orchestrator.errors import Terminal
from orchestrator.model import TokenWanted
from orchestrator.settings import Pool

# A host is given the next at half of the life of the one that it has, and some time to fetch it.
_LEAST_SHARE = 0.6


def token_wanted(pool: Pool) -> TokenWanted | None:
    """What ``options.join_with: owner`` asks for; None where the pool is joined otherwise."""
    if pool.options.get("join_with") != "owner":
        return None
    scope = str(pool.options.get("join_scope", ""))
    return TokenWanted(str(pool.options.get("join_audience", "")), scope)


def owners_token(pool: Pool, token: str, now: float) -> JoinCredential:
    """The credential that ``token`` is; it was verified by whoever got it.

    Raises :class:`Terminal` for one that ends before a host could be given another.
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        expires = float(claims["exp"])
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise Terminal(f"Pool {pool.name}: the owner's token is no JWT.") from None
    if expires - now < _LEAST_SHARE * pool.join_token_seconds:
        raise Terminal(
            f"Pool {pool.name}: the owner's token lasts {expires - now:.0f} s, and hosts are given "
            f"another only after {pool.join_token_seconds / 2:.0f} s. Try: set join_token_seconds "
            "to the life of the issuer's access tokens."
        )
    return JoinCredential(token, str(claims.get("sub", "")), expires)
