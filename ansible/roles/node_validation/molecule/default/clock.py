"""An HTTP server whose clock goes wrong while there is a file /run/clock-is-wrong."""

import http.server
import os
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def date_time_string(self, timestamp=None):
        wrong = 3600 if os.path.exists("/run/clock-is-wrong") else 0
        return super().date_time_string(time.time() + wrong)

    def do_GET(self):
        self.send_response(200)
        self.end_headers()


http.server.HTTPServer(("", 8123), Handler).serve_forever()
