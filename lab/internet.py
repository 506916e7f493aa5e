"""The middle of the internet: routing, public resolvers, control server, relays."""

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone

from . import plan
from .hosts import Host, link, wait_until
from .paths import BIN, STATE, TREE_INSIDE

CA_FILE = STATE / "ca.pem"
_DATABASE = "/run/headscale.db"

# ca(1), which alone of openssl's commands can date a certificate ahead.
_CA = """
[ca]
default_ca = lab
[lab]
database = ca.index
certificate = ca.pem
private_key = ca.key
new_certs_dir = .
default_md = sha256
rand_serial = yes
unique_subject = no
policy = any
[any]
commonName = supplied
"""

# --no-daemon also keeps it from changing its groups, which a user namespace of
# one user does not allow.
_DNSMASQ = ["dnsmasq", "--no-daemon", "--no-hosts", "--bind-interfaces", "--conf-file=/dev/null"]


class Internet:
    """Hosts `net`, `headscale` and one for each relay."""

    def __init__(self):
        make_certificates()
        self._fronts = []
        trust = trusted()
        self.net = Host("net", trust)
        self.headscale = Host("headscale", trust | _headscale_files())
        self.derps = [Host(name, trust) for name, _, _ in plan.DERPS.values()]
        self._cable()
        self._serve()

    @property
    def hosts(self):
        """All hosts of this part."""
        return [self.net, self.headscale, *self.derps]

    def _cable(self):
        own = [*plan.PUBLIC_DNS, *plan.IPIFY]
        self.net.sh(
            "echo 1 > /proc/sys/net/ipv4/ip_forward\n"
            "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n"
            "ip link add services type bridge\n"
            "echo 0 > /proc/sys/net/ipv6/conf/services/accept_dad\n"
            "ip link set services up\n"
            f"ip address add {plan.SERVICES_V4}.1/24 dev services\n"
            f"ip address add {plan.SERVICES_V6}:1/64 dev services\n"
            # tailscaled knows public relays by address: they stay silent.
            "ip route add blackhole default\n"
            "ip -6 route add blackhole default metric 4096\n"
            + "".join(f"ip address add {address} dev lo\n" for address in own)
        )
        servers = [(self.headscale, *plan.HEADSCALE)]
        servers += [
            (host, v4, v6) for host, (_, v4, v6) in zip(self.derps, plan.DERPS.values())
        ]
        for host, v4, v6 in servers:
            self.place(host, v4, v6)

    def place(self, host, v4, v6):
        """Cables a server to the network of the services, with these addresses."""
        link(self.net, f"to-{host.name}", host, "eth0")
        self.net.sh(f"ip link set to-{host.name} master services")
        host.sh(
            f"ip address add {v4}/24 dev eth0\n"
            f"ip address add {v6}/64 dev eth0 nodad\n"
            f"ip route add default via {plan.SERVICES_V4}.1\n"
            f"ip route add default via {plan.SERVICES_V6}:1\n"
        )

    def _serve(self):
        self._resolve({plan.HEADSCALE_NAME: plan.HEADSCALE, plan.IPIFY_NAME: plan.IPIFY})
        web = [sys.executable, "-m", "lab.web", "address", "--cert", STATE / "ipify.pem"]
        self.net.spawn("ipify", ["env", "-C", TREE_INSIDE, *web, *plan.IPIFY])
        for host, (name, v4, _) in zip(self.derps, plan.DERPS.values()):
            host.spawn(
                "derper",
                [BIN / "derper", "-c", "/run/derper.key", "-certmode", "manual"]
                + ["-certdir", STATE / name, "-hostname", v4, "-a", ":443"],
            )
        self._start_control()

    def _resolve(self, names):
        # Longer than any run: whether the router still knows a name is a
        # scenario's choice (Router.forget_names), not a matter of the hour.
        dns = ["--no-resolv", "--local-ttl=86400"]
        dns += [f"--listen-address={address}" for address in plan.PUBLIC_DNS]
        dns += [f"--host-record={name},{','.join(all_of)}" for name, all_of in names.items()]
        dns += [f"--address=/{n}/{a}" for n in plan.NAMES_TO_NOWHERE for a in plan.NOWHERE]
        # What nobody has put here does not exist.
        dns += ["--address=/#/"]
        self._dns = self.net.spawn("dns", _DNSMASQ + dns)

    def control_without_ipv6(self, wanted):
        """The control server has IPv4 alone, in the names too; or both again."""
        self._dns.kill()
        self._dns.wait()
        control = plan.HEADSCALE[:1] if wanted else plan.HEADSCALE
        self._resolve({plan.HEADSCALE_NAME: control, plan.IPIFY_NAME: plan.IPIFY})
        # Who is connected learns at once that nobody is there any more.
        rule = f"FORWARD -p tcp -d {plan.HEADSCALE[1]} -j REJECT --reject-with tcp-reset"
        self.net.sh(f"ip6tables {'-I' if wanted else '-D'} {rule}", check=wanted)

    def _start_control(self):
        self._control = self.headscale.spawn("headscale", [BIN / "headscale", "serve"])

    def await_ready(self):
        """Waits until the control server and the relays answer."""
        listening = [(self.headscale, 443)] + [(host, 443) for host in self.derps]
        for host, port in listening:
            wait_until(lambda: _listens(host, port), 20, f"{host.name} on port {port}")
        socket = self.headscale.path("/run/headscale.sock")
        wait_until(socket.exists, 10, "headscale's socket")

    def auth_key(self):
        """A reusable key with which a node joins the tailnet."""
        self._headscale("users", "create", "lab")
        users = json.loads(self._headscale("users", "list", "-o", "json"))
        made = self._headscale(
            *("preauthkeys", "create", "--user", str(users[0]["id"])),
            *("--reusable", "--expiration", "24h", "-o", "json"),
        )
        return json.loads(made)["key"]

    def approve_routes(self, name, routes):
        """Lets the node of that host name route these networks; an empty text lets it none."""
        nodes = json.loads(self._headscale("nodes", "list", "-o", "json"))
        number = next(node["id"] for node in nodes if node["name"] == name)
        self._headscale("nodes", "approve-routes", "-i", str(number), "-r", routes)

    def _headscale(self, *arguments):
        return self.headscale.run([BIN / "headscale", *arguments])

    def crowd(self, count):
        """Gives the tailnet so many more nodes, which are never online; 0 takes them
        away. The control server is started anew and remembers."""
        # It would wait for the nodes' long polls; its database bears a kill.
        self._control.kill()
        self._control.wait()
        crowd = [sys.executable, "-m", "lab.crowd", _DATABASE, count]
        self.headscale.run(["env", "-C", TREE_INSIDE, *crowd])
        self._start_control()
        wait_until(lambda: _listens(self.headscale, 443), 60, "the control server")

    def ahead(self, wanted):
        """Certificates of the control server and the relays that are valid only ten days from now,
        to whoever connects; or the right ones again. What is connected stays so."""
        verb = "-I" if wanted else "-D"
        servers = {"headscale": plan.HEADSCALE} | {name: both for name, *both in plan.DERPS.values()}
        if wanted and not self._fronts:
            begin = datetime.now(timezone.utc) + timedelta(days=10)
            for name, addresses in servers.items():
                label = plan.HEADSCALE_NAME if name == "headscale" else addresses[0]
                _issue(f"{name}-ahead", label, addresses, begin)
        lines = []
        for port, (name, addresses) in enumerate(servers.items(), 8443):
            if wanted:
                front = [sys.executable, "-m", "lab.front", STATE / f"{name}-ahead.pem", port]
                self._fronts.append(
                    self.net.spawn(f"front-{name}", ["env", "-C", TREE_INSIDE, *front, addresses[0]])
                )
            # NAT is asked for the first packet of a flow only. `net` is the servers' gateway.
            for tool, address in zip(("iptables", "ip6tables"), addresses):
                rule = f"PREROUTING -p tcp -d {address} --dport 443 -j REDIRECT --to-ports {port}"
                lines.append(f"{tool} -t nat {verb} {rule}")
        if wanted:
            for port in range(8443, 8443 + len(servers)):
                wait_until(lambda: _listens(self.net, port), 10, f"a front on port {port}")
        self.net.sh("\n".join(lines))
        if not wanted:
            for process in self._fronts:
                process.kill()
                process.wait()
            self._fronts = []

    def control_down(self):
        """The control server's network goes silent; the relays stay."""
        self.net.sh(_control("-I"))

    def control_killed(self):
        """The control server's process dies: its connections are reset, new ones refused."""
        self._control.kill()
        self._control.wait()

    def control_up(self):
        """Undoes both, also when neither was done."""
        self.net.sh(_control("-D"), check=False)
        if self._control.poll() is not None:
            self._start_control()
            wait_until(lambda: _listens(self.headscale, 443), 20, "headscale on port 443")

    def attach(self, host, device, v4, v6, routes):
        """Cables a host's uplink: `v4`/`v6` are net's addresses with prefix length,
        `routes` the (destination, next hop) pairs that lead to it."""
        link(self.net, device, host, "up0")
        self.net.sh(
            f"ip address add {v4} dev {device}\nip address add {v6} dev {device}\n"
            + "".join(f"ip route add {to} via {via}\n" for to, via in routes)
        )


