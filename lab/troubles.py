"""What goes wrong around tailover, or with it, while it is idle, steers, or cures: the tailnet is well after it.

A trouble begins at a moment, lasts for some seconds, and ends. Then the tailnet must be as healthy as the
uplinks allow, by itself; at the end of all everything is as before tailover was started.
"""

import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import localapi, plan, record
from .hosts import HostError, wait_until
from .paths import BIN, TREE_INSIDE
from .rescues import acts
from .steps import DISCONNECTED_AFTER, TAILOVER_CONFIG, Failed, await_quiet, expect, expect_back, fail_over
from .steps import linger, seconds, start_tailover, status
from .tailscaled import Program

# So long the tailnet is given to be well after the trouble's end. A restart of tailscaled that hangs takes 40.
WELL_WITHIN = 90.0
# How procd starts a daemon again that has ended by itself: the init script's `respawn 3600 5 0`.
_RESPAWN_AFTER = 5.0

# The parts as the router sees them.
_PARTS = TREE_INSIDE / "target/lab/bin"
_MODE_FILE = "/run/localapi-mode"
_SMALL = "/run/small"
_KEPT = "/etc/tailover"
_TABLE = 17400
_PRIORITY = 990


@dataclass(frozen=True)
class Trouble:
    """`begin` and `end` take the World; `span` is in seconds between them. `options` are further lines
    of tailover's configuration, `prepare` and `undo` what has to be done before its start and after its
    stop. `restarts`: how many of tailscaled the trouble itself is worth. `may`: what tailover may do
    about it while nothing else is wrong. `gap`: whether the trouble itself may cut the tailnet."""

    name: str
    begin: object
    end: object = lambda world: None
    span: float = 6.0
    options: str = ""
    prepare: object = lambda world: None
    undo: object = lambda world: None
    restarts: int = 0
    may: tuple = ()
    gap: bool = False


# The bus.


def _ubusd_stopped(world):
    world.router.signal_ubusd(signal.SIGSTOP)


def _ubusd_goes_on(world):
    world.router.signal_ubusd(signal.SIGCONT)


def _storm(world):
    call = '{"action":"disconnected","interface":"wan","device":"eth1"}'
    world.router.host.run([BIN / "flood", "tailover", "event", call, "10000"], timeout=60)


# tailscaled and its LocalAPI.


def _signal_tailscaled(number):
    def send(world):
        world.router.host.run(["kill", f"-{number}", str(world.node.pid())])

    return send


def _in_between(world):
    """Puts lab/localapi.py before tailscaled."""
    world.router.host.sh(f"echo pass > {_MODE_FILE}")
    real = _PARTS / "tailscaled"
    words = f'cd {TREE_INSIDE} && exec python3 -m lab.localapi {_MODE_FILE} {real} "$@"'
    script = f'#!/bin/sh\n[ "$1" = --cleanup ] && exec {real} "$@"\n{words}\n'
    world.broken_api = Program(world, script=script)
    world.broken_api.__enter__()


def _no_longer_in_between(world):
    world.broken_api.__exit__()


def _mode(name):
    def change(world):
        world.router.host.sh(f"echo {name} > {_MODE_FILE}.new; mv {_MODE_FILE}.new {_MODE_FILE}")

    return change


def _api(mode, **more):
    return Trouble(
        f"localapi_{mode}", _mode(mode), _mode("pass"), 12.0, prepare=_in_between, undo=_no_longer_in_between,
        **more,
    )


# The kernel.


def _flood_routes(world):
    """More changes than a netlink socket holds: the kernel drops the rest (ENOBUFS, netlink(7))."""
    lines = []
    for number in range(20000):
        net = f"10.{90 + number // 65536}.{number // 256 % 256}.{number % 256}/32"
        lines += [f"route add {net} dev lo table 9999"]
    text = "\n".join(lines + ["route flush table 9999"]) + "\n"
    world.router.host.run(["ip", "-batch", "-"], input=text, timeout=60)


def _rules_gone(world):
    for family in ("-4", "-6"):
        world.router.host.sh(
            f"while ip {family} rule del protocol 122 2>/dev/null; do :; done\n"
            f"ip {family} route flush proto 122 table all 2>/dev/null || true"
        )


def _occupied(world):
    """Somebody else has a rule at our priority and a route in our table."""
    world.router.host.sh(
        f"ip rule add pref {_PRIORITY} to 198.51.100.77 lookup {_TABLE} protocol 200\n"
        f"ip route add 198.51.100.77 dev lo table {_TABLE} proto 200"
    )


def _still_occupied(world):
    rules = world.router.host.run(["ip", "-d", "rule", "show", "pref", str(_PRIORITY)])
    routes = world.router.host.run(["ip", "route", "show", "table", str(_TABLE)], check=False)
    expect("198.51.100.77" in rules, f"the other's rule is gone: {rules}")
    expect("198.51.100.77" in routes, f"the other's route is gone: {routes}")


