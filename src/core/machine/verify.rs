//! Verifying and resting: what came of the acts, how an episode ends, when to try again.

use super::*;

impl Core {
    pub(super) fn verify(&mut self, now: Time, since: Time, after: Vec<Cure>) {
        let patience = after
            .iter()
            .map(|c| c.patience())
            .max()
            .unwrap_or(UNNAMED_PATIENCE);
        self.stage = Stage::Verifying {
            since,
            after,
            until: now + patience,
        };
        self.out.push(Action::Look(Look::Tailnet));
    }

    pub(super) fn check(&mut self, moment: Moment, since: Time, until: Time, after: &[Cure]) {
        let now = moment.now;
        let mut faults = diagnose(&self.k, now, since);
        if self.healthy(since) {
            // The control server's silence may be known only now.
            faults.retain(|f| !f.curable());
            self.name_faults(&faults);
            return self.heal(now);
        }
        if self.mend_first(now, since) {
            return;
        }
        if self.control_has_answered(now, since, &faults) {
            self.name_faults(&faults);
            return self.cure(now, since, &[Cure::Renew], &faults);
        }
        let hopeless =
            |f: &Fault| matches!(f, Fault::NeedsPerson { .. } | Fault::OutsideDown { .. });
        let dead = |f: &Fault| matches!(f, Fault::DaemonGone | Fault::DaemonHung { .. });
        // No act but a restart wakes it, and the acts before need not be waited for.
        let restart_now = faults.iter().any(dead) && !after.contains(&Cure::Restart);
        // Nothing that was done helps on a path that leads nowhere now.
        let moves = ladder::moves(&faults, &self.policy.allowed, &self.tried());
        let move_now = moves.iter().any(|cure| !after.contains(cure));
        if faults.iter().any(hopeless) || restart_now || move_now {
            return self.decide_anew(moment, since, faults);
        }
        // What the kernel has lost does not come back by waiting. That control is stuck is often known only
        // now: its server's answer comes later than the one that opened the path.
        let stays = |f: &Fault| matches!(f, Fault::LostState { .. } | Fault::StuckControl { .. });
        if after.is_empty() && faults.iter().any(stays) {
            return self.decide(moment, since, faults);
        }
        if now < until {
            self.look_unless_within(now, VERIFY_EVERY);
            return;
        }
        if faults.iter().any(Fault::curable) && !after.is_empty() {
            return self.decide_anew(moment, since, faults);
        }
        let why = match &self.k.tailnet.api {
            Api::Answers => "the tailnet is not well yet, for no reason that can be named",
            _ => "tailscaled does not answer",
        };
        self.rest(now, why.into());
    }

    /// Decides by what was proved before the acts, unless that is too long ago.
    fn decide_anew(&mut self, moment: Moment, since: Time, faults: Vec<Fault>) {
        match moment.now.saturating_sub(since) <= PROOF_COUNTS {
            true => self.decide(moment, since, faults),
            false => self.prove(
                moment.now,
                Origin::Path,
                "what was done has not helped yet".into(),
            ),
        }
    }

    /// True when a renewal was held back only because the control server had not answered yet: a
    /// handshake with it takes longer than the datagrams that proved the path. Whether large packets are
    /// lost may be known later still.
    pub(super) fn control_has_answered(&self, now: Time, since: Time, faults: &[Fault]) -> bool {
        let lately = since.max(now.saturating_sub(PROOF_COUNTS));
        let tried = self.episode.as_ref().is_some_and(|e| e.tried.renew > 0);
        !tried
            && self.policy.allowed.renew
            && self.k.control_within_reach(lately)
            && !self.ways_are_asked(now, since)
            && !faults.iter().any(|f| f.moves().is_some())
            && faults
                .iter()
                .any(|f| matches!(f, Fault::StuckControl { .. }))
    }