def _control(verb):
    lines = []
    for tool, address in zip(("iptables", "ip6tables"), plan.HEADSCALE):
        lines.append(f"{tool} {verb} FORWARD -d {address} -j DROP")
        lines.append(f"{tool} {verb} FORWARD -s {address} -j DROP")
    return "\n".join(lines)


def dnsmasq(*arguments):
    """The command line of a dnsmasq that reads no file of the machine."""
    return [*_DNSMASQ, *arguments]


def trusted(resolver=None):
    """Files of /etc for a host that trusts the lab's CA and asks `resolver` for names."""
    resolver = resolver or plan.PUBLIC_DNS[0]
    return {
        "ssl/certs/ca-certificates.crt": CA_FILE.read_text(),
        "resolv.conf": f"nameserver {resolver}\n",
    }


def make_certificates():
    """A CA and the certificates that it gives to headscale.lab, api.ipify.org and the relays."""
    script = """
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key 2>/dev/null
        openssl req -x509 -new -key ca.key -subj "/CN=lab CA" -days 60 -out ca.pem
    """
    _openssl(script)
    (STATE / "ca.cnf").write_text(_CA)
    # A file of its own: ca(1) renames what it is given.
    (STATE / "ca.index").touch()
    now = datetime.now(timezone.utc)
    _issue("headscale", plan.HEADSCALE_NAME, plan.HEADSCALE, now)
    _issue("ipify", plan.IPIFY_NAME, plan.IPIFY, now)
    for name, v4, v6 in plan.DERPS.values():
        # As derper looks for it: by its -hostname.
        (STATE / name).mkdir()
        _issue(f"{name}/{v4}", v4, (v4, v6), now)


