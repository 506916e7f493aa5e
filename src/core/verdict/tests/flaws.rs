//! What is wrong with a way that is open.

use super::*;

fn broken_tls(target: &str) -> Finding {
    Finding::Tls {
        target: target.into(),
        end: Tls::Broken("no answer in time".into()),
    }
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
