//! The questions that are asked of what is known.

use super::*;
use crate::core::sample::{
    self, all_dark, dark, everywhere, judged, unasked, well, ASKED, MS, NOW, S, SINCE,
};

const V4: Family = Family::V4;
const V6: Family = Family::V6;

fn with(change: impl FnOnce(&mut Knowledge)) -> Knowledge {
    sample::with(well(), change)
}

fn uplink<'a>(k: &'a mut Knowledge, name: &str, family: Family) -> &'a mut Judgement {
    k.verdicts.get_mut(&(name.to_string(), family)).unwrap()
}

/// A drill turns that uplink's IPv4 away.
fn drill(k: &mut Knowledge, device: &str) {
    k.drilled = Some(Drilled {
        name: String::new(),
        device: device.into(),
        families: [true, false],
    });
}

fn names(found: &[&Uplink]) -> Vec<String> {
    found.iter().map(|u| u.name.clone()).collect()
}

#[test]
fn open_uplinks_are_those_proved_since_the_soundest_first() {
    let open = |k: &Knowledge, since| names(&k.open_uplinks(V4, since));
    assert_eq!(open(&well(), ASKED), ["wan", "wanb"]);
    assert_eq!(open(&well(), ASKED + MS), [""; 0]);
    assert_eq!(open(&dark(well()), SINCE), ["wanb"]);
    let k = with(|k| drill(k, "eth1"));
    assert_eq!(open(&k, SINCE), ["wanb"]);
    assert_eq!(names(&k.open_uplinks(V6, SINCE)), ["wan", "wanb"]);
    // One over which the control server does not answer comes last; what was so before does not count.
    let refused =
        |at: Time| with(|k| uplink(k, "wan", V4).control = Some((Err(String::new()), at)));
    assert_eq!(open(&refused(SINCE), SINCE), ["wanb", "wan"]);
    assert_eq!(open(&refused(SINCE - MS), SINCE), ["wan", "wanb"]);
    let flawed = |k: &mut Knowledge| uplink(k, "wan", V4).flaws.large = Some(String::new());
    assert_eq!(open(&with(flawed), SINCE), ["wanb", "wan"]);
    let both = with(|k| {
        flawed(k);
        uplink(k, "wanb", V4).control = Some((Err(String::new()), ASKED));
    });
    assert_eq!(open(&both, SINCE), ["wan", "wanb"]);
}

#[test]
fn something_is_open_when_a_path_or_an_uplink_of_any_family_is() {
    let nothing = || all_dark(well(), Verdict::Closed);
    assert!(well().anything_open(SINCE) && !nothing().anything_open(SINCE));
    assert!(!well().anything_open(ASKED + MS));
    for family in Family::BOTH {
        let mut k = nothing();
        *uplink(&mut k, "wanb", family) = judged(Verdict::Open);
        assert!(k.anything_open(SINCE) && !k.path_open(SINCE));
        let mut k = nothing();
        k.paths[family.at()].judgement = judged(Verdict::Open);
        assert!(k.anything_open(SINCE) && k.path_open(SINCE));
    }
}

#[test]
fn a_drill_shuts_its_own_device_in_the_families_that_have_another_way() {
    let k = with(|k| drill(k, "eth1"));
    assert!(k.drilled("eth1", V4) && !k.drilled("eth1", V6));
    assert!(!k.drilled("eth2", V4) && !well().drilled("eth1", V4));
    assert!(k.path_drilled(V4) && !k.path_drilled(V6));
    assert!(!k.path_is_open(V4, SINCE) && k.path_is_open(V6, SINCE));
    assert!(k.path_is_shut(V4, SINCE) && !k.path_is_shut(V6, SINCE));
    let other = with(|k| drill(k, "eth2"));
    assert!(!other.path_drilled(V4) && other.path_is_open(V4, SINCE));
    let dark = dark(well());
    assert!(dark.path_is_shut(V4, SINCE) && !dark.path_is_shut(V4, ASKED + MS));
    let unrouted = with(|k| {
        drill(k, "eth1");
        k.paths[0].route = None;
    });
    assert!(!unrouted.path_drilled(V4));
}

