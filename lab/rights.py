"""Scenarios of the rights that procd leaves the daemon: it has those, no more, and needs each of them; and of the keys
that it could read with them."""

import base64
import json
import re
import time
from pathlib import Path

from . import plan
from .hosts import HostError, wait_until
from .router import RIGHTS, confined
from .steps import (
    PATIENCE,
    TAILOVER_CONFIG,
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


# What tailover says: the commands, all with the addresses that a mask would hide.
_SAYS = [["history", "--json"], ["status", "--json"], ["metrics"], ["report"]]
# What it writes by itself, besides the log.
_FOLDER = "/run/tailover"


def keys_stay(world):
    """After a failover no private key of tailscaled's and no auth key is in what tailover says or writes."""
    keys = _keys(world)
    start_tailover(world)
    figures = fail_over(world, "tailover")
    expect_back(figures)
    # The history has an episode when it is over.
    await_quiet(world)
    places = {" ".join(words): _said(world, words) for words in _SAYS}
    places["the log"] = world.router.log_of_tailover()
    for place, text in places.items():
        expect("steer" in text, f"{place} tells nothing of the failover: {text[:200]}")
    for file in filter(Path.is_file, world.router.host.path(_FOLDER).rglob("*")):
        places[file.name] = file.read_text(errors="replace")
    fail_back(world, "tailover")
    for place, text in places.items():
        for name, key in keys.items():
            expect(key not in text, f"the {name} is in {place}")
    return f"{len(keys)} keys, in none of {len(places)} places: {', '.join(places)}"


def _said(world, words):
    # The status of a tailnet that is not well yet ends with 1.
    return world.router.host.run(["tailover", *words], check=False)


def _keys(world):
    """{NAME: what makes it secret} of the router's tailscaled."""
    state = json.loads((world.router.host.etc / "tailscale/tailscaled.state").read_text())
    keys = {"auth key": world.auth_key}
    for name, value in state.items():
        held = base64.b64decode(value).decode(errors="replace")
        for number, key in enumerate(re.findall(r"privkey:([0-9a-f]{64})", held), 1):
            keys[f"key {number} of {name}"] = key
    expect(len(keys) >= 3, f"machine and node key are not found in {sorted(state)}")
    return keys
