//! The story of a week, made of a number: what kind of router it is, and what happens to it when.

use std::time::Duration;

use crate::world::{Fault, Hung, S};
use tailover::core::budget::Limits;
use tailover::core::ladder::Allowed;
use tailover::core::tailnet::Respawn;
use tailover::core::{Family, Policy};

pub const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The router, as it is for the whole week.
#[derive(Clone, Debug)]
pub struct Router {
    pub policy: Policy,
    pub dice: u32,
    pub control_delay: Duration,
    pub keepalives: Option<Duration>,
    pub peer_talks: bool,
    pub metered: bool,
    /// Of a hundred events so many are lost, come twice, come late.
    pub unruly: u32,
    pub ipv6: bool,
    pub hung: Hung,
    pub respawn: Respawn,
    pub debug: Option<bool>,
}

/// What happens. What [`Fault`] does not have concerns the daemon, or lasts until all is put right.
#[derive(Clone, Debug)]
pub enum Trouble {
    World(Fault),
    /// A word of mwan3's or netifd's to which nothing happened, so often.
    Rumour {
        uplink: usize,
        up: bool,
        times: u8,
    },
    DaemonKilled,
    Reboot,
    /// The daemon is not given the CPU, and no uplink gets out from then on if `dark`.
    Stall {
        span: Duration,
        dark: bool,
    },
    /// Another hand takes our rules away.
    RulesFlushed,
    ControlCut,
    /// Only a restart brings control back.
    Stubborn,
    /// Large packets are lost on that uplink, or pass again.
    Narrow {
        uplink: usize,
        on: bool,
    },
    ChainsLost,
    FoundAgain,
    GoesOn,
    EndsByItself,
    RestartedByHand,
    Refuses(bool),
    Names(bool),
    NoWay(bool),
    RestartFails(bool),
    /// The router's clock jumps back before the certificates' start, or is right again.
    ClockBehind(bool),
    MendingFails(bool),
    Resends(bool),
    Recover {
        force: bool,
    },
}

/// Troubles one after the other, each after a pause; then all is put right, or after a while.
#[derive(Clone, Debug)]
pub struct Bout {
    pub at: Duration,
    pub troubles: Vec<(Duration, Trouble)>,
    /// How long it stays as it is before the last cause goes.
    pub stays: Duration,
}

#[derive(Clone, Debug)]
pub struct Story {
    pub router: Router,
    pub bouts: Vec<Bout>,
}

impl std::fmt::Display for Story {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        writeln!(f, "{:?}", self.router)?;
        for bout in &self.bouts {
            writeln!(f, "at {:?}:", bout.at)?;
            for (pause, trouble) in &bout.troubles {
                writeln!(f, "  after {pause:?} {trouble:?}")?;
            }
            writeln!(f, "  stays {:?}", bout.stays)?;
        }
        Ok(())
    }
}

impl Story {
    pub fn of(seed: u64) -> Story {
        let mut dice = fastrand::Rng::with_seed(seed);
        let router = router(&mut dice);
        let mut at = Duration::ZERO;
        let mut bouts = Vec::new();
        let most = dice.u32(2..7);
        for _ in 0..most {
            at += Duration::from_secs(dice.u64(60..2 * WEEK.as_secs() / u64::from(most)));
            if at >= WEEK {
                break;
            }
            bouts.push(bout(&mut dice, at));
        }
        Story { router, bouts }
    }
}

fn router(dice: &mut fastrand::Rng) -> Router {
    let allowed = match dice.u8(0..12) {
        0 => Allowed {
            restart: false,
            ..Allowed::ALL
        },
        1 => Allowed {
            renew: false,
            ..Allowed::ALL
        },
        _ => Allowed::ALL,
    };
    let min = S * dice.u32(10..120);
    // What may neither renew nor restart leaves control where it is.
    let least = u32::from(!allowed.renew);
    let policy = Policy {
        allowed,
        limits: Limits {
            min,
            max: min * dice.u32(1..40),
            per_hour: dice.u32(least..6),
        },
        hold: S * [dice.u32(1..60), dice.u32(1..300)][usize::from(dice.u8(0..8) == 0)],
        settle: Duration::from_millis(dice.u64(0..2000)),
        interval: S * dice.u32(10..90),
        other_interval: S * dice.u32(60..900),
        probe_timeout: S * dice.u32(1..4),
    };
    Router {
        dice: dice.u32(..),
        // An answer that comes after the probe's own end would be none.
        control_delay: Duration::from_millis(dice.u64(40..800 * policy.probe_timeout.as_secs())),
        keepalives: dice.bool().then(|| S * dice.u32(20..65)),
        peer_talks: dice.u8(0..6) == 0,
        metered: dice.u8(0..4) == 0,
        unruly: [0, 0, 3, 20][dice.usize(0..4)],
        ipv6: dice.u8(0..3) == 0,
        hung: [Hung::Deadlock, Hung::Halted, Hung::Busy][dice.usize(0..3)],
        respawn: match dice.u8(0..4) {
            0 => Respawn::After(30 * S),
            _ => Respawn::After(5 * S),
        },
        debug: Some(dice.u8(0..8) != 0),
        policy,
    }
}

