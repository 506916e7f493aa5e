//! Which cure comes next: the mildest allowed one that can help, none that cannot.

use std::time::Duration;

use super::fault::Fault;
use super::uplink::Family;

/// An act on tailscaled or on its packets, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cure {
    /// Move the mark of one family to a live uplink.
    Steer(Family),
    /// break-derp-conns, restun, rebind, pings through the tunnel.
    Nudge,
    /// `start {}`: a new control client.
    Renew,
    /// Put lost rules and routes of tailscaled's back.
    Mend,
    /// Restart the service.
    Restart,
}

impl Cure {
    /// The word in the configuration, the log and the history.
    pub fn word(self) -> &'static str {
        match self {
            Cure::Steer(_) => "steer",
            Cure::Nudge => "nudge",
            Cure::Renew => "renew",
            Cure::Mend => "mend",
            Cure::Restart => "restart",
        }
    }

    /// How long a healthy tailnet may take to show after the cure.
    ///
    /// Measured: control 0.5-1.3 s after `start {}`, tailnet within 4.5 s of a move, 10 s after a
    /// restart; the rest is for slow lines.
    pub fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Cure::Steer(_) => 4,
            Cure::Nudge => 6,
            Cure::Renew => 8,
            Cure::Mend => 3,
            Cure::Restart => 30,
        })
    }
}

impl std::fmt::Display for Cure {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Cure::Steer(family) => write!(f, "steer {family}"),
            other => f.write_str(other.word()),
        }
    }
}

/// The cures that the owner allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub steer: bool,
    pub nudge: bool,
    pub renew: bool,
    pub mend: bool,
    pub restart: bool,
}

impl Allowed {
    pub const ALL: Allowed = Allowed {
        steer: true,
        nudge: true,
        renew: true,
        mend: true,
        restart: true,
    };

    /// Plain behaviour: restart is the only cure there is.
    fn only_restart(&self) -> bool {
        self.restart && !self.steer && !self.nudge && !self.renew && !self.mend
    }
}

/// How often each cure was tried in this episode without the tailnet coming back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    pub steer: [u8; 2],
    pub nudge: u8,
    pub renew: u8,
    pub mend: u8,
    pub restart: u8,
    /// tailscaled was built without the call a cure needs (404), so it is as good as tried.
    pub nudge_missing: bool,
}

/// What the ladder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Do these together: each is the mildest for a fault of its own.
    Do(Vec<Cure>),
    /// As `Do(restart)`, but it is known not to help and is done because nothing else is allowed.
    Useless(String),
    /// A cure would fit, but the control server must answer first.
    AwaitControl,
    /// Nothing fits, or all that fits was tried.
    Nothing(String),
}

/// Tries of one mild cure before the next is taken.
const MILD_TRIES: u8 = 2;

/// The marks that have to be moved, and may be.
pub fn moves(faults: &[Fault], allowed: &Allowed, tried: &Tried) -> Vec<Cure> {
    let pinned = faults.iter().filter_map(Fault::moves);
    pinned
        .filter(|f| allowed.steer && tried.steer[f.at()] < MILD_TRIES)
        .map(Cure::Steer)
        .collect()
}

/// Chooses the next cure for `faults`. `control` tells whether the control server answers over the
/// path of now. The budget for restarts is the caller's.
pub fn next(faults: &[Fault], allowed: &Allowed, tried: &Tried, control: bool) -> Next {
    let pinned = faults.iter().any(|f| f.moves().is_some());
    let dead = faults
        .iter()
        .any(|f| matches!(f, Fault::DaemonGone | Fault::DaemonHung { .. }));
    let stuck = faults
        .iter()
        .any(|f| matches!(f, Fault::StuckControl { .. }));
    let stale = faults.iter().any(|f| matches!(f, Fault::StalePaths { .. }));
    let lost = faults.iter().any(|f| matches!(f, Fault::LostState { .. }));

    if pinned {
        let mut moves = moves(faults, allowed, tried);
        if !moves.is_empty() {
            moves.extend(mends(faults, allowed, tried).then_some(Cure::Mend));
            return Next::Do(moves);
        }
        if allowed.only_restart() {
            return Next::Useless(
                "a restart cannot help while tailscaled's packets leave by a dead uplink, \
                 and no other cure is allowed"
                    .into(),
            );
        }
        // One family may be beyond help while the other carries the tailnet.
        if !stuck && !stale && !dead && !lost {
            return Next::Nothing(if allowed.steer {
                "moving the mark did not open the path".into()
            } else {
                "the mark has to be moved, and steer is not among the allowed cures".into()
            });
        }
    }
    if dead {
        return if allowed.restart {
            Next::Do(vec![Cure::Restart])
        } else {
            Next::Nothing("tailscaled has to be restarted, and restart is not allowed".into())
        };
    }
    let mut mild = Vec::new();
    if stale && allowed.nudge && !tried.nudge_missing && tried.nudge < MILD_TRIES {
        mild.push(Cure::Nudge);
    }
    if stuck && allowed.renew && tried.renew < MILD_TRIES && control {
        mild.push(Cure::Renew);
    }
    if mends(faults, allowed, tried) {
        mild.push(Cure::Mend);
    }
    if !mild.is_empty() {
        return Next::Do(mild);
    }
    if !stuck && !stale && !lost {
        return Next::Nothing("nothing to cure".into());
    }
    if !control {
        return Next::AwaitControl;
    }
    // A new control client also reconnects DERP's home region; it is milder than a restart.
    if stale && allowed.renew && tried.renew < MILD_TRIES {
        return Next::Do(vec![Cure::Renew]);
    }
    if allowed.restart && !pinned {
        return Next::Do(vec![Cure::Restart]);
    }
    Next::Nothing("every allowed cure was tried".into())
}

