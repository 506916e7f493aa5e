"""A double of procd for the router's tailscaled, run as a program of its own.

`keep` starts the command and starts it again 5 s after it ended by itself, as
the package's `respawn 3600 5 5` does. `call ACTION` is what /etc/init.d/tailscale
runs: start, stop, restart or running. `call abandon` leaves what is left when
procd has given up a service that ends too often: an instance that does not run.
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
# procd's term_timeout: so long does a process get between TERM and KILL.
TERM_SECONDS = 5


class Instance:
    """The kept process."""

    def __init__(self, command):
        self._command = command
        self.process = None
        self.due = None

    def start(self):
        """Starts the process unless it runs."""
        if self.process is None:
            subprocess.run([self._command[0], "--cleanup"], stderr=subprocess.DEVNULL)
            self.process = subprocess.Popen(self._command)
            self.due = None
            with open(PID_FILE, "w") as file:
                file.write(str(self.process.pid))
            self._tell()

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
            self._tell()
        subprocess.run([self._command[0], "--cleanup"], stderr=subprocess.DEVNULL)

    def abandon(self):
        """The process is dead, and nobody starts it again before `start`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.due = None
        self._tell()

    def look(self):
        """Notices an end and respawns when it is due."""
        if self.process is not None and self.process.poll() is not None:
            print(f"procd: ended with {self.process.returncode}", flush=True)
            self.process = None
            self._tell()
            self.due = time.monotonic() + RESPAWN_SECONDS
        if self.due is not None and time.monotonic() >= self.due:
            self.start()

    def _tell(self):
        """Publishes the reply of `ubus call service list`."""
        instance = {"running": self.process is not None}
        if self.process is not None:
            instance["pid"] = self.process.pid
        instance |= {"command": self._command, "term_timeout": TERM_SECONDS}
        instance["respawn"] = {"threshold": 3600, "timeout": RESPAWN_SECONDS, "retry": 5}
        publish(Path(STATE_FILE), {"services": {"tailscale": {"instances": {"instance1": instance}}}})


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
