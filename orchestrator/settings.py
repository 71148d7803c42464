"""``vacuo.yaml``: sites, pools, issuers, limits; checked whole at start, with exact errors.

A *site* is a provider with its endpoint, images, flavours, limits and prices; a *pool* is a
collector, its schedds and a credential.  Both are data: another cloud or a foreign pool is an
entry here.  ``docs/admin/configuration.md`` documents every field and a test keeps the two equal.
Every scalar at the top level can be overridden by ``VACUO_<NAME>`` in the environment.

What is wrong is told by file, line and field, and never by its value: that may be a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from orchestrator import yaml_file
from orchestrator.errors import UserError
from orchestrator.yaml_file import Place, dotted

SEARCH_PATH = (Path("vacuo.yaml"), Path("/etc/vacuo/vacuo.yaml"))
POOL_OPTIONS = ("join_token_file",)
READ_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def _host_and_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]", host) or not _is_port(port):
        raise PydanticCustomError("host_port", "must be HOST:PORT, such as 127.0.0.1:8420")
    return text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def _ipv4_network(text: str) -> str:
    try:
        ipaddress.IPv4Network(text)
    except ValueError:
        raise PydanticCustomError(
            "network", "must be an IPv4 network, such as 10.93.0.0/24"
        ) from None
    return text


def _http_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", text):
        raise PydanticCustomError("url", "must be an address that begins with https:// or http://")
    return text.rstrip("/")


_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Flavour(_Section):
    """A size of machine that a site can give."""

    name: str = Field(description="The provider's name for it.")
    cores: int = Field(ge=1, description="Cores.")
    memory_mb: int = Field(ge=64, description="Memory, in MiB.")
    disk_gb: int = Field(ge=1, description="Disk, in GiB.")
    price_per_hour: float | None = Field(
        None, ge=0, description="One currency for all sites; leave it out where no price is known."
    )


class SiteLimits(_Section):
    """What Vacuo may use of the site at most; absent is no limit of ours."""

    instances: int | None = Field(None, ge=0, description="Hosts at one time.")
    cores: int | None = Field(None, ge=0, description="Cores of all hosts together.")
    memory_mb: int | None = Field(None, ge=0, description="Memory of all hosts, in MiB.")


class Site(_Section):
    """A place where machines can be had."""

    name: str = Field(pattern=_NAME, description="What templates and commands call it.")
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
    limits: SiteLimits = Field(SiteLimits(), description="What Vacuo may use of it at most.")
    network: str = Field("vacuo", description="local: the name of the hosts' network.")
    subnet: Annotated[str, AfterValidator(_ipv4_network)] = Field(
        "10.93.0.0/24", description="local: the addresses of that network."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="What only this provider understands."
    )


class Pool(_Section):
    """An HTCondor pool that machines may join."""

    name: str = Field(pattern=_NAME, description="What templates and commands call it.")
    batch: Literal["htcondor", "simulated"] = Field(
        "htcondor", description="Which batch system it is."
    )
    collector: str = Field(
        "", description="host:port of the collector, as hosts and server see it."
    )
    schedds: tuple[str, ...] = Field(
        (), description="Schedds whose queues count; empty is all that the collector knows."
    )
    trust_domain: str = Field(
        "", description="The pool's TRUST_DOMAIN; empty is the host of `collector`."
    )
    token_file: Path | None = Field(
        None, description="The IDTOKEN with which Vacuo itself speaks to the pool (mode 0600)."
    )
    signing_key_directory: Path | None = Field(
        None,
        description="The collector's SEC_PASSWORD_DIRECTORY: one key per deployment is kept there.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="What only this batch system understands."
    )

    @model_validator(mode="after")
    def _suits_its_batch_system(self) -> Pool:
        if self.batch == "htcondor" and not self.collector:
            raise PydanticCustomError("collector", "a pool of HTCondor needs its collector")
        for name in self.options:
            if self.batch == "htcondor" and name not in POOL_OPTIONS:
                known = ", ".join(POOL_OPTIONS)
                raise PydanticCustomError(
                    "option",
                    "there is no such option; there is: {known}",
                    {"known": known, "at": ("options", name)},
                )
        return self


class Issuer(_Section):
    """An OpenID Connect issuer whose access tokens are accepted."""

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
    client_id: str = Field("vacuo-cli", description="The public client that `vacuo login` uses.")


class Limits(_Section):
    """What the server refuses above, and how long it is patient."""

    template_bytes: int = Field(1_000_000, ge=1000, description="Size of a template.")
    template_seconds: float = Field(20.0, gt=0, description="CPU and wall clock for one template.")
    nodes_per_deployment: int = Field(500, ge=1, description="Nodes of one deployment.")
    boot_seconds: float = Field(300.0, gt=0, description="From request until ssh answers.")
    configure_seconds: float = Field(900.0, gt=0, description="One run of Ansible.")
    configure_attempts: int = Field(
        3, ge=1, description="Runs of Ansible on a node before it is replaced."
    )
    join_seconds: float = Field(
        300.0, gt=0, description="From the end of Ansible until the pool lists the machine."
    )
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
    listen: Annotated[str, AfterValidator(_host_and_port)] = Field(
        "127.0.0.1:8420", description="Address and port of the API."
    )
    public_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None, description="How users reach the API, if not as `listen`."
    )
    database: str | None = Field(
        None, description="SQLAlchemy URL; absent: SQLite in the data directory."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines for people or JSON objects, on standard error."
    )
    development_issuer: bool = Field(
        False, description="Run the built-in issuer of tokens: anybody on this machine may log in."
    )
    issuers: tuple[Issuer, ...] = Field((), description="Whose tokens are accepted.")
    sites: tuple[Site, ...] = Field((), description="Where machines can be had.")
    pools: tuple[Pool, ...] = Field((), description="What machines may join.")
    limits: Limits = Field(Limits(), description="What the server refuses, and its patience.")

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
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise PydanticCustomError(
                        "name_used_twice",
                        "another of the {what} has this name already",
                        {"what": what, "at": (what, index, "name")},
                    )
        return self


def find(explicit: str | None = None) -> Path | None:
    """The configuration file: as given, else ``VACUO_CONFIG``, else the first that exists."""
    named = explicit or os.environ.get("VACUO_CONFIG")
    if named:
        return Path(named)
    return next((path for path in SEARCH_PATH if path.is_file()), None)


def scalars() -> Sequence[str]:
    """The settings that ``VACUO_<NAME>`` overrides: what at the top level is one value."""
    composed = {name for name, field in Settings.model_fields.items() if sections(field.annotation)}
    return [name for name in Settings.model_fields if name not in composed]


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check ``path`` (None: defaults), then apply ``VACUO_*`` from the environment.

    A variable that is set and empty counts as not set.  Raises :class:`UserError` with file, line
    and field for everything that is wrong.
    """
    environment = os.environ if environment is None else environment
    document, places = yaml_file.read(path) if path else ({}, {})
    for name in scalars():
        variable = f"VACUO_{name.upper()}"
        if environment.get(variable):
            document[name] = environment[variable]
            places[(name,)] = f"{variable} in the environment"
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        raise UserError(
            f"The configuration {path or 'in the environment'} cannot be used.",
            "\n".join(_sentence(places, path, problem) for problem in problems),
            "see docs/admin/configuration.md, or run: vacuo server config --defaults",
            code="configuration-invalid",
        ) from None


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
    if found:
        raise UserError(
            "The configuration names files that cannot be used.",
            "\n".join(found),
            "see docs/admin/pools.md",
            code="configuration-invalid",
        )


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


# --- what is wrong -------------------------------------------------------------------------------


def _sentence(places: Mapping[Place, str], path: Path | None, problem: ErrorDetails) -> str:
    where = (*problem["loc"], *problem.get("ctx", {}).get("at", ()))
    nearest = (where[:n] for n in range(len(where), 0, -1))
    at = next((places[place] for place in nearest if place in places), str(path or "environment"))
    wrong = _what_is_wrong(problem)
    return f"{at}: {dotted(where)}: {wrong}" + ("" if wrong.endswith("?") else ".")


def _what_is_wrong(problem: ErrorDetails) -> str:
    if problem["type"] == "missing":
        return "is missing"
    if problem["type"] != "extra_forbidden":
        return problem["msg"].rstrip(".")
    *parents, name = problem["loc"]
    close = difflib.get_close_matches(str(name), _fields_at(parents), n=1, cutoff=0.6)
    return "there is no such setting" + (f". Did you mean {close[0]}?" if close else "")


def _fields_at(place: Sequence[str | int]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in place:
        if isinstance(part, str):
            model = sections(model.model_fields[part].annotation)[0]
    return list(model.model_fields)


def sections(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field of this type is made of; none where it is a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in sections(inner)]