    /// The tailnet is seen to be well: path open, control fresh, a relay or a peer answers.
    pub(super) fn healthy(&self, since: Time) -> bool {
        let k = &self.k;
        let t = &k.tailnet;
        if t.api != Api::Answers || t.backend != Backend::Running || !k.path_open(since) {
            return false;
        }
        if k.tailnet_read.is_none_or(|at| at < k.epoch.since) || !t.lost.what.is_empty() {
            return false;
        }
        let control = k.standing(Purpose::Control);
        let derp = k.standing(Purpose::Derp);
        let online = t.online != Some(false) || !k.online_seen;
        let control_well =
            online && (control.fresh > 0 || (!k.epoch.had_control && control.stale.is_none()));
        let control_down = k.control_failure(since).is_some() && !k.control_answers(since);
        let derp_well =
            derp.fresh > 0 || k.epoch.peer_answered || (!k.epoch.had_derp && derp.stale.is_none());
        (control_well || control_down) && derp_well
    }

    pub(super) fn heal(&mut self, now: Time) {
        if self.k.drilled.is_some() {
            return self.drill_well(now);
        }
        let acted = self.episode.as_ref().is_some_and(|e| !e.acts.is_empty());
        let stays = !self.faults.is_empty() && !self.faults.iter().any(Fault::curable);
        self.end(
            now,
            match acted {
                true => Outcome::Healed,
                false if stays => Outcome::NotOurs,
                false => Outcome::Passed,
            },
        );
    }

    /// Nothing more is to be done for now.
    pub(super) fn rest_quietly(&mut self, now: Time) {
        self.stage = Stage::Quiet;
        self.rests = 0;
        (self.again, self.called, self.k.kept_waiting) = (false, false, false);
        self.look_at = now + self.policy.interval;
        self.beat_at = self.look_at;
        self.return_at = now;
        self.recheck_at = now + RECHECK_EVERY;
        self.faults.retain(|f| !f.curable());
    }

    pub(super) fn end(&mut self, now: Time, outcome: Outcome) {
        self.rest_quietly(now);
        // What was kept for the flows of the old way is not needed any more.
        for f in Family::BOTH {
            if self.k.steering[f.at()].keep.take().is_some() {
                let steering = self.k.steering[f.at()].clone();
                self.out.push(Action::Steer(f, steering));
            }
        }
        let Some(mut e) = self.episode.take() else {
            return;
        };
        e.ended = Some((now, outcome));
        let rehearsed = self.close_drill(now, &mut e);
        // A look that found nothing at all is no episode worth keeping.
        if e.acts.is_empty() && e.faults.is_empty() && e.drill.is_none() {
            return self.tell(Notice::Well);
        }
        if matches!(outcome, Outcome::Healed | Outcome::Passed) && !rehearsed {
            self.tell(Notice::Healed {
                seconds: e.lasted(now).as_secs_f64(),
                text: outcome.word().to_string(),
            });
        }
        self.history.add(e);
    }

    pub(super) fn rest(&mut self, now: Time, why: String) {
        self.rest_until(now, now + self.pause(), why);
    }

    /// How long to rest: longer each time.
    pub(super) fn pause(&self) -> Duration {
        (REST_FIRST * 2u32.pow(self.rests.min(8))).min(REST_LAST)
    }

    pub(super) fn rest_until(&mut self, now: Time, until: Time, why: String) {
        self.rests = self.rests.saturating_add(1);
        if self.rests.is_power_of_two() {
            self.tell(Notice::Waiting(why.clone()));
        }
        // After some short pauses or a long one the mild cures may be tried again: the world has moved on.
        // It is what helps first where the next restart is far away.
        let long = until.saturating_sub(now) >= REST_LAST;
        if let Some(e) = &mut self.episode {
            if long || self.rests.is_multiple_of(4) {
                e.tried = ladder::Tried {
                    nudge_missing: e.tried.nudge_missing,
                    ..ladder::Tried::default()
                };
            }
        }
        let until = until.max(now + Duration::from_millis(500));
        self.begin_lookout(now, until);
        self.stage = Stage::Resting { until, why };
    }
}

#[cfg(test)]
mod tests;
