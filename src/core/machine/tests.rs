//! When the machine wakes, what it asks, and what each stage does when its time has come.

use super::*;
use crate::core::sample::{judged, moment, well, MS, NOW, S, SINCE};

/// How long it sleeps from now.
fn sleeps(core: &mut Core) -> Duration {
    core.wake(NOW);
    match core.ordered().as_slice() {
        [Action::Wake(at)] => *at - NOW,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_stage_wakes_when_it_has_something_to_do() {
    let far = S * 900;
    let until = NOW + S * 7;
    let (after, waiting, why) = (Vec::new, Vec::new, String::new);
    let since = SINCE;
    for (stage, expected) in [
        (Stage::Quiet, far),
        (Stage::Proving { since }, S),
        (
            Stage::Curing {
                since,
                waiting: waiting(),
                until,
            },
            S * 7,
        ),
        (
            Stage::Verifying {
                since,
                after: after(),
                until,
            },
            MS * 150,
        ),
        (
            Stage::Verifying {
                since,
                after: after(),
                until: NOW + MS * 20,
            },
            MS * 20,
        ),
        (Stage::Resting { until, why: why() }, S * 7),
    ] {
        let mut core = Core::still(well());
        core.stage = stage.clone();
        assert_eq!(sleeps(&mut core), expected, "{stage:?}");
    }
}

#[test]
fn in_quiet_times_the_first_that_is_due_wakes() {
    let soon = NOW + S * 9;
    let wakes = |change: &dyn Fn(&mut Core)| {
        let mut core = Core::still(well());
        change(&mut core);
        let quiet = sleeps(&mut core);
        core.woken_for = None;
        core.stage = Stage::Resting {
            until: NOW + S * 800,
            why: String::new(),
        };
        (quiet, sleeps(&mut core))
    };
    let (own, at_rest) = (S * 9, S * 800);
    assert_eq!(wakes(&|c| c.look_at = soon), (own, at_rest));
    assert_eq!(wakes(&|c| c.beat_at = soon), (own, at_rest));
    assert_eq!(wakes(&|c| c.other_at = soon), (own, at_rest));
    assert_eq!(wakes(&|c| c.pulse_at = soon), (own, own));
    assert_eq!(wakes(&|c| c.settle_at = Some(soon)), (own, own));
    // What nobody waits for does not wake.
    let far = S * 900;
    assert_eq!(wakes(&|c| c.return_at = soon), (far, at_rest));
    assert_eq!(wakes(&|c| c.ask_control_at = soon), (far, at_rest));
    assert_eq!(wakes(&|c| c.recheck_at = soon), (far, at_rest));
    let away = |c: &mut Core| {
        let other = &c.k.uplinks[1];
        c.k.steering[0].to = Knowledge::hop(other, Family::V4);
        c.return_at = soon;
    };
    assert_eq!(wakes(&away), (own, at_rest));
    let control_down = |c: &mut Core| {
        c.faults = vec![Fault::ControlDown { why: String::new() }];
        c.control_asked = NOW;
        c.ask_control_at = soon;
    };
    assert_eq!(wakes(&control_down), (own, at_rest));
    let odd = |c: &mut Core| {
        let other = c.k.verdicts.get_mut(&("wanb".into(), Family::V4)).unwrap();
        other.flaws.large = Some(String::new());
        c.recheck_at = soon;
    };
    assert_eq!(wakes(&odd), (own, at_rest));
}

#[test]
fn what_is_asked_and_what_is_away_wakes_in_every_stage() {
    let wakes = |change: &dyn Fn(&mut Core)| {
        let mut core = Core::still(well());
        core.stage = Stage::Curing {
            since: SINCE,
            waiting: Vec::new(),
            until: NOW + S * 45,
        };
        change(&mut core);
        sleeps(&mut core)
    };
    assert_eq!(wakes(&|_| ()), S * 45);
    let away = |c: &mut Core| c.away[1] = Away::Since(NOW - GONE_FOR + MS * 90);
    assert_eq!(wakes(&away), MS * 90);
    assert_eq!(wakes(&|c| c.away[1] = Away::TooLong), S * 45);
    let lost = |c: &mut Core| c.k.lost_since = Some(NOW - LOST_FOR_SURE + MS * 80);
    assert_eq!(wakes(&lost), MS * 80);
    let asked = |c: &mut Core| {
        lost(c);
        c.second_look_asked = true;
    };
    assert_eq!(wakes(&asked), S * 45);
    let path_asked = |c: &mut Core| {
        let path = &mut c.k.paths[1].judgement;
        path.begin(1, NOW + S * 2, Effort::Beat);
    };
    assert_eq!(wakes(&path_asked), S * 2);
    let uplink_asked = |c: &mut Core| {
        let uplink = c.k.verdicts.get_mut(&("wanb".into(), Family::V6)).unwrap();
        uplink.begin(1, NOW + S * 3, Effort::Beat);
    };
    assert_eq!(wakes(&uplink_asked), S * 3);
    // A silent tailscaled is looked at once a second, where nothing else is being done about it.
    let silent = |c: &mut Core| c.k.tailnet.api = Api::Gone;
    assert_eq!(wakes(&silent), S * 45);
    let at_rest = |c: &mut Core| {
        silent(c);
        c.stage = Stage::Quiet;
    };
    assert_eq!(wakes(&at_rest), S);
}

#[test]
fn a_suspicion_wakes_while_its_time_is_to_come() {
    let mut core = Core::still(well());
    core.suspicion = Some(suspect::Suspicion::test(NOW));
    let due = core.suspicion_due().unwrap();
    assert_eq!(sleeps(&mut core), due - NOW);
    for past in [due - NOW, due - NOW + MS] {
        let mut core = Core::still(well());
        core.suspicion = Some(suspect::Suspicion::test(NOW - past));
        assert_eq!(sleeps(&mut core), S * 900, "that has come already");
    }
}

#[test]
fn it_never_wakes_without_a_pause_and_says_each_time_once() {
    let mut core = Core::still(well());
    core.look_at = NOW - S;
    assert_eq!(sleeps(&mut core), MS);
    core.wake(NOW);
    assert_eq!(core.ordered(), [], "that is known");
    core.look_at = NOW + S;
    assert_eq!(sleeps(&mut core), S);
}

#[test]
fn one_that_is_woken_five_seconds_late_trusts_nothing_of_before() {
    let void = |late: Duration| {
        let mut core = Core::still(well());
        core.round = 7;
        core.woken_for = Some(NOW - late);
        core.step(moment(NOW), Input::Wake);
        core.void
    };
    assert_eq!(void(OVERSLEPT), 0);
    assert_eq!(void(OVERSLEPT + MS), 7);
}

#[test]
fn the_end_of_a_round_is_taken_at_its_deadline() {
    let mut core = Core::still(well());
    let uplink = ("wanb".to_string(), Family::V4);
    let path = &mut core.k.paths[0].judgement;
    path.begin(1, NOW, Effort::Burst);
    let other = core.k.verdicts.get_mut(&uplink).unwrap();
    other.begin(2, NOW, Effort::Burst);
    core.expire(NOW - MS);
    assert!(core.k.paths[0].judgement.verdict.is_open());
    core.expire(NOW);
    assert_eq!(core.k.paths[0].judgement.verdict, Verdict::Closed);
    assert_eq!(core.k.verdicts[&uplink].verdict, Verdict::Closed);
}

#[test]
fn what_has_come_due_is_looked_at() {
    let looked = |change: &dyn Fn(&mut Core)| {
        let mut core = Core::still(well());
        change(&mut core);
        core.go_on(moment(NOW));
        core.looks()
    };
    assert_eq!(looked(&|_| ()), []);
    assert_eq!(looked(&|c| c.settle_at = Some(NOW + MS)), []);
    assert_eq!(looked(&|c| c.settle_at = Some(NOW)), [Look::All]);
    let since = |t: Time| move |c: &mut Core| c.away[0] = Away::Since(t);
    assert_eq!(looked(&since(NOW - GONE_FOR + MS)), []);
    assert_eq!(looked(&since(NOW - GONE_FOR)), [Look::Paths]);
    let lost = |t: Time| {
        move |c: &mut Core| {
            c.k.lost_since = Some(t);
            c.k.tailnet_read = Some(t);
        }
    };
    assert_eq!(looked(&lost(NOW - LOST_FOR_SURE + MS)), []);
    assert_eq!(looked(&lost(NOW - LOST_FOR_SURE)), [Look::Tailnet]);
    let asked = |c: &mut Core| {
        lost(NOW - LOST_FOR_SURE)(c);
        c.second_look_asked = true;
    };
    assert_eq!(looked(&asked), [], "once is enough");
    assert_eq!(looked(&|c| c.pulse_at = NOW + MS), []);
    assert_eq!(looked(&|c| c.pulse_at = NOW), [Look::Counters]);
}

#[test]
fn a_second_look_comes_when_the_first_would_be_sure() {
    let at = |change: &dyn Fn(&mut Core)| {
        let mut core = Core::still(well());
        core.k.tailnet_read = Some(SINCE);
        change(&mut core);
        core.second_look_at()
    };
    let lost = |c: &mut Core| c.k.lost_since = Some(SINCE);
    let offline = |c: &mut Core| c.k.offline_since = Some(SINCE);
    assert_eq!(at(&|_| ()), None);
    assert_eq!(at(&lost), Some(SINCE + LOST_FOR_SURE));
    assert_eq!(at(&offline), Some(SINCE + OFFLINE_TOO_LONG));
    let both = |c: &mut Core| {
        lost(c);
        offline(c);
    };
    assert_eq!(at(&both), Some(SINCE + LOST_FOR_SURE));
    // Being offline counts from the last change of the path, and in quiet times.
    let moved = |c: &mut Core| {
        offline(c);
        c.k.epoch.since = SINCE + S * 3;
    };
    assert_eq!(at(&moved), Some(SINCE + S * 3 + OFFLINE_TOO_LONG));
    let busy = |c: &mut Core| {
        offline(c);
        c.stage = Stage::Proving { since: SINCE };
    };
    assert_eq!(at(&busy), None);
    let no_wonder = |c: &mut Core| {
        offline(c);
        c.faults = vec![Fault::ControlDown { why: String::new() }];
        c.control_asked = NOW;
    };
    assert_eq!(at(&no_wonder), None);
    // A look at that instant is one.
    for (read, expected) in [
        (SINCE + LOST_FOR_SURE - MS, Some(SINCE + LOST_FOR_SURE)),
        (SINCE + LOST_FOR_SURE, None),
    ] {
        let seen = |c: &mut Core| {
            lost(c);
            c.k.tailnet_read = Some(read);
        };
        assert_eq!(at(&seen), expected);
    }
}

#[test]
fn acts_that_report_nothing_have_failed_when_their_time_is_over() {
    let curing = |until| {
        let mut core = Core::still(well());
        core.stage = Stage::Curing {
            since: SINCE,
            waiting: vec![Cure::Nudge],
            until,
        };
        core.go_on(moment(NOW));
        let told = core.ordered().into_iter();
        let failed =
            told.filter(|a| matches!(a, Action::Tell(Notice::Done { result: Err(_), .. })));
        (failed.count(), core.stage.word())
    };
    assert_eq!(curing(NOW + MS), (0, "curing"));
    assert_eq!(curing(NOW), (1, "verifying"));
}

#[test]
fn a_rest_ends_when_it_was_meant_to() {
    let resting = |until| {
        let mut core = Core::still(well());
        core.stage = Stage::Resting {
            until,
            why: String::new(),
        };
        core.go_on(moment(NOW));
        core.stage.word()
    };
    assert_eq!(resting(NOW + MS), "resting");
    assert_eq!(resting(NOW), "proving");
}

/// The effort with which an uplink is asked, if it is.
fn asked(k: Knowledge, stage: Stage, name: &str, effort: Effort) -> Option<Effort> {
    let mut core = Core::still(k);
    core.stage = stage;
    core.probe_uplink(NOW, name, Family::V4, effort);
    match core.ordered().as_slice() {
        [] => None,
        [Action::Probe {
            scope: Scope::Uplink(asked, Family::V4),
            effort,
            ..
        }] if asked == name => Some(*effort),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_metered_uplink_is_asked_in_full_only_where_that_is_needed() {
    let proving = || Stage::Proving { since: SINCE };
    let metered = |n: usize, verdict| {
        let mut k = well();
        k.uplinks[n].metered = true;
        let name = k.uplinks[n].name.clone();
        k.verdicts.insert((name, Family::V4), judged(verdict));
        k
    };
    let burst = |k, stage, name| asked(k, stage, name, Effort::Burst);
    let few = Some(Effort::Suspect);
    let full = Some(Effort::Burst);
    assert_eq!(burst(well(), proving(), "wanb"), full);
    assert_eq!(burst(metered(1, Verdict::Open), proving(), "wanb"), few);
    assert_eq!(burst(metered(0, Verdict::Open), proving(), "wan"), full);
    // Somebody may have passed its portal, which matters while another way is needed.
    assert_eq!(burst(metered(1, Verdict::Portal), proving(), "wanb"), full);
    let quiet = metered(1, Verdict::Portal);
    assert_eq!(burst(quiet, Stage::Quiet, "wanb"), few);
    let beat = asked(metered(1, Verdict::Open), proving(), "wanb", Effort::Beat);
    assert_eq!(beat, Some(Effort::Beat));
    // One without that family, and one that is not there, are not asked.
    let mut k = well();
    k.uplinks[1].v4 = None;
    assert_eq!(burst(k, proving(), "wanb"), None);
    assert_eq!(burst(well(), proving(), "wanc"), None);
}

#[test]
fn a_heartbeat_does_not_break_off_a_full_round() {
    for (under_way, effort, expected) in [
        (None, Effort::Beat, true),
        (Some(Effort::Beat), Effort::Beat, true),
        (Some(Effort::Burst), Effort::Beat, false),
        (Some(Effort::Burst), Effort::Suspect, true),
    ] {
        let mut core = Core::still(well());
        if let Some(effort) = under_way {
            let path = &mut core.k.paths[0].judgement;
            path.begin(1, NOW + S, effort);
        }
        core.probe_path(NOW, Family::V4, effort);
        let asked = !core.ordered().is_empty();
        assert_eq!(asked, expected, "{under_way:?} {effort:?}");
        if asked {
            let deadline = core.k.paths[0].judgement.deadline();
            assert_eq!(deadline, Some(NOW + S * 2));
        }
    }
}

#[test]
fn everything_is_asked_once_in_each_family_that_it_has() {
    let mut k = well();
    k.uplinks[1].v6 = None;
    let mut core = Core::still(k);
    core.probe_all(NOW, Effort::Beat);
    let scopes = core.asked(Effort::Beat);
    let wan = |f| Scope::Uplink("wan".into(), f);
    assert_eq!(
        scopes,
        [
            wan(Family::V4),
            wan(Family::V6),
            Scope::Uplink("wanb".into(), Family::V4)
        ]
    );
}

#[test]
fn each_stage_goes_by_a_word_of_its_own() {
    let until = NOW;
    let (since, why) = (SINCE, String::new());
    let stages = [
        Stage::Quiet,
        Stage::Proving { since },
        Stage::Curing {
            since,
            waiting: Vec::new(),
            until,
        },
        Stage::Verifying {
            since,
            after: Vec::new(),
            until,
        },
        Stage::Resting { until, why },
    ];
    assert_eq!(stages.map(|s| s.word()), Stage::WORDS);
}

#[test]
fn restarts_of_the_last_hour_are_counted() {
    let mut core = Core::still(well());
    assert_eq!(core.restarts(NOW), 0);
    let limits = core.policy.limits.clone();
    core.budget.spend(NOW - S * 100, 0, &limits);
    core.budget.spend(NOW, 0, &limits);
    assert_eq!(core.restarts(NOW), 2);
}

#[test]
fn faults_are_told_in_a_row() {
    let stuck = |text: &str| Fault::StuckControl {
        evidence: text.into(),
    };
    let faults = [stuck("a"), Fault::Userspace, stuck("b")];
    let text = fault_text(&faults, Fault::curable);
    let each = [faults[0].to_string(), faults[2].to_string()];
    assert_eq!(text, each.join("; "));
    assert_eq!(fault_text(&faults, |_| false), "");
}

#[test]
fn what_is_known_is_there_to_be_told() {
    let mut core = Core::still(well());
    assert!(core.well());
    assert_eq!(core.knowledge().uplinks, well().uplinks);
    assert!(core.episode().is_none() && core.timeline().rows().is_empty());
    core.step(moment(NOW), Input::Wake);
    assert_eq!(core.timeline().rows().len(), 4);
    core.begin_episode(NOW, Origin::Owner, "asked".into());
    let trigger = core.episode().map(|e| e.trigger.as_str());
    assert_eq!(trigger, Some("asked"));
    let fault = Fault::Userspace;
    core.name_faults(std::slice::from_ref(&fault));
    core.end(NOW + S, Outcome::NotOurs);
    assert_eq!(core.history().iter().len(), 1);
    assert_eq!(core.faults(), [fault]);
    let mut ill = Core::still(crate::core::sample::dark(well()));
    assert!(!ill.well());
    ill.k.tailnet.api = Api::Gone;
    assert!(!ill.well());
}
