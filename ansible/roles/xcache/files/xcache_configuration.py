"""What an XCache is to be, from the environment, and its configuration for XRootD."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

RUN = Path("/tmp/vacuo-xcache")  # noqa: S108 - a container's own /tmp
CERTIFICATE, KEY = RUN / "host.pem", RUN / "host.key"

MODES = ("cache", "redirector", "origin")
LEVELS = ("none", "error", "warning", "info", "debug", "dump")
HOST = re.compile(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?")
PATH = re.compile(r"/[^\s$]*")
SIZE = re.compile(r"[0-9]+[kmg]?", re.IGNORECASE)


class Wrong(Exception):
    """A value that cannot work: what it is, why, and what to try."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one XCache, redirector or origin is to be; sizes in MiB, shares from 0 to 1."""

    mode: str
    port: int
    http: bool
    exports: tuple[str, ...]
    path: str
    origin: str  # host:port, of a cache
    redirector: str  # host of the redirector that a cache belongs to
    cmsd_port: int
    memory_mb: int
    streams: int
    prefetch: int
    block: str
    low: float
    high: float
    purge_seconds: int
    level: str
    monitors: tuple[str, ...]
    canary: str
    canary_sha256: str
    certificate: str
    key: str
    tokens: str  # a configuration of XRootD's SciTokens plug-in
    origin_token: str  # a file with the token that the origin is read with

    @property
    def clustered(self) -> bool:
        """Whether a cmsd runs beside xrootd."""
        return self.mode == "redirector" or bool(self.redirector)


# --- from the environment to settings -------------------------------------------------------------


class Reader:
    """Takes values out of an environment; an empty value is one that is not there."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def text(self, name: str, default: str = "") -> str:
        return self.environment.get(name, "").strip() or default

    def matching(self, name: str, default: str, pattern: re.Pattern[str], example: str) -> str:
        value = self.text(name, default)
        if value and not pattern.fullmatch(value):
            raise Wrong(f"{name} is {value!r}. Try: a value such as {example}.")
        return value

    def choice(self, name: str, default: str, known: Sequence[str]) -> str:
        value = self.text(name, default).lower()
        if value not in known:
            raise Wrong(f"{name} is {value!r}. Try: one of {', '.join(known)}.")
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self.text(name, str(default))
        if not value.isdecimal() or not low <= int(value) <= high:
            raise Wrong(f"{name} is {value!r}. Try: a whole number from {low} to {high}.")
        return int(value)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.text(name, str(default))
        if (
            not re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", value)
            or not low <= float(value) <= high
        ):
            raise Wrong(f"{name} is {value!r}. Try: a number from {low} to {high}.")
        return float(value)

    def words(self, name: str, default: str, pattern: re.Pattern[str], example: str) -> list[str]:
        values = self.text(name, default).split()
        for value in values:
            if not pattern.fullmatch(value):
                raise Wrong(
                    f"{name} has {value!r}. Try: values such as {example}, with spaces between."
                )
        return values


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that ``environment`` asks for.

    :raises Wrong: a value cannot work, or one that is needed is not there.
    """
    read = Reader(environment)
    mode = read.choice("XCACHE_MODE", "cache", MODES)
    origin = read.matching("ORIGIN_HOST", "", HOST, "origin.example.org")
    origin_port = read.whole("ORIGIN_XRD_PORT", 1094, 1, 65535)
    low, high = (read.number(*share, 0.01, 0.99) for share in (("LOW_WM", 0.80), ("HI_WM", 0.90)))
    if low >= high:
        raise Wrong(f"LOW_WM is {low} and HI_WM {high}. Try: a LOW_WM that is less than HI_WM.")
    if mode == "cache" and not origin:
        raise Wrong("ORIGIN_HOST is empty, and a cache needs an origin. Try: ORIGIN_HOST=HOST.")
    settings = Settings(
        mode=mode,
        port=read.whole("XCACHE_LISTEN_PORT", 1094, 1, 65535),
        http=read.choice("XCACHE_HTTP", "yes", ("yes", "no")) == "yes",
        exports=tuple(read.words("XCACHE_EXPORTS", "/", PATH, "/store")),
        path=read.matching("CACHE_PATH", "/data/xrd", PATH, "/data/xrd"),
        origin=f"{bracketed(origin)}:{origin_port}" if origin else "",
        redirector=read.matching("REDIR_HOST", "", HOST, "redirector.example.org"),
        cmsd_port=read.whole("REDIR_CMSD_PORT", 1213, 1, 65535),
        # XRootD does not start with less than a gibibyte.
        memory_mb=round(1024 * read.number("CACHE_RAM_GB", 1, 1, 4096)),
        streams=read.whole("STREAMS", 256, 1, 4096),
        prefetch=read.whole("N_PREFETCH", 0, 0, 128),
        block=read.matching("BLOCK_SIZE", "512k", SIZE, "512k"),
        low=low,
        high=high,
        purge_seconds=read.whole("XCACHE_PURGE_SECONDS", 300, 60, 3600),
        level=read.choice("CACHE_LOG_LEVEL", "warning", LEVELS),
        monitors=tuple(read.words("XCACHE_MONITORS", "", re.compile(r"\S+:[0-9]+"), "host:9930")),
        canary=read.matching("XCACHE_CANARY_PATH", "", PATH, "/store/canary"),
        canary_sha256=read.matching(
            "XCACHE_CANARY_SHA256", "", re.compile("[0-9a-f]{64}"), "64 hexadecimal digits"
        ),
        certificate=read.matching("XCACHE_TLS_CERTIFICATE", "", PATH, "/etc/xcache/host.pem"),
        key=read.matching("XCACHE_TLS_KEY", "", PATH, "/etc/xcache/host.key"),
        tokens=read.matching("XCACHE_SCITOKENS", "", PATH, "/etc/xcache/scitokens.cfg"),
        origin_token=read.matching("XCACHE_ORIGIN_TOKEN_FILE", "", PATH, "/etc/xcache/token"),
    )
    _hold_together(settings)
    return settings


