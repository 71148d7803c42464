#!/usr/bin/env python3
"""What the test has around the caches: the issuer's documents over HTTPS, a collector over UDP.

The collector writes one line for each packet: who sent it, and JSON or the type of a binary one.
"""

from __future__ import annotations

import functools
import http.server
import socket
import ssl
import threading

SECRETS = "/srv/secrets"


def collect() -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("", 9930))
    with open("/srv/client/packets", "w", buffering=1) as packets:
        while True:
            data, (sender, _) = receiver.recvfrom(65536)
            text = data.decode() if data.startswith(b"{") else f"stream-{data[:1].decode()}"
            packets.write(f"{sender} {' '.join(text.split())}\n")


threading.Thread(target=collect, daemon=True).start()
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=f"{SECRETS}/www")
server = http.server.ThreadingHTTPServer(("", 8443), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{SECRETS}/host.pem", f"{SECRETS}/host.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
