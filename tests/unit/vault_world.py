"""A server that answers as Vault's KV engine, version 2, is documented to."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hvs.the-server-s-token"


class Kv(ThreadingHTTPServer):
    """``/v1/kv/data/…`` and ``/v1/kv/metadata/…`` with versions."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.entries: dict[str, list[Any]] = {}
        self.asked: list[str] = []
        self.fault = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Kv

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, status: int, document: Any = None, **headers: str) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        self.server.asked.append(f"{self.command} {self.path}")
        if self.server.fault == 307:
            return self.answer(307, Location="http://127.0.0.1:9/")
        if self.server.fault:
            return self.answer(self.server.fault, {"errors": ["what you sent was " + str(body)]})
        if self.headers.get("X-Vault-Token") != TOKEN:
            return self.answer(403, {"errors": ["permission denied"]})
        path, _, query = self.path.removeprefix("/v1/kv/").partition("?")
        kind, _, name = path.partition("/")
        versions = self.server.entries.setdefault(name, [])
        if kind == "metadata" and self.command == "DELETE":
            self.server.entries.pop(name)
            return self.answer(204)
        if kind != "data":
            return self.answer(404, {"errors": []})
        if self.command in ("POST", "PUT"):
            versions.append(body["data"])
            return self.answer(200, {"data": {"version": len(versions)}})
        wanted = int(query.removeprefix("version=") or 0) or len(versions)
        if not 0 < wanted <= len(versions):
            return self.answer(404, {"errors": []})
        found = {"data": versions[wanted - 1], "metadata": {"version": wanted}}
        return self.answer(200, {"data": found})

    do_GET = do_POST = do_PUT = do_DELETE = serve