#[test]
fn everything_is_shut_when_each_way_was_asked_since_and_none_got_out() {
    let nothing = || all_dark(well(), Verdict::Closed);
    let shut = |change: &dyn Fn(&mut Knowledge)| {
        let mut k = nothing();
        change(&mut k);
        k.everything_shut(SINCE)
    };
    assert!(shut(&|_| ()));
    assert!(!nothing().everything_shut(ASKED + MS));
    assert!(shut(&|k| k.paths_read = Some(SINCE)));
    assert!(!shut(&|k| k.paths_read = Some(SINCE - MS)));
    assert!(!shut(&|k| k.paths_read = None));
    for family in Family::BOTH {
        let path =
            |verdict| move |k: &mut Knowledge| k.paths[family.at()].judgement = judged(verdict);
        assert!(!shut(&path(Verdict::Open)));
        assert!(shut(&path(Verdict::Portal)));
        // There was nobody to ask in that family.
        assert!(shut(&path(Verdict::Unknown)));
        let gone = |k: &mut Knowledge| {
            path(Verdict::Open)(k);
            k.paths[family.at()].route = None;
        };
        assert!(shut(&gone), "no route is a shut one");
        let other = |verdict| move |k: &mut Knowledge| *uplink(k, "wanb", family) = judged(verdict);
        assert!(!shut(&other(Verdict::Open)));
        assert!(shut(&other(Verdict::Unknown)));
        let unasked = |k: &mut Knowledge| {
            k.verdicts.remove(&("wanb".into(), family));
        };
        assert!(!shut(&unasked));
    }
    // An uplink without that family has nothing to say, nor has one that a drill has shut.
    let without = |k: &mut Knowledge| {
        *uplink(k, "wanb", V6) = judged(Verdict::Open);
        k.uplinks[1].v6 = None;
    };
    assert!(shut(&without));
    let drilled = |device: &'static str| {
        move |k: &mut Knowledge| {
            *uplink(k, "wanb", V4) = judged(Verdict::Open);
            drill(k, device);
        }
    };
    assert!(shut(&drilled("eth2")));
    assert!(!shut(&drilled("eth1")));
    let path = |k: &mut Knowledge| {
        k.paths[0].judgement = judged(Verdict::Open);
        drill(k, "eth1");
    };
    assert!(shut(&path), "the path's own counts as shut");
}

#[test]
fn paths_are_judged_when_a_round_over_each_has_come_to_its_end() {
    assert!(well().paths_judged(ASKED) && !well().paths_judged(ASKED + MS));
    let judged_with = |change: &dyn Fn(&mut Knowledge)| with(change).paths_judged(SINCE);
    for verdict in Verdict::ALL {
        assert!(
            judged_with(&|k| k.paths[1].judgement = judged(verdict)),
            "{verdict}"
        );
    }
    let old = |k: &mut Knowledge| k.paths[1].judgement.judged_at = Some(SINCE - MS);
    assert!(!judged_with(&old));
    let unrouted = |k: &mut Knowledge| {
        old(k);
        k.paths[1].route = None;
    };
    assert!(judged_with(&unrouted));
    assert!(judged_with(&|k| k.paths_read = Some(SINCE)));
    assert!(!judged_with(&|k| k.paths_read = Some(SINCE - MS)));
}

#[test]
fn a_portal_is_named_by_its_uplink() {
    assert_eq!(well().portal_uplink(), None);
    let k = with(|k| *uplink(k, "wanb", V6) = judged(Verdict::Portal));
    assert_eq!(k.portal_uplink().as_deref(), Some("wanb"));
}

