"""``vacuo.yaml``: sites, pools, issuers, limits; checked whole at start, with exact errors.

A *site* is a provider with its endpoint, images, flavours, limits and prices; a *pool* is a
collector, its schedds and a credential.  Both are data: another cloud or a foreign pool is an
entry here.  ``docs/admin/configuration.md`` documents every field and a test keeps the two equal.
Every scalar at the top level can be overridden by ``VACUO_<NAME>`` in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestrator.errors import UserError

SEARCH_PATH = (Path("vacuo.yaml"), Path("/etc/vacuo/vacuo.yaml"))


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Flavour(_Section):
    """A size of machine that a site can give."""

    name: str = Field(description="The provider's name for it.")
    cores: int = Field(ge=1)
    memory_mb: int = Field(ge=64, description="Memory, in MiB.")
    disk_gb: int = Field(ge=1, description="Disk, in GiB.")
    price_per_hour: float | None = Field(
        None, ge=0, description="In the site's currency; leave it out where no price is known."
    )


class SiteLimits(_Section):
    """What Vacuo may use of the site at most; absent is no limit of ours."""

    instances: int | None = Field(None, ge=0)
    cores: int | None = Field(None, ge=0)
    memory_mb: int | None = Field(None, ge=0)


class Site(_Section):
    """A place where machines can be had."""

    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
    provider: Literal["local", "simulated"] = Field(description="Which provider speaks to it.")
    endpoint: str | None = Field(
        None,
        description="local: the socket of podman or docker; absent: Vacuo finds or starts one.",
    )
    images: dict[str, str] = Field(
        default_factory=dict,
        description="Names that templates use, and the provider's references; `default` is used "
        "where a template names none.",
    )
    flavours: tuple[Flavour, ...] = Field(description="Sizes, in order of preference.")
    limits: SiteLimits = SiteLimits()
    network: str = Field("vacuo", description="local: the name of the hosts' network.")
    subnet: str = Field("10.93.0.0/24", description="local: the addresses of that network.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="What only this provider understands."
    )


class Pool(_Section):
    """An HTCondor pool that machines may join."""

    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
    batch: Literal["htcondor", "simulated"] = "htcondor"
    collector: str = Field(
        "", description="host:port of the collector, as hosts and server see it."
    )
    schedds: tuple[str, ...] = Field(
        (), description="Schedds whose queues count; empty is all that the collector knows."
    )
    trust_domain: str = ""
    token_file: Path | None = Field(
        None, description="The IDTOKEN with which Vacuo itself speaks to the pool (mode 0600)."
    )
    signing_key_directory: Path | None = Field(
        None,
        description="The collector's SEC_PASSWORD_DIRECTORY: one key per deployment is kept there.",
    )
    options: dict[str, Any] = Field(default_factory=dict)


class Issuer(_Section):
    """An OpenID Connect issuer whose access tokens are accepted."""

    name: str
    issuer: str = Field(description="The exact `iss` of its tokens.")
    aliases: tuple[str, ...] = Field((), description="Other exact spellings, e.g. with a slash.")
    audiences: tuple[str, ...] = Field(min_length=1)
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = ("RS256", "ES256")
    jwks_uri: str | None = Field(None, description="Absent: taken from the issuer's discovery.")
    client_id: str = Field("vacuo-cli", description="The public client that `vacuo login` uses.")


class Limits(_Section):
    """What the server refuses above, and how long it is patient."""

    template_bytes: int = Field(1_000_000, ge=1000)
    template_seconds: float = Field(20.0, gt=0, description="CPU and wall clock for one template.")
    nodes_per_deployment: int = Field(500, ge=1)
    boot_seconds: float = Field(300.0, gt=0, description="From request until ssh answers.")
    configure_seconds: float = Field(900.0, gt=0)
    configure_attempts: int = Field(3, ge=1)
    join_seconds: float = Field(300.0, gt=0)
    lost_seconds: float = Field(
        120.0, gt=0, description="How long a joined node may be missing from its pool."
    )
    drain_seconds: float = Field(3600.0, ge=0, description="How long running jobs may take to end.")
    poll_seconds: float = Field(0.5, gt=0, description="Between two looks at a pool's queue.")


class Settings(_Section):
    """The whole of ``vacuo.yaml``."""

    data_directory: Path = Field(
        Path("/var/lib/vacuo"), description="Database, keys, logs and runs of this server."
    )
    listen: str = Field("127.0.0.1:8420", description="Address and port of the API.")
    public_url: str | None = Field(None, description="How users reach the API, if not as `listen`.")
    database: str | None = Field(
        None, description="SQLAlchemy URL; absent: SQLite in the data directory."
    )
    log_format: Literal["text", "json"] = "text"
    development_issuer: bool = Field(
        False, description="Run the built-in issuer of tokens: anybody on this machine may log in."
    )
    issuers: tuple[Issuer, ...] = ()
    sites: tuple[Site, ...] = ()
    pools: tuple[Pool, ...] = ()
    limits: Limits = Limits()

    @property
    def url(self) -> str:
        return self.public_url or f"http://{self.listen}"

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_directory / 'vacuo.db'}"

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        for what in ("sites", "pools", "issuers"):
            names = [entry.name for entry in getattr(self, what)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what}: the name {twice[0]} is used twice")
        return self


def find(explicit: str | None = None) -> Path | None:
    """The configuration file: as given, else ``VACUO_CONFIG``, else the first that exists."""
    named = explicit or os.environ.get("VACUO_CONFIG")
    if named:
        return Path(named)
    return next((path for path in SEARCH_PATH if path.is_file()), None)


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check ``path`` (None: defaults), then apply ``VACUO_*`` from the environment.

    Raises :class:`UserError` with file, line and field for everything that is wrong.
    """
    environment = os.environ if environment is None else environment
    document, lines = _read(path) if path else ({}, {})
    for name, field in Settings.model_fields.items():
        value = environment.get(f"VACUO_{name.upper()}")
        if value is not None and field.annotation not in (tuple, dict):
            document[name] = yaml.safe_load(value)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise UserError(
            f"The configuration {path or '(environment)'} cannot be used.",
            "\n".join(_sentences(path, lines, error)),
            "see docs/admin/configuration.md, or run: vacuo server config --defaults",
            code="configuration-invalid",
        ) from None


def _read(path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(
            f"The configuration {path} cannot be read.", f"{error.strerror}.", code="configuration"
        ) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"The configuration {path} is not YAML.", str(error), code="configuration-invalid"
        ) from None
    if not isinstance(document, dict):
        raise UserError(
            f"The configuration {path} is not a mapping.",
            attempt="start from: vacuo server config --defaults",
            code="configuration-invalid",
        )
    return document, dict(_lines(root, ())) if root else {}


def _lines(node: yaml.Node, path: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], int]]:
    found = [(path, node.start_mark.line + 1)]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found += _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += _lines(value, (*path, index))
    return found


def _sentences(
    path: Path | None, lines: Mapping[tuple[str | int, ...], int], error: ValidationError
) -> list[str]:
    sentences = []
    for problem in error.errors(include_input=False, include_url=False):
        where = tuple(problem["loc"])
        line = next((lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in lines), 0)
        field = ".".join(str(part) for part in where) or "(document)"
        place = f"{path}:{line}: " if line else ""
        sentences.append(f"{place}{field}: {problem['msg']}.")
    return sentences
