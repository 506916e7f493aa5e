//! Rounds of probes and the verdicts that they come to.

use super::*;
use crate::core::flaws::Tls;

const S: Duration = Duration::from_secs(1);

fn answer(by: By) -> Finding {
    Finding::Answer {
        by,
        target: "t".into(),
        rtt: Duration::from_millis(20),
        public: None,
    }
}

fn portal() -> Finding {
    Finding::Intercepted {
        target: "t".into(),
        what: "answered 200".into(),
    }
}

fn judged(findings: &[Finding]) -> Verdict {
    let mut j = Judgement::default();
    j.begin(1, S * 2, Effort::Burst);
    for f in findings {
        j.take(S, 1, f.clone());
    }
    j.expire(S * 2);
    j.verdict
}

#[test]
fn silence_is_closed_only_at_the_deadline() {
    let mut j = Judgement::default();
    j.begin(1, S * 2, Effort::Burst);
    assert!(!j.expire(S));
    assert_eq!(j.verdict, Verdict::Unknown);
    assert!(j.expire(S * 2));
    assert_eq!(j.verdict, Verdict::Closed);
}

#[test]
fn single_results_stay_until_the_next_round_has_some_and_are_bounded() {
    let mut j = Judgement::default();
    j.begin(1, S * 2, Effort::Burst);
    for _ in 0..RESULTS + 5 {
        j.take(S, 1, answer(By::Tcp));
    }
    assert_eq!(j.results.len(), RESULTS);
    j.begin(2, S * 4, Effort::Burst);
    assert_eq!(j.results.len(), RESULTS);
    j.take(S * 3, 2, portal());
    assert_eq!(j.results.len(), 1, "{:?}", j.results);
    j.begin(3, S * 6, Effort::Burst);
    j.expire(S * 6);
    assert!(j.results.is_empty(), "silence: {:?}", j.results);
}

#[test]
fn a_portal_that_completes_tcp_is_not_the_outside() {
    assert_eq!(judged(&[answer(By::Tcp), portal()]), Verdict::Portal);
    assert_eq!(judged(&[portal(), answer(By::Tcp)]), Verdict::Portal);
    assert_eq!(judged(&[answer(By::Stun), portal()]), Verdict::Portal);
    assert_eq!(judged(&[portal(), answer(By::Stun)]), Verdict::Portal);
    assert_eq!(judged(&[portal(), answer(By::Http)]), Verdict::Portal);
}

#[test]
fn a_checked_certificate_beats_a_transparent_proxy() {
    assert_eq!(judged(&[answer(By::Derp), portal()]), Verdict::Open);
    assert_eq!(judged(&[portal(), answer(By::Derp)]), Verdict::Open);
}

#[test]
fn tcp_alone_is_open_once_nothing_speaks_of_a_portal() {
    let mut j = Judgement::default();
    j.begin(1, S * 2, Effort::Burst);
    j.take(S, 1, answer(By::Tcp));
    assert_eq!(j.verdict, Verdict::Unknown);
    j.take(S, 1, Finding::Over);
    assert_eq!(j.verdict, Verdict::Open);
}

#[test]
fn an_uplink_that_was_not_asked_for_a_while_is_not_steady() {
    let mut j = Judgement::default();
    for (at, since) in [(1, 1), (10, 1), (24, 1), (60, 60)] {
        j.begin(at, S * (at + 2), Effort::Beat);
        j.take(S * at, at, answer(By::Stun));
        assert_eq!(j.steady_since, Some(S * since), "at {at} s");
    }
    assert_eq!(j.since, S, "it is open all the same");
}