#[test]
fn control_is_within_reach_where_server_and_resolver_answer_and_large_packets_pass() {
    let reach = |change: &dyn Fn(&mut Knowledge)| with(change).control_within_reach(SINCE);
    assert!(reach(&|_| ()));
    assert!(well().control_within_reach(ASKED) && !well().control_within_reach(ASKED + MS));
    let all = |change: fn(&mut Judgement)| {
        move |k: &mut Knowledge| {
            everywhere(k, change);
        }
    };
    assert!(!reach(&all(|j| j.control = None)));
    assert!(!reach(&all(
        |j| j.control = Some((Err(String::new()), ASKED))
    )));
    assert!(!reach(&all(|j| j.resolved = Some(SINCE - MS))));
    assert!(!reach(&all(|j| j.flaws.large = Some(String::new()))));
    // The path's own resolver is the one that tailscaled asks; one family is enough.
    let one = |k: &mut Knowledge| {
        all(|j| j.resolved = None)(k);
        k.paths[1].judgement.resolved = Some(SINCE);
    };
    assert!(reach(&one));
    let elsewhere = |k: &mut Knowledge| {
        all(|j| j.resolved = None)(k);
        uplink(k, "wan", V4).resolved = Some(ASKED);
    };
    assert!(!reach(&elsewhere));
}

#[test]
fn a_hindrance_is_one_that_all_open_ways_have() {
    let lost = || Some("1400".to_string());
    let text = Some("large packets are lost (1400)".to_string());
    assert_eq!(well().hindrance(), None);
    let one = |k: &mut Knowledge| uplink(k, "wan", V4).flaws.large = lost();
    assert_eq!(with(one).hindrance(), None);
    let both = |k: &mut Knowledge| {
        one(k);
        uplink(k, "wan", V6).flaws.large = lost();
    };
    assert_eq!(with(both).hindrance(), text);
    // A family that does not get out is no way.
    let alone = |k: &mut Knowledge| {
        one(k);
        k.paths[1].judgement = judged(Verdict::Closed);
    };
    assert_eq!(with(alone).hindrance(), text);
    assert_eq!(all_dark(with(both), Verdict::Closed).hindrance(), None);
}

type Place = fn(&mut Knowledge) -> &mut Judgement;

#[test]
fn the_control_server_s_answer_counts_over_the_path_or_the_uplink_that_it_uses() {
    let silent = || with(unasked);
    assert!(!silent().control_answers(SINCE));
    assert_eq!(silent().control_failure(SINCE), None);
    let ways: [(Place, bool); 4] = [
        (|k| &mut k.paths[0].judgement, true),
        (|k| &mut k.paths[1].judgement, true),
        (|k| uplink(k, "wan", V6), true),
        (|k| uplink(k, "wanb", V4), false),
    ];
    for (place, counts) in ways {
        let mut k = silent();
        place(&mut k).control = Some((Ok(()), ASKED));
        assert_eq!(k.control_answers(ASKED), counts);
        assert!(!k.control_answers(ASKED + MS));
        assert_eq!(k.control_failure(ASKED), None);
        place(&mut k).control = Some((Err("refused".into()), ASKED));
        assert!(!k.control_answers(ASKED));
        let why = counts.then(|| "refused".to_string());
        assert_eq!(k.control_failure(ASKED), why);
        assert_eq!(k.control_failure(ASKED + MS), None);
    }
}

#[test]
fn flaws_of_a_way_are_those_of_its_uplink_where_that_is_open() {
    let k = with(|k| {
        k.paths[0].judgement.flaws.tls = Some("path".into());
        uplink(k, "wan", V4).flaws.tls = Some("uplink".into());
    });
    assert_eq!(k.way_flaws(V4).tls.as_deref(), Some("uplink"));
    let mut k = k;
    uplink(&mut k, "wan", V4).verdict = Verdict::Closed;
    assert_eq!(k.way_flaws(V4).tls.as_deref(), Some("path"));
    k.uplinks.clear();
    assert_eq!(k.way_flaws(V4).tls.as_deref(), Some("path"));
}

#[test]
fn names_work_unless_a_path_s_resolver_was_found_silent() {
    assert!(well().names_work());
    for n in [0, 1] {
        let dead = with(|k| k.paths[n].judgement.flaws.names = Some(String::new()));
        assert!(!dead.names_work());
    }
}

