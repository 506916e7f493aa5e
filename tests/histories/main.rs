//! Histories: the real core against a modelled router, in invented time. The stories that people know,
//! and invented ones that must keep the design's promises whatever happens.

#[path = "../world/mod.rs"]
mod world;

mod control;
mod drills;
mod failover;
mod invented;
mod lost;
mod quiet;
mod routers;
mod tailscaled;

use tailover::core::{Action, Notice, Stage};
use world::{policy, Fault, World, S};

/// The identifiers of the faults that were told, oldest first.
fn named(w: &World) -> Vec<&'static str> {
    w.notices
        .iter()
        .filter_map(|(_, n)| match n {
            Notice::Fault { id, .. } => Some(*id),
            _ => None,
        })
        .collect()
}

/// A healthy router, ten seconds after the daemon's start.
fn settled() -> World {
    let mut w = World::new(policy(), 1);
    w.run(10 * S);
    assert!(w.well());
    assert_eq!(*w.core.stage(), Stage::Quiet);
    assert_eq!(w.cures().count(), 0, "a healthy start is left alone");
    w
}

/// The uplink carries nothing from now on. mwan3 says so after so many milliseconds, or nobody does.
fn goes_dark(w: &mut World, uplink: usize, told: Option<u16>) {
    w.inject(Fault::Dark { uplink, told });
}

/// The uplink carries again, and mwan3 says so, or nobody does.
fn comes_back(w: &mut World, uplink: usize, told: Option<u16>) {
    w.inject(Fault::Back { uplink, told });
}

fn restarts(w: &World) -> usize {
    w.count(|a| *a == Action::Restart)
}
