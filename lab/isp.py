"""An ISP: NAT44, routed IPv6, a resolver for its own customers, and its faults.

Strict as carrier-grade NAT is: packets with a foreign source address and TCP
that it has not seen begin are dropped without a word.
"""

import signal
import sys

from . import internet, plan
from .hosts import Host, link
from .paths import STATE, TREE_INSIDE

# net.netfilter.nf_conntrack_tcp_loose=0 makes mid-stream TCP INVALID (kernel,
# Documentation/networking/nf_conntrack-sysctl.rst).
_ROUTER = """
echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
echo 1 > /proc/sys/net/ipv6/conf/cust0/keep_addr_on_down
ip address add {transit}.2/30 dev up0
ip address add {transit6}:2/64 dev up0
ip route add default via {transit}.1
ip route add default via {transit6}:1
ip address add {gateway}/26 dev cust0
ip address add {gateway6}/64 dev cust0
"""

_FIREWALL4 = """
*nat
:fault - [0:0]
-A PREROUTING -i cust0 -j fault
-A POSTROUTING -o up0 -s {network} -j SNAT --to-source {public}
COMMIT
*filter
:fault - [0:0]
:strict - [0:0]
-A strict -m conntrack --ctstate INVALID -j DROP
-A strict -i cust0 ! -s {network} -j DROP
-A strict -i up0 -m conntrack ! --ctstate ESTABLISHED,RELATED -j DROP
-A INPUT ! -i lo -j fault
-A INPUT ! -i lo -j strict
-A FORWARD -j fault
-A FORWARD -j strict
COMMIT
"""

# Routed: what comes from outside may be new, but never the middle of a TCP flow.
_FIREWALL6 = """
*filter
:fault - [0:0]
:strict - [0:0]
-A strict -p ipv6-icmp -j RETURN
-A strict -m conntrack --ctstate INVALID -j DROP
-A strict -i cust0 ! -s {prefix6} -j DROP
-A INPUT ! -i lo -j fault
-A INPUT ! -i lo -j strict
-A INPUT -i up0 -m conntrack --ctstate NEW -p udp -j DROP
-A FORWARD -j fault
-A FORWARD -j strict
COMMIT
"""


# TCP to port 443 whose first payload byte is 0x16, a TLS handshake record (RFC
# 8446, 5.1): of a client that is its ClientHello. Offsets as iptables-extensions(8)
# has them for u32; the IPv6 form takes a header without extensions.
_HELLO4 = "-p tcp --dport 443 -m u32 --u32 0>>22&0x3C@12>>26&0x3C@0>>24=0x16"
_HELLO6 = "-p tcp --dport 443 -m u32 --u32 52>>26&0x3C@40>>24=0x16"


# Where each kind of portal listens, without and with TLS.
_PORTALS = {"portal": (80, 443), "redirect": (8080, 8443), "mute": (9080, 9443)}


# TAYGA translates each address of the pool to an IPv6 address and back; NAT44 does the rest.
_TAYGA = f"""
tun-device nat64
ipv4-addr {plan.NAT64_POOL}.1
prefix {plan.NAT64}/96
dynamic-pool {plan.NAT64_POOL}.0/24
data-dir /run
"""

_NAT64 = f"""
tayga --mktun --config /etc/tayga.conf >/dev/null
ip link set nat64 up
ip route add {plan.NAT64_POOL}.0/24 dev nat64
ip -6 route add {plan.NAT64}/96 dev nat64
iptables -t nat -A POSTROUTING -o up0 -s {plan.NAT64_POOL}.0/24 -j SNAT --to-source {{public}}
"""

_NO_NAT64 = f"""
iptables -t nat -D POSTROUTING -o up0 -s {plan.NAT64_POOL}.0/24 -j SNAT --to-source {{public}}
tayga --rmtun --config /etc/tayga.conf >/dev/null
"""


