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

/// A round whose number is 5 and that may take until 9 s.
fn asked(effort: Effort) -> Judgement {
    let mut j = Judgement::default();
    j.begin(5, S * 9, effort);
    j
}

fn failed(why: &str) -> Finding {
    Finding::Failed {
        by: By::Stun,
        target: "t".into(),
        why: why.into(),
    }
}

fn took(by: By, ms: u64) -> Finding {
    Finding::Answer {
        by,
        target: "t".into(),
        rtt: Duration::from_millis(ms),
        public: None,
    }
}

#[test]
fn what_an_older_round_finds_says_nothing_of_this_one() {
    for finding in [
        portal(),
        failed("refused"),
        Finding::Opened,
        Finding::Talked,
        Finding::Nobody,
        Finding::NoWay("no route".into()),
        Finding::Over,
        answer(By::Stun),
        Finding::Tls {
            target: "t".into(),
            end: Tls::Broken("x".into()),
        },
    ] {
        let mut j = asked(Effort::Burst);
        assert_eq!(j.take(S, 4, finding.clone()), Change::Nothing);
        assert!(j.pending() && j.gathering(), "{finding:?}");
        assert_eq!(j.verdict, Verdict::Unknown, "{finding:?}");
        assert!(j.results.is_empty(), "{finding:?}");
        // It opens nothing and keeps nothing from being called what it is.
        j.take(S, 5, answer(By::Tcp));
        j.take(S, 5, Finding::Over);
        assert_eq!(j.verdict, Verdict::Open, "{finding:?}");
        assert!(!j.flaws.any(), "{finding:?}");
    }
    // Its failures are not this round's reason.
    let mut j = asked(Effort::Burst);
    j.take(S, 4, failed("refused"));
    j.expire(S * 9);
    assert_eq!(j.evidence, "no answer from any target");
    // Connections that opened then do not make this round mute.
    let mut j = asked(Effort::Burst);
    j.take(S, 4, Finding::Talked);
    j.take(S, 5, Finding::Opened);
    j.expire(S * 9);
    assert_eq!(j.verdict, Verdict::Portal);
}

#[test]
fn only_a_sure_answer_acquits_late_and_only_what_was_shut() {
    let late = |verdict: &dyn Fn(&mut Judgement), by| {
        let mut j = Judgement::default();
        verdict(&mut j);
        j.begin(5, S * 9, Effort::Burst);
        j.take(S * 8, 4, took(by, 1700));
        (j.verdict, j.evidence)
    };
    let closed = |j: &mut Judgement| burst(j, 1, &[]);
    let behind_portal = |j: &mut Judgement| burst(j, 1, &[portal()]);
    let text = "t answered late, after 1700 ms".to_string();
    assert_eq!(late(&closed, By::Derp), (Verdict::Open, text.clone()));
    assert_eq!(late(&behind_portal, By::Https), (Verdict::Open, text));
    assert_eq!(late(&closed, By::Stun).0, Verdict::Closed);
    assert_eq!(late(&|_| (), By::Derp).0, Verdict::Unknown);
    let open = |j: &mut Judgement| burst(j, 1, &[answer(By::Stun)]);
    let same = "t answered in 20 ms".to_string();
    assert_eq!(late(&open, By::Derp), (Verdict::Open, same));
}

#[test]
fn the_shortest_answer_of_a_round_is_kept() {
    let ms = Duration::from_millis;
    let mut j = asked(Effort::Burst);
    for (took_ms, kept) in [(30, 30), (50, 30), (20, 20)] {
        j.take(S, 5, took(By::Stun, took_ms));
        assert_eq!(j.rtt, Some(ms(kept)));
    }
    // The next round has its own, but an answer of this one that comes late may only better it.
    j.expire(S * 9);
    j.begin(6, S * 20, Effort::Burst);
    j.take(S * 10, 5, took(By::Stun, 15));
    assert_eq!(j.rtt, Some(ms(15)));
    j.expire(S * 20);
    assert_eq!((j.verdict, j.rtt), (Verdict::Closed, None));
    j.take(S * 21, 6, took(By::Stun, 900));
    assert_eq!(j.rtt, Some(ms(900)), "slow, and better than nothing");
}

#[test]
fn each_result_of_a_round_is_kept_up_to_a_bound() {
    let mut j = asked(Effort::Burst);
    for _ in 0..20 {
        j.take(S, 5, failed("refused"));
    }
    assert_eq!(j.results.len(), 12);
    // Those of the round before stay until there are others.
    j.expire(S * 9);
    j.begin(6, S * 20, Effort::Burst);
    assert_eq!(j.results.len(), 12);
    j.take(S * 10, 6, answer(By::Stun));
    assert_eq!(j.results.len(), 1);
    j.take(S * 10, 6, answer(By::Derp));
    assert_eq!(j.results.len(), 2);
    j.expire(S * 20);
    assert_eq!(j.results.len(), 2, "its own round has ended");
    // A round in which nothing came back has none.
    j.begin(7, S * 30, Effort::Burst);
    j.expire(S * 30);
    assert_eq!(j.results, []);
}

