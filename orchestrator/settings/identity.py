"""The section ``issuers`` of ``vacuo.yaml``: whose tokens are accepted, and how they are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Issuer(BaseModel):
    """An OpenID Connect issuer whose access tokens are accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    name: str = Field(description="What `vacuo login --issuer` calls it.")
    issuer: str = Field(description="The exact `iss` of its tokens.")
    aliases: tuple[str, ...] = Field((), description="Other exact spellings, e.g. with a slash.")
    audiences: tuple[str, ...] = Field(
        min_length=1, description="A token must be meant for one of these, exactly."
    )
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = Field(
        ("RS256", "ES256"), description="What its keys may sign with."
    )
    jwks_uri: str | None = Field(None, description="Absent: taken from the issuer's discovery.")
    stale_days: float = Field(
        2.0, ge=0, le=4, description="How long its known keys serve while it is away."
    )
    profile: Literal["oidc", "iam", "wlcg", "aarc", "kc"] = Field(
        "oidc", description="Which claims its tokens have, and where they tell of groups."
    )
    enrichment: Literal["none", "userinfo", "introspection"] = Field(
        "none", description="Whom to ask for the groups of a token that does not tell of any."
    )
    introspection_client_id: str | None = Field(
        None, description="The confidential client that may introspect tokens."
    )
    introspection_secret_file: Path | None = Field(
        None, description="The file with that client's secret (mode 0600)."
    )
    client_id: str = Field("vacuo-cli", description="The public client that `vacuo login` uses.")
    web_client_id: str | None = Field(
        None, description="The client of sign-in by browser; absent: there is none."
    )
    web_client_secret_file: Path | None = Field(
        None, description="The file with that client's secret (mode 0600); absent: it is public."
    )
    web_scopes: tuple[str, ...] = Field(
        ("openid",), description="What is asked for when somebody signs in so."
    )
    delegation: Literal["none", "login", "exchange"] = Field(
        "none",
        description="How the server gets logins of people for what their deployments need later: "
        "not at all, by `vacuo credentials renew`, or also by token exchange.",
    )
    delegation_client_id: str | None = Field(
        None, description="exchange: the confidential client of this server."
    )
    delegation_secret_file: Path | None = Field(
        None, description="exchange: the file with that client's secret (mode 0600)."
    )

    @model_validator(mode="after")
    def _may_exchange(self) -> Issuer:
        if self.delegation == "exchange" and not (
            self.delegation_client_id and self.delegation_secret_file
        ):
            raise PydanticCustomError(
                "delegation", "exchange needs a client's id and the file of its secret"
            )
        return self

    @model_validator(mode="after")
    def _says_who_signs_in(self) -> Issuer:
        if "openid" not in self.web_scopes:
            raise PydanticCustomError(
                "web_scopes", "openid has to be among web_scopes: it says who signs in"
            )
        return self

    @model_validator(mode="after")
    def _may_introspect(self) -> Issuer:
        if self.enrichment == "introspection" and not (
            self.introspection_client_id and self.introspection_secret_file
        ):
            raise PydanticCustomError(
                "introspection", "introspection needs a client's id and the file of its secret"
            )
        return self