#[test]
fn the_uplink_in_use_is_that_of_the_path_s_device() {
    let used = |k: &Knowledge| k.path_uplink(V4).map(|u| u.name.clone());
    assert_eq!(used(&well()).as_deref(), Some("wan"));
    let other = with(|k| k.paths[0].route.as_mut().unwrap().device = "eth2".into());
    assert_eq!(used(&other).as_deref(), Some("wanb"));
    let mut other = other;
    *uplink(&mut other, "wanb", V4) = judged(Verdict::Portal);
    let verdict = other.uplink_in_use(V4).map(|j| j.verdict);
    assert_eq!(verdict, Some(Verdict::Portal));
    let foreign = with(|k| k.paths[0].route.as_mut().unwrap().device = "eth9".into());
    assert_eq!(used(&foreign), None);
    assert!(foreign.uplink_in_use(V4).is_none());
    assert_eq!(used(&with(|k| k.paths[0].route = None)), None);
}

#[test]
fn a_flow_is_held_where_its_mark_leads_by_a_dead_uplink() {
    let pin = |local: &str, device: &str| Pin {
        local: local.parse().unwrap(),
        remote: "203.0.113.1".parse().unwrap(),
        device: device.into(),
    };
    let mut k = dark(well());
    k.pins = vec![
        pin("192.0.2.18", "eth1"),
        pin("192.0.2.34", "eth2"),
        pin("2001:db8:1::2", "eth1"),
        pin("192.0.2.18", "eth9"),
    ];
    let held = |k: &Knowledge, family, since| k.held(family, since).cloned().collect::<Vec<_>>();
    assert_eq!(held(&k, V4, SINCE), [k.pins[0].clone()]);
    assert_eq!(held(&k, V6, SINCE), [k.pins[2].clone()]);
    assert_eq!(held(&k, V4, ASKED + MS), []);
}

#[test]
fn a_device_is_named_with_its_uplink() {
    assert_eq!(well().name_device("eth2"), "wanb (eth2)");
    assert_eq!(well().name_device("eth9"), "eth9");
}

#[test]
fn main_s_default_is_the_slices_then_the_lowest_metric() {
    let main = |change: &dyn Fn(&mut Knowledge)| {
        let k = with(change);
        k.main_default(V4).map(|u| u.name.clone())
    };
    let named = |name: &str| Some(name.to_string());
    assert_eq!(main(&|_| ()), named("wan"));
    let metric =
        |n: usize, to| move |k: &mut Knowledge| k.uplinks[n].v4.as_mut().unwrap().metric = to;
    assert_eq!(main(&metric(0, Some(99))), named("wanb"));
    assert_eq!(main(&metric(0, None)), named("wanb"));
    let sliced = |k: &mut Knowledge| k.uplinks[1].v4.as_mut().unwrap().sliced = true;
    assert_eq!(main(&sliced), named("wanb"));
    let none = |k: &mut Knowledge| k.uplinks.iter_mut().for_each(|u| u.v4 = None);
    assert_eq!(main(&none), None);
}

#[test]
fn a_hop_is_the_uplink_s_own_way() {
    let k = well();
    let hop = Knowledge::hop(&k.uplinks[1], V6).unwrap();
    let way = k.uplinks[1].v6.clone();
    assert_eq!((hop.device.as_str(), Some(hop.way)), ("eth2", way));
    let mut none = k.uplinks[1].clone();
    none.v6 = None;
    assert_eq!(Knowledge::hop(&none, V6), None);
}

#[test]
fn a_finding_belongs_to_its_path_or_to_its_uplink() {
    let mut k = well();
    k.judgement_mut(&Scope::Path(V6)).judged_at = Some(NOW);
    k.judgement_mut(&Scope::Uplink("wanb".into(), V4)).judged_at = Some(NOW + S);
    assert_eq!(k.path(V6).judgement.judged_at, Some(NOW));
    assert_eq!(k.verdict("wanb", V4).unwrap().judged_at, Some(NOW + S));
    assert!(k.verdict("wanc", V4).is_none());
    k.judgement_mut(&Scope::Uplink("wanc".into(), V4));
    assert!(k.verdict("wanc", V4).is_some());
}
