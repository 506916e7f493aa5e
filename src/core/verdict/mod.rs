//! From single probe answers to a verdict on a way out, and to a change of its public address.

use std::net::IpAddr;
use std::time::Duration;

use super::finding::{By, Finding};
use super::flaws::{Clues, Flaws};
use super::{Effort, Family, Time};

/// What a round of probes says of an uplink or of the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// An answer came from beyond the gateway that a captive portal cannot give.
    Open,
    /// The same, but no resolver answers: enough for a tailscaled that knows its addresses.
    DnsDead,
    /// Something answers in the outside's place.
    Portal,
    /// Nothing came back in time.
    Closed,
    /// Not probed yet, or the round is still running.
    #[default]
    Unknown,
}

impl Verdict {
    pub const ALL: [Verdict; 5] = [
        Verdict::Open,
        Verdict::DnsDead,
        Verdict::Portal,
        Verdict::Closed,
        Verdict::Unknown,
    ];

    /// The word in `status`, the log and the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Open => "open",
            Verdict::DnsDead => "dns-dead",
            Verdict::Portal => "portal",
            Verdict::Closed => "closed",
            Verdict::Unknown => "unknown",
        }
    }

    /// True when packets get out and answers come back.
    pub fn is_open(self) -> bool {
        matches!(self, Verdict::Open | Verdict::DnsDead)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// Answers further apart than this do not prove the time between them.
const STEADY_GAP: Duration = Duration::from_secs(15);

/// Bound on the single results that a judgement keeps, for those who ask for the evidence.
const RESULTS: usize = 12;

/// Bound on what a judgement remembers of public addresses: a CGNAT pool shows several.
const PUBLIC_SEEN: usize = 8;

/// The running opinion on one scope.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    pub verdict: Verdict,
    /// When the verdict last became what it is.
    pub since: Time,
    /// Since when answers have come without a gap: an uplink that nobody asked may have been dead.
    pub steady_since: Option<Time>,
    /// When the last round came to its verdict.
    pub judged_at: Option<Time>,
    /// Shortest answer of the last round.
    pub rtt: Option<Duration>,
    /// One short line for people: what answered, or what did not, and the flaws.
    pub evidence: String,
    /// The same without the flaws.
    answer: String,
    /// What came of each probe of the last round: whom it asked, and what was seen.
    pub results: Vec<(String, String)>,
    /// The round that they belong to: those of the one before stay until there are others.
    results_of: u32,
    /// Newest public address shown by STUN or by an address service.
    pub public: Option<IpAddr>,
    /// Whether the control server answers here, and since when that is known.
    pub control: Option<(Result<(), String>, Time)>,
    /// When a resolver last answered.
    pub resolved: Option<Time>,
    /// What is wrong with the way although it is open, as the newest full round has it.
    pub flaws: Flaws,
    /// Addresses seen, with the kind of probe that showed them. An address service may be reached by
    /// a proxy that STUN does not know: each kind is compared with itself only.
    seen: Vec<(By, IpAddr)>,
    round: Option<Round>,
    /// What the newest full round has gathered, with its number. It goes on after the verdict: a
    /// handshake takes longer than a datagram.
    clues: Option<(u32, Clues)>,
}

#[derive(Clone, Debug)]
struct Round {
    id: u32,
    deadline: Time,
    burst: bool,
    proved: bool,
    likely: bool,
    weak: bool,
    portal: bool,
    /// Conversations begun on connections that had opened, and whether anybody talked.
    opened: bool,
    talked: bool,
    failures: u16,
}

/// What a finding changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Verdict,
    /// The public address is one that this kind of probe has not seen here before.
    PublicAddress {
        by: By,
        old: IpAddr,
        new: IpAddr,
    },
}

impl Judgement {
    /// Starts a round of that effort. Its verdict is due at `deadline` at the latest.
    pub fn begin(&mut self, id: u32, deadline: Time, effort: Effort) {
        self.round = Some(Round {
            id,
            deadline,
            burst: effort == Effort::Burst,
            proved: false,
            likely: false,
            weak: false,
            portal: false,
            opened: false,
            talked: false,
            failures: 0,
        });
        if effort == Effort::Burst {
            self.clues = Some((id, Clues::default()));
        }
    }

