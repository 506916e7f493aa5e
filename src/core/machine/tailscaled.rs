//! Takes looks at tailscaled: what has changed with it, and what that shows to be wrong.

use super::*;

/// A tailscaled that runs when we begin, and is no older, has begun with us: at a boot, or with an upgrade.
const YOUNG: Duration = Duration::from_secs(60);

impl Core {
    pub(super) fn take_tailnet(&mut self, now: Time, mut tailnet: Tailnet) {
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
        self.k.left_alone_since = match tailnet.left_alone {
            Some(_) => self.k.left_alone_since.or(Some(now)),
            None => None,
        };
        let back = old.api != Api::Answers && tailnet.api == Api::Answers;
        self.remark(&tailnet);
        let new_pid = tailnet.pid.is_some() && self.pid != tailnet.pid;
        if let Some(pid) = tailnet.pid.filter(|_| new_pid) {
            self.k.online_seen = false;
            self.k.offline_since = None;
            // A new process tries at once.
            self.k.kept_waiting = false;
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
        self.second_look_asked = false;
        let stood_up = self.pid.is_some() && new_pid;
        self.pid = tailnet.pid.or(self.pid);
        self.have_peers_pinged(&tailnet);
        self.k.tailnet = tailnet;
        self.k.tailnet_read = Some(now);
        self.name_what_tailscaled_does(now);
        if stood_up && self.stage == Stage::Quiet {
            self.prove(
                now,
                Origin::Tailscaled,
                "tailscaled was started anew by another hand".into(),
            );
        } else if self.stage == Stage::Quiet {
            self.name_what_people_do(now);
        }
        match self.stage {
            Stage::Quiet => {
                if let Some(fault) = self.sick(now) {
                    self.prove(now, Origin::Tailscaled, fault);
                }
            }
            Stage::Resting { .. } if back => {
                self.prove(now, Origin::Tailscaled, "tailscaled answers again".into());
            }
            Stage::Resting { .. } if self.mends(now, now).is_some() => {
                self.prove(
                    now,
                    Origin::Tailscaled,
                    "the kernel has lost something of tailscaled's".into(),
                );
            }
            _ => {}
        }
    }

    /// A new process knows no session with any peer, and a peer that goes on using the old one asks for a new one
    /// only after 15 s, then every 5 s (WireGuard, 6.1 and 6.2). A ping from here has one at once.
    fn have_peers_pinged(&mut self, tailnet: &Tailnet) {
        let runs = tailnet.api == Api::Answers && tailnet.backend == Backend::Running;
        if !runs || tailnet.pid.is_none() || self.pinged_for == tailnet.pid {
            return;
        }
        self.pinged_for = tailnet.pid;
        let young = tailnet.process.as_ref().is_some_and(|p| p.age < YOUNG);
        let ran_before_us = self.k.tailnet_read.is_none() && !young;
        if !ran_before_us {
            self.out.push(Action::PingPeers);
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
            (Some(_), None) => {
                self.prove(now, Origin::Tailscaled, "tailscale is wanted again".into());
            }
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
}

#[cfg(test)]
mod tests;
