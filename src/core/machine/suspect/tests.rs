//! What a sign has asked, and when it is forgotten.

use super::*;
use crate::core::sample::{well, MS, NOW, S, SINCE};
use crate::core::signs::Traffic;
use crate::core::tailnet::Process;

fn paths() -> Vec<Scope> {
    Family::BOTH.map(Scope::Path).to_vec()
}

/// The tunnel has carried so many packets.
fn carried(packets: u64) -> Traffic {
    Traffic {
        device: "tailscale0".into(),
        received: packets,
        sent: packets,
    }
}

/// Peers have just sent something.
fn in_use(core: &mut Core, now: Time) {
    let pulse = Pulse {
        tunnel: Some(carried(1)),
        ..Pulse::default()
    };
    core.signs.take(now, &pulse, &[], |_| true);
}

/// A quiet core that has a path asked since `NOW`.
fn suspecting() -> Core {
    let mut core = Core::still(well());
    core.suspect(NOW, "a sign".into());
    core
}

#[test]
fn an_idle_router_is_pulsed_rarely_and_with_what_is_due_anyway() {
    let pulse = |change: fn(&mut Core)| {
        let mut core = Core::still(well());
        change(&mut core);
        core.pulse_again(NOW);
        core.pulse_at - NOW
    };
    assert_eq!(pulse(|_| ()), PULSE_IDLE);
    assert_eq!(pulse(|c| in_use(c, NOW)), PULSE_IN_USE);
    assert_eq!(pulse(|c| c.faults = vec![Fault::Userspace]), PULSE_IN_USE);
    let near = PULSE_IDLE / 3;
    assert_eq!(
        pulse(|c| c.look_at = NOW + PULSE_IDLE - PULSE_IDLE / 3),
        PULSE_IDLE - near
    );
    assert_eq!(
        pulse(|c| c.beat_at = NOW + PULSE_IDLE + PULSE_IDLE / 3),
        PULSE_IDLE + near
    );
    assert_eq!(
        pulse(|c| c.beat_at = NOW + PULSE_IDLE + PULSE_IDLE / 3 + MS),
        PULSE_IDLE
    );
    // Of two the first.
    let two = |c: &mut Core| (c.look_at, c.beat_at) = (NOW + S * 11, NOW + S * 9);
    assert_eq!(pulse(two), S * 9);
}

#[test]
fn a_heartbeat_that_is_due_soon_comes_with_an_idle_pulse() {
    let beat = |at: Time, change: fn(&mut Core)| {
        let mut core = Core::still(well());
        core.beat_at = at;
        change(&mut core);
        core.beat_with_pulse(NOW);
        core.beat_at
    };
    let soon = NOW + PULSE_IDLE * 2 / 3;
    assert_eq!(beat(soon - MS, |_| ()), NOW);
    assert_eq!(beat(soon, |_| ()), soon);
    assert_eq!(beat(NOW - S, |_| ()), NOW - S, "never later");
    assert_eq!(beat(soon - MS, |c| in_use(c, NOW)), soon - MS);
}

#[test]
fn connections_are_read_every_other_second_while_something_is_under_way() {
    let look = |at: Time, change: fn(&mut Core)| {
        let mut core = Core::still(well());
        core.connections_at = at;
        change(&mut core);
        let look = core.pulse_now(NOW);
        (look, core.connections_at - NOW)
    };
    let busy: fn(&mut Core) = |c| in_use(c, NOW);
    assert_eq!(look(NOW, busy), (Look::Pulse, CONNECTIONS_EVERY));
    assert_eq!(look(NOW + MS, busy), (Look::Counters, MS));
    assert_eq!(look(NOW, |_| ()).0, Look::Counters);
}

#[test]
fn it_is_calm_where_nothing_is_wrong_asked_or_in_use() {
    let calm = |change: fn(&mut Core)| {
        let mut core = Core::still(well());
        change(&mut core);
        core.calm(NOW)
    };
    assert!(calm(|_| ()));
    assert!(!calm(|c| c.stage = Stage::Proving { since: NOW }));
    assert!(!calm(|c| c.suspicion = Some(Suspicion::test(NOW))));
    assert!(!calm(|c| c.faults = vec![Fault::Userspace]));
    assert!(!calm(|c| in_use(c, NOW)));
}

