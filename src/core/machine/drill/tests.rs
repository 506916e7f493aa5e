//! When a drill may begin, how far it has come, and how it ends.

use super::*;
use crate::core::sample::{drill_of_wan, flow, judged, route_by, well, MS, NOW, S, SINCE};

const V4: Family = Family::V4;
const V6: Family = Family::V6;

/// A drill of `wan` that began at `SINCE`; nothing has moved yet.
fn begun() -> Core {
    let mut core = Core::knowing(well());
    core.k.drilled = Some(drill_of_wan([true, true]));
    core.begin_episode(SINCE, Origin::Drill, "a drill".into());
    core.episode.as_mut().unwrap().drill = Some(Drill {
        uplink: "wan".into(),
        stay: S * 10,
        ..Drill::default()
    });
    core.ordered();
    core
}

/// The same after both families have moved to `wanb`, with control over it.
fn there() -> Core {
    let mut core = begun();
    for f in Family::BOTH {
        route_by(&mut core.k, f, 1);
    }
    core.k.tailnet.flows = vec![
        flow(Purpose::Control, "192.0.2.34:5001"),
        flow(Purpose::Derp, "192.0.2.34:5002"),
    ];
    core
}

fn drill(core: &Core) -> &Drill {
    core.episode.as_ref().unwrap().drill.as_ref().unwrap()
}

/// What was told of the drill, and how many faults were.
fn told(core: &mut Core) -> (Vec<String>, usize) {
    let (mut drill, mut faults) = (Vec::new(), 0);
    for action in core.ordered() {
        match action {
            Action::Tell(Notice::Drill { text, .. }) => drill.push(text),
            Action::Tell(Notice::Fault { .. }) => faults += 1,
            _ => {}
        }
    }
    (drill, faults)
}

#[test]
fn a_drill_is_refused_with_the_reason() {
    let why = |change: fn(&mut Core), uplink: &str| {
        let mut core = Core::knowing(well());
        change(&mut core);
        core.drillable(uplink).unwrap_err()
    };
    assert_eq!(
        why(|_| (), "lan"),
        "there is no uplink called lan; there is wan, wanb"
    );
    let none = "there is no uplink called wan; there is none";
    assert_eq!(why(|c| c.k.uplinks.clear(), "wan"), none);
    let person = |c: &mut Core| c.k.tailnet.key_expired = true;
    assert!(why(person, "wan").contains("expired key"));
    let silent = |c: &mut Core| c.k.tailnet.api = Api::Hung;
    assert_eq!(why(silent, "wan"), "tailscaled does not answer");
    let userspace = |c: &mut Core| c.k.tailnet.tun = false;
    assert_eq!(why(userspace, "wan"), Fault::Userspace.to_string());
    let steer = |c: &mut Core| c.policy.allowed.steer = false;
    assert_eq!(why(steer, "wan"), "steer is not among the allowed cures");
    let control = |c: &mut Core| {
        let why = "refused".into();
        c.faults = vec![Fault::ControlDown { why }];
    };
    assert!(why(control, "wan").starts_with("first this: "));
    let stuck = |c: &mut Core| {
        let evidence = "old".into();
        c.faults = vec![Fault::StuckControl { evidence }];
    };
    assert!(why(stuck, "wan").starts_with("first this: "));
    let busy = |c: &mut Core| c.stage = Stage::Proving { since: NOW };
    assert!(why(busy, "wan").starts_with("something else is being looked into"));
    let elsewhere = "tailscaled's packets do not leave by wanb";
    assert_eq!(why(|_| (), "wanb"), elsewhere);
    let alone = |c: &mut Core| {
        for f in Family::BOTH {
            c.k.verdicts
                .insert(("wanb".into(), f), judged(Verdict::DnsDead));
        }
    };
    assert_eq!(why(alone, "wan"), "no other uplink is proved open");
    let under_way = begun().drillable("wan").unwrap_err();
    assert_eq!(under_way, "a drill of wan is under way");
}

