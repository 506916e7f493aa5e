//! Tells of changes of links, addresses, routes and rules that may move the path, and of those
//! that may be a loss of what tailscaled put into the kernel.

use std::time::{Duration, Instant};

use crate::core::Event;
use crate::net::rtnetlink::{Change, Monitor, TABLE_MAIN};
use crate::tailscale::kernel::{is_tailnet, TABLE};

/// tailscaled puts its IPv4 rules back 250 ms after they went (onIPRuleDeleted), and changes many
/// routes one by one: so long must it be calm before a look.
const CALM: Duration = Duration::from_millis(400);

/// While it is never calm there is a look all the same, this long after the first change.
const LONGEST: Duration = Duration::from_millis(1200);

/// Between two looks, whoever goes on changing things.
const APART: Duration = Duration::from_millis(1500);

/// A change that can matter.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// To be told at once.
    pub event: Option<Event>,
    /// It may be a loss of what tailscaled has in the kernel.
    pub of_tailscaled: bool,
}

/// Waits for the next change that can matter; ours and those of unrelated tables are passed over.
///
/// # Errors
/// The netlink socket is gone; open a new one.
pub async fn next(monitor: &mut Monitor, own_protocol: u8) -> std::io::Result<News> {
    loop {
        let change = monitor.next().await?;
        let news = News {
            event: event(&change, own_protocol),
            of_tailscaled: of_tailscaled(&change, own_protocol),
        };
        if news.event.is_some() || news.of_tailscaled {
            return Ok(news);
        }
    }
}

/// Waits for calm after changes of what tailscaled has in the kernel.
#[derive(Debug, Default)]
pub struct Calm {
    /// The first and the last change that were not looked at yet.
    stir: Option<(Instant, Instant)>,
    looked: Option<Instant>,
}

impl Calm {
    /// Something has changed.
    pub fn stirred(&mut self, now: Instant) {
        let first = self.stir.map_or(now, |(first, _)| first);
        self.stir = Some((first, now));
    }

    /// When it is time for a look, if anything has changed.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.stir?;
        let due = (last + CALM).min(first + LONGEST);
        Some(self.looked.map_or(due, |at| due.max(at + APART)))
    }

    /// The look is taken now.
    pub fn looked(&mut self, now: Instant) {
        *self = Calm {
            stir: None,
            looked: Some(now),
        };
    }
}

/// Rules of others matter too: mwan3's decide whether tailscaled's are asked at all.
fn of_tailscaled(change: &Change, own_protocol: u8) -> bool {
    match change {
        Change::Link { link, .. } => is_tailscale(&link.name),
        Change::Address { address, .. } => is_tailnet(&address.address),
        Change::Route { route, .. } => route.table == TABLE,
        Change::Rule { .. } => !change.is_of(own_protocol),
        Change::Overrun => true,
    }
}

fn is_tailscale(device: &str) -> bool {
    device.starts_with("tailscale")
}

fn event(change: &Change, own_protocol: u8) -> Option<Event> {
    // What we put there we know of. What goes away may have been taken by another hand.
    if change.is_of(own_protocol) && !change.is_removal() {
        return None;
    }
    let what = match change {
        Change::Link { link, gone } => {
            if is_tailscale(&link.name) {
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
