//! What tailscaled does itself when asked by LocalAPI: the cures nudge and renew, and pings of its peers.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use smol::Timer;

use crate::core::Report;
use crate::net::socket::within;
use crate::net::together::{join, Task};
use crate::tailscale::localapi::{Debug, LocalApi};
use crate::tailscale::types::Peer;

/// Peers that are pinged: those with traffic first.
const PEERS: usize = 4;

/// Kinds of peers that are told apart, at most.
const RANKS: usize = 3;

/// All pings of a nudge together, and of a renewal, which has to fetch the netmap first.
const NUDGE_PATIENCE: Duration = Duration::from_millis(1500);
const RENEW_PATIENCE: Duration = Duration::from_secs(4);

/// A new tailscaled pings no more peers than these, for no longer than this: two of WireGuard's own tries.
const ANEW: usize = 8;
const ANEW_PATIENCE: Duration = Duration::from_secs(10);

/// One ping: over a satellite it takes 0.7 s. It is tried again after a pause.
const PING_TAKES: Duration = Duration::from_secs(1);
const PING_AGAIN: Duration = Duration::from_millis(200);

/// What makes tailscaled leave the old way, in this order: relays are dialled anew, endpoints are
/// asked for, and no peer's address is trusted any more.
///
/// The last is what the pings need. A packet to a peer whose address is trusted says nothing to it;
/// one to a peer without such an address has tailscaled offer its endpoints by the relay at once
/// (magicsock, sendDiscoPingsLocked), and the peer asks them. It turns at once if one of them answers
/// quicker than the old address did (betterAddr), else when it trusts that no more, 6.5 s after its
/// last answer: 2.4 to 6.5 s after the fault in 36 runs, median 4.3 s, with rebind first or last.
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
    let asked = peers.len();
    let answered = ping_all(api, peers, NUDGE_PATIENCE).await;
    report.peer_answered = answered > 0;
    report.text = match asked {
        0 => done.join(", "),
        _ => format!("{}, {answered} of {asked} peers answered", done.join(", ")),
    };
    Ok(report)
}

/// Pings peers through the tunnel, side by side, each until it answers. Gives how many did within
/// `patience`: those that did not have been asked all the same, or have no path at all.
async fn ping_all(api: &LocalApi, peers: Vec<IpAddr>, patience: Duration) -> usize {
    let answered = Cell::new(0_usize);
    let pings: Vec<Task> = peers
        .into_iter()
        .map(|ip| {
            let answered = &answered;
            let ping = async move {
                loop {
                    let ping = within(PING_TAKES, async { Ok(api.ping(ip).await) }).await;
                    if matches!(ping, Ok(Ok(ping)) if ping.err.is_empty()) {
                        answered.set(answered.get().saturating_add(1));
                        return;
                    }
                    Timer::after(PING_AGAIN).await;
                }
            };
            Box::pin(ping) as Task
        })
        .collect();
    // Past that time the others are left.
    let _ = within(patience, async {
        join(pings).await;
        Ok(())
    })
    .await;
    answered.get()
}

/// Tailnet addresses of peers, those of rank 0 first, `most` of them. `rank` is below [`RANKS`], and none for a peer
/// that is left out.
async fn peers(api: &LocalApi, most: usize, rank: impl Fn(&Peer) -> Option<usize>) -> Vec<IpAddr> {
    let mut ranks: [Vec<IpAddr>; RANKS] = Default::default();
    let asked = api.each_peer(|p| {
        let list = rank(&p).and_then(|rank| ranks.get_mut(rank));
        if let Some(list) = list.filter(|list| list.len() < most) {
            list.extend(p.ips.first().copied());
        }
    });
    // Those that have come before an answer broke off are as good as any.
    let _ = asked.await;
    let mut peers = ranks.concat();
    peers.truncate(most);
    peers
}

/// Peers in use, those with traffic first.
async fn active_peers(api: &LocalApi) -> Vec<IpAddr> {
    let rank = |p: &Peer| match p {
        p if p.active => Some(0),
        p if p.cur_addr.is_some() => Some(1),
        _ => None,
    };
    peers(api, PEERS, rank).await
}

/// Pings peers that do not know a new tailscaled yet: those whom the kernel knows flows with (`talked_with`,
/// tailnet addresses), then those that have found it already, then any that are online. Says what came of it.
///
/// Measured after a kill and a hang of tailscaled: the peer was back 0 to 0.3 s after control in 20 of 23 runs, and
/// 5 s later where the first handshake was lost; without the pings in 11 of 24. In both losses that tailscaled's logs
/// were read of, it had chosen another home relay than the peer knew, and the peer's answer went to the old one.
/// Waiting 0.7 s first helped in none of 8 more, and a ping beside the tunnel first (disco) had 8 of 18 lost.
pub async fn ping_anew(api: &LocalApi, talked_with: &[IpAddr]) -> String {
    let rank = |p: &Peer| match p {
        p if p.ips.iter().any(|ip| talked_with.contains(ip)) => Some(0),
        p if p.active => Some(1),
        p if p.online => Some(2),
        _ => None,
    };
    let peers = peers(api, ANEW, rank).await;
    let asked = peers.len();
    let answered = ping_all(api, peers, ANEW_PATIENCE).await;
    format!("{answered} of {asked} peers answered")
}

/// Has tailscaled throw its control client away and make a new one, and pings active peers.
///
/// tailscaled keeps the peers meanwhile, unless its cache of the netmap was just written without
/// them, as each change of the home relay does (ipnlocal, onHomeDERPUpdateLocked, 1.102). Then they
/// are gone until the next netmap, and a peer begins a new handshake only after 15 s of silence
/// (seen once). A ping from here begins it at once.
///
/// # Errors
/// What tailscaled answered, in words.
pub async fn renew(api: &LocalApi) -> Result<Report, String> {
    let peers = active_peers(api).await;
    api.start().await.map_err(|e| e.to_string())?;
    let asked = peers.len();
    let answered = ping_all(api, peers, RENEW_PATIENCE).await;
    let text = "new control connection asked for";
    Ok(Report {
        text: match asked {
            0 => text.into(),
            _ => format!("{text}, {answered} of {asked} peers answered"),
        },
        peer_answered: answered > 0,
        ..Report::default()
    })
}
