"""A double of tailscaled, as far as tailover sees one: its LocalAPI, as recorded, and its TCP connections.

    python3 tailscaled.py SOCKET

It keeps a connection to the control server and one to the relay of the recordings, with tailscaled's mark,
and makes them anew when it is told to, as the real one does. Prints `ready`.
"""

import json
import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import UnixStreamServer
from urllib.parse import parse_qs, urlsplit

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings/tailscale"
CONTROL, RELAY = ("198.51.100.10", 443), ("198.51.100.20", 443)
MARK = 0x80000
SO_MARK = 36
# ipn.State of tailscaled
RUNNING = 6


class Flow:
    """A connection that is made anew when it is wanted."""

    def __init__(self, to):
        self.to = to
        self.now = None
        self.renew()

    def renew(self):
        """Leaves the old connection, and makes another one."""
        if self.now:
            self.now.close()
        self.now = socket.socket()
        self.now.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
        self.now.settimeout(3)
        try:
            self.now.connect(self.to)
        except OSError:
            # No way out: the next order tries again.
            pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    control = relay = None

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        """Says nothing."""

    def do_GET(self):
        path = urlsplit(self.path).path.removeprefix("/localapi/v0/")
        recorded = {
            "status": "localapi-status-peers-false.json",
            "prefs": "localapi-prefs.json",
            "derpmap": "localapi-derpmap.json",
        }
        if path == "watch-ipn-bus":
            return self.bus()
        if path in recorded:
            return self.answer(200, (RECORDINGS / recorded[path]).read_bytes())
        return self.answer(404, b"404 page not found\n")

    def do_POST(self):
        url = urlsplit(self.path)
        path = url.path.removeprefix("/localapi/v0/")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        action = parse_qs(url.query).get("action", [""])[0]
        if path == "start":
            self.control.renew()
            return self.answer(204)
        if path == "debug" and action in ("break-derp-conns", "restun", "rebind"):
            if action == "break-derp-conns":
                self.relay.renew()
            return self.answer(200, b"done\n")
        if path == "debug":
            return self.answer(400, b"unknown action\n")
        return self.answer(404, b"404 page not found\n")

    def answer(self, code, body=b""):
        self.send_response(code)
        if code != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def bus(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        line = json.dumps({"State": RUNNING}).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()
        # Until the listener goes.
        self.connection.recv(1)
        self.close_connection = True


class Server(ThreadingHTTPServer):
    address_family = socket.AF_UNIX
    daemon_threads = True

    def server_bind(self):
        UnixStreamServer.server_bind(self)

    def get_request(self):
        connection, _ = super().get_request()
        return connection, ("unix", 0)


def main():
    """Serves until it is killed."""
    path = Path(sys.argv[1])
    path.unlink(missing_ok=True)
    Handler.control, Handler.relay = Flow(CONTROL), Flow(RELAY)
    server = Server(str(path), Handler)
    os.chmod(path, 0o600)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