/// A pulse that shows that this connection is resent so often.
fn resent(core: &Core, times: u32) -> Pulse {
    let own = &core.k.tailnet.flows[0];
    Pulse {
        resending: Some(vec![Resending {
            local: own.local,
            remote: own.remote,
            times,
        }]),
        ..Pulse::default()
    }
}

#[test]
fn a_sign_asks_the_path_at_once_where_somebody_waits_and_with_the_heartbeat_where_nobody_does() {
    let mut core = Core::still(well());
    in_use(&mut core, NOW);
    let mut pulse = resent(&core, 2);
    pulse.tunnel = Some(carried(2));
    core.take_pulse(NOW, &pulse);
    assert_eq!(core.asked(Effort::Suspect), paths());
    assert!(!core.sign_of_idle);
    let mut core = Core::still(well());
    let pulse = resent(&core, 2);
    core.take_pulse(NOW, &pulse);
    assert_eq!(core.asked(Effort::Suspect), []);
    assert!(core.sign_of_idle);
    assert_eq!((core.look_at, core.beat_at), (NOW, NOW));
    // It is kept for those that are tailscaled's own.
    assert_eq!(core.k.resending.len(), 1);
    let mut core = Core::still(well());
    let mut foreign = resent(&core, 2);
    foreign.resending.as_mut().unwrap()[0].local = "192.0.2.18:9".parse().unwrap();
    core.take_pulse(NOW, &foreign);
    assert!(core.k.resending.is_empty() && !core.sign_of_idle);
    // Connections that were not read stay as they were.
    let mut core = Core::still(well());
    let pulse = resent(&core, 1);
    core.take_pulse(NOW, &pulse);
    core.take_pulse(NOW, &Pulse::default());
    assert_eq!(core.k.resending.len(), 1);
}

#[test]
fn signs_may_not_ask_without_end() {
    let mut core = Core::still(well());
    while core.signs.may_ask(NOW) {}
    let pulse = resent(&core, 2);
    core.take_pulse(NOW, &pulse);
    assert!(!core.sign_of_idle);
    let mut core = Core::still(well());
    in_use(&mut core, NOW);
    while core.signs.may_ask(NOW) {}
    let mut pulse = resent(&core, 2);
    pulse.tunnel = Some(carried(2));
    core.take_pulse(NOW, &pulse);
    assert_eq!(core.asked(Effort::Suspect), []);
}

#[test]
fn only_in_quiet_times_does_a_pulse_begin_anything() {
    let mut core = Core::still(well());
    core.stage = Stage::Resting {
        until: NOW + S,
        why: String::new(),
    };
    let pulse = resent(&core, 2);
    core.take_pulse(NOW, &pulse);
    assert!(!core.sign_of_idle && core.suspicion.is_none());
    assert_eq!(core.pulse_at, NOW + PULSE_IN_USE);
    // Control that is not heard any more is an illness.
    let mut core = Core::still(well());
    let pulse = resent(&core, 9);
    core.take_pulse(NOW, &pulse);
    assert_eq!(core.stage.word(), "proving");
}

#[test]
fn a_process_that_is_stopped_is_looked_at_once() {
    let looks = |halted: bool, known: Option<bool>, read: Time| {
        let mut core = Core::still(well());
        core.k.tailnet.process = known.map(|halted| Process {
            halted,
            ..Process::default()
        });
        core.k.tailnet_read = Some(read);
        let pulse = Pulse {
            halted,
            ..Pulse::default()
        };
        core.take_pulse(NOW, &pulse);
        core.ordered().contains(&Action::Look(Look::Tailnet))
    };
    let before = NOW - SILENT_EVERY;
    assert!(looks(true, None, before) && looks(true, Some(false), before));
    assert!(!looks(true, Some(true), before) && !looks(false, None, before));
    assert!(!looks(true, None, before + MS));
}

#[test]
fn a_suspicion_asks_the_paths_that_there_are_and_begins_once() {
    let begins = |change: fn(&mut Core)| {
        let mut core = Core::still(well());
        change(&mut core);
        core.suspect(NOW, "a sign".into());
        core.asked(Effort::Suspect)
    };
    assert_eq!(begins(|_| ()), paths());
    assert_eq!(
        begins(|c| c.k.paths[0].route = None),
        [Scope::Path(Family::V6)]
    );
    assert_eq!(begins(|c| c.stage = Stage::Proving { since: NOW }), []);
    assert_eq!(begins(|c| c.suspicion = Some(Suspicion::test(SINCE))), []);
    // Nothing would come of it.
    assert_eq!(begins(|c| c.k.tailnet.key_expired = true), []);
    assert_eq!(begins(|c| c.k.tailnet.tun = false), []);
}

