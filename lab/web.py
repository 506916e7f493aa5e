"""Small web servers of the lab, run as a program of their own in a host.

`address` answers as https://api.ipify.org?format=json does: {"ip": "..."}.
`portal` answers every request with a page of its own and 200, on 80 and 443.
"""

import argparse
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class AddressHandler(BaseHTTPRequestHandler):
    """Says where the request came from, in JSON or as plain text."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        address = self.client_address[0].removeprefix("::ffff:")
        if "format=json" in self.path:
            reply(self, "application/json", json.dumps({"ip": address}))
        else:
            reply(self, "text/plain", address)

    def log_message(self, *_):
        pass


class PortalHandler(BaseHTTPRequestHandler):
    """Answers everything in the outside's place, as a captive portal does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        reply(self, "text/html", "<html><title>Welcome</title>Please log in.</html>")

    do_POST = do_HEAD = do_PUT = do_GET

    def log_message(self, *_):
        pass


def reply(handler, kind, text):
    """Sends a whole response of one text."""
    body = text.encode()
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address, port, handler, certificate=None):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        super().__init__((address, port), handler)

    def finish_request(self, request, client_address):
        # The handshake belongs in the request's thread: a client that is cut off
        # in the middle of it must not hold up the others.
        request.settimeout(10)
        try:
            if self._tls:
                request = self._tls.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
        except OSError:
            pass


def main():
    """Serves until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["address", "portal"])
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--cert", required=True, help="certificate and key in one PEM file")
    options = parser.parse_args()
    handler = {"address": AddressHandler, "portal": PortalHandler}[options.kind]
    servers = []
    for address in options.addresses:
        servers.append(_Server(address, 80, handler))
        servers.append(_Server(address, 443, handler, options.cert))
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
