//! Keeps the states that the tests of LuCI's page show (`tests/luci/states/`) equal to what the real core and
//! `view` tell of a modelled router in them.
//!
//! `UPDATE_DOCS=1 cargo test --test luci_states` writes them anew.

mod world;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{json, Value};
use tailover::core::{Cure, Family, Stage};
use tailover::view;
use world::{policy, Fault, World, MS, S};

const HOUR: Duration = Duration::from_secs(3600);

/// What the ubus object would answer now.
fn told(w: &World) -> Value {
    json!({
        "status": view::status(&w.core, w.now),
        "history": {
            "episodes": view::history(&w.core, w.now),
            "timeline": view::timeline(&w.core, w.now),
        },
    })
}

/// Compares a recorded state with what it should be, or writes it.
fn keep(name: &str, state: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/luci/states/{name}.json"));
    let text = format!("{state:#}\n");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &text).expect("a file that can be written");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == text,
        "{name}: UPDATE_DOCS=1 cargo test --test luci_states"
    );
}

fn settled() -> World {
    let mut w = World::new(policy(), 1);
    w.run(10 * S);
    w
}

fn run_until(w: &mut World, what: &str, so: impl Fn(&World) -> bool) {
    let end = w.now + HOUR;
    while !so(w) {
        assert!(w.now < end, "not so within an hour: {what}");
        w.run(20 * MS);
    }
}

/// Most of a day with all that a picture of it can show.
fn eventful() -> World {
    let mut w = settled();
    w.run(3 * HOUR);
    w.inject(Fault::Drill {
        uplink: 0,
        stay: 30,
    });
    w.run(4 * HOUR);
    w.inject(Fault::Dark {
        uplink: 1,
        told: Some(100),
    });
    w.run(2 * HOUR);
    w.inject(Fault::Back {
        uplink: 1,
        told: Some(100),
    });
    w.run(2 * HOUR);
    w.inject(Fault::Dark {
        uplink: 0,
        told: None,
    });
    w.run(HOUR);
    w.inject(Fault::Portal { uplink: 1 });
    w.murmur();
    w.run(HOUR / 2);
    w.inject(Fault::Back {
        uplink: 0,
        told: Some(100),
    });
    w.inject(Fault::Back {
        uplink: 1,
        told: Some(100),
    });
    w.run(5 * HOUR);
    w.inject(Fault::Control { up: false });
    w.cut_control();
    w.run(HOUR / 3);
    w.inject(Fault::Control { up: true });
    w.run(HOUR);
    w
}

#[test]
fn a_day_that_ends_well() {
    let w = eventful();
    assert!(w.well() && *w.core.stage() == Stage::Quiet);
    let state = told(&w);
    let ways = state["history"]["timeline"]["ways"].as_array();
    let slots = ways
        .into_iter()
        .flatten()
        .filter_map(|way| way["slots"].as_str());
    let seen = slots
        .flat_map(str::bytes)
        .fold(0, |all, slot| all | (slot - b'0'));
    // Each verdict that the picture has a bar for is in it, but dead names.
    assert_eq!(seen, 1 | 4 | 8 | 16);
    keep("well", &state);
}

#[test]
fn steered_after_a_failover() {
    let mut w = eventful();
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(100),
    });
    w.run(25 * 60 * S);
    assert!(w.well() && w.steered());
    keep("steered", &told(&w));
}

#[test]
fn in_the_middle_of_a_failover() {
    let mut w = eventful();
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(100),
    });
    run_until(&mut w, "it renews", |w| {
        let acts = w.core.episode().map(|e| e.acts.as_slice());
        let mut acts = acts.unwrap_or_default().iter();
        acts.any(|a| a.cure == Cure::Renew && a.result.is_none())
    });
    keep("curing", &told(&w));
}

#[test]
fn behind_a_portal() {
    let mut w = settled();
    w.run(HOUR);
    w.inject(Fault::Dark {
        uplink: 1,
        told: Some(10),
    });
    w.inject(Fault::Portal { uplink: 0 });
    w.murmur();
    run_until(&mut w, "it rests", |w| {
        matches!(w.core.stage(), Stage::Resting { .. })
    });
    let state = told(&w);
    assert!(state["status"]["faults"][0]["advice"].is_string());
    keep("portal", &state);
}

#[test]
fn with_the_control_server_down() {
    let mut w = eventful();
    w.inject(Fault::Control { up: false });
    w.cut_control();
    run_until(&mut w, "it is named", |w| {
        let mut faults = w.core.faults().iter();
        faults.any(|f| f.id() == "control-down")
    });
    w.run(90 * S);
    keep("control-down", &told(&w));
}

#[test]
fn a_drill_from_its_beginning_to_its_end() {
    let mut w = eventful();
    let mut frames = vec![told(&w)];
    w.inject(Fault::Drill {
        uplink: 0,
        stay: 30,
    });
    let moved = |w: &World| {
        let path = w.core.knowledge().path_uplink(Family::V4);
        path.is_some_and(|u| u.name == "wanb")
    };
    run_until(&mut w, "the packets are moved", moved);
    frames.push(told(&w));
    let drill = |w: &World| w.core.episode().and_then(|e| e.drill.clone());
    run_until(&mut w, "it is well", |w| {
        drill(w).is_some_and(|d| d.well.is_some())
    });
    w.run(10 * S);
    frames.push(told(&w));
    run_until(&mut w, "it is over", |w| {
        drill(w).is_some_and(|d| d.over.is_some())
    });
    frames.push(told(&w));
    run_until(&mut w, "it has ended", |w| w.core.episode().is_none());
    frames.push(told(&w));
    let last = &frames[4]["status"]["last"]["drill"];
    assert_eq!(last["passed"], true);
    for (at, frame) in frames.iter().enumerate() {
        keep(&format!("drill-{at}"), frame);
    }
}
