//! What an assessment asks, and when it decides.

use super::*;
use crate::core::sample::{judged, well, NOW, S, SINCE};

/// The ways that were asked with a burst.
fn asked(core: &mut Core) -> Vec<Scope> {
    let actions = core.ordered().into_iter();
    let asked = actions.filter_map(|a| match a {
        Action::Probe {
            scope,
            effort: Effort::Burst,
            ..
        } => Some(scope),
        _ => None,
    });
    asked.collect()
}

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
        paths(&asked(&mut core))
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