    /// Something else proved it at `at`, as the path by this uplink that has answered: what is open
    /// was so still. Older than its last answer, that says nothing.
    pub fn vouch(&mut self, at: Time, evidence: String, rtt: Option<Duration>) {
        let news = self.judged_at.is_none_or(|t| t <= at);
        if self.verdict == Verdict::Open && !self.pending() && news {
            self.rule(at, Verdict::Open, evidence);
            self.rtt = rtt;
        }
    }

    /// Ends the round that runs, if one does, without a verdict.
    pub fn abandon(&mut self) {
        self.round = None;
        self.clues = None;
    }

    /// True while a round has not come to its verdict.
    pub fn pending(&self) -> bool {
        self.round.is_some()
    }

    /// True while a full round still gathers flaws. Its verdict may be out already.
    pub fn gathering(&self) -> bool {
        self.clues.is_some()
    }

    /// True while a full round runs in which no large packet has passed yet.
    pub fn may_lose_large(&self) -> bool {
        self.clues.as_ref().is_some_and(|(_, c)| !c.large_passed())
    }

    /// True while a round runs in which the control server is asked.
    pub fn bursting(&self) -> bool {
        self.round.as_ref().is_some_and(|r| r.burst)
    }

    /// When the running round must be closed, if one runs.
    pub fn deadline(&self) -> Option<Time> {
        self.round.as_ref().map(|r| r.deadline)
    }

    /// Brings the deadline of a running round forward, never back.
    pub fn hasten(&mut self, deadline: Time) {
        if let Some(r) = &mut self.round {
            r.deadline = r.deadline.min(deadline);
        }
    }

    /// Takes a finding of round `id`.
    ///
    /// An answer that comes after the verdict still acquits: the uplink is slow, not dead.
    pub fn take(&mut self, now: Time, id: u32, finding: Finding) -> Change {
        if self.round.as_ref().is_some_and(|r| r.id == id) {
            self.note_result(id, &finding);
        }
        if let Finding::Control(result) = finding {
            self.control = Some((result, now));
            return Change::Nothing;
        }
        let gathered = self.gather(now, id, &finding);
        let current = self.round.as_ref().is_some_and(|r| r.id == id);
        let mut change = Change::Nothing;
        match &finding {
            Finding::Answer {
                by,
                target,
                rtt,
                public,
            } => {
                // A late answer of an older round may have come by another way.
                if let Some(new) = public.filter(|_| current) {
                    change = self.note_public(*by, new);
                }
                if let Some(r) = self.round.as_mut().filter(|r| r.id == id) {
                    r.proved |= by.proves();
                    r.likely |= by.likely();
                    r.weak |= matches!(by, By::Tcp | By::Http);
                    r.talked |= !matches!(by, By::Tcp | By::Stun);
                }
                let better = self.rtt.is_none_or(|old| *rtt < old);
                if !current || better || !self.verdict.is_open() {
                    self.rtt = Some(*rtt);
                }
                let shut = matches!(self.verdict, Verdict::Closed | Verdict::Portal);
                if !current && by.proves() && shut {
                    let text = format!("{target} answered late, after {} ms", rtt.as_millis());
                    return self.open(now, text, Change::Nothing);
                }
                if current {
                    let text = format!("{target} answered in {} ms", rtt.as_millis());
                    if self.round.as_ref().is_some_and(|r| self.settles(r)) {
                        // The round stays: a portal seen later in it still counts.
                        return self.open(now, text, change);
                    }
                }
            }
            Finding::Intercepted { target, what } if current => {
                if let Some(r) = &mut self.round {
                    r.portal = true;
                    r.talked = true;
                    if !r.proved {
                        let text = format!("{target}: {what}");
                        return self.rule(now, Verdict::Portal, text);
                    }
                }
            }
            Finding::Failed { .. } if current => {
                if let Some(r) = &mut self.round {
                    r.failures = r.failures.saturating_add(1);
                }
                self.note_failure(&finding);
            }
            Finding::Opened if current => {
                if let Some(r) = &mut self.round {
                    r.opened = true;
                }
            }
            Finding::Talked if current => {
                if let Some(r) = &mut self.round {
                    r.talked = true;
                }
            }
            Finding::Nobody if current => {
                self.round = None;
                return self.rule(
                    now,
                    Verdict::Unknown,
                    "no target of this family is known".into(),
                );
            }
            Finding::NoWay(why) if current => {
                // Nothing was sent, so nothing more comes of it.
                self.abandon();
                return self.rule(now, Verdict::Unknown, why.clone());
            }
            Finding::Over => {
                let closed = match current {
                    true => self.close(now),
                    false => Change::Nothing,
                };
                return match (closed, self.conclude(now, id)) {
                    (Change::Nothing, told) => told,
                    (closed, _) => closed,
                };
            }
            _ => {}
        }
        match change {
            Change::Nothing => gathered,
            change => change,
        }
    }

