"""Scenarios with a drill: a failover is rehearsed on the real tailnet, and all is put right."""

import json
import signal
import time

from . import plan
from .hosts import wait_until
from .paths import LOGS
from .rescues import acts, faults
from .steps import PATIENCE, await_quiet, expect, expect_lan, linger, seconds, start_tailover, status

# The drill stays on the other uplink for so long once the tailnet is well there.
_STAY = 4


def drill_wan(world):
    """A drill moves control to the second uplink and back, and the LAN's way stays as it is."""
    start_tailover(world)
    before = _foreign(world)
    since = time.monotonic()
    log = _log(world)
    drill = _begin(world)
    wait_until(lambda: world.watch.control_now() == {"isp2"}, PATIENCE, "control on the second uplink")
    expect(world.marked_device() == "eth2", "tailscaled's packets have not moved")
    expect_lan(world)
    expect(_foreign(world) == before, "rules or routes that are not tailover's have changed")
    told = faults(world)
    expect(set(told) <= {"drill", "F2-stuck-control", "F3-stale-paths"}, f"faults were named: {told}")
    code = drill.wait(60)
    text = log()
    expect(code == 0, f"the drill ended with {code}: {text}")
    _expect_put_right(world, before)
    expect("fault " not in world.router.log_of_tailover(), "a fault was named")
    figures = _newest(world)
    wait_until(lambda: world.pings.steady(4, 2) and world.pings.steady(6, 2), PATIENCE, "pings")
    gaps = [world.pings.worst_gap(since, time.monotonic() - 0.5, family) for family in (4, 6)]
    expect("restart" not in acts(world), f"restarted: {acts(world)}")
    return (
        f"control {seconds(figures['control'])}, tailnet {seconds(figures['tailnet'])}, back"
        f" {seconds(figures['back'])}; worst ping gap v4 {gaps[0]:.1f} s v6 {gaps[1]:.1f} s"
    )


def drill_interrupted(world):
    """Ctrl-C, a killed command, a stopped and a killed daemon: each drill is put right."""
    start_tailover(world)
    before = _foreign(world)
    said = []

    drill = _moved(world)
    interrupted = time.monotonic()
    drill.send_signal(signal.SIGINT)
    wait_until(lambda: _by_main(world), PATIENCE, "the mark by main after Ctrl-C")
    said.append(f"Ctrl-C {time.monotonic() - interrupted:.1f} s")
    code = drill.wait(PATIENCE)
    expect(code == 1, f"an interrupted drill ended with {code}")
    _expect_put_right(world, before)

    drill = _moved(world)
    killed = time.monotonic()
    drill.kill()
    drill.wait()
    wait_until(lambda: _by_main(world), PATIENCE + _STAY, "the mark by main, the command killed")
    said.append(f"command killed {time.monotonic() - killed:.1f} s")
    _expect_put_right(world, before)

    drill = _moved(world)
    world.router.tailover.send_signal(signal.SIGTERM)
    expect(world.router.tailover.wait(10) == 0, "the daemon did not end well")
    expect(_by_main(world), f"left behind: {world.router.traces_of_tailover()}")
    expect(drill.wait(PATIENCE) == 3, "the command did not say that the daemon is gone")
    expect(_foreign(world) == before, "rules or routes that are not tailover's have changed")
    said.append("daemon stopped: nothing left")

    start_tailover(world)
    drill = _moved(world)
    world.router.tailover.kill()
    world.router.tailover.wait()
    drill.wait(PATIENCE)
    expect(not _by_main(world), "the steering went with the killed daemon")
    linger(2)
    again = time.monotonic()
    start_tailover(world)
    wait_until(lambda: _by_main(world), 60, "the mark by main after the daemon's new start")
    said.append(f"daemon killed, new start {time.monotonic() - again:.1f} s")
    _expect_put_right(world, before)
    return "; ".join(said)


def _begin(world):
    """Starts the drill's command; its output is in the log of that name."""
    words = ["/usr/sbin/tailover", "drill", plan.ISP1.wan, "--seconds", str(_STAY)]
    return world.router.host.spawn("drill", words)


def _log(world):
    """A function that gives what the drills from now on have written."""
    file = LOGS / f"{world.router.host.name}-drill.log"
    size = file.stat().st_size if file.exists() else 0

    def read():
        with open(file, "rb") as log:
            log.seek(size)
            return log.read().decode()

    return read


def _moved(world):
    """Starts a drill and waits until the tailnet is well over the second uplink."""
    await_quiet(world)
    drill = _begin(world)

    def well():
        return (status(world)["episode"] or {}).get("drill", {}).get("tailnet") is not None

    wait_until(well, PATIENCE, "the tailnet over the second uplink")
    return drill


def _by_main(world):
    """Whether tailover's rules and routes are gone and the packets leave by the first uplink."""
    return not world.router.traces_of_tailover() and world.marked_device() == "eth1"


def _expect_put_right(world, before):
    """Everything must be as it was, and control on the first uplink."""
    wait_until(lambda: _by_main(world), PATIENCE, "the mark by main")
    wait_until(lambda: world.watch.control_now() == {"isp1"}, PATIENCE, "control on the first uplink")
    await_quiet(world)
    left = world.router.traces_of_tailover()
    expect(not left, f"left behind: {left}")
    expect(_foreign(world) == before, "rules or routes that are not tailover's have changed")
    expect_lan(world)


def _foreign(world):
    """All rules and routes that are not tailover's."""
    tables = [
        world.router.host.run(["ip", "-d", family, *what.split()])
        for family in ("-4", "-6")
        for what in ("rule show", "route show table all")
    ]
    lines = "\n".join(tables).splitlines()
    return [line for line in lines if "proto 122" not in line]


def _newest(world):
    """The figures of the newest episode, which must be a drill that was passed."""
    text = world.router.host.run(["tailover", "history", "--json"])
    drill = json.loads(text)["episodes"][0]["drill"]
    expect(drill and drill["passed"], f"no passed drill: {drill}")
    return drill
