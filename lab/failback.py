"""Scenarios of the way back: peers leave a metered backup; a first uplink flaps."""

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
    await_quiet(world)
    wait_until(lambda: _kept_off(world), PATIENCE, "peers leaving the backup again")
    world.router.tailover.kill()
    world.router.tailover.wait()
    start_tailover(world, _METERED)
    expect(not _kept_off(world), "what a killed daemon had begun goes on")
    return f"needed again: {again}; back: {back}"


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
