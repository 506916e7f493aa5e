//! Healthy routers, what they lose, and what is to be put back.

use std::net::Ipv4Addr;

use super::rules::{base_rules, MARK};
use super::*;
use crate::core::prefix::network;
use crate::net::nftables;
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
        routes: table(all.map(|to| plain(net(to), OIF))),
        chains: Vec::new(),
        near: vec![net("192.168.1.0/24")],
        ipv6_off: false,
    }
}

fn table(routes: impl Iterator<Item = Route>) -> Table {
    let mut table = Table::default();
    table.extend(routes);
    table
}

fn listed(held: &Held) -> Vec<Route> {
    held.routes.through(OIF).collect()
}

fn without_ipv6(held: &mut Held) {
    let v4 = |r: &Route| r.family == Family::V4;
    held.routes = table(listed(held).into_iter().filter(v4));
}

fn usual() -> Held {
    healthy(1300, &["100.64.0.1/32", "fd7a:115c:a1e0::/48"])
}

/// What mwan3's stop leaves; tailscaled has put its IPv4 rules back.
fn flushed(mut held: Held) -> Held {
    held.routes = Table::default();
    held.rules
        .retain(|r| r.family == Family::V4 && r.priority < 2000);
    held
}

fn record(held: &Held) -> Record {
    Record::of(held).expect("a record")
}

fn to(routes: &[Route]) -> Vec<String> {
    let text = |r: &Route| {
        let (ip, bits) = target(r);
        format!("{ip}/{bits}")
    };
    let mut list: Vec<String> = routes.iter().map(text).collect();
    list.sort();
    list
}

