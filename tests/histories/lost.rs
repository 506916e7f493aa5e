//! Lost kernel state: mended at once, or by one restart.

use tailover::core::{Action, Stage};

use crate::world::{Fault, MS, S};
use crate::{goes_dark, named, settled};

#[test]
fn lost_routes_are_put_back_within_two_seconds_and_nothing_else_is_done() {
    let mut w = settled();
    let lost = w.now;
    w.inject(Fault::Lose { mendable: true });
    w.run(10 * S);
    w.must_be_well();
    assert_eq!(named(&w), ["F4-lost-state"]);
    let acts: Vec<_> = w.cures().collect();
    assert_eq!(acts.len(), 1, "{acts:?}");
    assert_eq!(acts[0].action, Action::Mend);
    assert!(acts[0].at - lost < 2 * S, "{:?}", acts[0].at - lost);
    assert_eq!(*w.core.stage(), Stage::Quiet);
    assert!(w.core.faults().is_empty());
}

#[test]
fn rules_that_tailscaled_puts_back_itself_are_no_fault() {
    let mut w = settled();
    w.inject(Fault::Lose { mendable: true });
    // The look comes 400 ms after the change and finds them gone; tailscaled was late.
    w.run(600 * MS);
    w.find_again();
    w.run(20 * S);
    assert_eq!(named(&w), [""; 0]);
    assert_eq!(w.cures().count(), 0);
}

#[test]
fn lost_state_is_mended_while_no_uplink_reaches_the_outside() {
    let mut w = settled();
    for uplink in [0, 1] {
        w.inject(Fault::Dark {
            uplink,
            told: Some(100),
        });
    }
    w.run(60 * S);
    assert!(matches!(w.core.stage(), Stage::Resting { .. }));
    w.inject(Fault::Lose { mendable: true });
    w.run(2 * S);
    let acts: Vec<_> = w.cures().map(|a| a.action.clone()).collect();
    assert_eq!(acts, [Action::Mend]);
    assert!(w.broken.is_empty(), "{:?}", w.broken);
}

#[test]
fn what_cannot_be_mended_costs_one_restart() {
    let mut w = settled();
    let lost = w.now;
    w.inject(Fault::Lose { mendable: false });
    w.run(60 * S);
    w.must_be_well();
    assert_eq!(named(&w), ["F4-lost-state"]);
    let acts: Vec<_> = w.cures().collect();
    assert_eq!(acts.len(), 1, "{acts:?}");
    assert_eq!(acts[0].action, Action::Restart);
    assert!(acts[0].at - lost < 2 * S, "{:?}", acts[0].at - lost);
}

#[test]
fn what_can_be_mended_does_not_wait_for_a_restart_that_the_rest_needs() {
    let mut w = settled();
    w.inject(Fault::Control { up: false });
    w.run(20 * S);
    let lost = w.now;
    w.chains_lost = true;
    w.inject(Fault::Lose { mendable: true });
    w.run(60 * S);
    let acts: Vec<_> = w.cures().collect();
    assert_eq!(acts.len(), 1, "{acts:?}");
    assert_eq!(acts[0].action, Action::Mend);
    assert!(acts[0].at - lost < 2 * S, "{:?}", acts[0].at - lost);
    w.inject(Fault::Control { up: true });
    w.run(120 * S);
    w.must_be_well();
    assert_eq!(w.count(|a| *a == Action::Mend), 1);
    assert_eq!(w.count(|a| *a == Action::Restart), 1);
}

#[test]
fn a_restart_for_the_rest_follows_the_mending_at_once() {
    let mut w = settled();
    let lost = w.now;
    w.chains_lost = true;
    w.inject(Fault::Lose { mendable: true });
    w.run(60 * S);
    w.must_be_well();
    let acts: Vec<_> = w.cures().map(|a| (a.action.clone(), a.at - lost)).collect();
    let [(Action::Mend, mended), (Action::Restart, restarted)] = &acts[..] else {
        panic!("{acts:?}");
    };
    assert!(*mended < 2 * S && *restarted < 8 * S, "{acts:?}");
}

#[test]
fn a_restart_follows_two_mendings_that_did_not_help() {
    let mut w = settled();
    w.mending_fails = true;
    w.inject(Fault::Lose { mendable: true });
    w.run(60 * S);
    w.must_be_well();
    let acts: Vec<_> = w.cures().map(|a| a.action.clone()).collect();
    assert_eq!(acts, [Action::Mend, Action::Mend, Action::Restart]);
}

#[test]
fn what_cannot_be_mended_waits_for_the_control_server() {
    let mut w = settled();
    w.inject(Fault::Control { up: false });
    w.run(20 * S);
    w.inject(Fault::Lose { mendable: false });
    w.run(600 * S);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
    assert!(named(&w).contains(&"F4-lost-state"));
    w.inject(Fault::Control { up: true });
    w.run(120 * S);
    assert!(w.well());
    assert_eq!(w.count(|a| *a == Action::Restart), 1);
}

#[test]
fn a_failover_and_lost_routes_at_once_are_both_cured() {
    let mut w = settled();
    w.inject(Fault::Lose { mendable: true });
    goes_dark(&mut w, 0, Some(900));
    w.run(30 * S);
    w.must_be_well();
    assert!(w.steered());
    assert_eq!(w.count(|a| *a == Action::Mend), 1);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}