#[test]
fn the_others_are_asked_when_the_path_has_been_silent_for_a_while() {
    let others = || {
        Family::BOTH
            .map(|f| Scope::Uplink("wanb".into(), f))
            .to_vec()
    };
    let at = |span: Duration, change: fn(&mut Core)| {
        let mut core = suspecting();
        core.ordered();
        change(&mut core);
        core.follow_suspicion(NOW + span);
        core.asked(Effort::Suspect)
    };
    assert_eq!(at(OTHERS_AFTER - MS, |_| ()), []);
    assert_eq!(at(OTHERS_AFTER, |_| ()), others());
    // A slow line gets three times what it usually takes, of whichever family.
    let slow: fn(&mut Core) = |c| c.k.paths[1].usual_rtt = Some(MS * 200);
    assert_eq!(at(MS * 600 - MS, slow), []);
    assert_eq!(at(MS * 600, slow), others());
    // Once.
    let mut core = suspecting();
    core.follow_suspicion(NOW + S);
    core.ordered();
    core.follow_suspicion(NOW + S + MS);
    assert_eq!(core.asked(Effort::Suspect), []);
}

#[test]
fn a_suspicion_is_forgotten_when_the_paths_have_answered() {
    let mut core = suspecting();
    core.k.paths[0].judgement.abandon();
    core.follow_suspicion(NOW + MS);
    assert!(core.suspicion.is_some(), "one is asked still");
    core.k.paths[1].judgement.abandon();
    core.follow_suspicion(NOW + MS);
    assert!(core.suspicion.is_none());
}

#[test]
fn a_slow_heartbeat_is_a_sign_itself() {
    let sign = |span: Duration, change: fn(&mut Core)| {
        let mut core = Core::still(well());
        let path = &mut core.k.paths[0];
        path.judgement.begin(9, NOW + S * 2, Effort::Beat);
        path.beat_at = Some(NOW);
        change(&mut core);
        core.follow_suspicion(NOW + span);
        core.suspicion.is_some()
    };
    assert!(sign(BEAT_SILENT, |_| ()));
    assert!(!sign(BEAT_SILENT - MS, |_| ()));
    let slow: fn(&mut Core) = |c| c.k.paths[0].usual_rtt = Some(MS * 300);
    assert!(!sign(MS * 899, slow) && sign(MS * 900, slow));
    // One that was answered is none.
    let mut core = Core::still(well());
    core.k.paths[0].beat_at = Some(NOW);
    core.follow_suspicion(NOW + S);
    assert!(core.suspicion.is_none() && core.k.paths[0].beat_at.is_none());
    // One that is known already does not begin anew.
    let mut core = suspecting();
    core.k.paths[0].beat_at = Some(NOW);
    core.ordered();
    core.follow_suspicion(NOW + S / 10);
    assert_eq!(core.suspicion.unwrap().since, NOW);
}

#[test]
fn the_machine_wakes_for_what_a_suspicion_or_a_heartbeat_waits_for() {
    let core = suspecting();
    assert_eq!(core.suspicion_due(), Some(NOW + OTHERS_AFTER));
    let mut core = suspecting();
    core.follow_suspicion(NOW + OTHERS_AFTER);
    let burst = BURST_SENT + LAST_ANSWER;
    assert_eq!(core.suspicion_due(), Some(NOW + burst));
    let mut core = Core::still(well());
    assert_eq!(core.suspicion_due(), None);
    core.k.paths[0].beat_at = Some(NOW + S);
    core.k.paths[1].beat_at = Some(NOW);
    core.k.paths[1].usual_rtt = Some(MS * 250);
    assert_eq!(core.suspicion_due(), Some(NOW + MS * 750));
}

#[test]
fn a_burst_gets_the_time_of_its_datagrams_and_four_round_trips() {
    let silence = |rtt, own| Core::burst_silence(MS * rtt, MS * own) - BURST_SENT;
    assert_eq!(silence(0, 0), LAST_ANSWER);
    assert_eq!(silence(80, 20), LAST_ANSWER);
    assert_eq!(silence(100, 20), MS * 400);
    assert_eq!(silence(20, 600), MS * 2400);
}
