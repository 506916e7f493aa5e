//! What an event begins, by the stage in which it is heard; and the owner's words.

use super::*;
use crate::core::sample::{dark, flow, judged, well, MS, NOW, S, SINCE};
use crate::core::starts::Word;

const V4: Family = Family::V4;

fn verifying() -> Stage {
    Stage::Verifying {
        since: SINCE,
        after: Vec::new(),
        until: NOW + S,
    }
}

fn curing() -> Stage {
    Stage::Curing {
        since: SINCE,
        waiting: vec![Cure::Renew],
        until: NOW + S,
    }
}

fn down(interface: &str) -> Event {
    Event::Down {
        interface: interface.into(),
        source: "mwan3".into(),
    }
}

fn up(interface: &str) -> Event {
    Event::Up {
        interface: interface.into(),
        source: "netifd".into(),
    }
}

fn changed() -> Event {
    Event::Changed {
        what: "something".into(),
    }
}

#[test]
fn an_event_begins_an_assessment_or_belongs_to_what_is_under_way() {
    let heard = |stage: Stage, event: Event| {
        let mut core = Core::in_stage(well(), stage);
        core.take_event(NOW, event);
        let settles = core.settle_at.map(|t| t - NOW);
        (core.stage.word(), core.again, settles)
    };
    let settles = Some(S / 5);
    assert_eq!(heard(Stage::Quiet, changed()), ("proving", false, None));
    let proving = || Stage::Proving { since: SINCE };
    assert_eq!(heard(proving(), changed()), ("proving", false, settles));
    assert_eq!(heard(curing(), changed()), ("curing", true, None));
    assert_eq!(heard(verifying(), changed()), ("verifying", false, settles));
    // A word against the way that the acts use cuts their time short; another's does not.
    assert_eq!(heard(verifying(), down("wan6")), ("proving", false, None));
    assert_eq!(
        heard(verifying(), down("wanb")),
        ("verifying", false, settles)
    );
    let resting = Stage::Resting {
        until: NOW + S,
        why: String::new(),
    };
    assert_eq!(heard(resting, changed()), ("proving", false, None));
    // The first of a burst says when it has settled.
    let mut core = Core::in_stage(well(), proving());
    core.take_event(NOW, changed());
    core.take_event(NOW + MS * 50, changed());
    assert_eq!(core.settle_at, Some(NOW + S / 5));
    let mut core = Core::in_stage(well(), verifying());
    core.take_event(NOW, changed());
    core.take_event(NOW + MS * 50, changed());
    assert_eq!(core.settle_at, Some(NOW + S / 5));
}

#[test]
fn an_uplink_of_which_something_is_said_in_an_assessment_proves_itself_anew() {
    let asked_at = |since: Time, event: Event| {
        let mut core = Core::in_stage(well(), Stage::Proving { since });
        core.take_event(NOW, event);
        core.asked(Effort::Burst)
    };
    let settle = S / 5;
    let wan = |f| Scope::Uplink("wan".into(), f);
    let all = Family::BOTH.map(|f| [wan(f), Scope::Path(f)]).concat();
    assert_eq!(asked_at(NOW - settle, down("wan")), all);
    // What is asked just now need not be asked again.
    assert_eq!(asked_at(NOW - settle + MS, down("wan")), []);
    let other = Family::BOTH.map(|f| Scope::Uplink("wanb".into(), f));
    assert_eq!(asked_at(SINCE, up("wanb")), other);
    assert_eq!(asked_at(SINCE, changed()), []);
}

#[test]
fn what_is_being_asked_already_goes_on() {
    let doubted = |path: bool, uplink: bool| {
        let mut core = Core::in_stage(well(), Stage::Proving { since: SINCE });
        if path {
            let path = &mut core.k.paths[0].judgement;
            path.begin(9, NOW + S, Effort::Burst);
        }
        if uplink {
            let uplink = core.k.judgement_mut(&Scope::Uplink("wan".into(), V4));
            uplink.begin(9, NOW + S, Effort::Burst);
        }
        core.doubt(NOW, Some("wan".into()));
        let v4 = core
            .asked(Effort::Burst)
            .into_iter()
            .filter(|s| s.family() == V4);
        v4.count()
    };
    assert_eq!(doubted(false, false), 2);
    assert_eq!(doubted(true, false), 1);
    assert_eq!(doubted(false, true), 0);
    let mut core = Core::in_stage(well(), Stage::Proving { since: SINCE });
    core.doubt(NOW, Some("wan".into()));
    let path = &core.k.paths[0].judgement;
    assert_eq!((path.verdict, path.judged_at), (Verdict::Unknown, None));
}

#[test]
fn a_word_about_an_uplink_is_remembered_and_taken_back() {
    let mut core = Core::in_stage(well(), Stage::Quiet);
    core.take_event(NOW, down("wan"));
    let of = |f: Family| ("eth1".to_string(), f);
    let both = Family::BOTH.map(|f| (of(f), NOW));
    assert_eq!(core.k.said_down, both.into_iter().collect());
    core.take_event(NOW, up("wanb"));
    assert_eq!(core.k.said_down.len(), 2, "that was another");
    core.take_event(NOW, up("wan"));
    assert!(core.k.said_down.is_empty());
    // wan6 has a default of its own and no other.
    core.k.uplinks[0].of_one_family = vec![("wan6".into(), Family::V6)];
    core.take_event(NOW, down("wan"));
    core.take_event(NOW, up("wan6"));
    let v4 = [(of(Family::V4), NOW)];
    assert_eq!(core.k.said_down, v4.into_iter().collect());
    core.take_event(NOW, up("wan"));
    core.take_event(NOW, down("wan6"));
    let v6 = [(of(Family::V6), NOW)];
    assert_eq!(core.k.said_down, v6.into_iter().collect());
    let mut core = Core::in_stage(well(), Stage::Quiet);
    core.episode = None;
    core.take_event(NOW, up("wan"));
    let trigger = core.episode.unwrap().trigger;
    assert_eq!(trigger, "netifd: wan is up");
}

