"""The router: two uplinks, mwan3's state, doubles of OpenWrt's services."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import internet, plan, procd
from .hosts import Host, link, wait_until
from .mwan3 import Mwan3
from .paths import BIN, LOGS, STATE, TAILOVER_INSIDE, TREE, TREE_INSIDE

# The package's files, as they lie on a router.
_PACKAGE = TREE / "openwrt/net/tailover/files"

_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# tailscaled reads openwrt_version and config/mwan3 once, at its start, to choose
# the priorities of its rules; debian_version would come first
# (version/distro/distro.go, wgengine/router/osrouter/router_linux.go).
_FILES = {
    "openwrt_version": "24.10\n",
    "openwrt_release": "DISTRIB_ID='OpenWrt'\nDISTRIB_RELEASE='24.10'\n",
    "config/mwan3": "config globals 'globals'\n\toption mmx_mask '0x3F00'\n",
    "config/tailscale": "config settings 'settings'\n\toption fw_mode 'nftables'\n",
}

_INIT_SCRIPT = """\
#!/bin/sh
# A double of the package's procd script, for the lab: lab/procd.py keeps the process.
cd {tree} && exec {python} -m lab.procd call "$1"
"""

# OpenWrt's zones in short: nothing unasked from the uplinks, NAT for the LAN. A
# table of its own, as fw4 has it: what tailscaled accepts in its chains does not
# get past a drop in here.
_FIREWALL = """
table inet fw4 {
    set uplinks {
        type ifname
        elements = { eth1, eth2 }
    }
    chain unasked {
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
        drop
    }
    chain input {
        type filter hook input priority filter
        iifname @uplinks jump unasked
    }
    chain forward {
        type filter hook forward priority filter
        iifname @uplinks jump unasked
    }
    chain srcnat {
        type nat hook postrouting priority srcnat
        oifname @uplinks meta nfproto ipv4 masquerade
    }
}
"""


# Prints a script of the package; the programs only have to be there.
_SCRIPT = """
import pathlib, sys
sys.path.insert(0, "tools/package")
import recipe
print(recipe.read(pathlib.Path(sys.argv[1]), "tailover").scripts[sys.argv[2]])
"""


class Router:
    """The router and a client in its LAN.

    `rp_filter` is the kernel's value, 0 or 1. `source_routes` makes the IPv6
    defaults source-specific, as netifd does with a delegated prefix.
    """

    def __init__(self, rp_filter=0, source_routes=False):
        self.source_routes = source_routes
        self.host = Host("router", internet.trusted("127.0.0.1") | _FILES)
        self.lan = Host("lan", internet.trusted(plan.LAN_ROUTER))
        # Its /usr/sbin, as this process can write it.
        self.sbin = STATE / "hosts" / "router" / "sbin"
        self.mwan3 = Mwan3(self.host)
        self.link_up = {}
        # Uplinks that are not as usual: see `reshape`.
        self.shapes = {}
        # Gateways that a DHCP server has changed, by ISP.
        self.gateways = {}
        for isp in plan.ISPS:
            self._note(isp)
        # Entries of netifd's dump for interfaces that are no ISP's.
        self.more = []
        self.host.write("init.d/tailscale", _INIT_SCRIPT.format(tree=TREE_INSIDE, python=sys.executable), 0o755)
        self._install()
        for name in ("all", "default"):
            self.host.sysctl(**{f"ipv4__conf__{name}__rp_filter": rp_filter})
        link(self.host, plan.LAN_DEVICE, self.lan, "eth0")
        self.tailover = None
        self._tailover_log = 0
        self._ubus = []
        self._dns = None

    def _install(self):
        """Gives the router a /usr/sbin of its own, and the package's files."""
        scripts = _PACKAGE / "etc" / "hotplug.d"
        if scripts.is_dir():
            shutil.copytree(scripts, self.host.etc / "hotplug.d", dirs_exist_ok=True)
        sbin = self.sbin
        sbin.mkdir()
        real = STATE / "sbin"
        for entry in os.listdir("/usr/sbin"):
            (sbin / entry).symlink_to(real / entry)
        ours = {"tailover": TAILOVER_INSIDE}
        ours |= {name: TREE_INSIDE / "target/lab/bin" / name for name in ("tailscaled", "tailscale")}
        for name, target in ours.items():
            (sbin / name).unlink(missing_ok=True)
            (sbin / name).symlink_to(target)
        self.host.sh(
            f"mkdir -p {real}\nmount --bind /usr/sbin {real}\nmount --bind {sbin} /usr/sbin"
        )

    def start(self):
        """Addresses, routes, firewall, names, mwan3. Needs the ISPs' cables."""
        script = (
            "echo 1 > /proc/sys/net/ipv4/ip_forward\n"
            "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n"
            f"ip address add {plan.LAN_ROUTER}/24 dev {plan.LAN_DEVICE}\n"
        )
        self.host.sh(script + "".join(self._addresses(isp) for isp in plan.ISPS))
        self.lan.sh(
            f"ip address add {plan.LAN_CLIENT}/24 dev eth0\n"
            f"ip route add default via {plan.LAN_ROUTER}"
        )
        self.host.run(["nft", "-f", "-"], input=_FIREWALL)
        self.resolve_by([isp.gateway for isp in plan.ISPS])
        self.mwan3.start()
        self._start_ubus()

    def resolve_by(self, servers):
        """Starts the router's resolver, anew where there is one. As OpenWrt has it, it asks each
        uplink's resolver, whichever answers."""
        if self._dns:
            self._dns.kill()
            self._dns.wait()
        listen = f"--listen-address=127.0.0.1,{plan.LAN_ROUTER}"
        servers = [f"--server={server}" for server in servers]
        self._dns = self.host.spawn("dns", internet.dnsmasq("--no-resolv", listen, *servers))

    def forget_names(self):
        """Empties the resolver's cache: the next lookup has to ask an ISP."""
        self._dns.send_signal(signal.SIGHUP)

    def _addresses(self, isp):
        shape = self.shapes[isp.name]
        source = f"from {isp.prefix6} " if self.source_routes else ""
        via, via6 = f"via {self.gateways[isp.name]} ", f"via {isp.gateway6} "
        if shape == "bare":
            via = via6 = ""
        v4 = [
            f"ip address replace {isp.address}/26 dev {isp.device} noprefixroute",
            f"ip route replace {isp.network} dev {isp.device} src {isp.address}"
            f" metric {isp.metric}",
        ]
        v6 = [f"ip address replace {isp.address6}/64 dev {isp.device} nodad"]
        if shape != "no default":
            v4.append(f"ip route replace default {via}dev {isp.device} metric {isp.metric}")
            v6.append(
                f"ip -6 route replace default {source}{via6}dev {isp.device} metric {isp.metric}"
            )
        return "\n".join((v4 if shape != "v6 only" else []) + v6) + "\n"

    def reshape(self, isp, shape):
        """Makes an uplink odd, or with None as it was. Not while tailover runs.

        "no default": main has none for it, only netifd knows its gateway. "bare": no
        gateway, as with PPPoE (the ISP's side is IspHost.bare). "v6 only": no IPv4.
        """
        self.shapes[isp.name] = shape
        self.mwan3.ifdown(isp)
        self.host.sh(f"ip address flush dev {isp.device} scope global")
        self.host.sh(f"ip route flush dev {isp.device}; ip -6 route flush dev {isp.device}")
        self.host.sh(self._addresses(isp))
        self.mwan3.ifup(isp, (6,) if shape == "v6 only" else (4, 6))
        self._write_state()

    def also(self, *entries):
        """netifd knows these interfaces too, see `interface`; without any, only the usual ones."""
        self.more = list(entries)
        self._write_state()

    def join(self, isp):
        """Another uplink, whose ISP is in plan.ISPS and cabled. Not while tailover runs."""
        self._note(isp)
        self.host.sh(self._addresses(isp))
        self.host.run(["nft", "add", "element", "inet", "fw4", "uplinks", f'{{ "{isp.device}" }}'])
        self._write_state()

    def leave(self, isp):
        """Undoes `join`; the cable goes with the ISP, which is not in plan.ISPS any more."""
        self.host.run(["nft", "delete", "element", "inet", "fw4", "uplinks", f'{{ "{isp.device}" }}'])
        self._write_state()

    def _note(self, isp):
        self.link_up[isp.name] = True
        self.shapes[isp.name] = None
        self.gateways[isp.name] = isp.gateway

    def renumber(self, old, new):
        """An uplink gets the addresses of another plan, which takes the place of the old one."""
        self.mwan3.ifdown(old)
        self.host.sh(f"ip address flush dev {old.device} scope global")
        self.host.sh(f"ip route flush dev {old.device}; ip -6 route flush dev {old.device}")
        plan.ISPS[plan.ISPS.index(old)] = plan.ISP2 = new
        self.gateways[new.name] = new.gateway
        self.host.sh(self._addresses(new))
        self.mwan3.ifup(new)
        self._write_state()

    def new_gateway(self, isp, gateway):
        """A DHCP server hands out another gateway: netifd replaces main's default."""
        self.gateways[isp.name] = gateway
        self.host.sh(self._addresses(isp))
        self._write_state()
        self._changed("ifupdate", isp.wan)

    def without_mwan3(self, gone):
        """Removes mwan3 and its configuration, or puts both back."""
        file = self.host.etc / "config" / "mwan3"
        if gone:
            self.mwan3.stop()
            file.unlink()
        else:
            self.host.write("config/mwan3", _FILES["config/mwan3"])
            self.mwan3.start()

    def isp_of(self, address):
        """The ISP whose uplink has this local address, or None."""
        for isp in plan.ISPS:
            if address in (isp.address, isp.address6):
                return isp
        return None

    # What mwan3 and netifd do when an uplink changes.

    def disconnected(self, isp, families=(4, 6)):
        """mwan3 has seen the uplink fail: policy first, then the hotplug scripts.

        Returns the instant of the first script's call, as all three below do.
        """
        self.mwan3.disconnected(isp, families)
        self._write_state()
        called = time.monotonic()
        for family in families:
            self.hotplug("disconnected", isp.wan if family == 4 else isp.wan6, isp.device)
        return called

    def connected(self, isp, families=(4, 6)):
        """mwan3 has seen the uplink recover."""
        self.mwan3.connected(isp, families)
        self._write_state()
        called = time.monotonic()
        for family in families:
            self.hotplug("connected", isp.wan if family == 4 else isp.wan6, isp.device, FIRSTCONNECT="")
        return called

    def reload_firewall(self):
        """What `fw4 reload` does: its own table is flushed and made anew, in one change."""
        anew = "table inet fw4\nflush table inet fw4\n"
        self.host.run(["nft", "-f", "-"], input=anew + _FIREWALL)

    def restart_mwan3(self):
        """mwan3 is restarted, or its config has changed, with the hotplug calls of that."""
        for isp in plan.ISPS:
            for name in (isp.wan, isp.wan6):
                self.hotplug("disconnected", name, MWAN3_SHUTDOWN="1")
        self.mwan3.stop()
        self.start_mwan3()

    def start_mwan3(self):
        """mwan3 starts and finds each uplink connected, as after a boot."""
        self.mwan3.start()
        for isp in plan.ISPS:
            for name in (isp.wan, isp.wan6):
                self.hotplug("connected", name, isp.device, FIRSTCONNECT="1")

    def ifdown(self, isp):
        """netifd takes a DHCP uplink down after its carrier is lost, or its device."""
        self.link_up[isp.name] = False
        self.host.sh(
            f"ip link show dev {isp.device} >/dev/null 2>&1 || exit 0\n"
            f"ip address flush dev {isp.device} scope global\n"
            f"ip route flush dev {isp.device}; ip -6 route flush dev {isp.device}"
        )
        self.mwan3.ifdown(isp)
        self._write_state()
        called = time.monotonic()
        for name in (isp.wan, isp.wan6):
            self._changed("ifdown", name)
            self.hotplug("ifdown", name)
            self.hotplug("disconnected", name, isp.device)
        return called

    def ifup(self, isp):
        """netifd has the uplink again, mwan3 follows."""
        self.link_up[isp.name] = True
        self.host.sh(self._addresses(isp))
        self._write_state()
        for name in (isp.wan, isp.wan6):
            self._changed("ifup", name)
            self.hotplug("ifup", name, isp.device)
        self.mwan3.ifup(isp)
        self._write_state()
        for name in (isp.wan, isp.wan6):
            self.hotplug("connected", name, isp.device, FIRSTCONNECT="1")

    def hotplug(self, action, interface, device=None, **more):
        """Runs /etc/hotplug.d/iface as mwan3 and netifd do: one by one, bare environment."""
        variables = {"PATH": _SYSTEM_PATH, "LOGNAME": "root", "USER": "root"}
        variables |= {"HOTPLUG_TYPE": "iface", "ACTION": action, "INTERFACE": interface}
        if device:
            variables |= {"DEVICE": device, "DEVICENAME": ""}
        pairs = [f"{key}={value}" for key, value in (variables | more).items()]
        loop = "for f in /etc/hotplug.d/iface/*; do [ -f $f ] && ( . $f ); done; true"
        self.host.run(["env", "-i", *pairs, "sh", "-c", loop], timeout=20)

    def power_on(self):
        """netifd has every uplink for the first time, and mwan3 starts: the end of a boot whose
        lines came late. Before it, each uplink was down and mwan3 stopped."""
        for isp in plan.ISPS:
            self.link_up[isp.name] = True
            self.mwan3.down.discard(isp.name)
            self.mwan3.online |= {isp.wan, isp.wan6}
            self.host.sh(self._addresses(isp))
        self._write_state()
        called = time.monotonic()
        for isp in plan.ISPS:
            for name in (isp.wan, isp.wan6):
                self._changed("ifup", name)
                self.hotplug("ifup", name, isp.device)
        self.start_mwan3()
        return called

    # tailover, and the services it asks.

    def start_tailover(self, config, without=None):
        """Starts `tailover run` with the given /etc/config/tailover, perhaps without one of its rights."""
        self.host.write("config/tailover", config)
        log = LOGS / "router-tailover.log"
        self._tailover_log = log.stat().st_size if log.exists() else 0
        self.respawn_tailover(without)

    def respawn_tailover(self, without=None):
        """Starts `tailover run` again with what is in /etc/config/tailover, as procd does."""
        self.tailover = self.host.spawn("tailover", [*confined(without), "/usr/sbin/tailover", "run"])

    def script_of_package(self, name):
        """The text of a maintainer script, as the feed's Makefile has it."""
        program = [sys.executable, "-c", _SCRIPT, BIN, name]
        environment = os.environ | {"SOURCE_DATE_EPOCH": "0"}
        return subprocess.run(
            list(map(str, program)), env=environment, capture_output=True, text=True, check=True
        ).stdout

    def replace_tailover(self):
        """New files in the places of the programs, as a package manager puts them there."""
        fetch = TAILOVER_INSIDE.with_name("tailover-fetch")
        for source in filter(Path.exists, (TAILOVER_INSIDE, fetch)):
            program = self.sbin / source.name
            new = program.with_suffix(".new")
            shutil.copy(source, new)
            new.replace(program)

    def log_of_tailover(self):
        """What the tailover that was started last has written."""
        with open(LOGS / "router-tailover.log", "rb") as log:
            log.seek(self._tailover_log)
            return log.read().decode()

    def traces_of_tailover(self):
        """Rules and routes with tailover's protocol number and its nftables table; empty when it
        left nothing."""
        lines = []
        for family in ("-4", "-6"):
            rules = self.host.run(["ip", "-d", family, "rule", "show"])
            lines += [line for line in rules.splitlines() if "proto 122" in line]
            routes = ["ip", family, "route", "show", "table", "all", "proto", "122"]
            lines += self.host.run(routes).splitlines()
        tables = self.host.run(["nft", "list", "tables"]).splitlines()
        return lines + [line for line in tables if line == "table inet tailover"]

    def stop_tailover(self):
        """Stops it as procd would and takes away what it may leave, or does nothing."""
        if self.tailover is None:
            return
        process, self.tailover = self.tailover, None
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        self.host.run(["/usr/sbin/tailover", "cleanup"], check=False)
        # The history that it keeps for the next one.
        self.host.sh("rm -rf /run/tailover")

    def _start_ubus(self):
        ubusd = shutil.which("ubusd") or BIN / "ubusd"
        netifd = BIN / "netifd"
        if not Path(ubusd).exists() or not netifd.exists():
            return
        self._write_state()
        self.host.sh("mkdir -p /run/ubus; rm -f /run/ubus/ubus.sock")
        self._ubus = [self.host.spawn("ubusd", [ubusd, "-s", "/run/ubus/ubus.sock"])]
        wait_until(self.host.path("/run/ubus/ubus.sock").exists, 5, "ubusd's socket")
        self.start_netifd()

    def start_netifd(self):
        """Starts the double that has netifd's objects, mwan3's and procd's."""
        self._ubus.append(self.host.spawn("netifd", [BIN / "netifd", "--state", procd.STATE_FILE]))
        ubus = [BIN / "ubus", "call", "network.interface", "dump"]
        wait_until(lambda: self.host.run(ubus, check=False), 5, "netifd's double")

    def kill_netifd(self):
        """The objects are gone, ubusd is not."""
        netifd = self._ubus.pop()
        netifd.kill()
        netifd.wait()

    def signal_ubusd(self, number):
        """Sends ubusd a signal."""
        self._ubus[0].send_signal(number)

    def kill_ubus(self):
        """ubusd and netifd's double die at once."""
        for process in self._ubus:
            process.kill()
            process.wait()
        self._ubus = []

    def revive_ubus(self):
        """Starts them again, or does nothing while they run."""
        if not self._ubus:
            self._start_ubus()

    def set_rp_filter(self, value):
        """Sets the kernel's reverse path filter on every device: the larger value counts."""
        self.host.sysctl(ipv4__conf__all__rp_filter=value)

    def set_source_routes(self, wanted):
        """Makes the IPv6 defaults source-specific, or plain again."""
        self.source_routes = wanted
        for isp in plan.ISPS:
            # The kernel takes the source as part of the route's name: the other one has to go.
            self.host.sh(f"ip -6 route del default dev {isp.device}", check=False)
            self.host.sh(f"ip -6 route del default from {isp.prefix6} dev {isp.device}", check=False)
            self.host.sh(self._addresses(isp))
        self._write_state()

    def _write_state(self):
        """What the doubles of netifd and mwan3 answer with; procd's part is procd's."""
        state = {"interfaces": self.interfaces(), "mwan3": self.mwan3.status()}
        procd.publish(self.host.path(procd.STATE_FILE), state)

    def _changed(self, action, interface):
        """Has netifd's double tell its subscribers; the state file is written before."""
        if self._ubus:
            what = json.dumps({"action": action, "interface": interface})
            self.host.run([BIN / "ubus", "call", "lab.netifd", "change", what])

    def interfaces(self):
        """The entries of `ubus call network.interface dump`."""
        interfaces = [
            interface("lan", plan.LAN_DEVICE, address=(plan.LAN_ROUTER, 24)),
            interface("loopback", "lo", address=("127.0.0.1", 8)),
        ]
        for isp in plan.ISPS:
            up = self.link_up[isp.name]
            shape = self.shapes[isp.name]
            gateway = (self.gateways[isp.name], isp.gateway6)
            if shape == "bare":
                gateway = ("0.0.0.0", "::")
            route = {"target": "0.0.0.0", "mask": 0, "nexthop": gateway[0]}
            route["source"] = f"{isp.address}/32"
            wan = interface(isp.wan, isp.device, up, isp.metric, (isp.address, 26), route)
            wan["dns-server"] = [isp.gateway] if up else []
            route6 = {"target": "::", "mask": 0, "nexthop": gateway[1], "metric": isp.metric}
            route6["source"] = isp.prefix6 if self.source_routes else "::/0"
            wan6 = interface(isp.wan6, isp.device, up, isp.metric)
            if up:
                wan6["ipv6-address"] = [{"address": isp.address6, "mask": 64}]
                wan6["route"] = [route6]
                if shape == "v6 only":
                    wan6["dns-server"] = [isp.gateway6]
            if shape == "no default":
                # As netifd tells of it with `option defaultroute '0'`.
                for entry in (wan, wan6):
                    entry["inactive"]["route"], entry["route"] = entry["route"], []
            interfaces += [wan6] if shape == "v6 only" else [wan, wan6]
        return interfaces + self.more


