#!/usr/bin/python3
"""server.py DIRECTORY: files on port 8000; port 3128 answers as a proxy of that would.

Port 3128 writes each URL that it was asked for to proxy.log in DIRECTORY.  Nobody listens on 8001.
"""

import functools
import http.server
import sys
import threading
import urllib.parse

directory = sys.argv[1]


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Proxy(Files):
    def do_GET(self):
        with open(directory + "/proxy.log", "a") as log:
            log.write(self.path + "\n")
        url = urllib.parse.urlsplit(self.path)
        if url.port != 8000:
            return self.send_error(503)
        self.path = url.path
        return super().do_GET()


def serve(port, handler):
    bound = functools.partial(handler, directory=directory)
    http.server.ThreadingHTTPServer(("", port), bound).serve_forever()


threading.Thread(target=serve, args=(3128, Proxy), daemon=True).start()
serve(8000, Files)
