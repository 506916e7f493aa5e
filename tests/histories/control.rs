//! The control connection and its server: stuck, silent, down, and a new public address.

use tailover::core::{Action, Notice};

use crate::world::{policy, Fault, World, MS, S};
use crate::{goes_dark, named, restarts, settled};

#[test]
fn control_that_is_not_heard_is_renewed_only_when_its_server_answers() {
    let mut w = World::new(policy(), 1);
    w.peer_talks = true;
    w.run(20 * S);
    w.inject(Fault::Control { up: false });
    w.run(60 * S);
    assert_eq!(
        named(&w),
        ["control-down"],
        "named without waiting for offline"
    );
    assert_eq!(w.cures().count(), 0);
    w.inject(Fault::Control { up: true });
    w.run(120 * S);
    assert!(w.well() && w.core.faults().is_empty());
}

#[test]
fn a_control_server_whose_connection_is_cut_is_named_soon_after_the_look_that_shows_it() {
    for phase in 0..30 {
        let mut w = settled();
        w.run(S * phase);
        w.inject(Fault::Control { up: false });
        w.cut_control();
        let cut = w.now;
        while named(&w).is_empty() && w.now < cut + 300 * S {
            w.run(100 * MS);
        }
        let took = w.now - cut;
        // 30 s to the next look, 15 s of being offline, and the server's silence.
        assert!(took <= 50 * S, "{phase}: {took:?}");
        assert_eq!(named(&w), ["control-down"]);
        assert_eq!(w.cures().count(), 0);
    }
}

#[test]
fn a_control_server_that_is_down_stays_named_while_it_is_asked_again() {
    let mut w = settled();
    // Its silence takes longer to tell than that of the uplinks.
    w.control_delay = 7 * S;
    w.inject(Fault::Control { up: false });
    goes_dark(&mut w, 0, Some(2000));
    w.run(40 * S);
    let down = |w: &World| w.core.faults().iter().any(|f| f.id() == "control-down");
    assert!(down(&w), "{:?}", w.core.faults());
    for _ in 0..600 {
        w.run(100 * MS);
        assert!(down(&w), "{:?}", w.core.faults());
    }
    w.control_delay = 90 * MS;
    w.inject(Fault::Control { up: true });
    w.run(120 * S);
    assert!(w.well() && w.core.faults().is_empty());
}

#[test]
fn a_new_public_address_renews_control_without_any_local_event() {
    let mut w = settled();
    w.inject(Fault::NewPublic { uplink: 0 });
    w.run(60 * S);
    assert!(w.well());
    assert!(!w.steered());
    assert_eq!(w.count(|a| *a == Action::Renew), 1);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}

#[test]
fn what_was_done_for_a_new_public_address_has_its_time_before_a_restart() {
    let mut without = policy();
    without.allowed.renew = false;
    let mut w = World::new(without, 1);
    w.control_delay = 1200 * MS;
    w.run(10 * S);
    w.inject(Fault::NewPublic { uplink: 0 });
    w.run(60 * S);
    assert!(w.well());
    let at = |wanted: Action| w.cures().find(|a| a.action == wanted).map(|a| a.at);
    let [nudge, restart] = [Action::Nudge, Action::Restart].map(at);
    let waited = restart.expect("an act") - nudge.expect("an act");
    assert!(
        waited >= tailover::core::Cure::Nudge.patience(),
        "{waited:?}"
    );
}

#[test]
fn a_dead_control_server_alone_never_costs_a_restart() {
    let mut w = settled();
    w.inject(Fault::Control { up: false });
    w.run(20 * S);
    goes_dark(&mut w, 0, Some(2000));
    w.run(1200 * S);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
    w.inject(Fault::Control { up: true });
    w.run(120 * S);
    w.must_be_well();
}

#[test]
fn a_control_server_that_is_down_is_named_alone_and_once_and_its_return_is_noticed() {
    let mut w = settled();
    w.inject(Fault::Control { up: false });
    w.cut_control();
    w.run(1200 * S);
    assert_eq!(named(&w), ["control-down"]);
    let ids: Vec<_> = w.core.faults().iter().map(|f| f.id()).collect();
    assert_eq!((w.cures().count(), ids), (0, vec!["control-down"]));
    w.inject(Fault::Control { up: true });
    w.run(120 * S);
    assert!(
        w.well() && w.core.faults().is_empty(),
        "{:?}",
        w.core.faults()
    );
    assert_eq!(restarts(&w), 0);
}

