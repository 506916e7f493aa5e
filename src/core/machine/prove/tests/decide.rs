//! What is done on the evidence, and what is told.

use super::*;

fn steered(core: &mut Core) -> bool {
    let ordered = core.ordered();
    ordered.iter().any(|a| matches!(a, Action::Steer(..)))
}

#[test]
fn a_portal_alone_is_asked_every_half_minute_and_a_dead_outside_less_and_less_often() {
    let rests = |verdict, rests: u32| {
        let mut core = Core::assessing(all_dark(well(), verdict));
        core.rests = rests;
        assert_eq!(decided(&mut core).0, "resting");
        match core.stage {
            Stage::Resting { until, .. } => until - NOW,
            _ => unreachable!(),
        }
    };
    assert_eq!(rests(Verdict::Closed, 0), REST_FIRST);
    assert_eq!(rests(Verdict::Portal, 0), REST_FIRST);
    assert_eq!(rests(Verdict::Closed, 6), REST_LAST);
    assert_eq!(rests(Verdict::Portal, 6), PORTAL_EVERY);
}

#[test]
fn that_tailscaled_was_kept_waiting_is_known_until_it_was_made_to_try_again() {
    let waits = |change: &dyn Fn(&mut Core)| {
        let mut core = Core::assessing(all_dark(well(), Verdict::Closed));
        change(&mut core);
        decided(&mut core);
        core.k.kept_waiting
    };
    assert!(waits(&|_| ()));
    assert!(!waits(&|c| c.policy.allowed.renew = false));
    let tried = |c: &mut Core| c.episode.as_mut().unwrap().tried.renew = 1;
    assert!(
        !waits(&tried),
        "it was made to before, and that did not help"
    );
    let waiting = || {
        let mut core = Core::assessing(broken());
        core.k.kept_waiting = true;
        core
    };
    let mut core = waiting();
    assert_eq!(decided(&mut core), ("curing", vec![Action::Renew]));
    assert!(!core.k.kept_waiting);
    let mut core = waiting();
    core.restart(moment(NOW), SINCE, &[]);
    assert!(!core.k.kept_waiting);
    let mut core = waiting();
    core.rest_quietly(NOW);
    assert!(!core.k.kept_waiting);
    let new = |pid: u32| {
        let mut core = waiting();
        core.pid = Some(9);
        let mut tailnet = core.k.tailnet.clone();
        tailnet.pid = Some(pid);
        core.take_tailnet(NOW, tailnet);
        core.k.kept_waiting
    };
    assert!(new(9) && !new(10));
}

#[test]
fn without_a_proved_way_out_nothing_is_done_and_what_still_runs_is_waited_for() {
    let nothing = || {
        with(stuck(), |k| {
            k.verdicts.clear();
            for path in &mut k.paths {
                path.judgement = Judgement::default();
            }
        })
    };
    assert_eq!(
        decided(&mut Core::assessing(nothing())),
        ("resting", vec![])
    );
    let under_way = with(nothing(), |k| {
        k.paths[1].judgement.begin(9, NOW + S, Effort::Burst);
    });
    assert_eq!(
        decided(&mut Core::assessing(under_way)),
        ("proving", vec![])
    );
}

#[test]
fn what_is_well_ends_the_assessment_and_what_is_not_yet_is_watched() {
    assert_eq!(decided(&mut Core::assessing(well())).0, "quiet");
    let starting = with(well(), |k| {
        k.tailnet.backend = crate::core::tailnet::Backend::Starting;
    });
    assert_eq!(decided(&mut Core::assessing(starting)).0, "verifying");
    assert!(steered(&mut {
        let mut core = Core::assessing(dark(well()));
        let faults = diagnose(&core.k, NOW, SINCE);
        core.decide(moment(NOW), SINCE, faults);
        core
    }));
}

#[test]
fn a_build_without_debug_actions_is_not_nudged() {
    let built = |debug: Option<bool>| with(stale(), |k| k.tailnet.abilities.debug = debug);
    for (debug, missing, cure) in [
        (Some(true), false, Action::Nudge),
        (None, false, Action::Nudge),
        (Some(false), false, Action::Renew),
        // One that said so once has not got them since.
        (Some(true), true, Action::Renew),
    ] {
        let mut core = Core::assessing(built(debug));
        core.episode.as_mut().unwrap().tried.nudge_missing = missing;
        assert_eq!(decided(&mut core).1, [cure], "{debug:?} {missing}");
    }
}

