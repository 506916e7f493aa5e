//! What is asked in a rest, and what an answer begins.

use super::*;
use crate::core::sample::{all_dark, well, MS, NOW, S};
use crate::core::By;

/// A core in whose world nothing is open, and which has just begun to rest for so long.
fn resting(pause: Duration) -> Core {
    let mut core = Core::in_stage(all_dark(well(), Verdict::Closed), Stage::Quiet);
    core.pulse_at = NOW + S * 900;
    core.rest_until(NOW, NOW + pause, "t".into());
    core.ordered();
    core
}

/// When the volleys of a rest go out, counted from its start.
fn volleys(mut core: Core, pause: Duration) -> Vec<Duration> {
    let mut sent = Vec::new();
    while let Some(at) = core
        .lookout
        .as_ref()
        .map(|l| l.at)
        .filter(|at| *at < NOW + pause)
    {
        core.look_out(at - MS);
        assert_eq!(core.ordered(), [], "too early");
        core.look_out(at);
        assert_eq!(
            core.asked(Effort::Lookout).len(),
            4,
            "two uplinks, both families"
        );
        sent.push(at - NOW);
    }
    sent
}

#[test]
fn each_uplink_is_asked_every_few_seconds_and_more_seldom_in_a_long_pause() {
    assert_eq!(volleys(resting(S * 2), S * 2), [S]);
    assert_eq!(volleys(resting(S * 8), S * 4), [S, S * 2, S * 3]);
    assert_eq!(volleys(resting(S * 32), S * 10), [S * 4, S * 8]);
    assert_eq!(volleys(resting(S * 60), S * 16), [S * 5, S * 10, S * 15]);
    // Where something is open there is nothing to look out for.
    let mut core = Core::in_stage(well(), Stage::Quiet);
    core.rest_until(NOW, NOW + S * 8, "t".into());
    assert_eq!(core.lookout, None);
    // Nor is a way asked that an uplink does not have.
    let mut core = resting(S * 8);
    core.k.uplinks[1].v6 = None;
    core.look_out(NOW + S);
    assert_eq!(core.asked(Effort::Lookout).len(), 3);
}

#[test]
fn a_rest_is_woken_for_its_lookout() {
    let woken = |pause: Duration, change: &dyn Fn(&mut Core)| {
        let mut core = resting(pause);
        change(&mut core);
        core.wake(NOW);
        core.woken_for.map(|at| at - NOW)
    };
    assert_eq!(woken(S * 8, &|_| ()), Some(S));
    assert_eq!(woken(S * 8, &|c| c.lookout = None), Some(S * 8));
    let late = |c: &mut Core| c.lookout.as_mut().unwrap().at = NOW + S * 9;
    assert_eq!(woken(S * 8, &late), Some(S * 8));
}

#[test]
fn an_answer_of_this_rest_has_all_proved_at_once() {
    let wanb = || Scope::Uplink("wanb".into(), Family::V4);
    let answer = |by| Finding::Answer {
        by,
        target: "t".into(),
        rtt: S / 50,
        public: None,
    };
    let heard = |change: &dyn Fn(&mut Core), scope: Scope, finding: Finding| {
        let mut core = resting(S * 8);
        core.look_out(NOW + S);
        core.ordered();
        let round = core.round;
        change(&mut core);
        core.take_finding(NOW + S, round, scope, finding);
        (
            core.stage.word(),
            core.called,
            core.asked(Effort::Burst).len(),
        )
    };
    let (proved, nothing) = (("proving", true, 6), ("resting", false, 0));
    for by in [By::Stun, By::Derp] {
        assert_eq!(heard(&|_| (), wanb(), answer(by)), proved);
    }
    assert_eq!(
        heard(&|_| (), wanb(), answer(By::Tcp)),
        nothing,
        "a portal does that too"
    );
    assert_eq!(heard(&|_| (), wanb(), Finding::Over), nothing);
    assert_eq!(
        heard(&|_| (), Scope::Path(Family::V4), answer(By::Stun)),
        nothing
    );
    let before = |c: &mut Core| c.lookout.as_mut().unwrap().after = c.round;
    assert_eq!(
        heard(&before, wanb(), answer(By::Stun)),
        nothing,
        "asked before this rest"
    );
    let none = |c: &mut Core| c.lookout = None;
    assert_eq!(heard(&none, wanb(), answer(By::Stun)), nothing);
    let quiet = |c: &mut Core| c.stage = Stage::Quiet;
    assert_eq!(heard(&quiet, wanb(), answer(By::Stun)).0, "quiet");
}

#[test]
fn an_answer_that_came_to_nothing_keeps_the_next_one_waiting() {
    let mut core = resting(S * 8);
    core.called = true;
    core.rest_until(NOW, NOW + S * 16, "t".into());
    assert_eq!(core.lookout.as_ref().map(|l| l.at), Some(NOW + S * 8));
    core.rest_until(NOW, NOW + S * 16, "t".into());
    assert_eq!(
        core.lookout.as_ref().map(|l| l.at),
        Some(NOW + S * 2),
        "once"
    );
    // What comes after a time when all was well is another matter.
    core.called = true;
    core.rest_quietly(NOW);
    assert!(!core.called);
}
