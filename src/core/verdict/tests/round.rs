//! How a round goes, when it ends, and what it leaves.

use super::*;

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
    assert_eq!(j.results.len(), 12);
    j.begin(2, S * 4, Effort::Burst);
    assert_eq!(j.results.len(), RESULTS);
    j.take(S * 3, 2, portal());
    assert_eq!(j.results.len(), 1, "{:?}", j.results);
    j.take(S * 3, 2, answer(By::Derp));
    assert_eq!(j.results.len(), 2);
    j.expire(S * 4);
    assert_eq!(j.results.len(), 2, "its own round has ended");
    j.begin(3, S * 6, Effort::Burst);
    j.expire(S * 6);
    assert!(j.results.is_empty(), "silence: {:?}", j.results);
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
fn a_round_ends_at_its_deadline_which_only_comes_nearer() {
    let mut j = asked(Effort::Burst);
    j.hasten(S * 12);
    assert_eq!(j.deadline(), Some(S * 9));
    j.hasten(S * 4);
    assert_eq!(j.deadline(), Some(S * 4));
    assert!(!j.expire(S * 4 - MS));
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
