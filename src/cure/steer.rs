//! Moves tailscaled's mark: rules and routes of ours, made to match what the core wants; and opens
//! a way for probes by uplinks that the main table has no default for.
//!
//! Four kinds of rule in a family (docs/faults.md, F1; P is the option `priority`):
//!
//! ```text
//! P-2  oif DEVICE fwmark PROBE lookup TABLE          our own probes, bound to DEVICE
//! P-1  from ADDRESS iif lo fwmark MARK lookup KEPT   flows of the uplink that was left live on
//! P    iif lo fwmark MARK lookup main suppress_prefixlength N   main without its default
//! P+1  iif lo fwmark MARK lookup TABLE               the live uplink's default
//! ```
//!
//! `iif lo` keeps the last three to the router's own packets; only a socket that is bound to a
//! device matches `oif` (net/core/fib_rules.c, fib_rule_match), and only our probes have both that
//! and their mark. They need nothing of mwan3's tables and survive its stop, which deletes every
//! rule from 1000 to 3999. All carry our own protocol number, so that they are found again after a
//! crash. There is a table for each uplink, for probes and steering alike.

use std::io;

use crate::config::options::TABLES;
use crate::config::{Mark, Settings};
use crate::core::uplink::Way;
use crate::core::{Family, Hop, Steering};
use crate::net::rtnetlink::{slice_bits, Action, Client, Error, Link, Route, Rule, TABLE_MAIN};

/// Where rules and tables of ours are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub mark: Mark,
    pub priority: u32,
    /// First of [`TABLES`].
    pub table: u32,
    pub protocol: u8,
}

impl Place {
    pub fn new(s: &Settings) -> Place {
        Place {
            mark: s.mark,
            priority: s.priority,
            table: s.table,
            // The settings keep it within 100 to 185.
            protocol: u8::try_from(s.protocol).unwrap_or(crate::net::rtnetlink::PROTOCOL),
        }
    }

    fn rule(&self, family: Family, priority: u32, table: u32) -> Rule {
        Rule {
            iif: Some("lo".into()),
            mark: Some((self.mark.value, self.mark.mask)),
            protocol: self.protocol,
            ..Rule::to_table(family, priority, table)
        }
    }

    /// The rules that a steering consists of.
    fn rules(&self, family: Family, to: Option<u32>, keep: Option<(u32, &Way)>) -> Vec<Rule> {
        let mut rules = Vec::new();
        if let Some((table, way)) = keep {
            let addresses = way.addresses.iter().filter(|ip| Family::of(ip) == family);
            for ip in addresses {
                let mut rule = self.rule(family, self.priority.saturating_sub(1), table);
                rule.from = Some((*ip, if ip.is_ipv4() { 32 } else { 128 }));
                rules.push(rule);
            }
        }
        if let Some(table) = to {
            let mut main = self.rule(family, self.priority, TABLE_MAIN);
            // The slices that a VPN cuts the default into are as good as a default.
            main.suppress_prefixlength = Some(slice_bits(family));
            rules.push(main);
            rules.push(self.rule(family, self.priority.saturating_add(1), table));
        }
        rules
    }

    /// The rule by which probes bound to `device` and marked with `probe` find their table.
    fn probe_rule(&self, family: Family, device: &str, probe: Mark, table: u32) -> Rule {
        Rule {
            oif: Some(device.into()),
            mark: Some((probe.value, probe.mask)),
            protocol: self.protocol,
            ..Rule::to_table(family, self.priority.saturating_sub(2), table)
        }
    }

    /// All rules of ours in a family, also those of an earlier configuration: the protocol number
    /// alone tells.
    fn ours(&self, client: &mut Client, family: Family) -> Result<Vec<Rule>, Error> {
        let mut rules = client.rules(family)?;
        rules.retain(|r| r.protocol == self.protocol);
        Ok(rules)
    }

