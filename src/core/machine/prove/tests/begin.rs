//! What an assessment asks, and what of before it trusts.

use super::*;

fn paths(asked: &[Scope]) -> Vec<Family> {
    let families = asked.iter().filter_map(|s| match s {
        Scope::Path(f) => Some(*f),
        Scope::Uplink(..) => None,
    });
    families.collect()
}

#[test]
fn after_a_suspicion_only_paths_that_nothing_is_known_of_are_asked() {
    let suspicion = || suspect::Suspicion::test(SINCE);
    let after = |change: &dyn Fn(&mut Path)| {
        let mut core = Core::knowing(well());
        core.k.paths[0].judgement = judged(Verdict::Closed);
        change(&mut core.k.paths[1]);
        core.prove_suspicion(NOW, suspicion(), "silent");
        paths(&core.asked(Effort::Burst))
    };
    assert_eq!(after(&|_| ()), [], "both have said what they are");
    let old = |p: &mut Path| p.judgement.judged_at = Some(SINCE - S);
    assert_eq!(after(&old), [Family::V6]);
    let shut_of_old = |p: &mut Path| {
        p.judgement = judged(Verdict::Closed);
        old(p);
    };
    assert_eq!(after(&shut_of_old), [Family::V6]);
    let under_way = |p: &mut Path| {
        old(p);
        p.judgement.begin(9, NOW + S, Effort::Suspect);
    };
    assert_eq!(after(&under_way), []);
}

#[test]
fn a_path_that_no_round_will_tell_of_is_asked() {
    let asked = |change: &dyn Fn(&mut Knowledge)| {
        let mut core = Core::assessing(with(well(), change));
        core.ask_unjudged(NOW, SINCE);
        paths(&core.asked(Effort::Burst))
    };
    let old = |k: &mut Knowledge| k.paths[1].judgement.judged_at = Some(SINCE - MS);
    assert_eq!(asked(&|_| ()), []);
    assert_eq!(asked(&old), [Family::V6]);
    let under_way = |k: &mut Knowledge| {
        old(k);
        k.paths[1].judgement.begin(9, NOW + S, Effort::Beat);
    };
    assert_eq!(asked(&under_way), []);
    let no_route = |k: &mut Knowledge| {
        old(k);
        k.paths[1].route = None;
    };
    assert_eq!(asked(&no_route), []);
    let unread = |at: Time| {
        move |k: &mut Knowledge| {
            old(k);
            k.paths_read = Some(at);
        }
    };
    assert_eq!(asked(&unread(SINCE - MS)), []);
    assert_eq!(asked(&unread(SINCE)), [Family::V6]);
}

#[test]
fn what_was_asked_before_a_long_sleep_counts_no_more() {
    let mut core = Core::assessing(with(broken(), |k| {
        k.halted_since = Some(SINCE);
        k.lost_since = Some(SINCE);
    }));
    core.round = 7;
    ask(&mut core.k, "wanb", Effort::Burst);
    core.overslept(NOW);
    assert_eq!(core.void, 7);
    let since = [core.k.halted_since, core.k.lost_since, core.k.offline_since];
    assert_eq!(since, [Some(NOW); 3]);
    assert_eq!((core.k.left_alone_since, core.k.api_since), (None, NOW));
    assert_eq!(core.stage, Stage::Proving { since: NOW });
    // An act goes on, and all is proved after it.
    let mut core = Core::assessing(well());
    core.stage = Stage::Curing {
        since: SINCE,
        waiting: vec![Cure::Renew],
        until: NOW + S,
    };
    core.overslept(NOW);
    assert!(core.again);
    assert!(matches!(core.stage, Stage::Curing { since: NOW, .. }));
    let mut core = Core::knowing(well());
    core.overslept(NOW);
    assert_eq!((core.stage.word(), core.again), ("quiet", false));
}

#[test]
fn an_assessment_begins_with_a_look_at_everything() {
    let mut core = Core::knowing(well());
    core.suspicion = Some(suspect::Suspicion::test(SINCE));
    core.settle_at = Some(NOW);
    core.again = true;
    core.prove(NOW, Origin::Event, "an event".into());
    assert_eq!(core.stage, Stage::Proving { since: NOW });
    assert_eq!(core.ask_paths_at, NOW + S);
    let forgotten = (core.suspicion.is_none(), core.settle_at, core.again);
    assert_eq!(forgotten, (true, None, false));
    let ordered = core.ordered();
    assert!(ordered.contains(&Action::Look(Look::All)));
    assert!(ordered.contains(&Action::Tell(Notice::Trigger("an event".into()))));
    let probes = ordered.iter().filter(|a| matches!(a, Action::Probe { .. }));
    assert_eq!(
        probes.count(),
        6,
        "two paths, and two uplinks with two families"
    );
    // The episode under way goes on.
    core.prove(NOW, Origin::Event, "another".into());
    let told = core.ordered().into_iter();
    assert_eq!(told.filter(|a| matches!(a, Action::Tell(_))).count(), 0);
}