def _hold_together(settings: Settings) -> None:
    if len(settings.monitors) > 2:
        raise Wrong("XCACHE_MONITORS has more than two, and XRootD sends to two. Try: two of them.")
    if bool(settings.certificate) != bool(settings.key):
        raise Wrong("XCACHE_TLS_CERTIFICATE and XCACHE_TLS_KEY go together. Try: both or neither.")
    if settings.tokens and not settings.certificate:
        raise Wrong(
            "XCACHE_SCITOKENS is set without TLS, and tokens may not be sent in the clear. "
            "Try: XCACHE_TLS_CERTIFICATE and XCACHE_TLS_KEY."
        )


def bracketed(host: str) -> str:
    """An IPv6 address as it stands before a port."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


# --- from settings to a configuration -------------------------------------------------------------


def configuration(settings: Settings) -> str:
    """The configuration of xrootd, and of cmsd where there is one."""
    parts = [_common, _role, _tls, _tokens, _storage, _monitoring]
    return "".join(f"{line}\n" for part in parts for line in part(settings))


def _common(settings: Settings) -> Iterator[str]:
    yield f"all.adminpath {RUN}"
    yield f"all.pidpath {RUN}"
    for path in settings.exports:
        # What a cache has not it gets: to the redirector it can stage every file.
        stage = " stage" if settings.mode != "origin" and settings.clustered else ""
        yield f"all.export {path}{stage} r/o"


def _role(settings: Settings) -> Iterator[str]:
    if settings.clustered:
        manager = bracketed(settings.redirector or "localhost")
        yield f"all.role {'manager' if settings.mode == 'redirector' else 'server'}"
        yield f"all.manager {manager}:{settings.cmsd_port}"
        if not settings.certificate:
            # Addresses do, and need not resolve; only certificates want clients sent to names.
            yield "xrd.network nodnr norpipa"
    else:
        yield "all.role server"
    if settings.mode == "redirector":
        yield f"if exec cmsd\nxrd.port {settings.cmsd_port}\nelse\nxrd.port {settings.port}\nfi"
        yield "cms.sched maxretries 0 nomultisrc space 100 fuzz 5"
        yield "cms.fxhold noloc 15m 4h"
        # A new file waits for all caches to say that they lack it.
        yield "cms.delay lookup 1 startup 2 servers 1"
    elif settings.clustered:
        yield f"if exec xrootd\nxrd.port {settings.port}\nfi"
        # pfc looks after the disk; its watermarks are no reason to send clients elsewhere.
        yield "cms.space 0"
    else:
        yield f"xrd.port {settings.port}"
    if settings.http:
        yield f"if exec xrootd\nxrd.protocol http:{settings.port} libXrdHttp.so\nfi"


def _tls(settings: Settings) -> Iterator[str]:
    if settings.certificate:
        yield f"xrd.tls {CERTIFICATE} {KEY}"
        yield "xrd.tlsca noverify"  # of clients, who show tokens
        # Tokens are refused on a connection that is not encrypted; what is public is not.
        yield "xrootd.tls capable all"


def _tokens(settings: Settings) -> Iterator[str]:
    if settings.tokens and settings.mode != "redirector":
        yield "if exec xrootd"
        yield "xrootd.seclib libXrdSec.so"
        yield "sec.protocol ztn"
        # The health check reads the canary.  The star keeps this from meaning the host's own name.
        yield "sec.protbind localhost* none"
        yield "sec.protbind [::127.0.0.1] none"
        yield "sec.protbind * only ztn"
        yield "ofs.authorize"
        yield f"ofs.authlib ++ libXrdAccSciTokens.so config={settings.tokens}"
        yield f"acc.authdb {RUN}/authdb"
        if settings.http:
            yield "http.header2cgi Authorization authz"
        yield "fi"


def authorisations(settings: Settings) -> str:
    """What is open to those whose token says nothing of it: the canary."""
    return f"u * {settings.canary} rl\n" if settings.canary else "u * /nothing-is-public -rl\n"


def _storage(settings: Settings) -> Iterator[str]:
    if settings.mode == "origin":
        yield f"oss.localroot {settings.path}"
        yield "ofs.trace open"
    if settings.mode != "cache":
        return
    yield f"oss.localroot {settings.path}/namespace"
    for space in ("data", "meta"):
        yield f"oss.space {space} {settings.path}/{space}"
    yield "if exec xrootd"
    yield "ofs.osslib libXrdPss.so"
    # A token is sent under TLS only.
    yield f"pss.origin {'roots://' if settings.origin_token else ''}{settings.origin}"
    yield f"pss.config streams {settings.streams}"
    yield "pss.cachelib libXrdPfc.so"
    yield "pfc.spaces data meta"
    yield f"pfc.ram {settings.memory_mb}m"
    yield f"pfc.blocksize {settings.block}"
    yield f"pfc.prefetch {settings.prefetch}"
    yield "pfc.writequeue 10 2"
    shares = f"{settings.low:.3f} {settings.high:.3f}"
    yield f"pfc.diskusage {shares} purgeinterval {settings.purge_seconds}s"
    yield f"pfc.trace {settings.level}"
    yield "fi"


def _monitoring(settings: Settings) -> Iterator[str]:
    if not settings.monitors:
        return
    yield "if exec xrootd"
    if settings.mode == "cache":
        where = " ".join(settings.monitors)
        yield f"xrootd.mongstream pfc use flush 5s send json dflthdr {where}"
    where = "".join(f" dest fstat info user files {monitor}" for monitor in settings.monitors)
    yield f"xrootd.monitor all auth flush 30s fstat 60 lfn ops ssq xfr 5 window 5s{where}"
    yield "fi"


# --- a complete configuration, written by somebody else -------------------------------------------


def facts_of(text: str) -> dict[str, str]:
    """What the health check must know of a complete configuration, as environment variables."""
    found = {"ORIGIN_HOST": "its-own"}  # not looked at: the file says where files come from
    patterns = {
        "XCACHE_LISTEN_PORT": r"^\s*xrd\.port\s+([0-9]+)",
        "CACHE_PATH": r"^\s*oss\.(?:localroot|space\s+data)\s+(/\S+)",
    }
    for name, pattern in patterns.items():
        if match := re.search(pattern, text, re.MULTILINE):
            found[name] = match.group(1)
    if manager := re.search(r"^\s*all\.manager\s+(?:\w+\s+)?(\S+):([0-9]+)", text, re.MULTILINE):
        found["REDIR_HOST"], found["REDIR_CMSD_PORT"] = manager.groups()
    if re.search(r"^\s*all\.role\s+(meta\s+)?manager", text, re.MULTILINE):
        found["XCACHE_MODE"] = "redirector"
    return found