    /// Takes what a finding tells beyond open and closed. A name that resolves counts at once.
    fn gather(&mut self, now: Time, id: u32, finding: &Finding) -> Change {
        let Some((_, clues)) = self.clues.as_mut().filter(|(round, _)| *round == id) else {
            return Change::Nothing;
        };
        match finding {
            Finding::Tls { target, end } => clues.tls(target, end),
            Finding::Large(result) => clues.large(result),
            Finding::Names(result) => {
                clues.names(result);
                if result.is_ok() {
                    self.resolved = Some(now);
                    self.flaws.names = None;
                    return self.restate(now);
                }
            }
            _ => {}
        }
        Change::Nothing
    }

    /// The round has ended: what it gathered is what is known now.
    fn conclude(&mut self, now: Time, id: u32) -> Change {
        let Some((_, clues)) = self.clues.take_if(|(round, _)| *round == id) else {
            return Change::Nothing;
        };
        if !self.verdict.is_open() {
            // Nothing can be said of what does not get out at all.
            self.flaws = Flaws::default();
            return Change::Nothing;
        }
        self.flaws = clues.read(&self.flaws);
        self.restate(now)
    }

    /// Says anew what an open way is, after its flaws changed. Nothing was answered just now, so
    /// its age stays.
    fn restate(&mut self, now: Time) -> Change {
        if !self.verdict.is_open() {
            return Change::Nothing;
        }
        self.evidence = format!("{}{}", self.answer, self.flaws);
        let verdict = self.openness();
        if self.verdict == verdict {
            return Change::Nothing;
        }
        self.verdict = verdict;
        self.since = now;
        Change::Verdict
    }

    /// What an open way is called. That no resolver answers holds until one does.
    fn openness(&self) -> Verdict {
        match &self.flaws.names {
            Some(_) => Verdict::DnsDead,
            None => Verdict::Open,
        }
    }

    /// True when the answers of a round prove the outside. A short round does not hear portals
    /// speak, so it does not acquit where one was seen.
    fn settles(&self, r: &Round) -> bool {
        let heard = r.burst || self.verdict != Verdict::Portal;
        r.proved || (r.likely && !r.portal && heard)
    }

    /// Ends a round whose deadline has passed. True when the verdict changed.
    pub fn expire(&mut self, now: Time) -> bool {
        match &self.round {
            Some(r) if r.deadline <= now => self.close(now) == Change::Verdict,
            _ => false,
        }
    }

    /// Forgets the verdict, as when the uplink went away or the path moved. The public addresses
    /// stay, so that an uplink that comes back with another one is noticed.
    pub fn forget(&mut self, now: Time) {
        *self = Judgement {
            since: now,
            public: self.public,
            seen: std::mem::take(&mut self.seen),
            ..Judgement::default()
        };
    }

    /// True when the verdict is open and was reached at or after `since`.
    pub fn open_since(&self, since: Time) -> bool {
        self.verdict.is_open() && self.judged_at.is_some_and(|t| t >= since)
    }

