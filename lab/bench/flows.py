"""TCP flows of a tailnet peer into the router's subnet route, and which of them are lost.

A program of its own on both sides: `python3 -m lab.bench.flows serve ADDRESS PORT` echoes on every
connection; `… call ADDRESS PORT COUNT FILE` sends a byte twice a second on each of COUNT flows and writes
`FLOW SECONDS` for each that comes back, `FLOW end` for a flow that was ended.
"""

import select
import socket
import sys
import threading
import time

from .. import plan
from ..paths import TREE_INSIDE

_PORT = 2323
_INTERVAL = 0.5
COUNT = 4


def serve(address, port):
    """Echoes until killed."""
    with socket.create_server((address, port)) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection):
    try:
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)
    except OSError:
        # The other side has ended it.
        pass


def call(address, port, count, file):
    """Keeps the flows until killed."""
    flows = {_connect(address, port): number for number in range(count)}
    due = time.monotonic()
    with open(file, "w", 1, encoding="ascii") as log:
        while flows:
            for flow in list(flows):
                flow.setblocking(False)
                _attempt(flow, flows, log, lambda flow=flow: flow.send(b"."))
            due += _INTERVAL
            while (left := due - time.monotonic()) > 0 and flows:
                for flow in select.select(list(flows), [], [], left)[0]:
                    _attempt(flow, flows, log, lambda flow=flow: _receive(flow, flows, log))
        log.write("all end\n")


def _connect(address, port):
    """The other side may not listen yet, and the route to it may be new."""
    while True:
        try:
            return socket.create_connection((address, port), 2)
        except OSError:
            time.sleep(_INTERVAL)


def _receive(flow, flows, log):
    if not flow.recv(4096):
        raise ConnectionError("ended")
    log.write(f"{flows[flow]} {time.monotonic():.3f}\n")


def _attempt(flow, flows, log, act):
    try:
        act()
    except BlockingIOError:
        # Its buffer is full: nothing has gone out for long.
        pass
    except OSError:
        log.write(f"{flows.pop(flow)} end\n")
        flow.close()


class Flows:
    """The same from the lab's side."""

    _server = None

    def __init__(self, world, count=COUNT):
        self.count = count
        program = ["env", "-C", TREE_INSIDE, sys.executable, "-m", "lab.bench.flows"]
        if Flows._server is None:
            words = [*program, "serve", plan.LAN_CLIENT, _PORT]
            Flows._server = world.router.lan.spawn("flows", words)
        self._file = world.peer.host.path("/tmp/flows")
        self._file.unlink(missing_ok=True)
        words = [*program, "call", plan.LAN_CLIENT, _PORT, count, "/tmp/flows"]
        self._client = world.peer.host.spawn("flows", words)

    def answered_since(self, since):
        """The flows on which something came back after that instant, and that were not ended."""
        alive, ended = set(), set()
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                words = line.split()
                if len(words) == 2 and words[1] == "end":
                    ended.add(words[0])
                elif len(words) == 2 and float(words[1]) >= since:
                    alive.add(words[0])
        return alive - ended

    def close(self):
        """Ends the client and its flows."""
        self._client.kill()
        self._client.wait()


if __name__ == "__main__":
    action, to, at, *more = sys.argv[1:]
    serve(to, int(at)) if action == "serve" else call(to, int(at), int(more[0]), more[1])
