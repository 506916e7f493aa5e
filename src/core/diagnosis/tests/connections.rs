//! What is wrong with tailscaled's connections to control and to relays.

use super::*;
use crate::core::sample::everywhere;

fn local(flow: &Flow) -> IpAddr {
    flow.local.ip()
}

#[test]
fn control_is_stuck_on_an_address_that_the_path_has_left() {
    let mut k = stuck();
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

#[test]
fn without_a_connection_it_is_not_waited_for_after_nothing_reached_the_outside() {
    let waits = |change: &dyn Fn(&mut Knowledge)| {
        let mut k = well();
        k.kept_waiting = true;
        k.tailnet.flows.clear();
        k.tailnet.online = Some(false);
        change(&mut k);
        ids(&k) == ["F2-stuck-control"]
    };
    assert!(waits(&|_| ()));
    for backend in [Backend::NoState, Backend::Starting] {
        assert!(waits(&|k| k.tailnet.backend = backend), "{backend:?}");
    }
    assert!(!waits(&|k| k.tailnet.backend = Backend::Unknown));
    assert!(!waits(&|k| k.kept_waiting = false));
    assert!(!waits(&|k| k.tailnet.online = Some(true)));
    let has = |established: bool| {
        move |k: &mut Knowledge| {
            let mut control = flow(Purpose::Control, "192.0.2.18:5001");
            control.established = established;
            k.tailnet.flows.push(control);
        }
    };
    assert!(!waits(&has(true)));
    assert!(waits(&has(false)), "it has only begun");
    let relay = |k: &mut Knowledge| k.tailnet.flows.push(flow(Purpose::Derp, "192.0.2.18:5002"));
    assert!(waits(&relay), "one to a relay is another matter");
    assert!(!waits(&|k| everywhere(k, |j| j.control = None)));
}

#[test]
fn a_control_server_that_does_not_answer_is_down() {
    let mut k = with(well(), |k| control_silent(k, "no answer"));
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
        let mut k = with(well(), |k| control_silent(k, "no answer"));
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
    let mut k = with(well(), |k| control_silent(k, "no answer"));
    k.resending = vec![resent(5)];
    assert_eq!(ids(&k), ["control-down"]);
}

#[test]
fn relays_are_stale_until_one_is_fresh_or_a_peer_answers() {
    let mut k = stale();
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
