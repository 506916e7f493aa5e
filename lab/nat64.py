"""Scenarios of uplinks that have IPv6 alone and reach IPv4 by their provider's NAT64."""

import time
from contextlib import contextmanager

from . import byhand, plan
from .hosts import wait_until
from .rescues import acts, faults, named_before
from .steps import (
    PATIENCE,
    await_quiet,
    expect,
    expect_back,
    fail_back,
    fail_over,
    seconds,
    start_tailover,
    status,
)


@contextmanager
def _nat64(world, *isps):
    """These uplinks are such, and the control server has IPv4 alone."""
    router = world.router
    world.internet.control_without_ipv6(True)
    try:
        for isp in world.isps.values():
            isp.forget_names()
        for isp in isps:
            world.isps[isp.name].nat64(True)
            router.reshape(isp, "v6 only")
        router.resolve_by([i.gateway6 if i in isps else i.gateway for i in plan.ISPS])
        for node, other in ((world.node, world.peer.node), (world.peer.node, world.node)):
            byhand.nudge_and_renew(node, other.addresses()[0])
        wait_until(lambda: _settled(world), 60, "control by IPv4 or NAT64")
        yield
    finally:
        router.stop_tailover()
        world.internet.control_without_ipv6(False)
        for isp in isps:
            world.isps[isp.name].restore()
            world.isps[isp.name].nat64(False)
            router.reshape(isp, None)
        for isp in world.isps.values():
            isp.forget_names()
        router.resolve_by([isp.gateway for isp in plan.ISPS])
        byhand.nudge_and_renew(world.peer.node, world.node.addresses()[0])


def _settled(world):
    steady = world.pings.steady(4, 2) and world.pings.steady(6, 2)
    return steady and world.node.control_sources() and world.node.online()


def _by_nat64(world, isp):
    """Whether control goes from this uplink's IPv6 address, which the NAT64 alone lets through."""
    return world.node.control_sources() == {isp.address6} and world.node.online()


def _expect_no_ipv4(world):
    text = world.router.host.run(["tailover", "history"], check=False)
    expect("IPv4 packets leave by" not in text, f"named an IPv4 fault: {text}")
    expect("steer IPv4" not in text, f"moved IPv4: {text}")


def backup_with_nat64(world):
    """The backup has IPv6 and NAT64 alone, the control server IPv4 alone: the tailnet is back over it."""
    with _nat64(world, plan.ISP2):
        wait_until(lambda: world.watch.control_now() == {"isp1"}, PATIENCE, "control on the first")
        start_tailover(world)
        figures = fail_over(world, "tailover", patience=60)
        expect_back(figures)
        expect(_by_nat64(world, plan.ISP2), f"control from {world.node.control_sources()}")
        await_quiet(world)
        _expect_no_ipv4(world)
        expect(not faults(world), f"still named: {faults(world)}")
        back = fail_back(world, "tailover")
        expect(back.control is not None, f"control did not return: {back}")
        return f"{figures}; back again: {back}"


def first_with_nat64(world):
    """The first uplink has IPv6 and NAT64 alone from the start, the backup both: it fails and returns."""
    with _nat64(world, plan.ISP1):
        _quiet_start(world)
        devices = _paths(world)
        expect(devices == [plan.ISP2.device, plan.ISP1.device], f"paths by {devices}")
        return _dark_and_back(world, lambda: world.watch.control_now() == {"isp2"})


def nat64_alone(world):
    """No uplink has IPv4: the first one fails and returns, and no IPv4 fault is named."""
    with _nat64(world, *plan.ISPS):
        expect(_by_nat64(world, plan.ISP1), f"control from {world.node.control_sources()}")
        _quiet_start(world)
        expect(_paths(world) == [None, plan.ISP1.device], f"paths by {_paths(world)}")
        return _dark_and_back(world, lambda: _by_nat64(world, plan.ISP2))


def _paths(world):
    """The devices of tailscaled's IPv4 and IPv6 paths, as the daemon sees them."""
    paths = status(world)["path"]
    return [(paths[family] or {}).get("device") for family in ("ipv4", "ipv6")]


def _quiet_start(world):
    start_tailover(world)
    expect(not acts(world) and not faults(world), f"not healthy: {faults(world)} {acts(world)}")


def _dark_and_back(world, over):
    """The first uplink goes dark without a word and comes back; `over`: control is on the second."""
    broken = time.monotonic()
    world.isp1.blackhole()

    def back():
        times = [world.pings.back(broken + 1, family) for family in (4, 6)]
        return None if None in times else 1 + max(times)

    ping = wait_until(back, PATIENCE, "the tailnet")
    wait_until(over, PATIENCE, "control over the second uplink")
    control = time.monotonic() - broken
    wait_until(world.node.online, PATIENCE, "tailscaled online")
    await_quiet(world)
    expect(not faults(world), f"still named: {faults(world)}")
    _expect_no_ipv4(world)
    restored = time.monotonic()
    world.isp1.restore()
    wait_until(lambda: status(world)["steering"]["ipv6"] is None, 60, "the way back")
    await_quiet(world)
    wait_until(lambda: _settled(world), PATIENCE, "control and pings")
    gap = world.pings.worst_gap(restored, time.monotonic() - 0.5, 4)
    expect(gap <= 1.0, f"the way back cost pings for {gap:.1f} s")
    expect(world.watch.restarts(broken) == 0, "tailscaled was restarted")
    named = set(named_before(world))
    expect("F1-pinned-route" in named, f"named {named}")
    return f"ping {seconds(ping)}, control {seconds(control)} after the blackout, back with a gap of {gap:.1f} s"