#[test]
fn a_round_without_anybody_to_ask_calls_nothing_closed() {
    let mut j = Judgement::default();
    j.begin(1, S * 2, Effort::Burst);
    j.take(S, 1, Finding::Nobody);
    j.take(S, 1, Finding::Over);
    assert!(!j.expire(S * 3));
    assert_eq!(j.verdict, Verdict::Unknown);
    assert!(j.untold_since(S) && !j.shut_since(S));
    j.begin(2, S * 9, Effort::Burst);
    j.take(S * 8, 2, Finding::NoWay("no route".into()));
    assert!(!j.gathering(), "nothing more comes of such a round");
    assert!(!j.expire(S * 9));
    assert_eq!(
        (j.verdict, j.evidence.as_str()),
        (Verdict::Unknown, "no route")
    );
}

#[test]
fn an_answer_of_an_older_round_does_not_open_the_new_one_unless_it_proves() {
    let mut j = Judgement::default();
    j.begin(1, S, Effort::Burst);
    j.expire(S);
    j.begin(2, S * 3, Effort::Burst);
    j.take(S * 2, 1, answer(By::Stun));
    assert_eq!(j.verdict, Verdict::Closed);
    j.take(S * 2, 1, answer(By::Derp));
    assert_eq!(j.verdict, Verdict::Open);
}

#[test]
fn a_new_public_address_is_told_once_and_a_pool_is_no_change() {
    let mut j = Judgement::default();
    let mut tell = |last: u8| {
        j.begin(1, S * 9, Effort::Burst);
        j.take(
            S,
            1,
            Finding::Answer {
                by: By::Stun,
                target: "t".into(),
                rtt: S,
                public: Some(IpAddr::from([203, 0, 113, last])),
            },
        )
    };
    assert_eq!(tell(1), Change::Verdict);
    assert_eq!(
        tell(2),
        Change::PublicAddress([203, 0, 113, 1].into(), [203, 0, 113, 2].into())
    );
    assert_eq!(tell(1), Change::Nothing);
    assert_eq!(tell(2), Change::Nothing);
}

#[test]
fn an_address_service_behind_a_proxy_is_not_compared_with_stun() {
    let mut j = Judgement::default();
    j.begin(1, S * 9, Effort::Burst);
    for (by, last) in [(By::Stun, 1), (By::Https, 2), (By::Stun, 1)] {
        let finding = Finding::Answer {
            by,
            target: "t".into(),
            rtt: S,
            public: Some(IpAddr::from([203, 0, 113, last])),
        };
        assert!(!matches!(j.take(S, 1, finding), Change::PublicAddress(..)));
    }
}

fn broken_tls(target: &str) -> Finding {
    Finding::Tls {
        target: target.into(),
        end: Tls::Broken("no answer in time".into()),
    }
}

/// One burst to its end, with the given findings, begun at `at` seconds.
fn burst(j: &mut Judgement, at: u32, findings: &[Finding]) {
    j.begin(at, S * (at + 2), Effort::Burst);
    for f in findings {
        j.take(S * at, at, f.clone());
    }
    j.expire(S * (at + 2));
    j.take(S * (at + 5), at, Finding::Over);
}

#[test]
fn without_a_resolver_an_open_way_is_dns_dead_until_one_answers() {
    let dead = Finding::Names(Err("127.0.0.1: SERVFAIL".into()));
    let mut j = Judgement::default();
    j.begin(1, S * 3, Effort::Burst);
    j.take(S, 1, answer(By::Stun));
    j.take(S * 2, 1, dead);
    assert_eq!(j.verdict, Verdict::Open, "the round may yet hear another");
    assert_eq!(j.take(S * 5, 1, Finding::Over), Change::Verdict);
    assert_eq!(j.verdict, Verdict::DnsDead);
    assert!(j.evidence.contains("SERVFAIL"), "{}", j.evidence);
    assert!(j.open_since(S) && !j.shut_since(S));
    assert_eq!(
        j.judged_at,
        Some(S),
        "nothing was answered at the round's end"
    );
    // A heartbeat asks no resolver: it changes nothing in that.
    j.begin(2, S * 9, Effort::Beat);
    assert_eq!(j.take(S * 8, 2, answer(By::Stun)), Change::Nothing);
    assert_eq!(j.verdict, Verdict::DnsDead);
    j.begin(3, S * 12, Effort::Burst);
    j.take(S * 10, 3, answer(By::Stun));
    assert_eq!(j.take(S * 10, 3, Finding::Names(Ok(()))), Change::Verdict);
    assert_eq!(j.verdict, Verdict::Open);
    assert_eq!(j.evidence, "t answered in 20 ms");
}

