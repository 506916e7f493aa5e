"""Scenarios of the rights that procd leaves the daemon: it has those, no more, and needs each of them."""

import time
from pathlib import Path

from . import plan
from .hosts import HostError, wait_until
from .router import RIGHTS, confined
from .steps import PATIENCE, TAILOVER_CONFIG, await_quiet, expect, linger, seconds, start_tailover, status

# The bits of linux/capability.h.
_BITS = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_PTRACE": 19}
# Longer than any failover of the lab takes.
_IN_VAIN = 15


def rights_are_needed(world):
    """The daemon has three capabilities and no more; without each of them something named fails."""
    expect(sorted(RIGHTS) == sorted(_BITS), f"the package's file has {RIGHTS}")
    start_tailover(world)
    _has_these_alone(world.router.tailover.pid)
    expect(status(world)["tailnet"]["control"]["fresh"] > 0, "control's connection is not seen")
    world.router.stop_tailover()
    said = [_without_ptrace(world), _without_raw(world), _without_admin(world)]
    return "three capabilities, no new ones to be had; without each: " + ", ".join(said)


def _has_these_alone(pid):
    wanted = sum(1 << bit for bit in _BITS.values())
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    has = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    for field in ("CapBnd", "CapPrm", "CapEff"):
        expect(int(has[field], 16) == wanted, f"{field} is {has[field]}, not {wanted:016x}")
    expect(has["NoNewPrivs"] == "1", "it can gain new rights")


def _start(world, without):
    world.router.start_tailover(TAILOVER_CONFIG, without=without)
    await_quiet(world)


def _without_ptrace(world):
    """It looks at everything, and does not find which connections are tailscaled's."""
    _start(world, "CAP_SYS_PTRACE")
    try:
        fresh = status(world)["tailnet"]["control"]["fresh"]
        expect(fresh == 0, f"it sees {fresh} connections to control all the same")
    finally:
        world.router.stop_tailover()
    return "tailscaled's connections are not seen (SYS_PTRACE)"


def _without_raw(world):
    """What `tailscaled --cleanup` runs with the older iptables, which the restart script calls."""
    command = ["iptables-legacy", "-S"]
    world.router.host.run([*confined(), *command])
    try:
        world.router.host.run([*confined("CAP_NET_RAW"), *command])
    except HostError:
        return "iptables-legacy fails (NET_RAW)"
    expect(False, "iptables-legacy works all the same")


def _without_admin(world):
    """It sees the dead uplink, and can move nothing."""
    _start(world, "CAP_NET_ADMIN")
    try:
        world.isp1.blackhole()
        world.router.disconnected(plan.ISP1)
        begun = time.monotonic()
        told = lambda: any("steer" in act["cure"] and not act["ok"] for act in _acts(world))  # noqa: E731
        wait_until(told, PATIENCE, "a move that failed")
        failed = time.monotonic() - begun
        linger(_IN_VAIN)
        expect(not world.router.traces_of_tailover(), "there is a rule or route all the same")
        expect(world.pings.back(begun, 4) is None, "the tailnet came back all the same")
    finally:
        world.router.stop_tailover()
        world.isp1.restore()
        world.router.connected(plan.ISP1)
    return f"the mark is not moved, which is told after {seconds(failed)} (NET_ADMIN)"


def _acts(world):
    episode = status(world)["episode"]
    return episode["acts"] if episode else []
