"""Scenarios of lost kernel state: what tailscaled put into the kernel is gone (F4)."""

import json
import time
from contextlib import contextmanager

from . import plan
from .hosts import wait_until
from .rescues import acts, faults
from .steps import PATIENCE, await_quiet, expect, linger, seconds, start_tailover, status

# An assessment that finds nothing wrong is no act; what tailover would do comes within this time.
_WATCHED = 12

# From the loss of something to its name.
_NAMED_WITHIN = 2.0

# A peer's route that nobody else has.
_SUBNET = "192.168.77.0/24"


def flush_by_mwan3(world):
    """A restart of mwan3 takes rules and table 52 away (F4): they are put back, no restart."""
    start_tailover(world)
    before = kernel(world)
    since = time.monotonic()
    world.router.restart_mwan3()
    await_mended(world, since)
    return mended(world, since, before)


def rules6_deleted(world):
    """tailscaled's IPv6 rules go, which it never puts back itself."""
    start_tailover(world)
    before = kernel(world)
    since = time.monotonic()
    for pref in (1310, 1330, 1350, 1370):
        world.router.host.run(["ip", "-6", "rule", "del", "pref", str(pref)])
    await_mended(world, since, 6)
    return mended(world, since, before)


def route_deleted(world):
    """One peer's route goes out of table 52."""
    start_tailover(world)
    before = kernel(world)
    since = time.monotonic()
    world.router.host.run(["ip", "route", "del", world.peer_address(), "table", "52"])
    await_mended(world, since)
    return mended(world, since, before)


def address_deleted(world):
    """tailscale0 loses its IPv4 address."""
    start_tailover(world)
    before = kernel(world)
    since = time.monotonic()
    own = world.node.addresses()[0]
    world.router.host.run(["ip", "address", "del", f"{own}/32", "dev", "tailscale0"])
    await_mended(world, since)
    return mended(world, since, before)


def device_down(world):
    """Somebody sets tailscale0 down: with it go its routes and its IPv6 address."""
    start_tailover(world)
    before = kernel(world)
    since = time.monotonic()
    world.router.host.run(["ip", "link", "set", "tailscale0", "down"])
    await_mended(world, since)
    return mended(world, since, before)


def chains_deleted(world):
    """tailscaled's firewall chains go with their tables, as `fw4 flush` takes them: one restart."""
    start_tailover(world)
    before = _chains(world)
    expect(len(before) == 6, f"not the chains of both families: {before}")
    since = time.monotonic()
    for table in ("ip filter", "ip6 filter", "ip nat", "ip6 nat"):
        world.router.host.run(["nft", "delete", "table", *table.split()])
    deleted = time.monotonic()
    wait_until(lambda: "F4-lost-state" in faults(world), PATIENCE, "the name")
    named = time.monotonic() - since
    text = next(f["text"] for f in status(world)["faults"] if f["id"] == "F4-lost-state")
    wait_until(lambda: world.watch.restarts(since) > 0, PATIENCE, "a restart of tailscaled")
    restarted = time.monotonic()
    wait_until(lambda: _chains(world) == before, PATIENCE, "the chains")
    back = time.monotonic() - since
    wait_until(lambda: _back(world, restarted), PATIENCE, "the tailnet")
    await_quiet(world)
    expect(named < _NAMED_WITHIN, f"named after {seconds(named)}")
    expect("6 firewall chains" in text, f"not all of them: {text}")
    expect(_named(world) == ["F4-lost-state"], f"named {_named(world)}")
    expect(acts(world) == ["restart"], f"acts: {acts(world)}")
    expect(_chains(world) == before, f"not as it was: {_chains(world)}")
    return (
        f"deleted within {seconds(deleted - since)}, named after {seconds(named)},"
        f" restarted after {seconds(restarted - since)}, chains back after {seconds(back)}"
    )


def firewall_reloads(world):
    """A firewall that is reloaded, and chains that tailscaled's owner sends away, are no loss."""
    start_tailover(world)
    before = _chains(world)
    for _ in range(10):
        world.router.reload_firewall()
    linger(_WATCHED)
    _expect_nothing(world)
    expect(_chains(world) == before, f"the reload took chains: {_chains(world)}")
    try:
        for mode, count in (("nodivert", 6), ("off", 0), ("on", 6)):
            world.node.set(f"--netfilter-mode={mode}")
            wait_until(lambda: len(_chains(world)) == count, PATIENCE, f"mode {mode}")
            linger(3)
    finally:
        world.node.set("--netfilter-mode=on")
    linger(_WATCHED)
    _expect_nothing(world)
    return "10 reloads, and three modes of tailscaled's filter: nothing named"


