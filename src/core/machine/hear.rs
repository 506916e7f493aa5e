//! Takes inputs into what is known, and says which of them are a reason to look.

use super::*;

impl Core {
    pub(super) fn take(&mut self, now: Time, input: Input) {
        match input {
            Input::Event(event) => self.take_event(now, event),
            Input::Uplinks(uplinks) => self.take_uplinks(now, uplinks),
            Input::Paths(routes) => self.take_paths(now, routes),
            Input::Tailnet(tailnet) => self.take_tailnet(now, tailnet),
            Input::Probed {
                round,
                scope,
                finding,
            } => self.take_finding(now, round, scope, finding),
            Input::Adopt { family, device } => {
                self.k.steering[family.at()].to = Some(Hop {
                    device,
                    ..Hop::default()
                });
            }
            Input::Cured { cure, result } => self.take_cured(now, cure, result),
            Input::Wake => self.woken_for = None,
            Input::Recover { force } => self.take_recover(now, force),
            Input::Policy(policy) => self.policy = policy,
            Input::Stop => self.stop(),
        }
    }

    fn take_event(&mut self, now: Time, event: Event) {
        if matches!(event, Event::Down { .. } | Event::Up { .. }) {
            // New facts: a move that did not help before may help now.
            if let Some(e) = &mut self.episode {
                e.tried.steer = [0; 2];
            }
        }
        if let Event::Down { interface, .. } | Event::Up { interface, .. } = &event {
            if !self.k.uplinks.iter().any(|u| u.is(interface)) {
                // The LAN, or an uplink that is not known yet: the look will tell.
                self.out.push(Action::Look(Look::All));
                return;
            }
        }
        let text = match event {
            Event::Down { interface, source } => {
                if let Some(u) = self.k.uplinks.iter().find(|u| u.is(&interface)) {
                    self.k.said_down.insert(u.device.clone(), now);
                }
                format!("{source}: {interface} is down")
            }
            Event::Up { interface, source } => {
                if let Some(u) = self.k.uplinks.iter().find(|u| u.is(&interface)) {
                    self.k.said_down.remove(&u.device);
                }
                format!("{source}: {interface} is up")
            }
            Event::Changed { what } => what,
            Event::Kernel { .. } => {
                // Most kernel changes are nobody's fault; the path itself tells.
                self.out.push(Action::Look(Look::Paths));
                return;
            }
            Event::Tailscaled { .. } => {
                self.out.push(Action::Look(Look::Tailnet));
                return;
            }
        };
        self.hear(now, text);
    }

    /// A reason to look at everything.
    fn hear(&mut self, now: Time, text: String) {
        match &self.stage {
            Stage::Proving { since } if now.saturating_sub(*since) < self.policy.settle => {
                self.settle_at = Some(*since + self.policy.settle);
            }
            Stage::Curing { .. } => self.again = true,
            _ => self.prove(now, text),
        }
    }

