"""A VPN provider's WireGuard tunnel: both ends real, in userspace, set up as wg(8) would."""

import socket
import subprocess

from . import plan
from .hosts import Host, wait_until
from .internet import trusted
from .paths import BIN
from .router import interface

_PROVIDER = f"""
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
ip address add {plan.TUNNEL_V4}.1/24 dev {plan.TUNNEL_DEVICE}
ip address add {plan.TUNNEL_V6}:1/64 dev {plan.TUNNEL_DEVICE} nodad
ip link set {plan.TUNNEL_DEVICE} up
iptables -t nat -A POSTROUTING -o eth0 -s {plan.TUNNEL_V4}.0/24 -j MASQUERADE
"""

_CUSTOMER = f"""
ip address add {plan.TUNNEL_V4}.2/24 dev {plan.TUNNEL_DEVICE}
ip address add {plan.TUNNEL_V6}:2/64 dev {plan.TUNNEL_DEVICE} nodad
ip link set {plan.TUNNEL_DEVICE} up
"""


class Tunnel:
    """A running tunnel over the router's first uplink. Without routes of its own.

    `ours`, `theirs`: the router's and the provider's addresses in it.
    """

    ours = (f"{plan.TUNNEL_V4}.2", f"{plan.TUNNEL_V6}:2")
    theirs = (f"{plan.TUNNEL_V4}.1", f"{plan.TUNNEL_V6}:1")

    def __init__(self, internet, router):
        self._router = router
        self._internet = internet
        self.host = Host("vpn", trusted())
        internet.place(self.host, *plan.VPN)
        internet.net.sh(f"ip route add {plan.TUNNEL_V6}:/64 via {plan.VPN[1]}")
        theirs, mine = _key(), _key()
        port = plan.VPN_PORT
        _spawn(self.host, theirs[0], f"listen_port={port}", mine[1], "")
        self.host.sh(_PROVIDER)
        # netifd's way to the far end, which goes around the tunnel.
        isp = plan.ISP1
        router.host.sh(f"ip route add {plan.VPN[0]} via {isp.gateway} dev {isp.device}")
        more = f"endpoint={plan.VPN[0]}:{port}\npersistent_keepalive_interval=5\n"
        self._process = _spawn(router.host, mine[0], "fwmark=0", theirs[1], more)
        router.host.sh(_CUSTOMER)
        # The first handshake may be lost, the next one comes after 5 s.
        wait_until(lambda: all(map(self._passes, self.theirs)), 15, "the tunnel's handshake")

    def _passes(self, address):
        ping = ["ping", "-n", "-c", "1", "-W", "1", "-I", plan.TUNNEL_DEVICE, "-m", str(0x80000)]
        return " 1 received" in self._router.host.run([*ping, address], check=False)

    def route(self, metric=None):
        """Gives the router a default by the tunnel with that metric; without one, two halves of a
        default. netifd knows of it."""
        halves = {4: ("0.0.0.0/1", "128.0.0.0/1"), 6: ("::/1", "8000::/1")}
        lines = []
        for family, slices in halves.items():
            for to in slices if metric is None else ("default",):
                best = "" if metric is None else f" metric {metric}"
                lines.append(f"ip -{family} route add {to} dev {plan.TUNNEL_DEVICE}{best}")
        self._router.host.sh("\n".join(lines))
        address = (self.ours[0], 24)
        route = {"target": "0.0.0.0", "mask": 0, "nexthop": "0.0.0.0", "source": "0.0.0.0/0"}
        route = None if metric is None else route
        entry = interface("vpn", plan.TUNNEL_DEVICE, True, metric or 0, address, route)
        entry["ipv6-address"] = [{"address": self.ours[1], "mask": 64}]
        self._router.also(entry | {"proto": "wireguard"})

    def far_end(self, state):
        """The provider's server goes away or comes back: `down` or `up`."""
        self._internet.net.sh(f"ip link set to-vpn {state}")

    def close(self):
        """Ends the tunnel and all it has brought."""
        self._router.also()
        self._process.terminate()
        self._process.wait()
        self._router.host.sh(f"ip route del {plan.VPN[0]}", check=False)
        self._internet.net.sh(f"ip route del {plan.TUNNEL_V6}:/64", check=False)
        self.host.close()
        # The next one has another hardware address.
        self._internet.net.sh("ip neighbour flush dev services")


def _key():
    """A private key and its public key, in hexadecimal as WireGuard's UAPI has them.

    The 32 bytes of an X25519 key end its DER forms (RFC 8410, section 7).
    """
    make = ["openssl", "genpkey", "-algorithm", "X25519", "-outform", "DER"]
    private = subprocess.run(make, capture_output=True, check=True).stdout
    show = ["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"]
    public = subprocess.run(show, input=private, capture_output=True, check=True).stdout
    return private[-32:].hex(), public[-32:].hex()


def _spawn(host, private, own, public, peer):
    """Starts wireguard-go and hands it its configuration (wireguard.com/xplatform)."""
    device = plan.TUNNEL_DEVICE
    process = host.spawn("wireguard", [BIN / "wireguard-go", "-f", device])
    place = host.path(f"/run/wireguard/{device}.sock")
    wait_until(place.exists, 10, f"wireguard-go's socket on {host.name}")
    text = f"set=1\nprivate_key={private}\n{own}\npublic_key={public}\n{peer}"
    text += "allowed_ip=0.0.0.0/0\nallowed_ip=::/0\n\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(place))
        connection.sendall(text.encode())
        answer = connection.recv(256).decode()
    if answer.strip() != "errno=0":
        raise OSError(f"wireguard-go on {host.name}: {answer.strip()}")
    return process
