"""Scenarios of odd routers: each has its shape changed, a fault, and its shape given back."""

import time
from contextlib import contextmanager
from dataclasses import replace

from . import plan
from .hosts import wait_until
from .rescues import acts
from .steps import (
    PATIENCE,
    await_quiet,
    expect,
    expect_back,
    fail_back,
    fail_over,
    linger,
    seconds,
    start_tailover,
    status,
)


@contextmanager
def _shaped(world, shape, isp=plan.ISP2):
    """An uplink of another shape, for as long as a scenario takes."""
    world.router.reshape(isp, shape)
    try:
        yield
    finally:
        world.router.stop_tailover()
        world.isp1.restore()
        world.isp2.restore()
        world.router.reshape(isp, None)


@contextmanager
def _one_network(world):
    """The second ISP gives out the first one's network and gateway, as two modems of one make."""
    usual = plan.ISP2
    twin = replace(
        usual, network=plan.ISP1.network, gateway=plan.ISP1.gateway, address="192.0.2.3"
    )
    world.isp2.renumber(twin)
    world.router.renumber(usual, twin)
    try:
        yield
    finally:
        world.router.stop_tailover()
        world.isp1.restore()
        world.isp2.restore()
        world.isp2.renumber(usual)
        world.router.renumber(twin, usual)


def _uplink(world, isp):
    """The daemon's account of an uplink."""
    return next(u for u in status(world)["uplinks"] if u["device"] == isp.device)


def no_mwan3_at_all(world):
    """Without mwan3 the metric orders, and a dark uplink is found without any event."""
    world.router.without_mwan3(True)
    try:
        # It looks for mwan3 once, at its start.
        world.node.restart()
        wait_until(lambda: world.watch.control_now() == {"isp1"}, PATIENCE, "control")
        wait_until(lambda: world.pings.steady(4, 2), PATIENCE, "pings")
        rules = world.router.host.run(["ip", "rule", "show"])
        expect("5210:" in rules, "tailscaled's rules do not stand at base 5200")
        start_tailover(world)
        names = [u["name"] for u in status(world)["uplinks"]]
        expect(names == [plan.ISP1.wan, plan.ISP2.wan], f"uplinks {names}")
        broken = time.monotonic()
        world.isp1.blackhole()
        # Control may have been over a relay's uplink for a moment before: since the fault.
        wait_until(lambda: world.watch.control_back(broken + 1, "isp2"), 45, "control on the second")
        wait_until(lambda: world.pings.back(broken + 1, 4) is not None, PATIENCE, "the tailnet")
        control = world.watch.control_back(broken, "isp2")
        ping = 1 + world.pings.back(broken + 1, 4)
        world.isp1.restore()
        wait_until(lambda: world.marked_device() == "eth1", 60, "the way back")
        await_quiet(world)
        return f"control {seconds(control)}, ping {seconds(ping)} after the blackhole"
    finally:
        world.router.stop_tailover()
        world.isp1.restore()
        world.router.without_mwan3(False)
        world.node.restart()


def backup_without_default(world):
    """Main has no default for the backup: it is probed by a table of its own, and taken."""
    with _shaped(world, "no default"):
        main = world.router.host.run(["ip", "route", "show", "default"])
        expect("eth2" not in main, f"main has a default for eth2: {main}")
        start_tailover(world)
        backup = _uplink(world, plan.ISP2)
        for family in ("ipv4", "ipv6"):
            expect(backup[family]["verdict"] == "open", f"the backup is not open: {backup[family]}")
        figures = fail_over(world, "tailover")
        expect_back(figures)
        back = fail_back(world, "tailover")
        expect(back.control is not None, f"control did not return: {back}")
        await_quiet(world)
        kept = world.router.traces_of_tailover()
        expect(any("oif eth2" in line for line in kept), "the probes' way is gone")
        expect(not any("iif lo" in line for line in kept), f"still steered: {kept}")
        world.router.tailover.terminate()
        world.router.tailover.wait(10)
        left = world.router.traces_of_tailover()
        expect(not left, f"left behind: {left}")
        return f"{figures}; back again: {back}"


def check_without_default(world):
    """A check without a daemon does not call an uplink closed that it cannot probe."""
    with _shaped(world, "no default"):
        text = world.router.host.run(["tailover", "check"], check=False)
        lines = [line.split() for line in text.splitlines() if line.startswith("uplink   wanb")]
        verdicts = {words[4] for words in lines}
        expect(verdicts == {"unknown"}, f"verdicts of the backup: {verdicts or text}")
        expect(not world.router.traces_of_tailover(), "the check has left something")
        return "unknown, and why"


def backup_without_gateway(world):
    """A point-to-point backup has no gateway to name, as with PPPoE."""
    world.isp2.bare(world.router.host, True)
    try:
        with _shaped(world, "bare"):
            main = world.router.host.run(["ip", "route", "show", "default", "dev", "eth2"])
            expect("via" not in main, f"main's default has a gateway: {main}")
            start_tailover(world)
            figures = fail_over(world, "tailover")
            expect_back(figures)
            steered = world.router.host.run(["ip", "route", "show", "table", "17400"])
            expect("dev eth2" in steered and "via" not in steered, f"table 17400: {steered}")
            back = fail_back(world, "tailover")
            expect(back.control is not None, f"control did not return: {back}")
            return f"{figures}; back again: {back}"
    finally:
        world.isp2.bare(world.router.host, False)


