//! When a silent path is called dead before its time.

use super::*;

/// A path that is being asked until `NOW` + 2 s, with another uplink that answers within 20 ms.
fn waiting(change: impl FnOnce(&mut Core)) -> Core {
    let mut core = Core::assessing(well());
    for name in ["wan", "wanb"] {
        let uplink = core.k.verdicts.get_mut(&(name.into(), Family::V4)).unwrap();
        uplink.rtt = Some(MS * 20);
    }
    let path = &mut core.k.paths[0].judgement;
    path.begin(9, NOW + S * 2, Effort::Burst);
    change(&mut core);
    core
}

/// By when a silent path is dead, counted from the assessment's begin.
fn due(change: impl FnOnce(&mut Core)) -> Option<Duration> {
    let mut core = waiting(change);
    core.hasten(SINCE, SINCE);
    core.k.paths[0].judgement.deadline().map(|t| t - SINCE)
}

#[test]
fn the_word_that_an_uplink_is_down_shortens_the_wait_for_its_path() {
    let usual = Some(NOW + S * 2 - SINCE);
    let told = |at: Time| {
        move |core: &mut Core| {
            core.k.said_down.insert(("eth1".into(), Family::V4), at);
        }
    };
    assert_eq!(due(|_| ()), usual);
    assert_eq!(due(told(SINCE)), Some(QUICK));
    assert_eq!(due(told(SINCE - WORD_COUNTS + MS)), Some(QUICK));
    assert_eq!(due(told(SINCE - WORD_COUNTS)), usual, "that was long ago");
    let of_the_other = |core: &mut Core| {
        core.k.said_down.insert(("eth1".into(), Family::V6), SINCE);
    };
    assert_eq!(due(of_the_other), usual, "of IPv6 it says nothing");
    let slow = |core: &mut Core| {
        told(SINCE)(core);
        core.k.paths[0].usual_rtt = Some(MS * 200);
    };
    assert_eq!(due(slow), Some(MS * 800));
    // Nobody else answers: there is nowhere to go.
    let alone = |core: &mut Core| {
        told(SINCE)(core);
        let other = core.k.verdicts.get_mut(&("wanb".into(), Family::V4));
        other.unwrap().rtt = None;
    };
    assert_eq!(due(alone), usual, "the path's own uplink does not count");
    // A sign gives the burst the time that its datagrams take.
    let sign = |core: &mut Core| core.suspicion = Some(suspect::Suspicion::test(SINCE));
    let burst = Core::burst_silence(MS * 20, Duration::ZERO);
    assert_eq!(due(sign), Some(burst));
    // So does an answer to the lookout.
    assert_eq!(due(|core| core.called = true), Some(burst));
    let no_route = |core: &mut Core| {
        told(SINCE)(core);
        core.k.paths[0].route = None;
    };
    assert_eq!(due(no_route), usual);
}

#[test]
fn a_wait_that_was_shortened_to_the_past_is_over() {
    let mut core = waiting(|core| {
        core.k.said_down.insert(("eth1".into(), Family::V4), SINCE);
    });
    core.hasten(SINCE + QUICK, SINCE);
    assert_eq!(core.k.paths[0].judgement.verdict, Verdict::Closed);
}
