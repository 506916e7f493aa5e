//! What a look without any packet of ours shows.

use super::*;

#[test]
fn a_look_without_packets_is_suspicious_of_what_can_be_cured() {
    // A dead way was not found dead by a look.
    assert_eq!(suspicion(&dark(well()), NOW, false), None);
    let k = stuck();
    assert!(suspicion(&k, NOW, false).is_some());
    assert_eq!(suspicion(&k, NOW, true), None);
    let gone = silent(Api::Gone, S * 60);
    assert!(suspicion(&gone, NOW, true).is_some());
    let refused = silent(Api::Refuses(String::new()), S * 60);
    assert_eq!(suspicion(&refused, NOW, false), None, "that is not cured");
}

#[test]
fn being_offline_is_suspicious_where_all_else_is_well() {
    let mut k = with(well(), |k| control_silent(k, "no answer"));
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
