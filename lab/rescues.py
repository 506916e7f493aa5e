"""Scenarios with tailover: a fault each, what must come of it, and what must not."""

import json
import signal
import time

from . import plan
from .hosts import wait_until
from .session import Session
from .steps import (
    Failed,
    PATIENCE,
    TAILOVER_CONFIG,
    await_quiet,
    expect,
    expect_back,
    expect_lan,
    fail_back,
    fail_over,
    linger,
    seconds,
    start_tailover,
    status,
)

# The cures that touch tailscaled or its packets' way, as `tailover history` calls them.
_CURES = ("steer", "nudge", "renew", "mend", "restart")


# One uplink fails.


def failover_direct(world):
    """tailover brings a direct peer back after a blackhole, and moves back later."""
    return _there_and_back(world, "blackhole")


def failover_derp(world):
    """The same with a peer that has only relays."""
    return _there_and_back(world, "blackhole")


def failover_rejected(world):
    """The same with an uplink that answers with ICMP unreachable."""
    return _there_and_back(world, "reject")


def failover_portal(world):
    """The same with a captive portal on the first uplink."""
    return _there_and_back(world, "portal")


def failover_rp_filter(world):
    """The same with the kernel's strict reverse path filter."""
    world.rp_filter = 1
    world.router.set_rp_filter(1)
    try:
        return _there_and_back(world, "blackhole")
    finally:
        world.rp_filter = 0
        world.router.set_rp_filter(0)


def failover_source_routes(world):
    """The same with source-specific IPv6 defaults, as netifd makes them."""
    world.router.set_source_routes(True)
    try:
        return _there_and_back(world, "blackhole")
    finally:
        world.router.set_source_routes(False)


def _there_and_back(world, fault):
    start_tailover(world)
    figures = fail_over(world, "tailover", fault)
    expect_back(figures)
    expect_lan(world)
    back = fail_back(world, "tailover")
    expect(back.control is not None, f"control did not return: {back}")
    # The way back is a choice, not a need: it may not cost the tailnet anything.
    expect(max(back.gap, back.gap6) <= 1.0, f"the way back cost pings: {figures}; {back}")
    return f"{figures}; back again: {back}"


def carrier_lost_and_back(world):
    """A lost carrier moves tailscaled's packets by itself; control is renewed, and back again."""
    start_tailover(world)
    figures = fail_over(world, "tailover", "link_down")
    expect_back(figures)
    await_quiet(world)
    since = time.monotonic()
    world.isp1.restore()
    world.router.ifup(plan.ISP1)
    wait_until(lambda: world.watch.control_now() == {"isp1"}, PATIENCE, "control on the first uplink")
    wait_until(lambda: world.pings.steady(4, 2) and world.pings.steady(6, 2), PATIENCE, "pings")
    await_quiet(world)
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    return f"{figures}; worst ping gap after the carrier's return {gap:.1f} s"


def new_public_address(world):
    """A new public address makes no event: the look at the path finds it and renews control."""
    start_tailover(world, "\toption interval '5'\n")
    wait_until(
        lambda: status(world)["path"]["ipv4"]["public"].endswith(world.isp1.public),
        PATIENCE,
        "tailover's knowledge of the old address",
    )
    old = world.node.control_ports()
    changed = time.monotonic()
    world.isp1.new_address()
    wait_until(
        lambda: "public address changed" in world.router.log_of_tailover(),
        PATIENCE,
        "tailover's notice of the new address",
    )
    noticed = time.monotonic() - changed

    def fresh():
        return world.node.control_ports() - old and world.watch.control_now() == {"isp1"}

    wait_until(fresh, PATIENCE, "a new control connection")
    control = time.monotonic() - changed
    wait_until(lambda: world.pings.back(changed + 0.5, 4) is not None, PATIENCE, "the tailnet")
    await_quiet(world)
    expect("renew" in acts(world), f"control was not renewed: {acts(world)}")
    ping = world.pings.back(changed + 0.5, 4)
    return f"noticed {seconds(noticed)}, control {seconds(control)}, ping {seconds(ping)} after the change"


def restart_of_mwan3(world):
    """mwan3's burst of hotplug calls at its restart moves nothing and cures nothing."""
    start_tailover(world)
    since = time.monotonic()
    for isp in plan.ISPS:
        for name in (isp.wan, isp.wan6):
            world.router.hotplug("disconnected", name, MWAN3_SHUTDOWN="1")
    for isp in plan.ISPS:
        for name in (isp.wan, isp.wan6):
            world.router.hotplug("connected", name, isp.device, FIRSTCONNECT="1")
    burst = time.monotonic() - since
    # A cure that such a burst brings about would come within the settle time and a round of probes.
    linger(4)
    await_quiet(world)
    expect(not acts(world), f"acted on a healthy tailnet: {acts(world)}")
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(gap <= 1.0, f"the tailnet paused for {gap:.1f} s")
    return f"8 hotplug calls in {burst:.1f} s, nothing done, worst ping gap {gap:.1f} s"