#[test]
fn control_that_no_renewal_brings_back_costs_a_restart_however_late_its_server_answers() {
    for delay in [20, 90, 400, 1500] {
        let mut w = settled();
        w.control_delay = MS * delay;
        w.stubborn = true;
        w.cut_control();
        let cut = w.now;
        while restarts(&w) == 0 && w.now < cut + 600 * S {
            w.run(S);
        }
        // 30 s to the look, 15 s of being offline, two renewals of 8 s.
        let took = w.now - cut;
        assert!(took < 100 * S, "answers after {delay} ms: {took:?}");
        assert_eq!(w.count(|a| *a == Action::Renew), 2, "{delay} ms");
        w.run(60 * S);
        assert!(w.well() && w.core.faults().is_empty());
        assert_eq!(restarts(&w), 1);
    }
}

#[test]
fn control_without_any_connection_that_no_renewal_brings_back_is_restarted_for() {
    let mut w = settled();
    w.stubborn = true;
    w.cut_control();
    w.run(600 * S);
    assert!(w.count(|a| *a == Action::Renew) >= 1, "the milder first");
    assert_eq!(restarts(&w), 1);
    assert!(w.well() && w.core.faults().is_empty());
}

#[test]
fn control_that_cannot_be_made_anew_where_large_packets_are_lost_is_made_anew_elsewhere() {
    let mut w = settled();
    w.narrow(0, true);
    w.run(300 * S);
    assert_eq!(w.cures().count(), 0, "what is there is let alone");
    w.cut_control();
    w.run(90 * S);
    w.must_be_well();
    let first = w.cures().next().map(|a| a.action.clone());
    assert!(matches!(first, Some(Action::Steer(..))), "{first:?}");
    assert_eq!(restarts(&w), 0);
    let text = format!("{:?}", w.notices);
    assert!(text.contains("where large packets are lost"), "{text}");
    let moves = w.count(|a| matches!(a, Action::Steer(..)));
    w.run(600 * S);
    assert_eq!(w.count(|a| matches!(a, Action::Steer(..))), moves);
    assert!(w.steered() && w.well(), "the way it left is as it was");
    w.narrow(0, false);
    w.run(300 * S);
    assert!(!w.steered() && w.well() && w.core.faults().is_empty());
    assert_eq!(restarts(&w), 0);
}

#[test]
fn where_large_packets_are_lost_everywhere_nothing_is_renewed_or_restarted() {
    let mut w = settled();
    w.narrow(0, true);
    w.narrow(1, true);
    w.cut_control();
    w.run(1200 * S);
    let acts: Vec<_> = w.cures().map(|a| a.action.clone()).collect();
    assert!(acts.is_empty(), "{acts:?}");
    w.narrow(0, false);
    w.run(120 * S);
    assert!(w.well() && w.core.faults().is_empty());
}

#[test]
fn flows_that_end_where_large_packets_are_lost_are_made_anew_elsewhere() {
    let mut w = settled();
    // The other uplink's round takes longer than it takes to see that this one is open.
    w.control_delay = 2500 * MS;
    w.narrow(0, true);
    w.run(100 * S);
    w.inject(Fault::NewPublic { uplink: 0 });
    w.run(90 * S);
    assert!(
        w.well() && w.steered(),
        "{:?} {:?}",
        w.core.stage(),
        w.core.faults()
    );
    let first = w.cures().map(|a| a.action.clone());
    let mut first = first.skip_while(|a| matches!(a, Action::Nudge));
    assert!(matches!(first.next(), Some(Action::Steer(..))));
    assert_eq!(restarts(&w), 0);
}

#[test]
fn stuck_control_is_renewed_at_once_whatever_a_dead_uplink_does() {
    let mut w = settled();
    goes_dark(&mut w, 1, Some(500));
    w.run(400 * S);
    w.stubborn = true;
    w.cut_control();
    w.run(90 * S);
    let asked = |(_, n): &&(_, Notice)| matches!(n, Notice::Trigger(t) if t.contains("offline"));
    let looked = w.notices.iter().find(asked).map(|(at, _)| *at);
    let renewed = w.cures().next().map(|a| (a.at, a.action.clone()));
    let (at, action) = renewed.expect("an act");
    assert_eq!(action, Action::Renew);
    let took = at - looked.expect("a look");
    assert!(took < 500 * MS, "{took:?} after the look that showed it");
}