def _free_again(world):
    # Also when the scenario failed in between.
    world.router.host.sh(
        f"ip rule del pref {_PRIORITY} to 198.51.100.77 lookup {_TABLE} protocol 200\n"
        f"ip route del 198.51.100.77 dev lo table {_TABLE} proto 200",
        check=False,
    )


def _renamed(world):
    world.router.host.sh("ip link set eth1 down; ip link set eth1 name lost1; ip link set lost1 up")
    world.router.ifdown(plan.ISP1)


def _named_in_any_case(world):
    if not world.router.link_up[plan.ISP1.name]:
        _named_again(world)


def _named_again(world):
    world.router.host.sh("ip link set lost1 down; ip link set lost1 name eth1; ip link set eth1 up")
    world.router.ifup(plan.ISP1)


def _backup_vanishes(world):
    world.router.host.sh("ip link set eth2 down")
    world.router.ifdown(plan.ISP2)


def _backup_again(world):
    world.router.host.sh("ip link set eth2 up")
    world.router.ifup(plan.ISP2)


# The router's own means.


def _small_state(world):
    world.router.host.sh(f"mkdir -p {_SMALL}; mount -t tmpfs -o size=128k small {_SMALL}")


def _full(world):
    fill = f"dd if=/dev/zero of={_SMALL}/filler bs=4k"
    done = world.router.host.run(["sh", "-c", f"{fill} 2>&1; true"])
    expect("No space left" in done, f"not full: {done}")


def _not_full(world):
    world.router.host.sh(f"rm {_SMALL}/filler")


def _unmount(place):
    def undo(world):
        world.router.host.sh(f"umount {place} 2>/dev/null || true")

    return undo


def _flash(world):
    world.router.host.sh(f"mkdir -p {_KEPT}; mount -t tmpfs -o size=256k flash {_KEPT}")


def _read_only(world):
    world.router.host.sh(f"mount -o remount,ro {_KEPT}")


def _writable(world):
    world.router.host.sh(f"mount -o remount,rw {_KEPT}")


def _limit(*limits):
    """Changes the living daemon's limits (prlimit(1))."""

    def change(world):
        pid = world.router.tailover.pid
        world.router.host.run(["prlimit", "--pid", str(pid), *limits], check=False)

    return change


def _no_descriptors(world):
    pid = world.router.tailover.pid
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    world.router.host.run(["prlimit", "--pid", str(pid), f"--nofile={used}:4096"])


def _no_memory(world):
    pid = world.router.tailover.pid
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    # 128 kB above what it has.
    world.router.host.run(["prlimit", "--pid", str(pid), f"--as={pages * 4096 + 131072}:unlimited"])


# tailover itself.


def _second_daemon(world):
    command = ["timeout", "10", "/usr/sbin/tailover", "run"]
    done = subprocess.run(world.router.host.command(command), capture_output=True, text=True)
    said = done.stdout + done.stderr
    expect(done.returncode not in (0, 124), f"a second daemon ran: code {done.returncode}: {said}")
    expect("not started" in said, f"a second daemon said: {said}")


def _kill(number):
    def kill(world):
        world.router.tailover.send_signal(number)
        world.router.tailover.wait(15)
        world.router.respawn_tailover()

    return kill


def _reload(text):
    def reload(world):
        world.router.host.write("config/tailover", text)
        world.router.tailover.send_signal(signal.SIGHUP)

    return reload


_OTHER = TAILOVER_CONFIG.replace("hold '10'", "hold '12'") + "\toption interval '7'\n\toption settle '1'\n"
_WRONG = TAILOVER_CONFIG + "\toption interval 'soon'\n"

