//! What a look at tailscaled changes, and what it begins.

use super::*;
use crate::core::sample::{control_silent, flow, well, ASKED, MS, NOW, S, SINCE};
use crate::core::starts::Word;
use crate::core::tailnet::Process;

/// A core that has seen this tailscaled before.
fn settled() -> Core {
    let mut core = Core::knowing(well());
    core.pid = Some(77);
    core.version = "1.80".into();
    core.k.tailnet.version = "1.80".into();
    core.k.api_since = SINCE;
    core
}

/// Looks again: all is as before but for this.
fn look(core: &mut Core, change: impl FnOnce(&mut Tailnet)) -> Vec<Action> {
    let mut tailnet = core.k.tailnet.clone();
    change(&mut tailnet);
    core.take_tailnet(NOW, tailnet);
    core.ordered()
}

fn told(ordered: &[Action]) -> Vec<String> {
    let told = ordered.iter().filter_map(|a| match a {
        Action::Tell(Notice::Remark(text) | Notice::Trigger(text)) => Some(text.clone()),
        Action::Tell(Notice::Fault { text, .. }) => Some(text.clone()),
        _ => None,
    });
    told.collect()
}

#[test]
fn what_the_user_wanted_last_holds_while_tailscaled_is_silent() {
    let kept = |api: Api| {
        let mut core = settled();
        let t = &mut core.k.tailnet;
        (t.backend, t.wanted, t.logged_out, t.key_expired) =
            (Backend::Stopped, Some(false), true, true);
        look(&mut core, |t| {
            *t = Tailnet {
                api,
                ..Tailnet::default()
            };
        });
        let t = &core.k.tailnet;
        let kept = [t.wanted == Some(false), t.logged_out, t.key_expired, t.tun];
        assert_eq!(t.backend == Backend::Stopped, kept[0]);
        kept
    };
    assert_eq!(kept(Api::Hung), [true; 4]);
    assert_eq!(kept(Api::Gone), [true; 4]);
    assert_eq!(kept(Api::Answers), [false; 4]);
    // Of one that never answered the kernel device is taken for granted.
    for (before, tun) in [(Api::Unknown, true), (Api::Answers, false)] {
        let mut core = settled();
        (core.k.tailnet.tun, core.k.tailnet.api) = (false, before);
        look(&mut core, |t| t.api = Api::Gone);
        assert_eq!(core.k.tailnet.tun, tun);
    }
}

#[test]
fn a_silence_counts_from_its_begin_or_from_the_last_word() {
    let since = |change: fn(&mut Tailnet)| {
        let mut core = settled();
        look(&mut core, |t| {
            let cpu = S * 9;
            t.process = Some(Process {
                cpu,
                ..Process::default()
            });
            change(t);
        });
        (core.k.api_since, core.k.cpu_then)
    };
    let (before, now) = ((SINCE, Duration::ZERO), (NOW, S * 9));
    assert_eq!(since(|_| ()), before);
    assert_eq!(since(|t| t.spoke = true), now);
    assert_eq!(since(|t| t.api = Api::Hung), now);
}

#[test]
fn what_lasts_counts_from_the_first_look_that_shows_it() {
    let mut core = settled();
    let halted = |t: &mut Tailnet| {
        t.process = Some(Process {
            halted: true,
            ..Process::default()
        });
        t.left_alone = Some("is stopped");
        t.lost.what = vec!["rule".into()];
    };
    let times = |c: &Core| [c.k.halted_since, c.k.left_alone_since, c.k.lost_since];
    look(&mut core, halted);
    assert_eq!(times(&core), [Some(NOW); 3]);
    for since in [
        &mut core.k.halted_since,
        &mut core.k.left_alone_since,
        &mut core.k.lost_since,
    ] {
        *since = Some(SINCE);
    }
    look(&mut core, halted);
    assert_eq!(times(&core), [Some(SINCE); 3]);
    look(&mut core, |t| {
        t.process = None;
        t.left_alone = None;
        t.lost.what.clear();
    });
    assert_eq!(times(&core), [None; 3]);
}

