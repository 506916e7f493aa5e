//! Proving: probes everything, and decides once the evidence is in.

use super::*;

impl Core {
    /// Looks at everything and probes everything, side by side.
    pub(super) fn prove(&mut self, now: Time, origin: Origin, why: String) {
        if self.episode.is_none() {
            self.begin_episode(now, origin, why);
        }
        self.enter_proving(now, now);
        for f in Family::BOTH {
            self.probe_path(now, f, Effort::Burst);
        }
        self.probe_all(now, Effort::Burst);
    }

    /// A burst has found the path silent: what it and the others have answered since the sign
    /// counts, so only what is still unknown is asked.
    pub(super) fn prove_suspicion(&mut self, now: Time, s: suspect::Suspicion, text: &str) {
        if self.episode.is_none() {
            self.begin_episode(now, Origin::Path, format!("{}; {text}", s.why));
        }
        self.enter_proving(now, s.since);
        for f in Family::BOTH {
            let path = &self.k.path(f).judgement;
            if !path.pending() && !path.shut_since(s.since) && !path.open_since(s.since) {
                self.probe_path(now, f, Effort::Burst);
            }
        }
        self.probe_all(now, Effort::Burst);
    }

    /// Nothing that was proved or asked before counts any more; what is under way is proved anew.
    pub(super) fn overslept(&mut self, now: Time) {
        self.void = self.round;
        // Nobody has looked meanwhile.
        let since = [
            &mut self.k.halted_since,
            &mut self.k.left_alone_since,
            &mut self.k.offline_since,
            &mut self.k.lost_since,
        ];
        for since in since.into_iter().flatten() {
            *since = now;
        }
        self.k.api_since = now;
        let paths = self.k.paths.iter_mut().map(|p| &mut p.judgement);
        for judgement in self.k.verdicts.values_mut().chain(paths) {
            judgement.abandon();
        }
        match &mut self.stage {
            Stage::Proving { .. } | Stage::Verifying { .. } => {
                self.prove(now, Origin::Path, "nothing was done for a while".into());
            }
            Stage::Curing { since, .. } => {
                *since = now;
                self.again = true;
            }
            Stage::Quiet | Stage::Resting { .. } => {}
        }
    }

    pub(super) fn enter_proving(&mut self, now: Time, since: Time) {
        self.stage = Stage::Proving { since };
        self.control_asked = since;
        self.suspicion = None;
        self.ask_paths_at = now + Duration::from_secs(1);
        self.settle_at = None;
        self.again = false;
        self.out.push(Action::Look(Look::All));
    }

    pub(super) fn begin_episode(&mut self, now: Time, origin: Origin, trigger: String) {
        self.tell(Notice::Trigger(trigger.clone()));
        self.episode = Some(Episode::new(now, origin, trigger));
    }

    pub(super) fn weigh(&mut self, moment: Moment, since: Time) {
        let now = moment.now;
        if self.loss_unread || self.mend_first(now, since) {
            return;
        }
        if self.path_unread || self.return_from_drill(now, since) {
            return;
        }
        if self.k.paths_read.is_none_or(|t| t < since) && self.ask_paths_at <= now {
            // The first answer may have been refused.
            self.ask_paths_at = now + Duration::from_secs(1);
            self.out.push(Action::Look(Look::Paths));
        }
        self.ask_unjudged(now, since);
        self.hasten(now, since);
        let faults = diagnose(&self.k, now, since);
        let pinned = faults.iter().any(|f| f.moves().is_some());
        let person = faults
            .iter()
            .any(|f| matches!(f, Fault::NeedsPerson { .. }));
        let seen = self.k.tailnet_read.is_some_and(|t| t >= since);
        let paths_read = self.k.paths_read.is_some_and(|t| t >= since);
        // A dead way needs no fresh word of tailscaled, which may hang just then.
        let ready = paths_read
            && ((pinned && self.k.tailnet_read.is_some())
                || (seen && (person || self.k.paths_judged(since))));
        let outside_down = paths_read
            && faults
                .iter()
                .any(|f| matches!(f, Fault::OutsideDown { .. }));
        let nothing_yet = match faults.iter().any(Fault::curable) {
            true => self.way_is_asked(now, since, &faults),
            false => self.control_is_asked(now, since),
        };
        if (ready && (person || !nothing_yet)) || outside_down {
            self.decide(moment, since, faults);
        }
    }

