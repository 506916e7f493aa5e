//! tailscaled itself: hung, gone, in a loop, restarted by others, stopped by its owner.

use tailover::core::ladder::Allowed;
use tailover::core::tailnet::Respawn;
use tailover::core::{Action, Event, Notice, Stage};

use crate::world::{policy, Fault, Hung, World, MS, S};
use crate::{goes_dark, named, restarts, settled};

#[test]
fn a_stopped_tailscale_is_named_between_assessments_and_cleared_when_it_is_started() {
    let mut w = settled();
    w.inject(Fault::UserStops);
    w.run(5 * S);
    assert_eq!(
        w.core.faults().first().map(|f| f.id()),
        Some("needs-person")
    );
    w.inject(Fault::UserStarts);
    w.run(40 * S);
    assert!(w.core.faults().is_empty(), "{:?}", w.core.faults());
    assert_eq!(w.cures().count(), 0);
}

#[test]
fn a_hung_tailscaled_is_restarted_once() {
    let mut w = settled();
    w.inject(Fault::Hang);
    w.run(120 * S);
    assert!(w.well());
    assert_eq!(w.count(|a| *a == Action::Restart), 1);
}

#[test]
fn a_stopped_process_is_known_to_hang_before_a_silent_one_and_a_busy_one_is_left_alone() {
    for (how, from, to) in [(Hung::Halted, 5, 13), (Hung::Deadlock, 10, 18)] {
        let mut w = settled();
        w.how_hung = how;
        w.inject(Fault::Hang);
        let began = w.now;
        w.murmur();
        w.run(60 * S);
        let act = w.cures().next().expect("an act");
        let after = act.at - began;
        assert!(after > from * S && after < to * S, "{how:?}: {after:?}");
        assert_eq!(named(&w), ["daemon-hung"]);
        assert_eq!((restarts(&w), w.well()), (1, true), "{how:?}");
    }
    let mut w = settled();
    w.how_hung = Hung::Busy;
    w.inject(Fault::Hang);
    w.run(100 * S);
    w.go_on();
    w.run(60 * S);
    assert!(w.well() && w.cures().count() == 0, "{:?}", w.acts);
    assert_eq!(*w.core.stage(), Stage::Quiet);
}

#[test]
fn a_tailscaled_that_hangs_for_minutes_whatever_is_done_brings_no_storm() {
    let mut w = settled();
    w.restart_fails = true;
    w.how_hung = Hung::Halted;
    w.inject(Fault::Hang);
    w.run(300 * S);
    let meanwhile = restarts(&w);
    assert!((1..=3).contains(&meanwhile), "{meanwhile} restarts");
    w.go_on();
    w.run(15 * S);
    w.must_be_well();
    assert_eq!(*w.core.stage(), Stage::Quiet, "it is seen at once");
    w.run(3600 * S);
    assert_eq!(restarts(&w), meanwhile);
    assert!(w.broken.is_empty(), "{:?}", w.broken);
}

#[test]
fn a_crash_loop_is_procds_until_it_gives_up_and_then_restarts_are_few() {
    let mut w = settled();
    for end in 1..=6 {
        if end == 6 {
            w.respawn = Respawn::GaveUp;
        }
        w.end_by_itself();
        w.run(7 * S);
    }
    assert_eq!(named(&w), ["crash-loop"]);
    assert_eq!(w.cures().count(), 0, "procd's respawn is left alone");
    let gave_up = w.now;
    w.run(300 * S);
    let act = w.cures().next().expect("nobody else starts it");
    assert!(act.at - gave_up > 100 * S, "{:?}", act.at - gave_up);
    assert_eq!((restarts(&w), w.well()), (1, true));
    assert!(w.core.faults().is_empty(), "{:?}", w.core.faults());
}

#[test]
fn a_tailscaled_that_ends_before_it_listens_is_in_a_crash_loop_and_not_gone() {
    use tailover::core::starts::Word;
    use tailover::core::Event;
    let mut w = settled();
    w.respawn = Respawn::After(3600 * S);
    w.end_by_itself();
    w.respawn = Respawn::After(5 * S);
    for _ in 0..4 {
        w.run(5 * S);
        w.tell(Event::Service(Word::Started));
        w.run(S);
        w.tell(Event::Service(Word::Ended));
    }
    w.run(S);
    assert_eq!(named(&w), ["crash-loop"]);
    assert_eq!(w.cures().count(), 0);
}

#[test]
fn what_procd_has_given_up_on_is_started_at_once() {
    let mut w = settled();
    w.respawn = Respawn::GaveUp;
    w.end_by_itself();
    let ended = w.now;
    w.run(30 * S);
    let act = w.cures().next().expect("an act");
    assert!(act.at - ended < 6 * S, "{:?}", act.at - ended);
    assert_eq!((restarts(&w), w.well()), (1, true));
}

