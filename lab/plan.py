"""The address plan: who is where. Documentation and benchmark ranges only."""

import ipaddress
from dataclasses import dataclass

# Services of the internet, one network, `net` is their gateway.
SERVICES_V4 = "198.51.100"
SERVICES_V6 = "2001:db8:100:"
HEADSCALE = ("198.51.100.10", "2001:db8:100::10")
HEADSCALE_NAME = "headscale.lab"
DERPS = {
    900: ("derp1", "198.51.100.20", "2001:db8:100::20"),
    901: ("derp2", "198.51.100.21", "2001:db8:100::21"),
}

# Addresses that `net` itself answers.
IPIFY = ("198.51.100.30", "2001:db8:100::30")
IPIFY_NAME = "api.ipify.org"
PUBLIC_DNS = ["8.8.8.8", "1.1.1.1", "2001:4860:4860::8888", "2606:4700:4700::1111"]

# The prefix of the providers' NAT64, as they would have 64:ff9b::/96, behind which no address
# of documentation may be (RFC 6052, section 3.1); and the pool that it takes IPv4 addresses from.
NAT64 = "2001:db8:64::"
NAT64_POOL = "198.18.64"
HEADSCALE_BY_NAT64 = str(
    ipaddress.IPv6Address(NAT64) + int(ipaddress.IPv4Address(HEADSCALE[0]))
)

# A VPN provider: where its end of the tunnel is reached, and the tunnel's two networks, of
# which it has `.1` and the router `.2`.
VPN = ("198.51.100.40", "2001:db8:100::40")
VPN_PORT = 51820
TUNNEL_V4 = "198.18.9"
TUNNEL_V6 = "2001:db8:9:"
TUNNEL_DEVICE = "wg0"

# Where the names of Tailscale's own servers lead: nowhere, without a word.
NOWHERE = ("198.51.100.254", "2001:db8:100::dead")
NAMES_TO_NOWHERE = ["tailscale.com", "tailscale.io"]


@dataclass(frozen=True)
class Isp:
    """One provider and its one customer, the router's uplink.

    `wan` and `wan6` are the router's interface names, `mwan3` and `mwan3_6`
    their numbers in mwan3, `publics` the addresses its NAT44 can show.
    """

    name: str
    wan: str
    wan6: str
    device: str
    metric: int
    mwan3: int
    mwan3_6: int
    network: str
    gateway: str
    address: str
    prefix6: str
    gateway6: str
    address6: str
    transit: str
    transit6: str
    publics: tuple


ISP1 = Isp(
    name="isp1",
    wan="wan",
    wan6="wan6",
    device="eth1",
    metric=10,
    mwan3=1,
    mwan3_6=2,
    network="192.0.2.0/26",
    gateway="192.0.2.1",
    address="192.0.2.2",
    prefix6="2001:db8:1::/64",
    gateway6="2001:db8:1::1",
    address6="2001:db8:1::2",
    transit="198.18.1",
    transit6="2001:db8:f1:",
    publics=("203.0.113.10", "203.0.113.11"),
)
ISP2 = Isp(
    name="isp2",
    wan="wanb",
    wan6="wanb6",
    device="eth2",
    metric=20,
    mwan3=3,
    mwan3_6=4,
    network="192.0.2.64/26",
    gateway="192.0.2.65",
    address="192.0.2.66",
    prefix6="2001:db8:2::/64",
    gateway6="2001:db8:2::1",
    address6="2001:db8:2::2",
    transit="198.18.2",
    transit6="2001:db8:f2:",
    publics=("203.0.113.74", "203.0.113.75"),
)
ISPS = [ISP1, ISP2]



def _further(number, wan, device):
    """An ISP that is there in a few scenarios only."""
    return Isp(
        name=f"isp{number}",
        wan=wan,
        wan6=f"{wan}6",
        device=device,
        metric=10 * number,
        mwan3=2 * number - 1,
        mwan3_6=2 * number,
        network=f"198.18.10{number}.0/26",
        gateway=f"198.18.10{number}.1",
        address=f"198.18.10{number}.2",
        prefix6=f"2001:db8:10{number}::/64",
        gateway6=f"2001:db8:10{number}::1",
        address6=f"2001:db8:10{number}::2",
        transit=f"198.18.{number}",
        transit6=f"2001:db8:f{number}:",
        publics=(f"203.0.113.1{number}0", f"203.0.113.1{number}1"),
    )


# Devices as the kernel takes them and scripts stumble over.
FURTHER = [
    _further(3, "modem", "3g-modem"),
    _further(4, "lte_5G", "wan_lte.5g"),
    _further(5, "fibre", "br-fibre.2@x"),
    _further(6, "sat", "pppoe-uplink_06"),
]

LAN = "192.168.1.0/24"
LAN_ROUTER = "192.168.1.1"
LAN_CLIENT = "192.168.1.50"
LAN_DEVICE = "lan1"

PEER = ("203.0.113.200", "2001:db8:3::2")
PEER_GATEWAY = ("203.0.113.193", "2001:db8:3::1")
