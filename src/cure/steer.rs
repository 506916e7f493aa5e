//! Moves tailscaled's mark: rules and routes of ours, made to match what the core wants.
//!
//! Three rules at most in a family (docs/faults.md, F1; P is the option `priority`):
//!
//! ```text
//! P-1  from ADDRESS iif lo fwmark MARK lookup KEPT   flows of the uplink that was left live on
//! P    iif lo fwmark MARK lookup main suppress_prefixlength 0   main without its default
//! P+1  iif lo fwmark MARK lookup TABLE               the live uplink's default
//! ```
//!
//! `iif lo` keeps them to the router's own packets. They need nothing of mwan3's tables and survive
//! its stop, which deletes every rule from 1000 to 3999. All carry our own protocol number, so that
//! they are found again after a crash. There is a table for each uplink.

use crate::config::options::TABLES;
use crate::config::{Mark, Settings};
use crate::core::uplink::Way;
use crate::core::{Family, Hop, Steering};
use crate::net::rtnetlink::{Action, Client, Error, Route, Rule, TABLE_MAIN};

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
                let mut rule = self.rule(family, self.priority - 1, table);
                rule.from = Some((*ip, if ip.is_ipv4() { 32 } else { 128 }));
                rules.push(rule);
            }
        }
        if let Some(table) = to {
            let mut main = self.rule(family, self.priority, TABLE_MAIN);
            main.suppress_prefixlength = Some(0);
            rules.push(main);
            rules.push(self.rule(family, self.priority + 1, table));
        }
        rules
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
        let mut routes = client.routes(family, None)?;
        routes.retain(|r| r.protocol == self.protocol);
        Ok(routes)
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
    let links = client.links()?;
    let index = |device: &str| links.iter().find(|l| l.name == device).map(|l| l.index);
    let mut have = place.routes(client, family)?;
    let tables = place.table..place.table + TABLES;
    let mut used = Vec::new();
    let mut table_for = |client: &mut Client, hop: &Hop| -> Result<Option<u32>, Error> {
        let Some(oif) = index(&hop.device) else {
            // The device went away; with it went its routes, and the mark falls back to main.
            return Ok(None);
        };
        let table = have
            .iter()
            .find(|r| r.oif == Some(oif) && tables.contains(&r.table))
            .map(|r| r.table)
            .or_else(|| free_table(place, &have))
            .unwrap_or(place.table);
        let route = default_route(place, family, table, oif, &hop.way);
        client.replace_route(&route)?;
        have.push(route);
        used.push(table);
        Ok(Some(table))
    };
    let to = match &steering.to {
        Some(hop) => table_for(client, hop)?,
        None => None,
    };
    let keep = match &steering.keep {
        Some(hop) => table_for(client, hop)?.map(|t| (t, &hop.way)),
        None => None,
    };
    let wanted = place.rules(family, to, keep);
    for rule in &wanted {
        client.add_rule(rule)?;
    }
    for rule in place.ours(client, family)? {
        if !wanted.iter().any(|w| same(w, &rule)) {
            client.delete_rule(&rule)?;
        }
    }
    for route in place.routes(client, family)? {
        if !used.contains(&route.table) {
            client.delete_route(&route)?;
        }
    }
    Ok(match (&steering.to, to) {
        (Some(hop), Some(table)) => format!("by {} (table {table})", hop.device),
        (Some(hop), None) => format!("{} is gone; by the main table", hop.device),
        (None, _) => "by the main table".into(),
    })
}

/// What the kernel read back need not be equal in every field we left open.
fn same(a: &Rule, b: &Rule) -> bool {
    (a.priority, &a.from, &a.iif, a.mark, a.suppress_prefixlength)
        == (b.priority, &b.from, &b.iif, b.mark, b.suppress_prefixlength)
        && a.action == b.action
}

fn free_table(place: &Place, have: &[Route]) -> Option<u32> {
    (place.table..place.table + TABLES).find(|t| !have.iter().any(|r| r.table == *t))
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

/// The device that each family's mark is steered to by rules of an earlier run.
///
/// # Errors
/// What rtnetlink refused.
pub fn found(client: &mut Client, place: &Place, family: Family) -> Result<Option<String>, Error> {
    let steered = place
        .ours(client, family)?
        .into_iter()
        .find_map(|r| match r.action {
            Action::Table(t) if r.priority == place.priority + 1 => Some(t),
            _ => None,
        });
    let Some(table) = steered else {
        return Ok(None);
    };
    let route = place
        .routes(client, family)?
        .into_iter()
        .find(|r| r.table == table);
    match route.and_then(|r| r.oif) {
        Some(index) => Ok(Some(client.link(index)?.name)),
        // A rule without a route steers nothing.
        None => Ok(None),
    }
}

/// Takes every rule and route of ours away. Gives how many there were.
///
/// # Errors
/// What the kernel refused.
pub fn cleanup(client: &mut Client, place: &Place) -> Result<usize, Error> {
    let mut gone = 0;
    for family in Family::BOTH {
        for rule in place.ours(client, family)? {
            gone += usize::from(client.delete_rule(&rule)?);
        }
        for route in place.routes(client, family)? {
            gone += usize::from(client.delete_route(&route)?);
        }
    }
    Ok(gone)
}
