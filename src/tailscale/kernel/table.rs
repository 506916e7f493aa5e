//! The routes of table 52, kept small: a large tailnet has one for each peer.

use crate::core::prefix::Prefix;
use crate::core::Family;
use crate::net::rtnetlink::{Route, RouteKind};

use super::nets::default;
use super::TABLE;

/// The protocol number of tailscaled's routes: RTPROT_BOOT, which its netlink library sets.
const PROTOCOL_BOOT: u8 = 3;

/// The metric that the kernel gives an IPv6 route without one (IP6_RT_PRIO_USER).
const METRIC_V6: u32 = 1024;

/// A route as tailscaled makes it for a network of its peers (addRoute).
pub(super) fn plain(to: Prefix, oif: u32) -> Route {
    let family = Family::of(&to.0);
    Route {
        to: Some(to).filter(|(_, bits)| *bits > 0),
        protocol: PROTOCOL_BOOT,
        metric: match family {
            Family::V4 => 0,
            Family::V6 => METRIC_V6,
        },
        ..Route::default_via(family, TABLE, oif, None)
    }
}

/// The network that a route leads to.
pub(super) fn target(route: &Route) -> Prefix {
    route.to.unwrap_or_else(|| default(route.family))
}

/// Routes of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The device of the first unicast one.
    oif: Option<u32>,
    /// Networks whose route is [`plain`] and goes into that device; in order.
    plain: Vec<Prefix>,
    /// All others: throw routes, and what is newer than this.
    odd: Vec<Route>,
}

impl Table {
    /// Takes the routes of another one too, as of the other family.
    pub fn join(&mut self, other: Table) {
        let oif = other.oif.unwrap_or_default();
        self.extend(other.through(oif));
    }

    /// The device that tailscaled's routes go into, by its index.
    pub fn device(&self) -> Option<u32> {
        self.oif
    }

    /// The routes, as they would be through the device with that index.
    pub(super) fn through(&self, oif: u32) -> impl Iterator<Item = Route> + '_ {
        let plain = self.plain.iter().map(move |to| plain(*to, oif));
        plain.chain(self.odd.iter().cloned())
    }

    /// Whether there is a route of that kind to this network, whatever else is special about it.
    pub(super) fn has(&self, to: Prefix, kind: RouteKind) -> bool {
        let plain = kind == RouteKind::Unicast && self.plain.binary_search(&to).is_ok();
        let same = |r: &Route| target(r) == to && r.kind == kind;
        plain || self.odd.iter().any(same)
    }

    /// Whether there is any route of a family.
    pub(super) fn has_family(&self, family: Family) -> bool {
        let plain = self.plain.iter().any(|to| Family::of(&to.0) == family);
        plain || self.odd.iter().any(|r| r.family == family)
    }

    /// How many routes are plain, and how many are not.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.plain.len(), self.odd.len())
    }

    fn add(&mut self, route: Route) {
        // The kernel gives an IPv6 throw route the loopback device.
        let into = route.oif.filter(|_| route.kind == RouteKind::Unicast);
        self.oif = self.oif.or(into);
        let to = target(&route);
        match self.plain.binary_search(&to) {
            Err(at) if self.oif.is_some_and(|oif| route == plain(to, oif)) => {
                self.plain.insert(at, to);
            }
            _ => self.odd.push(route),
        }
    }
}

impl Extend<Route> for Table {
    fn extend<I: IntoIterator<Item = Route>>(&mut self, routes: I) {
        routes.into_iter().for_each(|route| self.add(route));
    }
}
