//! How often a burst calls an open uplink closed, on lines that lose packets by chance: the real
//! schedule and the real judgement, with invented datagrams.

use std::time::Duration;

use tailover::config::Settings;
use tailover::core::{By, Effort, Finding, Judgement, Verdict};
use tailover::net::volley::Schedule;
use tailover::watch::probe::{BURST, NAMES};

const BURSTS: u32 = 1_000_000;

/// One burst in so many may be wrong.
const ONE_IN: u32 = 10_000;

/// Round trips of the line: some lie just below what the last datagram has left.
const ROUND_TRIPS: std::ops::Range<u64> = 5..900;

struct Line {
    dice: fastrand::Rng,
    /// Lost each way.
    loss: f64,
    deadline: Duration,
}

impl Line {
    /// When the first datagram of `schedule` that passes both ways is answered.
    fn answer(&mut self, schedule: Schedule) -> Option<(Duration, Duration)> {
        let mut first: Option<(Duration, Duration)> = None;
        for at in schedule.times() {
            let passes = self.dice.f64() >= self.loss && self.dice.f64() >= self.loss;
            let rtt = Duration::from_millis(self.dice.u64(ROUND_TRIPS));
            // A burst listens on while it sends: a quick answer may overtake a slow one.
            if passes && first.is_none_or(|(heard, _)| at + rtt < heard) {
                first = Some((at + rtt, rtt));
            }
        }
        first
    }

    /// The verdict of one burst.
    fn verdict(&mut self) -> Verdict {
        let mut j = Judgement::default();
        j.begin(1, self.deadline, Effort::Burst);
        if let Some((at, rtt)) = self.answer(BURST) {
            let answer = Finding::Answer {
                by: By::Stun,
                target: String::new(),
                rtt,
                public: None,
            };
            if at < self.deadline {
                j.take(at, 1, answer);
            }
        }
        j.expire(self.deadline);
        j.verdict
    }
}

#[test]
fn a_lossy_line_is_hardly_ever_called_closed() {
    for percent in [10u32, 20, 30] {
        let seed = 20_260_000 + u64::from(percent);
        let mut line = Line {
            dice: fastrand::Rng::with_seed(seed),
            loss: f64::from(percent) / 100.0,
            deadline: Settings::default().probe_timeout,
        };
        let wrong = (0..BURSTS)
            .filter(|_| line.verdict() != Verdict::Open)
            .count();
        println!("{percent} % each way, seed {seed}: {wrong} of {BURSTS} called closed");
        assert!(wrong < (BURSTS / ONE_IN) as usize, "{wrong} at {percent} %");
    }
}

#[test]
fn a_burst_is_sixteen_datagrams_sent_soon_enough_to_be_answered() {
    let last = BURST.times().last().expect("a datagram");
    assert!(
        BURST.count >= 16 && last <= Duration::from_millis(900),
        "{last:?}"
    );
    assert!(last + Duration::from_millis(ROUND_TRIPS.end) < Settings::default().probe_timeout);
}

#[test]
fn what_only_loss_took_is_called_neither_a_black_hole_nor_dead_names() {
    // Both are judged as a burst is, by silence to all: large packets on the same schedule, names
    // on one of their own.
    let six = Schedule { count: 6, ..BURST };
    let seed = 20_261_122;
    let mut line = Line {
        dice: fastrand::Rng::with_seed(seed),
        loss: 0.3,
        deadline: Settings::default().probe_timeout,
    };
    let mut silent = |schedule: Schedule| {
        let tries = 0..BURSTS;
        tries.filter(|_| line.answer(schedule).is_none()).count()
    };
    let (few, all, names) = (silent(six), silent(BURST), silent(NAMES));
    println!(
        "seed {seed}: of {BURSTS} all lost by chance in {few} with 6, {all} and {names} with 16"
    );
    assert!(all.max(names) < (BURSTS / ONE_IN) as usize);
    // Why it is not six.
    assert!(few > (BURSTS / ONE_IN) as usize);
}