    /// Asks the paths of which no round will tell any more: one that was under way had its verdict
    /// before this assessment began. Nothing else would end the wait for it.
    fn ask_unjudged(&mut self, now: Time, since: Time) {
        if self.k.paths_read.is_none_or(|t| t < since) {
            return;
        }
        for f in Family::BOTH {
            let path = self.k.path(f);
            if path.route.is_some() && !path.judgement.pending() && !self.k.path_judged(f, since) {
                self.probe_path(now, f, Effort::Burst);
            }
        }
    }

    /// Puts lost kernel state back before anything is proved: it needs no way out.
    pub(super) fn mend_first(&mut self, now: Time, since: Time) -> bool {
        if self.awaits_what_a_mending_did(now) {
            self.look_unless_within(now, VERIFY_EVERY);
            return true;
        }
        let Some(lost) = self.mends(now, since) else {
            return false;
        };
        self.name_faults(&lost);
        self.cure(now, since, &[Cure::Mend], &lost);
        true
    }

    /// The lost state that is to be put back now; an act of a moment ago gets its time.
    pub(super) fn mends(&self, now: Time, since: Time) -> Option<Vec<Fault>> {
        let mut faults = diagnose(&self.k, now, since);
        faults.retain(|f| matches!(f, Fault::LostState { .. }));
        let working = self.mending_until().is_some_and(|t| t > now);
        // What an earlier look has shown may be there again.
        let seen = self.k.tailnet_read.is_some_and(|t| t >= since);
        (seen && !working && ladder::mends(&faults, &self.policy.allowed, &self.tried()))
            .then_some(faults)
    }

    /// What was tried in the episode under way.
    pub(super) fn tried(&self) -> ladder::Tried {
        let episode = self.episode.as_ref();
        episode.map(|e| e.tried.clone()).unwrap_or_default()
    }

    /// Until when the last mending has its time.
    fn mending_until(&self) -> Option<Time> {
        let acts = self.episode.iter().flat_map(|e| &e.acts);
        let mended = acts.filter(|a| a.cure == Cure::Mend);
        mended.map(|a| a.at + Cure::Mend.patience()).max()
    }

    /// True when a mending has had its time, and what is still lost was seen before that: somebody else may
    /// have put it back.
    fn awaits_what_a_mending_did(&self, now: Time) -> bool {
        let before = |t: Time| self.k.tailnet_read.is_none_or(|read| read < t);
        let over = self.mending_until().filter(|t| *t <= now);
        over.is_some_and(before) && !self.k.tailnet.lost.what.is_empty()
    }

    /// A control server that was down, while it is open whether it still is: a datagram is answered,
    /// or not, sooner than a connection.
    fn control_still_down(&self, since: Time, faults: &[Fault]) -> Option<Fault> {
        let down = |f: &&Fault| matches!(f, Fault::ControlDown { .. });
        let known = self.k.control_answers(since) || self.k.control_failure(since).is_some();
        let told = known || faults.iter().any(|f| down(&f));
        self.faults.iter().find(down).filter(|_| !told).cloned()
    }

    /// True while it is open whether the control server answers, and that would tell why
    /// tailscaled's own connection to it is not heard, or why there is none.
    fn control_is_asked(&self, now: Time, since: Time) -> bool {
        let known = self.k.control_answers(since) || self.k.control_failure(since).is_some();
        let unheard = self.k.standing(Purpose::Control).unheard.is_some();
        let missed = unheard || offline_for(&self.k, now).is_some();
        missed && !known && self.k.verdicts.values().any(Judgement::bursting)
    }

    /// True while it is open whether control can be made anew over the way where it broke, or over
    /// another. A renewal where large packets are lost ends what is left of it.
    fn way_is_asked(&self, now: Time, since: Time, faults: &[Fault]) -> bool {
        let stuck = |f: &Fault| matches!(f, Fault::StuckControl { .. });
        let alone = faults.iter().filter(|f| f.curable()).all(stuck);
        let moved = self.k.standing(Purpose::Control).stale.is_some();
        let elsewhere = || self.k.hindrance().is_some() && self.others_are_asked(now, since);
        alone && !moved && (self.ways_are_asked(now, since) || elsewhere())
    }

