//! Histories: the real core against a modelled router. First the five stories people know, then
//! generated ones that must keep the design's promises whatever happens.

mod world;

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use tailover::core::ladder::Allowed;
use tailover::core::tailnet::{Flow, Purpose, Respawn};
use tailover::core::{Action, Effort, Family, Notice, Scope, Stage, Steering};
use world::{policy, Fault, Hung, World, MS, S};

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
fn control_is_not_renewed_while_its_name_cannot_be_resolved() {
    let mut w = settled();
    w.names_up = false;
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(60 * S);
    assert!(named(&w).contains(&"names-dead"), "{:?}", named(&w));
    assert_eq!(w.count(|a| *a == Action::Nudge), 1);
    assert_eq!(w.count(|a| matches!(a, Action::Renew | Action::Restart)), 0);
    w.names_up = true;
    w.run(70 * S);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
    assert_eq!(w.count(|a| *a == Action::Renew), 1);
    w.run(70 * S);
    assert!(w.core.faults().is_empty(), "{:?}", w.core.faults());
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
fn a_tunnel_that_main_sends_all_by_is_left_when_it_is_dark_and_taken_again_after_the_hold() {
    let mut w = World::new(policy(), 1);
    w.tunnel = true;
    w.run(60 * S);
    let wan = w.core.knowledge().uplinks.first().map(|u| u.name.as_str());
    assert_eq!(wan, Some("wanb"), "a tunnel is the last of the order");
    assert_eq!(w.cures().count(), 0, "and is left alone while it is open");
    w.inject(Fault::Dark {
        uplink: 0,
        told: None,
    });
    w.run(60 * S);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
    let to = |w: &World| {
        let to = w.core.knowledge().steering[0].to.as_ref();
        to.map(|hop| hop.device.clone())
    };
    assert_eq!(to(&w).as_deref(), Some("eth2"));
    w.inject(Fault::Back {
        uplink: 0,
        told: None,
    });
    let back = w.now;
    w.run(27 * S);
    assert_eq!(to(&w).as_deref(), Some("eth2"), "not before the hold");
    w.run(30 * S);
    assert_eq!(to(&w), None, "{:?} after its return", w.now - back);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
    assert!(w.broken.is_empty(), "{:?}", w.broken);
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
fn a_tailnet_that_was_idle_is_watched_closely_once_it_is_in_use() {
    // Whenever that begins between two of the rare pulses.
    for tenth in 0..100 {
        let mut w = World::new(policy(), 1);
        w.run(120 * S + tenth * 100 * MS);
        w.peer_talks = true;
        w.run(25 * S);
        let dark = w.now;
        w.inject(Fault::Dark {
            uplink: 0,
            told: None,
        });
        w.run(20 * S);
        let steer = w.cures().next().expect("an act");
        assert!(steer.at - dark < 3 * S, "{tenth}: {:?}", steer.at - dark);
    }
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

/// Heartbeats sent over the path so far.
fn heartbeats(w: &World) -> usize {
    w.count(|a| {
        matches!(
            a,
            Action::Probe {
                scope: Scope::Path(_),
                effort: Effort::Beat,
                ..
            }
        )
    })
}

/// Heartbeats in ten quiet minutes of a world that is prepared so.
fn heartbeats_in_ten_minutes(prepare: impl FnOnce(&mut World)) -> usize {
    let mut w = settled();
    prepare(&mut w);
    // The next look at tailscaled knows its flows.
    w.run(60 * S);
    let before = heartbeats(&w);
    w.run(600 * S);
    assert!(w.cures().next().is_none() && w.broken.is_empty());
    heartbeats(&w) - before
}

/// A flow of tailscaled's from the address of an uplink to somebody in the outside.
fn spare(uplink: usize) -> Flow {
    Flow {
        purpose: Purpose::Derp,
        local: SocketAddr::new(World::address(uplink, Family::V4), 50000),
        remote: "198.51.100.77:443".parse().expect("an address"),
        established: true,
    }
}

#[test]
fn data_from_beyond_the_gateway_spares_the_heartbeat_and_other_data_does_not() {
    let always = heartbeats_in_ten_minutes(|_| ());
    assert!((19..=21).contains(&always), "{always}");
    // Once in five minutes it is asked all the same.
    let spared = heartbeats_in_ten_minutes(|w| w.spare = Some(spare(0)));
    assert_eq!(spared, 2);
    let kept = heartbeats_in_ten_minutes(|w| w.keepalives(20 * S));
    assert_eq!(kept, 2);
    let half = heartbeats_in_ten_minutes(|w| w.keepalives(60 * S));
    assert!((9..=11).contains(&half), "{half}");

    let of_another_uplink = heartbeats_in_ten_minutes(|w| w.spare = Some(spare(1)));
    let of_a_neighbour = heartbeats_in_ten_minutes(|w| {
        w.spare = Some(spare(0));
        w.on_link = vec![(IpAddr::from([198, 51, 100, 64]), 26)];
    });
    let of_somebody_else = heartbeats_in_ten_minutes(|w| {
        let purpose = Purpose::Other;
        w.spare = Some(Flow {
            purpose,
            ..spare(0)
        });
    });
    let of_an_unmade_one = heartbeats_in_ten_minutes(|w| {
        let established = false;
        w.spare = Some(Flow {
            established,
            ..spare(0)
        });
    });
    assert_eq!(of_another_uplink, always);
    assert_eq!(of_a_neighbour, always);
    assert_eq!(of_somebody_else, always);
    assert_eq!(of_an_unmade_one, always);
}

#[test]
fn data_on_a_flow_older_than_the_path_spares_nothing() {
    let mut w = settled();
    w.spare = Some(spare(0));
    w.run(60 * S);
    // All flows of this instant are doomed, and the spare one is never made anew.
    w.inject(Fault::NewPublic { uplink: 0 });
    w.run(400 * S);
    assert_eq!(*w.core.stage(), Stage::Quiet, "{:?}", w.notices);
    let before = heartbeats(&w);
    w.run(600 * S);
    let sent = heartbeats(&w) - before;
    assert!((19..=21).contains(&sent), "{sent}");
}

#[test]
fn a_dark_uplink_is_left_no_later_than_a_heartbeat_after_the_last_data() {
    for after in 0..40 {
        let mut w = settled();
        w.keepalives(20 * S);
        w.run(100 * S + S * after);
        w.inject(Fault::Dark {
            uplink: 0,
            told: None,
        });
        let proved = w.data_came().expect("data");
        w.run(40 * S);
        let left = w.cures().next().expect("it is left").at;
        let took = left - proved;
        assert!(took <= 33 * S, "{after}: {took:?} after the last data");
    }
}

#[test]
fn a_family_that_dies_alone_is_seen_within_a_minute_whatever_the_other_hears() {
    for after in 0..30 {
        let mut w = with_families([[true, true], [true, true]]);
        w.keepalives(10 * S);
        w.run(200 * S + S * (2 * after));
        // Control and relay have IPv4.
        half(&mut w, Family::V6, true);
        let died = w.now;
        w.run(70 * S);
        let moved = w.acts.iter().find(|a| {
            let to_another = |s: &Steering| s.to.is_some();
            matches!(&a.action, Action::Steer(Family::V6, s) if to_another(s))
        });
        let took = moved.expect("IPv6 is moved").at - died;
        assert!(took <= 63 * S, "{after}: {took:?}");
    }
}

#[test]
fn a_sign_has_the_path_asked_although_data_has_just_come() {
    let mut w = settled();
    w.spare = Some(spare(0));
    w.run(100 * S);
    let before = heartbeats(&w);
    w.resends = true;
    // Segments are looked at with the next heartbeat that is due, sent or not.
    w.run(31 * S);
    assert_eq!(heartbeats(&w), before + 1);
    assert!(w.cures().next().is_none());
}

#[test]
fn data_keeps_the_verdict_of_the_uplink_young() {
    let mut w = settled();
    w.spare = Some(spare(0));
    w.run(250 * S);
    let k = w.core.knowledge();
    let uplink = k.verdict("wan", Family::V4).expect("a verdict");
    for judgement in [uplink, &k.path(Family::V4).judgement] {
        let age = w.now - judgement.judged_at.expect("judged");
        assert!(age <= 32 * S, "{age:?}");
        assert_eq!(
            judgement.evidence,
            "198.51.100.77:443 has sent tailscaled data"
        );
    }
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
fn a_control_server_that_is_down_stays_named_while_it_is_asked_again() {
    let mut w = settled();
    // Its silence takes longer to tell than that of the uplinks.
    w.control_delay = 7 * S;
    w.inject(Fault::Control { up: false });
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
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
    w.metered = Some(1);
    w.murmur();
    w.run(10 * S);
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
fn what_was_proved_before_a_restart_is_no_proof_for_the_next_cure() {
    let dark = |uplink| Fault::Dark { uplink, told: None };
    let mut w = settled();
    for (gap, fault) in [
        (55_000, Fault::Drill { uplink: 0, stay: 9 }),
        (2_130, dark(0)),
        (4_766, Fault::Lose { mendable: false }),
        (551, Fault::NewPublic { uplink: 0 }),
        // While the new process is on its way.
        (4_067, dark(1)),
    ] {
        w.run(MS * gap);
        w.inject(fault);
    }
    w.run(60 * S);
    assert_eq!(restarts(&w), 1);
    assert_eq!(w.broken, [""; 0]);
}

#[test]
fn a_hung_tailscaled_is_restarted_once() {
    let mut w = settled();
    w.inject(Fault::Hang);
    w.run(120 * S);
    assert!(w.well());
    assert_eq!(w.count(|a| *a == Action::Restart), 1);
}

fn restarts(w: &World) -> usize {
    w.count(|a| *a == Action::Restart)
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
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
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
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(60 * S);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
    assert_eq!(w.count(|a| *a == Action::Nudge), 0);
    assert!(w.count(|a| *a == Action::Renew) >= 1);
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

/// A world whose uplinks have these families, IPv4 and IPv6, settled.
fn with_families(has: [[bool; 2]; 2]) -> World {
    let mut w = World::new(policy(), 5);
    w.families(has);
    w.run(20 * S);
    assert!(w.well(), "{:?}", w.core.stage());
    assert_eq!(*w.core.stage(), Stage::Quiet);
    w.acts.clear();
    w.notices.clear();
    w
}

#[test]
fn what_hangs_on_a_dead_family_is_made_anew_over_the_other() {
    use tailover::core::Family::{V4, V6};
    for (dead, alive) in [(V4, V6), (V6, V4)] {
        let mut w = with_families([[true, true], [false, false]]);
        if dead == V6 {
            // Control has to sit on the family that dies.
            half(&mut w, V4, true);
            w.run(90 * S);
            half(&mut w, V4, false);
            w.run(90 * S);
            assert!(w.core.faults().is_empty(), "{:?}", w.core.faults());
        }
        w.acts.clear();
        w.notices.clear();
        half(&mut w, dead, true);
        // The families of one uplink take turns with the heartbeat.
        w.run(90 * S);
        assert!(w.well(), "{dead}: {:?} {:?}", w.core.stage(), named(&w));
        let from = w.control_from().expect("a control connection");
        assert_eq!(from.is_ipv6(), alive == V6);
        assert_eq!(named(&w), ["F2-stuck-control", "F3-stale-paths"]);
        assert!(!w.steered(), "there is nowhere else to go");
        assert_eq!(w.count(|a| *a == Action::Restart), 0);
        assert_eq!(w.count(|a| *a == Action::Renew), 1);
        assert_eq!(*w.core.stage(), Stage::Quiet);
        // Hours of it cost nothing more.
        w.acts.clear();
        w.run(7200 * S);
        assert_eq!(w.cures().count(), 0);
    }
}

fn half(w: &mut World, family: tailover::core::Family, dead: bool) {
    w.inject(Fault::Half {
        uplink: 0,
        family,
        dead,
    });
}

#[test]
fn a_backup_with_ipv6_alone_carries_the_tailnet_and_no_ipv4_fault_is_named() {
    let mut w = with_families([[true, true], [false, true]]);
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(20 * S);
    assert!(w.well() && w.steered(), "{:?}", w.core.stage());
    assert!(w.control_from().is_some_and(|ip| ip.is_ipv6()));
    let moved: Vec<_> = w
        .acts
        .iter()
        .filter_map(|a| match &a.action {
            Action::Steer(f, s) => Some((*f, s.to.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(moved, [(tailover::core::Family::V6, true)]);
    let text = format!("{:?}", w.notices);
    assert!(!text.contains("IPv4 packets leave by"), "{text}");
    w.inject(Fault::Back {
        uplink: 0,
        told: Some(5000),
    });
    w.run(90 * S);
    assert!(w.well() && !w.steered(), "{:?}", w.core.stage());
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}

#[test]
fn an_uplink_with_ipv6_alone_is_a_healthy_router() {
    let mut w = with_families([[false, true], [false, true]]);
    w.run(3600 * S);
    assert_eq!(w.cures().count(), 0);
    w.inject(Fault::Dark {
        uplink: 0,
        told: None,
    });
    w.run(60 * S);
    assert!(w.well() && w.steered(), "{:?}", w.core.stage());
    assert_eq!(named(&w)[0], "F1-pinned-route");
}

#[test]
fn a_new_gateway_is_followed_while_steered_and_nothing_else_is_done() {
    let mut w = settled();
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(20 * S);
    assert!(w.steered());
    w.acts.clear();
    w.inject(Fault::NewGateway { uplink: 1 });
    w.run(20 * S);
    let acts: Vec<_> = w.cures().map(|a| &a.action).collect();
    let [Action::Steer(_, steering)] = acts[..] else {
        panic!("{acts:?}");
    };
    let gateway = steering.to.as_ref().and_then(|h| h.way.gateway);
    assert_eq!(
        gateway,
        Some("192.0.2.66".parse().expect("the next gateway"))
    );
    assert!(w.well());
}

#[test]
fn a_metered_backup_is_asked_with_datagrams_until_it_is_used() {
    use tailover::core::{Effort, Scope};
    let mut w = World::new(policy(), 9);
    w.metered = Some(1);
    w.murmur();
    w.run(10 * S);
    let asked = |w: &World| -> Vec<Effort> {
        let efforts = w.acts.iter().filter_map(|a| match &a.action {
            Action::Probe {
                scope: Scope::Uplink(name, _),
                effort,
                ..
            } if name == "wanb" => Some(*effort),
            _ => None,
        });
        efforts.collect()
    };
    w.acts.clear();
    w.murmur();
    w.run(700 * S);
    assert_eq!(
        asked(&w),
        [Effort::Suspect, Effort::Beat, Effort::Beat],
        "at the assessment, and every five minutes"
    );
    w.acts.clear();
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(2000),
    });
    w.run(20 * S);
    assert!(w.well() && w.steered());
    let efforts = asked(&w);
    let first = efforts.iter().position(|e| *e == Effort::Burst);
    assert!(first.is_some_and(|at| at > 0), "{efforts:?}");
}

#[test]
fn flows_of_an_uplink_are_stale_on_another_with_the_same_address() {
    use tailover::core::tailnet::{Api, Flow, Purpose, Tailnet};
    use tailover::core::{Input, Moment, Route, Uplink, Way};
    let own = "192.168.8.100".parse().expect("an address");
    let mut core = tailover::core::Core::new(policy());
    let mut step = |input| {
        let moment = Moment { now: S, dice: 0 };
        core.step(moment, input);
    };
    let modem = |name: &str| Uplink {
        name: name.into(),
        device: name.into(),
        v4: Some(Way {
            addresses: vec![own],
            ..Way::default()
        }),
        ..Uplink::default()
    };
    let by = |device: &str| {
        Input::Paths([
            Some(Route {
                device: device.into(),
                gateway: None,
                source: Some(own),
            }),
            None,
        ])
    };
    step(Input::Uplinks(vec![modem("eth1"), modem("eth2")]));
    step(by("eth1"));
    step(Input::Tailnet(Box::new(Tailnet {
        api: Api::Answers,
        flows: vec![Flow {
            purpose: Purpose::Control,
            local: (own, 4000).into(),
            remote: "198.51.100.10:443".parse().expect("an address"),
            established: true,
        }],
        ..Tailnet::default()
    })));
    step(by("eth2"));
    let standing = core.knowledge().standing(Purpose::Control);
    assert_eq!((standing.fresh, standing.stale), (0, Some(own)));
}

#[test]
fn lost_routes_are_put_back_within_two_seconds_and_nothing_else_is_done() {
    let mut w = settled();
    let lost = w.now;
    w.inject(Fault::Lose { mendable: true });
    w.run(10 * S);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
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
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
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
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
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
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
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
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
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
fn a_way_that_is_missing_for_a_moment_is_not_gone() {
    use tailover::core::Event;
    let rules = || Event::Kernel {
        what: "IPv4 rule 1310".into(),
    };
    let mut w = settled();
    w.notices.clear();
    // mwan3's stop: between two of its deletions the mark meets the rule `unreachable`.
    w.no_way = true;
    w.tell(rules());
    w.run(250 * MS);
    w.no_way = false;
    w.tell(rules());
    w.run(10 * S);
    assert_eq!(w.notices.len(), 0, "{:?}", w.notices);
    w.no_way = true;
    w.tell(rules());
    w.run(S);
    let gone = |n: &Notice| matches!(n, Notice::Trigger(why) if why.contains("path is gone"));
    assert!(w.notices.iter().any(|(_, n)| gone(n)), "{:?}", w.notices);
}

#[test]
fn a_failover_and_lost_routes_at_once_are_both_cured() {
    let mut w = settled();
    w.inject(Fault::Lose { mendable: true });
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(900),
    });
    w.run(30 * S);
    assert!(w.well(), "{:?} {:?}", w.core.stage(), w.core.faults());
    assert!(w.steered());
    assert_eq!(w.count(|a| *a == Action::Mend), 1);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}

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
    w.inject(Fault::Dark {
        uplink: 1,
        told: Some(500),
    });
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
    w.inject(Fault::Dark {
        uplink: 0,
        told: None,
    });
    w.run(30 * S);
    assert!(w.steered() && w.well(), "{:?}", drill_lines(&w));
    assert_eq!(*w.core.stage(), Stage::Quiet);
    assert!(!drilled(&w).passed());
    w.inject(Fault::Back {
        uplink: 0,
        told: Some(100),
    });
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
    w.inject(Fault::Dark {
        uplink: 1,
        told: None,
    });
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
    w.inject(Fault::Dark {
        uplink: 1,
        told: Some(10),
    });
    w.run(20 * S);
    assert!(refusal(&w, "wan").contains("no other uplink is proved open"));
    w.inject(Fault::Back {
        uplink: 1,
        told: Some(10),
    });
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
        1 => (0usize..2).prop_map(|uplink| Fault::NewGateway { uplink }),
        2 => any::<bool>().prop_map(|up| Fault::Control { up }),
        1 => Just(Fault::UserStops),
        1 => Just(Fault::UserStarts),
        1 => Just(Fault::Crash),
        1 => Just(Fault::Hang),
        3 => any::<bool>().prop_map(|mendable| Fault::Lose { mendable }),
        3 => (0usize..2, 0u8..60).prop_map(|(uplink, stay)| Fault::Drill { uplink, stay }),
        1 => Just(Fault::DrillStop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000,
        failure_persistence: None, ..ProptestConfig::default() })]

    /// Promises 1 to 4 and 7 hold in every history, and once the last fault has gone the tailnet is
    /// well, the steering is gone, and tailover is silent.
    #[test]
    fn promises_hold(faults in proptest::collection::vec((0u64..90_000, fault()), 1..14), dice in any::<u32>()) {
        keeps_its_promises(faults, dice)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000,
        failure_persistence: None, ..ProptestConfig::default() })]

    /// The same when a drill begins on a healthy router and things happen within it, one soon after
    /// another.
    #[test]
    fn a_drill_at_any_instant_breaks_no_promise(
        stay in 0u8..20,
        faults in proptest::collection::vec((0u64..6_000, fault()), 1..8),
        dice in any::<u32>(),
    ) {
        let drill = (60_000, Fault::Drill { uplink: 0, stay });
        keeps_its_promises(std::iter::once(drill).chain(faults).collect(), dice)?;
    }
}

fn keeps_its_promises(faults: Vec<(u64, Fault)>, dice: u32) -> Result<(), TestCaseError> {
    let mut w = World::new(policy(), dice);
    w.control_delay = MS * (90 + dice % 1500);
    if dice.is_multiple_of(2) {
        w.keepalives(S * (1 + dice / 2 % 60));
    }
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
    let (stage, faults) = (w.core.stage(), w.core.faults());
    prop_assert!(w.well(), "not well: {stage:?} {faults:?}");
    let steering = &w.core.knowledge().steering;
    prop_assert!(!w.steered(), "still steered: {stage:?} {steering:?}");
    prop_assert!(w.core.knowledge().drilled.is_none(), "a drill for ever");
    let quiet_since = w.now;
    w.run(3600 * S);
    let late: Vec<_> = w.cures().filter(|a| a.at > quiet_since).collect();
    prop_assert!(late.is_empty(), "acts on a healthy tailnet: {late:?}");
    prop_assert_eq!(w.core.stage().clone(), Stage::Quiet);
    Ok(())
}
