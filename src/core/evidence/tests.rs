//! What is said to have been seen behind each fault.

use super::*;
use crate::core::sample::{
    all_dark, dark, flow, judged, stuck, well, ASKED, CONTROL, NOW, RELAY, S, SINCE,
};
use crate::core::tailnet::{Backend, Epoch};
use crate::core::{Hop, Knowledge};

fn of(k: &Knowledge, fault: &Fault) -> Vec<String> {
    evidence(k, fault, NOW)
}

fn pinned(family: Family) -> Fault {
    Fault::PinnedRoute {
        family,
        device: None,
        open: Vec::new(),
        flaw: None,
        drill: false,
    }
}

#[test]
fn a_pinned_route_shows_the_way_and_every_uplink_of_that_family() {
    let mut k = dark(well());
    assert_eq!(
        of(&k, &pinned(Family::V4)),
        [
            "the kernel sends tailscaled's IPv4 packets by wan (eth1) via 192.0.2.17 from 192.0.2.18, as the main \
             table says",
            "IPv4 path by wan (eth1) was found closed 1.0 s ago: t answered",
            "wan (eth1) IPv4 was found closed 1.0 s ago: t answered",
            "wanb (eth2) IPv4 was found open 1.0 s ago: t answered",
        ]
    );
    // By whose rules, without a gateway or an address, and with what came of each probe.
    let hop = |k: &Knowledge, n: usize| Hop {
        device: k.uplinks[n].device.clone(),
        way: k.uplinks[n].way(Family::V6).unwrap().clone(),
    };
    k.steering[1].to = Some(hop(&k, 0));
    let route = k.paths[1].route.as_mut().unwrap();
    (route.gateway, route.source) = (None, None);
    k.paths[1].judgement.results = vec![("stun".into(), "silence".into())];
    k.verdicts.remove(&("wanb".into(), Family::V6));
    k.verdicts
        .insert(("wan".into(), Family::V6), judged(Verdict::Unknown));
    let seen = of(&k, &pinned(Family::V6));
    assert_eq!(
        seen,
        [
            "the kernel sends tailscaled's IPv6 packets by wan (eth1), as tailover's rules say",
            "IPv6 path by wan (eth1) was found closed 1.0 s ago: t answered",
            "IPv6 path by wan (eth1): stun: silence",
            "wan (eth1) IPv6 has no verdict yet",
            "wanb (eth2) IPv6 was not probed",
        ]
    );
    k.steering[1].to = Some(hop(&k, 1));
    assert!(of(&k, &pinned(Family::V6))[0].ends_with("as the main table says"));
    // An uplink without that family is none of it.
    k.uplinks[1].v6 = None;
    assert_eq!(of(&k, &pinned(Family::V6)).len(), 4);
    k.paths[1].route = None;
    let none = "the kernel gives no IPv6 route for tailscaled's mark";
    assert_eq!(of(&k, &pinned(Family::V6))[0], none);
}

#[test]
fn a_verdict_without_an_age_is_none_yet() {
    let mut k = dark(well());
    k.paths[0].judgement.judged_at = None;
    let seen = of(&k, &pinned(Family::V4));
    assert_eq!(seen[1], "IPv4 path by wan (eth1) has no verdict yet");
}

#[test]
fn a_dead_outside_shows_the_families_that_the_router_has() {
    let fault = Fault::OutsideDown { portal: None };
    let mut k = all_dark(well(), Verdict::Closed);
    assert_eq!(of(&k, &fault).len(), 8);
    for u in &mut k.uplinks {
        u.v6 = None;
    }
    // A route for the mark is a reason to look, and so is an uplink.
    assert_eq!(of(&k, &fault).len(), 6);
    k.paths[1].route = None;
    assert_eq!(of(&k, &fault).len(), 4);
    k.paths[0].route = None;
    assert_eq!(of(&k, &fault).len(), 3);
    k.uplinks.clear();
    assert_eq!(of(&k, &fault), ["the router has no default route"]);
}

#[test]
fn no_fault_has_more_than_forty_sentences() {
    let mut k = all_dark(well(), Verdict::Closed);
    for n in 0..60 {
        let mut more = k.uplinks[0].clone();
        more.name = format!("wan{n}");
        k.uplinks.push(more);
    }
    assert_eq!(of(&k, &Fault::OutsideDown { portal: None }).len(), 40);
}

