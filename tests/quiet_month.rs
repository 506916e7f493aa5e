//! Thirty days on a line that is well but loses packets: nothing may be named, nothing cured, and
//! what the looks cost on the wire is counted.
//!
//! The real core, in invented time. The line loses 2 % each way and answers with a heavy tail; every
//! datagram of a heartbeat or burst meets that by itself. Chance comes from a seed that is printed;
//! `QUIET_MONTH_SEED` sets it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tailover::config::Settings;
use tailover::core::signs::{Heard, Pulse, Resending, Traffic};
use tailover::core::tailnet::{Api, Backend, Flow, Purpose, Tailnet};
use tailover::core::{
    Action, By, Core, Effort, Event, Family, Finding, Input, Look, Moment, Notice, Route, Scope,
    Uplink, Way,
};
use tailover::daemon;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// A packet is lost with this chance, each way.
const LOSS: f64 = 0.02;

/// What an idle uplink may cost in a month.
const BUDGET: u64 = 15_000_000;

/// Datagrams and their spacing as src/watch/probe/ sends them.
const BEAT: (u32, Duration) = (5, Duration::from_millis(300));
const BURST: (u32, Duration) = (16, Duration::from_millis(60));

/// STUN with SOFTWARE and FINGERPRINT, question and answer, IP and UDP headers included
/// (RFC 8489; 40 bytes out, 32 or 44 back).
const STUN: [(u64, u64); 2] = [(68, 60), (88, 92)];

/// What an assessment costs beside its datagrams, for each scope: TLS to two relays and to the
/// control server, an HTTP challenge. Generous: certificate chains are up to 5 kB.
const ASSESSMENT: u64 = 30_000;

/// How often a relay sends something on an idle connection (tailscale, derp.KeepAlive, and up to 5 s
/// more); headscale's control connection hears something every 50 to 59 s (hscontrol/poll.go).
const KEEPALIVE: Duration = Duration::from_secs(60);

const NAMES: [&str; 2] = ["wan", "wanb"];
const DEVICES: [&str; 2] = ["eth1", "eth2"];
const CONTROL: &str = "198.51.100.10:443";

/// splitmix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, 0 excluded.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Exponential with that mean.
    fn pause(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-self.unit().ln())
    }

    /// A round trip: 20 ms and a Pareto tail (shape 1.5), one in 1,000 above 500 ms.
    fn rtt(&mut self) -> Duration {
        let tail = 5.0 * self.unit().powf(-1.0 / 1.5);
        20 * MS + MS.mul_f64(tail.min(10_000.0))
    }
}

/// Something that sends by itself: peers through the tunnel, tailscaled's own packets.
struct Source {
    next: Duration,
    /// Mean pause between two packets.
    pause: Duration,
}

/// Datagrams and bytes, both ways, by uplink.
#[derive(Clone, Copy, Default)]
struct Cost {
    datagrams: u64,
    bytes: u64,
    suspicions: u64,
    assessments: u64,
}

struct Month {
    now: Duration,
    core: Core,
    dice: Dice,
    queue: BTreeMap<(Duration, u64), Input>,
    number: u64,
    wake: Option<Duration>,
    cost: [Cost; 2],
    /// What must not happen, in words.
    alarms: Vec<String>,
    /// Counters of the first uplink and of the tunnel.
    counted: [Traffic; 2],
    own: Source,
    /// Peers, and until when they go on; none in an idle month.
    peers: Option<(Source, Duration)>,
    /// At which point of [`KEEPALIVE`] control and relay send theirs; none in a month without.
    keepalives: Vec<Duration>,
    /// An unacknowledged segment of the control connection: resent so often, until then.
    resent: (u32, Duration),
}

