"""Does to a router's kernel what mwan3 2.12 does, seen from outside.

Rules, tables and mangle chains are those a real mwan3 leaves behind (interfaces
wan, wan6, wanb, wanb6; policies and rules of its default config). The ipsets
are replaced by plain destination rules: kernels of test machines often lack
ip_set. mwan3's tracking is not here; the scenario says when an uplink is
`disconnected` or `connected`.
"""

from . import plan

# mwan3's own default.
MASK = 0x3F00

_TOOLS = {4: "iptables", 6: "ip6tables"}

# What mwan3 takes as directly connected, beside the uplinks' networks.
_CONNECTED = {
    4: ["127.0.0.0/8", "224.0.0.0/3", plan.LAN],
    6: ["fe80::/64", "ff00::/8", "::1/128"],
}

# policy: its members by rank; of one rank the traffic is shared. The first is what all traffic takes.
_POLICIES = {
    "wan_wanb": [["isp1"], ["isp2"]],
    "balanced": [["isp1", "isp2"]],
    "wan_only": [["isp1"]],
    "wanb_only": [["isp2"]],
    "wanb_wan": [["isp2"], ["isp1"]],
}


class Mwan3:
    """mwan3 of one router. `online` holds the names of the usable interfaces."""

    def __init__(self, host):
        self._host = host
        self.mask = MASK
        self.policies = _POLICIES
        # An ISP's share among those of its rank, where it is not 1.
        self.weights = {}
        self.online = {name for isp in plan.ISPS for name in (isp.wan, isp.wan6)}
        # Interfaces that netifd has taken down lose their rules and tables.
        self.down = set()
        # Networks that a rule of the owner's leaves alone (`use_policy default`).
        self.spared = []

    def _mark(self, number):
        """The value and mask of an id's mark: its bits, put where the mask has bits."""
        bits = [1 << at for at in range(32) if self.mask >> at & 1]
        value = sum(bit for at, bit in enumerate(bits) if number >> at & 1)
        return f"0x{value:x}/0x{self.mask:x}"

    def _special(self, name):
        """The id of `blackhole`, `unreachable` or `default`, the last that the mask has room for."""
        last = (1 << self.mask.bit_count()) - 1
        return last - ["default", "unreachable", "blackhole"].index(name)

    @property
    def _default(self):
        return self._mark(self._special("default"))

    @property
    def _no_mark(self):
        return f"-m mark --mark 0x0/0x{self.mask:x}"

    def configuration(self):
        """The text of /etc/config/mwan3 that would have it do this."""
        lines = [f"config globals 'globals'\n\toption mmx_mask '0x{self.mask:X}'\n"]
        for isp in plan.ISPS:
            for family in (4, 6):
                lines.append(
                    f"config interface '{_name(isp, family)}'\n\toption enabled '1'\n"
                    f"\toption family 'ipv{family}'\n"
                )
        by_name = {isp.name: isp for isp in plan.ISPS}
        for policy, ranks in self.policies.items():
            used = []
            for metric, rank in enumerate(ranks, 1):
                for isp in (by_name[name] for name in rank):
                    for family in (4, 6):
                        used.append(f"{policy}_{_name(isp, family)}")
                        lines.append(
                            f"config member '{used[-1]}'\n\toption interface '{_name(isp, family)}'\n"
                            f"\toption metric '{metric}'\n"
                            f"\toption weight '{self.weights.get(isp.name, 1)}'\n"
                        )
            members = "".join(f"\tlist use_member '{member}'\n" for member in used)
            lines.append(f"config policy '{policy}'\n{members}")
        first = next(iter(self.policies))
        for family, all_of in ((4, "0.0.0.0/0"), (6, "::/0")):
            lines.append(
                f"config rule 'default_rule_v{family}'\n\toption dest_ip '{all_of}'\n"
                f"\toption family 'ipv{family}'\n\toption use_policy '{first}'\n"
            )
        return "\n".join(lines)

    def start(self):
        """Sets up rules, tables and chains, like `mwan3 start`."""
        for family in (4, 6):
            for action in ("blackhole", "unreachable"):
                number = self._special(action)
                mark = self._mark(number)
                self._ip(family, f"rule add pref {2000 + number} fwmark {mark} {action}")
            for isp in plan.ISPS:
                self._add_interface(isp, family)
        self._write_chains()
        for tool in _TOOLS.values():
            for chain in ("PREROUTING", "OUTPUT"):
                rule = f"{chain} -j mwan3_hook"
                self._host.sh(f"{tool} -t mangle -C {rule} 2>&- || {tool} -t mangle -A {rule}")

    def disconnected(self, isp, families=(4, 6)):
        """The kernel half of a tracked failure: only the policy chains change."""
        self.online -= {_name(isp, family) for family in families}
        self._write_chains()

    def connected(self, isp, families=(4, 6)):
        """The kernel half of a tracked recovery."""
        self.online |= {_name(isp, family) for family in families}
        self._write_chains()

    def ifdown(self, isp):
        """netifd has taken the interfaces down: their rules and tables go too."""
        self.online -= {isp.wan, isp.wan6}
        for family in (4, 6):
            number = _number(isp, family)
            for base in (1000, 2000, 3000):
                self._ip(family, f"rule del pref {base + number}", check=False)
            self._ip(family, f"route flush table {number}", check=False)
        self.down.add(isp.name)
        self._write_chains()

    def ifup(self, isp, families=(4, 6)):
        """Undoes `ifdown`; `families` are those that the uplink has."""
        self.down.discard(isp.name)
        for family in families:
            self._add_interface(isp, family)
        self.connected(isp)

    def restart(self):
        """A restart, as each change of its config does it."""
        self.stop()
        self.start()

    def stop(self):
        """All rules between 1000 and 3999 and all tables up to 60 go, those of others too:
        tailscaled's rules at base 1300 and its table 52 (seen on a real one)."""
        for family in (4, 6):
            for line in self._ip(family, "rule show").splitlines():
                pref = int(line.split(":")[0])
                if 1000 <= pref < 4000:
                    self._ip(family, f"rule del pref {pref}", check=False)
            for table in [_number(isp, family) for isp in plan.ISPS] + [52]:
                self._ip(family, f"route flush table {table}", check=False)
        for tool in _TOOLS.values():
            self._host.sh(
                f"for c in PREROUTING OUTPUT; do {tool} -t mangle -D $c -j mwan3_hook; done",
                check=False,
            )

    def status(self):
        """The reply of `ubus call mwan3 status`."""
        interfaces = {}
        for isp in plan.ISPS:
            for name in (isp.wan, isp.wan6):
                usable = name in self.online
                interfaces[name] = {
                    "age": 1,
                    "online": 30 if usable else 0,
                    "offline": 0 if usable else 30,
                    "uptime": 60,
                    "score": 10 if usable else 0,
                    "lost": 0 if usable else 24,
                    "turn": 4,
                    "status": "online" if usable else "offline",
                    "enabled": True,
                    "running": True,
                    "tracking": "active",
                    "up": isp.name not in self.down,
                    "track_ip": [],
                }
        policies = {}
        for family in (4, 6):
            policies[f"ipv{family}"] = {
                policy: [
                    {"interface": _name(isp, family), "percent": 100 // len(members)}
                    for isp in members
                ]
                for policy in self.policies
                for members in [self._members(policy, family)]
            }
        connected = {f"ipv{family}": self._connected(family) for family in (4, 6)}
        return {"interfaces": interfaces, "connected": connected, "policies": policies}

    def _ip(self, family, words, check=True):
        return self._host.run(["ip", f"-{family}", *words.split()], check=check)

    def _add_interface(self, isp, family):
        number = _number(isp, family)
        mark = self._mark(number)
        gateway = isp.gateway if family == 4 else isp.gateway6
        network = isp.network if family == 4 else isp.prefix6
        onlink = f"{network} dev {isp.device} table {number} metric {isp.metric}"
        self._ip(family, f"route replace {onlink}")
        self._ip(
            family,
            f"route replace default via {gateway} dev {isp.device}"
            f" table {number} metric {isp.metric}",
        )
        if family == 4:
            lan = f"{plan.LAN} dev {plan.LAN_DEVICE} table {number} src {plan.LAN_ROUTER}"
            self._ip(4, f"route replace {lan}")
        self._ip(family, f"rule add pref {1000 + number} iif {isp.device} lookup {number}")
        self._ip(family, f"rule add pref {2000 + number} fwmark {mark} lookup {number}")
        self._ip(family, f"rule add pref {3000 + number} fwmark {mark} unreachable")

    def _connected(self, family):
        uplinks = [isp.network if family == 4 else isp.prefix6 for isp in plan.ISPS]
        return _CONNECTED[family] + uplinks

    def _members(self, policy, family):
        """The interfaces a policy uses now: all usable ones of the best rank."""
        for rank in self.policies[policy]:
            usable = [
                isp
                for isp in plan.ISPS
                if isp.name in rank and _name(isp, family) in self.online
            ]
            if usable:
                return usable
        return []

    def _write_chains(self):
        for family, tool in _TOOLS.items():
            # One step, and only chains of mwan3's: naming a chain empties it.
            self._host.run([f"{tool}-restore", "--noflush"], input=self._mangle(family))

    def _mangle(self, family):
        hook = "mwan3_hook"
        connected = f"mwan3_connected_ipv{family}"
        chains = [hook, "mwan3_ifaces_in", "mwan3_rules", connected]
        lines = []
        for network in self._connected(family):
            lines.append(f"-A {connected} -d {network} -j MARK --set-xmark {self._default}")
        if family == 6:
            # Router and neighbour discovery stay outside of mwan3's marks.
            for kind in (133, 134, 135, 136, 137):
                lines.append(f"-A {hook} -p ipv6-icmp --icmpv6-type {kind} -j RETURN")
        mask = f"--nfmask 0x{self.mask:x} --ctmask 0x{self.mask:x}"
        lines.append(f"-A {hook} {self._no_mark} -j CONNMARK --restore-mark {mask}")
        for chain in ("mwan3_ifaces_in", connected, "mwan3_rules"):
            lines.append(f"-A {hook} {self._no_mark} -j {chain}")
        lines.append(f"-A {hook} -j CONNMARK --save-mark {mask}")
        lines.append(f"-A {hook} -m mark ! --mark {self._default} -j {connected}")
        for isp in plan.ISPS:
            chains.append(f"mwan3_iface_in_{_name(isp, family)}")
            if isp.name not in self.down:
                lines += self._iface_in(isp, family)
        for policy in self.policies:
            chains.append(f"mwan3_policy_{policy}")
            lines += self._policy(policy, family)
        for network in self.spared:
            if (":" in network) == (family == 6):
                spared = f"-A mwan3_rules -d {network} {self._no_mark}"
                lines.append(f"{spared} -j MARK --set-xmark {self._default}")
        to_policy = f"{self._no_mark} -j mwan3_policy_{next(iter(self.policies))}"
        lines.append(f"-A mwan3_rules -p tcp -m multiport --dports 443 {to_policy}")
        lines.append(f"-A mwan3_rules {to_policy}")
        heads = "".join(f":{chain} - [0:0]\n" for chain in chains)
        return "*mangle\n" + heads + "\n".join(lines) + "\nCOMMIT\n"

    def _iface_in(self, isp, family):
        name = _name(isp, family)
        chain = f"mwan3_iface_in_{name}"
        lines = [f"-A mwan3_ifaces_in {self._no_mark} -j {chain}"]
        for network in self._connected(family):
            lines.append(
                f"-A {chain} -i {isp.device} -s {network} {self._no_mark}"
                f" -m comment --comment default -j MARK --set-xmark {self._default}"
            )
        mark = self._mark(_number(isp, family))
        lines.append(
            f"-A {chain} -i {isp.device} {self._no_mark}"
            f" -m comment --comment {name} -j MARK --set-xmark {mark}"
        )
        return lines

    def _policy(self, policy, family):
        chain = f"mwan3_policy_{policy}"
        members = self._members(policy, family)
        lines = []
        for position, isp in enumerate(members):
            weights = [self.weights.get(member.name, 1) for member in members[position:]]
            share = ""
            if len(weights) > 1:
                probability = weights[0] / sum(weights)
                share = f" -m statistic --mode random --probability {probability:.11f}"
            mark = self._mark(_number(isp, family))
            comment = f'"{_name(isp, family)} {weights[0]} {sum(weights)}"'
            lines.append(
                f"-A {chain} {self._no_mark}{share}"
                f" -m comment --comment {comment} -j MARK --set-xmark {mark}"
            )
        if not members:
            for isp in plan.ISPS:
                if isp.name in sum(self.policies[policy], []):
                    lines.append(
                        f"-A {chain} -o {isp.device} {self._no_mark} -m comment --comment"
                        f' "out {_name(isp, family)} {isp.device}"'
                        f" -j MARK --set-xmark {self._default}"
                    )
            lines.append(
                f"-A {chain} {self._no_mark} -m comment --comment unreachable"
                f" -j MARK --set-xmark {self._mark(self._special('unreachable'))}"
            )
        return lines


def _number(isp, family):
    return isp.mwan3 if family == 4 else isp.mwan3_6


def _name(isp, family):
    return isp.wan if family == 4 else isp.wan6