    /// All default routes of ours in a family: (table, route).
    fn routes(&self, client: &mut Client, family: Family) -> Result<Vec<Route>, Error> {
        client.routes_that(family, |r| r.protocol == self.protocol)
    }
}

/// Our tables of one family while they are being changed.
struct Tables<'a> {
    place: &'a Place,
    family: Family,
    links: Vec<Link>,
    have: Vec<Route>,
}

impl<'a> Tables<'a> {
    fn read(client: &mut Client, place: &'a Place, family: Family) -> Result<Tables<'a>, Error> {
        Ok(Tables {
            place,
            family,
            links: client.links()?,
            have: place.routes(client, family)?,
        })
    }

    /// The table of a hop's device, with the hop's default in it. `None`: the device went away, and
    /// its routes with it.
    fn with(&mut self, client: &mut Client, hop: &Hop) -> Result<Option<u32>, Error> {
        let link = self.links.iter().find(|l| l.name == hop.device);
        let Some(oif) = link.map(|l| l.index) else {
            return Ok(None);
        };
        let mut tables = self.place.table..self.place.table.saturating_add(TABLES);
        let own = self.have.iter().find(|r| r.oif == Some(oif));
        let own = own.map(|r| r.table).filter(|t| tables.contains(t));
        let free = || tables.find(|t| !self.have.iter().any(|r| r.table == *t));
        let Some(table) = own.or_else(free) else {
            return Err(Error {
                tried: format!("finding a table for {}", hop.device),
                source: io::Error::other(format!("all {TABLES} are in use")),
            });
        };
        let route = default_route(self.place, self.family, table, oif, &hop.way);
        if !self.have.iter().any(|r| alike(r, &route)) {
            client.replace_route(&route)?;
            // Replaced is what has the same metric, and ours have none of their own.
            self.have.retain(|r| r.table != table);
            self.have.push(route);
        }
        Ok(Some(table))
    }
}

/// Makes the kernel match `steering`, new before old, so that at no instant the mark has no way.
///
/// # Errors
/// What the kernel refused; the text names the rule or route.
pub fn apply(
    client: &mut Client,
    place: &Place,
    family: Family,
    steering: &Steering,
) -> Result<String, Error> {
    let mut tables = Tables::read(client, place, family)?;
    // Without its device the mark falls back to main.
    let to = match &steering.to {
        Some(hop) => tables.with(client, hop)?,
        None => None,
    };
    let keep = match &steering.keep {
        Some(hop) => tables.with(client, hop)?.map(|t| (t, &hop.way)),
        None => None,
    };
    let wanted = place.rules(family, to, keep);
    settle(client, place, family, &wanted, |r| !is_for_probes(r))?;
    Ok(match (&steering.to, to) {
        (Some(hop), Some(table)) => format!("by {} (table {table})", hop.device),
        (Some(hop), None) => format!("{} is gone; by the main table", hop.device),
        (None, _) => "by the main table".into(),
    })
}

/// Opens a way for probes with the mark `probe` by each of `hops`, and closes all others. Where
/// nothing has changed nothing is written.
///
/// # Errors
/// As [`apply`].
pub fn open_for_probes(
    client: &mut Client,
    place: &Place,
    family: Family,
    probe: Mark,
    hops: &[Hop],
) -> Result<(), Error> {
    let mut tables = Tables::read(client, place, family)?;
    let mut wanted = Vec::new();
    for hop in hops {
        if let Some(table) = tables.with(client, hop)? {
            wanted.push(place.probe_rule(family, &hop.device, probe, table));
        }
    }
    settle(client, place, family, &wanted, is_for_probes)
}

/// Adds the wanted rules, then takes away what is not wanted of those of ours that `mine` picks,
/// then the routes that no rule of ours leads to any more.
fn settle(
    client: &mut Client,
    place: &Place,
    family: Family,
    wanted: &[Rule],
    mine: impl Fn(&Rule) -> bool,
) -> Result<(), Error> {
    let have = place.ours(client, family)?;
    for rule in wanted {
        if !have.iter().any(|h| same(h, rule)) {
            client.add_rule(rule)?;
        }
    }
    for rule in have.iter().filter(|r| mine(r)) {
        if !wanted.iter().any(|w| same(w, rule)) {
            client.delete_rule(rule)?;
        }
    }
    let left = place.ours(client, family)?;
    let used = |table: u32| left.iter().any(|r| r.action == Action::Table(table));
    for route in place.routes(client, family)? {
        if !used(route.table) {
            client.delete_route(&route)?;
        }
    }
    Ok(())
}

/// Whether a rule of ours is for probes, whatever the priorities were when it was made.
fn is_for_probes(rule: &Rule) -> bool {
    rule.oif.is_some()
}

/// The devices by which probes have a way of ours now.
///
/// # Errors
/// What rtnetlink refused.
pub fn open_devices(
    client: &mut Client,
    place: &Place,
    family: Family,
) -> Result<Vec<String>, Error> {
    let rules = place.ours(client, family)?;
    Ok(rules.into_iter().filter_map(|r| r.oif).collect())
}

/// What the kernel read back need not be equal in every field we left open.
fn same(a: &Rule, b: &Rule) -> bool {
    (a.priority, &a.from, &a.iif, &a.oif, a.mark) == (b.priority, &b.from, &b.iif, &b.oif, b.mark)
        && a.suppress_prefixlength == b.suppress_prefixlength
        && a.action == b.action
}

/// As [`same`], for routes: IPv6 lists a metric that nobody set.
fn alike(a: &Route, b: &Route) -> bool {
    (a.table, a.oif, a.gateway, a.prefsrc, a.onlink)
        == (b.table, b.oif, b.gateway, b.prefsrc, b.onlink)
        && a.to == b.to
}

fn default_route(place: &Place, family: Family, table: u32, oif: u32, way: &Way) -> Route {
    let mut route = Route::default_via(family, table, oif, way.gateway);
    route.protocol = place.protocol;
    // The DHCP server's gateway may lie outside the prefix that came with it.
    route.onlink = family == Family::V4 && way.gateway.is_some();
    if family == Family::V6 {
        // Main's default may be source-specific, and an unbound socket has no source yet when the
        // rule is looked up. A plain default that names the source needs no second pass.
        route.prefsrc = way.bound_source();
    }
    route
}

/// What an earlier run left of one family's steering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The device to which the mark is steered.
    pub to: Option<String>,
    /// The device on which old flows are kept.
    pub keep: Option<String>,
}

