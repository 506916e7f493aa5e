//! Histories: the real core against a modelled router. First the five stories people know, then
//! generated ones that must keep the design's promises whatever happens.

mod world;

use proptest::prelude::*;
use tailover::core::ladder::Allowed;
use tailover::core::{Action, Effort, Notice, Stage};
use world::{policy, Fault, World, MS, S};

fn named(w: &World) -> Vec<&'static str> {
    w.notices
        .iter()
        .filter_map(|(_, n)| match n {
            Notice::Fault { id, .. } => Some(*id),
            _ => None,
        })
        .collect()
}

fn settled() -> World {
    let mut w = World::new(policy(), 1);
    w.run(10 * S);
    assert!(w.well());
    assert_eq!(*w.core.stage(), Stage::Quiet);
    assert_eq!(w.cures().count(), 0, "a healthy start is left alone");
    w
}

#[test]
fn a_dark_wan_is_left_within_a_second_of_the_word_of_mwan3() {
    let mut w = settled();
    let dark = w.now;
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(20 * S);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
    assert_eq!(
        named(&w),
        ["F1-pinned-route", "F2-stuck-control", "F3-stale-paths"]
    );
    let steer = w.cures().next().expect("an act");
    assert!(matches!(steer.action, Action::Steer(..)));
    assert!(steer.at - dark < 2500 * MS, "{:?}", steer.at - dark);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
    assert_eq!(w.count(|a| *a == Action::Renew), 1);
    assert_eq!(w.count(|a| *a == Action::Nudge), 1);
}

#[test]
fn a_slow_control_server_is_waited_for_and_no_longer() {
    let mut w = settled();
    w.control_delay = 900 * MS;
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(2000 * MS);
    let told = w.now;
    w.run(18 * S);
    assert!(w.well());
    let at = |which: Action| {
        let act = w.acts.iter().find(|a| a.action == which);
        act.expect("the act").at - told
    };
    assert!(at(Action::Nudge) < 500 * MS, "{:?}", at(Action::Nudge));
    let renewed = at(Action::Renew);
    assert!(renewed > 850 * MS && renewed < 1200 * MS, "{renewed:?}");
    assert_eq!(w.count(|a| *a == Action::Renew), 1);
}

#[test]
fn a_dark_wan_is_found_without_any_event() {
    let mut w = settled();
    w.inject(Fault::Dark {
        uplink: 0,
        told: None,
    });
    w.run(45 * S);
    assert!(w.well());
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}

#[test]
fn a_dark_wan_is_left_within_three_seconds_when_a_peer_was_talking() {
    let mut w = World::new(policy(), 1);
    w.peer_talks = true;
    w.run(20 * S);
    assert_eq!(w.cures().count(), 0, "a talking peer is no sign");
    let dark = w.now;
    w.inject(Fault::Dark {
        uplink: 0,
        told: None,
    });
    w.run(20 * S);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
    let steer = w.cures().next().expect("an act");
    assert!(matches!(steer.action, Action::Steer(..)));
    assert!(steer.at - dark < 3 * S, "{:?}", steer.at - dark);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}

#[test]
fn a_peer_that_stops_talking_costs_one_look_at_the_path_and_no_act() {
    let mut w = World::new(policy(), 1);
    w.peer_talks = true;
    w.run(20 * S);
    let suspect = |w: &World| {
        w.count(|a| {
            matches!(
                a,
                Action::Probe {
                    effort: Effort::Suspect,
                    ..
                }
            )
        })
    };
    assert_eq!(suspect(&w), 0);
    w.peer_talks = false;
    w.run(20 * S);
    assert_eq!(suspect(&w), 1, "the other uplinks are not asked");
    assert_eq!(w.cures().count(), 0);
    assert!(named(&w).is_empty());
}

