//! Suspicion: a sign that cost no packet has the path asked at once, and the others if it is silent.

use super::*;

/// The other uplinks are asked when the path has been silent for this long, or three times as long
/// as it usually takes: most suspicions end before that, with one exchange.
const OTHERS_AFTER: Duration = Duration::from_millis(300);
const OTHERS_ROUND_TRIPS: u32 = 3;

/// A heartbeat that is not answered within this time is itself a sign.
const BEAT_SILENT: Duration = Duration::from_millis(600);

/// A burst has sent its datagrams after 0.9 s; the last one gets at least this long, or four round
/// trips, where another uplink has answered meanwhile.
const BURST_SENT: Duration = Duration::from_millis(900);
const LAST_ANSWER: Duration = Duration::from_millis(350);

/// Pulses while the tailnet is in use, or something is wrong; and while it is idle.
const PULSE_IN_USE: Duration = Duration::from_millis(500);
const PULSE_IDLE: Duration = Duration::from_secs(10);

/// Connections are read this often at most.
const CONNECTIONS_EVERY: Duration = Duration::from_secs(2);

/// A path that is being asked because of a sign.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Suspicion {
    /// Answers and silences count from here.
    pub since: Time,
    /// The sign, in words.
    pub why: String,
    others_asked: bool,
}

impl Core {
    /// When the counters are read next. Each wake-up of an idle router costs: where a look or a
    /// heartbeat is due about then, the pulse comes with it.
    pub(super) fn pulse_again(&mut self, now: Time) {
        self.pulse_at = match self.calm(now) {
            true => {
                let usual = now + PULSE_IDLE;
                let near = |due: &Time| due.abs_diff(usual) <= PULSE_IDLE / 3;
                let due = [self.look_at, self.beat_at].into_iter().filter(near);
                due.min().unwrap_or(usual)
            }
            false => now + PULSE_IN_USE,
        };
    }

    /// A heartbeat that is due between this idle pulse and the time when the next one could come with
    /// it comes with this one.
    pub(super) fn beat_with_pulse(&mut self, now: Time) {
        if self.calm(now) && self.beat_at < now + PULSE_IDLE * 2 / 3 {
            self.beat_at = self.beat_at.min(now);
        }
    }

    /// What the next pulse reads. Connections cost the kernel a walk through its whole table, so
    /// while nothing is under way the full look alone has them read.
    pub(super) fn pulse_now(&mut self, now: Time) -> Look {
        let due = self.connections_at <= now && !self.calm(now);
        if due {
            self.connections_at = now + CONNECTIONS_EVERY;
        }
        match due {
            true => Look::Pulse,
            false => Look::Counters,
        }
    }

    /// Nothing is wrong, nothing is asked, and nobody uses the tailnet.
    pub(super) fn calm(&self, now: Time) -> bool {
        self.stage == Stage::Quiet
            && self.suspicion.is_none()
            && self.faults.is_empty()
            && !self.signs.in_use(now)
    }

    pub(super) fn take_pulse(&mut self, now: Time, pulse: &Pulse) {
        let flows = &self.k.tailnet.flows;
        let own = |r: &Resending| {
            flows
                .iter()
                .any(|f| (f.local, f.remote) == (r.local, r.remote))
        };
        if let Some(list) = &pulse.resending {
            self.k.resending = list.iter().filter(|r| own(r)).cloned().collect();
        }
        let used: Vec<&str> = self
            .k
            .paths
            .iter()
            .filter_map(|p| Some(p.route.as_ref()?.device.as_str()))
            .collect();
        let sign = self.signs.take(now, pulse, &used, own);
        // Only now it is known whether the tailnet is in use.
        self.pulse_again(now);
        let known = self.k.tailnet.process.as_ref();
        if pulse.halted && !known.is_some_and(|p| p.halted) {
            self.look_unless_within(now, SILENT_EVERY);
        }
        if self.stage != Stage::Quiet {
            return;
        }
        if let Some(why) = self.sick(now) {
            return self.prove(now, Origin::Tailscaled, why);
        }
        if let Some(why) = sign {
            match self.calm(now) {
                // Nobody waits: the next heartbeat comes now, and costs nothing in the long run.
                true if self.signs.may_ask(now) => {
                    self.sign_of_idle = true;
                    (self.look_at, self.beat_at) = (now, now);
                }
                false if self.signs.may_ask(now) => self.suspect(now, why),
                _ => {}
            }
        }
        if let Some(heard) = &pulse.heard {
            self.beat(now, heard);
        }
    }