# The capabilities that procd leaves the daemon: ujail takes them from the same file (jail/capabilities.c of procd).
RIGHTS = json.loads((_PACKAGE / "etc/capabilities/tailover.json").read_text())["bounding"]


def confined(without=None):
    """What stands before the daemon's command so that it has the rights that procd leaves it, perhaps all but one.

    All that is run by the daemon has no others either.
    """
    kept = [f"+{right.removeprefix('CAP_').lower()}" for right in RIGHTS if right != without]
    return ["setpriv", "--no-new-privs", "--bounding-set", ",".join(["-all", *kept])]


def interface(name, device, up=True, metric=0, address=None, route=None):
    """An entry of netifd's dump. `address`: IPv4 and prefix length; `route`: one that it sets."""
    empty = ["ipv4-address", "ipv6-address", "route", "dns-server", "dns-search", "neighbors"]
    entry = {
        "interface": name,
        "up": up,
        "pending": False,
        "available": up,
        "autostart": True,
        "dynamic": False,
    }
    if up:
        entry |= {"uptime": 60, "l3_device": device}
    entry |= {"proto": "static", "device": device, "metric": metric, "dns_metric": 0}
    entry |= {"delegation": True}
    entry |= {key: [] for key in empty + ["ipv6-prefix", "ipv6-prefix-assignment"]}
    if up and address:
        entry["ipv4-address"] = [{"address": address[0], "mask": address[1]}]
    if up and route:
        entry["route"] = [route]
    return entry | {"inactive": {key: [] for key in empty}, "data": {}}
