//! What is true of the world, whatever the daemon believes.

use super::*;

impl World {
    /// The tailnet works: control and relay sit on flows that the path carries.
    pub fn well(&self) -> bool {
        let live = |l: &Option<Link>| l.as_ref().is_some_and(|l| self.carries(l));
        let whole = self.lost.is_none();
        self.running && !self.hung && whole && live(&self.control) && live(&self.derp)
    }

    /// Fails where it does not, and says where the machine stands.
    #[track_caller]
    pub fn must_be_well(&self) {
        self.must_be_well_in(&"the story");
    }

    /// The same in one story of several.
    #[track_caller]
    pub fn must_be_well_in(&self, story: &dyn std::fmt::Display) {
        let (stage, faults) = (self.core.stage(), self.core.faults());
        assert!(self.well(), "{story}: {stage:?} {faults:?}");
    }

    /// What is wrong now, if anything is, can be put right by the daemon: an uplink gets out, the control
    /// server answers, and tailscaled runs, answers and is wanted.
    pub fn curable(&self) -> bool {
        let served = !self.hung && self.running && self.held && self.user_stopped.is_none();
        let able = !self.restart_fails && !self.mending_fails && !self.no_way && self.names_up;
        let out = (0..2).any(|i| self.open(i) && self.isps[i].narrow.is_none());
        served && able && out && self.reachable() && self.refuses.is_none() && self.known()
    }

    /// The control server answers those who ask it now.
    pub(super) fn reachable(&self) -> bool {
        self.control_up && !self.clock_behind
    }

    /// The daemon has seen this tailscaled online. One that it never did may be offline for a reason of
    /// its own, so that alone is no fault to it.
    pub fn known(&self) -> bool {
        let k = self.core.knowledge();
        k.online_seen && k.tailnet.pid == Some(self.pid)
    }

    /// Only a restart can help, so pauses and the cap decide when.
    pub fn needs_restart(&self) -> bool {
        self.stubborn || self.lost == Some(false) || self.restarting
    }

    pub fn steered(&self) -> bool {
        self.steering
            .iter()
            .any(|s| s.to.is_some() || s.keep.is_some())
    }

    pub fn cures(&self) -> impl Iterator<Item = &Act> {
        self.acts.iter().filter(|a| {
            matches!(
                a.action,
                Action::Steer(..) | Action::Nudge | Action::Renew | Action::Mend | Action::Restart
            )
        })
    }

    pub fn count(&self, which: impl Fn(&Action) -> bool) -> usize {
        self.acts.iter().filter(|a| which(&a.action)).count()
    }
}
