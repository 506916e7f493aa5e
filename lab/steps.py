"""The steps that scenarios are made of: start tailover, fail over, fail back, expect."""

import json
import time
from dataclasses import dataclass

from . import byhand, plan
from .hosts import wait_until

# mwan3's `disconnected` comes this long after the uplink went dead, `connected`
# this long after it came back. With mwan3's defaults it takes a minute and more;
# what is measured counts from the trigger.
DISCONNECTED_AFTER = 2.0
CONNECTED_AFTER = 5.0

# So long the tailnet is given to come back after the trigger.
PATIENCE = 30.0

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


def start_tailover(world, options=""):
    """Starts the daemon and waits until it has looked at everything and is quiet.

    `options` are further lines of its configuration.
    """
    world.router.start_tailover(TAILOVER_CONFIG + options)
    await_quiet(world)
    # What it does at its start must not disturb, and is over by then.
    wait_until(lambda: world.pings.steady(4, 3) and world.pings.steady(6, 3), 15, "steady pings")


def status(world):
    """The daemon's own account of the state. ValueError while it does not answer."""
    return json.loads(world.router.host.run(["tailover", "status", "--json"], check=False))


def await_quiet(world, patience=PATIENCE):
    """Waits until the daemon has nothing to do."""

    def quiet():
        if world.router.tailover.poll() is not None:
            raise Failed(f"tailover ended with {world.router.tailover.returncode}")
        return status(world)["stage"] == "quiet"

    wait_until(quiet, patience, "tailover's stage quiet")


def linger(span):
    """Lets `span` seconds pass in which something must not happen."""
    time.sleep(span)


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
