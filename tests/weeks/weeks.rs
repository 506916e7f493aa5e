//! Weeks in the life of a router, thousands of them: whatever comes, the daemon never makes it worse.
//!
//! Each week comes from a number. `WEEKS=N` asks for so many, `WEEKS_FROM` is the first number, `TAILOVER_SEED`
//! runs that one alone and tells its story. A week that breaks a promise is made as short as it breaks it
//! still, and its number is printed. `make weeks` builds it with optimisation.

extern crate core_alone as tailover;

#[path = "../world/mod.rs"]
mod world;

mod live;
mod shrink;
mod story;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use story::Story;

/// Weeks without a word from outside, as in `cargo test`.
const FEW: u64 = 40;

fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
    )
}

#[test]
fn no_week_makes_it_worse() {
    if let Some(seed) = asked("TAILOVER_SEED") {
        let story = Story::of(seed);
        println!("{story}");
        if let Err(broken) = live::through(&story, true) {
            panic!("week {seed}: {broken}");
        }
        return;
    }
    let (first, count) = (
        asked("WEEKS_FROM").unwrap_or(0),
        asked("WEEKS").unwrap_or(FEW),
    );
    let threads = asked("WEEKS_THREADS").unwrap_or(2);
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let (acts, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = first + count;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                let story = Story::of(seed);
                match live::through(&story, false) {
                    Ok([cures, taken]) => {
                        acts.fetch_add(cures, Ordering::Relaxed);
                        steps.fetch_add(taken, Ordering::Relaxed);
                    }
                    Err(broken) if asked("WEEKS_ALL").is_some() => {
                        println!("week {seed}: {broken}")
                    }
                    Err(broken) => {
                        // The others need not go on.
                        next.store(end, Ordering::Relaxed);
                        let (story, broken) = shrink::shortest(story, broken);
                        println!("week {seed}, as short as it breaks it still:\n{story}");
                        _ = live::through(&story, true);
                        panic!("week {seed}: {broken}\nagain: TAILOVER_SEED={seed}");
                    }
                }
            });
        }
    });
    println!(
        "weeks: {first} to {} lived through, {} cures, {} inputs, {:.1} s",
        end - 1,
        acts.load(Ordering::Relaxed),
        steps.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    );
}