#[test]
fn a_respawn_that_procd_delays_is_waited_for() {
    let mut w = settled();
    w.respawn = Respawn::After(40 * S);
    w.end_by_itself();
    w.run(80 * S);
    assert_eq!((w.cures().count(), w.well()), (0, true));
}

#[test]
fn another_hand_is_named_with_what_may_be_behind_it_and_one_restart_is_not() {
    let mut w = settled();
    w.hands = vec!["/etc/mwan3.user".into()];
    for _ in 0..2 {
        w.restart_by_hand();
        // procd holds no instance between the stop and the start of a restart.
        w.murmur();
        w.run(60 * S);
        assert_eq!(named(&w), [""; 0]);
    }
    for _ in 0..5 {
        w.restart_by_hand();
        w.run(60 * S);
    }
    assert_eq!(named(&w), ["other-hand"], "once, and nothing else");
    let text = w.core.faults().first().expect("it goes on").to_string();
    assert!(text.contains("/etc/mwan3.user"), "{text}");
    assert_eq!(w.cures().count(), 0);
    w.run(700 * S);
    assert!(w.core.faults().is_empty(), "{:?}", w.core.faults());
}

#[test]
fn a_service_that_stays_stopped_needs_a_person_and_is_not_started() {
    let mut w = settled();
    w.stop_service();
    w.murmur();
    w.run(3 * S);
    assert_eq!(named(&w), [""; 0], "it may be a restart by hand");
    w.run(600 * S);
    assert_eq!(named(&w), ["needs-person"]);
    assert_eq!(w.cures().count(), 0);
}

#[test]
fn a_tailscaled_that_refuses_is_named_and_left_alone() {
    let mut w = settled();
    w.refuses = Some("403 access denied".into());
    w.run(120 * S);
    assert_eq!(named(&w), ["api-refuses"]);
    assert_eq!(w.cures().count(), 0);
    w.refuses = None;
    w.run(70 * S);
    assert!(w.core.faults().is_empty(), "{:?}", w.core.faults());
    assert_eq!(*w.core.stage(), Stage::Quiet);
}

#[test]
fn without_the_debug_calls_stale_paths_are_renewed_and_not_nudged() {
    let mut w = settled();
    w.debug = Some(false);
    w.run(40 * S);
    goes_dark(&mut w, 0, Some(2000));
    w.run(60 * S);
    w.must_be_well();
    assert_eq!(w.count(|a| *a == Action::Nudge), 0);
    assert!(w.count(|a| *a == Action::Renew) >= 1);
}

#[test]
fn restart_alone_says_that_it_cannot_help_and_keeps_its_budget() {
    let mut p = policy();
    p.allowed = Allowed {
        steer: false,
        nudge: false,
        renew: false,
        mend: false,
        restart: true,
    };
    let mut w = World::new(p, 7);
    w.run(10 * S);
    goes_dark(&mut w, 0, Some(2000));
    w.run(3000 * S);
    assert!(w.broken.is_empty(), "{:?}", w.broken);
    assert_eq!(w.count(|a| *a == Action::Restart), 3);
    assert!(w
        .notices
        .iter()
        .any(|(_, n)| matches!(n, Notice::Waiting(t) if t.contains("cannot help"))));
}

#[test]
fn after_a_time_in_which_the_daemon_did_not_run_it_looks_before_it_restarts_tailscaled() {
    // What it saw last is five minutes old then, and procd has long since started tailscaled again.
    for seconds in 1..5 {
        let mut w = settled();
        w.end_by_itself();
        w.run(S * seconds);
        w.stall(300 * S);
        w.run(60 * S);
        assert_eq!(restarts(&w), 0, "stalled {seconds} s after its end");
        assert!(w.well() && w.broken.is_empty(), "{:?}", w.broken);
    }
}

#[test]
fn what_was_lost_is_looked_at_again_before_it_is_mended_again() {
    for phase in 0..120 {
        let mut w = settled();
        w.mending_fails = true;
        // No restart comes in between.
        w.inject(Fault::Control { up: false });
        w.inject(Fault::Lose { mendable: true });
        w.run(S * (60 + 3 * phase));
        // Somebody else puts it back, and only then an event comes.
        w.make_whole();
        w.run(MS * 1500);
        let mends = w.count(|a| *a == Action::Mend);
        w.tell(Event::Up {
            interface: "wanb".into(),
            source: "mwan3".into(),
        });
        w.run(S * 5);
        let again = w.count(|a| *a == Action::Mend) - mends;
        assert_eq!(again, 0, "{phase}: {:?}", w.core.stage());
    }
}