#[test]
fn a_stuck_control_shows_its_flows_and_what_both_sides_say() {
    let why = || "it still uses 192.0.2.34".to_string();
    let mut k = stuck();
    let fault = Fault::StuckControl { evidence: why() };
    let addresses = [
        "the IPv4 path's address is 192.0.2.18",
        "the IPv6 path's address is 2001:db8:1::2",
    ];
    let answered = [
        "the control server over wan IPv4, 1.0 s ago: answered",
        "the control server over wan IPv6, 1.0 s ago: answered",
    ];
    let flow_text = format!(
        "control flow from 192.0.2.34:5001 to {CONTROL}, established: not an address of the path"
    );
    let seen = of(&k, &fault);
    assert_eq!(seen[..2], [why(), flow_text]);
    assert_eq!(seen[2..4], addresses);
    assert_eq!(seen[4], "tailscaled says that it is online");
    assert_eq!(seen[5..], answered);
    // Offline, with flows that are not to be trusted or are none, and a server that failed or was not asked.
    k.tailnet.online = Some(false);
    k.offline_since = Some(NOW - S * 16);
    k.tailnet.flows[0] = flow(Purpose::Control, "192.0.2.18:5001");
    k.epoch = Epoch::begin(SINCE, &k.tailnet.flows, true);
    k.tailnet
        .flows
        .push(flow(Purpose::Control, "192.0.2.18:5009"));
    k.tailnet.flows[2].established = false;
    let uplink = k.verdicts.get_mut(&("wan".into(), Family::V4)).unwrap();
    uplink.control = Some((Err("no answer".into()), ASKED));
    k.verdicts.remove(&("wan".into(), Family::V6));
    let seen = of(&k, &fault);
    assert!(seen[1].ends_with("established: older than the last change of the path"));
    assert!(seen[2].ends_with("not established: an address of the path"));
    let last = [
        "tailscaled says for 16 s that it is offline",
        "the control server over wan IPv4, 1.0 s ago: no answer",
    ];
    assert_eq!(seen[5..], last);
    k.tailnet.flows.clear();
    (k.tailnet.online, k.offline_since) = (None, None);
    let seen = of(&k, &fault);
    assert_eq!(seen[1], "tailscaled has no control flow");
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn a_control_server_that_is_down_shows_the_same_in_another_order() {
    let why = "refused".to_string();
    let seen = of(&well(), &Fault::ControlDown { why });
    assert_eq!(seen[0], "refused");
    assert!(seen[1].starts_with("the control server over wan IPv4"));
    assert!(seen[3].starts_with("control flow from "));
    assert_eq!(seen[6], "tailscaled says that it is online");
    assert_eq!(seen.len(), 7);
}

#[test]
fn stale_paths_show_relays_and_whether_a_peer_has_answered() {
    let mut k = well();
    let evidence = "old".to_string();
    let stale = Fault::StalePaths { evidence };
    let seen = of(&k, &stale);
    let relay =
        format!("relay flow from 192.0.2.18:5002 to {RELAY}, established: an address of the path");
    assert_eq!(seen[..2], ["old".to_string(), relay]);
    let none = "no peer has answered a ping through the tunnel since the path changed";
    assert_eq!(seen.last().unwrap(), none);
    k.epoch.peer_answered = true;
    k.tailnet.flows.truncate(1);
    let seen = of(&k, &stale);
    assert_eq!(seen[1], "tailscaled has no relay flow");
    assert!(seen.last().unwrap().starts_with("a peer has answered"));
}

#[test]
fn what_is_wrong_with_tailscaled_shows_localapi_and_the_process() {
    let mut k = well();
    for (api, text) in [
        (Api::Unknown, "LocalAPI was not asked yet, for 7 s"),
        (Api::Answers, "LocalAPI answers, for 7 s"),
        (
            Api::Gone,
            "LocalAPI's socket is missing, or nobody listens on it, for 7 s",
        ),
        (
            Api::Hung,
            "LocalAPI takes a connection and says nothing, for 7 s",
        ),
        (Api::Refuses("status 403".into()), "status 403, for 7 s"),
    ] {
        k.tailnet.api = api;
        k.api_since = NOW - S * 7;
        let hung = Fault::DaemonHung { why: "x".into() };
        for fault in [Fault::DaemonGone, hung, Fault::CrashLoop { ends: 3 }] {
            assert_eq!(of(&k, &fault), [text, "the process is 77"]);
        }
        let why = || "x".to_string();
        for fault in [
            Fault::ApiRefuses { why: why() },
            Fault::OtherHand { why: why() },
            Fault::ClockWrong { why: why() },
        ] {
            assert_eq!(of(&k, &fault), ["x", text, "the process is 77"]);
        }
    }
    k.tailnet.pid = None;
    let seen = of(&k, &Fault::DaemonGone);
    assert_eq!(seen[1], "no process of tailscaled was found");
}

#[test]
fn flaws_of_a_way_show_its_uplink_alone() {
    let why = || "cut off".to_string();
    let of_wan = [
        "cut off",
        "wan (eth1) IPv4 was found open 1.0 s ago: t answered",
        "wan (eth1) IPv6 was found open 1.0 s ago: t answered",
    ];
    let uplink = || "wan".to_string();
    let faults = [
        Fault::TlsBroken {
            uplink: uplink(),
            why: why(),
        },
        Fault::MtuBlackHole {
            uplink: uplink(),
            why: why(),
        },
    ];
    for fault in faults {
        assert_eq!(of(&well(), &fault), of_wan);
    }
    assert_eq!(of(&well(), &Fault::NamesDead { why: why() }), ["cut off"]);
}

#[test]
fn what_others_have_found_is_shown_as_it_is() {
    let lost = vec!["rule 5270".to_string()];
    let mendable = true;
    let fault = Fault::LostState { lost, mendable };
    assert_eq!(of(&well(), &fault), ["rule 5270"]);
    let fault = Fault::ConntrackPin {
        family: Family::V4,
        evidence: "a to b".into(),
    };
    assert_eq!(of(&well(), &fault), ["a to b"]);
    assert_eq!(
        of(&well(), &Fault::Userspace),
        ["LocalAPI's status says TUN: false"]
    );
}

#[test]
fn what_a_person_did_is_shown_as_tailscaled_and_procd_say_it() {
    let mut k = well();
    let fault = Fault::NeedsPerson { what: "x" };
    let state = "LocalAPI's BackendState is Running";
    assert_eq!(of(&k, &fault), [state]);
    k.tailnet.left_alone = Some("is stopped");
    k.tailnet.wanted = Some(false);
    k.tailnet.logged_out = true;
    k.tailnet.key_expired = true;
    k.tailnet.backend = Backend::Stopped;
    assert_eq!(
        of(&k, &fault),
        [
            "LocalAPI's BackendState is Stopped",
            "the service is stopped",
            "the preferences say WantRunning: false",
            "the preferences say LoggedOut: true",
            "LocalAPI's status says Expired: true",
        ]
    );
}