    fn take_uplinks(&mut self, now: Time, uplinks: Vec<Uplink>) {
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
            for name in fresh {
                for f in Family::BOTH {
                    self.probe_uplink(now, &name, f, Effort::Burst);
                }
            }
        } else if let Some(text) = news {
            self.hear(now, text);
        }
    }

    /// Follows a changed gateway or address of the uplink that the mark is steered to.
    fn refresh_steering(&mut self, family: Family) {
        let Some(to) = &self.k.steering[family.at()].to else {
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
                keep: self.k.steering[family.at()].keep.clone(),
            };
            self.k.steering[family.at()] = steering.clone();
            self.out.push(Action::Steer(family, steering));
        }
    }

    fn take_paths(&mut self, now: Time, routes: [Option<Route>; 2]) {
        self.path_unread = false;
        let first = self.k.paths_read.is_none();
        self.k.paths_read = Some(now);
        let mut moved = Vec::new();
        for (f, route) in Family::BOTH.into_iter().zip(routes) {
            let old = std::mem::replace(&mut self.k.paths[f.at()].route, route);
            if old != self.k.paths[f.at()].route {
                // Public addresses belong to uplinks; another way has another one.
                self.k.paths[f.at()].judgement = Judgement::default();
                moved.push(f);
            }
        }
        if moved.is_empty() {
            return;
        }
        self.k.epoch = Epoch::begin(now, &self.k.tailnet.flows, false);
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
                self.prove(now, text);
            }
        }
    }

    fn take_tailnet(&mut self, now: Time, mut tailnet: Tailnet) {
        let old = &self.k.tailnet;
        if tailnet.api != Api::Answers {
            // What the user wanted last still holds while tailscaled is silent.
            tailnet.backend = old.backend;
            tailnet.wanted = old.wanted;
            tailnet.logged_out = old.logged_out;
            tailnet.key_expired = old.key_expired;
            tailnet.tun = old.tun || old.api == Api::Unknown;
        }
        if old.api != tailnet.api {
            self.k.api_since = now;
        }
        let new_pid = tailnet.pid.is_some() && old.pid != tailnet.pid;
        if new_pid {
            self.k.online_seen = false;
            self.k.offline_since = None;
        }
        match tailnet.online {
            Some(true) => {
                self.k.online_seen = true;
                self.k.offline_since = None;
            }
            _ if !self.k.online_seen => {}
            _ => {
                self.k.offline_since.get_or_insert(now);
            }
        }
        let stood_up = old.pid.is_some() && new_pid;
        self.k.tailnet = tailnet;
        self.k.tailnet_read = Some(now);
        if stood_up && self.stage == Stage::Quiet {
            self.prove(now, "tailscaled was started anew by another hand".into());
        } else if self.stage == Stage::Quiet {
            if let Some(fault) = self.sick(now) {
                self.prove(now, fault);
            }
        }
    }

    /// What a look in quiet times shows to be wrong, without any packet of ours.
    fn sick(&self, now: Time) -> Option<String> {
        if self.k.paths_read.is_none() || self.stopped_by_person() {
            return None;
        }
        diagnose(&self.k, now, now + Duration::from_nanos(1))
            .into_iter()
            .find(|f| f.curable() && !matches!(f, Fault::PinnedRoute { .. }))
            .map(|f| f.to_string())
    }

    fn stopped_by_person(&self) -> bool {
        matches!(
            self.k.tailnet.backend,
            Backend::Stopped | Backend::NeedsLogin | Backend::NeedsMachineAuth
        )
    }

    fn take_finding(&mut self, now: Time, round: u32, scope: Scope, finding: Finding) {
        // A finding for an uplink that is gone would grow the map for ever.
        if let Scope::Uplink(name, _) = &scope {
            if !self.k.uplinks.iter().any(|u| u.name == *name) {
                return;
            }
        }
        let change = self.k.judgement_mut(&scope).take(now, round, finding);
        self.judged(now, &scope, change);
    }

    pub(super) fn judged(&mut self, now: Time, scope: &Scope, change: Change) {
        match change {
            Change::Nothing => {}
            Change::PublicAddress(old, new) => {
                let on_path = match scope {
                    Scope::Path(_) => true,
                    Scope::Uplink(name, f) => {
                        self.k.path_uplink(*f).is_some_and(|u| u.name == *name)
                    }
                };
                if on_path && scope.family() == Family::V4 {
                    self.k.epoch = Epoch::begin(now, &self.k.tailnet.flows, true);
                    self.hear(now, format!("public address changed from {old} to {new}"));
                }
            }
            Change::Verdict => {
                let j = self.k.judgement_mut(scope).clone();
                match scope {
                    Scope::Uplink(name, family) => self.tell(Notice::Uplink {
                        name: name.clone(),
                        family: *family,
                        verdict: j.verdict,
                        evidence: j.evidence,
                    }),
                    Scope::Path(family) => {
                        let shut = matches!(j.verdict, Verdict::Closed | Verdict::Portal);
                        if shut && self.stage == Stage::Quiet {
                            let way = match &self.k.path(*family).route {
                                Some(r) => self.k.name_device(&r.device),
                                None => "no device".into(),
                            };
                            self.prove(
                                now,
                                format!(
                                    "nothing answers on the {family} path by {way} ({})",
                                    j.evidence
                                ),
                            );
                        }
                    }
                }
            }
        }
    }

    fn take_cured(&mut self, now: Time, cure: Cure, result: Result<Report, String>) {
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
        if matches!(&result, Ok(r) if r.peer_answered) {
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
        if matches!(cure, Cure::Steer(_)) {
            self.path_unread = true;
        }
        if done {
            self.cured(now, since, cure);
        }
    }

    fn take_recover(&mut self, now: Time, force: bool) {
        if force {
            self.rests = 0;
            if let Some(e) = &mut self.episode {
                e.tried = ladder::Tried::default();
            }
            self.k.epoch = Epoch::begin(now, &self.k.tailnet.flows, true);
        }
        self.hear(now, "asked for by the owner".into());
    }

    fn stop(&mut self) {
        for f in Family::BOTH {
            let steering = &self.k.steering[f.at()];
            if steering.to.is_none() && steering.keep.is_none() {
                continue;
            }
            // The owner may be coming in over the steering. Leave it while main's way is not open.
            let main_open = self
                .k
                .main_default(f)
                .and_then(|u| self.k.verdict(&u.name, f))
                .is_some_and(|j| j.verdict == Verdict::Open);
            if main_open {
                self.k.steering[f.at()] = Steering::default();
                self.out.push(Action::Steer(f, Steering::default()));
            } else {
                self.tell(Notice::Waiting(format!(
                    "the {f} steering stays, because the router's own default does not reach the \
                     outside; `tailover cleanup` takes it away"
                )));
            }
        }
        self.out.push(Action::Exit);
    }
}
