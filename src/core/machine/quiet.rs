//! Quiet: the slow looks, and the way back to the better uplink.

use super::*;

impl Core {
    pub(super) fn quiet(&mut self, now: Time) {
        self.look_and_beat(now);
        if self.other_at <= now {
            self.other_at = now + self.policy.other_interval;
            self.beat_others(now);
        }
        if self.recheck_at <= now {
            self.recheck(now);
        }
        self.look_at_silent(now);
        self.ask_control(now);
        let well = self.faults.is_empty() && self.k.tailnet.api == Api::Answers;
        self.budget.health(now, well, &self.policy.limits);
        if self
            .went_back
            .is_some_and(|t| now.saturating_sub(t) >= FLAP_WITHIN)
        {
            // It held.
            self.went_back = None;
            self.flaps = 0;
        }
        self.follow_suspicion(now);
        if self.stage != Stage::Quiet {
            return;
        }
        let better = self.ways_back();
        if !better.is_empty() {
            self.consider_return(now, &better);
        }
    }

    /// True while tailscaled does not answer and it is not yet clear why.
    pub(super) fn silent(&self, now: Time) -> bool {
        match self.k.tailnet.api {
            Api::Gone | Api::Hung => true,
            Api::Refuses(_) => now.saturating_sub(self.k.api_since) <= REFUSES_TOO_LONG,
            Api::Unknown | Api::Answers => false,
        }
    }

    pub(super) fn look_at_silent(&mut self, now: Time) {
        if self.silent(now) {
            self.look_unless_within(now, SILENT_EVERY);
        }
    }

    /// Looks at tailscaled, unless the last look is no older.
    pub(super) fn look_unless_within(&mut self, now: Time, span: Duration) {
        if self.since_look(now) >= span {
            self.out.push(Action::Look(Look::Tailnet));
        }
    }

    /// The control server alone is down, as far as is known.
    pub(super) fn control_down(&self) -> bool {
        let named = |f: &Fault| matches!(f, Fault::ControlDown { .. });
        self.faults.iter().any(named) && !self.k.control_answers(self.control_asked)
    }

    /// Asks a control server that is down from time to time: nothing else tells of its return.
    fn ask_control(&mut self, now: Time) {
        if !self.control_down() {
            self.ask_control_pause = ASK_CONTROL_FIRST;
            self.ask_control_at = now + self.ask_control_pause;
            return;
        }
        if self.ask_control_at > now {
            return;
        }
        self.control_asked = now;
        self.ask_control_at = now + self.ask_control_pause;
        self.ask_control_pause = (self.ask_control_pause * 2).min(ASK_CONTROL_LAST);
        for f in Family::BOTH {
            if let Some(name) = self.k.path_uplink(f).map(|u| u.name.clone()) {
                self.probe_uplink(now, &name, f, Effort::Burst);
            }
        }
    }

    /// Asks the uplinks that the paths do not use. For the one in use the path has answered
    /// ([`Judgement::vouch`]).
    fn beat_others(&mut self, now: Time) {
        let names: Vec<String> = self.k.uplinks.iter().map(|u| u.name.clone()).collect();
        for name in names {
            for f in Family::BOTH {
                let used = self.k.path_uplink(f).is_some_and(|u| u.name == name);
                let open = self
                    .k
                    .verdict(&name, f)
                    .is_some_and(|j| j.verdict == Verdict::Open);
                if !(used && open) {
                    self.probe_uplink(now, &name, f, Effort::Beat);
                }
            }
        }
    }

    /// Asks in full where something is wrong that short rounds cannot see: a portal that somebody
    /// may have passed, names, TLS, large packets, the clock.
    fn recheck(&mut self, now: Time) {
        self.recheck_at = now + RECHECK_EVERY;
        let odd = |j: &Judgement| j.verdict == Verdict::Portal || j.flaws.any();
        let uplinks = self.k.verdicts.iter().filter(|(_, j)| odd(j));
        let uplinks: Vec<_> = uplinks.map(|(key, _)| key.clone()).collect();
        for f in Family::BOTH {
            if odd(&self.k.path(f).judgement) {
                self.probe_path(now, f, Effort::Burst);
            }
        }
        for (name, f) in uplinks {
            self.probe_uplink(now, &name, f, Effort::Burst);
        }
    }

    /// True when [`Core::recheck`] has something to ask.
    pub(super) fn odd(&self) -> bool {
        let paths = self.k.paths.iter().map(|p| &p.judgement);
        let mut all = self.k.verdicts.values().chain(paths);
        all.any(|j| j.verdict == Verdict::Portal || j.flaws.any())
    }

    fn since_look(&self, now: Time) -> Duration {
        now.saturating_sub(self.k.tailnet_read.unwrap_or_default())
    }