class IspHost:
    """One running ISP. Each fault lasts until `restore`."""

    def __init__(self, spec, net):
        self.spec = spec
        self.public = spec.publics[0]
        # Its resolver asks the public ones, its customers ask it.
        self.host = Host(spec.name, internet.trusted())
        self._net = net
        self._resolver = None
        self._translator = None

    def connect(self, router, portals=("portal", "redirect", "mute")):
        """Cables this ISP to the internet and to its customer, and starts it with these kinds of
        portal."""
        spec = self.spec
        routes = [(public, f"{spec.transit}.2") for public in spec.publics]
        routes.append((spec.prefix6, f"{spec.transit6}:2"))
        self._net.attach(
            self.host, spec.name, f"{spec.transit}.1/30", f"{spec.transit6}:1/64", routes
        )
        link(self.host, "cust0", router, spec.device)
        self.host.sh(
            _ROUTER.format(**vars(spec))
            # An address of the NAT that nobody waits at is no loop.
            + "".join(f"ip route add blackhole {public}\n" for public in spec.publics)
        )
        self._restore_tables("iptables", _FIREWALL4)
        self._restore_tables("ip6tables", _FIREWALL6)
        self._resolve()
        for kind in portals:
            ports = _PORTALS[kind]
            web = [sys.executable, "-m", "lab.web", kind, "--cert", STATE / "ipify.pem"]
            command = ["env", "-C", TREE_INSIDE, *web, spec.gateway, "--ports", *map(str, ports)]
            self.host.spawn(kind, command)

    def _resolve(self, *more):
        servers = [f"--server={server}" for server in plan.PUBLIC_DNS[:2]]
        listen = f"--listen-address={self.spec.gateway}"
        listen += f",{self.spec.gateway6}" if not more else ""
        command = internet.dnsmasq("--no-resolv", listen, *servers)
        self._resolver = [self.host.spawn("dns", command)]
        if more:
            self._resolver.append(self.host.spawn("dns64", more))

    def nat64(self, wanted):
        """Translates for customers that have IPv6 alone: NAT64 (RFC 6146), with DNS64 (RFC 6147)
        at its resolver's IPv6 address; or ends that."""
        for process in self._resolver:
            process.kill()
            process.wait()
        if not wanted:
            self._translator.terminate()
            self._translator.wait()
            self.host.sh(_NO_NAT64.format(public=self.public))
            return self._resolve()
        self.host.write("tayga.conf", _TAYGA)
        self.host.sh(_NAT64.format(public=self.public))
        command = ["tayga", "--nodetach", "--config", "/etc/tayga.conf"]
        self._translator = self.host.spawn("tayga", command)
        program = [sys.executable, "-m", "lab.dns64", self.spec.gateway6, plan.PUBLIC_DNS[0]]
        self._resolve("env", "-C", TREE_INSIDE, *program, plan.NAT64)

    def forget_names(self):
        """Empties its resolver's cache."""
        self._resolver[0].send_signal(signal.SIGHUP)

    def _restore_tables(self, tool, text):
        filled = text.format(public=self.public, **vars(self.spec))
        self.host.run([f"{tool}-restore"], input=filled)

    def close(self):
        """Ends the ISP; its customer's device goes with the cable."""
        routes = [*self.spec.publics, self.spec.prefix6]
        self._net.net.sh("".join(f"ip route del {to}\n" for to in routes))
        self.host.close()

    def blackhole(self):
        """Drops everything; the link stays up and ARP is answered."""
        self._fault4("-A fault -j DROP")
        self._fault6("-A fault -j DROP")

    def reject(self):
        """Answers every packet for the outside with ICMP unreachable."""
        self._fault4("-A fault ! -i cust0 -j DROP", "-A fault ! -d {gateway} -j REJECT")
        self.no_ipv6()

    def no_ipv6(self):
        """The same for IPv6 alone, as an ISP does that has none."""
        self._fault6(
            "-A fault -p ipv6-icmp -j RETURN",
            "-A fault ! -i cust0 -j DROP",
            "-A fault ! -d {gateway6} -j REJECT --reject-with icmp6-no-route",
        )

    def portal(self, kind="portal"):
        """Answers port 80 and 443 itself, resolves names, drops all the rest.

        `kind` as lab.web has them: "portal", "redirect" or "mute".
        """
        plain, secure = _PORTALS[kind]
        lines = ["-A fault -p udp --dport 53 -d {gateway} -j RETURN"]
        lines += ["-A fault -i up0 -s {resolvers} -j RETURN"]
        lines += [f"-A fault -p tcp -m multiport --dports {plain},{secure} -d {{gateway}} -j RETURN"]
        lines += ["-A fault -j DROP"]
        self._fault4(*lines)
        self._fault6("-A fault -p ipv6-icmp -j RETURN", "-A fault -j DROP")
        # A flow that was there before the portal is not led to it, only cut.
        lead = "iptables -t nat -A fault -p tcp --dport {} -j DNAT --to-destination {}:{}\n"
        self.host.sh(
            "iptables -t nat -F fault\n"
            + lead.format(80, self.spec.gateway, plain)
            + lead.format(443, self.spec.gateway, secure)
        )

    def portal_that_redirects(self):
        """The same, with every request led to a login page elsewhere."""
        self.portal("redirect")

    def portal_that_is_mute(self):
        """The same, with every connection accepted and nothing said on it."""
        self.portal("mute")

    def names_dead(self):
        """Its resolver answers nothing, and no query gets through to any other."""
        lines = [f"-A fault -p {kind} --dport 53 -j DROP" for kind in ("udp", "tcp")]
        self._fault4(*lines)
        self._fault6(*lines)

    def tls_broken(self):
        """TCP opens to port 443, and each ClientHello is lost; flows that are
        there already go on."""
        self._fault4(f"-A fault {_HELLO4} -j DROP")
        self._fault6(f"-A fault {_HELLO6} -j DROP")

    def mtu_black_hole(self):
        """Packets of 1,300 bytes and more are lost both ways, and nobody says so."""
        self._fault4("-A fault -m length --length 1300:65535 -j DROP")
        self._fault6("-A fault -m length --length 1300:65535 -j DROP")

    def lossy(self, percent):
        """Loses that share of the packets, by chance, each way."""
        line = f"-A fault -m statistic --mode random --probability {percent / 100:.5f} -j DROP"
        self._fault4(line)
        self._fault6(line)

    def gateway_dead(self):
        """The link stays up; ARP and neighbour discovery stay unanswered, nothing passes."""
        self.blackhole()
        self.host.sh("ip link set cust0 arp off")

    def link_down(self):
        """Takes the carrier from the router's device."""
        self.host.sh("ip link set cust0 down")

    def new_address(self):
        """Changes the NAT's public IPv4 address and forgets every mapping."""
        first, second = self.spec.publics
        old, self.public = self.public, second if self.public == first else first
        rule = f"POSTROUTING -o up0 -s {self.spec.network} -j SNAT --to-source"
        self.host.sh(
            f"iptables -t nat -A {rule} {self.public}\niptables -t nat -D {rule} {old}\n"
            "conntrack -F -f ipv4 2>/dev/null"
        )

    def dark(self, family):
        """Drops everything of one family, 4 or 6."""
        (self._fault4 if family == 4 else self._fault6)("-A fault -j DROP")

    def only(self, address):
        """Lets UDP with that host through and nothing else, as a filter does that forgot a VPN."""
        self._fault4(
            f"-A fault -p udp -d {address} -j RETURN",
            f"-A fault -p udp -s {address} -j RETURN",
            "-A fault -j DROP",
        )
        self._fault6("-A fault -j DROP")

    def bare(self, router, wanted):
        """Makes the cable one without neighbours, as PPP is, or a plain one again."""
        # Without ARP a frame carries the sender's own address; both ends have the same.
        mine = self.host.run(["cat", "/sys/class/net/cust0/address"]).strip()
        theirs = mine
        if not wanted:
            theirs = mine[:-2] + f"{int(mine[-2:], 16) ^ 1:02x}"
        for host, device, address in ((self.host, "cust0", mine), (router, self.spec.device, theirs)):
            host.sh(
                f"ip link set {device} arp {'off' if wanted else 'on'}\n"
                f"ip link set {device} address {address}\nip neighbour flush dev {device}"
            )

    def renumber(self, spec):
        """Gives out another IPv4 network, with another gateway address."""
        self.host.sh(
            f"ip address del {self.spec.gateway}/26 dev cust0\n"
            f"ip address add {spec.gateway}/26 dev cust0"
        )
        self.spec = spec
        self._restore_tables("iptables", _FIREWALL4)

    def gateway(self, address, old):
        """Answers as the customer's gateway at another address."""
        self.host.sh(
            "echo 1 > /proc/sys/net/ipv4/conf/cust0/promote_secondaries\n"
            f"ip address add {address}/26 dev cust0\nip address del {old}/26 dev cust0\n"
            f"ip route replace {self.spec.network} dev cust0"
        )

    def restore(self):
        """Ends every fault. The public address stays what it is."""
        self._fault4()
        self._fault6()
        self.host.sh(
            "iptables -t nat -F fault\n"
            f"ip link set cust0 up arp on\nip -6 route replace {self.spec.prefix6} dev cust0"
        )

    def _fault4(self, *lines):
        self._replace_fault("iptables-restore", lines)

    def _fault6(self, *lines):
        self._replace_fault("ip6tables-restore", lines)

    def _replace_fault(self, tool, lines):
        # One transaction: naming the chain empties it, nothing slips through between.
        values = vars(self.spec) | {"resolvers": ",".join(plan.PUBLIC_DNS[:2])}
        rules = "\n".join(line.format(**values) for line in lines)
        text = f"*filter\n:fault - [0:0]\n{rules}\nCOMMIT\n"
        self.host.run([tool, "--noflush"], input=text)
