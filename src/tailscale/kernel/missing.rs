//! What of tailscaled's is missing in the kernel, and what can be put back.

use crate::core::prefix::Prefix;
use crate::core::Family;
use crate::net::rtnetlink::{Action, Link, Route, RouteKind, Rule};

use super::chains;
use super::nets::{host, service};
use super::rules::{base, base_rules, same, AHEAD_OF_MWAN3};
use super::table::target;
use super::words::line;
use super::{Claims, Held, Record, TABLE};

/// What is missing, as it has to be put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// The device is there and down.
    pub down: Option<Link>,
    /// Addresses of the device with this index.
    pub addresses: Vec<(u32, Prefix)>,
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
    /// Why `rules` are wanted, where those that tailscaled has are at the wrong place.
    pub place: Option<String>,
    /// Firewall chains, in words. They are tailscaled's to make; the rest need not wait for them.
    pub chains: Vec<String>,
    /// What cannot be put back from outside, in words.
    pub beyond: Vec<String>,
}

/// Whether routes seem to be missing, so that the peers' networks have to be asked for.
pub fn routes_in_doubt(record: Option<&Record>, held: &Held, claims: &Claims) -> bool {
    let Some(device) = &held.device else {
        return false;
    };
    let recorded = record.iter().flat_map(|r| r.routes.through(device.index));
    recorded.into_iter().any(|r| !holds(held, &r)) || !service_routes(record, held, claims)
}

/// The route itself, or one that takes its place: a unicast route to the same network.
fn holds(held: &Held, route: &Route) -> bool {
    held.routes.has(target(route), route.kind)
}

/// Whether tailscaled's own address has its route, in each family that this node has.
fn service_routes(record: Option<&Record>, held: &Held, claims: &Claims) -> bool {
    let ipv6 = held.ipv6(record);
    let families = claims.addresses.iter().map(Family::of);
    let mut wanted = families.filter(|f| *f == Family::V4 || ipv6);
    wanted.all(|f| held.routes.has(host(service(f)), RouteKind::Unicast))
}

/// What is missing of what should be there. Empty when nothing can be said for sure.
pub fn missing(record: Option<&Record>, held: &Held, claims: &Claims) -> Missing {
    let mut missing = Missing::default();
    let Some(device) = &held.device else {
        if let Some(record) = record {
            let text = format!("the device {} is gone", record.device);
            missing.beyond.push(text);
        }
        return missing;
    };
    if !device.up {
        missing.down = Some(device.clone());
    }
    let ipv6 = held.ipv6(record);
    for ip in claims.addresses.iter().filter(|ip| ip.is_ipv4() || ipv6) {
        if !held.addresses.contains(ip) {
            missing.addresses.push((device.index, host(*ip)));
        }
    }
    missing.take_routes(record, held, claims, device.index, ipv6);
    missing.take_rules(record, held, ipv6);
    missing.take_chains(record, held, claims);
    missing
}

/// What brings tailscaled's rules ahead of mwan3's: those that it would set itself if it were
/// started now. `way` is the device by which packets to the tailnet leave meanwhile.
pub fn misplaced(held: &Held, way: &str) -> Missing {
    let Some(base) = base(&held.rules) else {
        return Missing::default();
    };
    let mut missing = Missing {
        place: Some(format!(
            "the place ahead of mwan3's rules (tailscaled's begin at {base}, and what goes to the \
             tailnet leaves by {way})"
        )),
        ..Missing::default()
    };
    let families = Family::BOTH.into_iter();
    let families = families.filter(|f| *f == Family::V4 || held.ipv6(None));
    missing.rules = families
        .flat_map(|f| base_rules(f, AHEAD_OF_MWAN3))
        .collect();
    missing
}

impl Missing {
    fn take_routes(
        &mut self,
        record: Option<&Record>,
        held: &Held,
        claims: &Claims,
        oif: u32,
        ipv6: bool,
    ) {
        let lacking = |r: &Route| !holds(held, r);
        self.routes = match record {
            Some(record) => record
                .routes
                .through(oif)
                .filter(|r| r.family == Family::V4 || ipv6)
                .filter(lacking)
                .filter(|r| claims.ask_for(r, &held.near))
                .collect(),
            None if service_routes(None, held, claims) => return,
            None if claims.exit_node => {
                let text = format!("table {TABLE}, with the routes of an exit node");
                return self.beyond.push(text);
            }
            None => {
                let routes = claims.routes(oif, ipv6).into_iter();
                routes.filter(lacking).collect()
            }
        };
    }

    fn take_rules(&mut self, record: Option<&Record>, held: &Held, ipv6: bool) {
        let wanted = match (record, base(&held.rules)) {
            (Some(record), _) => {
                let rules = record.rules.iter();
                let wanted = rules.filter(|r| r.family == Family::V4 || ipv6);
                wanted.cloned().collect()
            }
            (None, Some(base)) => Family::BOTH
                .into_iter()
                .filter(|f| *f == Family::V4 || ipv6)
                .flat_map(|f| base_rules(f, base))
                .collect::<Vec<Rule>>(),
            (None, None) => {
                let any = |r: &Rule| r.action == Action::Table(TABLE);
                if !held.rules.is_empty() && !held.rules.iter().any(any) {
                    let text = format!("every rule that asks table {TABLE}");
                    self.beyond.push(text);
                }
                return;
            }
        };
        let there = |w: &Rule| held.rules.iter().any(|h| same(w, h));
        self.rules = wanted.into_iter().filter(|w| !there(w)).collect();
    }

    fn take_chains(&mut self, record: Option<&Record>, held: &Held, claims: &Claims) {
        let before = record.map_or(&[][..], |r| &r.chains);
        self.chains = chains::lost(before, &held.chains, claims);
    }

    pub fn is_empty(&self) -> bool {
        *self == Missing::default()
    }

    /// Whether it can be put back, at least all but the chains.
    pub fn mendable(&self) -> bool {
        let only_chains = !self.chains.is_empty() && self.but_chains().is_empty();
        self.beyond.is_empty() && !only_chains
    }

    /// What [`Missing::mendable`] means.
    pub fn but_chains(&self) -> Missing {
        Missing {
            chains: Vec::new(),
            ..self.clone()
        }
    }

    /// A line for each kind of thing.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.beyond.clone();
        words.extend(self.chains.iter().cloned());
        words.extend(
            self.down
                .iter()
                .map(|l| format!("the up state of {}", l.name)),
        );
        words.extend(self.place.clone());
        let addresses = self.addresses.iter().map(|(_, (ip, _))| ip.to_string());
        words.extend(line("address", "addresses", "", addresses.collect()));
        for family in Family::BOTH {
            // Told by their place already.
            let named = self.place.is_none();
            let rules = self.rules.iter().filter(|r| named && r.family == family);
            let priorities = rules.map(|r| r.priority.to_string()).collect();
            let (one, many) = (format!("{family} rule"), format!("{family} rules"));
            words.extend(line(&one, &many, "", priorities));
            let routes = self.routes.iter().filter(|r| r.family == family);
            let networks = routes.map(|r| {
                let (ip, bits) = target(r);
                format!("{ip}/{bits}")
            });
            let (one, many) = (format!("{family} route"), format!("{family} routes"));
            let table = format!(" of table {TABLE}");
            words.extend(line(&one, &many, &table, networks.collect()));
        }
        words
    }
}
