//! The promises, held against each act.

use super::*;

impl World {
    /// `told` are the acts that the same step has a line for.
    pub(super) fn judge(&mut self, action: &Action, told: &[Cure]) {
        let recently =
            |t: Option<Duration>, span: Duration| t.is_some_and(|t| self.now - t <= span);
        let outside = (0..2).any(|i| self.open(i) || recently(self.isps[i].last_open, 20 * S));
        let cure = match action {
            Action::Nudge | Action::Renew | Action::Restart => true,
            // A way that is only brought up to date, as with a new gateway, is no move.
            Action::Steer(f, s) => {
                let device = s.to.as_ref().map(|h| h.device.clone());
                device.is_some() && device != self.ordered[f.at_index()]
            }
            _ => false,
        };
        let mut found: Vec<&str> = Vec::new();
        let mut broken = |what| found.push(what);
        if cure && !outside {
            broken("promise 1: a cure while no uplink reaches the outside");
        }
        let stopped = self.user_stopped.is_some() && self.stop_known;
        if matches!(action, Action::Nudge | Action::Renew | Action::Restart) && stopped {
            broken("promise 1: a cure although the user stopped Tailscale");
        }
        let mends = *action == Action::Mend;
        if (cure || mends) && !named(action).is_some_and(|cure| told.contains(&cure)) {
            broken("promise 6: an act without a line");
        }
        match action {
            Action::Mend if stopped => broken("promise 1: mended although the user stopped it"),
            // A look is 10 ms old when its word is heard.
            Action::Mend if self.lost.is_none() && !recently(self.whole_since, S) => {
                broken("mended although nothing is lost");
            }
            Action::Restart => {
                // A look at a silent tailscaled takes 2 s; its recovery is known after that.
                let alive = self.running && !self.hung && !recently(self.unhung, 5 * S);
                let control = self.reachable() || self.now - self.last_control <= 10 * S;
                if alive && !control {
                    broken("promise 1: a restart while the control server is down");
                }
                let unmendable = self.lost == Some(false) || recently(self.whole_since, 40 * S);
                // A full round tells, and comes within a minute.
                let narrow = |i: usize| self.isps[i].narrow.is_some_and(|t| self.now - t > 90 * S);
                let open = || (0..2).filter(|i| self.open(*i));
                if alive && open().count() > 0 && open().all(narrow) {
                    broken("promise 1: a restart where no handshake comes to its end");
                }
                if alive && !self.mild_since_health && !self.only_restart && !unmendable {
                    broken("promise 2: a restart before a milder cure");
                }
                let limits = self.core.policy().limits.clone();
                let hour = 3600 * S;
                if self.restarting {
                    broken("promise 3: two restarts at once");
                }
                let recent = self
                    .restarts
                    .iter()
                    .filter(|t| self.now - **t < hour)
                    .count();
                if recent >= limits.per_hour as usize {
                    broken("promise 3: more restarts in an hour than allowed");
                }
                if self
                    .restarts
                    .last()
                    .is_some_and(|t| self.now - *t < limits.min)
                {
                    broken("promise 3: no pause between two restarts");
                }
            }
            Action::Steer(f, s) => {
                // Back to the better uplink while the other still works: only after the hold.
                let from = self.steering[f.at_index()]
                    .to
                    .as_ref()
                    .map(|h| h.device.as_str());
                let to = match &s.to {
                    Some(hop) => hop.device.as_str(),
                    None => (0..2)
                        .find(|i| self.isps[*i].carrier)
                        .map_or("", |i| DEVICES[i]),
                };
                // A mark that leads nowhere is moved without waiting.
                // So is one that was dead a moment ago.
                let died = recently(self.shut_at[1][f.at_index()], 10 * S);
                let lost = self.no_way || recently(self.way_again, 10 * S);
                let back = !lost && !died && from == Some("eth2") && to == "eth1";
                let hold = self.core.policy().hold;
                let stable = self.isps[0]
                    .open_since
                    .is_some_and(|t| self.now - t + S >= hold)
                    || recently(self.isps[0].last_open, S)
                    // So long nobody may have asked.
                    || self.isps[0]
                        .last_open
                        .is_some_and(|t| self.isps[0].opened.saturating_sub(t) <= 15 * S);
                // Nor does one wait where control cannot be made anew.
                if back
                    && self.open(1)
                    && self.isps[1].narrow.is_none()
                    && !recently(self.isps[1].wide, 90 * S)
                    && self.isps[1]
                        .open_since
                        .is_some_and(|t| self.now - t > 10 * S)
                    && !stable
                    && !(self.now <= self.drill_until && self.open(0))
                {
                    broken("promise 7: back to an uplink that was not stable");
                }
            }
            _ => {}
        }
        for what in found {
            let text = format!("{what} at {:?}: {action:?}", self.now);
            self.broken.push(text);
        }
    }
}

/// The cure that an action carries out.
fn named(action: &Action) -> Option<Cure> {
    match action {
        Action::Steer(family, _) => Some(Cure::Steer(*family)),
        Action::Nudge => Some(Cure::Nudge),
        Action::Renew => Some(Cure::Renew),
        Action::Mend => Some(Cure::Mend),
        Action::Restart => Some(Cure::Restart),
        _ => None,
    }
}
