#!/usr/bin/python3
"""A small origin on port 8000 that counts what reaches it.

/counts            how often each path was asked for; "304 PATH" for what was not sent again
/data/...          like an object of CVMFS: immutable, a day fresh
/plain/...         nothing said about freshness
/Frontier?...      like an answer of Frontier: fresh for one second, then to be asked again
/slow/...          as /data, after two seconds
/drip/...          as /data, in twenty parts over ten seconds
/missing/...       not there
"""

import collections
import http.server
import json
import threading
import time

MODIFIED = "Wed, 01 Jan 2020 00:00:00 GMT"
counts = collections.Counter()
lock = threading.Lock()


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        kind = self.path.partition("?")[0].split("/")[1]
        if kind == "counts":
            return self.answer(json.dumps(counts).encode(), "no-store")
        unchanged = kind == "Frontier" and self.headers.get("If-Modified-Since") == MODIFIED
        with lock:
            counts[("304 " if unchanged else "") + self.path] += 1
        if unchanged:
            self.send_response(304)
            self.send_header("Cache-Control", "max-age=1")
            return self.end_headers()
        if kind == "missing":
            return self.answer(b"", "", 404)
        if kind == "slow":
            time.sleep(2)
        fresh = {"plain": "", "Frontier": "max-age=1"}.get(kind, "max-age=86400")
        return self.answer(self.path.encode() * 2000, fresh, slowly=kind == "drip")

    def answer(self, body, fresh, status=200, slowly=False):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", MODIFIED)
        if fresh:
            self.send_header("Cache-Control", fresh)
        self.end_headers()
        parts = 20 if slowly else 1
        for part in range(parts):
            if part:
                time.sleep(0.5)
            self.wfile.write(body[len(body) * part // parts : len(body) * (part + 1) // parts])

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64


Server(("", 8000), Origin).serve_forever()