#[test]
fn a_drill_turns_away_the_families_that_have_another_way() {
    let families = |change: fn(&mut Core)| {
        let mut core = Core::knowing(well());
        change(&mut core);
        core.drillable("wan6").map(|d| d.families)
    };
    assert_eq!(families(|_| ()), Ok([true, true]));
    let elsewhere = |c: &mut Core| route_by(&mut c.k, V6, 1);
    assert_eq!(families(elsewhere), Ok([true, false]));
    let closed = |c: &mut Core| {
        c.k.verdicts
            .insert(("wanb".into(), V4), judged(Verdict::Closed));
    };
    assert_eq!(families(closed), Ok([false, true]));
    // What stays as it is hinders nobody.
    assert!(families(|c| c.faults = vec![Fault::Userspace]).is_ok());
    let mut core = Core::knowing(well());
    core.take_drill(NOW, "wan".into(), S * 10);
    assert_eq!(core.k.drilled, Some(drill_of_wan([true, true])));
    assert_eq!((drill(&core).stay, core.stage.word()), (S * 10, "proving"));
    let mut core = Core::knowing(well());
    core.take_drill(NOW, "lan".into(), S);
    let (lines, _) = told(&mut core);
    assert!(
        lines[0].starts_with("refused: there is no uplink"),
        "{lines:?}"
    );
    assert!(core.episode.is_none() && core.k.drilled.is_none());
}

#[test]
fn a_stop_is_noted_where_a_drill_is_under_way() {
    let mut core = begun();
    core.take_drill_stop();
    let stopped = Some("stopped by the owner".to_string());
    assert_eq!(drill(&core).cut, stopped);
    core.mark_cut("for another reason".into());
    assert_eq!(drill(&core).cut, stopped, "the first reason stays");
    let mut core = begun();
    core.k.drilled = None;
    core.take_drill_stop();
    assert_eq!(drill(&core).cut, None, "it is over");
}

#[test]
fn control_over_another_uplink_is_noted_once() {
    let noted = |change: fn(&mut Core)| {
        let mut core = there();
        change(&mut core);
        core.follow_drill(NOW);
        drill(&core).control
    };
    assert_eq!(noted(|_| ()), Some(NOW));
    assert_eq!(
        noted(|c| route_by(&mut c.k, V6, 0)),
        None,
        "one family has not moved"
    );
    let no_control = |c: &mut Core| {
        c.k.tailnet.flows.remove(0);
    };
    assert_eq!(noted(no_control), None);
    assert_eq!(noted(|c| c.k.tailnet.online = Some(false)), None);
    let small = |c: &mut Core| {
        c.k.tailnet.online = Some(false);
        c.k.online_seen = false;
    };
    assert_eq!(noted(small), Some(NOW));
    assert_eq!(noted(|c| c.k.tailnet_read = None), None);
    assert_eq!(noted(|c| c.k.epoch.since = NOW), Some(NOW));
    assert_eq!(noted(|c| c.k.epoch.since = NOW + MS), None);
    let before = |c: &mut Core| {
        let e = c.episode.as_mut().unwrap();
        e.drill.as_mut().unwrap().control = Some(SINCE);
    };
    assert_eq!(noted(before), Some(SINCE));
    let curing = |c: &mut Core| {
        c.stage = Stage::Curing {
            since: SINCE,
            waiting: Vec::new(),
            until: NOW + S,
        };
    };
    assert_eq!(noted(curing), None);
    let mut core = there();
    core.follow_drill(NOW);
    assert_eq!(drill(&core).by, "wanb");
    assert!(core.k.drilled.is_some(), "it goes on");
}