    /// Has the path asked with a burst of datagrams. Nothing is done before it has been silent.
    pub(super) fn suspect(&mut self, now: Time, why: String) {
        let idle = needs_person(&self.k).is_some() || !self.k.tailnet.tun;
        if self.stage != Stage::Quiet || self.suspicion.is_some() || idle {
            return;
        }
        for f in Family::BOTH {
            if self.k.path(f).route.is_some() {
                self.probe_path(now, f, Effort::Suspect);
            }
        }
        self.suspicion = Some(Suspicion {
            since: now,
            why,
            others_asked: false,
        });
    }

    /// Follows a suspicion: asks the others in time, brings the verdict forward, forgets it when
    /// the path has answered.
    pub(super) fn follow_suspicion(&mut self, now: Time) {
        self.doubt_slow_beat(now);
        let Some(s) = self.suspicion.clone() else {
            return;
        };
        if self.k.paths.iter().all(|p| !p.judgement.pending()) {
            // A silent path has begun an assessment by now.
            self.suspicion = None;
            return;
        }
        if !s.others_asked && now >= self.ask_others_at(&s) {
            if let Some(s) = &mut self.suspicion {
                s.others_asked = true;
            }
            let used: Vec<Option<String>> = Family::BOTH
                .iter()
                .map(|f| self.k.path_uplink(*f).map(|u| u.name.clone()))
                .collect();
            let names: Vec<String> = self.k.uplinks.iter().map(|u| u.name.clone()).collect();
            for name in names {
                for f in Family::BOTH {
                    if used[f.at()].as_ref() != Some(&name) {
                        self.probe_uplink(now, &name, f, Effort::Suspect);
                    }
                }
            }
        }
        self.hasten(now, s.since);
    }

    /// When silence of the path counts, measured from `since`, with another uplink answering in
    /// `rtt`, the path itself usually in `own`.
    pub(super) fn burst_silence(rtt: Duration, own: Duration) -> Duration {
        BURST_SENT + LAST_ANSWER.max(rtt.max(own) * QUICK_ROUND_TRIPS)
    }

    /// The next instant that a suspicion waits for.
    pub(super) fn suspicion_due(&self) -> Option<Time> {
        let beats = self
            .k
            .paths
            .iter()
            .filter_map(|p| Some(p.beat_at? + beat_silence(p)));
        let Some(s) = &self.suspicion else {
            return beats.min();
        };
        match s.others_asked {
            false => Some(self.ask_others_at(s)),
            true => Some(s.since + Self::burst_silence(Duration::ZERO, Duration::ZERO)),
        }
    }

    fn ask_others_at(&self, s: &Suspicion) -> Time {
        let own = self.k.paths.iter().filter_map(|p| p.usual_rtt);
        let own = own.max().unwrap_or_default();
        s.since + OTHERS_AFTER.max(own * OTHERS_ROUND_TRIPS)
    }

    fn doubt_slow_beat(&mut self, now: Time) {
        for p in &mut self.k.paths {
            if !p.judgement.pending() {
                p.beat_at = None;
            }
        }
        if self.suspicion.is_some() {
            return;
        }
        let slow = self.k.paths.iter().any(|p| {
            p.beat_at
                .is_some_and(|began| began + beat_silence(p) <= now)
        });
        if slow {
            self.suspect(now, "the look at the path is not answered".into());
        }
    }
}

fn beat_silence(p: &Path) -> Duration {
    BEAT_SILENT.max(p.usual_rtt.unwrap_or_default() * OTHERS_ROUND_TRIPS)
}

#[cfg(test)]
impl Suspicion {
    pub(super) fn test(since: Time) -> Suspicion {
        Suspicion {
            since,
            why: "a sign".into(),
            others_asked: false,
        }
    }
}

#[cfg(test)]
mod tests;
