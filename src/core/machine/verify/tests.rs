//! What comes of the acts: health, another cure, a rest, the end of an episode.

use super::*;
use crate::core::episode::{Act, Drill};
use crate::core::sample::{
    all_dark, ask, control_silent, dark, everywhere, flow, judged, lost, moment, stale, stuck,
    unasked, well, with, ASKED, MS, NOW, S, SINCE,
};

/// A core whose acts were done, which is watched until `NOW` + 5 s.
fn verifying(k: Knowledge, after: &[Cure]) -> Core {
    let stage = Stage::Verifying {
        since: SINCE,
        after: after.to_vec(),
        until: NOW + S * 5,
    };
    Core::in_stage(k, stage)
}

/// The tailnet is not well, and nothing that is wrong can be named.
fn unnamed() -> Knowledge {
    with(well(), |k| k.tailnet.backend = Backend::Starting)
}

/// What the check at that time comes to: the stage, and what is ordered but for words.
fn checked(core: &mut Core, now: Time) -> (&'static str, Vec<Action>) {
    let Stage::Verifying {
        since,
        after,
        until,
    } = core.stage.clone()
    else {
        panic!("{:?}", core.stage);
    };
    core.check(moment(now), since, until, &after);
    let acts = core.ordered().into_iter();
    let acts = acts.filter(|a| !matches!(a, Action::Tell(_)));
    (core.stage.word(), acts.collect())
}

#[test]
fn the_acts_with_the_longest_patience_say_how_long_is_watched() {
    for (after, patience) in [
        (vec![], UNNAMED_PATIENCE),
        (vec![Cure::Nudge], S * 6),
        (vec![Cure::Renew, Cure::Nudge], S * 8),
    ] {
        let mut core = Core::knowing(well());
        core.verify(NOW, SINCE, after.clone());
        let (since, until) = (SINCE, NOW + patience);
        assert_eq!(
            core.stage,
            Stage::Verifying {
                since,
                after,
                until
            }
        );
        assert_eq!(core.ordered(), [Action::Look(Look::Tailnet)]);
    }
}

#[test]
fn a_tailnet_that_is_well_ends_the_watch() {
    let mut core = verifying(well(), &[Cure::Renew]);
    assert_eq!(checked(&mut core, NOW).0, "quiet");
    // What cannot be cured stays named.
    let silent = with(well(), |k| {
        control_silent(k, "refused");
        k.tailnet.online = Some(false);
    });
    let mut core = verifying(silent, &[Cure::Renew]);
    assert_eq!(checked(&mut core, NOW).0, "quiet");
    let named: Vec<_> = core.faults().iter().map(Fault::id).collect();
    assert_eq!(named, ["control-down"]);
}

