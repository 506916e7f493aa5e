//! Lives through a week, and holds it against what is promised.

use std::time::Duration;

use crate::story::{Bout, Router, Story, Trouble, WEEK};
use crate::world::{self, World, MS, S};
use tailover::core::{Action, Event, Fault, Stage};

/// A fault that can be cured is cured within this time; longer where probes wait longer.
const CURED_WITHIN: Duration = Duration::from_secs(240);

/// When all is put right, the daemon is done within this time: the hold, grown eightfold by flaps, and the
/// longest pause between two restarts.
const DONE_WITHIN: Duration = Duration::from_secs(4 * 3600);

/// So long nothing may happen before the rest of the healthy stretch is passed in one step.
const SILENT: Duration = Duration::from_secs(120);

/// An hour's bound on what the core may hold, in characters of its own account of itself.
const LARGEST: usize = 400_000;

/// Gives the number of cures, or the promise that was broken.
pub fn through(story: &Story, aloud: bool) -> Result<[u64; 2], String> {
    let mut week = Week {
        w: settled(&story.router),
        curable_since: None,
        cures: 0,
        aloud,
        all_allowed: story.router.policy.allowed == tailover::core::ladder::Allowed::ALL
            && story.router.policy.limits.per_hour > 0,
    };
    week.go_on(60 * S)?;
    week.healthy("at first")?;
    for bout in &story.bouts {
        week.w.pass(bout.at);
        week.bout(bout)?;
    }
    week.w.pass(WEEK);
    week.go_on(SILENT)?;
    if week.aloud {
        week.tell();
    }
    week.healthy("at the end")?;
    Ok([week.cures, week.w.steps])
}

fn settled(router: &Router) -> World {
    let mut w = World::new(router.policy.clone(), router.dice);
    w.lean = true;
    w.renew_moves_derp = true;
    w.gives_relays_up = true;
    w.control_delay = router.control_delay;
    w.peer_talks = router.peer_talks;
    w.metered = router.metered.then_some(1);
    w.unruly = router.unruly;
    w.how_hung = router.hung;
    w.respawn = router.respawn.clone();
    w.debug = router.debug;
    if let Some(every) = router.keepalives {
        w.keepalives(every);
    }
    if router.ipv6 {
        w.families([[true, true], [true, true]]);
    }
    w
}

struct Week {
    w: World,
    /// Since when nothing has stood in the way of a cure.
    curable_since: Option<Duration>,
    cures: u64,
    /// Tells what is done and said.
    aloud: bool,
    all_allowed: bool,
}

impl Week {
    fn bout(&mut self, bout: &Bout) -> Result<(), String> {
        for (pause, trouble) in &bout.troubles {
            self.go_on(*pause)?;
            if self.aloud {
                self.count();
                println!("{:11.3} HAPPENS {trouble:?}", self.w.now.as_secs_f64());
            }
            self.happen(trouble);
        }
        self.go_on(bout.stays)?;
        self.w.mend_by_hand();
        self.curable_since = None;
        self.be_done()
    }

    fn happen(&mut self, trouble: &Trouble) {
        let w = &mut self.w;
        self.curable_since = None;
        match trouble {
            Trouble::World(fault) => w.inject(*fault),
            Trouble::Rumour { uplink, up, times } => {
                for _ in 0..*times {
                    let interface = ["wan", "wanb"][*uplink].to_string();
                    let source = "mwan3".to_string();
                    w.tell(match up {
                        true => Event::Up { interface, source },
                        false => Event::Down { interface, source },
                    });
                }
            }
            Trouble::DaemonKilled => w.restart_daemon(),
            Trouble::Reboot => w.reboot(),
            Trouble::Stall { span, dark } => {
                for uplink in (0..2).filter(|_| *dark) {
                    w.inject(world::Fault::Dark { uplink, told: None });
                }
                w.stall(*span);
            }
            Trouble::RulesFlushed => w.flush_rules(),
            Trouble::ControlCut => w.cut_control(),
            // Only what was seen to work is known to be broken.
            Trouble::Stubborn if w.well() && w.known() => {
                w.stubborn = true;
                w.cut_control();
            }
            Trouble::Stubborn => {}
            Trouble::Narrow { uplink, on } => w.narrow(*uplink, *on),
            Trouble::ChainsLost => {
                w.inject(world::Fault::Lose { mendable: true });
                w.chains_lost = true;
            }
            Trouble::FoundAgain => w.find_again(),
            Trouble::GoesOn => w.go_on(),
            Trouble::EndsByItself => w.end_by_itself(),
            Trouble::RestartedByHand => w.restart_by_hand(),
            Trouble::Refuses(on) => w.refuses = on.then(|| "403 access denied".to_string()),
            Trouble::Names(up) => w.names_up = *up,
            Trouble::NoWay(on) => w.lose_way(*on),
            Trouble::ClockBehind(on) => w.set_clock(*on),
            Trouble::RestartFails(on) => w.restart_fails = *on,
            Trouble::MendingFails(on) => w.mending_fails = *on,
            Trouble::Resends(on) => w.resends = *on,
            Trouble::Recover { force } => w.recover(*force),
        }
    }