/// True when lost kernel state can be put back and that was not tried enough. It needs neither the
/// outside nor the control server (promise 1).
pub fn mends(faults: &[Fault], allowed: &Allowed, tried: &Tried) -> bool {
    let mendable = |f: &Fault| matches!(f, Fault::LostState { mendable: true, .. });
    allowed.mend && tried.mend < MILD_TRIES && faults.iter().any(mendable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f1() -> Fault {
        Fault::PinnedRoute {
            family: Family::V4,
            device: Some("eth1".into()),
            open: vec!["wanb".into()],
            flaw: None,
            drill: false,
        }
    }
    fn f2() -> Fault {
        Fault::StuckControl {
            evidence: "old address".into(),
        }
    }
    fn f3() -> Fault {
        Fault::StalePaths {
            evidence: "old address".into(),
        }
    }
    fn pick(faults: &[Fault], tried: &Tried, control: bool) -> Next {
        next(faults, &Allowed::ALL, tried, control)
    }
    const RESTART_ONLY: Allowed = Allowed {
        steer: false,
        nudge: false,
        renew: false,
        mend: false,
        restart: true,
    };

    #[test]
    fn a_pinned_route_is_steered_before_anything_else() {
        let got = pick(&[f1(), f2(), f3()], &Tried::default(), true);
        assert_eq!(got, Next::Do(vec![Cure::Steer(Family::V4)]));
    }

    #[test]
    fn two_faults_get_the_mildest_cure_of_each_at_once() {
        let got = pick(&[f2(), f3()], &Tried::default(), true);
        assert_eq!(got, Next::Do(vec![Cure::Nudge, Cure::Renew]));
    }

    #[test]
    fn renew_and_restart_wait_for_control() {
        assert_eq!(pick(&[f2()], &Tried::default(), false), Next::AwaitControl);
        let spent = Tried {
            nudge: 2,
            renew: 2,
            ..Tried::default()
        };
        assert_eq!(pick(&[f2(), f3()], &spent, false), Next::AwaitControl);
        assert_eq!(
            pick(&[f2(), f3()], &spent, true),
            Next::Do(vec![Cure::Restart])
        );
    }

    #[test]
    fn restart_is_no_cure_for_a_pinned_route() {
        let tried = Tried {
            steer: [2, 2],
            ..Tried::default()
        };
        assert!(matches!(pick(&[f1()], &tried, true), Next::Nothing(_)));
        assert!(matches!(
            next(&[f1()], &RESTART_ONLY, &Tried::default(), true),
            Next::Useless(_)
        ));
    }

    #[test]
    fn lost_state_is_mended_twice_and_then_restarted() {
        let f4 = |mendable| Fault::LostState {
            lost: vec!["table 52".into()],
            mendable,
        };
        let tried = |mend| Tried {
            mend,
            ..Tried::default()
        };
        let mend = Next::Do(vec![Cure::Mend]);
        let restart = Next::Do(vec![Cure::Restart]);
        assert_eq!(pick(&[f4(true)], &tried(0), false), mend);
        assert_eq!(pick(&[f4(true)], &tried(1), false), mend);
        assert_eq!(pick(&[f4(true)], &tried(2), true), restart);
        assert_eq!(pick(&[f4(true)], &tried(2), false), Next::AwaitControl);
        assert_eq!(pick(&[f4(false)], &tried(0), true), restart);
        assert_eq!(
            next(&[f4(true)], &RESTART_ONLY, &tried(0), true),
            restart,
            "mend is not allowed"
        );
        assert_eq!(
            pick(&[f1(), f4(true)], &tried(0), true),
            Next::Do(vec![Cure::Steer(Family::V4), Cure::Mend])
        );
    }

    #[test]
    fn restart_alone_is_the_plain_behaviour() {
        assert_eq!(
            next(&[f2()], &RESTART_ONLY, &Tried::default(), true),
            Next::Do(vec![Cure::Restart])
        );
    }

    fn f4(mendable: bool) -> Fault {
        Fault::LostState {
            lost: vec!["table 52".into()],
            mendable,
        }
    }

    fn all_but(change: fn(&mut Allowed)) -> Allowed {
        let mut allowed = Allowed::ALL;
        change(&mut allowed);
        allowed
    }

    fn act(cures: &[Cure]) -> Next {
        Next::Do(cures.to_vec())
    }

    #[test]
    fn each_family_is_steered_until_that_was_tried_twice() {
        let both = [f1(), {
            let mut f = f1();
            if let Fault::PinnedRoute { family, .. } = &mut f {
                *family = Family::V6;
            }
            f
        }];
        let steer = Cure::Steer;
        let tried = |steer| Tried {
            steer,
            ..Tried::default()
        };
        let (v4, v6) = (steer(Family::V4), steer(Family::V6));
        assert_eq!(pick(&both, &tried([0, 1]), false), act(&[v4, v6]));
        assert_eq!(pick(&both, &tried([2, 1]), false), act(&[v6]));
        let beyond = "moving the mark did not open the path".to_string();
        assert_eq!(pick(&both, &tried([2, 2]), true), Next::Nothing(beyond));
        // The other faults have their turn then.
        let all = [f1(), f2(), f3()];
        let mild = act(&[Cure::Nudge, Cure::Renew]);
        assert_eq!(pick(&all, &tried([2, 0]), true), mild);
        for (fault, next) in [
            (f2(), act(&[Cure::Renew])),
            (f3(), act(&[Cure::Nudge])),
            (f4(true), act(&[Cure::Mend])),
            (Fault::DaemonGone, act(&[Cure::Restart])),
        ] {
            assert_eq!(
                pick(&[f1(), fault.clone()], &tried([2, 0]), true),
                next,
                "{fault}"
            );
        }
    }

    #[test]
    fn where_the_mark_may_not_be_moved_that_is_said() {
        let not = "the mark has to be moved, and steer is not among the allowed cures".to_string();
        let tried = Tried::default();
        let no_steer = all_but(|a| a.steer = false);
        assert_eq!(
            next(&[f1()], &no_steer, &tried, true),
            Next::Nothing(not.clone())
        );
        let stuck = next(&[f1(), f2()], &no_steer, &tried, true);
        assert_eq!(stuck, act(&[Cure::Renew]));
        // Restart alone is done although it cannot help; with any other it is not.
        assert!(matches!(
            next(&[f1()], &RESTART_ONLY, &tried, true),
            Next::Useless(_)
        ));
        for with in [
            |a: &mut Allowed| a.nudge = true,
            |a: &mut Allowed| a.renew = true,
            |a: &mut Allowed| a.mend = true,
            |a: &mut Allowed| a.restart = false,
        ] {
            let mut allowed = RESTART_ONLY;
            with(&mut allowed);
            assert_eq!(
                next(&[f1()], &allowed, &tried, true),
                Next::Nothing(not.clone())
            );
        }
    }

    #[test]
    fn a_dead_tailscaled_is_restarted_where_that_is_allowed() {
        let gone = [Fault::DaemonGone];
        let hung = [Fault::DaemonHung { why: String::new() }];
        let tried = Tried::default();
        assert_eq!(pick(&gone, &tried, false), act(&[Cure::Restart]));
        assert_eq!(pick(&hung, &tried, false), act(&[Cure::Restart]));
        let no = next(&gone, &all_but(|a| a.restart = false), &tried, true);
        let why = "tailscaled has to be restarted, and restart is not allowed";
        assert_eq!(no, Next::Nothing(why.into()));
    }

    #[test]
    fn mild_cures_are_tried_twice_each_where_they_can_help() {
        let tried = |nudge, renew| Tried {
            nudge,
            renew,
            ..Tried::default()
        };
        let both = [f2(), f3()];
        assert_eq!(
            pick(&both, &tried(1, 1), true),
            act(&[Cure::Nudge, Cure::Renew])
        );
        assert_eq!(pick(&both, &tried(2, 1), true), act(&[Cure::Renew]));
        assert_eq!(pick(&both, &tried(1, 2), true), act(&[Cure::Nudge]));
        assert_eq!(pick(&both, &tried(0, 0), false), act(&[Cure::Nudge]));
        assert_eq!(pick(&[f2()], &tried(0, 0), true), act(&[Cure::Renew]));
        // A new control client also reconnects the home relay: it is milder than a restart.
        assert_eq!(pick(&[f3()], &tried(2, 0), true), act(&[Cure::Renew]));
        assert_eq!(pick(&[f3()], &tried(2, 1), true), act(&[Cure::Renew]));
        assert_eq!(pick(&[f3()], &tried(2, 2), true), act(&[Cure::Restart]));
        assert_eq!(pick(&[f3()], &tried(2, 0), false), Next::AwaitControl);
        let missing = Tried {
            nudge_missing: true,
            ..Tried::default()
        };
        assert_eq!(pick(&[f3()], &missing, true), act(&[Cure::Renew]));
        assert_eq!(pick(&[f2()], &tried(0, 2), true), act(&[Cure::Restart]));
        for (allowed, faults, next_) in [
            (all_but(|a| a.nudge = false), [f3()], act(&[Cure::Renew])),
            (all_but(|a| a.renew = false), [f2()], act(&[Cure::Restart])),
            (
                all_but(|a| a.mend = false),
                [f4(true)],
                act(&[Cure::Restart]),
            ),
        ] {
            assert_eq!(
                next(&faults, &allowed, &Tried::default(), true),
                next_,
                "{allowed:?}"
            );
        }
        let neither = all_but(|a| (a.nudge, a.renew) = (false, false));
        let restart = act(&[Cure::Restart]);
        assert_eq!(next(&[f3()], &neither, &Tried::default(), true), restart);
    }

    #[test]
    fn where_nothing_is_left_nothing_is_done() {
        let spent = Tried {
            steer: [2, 2],
            nudge: 2,
            renew: 2,
            mend: 2,
            ..Tried::default()
        };
        let all_tried = Next::Nothing("every allowed cure was tried".into());
        let no_restart = all_but(|a| a.restart = false);
        assert_eq!(next(&[f2()], &no_restart, &spent, true), all_tried);
        // While a family's way is dead a restart does not help the other's.
        assert_eq!(pick(&[f1(), f2()], &spent, true), all_tried);
        let nothing = Next::Nothing("nothing to cure".into());
        assert_eq!(pick(&[Fault::Userspace], &spent, true), nothing);
        assert_eq!(pick(&[], &Tried::default(), false), nothing);
        for fault in [f2(), f3(), f4(false)] {
            assert_eq!(pick(&[fault], &spent, false), Next::AwaitControl);
        }
    }

    #[test]
    fn lost_state_is_put_back_beside_what_else_is_done() {
        let tried = Tried::default();
        let all = [f2(), f3(), f4(true)];
        let three = act(&[Cure::Nudge, Cure::Renew, Cure::Mend]);
        assert_eq!(pick(&all, &tried, true), three);
        assert!(mends(&all, &Allowed::ALL, &tried));
        assert!(!mends(&[f4(false)], &Allowed::ALL, &tried));
        assert!(!mends(&all, &all_but(|a| a.mend = false), &tried));
        let once = |mend| Tried {
            mend,
            ..Tried::default()
        };
        assert!(mends(&all, &Allowed::ALL, &once(1)) && !mends(&all, &Allowed::ALL, &once(2)));
    }

    #[test]
    fn each_cure_has_its_word_and_its_patience() {
        let cures = [
            Cure::Steer(Family::V6),
            Cure::Nudge,
            Cure::Renew,
            Cure::Mend,
            Cure::Restart,
        ];
        let told = cures.map(|c| (c.to_string(), c.word(), c.patience().as_secs()));
        let told: Vec<_> = told.iter().map(|(a, b, s)| (a.as_str(), *b, *s)).collect();
        let expected = [
            ("steer IPv6", "steer", 4),
            ("nudge", "nudge", 6),
            ("renew", "renew", 8),
            ("mend", "mend", 3),
            ("restart", "restart", 30),
        ];
        assert_eq!(told, expected);
    }
}