#[test]
fn a_closed_way_is_told_by_its_last_failure_unless_something_answered() {
    let text = |findings: &[Finding]| {
        let mut j = asked(Effort::Burst);
        for f in findings {
            j.take(S, 5, f.clone());
        }
        j.expire(S * 9);
        j.evidence
    };
    assert_eq!(text(&[]), "no answer from any target");
    assert_eq!(text(&[failed("refused"), failed("silence")]), "t: silence");
    let answered = "t answered in 20 ms";
    assert_eq!(text(&[answer(By::Stun), failed("silence")]), answered);
    assert_eq!(text(&[answer(By::Derp), failed("silence")]), answered);
    // What an earlier round has said is not this one's.
    let mut j = asked(Effort::Burst);
    j.take(S, 5, answer(By::Stun));
    j.expire(S * 9);
    j.begin(6, S * 20, Effort::Burst);
    j.expire(S * 20);
    assert_eq!(j.evidence, "no answer from any target");
}

#[test]
fn a_portal_that_is_proved_to_be_none_says_nothing() {
    let mut j = asked(Effort::Burst);
    j.take(S, 5, answer(By::Derp));
    assert_eq!(j.take(S, 5, portal()), Change::Nothing);
    assert_eq!(j.verdict, Verdict::Open);
    // A proof that comes after it counts, a likeness does not.
    let mut j = asked(Effort::Burst);
    assert_eq!(j.take(S, 5, portal()), Change::Verdict);
    assert_eq!(j.evidence, "t: answered 200");
    j.take(S, 5, answer(By::Challenge));
    assert_eq!(j.verdict, Verdict::Portal);
    j.take(S, 5, answer(By::Https));
    assert_eq!(j.verdict, Verdict::Open);
}

#[test]
fn a_conversation_on_what_opened_may_be_an_answer_or_a_portal_s() {
    for talk in [
        Finding::Talked,
        answer(By::Challenge),
        answer(By::Http),
        answer(By::Derp),
    ] {
        let verdict = judged(&[Finding::Opened, answer(By::Tcp), talk.clone()]);
        assert_eq!(verdict, Verdict::Open, "{talk:?}");
    }
    for silent in [answer(By::Tcp), failed("silence")] {
        let verdict = judged(&[Finding::Opened, silent.clone()]);
        assert_eq!(verdict, Verdict::Portal, "{silent:?}");
    }
    assert_eq!(judged(&[answer(By::Tcp)]), Verdict::Open);
}

#[test]
fn a_round_ends_at_its_deadline_which_only_comes_nearer() {
    let mut j = asked(Effort::Burst);
    j.hasten(S * 12);
    assert_eq!(j.deadline(), Some(S * 9));
    j.hasten(S * 4);
    assert_eq!(j.deadline(), Some(S * 4));
    assert!(!j.expire(S * 4 - Duration::from_millis(1)));
    assert!(j.expire(S * 4), "closed, which is news");
    assert_eq!(j.deadline(), None);
    j.begin(6, S * 9, Effort::Burst);
    assert!(!j.expire(S * 9), "closed still");
    assert!(!j.expire(S * 99), "nothing is asked");
}

#[test]
fn a_full_round_gathers_until_it_is_over_and_a_short_one_does_not() {
    for (effort, full) in [
        (Effort::Burst, true),
        (Effort::Suspect, false),
        (Effort::Beat, false),
    ] {
        let j = asked(effort);
        let gathers = (j.bursting(), j.gathering(), j.may_lose_large());
        assert_eq!(gathers, (full, full, full), "{effort:?}");
    }
    let mut j = asked(Effort::Burst);
    j.take(S, 5, Finding::Large(Ok(())));
    assert!(j.gathering() && !j.may_lose_large());
    j.expire(S * 9);
    assert!(j.gathering() && !j.bursting(), "a handshake takes longer");
    j.take(S * 10, 4, Finding::Over);
    assert!(j.gathering(), "that was another round");
    j.take(S * 10, 5, Finding::Over);
    assert!(!j.gathering());
    let mut j = asked(Effort::Burst);
    j.abandon();
    assert!(!j.pending() && !j.gathering());
}

#[test]
fn large_packets_that_are_lost_in_a_full_round_are_a_flaw_of_an_open_way() {
    let lost = Finding::Large(Err("1400 bytes".into()));
    let mut j = Judgement::default();
    for at in [1, 20] {
        burst(&mut j, at, &[answer(By::Stun), lost.clone()]);
    }
    assert_eq!(j.flaws.large.as_deref(), Some("1400 bytes"));
    // Nothing is left of it on a way that does not get out at all.
    burst(&mut j, 40, &[]);
    assert_eq!((j.verdict, j.flaws.any()), (Verdict::Closed, false));
}