fn bout(dice: &mut fastrand::Rng, at: Duration) -> Bout {
    let count = 1 + dice.usize(0..4) * dice.usize(0..4);
    let troubles = (0..count)
        .map(|_| {
            // Most follow each other closely, some in the middle of a cure, some after it.
            let most = [100, 1_000, 10_000, 60_000, 400_000][dice.usize(0..5)];
            (Duration::from_millis(dice.u64(0..most)), trouble(dice))
        })
        .collect();
    // Long states are rare: nothing new happens in them, and they are what a run takes its time for.
    let stays = S * [2, 10, 30, 60, 120, 120, 300, 900][dice.usize(0..8)];
    Bout {
        at,
        troubles,
        stays,
    }
}

fn told(dice: &mut fastrand::Rng) -> Option<u16> {
    dice.u8(0..4).gt(&0).then(|| dice.u16(20..10_000))
}

fn trouble(dice: &mut fastrand::Rng) -> Trouble {
    let uplink = dice.usize(0..2);
    let family = [Family::V4, Family::V6][dice.usize(0..2)];
    let on = dice.bool();
    Trouble::World(match dice.u8(0..64) {
        0..=11 => Fault::Dark {
            uplink,
            told: told(dice),
        },
        12..=17 => Fault::Back {
            uplink,
            told: told(dice),
        },
        18 | 19 => Fault::Portal { uplink },
        20..=23 => Fault::Carrier { uplink, up: on },
        24..=26 => Fault::NewPublic { uplink },
        27 => Fault::NewGateway { uplink },
        28..=30 => Fault::Half {
            uplink,
            family,
            dead: on,
        },
        31 | 32 => Fault::Control { up: on },
        33 => Fault::UserStops,
        34 => Fault::UserStarts,
        35 => Fault::Crash,
        36 | 37 => Fault::Hang,
        38 | 39 => Fault::Lose { mendable: on },
        40 => Fault::Drill {
            uplink,
            stay: dice.u8(0..90),
        },
        41 => Fault::DrillStop,
        other => return trouble_of_another_kind(other - 42, uplink, on, dice),
    })
}

fn trouble_of_another_kind(
    which: u8,
    uplink: usize,
    on: bool,
    dice: &mut fastrand::Rng,
) -> Trouble {
    match which {
        0 | 1 => Trouble::Rumour {
            uplink,
            up: on,
            times: dice.u8(1..40),
        },
        2 | 3 => Trouble::DaemonKilled,
        4 => Trouble::Reboot,
        5 => Trouble::Stall {
            span: S * dice.u32(1..600),
            dark: on,
        },
        6 => Trouble::RulesFlushed,
        7 => Trouble::ControlCut,
        8 => Trouble::Stubborn,
        9 => Trouble::ChainsLost,
        10 => Trouble::FoundAgain,
        11 => Trouble::GoesOn,
        12 => Trouble::EndsByItself,
        13 => Trouble::RestartedByHand,
        14 => Trouble::Refuses(on),
        15 => Trouble::Names(on),
        16 => Trouble::NoWay(on),
        17 => Trouble::RestartFails(on),
        18 => Trouble::MendingFails(on),
        19 | 20 => Trouble::Narrow { uplink, on },
        _ => match dice.u8(0..3) {
            1 => Trouble::ClockBehind(on),
            0 => Trouble::Resends(on),
            _ => Trouble::Recover { force: on },
        },
    }
}
