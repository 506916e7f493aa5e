"""What mwan3track does: it notices after a while that an uplink fails or is back, and says so.

How long that takes is a parameter. The seconds are those of a real mwan3 2.12.2 (docs/benchmark.md says
which); the tracking itself is not done anew here, because its own chance would only widen the spread.
"""

import threading
import time

from .. import plan

# Seconds from what happens to an uplink until mwan3 says so. "dark": nothing answers, each ping runs into
# its time-out. "gateway": ARP fails, which ends a ping after 3 s. "answered": an ICMP error ends it at once.
# "back": everything answers again. "default" is mwan3's own configuration: the middle of the 121 to 129 s,
# 54 to 64 s and 43 to 51 s that were recorded; "answered" is a dead gateway's without five times 3 s.
# "fast" is interval 2, down 3.
DETECTION = {
    "default": {"dark": 125.0, "gateway": 59.0, "answered": 44.0, "back": 47.0},
    "fast": {"dark": 9.0, "gateway": 9.0, "answered": 9.0, "back": 5.5},
}


class Tracker:
    """mwan3's view of the uplinks, and the hotplug calls it makes when that changes."""

    _STEP = 0.02

    def __init__(self, router, detection):
        self._router = router
        self._delays = DETECTION[detection]
        # Interface: what is wrong with it ("back" for nothing), since when.
        self._state = {name: ("back", 0.0) for isp in plan.ISPS for name in (isp.wan, isp.wan6)}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._busy = False
        self._problem = None
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def tell(self, isp, what, families=(4, 6)):
        """Something has happened to an uplink just now: a key of DETECTION's."""
        with self._lock:
            for family in families:
                self._state[_name(isp, family)] = (what, time.monotonic())

    def forget(self, isp):
        """netifd has taken the uplink down or up: mwan3 knows all there is to know of it."""
        online = self._router.mwan3.online
        with self._lock:
            for name in (isp.wan, isp.wan6):
                self._state[name] = ("back" if name in online else "down", 0.0)

    def pending(self):
        """Whether it has yet to say something. Raises what went wrong in the thread."""
        if self._problem:
            raise self._problem
        with self._lock:
            return self._busy or any(self._differs(name) for name in self._state)

    def slowest(self):
        """The longest that it takes to notice what it has yet to notice, from now; 0 for nothing."""
        now = time.monotonic()
        with self._lock:
            due = [since + self._delays[what] for name, (what, since) in self._state.items()
                   if self._differs(name)]
        return max([0.0, *(when - now for when in due)])

    def stop(self):
        """Ends the thread."""
        self._ending.set()
        self._thread.join(60)

    def _differs(self, name):
        what, _ = self._state[name]
        return what != "down" and (what == "back") != (name in self._router.mwan3.online)

    def _loop(self):
        try:
            while not self._ending.wait(self._STEP):
                self._look()
        except Exception as problem:  # pylint: disable=broad-except
            # Told by `pending`: the run is void.
            self._problem = problem

    def _look(self):
        now = time.monotonic()
        due = []
        with self._lock:
            for isp in plan.ISPS:
                for family in (4, 6):
                    name = _name(isp, family)
                    what, since = self._state[name]
                    if self._differs(name) and now - since >= self._delays[what]:
                        due.append((isp, family, what))
            self._busy = bool(due)
        # The hotplug calls take their time, so nobody is locked out meanwhile.
        for isp, family, what in due:
            change = self._router.connected if what == "back" else self._router.disconnected
            change(isp, (family,))
        if due:
            with self._lock:
                self._busy = False


def _name(isp, family):
    return isp.wan if family == 4 else isp.wan6