#[test]
fn a_drill_ends_when_its_time_is_over() {
    let due = |well: Option<Time>| {
        let mut core = there();
        core.episode.as_mut().unwrap().drill.as_mut().unwrap().well = well;
        core.drill_due()
    };
    assert_eq!(due(None), Some(SINCE + DRILL_LIMIT));
    assert_eq!(due(Some(NOW)), Some(NOW + S * 10));
    let mut none = there();
    none.k.drilled = None;
    assert_eq!(none.drill_due(), None);
    let mut curing = there();
    curing.stage = Stage::Curing {
        since: SINCE,
        waiting: Vec::new(),
        until: NOW,
    };
    assert_eq!(curing.drill_due(), None);
    let ended = |well: Option<Time>, now: Time| {
        let mut core = there();
        core.episode.as_mut().unwrap().drill.as_mut().unwrap().well = well;
        core.follow_drill(now);
        let cut = drill(&core).cut.clone();
        (core.k.drilled.is_none(), cut)
    };
    assert_eq!(ended(Some(NOW), NOW + S * 10 - MS), (false, None));
    assert_eq!(ended(Some(NOW), NOW + S * 10), (true, None));
    let limit = SINCE + DRILL_LIMIT;
    assert_eq!(ended(None, limit - MS), (false, None));
    let cut = Some("the tailnet was not well within 60 s".to_string());
    assert_eq!(ended(None, limit), (true, cut));
}

#[test]
fn a_drill_ends_when_something_real_happens() {
    let broken = |change: fn(&mut Core)| {
        let mut core = there();
        change(&mut core);
        core.drill_broken()
    };
    assert_eq!(broken(|_| ()), None);
    let says = |change, text: &str| {
        let why = broken(change);
        assert!(why.as_ref().is_some_and(|w| w.contains(text)), "{why:?}");
    };
    says(|c| c.k.tailnet.key_expired = true, "expired key");
    says(
        |c| {
            c.k.uplinks.remove(0);
        },
        "wan is gone",
    );
    for verdict in [Verdict::Closed, Verdict::Portal] {
        let mut core = there();
        core.k.paths[1].judgement = judged(verdict);
        let why = core.drill_broken();
        assert_eq!(why.as_deref(), Some("wanb (eth2) has failed meanwhile"));
        core.k.paths[1].route = None;
        let why = core.drill_broken();
        assert_eq!(
            why.as_deref(),
            Some("the other uplink has failed meanwhile")
        );
        // What was not turned away does not belong to it, nor what has not moved yet.
        core.k.drilled = Some(drill_of_wan([true, false]));
        assert_eq!(core.drill_broken(), None);
        let mut core = begun();
        core.k.paths[0].judgement = judged(verdict);
        assert_eq!(core.drill_broken(), None);
    }
    let mut core = there();
    core.k.paths[1].judgement = judged(Verdict::Closed);
    core.follow_drill(NOW);
    assert!(core.k.drilled.is_none());
    let (lines, _) = told(&mut core);
    let text = "cut short: wanb (eth2) has failed meanwhile; going back to wan if it is open";
    assert_eq!(lines, [text]);
    // Stopped by its owner, it ends at once.
    let mut core = there();
    core.take_drill_stop();
    core.follow_drill(NOW);
    assert!(core.k.drilled.is_none());
}

#[test]
fn a_drill_waits_for_another_uplink_and_ends_where_none_answers() {
    let down = || vec![Fault::OutsideDown { portal: None }];
    let pinned = || {
        vec![Fault::PinnedRoute {
            family: V4,
            device: None,
            open: Vec::new(),
            flaw: None,
            drill: true,
        }]
    };
    let waits = |mut core: Core, faults: Vec<Fault>| {
        let waits = core.drill_waits(NOW, &faults);
        (waits, core.k.drilled.is_none())
    };
    let asking = || {
        let mut core = begun();
        core.k.paths[0].judgement.begin(9, NOW + S, Effort::Burst);
        core
    };
    assert_eq!(waits(asking(), vec![]), (true, false));
    assert_eq!(waits(begun(), vec![]), (true, true), "nobody will answer");
    assert_eq!(waits(asking(), pinned()), (false, false));
    assert_eq!(waits(asking(), down()), (true, true));
    assert_eq!(waits(there(), vec![]), (false, false));
    let mut none = begun();
    none.k.drilled = None;
    assert!(!none.drill_waits(NOW, &down()));
}

