//! What an episode keeps, and how it is told.

use super::*;
use crate::core::sample::S;

fn episode() -> Episode {
    Episode::new(S * 100, Origin::Path, "a sign".into())
}

fn stuck() -> Fault {
    Fault::StuckControl {
        evidence: "old".into(),
    }
}

#[test]
fn each_kind_of_fault_is_named_once_and_only_so_many() {
    let mut e = episode();
    assert!(e.name(&stuck()) && e.name(&Fault::Userspace));
    assert!(!e.name(&stuck()));
    assert_eq!(e.faults.len(), 2);
    e.faults.resize(ACTS - 1, ("x", String::new()));
    assert!(e.name(&Fault::DaemonGone));
    assert!(!e.name(&Fault::DaemonHung { why: String::new() }));
    assert_eq!(e.faults.len(), ACTS);
}

#[test]
fn acts_are_bounded_and_a_result_belongs_to_the_newest_of_its_kind() {
    let mut e = episode();
    for at in 0..40 {
        let cure = if at % 2 == 0 {
            Cure::Nudge
        } else {
            Cure::Renew
        };
        e.act(S * at, cure, "why".into());
    }
    assert_eq!(e.acts.len(), ACTS);
    e.result(Cure::Nudge, Ok("done".into()));
    let done: Vec<usize> = (0..ACTS).filter(|n| e.acts[*n].result.is_some()).collect();
    assert_eq!(done, [ACTS - 2]);
    e.result(Cure::Restart, Ok("done".into()));
    let done = e.acts.iter().filter(|a| a.result.is_some());
    assert_eq!(done.count(), 1);
}

#[test]
fn an_episode_lasts_until_its_end_or_until_now() {
    let mut e = episode();
    assert_eq!(e.lasted(S * 130), S * 30);
    assert_eq!(e.lasted(S * 90), Duration::ZERO);
    e.ended = Some((S * 104, Outcome::Healed));
    assert_eq!(e.lasted(S * 130), S * 4);
}

#[test]
fn the_newest_episodes_are_kept_and_all_are_counted() {
    let mut history = History::default();
    for n in 0..70 {
        history.add(Episode::new(S * n, Origin::Path, String::new()));
    }
    assert_eq!((history.iter().len(), history.ended()), (HISTORY, 70));
    let began: Vec<Time> = history.iter().map(|e| e.began).collect();
    assert_eq!((began[0], began[HISTORY - 1]), (S * 6, S * 69));
}

#[test]
fn a_drill_passed_when_the_tailnet_came_back_twice() {
    let passed = Drill {
        control: Some(S * 101),
        well: Some(S * 102),
        over: Some(S * 112),
        back: Some(S * 113),
        ..Drill::default()
    };
    assert!(passed.passed());
    let text = "control 1.0 s, tailnet 2.0 s, back 1.0 s";
    assert_eq!(passed.summary(S * 100), text);
    let without = |change: fn(&mut Drill)| {
        let mut drill = passed.clone();
        change(&mut drill);
        (drill.passed(), drill.summary(S * 100))
    };
    let failed = |text: &str| (false, text.to_string());
    let cut = without(|d| d.cut = Some("stopped".into()));
    assert_eq!(
        cut,
        failed("stopped; control 1.0 s, tailnet 2.0 s, back 1.0 s")
    );
    let no_control = "control not seen, tailnet 2.0 s, back 1.0 s";
    assert_eq!(without(|d| d.control = None), failed(no_control));
    let ill = "control 1.0 s, tailnet not seen, back 1.0 s";
    assert_eq!(without(|d| d.well = None), failed(ill));
    let away = "control 1.0 s, tailnet 2.0 s, back not seen";
    assert_eq!(without(|d| d.back = None), failed(away));
    // It was never over there: the way back counts from the begin.
    let text = "control 1.0 s, tailnet 2.0 s, back 13.0 s";
    assert_eq!(without(|d| d.over = None), (true, text.to_string()));
}

#[test]
fn origins_and_outcomes_have_words_of_their_own() {
    let origins = Origin::ALL.map(Origin::word);
    let words = [
        "event",
        "path",
        "return",
        "address",
        "tailscaled",
        "owner",
        "drill",
    ];
    assert_eq!(origins, words);
    let outcomes = Outcome::ALL.map(Outcome::word);
    let words = [
        "healed",
        "passed by itself",
        "nothing to cure",
        "needs a person",
    ];
    assert_eq!(outcomes, words);
}
