"""What the settings refer to on this machine: is it there, and safe?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.errors import UserError
from orchestrator.settings.document import SEARCH_PATH, find
from orchestrator.settings.sections import Pool, Settings

READ_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_files(settings: Settings) -> None:
    """Look at what ``settings`` refer to on this machine, as the server does before it starts.

    Raises :class:`UserError` that names each pool, field and file with what is wrong with it.
    """
    found = [
        f"pools.{pool.name}.{field}: {path}: {trouble}"
        for pool in settings.pools
        for field, path, trouble in _troubles(pool)
        if trouble
    ]
    found += [
        f"issuers.{issuer.name}.{field}: {path}: {trouble}"
        for issuer in settings.issuers
        for field in ("introspection_secret_file", "web_client_secret_file")
        if (path := getattr(issuer, field)) and (trouble := _trouble_of_secret(path))
    ]
    vault = settings.secrets.vault_token_file
    found += [
        f"pools.{pool.name}.options.join_token_path: it needs secrets.vault_url and "
        "secrets.vault_token_file."
        for pool in settings.pools
        if "join_token_path" in pool.options and not (settings.secrets.vault_url and vault)
    ]
    if vault and (trouble := _trouble_of_secret(vault)):
        found.append(f"secrets.vault_token_file: {vault}: {trouble}")
    if found:
        raise UserError(
            "The configuration names files that cannot be used.",
            "\n".join(found),
            "see docs/admin/pools.md, docs/admin/identity.md and docs/admin/configuration.md",
            code="configuration-invalid",
        )


def named_paths(settings: Settings) -> tuple[Path, ...]:
    """Every path that ``settings`` name, absolute, and where they themselves may be written."""
    own = {*SEARCH_PATH, *filter(None, [find()])}
    return tuple(sorted({path.absolute() for path in (*own, *_paths_in(settings))}))


def _paths_in(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str) and value.startswith("/"):  # an option that only a port knows
        yield Path(value)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _paths_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _paths_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths_in(item)


def _troubles(pool: Pool) -> Iterator[tuple[str, Path, str]]:
    tokens = {
        "token_file": pool.token_file,
        "options.join_token_file": pool.options.get("join_token_file"),
    }
    for field, token in tokens.items():
        if token:
            yield field, Path(token), _trouble_of_secret(Path(token))
    if pool.signing_key_directory:
        directory = pool.signing_key_directory
        yield "signing_key_directory", directory, _trouble_of_directory(directory)


def _trouble_of_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            empty = not file.read(1)
    except OSError as error:
        return f"{error.strerror}."
    if mode & READ_BY_OTHERS:
        return f"other users can read it (mode {mode:04o}). Try: chmod 600 {path}"
    return "it is empty." if empty else ""


def _trouble_of_directory(path: Path) -> str:
    if not path.is_dir():
        return "there is no such directory."
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return "the server's account may not read and write it."
    return ""
