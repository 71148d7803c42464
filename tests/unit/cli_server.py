"""A real HTTP server that gives recorded answers of the shape of docs/user/api.md."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from typer.testing import CliRunner, Result
from werkzeug.serving import make_server

from orchestrator.cli.main import app

ID = "6f1c1a52-8d0e-4a53-9a52-0d1b3f7f2c11"
OTHER = "70aa1a52-8d0e-4a53-9a52-0d1b3f7f2c22"
NODE = "workers-7k2f"
TOKEN = "eyJhbGciOiJub25lIn0.c2VjcmV0.dG9rZW4"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGhlbGxvaGVsbG9oZWxsb2hlbGxvaGVsbG9oZWxs"

TEMPLATE = """\
tosca_definitions_version: tosca_simple_yaml_1_3
description: A site for tests
topology_template:
  inputs:
    max_instances: {type: integer, default: 4, constraints: [{in_range: [1, 8]}]}
    password: {type: string, required: false}
  node_templates: {}
"""


def reason(code: str = "booting", sentence: str = "", command: str = "") -> dict[str, str]:
    return {
        "code": code,
        "sentence": sentence or f"Node {NODE} boots; its ssh does not answer yet.",
        "nextCommand": command or f"vacuo logs {NODE}",
    }


def group(**changes: Any) -> dict[str, Any]:
    return {
        "name": "workers",
        "pool": "demo",
        "site": None,
        "minimum": 0,
        "maximum": 4,
        "cores": 2,
        "memoryMb": 2048,
        "diskGb": 10,
        "image": "",
        "services": [
            {
                "template": "execute",
                "type": "vacuo.nodes.HTCondor.Execute",
                "role": "vacuo.site.htcondor_execute",
            }
        ],
        "nodes": {"BOOTING": 1},
        "wanted": 2,
        "joined": 0,
        "busy": 0,
        "idle": 0,
        "jobsRunning": 0,
        "jobsWaiting": 7,
        "coresWaiting": 7,
        "oldestWaitSeconds": 31.0,
    } | changes


def deployment(
    uuid: str = ID, status: str = "CREATE_IN_PROGRESS", **changes: Any
) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "creationTime": "2026-03-01T09:30:00.125Z",
        "updateTime": "2026-03-01T09:31:12.400Z",
        "physicalId": None,
        "status": status,
        "statusReason": reason()["sentence"],
        "statusReasonCode": "booting",
        "outputs": {"cache_url": "http://10.93.0.5:3128"},
        "task": "NONE",
        "callback": None,
        "userGroup": None,
        "cloudProviderName": "local",
        "cloudProviderEndpoint": None,
        "createdBy": {"issuer": "http://127.0.0.1:8420/issuer", "subject": "alice"},
        "description": "Worker nodes that come and go with the queue",
        "reasons": [reason()],
        "forced": False,
        "version": 3,
        "groups": [group()],
        "links": [],
    } | changes


def resource(name: str = NODE, phase: str = "BOOTING", **changes: Any) -> dict[str, Any]:
    return {
        "uuid": name,
        "creationTime": "2026-03-01T09:30:20.000Z",
        "updateTime": "2026-03-01T09:31:02.000Z",
        "physicalId": "c0ffee",
        "state": "CREATING",
        "toscaNodeName": "workers",
        "toscaNodeType": "tosca.nodes.Compute",
        "requiredBy": [],
        "phase": phase,
        "group": "workers",
        "site": "local",
        "flavour": "small",
        "image": "host",
        "cores": 2,
        "memoryMb": 2048,
        "address": "10.93.0.7",
        "joinedAt": None,
        "lastSeenInPool": None,
        "attempts": 0,
        "outdated": False,
        "refreshing": False,
        "reason": reason(),
        "links": [],
    } | changes


def event(
    sequence: int, message: str = "asked for at site local", **changes: Any
) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "at": "2026-03-01T09:30:20.000Z",
        "kind": "node",
        "deployment": ID,
        "node": NODE,
        "phase": "REQUESTED",
        "message": message,
        "failed": False,
        "actor": "vacuo",
        "correlation": "f3b0c7d2e9a14d0c",
        "code": "machine-requested",
    } | changes


def listing(*content: Any) -> dict[str, Any]:
    return {
        "content": list(content),
        "links": [],
        "page": {"size": 200, "totalElements": len(content), "totalPages": 1, "number": 0},
    }


def plan(changes: bool = True) -> dict[str, Any]:
    action, wanted = ("+", 2) if changes else ("=", 0)
    cost = {"perHourNow": 0.0, "perHourAfter": None, "perHourAtMost": None, "toExpiry": None}
    new = {"action": "+", "effect": "create", "name": None, "state": None, "site": "local"}
    new |= {"flavour": "small", "image": "host", "cores": 2, "memoryMb": 2048, "why": ""}
    use = {"limit": None, "before": 0, "after": wanted}
    return {
        "format": "vacuo.plan/1",
        "deployment": None,
        "changes": changes,
        "complete": True,
        "summary": {"create": int(changes), "change": 0, "delete": 0},
        "nodes": {"create": wanted, "reconfigure": 0, "replace": 0, "remove": 0, "keep": 0},
        "sites": [
            {
                "name": "local",
                "create": wanted,
                "remove": 0,
                "quota": {"instances": use, "cores": use, "memoryMb": use},
                "why": "",
            }
        ],
        "groups": [
            {
                "name": "workers",
                "action": action,
                "now": 0,
                "wanted": wanted,
                "minimum": 0,
                "maximum": 4,
                "pool": "pool",
                "cores": 2,
                "memoryMb": 2048,
                "diskGb": 10,
                "site": "local",
                "flavour": "small",
                "image": "host",
                "pricePerHour": None,
                "cost": cost,
                "changes": [],
                "candidates": [
                    {
                        "site": "local",
                        "flavour": "tiny",
                        "chosen": False,
                        "pricePerHour": None,
                        "why": "1 core, 2 are needed",
                    }
                ],
                "nodes": [new] * wanted,
                "services": [
                    {"action": action, "template": "execute", "role": "vacuo.site.htcondor_execute"}
                ],
                "reasons": [reason("jobs-wait", "8 idle jobs wait.")],
            }
        ],
        "cost": cost,
        "imports": [],
        "notes": [],
        "reasons": [],
    }


def problem(status: int, code: str, **changes: Any) -> tuple[int, dict[str, Any]]:
    return status, {
        "type": f"/docs/errors#{code}",
        "title": code,
        "status": status,
        "detail": "What. Why.",
        "code": code,
        "what": "The thing is wrong.",
        "why": "It was never right.",
        "attempt": "vacuo doctor",
        "message": "What. Why.",
        "correlation": "f3b0c7d2e9a14d0c",
        "errors": [],
    } | changes


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


Answer = Any | Callable[[Request], Any]


@dataclass
class Recorded:
    """What the server answers, by "METHOD /path"; and what it was asked."""

    url: str = ""
    home: Path = Path()
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    environment: dict[str, str | None] = field(default_factory=dict)

    def run(self, *words: str, typed: str | None = None) -> Result:
        """One call of the command line against this server."""
        environment = {
            "VACUO_SERVER": self.url,
            "BEARER_TOKEN": TOKEN,
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_RUNTIME_DIR": str(self.home),
            "VACUO_CONFIG": None,
            "NO_COLOR": None,
        } | self.environment
        return CliRunner(env=environment).invoke(app, list(words), input=typed)

    def requests(self, method: str, path: str) -> list[Request]:
        return [found for found in self.asked if (found.method, found.path) == (method, path)]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        request = Request(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()},
            {
                name[5:].replace("_", "-").title(): value
                for name, value in environ.items()
                if name.startswith("HTTP_")
            },
            json.loads(body) if body else None,
        )
        self.asked.append(request)
        key = f"{request.method} {request.path}"
        answer = self.answers.get(key, problem(404, "not-found", what="There is no such thing."))
        if callable(answer):
            answer = answer(request)
        status, content = answer if isinstance(answer, tuple) else (200, answer)
        return _respond(start_response, status, content)


def _respond(start_response: Any, status: int, content: Any) -> Iterable[bytes]:
    headers = [("X-Last-Sequence", "40"), ("X-Request-Id", "f3b0c7d2e9a14d0c")]
    if isinstance(content, Iterator):
        start_response("200 OK", [*headers, ("Content-Type", "text/event-stream")])
        return (part.encode() for part in content)
    if isinstance(content, str):
        start_response(f"{status} X", [*headers, ("Content-Type", "text/plain; charset=utf-8")])
        return [content.encode()]
    kind = "application/problem+json" if status >= 400 else "application/json"
    start_response(f"{status} X", [*headers, ("Content-Type", kind)])
    return [] if content is None else [json.dumps(content).encode()]


def stream(*events: dict[str, Any], end: bool = True) -> Iterator[str]:
    """Server-sent events as the API writes them."""
    yield "retry: 2000\n\n: alive\n\n"
    for found in events:
        yield f"id: {found['sequence']}\nevent: {found['kind']}\ndata: {json.dumps(found)}\n\n"
    if end:
        yield 'event: end\ndata: {"status": "DELETE_COMPLETE"}\n\n'


def everyday() -> dict[str, Answer]:
    """The answers of a server with one deployment that has one node."""
    path = f"/deployments/{ID}"

    def events(request: Request) -> Any:
        found = [event(41), event(42, "squid: install the package", kind="task", failed=True)]
        if request.headers.get("Accept") == "text/event-stream":
            return stream(*[e for e in found if e["sequence"] > int(request.query["since"])])
        kept = [e for e in found if e["failed"] or request.query.get("failed") != "true"]
        return {"events": kept, "last": 42}

    return {
        "GET /deployments": listing(deployment()),
        "POST /deployments": (201, deployment()),
        f"GET {path}": deployment(),
        f"PUT {path}": (202, deployment(status="UPDATE_IN_PROGRESS")),
        f"DELETE {path}": (204, None),
        f"GET {path}/template": TEMPLATE,
        f"GET {path}/log": "2026-03-01T09:30:20.000Z workers-7k2f BOOTING node: asked for\n",
        f"GET {path}/resources": listing(resource()),
        f"GET {path}/resources/{NODE}": resource(),
        f"GET {path}/resources/{NODE}/ssh": {
            "user": "root",
            "address": "10.93.0.7",
            "port": 22,
            "hostKeys": [HOST_KEY],
            "keyFile": "/nowhere/key",
        },
        f"GET {path}/plan": plan(changes=False),
        f"POST {path}/plan": plan(),
        f"GET {path}/explain": {
            "subject": ID,
            "cause": reason("quota-exhausted", "Site local has no room for another small."),
            "evidence": [
                reason("jobs-wait", "8 idle jobs wait."),
                {"code": "", "sentence": "3 of 4 instances are in use.", "nextCommand": ""},
            ],
            "nextCommand": f"vacuo status {ID}",
        },
        f"GET {path}/events": events,
        "GET /events": events,
        "POST /plan": plan(),
        "GET /info": {
            "name": "vacuo",
            "version": "0.1.0",
            "api": "1",
            "issuers": [],
            "sites": ["local"],
            "pools": ["demo"],
            "limits": {"templateBytes": 1000000},
        },
        "GET /whoami": {
            "issuer": "https://iam.example.org/",
            "issuerName": "cms",
            "subject": "5f0c",
            "clientId": "vacuo-cli",
            "groups": ["/cms/uscms"],
            "scopes": ["openid"],
            "roles": ["user"],
            "rights": {"own": ["create", "see"], "shared": ["see"], "others": []},
            "limits": [
                {
                    "group": None,
                    "limits": {"deployments": 5, "nodes": 50, "cores": None},
                    "used": {"deployments": 1, "nodes": 4, "cores": 8},
                }
            ],
            "requestsPerMinute": 300,
            "tokenEndsAt": "2026-03-01T10:30:00.000Z",
            "secondsLeft": 540.0,
        },
        "GET /healthz": {"status": "ok"},
        "GET /readyz": {"ready": True, "checks": [{"name": "store", "ok": True, "reason": None}]},
        "GET /checks": {
            "checks": [
                {"name": "site local", "ok": True, "detail": "2 of 4 are in use.", "reason": None},
                {"name": "pool demo", "ok": True, "detail": "It answers.", "reason": None},
            ]
        },
    }


@contextmanager
def serving(home: Path, application: Any = None) -> Iterator[Recorded]:
    """A server on a free port of this machine; ``application`` replaces the recorded answers."""
    recorded = Recorded(home=home, answers=everyday())
    server = make_server("127.0.0.1", 0, application or recorded, threaded=True)
    recorded.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield recorded
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
