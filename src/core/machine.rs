//! The machine: one method per transition. Drawn in docs/internals.md.
//!
//! `Quiet -> Proving -> Curing -> Verifying -> Quiet`, and `Resting` where nothing can be done yet.

use std::time::Duration;

use super::budget::Budget;
use super::diagnosis::{diagnose, Fault};
use super::episode::{Episode, History, Outcome};
use super::ladder::{self, Cure, Next};
use super::tailnet::{Api, Backend, Epoch, Purpose, Tailnet};
use super::uplink::{Family, Route, Uplink};
use super::verdict::{Change, Finding, Judgement, Scope, Verdict};
use super::{
    Action, Effort, Event, Hop, Input, Knowledge, Look, Moment, Notice, Policy, Report, Steering,
    Time,
};

/// With the word of netifd or mwan3 that the path's uplink is down, and another uplink answering,
/// this much silence on the path is enough.
const QUICK: Duration = Duration::from_millis(300);

/// How many round trips of the answering uplink the path is given at least, where that is longer.
const QUICK_ROUND_TRIPS: u32 = 4;

/// An event's word counts for this long.
const WORD_COUNTS: Duration = Duration::from_secs(5);

/// Before a restart the control server must have answered within this time.
const CONTROL_FRESH: Duration = Duration::from_secs(5);

/// How often tailscaled is looked at while it does not answer.
const SILENT_EVERY: Duration = Duration::from_secs(2);

/// How often a cure's result is looked for.
const VERIFY_EVERY: Duration = Duration::from_millis(150);

/// A cure that reports nothing for this long has failed. LocalAPI calls time out before; a
/// restart script may take 30 s.
const CURE_LIMIT: Duration = Duration::from_secs(45);

/// Pauses between two tries while nothing can be done: doubled from the first to the last.
const REST_FIRST: Duration = Duration::from_secs(2);
const REST_LAST: Duration = Duration::from_secs(60);

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

/// How long a healthy tailnet may be waited for when nothing wrong can be named.
const UNNAMED_PATIENCE: Duration = Duration::from_secs(10);

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

/// The pure state machine.
#[derive(Clone, Debug)]
pub struct Core {
    policy: Policy,
    k: Knowledge,
    stage: Stage,
    episode: Option<Episode>,
    history: History,
    budget: Budget,
    faults: Vec<Fault>,
    round: u32,
    rests: u32,
    beat_at: Time,
    other_at: Time,
    return_at: Time,
    /// Something happened while a cure was under way; look again afterwards.
    again: bool,
    /// Look once more when a burst of events has settled.
    settle_at: Option<Time>,
    /// The path was moved and has not been read since.
    path_unread: bool,
    /// The device that each family's mark was moved away from.
    left: [Option<String>; 2],
    went_back: Option<Time>,
    flaps: u32,
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
            budget: Budget::default(),
            faults: Vec::new(),
            round: 0,
            rests: 0,
            beat_at,
            other_at,
            return_at: Time::ZERO,
            again: false,
            settle_at: None,
            path_unread: false,
            left: [None, None],
            went_back: None,
            flaps: 0,
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

    /// Takes one input and says what is to be done.
    pub fn step(&mut self, moment: Moment, input: Input) -> Vec<Action> {
        let now = moment.now;
        let last = matches!(input, Input::Stop);
        self.take(now, input);
        if last {
            return std::mem::take(&mut self.out);
        }
        self.expire(now);
        self.go_on(moment);
        self.wake(now);
        std::mem::take(&mut self.out)
    }

    // ---- taking an input -------------------------------------------------------------------

    fn take(&mut self, now: Time, input: Input) {
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
        if self.k.paths_read.is_none() || self.steered_by_person() {
            return None;
        }
        diagnose(&self.k, now, now + Duration::from_nanos(1))
            .into_iter()
            .find(|f| f.curable() && !matches!(f, Fault::PinnedRoute { .. }))
            .map(|f| f.to_string())
    }

