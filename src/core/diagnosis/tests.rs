//! Which fault each piece of evidence makes, and at which instant.

use super::*;
use crate::core::sample::{all_dark, dark, flow, judged, well, ASKED, CONTROL, NOW, S, SINCE};
use crate::core::signs::Resending;
use crate::core::starts::Word;
use crate::core::tailnet::Process;
use crate::core::{Judgement, Pin};

const MS: Duration = Duration::from_millis(1);

fn ids(k: &Knowledge) -> Vec<&'static str> {
    ids_at(k, NOW)
}

fn ids_at(k: &Knowledge, now: Time) -> Vec<&'static str> {
    diagnose(k, now, SINCE).iter().map(Fault::id).collect()
}

/// With LocalAPI like that for so long.
fn silent(api: Api, span: Duration) -> Knowledge {
    let mut k = well();
    k.tailnet.api = api;
    k.api_since = NOW - span;
    k
}

fn local(flow: &Flow) -> IpAddr {
    flow.local.ip()
}

#[test]
fn where_all_is_well_there_is_no_fault() {
    assert_eq!(ids(&well()), [""; 0]);
    assert_eq!(suspicion(&well(), NOW, false), None);
}

#[test]
fn the_outside_is_down_when_nothing_at_all_gets_out() {
    assert_eq!(ids(&all_dark(well(), Verdict::Closed)), ["outside-down"]);
    assert_eq!(ids(&all_dark(well(), Verdict::Portal)), ["portal"]);
    let portal = diagnose(&all_dark(well(), Verdict::Portal), NOW, SINCE);
    assert_eq!(
        portal,
        [Fault::OutsideDown {
            portal: Some("wanb".into())
        }]
    );
    // What is wrong with tailscaled itself is said all the same, and a look at it is none that finds more.
    let mut k = all_dark(silent(Api::Refuses("403".into()), S * 60), Verdict::Closed);
    assert_eq!(ids(&k), ["outside-down", "api-refuses"]);
    k.tailnet.api = Api::Gone;
    assert_eq!(ids(&k), ["outside-down"]);
    // One that was not asked since may be open.
    let before = SINCE - S;
    k.verdicts
        .get_mut(&("wanb".into(), Family::V4))
        .unwrap()
        .judged_at = Some(before);
    assert_eq!(ids(&k), ["daemon-gone"]);
}

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
fn without_a_kernel_device_the_marked_path_says_nothing() {
    let mut k = dark(well());
    k.tailnet.tun = false;
    assert_eq!(ids(&k), ["userspace-networking"]);
    // Nobody has said so while LocalAPI is silent.
    k.tailnet.api = Api::Unknown;
    assert_eq!(ids(&k), ["F1-pinned-route", "F1-pinned-route"]);
}

#[test]
fn without_a_kernel_device_what_is_shown_is_said_all_the_same() {
    let mut k = well();
    k.tailnet.tun = false;
    k.paths[0].judgement.flaws.names = Some("silence".into());
    assert_eq!(ids(&k), ["userspace-networking", "names-dead"]);
    for _ in 0..3 {
        k.starts.word(NOW, Word::Ended);
    }
    assert_eq!(
        ids(&k),
        ["userspace-networking", "crash-loop", "names-dead"]
    );
}

#[test]
fn a_tailscaled_that_is_gone_is_one_after_the_time_that_a_respawn_takes() {
    for (respawn, patience) in [
        (Respawn::Unknown, S * 10),
        (Respawn::After(S * 2), S * 10),
        (Respawn::After(S * 20), S * 25),
        (Respawn::GaveUp, S * 2),
    ] {
        for (span, found) in [(patience - MS, vec![]), (patience, vec!["daemon-gone"])] {
            let mut k = silent(Api::Gone, span);
            k.tailnet.respawn = respawn.clone();
            assert_eq!(ids(&k), found, "{respawn:?} {span:?}");
            // Nobody has looked since: it may have come back.
            k.tailnet_read = Some(NOW - span);
            assert_eq!(ids(&k), [""; 0], "{respawn:?} {span:?}");
        }
    }
    // It was started and has ended meanwhile.
    let mut k = silent(Api::Gone, S * 60);
    k.starts.word(NOW - S * 3, Word::Ended);
    assert_eq!(ids(&k), [""; 0]);
    // One that ends again and again is left to its supervisor.
    for _ in 0..2 {
        k.starts.word(NOW - S * 20, Word::Ended);
    }
    let mut k = silent(Api::Gone, S * 60);
    for _ in 0..3 {
        k.starts.word(NOW - S * 20, Word::Ended);
    }
    assert_eq!(ids(&k), ["crash-loop"]);
}

