//! The machine: one method per transition. Drawn in docs/internals.md.
//!
//! `Quiet -> Proving -> Curing -> Verifying -> Quiet`, and `Resting` where nothing can be done yet.

mod beat;
mod cure;
mod drill;
mod findings;
mod hear;
mod leave;
mod lookout;
mod outlook;
mod pins;
mod prove;
mod quiet;
mod suspect;
mod tailscaled;
mod verify;
mod ways;

use std::time::Duration;

use crate::core::budget::Budget;
use crate::core::diagnosis::{
    diagnose, is_shown, needs_person, of_tailscaled, offline_for, shown, suspicion, LOST_FOR_SURE,
    OFFLINE_TOO_LONG, REFUSES_TOO_LONG,
};
use crate::core::episode::{Episode, History, Origin, Outcome};
use crate::core::fault::Fault;
use crate::core::finding::{Finding, Scope};
use crate::core::ladder::{self, Cure, Next};
use crate::core::signs::{Heard, Pulse, Resending, Signs};
use crate::core::tailnet::{Api, Backend, Epoch, Flow, Purpose, Tailnet};
use crate::core::timeline::Timeline;
use crate::core::uplink::{Family, Route, Uplink};
use crate::core::verdict::{Change, Judgement, Verdict};
use crate::core::{
    Action, Drilled, Effort, Event, Hop, Input, Knowledge, Look, Moment, Notice, Path, Pin, Policy,
    Report, Steering, Time,
};

/// With the word of netifd or mwan3 that the path's uplink is down, and another uplink answering,
/// this much silence on the path is enough.
const QUICK: Duration = Duration::from_millis(300);

/// How many round trips of the answering uplink the path is given at least, where that is longer.
const QUICK_ROUND_TRIPS: u32 = 4;

/// An event's word counts for this long.
const WORD_COUNTS: Duration = Duration::from_secs(5);

/// At the end, an answer over main's way counts for this long.
const ANSWER_COUNTS: Duration = Duration::from_secs(60);

/// Before a restart the control server must have answered within this time.
const CONTROL_FRESH: Duration = Duration::from_secs(5);

/// What was proved before an act counts for the next one within this time. It is longer than the
/// patience with a nudge or a renewal, and the uplink may die meanwhile.
const PROOF_COUNTS: Duration = Duration::from_secs(10);

/// How often tailscaled is looked at while it does not answer.
const SILENT_EVERY: Duration = Duration::from_secs(1);

/// Pauses between two questions to a control server that is down: doubled from the first to the
/// last.
const ASK_CONTROL_FIRST: Duration = Duration::from_secs(10);
const ASK_CONTROL_LAST: Duration = Duration::from_secs(60);

/// How often a cure's result is looked for.
const VERIFY_EVERY: Duration = Duration::from_millis(150);

/// A cure that reports nothing for this long has failed. LocalAPI calls time out before; a
/// restart script may take 30 s.
const CURE_LIMIT: Duration = Duration::from_secs(45);

/// Pauses between two tries while nothing can be done: doubled from the first to the last.
const REST_FIRST: Duration = Duration::from_secs(2);
const REST_LAST: Duration = Duration::from_secs(60);

/// A portal is asked this often at least whether somebody has logged in, while nothing else is open.
const PORTAL_EVERY: Duration = Duration::from_secs(30);

/// In quiet times ways with a portal or a flaw are asked in full this often.
const RECHECK_EVERY: Duration = Duration::from_secs(60);

/// What was seen in one round only is looked for again after this long.
const DOUBT_FOR: Duration = Duration::from_secs(2);

/// While the mark is away from the preferred uplink, that one is looked at this often (or ten
/// times within a shorter `hold`).
const RETURN_EVERY: Duration = Duration::from_secs(5);

/// The mark goes back only on an answer of just now.
const JUST_NOW: Duration = Duration::from_millis(200);

/// A way back that broke within this time doubles the hold, up to eight times.
const FLAP_WITHIN: Duration = Duration::from_secs(600);
const FLAP_MOST: u32 = 3;

/// Verdicts of uplinks that went away are kept for their public address, up to this many.
const VERDICTS_KEPT: usize = 128;

/// A path that is away for less is not gone: mwan3's stop takes tailscaled's rules one by one, and
/// between two of them the mark has no way.
const GONE_FOR: Duration = Duration::from_millis(400);

/// Woken later than this, the daemon was not given the CPU, or the router stood still: what was asked before is
/// answered by what was then.
const OVERSLEPT: Duration = Duration::from_secs(5);

