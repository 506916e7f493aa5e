"""The outages that each remedy meets."""

from dataclasses import dataclass

from .. import plan
from ..hosts import wait_until
from ..steps import PATIENCE, linger

# The backup is in use for so long before the first uplink returns.
_AWAY = 15.0
# Both uplinks are dark for so long after mwan3 has said so; somebody logs in at the portal after it.
_DARK = 10.0
_FLAP, _FLAPS = 10.0, 9
_BOOT = 60.0


def _nothing(_):
    pass


@dataclass(frozen=True)
class Scenario:
    """`play` takes the Stage, and so does `prepare`, which brings the world to where it begins before the
    remedy is installed; `undo` takes the World and brings it back. `boots`: `play` begins the remedy itself.
    `restarts`: how many of tailscaled are the scenario's own. `watch`: seconds that are watched at least, for
    what a remedy may do to a tailnet that is well. `steady`: whether there is an instant from which on the
    tailnet answers; else only the lost seconds count."""

    key: str
    title: str
    play: object
    prepare: object = _nothing
    undo: object = _nothing
    restarts: int = 0
    watch: float = 0.0
    steady: bool = True
    boots: bool = False


def _blackhole(stage):
    stage.count_from_now()
    stage.dark("isp1")


def _reject(stage):
    stage.count_from_now()
    stage.dark("isp1", "reject", "answered")


def _carrier(stage):
    stage.count_from_now()
    stage.carrier_lost("isp1")


def _dead_gateway(stage):
    stage.count_from_now()
    stage.dark("isp1", "gateway_dead", "gateway")


def _address(stage):
    stage.count_from_now()
    stage.new_public_address()


def _portal(stage):
    stage.dark("isp1")
    stage.await_tracker()
    linger(_DARK)
    stage.count_from_now()
    stage.back("isp2")


def _names(stage):
    stage.count_from_now()
    stage.world.isp1.names_dead()
    stage.world.router.forget_names()


def _both(stage):
    stage.dark("isp1")
    stage.dark("isp2")
    stage.await_tracker()
    linger(_DARK)
    stage.count_from_now()
    stage.back("isp2")


def _flapping(stage):
    stage.count_from_now()
    for _ in range(_FLAPS):
        stage.dark("isp1")
        linger(_FLAP)
        stage.back("isp1")
        linger(_FLAP)


def _failback(stage):
    stage.dark("isp1")
    stage.await_tracker()
    linger(_AWAY)
    stage.count_from_now()
    stage.back("isp1")


def _mwan3_restart(stage):
    stage.count_from_now()
    stage.truth.broken()
    stage.world.router.restart_mwan3()


def _firewall(stage):
    stage.count_from_now()
    stage.world.router.reload_firewall()


def _kill(stage):
    stage.count_from_now()
    stage.truth.broken()
    stage.world.router.host.run(["kill", "-KILL", str(stage.world.node.pid())])


def _hang(stage):
    stage.count_from_now()
    stage.truth.broken()
    stage.world.router.host.run(["kill", "-STOP", str(stage.world.node.pid())])


def _boot(stage):
    """tailscaled and the remedy start with no uplink there, which comes a minute later, and mwan3 with it."""
    router = stage.world.router
    for isp in plan.ISPS:
        router.ifdown(isp)
        stage.tracker.forget(isp)
        stage.truth.reaches(isp.name, ())
    router.mwan3.stop()
    stage.world.node.restart()
    wait_until(stage.world.node.answers, PATIENCE, "tailscaled after its start")
    stage.begin_treatment()
    linger(_BOOT)
    for isp in plan.ISPS:
        stage.truth.reaches(isp.name, (4, 6))
    stage.count_from_now()
    # tailscaled was there before mwan3, so its rules are behind mwan3's.
    stage.truth.loses()
    router.power_on()
    for isp in plan.ISPS:
        stage.tracker.forget(isp)


def _loss(stage):
    stage.count_from_now()
    stage.world.isp1.lossy(20)


def _mtu(stage):
    stage.count_from_now()
    stage.world.isp1.mtu_black_hole()


def _v4(stage):
    stage.count_from_now()
    stage.dark_family("isp1", 4)


def _restart_tailscaled(world):
    """With a new count of its ends by procd, and beside mwan3's rules."""
    if not all(world.router.link_up.values()):
        # A boot that was broken off.
        world.router.power_on()
    world.node.restart()
    wait_until(world.node.answers, PATIENCE, "tailscaled after its restart")


SCENARIOS = [
    Scenario("blackhole", "blackhole, link up", _blackhole),
    Scenario("reject", "ICMP reject", _reject),
    Scenario("carrier", "carrier lost", _carrier),
    Scenario("gateway", "dead gateway", _dead_gateway),
    # With IPv6, which has no address translation, the tailnet would not notice.
    Scenario("address", "silent public-address change, IPv4 alone", _address,
             prepare=lambda stage: stage.world.ipv4_only()),
    Scenario("portal", "portal on the backup, until somebody logs in", _portal,
             prepare=lambda stage: stage.shut_before("isp2", "portal")),
    Scenario("names", "the first uplink's names dead", _names, watch=40.0),
    Scenario("both", "both down, then the backup up", _both),
    Scenario("flapping", "flapping every 20 s for 3 minutes", _flapping, steady=False),
    Scenario("failback", "failback", _failback, watch=45.0),
    Scenario("mwan3-restart", "mwan3 restarted", _mwan3_restart, undo=_restart_tailscaled),
    Scenario("firewall", "firewall reloaded", _firewall, watch=15.0),
    Scenario("killed", "tailscaled killed", _kill, undo=_restart_tailscaled, restarts=1),
    Scenario("hung", "tailscaled hung", _hang, undo=_restart_tailscaled),
    Scenario("boot", "boot, the WAN 60 s late", _boot, undo=_restart_tailscaled, boots=True),
    Scenario("loss", "20 % loss each way", _loss, watch=60.0, steady=False),
    Scenario("mtu", "MTU black hole", _mtu, watch=60.0),
    Scenario("v4", "IPv4 dead, IPv6 alive", _v4, watch=20.0),
]
BY_KEY = {scenario.key: scenario for scenario in SCENARIOS}
