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
        let due = last.checked_add(CALM)?.min(first.checked_add(LONGEST)?);
        let apart = self.looked.and_then(|at| at.checked_add(APART));
        Some(apart.map_or(due, |at| due.max(at)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Family;
    use crate::net::rtnetlink::{Link, Route, Rule, PROTOCOL};

    const MS: Duration = Duration::from_millis(1);

    fn heard(change: &Change) -> (bool, bool) {
        let event = event(change, PROTOCOL).is_some();
        (event, of_tailscaled(change, PROTOCOL))
    }

    #[test]
    fn what_is_tailscaleds_is_told_apart_from_what_moves_the_path() {
        let route = |table, gone| Change::Route {
            route: Route::default_via(Family::V4, table, 1, None),
            gone,
        };
        assert_eq!(heard(&route(TABLE, true)), (false, true));
        assert_eq!(heard(&route(3, true)), (false, false));
        let mut main = Route::default_via(Family::V4, TABLE_MAIN, 1, None);
        main.protocol = 4;
        let main = Change::Route {
            route: main,
            gone: false,
        };
        assert_eq!(heard(&main), (true, false));
        let rule = |protocol| Change::Rule {
            rule: Rule {
                protocol,
                ..Rule::to_table(Family::V4, 2001, 1)
            },
            gone: false,
        };
        assert_eq!(heard(&rule(0)), (true, true));
        assert_eq!(heard(&rule(PROTOCOL)), (false, false), "ours");
        let link = |name: &str| Change::Link {
            link: Link {
                index: 1,
                name: name.into(),
                up: true,
                carrier: Some(true),
                operstate: 6,
                bare: false,
                kind: None,
            },
            gone: false,
        };
        assert_eq!(heard(&link("tailscale0")), (false, true));
        assert_eq!(heard(&link("eth1")), (true, false));
        assert_eq!(heard(&Change::Overrun), (true, true));
    }

    #[test]
    fn a_burst_is_one_look_and_a_stream_is_many_but_not_too_many() {
        let begin = Instant::now();
        let mut calm = Calm::default();
        assert_eq!(calm.due(), None);
        for at in [0, 100, 300] {
            calm.stirred(begin + MS * at);
        }
        assert_eq!(calm.due(), Some(begin + MS * 700));
        calm.looked(begin + MS * 700);
        assert_eq!(calm.due(), None);
        let mut looks = Vec::new();
        for at in (700..20_700).step_by(10) {
            let now = begin + MS * at;
            if calm.due().is_some_and(|due| due <= now) {
                looks.push(now);
                calm.looked(now);
            }
            calm.stirred(now);
        }
        assert!((12..=14).contains(&looks.len()), "{} looks", looks.len());
        let first = looks.first().map(|at| *at - begin);
        assert!(first <= Some(MS * 2250), "{first:?}");
    }
}
