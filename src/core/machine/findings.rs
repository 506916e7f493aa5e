//! Takes what probes have found: verdicts, flaws, public addresses.

use super::*;

impl Core {
    pub(super) fn take_finding(&mut self, now: Time, round: u32, scope: Scope, finding: Finding) {
        if round <= self.void {
            return;
        }
        // A finding for an uplink that is gone would grow the map for ever.
        if let Scope::Uplink(name, _) = &scope {
            if !self.k.uplinks.iter().any(|u| u.name == *name) {
                return;
            }
        }
        self.hear_lookout(now, round, &scope, &finding);
        let over = finding == Finding::Over;
        let change = self.k.judgement_mut(&scope).take(now, round, finding);
        if let Scope::Path(f) = scope {
            let path = &mut self.k.paths[f.at()];
            path.usual_rtt = path.judgement.rtt.or(path.usual_rtt);
            self.path_answered(now, f);
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
    fn path_answered(&mut self, now: Time, family: Family) {
        let path = &self.k.path(family).judgement;
        if path.open_since(now) {
            self.vouch(now, family, path.evidence.clone());
        }
    }

    /// The path of this family was proved at `at`, and so was the uplink it uses.
    pub(super) fn vouch(&mut self, at: Time, family: Family, evidence: String) {
        let rtt = self.k.path(family).judgement.rtt;
        let uplink = self.k.path_uplink(family).map(|u| u.name.clone());
        if let Some(j) = uplink.and_then(|name| self.k.verdicts.get_mut(&(name, family))) {
            j.vouch(at, evidence, rtt);
        }
    }

    pub(super) fn judged(&mut self, now: Time, scope: &Scope, change: Change) {
        match change {
            Change::Nothing => {}
            Change::PublicAddress { by, old, new } => {
                let family = scope.family();
                let used = self.k.path_uplink(family);
                let used = used.map(|u| Scope::Uplink(u.name.clone(), family));
                let on_path = matches!(scope, Scope::Path(_)) || used.as_ref() == Some(scope);
                if on_path && family == Family::V4 {
                    // The path and its uplink are asked side by side, and it is one change: what is done
                    // after the first word of it is not made void by the second.
                    for there in used.into_iter().chain([Scope::Path(family)]) {
                        self.k.judgement_mut(&there).note_public(by, new);
                    }
                    self.k.epoch = Epoch::begin(now, &self.k.tailnet.flows, true);
                    let text = format!("public address changed from {old} to {new}");
                    match self.stage {
                        Stage::Verifying { .. } => self.prove(now, Origin::Address, text),
                        _ => self.hear(now, Origin::Address, text, None),
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
                                None => self.prove(now, Origin::Path, text),
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
