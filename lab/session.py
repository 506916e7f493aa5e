"""A TCP session like an SSH login over the tailnet, from the peer to the router.

A program of its own on both sides: `python3 -m lab.session serve ADDRESS PORT` sends back what it
gets; `… call ADDRESS PORT FILE` sends a number ten times a second and writes down when each one has come
back, as seconds of the machine's monotonic clock. Both end with the connection.
"""

import select
import socket
import sys
import time

from .paths import TREE_INSIDE

INTERVAL = 0.1


def serve(address, port):
    """Takes one connection and echoes it to its end."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as server:
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)


def call(address, port, file):
    """Sends numbers until killed; a line `NUMBER SECONDS` for each that came back, in order."""
    with _connect(address, port) as connection, open(file, "w", 1) as log:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number, back, rest, due = 0, 0, b"", time.monotonic()
        while True:
            connection.sendall(b"%d\n" % number)
            number += 1
            due += INTERVAL
            while (left := due - time.monotonic()) > 0:
                if not select.select([connection], [], [], left)[0]:
                    continue
                data = connection.recv(4096)
                if not data:
                    raise SystemExit("the session was ended")
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if int(line) != back:
                        raise SystemExit(f"{int(line)} came back instead of {back}")
                    log.write(f"{back} {time.monotonic():.4f}\n")
                    back += 1


def _connect(address, port):
    """The other side may not listen yet."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((address, port), 10)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(INTERVAL)


class Session:
    """The same from the lab's side: started between two hosts, and asked how it fares."""

    def __init__(self, server, client, address, port=2222):
        program = ["env", "-C", TREE_INSIDE, sys.executable, "-m", "lab.session"]
        self._server = server.spawn("session", [*program, "serve", address, port])
        self._file = client.path("/tmp/session")
        words = ["call", address, port, "/tmp/session"]
        self._client = client.spawn("session", [*program, *words])

    def alive(self):
        """Whether neither side has ended, and something has come back."""
        ended = [side.poll() for side in (self._client, self._server)]
        return ended == [None, None] and bool(self._times())

    def _times(self):
        return [float(line.split()[1]) for line in self._file.read_text().splitlines()]

    def worst_gap(self, since, until):
        """The longest time without an answer between two instants."""
        inner = [moment for moment in self._times() if since < moment < until]
        instants = [since, *inner, until]
        return max(later - earlier for earlier, later in zip(instants, instants[1:]))

    def close(self):
        """Ends both sides."""
        for side in (self._client, self._server):
            side.kill()
            side.wait()


if __name__ == "__main__":
    action, to, at, *more = sys.argv[1:]
    serve(to, int(at)) if action == "serve" else call(to, int(at), *more)
