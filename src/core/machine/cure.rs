//! Curing: orders the acts, one stage at a time.

use super::*;

impl Core {
    pub(super) fn cure(&mut self, now: Time, since: Time, cures: &[Cure], faults: &[Fault]) {
        let mut waiting = Vec::new();
        for cure in cures {
            match cure {
                Cure::Steer(f) => {
                    let Some(steering) = self.target(*f, since) else {
                        continue;
                    };
                    let was = self.k.path(*f).route.as_ref().map(|r| r.device.clone());
                    let to = steering.to.as_ref().map(|hop| hop.device.clone());
                    self.left[f.at()] = was.filter(|was| to.is_some_and(|to| to != *was));
                    let drill = self.k.drilled.is_some();
                    let why = fault_text(faults, |x| x.moves() == Some(*f));
                    self.order_steer(now, *f, steering, &why);
                    if let Some(e) = &mut self.episode {
                        e.tried.steer[f.at()] += 1;
                    }
                    if !drill
                        && self
                            .went_back
                            .is_some_and(|t| now.saturating_sub(t) < FLAP_WITHIN)
                    {
                        self.flaps = (self.flaps + 1).min(FLAP_MOST);
                        self.went_back = None;
                    }
                }
                Cure::Nudge => {
                    let why = fault_text(faults, |x| matches!(x, Fault::StalePaths { .. }));
                    self.order(now, *cure, why, Action::Nudge);
                    if let Some(e) = &mut self.episode {
                        e.tried.nudge += 1;
                    }
                }
                Cure::Renew => {
                    let why = fault_text(faults, |x| {
                        matches!(x, Fault::StuckControl { .. } | Fault::StalePaths { .. })
                    });
                    self.order(now, *cure, why, Action::Renew);
                    if let Some(e) = &mut self.episode {
                        e.tried.renew += 1;
                    }
                }
                Cure::Mend => {
                    let why = fault_text(faults, |x| matches!(x, Fault::LostState { .. }));
                    self.order(now, *cure, why, Action::Mend);
                    if let Some(e) = &mut self.episode {
                        e.tried.mend += 1;
                    }
                }
                Cure::Restart => {}
            }
            waiting.push(*cure);
        }
        if waiting.is_empty() {
            return self.rest(now, "no uplink to move to".into());
        }
        self.stage = Stage::Curing {
            since,
            waiting,
            until: now + CURE_LIMIT,
        };
    }

    /// A nudge waits for peers; control need not, once its server has answered.
    pub(super) fn join_renewal(&mut self, now: Time, since: Time, waiting: &[Cure]) {
        if waiting != [Cure::Nudge] {
            return;
        }
        let faults = diagnose(&self.k, now, since);
        if !self.control_has_answered(now, since, &faults) {
            return;
        }
        self.name_faults(&faults);
        self.cure(now, since, &[Cure::Renew], &faults);
        if let Stage::Curing { waiting, .. } = &mut self.stage {
            waiting.push(Cure::Nudge);
        }
    }

    pub(super) fn restart(&mut self, moment: Moment, since: Time, faults: &[Fault]) {
        let now = moment.now;
        if let Err(when) = self.budget.may(now, &self.policy.limits) {
            let (until, why) = match when {
                Some(t) => (
                    t,
                    format!(
                        "the next restart of tailscaled is allowed in {} s",
                        (t.saturating_sub(now)).as_secs()
                    ),
                ),
                None => (
                    now + REST_LAST,
                    "restarts of tailscaled are not allowed (restarts_per_hour is 0)".into(),
                ),
            };
            return self.rest_until(now, until.min(now + REST_LAST), why);
        }
        self.budget.spend(now, moment.dice, &self.policy.limits);
        self.k.starts.order(now);
        let why = fault_text(faults, Fault::curable);
        self.order(now, Cure::Restart, why, Action::Restart);
        if let Some(e) = &mut self.episode {
            e.tried.restart = e.tried.restart.saturating_add(1);
        }
        self.stage = Stage::Curing {
            since,
            waiting: vec![Cure::Restart],
            until: now + CURE_LIMIT,
        };
    }