def dark_without_a_word(world):
    """The first uplink goes dark and nobody says so: tailover sees it for itself."""
    start_tailover(world)
    # Its start is behind it, and the flow of pings is known.
    linger(10)
    broken = time.monotonic()
    world.isp1.blackhole()
    wait_until(lambda: world.pings.back(broken + 1, 4) is not None, PATIENCE, "the tailnet")
    wait_until(lambda: world.watch.control_back(broken, "isp2"), PATIENCE, "control")
    ping = 1 + world.pings.back(broken + 1, 4)
    control = world.watch.control_back(broken, "isp2")
    await_quiet(world)
    named = named_before(world)
    expect("F1-pinned-route" in named, f"named {named}")
    expect(ping <= 10, f"ping only after {ping:.1f} s")
    return f"control {seconds(control)}, ping {seconds(ping)} after the blackout"


# No uplink, or not the outside's fault.


def backup_behind_portal(world):
    """First uplink dark, a portal on the other: nothing is done until somebody logs in."""
    start_tailover(world)
    world.isp2.portal()
    since = time.monotonic()
    world.isp1.blackhole()
    linger(2)
    world.router.disconnected(plan.ISP1)
    linger(12)
    expect(not acts(world), f"acted with no way out: {acts(world)}")
    names = faults(world)
    login = time.monotonic()
    world.isp2.restore()
    # No event: nothing on the router knows that somebody has logged in.
    wait_until(lambda: world.pings.back(login, 4) is not None, 90, "the tailnet after the login")
    wait_until(lambda: world.watch.control_now() == {"isp2"}, PATIENCE, "control")
    return (
        f"nothing done in {login - since:.0f} s ({', '.join(names)}); after the login ping"
        f" {seconds(world.pings.back(login, 4))}"
    )


def all_down_no_cure(world):
    """Nothing is done to tailscaled while no uplink reaches the outside."""
    start_tailover(world)
    _go_dark(world)
    restored = time.monotonic()
    for isp in world.isps.values():
        isp.restore()
    for isp in plan.ISPS:
        world.router.connected(isp)
    wait_until(lambda: world.pings.back(restored, 4) is not None, PATIENCE, "the tailnet")
    return f"ping {seconds(world.pings.back(restored, 4))} after the uplinks' return"


def both_down_then_backup(world):
    """Both uplinks dark, then the backup alone returns: the tailnet comes back over it."""
    start_tailover(world)
    _go_dark(world)
    restored = time.monotonic()
    world.isp2.restore()
    linger(2)
    trigger = world.router.connected(plan.ISP2)
    wait_until(lambda: world.pings.back(restored, 4) is not None, PATIENCE, "the tailnet")
    wait_until(lambda: world.watch.control_back(trigger, "isp2"), PATIENCE, "control")
    control = world.watch.control_back(trigger, "isp2")
    return (
        f"control {seconds(control)} after the trigger, ping"
        f" {seconds(world.pings.back(restored, 4))} after the backup's return"
    )


def backup_back_without_a_word(world):
    """Both uplinks dark for over a minute, then the backup alone returns, and nobody says so."""
    start_tailover(world)
    _go_dark(world)
    # By now the pauses between two assessments are a minute long.
    linger(75)
    restored = time.monotonic()
    world.isp2.restore()
    wait_until(lambda: world.pings.back(restored, 4) is not None, PATIENCE, "the tailnet")
    wait_until(lambda: world.watch.control_back(restored, "isp2"), PATIENCE, "control")
    ping, control = world.pings.back(restored, 4), world.watch.control_back(restored, "isp2")
    expect(ping <= 12, f"ping only after {ping:.1f} s")
    return f"control {seconds(control)}, ping {seconds(ping)} after the backup's return"


def _go_dark(world):
    for isp in world.isps.values():
        isp.blackhole()
    for isp in plan.ISPS:
        world.router.disconnected(isp)
    linger(12)
    expect(not acts(world), f"acted with no way out: {acts(world)}")


