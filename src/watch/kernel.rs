//! Tells of changes of links, addresses, routes and rules that may move the path.

use crate::core::Event;
use crate::net::rtnetlink::{Change, Monitor, TABLE_MAIN};

/// Waits for the next change that can matter; ours and those of unrelated tables are passed over.
///
/// # Errors
/// The netlink socket is gone; open a new one.
pub async fn next(monitor: &mut Monitor, own_protocol: u8) -> std::io::Result<Event> {
    loop {
        let change = monitor.next().await?;
        if let Some(event) = event(&change, own_protocol) {
            return Ok(event);
        }
    }
}

fn event(change: &Change, own_protocol: u8) -> Option<Event> {
    // What we put there we know of. What goes away may have been taken by another hand.
    if change.is_of(own_protocol) && !change.is_removal() {
        return None;
    }
    let what = match change {
        Change::Link { link, gone } => {
            if link.name.starts_with("tailscale") {
                return None;
            }
            // Carrier loss on a static interface reaches nobody else: netifd keeps it up.
            if *gone || link.carrier == Some(false) {
                return Some(Event::Down {
                    interface: link.name.clone(),
                    source: "kernel".into(),
                });
            }
            format!("link {}", link.name)
        }
        Change::Address { address, .. } => format!("address {}", address.address),
        Change::Route { route, .. }
            if route.table == TABLE_MAIN && (route.is_default() || route.is_slice()) =>
        {
            route.to_string()
        }
        Change::Route { .. } => return None,
        Change::Rule { rule, .. } => rule.to_string(),
        Change::Overrun => "more than could be read".into(),
    };
    Some(Event::Kernel { what })
}
