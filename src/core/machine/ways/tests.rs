//! What becomes of it when uplinks come and go, and when the path moves.

use super::*;
use crate::core::sample::{drill_of_wan, flow, judged, well, MS, NOW, S, SINCE};

const V4: Family = Family::V4;
const V6: Family = Family::V6;

fn in_stage(stage: Stage) -> Core {
    let mut core = Core::knowing(well());
    core.stage = stage;
    core
}

fn proving() -> Core {
    in_stage(Stage::Proving { since: SINCE })
}

fn named(core: &Core) -> Option<&str> {
    core.episode.as_ref().map(|e| e.trigger.as_str())
}

/// The uplinks of before with one more.
fn with_third(core: &Core) -> Vec<Uplink> {
    let mut uplinks = core.k.uplinks.clone();
    let mut third = uplinks[1].clone();
    (third.name, third.device) = ("wanc".into(), "eth3".into());
    uplinks.push(third);
    uplinks
}

#[test]
fn an_uplink_that_comes_or_goes_begins_an_assessment_and_the_first_list_does_not() {
    let mut core = Core::knowing(well());
    core.take_uplinks(NOW, core.k.uplinks.clone());
    assert_eq!(named(&core), None);
    let more = with_third(&core);
    let mut came = core.clone();
    came.take_uplinks(NOW, more.clone());
    assert_eq!(named(&came), Some("uplink wanc has appeared"));
    let mut went = core.clone();
    went.take_uplinks(NOW, more[..1].to_vec());
    assert_eq!(named(&went), Some("uplink wanb is gone"));
    // One in the place of another is told by what is there.
    let mut other = core.clone();
    other.take_uplinks(NOW, vec![more[0].clone(), more[2].clone()]);
    assert_eq!(named(&other), Some("uplink wanc has appeared"));
    let mut first = Core::knowing(Knowledge::default());
    first.take_uplinks(NOW, more);
    assert_eq!(named(&first), None);
}

#[test]
fn an_uplink_that_appears_in_an_assessment_is_asked_in_it() {
    let mut core = proving();
    core.take_uplinks(NOW, with_third(&core));
    let third = |f| Scope::Uplink("wanc".into(), f);
    assert_eq!(core.asked(Effort::Burst), [third(V4), third(V6)]);
    assert_eq!(core.stage, Stage::Proving { since: SINCE });
}

#[test]
fn the_verdict_of_an_uplink_that_is_gone_is_forgotten() {
    let mut core = proving();
    core.take_uplinks(NOW, core.k.uplinks[..1].to_vec());
    assert_eq!(core.k.verdict("wan", V4).unwrap().verdict, Verdict::Open);
    let gone = core.k.verdict("wanb", V4).unwrap();
    assert_eq!((gone.verdict, gone.since), (Verdict::Unknown, NOW));
    // Very many are not kept.
    for (number, kept) in [(VERDICTS_KEPT, true), (VERDICTS_KEPT + 1, false)] {
        let mut core = proving();
        for n in core.k.verdicts.len()..number {
            let old = (format!("old{n}"), V4);
            core.k.verdicts.insert(old, judged(Verdict::Open));
        }
        core.take_uplinks(NOW, core.k.uplinks.clone());
        assert_eq!(core.k.verdicts.len() == number, kept);
        assert!(core.k.verdict("wanb", V6).is_some());
        assert!(kept || core.k.verdicts.len() == 4);
    }
}

#[test]
fn steering_follows_the_gateway_of_its_uplink() {
    let steered = |change: fn(&mut Vec<Uplink>)| {
        let mut core = proving();
        let keep = Knowledge::hop(&core.k.uplinks[0], V4);
        let to = Knowledge::hop(&core.k.uplinks[1], V4);
        core.k.steering[0] = Steering { to, keep };
        let mut uplinks = core.k.uplinks.clone();
        change(&mut uplinks);
        core.take_uplinks(NOW, uplinks);
        let ordered = core.ordered().into_iter();
        let mut steered = ordered.filter_map(|a| match a {
            Action::Steer(V4, steering) => Some(steering),
            _ => None,
        });
        steered.next()
    };
    assert_eq!(steered(|_| ()), None);
    let gateway = "192.0.2.40".parse().ok();
    let moved = steered(|u| {
        u[1].v4.as_mut().unwrap().gateway = "192.0.2.40".parse().ok();
    });
    let Steering {
        to: Some(to),
        keep: Some(keep),
    } = moved.unwrap()
    else {
        panic!("both stay");
    };
    assert_eq!((to.way.gateway, to.device.as_str()), (gateway, "eth2"));
    assert_eq!(keep.device, "eth1");
    // The other's is nothing to it, and without a way there is nothing to follow.
    let other = steered(|u| u[0].v4.as_mut().unwrap().gateway = None);
    assert_eq!(other, None);
    assert_eq!(steered(|u| u[1].v4 = None), None);
}