    /// True when the verdict was reached at or after `since` and is that nothing gets out.
    pub fn shut_since(&self, since: Time) -> bool {
        matches!(self.verdict, Verdict::Closed | Verdict::Portal)
            && self.judged_at.is_some_and(|t| t >= since)
    }

    /// True when it was tried at or after `since`, and there was nobody to ask.
    pub fn untold_since(&self, since: Time) -> bool {
        self.verdict == Verdict::Unknown
            && !self.pending()
            && self.judged_at.is_some_and(|t| t >= since)
    }

    /// True when the control server answered here at or after `since`.
    pub fn control_since(&self, since: Time) -> bool {
        matches!(&self.control, Some((Ok(()), t)) if *t >= since)
    }

    fn open(&mut self, now: Time, text: String, other: Change) -> Change {
        match (self.rule(now, self.openness(), text), other) {
            (_, address @ Change::PublicAddress { .. }) => address,
            (change, _) => change,
        }
    }

    fn close(&mut self, now: Time) -> Change {
        let Some(r) = self.round.take() else {
            return Change::Nothing;
        };
        if self.results_of != r.id {
            // Nothing came back at all.
            self.results.clear();
        }
        if self.settles(&r) {
            // Ruled open when the answer came.
            return Change::Nothing;
        }
        if !r.burst && self.verdict == Verdict::Portal {
            // It was not asked in a way that would tell.
            return Change::Nothing;
        }
        if r.portal {
            let text = self.evidence.clone();
            return self.rule(now, Verdict::Portal, text);
        }
        if r.opened && !r.talked {
            let text = "connections open, and nobody talks on them".to_string();
            return self.rule(now, Verdict::Portal, text);
        }
        if r.weak {
            let text = "a TCP target answered; nothing says that a portal did".to_string();
            return self.open(now, text, Change::Nothing);
        }
        let text = if r.failures > 0 && !self.evidence.is_empty() {
            self.evidence.clone()
        } else {
            "no answer from any target".to_string()
        };
        self.rule(now, Verdict::Closed, text)
    }

    fn note_result(&mut self, id: u32, finding: &Finding) {
        if self.results_of != id {
            self.results_of = id;
            self.results.clear();
        }
        if self.results.len() < RESULTS {
            self.results.extend(finding.words());
        }
    }

    fn note_failure(&mut self, finding: &Finding) {
        if let Finding::Failed { target, why, .. } = finding {
            if self.round.as_ref().is_some_and(|r| !r.proved && !r.likely) {
                self.evidence = format!("{target}: {why}");
            }
        }
    }

    /// Takes note of a public address that a probe of that kind has seen.
    pub fn note_public(&mut self, by: By, new: IpAddr) -> Change {
        self.public = Some(new);
        let known = self.seen.contains(&(by, new));
        let old = self.seen.iter().rev().find(|(b, _)| *b == by);
        let old = old.map(|(_, ip)| *ip);
        if !known {
            if self.seen.len() == PUBLIC_SEEN {
                self.seen.remove(0);
            }
            self.seen.push((by, new));
        }
        match old {
            Some(old) if !known && Family::of(&old) == Family::of(&new) => {
                Change::PublicAddress { by, old, new }
            }
            _ => Change::Nothing,
        }
    }

    fn rule(&mut self, now: Time, verdict: Verdict, evidence: String) -> Change {
        let gap = self
            .judged_at
            .is_none_or(|t| now.saturating_sub(t) > STEADY_GAP);
        self.steady_since = match (verdict, self.steady_since) {
            (v, Some(since)) if v.is_open() && !gap => Some(since),
            (v, _) if v.is_open() => Some(now),
            _ => None,
        };
        self.judged_at = Some(now);
        self.evidence = match verdict.is_open() {
            true => format!("{evidence}{}", self.flaws),
            false => evidence.clone(),
        };
        self.answer = evidence;
        if self.verdict == verdict {
            return Change::Nothing;
        }
        self.verdict = verdict;
        self.since = now;
        if !verdict.is_open() {
            self.rtt = None;
        }
        Change::Verdict
    }
}

#[cfg(test)]
mod tests;
