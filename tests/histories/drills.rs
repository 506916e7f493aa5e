//! Drills: there and back, cut short, refused.

use tailover::core::{Action, Notice, Stage};

use crate::world::{Fault, World, MS, S};
use crate::{comes_back, goes_dark, named, settled};

/// What a drill has told, in its order.
fn drill_lines(w: &World) -> Vec<&str> {
    let notices = w.notices.iter();
    let lines = notices.filter_map(|(_, n)| match n {
        Notice::Drill { text, .. } => Some(text.as_str()),
        _ => None,
    });
    lines.collect()
}

/// The figures of the newest episode, which was a drill. No promise may have been broken in it.
fn drilled(w: &World) -> tailover::core::episode::Drill {
    assert!(w.broken.is_empty(), "{:#?}", w.broken);
    let newest = w.core.history().iter().next_back().expect("an episode");
    newest.drill.clone().expect("a drill")
}

const DRILL: Fault = Fault::Drill {
    uplink: 0,
    stay: 10,
};

#[test]
fn a_drill_moves_the_tailnet_there_and_back_and_alarms_nobody() {
    let mut w = settled();
    let began = w.now;
    w.inject(DRILL);
    w.run(5 * S);
    assert!(w.steered() && w.well(), "{:?}", drill_lines(&w));
    assert_eq!(
        w.count(|a| *a == Action::Renew),
        1,
        "control moved for real"
    );
    let kept = |a: &Action| matches!(a, Action::Steer(_, s) if s.keep.is_some());
    assert_eq!(w.count(kept), 0, "no flow is kept alive on the way there");
    w.run(15 * S);
    assert!(!w.steered() && w.well(), "{:?}", drill_lines(&w));
    assert_eq!(*w.core.stage(), Stage::Quiet);
    assert!(named(&w).is_empty(), "{:?}", named(&w));
    assert_eq!(w.count(|a| *a == Action::Renew), 2);
    let drill = drilled(&w);
    assert!(drill.passed(), "{drill:?}");
    let after = |t: Option<std::time::Duration>| t.expect("seen") - began;
    assert!(after(drill.control) < 2 * S && after(drill.well) < 2 * S);
    let (well, over) = (after(drill.well), after(drill.over));
    assert!(over - well >= 10 * S && over - well < 11 * S, "{drill:?}");
    assert!(after(drill.back) - over < 2 * S, "{drill:?}");
    let newest = w.core.history().iter().next_back().expect("an episode");
    assert_eq!(newest.trigger, "drill of wan asked for by the owner");
}

#[test]
fn a_drill_stopped_by_its_owner_goes_back_at_once() {
    // While nothing has moved, while control is renewed, while the tailnet is well over there.
    for after in [0, 20, 300, 4000] {
        let mut w = settled();
        w.inject(DRILL);
        w.run(MS * after);
        w.inject(Fault::DrillStop);
        w.run(4 * S);
        let lines = drill_lines(&w);
        assert!(!w.steered() && w.well(), "{after} ms: {lines:?}");
        assert_eq!(*w.core.stage(), Stage::Quiet);
        let cut = drilled(&w).cut;
        assert_eq!(cut.as_deref(), Some("stopped by the owner"));
        assert_eq!(w.count(|a| *a == Action::Restart), 0);
    }
}

#[test]
fn a_backup_that_fails_in_a_drill_ends_it_at_once() {
    let mut w = settled();
    w.inject(DRILL);
    w.run(4 * S);
    assert!(w.steered());
    goes_dark(&mut w, 1, Some(500));
    w.run(6 * S);
    assert!(!w.steered() && w.well(), "{:?}", drill_lines(&w));
    let cut = drilled(&w).cut.expect("a reason");
    assert!(cut.contains("wanb (eth2) has failed"), "{cut}");
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}