#[test]
fn new_facts_allow_a_move_again() {
    for (event, tried) in [
        (down("wan"), [0, 0]),
        (up("wanb"), [0, 0]),
        (changed(), [2, 1]),
    ] {
        let mut core = Core::in_stage(well(), Stage::Proving { since: SINCE });
        core.episode.as_mut().unwrap().tried.steer = [2, 1];
        core.take_event(NOW, event.clone());
        let now = core.episode.unwrap().tried.steer;
        assert_eq!(now, tried, "{event:?}");
    }
}

#[test]
fn what_concerns_no_uplink_costs_one_look() {
    let what = || "x".to_string();
    for (event, look) in [
        (down("lan"), Look::All),
        (up("lan"), Look::All),
        (Event::Kernel { what: what() }, Look::Paths),
        (Event::Tailscaled { what: what() }, Look::Tailnet),
        (Event::Service(Word::Started), Look::Tailnet),
    ] {
        let mut core = Core::in_stage(well(), Stage::Quiet);
        core.take_event(NOW, event.clone());
        assert_eq!(core.ordered(), [Action::Look(look)], "{event:?}");
        assert_eq!(core.stage, Stage::Quiet);
    }
}

#[test]
fn rules_of_an_earlier_run_are_known_by_their_devices() {
    let mut core = Core::knowing(well());
    let device = |name: &str| Some(name.to_string());
    core.take(
        NOW,
        Input::Adopt {
            family: V4,
            to: device("eth2"),
            keep: device("eth1"),
        },
    );
    let steering = core.k.steering(V4);
    let devices = [&steering.to, &steering.keep].map(|h| h.as_ref().unwrap().device.as_str());
    assert_eq!(devices, ["eth2", "eth1"]);
}

#[test]
fn the_owner_s_word_begins_an_assessment_and_with_force_forgets_what_was_tried() {
    let asked = |stage: Stage, force: bool| {
        let mut core = Core::in_stage(well(), stage);
        core.rests = 5;
        core.episode.as_mut().unwrap().tried.renew = 2;
        core.take_recover(NOW, force);
        let tried = core.episode.as_ref().unwrap().tried.renew;
        let doomed = core
            .k
            .epoch
            .doomed(&flow(Purpose::Control, "192.0.2.18:5001"));
        (core.stage.word(), core.rests, tried, doomed)
    };
    assert_eq!(asked(Stage::Quiet, false), ("proving", 5, 2, false));
    assert_eq!(asked(Stage::Quiet, true), ("proving", 0, 0, true));
    // The acts of before get their time, unless they are to be forgotten.
    assert_eq!(asked(verifying(), false), ("verifying", 5, 2, false));
    assert_eq!(asked(verifying(), true), ("proving", 0, 0, true));
    assert_eq!(asked(curing(), true).0, "curing");
}

/// What a stop does with the steering of IPv4: taken back, or left and said why.
fn stopped(change: impl FnOnce(&mut Core)) -> (bool, bool) {
    let mut core = Core::knowing(well());
    core.k.steering[0].to = Knowledge::hop(&core.k.uplinks[1], V4);
    change(&mut core);
    core.stop(NOW);
    assert!(core.stopped);
    let ordered = core.ordered();
    assert_eq!(ordered.last(), Some(&Action::Exit));
    let taken = ordered.contains(&Action::Steer(V4, Steering::default()));
    let said = ordered.iter().any(|a| matches!(a, Action::Tell(_)));
    (taken, said)
}

#[test]
fn at_the_end_the_steering_goes_where_main_s_own_way_is_open() {
    let main = |change: fn(&mut Judgement)| {
        move |c: &mut Core| change(c.k.judgement_mut(&Scope::Uplink("wan".into(), V4)))
    };
    let (taken, left) = ((true, false), (false, true));
    assert_eq!(stopped(|_| ()), taken);
    assert_eq!(stopped(main(|j| *j = judged(Verdict::Closed))), left);
    assert_eq!(stopped(main(|j| j.flaws.large = Some(String::new()))), left);
    assert_eq!(
        stopped(main(|j| j.judged_at = Some(NOW - ANSWER_COUNTS))),
        taken
    );
    assert_eq!(
        stopped(main(|j| j.judged_at = Some(NOW - ANSWER_COUNTS - MS))),
        left
    );
    assert_eq!(stopped(|c| c.k.uplinks.clear()), left);
    // What is kept for old flows is steering too; where there is none nothing is done.
    let kept = |c: &mut Core| {
        let steering = &mut c.k.steering[0];
        steering.keep = steering.to.take();
    };
    assert_eq!(stopped(kept), taken);
    assert_eq!(stopped(|c| c.k.steering[0].to = None), (false, false));
    let dead = |c: &mut Core| {
        c.k = dark(well());
        c.k.steering[0].keep = Knowledge::hop(&c.k.uplinks[1], V4);
    };
    assert_eq!(stopped(dead), left);
}
