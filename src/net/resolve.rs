//! Names to addresses by the system's resolver, by the worker process.

use std::net::IpAddr;
use std::time::Duration;

use super::worker;

/// Looks a name up, or reads it as an address. In the order the resolver prefers, each once.
///
/// The query goes the way the system's resolver sends it, not by any chosen uplink. The error is
/// in words: an unknown name and a resolver that does not answer look alike to getaddrinfo(3).
pub async fn resolve(host: &str, timeout: Duration) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let found = worker::resolve(host, timeout).await;
    let mut found = found.map_err(|e| format!("{host}: {e}"))?;
    found.dedup();
    if found.is_empty() {
        return Err(format!("{host}: no address"));
    }
    Ok(found)
}
