//! Takes uplinks and paths: what is new, what has moved, what is gone.

use std::net::IpAddr;

use super::*;

impl Core {
    pub(super) fn take_uplinks(&mut self, now: Time, uplinks: Vec<Uplink>) {
        let known = |name: &String| uplinks.iter().any(|u| u.name == *name);
        for ((name, _), judgement) in &mut self.k.verdicts {
            if !known(name) {
                judgement.forget(now);
            }
        }
        if self.k.verdicts.len() > VERDICTS_KEPT {
            self.k.verdicts.retain(|(name, _), _| known(name));
        }
        let fresh: Vec<String> = uplinks
            .iter()
            .filter(|u| !self.k.uplinks.iter().any(|old| old.name == u.name))
            .map(|u| u.name.clone())
            .collect();
        let gone = self.k.uplinks.iter().find(|old| !known(&old.name));
        let news = match (fresh.first(), gone) {
            _ if self.k.uplinks.is_empty() => None,
            (Some(name), _) => Some(format!("uplink {name} has appeared")),
            (None, Some(u)) => Some(format!("uplink {} is gone", u.name)),
            (None, None) => None,
        };
        self.k.uplinks = uplinks;
        for f in Family::BOTH {
            self.refresh_steering(f);
        }
        // An uplink that appears in the middle of an assessment belongs to it.
        if let Stage::Proving { .. } = self.stage {
            for name in fresh.clone() {
                for f in Family::BOTH {
                    self.probe_uplink(now, &name, f, Effort::Burst);
                }
            }
        } else if let Some(text) = news {
            self.hear(now, Origin::Event, text, fresh.first().cloned());
        }
    }

    /// Follows a changed gateway or address of the uplink that the mark is steered to.
    pub(super) fn refresh_steering(&mut self, family: Family) {
        let Some(to) = &self.k.steering(family).to else {
            return;
        };
        let now_is = self
            .k
            .uplinks
            .iter()
            .find(|u| u.device == to.device)
            .and_then(|u| Knowledge::hop(u, family));
        if let Some(hop) = now_is.filter(|hop| hop != to) {
            let steering = Steering {
                to: Some(hop),
                keep: self.k.steering(family).keep.clone(),
            };
            self.k.steering[family.at()] = steering.clone();
            self.out.push(Action::Steer(family, steering));
        }
    }

    pub(super) fn take_paths(&mut self, now: Time, routes: [Option<Route>; 2]) {
        let ours = std::mem::take(&mut self.path_unread);
        let first = self.k.paths_read.is_none();
        self.k.paths_read = Some(now);
        let mut moved = Vec::new();
        let mut twins = Vec::new();
        for (f, route) in Family::BOTH.into_iter().zip(routes) {
            if route.is_none() && !self.is_gone(now, f) {
                continue;
            }
            self.away[f.at()] = Away::No;
            let old = std::mem::replace(&mut self.k.paths[f.at()].route, route);
            if old != self.k.paths[f.at()].route {
                twins.extend(same_source(
                    old.as_ref(),
                    self.k.paths[f.at()].route.as_ref(),
                ));
                // Public addresses belong to uplinks; another way has another one.
                self.k.paths[f.at()].judgement = Judgement::default();
                self.k.paths[f.at()].usual_rtt = None;
                self.forget_left(now, f, old.as_ref());
                moved.push(f);
            }
        }
        if let Stage::Proving { since } = self.stage {
            if ours || !moved.is_empty() {
                self.prove_new_path(now, since, &moved);
            }
        }
        if moved.is_empty() {
            return;
        }
        self.k.epoch = Epoch::begin(now, &self.k.tailnet.flows, self.drill_is_over());
        for address in twins {
            self.k.epoch.doom(&self.k.tailnet.flows, address);
        }
        match self.stage {
            Stage::Proving { .. } => {
                for f in moved {
                    self.probe_path(now, f, Effort::Burst);
                }
            }
            Stage::Curing { .. } => self.again = true,
            _ if first => {}
            _ => {
                let text = moved
                    .iter()
                    .map(|f| match &self.k.path(*f).route {
                        Some(r) => {
                            format!("{f} path moved to {}", self.k.name_device(&r.device))
                        }
                        None => format!("{f} path is gone"),
                    })
                    .collect::<Vec<_>>()
                    .join(", ");
                self.prove(now, Origin::Path, text);
            }
        }
    }

    /// An uplink that the mark was moved away from has to prove itself again, from now, before the
    /// mark goes back. One that is drilled did not fail.
    fn forget_left(&mut self, now: Time, family: Family, old: Option<&Route>) {
        let left = self.left[family.at()].as_ref();
        let Some(left) = old.map(|r| &r.device).filter(|d| left == Some(*d)) else {
            return;
        };
        if self.k.drilled(left, family) {
            return;
        }
        for u in self.k.uplinks.iter().filter(|u| u.device == *left) {
            let key = (u.name.clone(), family);
            let judgement = self.k.verdicts.entry(key).or_default();
            // Short rounds do not tell that these have gone.
            let flaws = judgement.flaws.lasting();
            judgement.forget(now);
            judgement.flaws = flaws;
        }
    }

    /// After a move, ours or another hand's: the path is proved even where the kernel's route did
    /// not change, and the uplink it uses is asked for the control server unless that was done already.
    fn prove_new_path(&mut self, now: Time, since: Time, moved: &[Family]) {
        for f in Family::BOTH {
            let Some(name) = self.k.path_uplink(f).map(|u| u.name.clone()) else {
                continue;
            };
            let path = &self.k.path(f).judgement;
            let told = path.pending() || path.open_since(since) || path.shut_since(since);
            if !told && !moved.contains(&f) {
                self.probe_path(now, f, Effort::Burst);
            }
            let asked = self
                .k
                .verdict(&name, f)
                .is_some_and(|j| j.control_since(since) || j.bursting());
            if !asked {
                self.probe_uplink(now, &name, f, Effort::Burst);
            }
        }
    }

    /// Whether a path that the kernel does not know just now is gone, or only away.
    fn is_gone(&mut self, now: Time, family: Family) -> bool {
        let away = &mut self.away[family.at()];
        if *away == Away::No && self.k.paths[family.at()].route.is_some() {
            *away = Away::Since(now);
        }
        !matches!(away, Away::Since(_))
    }
}

/// The address that both routes send from although they leave by different devices.
fn same_source(old: Option<&Route>, new: Option<&Route>) -> Option<IpAddr> {
    let (old, new) = (old?, new?);
    let both = old.device != new.device && old.source == new.source;
    new.source.filter(|_| both)
}

#[cfg(test)]
mod tests;