    /// True while another uplink may be found sound.
    fn others_are_asked(&self, now: Time, since: Time) -> bool {
        let in_time = now.saturating_sub(since) < self.policy.probe_timeout * 2;
        in_time && self.k.verdicts.values().any(Judgement::gathering)
    }

    /// True while a full round over the ways in use may still tell that large packets are lost. What the
    /// control server answered must not grow old by waiting.
    pub(super) fn ways_are_asked(&self, now: Time, since: Time) -> bool {
        let doubtful = |f: Family| {
            let uplink = self.k.uplink_in_use(f);
            uplink.is_some_and(Judgement::may_lose_large)
        };
        now.saturating_sub(since) < CONTROL_FRESH * 4 / 5 && Family::BOTH.into_iter().any(doubtful)
    }

    /// Brings the verdict on a path forward when its uplink was called down, a sign has had it asked with a
    /// burst, or the lookout has found another, and another answers.
    pub(super) fn hasten(&mut self, now: Time, since: Time) {
        for f in Family::BOTH {
            let Some(route) = &self.k.path(f).route else {
                continue;
            };
            let told = self
                .k
                .said_down
                .get(&(route.device.clone(), f))
                .is_some_and(|t| now.saturating_sub(*t) < WORD_COUNTS);
            let suspected = self.suspicion.is_some() || self.called;
            if !told && !suspected {
                continue;
            }
            let other = self
                .k
                .open_uplinks(f, since)
                .into_iter()
                .filter(|u| u.device != route.device)
                .filter_map(|u| self.k.verdict(&u.name, f)?.rtt)
                .min();
            if let Some(rtt) = other {
                // A slow line (a satellite) gets the time that it took when it was well.
                let own = self.k.path(f).usual_rtt.unwrap_or_default();
                let due = since
                    + match told {
                        true => QUICK.max(rtt.max(own) * QUICK_ROUND_TRIPS),
                        false => Self::burst_silence(rtt, own),
                    };
                let judgement = &mut self.k.paths[f.at()].judgement;
                judgement.hasten(due);
                if judgement.expire(now) {
                    self.judged(now, &Scope::Path(f), Change::Verdict);
                }
            }
        }
    }

    /// The evidence is in. Takes the next cure, waits, or ends the episode.
    pub(super) fn decide(&mut self, moment: Moment, since: Time, mut faults: Vec<Fault>) {
        let now = moment.now;
        faults.extend(self.control_still_down(since, &faults));
        if self.drill_waits(now, &faults) {
            return;
        }
        self.name_faults(&faults);
        if faults
            .iter()
            .any(|f| matches!(f, Fault::NeedsPerson { .. }))
        {
            return self.end(now, Outcome::NeedsPerson);
        }
        if let Some(down) = faults
            .iter()
            .find(|f| matches!(f, Fault::OutsideDown { .. }))
        {
            let why = down.to_string();
            // One that did not come after a renewal does not come after another.
            let untried = self.episode.as_ref().is_some_and(|e| e.tried.renew == 0);
            self.k.kept_waiting = untried && self.policy.allowed.renew;
            return match down {
                // Nothing on the router knows when somebody logs in.
                Fault::OutsideDown { portal: Some(_) } => {
                    self.rest_until(now, now + self.pause().min(PORTAL_EVERY), why);
                }
                _ => self.rest(now, why),
            };
        }
        if !self.k.anything_open(since) {
            // Promise 1: no cure before a way out is proved. Others may still be answering.
            if self.rounds_over() {
                self.rest(now, "no uplink is proved to reach the outside".into());
            }
            return;
        }
        if !faults.iter().any(Fault::curable) {
            return if self.healthy(since) {
                self.heal(now);
            } else {
                self.verify(now, since, Vec::new());
            };
        }
        let control = self.k.control_within_reach(since);
        let mut tried = self.tried();
        tried.nudge_missing |= self.k.tailnet.abilities.debug == Some(false);
        let next = ladder::next(&faults, &self.policy.allowed, &tried, control);
        if let Some((cures, until)) = self.still_working(now, &next) {
            self.stage = Stage::Verifying {
                since,
                after: cures,
                until,
            };
            return;
        }
        let too_far = |n: &Next| match n {
            Next::Do(cures) => *cures == [Cure::Restart],
            Next::Useless(_) | Next::Nothing(_) => true,
            Next::AwaitControl => false,
        };
        if self.k.drilled.is_some() && too_far(&next) {
            return self.cut_drill(now, "only a restart of tailscaled could help there".into());
        }
        match next {
            Next::Do(cures) if cures == [Cure::Restart] => {
                let daemon = faults
                    .iter()
                    .any(|f| matches!(f, Fault::DaemonGone | Fault::DaemonHung { .. }));
                // A restart while control is down ends a tailnet that still works (measured), so
                // its answer must be of just now.
                let lately = now.saturating_sub(CONTROL_FRESH);
                if !daemon && !self.k.control_within_reach(lately) {
                    self.prove(now, Origin::Tailscaled, "before a restart".into());
                } else if daemon || !self.ways_are_asked(now, since) {
                    // Started anew where no handshake comes to its end, it would have no tailnet at all.
                    self.restart(moment, since, &faults);
                }
            }
            Next::Do(cures) => self.cure(now, since, &cures, &faults),
            Next::Useless(why) => {
                self.tell(Notice::Waiting(why));
                self.restart(moment, since, &faults);
            }
            Next::AwaitControl => self.await_control(now, since, &faults),
            Next::Nothing(why) => self.rest(now, why),
        }
    }