/// How long a healthy tailnet may be waited for when nothing wrong can be named.
const UNNAMED_PATIENCE: Duration = Duration::from_secs(10);

pub use leave::LEAVE_FOR;

/// Where the machine stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Nothing is known to be wrong.
    Quiet,
    /// Probes run; nothing is done until an uplink is proved to reach the outside.
    Proving { since: Time },
    /// Acts are under way.
    Curing {
        since: Time,
        waiting: Vec<Cure>,
        until: Time,
    },
    /// Acts are done; the tailnet is watched until it is well.
    Verifying {
        since: Time,
        after: Vec<Cure>,
        until: Time,
    },
    /// Nothing can be done before `until`, or before the next event.
    Resting { until: Time, why: String },
}

impl Stage {
    pub const WORDS: [&'static str; 5] = ["quiet", "proving", "curing", "verifying", "resting"];

    /// One word, as in `status`.
    pub fn word(&self) -> &'static str {
        match self {
            Stage::Quiet => "quiet",
            Stage::Proving { .. } => "proving",
            Stage::Curing { .. } => "curing",
            Stage::Verifying { .. } => "verifying",
            Stage::Resting { .. } => "resting",
        }
    }
}

/// A path that the kernel knew and does not know just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Away {
    #[default]
    No,
    Since(Time),
    /// When the next look does not find it either, it is gone.
    TooLong,
}

/// The pure state machine.
#[derive(Clone, Debug)]
pub struct Core {
    policy: Policy,
    k: Knowledge,
    stage: Stage,
    episode: Option<Episode>,
    history: History,
    timeline: Timeline,
    budget: Budget,
    faults: Vec<Fault>,
    round: u32,
    /// Findings of this round and of earlier ones are too old to count.
    void: u32,
    rests: u32,
    /// When everything is looked at next.
    look_at: Time,
    /// When the next heartbeat is due, unless something else proves the path meanwhile.
    beat_at: Time,
    /// A sign came while nobody used the tailnet, and the path was not asked yet.
    sign_of_idle: bool,
    other_at: Time,
    return_at: Time,
    recheck_at: Time,
    pulse_at: Time,
    /// When the next pulse may read connections.
    connections_at: Time,
    signs: Signs,
    suspicion: Option<suspect::Suspicion>,
    lookout: Option<lookout::Lookout>,
    /// An answer to the lookout has begun the assessment under way.
    called: bool,
    /// Something happened while a cure was under way; look again afterwards.
    again: bool,
    /// Look once more when a burst of events has settled.
    settle_at: Option<Time>,
    /// When the control server is asked again while it is down, and the pause before that.
    ask_control_at: Time,
    ask_control_pause: Duration,
    /// When it was asked last.
    control_asked: Time,
    /// When the paths are asked for again while they are unknown.
    ask_paths_at: Time,
    /// Asked to end: nothing more is ordered.
    stopped: bool,
    /// The last process of tailscaled that was seen.
    pid: Option<u32>,
    /// The last process that was seen running: its peers were pinged, or had no need of it.
    pinged_for: Option<u32>,
    /// Its version, or that of one before; empty at first.
    version: String,
    /// The path was moved and has not been read since.
    path_unread: bool,
    /// Whether the kernel has no way for the mark just now, in each family.
    away: [Away; 2],
    /// The second look at what takes two was asked for and has not come.
    second_look_asked: bool,
    /// Lost state was put back and the kernel has not been read since.
    loss_unread: bool,
    /// The steering before the last order, should the kernel refuse that.
    before: [Steering; 2],
    /// The device that each family's mark was moved away from.
    left: [Option<String>; 2],
    went_back: Option<Time>,
    flaps: u32,
    leave: leave::Leave,
    pins: pins::Pins,
    /// What a drill has just turned the mark away from: it goes back there at once.
    returning: Option<Drilled>,
    woken_for: Option<Time>,
    out: Vec<Action>,
}

impl Core {
    pub fn new(policy: Policy) -> Core {
        // The first assessment comes by an event; the beats follow it.
        let (beat_at, other_at) = (policy.interval, policy.other_interval);
        Core {
            policy,
            k: Knowledge::default(),
            stage: Stage::Quiet,
            episode: None,
            history: History::default(),
            timeline: Timeline::default(),
            budget: Budget::default(),
            faults: Vec::new(),
            round: 0,
            void: 0,
            rests: 0,
            look_at: beat_at,
            beat_at,
            sign_of_idle: false,
            other_at,
            return_at: Time::ZERO,
            recheck_at: Time::ZERO,
            pulse_at: Time::ZERO,
            connections_at: Time::ZERO,
            signs: Signs::default(),
            suspicion: None,
            lookout: None,
            called: false,
            again: false,
            settle_at: None,
            ask_control_at: Time::ZERO,
            ask_control_pause: ASK_CONTROL_FIRST,
            control_asked: Time::ZERO,
            ask_paths_at: Time::ZERO,
            stopped: false,
            pid: None,
            pinged_for: None,
            version: String::new(),
            path_unread: false,
            away: Default::default(),
            second_look_asked: false,
            loss_unread: false,
            before: Default::default(),
            left: [None, None],
            went_back: None,
            flaps: 0,
            leave: leave::Leave::default(),
            pins: pins::Pins::default(),
            returning: None,
            woken_for: None,
            out: Vec::new(),
        }
    }

