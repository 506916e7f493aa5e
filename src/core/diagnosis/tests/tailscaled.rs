//! What is wrong with tailscaled itself, and after what time.

use super::*;

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