#[test]
fn being_offline_counts_for_a_running_process_that_was_online_once() {
    let offline = |seen: bool, change: fn(&mut Tailnet)| {
        let mut core = settled();
        core.k.online_seen = seen;
        look(&mut core, |t| {
            t.online = Some(false);
            change(t);
        });
        core.k.offline_since
    };
    assert_eq!(offline(true, |_| ()), Some(NOW));
    assert_eq!(offline(false, |_| ()), None);
    assert_eq!(offline(true, |t| t.online = Some(true)), None);
    assert_eq!(offline(true, |t| t.backend = Backend::Starting), None);
    assert_eq!(offline(true, |t| t.pid = Some(78)), None, "another process");
    let mut core = settled();
    core.k.offline_since = Some(SINCE);
    look(&mut core, |t| t.online = Some(false));
    assert_eq!(core.k.offline_since, Some(SINCE));
    look(&mut core, |t| t.online = Some(true));
    assert_eq!((core.k.offline_since, core.k.online_seen), (None, true));
}

#[test]
fn another_process_is_told_unless_it_is_the_first() {
    let trigger = |pid: Option<u32>, stage: Stage, found: Option<u32>| {
        let mut core = settled();
        (core.pid, core.stage) = (pid, stage);
        look(&mut core, |t| t.pid = found);
        assert_eq!(core.pid, found.or(pid));
        core.episode.map(|e| e.trigger)
    };
    let anew = Some("tailscaled was started anew by another hand".to_string());
    assert_eq!(trigger(Some(77), Stage::Quiet, Some(78)), anew);
    assert_eq!(trigger(Some(77), Stage::Quiet, Some(77)), None);
    assert_eq!(trigger(Some(77), Stage::Quiet, None), None);
    assert_eq!(trigger(None, Stage::Quiet, Some(78)), None);
    let proving = Stage::Proving { since: SINCE };
    assert_eq!(trigger(Some(77), proving, Some(78)), None);
    // Starts are counted by process.
    let mut core = settled();
    for pid in 78..82 {
        look(&mut core, |t| t.pid = Some(pid));
    }
    assert!(core.k.starts.crash_loop(NOW).is_some());
}

/// Looks at these in turn; tells for each whether the peers were pinged.
fn pinged(core: &mut Core, looks: &[(u32, Backend)]) -> Vec<bool> {
    let pinged = looks.iter().map(|(pid, backend)| {
        let ordered = look(core, |t| (t.pid, t.backend) = (Some(*pid), *backend));
        ordered.contains(&Action::PingPeers)
    });
    pinged.collect()
}

#[test]
fn a_new_process_has_the_peers_pinged_once_when_it_runs() {
    use Backend::{Running, Starting, Stopped};
    let looks = [
        (77, Running),
        (78, Starting),
        (78, Running),
        (78, Running),
        (78, Stopped),
        (78, Running),
        (79, Running),
        (79, Running),
    ];
    let expected = [false, false, true, false, false, false, true, false];
    for stage in [
        Stage::Quiet,
        Stage::Proving { since: SINCE },
        Stage::Resting {
            until: NOW,
            why: String::new(),
        },
    ] {
        let mut core = settled();
        core.stage = stage;
        core.pinged_for = Some(77);
        assert_eq!(pinged(&mut core, &looks), expected);
    }
    // What does not answer does not run, whatever it was before.
    let mut core = settled();
    core.pinged_for = Some(77);
    let ordered = look(&mut core, |t| (t.pid, t.api) = (Some(78), Api::Hung));
    assert!(!ordered.contains(&Action::PingPeers));
}