    pub fn knowledge(&self) -> &Knowledge {
        &self.k
    }
    pub fn stage(&self) -> &Stage {
        &self.stage
    }
    /// The episode under way.
    pub fn episode(&self) -> Option<&Episode> {
        self.episode.as_ref()
    }
    /// Ended episodes, oldest first.
    pub fn history(&self) -> &History {
        &self.history
    }
    /// What the ways out were in the last day.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
    /// What was wrong at the last assessment.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
    /// Restarts in the last hour.
    pub fn restarts(&self, now: Time) -> usize {
        self.budget.spent(now)
    }

    /// The tailnet is seen to be well by what is known now.
    pub fn well(&self) -> bool {
        self.healthy(Time::ZERO)
    }

    /// Takes one input and says what is to be done.
    pub fn step(&mut self, moment: Moment, input: Input) -> Vec<Action> {
        let now = moment.now;
        if self.stopped {
            return Vec::new();
        }
        if self
            .woken_for
            .is_some_and(|at| now.saturating_sub(at) > OVERSLEPT)
        {
            self.overslept(now);
        }
        self.take(now, input);
        if self.stopped {
            return std::mem::take(&mut self.out);
        }
        self.expire(now);
        self.go_on(moment);
        self.mind_metered(now);
        self.mind_pins(now);
        self.wake(now);
        self.timeline.note(now, &self.k);
        std::mem::take(&mut self.out)
    }

    fn expire(&mut self, now: Time) {
        let mut ended = Vec::new();
        for ((name, f), j) in &mut self.k.verdicts {
            if j.expire(now) {
                ended.push(Scope::Uplink(name.clone(), *f));
            }
        }
        for f in Family::BOTH {
            if self.k.paths[f.at()].judgement.expire(now) {
                ended.push(Scope::Path(f));
            }
        }
        for scope in ended {
            self.judged(now, &scope, Change::Verdict);
        }
    }

    fn wake(&mut self, now: Time) {
        let mut at = match &self.stage {
            Stage::Quiet => self.look_at.min(self.beat_at).min(self.other_at),
            Stage::Proving { .. } => now + Duration::from_secs(1),
            Stage::Curing { until, .. } => *until,
            Stage::Verifying { until, .. } => (now + VERIFY_EVERY).min(*until),
            Stage::Resting { until, .. } => *until,
        };
        if self.stage == Stage::Quiet {
            if !self.ways_back().is_empty() {
                at = at.min(self.return_at);
            }
            if self.control_down() {
                at = at.min(self.ask_control_at);
            }
            if self.odd() {
                at = at.min(self.recheck_at);
            }
        }
        if let Some(sure) = self.second_look_at() {
            at = at.min(sure);
        }
        if matches!(self.stage, Stage::Quiet | Stage::Resting { .. }) && self.silent(now) {
            at = at.min(now + SILENT_EVERY);
        }
        for away in &self.away {
            if let Away::Since(since) = away {
                at = at.min(*since + GONE_FOR);
            }
        }
        let deadlines = self
            .k
            .verdicts
            .values()
            .chain(self.k.paths.iter().map(|p| &p.judgement))
            .filter_map(|j| j.deadline());
        let suspicion = self.suspicion_due().filter(|t| *t > now);
        at = deadlines
            .chain(self.settle_at)
            .chain(self.drill_due())
            .chain(self.lookout_due())
            .chain(suspicion)
            .chain([self.pulse_at])
            .fold(at, Time::min);
        let at = at.max(now + Duration::from_millis(1));
        if self.woken_for != Some(at) {
            self.woken_for = Some(at);
            self.out.push(Action::Wake(at));
        }
    }