    /// A cure would fit, but control cannot be made anew yet.
    fn await_control(&mut self, now: Time, since: Time, faults: &[Fault]) {
        let names = faults.iter().find_map(|f| match f {
            Fault::NamesDead { why } => Some(why.clone()),
            _ => None,
        });
        let failed = self.k.control_failure(since).or(names);
        let flaw = self.k.hindrance();
        if failed.is_none() && flaw.is_some() && self.others_are_asked(now, since) {
            return;
        }
        let failed = failed.or(flaw);
        if failed.is_some() || self.rounds_over() {
            let why = failed.unwrap_or_else(|| "no answer yet".into());
            self.rest(
                now,
                format!("the control server has to answer first ({why})"),
            );
        }
    }

    /// The acts that the next cure would repeat or supersede before they had their time, and until
    /// when they have it. A moved path makes all earlier acts void.
    fn still_working(&self, now: Time, next: &Next) -> Option<(Vec<Cure>, Time)> {
        let Next::Do(cures) = next else { return None };
        let acts = self.episode.iter().flat_map(|e| &e.acts);
        let running: Vec<(Cure, Time)> = acts
            .filter(|a| !matches!(a.cure, Cure::Steer(_)) && a.at >= self.k.epoch.since)
            .map(|a| (a.cure, a.at + a.cure.patience()))
            .filter(|(_, until)| *until > now)
            .collect();
        let waits = |c: &Cure| *c == Cure::Restart || running.iter().any(|(r, _)| r == c);
        let until = running.iter().map(|(_, until)| *until).max()?;
        let steers = cures.iter().any(|c| matches!(c, Cure::Steer(_)));
        (!steers && cures.iter().all(waits))
            .then(|| (running.iter().map(|(c, _)| *c).collect(), until))
    }

    pub(super) fn rounds_over(&self) -> bool {
        !self.k.verdicts.values().any(|j| j.pending())
            && !self.k.paths.iter().any(|p| p.judgement.pending())
    }

    pub(super) fn name_faults(&mut self, faults: &[Fault]) {
        let before = std::mem::replace(&mut self.faults, faults.to_vec());
        for f in faults {
            // What goes on for long is said once, not in each episode.
            let told = f.is_of_tailscaled() && before.iter().any(|old| old.id() == f.id());
            if self.episode.as_mut().is_some_and(|e| e.name(f)) && !told {
                self.tell_fault(f);
            }
        }
    }
}

#[cfg(test)]
mod tests;
