"""The whole lab, brought up once and brought back to health between scenarios."""

import contextlib
import signal
import sys
import threading

from . import byhand, hosts, plan
from .hosts import HostError, wait_until
from .internet import Internet
from .isp import IspHost
from .measure import Pings, Watch
from .paths import LOGS, STATE
from .router import Router
from .tailnet import Peer, RouterNode


class World:
    """Everything that runs. `tailover` says whether a binary is there to be tested;
    `seed` is that of whatever is left to chance."""

    def __init__(self, tailover=False, rp_filter=0, source_routes=False, seed=0):
        self.tailover = tailover
        self.seed = seed
        self.rp_filter = rp_filter
        self._clear_logs()
        self.internet = Internet()
        self.router = Router(rp_filter, source_routes)
        self.isps = {isp.name: IspHost(isp, self.internet) for isp in plan.ISPS}
        self.peer = Peer(self.internet)
        self.node = RouterNode(self.router.host)
        self.watch = None
        self.pings = None
        self._pinger = None
        self.kind = "direct"

    @property
    def isp1(self):
        """The ISP of the first choice."""
        return self.isps["isp1"]

    @property
    def isp2(self):
        """The ISP of the second choice."""
        return self.isps["isp2"]

    @property
    def hosts(self):
        """Every host, for those who want to look in."""
        isps = [isp.host for isp in self.isps.values()]
        return [*self.internet.hosts, *isps, self.router.host, self.router.lan, self.peer.host]

    def start(self):
        """Brings everything up to a tailnet that is pinged over both families."""
        for isp in self.isps.values():
            isp.connect(self.router.host)
        self.router.start()
        hosts.publish(self.hosts)
        self.internet.await_ready()
        self.auth_key = self.internet.auth_key()
        nodes = (self.node, self.peer.node)
        for node in nodes:
            node.start()
        joining = [threading.Thread(target=node.join, args=(self.auth_key,)) for node in nodes]
        for thread in joining:
            thread.start()
        for thread in joining:
            thread.join()
        self.watch = Watch(self.node, self._isp_name)
        self._ping()
        self.settle("direct", patience=15)

    def _ping(self):
        file = STATE / "pings"
        command = [sys.executable, "-m", "lab.pinger", file, *self.node.addresses()]
        self._pinger = self.peer.host.spawn("pinger", ["env", "-C", STATE / "tree", *command])
        self.pings = Pings(file)

    def pause_pings(self):
        """Nobody uses the tailnet until `resume_pings`."""
        self._pinger.send_signal(signal.SIGUSR1)

    def resume_pings(self):
        """Undoes `pause_pings`."""
        self._pinger.send_signal(signal.SIGUSR2)

    def _isp_name(self, address):
        isp = self.router.isp_of(address)
        return isp.name if isp else None

    def _clear_logs(self):
        LOGS.mkdir(parents=True, exist_ok=True)
        for file in LOGS.glob("*.log"):
            file.unlink()

    def settle(self, kind, patience=3):
        """A healthy state to start a scenario from: no fault, first uplink, no tailover.

        `kind` is the peer's: "direct" or "derp-only". What has not healed by
        itself after `patience` seconds is nudged and renewed, and what that does
        not heal either begins anew, the control server too, which is told.
        """
        self.router.stop_tailover()
        self.router.revive_ubus()
        if self.node.pid() is None or not self.node.answers():
            self.node.restart()
        byhand.unsteer(self.router)
        self.internet.control_up()
        for isp in self.isps.values():
            isp.restore()
            if not self.router.link_up[isp.spec.name]:
                self.router.ifup(isp.spec)
            elif isp.spec.wan not in self.router.mwan3.online:
                self.router.connected(isp.spec)
        if kind != self.kind:
            self.peer.become(kind)
            self.kind = kind
        for patience, heal in ((patience, self._nudge_and_renew), (30, self._start_anew)):
            try:
                wait_until(self._healthy, patience, "a healthy tailnet")
                return
            except TimeoutError:
                # What cannot even be nudged begins anew; what is still not well then is told below.
                with contextlib.suppress(OSError, HostError):
                    heal()
        try:
            wait_until(self._healthy, 30, "a healthy tailnet")
        except TimeoutError as problem:
            raise TimeoutError(f"{problem}: {self.describe()}") from None

    def _nudge_and_renew(self):
        self._forget_second_uplink()
        byhand.nudge_and_renew(self.node, self.peer_address())

    def _start_anew(self):
        # A node that has missed the other's new disco key reaches it by relays alone until it hears of the next.
        # Headscale 0.28 now and then forgot a node that had come back and told it nothing any more (mended in 0.29.0).
        print(f"lab: *** STILL NOT WELL: {self.describe()}; CONTROL AND BOTH NODES START ANEW ***", flush=True)
        self.internet.control_killed()
        self.internet.control_up()
        self.peer.node.restart()
        self.node.restart()
        wait_until(lambda: self.node.answers() and self.peer.node.answers(), 10, "both tailscaleds")

    def ipv4_only(self):
        """No ISP has IPv6: the tailnet is brought to IPv4. Until the next `settle`."""
        for isp in self.isps.values():
            isp.no_ipv6()
        byhand.nudge_and_renew(self.node, self.peer_address())
        ours = {plan.ISP1.address}

        def moved():
            flows = self.node.control_sources() | self.node.relay_sources()
            where = self.peer.node.path_to("router")[1] or ""
            return flows == ours and where.startswith(self.isp1.public) and self._healthy()

        wait_until(moved, 60, "a tailnet over IPv4 alone")

    def _forget_second_uplink(self):
        """Breaks what the peer still has over the second uplink.

        It goes on sending there for as long as that works and is no slower, so
        nothing but the loss of its mappings and of the peer's memory moves it.
        """
        for host in (self.isp2.host, self.router.host):
            for family in ("ipv4", "ipv6"):
                host.run(["conntrack", "-D", "-p", "udp", "-f", family], check=False)
        self.peer.node.call("POST", "debug?action=rebind")

    def _healthy(self):
        if self.node.pid() is None or self.watch.control_now() != {"isp1"}:
            return False
        if {self._isp_name(source) for source in self.node.relay_sources()} != {"isp1"}:
            return False
        if not all(self.pings.steady(family) for family in (4, 6)):
            return False
        how, where = self.peer.node.path_to("router")
        if self.kind == "derp-only":
            return how == "derp"
        mine = [self.isp1.public, plan.ISP1.address6]
        return how == "direct" and where.rsplit(":", 1)[0].strip("[]") in mine

    def peer_address(self):
        """The peer's tailnet IPv4 address."""
        return self.peer.node.addresses()[0]

    def describe(self):
        """What one wants to know of a tailnet that is not healthy, in a line."""
        how, where = self.peer.node.path_to("router")
        return (
            f"control over {sorted(self.watch.control_now()) or 'nothing'},"
            f" relay from {sorted(self.node.relay_sources()) or 'nowhere'},"
            f" online {self.node.online()}, peer's path {how} {where},"
            f" ping steady v4 {self.pings.steady(4)} v6 {self.pings.steady(6)},"
            f" {self._disco()}"
        )

    def _disco(self):
        """Whether the peer has the router's disco key as the router's own netmap does: without it no path is
        direct."""
        try:
            own = self.node.disco_keys().get("router")
            known = self.peer.node.disco_keys().get("router")
        except (OSError, KeyError, TypeError, ValueError, HostError) as problem:
            # A netmap of another version, or none.
            return f"disco keys unknown ({problem!r})"
        return "the peer has the router's disco key" if own and own == known else f"disco key {own}, at the peer {known}"

    def marked_device(self):
        """The device by which a packet of tailscaled's leaves now, over IPv4."""
        words = self.router.host.run(
            ["ip", "route", "get", plan.HEADSCALE[0], "mark", "0x80000"], check=False
        ).split()
        return words[words.index("dev") + 1] if "dev" in words else None

    def lan_reaches(self):
        """Whether a client in the LAN gets an answer from the outside now."""
        ping = ["ping", "-n", "-c", "1", "-W", "1", plan.IPIFY[0]]
        return " 1 received" in self.router.lan.run(ping, check=False)