def flushed_before_start(world):
    """Table 52 was flushed before tailover saw it: what tailscaled says is put back."""
    before = kernel(world)
    world.router.restart_mwan3()
    since = time.monotonic()
    world.router.start_tailover("config tailover 'main'\n")
    await_mended(world, since)
    return mended(world, since, before)


def flushed_while_dark(world):
    """Lost state is put back although no uplink reaches the outside."""
    start_tailover(world)
    before = kernel(world)
    for isp in world.isps.values():
        isp.blackhole()
    for isp in plan.ISPS:
        world.router.disconnected(isp)
    linger(4)
    since = time.monotonic()
    world.router.restart_mwan3()
    wait_until(lambda: kernel(world) == before, PATIENCE, "what was lost")
    took = time.monotonic() - since
    expect(set(acts(world)) == {"mend"}, f"acted with no way out: {acts(world)}")
    return f"put back after {seconds(took)}, with both uplinks dark"


def boot_race(world):
    """tailscaled starts before mwan3 and takes the base behind its rules: they get companions ahead."""
    with _behind_mwan3(world):
        world.router.start_tailover("config tailover 'main'\n")
        await_quiet(world)
        since = time.monotonic()
        world.router.start_mwan3()
        started = time.monotonic()
        wait_until(lambda: _back(world, started), PATIENCE, "the tailnet")
        ping = _back(world, started)
        await_quiet(world)
        expect(_named(world) == ["F4-lost-state"], f"named {_named(world)}")
        expect(acts(world) == ["mend"], f"acts: {acts(world)}")
        expect(world.watch.restarts(since) == 0, "tailscaled was restarted")
        _expect_ahead(world)
        # mwan3's next restart takes them again.
        world.router.restart_mwan3()
        wait_until(lambda: acts(world) == ["mend", "mend"], PATIENCE, "the second mending")
        await_quiet(world)
        _expect_ahead(world)
        # tailscaled's own new start finds its place taken by its own rules, and takes it over.
        world.node.restart()
        wait_until(lambda: world.node.online(), PATIENCE, "the node online")
        await_quiet(world)
        _expect_ahead(world)
        wait_until(lambda: world.pings.steady(4, 2), PATIENCE, "pings")
        expect(acts(world) == ["mend", "mend"], f"acts: {acts(world)}")
        return f"ping {seconds(ping)} after mwan3's start, which took {seconds(started - since)}"


def boot_race_restart(world):
    """The same where the owner allows no mending: one restart."""
    with _behind_mwan3(world):
        cures = "".join(f"\tlist cure '{cure}'\n" for cure in ("steer", "nudge", "renew", "restart"))
        world.router.start_tailover("config tailover 'main'\n" + cures)
        await_quiet(world)
        since = time.monotonic()
        world.router.start_mwan3()
        started = time.monotonic()
        wait_until(lambda: world.watch.restarts(since) > 0, PATIENCE, "a restart of tailscaled")
        restarted = time.monotonic()
        wait_until(lambda: _back(world, restarted), PATIENCE, "the tailnet")
        ping = restarted - started + _back(world, restarted)
        await_quiet(world)
        expect("F4-lost-state" in _named(world), f"named only {_named(world)}")
        expect(acts(world) == ["restart"], f"acts: {acts(world)}")
        rules = world.router.host.run(["ip", "rule", "show"])
        expect("1370:" in rules, "the new tailscaled did not take base 1300")
        return f"restarted {seconds(restarted - started)}, ping {seconds(ping)} after mwan3's start"


@contextmanager
def _behind_mwan3(world):
    """A tailscaled that was started before mwan3, which is still stopped."""
    world.router.mwan3.stop()
    world.node.restart()
    try:
        wait_until(lambda: world.node.online(), PATIENCE, "the node online")
        rules = world.router.host.run(["ip", "rule", "show"])
        expect("5270:" in rules and "1370:" not in rules, "tailscaled did not take base 5200")
        yield
    finally:
        world.router.mwan3.restart()
        world.node.restart()


def _expect_ahead(world):
    """Both families have tailscaled's four rules ahead of mwan3's, once."""
    for family in ("-4", "-6"):
        rules = world.router.host.run(["ip", family, "rule", "show"]).splitlines()
        ahead = [int(line.split(":")[0]) for line in rules if line.startswith("13")]
        expect(ahead == [1310, 1330, 1350, 1370], f"rules of IPv{family[1]}: {ahead}")


