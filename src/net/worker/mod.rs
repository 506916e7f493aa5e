//! HTTP, TLS and name lookups in a process of their own, so that their memory goes with it.
//!
//! The pages that one handshake touches, and the heaps that its threads grow, would stay with the
//! daemon for good. So the daemon starts a second program, `tailover-fetch`, when a burst of probes
//! begins, and ends it soon after. The daemon's own program calls nothing in [`super::blocking`], so
//! that the linker leaves ureq and rustls out of it: the kernel maps whole neighbourhoods of a
//! program's file, and a smaller file is less memory. Name lookups go to the worker too: a blocked
//! getaddrinfo(3) cannot be cancelled, but its process can be ended.

mod lines;
mod parent;
mod serve;

pub use parent::{use_process, Parent, Program};
pub use serve::serve;

#[cfg(any(test, feature = "hostile"))]
pub(crate) use lines::hostile;

use std::net::IpAddr;
use std::time::Duration;

use super::http::{FetchError, Request, Response};

/// Longest line either way, in bytes; an answer's body can be [`super::http::DEFAULT_BODY_LIMIT`]
/// long, and JSON writes a byte in up to six.
const MAX_LINE: u64 = 512 * 1024;

/// The worker keeps a request's time-out by itself, and says what it was that took so long. It is
/// given this much longer to say so.
const LAST_WORD: Duration = Duration::from_millis(500);

/// What the worker is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ask {
    Fetch(Box<Request>),
    Resolve(String),
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Fetched(Result<Response, FetchError>),
    Resolved(Result<Vec<IpAddr>, String>),
}

/// Does a request in the calling thread's worker process (see [`use_process`]) and waits for it, at
/// most the request's time-out. Boxed, because each future that hands it on holds it twice.
///
/// # Errors
/// What went wrong, with the request or with the worker.
pub async fn fetch(request: Box<Request>) -> Result<Response, FetchError> {
    let timeout = request.timeout.saturating_add(LAST_WORD);
    match parent::ask(Ask::Fetch(request), timeout).await? {
        Told::Fetched(result) => result,
        Told::Resolved(_) => Err(FetchError::Worker("answered something else".into())),
    }
}

/// Looks a name up in the worker of this thread.
pub(super) async fn resolve(name: &str, timeout: Duration) -> Result<Vec<IpAddr>, String> {
    match parent::ask(Ask::Resolve(name.into()), timeout).await {
        Ok(Told::Resolved(result)) => result,
        Ok(Told::Fetched(_)) => Err("the fetch worker answered something else".into()),
        Err(error) => Err(error.to_string()),
    }
}