#[test]
fn a_heartbeat_that_is_not_answered_is_followed_by_a_burst() {
    let mut w = settled();
    let dark = w.now;
    w.inject(Fault::Dark {
        uplink: 0,
        told: None,
    });
    w.run(40 * S);
    let steer = w.cures().next().expect("an act");
    assert!(steer.at - dark < 33 * S, "{:?}", steer.at - dark);
}

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
fn a_nudge_that_waits_for_peers_does_not_hold_control_up() {
    let mut w = settled();
    (w.nudge_takes, w.control_delay) = (1500 * MS, 400 * MS);
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(2000 * MS);
    let told = w.now;
    w.run(18 * S);
    let renew = w.acts.iter().find(|a| a.action == Action::Renew);
    let after = renew.expect("an act").at - told;
    assert!(after < 700 * MS, "{after:?}");
    assert_eq!(w.count(|a| *a == Action::Nudge), 1);
    assert!(w.well());
}

#[test]
fn a_trickle_of_events_does_not_delay_the_cure() {
    let mut w = settled();
    w.inject(Fault::Dark {
        uplink: 0,
        told: None,
    });
    w.murmur();
    let began = w.now;
    for _ in 0..20 {
        w.run(1500 * MS);
        w.murmur();
    }
    let steer = w.cures().next().expect("an act");
    assert!(steer.at - began < 4 * S, "{:?}", steer.at - began);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
    assert!(w.count(|a| *a == Action::Renew) <= 2);
}

#[test]
fn rules_that_another_hand_took_away_are_put_back() {
    let mut w = settled();
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(20 * S);
    w.flush_rules();
    w.run(20 * S);
    assert!(w.steered() && w.well(), "{:?}", w.core.stage());
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}

#[test]
fn a_family_without_anybody_to_ask_does_not_hold_up_the_other() {
    let mut w = World::new(policy(), 3);
    w.v6_untold = true;
    w.run(10 * S);
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(20 * S);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
    assert_eq!(*w.core.stage(), Stage::Quiet);
}

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
fn the_mark_goes_back_after_the_hold_and_control_goes_with_it() {
    let mut w = settled();
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(20 * S);
    assert!(w.steered());
    w.inject(Fault::Back {
        uplink: 0,
        told: Some(5000),
    });
    w.run(25 * S);
    assert!(w.steered(), "not before the hold");
    w.run(30 * S);
    assert!(!w.steered(), "{:?}", w.core.stage());
    assert!(w.well());
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}

#[test]
fn peers_leave_a_metered_backup_after_the_way_back_until_it_is_needed_again() {
    let mut w = settled();
    let dark = Fault::Dark {
        uplink: 0,
        told: Some(2000),
    };
    w.inject(dark);
    w.run(20 * S);
    assert!(w.steered() && w.left.0.is_empty(), "not while it is in use");
    w.inject(Fault::Back {
        uplink: 0,
        told: Some(5000),
    });
    w.run(60 * S);
    assert!(!w.steered());
    assert_eq!(w.left.0, ["eth2"]);
    assert_eq!(w.count(|a| matches!(a, Action::Leave(_))), 1, "once");
    w.inject(dark);
    w.run(10 * S);
    assert!(w.steered() && w.left.0.is_empty(), "{:?}", w.left);
    assert_eq!(w.broken, [""; 0]);
}