impl Month {
    fn new(seed: u64, in_use: bool) -> Month {
        let policy = daemon::policy(&Settings::default());
        let traffic = |device: &str| Traffic {
            device: device.into(),
            ..Traffic::default()
        };
        let source = |pause| Source { next: S, pause };
        Month {
            now: Duration::ZERO,
            core: Core::new(policy),
            dice: Dice(seed),
            queue: BTreeMap::new(),
            number: 0,
            wake: None,
            cost: Default::default(),
            alarms: Vec::new(),
            counted: [traffic(DEVICES[0]), traffic("tailscale0")],
            own: source(20 * S),
            peers: in_use.then(|| (source(300 * MS), 300 * S)),
            keepalives: vec![],
            resent: (0, Duration::ZERO),
        }
    }

    fn run(&mut self, span: Duration) {
        self.step(Input::Uplinks(uplinks()));
        let what = "started".to_string();
        self.step(Input::Event(Event::Changed { what }));
        let end = self.now + span;
        loop {
            let due = self.queue.keys().next().map(|key| key.0);
            let Some(at) = due.into_iter().chain(self.wake).min() else {
                return;
            };
            if at > end {
                self.now = end;
                return;
            }
            self.now = at;
            match self.queue.first_entry().filter(|e| e.key().0 <= at) {
                Some(entry) => {
                    let input = entry.remove();
                    self.step(input);
                }
                None => {
                    self.wake = None;
                    self.step(Input::Wake);
                }
            }
        }
    }

    fn step(&mut self, input: Input) {
        let moment = Moment {
            now: self.now,
            dice: self.dice.next() as u32,
        };
        for action in self.core.step(moment, input) {
            match action {
                Action::Look(look @ (Look::Pulse | Look::Beat | Look::Counters)) => {
                    let mut pulse = self.pulse();
                    pulse.heard = (look == Look::Beat).then(|| self.heard());
                    self.after(MS, Input::Pulse(pulse));
                }
                Action::Look(look) => self.look(look),
                Action::Probe {
                    round,
                    scope,
                    effort,
                } => self.probe(round, &scope, effort),
                Action::Wake(at) => self.wake = Some(at),
                Action::Tell(Notice::Fault { id, text, .. }) => {
                    let alarm = format!("{id} at {:?}: {text}", self.now);
                    self.alarms.push(alarm);
                }
                Action::Tell(_) | Action::Exit => {}
                cure => self.alarms.push(format!("{cure:?} at {:?}", self.now)),
            }
        }
    }

    fn after(&mut self, delay: Duration, input: Input) {
        self.number += 1;
        self.queue.insert((self.now + delay, self.number), input);
    }

    fn look(&mut self, look: Look) {
        if look == Look::All {
            self.after(MS, Input::Uplinks(uplinks()));
        }
        if look != Look::Tailnet {
            let route = |f| {
                Some(Route {
                    device: DEVICES[0].into(),
                    gateway: None,
                    source: Some(address(0, f)),
                })
            };
            self.after(2 * MS, Input::Paths(Family::BOTH.map(route)));
        }
        if look != Look::Paths {
            self.after(10 * MS, Input::Tailnet(tailnet().into()));
        }
    }