def two_uplinks_in_one_network(world):
    """Both uplinks have the same network and the same gateway address: the device tells them apart."""
    with _one_network(world):
        start_tailover(world)
        figures = fail_over(world, "tailover")
        expect_back(figures)
        way = ["ip", "route", "get", plan.HEADSCALE[0], "mark", "0x80000"]
        steered = world.router.host.run(way)
        expect("dev eth2" in steered and "src 192.0.2.3" in steered, f"the way is {steered}")
        back = fail_back(world, "tailover")
        expect(back.control is not None, f"control did not return: {back}")
        return f"{figures}; back again: {back}"


def backup_with_ipv6_alone(world):
    """A backup without IPv4 carries control, relay and peers; no IPv4 fault is named."""
    with _shaped(world, "v6 only"):
        start_tailover(world)
        figures = fail_over(world, "tailover")
        expect_back(figures)
        # The history has what has ended; a renewal waits for its peers.
        await_quiet(world)
        text = world.router.host.run(["tailover", "history"], check=False)
        expect("IPv4 packets leave by" not in text, f"named an IPv4 fault: {text}")
        expect("steer IPv6" in text and "steer IPv4" not in text, f"moved: {text}")
        back = fail_back(world, "tailover")
        expect(back.control is not None, f"control did not return: {back}")
        return f"{figures}; back again: {back}"


def one_family_dies(world):
    """Control's family dies on every uplink, the other lives: control is made anew over that."""
    start_tailover(world)
    (source,) = world.node.control_sources()
    dead, alive = (6, 4) if ":" in source else (4, 6)
    broken = time.monotonic()
    for isp in world.isps.values():
        isp.dark(dead)

    def other():
        sources = world.node.control_sources()
        return sources and all((":" in s) == (alive == 6) for s in sources)

    wait_until(other, 60, f"control over IPv{alive}")
    control = time.monotonic() - broken
    wait_until(world.node.online, PATIENCE, "tailscaled online")
    await_quiet(world)
    since = world.pings.back(broken + 1, 4)
    wait_until(lambda: world.pings.steady(4, 2) and world.pings.steady(6, 2), PATIENCE, "pings")
    gap = world.pings.worst_gap(broken, time.monotonic() - 0.5, 4)
    expect("restart" not in acts(world), f"acts: {acts(world)}")
    expect("steer" not in acts(world), "moved although there was nowhere to go")
    return (
        f"IPv{dead} dead: control {seconds(control)}, ping {seconds(since)} (worst gap {gap:.1f} s)"
    )


def one_family_dies_on_the_first(world):
    """IPv4 dies on the first uplink alone: its mark moves, IPv6 stays, the tailnet lives on."""
    start_tailover(world)
    broken = time.monotonic()
    world.isp1.dark(4)
    wait_until(lambda: world.marked_device() == "eth2", 60, "the IPv4 mark on the second uplink")
    moved = time.monotonic() - broken
    await_quiet(world)
    wait_until(lambda: world.watch.control_now(), PATIENCE, "control")
    wait_until(lambda: world.pings.steady(4, 2) and world.pings.steady(6, 2), PATIENCE, "pings")
    gap = world.pings.worst_gap(broken, time.monotonic() - 0.5, 4)
    v6 = status(world)["steering"]["ipv6"]
    expect(v6 is None, f"IPv6 was steered to {v6}")
    world.isp1.restore()
    wait_until(lambda: world.marked_device() == "eth1", 60, "the way back")
    await_quiet(world)
    return f"moved {seconds(moved)} after the fault, worst ping gap {gap:.1f} s"


def new_gateway_while_steered(world):
    """The backup's DHCP server hands out another gateway while the tailnet is on it."""
    new = "192.0.2.67"
    old = plan.ISP2.gateway
    start_tailover(world, "\toption hold '600'\n")
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    changed = time.monotonic()
    world.isp2.gateway(new, old)
    try:
        world.router.new_gateway(plan.ISP2, new)
        table = ["ip", "route", "show", "table", "17400"]
        wait_until(lambda: new in world.router.host.run(table), 10, "the new gateway in our table")
        linger(5)
        gap = world.pings.worst_gap(changed, time.monotonic() - 0.5, 4)
        expect(gap <= 1.0, f"the tailnet paused for {gap:.1f} s")
        return f"worst ping gap {gap:.1f} s"
    finally:
        world.router.stop_tailover()
        world.isp2.gateway(old, new)
        world.router.new_gateway(plan.ISP2, old)


def metered_backup_is_left_alone(world):
    """An assessment sends no TCP over a metered backup; it comes last and is taken all the same."""
    count = ["iptables", "-nvxL", "FORWARD"]
    rule = "FORWARD -i cust0 -p tcp --syn -m comment --comment asked"
    world.isp2.host.sh(f"iptables -I {rule}")
    try:
        start_tailover(world, f"\tlist metered '{plan.ISP2.wan}'\n")
        expect(_uplink(world, plan.ISP2)["metered"], "the backup is not metered")
        world.router.host.run(["tailover", "recover"], check=False)
        await_quiet(world)
        lines = world.isp2.host.run(count).splitlines()
        packets = next(int(line.split()[0]) for line in lines if "asked" in line)
        expect(packets == 0, f"{packets} TCP connections over the metered backup")
        figures = fail_over(world, "tailover")
        expect_back(figures)
        return f"no TCP at an assessment; {figures}"
    finally:
        world.isp2.host.sh(f"iptables -D {rule}")