#[test]
fn a_tailscaled_that_ends_again_and_again_has_no_flows_to_judge() {
    let mut k = well();
    k.tailnet.flows = vec![flow(Purpose::Control, "198.51.100.9:5001")];
    assert_eq!(ids(&k), ["F2-stuck-control"]);
    for _ in 0..3 {
        k.starts.word(NOW, Word::Ended);
    }
    assert_eq!(ids(&k), ["crash-loop"]);
}

#[test]
fn a_silent_tailscaled_is_hung_when_nothing_else_explains_it() {
    let hung = |span, process: Option<Process>| {
        let mut k = silent(Api::Hung, span);
        k.tailnet.process = process;
        hung(&k, NOW)
    };
    let process = |at_work, cpu| {
        Some(Process {
            at_work,
            cpu,
            ..Process::default()
        })
    };
    assert_eq!(hung(S * 15 - MS, None), None);
    assert_eq!(hung(S * 15, None).as_deref(), Some("silent for 15 s"));
    let rests = process(false, S * 2);
    assert_eq!(hung(S * 10 - MS, rests.clone()), None);
    assert_eq!(
        hung(S * 10, rests).as_deref(),
        Some("silent for 10 s, and it rests")
    );
    // A fifth of one CPU and more is work.
    assert_eq!(hung(S * 10, process(false, S * 2 + MS)), None);
    assert_eq!(hung(S * 10, process(true, S)), None);
    assert_eq!(hung(S * 120 - MS, process(true, S * 90)), None);
    assert_eq!(
        hung(S * 120, process(true, S * 90)).as_deref(),
        Some("silent for 120 s, whatever it is busy with")
    );
    assert_eq!(ids(&silent(Api::Hung, S * 15)), ["daemon-hung"]);
    assert_eq!(ids(&silent(Api::Refuses(String::new()), S)), [""; 0]);
    // What it used before the silence does not count.
    let mut k = silent(Api::Hung, S * 10);
    k.tailnet.process = process(false, S * 100);
    k.cpu_then = S * 99;
    assert_eq!(ids(&k), ["daemon-hung"]);
    // Nobody has looked at the silence's end.
    k.tailnet_read = Some(NOW - S);
    assert_eq!(ids(&k), [""; 0]);
}

#[test]
fn a_stopped_process_is_hung_after_five_seconds() {
    let mut k = silent(Api::Hung, S);
    k.tailnet.process = Some(Process::default());
    k.halted_since = Some(NOW - S * 5 + MS);
    assert_eq!(hung(&k, NOW), None);
    k.halted_since = Some(NOW - S * 5);
    let why = hung(&k, NOW).unwrap();
    assert!(why.contains("SIGSTOP"), "{why}");
}

#[test]
fn a_refusal_is_a_fault_when_it_lasts() {
    let mut k = silent(Api::Refuses("status 403".into()), S * 10 - MS);
    assert_eq!(of_tailscaled(&k, NOW), []);
    k.api_since = NOW - S * 10;
    let why = "status 403".to_string();
    assert_eq!(of_tailscaled(&k, NOW), [Fault::ApiRefuses { why }]);
}

