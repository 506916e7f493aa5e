"""What tailover finds out by itself: the first uplink fails, and nobody says so.

No hotplug call, no event of mwan3, and a configuration without any option but
the log's level. All seconds count from the fault.
"""

import random
import statistics
import time
from dataclasses import dataclass

from . import plan
from .hosts import wait_until
from .steps import await_quiet, linger, seconds

CONFIG = "config tailover 'main'\n\toption log_level 'debug'\n"

# A run without tailover is watched for so long: its result is "never".
WITHOUT = 60.0
# And one with it for so long.
_PATIENCE = 90.0
# The fault comes at a random instant within this time, as long as the interval
# between two looks at the path: else all runs would have the same phase of it.
_PHASE = 30.0
# tailscaled calls a peer idle 45 s after its last packet (wgengine/magicsock).
_UNTIL_IDLE = 60.0
# The backup is in use for so long before the first uplink returns.
_AWAY = 10.0
# The hold is 30 s by default, the other uplinks are looked at every 300 s.
_UNTIL_BACK = 400.0


@dataclass(frozen=True)
class Kind:
    """One sort of run: `run(world, patience)` returns seconds by column, None for never.
    `ipv4` says that the tailnet has IPv4 alone."""

    run: object
    title: str
    ipv4: bool = False

    def prepare(self, world):
        """The state that a run begins with."""
        world.settle("direct")
        if self.ipv4:
            world.ipv4_only()


def blackout(world, patience):
    """The first uplink drops everything, its link stays up, a peer pings the router."""
    broken = time.monotonic()
    world.isp1.blackhole()
    figures = {}

    def look():
        figures["control"] = world.watch.control_back(broken, "isp2")
        figures["ping v4"] = world.pings.back(broken, 4)
        figures["ping v6"] = world.pings.back(broken, 6)
        return None not in figures.values()

    _watch(look, patience)
    return figures | _failback(world, figures)


def _failback(world, figures):
    """The uplink is good again, and nobody says so either."""
    if None in figures.values():
        return {}
    linger(_AWAY)
    returned = time.monotonic()
    world.isp1.restore()

    def back():
        return world.watch.control_now() == {"isp1"} and world.marked_device() == "eth1"

    try:
        wait_until(back, _UNTIL_BACK, "the first uplink in use again")
        control = time.monotonic() - returned
        # What a late break would do belongs to the failback too.
        linger(5)
    except TimeoutError:
        control = None
    until = time.monotonic() - 0.5
    gaps = {f"failback gap v{f}": world.pings.worst_gap(returned, until, f) for f in (4, 6)}
    return {"failback control": control} | gaps


def idle(world, patience):
    """The same with a tailnet that nobody uses: control's return, then a single ping."""
    target = world.node.addresses()[0]
    world.pause_pings()
    try:
        linger(_UNTIL_IDLE)
        broken = time.monotonic()
        world.isp1.blackhole()
        control = _watch(lambda: world.watch.control_back(broken, "isp2"), patience)
        figures = {"control": control, "usable": None}
        if control is not None:
            ping = ["ping", "-n", "-q", "-c", "1", "-W", "2", target]
            if _watch(lambda: " 1 received" in world.peer.host.run(ping, check=False), patience):
                figures["usable"] = time.monotonic() - broken
        return figures
    finally:
        world.resume_pings()


def address(world, patience):
    """The NAT's public address changes without a word, its mappings are forgotten."""
    control, relay = world.node.control_ports(), world.node.relay_ports()
    changed = time.monotonic()
    world.isp1.new_address()
    figures = {"control": None, "relay": None, "ping v4": None, "ping v6": None}

    def look():
        since = time.monotonic() - changed
        online = world.watch.control_now() == {"isp1"}
        if figures["control"] is None and online and world.node.control_ports() - control:
            figures["control"] = since
        if figures["relay"] is None and world.node.relay_ports() - relay:
            figures["relay"] = since
        # Pings under way at the change may still be answered.
        for family in (4, 6):
            back = world.pings.back(changed + 0.5, family)
            figures[f"ping v{family}"] = None if back is None else back + 0.5
        return None not in figures.values()

    _watch(look, patience)
    return figures


KINDS = {
    "blind": Kind(blackout, "blackhole without any event, tailnet in use"),
    "idle": Kind(idle, "blackhole without any event, tailnet idle"),
    "address": Kind(address, "silent change of the public address", ipv4=True),
}


def measure(world, kind, runs, say):
    """One run without tailover, then `runs` with it; returns whether none was lost.

    `say` prints a line. The instants come from the world's seed, so they can be had again.
    """
    dice = random.Random(world.seed)
    say(f"{kind.title}; seed {world.seed}; seconds after the fault")
    kind.prepare(world)
    say(f"without tailover, {WITHOUT:.0f} s watched: {_words(kind.run(world, WITHOUT))}")
    rows = []
    for number in range(1, runs + 1):
        kind.prepare(world)
        world.router.start_tailover(CONFIG)
        await_quiet(world)
        linger(dice.uniform(0, _PHASE))
        since = time.monotonic()
        figures = kind.run(world, _PATIENCE)
        restarts = world.watch.restarts(since)
        world.router.stop_tailover()
        rows.append(figures)
        say(f"{number:3}: {_words(figures)}, {restarts} restarts")
    say(f"{'':20}{'median':>9}{'min':>9}{'max':>9}   of {runs}")
    # A run that was lost has fewer columns.
    for name in max(rows, key=len):
        column = [row.get(name) for row in rows]
        cells = [seconds(value) for value in spread(column)]
        say(f"{name:20}" + "".join(f"{cell:>9}" for cell in cells))
    return not any(value is None for row in rows for value in row.values())


def spread(column):
    """Median, least and most; None, never, is more than any number."""
    values = sorted(float("inf") if value is None else value for value in column)
    three = (statistics.median(values), values[0], values[-1])
    return [None if value == float("inf") else value for value in three]


def _watch(look, patience):
    """What `look` returns once it is true, or None when it is never."""
    try:
        return wait_until(look, patience, "the end of a run")
    except TimeoutError:
        # Never is a result.
        return None


def _words(figures):
    return ", ".join(f"{name} {seconds(value)}" for name, value in figures.items())