fn routes(core: &Core) -> [Option<Route>; 2] {
    [core.k.paths[0].route.clone(), core.k.paths[1].route.clone()]
}

/// The IPv4 path goes by the second uplink now.
fn moved(core: &mut Core) {
    let mut routes = routes(core);
    routes[0] = Some(Route {
        device: "eth2".into(),
        gateway: None,
        source: "192.0.2.34".parse().ok(),
    });
    core.take_paths(NOW, routes);
}

#[test]
fn a_path_that_moved_is_proved_anew_and_one_that_did_not_is_not() {
    let mut core = Core::knowing(well());
    core.k.paths[0].usual_rtt = Some(S);
    let same = routes(&core);
    core.take_paths(NOW, same);
    assert_eq!((named(&core), core.k.paths_read), (None, Some(NOW)));
    assert!(core.k.paths[0].judgement.verdict.is_open());
    moved(&mut core);
    assert_eq!(named(&core), Some("IPv4 path moved to wanb (eth2)"));
    let path = &core.k.paths[0];
    assert_eq!((path.judgement.judged_at, path.usual_rtt), (None, None));
    assert!(core.k.paths[1].judgement.verdict.is_open());
    assert_eq!(core.k.epoch.since, NOW);
}

#[test]
fn where_the_path_moved_says_what_is_done() {
    let stage_of = |stage: Stage, read: bool| {
        let mut core = in_stage(stage);
        core.k.paths_read = read.then_some(SINCE);
        moved(&mut core);
        let asked = core.asked(Effort::Burst).contains(&Scope::Path(V4));
        (core.stage.word(), core.again, asked)
    };
    assert_eq!(stage_of(Stage::Quiet, true), ("proving", false, true));
    // The first look of all has its assessment already, or an event brings it.
    assert_eq!(stage_of(Stage::Quiet, false), ("quiet", false, false));
    let proving = Stage::Proving { since: SINCE };
    assert_eq!(stage_of(proving, true), ("proving", false, true));
    let curing = Stage::Curing {
        since: SINCE,
        waiting: vec![Cure::Renew],
        until: NOW + S,
    };
    assert_eq!(stage_of(curing, true), ("curing", true, false));
}

#[test]
fn a_path_that_is_away_for_a_moment_is_not_gone() {
    let mut core = Core::knowing(well());
    let away = |core: &mut Core, now| {
        let [_, v6] = routes(core);
        core.take_paths(now, [None, v6]);
        core.k.paths[0].route.is_none()
    };
    assert!(!away(&mut core, NOW));
    assert_eq!(core.away[0], Away::Since(NOW));
    assert!(!away(&mut core, NOW + MS), "it counts from the first");
    assert_eq!(core.away[0], Away::Since(NOW));
    core.away[0] = Away::TooLong;
    assert!(away(&mut core, NOW + S));
    assert_eq!(named(&core), Some("IPv4 path is gone"));
    // There is nothing that could come back.
    assert_eq!(core.away[0], Away::No);
    assert!(away(&mut core, NOW + S));
    assert_eq!(core.away[0], Away::No);
    // Back in time, it has not moved.
    let mut core = Core::knowing(well());
    let all = routes(&core);
    away(&mut core, NOW);
    core.take_paths(NOW + MS, all);
    assert_eq!((core.away[0], named(&core)), (Away::No, None));
}

#[test]
fn an_uplink_that_was_left_has_to_prove_itself_anew() {
    let left = |device: &str, drilled: bool| {
        let mut core = proving();
        core.left[0] = Some(device.into());
        if drilled {
            core.k.drilled = Some(drill_of_wan([true, true]));
        }
        let judgement = core.k.judgement_mut(&Scope::Uplink("wan".into(), V4));
        judgement.flaws.large = Some("lost".into());
        judgement.flaws.names = Some("silence".into());
        moved(&mut core);
        let wan = core.k.verdict("wan", V4).unwrap();
        let flaws = (wan.flaws.large.is_some(), wan.flaws.names.is_some());
        assert!(core.k.verdict("wanb", V4).unwrap().verdict.is_open());
        (wan.verdict, flaws)
    };
    // What short rounds could not tell is kept.
    assert_eq!(left("eth1", false), (Verdict::Unknown, (true, false)));
    assert_eq!(left("eth1", true), (Verdict::Open, (true, true)));
    assert_eq!(left("eth9", false), (Verdict::Open, (true, true)));
    let mut core = proving();
    moved(&mut core);
    assert!(core.k.verdict("wan", V4).unwrap().verdict.is_open());
}