    /// Time passes; what can be cured must be, in time.
    fn go_on(&mut self, span: Duration) -> Result<(), String> {
        let end = self.w.now + span;
        while self.w.now < end {
            // Fine enough to see what lasts, coarse enough to be quick.
            let slice = (end - self.w.now).min(5 * S).max(MS);
            self.w.run(slice);
            self.hold_to_it()?;
        }
        Ok(())
    }

    fn hold_to_it(&mut self) -> Result<(), String> {
        if let Some(first) = self.w.broken.first() {
            return Err(first.clone());
        }
        let curable = self.all_allowed && self.w.curable() && !self.w.needs_restart();
        if !curable || self.w.well() {
            self.curable_since = None;
            return Ok(());
        }
        let since = *self.curable_since.get_or_insert(self.w.now);
        match self.w.now - since > CURED_WITHIN {
            true => Err(format!(
                "not cured within {CURED_WITHIN:?} at {:?}: {}",
                self.w.now,
                self.told()
            )),
            false => Ok(()),
        }
    }

    /// All causes are gone: waits until the daemon has nothing left to do.
    fn be_done(&mut self) -> Result<(), String> {
        let begun = self.w.now;
        let mut still_since = begun;
        loop {
            self.count();
            self.go_on(60 * S)?;
            let idle = self.w.cures().count() == 0 && *self.w.core.stage() == Stage::Quiet;
            if !(idle && self.w.well() && !self.w.steered()) {
                still_since = self.w.now;
            }
            if self.w.now - still_since >= SILENT {
                break;
            }
            if self.w.now - begun > DONE_WITHIN {
                return Err(format!("not done within {DONE_WITHIN:?}: {}", self.told()));
            }
        }
        self.healthy("after a bout")
    }

    fn count(&mut self) {
        if self.aloud {
            self.tell();
        }
        self.cures += self.w.cures().count() as u64;
        self.w.forget();
    }

    /// Nothing is wrong, nothing is left, nothing is done, and nothing has grown.
    fn healthy(&mut self, when: &str) -> Result<(), String> {
        // That somebody has restarted it, or that it ended, holds for ten minutes.
        let mut faults = self.w.core.faults().iter();
        let over = faults.all(|f| matches!(f, Fault::OtherHand { .. } | Fault::CrashLoop { .. }));
        let quiet = *self.w.core.stage() == Stage::Quiet && over;
        let acted = self.w.cures().count();
        if !quiet || !self.w.well() || self.w.steered() || acted > 0 {
            return Err(format!(
                "not silent and well {when}, {acted} acts: {}",
                self.told()
            ));
        }
        if self.w.core.knowledge().drilled.is_some() {
            return Err(format!("a drill for ever {when}"));
        }
        let (episodes, size) = (self.w.core.history().iter().len(), self.w.size());
        if episodes > 64 || size > LARGEST {
            return Err(format!(
                "grown {when}: {episodes} episodes, {size} characters"
            ));
        }
        Ok(())
    }

    /// What was done and said since the last time, in order.
    fn tell(&self) {
        let cures = self
            .w
            .cures()
            .map(|a| (a.at, format!("act    {:?}", a.action)));
        let notices = self
            .w
            .notices
            .iter()
            .map(|(at, n)| (*at, format!("told   {n:?}")));
        let mut lines: Vec<_> = cures.chain(notices).collect();
        lines.sort_by_key(|(at, _)| *at);
        for (at, text) in lines {
            println!("{:11.3} {text}", at.as_secs_f64());
        }
    }

    fn told(&self) -> String {
        let w = &self.w;
        if self.aloud {
            println!("{:#?}", w.core);
        }
        let cures: Vec<_> = w.cures().map(|a| (a.at, &a.action)).collect();
        let last = &cures[cures.len().saturating_sub(5)..];
        let restarts = w.count(|a| *a == Action::Restart);
        format!(
            "{:?}, faults {:?}, well {}, steered {}, {restarts} restarts, last acts {last:?}",
            w.core.stage(),
            w.core.faults(),
            w.well(),
            w.steered()
        )
    }
}
