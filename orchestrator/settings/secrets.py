"""The section ``secrets`` of ``vacuo.yaml``: where secrets are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Secrets(BaseModel):
    """Where secret parameters and credentials are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    backend: Literal["file", "vault"] = Field(
        "file",
        description="`file`: sealed in the database under `master-keys` in the data directory; "
        "`vault`: in a KV version 2 engine of Vault.",
    )
    vault_url: str | None = Field(
        None, pattern=r"^https?://[^/\s]+$", description="Where that Vault is."
    )
    vault_mount: str = Field(
        "secret", pattern=r"^[A-Za-z0-9_/-]+$", description="The engine's mount point."
    )
    vault_path: str = Field(
        "vacuo", pattern=r"^[A-Za-z0-9_/-]+$", description="What is put there goes below this."
    )
    vault_token_file: Path | None = Field(
        None,
        description="The file with a token that may write and read there (mode 0600); it is read "
        "anew at each use.",
    )

    @model_validator(mode="after")
    def _vault_is_whole(self) -> Secrets:
        if self.backend == "vault" and not (self.vault_url and self.vault_token_file):
            raise PydanticCustomError("vault", "vault needs vault_url and vault_token_file")
        on_this_machine = ("http://127.0.0.1", "http://localhost", "http://[::1]")
        url = self.vault_url or "https:"
        if not url.startswith(("https:", *on_this_machine)):
            raise PydanticCustomError(
                "vault_url", "vault_url must begin with https://", {"at": ("vault_url",)}
            )
        return self
