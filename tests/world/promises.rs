//! The promises, held against each act.

use super::*;

/// The core believes an uplink to be open between two answers that are no further apart.
const UNASKED: Duration = Duration::from_secs(15);

/// A restart goes by an answer of the control server that is no older. What died since then is not known.
const CONTROL_FRESH: Duration = Duration::from_secs(5);

/// A full round tells of lost large packets, and comes within a minute.
const TOLD_WITHIN: Duration = Duration::from_secs(90);

impl World {
    /// `told` are the acts that the same step has a line for.
    pub(super) fn judge(&mut self, action: &Action, told: &[Cure]) {
        let outside = (0..2).any(|i| self.open(i) || self.recently(self.isps[i].last_open, 20 * S));
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
        if cure && !outside {
            found.push("promise 1: a cure while no uplink reaches the outside");
        }
        let stopped = self.user_stopped.is_some() && self.stop_known;
        if matches!(action, Action::Nudge | Action::Renew | Action::Restart) && stopped {
            found.push("promise 1: a cure although the user stopped Tailscale");
        }
        let mends = *action == Action::Mend;
        if (cure || mends) && !named(action).is_some_and(|cure| told.contains(&cure)) {
            found.push("promise 6: an act without a line");
        }
        match action {
            Action::Mend if stopped => {
                found.push("promise 1: mended although the user stopped it");
            }
            // A look is 10 ms old when its word is heard.
            Action::Mend if self.lost.is_none() && !self.recently(self.whole_since, S) => {
                found.push("mended although nothing is lost");
            }
            Action::Restart => self.judge_restart(&mut found),
            Action::Steer(f, s) if self.too_early(*f, s) => {
                found.push("promise 7: back to an uplink that was not stable");
            }
            _ => {}
        }
        for what in found {
            let text = format!("{what} at {:?}: {action:?}", self.now);
            self.broken.push(text);
        }
    }

    fn recently(&self, t: Option<Duration>, span: Duration) -> bool {
        t.is_some_and(|t| self.now - t <= span)
    }

    fn judge_restart(&self, found: &mut Vec<&str>) {
        let mut broken = |what| found.push(what);
        // A look at a silent tailscaled takes 2 s; its recovery is known after that.
        let alive = self.running && !self.hung && !self.recently(self.unhung, 5 * S);
        let control = self.reachable() || self.now - self.last_control <= 10 * S;
        if alive && !control {
            broken("promise 1: a restart while the control server is down");
        }
        let narrow = |i: usize| {
            self.isps[i]
                .narrow
                .is_some_and(|t| self.now - t > TOLD_WITHIN)
        };
        let lately =
            |i: &usize| self.open(*i) || self.recently(self.isps[*i].last_open, CONTROL_FRESH);
        let open = || (0..2).filter(lately);
        if alive && open().count() > 0 && open().all(narrow) {
            broken("promise 1: a restart where no handshake comes to its end");
        }
        let unmendable = self.lost == Some(false) || self.recently(self.whole_since, 40 * S);
        if alive && !self.mild_since_health && !self.only_restart && !unmendable {
            broken("promise 2: a restart before a milder cure");
        }
        if self.restarting {
            broken("promise 3: two restarts at once");
        }
        let limits = &self.core.policy().limits;
        let within = |t: &Duration| self.now - *t < 3600 * S;
        let recent = self.restarts.iter().filter(|t| within(t)).count();
        if recent >= limits.per_hour as usize {
            broken("promise 3: more restarts in an hour than allowed");
        }
        let last = self.restarts.last();
        if last.is_some_and(|t| self.now - *t < limits.min) {
            broken("promise 3: no pause between two restarts");
        }
    }

    /// Back to the better uplink while the other still works: only after the hold.
    fn too_early(&self, family: Family, steering: &Steering) -> bool {
        let from = self.steering[family.at_index()]
            .to
            .as_ref()
            .map(|h| h.device.as_str());
        let to = match &steering.to {
            Some(hop) => hop.device.as_str(),
            None => (0..2)
                .find(|i| self.isps[*i].carrier)
                .map_or("", |i| DEVICES[i]),
        };
        let [better, backup] = &self.isps;
        // A mark that leads nowhere is moved without waiting.
        let lost = self.no_way || self.recently(self.way_again, 10 * S);
        // So is one that was dead a moment ago, and one where control cannot be made anew.
        let died = self.recently(self.shut_at[1][family.at_index()], 10 * S);
        let narrow = backup.narrow.is_some() || self.recently(backup.wide, TOLD_WITHIN);
        let back = from == Some("eth2") && to == "eth1";
        if !back || lost || died || narrow {
            return false;
        }
        let works = self.open(1) && backup.open_since.is_some_and(|t| self.now - t > 10 * S);
        let hold = self.core.policy().hold;
        let unnoticed = |t: Duration| better.opened.saturating_sub(t) <= UNASKED;
        let stable = better.open_since.is_some_and(|t| self.now - t + S >= hold)
            || self.recently(better.last_open, S)
            || better.last_open.is_some_and(unnoticed);
        let drilled = self.now <= self.drill_until && self.open(0);
        works && !stable && !drilled
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