#[test]
fn an_uplink_that_fails_while_it_is_drilled_is_not_gone_back_to() {
    let mut w = settled();
    w.inject(DRILL);
    w.run(4 * S);
    goes_dark(&mut w, 0, None);
    w.run(30 * S);
    assert!(w.steered() && w.well(), "{:?}", drill_lines(&w));
    assert_eq!(*w.core.stage(), Stage::Quiet);
    assert!(!drilled(&w).passed());
    comes_back(&mut w, 0, Some(100));
    w.run(20 * S);
    assert!(
        w.steered(),
        "now it is an ordinary way back, after the hold"
    );
    w.run(30 * S);
    assert!(!w.steered() && w.well(), "{:?}", w.core.stage());
}

#[test]
fn a_drill_that_finds_no_other_uplink_moves_nothing() {
    let mut w = settled();
    // Nobody has noticed yet.
    goes_dark(&mut w, 1, None);
    w.inject(DRILL);
    w.run(10 * S);
    assert_eq!(w.cures().count(), 0, "{:?}", drill_lines(&w));
    assert!(named(&w).is_empty(), "{:?}", named(&w));
    let cut = drilled(&w).cut.expect("a reason");
    assert!(cut.contains("no other uplink"), "{cut}");
}

#[test]
fn a_drill_without_a_control_server_is_not_passed_and_restarts_nothing() {
    let mut w = settled();
    w.inject(Fault::Control { up: false });
    w.inject(DRILL);
    w.run(60 * S);
    assert!(!w.steered(), "{:?}", drill_lines(&w));
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
    w.inject(Fault::Control { up: true });
    w.run(90 * S);
    assert!(w.well(), "{:?}", w.core.stage());
    assert!(w.broken.is_empty(), "{:#?}", w.broken);
    let drills: Vec<_> = w
        .core
        .history()
        .iter()
        .filter_map(|e| e.drill.as_ref())
        .collect();
    assert_eq!(drills.len(), 1);
    assert!(drills[0].control.is_none() && !drills[0].passed());
}

#[test]
fn a_drill_is_refused_with_a_sentence() {
    let mut w = settled();
    let refusal = |w: &World, uplink: &str| w.core.drillable(uplink).expect_err("refused");
    assert!(refusal(&w, "lan").contains("there is wan, wanb"));
    assert!(refusal(&w, "wanb").contains("do not leave by wanb"));
    w.inject(DRILL);
    assert!(refusal(&w, "wan").contains("a drill of wan is under way"));
    w.run(30 * S);
    w.inject(Fault::UserStops);
    w.run(2 * S);
    assert!(refusal(&w, "wan").contains("stopped by the user"));
    w.inject(Fault::UserStarts);
    w.run(30 * S);
    goes_dark(&mut w, 1, Some(10));
    w.run(20 * S);
    assert!(refusal(&w, "wan").contains("no other uplink is proved open"));
    comes_back(&mut w, 1, Some(10));
    w.run(10 * S);
    w.inject(Fault::NewPublic { uplink: 0 });
    w.murmur();
    w.run(100 * MS);
    assert_ne!(*w.core.stage(), Stage::Quiet);
    assert!(!refusal(&w, "wan").is_empty());
    // The same when it comes as an input: said, and nothing else.
    let (steers, lines) = (
        w.count(|a| matches!(a, Action::Steer(..))),
        drill_lines(&w).len(),
    );
    w.inject(DRILL);
    w.run(20 * S);
    assert!(drill_lines(&w)[lines].starts_with("refused: "));
    assert_eq!(w.count(|a| matches!(a, Action::Steer(..))), steers);
}

#[test]
fn a_daemon_that_ends_in_a_drill_takes_the_steering_away() {
    use tailover::core::{Input, Moment};
    for after in [100, 1000, 8000] {
        let mut w = settled();
        w.inject(DRILL);
        w.run(MS * after);
        assert!(w.steered(), "after {after} ms");
        let moment = Moment {
            now: w.now,
            dice: 0,
        };
        let acts = w.core.step(moment, Input::Stop);
        let gone = |a: &Action| matches!(a, Action::Steer(_, s) if s.to.is_none());
        assert!(acts.iter().any(gone), "after {after} ms: {acts:?}");
    }
}