    /// Where to move the mark of `family`: the best open uplink. Main's own way needs no rule of
    /// ours, unless it was not enough just now.
    fn target(&self, family: Family, since: Time) -> Option<Steering> {
        let best = *self.k.open_uplinks(family, since).first()?;
        let steered = self.k.steering(family).to.is_some();
        let by_main = self
            .k
            .main_default(family)
            .is_some_and(|u| u.name == best.name);
        let to = match steered && by_main {
            true => None,
            false => Some(Knowledge::hop(best, family)?),
        };
        Some(Steering { to, keep: None })
    }

    pub(super) fn order_steer(&mut self, now: Time, family: Family, steering: Steering, why: &str) {
        self.before[family.at()] =
            std::mem::replace(&mut self.k.steering[family.at()], steering.clone());
        self.order(
            now,
            Cure::Steer(family),
            why.to_string(),
            Action::Steer(family, steering),
        );
    }

    fn order(&mut self, now: Time, cure: Cure, why: String, action: Action) {
        if let Some(e) = &mut self.episode {
            e.act(now, cure, why.clone());
        }
        if matches!(cure, Cure::Renew | Cure::Restart) {
            // Both make tailscaled try control at once.
            self.k.kept_waiting = false;
        }
        self.tell(Notice::Cure { cure, text: why });
        self.out.push(action);
    }

    pub(super) fn take_cured(&mut self, now: Time, cure: Cure, result: Result<Report, String>) {
        let text = result
            .as_ref()
            .map(|r| r.text.clone())
            .map_err(String::clone);
        if let Some(e) = &mut self.episode {
            e.result(cure, text.clone());
            if let Ok(r) = &result {
                e.tried.nudge_missing |= r.missing && cure == Cure::Nudge;
            }
        }
        let asked = self
            .episode
            .as_ref()
            .and_then(|e| e.acts.iter().rev().find(|a| a.cure == cure))
            .map(|a| a.at);
        // A nudge of before the path moved says nothing of the path of now.
        if matches!(&result, Ok(r) if r.peer_answered) && asked >= Some(self.k.epoch.since) {
            self.k.epoch.peer_answered = true;
        }
        self.tell(Notice::Done { cure, result: text });
        if let (Cure::Steer(f), Err(_)) = (cure, &result) {
            // The new comes before the old is taken away: what was there before still is.
            self.k.steering[f.at()] = self.before[f.at()].clone();
        }
        let Stage::Curing { since, waiting, .. } = &mut self.stage else {
            // Our own changes are not told by the kernel watch.
            if matches!(cure, Cure::Steer(_)) {
                self.out.push(Action::Look(Look::Paths));
            }
            return;
        };
        waiting.retain(|c| *c != cure);
        let (done, since) = (waiting.is_empty(), *since);
        self.loss_unread |= cure == Cure::Mend;
        if matches!(cure, Cure::Steer(_)) {
            self.path_unread = true;
        }
        if done {
            self.cured(now, since, cure);
        }
    }

    /// All acts of a stage have ended.
    pub(super) fn cured(&mut self, now: Time, since: Time, last: Cure) {
        if self.again && last != Cure::Restart {
            self.again = false;
            return self.prove(now, Origin::Event, "more has happened".into());
        }
        match last {
            // The path has to be read and proved before anything else is touched.
            Cure::Steer(_) => {
                self.stage = Stage::Proving { since };
                self.out.push(Action::Look(Look::Paths));
            }
            // The probes that were begun before it go on meanwhile.
            Cure::Mend => {
                self.stage = Stage::Proving { since };
                self.out.push(Action::Look(match self.path_unread {
                    true => Look::All,
                    false => Look::Tailnet,
                }));
            }
            other => self.verify(now, since, vec![other]),
        }
    }
}

#[cfg(test)]
mod tests;
