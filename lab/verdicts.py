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

# A stuck control connection that nobody renews is given up by tailscaled's own watchdog after 120 s.
_BY_ITSELF = 200


def names_dead(world):
    """Names die with the first uplink: tailnet and control come back over the second all the same."""
    start_tailover(world)
    world.isp2.names_dead()
    _look(world)
    wait_until(lambda: _verdict(world, plan.ISP2) == "dns-dead", PATIENCE, "wanb's verdict dns-dead")
    expect(not faults(world), f"names still work, and yet: {faults(world)}")
    world.router.forget_names()
    figures = fail_over(world, "tailover", patience=_BY_ITSELF)
    expect_back(figures)
    named = [fault["id"] for episode in _episodes(world) for fault in episode["faults"]]
    expect("names-dead" in named, f"named {named}")
    expect("renew" not in acts(world), "a new control client was asked for, which knows no address")
    _look(world)
    wait_until(lambda: faults(world) == ["names-dead"], PATIENCE, "names-dead as the only fault")
    world.isp2.restore()
    wait_until(lambda: not faults(world), _RECHECK, "names that work again")
    return str(figures)


def tls_broken(world):
    """TCP opens, TLS does not: named as that, and nothing is done about it."""
    return _named(world, "tls_broken", "tls-broken")


def mtu_black_hole(world):
    """Small packets pass and large ones do not: named as that, and nothing is done about it."""
    return _named(world, "mtu_black_hole", "mtu-black-hole")


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
    # The uplink that was left has to prove itself anew.
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


def _episodes(world):
    """The daemon's episodes, the one under way included."""
    ended = json.loads(world.router.host.run(["tailover", "history", "--json"]))["episodes"]
    under_way = status(world)["episode"]
    return ended + ([under_way] if under_way else [])


def _look(world):
    """Has tailover look at everything, with a word that nothing is wrong."""
    world.router.hotplug("connected", plan.ISP1.wan, plan.ISP1.device, FIRSTCONNECT="")


def _verdict(world, isp):
    """What the daemon calls an ISP's uplink over IPv4."""
    uplink = next(u for u in status(world)["uplinks"] if u["device"] == isp.device)
    return uplink["ipv4"]["verdict"]
