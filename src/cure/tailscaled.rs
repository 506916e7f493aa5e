//! The two cures that tailscaled does itself when asked by LocalAPI: nudge and renew.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use crate::core::Report;
use crate::net::socket::within;
use crate::net::together::{join, Task};
use crate::tailscale::localapi::{Debug, LocalApi};

/// Peers that are pinged by a nudge: those with traffic first.
const PEERS: usize = 4;

/// All pings together; one that was not answered by then need not be waited for.
const PING_PATIENCE: Duration = Duration::from_millis(1500);

/// What makes tailscaled leave the old way, in this order: relays are dialled anew, endpoints are
/// asked for, and no peer's address is trusted any more.
///
/// The last is what the pings need. A packet to a peer whose address is trusted says nothing to it;
/// one to a peer without such an address has tailscaled offer its endpoints by the relay at once
/// (magicsock, sendDiscoPingsLocked). Without it the peer goes on sending to the old address for
/// up to 6.5 s. Measured by hand: tailnet back within 0.3 s in 9 of 11 runs, medians 0.2 s; with
/// rebind first in 3 of 6; without it in none of 5 (median 4.4 s).
const STEPS: [&str; 3] = ["break-derp-conns", "restun", "rebind"];

/// Drops DERP connections, asks for endpoints, distrusts the peers' addresses, pings active peers.
///
/// # Errors
/// What tailscaled answered, in words.
pub async fn nudge(api: &LocalApi) -> Result<Report, String> {
    let mut report = Report::default();
    let mut done = Vec::new();
    // Which peers are active is told by addresses that the steps make tailscaled forget.
    let peers = active_peers(api).await;
    for action in STEPS {
        match api.debug(action).await {
            Ok(Debug::Done) => done.push(action.to_string()),
            Ok(Debug::Unsupported) => report.missing = true,
            Err(e) => return Err(format!("{action}: {e}")),
        }
    }
    if done.is_empty() {
        report.text = "this tailscaled was built without the debug calls".into();
        return Ok(report);
    }
    let (asked, answered) = (peers.len(), Cell::new(0));
    let pings: Vec<Task> = peers
        .into_iter()
        .map(|ip| {
            let answered = &answered;
            let ping = async move {
                let ping = api.ping(ip).await;
                let heard = matches!(ping, Ok(ping) if ping.err.is_empty());
                answered.set(answered.get() + usize::from(heard));
            };
            Box::pin(ping) as Task
        })
        .collect();
    // Those that have not answered by then have been asked all the same, or have no path at all.
    let all = async {
        join(pings).await;
        Ok(())
    };
    let _ = within(PING_PATIENCE, all).await;
    report.peer_answered = answered.get() > 0;
    report.text = match asked {
        0 => done.join(", "),
        _ => format!(
            "{}, {} of {asked} peers answered",
            done.join(", "),
            answered.get()
        ),
    };
    Ok(report)
}

async fn active_peers(api: &LocalApi) -> Vec<IpAddr> {
    let Ok(status) = api.status(true).await else {
        return Vec::new();
    };
    let mut peers: Vec<_> = status
        .peers
        .iter()
        .filter(|p| p.active || p.cur_addr.is_some())
        .collect();
    peers.sort_by_key(|p| !p.active);
    peers
        .iter()
        .filter_map(|p| p.ips.first().copied())
        .take(PEERS)
        .collect()
}

/// Has tailscaled throw its control client away and make a new one.
///
/// # Errors
/// What tailscaled answered, in words.
pub async fn renew(api: &LocalApi) -> Result<Report, String> {
    match api.start().await {
        Ok(()) => Ok(Report {
            text: "new control connection asked for".into(),
            ..Report::default()
        }),
        Err(e) => Err(e.to_string()),
    }
}
