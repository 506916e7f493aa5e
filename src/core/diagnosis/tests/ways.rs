//! What is wrong with the way that tailscaled's packets take.

use super::*;

#[test]
fn a_dead_way_beside_an_open_one_is_a_pinned_route_in_each_family() {
    let k = dark(well());
    assert_eq!(ids(&k), ["F1-pinned-route", "F1-pinned-route"]);
    let first = |family| Fault::PinnedRoute {
        family,
        device: Some("wan (eth1)".into()),
        open: vec!["wanb".into()],
        flaw: None,
        drill: false,
    };
    assert_eq!(
        diagnose(&k, NOW, SINCE),
        [first(Family::V4), first(Family::V6)]
    );
    // No route for the mark is a dead way too.
    let mut k = well();
    k.paths[1].route = None;
    k.paths[1].judgement = Judgement::default();
    let found = diagnose(&k, NOW, SINCE);
    let Some(Fault::PinnedRoute {
        family: Family::V6,
        device: None,
        ..
    }) = found.first()
    else {
        panic!("{found:?}");
    };
    // Control is not called down while the path is dead, though nobody could ask it.
    let mut k = dark(well());
    k.tailnet.online = Some(false);
    for j in k.verdicts.values_mut() {
        j.control = Some((Err("no answer".into()), ASKED));
    }
    assert_eq!(ids(&k), ["F1-pinned-route", "F1-pinned-route"]);
}

#[test]
fn what_full_rounds_show_is_said_once_for_both_families() {
    let mut k = well();
    for f in Family::BOTH {
        k.paths[f.at()].judgement.flaws.names = Some("silence".into());
        let uplink = k.verdicts.get_mut(&("wan".into(), f)).unwrap();
        uplink.flaws.clock = Some("too early".into());
        uplink.flaws.tls = Some("cut off".into());
        uplink.flaws.large = Some("lost".into());
    }
    let why = |text: &str| text.to_string();
    let uplink = || "wan (eth1)".to_string();
    let all = [
        Fault::NamesDead {
            why: why("silence"),
        },
        Fault::ClockWrong {
            why: why("too early"),
        },
        Fault::TlsBroken {
            uplink: uplink(),
            why: why("cut off"),
        },
        Fault::MtuBlackHole {
            uplink: uplink(),
            why: why("lost"),
        },
    ];
    assert_eq!(shown(&k), all);
    assert!(all.iter().all(is_shown));
    assert!(!is_shown(&Fault::Userspace));
    // In one family it is said too, whatever the other does.
    k.paths[0].judgement = judged(Verdict::Closed);
    assert_eq!(shown(&k), all);
    k.paths[1].route = None;
    assert_eq!(shown(&k), []);
    let mut k = well();
    k.paths[0].judgement.flaws.names = Some("silence".into());
    k.tailnet.key_expired = true;
    assert_eq!(shown(&k), []);
}

#[test]
fn a_way_on_which_control_cannot_be_made_anew_is_left_for_a_sound_one() {
    let large = |mut k: Knowledge, names: &[&str]| {
        for name in names {
            let j = k.verdicts.get_mut(&((*name).into(), Family::V4)).unwrap();
            j.flaws.large = Some("lost".into());
        }
        k.paths[0].judgement.flaws.large = Some("lost".into());
        k
    };
    let f1 = |k: &Knowledge| {
        let found = diagnose(k, NOW, SINCE);
        found.iter().filter(|f| f.moves().is_some()).count()
    };
    // Control lives on the flawed way still.
    assert_eq!(f1(&large(well(), &["wan"])), 0);
    let mut k = large(well(), &["wan"]);
    k.tailnet.flows[0] = flow(Purpose::Control, "192.0.2.34:5001");
    assert_eq!(f1(&k), 1);
    // With none at all nothing has to be made anew.
    k.tailnet.flows.remove(0);
    assert_eq!(f1(&k), 0);
    k.offline_since = Some(NOW - S * 20);
    assert_eq!(f1(&k), 1);
    let found = diagnose(&k, NOW, SINCE);
    let flaw = "large packets are lost (lost)".to_string();
    let moved = Fault::PinnedRoute {
        family: Family::V4,
        device: Some("wan (eth1)".into()),
        open: vec!["wanb".into()],
        flaw: Some(flaw),
        drill: false,
    };
    assert!(found.contains(&moved), "{found:?}");
    // From one flawed way to another nothing is won, and of one that is being asked nothing is known yet.
    let both = large(k.clone(), &["wan", "wanb"]);
    assert_eq!(f1(&both), 0);
    let mut asked = k.clone();
    let other = asked.verdicts.get_mut(&("wanb".into(), Family::V4));
    other.unwrap().begin(9, NOW + S, crate::core::Effort::Burst);
    assert_eq!(f1(&asked), 0);
    // A flaw of a way that is not known to be open says nothing.
    k.paths[0].judgement.verdict = Verdict::Unknown;
    assert_eq!(f1(&k), 0);
}