def control_down_no_cure(world):
    """A control server that is down is nothing to be cured: no restart, no gap."""
    start_tailover(world)
    world.internet.control_down()
    since = time.monotonic()
    world.router.hotplug("connected", plan.ISP1.wan, plan.ISP1.device, FIRSTCONNECT="")
    linger(20)
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(gap < 2, f"the tailnet paused for {gap:.1f} s")
    return f"worst ping gap {gap:.1f} s in 20 s"


def control_killed_no_cure(world):
    """A control server whose process dies is named while tailscaled is offline; nothing is done."""
    start_tailover(world)
    since = time.monotonic()
    world.internet.control_killed()
    # tailscaled may call itself online for up to 120 s more; then a look and a second one.
    wait_until(lambda: faults(world), 180, "a name for it")
    named = time.monotonic() - since
    expect(faults(world) == ["control-down"], f"named {faults(world)}")
    expect(not world.node.online(), "tailscaled is online without a control server")
    linger(25)
    expect(faults(world) == ["control-down"], f"named {faults(world)}")
    done = [act for act in acts(world) if act != "nudge"]
    expect(not done, f"acted: {done}")
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(gap < 1.5, f"the tailnet paused for {gap:.1f} s")
    up = time.monotonic()
    world.internet.control_up()
    wait_until(lambda: not faults(world), 120, "the end of the fault")
    back = time.monotonic() - up
    return f"named {seconds(named)} after its end, forgotten {seconds(back)} after its return, worst gap {gap:.1f} s"


def control_down_and_dark(world):
    """Without a control server the mark moves all the same, and control follows later."""
    start_tailover(world)
    world.internet.control_down()
    world.isp1.blackhole()
    linger(2)
    trigger = world.router.disconnected(plan.ISP1)
    wait_until(lambda: world.pings.back(trigger, 4) is not None, PATIENCE, "the tailnet without control")
    ping = world.pings.back(trigger, 4)
    linger(10)
    expect("renew" not in acts(world), "renewed control with no control server")
    expect("control-down" in faults(world), f"named only {faults(world)}")
    up = time.monotonic()
    world.internet.control_up()
    # Blocked, not refused: nothing tells tailover but its own next try.
    wait_until(lambda: world.watch.control_back(up, "isp2"), 100, "control")
    return f"ping {seconds(ping)} after the trigger; control {seconds(world.watch.control_back(up, 'isp2'))} after the server's return"


def stopped_by_user(world):
    """`tailscale down` is obeyed: no cure; `tailscale up` works over the live uplink."""
    start_tailover(world)
    world.node.down()
    try:
        world.isp1.blackhole()
        linger(2)
        world.router.disconnected(plan.ISP1)
        linger(8)
        done = [act for act in acts(world) if act != "steer"]
        expect(not done, f"cured what the user has stopped: {done}")
    finally:
        up = time.monotonic()
        world.node.up()
    wait_until(lambda: world.pings.back(up, 4) is not None, PATIENCE, "the tailnet")
    return f"nothing done while stopped; ping {seconds(world.pings.back(up, 4))} after `up`"


# tailscaled itself.


def hung_tailscaled(world):
    """A tailscaled that hangs is restarted once, and the new process is seen."""
    start_tailover(world)
    old = world.node.pid()
    since = time.monotonic()
    # tailover looks at it all the 30 s, or at the next event.
    world.router.host.run(["kill", "-STOP", str(old)])
    world.router.hotplug("connected", plan.ISP1.wan, plan.ISP1.device, FIRSTCONNECT="")
    wait_until(lambda: world.node.pid() not in (old, None), 60, "a new tailscaled")
    restarted = time.monotonic() - since
    wait_until(lambda: world.pings.back(since + restarted, 4) is not None, 60, "the tailnet")
    await_quiet(world)
    ping = restarted + world.pings.back(since + restarted, 4)
    expect(status(world)["tailnet"]["pid"] == _inner_pid(world), "status shows another pid")
    return f"new process {seconds(restarted)}, ping {seconds(ping)} after the hang"


def _inner_pid(world):
    return world.node.pid()


def killed_tailscaled(world):
    """A tailscaled that dies is procd's to start; tailover does not start it twice."""
    start_tailover(world)
    old = world.node.pid()
    since = time.monotonic()
    world.router.host.run(["kill", "-KILL", str(old)])
    wait_until(lambda: world.node.pid() not in (old, None), 30, "a new tailscaled")
    wait_until(lambda: world.pings.back(since + 1, 4) is not None, 60, "the tailnet")
    await_quiet(world)
    return f"ping {seconds(1 + world.pings.back(since + 1, 4))} after the kill"