#[test]
fn one_that_ran_long_before_us_has_no_peers_pinged() {
    let first = |process: Option<Process>, backend: Backend| {
        let mut core = settled();
        (core.pid, core.k.tailnet_read) = (None, None);
        core.k.tailnet.process = process;
        pinged(&mut core, &[(77, backend), (77, Backend::Running)])
    };
    let aged = |age: Duration| {
        Some(Process {
            age,
            ..Process::default()
        })
    };
    assert_eq!(first(aged(S * 60), Backend::Running), [false, false]);
    assert_eq!(first(None, Backend::Running), [false, false]);
    // At a boot both begin at about the same time.
    assert_eq!(first(aged(S * 60 - MS), Backend::Running), [true, false]);
    // It may have waited long for a way out.
    assert_eq!(first(aged(S * 600), Backend::Starting), [false, true]);
}

#[test]
fn files_that_name_tailscale_are_kept_until_others_are_found() {
    let mut core = settled();
    look(&mut core, |t| t.hands = vec!["/etc/rc.local".into()]);
    assert!(core.k.tailnet.hands.is_empty());
    look(&mut core, |_| ());
    assert_eq!(core.k.hands, ["/etc/rc.local"]);
}

#[test]
fn a_rest_ends_when_tailscaled_answers_again_or_something_can_be_mended() {
    let trigger = |before: Api, change: fn(&mut Core), look_shows: fn(&mut Tailnet)| {
        let mut core = settled();
        core.k.tailnet.api = before;
        core.stage = Stage::Resting {
            until: NOW + S * 30,
            why: String::new(),
        };
        change(&mut core);
        look(&mut core, look_shows);
        core.episode.map(|e| e.trigger)
    };
    let answers: fn(&mut Tailnet) = |t| t.api = Api::Answers;
    let again = Some("tailscaled answers again".to_string());
    assert_eq!(trigger(Api::Hung, |_| (), answers), again);
    assert_eq!(trigger(Api::Answers, |_| (), answers), None);
    assert_eq!(trigger(Api::Hung, |_| (), |_| ()), None);
    let lost: fn(&mut Tailnet) = |t| {
        t.lost.what = vec!["rule".into()];
        t.lost.mendable = true;
    };
    let long: fn(&mut Core) = |c| c.k.lost_since = Some(SINCE);
    let mend = Some("the kernel has lost something of tailscaled's".to_string());
    assert_eq!(trigger(Api::Answers, long, lost), mend);
    assert_eq!(
        trigger(Api::Answers, |_| (), lost),
        None,
        "it may come back"
    );
}

#[test]
fn an_illness_begins_an_assessment_in_quiet_times() {
    let begun = |stage: Stage| {
        let mut core = settled();
        core.stage = stage;
        let old = flow(Purpose::Control, "192.0.2.34:5001");
        look(&mut core, |t| t.flows[0] = old);
        core.episode.is_some()
    };
    assert!(begun(Stage::Quiet));
    assert!(!begun(Stage::Proving { since: SINCE }));
    let mut core = settled();
    core.loss_unread = true;
    core.second_look_asked = true;
    look(&mut core, |_| ());
    assert!(core.episode.is_none() && !core.loss_unread && !core.second_look_asked);
    assert_eq!(core.k.tailnet_read, Some(NOW));
}

#[test]
fn an_upgrade_and_another_socket_are_remarked_once() {
    let remarks = |core: &mut Core, change: fn(&mut Tailnet)| told(&look(core, change));
    let mut core = settled();
    assert_eq!(remarks(&mut core, |_| ()), [""; 0]);
    let upgrade: fn(&mut Tailnet) = |t| t.version = "1.90".into();
    assert_eq!(
        remarks(&mut core, upgrade),
        ["tailscaled was 1.80 and is 1.90 now"]
    );
    assert_eq!(remarks(&mut core, upgrade), [""; 0]);
    // One that does not answer has no version, and the first is no upgrade.
    let silent: fn(&mut Tailnet) = |t| (t.api, t.version) = (Api::Hung, String::new());
    remarks(&mut core, silent);
    assert_eq!(core.version, "1.90");
    let mut first = settled();
    first.version.clear();
    assert_eq!(remarks(&mut first, upgrade), [""; 0]);
    let elsewhere: fn(&mut Tailnet) = |t| t.elsewhere = Some("/tmp/ts.sock".into());
    let said = remarks(&mut first, elsewhere);
    assert!(
        said[0].starts_with("tailscaled listens on /tmp/ts.sock"),
        "{said:?}"
    );
    assert_eq!(remarks(&mut first, elsewhere), [""; 0]);
    let other: fn(&mut Tailnet) = |t| t.elsewhere = Some("/tmp/other.sock".into());
    assert_eq!(remarks(&mut first, other).len(), 1);
}

