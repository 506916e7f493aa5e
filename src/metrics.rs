//! What tailover counts and measures, as families of metrics for Prometheus and its kin.
//!
//! The ubus method `metrics` gives these. `tailover metrics` and the collector for Prometheus print what it
//! gives, and know no name themselves but `tailover_up`, which is 0 without a daemon.
//!
//! A family has `name`, `type` (of OpenMetrics), `unit` where it has one, `help` and `samples`. A sample is
//! its labels and `value`; in a state set it has `state` instead, one of the family's `states`. Names are
//! those of the family: a counter's value goes by `NAME_total`, an info's by `NAME_info`.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core::episode::{Episode, Origin, Outcome};
use crate::core::tailnet::{Api, Purpose};
use crate::core::{fault, Core, Effort, Family, Notice, Stage, Time, Verdict};
use crate::ubus::blobmsg::{Table, Value};
use crate::watch::probe::Sent;

/// Most uplinks that rounds are counted for; those beyond are one, [`OTHERS`].
const UPLINKS: usize = 32;
const OTHERS: &str = "others";

const CURES: [&str; 5] = ["steer", "nudge", "renew", "mend", "restart"];
const RESULTS: [&str; 2] = ["done", "failed"];
const EFFORTS: [(Effort, &str); 4] = [
    (Effort::Lookout, "lookout"),
    (Effort::Beat, "beat"),
    (Effort::Suspect, "suspect"),
    (Effort::Burst, "burst"),
];

/// The types of OpenMetrics that are used.
const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";
const INFO: &str = "info";
const STATES: &str = "stateset";

/// What became of a hook.
pub const HOOKS: [&str; 3] = ["done", "failed", "killed"];

/// What is counted since the daemon's start. No count ever goes down.
#[derive(Default)]
pub struct Tally {
    faults: [u64; fault::IDS.len()],
    cures: [[u64; RESULTS.len()]; CURES.len()],
    episodes: [[u64; Outcome::ALL.len()]; Origin::ALL.len()],
    /// Of episodes that have ended.
    outage: Duration,
    /// Episodes that have ended and are counted.
    ended: u64,
    probes: Vec<Probes>,
    pub hooks: [u64; HOOKS.len()],
    pub hooks_dropped: u64,
}

struct Probes {
    uplink: String,
    rounds: [u64; EFFORTS.len()],
    /// Shared with the rounds under way.
    sent: Sent,
}

impl Tally {
    /// Counts what the core tells.
    pub fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Fault { id, .. } => {
                let at = fault::IDS.iter().position(|known| known == id);
                add(at.and_then(|at| self.faults.get_mut(at)));
            }
            Notice::Done { cure, result } => {
                let at = CURES.iter().position(|word| *word == cure.word());
                let row = at.and_then(|at| self.cures.get_mut(at));
                add(row.and_then(|row| row.get_mut(usize::from(result.is_err()))));
            }
            _ => {}
        }
    }

    /// Counts the episodes that have ended since the last call.
    pub fn take(&mut self, core: &Core) {
        let new = core.history().ended().saturating_sub(self.ended);
        if new == 0 {
            return;
        }
        self.ended = core.history().ended();
        for e in core
            .history()
            .iter()
            .rev()
            .take(usize::try_from(new).unwrap_or(usize::MAX))
        {
            let Some((at, outcome)) = e.ended else {
                continue;
            };
            let row = Origin::ALL.iter().position(|o| *o == e.origin);
            let column = Outcome::ALL.iter().position(|o| *o == outcome);
            let row = row.and_then(|at| self.episodes.get_mut(at));
            add(row.zip(column).and_then(|(row, at)| row.get_mut(at)));
            self.outage = self.outage.saturating_add(outage(e, at));
        }
    }

    /// Counts a round of probes, and gives the place where it counts its datagrams.
    pub fn round(&mut self, uplink: &str, effort: Effort) -> Sent {
        let known = self.probes.iter().position(|p| p.uplink == uplink);
        let at = known.unwrap_or_else(|| {
            // A name that is made up at each dial must not grow the list for ever.
            if self.probes.len() <= UPLINKS {
                let name = if self.probes.len() < UPLINKS {
                    uplink
                } else {
                    OTHERS
                };
                self.probes.push(Probes {
                    uplink: name.to_string(),
                    rounds: Default::default(),
                    sent: Sent::default(),
                });
            }
            self.probes.len().saturating_sub(1)
        });
        let Some(probes) = self.probes.get_mut(at) else {
            return Sent::default();
        };
        let column = EFFORTS.iter().position(|(e, _)| *e == effort);
        add(column.and_then(|at| probes.rounds.get_mut(at)));
        Rc::clone(&probes.sent)
    }
}