#[test]
fn nothing_is_done_while_the_outside_is_down_or_behind_a_portal() {
    for second in [
        Fault::Dark {
            uplink: 1,
            told: Some(100),
        },
        Fault::Portal { uplink: 1 },
    ] {
        let mut w = settled();
        w.inject(second);
        w.inject(Fault::Dark {
            uplink: 0,
            told: Some(2000),
        });
        w.run(600 * S);
        assert_eq!(w.cures().count(), 0, "{second:?}");
        w.inject(Fault::Back {
            uplink: 1,
            told: None,
        });
        w.run(90 * S);
        assert!(w.well(), "{second:?}: {:?}", w.core.stage());
        assert_eq!(w.count(|a| *a == Action::Restart), 0);
    }
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
fn a_dead_control_server_alone_never_costs_a_restart() {
    let mut w = settled();
    w.inject(Fault::Control { up: false });
    w.run(20 * S);
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(1200 * S);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
    w.inject(Fault::Control { up: true });
    w.run(120 * S);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
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
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(3000 * S);
    assert!(w.broken.is_empty(), "{:?}", w.broken);
    assert_eq!(w.count(|a| *a == Action::Restart), 3);
    assert!(w
        .notices
        .iter()
        .any(|(_, n)| matches!(n, Notice::Waiting(t) if t.contains("cannot help"))));
}

#[test]
fn a_daemon_started_anew_adopts_its_steering_and_takes_it_back_when_asked_to_stop() {
    use tailover::core::{Family, Input, Moment};
    let mut w = settled();
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(20 * S);
    let moment = Moment {
        now: w.now,
        dice: 0,
    };
    let mut dead = w.core.clone();
    let acts = dead.step(moment, Input::Stop);
    assert!(
        !acts.iter().any(|a| matches!(a, Action::Steer(..))),
        "main is dark: the steering stays"
    );
    let mut fresh = tailover::core::Core::new(policy());
    fresh.step(
        moment,
        Input::Adopt {
            family: Family::V4,
            device: "eth2".into(),
        },
    );
    assert_eq!(
        fresh.knowledge().steering[0]
            .to
            .as_ref()
            .map(|h| h.device.as_str()),
        Some("eth2")
    );
    w.inject(Fault::Back {
        uplink: 0,
        told: Some(10),
    });
    w.run(10 * S);
    let moment = Moment {
        now: w.now,
        dice: 0,
    };
    let acts = w.core.step(moment, Input::Stop);
    assert!(acts
        .iter()
        .any(|a| matches!(a, Action::Steer(_, s) if s.to.is_none())));
    assert_eq!(acts.last(), Some(&Action::Exit));
}

fn told() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![Just(None), (50u16..10_000).prop_map(Some)]
}

fn fault() -> impl Strategy<Value = Fault> {
    let uplink = 0usize..2;
    prop_oneof![
        4 => (uplink.clone(), told()).prop_map(|(uplink, told)| Fault::Dark { uplink, told }),
        4 => (uplink.clone(), told()).prop_map(|(uplink, told)| Fault::Back { uplink, told }),
        1 => uplink.clone().prop_map(|uplink| Fault::Portal { uplink }),
        2 => (uplink.clone(), any::<bool>()).prop_map(|(uplink, up)| Fault::Carrier { uplink, up }),
        2 => uplink.prop_map(|uplink| Fault::NewPublic { uplink }),
        2 => any::<bool>().prop_map(|up| Fault::Control { up }),
        1 => Just(Fault::UserStops),
        1 => Just(Fault::UserStarts),
        1 => Just(Fault::Crash),
        1 => Just(Fault::Hang),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000,
        failure_persistence: None, ..ProptestConfig::default() })]

    /// Promises 1 to 4 and 7 hold in every history, and once the last fault has gone the tailnet is
    /// well, the steering is gone, and tailover is silent.
    #[test]
    fn promises_hold(faults in proptest::collection::vec((0u64..90_000, fault()), 1..14), dice in any::<u32>()) {
        let mut w = World::new(policy(), dice);
        w.control_delay = MS * (90 + dice % 1500);
        w.run(5 * S);
        for (gap, fault) in faults {
            w.run(MS * gap as u32);
            w.inject(fault);
        }
        w.run(60 * S);
        w.mend_all();
        // Time for the hold, grown eightfold by flaps, and for the longest pause between restarts.
        w.run(7200 * S);
        prop_assert!(w.broken.is_empty(), "{:#?}", w.broken);
        prop_assert!(w.well(), "not well: {:?} {:?}", w.core.stage(), w.core.faults());
        prop_assert!(!w.steered(), "still steered: {:?} {:?}", w.core.stage(), w.core.knowledge().steering);
        let quiet_since = w.now;
        w.run(3600 * S);
        let late: Vec<_> = w.cures().filter(|a| a.at > quiet_since).collect();
        prop_assert!(late.is_empty(), "acts on a healthy tailnet: {late:?}");
        prop_assert_eq!(w.core.stage().clone(), Stage::Quiet);
    }
}
