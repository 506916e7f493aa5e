"""Scenarios of flows that stay where they were: on a metered backup, on a dead uplink; and flapping."""

import json
import time

from . import plan
from .hosts import wait_until
from .steps import PATIENCE, await_quiet, expect, expect_back, fail_back, fail_over, linger, seconds, start_tailover

_METERED = f"\tlist metered '{plan.ISP2.wan}'\n"

# So long peers may take to leave the backup after the way back.
_LEFT_WITHIN = 60.0

# WireGuard's packets to tailscaled by device, before any other table sees them. What
# begins with the magic of tailscale's disco/disco.go is none.
_COUNT = "add table inet lab_count\n" + "".join(
    f"""\
table inet lab_count {{
    counter {isp.device} {{ }}
    chain {isp.device} {{
        type filter hook prerouting priority -400
        iifname {isp.device} udp dport 41641 @th,64,48 != 0x5453f09f92ac counter name {isp.device}
    }}
}}
"""
    for isp in plan.ISPS
)


def off_the_metered_backup(world):
    """Back on the first uplink, peers soon send nothing more to a metered backup, without a gap."""
    start_tailover(world, _METERED)
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    with _Counters(world) as counters:
        back = fail_back(world, "tailover")
        expect(back.control is not None, f"control did not return: {back}")
        since = time.monotonic()
        took = _await_left(world, counters, since)
        before = counters.packets(plan.ISP2)
        linger(5)
        stray = counters.packets(plan.ISP2) - before
    expect(stray <= 2, f"{stray} packets came to the backup after peers had left it")
    gaps = [world.pings.worst_gap(since - 10, time.monotonic() - 0.5, family) for family in (4, 6)]
    expect(max(gaps) <= 1.0, f"leaving the backup cost pings: {gaps}")
    return (
        f"{back}; peers had left {seconds(took)} after that;"
        f" worst ping gap v4 {gaps[0]:.1f} s v6 {gaps[1]:.1f} s"
    )


def left_and_needed_again(world):
    """A backup that peers are moved off just then carries the tailnet at once when it must."""
    start_tailover(world, _METERED)
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    with _Counters(world) as counters:
        fail_back(world, "tailover")
        _await_left(world, counters, time.monotonic())
    expect(_kept_off(world), "nothing keeps peers off the backup")
    again = fail_over(world, "tailover")
    expect_back(again)
    expect(not _kept_off(world), "peers are still kept off the backup that is in use")
    back = fail_back(world, "tailover")
    expect(max(back.gap, back.gap6) <= 1.0, f"the way back cost pings: {back}")
    await_quiet(world)
    wait_until(lambda: _kept_off(world), PATIENCE, "peers leaving the backup again")
    world.router.tailover.kill()
    world.router.tailover.wait()
    start_tailover(world, _METERED)
    expect(not _kept_off(world), "what a killed daemon had begun goes on")
    return f"needed again: {again}; back: {back}"


def flows_held_by_mwan3(world):
    """F5: mwan3 keeps old flows on a dead uplink; they are found, and the mark is moved.

    tailscaled has the priorities of a router without mwan3, so its packets obey
    mwan3's marks, and the owner sends the tailnet's networks by main, as guides
    for mwan3 say. IPv6 shows the plain F1: mwan3 does not translate addresses, so a
    fresh flow fails there, too.
    """
    router = world.router
    _without_mwan3s_priorities(world)
    start_tailover(world)
    try:
        world.isp1.blackhole()
        linger(2)
        trigger = router.disconnected(plan.ISP1)
        wait_until(lambda: _F5 in router.log_of_tailover(), PATIENCE, "the name of the fault")
        named = time.monotonic() - trigger
        wait_until(lambda: world.pings.back(trigger, 4) is not None, PATIENCE, "the tailnet")
        await_quiet(world)
        expect(world.marked_device() == plan.ISP2.device, "the mark was not moved")
        fresh = f"src={plan.ISP2.address} "
        wait_until(lambda: fresh in _udp_flows(world), PATIENCE, "a flow with the backup's address")
        return f"named {seconds(named)}, ping {seconds(world.pings.back(trigger, 4))} after the trigger"
    finally:
        router.stop_tailover()
        world.isp1.restore()
        router.mwan3.spared = []
        router.connected(plan.ISP1)
        world.node.restart()


