//! Nothing gets out, nothing can be said, or a person is needed.

use super::*;

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
