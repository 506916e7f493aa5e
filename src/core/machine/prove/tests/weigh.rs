//! When the evidence is in.

use super::*;

/// What weighing does to an assessment: the stage that it comes to, and the looks that it asks for.
fn weighed(core: &mut Core) -> (&'static str, Vec<Look>) {
    core.weigh(moment(NOW), SINCE);
    let ordered = core.ordered().into_iter();
    let looks = ordered.filter_map(|a| match a {
        Action::Look(look) => Some(look),
        _ => None,
    });
    (core.stage.word(), looks.collect())
}

#[test]
fn an_assessment_waits_for_the_path_and_asks_for_it_again_each_second() {
    let waits = |read: Option<Time>, ask_at: Time| {
        let mut core = Core::assessing(with(dark(well()), |k| k.paths_read = read));
        core.ask_paths_at = ask_at;
        let (stage, looks) = weighed(&mut core);
        (stage, looks, core.ask_paths_at)
    };
    let asked = vec![Look::Paths];
    let later = NOW + S;
    assert_eq!(waits(None, NOW), ("proving", asked.clone(), later));
    assert_eq!(waits(Some(SINCE - MS), NOW), ("proving", asked, later));
    let due = NOW + MS;
    assert_eq!(waits(Some(SINCE - MS), due), ("proving", vec![], due));
    // Read at the instant at which the assessment began it counts.
    let (stage, looks, _) = waits(Some(SINCE), NOW);
    assert_eq!((stage, looks.contains(&Look::Paths)), ("curing", false));
}

#[test]
fn nothing_is_weighed_while_something_has_to_be_read_first() {
    for unread in [
        (|core: &mut Core| core.path_unread = true) as fn(&mut Core),
        |core| core.loss_unread = true,
    ] {
        let mut core = Core::assessing(dark(well()));
        unread(&mut core);
        assert_eq!(weighed(&mut core).0, "proving");
    }
    let mut core = Core::assessing(dark(well()));
    assert_eq!(weighed(&mut core).0, "curing");
}

#[test]
fn a_dead_way_needs_no_fresh_word_of_tailscaled_and_all_else_does() {
    let stage = |k: Knowledge| weighed(&mut Core::assessing(k)).0;
    let old = |k: &mut Knowledge| k.tailnet_read = Some(SINCE - MS);
    assert_eq!(stage(with(dark(well()), old)), "curing");
    assert_eq!(
        stage(with(dark(well()), |k| k.tailnet_read = None)),
        "proving"
    );
    assert_eq!(stage(stuck()), "curing");
    assert_eq!(stage(with(stuck(), old)), "proving");
    // Seen at the instant of the beginning is fresh.
    assert_eq!(
        stage(with(stuck(), |k| k.tailnet_read = Some(SINCE))),
        "curing"
    );
    // One path of which nothing is known yet is waited for.
    let half = |k: &mut Knowledge| k.paths[1].judgement.judged_at = Some(SINCE - MS);
    assert_eq!(stage(with(stuck(), half)), "proving");
    // A person is waited for whatever the path is; not before tailscaled was seen.
    let person = |k: &mut Knowledge| k.tailnet.key_expired = true;
    let blind = |k: &mut Knowledge| {
        person(k);
        half(k);
    };
    assert_eq!(stage(with(well(), blind)), "quiet");
    let unseen = |k: &mut Knowledge| {
        person(k);
        old(k);
    };
    assert_eq!(stage(with(well(), unseen)), "proving");
    // The outside is down whatever tailscaled says.
    let nothing = all_dark(well(), Verdict::Closed);
    assert_eq!(stage(with(nothing, |k| k.tailnet_read = None)), "resting");
}