#[test]
fn after_the_rehearsal_the_way_back_has_its_own_tries() {
    let mut core = there();
    let tried = &mut core.episode.as_mut().unwrap().tried;
    (tried.renew, tried.nudge_missing) = (2, true);
    core.end_drill(NOW);
    let tried = &core.episode.as_ref().unwrap().tried;
    assert_eq!((tried.renew, tried.nudge_missing), (0, true));
    assert_eq!(drill(&core).over, Some(NOW));
    assert_eq!(core.returning, Some(drill_of_wan([true, true])));
    assert!(core.drill_is_over() && !there().drill_is_over());
    let (lines, _) = told(&mut core);
    assert_eq!(
        lines,
        ["the rehearsal is over; going back to wan if it is open"]
    );
    core.end_drill(NOW + S);
    assert_eq!(drill(&core).over, Some(NOW), "once");
}

#[test]
fn a_tailnet_that_is_well_elsewhere_stays_there_for_a_while() {
    let mut core = there();
    core.drill_well(NOW);
    assert_eq!((drill(&core).well, core.stage.word()), (Some(NOW), "quiet"));
    let (lines, _) = told(&mut core);
    assert_eq!(
        lines,
        ["well over wanb after 2.0 s; staying there for 10 s"]
    );
    core.drill_well(NOW + S);
    assert_eq!(drill(&core).well, Some(NOW));
    assert!(told(&mut core).0.is_empty(), "once");
    // While the mark has not moved, nothing was rehearsed.
    let mut core = begun();
    core.drill_well(NOW);
    assert_eq!((drill(&core).well, core.stage.word()), (None, "proving"));
    assert!(there().away() && !begun().away());
    let mut half = there();
    route_by(&mut half.k, V6, 0);
    assert!(!half.away());
    half.k.drilled = None;
    assert!(!half.away());
}

#[test]
fn the_uplinks_that_carry_meanwhile_are_named() {
    let by = |change: fn(&mut Core)| {
        let mut core = there();
        change(&mut core);
        core.way_meanwhile()
    };
    assert_eq!(by(|_| ()), "wanb");
    assert_eq!(by(|c| route_by(&mut c.k, V6, 0)), "wanb and wan");
    let v6 = |c: &mut Core| {
        route_by(&mut c.k, V4, 0);
        c.k.drilled = Some(drill_of_wan([false, true]));
    };
    assert_eq!(by(v6), "wanb");
    assert_eq!(
        by(|c| c.k.paths.iter_mut().for_each(|p| p.route = None)),
        "another uplink"
    );
}

/// What the way back comes to: whether something is under way, and which families move.
fn returned(change: impl FnOnce(&mut Core)) -> (bool, Vec<Family>, bool) {
    let mut core = there();
    core.k.drilled = None;
    core.returning = Some(drill_of_wan([true, true]));
    change(&mut core);
    let under_way = core.return_from_drill(NOW, SINCE);
    let moves = core.ordered().into_iter().filter_map(|a| match a {
        Action::Steer(f, _) => Some(f),
        _ => None,
    });
    (under_way, moves.collect(), core.returning.is_none())
}

