"""The remedies that are compared, each as people deploy it. `begin` installs one on a settled router."""

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ..hosts import wait_until
from ..steps import PATIENCE, status

_RECIPES = Path(__file__).parent / "recipes"
_NOTED = "/run/noted-acts"
_SCRIPTS = "hotplug.d/iface"
_PID = "/run/by-event.pid"

_CONFIG = "config tailover 'main'\n\toption log_level 'debug'\n"
_ONLY_RESTART = _CONFIG + "\tlist cure 'restart'\n"

# watchcat waits for each answer as long as busybox does.
_PING_WAITS = 10.0


@dataclass(frozen=True)
class Treatment:
    """`begin` and `end` take the World. `ours`: whether it is tailover, whose own history tells its acts.
    `sees_within`: the longest that it takes to see an outage by itself, which makes a run longer."""

    key: str
    title: str
    begin: object = lambda world: None
    end: object = lambda world: None
    ours: bool = False
    sees_within: float = 0.0


# What is put on the router and taken away again.


def _text(name):
    return (_RECIPES / name).read_text()


def _mwan3_user(name):
    def begin(world):
        world.router.host.write("mwan3.user", _text(name), 0o755)
        world.router.host.write(f"{_SCRIPTS}/16-mwan3-user", _text("mwan3-user-hook"))

    return begin


def _no_mwan3_user(world):
    etc = world.router.host.etc
    for file in ("mwan3.user", f"{_SCRIPTS}/16-mwan3-user"):
        (etc / file).unlink(missing_ok=True)


def _no_metric(world):
    _no_mwan3_user(world)
    world.router.host.sh(
        "for f in -4 -6; do while ip $f route del default metric 1 2>/dev/null; do :; done; done"
    )


def _hotplug(name, place):
    def begin(world):
        world.router.host.write(f"{_SCRIPTS}/{place}", _text(name))

    return begin


def _no_hotplug(place):
    def end(world):
        (world.router.host.etc / _SCRIPTS / place).unlink(missing_ok=True)

    return end


def _watchcat(period, pingperiod):
    def begin(world):
        etc = world.router.host
        etc.write("watchcat.sh", _text("watchcat.sh"), 0o755)
        etc.write("watchcat-restart.sh", _text("watchcat-restart.sh"), 0o755)
        words = ["busybox", "ash", "/etc/watchcat.sh", period, pingperiod, "8.8.8.8", "/etc/watchcat-restart.sh"]
        # A session of its own, which is ended whole: a ping of its may be under way.
        world.watchcat = world.router.host.spawn("watchcat", ["setsid", "--wait", *words])

    return begin


def _no_watchcat(world):
    process = world.watchcat
    own = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in own:
        try:
            os.killpg(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            # It has ended meanwhile.
            pass
    process.kill()
    process.wait()


def _tailover(config):
    def begin(world):
        world.router.start_tailover(config)
        wait_until(lambda: status(world), PATIENCE, "tailover's status")

    return begin


def _no_tailover(world):
    world.router.stop_tailover()


def _by_event(world):
    world.router.host.write("config/tailover", _CONFIG)
    world.router.host.sh(f"rm -f {_PID} /run/by-event.log; rm -rf /run/tailover")
    world.router.host.write(f"{_SCRIPTS}/91-tailover-by-event", _text("by-event.hotplug"))


def _not_by_event(world):
    _no_hotplug("91-tailover-by-event")(world)
    host = world.router.host
    file = host.path(_PID)
    if file.exists():
        pid = int(file.read_text())
        host.run(["kill", str(pid)], check=False)
        wait_until(lambda: _ended(pid), 15, "the end of tailover")
    host.run(["/usr/sbin/tailover", "cleanup"], check=False)
    host.sh("rm -rf /run/tailover")


def _ended(pid):
    """Nobody may have waited for it."""
    file = Path(f"/proc/{pid}/status")
    return not file.exists() or "State:\tZ" in file.read_text()


TREATMENTS = [
    Treatment("policy", "mwan3's policy alone"),
    Treatment("mwan3-user", "mwan3.user: restart", _mwan3_user("mwan3.user.restart"), _no_mwan3_user),
    # The least that watchcat takes without a warning, and the defaults of its init script.
    Treatment("watchcat", "watchcat: restart, 2 s of failure", _watchcat(2, 1), _no_watchcat,
              sees_within=2 + 1 + 2 * _PING_WAITS),
    Treatment("watchcat-default", "watchcat: restart, 120 s of failure", _watchcat(120, 60), _no_watchcat,
              sees_within=120 + 60 + 2 * _PING_WAITS),
    Treatment("metric", "mwan3.user: lower metric in main", _mwan3_user("mwan3.user.metric"), _no_metric),
    Treatment("down-up", "mwan3.user: tailscale down, up", _mwan3_user("mwan3.user.downup"), _no_mwan3_user),
    Treatment("rebind", "rebind and restun on each WAN event", _hotplug("rebind.hotplug", "95-rebind"),
              _no_hotplug("95-rebind")),
    Treatment("tailover-events", "tailover by events only", _by_event, _not_by_event, ours=True),
    Treatment("tailover", "tailover as shipped", _tailover(_CONFIG), _no_tailover, ours=True),
    Treatment("tailover-restart", "tailover, cure 'restart' alone", _tailover(_ONLY_RESTART), _no_tailover,
              ours=True),
]
BY_KEY = {treatment.key: treatment for treatment in TREATMENTS}


# What is done to tailscaled, by whomever.


class Notes:
    """Every command to tailscaled and to its service, with its time."""

    def __init__(self, world):
        self._host = world.router.host
        # /proc/uptime counts a machine's sleep too, unlike the clock of all else here.
        self._ahead = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        real = self._host.path("/run/real")
        real.mkdir(exist_ok=True)
        places = {"tailscale": world.router.sbin / "tailscale", "service": self._host.etc / "init.d/tailscale"}
        for name, place in places.items():
            folder = real / name
            if folder.exists():
                continue
            folder.mkdir()
            # Under its own name, by which tailscaled's program knows what it is to be.
            if place.is_symlink():
                (folder / place.name).symlink_to(os.readlink(place))
            else:
                shutil.copy(place, folder / place.name)
            place.unlink()
            place.write_text(_text("noted.sh").replace("REAL", f"/run/real/{name}/{place.name}"))
            place.chmod(0o755)
        self.begin()

    def begin(self):
        """Forgets what was noted so far."""
        self._host.path(_NOTED).write_text("")

    def acts(self):
        """(monotonic seconds, what) of each act, oldest first."""
        rows = [line.split(maxsplit=1) for line in self._host.path(_NOTED).read_text().splitlines()]
        return [(float(when) - self._ahead, what) for when, what in rows]

