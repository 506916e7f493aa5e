//! What an assessment asks, and when it decides.

use super::*;
use crate::core::episode::Act;
use crate::core::sample::{all_dark, dark, flow, judged, well, NOW, S, SINCE};

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

const MS: Duration = Duration::from_millis(1);

fn moment() -> Moment {
    Moment { now: NOW, dice: 0 }
}

/// A core in the middle of an assessment begun at `SINCE`.
fn proving(k: Knowledge) -> Core {
    let mut core = Core::knowing(k);
    core.begin_episode(SINCE, Origin::Path, "a sign".into());
    core.enter_proving(SINCE, SINCE);
    core.ordered();
    core
}

/// Control uses an address that the path has left.
fn stuck() -> Knowledge {
    let mut k = well();
    k.tailnet.flows[0] = flow(Purpose::Control, "192.0.2.34:5001");
    k
}

/// Nothing is known yet of whether the control server answers.
fn unasked(mut k: Knowledge) -> Knowledge {
    let paths = k.paths.iter_mut().map(|p| &mut p.judgement);
    for j in k.verdicts.values_mut().chain(paths) {
        j.control = None;
    }
    k
}

fn with(k: Knowledge, change: impl FnOnce(&mut Knowledge)) -> Knowledge {
    let mut k = k;
    change(&mut k);
    k
}

fn ask(k: &mut Knowledge, name: &str, effort: Effort) {
    let uplink = k.verdicts.get_mut(&(name.to_string(), Family::V4));
    uplink.unwrap().begin(9, NOW + S, effort);
}

fn lost(mendable: bool) -> Knowledge {
    with(well(), |k| {
        k.tailnet.lost.what = vec!["rule 5270".into()];
        k.tailnet.lost.mendable = mendable;
        k.lost_since = Some(SINCE);
    })
}

fn steered(core: &mut Core) -> bool {
    let ordered = core.ordered();
    ordered.iter().any(|a| matches!(a, Action::Steer(..)))
}

/// What weighing does to an assessment: the stage that it comes to, and the looks that it asks for.
fn weighed(core: &mut Core) -> (&'static str, Vec<Look>) {
    core.weigh(moment(), SINCE);
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
        let mut core = proving(with(dark(well()), |k| k.paths_read = read));
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
        let mut core = proving(dark(well()));
        unread(&mut core);
        assert_eq!(weighed(&mut core).0, "proving");
    }
    let mut core = proving(dark(well()));
    assert_eq!(weighed(&mut core).0, "curing");
}