def marks_hold_nothing_while_steered(world):
    """While tailover steers, mwan3's marks on old flows of tailscaled lead nowhere else."""
    start_tailover(world)
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    for family, far in ((4, plan.PEER[0]), (6, plan.PEER[1])):
        for isp in plan.ISPS:
            number = isp.mwan3 if family == 4 else isp.mwan3_6
            mark = hex(0x80000 | number << 8)
            route = world.router.host.run(["ip", "route", "get", far, "mark", mark])
            expect(f"dev {plan.ISP2.device} " in route, f"mark {mark} leads elsewhere: {route}")
    since = time.monotonic()
    # As if mwan3 had held every flow of tailscaled on the dead uplink.
    for family, mark in (("ipv4", plan.ISP1.mwan3), ("ipv6", plan.ISP1.mwan3_6)):
        held = ["-f", family, "-p", "udp", "--orig-port-src", "41641", "-m", hex(mark << 8)]
        world.router.host.run(["conntrack", "-U", *held], check=False)
    expect("mark=256" in _udp_flows(world), "no flow got the dead uplink's mark")
    linger(8)
    gaps = [world.pings.worst_gap(since, time.monotonic() - 0.5, family) for family in (4, 6)]
    expect(max(gaps) <= 1.0, f"the marks held packets: {gaps}")
    expect(_F5 not in world.router.log_of_tailover(), "a fault was named that is none")
    return f"worst ping gap v4 {gaps[0]:.1f} s v6 {gaps[1]:.1f} s with the dead uplink's marks"


_F5 = "F5-conntrack-pin"


def _without_mwan3s_priorities(world):
    """Has tailscaled start as if there were no mwan3, and the tailnet work all the same."""
    router = world.router
    router.mwan3.spared = ["100.64.0.0/10", "fd7a:115c:a1e0::/48"]
    router.connected(plan.ISP1)
    # The pings' own flows have marks of before.
    for family in ("ipv4", "ipv6"):
        router.host.run(["conntrack", "-F", "-f", family], check=False)
    config = router.host.etc / "config/mwan3"
    text = config.read_text()
    config.unlink()
    try:
        world.node.restart()
        wait_until(lambda: world.watch.control_now() == {"isp1"}, PATIENCE, "control")
    finally:
        config.write_text(text)
    wait_until(lambda: world.pings.steady(4, 2) and world.pings.steady(6, 2), PATIENCE, "pings")
    expect("5210:" in router.host.run(["ip", "rule", "show"]), "tailscaled has other priorities")


def _udp_flows(world):
    """The router's IPv4 connections of tailscaled's UDP port."""
    port = ["-f", "ipv4", "-p", "udp", "--orig-port-src", "41641"]
    return world.router.host.run(["conntrack", "-L", *port], check=False)


def flapping(world):
    """An uplink that goes and comes all the 20 s moves the mark a bounded number of times."""
    start_tailover(world)
    since = time.monotonic()
    for _ in range(9):
        world.isp1.blackhole()
        linger(10)
        world.isp1.restore()
        linger(10)
    until = time.monotonic()
    moves = world.router.log_of_tailover().count("cure steer IPv4")
    dead = world.pings.lost(since, until, 4)
    # Away at once, and back only after a hold (10 s in the lab) that doubles with each flap.
    expect(moves <= 7, f"the mark was moved {moves} times")
    wait_until(lambda: world.pings.steady(4, 2) and world.pings.steady(6, 2), PATIENCE, "pings")
    return f"{moves} moves in {until - since:.0f} s, {dead:.1f} s without the tailnet in all"

def _await_left(world, counters, since):
    """Seconds from `since` until peers no longer sent to the backup, and did to the first."""

    def left():
        before = counters.packets(plan.ISP2), counters.packets(plan.ISP1)
        linger(1)
        return counters.packets(plan.ISP2) == before[0] and counters.packets(plan.ISP1) > before[1]

    wait_until(left, _LEFT_WITHIN, "peers leaving the metered backup")
    return time.monotonic() - 1 - since


def _kept_off(world):
    """Whether the backup is in tailover's set of uplinks to be left."""
    text = world.router.host.run(["nft", "list", "table", "inet", "tailover"], check=False)
    return f'"{plan.ISP2.device}"' in text


class _Counters:
    """Counts what peers send to the router by each uplink, while it is entered."""

    def __init__(self, world):
        self._host = world.router.host

    def __enter__(self):
        self._host.run(["nft", "-f", "-"], input=_COUNT)
        return self

    def __exit__(self, *_):
        self._host.run(["nft", "delete", "table", "inet", "lab_count"])

    def packets(self, isp):
        """WireGuard packets of peers that came in by this uplink so far."""
        text = self._host.run(["nft", "-j", "list", "counter", "inet", "lab_count", isp.device])
        return next(e["counter"]["packets"] for e in json.loads(text)["nftables"] if "counter" in e)
