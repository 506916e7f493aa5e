//! What people are told of what comes next.

use super::*;
use crate::core::episode::Drill;
use crate::core::sample::{drill_of_wan, well, NOW, S, SINCE};

fn next(change: impl FnOnce(&mut Core)) -> (String, Option<Duration>) {
    let mut core = Core::knowing(well());
    core.beat_at = NOW + S * 30;
    change(&mut core);
    let (text, at) = core.outlook(NOW);
    (text, at.map(|t| t - NOW))
}

fn told(text: &str, seconds: Option<u32>) -> (String, Option<Duration>) {
    (text.to_string(), seconds.map(|s| S * s))
}

/// The mark is on the second uplink, and the first has answered since then.
fn away(core: &mut Core, steady: Option<Time>) {
    core.k.steering[0].to = Knowledge::hop(&core.k.uplinks[1], Family::V4);
    let better = core.k.verdicts.get_mut(&("wan".into(), Family::V4));
    better.unwrap().steady_since = steady;
}

#[test]
fn each_stage_says_what_it_waits_for() {
    let until = NOW + S * 7;
    let since = SINCE;
    assert_eq!(next(|_| ()), told("look at the path", Some(30)));
    let proving = |c: &mut Core| c.stage = Stage::Proving { since };
    let weigh = "weigh the answers of the probes";
    assert_eq!(next(proving), told(weigh, None));
    let waiting = || vec![Cure::Nudge, Cure::Renew];
    let curing = |c: &mut Core| {
        c.stage = Stage::Curing {
            since,
            waiting: waiting(),
            until,
        };
    };
    assert_eq!(next(curing), told("wait for nudge, renew", None));
    let verifying = |c: &mut Core| {
        c.stage = Stage::Verifying {
            since,
            after: waiting(),
            until,
        };
    };
    let another = "look for another cure, unless the tailnet is well";
    assert_eq!(next(verifying), told(another, Some(7)));
    let resting = |c: &mut Core| {
        c.stage = Stage::Resting {
            until,
            why: String::new(),
        };
    };
    assert_eq!(next(resting), told("try again", Some(7)));
}

#[test]
fn the_way_back_is_told_with_the_seconds_that_are_left_of_the_hold() {
    let text = "go back to wan once it is open for 30 s";
    let back = |steady| next(|c| away(c, steady));
    assert_eq!(back(None), told(text, None), "it is not open");
    assert_eq!(back(Some(NOW - S * 10)), told(text, Some(20)));
    assert_eq!(back(Some(NOW - S * 60)), told(text, Some(0)));
}

#[test]
fn a_drill_is_told_before_all_else() {
    let drill = |c: &mut Core| {
        c.k.drilled = Some(drill_of_wan([true, true]));
        c.begin_episode(SINCE, Origin::Drill, "a drill".into());
        c.episode.as_mut().unwrap().drill = Some(Drill {
            uplink: "wan".into(),
            stay: S * 10,
            well: Some(NOW),
            ..Drill::default()
        });
        away(c, None);
    };
    assert_eq!(next(drill), told("end the drill of wan", Some(10)));
}