#[test]
fn what_a_person_did_is_named_and_its_end_begins_an_assessment() {
    let stopped: fn(&mut Tailnet) = |t| t.wanted = Some(false);
    let mut core = settled();
    assert_eq!(told(&look(&mut core, stopped)).len(), 1);
    assert_eq!(told(&look(&mut core, stopped)).len(), 0, "once");
    assert_eq!(core.faults().len(), 1);
    let expired: fn(&mut Tailnet) = |t| t.key_expired = true;
    assert_eq!(
        told(&look(&mut core, expired)).len(),
        1,
        "for another reason"
    );
    look(&mut core, |t| {
        t.key_expired = false;
        t.wanted = Some(true);
    });
    assert_eq!(core.episode.unwrap().trigger, "tailscale is wanted again");
}

#[test]
fn a_control_server_that_is_down_stays_named_until_control_is_seen() {
    let named = |change: fn(&mut Tailnet)| {
        let mut core = settled();
        // Nobody answers it, so that the look by itself is no illness.
        control_silent(&mut core.k, "refused");
        let why = "refused".to_string();
        core.faults = vec![Fault::ControlDown { why }, Fault::Userspace];
        look(&mut core, change);
        assert!(core.faults().contains(&Fault::Userspace));
        core.faults().len() == 2
    };
    assert!(!named(|_| ()));
    assert!(named(|t| t.online = Some(false)));
    let no_control: fn(&mut Tailnet) = |t| {
        t.flows.remove(0);
    };
    assert!(named(no_control));
    assert!(!named(|t| t.online = None));
}

#[test]
fn what_is_wrong_with_tailscaled_itself_is_named_in_every_stage_and_told_once() {
    let mut core = settled();
    core.stage = Stage::Proving { since: SINCE };
    core.faults = vec![Fault::Userspace];
    for _ in 0..3 {
        core.k.starts.word(NOW, Word::Ended);
    }
    assert_eq!(told(&look(&mut core, |_| ())).len(), 1);
    assert_eq!(told(&look(&mut core, |_| ())).len(), 0);
    let named: Vec<_> = core.faults().iter().map(Fault::id).collect();
    assert_eq!(named, ["userspace-networking", "crash-loop"]);
    core.k.starts = crate::core::starts::Starts::default();
    look(&mut core, |_| ());
    assert_eq!(core.faults(), [Fault::Userspace]);
}

#[test]
fn control_that_is_not_heard_is_an_illness_unless_its_server_is_down() {
    let mut core = settled();
    let own = core.k.tailnet.flows[0].clone();
    core.k.resending = vec![Resending {
        local: own.local,
        remote: own.remote,
        times: 7,
    }];
    let text = "the control connection to 203.0.113.1:443 is not heard (7 times resent)";
    assert_eq!(core.unheard().as_deref(), Some(text));
    assert!(core.sick(NOW).is_some());
    let why = String::new();
    core.faults = vec![Fault::ControlDown { why }];
    core.control_asked = ASKED + MS;
    assert_eq!(core.unheard(), None);
    assert_eq!(core.sick(NOW), None);
    // Before the path was read nothing is known of what the flows mean.
    core.faults.clear();
    core.k.paths_read = None;
    assert_eq!(core.sick(NOW), None);
}