#[test]
fn names_say_nothing_of_a_way_that_is_closed() {
    let mut j = Judgement::default();
    burst(&mut j, 1, &[Finding::Names(Err("no answer".into()))]);
    assert_eq!(j.verdict, Verdict::Closed);
    assert!(!j.flaws.any());
}

#[test]
fn flaws_of_a_handshake_come_after_the_verdict_and_need_a_second_round() {
    let mut j = Judgement::default();
    let findings = [answer(By::Stun), broken_tls("a"), broken_tls("b")];
    burst(&mut j, 1, &findings);
    assert!(j.flaws.tls.is_none() && j.flaws.tls_doubt);
    burst(&mut j, 10, &findings);
    assert_eq!(j.verdict, Verdict::Open);
    assert!(j.evidence.contains("TLS does not work"), "{}", j.evidence);
    burst(&mut j, 20, &[answer(By::Derp)]);
    assert!(!j.flaws.any());
}

#[test]
fn connections_that_open_and_stay_mute_are_a_portals() {
    let mute = [answer(By::Tcp), Finding::Opened];
    assert_eq!(judged(&mute), Verdict::Portal);
    let talks = [answer(By::Tcp), Finding::Opened, Finding::Talked];
    assert_eq!(judged(&talks), Verdict::Open);
    let proved = [Finding::Opened, answer(By::Stun)];
    assert_eq!(judged(&proved), Verdict::Open);
}

#[test]
fn a_heartbeat_through_a_portal_acquits_nothing() {
    let mut j = Judgement::default();
    burst(&mut j, 1, &[answer(By::Stun), portal()]);
    assert_eq!(j.verdict, Verdict::Portal);
    j.begin(2, S * 12, Effort::Beat);
    j.take(S * 10, 2, answer(By::Stun));
    assert_eq!(j.verdict, Verdict::Portal);
    // Nor is its silence news: a portal may drop datagrams.
    j.begin(3, S * 22, Effort::Beat);
    j.expire(S * 22);
    assert_eq!(j.verdict, Verdict::Portal);
    burst(&mut j, 30, &[answer(By::Stun), answer(By::Challenge)]);
    assert_eq!(j.verdict, Verdict::Open);
}

#[test]
fn what_is_open_is_vouched_for_by_another_and_nothing_else_is() {
    let open = || {
        let mut j = Judgement::default();
        j.begin(1, S * 2, Effort::Beat);
        j.take(S, 1, answer(By::Stun));
        j.take(S, 1, Finding::Over);
        assert_eq!((j.verdict, j.judged_at), (Verdict::Open, Some(S)));
        j
    };
    let vouched = |mut j: Judgement, at: Time| {
        j.vouch(at, "the path".into(), Some(S));
        (j.judged_at, j.rtt, j.evidence)
    };
    let (at, rtt) = (S * 5, Some(S));
    assert_eq!(vouched(open(), at), (Some(at), rtt, "the path".into()));
    // An older word than its own answer says nothing.
    assert_eq!(vouched(open(), S).0, Some(S));
    let later = vouched(open(), S / 2);
    assert_eq!((later.0, later.1), (Some(S), Some(S / 50)));
    // While it is asked its own answer counts.
    let mut asked = open();
    asked.begin(2, S * 9, Effort::Beat);
    assert_eq!(vouched(asked, at).0, Some(S));
    // What is shut is not opened by a word, and what was never asked is not either.
    let mut shut = open();
    shut.begin(2, S * 2, Effort::Burst);
    shut.expire(S * 2);
    assert_eq!(vouched(shut.clone(), at).0, Some(S * 2));
    assert_eq!(vouched(Judgement::default(), at).0, None);
}
