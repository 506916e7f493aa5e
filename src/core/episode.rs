//! The record of one fault from its first evidence to a verified healthy tailnet.

use std::collections::VecDeque;
use std::time::Duration;

use super::fault::Fault;
use super::ladder::{Cure, Tried};
use super::Time;

/// Most acts and faults kept in one episode, and episodes in the history: memory is bounded.
const ACTS: usize = 32;
const HISTORY: usize = 64;

/// How an episode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A cure was taken and the tailnet was seen well after it.
    Healed,
    /// It was well again without an act of ours.
    Passed,
    /// What was named is still there, and is none of ours to cure; the tailnet goes on with it.
    NotOurs,
    /// Somebody has to act (portal, login, key).
    NeedsPerson,
}

impl Outcome {
    pub const ALL: [Outcome; 4] = [
        Outcome::Healed,
        Outcome::Passed,
        Outcome::NotOurs,
        Outcome::NeedsPerson,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Outcome::Healed => "healed",
            Outcome::Passed => "passed by itself",
            Outcome::NotOurs => "nothing to cure",
            Outcome::NeedsPerson => "needs a person",
        }
    }
}

/// What made tailover look, as a small set that can be counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody told of a change: netifd, mwan3, a hotplug call, or tailover's own start.
    Event,
    /// The path moved or fell silent.
    Path,
    /// A better uplink was open for `hold`: the way back.
    Return,
    /// The uplink has a new public address.
    Address,
    /// What tailscaled does, or what the kernel holds of it.
    Tailscaled,
    /// The owner asked for it.
    Owner,
    /// The owner asked for a drill.
    Drill,
}

impl Origin {
    pub const ALL: [Origin; 7] = [
        Origin::Event,
        Origin::Path,
        Origin::Return,
        Origin::Address,
        Origin::Tailscaled,
        Origin::Owner,
        Origin::Drill,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Origin::Event => "event",
            Origin::Path => "path",
            Origin::Return => "return",
            Origin::Address => "address",
            Origin::Tailscaled => "tailscaled",
            Origin::Owner => "owner",
            Origin::Drill => "drill",
        }
    }
}

/// One act and what came of it.
#[derive(Clone, Debug)]
pub struct Act {
    pub at: Time,
    pub cure: Cure,
    pub why: String,
    /// `None` while it is under way.
    pub result: Option<Result<String, String>>,
}

/// What a rehearsal of a failover came to. `None` until it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drill {
    pub uplink: String,
    /// The uplink that carries the tailnet meanwhile; empty until it does.
    pub by: String,
    /// How long to stay away once the tailnet is well.
    pub stay: Duration,
    /// When a control connection over another uplink was first seen.
    pub control: Option<Time>,
    /// When the tailnet was first seen well over another uplink.
    pub well: Option<Time>,
    /// When the rehearsal was over and the way back began.
    pub over: Option<Time>,
    /// When the tailnet was seen well over the uplink again.
    pub back: Option<Time>,
    /// Why it ended before its time.
    pub cut: Option<String>,
    /// A fault was named that is none of the drill's making.
    pub fault: bool,
}

impl Drill {
    /// One sentence with the seconds that were measured.
    pub fn summary(&self, began: Time) -> String {
        let after = |from: Time, t: Option<Time>| match t {
            Some(t) => format!("{:.1} s", t.saturating_sub(from).as_secs_f64()),
            None => "not seen".into(),
        };
        let cut = self.cut.as_ref().map(|why| format!("{why}; "));
        format!(
            "{}control {}, tailnet {}, back {}",
            cut.unwrap_or_default(),
            after(began, self.control),
            after(began, self.well),
            after(self.over.unwrap_or(began), self.back),
        )
    }

    /// True when the tailnet came back without the uplink and with it again.
    pub fn passed(&self) -> bool {
        self.cut.is_none() && self.control.is_some() && self.well.is_some() && self.back.is_some()
    }
}

/// A fault from first evidence to health.
#[derive(Clone, Debug)]
pub struct Episode {
    pub began: Time,
    pub origin: Origin,
    /// What made tailover look: an event, a silent path, a changed address.
    pub trigger: String,
    /// Identifier and sentence of each fault, in the order they were named.
    pub faults: Vec<(&'static str, String)>,
    pub acts: Vec<Act>,
    pub tried: Tried,
    /// This episode is a rehearsal.
    pub drill: Option<Drill>,
    /// When the tailnet was verified, and how it ended.
    pub ended: Option<(Time, Outcome)>,
}

impl Episode {
    pub fn new(now: Time, origin: Origin, trigger: String) -> Episode {
        Episode {
            began: now,
            origin,
            trigger,
            faults: Vec::new(),
            acts: Vec::new(),
            tried: Tried::default(),
            drill: None,
            ended: None,
        }
    }

    /// Names a fault. True when this kind was not named in this episode before.
    pub fn name(&mut self, fault: &Fault) -> bool {
        if self.faults.iter().any(|(id, _)| *id == fault.id()) || self.faults.len() >= ACTS {
            return false;
        }
        self.faults.push((fault.id(), fault.to_string()));
        true
    }

    pub fn act(&mut self, at: Time, cure: Cure, why: String) {
        if self.acts.len() < ACTS {
            self.acts.push(Act {
                at,
                cure,
                why,
                result: None,
            });
        }
    }

    /// Books the result of the newest act of that cure.
    pub fn result(&mut self, cure: Cure, result: Result<String, String>) {
        if let Some(a) = self.acts.iter_mut().rev().find(|a| a.cure == cure) {
            a.result = Some(result);
        }
    }

    /// From the first evidence to health, or to `now` while it lasts.
    pub fn lasted(&self, now: Time) -> Duration {
        let end = self.ended.map_or(now, |(t, _)| t);
        end.saturating_sub(self.began)
    }
}

/// The newest episodes, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    episodes: VecDeque<Episode>,
    ended: u64,
}

impl History {
    pub fn add(&mut self, e: Episode) {
        self.ended += 1;
        if self.episodes.len() == HISTORY {
            self.episodes.pop_front();
        }
        self.episodes.push_back(e);
    }

    /// How many have ended, also those that are not kept any more.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Episode> + ExactSizeIterator {
        self.episodes.iter()
    }
}

#[cfg(test)]
mod tests;