TROUBLES = [
    Trouble("ubusd_killed", lambda world: world.router.kill_ubus(), lambda world: world.router.revive_ubus()),
    Trouble("ubusd_silent", _ubusd_stopped, _ubusd_goes_on, 12.0),
    Trouble(
        "objects_gone", lambda world: world.router.kill_netifd(), lambda world: world.router.start_netifd()
    ),
    Trouble("hotplug_storm", _storm, span=1.0),
    Trouble("tailscaled_killed", _signal_tailscaled("KILL"), restarts=1, gap=True, may=("nudge", "renew")),
    # Longer than tailover's patience with it.
    Trouble(
        "tailscaled_stopped", _signal_tailscaled("STOP"), span=45.0, restarts=1, gap=True,
        may=("nudge", "renew", "restart"),
    ),
    _api("garbage", restarts=1, may=("restart", "nudge", "renew"), gap=True),
    _api("half", restarts=1, may=("restart", "nudge", "renew"), gap=True),
    _api("silent", restarts=1, may=("restart", "nudge", "renew"), gap=True),
    _api("endless", restarts=1, may=("restart", "nudge", "renew"), gap=True),
    _api("500", restarts=1, may=("restart", "nudge", "renew"), gap=True),
    _api("403", restarts=1, may=("restart", "nudge", "renew"), gap=True),
    Trouble("netlink_flood", _flood_routes, span=1.0),
    Trouble("rules_gone", _rules_gone, gap=True),
    Trouble("place_occupied", _occupied, _still_occupied, undo=_free_again),
    Trouble(
        "first_renamed", _renamed, _named_again, gap=True, may=("steer", "nudge", "renew"),
        undo=_named_in_any_case,
    ),
    Trouble("backup_vanishes", _backup_vanishes, _backup_again, 3.0, gap=True, may=("steer", "nudge", "renew")),
    Trouble(
        "state_full", _full, _not_full, prepare=_small_state, undo=_unmount(_SMALL),
        options=f"\toption state_dir '{_SMALL}'\n",
    ),
    Trouble(
        "flash_read_only", _read_only, _writable, prepare=_flash, undo=_unmount(_KEPT),
        options=f"\toption history '{_KEPT}/history'\n",
    ),
    Trouble("no_descriptors", _no_descriptors, _limit("--nofile=1024:4096"), 12.0),
    Trouble("no_memory", _no_memory, _limit("--as=unlimited:unlimited"), 12.0, gap=False),
    Trouble("second_daemon", _second_daemon, span=0.5),
    Trouble("ended_and_started", _kill(signal.SIGTERM), span=1.0),
    Trouble("killed_and_started", _kill(signal.SIGKILL), span=1.0),
    Trouble("reloaded", _reload(_OTHER), _reload(TAILOVER_CONFIG), 3.0),
    Trouble("reloaded_with_an_error", _reload(_WRONG), _reload(TAILOVER_CONFIG), 3.0),
]


# The moments.


def _while_idle(world, trouble):
    since = time.monotonic()
    _through(world, trouble)
    _await_well(world, "isp1")
    done = [act for act in acts(world) if act not in trouble.may]
    expect(not done, f"acted on a healthy tailnet: {acts(world)}")
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(trouble.gap or gap <= 1.5, f"the tailnet paused for {gap:.1f} s")


def _while_steering(world, trouble):
    expect_back(fail_over(world, "tailover"))
    await_quiet(world)
    since = time.monotonic()
    _through(world, trouble)
    _await_well(world, "isp2")
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(trouble.gap or gap <= 1.5, f"the tailnet paused for {gap:.1f} s")


def _in_cure(cure):
    def moment(world, trouble):
        begun = _begins(world, cure)
        world.isp1.blackhole()
        # The daemon may see it before mwan3 does.
        told = not _within(begun, DISCONNECTED_AFTER)
        if told:
            world.router.disconnected(plan.ISP1)
            _await_cure(world, begun, cure)
        _through(world, trouble)
        if not told:
            world.router.disconnected(plan.ISP1)
        _await_well(world, "isp2")

    return moment


def _in_mend(world, trouble):
    _at(world, "mend", lambda: world.router.restart_mwan3())
    _through(world, trouble)
    _await_well(world, "isp1")


def _in_restart(world, trouble):
    def hang():
        _signal_tailscaled("STOP")(world)
        world.router.hotplug("connected", plan.ISP1.wan, plan.ISP1.device, FIRSTCONNECT="")

    _at(world, "restart", hang)
    _through(world, trouble)
    _await_well(world, "isp1")


MOMENTS = {
    "idle": _while_idle,
    "steering": _while_steering,
    "steer": _in_cure("steer"),
    "nudge": _in_cure("nudge"),
    "renew": _in_cure("renew"),
    "mend": _in_mend,
    "restart": _in_restart,
}


def _at(world, cure, harm):
    """Does the harm and waits until the daemon begins with that cure."""
    begun = _begins(world, cure)
    harm()
    _await_cure(world, begun, cure)


def _begins(world, cure):
    """Gives a function: whether the daemon has begun with that cure from now on."""
    before = len(world.router.log_of_tailover())
    return lambda: f"cure {cure}" in world.router.log_of_tailover()[before:]


def _await_cure(world, begun, cure):
    try:
        wait_until(begun, 60, f"`cure {cure}`", every=0.01)
    except TimeoutError as problem:
        raise Failed(f"{problem}; its last words: {_last_words(world)}") from problem


def _within(condition, span):
    """Whether the condition comes true within `span` seconds."""
    try:
        wait_until(condition, span, "it", every=0.01)
    except TimeoutError:
        return False
    return True


def _last_words(world):
    return " | ".join(world.router.log_of_tailover().splitlines()[-12:])


