"""A double of procd for the router's tailscaled, run as a program of its own.

`keep` starts the command and starts it again 5 s after it ended by itself, as
the package's `respawn 3600 5 5` does. `call ACTION` is what /etc/init.d/tailscale
runs: start, stop, restart or running. As procd does, it tells subscribers of the
ubus object `service` what becomes of the process, and gives up on one that ends
too often (service/instance.c). `call abandon` leaves at once what is left then:
an instance that does not run.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SOCKET = "/run/procd-tailscale.sock"
PID_FILE = "/run/tailscaled.pid"
# What the doubles of ubus objects answer with. The router writes the parts of
# netifd and mwan3, this program writes procd's, `services`.
STATE_FILE = "/run/netifd-state.json"
RESPAWN_SECONDS = 5
# A shorter life than this counts, and so many ends in a row are too many.
RESPAWN_THRESHOLD = 3600
RESPAWN_RETRY = 5
# procd's term_timeout: so long does a process get between TERM and KILL.
TERM_SECONDS = 5


class Instance:
    """The kept process."""

    def __init__(self, command):
        self._command = command
        self.process = None
        self.due = None
        self._since = 0.0
        self._ends = 0
        self._gave_up = False

    def start(self):
        """Starts the process unless it runs, with a new count of its ends."""
        self._ends = 0
        self._gave_up = False
        self._start()

    def _start(self):
        if self.process is None:
            subprocess.run([self._command[0], "--cleanup"], stderr=subprocess.DEVNULL)
            self.process = subprocess.Popen(self._command)
            self.due = None
            self._since = time.monotonic()
            with open(PID_FILE, "w") as file:
                file.write(str(self.process.pid))
            self._publish()
            _tell("instance.start")

    def stop(self):
        """Ends the process and takes its kernel state away, as stop_service does."""
        self.due = None
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(TERM_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
            _tell("instance.stop")
        publish(Path(STATE_FILE), {"services": {"tailscale": {}}})
        subprocess.run([self._command[0], "--cleanup"], stderr=subprocess.DEVNULL)

    def abandon(self):
        """The process is dead, and nobody starts it again before `start`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.due = None
        self._gave_up = True
        self._publish()
        _tell("instance.fail")

    def look(self):
        """Notices an end and respawns when it is due."""
        if self.process is not None and self.process.poll() is not None:
            print(f"procd: ended with {self.process.returncode}", flush=True)
            self.process = None
            self._ended()
        if self.due is not None and time.monotonic() >= self.due:
            self._start()

    def _ended(self):
        lived = time.monotonic() - self._since
        self._ends = self._ends + 1 if lived < RESPAWN_THRESHOLD else 0
        self._gave_up = self._ends > RESPAWN_RETRY
        if self._gave_up:
            print("procd: gave up", flush=True)
        else:
            self.due = time.monotonic() + RESPAWN_SECONDS
        self._publish()
        _tell("instance.stop")
        _tell("instance.fail" if self._gave_up else "instance.respawn")

    def _publish(self):
        """Publishes the reply of `ubus call service list`."""
        instance = {"running": self.process is not None}
        if self.process is not None:
            instance["pid"] = self.process.pid
        instance |= {"command": self._command, "term_timeout": TERM_SECONDS}
        if not self._gave_up:
            instance["respawn"] = {
                "threshold": RESPAWN_THRESHOLD,
                "timeout": RESPAWN_SECONDS,
                "retry": RESPAWN_RETRY,
            }
        publish(Path(STATE_FILE), {"services": {"tailscale": {"instances": {"instance1": instance}}}})


def _tell(method):
    """Notifies the subscribers of the object `service`, if there is an ubusd."""
    what = {"service": "tailscale", "instance": "instance1"}
    call = {"object": "service", "method": method, "data": what}
    ubus = Path(__file__).resolve().parent.parent / "target/lab/bin/ubus"
    command = [ubus, "call", "lab.netifd", "notify", json.dumps(call)]
    try:
        subprocess.run(command, capture_output=True, timeout=2)
    except (OSError, subprocess.TimeoutExpired):
        # Without the doubles nobody listens.
        pass


def publish(file, parts):
    """Replaces these parts of the state file in one step; the others stay."""
    with open(file.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            state = json.loads(file.read_text())
        except FileNotFoundError:
            state = {}
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(state | parts))
        draft.replace(file)


def keep(command):
    """Keeps the process and serves calls until terminated."""
    instance = Instance(command)
    instance.start()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen()
    listener.settimeout(0.1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            instance.look()
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                _answer(instance, connection)
    finally:
        instance.stop()
        os.unlink(SOCKET)


def _answer(instance, connection):
    action = connection.recv(64).decode()
    if action == "abandon":
        instance.abandon()
    if action in ("stop", "restart"):
        instance.stop()
    if action in ("start", "restart"):
        instance.start()
    known = action in ("start", "stop", "restart", "abandon") or instance.process is not None
    connection.sendall(b"ok" if known else b"no")


def call(action):
    """Asks the keeper; the exit code is the init script's."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET)
        connection.sendall(action.encode())
        return 0 if connection.recv(2) == b"ok" else 1


if __name__ == "__main__":
    if sys.argv[1] == "call":
        sys.exit(call(sys.argv[2]))
    keep(sys.argv[2:])