#[test]
fn a_table_gives_back_what_was_put_into_it() {
    let throw = Route {
        kind: RouteKind::Throw,
        oif: None,
        ..plain(net("192.168.1.0/24"), OIF)
    };
    let elsewhere = plain(net("100.64.0.9/32"), OIF + 1);
    let nets = [
        "100.64.0.7/32",
        "0.0.0.0/0",
        "fd7a:115c:a1e0::/48",
        "100.64.0.1/32",
    ];
    let mut routes: Vec<Route> = nets.iter().map(|to| plain(net(to), OIF)).collect();
    routes.extend([throw.clone(), elsewhere.clone()]);
    let table = table(routes.iter().cloned());
    assert_eq!((table.device(), table.sizes()), (Some(OIF), (4, 2)));
    let mut back: Vec<Route> = table.through(OIF).collect();
    let order = |r: &Route| (target(r), r.oif);
    back.sort_by_key(order);
    routes.sort_by_key(order);
    assert_eq!(back, routes);
    assert!(table.has(net("0.0.0.0/0"), RouteKind::Unicast));
    assert!(table.has(target(&elsewhere), RouteKind::Unicast));
    assert!(table.has(target(&throw), RouteKind::Throw));
    assert!(!table.has(target(&throw), RouteKind::Unicast));
    assert!(!table.has(net("100.64.0.2/32"), RouteKind::Unicast));
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
        held.routes.extend([near]);
        held
    };
    let exit = Claims {
        exit_node: true,
        ..claims(&PEER)
    };
    let mut no_ipv6 = usual();
    no_ipv6.rules.retain(|r| r.family == Family::V4);
    without_ipv6(&mut no_ipv6);
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
    assert_eq!(missing.routes, listed(&before));
    let v6 = |r: &&Rule| r.family == Family::V6;
    let rules: Vec<&Rule> = before.rules.iter().filter(v6).collect();
    assert_eq!(missing.rules.iter().collect::<Vec<_>>(), rules);
    assert!(missing.mendable() && missing.addresses.is_empty());
    assert_eq!(
        missing.words(),
        [
            "2 IPv4 routes of table 52 (100.64.0.1/32, 100.100.100.100/32)",
            "4 IPv6 rules (1310, 1330, 1350, 1370)",
            "2 IPv6 routes of table 52 (fd7a:115c:a1e0::/48, fd7a:115c:a1e0::53/128)"
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
    held.routes.extend([throw.clone()]);
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
fn networks_that_make_up_a_larger_one_have_one_throw_route() {
    let throw = |to: &str| Route {
        kind: RouteKind::Throw,
        oif: None,
        ..plain(net(to), OIF)
    };
    let exit = Claims {
        exit_node: true,
        ..claims(&PEER)
    };
    let lost = |was: &str, near: &[&str]| {
        let mut before = usual();
        before.routes.extend([throw(was)]);
        let mut now = usual();
        now.near = near.iter().map(|text| net(text)).collect();
        to(&missing(Some(&record(&before)), &now, &exit).routes)
    };
    let twins = ["192.0.2.64/26", "192.0.2.0/26"];
    assert_eq!(lost("192.0.2.0/25", &twins), ["192.0.2.0/25"]);
    assert_eq!(lost("192.0.2.0/25", &twins[..1]), [""; 0], "one has gone");
    assert_eq!(lost("192.0.2.0/26", &twins), [""; 0], "one has come");
    let nested = ["192.168.1.0/24", "192.168.0.0/16"];
    assert_eq!(lost("192.168.0.0/16", &nested), ["192.168.0.0/16"]);
    assert_eq!(lost("192.168.1.0/24", &nested), [""; 0]);
    let v6 = ["2001:db8::/65", "2001:db8:0:0:8000::/65", "::1/128"];
    assert_eq!(lost("2001:db8::/64", &v6), ["2001:db8::/64"]);
    // An address alone, as with PPPoE, is no network.
    let alone = ["192.0.2.4/31", "192.0.2.6/32", "192.0.2.7/32"];
    assert_eq!(lost("192.0.2.4/30", &alone), [""; 0]);
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
    without_ipv6(&mut held);
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
fn rules_at_the_wrong_place_get_companions_where_a_new_start_would_put_them() {
    let behind = healthy(5200, &["100.64.0.1/32"]);
    let found = misplaced(&behind, "eth1");
    assert!(found.mendable() && found.routes.is_empty());
    let expected: Vec<Rule> = Family::BOTH
        .into_iter()
        .flat_map(|f| base_rules(f, 1300))
        .collect();
    assert_eq!(found.rules, expected);
    let words = found.words();
    assert!(
        words.len() == 1
            && words
                .iter()
                .all(|w| w.contains("5200") && w.contains("eth1"))
    );
    // They count from then on, and come back when mwan3's stop has taken them.
    let mut both = behind.clone();
    both.rules.extend(expected.clone());
    assert_eq!(base(&both.rules), Some(1300));
    let record = record(&both);
    let flushed = missing(Some(&record), &behind, &claims(&PEER));
    assert_eq!(flushed.rules, expected);
    // A node without IPv6 gets none of it.
    let mut v4 = behind;
    v4.rules.retain(|r| r.family == Family::V4);
    without_ipv6(&mut v4);
    v4.addresses.retain(IpAddr::is_ipv4);
    let found = misplaced(&v4, "eth1").rules;
    assert!(found.len() == 4 && found.iter().all(|r| r.family == Family::V4));
}

#[test]
fn a_table_beyond_the_bound_is_not_remembered() {
    let mut held = usual();
    let hosts = (0..=ROUTES_KEPT as u32).map(|n| Ipv4Addr::from(0x6440_0000 + n));
    held.routes
        .extend(hosts.map(|ip| plain(host(ip.into()), OIF)));
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

/// nf_tables of one family as tailscaled makes it, and what iptables adds.
fn firewall() -> (Vec<nftables::Chain>, Vec<nftables::Rule>) {
    let places = [
        ("filter", "INPUT", "ts-input"),
        ("filter", "FORWARD", "ts-forward"),
        ("nat", "POSTROUTING", "ts-postrouting"),
    ];
    let (mut chains, mut rules) = (Vec::new(), Vec::new());
    for (table, from, name) in places {
        chains.extend([from, name].map(|name| nftables::Chain {
            table: table.into(),
            name: name.into(),
        }));
        rules.extend(
            [(name, None), (from, Some(name)), (from, None)].map(|(chain, jump)| nftables::Rule {
                table: table.into(),
                chain: chain.into(),
                jump: jump.map(Into::into),
            }),
        );
    }
    (chains, rules)
}

/// A healthy router, but for what `spoil` does to nf_tables in both families.
fn with_firewall(spoil: impl Fn(&mut Vec<nftables::Chain>, &mut Vec<nftables::Rule>)) -> Held {
    let mut held = usual();
    for family in Family::BOTH {
        let (mut all, mut rules) = firewall();
        spoil(&mut all, &mut rules);
        held.chains.extend(chains(family, &all, &rules));
    }
    held
}

fn filtering(mode: u64) -> Claims {
    Claims {
        netfilter_mode: mode,
        ..claims(&PEER)
    }
}

#[test]
fn firewall_chains_are_missing_when_they_were_there_before() {
    let whole = with_firewall(|_, _| ());
    assert_eq!(whole.chains.len(), 6);
    let record = record(&whole);
    assert!(missing(Some(&record), &whole, &filtering(2)).is_empty());
    // `nft delete table ip filter`.
    let mut held = whole.clone();
    let of_table = |c: &Chain| c.to_string().ends_with("of ip filter");
    held.chains.retain(|c| !of_table(c));
    let found = missing(Some(&record), &held, &filtering(2));
    assert_eq!(
        found.words(),
        ["2 firewall chains (ts-input of ip filter, ts-forward of ip filter)"]
    );
    assert!(!found.mendable());
    // Never seen, the firewall may be another one; wanted no more, it is no loss.
    assert!(missing(None, &held, &filtering(2)).is_empty());
    assert!(missing(Some(&record), &held, &filtering(0)).is_empty());
}

#[test]
fn an_emptied_chain_and_a_jump_are_missing_as_far_as_they_are_wanted() {
    let record = record(&with_firewall(|_, _| ()));
    let emptied = with_firewall(|_, rules| rules.retain(|r| r.chain != "ts-postrouting"));
    let words = |held: &Held, claims: &Claims| missing(Some(&record), held, claims).words();
    assert_eq!(
        words(&emptied, &filtering(2)),
        ["2 firewall chains' contents (ts-postrouting of ip nat, ts-postrouting of ip6 nat)"]
    );
    let no_snat = Claims {
        no_snat: true,
        ..filtering(2)
    };
    assert_eq!(words(&emptied, &no_snat), [""; 0]);
    let unjoined = with_firewall(|_, rules| {
        let jumps = |r: &nftables::Rule| r.jump.as_deref() == Some("ts-forward");
        rules.retain(|r| !jumps(r));
    });
    assert_eq!(
        words(&unjoined, &filtering(2)),
        [
            "2 jumps of the firewall (FORWARD to ts-forward of ip filter, \
          FORWARD to ts-forward of ip6 filter)"
        ]
    );
    assert_eq!(words(&unjoined, &filtering(1)), [""; 0], "nodivert");
}

#[test]
fn what_can_be_put_back_does_not_wait_for_the_chains() {
    let record = record(&with_firewall(|_, _| ()));
    let found = missing(Some(&record), &flushed(usual()), &filtering(2));
    assert!(found.mendable());
    assert_eq!(found.words().len(), 4);
    let rest = found.but_chains();
    assert_eq!((rest.words().len(), rest.mendable()), (3, true));
    let only_chains = missing(Some(&record), &usual(), &filtering(2));
    assert!(!only_chains.mendable());
    let nothing = Missing::default();
    assert!(nothing.mendable(), "it is put back by nobody's doing");
}

#[test]
fn chains_of_others_are_nobodys_here() {
    let of = |table: &str, chain: Option<&str>| nftables::Deleted::Of {
        table: table.into(),
        chain: chain.map(Into::into),
    };
    for theirs in [
        of("fw4", None),
        of("filter", Some("input")),
        of("nat", Some("ts-input")),
        of("mangle", Some("POSTROUTING")),
    ] {
        assert!(!concerns(&theirs), "{theirs:?}");
    }
    for ours in [
        of("filter", None),
        of("filter", Some("ts-forward")),
        of("nat", Some("POSTROUTING")),
        nftables::Deleted::Overrun,
    ] {
        assert!(concerns(&ours), "{ours:?}");
    }
    let (mut all, rules) = firewall();
    all.retain(|c| !c.name.starts_with("ts-"));
    assert_eq!(tables(&all), [""; 0]);
    assert_eq!(chains(Family::V4, &all, &rules), []);
}
