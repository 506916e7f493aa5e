//! The bound on blocking threads. Alone in its process, because the count is the process's.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use tailover::net::thread::{run, Error, MAX_THREADS};

#[test]
fn results_time_outs_and_the_bound() {
    let wait = Duration::from_millis(20);
    let answer = smol::block_on(run(Duration::from_secs(5), || 6 * 7));
    assert_eq!(answer, Ok(42));

    let mut gates = Vec::new();
    let refused = loop {
        let (open, gate) = mpsc::channel::<()>();
        gates.push(open);
        match smol::block_on(run(wait, move || gate.recv())) {
            Err(Error::Timeout) => assert!(gates.len() <= MAX_THREADS),
            other => break other,
        }
    };
    assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");

    // The blocked threads end, and there is room again.
    drop(gates);
    let deadline = Instant::now() + Duration::from_secs(5);
    while smol::block_on(run(wait, || ())).is_err() {
        assert!(Instant::now() < deadline, "no place came back");
    }
}
