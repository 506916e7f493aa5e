"""What is done to the world, and what must come of it.

A scenario takes a settled World, does its harm, and raises Failed with a
sentence when something that must hold does not.
"""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from . import byhand, plan
from .hosts import wait_until

# mwan3's `disconnected` comes this long after the uplink went dead, `connected`
# this long after it came back. With mwan3's defaults it takes a minute and more;
# what is measured counts from the trigger.
DISCONNECTED_AFTER = 2.0
CONNECTED_AFTER = 5.0

# So long the tailnet is given to come back after the trigger.
PATIENCE = 30.0

# What the idle daemon may hold of a small router's memory: VmRSS, in kB.
IDLE_KB = 1500

TAILOVER_CONFIG = """\
config tailover 'main'
\toption enabled '1'
\toption log_level 'debug'
\toption hold '10'
"""


class Failed(Exception):
    """A scenario did not end as it must. The text says what was seen."""


@dataclass
class Failover:
    """Seconds from the trigger (mwan3's hotplug call); None for never.

    `control`: control over the live uplink, and online. `ping`, `ping6`: the
    first answer of a steady row. `restarts` of tailscaled since the fault.
    """

    cure: str
    peer: str
    control: float | None = None
    ping: float | None = None
    ping6: float | None = None
    restarts: int = 0

    def __str__(self):
        times = [("control", self.control), ("ping", self.ping), ("ping v6", self.ping6)]
        words = ", ".join(f"{name} {seconds(value)}" for name, value in times)
        return f"{words}, {self.restarts} restarts of tailscaled"


@dataclass
class Failback:
    """Seconds from mwan3's `connected` until control was over the first uplink
    again, the longest time without an answered ping (v4, v6) from the uplink's
    return to then, and restarts in that time."""

    control: float | None
    gap: float
    gap6: float
    restarts: int

    def __str__(self):
        return (
            f"control {seconds(self.control)}, worst ping gap v4 {self.gap:.1f} s"
            f" v6 {self.gap6:.1f} s, {self.restarts} restarts of tailscaled"
        )


def seconds(value):
    """A duration for a line of output."""
    return "never" if value is None else f"{value:.1f} s"


# Steps that scenarios are made of.


def start_tailover(world):
    """Starts the daemon and waits until it answers and has looked at its uplinks."""
    world.router.start_tailover(TAILOVER_CONFIG)

    def answers():
        if world.router.tailover.poll() is not None:
            raise Failed(f"tailover ended with {world.router.tailover.returncode}")
        done = world.router.host.run(["sh", "-c", "tailover status && echo answered"], check=False)
        return "answered" in done

    wait_until(answers, 10, "an answer of tailover status")
    # What it does at its start must not disturb, and is over by then.
    wait_until(lambda: world.pings.steady(4, 3) and world.pings.steady(6, 3), 15, "steady pings")


def fail_over(world, cure, fault="blackhole", patience=PATIENCE):
    """Breaks the first uplink, lets mwan3 notice, and waits for the tailnet.

    `cure` is "nothing", "hand" or "tailover" (which must be running). Returns a
    Failover; stops waiting after `patience` seconds from the trigger.
    """
    figures = Failover(cure, world.kind)
    broken = time.monotonic()
    getattr(world.isp1, fault)()
    time.sleep(DISCONNECTED_AFTER)
    if fault == "link_down":
        trigger = world.router.ifdown(plan.ISP1)
    else:
        trigger = world.router.disconnected(plan.ISP1)
    if cure == "hand":
        byhand.steer(world.router, plan.ISP2)
        byhand.nudge_and_renew(world.node, world.peer_address())

    def look():
        figures.control = world.watch.control_back(trigger, "isp2")
        figures.ping = world.pings.back(trigger, 4)
        figures.ping6 = world.pings.back(trigger, 6)
        return None not in (figures.control, figures.ping, figures.ping6)

    try:
        wait_until(look, patience, "the tailnet")
    except TimeoutError:
        # Never is a result, the caller judges it.
        pass
    figures.restarts = world.watch.restarts(broken)
    return figures


def fail_back(world, cure, patience=90.0):
    """Restores the first uplink, lets mwan3 notice, and waits until control is
    back on it. Returns a Failback."""
    returned = time.monotonic()
    world.isp1.restore()
    time.sleep(CONNECTED_AFTER)
    trigger = world.router.connected(plan.ISP1)
    if cure == "hand":
        byhand.unsteer(world.router)
        byhand.nudge_and_renew(world.node, world.peer_address())
    try:
        wait_until(
            lambda: world.watch.control_now() == {"isp1"} and world.marked_device() == "eth1",
            patience,
            "control over the first uplink",
        )
        control = world.watch.control_back(trigger, "isp1")
        # What a late break would do belongs to the failback too.
        wait_until(lambda: world.pings.steady(4, 3) and world.pings.steady(6, 3), 15, "pings")
    except TimeoutError:
        control = None
    until = time.monotonic() - 0.5
    gaps = [world.pings.worst_gap(returned, until, family) for family in (4, 6)]
    return Failback(control, *gaps, world.watch.restarts(returned))