#[test]
fn a_renewal_waits_for_the_control_server_and_says_why() {
    let waits = |k: Knowledge, faults: &[Fault]| {
        let mut core = Core::assessing(k);
        core.await_control(NOW, SINCE, faults);
        match core.stage {
            Stage::Resting { why, .. } => Some(why),
            _ => None,
        }
    };
    let text = |why: &str| Some(format!("the control server has to answer first ({why})"));
    let names = Fault::NamesDead {
        why: "no resolver".into(),
    };
    assert_eq!(waits(with(stuck(), unasked), &[]), text("no answer yet"));
    let under_way = |k: &mut Knowledge| k.paths[1].judgement.begin(9, NOW + S, Effort::Burst);
    let asked = || with(with(stuck(), unasked), under_way);
    assert_eq!(waits(asked(), &[]), None);
    assert_eq!(
        waits(asked(), std::slice::from_ref(&names)),
        text("no resolver")
    );
    let failed =
        |k: &mut Knowledge| k.paths[0].judgement.control = Some((Err("refused".into()), NOW));
    assert_eq!(waits(with(asked(), failed), &[names]), text("refused"));
    // A flaw of the way is the reason, unless another way may be found sound.
    let hindered = |k: &mut Knowledge| {
        for f in Family::BOTH {
            let uplink = k.verdicts.get_mut(&("wan".into(), f)).unwrap();
            uplink.flaws.large = Some("1400 bytes".into());
        }
    };
    let flaw = text("large packets are lost (1400 bytes)");
    let asked = || {
        with(with(stuck(), unasked), |k| {
            hindered(k);
            under_way(k);
        })
    };
    assert_eq!(waits(asked(), &[]), flaw);
    let others = |k: &mut Knowledge| ask(k, "wanb", Effort::Burst);
    assert_eq!(waits(with(asked(), others), &[]), None);
    let known = with(with(asked(), others), failed);
    assert_eq!(waits(known, &[]), text("refused"));
    assert_eq!(waits(with(with(stuck(), unasked), others), &[]), None);
}

#[test]
fn an_act_gets_its_time_before_it_is_done_again() {
    let next = |cures: &[Cure]| Next::Do(cures.to_vec());
    let core = |acts: &[(Cure, Duration)]| {
        let mut core = Core::assessing(well());
        for (cure, ago) in acts {
            core.episode.as_mut().unwrap().acts.push(Act {
                at: NOW - *ago,
                cure: *cure,
                why: String::new(),
                result: None,
            });
        }
        core
    };
    let renew = Cure::Renew.patience();
    let working =
        |acts: &[(Cure, Duration)], cures: &[Cure]| core(acts).still_working(NOW, &next(cures));
    let done = |ago| [(Cure::Renew, ago)];
    let waits = Some((vec![Cure::Renew], NOW + MS));
    assert_eq!(working(&done(renew - MS), &[Cure::Renew]), waits);
    assert_eq!(working(&done(renew), &[Cure::Renew]), None);
    // A restart would take the place of what is under way; another mild act does not wait for it.
    assert_eq!(working(&done(renew - MS), &[Cure::Restart]), waits);
    assert_eq!(working(&done(renew - MS), &[Cure::Nudge]), None);
    assert_eq!(
        working(&done(renew - MS), &[Cure::Renew, Cure::Nudge]),
        None
    );
    let steer = Cure::Steer(Family::V4);
    assert_eq!(working(&done(renew - MS), &[steer]), None);
    assert_eq!(
        working(&[(steer, MS)], &[Cure::Restart]),
        None,
        "it is proved anew instead"
    );
    // The longest patience counts.
    let both = [(Cure::Nudge, MS), (Cure::Renew, MS * 2)];
    let until = NOW + renew - MS * 2;
    let waits = Some((vec![Cure::Nudge, Cure::Renew], until));
    assert_eq!(working(&both, &[Cure::Nudge, Cure::Renew]), waits);
    // What was done before the path moved is void.
    let mut moved = core(&done(MS * 2));
    moved.k.epoch.since = NOW - MS * 2;
    assert!(moved.still_working(NOW, &next(&[Cure::Renew])).is_some());
    moved.k.epoch.since = NOW - MS;
    assert_eq!(moved.still_working(NOW, &next(&[Cure::Renew])), None);
    let nothing = Next::Nothing(String::new());
    assert_eq!(core(&done(MS)).still_working(NOW, &nothing), None);
}

#[test]
fn a_fault_is_told_once_in_an_episode_and_what_goes_on_for_long_once_in_all() {
    let told = |core: &mut Core, fault: &Fault| {
        core.name_faults(std::slice::from_ref(fault));
        core.ordered().len()
    };
    let stuck = Fault::StuckControl {
        evidence: "old".into(),
    };
    let looping = Fault::CrashLoop { ends: 3 };
    for (fault, again) in [(&stuck, 1), (&looping, 0)] {
        let mut core = Core::assessing(well());
        assert_eq!(told(&mut core, fault), 1);
        assert_eq!(told(&mut core, fault), 0);
        core.begin_episode(NOW, Origin::Path, "another".into());
        core.ordered();
        assert_eq!(told(&mut core, fault), again, "{fault}");
    }
    // Another of its kind is news.
    let mut core = Core::assessing(well());
    told(&mut core, &looping);
    core.begin_episode(NOW, Origin::Path, "another".into());
    core.ordered();
    let refused = Fault::ApiRefuses { why: "403".into() };
    assert_eq!(told(&mut core, &refused), 1);
    // Without an episode nothing is told, and it is known all the same.
    let mut core = Core::knowing(well());
    assert_eq!(told(&mut core, &stuck), 0);
    assert_eq!(core.faults(), [stuck]);
}
