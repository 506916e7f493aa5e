//! The slow looks of quiet times, and when the mark goes back.

use super::*;
use crate::core::sample::{judged, route_by, well, ASKED, MS, NOW, S};

const V4: Family = Family::V4;
const V6: Family = Family::V6;

fn wan(family: Family) -> Scope {
    Scope::Uplink("wan".into(), family)
}

fn wanb(family: Family) -> Scope {
    Scope::Uplink("wanb".into(), family)
}

fn with(scopes: &[Scope], effort: Effort) -> Vec<(Scope, Effort)> {
    scopes.iter().map(|s| (s.clone(), effort)).collect()
}

/// The mark of both families is on the second uplink, and the first has been open for a minute.
fn away() -> Core {
    let mut core = Core::still(well());
    core.return_at = NOW;
    for f in Family::BOTH {
        core.k.steering[f.at()].to = Knowledge::hop(&core.k.uplinks[1], f);
        route_by(&mut core.k, f, 1);
        let better = core.k.judgement_mut(&wan(f));
        better.steady_since = Some(NOW - S * 60);
        better.judged_at = Some(NOW);
    }
    core
}

fn steered(core: &mut Core) -> Vec<(Family, Steering)> {
    let ordered = core.ordered().into_iter();
    let steered = ordered.filter_map(|a| match a {
        Action::Steer(f, steering) => Some((f, steering)),
        _ => None,
    });
    steered.collect()
}

#[test]
fn other_uplinks_are_asked_each_time_their_interval_is_over() {
    let at = |other_at: Time| {
        let mut core = Core::still(well());
        core.other_at = other_at;
        core.quiet(NOW);
        (core.probes(), core.other_at - NOW)
    };
    assert_eq!(at(NOW + MS), (vec![], MS));
    let others = with(&[wanb(V4), wanb(V6)], Effort::Beat);
    assert_eq!(at(NOW), (others, S * 300));
    // For the one in use the path has answered, unless it has not.
    let mut core = Core::still(well());
    *core.k.judgement_mut(&wan(V6)) = judged(Verdict::Portal);
    core.beat_others(NOW);
    let three = with(&[wan(V6), wanb(V4), wanb(V6)], Effort::Beat);
    assert_eq!(core.probes(), three);
}

#[test]
fn what_short_rounds_cannot_see_is_asked_in_full_each_minute() {
    let at = |recheck_at: Time, change: fn(&mut Core)| {
        let mut core = Core::still(well());
        core.recheck_at = recheck_at;
        change(&mut core);
        core.quiet(NOW);
        core.probes()
    };
    let portal = |c: &mut Core| *c.k.judgement_mut(&wanb(V4)) = judged(Verdict::Portal);
    assert_eq!(at(NOW, |_| ()), []);
    assert_eq!(at(NOW + MS, portal), []);
    assert_eq!(at(NOW, portal), with(&[wanb(V4)], Effort::Burst));
    let flaw = |c: &mut Core| c.k.paths[1].judgement.flaws.names = Some(String::new());
    assert_eq!(at(NOW, flaw), with(&[Scope::Path(V6)], Effort::Burst));
    let mut core = Core::still(well());
    core.recheck_at = NOW;
    core.quiet(NOW);
    assert_eq!(core.recheck_at, NOW + RECHECK_EVERY);
    for (change, odd) in [
        (portal as fn(&mut Core), true),
        (flaw, true),
        (|_| (), false),
    ] {
        let mut core = Core::still(well());
        change(&mut core);
        assert_eq!(core.odd(), odd);
    }
}

#[test]
fn a_silent_tailscaled_is_looked_at_once_a_second() {
    let looks = |api: Api, span: Duration, read: Option<Time>| {
        let mut core = Core::still(well());
        core.k.tailnet.api = api;
        core.k.api_since = NOW - span;
        core.k.tailnet_read = read;
        core.look_at_silent(NOW);
        core.ordered().contains(&Action::Look(Look::Tailnet))
    };
    let long_ago = Some(NOW - S);
    assert!(looks(Api::Gone, S, long_ago) && looks(Api::Hung, S, long_ago));
    assert!(looks(Api::Gone, S, None));
    assert!(!looks(Api::Gone, S, Some(NOW - S + MS)));
    assert!(!looks(Api::Answers, S, long_ago) && !looks(Api::Unknown, S, long_ago));
    // A refusal that lasts is a fault, and known.
    let refuses = || Api::Refuses(String::new());
    assert!(looks(refuses(), REFUSES_TOO_LONG, long_ago));
    assert!(!looks(refuses(), REFUSES_TOO_LONG + MS, long_ago));
}