def _through(world, trouble):
    trouble.begin(world)
    until = time.monotonic() + trouble.span
    while time.monotonic() < until:
        _as_procd(world)
        time.sleep(0.1)
    trouble.end(world)


def _as_procd(world):
    """Starts a daemon again that has ended by itself."""
    if world.router.tailover.poll() is not None:
        linger(_RESPAWN_AFTER)
        world.router.respawn_tailover()


def _await_well(world, isp):
    """Waits until the tailnet is well over that ISP, and the daemon has nothing to do."""

    def well():
        _as_procd(world)
        return (
            world.pings.steady(4, 3)
            and world.pings.steady(6, 3)
            and world.watch.control_now() == {isp}
            and status(world)["stage"] == "quiet"
        )

    try:
        wait_until(well, WELL_WITHIN, f"a tailnet that is well over {isp}")
    except TimeoutError as problem:
        raise Failed(f"{problem}: {world.describe()}; the daemon's last words: {_last_words(world)}") from problem


def survive(world, trouble, moment):
    """One trouble at one moment. Returns a sentence; raises Failed and TimeoutError."""
    trouble.prepare(world)
    try:
        start_tailover(world, trouble.options)
        begun = time.monotonic()
        MOMENTS[moment](world, trouble)
        took = time.monotonic() - begun
        if moment not in ("idle", "mend", "restart"):
            world.isp1.restore()
            linger(1)
            world.router.connected(plan.ISP1)
            _await_well(world, "isp1")
            wait_until(lambda: world.marked_device() == "eth1", WELL_WITHIN, "the mark on the first uplink")
        wait_until(lambda: not world.router.traces_of_tailover(), WELL_WITHIN, "the end of the steering")
        restarts = world.watch.restarts(begun)
        allowed = trouble.restarts + (moment == "restart")
        expect(restarts <= allowed, f"{restarts} restarts of tailscaled, {allowed} allowed: {acts(world)}")
        return f"well after {seconds(took)}, {restarts} restarts"
    finally:
        try:
            world.router.stop_tailover()
        finally:
            trouble.undo(world)


def attempt(world, name, moment):
    """The same from a settled state; gives a sentence, and whether it was survived."""
    trouble = next(trouble for trouble in TROUBLES if trouble.name == name)
    try:
        world.settle("direct")
        return survive(world, trouble, moment), True
    except (Failed, TimeoutError, HostError, OSError) as problem:
        return str(problem), False


def pairs(names, moments, seed):
    """The (trouble, moment) pairs whose names contain one of these, in an order of chance."""
    chosen = [
        (trouble.name, moment)
        for trouble in TROUBLES
        for moment in moments or MOMENTS
        if not names or any(name in trouble.name for name in names)
    ]
    random.Random(seed).shuffle(chosen)
    return chosen


# Scenarios.


def troubles_short(world):
    """Some troubles, each at the moment where it hurts most, and the tailnet is well after them."""
    chosen = [
        ("ubusd_silent", "steer"),
        ("localapi_garbage", "renew"),
        ("rules_gone", "steering"),
        ("no_descriptors", "nudge"),
        ("state_full", "steer"),
    ]
    texts = []
    for name, moment in chosen:
        text, good = attempt(world, name, moment)
        expect(good, f"{name} at {moment}: {text}")
        texts.append(f"{name} at {moment}: {text}")
    return "; ".join(texts)


def killed_at_random(world, times=200):
    """SIGKILL at a random instant of a failover or a failback, a fresh start: the tailnet is well, each time."""
    dice = random.Random(world.seed)
    start_tailover(world)
    worst = 0.0
    for number in range(times):
        dark = number % 2 == 0
        if dark:
            world.isp1.blackhole()
            world.router.disconnected(plan.ISP1)
        else:
            world.isp1.restore()
            world.router.connected(plan.ISP1)
        # Its acts are in these seconds; with a hold of 10 s those of the way back are later.
        linger(dice.uniform(0, 4) + (0 if dark else dice.choice((0, 9))))
        begun = time.monotonic()
        _kill(signal.SIGKILL)(world)
        try:
            _await_well(world, "isp2" if dark else "isp1")
        except Failed as problem:
            raise Failed(f"kill {number + 1} of {times}: {problem}; seed {world.seed}") from problem
        worst = max(worst, time.monotonic() - begun)
    wait_until(lambda: not world.router.traces_of_tailover(), WELL_WITHIN, "the end of the steering")
    said = f"{times} kills, well within {seconds(worst)} each time; seed {world.seed}"
    if record.asked():
        record.note("kills", f"seed {world.seed}", count=times, said=said, program=record.program())
    return said


def killed_ten_times(world):
    """The same ten times."""
    return killed_at_random(world, 10)
