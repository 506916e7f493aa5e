//! Waits for several futures at once.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// A piece of work that gives nothing back.
pub type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Waits for all. Each wakes the whole, so they should be few: a round of probes has a dozen.
pub async fn join(mut tasks: Vec<Task<'_>>) {
    std::future::poll_fn(|context| {
        tasks.retain_mut(|t| t.as_mut().poll(context).is_pending());
        match tasks.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}