/// The control server alone is down, as was found when it was asked last.
fn control_down() -> Core {
    let mut core = Core::still(well());
    let why = "refused".to_string();
    core.faults = vec![Fault::ControlDown { why }];
    core.control_asked = ASKED + MS;
    core.ask_control_at = NOW;
    core
}

#[test]
fn a_control_server_that_is_down_is_asked_less_and_less_often() {
    let mut core = control_down();
    let mut now = NOW;
    for pause in [10, 20, 40, 60, 60] {
        core.ask_control(now - MS);
        assert_eq!(core.probes(), [], "{pause}");
        core.ask_control(now);
        let wan = with(&[wan(V4), wan(V6)], Effort::Burst);
        assert_eq!(core.probes(), wan, "{pause}");
        assert_eq!(core.control_asked, now);
        now += S * pause;
        assert_eq!(core.ask_control_at, now);
    }
    // It answers, or nobody has said that it does not.
    core.k.paths[0].judgement.control = Some((Ok(()), now));
    assert!(!core.control_down());
    core.ask_control(now);
    assert_eq!(core.probes(), []);
    assert_eq!(core.ask_control_pause, ASK_CONTROL_FIRST);
    assert_eq!(core.ask_control_at, now + ASK_CONTROL_FIRST);
    assert!(control_down().control_down() && !Core::still(well()).control_down());
}

#[test]
fn a_way_back_that_held_is_forgotten() {
    let flaps = |went_back: Time| {
        let mut core = Core::still(well());
        (core.flaps, core.went_back) = (2, Some(went_back));
        core.quiet(NOW);
        (core.flaps, core.went_back.is_some())
    };
    assert_eq!(flaps(NOW - FLAP_WITHIN), (0, false));
    assert_eq!(flaps(NOW - FLAP_WITHIN + MS), (2, true));
}

#[test]
fn a_healthy_hour_gives_restarts_their_first_pause_again() {
    let pause_after = |change: fn(&mut Core)| {
        let mut core = Core::still(well());
        let limits = core.policy.limits.clone();
        core.budget.spend(NOW, 0, &limits);
        change(&mut core);
        let end = NOW + S * 9000;
        for now in [NOW + S * 1000, end] {
            core.quiet(now);
        }
        core.budget.spend(end, 0, &limits);
        core.budget
            .may(end, &limits)
            .map_err(|t| t.map(|t| t - end))
    };
    let until = |seconds: u32| Err(Some(S * seconds));
    assert_eq!(pause_after(|_| ()), until(60));
    assert_eq!(
        pause_after(|c| c.faults = vec![Fault::Userspace]),
        until(120)
    );
    let refused = |c: &mut Core| c.k.tailnet.api = Api::Refuses(String::new());
    assert_eq!(pause_after(refused), until(120));
}

