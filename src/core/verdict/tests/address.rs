//! The public address that answers show.

use super::*;

/// STUN has shown another address than before.
fn changed() -> Change {
    Change::PublicAddress {
        by: By::Stun,
        old: [203, 0, 113, 1].into(),
        new: [203, 0, 113, 2].into(),
    }
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
    assert_eq!(tell(2), changed());
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
        assert!(!matches!(
            j.take(S, 1, finding),
            Change::PublicAddress { .. }
        ));
    }
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
    assert_eq!(j.take(S * 60, 60, shown(2)), changed());
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
            matches!(change, Change::PublicAddress { .. }),
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