    fn steered_by_person(&self) -> bool {
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

    fn judged(&mut self, now: Time, scope: &Scope, change: Change) {
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
            // What the kernel holds is what was there before; it is read again below.
            self.k.steering[f.at()] = Steering::default();
        }
        let Stage::Curing { since, waiting, .. } = &mut self.stage else {
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

    // ---- time ------------------------------------------------------------------------------

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
            Stage::Quiet => self.beat_at.min(self.other_at),
            Stage::Proving { .. } => now + Duration::from_secs(1),
            Stage::Curing { until, .. } => *until,
            Stage::Verifying { until, .. } => (now + VERIFY_EVERY).min(*until),
            Stage::Resting { until, .. } => *until,
        };
        if self.stage == Stage::Quiet {
            if self.way_back().is_some() {
                at = at.min(self.return_at);
            }
            if self.silent() {
                at = at.min(now + SILENT_EVERY);
            }
        }
        let deadlines = self
            .k
            .verdicts
            .values()
            .chain(self.k.paths.iter().map(|p| &p.judgement))
            .filter_map(|j| j.deadline());
        at = deadlines.chain(self.settle_at).fold(at, Time::min);
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
            Stage::Curing { .. } => {}
            Stage::Verifying {
                since,
                until,
                after,
            } => self.check(moment, since, until, &after),
            Stage::Resting { until, .. } if until <= now => {
                self.prove(now, "trying again".into());
            }
            Stage::Resting { .. } => {}
        }
    }

    // ---- Quiet -----------------------------------------------------------------------------

    fn quiet(&mut self, now: Time) {
        if self.beat_at <= now {
            self.beat_at = now + self.policy.interval;
            self.out.push(Action::Look(Look::All));
            for f in Family::BOTH {
                if self.k.path(f).route.is_some() {
                    self.probe_path(now, f, Effort::Beat);
                }
            }
        }
        if self.other_at <= now {
            self.other_at = now + self.policy.other_interval;
            self.probe_all(now, Effort::Beat);
        }
        if self.silent() && self.since_look(now) >= SILENT_EVERY {
            self.out.push(Action::Look(Look::Tailnet));
        }
        let well = self.faults.is_empty() && self.k.tailnet.api == Api::Answers;
        self.budget.health(now, well, &self.policy.limits);
        if let Some((family, name)) = self.way_back() {
            self.consider_return(now, family, &name);
        }
    }

    fn silent(&self) -> bool {
        matches!(self.k.tailnet.api, Api::Gone | Api::Hung)
    }

    fn since_look(&self, now: Time) -> Duration {
        now.saturating_sub(self.k.tailnet_read.unwrap_or_default())
    }

    /// The better uplink that the mark could go back to, where it is steered away from one.
    fn way_back(&self) -> Option<(Family, String)> {
        Family::BOTH.into_iter().find_map(|f| {
            let to = self.k.steering[f.at()].to.as_ref()?;
            let better = self
                .k
                .uplinks
                .iter()
                .take_while(|u| u.device != to.device)
                .find(|u| u.way(f).is_some());
            match better {
                Some(u) => Some((f, u.name.clone())),
                // Steered to the best there is, and main agrees: the steering is not needed. But an
                // uplink that was left and is away just now would come back as main's default, dead.
                None if self.left[f.at()].is_none() => self
                    .k
                    .main_default(f)
                    .filter(|u| u.device == to.device)
                    .map(|u| (f, u.name.clone())),
                None => None,
            }
        })
    }

    /// How long the better uplink must be open, grown by each way back that broke.
    fn hold(&self) -> Duration {
        self.policy.hold * 2u32.pow(self.flaps)
    }

    fn consider_return(&mut self, now: Time, family: Family, name: &str) {
        let every = RETURN_EVERY
            .min(self.policy.hold / 10)
            .max(Duration::from_millis(500));
        if self.return_at <= now {
            self.return_at = now + every;
            for f in Family::BOTH {
                self.probe_uplink(now, name, f, Effort::Beat);
            }
        }
        let stable = self.k.verdict(name, family).is_some_and(|j| {
            j.verdict == Verdict::Open
                && now.saturating_sub(j.since) >= self.hold()
                && j.judged_at
                    .is_some_and(|t| now.saturating_sub(t) <= JUST_NOW)
        });
        if stable {
            self.go_back(now, name);
        }
    }

    /// Moves each family that can go back to `name`, and keeps the flows of the backup alive.
    fn go_back(&mut self, now: Time, name: &str) {
        let Some(uplink) = self.k.uplinks.iter().find(|u| u.name == name).cloned() else {
            return;
        };
        let held = format!(
            "{name} ({}) is open for {} s",
            uplink.device,
            self.hold().as_secs()
        );
        let mut cures = Vec::new();
        for f in Family::BOTH {
            let Some(from) = self.k.steering[f.at()].to.clone() else {
                continue;
            };
            let open = self
                .k
                .verdict(name, f)
                .is_some_and(|j| j.verdict == Verdict::Open);
            if !open {
                continue;
            }
            let by_main = self
                .k
                .main_default(f)
                .is_some_and(|u| u.name == uplink.name);
            let to = match by_main {
                true => None,
                false => Knowledge::hop(&uplink, f),
            };
            let keep = (from.device != uplink.device).then_some(from);
            self.left[f.at()] = None;
            cures.push((Cure::Steer(f), Steering { to, keep }));
        }
        if cures.is_empty() {
            return;
        }
        self.went_back = Some(now);
        self.begin_episode(now, format!("{held}: going back to it"));
        let why = held;
        self.out.push(Action::Look(Look::Tailnet));
        let moves = cures.iter().map(|(c, _)| *c).collect();
        for (cure, steering) in cures {
            if let Cure::Steer(f) = cure {
                self.order_steer(now, f, steering, &why);
            }
        }
        self.stage = Stage::Curing {
            since: now,
            waiting: moves,
            until: now + CURE_LIMIT,
        };
    }

    // ---- Proving ---------------------------------------------------------------------------

    /// Looks at everything and probes everything, side by side.
    fn prove(&mut self, now: Time, why: String) {
        if self.episode.is_none() {
            self.begin_episode(now, why);
        }
        self.stage = Stage::Proving { since: now };
        self.settle_at = None;
        self.again = false;
        self.out.push(Action::Look(Look::All));
        for f in Family::BOTH {
            self.probe_path(now, f, Effort::Burst);
        }
        self.probe_all(now, Effort::Burst);
    }

    fn begin_episode(&mut self, now: Time, trigger: String) {
        self.tell(Notice::Trigger(trigger.clone()));
        self.episode = Some(Episode::new(now, trigger));
    }

    fn weigh(&mut self, moment: Moment, since: Time) {
        let now = moment.now;
        if self.path_unread {
            return;
        }
        self.hasten(now, since);
        let faults = diagnose(&self.k, now, since);
        let pinned = faults
            .iter()
            .any(|f| matches!(f, Fault::PinnedRoute { .. }));
        let person = faults
            .iter()
            .any(|f| matches!(f, Fault::NeedsPerson { .. }));
        let seen = self.k.tailnet_read.is_some_and(|t| t >= since);
        let paths_read = self.k.paths_read.is_some_and(|t| t >= since);
        // A dead way needs no fresh word of tailscaled, which may hang just then.
        let ready = paths_read
            && ((pinned && self.k.tailnet_read.is_some())
                || (seen && (person || self.k.paths_judged(since))));
        let outside_down = paths_read
            && faults
                .iter()
                .any(|f| matches!(f, Fault::OutsideDown { .. }));
        if ready || outside_down {
            self.decide(moment, since, faults);
        }
    }

    /// Brings the verdict on a path forward when its uplink was called down and another answers.
    fn hasten(&mut self, now: Time, since: Time) {
        for f in Family::BOTH {
            let Some(route) = &self.k.path(f).route else {
                continue;
            };
            let told = self
                .k
                .said_down
                .get(&route.device)
                .is_some_and(|t| now.saturating_sub(*t) < WORD_COUNTS);
            if !told {
                continue;
            }
            let other = self
                .k
                .open_uplinks(f, since)
                .into_iter()
                .filter(|u| u.device != route.device)
                .filter_map(|u| self.k.verdict(&u.name, f)?.rtt)
                .min();
            if let Some(rtt) = other {
                let due = since + QUICK.max(rtt * QUICK_ROUND_TRIPS);
                let judgement = &mut self.k.paths[f.at()].judgement;
                judgement.hasten(due);
                if judgement.expire(now) {
                    self.judged(now, &Scope::Path(f), Change::Verdict);
                }
            }
        }
    }

    /// The evidence is in. Takes the next cure, waits, or ends the episode.
    fn decide(&mut self, moment: Moment, since: Time, faults: Vec<Fault>) {
        let now = moment.now;
        self.name_faults(&faults);
        if faults
            .iter()
            .any(|f| matches!(f, Fault::NeedsPerson { .. }))
        {
            return self.end(now, Outcome::NeedsPerson);
        }
        if let Some(down) = faults
            .iter()
            .find(|f| matches!(f, Fault::OutsideDown { .. }))
        {
            let why = down.to_string();
            return self.rest(now, why);
        }
        if !self.k.anything_open(since) {
            // Promise 1: no cure before a way out is proved. Others may still be answering.
            if self.rounds_over() {
                self.rest(now, "no uplink is proved to reach the outside".into());
            }
            return;
        }
        if !faults.iter().any(Fault::curable) {
            return if self.healthy(since) {
                self.heal(now)
            } else {
                self.verify(now, since, Vec::new())
            };
        }
        let control = self.k.control_answers(since);
        let tried = self
            .episode
            .as_ref()
            .map(|e| e.tried.clone())
            .unwrap_or_default();
        match ladder::next(&faults, &self.policy.allowed, &tried, control) {
            Next::Do(cures) if cures == [Cure::Restart] => {
                let daemon = faults
                    .iter()
                    .any(|f| matches!(f, Fault::DaemonGone | Fault::DaemonHung));
                // A restart while control is down ends a tailnet that still works (measured), so
                // its answer must be of just now.
                if daemon || self.k.control_answers(now.saturating_sub(CONTROL_FRESH)) {
                    self.restart(moment, since, &faults);
                } else {
                    self.prove(now, "before a restart".into());
                }
            }
            Next::Do(cures) => self.cure(now, since, &cures, &faults),
            Next::Useless(why) => {
                self.tell(Notice::Waiting(why));
                self.restart(moment, since, &faults);
            }
            Next::AwaitControl => {
                let failed = self.k.control_failure(since);
                if failed.is_some() || self.rounds_over() {
                    let why = failed.unwrap_or_else(|| "no answer yet".into());
                    self.rest(
                        now,
                        format!("the control server has to answer first ({why})"),
                    );
                }
            }
            Next::Nothing(why) => self.rest(now, why),
        }
    }

    fn rounds_over(&self) -> bool {
        !self.k.verdicts.values().any(|j| j.pending())
            && !self.k.paths.iter().any(|p| p.judgement.pending())
    }

    fn name_faults(&mut self, faults: &[Fault]) {
        self.faults = faults.to_vec();
        for f in faults {
            if self.episode.as_mut().is_some_and(|e| e.name(f)) {
                self.out.push(Action::Tell(Notice::Fault {
                    id: f.id(),
                    text: f.to_string(),
                    curable: f.curable(),
                }));
            }
        }
    }

    // ---- Curing ----------------------------------------------------------------------------

    fn cure(&mut self, now: Time, since: Time, cures: &[Cure], faults: &[Fault]) {
        let mut waiting = Vec::new();
        for cure in cures {
            match cure {
                Cure::Steer(f) => {
                    let Some(steering) = self.target(*f, since) else {
                        continue;
                    };
                    let was = self.k.path(*f).route.as_ref().map(|r| r.device.clone());
                    let to = steering.to.as_ref().map(|hop| hop.device.clone());
                    self.left[f.at()] = was.filter(|was| to.is_some_and(|to| to != *was));
                    if let Some(left) = &self.left[f.at()] {
                        // It has to prove itself again, from now, before the mark goes back.
                        for u in self.k.uplinks.iter().filter(|u| u.device == *left) {
                            let key = (u.name.clone(), *f);
                            self.k.verdicts.entry(key).or_default().forget(now);
                        }
                    }
                    let why = fault_text(
                        faults,
                        |x| matches!(x, Fault::PinnedRoute { family, .. } if family == f),
                    );
                    self.order_steer(now, *f, steering, &why);
                    if let Some(e) = &mut self.episode {
                        e.tried.steer[f.at()] += 1;
                    }
                    if self.went_back.is_some_and(|t| now - t < FLAP_WITHIN) {
                        self.flaps = (self.flaps + 1).min(FLAP_MOST);
                        self.went_back = None;
                    }
                }
                Cure::Nudge => {
                    let why = fault_text(faults, |x| matches!(x, Fault::StalePaths { .. }));
                    self.order(now, *cure, why, Action::Nudge);
                    if let Some(e) = &mut self.episode {
                        e.tried.nudge += 1;
                    }
                }
                Cure::Renew => {
                    let why = fault_text(faults, |x| {
                        matches!(x, Fault::StuckControl { .. } | Fault::StalePaths { .. })
                    });
                    self.order(now, *cure, why, Action::Renew);
                    if let Some(e) = &mut self.episode {
                        e.tried.renew += 1;
                    }
                }
                Cure::Restart => {}
            }
            waiting.push(*cure);
        }
        if waiting.is_empty() {
            return self.rest(now, "no uplink to move to".into());
        }
        self.stage = Stage::Curing {
            since,
            waiting,
            until: now + CURE_LIMIT,
        };
    }

    fn restart(&mut self, moment: Moment, since: Time, faults: &[Fault]) {
        let now = moment.now;
        if let Err(when) = self.budget.may(now, &self.policy.limits) {
            let (until, why) = match when {
                Some(t) => (
                    t,
                    format!(
                        "the next restart of tailscaled is allowed in {} s",
                        (t.saturating_sub(now)).as_secs()
                    ),
                ),
                None => (
                    now + REST_LAST,
                    "restarts of tailscaled are not allowed (restarts_per_hour is 0)".into(),
                ),
            };
            return self.rest_until(now, until.min(now + REST_LAST), why);
        }
        self.budget.spend(now, moment.dice, &self.policy.limits);
        let why = fault_text(faults, Fault::curable);
        self.order(now, Cure::Restart, why, Action::Restart);
        if let Some(e) = &mut self.episode {
            e.tried.restart = e.tried.restart.saturating_add(1);
        }
        self.stage = Stage::Curing {
            since,
            waiting: vec![Cure::Restart],
            until: now + CURE_LIMIT,
        };
    }

    /// Where to move the mark of `family`: the best open uplink. Main's own way needs no rule of
    /// ours, unless it was not enough just now.
    fn target(&self, family: Family, since: Time) -> Option<Steering> {
        let best = *self.k.open_uplinks(family, since).first()?;
        let steered = self.k.steering[family.at()].to.is_some();
        let by_main = self
            .k
            .main_default(family)
            .is_some_and(|u| u.name == best.name);
        let to = match steered && by_main {
            true => None,
            false => Some(Knowledge::hop(best, family)?),
        };
        Some(Steering { to, keep: None })
    }

    fn order_steer(&mut self, now: Time, family: Family, steering: Steering, why: &str) {
        self.k.steering[family.at()] = steering.clone();
        self.order(
            now,
            Cure::Steer(family),
            why.to_string(),
            Action::Steer(family, steering),
        );
    }

    fn order(&mut self, now: Time, cure: Cure, why: String, action: Action) {
        if let Some(e) = &mut self.episode {
            e.act(now, cure, why.clone());
        }
        self.tell(Notice::Cure { cure, text: why });
        self.out.push(action);
    }

    /// All acts of a stage have ended.
    fn cured(&mut self, now: Time, since: Time, last: Cure) {
        if self.again && last != Cure::Restart {
            self.again = false;
            return self.prove(now, "more has happened".into());
        }
        match last {
            // The path has to be read and proved before anything else is touched.
            Cure::Steer(_) => {
                self.stage = Stage::Proving { since };
                self.out.push(Action::Look(Look::Paths));
            }
            other => self.verify(now, since, vec![other]),
        }
    }

    // ---- Verifying -------------------------------------------------------------------------

    fn verify(&mut self, now: Time, since: Time, after: Vec<Cure>) {
        let patience = after
            .iter()
            .map(|c| c.patience())
            .max()
            .unwrap_or(UNNAMED_PATIENCE);
        self.stage = Stage::Verifying {
            since,
            after,
            until: now + patience,
        };
        self.out.push(Action::Look(Look::Tailnet));
    }

    fn check(&mut self, moment: Moment, since: Time, until: Time, after: &[Cure]) {
        let now = moment.now;
        if self.healthy(since) {
            return self.heal(now);
        }
        if now < until {
            if self.since_look(now) >= VERIFY_EVERY {
                self.out.push(Action::Look(Look::Tailnet));
            }
            return;
        }
        let faults = diagnose(&self.k, now, since);
        if faults.iter().any(Fault::curable) && !after.is_empty() {
            return self.decide(moment, since, faults);
        }
        self.rest(
            now,
            "the tailnet is not well yet, for no reason that can be named".into(),
        );
    }

    /// The tailnet is seen to be well: path open, control fresh, a relay or a peer answers.
    fn healthy(&self, since: Time) -> bool {
        let k = &self.k;
        let t = &k.tailnet;
        if t.api != Api::Answers || t.backend != Backend::Running || !k.path_open(since) {
            return false;
        }
        if k.tailnet_read.is_none_or(|at| at < k.epoch.since) {
            return false;
        }
        let control = k.standing(Purpose::Control);
        let derp = k.standing(Purpose::Derp);
        let online = t.online != Some(false) || !k.online_seen;
        let control_well =
            online && (control.fresh > 0 || (!k.epoch.had_control && control.stale.is_none()));
        let control_down = k.control_failure(since).is_some() && !k.control_answers(since);
        let derp_well =
            derp.fresh > 0 || k.epoch.peer_answered || (!k.epoch.had_derp && derp.stale.is_none());
        (control_well || control_down) && derp_well
    }

    fn heal(&mut self, now: Time) {
        let acted = self.episode.as_ref().is_some_and(|e| !e.acts.is_empty());
        self.end(
            now,
            match acted {
                true => Outcome::Healed,
                false => Outcome::Passed,
            },
        );
        // What was kept for the flows of the old way is not needed any more.
        for f in Family::BOTH {
            if self.k.steering[f.at()].keep.take().is_some() {
                let steering = self.k.steering[f.at()].clone();
                self.out.push(Action::Steer(f, steering));
            }
        }
    }

    fn end(&mut self, now: Time, outcome: Outcome) {
        self.stage = Stage::Quiet;
        self.rests = 0;
        self.again = false;
        self.beat_at = now + self.policy.interval;
        self.return_at = now;
        self.faults.retain(|f| !f.curable());
        let Some(mut e) = self.episode.take() else {
            return;
        };
        e.ended = Some((now, outcome));
        if outcome != Outcome::NeedsPerson {
            self.tell(Notice::Healed {
                seconds: e.lasted(now).as_secs_f64(),
                text: outcome.word().to_string(),
            });
        }
        // A look that found nothing at all is no episode worth keeping.
        if !e.acts.is_empty() || !e.faults.is_empty() {
            self.history.add(e);
        }
    }

    // ---- Resting ---------------------------------------------------------------------------

    fn rest(&mut self, now: Time, why: String) {
        let pause = (REST_FIRST * 2u32.pow(self.rests.min(8))).min(REST_LAST);
        self.rest_until(now, now + pause, why);
    }

    fn rest_until(&mut self, now: Time, until: Time, why: String) {
        self.rests = self.rests.saturating_add(1);
        if self.rests.is_power_of_two() {
            self.tell(Notice::Waiting(why.clone()));
        }
        // After a pause the mild cures may be tried again: the world has moved on.
        if let Some(e) = &mut self.episode {
            if self.rests.is_multiple_of(4) {
                e.tried = ladder::Tried {
                    nudge_missing: e.tried.nudge_missing,
                    ..ladder::Tried::default()
                };
            }
        }
        self.stage = Stage::Resting {
            until: until.max(now + Duration::from_millis(500)),
            why,
        };
    }

    // ---- probes and words ------------------------------------------------------------------

    fn probe_all(&mut self, now: Time, effort: Effort) {
        let names: Vec<String> = self.k.uplinks.iter().map(|u| u.name.clone()).collect();
        for name in names {
            for f in Family::BOTH {
                self.probe_uplink(now, &name, f, effort);
            }
        }
    }

    fn probe_uplink(&mut self, now: Time, name: &str, family: Family, effort: Effort) {
        let has_way = self
            .k
            .uplinks
            .iter()
            .any(|u| u.name == name && u.way(family).is_some());
        if has_way {
            self.probe(now, Scope::Uplink(name.to_string(), family), effort);
        }
    }

    fn probe_path(&mut self, now: Time, family: Family, effort: Effort) {
        self.probe(now, Scope::Path(family), effort);
    }

    fn probe(&mut self, now: Time, scope: Scope, effort: Effort) {
        self.round = self.round.wrapping_add(1);
        let (round, deadline) = (self.round, now + self.policy.probe_timeout);
        self.k.judgement_mut(&scope).begin(round, deadline);
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