def expect(condition, sentence):
    """Raises Failed with the sentence unless the condition holds."""
    if not condition:
        raise Failed(sentence)


def expect_back(figures):
    """The tailnet must be back, over both families, without a restart."""
    expect(None not in (figures.control, figures.ping, figures.ping6), f"not back: {figures}")
    expect(figures.restarts == 0, f"restarted: {figures}")


def expect_lan(world):
    """The LAN must reach the outside, by whichever uplink mwan3 has chosen.

    Not asked under strict rp_filter: mwan3's last rules mark a reply for the
    router's own address as local (0x3f00), and tailscaled has switched
    src_valid_mark on, so the kernel looks for the reply's sender in main and
    drops it on the second uplink. mwan3 wants rp_filter off for such reasons.
    """
    if world.rp_filter == 0:
        expect(world.lan_reaches(), "the LAN does not reach the outside")


# The lab proves itself first: what it shows without tailover must be true.


def lab_is_real(world):
    """tailscaled runs at base 1300 beside mwan3's rules, in both families."""
    for family in ("-4", "-6"):
        rules = world.router.host.run(["ip", family, "rule", "show"])
        for pref in ("1310:", "1370:", "2061:", "3001:" if family == "-4" else "3002:"):
            expect(pref in rules, f"no ip {family} rule with pref {pref}")
    expect(world.marked_device() == "eth1", "tailscaled's packets do not leave by eth1")
    expect_lan(world)
    return "base 1300, mwan3's rules beside it"


def names_are_local(world):
    """An ISP's resolver answers its own customers and nobody else."""
    for isp, other in (plan.ISPS, reversed(plan.ISPS)):
        own = world.router.host.run(["sh", "-c", _lookup(isp.gateway, isp.device)], check=False)
        foreign = world.isps[other.name].host.run(["sh", "-c", _lookup(isp.gateway)], check=False)
        expect("answered" in own, f"{isp.name}'s resolver is silent for its customer")
        expect("answered" not in foreign, f"{isp.name}'s resolver answers a stranger")
    return "each resolver answers its own customer only"


def _lookup(server, device=None):
    """A shell command that asks a resolver for the control server's name."""
    question = "\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\011headscale\\3lab\\0\\0\\1\\0\\1"
    program = (
        "import socket,sys;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(1);"
        + (f"s.setsockopt(socket.SOL_SOCKET,25,b'{device}');" if device else "")
        + f"s.sendto(b'{question}',('{server}',53));s.recv(512);print('answered')"
    )
    return f'python3 -c "{program}" 2>&1'


def dead_without_cure(world):
    """mwan3's policy alone leaves the tailnet dead while the LAN goes on."""
    figures = fail_over(world, "nothing", patience=20)
    expect(figures.ping is None and figures.control is None, f"came back by itself: {figures}")
    expect(world.marked_device() == "eth1", "tailscaled's packets have moved by themselves")
    expect_lan(world)
    return str(figures)


def dead_without_cure_derp(world):
    """The same with a peer that has only relays."""
    return dead_without_cure(world)


def by_hand_direct(world):
    """The cure by hand brings a direct peer back."""
    return _by_hand(world)


def by_hand_derp(world):
    """The cure by hand brings a peer back that has only relays."""
    return _by_hand(world)


def _by_hand(world):
    figures = fail_over(world, "hand")
    expect_back(figures)
    back = fail_back(world, "hand")
    expect(back.control is not None, f"control did not return: {back}")
    return f"{figures}; back again: {back}"


def by_hand_names_cold(world):
    """The router has to look the control server up again, half its resolvers dead."""
    world.router.forget_names()
    figures = fail_over(world, "hand", patience=60)
    expect(figures.ping is not None and figures.control is not None, f"not back: {figures}")
    return str(figures)


def by_hand_rejected(world):
    """An uplink that answers with ICMP unreachable is overcome by hand too."""
    figures = fail_over(world, "hand", "reject")
    expect_back(figures)
    return str(figures)


def carrier_lost(world):
    """With the carrier the routes go, and tailscaled moves by itself."""
    figures = fail_over(world, "nothing", "link_down")
    expect(figures.ping is not None, f"not back: {figures}")
    return str(figures)


def new_address(world):
    """A silent change of the public address breaks paths that mend themselves."""
    changed = time.monotonic()
    world.isp1.new_address()
    wait_until(lambda: world.pings.back(changed + 0.5, 4) is not None, PATIENCE, "the tailnet")
    return f"ping {seconds(world.pings.back(changed + 0.5, 4))} after the change"


def portal_answers(world):
    """The portal answers in the outside's place and lets nothing else through."""
    world.isp1.portal()
    fetch = (
        "import urllib.request as u;"
        f"print(u.urlopen('http://{plan.DERPS[900][1]}/generate_204',timeout=2).status)"
    )
    seen = world.router.host.run(["python3", "-c", fetch], check=False).strip()
    expect(seen == "200", f"generate_204 behind the portal gave {seen or 'nothing'}")
    ping = ["ping", "-n", "-c", "1", "-W", "1", plan.HEADSCALE[0]]
    through = world.router.host.run(ping, check=False)
    expect(" 0 received" in through, "the portal lets a ping through")
    return "200 for generate_204, nothing else passes"