def only_restart_allowed(world):
    """With nothing but `restart` allowed it says that this cannot help, and keeps its budget."""
    start_tailover(world, "\tlist cure 'restart'\n")
    since = time.monotonic()
    world.isp1.blackhole()
    linger(2)
    world.router.disconnected(plan.ISP1)
    wait_until(lambda: "cannot help" in world.router.log_of_tailover(), 60, "'cannot help' in the log")
    linger(25)
    expect(world.watch.restarts(since) <= 3, "more restarts than the budget has")
    expect(not world.router.traces_of_tailover(), "steered although that is not allowed")
    count = world.watch.restarts(since)
    return f"said that it cannot help; {count} restarts"


# tailover itself.


def killed_while_steered(world):
    """Killed, it leaves the steering; started again it takes that over and goes back later."""
    start_tailover(world)
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    world.router.tailover.kill()
    world.router.tailover.wait()
    since = time.monotonic()
    linger(3)
    start_tailover(world)
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(gap <= 1.0, f"the tailnet paused for {gap:.1f} s")
    expect("taken over" in world.router.log_of_tailover(), "the steering was not taken over")
    told = world.router.host.run(["tailover", "history"], check=False)
    expect("steer IPv4: by eth2" in told, f"the history of before is lost: {told}")
    back = fail_back(world, "tailover")
    expect(back.control is not None, f"control did not return: {back}")
    return f"worst ping gap {gap:.1f} s; back again: {back}"


def stopped_while_dark(world):
    """Stopped while main's default is dark it leaves the steering; `cleanup` takes it away."""
    start_tailover(world)
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    since = time.monotonic()
    _terminate(world)
    expect(world.router.traces_of_tailover(), "the steering went with the daemon")
    linger(4)
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(gap <= 1.0, f"the tailnet paused for {gap:.1f} s")
    said = world.router.host.run(["tailover", "cleanup"])
    expect(not world.router.traces_of_tailover(), "cleanup left something")
    return f"steering kept, worst ping gap {gap:.1f} s; cleanup: {said.strip()}"


def stopped_while_open(world):
    """Stopped while main's default is open it takes its steering with it."""
    # A long hold, so that it is still steered when the first uplink is open again.
    start_tailover(world, "\toption hold '600'\n")
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    world.isp1.restore()
    world.router.connected(plan.ISP1)

    wait_until(lambda: _first_open(world), PATIENCE, "the first uplink's verdict")
    expect(world.router.traces_of_tailover(), "went back before the hold")
    _terminate(world)
    left = world.router.traces_of_tailover()
    expect(not left, f"left behind: {left}")
    return "nothing left"


def _first_open(world):
    first = next(u for u in status(world)["uplinks"] if u["device"] == plan.ISP1.device)
    return all(first[family]["verdict"] == "open" for family in ("ipv4", "ipv6"))


def upgrade_while_steered(world):
    """An upgrade of the daemon, while it steers and again when the first uplink is open, does not cut
    a TCP session that comes in over the tailnet."""
    start_tailover(world, "\toption hold '600'\n")
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    session = Session(world.router.host, world.peer.host, world.node.addresses()[0])
    try:
        wait_until(session.alive, 10, "a session from the peer")
        dark = _upgrade(world, session)
        expect("taken over" in world.router.log_of_tailover(), "the steering was not taken over")
        expect("F1-pinned-route" in named_before(world), "the history was lost")
        expect(world.marked_device() == plan.ISP2.device, "the mark has left the second uplink")
        world.isp1.restore()
        world.router.connected(plan.ISP1)
        wait_until(lambda: _first_open(world), PATIENCE, "the first uplink's verdict")
        light = _upgrade(world, session)
        expect(not world.router.traces_of_tailover(), "steered again although main is open")
    finally:
        session.close()
    return f"worst gap of the session {dark:.1f} s while dark, {light:.1f} s while open"


def _upgrade(world, session):
    """What an upgrade does: stop, a new file in the program's place, start. Returns the session's
    longest gap until the daemon is quiet again."""
    since = time.monotonic()
    _terminate(world)
    world.router.replace_tailover()
    world.router.start_tailover(TAILOVER_CONFIG + "\toption hold '600'\n")
    await_quiet(world)
    linger(1)
    expect(session.alive(), "the session was cut")
    gap = session.worst_gap(since, time.monotonic())
    expect(gap <= 1.0, f"the session paused for {gap:.1f} s")
    return gap


def removed_while_dead(world):
    """The package's removal takes the steering away although the daemon was killed."""
    start_tailover(world)
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    world.router.tailover.kill()
    world.router.tailover.wait()
    expect(world.router.traces_of_tailover(), "the steering went with the daemon")
    world.router.host.run(["sh", "-c", world.router.script_of_package("prerm")])
    left = world.router.traces_of_tailover()
    expect(not left, f"left behind: {left}")
    expect(not world.router.host.path("/run/tailover").exists(), "its state is still there")
    return "nothing left"


