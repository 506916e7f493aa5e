//! What each act orders, and what comes of its report.

use super::*;
use crate::core::sample::{self, dark, drill_of_wan, moment, well, MS, NOW, S, SINCE};

const V4: Family = Family::V4;

fn stuck() -> Fault {
    Fault::StuckControl {
        evidence: "old".into(),
    }
}

fn lost() -> Fault {
    Fault::LostState {
        lost: vec!["rule 5270".into()],
        mendable: true,
    }
}

fn stale() -> Fault {
    Fault::StalePaths {
        evidence: "older".into(),
    }
}

fn pinned(family: Family) -> Fault {
    Fault::PinnedRoute {
        family,
        device: None,
        open: vec!["wanb".into()],
        flaw: None,
        drill: false,
    }
}

/// Orders these acts; gives what was ordered, and for which reasons.
fn cured(core: &mut Core, cures: &[Cure], faults: &[Fault]) -> (Vec<Action>, Vec<String>) {
    core.cure(NOW, SINCE, cures, faults);
    let (mut acts, mut why) = (Vec::new(), Vec::new());
    for action in core.ordered() {
        match action {
            Action::Tell(Notice::Cure { text, .. }) => why.push(text),
            Action::Tell(_) => {}
            other => acts.push(other),
        }
    }
    (acts, why)
}

#[test]
fn each_act_is_ordered_for_its_own_faults_and_counted() {
    let faults = [stuck(), stale(), lost(), pinned(V4), pinned(Family::V6)];
    let text = |which: &[usize]| {
        let texts = which.iter().map(|n| faults[*n].to_string());
        texts.collect::<Vec<_>>().join("; ")
    };
    for (cure, action, why) in [
        (Cure::Nudge, Action::Nudge, text(&[1])),
        (Cure::Renew, Action::Renew, text(&[0, 1])),
        (Cure::Mend, Action::Mend, text(&[2])),
    ] {
        let mut core = Core::assessing(well());
        for times in 1..=2 {
            let (acts, reasons) = cured(&mut core, &[cure], &faults);
            assert_eq!(
                (&acts[..], &reasons[..]),
                (&[action.clone()][..], &[why.clone()][..])
            );
            let tried = &core.episode.as_ref().unwrap().tried;
            let counts = [tried.nudge, tried.renew, tried.mend];
            let own =
                [Cure::Nudge, Cure::Renew, Cure::Mend].map(|c| if c == cure { times } else { 0 });
            assert_eq!(counts, own);
        }
        assert_eq!(
            core.stage,
            Stage::Curing {
                since: SINCE,
                waiting: vec![cure],
                until: NOW + CURE_LIMIT
            }
        );
    }
    let mut core = Core::assessing(dark(well()));
    for times in 1..=2 {
        let (acts, why) = cured(&mut core, &[Cure::Steer(V4)], &faults);
        assert!(matches!(acts[..], [Action::Steer(V4, _)]), "{acts:?}");
        assert_eq!(why, [text(&[3])]);
        assert_eq!(core.episode.as_ref().unwrap().tried.steer, [times, 0]);
    }
}

#[test]
fn where_there_is_nowhere_to_go_it_rests() {
    let mut core = Core::assessing(dark(well()));
    core.k.verdicts.clear();
    let (acts, _) = cured(&mut core, &[Cure::Steer(V4)], &[pinned(V4)]);
    assert_eq!((acts, core.stage.word()), (vec![], "resting"));
}

#[test]
fn the_mark_goes_to_the_best_open_uplink_and_by_main_where_that_is_enough() {
    let target = |change: &dyn Fn(&mut Knowledge)| {
        let mut core = Core::assessing(dark(well()));
        change(&mut core.k);
        let steering = core.target(V4, SINCE)?;
        Some(steering.to.map(|hop| hop.device))
    };
    let by = |device: &str| Some(Some(device.to_string()));
    let steer = |k: &mut Knowledge| k.steering[0].to = Knowledge::hop(&k.uplinks[0], V4);
    let main = |k: &mut Knowledge| k.uplinks[1].v4.as_mut().unwrap().metric = Some(1);
    assert_eq!(target(&|_| ()), by("eth2"));
    assert_eq!(target(&steer), by("eth2"), "main goes elsewhere");
    // Main's own way was not enough just now: the mark goes there by a rule of ours.
    assert_eq!(target(&main), by("eth2"));
    let both = |k: &mut Knowledge| {
        steer(k);
        main(k);
    };
    assert_eq!(target(&both), Some(None));
    assert_eq!(target(&|k| k.verdicts.clear()), None);
}

#[test]
fn a_device_is_left_where_the_mark_goes_to_another() {
    let left = |change: &dyn Fn(&mut Knowledge)| {
        let mut core = Core::assessing(dark(well()));
        change(&mut core.k);
        cured(&mut core, &[Cure::Steer(V4)], &[pinned(V4)]);
        core.left[0].clone()
    };
    assert_eq!(left(&|_| ()).as_deref(), Some("eth1"));
    let there = |k: &mut Knowledge| k.paths[0].route.as_mut().unwrap().device = "eth2".into();
    assert_eq!(left(&there), None);
    assert_eq!(left(&|k| k.paths[0].route = None), None);
}

