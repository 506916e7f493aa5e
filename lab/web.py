"""Small web servers of the lab, run as a program of their own in a host.

`address` answers as https://api.ipify.org?format=json does: {"ip": "..."}.
Portals: `portal` answers every request with a page of its own and 200, `redirect`
leads every request to a login page elsewhere, `mute` accepts every connection and
says nothing on it. All listen on two ports, without and with TLS.
"""

import argparse
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler


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


class RedirectHandler(BaseHTTPRequestHandler):
    """Leads everything to its login page."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", "http://login.portal.lab/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_HEAD = do_PUT = do_GET

    def log_message(self, *_):
        pass


class MuteHandler(BaseRequestHandler):
    """Takes what comes and never answers."""

    def handle(self):
        while self.request.recv(4096):
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


_HANDLERS = {
    "address": AddressHandler,
    "portal": PortalHandler,
    "redirect": RedirectHandler,
    "mute": MuteHandler,
}


def main():
    """Serves until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(_HANDLERS))
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--cert", required=True, help="certificate and key in one PEM file")
    parser.add_argument("--ports", nargs=2, type=int, default=[80, 443], metavar="PORT")
    options = parser.parse_args()
    handler = _HANDLERS[options.kind]
    # Who says nothing shakes no hands either.
    certificate = None if handler is MuteHandler else options.cert
    servers = []
    for address in options.addresses:
        servers.append(_Server(address, options.ports[0], handler))
        servers.append(_Server(address, options.ports[1], handler, certificate))
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
