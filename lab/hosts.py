"""Hosts: a network and a mount namespace each, with an own /etc, /run, /tmp and /var/lib."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from .paths import HOSTS_FILE, LOGS, STATE

# Where Debian's programs look things up; all else in a host's /etc is its own.
_FROM_THE_MACHINE = ["alternatives", "ld.so.cache", "protocols", "services", "nsswitch.conf"]

_FURNISH = """
set -e
mount --make-rprivate /
mount --bind {etc} /etc
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=755 var /var/lib
mount -t sysfs sysfs /sys
ip link set lo up
"""


class HostError(Exception):
    """A command in a host failed. Text: host, command, what it wrote."""


class Host:
    """A machine of the lab, held open by one sleeping process.

    `files` maps paths relative to /etc to their text.
    """

    def __init__(self, name, files=None):
        self.name = name
        self.children = []
        self.etc = STATE / "hosts" / name / "etc"
        self.etc.mkdir(parents=True)
        for entry in _FROM_THE_MACHINE:
            source = Path("/etc") / entry
            if source.is_dir():
                shutil.copytree(source, self.etc / entry, symlinks=True)
            elif source.exists():
                shutil.copy(source, self.etc / entry)
        self.write("passwd", "root:x:0:0:root:/root:/bin/sh\n")
        self.write("group", "root:x:0:\n")
        self.write("hosts", "127.0.0.1 localhost\n::1 localhost\n")
        self.write("hostname", f"{name}\n")
        for path, text in (files or {}).items():
            self.write(path, text)
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sleep", "infinity"], stdin=subprocess.DEVNULL
        )
        self.pid = self._holder.pid
        self._await_namespaces()
        self.sh(_FURNISH.format(etc=self.etc))

    def _await_namespaces(self):
        mine = os.readlink("/proc/self/ns/net")
        wait_until(
            lambda: Path(f"/proc/{self.pid}/comm").read_text() == "sleep\n"
            and os.readlink(f"/proc/{self.pid}/ns/net") != mine,
            5,
            f"the namespaces of {self.name}",
            every=0.002,
        )

    def write(self, path, text, mode=0o644):
        """Writes a file below this host's /etc."""
        target = self.etc / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def path(self, absolute):
        """A path of this host as this process can open it."""
        return Path(f"/proc/{self.pid}/root") / absolute.lstrip("/")

    def command(self, argv):
        """The argument list that runs `argv` in this host."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "--", *map(str, argv)]

    def run(self, argv, check=True, timeout=30, **options):
        """Runs a command to its end; returns its standard output."""
        shown = " ".join(map(str, argv))
        try:
            done = subprocess.run(
                self.command(argv), capture_output=True, text=True, timeout=timeout, **options
            )
        except subprocess.TimeoutExpired as late:
            raise HostError(f"{self.name}: {shown}: no end within {timeout} s") from late
        if check and done.returncode != 0:
            raise HostError(f"{self.name}: {shown}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def sh(self, script, check=True, timeout=30):
        """Runs a shell script that stops at its first failing line."""
        return self.run(["sh", "-ec", script], check=check, timeout=timeout)

    def spawn(self, name, argv, environment=None):
        """Starts a long-running program; its output goes to a log of that name."""
        LOGS.mkdir(parents=True, exist_ok=True)
        with open(LOGS / f"{self.name}-{name}.log", "ab") as log:
            child = subprocess.Popen(
                self.command(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}),
            )
        self.children.append(child)
        return child

    def close(self):
        """Ends the host with all that runs in it; its name is free again."""
        for child in self.children:
            child.kill()
            child.wait()
        self._holder.kill()
        self._holder.wait()
        shutil.rmtree(self.etc.parent)

    def sysctl(self, **values):
        """Sets values below /proc/sys/net; `__` stands for the slash."""
        for key, value in values.items():
            path = key.replace("__", "/")
            self.sh(f"echo {value} > /proc/sys/net/{path}")


def link(left, left_device, right, right_device):
    """A cable between two hosts."""
    subprocess.run(
        ["ip", "link", "add", left_device, "netns", str(left.pid), "type", "veth"]
        + ["peer", "name", right_device, "netns", str(right.pid)],
        check=True,
    )
    for host, device in ((left, left_device), (right, right_device)):
        # Duplicate address detection would keep IPv6 silent for a second and more.
        host.sh(f"echo 0 > /proc/sys/net/ipv6/conf/{device}/accept_dad; ip link set {device} up")


def publish(hosts):
    """Leaves the hosts' pids where `lab shell` finds them."""
    HOSTS_FILE.write_text(json.dumps({host.name: host.pid for host in hosts}))


def wait_until(condition, seconds, what, every=0.05):
    """Waits for `condition()` to be true and returns its value; else raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = condition()
        except (OSError, ValueError, KeyError, TypeError):
            # Not there yet, or only half.
            value = None
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(every)
