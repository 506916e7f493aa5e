//! What tailscaled puts into the kernel, and what of it is missing.
//!
//! Everything here follows wgengine/router/osrouter/router_linux.go of tailscale. tailscaled sets
//! its addresses, routes and rules when its own configuration changes and never looks whether
//! they are still there, with one exception: an IPv4 rule that goes away comes back after 250 ms.
//!
//! What should be there is never guessed. It is what was there while all was well ([`Record`]), as
//! far as tailscaled's own word still asks for it ([`Claims`]); without a record, only what
//! tailscaled always has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::core::Family;
use crate::net::rtnetlink::{Action, Link, Route, RouteKind, Rule, TABLE_MAIN};

use super::networks::{Networks, Prefix};

/// tailscaled's routing table.
pub const TABLE: u32 = 52;

/// tailscaled's mark for its own packets, and its mask (tsconst.LinuxBypassMarkNum).
const MARK: (u32, u32) = (0x80000, 0xff0000);

/// Where its rules begin: with mwan3's rules seen at its start, and else.
const BASES: [u32; 2] = [1300, 5200];

/// Its rules of a family, counted from the base (baseIPRules). The last sends to [`TABLE`] what
/// the others did not catch; those have its mark.
const RULES: [(u32, Action); 4] = [
    (10, Action::Table(TABLE_MAIN)),
    (30, Action::Table(TABLE_DEFAULT)),
    (50, Action::Unreachable),
    (LAST, Action::Table(TABLE)),
];
const LAST: u32 = 70;

/// RT_TABLE_DEFAULT, the one behind main; empty on nearly every router.
const TABLE_DEFAULT: u32 = 253;

/// The protocol number of its routes: RTPROT_BOOT, which its netlink library sets.
const PROTOCOL_BOOT: u8 = 3;

/// The metric that the kernel gives an IPv6 route without one (IP6_RT_PRIO_USER).
const METRIC_V6: u32 = 1024;

/// A table with more routes than this is not remembered route by route.
const ROUTES_KEPT: usize = 4096;

/// Routes that are not just a network into the device: throw routes and what is newer than this.
const ODD_KEPT: usize = 256;

/// So many members of a list are named, the rest is counted.
const NAMED: usize = 4;

/// The address at which tailscaled itself answers (tsaddr.TailscaleServiceIP). It has a route as
/// long as this node has an address of that family.
pub fn service(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(100, 100, 100, 100).into(),
        Family::V6 => Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0x53).into(),
    }
}

/// 100.64.0.0/10, tailnet addresses of IPv4 (tsaddr.CGNATRange).
const CGNAT: Prefix = (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10);

/// fd7a:115c:a1e0::/48, those of IPv6 (tsaddr.TailscaleULARange).
const ULA: Prefix = (
    IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0)),
    48,
);

/// What the kernel holds of tailscaled at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// tailscaled's device, if there is one.
    pub device: Option<Link>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// All rules of both families.
    pub rules: Vec<Rule>,
    /// Table 52 of both families.
    pub routes: Vec<Route>,
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
    /// What its peers are allowed; needed only where routes are missing.
    pub networks: Networks,
}

/// What was in the kernel while all was well, of the tailscaled with this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    device: String,
    ipv6: bool,
    rules: Vec<Rule>,
    /// Networks that go just into the device. Compact, because there are many.
    plain: Vec<Prefix>,
    odd: Vec<Route>,
}

/// What is missing, as it has to be put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// The device is there and down.
    pub down: Option<Link>,
    /// Addresses of the device with this index.
    pub addresses: Vec<(u32, Prefix)>,
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
    /// What cannot be put back from outside, in words.
    pub beyond: Vec<String>,
}

