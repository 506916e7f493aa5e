//! What people are told of a failover: the first line of `status`, the evidence, what comes next.

mod world;

use tailover::core::Stage;
use tailover::view;
use world::{policy, Fault, World, MS, S};

/// All different first lines of `status` within `span`.
fn lines(w: &mut World, span: u32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for _ in 0..span {
        w.run(MS);
        let line = view::sentence(&w.core, w.now);
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines
}

fn settled() -> World {
    let mut w = World::new(policy(), 1);
    w.run(10 * S);
    w
}

#[test]
fn the_first_line_says_which_way_is_dead_and_when_the_packets_were_moved() {
    let mut w = settled();
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(100),
    });
    let seen = lines(&mut w, 5000);
    let way = "packets leave by wan (eth1), dead for 0 s; wanb is open";
    let moved =
        "moved tailscaled's packets to wanb (eth2) 0 s ago; the control connection is stuck";
    for text in [way, moved] {
        assert!(seen.iter().any(|l| l.contains(text)), "{text}: {seen:#?}");
    }
    let last = seen.last().map(String::as_str);
    assert_eq!(
        last,
        Some("the tailnet is well; its packets are steered by wanb (eth2)")
    );
    let state = view::status(&w.core, w.now);
    let next = state["next"]["what"].as_str().unwrap_or_default();
    assert_eq!(next, "go back to wan once it is open for 30 s");
    assert_eq!(state["last"]["outcome"], "healed");
}

#[test]
fn a_fault_comes_with_what_was_seen_and_what_can_be_done() {
    let mut w = settled();
    w.inject(Fault::Dark {
        uplink: 1,
        told: Some(10),
    });
    w.inject(Fault::Portal { uplink: 0 });
    w.murmur();
    w.run(5 * S);
    while !matches!(w.core.stage(), Stage::Resting { .. }) && w.now < 60 * S {
        w.run(100 * MS);
    }
    let state = view::status(&w.core, w.now);
    let fault = &state["faults"][0];
    assert_eq!(fault["id"], "portal");
    let evidence: Vec<&str> = fault["evidence"]
        .as_array()
        .map(|list| list.iter().filter_map(|v| v.as_str()).collect())
        .unwrap_or_default();
    for text in [
        "the kernel sends tailscaled's IPv4 packets by wan (eth1)",
        "wan (eth1) IPv4: derp: somebody else answered: a login page",
        "wanb (eth2) IPv4 was found closed",
    ] {
        let found = evidence.iter().any(|seen| seen.contains(text));
        assert!(found, "{text}: {evidence:#?}");
    }
    let advice = fault["advice"].as_str().unwrap_or_default();
    assert!(advice.contains("log in"), "{advice}");
    assert_eq!(state["next"]["what"], "try again");
}

#[test]
fn a_drill_is_told_as_a_drill() {
    let mut w = settled();
    w.inject(Fault::Drill {
        uplink: 0,
        stay: 10,
    });
    let seen = lines(&mut w, 14_000);
    for text in [
        "turned away from wan (eth1) for a drill; wanb is open",
        "drill of wan: well over wanb after",
        "the drill of wan is over; going back to it",
    ] {
        assert!(seen.iter().any(|l| l.contains(text)), "{text}: {seen:#?}");
    }
    assert!(!seen.iter().any(|l| l.contains("dead")), "{seen:#?}");
    let state = view::status(&w.core, w.now);
    let drill = &state["last"]["drill"];
    assert_eq!(drill["passed"], true);
    assert_eq!(drill["by"], "wanb");
}

#[test]
fn the_timeline_shows_a_failover_and_which_way_was_used() {
    let mut w = settled();
    w.run(600 * S);
    w.inject(Fault::Dark {
        uplink: 0,
        told: Some(100),
    });
    w.run(600 * S);
    let timeline = view::timeline(&w.core, w.now);
    assert_eq!(
        (&timeline["slot"], &timeline["age"]),
        (&300.into(), &10.into())
    );
    let slots = |uplink: &str| -> Vec<u8> {
        let ways = timeline["ways"].as_array().expect("ways");
        let own = |way: &&serde_json::Value| way["uplink"] == uplink && way["family"] == "IPv4";
        let way = ways.iter().find(own).expect("its way");
        let text = way["slots"].as_str().expect("text");
        text.bytes().map(|byte| byte - b'0').collect()
    };
    // Open and used; then dark in the third slot, in which the packets were moved, and ever after.
    let (wan, wanb) = (slots("wan"), slots("wanb"));
    assert_eq!((wan[0], wan[1], wan[2] & 0b1_1001, wan[4]), (17, 17, 25, 8));
    assert_eq!((wanb[0], wanb[1], wanb[2], wanb[4]), (1, 1, 17, 17));
}
