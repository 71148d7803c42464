"""Secrets left to a Vault: its KV engine, version 2, by the library hvac.

A row of ours then holds the path and the version only.  What is in Vault names its place, so that
an entry which somebody moved there opens nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import Retryable, Unauthorised, UserError
from orchestrator.identity.secrets import VAULT, SecretUnreadable
from orchestrator.model import Sealed, SecretPlace
from orchestrator.settings import Secrets

SECONDS = 10
NO_CONTENT = 204


class VaultSealer:
    """A :class:`~orchestrator.identity.secrets.Sealer` that keeps contents in Vault.

    Raises :class:`~orchestrator.errors.UserError` where hvac is not installed.
    """

    in_turn = False  # it may take seconds, and has no key of ours that could be dropped

    def __init__(self, settings: Secrets) -> None:
        try:
            import hvac
        except ModuleNotFoundError:
            raise UserError(
                "Secrets cannot be kept in Vault.",
                "The library hvac is not installed.",
                "pip install 'vacuo[vault]'",
                code="configuration-invalid",
            ) from None
        self._hvac = hvac
        self._settings = settings

    def seal(self, place: SecretPlace, content: bytes) -> Sealed:
        path = self._path(place)
        inside = {"place": list(place.words), "content": base64.b64encode(content).decode()}
        answer = self._call("create_or_update_secret", path, secret=inside)
        return Sealed(VAULT, str(answer["data"]["version"]), path)

    def open(self, place: SecretPlace, sealed: Sealed) -> bytes:
        if sealed.key != VAULT or sealed.content != self._path(place):
            raise _unreadable(place, "it is not in this Vault, or not where it belongs")
        try:
            version = int(sealed.wrapped)
            answer = self._call(
                "read_secret_version", sealed.content, version=version,
                raise_on_deleted_version=True,
            )  # fmt: skip
            inside = answer["data"]["data"]
            if tuple(inside["place"]) != place.words:
                raise _unreadable(place, "what is in Vault belongs elsewhere")
            return base64.b64decode(inside["content"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise _unreadable(place, "what is in Vault is not as it was stored") from None
        except self._hvac.exceptions.InvalidPath:
            raise _unreadable(place, "it is not in Vault any more") from None

    def read(self, path: str, key: str) -> str:
        """What somebody else keeps at ``path`` of the same engine under ``key``, as it is now.

        :raises Unauthorised: it is not there, or not for the server to read.
        :raises Retryable: Vault does not answer.
        """
        try:
            answer = self._call("read_secret_version", path, raise_on_deleted_version=True)
            found = answer["data"]["data"][key]
        except self._hvac.exceptions.InvalidPath:
            raise Unauthorised(f"There is no {path} in Vault.") from None
        except (KeyError, TypeError):
            found = None
        if not isinstance(found, str):
            raise Unauthorised(f"{path} in Vault has no text under {key!r}.")
        return found

    def forget(self, place: SecretPlace, sealed: Sealed) -> None:
        if sealed.key == VAULT and sealed.content == self._path(place):
            self.clear(place)

    def clear(self, place: SecretPlace) -> None:
        with suppress(self._hvac.exceptions.InvalidPath):
            self._call("delete_metadata_and_all_versions", self._path(place))

    def _path(self, place: SecretPlace) -> str:
        name = hashlib.sha256(json.dumps(place.words).encode()).hexdigest()
        return f"{self._settings.vault_path.strip('/')}/{name[:40]}"

    def _call(self, operation: str, path: str, **arguments: Any) -> Any:
        import requests

        errors = self._hvac.exceptions
        client = self._hvac.Client(
            url=self._settings.vault_url,
            token=_token(self._settings.vault_token_file),
            timeout=SECONDS,
            allow_redirects=False,
        )
        mount = self._settings.vault_mount.strip("/")
        try:
            act = getattr(client.secrets.kv.v2, operation)
            answer = act(path=path, mount_point=mount, **arguments)
            # What is no document is a redirect, which is not followed, or an empty answer.
            if not isinstance(answer, dict) and getattr(answer, "status_code", 0) != NO_CONTENT:
                raise ValueError("no answer")
            return answer
        except (errors.Forbidden, errors.Unauthorized):
            raise Retryable("Vault refuses the server's token for secrets.", 60.0) from None
        except errors.InvalidPath:
            raise
        except (errors.VaultError, requests.RequestException, ValueError) as error:
            # The text of an error may repeat what was sent.
            raise Retryable(f"Vault does not answer: {type(error).__name__}.", 10.0) from None
        finally:
            client.adapter.close()


def _token(path: Path | None) -> str:
    try:
        return path.read_text().strip() if path else ""
    except OSError as error:
        raise Retryable(f"The token for Vault cannot be read: {path}: {error.strerror}.") from None


def _unreadable(place: SecretPlace, why: str) -> SecretUnreadable:
    return SecretUnreadable(f"The secret {place.name!r} cannot be read: {why}.")
