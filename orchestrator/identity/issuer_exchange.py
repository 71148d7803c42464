"""Token exchange of the development issuer (RFC 8693): the server gets a login of its own for a
person who is logged in to it.

The policy is INDIGO-IAM's default, written out: the one client that may do it proves who it is with
a secret; the token that it shows is good, was given to another client than itself, and is a
person's; it gets no scope that it could not ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc6749.errors import (
    InvalidGrantError,
    InvalidRequestError,
    UnauthorizedClientError,
)

EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - its name
REFRESH_TOKEN = "urn:ietf:params:oauth:token-type:refresh_token"  # noqa: S105 - its name


def exchange_grant(
    claims_of: Callable[[str], Mapping[str, Any] | None], user_of: Callable[[str], Any]
) -> type[Any]:
    """The grant; ``claims_of`` are those of an access token of ours that is good, or None."""

    class ExchangeGrant(grants.BaseGrant, grants.TokenEndpointMixin):  # type: ignore[misc]
        GRANT_TYPE = EXCHANGE_GRANT
        TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]  # noqa: RUF012

        def validate_token_request(self) -> None:
            client = self.authenticate_token_endpoint_client()
            if not client.check_grant_type(self.GRANT_TYPE):
                raise UnauthorizedClientError("This client may not exchange tokens.")
            form = self.request.form
            wanted = form.get("requested_token_type", ACCESS_TOKEN)
            if form.get("subject_token_type") != ACCESS_TOKEN or "actor_token" in form:
                raise InvalidRequestError("The subject has to be an access token, and the only.")
            if wanted not in (ACCESS_TOKEN, REFRESH_TOKEN):
                raise InvalidRequestError("This kind of token is not given.")
            claims = claims_of(form.get("subject_token", ""))
            if claims is None or str(claims["sub"]).startswith("client:"):
                raise InvalidGrantError("The subject's token is not a person's that is good.")
            self.request.client = client
            self.validate_requested_scope()
            offline = "offline_access" in (self.request.payload.scope or "").split()
            if offline and claims.get("client_id") == client.client_id:
                raise InvalidGrantError("A client gets no offline_access for its own tokens.")
            self.request.user = user_of(str(claims["sub"]))

        def create_token_response(self) -> tuple[int, Any, Any]:
            scope = self.request.payload.scope or ""
            token = self.generate_token(
                user=self.request.user,
                scope=scope,
                include_refresh_token="offline_access" in scope.split(),
            )
            token["issued_token_type"] = ACCESS_TOKEN
            self.save_token(token)
            return 200, token, self.TOKEN_RESPONSE_HEADER

    return ExchangeGrant