#[test]
fn ways_back_are_the_better_uplinks_the_best_first() {
    let ways = |change: fn(&mut Core)| {
        let mut core = away();
        core.k.steering[1].to = None;
        change(&mut core);
        let ways = core.ways_back().into_iter();
        ways.map(|(_, name)| name).collect::<Vec<_>>()
    };
    assert_eq!(ways(|_| ()), ["wan"]);
    assert_eq!(ways(|c| c.k.steering[0].to = None), [""; 0]);
    assert_eq!(ways(|c| c.k.uplinks[0].v4 = None), ["wanb"], "main agrees");
    // Steered to the best, and main agrees: the steering is not needed.
    let best = |c: &mut Core| c.k.steering[0].to = Knowledge::hop(&c.k.uplinks[0], V4);
    assert_eq!(ways(best), ["wan"]);
    let by_other = |c: &mut Core| {
        c.k.steering[0].to = Knowledge::hop(&c.k.uplinks[0], V4);
        c.k.uplinks[0].v4.as_mut().unwrap().metric = Some(99);
    };
    assert_eq!(ways(by_other), [""; 0], "main goes elsewhere");
    // What was left and is away just now would come back dead as main's default.
    let left = |device: &'static str| {
        move |c: &mut Core| {
            c.k.steering[0].to = Knowledge::hop(&c.k.uplinks[0], V4);
            c.left[0] = Some(device.into());
        }
    };
    let mut core = away();
    core.k.steering[1].to = None;
    left("eth9")(&mut core);
    assert_eq!(core.ways_back(), []);
    left("eth2")(&mut core);
    assert_eq!(core.ways_back(), [(V4, "wan".to_string())]);
    // A tunnel that main sends all by comes first.
    let tunnel = |c: &mut Core| {
        let mut vpn = c.k.uplinks[1].clone();
        (vpn.name, vpn.device, vpn.vpn) = ("vpn".into(), "wg0".into(), true);
        vpn.v4.as_mut().unwrap().metric = Some(1);
        c.k.uplinks.push(vpn);
    };
    assert_eq!(ways(tunnel), ["vpn", "wan"]);
    let there = |c: &mut Core| {
        let mut vpn = c.k.uplinks[1].clone();
        (vpn.name, vpn.device, vpn.vpn) = ("vpn".into(), "wg0".into(), true);
        vpn.v4.as_mut().unwrap().metric = Some(1);
        c.k.steering[0].to = Knowledge::hop(&vpn, V4);
        c.k.uplinks.push(vpn);
    };
    assert_eq!(ways(there), ["wan", "wanb"]);
    let no_tunnel = |c: &mut Core| c.k.uplinks[0].v4.as_mut().unwrap().metric = Some(1);
    assert_eq!(ways(no_tunnel), ["wan"]);
}

#[test]
fn each_way_back_that_broke_doubles_the_hold() {
    let mut core = Core::still(well());
    for (flaps, hold) in [(0, 30), (1, 60), (2, 120), (3, 240)] {
        core.flaps = flaps;
        assert_eq!(core.hold(), S * hold);
    }
}

#[test]
fn a_better_uplink_is_asked_every_few_seconds_and_never_broken_off() {
    let mut core = away();
    let better = [(V4, "wan".to_string()), (V6, "wan".to_string())];
    for f in Family::BOTH {
        core.k.judgement_mut(&wan(f)).steady_since = None;
    }
    core.return_at = NOW + MS;
    core.consider_return(NOW, &better);
    assert_eq!(core.probes(), []);
    core.return_at = NOW;
    core.consider_return(NOW, &better);
    assert_eq!(core.probes(), with(&[wan(V4), wan(V6)], Effort::Beat));
    assert_eq!(core.return_at, NOW + S * 3, "a tenth of the hold");
    core.return_at = NOW;
    core.k.judgement_mut(&wan(V6)).abandon();
    core.consider_return(NOW, &better);
    assert_eq!(core.probes(), with(&[wan(V6)], Effort::Beat));
    for (hold, every) in [(S * 300, S * 5), (S * 20, S * 2), (S, MS * 500)] {
        core.policy.hold = hold;
        assert_eq!(core.return_every(), every);
    }
}

/// What is known of the better uplink.
fn of(core: &mut Core) -> &mut Judgement {
    core.k.judgement_mut(&wan(Family::V4))
}

#[test]
fn a_better_uplink_is_stable_when_it_was_open_for_the_hold_and_answers_now() {
    let stable = |change: fn(&mut Core)| {
        let mut core = away();
        change(&mut core);
        core.stable(NOW, "wan", V4, JUST_NOW)
    };
    assert!(stable(|_| ()));
    assert!(stable(|c| of(c).steady_since = Some(NOW - S * 30)));
    assert!(!stable(|c| of(c).steady_since = Some(NOW - S * 30 + MS)));
    assert!(!stable(|c| of(c).steady_since = None));
    assert!(stable(|c| of(c).judged_at = Some(NOW - JUST_NOW)));
    assert!(!stable(|c| of(c).judged_at = Some(NOW - JUST_NOW - MS)));
    assert!(!stable(|c| of(c).verdict = Verdict::Portal));
    // Its own resolvers are not missed where the router's answers all the same.
    assert!(stable(|c| of(c).verdict = Verdict::DnsDead));
    let no_names = |c: &mut Core| c.k.paths[0].judgement.flaws.names = Some(String::new());
    assert!(stable(no_names));
    let mut core = away();
    no_names(&mut core);
    of(&mut core).verdict = Verdict::DnsDead;
    assert!(!core.stable(NOW, "wan", V4, JUST_NOW));
    // What kept control from being made anew there must have gone, unless it is here too.
    let flawed = |c: &mut Core| of(c).flaws.large = Some(String::new());
    assert!(!stable(flawed));
    let mut core = away();
    flawed(&mut core);
    core.k.judgement_mut(&wanb(V4)).flaws.large = Some(String::new());
    assert!(core.stable(NOW, "wan", V4, JUST_NOW));
    assert!(!away().stable(NOW, "wanc", V4, JUST_NOW));
}

