//! Takes inputs: each goes to the room that it concerns; events and the owner's words are taken here.

use super::*;

impl Core {
    pub(super) fn take(&mut self, now: Time, input: Input) {
        match input {
            Input::Event(event) => self.take_event(now, event),
            Input::Uplinks(uplinks) => self.take_uplinks(now, uplinks),
            Input::Paths(routes) => self.take_paths(now, routes),
            Input::Tailnet(tailnet) => self.take_tailnet(now, *tailnet),
            Input::Probed {
                round,
                scope,
                finding,
            } => self.take_finding(now, round, scope, finding),
            Input::Adopt { family, to, keep } => {
                let hop = |device| Hop {
                    device,
                    ..Hop::default()
                };
                // What is kept is given up when the first assessment ends, as after a way back.
                self.k.steering[family.at()] = Steering {
                    to: to.map(hop),
                    keep: keep.map(hop),
                };
            }
            Input::Restarted(ages) => self.budget.recall(now, &ages, &self.policy.limits),
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
                about = self.note_word(&interface, Some(now));
                format!("{source}: {interface} is down")
            }
            Event::Up { interface, source } => {
                about = self.note_word(&interface, None);
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
        self.hear(now, Origin::Event, text, about);
    }

    /// Keeps in mind since when an interface is called down, for the families that it carries, or forgets it.
    /// Gives the uplink that it belongs to.
    fn note_word(&mut self, interface: &str, down: Option<Time>) -> Option<String> {
        let u = self.k.uplinks.iter().find(|u| u.is(interface))?;
        for f in Family::BOTH {
            let way = (u.device.clone(), f);
            match down {
                _ if !u.carries(interface, f) => {}
                Some(at) => _ = self.k.said_down.insert(way, at),
                None => _ = self.k.said_down.remove(&way),
            }
        }
        Some(u.name.clone())
    }

    /// A reason to look at everything, or only at `about`, the uplink it concerns, when the rest is
    /// being looked at already.
    pub(super) fn hear(&mut self, now: Time, origin: Origin, text: String, about: Option<String>) {
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
            _ => self.prove(now, origin, text),
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

    fn take_recover(&mut self, now: Time, force: bool) {
        if force {
            self.rests = 0;
            if let Some(e) = &mut self.episode {
                e.tried = ladder::Tried::default();
            }
            self.k.epoch = Epoch::begin(now, &self.k.tailnet.flows, true);
        }
        let (origin, text) = (Origin::Owner, "asked for by the owner".into());
        match self.stage {
            Stage::Verifying { .. } if force => self.prove(now, origin, text),
            _ => self.hear(now, origin, text, None),
        }
    }

    fn stop(&mut self, now: Time) {
        self.stopped = true;
        for f in Family::BOTH {
            let steering = self.k.steering(f);
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
                        && j.flaws.hinders().is_none()
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

#[cfg(test)]
mod tests;
