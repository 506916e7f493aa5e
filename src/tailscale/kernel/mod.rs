//! What tailscaled puts into the kernel, and what of it is missing.
//!
//! Everything here follows wgengine/router/osrouter/router_linux.go of tailscale. tailscaled sets
//! its addresses, routes and rules when its own configuration changes and never looks whether
//! they are still there, with one exception: an IPv4 rule that goes away comes back after 250 ms.
//!
//! What should be there is never guessed. It is what was there while all was well ([`Record`]), as
//! far as tailscaled's own word still asks for it ([`Claims`]); without a record, only what
//! tailscaled always has.

mod chains;
mod missing;
mod nets;
mod rules;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use chains::{chains, concerns, tables, Chain};
pub use missing::{misplaced, missing, routes_in_doubt, Missing};
pub use nets::{is_tailnet, service};
pub use rules::{ahead, base, mwan3_shows};
pub use table::Table;

use std::net::IpAddr;

use crate::core::prefix::{halves, in_network, network, Prefix};
use crate::core::Family;
use crate::net::rtnetlink::{Link, Route, RouteKind, Rule};

use super::networks::Networks;
use nets::{host, is_host, CGNAT, ULA};
use rules::is_rule_at;
use table::{plain, target};

/// tailscaled's routing table.
pub const TABLE: u32 = 52;

/// A table with more routes than this is not remembered route by route.
const ROUTES_KEPT: usize = 4096;

/// Routes that are not just a network into the device: throw routes and what is newer than this.
const ODD_KEPT: usize = 256;

/// What the kernel holds of tailscaled at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// tailscaled's device, if there is one.
    pub device: Option<Link>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// All rules of both families.
    pub rules: Vec<Rule>,
    /// Table 52.
    pub routes: Table,
    /// Its firewall chains, as far as nf_tables has them.
    pub chains: Vec<Chain>,
    /// Networks of the router's other devices.
    pub near: Vec<Prefix>,
    /// The device may not have IPv6, so tailscaled leaves it out (interfaceV6UsableForTun).
    pub ipv6_off: bool,
}

/// What tailscaled says it wants, read after the kernel was: it changes its own mind first and the
/// kernel then, so what it took away itself is never asked for here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// This node's tailnet addresses.
    pub addresses: Vec<IpAddr>,
    /// It accepts its peers' subnet routes.
    pub route_all: bool,
    /// An exit node is chosen.
    pub exit_node: bool,
    /// 0: it leaves the firewall alone; 1: its chains, without the jumps to them; 2: all of it.
    pub netfilter_mode: u64,
    /// What comes from the tailnet is not masqueraded in the advertised networks.
    pub no_snat: bool,
    /// What its peers are allowed; needed only where routes are missing.
    pub networks: Networks,
}

/// What was in the kernel while all was well, of the tailscaled with this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    device: String,
    ipv6: bool,
    rules: Vec<Rule>,
    routes: Table,
    chains: Vec<Chain>,
}

/// Whether tailscaled has this network from the router's own, which it joins where they make up a
/// larger one (ipn/ipnlocal, internalAndExternalInterfacesFrom).
fn is_near(near: &[Prefix], to: Prefix) -> bool {
    let larger = to.1.checked_sub(1).map(|bits| network(to.0, bits));
    makes_up(near, to) && !larger.is_some_and(|net| makes_up(near, net))
}

/// Whether each address of `to` is in one of the networks. An address alone is none.
fn makes_up(near: &[Prefix], to: Prefix) -> bool {
    let nets = || near.iter().filter(|net| !is_host(net));
    if nets().any(|net| net.1 <= to.1 && in_network(&to.0, *net)) {
        return true;
    }
    let part = nets().any(|net| net.1 > to.1 && in_network(&net.0, to));
    part && halves(to).into_iter().all(|half| makes_up(near, half))
}

impl Held {
    /// tailscaled's own rules.
    fn own_rules(&self) -> impl Iterator<Item = &Rule> {
        let base = base(&self.rules);
        let own = move |r: &&Rule| base.is_some_and(|base| is_rule_at(r, base));
        self.rules.iter().filter(own)
    }

    /// tailscaled handles IPv6 on this router: it has put something of it there.
    fn ipv6(&self, record: Option<&Record>) -> bool {
        let seen = record.is_some_and(|r| r.ipv6)
            || self.addresses.iter().any(|ip| in_network(ip, ULA))
            || self.routes.has_family(Family::V6)
            || self.own_rules().any(|r| r.family == Family::V6);
        seen && !self.ipv6_off
    }
}

impl Record {
    /// Notes what is there now. `None` when there is too much, or no device, or another one in the
    /// routes.
    pub fn of(held: &Held) -> Option<Record> {
        let device = held.device.as_ref()?;
        let (plain, odd) = held.routes.sizes();
        let through = held.routes.device();
        if plain > ROUTES_KEPT || odd > ODD_KEPT || through.is_some_and(|i| i != device.index) {
            return None;
        }
        Some(Record {
            device: device.name.clone(),
            ipv6: held.ipv6(None),
            rules: held.own_rules().cloned().collect(),
            routes: held.routes.clone(),
            chains: held.chains.clone(),
        })
    }

    pub fn device(&self) -> &str {
        &self.device
    }
}

impl Claims {
    /// Whether tailscaled has a reason of now to have this route (routerConfigLocked, osRoutes).
    fn ask_for(&self, route: &Route, near: &[Prefix]) -> bool {
        let to = target(route);
        let any = |test: &dyn Fn(&Prefix) -> bool| self.networks.iter().any(test);
        if route.kind != RouteKind::Unicast {
            // With an exit node the router's own networks stay beside the tailnet.
            return self.exit_node && is_near(near, to);
        }
        if to == host(service(route.family)) {
            return self
                .addresses
                .iter()
                .any(|ip| Family::of(ip) == route.family);
        }
        if to == CGNAT {
            return any(&|p| is_host(p) && in_network(&p.0, CGNAT));
        }
        if to == ULA {
            return any(&|p| is_host(p) && in_network(&p.0, ULA));
        }
        if to.1 == 0 {
            return self.exit_node;
        }
        if is_host(&to) && in_network(&to.0, CGNAT) {
            return self.networks.has(&to);
        }
        (self.route_all && self.networks.has(&to)) || (self.exit_node && is_near(near, to))
    }

    /// The routes that follow from what the peers are allowed. Only for a table that was never
    /// seen whole, and only without an exit node, whose routes depend on more than is known here.
    fn routes(&self, oif: u32, ipv6: bool) -> Vec<Route> {
        let families = self.addresses.iter().map(Family::of);
        let mut to: Vec<Prefix> = families.map(|f| host(service(f))).collect();
        for network in self.networks.iter() {
            if is_host(network) && in_network(&network.0, ULA) {
                to.push(ULA);
            } else if is_host(network) && in_network(&network.0, CGNAT)
                || self.route_all && network.1 > 0
            {
                to.push(*network);
            }
        }
        to.retain(|(ip, _)| ip.is_ipv4() || ipv6);
        to.sort_unstable();
        to.dedup();
        to.into_iter().map(|to| plain(to, oif)).collect()
    }
}