def control_down(world):
    """Without the control server the tailnet goes on over the paths it has."""
    world.internet.control_down()
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 10, 12, "ten seconds")
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(gap < 1.5, f"the tailnet paused for {gap:.1f} s")
    return f"worst ping gap {gap:.1f} s in 10 s"


# With tailover.


def failover_direct(world):
    """tailover brings a direct peer back after a blackhole, and moves back later."""
    return _with_tailover(world, "blackhole")


def failover_derp(world):
    """The same with a peer that has only relays."""
    return _with_tailover(world, "blackhole")


def failover_rejected(world):
    """The same with an uplink that answers with ICMP unreachable."""
    return _with_tailover(world, "reject")


def failover_portal(world):
    """The same with a captive portal on the first uplink."""
    return _with_tailover(world, "portal")


def _with_tailover(world, fault):
    start_tailover(world)
    figures = fail_over(world, "tailover", fault)
    expect_back(figures)
    expect_lan(world)
    back = fail_back(world, "tailover")
    expect(back.control is not None, f"control did not return: {back}")
    expect(back.restarts == 0, f"restarted at failback: {back}")
    return f"{figures}; back again: {back}"


def control_down_no_cure(world):
    """A control server that is down is nothing to be cured: no restart, no gap."""
    start_tailover(world)
    world.internet.control_down()
    since = time.monotonic()
    world.router.hotplug("connected", plan.ISP1.wan, plan.ISP1.device, FIRSTCONNECT="")
    wait_until(lambda: time.monotonic() - since > 20, 22, "twenty seconds")
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(world.watch.restarts(since) == 0, "tailscaled was restarted")
    expect(gap < 2, f"the tailnet paused for {gap:.1f} s")
    return f"worst ping gap {gap:.1f} s in 20 s, no restart"


def all_down_no_cure(world):
    """Nothing is done to tailscaled while no uplink reaches the outside."""
    start_tailover(world)
    since = time.monotonic()
    for isp in world.isps.values():
        isp.blackhole()
    for isp in plan.ISPS:
        world.router.disconnected(isp)
    wait_until(lambda: time.monotonic() - since > 15, 17, "fifteen seconds")
    expect(world.watch.restarts(since) == 0, "tailscaled was restarted")
    restored = time.monotonic()
    for isp in world.isps.values():
        isp.restore()
    for isp in plan.ISPS:
        world.router.connected(isp)
    wait_until(lambda: world.pings.back(restored, 4) is not None, PATIENCE, "the tailnet")
    expect(world.watch.restarts(since) == 0, "tailscaled was restarted")
    return f"ping {seconds(world.pings.back(restored, 4))} after the uplinks' return"


def idle_memory(world):
    """The daemon that has nothing to do is small, also after a full burst of probes."""
    start_tailover(world)
    pid = world.router.tailover.pid

    def quiet():
        status = world.router.host.run(["tailover", "status", "--json"], check=False)
        return status.startswith("{") and json.loads(status)["stage"] == "quiet"

    def worker_ended():
        # proc_pid_children(5): also a zombie would be in the list.
        return not Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def burst_over():
        return quiet() and worker_ended()

    wait_until(burst_over, PATIENCE, "quiet after the start")
    world.router.host.run(["tailover", "recover"], check=False)
    wait_until(burst_over, PATIENCE, "quiet after the burst")
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = dict(re.findall(r"(VmRSS|RssAnon):\s+(\d+) kB", status))
    expect(int(sizes["VmRSS"]) <= IDLE_KB, f"VmRSS {sizes['VmRSS']} kB, wanted {IDLE_KB}")
    return f"VmRSS {sizes['VmRSS']} kB, of it anonymous {sizes['RssAnon']} kB"


@dataclass(frozen=True)
class Scenario:
    """One entry of `lab test`: the function, the peer's kind, whether it needs tailover."""

    run: object
    peer: str = "direct"
    tailover: bool = False

    @property
    def name(self):
        """The function's name, by which scenarios are picked."""
        return self.run.__name__


SCENARIOS = [
    Scenario(lab_is_real),
    Scenario(names_are_local),
    Scenario(dead_without_cure),
    Scenario(by_hand_direct),
    Scenario(by_hand_rejected),
    Scenario(by_hand_names_cold),
    Scenario(carrier_lost),
    Scenario(new_address),
    Scenario(portal_answers),
    Scenario(control_down),
    Scenario(dead_without_cure_derp, peer="derp-only"),
    Scenario(by_hand_derp, peer="derp-only"),
    Scenario(failover_direct, tailover=True),
    Scenario(failover_rejected, tailover=True),
    Scenario(failover_portal, tailover=True),
    Scenario(control_down_no_cure, tailover=True),
    Scenario(all_down_no_cure, tailover=True),
    Scenario(failover_derp, peer="derp-only", tailover=True),
    Scenario(idle_memory, tailover=True),
]
