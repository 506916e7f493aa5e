"""Scenarios of mwan3 with more than two uplinks, shared traffic and another mask of its marks."""

import time
from contextlib import contextmanager

from . import plan
from .hosts import wait_until
from .isp import IspHost
from .rescues import acts, faults, named_before
from .steps import (
    PATIENCE,
    await_quiet,
    expect,
    expect_lan,
    seconds,
    start_tailover,
    status,
)

# What a dark uplink may be called, with what it leaves behind.
_DARK = {"F1-pinned-route", "F2-stuck-control", "F3-stale-paths"}

# With a hold of 10 s, and the uplink asked every second.
_BACK_WITHIN = 60

# Neither is mwan3's default, nor has bits of tailscale's mark, 0xff0000.
_HIGH = 0x3F000000
_WIDE = 0xFF00


@contextmanager
def _mwan3(world, mask, ranks, weights=None):
    """mwan3 with another mask and another policy for all traffic; tailscaled starts after it."""
    router = world.router
    usual = router.mwan3.mask, router.mwan3.policies, (router.host.etc / "config/mwan3").read_text()
    router.mwan3.stop()
    router.mwan3.mask = mask
    router.mwan3.policies = {"all": ranks} | usual[1]
    router.mwan3.weights = weights or {}
    try:
        router.host.write("config/mwan3", router.mwan3.configuration())
        _start_again(world)
        yield
    finally:
        router.stop_tailover()
        router.mwan3.stop()
        router.mwan3.mask, router.mwan3.policies, text = usual
        router.mwan3.weights = {}
        router.host.write("config/mwan3", text)
        for isp in world.isps.values():
            isp.restore()
        _start_again(world)


def _start_again(world):
    # What its stop has taken of tailscaled's is put back by a start of that.
    world.router.mwan3.start()
    world.node.restart()
    wait_until(lambda: world.watch.control_now(), PATIENCE, "control")
    wait_until(lambda: world.pings.steady(4, 2) and world.pings.steady(6, 2), PATIENCE, "pings")


@contextmanager
def _further(world):
    """Four more ISPs."""
    router = world.router
    made = []
    try:
        for spec in plan.FURTHER:
            isp = IspHost(spec, world.internet)
            made.append(isp)
            isp.connect(router.host, portals=["portal"])
            plan.ISPS.append(spec)
            world.isps[spec.name] = isp
            router.join(spec)
            router.mwan3.ifup(spec)
        router.resolve_by([isp.gateway for isp in plan.ISPS])
        yield
    finally:
        router.stop_tailover()
        for isp in made:
            if isp.spec in plan.ISPS:
                router.mwan3.ifdown(isp.spec)
                plan.ISPS.remove(isp.spec)
                del world.isps[isp.spec.name]
                router.leave(isp.spec)
            isp.close()
        router.resolve_by([isp.gateway for isp in plan.ISPS])


def six_uplinks(world):
    """Six uplinks, odd names, another mask: the mark goes to the best open one of mwan3's order."""
    with _further(world):
        # By main's metrics the order would be that of the numbers.
        ranks = [["isp1"], ["isp3"], ["isp5"], ["isp2"], ["isp4"], ["isp6"]]
        by_name = {isp.name: isp for isp in plan.ISPS}
        order = [by_name[rank[0]] for rank in ranks]
        world.router.reshape(by_name["isp6"], "no default")
        with _mwan3(world, _HIGH, ranks):
            return _best_of(world, order)


def _best_of(world, order):
    start_tailover(world)
    uplinks = status(world)["uplinks"]
    got = [(u["name"], u["device"]) for u in uplinks]
    expect(got == [(isp.wan, isp.device) for isp in order], f"uplinks {got}")
    verdicts = {u[family]["verdict"] for u in uplinks for family in ("ipv4", "ipv6")}
    expect(verdicts == {"open"}, f"verdicts {verdicts}")
    # The way of the probes to the one that main has no default for: with all of mwan3's bits.
    traces = world.router.traces_of_tailover()
    mark = f"fwmark 0x{0x80000 | _HIGH:x}/0x{0xFF0000 | _HIGH:x}"
    own = [line for line in traces if f"oif {order[5].device}" in line and mark in line]
    expect(len(own) == 2, f"no way for probes with {mark}: {traces}")
    begun = time.monotonic()
    first, second, third, fourth = (world.isps[isp.name] for isp in order[:4])
    third.portal()
    second.blackhole()
    first.blackhole()
    _await_mark(world, fourth.spec)
    moved = time.monotonic() - begun
    _await_well(world, fourth.spec)
    ping = 1 + max(world.pings.back(begun + 1, family) for family in (4, 6))
    for better in (second, first):
        better.restore()
        _await_mark(world, better.spec)
        _await_well(world, better.spec)
    named = set(named_before(world))
    expect("F1-pinned-route" in named <= _DARK, f"named {named}")
    expect(world.watch.restarts(begun) == 0, "tailscaled was restarted")
    return f"moved past two after {seconds(moved)}, ping {seconds(ping)}, back in two steps"


def two_that_share(world):
    """mwan3 shares the traffic between two: the one with more of it is the better one."""
    with _mwan3(world, _WIDE, [["isp1", "isp2"]], {"isp2": 3}):
        expect_lan(world)
        start_tailover(world)
        names = [u["name"] for u in status(world)["uplinks"]]
        expect(names == [plan.ISP2.wan, plan.ISP1.wan], f"uplinks {names}")
        expect(not acts(world), f"acted on a healthy tailnet: {acts(world)}")
        begun = broken = time.monotonic()
        world.isp1.blackhole()
        _await_mark(world, plan.ISP2)
        _await_well(world, plan.ISP2)
        first = 1 + world.pings.back(broken + 1, 4)
        # It is the worse one now: nobody goes back to it, and its verdict is an old one.
        world.isp1.restore()
        broken = time.monotonic()
        world.isp2.blackhole()
        _await_mark(world, plan.ISP1)
        _await_well(world, plan.ISP1)
        second = 1 + world.pings.back(broken + 1, 4)
        expect(world.watch.restarts(begun) == 0, "tailscaled was restarted")
        named = set(named_before(world))
        expect("F1-pinned-route" in named <= _DARK, f"named {named}")
        return f"ping {seconds(first)} after the one's blackout, {seconds(second)} after the other's"


def _await_mark(world, isp):
    wait_until(lambda: world.marked_device() == isp.device, _BACK_WITHIN, f"the mark on {isp.wan}")


def _await_well(world, isp):
    wait_until(lambda: world.watch.control_now() == {isp.name}, PATIENCE, f"control over {isp.wan}")
    wait_until(lambda: world.pings.steady(4, 2) and world.pings.steady(6, 2), PATIENCE, "pings")
    await_quiet(world)
    expect(not faults(world), f"still named: {faults(world)}")
