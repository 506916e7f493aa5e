//! The lookout: while nothing reaches the outside, a datagram by each uplink every second or so, so that the first
//! way out is seen long before the next assessment is due.

use super::*;

/// From one volley to the next: an eighth of the pause, within these. Over a long outage a dead uplink of
/// one family sends some 1 MB a day.
const EVERY_FIRST: Duration = Duration::from_secs(1);
const EVERY_LAST: Duration = Duration::from_secs(5);
const PART: u32 = 8;

/// What is kept up during a rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookout {
    every: Duration,
    /// When the next volley is due.
    at: Time,
    /// Rounds after this one belong to this rest.
    after: u32,
}

impl Core {
    /// Begins with a rest, where nothing is open. An answer that came to nothing, as of a portal that lets
    /// STUN pass, keeps the next one waiting: it may not cost more than one assessment a pause.
    pub(super) fn begin_lookout(&mut self, now: Time, until: Time) {
        let called = std::mem::take(&mut self.called);
        let pause = until.saturating_sub(now);
        let every = (pause / PART).clamp(EVERY_FIRST, EVERY_LAST);
        let first = match called {
            true => pause / 2,
            false => every,
        };
        self.lookout = (!self.k.anything_open(Time::ZERO)).then(|| Lookout {
            every,
            at: now + first,
            after: self.round,
        });
    }

    /// When the next volley is due, during a rest.
    pub(super) fn lookout_due(&self) -> Option<Time> {
        let resting = matches!(self.stage, Stage::Resting { .. });
        Some(self.lookout.as_ref().filter(|_| resting)?.at)
    }

    /// Sends the next volley when it is due. Silence says nothing new, so no judgement hears of it.
    pub(super) fn look_out(&mut self, now: Time) {
        let Some(lookout) = self.lookout.as_mut().filter(|l| l.at <= now) else {
            return;
        };
        lookout.at = now + lookout.every;
        for u in &self.k.uplinks {
            for f in Family::BOTH.into_iter().filter(|f| u.way(*f).is_some()) {
                self.round = self.round.wrapping_add(1);
                self.out.push(Action::Probe {
                    round: self.round,
                    scope: Scope::Uplink(u.name.clone(), f),
                    effort: Effort::Lookout,
                });
            }
        }
    }

    /// An answer to a question of this rest: there may be a way out, and all is proved at once.
    pub(super) fn hear_lookout(&mut self, now: Time, round: u32, scope: &Scope, finding: &Finding) {
        let answers = matches!(finding, Finding::Answer { by, .. } if by.proves() || by.likely());
        let lookout = self.lookout.as_ref().filter(|l| round > l.after);
        let resting = matches!(self.stage, Stage::Resting { .. });
        if let (true, true, Some(_), Scope::Uplink(name, _)) = (resting, answers, lookout, scope) {
            self.called = true;
            self.prove(now, Origin::Path, format!("{name} answers again"));
        }
    }
}

#[cfg(test)]
mod tests;