def netmap_changes(world):
    """Routes that come and go by tailscaled's own will are no loss."""
    start_tailover(world)
    since = time.monotonic()
    try:
        world.node.set("--accept-routes=true")
        world.peer.node.set(f"--advertise-routes={_SUBNET}")
        world.internet.approve_routes("peer", _SUBNET)
        wait_until(lambda: _SUBNET in kernel(world), PATIENCE, "the peer's subnet in table 52")
        linger(3)
        world.internet.approve_routes("peer", "")
        wait_until(lambda: _SUBNET not in kernel(world), PATIENCE, "the subnet to go")
        linger(3)
        world.internet.approve_routes("peer", _SUBNET)
        wait_until(lambda: _SUBNET in kernel(world), PATIENCE, "the peer's subnet again")
        linger(2)
        # The router stops accepting it: prefs change, the peer still offers it.
        world.node.set("--accept-routes=false")
        wait_until(lambda: _SUBNET not in kernel(world), PATIENCE, "the subnet to go")
        linger(_WATCHED)
        _expect_nothing(world)
    finally:
        world.node.set("--accept-routes=false")
        world.internet.approve_routes("peer", "")
        world.peer.node.set("--advertise-routes=")
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    return f"a subnet came and went twice, nothing named, worst ping gap {gap:.1f} s"


def other_hand_on_tailscaled(world):
    """`down`, `up` and a restart by hand change all of it, and nothing is called lost."""
    start_tailover(world)
    for act in (world.node.down, world.node.up, world.node.restart):
        act()
        linger(4)
    await_quiet(world)
    linger(_WATCHED)
    lost = [name for name in _named(world) if name == "F4-lost-state"]
    expect(not lost, "something was called lost")
    expect("mend" not in acts(world), f"acted: {acts(world)}")
    return "nothing called lost"


def _back(world, since):
    """Seconds from `since` until both families are pinged again, or None."""
    times = [world.pings.back(since, family) for family in (4, 6)]
    return None if None in times else max(times)


def await_mended(world, since, *families):
    """Waits for a mending, for its success, and for the tailnet."""
    wait_until(
        lambda: "mend" in acts(world) and "well again" in world.router.log_of_tailover(),
        PATIENCE,
        "the mending",
    )
    for family in families or (4, 6):
        wait_until(lambda: world.pings.back(since, family) is not None, PATIENCE, "the tailnet")


def mended(world, since, before):
    """Checks that F4 alone was named, mended once, and that the kernel is as it was."""
    gaps = [world.pings.worst_gap(since, time.monotonic() - 0.5, family) for family in (4, 6)]
    await_quiet(world)
    after = kernel(world)
    expect(after == before, f"not as it was:\n{before}\nnow:\n{after}")
    expect(_named(world) == ["F4-lost-state"], f"named {_named(world)}")
    expect(set(acts(world)) == {"mend"}, f"acts: {acts(world)}")
    expect(world.watch.restarts(since) == 0, "tailscaled was restarted")
    expect(not faults(world), f"still named: {faults(world)}")
    return (
        f"{len(acts(world))} times mended, tailnet away for v4 {gaps[0]:.1f} s v6 {gaps[1]:.1f} s;"
        f" {_result(world)}"
    )


def _expect_nothing(world):
    expect(not acts(world), f"acted on a healthy tailnet: {acts(world)}")
    expect(not _named(world), f"named {_named(world)}")
    lost = status(world)["tailnet"]["lost"]
    expect(not lost, f"calls lost: {lost}")


def _episodes(world):
    text = world.router.host.run(["tailover", "history", "--json"], check=False)
    return list(reversed(json.loads(text)["episodes"]))


def _named(world):
    """The identifiers of all faults named since the start."""
    return [fault["id"] for episode in _episodes(world) for fault in episode["faults"]]


def _result(world):
    return "; ".join(act["result"] for episode in _episodes(world) for act in episode["acts"])


def _chains(world):
    """tailscaled's chains in nf_tables: family, table, name, and how many rules are in it."""
    text = world.router.host.run(["nft", "-j", "list", "ruleset"])
    found = {}
    for entry in json.loads(text)["nftables"]:
        chain = entry.get("chain") or {"name": ""}
        if chain["name"].startswith("ts-"):
            found[chain["family"], chain["table"], chain["name"]] = 0
    for entry in json.loads(text)["nftables"]:
        rule = entry.get("rule")
        place = rule and (rule["family"], rule["table"], rule["chain"])
        if place in found:
            found[place] += 1
    return found


def kernel(world):
    """What tailscaled has in the kernel, as ip(8) lists it."""
    lines = []
    for family in ("-4", "-6"):
        run = world.router.host.run
        rules = run(["ip", "-d", family, "rule", "show"]).splitlines()
        own = ("1310:", "1330:", "1350:", "1370:")
        lines += [line for line in rules if line.startswith(own)]
        lines += sorted(run(["ip", "-d", family, "route", "show", "table", "52"]).splitlines())
        shown = run(["ip", "-o", family, "address", "show", "dev", "tailscale0", "scope", "global"])
        lines += sorted(line.split("scope")[0] for line in shown.splitlines())
    return "\n".join(lines)