#[test]
fn after_a_drill_the_mark_goes_back_as_soon_as_the_uplink_is_proved() {
    let all = (true, vec![V4, V6], true);
    assert_eq!(returned(|_| ()), all);
    assert_eq!(
        returned(|c| route_by(&mut c.k, V6, 0)),
        (true, vec![V4], true)
    );
    let one = |c: &mut Core| c.returning = Some(drill_of_wan([true, false]));
    assert_eq!(returned(one), (true, vec![V4], true));
    assert_eq!(returned(|c| c.k.paths[1].route = None), all);
    // Its verdict is waited for.
    let wan = |verdict| {
        move |c: &mut Core| {
            for f in Family::BOTH {
                c.k.verdicts.insert(("wan".into(), f), judged(verdict));
            }
        }
    };
    let asking = |c: &mut Core| {
        wan(Verdict::Closed)(c);
        let v6 = c.k.judgement_mut(&Scope::Uplink("wan".into(), V6));
        v6.begin(9, NOW + S, Effort::Burst);
    };
    assert_eq!(returned(asking), (true, vec![], false));
    let open_already = |c: &mut Core| {
        let v6 = c.k.judgement_mut(&Scope::Uplink("wan".into(), V6));
        v6.begin(9, NOW + S, Effort::Burst);
    };
    assert_eq!(returned(open_already), all);
    // It failed meanwhile: the mark stays where it is.
    let stays = (false, vec![], true);
    assert_eq!(returned(wan(Verdict::Closed)), stays);
    assert_eq!(
        returned(|c| {
            c.k.uplinks.remove(0);
        }),
        stays
    );
    assert_eq!(returned(|c| c.returning = None), stays);
    let back_already = |c: &mut Core| {
        for f in Family::BOTH {
            route_by(&mut c.k, f, 0);
        }
    };
    assert_eq!(returned(back_already), stays);
}

#[test]
fn the_end_of_a_drill_is_booked_and_told() {
    let closed = |change: fn(&mut Core)| {
        let mut core = there();
        core.k.drilled = None;
        for f in Family::BOTH {
            route_by(&mut core.k, f, 0);
        }
        let d = core.episode.as_mut().unwrap().drill.as_mut().unwrap();
        d.over = Some(SINCE);
        change(&mut core);
        let mut e = core.episode.take().unwrap();
        core.returning = Some(drill_of_wan([true, true]));
        let own = core.close_drill(NOW, &mut e);
        assert!(core.returning.is_none());
        let back = e.drill.and_then(|d| d.back);
        (own, back, told(&mut core).0.len())
    };
    assert_eq!(closed(|_| ()), (true, Some(NOW), 1));
    assert_eq!(closed(|c| route_by(&mut c.k, V4, 1)), (true, Some(NOW), 1));
    let away = |c: &mut Core| {
        for f in Family::BOTH {
            route_by(&mut c.k, f, 1);
        }
    };
    assert_eq!(closed(away), (true, None, 1));
    let not_over = |c: &mut Core| {
        let e = c.episode.as_mut().unwrap();
        e.drill.as_mut().unwrap().over = None;
    };
    assert_eq!(closed(not_over), (true, None, 1));
    let fault = |c: &mut Core| {
        let e = c.episode.as_mut().unwrap();
        e.drill.as_mut().unwrap().fault = true;
    };
    assert_eq!(closed(fault), (false, Some(NOW), 1));
    let none = |c: &mut Core| c.episode.as_mut().unwrap().drill = None;
    assert_eq!(closed(none), (false, None, 0));
}

#[test]
fn what_a_drill_itself_brings_about_is_no_alarm() {
    let pinned = |drill| Fault::PinnedRoute {
        family: V4,
        device: None,
        open: Vec::new(),
        flaw: None,
        drill,
    };
    let evidence = || "old".to_string();
    let stuck = Fault::StuckControl {
        evidence: evidence(),
    };
    let stale = Fault::StalePaths {
        evidence: evidence(),
    };
    for (fault, own) in [
        (pinned(true), true),
        (stuck, true),
        (stale, true),
        (pinned(false), false),
        (Fault::DaemonGone, false),
    ] {
        let mut core = there();
        core.tell_fault(&fault);
        let (lines, faults) = told(&mut core);
        let counts = (lines.len(), faults, drill(&core).fault);
        let expected = if own { (1, 0, false) } else { (0, 1, true) };
        assert_eq!(counts, expected, "{fault}");
        let mut core = Core::knowing(well());
        core.tell_fault(&fault);
        assert_eq!(told(&mut core).1, 1, "{fault}");
    }
}