/// A route as tailscaled makes it for a network of its peers (addRoute).
fn plain(to: Prefix, oif: u32) -> Route {
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

/// The four rules of a family.
fn base_rules(family: Family, base: u32) -> impl Iterator<Item = Rule> {
    RULES.into_iter().map(move |(offset, action)| Rule {
        mark: (offset != LAST).then_some(MARK),
        action,
        protocol: 0,
        ..Rule::to_table(family, base + offset, TABLE)
    })
}

/// Whether this is one of tailscaled's rules at `base`. The mark is left open: it is tailscaled's
/// to change.
fn is_rule_at(rule: &Rule, base: u32) -> bool {
    let placed = |(offset, action)| rule.priority == base + offset && rule.action == action;
    let narrow = rule.from.is_some() || rule.to.is_some();
    let bound = rule.iif.is_some() || rule.oif.is_some() || rule.invert;
    RULES.into_iter().any(placed) && !narrow && !bound
}

/// The base of tailscaled's rules, if any of them is there. A tailscaled that was killed leaves
/// its rules behind; those asked first are the ones that count.
pub fn base(rules: &[Rule]) -> Option<u32> {
    let used = |base: &u32| rules.iter().any(|r| is_rule_at(r, *base));
    BASES.into_iter().find(used)
}

/// Whether two rules do the same at the same place.
fn same(a: &Rule, b: &Rule) -> bool {
    a.family == b.family
        && a.priority == b.priority
        && a.action == b.action
        && a.mark == b.mark
        && a.invert == b.invert
        && (&a.from, &a.to, &a.iif, &a.oif) == (&b.from, &b.to, &b.iif, &b.oif)
}

/// Rules that are asked before tailscaled's last one and send marked packets elsewhere: what they
/// catch does not reach the tailnet. Gives a mark that each of them matches.
pub fn ahead(rules: &[Rule]) -> Vec<u32> {
    let Some(base) = base(rules) else {
        return Vec::new();
    };
    let catches = |r: &&Rule| {
        r.family == Family::V4
            && r.priority < base + LAST
            && matches!(r.action, Action::Table(t) if t != TABLE)
            && r.iif.is_none()
            && r.oif.is_none()
    };
    let mut marks: Vec<u32> = rules
        .iter()
        .filter(catches)
        .filter_map(|r| r.mark)
        .map(|(mark, _)| mark)
        .filter(|mark| *mark != 0 && *mark != MARK.0)
        .collect();
    marks.sort_unstable();
    marks.dedup();
    marks
}

/// Whether a tailscaled that starts now would take the base that is ahead of mwan3's rules
/// (checkOpenWRTUsingMWAN3).
pub fn mwan3_shows(rules: &[Rule]) -> bool {
    let telling = |r: &Rule| {
        r.family == Family::V4
            && (2001..=2004).contains(&r.priority)
            && r.mark.is_some_and(|(mark, _)| mark != 0)
    };
    rules.iter().any(telling)
}

impl Held {
    fn routes_of(&self, family: Family) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(move |r| r.family == family)
    }

    fn has_network(&self, to: Prefix) -> bool {
        self.routes.iter().any(|r| r.to == Some(to))
    }

    /// tailscaled's own rules.
    fn own_rules(&self) -> impl Iterator<Item = &Rule> {
        let base = base(&self.rules);
        let own = move |r: &&Rule| base.is_some_and(|base| is_rule_at(r, base));
        self.rules.iter().filter(own)
    }

    /// tailscaled handles IPv6 on this router: it has put something of it there.
    fn ipv6(&self, record: Option<&Record>) -> bool {
        let seen = record.is_some_and(|r| r.ipv6)
            || self.addresses.iter().any(|ip| within(ip, ULA))
            || self.routes_of(Family::V6).next().is_some()
            || self.own_rules().any(|r| r.family == Family::V6);
        seen && !self.ipv6_off
    }
}

impl Record {
    /// Notes what is there now. `None` when there is too much, or no device.
    pub fn of(held: &Held) -> Option<Record> {
        let device = held.device.as_ref()?;
        if held.routes.len() > ROUTES_KEPT {
            return None;
        }
        let is_plain = |r: &&Route| {
            let to = r.to.unwrap_or_else(|| default(r.family));
            **r == plain(to, device.index)
        };
        let (even, odd): (Vec<&Route>, Vec<&Route>) = held.routes.iter().partition(is_plain);
        if odd.len() > ODD_KEPT {
            return None;
        }
        let mut plain: Vec<Prefix> = even
            .iter()
            .map(|r| r.to.unwrap_or_else(|| default(r.family)))
            .collect();
        plain.shrink_to_fit();
        Some(Record {
            device: device.name.clone(),
            ipv6: held.ipv6(None),
            rules: held.own_rules().cloned().collect(),
            plain,
            odd: odd.into_iter().cloned().collect(),
        })
    }

    pub fn device(&self) -> &str {
        &self.device
    }

    fn routes(&self, oif: u32) -> impl Iterator<Item = Route> + '_ {
        let plain = self.plain.iter().map(move |to| plain(*to, oif));
        plain.chain(self.odd.iter().cloned())
    }
}