#[test]
fn a_resolver_that_answers_counts_from_then_on() {
    let mut j = asked(Effort::Burst);
    j.take(S, 5, answer(By::Stun));
    j.take(S * 2, 5, Finding::Names(Ok(())));
    assert_eq!(j.resolved, Some(S * 2));
    j.take(S * 3, 4, Finding::Names(Ok(())));
    assert_eq!(j.resolved, Some(S * 2), "that was another round");
    // A way that is not open is not called so by it.
    let mut j = asked(Effort::Burst);
    assert_eq!(j.take(S, 5, Finding::Names(Ok(()))), Change::Nothing);
    assert_eq!((j.verdict, j.evidence.as_str()), (Verdict::Unknown, ""));
}

#[test]
fn a_forgotten_way_has_no_verdict_and_keeps_its_address() {
    let mut j = Judgement::default();
    let shown = |last: u8| Finding::Answer {
        by: By::Stun,
        target: "t".into(),
        rtt: S,
        public: Some([203, 0, 113, last].into()),
    };
    burst(&mut j, 1, &[shown(1)]);
    j.forget(S * 50);
    assert_eq!((j.verdict, j.judged_at), (Verdict::Unknown, None));
    assert_eq!(j.since, S * 50);
    assert_eq!(j.public, Some([203, 0, 113, 1].into()));
    j.begin(60, S * 62, Effort::Burst);
    let change = Change::PublicAddress([203, 0, 113, 1].into(), [203, 0, 113, 2].into());
    assert_eq!(j.take(S * 60, 60, shown(2)), change);
}

#[test]
fn a_verdict_counts_from_the_instant_at_which_it_was_reached() {
    let at = |verdict: Verdict| Judgement {
        verdict,
        judged_at: Some(S),
        control: Some((Ok(()), S)),
        ..Judgement::default()
    };
    let later = S + Duration::from_millis(1);
    for (verdict, open, shut, untold) in [
        (Verdict::Open, true, false, false),
        (Verdict::DnsDead, true, false, false),
        (Verdict::Portal, false, true, false),
        (Verdict::Closed, false, true, false),
        (Verdict::Unknown, false, false, true),
    ] {
        let j = at(verdict);
        let counts = |since| {
            let verdicts = (j.open_since(since), j.shut_since(since));
            (verdicts, j.untold_since(since))
        };
        assert_eq!(counts(S), ((open, shut), untold), "{verdict}");
        assert_eq!(counts(later), ((false, false), false), "{verdict}");
    }
    let mut j = at(Verdict::Unknown);
    assert!(j.control_since(S) && !j.control_since(later));
    j.control = Some((Err("x".into()), S));
    assert!(!j.control_since(S));
    j.begin(5, S * 9, Effort::Beat);
    assert!(!j.untold_since(S), "it is being asked");
}

#[test]
fn addresses_of_two_kinds_and_two_families_are_compared_with_their_own() {
    let mut j = asked(Effort::Burst);
    let mut tell = |by, text: &str| {
        let public = Some(text.parse().unwrap());
        let finding = Finding::Answer {
            by,
            target: "t".into(),
            rtt: S,
            public,
        };
        let change = j.take(S, 5, finding);
        (
            matches!(change, Change::PublicAddress(..)),
            j.public == public,
        )
    };
    let (known, news) = ((false, true), (true, true));
    assert_eq!(tell(By::Stun, "203.0.113.1"), known);
    assert_eq!(tell(By::Https, "203.0.113.9"), known);
    assert_eq!(tell(By::Stun, "2001:db8::1"), known);
    assert_eq!(tell(By::Stun, "2001:db8::2"), news);
    assert_eq!(tell(By::Https, "203.0.113.8"), news);
    assert_eq!(tell(By::Stun, "203.0.113.1"), known);
    // The oldest of many is forgotten, so that it is news again.
    for last in 20..28 {
        tell(By::Stun, &format!("203.0.113.{last}"));
    }
    assert_eq!(tell(By::Stun, "203.0.113.27"), known);
    assert_eq!(tell(By::Stun, "203.0.113.1"), news);
}

#[test]
fn a_way_is_steady_while_no_two_answers_are_more_than_a_quarter_of_a_minute_apart() {
    let ms = Duration::from_millis(1);
    for (gap, steady) in [(S * 15, S), (S * 15 + ms, S * 16 + ms)] {
        let mut j = asked(Effort::Beat);
        j.take(S, 5, answer(By::Stun));
        let again = S + gap;
        j.begin(6, again + S, Effort::Beat);
        j.take(again, 6, answer(By::Stun));
        assert_eq!(j.steady_since, Some(steady));
        j.begin(7, again + S, Effort::Beat);
        j.expire(again + S);
        assert_eq!((j.steady_since, j.rtt), (None, None), "closed");
    }
}

#[test]
fn each_verdict_has_its_word() {
    let words = Verdict::ALL.map(|v| v.to_string());
    assert_eq!(words, ["open", "dns-dead", "portal", "closed", "unknown"]);
}
