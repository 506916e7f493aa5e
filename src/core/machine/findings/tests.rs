//! What a finding changes beyond the verdict that it leads to.

use super::*;
use crate::core::flaws::Tls;
use crate::core::sample::{flow, judged, well, NOW, S, SINCE};
use crate::core::By;

const V4: Family = Family::V4;
const V6: Family = Family::V6;

/// A core that has nothing to do, and is asking a way with round 5.
fn asking(scope: &Scope) -> Core {
    let mut core = Core::knowing(well());
    core.round = 5;
    core.recheck_at = NOW + S * 60;
    let judgement = core.k.judgement_mut(scope);
    judgement.begin(5, NOW + S * 2, Effort::Burst);
    core
}

fn wan(family: Family) -> Scope {
    Scope::Uplink("wan".into(), family)
}

fn answer(public: &str) -> Finding {
    Finding::Answer {
        by: By::Stun,
        target: "t".into(),
        rtt: S / 50,
        public: Some(public.parse().unwrap()),
    }
}

fn told(core: &mut Core) -> Vec<Notice> {
    let ordered = core.ordered().into_iter();
    let told = ordered.filter_map(|a| match a {
        Action::Tell(notice) => Some(notice),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_finding_of_a_void_round_and_one_of_an_uplink_that_is_gone_are_dropped() {
    for (void, taken) in [(4, true), (5, false), (6, false)] {
        let mut core = asking(&wan(V4));
        core.void = void;
        core.take_finding(NOW, 5, wan(V4), answer("203.0.113.1"));
        let public = core.k.verdict("wan", V4).unwrap().public;
        assert_eq!(public.is_some(), taken, "{void}");
    }
    let mut core = asking(&wan(V4));
    let gone = Scope::Uplink("wanc".into(), V4);
    core.take_finding(NOW, 5, gone, answer("203.0.113.1"));
    assert!(core.k.verdict("wanc", V4).is_none());
}

#[test]
fn a_path_that_answers_speaks_for_its_uplink_and_remembers_how_long_that_took() {
    let mut core = asking(&Scope::Path(V4));
    let finding = answer("203.0.113.1");
    core.take_finding(NOW, 5, Scope::Path(V4), finding.clone());
    assert_eq!(core.k.path(V4).usual_rtt, Some(S / 50));
    let uplink = core.k.verdict("wan", V4).unwrap();
    assert_eq!((uplink.judged_at, uplink.rtt), (Some(NOW), Some(S / 50)));
    let other = core.k.verdict("wanb", V4).unwrap();
    assert_ne!(other.judged_at, Some(NOW));
    // It is kept while the path is silent, and silence speaks for nobody.
    let mut silent = core.clone();
    let path = &mut silent.k.paths[0].judgement;
    path.begin(6, NOW + S, Effort::Burst);
    silent.take_finding(NOW + S, 6, Scope::Path(V4), Finding::Over);
    assert_eq!(silent.k.path(V4).usual_rtt, Some(S / 50));
    let uplink = silent.k.verdict("wan", V4).unwrap();
    assert_eq!(uplink.judged_at, Some(NOW));
}

#[test]
fn a_doubt_is_looked_at_again_soon_after_the_round() {
    let broken = |target: &str| Finding::Tls {
        target: target.into(),
        end: Tls::Broken("cut off".into()),
    };
    let recheck = |sure: bool, findings: &[Finding]| {
        let mut core = asking(&wan(V4));
        core.k.judgement_mut(&wan(V4)).flaws.tls_doubt = sure;
        core.take_finding(NOW, 5, wan(V4), answer("203.0.113.1"));
        for f in findings {
            core.take_finding(NOW, 5, wan(V4), f.clone());
        }
        core.recheck_at
    };
    let two = [broken("a"), broken("b")];
    let over = [two[0].clone(), two[1].clone(), Finding::Over];
    let usual = NOW + S * 60;
    assert_eq!(recheck(false, &over), NOW + DOUBT_FOR);
    assert_eq!(recheck(false, &two), usual, "the round goes on");
    assert_eq!(recheck(true, &over), usual, "that was the second time");
    assert_eq!(recheck(false, &[Finding::Over]), usual);
    let mut sooner = asking(&wan(V4));
    sooner.recheck_at = NOW + S;
    sooner.take_finding(NOW, 5, wan(V4), answer("203.0.113.1"));
    for f in over {
        sooner.take_finding(NOW, 5, wan(V4), f);
    }
    assert_eq!(sooner.recheck_at, NOW + S);
}

#[test]
fn what_a_round_shows_is_told_once_and_forgotten_when_it_is_gone() {
    let dead = |core: &mut Core, dead: bool| {
        let flaws = &mut core.k.paths[0].judgement.flaws;
        flaws.names = dead.then(|| "silence".to_string());
        core.name_flaws();
        (told(core).len(), core.faults().len())
    };
    for episode in [false, true] {
        let mut core = Core::knowing(well());
        if episode {
            core.begin_episode(NOW, Origin::Path, "a sign".into());
            core.ordered();
        }
        // Another fault stays as it is.
        core.faults = vec![Fault::Userspace];
        assert_eq!(dead(&mut core, true), (1, 2), "{episode}");
        assert_eq!(dead(&mut core, true), (0, 2), "{episode}");
        assert_eq!(dead(&mut core, false), (0, 1), "{episode}");
        assert_eq!(core.faults(), [Fault::Userspace]);
    }
}

#[test]
fn a_new_public_address_makes_old_flows_stale_where_the_path_has_it() {
    let change = |text: [&str; 2]| {
        let [old, new] = text.map(|ip| ip.parse().unwrap());
        let by = By::Stun;
        Change::PublicAddress { by, old, new }
    };
    let of = |scope: Scope, text, stage: Stage| {
        let mut core = Core::knowing(well());
        core.k.epoch.since = SINCE;
        core.stage = stage;
        core.judged(NOW, &scope, change(text));
        let doomed = core
            .k
            .epoch
            .doomed(&flow(Purpose::Control, "192.0.2.18:5001"));
        (doomed, core.k.epoch.since == NOW, core.stage.word())
    };
    let v4 = ["203.0.113.1", "203.0.113.2"];
    let v6 = ["2001:db8::1", "2001:db8::2"];
    let quiet = || Stage::Quiet;
    let (news, nothing) = ((true, true, "proving"), (false, false, "quiet"));
    assert_eq!(of(Scope::Path(V4), v4, quiet()).0, news.0);
    assert!(of(Scope::Path(V4), v4, quiet()).1);
    assert!(of(wan(V4), v4, quiet()).1);
    let other = Scope::Uplink("wanb".into(), V4);
    assert_eq!(of(other, v4, quiet()), nothing, "nothing leaves by it");
    // IPv6 has no translation whose loss would show.
    assert_eq!(of(Scope::Path(V6), v6, quiet()), nothing);
    assert_eq!(of(wan(V6), v6, quiet()), nothing);
    let verifying = Stage::Verifying {
        since: SINCE,
        after: Vec::new(),
        until: NOW + S,
    };
    assert_eq!(of(Scope::Path(V4), v4, verifying), news);
}

#[test]
fn a_new_public_address_that_path_and_uplink_both_show_is_one_change() {
    let both = [Scope::Path(V4), wan(V4)];
    let other = Scope::Uplink("wanb".into(), V4);
    for first in 0..2 {
        let mut core = Core::knowing(well());
        let mut show = |at: Time, scope: &Scope, public: &str| {
            let judgement = core.k.judgement_mut(scope);
            judgement.begin(7, at + S * 2, Effort::Burst);
            core.take_finding(at, 7, scope.clone(), answer(public));
            core.k.epoch.since
        };
        for scope in both.iter().chain([&other]) {
            show(SINCE, scope, "203.0.113.1");
        }
        let later = NOW + S;
        assert_eq!(show(NOW, &both[first], "203.0.113.2"), NOW);
        // What was done in between counts, and so do the connections made in between.
        assert_eq!(show(later, &both[1 - first], "203.0.113.2"), NOW);
        assert_eq!(show(later, &both[1 - first], "203.0.113.3"), later);
        // The address of an uplink that the path does not use is another matter.
        assert_eq!(show(later + S, &other, "203.0.113.3"), later);
        assert_eq!(show(later + S, &both[first], "203.0.113.4"), later + S);
    }
}

#[test]
fn a_path_that_falls_silent_begins_an_assessment_in_quiet_times() {
    let fell = |verdict, stage: Stage, suspected: bool| {
        let mut core = Core::knowing(well());
        core.k.paths[0].judgement = judged(verdict);
        core.k.epoch.peer_answered = true;
        core.stage = stage;
        core.suspicion = suspected.then(|| suspect::Suspicion::test(SINCE));
        core.judged(NOW, &Scope::Path(V4), Change::Verdict);
        let since = match core.stage {
            Stage::Proving { since } => Some(since),
            _ => None,
        };
        (since, core.k.epoch.peer_answered)
    };
    for verdict in [Verdict::Closed, Verdict::Portal] {
        assert_eq!(fell(verdict, Stage::Quiet, false), (Some(NOW), false));
        // What was answered since the sign counts.
        assert_eq!(fell(verdict, Stage::Quiet, true), (Some(SINCE), false));
        let rest = || Stage::Resting {
            until: NOW + S,
            why: String::new(),
        };
        assert_eq!(fell(verdict, rest(), false), (None, false));
    }
    for verdict in [Verdict::Open, Verdict::DnsDead, Verdict::Unknown] {
        assert_eq!(fell(verdict, Stage::Quiet, false), (None, true));
    }
}

#[test]
fn an_uplink_that_changes_is_told_and_begins_nothing() {
    let mut core = Core::knowing(well());
    core.k
        .verdicts
        .insert(("wanb".into(), V6), judged(Verdict::Closed));
    let scope = Scope::Uplink("wanb".into(), V6);
    core.judged(NOW, &scope, Change::Verdict);
    let [Notice::Uplink { name, verdict, .. }] = &told(&mut core)[..] else {
        panic!("one notice");
    };
    assert_eq!((name.as_str(), *verdict), ("wanb", Verdict::Closed));
    assert_eq!(core.stage, Stage::Quiet);
    core.judged(NOW, &scope, Change::Nothing);
    assert_eq!(core.ordered(), []);
}

#[test]
fn the_reason_of_an_assessment_names_the_way_that_is_silent() {
    let trigger = |change: fn(&mut Core)| {
        let mut core = Core::knowing(well());
        core.k.paths[0].judgement = judged(Verdict::Closed);
        change(&mut core);
        core.judged(NOW, &Scope::Path(V4), Change::Verdict);
        core.episode.unwrap().trigger
    };
    let text = "nothing answers on the IPv4 path by wan (eth1) (t answered)";
    assert_eq!(trigger(|_| ()), text);
    let text = "nothing answers on the IPv4 path by no device (t answered)";
    assert_eq!(trigger(|core| core.k.paths[0].route = None), text);
}