#[test]
fn a_way_back_that_breaks_soon_makes_the_next_one_wait_longer() {
    let flaps = |went_back: Option<Time>, flaps: u32, drill: bool| {
        let mut core = Core::assessing(dark(well()));
        (core.went_back, core.flaps) = (went_back, flaps);
        if drill {
            core.k.drilled = Some(drill_of_wan([true, true]));
        }
        cured(&mut core, &[Cure::Steer(V4)], &[pinned(V4)]);
        (core.flaps, core.went_back.is_none())
    };
    assert_eq!(flaps(None, 0, false), (0, true));
    let soon = NOW - FLAP_WITHIN + MS;
    assert_eq!(flaps(Some(soon), 0, false), (1, true));
    assert_eq!(flaps(Some(soon), 1, false), (2, true));
    assert_eq!(flaps(Some(soon), FLAP_MOST, false), (FLAP_MOST, true));
    assert_eq!(flaps(Some(NOW - FLAP_WITHIN), 0, false), (0, false));
    // A drill is no fault of the line's.
    assert_eq!(flaps(Some(soon), 0, true), (0, false));
}

#[test]
fn a_renewal_joins_a_nudge_that_still_runs() {
    let joined = |k: Knowledge, waiting: &[Cure]| {
        let mut core = Core::assessing(k);
        core.stage = Stage::Curing {
            since: SINCE,
            waiting: waiting.to_vec(),
            until: NOW + S,
        };
        core.join_renewal(NOW, SINCE, waiting);
        let renewed = core.ordered().contains(&Action::Renew);
        let Stage::Curing { waiting, .. } = core.stage else {
            panic!("{:?}", core.stage);
        };
        (renewed, waiting)
    };
    let both = vec![Cure::Renew, Cure::Nudge];
    assert_eq!(joined(sample::stuck(), &[Cure::Nudge]), (true, both));
    let alone = (false, vec![Cure::Nudge]);
    assert_eq!(joined(well(), &[Cure::Nudge]), alone, "nothing is stuck");
    let mend = [Cure::Mend];
    assert_eq!(joined(sample::stuck(), &mend), (false, mend.to_vec()));
    let two = [Cure::Nudge, Cure::Mend];
    assert_eq!(joined(sample::stuck(), &two), (false, two.to_vec()));
}

#[test]
fn a_restart_is_booked_and_one_that_is_not_allowed_is_waited_for() {
    let rests_until = |core: &mut Core| {
        core.restart(moment(NOW), SINCE, &[stuck(), Fault::Userspace]);
        match &core.stage {
            Stage::Resting { until, why } => (*until - NOW, why.clone()),
            other => panic!("{other:?}"),
        }
    };
    let mut core = Core::assessing(well());
    core.restart(moment(NOW), SINCE, &[stuck(), Fault::Userspace]);
    let until = NOW + CURE_LIMIT;
    let waiting = vec![Cure::Restart];
    let since = SINCE;
    assert_eq!(
        core.stage,
        Stage::Curing {
            since,
            waiting,
            until
        }
    );
    let ordered = core.ordered();
    assert!(ordered.contains(&Action::Restart));
    let text = stuck().to_string();
    let told = ordered.iter().any(
        |a| matches!(a, Action::Tell(Notice::Cure { cure: Cure::Restart, text: t }) if *t == text),
    );
    assert!(told, "what cannot be cured is no reason: {ordered:?}");
    assert_eq!(core.episode.as_ref().unwrap().tried.restart, 1);
    // The next comes after the pause, of which it waits a minute at most.
    assert_eq!(
        rests_until(&mut core),
        (
            S * 60,
            "the next restart of tailscaled is allowed in 60 s".into()
        )
    );
    let limits = core.policy.limits.clone();
    core.budget.spend(NOW, 0, &limits);
    let text = "the next restart of tailscaled is allowed in 120 s";
    assert_eq!(rests_until(&mut core), (REST_LAST, text.into()));
    let mut sooner = Core::assessing(well());
    sooner.budget.spend(NOW - S * 50, 0, &limits);
    assert_eq!(rests_until(&mut sooner).0, S * 10);
    let mut never = Core::assessing(well());
    never.policy.limits.per_hour = 0;
    let (pause, why) = rests_until(&mut never);
    assert_eq!(pause, REST_LAST);
    assert!(why.contains("restarts_per_hour is 0"), "{why}");
    assert_eq!(
        never
            .ordered()
            .iter()
            .filter(|a| **a == Action::Restart)
            .count(),
        0
    );
}

