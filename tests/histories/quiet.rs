//! Quiet times: signs, heartbeats, and what spares them.

use std::net::{IpAddr, SocketAddr};

use tailover::core::tailnet::{Flow, Purpose};
use tailover::core::{Action, Effort, Family, Scope, Stage, Steering};

use crate::routers::{half, with_families};
use crate::world::{policy, Fault, World, MS, S};
use crate::{goes_dark, named, settled};

#[test]
fn a_tailnet_that_was_idle_is_watched_closely_once_it_is_in_use() {
    // Whenever that begins between two of the rare pulses.
    for tenth in 0..100 {
        let mut w = World::new(policy(), 1);
        w.run(120 * S + tenth * 100 * MS);
        w.peer_talks = true;
        w.run(25 * S);
        let dark = w.now;
        goes_dark(&mut w, 0, None);
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
    goes_dark(&mut w, 0, None);
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
        goes_dark(&mut w, 0, None);
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
