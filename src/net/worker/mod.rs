//! HTTP, TLS and name lookups in a process of their own, so that their memory goes with it.
//!
//! One handshake touches half of the program's pages, and musl keeps what the threads' heaps grew
//! to; both would stay with the daemon for good. So the daemon starts the same program a second
//! time when a burst of probes begins and ends it soon after. Name lookups go there too: a blocked
//! getaddrinfo(3) cannot be cancelled, but its process can be ended.

mod lines;
mod parent;
mod serve;

pub use parent::{use_process, Parent, Program};
pub use serve::serve;

use std::net::IpAddr;

use super::http::{FetchError, Request, Response};

/// Longest line either way, in bytes; an answer's body can be [`super::http::DEFAULT_BODY_LIMIT`]
/// long, and JSON writes a byte in up to six.
const MAX_LINE: u64 = 512 * 1024;

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

/// Does a request in the worker of this thread; gives it back where there is none.
pub(super) async fn fetch(request: Request) -> Result<Result<Response, FetchError>, Request> {
    let Some(parent) = parent::of_this_thread() else {
        return Err(request);
    };
    let timeout = request.timeout;
    Ok(
        match parent.ask(Ask::Fetch(Box::new(request)), timeout).await {
            Ok(Told::Fetched(result)) => result,
            Ok(Told::Resolved(_)) => Err(FetchError::Worker("answered something else".into())),
            Err(error) => Err(error),
        },
    )
}

/// Looks a name up in the worker of this thread; `None` where there is none.
pub(super) async fn resolve(
    name: &str,
    timeout: std::time::Duration,
) -> Option<Result<Vec<IpAddr>, String>> {
    let parent = parent::of_this_thread()?;
    Some(match parent.ask(Ask::Resolve(name.into()), timeout).await {
        Ok(Told::Resolved(result)) => result,
        Ok(Told::Fetched(_)) => Err("the fetch worker answered something else".into()),
        Err(error) => Err(error.to_string()),
    })
}