/// What an act that was done has reported.
#[allow(clippy::unnecessary_wraps)]
fn report(change: impl FnOnce(&mut Report)) -> Result<Report, String> {
    let mut report = Report {
        text: "done".into(),
        missing: false,
        peer_answered: false,
    };
    change(&mut report);
    Ok(report)
}

/// A core that waits for what comes of these acts.
fn curing(cures: &[Cure]) -> Core {
    let mut core = Core::assessing(dark(well()));
    cured(&mut core, cures, &[stuck(), stale(), pinned(V4)]);
    core
}

#[test]
fn a_nudge_that_the_build_does_not_have_is_as_good_as_tried() {
    let missing = |cure: Cure, missing: bool, before: bool| {
        let mut core = curing(&[cure]);
        core.episode.as_mut().unwrap().tried.nudge_missing = before;
        core.take_cured(NOW, cure, report(|r| r.missing = missing));
        core.episode.unwrap().tried.nudge_missing
    };
    assert!(missing(Cure::Nudge, true, false));
    assert!(!missing(Cure::Nudge, false, false));
    assert!(missing(Cure::Nudge, false, true));
    assert!(!missing(Cure::Renew, true, false));
}

#[test]
fn a_peer_s_answer_counts_for_the_path_over_which_it_was_asked() {
    let answered = |moved: Duration, peer: bool| {
        let mut core = curing(&[Cure::Nudge]);
        core.k.epoch.since = NOW + moved;
        core.take_cured(NOW + S, Cure::Nudge, report(|r| r.peer_answered = peer));
        core.k.epoch.peer_answered
    };
    assert!(answered(Duration::ZERO, true));
    assert!(!answered(MS, true), "the path has moved since");
    assert!(!answered(Duration::ZERO, false));
    // It is the same act that was asked for last.
    let mut core = curing(&[Cure::Renew, Cure::Nudge]);
    let acts = &mut core.episode.as_mut().unwrap().acts;
    acts.iter_mut()
        .filter(|a| a.cure == Cure::Renew)
        .for_each(|a| a.at = NOW - S);
    core.k.epoch.since = NOW;
    core.take_cured(NOW, Cure::Renew, report(|r| r.peer_answered = true));
    assert!(!core.k.epoch.peer_answered);
}

#[test]
fn a_move_that_the_kernel_refuses_leaves_what_was_there() {
    let steer = Cure::Steer(V4);
    let mut core = curing(&[steer]);
    assert!(core.k.steering[0].to.is_some());
    core.take_cured(NOW, steer, Err("EPERM".into()));
    assert!(core.k.steering[0].to.is_none());
    let mut core = curing(&[steer]);
    core.take_cured(NOW, steer, report(|_| ()));
    assert!(core.k.steering[0].to.is_some());
}

#[test]
fn the_next_stage_begins_when_all_acts_have_ended() {
    let ended = |cures: &[Cure], order: &[Cure]| {
        let mut core = curing(cures);
        for cure in order {
            core.take_cured(NOW, *cure, report(|_| ()));
        }
        let looks = core.looks();
        let unread = (core.path_unread, core.loss_unread);
        (core.stage.word(), unread, looks)
    };
    let (nudge, renew, mend, steer) = (Cure::Nudge, Cure::Renew, Cure::Mend, Cure::Steer(V4));
    let nothing = (false, false);
    assert_eq!(
        ended(&[nudge, renew], &[renew]),
        ("curing", nothing, vec![])
    );
    assert_eq!(
        ended(&[nudge, renew], &[nudge]),
        ("curing", nothing, vec![])
    );
    let (stage, unread, _) = ended(&[nudge, renew], &[renew, nudge]);
    assert_eq!((stage, unread), ("verifying", nothing));
    // The path is read, or the kernel's state, before anything else is done.
    assert_eq!(
        ended(&[steer], &[steer]),
        ("proving", (true, false), vec![Look::Paths])
    );
    assert_eq!(
        ended(&[mend], &[mend]),
        ("proving", (false, true), vec![Look::Tailnet])
    );
    let both = ended(&[steer, mend], &[steer, mend]);
    assert_eq!(both, ("proving", (true, true), vec![Look::All]));
    // A report that nobody waits for: what we moved ourselves the kernel watch does not tell.
    let late = |cure| {
        let mut core = Core::assessing(well());
        core.stage = Stage::Quiet;
        core.take_cured(NOW, cure, report(|_| ()));
        core.ordered().contains(&Action::Look(Look::Paths))
    };
    assert!(late(steer) && !late(renew));
}

#[test]
fn what_has_happened_meanwhile_is_looked_at_but_a_restart_is_watched_first() {
    for (last, again, stage, left) in [
        (Cure::Renew, true, "proving", false),
        (Cure::Renew, false, "verifying", false),
        (Cure::Restart, true, "verifying", true),
    ] {
        let mut core = Core::assessing(well());
        core.again = again;
        core.cured(NOW, SINCE, last);
        assert_eq!((core.stage.word(), core.again), (stage, left), "{last}");
    }
}
