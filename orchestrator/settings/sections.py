"""The sections of ``vacuo.yaml``: frozen models; what is wrong is told without its value."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from orchestrator.settings.identity import Issuer
from orchestrator.settings.secrets import Secrets

POOL_OPTIONS = (
    "join_token_file",
    "join_token_path",
    "join_token_key",
    "join_with",
    "join_audience",
    "join_scope",
)
ON_THIS_MACHINE = ("local", "simulated")


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


def _host_pattern(text: str) -> str:
    name = r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]"
    if not re.fullmatch(rf"({name})(:[0-9]{{1,5}})?", text):
        raise PydanticCustomError("host", "must be a host such as example.org or *.example.org")
    return text


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
    configure: Literal["push", "pull"] = Field(
        "push",
        description="Whether this server configures the hosts over ssh, or they do it themselves "
        "(docs/admin/pull.md).",
    )
    pull_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None, description="Where its hosts reach this API, if not at `public_url`."
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
    join_token_seconds: int = Field(
        3600,
        ge=10,
        le=3600,
        description="How long the token of a host is good; it is renewed at half of that.",
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

    @model_validator(mode="after")
    def _names_a_place_in_vault(self) -> Pool:
        place = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
        for name in ("join_token_path", "join_token_key"):
            value = self.options.get(name, "token")
            if not isinstance(value, str) or not place.fullmatch(value):
                raise PydanticCustomError(
                    "vault_path", "must be a path such as pools/cms", {"at": ("options", name)}
                )
        if "join_token_path" in self.options and (
            self.signing_key_directory or "join_token_file" in self.options
        ):
            raise PydanticCustomError(
                "vault_path",
                "the pool is joined with something else",
                {"at": ("options", "join_token_path")},
            )
        return self

    @model_validator(mode="after")
    def _is_joined_in_one_way(self) -> Pool:
        if "join_with" not in self.options:
            return self
        at = {"at": ("options", "join_with")}
        if self.options["join_with"] != "owner":
            raise PydanticCustomError("join_with", "there is only: owner", at)
        if self.signing_key_directory or {"join_token_file", "join_token_path"} & set(self.options):
            raise PydanticCustomError("join_with", "the pool is joined with something else", at)
        if not isinstance(self.options.get("join_audience"), str):
            raise PydanticCustomError(
                "join_with", "needs join_audience, for which the tokens are meant", at
            )
        return self


class Limits(_Section):
    """What the server refuses above, and how long it is patient."""

    template_bytes: int = Field(1_000_000, ge=1000, description="Size of a template.")
    template_seconds: float = Field(
        20.0,
        gt=0,
        description="For one template; its size bounds its processor time.",
    )
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
    logins_per_minute: int = Field(
        60, ge=1, description="Steps of signing in by browser, from one address."
    )


class Imports(_Section):
    """What templates may import besides what is shipped."""

    map: dict[Annotated[str, AfterValidator(_http_url)], Path] = Field(
        default_factory=dict,
        description="URL prefixes, and the directories that answer for them.",
    )
    hosts: tuple[Annotated[str, AfterValidator(_host_pattern)], ...] = Field(
        (), description="Hosts that imports are fetched from; `*.example.org` is all below it."
    )
    private_hosts: tuple[Annotated[str, AfterValidator(_host_pattern)], ...] = Field(
        (), description="Hosts among them that may have private addresses."
    )
    documents: int = Field(64, ge=1, description="Documents that one template may import.")
    document_bytes: int = Field(2_000_000, ge=1000, description="Size of one of them.")
    total_bytes: int = Field(8_000_000, ge=1000, description="Size of all of them together.")
    fetch_seconds: float = Field(10.0, gt=0, description="For fetching one of them.")


class Callbacks(_Section):
    """Whom the server calls when a deployment's status changes."""

    hosts: tuple[Annotated[str, AfterValidator(_host_pattern)], ...] = Field(
        (), description="Hosts that users may have called; `*.example.org` is all below it."
    )
    private_hosts: tuple[Annotated[str, AfterValidator(_host_pattern)], ...] = Field(
        (), description="Hosts among them that may have private addresses."
    )
    seconds: float = Field(10.0, gt=0, le=60, description="For one call.")


class ForeignPlaybook(_Section):
    """A playbook, or the archive of a Galaxy role, that templates of others may run on hosts."""

    source: str = Field(
        min_length=1,
        max_length=2000,
        description="As templates write it: the address of a playbook, or the name of a Galaxy "
        "role (`name` or `name,version`).",
    )
    file: Path = Field(description="The file here: the playbook, or the role as tar.gz.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="The SHA-256 of that file.")


class Templates(_Section):
    """What becomes of node types of others (docs/user/indigo.md)."""

    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="Values that templates of INDIGO and DODAS do not give, such as `pool`.",
    )
    playbooks: tuple[ForeignPlaybook, ...] = Field(
        (), description="Foreign playbooks and Galaxy roles that may run on hosts."
    )

    @model_validator(mode="after")
    def _sources_are_unique(self) -> Templates:
        sources = [one.source for one in self.playbooks]
        for index, source in enumerate(sources):
            if source in sources[:index]:
                raise PydanticCustomError(
                    "pinned_twice",
                    "another of the playbooks has this source already",
                    {"at": ("playbooks", index, "source")},
                )
        return self


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
    sandbox: Literal["auto", "required", "off"] = Field(
        "auto",
        description="Whether Ansible, and what reads templates, is kept from the rest of this "
        "machine: where that works, or else the server does not start, or not at all.",
    )
    development_issuer: bool = Field(
        False, description="Run the built-in issuer of tokens: anybody on this machine may log in."
    )
    issuers: tuple[Issuer, ...] = Field((), description="Whose tokens are accepted.")
    access_file: Path | None = Field(
        None,
        description="The file of rules that say who may do what, and how much (identity.md); "
        "absent: whoever has a token is a user without limits.",
    )
    sites: tuple[Site, ...] = Field((), description="Where machines can be had.")
    pools: tuple[Pool, ...] = Field((), description="What machines may join.")
    imports: Imports = Field(Imports(), description="What templates may import.")
    secrets: Secrets = Field(Secrets(), description="Where secrets are kept.")
    callbacks: Callbacks = Field(Callbacks(), description="Whom the server calls, if asked to.")
    templates: Templates = Field(
        Templates(), description="What realises node types of INDIGO, DODAS and others."
    )
    limits: Limits = Field(Limits(), description="What the server refuses, and its patience.")

    @property
    def url(self) -> str:
        return self.public_url or f"http://{self.listen}"

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_directory / 'vacuo.db'}"

    def pull_url(self, site: Site) -> str | None:
        """Where hosts of ``site`` ask for their configuration; None where they do not."""
        return (site.pull_url or self.url) if site.configure == "pull" else None

    @model_validator(mode="after")
    def _bundles_travel_safely(self) -> Settings:
        """They hold secrets; only the hosts of this very machine may do without https."""
        for index, site in enumerate(self.sites):
            url = self.pull_url(site)
            if url and site.provider not in ON_THIS_MACHINE and not url.startswith("https:"):
                raise PydanticCustomError(
                    "pull_url",
                    "hosts that configure themselves fetch secrets there: it must begin with "
                    "https://",
                    {"at": ("sites", index, "pull_url")},
                )
        return self

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
