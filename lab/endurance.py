"""Failovers and failbacks in a row: what the daemon holds of the router must not grow."""

import statistics
import time
from pathlib import Path

from . import plan, record
from .hosts import wait_until
from .steps import Failed, await_quiet, expect, start_tailover

# The history is full after so many episodes (HISTORY in src/core/episode.rs), two for each failover; from
# then on nothing may grow.
_FULL_AFTER = 40
# A failover or failback that takes longer is a failure, in seconds.
_WITHIN = 60.0
# By how much the resident memory of the last tenth may be above that of the first after `_FULL_AFTER`.
_GROWTH = 0.03


def endurance(world, times=300):
    """300 failovers and failbacks in a row: descriptors, memory, rules and routes stay flat."""
    start_tailover(world, "\toption hold '1'\n")
    rows = []
    for number in range(1, times + 1):
        begun = time.monotonic()
        world.isp1.blackhole()
        world.router.disconnected(plan.ISP1)
        _await(world, number, "isp2", begun)
        there = time.monotonic() - begun
        world.isp1.restore()
        begun = time.monotonic()
        world.router.connected(plan.ISP1)
        _await(world, number, "isp1", begun)
        wait_until(lambda: not world.router.traces_of_tailover(), _WITHIN, "the end of the steering")
        await_quiet(world)
        rows.append({"there": there, "back": time.monotonic() - begun, **_held(world)})
        if number % 10 == 0:
            print(f"endurance: {number} of {times}: {rows[-1]}", flush=True)
    said = _judge(rows)
    if record.asked():
        record.note("endurance", f"{len(rows)} in a row", count=len(rows), said=said, program=record.program())
    return said


def _await(world, number, isp, since):
    """Waits until control runs over that ISP and the tailnet answers."""

    def back():
        return world.watch.control_now() == {isp} and all(
            world.pings.back(since, family) is not None for family in (4, 6)
        )

    try:
        wait_until(back, _WITHIN, f"the tailnet over {isp}")
    except TimeoutError as problem:
        raise Failed(f"failover {number}: {problem}: {world.describe()}") from problem


def _held(world):
    """What the daemon holds when it has nothing to do."""
    pid = world.router.tailover.pid
    # The worker for HTTP ends a while after its last request.
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: not children.read_text().split(), 20, "the end of the probing worker")
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    run = world.router.host.run
    return {
        "rss_kb": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "rules": sum(len(run(["ip", f, "rule", "show"]).splitlines()) for f in ("-4", "-6")),
        "routes": sum(
            len(run(["ip", f, "route", "show", "table", "all"]).splitlines()) for f in ("-4", "-6")
        ),
    }


def _judge(rows):
    flat = ["threads", "descriptors", "rules"]
    for name in flat:
        seen = sorted({row[name] for row in rows})
        expect(len(seen) == 1, f"{name} changed: {seen}")
    text = f"{len(rows)} failovers and failbacks, {rows[0]['descriptors']} descriptors and"
    text += f" {rows[0]['rules']} rules each time"
    later = rows[_FULL_AFTER:]
    if len(later) >= 20:
        tenth = len(later) // 10
        first, last = (statistics.median(r["rss_kb"] for r in part) for part in (later[:tenth], later[-tenth:]))
        expect(last <= first * (1 + _GROWTH), f"memory grew from {first} to {last} kB: {text}")
        routes = [statistics.median(r["routes"] for r in part) for part in (later[:tenth], later[-tenth:])]
        # IPv6 notes exceptions of its own, for the size of packets, and forgets them.
        expect(routes[1] <= routes[0] + 4, f"routes grew from {routes[0]} to {routes[1]}: {text}")
        text += f", VmRSS {first:.0f} kB after {_FULL_AFTER} and {last:.0f} kB at the end"
    for name in ("there", "back"):
        spans = [row[name] for row in rows]
        text += f"; {name} {statistics.median(spans):.1f} s ({min(spans):.1f} to {max(spans):.1f})"
    return text


def endurance_short(world):
    """The same five times."""
    return endurance(world, 5)
