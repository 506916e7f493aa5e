//! Recorded traces of a real router, read as the daemon reads them, against the real core.

mod ubus_support;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use tailover::core::{
    Action, Effort, Event, Family, Look, Notice, Scope, Stage, Steering, Uplink, Way,
};
use tailover::ubus::blobmsg::Value;
use tailover::watch::events;
use tailover::watch::uplinks::{self, Choice, Device};
use world::{policy, Fault, World, MS, S};

/// Silence on the path that is enough once netifd or mwan3 has said that its uplink is down
/// (`QUICK` in `core::machine`), and the time that the model's answers take.
const QUICK: Duration = Duration::from_millis(300 + 50);

/// Settled before the trace begins.
const BEFORE: Duration = Duration::from_secs(10);

/// One thing that the router said.
#[derive(Debug)]
struct Said {
    /// Since the trace's first line.
    at: Duration,
    /// Who said it, and the event it is to the core; `None` for what does not matter.
    source: &'static str,
    event: Option<Event>,
}

impl Said {
    fn is_down(&self) -> bool {
        matches!(self.event, Some(Event::Down { .. }))
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/traces")
}

fn read(path: &str) -> String {
    let file = folder().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// A trace's lines in order of time.
fn trace(name: &str) -> Vec<Said> {
    let mut said = hotplug(&read(&format!("{name}/hotplug")));
    for file in ["listen", "subscribe"] {
        if folder().join(name).join(file).exists() {
            said.extend(read(&format!("{name}/{file}")).lines().filter_map(line));
        }
    }
    said.sort_by_key(|s| s.at);
    let begin = said.first().expect("a trace has lines").at;
    for s in &mut said {
        s.at -= begin;
    }
    said
}

/// The calls that a script numbered as ours would see: the last of each.
fn hotplug(text: &str) -> Vec<Said> {
    let calls = text.split("== ").filter(|c| c.contains("[iface-last]"));
    calls
        .map(|call| {
            let at = call.split(' ').next().expect("the time");
            let table = ["ACTION", "INTERFACE", "DEVICE", "FIRSTCONNECT"]
                .iter()
                .filter_map(|name| {
                    let value = call
                        .lines()
                        .find_map(|l| l.strip_prefix(name)?.strip_prefix('='))?;
                    Some((name.to_lowercase(), Value::String(value.into())))
                })
                .collect();
            let event = events::hotplug(&Value::Table(table)).expect("a call of a real router");
            Said {
                at: epoch(at),
                source: "hotplug",
                event: Some(event),
            }
        })
        .collect()
}

/// A line of `ubus listen` or `ubus subscribe`, `None` for a message of the command itself.
fn line(line: &str) -> Option<Said> {
    let mut words = line.splitn(3, ' ');
    let at = epoch(words.nth(1)?);
    let json: Json = serde_json::from_str(words.next()?).ok()?;
    let (name, data) = json.as_object()?.iter().next()?;
    let data = Value::from_json(data.clone());
    let (source, event) = match name.as_str() {
        "network.interface" => ("netifd", events::netifd_event(&data)),
        "link_up" | "link_down" => ("device", events::device_notification(name, &data)),
        "interface.update" | "interface.down" => {
            let object = "network.interface.wan";
            ("netifd", events::netifd_notification(object, name, &data))
        }
        _ => (
            "procd",
            events::service_notification(name, &data, "tailscale"),
        ),
    };
    Some(Said { at, source, event })
}

fn epoch(text: &str) -> Duration {
    Duration::from_secs_f64(text.parse().expect("seconds"))
}

/// A settled world, and a trace told to it; `harm` is asked before each line.
fn replay(said: &[Said], mut harm: impl FnMut(&mut World, &Said)) -> World {
    let mut w = World::new(policy(), 1);
    w.run(BEFORE);
    assert_eq!(*w.core.stage(), Stage::Quiet);
    w.acts.clear();
    w.notices.clear();
    for s in said {
        let due = BEFORE + s.at;
        w.run(due.saturating_sub(w.now));
        harm(&mut w, s);
        if let Some(event) = &s.event {
            w.tell(event.clone());
        }
    }
    w.run(20 * S);
    w
}

/// How many lines call for an assessment.
fn alarms(said: &[Said]) -> usize {
    let alarm = |s: &&Said| {
        matches!(
            s.event,
            Some(Event::Down { .. } | Event::Up { .. } | Event::Changed { .. })
        )
    };
    said.iter().filter(alarm).count()
}

/// When the path was probed with all there is: once for each assessment, and once more when it moved.
fn assessments(w: &World) -> Vec<Duration> {
    let path = |a: &Action| {
        matches!(
            a,
            Action::Probe {
                scope: Scope::Path(Family::V4),
                effort: Effort::Burst,
                ..
            }
        )
    };
    let hits = w.acts.iter().filter(|a| path(&a.action));
    hits.map(|a| a.at - BEFORE).collect()
}

fn steers(w: &World) -> Vec<(Duration, Steering)> {
    let steer = |a: &world::Act| match &a.action {
        Action::Steer(Family::V4, s) => Some((a.at - BEFORE, s.clone())),
        _ => None,
    };
    w.acts.iter().filter_map(steer).collect()
}

fn probes(w: &World) -> usize {
    w.count(|a| matches!(a, Action::Probe { .. }))
}

/// A trace that changes nothing outside: no cure, and no more probes than one round for each word.
/// An assessment that ended within `settle`, because all answered at once, is not there any more to
/// take the rest of its burst in.
fn nothing_comes_of(name: &str) {
    let said = trace(name);
    let w = replay(&said, |_, _| {});
    assert_eq!(w.cures().count(), 0, "{name}: {:?}", w.acts);
    assert!(w.broken.is_empty(), "{:?}", w.broken);
    let (alarms, rounds) = (alarms(&said), assessments(&w).len());
    assert!(rounds >= 1, "{name}: nobody looked");
    assert!(rounds <= alarms, "{name}: {rounds} for {alarms} words");
    // The path in both families and two uplinks, in each; and the beats of healthy minutes.
    let beats = (w.now.as_secs() / policy().interval.as_secs() + 1) as usize;
    let most = 4 * rounds + 2 * beats;
    assert!(probes(&w) <= most, "{name}: {} probes", probes(&w));
    assert_eq!(*w.core.stage(), Stage::Quiet);
}

#[test]
fn boot_while_healthy_is_looked_at_and_left_alone() {
    nothing_comes_of("boot");
}

#[test]
fn a_stop_and_start_of_mwan3_while_healthy_is_left_alone() {
    nothing_comes_of("mwan3ctl");
}

#[test]
fn the_scripts_calls_alone_are_left_alone_when_the_outside_answers() {
    nothing_comes_of("ifupdown");
    nothing_comes_of("dhcpfast");
    nothing_comes_of("soft_failover");
}

/// The trace of a dark wan, with the link up and back after a while.
fn soft_failover(said: &[Said]) -> World {
    let mut dark = false;
    let mut back = false;
    replay(said, |w, s| {
        // mwan3 pings every 2 s and needs three losses: dark since before the first word.
        if !std::mem::replace(&mut dark, true) {
            w.inject(Fault::Dark {
                uplink: 0,
                told: None,
            });
        }
        let connecting =
            matches!(&s.event, Some(Event::Changed { what }) if what.ends_with("is connecting"));
        if connecting && !std::mem::replace(&mut back, true) {
            w.inject(Fault::Back {
                uplink: 0,
                told: None,
            });
        }
    })
}

#[test]
fn a_soft_failover_is_steered_before_mwan3_has_made_up_its_mind() {
    let said = trace("soft_failover");
    let disconnected = said.iter().find(|s| s.is_down()).expect("disconnected").at;
    let w = soft_failover(&said);
    let (at, steering) = steers(&w).first().cloned().expect("a steering");
    let to = steering.to.expect("away from main").device;
    assert_eq!(to, "eth2");
    assert!(at < disconnected, "{at:?}, mwan3 at {disconnected:?}");
    assert!(w.broken.is_empty(), "{:?}", w.broken);
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
    assert!(w.well());
    let told = |n: &&(Duration, Notice)| matches!(n.1, Notice::Trigger(_));
    // One episode for each of the four words, and none besides.
    assert_eq!(w.notices.iter().filter(told).count(), 4, "{:?}", w.notices);
}

#[test]
fn the_word_disconnected_alone_moves_the_mark_within_settle_and_quick() {
    // A mwan3 without `disconnecting`, as before 2.8.
    let said: Vec<Said> = trace("soft_failover")
        .into_iter()
        .filter(|s| s.is_down())
        .collect();
    assert_eq!(said.len(), 1, "disconnected came once");
    let w = replay(&said, |w, _| {
        w.inject(Fault::Dark {
            uplink: 0,
            told: None,
        });
    });
    let (at, _) = steers(&w).first().cloned().expect("a steering");
    let limit = said[0].at + policy().settle + QUICK;
    assert!(at <= limit, "{at:?} is later than {limit:?}");
    // One assessment, and the proof of the path that the mark was moved to.
    let rounds = assessments(&w);
    assert_eq!(rounds.len(), 2, "{rounds:?}");
    assert!(w.well() && w.broken.is_empty(), "{:?}", w.broken);
}

#[test]
fn an_interface_taken_down_and_up_costs_no_restart_and_no_steering_stays() {
    for name in ["ifupdown", "dhcpfast"] {
        let said = trace(name);
        let carrier = |event: &Option<Event>| match event {
            Some(Event::Down { interface, source })
                if source == "netifd" && interface != "eth1" =>
            {
                Some(false)
            }
            Some(Event::Up { interface, source }) if source == "netifd" && interface != "eth1" => {
                Some(true)
            }
            _ => None,
        };
        assert!(
            said.iter().any(|s| carrier(&s.event) == Some(false)),
            "{name}"
        );
        let mut up = true;
        let mut w = replay(&said, |w, s| {
            if let Some(to) = carrier(&s.event).filter(|to| *to != up) {
                up = to;
                w.inject(Fault::Carrier { uplink: 0, up });
            }
        });
        assert_eq!(w.count(|a| *a == Action::Restart), 0, "{name}");
        assert!(w.broken.is_empty(), "{name}: {:?}", w.broken);
        w.run(120 * S);
        w.must_be_well_in(&name);
        assert!(!w.steered(), "{name}");
    }
}

#[test]
fn a_burst_of_the_same_word_is_one_assessment() {
    let said = trace("soft_failover");
    let first = said.iter().find(|s| s.is_down()).expect("disconnected");
    let mut w = World::new(policy(), 1);
    w.run(BEFORE);
    w.inject(Fault::Dark {
        uplink: 0,
        told: None,
    });
    w.acts.clear();
    // wan and wan6, and netifd beside mwan3.
    for _ in 0..4 {
        w.tell(first.event.clone().expect("an event"));
        w.run(20 * MS);
    }
    w.run(policy().settle);
    assert_eq!(assessments(&w).len(), 1);
    assert_eq!(probes(&w), 4, "the path in both families and two uplinks");
    // At the start, and once more when the burst has settled.
    assert_eq!(w.count(|a| *a == Action::Look(Look::All)), 2);
    w.run(5 * S);
    assert_eq!(steers(&w).len(), 1, "one move for all of them");
}

#[test]
fn procds_words_of_tailscaled_make_it_looked_at_and_nothing_else() {
    let text = read("procd_service_notifications.txt");
    let mut said: Vec<Said> = text.lines().filter_map(line).collect();
    let begin = said.first().expect("lines").at;
    for s in &mut said {
        s.at -= begin;
    }
    assert_eq!(said.len(), text.lines().count());
    let heard: Vec<String> = said
        .iter()
        .filter_map(|s| match &s.event {
            Some(Event::Tailscaled { what }) => Some(what.clone()),
            Some(Event::Service(word)) => Some(format!("{word:?}")),
            _ => None,
        })
        .collect();
    // All but config.change, event.trigger and their like.
    assert_eq!(heard.len(), 12);
    assert_eq!(heard[0], "procd: tailscale instance.stop");
    assert_eq!(heard[5], "Ended");
    assert!(said.iter().all(|s| s.source == "procd"));
    let w = replay(&said, |_, _| {});
    assert_eq!(w.cures().count(), 0);
    assert_eq!(assessments(&w).len(), 0, "the path is nobody's doubt");
    assert!(w.count(|a| *a == Action::Look(Look::Tailnet)) >= heard.len());
    // Another service's word is none.
    let others = trace("mwan3ctl");
    let procd = others.iter().filter(|s| s.source == "procd");
    assert!(procd.clone().count() > 0 && procd.clone().all(|s| s.event.is_none()));
}

#[test]
fn mwan3_names_the_tracked_interface_that_is_offline() {
    let offline = |name: &str| {
        let json: Json = serde_json::from_str(&read(name)).expect("JSON");
        events::mwan3_offline(&Value::from_json(json))
    };
    assert_eq!(offline("soft_failover/mwan3_status_after.json"), ["wan"]);
    // wan6 and wanb6 are unknown and tracked by nobody: that is no word.
    assert!(offline("soft_failover/mwan3_status_before.json").is_empty());
}

#[test]
fn the_uplinks_of_a_recorded_dump() {
    let recording = ubus_support::one("call_interface_dump");
    let json: Json = serde_json::from_str(&recording.cli_output).expect("JSON");
    let faces = uplinks::interfaces(&Value::from_json(json));
    let named: Vec<(&str, &str, usize)> = faces
        .iter()
        .map(|i| (i.name.as_str(), i.device.as_str(), i.defaults.len()))
        .collect();
    assert_eq!(
        named,
        [
            ("lan", "lan1", 0),
            ("loopback", "lo", 0),
            ("wan", "eth1", 1),
            ("wanb", "eth2", 1)
        ]
    );
    // The kernel has wanb's default alone: wan's comes from netifd.
    let way = |gateway: &str, metric| Way {
        gateway: Some(gateway.parse().expect("an address")),
        metric,
        ..Way::default()
    };
    let device = |name: &str, v4| Device {
        name: name.into(),
        up: true,
        v4,
        ..Device::default()
    };
    let devices = [
        device("lan1", None),
        device("eth1", None),
        device("eth2", Some(way("192.0.2.65", Some(20)))),
    ];
    let joined = uplinks::join(&devices, &faces, Choice::default());
    let seen = |u: &Uplink| (u.name.clone(), u.device.clone(), u.v4.clone());
    assert_eq!(
        joined.iter().map(seen).collect::<Vec<_>>(),
        [
            (
                "wanb".into(),
                "eth2".into(),
                Some(way("192.0.2.65", Some(20)))
            ),
            ("wan".into(), "eth1".into(), Some(way("192.0.2.1", None))),
        ]
    );
}
