"""Looks at the router's control connections four times a second, and by which uplink they leave."""

import threading
import time
from dataclasses import dataclass

from .. import plan
from ..hosts import HostError


@dataclass(frozen=True)
class Sample:
    """One look. `flows`: of each established control connection the ISP that its local address is of, its
    local port, and the ISP by which the kernel sends it; None for that when nobody acknowledges what it sends."""

    when: float
    online: bool
    flows: tuple


class Observer:
    """A thread that looks; `samples` is what it saw so far."""

    _INTERVAL = 0.25
    # 200 ms, doubled each time (RFC 6298): nothing was acknowledged for three seconds.
    _UNHEARD = 4

    def __init__(self, world):
        self.samples = []
        self._world = world
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self):
        """Ends the thread."""
        self._ending.set()
        self._thread.join(10)

    def _loop(self):
        while not self._ending.wait(self._INTERVAL):
            when = time.monotonic()
            try:
                flows = self._world.node.control_flows()
            except (OSError, ValueError):
                # It ended between two looks.
                flows = []
            seen = tuple(self._flow(*flow) for flow in flows)
            self.samples.append(Sample(when, self._world.node.online(), seen))

    def _flow(self, address, port, resent):
        isp = self._world.router.isp_of(address)
        if resent >= self._UNHEARD:
            return (isp.name if isp else None, port, None)
        server = plan.HEADSCALE[1 if ":" in address else 0]
        asked = ["ip", "route", "get", server, "from", address, "mark", "0x80000"]
        try:
            words = self._world.router.host.run(asked, check=False).split()
        except HostError:
            words = []
        device = words[words.index("dev") + 1] if "dev" in words else None
        egress = [other.name for other in plan.ISPS if other.device == device]
        return (isp.name if isp else None, port, egress[0] if egress else None)