    /// Does what the stage and the time ask for. Transitions may follow one another at once.
    fn go_on(&mut self, moment: Moment) {
        let now = moment.now;
        if self.settle_at.is_some_and(|t| t <= now) {
            self.settle_at = None;
            self.out.push(Action::Look(Look::All));
        }
        for away in &mut self.away {
            if matches!(away, Away::Since(t) if *t + GONE_FOR <= now) {
                *away = Away::TooLong;
                self.out.push(Action::Look(Look::Paths));
            }
        }
        if self.second_look_at().is_some_and(|t| t <= now) {
            self.second_look_asked = true;
            self.out.push(Action::Look(Look::Tailnet));
        }
        if self.pulse_at <= now {
            self.beat_with_pulse(now);
            self.pulse_again(now);
            let look = self.pulse_now(now);
            self.out.push(Action::Look(look));
        }
        self.follow_drill(now);
        match self.stage.clone() {
            Stage::Quiet => self.quiet(now),
            Stage::Proving { since } => self.weigh(moment, since),
            Stage::Curing {
                until,
                waiting,
                since,
            } if until <= now => {
                for cure in &waiting {
                    let late = Err(format!("no result after {} s", CURE_LIMIT.as_secs()));
                    if let Some(e) = &mut self.episode {
                        e.result(*cure, late.clone());
                    }
                    self.tell(Notice::Done {
                        cure: *cure,
                        result: late,
                    });
                }
                self.verify(now, since, waiting);
            }
            Stage::Curing { since, waiting, .. } => self.join_renewal(now, since, &waiting),
            Stage::Verifying {
                since,
                until,
                after,
            } => self.check(moment, since, until, &after),
            Stage::Resting { until, .. } if until <= now => {
                self.prove(now, Origin::Path, "trying again".into());
            }
            Stage::Resting { .. } => {
                self.look_at_silent(now);
                self.look_out(now);
            }
        }
    }

    /// When a second look is to tell whether what the first one showed is still so: state that the
    /// kernel has lost, and, in quiet times, a tailscaled that is offline. `None` once it was asked
    /// for.
    fn second_look_at(&self) -> Option<Time> {
        let lost = self.k.lost_since.map(|t| t + LOST_FOR_SURE);
        let quiet = self.stage == Stage::Quiet && !self.control_down();
        let offline = self.k.offline_since.filter(|_| quiet);
        let offline = offline.map(|t| t.max(self.k.epoch.since) + OFFLINE_TOO_LONG);
        let not_seen = |sure: &Time| self.k.tailnet_read < Some(*sure);
        let sure = [lost, offline].into_iter().flatten().filter(not_seen).min();
        sure.filter(|_| !self.second_look_asked)
    }

    fn probe_all(&mut self, now: Time, effort: Effort) {
        let names: Vec<String> = self.k.uplinks.iter().map(|u| u.name.clone()).collect();
        for name in names {
            for f in Family::BOTH {
                self.probe_uplink(now, &name, f, effort);
            }
        }
    }

    fn probe_uplink(&mut self, now: Time, name: &str, family: Family, effort: Effort) {
        let named = self.k.uplinks.iter().find(|u| u.name == name);
        let Some(uplink) = named.filter(|u| u.way(family).is_some()) else {
            return;
        };
        let in_use = self.k.path_uplink(family).is_some_and(|u| u.name == name);
        // Only a full round can tell that somebody has passed a portal, and there may be no other way.
        let portal = self
            .k
            .verdict(name, family)
            .is_some_and(|j| j.verdict == Verdict::Portal);
        let wanted = in_use || (portal && self.stage != Stage::Quiet);
        let effort = match effort {
            // A metered uplink costs handshakes only once it is used.
            Effort::Burst if uplink.metered && !wanted => Effort::Suspect,
            other => other,
        };
        self.probe(now, Scope::Uplink(name.to_string(), family), effort);
    }

    fn probe_path(&mut self, now: Time, family: Family, effort: Effort) {
        self.probe(now, Scope::Path(family), effort);
    }

    fn probe(&mut self, now: Time, scope: Scope, effort: Effort) {
        if effort == Effort::Beat && self.k.judgement_mut(&scope).bursting() {
            // The full round tells more, and a new one would make its answers those of an old one.
            return;
        }
        self.round = self.round.wrapping_add(1);
        let (round, deadline) = (self.round, now + self.policy.probe_timeout);
        self.k.judgement_mut(&scope).begin(round, deadline, effort);
        self.out.push(Action::Probe {
            round,
            scope,
            effort,
        });
    }

    fn tell(&mut self, notice: Notice) {
        self.out.push(Action::Tell(notice));
    }
}

fn fault_text(faults: &[Fault], which: impl Fn(&Fault) -> bool) -> String {
    faults
        .iter()
        .filter(|f| which(f))
        .map(Fault::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