#[test]
fn after_a_move_of_ours_the_path_and_its_uplink_are_asked_unless_they_have_told() {
    let asked = |change: &dyn Fn(&mut Knowledge)| {
        let mut core = proving();
        change(&mut core.k);
        core.path_unread = true;
        let same = routes(&core);
        core.take_paths(NOW, same);
        core.asked(Effort::Burst)
    };
    assert_eq!(asked(&|_| ()), []);
    let old = |k: &mut Knowledge| k.paths[1].judgement.judged_at = Some(SINCE - MS);
    assert_eq!(asked(&old), [Scope::Path(V6)]);
    let under_way = |k: &mut Knowledge| {
        old(k);
        k.paths[1].judgement.begin(9, NOW + S, Effort::Beat);
    };
    assert_eq!(asked(&under_way), []);
    let shut = |k: &mut Knowledge| k.paths[1].judgement = judged(Verdict::Closed);
    assert_eq!(asked(&shut), []);
    // The control server is asked over the uplink, unless it has answered, or a full round asks it.
    let uplink = || Scope::Uplink("wan".into(), V6);
    let silent = |k: &mut Knowledge| k.judgement_mut(&uplink()).control = None;
    assert_eq!(asked(&silent), [uplink()]);
    let asking = |effort| {
        move |k: &mut Knowledge| {
            silent(k);
            k.judgement_mut(&Scope::Uplink("wan".into(), V6))
                .begin(9, NOW + S, effort);
        }
    };
    assert_eq!(asked(&asking(Effort::Burst)), []);
    assert_eq!(asked(&asking(Effort::Beat)), [uplink()]);
    let foreign = |k: &mut Knowledge| {
        old(k);
        k.paths[1].route.as_mut().unwrap().device = "eth9".into();
    };
    assert_eq!(asked(&foreign), [], "no uplink is known by that device");
    // Without a move of ours nothing is asked.
    let mut core = proving();
    old(&mut core.k);
    let same = routes(&core);
    core.take_paths(NOW, same);
    assert_eq!(core.ordered(), []);
}

#[test]
fn a_path_that_has_just_moved_is_asked_once() {
    let mut core = proving();
    core.path_unread = true;
    moved(&mut core);
    let asked = core.asked(Effort::Burst);
    let paths = asked.iter().filter(|s| matches!(s, Scope::Path(_)));
    assert_eq!(paths.collect::<Vec<_>>(), [&Scope::Path(V4)]);
}

#[test]
fn a_metered_uplink_that_another_hand_has_moved_the_path_to_is_asked_in_full() {
    let mut core = proving();
    let wanb = Scope::Uplink("wanb".into(), V4);
    let judgement = core.k.judgement_mut(&wanb);
    judgement.control = None;
    judgement.begin(9, NOW + S, Effort::Suspect);
    moved(&mut core);
    assert_eq!(core.asked(Effort::Burst), [wanb, Scope::Path(V4)]);
}

#[test]
fn two_uplinks_with_one_address_leave_old_flows_stale() {
    let route = |device: &str, source: &str| {
        Some(Route {
            device: device.into(),
            gateway: None,
            source: source.parse().ok(),
        })
    };
    let shared = |old: Option<Route>, new: Option<Route>| same_source(old.as_ref(), new.as_ref());
    let (a, b) = ("192.0.2.18", "192.0.2.34");
    assert_eq!(shared(route("eth1", a), route("eth2", a)), a.parse().ok());
    assert_eq!(shared(route("eth1", a), route("eth1", a)), None);
    assert_eq!(shared(route("eth1", a), route("eth2", b)), None);
    assert_eq!(shared(None, route("eth2", a)), None);
    assert_eq!(shared(route("eth1", a), None), None);
    let mut core = proving();
    let [_, v6] = routes(&core);
    core.take_paths(NOW, [route("eth2", a), v6]);
    assert!(core
        .k
        .epoch
        .doomed(&flow(Purpose::Control, "192.0.2.18:5001")));
    let mut core = proving();
    moved(&mut core);
    assert!(!core
        .k
        .epoch
        .doomed(&flow(Purpose::Control, "192.0.2.18:5001")));
}
