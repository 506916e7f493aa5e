//! Which answers are waited for, and for how long.

use super::*;

#[test]
fn a_control_server_that_was_down_is_so_until_something_is_known() {
    let down = || Fault::ControlDown { why: "x".into() };
    let still = |k: Knowledge, faults: &[Fault]| {
        let mut core = Core::assessing(k);
        core.faults = vec![down()];
        core.control_still_down(SINCE, faults)
    };
    assert_eq!(still(with(well(), unasked), &[]), Some(down()));
    assert_eq!(still(well(), &[]), None, "it answers");
    assert_eq!(
        still(with(well(), unasked), &[down()]),
        None,
        "that is said already"
    );
    let failed = with(with(well(), unasked), |k| {
        k.paths[0].judgement.control = Some((Err("x".into()), NOW));
    });
    assert_eq!(still(failed, &[]), None, "the news say so themselves");
    let core = Core::assessing(with(well(), unasked));
    assert_eq!(core.control_still_down(SINCE, &[]), None);
}

#[test]
fn the_control_server_is_waited_for_where_its_answer_would_explain_something() {
    let waits = |k: Knowledge| Core::assessing(k).control_is_asked(NOW, SINCE);
    let asked = || with(with(well(), unasked), |k| ask(k, "wanb", Effort::Burst));
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
    let nobody = with(with(well(), unasked), offline);
    assert!(!waits(nobody));
    let few = with(with(well(), unasked), |k| ask(k, "wanb", Effort::Suspect));
    assert!(!waits(with(few, offline)));
    for known in [Ok(()), Err("x".to_string())] {
        let k = with(with(asked(), offline), |k| {
            k.paths[0].judgement.control = Some((known.clone(), NOW));
        });
        assert!(!waits(k), "{known:?}");
    }
}

#[test]
fn whether_control_can_be_made_anew_is_waited_for_where_it_broke() {
    let waits = |k: Knowledge| {
        let faults = diagnose(&k, NOW, SINCE);
        Core::assessing(k).way_is_asked(NOW, SINCE, &faults)
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
    let mut core = Core::assessing(with(hindered.clone(), asked("wanb")));
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
        let mut core = Core::assessing(well());
        ask(&mut core.k, "wanb", effort);
        core.others_are_asked(SINCE + span, SINCE)
    };
    assert!(waits(S * 4 - MS, Effort::Burst));
    assert!(!waits(S * 4, Effort::Burst));
    assert!(!waits(S, Effort::Beat), "that tells nothing of flaws");
    assert!(!Core::assessing(well()).others_are_asked(NOW, SINCE));
}

#[test]
fn a_full_round_over_the_way_in_use_is_waited_for_while_the_server_s_answer_is_young() {
    let waits = |span: Duration, name: &str| {
        let mut core = Core::assessing(well());
        ask(&mut core.k, name, Effort::Burst);
        core.ways_are_asked(SINCE + span, SINCE)
    };
    assert!(waits(S * 4 - MS, "wan"));
    assert!(!waits(S * 4, "wan"));
    assert!(!waits(S, "wanb"));
    let mut core = Core::assessing(well());
    ask(&mut core.k, "wan", Effort::Burst);
    let uplink = core.k.verdicts.get_mut(&("wan".into(), Family::V4));
    uplink.unwrap().take(NOW, 9, Finding::Large(Ok(())));
    assert!(!core.ways_are_asked(SINCE, SINCE), "they pass");
}
