"""What a scenario is played on: the world with its faults, mwan3's tracking, and what is true outside."""

import time

from .. import plan
from ..steps import linger
from .truth import Truth

# From a lost carrier to netifd's ifdown (10 to 40 ms), and mwan3's word that follows it.
_CARRIER_NOTICED = 0.3

_FAMILIES = (4, 6)


class Stage:
    """One run under way. The scenario sets `zero`, the instant that all seconds count from."""

    def __init__(self, world, tracker, begin_treatment):
        self.world = world
        self.tracker = tracker
        self.truth = Truth()
        self.begin_treatment = begin_treatment
        self.zero = None

    def count_from_now(self):
        """Seconds count from this instant."""
        self.zero = time.monotonic()

    # An uplink fails or returns.

    def dark(self, isp, fault="blackhole", tracked="dark"):
        """Nothing gets through an uplink any more; `tracked` is what mwan3's pings meet."""
        getattr(self.world.isps[isp], fault)()
        self._changed(isp, (), tracked)

    def dark_family(self, isp, family):
        """Nothing of one family gets through."""
        self.world.isps[isp].dark(family)
        self.truth.reaches(isp, [other for other in _FAMILIES if other != family])
        self.tracker.tell(self._plan(isp), "dark", (family,))

    def carrier_lost(self, isp):
        """The cable is out; netifd takes the uplink down."""
        self.world.isps[isp].link_down()
        self.truth.reaches(isp, ())
        linger(_CARRIER_NOTICED)
        self.world.router.ifdown(self._plan(isp))
        self.tracker.forget(self._plan(isp))

    def back(self, isp):
        """The uplink is as before."""
        self.world.isps[isp].restore()
        self._changed(isp, _FAMILIES, "back")

    def shut_before(self, isp, fault):
        """An uplink that was dead, and known to be, before anything began."""
        getattr(self.world.isps[isp], fault)()
        self.world.router.disconnected(self._plan(isp))
        self._changed(isp, (), "dark")
        self.truth.faults.clear()

    def _changed(self, isp, families, tracked):
        self.truth.reaches(isp, families)
        self.tracker.tell(self._plan(isp), tracked)

    def _plan(self, isp):
        return next(spec for spec in plan.ISPS if spec.name == isp)

    # Something else.

    def new_public_address(self):
        """The first uplink's NAT forgets everything, control's connections over IPv4 with it."""
        ports = self.world.node.control_ports()
        self.world.isp1.new_address()
        self.truth.lost_flows(ports)
        self.truth.broken()

    def await_tracker(self):
        """Waits until mwan3 has said all that it has to say."""
        while self.tracker.pending():
            linger(0.05)
