//! The two cures that tailscaled does itself when asked by LocalAPI: nudge and renew.

use std::net::IpAddr;
use std::time::Duration;

use crate::core::Report;
use crate::net::socket::within;
use crate::tailscale::localapi::{Debug, LocalApi};

/// Peers that are pinged by a nudge: those with traffic first. The ping makes tailscaled offer its
/// new endpoints at once.
const PEERS: usize = 4;

/// All pings together; one that was not answered by then need not be waited for.
const PING_PATIENCE: Duration = Duration::from_millis(1500);

/// Drops DERP connections, asks for new endpoints, and pings active peers.
///
/// `rebind` is left out: with the others it gained nothing, and alone it is not enough (measured).
///
/// # Errors
/// What tailscaled answered, in words.
pub async fn nudge(api: &LocalApi) -> Result<Report, String> {
    let mut report = Report::default();
    let mut done = Vec::new();
    for action in ["break-derp-conns", "restun"] {
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
    let peers = active_peers(api).await;
    let asked = peers.len();
    let mut answered = 0;
    let pings = async {
        for ip in peers {
            let ping = api.ping(ip).await;
            answered += usize::from(matches!(ping, Ok(ping) if ping.err.is_empty()));
        }
        Ok(())
    };
    // Those that were not reached by then have been asked all the same, or have no path at all.
    let _ = within(PING_PATIENCE, pings).await;
    report.peer_answered = answered > 0;
    report.text = match asked {
        0 => done.join(", "),
        _ => format!("{}, {answered} of {asked} peers answered", done.join(", ")),
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