#[test]
fn acts_get_their_time_while_tailscaled_is_looked_at_now_and_then() {
    let look = vec![Action::Look(Look::Tailnet)];
    let looked = |read: Time| {
        let mut core = verifying(
            with(unnamed(), |k| k.tailnet_read = Some(read)),
            &[Cure::Nudge],
        );
        checked(&mut core, NOW)
    };
    assert_eq!(looked(NOW - VERIFY_EVERY), ("verifying", look));
    assert_eq!(looked(NOW - VERIFY_EVERY + MS), ("verifying", vec![]));
    let until = NOW + S * 5;
    let at = |now| checked(&mut verifying(unnamed(), &[Cure::Nudge]), now).0;
    assert_eq!(at(until - MS), "verifying");
    assert_eq!(at(until), "resting");
    let why = |k: Knowledge| {
        let mut core = verifying(k, &[Cure::Nudge]);
        checked(&mut core, until);
        match core.stage {
            Stage::Resting { why, .. } => why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        why(unnamed()),
        "the tailnet is not well yet, for no reason that can be named"
    );
    let silent = with(unnamed(), |k| {
        k.tailnet.api = Api::Hung;
        k.api_since = NOW;
    });
    assert_eq!(why(silent), "tailscaled does not answer");
}

#[test]
fn an_act_that_has_not_helped_in_its_time_is_followed_by_another() {
    let until = NOW + S * 5;
    let mut core = verifying(stale(), &[Cure::Nudge]);
    assert_eq!(checked(&mut core, until - MS).0, "verifying");
    assert_eq!(checked(&mut core, until), ("curing", vec![Action::Nudge]));
    // What was proved long before is proved anew.
    let proved = |now: Time| {
        let mut core = verifying(stale(), &[Cure::Nudge]);
        checked(&mut core, now).0
    };
    assert_eq!(proved(SINCE + PROOF_COUNTS), "curing");
    assert_eq!(proved(SINCE + PROOF_COUNTS + MS), "proving");
    // Without an act before it is only watched, until the time is over.
    let mut core = verifying(stale(), &[]);
    assert_eq!(checked(&mut core, until).0, "resting");
}

#[test]
fn what_no_waiting_brings_back_is_decided_at_once() {
    let at_once = |k: Knowledge, after: &[Cure]| checked(&mut verifying(k, after), NOW).0;
    let person = with(stale(), |k| k.tailnet.key_expired = true);
    assert_eq!(at_once(person, &[Cure::Nudge]), "quiet");
    let nowhere = all_dark(well(), Verdict::Closed);
    assert_eq!(at_once(nowhere, &[Cure::Nudge]), "resting");
    let gone = || {
        with(well(), |k| {
            k.tailnet.api = Api::Gone;
            k.api_since = SINCE - S * 60;
        })
    };
    assert_eq!(at_once(gone(), &[Cure::Nudge]), "curing");
    // A restart gets its time.
    assert_eq!(at_once(gone(), &[Cure::Restart]), "verifying");
    let hung = with(well(), |k| {
        k.tailnet.api = Api::Hung;
        k.api_since = SINCE - S * 60;
    });
    assert_eq!(at_once(hung, &[Cure::Renew]), "curing");
    // The path has gone dark meanwhile, beside an open uplink; a path that was just moved gets its time.
    let moved = Family::BOTH.map(Cure::Steer);
    assert_eq!(at_once(dark(well()), &[Cure::Nudge]), "curing");
    assert_eq!(at_once(dark(well()), &moved[..1]), "curing");
    assert_eq!(at_once(dark(well()), &moved), "verifying");
    // Where it may not be moved the acts get their time.
    let mut core = verifying(dark(well()), &[Cure::Nudge]);
    core.policy.allowed.steer = false;
    assert_eq!(checked(&mut core, NOW).0, "verifying");
}

#[test]
fn what_the_kernel_lost_and_a_stuck_control_are_not_waited_for_where_nothing_was_done() {
    let stage = |k: Knowledge, after: &[Cure]| checked(&mut verifying(k, after), NOW);
    let unanswered = || with(stuck(), unasked);
    assert_eq!(stage(unanswered(), &[]).0, "resting");
    assert_eq!(stage(unanswered(), &[Cure::Nudge]).0, "verifying");
    assert_eq!(stage(stale(), &[]).0, "verifying");
    assert_eq!(
        stage(lost(true), &[Cure::Nudge]),
        ("curing", vec![Action::Mend])
    );
    assert_eq!(stage(lost(false), &[]), ("curing", vec![Action::Restart]));
    assert_eq!(stage(lost(false), &[Cure::Nudge]).0, "verifying");
}

#[test]
fn a_renewal_that_was_held_back_comes_when_the_server_has_answered() {
    let renews = |change: &dyn Fn(&mut Core)| {
        let mut core = verifying(stuck(), &[Cure::Nudge]);
        change(&mut core);
        let (stage, acts) = checked(&mut core, NOW);
        stage == "curing" && acts == [Action::Renew]
    };
    assert!(renews(&|_| ()));
    assert!(!renews(&|c| c.policy.allowed.renew = false));
    let tried = |c: &mut Core| c.episode.as_mut().unwrap().tried.renew = 1;
    assert!(!renews(&tried), "it was done already");
    assert!(!renews(&|c| c.k = stale()), "nothing is stuck");
    let pinned = |c: &mut Core| {
        c.k.paths[0].judgement = judged(Verdict::Closed);
        c.k.verdicts
            .insert(("wan".into(), Family::V4), judged(Verdict::Closed));
    };
    assert!(!renews(&pinned), "the path comes first");
    let asking = |c: &mut Core| ask(&mut c.k, "wan", Effort::Burst);
    assert!(
        !renews(&asking),
        "it may be that no handshake comes to its end"
    );
    // The answer must be of this assessment, and not too old.
    let answered = |at: Time, now: Time, since: Time| {
        let mut core = verifying(stuck(), &[Cure::Nudge]);
        everywhere(&mut core.k, |j| {
            (j.control, j.resolved) = (Some((Ok(()), at)), Some(at));
        });
        let faults = diagnose(&core.k, now, SINCE);
        core.control_has_answered(now, since, &faults)
    };
    assert!(answered(ASKED, NOW, ASKED) && !answered(ASKED, NOW, ASKED + MS));
    assert!(answered(ASKED, ASKED + PROOF_COUNTS, SINCE));
    assert!(!answered(ASKED, ASKED + PROOF_COUNTS + MS, SINCE));
}

#[test]
fn the_tailnet_is_well_when_path_control_and_a_relay_or_a_peer_are() {
    let healthy =
        |change: &dyn Fn(&mut Knowledge)| Core::knowing(with(well(), change)).healthy(SINCE);
    assert!(healthy(&|_| ()));
    assert!(!healthy(&|k| k.tailnet.api = Api::Hung));
    assert!(!healthy(&|k| k.tailnet.backend = Backend::Starting));
    assert!(!healthy(&|k| *k = dark(well())));
    assert!(!healthy(&|k| k.tailnet.lost.what = vec!["rule".into()]));
    assert!(!healthy(&|k| k.tailnet_read = None));
    // Seen since the path moved: at that instant counts.
    assert!(healthy(&|k| k.epoch.since = NOW));
    assert!(!healthy(&|k| k.epoch.since = NOW + MS));
    let offline = |k: &mut Knowledge| k.tailnet.online = Some(false);
    assert!(!healthy(&offline));
    // A small build always says so.
    assert!(healthy(&|k| {
        offline(k);
        k.online_seen = false;
    }));
    assert!(healthy(&|k| k.tailnet.online = None));
}

#[test]
fn a_connection_that_was_not_there_before_need_not_be_there_now() {
    let healthy =
        |change: &dyn Fn(&mut Knowledge)| Core::knowing(with(well(), change)).healthy(SINCE);
    let without = |n: usize| {
        move |k: &mut Knowledge| {
            k.tailnet.flows.remove(n);
        }
    };
    // Control, then a relay.
    for n in [0, 1] {
        let had = |k: &mut Knowledge| {
            without(n)(k);
            k.epoch.had_control = n == 0;
            k.epoch.had_derp = n == 1;
        };
        assert!(healthy(&without(n)), "{n}");
        assert!(!healthy(&had), "{n}");
        let old = |k: &mut Knowledge| {
            let purpose = k.tailnet.flows[n].purpose;
            k.tailnet.flows[n] = flow(purpose, "192.0.2.34:5001");
        };
        assert!(!healthy(&old), "{n}: it is stale");
    }
    let peer = |k: &mut Knowledge| {
        without(1)(k);
        k.epoch.had_derp = true;
        k.epoch.peer_answered = true;
    };
    assert!(healthy(&peer));
}

#[test]
fn a_fresh_connection_is_enough_whatever_there_was_before() {
    // Control, then a relay. The old one beside it may take its time to end.
    for n in [0, 1] {
        let k = with(well(), |k| {
            (k.epoch.had_control, k.epoch.had_derp) = (true, true);
            let purpose = k.tailnet.flows[n].purpose;
            k.tailnet.flows.push(flow(purpose, "192.0.2.34:5001"));
        });
        assert!(Core::knowing(k).healthy(SINCE), "{n}");
    }
}

#[test]
fn a_control_server_that_is_down_does_not_make_the_tailnet_ill() {
    let healthy = |change: &dyn Fn(&mut Knowledge)| {
        let k = with(stuck(), |k| {
            control_silent(k, "refused");
            change(k);
        });
        Core::knowing(k).healthy(SINCE)
    };
    assert!(healthy(&|_| ()));
    // One family reaches it.
    let one = |k: &mut Knowledge| k.paths[1].judgement.control = Some((Ok(()), ASKED));
    assert!(!healthy(&one));
    assert!(!healthy(&unasked));
    let no_relay = |k: &mut Knowledge| k.tailnet.flows[1] = flow(Purpose::Derp, "192.0.2.34:2");
    assert!(!healthy(&no_relay));
}

/// How an episode with that act and that fault ends.
fn outcome(act: bool, faults: &[Fault]) -> Outcome {
    let mut core = verifying(well(), &[]);
    let e = core.episode.as_mut().unwrap();
    e.name(&Fault::Userspace);
    if act {
        e.acts.push(Act {
            at: NOW,
            cure: Cure::Nudge,
            why: String::new(),
            result: None,
        });
    }
    core.faults = faults.to_vec();
    core.heal(NOW);
    let ended = core.history.iter().next_back().unwrap().ended;
    ended.unwrap().1
}

#[test]
fn an_episode_ends_healed_passed_or_with_what_is_not_ours() {
    let evidence = String::new();
    let curable = Fault::StuckControl { evidence };
    assert_eq!(outcome(true, &[]), Outcome::Healed);
    assert_eq!(outcome(true, &[Fault::Userspace]), Outcome::Healed);
    assert_eq!(outcome(false, &[]), Outcome::Passed);
    assert_eq!(outcome(false, &[Fault::Userspace]), Outcome::NotOurs);
    assert_eq!(
        outcome(false, &[Fault::Userspace, curable]),
        Outcome::Passed
    );
}

#[test]
fn a_drill_that_is_well_goes_on_until_its_time_is_over() {
    let mut core = verifying(well(), &[Cure::Renew]);
    core.k.drilled = Some(Drilled::default());
    core.episode.as_mut().unwrap().drill = Some(Drill::default());
    core.heal(NOW);
    assert!(core.episode.is_some(), "it has not ended");
}

#[test]
fn the_end_of_an_episode_is_told_once_and_kept_where_there_was_something() {
    let ended = |change: fn(&mut Core), outcome| {
        let mut core = verifying(well(), &[]);
        change(&mut core);
        core.end(NOW, outcome);
        let told = core.ordered().into_iter();
        let mut healed = told.filter_map(|a| match a {
            Action::Tell(Notice::Healed { seconds, .. }) => Some(seconds),
            Action::Tell(Notice::Well) => Some(-1.0),
            _ => None,
        });
        (healed.next(), core.history.ended())
    };
    let name = |c: &mut Core| {
        let fault = Fault::Userspace;
        c.episode.as_mut().unwrap().name(&fault);
    };
    let act = |c: &mut Core| {
        c.episode.as_mut().unwrap().acts.push(Act {
            at: NOW,
            cure: Cure::Nudge,
            why: String::new(),
            result: None,
        });
    };
    let (nothing, lasted) = (Some(-1.0), Some(2.0));
    assert_eq!(
        ended(|_| (), Outcome::Passed),
        (nothing, 0),
        "not worth keeping"
    );
    assert_eq!(ended(name, Outcome::Passed), (lasted, 1));
    assert_eq!(ended(act, Outcome::Healed), (lasted, 1));
    assert_eq!(ended(name, Outcome::NeedsPerson), (None, 1));
    assert_eq!(ended(|c| c.episode = None, Outcome::Healed), (None, 0));
    let drill = |c: &mut Core| c.episode.as_mut().unwrap().drill = Some(Drill::default());
    assert_eq!(
        ended(drill, Outcome::Healed),
        (None, 1),
        "nobody is alarmed"
    );
}

#[test]
fn what_was_kept_for_old_flows_goes_with_the_episode() {
    let mut core = verifying(well(), &[]);
    core.k.steering[1].keep = Knowledge::hop(&core.k.uplinks[1], Family::V6);
    core.end(NOW, Outcome::Healed);
    let freed = Action::Steer(Family::V6, Steering::default());
    let ordered = core.ordered();
    let steers = ordered.iter().filter(|a| matches!(a, Action::Steer(..)));
    assert_eq!(steers.collect::<Vec<_>>(), [&freed]);
}

#[test]
fn after_an_episode_all_is_looked_at_at_its_usual_times() {
    let mut core = verifying(well(), &[]);
    (core.rests, core.again) = (3, true);
    let evidence = String::new();
    core.faults = vec![Fault::StuckControl { evidence }, Fault::Userspace];
    core.rest_quietly(NOW);
    let looks = (core.look_at, core.beat_at, core.return_at, core.recheck_at);
    let usual = NOW + S * 30;
    assert_eq!(looks, (usual, usual, NOW, NOW + RECHECK_EVERY));
    assert_eq!(
        (core.rests, core.again, core.stage.word()),
        (0, false, "quiet")
    );
    assert_eq!(core.faults(), [Fault::Userspace]);
}

#[test]
fn rests_grow_to_a_minute_and_are_told_less_and_less_often() {
    let mut core = verifying(well(), &[]);
    let mut told = Vec::new();
    for (number, seconds) in [2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]
        .into_iter()
        .enumerate()
    {
        assert_eq!(core.pause(), S * seconds, "{number}");
        core.rest(NOW, "why".into());
        let Stage::Resting { until, .. } = core.stage else {
            panic!("{:?}", core.stage);
        };
        assert_eq!(until, NOW + S * seconds);
        if !core.ordered().is_empty() {
            told.push(number + 1);
        }
    }
    assert_eq!(told, [1, 2, 4, 8]);
    // A rest is never without a pause.
    core.rest_until(NOW, NOW - S, "why".into());
    assert!(matches!(core.stage, Stage::Resting { until, .. } if until == NOW + MS * 500));
}

/// The renewals that count as tried after that many short rests and one of `pause`.
fn tried_after(rests: u32, pause: Duration) -> u8 {
    let mut core = verifying(well(), &[]);
    core.rests = rests;
    let tried = &mut core.episode.as_mut().unwrap().tried;
    (tried.renew, tried.nudge_missing) = (2, true);
    core.rest_until(NOW, NOW + pause, "why".into());
    let tried = &core.episode.as_ref().unwrap().tried;
    assert!(tried.nudge_missing, "that does not change");
    tried.renew
}

#[test]
fn after_every_fourth_rest_mild_cures_may_be_tried_again() {
    for rests in 0..8 {
        let left = if rests % 4 == 3 { 0 } else { 2 };
        assert_eq!(tried_after(rests, S), left, "{rests} before");
    }
}

// Week 165875 of tests/weeks: what was lost could be put back again, and the next restart was far away.
#[test]
fn after_a_long_rest_too() {
    assert_eq!(tried_after(0, REST_LAST), 0);
    assert_eq!(tried_after(0, REST_LAST - MS), 2);
}