    /// One round of datagrams, as `stun::burst` sends them: the next one while none is answered.
    fn probe(&mut self, round: u32, scope: &Scope, effort: Effort) {
        let (count, spacing) = match effort {
            Effort::Lookout => panic!("a way out is always open here"),
            Effort::Beat => BEAT,
            Effort::Suspect | Effort::Burst => BURST,
        };
        let mut answered: Option<Duration> = None;
        let (mut sent, mut heard) = (0, 0);
        for n in 0..count {
            let at = spacing * n;
            if answered.is_some_and(|t| t <= at) {
                break;
            }
            sent += 1;
            let there = !self.dice.chance(LOSS);
            let back = !self.dice.chance(LOSS);
            if there && back {
                let arrives = at + self.dice.rtt();
                heard += 1;
                answered = Some(answered.map_or(arrives, |t| t.min(arrives)));
            }
        }
        let answered = answered.filter(|t| *t < 2 * S);
        let (uplink, family) = match scope {
            Scope::Path(f) => (0, *f),
            Scope::Uplink(name, f) => (usize::from(name == NAMES[1]), *f),
        };
        let (out, back) = STUN[usize::from(family == Family::V6)];
        let cost = &mut self.cost[uplink];
        cost.datagrams += sent + heard;
        cost.bytes += sent * out + heard * back;
        cost.suspicions += u64::from(effort == Effort::Suspect);
        if effort == Effort::Burst {
            cost.assessments += 1;
            cost.bytes += ASSESSMENT;
        }
        if uplink == 0 {
            self.counted[0].sent += sent;
            self.counted[0].received += u64::from(answered.is_some());
        }
        let finding = match answered {
            Some(rtt) => Finding::Answer {
                by: By::Stun,
                target: "STUN".into(),
                rtt,
                public: Some(address(uplink, family)),
            },
            None => Finding::Failed {
                by: By::Stun,
                target: "STUN".into(),
                why: format!("no answer to {sent} datagrams"),
            },
        };
        let at = answered.unwrap_or(2 * S);
        let tell = |finding| Input::Probed {
            round,
            scope: scope.clone(),
            finding,
        };
        let (first, over) = (tell(finding), tell(Finding::Over));
        let control = tell(Finding::Control(Ok(())));
        if effort == Effort::Burst {
            self.after(at + 80 * MS, control);
        }
        self.after(at, first);
        self.after(at + 90 * MS, over);
    }

    /// What the kernel has counted by now.
    fn pulse(&mut self) -> Pulse {
        self.tailscaled_talks();
        self.peers_talk();
        let resending = match self.resent {
            (times, until) if until > self.now => vec![Resending {
                local: SocketAddr::new(address(0, Family::V4), 40000),
                remote: CONTROL.parse().expect("an address"),
                times,
            }],
            _ => vec![],
        };
        let [first, tunnel] = self.counted.clone();
        let second = Traffic {
            device: DEVICES[1].into(),
            ..Traffic::default()
        };
        Pulse {
            uplinks: vec![first, second],
            tunnel: Some(tunnel),
            resending: Some(resending),
            ..Pulse::default()
        }
    }

    /// When the servers' keepalives last came, where they send any.
    fn heard(&self) -> Vec<Heard> {
        let told = tailnet().flows.into_iter().zip(self.keepalives.clone());
        told.map(|(flow, phase)| {
            let ago = (self.now + KEEPALIVE - phase).as_nanos() % KEEPALIVE.as_nanos();
            Heard {
                local: flow.local,
                remote: flow.remote,
                ago: Duration::from_nanos(ago as u64),
            }
        })
        .filter(|h| h.ago < self.now)
        .collect()
    }

    /// A keepalive now and then, of one segment or a few; each may be lost either way.
    fn tailscaled_talks(&mut self) {
        while self.own.next <= self.now {
            for _ in 0..=(self.dice.next() % 5) {
                self.counted[0].sent += 1;
                let answered = !self.dice.chance(LOSS) && !self.dice.chance(LOSS);
                self.counted[0].received += u64::from(answered);
            }
            // Resent after 0.2 s, 0.4 s and so on until one gets through (RFC 6298).
            let mut times = 0;
            while self.dice.chance(2.0 * LOSS) {
                times += 1;
            }
            let span = 200 * MS * (2u32.pow(times.min(8)) - 1);
            self.resent = (times, self.own.next + span);
            self.own.next += self.dice.pause(self.own.pause);
        }
    }

    /// Peers talk for some minutes and are silent for some, a packet and its answer at a time.
    fn peers_talk(&mut self) {
        let Some((source, until)) = &mut self.peers else {
            return;
        };
        while source.next <= self.now {
            if !self.dice.chance(LOSS) {
                for counter in &mut self.counted {
                    counter.received += 1;
                    counter.sent += 1;
                }
            }
            source.next += self.dice.pause(source.pause);
            if source.next > *until {
                source.next = *until + self.dice.pause(1200 * S);
                *until = source.next + self.dice.pause(180 * S);
            }
        }
    }