fn add(place: Option<&mut u64>) {
    if let Some(n) = place {
        *n = n.saturating_add(1);
    }
}

/// How much of an episode is outage: nothing of a drill, of a way back, and of a look that has named nothing.
fn outage(e: &Episode, now: Time) -> Duration {
    let none = matches!(e.origin, Origin::Drill | Origin::Return) || e.faults.is_empty();
    match none {
        true => Duration::ZERO,
        false => e.lasted(now),
    }
}

/// All families, as the answer of the ubus method `metrics`.
pub fn families(core: &Core, tally: &Tally, now: Time) -> Table {
    let mut page = Page::default();
    itself(&mut page, core, now);
    ways(&mut page, core);
    tailnet(&mut page, core);
    events(&mut page, core, tally, now);
    work(&mut page, core, tally, now);
    vec![("metrics".to_string(), Value::Array(page.0))]
}

fn itself(page: &mut Page, core: &Core, now: Time) {
    let build = vec![sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)];
    page.add("up", GAUGE, "1 while the daemon answers.", one(1.0));
    page.add("build", INFO, "Version of tailover.", build);
    let begun = one(unix(now));
    page.add(
        "start_time_seconds",
        GAUGE,
        "When the daemon started, since 1970.",
        begun,
    );
    let stage = vec![state(&[], core.stage().word())];
    page.add_states("stage", "Stage of the machine.", &Stage::WORDS, stage);
}

fn ways(page: &mut Page, core: &Core) {
    let k = core.knowledge();
    let (mut infos, mut verdicts, mut trips, mut used) = (vec![], vec![], vec![], vec![]);
    for u in &k.uplinks {
        let metered = if u.metered { "yes" } else { "no" };
        let name = ("uplink", u.name.as_str());
        infos.push(sample(
            &[name, ("device", &u.device), ("metered", metered)],
            1.0,
        ));
        for f in Family::BOTH.into_iter().filter(|f| u.way(*f).is_some()) {
            let labels = [name, family(f)];
            let judgement = k.verdict(&u.name, f);
            let verdict = judgement.map_or(Verdict::Unknown, |j| j.verdict);
            verdicts.push(state(&labels, verdict.word()));
            if let Some(rtt) = judgement.and_then(|j| j.rtt) {
                trips.push(sample(&labels, rtt.as_secs_f64()));
            }
            let on = k.path_uplink(f).is_some_and(|path| path.name == u.name);
            used.push(sample(&labels, truth(on)));
        }
    }
    page.add("uplink", INFO, "Device of each uplink.", infos);
    let words = Verdict::ALL.map(Verdict::word);
    page.add_states(
        "uplink_verdict",
        "What probes found of an uplink.",
        &words,
        verdicts,
    );
    page.add(
        "uplink_round_trip_seconds",
        GAUGE,
        "Last answer to a probe.",
        trips,
    );
    page.add(
        "uplink_in_use",
        GAUGE,
        "1 for the uplink of tailscaled's packets.",
        used,
    );
    let paths = Family::BOTH.map(|f| (f, k.path(f).judgement.verdict));
    let found = paths.map(|(f, verdict)| state(&[family(f)], verdict.word()));
    page.add_states(
        "path_verdict",
        "What probes found of the path.",
        &words,
        found.into(),
    );
    let by_us = |f: Family| sample(&[family(f)], truth(k.steering(f).to.is_some()));
    let steered = Family::BOTH.map(by_us).into();
    page.add(
        "steered",
        GAUGE,
        "1 while tailover's rules choose the uplink.",
        steered,
    );
}

fn tailnet(page: &mut Page, core: &Core) {
    let t = &core.knowledge().tailnet;
    let mut version = Vec::new();
    if !t.version.is_empty() {
        version.push(sample(&[("version", &t.version)], 1.0));
    }
    page.add("tailscale", INFO, "Version of tailscaled.", version);
    let fresh = |purpose| truth(core.knowledge().standing(purpose).fresh > 0);
    for (name, help, value) in [
        (
            "tailscaled_up",
            "1 while tailscaled answers.",
            truth(t.api == Api::Answers),
        ),
        (
            "tailnet_connected",
            "1 while the tailnet is seen well.",
            truth(core.well()),
        ),
        (
            "control_connected",
            "1 with a fresh control connection.",
            fresh(Purpose::Control),
        ),
        (
            "relay_connected",
            "1 with a fresh relay connection.",
            fresh(Purpose::Derp),
        ),
    ] {
        page.add(name, GAUGE, help, one(value));
    }
}

