"""Scenarios of verdicts: what an uplink is called, and which fault is named for it."""

import json
import time

from . import plan
from .hosts import wait_until
from .paths import BIN
from .rescues import acts, faults
from .steps import (
    PATIENCE,
    await_quiet,
    expect,
    expect_back,
    fail_over,
    linger,
    seconds,
    start_tailover,
    status,
)

# In quiet times a way with a flaw is asked in full once a minute.
_RECHECK = 75


def names_dead(world):
    """Names die with the first uplink: tailnet and control come back over the second all the same.

    The router's own resolver still knows the control server's name. Once it has forgotten that
    too, it is said.
    """
    start_tailover(world)
    _kill_names_of_the_second(world)
    figures = fail_over(world, "tailover")
    expect_back(figures)
    world.router.forget_names()
    _look(world)
    wait_until(lambda: faults(world) == ["names-dead"], PATIENCE, "names-dead as the only fault")
    world.isp2.restore()
    wait_until(lambda: not faults(world), _RECHECK, "names that work again")
    return str(figures)


def names_dead_and_forgotten(world):
    """Nobody can resolve the control server's name: control is renewed when somebody can, not before."""
    start_tailover(world)
    _kill_names_of_the_second(world)
    world.router.forget_names()
    broken = time.monotonic()
    world.isp1.blackhole()
    wait_until(lambda: "names-dead" in faults(world), _RECHECK, "names-dead among the faults")
    wait_until(lambda: world.pings.back(broken, 4) is not None, PATIENCE, "the tailnet without names")
    linger(10)
    expect("renew" not in acts(world), "a new control client was asked for, which knows no address")
    expect("restart" not in acts(world), "tailscaled was restarted, and has lost its netmap")
    world.isp2.restore()
    returned = time.monotonic()
    wait_until(lambda: world.watch.control_now() == {"isp2"}, 100, "control once names are back")
    return (
        f"ping {seconds(world.pings.back(broken, 4))} after the blackout, control"
        f" {seconds(time.monotonic() - returned)} after the names' return"
    )


def _kill_names_of_the_second(world):
    world.isp2.names_dead()
    _look(world)
    wait_until(lambda: _verdict(world, plan.ISP2) == "dns-dead", PATIENCE, "wanb's verdict dns-dead")
    expect(not faults(world), f"names still work, and yet: {faults(world)}")


def tls_broken(world):
    """TCP opens, TLS does not: named as that, and nothing is done about it."""
    return _named(world, "tls_broken", "tls-broken")


def mtu_black_hole(world):
    """Small packets pass and large ones do not: named as that, and nothing is done about it."""
    return _named(world, "mtu_black_hole", "mtu-black-hole")


def mtu_black_hole_and_control(world):
    """Large packets are lost, and control has to be made anew: the mark moves first, nothing is restarted."""
    start_tailover(world)
    world.isp1.mtu_black_hole()
    _look(world)
    wait_until(lambda: faults(world) == ["mtu-black-hole"], PATIENCE, "mtu-black-hole as the only fault")
    expect(not acts(world), f"acted: {acts(world)}")
    begun = time.monotonic()
    # All flows of before are dead now.
    world.isp1.new_address()
    wait_until(lambda: world.watch.control_now() == {"isp2"}, 120, "control over the second uplink")
    control = time.monotonic() - begun
    done = acts(world)
    expect("renew" not in done[: done.index("steer")], f"renewed where it cannot help: {done}")
    wait_until(lambda: world.pings.back(begun, 4) is not None, PATIENCE, "the tailnet")
    await_quiet(world)
    linger(15)
    expect(world.watch.control_now() == {"isp2"}, "control went back to where it cannot be made")
    expect("restart" not in acts(world), f"tailscaled was restarted: {acts(world)}")
    world.isp1.restore()
    restored = time.monotonic()
    wait_until(lambda: world.watch.control_now() == {"isp1"}, _RECHECK + 60, "control over the first uplink again")
    back = time.monotonic() - restored
    return f"control {seconds(control)} after the flows' end, back {seconds(back)} after the flaw's"


def _named(world, fault, identifier):
    start_tailover(world)
    getattr(world.isp1, fault)()
    since = time.monotonic()
    _look(world)
    wait_until(lambda: faults(world) == [identifier], PATIENCE, f"{identifier} as the only fault")
    named = time.monotonic() - since
    expect(_verdict(world, plan.ISP1) == "open", f"wan is {_verdict(world, plan.ISP1)}")
    linger(5)
    expect(faults(world) == [identifier], f"then it named {faults(world)}")
    expect(not acts(world), f"acted: {acts(world)}")
    world.isp1.restore()
    restored = time.monotonic()
    wait_until(lambda: not faults(world), _RECHECK, "no fault after the end")
    cleared = time.monotonic() - restored
    return f"named {seconds(named)} after a look, cleared {seconds(cleared)} after its end"


