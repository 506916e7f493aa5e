//! From when on, and for how long, a verdict counts.

use super::*;

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

#[test]
fn a_verdict_counts_from_the_instant_at_which_it_was_reached() {
    let at = |verdict: Verdict| Judgement {
        verdict,
        judged_at: Some(S),
        control: Some((Ok(()), S)),
        ..Judgement::default()
    };
    let later = S + MS;
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
fn a_way_is_steady_while_no_two_answers_are_more_than_a_quarter_of_a_minute_apart() {
    for (gap, steady) in [(S * 15, S), (S * 15 + MS, S * 16 + MS)] {
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