/// The prefix that a default route stands for.
fn default(family: Family) -> Prefix {
    match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED.into(), 0),
        Family::V6 => (Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// Whether this can be a tailnet address. A provider's CGNAT has the same IPv4 range.
pub fn is_tailnet(ip: &IpAddr) -> bool {
    within(ip, CGNAT) || within(ip, ULA)
}

/// The network that an address with this prefix length lies in.
pub fn network(ip: IpAddr, bits: u8) -> Prefix {
    let net = match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(bits.min(32)))
                .unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(bits.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    };
    (net, bits)
}

fn within(ip: &IpAddr, net: Prefix) -> bool {
    Family::of(ip) == Family::of(&net.0) && network(*ip, net.1) == net
}

fn host(ip: IpAddr) -> Prefix {
    (ip, if ip.is_ipv4() { 32 } else { 128 })
}

fn is_host(network: &Prefix) -> bool {
    *network == host(network.0)
}

impl Claims {
    /// Whether tailscaled has a reason of now to have this route (routerConfigLocked, osRoutes).
    fn ask_for(&self, route: &Route, near: &[Prefix]) -> bool {
        let to = route.to.unwrap_or_else(|| default(route.family));
        let any = |test: &dyn Fn(&Prefix) -> bool| self.networks.iter().any(test);
        if route.kind != RouteKind::Unicast {
            // With an exit node the router's own networks stay beside the tailnet.
            return self.exit_node && near.contains(&to);
        }
        if to == host(service(route.family)) {
            return self
                .addresses
                .iter()
                .any(|ip| Family::of(ip) == route.family);
        }
        if to == CGNAT {
            return any(&|p| is_host(p) && within(&p.0, CGNAT));
        }
        if to == ULA {
            return any(&|p| is_host(p) && within(&p.0, ULA));
        }
        if to.1 == 0 {
            return self.exit_node;
        }
        if is_host(&to) && within(&to.0, CGNAT) {
            return self.networks.has(&to);
        }
        (self.route_all && self.networks.has(&to)) || (self.exit_node && near.contains(&to))
    }