    fn report(&self, what: &str, seed: u64) {
        for (name, cost) in NAMES.iter().zip(&self.cost) {
            println!(
                "{what}, seed {seed}, {name}: {} datagrams, {:.1} MB, {} suspicions, {} assessed",
                cost.datagrams,
                cost.bytes as f64 / 1e6,
                cost.suspicions,
                cost.assessments,
            );
        }
    }
}

fn address(uplink: usize, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, [2, 66][uplink])),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(
            0x2001,
            0xdb8,
            1 + uplink as u16,
            0,
            0,
            0,
            0,
            2,
        )),
    }
}

fn uplinks() -> Vec<Uplink> {
    let way = |uplink, family| {
        Some(Way {
            gateway: None,
            addresses: vec![address(uplink, family)],
            from: None,
            metric: Some([10, 20][uplink]),
            ..Way::default()
        })
    };
    let uplink = |n: usize| Uplink {
        name: NAMES[n].into(),
        aliases: vec![NAMES[n].into()],
        device: DEVICES[n].into(),
        v4: way(n, Family::V4),
        v6: way(n, Family::V6),
        ..Uplink::default()
    };
    vec![uplink(0), uplink(1)]
}

fn tailnet() -> Tailnet {
    let flow = |purpose, port, remote: &str| Flow {
        purpose,
        local: SocketAddr::new(address(0, Family::V4), port),
        remote: remote.parse().expect("an address"),
        established: true,
    };
    Tailnet {
        api: Api::Answers,
        pid: Some(100),
        backend: Backend::Running,
        wanted: Some(true),
        tun: true,
        online: Some(true),
        flows: vec![
            flow(Purpose::Control, 40000, CONTROL),
            flow(Purpose::Derp, 40001, "198.51.100.20:443"),
        ],
        ..Tailnet::default()
    }
}

fn seed() -> u64 {
    let given = std::env::var("QUIET_MONTH_SEED").ok();
    given.map_or(20_261_122, |text| text.parse().expect("a number"))
}

#[test]
fn an_idle_month_is_quiet_and_cheap() {
    let seed = seed();
    let mut month = Month::new(seed, false);
    month.run(MONTH);
    month.report("idle", seed);
    assert!(month.alarms.is_empty(), "{:#?}", month.alarms);
    for (name, cost) in NAMES.iter().zip(&month.cost) {
        assert!(cost.bytes <= BUDGET, "{name}: {} bytes a month", cost.bytes);
    }
}

#[test]
fn keepalives_make_an_idle_uplink_cheaper() {
    let seed = seed();
    // Three days tell it.
    let spent = |keepalives: Vec<Duration>| {
        let mut month = Month::new(seed, false);
        let what = format!("three idle days, {} keepalives a minute", keepalives.len());
        month.keepalives = keepalives;
        month.run(MONTH / 10);
        month.report(&what, seed);
        assert!(month.alarms.is_empty(), "{:#?}", month.alarms);
        month.cost[0].bytes - month.cost[0].assessments * ASSESSMENT
    };
    let none = spent(vec![]);
    let one = spent(vec![7 * S]);
    let both = spent(vec![7 * S, 29 * S]);
    // IPv6 is asked every minute all the same, and costs more than half of what both do in turn.
    for some in [one, both] {
        assert!(some < none * 3 / 4, "{some} of {none}");
    }
}

#[test]
fn a_month_in_use_is_quiet() {
    let seed = seed();
    let mut month = Month::new(seed, true);
    month.run(MONTH);
    month.report("in use", seed);
    assert!(month.alarms.is_empty(), "{:#?}", month.alarms);
}