def _terminate(world):
    world.router.tailover.send_signal(signal.SIGTERM)
    code = world.router.tailover.wait(10)
    expect(code == 0, f"ended with {code}")


def check_changes_nothing(world):
    """`tailover check` names the fault, without a daemon, and changes nothing."""
    world.isp1.blackhole()
    world.router.disconnected(plan.ISP1)
    before = _kernel(world)
    since = time.monotonic()
    text = world.router.host.run(["tailover", "check", "--json"], check=False)
    took = time.monotonic() - since
    state = json.loads(text)
    expect(_kernel(world) == before, "the kernel's rules or routes have changed")
    named = [fault["id"] for fault in state["faults"]]
    expect("F1-pinned-route" in named, f"named only {named}")
    return f"{', '.join(named)} in {took:.1f} s; would {', '.join(state['would'])}"


def _kernel(world):
    return [
        world.router.host.run(["ip", family, *what.split()])
        for family in ("-4", "-6")
        for what in ("rule show", "route show table all")
    ]


def ubusd_reborn(world):
    """ubusd dies and comes back: the object is there again and hotplug reaches the daemon."""
    start_tailover(world)
    world.router.kill_ubus()
    linger(1)
    world.router.revive_ubus()
    since = time.monotonic()
    wait_until(lambda: status(world)["stage"] == "quiet", 15, "tailover's object on the new ubusd")
    again = time.monotonic() - since
    figures = fail_over(world, "tailover")
    expect_back(figures)
    expect("hotplug: wan is down" in world.router.log_of_tailover(), "hotplug was not heard")
    return f"the object was there again after {again:.1f} s; {figures}"


def no_ubusd_at_all(world):
    """Without ubusd the daemon finds the dark uplink by its own look at the path."""
    world.router.kill_ubus()
    world.router.start_tailover("config tailover 'main'\n\toption interval '5'\n")
    wait_until(lambda: "no ubus" in world.router.log_of_tailover(), 15, "a word on ubus")
    linger(8)
    broken = time.monotonic()
    world.isp1.blackhole()
    wait_until(lambda: world.pings.back(broken + 1, 4) is not None, 45, "the tailnet")
    ping = 1 + world.pings.back(broken + 1, 4)
    return f"ping {seconds(ping)} after the blackhole, without any event"


def hotplug_is_quick(world):
    """How long 200 calls of `tailover hotplug` hold netifd up."""
    start_tailover(world)
    spans = _hotplug_runs(world)
    world.router.kill_ubus()
    without = _hotplug_runs(world)
    return f"with the daemon {spans}; without ubusd {without}"


def _hotplug_runs(world):
    program = (
        "import os,statistics,subprocess,time\n"
        # netifd's notice of a renewed lease: heard, and nothing follows.
        "e={'ACTION':'ifupdate','INTERFACE':'wan','DEVICE':'eth1'}\n"
        "def once():\n"
        "    t=time.perf_counter();c=subprocess.run(['/usr/sbin/tailover','hotplug'],env=e)\n"
        "    assert c.returncode==0\n"
        "    return (time.perf_counter()-t)*1000\n"
        "a=[once() for _ in range(200)]\n"
        "print(f'median {statistics.median(a):.1f} ms, max {max(a):.1f} ms')"
    )
    return world.router.host.run(["python3", "-c", program], timeout=60).strip()


# What the daemon tells of itself.


def acts(world):
    """The cures of all episodes, the one under way included, oldest first."""
    text = world.router.host.run(["tailover", "history", "--json"], check=False)
    episodes = list(reversed(json.loads(text)["episodes"]))
    if under_way := status(world)["episode"]:
        episodes.append(under_way)
    cures = [act["cure"] for episode in episodes for act in episode["acts"]]
    unknown = [cure for cure in cures if not cure.startswith(_CURES)]
    if unknown:
        raise Failed(f"cures that nobody knows: {unknown}")
    return [next(name for name in _CURES if cure.startswith(name)) for cure in cures]


def named_before(world):
    """The faults of all episodes that have ended."""
    text = world.router.host.run(["tailover", "history", "--json"], check=False)
    return [fault["id"] for episode in json.loads(text)["episodes"] for fault in episode["faults"]]


def faults(world):
    """The faults that the daemon names now."""
    return [fault["id"] for fault in status(world)["faults"]]