    /// The routes that follow from what the peers are allowed. Only for a table that was never
    /// seen whole, and only without an exit node, whose routes depend on more than is known here.
    fn routes(&self, oif: u32, ipv6: bool) -> Vec<Route> {
        let families = self.addresses.iter().map(Family::of);
        let mut to: Vec<Prefix> = families.map(|f| host(service(f))).collect();
        for network in self.networks.iter() {
            if is_host(network) && within(&network.0, ULA) {
                to.push(ULA);
            } else if is_host(network) && within(&network.0, CGNAT)
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

/// Whether routes seem to be missing, so that the peers' networks have to be asked for.
pub fn routes_in_doubt(record: Option<&Record>, held: &Held, claims: &Claims) -> bool {
    let Some(device) = &held.device else {
        return false;
    };
    let recorded = record.iter().flat_map(|r| r.routes(device.index));
    recorded.into_iter().any(|r| !holds(held, &r)) || !service_routes(record, held, claims)
}

/// The route itself, or one that takes its place: a unicast route to the same network.
fn holds(held: &Held, route: &Route) -> bool {
    held.routes
        .iter()
        .any(|h| h.family == route.family && h.to == route.to && h.kind == route.kind)
}

/// Whether tailscaled's own address has its route, in each family that this node has.
fn service_routes(record: Option<&Record>, held: &Held, claims: &Claims) -> bool {
    let ipv6 = held.ipv6(record);
    let families = claims.addresses.iter().map(Family::of);
    let mut wanted = families.filter(|f| *f == Family::V4 || ipv6);
    wanted.all(|f| held.has_network(host(service(f))))
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
        let wanted: Vec<Route> = match record {
            Some(record) => record
                .routes(oif)
                .filter(|r| claims.ask_for(r, &held.near))
                .filter(|r| r.family == Family::V4 || ipv6)
                .collect(),
            None if service_routes(None, held, claims) => return,
            None if claims.exit_node => {
                let text = format!("table {TABLE}, with the routes of an exit node");
                return self.beyond.push(text);
            }
            None => claims.routes(oif, ipv6),
        };
        self.routes = wanted;
        self.routes.retain(|r| !holds(held, r));
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

    pub fn is_empty(&self) -> bool {
        *self == Missing::default()
    }

    /// Whether all of it can be put back.
    pub fn mendable(&self) -> bool {
        self.beyond.is_empty()
    }

    /// A line for each kind of thing.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.beyond.clone();
        words.extend(
            self.down
                .iter()
                .map(|l| format!("the up state of {}", l.name)),
        );
        let addresses = self.addresses.iter().map(|(_, (ip, _))| ip.to_string());
        words.extend(line("address", "addresses", "", addresses.collect()));
        for family in Family::BOTH {
            let rules = self.rules.iter().filter(|r| r.family == family);
            let priorities = rules.map(|r| r.priority.to_string()).collect();
            let (one, many) = (format!("{family} rule"), format!("{family} rules"));
            words.extend(line(&one, &many, "", priorities));
            let routes = self.routes.iter().filter(|r| r.family == family);
            let networks = routes.map(|r| {
                let (ip, bits) = r.to.unwrap_or_else(|| default(family));
                format!("{ip}/{bits}")
            });
            let (one, many) = (format!("{family} route"), format!("{family} routes"));
            let table = format!(" of table {TABLE}");
            words.extend(line(&one, &many, &table, networks.collect()));
        }
        words
    }
}

/// `2 IPv4 routes of table 52 (A, B)`, or nothing for none.
fn line(one: &str, many: &str, of: &str, members: Vec<String>) -> Option<String> {
    let count = members.len();
    let named = members.iter().take(NAMED).cloned();
    let mut named = named.collect::<Vec<_>>().join(", ");
    if count > NAMED {
        named.push_str(", …");
    }
    match count {
        0 => None,
        1 => Some(format!("the {one} {named}{of}")),
        _ => Some(format!("{count} {many}{of} ({named})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::rtnetlink::PROTOCOL;

    const OIF: u32 = 7;

    fn net(text: &str) -> Prefix {
        let (ip, bits) = text.split_once('/').expect("a network");
        (ip.parse().expect("an address"), bits.parse().expect("bits"))
    }

    fn networks(list: &[&str]) -> Networks {
        list.iter().map(|n| net(n)).collect()
    }

    fn claims(peers: &[&str]) -> Claims {
        Claims {
            addresses: vec![net("100.64.0.2/32").0, net("fd7a:115c:a1e0::2/128").0],
            networks: networks(peers),
            ..Claims::default()
        }
    }

    const PEER: [&str; 2] = ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"];

    /// A healthy router: mwan3's rules, tailscaled's at `base`, table 52 with `routes`.
    fn healthy(base: u32, routes: &[&str]) -> Held {
        let mwan3 = Rule {
            mark: Some((0x100, 0x3f00)),
            protocol: 0,
            ..Rule::to_table(Family::V4, 2001, 1)
        };
        let own = Family::BOTH.into_iter().flat_map(|f| base_rules(f, base));
        let always = ["100.100.100.100/32", "fd7a:115c:a1e0::53/128"];
        let all = always.iter().chain(routes);
        Held {
            device: Some(Link {
                index: OIF,
                name: "tailscale0".into(),
                up: true,
                carrier: None,
                operstate: 0,
                bare: true,
                kind: Some("tun".into()),
            }),
            addresses: claims(&[]).addresses,
            rules: std::iter::once(mwan3).chain(own).collect(),
            routes: all.map(|to| plain(net(to), OIF)).collect(),
            near: vec![net("192.168.1.0/24")],
            ipv6_off: false,
        }
    }

    fn usual() -> Held {
        healthy(1300, &["100.64.0.1/32", "fd7a:115c:a1e0::/48"])
    }

    /// What mwan3's stop leaves; tailscaled has put its IPv4 rules back.
    fn flushed(mut held: Held) -> Held {
        held.routes.clear();
        held.rules
            .retain(|r| r.family == Family::V4 && r.priority < 2000);
        held
    }

    fn record(held: &Held) -> Record {
        Record::of(held).expect("a record")
    }

    fn to(routes: &[Route]) -> Vec<String> {
        let text = |r: &Route| {
            let (ip, bits) = r.to.unwrap_or_else(|| default(r.family));
            format!("{ip}/{bits}")
        };
        let mut list: Vec<String> = routes.iter().map(text).collect();
        list.sort();
        list
    }

    #[test]
    fn nothing_is_missing_on_a_healthy_router() {
        let with_exit = || {
            let mut held = healthy(1300, &["100.64.0.1/32", "fd7a:115c:a1e0::/48", "0.0.0.0/0"]);
            let near = Route {
                kind: RouteKind::Throw,
                oif: None,
                ..plain(net("192.168.1.0/24"), OIF)
            };
            held.routes.push(near);
            held
        };
        let exit = Claims {
            exit_node: true,
            ..claims(&PEER)
        };
        let mut no_ipv6 = usual();
        no_ipv6.rules.retain(|r| r.family == Family::V4);
        no_ipv6.routes.retain(|r| r.family == Family::V4);
        no_ipv6.addresses.retain(IpAddr::is_ipv4);
        for (held, claims) in [
            (usual(), claims(&PEER)),
            (healthy(5200, &[]), claims(&[])),
            (
                healthy(1300, &["100.64.0.0/10", "fd7a:115c:a1e0::/48"]),
                claims(&PEER),
            ),
            (with_exit(), exit),
            (no_ipv6, claims(&PEER)),
        ] {
            assert_eq!(missing(None, &held, &claims), Missing::default());
            let record = record(&held);
            assert_eq!(missing(Some(&record), &held, &claims), Missing::default());
        }
    }

    #[test]
    fn a_flushed_table_and_ipv6_rules_are_missing_just_as_they_were() {
        let before = usual();
        let missing = missing(Some(&record(&before)), &flushed(usual()), &claims(&PEER));
        assert_eq!(missing.routes, before.routes);
        let v6 = |r: &&Rule| r.family == Family::V6;
        let rules: Vec<&Rule> = before.rules.iter().filter(v6).collect();
        assert_eq!(missing.rules.iter().collect::<Vec<_>>(), rules);
        assert!(missing.mendable() && missing.addresses.is_empty());
        assert_eq!(
            missing.words(),
            [
                "2 IPv4 routes of table 52 (100.100.100.100/32, 100.64.0.1/32)",
                "4 IPv6 rules (1310, 1330, 1350, 1370)",
                "2 IPv6 routes of table 52 (fd7a:115c:a1e0::53/128, fd7a:115c:a1e0::/48)"
            ]
        );
    }

    #[test]
    fn without_a_record_the_peers_of_now_tell() {
        let claims = Claims {
            route_all: true,
            ..claims(&[
                "100.64.0.1/32",
                "fd7a:115c:a1e0::1/128",
                "10.9.0.0/16",
                "0.0.0.0/0",
            ])
        };
        let found = missing(None, &flushed(usual()), &claims);
        assert_eq!(
            to(&found.routes),
            [
                "10.9.0.0/16",
                "100.100.100.100/32",
                "100.64.0.1/32",
                "fd7a:115c:a1e0::/48",
                "fd7a:115c:a1e0::53/128"
            ]
        );
        assert_eq!(found.rules.len(), 4);
        let unasked = Claims {
            route_all: false,
            ..claims.clone()
        };
        let found = missing(None, &flushed(usual()), &unasked);
        assert!(!to(&found.routes).contains(&"10.9.0.0/16".to_string()));
        let exit = Claims {
            exit_node: true,
            ..claims
        };
        assert!(!missing(None, &flushed(usual()), &exit).mendable());
    }

    #[test]
    fn what_tailscaled_asks_for_no_more_is_not_missing() {
        let subnets = [
            "100.64.0.1/32",
            "10.9.0.0/16",
            "fd7a:115c:a1e0::/48",
            "0.0.0.0/0",
        ];
        let whole = record(&healthy(1300, &subnets));
        let bare = healthy(1300, &[]);
        let lost = |claims: &Claims| to(&missing(Some(&whole), &bare, claims).routes);
        // Every peer is gone.
        assert_eq!(lost(&claims(&[])), [""; 0]);
        let offered = ["100.64.0.1/32", "10.9.0.0/16", "0.0.0.0/0"];
        // The peer offers a subnet and an exit that this node does not take any more.
        assert_eq!(lost(&claims(&offered)), ["100.64.0.1/32"]);
        let takes = Claims {
            route_all: true,
            exit_node: true,
            ..claims(&offered)
        };
        assert_eq!(lost(&takes), ["0.0.0.0/0", "10.9.0.0/16", "100.64.0.1/32"]);
    }

    #[test]
    fn a_throw_route_is_wanted_while_its_network_is_there() {
        let throw = Route {
            kind: RouteKind::Throw,
            oif: None,
            ..plain(net("192.168.1.0/24"), OIF)
        };
        let mut held = usual();
        held.routes.push(throw.clone());
        let record = record(&held);
        let exit = Claims {
            exit_node: true,
            ..claims(&PEER)
        };
        assert_eq!(missing(Some(&record), &usual(), &exit).routes, [throw]);
        let mut moved = usual();
        moved.near.clear();
        assert!(missing(Some(&record), &moved, &exit).is_empty());
        assert!(missing(Some(&record), &usual(), &claims(&PEER)).is_empty());
    }

    #[test]
    fn an_address_and_a_device_that_is_down_are_put_back() {
        let mut held = usual();
        held.addresses.retain(IpAddr::is_ipv6);
        held.device.as_mut().expect("a device").up = false;
        let found = missing(None, &held, &claims(&PEER));
        assert_eq!(found.addresses, [(OIF, net("100.64.0.2/32"))]);
        assert!(found.down.is_some() && found.mendable());
        held.device = None;
        let found = missing(Some(&record(&usual())), &held, &claims(&PEER));
        assert!(!found.mendable());
        // Never seen, it may have another name.
        assert!(missing(None, &held, &claims(&PEER)).is_empty());
    }

    #[test]
    fn ipv6_that_was_switched_off_is_not_missing() {
        let whole = record(&usual());
        let mut held = usual();
        held.addresses.retain(IpAddr::is_ipv4);
        held.routes.retain(|r| r.family == Family::V4);
        assert!(!missing(Some(&whole), &held, &claims(&PEER)).is_empty());
        held.ipv6_off = true;
        assert!(missing(Some(&whole), &held, &claims(&PEER)).is_empty());
    }

    #[test]
    fn rules_are_known_by_place_and_deed() {
        let own = base_rules(Family::V4, 5200).collect::<Vec<_>>();
        assert_eq!(base(&own), Some(5200));
        // Somebody's own rule in tailscaled's range, and the single rule of UBNT's tailscaled.
        let narrow = Rule {
            to: Some(net("10.0.0.0/8")),
            ..Rule::to_table(Family::V4, 1370, TABLE)
        };
        let inverted = Rule {
            invert: true,
            mark: Some(MARK),
            ..Rule::to_table(Family::V4, 5270, TABLE)
        };
        for foreign in [narrow, inverted] {
            assert_eq!(base(std::slice::from_ref(&foreign)), None);
            let mut held = usual();
            held.rules = vec![foreign];
            assert!(missing(None, &held, &claims(&PEER)).is_empty());
        }
        // All of them gone, and nothing tells where they were.
        let mut held = usual();
        held.rules.retain(|r| r.priority >= 2000);
        assert!(!missing(None, &held, &claims(&PEER)).mendable());
        let found = missing(Some(&record(&usual())), &held, &claims(&PEER));
        assert_eq!((found.rules.len(), found.mendable()), (8, true));
    }

    #[test]
    fn rules_ahead_of_tailscaleds_are_those_that_can_swallow() {
        assert_eq!(ahead(&healthy(5200, &[]).rules), [0x100]);
        assert_eq!(ahead(&healthy(1300, &[]).rules), [0; 0]);
        assert!(mwan3_shows(&healthy(5200, &[]).rules));
        let mut rules = healthy(5200, &[]).rules;
        // Ours: it has tailscaled's own mark.
        rules.retain(|r| r.priority != 2001);
        rules.push(Rule {
            mark: Some(MARK),
            protocol: PROTOCOL,
            ..Rule::to_table(Family::V4, 991, 17400)
        });
        assert_eq!(ahead(&rules), [0; 0]);
        assert!(!mwan3_shows(&rules));
    }

    #[test]
    fn a_table_beyond_the_bound_is_not_remembered() {
        let mut held = usual();
        let route = held.routes.first().expect("a route").clone();
        held.routes.resize(ROUTES_KEPT + 1, route);
        assert_eq!(Record::of(&held), None);
    }

    #[test]
    fn networks_are_masked() {
        assert_eq!(network(net("192.168.1.7/24").0, 24), net("192.168.1.0/24"));
        assert_eq!(network(net("192.168.1.7/0").0, 0), net("0.0.0.0/0"));
        assert_eq!(network(net("fd00::7/64").0, 64), net("fd00::/64"));
        assert!(is_tailnet(&net("100.64.0.1/32").0) && is_tailnet(&net("fd7a:115c:a1e0::1/128").0));
        assert!(!is_tailnet(&net("100.128.0.1/32").0) && !is_tailnet(&net("fd7b::1/128").0));
    }
}
