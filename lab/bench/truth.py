"""What is true of the outside at each instant of a run, whatever the router believes."""

import time

from .. import plan


class Truth:
    """Kept by the scenario, asked by those who judge. All times are monotonic seconds."""

    def __init__(self):
        # (since, {isp: families that reach the outside}), oldest first.
        self._reach = [(0.0, {isp.name: {4, 6} for isp in plan.ISPS})]
        # When something was broken; and control's flows that were dead from an instant on.
        self.faults = []
        self.doomed = []
        # How often the kernel has lost something of tailscaled's.
        self.losses = 0

    def reaches(self, isp, families):
        """From now on an uplink reaches the outside over these families, and no others."""
        now = time.monotonic()
        last = self._reach[-1][1]
        self._reach.append((now, last | {isp: set(families)}))
        if set(families) < last[isp]:
            self.faults.append(now)

    def broken(self):
        """Something other than an uplink's reach has just been broken."""
        self.faults.append(time.monotonic())

    def loses(self):
        """The kernel lacks something of tailscaled's from now on, or has it in the wrong place."""
        self.losses += 1

    def lost_flows(self, ports):
        """Control's flows of these local ports are dead from now on."""
        self.doomed.append((time.monotonic(), set(ports)))

    def open_at(self, when):
        """The ISPs that reach the outside over any family at that time, best first."""
        reach = self._reach_at(when)
        return [isp.name for isp in plan.ISPS if reach[isp.name]]

    def dead(self, when, isp, family):
        """Whether that ISP does not reach the outside over that family at that time."""
        return family not in self._reach_at(when)[isp]

    def _reach_at(self, when):
        return [reach for since, reach in self._reach if since <= when][-1]

    def outside_down(self, when, margin=0.0):
        """Whether no uplink reached the outside from `margin` seconds before until then."""
        instants = [when - margin, when]
        instants += [since for since, _ in self._reach if when - margin <= since <= when]
        return not any(self.open_at(instant) for instant in instants)

    def dead_ports(self, when):
        """Local ports of control's flows that were dead at that time."""
        dead = set()
        for since, ports in self.doomed:
            if since <= when:
                dead |= ports
        return dead

    def fault_within(self, when, seconds):
        """Whether something was broken in the seconds before `when`."""
        # Some acts are noted to the hundredth of a second.
        return any(when - seconds <= fault <= when + 0.05 for fault in self.faults)