#[test]
fn the_mark_goes_back_where_each_family_can() {
    let back = |change: fn(&mut Core)| {
        let mut core = away();
        change(&mut core);
        core.quiet(NOW);
        let families = steered(&mut core).into_iter().map(|(f, _)| f);
        (
            families.collect::<Vec<_>>(),
            core.went_back,
            core.stage.word(),
        )
    };
    let nothing = (vec![], None, "quiet");
    assert_eq!(back(|_| ()), (vec![V4, V6], Some(NOW), "curing"));
    let broken = |c: &mut Core| c.k.judgement_mut(&wan(V6)).steady_since = None;
    assert_eq!(back(broken).0, [V4]);
    // The families are asked together, so the other's answer may be a moment old.
    let older = |c: &mut Core| c.k.judgement_mut(&wan(V6)).judged_at = Some(NOW - S * 6);
    assert_eq!(back(older).0, [V4, V6]);
    let too_old = |c: &mut Core| c.k.judgement_mut(&wan(V6)).judged_at = Some(NOW - S * 6 - MS);
    assert_eq!(back(too_old).0, [V4]);
    let by_main = |c: &mut Core| c.k.steering[1].to = None;
    assert_eq!(back(by_main).0, [V4]);
    let drilled = |c: &mut Core| {
        c.k.drilled = Some(Drilled {
            name: "wanb".into(),
            device: "eth2".into(),
            families: [true, true],
        });
    };
    assert_eq!(back(drilled), nothing);
    let young = |c: &mut Core| c.flaps = 2;
    assert_eq!(back(young), nothing);
    let mut core = away();
    core.quiet(NOW);
    let trigger = core.episode.unwrap().trigger;
    assert_eq!(trigger, "wan (eth1) is open for 30 s: going back to it");
}

#[test]
fn a_move_back_keeps_the_flows_of_the_way_that_is_left() {
    let moved = |change: fn(&mut Core)| {
        let mut core = away();
        change(&mut core);
        core.left[0] = Some("eth1".into());
        let wan = core.k.uplinks[0].clone();
        core.move_back(NOW, &wan, &[V4], "why");
        assert_eq!(core.left[0], None);
        let steering = steered(&mut core).remove(0).1;
        let device = |hop: Option<Hop>| hop.map(|h| h.device);
        (device(steering.to), device(steering.keep))
    };
    let named = |device: &str| Some(device.to_string());
    // By main's own way, where main agrees.
    assert_eq!(moved(|_| ()), (None, named("eth2")));
    let main = |c: &mut Core| c.k.uplinks[0].v4.as_mut().unwrap().metric = Some(99);
    assert_eq!(moved(main), (named("eth1"), named("eth2")));
    // Without steering the path says what is left.
    let unsteered = |c: &mut Core| c.k.steering[0].to = None;
    assert_eq!(moved(unsteered), (None, named("eth2")));
    // From the uplink itself nothing is left, and one address tells no flow from the other.
    let same = |c: &mut Core| c.k.steering[0].to = Knowledge::hop(&c.k.uplinks[0], V4);
    assert_eq!(moved(same), (None, None));
    let shared = |c: &mut Core| {
        let address = c.k.uplinks[0].v4.as_ref().unwrap().addresses.clone();
        c.k.uplinks[1].v4.as_mut().unwrap().addresses = address;
        c.k.steering[0].to = Knowledge::hop(&c.k.uplinks[1], V4);
    };
    assert_eq!(moved(shared), (None, None));
    let mut core = away();
    let wan = core.k.uplinks[0].clone();
    core.move_back(NOW, &wan, &Family::BOTH, "why");
    let waiting = vec![Cure::Steer(V4), Cure::Steer(V6)];
    let until = NOW + CURE_LIMIT;
    let since = NOW;
    assert_eq!(
        core.stage,
        Stage::Curing {
            since,
            waiting,
            until
        }
    );
    assert!(core.ordered().contains(&Action::Look(Look::Tailnet)));
}