def _issue(file, name, addresses, begin):
    """Makes FILE.key, FILE.crt and FILE.pem, which is both; valid for 20 days from `begin`."""
    alternatives = [f"IP:{address}" for address in addresses]
    if name not in addresses:
        alternatives.append(f"DNS:{name}")
    (STATE / f"{file}.ext").write_text(f"subjectAltName={','.join(alternatives)}\n")
    # A clock that is not quite the same everywhere is no fault.
    first, last = begin - timedelta(hours=1), begin + timedelta(days=20)
    dates = [f"{when:%Y%m%d%H%M%SZ}" for when in (first, last)]
    _openssl(
        f"""
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {file}.key 2>/dev/null
        openssl req -new -key {file}.key -subj "/CN={name}" -out {file}.csr
        openssl ca -batch -notext -config ca.cnf -in {file}.csr -out {file}.crt \\
            -extfile {file}.ext -startdate {dates[0]} -enddate {dates[1]} 2>/dev/null
        cat {file}.crt {file}.key > {file}.pem
        """
    )


def _openssl(script):
    subprocess.run(["sh", "-ec", script], cwd=STATE, check=True)


def _headscale_files():
    regions = {}
    for number, (name, v4, v6) in plan.DERPS.items():
        node = {"name": f"{number}a", "regionid": number, "hostname": v4, "ipv4": v4, "ipv6": v6}
        node |= {"stunport": 3478, "derpport": 443, "canport80": True}
        regions[number] = {"regionid": number, "regioncode": name, "regionname": name, "nodes": [node]}
    # Both relays are equally near. Without a preference the home would be a toss-up.
    scores = {number: 1.0 if number == min(plan.DERPS) else 10.0 for number in plan.DERPS}
    config = {
        "server_url": f"https://{plan.HEADSCALE_NAME}",
        "listen_addr": "[::]:443",
        "metrics_listen_addr": "",
        "grpc_listen_addr": "127.0.0.1:50443",
        "noise": {"private_key_path": "/run/noise.key"},
        "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48"},
        "derp": {"server": {"enabled": False}, "urls": [], "paths": ["/etc/headscale/derp.yaml"]},
        "disable_check_updates": True,
        "database": {"type": "sqlite", "sqlite": {"path": _DATABASE}},
        "tls_cert_path": str(STATE / "headscale.crt"),
        "tls_key_path": str(STATE / "headscale.key"),
        "dns": {"magic_dns": False, "override_local_dns": False, "base_domain": "tail.lab"},
        "unix_socket": "/run/headscale.sock",
        "log": {"level": "info"},
    }
    # JSON is YAML; headscale reads both files as YAML. Numbers as keys are quoted
    # in JSON, so the map of regions is written line by line.
    derp = "regions:\n" + "".join(f"  {n}: {json.dumps(r)}\n" for n, r in regions.items())
    derp += "homeparams:\n  regionscore:\n"
    derp += "".join(f"    {n}: {score}\n" for n, score in scores.items())
    return {"headscale/config.yaml": json.dumps(config), "headscale/derp.yaml": derp}


def _listens(host, port):
    """Whether something listens on a TCP port of a host, over IPv4 or IPv6."""
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{host.pid}/net/{table}") as lines:
            for line in list(lines)[1:]:
                field = line.split()
                if field[3] == "0A" and int(field[1].rsplit(":", 1)[1], 16) == port:
                    return True
    return False