#[test]
fn a_dead_way_needs_no_fresh_word_of_tailscaled_and_all_else_does() {
    let stage = |k: Knowledge| weighed(&mut proving(k)).0;
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
    let stage = |k: Knowledge| weighed(&mut proving(k)).0;
    // Whether the control server answers, where tailscaled is offline and no fault is curable.
    let offline = with(unasked(well()), |k| {
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

#[test]
fn a_path_that_no_round_will_tell_of_is_asked() {
    let asked = |change: &dyn Fn(&mut Knowledge)| {
        let mut core = proving(with(well(), change));
        core.ask_unjudged(NOW, SINCE);
        paths(&asked(&mut core))
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
fn lost_state_is_put_back_before_anything_is_proved() {
    let mends = |k: Knowledge| proving(k).mends(NOW, SINCE).map(|f| f.len());
    assert_eq!(mends(lost(true)), Some(1));
    assert_eq!(mends(lost(false)), None);
    assert_eq!(mends(well()), None);
    // Other faults are none of it.
    assert_eq!(mends(dark(lost(true))), Some(1));
    let read = |at| with(lost(true), |k| k.tailnet_read = Some(at));
    assert_eq!(mends(read(SINCE - MS)), None);
    assert_eq!(mends(read(SINCE)), Some(1));
    // An act of a moment ago gets its time.
    let after = |cure: Cure, span: Duration| {
        let mut core = proving(lost(true));
        let act = Act {
            at: NOW - span,
            cure,
            why: String::new(),
            result: None,
        };
        core.episode.as_mut().unwrap().acts.push(act);
        core.mends(NOW, SINCE).is_some()
    };
    let patience = Cure::Mend.patience();
    assert!(after(Cure::Mend, patience));
    assert!(!after(Cure::Mend, patience - MS));
    assert!(after(Cure::Nudge, MS));
    let mut core = proving(lost(true));
    assert!(core.mend_first(NOW, SINCE));
    assert!(core.ordered().contains(&Action::Mend));
    let mut core = proving(well());
    assert!(!core.mend_first(NOW, SINCE));
    assert_eq!(core.ordered(), []);
}

#[test]
fn a_control_server_that_was_down_is_so_until_something_is_known() {
    let down = || Fault::ControlDown { why: "x".into() };
    let still = |k: Knowledge, faults: &[Fault]| {
        let mut core = proving(k);
        core.faults = vec![down()];
        core.control_still_down(SINCE, faults)
    };
    assert_eq!(still(unasked(well()), &[]), Some(down()));
    assert_eq!(still(well(), &[]), None, "it answers");
    assert_eq!(
        still(unasked(well()), &[down()]),
        None,
        "that is said already"
    );
    let failed = with(unasked(well()), |k| {
        k.paths[0].judgement.control = Some((Err("x".into()), NOW));
    });
    assert_eq!(still(failed, &[]), None, "the news say so themselves");
    let core = proving(unasked(well()));
    assert_eq!(core.control_still_down(SINCE, &[]), None);
}

#[test]
fn the_control_server_is_waited_for_where_its_answer_would_explain_something() {
    let waits = |k: Knowledge| proving(k).control_is_asked(NOW, SINCE);
    let asked = || with(unasked(well()), |k| ask(k, "wanb", Effort::Burst));
    let offline = |k: &mut Knowledge| k.offline_since = Some(SINCE - S * 60);
    assert!(!waits(asked()), "nothing is missed");
    assert!(waits(with(asked(), offline)));
    let unheard = |k: &mut Knowledge| {
        let own = k.tailnet.flows[0].clone();
        k.resending = vec![Resending {
            local: own.local,
            remote: own.remote,
            times: 5,
        }];
    };
    assert!(waits(with(asked(), unheard)));
    // What is known already need not be waited for, nor what nobody asks.
    let nobody = with(unasked(well()), offline);
    assert!(!waits(nobody));
    let few = with(unasked(well()), |k| ask(k, "wanb", Effort::Suspect));
    assert!(!waits(with(few, offline)));
    for known in [Ok(()), Err("x".to_string())] {
        let k = with(with(asked(), offline), |k| {
            k.paths[0].judgement.control = Some((known.clone(), NOW));
        });
        assert!(!waits(k), "{known:?}");
    }
}

/// Control is stuck as it is offline, on the address of the path.
fn broken() -> Knowledge {
    with(well(), |k| k.offline_since = Some(SINCE - S * 60))
}

#[test]
fn whether_control_can_be_made_anew_is_waited_for_where_it_broke() {
    let waits = |k: Knowledge| {
        let faults = diagnose(&k, NOW, SINCE);
        proving(k).way_is_asked(NOW, SINCE, &faults)
    };
    let asked = |name: &'static str| move |k: &mut Knowledge| ask(k, name, Effort::Burst);
    assert!(!waits(broken()));
    assert!(waits(with(broken(), asked("wan"))));
    // Another way matters only where this one is known to be hindered.
    assert!(!waits(with(broken(), asked("wanb"))));
    let hindered = with(broken(), |k| {
        for f in Family::BOTH {
            let uplink = k.verdicts.get_mut(&("wan".into(), f)).unwrap();
            uplink.flaws.large = Some("lost".into());
        }
    });
    let stuck_alone = |k: &Knowledge| {
        let faults = diagnose(k, NOW, SINCE);
        faults.into_iter().filter(|f| f.moves().is_none())
    };
    let mut core = proving(with(hindered.clone(), asked("wanb")));
    let faults: Vec<Fault> = stuck_alone(&core.k).collect();
    assert!(core.way_is_asked(NOW, SINCE, &faults));
    core.k = hindered;
    assert!(!core.way_is_asked(NOW, SINCE, &faults));
    // A moved path is another matter, and so is another fault beside it.
    assert!(!waits(with(stuck(), asked("wan"))));
    let relays = |k: &mut Knowledge| {
        asked("wan")(k);
        k.tailnet.flows[1] = flow(Purpose::Derp, "192.0.2.34:5002");
    };
    assert!(!waits(with(broken(), relays)));
}

#[test]
fn another_uplink_is_waited_for_twice_as_long_as_a_round_takes() {
    let waits = |span: Duration, effort| {
        let mut core = proving(well());
        ask(&mut core.k, "wanb", effort);
        core.others_are_asked(SINCE + span, SINCE)
    };
    assert!(waits(S * 4 - MS, Effort::Burst));
    assert!(!waits(S * 4, Effort::Burst));
    assert!(!waits(S, Effort::Beat), "that tells nothing of flaws");
    assert!(!proving(well()).others_are_asked(NOW, SINCE));
}

#[test]
fn a_full_round_over_the_way_in_use_is_waited_for_while_the_server_s_answer_is_young() {
    let waits = |span: Duration, name: &str| {
        let mut core = proving(well());
        ask(&mut core.k, name, Effort::Burst);
        core.ways_are_asked(SINCE + span, SINCE)
    };
    assert!(waits(S * 4 - MS, "wan"));
    assert!(!waits(S * 4, "wan"));
    assert!(!waits(S, "wanb"));
    let mut core = proving(well());
    ask(&mut core.k, "wan", Effort::Burst);
    let uplink = core.k.verdicts.get_mut(&("wan".into(), Family::V4));
    uplink.unwrap().take(NOW, 9, Finding::Large(Ok(())));
    assert!(!core.ways_are_asked(SINCE, SINCE), "they pass");
}

/// A path that is being asked until `NOW` + 2 s, with another uplink that answers within 20 ms.
fn waiting(change: impl FnOnce(&mut Core)) -> Core {
    let mut core = proving(well());
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
            core.k.said_down.insert("eth1".into(), at);
        }
    };
    assert_eq!(due(|_| ()), usual);
    assert_eq!(due(told(SINCE)), Some(QUICK));
    assert_eq!(due(told(SINCE - WORD_COUNTS + MS)), Some(QUICK));
    assert_eq!(due(told(SINCE - WORD_COUNTS)), usual, "that was long ago");
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
    let no_route = |core: &mut Core| {
        told(SINCE)(core);
        core.k.paths[0].route = None;
    };
    assert_eq!(due(no_route), usual);
}

#[test]
fn a_wait_that_was_shortened_to_the_past_is_over() {
    let mut core = waiting(|core| {
        core.k.said_down.insert("eth1".into(), SINCE);
    });
    core.hasten(SINCE + QUICK, SINCE);
    assert_eq!(core.k.paths[0].judgement.verdict, Verdict::Closed);
}

/// Decides on what is found in it, and says to which stage that leads, and what is ordered.
fn decided(core: &mut Core) -> (&'static str, Vec<Action>) {
    let faults = diagnose(&core.k, NOW, SINCE);
    core.decide(moment(), SINCE, faults);
    let ordered = core.ordered().into_iter();
    let acts = ordered.filter(|a| !matches!(a, Action::Tell(_) | Action::Look(_)));
    (core.stage.word(), acts.collect())
}

#[test]
fn a_portal_alone_is_asked_every_half_minute_and_a_dead_outside_less_and_less_often() {
    let rests = |verdict, rests: u32| {
        let mut core = proving(all_dark(well(), verdict));
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
fn without_a_proved_way_out_nothing_is_done_and_what_still_runs_is_waited_for() {
    let nothing = || {
        with(stuck(), |k| {
            k.verdicts.clear();
            for path in &mut k.paths {
                path.judgement = Judgement::default();
            }
        })
    };
    assert_eq!(decided(&mut proving(nothing())), ("resting", vec![]));
    let under_way = with(nothing(), |k| {
        k.paths[1].judgement.begin(9, NOW + S, Effort::Burst);
    });
    assert_eq!(decided(&mut proving(under_way)), ("proving", vec![]));
}

#[test]
fn what_is_well_ends_the_assessment_and_what_is_not_yet_is_watched() {
    assert_eq!(decided(&mut proving(well())).0, "quiet");
    let starting = with(well(), |k| {
        k.tailnet.backend = crate::core::tailnet::Backend::Starting;
    });
    assert_eq!(decided(&mut proving(starting)).0, "verifying");
    assert!(steered(&mut {
        let mut core = proving(dark(well()));
        let faults = diagnose(&core.k, NOW, SINCE);
        core.decide(moment(), SINCE, faults);
        core
    }));
}

#[test]
fn a_build_without_debug_actions_is_not_nudged() {
    let stale = |debug: Option<bool>| {
        with(well(), |k| {
            k.tailnet.flows[1] = flow(Purpose::Derp, "192.0.2.34:5002");
            k.tailnet.abilities.debug = debug;
        })
    };
    for (debug, missing, cure) in [
        (Some(true), false, Action::Nudge),
        (None, false, Action::Nudge),
        (Some(false), false, Action::Renew),
        // One that said so once has not got them since.
        (Some(true), true, Action::Renew),
    ] {
        let mut core = proving(stale(debug));
        core.episode.as_mut().unwrap().tried.nudge_missing = missing;
        assert_eq!(decided(&mut core).1, [cure], "{debug:?} {missing}");
    }
}

/// All that is milder has been tried on a control that is stuck.
fn spent(k: Knowledge) -> Core {
    let mut core = proving(k);
    core.episode.as_mut().unwrap().tried.renew = 9;
    core
}

#[test]
fn a_restart_needs_an_answer_of_the_control_server_of_just_now() {
    let restarts = |core: &mut Core| decided(core) == ("curing", vec![Action::Restart]);
    assert!(restarts(&mut spent(broken())));
    let answered = |at: Time| {
        with(broken(), |k| {
            let paths = k.paths.iter_mut().map(|p| &mut p.judgement);
            for j in k.verdicts.values_mut().chain(paths) {
                j.control = Some((Ok(()), at));
                j.judged_at = Some(at);
                j.resolved = Some(at);
            }
        })
    };
    let long_ago = NOW - CONTROL_FRESH;
    let decide = |at: Time, since: Time| {
        let mut core = spent(answered(at));
        core.k.paths_read = Some(at);
        let faults = diagnose(&core.k, NOW, since);
        core.decide(moment(), since, faults);
        core.stage.word()
    };
    assert_eq!(decide(long_ago, long_ago), "curing");
    assert_eq!(decide(long_ago - MS, long_ago - MS), "proving");
    // It is not started anew where it may be that no handshake comes to its end.
    let asked = with(broken(), |k| ask(k, "wan", Effort::Burst));
    assert_eq!(decided(&mut spent(asked)), ("proving", vec![]));
    // One that does not run has nothing to lose.
    let gone = |change: &dyn Fn(&mut Knowledge)| {
        with(unasked(well()), |k| {
            k.tailnet.api = Api::Gone;
            k.api_since = SINCE - S * 60;
            change(k);
        })
    };
    assert!(restarts(&mut proving(gone(&|_| ()))));
    let asked = gone(&|k: &mut Knowledge| ask(k, "wan", Effort::Burst));
    assert!(restarts(&mut proving(asked)));
}

#[test]
fn a_drill_ends_where_only_a_restart_could_help() {
    let drilled = |core: &mut Core| {
        core.k.drilled = Some(Drilled {
            name: "wan".into(),
            device: "eth1".into(),
            families: [true, true],
        });
        // The mark is away, over the other uplink.
        for f in Family::BOTH {
            let other = core.k.uplinks[1].clone();
            core.k.steering[f.at()].to = Knowledge::hop(&other, f);
            let way = other.way(f).unwrap();
            core.k.paths[f.at()].route = Some(Route {
                device: other.device.clone(),
                gateway: way.gateway,
                source: way.addresses.first().copied(),
            });
        }
        core.k.tailnet.flows[1] = flow(Purpose::Derp, "192.0.2.34:5002");
        let e = core.episode.as_mut().unwrap();
        e.drill = Some(crate::core::episode::Drill {
            uplink: "wan".into(),
            ..Default::default()
        });
    };
    let mut core = spent(broken());
    drilled(&mut core);
    core.k.tailnet.flows[0] = flow(Purpose::Control, "192.0.2.34:5001");
    let (_, acts) = decided(&mut core);
    assert!(!acts.contains(&Action::Restart), "{acts:?}");
    assert!(core.k.drilled.is_none(), "it is over");
    // A mild cure belongs to it.
    let mut core = proving(broken());
    drilled(&mut core);
    core.k.tailnet.flows[0] = flow(Purpose::Control, "192.0.2.34:5001");
    let (_, acts) = decided(&mut core);
    assert_eq!(acts, [Action::Renew]);
    assert!(core.k.drilled.is_some());
}

#[test]
fn a_renewal_waits_for_the_control_server_and_says_why() {
    let waits = |k: Knowledge, faults: &[Fault]| {
        let mut core = proving(k);
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
    assert_eq!(waits(unasked(stuck()), &[]), text("no answer yet"));
    let under_way = |k: &mut Knowledge| k.paths[1].judgement.begin(9, NOW + S, Effort::Burst);
    let asked = || with(unasked(stuck()), under_way);
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
        with(unasked(stuck()), |k| {
            hindered(k);
            under_way(k);
        })
    };
    assert_eq!(waits(asked(), &[]), flaw);
    let others = |k: &mut Knowledge| ask(k, "wanb", Effort::Burst);
    assert_eq!(waits(with(asked(), others), &[]), None);
    let known = with(with(asked(), others), failed);
    assert_eq!(waits(known, &[]), text("refused"));
    assert_eq!(waits(with(unasked(stuck()), others), &[]), None);
}

#[test]
fn an_act_gets_its_time_before_it_is_done_again() {
    let next = |cures: &[Cure]| Next::Do(cures.to_vec());
    let core = |acts: &[(Cure, Duration)]| {
        let mut core = proving(well());
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
fn rounds_are_over_when_neither_an_uplink_nor_a_path_is_asked() {
    let over = |change: &dyn Fn(&mut Knowledge)| proving(with(well(), change)).rounds_over();
    assert!(over(&|_| ()));
    assert!(!over(&|k| ask(k, "wanb", Effort::Beat)));
    assert!(!over(&|k| k.paths[1].judgement.begin(9, NOW, Effort::Beat)));
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
        let mut core = proving(well());
        assert_eq!(told(&mut core, fault), 1);
        assert_eq!(told(&mut core, fault), 0);
        core.begin_episode(NOW, Origin::Path, "another".into());
        core.ordered();
        assert_eq!(told(&mut core, fault), again, "{fault}");
    }
    // Another of its kind is news.
    let mut core = proving(well());
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

#[test]
fn what_was_asked_before_a_long_sleep_counts_no_more() {
    let mut core = proving(with(broken(), |k| {
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
    let mut core = proving(well());
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
