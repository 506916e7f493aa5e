"""Nodes of the tailnet: real tailscaleds, and what one can learn of them."""

import http.client
import json
import os
import socket
import sys

from . import internet, plan
from .hosts import Host, wait_until
from .paths import BIN, TREE_INSIDE

_SOCKET = "/run/tailscale/tailscaled.sock"
_PORT = 41641
# Nothing here takes tailscaled's logs: its tries would be all that an idle uplink carries.
_ENVIRONMENT = {
    "TS_DEBUG_FIREWALL_MODE": "nftables",
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    "TS_NO_LOGS_NO_SUPPORT": "true",
}
_ESTABLISHED = "01"
_CONTROL = [*plan.HEADSCALE, plan.HEADSCALE_BY_NAT64]
_RELAYS = [address for _, *both in plan.DERPS.values() for address in both]


class Node:
    """A tailscaled in a host."""

    def __init__(self, host):
        self.host = host
        # Where it listens, if not at the usual place; whether its build says that it is online.
        self.socket = None
        self.says_online = True
        self._process = None

    def start(self):
        """Starts tailscaled; nobody respawns it."""
        self._process = self.host.spawn("tailscaled", self.command(), _ENVIRONMENT)

    def restart(self):
        """Ends tailscaled and starts another."""
        self._process.terminate()
        self._process.wait(10)
        self.start()

    def command(self):
        """tailscaled's command line, as OpenWrt's package has it."""
        state = "/etc/tailscale/tailscaled.state"
        return [BIN / "tailscaled", "--port", str(_PORT), "--state", state]

    def join(self, key):
        """Brings the node up with an auth key and waits for its addresses."""
        wait_until(self.host.path(_SOCKET).exists, 10, f"tailscaled's socket on {self.host.name}")
        self.up(f"--authkey={key}")

    def up(self, *more):
        """`tailscale up` with the flags it was joined with: it insists on all of them."""
        self.host.run(
            [BIN / "tailscale", "up", f"--login-server=https://{plan.HEADSCALE_NAME}"]
            + ["--accept-dns=false", f"--hostname={self.host.name}", *more],
            timeout=40,
        )

    def down(self):
        """`tailscale down`, as its user types it."""
        self.host.run([BIN / "tailscale", "down"])

    def set(self, *flags):
        """`tailscale set`, which changes only what is named."""
        self.host.run([BIN / "tailscale", "set", *flags])

    def call(self, method, path, body=None, timeout=3):
        """One LocalAPI call; returns status code and text. Raises OSError."""
        connection = _UnixConnection(str(self.host.path(self.socket or _SOCKET)), timeout)
        try:
            connection.request(method, f"/localapi/v0/{path}", body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except http.client.HTTPException as problem:
            raise OSError(f"LocalAPI: {problem}") from problem
        finally:
            connection.close()

    def status(self, peers=True):
        """LocalAPI's status. Raises OSError when tailscaled does not answer."""
        code, text = self.call("GET", "status" if peers else "status?peers=false")
        if code != 200:
            raise OSError(f"LocalAPI: status {code}")
        return json.loads(text)

    def answers(self):
        """Whether tailscaled answers at all."""
        try:
            return bool(self.status(False))
        except (OSError, ValueError):
            return False

    def addresses(self):
        """The node's tailnet addresses, IPv4 first. Raises OSError where it has none: no netmap has come."""
        addresses = self.status(False)["Self"]["TailscaleIPs"]
        if not addresses:
            raise OSError(f"{self.host.name}: tailscaled has no addresses yet; no netmap has come from control")
        return sorted(addresses, key=lambda a: ":" in a)

    def path_to(self, name):
        """How the peer of that host name is reached: ("direct", address) or ("derp", code)."""
        for peer in (self.status().get("Peer") or {}).values():
            if peer["HostName"] == name:
                if peer["CurAddr"]:
                    return "direct", peer["CurAddr"]
                return "derp", peer["Relay"]
        return None, None

    def online(self):
        """Whether it says that it is online; False too when it does not answer."""
        if not self.says_online:
            return self.answers()
        try:
            return bool(self.status(False)["Self"]["Online"])
        except (OSError, KeyError, TypeError, ValueError):
            return False

    def disco_keys(self):
        """{host name: disco key} of itself and its peers, as the netmap has them."""
        netmap = json.loads(self.host.run([BIN / "tailscale", "debug", "netmap"], timeout=10))
        nodes = [netmap["SelfNode"], *(netmap["Peers"] or [])]
        return {node["Hostinfo"]["Hostname"]: node["DiscoKey"] for node in nodes}

    def pid(self):
        """The running process, or None."""
        try:
            pid = int(self.host.path("/run/tailscaled.pid").read_text())
            os.kill(pid, 0)
            return pid
        except (OSError, ValueError):
            return None

    def control_sources(self):
        """Local addresses of its established TCP flows to the control server."""
        return self._sources(_CONTROL)

    def control_flows(self):
        """Local address and port of each established TCP flow to the control server, and how often its
        oldest segment was resent."""
        rows = _tcp_rows(self.pid()) if self.pid() else []
        return [(*local, resent) for local, remote, state, resent in rows
                if state == _ESTABLISHED and remote[1] == 443 and remote[0] in _CONTROL]

    def control_ports(self):
        """Local ports of the same: a new connection has a new one."""
        return self._ports(_CONTROL)

    def relay_ports(self):
        """Local ports of its established TCP flows to the relays."""
        return self._ports(_RELAYS)

    def _ports(self, remotes):
        flows = tcp_flows(self.pid())
        return {local[1] for local, remote in flows if remote[0] in remotes}

    def relay_sources(self):
        """Local addresses of its established TCP flows to the relays."""
        return self._sources(_RELAYS)

    def _sources(self, remotes):
        pid = self.pid()
        if pid is None:
            return set()
        return {
            local
            for (local, _), (remote, port) in tcp_flows(pid)
            if port == 443 and remote in remotes
        }


class RouterNode(Node):
    """The router's tailscaled, kept by the double of procd."""

    def start(self):
        command = [sys.executable, "-m", "lab.procd", "keep", *self.command()]
        self.host.spawn("tailscaled", ["env", "-C", TREE_INSIDE, *command], _ENVIRONMENT)

    def command(self):
        return ["/usr/sbin/tailscaled", *super().command()[1:]]

    def restart(self):
        """Restarts it as the init script does."""
        self.host.run(["/etc/init.d/tailscale", "restart"])

    def abandon(self):
        """Kills it for good, as after procd has given it up."""
        self.host.run(["/etc/init.d/tailscale", "abandon"])


class Peer:
    """The other end of the tailnet, with an internet access of its own.

    Its firewall makes it a direct peer, or one that has nothing but DNS, HTTP
    and HTTPS to go out by, so that only relays are left.
    """

    def __init__(self, net):
        self.host = Host("peer", internet.trusted())
        self.node = Node(self.host)
        v4, v6 = plan.PEER_GATEWAY
        net.attach(self.host, "peer", f"{v4}/28", f"{v6}/64", [])
        self.host.sh(
            f"ip address add {plan.PEER[0]}/28 dev up0\n"
            f"ip address add {plan.PEER[1]}/64 dev up0 nodad\n"
            f"ip route add default via {v4}\nip -6 route add default via {v6}\n"
            "for f in iptables ip6tables; do\n"
            "    $f -N kind; $f -A OUTPUT -o up0 -j kind; $f -A INPUT -i up0 -j kind\n"
            "done"
        )

    def become(self, kind):
        """Sets the firewall: "direct" or "derp-only"."""
        rules = "*filter\n:kind - [0:0]\n"
        if kind == "derp-only":
            rules += "-A kind -p udp --dport 53 -j RETURN\n-A kind -p udp --sport 53 -j RETURN\n"
            rules += "-A kind -p udp -j DROP\n"
        for tool in ("iptables-restore", "ip6tables-restore"):
            self.host.run([tool, "--noflush"], input=rules + "COMMIT\n")


def tcp_flows(pid, established=True):
    """A process's TCP flows: (local, remote), each (address, port). Only the
    established ones, or all."""
    return [(local, remote) for local, remote, state, _ in _tcp_rows(pid)
            if state == _ESTABLISHED or not established]


def _tcp_rows(pid):
    """(local, remote, state, retransmissions) of a process's TCP sockets (proc(5), /proc/net/tcp)."""
    sockets = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(entry.path)
        except OSError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    rows = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}") as lines:
            for line in list(lines)[1:]:
                field = line.split()
                if field[9] in sockets:
                    rows.append((_endpoint(field[1]), _endpoint(field[2]), field[3], int(field[6], 16)))
    return rows


def _endpoint(text):
    """Address and port of /proc/net/tcp: words of 32 bits in the machine's byte order."""
    words, port = text.rsplit(":", 1)
    raw = b"".join(
        bytes.fromhex(words[start : start + 8])[::-1] for start in range(0, len(words), 8)
    )
    if raw.startswith(b"\0" * 10 + b"\xff\xff"):
        raw = raw[12:]
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, raw), int(port, 16)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("local-tailscaled.sock", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
