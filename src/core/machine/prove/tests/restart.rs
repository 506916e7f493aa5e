//! When nothing milder is left: a restart, or the end of a drill.

use super::*;

/// All that is milder has been tried on a control that is stuck.
fn spent(k: Knowledge) -> Core {
    let mut core = Core::assessing(k);
    core.episode.as_mut().unwrap().tried.renew = 9;
    core
}

#[test]
fn a_restart_needs_an_answer_of_the_control_server_of_just_now() {
    let restarts = |core: &mut Core| decided(core) == ("curing", vec![Action::Restart]);
    assert!(restarts(&mut spent(broken())));
    let answered = |at: Time| {
        with(broken(), |k| {
            everywhere(k, |j| {
                j.control = Some((Ok(()), at));
                j.judged_at = Some(at);
                j.resolved = Some(at);
            });
        })
    };
    let long_ago = NOW - CONTROL_FRESH;
    let decide = |at: Time, since: Time| {
        let mut core = spent(answered(at));
        core.k.paths_read = Some(at);
        let faults = diagnose(&core.k, NOW, since);
        core.decide(moment(NOW), since, faults);
        core.stage.word()
    };
    assert_eq!(decide(long_ago, long_ago), "curing");
    assert_eq!(decide(long_ago - MS, long_ago - MS), "proving");
    // It is not started anew where it may be that no handshake comes to its end.
    let asked = with(broken(), |k| ask(k, "wan", Effort::Burst));
    assert_eq!(decided(&mut spent(asked)), ("proving", vec![]));
    // One that does not run has nothing to lose.
    let gone = |change: &dyn Fn(&mut Knowledge)| {
        with(with(well(), unasked), |k| {
            k.tailnet.api = Api::Gone;
            k.api_since = SINCE - S * 60;
            change(k);
        })
    };
    assert!(restarts(&mut Core::assessing(gone(&|_| ()))));
    let asked = gone(&|k: &mut Knowledge| ask(k, "wan", Effort::Burst));
    assert!(restarts(&mut Core::assessing(asked)));
}

#[test]
fn a_drill_ends_where_only_a_restart_could_help() {
    let drilled = |core: &mut Core| {
        core.k.drilled = Some(drill_of_wan([true, true]));
        // The mark is away, over the other uplink.
        for f in Family::BOTH {
            let other = core.k.uplinks[1].clone();
            core.k.steering[f.at()].to = Knowledge::hop(&other, f);
            route_by(&mut core.k, f, 1);
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
    let mut core = Core::assessing(broken());
    drilled(&mut core);
    core.k.tailnet.flows[0] = flow(Purpose::Control, "192.0.2.34:5001");
    let (_, acts) = decided(&mut core);
    assert_eq!(acts, [Action::Renew]);
    assert!(core.k.drilled.is_some());
}