    /// The better uplinks that the mark could go back to, where it is steered away from them: the
    /// best first. A tunnel that main sends all by is better than any: the owner wants that, and
    /// comes last only where another way has to be chosen.
    pub(super) fn ways_back(&self) -> Vec<(Family, String)> {
        let mut ways = Vec::new();
        for f in Family::BOTH {
            let Some(to) = &self.k.steering(f).to else {
                continue;
            };
            let main = self.k.main_default(f);
            let tunnel = main.filter(|u| u.vpn && u.device != to.device);
            ways.extend(tunnel.map(|u| (f, u.name.clone())));
            let better = self.k.uplinks.iter();
            let better = better.take_while(|u| u.device != to.device);
            let before = ways.len();
            ways.extend(
                better
                    .filter(|u| u.way(f).is_some())
                    .map(|u| (f, u.name.clone())),
            );
            // Steered to the best there is, and main agrees: the steering is not needed. But an
            // uplink that was left and is away just now would come back as main's default, dead.
            let away = |device: &String| !self.k.uplinks.iter().any(|u| u.device == *device);
            if ways.len() == before && !self.left[f.at()].as_ref().is_some_and(away) {
                ways.extend(
                    main.filter(|u| u.device == to.device)
                        .map(|u| (f, u.name.clone())),
                );
            }
        }
        ways
    }

    /// How long the better uplink must be open, grown by each way back that broke.
    pub(super) fn hold(&self) -> Duration {
        self.policy.hold * 2u32.pow(self.flaps)
    }

    fn consider_return(&mut self, now: Time, better: &[(Family, String)]) {
        let every = self.return_every();
        if self.return_at <= now {
            self.return_at = now + every;
            for (f, name) in better {
                // Begun anew before its end, a round without an answer would never be one.
                if !self.k.verdict(name, *f).is_some_and(Judgement::pending) {
                    self.probe_uplink(now, name, *f, Effort::Beat);
                }
            }
        }
        if self.k.drilled.is_some() {
            // Looked at so that a stop knows of it; the drill itself says when to go back.
            return;
        }
        let stable = better
            .iter()
            .find(|(f, name)| self.stable(now, name, *f, JUST_NOW));
        if let Some((_, name)) = stable {
            self.go_back(now, name);
        }
    }

    fn return_every(&self) -> Duration {
        RETURN_EVERY
            .min(self.policy.hold / 10)
            .max(Duration::from_millis(500))
    }

    /// Open without a break for the hold, with an answer not older than `fresh`.
    fn stable(&self, now: Time, name: &str, family: Family, fresh: Duration) -> bool {
        // Left because control could not be made anew there; that must have gone, too.
        let sound = |j: &Judgement| {
            j.flaws.hinders().is_none() || self.k.way_flaws(family).hinders().is_some()
        };
        self.k.verdict(name, family).is_some_and(|j| {
            // Its own resolvers are not missed where the router's answers all the same.
            (j.verdict == Verdict::Open || j.verdict.is_open() && self.k.names_work())
                && sound(j)
                && j.steady_since
                    .is_some_and(|t| now.saturating_sub(t) >= self.hold())
                && j.judged_at.is_some_and(|t| now.saturating_sub(t) <= fresh)
        })
    }

    /// Moves each family that can go back to `name`, and keeps the flows of the backup alive.
    fn go_back(&mut self, now: Time, name: &str) {
        let Some(uplink) = self.k.uplinks.iter().find(|u| u.name == name).cloned() else {
            return;
        };
        let held = format!(
            "{name} ({}) is open for {} s",
            uplink.device,
            self.hold().as_secs()
        );
        let families: Vec<Family> = Family::BOTH
            .into_iter()
            .filter(|f| self.k.steering(*f).to.is_some())
            // The families are probed together; the second answer is a moment old or to come.
            .filter(|f| self.stable(now, name, *f, self.return_every() * 2))
            .collect();
        if families.is_empty() {
            return;
        }
        self.went_back = Some(now);
        self.begin_episode(now, Origin::Return, format!("{held}: going back to it"));
        self.move_back(now, &uplink, &families, &held);
    }

    /// Orders the move of these families to `uplink`, and keeps the flows of the way that they leave
    /// alive.
    pub(super) fn move_back(&mut self, now: Time, uplink: &Uplink, families: &[Family], why: &str) {
        self.out.push(Action::Look(Look::Tailnet));
        for f in families {
            let main = self.k.main_default(*f);
            let by_main = main.is_some_and(|u| u.name == uplink.name);
            let to = match by_main {
                true => None,
                false => Knowledge::hop(uplink, *f),
            };
            let by_path = || Knowledge::hop(self.k.path_uplink(*f)?, *f);
            let from = self.k.steering(*f).to.clone().or_else(by_path);
            // An address that both have tells no flow of the one from a flow of the other.
            let apart = |from: &Hop| !from.way.addresses.iter().any(|ip| uplink.owns(ip));
            let keep = from.filter(|from| from.device != uplink.device && apart(from));
            self.left[f.at()] = None;
            self.order_steer(now, *f, Steering { to, keep }, why);
        }
        self.stage = Stage::Curing {
            since: now,
            waiting: families.iter().map(|f| Cure::Steer(*f)).collect(),
            until: now + CURE_LIMIT,
        };
    }
}

#[cfg(test)]
mod tests;