def clock_before_certificates(world):
    """Every certificate begins in the future, as for a clock that was never set: named, and waited for."""
    start_tailover(world)
    begun = time.monotonic()
    ports = world.node.control_ports() | world.node.relay_ports()
    world.internet.ahead(True)
    try:
        _look(world, wrong=True)
        wait_until(lambda: faults(world) == ["clock-wrong"], PATIENCE, "clock-wrong as the only fault")
        named = time.monotonic() - begun
        (fault,) = status(world)["faults"]
        expect("clock" in fault["text"] and "not valid yet" in fault["text"], f"says {fault}")
        linger(10)
        expect(faults(world) == ["clock-wrong"], f"then it named {faults(world)}")
        expect(not acts(world), f"acted: {acts(world)}")
        now = world.node.control_ports() | world.node.relay_ports()
        expect(now == ports, "the connections of before are not there any more")
    finally:
        world.internet.ahead(False)
    restored = time.monotonic()
    wait_until(lambda: not faults(world), _RECHECK, "no fault after the end")
    cleared = time.monotonic() - restored
    gap = world.pings.worst_gap(begun, time.monotonic() - 0.5, 4)
    expect(gap <= 1.0, f"the tailnet paused for {gap:.1f} s")
    return f"named {seconds(named)} after a look, nothing done, cleared {seconds(cleared)} after its end"


def dark_with_a_wrong_clock(world):
    """The first uplink dies while the clock is wrong: the mark moves, control waits for time."""
    start_tailover(world)
    world.internet.ahead(True)
    try:
        _look(world, wrong=True)
        wait_until(lambda: faults(world) == ["clock-wrong"], PATIENCE, "clock-wrong as the only fault")
        broken = time.monotonic()
        world.isp1.blackhole()
        wait_until(lambda: world.marked_device() == "eth2", 45, "the mark on the second uplink")
        wait_until(lambda: world.pings.back(broken + 1, 4) is not None, PATIENCE, "the tailnet")
        ping = 1 + world.pings.back(broken + 1, 4)
        linger(20)
        wait_until(lambda: "clock-wrong" in faults(world), PATIENCE, "clock-wrong among the faults")
        expect("control-down" not in faults(world), f"named {faults(world)}")
        done = acts(world)
        expect("renew" not in done and "restart" not in done, f"acts: {done}")
    finally:
        world.internet.ahead(False)
    restored = time.monotonic()
    wait_until(lambda: world.watch.control_now() == {"isp2"}, 100, "control once the time is right")
    control = time.monotonic() - restored
    wait_until(lambda: not faults(world), _RECHECK, "no fault after the end")
    expect(world.watch.restarts(broken) == 0, "tailscaled was restarted")
    return f"ping {seconds(ping)} after the blackout, control {seconds(control)} after the time was right"


def portal_that_redirects(world):
    """A portal that leads every request elsewhere is left as one that answers is."""
    return _left(world, "portal_that_redirects")


def portal_that_is_mute(world):
    """The same of a portal that accepts every connection and says nothing."""
    return _left(world, "portal_that_is_mute")


def _left(world, fault):
    # A target that such a portal can fake: a TCP connection is all that is asked of it.
    start_tailover(world, f"\tlist target 'derp'\n\tlist target 'tcp:{plan.IPIFY[0]}:443'\n")
    figures = fail_over(world, "tailover", fault)
    expect_back(figures)
    # The uplink that was left has to prove itself anew; not while the episode is under way.
    await_quiet(world)
    _look(world)
    wait_until(lambda: _verdict(world, plan.ISP1) == "portal", PATIENCE, "wan's verdict portal")
    linger(5)
    expect(_verdict(world, plan.ISP1) == "portal", f"then it was {_verdict(world, plan.ISP1)}")
    return f"{figures}; called a portal"


def login_at_a_portal(world):
    """A login at the portal of an uplink that is not used is noticed within a minute."""
    start_tailover(world)
    world.isp2.portal()
    _look(world)
    wait_until(lambda: _verdict(world, plan.ISP2) == "portal", PATIENCE, "wanb's verdict portal")
    await_quiet(world)
    world.isp2.restore()
    login = time.monotonic()
    wait_until(lambda: _verdict(world, plan.ISP2) == "open", _RECHECK, "wanb's verdict open")
    return f"noticed {seconds(time.monotonic() - login)} after the login"


def bursts_under_loss(world):
    """Of 200 bursts by the real prober at 30 % loss each way none calls the uplink closed."""
    start_tailover(world)
    world.isp1.lossy(30)
    text = world.router.host.run([BIN / "bursts", plan.ISP1.device, "200"], timeout=500)
    counts = json.loads(text)
    expect(counts.get("open") == 200, f"verdicts of 200 bursts: {counts}")
    return f"verdicts of 200 bursts: {counts}"


def _look(world, wrong=False):
    """Has tailover look at everything now, as the owner can; `wrong`: it may find a fault at once."""
    world.router.host.run(["tailover", "recover"], check=not wrong)


def _verdict(world, isp):
    """What the daemon calls an ISP's uplink over IPv4."""
    uplink = next(u for u in status(world)["uplinks"] if u["device"] == isp.device)
    return uplink["ipv4"]["verdict"]