#[test]
fn what_would_tell_more_is_waited_for() {
    let stage = |k: Knowledge| weighed(&mut Core::assessing(k)).0;
    // Whether the control server answers, where tailscaled is offline and no fault is curable.
    let offline = with(with(well(), unasked), |k| {
        k.offline_since = Some(SINCE - S * 60);
        k.tailnet.online = Some(false);
    });
    assert_eq!(stage(offline.clone()), "verifying");
    assert_eq!(
        stage(with(offline, |k| ask(k, "wanb", Effort::Burst))),
        "proving"
    );
    // Whether large packets pass where control broke.
    let broke = with(well(), |k| k.offline_since = Some(SINCE - S * 60));
    assert_eq!(stage(broke.clone()), "curing");
    assert_eq!(
        stage(with(broke, |k| ask(k, "wan", Effort::Burst))),
        "proving"
    );
}

/// A core that sees lost state, and has done this so long ago.
fn did(cure: Cure, span: Duration) -> Core {
    let mut core = Core::assessing(lost(true));
    let act = Act {
        at: NOW - span,
        cure,
        why: String::new(),
        result: None,
    };
    core.episode.as_mut().unwrap().acts.push(act);
    core
}

#[test]
fn what_a_mending_did_is_looked_at_before_the_next() {
    let ordered = |cure: Cure, span: Duration, read: Time, k: &dyn Fn(&mut Knowledge)| {
        let mut core = did(cure, span);
        core.k.tailnet_read = Some(read);
        k(&mut core.k);
        let waits = core.mend_first(NOW, SINCE);
        let mends = core.ordered().into_iter();
        let acts = mends.filter(|a| !matches!(a, Action::Tell(_)));
        (waits, acts.collect::<Vec<_>>())
    };
    let (mend, over) = (Cure::Mend, Cure::Mend.patience() + S);
    let look = || (true, vec![Action::Look(Look::Tailnet)]);
    assert_eq!(ordered(mend, over, NOW - S - MS, &|_| ()), look());
    // At the instant when its time was over, and after that, is late enough.
    assert!(ordered(mend, over, NOW - S, &|_| ())
        .1
        .contains(&Action::Mend));
    // A look is not asked for again while it may still come.
    let (over, lately) = (Cure::Mend.patience(), NOW - VERIFY_EVERY + MS);
    assert_eq!(ordered(mend, over, lately, &|_| ()), (true, vec![]));
    // Nothing else is waited for, and nothing that is not there.
    let nudge = ordered(Cure::Nudge, Cure::Nudge.patience(), NOW - MS, &|_| ());
    assert!(nudge.1.contains(&Action::Mend));
    let whole = |k: &mut Knowledge| k.tailnet.lost.what.clear();
    assert_eq!(ordered(mend, over, lately, &whole), (false, vec![]));
}

#[test]
fn lost_state_is_put_back_before_anything_is_proved() {
    let mends = |k: Knowledge| Core::assessing(k).mends(NOW, SINCE).map(|f| f.len());
    assert_eq!(mends(lost(true)), Some(1));
    assert_eq!(mends(lost(false)), None);
    assert_eq!(mends(well()), None);
    // Other faults are none of it.
    assert_eq!(mends(dark(lost(true))), Some(1));
    let read = |at| with(lost(true), |k| k.tailnet_read = Some(at));
    assert_eq!(mends(read(SINCE - MS)), None);
    assert_eq!(mends(read(SINCE)), Some(1));
    // An act of a moment ago gets its time.
    let after = |cure, span| did(cure, span).mends(NOW, SINCE).is_some();
    let patience = Cure::Mend.patience();
    assert!(after(Cure::Mend, patience));
    assert!(!after(Cure::Mend, patience - MS));
    assert!(after(Cure::Nudge, MS));
    let mut core = Core::assessing(lost(true));
    assert!(core.mend_first(NOW, SINCE));
    assert!(core.ordered().contains(&Action::Mend));
    let mut core = Core::assessing(well());
    assert!(!core.mend_first(NOW, SINCE));
    assert_eq!(core.ordered(), []);
}

#[test]
fn rounds_are_over_when_neither_an_uplink_nor_a_path_is_asked() {
    let over =
        |change: &dyn Fn(&mut Knowledge)| Core::assessing(with(well(), change)).rounds_over();
    assert!(over(&|_| ()));
    assert!(!over(&|k| ask(k, "wanb", Effort::Beat)));
    assert!(!over(&|k| k.paths[1].judgement.begin(9, NOW, Effort::Beat)));
}