#[test]
fn old_flows_held_on_a_dead_uplink_are_a_pin() {
    let held = |k: &Knowledge| diagnose(k, NOW, SINCE);
    let mut k = well();
    k.pins = vec![Pin {
        local: "192.0.2.34".parse().unwrap(),
        remote: "203.0.113.1".parse().unwrap(),
        device: "eth2".into(),
    }];
    assert_eq!(held(&k), [], "that uplink is open");
    k.verdicts
        .insert(("wanb".into(), Family::V4), judged(Verdict::Closed));
    let family = Family::V4;
    let evidence =
        "192.0.2.34 to 203.0.113.1 leaves by wanb (eth2), by the mark that mwan3 keeps for it";
    let evidence = evidence.to_string();
    assert_eq!(held(&k), [Fault::ConntrackPin { family, evidence }]);
    // A fresh flow passes nowhere.
    k.paths[0].judgement.judged_at = Some(SINCE - S);
    assert_eq!(held(&k), []);
    k.paths[0].judgement.judged_at = Some(ASKED);
    k.verdicts
        .get_mut(&("wan".into(), Family::V4))
        .unwrap()
        .judged_at = Some(SINCE - S);
    assert_eq!(held(&k), []);
}

#[test]
fn a_drill_makes_a_dead_way_of_an_open_one() {
    let mut k = well();
    k.drilled = Some(drill_of_wan([true, false]));
    assert_eq!(ids(&k), ["drill"]);
}

#[test]
fn a_family_is_half_dead_beside_one_that_answered_at_the_same_time() {
    let mut k = well();
    assert!(!k.half_dead(Family::V4) && !k.half_dead(Family::V6));
    for verdict in [Verdict::Closed, Verdict::Portal] {
        k.paths[0].judgement = judged(verdict);
        assert!(k.half_dead(Family::V4) && !k.half_dead(Family::V6));
    }
    // What hangs on it is stale.
    assert_eq!(k.standing(Purpose::Control).fresh, 0);
    let stale = k.standing(Purpose::Control).stale;
    assert_eq!(stale, Some("192.0.2.18".parse().unwrap()));
    k.paths[1].judgement.judged_at = Some(ASKED - S * 5);
    assert!(k.half_dead(Family::V4));
    k.paths[1].judgement.judged_at = Some(ASKED - S * 5 - MS);
    assert!(!k.half_dead(Family::V4));
    k.paths[0].judgement = judged(Verdict::Open);
    k.paths[1].judgement = judged(Verdict::Closed);
    assert!(k.half_dead(Family::V6) && !k.half_dead(Family::V4));
}

#[test]
fn an_address_is_on_the_path_by_the_route_or_by_its_uplink() {
    let mut k = well();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(k.on_path(&ip("192.0.2.18")));
    assert!(k.on_path(&ip("2001:db8:1::2")));
    assert!(!k.on_path(&ip("192.0.2.34")));
    // The kernel's own choice counts where netifd knows no address.
    k.paths[0].route.as_mut().unwrap().source = Some(ip("198.51.100.9"));
    assert!(k.on_path(&ip("198.51.100.9")) && k.on_path(&ip("192.0.2.18")));
    k.paths[0].route = None;
    assert!(!k.on_path(&ip("192.0.2.18")));
}