#[test]
fn another_hand_is_told_with_what_names_tailscale() {
    let mut k = well();
    for _ in 0..3 {
        k.starts.word(NOW, Word::Started);
    }
    let why = |k: &Knowledge| of_tailscaled(k, NOW)[0].to_string();
    assert!(why(&k).contains("3 times in 10 minutes; nothing on the router"));
    k.hands = vec!["/etc/rc.local".into(), "/etc/crontabs/root".into()];
    let named = "3 times in 10 minutes; /etc/rc.local, /etc/crontabs/root names tailscale";
    assert!(why(&k).contains(named), "{}", why(&k));
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
fn control_is_stuck_on_an_address_that_the_path_has_left() {
    let mut k = well();
    k.tailnet.flows[0] = flow(Purpose::Control, "192.0.2.34:5001");
    let found = diagnose(&k, NOW, SINCE);
    let evidence = "it still uses wanb's address 192.0.2.34".to_string();
    assert_eq!(found, [Fault::StuckControl { evidence }]);
    // A fresh one beside it is enough.
    k.tailnet
        .flows
        .push(flow(Purpose::Control, "192.0.2.18:5009"));
    assert_eq!(ids(&k), [""; 0]);
    // One that is not established yet is none.
    k.tailnet.flows[2].established = false;
    assert_eq!(ids(&k), ["F2-stuck-control"]);
}

#[test]
fn a_stale_flow_is_told_by_what_makes_it_so() {
    let mut k = well();
    let text = |k: &Knowledge| stale_text(k, local(&k.tailnet.flows[0]));
    k.epoch = crate::core::tailnet::Epoch::begin(SINCE, &k.tailnet.flows, true);
    assert_eq!(ids(&k), ["F2-stuck-control", "F3-stale-paths"]);
    let older = "it is older than the last change of the path (192.0.2.18)";
    assert_eq!(text(&k), older);
    k.paths[0].judgement = judged(Verdict::Closed);
    assert_eq!(text(&k), "nothing answers its IPv4 packets (192.0.2.18)");
    k.tailnet.flows[0] = flow(Purpose::Control, "198.51.100.9:1");
    let foreign = "it still uses 198.51.100.9, which is on no uplink any more";
    assert_eq!(text(&k), foreign);
}

#[test]
fn being_offline_is_stuck_control_only_where_the_server_answers() {
    let mut k = well();
    k.offline_since = Some(NOW - S * 15);
    k.tailnet.online = Some(false);
    let evidence = "offline for 15 s although the control server answers".to_string();
    assert_eq!(diagnose(&k, NOW, SINCE), [Fault::StuckControl { evidence }]);
    k.offline_since = Some(NOW - S * 15 + MS);
    assert_eq!(ids(&k), [""; 0]);
    // A path that is new is given the same time.
    k.offline_since = Some(NOW - S * 60);
    k.epoch.since = NOW - S * 14;
    assert_eq!(ids(&k), [""; 0]);
}

/// Nobody reaches the control server, over whatever family and uplink.
fn control_silent(mut k: Knowledge) -> Knowledge {
    let paths = k.paths.iter_mut().map(|p| &mut p.judgement);
    for j in k.verdicts.values_mut().chain(paths) {
        j.control = Some((Err("no answer".into()), ASKED));
    }
    k
}

#[test]
fn a_control_server_that_does_not_answer_is_down() {
    let mut k = control_silent(well());
    // tailscaled has it, whatever we hear.
    assert_eq!(ids(&k), [""; 0]);
    k.tailnet.online = Some(false);
    let why = "no answer".to_string();
    assert_eq!(diagnose(&k, NOW, SINCE), [Fault::ControlDown { why }]);
    k.tailnet.online = Some(true);
    k.tailnet.flows.remove(0);
    assert_eq!(ids(&k), ["control-down"]);
    // Nothing is said before the assessment has begun, and of what was not asked since.
    assert_eq!(ids_at(&k, SINCE - MS), [""; 0]);
    assert_eq!(ids_at(&k, SINCE), ["control-down"]);
    let later = |k: &Knowledge| diagnose(k, NOW, ASKED + MS).len();
    assert_eq!(later(&k), 0);
    // Where one way reaches it, it is not down.
    k.paths[1].judgement.control = Some((Ok(()), ASKED));
    assert_eq!(ids(&k), [""; 0]);
}

#[test]
fn where_no_handshake_succeeds_nothing_is_said_of_the_control_server() {
    let silent = || {
        let mut k = control_silent(well());
        k.tailnet.online = Some(false);
        k
    };
    let with = |change: &dyn Fn(&mut crate::core::flaws::Flaws)| {
        let mut k = silent();
        let uplink = k.verdicts.get_mut(&("wan".into(), Family::V6)).unwrap();
        change(&mut uplink.flaws);
        control_down(&k, NOW, SINCE, false)
    };
    assert!(with(&|_| ()).is_some());
    assert_eq!(with(&|f| f.tls_doubt = true), None);
    assert_eq!(with(&|f| f.clock = Some(String::new())), None);
    assert_eq!(with(&|f| f.large = Some(String::new())), None);
    assert_eq!(control_down(&silent(), NOW, SINCE, true), None);
}

#[test]
fn segments_that_are_resent_again_and_again_are_a_stuck_control() {
    let mut k = well();
    let own = k.tailnet.flows[0].clone();
    let resent = |times| Resending {
        local: own.local,
        remote: own.remote,
        times,
    };
    k.resending = vec![resent(4)];
    assert_eq!(ids(&k), [""; 0]);
    k.resending = vec![resent(5)];
    let evidence =
        format!("its packets to {CONTROL} were resent 5 times, while the server answers others");
    assert_eq!(diagnose(&k, NOW, SINCE), [Fault::StuckControl { evidence }]);
    // It is the same flow by both of its ends.
    k.resending[0].remote = "203.0.113.7:443".parse().unwrap();
    assert_eq!(ids(&k), [""; 0]);
    // Where nobody hears the server it is the server's fault.
    let mut k = control_silent(well());
    k.resending = vec![resent(5)];
    assert_eq!(ids(&k), ["control-down"]);
}

#[test]
fn relays_are_stale_until_one_is_fresh_or_a_peer_answers() {
    let mut k = well();
    k.tailnet.flows[1] = flow(Purpose::Derp, "192.0.2.34:5002");
    assert_eq!(ids(&k), ["F3-stale-paths"]);
    k.epoch.peer_answered = true;
    assert_eq!(ids(&k), [""; 0]);
    k.epoch.peer_answered = false;
    k.tailnet.flows.push(flow(Purpose::Derp, "192.0.2.18:5003"));
    assert_eq!(ids(&k), [""; 0]);
    // None at all is no fault: tailscaled may not need one.
    k.tailnet.flows.truncate(1);
    assert_eq!(ids(&k), [""; 0]);
}

#[test]
fn what_the_kernel_lost_is_lost_after_half_a_second() {
    let mut k = well();
    k.tailnet.lost.what = vec!["rule 5270".into()];
    k.tailnet.lost.mendable = true;
    assert_eq!(ids(&k), [""; 0], "nobody has seen it for a while");
    k.lost_since = Some(NOW - LOST_FOR_SURE + MS);
    assert_eq!(ids(&k), [""; 0]);
    k.lost_since = Some(NOW - LOST_FOR_SURE);
    let lost = vec!["rule 5270".to_string()];
    let mendable = true;
    assert_eq!(
        diagnose(&k, NOW, SINCE),
        [Fault::LostState { lost, mendable }]
    );
    k.tailnet.lost.what.clear();
    assert_eq!(ids(&k), [""; 0]);
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
fn a_person_is_needed_for_what_a_person_did() {
    let says = |change: &dyn Fn(&mut Knowledge)| {
        let mut k = dark(well());
        change(&mut k);
        match diagnose(&k, NOW, SINCE).as_slice() {
            [Fault::NeedsPerson { what }] => what.to_string(),
            other => format!("{:?}", other.iter().map(Fault::id).collect::<Vec<_>>()),
        }
    };
    let other = r#"["F1-pinned-route", "F1-pinned-route"]"#;
    assert_eq!(says(&|_| ()), other);
    assert_eq!(
        says(&|k| k.tailnet.key_expired = true),
        "has an expired key: log in again"
    );
    let out = "is logged out: run `tailscale up`";
    assert_eq!(says(&|k| k.tailnet.logged_out = true), out);
    assert_eq!(says(&|k| k.tailnet.backend = Backend::NeedsLogin), out);
    assert_eq!(
        says(&|k| k.tailnet.backend = Backend::NeedsMachineAuth),
        "waits for an administrator to approve this machine"
    );
    let stopped = "was stopped by the user";
    assert_eq!(says(&|k| k.tailnet.backend = Backend::Stopped), stopped);
    assert_eq!(says(&|k| k.tailnet.wanted = Some(false)), stopped);
    assert_eq!(says(&|k| k.tailnet.wanted = None), other);
    let alone = |span: Duration| {
        says(&|k| {
            k.tailnet.api = Api::Gone;
            k.tailnet.left_alone = Some("is stopped");
            k.left_alone_since = Some(NOW - span);
            k.api_since = NOW - span;
        })
    };
    assert_eq!(alone(S * 5), "is stopped");
    assert_eq!(alone(S * 5 - MS), other);
    // While it answers it was not stopped, whatever procd says.
    assert_eq!(
        says(&|k| {
            k.tailnet.left_alone = Some("is stopped");
            k.left_alone_since = Some(NOW - S * 5);
        }),
        other
    );
}

#[test]
fn a_drill_makes_a_dead_way_of_an_open_one() {
    let mut k = well();
    k.drilled = Some(crate::core::knowledge::Drilled {
        name: "wan".into(),
        device: "eth1".into(),
        families: [true, false],
    });
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

#[test]
fn a_look_without_packets_is_suspicious_of_what_can_be_cured() {
    // A dead way was not found dead by a look.
    assert_eq!(suspicion(&dark(well()), NOW, false), None);
    let mut k = well();
    k.tailnet.flows[0] = flow(Purpose::Control, "192.0.2.34:5001");
    assert!(suspicion(&k, NOW, false).is_some());
    assert_eq!(suspicion(&k, NOW, true), None);
    let gone = silent(Api::Gone, S * 60);
    assert!(suspicion(&gone, NOW, true).is_some());
    let refused = silent(Api::Refuses(String::new()), S * 60);
    assert_eq!(suspicion(&refused, NOW, false), None, "that is not cured");
}

#[test]
fn being_offline_is_suspicious_where_all_else_is_well() {
    let mut k = control_silent(well());
    k.offline_since = Some(NOW - S * 16);
    let seen = suspicion(&k, NOW, false);
    assert_eq!(seen.as_deref(), Some("tailscaled is offline for 16 s"));
    assert_eq!(suspicion(&k, NOW, true), None);
    k.tailnet.api = Api::Unknown;
    assert_eq!(suspicion(&k, NOW, false), None);
    k.tailnet.api = Api::Answers;
    k.tailnet.key_expired = true;
    assert_eq!(suspicion(&k, NOW, false), None);
}

#[test]
fn a_look_says_nothing_of_what_was_answered_at_its_own_instant() {
    let mut k = well();
    k.offline_since = Some(NOW - S * 16);
    k.paths[0].judgement.control = Some((Ok(()), NOW));
    let seen = suspicion(&k, NOW, false);
    assert_eq!(seen.as_deref(), Some("tailscaled is offline for 16 s"));
}

#[test]
fn offline_counts_up_to_the_last_look_only() {
    let at = Duration::from_secs;
    let mut k = Knowledge::default();
    k.tailnet.api = Api::Answers;
    k.tailnet.backend = Backend::Running;
    k.tailnet.tun = true;
    k.tailnet.online = Some(false);
    k.offline_since = Some(at(10));
    // Seen in the moment that `start {}` takes; nobody has looked since.
    k.tailnet_read = Some(at(10));
    assert_eq!(suspicion(&k, at(60), false), None);
    k.tailnet_read = Some(at(26));
    let seen = suspicion(&k, at(60), false);
    assert_eq!(seen.as_deref(), Some("tailscaled is offline for 16 s"));
}
