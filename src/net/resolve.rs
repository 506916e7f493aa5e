//! Names to addresses by the system's resolver, without blocking the caller.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::{thread, worker};

/// Looks a name up, or reads it as an address. In the order the resolver prefers, each once.
///
/// The query goes the way the system's resolver sends it, not by any chosen uplink. The error is
/// in words: an unknown name and a resolver that does not answer look alike to getaddrinfo(3).
pub async fn resolve(host: &str, timeout: Duration) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let found = match worker::resolve(host, timeout).await {
        Some(found) => found,
        None => {
            let name = host.to_string();
            let lookup = thread::run(timeout, move || look_up(&name));
            let found = lookup.await.map_err(|e| format!("{host}: {e}"))?;
            found.map_err(|e| e.to_string())
        }
    };
    let mut found = found.map_err(|e| format!("{host}: {e}"))?;
    found.dedup();
    if found.is_empty() {
        return Err(format!("{host}: no address"));
    }
    Ok(found)
}

/// Looks a name up on the calling thread, which must not be the daemon's.
pub(super) fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|a| a.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_names_and_nonsense() {
        let ask = |host| smol::block_on(resolve(host, Duration::from_secs(5)));
        assert_eq!(ask("2001:db8::1"), Ok(vec!["2001:db8::1".parse().unwrap()]));
        let local = ask("localhost").expect("in /etc/hosts");
        assert!(local.iter().all(IpAddr::is_loopback), "{local:?}");
        let error = ask("a..b").expect_err("no name");
        assert!(error.starts_with("a..b: "), "{error}");
    }
}
