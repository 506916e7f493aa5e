//! Blocking work on short-lived threads, for an async caller that will not wait for ever.
//!
//! smol's own pool keeps an idle thread that wakes for ever; a thread per rare piece of work ends
//! with it and costs nothing in between.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::socket::within;

/// Stack of each thread. The deepest that runs on one is a whole check, in a build without
/// optimisation; what is not touched of it takes no memory.
const STACK: usize = 1024 * 1024;

/// Most threads at once, the ones given up but still blocked (a name lookup cannot be cancelled)
/// counted in.
pub const MAX_THREADS: usize = 16;

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Not done in time. The thread goes on and its result will be dropped.
    Timeout,
    /// Not started: [`MAX_THREADS`] are at work, or the system gave no thread.
    Busy(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("not done in time"),
            Self::Busy(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// A place among the [`MAX_THREADS`], given back when dropped.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let more = |n: usize| n.checked_add(1).filter(|n| *n <= MAX_THREADS);
        THREADS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread of its own.
///
/// # Errors
/// Only [`Error::Busy`].
pub fn start(work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let Some(place) = Place::take() else {
        let text = format!("{MAX_THREADS} blocking calls are under way already");
        return Err(Error::Busy(text));
    };
    std::thread::Builder::new()
        .name("blocking".into())
        .stack_size(STACK)
        .spawn(move || {
            let _place = place;
            work();
        })
        .map_err(|e| Error::Busy(format!("no thread: {e}")))?;
    Ok(())
}

/// Runs `work` on a thread of its own and waits for it, at most `timeout`.
pub async fn run<T: Send + 'static>(
    timeout: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = smol::channel::bounded(1);
    start(move || {
        // Nobody listens any more when the time-out came first.
        let _ = sender.try_send(work());
    })?;
    // The channel only closes without a result when `work` panics.
    let result = within(timeout, async {
        receiver.recv().await.map_err(io::Error::other)
    });
    match result.await {
        Ok(result) => Ok(result),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(Error::Timeout),
        Err(e) => Err(Error::Busy(e.to_string())),
    }
}
