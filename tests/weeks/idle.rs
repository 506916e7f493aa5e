//! Idle days under an allocator that counts: what is held does not grow.

extern crate core_alone as tailover;

#[path = "../world/mod.rs"]
mod world;

use std::alloc::System;
use std::time::Duration;

use stats_alloc::{StatsAlloc, INSTRUMENTED_SYSTEM};
use world::{policy, World, S};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const HOURS: usize = 24;

/// Bytes that are allocated now.
fn held() -> usize {
    let all = COUNTED.stats();
    all.bytes_allocated - all.bytes_deallocated
}

/// The most that is held at the end of an hour of a day.
fn day(w: &mut World) -> usize {
    let hour = |_| {
        w.run(Duration::from_secs(3600));
        w.forget();
        held()
    };
    (0..HOURS).map(hour).max().unwrap_or_default()
}

#[test]
fn an_idle_day_holds_no_more_than_the_day_before() {
    let mut w = World::new(policy(), 1);
    w.lean = true;
    w.keepalives(S * 30);
    w.peer_talks = true;
    let calls = COUNTED.stats().allocations;
    // The timeline of a day fills up in the first.
    let (first, second, third) = (day(&mut w), day(&mut w), day(&mut w));
    let calls = (COUNTED.stats().allocations - calls) / (3 * HOURS);
    assert!(calls > 100, "nothing is counted");
    assert_eq!(w.cures().count(), 0);
    println!("idle: at most {first}, {second} and {third} bytes held in three days, {calls} allocations an hour");
    assert!(third <= second, "grown from {second} to {third} bytes");
}
