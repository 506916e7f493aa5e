//! How cost grows: with uplinks, with events in a burst, with peers in the tailnet.
//!
//! `cargo bench --bench growth` measures time and memory by divan. The program with `--count CASE SIZE
//! TIMES` runs one case so many times and prints the nanoseconds of one; `python3 -m lab bench --growth`
//! runs it under valgrind, whose counts of instructions and bytes do not depend on the machine's speed.

mod router;
mod status;

use std::hint::black_box;
use std::time::{Duration, Instant};

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use router::Router;
use status::Server;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const UPLINKS: [u8; 6] = [1, 2, 6, 15, 30, 60];
const EVENTS: [u32; 4] = [10, 100, 1_000, 10_000];
const PEERS: [usize; 4] = [1, 10, 100, 1_000];

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.iter().position(|word| word == "--count") {
        Some(at) => count(&words[at + 1..]),
        None => divan::main(),
    }
}

/// What the core does most: a reading of the kernel's counters that shows nothing wrong.
#[divan::bench(args = UPLINKS)]
fn pulse(bencher: Bencher, uplinks: u8) {
    let mut router = Router::settled(uplinks);
    bencher
        .counter(ItemsCount::new(1u32))
        .bench_local(|| one_pulse(&mut router));
}

/// From the first uplink's end to the decision to move: all looks, rounds and verdicts.
#[divan::bench(args = UPLINKS[1..].to_vec())]
fn failover(bencher: Bencher, uplinks: u8) {
    bencher
        .with_inputs(|| Router::settled(uplinks))
        .bench_local_values(fail_over);
}

/// A burst of events of both uplinks within a second.
#[divan::bench(args = EVENTS)]
fn burst(bencher: Bencher, events: u32) {
    bencher
        .counter(ItemsCount::new(events))
        .with_inputs(|| Router::settled(2))
        .bench_local_values(|router| tell(router, events));
}

/// The networks of all peers, read from tailscaled as its answer comes.
#[divan::bench(args = PEERS)]
fn peers(bencher: Bencher, peers: usize) {
    let server = Server::start(peers);
    bencher.bench_local(|| server.read());
}

fn one_pulse(router: &mut Router) {
    router.now += Duration::from_millis(500);
    let pulse = router.pulse();
    router.give(black_box(pulse));
}

fn fail_over(mut router: Router) -> Router {
    router.fail_over();
    assert_eq!(
        router.steered.as_deref(),
        Some("eth1"),
        "the mark moves to the next best"
    );
    router
}

fn tell(mut router: Router, events: u32) -> Router {
    for number in 0..events {
        router.run(Duration::from_secs(1) / events);
        let name = if number % 2 == 0 { "wan0" } else { "wan1" };
        router.tell(name, number % 4 > 1);
    }
    // What the end of the burst brings about.
    router.run(Duration::from_secs(5));
    router
}

fn count(words: &[String]) {
    let [case, size, times] = words else {
        panic!("--count CASE SIZE TIMES");
    };
    let size: u32 = size.parse().expect("a size");
    let uplinks = || u8::try_from(size).expect("at most 255 uplinks");
    let times: u32 = times.parse().expect("how many times");
    let (took, inputs) = match case.as_str() {
        "pulse" => {
            let mut router = Router::settled(uplinks());
            let before = router.inputs;
            let took = timed(times, || one_pulse(&mut router));
            (took, router.inputs - before)
        }
        // What the next two prepare each time.
        "settled" => repeated(times, || Router::settled(uplinks()), |router| router),
        "failover" => repeated(times, || Router::settled(uplinks()), fail_over),
        "burst" => repeated(times, || Router::settled(2), |router| tell(router, size)),
        "peers" => {
            let server = Server::start(size as usize);
            (
                timed(times, || {
                    black_box(server.read());
                }),
                0,
            )
        }
        _ => panic!("no case {case}"),
    };
    println!("{} {inputs}", took.as_nanos() / u128::from(times.max(1)));
}

fn timed(times: u32, mut act: impl FnMut()) -> Duration {
    let begun = Instant::now();
    for _ in 0..times {
        act();
    }
    begun.elapsed()
}

/// The time of the acts alone, without what prepares them; and how many inputs one act gave the core.
fn repeated(
    times: u32,
    prepare: impl Fn() -> Router,
    act: impl Fn(Router) -> Router,
) -> (Duration, u32) {
    let mut took = Duration::ZERO;
    let mut inputs = 0;
    for _ in 0..times {
        let router = prepare();
        let before = router.inputs;
        let begun = Instant::now();
        let router = act(router);
        took += begun.elapsed();
        inputs = router.inputs - before;
    }
    (took, inputs)
}
