//! What is the outside, and what only looks like it.

use super::*;

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
fn the_control_server_is_the_outside_unless_a_portal_lets_it_pass() {
    let mut j = asked(Effort::Burst);
    j.take(S, 5, failed("silence"));
    assert_eq!(j.take(S, 5, answer(By::Control)), Change::Verdict);
    assert_eq!(j.verdict, Verdict::Open);
    assert_eq!(judged(&[portal(), answer(By::Control)]), Verdict::Portal);
    assert_eq!(judged(&[answer(By::Control), portal()]), Verdict::Portal);
    // Its silence says nothing: the round is as one in which nobody has failed.
    let silent = Finding::Control(Err("timeout".into()));
    assert_eq!(judged(&[silent, answer(By::Stun)]), Verdict::Open);
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