/// What rules of an earlier run do with the mark of `family`.
///
/// # Errors
/// What rtnetlink refused.
pub fn found(client: &mut Client, place: &Place, family: Family) -> Result<Found, Error> {
    let rules = place.ours(client, family)?;
    let routes = place.routes(client, family)?;
    let mut by = |priority: u32| {
        let table = rules.iter().find_map(|r| match r.action {
            Action::Table(t) if r.priority == priority => Some(t),
            _ => None,
        });
        // A rule without a route leads nowhere.
        let route = routes.iter().find(|r| Some(r.table) == table);
        let index = route.and_then(|r| r.oif);
        index.map(|i| client.link(i)).transpose()
    };
    Ok(Found {
        to: by(place.priority.saturating_add(1))?.map(|link| link.name),
        keep: by(place.priority.saturating_sub(1))?.map(|link| link.name),
    })
}

/// Takes every rule and route of ours away. Gives how many there were.
///
/// # Errors
/// What the kernel refused.
pub fn cleanup(client: &mut Client, place: &Place) -> Result<usize, Error> {
    let mut gone = 0_usize;
    for family in Family::BOTH {
        for rule in place.ours(client, family)? {
            gone = gone.saturating_add(usize::from(client.delete_rule(&rule)?));
        }
        for route in place.routes(client, family)? {
            gone = gone.saturating_add(usize::from(client.delete_route(&route)?));
        }
    }
    Ok(gone)
}