fn events(page: &mut Page, core: &Core, tally: &Tally, now: Time) {
    let is = |id: &str| core.faults().iter().any(|f| f.id() == id);
    let (mut present, mut named) = (Vec::new(), Vec::new());
    for (id, n) in fault::IDS.iter().zip(&tally.faults) {
        present.push(sample(&[("fault", id)], truth(is(id))));
        named.push(sample(&[("fault", id)], *n as f64));
    }
    page.add("fault", GAUGE, "1 while the fault is present.", present);
    page.add("faults", COUNTER, "Faults named.", named);
    let mut ended = Vec::new();
    for (origin, row) in Origin::ALL.iter().zip(&tally.episodes) {
        for (outcome, n) in Outcome::ALL.iter().zip(row) {
            let labels = [("trigger", origin.word()), ("outcome", outcome.word())];
            ended.push(sample(&labels, *n as f64));
        }
    }
    page.add("episodes", COUNTER, "Episodes that have ended.", ended);
    let running = core.episode();
    let so_far = running.map_or(Duration::ZERO, |e| outage(e, now));
    let total = one(tally.outage.saturating_add(so_far).as_secs_f64());
    page.add(
        "outage_seconds",
        COUNTER,
        "Time in episodes with a fault, no drills.",
        total,
    );
    let seconds = running.map_or(0.0, |e| e.lasted(now).as_secs_f64());
    page.add(
        "episode_seconds",
        GAUGE,
        "Age of the episode under way, or 0.",
        one(seconds),
    );
    let drill = running.is_some_and(|e| e.drill.is_some());
    page.add("drill", GAUGE, "1 during a drill.", one(truth(drill)));
    let last = core.history().iter().next_back();
    let (mut time, mut lasted) = (Vec::new(), Vec::new());
    if let Some(e) = last {
        time = one(unix(now.saturating_sub(e.began)));
        lasted = one(e.lasted(now).as_secs_f64());
    }
    page.add(
        "last_episode_timestamp_seconds",
        GAUGE,
        "When the last one began.",
        time,
    );
    page.add(
        "last_episode_duration_seconds",
        GAUGE,
        "How long it lasted.",
        lasted,
    );
}

fn work(page: &mut Page, core: &Core, tally: &Tally, now: Time) {
    let mut cures = Vec::new();
    for (cure, row) in CURES.iter().zip(&tally.cures) {
        for (result, n) in RESULTS.iter().zip(row) {
            cures.push(sample(&[("cure", cure), ("result", result)], *n as f64));
        }
    }
    page.add(
        "cures",
        COUNTER,
        "Acts on tailscaled or its packets.",
        cures,
    );
    let spent = one(core.restarts(now) as f64);
    page.add(
        "restarts_last_hour",
        GAUGE,
        "Restarts of tailscaled by tailover.",
        spent,
    );
    let most = one(f64::from(core.policy().limits.per_hour));
    page.add(
        "restarts_per_hour",
        GAUGE,
        "Restarts that are allowed.",
        most,
    );
    let (mut rounds, mut datagrams, mut bytes) = (vec![], vec![], vec![]);
    for p in &tally.probes {
        let uplink = ("uplink", p.uplink.as_str());
        for ((_, effort), n) in EFFORTS.iter().zip(&p.rounds) {
            rounds.push(sample(&[uplink, ("effort", effort)], *n as f64));
        }
        let (sent, length) = p.sent.get();
        datagrams.push(sample(&[uplink], sent as f64));
        bytes.push(sample(&[uplink], length as f64));
    }
    page.add("probe_rounds", COUNTER, "Rounds of probes.", rounds);
    page.add(
        "probe_datagrams",
        COUNTER,
        "STUN datagrams sent.",
        datagrams,
    );
    page.add("probe_datagram_bytes", COUNTER, "Their IP packets.", bytes);
    let hooks = HOOKS.iter().zip(&tally.hooks);
    let hooks = hooks.map(|(result, n)| sample(&[("result", result)], *n as f64));
    page.add(
        "hook_runs",
        COUNTER,
        "Programs of /etc/tailover.d.",
        hooks.collect(),
    );
    let dropped = one(tally.hooks_dropped as f64);
    page.add(
        "hook_events_dropped",
        COUNTER,
        "Events that no hook was run for.",
        dropped,
    );
}

/// The families so far.
#[derive(Default)]
struct Page(Vec<Value>);

