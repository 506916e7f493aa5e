//! Takes inputs into what is known, and says which of them are a reason to look.

use std::net::IpAddr;

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
            Input::Pulse(pulse) => self.take_pulse(now, &pulse),
            Input::Cured { cure, result } => self.take_cured(now, cure, result),
            Input::Pins(pins) => self.take_pins(pins),
            Input::Wake => self.woken_for = None,
            Input::Warnings(warnings) => self.k.warnings = warnings,
            Input::Recover { force } => self.take_recover(now, force),
            Input::Policy(policy) => self.policy = policy,
            Input::Drill { uplink, stay } => self.take_drill(now, uplink, stay),
            Input::DrillStop => self.take_drill_stop(),
            Input::Stop => self.stop(now),
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
        let mut about = None;
        let text = match event {
            Event::Down { interface, source } => {
                if let Some(u) = self.k.uplinks.iter().find(|u| u.is(&interface)) {
                    self.k.said_down.insert(u.device.clone(), now);
                    about = Some(u.name.clone());
                }
                format!("{source}: {interface} is down")
            }
            Event::Up { interface, source } => {
                if let Some(u) = self.k.uplinks.iter().find(|u| u.is(&interface)) {
                    self.k.said_down.remove(&u.device);
                    about = Some(u.name.clone());
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
            Event::Service(word) => {
                self.k.starts.word(now, word);
                self.out.push(Action::Look(Look::Tailnet));
                return;
            }
        };
        self.hear(now, text, about);
    }

    /// A reason to look at everything, or only at `about`, the uplink it concerns, when the rest is
    /// being looked at already.
    fn hear(&mut self, now: Time, text: String, about: Option<String>) {
        match &self.stage {
            // Begun anew, an assessment would never end under a steady trickle of events.
            Stage::Proving { since } => {
                let since = *since;
                self.settle_at.get_or_insert(now + self.policy.settle);
                if now.saturating_sub(since) >= self.policy.settle {
                    self.doubt(now, about);
                }
            }
            Stage::Curing { .. } => self.again = true,
            // The acts need their time; only a word against the way they use cuts it short.
            Stage::Verifying { .. } if !self.hits_path(about.as_deref()) => {
                self.settle_at.get_or_insert(now + self.policy.settle);
            }
            _ => self.prove(now, text),
        }
    }

    /// Has an uplink prove itself anew within the assessment that runs.
    fn doubt(&mut self, now: Time, about: Option<String>) {
        let Some(name) = about else { return };
        for f in Family::BOTH {
            let pending = self.k.verdict(&name, f).is_some_and(|j| j.pending());
            if pending {
                continue;
            }
            if let Some(j) = self.k.verdicts.get_mut(&(name.clone(), f)) {
                j.forget(now);
            }
            self.probe_uplink(now, &name, f, Effort::Burst);
            let on_path = self.k.path_uplink(f).is_some_and(|u| u.name == name);
            if on_path && !self.k.path(f).judgement.pending() {
                self.k.paths[f.at()].judgement.forget(now);
                self.probe_path(now, f, Effort::Burst);
            }
        }
    }

    fn hits_path(&self, about: Option<&str>) -> bool {
        let used = |f| self.k.path_uplink(f).map(|u| u.name.as_str());
        about.is_some() && Family::BOTH.into_iter().any(|f| used(f) == about)
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
            for name in fresh.clone() {
                for f in Family::BOTH {
                    self.probe_uplink(now, &name, f, Effort::Burst);
                }
            }
        } else if let Some(text) = news {
            self.hear(now, text, fresh.first().cloned());
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
            if ours {
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
                self.prove(now, text);
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
            self.k.verdicts.entry(key).or_default().forget(now);
        }
    }

    /// After a move of ours: the path is proved even where the kernel's route did not change, and
    /// the uplink it uses is asked for the control server unless that was done already.
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
        let process = tailnet.process.clone().unwrap_or_default();
        if old.api != tailnet.api || tailnet.spoke {
            self.k.api_since = now;
            self.k.cpu_then = process.cpu;
        }
        self.k.halted_since = match process.halted {
            true => self.k.halted_since.or(Some(now)),
            false => None,
        };
        let back = old.api != Api::Answers && tailnet.api == Api::Answers;
        self.remark(&tailnet);
        let new_pid = tailnet.pid.is_some() && self.pid != tailnet.pid;
        if let Some(pid) = tailnet.pid.filter(|_| new_pid) {
            self.k.online_seen = false;
            self.k.offline_since = None;
            self.k.starts.process(now, pid, process.age);
        }
        if !tailnet.hands.is_empty() {
            self.k.hands = std::mem::take(&mut tailnet.hands);
        }
        match tailnet.online {
            Some(true) => {
                self.k.online_seen = true;
                self.k.offline_since = None;
            }
            // Stopped or starting is not offline.
            _ if tailnet.backend != Backend::Running => self.k.offline_since = None,
            _ if !self.k.online_seen => {}
            _ => {
                self.k.offline_since.get_or_insert(now);
            }
        }
        self.k.lost_since = match tailnet.lost.what.is_empty() {
            true => None,
            false => self.k.lost_since.or(Some(now)),
        };
        self.loss_unread = false;
        self.loss_asked = false;
        let stood_up = self.pid.is_some() && new_pid;
        self.pid = tailnet.pid.or(self.pid);
        self.k.tailnet = tailnet;
        self.k.tailnet_read = Some(now);
        self.name_what_tailscaled_does(now);
        if stood_up && self.stage == Stage::Quiet {
            self.prove(now, "tailscaled was started anew by another hand".into());
        } else if self.stage == Stage::Quiet {
            self.name_what_people_do(now);
        }
        match self.stage {
            Stage::Quiet => {
                if let Some(fault) = self.sick(now) {
                    self.prove(now, fault);
                }
            }
            Stage::Resting { .. } if back => self.prove(now, "tailscaled answers again".into()),
            Stage::Resting { .. } if self.mends(now, now).is_some() => {
                self.prove(now, "the kernel has lost something of tailscaled's".into());
            }
            _ => {}
        }
    }

    /// Says what has changed with tailscaled and is no fault.
    fn remark(&mut self, tailnet: &Tailnet) {
        let old = &self.k.tailnet;
        let mut lines = Vec::new();
        if let Some(socket) = &tailnet.elsewhere {
            if old.elsewhere.as_ref() != Some(socket) {
                lines.push(format!(
                    "tailscaled listens on {socket} and that is used; set the option `socket` to it"
                ));
            }
        }
        let upgraded = !self.version.is_empty() && self.version != tailnet.version;
        if tailnet.api == Api::Answers {
            if upgraded {
                let (from, to) = (&self.version, &tailnet.version);
                lines.push(format!("tailscaled was {from} and is {to} now"));
            }
            self.version.clone_from(&tailnet.version);
        }
        for line in lines {
            self.tell(Notice::Remark(line));
        }
    }

    /// Keeps the faults that are none of ours to cure up to date between assessments.
    fn name_what_people_do(&mut self, now: Time) {
        let control = self.k.standing(Purpose::Control);
        let online = self.k.tailnet.online != Some(false);
        let is = needs_person(&self.k).map(|what| Fault::NeedsPerson { what });
        let was = self
            .faults
            .iter()
            .position(|f| matches!(f, Fault::NeedsPerson { .. }));
        let before = was.map(|at| self.faults.swap_remove(at));
        self.faults
            .retain(|f| !matches!(f, Fault::ControlDown { .. }) || control.fresh == 0 || !online);
        match (before, is) {
            (Some(_), None) => self.prove(now, "tailscale is wanted again".into()),
            (before, Some(is)) => {
                if before.as_ref() != Some(&is) {
                    self.tell(Notice::Fault {
                        id: is.id(),
                        text: is.to_string(),
                        curable: false,
                    });
                }
                self.faults.insert(0, is);
            }
            (None, None) => {}
        }
    }

    /// Keeps what is wrong with tailscaled itself and is not cured up to date at any time.
    fn name_what_tailscaled_does(&mut self, now: Time) {
        let is = of_tailscaled(&self.k, now);
        let (was, rest): (Vec<Fault>, _) = std::mem::take(&mut self.faults)
            .into_iter()
            .partition(Fault::is_of_tailscaled);
        self.faults = rest;
        for fault in is {
            let known = was.iter().any(|f| f.id() == fault.id());
            if !known {
                self.tell(Notice::Fault {
                    id: fault.id(),
                    text: fault.to_string(),
                    curable: false,
                });
            }
            self.faults.push(fault);
        }
    }

    /// What a look in quiet times shows to be wrong, without any packet of ours.
    pub(super) fn sick(&self, now: Time) -> Option<String> {
        self.k.paths_read?;
        suspicion(&self.k, now, self.control_down()).or_else(|| self.unheard())
    }

    /// The control connection is not heard any more; its server may be down, which is asked at once
    /// and then now and then.
    fn unheard(&self) -> Option<String> {
        let (to, times) = self.k.standing(Purpose::Control).unheard?;
        (!self.control_down())
            .then(|| format!("the control connection to {to} is not heard ({times} times resent)"))
    }

    fn take_finding(&mut self, now: Time, round: u32, scope: Scope, finding: Finding) {
        // A finding for an uplink that is gone would grow the map for ever.
        if let Scope::Uplink(name, _) = &scope {
            if !self.k.uplinks.iter().any(|u| u.name == *name) {
                return;
            }
        }
        let over = finding == Finding::Over;
        let change = self.k.judgement_mut(&scope).take(now, round, finding);
        if let Scope::Path(f) = scope {
            let path = &mut self.k.paths[f.at()];
            path.usual_rtt = path.judgement.rtt.or(path.usual_rtt);
            self.vouch(now, f);
        }
        self.judged(now, &scope, change);
        if over {
            let flaws = &self.k.judgement_mut(&scope).flaws;
            if flaws.tls_doubt && flaws.tls.is_none() {
                self.recheck_at = self.recheck_at.min(now + DOUBT_FOR);
            }
            self.name_flaws();
        }
    }

    /// Keeps the faults up to date that show when a full round has ended, which is later than its
    /// verdict and may be after the assessment.
    fn name_flaws(&mut self) {
        let now = shown(&self.k);
        let before: Vec<Fault> = self
            .faults
            .iter()
            .filter(|f| is_shown(f))
            .cloned()
            .collect();
        self.faults.retain(|f| !is_shown(f));
        for fault in &now {
            // Within an episode its own list says what was told.
            let told = match &mut self.episode {
                Some(e) => !e.name(fault),
                None => before.iter().any(|f| f.id() == fault.id()),
            };
            if !told {
                self.tell_fault(fault);
            }
        }
        self.faults.extend(now);
    }

    /// A path that has just answered speaks for the uplink it uses.
    fn vouch(&mut self, now: Time, family: Family) {
        let path = &self.k.path(family).judgement;
        if !path.open_since(now) {
            return;
        }
        let (evidence, rtt) = (path.evidence.clone(), path.rtt);
        let uplink = self.k.path_uplink(family).map(|u| u.name.clone());
        if let Some(j) = uplink.and_then(|name| self.k.verdicts.get_mut(&(name, family))) {
            j.vouch(now, evidence, rtt);
        }
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
                    let text = format!("public address changed from {old} to {new}");
                    match self.stage {
                        Stage::Verifying { .. } => self.prove(now, text),
                        _ => self.hear(now, text, None),
                    }
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
                        if shut {
                            // What a peer said came by a way that was open then.
                            self.k.epoch.peer_answered = false;
                        }
                        if shut && self.stage == Stage::Quiet {
                            let way = match &self.k.path(*family).route {
                                Some(r) => self.k.name_device(&r.device),
                                None => "no device".into(),
                            };
                            let text = format!(
                                "nothing answers on the {family} path by {way} ({})",
                                j.evidence
                            );
                            match self.suspicion.take() {
                                Some(s) => self.prove_suspicion(now, s, &text),
                                None => self.prove(now, text),
                            }
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

    fn take_recover(&mut self, now: Time, force: bool) {
        if force {
            self.rests = 0;
            if let Some(e) = &mut self.episode {
                e.tried = ladder::Tried::default();
            }
            self.k.epoch = Epoch::begin(now, &self.k.tailnet.flows, true);
        }
        match self.stage {
            Stage::Verifying { .. } if force => self.prove(now, "asked for by the owner".into()),
            _ => self.hear(now, "asked for by the owner".into(), None),
        }
    }

    fn stop(&mut self, now: Time) {
        self.stopped = true;
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
                .is_some_and(|j| {
                    // Older than that, an answer says nothing of now.
                    j.verdict.is_open()
                        && j.judged_at
                            .is_some_and(|t| now.saturating_sub(t) <= ANSWER_COUNTS)
                });
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

/// The address that both routes send from although they leave by different devices.
fn same_source(old: Option<&Route>, new: Option<&Route>) -> Option<IpAddr> {
    let (old, new) = (old?, new?);
    let both = old.device != new.device && old.source == new.source;
    new.source.filter(|_| both)
}