impl Page {
    fn add(&mut self, name: &str, kind: &str, help: &str, samples: Vec<Value>) {
        self.push(name, kind, help, &[], samples);
    }

    fn add_states(&mut self, name: &str, help: &str, states: &[&str], samples: Vec<Value>) {
        self.push(name, STATES, help, states, samples);
    }

    fn push(&mut self, name: &str, kind: &str, help: &str, states: &[&str], samples: Vec<Value>) {
        let mut family = vec![
            text("name", &format!("tailover_{name}")),
            text("type", kind),
            text("help", help),
        ];
        if let Some(unit) = ["seconds", "bytes"]
            .iter()
            .find(|unit| name.ends_with(*unit))
        {
            family.push(text("unit", unit));
        }
        if !states.is_empty() {
            let states = states.iter().map(|s| Value::String((*s).into())).collect();
            family.push(("states".into(), Value::Array(states)));
        }
        family.push(("samples".into(), Value::Array(samples)));
        self.0.push(Value::Table(family));
    }
}

fn text(name: &str, value: &str) -> (String, Value) {
    (name.into(), Value::String(value.into()))
}

fn sample(labels: &[(&str, &str)], value: f64) -> Value {
    let mut table: Table = labels
        .iter()
        .map(|(name, value)| text(name, value))
        .collect();
    // Whole numbers as such, as readers print them.
    #[allow(clippy::cast_possible_truncation, reason = "it saturates")]
    let value = match value.fract() == 0.0 {
        true => Value::I64(value as i64),
        false => Value::Double(value),
    };
    table.push(("value".into(), value));
    Value::Table(table)
}

fn state(labels: &[(&str, &str)], word: &str) -> Value {
    let mut table: Table = labels
        .iter()
        .map(|(name, value)| text(name, value))
        .collect();
    table.push(text("state", word));
    Value::Table(table)
}

fn one(value: f64) -> Vec<Value> {
    vec![sample(&[], value)]
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn family(f: Family) -> (&'static str, &'static str) {
    let word = match f {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    ("family", word)
}

/// Seconds since 1970 of the instant `age` ago, whole: the clock and the age are read one after another.
fn unix(age: Time) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |now| now.saturating_sub(age).as_secs_f64().round())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Cure, Fault};

    fn second(n: u64) -> Time {
        Duration::from_secs(n)
    }

    #[test]
    fn names_that_are_made_up_do_not_grow_the_list() {
        let mut tally = Tally::default();
        for n in 0..1000 {
            let sent = tally.round(&format!("ppp{n}"), Effort::Beat);
            sent.set((sent.get().0 + 1, 0));
        }
        tally.round("ppp0", Effort::Burst);
        assert_eq!(tally.probes.len(), UPLINKS + 1);
        let first = tally.probes.first().expect("the first");
        assert_eq!((first.rounds, first.sent.get().0), ([0, 1, 0, 1], 1));
        let last = tally.probes.last().expect("the others");
        let beyond = 1000 - UPLINKS as u64;
        assert_eq!(last.uplink, OTHERS);
        assert_eq!(
            (last.rounds, last.sent.get().0),
            ([0, beyond, 0, 0], beyond)
        );
    }

    #[test]
    fn each_cure_and_fault_has_its_count() {
        let mut tally = Tally::default();
        let ways = Family::BOTH.map(Cure::Steer);
        let others = [Cure::Nudge, Cure::Renew, Cure::Mend, Cure::Restart];
        for cure in ways.into_iter().chain(others) {
            for result in [Ok(String::new()), Err(String::new()), Err(String::new())] {
                tally.note(&Notice::Done { cure, result });
            }
        }
        assert_eq!(tally.cures, [[2, 4], [1, 2], [1, 2], [1, 2], [1, 2]]);
        for id in fault::IDS {
            let text = String::new();
            tally.note(&Notice::Fault {
                id,
                text,
                curable: false,
            });
        }
        assert_eq!(tally.faults, [1; fault::IDS.len()]);
    }

    #[test]
    fn a_drill_and_a_way_back_are_no_outage_nor_is_a_look_without_a_fault() {
        for origin in Origin::ALL {
            let mut e = Episode::new(second(10), origin, String::new());
            assert_eq!(outage(&e, second(15)), Duration::ZERO, "{origin:?}");
            e.name(&Fault::DaemonGone);
            let none = matches!(origin, Origin::Drill | Origin::Return);
            let wanted = if none { 0 } else { 5 };
            assert_eq!(outage(&e, second(15)), second(wanted), "{origin:?}");
        }
    }
}
